"""What an aggregate of n elements takes, tabulated for a data set: such values are built and their blocks added up.

Mirrors t_hash.c, t_set.c, t_zset.c through redsim/redis: the key grows through its conversions as HSET, SADD and ZADD of one
element at a time let it. Lists, whose bytes are steps, have a law of their own (list_sizes.py).
Differs: beyond BUILT elements each further one takes what the last thousands took, and tables what their sizes say; elements are
all of the data set's mean length, fields of hashes 6 bytes, as the commands here send them.
"""

from functools import lru_cache

import numpy as np

from redsim.dataplane.layout import I64
from redsim.dataplane.memory import DENSE, DENSE_BITS, OCTAVES
from redsim.redis.config import Rules
from redsim.redis.dict import POINTER_BYTES, table_slots
from redsim.redis.object import RedisObject
from redsim.redis.t_hash import hset
from redsim.redis.t_set import sadd
from redsim.redis.t_zset import zadd
from redsim.redis.value_blocks import value_blocks
from redsim.run.list_sizes import list_law, list_sizes

BUILT_BITS = 12
BUILT = 1 << BUILT_BITS
EXACT_BITS = 7  # up to so many elements each number is built
FIELD_BYTES = 6
SMALL = ("listpack", "ziplist")


@lru_cache(maxsize=64)
def size_table(kind: str, element_bytes: int, rules: Rules) -> I64:
    """Bytes of a `kind` of n elements of so many bytes, as dataplane/memory.py:elements_bytes reads them: for each n up to DENSE,
    then for each octave its first number of elements' and what one more takes, in 1024ths; of a list its law. Read only."""
    if kind == "list":
        return np.array(list_sizes(element_bytes, rules) + list_law(element_bytes, rules), dtype=np.int64)
    known = _built(kind, element_bytes, rules)
    for k in range(EXACT_BITS, DENSE_BITS):
        known.setdefault((1 << k) + 1, _octave(k, known, rules)[0])
    dense = np.interp(np.arange(DENSE + 1), sorted(known), [known[n] for n in sorted(known)])
    octaves = [_octave(k, known, rules) for k in range(DENSE_BITS, DENSE_BITS + OCTAVES)]
    rest = [round(word) for first, each in octaves for word in (first, 1024 * each)]
    return np.concatenate([np.rint(dense).astype(np.int64), np.array(rest, dtype=np.int64)])


def listpack_max(kind: str, element_bytes: int, rules: Rules) -> int:
    """Elements up to which a hash or sorted set is one listpack (ziplist); 0 for other types and for longer elements."""
    limits = {
        "hash": (rules.hash_max_entries, rules.hash_max_value_bytes),
        "zset": (rules.zset_max_entries, rules.zset_max_value_bytes),
    }
    entries, value_bytes = limits.get(kind, (0, 0))
    return entries if element_bytes <= value_bytes else 0


def _built(kind: str, element_bytes: int, rules: Rules) -> dict[int, float]:
    """{n: bytes} of values that were built: every n while the encoding is a small one, then the middle and the end of each
    octave, when no table is being rehashed."""
    sizes: dict[int, float] = {0: 0}
    obj: RedisObject | None = None
    for n in range(1, BUILT + 1):
        obj = _with_one_more(kind, obj, n, element_bytes, rules)
        octave = 1 << (n - 1).bit_length()
        if n <= 1 << EXACT_BITS or obj.encoding in SMALL or n in (octave, 3 * octave // 4):
            sizes[n] = sum(size * count for size, count in value_blocks(obj, rules).items())
    return sizes


def _octave(k: int, known: dict[int, float], rules: Rules) -> tuple[float, float]:
    """(bytes at 2**k + 1 elements, bytes for each one more up to 2**(k + 1)): as built, or as the last octave built goes on."""
    built_k = min(k, BUILT_BITS - 1)
    end, start = 2 << built_k, 3 << built_k >> 1
    each = (known[end] - known[start]) / (end - start)
    size = known[end] + each * ((1 << k) + 1 - end)
    return size + _table_bytes(2 << k, rules) - _table_bytes(end, rules), each


def _with_one_more(kind: str, obj: RedisObject | None, n: int, element_bytes: int, rules: Rules) -> RedisObject:
    """Element number n added, by a command of its own."""
    text = _text(n, element_bytes)
    if kind == "hash":
        return hset(obj, [(_text(n, FIELD_BYTES), text)], rules)
    if kind == "set":
        return sadd(obj, [text], rules)
    return zadd(obj, [(text, float(n))], rules)


def _text(n: int, length: int) -> bytes:
    """An element that is no number, of `length` bytes or as many as it takes to be another one than the others."""
    return f"m{n:x}".ljust(length, "_").encode()


def _table_bytes(n: int, rules: Rules) -> int:
    return rules.allocator.usable(POINTER_BYTES * table_slots(n))
