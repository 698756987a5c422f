"""The load generator: plays a LoadPlan against a server and says what each request waited, from its intended time.

One thread of its own, pinned, compiled (load_loop.py); it needs no C compiler. Spinning, it never sleeps and so adds no wake-up
of its own to what it measures; not spinning, it does. Its own lateness (sent minus intended) is part of the answer, since a
late generator measures itself.
Differs from redis-benchmark: open loop, latencies from the intended time, several groups and kinds of requests at once.
Not modelled: TLS; a client library's own work.
"""

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from redsim.lab import load_loop, load_rows
from redsim.lab.load_plan import GroupLoad, LoadPlan
from redsim.lab.resp import SCANNER_SIZE, encode
from redsim.lab.rig import cpu_count, cpu_number
from redsim.scenario.errors import ScenarioError
from redsim.units import MS, S

Ints = npt.NDArray[np.int64]

HEAD_START_NS = 30 * MS  # from the last connection to the first request, so that the server has accepted all
GRACE_S = 5.0  # for answers that are still out at the end
ROWS_PER_S = 1_500_000  # closed loop: rows set aside, above what one generator can send
ROWS_MAX = 30_000_000  # of 64 bytes
INBOX_BYTES = 256 * 1024
OUTBOX_BYTES = 64 * 1024
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


@dataclass(frozen=True)
class Load:
    """What a load run left; int64 arrays of shape (requests,), times in ns from `base_ns` (CLOCK_MONOTONIC).

    `done_ns` is -1 for a request without an answer; `kind` counts into `names`, `group` into `groups`; `attempts` is 1 without
    retries. `counters`: reconnects, unexpected (replies nobody waited for); `failures` per group: attempts that timed out or lost
    their connection, attempts made again.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    base_ns: int
    seconds: float
    intended_ns: Ints = field(repr=False)
    sent_ns: Ints = field(repr=False)
    done_ns: Ints = field(repr=False)
    kind: Ints = field(repr=False)
    group: Ints = field(repr=False)
    connection: Ints = field(repr=False)
    attempts: Ints = field(repr=False)
    error: npt.NDArray[np.bool_] = field(repr=False)
    counters: dict[str, int]
    failures: dict[str, dict[str, int]]  # group -> timeouts, lost, retried
    complete: bool  # everything was sent and answered or given up before the deadline

    @property
    def answered(self) -> int:
        """Requests with an answer, an error reply or not."""
        return int((self.done_ns >= 0).sum())

    @property
    def per_s(self) -> float:
        """Answers that came within `seconds`, per second of it."""
        return float(((self.done_ns >= 0) & (self.done_ns <= self.seconds * S)).sum() / self.seconds)

    @property
    def late_ns(self) -> dict[str, int]:
        """The generator's own lateness: p50, p99 and max of sent minus intended, first attempts only."""
        mine = (self.sent_ns >= 0) & (self.attempts == 1)
        late = (self.sent_ns - self.intended_ns)[mine]
        if late.size == 0:
            return {"p50": 0, "p99": 0, "max": 0}
        return {"p50": int(np.quantile(late, 0.5)), "p99": int(np.quantile(late, 0.99)), "max": int(late.max())}

    def latencies_ns(self) -> Ints:
        """Answer minus intended time of each answered request."""
        there = self.done_ns >= 0
        return (self.done_ns - self.intended_ns)[there]

    def latency_us(self, q: float) -> float:
        """Quantile 0 <= q <= 1 of the latencies, µs; nan without answers. The rank is ceil(q * n), as the simulator's."""
        return quantile_us(self.latencies_ns(), q)

    def summary_us(self) -> dict[str, float]:
        """mean, p50, p90, p99, p999, max of the latencies, µs; zeros without answers."""
        return latency_summary(self.latencies_ns())

    def only(self, mask: npt.NDArray[np.bool_]) -> "Load":
        """The requests where `mask` is true."""
        arrays = ("intended_ns", "sent_ns", "done_ns", "kind", "group", "connection", "attempts", "error")
        return replace(self, **{name: getattr(self, name)[mask] for name in arrays})

    def of(self, group: str) -> "Load":
        """One group's requests."""
        return self.only(self.group == self.groups.index(group))


