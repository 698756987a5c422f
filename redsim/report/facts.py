"""What the findings, the figures and the page read out of a Result, each read in one place.

Mirrors nothing in Redis. Differs from the frames in one way: groups are summed over their commands here.
NOT modelled: nothing is computed about the server; percentiles are read off the buckets of a Series.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from redsim.run.result import Ints, Result, Series
from redsim.units import say_ns

NETWORK = frozenset({"network"})
CLIENT = frozenset({"client", "client station", "client machine"})
OWN = frozenset({"own service", "service", "own"})
STALL_WARNING_US = 10_000.0  # slowlog-log-slower-than's default: what Redis itself calls slow
WINDOWS_MAX = 400  # a figure a few hundred points wide shows no more
_COMMAND = re.compile(r"\b[A-Z][A-Z]+(?:[ |](?:SLEEP|KILL|LOAD|SAVE|REWRITE|SHARDS|SLOTS|LIST))?\b")


def number(value: Any, default: float = 0.0) -> float:
    """A figure of the summary as float; missing, None or NaN gives `default`."""
    if value is None or isinstance(value, (str, Mapping)):
        return default
    return default if math.isnan(float(value)) else float(value)


def say_us(us: float) -> str:
    """Microseconds for people: `say_us(214_000)` → `214 ms`; `–` for NaN."""
    return "–" if math.isnan(us) else say_ns(round(us * 1000))


def say_count(count: float) -> str:
    """`20000.0` → `20,000`; below 10, two significant figures."""
    return f"{count:,.0f}" if count >= 10 or count == int(count) else f"{count:.2g}"


def say_share(share: float) -> str:
    """`0.27` → `27 %`, never `100 %` of something that is not all of it."""
    if 0.995 <= share < 1:
        return f"{math.floor(share * 1000) / 10:.1f} %"
    return f"{share * 100:.0f} %" if share >= 0.1 else f"{share * 100:.2g} %"


def say_times(count: int) -> str:
    """`1` → `once`, `1200` → `1,200 times`."""
    return "once" if count == 1 else f"{count:,} times"


def groups(result: Result) -> dict[str, dict[str, Any]]:
    """Client groups of the summary, by name: the scenario's; if it has none, whoever sent the timeline."""
    told = dict(result.summary.get("clients", {}))
    return {name: told[name] for name in told if name in result.scenario.file.clients} or told


def nodes(result: Result) -> dict[str, dict[str, Any]]:
    """Nodes of the summary, by name."""
    return dict(result.summary.get("nodes", {}))


def group_file(result: Result, group: str) -> Any:
    """The group as the scenario wrote it (redsim.scenario.schema.Group), None if it is none of the
    scenario's.
    """
    return result.scenario.file.clients.get(group)


def crashes(result: Result) -> list[tuple[str, dict[str, Any]]]:
    """(node, row of its crashes in the summary), as they came."""
    rows = [(name, row) for name, node in nodes(result).items() for row in node.get("crashes") or []]
    return sorted(rows, key=lambda one: number(one[1].get("at_s")))


def away_s(result: Result, node: str = "") -> list[tuple[float, float, float]]:
    """(down from, loading from, serving from) in s of each crash of `node` ("": of any)."""
    spans, end_s = [], duration_s(result)
    mine = [row for name, row in crashes(result) if node in ("", name)]
    for row, after in zip(mine, [*mine[1:], {}], strict=False):
        until_s = min(number(after.get("at_s"), end_s), end_s)
        loading_s = min(number(row.get("starts_s"), until_s) if not row.get("refuses_to_start") else until_s, until_s)
        spans.append((number(row["at_s"]), loading_s, min(number(row.get("serves_s"), until_s), until_s)))
    return spans


def node_of(result: Result, group: str) -> str:
    """The node a group talks to; the first node when the group is not the scenario's."""
    written = group_file(result, group)
    return str(written.node) if written is not None else next(iter(nodes(result)), "")


def host_memory_bytes(result: Result) -> int:
    """Memory of the host the scenario's server runs on, 0 if it does not say."""
    return int(number((result.summary.get("host") or {}).get("memory_bytes")))


def is_closed(result: Result, group: str) -> bool:
    """True when each connection waits for its answer before it asks again."""
    written = group_file(result, group)
    return written is not None and written.arrivals.closed is not None


