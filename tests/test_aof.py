"""The append-only file: its bytes, the everysec state machine over any disk, what a crash takes.

Sources: facts/redis.md section 6 and Appendix A, the lab's aof.json. The plain-Python twin of the loop is the second witness.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import simpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redsim.dataplane import layout as dp
from redsim.dataplane import twin
from redsim.redis.aof import Aof
from redsim.redis.server import Server
from redsim.rng import generator
from redsim.run.aof import attach_aof
from redsim.run.build import build
from redsim.run.durability import durability, exposure
from redsim.scenario.load import Scenario
from redsim.units import MS, S
from tests.small_worlds import clients, node, once, scenario, world_of
from tests.test_twins import open_group, text_of
from tests.twin_runs import TwinServer

SELECT_BYTES = 23
SLOW_MS = [50, 500, 1500, 3000]  # aof_events.json: slow_fsync


@dataclass(frozen=True)
class Play:
    """One run: the server, its AOF, and the twin's Sim if the twin played it."""

    server: Server
    aof: Aof
    sim: object = None


def play(text: str, *, by_twin: bool = False) -> Play:
    loaded = Scenario.from_text(text)
    built, env = build(loaded), simpy.Environment()
    mine = twin.Twin(built.world) if by_twin else None
    make, world = (TwinServer, mine) if by_twin else (Server, built.world)
    server = make(env, world, loaded.confs[built.node], loaded.profiles[built.host])  # type: ignore[arg-type]
    attach_aof(env, server, loaded, built.node)
    env.process(server.main())
    env.run()
    assert server.aof is not None
    return Play(server, server.aof, mine.sim if mine is not None else None)


def world(policy: str, *, disk: str = "", rate: int = 200, duration: str = "8s", faults: str = "", version: str = "7.0",
          commands: str = "{SET: 1}", memory: str = "") -> str:  # fmt: skip
    """Writes at `rate` under a policy; `disk` is the inside of the host's `disk:`."""
    inside = ", ".join(["profile: default", *([f"disk: {{{disk}}}"] if disk else []), *([f"memory: {memory}"] if memory else [])])
    return text_of(
        open_group(rate, commands, more=", connections: 5"), conf=f"appendonly yes\nappendfsync {policy}", duration=duration,
        host=f"{{{inside}}}", timeline=f"[{faults}]", version=version,
        datasets="users: {node: main, keys: 2000, value_bytes: 100}",
    )  # fmt: skip


# ---- bytes -----------------------------------------------------------------------------------------------------------------

BYTES = [  # the lab's aof.json, `bytes`: command, type of key, present, its bytes there; fields and scores are six bytes here
    ("SET", "{SET: {weight: 1, value_bytes: 1}}", "string", 1, 27),
    ("SET EX 100", "{SET: {weight: 1, value_bytes: 1, ttl: 100s}}", "string", 1, 57),
    ("EXPIRE k 100", "{EXPIRE: {weight: 1, ttl: 100s}}", "string", 1, 46),
    ("EXPIRE of no key", "{EXPIRE: {weight: 1, ttl: 100s}}", "string", 0, 0),
    ("INCR", "{INCR: 1}", "string", 1, 21),
    ("DEL", "{DEL: 1}", "string", 1, 20),
    ("DEL of no key", "{DEL: 1}", "string", 0, 0),
    ("GET", "{GET: 1}", "string", 1, 0),
    ("LPUSH l a b c", "{LPUSH: {weight: 1, elements: 3}}", "list", 1, 43),
    ("HSET h f v", "{HSET: 1}", "hash", 1, 35 + 5),
    ("SADD s a b", "{SADD: {weight: 1, elements: 2}}", "set", 0, 35),
    ("SADD of members that are there", "{SADD: {weight: 1, elements: 2}}", "set", 1, 0),
    ("ZADD z 1 a", "{ZADD: 1}", "zset", 1, 35 + 5),
    ("FLUSHALL", "{FLUSHALL: 1}", "string", 1, 18),
]


