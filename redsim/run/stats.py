"""From the World's counters to the frames and the summary of a Result. Nothing is simulated here."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from redsim.dataplane import layout as dp
from redsim.dataplane.histogram import COARSE_EDGES, FINE_EDGES, coarse_counts, percentiles_ns
from redsim.records import LatencyEvent
from redsim.run.bgsave import CPU_CAUSE
from redsim.run.build import Built
from redsim.run.result import Series, StallView
from redsim.units import S, say_ns

AOF_EVENTS = (
    LatencyEvent.AOF_WRITE_ALONE,
    LatencyEvent.AOF_WRITE_PENDING_FSYNC,
    LatencyEvent.AOF_WRITE_ACTIVE_CHILD,
    LatencyEvent.AOF_FSYNC_ALWAYS,
)
AOF_BECAUSE = {
    LatencyEvent.AOF_WRITE_ALONE: "writing the AOF into the page cache",
    LatencyEvent.AOF_WRITE_PENDING_FSYNC: "writing the AOF while its fsync was in flight",
    LatencyEvent.AOF_WRITE_ACTIVE_CHILD: "writing the AOF while a child was at work",
    LatencyEvent.AOF_FSYNC_ALWAYS: "fdatasync of the AOF, as appendfsync is always",
}
EVENT_CAUSES = (
    LatencyEvent.EVICTION_CYCLE,
    LatencyEvent.EVICTION_DEL,
    LatencyEvent.EXPIRE_CYCLE,
    LatencyEvent.ACTIVE_DEFRAG_CYCLE,
    LatencyEvent.FORK,
    LatencyEvent.AOF_MANIFEST,
    *AOF_EVENTS,
    LatencyEvent.PROCESS_STOPPED,
)  # causes under the names of their events
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
Ints = npt.NDArray[np.int64]


def series_of(built: Built, w: dp.World) -> list[Series]:
    """One Series per group and command."""
    return [
        Series(group, command, FINE_EDGES, w.hist[i], COARSE_EDGES, w.heat[:, i, :].astype(np.int64))
        for i, (group, command) in enumerate(built.series)
        if group not in built.elsewhere
    ]


def latencies_us(counts: npt.NDArray[np.integer], edges: Ints, sum_ns: Ints, max_ns: Ints) -> npt.NDArray[np.float64]:
    """mean, percentiles and max in µs of histograms, shape (n, buckets): shape (n, 2 + percentiles); zeros for no answers."""
    total = counts.sum(axis=1, dtype=np.int64)
    mean = np.divide(sum_ns, total, out=np.zeros(len(counts)), where=total > 0) / 1000
    percentiles = percentiles_ns(counts, edges, list(PERCENTILES.values()), max_ns) / 1000
    return np.column_stack([[round(m, 3) for m in mean.tolist()], percentiles, max_ns / 1000])


def latency_us(counts: Ints, edges: Ints, sum_ns: int, max_ns: int) -> dict[str, float]:
    """mean, percentiles and max in µs of one histogram."""
    row = latencies_us(counts[None], edges, np.array([sum_ns]), np.array([max_ns]))[0].tolist()
    return dict(zip(["mean", *PERCENTILES, "max"], row, strict=True))


def latency_frame(built: Built, w: dp.World) -> pd.DataFrame:
    """latency: one row per window, group and command with answers in it."""
    window_s = int(w.st[dp.WINDOW]) / S
    counted = w.heat.sum(axis=2)
    windows, series = np.nonzero(counted)
    numbers = latencies_us(w.heat[windows, series], COARSE_EDGES, w.smax[windows, series, 1], w.smax[windows, series, 0])
    frame = pd.DataFrame({
        "start_s": [round(window * window_s, 9) for window in windows.tolist()], "window_s": window_s,
        "group": [built.series[i][0] for i in series.tolist()], "command": [built.series[i][1] for i in series.tolist()],
        "count": counted[windows, series],
    })  # fmt: skip
    frame[["mean_us", "p50_us", "p90_us", "p99_us", "p999_us", "max_us"]] = numbers
    return frame


def group_latency(built: Built, w: dp.World, group: str) -> dict[str, float]:
    """Latency of all the group's commands together."""
    mine = series_of_group(built, group)
    whole = w.smax[-1]
    counts = w.hist[mine].sum(axis=0) if mine else np.zeros(dp.FINE_BUCKETS, dtype=np.int64)
    top = max((int(whole[i, 0]) for i in mine), default=0)
    return latency_us(counts, FINE_EDGES, sum(int(whole[i, 1]) for i in mine), top)


