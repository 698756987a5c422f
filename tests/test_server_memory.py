"""A server's used_memory: data sets, tables, connections, start-up; published totals; a live server.

Recorded figures: tests/recorded/server_memory.json (its provenance is in it).
"""

import doctest
import time
from importlib import import_module
from itertools import pairwise
from typing import Any

import pytest
from conftest import RealRedis
from recorded_loads import DEBIAN, HISTOGRAM_BYTES, SETTLING_NS, named, predicted_used, recorded
from redis import Redis

from redsim.host import memory
from redsim.host.memory import (
    merge,
    used_bytes,
)
from redsim.redis.client_memory import (
    ClientBuffers,
    client_counted_bytes,
    connection_bytes,
    output_list_bytes,
    query_buffer_bytes,
    reply_buffer_bytes,
)
from redsim.redis.config import Rules, rules
from redsim.redis.dict import table_slots
from redsim.redis.memory_overhead import (
    command_histogram_bytes,
    dataset_memory,
    entry_blocks,
    keyspace_overhead_bytes,
    keyspace_tables,
    numbered_keys,
    startup_bytes,
)
from redsim.redis.t_hash import hset
from redsim.redis.t_string import set_command
from redsim.redis.value_blocks import value_blocks
from redsim.rng import generator

REHASH_TRIES = 30  # of 0.1 s: an idle server needs two to rehash 4096 buckets


# ---- used_memory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", recorded()["loads"], ids=named)
def test_used_memory_of_a_loaded_server_is_within_half_a_percent(row: dict[str, Any]) -> None:
    """27 recorded loads once the main dict is settled; the bar is issue 4's."""
    used = row["settled"]["used_memory"]
    assert abs(predicted_used(row, SETTLING_NS) / used - 1) < 0.005


@pytest.mark.parametrize("row", recorded()["loads"], ids=named)
def test_used_memory_right_after_a_load_is_within_half_a_percent(row: dict[str, Any]) -> None:
    """The same loads before anything settled: whether a cron came between decides if the old table is still there, and if reply
    buffers are still new; one of the four states is the recorded one."""
    used = row["at_once"]["used_memory"]
    new_buffers = 2 * (16 * 1024 - 1024)
    states = [predicted_used(row, 0, is_rehashing=flag) + more for flag in (False, True) for more in (0, new_buffers)]
    assert min(abs(state / used - 1) for state in states) < 0.005


@pytest.mark.parametrize("row", recorded()["resize"], ids=lambda row: f"2^{row['k']}")
def test_the_main_dict_doubles_with_key_2_to_the_k_plus_one_to_the_byte(row: dict[str, Any]) -> None:
    """dict.c:_dictExpandIfNeeded: each SET adds its key, key 2**k + 1 also a table of twice the size; the old one goes later."""
    key = used_bytes(
        merge(entry_blocks(len(f"key:{row['keys_before']}"), DEBIAN), value_blocks(set_command(b"x" * 16, DEBIAN), DEBIAN))
    )
    table = 8 << row["k"]
    for (_, before), (keys, after) in pairwise(row["keys_usedmem"]):
        assert after - before == key + (2 * table if keys == (1 << row["k"]) + 1 else 0)
    freed = row["keys_usedmem"][-1][1] - row["after_rehash"]
    # An idle server moves 1 ms per 100 ms: the two largest were still at it when the recording stopped.
    assert freed == (table if row["k"] < 19 else 0)


def test_a_dict_under_a_tenth_full_shrinks_to_the_byte() -> None:
    """dict.c:dictResize by serverCron; keys were deleted in order from key:0 on, so that those left are the last ones.

    What is not data stays the same but for two reply buffers and, between the first two rows, one more command's histogram.
    """
    slots = start = recorded()["shrink"]["start_keys"]
    value, rest = value_blocks(set_command(b"x" * 100, DEBIAN), DEBIAN), []
    for keys, used, _, (recorded_slots,) in (row for row in recorded()["shrink"]["rows"] if row[3:]):
        gone = numbered_keys(4, start - keys)
        left = {length: count - gone.get(length, 0) for length, count in numbered_keys(4, start).items()}
        slots = table_slots(keys) if keys * 100 // slots < 10 else slots
        assert slots == recorded_slots
        data = dataset_memory({length: count for length, count in left.items() if count}, value, DEBIAN)
        rest.append(used - used_bytes(merge(data.entries, data.values)) - 8 * slots)
    assert rest[1] - rest[0] == HISTOGRAM_BYTES
    assert max(rest[1:]) - min(rest[1:]) <= 4096


