"""The load generator's inside: one compiled loop over non-blocking sockets and epoll, calling libc through numba.

    due requests -> their connection's chain -> one write per touched connection -> poll -> read, count replies -> again

Nothing here blocks but sleep_until_due(), and only if the loop was told not to spin. A request's reply counts from the moment its
read returned.
Not modelled: TLS.
"""

import hashlib
import os
import platform
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
from numba import njit, types

from redsim.lab import load_rows, resp
from redsim.lab.load_rows import (
    ADDR_LEN,
    ALIVE,
    BEGIN,
    BORN,
    CONN,
    CONNECTING,
    DEAD,
    DEADLINE,
    DONE,
    DOWN,
    EPFD,
    ERROR,
    FAMILY,
    FD,
    GROUP,
    HEAD,
    HEAP_N,
    INTENDED,
    ISSUE,
    ISSUES,
    LINK,
    LIVE,
    NEXT,
    NEXT_OPEN,
    NONE,
    OPEN_N,
    OUT,
    PARTIAL,
    RECONNECT,
    RECONNECTS,
    RETRY,
    SENT,
    SPIN,
    STATE,
    TAIL,
    TEMPLATE,
    TIMEOUT,
    TIMER,
    TOUCHED,
    TOUCHED_N,
    TURN,
    UNEXPECTED,
    UNSENT,
    UP,
    WANTS_OUT,
    Gen,
    arm,
    begin,
    clock,
    fetch_and_fill,
    finish,
    issue,
    part,
    pop,
    retry_or_fail,
)
from redsim.lab.resp import BROKEN, ERROR_REPLY, MORE, NIL_REPLY, scan

_i, _p, _n = types.int32, types.uintp, types.intp
epoll_wait = types.ExternalFunction("epoll_wait", _i(_i, _p, _i, _i))
epoll_ctl = types.ExternalFunction("epoll_ctl", _i(_i, _i, _i, _p))
c_send = types.ExternalFunction("send", _n(_i, _p, _p, _i))
c_recv = types.ExternalFunction("recv", _n(_i, _p, _p, _i))
c_socket = types.ExternalFunction("socket", _i(_i, _i, _i))
c_connect = types.ExternalFunction("connect", _i(_i, _p, _i))
c_setsockopt = types.ExternalFunction("setsockopt", _i(_i, _i, _i, _p, _i))
c_memcpy = types.ExternalFunction("memcpy", _p(_p, _p, _p))
c_close = types.ExternalFunction("close", _i(_i))
c_ppoll = types.ExternalFunction("ppoll", _i(_p, _p, _p, _p))

EVENTS = 256  # taken from one poll
_PACKED = platform.machine() in ("x86_64", "AMD64")  # struct epoll_event is 12 bytes there, 16 elsewhere
EV_WORDS, EV_DATA = (3, 1) if _PACKED else (4, 2)
EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, ADD, MOD = 1, 4, 8, 16, 1, 3
MSG_NOSIGNAL = 0x4000
SOCK_STREAM_NONBLOCK = 1 | 0o4000 | 0o2000000  # and close-on-exec


@part
def watch(s: Gen, c: int, how: int, flags: int) -> None:
    """epoll_ctl: connection `c` with these events."""
    at = EVENTS * EV_WORDS
    s.events[at] = flags
    s.events[at + EV_DATA] = c
    s.events[at + EV_DATA + 1] = 0
    s.con[c, WANTS_OUT] = flags & EPOLLOUT
    epoll_ctl(s.st[EPFD], how, s.con[c, FD], s.events.ctypes.data + 4 * at)


@part
def hang_up(s: Gen, c: int, now: int) -> None:
    """Close connection `c`; what was on it failed: past its time as a time-out, else as a lost connection."""
    con, rec = s.con, s.rec
    if con[c, LINK] != DOWN:
        c_close(con[c, FD])
    timeout = s.grp[con[c, GROUP], TIMEOUT]
    r = con[c, HEAD]
    con[c, FD] = NONE
    con[c, LINK] = DOWN
    con[c, HEAD] = con[c, UNSENT] = con[c, TAIL] = con[c, ALIVE] = NONE
    con[c, PARTIAL] = con[c, WANTS_OUT] = 0
    s.par[c] = 0
    while r != NONE:
        after = rec[r, NEXT]
        if not rec[r, STATE] & DEAD:
            late = timeout > 0 and rec[r, BEGIN] + timeout <= now
            retry_or_fail(s, r, now, not late)
        r = after


