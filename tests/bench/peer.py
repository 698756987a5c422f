"""The naive peer: the model of a Redis server that anyone would write first, in SimPy.

One Resource, one process per request, exponential draws from numpy one at a time, latencies in a list, percentiles by numpy. It
knows no event loop, no keys, no batches and no blame; it is what redsim's speed is compared with. `lean` spares it the process
per request in a closed loop (each connection is one process), so that nobody can say the peer was hobbled. A rehearsal's peer is
the cache anyone would write first, an OrderedDict.
"""

from collections import OrderedDict
from collections.abc import Generator
from typing import Any

import numpy as np
import simpy

SERVICE_S = 10e-6  # mean of an exponential service


def _request(
    env: simpy.Environment, server: simpy.Resource, rng: np.random.Generator, out: list[float]
) -> Generator[Any, Any, None]:
    begun = env.now
    with server.request() as turn:
        yield turn
        yield env.timeout(rng.exponential(SERVICE_S))
    out.append(env.now - begun)


def _percentiles(latencies: list[float]) -> list[float]:
    return [float(q) for q in np.percentile(latencies, (50, 90, 99, 99.9))]


def open_loop(requests: int, rate_per_s: float, seed: int) -> list[float]:
    """Poisson arrivals, a process each. Returns p50, p90, p99, p99.9 in s."""
    env, rng, out = simpy.Environment(), np.random.default_rng(seed), list[float]()
    server = simpy.Resource(env)

    def source() -> Generator[Any, Any, None]:
        for _ in range(requests):
            yield env.timeout(rng.exponential(1 / rate_per_s))
            env.process(_request(env, server, rng, out))

    env.process(source())
    env.run()
    return _percentiles(out)


def closed_loop(requests: int, connections: int, seed: int, *, lean: bool = False) -> list[float]:
    """Every connection asks again as soon as it is answered. Returns p50, p90, p99, p99.9 in s."""
    env, rng, out = simpy.Environment(), np.random.default_rng(seed), list[float]()
    server = simpy.Resource(env)

    def connection() -> Generator[Any, Any, None]:
        for _ in range(requests // connections):
            if lean:
                yield from _request(env, server, rng, out)
            else:
                yield env.process(_request(env, server, rng, out))

    for _ in range(connections):
        env.process(connection())
    env.run()
    return _percentiles(out)


def lru_hits(keys: list[int], capacity: int) -> int:
    """Hits of an exact LRU cache of so many keys."""
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in keys:
        if key in cache:
            hits += 1
            cache.move_to_end(key)
        else:
            cache[key] = None
            if len(cache) > capacity:
                cache.popitem(last=False)
    return hits
