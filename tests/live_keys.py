"""Keys nobody recorded: drawn at random in the form of the recorded ones, and built on a real server command by command."""

from typing import Any

import numpy as np
import redis

from redsim.run.size_records import chunked, elements, field_value_pairs, scored_members, stream_entries, written

LENGTHS = (
    0,
    1,
    4,
    12,
    20,
    30,
    31,
    32,
    43,
    44,
    45,
    62,
    63,
    64,
    65,
    100,
    127,
    128,
    250,
    253,
    254,
    300,
    1000,
    4090,
    4096,
    8185,
    9000,
)
COUNTS = (1, 2, 3, 4, 5, 8, 9, 16, 17, 33, 64, 100, 127, 128, 129, 130, 200, 255, 257, 400, 511, 512, 513, 600, 700, 1025, 1500)
CONFS: dict[str, tuple[int, ...]] = {
    "hash-max-listpack-entries": (512, 128, 0, 5),
    "hash-max-listpack-value": (64, 20, 300),
    "set-max-intset-entries": (512, 16, 0),
    "zset-max-listpack-entries": (128, 512, 0, 7),
    "zset-max-listpack-value": (64, 20, 300),
    "list-max-listpack-size": (-2, -1, -3, -5, 128, 1, 7, 1000, 0),
    "list-compress-depth": (0, 1, 2),
    "stream-node-max-bytes": (4096, 0, 300),
    "stream-node-max-entries": (100, 0, 7),
}


def draw_conf(rng: np.random.Generator) -> dict[str, int]:
    """Each directive at its default half the time."""
    return {name: values[0] if rng.random() < 0.5 else int(rng.choice(values)) for name, values in CONFS.items()}


def _spec(rng: np.random.Generator, longest: int) -> dict[str, int]:
    low = int(rng.choice([n for n in LENGTHS if 0 < n <= longest]))
    width = 0 if rng.random() < 0.4 else int(rng.integers(0, 1 + min(longest - low, int(rng.choice([8, 40, 1000])))))
    return {"min": low, "max": low + width, "seed": int(rng.integers(1, 10_000))}


def _count(rng: np.random.Generator) -> int:
    return int(rng.choice(COUNTS)) if rng.random() < 0.5 else int(rng.integers(1, 700))


def _mode(rng: np.random.Generator) -> str:
    return str(rng.choice(["one", "bulk", "chunk"]))


def _removal(rng: np.random.Generator, command: str, argument: str, count: int) -> list[list[Any]]:
    return [[command, {argument: int(rng.integers(1, count))}]] if count > 1 and rng.random() < 0.3 else []


def _string(rng: np.random.Generator) -> list[list[Any]]:
    length = int(rng.choice([*LENGTHS, 16_000, 32_766, 32_767, 32_768, 40_000, 65_530, 70_000, 200_000]))
    number = str(
        rng.choice(["0", "7", "9999", "10000", "-1", "2147483648", "9223372036854775807", "9223372036854775808", "01", "1.5"])
    )
    start: list[list[Any]] = [["SET", {"len": length} if rng.random() < 0.6 else {"value": number}]]
    kind = rng.random()
    if kind < 0.5:
        return start
    if kind < 0.7:
        return start + [["APPEND", {"len": int(rng.integers(1, 3000))}] for _ in range(int(rng.integers(1, 12)))]
    offset, short = int(rng.integers(0, 500)), int(rng.integers(1, 100))
    first = start if rng.random() < 0.5 else []
    other = [
        ["SETRANGE", {"offset": offset, "len": short}],
        ["SETBIT", {"bit": 8 * offset + 3}],
        ["INCRBYFLOAT", {"value": "10.5"}],
    ]
    if kind > 0.95:
        return [["INCRBY", {"value": str(offset)}]]
    return [*first, other[int(rng.integers(0, 2 if first else 3))]]


def _list(rng: np.random.Generator) -> list[list[Any]]:
    count = _count(rng)
    what = {"ints_from": int(rng.choice([0, 5000, 10**9, 10**15]))} if rng.random() < 0.25 else {"elem": _spec(rng, 20_000)}
    push = ["LPUSH" if rng.random() < 0.4 else "RPUSH", {"n": count, "mode": _mode(rng), **what}]
    return [push, *_removal(rng, "LPOP", "count", count)]


def _hash(rng: np.random.Generator) -> list[list[Any]]:
    count = _count(rng)
    value: dict[str, Any] = {"value_ints": "j*37"} if rng.random() < 0.3 else {"value": _spec(rng, 300)}
    put = ["HSET", {"n": count, "mode": _mode(rng), "field": _spec(rng, 100), **value}]
    return [put, *_removal(rng, "HDEL", "first", count)]


def _set(rng: np.random.Generator) -> list[list[Any]]:
    count = _count(rng)
    if rng.random() < 0.5:
        what: dict[str, Any] = {"ints_from": int(rng.choice([0, -100, 32_000, 2**31 - 10])), "step": int(rng.choice([1, 3]))}
    else:
        what = {"elem": _spec(rng, 4000)}
    put = ["SADD", {"n": count, "mode": _mode(rng), **what}]
    other = [["SADD", {"value": "notint"}]] if rng.random() < 0.1 else []
    return [put, *other, *_removal(rng, "SREM", "first", count)]


