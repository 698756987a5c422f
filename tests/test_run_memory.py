"""The memory a run reports: used_memory, its parts, RSS that stays when keys go, by version."""

import pytest
from small_worlds import clients, node, scenario, steady

import redsim
from redsim.host.malloc import ALLOCATORS
from redsim.redis.config import Rules
from redsim.redis.memory_overhead import command_histogram_bytes, dataset_memory
from redsim.redis.t_string import set_command
from redsim.redis.value_blocks import value_blocks
from redsim.run.result import Result

VERSIONS = ("6.2", "7.0", "7.2", "7.4", "8.0", "valkey-8.0")


def run(version: str, command: str, *, value_bytes: int = 200) -> Result:
    """Two seconds of one command on 20,000 keys of nine bytes."""
    keys = f"{{node: main, keys: 20000, type: string, key_bytes: 9, value_bytes: {value_bytes}}}"
    group = steady("api", "{open: {rate_per_s: 20000}}", command=command, more=", keys: {dataset: users}")
    body = "duration: 2s\nwarmup: 0s\nseed: 1\n" + node(version=version) + f"datasets:\n  users: {keys}\n"
    return redsim.run(scenario(body + clients(group)))


@pytest.mark.parametrize("version", VERSIONS[:-1])
def test_a_run_starts_with_the_memory_of_its_data_set_and_its_clients(version: str) -> None:
    """redis/memory_overhead.py from keys and values alone, against the running total; Valkey's embedded keys are not in it."""
    result = run(version, "{GET: 1}")
    rules = Rules(result.scenario.confs["main"], ALLOCATORS["jemalloc"])
    data = dataset_memory({9: 20_000}, value_blocks(set_command(b"x" * 200, rules), rules), rules)
    row = result.memory.iloc[-1]
    tables_and_entries = row.used_memory_overhead_bytes - row.clients_normal_bytes
    assert row.dict_table_bytes == 8 * 32_768
    info = result.summary["nodes"]["main"]["info"]["memory"]
    rest = row.used_memory_bytes - info["used_memory_startup"] - data.total_bytes - command_histogram_bytes(rules)
    assert 0 <= rest - row.clients_normal_bytes <= 50 * 700, "a client's bookkeeping is some 400 bytes beside what INFO counts"
    assert tables_and_entries > info["used_memory_startup"] + 20_000 * 40


@pytest.mark.parametrize("version", VERSIONS)
def test_rss_stays_when_keys_are_deleted_at_random(version: str) -> None:
    """jemalloc: slabs of many regions are hardly ever empty; memory-optimization page of Redis, "peak memory"."""
    result = run(version, "{DEL: 1}")
    first, last = result.memory.iloc[0], result.memory.iloc[-1]
    assert last["keys"] < 0.2 * first["keys"]
    assert last.used_memory_bytes < 0.6 * first.used_memory_bytes
    assert last.used_memory_rss_bytes > 0.9 * first.used_memory_rss_bytes
    node = result.summary["nodes"]["main"]
    assert node["used_memory_rss_bytes"]["peak"] >= node["used_memory_rss_bytes"]["final"] == last.used_memory_rss_bytes
    assert node["used_memory_bytes"]["peak"] >= first.used_memory_bytes


def test_an_empty_server_has_its_start_and_its_clients_and_the_doctor_says_so() -> None:
    """object.c:getMemoryDoctorReport below 5 MiB."""
    body = "duration: 1s\nwarmup: 0s\nseed: 1\n" + node()
    result = redsim.run(scenario(body + clients(steady("api", "{open: {rate_per_s: 1000}}", connections=3))))
    told = result.summary["nodes"]["main"]
    assert [found["code"] for found in told["memory_doctor"]] == ["empty"]
    assert told["info"]["memory"]["used_memory"] == told["used_memory_bytes"]["final"] < 1_100_000
    assert (result.memory.dict_table_bytes == 0).all()
