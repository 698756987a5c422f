"""The loads of tests/recorded/server_memory.json and what the model makes of them, for the tests of memory."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from redsim.redis.client_memory import (
    ClientBuffers,
    connection_bytes,
    query_buffer_bytes,
    reply_buffer_bytes,
)
from redsim.redis.config import rules
from redsim.redis.memory_overhead import (
    DatasetMemory,
    command_histogram_bytes,
    dataset_memory,
    numbered_keys,
)
from redsim.redis.object import RedisObject
from redsim.redis.t_hash import hset
from redsim.redis.t_string import set_command
from redsim.redis.t_zset import zadd
from redsim.redis.value_blocks import value_blocks
from redsim.redis.zmalloc import Pages, old_tables_dirty_bytes, pages
from redsim.units import S

RECORDED = Path(__file__).parent / "recorded"
DEBIAN = rules("7.0", "jemalloc-debian")
HISTOGRAM_BYTES = command_histogram_bytes(DEBIAN)
CRON_NS = S // 10  # the first visit of clientsCron
IDLE_NS = 2 * S  # a query buffer's life
SETTLING_NS = S  # about: until the main dict was settled


@cache
def recorded() -> dict[str, Any]:
    return dict(json.loads((RECORDED / "server_memory.json").read_text(encoding="utf-8")))


def named(row: dict[str, Any]) -> str:
    return f"{row['kind']}-{row['n']}-{row['vsize']}-{row['fields']}-{row['ttl']}"


def value_of(row: dict[str, Any]) -> RedisObject:
    """The value each key of a recorded load has, as the provenance describes it."""
    fields, text = row["fields"], b"x" * row["vsize"]
    if row["kind"] == "hash":
        return hset(None, [(b"field:%04d" % i, text) for i in range(fields)], DEBIAN)
    if row["kind"] == "zset":
        return zadd(None, [(b"member:%06d" % i, float(i * 7919 % 100003)) for i in range(fields)], DEBIAN)
    return set_command(b"1234567" if row["kind"] == "int" else text, DEBIAN)


def loaded(row: dict[str, Any], *, is_rehashing: bool = False) -> DatasetMemory:
    expires = row["n"] if row["ttl"] else 0
    blocks = value_blocks(value_of(row), DEBIAN)
    return dataset_memory(numbered_keys(4, row["n"]), blocks, DEBIAN, expires=expires, is_rehashing=is_rehashing)


def buffers(*, age_ns: int, idle_ns: int = 0) -> ClientBuffers:
    """A connection of that age that answers little: reply buffer cut soon, query buffer gone after two idle seconds."""
    query = 0 if idle_ns > IDLE_NS else query_buffer_bytes(DEBIAN)
    return ClientBuffers(query, reply_buffer_bytes(DEBIAN, 0 if age_ns > CRON_NS else None))


def predicted_used(row: dict[str, Any], since_load_ns: int, *, is_rehashing: bool = False) -> int:
    """used_memory from the load's description: start-up, histograms of the commands called, connections, data.

    How many connections there were is read off the empty server; all but the one that loads and asks are idle. Commands: INFO and
    another before, the load's own and one more after it, EXPIRE where the type has no TTL of its own.
    """
    startup, load_ns = row["empty"]["used_memory_startup"], int(row["load_s"] * S)
    fresh = connection_bytes(ClientBuffers(query_buffer_bytes(DEBIAN)), DEBIAN)
    connections = round((row["empty"]["used_memory"] - startup - 2 * HISTOGRAM_BYTES) / fresh)
    commands = 5 if row["ttl"] and row["kind"] != "string" else 4
    age_ns = load_ns + since_load_ns
    clients = connection_bytes(buffers(age_ns=age_ns), DEBIAN)
    clients += (connections - 1) * connection_bytes(buffers(age_ns=age_ns, idle_ns=age_ns), DEBIAN)
    return startup + commands * HISTOGRAM_BYTES + clients + loaded(row, is_rehashing=is_rehashing).total_bytes


def predicted_pages(row: dict[str, Any], since_load_ns: int) -> Pages:
    """Pages behind a load, those of its old tables still dirty."""
    tables = 2 if row["ttl"] else 1
    dirty = old_tables_dirty_bytes(row["n"], int(row["load_s"] * S), since_load_ns, DEBIAN) * tables
    return pages(predicted_used(row, since_load_ns), loaded(row).blocks, DEBIAN, dirty=dirty)
