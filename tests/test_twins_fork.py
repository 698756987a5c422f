"""Forks and copy-on-write: the compiled loop and its twin copy the same pages, pay for them in the same commands."""

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
    MIX,
    SET_COMMANDS,
    STRING_COMMANDS,
    ZSET_COMMANDS,
    Compared,
    closed_group,
    compare,
    groups_of_clients,
    open_group,
    text_of,
)
from tests.test_twins_aof import WRITES, aof, fault


def at(*commands: tuple[str, str]) -> str:
    return "[" + ", ".join(f"{{at: {when}, run: {what}, node: main}}" for when, what in commands) + "]"


SAVE_NOW = at(("10ms", "BGSAVE"))
TWO = at(("10ms", "BGSAVE"), ("12ms", "BGSAVE"), ("13ms", "SAVE"), ("500ms", "SAVE"), ("700ms", "BGSAVE"))
STRINGS = open_group(9000, STRING_COMMANDS.replace(", DEBUG SLEEP: {weight: 0.01, duration: 2ms}", ""), more=FEW)
ONE_CORE = "{profile: default, cores: 1}"
HUGE = '{profile: default, thp: always, linux: "5.4"}'
SPLIT = '{profile: default, thp: always, linux: "6.1"}'
ASYNC = "{profile: default, async_fork: true}"
SLOW_DISK = "{profile: default, disk: {bytes_per_s: 1mb}}"
GROWING = "users: {node: main, keys: 5000, value_bytes: 30, present: 0.2}"


def strings(**more: str) -> str:
    return text_of(STRINGS, **({"timeline": SAVE_NOW} | more))


SCENARIOS = {
    "bgsave": text_of(WRITES, timeline=SAVE_NOW),
    "bgsave-twice-and-save": text_of(WRITES, timeline=TWO, duration="1s"),
    "strings": strings(),
    "strings-one-core": strings(host=ONE_CORE, duration="250ms"),
    "strings-lfu": strings(conf="maxmemory 100mb\nmaxmemory-policy allkeys-lfu", duration="300ms"),
    "strings-huge": strings(host=HUGE, conf="disable-thp no"),
    "strings-split": strings(host=SPLIT, conf="disable-thp no", duration="300ms"),
    "strings-async": strings(host=ASYNC),
    "strings-7.4": strings(version="7.4", duration="300ms"),
    "lists": text_of(open_group(8000, LIST_COMMANDS, dataset="lists", more=FEW), timeline=SAVE_NOW),
    "hashes": text_of(open_group(8000, HASH_COMMANDS, dataset="hashes", more=FEW), timeline=SAVE_NOW),
    "sets": text_of(open_group(5000, SET_COMMANDS, dataset="sets", more=FEW), timeline=SAVE_NOW),
    "zsets": text_of(open_group(5000, ZSET_COMMANDS, dataset="zsets", more=FEW), timeline=SAVE_NOW),
    "big-values": text_of(open_group(2000, MIX, dataset="big", more=FEW), timeline=SAVE_NOW, host=SLOW_DISK, duration="400ms"),
    "evictions": strings(conf="maxmemory 3mb\nmaxmemory-policy allkeys-lru"),
    "growing": text_of(open_group(20000, "{SET: 1}", more=FEW), datasets=GROWING, timeline=SAVE_NOW, host=SLOW_DISK,
                       duration="400ms"),
    "growing-7.4": text_of(open_group(20000, "{SET: 1, DEL: 0.7}", more=FEW), datasets=GROWING, timeline=SAVE_NOW, host=SLOW_DISK,
                           duration="400ms", version="7.4"),
    "flushall": text_of(WRITES, timeline=at(("10ms", "BGSAVE"), ("40ms", "FLUSHALL")), host=SLOW_DISK, duration="300ms"),
    "save-point": text_of(WRITES, conf="save 1 10", duration="5s"),
    "save-point-misconf": text_of(WRITES, conf="save 1 10", duration="9s", timeline=fault("full_disk", "1s", "6s")),
    "refused": text_of(WRITES, conf="save 1 10", host="{profile: default, memory: 10mb, overcommit_memory: 2}", duration="4s",
                       timeline=SAVE_NOW),
    "killed": text_of(WRITES, host="{profile: default, memory: 12mb}", duration="400ms", timeline=SAVE_NOW),
    "with-aof": text_of(WRITES, conf=aof("everysec"), timeline=SAVE_NOW, duration="3s", host=SLOW_DISK),
    "with-aof-always": text_of(WRITES, conf=aof("always", "no-appendfsync-on-rewrite yes"), timeline=SAVE_NOW, duration="500ms",
                               host=SLOW_DISK),
    "io-threads": text_of(closed_group(30, more=", pipeline: 2"), conf="io-threads 3", host="{profile: default, cores: 2}",
                          duration="60ms", timeline=SAVE_NOW),
    "scripts": text_of(open_group(3000, "{SET: 1, EVAL: {weight: 0.02, duration: 9ms}}"), conf="busy-reply-threshold 3",
                       host=ONE_CORE, timeline=at(("1ms", "BGSAVE"), ("2ms", "BGSAVE")), duration="300ms"),
    "rewrite": text_of(WRITES, conf=aof("everysec"), duration="600ms", host=SLOW_DISK,
                       timeline=at(("10ms", "BGREWRITEAOF"), ("130ms", "BGREWRITEAOF"), ("140ms", "BGSAVE SCHEDULE"))),
    "flushall-saves": text_of(WRITES, conf="save 3600 1", duration="300ms",
                           timeline=at(("10ms", "FLUSHALL"), ("30ms", "BGSAVE"))),
    "rewrite-by-growth": text_of(WRITES, conf=aof("always", "auto-aof-rewrite-percentage 2\nauto-aof-rewrite-min-size 1kb"),
                                 duration="2s", host=ONE_CORE),
    "rewrite-commands": text_of(WRITES, conf=aof("no", "aof-use-rdb-preamble no\naof-rewrite-incremental-fsync no"),
                                timeline=at(("10ms", "BGREWRITEAOF"), ("150ms", "BGSAVE")), duration="500ms", host=SLOW_DISK),
    "rewrite-after-save": text_of(WRITES, conf=aof("everysec", "no-appendfsync-on-rewrite yes"),
                                  timeline=at(("10ms", "BGSAVE"), ("20ms", "BGREWRITEAOF")), duration="3s", host=SLOW_DISK),
    "rewrite-full": text_of(WRITES, conf=aof("everysec", "save 1 10"), duration="4s",
                            timeline=fault("full_disk", "100ms", "2s")[:-1] + ", {at: 150ms, run: BGREWRITEAOF, node: main}]"),
    "not-incremental": text_of(WRITES, conf="rdb-save-incremental-fsync no", timeline=SAVE_NOW, host=SLOW_DISK, duration="1s"),
}  # fmt: skip


