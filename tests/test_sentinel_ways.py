"""The rarer ways of Sentinels: TILT, slow disks, BUSY scripts, wrong replicas, partitions, what clients see.

The servers are those of tests/sentinel_world.py.
"""

import pytest

from redsim.redis.sentinel_wire import Address, Failover, GetMasterAddr, Hello, Publish, ScriptKill
from redsim.units import MS, S
from tests.sentinel_world import PORT, masters, said, world_of

# ---- one process


def test_a_sentinel_that_was_stopped_is_in_tilt_for_30_s() -> None:
    """+tilt after 3 s without a tick; it says nobody is down; -tilt 30 s later, and only then +sdown."""
    world = world_of(6)
    world.at(20 * S, world.pause, "sentinel-1")
    world.at(23 * S, world.resume, "sentinel-1")
    world.at(25 * S, world.kill, "main")
    world.run(60 * S)
    (begin, who, _), (end, _, _) = said(world, "+tilt")[0], said(world, "-tilt")[0]
    assert who == "sentinel-1"
    assert 23.0 <= begin <= 23.1
    assert 30.0 <= end - begin <= 30.2
    assert not [at for at, who, _ in said(world, "+sdown master") if who == "sentinel-1" and at < end]
    assert said(world, "+elected-leader")[0][1] != "sentinel-1"  # the other two are a majority; it follows their hello, though
    assert masters(world) != {Address("main", PORT)}


def test_a_flush_of_three_seconds_is_tilt_too() -> None:
    """The fsync of the vote holds the loop: its next tick comes too late."""
    world = world_of(7, flush_ns=lambda: 3 * S if world.env.now > 20 * S else MS)
    world.at(20 * S, world.kill, "main")
    world.run(40 * S)
    assert said(world, "+tilt")
    assert max(one.flush_max_ns for one in world.sentinels.values()) == 3 * S


def test_a_vote_leaves_after_its_flush() -> None:
    """80 ms of fsync for the epoch and as much for the vote before the answer: an election takes that much longer."""
    slow, fast = ([], [])
    for seed in range(6):
        for times, ms in ((slow, 80), (fast, 1)):
            world = world_of(seed, flush_ns=lambda ms=ms: ms * MS)
            world.at(20 * S, world.kill, "main")
            world.run(24 * S)
            times.append(said(world, "+elected-leader")[0][0] - said(world, "+try-failover")[0][0])
    assert min(slow) >= 3 * 0.08
    assert max(fast) < 0.2


def test_busy_is_answered_by_one_script_kill() -> None:
    """-BUSY leaves the ping pending: +sdown, then one SCRIPT KILL, then -sdown."""
    world = world_of(8, da=3000)
    main, kills = world.servers["main"], []
    plain = main.execute

    def execute(command: object) -> object:
        if isinstance(command, ScriptKill):
            kills.append(world.env.now)
        return plain(command)

    main.execute = execute
    world.at(20 * S, setattr, world.servers["main"], "says", "BUSY")
    world.run(40 * S)
    assert said(world, "+sdown master")
    assert said(world, "-sdown master")
    assert 1 <= len(kills) <= 3  # one of each Sentinel at most
    assert said(world, "+try-failover")  # which does not wait for it


def test_a_master_that_says_for_long_that_it_is_a_replica_is_failed_over() -> None:
    """sentinelCheckSubjectivelyDown: down-after and twice the INFO period."""
    world = world_of(9)
    world.at(15 * S, lambda: world.servers["main"].follow("r1"))
    world.at(15 * S, lambda: world.servers["r1"].follow(None))
    world.run(60 * S)
    assert 15 + 21 <= said(world, "+sdown master")[0][0] <= 15 + 21 + 10.2


def test_a_restart_goes_unnoticed_but_for_the_reboot_rule() -> None:
    """A master that is back before down-after: +reboot; with master-reboot-down-after-period it is down while it loads."""
    for more, is_down in (("", False), ("sentinel master-reboot-down-after-period mymaster 2000\n", True)):
        world = world_of(10, da=5000, more=more)
        main = world.servers["main"]
        world.at(20 * S, world.kill, "main")
        world.at(21 * S, world.restart, "main")
        world.at(22 * S, setattr, main, "says", "PONG")
        plain = main.execute
        main.execute = lambda command, plain=plain, world=world: (
            "LOADING" if type(command).__name__ == "Ping" and 21 * S < world.env.now < 45 * S else plain(command))
        world.run(45 * S)
        assert said(world, "+reboot")
        assert bool(said(world, "+sdown master")) == is_down


# ---- replicas


