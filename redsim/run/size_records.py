"""Records of keys, each with the steps that built it, sized as the server that ran them would: `redsim size --records`.

The form is that of tests/recorded/memory_usage.json.gz: `{"meta": {...}, "data": {"keys": [...]}}`, each key with `key`, `type`
and `build` (a list of [command, arguments]); directives in `data.config`, `meta.config` or a key's own `config`. Contents are
made as the recording did: text i of n bytes is `m` and i in base 36, padded with `_`; element i of {"min": a, "max": b, "seed":
s} has a + lcg(s, i) mod (b - a + 1) bytes; a string set by length is text k of key `k<k>____`; what is appended is all `x`.
HDEL and SREM take the first elements of the record's first step.
What was measured (`ht`, `mem`, ...) is not read.
Differs: `chunk` is taken as 16 elements a command, a guess; it matters from 7.2 on, where a list's conversion looks at the
command. Not modelled: other commands than those of the recording; they are refused by name.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from redsim.redis import t_hash, t_list, t_set, t_string, t_zset
from redsim.redis.config import Rules, rules
from redsim.redis.object import RedisObject
from redsim.redis.t_stream import Stream, StreamId
from redsim.scenario.errors import ScenarioError, did_you_mean

__all__ = [
    "allocator_of", "build", "chunked", "elements", "field_value_pairs", "read_records", "rules_of", "rules_of_key",
    "scored_members", "stream_entries", "text_of_length", "version_of", "written",
]  # fmt: skip

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_CHUNK = 16
_STREAM_START_MS, _STREAM_STEP_MS, _STREAM_NAMES = 1_700_000_000_000, 10, 7
_SCORES: dict[str, Callable[[int], float]] = {"j": float, "j.5": lambda j: j + 0.5, "j*1000003": lambda j: j * 1_000_003.0}
_VALUES: dict[str, Callable[[int], int]] = {"j*37": lambda j: j * 37}

Arguments = Mapping[str, Any]
Step = Callable[[RedisObject | None, Arguments, Rules], RedisObject | None]


# ---- contents ----------------------------------------------------------------------------------------------------------------


def _base36(number: int) -> str:
    digits = _DIGITS[number % 36]
    while number >= 36:
        number //= 36
        digits = _DIGITS[number % 36] + digits
    return digits


def text_of_length(number: int, length: int) -> bytes:
    """`m`, the number in base 36, `_` up to `length` bytes; longer if the digits need it."""
    return f"m{_base36(number)}".ljust(length, "_").encode()


def _lcg(seed: int, i: int) -> int:
    return ((seed * 1_000_003 + i) * 2_654_435_761 % 2**32) >> 8


def _texts(spec: Mapping[str, int], count: int) -> list[bytes]:
    low, span = spec["min"], spec["max"] - spec["min"] + 1
    return [text_of_length(i, low + _lcg(spec["seed"], i) % span) for i in range(count)]


def elements(arguments: Arguments) -> list[bytes]:
    """The elements of one step of a list, set or sorted set."""
    count = arguments["n"]
    if "ints_from" in arguments:
        first, step = arguments["ints_from"], arguments.get("step", 1)
        return [b"%d" % (first + i * step) for i in range(count)]
    return _texts(arguments["elem"], count)


def chunked(things: list[Any], mode: str) -> Iterator[list[Any]]:
    """The arguments of each command: all at once, one by one, or in chunks."""
    size = {"one": 1, "bulk": max(1, len(things)), "chunk": _CHUNK}[mode]
    return (things[at : at + size] for at in range(0, len(things), size))


def field_value_pairs(arguments: Arguments) -> list[tuple[bytes, bytes]]:
    """The pairs of an HSET step."""
    fields = _texts(arguments["field"], arguments["n"])
    if "value_ints" not in arguments:
        return list(zip(fields, _texts(arguments["value"], arguments["n"]), strict=True))
    number_of = _VALUES[arguments["value_ints"]]
    return [(field, b"%d" % number_of(j)) for j, field in enumerate(fields)]


def scored_members(arguments: Arguments) -> list[tuple[bytes, float]]:
    """The (member, score) of a ZADD step."""
    score = _SCORES[arguments["score"]]
    return [(member, score(j)) for j, member in enumerate(elements(arguments))]


def stream_entries(arguments: Arguments) -> Iterator[tuple[StreamId, list[tuple[bytes, bytes]]]]:
    """The (ID, pairs) of an XADD step."""
    for j in range(arguments["n"]):
        suffix = "" if arguments["field_names"] == "f<f>" else f"_{j % _STREAM_NAMES}"
        value = text_of_length(j, arguments["value_len"])
        yield (_STREAM_START_MS + _STREAM_STEP_MS * j, 0), [(f"f{f}{suffix}".encode(), value) for f in range(arguments["fields"])]


def written(command: str, arguments: Arguments) -> bytes:
    """What a string step writes: its value; or a text of that length, after a SET (SETEX) the key's own, else `x`."""
    if "value" in arguments:
        return str(arguments["value"]).encode()
    if command in ("SET", "SETEX"):
        return text_of_length(arguments["number"], arguments["len"])[: arguments["len"]]
    return b"x" * int(arguments["len"])


