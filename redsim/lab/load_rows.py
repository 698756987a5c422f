"""The load generator's requests: rows in chains, timers, think times, time-outs and retries. Compiled, no sockets here.

A request is a row; the rows of a connection form a chain in the order they are written: HEAD (oldest unanswered), UNSENT (first
not yet written), TAIL. Times are ns from the run's start (BASE, CLOCK_MONOTONIC).
Mirrors the clients of the simulator: open and closed groups, pipelines, think time, time-outs that reconnect or abandon, retries
with a doubling backoff, cache-aside groups.
Differs: an abandoned request that is not yet written is written all the same.
Not modelled: clients that share a limit of connections.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit, types

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

clock_gettime = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.uintp))

part = njit(_nrt=False, nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)  # called by compiled code only

NONE = -1

# st: scalars
EPFD, BASE, OPEN_N, NEXT_OPEN, ROWS, HEAP_N, TOUCHED_N, LIVE, ISSUES, DEADLINE, SPIN, TURN, RNG, FULL = range(14)
UNEXPECTED, RECONNECTS, FAMILY, ADDR_LEN, ST_SIZE = range(14, 19)
# rec: a request, or one attempt of it
INTENDED, SENT, DONE, TEMPLATE, CONN, NEXT, BEGIN, STATE, REC_SIZE = range(9)
ERROR, DEAD, AGAIN, TRY = 1, 2, 4, 8  # error reply; given up; a retry took its place; TRY counts attempts from here up
# con: a connection
FD, GROUP, HEAD, UNSENT, TAIL, ALIVE, PARTIAL, LINK, WANTS_OUT, TOUCHED, OUT, TIMER, BORN, CON_SIZE = range(14)
DOWN, CONNECTING, UP = range(3)
# grp: a group
IS_CLOSED, PIPELINE, THINK, THINK_EXP, TIMEOUT, RECONNECT, RETRIES, BACKOFF, CAP, JITTER, STOP, POOL0, POOL_N, POOL_I = range(14)
ALLOWED, TIMEOUTS, LOST, RETRIED, FETCH, FETCH_EXP, GRP_SIZE = range(14, 21)  # ALLOWED: still to send if closed, -1: any number
# heap: (time, what, argument)
ISSUE, RETRY, ALARM = range(3)


class Gen(NamedTuple):
    """Everything the loop works on."""

    st: Ints
    rec: Ints  # (rows, REC_SIZE)
    con: Ints  # (connections, CON_SIZE)
    par: Ints  # (connections, SCANNER_SIZE), each connection's reply scanner
    grp: Ints  # (groups, GRP_SIZE)
    blob: Bytes  # the templates behind each other
    off: Ints  # (templates + 1,)
    fill: Ints  # (templates,) the SET that follows this GET's nil, NONE where nothing does
    heap: Ints  # (timers, 3)
    touched: Ints  # (connections,)
    inbox: Bytes
    outbox: Bytes
    events: npt.NDArray[np.int32]
    word: Ints  # (8,) timespec, pollfd, an option's value
    addr: Bytes  # the server's sockaddr
    halt: Ints  # (1,) another thread's wish to end


@part
def clock(s: Gen) -> int:
    """ns since the start."""
    clock_gettime(1, s.word.ctypes.data)
    return s.word[0] * 1_000_000_000 + s.word[1] - s.st[BASE]


@part
def copy_row(rows: Ints, to: int, of: int) -> None:
    """rows[to] = rows[of], without the copy numba would allocate."""
    for column in range(rows.shape[1]):
        rows[to, column] = rows[of, column]


@part
def push(s: Gen, t: int, what: int, arg: int) -> None:
    """A timer."""
    heap = s.heap
    i = s.st[HEAP_N]
    s.st[HEAP_N] = i + 1
    while i > 0 and heap[(i - 1) // 2, 0] > t:
        copy_row(heap, i, (i - 1) // 2)
        i = (i - 1) // 2
    heap[i, 0] = t
    heap[i, 1] = what
    heap[i, 2] = arg


@part
def pop(s: Gen) -> tuple[int, int]:
    """(what, argument) of the earliest timer."""
    heap = s.heap
    what, arg = heap[0, 1], heap[0, 2]
    n = s.st[HEAP_N] - 1
    s.st[HEAP_N] = n
    t, last_what, last_arg = heap[n, 0], heap[n, 1], heap[n, 2]
    i = 0
    while 2 * i + 1 < n:
        child = 2 * i + 1
        if child + 1 < n and heap[child + 1, 0] < heap[child, 0]:
            child += 1
        if heap[child, 0] >= t:
            break
        copy_row(heap, i, child)
        i = child
    heap[i, 0] = t
    heap[i, 1] = last_what
    heap[i, 2] = last_arg
    return what, arg


@part
def uniform(s: Gen) -> float:
    """A float in (0, 1): splitmix64 of the run's own seed."""
    s.st[RNG] += np.int64(-7046029254386353131)
    z = np.uint64(s.st[RNG])
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (float(z >> np.uint64(11)) + 0.5) / 9007199254740992.0


@part
def arm(s: Gen, c: int) -> None:
    """An alarm for the oldest live request of connection `c`, if its group has a time-out and none is set."""
    con = s.con
    timeout = s.grp[con[c, GROUP], TIMEOUT]
    if timeout > 0 and not con[c, TIMER] and con[c, ALIVE] != NONE:
        con[c, TIMER] = 1
        push(s, s.rec[con[c, ALIVE], BEGIN] + timeout, ALARM, c)


