"""Requests of a scenario as a real server takes them: each command with the arguments the simulator means.

A command that updates an element in place (HSET, SADD, ZADD on a key that exists) names elements that are there. EVAL is a loop
that counts, as long as a measured speed says it must be for the stated duration. SCAN goes on from a cursor drawn at random,
which costs what going on from the right one costs.
Not modelled: a SCAN that ends; replies are counted, not checked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redsim.lab.resp import Word
from redsim.lab.shapes import Shape
from redsim.scenario.errors import ScenarioError
from redsim.scenario.schema import CommandUse
from redsim.units import MS, S

LUA = "local i,n=0,tonumber(ARGV[1]) while i<n do i=i+1 end return 1"
KEYLESS = ("PING", "DBSIZE", "KEYS", "SCAN", "FLUSHALL", "EVAL", "EVALSHA", "DEBUG SLEEP", "FLUSHDB", "ECHO", "WAIT")
MANY = ("MGET", "MSET", "DEL", "UNLINK", "EXISTS", "SUNION", "TOUCH")


@dataclass(frozen=True)
class Writer:
    """Writes requests of one command on one data set. `lua_per_ms`: loop turns a millisecond of EVAL, 0 if not measured."""

    command: str  # upper-case, as commandstats calls it (`DEBUG SLEEP` apart)
    use: CommandUse
    shape: Shape | None
    lua_per_ms: float = 0.0
    pattern: str = "*"

    @property
    def keys(self) -> int:
        """How many keys one request names."""
        if self.command in KEYLESS:
            return 0
        return max(self.use.keys, 2 if self.command == "SUNION" else 1) if self.command in MANY else 1

    @property
    def writes_value(self) -> bool:
        return self.command in ("SET", "APPEND", "MSET", "SETEX", "PSETEX", "SETNX", "GETSET")

    def words(self, keys: Sequence[int], value_bytes: int, rng: np.random.Generator) -> list[Word]:
        """One request; `keys` are indexes into the data set, the first being the one drawn for the request."""
        if not keys or self.shape is None:
            return self._keyless(rng)
        if len(keys) > 1 or self.command in MANY:
            return self._many(keys, value_bytes)
        command, use, shape, key = self.command, self.use, self.shape, self.shape.key(keys[0])
        if command in ("GET", "INCR", "STRLEN", "DECR", "TTL", "TYPE", "HGETALL", "SMEMBERS", "SORT"):
            return [command, key]
        if command in ("SET", "APPEND", "SETNX", "GETSET"):
            words: list[Word] = [command, key, shape.value(keys[0], value_bytes)]
            return [*words, "PX", self._ttl_ms(rng)] if use.ttl and command == "SET" else words
        if command in ("SETEX", "PSETEX"):
            return [command, key, 3600 if command == "SETEX" else 3_600_000, shape.value(keys[0], value_bytes)]
        if command in ("EXPIRE", "PEXPIRE", "EXPIREAT"):
            return self._expire(key, rng)
        if command in ("INCRBY", "DECRBY"):
            return [command, key, 1]
        return self._aggregate(key, keys[0], rng)

    def _ttl_ms(self, rng: np.random.Generator) -> int:
        late = int(rng.integers(0, self.use.ttl_jitter, endpoint=True)) if self.use.ttl_jitter else 0
        return max(((self.use.ttl or 3600 * S) + late) // MS, 1)

    def _expire(self, key: bytes, rng: np.random.Generator) -> list[Word]:
        if self.command == "EXPIREAT":
            return ["EXPIREAT", key, 4_102_444_800]  # the year 2100
        ttl_ms = self._ttl_ms(rng)
        return ["EXPIRE", key, ttl_ms // 1000] if ttl_ms % 1000 == 0 and self.command == "EXPIRE" else ["PEXPIRE", key, ttl_ms]

    def _many(self, keys: Sequence[int], value_bytes: int) -> list[Word]:
        assert self.shape is not None
        names = [self.shape.key(i) for i in keys]
        if self.command == "MSET":
            return [
                "MSET",
                *(word for i, name in zip(keys, names, strict=True) for word in (name, self.shape.value(i, value_bytes))),
            ]
        return [self.command, *names]

    def _aggregate(self, key: bytes, i: int, rng: np.random.Generator) -> list[Word]:
        command, use, shape = self.command, self.use, self.shape
        assert shape is not None
        count = int(shape.elements[i])
        if command in ("LPUSH", "RPUSH"):
            return [command, key, *(shape.member(i, count + e) for e in range(use.elements))]
        if command in ("LPOP", "RPOP"):
            return [command, key, use.elements] if use.elements > 1 else [command, key]
        if command in ("LRANGE", "ZRANGE", "ZREVRANGE"):
            return [command, key, use.start, use.stop]
        if command == "ZRANGEBYSCORE":
            return [command, key, "-inf", "+inf", "LIMIT", 0, max(use.stop + 1, 1)]
        which = [int(e) for e in rng.integers(0, count, use.elements)]
        if command in ("HGET", "HEXISTS"):
            return [command, key, shape.field_name(which[0])]
        if command == "HMGET":
            return [command, key, *(shape.field_name(e) for e in which)]
        if command in ("HSET", "HMSET", "SADD", "ZADD"):
            return [command, *shape.adding(i, which)[1:]]
        raise ScenarioError(f"{command} cannot be sent to a real server yet; leave it out of the scenario")

    def _keyless(self, rng: np.random.Generator) -> list[Word]:
        if self.command == "KEYS":
            return ["KEYS", self.pattern]
        if self.command == "SCAN":
            keys = self.shape.data.keys if self.shape else 1
            return ["SCAN", int(rng.integers(0, 1 << max(keys, 4).bit_length())), "COUNT", self.use.count]
        if self.command in ("EVAL", "EVALSHA"):
            return ["EVAL", LUA, 0, self.turns]
        if self.command == "DEBUG SLEEP":
            return ["DEBUG", "SLEEP", f"{(self.use.duration or 0) / S:.9f}"]
        if self.command == "WAIT":
            return ["WAIT", self.use.replicas, self.use.timeout // MS]
        return [self.command, "x"] if self.command == "ECHO" else [self.command]

    @property
    def turns(self) -> int:
        """Loop turns of EVAL's script for its duration."""
        if self.use.duration and not self.lua_per_ms:
            raise ScenarioError("EVAL needs the server's Lua speed; measure it with redsim.lab.twin.lua_per_ms(server)")
        return round((self.use.duration or 0) / MS * self.lua_per_ms)
