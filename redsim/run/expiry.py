"""What a run says of keys that expired: how many, by whom, how late, and how many stay past their time.

Lag is the time from when a key was due to when it was removed; a key that nobody looks at waits for the active cycle.
"""

from typing import Any

import numpy as np

from redsim.dataplane import layout as dp
from redsim.dataplane.expires import MS_NS
from redsim.dataplane.histogram import COARSE_EDGES, percentiles_ns
from redsim.units import MS, S

LAG_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


def expiry(w: dp.World) -> dict[str, Any]:
    """nodes.<node>.expiry of the summary."""
    x = w.expiry
    expired, active = int(w.st[dp.EXPIRED]), int(x[dp.X_ACTIVE])
    return {
        "expired_keys": expired,
        "expired_by_cycles": active,
        "expired_by_access": expired - active,
        "stale_keys": stale_keys(w),
        "cycles": int(x[dp.X_CYCLES]),
        "cycles_out_of_time": int(x[dp.X_CAP_REACHED]),
        "cycle_ms": round(int(x[dp.X_CYCLE_NS]) / MS, 3),
        "active_lag_ms": lag_ms(w, dp.ACTIVE),
        "lazy_lag_ms": lag_ms(w, dp.LAZY),
    }


def lag_ms(w: dp.World, by: int) -> dict[str, float]:
    """mean, percentiles and max of how late keys were removed `by` LAZY or ACTIVE expiry; empty without any."""
    counts, total, longest = w.lag[by, :-2], int(w.lag[by, -2]), int(w.lag[by, -1])
    if counts.sum() == 0:
        return {}
    found = percentiles_ns(counts[None], COARSE_EDGES, list(LAG_PERCENTILES.values()), np.array([longest]))[0].tolist()
    percentiles = {name: round(ns / MS, 3) for name, ns in zip(LAG_PERCENTILES, found, strict=True)}
    return {"mean": round(total / int(counts.sum()) / MS, 3), **percentiles, "max": round(longest / MS, 3)}


def lag_total_s(w: dp.World) -> float:
    """How late the keys were that expired so far, added up."""
    return int(w.lag[:, -2].sum()) / S


def stale_keys(w: dp.World) -> int:
    """Keys past their time that are still there now."""
    return int(np.count_nonzero((w.kx > 0) & (w.kx + MS_NS <= w.st[dp.NOW])))
