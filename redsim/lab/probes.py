"""Probes of the host: what one syscall, one wake-up, one cache miss costs here, measured without Redis.

Compiled loops call libc's own functions (no C compiler is needed) and read CLOCK_MONOTONIC around bursts of them.

    driver (last core)   spin for L | write ........ spin until the echo is back
    echo   (first core)  asleep for about L in epoll_wait -> read -> write

The wake-up law is what an echo takes longer after a sleep of L than from a peer that never sleeps; its CPU is the echo thread's own
CPU clock less the calls it makes. Figures are `{value, spread, says}`: medians, and quartiles (or low and high) of the repeats.
Not modelled: frequency changes, hyperthreads, NUMA; a machine with one core has no wake-up probe (its numbers are taken over).
"""

import mmap
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, types

from redsim.units import KIB, MIB, MS, S, US

Figure = dict[str, Any]  # value, spread: [low, high], says
Figures = dict[str, Figure]
I64 = npt.NDArray[np.int64]

SLEEPS_NS = (5 * US, 20 * US, 50 * US, 100 * US, 500 * US, 5 * MS)
PAIRS = 50  # as many sockets in a burst as the fit's points have connections
BURSTS = 11  # of each size, in turn, so that drift of the machine takes both alike
REQUEST_BYTES, REPLY_BYTES = 36, 5
GAP_NS = 50 * US  # what counts as a hiccup

_clock_gettime = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.uintp))
_write = types.ExternalFunction("write", types.int64(types.int32, types.uintp, types.uint64))
_read = types.ExternalFunction("read", types.int64(types.int32, types.uintp, types.uint64))
_epoll_wait = types.ExternalFunction("epoll_wait", types.int32(types.int32, types.uintp, types.int32, types.int32))
_getppid = types.ExternalFunction("getppid", types.int32())
_MONOTONIC = 1  # clock_gettime(2)


def figure(values: npt.ArrayLike, says: str) -> Figure:
    """Median, quartiles and `says` of repeated measurements, as whole numbers."""
    low, middle, high = np.percentile(np.asarray(values, dtype=np.float64), [25, 50, 75])
    return {"value": round(float(middle)), "spread": [round(float(low)), round(float(high))], "says": says}


# ---- compiled loops ------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _now(clock: I64) -> int:
    _clock_gettime(_MONOTONIC, clock.ctypes.data)
    return clock[0] * 1_000_000_000 + clock[1]


@njit(cache=True, nogil=True)
def _burst(left: I64, right: I64, epoll: int, size: int, ask: int, out: I64) -> None:
    """For each row of `out` (ns: write all, poll with all ready, read all, poll that finds them read, poll with none): one round
    over the pairs."""
    clock = np.zeros(2, dtype=np.int64)
    data = np.zeros(32768, dtype=np.uint8)
    events = np.zeros(16 * 1024, dtype=np.uint8)
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
def _echo(epoll: int, fd: int, turns: int, wait_ms: int, size: int, stop: I64) -> None:
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
def _ping(fd: int, gap_ns: int, size: int, limit_ns: int, out: I64) -> int:
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
def _syscalls(n: int) -> tuple[int, int]:
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
def _gaps(duration_ns: int, gap_ns: int, out: I64) -> int:
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
def _chase(following: I64, steps: int) -> tuple[int, int]:
    """(ns, where it ended) of `steps` loads that depend on each other; a row is a cache line."""
    clock = np.zeros(2, dtype=np.int64)
    t0 = _now(clock)
    i = 0
    for _ in range(steps):
        i = following[i, 0]
    return _now(clock) - t0, i


@njit(cache=True, nogil=True)
def _touch(pages: npt.NDArray[np.uint8]) -> int:
    """ns of one store into each 4 KiB of the array."""
    clock = np.zeros(2, dtype=np.int64)
    t0 = _now(clock)
    for i in range(0, pages.size, 4096):
        pages[i] += 1
    return _now(clock) - t0


# ---- the probes ----------------------------------------------------------------------------------------------------


