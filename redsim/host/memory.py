"""Pages behind an allocator: what a census of blocks keeps active, what its bookkeeping costs, what deletes give back and when.

Mirrors jemalloc 5.2/5.3: sc.c:slab_size (small classes live in slabs, the fewest whole pages that regions fill exactly), edata_s
(128 bytes for each slab and large extent), rtree.h (8 bytes for each page), arena.c and decay.c (a freed page is dirty for up to
ten seconds along a smootherstep, then returned); glibc's heap, where nothing in the middle is ever returned.

    blocks  {usable size: how many}     ->  slabs and extents  ->  active pages  ->  resident = active + bookkeeping + dirty
    delete a share f at random: a slab of s regions is empty with probability f^s, and only then are its pages free
    delete in the order of loading: slabs empty one after the other

Differs: slabs are full when loaded in order (the last one of each class apart); the decay is the curve itself, while jemalloc's
background thread follows it in steps of about a second. Not modelled: cache-oblivious padding, thread caches, huge pages (THP).
"""

from collections.abc import Mapping
from math import ceil

from redsim.host.malloc import Allocator
from redsim.units import KIB, MIB, S

__all__ = [
    "PAGE_BYTES", "Blocks", "active_after_random_deletes", "active_bytes", "bookkeeping_bytes", "dirty_bytes",
    "merge", "slab_bytes", "times", "touched_bytes", "used_bytes",
]  # fmt: skip

Blocks = Mapping[int, float]  # usable bytes of a block -> how many of them; a mean need not be whole

PAGE_BYTES = 4 * KIB
SMALL_MAX_BYTES = 14 * KIB  # jemalloc SC_SMALL_MAXCLASS with 4 KiB pages
EXTENT_BYTES = 128  # sizeof(edata_t)
RTREE_BYTES_PER_PAGE = 8  # rtree_leaf_elm_t, compact
DIRTY_DECAY_NS = 10 * S  # opt.dirty_decay_ms
OVERSIZE_BYTES = 8 * MIB  # opt.oversize_threshold: from here on an extent of its own arena, returned at once
_LIBC_HEADER_BYTES = 8


def used_bytes(blocks: Blocks) -> int:
    """What the blocks add to used_memory."""
    return round(sum(size * count for size, count in blocks.items()))


def merge(*parts: Blocks) -> dict[int, float]:
    """One census of several."""
    total: dict[int, float] = {}
    for part in parts:
        for size, count in part.items():
            total[size] = total.get(size, 0) + count
    return total


def times(blocks: Blocks, count: int) -> dict[int, float]:
    """The census of `count` such things; a mean becomes a whole number of blocks."""
    return {size: round(each * count) for size, each in blocks.items()} if count else {}


def slab_bytes(size_bytes: int) -> int:
    """Pages that blocks of one size come from, in bytes: a slab of the small classes, else the block's own pages.

    >>> slab_bytes(16), slab_bytes(48), slab_bytes(1024), slab_bytes(1280), slab_bytes(20480)
    (4096, 12288, 4096, 20480, 20480)
    """
    if size_bytes > SMALL_MAX_BYTES:
        return ceil(size_bytes / PAGE_BYTES) * PAGE_BYTES
    slab = PAGE_BYTES
    while slab % size_bytes:
        slab += PAGE_BYTES
    return slab


def _slabs(size_bytes: int, count: float) -> int:
    regions = max(slab_bytes(size_bytes) // size_bytes, 1)
    return ceil(count / regions)


def active_bytes(blocks: Blocks, allocator: Allocator) -> int:
    """Bytes of pages with at least one live block, of blocks that were allocated in order and none of them freed."""
    if allocator.name == "libc":
        return round(sum((size + _LIBC_HEADER_BYTES) * count for size, count in blocks.items()))
    return sum(_slabs(size, count) * slab_bytes(size) for size, count in blocks.items())


def active_after_random_deletes(blocks: Blocks, deleted_share: float, allocator: Allocator, scanned_share: float = 0.0) -> int:
    """Bytes of active pages when that share of each size's blocks, drawn at random, has been freed.

    A slab of s regions is empty with probability deleted_share ** s. The heap of glibc returns nothing but its blocks of 128 KiB
    and more. Defragmentation that has come upon `scanned_share` of the rest, in no order, moves them into the holes of other
    slabs: one with k blocks left is empty when it has come upon all of them, with probability scanned_share ** k.
    """
    assert 0 <= deleted_share <= 1, "a share is 0 to 1"
    if allocator.name == "libc":
        return active_bytes(blocks, allocator)
    left = 0.0
    for size, count in blocks.items():
        regions = max(slab_bytes(size) // size, 1)
        slabs = _slabs(size, count) * (1 - deleted_share**regions)
        kept = count * (1 - deleted_share)
        if scanned_share and kept:
            slabs -= max(slabs - _slabs(size, kept), 0.0) * scanned_share ** (kept / slabs)
        left += slabs * slab_bytes(size)
    return round(left)


def bookkeeping_bytes(blocks: Blocks, allocator: Allocator) -> int:
    """What jemalloc keeps about slabs, extents and their pages; it never shrinks, so give the census at its peak."""
    if allocator.name == "libc":
        return 0
    extents = sum(_slabs(size, count) for size, count in blocks.items())
    return extents * EXTENT_BYTES + active_bytes(blocks, allocator) // PAGE_BYTES * RTREE_BYTES_PER_PAGE


def dirty_bytes(freed_bytes: int, elapsed_ns: int, allocator: Allocator) -> int:
    """Bytes still resident of pages freed together, `elapsed_ns` ago: the complement of a smootherstep over ten seconds.

    Give `freed_bytes` by extent: one of 8 MiB and more goes back at once (jemalloc's arena for oversize extents).
    """
    if allocator.name == "libc" or freed_bytes >= OVERSIZE_BYTES or elapsed_ns >= DIRTY_DECAY_NS:
        return 0
    x = max(elapsed_ns, 0) / DIRTY_DECAY_NS
    return round(freed_bytes * (1 - x**3 * (x * (6 * x - 15) + 10)))


def touched_bytes(size_bytes: int, in_order_bytes: int, at_random: int) -> int:
    """Resident bytes of a fresh zeroed block: its first `in_order_bytes` and the pages that `at_random` scattered writes hit."""
    pages = ceil(size_bytes / PAGE_BYTES)
    filled = min(ceil(in_order_bytes / PAGE_BYTES), pages)
    rest = pages - filled
    hit = rest * (1 - (1 - 1 / pages) ** at_random) if pages else 0
    return round((filled + hit) * PAGE_BYTES)
