"""Probes of the host: what one syscall, one wake-up, one cache miss costs here, measured without Redis.

Compiled loops (probe_loops.py) call libc's own functions and read the clock around bursts of them.

    driver (last core)   spin for L | write ........ spin until the echo is back
    echo   (first core)  asleep for about L in epoll_wait -> read -> write

The wake-up law is what an echo takes longer after a sleep of L than from a peer that never sleeps; its CPU is the echo
thread's own clock less the calls it makes. Figures are `{value, spread, says}`: medians, and quartiles of the repeats.
Not modelled: frequency changes, hyperthreads, NUMA; a machine with one core has no wake-up probe (its numbers are taken over).
"""

import itertools
import mmap
import os
import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from redsim.lab import probe_loops
from redsim.units import KIB, MIB, MS, US, S

Figure = dict[str, Any]  # value, spread: [low, high], says
Figures = dict[str, Figure]
Rows = list[list[int]]  # connections, ns, low, high
Floats = npt.NDArray[np.float64]

SLEEPS_NS = (5 * US, 20 * US, 50 * US, 100 * US, 500 * US, 5 * MS)
KNEES_NS = (30 * US, 50 * US, 80 * US, 120 * US)  # within the sleeps that the fit's points have
LOADED_NS = 100 * US  # sleeps of a server that has something to do: how far its wake-ups differ is read off these
SPREAD_AT = (0.0, 0.05, 0.15, 0.35, 0.65, 0.85, 0.93, 0.97, 0.99, 0.997, 1.0)
PAIRS = 50  # as many sockets in a burst as the fit's points have connections
CROWDS = (200, 1000, 3000, 9000)  # connections: each one's socket is cold again when its turn comes
FILES_SPARE = 200  # file descriptors for everything else
BURSTS = 11  # of each size, in turn, so that drift of the machine takes both alike
REQUEST_BYTES, REPLY_BYTES = 36, 5
GAP_NS = 50 * US  # what counts as a hiccup
TAIL = (0.4, 0.7, 0.9, 0.97, 0.995)  # where the sorted gaps are cut into the rows of the table: finer where they are long


def figure(values: npt.ArrayLike, says: str) -> Figure:
    """Median, quartiles and `says` of repeated measurements, as whole numbers."""
    low, middle, high = np.percentile(np.asarray(values, dtype=np.float64), [25, 50, 75])
    return {"value": round(float(middle)), "spread": [round(float(low)), round(float(high))], "says": says}


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


@contextmanager
def _bursting(pairs: int, rounds: int) -> Iterator[Callable[[int], Floats]]:
    """A function that gives the medians of probe_loops.burst() of so many bytes over `pairs` loopback connections."""
    ends = [_pair() for _ in range(pairs)]
    epoll = select.epoll()
    for _, right in ends:
        epoll.register(right.fileno(), select.EPOLLIN)
    left = np.array([a.fileno() for a, _ in ends])
    right_fds = np.array([b.fileno() for _, b in ends])

    def burst(size: int) -> Floats:
        out = np.zeros((rounds, 5), dtype=np.int64)
        probe_loops.burst(left, right_fds, epoll.fileno(), size, 16 * KIB, out)
        return np.median(out, axis=0)

    yield burst
    for end in itertools.chain(*ends):
        end.close()
    epoll.close()


