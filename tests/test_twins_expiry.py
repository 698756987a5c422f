"""Keys with a TTL in both loops: lazily expired, in slow and in fast cycles, with a table that grows and shrinks; with ==.

As in test_twins.py, which compares; here are the scenarios.
"""

import pytest

from redsim.dataplane import layout as dp
from tests.test_twins import (
    DEBUG,
    FEW,
    HASH_COMMANDS,
    LIST_COMMANDS,
    LOOP_2,
    MIX,
    Compared,
    closed_group,
    compare,
    open_group,
    text_of,
)

READERS = open_group(8000, "{GET: 1}", dataset="cache", more=FEW)


def cache(ttl: str, keys: int = 3000, more: str = "") -> str:
    return f"cache: {{node: main, keys: {keys}, ttl: {ttl}{more}}}\n"


WRITERS = open_group(20000, "{GET: 1, SET: {weight: 2, ttl: 30ms, ttl_jitter: 20ms}}", dataset="cache", more=FEW)
ASIDE = ", on_miss: {fetch: 700us, fetch_is: exponential, ttl: 15ms, ttl_jitter: 10ms, value_bytes: {uniform: [5, 900]}}"
ASIDE_OPEN = open_group(30000, "{GET: 1}", dataset="cache", more=FEW + ASIDE)
SCENARIOS = {
    "all-at-once": text_of(READERS, datasets=cache("40ms"), duration="400ms"),
    "at-once-effort-10": text_of(READERS, datasets=cache("40ms", 9000), conf="active-expire-effort 10\nhz 50", duration="400ms"),
    "slow-host": text_of(READERS, datasets=cache("40ms", 40000), duration="600ms",
                         host="{profile: linode-2048}"),
    "measured-deletes": text_of(READERS, datasets=cache("{uniform: [20ms, 60ms]}", 20000) + "raw: {node: main, keys: 100}\n",
                                host="{profile: dev-vm}", duration="300ms"),
    "spread": text_of(READERS, datasets=cache("{uniform: [5ms, 300ms], share: 0.7}"), conf="hz 100", duration="400ms"),
    "few-of-many": text_of(READERS, datasets=cache("{uniform: [5ms, 300ms], share: 0.02}"), conf="hz 200", duration="300ms"),
    "written-again": text_of(WRITERS, datasets=cache("20ms", 2000, ", present: 0.1"), conf="hz 100", duration="300ms"),
    "version-7.4": text_of(WRITERS, datasets=cache("{uniform: [5ms, 60ms]}"), conf="hz 100", duration="300ms", version="7.4"),
    "one-database": text_of(READERS, datasets=cache("40ms", 20000), conf="databases 1", duration="300ms"),
    "forty-databases": text_of(READERS, datasets=cache("40ms", 20000), conf="databases 40\nhz 100", duration="400ms"),
    "no-rehash-in-cron": text_of(READERS, datasets=cache("40ms"), conf="activerehashing no", duration="500ms"),
    "aggregates": text_of(open_group(3000, LIST_COMMANDS, dataset="lists", more=FEW),
                          datasets="lists: {node: main, type: list, keys: 500, elements: 2000, ttl: {uniform: [10ms, 90ms]}}\n"),
    "aggregates-lazyfree": text_of(open_group(3000, HASH_COMMANDS, dataset="hashes", more=FEW), conf="lazyfree-lazy-expire yes",
                                   datasets="hashes: {node: main, type: hash, keys: 500, elements: 200, ttl: 30ms}\n"),
    "big-hashes": text_of(READERS, duration="300ms",
                          datasets=cache("1s", 90) + "hashes: {node: main, type: hash, keys: 30, elements: 20000, ttl: 90ms}\n"),
    "flushed": text_of(WRITERS, datasets=cache("{uniform: [1ms, 300ms]}"), conf=DEBUG,
                       timeline="[{at: 30ms, run: FLUSHALL, node: main}]"),
    "cache-aside-open": text_of(ASIDE_OPEN, datasets=cache("20ms", 2000, ", present: 0.5"), conf="hz 100", duration="200ms"),
    "cache-aside-closed": text_of(closed_group(20, "think: 100us", ASIDE + LOOP_2).replace("users", "cache"),
                                  datasets=cache("20ms", 500, ", present: 0.1"), conf="hz 100", duration="150ms"),
    "cache-aside-time-outs": text_of(ASIDE_OPEN.replace("on_miss", "timeout: 400us, retries: {max: 2, backoff: 300us}, on_miss"),
                                     datasets=cache("20ms", 900), duration="100ms"),
    "io-threads": text_of(open_group(60000, MIX, dataset="cache", more=", connections: 30"), datasets=cache("20ms", 9000),
                          conf="io-threads 2\nhz 100"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_compiled_expiry_and_its_twin_leave_equal_arrays(name: str) -> None:
    """DESIGN, time, luck, order: integers, so ==; the table's state and the lag of each key besides."""
    compared = compare(SCENARIOS[name])
    assert compared.differences == []
    assert compared.count(dp.EXPIRED) > 0


def reached(c: Compared, column: int) -> int:
    return int(c.world.expiry[column])


def test_rare_paths_of_expiry_are_reached() -> None:
    """A twin proves nothing about what never happened: cycles out of time, fast cycles, a shrinking table."""
    c = compare(SCENARIOS["at-once-effort-10"])
    assert int(c.world.dicts[dp.EXPIRES, dp.H_BITS]) < reached(c, dp.X_HASH_BITS)
    c = compare(SCENARIOS["slow-host"])
    assert reached(c, dp.X_CAP_REACHED) > 2
    assert reached(c, dp.X_CYCLES) > 10, "ten slow cycles in the time, the others are fast ones"