@pytest.mark.parametrize(("name", "command", "key_type", "present", "size"), BYTES, ids=[row[0] for row in BYTES])
def test_a_command_appends_the_bytes_that_the_lab_saw(name: str, command: str, key_type: str, present: int, size: int) -> None:
    """Exact: aof.json `bytes`, Redis 7.0.15; SELECT is 23 bytes, once."""
    values = ", value_bytes: 1" if key_type == "string" else ", value_bytes: 1, elements: 4"
    data = f"datasets: {{d: {{node: main, keys: 1, key_bytes: 1, type: {key_type}, present: {present}{values}}}}}\n"
    body = f"duration: 20ms\n{node('appendonly yes')}{data}{clients(once('one', command, dataset='d'))}"
    numbers = world_of(scenario(body)).w.aof
    assert int(numbers[dp.A_APPENDED]) == (size + SELECT_BYTES if size else 0)
    assert int(numbers[dp.A_WRITTEN]) == int(numbers[dp.A_APPENDED])


def test_select_comes_once_and_every_set_of_the_lab_is_136_bytes() -> None:
    """aof.json throughput: 135.889 bytes a command over key:0 to key:99999; a name of nine bytes makes 136. SELECT once."""
    body = f"duration: 50ms\n{node('appendonly yes')}datasets: {{d: {{node: main, keys: 10, key_bytes: 9, value_bytes: 100}}}}\n"
    w = world_of(scenario(body + clients(once("one", "{SET: 1}", dataset="d", pipeline=7)))).w
    assert int(w.aof[dp.A_WRITTEN]) == SELECT_BYTES + 7 * 136
    assert int(w.aof[dp.A_WRITES]) == 1, "one write(2) for the whole pipeline"


# ---- everysec: the state machine -------------------------------------------------------------------------------------------


@st.composite
def disks(draw: st.DrawFn) -> str:
    """A disk, and up to three faults at any time."""
    median, tail = sorted(draw(st.tuples(st.integers(1, 2600), st.integers(1, 2600))))
    locks = draw(st.sampled_from(["true", "false"]))
    version = draw(st.sampled_from(["6.2", "7.0", "7.2", "7.4", "valkey-8.0"]))
    faults = []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["stuck_disk", "slow_disk", "full_disk", "disk_hog"]))
        more = {"slow_disk": ", added: 700ms", "disk_hog": ", bytes_per_s: 1gb"}.get(kind, "")
        at, lasts = draw(st.integers(0, 5900)), draw(st.integers(1, 4000))
        faults.append(f"{{at: {at}ms, fault: {kind}, host: box, for: {lasts}ms{more}}}")
    disk = f"fsync: [[0.5, {median}ms], [1.0, {tail}ms]], write_waits_for_fsync: {locks}"
    return world("everysec", disk=disk, rate=60, duration="6s", faults=", ".join(faults), version=version)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(disks())
def test_everysec_equals_its_twin_event_for_event(text: str) -> None:
    """Each fsync's start and end, each blocked write, each moment at which more was written or durable; integers, so ==."""
    mine, other = play(text), play(text, by_twin=True)
    assert mine.aof.fsyncs == other.aof.fsyncs
    assert mine.aof.blocked == other.aof.blocked
    assert mine.aof.points == other.aof.points
    assert mine.aof.info() == other.aof.info()


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(disks())
def test_at_most_one_fsync_is_in_flight(text: str) -> None:
    """facts/redis.md 17.3: bio.c runs one, and everysec submits none while it runs."""
    done = 0
    for begun, over in play(text).aof.fsyncs:
        assert begun >= done
        done = over


