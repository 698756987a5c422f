"""`redsim validate`: every case played against a real server and simulated, round by round, and graded.

    calibrate (or take a profile)  →  capacity  →  repeat × case: yardstick, real run, yardstick  →  predict  →  grade

Rounds go over all cases in turn, so that a drift of the machine falls on all alike; the yardstick before a case is the one after
the case before it. What was measured is a Record; grading it needs no server. Differs from a benchmark: the model is told the
machine's speed of that moment and nothing else.
NOT modelled: cases that need several servers.
"""

import math
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from ruamel.yaml import YAML

import redsim
from redsim.lab import accuracy, published
from redsim.lab.calibrate import calibrate
from redsim.lab.case import CAPACITY_PER_S, Case, load_pack
from redsim.lab.durability_twin import files_figures
from redsim.lab.memory_predicted import last_due_ns
from redsim.lab.memory_twin import MemorySeen, gone_after_ms
from redsim.lab.predicted import DRAIN_WINDOW_NS, drained_after_us
from redsim.lab.profile_out import default_data, machine_facts, write_profile
from redsim.lab.record import Record, Shot, grade_record, read_record, write_record
from redsim.lab.replication_twin import real_replicated_run, replication_figures
from redsim.lab.sentinel_twin import real_failover
from redsim.lab.twin import RealRun, real_run
from redsim.lab.twin_result import NodeMeasured
from redsim.lab.yardstick import Yardstick, apart_pct, middle, open_rate, reference
from redsim.scenario.profile import HostProfile, load_profile, shipped_profiles
from redsim.scenario.source import read_text
from redsim.units import GIB, US, S

Ints = npt.NDArray[np.int64]
Progress = Callable[[float, str], None]  # share done, what is being done
CAPACITY_READINGS = 3
UNKNOWN_CAUSE = "the cause is not known yet"


@dataclass(frozen=True)
class Outcome:
    """What was measured, and its rows graded: a frame with the columns of cases.csv and kind, evidence, name, band, cause."""

    record: Record
    rows: pd.DataFrame
    cases: list[Case]
    profile: HostProfile

    def page_data(self, repeat: str, *, with_published: bool = True) -> dict[str, Any]:
        """What redsim.report.validation.write_validation takes; `repeat` is the shell line that makes it again."""
        cases = pd.DataFrame([(c.name, c.kind, c.file.says) for c in self.cases], columns=["case", "kind", "says"])
        table = published.rows() if with_published else pd.DataFrame(columns=[*accuracy.COLUMNS, "source", "cause", "grade"])
        return {
            "rows": self.rows,
            "by_quantity": accuracy.by_quantity(self.rows),
            "by_utilisation": accuracy.by_utilisation(self.rows),
            "regions": accuracy.regions(self.rows),
            "misses": accuracy.misses(self.rows),
            "headline": accuracy.headline(self.rows),
            "fit": fit_points_of(self.profile),
            "published": table,
            "machine": self.record.meta,
            "noise": noise_of_run(self.record, self.profile),
            "cases": cases,
            "repeat": repeat,
        }


def validate(
    *, profile: str | None = None, only: Sequence[str] = (), quick: bool = False, repeats: int | None = None,
    folder: Path | None = None, resume: Path | None = None, progress: Progress = lambda share, what: None,
) -> Outcome:  # fmt: skip
    """Measure and grade the pack (`folder`, default the shipped one), or the cases that match a pattern of `only`.

    `profile`: a name or a path; None calibrates quickly first. `repeats` instead of each case's own. `resume`: a
    record to go on with, kept up to date. ScenarioError without a redis-server, or for a wrong case file, profile or record.
    """
    cases = load_pack(folder, only=only, quick=quick)
    text = "" if resume is not None and resume.exists() else _profile_text(profile, progress)
    record = measure(cases, text, repeats=repeats, resume=resume, progress=progress)
    return graded(record, cases)


def graded(record: Record, cases: Sequence[Case]) -> Outcome:
    """The record's rows, predicted by the model as it is now; no server is needed."""
    kept = [case for case in cases if case.name in record.shots]
    profile = profile_of(record.profile)
    rows = accuracy.frame(grade_record(record, kept, profile))
    rows["cause"] = _causes(rows, kept)
    return Outcome(record, rows, kept, profile)


