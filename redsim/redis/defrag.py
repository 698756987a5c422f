"""Active defragmentation as a question of bytes: does it run, how hard, and how much does it give back.

Mirrors defrag.c:computeDefragCycles of 7.0: it starts when the allocator's pages exceed what is allocated by
active-defrag-threshold-lower percent and active-defrag-ignore-bytes, takes between cycle-min and cycle-max of the CPU, and scans
again until it is below the threshold. It needs jemalloc's hint which blocks to move, so Redis' own jemalloc: the build of a
distribution refuses `activedefrag yes`.
Differs: bounds instead of the moves themselves: at least down to the threshold, at most to slabs without gaps.
Not modelled: the time of a scan, its effect on latency, blocks that cannot be moved; the small-bin figure of 7.4.
"""

from dataclasses import dataclass

from redsim.host.malloc import Allocator
from redsim.units import MIB

__all__ = ["DefragPolicy", "defrag_cycle_percent", "defrag_returns_bytes"]


@dataclass(frozen=True, slots=True)
class DefragPolicy:
    """The active-defrag-* directives, with redis.conf's defaults (7.0)."""

    threshold_lower_percent: int = 10
    threshold_upper_percent: int = 100
    ignore_bytes: int = 100 * MIB
    cycle_min_percent: int = 1
    cycle_max_percent: int = 25


def defrag_cycle_percent(allocated_bytes: int, active_bytes: int, policy: DefragPolicy | None = None) -> int:
    """CPU percent that a scan starting now would take; 0 when none starts."""
    p = policy or DefragPolicy()
    excess = active_bytes - allocated_bytes
    percent = 100 * excess / allocated_bytes
    if percent < p.threshold_lower_percent or excess < p.ignore_bytes:
        return 0
    slope = (p.cycle_max_percent - p.cycle_min_percent) / (p.threshold_upper_percent - p.threshold_lower_percent)
    wanted = int(p.cycle_min_percent + (percent - p.threshold_lower_percent) * slope)
    return max(p.cycle_min_percent, min(wanted, p.cycle_max_percent))


def defrag_returns_bytes(
    allocated_bytes: int, active_bytes: int, dense_bytes: int, allocator: Allocator, policy: DefragPolicy | None = None
) -> tuple[int, int]:
    """Bytes of active pages that activedefrag gives back: (at least, at most).

    `dense_bytes` is what the same blocks need without gaps. Nothing where no scan starts, and nothing with an allocator that
    cannot tell which blocks to move.
    """
    p = policy or DefragPolicy()
    if allocator.name != "jemalloc" or defrag_cycle_percent(allocated_bytes, active_bytes, p) == 0:
        return 0, 0
    quiet_bytes = max(allocated_bytes * (100 + p.threshold_lower_percent) // 100, allocated_bytes + p.ignore_bytes)
    most = max(active_bytes - dense_bytes, 0)
    return min(max(active_bytes - quiet_bytes, 0), most), most
