"""The compiled loops of the probes: bursts of libc's own calls with CLOCK_MONOTONIC read around them.

numba calls the C library's functions directly, so that nobody needs a C compiler; all times are ns, buffers are numpy's.
Differs: a call's error is not looked at here; the callers' sockets and buffers are sized so that none can happen.
Not modelled: what the clock itself costs (some 25 ns a reading, probed apart).
"""

import numpy as np
import numpy.typing as npt
from numba import njit, types

I64 = npt.NDArray[np.int64]

_clock_gettime = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.uintp))
_write = types.ExternalFunction("write", types.int64(types.int32, types.uintp, types.uint64))
_read = types.ExternalFunction("read", types.int64(types.int32, types.uintp, types.uint64))
_epoll_wait = types.ExternalFunction("epoll_wait", types.int32(types.int32, types.uintp, types.int32, types.int32))
_getppid = types.ExternalFunction("getppid", types.int32())
_MONOTONIC = 1  # clock_gettime(2)


@njit(cache=True, nogil=True)
def _now(clock: I64) -> int:
    _clock_gettime(_MONOTONIC, clock.ctypes.data)
    return clock[0] * 1_000_000_000 + clock[1]


@njit(cache=True, nogil=True)
def burst(left: I64, right: I64, epoll: int, size: int, ask: int, out: I64) -> None:
    """For each row of `out` (ns: write all, poll with all ready, read all, poll that finds them read, poll with none): one round
    over the pairs."""
    clock = np.zeros(2, dtype=np.int64)
    data = np.zeros(32768, dtype=np.uint8)
    events = np.zeros(16 * left.size, dtype=np.uint8)
    for i in range(out.shape[0]):
        t0 = _now(clock)
        for k in range(left.size):
            _write(left[k], data.ctypes.data, size)
        t1 = _now(clock)
        _epoll_wait(epoll, events.ctypes.data, left.size, 0)
        t2 = _now(clock)
        for k in range(left.size):
            got = 0
            while got < size:
                got += max(_read(right[k], data.ctypes.data, ask), 0)
        t3 = _now(clock)
        _epoll_wait(epoll, events.ctypes.data, left.size, 0)
        t4 = _now(clock)
        _epoll_wait(epoll, events.ctypes.data, left.size, 0)
        t5 = _now(clock)
        out[i, 0], out[i, 1], out[i, 2], out[i, 3], out[i, 4] = t1 - t0, t2 - t1, t3 - t2, t4 - t3, t5 - t4


@njit(cache=True, nogil=True)
def echo(epoll: int, fd: int, turns: int, wait_ms: int, size: int, stop: I64) -> None:
    """Answer `turns` requests, sleeping in epoll_wait between them (wait_ms > 0) or never (0); ends early if `stop` is set."""
    data = np.zeros(32768, dtype=np.uint8)
    events = np.zeros(64, dtype=np.uint8)
    done = 0
    while done < turns and stop[0] == 0:
        if _epoll_wait(epoll, events.ctypes.data, 1, wait_ms) > 0:
            if _read(fd, data.ctypes.data, 16384) <= 0:
                return
            _write(fd, data.ctypes.data, size)
            done += 1


@njit(cache=True, nogil=True)
def ping(fd: int, gap_ns: int, size: int, limit_ns: int, out: I64) -> int:
    """For each row of `out` (round trip ns, ns of its write): wait `gap_ns`, ask, spin until the answer. Rows done."""
    clock = np.zeros(2, dtype=np.int64)
    data = np.zeros(32768, dtype=np.uint8)
    begin = _now(clock)
    for i in range(out.shape[0]):
        t0 = _now(clock)
        due = t0 + gap_ns
        while t0 < due:
            t0 = _now(clock)
        if t0 - begin > limit_ns:
            return i
        _write(fd, data.ctypes.data, size)
        t1 = _now(clock)
        t2 = t1
        while _read(fd, data.ctypes.data, 16384) <= 0:
            t2 = _now(clock)
            if t2 - t1 > 1_000_000_000:
                return i
        out[i, 0], out[i, 1] = _now(clock) - t0, t1 - t0
    return out.shape[0]


@njit(cache=True, nogil=True)
def syscalls(n: int) -> tuple[int, int]:
    """(ns of n system calls, ns of n readings of the clock)."""
    clock = np.zeros(2, dtype=np.int64)
    t0 = _now(clock)
    for _ in range(n):
        _getppid()
    t1 = _now(clock)
    for _ in range(n):
        _now(clock)
    return t1 - t0, _now(clock) - t1


@njit(cache=True, nogil=True)
def gaps(duration_ns: int, gap_ns: int, out: I64) -> int:
    """Spin for `duration_ns`; lengths of the gaps above `gap_ns` between two readings of the clock, and how many there were."""
    clock = np.zeros(2, dtype=np.int64)
    last = _now(clock)
    end, n = last + duration_ns, 0
    while last < end:
        t = _now(clock)
        if t - last > gap_ns:
            if n < out.size:
                out[n] = t - last
            n += 1
        last = t
    return n


@njit(cache=True, nogil=True)
def chase(following: I64, steps: int) -> tuple[int, int]:
    """(ns, where it ended) of `steps` loads that depend on each other; a row is a cache line."""
    clock = np.zeros(2, dtype=np.int64)
    t0 = _now(clock)
    i = 0
    for _ in range(steps):
        i = following[i, 0]
    return _now(clock) - t0, i


@njit(cache=True, nogil=True)
def touch(pages: npt.NDArray[np.uint8]) -> int:
    """ns of one store into each 4 KiB of the array."""
    clock = np.zeros(2, dtype=np.int64)
    t0 = _now(clock)
    for i in range(0, pages.size, 4096):
        pages[i] += 1
    return _now(clock) - t0
