"""Saves as the server manages them: save points, refusals, -MISCONF, INFO, cores shared, memory that runs out."""

from pathlib import Path
from typing import Any

import pytest

import redsim
from redsim.dataplane import layout as dp
from redsim.redis.rdb import RdbFile
from redsim.report.perfetto import BIO, CHILDREN, trace_events
from redsim.run.build import build
from redsim.run.result import Result
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from tests.small_worlds import clients, node, scenario, steady, world_of


def saved(conf: str, *, duration: str = "4s", rate: int = 1000, host: str = "", timeline: str = "[]", keys: int = 1000,
          command: str = "{SET: 1}", value: int = 100, more: str = "") -> Result:  # fmt: skip
    body = (
        f"hosts: {{box: {{profile: default{host}}}}}\nduration: {duration}\n"
        + node(conf)
        + f"datasets: {{users: {{node: main, keys: {keys}, value_bytes: {value}}}}}\n"
        + clients(steady("api", f"{{open: {{rate_per_s: {rate}, process: constant}}}}", command=command,
                         more=", keys: {dataset: users}" + more))
        + f"timeline: {timeline}\n"
    )  # fmt: skip
    return redsim.run(scenario(body))


def node_of(result: Result) -> dict[str, Any]:
    return dict(result.summary["nodes"]["main"])


BGSAVE = "[{at: 1s, run: BGSAVE, node: main}]"


def test_a_save_point_needs_its_changes_and_more_than_its_seconds() -> None:
    """server.c:serverCron: dirty >= changes and now - lastsave > seconds, in whole seconds; dirty falls by what it was then."""
    result = saved("save 2 1000", duration="7s")
    saves = node_of(result)["children"]
    assert [one["because"] for one in saves] == ["save 2 1000"] * len(saves)
    assert len(saves) == 2
    assert 2 < saves[0]["at_s"] <= 3.2
    assert saves[1]["at_s"] - saves[0]["at_s"] == pytest.approx(3, abs=0.3)
    info = node_of(result)["info"]["persistence"]
    assert info["rdb_saves"] == 2
    assert info["rdb_changes_since_last_save"] == pytest.approx(1000 * (7 - saves[1]["at_s"]), abs=25)
    few = saved("save 2 100000", duration="5s")
    assert node_of(few)["children"] == []


def test_a_child_is_noticed_by_server_cron() -> None:
    """checkChildrenDone: at a run of serverCron after its exit, 100 ms later at most at hz 10."""
    one = node_of(saved("", timeline=BGSAVE))["children"][0]
    assert 0 <= one["noticed_s"] - (one["at_s"] + one["took_s"]) < 0.102


def test_bgsave_forks_inside_the_command() -> None:
    """rdb.c:bgsaveCommand: the fork is part of its time, so of SLOWLOG and usec_per_call; the ledger has it as `fork`."""
    result = saved("slowlog-log-slower-than 1000", timeline=BGSAVE)
    numbers = node_of(result)
    assert numbers["stalls"]["fork"]["count"] == 1
    assert [row["args"] for row in numbers["slowlog"]] == [["BGSAVE"]]
    fork_us = numbers["info"]["stats"]["latest_fork_usec"]
    assert numbers["slowlog"][0]["duration_us"] == pytest.approx(fork_us, abs=20)
    assert numbers["info"]["stats"]["total_forks"] == 1
    assert numbers["info"]["persistence"]["rdb_last_cow_size"] == numbers["children"][0]["cow_bytes"] > 0


def test_a_failed_save_refuses_writes_and_pings_until_one_succeeds() -> None:
    """writeCommandsDeniedByDiskError, stop-writes-on-bgsave-error; retried after more than five seconds."""
    full = "[{at: 100ms, fault: full_disk, host: box, for: 6s}]"
    result = saved("save 1 10", duration="16s", timeline=full, rate=100, command="{SET: 1, PING: 1, GET: 1}")
    numbers = node_of(result)
    saves = numbers["children"]
    assert "No space left" in saves[0]["status"]
    assert saves[-1]["status"] == "ok"
    assert 5 < saves[1]["at_s"] - saves[0]["at_s"] <= 7.1
    refused = result.summary["clients"]["api"]["errors"]["misconf"]
    assert refused == numbers["rdb_misconf_errors"] > 100
    assert result.summary["clients"]["api"]["by_command"]["GET"]["count"] > 400
    tolerant = saved("save 1 10\nstop-writes-on-bgsave-error no", duration="4s", timeline=full, rate=100)
    assert tolerant.summary["clients"]["api"]["errors"]["misconf"] == 0


