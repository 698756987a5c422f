"""Keys looked at one by one, put together as the shape of a data set: a table of sizes for each type.

Mirrors what TYPE, STRLEN, HLEN, MEMORY USAGE and OBJECT ENCODING answer. Differs: the size of one element of an aggregate is
what is left of MEMORY USAGE after its container (guesses by encoding, OVERHEAD_BYTES), since reading elements would read
somebody's data. Not modelled: streams and module types, counted only; which keys expire first.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from redsim.lab.observed import Shape
from redsim.lab.popularity import fit_lfu
from redsim.run.rdb_datasets import FIELD_BYTES
from redsim.workload.tables import table_of

KEY_OVERHEAD_BYTES = 100  # guess: dictEntry, robj, the container's header, what the allocator rounds up
TTLS = (0.05, 0.95)  # what the spread of the TTLs is told by
ELEMENTS_GUESS = 10  # guess: of an aggregate whose elements nobody counted
OVERHEAD_BYTES = {  # guesses: bytes of one element's bookkeeping, by encoding; a pair (hash, zset) has two entries
    "listpack": 3, "ziplist": 3, "quicklist": 3, "linkedlist": 40, "intset": 0, "hashtable": 48, "skiplist": 90,
}  # fmt: skip


@dataclass
class _Type:
    key_bytes: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    ttl_ms: list[int] = field(default_factory=list)
    encodings: Counter[str] = field(default_factory=Counter)
    lfu: list[int] = field(default_factory=list)


@dataclass
class Sampled:
    """Keys seen so far, by type; sizes only."""

    count: int = 0
    types: dict[str, _Type] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    lfu_log_factor: int | None = None  # the policy is LFU, and this its lfu-log-factor

    def add(self, kind: str, key_bytes: int, length: Any, memory: Any, encoding: str, ttl_ms: Any, lfu: Any = None) -> None:
        """One key; `length` bytes of a string, elements of others; None where the server did not say."""
        if length == 0 and kind != "string":
            return  # it went between SCAN and here
        self.count += 1
        one = self.types.setdefault(kind, _Type())
        one.key_bytes.append(key_bytes)
        if encoding:
            one.encodings[encoding] += 1
        if isinstance(length, int):
            one.lengths.append(length)
            if kind == "string":
                one.values.append(length)
            elif isinstance(memory, int):
                one.values.append(element_bytes(kind, key_bytes, length, memory, encoding))
        if isinstance(ttl_ms, int) and ttl_ms >= 0:
            one.ttl_ms.append(ttl_ms)
        if isinstance(lfu, int):
            one.lfu.append(lfu)

    def add_other(self, kind: str) -> None:
        """A key of a type redsim does not model."""
        self.count += 1
        self.others[kind] += 1

    def add_unknown(self, keys: int) -> None:
        """Keys whose type the server would not tell."""
        self.count += keys
        self.others["of a type that could not be asked"] += keys


def element_bytes(kind: str, key_bytes: int, length: int, memory: int, encoding: str) -> int:
    """Bytes of one element, out of MEMORY USAGE; 1 at least."""
    pairs = 2 if kind in ("hash", "zset") and encoding in ("listpack", "ziplist") else 1
    left = (memory - key_bytes - KEY_OVERHEAD_BYTES) / max(length, 1) - OVERHEAD_BYTES.get(encoding, 16) * pairs
    return max(1, round(left) - (FIELD_BYTES if kind in ("hash", "zset") else 0))


def shapes_of(sampled: Sampled, keys: int) -> list[Shape]:
    """A Shape for each type sampled, its keys in proportion to the sample; the commonest type first."""
    out = []
    for kind, one in sorted(sampled.types.items(), key=lambda item: -len(item[1].key_bytes)):
        seen = len(one.key_bytes)
        whole = sampled.count >= keys
        shape = Shape(kind, seen if whole else max(1, round(keys * seen / sampled.count)), seen)
        shape.key_bytes = table_of(np.array(one.key_bytes))
        shape.value_bytes = table_of(np.array(one.values)) if one.values else []
        shape.elements = table_of(np.array(one.lengths)) if kind != "string" and one.lengths else []
        shape.with_ttl = len(one.ttl_ms)
        if one.ttl_ms:
            shape.ttl_ms = int(np.median(one.ttl_ms))
            low, high = np.quantile(one.ttl_ms, TTLS)
            shape.ttls_ms = (max(int(low), 1), max(int(high), 1))
        shape.encodings = dict(one.encodings.most_common())
        shape.biggest = max(one.lengths, default=None)
        if one.lfu and sampled.lfu_log_factor is not None:
            shape.lfu = fit_lfu(np.array(one.lfu), sampled.lfu_log_factor, shape.keys)
        shape.said = f"all {seen} keys looked at" if whole else f"{seen} of about {shape.keys} keys sampled by SCAN"
        out.append(shape)
    for kind, seen in sampled.others.items():
        about = seen if sampled.count >= keys else round(keys * seen / sampled.count)
        out.append(Shape(kind, about, seen, said="not modelled; left out of the data set"))
    return out
