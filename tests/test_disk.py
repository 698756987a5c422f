"""One disk and its page cache: who waits for whom, what is written back when. Linux' numbers [linux-vm]; times are exact."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simpy

from redsim.host.disk import Disk
from redsim.host.pagecache import CHUNK_BYTES, PageCache
from redsim.run.aof import disk_of_host
from redsim.scenario.disk import DiskProfile, named_disks
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.scenario.profile import disk_profile, load_profile
from redsim.units import MIB, MS, S
from tests.test_aof import play, world

MS_DISK = DiskProfile("", "", ((0.5, 10 * MS), (1.0, 10 * MS)), 100 * MIB, True)  # 10 ms a fsync, 10 ms a MiB


def disk(profile: DiskProfile = MS_DISK) -> tuple[simpy.Environment, Disk]:
    env = simpy.Environment()
    return env, Disk(env, profile, 1, "box")


def test_first_come_first_served_one_at_a_time() -> None:
    """A fsync behind a write waits for it; a fsync pays for its own dirty bytes."""
    _, one = disk()
    assert one.write(3 * MIB).done_ns == 30 * MS
    assert one.fsync(2 * MIB).done_ns == 30 * MS + 10 * MS + 20 * MS
    assert one.fsync(0).done_ns == 70 * MS
    assert one.busy_ns == 70 * MS


def test_a_disk_with_few_requests_a_second_is_slow_for_small_ones_and_caps_its_bandwidth() -> None:
    """IOPS [aws-ebs-io]: a request is 256 KiB at most and takes 1/iops at least; a large write goes at iops times 256 KiB."""
    few = replace(MS_DISK, iops=50)  # 20 ms a request, 12.5 MiB/s
    _, one = disk(few)
    assert one.write(4096).done_ns == 20 * MS
    assert one.fsync(0).done_ns == 40 * MS
    assert one.write(25 * MIB).done_ns == 40 * MS + 2 * S
    assert min(few.words()) == 20 * MS
    many = replace(MS_DISK, iops=100_000)
    assert many.stream_bytes_per_s == MS_DISK.bytes_per_s
    assert many.fsync_at(0.9) == MS_DISK.fsync_at(0.9)
    loaded = Scenario.from_text("""\
