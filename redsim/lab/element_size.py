"""How long the values of a key are, from what MEMORY USAGE says of it: the law of redsim.redis.object, turned round.

Differs: all elements are taken to be as long as each other, numbers to be text, and the server to be a 7.0 with its own jemalloc.
Of more than ELEMENTS_MAX elements so many are looked at, with their share of the memory.
Not modelled: streams.
"""

from redsim.redis.config import Rules, rules
from redsim.redis.object import RedisObject, memory_usage
from redsim.redis.t_hash import hset
from redsim.redis.t_list import push
from redsim.redis.t_set import sadd
from redsim.redis.t_string import set_command
from redsim.redis.t_zset import zadd
from redsim.run.rdb_datasets import FIELD_BYTES

__all__ = ["value_bytes_of"]

ELEMENTS_MAX = 1_000


def value_bytes_of(kind: str, key_bytes: int, elements: int, memory_bytes: int) -> int:
    """Bytes of a string, or of each of `elements` elements (a hash's value, a sorted set's member), 1 at least: the most that do
    not take more than `memory_bytes` by MEMORY USAGE SAMPLES 0 with a key of `key_bytes`."""
    ruled, count = rules(), min(max(elements, 1), ELEMENTS_MAX)
    have_bytes = memory_bytes * count // max(elements, 1)
    low, high = 1, max(have_bytes // count, 1) + 1
    while high - low > 1:
        middle = (low + high) // 2
        if memory_usage(bytes(key_bytes), _uniform(kind, count, middle, ruled), ruled, samples=0) <= have_bytes:
            low = middle
        else:
            high = middle
    return low


def _uniform(kind: str, count: int, value_bytes: int, ruled: Rules) -> RedisObject:
    """A value whose elements are all `value_bytes` long, as far as so many different ones can be."""
    members = [f"m{i:x}".encode().ljust(value_bytes, b"_")[: max(value_bytes, 4)] for i in range(count)]
    if kind == "string":
        return set_command(b"x" * value_bytes, ruled)
    if kind == "list":
        return push(None, members, ruled, at_head=False)
    if kind == "set":
        return sadd(None, members, ruled)
    if kind == "zset":
        return zadd(None, [(member, float(i)) for i, member in enumerate(members)], ruled)
    return hset(None, [(f"{i:0{FIELD_BYTES}x}".encode(), b"x" * value_bytes) for i in range(count)], ruled)
