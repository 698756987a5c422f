"""What a validation measured, kept as JSON, so that it can be graded again without a server: by a test, or by a newer model.

Holds, for every case and repeat, the measured figures, the drift of the machine, and the evidence of noise; and the profile as
YAML, with the capacity that the rates were made from. The predictions are not in it: they are made again from the scenario, the
profile and the drift, and come out the same on any machine.
NOT modelled: latencies one by one; percentiles are what is kept.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from redsim.lab.case import Case
from redsim.lab.durability_predicted import predict_files
from redsim.lab.grade import Repeat, Row, grade, lateness_of, noise_of
from redsim.lab.memory_predicted import EXACT, predict_memory
from redsim.lab.memory_twin import KeySeen
from redsim.lab.predicted import Drift, Side, in_order, predict
from redsim.lab.replication_predicted import predict_replication
from redsim.lab.sentinel_lines import FailoverSeen
from redsim.lab.sentinel_predicted import predict_failover
from redsim.lab.yardstick import AROUND, Mark, drift, reference
from redsim.scenario.errors import ScenarioError
from redsim.scenario.profile import HostProfile

SCHEMA = 1
IN_ORDER = "slowlog_in_order"


@dataclass(frozen=True)
class Shot:
    """One repeat of one case, measured, between the yardstick's readings `turn` and `turn` + 1 of the record.

    Shares: `steal` of the machine's CPU time taken from it, `queued` of the time in which the server was ready and had no CPU.
    `keys`: (data set, index, OBJECT ENCODING, MEMORY USAGE SAMPLES 0) of those looked at.
    `orders`: of the events of a failover, the leader's first, then the other Sentinels'.
    """

    measured: dict[str, float]
    slowlog: list[str]
    utilisation: float
    turn: int
    steal: float = 0.0
    queued: float = 0.0
    late_p99_us: float = 0.0
    keys: list[list[Any]] = field(default_factory=list)
    orders: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True)
class Record:
    """A whole validation, measured: `meta` is the machine and the versions, label -> text; marks in time order; shots by case."""

    meta: dict[str, str]
    capacity_per_s: float
    open_per_s: float  # the rate of the yardstick's open load
    profile: str  # YAML text
    marks: list[Mark] = field(default_factory=list)
    shots: dict[str, list[Shot]] = field(default_factory=dict)
    medians: dict[str, float] = field(default_factory=dict)  # quantity -> median error in per cent, as published with it

    def drift(self, shot: Shot, against: Mark) -> Drift:
        """The machine's speed around a shot: the median of the readings AROUND on each side, of the same session: another day's
        machine is another one."""
        starts = self.session_starts()
        begin = max(start for start in starts if start <= shot.turn)
        end = min((start for start in starts if start > shot.turn), default=len(self.marks))
        return drift(self.marks[max(shot.turn + 1 - AROUND, begin) : min(shot.turn + 1 + AROUND, end)], against)

    def session_starts(self) -> list[int]:
        """Readings that no shot lies before: each session begins with one."""
        behind = {shot.turn + 1 for shots in self.shots.values() for shot in shots}
        return [turn for turn in range(len(self.marks)) if turn not in behind]

    def moved(self, shot: Shot) -> float:
        """How far the yardstick moved during a shot, as a share."""
        return drift(self.marks[shot.turn + 1 : shot.turn + 2], self.marks[shot.turn]).cpu - 1

    def text(self) -> str:
        """JSON, a line per repeat."""
        lines = []
        for name, shots in self.shots.items():
            inner = ",\n    ".join(json.dumps(_of_shot(shot), ensure_ascii=False) for shot in shots)
            lines.append(f"  {json.dumps(name)}: [\n    {inner}\n  ]")
        marks = ",\n    ".join(json.dumps(_plain(asdict(mark))) for mark in self.marks)
        head = {"schema": SCHEMA, "meta": self.meta, "capacity_per_s": self.capacity_per_s}
        head |= {"open_per_s": self.open_per_s, "medians": self.medians}
        head["profile"] = self.profile
        body = ",\n".join(lines)
        return (
            json.dumps(head, ensure_ascii=False, indent=1)[:-2]
            + f',\n "marks": [\n    {marks}\n ],\n "shots": {{\n{body}\n }}\n}}\n'
        )


def write_record(record: Record, path: Path) -> None:
    """Write it beside its place and rename it: stopping half-way leaves the former one."""
    waiting = path.with_name(f".{path.name}.tmp")
    waiting.write_text(record.text(), encoding="utf-8")
    waiting.replace(path)


def read_record(path: Path) -> Record:
    """The record of a file; ScenarioError if it is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        shots = {name: [Shot(**row) for row in rows] for name, rows in data["shots"].items()}
        marks = [Mark(**row) for row in data["marks"]]
        return Record(
            data["meta"],
            float(data["capacity_per_s"]),
            float(data["open_per_s"]),
            data["profile"],
            marks,
            shots,
            data.get("medians", {}),
        )
    except OSError as error:
        raise ScenarioError(
            f"{path}: cannot be read ({error.strerror}); give the record of a `redsim validate --record`"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ScenarioError(f"{path}: is not the record of a validation ({error}); make one with --record") from None


def repeats_of(case: Case, record: Record, profile: HostProfile, against: Mark) -> list[Repeat]:
    """Each measured repeat with the prediction made for it, at the speed that the machine had then."""
    made = []
    for shot in record.shots[case.name]:
        at_speed = record.drift(shot, against).on(profile)
        side = predicted_side(case, shot, record.capacity_per_s, at_speed, repeats=len(record.shots[case.name]))
        measured = {**shot.measured, IN_ORDER: float(len(shot.slowlog)), EXACT: float(len(shot.keys))}
        predicted = {**_zeros(case.file.quantities), **side.figures}
        predicted[IN_ORDER] = float(in_order(tuple(shot.slowlog), side.slowlog))
        late = lateness_of(shot.late_p99_us, measured.get("p99_us", math.nan))
        made.append(
            Repeat(
                measured,
                predicted,
                shot.utilisation,
                noise_of(steal=shot.steal, queued=shot.queued, drift=record.moved(shot)),
                late,
            )
        )
    return made


def predicted_side(case: Case, shot: Shot, capacity_per_s: float, profile: HostProfile, *, repeats: int = 1) -> Side:
    """What the model says of the case on that profile; `repeats`: how many runs a distribution is made of."""
    scenario = case.at(capacity_per_s)
    if case.is_memory:
        return predict_memory(scenario, case.group, profile, [KeySeen(*key) for key in shot.keys])
    if case.is_durability:
        return predict_files(scenario, case.group, profile)
    if case.is_replication:
        return predict_replication(scenario, case.group, profile)
    if case.is_sentinel:
        leader, *observers = [tuple(order) for order in shot.orders] or [()]
        seen = FailoverSeen({}, 0, leader, tuple(observers))
        return predict_failover(scenario, case.group, profile, repeats, seen)
    return predict(scenario, case.group, profile)


def _zeros(quantities: Sequence[str]) -> dict[str, float]:
    """A command that the model never ran has 0 calls."""
    return {quantity: 0.0 for quantity in quantities if quantity.startswith("calls ")}


def grade_record(record: Record, cases: Sequence[Case], profile: HostProfile) -> list[Row]:
    """All rows, in the order of the cases and their quantities; cases without a shot give none."""
    rows = []
    against = reference(profile, record.open_per_s, record.marks)
    for case in cases:
        if case.name not in record.shots:
            continue
        repeats = repeats_of(case, record, profile, against)
        rows += [grade(case.name, q, repeats, fitted=case.file.fitted, kind=case.kind) for q in case.file.quantities]
    return rows


def _of_shot(shot: Shot) -> Any:
    """Without orders where there is no failover: what was recorded before there were any stays as it is."""
    plain = _plain(asdict(shot))
    return plain if shot.orders else {key: value for key, value in plain.items() if key != "orders"}


def _plain(value: Any) -> Any:
    """Floats at six significant figures: nothing is measured better. What was not measured (nan) is left out."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if not _is_nan(inner)}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
