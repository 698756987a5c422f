"""What the data plane needs to keep used_memory: size classes, the bytes of keys, aggregates and connections, by build.

Mirrors dict.c (HASHTABLE_MIN_FILL; from 7.4 on dicts shrink by themselves and rehash by microseconds) and networking.c through
redsim/redis.
Differs: a distribution of key lengths counts with the mean of its size classes, one of element lengths with its mean length.
"""

from collections.abc import Callable

from redsim.dataplane import layout as dp
from redsim.dataplane.dict import bits_for
from redsim.dataplane.memory import recount
from redsim.redis.client_memory import PROTO_REPLY_CHUNK_BYTES, ClientBuffers, connection_bytes, query_buffer_bytes
from redsim.redis.config import Rules
from redsim.redis.dict import ENTRY_BYTES
from redsim.redis.memory_overhead import command_histogram_bytes, entry_blocks, startup_bytes
from redsim.run.value_sizes import listpack_max, size_table
from redsim.scenario.schema import Dataset, Size
from redsim.workload.tables import Tables, quantile_at

QUANTILES = 256


def memory_costs(cost: dp.I64, rules: Rules, tables: Tables) -> None:
    """Fill the columns of the World's cost row that memory.py and rehash.py read."""
    allocator, query_bytes = rules.allocator, query_buffer_bytes(rules)
    fresh = connection_bytes(ClientBuffers(), rules)
    cost[dp.STARTUP_BYTES], cost[dp.CLIENT_BYTES] = startup_bytes(rules).value, fresh - PROTO_REPLY_CHUNK_BYTES
    cost[dp.QUERY_BYTES] = connection_bytes(ClientBuffers(query_bytes), rules) - fresh
    cost[dp.HISTOGRAM_BYTES] = command_histogram_bytes(rules)
    cost[dp.USABLE] = tables.add(allocator.table())
    cost[dp.LIBC] = int(allocator.name == "libc")
    cost[dp.ENTRY_BYTES] = allocator.usable(ENTRY_BYTES)
    cost[dp.SHARED_INTS] = 1
    cost[dp.FIXED_RBUF] = int(not rules.since("7.0"))
    cost[dp.FILL_PERMILLE] = 125 if rules.has_kvstore else 100
    cost[dp.SHRINK_ON_DELETE] = cost[dp.REHASH_US] = int(rules.has_kvstore)
    is_four = rules.has_kvstore or rules.is_valkey  # dict.c: dict_force_resize_ratio; up to 7.2 more than five
    cost[dp.FORCE_RATIO], cost[dp.FORCE_GROW_BITS] = (4, 2) if is_four else (6, 3)
    cost[dp.FORCE_SHRINK_BITS] = 5 if rules.has_kvstore else 3


def size_datasets(rows: dp.I64, datasets: dict[str, Dataset], kinds: list[dp.I64], rules: Rules, tables: Tables) -> None:
    """Fill the columns of the data sets that say what their keys take; `kinds` are the rows of all commands sent."""
    for d, data in enumerate(datasets.values()):
        mine = {int(row[dp.K_OP]) for row in kinds if row[dp.K_DATASET] == d}
        rows[d, dp.D_KEYMEM] = round(mean_of(data.key_bytes, lambda length: key_bytes(length, rules)))
        rows[d, dp.D_INT] = int(dp.OP_INCR in mine)
        rows[d, dp.D_GROWS] = int(dp.OP_APPEND in mine)
        if data.type != "string":
            rows[d, dp.D_SIZES] = tables.add(size_table(data.type, int(rows[d, dp.D_EBYTES]), rules))
            rows[d, dp.D_LIST] = int(data.type == "list")
            rows[d, dp.D_PACKED] = listpack_max(data.type, int(rows[d, dp.D_EBYTES]), rules)


def key_bytes(length: int, rules: Rules) -> int:
    """A key and its dictEntry."""
    return round(sum(size * count for size, count in entry_blocks(length, rules).items()))


def mean_of(size: Size, of: Callable[[int], float]) -> float:
    """The mean of `of(n)` over the distribution of n."""
    if size.constant is not None:
        return of(size.constant)
    if size.table is not None:
        return sum(of(value) * weight for value, weight in size.table) / sum(weight for _, weight in size.table)
    return sum(of(quantile_at(size, (i + 0.5) / QUANTILES)) for i in range(QUANTILES)) / QUANTILES


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
