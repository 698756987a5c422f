"""What a real server's memory was around a run: its data set in bytes, single keys, and how its keys with a TTL became fewer.

    one key of each data set, FLUSHALL → used_memory → fill → used_memory, some keys, RSS → play, expiring keys counted meanwhile

The first key makes the server allocate what it keeps from the first call of each command on (7.0: a latency histogram), so that
the difference is the data set's alone: keys, values, entries and tables. Pages that the fill left behind (old tables above all)
are given back by MEMORY PURGE before RSS is read; by themselves they go within ten seconds.
Mirrors INFO, MEMORY USAGE and OBJECT ENCODING. Not modelled: what the connections take; nothing is sent while one looks.
"""

import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from redsim.lab.resp import encode
from redsim.lab.rig import RealServer
from redsim.lab.shapes import Shape, exchange, fill
from redsim.run.datasets import due_ns
from redsim.units import MS, S

KEYS_LOOKED_AT = 24  # of each data set
SETTLING_S = 0.35  # INFO's RSS is as old as the last cron of 100 ms; a closed connection goes in the next turn
EXPIRE_KEYS_PER_S = 100_000  # PEXPIREATs, less than a server takes in one pipeline
EXPIRE_MARGIN_S = 2.5  # to look at the memory and to connect
WATCH_S = 0.02


@dataclass(frozen=True)
class KeySeen:
    """One key of a data set: its index, OBJECT ENCODING and MEMORY USAGE with SAMPLES 0."""

    dataset: str
    index: int
    encoding: str
    memory_bytes: int


@dataclass(frozen=True)
class MemorySeen:
    """`dataset_bytes`: used_memory of the filled server less that of the empty one; `rss_bytes`: used_memory_rss, filled.

    `expires`: (ns from the run's start, keys with a TTL), in time order; empty where no data set has one.
    """

    dataset_bytes: int
    rss_bytes: int
    keys: list[KeySeen]
    expires: list[tuple[int, int]] = field(default_factory=list)


def empty_bytes(server: RealServer, shapes: list[Shape]) -> int:
    """used_memory of the server without a key, after each command that will fill it has been called once."""
    for shape in shapes:
        fill(server, replace(shape, data=shape.data.model_copy(update={"keys": min(shape.data.keys, 1), "present": 1.0})))
    server.redis.pexpireat("nobody", 1)
    server.redis.flushall()
    return _settled(server)["used_memory"]


def look(server: RealServer, shapes: list[Shape], empty: int) -> MemorySeen:
    """The filled server's memory; `empty` of empty_bytes()."""
    used = _settled(server)["used_memory"]
    keys = [seen for shape in shapes for seen in _keys(server, shape)]
    server.redis.memory_purge()
    return MemorySeen(used - empty, _settled(server)["used_memory_rss"], keys)


def _settled(server: RealServer) -> dict[str, int]:
    time.sleep(SETTLING_S)
    found: dict[str, int] = server.redis.info("memory")
    return found


def _keys(server: RealServer, shape: Shape) -> list[KeySeen]:
    """KEYS_LOOKED_AT keys, as far from each other as can be."""
    there = shape.present()
    chosen = there[np.linspace(0, there.size - 1, min(KEYS_LOOKED_AT, there.size)).astype(np.int64)].tolist()
    pipe = server.redis.pipeline(transaction=False)
    for i in chosen:
        pipe.memory_usage(shape.key(i), samples=0)
        pipe.object("ENCODING", shape.key(i))
    answers = pipe.execute()
    return [KeySeen(shape.name, i, str(answers[2 * n + 1]), int(answers[2 * n])) for n, i in enumerate(chosen)]


# ---- keys that expire ----------------------------------------------------------------------------------------------------


def set_ttls(server: RealServer, shapes: list[Shape]) -> int:
    """Give the keys of data sets with a TTL theirs, counted from the run's start; that start as CLOCK_MONOTONIC ns.

    Their dict is settled then: each is looked up once, which moves a bucket (dict.c:dictFind).
    """
    keys = sum(shape.data.keys for shape in shapes)
    start_s = _time_s(server) + EXPIRE_MARGIN_S + keys / EXPIRE_KEYS_PER_S
    for shape in shapes:
        assert shape.data.ttl is not None
        due_ms = due_ns(shape.data, shape.data.ttl, shape.seed, shape.name) // MS
        there = shape.present()
        mine = there[due_ms[there] > 0]
        at_ms = (start_s * 1000 + due_ms[mine]).astype(np.int64).tolist()
        requests = [encode("PEXPIREAT", shape.key(i), ms) for i, ms in zip(mine.tolist(), at_ms, strict=True)]
        looks = [encode("EXISTS", shape.key(i)) for i in mine.tolist()]
        exchange(server, [*requests, *looks], shape.name)
    return time.monotonic_ns() + round((start_s - _time_s(server)) * S)


def _time_s(server: RealServer) -> float:
    """The server's own clock, which TTLs go by."""
    seconds, us = server.redis.time()
    return float(seconds + us / 1e6)


class ExpiryWatch:
    """Counts the keys with a TTL every WATCH_S from start() to stop(), over a connection of its own."""

    def __init__(self, server: RealServer) -> None:
        self._server, self._stop, self._base_ns = server, threading.Event(), 0
        self._rows: list[tuple[int, int]] = []
        self._thread = threading.Thread(target=self._watch, name="expiry", daemon=True)

    def start(self, base_ns: int) -> None:
        """Begin to count; times are told from `base_ns`, CLOCK_MONOTONIC."""
        self._base_ns = base_ns
        self._thread.start()

    def stop(self) -> list[tuple[int, int]]:
        """(ns from the start, keys with a TTL) so far."""
        self._stop.set()
        self._thread.join()
        return self._rows

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_S):
            found: dict[str, Any] = self._server.redis.info("keyspace").get("db0", {})
            self._rows.append((time.monotonic_ns() - self._base_ns, int(found.get("expires", 0))))


def gone_after_ms(expires: list[tuple[int, int]], last_due_ns: int) -> float:
    """From the last key's time to the first look that finds none left, ms; nan if there was none such."""
    return next(((at - last_due_ns) / MS for at, count in expires if count == 0 and at >= last_due_ns), float("nan"))
