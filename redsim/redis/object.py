"""Values and what MEMORY USAGE says of them.

Mirrors object.c:objectComputeSize and memoryCommand, server.h (redisObject, zset, zskiplist, zskiplistNode), db.c:dbAdd and, for
Valkey 8.0, dict.c:createEntryEmbedded (6.2.16, 7.0.15, 7.2.6, 7.4.1, 8.0-m01, Valkey 8.0.1). `encoding` is what OBJECT ENCODING
says:

    int               int                             intset      Intset
    embstr, raw       Sds                             hashtable   HashTable
    listpack          Listpack: elements; field,      skiplist    SkipList
    ziplist           Ziplist   value; member, score  stream      t_stream.Stream
    quicklist         Quicklist

Differs: the heights of a skiplist's nodes and the order of a hash table are random; where the answer depends on them it is the
mean, and `spread_bytes` is its standard deviation. Not modelled: modules; cluster mode's 16 bytes per key.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from redsim.redis import t_stream
from redsim.redis.config import Rules
from redsim.redis.dict import ENTRY_BYTES, ENTRY_NO_VALUE_BYTES, POINTER_BYTES, Dict
from redsim.redis.quicklist import Quicklist
from redsim.redis.sds import header_bytes, usable_bytes

__all__ = ["HashTable", "RedisObject", "SkipList", "memory_usage", "object_size", "spread_bytes", "tables_spread_bytes"]

ROBJ_BYTES = 16  # server.h: redisObject
QUICKLIST_BYTES = 40
QUICKLIST_LZF_BYTES = 8  # quicklistLZF.sz, before the bytes
ZSET_BYTES = 16
ZSKIPLIST_BYTES = 32
ZSKIPLIST_NODE_BYTES = 24  # member, score, backward; 16 for each level come on top
ZSKIPLIST_LEVEL_BYTES = 16
ZSKIPLIST_LEVELS_MAX = 32  # server.h: ZSKIPLIST_MAXLEVEL
ZSKIPLIST_P = 0.25
ENTRY_EMBEDDED_BYTES = 17  # Valkey 8.0: value, next, size of the key's header
ALL = 0  # SAMPLES 0


@dataclass(slots=True)
class HashTable:
    """A hash's fields and values, or a set's members (to None), in the order they came, and the tables they hang in."""

    table: Dict
    elements: dict[bytes, bytes | None]


@dataclass(slots=True)
class SkipList:
    """A sorted set: score by member, and the tables; `ranked()` is what a walk along the list meets."""

    table: Dict
    scores: dict[bytes, float]

    def ranked(self) -> list[tuple[bytes, float]]:
        """(member, score) by score, then by bytes."""
        return sorted(self.scores.items(), key=lambda pair: (pair[1], pair[0]))


@dataclass(slots=True)
class RedisObject:
    """One value. `type` as TYPE says it, `encoding` as OBJECT ENCODING does."""

    type: str
    encoding: str
    value: Any


# ---- MEMORY USAGE ------------------------------------------------------------------------------------------------------------


def memory_usage(key: bytes, obj: RedisObject, rules: Rules, samples: int = 5) -> int:
    """MEMORY USAGE key SAMPLES samples; 0 looks at every element."""
    return key_bytes(len(key), rules) + object_size(obj, rules, samples)


def key_bytes(length: int, rules: Rules) -> int:
    """What MEMORY USAGE adds for a key of `length` bytes: its string and 24 for a dictEntry that takes more or less than that."""
    if rules.is_valkey:  # a copy of the argument's string, which is never sdshdr5, inside the entry
        header = max(3, header_bytes(length, rules))
        return rules.allocator.usable(ENTRY_EMBEDDED_BYTES + header + length + 1)
    return usable_bytes(length, rules) + ENTRY_BYTES


def object_size(obj: RedisObject, rules: Rules, samples: int = 5) -> int:
    """objectComputeSize."""
    return _SIZES[obj.encoding](obj.value, rules, samples)


def _extrapolated(fixed_bytes: int, sample_bytes: float, sampled: int, count: int) -> int:
    """`asize += (double)elesize/samples*count`: in double, cut off, so that a byte may be missing."""
    return int(fixed_bytes + sample_bytes / sampled * count) if sampled else fixed_bytes


def _int_size(_value: int, _rules: Rules, _samples: int) -> int:
    return ROBJ_BYTES


def _raw_size(value: Any, _rules: Rules, _samples: int) -> int:
    return ROBJ_BYTES + int(value.block_bytes)


def _embstr_size(value: Any, rules: Rules, _samples: int) -> int:
    """One allocation of robj, sdshdr8, text and NUL; 6.2 has its own formula."""
    if not rules.since("7.0"):
        return len(value.text) + 2 + ROBJ_BYTES
    return rules.allocator.usable(ROBJ_BYTES + 3 + len(value.text) + 1)


def _block_size(value: Any, rules: Rules, _samples: int) -> int:
    """Listpacks, ziplists and intsets: their block, in 6.2 their bytes."""
    return ROBJ_BYTES + _block_bytes(value.size_bytes, rules)


def _block_bytes(size_bytes: int, rules: Rules) -> int:
    return rules.allocator.usable(size_bytes) if rules.since("7.0") else size_bytes


def _quicklist_size(value: Quicklist, rules: Rules, samples: int) -> int:
    """The first nodes, times how many there are; 6.2 reads a compressed node's first bytes, its LZF size, as a ziplist's."""
    taken = len(value.nodes) if samples == ALL else min(samples, len(value.nodes))
    total = taken * rules.quicklist_node_bytes
    for at, node in enumerate(value.nodes[:taken]):
        packed = len(node.compressed()) if value.is_compressed(at) else 0
        if packed:
            total += rules.allocator.usable(QUICKLIST_LZF_BYTES + packed) if rules.since("7.0") else packed
        else:
            total += _block_bytes(node.size_bytes, rules)
    return _extrapolated(ROBJ_BYTES + QUICKLIST_BYTES, total, taken, len(value.nodes))


def _element_sizes(value: HashTable, rules: Rules) -> list[float]:
    """objectComputeSize's elesize of each element of a hash table."""
    entry: float = ENTRY_BYTES
    is_set = next(iter(value.elements.values()), None) is None
    if is_set and rules.is_valkey:  # the first of a bucket hangs in it without an entry
        entry = ENTRY_NO_VALUE_BYTES * value.table.entries()[0] / value.table.used
    if is_set:
        return [entry + usable_bytes(len(member), rules) for member in value.elements]
    field_size = hfield_bytes if rules.since("7.4") else usable_bytes
    return [
        entry + field_size(len(field), rules) + usable_bytes(len(text or b""), rules) for field, text in value.elements.items()
    ]


