"""What the twin's run leaves, in the shapes of the World's arrays: histograms, heat map, blame, counters, ledger.

Waiting is read from the main thread's past: what it did between a request's arrival and its last byte, by cause, less what was
the request's own service.
"""

from bisect import bisect_right
from typing import Any

import numpy as np

from redsim.dataplane import layout as dp
from redsim.dataplane.histogram import COARSE_EDGES, FINE_EDGES
from redsim.dataplane.twin.aof import Numbers, state
from redsim.dataplane.twin.cow import COMPARED
from redsim.dataplane.twin.memory import used_memory
from redsim.dataplane.twin.things import Record, Request, Sim

Arrays = dict[str, Any]

COUNTERS = {
    dp.CLIENTS: "clients", dp.REJECTED: "rejected", dp.ACCEPTED: "accepted", dp.POLLS: "polls", dp.SLEEPS: "sleeps",
    dp.READS: "reads", dp.WRITES: "writes", dp.COMMANDS: "commands", dp.TREADS: "treads", dp.TWRITES: "twrites",
    dp.HICCUPS: "hiccups", dp.HITS: "hits", dp.MISSES: "misses", dp.NET_IN: "net_in", dp.NET_OUT: "net_out",
    dp.MAX_BATCH: "max_batch", dp.BATCH_SUM: "batch_sum", dp.EXPIRED: "expired", dp.LISTEN_DROPS: "listen_drops",
    dp.CLOSED_IDLE: "closed_idle", dp.IO_ACTIVE_NS: "io_active_ns",
    dp.EVICTED: "evicted", dp.OOM: "oom", dp.EXCEEDED_NS: "exceeded_ns",
}  # fmt: skip
GROUP_COUNTERS = [
    "offered",
    "completed",
    "failed",
    "err_timeout",
    "err_conn",
    "err_busy",
    "err_oom",
    "err_misconf",
    "err_loading",
    "retried",
    "lat_sum",
    "left",
    "fetches",
]
EXPIRY = ["cursor", "current_db", "timelimit_exit", "stale_ppb", "cycles", "cycle_ns", "cap_reached",
          "avg_ttl_ms", "active"]  # fmt: skip
KIND_COUNTERS = ["calls", "usec_ns", "hits", "misses", "errors"]


def outcome(sim: Sim) -> Arrays:
    """Name of a World's array, or of its counters, to what the twin has for it."""
    out: Arrays = {name: np.zeros(shape, dtype=np.int64) for name, shape in sim.shapes.items() if name != "slow"}
    for start, end, cause in sim.activities:
        out["held"][cause] += end - start
    for intended, group in sim.offered:
        out["offered"][window(sim, intended), group.row] += 1
    begins = [start for start, _, _ in sim.activities]
    for request, start, done in sim.done:
        _count(sim, out, begins, request, start, done)
    for by, late in sim.lags:
        lag = out["lag"][by]
        lag[min(bisect_right(COARSE_EDGES, late), dp.COARSE_BUCKETS) - 1] += 1
        lag[-2:] = lag[-2] + late, max(lag[-1], late)
    out["expiry"] = [getattr(sim.expires.row, name) for name in EXPIRY]
    out["counters"] = {name: getattr(sim.count, name) for name in COUNTERS.values()} | {"now": sim.now, "idle": sim.idle}
    out["groups"] = _table(sim.groups, GROUP_COUNTERS)
    out["kinds"] = _table(sim.kinds, KIND_COUNTERS)
    out["datasets"] = _table(sim.datasets, ["live", "expires"])
    out["kv"], out["ka"], out["ke"], out["kx"] = sim.kv, sim.ka, sim.ke, sim.kx
    out["used_memory"] = [used_memory(sim)]
    out["aof"] = state(Numbers(sim.aof))
    out["child"] = sim.child.row[COMPARED]
    out["cow"] = sorted(sim.child.written)
    out["ages"] = np.zeros(dp.COARSE_BUCKETS, dtype=np.int64)
    for age in sim.eviction.ages:
        out["ages"][bisect_right(COARSE_EDGES, age) - 1] += 1
    out["tables"] = [[table.used, dp.NONE if table.bits is None else table.bits] for table in sim.tables]
    out["stalls"] = sim.stalls[: dp.STALLS_MAX]
    out["stallsum"] = _stall_totals(sim)
    out["slow"] = sim.slowlog[-sim.cost[dp.SLOW_MAX] :] if sim.cost[dp.SLOW_MAX] > 0 else []
    return out


