"""How much memory a server needs, and the maxmemory that fits a box: `redsim plan memory scenario.yaml --box 16gb`.

    the scenario as it is, several seeds, a BGSAVE and a rewrite in it  ->  peak of RSS + copied pages + page tables
    the same with fewer or more keys  ->  peak against used_memory, a line  ->  the maxmemory whose peak is the box less a reserve

A BGSAVE and, with an AOF, a BGREWRITEAOF behind it are sent unless the scenario's own timeline sends one: Redis lets one child
live at a time (hasActiveChildProcess), so that the rewrite waits for the save; the peak is that of both, one after the other.
Why a line: while a child lives each page is copied once at most, the child lives in proportion to the keys, and so does the
number of pages; the share that is copied is the same at any size for the same writes. The maxmemory found is simulated once
more if that many keys are not too many; where they are, the report says that it is an extrapolation.
The upper end is where a further run lies with the stated confidence (Student's t over the seeds).
Differs: maxmemory counts used_memory without the AOF buffer and replicas' buffers (freeMemoryGetNotCountedMemory).
Not modelled: memory that other processes of the box use beyond the reserve; the page cache, which gives way.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from redsim.run import engine
from redsim.run.confidence import one_more_below
from redsim.run.processes import each
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.scenario.schema import TimelineEntry
from redsim.units import MIB, MS, S, memory_bytes, say_bytes, say_ns

__all__ = ["MemoryPlan", "plan_memory"]

KEYS_MAX = 10_000_000  # as many are simulated, not more
SAMPLES = 200  # of memory.csv in a run
WINDOW_MIN_NS = 10 * MS
RESERVE = 0.05  # of the box, for the system itself: a guess
SMALLER = 0.5  # the second size that the line goes through, where the box does not ask for a larger one
ENOUGH_BYTES = 1 << 50  # what is needed is asked, not what is there
LONGER = 1.3  # than a child takes in proportion to the keys, a run with more of them
FORKS = ("BGSAVE", "BGREWRITEAOF")
PARTS = ("used_memory_bytes", "used_memory_rss_bytes", "cow_bytes", "page_tables_bytes", "aof_buffer_bytes")
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Peak:
    """The worst moment of one run: bytes by PARTS there, `total_bytes` of RSS, copies and page tables, used_memory's own peak."""

    keys: int
    seed: int
    total_bytes: int
    used_bytes: int
    at_s: float
    parts: dict[str, int]
    is_child_there: bool  # a child was alive there
    outlived: bool  # one was still at work when the run ended
    until_s: float  # when the last one is done, or would have been
    refused: str = ""  # a fork that failed, and why


@dataclass(frozen=True)
class MemoryPlan:
    """What came of it. `rows`: a row per run; `slope`, `base_bytes`: peak = base + slope x used_memory (upper end);
    `maxmemory_bytes` is None where even no keys would not fit."""

    scenario: str
    node: str
    box_bytes: int
    reserve_bytes: int
    confidence: float
    rows: pd.DataFrame
    mean_bytes: float
    upper_bytes: float
    base_bytes: float
    slope: float
    maxmemory_bytes: int | None
    checked_bytes: int | None  # the peak simulated at that maxmemory; None: an extrapolation
    notes: Sequence[str] = field(default_factory=tuple)
    guesses: Sequence[str] = field(default_factory=tuple)

    @property
    def fits(self) -> bool:
        """Whether the scenario as it is fits the box."""
        return self.upper_bytes <= self.box_bytes - self.reserve_bytes

    def lines_to_paste(self) -> list[str]:
        """redis.conf and sysctl lines."""
        if self.maxmemory_bytes is None:
            return []
        return [f"maxmemory {self.maxmemory_bytes // MIB}mb", "# sysctl: vm.overcommit_memory = 1"]