def test_the_old_master_is_made_a_replica_ten_seconds_after_it_is_back() -> None:
    """+convert-to-slave: 8 s of a sane master, at the next INFO (recorded: 10 s after the return)."""
    world = world_of(11)
    world.at(20 * S, world.kill, "main")
    world.at(30 * S, world.restart, "main")
    world.run(60 * S)
    at, _, text = said(world, "+convert-to-slave")[0]
    assert text.startswith("+convert-to-slave slave main:6379")
    assert 38.0 <= at <= 50.5
    assert world.servers["main"].master == said(world, "+switch-master")[0][2].split()[4]


@pytest.mark.parametrize("parallel", [1, 2, 4])
def test_parallel_syncs_limits_who_syncs_at_once(parallel: int) -> None:
    """Four replicas beside the promoted one, 3 s a sync."""
    world = world_of(12, replicas=5, more=f"sentinel parallel-syncs mymaster {parallel}\n")
    for server in world.servers.values():
        server.sync_ns = 3 * S
    world.at(20 * S, world.kill, "main")
    world.run(50 * S)
    under_way, most = 0, 0
    for _, _, text in world.lines():
        under_way += text.startswith("+slave-reconf-sent") - text.startswith("+slave-reconf-done")
        most = max(most, under_way)
    assert most == parallel
    assert len(said(world, "+slave-reconf-done")) == 4


def test_a_replica_that_never_syncs_ends_the_failover_by_timeout() -> None:
    """+failover-end-for-timeout, +failover-end, then best effort; the leader switches only then."""
    world = world_of(13, ft=8000, replicas=3)
    for server in world.servers.values():
        server.sync_ns = 3600 * S
    world.at(20 * S, world.kill, "main")
    world.run(45 * S)
    at = said(world, "+failover-end-for-timeout")[0][0]
    assert 8.0 <= at - said(world, "+promoted-slave")[0][0] <= 8.2
    assert said(world, "+slave-reconf-sent-be")
    assert [who for _, who, _ in said(world, "+switch-master")][-1] == said(world, "+elected-leader")[0][1]


def test_a_replica_of_somebody_else_is_put_right_after_failover_timeout() -> None:
    """+fix-slave-config."""
    world = world_of(14, ft=6000)
    world.at(20 * S, lambda: world.servers["r2"].follow("r1"))
    world.run(60 * S)
    assert said(world, "+fix-slave-config")[0][2].startswith("+fix-slave-config slave r2:6379")
    assert world.servers["r2"].master == "main"


# ---- partitions and what clients see


def test_a_sentinel_alone_with_the_master_follows_the_majority_when_it_is_back() -> None:
    """main and sentinel-1 are cut off: the others fail over; the hello after the cut brings +config-update-from."""
    world = world_of(15)
    world.at(20 * S, lambda: world.part(["main", "sentinel-1"], ["r1", "r2", "sentinel-2", "sentinel-3"], resets=True))
    world.at(40 * S, world.heal)
    world.run(80 * S)
    at, _, _ = next(line for line in said(world, "+config-update-from") if line[1] == "sentinel-1")
    assert 40.0 <= at <= 44.5
    assert len(masters(world)) == 1
    assert world.servers["main"].master is not None


def test_mute_links_are_closed_and_opened_again() -> None:
    """Packets are lost without a reset: a ping pending for half of down-after closes a connection that is older than 15 s."""
    world = world_of(16, da=4000)
    world.at(30 * S, lambda: world.part(["r1"], list(world.sentinels)))
    world.run(32 * S)
    before = {link for link in world.links if link.to == "r1"}
    world.run(40 * S)
    world.heal()
    world.run(60 * S)
    assert not before & {link for link in world.links if link.to == "r1" and link.hear is None}
    assert said(world, "+sdown slave r1")
    assert said(world, "-sdown slave r1")


def test_subscribers_hear_switch_master_and_questions_are_answered() -> None:
    """+switch-master is a channel; the leader gives the new address as soon as the replica says that it is a master."""
    world = world_of(17)
    heard: list[tuple[int, str, str]] = []
    world.at(10 * S, lambda: [one.subscribe(lambda *event: heard.append(event)) for one in world.sentinels.values()])
    world.at(20 * S, world.kill, "main")
    answers: list[tuple[object, int]] = []
    for ms in range(0, 5000, 100):
        world.at(20 * S + ms * MS, lambda: [
            one.request(GetMasterAddr("mymaster"), lambda *answer: answers.append(answer)) for one in world.sentinels.values()])
    world.run(30 * S)
    assert len([1 for _, kind, _ in heard if kind == "+switch-master"]) == 3
    assert answers[0][0] == Address("main", PORT)
    assert answers[-1][0] == Address(said(world, "+switch-master")[0][2].split()[4], PORT)
    assert world.sentinels["sentinel-1"].get_master_addr_by_name("other") is None