def loop_share(node: Mapping[str, Any]) -> float:
    """Share of the run in which the loop was held by somebody: its CPU time, and DEBUG SLEEP, which uses none."""
    return number(node.get("loop_utilisation"), number(node.get("cpu_utilisation")))


def is_whole_run(result: Result, group: str) -> bool:
    """True unless the group sends in a slice of the run only: the main thread's share of the whole run is then not its doing."""
    written = group_file(result, group)
    return written is None or (written.start == 0 and written.stop is None)


def is_client_bound(result: Result, group: str) -> bool:
    """The group's client machine has no idle time left: what it gets says nothing about the server's capacity."""
    return number(groups(result)[group].get("station_utilisation")) > 0.97


def latency_us(group: Mapping[str, Any], percentile: str) -> float:
    """`p999` of a group's summary in µs; NaN when no request was answered."""
    return number((group.get("latency_us") or {}).get(percentile), math.nan)


def blame_us(group: Mapping[str, Any], percentile: str) -> dict[str, float]:
    """cause → µs of one percentile's latency, largest first."""
    parts = (group.get("blame_us") or {}).get(percentile) or {}
    return dict(sorted(((k, number(v)) for k, v in parts.items()), key=lambda item: -item[1]))


def worst_victim(result: Result, node: str, cause: str) -> tuple[str, float, float]:
    """Group of `node` whose p99.9 waited longest for `cause`: name, p99.9 µs, of it behind the cause µs; "" if none."""
    best = ("", 0.0, 0.0)
    for name, group in groups(result).items():
        blamed = sum(us for who, us in blame_us(group, "p999").items() if cause.lower() in who.lower())
        if node_of(result, name) == node and blamed > best[2]:
            best = (name, latency_us(group, "p999"), blamed)
    return best[0], best[1], min(best[2], best[1])


