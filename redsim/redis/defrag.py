"""Active defragmentation: does it run, how hard, how long does a scan hold the loop, and how much does it give back.

Mirrors defrag.c:computeDefragCycles and activeDefragCycle of 7.0: once a second it looks at the allocator's pages; it starts when
they exceed what is allocated by active-defrag-threshold-lower percent and active-defrag-ignore-bytes, takes between cycle-min and
cycle-max of the CPU, never less during a scan, and scans again at once while it is above the threshold. The clock is looked at
after 17 buckets, 513 moves or 65 keys; each database takes a run of serverCron, empty or not. It needs jemalloc's hint which
blocks to move, so Redis' own jemalloc: the build of a distribution refuses `activedefrag yes`.

    a block moves unless its slab is full by now: of u = 1 - holes in use, those in (1 - u) / (1 - u + u f) of the slabs when
    a share f was looked at, as every slab drains alike and one after the other is filled up with what they lose

Differs: every key costs the mean; keys are all in database 0. jemalloc does not move blocks of slabs 12.5 % fuller than the mean:
11 to 23 % fewer moves in measured scans, and these left 6 to 10 % of the holes, none here [lab-defrag]. Versions after 7.4 are
taken to do as 7.0 does.
Not modelled: keys of more than active-defrag-max-scan-fields elements, which are scanned in parts; a key costs the same whatever
it holds. Blocks of the server's own, which are not moved. The small-bin figure of 7.4.
"""

from collections.abc import Callable
from dataclasses import dataclass

from redsim.host.malloc import Allocator
from redsim.scenario.profile import HostProfile
from redsim.scenario.redis_conf import RedisConf
from redsim.units import MIB, MS

__all__ = ["ActiveDefrag", "DefragPolicy", "Fragments", "defrag_cycle_percent", "defrag_returns_bytes"]

_KEYS_A_LOOK, _BUCKETS_A_LOOK, _MOVES_A_LOOK = 65, 17, 513  # defrag.c: "more than" 64, 16, 512 between two looks at the clock


@dataclass(frozen=True, slots=True)
class DefragPolicy:
    """The active-defrag-* directives, with redis.conf's defaults (7.0)."""

    threshold_lower_percent: int = 10
    threshold_upper_percent: int = 100
    ignore_bytes: int = 100 * MIB
    cycle_min_percent: int = 1
    cycle_max_percent: int = 25

    @classmethod
    def of(cls, conf: RedisConf) -> "DefragPolicy":
        """As a redis.conf says."""
        names = ("threshold-lower", "threshold-upper", "ignore-bytes", "cycle-min", "cycle-max")
        return cls(*(int(conf.get(f"active-defrag-{name}")) for name in names))


@dataclass(frozen=True, slots=True)
class Fragments:
    """What a scan would find.

    state    allocated_bytes, active_bytes   as INFO memory has them
             keys, buckets                   of the keyspace
             blocks                          of keys and values, dictEntries among them
             holes_share                     of the room in their slabs, what is not in use
    """

    allocated_bytes: int
    active_bytes: int
    keys: int
    buckets: int
    blocks: float
    holes_share: float


def defrag_cycle_percent(allocated_bytes: int, active_bytes: int, policy: DefragPolicy | None = None) -> int:
    """CPU percent that a scan starting now would take; 0 when none starts."""
    p = policy or DefragPolicy()
    excess = active_bytes - allocated_bytes
    percent = 100 * excess / allocated_bytes
    if percent < p.threshold_lower_percent or excess < p.ignore_bytes:
        return 0
    width = p.threshold_upper_percent - p.threshold_lower_percent
    if width == 0:
        return p.cycle_max_percent
    more = (percent - p.threshold_lower_percent) * (p.cycle_max_percent - p.cycle_min_percent) / width
    wanted = int(p.cycle_min_percent + more)
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


