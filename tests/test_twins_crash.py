"""Crashes: the compiled loop and its twin lose the same connections, refuse alike, come back with the same keys."""

from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redsim.dataplane import layout as dp
from tests.test_twins import (
    BENCHMARK,
    DATASETS,
    DEBUG,
    EVALS,
    FEW,
    HICCUPS,
    LIST_COMMANDS,
    LOOP_2,
    MIX,
    SET_COMMANDS,
    Compared,
    closed_group,
    compare,
    groups_of_clients,
    open_group,
    text_of,
)
from tests.test_twins_aof import STRINGS, WRITES, aof, host

KILL = "[{at: 40ms, fault: kill, node: main, restart_after: 20ms}]"
OS_CRASH = "[{at: 40ms, fault: os_crash, host: box, restart_after: 20ms}]"
FOR_GOOD = "[{at: 40ms, fault: kill, node: main}]"
TWICE = """[{at: 30ms, fault: kill, node: main, restart_after: 5ms}, {at: 37ms, fault: kill, node: main, restart_after: 10ms},
    {at: 70ms, fault: power_loss, node: main}, {at: 80ms, fault: restart, node: main}]"""
PAUSE = "[{at: 40ms, fault: pause, node: main, for: 15ms}]"
PATIENT = FEW + ", timeout: 7ms, retries: {max: 3, backoff: 2ms}"
SCENARIOS = {
    "kill-always": text_of(WRITES, conf=aof("always"), timeline=KILL),
    "kill-everysec": text_of(open_group(9000, MIX, more=FEW), conf=aof("everysec"), timeline=KILL),
    "kill-none": text_of(open_group(9000, MIX, more=FEW), timeline=KILL),
    "kill-for-good": text_of(open_group(9000, MIX, more=PATIENT), timeline=FOR_GOOD),
    "kill-closed": text_of(closed_group(20, more=", timeout: 5ms, retries: {max: 2, backoff: 1ms}"), conf=aof("no"),
                           timeline=KILL, duration="80ms"),
    "kill-strings": text_of(STRINGS, conf=aof("no"), timeline=KILL),
    "kill-lists": text_of(open_group(8000, LIST_COMMANDS, dataset="lists", more=FEW), conf=aof("no"), timeline=KILL),
    "kill-sets": text_of(open_group(5000, SET_COMMANDS, dataset="sets", more=FEW), conf=aof("always"), timeline=TWICE),
    "kill-evicting": text_of(STRINGS, conf=aof("no", "maxmemory 3mb\nmaxmemory-policy allkeys-lfu"), timeline=KILL),
    "kill-io-threads": text_of(closed_group(30, more=", pipeline: 2"), timeline=KILL, duration="80ms",
                               conf=aof("always", "io-threads 3\nio-threads-do-reads yes")),
    "kill-a-script": text_of(open_group(5000, MIX, more=PATIENT), conf="busy-reply-threshold 5",
                             timeline=EVALS[:-1] + ", {at: 25ms, fault: kill, node: main, restart_after: 9ms}]"),
    "kill-loops": text_of(closed_group(10, "think: 100us", LOOP_2 + ", pipeline: 3, timeout: 9ms"), conf=aof("everysec"),
                          timeline=KILL, duration="80ms"),
    "kill-benchmark": text_of(closed_group(20, more=BENCHMARK), conf=aof("everysec"), timeline=KILL, duration="80ms"),
    "kill-hiccups": text_of(open_group(9000, MIX, more=FEW), host=HICCUPS, timeline=KILL),
    "kill-flushall": text_of(open_group(9000, MIX, more=FEW), conf=aof("everysec"),
                             timeline="[{at: 20ms, run: FLUSHALL, node: main}, {at: 30ms, fault: os_crash, host: box,"
                                      " restart_after: 20ms}]"),
    "kill-in-a-stall": text_of(open_group(9000, MIX, more=PATIENT), conf=aof("everysec") + DEBUG,
                               timeline='[{at: 30ms, run: "DEBUG SLEEP 0.02", node: main}, {at: 40ms, fault: kill, node: main,'
                                        " restart_after: 1ms}]"),
    "kill-postponed": text_of(open_group(2000, MIX, more=FEW), conf=aof("everysec"), host=host("1400ms"), duration="4s",
                              timeline="[{at: 2900ms, fault: kill, node: main, restart_after: 100ms}]"),
    "host-everysec": text_of(open_group(9000, MIX, more=PATIENT), conf=aof("everysec"), timeline=OS_CRASH),
    "host-no-time-outs": text_of(open_group(3000, MIX, more=FEW), conf=aof("everysec"), timeline=OS_CRASH, duration="600ms"),
    "host-always-closed": text_of(closed_group(20), conf=aof("always"), timeline=OS_CRASH, duration="700ms"),
    "host-stuck": text_of(WRITES, conf=aof("always"), duration="400ms",
                          timeline="[{at: 100ms, fault: stuck_disk, host: box, for: 150ms},"
                                   " {at: 120ms, fault: os_crash, host: box, restart_after: 30ms}]"),
    "host-lies": text_of(WRITES, conf=aof("always"), host="{profile: default, disk: {lies: true}}", duration="1500ms",
                         timeline="[{at: 1400ms, fault: power_loss, host: box, restart_after: 30ms}]"),
    "small-memory": text_of(WRITES, conf=aof("no"), host="{profile: default, memory: 4mb, disk: {bytes_per_s: 100kb}}",
                            duration="9s", timeline="[{at: 8s, fault: os_crash, host: box, restart_after: 200ms}]"),
    "several": text_of(closed_group(5, "think: 200us") + "\n" + open_group(3000, LIST_COMMANDS, dataset="lists",
                       more=", rtt: 1ms, timeout: 8ms").replace("api", "two", 1), conf=aof("everysec"), timeline=TWICE),
    "twice": text_of(open_group(20000, MIX, more=PATIENT), conf=aof("everysec"), timeline=TWICE),
    "pause-idle": text_of(open_group(100, MIX, more=FEW), timeline=PAUSE),
    "pause": text_of(open_group(9000, MIX, more=PATIENT), conf=aof("everysec"), timeline=PAUSE),
}  # fmt: skip


