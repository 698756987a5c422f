"""used_memory, hash tables and eviction: the compiled loop keeps totals, its twin adds everything up whenever it is asked.

The twin's used_memory is a recount from scratch before every command, so an eviction that comes one byte too early or too late
shows in every array after it; at the end both totals are compared, and in each run the compiled loop's own recount.
"""

from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redsim.dataplane import layout as dp
from tests.test_twins import (
    DATASETS,
    DEBUG,
    FEW,
    HASH_COMMANDS,
    LIST_COMMANDS,
    LOOP,
    MIX,
    SET_COMMANDS,
    STRING_COMMANDS,
    ZSET_COMMANDS,
    Compared,
    closed_group,
    compare,
    group,
    groups_of_clients,
    open_group,
    text_of,
)

SPARSE = "users: {node: main, keys: 3000, value_bytes: {uniform: [1, 90]}, present: 0.1}"
COUNTERS = "users: {node: main, keys: 900, value_bytes: {uniform: [1, 20]}, present: 0.7}"
LARGE = """\
sets: {node: main, type: set, keys: 60, elements: 4000, value_bytes: 12}
lists: {node: main, type: list, keys: 900, elements: {uniform: [1, 200]}}
"""
LONG_LISTS = "lists: {node: main, type: list, keys: 300, value_bytes: 20, elements: {uniform: [900, 2600]}}"
DELETIONS = "{DEL: {weight: 1, keys: 30}, GET: 1}"
ALL_STRINGS = "users: {node: main, keys: 2500, value_bytes: 50}"


def short(limit: str, policy: str, more: str = "") -> str:
    return f"maxmemory {limit}\nmaxmemory-policy {policy}\n{more}"


STRINGS = open_group(20000, STRING_COMMANDS.replace(", DEBUG SLEEP: {weight: 0.01, duration: 2ms}", ""), more=FEW)
WRITES = open_group(30000, "{SET: 1, GET: 1}", more=FEW)
FULL = {"duration": "40ms"}
SCENARIOS = {
    "lru": text_of(STRINGS, conf=short("3mb", "allkeys-lru"), **FULL),
    "lru-10-samples": text_of(WRITES, conf=short("5900kb", "allkeys-lru", "maxmemory-samples 10"), **FULL),
    "lfu": text_of(STRINGS, conf=short("3mb", "allkeys-lfu", "lfu-log-factor 1"), **FULL),
    "random": text_of(STRINGS, conf=short("3mb", "allkeys-random"), **FULL),
    "slices": text_of(STRINGS, conf=short("3mb", "allkeys-random", "maxmemory-eviction-tenacity 0"), **FULL),
    "without-end": text_of(STRINGS, conf=short("2mb", "allkeys-lru", "maxmemory-eviction-tenacity 100"), **FULL),
    "nothing-left": text_of(STRINGS, conf=short("900kb", "allkeys-lru"), **FULL),
    **{policy: text_of(STRINGS, conf=short("3mb", policy), **FULL)
       for policy in ("volatile-lru", "volatile-lfu", "volatile-ttl", "volatile-random")},
    "noeviction": text_of(STRINGS, conf=short("3mb", "noeviction"), **FULL),
    "large-values": text_of(open_group(3000, "{SMEMBERS: 1, SADD: 1}", dataset="sets", more=FEW),
                            conf=short("16mb", "allkeys-lru"), datasets=LARGE, duration="60ms"),
    "large-values-lazily": text_of(open_group(3000, "{SMEMBERS: 1, SADD: 1}", dataset="sets", more=FEW), duration="60ms",
                                   conf=short("16mb", "allkeys-random", "lazyfree-lazy-eviction yes"), datasets=LARGE),
    "large-arguments": text_of(open_group(2000, "{SET: 1, GET: 1}", dataset="big", more=FEW), conf=short("5mb", "allkeys-lru")),
    "long-lists": text_of(open_group(3000, "{LPUSH: {weight: 2, elements: 9}, LPOP: 1}", dataset="lists", more=FEW),
                          conf=short("9mb", "allkeys-lru", "list-compress-depth 1"), datasets=LONG_LISTS, **FULL),
    "long-replies": text_of(group("{closed: {}}", "{GET: 1, SET: 1}", dataset="big", n=12, more=", pipeline: 4"),
                            conf=short("6mb", "allkeys-lru"), **FULL),
    "flushall": text_of(WRITES, conf=short("5mb", "allkeys-lru"), timeline="[{at: 20ms, run: FLUSHALL, node: main}]", **FULL),
    "io-threads": text_of(closed_group(30, more=", pipeline: 2"), duration="10ms",
                          conf=short("5mb", "allkeys-lru", "io-threads 3\nio-threads-do-reads yes")),
    "growing": text_of(WRITES, datasets=SPARSE, version="7.2", duration="80ms"),
    "growing-at-the-limit": text_of(WRITES, datasets=SPARSE, conf=short("1150kb", "allkeys-lru"), **FULL),
    "growing-without-cron": text_of(WRITES, datasets=SPARSE, conf="activerehashing no", duration="80ms"),
    "shrinking": text_of(open_group(3000, DELETIONS, more=FEW), duration="400ms", conf="hz 50", datasets=ALL_STRINGS),
    "shrinking-at-once": text_of(open_group(3000, DELETIONS, more=FEW), duration="200ms", version="7.4",
                                 datasets=ALL_STRINGS),
    "counters": text_of(open_group(20000, "{INCR: 1, GET: 1, DEL: 0.2, SET: 0.3}", more=FEW), datasets=COUNTERS, **FULL),
    "counters-not-shared": text_of(open_group(20000, "{INCR: 1, GET: 1, DEL: 0.2}", more=FEW), datasets=COUNTERS,
                                   conf=short("1100kb", "allkeys-lru"), **FULL),
    "glibc": text_of(open_group(5000, "{GET: 1, SET: 1, APPEND: 1}", dataset="big", more=FEW)).replace(
        "version:", "allocator: libc\n    version:", 1),
    "debian": text_of(STRINGS, **FULL).replace("version:", "allocator: jemalloc-debian\n    version:", 1),
    "idle-clients": text_of(closed_group(30, "think: 3s, think_is: exponential", LOOP), duration="14s", conf="hz 20"),
    "6.2": text_of(STRINGS, conf=short("5mb", "allkeys-lru"), version="6.2", **FULL),
    "valkey": text_of(STRINGS.replace("api", "app", 1), conf=short("3mb", "allkeys-lfu"), version="valkey-8.0", **FULL),
}  # fmt: skip


