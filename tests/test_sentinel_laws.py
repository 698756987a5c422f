"""What must hold of Sentinels whatever happens, and how they elect.

Laws are tried on random timetables of faults; a failure prints its seed. The servers are those of tests/sentinel_world.py.
"""

from collections import defaultdict

import pytest

from redsim.redis.sentinel_wire import Address
from redsim.rng import generator
from redsim.units import MS, S
from tests.sentinel_world import PORT, World, leaders_by_epoch, masters, said, world_of

# ---- laws


def hurt(world: World, seed: int, until_ns: int) -> list[str]:
    """A random timetable: processes killed, stopped and parted for a while, everything well again at `until_ns`."""
    draw = generator(seed, "faults")
    plan = []
    names = [*world.servers, *world.sentinels]
    for _ in range(int(draw.integers(2, 9))):
        at_ns, for_ns = int(draw.integers(5 * S, until_ns - 10 * S)), int(draw.integers(200 * MS, 10 * S))
        kind, name = ("kill", "pause", "part")[int(draw.integers(0, 3))], names[int(draw.integers(0, len(names)))]
        plan.append(f"{at_ns / S:.3f} s {kind} {name} for {for_ns / S:.3f} s")
        if kind == "part":
            resets = bool(draw.integers(0, 2))
            world.at(at_ns, lambda name=name, resets=resets: world.part([name], [n for n in names if n != name], resets=resets))
            world.at(at_ns + for_ns, world.heal)
        else:
            world.at(at_ns, _if_up, world, kind, name)
            world.at(at_ns + for_ns, _if_hurt, world, kind, name)
    world.at(until_ns, _all_well, world)
    return plan


def _process(world: World, name: str) -> object:
    return world.servers.get(name) or world.sentinels[name]


def _if_up(world: World, kind: str, name: str) -> None:
    process = _process(world, name)
    if process.is_alive and not process.is_paused:
        getattr(world, kind)(name)


def _if_hurt(world: World, kind: str, name: str) -> None:
    process = _process(world, name)
    if kind == "kill" and not process.is_alive:
        world.restart(name)
    if kind == "pause" and process.is_alive and process.is_paused:
        world.resume(name)


def _all_well(world: World) -> None:
    world.heal()
    for name in (*world.servers, *world.sentinels):
        _if_hurt(world, "kill", name)
        _if_hurt(world, "pause", name)


def laws_hold(seed: int) -> None:
    """One leader per epoch, one vote per epoch and Sentinel, epochs never fall, and in the end all agree."""
    count = 3 + 2 * (seed % 2)
    disk = generator(seed, "disk")
    world = world_of(seed, ft=4000, sentinels=count, flush_ns=lambda: int(disk.exponential(5 * MS)))
    plan = hurt(world, seed, 60 * S)
    world.run(160 * S)
    story = f"seed {seed}, {count} Sentinels: {plan}"
    assert all(len(who) == 1 for who in leaders_by_epoch(world.lines()).values()), story
    votes: dict[tuple[str, str], set[str]] = defaultdict(set)
    epochs: dict[str, int] = {}
    for _, who, text in world.lines():
        words = text.split()
        if words[0] == "+vote-for-leader":
            votes[who, words[2]].add(words[1])
        elif words[0] == "+new-epoch":
            assert int(words[1]) > epochs.get(who, 0), story
            epochs[who] = int(words[1])
    assert all(len(given) == 1 for given in votes.values()), story
    assert len(masters(world)) == 1, f"{story}: {masters(world)}"
    (master,) = masters(world)
    assert master is not None
    roles = {name: server.master for name, server in world.servers.items()}
    wanted = {name: None if name == master.host else master.host for name in roles}
    assert roles == wanted, f"{story}: {roles}, {masters(world)}"


@pytest.mark.parametrize("seed", range(12))
def test_laws_of_election_and_of_agreement_hold_under_random_faults(seed: int) -> None:
    """sentinel.c: votes are on disk before they are given, one per epoch; a newer configuration wins everywhere."""
    laws_hold(seed)


@pytest.mark.slow
def test_the_laws_hold_on_a_thousand_timetables() -> None:
    for seed in range(100, 1100):
        laws_hold(seed)