def plan_memory(
    scenario: Scenario, *, box: str | int | None = None, repeats: int = 5, reserve: float = RESERVE, processes: int = 1,
    progress: Progress = lambda what, share: None,
) -> MemoryPlan:  # fmt: skip
    """Peak memory of the scenario's one node, and the maxmemory for a machine of `box` (`16gb`, or bytes; default: the
    host's memory).

    `repeats` seeds from the scenario's on, at least 2; `reserve` of the box is left alone. ScenarioError for a scenario that
    has no keys to scale, or a number out of range.
    """
    if repeats < 2:
        raise ScenarioError(f"--repeats {repeats}: a spread needs 2 runs at least")
    if not 0 <= reserve < 1:
        raise ScenarioError(f"--reserve {reserve:g}: a share of the box, from 0 to less than 1")
    node = next(iter(scenario.file.nodes))
    host = scenario.file.nodes[node].host
    whole = _bytes(box) or scenario.file.hosts[host].memory or scenario.profiles[host].memory_bytes
    room = round(whole * (1 - reserve))
    if not sum(data.keys for data in scenario.file.datasets.values()):
        raise ScenarioError(
            f"{scenario.where('datasets')}: the scenario has no keys, so there is nothing to plan for; add a data set"
        )
    ready, notes = prepared(scenario, node)
    runs = _Runs(ready, node, processes, progress, 2 * repeats + 1)
    as_is = runs.at(1.0, repeats)
    if any(peak.outlived for peak in as_is):
        notes.append(f"runs were made longer than {say_ns(ready.file.duration)}, for the child to end")
        runs.done.clear()
        as_is = runs.at(1.0, repeats)
    scale = _second_size(ready, as_is, room)
    other = runs.at(scale, repeats)
    (used, upper), (used_2, _) = (_middle(as_is), _middle(other))
    base, slope = _line(_middle(as_is), _middle(other))
    found = math.floor((room - base) / slope / MIB) * MIB if slope > 0 and room - base > slope * MIB else None
    checked = None
    if found is not None:
        factor = _factor(used, used_2, scale, found)
        if factor > 0 and _keys(ready, factor) <= KEYS_MAX:
            checked = max(peak.total_bytes for peak in runs.at(factor, 1))
        else:
            notes.append(f"maxmemory {say_bytes(found)} was not simulated: more than {KEYS_MAX:,} keys; it lies on the line")
    rows = pd.DataFrame([_row(peak) for peak in runs.done])
    notes += _told(as_is + other, scenario, node)
    return MemoryPlan(
        scenario.name, node, whole, whole - room, 0.95, rows, statistics.fmean(peak.total_bytes for peak in as_is), upper,
        base, slope, found, checked, tuple(notes), tuple(runs.guesses),
    )  # fmt: skip


def _bytes(box: str | int | None) -> int:
    try:
        return memory_bytes(box) if box is not None else 0
    except ValueError as error:
        raise ScenarioError(f"--box {box}: {error}") from None


def _line(one: tuple[float, float], two: tuple[float, float]) -> tuple[float, float]:
    """(base, slope) of the line through two (used_memory, upper end of the peak)."""
    (used, upper), (used_2, upper_2) = one, two
    slope = (upper_2 - upper) / (used_2 - used) if used_2 != used else 1.0
    return upper - slope * used, slope


