"""A master and its replicas: the same data, offsets that only a full sync turns back, whatever happens to the network.

Random timetables of faults: 12 here, 1,000 with -m slow; a failing one says its seed.
"""

import random

import pytest

from redsim.dataplane import layout as dp
from redsim.run.result import Result
from redsim.scenario.errors import ScenarioError
from tests.replicated_worlds import different_keys, mixed, run_and_keep

CUT = "  - {at: 3s, fault: disconnect, node: r1, for: 500ms}\n  - {at: 4s, fault: partition, groups: [[a], [b]], for: 700ms}"
CASES = {
    "two replicas": {},
    "a chain": {"above": "r1"},
    "a full sync from disk": {"diskless": "no", "synced": "false"},
    "a full sync through a pipe": {"synced": "false"},
    "a chain with a full sync": {"above": "r1", "synced": "false"},
    "cuts and loss": {"loss": 0.01, "faults": CUT},
    "evictions": {"maxmemory": "4mb"},
}


@pytest.mark.parametrize("case", CASES)
def test_replicas_end_with_their_masters_data(case: str) -> None:
    result, nodes = run_and_keep(mixed(**CASES[case]))
    world = nodes["main"].server.world
    assert world.repl[dp.M_ROWS] > 5000, "there was something to replicate"
    if case == "evictions":
        assert world.st[dp.EVICTED] > 100
    for name in ("r1", "r2"):
        mine = nodes[name].server.world
        assert result.summary["replicas"][name]["state"] == "online"
        assert mine.repl[dp.M_OFFSET] == world.repl[dp.M_OFFSET]
        assert different_keys(world, mine) == [0] * len(world.dataset)


def test_a_run_is_the_same_again() -> None:
    digests = {run_and_keep(mixed(faults=CUT, loss=0.01))[0].summary["digest"] for _ in range(2)}
    other = run_and_keep(mixed(faults=CUT, loss=0.01, seed=2))[0].summary["digest"]
    assert len(digests) == 1
    assert other not in digests


@pytest.mark.parametrize(("backlog", "verdict"), [("64kb", "full"), ("4mb", "partial")])
def test_the_backlog_decides(backlog: str, verdict: str) -> None:
    """20 ms without a connection are a second without one: the attempt at once is refused, the next is the cron's."""
    result, _ = run_and_keep(mixed(backlog=backlog, faults="  - {at: 3s, fault: disconnect, node: r1, for: 20ms}"))
    verdicts = result.syncs[result.syncs.phase.isin(["partial", "full"])]
    assert list(verdicts.phase) == [verdict], verdicts.to_string()
    assert 3.02 < verdicts.start_s.iloc[0] < 4.2


def test_a_partition_needs_no_resync() -> None:
    result, _ = run_and_keep(mixed(faults="  - {at: 3s, fault: partition, groups: [[a], [b]], for: 1s}"))
    assert not result.syncs.phase.isin(["partial", "full"]).any()
    assert result.summary["replicas"]["r1"]["lag_s"]["max"] > 1


def timetable(seed: int) -> str:
    """Two to five faults of the network, at any time, overlapping or not."""
    luck = random.Random(seed)
    lines = []
    for _ in range(luck.randint(2, 5)):
        at, length = luck.randint(100, 5500), luck.choice([1, 20, 150, 600, 1500, 2500])
        what = luck.choice(["disconnect", "partition", "cut", "slow_link", "flapping"])
        more = {
            "disconnect": f"node: {luck.choice(['r1', 'r2'])}",
            "partition": f"groups: [[a], [{luck.choice('bc')}]]",
            "cut": luck.choice(["from: a, to: b", "from: b, to: a", "from: c, to: a"]),
            "slow_link": f"between: [a, {luck.choice('bc')}], rtt: 40ms, loss: 0.02, bandwidth: 5mbit",
            "flapping": f"between: [a, {luck.choice('bc')}], up: 60ms, down: 30ms",
        }[what]
        lines.append(f"  - {{at: {at}ms, fault: {what}, {more}, for: {length}ms}}")
    return "\n".join(lines)


def holds(seed: int) -> None:
    """One random timetable: what must hold whatever happens."""
    luck = random.Random(-seed)
    faults = timetable(seed)
    result, nodes = run_and_keep(
        mixed(faults=faults, seed=seed, above=luck.choice(["main", "r1"]), synced=luck.choice(["true", "false"]),
              diskless=luck.choice(["yes", "no"]), loss=luck.choice([0, 0.01]), duration="14s")
    )  # fmt: skip
    said = f"seed {seed}:\n{faults}"
    offsets_only_grow(result, said)
    world = nodes["main"].server.world
    for name in ("r1", "r2"):
        mine = nodes[name].server.world
        assert result.summary["replicas"][name]["state"] == "online", said
        assert mine.repl[dp.M_OFFSET] == world.repl[dp.M_OFFSET], said
        assert different_keys(world, mine) == [0] * len(world.dataset), said


def offsets_only_grow(result: Result, said: str) -> None:
    """A replica's offset runs backwards by a full sync only, and is never ahead of its master's."""
    for name, rows in result.replication.groupby("replica"):
        full = result.syncs[(result.syncs.replica == name) & (result.syncs.phase == "full")].start_s.to_numpy()
        offsets, times = rows.replica_offset.to_numpy(), rows.time_s.to_numpy()
        assert (rows.lag_bytes >= 0).all(), said
        assert (rows.replica_offset <= rows.master_offset).all(), said
        for i in (offsets[1:] < offsets[:-1]).nonzero()[0]:
            assert any(at <= times[i + 1] for at in full), said


@pytest.mark.parametrize("seed", range(12))
def test_no_timetable_of_faults_breaks_it(seed: int) -> None:
    holds(seed)


@pytest.mark.slow
def test_no_timetable_of_many_breaks_it() -> None:
    for seed in range(1000):
        holds(seed)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("replica_of: main, conf", "replica_of: mian, conf"), "no node is named 'mian'"),
        (("replica_of: main, conf", "replica_of: r2, conf"), "goes in a circle"),
        (("readers: {node: r1,", "readers: {node: r1, pipeline: 1,"), ""),
        (("commands: {GET: 1}}", "commands: {SET: 1}}"), "SET on r1 would answer READONLY"),
        (("between: [a, c]", "between: [a, d]"), "no host is named 'd'"),
        (("between: [a, c]", "between: [b, a]"), "are joined already"),
    ],
)
def test_what_makes_no_sense_is_refused(change: tuple[str, str], says: str) -> None:
    from redsim.run.build import check
    from redsim.scenario.load import Scenario
    from tests.replicated_worlds import DEFAULTS, MIXED

    text = MIXED.format(**{**DEFAULTS, "above": "r1"})
    assert change[0] in text
    changed = text.replace(change[0], change[1], 1)
    if not says:
        check(Scenario.from_text(changed))
        return
    with pytest.raises(ScenarioError, match=says):
        check(Scenario.from_text(changed))
