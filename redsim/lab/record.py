"""What a validation measured, kept as JSON, so that it can be graded again without a server: by a test, or by a newer model.

Holds, for every case and repeat, the measured figures, the drift of the machine, and the evidence of noise; and the profile as
YAML, with the capacity that the rates were made from. The predictions are not in it: they are made again from the scenario, the
profile and the drift, and come out the same on any machine. NOT modelled: latencies one by one; percentiles are what is kept.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from redsim.lab.case import Case
from redsim.lab.grade import Repeat, Row, grade, lateness_of, noise_of
from redsim.lab.predicted import Drift, in_order, predict
from redsim.scenario.errors import ScenarioError
from redsim.scenario.profile import HostProfile

SCHEMA = 1
IN_ORDER = "slowlog_in_order"


@dataclass(frozen=True)
class Shot:
    """One repeat of one case, measured. Shares: `steal` of the machine's CPU time taken from it, `queued` of the time in
    which the server was ready and had no CPU, `moved` of the yardstick from before to after."""

    measured: dict[str, float]
    slowlog: list[str]
    utilisation: float
    drift: Drift
    steal: float = 0.0
    queued: float = 0.0
    moved: float = 0.0
    late_p99_us: float = 0.0


@dataclass(frozen=True)
class Record:
    """A whole validation, measured: `meta` is the machine and the versions, label -> text; shots by case."""

    meta: dict[str, str]
    capacity_per_s: float
    profile: str  # YAML text, or the name of a shipped one
    shots: dict[str, list[Shot]] = field(default_factory=dict)

    def text(self) -> str:
        """JSON, a line per repeat."""
        lines = []
        for name, shots in self.shots.items():
            inner = ",\n    ".join(json.dumps(_plain(asdict(shot)), ensure_ascii=False) for shot in shots)
            lines.append(f"  {json.dumps(name)}: [\n    {inner}\n  ]")
        head = {"schema": SCHEMA, "meta": self.meta, "capacity_per_s": self.capacity_per_s, "profile": self.profile}
        body = ",\n".join(lines)
        return json.dumps(head, ensure_ascii=False, indent=1)[:-2] + f',\n "shots": {{\n{body}\n }}\n}}\n'


def read_record(path: Path) -> Record:
    """The record of a file; ScenarioError if it is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        shots = {name: [Shot(**{**row, "drift": Drift(**row["drift"])}) for row in rows] for name, rows in data["shots"].items()}
        return Record(data["meta"], float(data["capacity_per_s"]), data["profile"], shots)
    except OSError as error:
        raise ScenarioError(
            f"{path}: cannot be read ({error.strerror}); give the record of a `redsim validate --record`"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ScenarioError(f"{path}: is not the record of a validation ({error}); make one with --record") from None


def repeats_of(case: Case, shots: Sequence[Shot], capacity_per_s: float, profile: HostProfile) -> list[Repeat]:
    """Each measured repeat with the prediction made for it, at the speed that the machine had then."""
    scenario = case.at(capacity_per_s)
    made = []
    for shot in shots:
        side = predict(scenario, case.group, shot.drift.on(profile))
        measured = {**shot.measured, IN_ORDER: float(len(shot.slowlog))}
        predicted = {**_zeros(case.file.quantities), **side.figures}
        predicted[IN_ORDER] = float(in_order(tuple(shot.slowlog), side.slowlog))
        late = lateness_of(shot.late_p99_us, measured.get("p99_us", math.nan))
        made.append(Repeat(measured, predicted, shot.utilisation, noise_of(steal=shot.steal, drift=shot.moved), late))
    return made


def _zeros(quantities: Sequence[str]) -> dict[str, float]:
    """A command that the model never ran has 0 calls."""
    return {quantity: 0.0 for quantity in quantities if quantity.startswith("calls ")}


def grade_record(record: Record, cases: Sequence[Case], profile: HostProfile) -> list[Row]:
    """All rows, in the order of the cases and their quantities; cases without a shot give none."""
    rows = []
    for case in cases:
        if case.name not in record.shots:
            continue
        repeats = repeats_of(case, record.shots[case.name], record.capacity_per_s, profile)
        rows += [grade(case.name, q, repeats, fitted=case.file.fitted, kind=case.kind) for q in case.file.quantities]
    return rows


def _plain(value: Any) -> Any:
    """Floats at six significant figures: nothing is measured better."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value