question: How many requests?
duration: 1s
hosts: {box: {disk: {like: ebs-like, iops: 3000}}}
nodes: {main: {host: box, conf: 'appendonly yes'}}
""")
    assert disk_of_host(loaded, "box").iops == 3000


def test_a_stuck_disk_holds_up_what_is_not_done_and_what_comes() -> None:
    env, one = disk()
    first, second = one.fsync(0), one.fsync(0)
    env.run(15 * MS)
    one.stick(S)
    assert first.done_ns == 10 * MS
    assert second.done_ns == 20 * MS + S
    assert one.fsync(0).done_ns == 30 * MS + S


def test_who_waits_for_a_job_waits_until_its_moved_end() -> None:
    env, one = disk()
    log: list[int] = []

    def waits():
        yield from one.wait(one.fsync(0))
        log.append(env.now)

    env.process(waits())
    env.run(5 * MS)
    one.stick(S)
    env.run()
    assert log == [10 * MS + S]


def test_the_drawn_fsyncs_have_the_quantiles_of_the_table() -> None:
    """20,000 draws of each named disk: the median within 2 %, none beyond the table."""
    for name, profile in named_disks().items():
        _, one = disk(profile)
        drawn = np.array([-one.free_ns + one.fsync(0).done_ns for _ in range(20_000)])
        assert abs(np.median(drawn) / profile.fsync_at(0.5) - 1) < 0.02, name
        assert profile.fsync_at(0) <= drawn.min() and drawn.max() <= profile.fsync_at(1), name  # noqa: PT018


@pytest.mark.parametrize(("size_mib", "written_s"), [(1, 35), (200, 1)])
def test_pages_are_written_back_when_old_or_when_there_are_too_many(size_mib: int, written_s: int) -> None:
    """30 s old at a 5 s round; beyond a tenth of the memory at once. Written at 1 s in a host of 1 GiB."""
    env, one = disk()
    cache = PageCache(env, one, 1024 * MIB, 60 * S)

    def writes():
        yield env.timeout(S)
        cache.dirty("f", size_mib * MIB)

    env.process(writes())
    env.run(written_s * S - 1)
    assert cache.clean_bytes.get("f", 0) == 0
    env.run(written_s * S + S)
    assert cache.clean_bytes["f"] == min(size_mib, 98) * MIB, "down to the tenth"


def test_a_writer_waits_from_half_way_between_the_limits_on() -> None:
    """balance_dirty_pages: 15 % of 1 GiB, then as fast as the disk takes a MiB."""
    env, one = disk()
    cache = PageCache(env, one, 1024 * MIB, 60 * S)
    cache.dirty("f", cache.ceiling_bytes)
    log: list[int] = []

    def writes():
        yield from cache.room(2 * MIB)
        log.append(env.now)

    env.process(writes())
    env.run(S)
    assert log == [20 * MS]
    assert cache.ceiling_bytes == int(0.15 * 1024 * MIB)
    assert CHUNK_BYTES == MIB


def test_fsync_takes_its_own_files_pages_only() -> None:
    env, one = disk()
    cache = PageCache(env, one, 1024 * MIB, 60 * S)
    cache.dirty("mine", 3 * MIB)
    cache.dirty("other", 5 * MIB)
    assert cache.fsync("mine").done_ns == 40 * MS
    assert cache.dirty_bytes == 5 * MIB
    env.run(S)
    assert cache.clean_bytes == {"mine": 3 * MIB}


def test_a_write_waits_for_the_page_cache_on_a_host_of_little_memory() -> None:
    """1 MB/s of SETs, a disk of 100 kB/s: beyond 15 % of 4 MB the loop waits, and its event is aof-write-alone."""
    aof = play(world("no", disk="bytes_per_s: 100kb", memory="4mb", rate=7000, duration="3s")).aof
    waited = sum(over - begun for begun, over in aof.blocked)
    assert waited > S


def test_what_the_loop_has_synced_itself_is_not_dirty() -> None:
    """appendfsync always on a disk of its own: the same writes on the same little host wait for their fsyncs only."""
    aof = play(world("always", memory="4mb", rate=7000, duration="3s")).aof
    assert aof.blocked == []
    assert aof.cache.dirty_bytes == 0


def test_a_profile_has_its_own_fsync_times_or_the_defaults() -> None:
    """dev-vm: as calibrate measured; a published host without a disk: the default's."""
    own = disk_profile(load_profile("dev-vm", Path()))
    assert own.fsync_at(0.5) == 154_204
    assert disk_profile(load_profile("default", Path())).fsync_at(1.0) == 2_295_000


@pytest.mark.parametrize(
    ("inside", "told"),
    [
        ("like: hd", "did you mean 'hdd'"),
        ("fsync: [[0.5, 1ms]]", "the last one is 1.0"),
        ("fsync: [[0.5, 2ms], [1.0, 1ms]]", "must rise"),
    ],
)
def test_a_disk_that_makes_no_sense_is_refused_in_a_sentence(inside: str, told: str) -> None:
    with pytest.raises(ScenarioError, match=told):
        play(world("everysec", disk=inside))


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("{at: 1s, fault: slow_disk, host: box, for: 1s}", "slow_disk needs factor"),
        ("{at: 1s, fault: disk_hog, host: box, for: 1s}", "disk_hog needs bytes_per_s"),
        ("{at: 1s, fault: stuck_disk, host: box, for: 1s, factor: 2.0}", "belong to slow_disk"),
        ("{at: 1s, fault: stuck_disk, host: bax, for: 1s}", "no host is named 'bax'"),
        ("{at: 9s, fault: stuck_disk, host: box, for: 1s}", "is not before the end"),
        ("{at: 1s, fault: earthquake, node: main}", "does not model the fault"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_in_a_sentence(fault: str, told: str) -> None:
    with pytest.raises(ScenarioError, match=told):
        Scenario.from_text(world("everysec", faults=fault))
