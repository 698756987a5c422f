"""Streams: MEMORY USAGE, used_memory and the length in an RDB file, held against recorded keys and a real server."""

from collections.abc import Iterator

import numpy as np
import pytest
import redis
from conftest import RealRedis

from redsim.host.malloc import ALLOCATORS, Allocator
from redsim.redis.rax import Rax
from redsim.redis.rdb import stream_length
from redsim.redis.t_stream import Stream, StreamId, allocated_bytes, key_of, memory_usage
from redsim.rng import generator

STREAMS = 60  # drawn for the real server
DUMP_BYTES = 11  # around the value


# ---- a client that does to a real stream what is done to the model ----------------------------------------------------


class Both:
    """One stream, in the model and on a server; every change goes to both."""

    def __init__(self, client: "redis.Redis[bytes]", key: str, node_max_bytes: int, node_max_entries: int) -> None:
        self.client, self.key = client, key
        self.model = Stream(node_max_bytes, node_max_entries)
        client.config_set("stream-node-max-bytes", node_max_bytes)
        client.config_set("stream-node-max-entries", node_max_entries)

    def xadd(self, entry_id: StreamId, pairs: list[tuple[bytes, bytes]]) -> None:
        self.model.xadd(entry_id, pairs)
        self.client.execute_command("XADD", self.key, text_of(entry_id), *(part for pair in pairs for part in pair))

    def xdel(self, entry_id: StreamId) -> None:
        assert self.client.xdel(self.key, text_of(entry_id)) == self.model.xdel(entry_id)

    def xtrim(self, *, maxlen: int | None = None, minid: StreamId | None = None, approx: bool) -> None:
        if maxlen is not None:
            gone = self.model.xtrim_maxlen(maxlen, approx=approx)
            assert self.client.xtrim(self.key, maxlen=maxlen, approximate=approx) == gone
        elif minid is not None:
            gone = self.model.xtrim_minid(minid, approx=approx)
            assert self.client.xtrim(self.key, minid=text_of(minid), approximate=approx) == gone

    def xreadgroup(self, group: str, consumer: str, count: int, *, noack: bool) -> None:
        name = group.encode()
        if name not in self.model.groups:
            self.client.xgroup_create(self.key, group, 0)
            self.model.xgroup_create(name)
        self.model.xreadgroup(name, consumer.encode(), count, noack=noack)
        self.client.xreadgroup(group, consumer, {self.key: ">"}, count=count, noack=noack)

    def xack(self, group: str, entry_id: StreamId) -> None:
        if group.encode() in self.model.groups:
            assert self.client.xack(self.key, group, text_of(entry_id)) == self.model.xack(group.encode(), entry_id)


def text_of(stream_id: StreamId) -> str:
    return f"{stream_id[0]}-{stream_id[1]}"


def draw_value(rng: np.random.Generator) -> bytes:
    """Integers of all widths, short and long text, some of it compressible."""
    kind = rng.integers(4)
    if kind == 0:
        return b"%d" % int(rng.integers(-(1 << 62), 1 << 62) >> int(rng.integers(63)))
    size = int(rng.choice([0, 3, 20, 63, 64, 126, 130, 900, 5000], p=[0.05, 0.2, 0.25, 0.1, 0.1, 0.1, 0.1, 0.07, 0.03]))
    letters = rng.integers(97, 97 + int(rng.choice([1, 3, 26])), size, dtype=np.uint8)
    return letters.tobytes()


def draw_stream(both: Both, rng: np.random.Generator) -> None:
    """Up to some hundred changes of every kind."""
    entry_id = (int(rng.integers(1, 1 << int(rng.integers(1, 44)))), 0)
    ids: list[StreamId] = []
    few_names = [b"f%d" % i for i in range(4)]
    for _ in range(int(rng.choice([1, 5, 30, 150, 400]))):
        what = rng.random()
        if what < 0.85 or not ids:
            names = few_names[: int(rng.integers(1, 4))] if rng.random() < 0.7 else [draw_value(rng) for _ in range(3)]
            both.xadd(entry_id, [(name, draw_value(rng)) for name in names])
            ids.append(entry_id)
            step = int(rng.integers(0, 3))
            entry_id = (entry_id[0] + step, entry_id[1] + 1 if step == 0 else int(rng.integers(200)))
        elif what < 0.90:
            both.xdel(ids[int(rng.integers(len(ids)))])
        elif what < 0.92:
            approx = bool(rng.integers(2))
            if rng.random() < 0.5:
                both.xtrim(maxlen=int(rng.integers(0, both.model.length + 2)), approx=approx)
            else:
                both.xtrim(minid=ids[int(rng.integers(len(ids)))], approx=approx)
        elif what < 0.97:
            group, consumer = f"g{rng.integers(3)}", "c" * int(rng.choice([1, 40])) + str(rng.integers(2))
            both.xreadgroup(group, consumer, int(rng.integers(1, 60)), noack=bool(rng.random() < 0.2))
        else:
            both.xack(f"g{rng.integers(3)}", ids[int(rng.integers(len(ids)))])


@pytest.fixture(scope="class")
def client(redis_server: RealRedis) -> "Iterator[redis.Redis[bytes]]":
    with redis.Redis(port=redis_server.port) as connection:
        if not connection.info("server")["redis_version"].startswith("7.0."):
            pytest.skip("redis-server is not 7.0")
        yield connection