def _zset(rng: np.random.Generator) -> list[list[Any]]:
    count = _count(rng)
    score = str(rng.choice(["j", "j.5", "j*1000003"]))
    return [
        ["ZADD", {"n": count, "mode": _mode(rng), "elem": _spec(rng, 300), "score": score}],
        *_removal(rng, "ZREMRANGEBYRANK", "first", count),
    ]


def _stream(rng: np.random.Generator) -> list[list[Any]]:
    count = _count(rng)
    add = {"n": count, "fields": int(rng.integers(1, 5)), "field_names": str(rng.choice(["f<f>", "f<f>_<j%7>"]))}
    add |= {"value_len": int(rng.choice([8, 100, 400])), "ids": "1700000000000+10*j - 0"}
    groups = (
        [["XGROUP", {"groups": int(rng.integers(1, 4)), "read_by_c0": int(rng.integers(1, 70))}]] if rng.random() < 0.4 else []
    )
    return [["XADD", add], *groups, *_removal(rng, "XTRIM", "maxlen", count)]


_KINDS = {"string": _string, "list": _list, "hash": _hash, "set": _set, "zset": _zset, "stream": _stream}


def draw_record(rng: np.random.Generator, number: int, kind: str | None = None) -> dict[str, Any]:
    """One record without what a server would say of it."""
    kind = kind or str(rng.choice(list(_KINDS)))
    key_bytes = int(rng.choice([5, 13, 14, 30, 31, 32, 40, 60, 100, 250, 256]))
    key = f"k{number}".ljust(key_bytes, "_")
    return {"key": key, "klen": len(key), "type": kind, "build": _KINDS[kind](rng), "ttl": bool(rng.random() < 0.3)}


# ---- the same on a server ----------------------------------------------------------------------------------------------------


def _commands(key: str, number: int, command: str, arguments: dict[str, Any]) -> list[list[Any]]:
    """What is sent for one step; SREM and its kin are told by the caller, who knows the members."""
    given = {"number": number, **arguments}
    if command in ("SET", "APPEND"):
        return [[command, key, written(command, given)]]
    if command == "SETRANGE":
        return [[command, key, arguments["offset"], written(command, given)]]
    if command == "SETBIT":
        return [[command, key, arguments["bit"], 1]]
    if command in ("INCRBY", "INCRBYFLOAT"):
        return [[command, key, arguments["value"]]]
    if command in ("LPUSH", "RPUSH") or (command == "SADD" and "n" in arguments):
        return [[command, key, *some] for some in chunked(elements(arguments), arguments["mode"])]
    if command == "SADD":
        return [[command, key, arguments["value"]]]
    if command == "HSET":
        return [[command, key, *sum(some, ())] for some in chunked(field_value_pairs(arguments), arguments["mode"])]
    if command == "ZADD":
        return [
            [command, key, *(part for member, score in some for part in (score, member))]
            for some in chunked(scored_members(arguments), arguments["mode"])
        ]
    if command == "XADD":
        return [[command, key, f"{ms}-{seq}", *sum(pairs, ())] for (ms, seq), pairs in stream_entries(arguments)]
    return [_removing(key, command, arguments)]


def _removing(key: str, command: str, arguments: dict[str, Any]) -> list[Any]:
    if command == "LPOP":
        return [command, key, arguments["count"]]
    if command == "ZREMRANGEBYRANK":
        return [command, key, 0, arguments["first"] - 1]
    assert command == "XTRIM"
    return [command, key, "MAXLEN", arguments["maxlen"]]


def replay(client: "redis.Redis[bytes]", record: dict[str, Any], number: int) -> None:
    """Builds the record's key on the server; each command waits for the one before."""
    key, made = record["key"], record["build"][0][1]
    for command, arguments in record["build"]:
        if command == "HDEL":
            client.hdel(key, *(field for field, _ in field_value_pairs(made)[: arguments["first"]]))
        elif command == "SREM":
            client.srem(key, *elements(made)[: arguments["first"]])
        elif command == "XGROUP":
            for g in range(arguments["groups"]):
                client.xgroup_create(key, f"g{g}", 0)
                client.xreadgroup(f"g{g}", "c0", {key: ">"}, count=arguments["read_by_c0"])
        else:
            for sent in _commands(key, number, command, arguments):
                client.execute_command(*sent)
    if record["ttl"]:
        client.expire(key, 100_000)


def measured(client: "redis.Redis[bytes]", key: str) -> dict[str, Any]:
    """What the server says: enc, mem (SAMPLES 0), mem5, slen."""
    told = client.execute_command("DEBUG", "OBJECT", key)
    length = told["serializedlength"] if isinstance(told, dict) else int(str(told).split("serializedlength:")[1].split()[0])
    return {
        "enc": client.object("encoding", key).decode(),
        "mem": client.memory_usage(key, samples=0),
        "mem5": client.memory_usage(key),
        "slen": int(length),
    }
