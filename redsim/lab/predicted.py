"""The model's side of a case: redsim run on the scenario, its figures under the names of the quantities.

As redsim.run.engine.run, with a finer window where the draining of a queue is asked for, because that is read off the windows'
counts. NOT modelled: the load generator's own lateness; its thread spins and is taken to be never late.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import simpy

from redsim.dataplane import layout as dp
from redsim.lab.fit import spinning
from redsim.redis.server import Server
from redsim.run.build import Built, build
from redsim.run.checks import check_conservation
from redsim.run.server_memory import MemoryGauge
from redsim.run.stats import slowlog_rows
from redsim.run.summary import summary
from redsim.scenario.load import Scenario
from redsim.scenario.profile import Curve, HostProfile, default_profile, scaled
from redsim.scenario.profile_file import Later
from redsim.scenario.schema import ScenarioFile

Ints = npt.NDArray[np.int64]

LOOKED_UP = ("lookup", "value", "expire_del")  # what a single access costs by how much there is
OF_MEMORY = (
    "fork_ns", "fork_ns_per_mib", "huge_fork_ns_per_mib", "page_fault_ns", "cow_fault_ns", "reuse_fault_ns", "huge_split_ns",
    "huge_copy_ns", "rdb_key_ns",
)  # fmt: skip
OF_CPU = ("rdb_byte_ps", "lzf_byte_ps")  # of `later`, as those
DRAIN_WINDOW_NS = 250_000
FEW_OUTSTANDING = 3  # a queue is drained when so many are left


@dataclass(frozen=True)
class Drift:
    """How the machine stood during one repeat, as factors on the profile: CPU costs, and a walk over 100,000 keys (memory).

    `walk_ns`: what that walk took for a key where the factor is 1; 0: not known, then walks become slower as a whole.
    """

    cpu: float = 1.0
    memory: float = 1.0
    walk_ns: float = 0.0

    def on(self, profile: HostProfile) -> HostProfile:
        """The profile at that moment's speed."""
        now = scaled(profile, self.cpu)
        smaller, slower = cache_of(profile, self.walk_ns, self.walk_ns * self.memory / self.cpu)
        if not self.walk_ns:
            smaller, slower = 1.0, self.memory / self.cpu
        walks = {n: walked(c, smaller, slower * self.cpu) for n, c in profile.curves.items() if not c.is_each}
        waits = {n: walked(c, smaller, self.cpu) for n, c in profile.curves.items() if n in LOOKED_UP}
        return replace(now, curves={**now.curves, **walks, **waits}, later=paged(profile, self.cpu, self.memory))


def paged(profile: HostProfile, cpu: float, memory: float) -> dict[str, Later]:
    """`later` at those factors: copying page tables and pages, and coming to each key, are work on memory; writing or reading
    bytes of a file is work of the CPU; what a disk takes is neither."""
    known = {**default_profile().later, **profile.later}
    factors = {**dict.fromkeys(OF_MEMORY, memory), **dict.fromkeys(OF_CPU, cpu)}
    out = {name: _times(known[name], factor) for name, factor in factors.items() if name in known}
    saved, key_ns = profile.later.get("rdb_save_bytes_per_s"), known["rdb_key_ns"].value
    if saved is not None and saved.value and "rdb_byte_ps" not in profile.later:  # of strings of 1000 bytes: keys are in it
        del out["rdb_byte_ps"]
        byte_ps = max(1e12 / saved.value - (key_ns or 0), 0)
        out["rdb_save_bytes_per_s"] = saved.model_copy(update={"value": 1e12 / (byte_ps * cpu + (key_ns or 0) * memory)})
    loaded = profile.later.get("rdb_load_bytes_per_s")
    if loaded is not None:
        out["rdb_load_bytes_per_s"] = _times(loaded, 1 / cpu)
    return {**profile.later, **out}


def _times(number: Later, factor: float) -> Later:
    return number.model_copy(update={"value": (number.value or 0) * factor})


def cache_of(profile: HostProfile, walk_ns: float, walk_now_ns: float) -> tuple[float, float]:
    """(how many times smaller the cache is, what is left as a factor on memory's speed) when a key of a walk that took `walk_ns`
    takes `walk_now_ns`.

    A walk in a cache that others use too is slower because less of it is there, as of a larger database; one that no cache holds
    anyway is not. So the curve KEYS over n keys tells for which n a walk is as slow as it was, and for which as it is; beyond its
    ends memory itself has become slower or faster.
    """
    curve = profile.curves["keys_walk"]
    sizes = np.geomspace(curve.points[0][0], curve.points[-1][0], 200)
    each = np.maximum.accumulate([curve.at(n) for n in sizes])
    was, now = (float(np.clip(ns, each[0], each[-1])) for ns in (walk_ns, walk_now_ns))
    smaller = float(np.exp(np.interp(now, each, np.log(sizes)) - np.interp(was, each, np.log(sizes))))
    left = 1.0 if walk_ns <= 0 else (walk_now_ns / walk_ns) / (now / was)
    return smaller, left


def walked(curve: Curve, smaller: float, factor: float) -> Curve:
    """The curve where the cache is so many times smaller, times `factor`. A few elements cost more for each, for what comes
    before the first: that is no matter of the cache."""
    worse = max if smaller > 1 else min

    def at(n: int) -> float:
        return worse(curve.at(n), curve.at(n * smaller)) * (1 if curve.is_each else n) * factor

    counts = {n for n, _ in curve.points} | {max(round(n / smaller), 1) for n, _ in curve.points}
    return replace(curve, points=tuple((n, round(at(n))) for n in sorted(counts)))