def regraded(path: Path, *, profile: str | None = None, only: Sequence[str] = (), folder: Path | None = None) -> Outcome:
    """graded() of a record kept in a file, or of its cases that match a pattern of `only`; with `profile` (a name or a path, of
    the same machine) in the place of the one it was measured with, which may lack what was found out later."""
    record = read_record(path)
    if profile is not None:
        text = _profile_text(profile, lambda share, what: None)
        other = profile_of(text)
        record = replace(record, profile=text, meta={**record.meta, "Profile": f"{other.name}: {other.says}"})
    return graded(record, load_pack(folder, only=only))


def told(outcome: Outcome) -> list[str]:
    """For the command line: rows by verdict, then median and worst error by quantity."""
    head = accuracy.headline(outcome.rows)
    counts = ", ".join(f"{head[verdict]} {verdict}" for verdict in ("pass", "miss", "inconclusive"))
    lines = [f"{head['cases']} cases, {len(outcome.rows)} rows, {head['fitted_rows']} of them fitted; of the others {counts}"]
    for row in accuracy.by_quantity(outcome.rows).itertuples():
        lines.append(
            f"  {row.quantity:20} median error {row.median_error_pct:6.1f} %, bar {row.bar_pct:g} %, two real runs differ by "
            f"{row.noise_pct:.1f} %, worst {row.worst_error_pct:.1f} % ({row.worst_case})"
        )
    return lines


def profile_of(text: str) -> HostProfile:
    """The profile of a YAML text. A cost that was not known when it was written is 0 in it: the model had no such mechanism."""
    data = YAML(typ="safe", pure=True).load(text)
    if "based_on" not in data:
        for part in ("costs", "client"):
            for cost in default_data()[part]:
                data[part].setdefault(cost, {"value": 0, "source": "guess", "says": "not known when this was written"})
    with tempfile.TemporaryDirectory(prefix="redsim-") as name:
        write_profile(data, Path(name) / "profile.yaml")
        return load_profile("profile.yaml", Path(name))


def _profile_text(name: str | None, progress: Progress) -> str:
    if name is None:
        data = calibrate(quick=True, progress=lambda says, share: progress(0.0, f"calibrating: {says}"))
        with tempfile.TemporaryDirectory(prefix="redsim-") as place:
            path = Path(place) / "profile.yaml"
            write_profile(data, path)
            return read_text(path)
    load_profile(name, Path())  # says what is wrong with it
    shipped = files("redsim.scenario") / "profiles" / f"{name}.yaml"
    return shipped.read_text(encoding="utf-8") if name in shipped_profiles() else read_text(Path(name))


def measure(
    cases: Sequence[Case], profile_text: str, *, repeats: int | None = None, resume: Path | None = None, progress: Progress
) -> Record:
    """Play every case on a real server; the record of it. Rounds over all cases, a yardstick between any two.

    `resume`: where the record is kept after every shot, and taken up again if it is there (its capacity and profile with it).
    """
    kept = read_record(resume) if resume is not None and resume.exists() else None
    profile = profile_of(kept.profile if kept else profile_text)
    open_per_s = kept.open_per_s if kept else open_rate(profile)
    with Yardstick(open_per_s) as yardstick:
        yardstick.read()  # the first one warms up
        readings = [yardstick.read() for _ in range(CAPACITY_READINGS)]
        record = kept or Record(machine(yardstick.version, profile), round(middle(readings).per_s), open_per_s, profile_text)
        turns = _turns(record, cases, repeats)
        record.marks.append(readings[-1])
        for i, (number, case) in enumerate(turns):
            progress(i / len(turns), f"{case.name}, repeat {number + 1}")
            record.shots.setdefault(case.name, []).append(_play(case, record))
            record.marks.append(yardstick.read())
            if resume is not None:
                write_record(record, resume)
    return record


