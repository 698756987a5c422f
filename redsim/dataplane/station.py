"""The lists of a client machine's event loop: which of its sockets are readable or writable from when, and when it wakes.

Mirrors an epoll loop as a client library or redis-benchmark has it; what a step of it does is in clients.py.
"""

from redsim.dataplane.compile import compiled
from redsim.dataplane.events import push
from redsim.dataplane.layout import *


@compiled
def enqueue(w: World, th, s, t, is_in, after, when, head, tail):
    """Slot `s` is readable (or writable) for client thread `th` from `t` on: into its list, in the order of time; wake the
    thread unless it will be up before."""
    slot, thread = w.slot, w.thread
    slot[s, is_in] = 1
    slot[s, after] = NONE
    slot[s, when] = t
    last = thread[th, tail]
    if last == NONE or slot[last, when] <= t:
        if last == NONE:
            thread[th, head] = s
        else:
            slot[last, after] = s
        thread[th, tail] = s
    else:
        before, later = NONE, thread[th, head]
        while slot[later, when] <= t:
            before, later = later, slot[later, after]
        slot[s, after] = later
        if before == NONE:
            thread[th, head] = s
        else:
            slot[before, after] = s
    wakes = max(t, thread[th, T_FREE])
    if not thread[th, T_SCHEDULED] or wakes < thread[th, T_AT]:
        thread[th, T_ASLEEP] = 1 if t > thread[th, T_FREE] else 0
        plan_step(w, th, wakes)


@compiled
def plan_step(w: World, th, t):
    """The client thread's next step is at `t`; a later one planned before is off."""
    w.thread[th, T_SCHEDULED] = 1
    w.thread[th, T_AT] = t
    push(w, t, EV_THREAD, th)


@compiled
def ready_in_batch(w: World, th, t):
    """How many sockets one poll of the client thread at `t` returns."""
    slot, thread = w.slot, w.thread
    n = 0
    s = thread[th, T_RHEAD]
    while s != NONE and slot[s, S_RQ_T] <= t:
        n += 1
        s = slot[s, S_RQ_NEXT]
    s = thread[th, T_WHEAD]
    while s != NONE and slot[s, S_WQ_T] <= t:
        n += 1
        s = slot[s, S_WQ_NEXT]
    return n