def test_what_a_new_command_costs_is_its_histogram() -> None:
    """Recorded: the first GET of a server adds 24,688 bytes in 7.0 to 7.4 and Valkey 8.0, none in 6.2."""
    assert [command_histogram_bytes(rules(v)) for v in ("6.2", "7.0", "7.2", "7.4", "valkey-8.0")] == [0] + 4 * [24_688]
    assert command_histogram_bytes(rules("7.0", conf={"latency-tracking": "no"})) == 0


@pytest.mark.parametrize("maxclients", ["1000", "4000", "10000"])
def test_startup_memory_grows_with_maxclients(maxclients: str) -> None:
    """ae.c:aeCreateEventLoop, 52 bytes a descriptor; recorded on Debian's 7.0.15, paths and arguments are the rest."""
    law = startup_bytes(rules("7.0", "jemalloc-debian", {"maxclients": maxclients}))
    assert abs(law.value - recorded()["maxclients_startup"][maxclients]) <= 512


@pytest.mark.parametrize("version", ["6.2", "7.0", "7.2", "7.4", "valkey-8.0"])
def test_startup_memory_of_each_version_is_a_measured_figure(version: str) -> None:
    """used_memory_startup of builds of the sources; 8.0 and libc builds are called guesses."""
    law = startup_bytes(rules(version))
    assert (law.value, law.source) == (recorded()["startup"][version], "measured")
    assert {startup_bytes(rules("8.0")).source, startup_bytes(rules(version, "libc")).source} == {"guess"}


# ---- connections ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", recorded()["connections"], ids=lambda row: f"{row['version']}-{row['allocator']}")
def test_a_connection_costs_what_a_real_server_spends_on_it(row: dict[str, Any]) -> None:
    """Recorded means of 500 connections: new, after a PING, idle. The rax that numbers clients is a mean of 26 bytes; 6.2 keeps
    the array of PING's one argument."""
    argv_bytes = 8 if row["version"] == "6.2" else 0
    mine = rules(row["version"], row["allocator"])
    new = ClientBuffers(reply_bytes=reply_buffer_bytes(mine))
    spoke = ClientBuffers(query_buffer_bytes(mine), new.reply_bytes)
    idle = ClientBuffers(reply_bytes=reply_buffer_bytes(mine, 0))
    assert connection_bytes(new, mine) == pytest.approx(row["connected"], abs=1)
    assert connection_bytes(spoke, mine) - connection_bytes(new, mine) == row["spoke"] - argv_bytes
    assert connection_bytes(idle, mine) == pytest.approx(row["idle"], abs=10)
    assert client_counted_bytes(idle, mine) + argv_bytes == row["tot_mem_idle"]


def test_a_reply_list_is_made_of_blocks_filled_to_their_size_class() -> None:
    """networking.c:_addReplyProtoToList: 16,400 bytes asked for are a block of 20,480 with room for 20,464."""
    block = 20_480 + 32
    assert [output_list_bytes(n, DEBIAN) for n in (0, 1, 20_464, 20_465)] == [0, block, block, 2 * block]


# ---- published --------------------------------------------------------------------------------------------------------------


def test_redis_5716_overhead_of_67_million_keys_is_exact() -> None:
    """Redis issue 5716, Redis 5.0.3: caught in mid-rehash, 2^27 and 2^26 buckets; start-up 791,880 and clients 49,694 are its.

    Its keys have no values: an empty embstr of 24 bytes, of which overhead counts 16. Key lengths are not given; sds of the
    16-byte class explain used_memory within half a percent.
    """
    keys, mine = 67_402_730, rules("6.2")
    main, _ = keyspace_overhead_bytes(keys, 0, (1 << 27) + (1 << 26), 0, mine)
    assert main + 791_880 + 49_694 == 4_307_563_510
    data = dataset_memory({14: keys}, value_blocks(set_command(b"", mine), mine), mine, is_rehashing=True)
    assert abs((data.total_bytes + 791_880 + 49_694) / 5_917_252_528 - 1) < 0.005


def test_the_faq_figures_for_a_million_keys() -> None:
    """Redis FAQ: a million small strings about 85 MB, a million hashes of five fields about 160 MB, within 10 %.

    The sizes behind them are ours: keys of 15 characters, values of 8; fields and values of 4.
    """
    mine = rules("7.0")
    strings = dataset_memory({15: 10**6}, value_blocks(set_command(b"x" * 8, mine), mine), mine)
    five = hset(None, [(b"f%03d" % i, b"v%03d" % i) for i in range(5)], mine)
    hashes = dataset_memory({15: 10**6}, value_blocks(five, mine), mine)
    startup = startup_bytes(mine).value
    assert abs((strings.total_bytes + startup) / 85e6 - 1) < 0.10
    assert abs((hashes.total_bytes + startup) / 160e6 - 1) < 0.10