def steps(frame: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    """How much a counter grew up to each sample of memory.csv since the one before."""
    return np.diff(frame[column].to_numpy(dtype=float), prepend=0.0)


def ratio(above: npt.NDArray[np.float64], below: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Item by item, NaN where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)


def hit_ratio(frame: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Share of the reads up to each sample of memory.csv that found their key; NaN without a read."""
    hits, misses = steps(frame, "keyspace_hits"), steps(frame, "keyspace_misses")
    return ratio(hits, hits + misses)


def share_of(parts: Mapping[str, float], names: frozenset[str]) -> float:
    """How much of a latency went to these causes, 0..1."""
    total = sum(parts.values())
    return sum(us for cause, us in parts.items() if cause.lower() in names) / total if total > 0 else 0.0


def command_of(because: str) -> str:
    """The command a stall's reason names: `"KEYS * on 1,000,000 keys"` → `KEYS`; "" when it names none."""
    match = _COMMAND.search(because)
    return match[0].replace("|", " ") if match else ""


def versions(result: Result) -> dict[str, str]:
    """Redis version by node, as the scenario wrote it."""
    return {name: str(node.version) for name, node in result.scenario.file.nodes.items()}


def shown_groups(result: Result, most: int) -> list[str]:
    """The groups a figure draws: those with requests, the busiest `most` of them, in the scenario's order."""
    total: dict[str, int] = {}
    for series in result.series:
        total[series.group] = total.get(series.group, 0) + int(series.by_window.sum())
    known = [name for name in groups(result) if total.get(name)]
    kept = sorted(known, key=lambda name: -total[name])[:most]
    return [name for name in known if name in kept]


def _of_group(result: Result, group: str | None) -> list[Series]:
    return [series for series in result.series if group is None or series.group == group]


def window_counts(result: Result, group: str | None) -> tuple[Ints, Ints, int]:
    """edges_ns (buckets + 1,), counts (windows, buckets), window length in ns; group None: all groups.

    A group's commands are summed. More than WINDOWS_MAX windows are joined, as many at a time as it takes.
    """
    chosen = _of_group(result, group)
    if not chosen:
        return np.array([1000, 2000], dtype=np.int64), np.zeros((0, 1), dtype=np.int64), result.window_ns
    counts = np.zeros_like(chosen[0].by_window)
    for series in chosen:
        counts = counts + series.by_window
    joined = joined_windows(len(counts))
    if joined > 1:
        counts = np.add.reduceat(counts, np.arange(0, len(counts), joined), axis=0)
    return chosen[0].edges_ns, counts, result.window_ns * joined


def joined_windows(count: int) -> int:
    """How many windows become one, so that at most WINDOWS_MAX are drawn."""
    return max(1, math.ceil(count / WINDOWS_MAX))


def run_counts(result: Result, group: str | None) -> tuple[Ints, Ints]:
    """fine_edges_ns (buckets + 1,) and counts (buckets,) of a group over the run, warm-up left out."""
    chosen = _of_group(result, group)
    if not chosen:
        return np.array([1000, 2000], dtype=np.int64), np.zeros(1, dtype=np.int64)
    counts = np.zeros_like(chosen[0].counts)
    for series in chosen:
        counts = counts + series.counts
    return chosen[0].fine_edges_ns, counts


def count_at_least(result: Result, group: str | None, latency_ns: int) -> int:
    """Requests whose whole bucket is at or above `latency_ns` (so at most one bucket, 1/128, too few)."""
    edges, counts = run_counts(result, group)
    return int(counts[edges[:-1] >= latency_ns].sum())


def percentiles_us(edges_ns: Ints, counts: Ints, shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Latency in µs (shares,) of one histogram (buckets,), straight inside a bucket; NaN when it is empty."""
    total = int(counts.sum())
    if total == 0:
        return np.full(len(shares), np.nan)
    upto = np.concatenate([[0], np.cumsum(counts)])
    rank = np.maximum(shares * total, 1e-9)  # p0 is the lower edge of the first bucket that holds anything
    bucket = np.clip(np.searchsorted(upto, rank, side="left") - 1, 0, len(counts) - 1)
    inside = np.clip((rank - upto[bucket]) / np.maximum(counts[bucket], 1), 0, 1)
    return (edges_ns[bucket] + inside * (edges_ns[bucket + 1] - edges_ns[bucket])) / 1000


def max_by_window_us(result: Result, group: str, window_ns: int, count: int) -> npt.NDArray[np.float64]:
    """Largest latency in µs of each of `count` windows of that length; NaN where nothing was answered."""
    mine = result.latency[result.latency["group"] == group]
    window = (mine["start_s"].to_numpy(dtype=float) * 1e9 / window_ns + 1e-6).astype(int)
    largest = np.full(count, -np.inf)
    known = window < count
    np.fmax.at(largest, window[known], mine["max_us"].to_numpy(dtype=float)[known])
    return np.where(np.isfinite(largest), largest, np.nan)


def warmup_s(result: Result) -> float:
    """Seconds at the start that the run's figures leave out."""
    return float(result.scenario.file.warmup) / 1e9


def duration_s(result: Result) -> float:
    """Seconds the run covers: what was simulated, or what the scenario asked for where the summary does not
    say.
    """
    return number(result.summary.get("simulated_s"), result.scenario.file.duration / 1e9)


def waiting(result: Result) -> pd.DataFrame:
    """Requests of the stall view that waited at the stall's end; the one that held the loop is left out."""
    view = result.stall_view
    if view is None:
        return pd.DataFrame(columns=["group", "command", "arrived_ns", "done_ns"])
    frame = view.requests
    held = (frame["arrived_ns"] <= view.end_ns) & (frame["done_ns"] > view.end_ns)
    culprit = (frame["command"] == view.what) & (frame["arrived_ns"] <= view.start_ns)
    return frame[held & ~culprit]


def waiting_at_end(result: Result) -> int:
    """How many waited at the stall's end: by the ledger, or as far as the view holds them."""
    view = result.stall_view
    if view is not None and view.waiting_count is not None:
        return view.waiting_count
    return len(waiting(result))


def drained_ns(result: Result) -> int:
    """ns from the stall's end to the answer of the last request that waited at it; 0 if none waited."""
    queue = waiting(result)
    if result.stall_view is None or queue.empty:
        return 0
    return int(queue["done_ns"].max()) - result.stall_view.end_ns


def rows(frame: pd.DataFrame) -> Iterator[Any]:
    """The frame's rows as named tuples."""
    yield from frame.itertuples()
