"""Who held the main thread, for how long: the clock, the causes, the stalls, SLOWLOG, the recording of the worst stall.

`held[cause]` grows with the clock, so that busy + idle = elapsed is a sum anybody can check. A request takes a copy of `held`
as of its arrival (an epoch); what `held` grew by until its answer left is what it waited for, cause by cause, exactly.
"""

from redsim.dataplane.compile import compiled, inlined
from redsim.dataplane.draws import draw_size, exponential
from redsim.dataplane.layout import *


@inlined
def charge(w: World, cause, ns):
    """The main thread works `ns` more for `cause`."""
    st = w.st
    st[NOW] += ns
    w.held[cause] += ns
    log_activity(w, cause)


@inlined
def log_activity(w: World, cause):
    """What the main thread did until now was `cause` (NONE: it slept). Only an entry that no arrival has passed grows."""
    st, log = w.st, w.log
    n = st[LOG_N]
    if (n > st[LOG_POS] and log[n - 1, 1] == cause) or n == LOG_SIZE:
        log[n - 1, 0] = st[NOW]
    else:
        log[n, 0] = st[NOW]
        log[n, 1] = cause
        st[LOG_N] = n + 1


@compiled
def idle_until(w: World, t):
    """The main thread sleeps until `t` >= now."""
    st = w.st
    ns = t - st[NOW]
    if ns <= 0:
        return
    st[NOW] = t
    st[IDLE] += ns
    log_activity(w, NONE)


@inlined
def held_at(w: World, a, r):
    """Request `r` refers to `held` as of its arrival `a`: an epoch (held where the activity began) and the part of
    that activity that had passed. The pointer only moves forward."""
    st, log, heldp, req = w.st, w.log, w.heldp, w.req
    i, t = st[LOG_POS], st[LOG_T]
    n = st[LOG_N]
    if i < n and log[i, 0] <= a:
        while i < n and log[i, 0] <= a:
            if log[i, 1] >= 0:
                heldp[log[i, 1]] += log[i, 0] - t
            t = log[i, 0]
            i += 1
        st[LOG_POS] = i
        st[LOG_T] = t
        leave_epoch(w)
    e = st[EPOCH]
    if e == NONE:
        e = take_epoch(w)
        st[EPOCH] = e
        for k in range(WAKE, heldp.shape[0]):
            w.snap[e, k] = heldp[k]
    w.erefs[e] += 1
    req[r, R_EPOCH] = e
    if i < n and log[i, 1] >= 0 and a > t:
        req[r, R_ECAUSE] = log[i, 1]
        req[r, R_EOFFSET] = a - t
    else:
        req[r, R_ECAUSE] = WAKE
        req[r, R_EOFFSET] = 0


@inlined
def take_epoch(w: World):
    """A free epoch with one reference; there are twice as many as requests."""
    e = w.st[EPOCH_FREE]
    w.st[EPOCH_FREE] = w.erefs[e]
    w.erefs[e] = 1
    return e


@inlined
def release_epoch(w: World, e):
    """One reference less; a row without any is free."""
    w.erefs[e] -= 1
    if w.erefs[e] == 0:
        w.erefs[e] = w.st[EPOCH_FREE]
        w.st[EPOCH_FREE] = e


@inlined
def leave_epoch(w: World):
    """The pointer has moved: the next arrival begins an epoch."""
    if w.st[EPOCH] != NONE:
        release_epoch(w, w.st[EPOCH])
        w.st[EPOCH] = NONE


@compiled
def forget_log(w: World):
    """All arrivals up to now are admitted: the pointer jumps to now. Only when the log is long: nothing depends on it."""
    st = w.st
    if st[LOG_N] < LOG_SIZE // 2:
        return
    for k in range(WAKE, w.held.shape[0]):
        w.heldp[k] = w.held[k]
    st[LOG_N] = 0
    st[LOG_POS] = 0
    st[LOG_T] = st[NOW]
    leave_epoch(w)


