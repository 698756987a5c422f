"""allocator_allocated, allocator_active, allocator_resident and used_memory_rss of a server, from its used_memory and its blocks.

Mirrors zmalloc.c:zmalloc_get_allocator_info and zmalloc_get_rss as server.c:cronUpdateMemoryStats samples them every 100 ms, and
what stands behind them in jemalloc (host/memory.py). With glibc's malloc Redis knows no such figures: it shows used_memory as
allocated and RSS, less the Lua engine, as active and resident.

    allocated = used_memory + what is allocated past zmalloc (Lua, libc)
    active    = pages with a live block       resident = active + bookkeeping + pages freed but not returned yet
    rss       = resident + binary, libraries, stacks

Differs: INFO shows figures up to 100 ms old; here they are of now. The part outside the allocator is a constant of the build; in
truth it grows by up to 0.7 MB with the code that a workload touches.
Not modelled: huge pages, swap, the copy-on-write pages of a child.
"""

from dataclasses import dataclass

from redsim.host.memory import Blocks, active_bytes, bookkeeping_bytes, dirty_bytes, used_bytes
from redsim.redis.config import Rules
from redsim.redis.dict import POINTER_BYTES, table_slots
from redsim.units import KIB

__all__ = ["Pages", "build_outside", "old_tables_dirty_bytes", "pages"]

_REUSED_EXTENT_BYTES = 64 * 4 * KIB  # jemalloc opt.lg_extent_max_active_fit 6: no slab is cut from a larger free extent
_REHASHED_BY_INSERTS = (
    1 + 0.316
)  # a table is empty after (1 - 1/e) / 2 of its size in inserts: two steps each, 63 % of buckets in use


@dataclass(frozen=True, slots=True)
class Outside:
    """What a build holds beside used_memory.

    state    allocated_bytes     through the allocator but past zmalloc: Lua, libc, the allocator's own thread caches
             partial_bytes       free room in the slabs of everything that is not data
             bookkeeping_bytes   the allocator's own before any data
             process_bytes       binary, libraries, stacks
             source              `measured`, or `guess` for a build nobody measured
    """

    allocated_bytes: int
    partial_bytes: int
    bookkeeping_bytes: int
    process_bytes: int
    source: str


_OUTSIDE = {
    ("7.0", "jemalloc-debian"): Outside(462_300, 325_000, 2_404_352, 8_050_000, "measured"),
    ("6.2", "jemalloc"): Outside(207_912, 167_976, 2_363_392, 1_343_488, "measured"),
    ("7.0", "jemalloc"): Outside(225_624, 189_440, 2_576_384, 2_150_400, "measured"),
    ("7.2", "jemalloc"): Outside(305_744, 118_624, 2_662_400, 2_048_000, "measured"),
    ("7.4", "jemalloc"): Outside(789_040, 189_856, 2_838_528, 1_609_728, "measured"),
    ("valkey-8.0", "jemalloc"): Outside(399_864, 106_624, 2_666_496, 2_068_480, "measured"),
}
_GUESS = Outside(305_744, 118_624, 2_662_400, 2_048_000, "guess")
_LIBC = Outside(300_000, 0, 0, 2_048_000, "guess")


@dataclass(frozen=True, slots=True)
class Pages:
    """The four figures of INFO memory, in bytes."""

    allocated_bytes: int
    active_bytes: int
    resident_bytes: int
    rss_bytes: int


def build_outside(rules: Rules) -> Outside:
    """The build's own share of RSS, and whether anybody measured it [lab-server-memory]."""
    name = rules.allocator.name
    return _OUTSIDE.get((rules.conf.version, name), _LIBC if name == "libc" else _GUESS)


def pages(
    used_memory_bytes: int,
    blocks: Blocks,
    rules: Rules,
    *,
    peak_blocks: Blocks | None = None,
    blocks_active_bytes: int | None = None,
    dirty: int = 0,
    untouched: int = 0,
) -> Pages:
    """Allocated, active and resident bytes of a server whose data are `blocks`; the rest of used_memory is small and dense.

    peak_blocks          the census at its largest, of which the bookkeeping stays; `blocks` if there were no deletes
    blocks_active_bytes  active pages of the data after deletes (memory.active_after_random_deletes); in order if not given
    dirty                bytes of pages freed and not returned yet (memory.dirty_bytes)
    untouched            bytes of fresh tables no bucket of which was written yet: active, but not in RSS
    """
    build, malloc = build_outside(rules), rules.allocator
    rest = used_memory_bytes - used_bytes(blocks)
    assert rest >= 0, "the data are part of used_memory"
    allocated = used_memory_bytes + build.allocated_bytes
    data_active = active_bytes(blocks, malloc) if blocks_active_bytes is None else blocks_active_bytes
    active = data_active + rest + build.allocated_bytes + build.partial_bytes
    resident = active + build.bookkeeping_bytes + bookkeeping_bytes(peak_blocks or blocks, malloc) + dirty
    rss = resident - untouched + build.process_bytes
    if malloc.name == "libc":
        return Pages(used_memory_bytes, rss, rss, rss)
    return Pages(allocated, active, resident, rss)


def old_tables_dirty_bytes(keys: int, loading_ns: int, since_ns: int, rules: Rules) -> int:
    """Pages of the outgrown tables of a dict that are still resident `since_ns` after loading `keys` evenly over `loading_ns`.

    Small ones were cut up for slabs, those of 8 MiB and more went back at once; the ones between wait for their decay.
    """
    dirty, slots = 0, table_slots(1)
    while slots < table_slots(keys):
        size_bytes, freed_at = slots * POINTER_BYTES, slots * _REHASHED_BY_INSERTS / keys
        if size_bytes > _REUSED_EXTENT_BYTES:
            elapsed_ns = round(max(1 - freed_at, 0) * loading_ns) + since_ns
            dirty += dirty_bytes(size_bytes, elapsed_ns, rules.allocator)
        slots *= 2
    return dirty
