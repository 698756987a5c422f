"""Values and what MEMORY USAGE and OBJECT ENCODING say about them.

Mirrors object.c:objectComputeSize and memoryCommand, server.h (robj) of 6.2.16, 7.0.15, 7.2.6, 7.4.1, 8.0-m01 and Valkey 8.0.1.

    RedisObject.encoding    RedisObject.value
    int                     int
    embstr, raw             Sds
    listpack, ziplist       Listpack, Ziplist: elements; field, value, ...; or member, score, ...
    intset                  Intset
    quicklist               Quicklist of QuicklistNode
    hashtable               HashTable: Dict and the elements (set: to None)
    skiplist                SkipList: Dict and members by score
    stream                  t_stream.Stream

Differs: skiplist heights are random and so is the order of a hash table; where the answer depends on that, it is the mean, and
`spread_bytes` tells its standard deviation. Not modelled: modules, cluster mode's 16 bytes per key.
"""

from dataclasses import dataclass
from typing import Any

from redsim.redis.dict import Dict

__all__ = ["HashTable", "RedisObject", "SkipList"]

ROBJ_BYTES = 16  # server.h: redisObject


@dataclass(slots=True)
class HashTable:
    """A hash's fields and values, or a set's members (to None), in the order they came, and the tables they hang in."""

    dict: Dict
    elements: dict[bytes, bytes | None]


@dataclass(slots=True)
class SkipList:
    """A sorted set: score by member, and the tables; `ranked()` is what a walk along the list meets."""

    dict: Dict
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
