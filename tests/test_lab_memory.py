"""Memory of a real server as the validation pack looks at it, and its cache-aside clients; what a case of it asks and gets."""

import math
import shutil

import pytest

from redsim.host.malloc import ALLOCATORS
from redsim.lab.case import load_pack
from redsim.lab.memory_predicted import EXACT, at_rest, filled_value, last_due_ns
from redsim.lab.memory_twin import KeySeen, gone_after_ms
from redsim.lab.shapes import shapes
from redsim.lab.twin import real_run
from redsim.redis.config import Rules
from redsim.redis.object import ALL, memory_usage
from redsim.scenario.load import Scenario
from redsim.units import MS

needs_server = [pytest.mark.real, pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on PATH")]

TEXT = """\
question: What is there?
duration: 1500ms
window: 20ms
hosts: {box: {profile: default}}
nodes: {main: {host: box, allocator: jemalloc-debian, conf: 'save ""'}}
"""
KINDS = """\
datasets:
  s: {node: main, keys: 300, value_bytes: {uniform: [1, 60]}, ttl: {uniform: [100ms, 300ms], share: 0.5}}
  h: {node: main, keys: 20, type: hash, elements: {uniform: [1, 200]}, value_bytes: 10}
  l: {node: main, keys: 3, type: list, elements: 1500, value_bytes: 20}
  e: {node: main, keys: 10, type: set, elements: 30, value_bytes: 12}
  z: {node: main, keys: 10, type: zset, elements: 30, value_bytes: 12}
"""
CACHE = """\
datasets: {d: {node: main, keys: 40, present: 0, value_bytes: 10}}
clients:
  api: {node: main, arrivals: {closed: {}}, requests: 100, commands: {GET: 1},
        keys: {dataset: d, popularity: sequential}, on_miss: {fetch: 1ms, ttl: 1h}}
"""


def rules(scenario: Scenario) -> Rules:
    return Rules(scenario.confs["main"], ALLOCATORS["jemalloc-debian"])


def test_the_pack_has_cases_about_memory() -> None:
    """Issue 4: bytes per key, data-set memory, hit ratio, evicted keys, expiry lag and its latency."""
    mine = [case for case in load_pack() if case.is_memory]
    asked = {quantity for case in mine for quantity in case.file.quantities}
    assert len(mine) >= 12
    assert {"bytes_per_key", "used_memory_bytes", "used_memory_rss_bytes", "hit_ratio", "evicted_keys", "gone_after_ms"} <= asked
    assert {"p99_us", "keys_exact", "expired_keys"} <= asked


@pytest.mark.parametrize("name", ["s", "h", "l", "e", "z"])
def test_a_key_is_built_as_the_real_server_is_filled(name: str) -> None:
    """shapes.filling and memory_predicted.filled_value: as many elements, the same key; its MEMORY USAGE holds them all."""
    scenario = Scenario.from_text(TEXT + KINDS)
    shape = shapes(scenario)[name]
    value = filled_value(shape, 2, rules(scenario))
    elements = int(shape.elements[2]) if name != "s" else 1
    smallest = elements * (int(shape.value_bytes[2]) if name == "s" else shape.element_bytes)
    assert memory_usage(shape.key(2), value, rules(scenario), ALL) > smallest


def test_sampled_keys_are_exact_or_not_one_by_one() -> None:
    """The model's own answer is exact; a byte more or another encoding is not."""
    scenario = Scenario.from_text(TEXT + KINDS)
    shape = shapes(scenario)["h"]
    value = filled_value(shape, 0, rules(scenario))
    right = memory_usage(shape.key(0), value, rules(scenario), ALL)
    seen = [KeySeen("h", 0, enc, size) for enc, size in ((value.encoding, right), (value.encoding, right + 1), ("raw", right))]
    found = at_rest(scenario, seen)
    assert (found[EXACT], found["bytes_per_key"]) == (1, right)


def test_the_last_key_is_gone_when_none_is_left_after_its_time() -> None:
    """memory_twin.gone_after_ms: an empty look before the time does not count; nan if keys stay."""
    assert last_due_ns(Scenario.from_text(TEXT + KINDS)) == 300 * MS
    looks = [(0, 0), (200 * MS, 5), (320 * MS, 1), (340 * MS, 0), (360 * MS, 0)]
    assert gone_after_ms(looks, 300 * MS) == 40
    assert math.isnan(gone_after_ms(looks[:3], 300 * MS))


class TestOnARealServer:
    """A server of our own; counts and encodings, nothing timed."""

    pytestmark = needs_server

    def test_the_filled_server_has_the_predicted_encodings_and_its_keys_expire(self) -> None:
        """INFO, OBJECT ENCODING: each data set's keys; those with a TTL go once the run has begun."""
        scenario = Scenario.from_text(TEXT + KINDS)
        run = real_run(scenario, spin=False, looks_at_memory=True)
        assert run.memory is not None
        known = shapes(scenario)
        for key in run.memory.keys:
            value = filled_value(known[key.dataset], key.index, rules(scenario))
            assert (key.dataset, key.index, key.encoding) == (key.dataset, key.index, value.encoding)
        assert {key.dataset for key in run.memory.keys} == set(known)
        assert run.memory.dataset_bytes > sum(key.memory_bytes for key in run.memory.keys)

    def test_each_miss_of_a_cache_aside_client_becomes_one_set(self) -> None:
        """100 GETs over 40 keys in turn: 40 find nothing, and are SET before the next one; the others hit."""
        run = real_run(Scenario.from_text(TEXT + CACHE), spin=False)
        calls = {name: row["calls"] for name, row in run.node.commandstats.items()}
        assert calls == {"GET": 100, "SET": 40}
        assert (run.node.stats["keyspace_hits"], run.node.stats["keyspace_misses"], run.node.keys_end) == (60, 40, 40)
        assert run.groups["api"].completed == 140

    def test_a_run_lasts_until_its_keys_are_due(self) -> None:
        """memory_twin.ExpiryWatch: with a client to fill the time, the last of half the strings goes, and is counted."""
        clients = "clients: {c: {node: main, arrivals: {open: {rate_per_s: 100}}, commands: {PING: 1}}}\n"
        run = real_run(Scenario.from_text(TEXT + KINDS + clients), spin=False, looks_at_memory=True)
        assert run.memory is not None
        with_ttl = run.memory.expires[0][1]
        assert 100 <= with_ttl <= 200
        assert (run.memory.expires[-1][1], run.node.stats["expired_keys"]) == (0, with_ttl)