@part
def begin(s: Gen, r: int, t: int) -> None:
    """Attempt `r` joins its connection's chain; `t` is where its time-out counts from."""
    rec, con = s.rec, s.con
    c = rec[r, CONN]
    rec[r, BEGIN] = t
    rec[r, NEXT] = NONE
    if con[c, TAIL] == NONE:
        con[c, HEAD] = r
    else:
        rec[con[c, TAIL], NEXT] = r
    con[c, TAIL] = r
    if con[c, UNSENT] == NONE:
        con[c, UNSENT] = r
    if con[c, ALIVE] == NONE:
        con[c, ALIVE] = r
    if not con[c, TOUCHED]:
        con[c, TOUCHED] = 1
        s.touched[s.st[TOUCHED_N]] = c
        s.st[TOUCHED_N] += 1
    arm(s, c)


@part
def issue(s: Gen, c: int, t: int) -> None:
    """A closed connection asks again at `t`, a whole pipeline at once."""
    rec, st = s.rec, s.st
    group = s.grp[s.con[c, GROUP]]
    n = group[PIPELINE]
    if group[ALLOWED] >= 0:
        n = min(n, group[ALLOWED])
        group[ALLOWED] -= n
    if t >= group[STOP] or n == 0:
        return
    if st[ROWS] + n > rec.shape[0]:
        st[FULL] = 1
        return
    for _ in range(n):
        r = st[ROWS]
        st[ROWS] += 1
        rec[r, INTENDED] = t
        rec[r, SENT] = NONE
        rec[r, DONE] = NONE
        rec[r, TEMPLATE] = group[POOL0] + group[POOL_I]
        rec[r, CONN] = c
        rec[r, STATE] = 0
        group[POOL_I] = group[POOL_I] + 1 if group[POOL_I] + 1 < group[POOL_N] else 0
        st[LIVE] += 1
        s.con[c, OUT] += 1
        begin(s, r, t)


@part
def finish(s: Gen, c: int, now: int, pause: int) -> None:
    """A request of connection `c` is over; a closed one thinks, at least `pause`, and asks again."""
    group = s.grp[s.con[c, GROUP]]
    s.st[LIVE] -= 1
    s.con[c, OUT] -= 1
    if group[IS_CLOSED] and s.con[c, OUT] == 0:
        think = group[THINK]
        if group[THINK_EXP]:
            think = np.int64(-np.log(uniform(s)) * think)
        think = max(think, pause)
        if think == 0:
            issue(s, c, now)
        else:
            s.st[ISSUES] += 1
            push(s, now + think, ISSUE, c)


@part
def fetch_and_fill(s: Gen, r: int, now: int) -> None:
    """Request `r` was answered nil: its value is fetched elsewhere, then SET on the same connection, not after the run's end."""
    rec, st = s.rec, s.st
    c = rec[r, CONN]
    group = s.grp[s.con[c, GROUP]]
    fetch = group[FETCH]
    if group[FETCH_EXP]:
        fetch = np.int64(-np.log(uniform(s)) * fetch)
    s.con[c, OUT] += 1
    if now + fetch >= group[STOP]:
        return
    fill = st[ROWS]
    if fill == rec.shape[0]:
        st[FULL] = 1
        return
    st[ROWS] += 1
    copy_row(rec, fill, r)
    rec[fill, INTENDED] = now + fetch
    rec[fill, SENT] = NONE
    rec[fill, DONE] = NONE
    rec[fill, TEMPLATE] = s.fill[rec[r, TEMPLATE]]
    rec[fill, STATE] = 0
    st[LIVE] += 1
    push(s, now + fetch, RETRY, fill)


@part
def back_off(s: Gen, group: Ints, tries: int) -> int:
    """Wait before the next attempt: doubled up to the cap, then jittered (1 full, 2 equal)."""
    wait = group[BACKOFF]
    for _ in range(tries):
        if wait >= group[CAP]:
            break
        wait *= 2
    wait = min(wait, group[CAP])
    if group[JITTER] == 1:
        return int(uniform(s) * (wait + 1))
    if group[JITTER] == 2:
        return wait // 2 + int(uniform(s) * (wait // 2 + 1))
    return wait


@part
def retry_or_fail(s: Gen, r: int, now: int, lost: bool) -> None:
    """Attempt `r` has failed: another after a back-off, or the request is given up."""
    rec, st = s.rec, s.st
    c = rec[r, CONN]
    group = s.grp[s.con[c, GROUP]]
    group[LOST if lost else TIMEOUTS] += 1
    rec[r, STATE] |= DEAD
    tries = rec[r, STATE] // TRY
    again = st[ROWS]
    if tries < group[RETRIES] and again < rec.shape[0]:
        st[ROWS] += 1
        group[RETRIED] += 1
        copy_row(rec, again, r)
        rec[again, STATE] = (tries + 1) * TRY
        rec[again, SENT] = NONE
        rec[r, STATE] |= AGAIN
        push(s, now + back_off(s, group, tries), RETRY, again)
        return
    if tries < group[RETRIES]:
        st[FULL] = 1
    finish(s, c, now, group[BACKOFF] if lost else 0)