@cache
def once(name: str) -> Compared:
    return compare(SCENARIOS[name])


@pytest.mark.parametrize("name", SCENARIOS)
def test_memory_and_its_twin_leave_equal_arrays(name: str) -> None:
    """DESIGN, time, luck, order: totals kept, and totals added up anew, are the same integers."""
    assert once(name).differences == []


RARE = {
    "lru": [lambda c: c.count(dp.EVICTED), lambda c: c.count(dp.EXCEEDED_NS), lambda c: int(c.world.ages.sum())],
    "noeviction": [lambda c: c.count(dp.OOM), lambda c: c.groups(dp.G_ERR_OOM), lambda c: not c.count(dp.EVICTED)],
    "nothing-left": [lambda c: c.count(dp.OOM), lambda c: c.count(dp.EVICTED)],
    "volatile-ttl": [lambda c: c.count(dp.EVICTED), lambda c: c.count(dp.OOM)],
    "slices": [lambda c: c.count(dp.EXCEEDED_NS) - once("without-end").count(dp.EXCEEDED_NS)],
    "growing": [lambda c: c.world.dicts[dp.MAIN, dp.H_BITS] - 9],
    "shrinking": [lambda c: 11 - c.world.dicts[dp.MAIN, dp.H_BITS]],
    "shrinking-at-once": [lambda c: 11 - c.world.dicts[dp.MAIN, dp.H_BITS]],
    "idle-clients": [lambda c: (c.world.conn[:30, dp.C_RBUF] < 16384).sum()],
}


@pytest.mark.parametrize("name", RARE)
def test_rare_paths_of_memory_are_reached(name: str) -> None:
    """A twin proves nothing about what never happened."""
    assert [bool(reached(once(name)) > 0) for reached in RARE[name]] == [True] * len(RARE[name])


@st.composite
def worlds(draw: st.DrawFn) -> str:
    """One or two groups over the data sets of the other twins, a limit somewhere between nothing and enough."""
    clients = "\n".join(draw(groups_of_clients(f"g{i}")) for i in range(draw(st.integers(1, 2))))
    policy = draw(st.sampled_from(["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-ttl", "volatile-lru", "noeviction"]))
    more = f"{DEBUG}\nmaxmemory-samples {draw(st.integers(1, 12))}\n"
    more += f"maxmemory-eviction-tenacity {draw(st.sampled_from([0, 1, 10, 100]))}"
    conf = short(f"{draw(st.sampled_from([1000, 2000, 3000, 4500, 5500, 6000, 7000]))}kb", policy, more)
    version = draw(st.sampled_from(["7.0", "7.2", "7.4", "valkey-8.0"]))
    text = text_of(clients, conf=conf, duration="8ms", seed=draw(st.integers(0, 1000)), version=version, datasets=DATASETS)
    allocator = draw(st.sampled_from(["jemalloc", "jemalloc-debian", "libc"]))
    return text.replace("version:", f"allocator: {allocator}\n    version:", 1)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(worlds())
def test_any_limit_leaves_equal_arrays(text: str) -> None:
    """The same over what hypothesis draws: commands, policies, limits, versions, allocators."""
    assert compare(text).differences == [], text


@pytest.mark.parametrize("mix", [MIX, LIST_COMMANDS, HASH_COMMANDS, SET_COMMANDS, ZSET_COMMANDS])
def test_the_running_total_is_the_recount_after_any_mix(mix: str) -> None:
    """check_conservation() asserts it in every run; here over each type's commands, at another size."""
    dataset = {MIX: "users", LIST_COMMANDS: "lists", HASH_COMMANDS: "hashes", SET_COMMANDS: "sets", ZSET_COMMANDS: "zsets"}[mix]
    assert compare(text_of(open_group(9000, mix, dataset=dataset, more=FEW), duration="60ms")).differences == []