def of_world(w: dp.World) -> Arrays:
    """The same of a World that has run."""
    st = w.st
    out: Arrays = {name: getattr(w, name) for name in ("hist", "heat", "blame", "smax", "offered", "held", "stallsum", "lag")}
    out["expiry"] = w.expiry[[getattr(dp, "X_" + name.upper()) for name in EXPIRY]]
    out["counters"] = {name: int(st[i]) for i, name in COUNTERS.items()} | {"now": int(st[dp.NOW]), "idle": int(st[dp.IDLE])}
    out["groups"] = w.group[:, [getattr(dp, "G_" + name.upper()) for name in GROUP_COUNTERS]]
    out["kinds"] = w.kind[:, [getattr(dp, "K_" + name.upper()) for name in KIND_COUNTERS]]
    out["datasets"] = w.dataset[:, [dp.D_LIVE, dp.D_EXPIRES]]
    out["kv"], out["ka"], out["ke"], out["kx"] = w.kv[:, 0], w.kv[:, 1], w.ke, w.kx
    out["used_memory"] = [int(st[dp.USED])]
    out["aof"] = state(w.aof)
    out["child"] = w.child[COMPARED]
    out["cow"] = np.flatnonzero(np.unpackbits(w.cow.view(np.uint8), bitorder="little"))
    out["ages"] = w.ages
    out["tables"] = w.dicts[:, [dp.H_USED, dp.H_BITS]]
    out["stalls"] = w.stalls[: min(int(st[dp.STALLS]), dp.STALLS_MAX)]
    kept = min(int(st[dp.SLOW_ID]), max(int(w.cost[dp.SLOW_MAX]), 0))
    out["slow"] = w.slow[:kept][np.argsort(w.slow[:kept, 0])]
    return out


def differences(twin: Arrays, compiled: Arrays) -> list[str]:
    """One line for each array that is not equal, with the first few places."""
    lines = []
    for name, mine in twin.items():
        theirs = compiled[name]
        if isinstance(mine, dict):
            lines += [f"{name}.{key}: twin {mine[key]}, compiled {theirs[key]}" for key in mine if mine[key] != theirs[key]]
            continue
        a, b = np.asarray(mine, dtype=np.int64), np.asarray(theirs, dtype=np.int64)
        if a.size == 0 and b.size == 0:
            continue
        if a.shape != b.shape:
            lines.append(f"{name}: twin has shape {a.shape}, compiled {b.shape}")
        elif not np.array_equal(a, b):
            places = [tuple(int(i) for i in place) for place in np.argwhere(a != b)[:4]]
            lines.append(f"{name}: " + "; ".join(f"{p} twin {a[p]}, compiled {b[p]}" for p in places))
    return lines


def window(sim: Sim, at: int) -> int:
    return min(at // sim.window, sim.windows - 1)


def _table(records: list[Record], names: list[str]) -> list[list[int]]:
    return [[getattr(record, name) for name in names] for record in records]


def _stall_totals(sim: Sim) -> list[list[int]]:
    by_cause = [[ns for _, ns, cause, *_ in sim.stalls if cause == c] for c in range(sim.shapes["held"][0])]
    return [[len(all_ns), sum(all_ns), max(all_ns, default=0)] for all_ns in by_cause]


def _count(sim: Sim, out: Arrays, begins: list[int], request: Request, start: int, done: int) -> None:
    """One answer in the histograms, in the windows and in the blame of its bucket."""
    latency, series = done - start, request.kind.series
    coarse = bisect_right(COARSE_EDGES, latency) - 1
    now = window(sim, done)
    out["heat"][now, series, coarse] += 1
    out["smax"][now, series, 0] = max(out["smax"][now, series, 0], latency)
    out["smax"][now, series, 1] += latency
    if start < sim.warmup:
        return
    out["hist"][series, bisect_right(FINE_EDGES, latency) - 1] += 1
    out["smax"][-1, series, 0] = max(out["smax"][-1, series, 0], latency)
    out["smax"][-1, series, 1] += latency
    blame = out["blame"][request.slot.group.row, coarse]
    for cause, ns in blame_of(sim, begins, request, start, latency).items():
        blame[cause] += ns


def blame_of(sim: Sim, begins: list[int], request: Request, start: int, latency: int) -> dict[int, int]:
    """A latency as a sum: earlier attempts, network, own service, waiting by cause; what is left is the client's."""
    blame = overlap(sim, begins, request.arrived, request.left)
    for cause, ns in request.own.items():
        blame[cause] = blame.get(cause, 0) - ns
    assert all(ns >= 0 for ns in blame.values()), "a request's own service lies within its time at the server"
    blame[dp.OWN] = sum(request.own.values())
    blame[dp.NETWORK] = request.arrived - request.sent + request.delivered - request.left
    blame[dp.RETRY] = request.begin - request.intended if start == request.intended else 0
    blame[dp.CLIENT] = latency - blame[dp.RETRY] - blame[dp.NETWORK] - (request.left - request.arrived)
    return blame


def overlap(sim: Sim, begins: list[int], low: int, high: int) -> dict[int, int]:
    """Time of the main thread between `low` and `high`, by cause."""
    out: dict[int, int] = {}
    first = max(bisect_right(begins, low) - 1, 0)
    for start, end, cause in sim.activities[first:]:
        if start >= high:
            break
        ns = min(end, high) - max(start, low)
        if ns > 0:
            out[cause] = out.get(cause, 0) + ns
    return out
