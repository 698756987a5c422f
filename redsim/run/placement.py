"""Where the keys of a World lie in memory, for copy-on-write: an area for each kind of block of each data set.

    area of a data set   dictEntries | names | robjs (raw strings and aggregates) | values | entries of the expires
    behind all of them   the buckets of the keyspace's table, those of the expires

Blocks of one kind lie side by side, as an allocator that was filled by a load leaves them; which key has which is a permutation
by the seed. Mirrors jemalloc's slabs in that blocks of one size share pages and no other size's (host/memory.py).
Differs: values of mixed sizes lie at strides of their mean. Not modelled: holes that deletes left, the allocator's own metadata.
"""

from collections.abc import Mapping

import numpy as np

from redsim.dataplane import layout as dp
from redsim.dataplane.dict import bits_for
from redsim.dataplane.memory import DENSE, EMBSTR_MAX, ROBJ_BYTES
from redsim.host.fork import HUGE_BYTES, PAGE_BYTES
from redsim.redis.config import Rules
from redsim.redis.rdb import len_length, serialized_length
from redsim.redis.sds import usable_bytes
from redsim.rng import stream_words
from redsim.run.memory import mean_of
from redsim.run.size import KeyShape
from redsim.run.value_sizes import FIELD_BYTES, size_table
from redsim.scenario.schema import Dataset
from redsim.units import MIB
from redsim.workload.tables import mean

__all__ = ["file_rows", "placement", "value_block"]

AREA_BYTES = HUGE_BYTES  # areas begin with a huge page
EMBSTR_HEADER_BYTES = 4  # sds.h: sdshdr8 and the closing zero
BUILT_MAX = 1000  # elements of a value that is built to see how long it is in a file
SPARE_BITS = 1  # a table may have doubled once more when the fork comes


def value_block(data: Dataset, rules: Rules) -> int:
    """Bytes of a value beside its robj, in the mean; inside it, with it."""
    if data.type == "string":

        def of(size: int) -> float:
            if size <= EMBSTR_MAX:
                return float(rules.allocator.usable(ROBJ_BYTES + EMBSTR_HEADER_BYTES + size))
            return float(usable_bytes(size, rules))

        return max(round(mean_of(data.value_bytes, of)), 1)
    elements = max(mean(data.elements), 1)
    table = size_table(data.type, mean(data.value_bytes), rules)
    whole = int(table[elements]) if elements <= DENSE else int(table[DENSE]) * elements // DENSE
    return max(whole - ROBJ_BYTES, 1)


def placement(
    child: dp.I64, dataset: dp.I64, datasets: Mapping[str, Dataset], rules: Rules, entry_bytes: int, names: tuple[int, str]
) -> tuple[dp.I64, dp.I64]:
    """(place rows, cow words) of the data sets; fills the columns of `child` that say where tables are. `names`: seed, node."""
    seed, node = names
    place = dp.rows(dataset.shape[0], dp.P_SIZE)
    at = 0
    for d, (name, data) in enumerate(datasets.items()):
        row, n = place[d], int(dataset[d, dp.D_N])
        row[dp.P_N], row[dp.P_BITS] = n, max((n - 1).bit_length(), 2)
        mask = (1 << int(row[dp.P_BITS])) - 1
        first, second = (stream_words(seed, node, "placement", name, step) for step in ("first", "second"))
        row[[dp.P_MUL, dp.P_MUL2]] = (first[1] & mask) | 1, (second[1] & mask) | 1
        row[[dp.P_ADD, dp.P_ADD2]] = first[0] & mask, second[0] & mask
        _rdb_columns(row, data, rules)
        is_embedded = data.type == "string" and mean(data.value_bytes) <= EMBSTR_MAX
        row[dp.P_ENTRY], row[dp.P_KEY] = entry_bytes, max(int(dataset[d, dp.D_KEYMEM]) - entry_bytes, 1)
        row[dp.P_ROBJ], row[dp.P_STRIDE] = 0 if is_embedded else ROBJ_BYTES, value_block(data, rules)
        areas = ((dp.P_ENTRY_AT, dp.P_ENTRY), (dp.P_KEY_AT, dp.P_KEY), (dp.P_ROBJ_AT, dp.P_ROBJ), (dp.P_VALUE_AT, dp.P_STRIDE),
                 (dp.P_XENTRY_AT, dp.P_ENTRY))  # fmt: skip
        for where, size in areas:
            row[where] = at
            at = _next(at + n * int(row[size]))
        at = _next(at + _largest(data))  # a value at the last stride may be longer than that
    tables = 8 << (bits_for(max(int(dataset[:, dp.D_N].sum()), 1)) + SPARE_BITS)
    child[dp.CH_TABLE_AT], child[dp.CH_XTABLE_AT] = at, _next(at + tables)
    pages = _next(int(child[dp.CH_XTABLE_AT]) + tables) >> 12
    child[dp.CH_REGION_AT] = -(-pages // 64) * 64
    words = (int(child[dp.CH_REGION_AT]) + pages // (HUGE_BYTES // PAGE_BYTES)) // 64 + 1
    return place, np.zeros(words, dtype=np.int64)


def file_rows(dataset: dp.I64, datasets: Mapping[str, Dataset], rules: Rules) -> dp.I64:
    """place rows of data sets whose keys lie nowhere, as nothing forks: only what they take in an RDB file."""
    place = dp.rows(dataset.shape[0], dp.P_SIZE)
    for row, data in zip(place, datasets.values(), strict=False):
        _rdb_columns(row, data, rules)
    return place


def _rdb_columns(row: dp.I64, data: Dataset, rules: Rules) -> None:
    """What a key of the data set takes in an RDB file; rdb.c:rdbSaveKeyValuePair."""
    policy = str(rules.conf.get("maxmemory-policy"))
    memory = 2 if policy.endswith("lru") else 2 if policy.endswith("lfu") else 0  # idle seconds, frequency
    row[dp.P_RDB_FIXED] = 1 + memory + round(mean_of(data.key_bytes, lambda n: len_length(n) + n))
    row[dp.P_RDB_LZF] = round(1_000_000 * data.compressed_to) if rules.conf.get("rdbcompression") else 0
    if data.type != "string":
        elements = min(max(mean(data.elements), 1), BUILT_MAX)
        shape = KeyShape(data.type, elements, mean(data.key_bytes), FIELD_BYTES, mean(data.value_bytes))
        length = serialized_length(shape.built(rules), rules.conf.version, rdbcompression=False)
        row[dp.P_RDB_EACH] = 1024 * length // elements


def _next(at: int) -> int:
    return -(-at // AREA_BYTES) * AREA_BYTES


def _largest(data: Dataset) -> int:
    """A bound for the bytes of the data set's largest value, within reason: pages beyond the areas are not counted."""
    return 64 * MIB if data.type == "string" else 16 * MIB
