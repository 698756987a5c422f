"""Clients that follow a service: nothing of theirs is lost or counted twice when they go from one server to the next.

The laws of run/checks.py are asserted in each run, in the World of each server.
"""

from typing import Any

import pytest

import redsim
from redsim.dataplane import layout as dp
from redsim.run.result import Result
from redsim.scenario.errors import ScenarioError
from tests.replicated_worlds import run_and_keep

TRIO = """
question: Where do the clients go?
duration: {duration}
seed: {seed}
hosts: {{a: {{profile: default}}, b: {{profile: default}}, c: {{profile: default}}}}
links:
  - {{between: [a, b], rtt: 500us}}
  - {{between: [a, c], rtt: 500us}}
  - {{between: [b, c], rtt: 500us}}
nodes:
  main: {{host: a, conf: "save \\"\\"\\n{conf}"}}
  r1: {{host: b, replica_of: main, conf: "save \\"\\"\\nrepl-diskless-sync-delay 0\\n{conf}"}}
  r2: {{host: c, replica_of: main, conf: "save \\"\\"\\nrepl-diskless-sync-delay 0\\n{conf}"}}
sentinels:
  hosts: [a, b, c]
  conf: |
    sentinel monitor mymaster main 2
    sentinel down-after-milliseconds mymaster 1000
    sentinel failover-timeout mymaster 6000
    {sentinel}
datasets: {{d: {{node: main, keys: 2000, value_bytes: 50}}}}
clients:
  web:
    service: mymaster
    connections: {connections}
    arrivals: {arrivals}
    commands: {{SET: 1, GET: 1}}
    keys: {{dataset: d}}
    {more}
{others}
timeline:
  {timeline}
"""
KILL = "- {at: 3s, fault: kill, node: main, restart_after: 4s}"
PAUSE = "- {at: 3s, fault: pause, node: main, for: 4s}"
OTHER = "  x: {{{}arrivals: {{closed: {{}}}}, commands: {{GET: 1}}, keys: {{dataset: d}}}}"
RETRIES = "timeout: 100ms\n    retries: {max: 3, backoff: 50ms, cap: 500ms, growth: linear}"
DEFAULTS: dict[str, Any] = {
    "duration": "12s", "seed": 1, "conf": "", "connections": 10, "arrivals": "{open: {rate_per_s: 1000}}", "more": RETRIES,
    "timeline": KILL, "others": "", "sentinel": "",
}  # fmt: skip


def trio(**changes: Any) -> redsim.Scenario:
    return redsim.Scenario.from_text(TRIO.format(**{**DEFAULTS, **changes}))


def web(result: Result) -> dict[str, Any]:
    return dict(result.summary["clients"]["web"])


LOADS = {
    "open": {},
    "open, without retries": {"more": "timeout: 100ms"},
    "open, without a time-out": {"more": "retries: {max: 2}"},
    "closed": {"arrivals": "{closed: {}}", "connections": 3},
    "closed, thinking": {"arrivals": "{closed: {think: 5ms}}"},
    "pipelines": {"more": RETRIES + "\n    pipeline: 4"},
    "a client machine": {"more": RETRIES + "\n    station: {kind: loop}"},
    "phases": {"arrivals": "{open: {schedule: [{at: 0s, rate_per_s: 500}, {at: 4s, rate_per_s: 2000}]}}"},
    "a bandwidth": {"more": RETRIES + "\n    bandwidth: 100mbit\n    rtt: 1ms"},
    "who listens": {"more": RETRIES + "\n    follow: switch-master"},
}


