"""What a server says about its memory: INFO memory and MEMORY STATS, names, order and formats by version.

Mirrors server.c:genRedisInfoString (section memory) and bytesToHuman, object.c:memoryCommand and getMemoryOverheadData, of 6.2 to
7.4 and Valkey 8.0. A file of its own because no single Redis file holds the two.
Differs: allocator_frag_bytes of 7.4 is active less allocated as before, not the free room of small bins alone. Redis 8.0 is taken
to print what 7.4 does (a guess). Not modelled: functions, modules, muzzy pages.
"""

from dataclasses import dataclass

import numpy as np

from redsim.redis.config import Rules
from redsim.redis.dict import POINTER_BYTES
from redsim.redis.memory_overhead import keyspace_overhead_bytes, replication_buffer_split
from redsim.redis.zmalloc import Pages
from redsim.units import KIB, MIB

__all__ = ["DbMemory", "ServerMemory", "bytes_to_human", "info_memory", "memory_stats"]

# functionsMemoryOverhead() of a server without functions, read off MEMORY STATS of each build [lab-server-memory]
_FUNCTIONS_BYTES = {"6.2": 0, "7.0": 184, "7.2": 184, "7.4": 192, "8.0": 192, "valkey-8.0": 184}
_FUNCTIONS_DEBIAN_MORE_BYTES = 16  # its size classes round two blocks up
_UNITS = "KMGTP"


@dataclass(frozen=True, slots=True)
class DbMemory:
    """One database: keys, TTLs and the buckets of both tables of either dict."""

    keys: int
    expires: int
    buckets: int
    expires_buckets: int
    rehashing_dicts: int = 0
    rehashing_bytes: int = 0

    def overhead_bytes(self, rules: Rules) -> tuple[int, int]:
        """overhead.hashtable.main and .expires."""
        return keyspace_overhead_bytes(self.keys, self.expires, self.buckets, self.expires_buckets, rules)


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """All that INFO memory, MEMORY STATS and MEMORY DOCTOR are made from; bytes unless the name says otherwise.

    state    used, peak, startup      zmalloc's total, its highest, and what it was when the server was ready
             dbs                      number of the database -> DbMemory, those with keys
             clients_normal           getClientMemoryUsage of normal, pub/sub and master connections
             normal_clients, replicas how many
             replication_buffers      the shared buffer of backlog and replicas; backlog_size caps the backlog's part of it
             backlog_index            rax of the backlog's blocks
             aof_buffer               aof_buf, if appendonly
             not_counted_for_evict    evict.c:freeMemoryGetNotCountedMemory
             pages                    allocated, active, resident and RSS
             used_sampled             used_memory when they were sampled; 0: used
             lua, functions_vm        the interpreters; scripts: cached scripts' bytes, cached_scripts: how many
    """

    used: int
    peak: int
    startup: int
    dbs: dict[int, DbMemory]
    pages: Pages
    rules: Rules
    clients_normal: int = 0
    normal_clients: int = 1
    replicas: int = 0
    replication_buffers: int = 0
    backlog_size: int = MIB
    backlog_index: int = 0
    aof_buffer: int = 0
    cluster_links: int = 0
    not_counted_for_evict: int = 0
    maxmemory: int = 0
    maxmemory_policy: str = "noeviction"
    total_system: int = 0
    lua: int = 31 * KIB
    functions_vm: int = 33 * KIB
    scripts: int = 0
    cached_scripts: int = 0
    active_defrag_running: int = 0
    lazyfree_pending: int = 0
    lazyfreed: int = 0
    used_sampled: int = 0

    @property
    def replication_backlog(self) -> int:
        """mem_replication_backlog."""
        return replication_buffer_split(self.replication_buffers, self.backlog_size, self.replicas)[0] + self.backlog_index

    @property
    def clients_replicas(self) -> int:
        """mem_clients_slaves."""
        return replication_buffer_split(self.replication_buffers, self.backlog_size, self.replicas)[1]

    @property
    def functions(self) -> int:
        """used_memory_functions: the caches of an engine without functions."""
        is_rounded_up = self.rules.allocator.name == "jemalloc-debian" and self.rules.since("7.0")
        return _FUNCTIONS_BYTES[self.rules.conf.version] + (_FUNCTIONS_DEBIAN_MORE_BYTES if is_rounded_up else 0)

    @property
    def fragmentation(self) -> tuple[float, int]:
        """mem_fragmentation_ratio and _bytes: RSS against used_memory of the same moment."""
        used = self.used_sampled or self.used
        return _ratio(self.pages.rss_bytes, used), self.pages.rss_bytes - used

    @property
    def overhead(self) -> int:
        """used_memory_overhead: all that is not the data set, as Redis counts it."""
        tables = sum(sum(db.overhead_bytes(self.rules)) for db in self.dbs.values())
        buffers = self.replication_backlog + self.clients_replicas + self.clients_normal + self.cluster_links + self.aof_buffer
        return self.startup + buffers + self.scripts + self.functions + tables

    @property
    def dataset(self) -> int:
        """used_memory_dataset."""
        return self.used - self.overhead

    @property
    def keys(self) -> int:
        """Keys of all databases."""
        return sum(db.keys for db in self.dbs.values())

    @property
    def tables(self) -> int:
        """Bytes of the bucket arrays of all dicts of the databases, both while one is rehashed."""
        return sum(POINTER_BYTES * (db.buckets + db.expires_buckets) for db in self.dbs.values())

    @property
    def net_bytes(self) -> int:
        """used_memory since the start, what percentages and bytes per key refer to; 1 where it would be none."""
        return self.used - self.startup if self.used > self.startup else 1


