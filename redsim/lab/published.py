"""Published tables about Redis and Valkey, and redsim on the same load: one fitted constant per host, the rest predicted.

Each file of `published/` is a table of one source: the load of each row, what was measured there, and, where redsim misses it,
the cause. The host's profile is the shipped `default` at another speed; that speed is fitted on the row marked `fitted` and on
nothing else, so that every other row of the table is a prediction. Differs from a case of `redsim validate`: nobody can measure
these again, so that the spread is that of the kind of source (SPREAD_PCT) and not of repeats. NOT modelled: Redis' versions; a
table of 2.4 is held against the costs of 7.0, which its causes say where it shows.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from redsim.lab.grade import COLUMNS, INCONCLUSIVE, MISS, PASS, error_pct, fault_of, quantity_of
from redsim.redis.commands import COMMANDS
from redsim.run import engine
from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.load import Scenario
from redsim.scenario.profile import HostProfile, load_profile, scaled
from redsim.scenario.source import Keys, Source, dotted, parse_source

SPREAD_PCT = {"A": 5.0, "figure": 5.0, "B": 15.0}  # how far such a source may be off itself, per cent
ROUNDS = 12  # answers per connection and place in the pipeline that a run waits for, so that its start does not count
SECONDS_MIN, SECONDS_MAX = 0.2, 20.0
SPEED_LOW, SPEED_HIGH = 0.05, 20.0
FIT_STEPS = 24
Progress = Callable[[str], None]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Load(_Shape):
    """What the source sent: redis-benchmark's own options where it was redis-benchmark."""

    command: str = "GET"
    connections: PositiveInt = 50
    pipeline: PositiveInt = 1
    keys: PositiveInt = 1  # redis-benchmark without -r uses one
    value_bytes: PositiveInt = 3
    key_type: str | None = None  # None: the first type that the command takes
    elements: PositiveInt = 1  # per key, for aggregates
    keys_per_command: PositiveInt = 1
    start: int = 0
    stop: int = -1
    count: PositiveInt = 10
    rtt: str | None = None
    bandwidth: str | None = None
    station: Literal["redis-benchmark", "loop", "ample"] = "redis-benchmark"
    threads: PositiveInt = 1
    run: str | None = None  # instead of all that: one command, sent once
    seconds: float | None = Field(default=None, gt=0)


class Row(_Shape):
    """A line of the table: what differs from the table's load, what was measured by quantity, and what redsim lacks for it."""

    case: str
    load: dict[str, Any] = Field(default_factory=dict)
    measured: dict[str, float] = Field(min_length=1)
    grade: Literal["A", "B", "figure"] | None = None
    fitted: str = ""  # the quantity that the host's speed is fitted on
    profile: str | None = None  # instead of the table's
    missing: str = ""  # a known miss: which of the table's causes
    within_pct: float | None = Field(default=None, gt=0)  # what a known miss may be off by at most


class Table(_Shape):
    """One published table: its host as a profile, its load and its rows."""

    table: str
    says: str
    source: str
    ref: str
    profile: str
    grade: Literal["A", "B", "figure"]
    load: dict[str, Any] = Field(default_factory=dict)
    causes: dict[str, str] = Field(default_factory=dict)  # what the model lacks, or what differs in the source
    rows: list[Row] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_constant(self) -> "Table":
        fitted = [row.case for row in self.rows if row.fitted]
        if len(fitted) > 1:
            raise ValueError(f"rows {', '.join(fitted)} are all fitted; a host has one constant")
        for row in self.rows:
            if row.missing and row.missing not in self.causes:
                raise ValueError(f"row {row.case} is missing {row.missing!r}, which is not among the causes")
            if row.fitted and row.fitted not in row.measured:
                raise ValueError(f"row {row.case} is fitted on {row.fitted}, which it has not measured")
        return self

    def load_of(self, row: Row) -> Load:
        """The load of a row: the table's, with what the row says of its own."""
        return Load.model_validate({**self.load, **row.load})


@dataclass(frozen=True)
class Answer:
    """What one run says: values by quantity, and the main thread's utilisation (0..1)."""

    predicted: dict[str, float]
    utilisation: float