def quantile_us(latencies_ns: Ints, q: float) -> float:
    """The ceil(q * n)-th smallest, µs; nan for none."""
    if latencies_ns.size == 0:
        return float("nan")
    rank = max(int(np.ceil(q * latencies_ns.size)), 1) - 1
    return float(np.partition(latencies_ns, rank)[rank]) / 1000


def latency_summary(latencies_ns: Ints) -> dict[str, float]:
    """mean, p50, p90, p99, p999, max in µs, the summary's names; zeros for none."""
    if latencies_ns.size == 0:
        return dict.fromkeys(("mean", *QUANTILES, "max"), 0.0)
    out = {"mean": round(float(latencies_ns.mean()) / 1000, 3)}
    out |= {name: quantile_us(latencies_ns, q) for name, q in QUANTILES.items()}
    return out | {"max": float(latencies_ns.max()) / 1000}


def open_loop(
    port: int, plan: LoadPlan, *, cpu: int = 1, spin: bool = True, host: str = "127.0.0.1", auth: Sequence[str] = (),
    grace_s: float = GRACE_S,
) -> Load:  # fmt: skip
    """Send each request of the plan at its time; ends when all is answered, `grace_s` after the plan's end at the latest.

    `cpu`: the generator's, counted as in rig.start(); `auth`: AUTH's arguments. ScenarioError if no connection comes up.
    """
    return play_plan(port, plan, cpu=cpu, spin=spin, host=host, auth=auth, grace_s=grace_s)


def closed_loop(
    port: int, plan: LoadPlan, *, connections: int, pipeline: int, seconds: float, cpu: int = 1, spin: bool = True,
    host: str = "127.0.0.1", auth: Sequence[str] = (), think_ns: int = 0, requests: int = -1,
) -> Load:  # fmt: skip
    """Each connection sends `pipeline` of the plan's templates, in turn, waits for all their answers, and goes on."""
    group = GroupLoad(
        "load", connections, is_closed=True, pipeline=pipeline, think_ns=think_ns, stop_ns=round(seconds * S), requests=requests
    )
    none = np.zeros(0, dtype=np.int64)
    pools = ((0, plan.kind.size),)
    closed = replace(plan, at_ns=none, template=none, connection=none, groups=(group,), pools=pools)
    return play_plan(port, closed, cpu=cpu, spin=spin, host=host, auth=auth)


def play_plan(
    port: int, plan: LoadPlan, *, cpu: int = 1, spin: bool = True, host: str = "127.0.0.1", auth: Sequence[str] = (),
    grace_s: float = GRACE_S, on_start: Callable[[int], None] | None = None, not_before_ns: int = 0,
) -> Load:  # fmt: skip
    """Play all groups of the plan with one generator thread. `on_start` is told BASE, CLOCK_MONOTONIC ns, before it comes; it
    is `not_before_ns` at the earliest.

    With fewer than two CPUs it does not spin, whatever is asked: it would keep the server from its only one.
    """
    if not hasattr(select, "epoll"):
        raise ScenarioError("the load generator needs Linux (epoll); run it there, or use redis-benchmark")
    compile_loop()
    with select.epoll() as epoll:
        gen = _state(plan, port, host, spin and cpu_count() > 1)
        try:
            _connect_all(gen, plan, epoll, host, port, auth)
            gen.st[load_rows.BASE] = max(time.monotonic_ns() + HEAD_START_NS, not_before_ns)
            gen.st[load_rows.DEADLINE] = round((plan.seconds + grace_s) * S)
            if on_start is not None:
                on_start(int(gen.st[load_rows.BASE]))
            _play_in_thread(gen, cpu)
        finally:
            for fd in gen.con[:, load_rows.FD]:
                if fd >= 0:
                    os.close(int(fd))
    return _load(gen, plan)


