"""A Result no simulator made: a cache of 100 MB that fills within five seconds, evicts from then on, and has TTLs.

Shapes and units are meant to be right, the numbers plausible, not modelled.
"""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from report_example import calm

from redsim.run.result import DATASET_COLUMNS, Result
from redsim.units import MIB

LIMIT = 100 * MIB
FULL_S = 5.0


def samples() -> pd.DataFrame:
    """memory.csv of 20 s: the values fill up, hits fall, keys go past their time from 8 s on."""
    time_s = np.arange(1, 201) / 10
    full = np.minimum(time_s / FULL_S, 1)
    parts = {
        "startup_bytes": np.full(200, 860_000),
        "clients_bytes": np.full(200, 1_900_000),
        "dict_table_bytes": np.where(time_s < 2, 2 * MIB, 4 * MIB),
        "keys_bytes": (20 * MIB * full).astype(int),
    }
    used = (10 * MIB + 90 * MIB * full).astype(int)
    parts["values_bytes"] = used - sum(parts.values())
    late = np.maximum(time_s - 8, 0)
    return pd.DataFrame(
        {
            "time_s": time_s,
            "node": "main",
            "keys": (300_000 * full).astype(int),
            "connected_clients": 50,
            "query_buffers_bytes": 0,
            "output_buffers_bytes": 0,
            "used_memory_bytes": used,
            "used_memory_rss_bytes": used + 12 * MIB,
            "maxmemory_bytes": LIMIT,
            "expires": 100_000,
            "expired_keys": (2000 * late).astype(int),
            "stale_keys": (3000 * late).astype(int),
            "expiry_lag_s": 3000 * late,
            "evicted_keys": (4000 * np.maximum(time_s - FULL_S, 0)).astype(int),
            "keyspace_hits": (10_000 * np.minimum(time_s, FULL_S) + 7000 * np.maximum(time_s - FULL_S, 0)).astype(int),
            "keyspace_misses": (3000 * np.maximum(time_s - FULL_S, 0)).astype(int),
            **parts,
        }
    )


def datasets(**change: Any) -> pd.DataFrame:
    """One data set of hashes that miss their limit by little."""
    row: dict[str, Any] = {
        "dataset": "carts", "node": "main", "type": "hash", "keys": 100, "encodings": "hashtable",
        "memory_usage_bytes": 41_900.0, "used_memory_bytes": 4_193_000, "directive": "hash-max-listpack-entries 600",
        "used_memory_with_it_bytes": 2_055_000, "says": "",
    }  # fmt: skip
    return pd.DataFrame([row | change], columns=DATASET_COLUMNS)


def cached() -> Result:
    """The calm run of report_example, with such a memory."""
    result = calm()
    result.summary["host"]["memory_bytes"] = 16 * 1024 * MIB
    result.summary["nodes"]["main"] |= {
        "maxmemory_bytes": LIMIT,
        "evicted_keys": 60_000,
        "eviction_age_s": {"p50": 4, "p90": 9},
        "hit_ratio": 0.78,
        "oom_errors": 0,
        "used_memory_bytes": {"final": LIMIT, "peak": LIMIT},
        "used_memory_rss_bytes": {"final": LIMIT + 12 * MIB, "peak": LIMIT + 12 * MIB},
        "expiry": {"expired_keys": 24_000, "cycles_out_of_time": 12, "cycle_ms": 300.0},
        "info": {"memory": {"used_memory": LIMIT, "maxmemory_policy": "allkeys-lru"}},
        "memory_stats": {"peak.allocated": LIMIT, "db.0": {"overhead.hashtable.main": 7}, "fragmentation": "1.12"},
        "memory_doctor": [{"code": "high_frag", "advice": "RSS is more than 1.4 times used_memory"}],
    }
    return dataclasses.replace(result, memory=samples(), datasets=datasets())