# ---- the steps ---------------------------------------------------------------------------------------------------------------


def _push(obj: RedisObject | None, arguments: Arguments, rules: Rules, *, at_head: bool) -> RedisObject | None:
    for some in chunked(elements(arguments), arguments["mode"]):
        obj = t_list.push(obj, some, rules, at_head=at_head)
    return obj


def _hset(obj: RedisObject | None, arguments: Arguments, rules: Rules) -> RedisObject | None:
    for pairs in chunked(field_value_pairs(arguments), arguments["mode"]):
        obj = t_hash.hset(obj, pairs, rules)
    return obj


def _hdel(obj: RedisObject, arguments: Arguments, rules: Rules) -> RedisObject | None:
    return t_hash.hdel(obj, t_hash.fields_of(obj)[: arguments["first"]], rules)


def _sadd(obj: RedisObject | None, arguments: Arguments, rules: Rules) -> RedisObject | None:
    if "value" in arguments:
        return t_set.sadd(obj, [written("SADD", arguments)], rules)
    for members in chunked(elements(arguments), arguments["mode"]):
        obj = t_set.sadd(obj, members, rules)
    return obj


def _zadd(obj: RedisObject | None, arguments: Arguments, rules: Rules) -> RedisObject | None:
    for some in chunked(scored_members(arguments), arguments["mode"]):
        obj = t_zset.zadd(obj, some, rules)
    return obj


def _xadd(obj: RedisObject | None, arguments: Arguments, rules: Rules) -> RedisObject:
    stream = obj.value if obj else Stream(rules.limit("stream-node-max-bytes"), rules.limit("stream-node-max-entries"))
    for entry_id, pairs in stream_entries(arguments):
        stream.xadd(entry_id, pairs)
    return RedisObject("stream", "stream", stream)


def _xgroup(obj: RedisObject, arguments: Arguments, _rules: Rules) -> RedisObject:
    for g in range(arguments["groups"]):
        obj.value.xgroup_create(b"g%d" % g)
        if arguments["read_by_c0"]:
            obj.value.xreadgroup(b"g%d" % g, b"c0", arguments["read_by_c0"], now_ms=_STREAM_START_MS)
    return obj


def _xtrim(obj: RedisObject, arguments: Arguments, _rules: Rules) -> RedisObject:
    obj.value.xtrim_maxlen(arguments["maxlen"])
    return obj


_STEPS: dict[str, Step] = {
    "SET": lambda _obj, a, rules: t_string.set_command(written("SET", a), rules),
    "SETEX": lambda _obj, a, rules: t_string.set_command(written("SETEX", a), rules),
    "APPEND": lambda obj, a, rules: t_string.append_command(obj, written("APPEND", a), rules),
    "SETRANGE": lambda obj, a, rules: t_string.setrange(obj, a["offset"], written("SETRANGE", a), rules),
    "SETBIT": lambda obj, a, rules: t_string.setbit(obj, a["bit"], rules),
    "INCRBY": lambda obj, a, _rules: t_string.incrby(obj, int(a["value"])),
    "INCRBYFLOAT": lambda obj, a, rules: t_string.incrbyfloat(obj, str(a["value"]).encode(), rules),
    "LPUSH": lambda obj, a, rules: _push(obj, a, rules, at_head=True),
    "RPUSH": lambda obj, a, rules: _push(obj, a, rules, at_head=False),
    "HSET": _hset,
    "SADD": _sadd,
    "ZADD": _zadd,
    "XADD": _xadd,
}
_STEPS_ON_A_KEY: dict[str, Callable[[RedisObject, Arguments, Rules], RedisObject | None]] = {
    "LPOP": lambda obj, a, rules: t_list.lpop(obj, a["count"], rules),
    "HDEL": _hdel,
    "SREM": lambda obj, a, _rules: t_set.srem(obj, elements(a["made"])[: a["first"]]),
    "ZREMRANGEBYRANK": lambda obj, a, _rules: t_zset.zremrangebyrank(obj, 0, a["first"]),
    "XGROUP": _xgroup,
    "XTRIM": _xtrim,
}