def test_a_fork_that_linux_refuses_is_a_failed_save() -> None:
    """rdb.c:rdbSaveBackground: Can't save in background: fork: Cannot allocate memory."""
    result = saved("save 1 10", host=", memory: 12mb, overcommit_memory: 2", timeline=BGSAVE, duration="3s", rate=100)
    assert node_of(result)["children"][0]["status"] == "Can't save in background: fork: Cannot allocate memory"
    assert any("Cannot allocate memory" in text for text in result.events["text"])
    assert node_of(result)["info"]["persistence"]["rdb_last_bgsave_status"] == "err"
    assert node_of(result)["info"]["stats"]["total_forks"] == 0


def test_the_oom_killer_ends_the_run_or_the_child() -> None:
    """The host's memory, or the cgroup's: parent, copied pages and page tables do not fit."""
    tight = {"host": ", memory: 49mb, disk: {bytes_per_s: 1mb}", "keys": 8000, "value": 4000, "rate": 4000, "timeline": BGSAVE}
    dead = saved("", **tight)
    assert node_of(dead)["killed_at_s"] is not None
    assert dead.summary["simulated_s"] < 4
    alive = saved("oom-score-adj yes", **tight)
    assert node_of(alive)["killed_at_s"] is None
    assert node_of(alive)["children"][0]["status"] == "killed by the OOM killer"
    assert alive.summary["simulated_s"] == 4


def test_flushall_kills_the_child() -> None:
    """db.c:flushAllDataAndResetRDB -> killRDBChild; no error."""
    result = saved("", host=", disk: {bytes_per_s: 10kb}",
                   timeline="[{at: 1s, run: BGSAVE, node: main}, {at: 2s, run: FLUSHALL, node: main}]")  # fmt: skip
    assert node_of(result)["children"][0]["status"] == "killed by FLUSHALL"
    assert node_of(result)["info"]["persistence"]["rdb_last_bgsave_status"] == "ok"


def test_save_holds_everybody_up() -> None:
    """rdb.c:saveCommand, on the main thread."""
    result = saved("", timeline="[{at: 1s, run: SAVE, node: main}]", keys=20_000)
    one = node_of(result)["children"][0]
    assert one["kind"] == "SAVE"
    assert result.summary["clients"]["api"]["latency_us"]["max"] > 0.9e6 * one["took_s"]


def test_on_one_core_both_get_half_while_both_work() -> None:
    """Processor sharing: nothing of the core is lost. Child's work + main thread's = time in which either worked."""
    long = {"timeline": "[{at: 500ms, run: BGSAVE, node: main}]", "keys": 50_000, "value": 1000, "rate": 8000, "duration": "3s"}
    alone, shared = (node_of(saved("", host=f", cores: {cores}", **long)) for cores in (2, 1))
    child, other = alone["children"][0], shared["children"][0]
    waited = shared["busy_s_by_cause"]["sharing a core with a child"]
    assert "sharing a core with a child" not in alone["busy_s_by_cause"]
    assert waited > 0.02
    assert other["took_s"] - child["took_s"] == pytest.approx(waited, rel=0.25)


def test_tables_wait_for_the_child() -> None:
    """dict.c: no growth while a child lives unless the table is six times too small; then it grows at once to what it needs."""
    body = (
        "hosts: {box: {profile: default, disk: {bytes_per_s: 20kb}}}\nduration: 5s\n" + node("")
        + "datasets: {users: {node: main, keys: 40000, value_bytes: 10, present: 0.1}}\n"
        + clients(steady("api", "{open: {rate_per_s: 5000}}", command="{SET: 1}",
                         more=", keys: {dataset: users, popularity: sequential}, stop: 2500ms"))
        + "timeline: [{at: 1ms, run: BGSAVE, node: main}]\n"
    )  # fmt: skip
    run = world_of(scenario(body))
    assert int(run.w.child[dp.CH_STATE]) == dp.CHILD_ALIVE
    assert int(run.w.dicts[dp.MAIN, dp.H_USED]) > 2 << 12
    assert int(run.w.dicts[dp.MAIN, dp.H_BITS]) == 12
    assert int(run.w.dicts[dp.MAIN, dp.H_NEXT]) == dp.NONE


def test_an_rdb_file_is_as_long_as_redis_made_it() -> None:
    """lab fork_bgsave: 396,214 values of 1024 bytes that do not compress, names of 9.72 bytes in the mean: 411,159,120 bytes."""
    body = node("") + "duration: 10ms\ndatasets: {users: {node: main, keys: 396214, key_bytes: 10, value_bytes: 1024}}\n" + (
        "timeline: [{at: 1ms, run: BGSAVE, node: main}]\n")  # fmt: skip
    file = RdbFile.of(build(scenario(body)).world)
    assert file.file_bytes == pytest.approx(411_159_120 + 0.28 * 396_214, abs=1000)


