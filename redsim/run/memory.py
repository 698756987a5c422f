"""What the data plane needs to keep used_memory: size classes, the bytes of keys and aggregates, the laws of the version.

Mirrors zmalloc.c, sds.c:sdsReqType, dict.c (dictEntry of 24 bytes; Valkey 8.0 embeds the key in it), server.c
(HASHTABLE_MIN_FILL) by version.
Differs: a distribution of key lengths counts with the mean of its size classes, one of element lengths with its mean length.
"""

import numpy as np

from redsim.dataplane import layout as dp
from redsim.dataplane.dict import bits_for
from redsim.dataplane.events import NEVER
from redsim.dataplane.memory import DENSE, DENSE_BITS, OCTAVES, recount
from redsim.host.malloc import Allocator
from redsim.redis.client_memory import PROTO_REPLY_CHUNK_BYTES, ClientBuffers, connection_bytes
from redsim.redis.config import Rules
from redsim.redis.memory_overhead import startup_bytes
from redsim.scenario.redis_conf import RedisConf
from redsim.scenario.schema import Dataset, Size
from redsim.workload.tables import Tables, quantile_at

DICT_ENTRY_BYTES = 24  # dict.c: key, value, next
QUANTILES = 256
OLD_TABLES = ("6.2", "7.0", "7.2")  # dict.c before 7.4: shrinks below 10 % and by serverCron only


def memory_costs(cost: dp.I64, conf: RedisConf, version: str, allocator: Allocator, tables: Tables) -> None:
    """Fill the columns of the World's cost row that memory.py and rehash.py read."""
    cost[dp.MAXMEMORY] = NEVER
    rules = Rules(conf, allocator)
    cost[dp.STARTUP_BYTES] = startup_bytes(rules).value
    cost[dp.CLIENT_BYTES] = connection_bytes(ClientBuffers(), rules) - PROTO_REPLY_CHUNK_BYTES  # its buffers are counted apart
    cost[dp.USABLE] = tables.add(allocator.table())
    cost[dp.LIBC] = int(allocator.name == "libc")
    cost[dp.ENTRY_BYTES] = allocator.usable(DICT_ENTRY_BYTES)
    cost[dp.SHARED_INTS] = 1
    cost[dp.SHARED_QB] = int(version not in OLD_TABLES)
    cost[dp.FIXED_RBUF] = int(version == "6.2")
    cost[dp.FILL_PERMILLE] = 100 if version in OLD_TABLES else 125
    cost[dp.SHRINK_ON_DELETE] = cost[dp.REHASH_US] = int(version not in OLD_TABLES)


def size_datasets(rows: dp.I64, datasets: dict[str, Dataset], kinds: list[dp.I64], allocator: Allocator, tables: Tables) -> None:
    """Fill the columns of the data sets that say what their keys take."""
    for d, data in enumerate(datasets.values()):
        mine = {int(row[dp.K_OP]) for row in kinds if row[dp.K_DATASET] == d}
        rows[d, dp.D_KEYMEM] = round(_mean(data.key_bytes, lambda n: _key_bytes(n, allocator)))
        rows[d, dp.D_INT] = int(dp.OP_INCR in mine)
        rows[d, dp.D_GROWS] = int(dp.OP_APPEND in mine)
        if data.type != "string":
            element_bytes = int(rows[d, dp.D_EBYTES])
            rows[d, dp.D_SIZES] = tables.add(size_table(lambda n, e=element_bytes: _aggregate_bytes(n, e, allocator)))


def _mean(size: Size, of) -> float:  # type: ignore[no-untyped-def]
    """The mean of `of(n)` over the distribution of n."""
    if size.constant is not None:
        return float(of(size.constant))
    if size.table is not None:
        return sum(of(value) * weight for value, weight in size.table) / sum(weight for _, weight in size.table)
    return sum(of(quantile_at(size, (i + 0.5) / QUANTILES)) for i in range(QUANTILES)) / QUANTILES


def _key_bytes(length: int, allocator: Allocator) -> int:
    """A key and its dictEntry: the key is an exact copy, an sds with the header its length needs."""
    header = 1 if length < 32 else 3 if length < 256 else 5 if length < 65536 else 9
    return allocator.usable(header + length + 1) + allocator.usable(DICT_ENTRY_BYTES)


def _aggregate_bytes(elements: int, element_bytes: int, allocator: Allocator) -> int:
    """As one listpack."""
    return allocator.usable(16) + allocator.usable(7 + elements * (element_bytes + 2))


def size_table(bytes_of) -> dp.I64:  # type: ignore[no-untyped-def]
    """bytes_of(n) for n elements as dataplane/memory.py:elements_bytes reads it: each n up to DENSE, then for each octave the
    bytes at its first number of elements and what one more takes on the average, in 1024ths."""
    dense = [0, *(bytes_of(n) for n in range(1, DENSE + 1))]
    octaves: list[int] = []
    for k in range(DENSE_BITS, DENSE_BITS + OCTAVES):
        first, last = bytes_of((1 << k) + 1), bytes_of(2 << k)
        octaves += [first, (last - first) * 1024 // ((1 << k) - 1)]
    return np.array(dense + octaves, dtype=np.int64)


def first_tables(dataset: dp.I64) -> dp.I64:
    """The dicts after a load key by key, with no rehash under way: shape (2, H_SIZE)."""
    dicts = dp.rows(2, dp.H_SIZE)
    dicts[:, [dp.H_BITS, dp.H_NEXT]] = dp.NONE
    for h, column in ((dp.MAIN, dp.D_LIVE), (dp.EXPIRES, dp.D_EXPIRES)):
        dicts[h, dp.H_USED] = dataset[:, column].sum()
        if dicts[h, dp.H_USED] > 0:
            dicts[h, dp.H_BITS] = bits_for(int(dicts[h, dp.H_USED]))
    return dicts


def count_used_memory(world: dp.World) -> None:
    """The running total begins with what is there before the start."""
    world.st[dp.USED] = world.st[dp.USED_PEAK] = recount(world)
