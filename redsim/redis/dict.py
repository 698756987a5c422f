"""A hash, set or sorted set's hash table: how many slots it has, also while it moves from one table to the next.

Mirrors dict.c:_dictExpandIfNeeded, dictExpand, dictRehash, dictResize and dictShrinkIfNeeded (6.2.16 to 7.4.1, Valkey 8.0.1):
powers of two from 4 on, doubled by the insertion that finds as many elements as slots; then every insertion, look-up and
deletion moves one bucket that is not empty, and until the last one has moved both tables are there. From 7.4 on a deletion moves
the bucket it looks into where that has not moved yet. An element of a 7.2 set that came into an empty bucket hangs there without
an entry; one that shares it has an entry, and keeps it when the others go, until it moves.

    add: step if rehashing -> grow if used == slots -> into the newer table

Differs: buckets are drawn by SipHash under a random seed, so how many are empty is luck; here every step goes as far as the mean
step, and a rehash ends when less than half an element is left. The true end scatters by as many steps as the number of occupied
buckets does, 0.31 sqrt(slots) at load 1; where that leaves open whether the old table is still there, `scatter` tells.
Deletions are taken to begin with the oldest elements. While a table grows, those that have moved count as if they lay anywhere in
the new one: of a Valkey 8.0 set, whose MEMORY USAGE tells such entries, that was up to 4 % too few (3,000 elements in 8.0.1).
Not modelled: a fork child's presence, which postpones growth.
"""

from dataclasses import dataclass, replace
from math import erf, exp, inf, sqrt

from redsim.redis.config import Rules

__all__ = ["Dict", "table_slots"]

DICT_HT_INITIAL_SIZE = 4  # dict.h
EMPTY_VISITS_MAX = 10  # dictRehash: ten times the buckets asked for
SIGMAS_MAX = 4.0
ODDS_MIN = 1e-3  # below, a table is there or not
POINTER_BYTES = 8
ENTRY_BYTES = 24  # sizeof(dictEntry): key, value, next
ENTRY_NO_VALUE_BYTES = 16  # sets of 7.2 on: key, next


def table_slots(count: int) -> int:
    """_dictNextExp: the power of two for `count` elements."""
    return max(DICT_HT_INITIAL_SIZE, 1 << (count - 1).bit_length()) if count > 0 else DICT_HT_INITIAL_SIZE


def _occupied_buckets(slots: float, count: float) -> float:
    """Buckets that are not empty, on average, with `count` keys thrown into `slots`."""
    return slots * (1.0 - (1.0 - 1.0 / slots) ** count) if slots > 1.0 else min(slots, count)


def _occupied_variance(slots: float, count: float) -> float:
    """Of the same number, as of empty urns [kolchin-1978]."""
    load = count / slots if slots > 0.0 else 0.0
    return slots * exp(-load) * (1.0 - (1.0 + load) * exp(-load))