def cores() -> tuple[int, int]:
    """(core of the server, core of the load): the first and the last this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def pinned(cpu: int, work: Callable[[], None]) -> threading.Thread:
    """A started thread that runs `work` on `cpu`."""

    def body() -> None:
        os.sched_setaffinity(0, {cpu})
        work()

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    return thread


def _on(cpu: int, work: Callable[[], Any]) -> Any:
    """The result of `work` run in a thread pinned to `cpu`."""
    box: list[Any] = []
    pinned(cpu, lambda: box.append(work())).join()
    return box[0]


def _pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection over loopback, without Nagle, not blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        left = socket.create_connection(listener.getsockname())
        right, _ = listener.accept()
    for end in (left, right):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.setblocking(False)
    return left, right


def sockets(rounds: int) -> Figures:
    """read(), write() and epoll_wait() on 50 ready loopback sockets: ns each, ps per byte, ns per event."""
    pairs = [_pair() for _ in range(PAIRS)]
    epoll = select.epoll()
    for _, right in pairs:
        epoll.register(right.fileno(), select.EPOLLIN)
    left = np.array([a.fileno() for a, _ in pairs])
    right_fds = np.array([b.fileno() for _, b in pairs])

    def burst(size: int) -> npt.NDArray[np.float64]:
        out = np.zeros((rounds // BURSTS, 5), dtype=np.int64)
        _burst(left, right_fds, epoll.fileno(), size, 16 * KIB, out)
        return np.median(out, axis=0)

    def in_turn() -> npt.NDArray[np.float64]:
        pairs_of_bursts = [(burst(REQUEST_BYTES), burst(16 * KIB)) for _ in range(BURSTS + 1)]
        return np.array(pairs_of_bursts[1:])  # shape (BURSTS, 2 sizes, 5 times)

    times = _on(cores()[0], in_turn)
    for a, b in pairs:
        a.close()
        b.close()
    epoll.close()
    none = times[:, 0, 4]
    small, large = times[:, 0] / PAIRS, times[:, 1] / PAIRS
    per_event = small[:, 1] + small[:, 3] - 2 * np.median(none) / PAIRS
    span = 16 * KIB - REQUEST_BYTES
    return {
        "write_ns": figure(small[:, 0], f"write() of {REQUEST_BYTES} bytes, the receiving half of loopback included"),
        "read_ns": figure(small[:, 2], f"read() of {REQUEST_BYTES} bytes that are there"),
        "write_ps_per_byte": figure((large[:, 0] - small[:, 0]) * 1000 / span, "write() of 16 KiB against a small one"),
        "read_ps_per_byte": figure((large[:, 2] - small[:, 2]) * 1000 / span, "read() of 16 KiB against a small one"),
        "poll_ns": figure(none, f"epoll_wait() over {PAIRS} sockets, none ready"),
        "poll_event_ns": figure(per_event, f"epoll_wait() with {PAIRS} ready and the one that finds them read, per socket"),
    }


def echo_turns(gap_ns: int, turns: int, *, is_spinning: bool) -> tuple[npt.NDArray[np.int64], float]:
    """((round trip, its write) ns of each turn, shape (turns, 2); CPU ns per turn of the echo thread)."""
    left, right = _pair()
    epoll = select.epoll()
    epoll.register(right.fileno(), select.EPOLLIN)
    stop = np.zeros(1, dtype=np.int64)
    cpu: list[int] = []

    def serve() -> None:
        started = time.thread_time_ns()
        _echo(epoll.fileno(), right.fileno(), turns, 0 if is_spinning else 100, REPLY_BYTES, stop)
        cpu.append(time.thread_time_ns() - started)

    out = np.zeros((turns, 2), dtype=np.int64)
    first, last = cores()
    thread = pinned(first, serve)
    done = _on(last, lambda: _ping(left.fileno(), gap_ns, REQUEST_BYTES, 20 * S, out))
    stop[0] = 1
    thread.join(5)
    left.close()
    right.close()
    epoll.close()
    return out[:done], cpu[0] / max(done, 1) if cpu else 0.0


def wake_ups(turns: int, calls: Figures) -> dict[str, Any]:
    """The wake-up law: rows of (sleep ns, latency ns, CPU ns, ns of the waking write) and the spinning round trip.

    `calls`: what `sockets()` found, to take the echo's own calls off its CPU. Empty on a machine with one core.
    """
    if len(os.sched_getaffinity(0)) < 2:
        return {}
    echo_turns(0, 100, is_spinning=True)
    echo_turns(0, 100, is_spinning=False)
    spinning, _ = echo_turns(0, 20 * turns, is_spinning=True)
    base = float(np.median(spinning[:, 0]))
    own = sum(calls[name]["value"] for name in ("read_ns", "write_ns", "poll_ns", "poll_event_ns"))  # of an answer without sleep
    rows = []
    for gap in SLEEPS_NS:
        n = max(30, min(turns * 4, turns * 2 * MS // max(gap, 500 * US)))
        times, cpu = echo_turns(gap, n, is_spinning=False)
        late = np.percentile(times[:, 0] - base, [25, 50, 75])
        rows.append({
            "sleep_ns": gap, "wake_ns": round(float(late[1])), "spread": [round(float(late[0])), round(float(late[2]))],
            "cpu_ns": round(cpu - own), "write_ns": round(float(np.median(times[:, 1]))),
        })  # fmt: skip
    return {
        "round_trip_ns": figure(spinning[:, 0], "ping-pong of two threads on a core each, neither ever asleep"),
        "spinning_write_ns": figure(spinning[:, 1], "write() to a peer that is not asleep"),
        "rows": rows,
    }


def wake_law(rows: list[dict[str, Any]], column: str) -> tuple[int, int, int]:
    """(after a short sleep, after a long one, sleep from which it is long), ns: the model's line with a knee, least squares."""
    sleep = np.array([row["sleep_ns"] for row in rows], dtype=np.float64)
    cost = np.array([max(row[column], 100) for row in rows], dtype=np.float64)
    best: tuple[float, int, int, int] | None = None
    for knee in (10 * US, 20 * US, 40 * US, 70 * US, 100 * US, 200 * US, 500 * US):
        depth = np.minimum(sleep / knee, 1.0)
        line = np.stack([1 - depth, depth], axis=1) / cost[:, None]
        short, deep = np.linalg.lstsq(line, np.ones(cost.size), rcond=None)[0]
        short = min(max(short, 100.0), max(deep, 100.0))
        error = float((((short * (1 - depth) + deep * depth) / cost - 1) ** 2).sum())
        if best is None or error < best[0]:
            best = (error, round(short), round(max(deep, short)), knee)
    assert best is not None
    return best[1:]