def hfield_bytes(length: int, rules: Rules) -> int:
    """mstr.c:mstrNew (7.4): an sds whose header has no room for growth."""
    header = 1 if length < 1 << 5 else 3 if length < 1 << 16 else 9
    return rules.allocator.usable(header + length + 1)


def _hashtable_size(value: HashTable, rules: Rules, samples: int) -> int:
    """The mean element, as often as there are elements: exact where all are of one size, or SAMPLES covers all."""
    sizes = _element_sizes(value, rules)
    fixed = ROBJ_BYTES + rules.dict_bytes + POINTER_BYTES * value.table.slots_count
    taken = len(sizes) if samples == ALL else min(samples, len(sizes))
    return _extrapolated(fixed, sum(sizes) / len(sizes) * taken if taken < len(sizes) else sum(sizes), taken, len(sizes))


def level_shares() -> Sequence[float]:
    """t_zset.c:zslRandomLevel: the share of nodes with 1, 2, ... levels."""
    shares = [ZSKIPLIST_P**level * (1 - ZSKIPLIST_P) for level in range(ZSKIPLIST_LEVELS_MAX - 1)]
    return [*shares, ZSKIPLIST_P ** (ZSKIPLIST_LEVELS_MAX - 1)]


def node_moments(rules: Rules) -> tuple[float, float]:
    """(mean, variance) of a skiplist node's block in bytes."""
    blocks = [rules.allocator.usable(ZSKIPLIST_NODE_BYTES + ZSKIPLIST_LEVEL_BYTES * (1 + n)) for n in range(ZSKIPLIST_LEVELS_MAX)]
    mean = sum(share * block for share, block in zip(level_shares(), blocks, strict=True))
    return mean, sum(share * (block - mean) ** 2 for share, block in zip(level_shares(), blocks, strict=True))


