"""What decides how a value lies in memory: the version, the build's allocator, and the directives about encodings; and what the
directives say of children.

Mirrors config.c (the *-max-* directives, list-compress-depth) and the structs whose size differs by version: dict.h (dict),
quicklist.h (quicklistNode, quicklistLZF), of 6.2.16, 7.0.15, 7.2.6, 7.4.1, 8.0-m01 and Valkey 8.0.1.
Differs: 8.0 is taken to be as its first milestone, whose files are those of 7.4 here.
Not modelled: 8.2 and later (one allocation for key and value), Valkey 8.1 and later (another hash table).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from redsim.dataplane import layout as dp
from redsim.host.fork import ForkCosts
from redsim.host.malloc import ALLOCATORS, Allocator
from redsim.scenario.directives import by_any_name, table
from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.linux import Linux
from redsim.scenario.redis_conf import RedisConf, parse_conf

__all__ = ["ChildRules", "Rules", "rules"]

_RELEASES = ("6.2", "7.0", "7.2", "7.4", "8.0")
_NO_LIMIT = (1 << 63) - 1


@dataclass(frozen=True)
class Rules:
    """One server's rules; what its version lacks is absent from `conf` and read through the properties below."""

    conf: RedisConf
    allocator: Allocator

    def limit(self, directive: str) -> int:
        """The directive's value; every name of it will do."""
        return int(self.conf.get(directive))

    @cached_property
    def is_valkey(self) -> bool:
        return self.conf.version.startswith("valkey")

    def since(self, release: str) -> bool:
        """Whether this version has what Redis `release` brought (Valkey 8.0 forked from 7.2)."""
        mine = "7.2" if self.is_valkey else self.conf.version
        return _RELEASES.index(mine) >= _RELEASES.index(release)

    @cached_property
    def has_kvstore(self) -> bool:
        """dict.c of Redis 7.4 and Valkey 8.0: dicts shrink by themselves, and rehash the bucket they visit."""
        return self.is_valkey or self.since("7.4")

    @cached_property
    def dict_bytes(self) -> int:
        """sizeof(dict): 6.2 still has two dictht of 32 bytes and a privdata pointer."""
        return 56 if self.since("7.0") else 96

    @cached_property
    def quicklist_node_bytes(self) -> int:
        """sizeof(quicklistNode): its `sz` is a size_t since 7.0."""
        return 40 if self.since("7.0") else 32

    @cached_property
    def usable_by_length(self) -> dict[int, int]:
        """What sds.usable_bytes has answered so far: a data set has few lengths and many strings."""
        return {}

    @cached_property
    def hash_max_entries(self) -> int:
        return self.limit("hash-max-listpack-entries")

    @cached_property
    def hash_max_value_bytes(self) -> int:
        return self.limit("hash-max-listpack-value")

    @cached_property
    def set_max_intset_entries(self) -> int:
        return min(self.limit("set-max-intset-entries"), 1 << 30)

    @cached_property
    def set_max_listpack_entries(self) -> int:
        """0 before 7.2: a set that is no intset is a hash table."""
        return self.limit("set-max-listpack-entries") if self.since("7.2") else 0

    @cached_property
    def set_max_value_bytes(self) -> int:
        return self.limit("set-max-listpack-value") if self.since("7.2") else 0

    @cached_property
    def zset_max_entries(self) -> int:
        return self.limit("zset-max-listpack-entries")

    @cached_property
    def zset_max_value_bytes(self) -> int:
        return self.limit("zset-max-listpack-value")

    @cached_property
    def list_max_size(self) -> int:
        """quicklist.c:quicklistSetFill: kept within 16 bits, and -5 at the least."""
        return max(-5, min(self.limit("list-max-listpack-size"), (1 << 15) - 1))

    @cached_property
    def list_compress_depth(self) -> int:
        return min(self.limit("list-compress-depth"), (1 << 16) - 1)

    @property
    def small_encoding(self) -> str:
        """OBJECT ENCODING of a small hash or sorted set."""
        return "listpack" if self.since("7.0") else "ziplist"


def _name_here(directive: str, version: str) -> str:
    """What this version calls the directive: 6.2 says hash-max-ziplist-entries."""
    row = by_any_name(version).get(directive)
    return next((name for name in row.names if name in table(version)), directive) if row else directive


def rules(version: str = "7.0", allocator: str = "jemalloc", conf: Mapping[str, object] | RedisConf | None = None) -> Rules:
    """The rules of one build: `conf` a parsed redis.conf, or directives by any version's name; the rest as the version ships.

    ScenarioError for an allocator, a version or a directive that is not known.
    """
    if allocator not in ALLOCATORS:
        hint = did_you_mean(str(allocator), ALLOCATORS)
        raise ScenarioError(f"allocator {allocator!r} is not known; use one of {', '.join(ALLOCATORS)}{hint}")
    if isinstance(conf, RedisConf):
        return Rules(conf, ALLOCATORS[allocator])
    parsed = parse_conf("", version=version)
    for directive, value in (conf or {}).items():
        parsed = parsed.with_override(_name_here(directive, version), value)
    return Rules(parsed, ALLOCATORS[allocator])


@dataclass(frozen=True, slots=True)
class ChildRules:
    """What the conf and the host say of children.

    state    points          (seconds, changes) of each save point
             stop_writes     stop-writes-on-bgsave-error
             incremental     rdb-save-incremental-fsync
             drops_cache     7.2 on: a file that was written leaves the page cache
             oom_score_adj   the directive
             costs, host     of the machine, memory_bytes it has
             has_huge_pages  a fork of huge pages
             above_bytes     RSS beyond used_memory
             stretch         by how many millionths what the main thread does takes longer while a child is at work
             phase_ns        the part of a second of the clock at the start
             knows_save      whether somebody sends SAVE
             weights         by kind: what a call adds to server.dirty for sure
    """

    points: tuple[tuple[int, int], ...]
    stop_writes: bool
    incremental: bool
    drops_cache: bool
    oom_score_adj: str
    costs: ForkCosts
    host: Linux
    memory_bytes: int
    has_huge_pages: bool
    above_bytes: int
    stretch: int
    phase_ns: int
    knows_save: bool
    weights: dp.I64
