"""Who held the main thread, for how long: the clock, the causes, the stalls, SLOWLOG, the recording of the worst stall.

`held[cause]` grows with the clock, so that busy + idle = elapsed is a sum anybody can check. A request takes a copy of `held`
as of its arrival; what `held` grew by until its answer left is what it waited for, cause by cause, exactly. Arrivals are admitted
after the activity they fall into: if something is due before its end, the activity is logged, so that `held` can be told as of
any moment since.
"""

import numpy as np

from redsim.dataplane.compile import compiled, copy_causes, inlined
from redsim.dataplane.draws import draw_size, exponential
from redsim.dataplane.histogram import bit_length
from redsim.dataplane.layout import *

MSS_BYTES = 1448  # 1,500 of an Ethernet frame less 52 of IP and TCP with timestamps
FRAME_EXTRA_BYTES = 90  # those 52, and Ethernet's preamble, header, checksum and gap


@inlined
def bytes_ns(count, ps):
    """ns of `count` >= 0 bytes at `ps` >= 0 each. Unsigned, because a signed division is three times as long."""
    return np.int64(np.uint64(count * ps) // np.uint64(1000))


@inlined
def frame_bytes(size):
    """What `size` >= 1 bytes of payload take on an Ethernet line: 90 more for each 1,448."""
    return size + FRAME_EXTRA_BYTES * (1 + (size - 1) // MSS_BYTES)


@compiled
def curve_ns(curve, c, n):
    """Total ns of curve `c` at `n` elements: linear between powers of two; 0 without a curve or elements."""
    if c < 0 or n <= 0:
        return 0
    i = bit_length(n) - 1
    low = curve[c, i]
    return low + (curve[c, i + 1] - low) * (n - (1 << i)) // (1 << i)


@inlined
def charge(w: World, cause, ns):
    """The main thread works `ns` more for `cause`."""
    pass_time(w, cause, ns)
    w.held[cause] += ns


@inlined
def pass_time(w: World, cause, ns):
    """The clock's part of charge()."""
    st = w.st
    now = st[NOW] + ns
    if st[DUE] < now:
        log_activity(w, cause, now)
    st[NOW] = now


@inlined
def serve(w: World, r, cause, ns):
    """`ns` charged to `cause` are request `r`'s own service: it does not wait for them."""
    w.snap[r, cause] += ns
    w.req[r, R_OWN] += ns


@inlined
def log_activity(w: World, cause, end):
    """What the main thread does from now until `end` is `cause`. Only an entry that no arrival has passed grows."""
    st, log = w.st, w.log
    n = st[LOG_N]
    if n == 0:
        copy_causes(w, w.heldp, w.held)
        st[LOG_POS] = 0
        st[LOG_T] = st[NOW]
    if (n > st[LOG_POS] and log[n - 1, 1] == cause) or n == LOG_SIZE:
        log[n - 1, 0] = end
    else:
        log[n, 0] = end
        log[n, 1] = cause
        st[LOG_N] = n + 1


@inlined
def idle_until(w: World, t):
    """The main thread sleeps until `t` >= now; nothing arrives before."""
    st = w.st
    ns = t - st[NOW]
    if ns <= 0:
        return
    st[NOW] = t
    st[IDLE] += ns


@inlined
def held_at(w: World, a, r):
    """Request `r` keeps `held` as of its arrival `a`. The pointer into the log only moves forward."""
    st, log, heldp, snap = w.st, w.log, w.heldp, w.snap
    n = st[LOG_N]
    if n == 0:
        copy_causes(w, snap[r], w.held)
        return
    i, t = st[LOG_POS], st[LOG_T]
    while i < n and log[i, 0] <= a:
        heldp[log[i, 1]] += log[i, 0] - t
        t = log[i, 0]
        i += 1
    st[LOG_POS] = i
    st[LOG_T] = t
    copy_causes(w, snap[r], heldp)
    if i < n and a > t:
        snap[r, log[i, 1]] += a - t


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
def skip_hiccups(w: World):
    """Hiccups that began while there was no process to feel them."""
    st, stream = w.st, w.group.shape[0] * RNG_PER_GROUP
    while st[NEXT_HICCUP] <= st[NOW]:
        ns = draw_size(w.rng, stream + 1, w.tab, w.dist, w.cost[HICCUP_DIST])
        st[NEXT_HICCUP] += ns + 1 + int(exponential(w.rng, stream) * w.cost[HICCUP_MEAN_NS])


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
        if st[STALL_ROW] == NONE:
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
def note_hold(w: World, cause, start):
    """What has held the loop for `cause` since `start` goes into the ledger, if it was long enough, and into the recording."""
    if w.st[NOW] - start >= w.cost[STALL_NS]:
        stall(w, cause, start, NONE, NONE)
    if w.st[REC_ON]:
        segment(w, cause, start, w.st[NOW], NONE)


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