def _play(case: Case, record: Record) -> Shot:
    """One repeat of a case, between the last reading of the yardstick and the next."""
    scenario, turn = case.at(record.capacity_per_s), len(record.marks) - 1
    if case.is_replication:
        run, seen = real_replicated_run(scenario)
        shot = shot_of(run, case, turn)
        calls = {name: row["calls"] for name, row in run.node.commandstats.items()}
        return replace(shot, measured={**shot.measured, **replication_figures(seen, calls)})
    if case.is_sentinel:
        failover = real_failover(scenario)
        orders = [list(failover.failover.leader), *(list(order) for order in failover.failover.observers)]
        return Shot(failover.figures(), [], 0.0, turn, orders=orders)
    return shot_of(real_run(scenario, looks_at_memory=case.is_memory, looks_at_files=case.is_durability), case, turn)


def _turns(record: Record, cases: Sequence[Case], repeats: int | None) -> list[tuple[int, Case]]:
    """(repeat, case) still to be played, round by round."""
    wanted = {case.name: repeats or case.file.repeats for case in cases}
    rounds = range(max(wanted.values()))
    return [(r, case) for r in rounds for case in cases if len(record.shots.get(case.name, ())) <= r < wanted[case.name]]


def shot_of(run: RealRun, case: Case, turn: int) -> Shot:
    """One repeat: the figures of the real run behind reading `turn` of the yardstick, and the evidence of noise."""
    measured, slowlog = measured_of(run, case.group) if case.group else ({}, [])
    if run.memory is not None:
        measured |= memory_of(run.memory, run.node, last_due_ns(case.at(CAPACITY_PER_S)))
    node = run.node
    if run.files is not None:
        measured |= files_figures(run.files, {name: row["calls"] for name, row in node.commandstats.items()})
    return Shot(
        measured=measured,
        slowlog=slowlog,
        utilisation=node.cpu_utilisation,
        turn=turn,
        steal=max(node.steal_ns, 0) / max(node.seconds * S * (os.cpu_count() or 1), 1),
        queued=max(node.queued_ns, 0) / max(node.seconds * S, 1),
        late_p99_us=run.groups[case.group].late_p99_us if case.group else 0.0,
        keys=[[key.dataset, key.index, key.encoding, key.memory_bytes] for key in (run.memory.keys if run.memory else [])],
    )


def measured_of(run: RealRun, group: str) -> tuple[dict[str, float], list[str]]:
    """Figures by quantity of that group and the node, and the commands of SLOWLOG, oldest first.

    A queue's draining is read off the same windows as the model's; the first words of a command name it, as there.
    """
    seen, node = run.groups[group], run.node
    figures: dict[str, float] = {
        f"{name}_us": us for name, us in seen.latency_us.items() if name in ("p50", "p90", "p99", "p999")
    }
    figures |= {"throughput_per_s": seen.throughput_per_s, "timeouts": seen.errors["timeout"], "retries": seen.retries}
    figures |= {"failed": seen.failed, "cpu_utilisation": node.cpu_utilisation, "cpu_us_per_command": node.cpu_us_per_command}
    figures |= {"commands_per_read": node.commands_per_read, "slowlog_entries": len(run.slowlog)}
    for name, row in node.commandstats.items():
        figures |= {f"calls {name}": row["calls"], f"usec_per_call {name}": row["usec_per_call"]}
    if run.stalls:
        worst = max(run.stalls, key=lambda stall: stall.duration_us)
        figures |= {"stall_us": worst.duration_us, "queue_at_end": worst.queue_at_end}
        end_ns = round(worst.sent_s * S + worst.duration_us * US)
        if run.load is not None:
            mine = run.load.of(group)
            there = mine.done_ns >= 0
            arrived, left = (counted(times[there], run.load.seconds) for times in (mine.intended_ns, mine.done_ns))
            figures |= drained_after_us(arrived - left, DRAIN_WINDOW_NS, end_ns)
    return figures, [str(row["args"]).split()[0].upper() for row in reversed(run.slowlog)]


def memory_of(seen: MemorySeen, node: NodeMeasured, due_ns: int) -> dict[str, float]:
    """Figures by quantity; `due_ns`: when the last key with a TTL was due."""
    stats = node.stats
    looked_up = stats["keyspace_hits"] + stats["keyspace_misses"]
    return {
        "used_memory_bytes": seen.dataset_bytes,
        "used_memory_rss_bytes": seen.rss_bytes,
        "bytes_per_key": float(np.mean([key.memory_bytes for key in seen.keys])) if seen.keys else math.nan,
        "hit_ratio": stats["keyspace_hits"] / looked_up if looked_up else math.nan,
        "evicted_keys": stats["evicted_keys"],
        "expired_keys": stats["expired_keys"],
        "expire_cpu_ms": stats["expire_cycle_cpu_milliseconds"],
        "gone_after_ms": gone_after_ms(seen.expires, due_ns),
        "keys_end": node.keys_end,
    }