@dataclass(frozen=True)
class Side:
    """Figures by quantity, and the commands in SLOWLOG, oldest first."""

    figures: dict[str, float]
    slowlog: tuple[str, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)


def with_profile(scenario: Scenario, profile: HostProfile) -> Scenario:
    """The scenario on a host with that profile; where our generator sends the load nobody pays for waking it, for it spins."""
    stations = {group.station.kind for group in scenario.file.clients.values()}
    here = profile if "redis-benchmark" in stations else spinning(profile)
    return replace(scenario, profiles=dict.fromkeys(scenario.profiles, here))


def predict(scenario: Scenario, group: str, profile: HostProfile) -> Side:
    """Every quantity that the run has, of that client group and the one node; percentiles in µs."""
    scenario = with_profile(scenario, profile)
    if scenario.file.timeline:
        scenario = replace(scenario, file=_finer(scenario.file))
    built = build(scenario)
    env = simpy.Environment()
    server = Server(env, built.world, scenario.confs[built.node], scenario.profiles[built.host])
    env.process(server.main())
    env.run()
    check_conservation(built, server.world)
    slow = slowlog_rows(built, server.world)
    told = summary(scenario, built, server, MemoryGauge.of(scenario, built.node), "", slow, 1.0)
    figures = figures_of(told["clients"][group], told["nodes"][built.node])
    figures |= _stalls(built, server.world, group)
    return Side(figures, tuple(str(row["args"][0]).upper() for row in reversed(slow)))


def _finer(file: ScenarioFile) -> ScenarioFile:
    return file.model_copy(update={"window": DRAIN_WINDOW_NS})


def figures_of(group: dict[str, Any], node: dict[str, Any]) -> dict[str, float]:
    """Quantities out of a summary's group and node."""
    figures = {f"{name}_us": float(group["latency_us"][name]) for name in ("p50", "p90", "p99", "p999")}
    figures["throughput_per_s"] = float(group["throughput_per_s"])
    figures |= {"timeouts": group["errors"]["timeout"], "retries": group["retries"], "failed": group["failed"]}
    figures["cpu_utilisation"] = node["cpu_utilisation"]
    figures["cpu_us_per_command"] = node["cpu_us_per_command"]
    figures["commands_per_read"] = node["commands"] / max(node["reads"], 1)
    totals: dict[str, list[int]] = {}
    for name, row in node["info"]["commandstats"].items():
        total = totals.setdefault(name.removeprefix("cmdstat_").upper().split(" ")[0], [0, 0])  # as Redis counts DEBUG SLEEP
        total[0] += row["calls"]
        total[1] += row["usec"]
    for command, (calls, usec) in totals.items():
        figures[f"calls {command}"] = calls
        if calls:
            figures[f"usec_per_call {command}"] = usec / calls
    figures["slowlog_entries"] = len(node["slowlog"])
    return figures


def _stalls(built: Built, w: dp.World, group: str) -> dict[str, float]:
    """stall_us, queue_at_end and drained_after_us of the longest command that the timeline sent; {} if none was a stall."""
    rows = w.stalls[: min(int(w.st[dp.STALLS]), dp.STALLS_MAX)]
    sent = {plan.name for plan in built.plans.plans if plan.is_cli}
    mine = rows[[int(k) >= 0 and built.kinds[int(k)].group in sent for k in rows[:, 3]]]
    if not len(mine):
        return {}
    worst = mine[np.argmax(mine[:, 1])]
    start, ns, waiting = int(worst[0]), int(worst[1]), int(worst[4])
    g = [plan.name for plan in built.plans.plans].index(group)
    series = [i for i, (name, _) in enumerate(built.series) if name == group]
    outstanding = np.cumsum(w.offered[:, g]) - np.cumsum(w.heat[:, series, :].sum(axis=(1, 2)))
    found = {"stall_us": ns / 1000}
    window = int(w.st[dp.WINDOW])
    before = int(outstanding[max((start + ns) // window - 1, 0)])  # the ledger does not say when a hiccup fell into the same turn
    found["queue_at_end"] = float(waiting if waiting >= 0 else before)
    return found | drained_after_us(outstanding, window, start + ns)


def drained_after_us(outstanding: Ints, window_ns: int, end_ns: int) -> dict[str, float]:
    """From a stall's end to the first window's end with at most FEW_OUTSTANDING requests left, less half a window; {} if never.

    `outstanding` int64 (windows,): requests sent and not answered at each window's end. Both sides of a case are read so.
    """
    first = end_ns // window_ns
    calm = np.flatnonzero(outstanding[first:] <= FEW_OUTSTANDING)
    if not calm.size:
        return {}
    return {"drained_after_us": max((first + int(calm[0]) + 0.5) * window_ns - end_ns, window_ns / 4) / 1000}


def in_order(measured: tuple[str, ...], predicted: tuple[str, ...]) -> int:
    """How many of the measured commands come in the predicted order: the longest common subsequence."""
    best = np.zeros((len(measured) + 1, len(predicted) + 1), dtype=np.int64)
    for i, one in enumerate(measured):
        for j, other in enumerate(predicted):
            best[i + 1, j + 1] = best[i, j] + 1 if one == other else max(best[i, j + 1], best[i + 1, j])
    return int(best[-1, -1])