@pytest.mark.parametrize(("version", "apart_ns"), [("7.0", S), ("7.4", S)])
def test_a_quick_disk_is_synced_about_once_per_second(version: str, apart_ns: int) -> None:
    """7.0 compares whole seconds, so fsyncs keep their phase; 7.4 counts 1000 ms from the last, so they drift (facts 6.1)."""
    begun = [start for start, _ in play(world("everysec", rate=2000, version=version)).aof.fsyncs]
    assert len(begun) >= 7
    gaps = np.diff(begun)
    assert (gaps >= apart_ns - 10 * MS).all()
    assert (gaps <= apart_ns + 10 * MS).all()


@pytest.mark.parametrize(("delay_ms", "delayed"), [(50, 0), (500, 0), (1500, 2), (3000, 2)])
def test_aof_delayed_fsync_over_eight_seconds_as_in_the_lab(delay_ms: int, delayed: int) -> None:
    """aof_events.json slow_fsync: 0, 0, 2, 2 at 2000/s over 8 s, the file not locked; one either way for the second's phase."""
    seen = []
    for version_seed in range(4):
        text = world("everysec", disk=f"fsync: [[1.0, {delay_ms}ms]], write_waits_for_fsync: false", rate=2000)
        seen.append(int(play(text.replace("seed: 1", f"seed: {version_seed}")).aof.numbers[dp.A_DELAYED]))
    assert all(abs(count - delayed) <= (1 if delayed else 0) for count in seen), seen


def test_a_write_that_cannot_wait_blocks_the_loop_until_the_fsync_is_over() -> None:
    """facts 6.1: two seconds of patience, then write() behind the fsync of a locked file; it is counted once."""
    aof = play(world("everysec", faults="{at: 2s, fault: stuck_disk, host: box, for: 5s}")).aof
    assert int(aof.numbers[dp.A_DELAYED]) == 1
    assert len(aof.blocked) == 1
    begun, over = aof.blocked[0]
    assert over == next(done for start, done in aof.fsyncs if start < begun < done)


# ---- what a crash takes ----------------------------------------------------------------------------------------------------


def lost_at(played: Play, instants: np.ndarray) -> np.ndarray:
    """Commands answered at the client by each instant whose bytes were not durable then, counted one by one from the twin."""
    sim = played.sim
    log = np.array([(0, 0, 0), *sim.aof.log])  # type: ignore[attr-defined]
    answered = np.array([(done, request.in_aof) for request, _, done in sim.done if request.in_aof])  # type: ignore[attr-defined]
    assert len(answered)
    durable = log[np.searchsorted(log[:, 0], instants, side="right") - 1, 1]
    return np.array([((answered[:, 0] <= t) & (answered[:, 1] > safe)).sum() for t, safe in zip(instants, durable, strict=True)])


ALWAYS = {
    "default": world("always", rate=3000, duration="400ms"),
    "hog": world("always", rate=2000, duration="400ms", disk="fsync: [[1.0, 2ms]], bytes_per_s: 100mb",
                 faults="{at: 50ms, fault: disk_hog, host: box, for: 200ms, bytes_per_s: 90mb}"),
    "stuck": world("always", rate=2000, duration="400ms", faults="{at: 90ms, fault: stuck_disk, host: box, for: 150ms}"),
    "full": world("always", rate=2000, duration="400ms", faults="{at: 200ms, fault: full_disk, host: box, for: 90ms}"),
}  # fmt: skip


@pytest.mark.parametrize("name", ALWAYS)
def test_always_never_loses_an_acknowledged_write(name: str) -> None:
    """1,000 random instants of a power loss over each of four disks; exact: none. A drive that lies is not modelled."""
    played = play(ALWAYS[name], by_twin=True)
    instants = np.sort(generator(1, "test", "crashes", name).integers(0, 400 * MS, 1000))
    assert lost_at(played, instants).max() == 0
    assert durability(played.aof, 1, "main", 0)["loss"]["os_crash_or_power_loss"]["commands"]["max"] == 0