class ActiveDefrag:
    """activeDefragCycle from one run of serverCron to the next; `look` tells what there is to move.

    state    running_percent       CPU percent of the scan under way, 0: none (active_defrag_running)
             scanned_share         of the keyspace that this scan has looked at
             passes                times that it was looked at from end to end
             hits, misses          blocks moved and not moved; those of the main dict's entries are hits of nobody
             key_hits, key_misses  keys with a block that moved, and without
             spent_ns              of the loop
    """

    def __init__(self, conf: RedisConf, profile: HostProfile, cause: int, look: Callable[[], Fragments]) -> None:
        self.policy, self.cause, self.look = DefragPolicy.of(conf), cause, look
        self.key_ns, self.move_ns = profile.costs["defrag_key_ns"].value, profile.costs["defrag_move_ns"].value
        self.databases = int(conf.get("databases"))
        self.running_percent = self.passes = self.hits = self.misses = self.key_hits = self.key_misses = self.spent_ns = 0
        self.scanned_share = 0.0
        self._database = 0
        self._running_since_ns: int | None = None
        self._ended_ns = 0  # of the scans that are over, from start to end
        self._found = Fragments(0, 0, 0, 0, 0.0, 0.0)

    def cycle(self, now_ns: int, hz: int, is_a_second: bool) -> int:
        """ns that this run of serverCron, of `hz` per second, works for it; `is_a_second`: the pages are looked at."""
        if is_a_second:
            self._compute_cycles()
        if not self.running_percent:
            return 0
        limit_us = max(10**6 * self.running_percent // hz // 100, 1)
        ns = self._step(limit_us * 1000)
        self.spent_ns += ns
        self._count_time(now_ns + ns)
        return ns

    def time_ms(self, now_ns: int) -> tuple[int, int]:
        """(total_active_defrag_time, current_active_defrag_time) of INFO: while scans were under way, idle moments included."""
        current_ns = now_ns - self._running_since_ns if self._running_since_ns is not None else 0
        return (self._ended_ns + current_ns) // MS, current_ns // MS

    def _compute_cycles(self) -> None:
        found = self.look()
        wanted = defrag_cycle_percent(found.allocated_bytes, found.active_bytes, self.policy)
        if wanted and not self.running_percent:
            self._found = found
        self.running_percent = max(self.running_percent, wanted)

    def _step(self, limit_ns: int) -> int:
        if 0 < self._database < self.databases:  # an empty one
            self._database += 1
            return 0
        if self._database == self.databases:
            self._database = self.running_percent = 0
            self._compute_cycles()
        return self._scan(limit_ns) if self.running_percent else 0

    def _scan(self, limit_ns: int) -> int:
        """Whole looks at the clock until the slice is over, or what is left of the keyspace."""
        found = self._found
        left = (1 - self.scanned_share) * found.keys
        moving_share = self._moving_share()
        moves = found.blocks * moving_share / max(found.keys, 1)
        each_ns = self.key_ns + moves * self.move_ns
        look = min(_KEYS_A_LOOK, _BUCKETS_A_LOOK * max(found.keys / max(found.buckets, 1), 1 / _BUCKETS_A_LOOK))
        if moves:
            look = min(look, _MOVES_A_LOOK / moves)
        looks = limit_ns // (look * each_ns) + 1 if each_ns else left
        keys = min(looks * look, left)
        self._count(keys, moving_share)
        if keys >= left:
            self.passes += 1
            self.scanned_share, self._database = 0.0, 1
        else:
            self.scanned_share += keys / found.keys
        return round(keys * each_ns)

    def _moving_share(self) -> float:
        """Of the blocks looked at now, those whose slab nothing was moved to yet."""
        holes = self._found.holes_share
        return holes / (holes + (1 - holes) * self.scanned_share) if holes else 0.0

    def _count(self, keys: float, moving_share: float) -> None:
        """Hits and misses of `keys` keys: entries are moved bucket by bucket and not counted (defragDictBucketCallback)."""
        found = self._found
        tries = max(found.blocks / max(found.keys, 1) - 1, 0.0)
        moved = round(keys * tries * moving_share)
        touched = round(keys * (1 - (1 - moving_share) ** tries))
        self.hits += moved
        self.misses += round(keys * (tries + 1) * (1 - moving_share))
        self.key_hits += touched
        self.key_misses += round(keys) - touched

    def _count_time(self, now_ns: int) -> None:
        if self.running_percent and self._running_since_ns is None:
            self._running_since_ns = now_ns
        elif not self.running_percent and self._running_since_ns is not None:
            self._ended_ns += now_ns - self._running_since_ns
            self._running_since_ns = None
