"""How much memory the data sets of a scenario take: `redsim size scenario.yaml`.

Every data set is a sample of its keys, each built as its node's version, allocator and conf have it; the means of the sample
count for all keys. A constant size needs one key.
Differs: the elements of one key are all as long as one draw of `value_bytes`; in a GLANCE a large key is a multiple of one of the
largest size built. Not modelled: what clients add and remove later.
"""

from collections import Counter
from dataclasses import dataclass, replace

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

__all__ = ["GLANCE", "Sampling", "SizedDataset", "sampled_keys", "scenario_lines", "sized_dataset"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How much of a data set is built: so many keys, until they have so many elements, none of them larger than `largest_key`."""

    keys_max: int = 500
    elements_max: int = 200_000
    largest_key: int = 1 << 62


GLANCE = Sampling(keys_max=100, elements_max=20_000, largest_key=16_384)  # a tenth of a second


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

    @property
    def said_encodings(self) -> str:
        """`hashtable`, or the shares of the sampled keys: `listpack 82%, hashtable 18%`."""
        counts = self.encodings.most_common()
        total = self.encodings.total()
        return ", ".join(name if len(counts) == 1 else f"{name} {count / total:.0%}" for name, count in counts)


def sampled_keys(name: str, data: Dataset, seed: int, sampling: Sampling) -> list[KeyShape]:
    """The keys of a data set that are built, in their own size."""
    is_constant = all(size.constant is not None for size in (data.key_bytes, data.value_bytes, data.elements))
    count = 1 if is_constant else min(data.keys, sampling.keys_max)
    lengths = zip(
        sample(data.elements, count, seed, "size", name, "elements"),
        sample(data.key_bytes, count, seed, "size", name, "keys"),
        sample(data.value_bytes, count, seed, "size", name, "values"),
        strict=True,
    )
    shapes: list[KeyShape] = []
    elements_left = sampling.elements_max
    for elements, key_length, value_length in lengths:
        shape = KeyShape(data.type, max(1, int(elements)), int(key_length), FIELD_BYTES, int(value_length))
        elements_left -= min(shape.elements, sampling.largest_key)
        if shapes and elements_left < 0:
            break
        shapes.append(shape)
    return shapes


def _folded(elements: int, sampling: Sampling) -> int:
    """The power of two that makes a key small enough to build; one of that many times the elements has hash tables as full."""
    return 1 << max(0, (-(-elements // sampling.largest_key) - 1).bit_length())


def sized_dataset(name: str, data: Dataset, ruled: Rules, seed: int, sampling: Sampling | None = None) -> SizedDataset:
    """The data set on a server of these rules; at least one key."""
    sampling = sampling or Sampling()
    shapes = sampled_keys(name, data, seed, sampling)
    folds = [_folded(shape.elements, sampling) for shape in shapes]
    built = [replace(shape, elements=shape.elements // fold).built(ruled) for shape, fold in zip(shapes, folds, strict=True)]
    usages: list[float] = []
    values: Counter[int] = Counter()
    for shape, fold, obj in zip(shapes, folds, built, strict=True):
        usages.append(key_bytes(shape.key_bytes, ruled) + fold * object_size(obj, ruled, ALL))
        values.update({size: fold * count for size, count in value_blocks(obj, ruled).items()})
    keys = round(data.keys * data.present)
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
        lines.append(
            f"{name} on {sized.node}: {sized.keys:,} keys of type {sized.type} ({sized.said_encodings}),"
            f" MEMORY USAGE {sized.memory_usage_bytes:,.0f} bytes a key,"
            f" used_memory {say_bytes(sized.used_memory_bytes)} ({sized.used_memory_bytes:,} bytes)"
        )
    return lines or [f"{scenario.name}: no data set has a key"]