def syscall(repeats: int = 9) -> Figures:
    """One cheap system call and one reading of the clock, ns."""
    rows = np.array([_syscalls(20_000) for _ in range(repeats + 1)][1:]) / 20_000
    return {
        "syscall_ns": figure(rows[:, 0], "getppid() in a burst"),
        "clock_ns": figure(rows[:, 1], "clock_gettime(CLOCK_MONOTONIC)"),
    }


def memory(rng: np.random.Generator, mib: int = 128) -> Figures:
    """A dependent load in `mib` MiB, copying, a first touch of a page."""
    lines = mib * MIB // 64
    order = rng.permutation(lines)
    following = np.zeros((lines, 8), dtype=np.int64)
    following[order, 0] = np.roll(order, -1)
    loads = [_chase(following, 200_000)[0] / 200_000 for _ in range(6)][1:]
    copy = np.empty_like(following)
    rates = []
    for _ in range(4):
        started = time.perf_counter_ns()
        np.copyto(copy, following)
        rates.append(following.nbytes * S / max(time.perf_counter_ns() - started, 1))
    faults = [_fresh_pages(64 * MIB) / (64 * MIB // 4096) for _ in range(4)][1:]
    return {
        "random_load_ns": figure(loads, f"loads that depend on each other over {mib} MiB, 64 bytes apart"),
        "memcpy_bytes_per_s": figure(rates[1:], f"copying {mib} MiB"),
        "page_fault_ns": figure(faults, "first store into each 4 KiB page of 64 MiB without huge pages"),
    }


def _fresh_pages(size: int) -> int:
    with mmap.mmap(-1, size) as area:
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            area.madvise(mmap.MADV_NOHUGEPAGE)
        pages = np.frombuffer(area, dtype=np.uint8)
        ns = int(_touch(pages))
        del pages
    return ns


def copy_on_write(size: int = 64 * MIB) -> Figures:
    """A store into a page shared with a forked child: the fault and the copy of 4 KiB, ns."""
    area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        area.madvise(mmap.MADV_NOHUGEPAGE)
    pages = np.frombuffer(area, dtype=np.uint8)
    _touch(pages)
    per_page = []
    for _ in range(4):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        per_page.append(_touch(pages) / (size // 4096))
        os.close(writer)
        os.close(reader)
        os.waitpid(child, 0)
    del pages
    area.close()
    return {"cow_fault_ns": figure(per_page[1:], "store into each 4 KiB page of 64 MiB while a forked child shares them")}


def hiccups(seconds: float) -> dict[str, Any]:
    """Gaps above 50 us of a thread that does nothing but read the clock on the server's core: every_ns, table_ns, says."""
    out = np.zeros(100_000, dtype=np.int64)
    _gaps(1000, GAP_NS, out)
    count = _on(cores()[0], lambda: int(_gaps(int(seconds * S), GAP_NS, out)))
    found = np.sort(out[: min(count, out.size)])
    says = f"{count} gaps above 50 us in {seconds:g} s of spinning on the server's core, the longest {found[-1] // US if count else 0} us"
    if count == 0:
        return {"every_ns": int(seconds * S), "table_ns": [[GAP_NS, 1.0]], "says": f"{says}; the rate is an upper bound"}
    parts = np.array_split(found, min(6, count))
    table = [[int(part.mean()), round(part.size / count, 4)] for part in parts]
    return {"every_ns": int(seconds * S / count), "table_ns": table, "says": says}