def _skiplist_size(value: SkipList, rules: Rules, samples: int) -> int:
    """The lowest scores' members, with nodes of mean height."""
    members = list(value.scores) if samples == ALL else [member for member, _ in value.ranked()[:samples]]
    total = sum(usable_bytes(len(member), rules) for member in members) + len(members) * (ENTRY_BYTES + node_moments(rules)[0])
    header = rules.allocator.usable(ZSKIPLIST_NODE_BYTES + ZSKIPLIST_LEVEL_BYTES * ZSKIPLIST_LEVELS_MAX)
    fixed = ROBJ_BYTES + ZSET_BYTES + ZSKIPLIST_BYTES + rules.dict_bytes + POINTER_BYTES * value.table.slots_count + header
    return _extrapolated(fixed, total, len(members), len(value.scores))


def _stream_size(value: t_stream.Stream, rules: Rules, samples: int) -> int:
    return t_stream.memory_usage(value, rules.allocator, rules.conf.version, samples=samples)


_SIZES: dict[str, Callable[[Any, Rules, int], int]] = {
    "int": _int_size,
    "embstr": _embstr_size,
    "raw": _raw_size,
    "listpack": _block_size,
    "ziplist": _block_size,
    "intset": _block_size,
    "quicklist": _quicklist_size,
    "hashtable": _hashtable_size,
    "skiplist": _skiplist_size,
    "stream": _stream_size,
}


def spread_bytes(obj: RedisObject, rules: Rules, samples: int = 5) -> float:
    """Standard deviation of MEMORY USAGE from one server to the next: 0 where it follows from the value alone.

    A skiplist's node heights, and which elements of a hash table come first. A rehash that may or may not be over is not in it,
    but in tables_spread_bytes().
    """
    if obj.encoding == "skiplist":
        count = len(obj.value.scores)
        taken = count if samples == ALL else min(samples, count)
        return sqrt(node_moments(rules)[1] / taken) * count if taken else 0.0
    if obj.encoding == "hashtable":
        return sqrt(_sampling_variance(obj.value, rules, samples) + _entries_variance(obj.value, rules, samples))
    return 0.0


def tables_spread_bytes(obj: RedisObject) -> float:
    """The same of the tables alone: 0 unless luck decides whether the old one is still there; then the answer is the likelier."""
    return POINTER_BYTES * obj.value.table.scatter() if isinstance(obj.value, (HashTable, SkipList)) else 0.0


def _sampling_variance(value: HashTable, rules: Rules, samples: int) -> float:
    """Of the mean of `samples` elements, as often as there are elements."""
    sizes = _element_sizes(value, rules)
    count, mean = len(sizes), sum(sizes) / len(sizes)
    if samples == ALL or count <= samples:
        return 0.0
    variance = sum((size - mean) ** 2 for size in sizes) / count
    return count**2 * variance / samples * (count - samples) / (count - 1)


def _entries_variance(value: HashTable, rules: Rules, samples: int) -> float:
    """Of the entries of a Valkey set, which only elements that share their bucket have: of all, or of those looked at."""
    if not (rules.is_valkey and next(iter(value.elements.values()), None) is None):
        return 0.0
    count, (mean, variance) = value.table.used, value.table.entries()
    if samples != ALL and count > samples:
        variance += count**2 * (mean / count) * (1.0 - mean / count) / samples * (count - samples) / (count - 1)
    return ENTRY_NO_VALUE_BYTES**2 * variance