def test_a_manual_failover_asks_nobody() -> None:
    """SENTINEL FAILOVER with two of three Sentinels dead; a second one meanwhile is refused."""
    world = world_of(18)
    for name in ("sentinel-2", "sentinel-3"):
        world.at(15 * S, world.kill, name)
    answers: list[object] = []
    for ms in (0, 10):
        world.at(20 * S + ms * MS, lambda: world.sentinels["sentinel-1"].request(
            Failover("mymaster"), lambda reply, _delay_ns: answers.append(reply)))
    world.run(60 * S)
    assert answers == ["OK", "INPROG"]
    assert said(world, "+switch-master")
    assert world.servers["main"].master is not None


def test_down_after_of_half_a_second_fails_over_again_and_again_two_seconds_do_not() -> None:
    """Published (redis issue 8607): down-after 500 ms, repeated false failovers; 2000 ms fixes them. Why: a Sentinel that
    switches keeps the rhythm of its attempts to connect, 1 s, but counts down-after from the switch."""
    switches = {}
    for da in (500, 2000):
        switches[da] = 0
        for seed in range(6):
            world = world_of(seed, da=da, ft=10_000)
            world.at(20 * S, world.kill, "main")
            world.run(40 * S)
            switches[da] += len({text for _, _, text in said(world, "+switch-master")})
    assert switches[2000] == 6
    assert switches[500] > 6


def test_two_masters_share_the_links_to_the_other_sentinels() -> None:
    """sentinelTryConnectionSharing: one link and one PING a second to a Sentinel, however many masters; failovers are apart."""
    world = world_of(19, more="sentinel monitor other r2 2\nsentinel down-after-milliseconds other 1000\n")
    world.servers["r2"].master = None
    world.at(20 * S, world.kill, "main")
    world.run(19 * S)
    for one in world.sentinels.values():
        first, second = one.masters.get("mymaster"), one.masters.get("other")
        assert first is not None
        assert second is not None
        assert len(first.sentinels) == len(second.sentinels) == 2
        for sentinel in first.sentinels:
            twin = second.sentinels.get(sentinel.name)
            assert twin is not None
            assert twin.link is sentinel.link
            assert sentinel.link.refcount == 2
    world.run(40 * S)
    assert masters(world) == {Address("r1", PORT)}
    assert {one.get_master_addr_by_name("other") for one in world.sentinels.values()} == {Address("r2", PORT)}


def test_a_hello_is_in_the_replication_stream_byte_for_byte() -> None:
    """*3, PUBLISH, the channel's 18 characters, a payload of 84."""
    hello = Hello(Address("127.0.0.1", 26379), "0" * 40, 0, "mymaster", Address("127.0.0.1", 6379), 0)
    assert len(hello.payload()) == 84
    assert Publish(hello).stream_bytes() == 133


@pytest.mark.parametrize("is_long_up", [True, False])
def test_sentinels_that_are_long_up_ask_for_info_out_of_step(is_long_up: bool) -> None:
    """INFO each 10 s (sentinel.c: sentinel_info_period): after a start together all come at once; ticks of 52 to 100 ms make them
    drift apart until they lie anywhere. Recorded: with down-after 5000 a promotion is seen 261 to 937 ms after the election."""
    spreads, ages = [], []
    for seed in range(20):
        world = world_of(seed, is_long_up=is_long_up, start_within_ns=1 if is_long_up else 100 * MS)
        world.run(30 * S)
        age = [one.now_ms() - one.masters.all[0].info_refresh for one in world.sentinels.values()]
        spreads.append(max(age) - min(age))
        ages += age
    assert all(0 <= age <= 10_200 for age in ages)
    if is_long_up:
        assert sorted(spreads)[10] > 3000  # three instants in 10 s: their median range is 5 s
    else:
        assert max(spreads) < 700  # 100 ms at the start, and three rounds to a tick of 100 ms each


def test_who_is_long_up_still_sees_each_ping_and_hello_answered() -> None:
    """The first of each counts as older, which is no reason to take anybody for down, or not to see one that is."""
    world = world_of(3, da=3000, is_long_up=True, start_within_ns=1)
    world.at(20 * S, world.kill, "main")
    world.run(60 * S)
    assert {who for at, who, _ in said(world, "+sdown master") if at < 20} == set()
    assert len(said(world, "+sdown master")) >= 2
    assert len(said(world, "+elected-leader")) == 1
