"""What fork(2) costs a host, what a page costs that is written afterwards, when the host refuses, and whom it kills.

Mirrors Linux: copy_page_range (the page tables of what is mapped are copied, 8 bytes a page of 4 KiB), do_wp_page (a page written
while it is shared is copied, one that nobody shares any more is only made writable), vm.overcommit_memory, oom_badness.

    fork = a fixed part + ns per MiB of RSS            4 KiB pages: 2 MiB of page tables per GiB;  huge pages: 512 times fewer
    a write to a shared page   4 KiB: cow_fault_ns     huge, before Linux 5.8: all 2 MiB of it;  since: the huge page is split
                                                       at the first write to it, then 4 KiB as any other

What a fork costs stands under `later` of a host profile (a calibration measures it); what a profile lacks is `default`'s.
Differs: ns per MiB is one number up to any size, as published tables have it [redis-big-data]. async_fork is a what-if after
[async-fork-2022]: the fork copies the upper levels of the page tables only, and whoever writes first to a stretch of 2 MiB that
the child has not copied yet copies that stretch's.
Not modelled: swap, NUMA, memory of other processes, soft limits of a cgroup.
"""

from dataclasses import dataclass
from typing import Literal

from redsim.scenario.linux import Linux
from redsim.scenario.profile import HostProfile, default_profile
from redsim.units import KIB, MIB

__all__ = ["ForkCosts", "fork_costs", "fork_ns", "page_tables_bytes", "refusal", "victim"]

PAGE_BYTES, HUGE_BYTES = 4 * KIB, 2 * MIB
ENTRY_BYTES = 8  # of a page table, for each page
SPLIT_SINCE = (5, 8)  # Linux: a write to a shared huge page splits it and copies 4 KiB; before it copies all
GUESSES_SIZE_SINCE = (5, 2)  # Linux: the heuristic overcommit refuses only what is larger than all memory
SPARES_PARENT_BEFORE = (5, 1)  # Linux: the OOM killer took a child in the place of its parent
COMMIT_SHARE = 0.5  # vm.overcommit_ratio, of the memory, with overcommit_memory 2
_NAMES = (
    "fork_ns", "fork_ns_per_mib", "huge_fork_ns_per_mib", "cow_fault_ns", "reuse_fault_ns", "huge_copy_ns", "huge_split_ns",
    "child_own_bytes", "rdb_key_ns", "rdb_byte_ps", "lzf_byte_ps",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ForkCosts:
    """A host's figures, ns unless the name says otherwise.

    state    fork_ns, per_mib_ns     of fork(2): fixed, and per MiB of RSS
             page_shift              log2 of the bytes that a write copies
             fault_ns, reuse_ns      a page written while it is shared, and when only its write protection is left
             region_ns               the first write to a stretch of 2 MiB besides, 0: nothing
             region_copied_ns        for how long after the fork that is so, per MiB; 0: for good
             child_own_bytes         private memory of a child that nobody writes to
             key_ns, byte_ps, lzf_ps of writing an RDB file: per key, per byte written, per byte that LZF tries
             guesses                 (name, value, says) of those that are guesses
    """

    fork_ns: int
    per_mib_ns: int
    page_shift: int
    fault_ns: int
    reuse_ns: int
    region_ns: int
    region_copied_ns: int
    child_own_bytes: int
    key_ns: int
    byte_ps: int
    lzf_ps: int
    guesses: tuple[tuple[str, int, str], ...] = ()


def fork_costs(profile: HostProfile, host: Linux, has_huge_pages: bool) -> ForkCosts:
    """The figures of a scenario's host. `has_huge_pages`: transparent huge pages are on, and Redis has not turned them off."""
    base = default_profile().later
    given = {name: profile.later.get(name) or base[name] for name in _NAMES}
    n = {name: round(number.value or 0) for name, number in given.items()}
    saved = profile.later.get("rdb_save_bytes_per_s")
    if saved is not None and saved.value and "rdb_byte_ps" not in profile.later:  # of a calibration: strings of 1000 bytes
        n["rdb_byte_ps"] = max(round(1e12 / saved.value) - n["rdb_key_ns"], 0)
    is_split = has_huge_pages and linux_of(host) >= SPLIT_SINCE
    copies_huge = has_huge_pages and not is_split
    per_mib = n["huge_fork_ns_per_mib"] if has_huge_pages else n["fork_ns_per_mib"]
    region_ns, region_copied_ns = (n["huge_split_ns"], 0) if is_split else (0, 0)
    if host.async_fork:
        region_ns, region_copied_ns, per_mib = 2 * per_mib, per_mib, per_mib // (HUGE_BYTES // PAGE_BYTES)
    return ForkCosts(
        n["fork_ns"], per_mib, (HUGE_BYTES if copies_huge else PAGE_BYTES).bit_length() - 1,
        n["huge_copy_ns"] if copies_huge else n["cow_fault_ns"], n["reuse_fault_ns"], region_ns, region_copied_ns,
        n["child_own_bytes"], n["rdb_key_ns"], n["rdb_byte_ps"], n["lzf_byte_ps"],
        tuple((f"later.{name}", n[name], number.says) for name, number in given.items() if number.source == "guess"),
    )  # fmt: skip


def linux_of(host: Linux) -> tuple[int, int]:
    """(5, 8) of `linux: "5.8"`."""
    major, minor = host.linux.split(".")[:2]
    return int(major), int(minor)


def fork_ns(costs: ForkCosts, rss_bytes: int) -> int:
    """How long fork(2) takes with so much resident."""
    return costs.fork_ns + rss_bytes * costs.per_mib_ns // MIB


def page_tables_bytes(rss_bytes: int, has_huge_pages: bool = False) -> int:
    """VmPTE: 8 bytes a page, its upper levels a 512th of that and so on.

    >>> page_tables_bytes(24 * 1024**3) // 2**20
    48
    """
    return rss_bytes // (HUGE_BYTES if has_huge_pages else PAGE_BYTES) * ENTRY_BYTES


def refusal(host: Linux, memory_bytes: int, rss_bytes: int, other_bytes: int) -> bool:
    """Whether fork(2) fails (ENOMEM): vm.overcommit_memory 0 guesses (since 5.2 it refuses what is larger than all memory,
    before what is larger than what is free), 1 never, 2 what could not all be written. `other_bytes`: dirty page cache."""
    if host.overcommit_memory == 1:
        return False
    if host.overcommit_memory == 2:
        return 2 * rss_bytes > COMMIT_SHARE * memory_bytes
    if linux_of(host) >= GUESSES_SIZE_SINCE:
        return rss_bytes > memory_bytes
    return 2 * rss_bytes + other_bytes > memory_bytes


def victim(host: Linux, oom_score_adj: str) -> Literal["parent", "child"]:
    """Whom the OOM killer takes of a server and its child: the larger one, the server, unless Redis has raised the child's score
    (oom-score-adj), or the kernel is so old that a child goes in the place of its parent."""
    is_raised = oom_score_adj in ("yes", "relative", "absolute")
    return "child" if is_raised or linux_of(host) < SPARES_PARENT_BEFORE else "parent"
