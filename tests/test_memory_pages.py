"""Pages behind a server's memory: slabs, RSS of loaded servers, what deletes and activedefrag give back, and when."""

from typing import Any

import pytest
from recorded_loads import DEBIAN, SETTLING_NS, named, predicted_pages, recorded

from redsim.host.memory import (
    active_after_random_deletes,
    active_bytes,
    dirty_bytes,
    merge,
    slab_bytes,
    touched_bytes,
)
from redsim.redis.config import rules
from redsim.redis.defrag import DefragPolicy, defrag_cycle_percent, defrag_returns_bytes
from redsim.redis.dict import table_slots
from redsim.redis.memory_overhead import (
    dataset_memory,
    numbered_keys,
)
from redsim.redis.t_string import set_command
from redsim.redis.value_blocks import value_blocks
from redsim.redis.zmalloc import Pages, pages
from redsim.units import MIB, S

# ---- pages ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", recorded()["loads"], ids=named)
def test_rss_of_a_loaded_server_is_within_five_percent(row: dict[str, Any]) -> None:
    """The 27 loads; the bar is issue 4's. Active pages of a server seconds old hold up to 0.3 MB that later goes."""
    model = predicted_pages(row, SETTLING_NS)
    assert abs(model.rss_bytes / row["settled"]["used_memory_rss"] - 1) < 0.05
    assert abs(model.active_bytes / row["settled"]["allocator_active"] - 1) < (0.02 if row["n"] >= 100_000 else 0.12)


@pytest.mark.parametrize("case", recorded()["deletes"]["cases"], ids=lambda c: f"{c['order']}-{c['vsize']}-{c['share']}")
def test_pages_after_deletes_follow_from_the_slabs_that_became_empty(case: dict[str, Any]) -> None:
    """jemalloc: a slab of s regions goes when all of them went, f**s of them at random, one after the other in order."""
    model, row = pages_after_deletes(case), dict(zip(recorded()["deletes"]["columns"], case["rows"][-2], strict=True))
    assert abs(model.active_bytes / row["allocator_active"] - 1) < (0.005 if case["order"] == "random" else 0.05)
    assert abs(model.rss_bytes / row["used_memory_rss"] - 1) < 0.05


def pages_after_deletes(case: dict[str, Any]) -> Pages:
    """The model of a recorded case fifteen seconds after its deletes: the table shrank if it fell under a tenth."""
    start, left, used = case["rows"][0][2], case["rows"][-2][2], case["rows"][-2][3]
    value = value_blocks(set_command(b"x" * case["vsize"], DEBIAN), DEBIAN)
    before, after = dataset_memory(numbered_keys(4, start), value, DEBIAN), dataset_memory({10: left}, value, DEBIAN)
    tables = after.tables if left * 10 < table_slots(start) else before.tables
    objects = merge(before.entries, before.values)
    if case["order"] == "random":
        active = active_after_random_deletes(objects, 1 - left / start, DEBIAN.allocator)
    else:
        active = active_bytes(merge(after.entries, after.values), DEBIAN.allocator)
    blocks = merge(after.entries, after.values, tables)
    active += active_bytes(tables, DEBIAN.allocator)
    return pages(used, blocks, DEBIAN, peak_blocks=before.blocks, blocks_active_bytes=active)


def test_freed_pages_leave_rss_along_a_smootherstep_of_ten_seconds() -> None:
    """jemalloc decay.c, held against the recorded RSS after 95 % of the keys were deleted in order: between the curve of two
    seconds later and that of a second before."""
    case = next(c for c in recorded()["deletes"]["cases"] if (c["order"], c["share"]) == ("sequential", 0.95))
    series = [(row[1], row[4]) for row in case["rows"][1:-1]]
    freed = series[0][1] - series[-1][1]
    allocator = DEBIAN.allocator
    for seconds, rss in series:
        early, late = (dirty_bytes(freed // 8, int((seconds + lag) * S), allocator) * 8 for lag in (-1, 2))
        assert late - MIB <= rss - series[-1][1] <= early + MIB, f"{seconds} s after the deletes"
    assert dirty_bytes(8 * MIB, 0, allocator) == 0, "an oversize extent goes back at once"


def test_slabs_are_the_fewest_pages_that_regions_fill_exactly() -> None:
    """jemalloc sc.c:slab_size; the figures are bin_infos of jemalloc's malloc_stats."""
    assert {size: slab_bytes(size) // 4096 for size in (8, 48, 80, 112, 320, 1280, 1792, 14336)} == {
        8: 1, 48: 3, 80: 5, 112: 7, 320: 5, 1280: 5, 1792: 7, 14336: 7,
    }  # fmt: skip
    assert slab_bytes(20_480) == 20_480


def test_a_fresh_table_is_resident_where_buckets_were_written() -> None:
    """Linux gives a zeroed page when it is written first; 2^20 buckets are 2048 pages."""
    assert touched_bytes(8 << 20, 0, 0) == 0
    assert touched_bytes(8 << 20, 4 << 20, 0) == 4 << 20
    assert touched_bytes(8 << 20, 8 << 20, 1000) == 8 << 20
    assert touched_bytes(8 << 20, 0, 2048) == pytest.approx((8 << 20) * (1 - 1 / 2.718281828), rel=0.001)


def test_glibc_keeps_what_was_deleted_and_redis_shows_rss_as_active() -> None:
    """zmalloc.c without jemalloc: no allocator figures of its own."""
    libc = rules("7.0", "libc")
    blocks = {24: 1000, 120: 1000}
    assert (
        active_after_random_deletes(blocks, 0.9, libc.allocator) == active_bytes(blocks, libc.allocator) == 32 * 1000 + 128 * 1000
    )
    model = pages(2 * MIB, blocks, libc)
    assert (model.allocated_bytes, model.active_bytes) == (2 * MIB, model.rss_bytes)


# ---- activedefrag -----------------------------------------------------------------------------------------------------------


def test_activedefrag_starts_at_ten_percent_and_a_hundred_mebibytes() -> None:
    """defrag.c:computeDefragCycles of 7.0 with the defaults."""
    assert defrag_cycle_percent(1000 * MIB, 1099 * MIB) == 0
    assert defrag_cycle_percent(1000 * MIB, 1100 * MIB) == 1
    assert defrag_cycle_percent(100 * MIB, 199 * MIB) == 0, "less than active-defrag-ignore-bytes"
    assert defrag_cycle_percent(1000 * MIB, 1550 * MIB) == 13
    assert defrag_cycle_percent(1000 * MIB, 3000 * MIB) == 25


def test_activedefrag_gives_back_down_to_its_threshold_and_only_with_redis_own_jemalloc() -> None:
    """defrag.c: scans repeat until below the threshold; a distribution's jemalloc has no hint to move by."""
    own, system = rules("7.0").allocator, DEBIAN.allocator
    assert defrag_returns_bytes(1000 * MIB, 1500 * MIB, 1010 * MIB, own) == (400 * MIB, 490 * MIB)
    assert defrag_returns_bytes(1000 * MIB, 1500 * MIB, 1010 * MIB, system) == (0, 0)
    eager = DefragPolicy(threshold_lower_percent=5, ignore_bytes=MIB)
    assert defrag_returns_bytes(100 * MIB, 120 * MIB, 101 * MIB, own, eager) == (15 * MIB, 19 * MIB)