@cache
def once(name: str) -> Compared:
    return compare(SCENARIOS[name])


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_crash_and_its_twin_leave_equal_arrays(name: str) -> None:
    """DESIGN, time, luck, order: connections, errors, keys, AOF, memory after a restart; integers, so ==."""
    assert once(name).differences == []


RARE = {
    "kill-everysec": [lambda c: c.groups(dp.G_ERR_CONN), lambda c: c.groups(dp.G_ERR_LOADING), lambda c: c.count(dp.READY_AT)],
    "kill-none": [lambda c: c.groups(dp.G_ERR_CONN), lambda c: c.count(dp.COMMANDS)],
    "kill-for-good": [lambda c: c.groups(dp.G_ERR_CONN), lambda c: c.groups(dp.G_RETRIED), lambda c: c.count(dp.DEAD)],
    "host-everysec": [lambda c: c.groups(dp.G_ERR_TIMEOUT), lambda c: c.groups(dp.G_RETRIED)],
    "host-no-time-outs": [lambda c: c.groups(dp.G_ERR_CONN), lambda c: c.count(dp.READY_AT)],
    "kill-postponed": [lambda c: c.lost],
    "host-lies": [lambda c: c.lost],
    "small-memory": [lambda c: c.lost],
    "kill-flushall": [lambda c: c.lost],
}


@pytest.mark.parametrize("name", RARE)
def test_rare_paths_of_a_crash_are_reached(name: str) -> None:
    """A twin proves nothing about what never happened."""
    assert [reached(once(name)) > 0 for reached in RARE[name]] == [True] * len(RARE[name])


@st.composite
def worlds(draw: st.DrawFn) -> str:
    """Any clients of the other twins, any policy, any timetable of up to three deaths."""
    clients = "\n".join(draw(groups_of_clients(f"g{i}")) for i in range(draw(st.integers(1, 2))))
    policy = draw(st.sampled_from(["", "always", "everysec", "no"]))
    more = DEBUG + "\n" + draw(st.sampled_from(["", "maxclients 9", "hz 100", "maxmemory 3mb\nmaxmemory-policy allkeys-lru",
                                                "busy-reply-threshold 2", "io-threads 2\nio-threads-do-reads yes"]))  # fmt: skip
    disk = draw(st.sampled_from(["", "50us", "3ms"]))
    at, entries = 0, []
    for _ in range(draw(st.integers(1, 3))):
        at += draw(st.integers(10, 9000))
        fault = draw(st.sampled_from(["kill", "kill", "os_crash", "power_loss"]))
        back = draw(st.integers(1, 5000))
        entries.append(f"{{at: {at}us, fault: {fault}, node: main, restart_after: {back}us}}")
        at += back
    at += draw(st.integers(10, 9000))
    entries.append(
        draw(st.sampled_from([f"{{at: {at}us, fault: pause, node: main, for: 2ms}}", f"{{at: {at}us, fault: kill, node: main}}"]))
    )
    hosts = HICCUPS if draw(st.booleans()) and not disk else host(disk)
    return text_of(
        clients, conf=aof(policy, more) if policy else more, host=hosts, duration="50ms", seed=draw(st.integers(0, 1000)),
        datasets=DATASETS, timeline=f"[{', '.join(entries)}]", version=draw(st.sampled_from(["7.0", "7.4"])),
    )  # fmt: skip


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(worlds(), st.sampled_from([None, 16]))
def test_any_timetable_of_crashes_leaves_equal_arrays(text: str, rows: int | None) -> None:
    """The same over what hypothesis draws; the scenario is in the failure's message."""
    assert compare(text, rows=rows).differences == [], text


