"""How much memory the data sets of a scenario take: `redsim size scenario.yaml`.

Every data set is a sample of its keys, each built as its node's version, allocator and conf have it; the means of the sample
count for all keys. A constant size needs one key.
Differs: the elements of one key are all as long as one draw of `value_bytes`. Not modelled: what clients add and remove later.
"""

from collections import Counter
from dataclasses import dataclass

from redsim.redis.config import Rules, rules
from redsim.redis.memory_overhead import dataset_memory
from redsim.redis.object import ALL, key_bytes, object_size
from redsim.redis.value_blocks import value_blocks
from redsim.run.rdb_datasets import FIELD_BYTES, datasets_of
from redsim.run.size import KeyShape
from redsim.scenario.load import Scenario
from redsim.scenario.schema import Dataset
from redsim.units import say_bytes
from redsim.workload.tables import sample

__all__ = ["SizedDataset", "scenario_lines", "sized_dataset"]

SAMPLED_KEYS_MAX = 500
SAMPLED_ELEMENTS_MAX = 200_000


@dataclass(frozen=True, slots=True)
class SizedDataset:
    """One data set at rest, before any client: means of the sampled keys, totals of all."""

    name: str
    node: str
    type: str
    keys: int
    encodings: Counter[str]  # of the sampled keys
    memory_usage_bytes: float  # MEMORY USAGE SAMPLES 0 of a key
    used_memory_bytes: int  # with the keyspace's table and the entries of TTLs


def _shapes(name: str, data: Dataset, seed: int) -> list[KeyShape]:
    """The sampled keys; as many as keep their elements within SAMPLED_ELEMENTS_MAX."""
    is_constant = all(size.constant is not None for size in (data.key_bytes, data.value_bytes, data.elements))
    count = 1 if is_constant else min(data.keys, SAMPLED_KEYS_MAX)
    lengths = zip(
        sample(data.elements, count, seed, "size", name, "elements"),
        sample(data.key_bytes, count, seed, "size", name, "keys"),
        sample(data.value_bytes, count, seed, "size", name, "values"),
        strict=True,
    )
    shapes: list[KeyShape] = []
    elements_left = SAMPLED_ELEMENTS_MAX
    for elements, key_length, value_length in lengths:
        shape = KeyShape(data.type, max(1, int(elements)), int(key_length), FIELD_BYTES, int(value_length))
        elements_left -= shape.elements
        if shapes and elements_left < 0:
            break
        shapes.append(shape)
    return shapes


def sized_dataset(name: str, data: Dataset, ruled: Rules, seed: int) -> SizedDataset:
    """The data set on a server of these rules; at least one key."""
    shapes = _shapes(name, data, seed)
    built = [shape.built(ruled) for shape in shapes]
    usages = [key_bytes(shape.key_bytes, ruled) + object_size(obj, ruled, ALL) for shape, obj in zip(shapes, built, strict=True)]
    keys = round(data.keys * data.present)
    values: Counter[int] = Counter()
    for obj in built:
        values.update(value_blocks(obj, ruled))
    mean_value = {size: count / len(built) for size, count in values.items()}
    volatile = round(keys * data.ttl.share) if data.ttl else 0
    at_rest = dataset_memory(_key_lengths(shapes, keys), mean_value, ruled, expires=volatile)
    encodings = Counter(obj.encoding for obj in built)
    return SizedDataset(name, data.node, data.type, keys, encodings, sum(usages) / len(usages), at_rest.total_bytes)


def _key_lengths(shapes: list[KeyShape], keys: int) -> dict[int, int]:
    """{length: how many} of all keys, in the sample's proportions; what rounding leaves has the first key's length."""
    counts = {length: keys * count // len(shapes) for length, count in Counter(s.key_bytes for s in shapes).items()}
    counts[shapes[0].key_bytes] += keys - sum(counts.values())
    return counts


def scenario_lines(scenario: Scenario) -> list[str]:
    """A table for people: a line for each data set that has keys."""
    lines = []
    for name, data in datasets_of(scenario).items():
        if not data.keys:
            continue
        node = scenario.file.nodes[data.node]
        sized = sized_dataset(name, data, rules(allocator=node.allocator, conf=scenario.confs[data.node]), scenario.file.seed)
        shares = ", ".join(
            f"{encoding} {count / sized.encodings.total():.0%}" if len(sized.encodings) > 1 else encoding
            for encoding, count in sized.encodings.most_common()
        )
        lines.append(
            f"{name} on {sized.node}: {sized.keys:,} keys of type {sized.type} ({shares}),"
            f" MEMORY USAGE {sized.memory_usage_bytes:,.0f} bytes a key,"
            f" used_memory {say_bytes(sized.used_memory_bytes)} ({sized.used_memory_bytes:,} bytes)"
        )
    return lines or [f"{scenario.name}: no data set has a key"]
