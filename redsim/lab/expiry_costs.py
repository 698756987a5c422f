"""What a key costs in the cycles of active expiry: looking at it, and deleting it past its time.

A database of strings is filled with active expiry off (DEBUG SET-ACTIVE-EXPIRE 0); a share of the keys is due, the others in
hours. Expiry is turned on and the time that the cycles took until all due keys are gone is read from INFO stats. At effort 10 a
cycle goes on while more than one key in a hundred that it saw was due, so that it goes through the whole table:

    all due        ms = n * (look + delete)          expire_cycle_cpu_milliseconds; expired_keys says when it is over,
    a quarter due  ms = n * (look + delete / 4)      expired_time_cap_reached_count how many cycles ran into their limit

Two equations for each number of keys. INFO tells whole milliseconds, so small databases are filled again until MS_MIN are
together. Differs: what cycles look at after the last due key is in it (a round of 65 keys in 0.1 s).
Not modelled: big values freed in the cycle; the first look after a sleep, which finds colder caches.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from redsim.lab.costs import Bench
from redsim.lab.probes import Figure, figure
from redsim.lab.rig import RealServer
from redsim.scenario.errors import ScenarioError

Rows = list[list[int]]  # keys, ns, low, high
QUARTER = 4
MS_MIN = 60  # of the cycles' time in one measurement: INFO's whole milliseconds are then 2 % of it
FILLS_MAX = 12
DUE_IN_MS = 20  # after the last key is there
VALUE = 16  # bytes
PATIENCE_S = 20.0
AT_ONCE = 10_000  # keys of one script
STRAGGLERS = 100  # one due key in so many may be left: below 1 % of a table's buckets no cycle looks

FILL = """
local n, every, due = tonumber(ARGV[1]), tonumber(ARGV[2]), 0
local value, late = string.rep('v', tonumber(ARGV[3])), ARGV[5]
for i = tonumber(ARGV[6]), math.min(tonumber(ARGV[6]) + tonumber(ARGV[7]) - 1, n - 1) do
  if i % every == 0 then redis.call('SET', 'key:' .. i, value, 'PXAT', ARGV[4]); due = due + 1
  else redis.call('SET', 'key:' .. i, value, 'PXAT', late) end
end
return due"""


def sizes(bench: Bench) -> list[int]:
    """How many keys are measured."""
    return [n for n in (10_000, 100_000, 1_000_000) if n <= bench.elements_max]


def expiry(bench: Bench, progress: Callable[[float], None]) -> dict[str, Any]:
    """{expire_sample_ns, expire_del_ns: figures; expire_del: rows of what deleting takes more, by keys; caps: cycles that ran
    into their limit}. Only on a server of our own, which is left with active expiry on and empty."""
    assert bench.is_own
    redis = bench.server.redis
    before = redis.config_get("hz", "active-expire-effort")
    redis.config_set("hz", 10)
    redis.config_set("active-expire-effort", 10)
    looks: list[float] = []
    deletes: dict[int, list[float]] = {}
    caps = 0
    todo = [(n, turn) for turn in range(bench.repeats) for n in sizes(bench)]
    for i, (n, _) in enumerate(todo):
        whole_ns, reached = per_key_ns(bench.server, n, 1)
        part_ns, _ = per_key_ns(bench.server, n, QUARTER)
        delete = (whole_ns - part_ns) * QUARTER / (QUARTER - 1)
        deletes.setdefault(n, []).append(max(delete, 0.0))
        looks.append(max(whole_ns - delete, 0.0))
        caps += reached
        progress((i + 1) / len(todo))
    redis.flushall()
    for name, value in before.items():
        redis.config_set(str(name), str(value))
    return {**solved(looks, deletes), "caps": caps}


def solved(looks: list[float], deletes: dict[int, list[float]]) -> dict[str, Any]:
    """The figures and the curve of these measurements: the fewest keys give the constant, more keys what is paid beside it."""
    fewest = min(deletes)
    base = float(np.median(deletes[fewest]))
    rows = [[1, 0, 0, 0]]
    for n, found in sorted(deletes.items()):
        rows.append([n, *(max(round(ns - base), 0) for ns in (float(np.median(found)), min(found), max(found)))])
    of: dict[str, Figure] = {
        "expire_sample_ns": figure(looks, f"looking at a key in a cycle: {_keys(deletes)} keys, all due against a quarter due"),
        "expire_del_ns": figure(deletes[fewest], f"deleting a key past its time in a cycle, among {fewest}"),
    }
    return {**of, "expire_del": rows}


def _keys(deletes: dict[int, list[float]]) -> str:
    return " and ".join(str(n) for n in sorted(deletes))


def per_key_ns(server: RealServer, n: int, every: int) -> tuple[float, int]:
    """(ns of the cycles per key of a database of `n` keys of which one in `every` is due, cycles that ran into their limit)."""
    ms = caps = fills = 0
    while ms < MS_MIN and fills < FILLS_MAX:
        one_ms, one_caps = _once(server, n, every)
        ms, caps, fills = ms + one_ms, caps + one_caps, fills + 1
    return 1e6 * ms / (n * fills), caps


def _once(server: RealServer, n: int, every: int) -> tuple[int, int]:
    """(ms of the cycles, cycles that ran into their limit) until the due keys of one fill are gone."""
    redis = server.redis
    redis.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    try:
        due = _filled(server, n, every)
        before = server.sample().stats
    finally:
        redis.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 1)
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        time.sleep(0.02)
        after = server.sample().stats
        if after["expired_keys"] - before["expired_keys"] >= due - max(due // STRAGGLERS, 1):
            return (after["expire_cycle_cpu_milliseconds"] - before["expire_cycle_cpu_milliseconds"],
                    after["expired_time_cap_reached_count"] - before["expired_time_cap_reached_count"])  # fmt: skip
    raise ScenarioError(f"{due} keys past their time were not gone after {PATIENCE_S:g} s; is active expiry allowed here?")


def _filled(server: RealServer, n: int, every: int) -> int:
    """The database is `n` keys, one in `every` of them past due by now; how many those are. A fill that took longer than its keys
    were to live is done again with more time: what a key set after its time becomes is not the same in all versions."""
    live_ms = DUE_IN_MS + n // 100  # a key takes a microsecond or so
    for _ in range(FILLS_MAX):
        server.redis.flushall()
        due_ms = _clock_ms(server) + live_ms
        late_ms = due_ms + 10_000_000
        due = sum(
            int(server.redis.eval(FILL, 0, n, every, VALUE, due_ms, late_ms, first, AT_ONCE)) for first in range(0, n, AT_ONCE)
        )
        left_ms = due_ms - _clock_ms(server)
        if left_ms > 0:
            time.sleep((left_ms + 5) / 1000)
            return due
        live_ms *= 2
    raise ScenarioError(f"filling {n} keys took longer than {live_ms // 2} ms; calibrate on a calm machine")


def _clock_ms(server: RealServer) -> int:
    """The server's own clock, which its TTLs go by."""
    seconds, us = server.redis.time()
    return 1000 * int(seconds) + int(us) // 1000
