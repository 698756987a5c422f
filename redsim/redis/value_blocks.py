"""The blocks behind one value: what its objects, nodes, tables and elements asked the allocator for.

Mirrors object.c:createObject, t_zset.c:zslCreateNode, dict.c:dictAddRaw and quicklist.c:quicklistCreateNode of 6.2 to 7.4 and
Valkey 8.0. A file of its own because Redis nowhere adds this up: MEMORY USAGE counts dictEntries and some structs by sizeof()
instead of by block, so that used_memory grows by more than it says where 24, 40 or 56 is no size class.
Differs: a skiplist's heights are random, the counts here are their means. A stream is one block of its whole size. Not modelled:
integers of 0 to 9999 that are shared; here they have an object of their own.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from redsim.redis import t_stream
from redsim.redis.config import Rules
from redsim.redis.dict import ENTRY_BYTES, ENTRY_NO_VALUE_BYTES, POINTER_BYTES, Dict
from redsim.redis.object import (
    QUICKLIST_BYTES,
    QUICKLIST_LZF_BYTES,
    ROBJ_BYTES,
    ZSET_BYTES,
    ZSKIPLIST_BYTES,
    ZSKIPLIST_LEVEL_BYTES,
    ZSKIPLIST_LEVELS_MAX,
    ZSKIPLIST_NODE_BYTES,
    HashTable,
    RedisObject,
    SkipList,
    hfield_bytes,
    level_shares,
)
from redsim.redis.quicklist import Quicklist
from redsim.redis.sds import Sds, usable_bytes

__all__ = ["value_blocks"]

Census = Counter[int]


def value_blocks(obj: RedisObject, rules: Rules) -> dict[int, float]:
    """{usable bytes: how many} of all that DEL would free but the key; means where luck decides.

    >>> from redsim.redis.config import rules
    >>> from redsim.redis.t_string import set_command
    >>> debian = rules("7.0", "jemalloc-debian")
    >>> value_blocks(set_command(b"x" * 100, debian), debian)
    {16: 1, 112: 1}
    """
    return dict(_BLOCKS[obj.encoding](obj.value, rules))


def _robj_and(*more_bytes: int) -> Census:
    return Counter([ROBJ_BYTES, *more_bytes])


def _int(_value: int, _rules: Rules) -> Census:
    return _robj_and()


def _embstr(value: Sds, rules: Rules) -> Census:
    return Counter([rules.allocator.usable(ROBJ_BYTES + 3 + len(value.text) + 1)])


def _raw(value: Sds, _rules: Rules) -> Census:
    return _robj_and(value.block_bytes)


def _small(value: Any, rules: Rules) -> Census:
    return _robj_and(rules.allocator.usable(value.size_bytes))


def _quicklist(value: Quicklist, rules: Rules) -> Census:
    usable = rules.allocator.usable
    census = _robj_and(usable(QUICKLIST_BYTES))
    for at, node in enumerate(value.nodes):
        packed = len(node.compressed()) if value.is_compressed(at) else 0
        census[usable(rules.quicklist_node_bytes)] += 1
        census[usable(QUICKLIST_LZF_BYTES + packed if packed else node.size_bytes)] += 1
    return census


def _tables(table: Dict, rules: Rules) -> Census:
    blocks = [rules.allocator.usable(POINTER_BYTES * slots) for slots in table.slots if slots]
    return Counter([rules.allocator.usable(rules.dict_bytes), *blocks])


def _hashtable(value: HashTable, rules: Rules) -> Census:
    census, count = _robj_and() + _tables(value.table, rules), len(value.elements)
    is_set = next(iter(value.elements.values()), None) is None
    if is_set and rules.since("7.2"):  # the first of a bucket hangs in it without an entry
        census[rules.allocator.usable(ENTRY_NO_VALUE_BYTES)] += value.table.entries()[0]  # type: ignore[assignment]
    else:
        census[rules.allocator.usable(ENTRY_BYTES)] += count
    field_size = hfield_bytes if not is_set and rules.since("7.4") else usable_bytes
    for field, text in value.elements.items():
        census[field_size(len(field), rules)] += 1
        if text is not None:
            census[usable_bytes(len(text), rules)] += 1
    return census


def _skiplist(value: SkipList, rules: Rules) -> Census:
    usable, count = rules.allocator.usable, len(value.scores)
    header = ZSKIPLIST_NODE_BYTES + ZSKIPLIST_LEVEL_BYTES * ZSKIPLIST_LEVELS_MAX
    census = _robj_and(usable(ZSET_BYTES), usable(ZSKIPLIST_BYTES), usable(header)) + _tables(value.table, rules)
    census[usable(ENTRY_BYTES)] += count
    for member in value.scores:
        census[usable_bytes(len(member), rules)] += 1
    for levels, share in enumerate(level_shares(), start=1):
        census[usable(ZSKIPLIST_NODE_BYTES + ZSKIPLIST_LEVEL_BYTES * levels)] += share * count  # type: ignore[assignment]
    return census


def _stream(value: t_stream.Stream, rules: Rules) -> Census:
    rest_bytes = t_stream.allocated_bytes(value, rules.allocator, rules.conf.version) - ROBJ_BYTES
    return _robj_and(rest_bytes)


_BLOCKS: dict[str, Callable[[Any, Rules], Census]] = {
    "int": _int, "embstr": _embstr, "raw": _raw, "listpack": _small, "ziplist": _small, "intset": _small,
    "quicklist": _quicklist, "hashtable": _hashtable, "skiplist": _skiplist, "stream": _stream,
}  # fmt: skip
