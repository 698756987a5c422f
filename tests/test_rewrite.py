"""AOF rewrites as the server manages them: growth, schedule, files, fsyncs left out, back-off, a full disk."""

from typing import Any

import pytest

import redsim
from redsim.redis.aof import Rewriter
from redsim.redis.rdb import RdbFile
from redsim.run.build import build
from redsim.run.result import Result
from redsim.scenario.errors import ScenarioError
from tests.small_worlds import clients, node, scenario, steady

REWRITE = "[{at: 1s, run: BGREWRITEAOF, node: main}]"


def ran(
    conf: str = "", *, duration: str = "4s", rate: int = 1000, host: str = "", timeline: str = "[]", keys: int = 1000
) -> Result:
    body = (
        f"hosts: {{box: {{profile: default{host}}}}}\nduration: {duration}\n"
        + node(f"appendonly yes\n{conf}")
        + f"datasets: {{users: {{node: main, keys: {keys}, key_bytes: 16, value_bytes: 100}}}}\n"
        + clients(
            steady(
                "api", f"{{open: {{rate_per_s: {rate}, process: constant}}}}", command="{SET: 1}", more=", keys: {dataset: users}"
            )
        )
        + f"timeline: {timeline}\n"
    )
    return redsim.run(scenario(body))


def node_of(result: Result) -> dict[str, Any]:
    return dict(result.summary["nodes"]["main"])


def test_the_aof_is_rewritten_when_it_has_grown_by_its_percentage() -> None:
    """serverCron: size > min-size and size * 100 / base - 100 >= percentage; base is the size after the last rewrite."""
    result = ran("auto-aof-rewrite-percentage 100\nauto-aof-rewrite-min-size 1kb")
    rewrites = [one for one in node_of(result)["children"] if one["kind"] == "BGREWRITEAOF"]
    base, a_set = 98 + 1000 * (1 + 17 + 102), 4 + 9 + 5 + 16 + 2 + 6 + 100 + 2
    assert rewrites[0]["at_s"] == pytest.approx(base / a_set / 1000, abs=0.15)
    assert rewrites[0]["because"] == "growth of 100 %" or rewrites[0]["because"].startswith("growth of 1")
    info = node_of(result)["info"]["persistence"]
    assert rewrites[-1]["file_bytes"] == base
    assert base <= info["aof_base_size"] < 1.5 * base  # with what came in meanwhile
    assert info["aof_rewrites"] == len(rewrites) >= 2
    assert info["aof_current_size"] < 3 * base
    assert not [one for one in node_of(ran("auto-aof-rewrite-percentage 0"))["info"]["persistence"] if one == "aof_rewrites"]
    assert node_of(ran("auto-aof-rewrite-min-size 10mb"))["children"] == []


def test_a_rewrite_waits_for_a_save_and_a_save_for_a_rewrite() -> None:
    """bgrewriteaofCommand schedules; bgsaveCommand refuses while another child is active."""
    slow = ", disk: {bytes_per_s: 100kb}"
    both = (
        "[{at: 1s, run: BGSAVE, node: main}, {at: 1100ms, run: BGREWRITEAOF, node: main}, {at: 2900ms, run: BGSAVE, node: main}]"
    )
    children = node_of(ran("auto-aof-rewrite-percentage 0\nappendfsync no", host=slow, timeline=both, duration="8s"))["children"]
    assert [one["kind"] for one in children] == ["BGSAVE", "BGREWRITEAOF"]
    assert children[1]["at_s"] > children[0]["noticed_s"]


def test_no_appendfsync_on_rewrite_trades_stalls_for_what_is_at_stake() -> None:
    """aof.c: no fsync while a child is active; the loss window becomes the child's life."""
    slow = ", disk: {bytes_per_s: 2mb}"
    found = {}
    for word in ("no", "yes"):
        conf = f"auto-aof-rewrite-percentage 0\nno-appendfsync-on-rewrite {word}"
        found[word] = node_of(ran(conf, host=slow, timeline=REWRITE, duration="20s", keys=200_000, rate=1000))
    stake = {word: one["durability"]["loss"]["os_crash_or_power_loss"]["age_s"]["max"] for word, one in found.items()}
    assert stake["yes"] > 1.5 * stake["no"]
    assert found["yes"]["durability"]["fsyncs"] < found["no"]["durability"]["fsyncs"]


def test_manifests_are_synced_on_the_main_thread() -> None:
    """aof.c:persistAofManifest: fdatasync and fsync of the directory, once at the fork and twice at the end."""
    result = ran(host=", disk: {fsync: [[1.0, 10ms]]}", timeline=REWRITE)
    stalls = node_of(result)["stalls"]["aof-manifest"]
    assert stalls["count"] == 2
    assert stalls["total_us"] == pytest.approx(60_000, rel=0.4)
    assert stalls["max_us"] >= 40_000


def test_a_rewrite_without_preamble_writes_commands() -> None:
    """rewriteAppendOnlyFileRio: a SET for each string."""
    body = node("appendonly yes\naof-use-rdb-preamble no") + "duration: 10ms\n" + (
        "datasets: {users: {node: main, keys: 1000, key_bytes: 16, value_bytes: 100}}\n")  # fmt: skip
    assert RdbFile.commands(build(scenario(body)).world).file_bytes == 1000 * (4 + 9 + 5 + 16 + 2 + 6 + 100 + 2)


def test_three_failures_make_it_wait_one_two_four_minutes() -> None:
    """aof.c:aofRewriteLimited, AOF_REWRITE_LIMITE_THRESHOLD 3, at most sixty minutes."""
    rewriter = Rewriter(None, 100, 1, False, True)  # type: ignore[arg-type]
    waits, now_s = [], 0
    for _ in range(12):
        begun_s = now_s
        while rewriter.is_limited(now_s):
            now_s += 1
        waits.append(now_s - begun_s)
        rewriter.failed()
    assert waits == [0, 0, 0, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_a_full_disk_fails_the_rewrite_and_not_the_server() -> None:
    """aof_last_bgrewrite_status err; the next one succeeds."""
    full = "[{at: 500ms, fault: full_disk, host: box, for: 2s}, {at: 1s, run: BGREWRITEAOF, node: main}, "
    result = ran(timeline=full + "{at: 3s, run: BGREWRITEAOF, node: main}]", duration="5s")
    rewrites = [one for one in node_of(result)["children"] if one["kind"] == "BGREWRITEAOF"]
    assert ["No space" in one["status"] for one in rewrites] == [True, False]
    info = node_of(result)["info"]["persistence"]
    assert (info["aof_last_bgrewrite_status"], info["aof_rewrites_consecutive_failures"]) == ("ok", 0)


def test_a_rewrite_needs_an_aof() -> None:
    """Without one it is refused by name."""
    body = node("") + "duration: 1s\n" + f"timeline: {REWRITE}\n".replace("1s", "10ms")
    with pytest.raises(ScenarioError, match="BGREWRITEAOF without an AOF"):
        build(scenario(body))
