"""A Result no simulator made: `KEYS *` on a million keys under 20,000 requests/s, drawn with numpy.

Lindley over Poisson arrivals, 12 µs per command, 3.5 µs while a queue drains, and one job of 214 ms
at t = 10 s. Only shapes and units are meant to be right; the numbers are plausible, not modelled.
"""

import copy
import dataclasses
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from redsim.run.result import Ints, Result, Series, StallView
from redsim.scenario.schema import ScenarioFile
from redsim.units import MS, US, S

QUESTION = "How long does one KEYS on a million keys hold everybody else up?"
STALL_NS = 214 * MS
STALL_AT_NS = 10 * S
WINDOW_NS = 100 * MS
_NETWORK_NS = 18 * US
_CLIENT_NS = 6 * US
_TEXT = f"""question: {QUESTION}
duration: 20s
warmup: 2s
seed: 1
"""


def _edges(sub: int) -> Ints:
    """Log-linear bucket edges, `sub` steps per doubling, 1 µs to 137 s: shape (sub * 27 + 1,), int64 ns."""
    steps = np.arange(27 * sub + 1)
    return (1024 * 2.0 ** (steps // sub) * (1 + (steps % sub) / sub)).astype(np.int64)


EDGES, FINE_EDGES = _edges(16), _edges(128)


def scenario(**clients: Any) -> Any:
    """The stand-in for redsim.scenario.load.Scenario: the attributes a report reads."""
    api = {
        "node": "main",
        "connections": 50,
        "arrivals": {"open": {"rate_per_s": 20000}},
        "commands": {"GET": 0.9, "SET": 0.1},
        "keys": {"dataset": "users", "popularity": {"zipf": 0.99}},
    }
    file = ScenarioFile.model_validate(
        {
            "question": QUESTION,
            "duration": "20s",
            "warmup": "2s",
            "hosts": {"box": {"profile": "default"}},
            "nodes": {"main": {"host": "box", "version": "7.0", "conf": 'save ""\nappendonly no\nactivedefrag yes'}},
            "datasets": {"users": {"node": "main", "keys": 1000000, "key_bytes": 15, "value_bytes": 100}},
            "clients": clients or {"api": api},
            "timeline": [{"at": "10s", "run": "KEYS *", "node": "main"}],
        }
    )
    return SimpleNamespace(
        name="keys-stall",
        path="scenarios/learn/keys-stall.yaml",
        text=_TEXT,
        file=file,
        confs={},
        overrides=(),
        sentinel_conf=None,
    )


def _queue(stall: bool) -> tuple[Ints, Ints, Ints]:
    """arrived, done, latency of every request, int64 ns, shape (400k,)."""
    rng = np.random.Generator(np.random.PCG64(7))
    arrived = np.sort(rng.integers(0, 20 * S, 400_000))
    service = rng.integers(9 * US, 15 * US, arrived.size)
    if stall:
        queued = (arrived >= STALL_AT_NS) & (arrived < STALL_AT_NS + STALL_NS + 16 * MS)
        service[queued] = 3500
        first = int(np.searchsorted(arrived, STALL_AT_NS))
        service[first] += STALL_NS
    before = np.cumsum(service) - service
    done = service + before + np.maximum.accumulate(arrived - before)
    noise = rng.exponential(4 * US, arrived.size).astype(np.int64)
    return arrived, done, done - arrived + _NETWORK_NS + _CLIENT_NS + noise


def _series(command: str, arrived: Ints, latency: Ints) -> Series:
    window = arrived // WINDOW_NS
    bucket = np.searchsorted(EDGES, latency, side="right") - 1
    by_window = np.zeros((200, EDGES.size - 1), dtype=np.int64)
    np.add.at(by_window, (window, bucket), 1)
    counts = np.histogram(latency[arrived >= 2 * S], FINE_EDGES)[0].astype(np.int64)
    return Series("api", command, FINE_EDGES, counts, EDGES, by_window)


def _latency_rows(command: str, arrived: Ints, latency: Ints) -> list[dict[str, Any]]:
    rows = []
    cuts = np.searchsorted(arrived, np.arange(201) * WINDOW_NS)
    for w in range(200):
        part = latency[cuts[w] : cuts[w + 1]] / 1000
        p50, p90, p99, p999 = np.percentile(part, [50, 90, 99, 99.9])
        rows.append(
            {
                "start_s": w / 10,
                "window_s": 0.1,
                "group": "api",
                "command": command,
                "count": part.size,
                "mean_us": part.mean(),
                "p50_us": p50,
                "p90_us": p90,
                "p99_us": p99,
                "p999_us": p999,
                "max_us": part.max(),
            }
        )
    return rows


def _spread(latency: Ints) -> dict[str, float]:
    us = latency / 1000
    p50, p90, p99, p999 = np.percentile(us, [50, 90, 99, 99.9])
    return {
        "mean": float(us.mean()),
        "p50": float(p50),
        "p90": float(p90),
        "p99": float(p99),
        "p999": float(p999),
        "max": float(us.max()),
    }


def _blame(spread: dict[str, float], stall: bool) -> dict[str, dict[str, float]]:
    blame = {}
    for name in ("mean", "p50", "p99", "p999"):
        parts = {"network": 18.0, "client": 6.0, "own service": 2.0, "wake-up": 5.0, "GET": 3.0}
        rest = max(0.0, spread[name] - sum(parts.values()))
        blame[name] = {**parts, ("KEYS" if stall and rest > 1000 else "serverCron"): rest}
    return blame


def _view(arrived: Ints, done: Ints) -> StallView:
    end = STALL_AT_NS + STALL_NS
    segments, t, lane = [], STALL_AT_NS - 3 * MS, 0
    while t < STALL_AT_NS - 50 * US:
        segments.append((t, t + 9 * US, ("read", "GET", "write", "poll")[lane % 4], lane % 50))
        t, lane = t + 12 * US, lane + 1
    segments.append((STALL_AT_NS, end, "KEYS", 51))
    for i in range(400):
        a = end + i * 37 * US
        segments += [
            (a, a + 7 * US, "read", i % 50),
            (a + 7 * US, a + 30 * US, "GET", i % 50),
            (a + 30 * US, a + 37 * US, "write", i % 50),
        ]
    held = (arrived >= STALL_AT_NS - MS) & (arrived < end + 20 * MS) & (done - arrived > 100 * US)
    requests = pd.DataFrame({"group": "api", "command": "GET", "arrived_ns": arrived[held], "done_ns": done[held]})
    frame = pd.DataFrame(segments, columns=["start_ns", "end_ns", "what", "client"])
    return StallView("main", "KEYS", STALL_AT_NS, end, frame, requests)


def _summary(spread: dict[str, float], by_command: dict[str, Any], blame: dict[str, Any], stall: bool) -> dict[str, Any]:
    return {
        "schema": 1,
        "redsim_version": "0.1.0",
        "scenario": "keys-stall",
        "question": QUESTION,
        "seed": 1,
        "digest": "9f2c44aa01b7e3d0",
        "simulated_s": 20.0,
        "wall_s": 0.41,
        "commands": 400_001,
        "commands_per_wall_s": 975_612.0,
        "host": {"cores": 2, "profile": "default"},
        "clients": {
            "api": {
                "offered_per_s": 20_000.0,
                "throughput_per_s": 19_998.0,
                "completed": 359_964,
                "failed": 0,
                "in_flight": 2,
                "retries": 0,
                "errors": {"timeout": 0, "connection": 0, "busy": 0},
                "latency_us": spread,
                "by_command": by_command,
                "blame_us": blame,
            }
        },
        "nodes": {
            "main": {
                "role": "master",
                "cpu_utilisation": 0.27,
                "main_thread_busy_s": 5.4,
                "polls": 371_201,
                "reads": 399_120,
                "writes": 399_120,
                "commands": 400_001,
                "commands_per_poll": 1.08,
                "connected_clients": 51,
                "rejected_connections": 0,
                "io_threads": {
                    "configured": 1,
                    "active_share": 0.0,
                    "threaded_reads": 0,
                    "threaded_writes": 0,
                },
                "stalls": {"command": {"count": 1, "total_us": 214_000, "max_us": 214_000}} if stall else {},
                "slowlog": [{"id": 0, "time_s": 10.214, "duration_us": 214_000, "args": ["KEYS", "*"]}] if stall else [],
                "info": {"Stats": {"total_commands_processed": 400_001, "instantaneous_ops_per_sec": 20_011}},
            }
        },
        "findings": [],
    }


_STILL = (
    "maxmemory_bytes", "expires", "expired_keys", "stale_keys", "expiry_lag_s", "evicted_keys", "keyspace_hits",
    "keyspace_misses",
)  # fmt: skip


def _memory() -> pd.DataFrame:
    t = np.arange(0, 20, 0.1)
    return pd.DataFrame(
        {
            "time_s": t,
            "node": "main",
            "keys": 1_000_000,
            "connected_clients": 50,
            "query_buffers_bytes": 812_000,
            "output_buffers_bytes": 0,
            "dict_table_bytes": 16_777_216,
            "used_memory_bytes": 170_000_000,
            "used_memory_rss_bytes": 186_000_000,
            "startup_bytes": 860_000,
            "clients_bytes": 1_900_000,
            "keys_bytes": 56_000_000,
            "values_bytes": 94_462_784,
            **dict.fromkeys(_STILL, 0),
        }
    )


def _tables(spread: dict[str, float], blame: dict[str, Any], stall: bool) -> dict[str, pd.DataFrame]:
    stalls = [(10.0, "main", "command", 214_000.0, "KEYS * on 1,000,000 keys")] if stall else []
    events = [
        (0.0, "main", "Ready to accept connections"),
        (10.0, "redis-cli", "KEYS *"),
        (20.0, "main", "end of the run"),
    ]
    commands = [
        (
            "api",
            name,
            n,
            0,
            n if name == "GET" else 0,
            0,
            spread["p50"],
            spread["p99"],
            spread["p999"],
            spread["max"],
            2.1,
        )
        for name, n in (("GET", 323_967), ("SET", 35_997))
    ]
    directives = [
        ("main", 1, "save", '""', "not modelled yet", "persistence is not modelled yet; nothing is saved"),
        ("main", 2, "appendonly", "no", "not modelled yet", "persistence is not modelled yet"),
        ("main", 3, "hz", "10", "modelled", "serverCron runs every 100 ms"),
    ]
    blames = [("api", percentile, cause, us) for percentile, parts in blame.items() for cause, us in parts.items()]
    guesses = [
        ("wake_up_ns", "5000", "a poll that slept costs a wake-up of the thread"),
        ("cron_ns", "42000", "one serverCron"),
    ]
    replication = ["time_s", "replica", "state", "master_offset", "lag_bytes", "lag_s"]
    command_columns = [
        "group",
        "command",
        "completed",
        "failed",
        "hits",
        "misses",
        "p50_us",
        "p99_us",
        "p999_us",
        "max_us",
        "usec_per_call",
    ]
    return {
        "memory": _memory(),
        "stalls": pd.DataFrame(stalls, columns=["start_s", "node", "event", "duration_us", "because"]),
        "events": pd.DataFrame(events, columns=["time_s", "who", "text"]),
        "replication": pd.DataFrame(columns=replication),
        "blame": pd.DataFrame(blames, columns=["group", "percentile", "cause", "us"]),
        "commands": pd.DataFrame(commands, columns=command_columns),
        "directives": pd.DataFrame(directives, columns=["node", "line", "directive", "value", "status", "says"]),
        "guesses": pd.DataFrame(guesses, columns=["name", "value", "says"]),
    }


@lru_cache
def _made(stall: bool) -> Result:
    arrived, done, latency = _queue(stall)
    is_set = np.arange(arrived.size) % 10 == 0
    parts = {"GET": (arrived[~is_set], latency[~is_set]), "SET": (arrived[is_set], latency[is_set])}
    counted = latency[arrived >= 2 * S]
    spread = _spread(counted)
    blame = _blame(spread, stall)
    by_command = {c: {"count": int((a >= 2 * S).sum()), "latency_us": _spread(x[a >= 2 * S])} for c, (a, x) in parts.items()}
    rows = [row for command, (a, x) in parts.items() for row in _latency_rows(command, a, x)]
    text = [
        "1) 1) (integer) 0",
        "   2) (integer) 10",
        "   3) (integer) 214000",
        '   4) 1) "KEYS"',
        '      2) "*"',
    ]
    return Result(
        scenario=scenario(),
        summary=_summary(spread, by_command, blame, stall),
        latency=pd.DataFrame(rows),
        series=[_series(command, a, x) for command, (a, x) in parts.items()],
        window_ns=WINDOW_NS,
        stall_view=_view(arrived, done) if stall else None,
        slowlog={"main": text if stall else []},
        not_modelled=["RDB and AOF persistence is not modelled yet."],
        **_tables(spread, blame, stall),
    )


def stalled() -> Result:
    """One KEYS of 214 ms at t = 10 s under 20,000 requests/s. A copy: its summary may be changed."""
    return dataclasses.replace(_made(True), summary=copy.deepcopy(_made(True).summary))


def calm() -> Result:
    """The same load and nothing else. A copy."""
    return dataclasses.replace(_made(False), summary=copy.deepcopy(_made(False).summary))


def empty() -> Result:
    """A run stopped by Ctrl-C before its first request ended: every frame without rows, no percentiles."""
    base = stalled()
    names = [
        "latency",
        "memory",
        "stalls",
        "events",
        "replication",
        "blame",
        "commands",
        "directives",
        "guesses",
    ]
    frames = {name: pd.DataFrame(columns=getattr(base, name).columns) for name in names}
    api = {
        **base.summary["clients"]["api"],
        "throughput_per_s": 0.0,
        "completed": 0,
        "in_flight": 0,
        "by_command": {},
        "blame_us": {},
    }
    api["latency_us"] = dict.fromkeys(("mean", "p50", "p90", "p99", "p999", "max"))
    node = {
        **base.summary["nodes"]["main"],
        "stalls": {},
        "slowlog": [],
        "cpu_utilisation": 0.0,
        "commands": 0,
    }
    summary = {
        **base.summary,
        "clients": {"api": api},
        "nodes": {"main": node},
        "simulated_s": 0.0,
        "commands": 0,
    }
    return dataclasses.replace(base, summary=summary, series=[], stall_view=None, slowlog={}, partial=True, **frames)
