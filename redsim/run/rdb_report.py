"""What is in an RDB file and what it takes in memory: by type, encoding and key pattern, the biggest keys, TTLs (`redsim size`).

Bytes are those of MEMORY USAGE SAMPLES 0 in a server of the version, allocator and directives asked for, after loading the file;
used_memory adds what MEMORY USAGE leaves out: tables, TTLs, blocks larger than their content.
A key's pattern is its name with numbers and long hexadecimal words as `*`: `user:1:name` is `user:*:name`; a name without any,
but with a colon, is cut behind the last one. From PATTERNS_MAX patterns on, new ones are cut at their first colon.
Not modelled: what a server has beside its data set but for its start; modules' values, which are counted only.
"""

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from redsim.host.memory import used_bytes
from redsim.redis.config import Rules
from redsim.redis.dict import ENTRY_BYTES
from redsim.redis.memory_overhead import entry_blocks, keyspace_tables, startup_bytes
from redsim.redis.object import ALL, key_bytes, object_size
from redsim.redis.rdb_load import element_count, loaded
from redsim.redis.rdb_read import RdbFile, RdbKey, read_rdb
from redsim.redis.value_blocks import value_blocks

__all__ = ["Part", "RdbReport", "pattern_of", "rdb_report"]

PATTERNS_MAX = 1_000
BIGGEST = 20
K = TypeVar("K")
_CHANGING = re.compile(r"[0-9A-Fa-f]{8}(?:-?[0-9A-Fa-f]{2,})*(?![0-9A-Za-z])|\d+")
_HEX_LETTERS_ONLY = re.compile(r"[A-Fa-f-]+")


def pattern_of(key: bytes) -> str:
    """The key's name without what tells it from its kin.

    >>> [pattern_of(key) for key in (b"user:17", b"user:17:name", b"session:9f8e7d6c5b4a", b"config:main", b"queue")]
    ['user:*', 'user:*:name', 'session:*', 'config:*', 'queue']
    """
    text = key.decode("utf-8", "backslashreplace")
    pattern = _CHANGING.sub(lambda match: match[0] if _HEX_LETTERS_ONLY.fullmatch(match[0]) else "*", text)
    if "*" not in pattern and ":" in pattern:
        pattern = pattern[: pattern.rindex(":") + 1] + "*"
    return pattern


@dataclass(slots=True)
class Part:
    """Some of the keys: how many, and the sizes of what is in them (length: how often)."""

    keys: int = 0
    elements: int = 0
    memory_bytes: int = 0
    saved_bytes: int = 0
    biggest_bytes: int = 0
    key_bytes: Counter[int] = field(default_factory=Counter)
    element_counts: Counter[int] = field(default_factory=Counter)
    value_bytes: Counter[int] = field(default_factory=Counter)  # of strings, or of each element
    ttl_ms: list[int] = field(default_factory=list)  # from when the file was written; negative if it was over

    def add(self, key: RdbKey, elements: int, memory_bytes: int, written_ms: int) -> None:
        self.keys += 1
        self.elements += elements
        self.memory_bytes += memory_bytes
        self.saved_bytes += key.saved_bytes
        self.biggest_bytes = max(self.biggest_bytes, memory_bytes)
        if key.expires_ms is not None:
            self.ttl_ms.append(key.expires_ms - written_ms)

    def add_sizes(self, key: RdbKey, elements: int) -> None:
        self.key_bytes[len(key.key)] += 1
        self.element_counts[elements] += 1
        for length in _element_bytes(key):
            self.value_bytes[length] += 1


def _element_bytes(key: RdbKey) -> list[int]:
    """Length of a string, of each element of a list or set, member of a sorted set, or field and value of a hash."""
    if key.type == "string":
        return [len(key.value)]
    if key.type == "hash":
        return [len(name) + len(value) for name, value in key.value]
    if key.type == "zset":
        return [len(member) for member, _ in key.value]
    return list(map(len, key.value)) if key.type in ("list", "set") else []