def prepared(scenario: Scenario, node: str) -> tuple[Scenario, list[str]]:
    """The scenario with fine samples, memory enough that no fork is refused and nobody killed, and, unless it sends one itself,
    a BGSAVE after the warm-up and a rewrite behind it."""
    file, notes = scenario.file, []
    window = max(file.duration // SAMPLES // MS * MS, WINDOW_MIN_NS)
    update: dict[str, Any] = {"window": min(window, file.window) if file.window else window}
    name = file.nodes[node].host
    update["hosts"] = {**file.hosts, name: file.hosts[name].model_copy(update={"memory": ENOUGH_BYTES})}
    sent = {entry.run.split()[0].upper() for _, entry in file.commands_at}
    if not sent & set(FORKS):
        at = max(file.warmup, file.duration // 10)
        runs = ["BGSAVE", *(["BGREWRITEAOF"] if scenario.confs[node].get("appendonly") else [])]
        entries = [
            TimelineEntry.model_validate({"at": f"{at + i * MS}ns", "run": run, "node": node}) for i, run in enumerate(runs)
        ]
        update["timeline"] = [*file.timeline, *entries]
        notes.append(f"{' and '.join(runs)} sent at {at / 1e9:g} s: the scenario itself sends none")
    return replace(scenario, file=file.model_copy(update=update)), notes


def scaled(scenario: Scenario, factor: float, until_ns: int = 0) -> Scenario:
    """The same with so many times the keys in each data set, 1 at least, and not shorter than `until_ns`."""
    data = {
        name: one.model_copy(update={"keys": max(round(one.keys * factor), 1)}) for name, one in scenario.file.datasets.items()
    }
    update = {"datasets": data, "duration": max(scenario.file.duration, until_ns)}
    return replace(scenario, file=scenario.file.model_copy(update=update))


def peak_of(scenario: Scenario, node: str) -> tuple[Peak, list[str]]:
    """One run's worst moment, and the guesses it leaned on."""
    result = engine.run(scenario)
    mine = result.memory[result.memory["node"] == node]
    told = result.summary["nodes"][node]
    if mine.empty:
        raise ScenarioError(f"{scenario.where('duration')}: the run is too short for a sample of its memory; make it longer")
    total = mine["used_memory_rss_bytes"] + mine["cow_bytes"] + mine["page_tables_bytes"]
    worst = mine.iloc[int(total.to_numpy().argmax())]
    children = told.get("children", [])
    peak = Peak(
        _keys(scenario, 1.0), scenario.file.seed, int(total.max()), int(told["used_memory_bytes"]["peak"]),
        float(worst["time_s"]), {name: int(worst[name]) for name in PARTS},
        is_child_there=int(worst["child_rss_bytes"]) > 0,
        outlived=any(child["noticed_s"] is None for child in children),
        until_s=max((child["at_s"] + (child["took_s"] or 0.0) for child in children), default=0.0),
        refused="; ".join(sorted({child["status"] for child in children} - {"ok", "at work"})),
    )  # fmt: skip
    return peak, [f"{name}: {says}" for name, says in zip(result.guesses["name"], result.guesses["says"], strict=True)]


def _peak_of(given: tuple[Scenario, str]) -> tuple[Peak, list[str]]:
    return peak_of(*given)


@dataclass
class _Runs:
    """Runs at several sizes, in several processes where that is asked for."""

    scenario: Scenario
    node: str
    processes: int
    progress: Progress
    planned: int
    done: list[Peak] = field(default_factory=list)
    guesses: list[str] = field(default_factory=list)
    until_s: float = 0.0  # when the last child of a run at the scenario's own size was done

    def at(self, factor: float, repeats: int) -> list[Peak]:
        """The peaks with so many times the keys, a seed each."""
        there = scaled(self.scenario, factor, round(LONGER * factor * self.until_s * S))
        todo = [(there.with_seed(there.file.seed + i), self.node) for i in range(repeats)]
        found: list[Peak] = []
        for peak, guesses in each(_peak_of, todo, self.processes):
            self._note(found, peak, guesses)
        if factor == 1:
            self.until_s = max(peak.until_s for peak in found)
        return found

    def _note(self, found: list[Peak], peak: Peak, guesses: list[str]) -> None:
        found.append(peak)
        self.done.append(peak)
        self.guesses += [line for line in guesses if line not in self.guesses]
        self.progress(f"{peak.keys:,} keys, seed {peak.seed}", min(len(self.done) / self.planned, 1.0))


def _middle(peaks: Sequence[Peak]) -> tuple[float, float]:
    """(used_memory's mean peak, the upper end of the totals)."""
    return statistics.fmean(peak.used_bytes for peak in peaks), one_more_below([peak.total_bytes for peak in peaks])


def _second_size(scenario: Scenario, peaks: Sequence[Peak], room: int) -> float:
    """The other size: towards what fills the box, within KEYS_MAX, and far enough from 1 for a line."""
    wanted = room / max(statistics.fmean(peak.total_bytes for peak in peaks), 1)
    most = KEYS_MAX / _keys(scenario, 1.0)
    factor = min(wanted, most)
    return factor if factor < 1 / 1.3 or factor > 1.3 else SMALLER


def _factor(used: float, used_2: float, scale: float, wanted: float) -> float:
    """How many times the keys take `wanted` bytes of used_memory, on the line through both sizes."""
    per_factor = (used_2 - used) / (scale - 1)
    return 1 + (wanted - used) / per_factor if per_factor else 0.0


def _keys(scenario: Scenario, factor: float) -> int:
    return sum(max(round(data.keys * factor), 1) for data in scenario.file.datasets.values())


def _row(peak: Peak) -> dict[str, Any]:
    flat = {"keys": peak.keys, "seed": peak.seed, "total_bytes": peak.total_bytes, "used_memory_peak_bytes": peak.used_bytes}
    return {**flat, "at_s": peak.at_s, **peak.parts, "child": peak.is_child_there}


def _told(peaks: Sequence[Peak], scenario: Scenario, node: str) -> list[str]:
    """What a reader of the plan must know besides."""
    notes = []
    if any(peak.outlived for peak in peaks):
        notes.append(
            "a child was still at work when a run ended: more pages would have been copied; give the scenario a longer duration"
        )
    if not any(peak.is_child_there for peak in peaks):
        notes.append("no child was alive at any peak")
    notes += sorted({f"a fork failed ({peak.refused})" for peak in peaks if peak.refused})
    limit = int(scenario.confs[node].get("maxmemory"))
    if limit:
        notes.append(
            f"the scenario's own maxmemory {say_bytes(limit)} was in force and held the"
            f" keys down; plan without it: --set nodes.{node}.conf.maxmemory=0"
        )
    return notes
