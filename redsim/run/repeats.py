"""Many seeds of one scenario, for distributions instead of single numbers: `redsim run scenario.yaml --repeats 100`.

    seed, seed + 1, …  ->  a run each, side by side  ->  quantities of its summary, a row  ->  mean and median, how sure they are

    failover.<step>_s      from what struck the master to a step of the run's first failover; nothing where there was none
    failovers.<what>       of all failovers of a run: how many, how many after a mere stall, acknowledged writes lost
    <group>.<quantity>     of a client group: latency percentiles in us, throughput, requests that failed, the longest time in
                           which nobody answered (groups that follow a service)
    <node>.<quantity>      of a server: its peak of RSS, what its crashes took; of a replica: full resyncs, worst lag

What is the same in all runs has no interval wider than itself. A run that Ctrl-C cut short is not counted.
Differs: who compares two scenarios by the same seeds has the same arrivals in both; that makes differences surer than the
intervals here say.
Not modelled: luck that is not drawn, as another day's hardware.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from redsim.run import engine
from redsim.run.confidence import band, mean_between, median_between, tenths
from redsim.run.processes import each
from redsim.run.result import Result
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario

__all__ = ["Repeats", "checked", "quantities", "repeat"]

REPEATS_MAX = 100_000
STEPS = ("sdown_s", "odown_s", "elected_s", "promoted_s", "switch_s", "writable_again_s")
LATENCIES = ("p50", "p99", "p999", "max")
STATS = ["quantity", "runs", "mean", "mean_low", "mean_high", "median", "median_low", "median_high", "p5", "p95", "min", "max"]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Repeats:
    """What came of it. `rows`: seed, digest, a column per quantity; NaN where a run had none. `asked`: how many were to be."""

    scenario: str
    asked: int
    rows: pd.DataFrame

    @property
    def count(self) -> int:
        """How many runs came to their end."""
        return len(self.rows)

    @property
    def is_partial(self) -> bool:
        """Whether Ctrl-C stopped it before its last run."""
        return self.count < self.asked

    @property
    def quantities(self) -> list[str]:
        """Names of the columns that are figures."""
        return [str(name) for name in self.rows.columns if name not in ("seed", "digest")]

    def values(self, quantity: str) -> list[float]:
        """Of the runs that had it; [] where none did."""
        return [] if quantity not in self.rows else [float(value) for value in self.rows[quantity].dropna()]

    def share(self, quantity: str) -> tuple[int, tuple[float, float]]:
        """(in how many runs a count was above 0, the 95 % band of that share)."""
        hits = sum(value > 0 for value in self.values(quantity))
        return hits, band(hits, self.count)

    @cached_property
    def stats(self) -> pd.DataFrame:
        """A row per quantity: STATS; `runs`: that had it; 95 % intervals of mean and median, NaN: too few runs to tell."""
        rows = []
        for name in self.quantities:
            values = self.values(name)
            if values:
                p5, median, p95 = tenths(values)
                rows.append((name, len(values), float(np.mean(values)), *mean_between(values), median, *median_between(values),
                             p5, p95, min(values), max(values)))  # fmt: skip
        return pd.DataFrame(rows, columns=STATS)

    def summary(self) -> dict[str, Any]:
        """summary.json's repeats: {asked, count, seeds: [first, last], quantities: {name: {STATS}}}."""
        told = {str(row.pop("quantity")): row for row in self.stats.to_dict(orient="records")}
        seeds = [int(self.rows["seed"].iloc[0]), int(self.rows["seed"].iloc[-1])] if self.count else []
        return {"asked": self.asked, "count": self.count, "seeds": seeds, "quantities": told}


def repeat(
    scenario: Scenario, repeats: int, *, processes: int | None = None, first: Result | None = None,
    progress: Progress = lambda what, share: None,
) -> Repeats:  # fmt: skip
    """The scenario with `repeats` seeds from its own on; `processes` runs at a time, None: one for each core.

    `first`: the Result of the scenario's own seed, if there is one already. Ctrl-C leaves what is done. ScenarioError for a
    number out of range or a scenario that cannot run.
    """
    checked(repeats, processes)
    seed = scenario.file.seed
    rows = [] if first is None or first.partial else [_row(first)]
    todo = [scenario.with_seed(seed + i) for i in range(len(rows), repeats)]
    runs = each(_row_of, todo, processes)
    try:
        for row in runs:
            if row is None:  # Ctrl-C was in that run; a later one would leave a gap in the seeds
                raise KeyboardInterrupt
            rows.append(row)
            progress(f"seed {seed + len(rows) - 1}", len(rows) / repeats)
    except KeyboardInterrupt:
        runs.close()
    return Repeats(scenario.name, repeats, pd.DataFrame(rows))


def checked(repeats: int, processes: int | None) -> None:
    """ScenarioError for a number out of range."""
    if not 1 <= repeats <= REPEATS_MAX:
        raise ScenarioError(f"--repeats {repeats}: how many seeds, from 1 to {REPEATS_MAX:,}; some dozens tell a spread")
    if processes is not None and processes < 1:
        raise ScenarioError(f"--processes {processes}: how many runs at a time, 1 at least")


def _row_of(scenario: Scenario) -> dict[str, Any] | None:
    result = engine.run(scenario)
    return None if result.partial else _row(result)


def _row(result: Result) -> dict[str, Any]:
    summary = result.summary
    return {"seed": summary["seed"], "digest": summary["digest"], **quantities(summary)}


def quantities(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """What is compared between runs, by name; None: this run had none."""
    out = _of_failovers(summary.get("failovers") or [], has_sentinels="sentinels" in summary)
    for name, group in summary["clients"].items():
        if "unavailable_s" in group:
            out[f"{name}.unavailable_s"] = group["unavailable_s"]
        out |= {f"{name}.{which}_us": group["latency_us"][which] for which in LATENCIES}
        out[f"{name}.throughput_per_s"] = group["throughput_per_s"]
        out[f"{name}.failed"] = group["failed"]
    for name, node in summary["nodes"].items():
        out[f"{name}.used_memory_rss_peak_bytes"] = node["used_memory_rss_bytes"]["peak"]
        if node.get("crashes"):
            out.setdefault(f"{name}.lost_acked_writes", node["lost_acked_writes"])  # unless the node is called `failovers`
    for name, replica in (summary.get("replicas") or {}).items():
        out[f"{name}.full_syncs"] = replica["full_syncs"]
        out[f"{name}.lag_max_s"] = replica["lag_s"]["max"]
    return out


def _of_failovers(rows: Sequence[Mapping[str, Any]], *, has_sentinels: bool) -> dict[str, float | None]:
    if not rows and not has_sentinels:
        return {}
    out: dict[str, float | None] = dict.fromkeys((f"failover.{step}" for step in STEPS), None)
    begun = next((row for row in rows if row.get("down_at_s") is not None), None)
    if begun is not None:
        steps = {**begun, "promoted_s": begun["at_s"]}
        out |= {f"failover.{step}": steps[step] - begun["down_at_s"] for step in STEPS if steps[step] is not None}
    out["failovers.count"] = len(rows)
    out["failovers.after_a_stall"] = sum(row.get("because") == "stall" for row in rows)
    out["failovers.lost_acked_writes"] = sum(row["lost_acked_writes"] for row in rows)
    return out
