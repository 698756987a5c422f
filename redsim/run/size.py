"""How much memory a value takes: `redsim.memory_usage`, `redsim.object_encoding`, and what `redsim size` prints and writes.

Mirrors MEMORY USAGE and OBJECT ENCODING (object.c). A value given here is taken as written by one command per element, in order.
Not modelled: what is not in MEMORY USAGE either (the entry of a TTL, the key's share of the keyspace's table); a data set's lines
have them in `used_memory`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from pathlib import Path
from typing import Any

from redsim.redis import t_hash, t_list, t_set, t_string, t_zset
from redsim.redis.config import Rules, rules
from redsim.redis.object import ALL, RedisObject, spread_bytes, tables_spread_bytes
from redsim.redis.object import memory_usage as usage_of
from redsim.redis.rdb import serialized_length
from redsim.run.size_records import build, read_records, rules_of, rules_of_key, text_of_length
from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.redis_conf import RedisConf

__all__ = ["Build", "KeyShape", "memory_usage", "object_encoding", "size_lines", "sized_records", "told", "write_sized"]

Text = bytes | str | int | float
Conf = Mapping[str, object] | RedisConf | None
TYPES = ("string", "list", "hash", "set", "zset")
_DEFAULT_SAMPLES = 5  # object.c: OBJ_COMPUTE_SIZE_DEF_SAMPLES


def memory_usage(
    value: Any,
    *,
    key: Text = "key",
    type: str | None = None,
    version: str = "7.0",
    allocator: str = "jemalloc",
    conf: Conf = None,
    samples: int = _DEFAULT_SAMPLES,
    ttl: bool = False,
) -> int:
    """What `MEMORY USAGE key SAMPLES samples` would answer, in bytes; `samples=0` looks at every element.

    `value`: bytes, str or a number (a string), a list, a dict (a hash), a set; with type="zset" a dict of scores by member, or
    pairs (member, score). `conf`: directives by name, e.g. {"hash-max-listpack-entries": 128}. `allocator`: "jemalloc" (the one
    Redis brings along), "jemalloc-debian" (the system's), "libc". A `ttl` changes nothing: MEMORY USAGE leaves its entry out.

    >>> memory_usage("a", key="a")
    56
    >>> memory_usage({"name": "Ada", "born": 1815}, key="user:1", allocator="jemalloc-debian")
    80
    >>> memory_usage(range(513), type="set", samples=0), memory_usage(range(512), type="set", samples=0)
    (24712, 1328)

    A sorted set over its listpack limit has nodes of random height: the mean is answered. ScenarioError for what is no such
    value.
    """
    del ttl
    if samples < 0:
        raise ScenarioError(f"samples {samples} is negative; 0 looks at every element")
    ruled = rules(version, allocator, conf)
    return usage_of(_bytes(key), _built(value, type, ruled), ruled, samples)


def object_encoding(
    value: Any, *, type: str | None = None, version: str = "7.0", allocator: str = "jemalloc", conf: Conf = None
) -> str:
    """What `OBJECT ENCODING key` would answer; arguments as for `memory_usage`.

    >>> object_encoding(12), object_encoding("a" * 44), object_encoding("a" * 45)
    ('int', 'embstr', 'raw')
    >>> object_encoding({"a"}), object_encoding({"a"}, version="7.2"), object_encoding({1, 2})
    ('hashtable', 'listpack', 'intset')
    """
    return _built(value, type, rules(version, allocator, conf)).encoding


# ---- a value -----------------------------------------------------------------------------------------------------------------


def _bytes(text: Text) -> bytes:
    if isinstance(text, bytes):
        return text
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return str(text).encode()
    raise ScenarioError(f"{text!r} is no key, element or value; give bytes, text or a number")


def _type_of(value: Any) -> str:
    for kind, of_type in (((bytes, str, int, float), "string"), (Mapping, "hash"), ((set, frozenset), "set"), (Sequence, "list")):
        if isinstance(value, kind) and not isinstance(value, bool):
            return of_type
    raise ScenarioError(f"{value!r} is no value of a key; give text, a number, a list, a dict or a set")


def _built(value: Any, of_type: str | None, ruled: Rules) -> RedisObject:
    """The value written by SET, or by RPUSH, HSET, SADD or ZADD of one element after the other."""
    kind = _type_of(value) if of_type is None else of_type
    if kind not in TYPES:
        raise ScenarioError(f"type {kind!r} is not known; use one of {', '.join(TYPES)}{did_you_mean(str(kind), TYPES)}")
    if kind == "string":
        return t_string.set_command(_bytes(value), ruled)
    obj: RedisObject | None = None
    for element in _elements(value, kind):
        obj = _add(obj, kind, element, ruled)
    if obj is None:
        raise ScenarioError(f"an empty {kind} is no key; Redis deletes it")
    return obj


def _elements(value: Any, kind: str) -> Iterable[Any]:
    """Elements as bytes; pairs of a hash or sorted set. Python's sets have no order: theirs is that of the bytes."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ScenarioError(f"a {kind} has elements; {value!r} has none")
    try:
        if kind == "hash":
            return [(_bytes(field), _bytes(text)) for field, text in dict(value).items()]
        if kind == "zset":
            pairs = value.items() if isinstance(value, Mapping) else value
            return [(_bytes(member), float(score)) for member, score in pairs]
    except (TypeError, ValueError):
        pair = "field and value" if kind == "hash" else "member and score"
        raise ScenarioError(f"a {kind} has pairs of {pair}; give a dict") from None
    elements = [_bytes(element) for element in value]
    return sorted(elements) if isinstance(value, (set, frozenset)) else elements


def _add(obj: RedisObject | None, kind: str, element: Any, ruled: Rules) -> RedisObject:
    if kind == "list":
        return t_list.push(obj, [element], ruled, at_head=False)
    if kind == "hash":
        return t_hash.hset(obj, [element], ruled)
    return t_set.sadd(obj, [element], ruled) if kind == "set" else t_zset.zadd(obj, [element], ruled)


# ---- redsim size -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Build:
    """The server asked about; None is the default, and for records what they say. `conf`: `directive=value` each."""

    version: str | None = None
    allocator: str | None = None
    conf: Sequence[str] = ()

    def rules(self) -> Rules:
        return rules(self.version or "7.0", self.allocator or "jemalloc", dict(map(_directive, self.conf)))


def _directive(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ScenarioError(f"--conf {text}: write directive=value, e.g. hash-max-listpack-entries=128")
    return name.strip(), value.strip()


@dataclass(frozen=True, slots=True)
class KeyShape:
    """One key by its lengths: every element of an aggregate is as long as the others, and no number."""

    type: str
    elements: int = 1
    key_bytes: int = 16
    field_bytes: int = 8
    value_bytes: int = 100

    def built(self, ruled: Rules) -> RedisObject:
        """The key's value. ScenarioError where there are more elements than different ones of that length."""
        if self.type == "string":
            return t_string.set_command(text_of_length(0, self.value_bytes)[: self.value_bytes], ruled)
        values = [text_of_length(i, self.value_bytes) for i in range(self.elements)]
        if self.type == "hash":
            return _built({text_of_length(i, self.field_bytes): value for i, value in enumerate(values)}, "hash", ruled)
        return _built(dict(zip(values, range(self.elements), strict=True)) if self.type == "zset" else values, self.type, ruled)


def told(shape: KeyShape, server: Build, records: Path | None, out: Path | None) -> list[str]:
    """What `redsim size` prints of a key or of records. ScenarioError where it is not clear what is asked."""
    if records is None and out is None and shape.type in TYPES:
        return size_lines(shape, server.rules())
    if records is not None and out is not None and not shape.type:
        return [write_sized(records, out, server)]
    if records is not None or out is not None:
        raise ScenarioError("records are sized into a file and alone: redsim size --records FILE --out FILE")
    if shape.type:
        hint = did_you_mean(shape.type, TYPES)
        raise ScenarioError(
            f"{shape.type}: redsim sizes a key of type {', '.join(TYPES)}, a scenario (.yaml), or --records{hint}"
        )
    raise ScenarioError("say what to size: a type such as `redsim size hash --elements 100`, or --records FILE --out FILE")


def size_lines(shape: KeyShape, ruled: Rules) -> list[str]:
    """`redsim size hash --elements 100`: encoding and bytes of one key, for people."""
    obj = shape.built(ruled)
    key = b"k" * shape.key_bytes
    lines = [f"encoding: {obj.encoding}"]
    for samples, said in ((_DEFAULT_SAMPLES, "MEMORY USAGE"), (ALL, "MEMORY USAGE SAMPLES 0")):
        spread = _spread(obj, ruled, samples)
        about = f" on average, standard deviation {spread:,.0f}" if spread else ""
        lines.append(f"{said}: {usage_of(key, obj, ruled, samples):,} bytes{about}")
    return [*lines, f"serializedlength: {serialized_length(obj, ruled.conf.version):,} bytes"]


def _spread(obj: RedisObject, ruled: Rules, samples: int) -> float:
    return hypot(spread_bytes(obj, ruled, samples), tables_spread_bytes(obj))


def _sized(record: Mapping[str, Any], position: int, file_rules: Rules) -> dict[str, Any]:
    ruled = rules_of_key(record, file_rules)
    obj, key = build(record, ruled, position), str(record["key"]).encode()
    sized: dict[str, Any] = {
        "key": record["key"],
        "mem": usage_of(key, obj, ruled, ALL),
        "mem5": usage_of(key, obj, ruled, _DEFAULT_SAMPLES),
        "enc": obj.encoding,
        "slen": serialized_length(obj, ruled.conf.version),
    }
    spreads = {"mem_spread": _spread(obj, ruled, ALL), "mem5_spread": _spread(obj, ruled, _DEFAULT_SAMPLES)}
    return sized | {name: round(spread, 1) for name, spread in spreads.items() if spread}


def sized_records(path: Path, server: Build | None = None) -> Iterator[dict[str, Any]]:
    """{key, mem, mem5, enc, slen} of each record of the file, and where luck decides mem_spread or mem5_spread (bytes)."""
    server = server or Build()
    file = read_records(path)
    file_rules = rules_of(file, server.version, server.allocator, dict(map(_directive, server.conf)))
    for position, record in enumerate(file["data"]["keys"], start=1):
        yield _sized(record, position, file_rules)


def write_sized(records: Path, out: Path, server: Build | None = None) -> str:
    """`redsim size --records FILE --out FILE`; returns what to tell. ScenarioError where a file cannot be read or written."""
    keys = list(sized_records(records, server))
    try:
        out.write_text(json.dumps({"keys": keys}, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ScenarioError(f"{out}: cannot be written ({error.strerror}); give another file with --out") from None
    luck = sum("mem_spread" in key for key in keys)
    why = "as node heights, shared buckets or the end of a rehash are random"
    return f"{out}: {len(keys):,} keys sized; of {luck:,} the bytes are the mean or the likelier number, {why}"