def tables() -> list[Table]:
    """Every published table that is shipped, by name. ScenarioError for a broken file."""
    folder = files("redsim.lab") / "published"
    found = sorted((p for p in folder.iterdir() if p.name.endswith(".yaml")), key=lambda p: p.name)
    return [read_table(p.read_text(encoding="utf-8"), p.name) for p in found]


def read_table(text: str, where: str) -> Table:
    """One table from its text; ScenarioError with file, line, key and cure if it is broken."""
    source = parse_source(text, where, start="table:, says:, source:, ref:, profile:, grade:, rows:")
    try:
        table = Table.model_validate(source.data)
    except ValidationError as error:
        raise ScenarioError(_say(error, source, ())) from None
    for i, row in enumerate(table.rows):
        place = source.where("rows", i)
        try:
            command = table.load_of(row).command
        except ValidationError as error:
            raise ScenarioError(_say(error, source, ("rows", i, "load"))) from None
        if command not in COMMANDS:
            raise ScenarioError(f"{place}: redsim does not model {command!r}; `redsim list commands` shows what it does")
        for quantity in row.measured:
            fault = fault_of(quantity)
            if fault:
                raise ScenarioError(f"{place}: {quantity!r} {fault}")
    return table


def _say(error: ValidationError, source: Source, prefix: Keys) -> str:
    """The first fault in one sentence; a key that does not exist goes before one that is missing."""
    first = min(error.errors(include_url=False), key=lambda fault: fault["type"] != "extra_forbidden")
    path = (*prefix, *(part for part in first["loc"] if isinstance(part, (str, int))))
    place = f"{source.where(*path)}: {dotted(path)}"
    if first["type"] == "extra_forbidden":
        shape = Load if "load" in path else Row if path[0] == "rows" else Table
        cure = did_you_mean(str(path[-1]), shape.model_fields)
        return f"{place} is not a key here{cure or '; the keys here are ' + ', '.join(shape.model_fields)}"
    says = str(first.get("ctx", {}).get("error", first["msg"]))
    return f"{place}: {says[0].lower()}{says[1:]}; compare it with the other tables in lab/published"


# ---- a row as a scenario --------------------------------------------------------------------------------------


def scenario_of(table: Table, row: Row) -> Scenario:
    """The row's load as a scenario: one group `published` on the table's host, or one command sent once."""
    load = table.load_of(row)
    key_type = load.key_type or next(iter(COMMANDS[load.command].types), "string")
    data: dict[str, Any] = {
        "question": f"How does redsim reproduce {table.table}, {row.case}?",
        "duration": f"{_seconds(row, load) * 1e9:.0f}ns",
        "hosts": {"box": {"profile": row.profile or table.profile}},
        "nodes": {"main": {"host": "box", "conf": f'save ""\nmaxclients {max(10_000, load.connections + 100)}'}},
        "datasets": {
            "keys": {"node": "main", "keys": load.keys, "type": key_type, "value_bytes": load.value_bytes,
                     "elements": load.elements}
        },
    }  # fmt: skip
    if load.run is not None:
        data["timeline"] = [{"at": "100ms", "node": "main", "run": load.run}]
    else:
        data["clients"] = {"published": _group(load)}
    return Scenario.from_text(json.dumps(data), name=f"{table.table}, {row.case}")


def _group(load: Load) -> dict[str, Any]:
    """The clients of a load, as a scenario writes them."""
    use = {"weight": 1, "keys": load.keys_per_command, "count": load.count, "start": load.start, "stop": load.stop}
    group: dict[str, Any] = {
        "node": "main", "connections": load.connections, "pipeline": load.pipeline, "arrivals": {"closed": {}},
        "commands": {load.command: use}, "keys": {"dataset": "keys"}, "station": {"kind": load.station, "threads": load.threads},
    }  # fmt: skip
    link = {"rtt": load.rtt, "bandwidth": load.bandwidth}
    return group | {name: value for name, value in link.items() if value is not None}


def _seconds(row: Row, load: Load) -> float:
    if load.seconds is not None:
        return load.seconds
    rate = row.measured.get("throughput_per_s", 1000.0)
    return min(max(ROUNDS * load.connections * load.pipeline / rate, SECONDS_MIN), SECONDS_MAX)


def predict(table: Table, row: Row, profile: HostProfile | None = None) -> Answer:
    """redsim's figures for the row's quantities, with the table's profile or the one given."""
    scenario = scenario_of(table, row)
    if profile is not None:
        scenario.profiles["box"] = profile
    summary = engine.run(scenario).summary
    return Answer({quantity: _value(summary, quantity) for quantity in row.measured}, summary["nodes"]["main"]["cpu_utilisation"])