@dataclass(slots=True)
class Dict:
    """The tables: `slots[0]`, and while a rehash runs `slots[1]` (else 0). `used` counts the elements of both."""

    rules: Rules
    slots: list[int]
    used: int = 0
    _left: float = 0.0  # elements still in the old table
    _before: int = 0  # elements that were there when the rehash began, and still are
    _index: float = 0.0  # its first bucket that may hold some (rehashidx)
    _source: int = 0  # slots of the table that is or was last moved from
    _sigma: float = 0.0  # scatter of that rehash's end, in steps
    _since: float = inf  # steps since it ended
    _moved: int = 0  # the oldest elements, which came with a rehash, and how many of them have an entry
    _moved_entries: float = 0.0
    _came_at: int = 0  # elements there were when the oldest of the others came
    _lonely: float = 0.0  # elements with an entry that share their bucket no longer

    @classmethod
    def empty(cls, rules: Rules, expand_to: int | None = None) -> "Dict":
        """dictCreate, and dictExpand(expand_to) where the type presizes it."""
        return cls(rules, [0 if expand_to is None else table_slots(expand_to), 0])

    @property
    def is_rehashing(self) -> bool:
        return self.slots[1] > 0

    @property
    def slots_count(self) -> int:
        """dictSlots, dictBuckets."""
        return sum(self.slots)

    def step(self, share: float = 1.0) -> None:
        """_dictRehashStep: on to the next bucket that is not empty, or past ten empty ones; what it holds moves."""
        if not self.is_rehashing:
            self._since += share
            return
        if self._left >= 0.5:
            rest = self.slots[0] - self._index
            empty = (1.0 - 1.0 / rest) ** self._left if rest > 1.0 else 0.0
            visited = share * (1.0 - empty**EMPTY_VISITS_MAX) / (1.0 - empty)
            self._move(self._left * visited / rest)
            self._index += visited
        self._end_if_moved()

    def _move(self, elements: float) -> None:
        """So many of the old table's elements go to the new one."""
        self._lonely -= self._lonely * elements / self._left
        self._left -= elements

    def _end_if_moved(self) -> None:
        if self.is_rehashing and self._left < 0.5:
            self.slots, self._left, self._before, self._lonely = [self.slots[1], 0], 0.0, 0, 0.0
            self._since, self._moved, self._came_at = 0.0, self.used, self.used
            self._moved_entries = self.entries()[0]

    def occupied(self) -> tuple[float, float]:
        """(mean, variance) of the buckets that are not empty, of both tables."""
        rest = self.slots[0] - self._index
        parts = (
            [(rest, self._left), (self.slots[1], self.used - self._left)] if self.is_rehashing else [(self.slots[0], self.used)]
        )
        mean = sum(_occupied_buckets(buckets, count) for buckets, count in parts)
        return mean, sum(_occupied_variance(buckets, count) for buckets, count in parts)

    def entries(self) -> tuple[float, float]:
        """(mean, variance) of the elements of a set that have a dictEntry, where those alone in a bucket need none (7.2 on)."""
        occupied, variance = self.occupied()
        mean = self.used - occupied + self._lonely
        return mean, variance + self._lonely * (1.0 - self._lonely / self.used if self.used else 0.0)

    def scatter(self) -> float:
        """Standard deviation of the slots there are: of the old table's, as its rehash may end on the other side of now."""
        if not self._sigma or (not self.is_rehashing and self._since > SIGMAS_MAX * self._sigma + 1):
            return 0.0
        beyond, ahead = -self._since - 0.5, replace(self, slots=list(self.slots))
        if self.is_rehashing:
            beyond = 0.5
            while beyond < SIGMAS_MAX * self._sigma + 1:
                ahead.step()
                if not ahead.is_rehashing:
                    break
                beyond += 1.0
        is_there = 0.5 + 0.5 * erf(beyond / self._sigma / sqrt(2.0))
        odds = min(is_there, 1.0 - is_there)
        return self._source * sqrt(odds * (1.0 - odds)) if odds > ODDS_MIN else 0.0

    def add(self, *, lookups: int = 0) -> None:
        """dictFind `lookups` times, then dictAdd, of an element that is not there."""
        for _ in range(lookups):
            self.step()
        self.seek_place()
        self.used += 1

    def seek_place(self) -> None:
        """dictAddRaw up to where it has looked whether the element is there: a full table grows though it may be."""
        self.step()
        if not self.is_rehashing and self.used >= self.slots[0]:
            self._move_to(table_slots(self.used + 1))

    def add_many(self, count: int, *, lookups: int = 0) -> None:
        """`count` times add()."""
        while count > 0:
            if not self.is_rehashing and self.used < self.slots[0]:
                free = min(count, self.slots[0] - self.used)
                self.used += free
                self._since += free * (1 + lookups)
                count -= free
            else:
                self.add(lookups=lookups)
                count -= 1

    def expand(self, count: int) -> None:
        """dictExpand: a table for `count`, at once if this one is empty; refused while rehashing or where it would not fit."""
        wanted = table_slots(count)
        too_small = wanted <= self.slots[0] if self.rules.has_kvstore else wanted == self.slots[0]
        if not self.is_rehashing and self.used <= count and not too_small:
            self._move_to(wanted)

    def delete(self, *, may_shrink: bool = True) -> None:
        """dictDelete of an element that is there; 7.4 and Valkey 8.0 look by themselves whether to shrink, unless paused."""
        if self.rules.has_kvstore and self._before:
            unmoved = self._left / self._before
            rest = self.slots[0] - self._index
            own_bucket = min(self._left, 1.0 + max(self._left - 1.0, 0.0) / rest)
            self._move(unmoved * own_bucket)
            self.step(1.0 - unmoved)
        else:
            self.step()
            if self._before:
                self._left -= self._left / self._before
        self._before = max(self._before - 1, 0)
        entries = self.entries()[0] - self._oldest_entry()
        self.used -= 1
        self._lonely += max(entries, 0.0) - self.entries()[0]
        if may_shrink and self.rules.has_kvstore:
            self.shrink_if_needed()

    def _oldest_entry(self) -> float:
        """The chance that the oldest element has an entry; it is about to go. The first to come find more buckets empty."""
        if self.is_rehashing:
            return self.entries()[0] / self.used
        if self._moved:
            chance = self._moved_entries / self._moved
            self._moved, self._moved_entries = self._moved - 1, self._moved_entries - chance
            return chance
        self._came_at += 1
        return 1.0 - (1.0 - 1.0 / self.slots[0]) ** (self._came_at - 1)

    def shrink_if_needed(self) -> None:
        """htNeedsResize and dictResize: under 10 %, from 7.4 on at 12.5 % or under, to the power of two that still holds all."""
        slots = self.slots[0]
        if self.is_rehashing or slots <= DICT_HT_INITIAL_SIZE:
            return
        is_sparse = self.used * 8 <= slots if self.rules.has_kvstore else self.used * 100 // slots < 10
        wanted = table_slots(self.used)
        if is_sparse and wanted < slots:
            self._move_to(wanted)

    def _move_to(self, slots: int) -> None:
        """_dictExpand, _dictResize: a first table, or a second one to move to."""
        if not self.slots[0] or (not self.used and self.rules.has_kvstore):
            self.slots[0] = slots
            return
        self._left, self._before, self._index = float(self.used), self.used, 0.0
        self._source, self._sigma = self.slots[0], sqrt(_occupied_variance(self.slots[0], self.used))
        self.slots[1] = slots
