"""O(N) commands over several sizes: what a big key, a big answer or a big database costs inside the command.

Each point is usec of commandstats around a few calls on an object built by a script in the server (members in order, so that the
walk of a hash table jumps through memory as a real one does). A point is the whole, less the command's constant.

    elements 10 .. 1,000,000   ->  total ns          `lookup`, `zadd`: ns more than on a hot key, by keys or members

Between two calls the server answers a few thousand GETs of other keys: a walk that finds its object in the cache because it has
just walked it is several times cheaper than any that users meet (KEYS over 10,000 keys: 12 ns a key back to back, 40 to 70
between others' commands).

`value` is the difference that a value inside its robj makes: see redsim/run/lookups.py for how both are used.

Not modelled: element sizes other than the 16 bytes used here; a table in mid-rehash.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from redsim.lab.costs import DEPTH, SMALL_BYTES, STIR_KEYS, VALUE_BYTES, Bench, key
from redsim.lab.wire import pack
from redsim.units import S

Rows = list[list[int]]  # n, ns, low, high
Progress = Callable[[float], None]

CALLS_NS = S // 10  # a point is measured for about this long, in each repeat
CALLS_MAX = 5
RANDOM_KEYS = 20_000  # GETs of each point of `lookup`

BUILD = """
local k, n, how = KEYS[1], tonumber(ARGV[1]), ARGV[2]
local t = {}
for i = 0, n - 1 do
  if how == 'HSET' then t[#t + 1] = string.format('f%08d', i); t[#t + 1] = string.format('v%08d', i)
  elseif how == 'ZADD' then t[#t + 1] = (i * 7919) % n; t[#t + 1] = string.format('member:%09d', i)
  elseif how == 'NUMBERS' then t[#t + 1] = (i * 7919) % n
  else t[#t + 1] = string.format('member:%09d', i + ARGV[3]) end
  if #t >= 1000 or i == n - 1 then
    redis.call(how == 'NUMBERS' and 'RPUSH' or how, k, unpack(t)); t = {}
  end
end
return n"""


def sizes(bench: Bench, *, first: int = 10) -> list[int]:
    """10, 1k, 10k, … up to what the bench allows."""
    return [n for n in (first, 1000, 10_000, 100_000, 1_000_000) if n <= bench.elements_max]


def build(bench: Bench, name: str, how: str, n: int, offset: int = 0) -> None:
    """Key `name` anew, of `n` elements: SADD, RPUSH, HSET, ZADD, or NUMBERS (a list of integers to sort)."""
    bench.server.redis.unlink(key(name).decode())
    bench.server.redis.eval(BUILD, 1, key(name).decode(), n, how, offset)


def point(bench: Bench, name: str, request: bytes, before: Callable[[], object] | None = None) -> list[float]:
    """ns per call of `request`, `repeats` times, other keys' GETs between the calls; `before` runs ahead of every call, and then
    there is one call a repeat."""
    if before is not None:
        out = []
        for _ in range(bench.repeats):
            before()
            bench.cool()
            out += _once(bench, name, request)
        return out
    calls = int(min(max(CALLS_NS / max(_once(bench, name, request)[0], 100), 1), CALLS_MAX))
    return bench.stirred_ns(name, request, calls)


def _once(bench: Bench, name: str, request: bytes) -> list[float]:
    before = bench.usec(name)
    bench.wire.ask(request, 1)
    return [bench.since_ns(name, before)]


def row(n: int, ns: list[float], less: float = 0.0) -> list[int]:
    """[n, median, low, high] of `ns` less `less`, whole and not negative."""
    return [n, *(max(0, round(value - less)) for value in (float(np.median(ns)), min(ns), max(ns)))]


# ---- big keys ------------------------------------------------------------------------------------------------------

READS: dict[str, tuple[str, str, list[Any]]] = {  # curve -> built by, command, arguments behind the key
    "smembers": ("SADD", "SMEMBERS", []),
    "hgetall": ("HSET", "HGETALL", []),
    "lrange": ("RPUSH", "LRANGE", [0, -1]),
    "zrange": ("ZADD", "ZRANGE", [0, -1]),
    "sort": ("NUMBERS", "SORT", []),
}
DELETES = {"del_list": "RPUSH", "del_set": "SADD", "del_hash": "HSET", "del_zset": "ZADD"}


def big_keys(bench: Bench, const_ns: dict[str, int], progress: Progress) -> dict[str, Rows]:
    """Curves over the elements of a key: reading it whole, SUNION of two, DEL, and ZADD into it.

    `const_ns`: each command's constant, already measured, which the points do not include.
    """
    out: dict[str, Rows] = {name: [] for name in (*READS, "sunion", *DELETES, "zadd")}
    todo = sizes(bench)
    bench.settle()
    for i, n in enumerate(todo):
        for curve, (how, command, arguments) in READS.items():
            build(bench, "big", how, n)
            out[curve].append(row(n, point(bench, command, pack(command, key("big"), *arguments)), const_ns[command]))
        build(bench, "big", "SADD", n)
        build(bench, "other", "SADD", n, n)
        union = point(bench, "SUNION", pack("SUNION", key("big"), key("other")))
        out["sunion"].append(row(2 * n, union, const_ns["SUNION"]))
        for curve, how in DELETES.items():
            if n >= 1000:
                ns = point(bench, "DEL", pack("DEL", key("big")), lambda how=how, n=n: build(bench, "big", how, n))  # type: ignore[misc]
                out[curve].append(row(n, ns, const_ns["DEL"]))
        out["zadd"].append(_zadd(bench, n))
        progress((i + 1) / len(todo))
    bench.forget()
    base = out["zadd"][0][1]
    out["zadd"] = [[1, 0, 0, 0], *([n, *(max(0, v - base) for v in ns)] for n, *ns in out["zadd"][1:])]
    return out


def _zadd(bench: Bench, n: int) -> list[int]:
    """ZADD of a new score for members all over a sorted set of `n`."""
    build(bench, "big", "ZADD", n)
    step = max(1, n * 618 // 1000)
    requests = [pack("ZADD", key("big"), (i * step * 31) % n, f"member:{i * step % n:09d}") for i in range(1600)]
    return row(n, bench.varied_ns("ZADD", requests))


# ---- the database --------------------------------------------------------------------------------------------------


def database(bench: Bench, const_ns: dict[str, int], rng: np.random.Generator, progress: Progress) -> dict[str, Rows]:
    """Curves over the keys of the database, only on a server of our own: KEYS, SCAN, FLUSHALL, and what a look-up costs more."""
    assert bench.is_own
    redis = bench.server.redis
    out: dict[str, Rows] = {name: [] for name in ("keys_walk", "keys_match", "scan", "flushall", "lookup")}
    out["lookup"].append([1, 0, 0, 0])
    embedded: Rows = []
    smaller: dict[int, float] = {}
    todo = [n for n in (1000, 10_000, 100_000, 1_000_000, 4_000_000) if n <= 4 * bench.elements_max]
    for i, n in enumerate(todo):
        each_bytes = populate(bench, n, SMALL_BYTES)
        embedded.append(_lookup(bench, n, rng))
        smaller[n] = each_bytes / populate(bench, n)
        out["lookup"].append(_lookup(bench, n, rng))
        if n <= bench.elements_max:
            walk = point(bench, "KEYS", pack("KEYS", "nomatch*"))
            out["keys_walk"].append(row(n, walk, const_ns["KEYS"]))
            out["keys_match"].append(row(n, point(bench, "KEYS", pack("KEYS", "*")), const_ns["KEYS"] + float(np.median(walk))))
            out["flushall"].append(row(n, point(bench, "FLUSHALL", pack("FLUSHALL", "SYNC"), lambda n=n: populate(bench, n)),  # type: ignore[misc]
                                       const_ns["FLUSHALL"]))  # fmt: skip
        progress((i + 0.8) / len(todo))
    populate(bench, min(bench.elements_max, 1_000_000))
    for count in sizes(bench):
        out["scan"].append(row(count, _scan(bench, count), const_ns["SCAN"]))
    redis.flushall()
    return {**out, "value": _value(out["lookup"], embedded, smaller)}


def populate(bench: Bench, n: int, value_bytes: int = VALUE_BYTES) -> float:
    """The database holds `n` string keys `key:0` … with values of so many bytes and nothing else. Needs DEBUG. Returns the bytes
    of each, as used_memory has them."""
    redis = bench.server.redis
    redis.flushall()
    before = int(redis.info("memory")["used_memory"])
    redis.execute_command("DEBUG", "POPULATE", n, "key", value_bytes)
    bench.stirs = tuple(b"key:%d" % i for i in range(min(n, STIR_KEYS)))
    return max(int(redis.info("memory")["used_memory"]) - before, 1) / n


def _lookup(bench: Bench, n: int, rng: np.random.Generator) -> list[int]:
    """GET of keys drawn from all `n`, others in each repeat, less GET of one of them again and again."""
    hot = float(np.median(bench.per_call_ns("GET", [pack("GET", "key:0")] * DEPTH)))
    ns: list[float] = []
    for _ in range(bench.repeats):
        ns.append(bench.pass_ns("GET", [pack("GET", b"key:%d" % k) for k in rng.integers(0, n, RANDOM_KEYS)]))
    return row(n, ns, hot)


def _value(lookup: Rows, embedded: Rows, smaller: dict[int, float]) -> Rows:
    """What of a look-up is reading a value that is an allocation of its own: `lookup` (values of 100 bytes) at as many keys as
    take the bytes of those of `embedded` (3 bytes), less that. `smaller`: bytes of one of these keys over one of those."""
    counts, known = [n for n, *_ in lookup], [ns for _, ns, *_ in lookup]
    out: Rows = [[1, 0, 0, 0]]
    for n, *ns in embedded:
        alike = max(n * smaller[n], 1.0)
        there = float(np.interp(np.log2(alike), np.log2(counts), known))
        middle, low, high = (max(round(there - value), 0) for value in (ns[0], ns[2], ns[1]))
        out.append([round(alike), middle, low, high])
    return out


def _scan(bench: Bench, count: int) -> list[float]:
    """SCAN COUNT n from cursors all along the keyspace: some calls one after the other, as a user's loop makes them."""
    redis, out, cursor = bench.server.redis, [], 0
    for _ in range(bench.repeats):
        before = bench.usec("SCAN")
        for _ in range(max(1, min(100, 200_000 // count))):
            cursor, _ = redis.scan(cursor, count=count)
        out.append(bench.since_ns("SCAN", before))
    return out
