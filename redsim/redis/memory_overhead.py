"""What a server's used_memory consists of: start-up, tables, keys, values, TTLs, and the share of it that Redis calls overhead.

Mirrors object.c:getMemoryOverheadData, dict.c (tables of powers of two, both while a rehash runs, one dictEntry a key),
kvstore.c:kvstoreMemUsage (7.4, Valkey 8.0), server.c:updateCommandLatencyHistogram and ae.c:aeCreateEventLoop. A file of its
own because the object.c here is about one key. Everything is a census of blocks, so that used_memory and the pages behind it come
from the same numbers.

    start-up + a histogram for each command called yet + connections + sum over keys (sds, dictEntry, value) + tables + TTLs

Differs: start-up varies by some hundred bytes with the length of paths and arguments. Not modelled: cluster mode's links between
keys of a slot, modules, ACL rules, functions; Redis 8.0's key objects of one allocation come with 8.2.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from redsim.host.memory import Blocks, merge, times, used_bytes
from redsim.records import Param
from redsim.redis.config import Rules
from redsim.redis.dict import ENTRY_BYTES, POINTER_BYTES, table_slots
from redsim.redis.object import ROBJ_BYTES, key_bytes
from redsim.redis.sds import usable_bytes
from redsim.units import KIB

__all__ = [
    "DatasetMemory", "command_histogram_bytes", "dataset_memory", "entry_blocks", "keyspace_overhead_bytes", "keyspace_tables",
    "not_counted_for_evict_bytes", "numbered_keys", "replication_buffer_split", "startup_bytes",
]  # fmt: skip

_KVSTORE_BYTES = {"7.4": 280, "8.0": 280, "valkey-8.0": 176}  # kvstore.c: sizeof(kvstore), its one dict, kvstoreDictMetadata
_HISTOGRAM_COUNTS_BYTES = 3072 * 8  # hdr_init(1, 1e9, 2): 24 half-buckets of 128 counts
_HISTOGRAM_BYTES = 104  # sizeof(struct hdr_histogram)
_REPLY_CHUNK_BYTES = 16 * KIB  # server.h: PROTO_REPLY_CHUNK_BYTES
_REPL_BLOCK_BYTES = 40  # sizeof(replBufBlock)
_LIST_NODE_BYTES = 24
_RESERVED_FDS = 128  # server.h: CONFIG_FDSET_INCR
_EVENT_BYTES = (32, 8, 12)  # ae.c, ae_epoll.c: aeFileEvent, aeFiredEvent, epoll_event, one of each per descriptor
_MAXCLIENTS = 10_000

# initial_memory_usage with maxclients 10000: measured here on Debian's build, and on builds of the sources [lab-server-memory]
_STARTUP = {
    ("6.2", "jemalloc"): Param(811_952, "measured", "lab-server-memory"),
    ("7.0", "jemalloc-debian"): Param(876_304, "measured", "lab-dataset-memory"),
    ("7.0", "jemalloc"): Param(858_792, "measured", "lab-server-memory"),
    ("7.2", "jemalloc"): Param(865_872, "measured", "lab-server-memory"),
    ("7.4", "jemalloc"): Param(946_224, "measured", "lab-server-memory"),
    ("valkey-8.0", "jemalloc"): Param(1_009_032, "measured", "lab-server-memory"),
}
_STARTUP_AS = {"8.0": "7.4"}  # a guess


@dataclass(frozen=True, slots=True)
class DatasetMemory:
    """One database at rest; each part a census of blocks, so that `.blocks` adds up to `.total_bytes`.

    state    keys, expires   how many keys there are, and how many of them have a TTL
             entries         dictEntries with the keys' sds (one block where the version embeds the key)
             values          the objects
             tables          bucket arrays of the main dict, both while it is rehashed
             ttls            dictEntries and bucket arrays of the expires dict
    """

    keys: int
    expires: int
    entries: Blocks
    values: Blocks
    tables: Blocks
    ttls: Blocks

    @property
    def blocks(self) -> dict[int, float]:
        """All of it: usable size to count."""
        return merge(self.entries, self.values, self.tables, self.ttls)

    @property
    def total_bytes(self) -> int:
        """What used_memory grows by when the data set is loaded."""
        return used_bytes(self.blocks)


def startup_bytes(rules: Rules) -> Param:
    """used_memory_startup of a build and its source [lab-dataset-memory]; a build nobody measured gets its neighbour's.

    The event loop's arrays are part of it: 52 bytes for each descriptor that maxclients asks for.
    """
    usable = rules.allocator.usable
    version = _STARTUP_AS.get(rules.conf.version, rules.conf.version)
    known = _STARTUP.get((version, rules.allocator.name))
    if known is None or version != rules.conf.version:
        neighbour = next(param for (other, _), param in _STARTUP.items() if other == version)
        known = Param(neighbour.value, "guess")
    descriptors, usual = rules.limit("maxclients") + _RESERVED_FDS, _MAXCLIENTS + _RESERVED_FDS
    more = sum(usable(descriptors * each) - usable(usual * each) for each in _EVENT_BYTES)
    return Param(known.value + more, known.source, known.ref)


def command_histogram_bytes(rules: Rules) -> int:
    """latency-tracking (7.0 on, unless switched off): the HDR histogram a command gets when it is called for the first time."""
    if not rules.since("7.0") or not rules.conf.get("latency-tracking"):
        return 0
    return rules.allocator.usable(_HISTOGRAM_COUNTS_BYTES) + rules.allocator.usable(_HISTOGRAM_BYTES)


def keyspace_tables(keys: int, rules: Rules, *, is_rehashing: bool = False) -> dict[int, float]:
    """Blocks of a dict's bucket arrays: one, or while it grows also the one of half the size that is being emptied."""
    if keys == 0:
        return {}
    slots = table_slots(keys)
    new: dict[int, float] = {rules.allocator.usable(POINTER_BYTES * slots): 1}
    if not is_rehashing or slots == table_slots(1):
        return new
    return merge(new, {rules.allocator.usable(POINTER_BYTES * slots // 2): 1})


def entry_blocks(key_length: int, rules: Rules) -> dict[int, float]:
    """Blocks of one key in the main dict: its dictEntry and its string, in Valkey 8.0 one block for both."""
    if rules.is_valkey:
        return {key_bytes(key_length, rules): 1}
    return merge({rules.allocator.usable(ENTRY_BYTES): 1}, {usable_bytes(key_length, rules): 1})


def numbered_keys(prefix_bytes: int, count: int) -> dict[int, int]:
    """{length: how many} of keys like `key:0`, `key:1`, … without padding; `prefix_bytes` is 4 for `key:`.

    >>> numbered_keys(4, 250)
    {5: 10, 6: 90, 7: 150}
    """
    lengths, start, digits = {}, 0, 1
    while start < count:
        end = min(count, 10**digits)
        lengths[prefix_bytes + digits] = end - start
        start, digits = end, digits + 1
    return lengths


def dataset_memory(
    key_lengths: Mapping[int, int], value: Blocks, rules: Rules, *, expires: int = 0, is_rehashing: bool = False
) -> DatasetMemory:
    """A database of keys of {length: how many}, each with the blocks of `value`, `expires` of them with a TTL.

    The counts in `value` may be means, as a skiplist's are (value_blocks.py makes them).
    >>> from redsim.redis.config import rules
    >>> debian = rules("7.0", "jemalloc-debian")
    >>> dataset_memory(numbered_keys(4, 1000), {48: 1}, debian).total_bytes
    103392
    """
    keys = sum(key_lengths.values())
    assert 0 <= expires <= keys, "a TTL belongs to a key"
    entries = merge(*(times(entry_blocks(length, rules), count) for length, count in key_lengths.items()))
    tables = keyspace_tables(keys, rules, is_rehashing=is_rehashing)
    ttls = merge(times({rules.allocator.usable(ENTRY_BYTES): 1}, expires), keyspace_tables(expires, rules))
    return DatasetMemory(keys, expires, entries, times(value, keys), tables, ttls)


def keyspace_overhead_bytes(keys: int, expires: int, buckets: int, expires_buckets: int, rules: Rules) -> tuple[int, int]:
    """overhead.hashtable.main and .expires as this version counts them: 24 bytes an entry whatever the allocator gave, and 16 of
    each key's object with the main dict; from 7.4 on the kvstore and its dict as well. `buckets` of both tables of a dict."""
    fixed = _KVSTORE_BYTES.get(rules.conf.version, 0)
    main = keys * (ENTRY_BYTES + ROBJ_BYTES) + buckets * POINTER_BYTES + fixed
    return main, expires * ENTRY_BYTES + expires_buckets * POINTER_BYTES + fixed


def replication_buffer_split(buffer_bytes: int, backlog_size_bytes: int, replicas: int) -> tuple[int, int]:
    """The shared replication buffer as (mem_replication_backlog, mem_clients_slaves): replicas have what exceeds the backlog."""
    if replicas and buffer_bytes > backlog_size_bytes:
        return backlog_size_bytes, buffer_bytes - backlog_size_bytes
    return buffer_bytes, 0


def not_counted_for_evict_bytes(buffer_bytes: int, backlog_size_bytes: int, aof_buffer_bytes: int) -> int:
    """evict.c:freeMemoryGetNotCountedMemory (7.0 on): the AOF buffer, and what the replication buffer exceeds the backlog by."""
    blocks_bytes = (backlog_size_bytes // _REPLY_CHUNK_BYTES + 1) * (_REPL_BLOCK_BYTES + _LIST_NODE_BYTES)
    return max(buffer_bytes - backlog_size_bytes - blocks_bytes, 0) + aof_buffer_bytes
