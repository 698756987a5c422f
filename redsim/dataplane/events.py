"""The event queue: a FIFO for arrivals and client steps pushed in time order (nearly all events), a binary heap for
the rest, such as alarms and planned changes, which lie far ahead. Ties go by push order."""

import numpy as np

from redsim.dataplane.compile import compiled, inlined
from redsim.dataplane.layout import *

NEVER = np.int64(2**62)


@inlined
def push(w: World, t, what, arg):
    """Event `what` with argument `arg` at time `t` >= now."""
    st, fifo = w.st, w.fifo
    mask = fifo.shape[0] - 1
    seq = st[SEQ]
    st[SEQ] = seq + 1
    if t < st[DUE]:
        st[DUE] = t
    n = st[FIFO_N]
    head = st[FIFO_HEAD]
    is_near = what in (EV_ARRIVE, EV_THREAD, EV_ISSUE)
    if is_near and n <= mask and (n == 0 or t >= fifo[(head + n - 1) & mask, 0]):
        row = (head + n) & mask
        fifo[row, 0] = t
        fifo[row, 1] = seq
        fifo[row, 2] = what
        fifo[row, 3] = arg
        st[FIFO_N] = n + 1
    else:
        _heap_push(w, t, seq, what, arg)


@compiled
def _heap_push(w: World, t, seq, what, arg):
    heap = w.heap
    i = w.st[HEAP_N]
    w.st[HEAP_N] = i + 1
    while i > 0:
        parent = (i - 1) >> 1
        if heap[parent, 0] < t or (heap[parent, 0] == t and heap[parent, 1] < seq):
            break
        for k in range(4):
            heap[i, k] = heap[parent, k]
        i = parent
    heap[i, 0] = t
    heap[i, 1] = seq
    heap[i, 2] = what
    heap[i, 3] = arg


@inlined
def next_time(w: World):
    """Time of the earliest event, NEVER if there is none."""
    st = w.st
    t = NEVER
    if st[FIFO_N] > 0:
        t = w.fifo[st[FIFO_HEAD], 0]
    if st[HEAP_N] > 0 and w.heap[0, 0] < t:
        t = w.heap[0, 0]
    return t


@inlined
def pop(w: World):
    """(what, argument) of the earliest event; there must be one."""
    st, fifo = w.st, w.fifo
    if st[FIFO_N] > 0:
        row = st[FIFO_HEAD]
        first = st[HEAP_N] == 0
        if not first:
            t = w.heap[0, 0]
            first = fifo[row, 0] < t or (fifo[row, 0] == t and fifo[row, 1] < w.heap[0, 1])
        if first:
            st[FIFO_HEAD] = (row + 1) & (fifo.shape[0] - 1)
            st[FIFO_N] -= 1
            return fifo[row, 2], fifo[row, 3]
    return _heap_pop(w)


@compiled
def _heap_pop(w: World):
    heap = w.heap
    what, arg = heap[0, 2], heap[0, 3]
    n = w.st[HEAP_N] - 1
    w.st[HEAP_N] = n
    t, seq = heap[n, 0], heap[n, 1]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        right = child + 1
        if right < n and (
            heap[right, 0] < heap[child, 0] or (heap[right, 0] == heap[child, 0] and heap[right, 1] < heap[child, 1])
        ):
            child = right
        if t < heap[child, 0] or (t == heap[child, 0] and seq < heap[child, 1]):
            break
        for k in range(4):
            heap[i, k] = heap[child, k]
        i = child
    if i != n:
        for k in range(4):
            heap[i, k] = heap[n, k]
    return what, arg