@part
def connect(s: Gen, c: int, now: int) -> None:
    """Start to connect `c`; epoll says when it is up."""
    st, con = s.st, s.con
    st[RECONNECTS] += 1
    fd = c_socket(st[FAMILY], SOCK_STREAM_NONBLOCK, 0)
    con[c, FD] = fd
    if fd < 0:
        hang_up(s, c, now)
        return
    s.word[4] = 1
    c_setsockopt(fd, 6, 1, s.word.ctypes.data + 32, 4)  # TCP_NODELAY
    con[c, LINK] = CONNECTING
    con[c, BORN] = st[TURN]
    c_connect(fd, s.addr.ctypes.data, st[ADDR_LEN])
    watch(s, c, ADD, EPOLLIN | EPOLLOUT)


@part
def gather(s: Gen, c: int) -> int:
    """Copy what connection `c` has to write into the outbox; how many bytes."""
    rec, outbox, off = s.rec, s.outbox, s.off
    size = 0
    skip = s.con[c, PARTIAL]
    r = s.con[c, UNSENT]
    while r != NONE and size < outbox.size:
        start = off[rec[r, TEMPLATE]] + skip
        n = min(off[rec[r, TEMPLATE] + 1] - start, outbox.size - size)
        c_memcpy(outbox.ctypes.data + size, s.blob.ctypes.data + start, n)
        size += n
        skip = 0
        r = rec[r, NEXT]
    return size


@part
def flush(s: Gen, c: int, now: int) -> None:
    """Write what waits in connection `c`; what does not fit waits until the socket takes more."""
    rec, con, off = s.rec, s.con, s.off
    if con[c, LINK] == DOWN:
        connect(s, c, now)
    while con[c, LINK] == UP and con[c, UNSENT] != NONE and not con[c, WANTS_OUT]:
        size = gather(s, c)
        n = c_send(con[c, FD], s.outbox.ctypes.data, size, MSG_NOSIGNAL)
        if n < size:
            watch(s, c, MOD, EPOLLIN | EPOLLOUT)
        while n > 0:
            r = con[c, UNSENT]
            left = off[rec[r, TEMPLATE] + 1] - off[rec[r, TEMPLATE]] - con[c, PARTIAL]
            if n < left:
                con[c, PARTIAL] += n
                break
            n -= left
            con[c, PARTIAL] = 0
            rec[r, SENT] = now
            con[c, UNSENT] = rec[r, NEXT]


@part
def answered(s: Gen, c: int, now: int, what: int) -> None:
    """The oldest request of connection `c` has its reply, `what` kind of it scan() says."""
    rec, con = s.rec, s.con
    r = con[c, HEAD]
    if r == NONE or r == con[c, UNSENT]:
        s.st[UNEXPECTED] += 1
        return
    con[c, HEAD] = rec[r, NEXT]
    if con[c, ALIVE] == r:
        con[c, ALIVE] = rec[r, NEXT]
    if con[c, TAIL] == r:
        con[c, TAIL] = NONE
    if rec[r, STATE] & DEAD:
        return
    rec[r, DONE] = now
    if what == ERROR_REPLY:
        rec[r, STATE] |= ERROR
    elif what == NIL_REPLY and s.fill[rec[r, TEMPLATE]] != NONE:
        fetch_and_fill(s, r, now)
    finish(s, c, now, 0)


@part
def receive(s: Gen, c: int, flags: int) -> None:
    """Read what connection `c` has, an inbox at most (the others want their turn), and count the replies in it."""
    n = c_recv(s.con[c, FD], s.inbox.ctypes.data, s.inbox.size, 0)
    now = clock(s)
    if n == 0 or (n < 0 and flags & (EPOLLERR | EPOLLHUP)):
        hang_up(s, c, now)
        return
    at = 0
    while at < n:
        at, what = scan(s.par[c], s.inbox, at, n)
        if what == BROKEN:
            s.st[UNEXPECTED] += 1
            hang_up(s, c, now)
            return
        if what != MORE:
            answered(s, c, now, what)


@part
def event(s: Gen, c: int, flags: int) -> None:
    """What epoll says of connection `c`."""
    st, con = s.st, s.con
    if con[c, LINK] == DOWN or con[c, BORN] == st[TURN]:  # of the socket it had before
        return
    if con[c, LINK] == CONNECTING:
        if flags & (EPOLLERR | EPOLLHUP):
            hang_up(s, c, clock(s))
        elif flags & EPOLLOUT:
            con[c, LINK] = UP
            watch(s, c, MOD, EPOLLIN)
            flush(s, c, clock(s))
        return
    if flags & (EPOLLIN | EPOLLERR | EPOLLHUP):
        receive(s, c, flags)
    if con[c, LINK] == UP and flags & EPOLLOUT:
        watch(s, c, MOD, EPOLLIN)
        flush(s, c, clock(s))