def counted(times_ns: Ints, seconds: float) -> Ints:
    """How many of these instants lie before the end of each window."""
    ends = np.arange(1, round(seconds * S) // DRAIN_WINDOW_NS + 1) * DRAIN_WINDOW_NS
    return np.searchsorted(np.sort(times_ns), ends)


def _points(profile: HostProfile) -> list[dict[str, Any]]:
    """Rows of the profile's `fit`, [] where a calibration did not write it."""
    told = profile.fit if isinstance(profile.fit, dict) else {}
    return list(told.get("points", []))


def fit_points_of(profile: HostProfile) -> pd.DataFrame:
    """The points that the profile was fitted on: point, quantity, measured, spread_pct, model, error_pct, fitted; or none."""
    columns = ["point", "quantity", "fitted", "measured", "spread_pct", "model", "error_pct"]
    return pd.DataFrame([[row.get(column) for column in columns] for row in _points(profile)], columns=columns)


def machine(redis_version: str, profile: HostProfile) -> dict[str, str]:
    """Label -> text, for the page: what was measured and with what. No host name."""
    facts = machine_facts(redis_version, time.strftime("%Y-%m-%d", time.gmtime()))
    return {
        "Processor": f"{facts['cpu']}, {facts['cores']} cores",
        "Memory": f"{facts['memory_bytes'] / GIB:.1f} GiB",
        "System": f"{facts['os']}, Linux {facts['linux']}",
        "Redis": redis_version,
        "Profile": f"{profile.name}: {profile.says}",
        "redsim": redsim.__version__,
        "Python": f"{platform.python_version()}, numpy {version('numpy')}, numba {version('numba')}",
        "Date": facts["date"],
    }


def _causes(rows: pd.DataFrame, cases: Sequence[Case]) -> list[str]:
    told = {case.name: case.file.causes for case in cases}
    places = zip(rows["case"].astype(str), rows["quantity"].astype(str), strict=True)
    return [told[case].get(quantity, UNKNOWN_CAUSE) for case, quantity in places]


def noise_of_run(record: Record, profile: HostProfile) -> list[str]:
    """Sentences for the page: steal, drift, lateness over all repeats."""
    shots = [shot for repeats in record.shots.values() for shot in repeats]
    if not shots:
        return []
    against = reference(profile, record.open_per_s, record.marks)
    drifts = [record.drift(shot, against) for shot in shots]
    said = []
    for name, values, how in (
        ("the server was ready and had no CPU for", [s.queued for s in shots], "{:.1%}"),
        ("CPU time taken by the machine underneath", [s.steal for s in shots], "{:.1%}"),
        ("the yardstick from before a case to after it moved by", [abs(record.moved(s)) for s in shots], "{:.1%}"),
        (
            "a script of constant work differed from the same one before it, on a server doing nothing else, by",
            [m.script_apart_pct / 100 for m in record.marks],
            "{:.1%}",
        ),
        (
            "a walk through memory from the same one before it, on a server doing nothing else, by",
            [m.walk_apart_pct / 100 for m in record.marks],
            "{:.1%}",
        ),
        ("CPU per command over the profile's", [d.cpu for d in drifts], "{:.2f}"),
        ("a walk through memory over the profile's", [d.memory for d in drifts], "{:.2f}"),
        ("the generator's own lateness at p99, µs", [s.late_p99_us for s in shots], "{:.1f}"),
    ):
        column = pd.Series(values).dropna()
        if column.empty:
            continue
        low, mid, high = (how.format(float(v)) for v in (column.min(), column.median(), column.max()))
        said.append(f"{name}: median {mid}, from {low} to {high}, {len(column)} times")
    walks = apart_pct([mark.walk_us for mark in record.marks])
    return [*said, f"the yardstick's walk moved from one reading to the next, seconds later, by {walks:.1f} % at the median"]