@pytest.fixture(scope="class")
def allocator(client: "redis.Redis[bytes]") -> Allocator:
    """Which size classes the server has: of a key of 20 bytes and an integer, 8 bytes tell the two jemallocs apart."""
    if "libc" in str(client.info("memory")["mem_allocator"]):
        return ALLOCATORS["libc"]
    key = "k" * 20
    client.set(key, 1)
    quantum_8 = client.memory_usage(key, samples=0) == 24 + 24 + 16
    client.delete(key)
    return ALLOCATORS["jemalloc" if quantum_8 else "jemalloc-debian"]


def key_and_entry_bytes(key: str, allocator: Allocator) -> int:
    return allocator.usable(len(key) + 2) + 24


@pytest.mark.real
class TestAgainstARealServer:
    """redis-server 7.0: XADD, XDEL, XTRIM, XREADGROUP and XACK drawn at random, with other node limits than the default too."""

    @pytest.mark.parametrize("seed", range(STREAMS))
    def test_memory_usage_and_serializedlength_of_streams_nobody_recorded(
        self, client: "redis.Redis[bytes]", allocator: Allocator, seed: int
    ) -> None:
        """MEMORY USAGE SAMPLES 0 and 5; DUMP is a type byte, what DEBUG OBJECT counts, and ten bytes of version and checksum."""
        rng = generator(seed, "stream", "drawn")
        key = f"stream:{seed}"
        limits = [(4096, 100), (4096, 100), (1000, 10), (0, 300), (4096, 0), (20_000, 500)]
        both = Both(client, key, *limits[int(rng.integers(len(limits)))])
        draw_stream(both, rng)
        if not client.exists(key):
            pytest.skip("nothing was added")
        for samples in (0, 5):
            expected = memory_usage(both.model, allocator, samples=samples) + key_and_entry_bytes(key, allocator)
            assert client.memory_usage(key, samples=samples) == expected
        assert stream_length(both.model, "7.0") == len(client.dump(key)) - DUMP_BYTES

    @pytest.mark.parametrize(("entries", "pending"), [(10, 0), (3_000, 0), (5_000, 5_000)])
    def test_what_a_stream_really_allocates(
        self, client: "redis.Redis[bytes]", allocator: Allocator, entries: int, pending: int
    ) -> None:
        """used_memory before and after DEL; MEMORY USAGE says five times as much for pending entries."""
        both = Both(client, f"allocated:{entries}", 4096, 100)
        for j in range(entries):
            both.xadd((1_700_000_000_000 + j, 0), [(b"field", b"some text that is no number")])
        if pending:
            both.xreadgroup("workers", "worker-1", pending, noack=False)
        full = client.info("memory")["used_memory"]
        client.delete(both.key)
        freed = full - client.info("memory")["used_memory"]
        key_bytes = allocator.usable(len(both.key) + 2) + allocator.usable(24)
        assert freed == allocated_bytes(both.model, allocator) + key_bytes


# ---- laws -------------------------------------------------------------------------------------------------------------


def test_a_rax_has_the_nodes_of_rax_c() -> None:
    """rax.c, the cases of raxGenericInsert's comment: sizes by raxNodeCurrentLength with 8-byte pointers."""
    assert Rax([]).numnodes == 1
    assert Rax([b"ANNIBALE"]).numnodes == 2
    assert Rax([b"ANNI", b"ANNIBALE"]).numnodes == 3
    assert Rax([b"ANNIBALE", b"ANNIENTARE"]).numnodes == 6  # ANNI, B|E, ALE and its leaf, NTARE and its leaf
    assert Rax([b"ANNIBALE", b"ANNIBALI"]).numnodes == 4
    assert Rax([b"ANNIBALE", b"CIAO"]).numnodes == 5
    exact = Allocator("libc")
    assert Rax([]).allocated_bytes(exact) == exact.usable(24) + exact.usable(8)
    assert Rax([b"ANNIBALE"]).allocated_bytes(exact) == exact.usable(24) + exact.usable(4 + 8 + 4 + 8) + exact.usable(16)


def test_ten_thousand_pending_entries_cost_a_seventh_of_what_memory_usage_says() -> None:
    """Recorded on redis-server 7.0.15: they add 10.5 MB by MEMORY USAGE and 1.5 MB in used_memory."""
    allocator = ALLOCATORS["jemalloc-debian"]
    stream = Stream()
    for j in range(10_000):
        stream.xadd((1_700_000_000_000 + 10 * j, 0), [(b"f", b"v")])
    stream.xgroup_create(b"g")
    before = memory_usage(stream, allocator), allocated_bytes(stream, allocator)
    stream.xreadgroup(b"g", b"c", 10_000)
    after = memory_usage(stream, allocator), allocated_bytes(stream, allocator)
    said, real = (b - a for a, b in zip(before, after, strict=True))
    assert round(said / 1e6, 1) == 10.5
    assert round(real / 1e6, 1) == 1.5


def test_ids_sort_as_their_keys_do() -> None:
    """t_stream.c:streamEncodeID: big-endian, so that the tree's order is the IDs'."""
    ids = [(0, 1), (0, 256), (1, 0), (255, 9), (256, 0), (1 << 40, 3)]
    assert sorted(map(key_of, reversed(ids))) == [key_of(stream_id) for stream_id in ids]