@part
def alarm(s: Gen, c: int, now: int) -> None:
    """The oldest live request of connection `c` may be past its time."""
    con, rec = s.con, s.rec
    group = s.grp[con[c, GROUP]]
    con[c, TIMER] = 0
    while con[c, ALIVE] != NONE:
        r = con[c, ALIVE]
        if not rec[r, STATE] & DEAD:
            if rec[r, BEGIN] + group[TIMEOUT] > now:
                break
            if group[RECONNECT]:
                hang_up(s, c, now)
                return
            con[c, ALIVE] = rec[r, NEXT]
            retry_or_fail(s, r, now, False)
        else:
            con[c, ALIVE] = rec[r, NEXT]
    arm(s, c)


@part
def admit(s: Gen, now: int) -> None:
    """What is due: open requests by their intended time, then timers; then everything is written."""
    st, rec = s.st, s.rec
    while st[NEXT_OPEN] < st[OPEN_N] and rec[st[NEXT_OPEN], INTENDED] <= now:
        r = st[NEXT_OPEN]
        st[NEXT_OPEN] = r + 1
        st[LIVE] += 1
        s.con[rec[r, CONN], OUT] += 1
        begin(s, r, rec[r, INTENDED])
    while st[HEAP_N] > 0 and s.heap[0, 0] <= now:
        what, arg = pop(s)
        if what == ISSUE:
            st[ISSUES] -= 1
            issue(s, arg, now)
        elif what == RETRY:
            begin(s, arg, now)
        else:
            alarm(s, arg, now)
    n = st[TOUCHED_N]
    for i in range(n):
        s.con[s.touched[i], TOUCHED] = 0
        flush(s, s.touched[i], now)
    for i in range(n, st[TOUCHED_N]):  # touched again by a failure while writing: next turn
        s.touched[i - n] = s.touched[i]
    st[TOUCHED_N] -= n


@part
def sleep_until_due(s: Gen, now: int) -> None:
    """Block until a socket is ready or the next thing is due, 50 ms at most."""
    st, word = s.st, s.word
    due = now + 50_000_000
    if st[NEXT_OPEN] < st[OPEN_N]:
        due = min(due, s.rec[st[NEXT_OPEN], INTENDED])
    if st[HEAP_N] > 0:
        due = min(due, s.heap[0, 0])
    if due > now and st[TOUCHED_N] == 0:
        word[2] = 0
        word[3] = due - now
        word[5] = st[EPFD] | EPOLLIN << 32  # struct pollfd
        c_ppoll(word.ctypes.data + 40, 1, word.ctypes.data + 16, 0)


@part
def turns(s: Gen) -> None:
    """Everything, until all is sent and answered, or the deadline."""
    st = s.st
    for c in range(s.con.shape[0]):
        if s.con[c, LINK] == UP:
            watch(s, c, ADD, EPOLLIN)
    now = clock(s)
    while now < st[DEADLINE] and s.halt[0] == 0:
        st[TURN] += 1
        admit(s, now)
        if st[LIVE] == 0 and st[ISSUES] == 0 and st[NEXT_OPEN] == st[OPEN_N] and st[TOUCHED_N] == 0:
            break
        if not st[SPIN]:
            sleep_until_due(s, now)
        n = epoll_wait(st[EPFD], s.events.ctypes.data, EVENTS, 0)
        for i in range(n):
            event(s, s.events[i * EV_WORDS + EV_DATA], np.int64(s.events[i * EV_WORDS]))
        now = clock(s)


def _cached() -> Callable[[Gen], None]:
    """The loop as Python calls it, its machine code kept under the digest of the sources: numba by itself looks only at this
    file's date, not at those of what it calls."""

    def play(s: Gen) -> None:
        turns(s)

    digest = hashlib.sha256(b"".join(Path(name).read_bytes() for name in (__file__, load_rows.__file__, resp.__file__)))
    before = numba.config.CACHE_DIR
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    numba.config.CACHE_DIR = str(Path(base) / "redsim" / f"lab-{digest.hexdigest()[:16]}")
    try:
        return njit(_nrt=False, cache=True, nogil=True)(play)
    finally:
        numba.config.CACHE_DIR = before


play = _cached()