def _value(summary: dict[str, Any], quantity: str) -> float:
    word, _, command = quantity.partition(" ")
    if word == "usec_per_call":
        return float(summary["nodes"]["main"]["info"]["commandstats"][f"cmdstat_{command.lower()}"]["usec_per_call"])
    if word == "throughput_per_s":
        return float(summary["clients"]["published"]["throughput_per_s"])
    if word in ("p50_us", "p90_us", "p99_us", "p999_us"):
        return float(summary["clients"]["published"]["latency_us"][word.removesuffix("_us")])
    raise ScenarioError(f"a published table cannot ask for {quantity!r}; give throughput_per_s, a percentile or usec_per_call")


# ---- the one constant of a host -------------------------------------------------------------------------------


def fitted_row(table: Table) -> Row | None:
    """The row that the host's speed is fitted on; None if the table is held against a profile as it is."""
    return next((row for row in table.rows if row.fitted), None)


def fit_speed(table: Table) -> float:
    """Speed of the table's host relative to the profile it is based on, to 0.1 %, by bisection with redsim in the loop."""
    row = fitted_row(table)
    if row is None:
        raise ScenarioError(f"{table.table}: no row is marked fitted, so that there is no speed to fit")
    base = load_profile(load_profile(table.profile, Path()).based_on, Path())
    wanted = row.measured[row.fitted]
    rises = row.fitted == "throughput_per_s"
    low, high = SPEED_LOW, SPEED_HIGH
    for _ in range(FIT_STEPS):
        middle = math.sqrt(low * high)
        if high / low < 1.0005:
            break
        found = predict(table, row, scaled(base, 1 / middle)).predicted[row.fitted]
        if (found < wanted) == rises:
            low = middle
        else:
            high = middle
    return round(math.sqrt(low * high), 4)


# ---- the rows -------------------------------------------------------------------------------------------------


def rows(only: Sequence[str] = (), progress: Progress | None = None) -> pd.DataFrame:
    """Every row of every table (or of those named in `only`): the columns of cases.csv, then `source`, `cause` and `grade`."""
    chosen = [table for table in tables() if not only or table.table in only]
    unknown = set(only) - {table.table for table in chosen}
    if unknown:
        raise ScenarioError(f"no published table {sorted(unknown)[0]!r}; there are {', '.join(t.table for t in tables())}")
    lines: list[dict[str, Any]] = []
    for table in chosen:
        for row in table.rows:
            if progress is not None:
                progress(f"{table.table}, {row.case}")
            lines += _lines(table, row)
    return pd.DataFrame(lines, columns=[*COLUMNS, "source", "cause", "grade"])


def _lines(table: Table, row: Row) -> list[dict[str, Any]]:
    answer = _answer(table.table, row.case)
    lines = []
    for quantity, measured in row.measured.items():
        predicted = answer.predicted[quantity]
        error = error_pct(measured, predicted)
        grade = row.grade or table.grade
        spread = SPREAD_PCT[grade]
        bar = quantity_of(quantity).bar(answer.utilisation)
        lines.append({
            "case": f"{table.table}: {row.case}", "quantity": quantity, "utilisation": round(answer.utilisation, 3),
            "measured": measured, "measured_spread": spread, "predicted": round(predicted, 3), "error_pct": round(error, 2),
            "fitted": quantity == row.fitted, "verdict": verdict(error, bar, spread), "source": table.source,
            "cause": table.causes.get(row.missing, ""), "grade": grade,
        })  # fmt: skip
    return lines


@cache
def _answer(table: str, case: str) -> Answer:
    """One run per row and process: the pack, its page and the tests ask for the same ones."""
    (one,) = [t for t in tables() if t.table == table]
    (row,) = [r for r in one.rows if r.case == case]
    return predict(one, row)


def verdict(error: float, bar: float, spread: float) -> str:
    """pass: within the bar; miss: beyond it by more than the source's own spread; inconclusive between, or if that spread is
    wider than the bar. All in per cent."""
    if abs(error) > bar + spread:
        return MISS
    return PASS if abs(error) <= bar and spread <= bar else INCONCLUSIVE
