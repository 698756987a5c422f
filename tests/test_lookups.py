"""Look-ups by the bytes that a data set lies in: run/lookups.py against its law, and a sweep on a real server.

SWEEP is a measurement of ours [lab-value-bytes]: ns inside GET and EXISTS of random keys, less the same command on one hot key,
by keys and bytes of the value.
"""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from redsim.dataplane import layout as dp
from redsim.host.malloc import ALLOCATORS
from redsim.redis.config import Rules
from redsim.run.build import build
from redsim.run.kinds import curve_row
from redsim.run.lookups import shape_of
from redsim.scenario.profile import HostProfile, load_profile
from tests.small_worlds import scenario

SWEEP = {  # (command, keys, bytes): ns
    ("GET", 10_000, 3): 334, ("GET", 100_000, 3): 587, ("GET", 1_000_000, 3): 1036,
    ("GET", 10_000, 44): 542, ("GET", 100_000, 44): 756, ("GET", 1_000_000, 44): 1130,
    ("GET", 10_000, 100): 665, ("GET", 100_000, 100): 1010, ("GET", 1_000_000, 100): 1382,
    ("EXISTS", 10_000, 100): 450, ("EXISTS", 100_000, 100): 682, ("EXISTS", 1_000_000, 100): 1136,
}  # fmt: skip
DEV_VM = load_profile("dev-vm", Path())
BODY = """\
duration: 1ms
nodes: {{main: {{host: box, allocator: jemalloc-debian}}}}
datasets: {{d: {{node: main, keys: 1000, key_bytes: 12, {data}}}}}
clients:
  c: {{node: main, connections: 1, arrivals: {{open: {{rate_per_s: 100}}}}, commands: {{{command}: 1}}, keys: {{dataset: d}}}}
"""


def row_of(command: str, data: str, *, profile: HostProfile = DEV_VM) -> list[int]:
    """The curve that the kind's look-ups go by, ns at 2**i keys."""
    one = scenario(BODY.format(command=command, data=data))
    built = build(replace(one, profiles=dict.fromkeys(one.profiles, profile)))
    (kind,) = [k for k in built.kinds if k.row[dp.K_LOOKUPS] > 0]
    row: list[int] = built.world.curve[kind.row[dp.K_LOOKUP_CURVE]].tolist()
    return row


def at(row: list[int], keys: int) -> float:
    return float(np.interp(np.log2(keys), range(len(row)), row))


def test_values_of_the_size_measured_cost_what_was_measured():
    """run/lookups.py: 100 bytes under keys of 12 are the unit."""
    assert row_of("GET", "value_bytes: 100") == curve_row(DEV_VM.curves["lookup"])


@pytest.mark.parametrize(("command", "keys", "size"), SWEEP)
def test_a_look_up_follows_bytes_as_it_did_in_the_sweep(command: str, keys: int, size: int):
    """[lab-value-bytes] within 30 %: one round of the sweep is as far from the next (3 bytes among 10k: 244 to
    360). The profile was measured on another day."""
    assert at(row_of(command, f"value_bytes: {size}"), keys) == pytest.approx(SWEEP[command, keys, size], rel=0.3)


def test_more_bytes_cost_more_until_nothing_is_cached():
    """The law: as many keys in more bytes are as cold as more keys."""
    rows = [row_of("GET", f"value_bytes: {size}") for size in (45, 100, 1000, 10_000)]
    for fewer, more in itertools.pairwise(rows):
        assert all(a <= b for a, b in zip(fewer, more, strict=True))
    assert rows[2][13] == pytest.approx(DEV_VM.curves["lookup"].at(2**13 * shape_of_size(1000)), abs=1)


def shape_of_size(size: int) -> float:
    one = scenario(BODY.format(command="GET", data=f"value_bytes: {size}"))
    rules = Rules(one.confs["main"], ALLOCATORS["jemalloc-debian"])
    return shape_of(one.file.datasets["d"], rules)[0]


def test_a_mixture_is_spared_by_its_share_of_small_values():
    """shape_of: half of uniform 1 .. 87 bytes lies inside the robj; counters all do."""
    one = scenario(BODY.format(command="GET", data="value_bytes: {uniform: [1, 88]}"))
    rules = Rules(one.confs["main"], ALLOCATORS["jemalloc-debian"])
    assert shape_of(one.file.datasets["d"], rules)[1] == pytest.approx(0.5, abs=0.01)
    assert shape_of(one.file.datasets["d"], rules, is_counter=True)[1] == 1


def test_aggregates_and_older_profiles_go_by_the_number_of_keys():
    """What is said under Differs."""
    plain = curve_row(DEV_VM.curves["lookup"])
    assert row_of("HGET", "type: hash, elements: 50, value_bytes: 1000") == plain
    older = replace(DEV_VM, curves={name: curve for name, curve in DEV_VM.curves.items() if name != "value"})
    assert row_of("GET", "value_bytes: 3", profile=older) == plain


def test_no_look_up_costs_less_than_nothing():
    """A profile whose `value` is dearer than its `lookup` was measured on a noisy machine."""
    odd = replace(DEV_VM, curves={**DEV_VM.curves, "value": replace(DEV_VM.curves["lookup"], points=((1, 5000), (10, 5000)))})
    assert set(row_of("GET", "value_bytes: 3", profile=odd)) == {0}