def bytes_to_human(count: int) -> str:
    """server.c:bytesToHuman.

    >>> bytes_to_human(1023), bytes_to_human(876440), bytes_to_human(5_917_252_528)
    ('1023B', '855.90K', '5.51G')
    """
    for power, unit in enumerate(_UNITS, start=1):
        if KIB**power <= count < KIB ** (power + 1):
            return f"{count / KIB**power:.2f}{unit}"
    return f"{count}B"


def _ratio(above: int, below: int) -> float:
    """A C float, as Redis keeps ratios; 0 where nothing was sampled yet."""
    return float(np.float32(np.float32(above) / np.float32(below))) if below else 0.0


def _percent(part: int, whole: int) -> float:
    return float(np.float32(np.float32(part) * 100 / np.float32(whole))) if whole else 0.0


def info_memory(m: ServerMemory) -> dict[str, str | int]:
    """The fields of `INFO memory` in Redis' order, formatted as it prints them."""
    fields = {**_info_used(m), **_info_scripts(m), **_info_ratios(m), **_info_buffers(m)}
    return {name: value for name, value in fields.items() if _has(name, m.rules)}


_SINCE_7_0 = frozenset({
    "used_memory_vm_eval", "used_memory_scripts_eval", "number_of_functions", "number_of_libraries", "used_memory_vm_functions",
    "used_memory_vm_total", "used_memory_vm_total_human", "used_memory_functions", "mem_total_replication_buffers",
    "mem_cluster_links",
})  # fmt: skip
_SINCE_7_4 = frozenset({"allocator_muzzy", "mem_overhead_db_hashtable_rehashing"})


def _has(field: str, rules: Rules) -> bool:
    if field in _SINCE_7_4:
        return rules.has_kvstore
    return rules.since("7.0") or field not in _SINCE_7_0


def _info_used(m: ServerMemory) -> dict[str, str | int]:
    p = m.pages
    return {
        "used_memory": m.used,
        "used_memory_human": bytes_to_human(m.used),
        "used_memory_rss": p.rss_bytes,
        "used_memory_rss_human": bytes_to_human(p.rss_bytes),
        "used_memory_peak": m.peak,
        "used_memory_peak_human": bytes_to_human(m.peak),
        "used_memory_peak_perc": f"{_percent(m.used, m.peak):.2f}%",
        "used_memory_overhead": m.overhead,
        "used_memory_startup": m.startup,
        "used_memory_dataset": m.dataset,
        "used_memory_dataset_perc": f"{_percent(m.dataset, m.net_bytes):.2f}%",
        "allocator_allocated": p.allocated_bytes,
        "allocator_active": p.active_bytes,
        "allocator_resident": p.resident_bytes,
        "allocator_muzzy": 0,
        "total_system_memory": m.total_system,
        "total_system_memory_human": bytes_to_human(m.total_system),
    }


def _info_scripts(m: ServerMemory) -> dict[str, str | int]:
    scripts = m.scripts + m.functions
    vm = m.lua + m.functions_vm
    fields: dict[str, str | int] = {
        "used_memory_lua": m.lua,
        "used_memory_vm_eval": m.lua,
        "used_memory_lua_human": bytes_to_human(m.lua),
        "used_memory_scripts_eval": m.scripts,
        "number_of_cached_scripts": m.cached_scripts,
        "number_of_functions": 0,
        "number_of_libraries": 0,
        "used_memory_vm_functions": m.functions_vm,
        "used_memory_vm_total": vm,
        "used_memory_vm_total_human": bytes_to_human(vm),
        "used_memory_functions": m.functions,
        "used_memory_scripts": scripts,
        "used_memory_scripts_human": bytes_to_human(scripts),
    }
    if not m.rules.since("7.0"):  # number_of_cached_scripts stood behind the scripts' bytes then
        fields["number_of_cached_scripts"] = fields.pop("number_of_cached_scripts")
    return fields