@pytest.mark.parametrize("fault", [KILL, PAUSE], ids=["kill", "pause"])
@pytest.mark.parametrize("load", LOADS)
def test_clients_go_on_with_the_promoted_server(load: str, fault: str) -> None:
    """And their requests are offered, answered, failed or in flight in one place."""
    result, nodes = run_and_keep(trio(timeline=fault, **LOADS[load]))
    found = web(result)
    if fault == PAUSE and "without a time-out" in load:
        assert found["moves"] == [], "they wait for the old one, which is stopped and has not hung up"
        return
    assert [(move["from"], move["to"] in ("r1", "r2")) for move in found["moves"]] == [("main", True)]
    moved_s = found["moves"][0]["at_s"]
    assert 4 < moved_s < 6.5
    late = result.latency[(result.latency.group == "web") & (result.latency.start_s > moved_s + 1)]
    assert late["count"].sum() > 1000, "they are served after it"
    if "time-out" not in load:
        assert moved_s - 3 - 0.1 < found["unavailable_s"] < moved_s - 3 + 0.6
    assert found["offered"] == found["completed"] + found["failed"] + found["in_flight"]
    for name, node in nodes.items():
        assert (node.server.world.group[0, dp.G_AWAY] == 0) == (name == found["moves"][0]["to"])


def test_offered_is_what_arrived_wherever_it_was_answered() -> None:
    """As many as without any fault: nothing is offered twice, nothing is forgotten on the way."""
    arrivals = "{open: {rate_per_s: 1000, process: constant}}"
    kept, quiet = (web(redsim.run(trio(timeline=t, arrivals=arrivals))) for t in (KILL, "[]"))
    assert 0 <= quiet["offered"] - kept["offered"] <= 12, "the target's clock is some ms ahead"
    assert quiet["moves"] == []
    assert quiet["failed"] == 0


def test_who_does_not_follow_stays_where_the_master_was() -> None:
    pinned = web(redsim.run(trio(more=RETRIES + "\n    follow: nothing")))
    assert pinned["moves"] == []
    assert pinned["unavailable_s"] > 3.9
    assert pinned["errors"]["connection"] > 100


def test_the_old_master_is_made_a_replica_and_loses_what_it_took_alone() -> None:
    """Its own clients write to it after the promotion, until it is converted: those writes are acknowledged, and lost."""
    old = "  old: {node: main, connections: 2, arrivals: {open: {rate_per_s: 50}}, commands: {SET: 1}, keys: {dataset: d}}"
    result = redsim.run(trio(timeline=PAUSE, others=old, duration="40s"))
    lost = result.summary["failovers"][0]
    assert lost["from"] == "main"
    assert 50 < lost["lost_acked_writes"] < 2000
    assert lost["lost_from_s"] > 3
    assert "+convert-to-slave" in " ".join(result.events.text)
    assert result.summary["nodes"]["main"]["role"] == "slave"
    assert result.summary["clients"]["old"]["errors"]["readonly"] > 10


def test_min_replicas_keep_an_isolated_master_from_taking_writes() -> None:
    """The split brain of a partition: with min-replicas-to-write the writes on the wrong side end after max-lag."""
    old = "  old: {node: main, connections: 2, arrivals: {open: {rate_per_s: 50}}, commands: {SET: 1}, keys: {dataset: d}}"
    split = "- {at: 3s, fault: partition, groups: [[a], [b, c]], for: 25s}"
    lost = []
    for conf in ("", "min-replicas-to-write 1\\nmin-replicas-max-lag 2"):
        result = redsim.run(trio(timeline=split, others=old, duration="45s", conf=conf))
        lost.append(result.summary["failovers"][0])
    assert lost[0]["lost_acked_writes"] > 1.5 * lost[1]["lost_acked_writes"] > 0
    assert lost[0]["lost_until_s"] > 20
    assert lost[1]["lost_until_s"] < 3 + 2 + 1.5, "max-lag, in whole seconds, and the second's cron"


def test_readers_of_replicas_leave_the_one_that_is_promoted_or_dead() -> None:
    """CLIENT KILL, or a lost connection, makes them ask again: they go to one that follows the master."""
    readers = "  readers: {{service: mymaster, role: replica, connections: 5, arrivals: {{open: {{rate_per_s: 300}}}}, {}}}"
    readers = readers.format("commands: {GET: 1}, keys: {dataset: d}, timeout: 100ms, retries: {max: 5, backoff: 100ms}")
    result = redsim.run(trio(others=readers, duration="20s"))
    promoted = web(result)["moves"][0]["to"]
    found = result.summary["clients"]["readers"]
    at = found["moves"][-1]["to"] if found["moves"] else "r2"
    assert at in ("main", "r1", "r2")
    assert at != promoted
    assert found["unavailable_s"] < 3
    with pytest.raises(ScenarioError, match="wants a replica"):
        redsim.run(trio(others=readers.replace("GET: 1", "SET: 1")))


