"""How a machine that changed its speed is taken out of a validation: the yardstick's readings, and what they say of walks."""

from pathlib import Path

import pytest

from redsim.lab.predicted import Drift, cache_of
from redsim.lab.yardstick import Mark, drift
from redsim.scenario.profile import default_profile, load_profile


def test_drift_is_the_median_of_the_readings_over_the_reference():
    """Both loads count alike; one wild reading does not matter; memory has a factor of its own."""
    calm = Mark(10.0, 12.0, 8000.0, 1e5)
    slow = Mark(11.0, 13.2, 16000.0, 9e4)
    wild = Mark(99.0, 99.0, 90000.0, 1e4)
    assert drift([calm, calm, wild], calm) == Drift(1.0, 1.0, 80.0)
    assert drift([slow], calm) == Drift(1.1, 2.0, 80.0)


def test_a_walk_slows_down_as_in_a_smaller_cache():
    """cache_of: a walk that was cached goes towards what one costs that no cache holds; that one follows the CPU only."""
    profile = load_profile("dev-vm", Path())
    walk = profile.curves["keys_walk"]
    was_ns = walk.at(20_000)
    smaller, left = cache_of(profile, was_ns, walk.at(60_000))
    assert smaller == pytest.approx(3, rel=0.05)
    assert left == pytest.approx(1)
    now = Drift(1.0, walk.at(60_000) / was_ns, was_ns).on(profile).curves["keys_walk"]
    assert now.at(10_000) > 1.2 * walk.at(10_000)
    assert now.at(1_000_000) == pytest.approx(walk.at(1_000_000), rel=0.01)
    assert cache_of(profile, was_ns, was_ns) == (1.0, 1.0)


def test_a_walk_slower_than_memory_says_that_memory_is_slower():
    """cache_of: what no smaller cache explains is a factor on every walk, in and out of cache."""
    profile = load_profile("dev-vm", Path())
    walk = profile.curves["keys_walk"]
    slowest_ns = walk.at(1_000_000)
    _, left = cache_of(profile, walk.at(20_000), 2 * slowest_ns)
    assert left == pytest.approx(2, rel=0.01)
    now = Drift(1.0, 2 * slowest_ns / walk.at(20_000), walk.at(20_000)).on(profile).curves["keys_walk"]
    assert now.at(1_000_000) == pytest.approx(2 * slowest_ns, rel=0.01)


def test_forks_and_pages_go_with_memory_bytes_of_a_file_with_the_cpu_and_a_disk_with_neither() -> None:
    """predicted.paged: 1.4 of the CPU, 2 of memory; a saved rate is keys and bytes, 1000 to a key."""
    profile = load_profile("dev-vm", Path())
    before, after = profile.later, Drift(cpu=1.4, memory=2.0).on(profile).later
    assert after["fork_ns_per_mib"].value == 2 * before["fork_ns_per_mib"].value
    assert after["cow_fault_ns"].value == 2 * before["cow_fault_ns"].value
    key_ns = default_profile().later["rdb_key_ns"].value
    assert after["rdb_key_ns"].value == 2 * key_ns
    byte_ps = 1e12 / before["rdb_save_bytes_per_s"].value - key_ns
    assert 1e12 / after["rdb_save_bytes_per_s"].value == pytest.approx(1.4 * byte_ps + 2 * key_ns)
    assert after["fsync_ns"] == before["fsync_ns"]
    assert Drift().on(profile).later["fork_ns"] == before["fork_ns"]
