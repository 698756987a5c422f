"""redsim.run.failover_log: the steps of each attempt, read from the logs of Sentinels."""

from itertools import pairwise

from redsim.run.failover_log import failovers
from redsim.units import MS, S
from tests.sentinel_world import world_of


def test_a_failover_has_its_steps_in_order() -> None:
    """Killed at 20 s, down-after 1 s."""
    world = world_of(1)
    world.at(20 * S, world.kill, "main")
    world.run(40 * S)
    (one,) = failovers(world.log)
    steps = [one.sdown_ns, one.odown_ns, one.try_ns, one.elected_ns, one.selected_ns, one.promoted_ns, one.switch_first_ns,
             one.switch_all_ns]  # fmt: skip
    times = [step for step in steps if step is not None]
    assert len(times) == 8
    assert all(a <= b for a, b in pairwise(times))
    assert (one.master, one.old, one.outcome, one.is_late) == ("mymaster", "main 6379", "switched", False)
    assert one.new in ("r1 6379", "r2 6379")
    assert 21 * S < times[0] < 21 * S + 200 * MS


def test_what_becomes_of_attempts_that_fail() -> None:
    """Alone with quorum 1: not elected; without replicas: no good slave; twice at once: one of them loses."""
    alone = world_of(2, ft=5000, quorum=1)
    for name in ("sentinel-2", "sentinel-3"):
        alone.at(15 * S, alone.kill, name)
    alone.at(20 * S, alone.kill, "main")
    alone.run(40 * S)
    assert {one.outcome for one in failovers(alone.log)} <= {"not elected", "under way"}
    bare = world_of(3, ft=5000)
    for name in ("r1", "r2", "main"):
        bare.at(20 * S, bare.kill, name)
    bare.run(30 * S)
    assert failovers(bare.log)[0].outcome == "no good slave"
    outcomes = []
    for seed in range(60):
        world = world_of(seed, flush_ns=lambda: 20 * MS)  # a slow disk makes contests common
        world.at(20 * S, world.kill, "main")
        world.run(30 * S)
        outcomes.append(sorted(one.outcome for one in failovers(world.log)))
    assert ["lost to another", "switched"] in outcomes
    assert ["switched"] in outcomes