@pytest.mark.parametrize("seed", [5, 10, 13])
def test_a_client_that_hears_of_a_death_at_once_asks(seed: int) -> None:
    """A request that is on its way when the process dies fails with it: its client asks, as those do that fail later."""
    busy = "{open: {rate_per_s: 8000}}"
    timeline = "- {at: 3s, fault: kill, node: main}"
    found = web(redsim.run(trio(seed=seed, duration="7s", connections=20, arrivals=busy, timeline=timeline)))
    assert len(found["moves"]) == 1
    assert found["unavailable_s"] < 3


def test_a_replica_of_the_promoted_one_acknowledges_while_its_old_master_is_still_cut_off() -> None:
    """Another TCP connection: nothing waits behind what was lost between the two halves, so min-replicas-to-write is met."""
    split = "- {at: 3s, fault: partition, groups: [[a], [b, c]], for: 15s}"
    conf = "min-replicas-to-write 1\\nmin-replicas-max-lag 2"
    more = "timeout: 100ms\n    follow: switch-master"
    result = redsim.run(trio(timeline=split, conf=conf, duration="18s", more=more))
    moved_s = web(result)["moves"][0]["at_s"]
    assert moved_s < 6.5
    assert web(result)["errors"]["noreplicas"] < 1000, "none at the new master; without a new start 5,234"


def test_clients_go_to_a_server_far_away_and_nothing_arrives_there_in_its_past() -> None:
    """Its clock may be ahead by a link's delay; the blame of each latency adds up to it (checks.py)."""
    busy, kill = "{open: {rate_per_s: 5000}}", "- {at: 3s, fault: kill, node: main}"
    text = TRIO.format(**{**DEFAULTS, "arrivals": busy, "timeline": kill, "seed": 7})
    found = web(redsim.run(redsim.Scenario.from_text(text.replace("500us", "40ms"))))
    assert len(found["moves"]) == 1
    assert found["offered"] == found["completed"] + found["failed"] + found["in_flight"]


def test_two_failovers_bring_the_clients_back_and_forth() -> None:
    timeline = "- {at: 3s, fault: kill, node: main, restart_after: 3s}\n  - {at: 25s, fault: kill, node: r1}\n  "
    timeline += "- {at: 25s, fault: kill, node: r2}"
    result = redsim.run(trio(timeline=timeline, duration="45s"))
    moves = web(result)["moves"]
    assert moves[0]["from"] == "main"
    if len(moves) > 1:
        assert moves[1]["to"] == "main"


def test_a_run_is_the_same_again() -> None:
    first, again = (redsim.run(trio()).summary["digest"] for _ in range(2))
    assert first == again
    assert redsim.run(trio(seed=2)).summary["digest"] != first


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"others": OTHER.format("service: other, ")}, "no Sentinel monitors 'other'"),
        ({"others": OTHER.format("")}, "give node"),
        ({"sentinel": "sentinel monitor other r1 2"}, "r1 is a replica"),
        ({"sentinel": "sentinel monitor other r9 2"}, "r9"),
        ({"timeline": "- {at: 3s, fault: kill, node: sentinel-9}"}, "sentinel-9"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(changes: dict[str, str], said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        trio(**changes)


def test_without_sentinels_nobody_says_who_the_master_is() -> None:
    text = TRIO.format(**{**DEFAULTS, "timeline": "[]"})
    begin, end = text.index("sentinels:"), text.index("datasets:")
    with pytest.raises(ScenarioError, match="nobody says who mymaster is"):
        redsim.Scenario.from_text(text[:begin] + text[end:])