@pytest.mark.parametrize("seed", range(12))
def test_a_majority_that_can_talk_fails_over_in_bounded_time(seed: int) -> None:
    """down-after, a ping, an ask, the steps; a lost election costs twice failover-timeout and up to a second more."""
    ft_s = 5
    count = 3 + 2 * (seed % 2)
    world = world_of(seed, ft=1000 * ft_s, sentinels=count, more="sentinel parallel-syncs mymaster 2\n")
    for name in list(world.sentinels)[: (count - 1) // 2]:
        world.at(10 * S, world.kill, name)
    world.at(20 * S, world.kill if seed % 3 else world.pause, "main")
    world.run(60 * S)
    switched = [at for at, _, _ in said(world, "+switch-master")]
    lost = len(said(world, "-failover-abort-not-elected"))
    assert switched, f"seed {seed}"
    assert min(switched) <= 20 + 1 + 1 + 1 + 2 + lost * (2 * ft_s + 2), f"seed {seed}: {switched}, {lost} lost"


# ---- elections


def test_two_of_five_find_it_down_and_cannot_elect() -> None:
    """quorum 2 is not a majority: +odown, never +elected-leader."""
    world = world_of(3, ft=5000, sentinels=5)
    for i in (3, 4, 5):
        world.at(10 * S, world.kill, f"sentinel-{i}")
    world.at(20 * S, world.kill, "main")
    world.run(60 * S)
    assert said(world, "+odown")
    assert said(world, "-failover-abort-not-elected")
    assert not said(world, "+elected-leader")


def test_one_of_two_cannot_elect_itself() -> None:
    """A majority of two is two, whatever quorum says: the host of master and Sentinel dies, and nothing happens."""
    world = world_of(3, ft=5000, sentinels=2, quorum=1)
    for name in ("main", "sentinel-1"):
        world.at(20 * S, world.kill, name)
    world.run(80 * S)
    tries = [at for at, _, _ in said(world, "+try-failover")]
    assert len(tries) >= 5
    assert len(said(world, "-failover-abort-not-elected")) >= len(tries) - 1
    assert masters(world) == {Address("main", PORT)}


@pytest.mark.parametrize("quorum", [1, 2, 3])
def test_odown_needs_quorum(quorum: int) -> None:
    """Its line says how many agreed; with quorum 1 it follows +sdown at once."""
    world = world_of(5, quorum=quorum)
    world.at(20 * S, world.kill, "main")
    world.run(30 * S)
    first = said(world, "+odown")[0]
    agreed, needed = first[2].rpartition(" ")[2].split("/")
    assert int(needed) == quorum <= int(agreed)
    if quorum == 1:
        assert first[0] == said(world, "+sdown master")[0][0]
    assert masters(world) == {Address(said(world, "+switch-master")[0][2].split()[4], PORT)}


def test_who_voted_for_another_waits_twice_failover_timeout() -> None:
    """The leader dies after its election; the others may try 2 x 5 s after their vote, and up to a second more."""
    world = world_of(2, ft=5000)
    world.at(20 * S, world.kill, "main")
    for ms in range(0, 4000, 5):
        world.at(21 * S + ms * MS, _kill_the_elected, world)
    world.run(60 * S)
    first, second = (at for at, _, _ in said(world, "+try-failover")[:2])
    assert 10.0 <= second - first <= 11.2
    assert len(masters(world)) == 1
    assert masters(world) != {Address("main", PORT)}


def _kill_the_elected(world: World) -> None:
    elected = said(world, "+elected-leader")
    if elected and world.sentinels[elected[0][1]].is_alive and len(elected) == 1:
        world.kill(elected[0][1])


def test_votes_and_epochs_survive_the_process() -> None:
    """A Sentinel that comes back knows its epoch, its vote, the replicas and the others, and its name."""
    world = world_of(4)
    world.at(20 * S, world.kill, "main")
    world.run(40 * S)
    one = world.sentinels["sentinel-2"]
    master = one.masters.get("mymaster")
    assert master is not None
    before = one.myid, one.current_epoch, master.leader_epoch, {s.name for s in master.slaves}, {s.name for s in master.sentinels}
    world.kill("sentinel-2")
    world.restart("sentinel-2")
    world.run(40 * S + 5 * MS)
    again = one.masters.get("mymaster")
    assert again is not None
    assert again is not master
    assert before == (one.myid, one.current_epoch, again.leader_epoch, {s.name for s in again.slaves},
                      {s.name for s in again.sentinels})  # fmt: skip
    assert one.current_epoch == 1
