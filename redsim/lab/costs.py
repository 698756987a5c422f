"""What each command costs inside its own function: commandstats' usec, by calls, bytes and elements.

Each figure is a difference of commandstats (calls and usec) around a burst of one command on one connection, pipelined by 16.
Redis sums differences of a microsecond clock; over many calls the truncation cancels, so the mean is fair below 1 us.
The law of a command is measured on a hot key of a nearly empty database; what a large key space adds is the curve `lookup`, and
what long values and big keys add are slopes and curves (cost_curves.py).

    usec(1 key or element) -> const_ns     usec(10) -> extra_ns     usec(16 KiB value) -> in_ps, out_ps

Not modelled: how much colder a command is that comes alone (measured here as `cold` on one hot key for the record;
the profile's first_ns is solved from the points of the fit, over many keys).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from redsim.lab.probes import Figure, figure
from redsim.lab.rig import RealServer
from redsim.lab.wire import OwnWire, TheirWire, Wire, joined, pack
from redsim.units import KIB

PREFIX = "redsim:{calibrate}:"  # with a hash tag, so that a cluster keeps our keys together
DEPTH = 16  # commands in one write, as the fit's pipelined point
MANY = 10  # keys or elements of the second point that gives extra_ns
BIG_BYTES = 16 * KIB
SMALL_BYTES = 3
VALUE_BYTES = 100  # of the keys whose GETs come between two calls, and of a populated database
STIR_KEYS, STIR_GETS = 20_000, 4096
LAW_FLOOR_NS = 20  # what a slope may leave for the constant


@dataclass
class Bench:
    """One server being measured. `is_own`: we started it and may flush it. `calls` per figure and repeat."""

    server: RealServer
    is_own: bool
    calls: int = 16_000
    repeats: int = 3
    elements_max: int = 1_000_000
    stirs: tuple[bytes, ...] = ()  # keys that stir() asks for
    wire: Wire = field(init=False)
    _stirred: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.wire = OwnWire(self.server.port) if self.is_own else TheirWire(self.server)

    def settle(self) -> None:
        """Keys of ours for stir()."""
        self.stirs = tuple(key(f"stir:{i}") for i in range(STIR_KEYS))
        for i in range(0, STIR_KEYS, STIR_GETS):
            writes = [pack("SET", name, value(VALUE_BYTES)) for name in self.stirs[i : i + STIR_GETS]]
            self.wire.ask(joined(writes), len(writes))

    def stir(self) -> None:
        """Others' commands: GETs of a few thousand keys, spread over all of them, so that what comes next finds no warm cache."""
        if self.stirs:
            self._stirred += 1
            picked = [self.stirs[(self._stirred * 7919 + i * 4099) % len(self.stirs)] for i in range(STIR_GETS)]
            self.wire.ask(joined(pack("GET", name) for name in picked), len(picked))

    def cool(self) -> None:
        """What makes a rare command dear: stir(), and no memory left over from the last time, so that a long reply or a big
        table meets fresh pages as it does in a server that was asked for it once. Purging on our own server only."""
        self.stir()
        if self.is_own:
            self.server.redis.execute_command("MEMORY", "PURGE")

    def stirred_ns(self, name: str, request: bytes, calls: int) -> list[float]:
        """ns inside command `name` per call of `request`, each after a cool(), `repeats` times."""
        out = []
        for _ in range(self.repeats):
            before = self.usec(name)
            for _ in range(calls):
                self.cool()
                self.wire.ask(request, 1)
            out.append(self.since_ns(name, before))
        return out

    def usec(self, name: str) -> tuple[int, int]:
        """(calls, usec) of a command so far; (0, 0) if it never ran. `DEBUG SLEEP` counts as DEBUG."""
        rows: dict[str, Any] = self.server.redis.info("commandstats")
        row = rows.get(f"cmdstat_{name.split()[0].lower()}")
        return (int(row["calls"]), int(row["usec"])) if row else (0, 0)

    def since_ns(self, name: str, before: tuple[int, int]) -> float:
        """ns inside command `name` per call since usec() said `before`."""
        after = self.usec(name)
        return 1000 * (after[1] - before[1]) / max(after[0] - before[0], 1)

    def per_call_ns(self, name: str, requests: list[bytes], calls: int | None = None) -> list[float]:
        """ns inside command `name` per call, `repeats` times. `requests` (16 or fewer) go out as one write, over and over;
        they may hold other commands too, which set the scene and are not counted."""
        data, out = joined(requests), []
        own = max(sum(_is_of(name, request) for request in requests), 1)
        rounds = max(1, (calls or self.calls) // own)
        for _ in range(self.repeats):
            before = self.usec(name)
            for _ in range(rounds):
                self.wire.ask(data, len(requests))
            out.append(self.since_ns(name, before))
        return out

    def varied_ns(self, name: str, requests: list[bytes]) -> list[float]:
        """The same of many different requests, 16 in a write, all of them once in each repeat."""
        return [self.pass_ns(name, requests) for _ in range(self.repeats)]

    def pass_ns(self, name: str, requests: list[bytes]) -> float:
        """ns inside command `name` per call of these requests, 16 in a write, each once."""
        before = self.usec(name)
        for i in range(0, len(requests), DEPTH):
            write = requests[i : i + DEPTH]
            self.wire.ask(joined(write), len(write))
        return self.since_ns(name, before)

    def forget(self) -> None:
        """Delete every key of ours."""
        keys = list(self.server.redis.scan_iter(match=PREFIX + "*", count=1000))
        for i in range(0, len(keys), 1000):
            self.server.redis.unlink(*keys[i : i + 1000])

    def close(self) -> None:
        """Delete our keys, end the connection."""
        if not self.is_own:
            self.forget()
        self.wire.close()


def _is_of(name: str, request: bytes) -> bool:
    return request.split(b"\r\n", 3)[2].upper() == name.split()[0].encode()


def key(name: str) -> bytes:
    """A key of ours."""
    return (PREFIX + name).encode()


def value(size: int) -> bytes:
    """A value of `size` bytes that is no integer."""
    return (b"vxw" * (size // 3 + 1))[:size]


# ---- laws ----------------------------------------------------------------------------------------------------------

# name -> the requests of one write, with n keys or elements of `size` bytes; those of other names set the scene
Scene = Callable[[int, int], list[bytes]]


def _names(n: int) -> list[bytes]:
    return [key(f"many:{i}") for i in range(n)]


def _pairs(n: int, size: int) -> list[bytes]:
    return [word for name in _names(n) for word in (name, value(size))]


def _fields(n: int, size: int) -> list[bytes]:
    return [word for i in range(n) for word in (b"f%05d" % i, value(size))]


def _scores(n: int, size: int) -> list[bytes]:
    return [word for i in range(n) for word in (b"%d" % i, _member(i, size))]


def _member(i: int, size: int) -> bytes:
    return b"m%05d" % i + value(max(size - 6, 0))


def _again(*requests: bytes) -> list[bytes]:
    return list(requests) * max(1, DEPTH // len(requests))


def _hot(size: int) -> bytes:
    return pack("SET", key("hot"), value(size))


SCENES: dict[str, Scene] = {
    "PING": lambda n, size: _again(pack("PING")),
    "GET": lambda n, size: [_hot(size), *_again(pack("GET", key("hot")))[1:]],
    "SET": lambda n, size: _again(_hot(size)),
    "DEL": lambda n, size: _again(pack("MSET", *_pairs(n, size)), pack("DEL", *_names(n))),
    "UNLINK": lambda n, size: _again(pack("MSET", *_pairs(n, size)), pack("UNLINK", *_names(n))),
    "EXISTS": lambda n, size: [pack("MSET", *_pairs(n, size)), *_again(pack("EXISTS", *_names(n)))[1:]],
    "EXPIRE": lambda n, size: [_hot(size), *_again(pack("EXPIRE", key("hot"), 10_000))[1:]],
    "INCR": lambda n, size: _again(pack("INCR", key("number"))),
    "APPEND": lambda n, size: [pack("SET", key("grows"), b""), *_again(pack("APPEND", key("grows"), value(size)))[1:]],
    "MGET": lambda n, size: [pack("MSET", *_pairs(n, size)), *_again(pack("MGET", *_names(n)))[1:]],
    "MSET": lambda n, size: _again(pack("MSET", *_pairs(n, size))),
    "DBSIZE": lambda n, size: _again(pack("DBSIZE")),
    "LPUSH": lambda n, size: [pack("UNLINK", key("list")), *_again(pack("LPUSH", key("list"), *[value(size)] * n))[1:]],
    "LPOP": lambda n, size: _again(pack("RPUSH", key("list"), *[value(size)] * (n + 1)), pack("LPOP", key("list"), n),
                                   pack("UNLINK", key("list"))),
    "LRANGE": lambda n, size: [pack("UNLINK", key("list")), pack("RPUSH", key("list"), *[value(size)] * n),
                               *_again(pack("LRANGE", key("list"), 0, -1))[2:]],
    "HSET": lambda n, size: _again(pack("HSET", key("hash"), *_fields(n, size))),
    "HGET": lambda n, size: [pack("UNLINK", key("hash")), pack("HSET", key("hash"), *_fields(n, size)),
                             *_again(pack("HGET", key("hash"), "f00000"))[2:]],
    "HGETALL": lambda n, size: [pack("UNLINK", key("hash")), pack("HSET", key("hash"), *_fields(n, size)),
                                *_again(pack("HGETALL", key("hash")))[2:]],
    "SADD": lambda n, size: _again(pack("SADD", key("set"), *[_member(i, size) for i in range(n)])),
    "SMEMBERS": lambda n, size: [pack("UNLINK", key("set")), pack("SADD", key("set"), *[_member(i, size) for i in range(n)]),
                                 *_again(pack("SMEMBERS", key("set")))[2:]],
    "ZADD": lambda n, size: _again(pack("ZADD", key("zset"), *_scores(n, size))),
    "ZRANGE": lambda n, size: [pack("UNLINK", key("zset")), pack("ZADD", key("zset"), *_scores(n, size)),
                               *_again(pack("ZRANGE", key("zset"), 0, -1))[2:]],
    "SORT": lambda n, size: [pack("UNLINK", key("list")), pack("RPUSH", key("list"), *[n - i for i in range(n)]),
                             *_again(pack("SORT", key("list")))[2:]],
    "SUNION": lambda n, size: [pack("UNLINK", key("a"), key("b")), pack("SADD", key("a"), *[b"a%d" % i for i in range(n)]),
                               pack("SADD", key("b"), *[b"b%d" % i for i in range(n)]),
                               *_again(pack("SUNION", key("a"), key("b")))[3:]],
    "EVAL": lambda n, size: _again(pack("EVAL", "return 1", 0)),
}  # fmt: skip

EXTRA = ("DEL", "UNLINK", "EXISTS", "MGET", "MSET", "LPUSH", "LPOP", "HSET", "SADD", "ZADD")  # extra_ns: by elements
BY_CURVE = ("LRANGE", "HGETALL", "SMEMBERS", "ZRANGE", "SORT", "SUNION")  # const_ns: what is left of one element
IN_BYTES = ("SET", "APPEND", "MSET", "LPUSH", "HSET", "SADD", "ZADD")
OUT_BYTES = ("GET", "MGET", "HGET")
WIDE: dict[str, Callable[[bytes, int], bytes]] = {  # measured on values that no cache holds, as a data set of big values is
    "GET": lambda name, size: pack("GET", name),
    "MGET": lambda name, size: pack("MGET", name),
    "SET": lambda name, size: pack("SET", name, value(size)),
    "MSET": lambda name, size: pack("MSET", name, value(size)),
}
MIDDLE_BYTES = 1000
WIDE_BYTES, WIDE_CALLS = 2000 * BIG_BYTES, 2000


def laws(bench: Bench, progress: Callable[[float], None]) -> dict[str, dict[str, Figure]]:
    """{command: {const_ns | extra_ns | in_ps | out_ps: figure}} of every command in SCENES. `progress` takes 0..1."""
    out: dict[str, dict[str, Figure]] = {}
    for i, name in enumerate(SCENES):
        out[name] = law(bench, name)
        progress((i + 1) / len(SCENES))
    if bench.is_own:
        out |= _database_laws(bench)
    bench.forget()
    return out


def law(bench: Bench, name: str) -> dict[str, Figure]:
    """One command's law."""
    scene = SCENES[name]
    one = np.array(bench.per_call_ns(name, scene(1, SMALL_BYTES)))
    found = {"const_ns": figure(one, f"{name}, small and hot")}
    if name in EXTRA or name in BY_CURVE:
        many = np.array(bench.per_call_ns(name, scene(MANY, SMALL_BYTES), bench.calls // 4))
        each = np.maximum((many - one) / (MANY - 1), 0)
        if name in EXTRA:
            found["extra_ns"] = figure(each, f"{name} with {MANY} against 1")
        else:
            found["const_ns"] = figure(np.maximum(one - each, LAW_FLOOR_NS), f"{name} of one, less what {MANY} say of each")
    if name in IN_BYTES or name in OUT_BYTES:
        column = "in_ps" if name in IN_BYTES else "out_ps"
        if bench.is_own and name in WIDE:  # 32 MB of keys are not for somebody else's server
            slope = (_wide(bench, name, BIG_BYTES) - _wide(bench, name, MIDDLE_BYTES)) * 1000 / (BIG_BYTES - MIDDLE_BYTES)
            found[column] = figure(np.maximum(slope, 0), f"{name} of {BIG_BYTES} bytes against {MIDDLE_BYTES}, 32 MB of each")
        else:
            large = np.array(bench.per_call_ns(name, scene(1, BIG_BYTES), bench.calls // 16))
            slope = np.maximum((large - one) * 1000 / (BIG_BYTES - SMALL_BYTES), 0)
            found[column] = figure(slope, f"{name} of {BIG_BYTES} bytes")
    return found


def _wide(bench: Bench, name: str, size: int) -> npt.NDArray[np.float64]:
    """ns per call of WIDE_CALLS keys all over a database of WIDE_BYTES in values of `size`: what finding a key costs goes by the
    bytes that all keys lie in, so that two sizes differ by what their bytes cost and by nothing else."""
    count = WIDE_BYTES // size
    bench.forget()
    for low in range(0, count, DEPTH):
        writes = [pack("SET", key(f"wide:{i}"), value(size)) for i in range(low, min(low + DEPTH, count))]
        bench.wire.ask(joined(writes), len(writes))
    names = [key(f"wide:{i * 787 % count}") for i in range(WIDE_CALLS)]
    return np.array(bench.varied_ns(name, [WIDE[name](each, size) for each in names]))


def _database_laws(bench: Bench) -> dict[str, dict[str, Figure]]:
    """KEYS, SCAN, FLUSHALL of a database with nearly nothing in it: only on a server of our own."""
    bench.server.redis.flushall()
    keys = bench.per_call_ns("KEYS", _again(pack("KEYS", "*")), bench.calls // 8)
    scan = bench.per_call_ns("SCAN", _again(pack("SCAN", 0, "COUNT", 1)), bench.calls // 8)
    sync = bench.per_call_ns("FLUSHALL", _again(_hot(3), pack("FLUSHALL", "SYNC")), bench.calls // 40)
    lazy = np.array(bench.per_call_ns("FLUSHALL", _again(_hot(3), pack("FLUSHALL", "ASYNC")), bench.calls // 40))
    return {
        "KEYS": {"const_ns": figure(keys, "KEYS * of an empty database")},
        "SCAN": {"const_ns": figure(scan, "SCAN of an empty database")},
        "FLUSHALL": {
            "const_ns": figure(sync, "FLUSHALL SYNC of one key"),
            "extra_ns": figure(np.maximum(lazy - np.median(sync), 0), "FLUSHALL ASYNC of one key, more than SYNC"),
        },
    }


def cold(bench: Bench) -> dict[str, Figure]:
    """How much more the command's function takes when its read brought one command instead of 16: GET and SET, ns."""
    out = {}
    for name in ("GET", "SET"):
        scene = SCENES[name](1, SMALL_BYTES)
        together = np.median(bench.per_call_ns(name, scene))
        alone = np.array(bench.per_call_ns(name, scene[-1:], bench.calls // 4))
        out[f"cold_{name.lower()}_ns"] = figure(alone - together, f"{name} alone in its read against {DEPTH} together")
    return out


def lua_hook(bench: Bench) -> dict[str, Figure]:
    """100,000 Lua instructions, after which a script looks at the clock (script.c), ns."""
    ns = bench.per_call_ns("EVAL", [pack("EVAL", "for i=1,100000 do end return 1", 0)], max(bench.calls // 400, 20))
    return {"hook_ns": figure(ns, "100,000 turns of an empty Lua loop, one instruction each")}
