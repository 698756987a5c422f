"""Bytes of a list by its number of elements: the law that the data plane and its twin keep, against lists pushed one by one."""

import pytest
from small_worlds import clients, node, scenario, steady

from redsim.dataplane.memory import recount
from redsim.dataplane.twin.memory import aggregate
from redsim.dataplane.twin.things import read_world
from redsim.host.malloc import ALLOCATORS
from redsim.redis.config import Rules
from redsim.redis.t_list import push
from redsim.redis.value_blocks import value_blocks
from redsim.run.build import build

COUNTS = (1, 2, 127, 158, 159, 500, 1024, 1025, 1999, 4097, 5003)
CONFS = ("", "list-max-listpack-size -5", "list-max-listpack-size 40", "list-compress-depth 1")


def pushed_bytes(count: int, element_bytes: int, rules: Rules) -> int:
    """As a client pushes them, block by block."""
    obj = None
    for _ in range(count):
        obj = push(obj, [b"m" * element_bytes], rules, at_head=True)
    assert obj is not None
    return round(sum(size * blocks for size, blocks in value_blocks(obj, rules).items()))


@pytest.mark.parametrize("conf", CONFS)
@pytest.mark.parametrize("version", ["7.0", "7.2", "7.4"])
@pytest.mark.parametrize("element_bytes", [1, 50, 300, 9000])
def test_a_list_takes_the_bytes_of_its_nodes(element_bytes: int, version: str, conf: str) -> None:
    """quicklist.c through redsim/redis/quicklist.py; a straight line between powers of two was 1.5 % off at 500 x 50 bytes
    (validation case memory-list), and up to a node of 64 KiB off with list-max-listpack-size -5."""
    data = f"datasets:\n  d: {{node: main, keys: 10, type: list, elements: 5, value_bytes: {element_bytes}}}\n"
    group = steady("api", "{open: {rate_per_s: 1000}}", command="{LRANGE: 1}", more=", keys: {dataset: d}")
    text = "duration: 1s\nwarmup: 0s\nseed: 1\n" + node(conf, version) + data + clients(group)
    loaded = scenario(text)
    world, rules = build(loaded).world, Rules(loaded.confs["main"], ALLOCATORS["jemalloc"])
    counts = [count for count in COUNTS if count * element_bytes < 2_000_000]
    want = {count: pushed_bytes(count, element_bytes, rules) for count in counts}
    totals = {}
    for count in counts:
        world.ke[:] = count
        totals[count] = recount(world)
    assert {count: (totals[count] - totals[1]) // 10 + want[1] for count in counts} == want
    sim = read_world(world)
    assert {count: aggregate(sim, sim.datasets[0], count) for count in counts} == want