def compile_loop() -> None:
    """Compile the loop (or read it from numba's cache): done before anything is timed."""
    with select.epoll() as epoll:
        empty = _empty_plan()
        gen = _state(empty, 1, "127.0.0.1", True)
        gen.st[load_rows.EPFD] = epoll.fileno()
        load_loop.play(gen)


def _empty_plan() -> LoadPlan:
    none = np.zeros(0, dtype=np.int64)
    return LoadPlan(np.zeros(1, dtype=np.uint8), np.zeros(1, dtype=np.int64), none, (), none, none, none, (), ())


def _play_in_thread(gen: load_rows.Gen, cpu: int) -> None:
    """The loop in a thread of its own, so that its CPU mask is its own and Ctrl-C still reaches us."""
    failed: list[BaseException] = []

    def body() -> None:
        try:
            os.sched_setaffinity(0, {cpu_number(cpu)})
            load_loop.play(gen)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=body, name="loadgen", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.2)
    finally:
        gen.halt[0] = 1
        thread.join()
    if failed:
        raise failed[0]


def _state(plan: LoadPlan, port: int, host: str, spin: bool) -> load_rows.Gen:
    """All arrays; open requests fill the first rows, retries and closed requests come behind them."""
    n, connections = plan.at_ns.size, plan.connections
    rows, retries = n, 0
    for g, group in enumerate(plan.groups):
        if group.is_closed:
            most = round((group.stop_ns - group.start_ns) / S * ROWS_PER_S) + group.connections * group.pipeline
            rows += min(most, ROWS_MAX) if group.requests < 0 else min(most, group.requests, ROWS_MAX)
        if group.retries:
            mine = n if len(plan.groups) == 1 else int((_group_of(plan)[plan.connection] == g).sum())
            retries += (mine if not group.is_closed else rows - n) * group.retries
    fills = rows if (plan.fills >= 0).any() else 0  # at most one for each request
    rec = np.empty((max(rows + retries + fills, 1), load_rows.REC_SIZE), dtype=np.int64)
    if n:
        rec[:n] = -1
        rec[:n, load_rows.INTENDED], rec[:n, load_rows.TEMPLATE] = plan.at_ns, plan.template
        rec[:n, load_rows.CONN], rec[:n, load_rows.STATE] = plan.connection, 0
    st = np.zeros(load_rows.ST_SIZE, dtype=np.int64)
    st[load_rows.OPEN_N] = st[load_rows.ROWS] = n
    st[load_rows.SPIN], st[load_rows.RNG] = int(spin), 1
    con = np.zeros((max(connections, 1), load_rows.CON_SIZE), dtype=np.int64)
    for column in ("FD", "HEAD", "UNSENT", "TAIL", "ALIVE", "BORN"):
        con[:, getattr(load_rows, column)] = load_rows.NONE
    if connections:
        con[:, load_rows.GROUP] = _group_of(plan)
    addr = _address(host, port)
    st[load_rows.FAMILY], st[load_rows.ADDR_LEN] = struct.unpack("=H", addr[:2].tobytes())[0], addr.size
    return load_rows.Gen(
        st=st, rec=rec, con=con, par=np.zeros((max(connections, 1), SCANNER_SIZE), dtype=np.int64), grp=_group_rows(plan),
        blob=np.array(plan.blob), off=np.array(plan.off), fill=plan.fills,
        heap=np.zeros((3 * connections + retries + fills + 8, 3), dtype=np.int64),
        touched=np.zeros(2 * connections + 1, dtype=np.int64), inbox=np.zeros(INBOX_BYTES, dtype=np.uint8),
        outbox=np.zeros(OUTBOX_BYTES, dtype=np.uint8),
        events=np.zeros((load_loop.EVENTS + 1) * load_loop.EV_WORDS, dtype=np.int32), word=np.zeros(8, dtype=np.int64), addr=addr,
        halt=np.zeros(1, dtype=np.int64),
    )  # fmt: skip


def _group_of(plan: LoadPlan) -> Ints:
    return np.repeat(np.arange(len(plan.groups)), [group.connections for group in plan.groups])