def client_crowd(rounds: int) -> Rows:
    """[connections, ns, low, high]: what a client's write(), read() and share of a poll cost more than with PAIRS connections,
    when it takes all of them in turn; as many as this process may open."""
    each_ns = {n: _calls_ns(n, max(rounds * PAIRS // n, 5)) for n in (PAIRS, *within_limits(CROWDS, 2))}
    few = float(np.median(each_ns[PAIRS]))
    rows = []
    for n, ns in each_ns.items():
        low, middle, high = np.percentile(ns - few, [25, 50, 75])
        rows.append([n, *(max(round(float(more)), 0) for more in (middle, low, high))])
    return rows


def _calls_ns(pairs: int, rounds: int) -> Floats:
    """ns of a write(), a read() and two shares of a poll on one of `pairs` connections; shape (rounds,)."""
    with _bursting(pairs, 1) as burst:
        times = _on(cores()[0], lambda: np.array([burst(REQUEST_BYTES) for _ in range(rounds + 1)][1:]))
    return np.asarray(times[:, :4].sum(axis=1) / pairs)


def within_limits(connections: Sequence[int], files_each: int = 1) -> list[int]:
    """Those numbers of connections that this process may open files for."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return [n for n in connections if n * files_each + FILES_SPARE <= limit]


def sockets(rounds: int) -> Figures:
    """read(), write() and epoll_wait() on 50 ready loopback sockets: ns each, ps per byte, ns per event."""

    def in_turn(burst: Callable[[int], Floats]) -> Floats:
        pairs_of_bursts = [(burst(REQUEST_BYTES), burst(16 * KIB)) for _ in range(BURSTS + 1)]
        return np.array(pairs_of_bursts[1:])  # shape (BURSTS, 2 sizes, 5 times)

    with _bursting(PAIRS, rounds // BURSTS) as burst:
        times = _on(cores()[0], lambda: in_turn(burst))
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
        probe_loops.echo(epoll.fileno(), right.fileno(), turns, 0 if is_spinning else 100, REPLY_BYTES, stop)
        cpu.append(time.thread_time_ns() - started)

    out = np.zeros((turns, 2), dtype=np.int64)
    first, last = cores()
    thread = pinned(first, serve)
    done = _on(last, lambda: probe_loops.ping(left.fileno(), gap_ns, REQUEST_BYTES, 20 * S, out))
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
    rows, relative = [], []
    for gap in SLEEPS_NS:
        n = max(30, min(turns * 4, turns * 2 * MS // max(gap, 500 * US)))
        times, cpu = echo_turns(gap, n, is_spinning=False)
        late = np.percentile(times[:, 0] - base, [25, 50, 75])
        if gap <= LOADED_NS:
            relative.append((times[:, 0] - base) / max(float(late[1]), 1.0))
        rows.append({
            "sleep_ns": gap, "wake_ns": round(float(late[1])), "spread": [round(float(late[0])), round(float(late[2]))],
            "cpu_ns": round(cpu - own), "write_ns": round(float(np.median(times[:, 1]))),
        })  # fmt: skip
    return {
        "round_trip_ns": figure(spinning[:, 0], "ping-pong of two threads on a core each, neither ever asleep"),
        "spinning_write_ns": figure(spinning[:, 1], "write() to a peer that is not asleep"),
        "rows": rows,
        "spread_permille": spread_permille(np.concatenate(relative)),
    }


def spread_permille(relative: Floats) -> list[list[float]]:
    """Rows of (permille, weight): the mean of `relative` (1 is the median) between two quantiles, and the share between them."""
    ordered = np.sort(relative)
    cuts = np.rint(np.array(SPREAD_AT) * ordered.size).astype(int)
    parts = [(ordered[low:high], (high - low) / ordered.size) for low, high in itertools.pairwise(cuts) if high > low]
    return [[max(1, round(1000 * float(part.mean()))), round(share, 6)] for part, share in parts]


def wake_law(rows: list[dict[str, Any]], column: str, knees: Sequence[int] = KNEES_NS) -> tuple[int, int, int]:
    """(after a short sleep, after a long one, sleep from which it is long), ns: the model's line with a knee, least squares of
    relative errors. Sleeps above 1 ms are left out: a server with a request a millisecond is asleep, not loaded."""
    rows = [row for row in rows if row["sleep_ns"] <= MS]
    sleep = np.array([row["sleep_ns"] for row in rows], dtype=np.float64)
    cost = np.array([max(row[column], 100) for row in rows], dtype=np.float64)
    laws = []
    for knee in knees:
        depth = np.minimum(sleep / knee, 1.0)
        line = np.stack([1 - depth, depth], axis=1) / cost[:, None]
        short, deep = np.linalg.lstsq(line, np.ones(cost.size), rcond=None)[0]
        short = min(max(short, 100.0), max(deep, 100.0))
        error = float((((short * (1 - depth) + deep * depth) / cost - 1) ** 2).sum())
        laws.append((error, round(short), round(max(deep, short)), knee))
    return min(laws)[1:]


def syscall(repeats: int = 9) -> Figures:
    """One cheap system call and one reading of the clock, ns."""
    rows = np.array([probe_loops.syscalls(20_000) for _ in range(repeats + 1)][1:]) / 20_000
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
    loads = [probe_loops.chase(following, 200_000)[0] / 200_000 for _ in range(6)][1:]
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
        ns = int(probe_loops.touch(pages))
        del pages
    return ns


def hiccups(seconds: float) -> dict[str, Any]:
    """Gaps above 50 us of a thread that does nothing but read the clock on the server's core: every_ns, table_ns, says.

    The load's core is as busy meanwhile, as it is under load: whatever else wants to run must take the time of one of the two.
    """
    out = np.zeros(100_000, dtype=np.int64)
    probe_loops.gaps(1000, GAP_NS, out)
    server_core, load_core = cores()
    duration_ns, nothing = int(seconds * S), np.zeros(0, dtype=np.int64)
    other = None if load_core == server_core else pinned(load_core, lambda: probe_loops.gaps(duration_ns, GAP_NS, nothing))
    count = _on(server_core, lambda: int(probe_loops.gaps(duration_ns, GAP_NS, out)))
    if other is not None:
        other.join()
    found = np.sort(out[: min(count, out.size)])
    longest = found[-1] // US if count else 0
    says = (
        f"{count} gaps above 50 us in {seconds:g} s of spinning on the server's core beside the load's, the longest {longest} us"
    )
    if count == 0:
        return {"every_ns": int(seconds * S), "table_ns": [[GAP_NS, 1.0]], "says": f"{says}; the rate is an upper bound"}
    parts = [part for part in np.split(found, [round(count * q) for q in TAIL]) if part.size]
    table = [[int(part.mean()), round(part.size / count, 4)] for part in parts]
    return {"every_ns": int(seconds * S / count), "table_ns": table, "says": says}