def test_instagram_hashes_of_a_thousand_fields_take_a_quarter_of_plain_keys() -> None:
    """Instagram Engineering, 2011 (Redis 2.x): a million media ids to user ids, 70 MB as plain keys, 16 MB in hashes of 1000
    fields, within 20 %. Sizes behind them: `media:1155315` to an id of eight digits."""
    mine = rules("6.2", conf={"hash-max-ziplist-entries": "1000"})
    plain = dataset_memory({13: 10**6}, value_blocks(set_command(b"12345678", mine), mine), mine)
    bucket = hset(None, [(b"%d" % (1_155_000 + i), b"12345678") for i in range(1000)], mine)
    hashed = dataset_memory({16: 1000}, value_blocks(bucket, mine), mine)
    startup = startup_bytes(mine).value
    assert bucket.encoding == "ziplist"
    assert abs((plain.total_bytes + startup) / 70e6 - 1) < 0.20
    assert abs((hashed.total_bytes + startup) / 16e6 - 1) < 0.20


# ---- examples and a live server ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["redsim.redis.memory_overhead", "redsim.redis.memory_report", "redsim.redis.value_blocks"])
def test_examples_in_docstrings_hold(name: str) -> None:
    """Each is run as it stands."""
    assert doctest.testmod(import_module(name)).failed == 0


def test_examples_in_docstrings_of_the_allocators_pages_hold() -> None:
    """The same for host/memory.py."""
    assert doctest.testmod(memory).failed == 0


@pytest.mark.real
class TestLiveServer:
    """Random data sets in a redis-server this test starts."""

    def used(self, server: RealRedis) -> dict[str, int]:
        text = server.cli("INFO", "memory")
        return {name: int(value) for name, value in (line.split(":") for line in text.split() if ":" in line) if value.isdigit()}

    def rules_of(self, server: RealRedis) -> Rules:
        said = server.cli("INFO", "server").split("redis_version:")[1].split()[0]
        if not said.startswith("7.0."):
            pytest.skip(f"redis-server is {said}, not 7.0")
        library = server.cli("INFO", "memory").split("mem_allocator:")[1].split()[0]
        return rules("7.0", {"jemalloc-5.2.1": "jemalloc", "libc": "libc"}.get(library, "jemalloc-debian"))

    @pytest.mark.parametrize("seed", range(3))
    def test_used_memory_grows_by_the_bytes_of_the_keys(self, redis_server: RealRedis, seed: int) -> None:
        """Strings of 0 to 3000 bytes and integers under keys of 6 to 80 bytes, a third with a TTL: equal to the byte.

        Both figures are asked over a connection of their own, so that nobody's buffers differ; cron may first finish a rehash.
        """
        mine, rng = self.rules_of(redis_server), generator(seed, "live-dataset")
        redis_server.cli("CONFIG", "SET", "slowlog-log-slower-than", "-1")
        with Redis(port=redis_server.port) as client:
            client.set("warm", "up", ex=100)
            client.flushall()
        before = self.used(redis_server)["used_memory"]
        total, expires = 0, 0
        with Redis(port=redis_server.port) as client, client.pipeline(transaction=False) as pipe:
            for i in range(3000):
                key = f"{i:05d}".encode() + b"k" * int(rng.integers(1, 76))
                length = int(rng.integers(0, 3000))
                text = b"%d" % rng.integers(10_000, 10**12) if length % 3 == 0 else b"v" * (length // (1 + 30 * (i % 2)))
                ttl = 10_000 if rng.random() < 1 / 3 else None
                pipe.set(key, text, ex=ttl)
                expires += ttl is not None
                total += used_bytes(merge(entry_blocks(len(key), mine), value_blocks(set_command(text, mine), mine)))
            pipe.execute()
        total += used_bytes(keyspace_tables(3000, mine)) + used_bytes(keyspace_tables(expires, mine))
        total += expires * mine.allocator.usable(24)
        for _ in range(REHASH_TRIES):
            after = self.used(redis_server)["used_memory"]
            if after - before == total:
                break
            time.sleep(0.1)
        assert after - before == total