def series_of_group(built: Built, group: str) -> list[int]:
    """Rows of the group in the histograms."""
    return [i for i, (name, _) in enumerate(built.series) if name == group]


def blame_counts(built: Built, w: dp.World, g: int) -> npt.NDArray[np.int64]:
    """Answers of group `g` by the bucket of their latency, as blame has them: shape (COARSE_BUCKETS,)."""
    return coarse_counts(w.hist[series_of_group(built, built.plans.plans[g].name)].sum(axis=0))


def blame_at(built: Built, w: dp.World, g: int, percentile: str) -> dict[str, float]:
    """Mean composition, in µs, of the requests whose latency lies in the bucket of that percentile (or of all: `mean`)."""
    counts, blame = blame_counts(built, w, g), w.blame[g]
    if counts.sum() == 0:
        return {}
    if percentile == "mean":
        number, parts = int(counts.sum()), blame.sum(axis=0)
    else:
        rank = max(1, int(np.ceil(PERCENTILES[percentile] * counts.sum())))
        bucket = int(np.searchsorted(np.cumsum(counts), rank))
        number, parts = int(counts[bucket]), blame[bucket]
    names = zip(built.causes, parts, strict=False)
    return {name: round(int(ns) / number / 1000, 3) for name, ns in names if ns > 0}


def blame_frame(built: Built, w: dp.World) -> pd.DataFrame:
    """blame: group, percentile, cause, us."""
    rows = [
        (plan.name, percentile, cause, us)
        for g, plan in enumerate(built.plans.plans)
        for percentile in ("mean", "p50", "p99", "p999")
        for cause, us in blame_at(built, w, g, percentile).items()
    ]
    return pd.DataFrame(rows, columns=["group", "percentile", "cause", "us"])


def commands_frame(built: Built, w: dp.World) -> pd.DataFrame:
    """commands: one row per group and command, with what commandstats would say of it (usec_per_call)."""
    rows = []
    for i, (group, command) in enumerate(built.series):
        if group in built.elsewhere:
            continue
        kinds = [k for k, kind in enumerate(built.kinds) if (kind.group, kind.name) == (group, command)]
        total = w.kind[kinds].sum(axis=0)
        calls = int(total[dp.K_CALLS])
        numbers = latency_us(w.hist[i], FINE_EDGES, int(w.smax[-1, i, 1]), int(w.smax[-1, i, 0]))
        rows.append((group, command, calls, int(total[dp.K_ERRORS]), int(total[dp.K_HITS]), int(total[dp.K_MISSES]),
                     numbers["p50"], numbers["p99"], numbers["p999"], numbers["max"],
                     round(int(total[dp.K_USEC_NS]) / calls / 1000, 3) if calls else 0.0))  # fmt: skip
    names = ["group", "command", "completed", "failed", "hits", "misses"]
    names += ["p50_us", "p99_us", "p999_us", "max_us", "usec_per_call"]
    return pd.DataFrame(rows, columns=names)


def stall_event(built: Built, w: dp.World, cause: int, kind: int) -> LatencyEvent:
    """Redis' event name (ours where Redis has none) for a stall."""
    if cause == dp.HICCUP or built.causes[cause] == CPU_CAUSE:
        return LatencyEvent.HOST_HICCUP
    if cause == dp.CRON:
        return LatencyEvent.SERVER_CRON
    if built.causes[cause] in EVENT_CAUSES:
        return LatencyEvent(built.causes[cause])
    return LatencyEvent.FAST_COMMAND if kind >= 0 and w.kind[kind, dp.K_FAST] else LatencyEvent.COMMAND


def stalls_frame(built: Built, w: dp.World) -> pd.DataFrame:
    """stalls: the ledger, in time order (the first STALLS_MAX)."""
    rows = []
    for start, ns, cause, kind, waiting, key in w.stalls[: min(int(w.st[dp.STALLS]), dp.STALLS_MAX)].tolist():
        event = stall_event(built, w, cause, kind)
        because = built.causes[cause]
        if event is LatencyEvent.EXPIRE_CYCLE:
            because = "deleting keys past their time"
        elif event is LatencyEvent.ACTIVE_DEFRAG_CYCLE:
            because = "moving keys and values out of fragmented pages"
        elif event is LatencyEvent.AOF_MANIFEST:
            because = "syncing the manifest of the AOF"
        elif event is LatencyEvent.FORK:
            because = "copying page tables for a child"
        elif event in AOF_EVENTS:
            because = AOF_BECAUSE[event]
        elif event is LatencyEvent.PROCESS_STOPPED:
            because = "SIGSTOP, until SIGCONT"
        elif event in EVENT_CAUSES:
            because = f"evicting {key_name(built, w, key)}" if key >= 0 else "evicting keys"
        if kind >= 0:
            because = f"{built.kinds[kind].name} from {built.kinds[kind].group}"
        if waiting >= 0:
            because += f"; {waiting} requests waiting at its end"
        rows.append((start / S, built.node, str(event), ns / 1000, because))
    rows.sort()
    return pd.DataFrame(rows, columns=["start_s", "node", "event", "duration_us", "because"])