def _group_rows(plan: LoadPlan) -> Ints:
    rows = np.zeros((max(len(plan.groups), 1), load_rows.GRP_SIZE), dtype=np.int64)
    for row, group, (low, high) in zip(rows, plan.groups, plan.pools, strict=False):
        row[:] = (
            int(group.is_closed), group.pipeline, group.think_ns, int(group.think_is_exponential), group.timeout_ns,
            int(group.reconnects), group.retries, group.backoff_ns, group.cap_ns, group.jitter, group.stop_ns, low, high - low, 0,
            group.requests, 0, 0, 0, group.fetch_ns, int(group.fetch_is_exponential),
        )  # fmt: skip
    return rows


def _address(host: str, port: int) -> npt.NDArray[np.uint8]:
    """struct sockaddr_in of the server."""
    try:
        ip = socket.gethostbyname(host)
    except OSError:
        raise ScenarioError(f"host {host!r} is not known; check the name") from None
    raw = struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(ip) + bytes(8)
    return np.frombuffer(raw, dtype=np.uint8).copy()


def _connect_all(gen: load_rows.Gen, plan: LoadPlan, epoll: select.epoll, host: str, port: int, auth: Sequence[str]) -> None:
    """Every connection up before the start (a closed group's first request is a timer at its start)."""
    gen.st[load_rows.EPFD] = epoll.fileno()
    timers = []
    for c in range(plan.connections):
        try:
            made = socket.create_connection((host, port), timeout=10)
        except OSError as error:
            raise ScenarioError(
                f"connection {c + 1} of {plan.connections} to {host}:{port} failed ({error.strerror or error})"
            ) from None
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if auth:
            made.sendall(encode("AUTH", *auth))
            if not made.recv(512).startswith(b"+OK"):
                made.close()
                raise ScenarioError(f"the server at {host}:{port} refused the user or password")
        made.setblocking(False)
        fd = made.detach()
        gen.con[c, load_rows.FD], gen.con[c, load_rows.LINK] = fd, load_rows.UP
        group = plan.groups[int(gen.con[c, load_rows.GROUP])]
        if group.is_closed:
            timers.append((group.start_ns, load_rows.ISSUE, c))
    timers.sort()
    gen.heap[: len(timers)] = timers or gen.heap[:0]
    gen.st[load_rows.HEAP_N] = gen.st[load_rows.ISSUES] = len(timers)


def _load(gen: load_rows.Gen, plan: LoadPlan) -> Load:
    """The rows that no retry took the place of, as a Load."""
    st = gen.st
    if st[load_rows.FULL]:
        raise ScenarioError("the load run had more requests than were set aside; make it shorter, or the retries fewer")
    rec = gen.rec[: int(st[load_rows.ROWS])]
    rec = rec[(rec[:, load_rows.STATE] & load_rows.AGAIN) == 0]
    state, connection = rec[:, load_rows.STATE], rec[:, load_rows.CONN].copy()
    counters = {"reconnects": int(st[load_rows.RECONNECTS]), "unexpected": int(st[load_rows.UNEXPECTED])}
    columns = {"timeouts": load_rows.TIMEOUTS, "lost": load_rows.LOST, "retried": load_rows.RETRIED}
    failures = {
        group.name: {name: int(row[at]) for name, at in columns.items()} for group, row in zip(plan.groups, gen.grp, strict=False)
    }
    return Load(
        names=plan.names, groups=tuple(group.name for group in plan.groups), base_ns=int(st[load_rows.BASE]),
        seconds=plan.seconds, intended_ns=rec[:, load_rows.INTENDED].copy(), sent_ns=rec[:, load_rows.SENT].copy(),
        done_ns=rec[:, load_rows.DONE].copy(),
        kind=plan.kind[rec[:, load_rows.TEMPLATE]], group=gen.con[connection, load_rows.GROUP], connection=connection,
        attempts=state // load_rows.TRY + 1, error=(state & load_rows.ERROR) > 0, counters=counters,
        failures=failures,
        complete=bool(st[load_rows.LIVE] == 0 and st[load_rows.NEXT_OPEN] == st[load_rows.OPEN_N]),
    )  # fmt: skip
