"""What a real run left, under the names summary.json has for the same things, where it has them.

Latencies are those of requests meant to be sent after the warm-up and answered before the end, as the simulator counts them.
Differs: a redis-benchmark group has its percentiles p50, p95, p99 and its throughput only.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from redsim.lab.durability_twin import FilesSeen
from redsim.lab.loadgen import Load, latency_summary
from redsim.lab.memory_twin import MemorySeen
from redsim.lab.rig import Sample
from redsim.scenario.schema import ScenarioFile
from redsim.units import MS, US, S

Ints = npt.NDArray[np.int64]
FEW = 3  # outstanding requests of a server that is itself again


@dataclass(frozen=True)
class Measured:
    """One group. `errors`: attempts that timed out or lost their connection, and error replies; `late_ns`: the generator's own
    lateness (p50, p99, max), empty for redis-benchmark."""

    offered_per_s: float
    throughput_per_s: float
    offered: int
    completed: int
    failed: int
    in_flight: int
    errors: dict[str, int]
    retries: int
    connections: int
    latency_us: dict[str, float]
    by_command: dict[str, dict[str, Any]]
    late_ns: dict[str, int] = field(default_factory=dict)

    @property
    def late_p99_us(self) -> float:
        """The generator's lateness at p99; 0 for redis-benchmark."""
        return self.late_ns.get("p99", 0) / US


@dataclass(frozen=True)
class NodeMeasured:
    """The server over the whole run, warm-up included. -1 stands for what could not be seen. Evidence of noise: `steal_ns` of
    the whole machine, `queued_ns` in which the main thread was ready and had no CPU."""

    version: str
    seconds: float
    cpu_utilisation: float
    cpu_us_per_command: float
    commands: int
    reads: int
    writes: int
    sleeps: int
    commands_per_read: float
    commandstats: dict[str, dict[str, float]]
    steal_ns: int
    queued_ns: int
    stats: dict[str, int] = field(default_factory=dict)  # of INFO stats, rig.STATS
    keys_end: int = 0  # DBSIZE


@dataclass(frozen=True)
class RealStall:
    """A timeline entry as it went. `duration_us`: of the command itself by SLOWLOG, else commandstats, else as the client saw it
    (`duration_from`); `queue_at_end`: requests outstanding when it ended; `drained_after_ms`: from there until at most 3 were,
    -1 if never."""

    event: str
    run: str
    at_s: float
    sent_s: float
    client_us: float
    duration_us: float
    duration_from: str
    queue_at_end: int
    drained_after_ms: float


@dataclass(frozen=True)
class RealRun:
    """`groups` by name; `slowlog` as SLOWLOG GET gives it, newest first: id, duration_us, args; `load` the requests themselves
    (None if redis-benchmark sent them all), `memory` and `files` where they were looked at."""

    groups: dict[str, Measured]
    node: NodeMeasured
    stalls: list[RealStall]
    slowlog: list[dict[str, Any]]
    load: Load | None = field(default=None, repr=False)
    memory: MemorySeen | None = None
    files: FilesSeen | None = None


def group_measured(load: Load, name: str, file: ScenarioFile) -> Measured:
    """Group `name` of what the generator left."""
    mine = load.of(name)
    group = file.clients[name]
    end_ns = min(group.stop or file.duration, file.duration)
    seconds = max(end_ns - group.start, 1) / S
    answered = (mine.done_ns >= 0) & (mine.done_ns <= file.duration)
    good = answered & ~mine.error
    failed = int((answered & mine.error).sum()) + (int((mine.done_ns < 0).sum()) if load.complete else 0)
    counted = answered & (mine.intended_ns >= file.warmup)
    failures = load.failures[name]
    latency = mine.done_ns - mine.intended_ns
    by_command = {}
    for k, command in enumerate(mine.names):
        of_command = counted & (mine.kind == k)
        if (mine.kind == k).any():
            by_command[command] = {"count": int(of_command.sum()), "latency_us": latency_summary(latency[of_command])}
    return Measured(
        offered_per_s=round(mine.intended_ns.size / seconds, 3), throughput_per_s=round(int(good.sum()) / seconds, 3),
        offered=mine.intended_ns.size, completed=int(good.sum()), failed=failed,
        in_flight=mine.intended_ns.size - int(good.sum()) - failed,
        errors={"timeout": failures["timeouts"], "connection": failures["lost"], "reply": int((answered & mine.error).sum())},
        retries=failures["retried"], connections=max(group.connections, int(np.unique(mine.connection).size)),
        latency_us=latency_summary(latency[counted]), by_command=by_command, late_ns=mine.late_ns,
    )  # fmt: skip


def node_measured(version: str, happened: Sample, seconds: float, keys_end: int = 0) -> NodeMeasured:
    """The server from a difference of samples over a run of `seconds`."""
    stats = {
        name: {"calls": float(calls), "usec": float(us), "usec_per_call": round(us / calls, 3) if calls else 0.0}
        for name, (calls, us) in happened.usec.items()
    }
    commands = max(happened.commands, 1)
    return NodeMeasured(
        version=version, seconds=seconds, cpu_utilisation=round(min(happened.cpu_ns / S / seconds, 1.0), 4),
        cpu_us_per_command=round(happened.cpu_ns / US / commands, 3), commands=happened.commands, reads=happened.reads,
        writes=happened.writes, sleeps=happened.sleeps, commands_per_read=round(happened.commands / max(happened.reads, 1), 4),
        commandstats=stats, steal_ns=happened.steal_ns, queued_ns=happened.queued_ns, stats=happened.stats, keys_end=keys_end,
    )  # fmt: skip


def outstanding(load: Load, at_ns: int) -> int:
    """Requests due by `at_ns` and not answered by then; those never answered are left out."""
    there = load.done_ns >= 0
    return int(((load.intended_ns <= at_ns) & (load.done_ns > at_ns) & there).sum())


def drained_after_ms(load: Load, end_ns: int) -> float:
    """From `end_ns` until at most FEW requests are outstanding; -1 if that never happens."""
    there = load.done_ns >= 0
    arrive, leave = load.intended_ns[there], load.done_ns[there]
    times = np.concatenate([arrive, leave])
    step = np.concatenate([np.ones(arrive.size, dtype=np.int64), -np.ones(leave.size, dtype=np.int64)])
    order = np.argsort(times, kind="stable")
    times, level = times[order], np.cumsum(step[order])
    low = int(np.searchsorted(times, end_ns, side="right"))
    if low > 0 and level[low - 1] <= FEW:
        return 0.0
    calm = np.flatnonzero(level[low:] <= FEW)
    return float(times[low + calm[0]] - end_ns) / MS if calm.size else -1.0