@dataclass(slots=True)
class RdbReport:
    """The sums over a file. `encodings` and `patterns` by (name, type); `biggest` as (memory, key, type, encoding, elements)."""

    file: RdbFile
    rules: Rules
    types: dict[str, Part] = field(default_factory=lambda: defaultdict(Part))
    encodings: dict[tuple[str, str], Part] = field(default_factory=lambda: defaultdict(Part))
    patterns: dict[tuple[str, str], Part] = field(default_factory=lambda: defaultdict(Part))
    dbs: Counter[int] = field(default_factory=Counter)
    volatile: Counter[int] = field(default_factory=Counter)  # keys with a TTL, by db
    biggest: list[tuple[int, bytes, str, str, int]] = field(default_factory=list)
    allocated_bytes: int = 0  # keys, dictEntries and values
    known: set[str] = field(default_factory=set)  # patterns
    _keys_seen: dict[int, tuple[int, int]] = field(default_factory=dict)
    _strings_seen: dict[tuple[str, int] | None, tuple[str, int, int]] = field(default_factory=dict)

    @property
    def keys(self) -> int:
        return sum(self.dbs.values())

    def add(self, key: RdbKey) -> None:
        """One more key."""
        elements, written_ms = element_count(key), self.file.written_ms
        key_bytes, key_allocated_bytes = self._key_sizes(len(key.key))
        encoding, value_bytes, value_allocated_bytes = self._value_sizes(key)
        memory_bytes = key_bytes + value_bytes
        self.allocated_bytes += key_allocated_bytes + value_allocated_bytes
        pattern = self.patterns[self._pattern(key.key), key.type]
        for part in (self.types[key.type], self.encodings[encoding, key.type], pattern):
            part.add(key, elements, memory_bytes, written_ms)
        pattern.add_sizes(key, elements)
        self.dbs[key.db] += 1
        self.volatile[key.db] += key.expires_ms is not None
        entry = (memory_bytes, key.key, key.type, encoding, elements)
        if len(self.biggest) < BIGGEST:
            heapq.heappush(self.biggest, entry)
        else:
            heapq.heappushpop(self.biggest, entry)

    def _key_sizes(self, length: int) -> tuple[int, int]:
        """(what MEMORY USAGE counts, what is allocated) of a key's name and dictEntry."""
        if length not in self._keys_seen:
            self._keys_seen[length] = key_bytes(length, self.rules), used_bytes(entry_blocks(length, self.rules))
        return self._keys_seen[length]

    def _value_sizes(self, key: RdbKey) -> tuple[str, int, int]:
        """(encoding, what MEMORY USAGE counts, what is allocated) of a value; strings of one length are all the same."""
        if key.value is None:
            return key.encoding, 0, 0
        kind = (key.encoding, len(key.value)) if key.type == "string" else None
        if kind in self._strings_seen:
            return self._strings_seen[kind]
        obj = loaded(key, self.rules)
        allocated_bytes = round(sum(size * count for size, count in value_blocks(obj, self.rules).items()))  # counts may be means
        sizes = obj.encoding, object_size(obj, self.rules, ALL), allocated_bytes
        if kind is not None:
            self._strings_seen[kind] = sizes
        return sizes

    def _pattern(self, key: bytes) -> str:
        pattern = pattern_of(key)
        if pattern not in self.known and len(self.known) >= PATTERNS_MAX:
            pattern = pattern.partition(":")[0] + ":*" if ":" in pattern else "*"
        self.known.add(pattern)
        return pattern

    def used_memory_bytes(self) -> int:
        """used_memory of a server with its start-up memory and this data set, no rehash under way."""
        tables = [keyspace_tables(count, self.rules) for by_db in (self.dbs, self.volatile) for count in by_db.values()]
        ttl_bytes = self.rules.allocator.usable(ENTRY_BYTES) * sum(self.volatile.values())
        return startup_bytes(self.rules).value + self.allocated_bytes + ttl_bytes + sum(map(used_bytes, tables))

    def as_dict(self) -> dict[str, Any]:
        """All of it for JSON, sizes in bytes; parts in falling order of memory."""
        return {
            "file": str(self.file.path),
            "rdb_version": self.file.version,
            "written_by": self.file.aux.get("redis-ver"),
            "version": self.rules.conf.version,
            "allocator": self.rules.allocator.name,
            "keys": self.keys,
            "keys_with_ttl": sum(self.volatile.values()),
            "used_memory": self.used_memory_bytes(),
            "used_memory_when_written": self._used_memory_when_written(),
            "types": [{"type": name} | figures(part) for name, part in ordered(self.types)],
            "encodings": [{"encoding": name, "type": kind} | figures(part) for (name, kind), part in ordered(self.encodings)],
            "patterns": [{"pattern": name, "type": kind} | figures(part) for (name, kind), part in ordered(self.patterns)],
            "biggest": [
                {"key": say_key(key), "type": kind, "encoding": encoding, "elements": elements, "memory": size}
                for size, key, kind, encoding, elements in sorted(self.biggest, reverse=True)
            ],
            "skipped": dict(self.file.skipped),
        }

    def _used_memory_when_written(self) -> int | None:
        text = self.file.aux.get("used-mem", "")
        return int(text) if text.isdigit() else None


def rdb_report(path: Path, rules: Rules, progress: Callable[[float], None] = lambda _share: None) -> RdbReport:
    """Read the file and add it up; ScenarioError, one sentence, if it cannot be read to its end."""
    report = RdbReport(read_rdb(path), rules)
    for key in report.file.read_keys(progress):
        report.add(key)
    return report


def figures(part: Part) -> dict[str, int]:
    """A part as JSON has it."""
    over = sum(ttl_ms <= 0 for ttl_ms in part.ttl_ms)
    return {
        "keys": part.keys, "elements": part.elements, "memory": part.memory_bytes, "biggest": part.biggest_bytes,
        "saved": part.saved_bytes, "with_ttl": len(part.ttl_ms), "ttl_over": over,
    }  # fmt: skip


def ordered(parts: Mapping[K, Part]) -> list[tuple[K, Part]]:
    """The most memory first."""
    return sorted(parts.items(), key=lambda item: -item[1].memory_bytes)


def say_key(key: bytes) -> str:
    """As it may be printed on one line."""
    return key.decode("utf-8", "backslashreplace").encode("unicode_escape").decode()
