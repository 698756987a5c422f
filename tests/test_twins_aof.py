"""The AOF: the compiled loop and its twin append the same bytes, write and sync them at the same instants, refuse alike."""

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
    group,
    groups_of_clients,
    open_group,
    text_of,
)


def aof(policy: str, more: str = "") -> str:
    return f"appendonly yes\nappendfsync {policy}\n{more}"


def host(fsync: str = "", more: str = "") -> str:
    """A host whose fsyncs take one time, or the default profile's."""
    return f"{{profile: default, disk: {{fsync: [[1.0, {fsync}]]{more}}}}}" if fsync else "{profile: default}"


def fault(name: str, at: str, lasts: str, more: str = "") -> str:
    return f"[{{at: {at}, fault: {name}, host: box, for: {lasts}{', ' + more if more else ''}}}]"


SLOW = host("1400ms")
NO_LOCK = host("1400ms", ", write_waits_for_fsync: false")
WRITES = open_group(1000, "{SET: 1, GET: 1}", more=FEW)
STRINGS = open_group(9000, STRING_COMMANDS.replace(", DEBUG SLEEP: {weight: 0.01, duration: 2ms}", ""), more=FEW)
SCENARIOS = {
    "always": text_of(group("{closed: {}}", "{SET: 1, GET: 1}", dataset="users", n=20), conf=aof("always")),
    "everysec": text_of(WRITES, conf=aof("everysec"), duration="3s"),
    "everysec-slow": text_of(WRITES, conf=aof("everysec"), duration="8s", host=SLOW),
    "everysec-slow-no-lock": text_of(WRITES, conf=aof("everysec"), duration="8s", host=NO_LOCK),
    "everysec-by-ms": text_of(WRITES, conf=aof("everysec"), duration="8s", host=SLOW, version="7.4"),
    "no": text_of(WRITES, conf=aof("no"), duration="200ms"),
    "strings": text_of(STRINGS, conf=aof("always")),
    "strings-6.2": text_of(STRINGS, conf=aof("no"), version="6.2"),
    "lists": text_of(open_group(8000, LIST_COMMANDS, dataset="lists", more=FEW), conf=aof("no")),
    "hashes": text_of(open_group(8000, HASH_COMMANDS, dataset="hashes", more=FEW), conf=aof("no")),
    "sets": text_of(open_group(5000, SET_COMMANDS, dataset="sets", more=FEW), conf=aof("no")),
    "zsets": text_of(open_group(5000, ZSET_COMMANDS, dataset="zsets", more=FEW), conf=aof("no")),
    "evictions": text_of(STRINGS, conf=aof("no", "maxmemory 3mb\nmaxmemory-policy allkeys-lru\nlazyfree-lazy-eviction yes")),
    "flushall": text_of(WRITES, conf=aof("everysec"), timeline="[{at: 20ms, run: FLUSHALL, node: main}]"),
    "scripts": text_of(open_group(3000, "{SET: 1, EVAL: {weight: 0.02, duration: 9ms}}"),
                       conf=aof("always", "busy-reply-threshold 3")),
    "stuck": text_of(WRITES, conf=aof("everysec"), duration="8s", timeline=fault("stuck_disk", "500ms", "4s")),
    "stuck-always": text_of(WRITES, conf=aof("always"), duration="400ms", timeline=fault("stuck_disk", "100ms", "150ms")),
    "full": text_of(WRITES, conf=aof("everysec"), duration="300ms", timeline=fault("full_disk", "100ms", "100ms")),
    "full-no-ping": text_of(open_group(3000, "{SET: 1, PING: 1, GET: 1}", more=FEW), conf=aof("no"), duration="90ms",
                            timeline=fault("full_disk", "20ms", "20ms")),
    "full-always": text_of(WRITES, conf=aof("always"), duration="300ms", timeline=fault("full_disk", "100ms", "100ms")),
    "slow": text_of(WRITES, conf=aof("always"), duration="200ms", timeline=fault("slow_disk", "50ms", "100ms", "factor: 8.5")),
    "slow-everysec": text_of(WRITES, conf=aof("everysec"), duration="6s",
                             timeline=fault("slow_disk", "100ms", "5s", "factor: 2.0, added: 1600ms")),
    "hog": text_of(WRITES, conf=aof("always"), host=host("2ms", ", bytes_per_s: 100mb"), duration="200ms",
                   timeline=fault("disk_hog", "50ms", "100ms", "bytes_per_s: 90mb")),
    "small-memory": text_of(WRITES, conf=aof("no"), host="{profile: default, memory: 4mb, disk: {bytes_per_s: 100kb}}",
                            duration="9s"),
    "io-threads": text_of(closed_group(30, more=", pipeline: 2"), conf=aof("always", "io-threads 3"), duration="20ms"),
}  # fmt: skip


