"""Measuring the points of the fit on a real server of our own: throughput, p50, server CPU, reads and sleeps.

Rounds go over all points in turn, not one point three times, so that a drift of the machine takes all alike; a value is the
median of the rounds, its spread half of what lies between the extremes. CPU is the main thread's, from the moment before the
first request to the one after the last answer.
Differs: the load generator spins on its own core. Not modelled: points on a server that is not ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from redsim.lab import loadgen
from redsim.lab.benchmark import redis_benchmark
from redsim.lab.calm import CALM, calmest
from redsim.lab.fit import CAPACITY_OF, Measured, Point
from redsim.lab.load_plan import GroupLoad, LoadPlan, open_plan, pool
from redsim.lab.rig import RealServer, Sample
from redsim.rng import generator
from redsim.units import S

TEMPLATES = 100_000  # different requests; a closed loop sends them in turn, so they must touch more keys than a cache holds
STOCK_BYTES = 25_000_000  # of values
KEY = "key:%012d"  # 16 bytes, and what redis-benchmark calls its keys
BATCH = 1000
LONGER_S = 0.0003  # for each connection


def fill(server: RealServer, keys: int, value_bytes: int) -> None:
    """An empty database but for `keys` strings."""
    server.redis.flushall()
    value = "v" * value_bytes
    for low in range(0, keys, BATCH):
        server.redis.mset({KEY % i: value for i in range(low, min(low + BATCH, keys))})


@cache
def stock(commands: tuple[str, ...], value_bytes: int, keys: int) -> LoadPlan:
    """Requests for a load of these commands evenly, keys uniform: templates only."""
    return pool(_requests(commands, value_bytes, keys))


def _requests(commands: tuple[str, ...], value_bytes: int, keys: int) -> list[list[str | bytes]]:
    rng = generator(1, "lab", "fit", *commands)
    value = b"w" * value_bytes
    count = min(TEMPLATES, STOCK_BYTES // max(value_bytes, 1))
    which, key = rng.integers(0, len(commands), count), rng.integers(0, keys, count)
    drawn = [(commands[c], KEY % k) for c, k in zip(which, key, strict=True)]
    return [[name, key, value] if name == "SET" else [name, key] for name, key in drawn]


def measure(server: RealServer, points: Sequence[Point], *, seconds: float, repeats: int, seed: int = 1,
            progress: Callable[[float], None] = lambda share: None) -> list[Measured]:  # fmt: skip
    """Each point `repeats` times, about `seconds` each; a run that others disturbed is taken again.

    With many connections a run is longer: each one's first request makes its buffers, which is not what the others cost.
    """
    found: dict[str, list[dict[str, float]]] = {point.name: [] for point in points}
    rates: dict[str, float] = {}
    capacity, filled, done = _capacity(server, points, seconds, seed), (0, 0), 0
    for turn in range(repeats):
        for point in points:
            if (point.keys, point.value_bytes) != filled:
                fill(server, point.keys, point.value_bytes)
                filled = (point.keys, point.value_bytes)
            rates.setdefault(point.name, round((point.share or 0.0) * capacity))
            long = max(seconds, point.connections * LONGER_S)
            row, share = calmest(lambda p=point, t=long, s=seed + turn: one(server, p, rates[p.name], t, s))  # type: ignore[misc]
            found[point.name].append({**row, "disturbed": share})
            done += 1
            progress(done / (repeats * len(points)))
    return [summed_up(point.name, rates[point.name], found[point.name]) for point in points]


def _capacity(server: RealServer, points: Sequence[Point], seconds: float, seed: int) -> float:
    """Requests per second of the closed loop that open loads are shares of; 0 if no point asks."""
    closed = [point for point in points if point.name == CAPACITY_OF]
    if not closed:
        return 0.0
    fill(server, closed[0].keys, closed[0].value_bytes)
    runs = [calmest(lambda: one(server, closed[0], 0, seconds / 2, seed))[0]["per_s"] for _ in range(3)]
    return float(np.median(runs))


def summed_up(name: str, rate_per_s: float, rows: Sequence[dict[str, float]]) -> Measured:
    """Medians and relative half-widths of the calm rounds (of all, if none was)."""
    calm = [row for row in rows if row["disturbed"] < CALM] or list(rows)
    rows = [{quantity: value for quantity, value in row.items() if quantity != "disturbed"} for row in calm]
    values = {quantity: float(np.median([row[quantity] for row in rows])) for quantity in rows[0]}
    spreads = {
        quantity: (max(row[quantity] for row in rows) - min(row[quantity] for row in rows)) / 2 / max(value, 1e-9)
        for quantity, value in values.items()
    }
    disturbed = round(float(np.median([row["disturbed"] for row in calm])), 3)
    return Measured(name, rate_per_s, values, {name: round(spread, 4) for name, spread in spreads.items()}, disturbed)


def one(server: RealServer, point: Point, rate_per_s: float, seconds: float, seed: int) -> dict[str, float]:
    """cpu_us_per_command, p50_us, per_s, usec_per_call of one run of one point."""
    if point.station == "redis-benchmark":
        return _benchmark(server, point, seconds)
    requests = stock(point.commands, point.value_bytes, point.keys)
    samples: list[Sample] = []
    if point.share is not None:
        plan = open_plan(requests, rate_per_s=rate_per_s, seconds=seconds, connections=point.connections, seed=seed)
    else:
        plan = _closed_plan(requests, point, seconds)
    load = loadgen.play_plan(server.port, plan, on_start=lambda base: samples.append(server.sample()))
    counted = server.sample() - samples[0]
    return {"p50_us": load.latency_us(0.5), "per_s": load.per_s, **_of_server(counted, load.answered, point)}


def _closed_plan(requests: LoadPlan, point: Point, seconds: float) -> LoadPlan:
    group = GroupLoad("lg", point.connections, is_closed=True, pipeline=point.pipeline, stop_ns=round(seconds * S))
    return replace(requests, groups=(group,))


def _of_server(counted: Sample, answered: int, point: Point) -> dict[str, float]:
    calls = sum(counted.usec.get(name, (0, 0))[0] for name in point.commands)
    usec = sum(counted.usec.get(name, (0, 0))[1] for name in point.commands)
    return {"cpu_us_per_command": counted.cpu_ns / 1000 / max(answered, 1), "usec_per_call": usec / max(calls, 1)}


def _benchmark(server: RealServer, point: Point, seconds: float) -> dict[str, float]:
    before = server.sample()
    found = redis_benchmark(
        server.port, test=point.commands[0].lower(), clients=point.connections, pipeline=point.pipeline,
        payload_bytes=point.value_bytes, seconds=seconds, keyspace=point.keys,
    )  # fmt: skip
    counted = server.sample() - before
    calls = counted.usec.get(point.commands[0], (1, 0))[0]
    return {"p50_us": 1000 * found.p50_ms, "per_s": found.per_s, **_of_server(counted, calls, point)}