def test_text_compresses_to_what_the_data_set_says() -> None:
    """rdb.c:rdbSaveRawString: LZF above 20 bytes, if rdbcompression is on."""
    sizes = {}
    for name, conf in (("on", ""), ("off", "rdbcompression no")):
        body = node(conf) + "duration: 10ms\n" + (
            "datasets: {users: {node: main, keys: 1000, key_bytes: 10, value_bytes: 1000, compressed_to: 0.1}}\n"
            "timeline: [{at: 1ms, run: BGSAVE, node: main}]\n")  # fmt: skip
        sizes[name] = RdbFile.of(build(scenario(body)).world).file_bytes
    assert sizes["off"] == 98 + 1000 * (1 + 11 + 1002)
    assert sizes["on"] == 98 + 1000 * (1 + 11 + 1 + 2 + 2 + 100)


def test_kernels_and_modes_that_are_none_are_refused() -> None:
    """One sentence, with the key."""
    for host in ("thp: sometimes", 'linux: "six"', "overcommit_memory: 3"):
        text = f"question: Does it?\nduration: 1s\nhosts: {{box: {{profile: default, {host}}}}}\n" + node("")
        with pytest.raises(ScenarioError, match=host.split(":")[0]):
            Scenario.from_text(text, base=Path())


def test_flushall_saves_an_empty_file_where_there_are_save_points() -> None:
    """db.c:flushAllDataAndResetRDB -> rdbSave; seen on 7.0.15 with `save "3600 1"`: changes since the last save are 0 afterwards,
    and the command takes as long as the fsync of 89 bytes."""
    flush = "[{at: 1s, run: FLUSHALL, node: main}]"
    disk = ", disk: {fsync: [[1.0, 5ms]], bytes_per_s: 100mb}"
    numbers, plain = (
        node_of(saved(f"{conf}\n      slowlog-log-slower-than 1000", host=disk, timeline=flush, rate=100, duration="2s"))
        for conf in ("save 3600 1", 'save ""')
    )
    (one,) = numbers["children"]
    assert (one["kind"], one["because"], one["status"]) == ("SAVE", "FLUSHALL", "ok")
    assert numbers["info"]["persistence"]["rdb_changes_since_last_save"] == pytest.approx(100, abs=5)
    (slow,) = numbers["slowlog"]
    assert slow["args"] == ["FLUSHALL"]
    assert slow["duration_us"] == pytest.approx(5000, rel=0.1)
    assert not plain["slowlog"]
    assert "children" not in plain


def test_a_scheduled_save_waits_for_the_rewrite() -> None:
    """rdb.c:bgsaveCommand: SCHEDULE while a rewrite is under way; serverCron begins it once there is no child."""
    timeline = "[{at: 1s, run: BGREWRITEAOF, node: main}, {at: 1500ms, run: %s, node: main}]"
    slow: dict[str, Any] = {"host": ", disk: {bytes_per_s: 100kb}", "duration": "6s", "rate": 100}
    rewrite, save = node_of(saved("appendonly yes", timeline=timeline % "BGSAVE SCHEDULE", **slow))["children"]
    assert (rewrite["kind"], save["because"]) == ("BGREWRITEAOF", "BGSAVE SCHEDULE")
    assert 0 <= save["at_s"] - rewrite["noticed_s"] < 0.11
    assert len(node_of(saved("appendonly yes", timeline=timeline % "BGSAVE", **slow))["children"]) == 1
    with pytest.raises(ScenarioError, match="knows no 'NOW'; use BGSAVE, or BGSAVE SCHEDULE"):
        saved("", timeline="[{at: 1s, run: BGSAVE NOW, node: main}]")


def test_the_trace_has_children_and_fsyncs_as_tracks() -> None:
    """trace.json: a child from fork to exit, the bio thread's fsyncs, each on a track of its own that is named."""
    result = saved("appendonly yes", timeline=BGSAVE, rate=100, duration="3s")
    events = trace_events(result)["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    spans = {tid: [one for one in events if one["ph"] == "X" and one["tid"] == tid] for tid in (CHILDREN, BIO)}
    (child,) = node_of(result)["children"]
    (span,) = spans[CHILDREN]
    assert (span["name"], span["ts"], span["dur"]) == ("BGSAVE", child["at_s"] * 1e6, pytest.approx(child["took_s"] * 1e6))
    assert len(spans[BIO]) == node_of(result)["durability"]["fsyncs"] > 0
    assert (names[CHILDREN], names[BIO]) == ("children", "bio thread: fsync of the AOF")
