"""What the keys of a data set are called and hold on a real server, and how they get there.

A key is `<data set>:<index>`, padded with `_` behind to key_bytes (its mean, where that varies; longer if the name is); where
redis-benchmark is to find it, `<data set>:` padded and twelve digits. An element of a list, set or sorted set is a number with
zeros in front, `value_bytes` long, different in each key and never stored as an integer, so that SORT can sort it; a hash field
is `f` and five digits. Sizes and element counts are the same draws as the simulator's. Strings are `x…`, or digits where a group
uses INCR on them.
Not modelled: incompressible text; a string INCRed is 18 digits at most.
"""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from redsim.lab.resp import Word, encode
from redsim.lab.rig import RealServer
from redsim.rng import generator
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.scenario.schema import Dataset
from redsim.workload.tables import mean, sample

AT_ONCE = 1000  # keys of one MSET, elements of one RPUSH
NOBODY = b"\x00nobody"  # a key or element that is not there
LOOKUPS = {"hash": "HMGET", "set": "SMISMEMBER", "zset": "ZMSCORE"}
CHUNK_BYTES = 1 << 20  # written before its replies are read
INCR_DIGITS = 18
Progress = Callable[[str, int, int], None]  # data set, keys so far, keys


@dataclass(frozen=True)
class Shape:
    """One data set as a real server holds it."""

    name: str
    data: Dataset
    seed: int
    integers: bool | frozenset[int] = field(default=False, repr=False)  # strings (all, or those) that are numbers
    exact: tuple[bytes, ...] = field(default=(), repr=False)  # the keys' own names, of a MONITOR capture
    taken: frozenset[bytes] = field(default=frozenset(), repr=False)  # names that another data set holds
    twelve_digits: bool = False  # names as redis-benchmark writes them

    @cached_property
    def key_bytes(self) -> int:
        return mean(self.data.key_bytes)

    @cached_property
    def value_bytes(self) -> npt.NDArray[np.int32]:
        """Of each key's string, shape (keys,)."""
        return sample(self.data.value_bytes, self.data.keys, self.seed, "dataset", self.name, "values")

    @cached_property
    def element_bytes(self) -> int:
        return mean(self.data.value_bytes)

    @cached_property
    def elements(self) -> npt.NDArray[np.int32]:
        """Of each key, at least 1, shape (keys,)."""
        return np.maximum(sample(self.data.elements, self.data.keys, self.seed, "dataset", self.name, "elements"), 1)

    @cached_property
    def most_elements(self) -> int:
        return int(self.elements.max()) if self.data.keys else 1

    def key(self, i: int) -> bytes:
        """Name of key `i`."""
        if self.exact:
            return self.exact[i]
        if self.twelve_digits:
            return self.prefix + b"%012d" % i
        return (f"{self.name}:{i}").encode().ljust(self.key_bytes, b"_")

    @cached_property
    def prefix(self) -> bytes:
        """What stands before redis-benchmark's twelve digits."""
        return f"{self.name}:".encode().ljust(self.key_bytes - 12, b"_")

    def value(self, i: int, size: int) -> bytes:
        """A string of `size` bytes for key `i`."""
        is_number = self.integers is True or (self.integers is not False and i in self.integers)
        return b"1" * max(1, min(size, INCR_DIGITS)) if is_number else b"x" * size

    def member(self, i: int, e: int) -> bytes:
        """Element `e` of key `i`."""
        return b"0%d" % (i * self.most_elements + e) if self.element_bytes < 2 else self._padded(i * self.most_elements + e)

    def _padded(self, number: int) -> bytes:
        return b"0" + (b"%d" % number).rjust(self.element_bytes - 1, b"0")

    @staticmethod
    def field_name(e: int) -> bytes:
        """Hash field `e`."""
        return b"f%05d" % e

    def present(self) -> npt.NDArray[np.int64]:
        """Indexes of the keys that are there at the start."""
        if self.taken:
            return np.array([i for i in range(self.data.keys) if self.key(i) not in self.taken], dtype=np.int64)
        if self.data.present >= 1:
            return np.arange(self.data.keys)
        draws = generator(self.seed, "dataset", self.name, "present").random(self.data.keys)
        return np.flatnonzero(draws < self.data.present)

    def filling(self) -> Iterator[tuple[int, bytes]]:
        """(keys so far, one request) for everything this data set needs to exist."""
        there = self.present()
        if self.data.type == "string":
            sizes = self.value_bytes
            step = max(1, min(AT_ONCE, CHUNK_BYTES // max(int(sizes.mean()), 1))) if there.size else 1
            for low in range(0, there.size, step):
                words: list[Word] = ["MSET"]
                for i in there[low : low + step].tolist():
                    words += (self.key(i), self.value(i, int(sizes[i])))
                yield low + (len(words) - 1) // 2, encode(*words)
            return
        for done, i in enumerate(there.tolist(), 1):
            for low in range(0, int(self.elements[i]), AT_ONCE):
                yield done, encode(*self.adding(i, range(low, min(low + AT_ONCE, int(self.elements[i])))))
            yield from ((done, request) for request in self._settling(i))

    def _settling(self, i: int) -> Iterator[bytes]:
        """Look-ups that end the rehashing of a large key's own table: each moves one bucket (dict.c: dictFind)."""
        if self.data.type in LOOKUPS and self.elements[i] > AT_ONCE:
            yield from [encode(LOOKUPS[self.data.type], self.key(i), *[NOBODY] * AT_ONCE)] * (
                int(self.elements[i]) // AT_ONCE + 1
            )

    def adding(self, i: int, which: range | list[int]) -> list[Word]:
        """The command that puts these elements into key `i`."""
        kind = self.data.type
        if kind == "hash":
            value = b"x" * self.element_bytes
            return ["HSET", self.key(i), *(word for e in which for word in (self.field_name(e), value))]
        if kind == "zset":
            return ["ZADD", self.key(i), *(word for e in which for word in (e, self.member(i, e)))]
        return ["SADD" if kind == "set" else "RPUSH", self.key(i), *(self.member(i, e) for e in which)]


def shapes(scenario: Scenario) -> dict[str, Shape]:
    """The scenario's own data sets by name (those of MONITOR captures: replayed.py)."""
    clients = [group for group in scenario.file.clients.values() if group.keys]
    integers = {group.keys.dataset for group in clients if group.keys and "INCR" in group.commands}
    benchmark = {group.keys.dataset for group in clients if group.keys and group.station.kind == "redis-benchmark"}
    return {
        name: Shape(name, data, scenario.file.seed, integers=name in integers, twelve_digits=name in benchmark)
        for name, data in scenario.file.datasets.items()
    }


def fill(server: RealServer, shape: Shape, *, progress: Progress | None = None) -> None:
    """Fill the server with one data set, pipelined over a connection of its own; the main table's rehashing is over then.

    Redis would go on moving buckets for seconds, a millisecond in a hundred, and the simulator's tables are settled.
    """
    with socket.create_connection((server.host, server.port), timeout=60) as wire:
        chunk: list[bytes] = []
        size = 0
        for done, request in shape.filling():
            chunk.append(request)
            size += len(request)
            if size >= CHUNK_BYTES:
                _exchange(wire, b"".join(chunk), shape.name)
                chunk, size = [], 0
                if progress is not None:
                    progress(shape.name, done, shape.data.keys)
        _exchange(wire, b"".join(chunk), shape.name)
        turns = server.redis.dbsize() // AT_ONCE + 1
        settle = encode("EXISTS", *[NOBODY] * AT_ONCE)
        for _ in range(turns):
            _exchange(wire, settle, shape.name)
    if progress is not None:
        progress(shape.name, shape.data.keys, shape.data.keys)


def exchange(server: RealServer, requests: list[bytes], name: str) -> None:
    """Send requests about the data set `name`, pipelined over a connection of its own; ScenarioError if one is refused."""
    with socket.create_connection((server.host, server.port), timeout=60) as wire:
        for low in range(0, len(requests), AT_ONCE):
            _exchange(wire, b"".join(requests[low : low + AT_ONCE]), name)


def _exchange(wire: socket.socket, chunk: bytes, name: str) -> None:
    """Send a chunk, and behind it an ECHO whose answer shows that all of it has been answered."""
    end = b"$3\r\nend\r\n"
    wire.sendall(chunk + encode("ECHO", "end"))
    got = b""
    while not got.endswith(end):
        more = wire.recv(65536)
        if not more:
            raise ScenarioError(f"datasets.{name}: the server closed the connection while it was filled; see its log")
        got += more
    wrong = [line for line in got.split(b"\r\n") if line.startswith(b"-")]
    if wrong:
        raise ScenarioError(f"datasets.{name}: the server refused to be filled: {wrong[0][1:200].decode(errors='replace')}")