def test_somebody_elses_events_do_not_move_a_crash() -> None:
    """A run may be cut at any time."""
    assert compare(SCENARIOS["twice"], pause_ns=137_000).differences == []


SAVED = text_of(
    "api: {node: main, connections: 3, arrivals: {open: {rate_per_s: 20000}}, commands: {SET: 3, GET: 1, DEL: 0.2},"
    " keys: {dataset: users}}",
    conf="rdbcompression no", duration="120ms",
    timeline="[{at: 10ms, run: BGSAVE, node: main}, {at: 60ms, fault: kill, node: main, restart_after: 10ms},"
    " {at: 90ms, run: BGSAVE, node: main}, {at: 91ms, fault: kill, node: main, restart_after: 10ms}]",
)  # fmt: skip


def test_a_restart_without_an_aof_loads_what_the_last_whole_save_holds():
    """rdb.c: the child that dies with its server leaves the file before it; what was written since is lost."""
    both = compare(SAVED)
    assert both.differences == []
    life = both.lives[1]
    assert life is not None
    first, second = life.crashes
    assert (first.loaded.what, second.loaded.what) == ("RDB", "RDB")
    assert first.loaded.keys == second.loaded.keys, "the second save was not whole"
    assert 0 < second.lost_commands < first.lost_commands, "what is lost is lost once"


@pytest.mark.parametrize("fault", ["kill", "power_loss"])
def test_a_restart_loads_the_rewritten_base_and_replays_what_came_after_its_fork(fault: str) -> None:
    """aof.c: after a rewrite the file is the new base and what was appended since the fork."""
    text = text_of(
        "api: {node: main, connections: 3, arrivals: {open: {rate_per_s: 20000}}, commands: {SET: 3, DEL: 0.2},"
        " keys: {dataset: users}}",
        conf="appendonly yes\nappendfsync always\naof-use-rdb-preamble yes\nrdbcompression no", duration="150ms",
        timeline=f"[{{at: 5ms, run: BGREWRITEAOF, node: main}}, {{at: 110ms, fault: {fault}, node: main, restart_after: 10ms}}]",
    )  # fmt: skip
    both = compare(text)
    assert both.differences == []
    life = both.lives[1]
    assert life is not None
    (only,) = life.crashes
    assert only.loaded is not None
    assert (only.loaded.what, only.lost_commands) == ("AOF", 0)
    assert 0 < only.loaded.commands < both.world.aof[dp.A_CMDS], "what the base file has is not replayed"


@pytest.mark.parametrize("name", ["kill-none", "kill-for-good", "kill-a-script"])
def test_a_snapshot_is_loaded_alike(name: str) -> None:
    """The hook that BGSAVE fills, here with what there was at the start."""
    compared = compare(SCENARIOS[name], has_snapshot=True)
    assert compared.differences == []
    life = compared.lives[1]
    assert life is not None
    if name == "kill-none":
        assert life.crashes[0].loaded is not None
        assert life.crashes[0].loaded.what == "RDB"
        assert compared.lost > 0


def test_what_a_second_crash_takes_is_counted_once() -> None:
    """Without an AOF each crash takes what was written since the one before."""
    text = text_of(
        open_group(9000, "{SET: 1}", more=FEW),
        duration="90ms",
        timeline="""[
    {at: 30ms, fault: kill, node: main, restart_after: 5ms}, {at: 70ms, fault: kill, node: main, restart_after: 5ms}]""",
    )
    life = compare(text).lives[1]
    assert life is not None
    first, second = life.crashes
    assert 200 < first.lost_commands < 350
    assert 200 < second.lost_commands < 390
