"""What a crash would lose, at any moment of the run: acknowledged writes not yet written, or not yet on the disk.

A run need not crash; its AOF kept points of how far acknowledgements, writes and fsyncs had come. Crash instants are uniform over
the measured time: each finds some acknowledged writes ahead of what survives it.

    kill of the process           loses what is in aof_buf: only while a write is put off or refused
    crash of the OS, power loss   lose what is not synced, nor written back meanwhile

Between two points acknowledgements are taken to come evenly; what is on the disk moves when a fsync is done, with appendfsync
always with each iteration. A server that is down has nothing to lose: such instants are left out. Not modelled: a drive that lies
(but in a crash that happens, run/crash.py).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from redsim.dataplane import layout as dp
from redsim.redis.aof import POINT, Aof
from redsim.rng import generator
from redsim.run.result import DURABILITY_COLUMNS, FSYNC_COLUMNS
from redsim.units import S

__all__ = ["blocked_ns", "durability", "exposure", "exposure_frame", "fsyncs_frame"]

INSTANTS = 1000
POLICY_NAMES = {dp.AOF_NO: "no", dp.AOF_EVERYSEC: "everysec", dp.AOF_ALWAYS: "always"}
KINDS = {"process_kill": "written", "os_crash_or_power_loss": "durable"}
Floats = npt.NDArray[np.float64]


def durability(aof: Aof, seed: int, node: str, warmup_ns: int, away: Sequence[tuple[int, int]] = ()) -> dict[str, Any]:
    """nodes.<node>.durability of the summary: the policy, what it did, and the loss by kind of crash: p50, p99, max over crash
    instants of commands, bytes and seconds (how long ago the oldest of them was acknowledged). No instant is in one of the spans
    `away`, (from, to) in ns, when there was no server to crash."""
    a, points = aof.numbers, aof.table()
    is_always = int(a[dp.A_POLICY]) == dp.AOF_ALWAYS
    begun = generator(seed, node, "aof", "crashes").random(INSTANTS)
    first, last = (max(warmup_ns, int(points[0, 0])), int(points[-1, 0])) if len(points) else (0, 0)
    instants = _at_work(np.sort(first + begun * max(last - first, 0)), away)
    loss = {kind: _loss(points, instants, upto, is_always, away) for kind, upto in KINDS.items()}
    return {
        "appendfsync": POLICY_NAMES[int(a[dp.A_POLICY])],
        "disk": aof.disk.profile.name or "of the scenario",
        "fsyncs": int(a[dp.A_FSYNCS]),
        "longest_fsync_ms": round(max(done - begun for begun, done in aof.fsyncs) / 1e6, 3) if aof.fsyncs else None,
        "delayed_fsync": int(a[dp.A_DELAYED]),
        "postponed_writes": int(a[dp.A_POSTPONEMENTS]),
        "postponed_s": round(int(a[dp.A_POSTPONED_NS]) / S, 6),
        "misconf_errors": int(a[dp.A_MISCONF]),
        "exited_at_s": None if aof.exited is None else aof.exited / S,
        "crash_instants": len(instants) if len(points) else 0,
        "loss": loss,
    }


def blocked_ns(w: dp.World) -> int:
    """How long the main thread sat in fdatasync: it uses next to no CPU meanwhile."""
    return int(w.held[w.aof[dp.A_CAUSE] + dp.AOF_FSYNC_ALWAYS]) if w.aof[dp.A_POLICY] else 0


def exposure(points: npt.NDArray[np.int64], instants: Floats, upto: str, is_always: bool) -> tuple[Floats, Floats, Floats]:
    """(commands, bytes, age in s) that a crash at each of `instants` (ns) would lose: acknowledged but not `upto` ("written" or
    "durable"). `points`: rows of POINT in time order."""
    at = points[:, 0].astype(float)
    ahead = []
    for unit in ("cmds", "bytes"):
        acked, safe = (points[:, POINT.index(f"{name}_{unit}")].astype(float) for name in ("acked", upto))
        if upto == "durable" and not is_always:
            before = safe[np.maximum(np.searchsorted(at, instants, side="right") - 1, 0)]
        else:
            before = np.interp(instants, at, safe)
        ahead.append(np.maximum(np.interp(instants, at, acked) - before, 0.0))
        if unit == "bytes":
            since = np.interp(before, *_rising(acked, at))
            age = np.where(ahead[1] > 0, np.maximum(instants - since, 0.0), 0.0) / S
    return ahead[0], ahead[1], age


def exposure_frame(aof: Aof | None, node: str) -> pd.DataFrame:
    """How far the AOF had come at each of its points: Result.durability."""
    points = aof.table() if aof is not None else np.zeros((0, len(POINT)), dtype=np.int64)
    frame = pd.DataFrame(points, columns=list(POINT))
    frame["time_s"], frame["node"] = frame["now_ns"] / S, node
    return frame[DURABILITY_COLUMNS]


def fsyncs_frame(aof: Aof | None, node: str) -> pd.DataFrame:
    """The bio thread's fsyncs, the writes put off and those that were blocked: Result.fsyncs."""
    spans = {"fsync": aof.fsyncs, "postponed": aof.postponed, "blocked": aof.blocked} if aof is not None else {}
    rows = [(begun / S, node, what, (over - begun) / 1000) for what, mine in spans.items() for begun, over in mine]
    return pd.DataFrame(sorted(rows), columns=FSYNC_COLUMNS)


def _rising(acked: Floats, at: Floats) -> tuple[Floats, Floats]:
    """When each number of bytes was acknowledged: the last moment at which it was not exceeded."""
    values, counts = np.unique(acked, return_counts=True)
    return values, at[np.cumsum(counts) - 1]


def _at_work(instants: Floats, away: Sequence[tuple[int, int]]) -> Floats:
    for begun, over in away:
        instants = instants[(instants < begun) | (instants > over)]
    return instants


def _loss(
    points: npt.NDArray[np.int64], instants: Floats, upto: str, is_always: bool, away: Sequence[tuple[int, int]]
) -> dict[str, dict[str, float]]:
    names = ("commands", "bytes", "age_s")
    if not len(points) or not len(instants):
        return {name: {"p50": 0.0, "p99": 0.0, "max": 0.0} for name in names}
    worst = points[:, 0].astype(float) - 1  # just before something became durable
    worst = _at_work(worst[(worst >= instants[0]) & (worst <= instants[-1])], away)
    drawn, ends = (exposure(points, one, upto, is_always) for one in (instants, np.concatenate([instants, worst])))
    out = {}
    for name, values, all_values in zip(names, drawn, ends, strict=True):
        digits = 3 if name == "age_s" else 0
        p50, p99 = np.percentile(values, [50, 99])
        out[name] = {
            "p50": round(float(p50), digits),
            "p99": round(float(p99), digits),
            "max": round(float(all_values.max()), digits),
        }
    return out
