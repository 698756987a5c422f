"""Clients that follow a service from one server to the next: what goes with them.

Mirrors a client library with one connection pool, as redis-py's SentinelConnectionPool: when its master is another one all
connections are closed, what was on its way has failed, and is sent again, if at all, to the new one.

    catch_up(w, t)             everything the clients do up to `t`, even while the loop is in the middle of something longer
    leave(w, g, t, out)        group `g` leaves: its pending retries and next requests as rows of `out`; how many
    come(w, g, t, rows, n)     it goes on here, not before `t`, which the server's clock has not passed

Differs: who wonders where the master is, does so for all connections of the group. They come to a server when its clock is not
ahead of the others' (run/lockstep.py): until then they stay where they were.
"""

from redsim.dataplane.clients import admit_due, hang_up, plan_groups
from redsim.dataplane.compile import compiled, entry
from redsim.dataplane.events import _heap_push, push
from redsim.dataplane.layout import *
from redsim.dataplane.requests import count_offered, give_row, take_row

# a row of what goes along: when, what (EV_RETRY, EV_ISSUE), slot and kind within the group, then the request
(L_AT, L_WHAT, L_SLOT, L_KIND, L_KEY, L_ARG, L_BYTES, L_INTENDED, L_BEGIN, L_ATTEMPT) = range(10)
L_SIZE = 10


@entry
def catch_up(w: World, t):
    """The clients do what they do up to `t`. False: rows ran out; grow and call again."""
    st = w.st
    now = st[NOW]
    if st[DUE] > min(t, now):
        return True
    logged, row = st[LOG_N], st[STALL_ROW]
    st[NOW], st[STALL_ROW] = min(t, now), NONE
    is_done = admit_due(w)
    st[NOW], st[STALL_ROW], st[LOG_N] = now, row, logged
    return is_done


@compiled
def belongs(w: World, what, arg, g):
    """Whether an event is of a group's that goes along with it."""
    if what == EV_RETRY:
        return w.slot[w.req[arg, R_SLOT], S_GROUP] == g
    return what == EV_ISSUE and w.slot[arg, S_GROUP] == g


@compiled
def take_along(w: World, g, at, what, arg, row):
    """The event as a row; a request that waits to be sent again is this server's no more."""
    group = w.group
    row[L_AT], row[L_WHAT] = at, what
    if what == EV_ISSUE:
        row[L_SLOT] = arg - group[g, G_SLOT0]
        return
    req = w.req[arg]
    row[L_SLOT], row[L_KIND] = req[R_SLOT] - group[g, G_SLOT0], req[R_KIND] - group[g, G_KIND0]
    row[L_KEY], row[L_ARG], row[L_BYTES] = req[R_KEY], req[R_ARG], req[R_BYTES]
    row[L_INTENDED], row[L_BEGIN], row[L_ATTEMPT] = req[R_INTENDED], req[R_BEGIN], req[R_ATTEMPT]
    w.slot[req[R_SLOT], S_OUT] -= 1
    count_offered(w, g, req[R_INTENDED], -1)
    give_row(w, arg)


@entry
def leave(w: World, g, t, out):
    """Group `g` leaves this server at `t`."""
    st, group, slot, heap, fifo = w.st, w.group, w.slot, w.heap, w.fifo
    for s in range(group[g, G_SLOT0], group[g, G_SLOT0] + group[g, G_SLOTS]):
        if slot[s, S_STATE] != DOWN or slot[s, S_HEAD] != NONE:
            hang_up(w, s, t)
    n, events = 0, st[HEAP_N]
    st[HEAP_N] = 0
    for i in range(events):
        at, seq, what, arg = heap[i, 0], heap[i, 1], heap[i, 2], heap[i, 3]
        if belongs(w, what, arg, g):
            take_along(w, g, at, what, arg, out[n])
            n += 1
        else:
            _heap_push(w, at, seq, what, arg)
    mask = fifo.shape[0] - 1
    for i in range(st[FIFO_N]):
        event = fifo[(st[FIFO_HEAD] + i) & mask]
        if belongs(w, event[2], event[3], g):
            take_along(w, g, event[0], event[2], event[3], out[n])
            event[2] = EV_NOTHING
            n += 1
    group[g, G_AWAY], group[g, G_WONDERS], group[g, G_NEXT_NS] = 1, 0, NEVER_NS
    plan_groups(w)
    return n


@entry
def come(w: World, g, t, rows, n):
    """Group `g` has its clients here from `t` on; they send again what is in the first `n` of `rows`."""
    group = w.group
    group[g, G_AWAY], group[g, G_DRAWN] = 0, (g + 1) * AHEAD
    if group[g, G_NEXT_NS] < t:
        group[g, G_NEXT_NS] = t
        group[g, G_NEXT_PS] = (t - group[g, G_SHIFT]) * 1000
    for i in range(n):
        row = rows[i]
        s, at = group[g, G_SLOT0] + row[L_SLOT], max(row[L_AT], t)
        if row[L_WHAT] == EV_ISSUE:
            push(w, at, EV_ISSUE, s)
            continue
        r = take_row(w)
        req = w.req[r]
        req[R_SLOT], req[R_KIND] = s, group[g, G_KIND0] + row[L_KIND]
        req[R_KEY], req[R_ARG], req[R_BYTES] = row[L_KEY], row[L_ARG], row[L_BYTES]
        req[R_INTENDED], req[R_BEGIN], req[R_ATTEMPT] = row[L_INTENDED], row[L_BEGIN], row[L_ATTEMPT]
        req[R_FLAGS] = Z_LIVE | Z_QUEUED
        req[R_OWN] = req[R_WAITS] = 0
        req[R_NEXT] = req[R_CONN] = NONE
        w.slot[s, S_OUT] += 1
        count_offered(w, g, req[R_INTENDED], 1)
        push(w, at, EV_RETRY, r)
    plan_groups(w)
    w.st[DUE] = min(w.st[DUE], w.st[GROUP_DUE])