def stall_totals(built: Built, w: dp.World) -> dict[str, dict[str, float]]:
    """stalls.<event>{count, total_us, max_us} of the summary: all of them, also those the ledger had no room for."""
    out: dict[str, dict[str, float]] = {}
    kinds = {int(kind[dp.K_CAUSE]): k for k, kind in enumerate(w.kind)}
    for cause, (count, total, longest) in enumerate(w.stallsum.tolist()):
        if count:
            event = stall_event(built, w, cause, kinds.get(cause, dp.NONE))
            row = out.setdefault(str(event), {"count": 0, "total_us": 0.0, "max_us": 0.0})
            row["count"] += count
            row["total_us"] += total / 1000
            row["max_us"] = max(row["max_us"], longest / 1000)
    return out


def stall_view(built: Built, w: dp.World) -> StallView | None:
    """The recording of the worst stall, if there was one."""
    st = w.st
    if int(st[dp.REC_WORST]) == 0:
        return None
    segs = w.segs[: int(st[dp.SEGS])]
    names = {dp.POLL: "poll", dp.READ: "read", dp.WRITE: "write", dp.CRON: "serverCron", dp.ACCEPT: "accept",
             dp.HICCUP: "host hiccup", dp.WAKE: "wake-up", dp.IO: "io-threads"}  # fmt: skip
    segments = pd.DataFrame({
        "start_ns": segs[:, 0], "end_ns": segs[:, 1],
        "what": [names.get(c, built.causes[c]) for c in segs[:, 2].tolist()], "client": segs[:, 3],
    })  # fmt: skip
    recs = w.recs[: int(st[dp.RECS])]
    requests = pd.DataFrame({
        "group": [built.kinds[k].group for k in recs[:, 2].tolist()],
        "command": [built.kinds[k].name for k in recs[:, 2].tolist()],
        "arrived_ns": recs[:, 0], "done_ns": recs[:, 1],
    })  # fmt: skip
    kind = int(st[dp.REC_KIND])
    what = built.kinds[kind].name if kind >= 0 else built.causes[int(st[dp.REC_CAUSE])]
    rows = w.stalls[: min(int(st[dp.STALLS]), dp.STALLS_MAX)]
    mine = rows[(rows[:, 0] == st[dp.REC_FROM]) & (rows[:, 4] >= 0)]
    waiting = int(mine[0, 4]) if len(mine) else None
    start, end = int(st[dp.REC_FROM]), int(st[dp.REC_TO])
    return StallView(built.node, what, start, end, segments.sort_values("start_ns"), requests, waiting)


def slowlog_rows(built: Built, w: dp.World) -> list[dict[str, Any]]:
    """The SLOWLOG ring, newest first."""
    count = min(int(w.st[dp.SLOW_ID]), int(w.cost[dp.SLOW_MAX]))
    rows = w.slow[:count]
    rows = rows[np.argsort(-rows[:, 0])]
    out = []
    for number, start, ns, kind, key, slot in rows.tolist():
        args = list(built.kinds[kind].words) or [built.kinds[kind].name, *([key_name(built, w, key)] if key >= 0 else [])]
        client = f"{built.kinds[kind].group}:{slot}"
        out.append({"id": number, "time_s": start / S, "duration_us": ns // 1000, "args": args, "client": client})
    return out


def key_name(built: Built, w: dp.World, key: int) -> str:
    """`users:17` of a global key number."""
    for d, name in enumerate(built.datasets):
        base = int(w.dataset[d, dp.D_BASE])
        if base <= key < base + int(w.dataset[d, dp.D_N]):
            return f"{name}:{key - base}"
    return f"key:{key}"


def say_stall(row: Any) -> str:
    """One line of the event log."""
    return f"{row.event}: the loop was held for {say_ns(int(row.duration_us * 1000))} by {row.because}"