@compiled
def hiccups(w: World):
    """The host took the CPU away while the loop was busy: everything after is later by that much."""
    st = w.st
    stream = w.group.shape[0] * RNG_PER_GROUP
    while st[NEXT_HICCUP] <= st[NOW]:
        ns = draw_size(w.rng, stream + 1, w.tab, w.dist, w.cost[HICCUP_DIST])
        start = st[NOW]
        charge(w, HICCUP, ns)
        st[HICCUPS] += 1
        st[NEXT_HICCUP] += ns + 1 + int(exponential(w.rng, stream) * w.cost[HICCUP_MEAN_NS])
        if ns >= w.cost[STALL_NS]:
            stall(w, HICCUP, start, NONE, NONE)


@compiled
def idle_hiccups(w: World):
    """Hiccups that began while the loop slept: only what is left of them at the wake-up hurts."""
    st = w.st
    stream = w.group.shape[0] * RNG_PER_GROUP
    woken = st[NOW]
    while st[NEXT_HICCUP] <= woken:
        ns = draw_size(w.rng, stream + 1, w.tab, w.dist, w.cost[HICCUP_DIST])
        start = st[NOW]
        left = st[NEXT_HICCUP] + ns - start
        st[HICCUPS] += 1
        st[NEXT_HICCUP] += ns + 1 + int(exponential(w.rng, stream) * w.cost[HICCUP_MEAN_NS])
        if left > 0:
            charge(w, HICCUP, left)
            if left >= w.cost[STALL_NS]:
                stall(w, HICCUP, start, NONE, NONE)


@compiled
def stall(w: World, cause, start, kind, key):
    """The loop was held from `start` to now: one row in the ledger; the worst so far starts the recording."""
    st = w.st
    ns = st[NOW] - start
    n = st[STALLS]
    st[STALLS] = n + 1
    if n < STALLS_MAX:
        row = w.stalls[n]
        row[0], row[1], row[2], row[3], row[4], row[5] = start, ns, cause, kind, NONE, key
        st[STALL_ROW] = n
    total = w.stallsum[cause]
    total[0] += 1
    total[1] += ns
    total[2] = max(total[2], ns)
    if ns > st[REC_WORST]:
        st[REC_WORST] = ns
        st[REC_FROM], st[REC_TO], st[REC_CAUSE], st[REC_KIND] = start, st[NOW], cause, kind
        st[REC_ON] = 1
        st[REC_UNTIL] = st[NOW] + max(ns // 2, 2_000_000)
        st[SEGS], st[RECS], st[SEGS_LOST] = 0, 0, 0
        if start > st[ITER_T0]:
            segment(w, POLL, st[ITER_T0], start, NONE)
        segment(w, cause, start, st[NOW], NONE)


@compiled
def segment(w: World, cause, start, end, conn):
    """Remember what the main thread did around the worst stall."""
    st = w.st
    n = st[SEGS]
    if start >= st[REC_UNTIL]:
        st[REC_ON] = 0
    elif n < SEGS_MAX:
        row = w.segs[n]
        row[0], row[1], row[2], row[3] = start, end, cause, conn
        st[SEGS] = n + 1
    else:
        st[SEGS_LOST] += 1


@compiled
def record_request(w: World, r, done):
    """Remember a request that waited around the worst stall."""
    st, req = w.st, w.req
    n = st[RECS]
    if n < RECS_MAX and req[r, R_ARRIVE] < st[REC_UNTIL]:
        row = w.recs[n]
        row[0], row[1], row[2], row[3] = req[r, R_ARRIVE], done, req[r, R_KIND], req[r, R_SLOT]
        st[RECS] = n + 1


@compiled
def slowlog_push(w: World, r, start, ns):
    """slowlog.c:slowlogPushEntryIfNeeded: newest kept, oldest overwritten."""
    st, req = w.st, w.req
    if w.cost[SLOW_MAX] <= 0:
        return
    row = w.slow[st[SLOW_ID] % w.cost[SLOW_MAX]]
    row[0], row[1], row[2] = st[SLOW_ID], start, ns
    row[3], row[4], row[5] = req[r, R_KIND], req[r, R_KEY], req[r, R_SLOT]
    st[SLOW_ID] += 1