def _info_ratios(m: ServerMemory) -> dict[str, str | int]:
    p = m.pages
    return {
        "maxmemory": m.maxmemory,
        "maxmemory_human": bytes_to_human(m.maxmemory),
        "maxmemory_policy": m.maxmemory_policy,
        "allocator_frag_ratio": f"{_ratio(p.active_bytes, p.allocated_bytes):.2f}",
        "allocator_frag_bytes": p.active_bytes - p.allocated_bytes,
        "allocator_rss_ratio": f"{_ratio(p.resident_bytes, p.active_bytes):.2f}",
        "allocator_rss_bytes": p.resident_bytes - p.active_bytes,
        "rss_overhead_ratio": f"{_ratio(p.rss_bytes, p.resident_bytes):.2f}",
        "rss_overhead_bytes": p.rss_bytes - p.resident_bytes,
        "mem_fragmentation_ratio": f"{m.fragmentation[0]:.2f}",
        "mem_fragmentation_bytes": m.fragmentation[1],
    }


def _info_buffers(m: ServerMemory) -> dict[str, str | int]:
    return {
        "mem_not_counted_for_evict": m.not_counted_for_evict,
        "mem_replication_backlog": m.replication_backlog,
        "mem_total_replication_buffers": m.replication_buffers,
        "mem_clients_slaves": m.clients_replicas,
        "mem_clients_normal": m.clients_normal,
        "mem_cluster_links": m.cluster_links,
        "mem_aof_buffer": m.aof_buffer,
        "mem_allocator": _mem_allocator(m.rules),
        "mem_overhead_db_hashtable_rehashing": sum(db.rehashing_bytes for db in m.dbs.values()),
        "active_defrag_running": m.active_defrag_running,
        "lazyfree_pending_objects": m.lazyfree_pending,
        "lazyfreed_objects": m.lazyfreed,
    }


def _mem_allocator(rules: Rules) -> str:
    """ZMALLOC_LIB: the jemalloc each release brings along, or the one Debian 12 has."""
    if rules.allocator.name == "libc":
        return "libc"
    if rules.allocator.name == "jemalloc-debian" or rules.since("7.2"):
        return "jemalloc-5.3.0"
    return "jemalloc-5.2.1" if rules.since("7.0") else "jemalloc-5.1.0"


def memory_stats(m: ServerMemory) -> dict[str, int | str | dict[str, int]]:
    """MEMORY STATS: Redis' names in its order; ratios as redis-cli prints them (17 digits), a map for each database."""
    p = m.pages
    stats: dict[str, int | str | dict[str, int]] = {
        "peak.allocated": m.peak, "total.allocated": m.used, "startup.allocated": m.startup,
        "replication.backlog": m.replication_backlog, "clients.slaves": m.clients_replicas, "clients.normal": m.clients_normal,
        "cluster.links": m.cluster_links, "aof.buffer": m.aof_buffer, "lua.caches": m.scripts, "functions.caches": m.functions,
    }  # fmt: skip
    if not m.rules.since("7.0"):
        del stats["cluster.links"], stats["functions.caches"]
    stats |= {f"db.{number}": _stats_of_db(db, m.rules) for number, db in sorted(m.dbs.items())}
    if m.rules.has_kvstore:
        stats["overhead.db.hashtable.lut"] = m.tables
        stats["overhead.db.hashtable.rehashing"] = sum(db.rehashing_bytes for db in m.dbs.values())
    stats["overhead.total"] = m.overhead
    if m.rules.has_kvstore:
        stats["db.dict.rehashing.count"] = sum(db.rehashing_dicts for db in m.dbs.values())
    stats |= {
        "keys.count": m.keys, "keys.bytes-per-key": m.net_bytes // m.keys if m.keys else 0, "dataset.bytes": m.dataset,
        "dataset.percentage": _exact(_percent(m.dataset, m.net_bytes)), "peak.percentage": _exact(_percent(m.used, m.peak)),
        "allocator.allocated": p.allocated_bytes, "allocator.active": p.active_bytes, "allocator.resident": p.resident_bytes,
    }  # fmt: skip
    if m.rules.has_kvstore:
        stats["allocator.muzzy"] = 0
    return stats | {
        "allocator-fragmentation.ratio": _exact(_ratio(p.active_bytes, p.allocated_bytes)),
        "allocator-fragmentation.bytes": p.active_bytes - p.allocated_bytes,
        "allocator-rss.ratio": _exact(_ratio(p.resident_bytes, p.active_bytes)),
        "allocator-rss.bytes": p.resident_bytes - p.active_bytes,
        "rss-overhead.ratio": _exact(_ratio(p.rss_bytes, p.resident_bytes)),
        "rss-overhead.bytes": p.rss_bytes - p.resident_bytes,
        "fragmentation": _exact(m.fragmentation[0]),
        "fragmentation.bytes": m.fragmentation[1],
    }


def _stats_of_db(db: DbMemory, rules: Rules) -> dict[str, int]:
    main, expires = db.overhead_bytes(rules)
    stats = {"overhead.hashtable.main": main, "overhead.hashtable.expires": expires}
    has_slots_to_keys = rules.since("7.0") and not rules.has_kvstore
    return stats | {"overhead.hashtable.slot-to-keys": 0} if has_slots_to_keys else stats


def _exact(value: float) -> str:
    return f"{value:.17g}"