@cache
def once(name: str) -> Compared:
    return compare(SCENARIOS[name])


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_fork_and_its_twin_leave_equal_arrays(name: str) -> None:
    """DESIGN, time, luck, order: pages, faults, stalls, what is refused; integers, so ==."""
    assert once(name).differences == []
    assert once(name).world.child[dp.CH_FORKS] > 0 or name == "refused"


RARE = {
    "strings": [dp.CH_COPIED, dp.CH_FAULTED_NS, dp.CH_CHANGES],
    "strings-split": [dp.CH_COPIED, dp.CH_REGION_UNTIL],
    "strings-one-core": [dp.CH_WAITED_NS],
    "save-point-misconf": [dp.CH_MISCONFS],
    "flushall": [dp.CH_FLUSHES],
    "flushall-saves": [dp.CH_FLUSHES, dp.CH_FLUSH_NS],
    "refused": [dp.CH_REFUSED],
    "bgsave-twice-and-save": [dp.CH_SAVE_NS, dp.CH_REUSED],
}


@pytest.mark.parametrize("name", RARE)
def test_rare_paths_of_forks_are_reached(name: str) -> None:
    """A twin proves nothing about what never happened."""
    assert [int(once(name).world.child[column]) > 0 for column in RARE[name]] == [True] * len(RARE[name])


@st.composite
def worlds(draw: st.DrawFn) -> str:
    """Any clients of the other twins, a BGSAVE at any time, any kernel, any number of cores."""
    clients = "\n".join(draw(groups_of_clients(f"g{i}")) for i in range(draw(st.integers(1, 2))))
    host = draw(st.sampled_from([ONE_CORE, HUGE, SPLIT, ASYNC, SLOW_DISK, "{profile: default}"]))
    version = draw(st.sampled_from(["6.2", "7.0", "7.4", "valkey-8.0"]))
    conf = (
        "disable-thp no\n"
        + (DEBUG if version != "6.2" else "")
        + draw(st.sampled_from(["", "\nmaxclients 9", "\nappendonly yes", "\nhz 100", "\nlatency-monitor-threshold 1"]))
    )
    when = draw(st.sampled_from(["1ms", "4ms", "7ms"]))
    return text_of(
        clients, conf=conf, host=host, duration="12ms", seed=draw(st.integers(0, 1000)), datasets=DATASETS, version=version,
        timeline=at((when, "BGSAVE")),
    )  # fmt: skip


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(worlds())
def test_any_fork_leaves_equal_arrays(text: str) -> None:
    """The same over what hypothesis draws."""
    assert compare(text).differences == [], text


def test_somebody_elses_events_do_not_move_a_fork() -> None:
    """A run may be cut at any time."""
    assert compare(SCENARIOS["strings-one-core"], pause_ns=137_000).differences == []