@cache
def once(name: str) -> Compared:
    return compare(SCENARIOS[name])


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_aof_and_its_twin_leave_equal_arrays(name: str) -> None:
    """DESIGN, time, luck, order: what is appended, written, synced, postponed; integers, so ==."""
    assert once(name).differences == []
    assert once(name).world.aof[dp.A_WRITTEN] > 0


RARE = {
    "everysec-slow": [dp.A_DELAYED, dp.A_POSTPONEMENTS, dp.A_POSTPONED_NS, dp.A_FSYNCS],
    "everysec-by-ms": [dp.A_POSTPONEMENTS],
    "always": [dp.A_FSYNCS],
    "stuck": [dp.A_DELAYED, dp.A_POSTPONED_NS],
    "full": [dp.A_MISCONF],
    "full-no-ping": [dp.A_MISCONF],
    "small-memory": [dp.A_WRITES],
}


@pytest.mark.parametrize("name", RARE)
def test_rare_paths_of_the_aof_are_reached(name: str) -> None:
    """A twin proves nothing about what never happened."""
    assert [int(once(name).world.aof[column]) > 0 for column in RARE[name]] == [True] * len(RARE[name])


@st.composite
def worlds(draw: st.DrawFn) -> str:
    """Any clients of the other twins, any policy, a disk between quick and stuck, versions by seconds and by milliseconds."""
    clients = "\n".join(draw(groups_of_clients(f"g{i}")) for i in range(draw(st.integers(1, 2))))
    policy = draw(st.sampled_from(["always", "everysec", "everysec", "no"]))
    disk = draw(st.sampled_from(["", "50us", "3ms", "700ms", "1100ms", "2500ms"]))
    more = draw(st.sampled_from(["", ", write_waits_for_fsync: false"]))
    version = draw(st.sampled_from(["6.2", "7.0", "7.4", "valkey-8.0"]))
    conf = aof(
        policy,
        (DEBUG if version != "6.2" else "")
        + "\n"
        + draw(st.sampled_from(["", "maxclients 9", "hz 100", "slowlog-log-slower-than 500"])),
    )
    return text_of(
        clients, conf=conf, host=host(disk, more), duration="10ms", seed=draw(st.integers(0, 1000)), datasets=DATASETS,
        version=version,
    )  # fmt: skip


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(worlds())
def test_any_aof_leaves_equal_arrays(text: str) -> None:
    """The same over what hypothesis draws; a second boundary falls anywhere, so fsyncs may start within these few ms."""
    assert compare(text).differences == [], text


def test_somebody_elses_events_do_not_move_the_flush() -> None:
    """A run may be cut at any time."""
    assert compare(SCENARIOS["always"], pause_ns=137_000).differences == []


def test_mixed_load_is_refused_nothing() -> None:
    """No -MISCONF while the disk has room."""
    assert compare(text_of(open_group(9000, MIX, more=FEW), conf=aof("always"))).world.aof[dp.A_MISCONF] == 0
