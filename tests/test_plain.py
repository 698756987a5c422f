"""A plain World's loop, compiled for itself: the same integers as the one for all Worlds, and only where nothing is missing."""

import pytest

import redsim
from redsim.dataplane import layout as dp
from redsim.run import build as building
from redsim.run.build import build
from redsim.run.checks import check_conservation
from tests.small_worlds import clients, node, scenario, steady, world_of

CLOSED = steady("api", "{closed: {}}", command="{GET: 3, SET: 1}", more=", keys: {dataset: users}")
OPEN = steady("api", "{open: {rate_per_s: 30000}}", command="{GET: 3, SET: 1, INCR: 1}", more=", keys: {dataset: users}")
KEYS = '[{at: 100ms, run: "KEYS *", node: main}]'


def body(groups: str, *, conf: str = 'save ""', host: str = "{profile: default}", timeline: str = "[]") -> str:
    return (
        f"hosts: {{box: {host}}}\nduration: 300ms\n"
        + node(conf)
        + "datasets: {users: {node: main, keys: 20000, value_bytes: 100}}\n"
        + clients(groups)
        + f"timeline: {timeline}\n"
    )


@pytest.mark.parametrize("text", [body(CLOSED, timeline=KEYS), body(OPEN)], ids=["closed", "open"])
def test_both_loops_give_equal_results(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """compile.py: what a plain World has for good is a constant; nothing else differs. Digests are integers, so ==."""
    results = []
    for least in (0, 10**12):
        monkeypatch.setattr(building, "MANY_COMMANDS", least)
        assert build(scenario(text)).world.st[dp.IS_PLAIN] == (least == 0)
        results.append(redsim.run(scenario(text)))
    plain, other = results
    assert plain.summary["digest"] == other.summary["digest"]
    assert plain.summary["commands"] == other.summary["commands"] > 5000
    assert {**plain.summary, "wall_s": 0, "commands_per_wall_s": 0} == {**other.summary, "wall_s": 0, "commands_per_wall_s": 0}


NOT_PLAIN = {
    "children": body(OPEN, timeline="[{at: 10ms, run: BGSAVE, node: main}]"),
    "an AOF": body(OPEN, conf="appendonly yes"),
    "maxmemory": body(OPEN, conf="maxmemory 100mb"),
    "I/O threads": body(OPEN, conf="io-threads 2"),
    "hiccups": body(OPEN, host="{profile: default, hiccups: {every: 1s, table: [[1ms, 1]]}}"),
    "a crash": body(OPEN, timeline="[{at: 10ms, fault: kill, node: main}]"),
    "scripts": body(OPEN, timeline="[{at: 10ms, run: 'EVAL x 0', node: main, duration: 9ms}]"),
    "time-outs": body(OPEN.replace("keys: {", "timeout: 1s, keys: {")),
    "a bandwidth": body(OPEN.replace("keys: {", "bandwidth: 1gbit, keys: {")),
    "TTLs": body(OPEN.replace("SET: 1", "SET: {weight: 1, ttl: 9s}")),
    "a client station": body(OPEN.replace("keys: {", "station: {kind: loop}, keys: {")),
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_a_world_with_more_is_not_plain(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """plain.PLAIN: each column that is a constant there is one that such a scenario moves."""
    monkeypatch.setattr(building, "MANY_COMMANDS", 0)
    assert build(scenario(body(OPEN))).world.st[dp.IS_PLAIN]
    assert not build(scenario(NOT_PLAIN[name])).world.st[dp.IS_PLAIN]


def test_a_plain_world_that_changes_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """run/checks.py: what the compiled code took for granted still holds at the end of each run."""
    monkeypatch.setattr(building, "MANY_COMMANDS", 0)
    run = world_of(scenario(body(OPEN)))
    run.w.aof[dp.A_FAILING] = 1
    with pytest.raises(AssertionError, match="a plain World is none any more"):
        check_conservation(run.built, run.w)