def _taken(obj: RedisObject | None, command: str, arguments: Arguments, rules: Rules) -> RedisObject | None:
    if command in _STEPS:
        return _STEPS[command](obj, arguments, rules)
    if command not in _STEPS_ON_A_KEY:
        known = {**_STEPS, **_STEPS_ON_A_KEY}
        raise ScenarioError(f"{command} is not a step of a record; use {', '.join(known)}{did_you_mean(command, known)}")
    if obj is None:
        raise ScenarioError(f"{command} finds no key; a record starts with a command that makes one")
    return _STEPS_ON_A_KEY[command](obj, arguments, rules)


def build(record: Arguments, rules: Rules, position: int = 0) -> RedisObject:
    """The value that the record's steps leave. ScenarioError, naming the key, where they are not understood or leave none."""
    name = str(record.get("key", f"key {position}"))
    numbered = re.fullmatch(r"k(\d+)_*", name)
    number = int(numbered[1]) if numbered else position
    obj: RedisObject | None = None
    try:
        made = record["build"][0][1] if record["build"] else {}
        for command, arguments in record["build"]:
            obj = _taken(obj, command, {"number": number, "made": made, **arguments}, rules)
    except ScenarioError as error:
        raise ScenarioError(f"{name}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ScenarioError(f"{name}: its build cannot be read ({error!r}); see the records of the recording") from None
    if obj is None:
        raise ScenarioError(f"{name}: its build leaves no key")
    return obj


# ---- files -------------------------------------------------------------------------------------------------------------------


def read_records(path: Path) -> dict[str, Any]:
    """The file's object; ScenarioError if it is no JSON with data.keys[]."""
    try:
        file = json.loads(path.read_text(encoding="utf-8"))
        keys = file["data"]["keys"]
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read ({error})") from None
    except (ValueError, KeyError, TypeError):
        raise ScenarioError(f"{path}: is no JSON of records; it needs data.keys[]") from None
    if not isinstance(keys, list) or not all(isinstance(record, dict) and {"key", "build"} <= set(record) for record in keys):
        raise ScenarioError(f"{path}: data.keys is no list of records with a key and a build")
    return dict(file)


def allocator_of(file: Mapping[str, Any]) -> str:
    """The allocator of the server that made the recording, by its `redis-server --version`; Redis' own where it does not say."""
    said = str(file.get("meta", {}).get("host", {}).get("redis", ""))
    if "malloc=libc" in said:
        return "libc"
    return "jemalloc-debian" if re.search(r"v=7\.0\.\d+ .*malloc=jemalloc-5\.3", said) else "jemalloc"


def version_of(file: Mapping[str, Any]) -> str:
    """The release of that server; 7.0 where the recording does not say."""
    found = re.search(r"v=(\d+\.\d+)", str(file.get("meta", {}).get("host", {}).get("redis", "")))
    return found[1] if found else "7.0"


def rules_of(
    file: Mapping[str, Any], version: str | None = None, allocator: str | None = None, conf: Mapping[str, str] | None = None
) -> Rules:
    """The recording's rules: its version, allocator and directives, unless told otherwise."""
    config = {**file.get("meta", {}).get("config", {}), **file["data"].get("config", {}), **(conf or {})}
    return rules(version or version_of(file), allocator or allocator_of(file), config)


def rules_of_key(record: Arguments, file_rules: Rules) -> Rules:
    """The key's own `config` on top of the recording's."""
    own = file_rules.conf
    for directive, value in record.get("config", {}).items():
        own = own.with_override(directive, value)
    return file_rules if own is file_rules.conf else Rules(own, file_rules.allocator)