def test_everysec_loses_about_a_second_of_writes_to_a_power_loss_and_none_to_a_kill() -> None:
    """The same count finds losses where there are some, so it can fail; the summary's exposure agrees within 100 ms of writes."""
    played = play(world("everysec", rate=500, duration="6s"), by_twin=True)
    instants = np.sort(generator(2, "test", "crashes").integers(2 * S, 6 * S - 200 * MS, 1000)).astype(float)
    exact = lost_at(played, instants)
    told = exposure(played.aof.table(), instants, "durable", False)[0]
    assert 400 <= exact.max() <= 700
    assert np.abs(told - exact).max() <= 0.1 * 500 + 10
    assert exposure(played.aof.table(), instants, "written", False)[0].max() <= 0.01 * 500


def test_on_a_slow_disk_a_plain_kill_loses_acknowledged_writes_under_everysec_and_only_there() -> None:
    """aof_events.json loss: kill -9 at fdatasync 1.5 s lost 577 and 4,805 under everysec, none under no and always."""
    disk = "fsync: [[1.0, 1500ms]], write_waits_for_fsync: false"
    for policy, is_lost in (("everysec", True), ("no", False), ("always", False)):
        told = durability(play(world(policy, disk=disk)).aof, 1, "main", 0)["loss"]["process_kill"]
        assert (told["commands"]["max"] > 10) == is_lost, policy


def test_unsynced_age_under_everysec_is_a_second_as_in_the_lab() -> None:
    """aof_events.json exposure: oldest unsynced write at the end of a fsync 0.99 s (median), 1.06 s at most, at 1000/s."""
    age = durability(play(world("everysec", rate=1000)).aof, 1, "main", S)["loss"]["os_crash_or_power_loss"]["age_s"]
    assert 0.95 <= age["max"] <= 1.1
    assert 0.4 <= age["p50"] <= 0.6


def test_write_back_bounds_what_policy_no_can_lose() -> None:
    """linux-vm: pages older than 30 s go out at the next 5 s round: 30 to 35 s and a little at most."""
    age = durability(play(world("no", rate=20, duration="80s")).aof, 1, "main", S)["loss"]["os_crash_or_power_loss"]["age_s"]
    assert 30 <= age["max"] <= 36


# ---- no space --------------------------------------------------------------------------------------------------------------


def test_a_full_disk_refuses_writes_until_there_is_room_again() -> None:
    """facts 6.1.4: -MISCONF for writes and PING, reads go on; the first write that succeeds ends it."""
    played = play(world("everysec", commands="{SET: 1, GET: 1}", duration="2s",
                        faults="{at: 500ms, fault: full_disk, host: box, for: 500ms}"))  # fmt: skip
    numbers = played.aof.numbers
    refused, errors = int(numbers[dp.A_MISCONF]), played.server.world.kind[:, dp.K_ERRORS]
    assert refused > 20
    assert sorted(int(count) for count in errors) == sorted([0] * (len(errors) - 1) + [refused]), "SET alone is refused"
    assert played.aof.info()["aof_last_write_status"] == "ok"


def test_under_always_a_full_disk_ends_the_process() -> None:
    """aof.c: a failed write under appendfsync always exits."""
    played = play(world("always", duration="2s", faults="{at: 500ms, fault: full_disk, host: box, for: 500ms}"))
    assert played.aof.exited is not None
    assert 500 * MS <= played.aof.exited <= 600 * MS


@cache
def _group_commit() -> tuple[int, int]:
    text = text_of("a: {node: main, connections: 50, arrivals: {closed: {}}, commands: {SET: 1}, keys: {dataset: users}}",
                   conf="appendonly yes\nappendfsync always", duration="300ms")  # fmt: skip
    numbers = play(text).aof.numbers
    return int(numbers[dp.A_FSYNCS]), int(numbers[dp.A_CMDS])


def test_always_syncs_once_per_iteration_for_all_who_wrote_in_it() -> None:
    """facts 17.2: group commit; fifty closed-loop clients share each fsync."""
    fsyncs, commands = _group_commit()
    assert commands > 10 * fsyncs > 0
