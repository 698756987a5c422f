"""The data sets of a run as a table: encodings, bytes, and what a directive would save where a limit is missed by little.

Mirrors the directives hash-, set- and zset-max-listpack-entries and -value (ziplist before 7.0) of config.c, by version.
Differs: each data set is a glance at some of its keys (size_scenario.py); `redsim size` looks at more. Not modelled: what the
smaller encoding costs in time.
"""

import pandas as pd

from redsim.redis.config import Rules
from redsim.run.result import DATASET_COLUMNS
from redsim.run.size_scenario import GLANCE, SizedDataset, sampled_keys, sized_dataset
from redsim.scenario.errors import ScenarioError
from redsim.scenario.schema import Dataset

MISSED_BY = 2  # a limit that would have to be raised further than this many times is no near miss
_SMALL = ("listpack", "ziplist")


def datasets_frame(datasets: dict[str, Dataset], ruled: Rules, seed: int) -> pd.DataFrame:
    """A row for each data set with keys, at rest before any client: DATASET_COLUMNS; `says` is why a row has no figures."""
    rows = [_row(name, data, ruled, seed) for name, data in datasets.items() if data.keys and data.present > 0]
    return pd.DataFrame(rows, columns=DATASET_COLUMNS)


def _row(name: str, data: Dataset, ruled: Rules, seed: int) -> tuple[object, ...]:
    try:
        sized = sized_dataset(name, data, ruled, seed, GLANCE)
    except ScenarioError as refused:  # fewer values of that length than elements: a client can ask for it, nobody can build it
        return (name, data.node, data.type, round(data.keys * data.present), "", None, None, "", None, str(refused))
    directives = _raised(name, data, sized, ruled, seed)
    conf = ruled.conf
    for directive, value in directives.items():
        conf = conf.with_override(directive, value)
    compact = sized_dataset(name, data, Rules(conf, ruled.allocator), seed, GLANCE) if directives else sized
    is_smaller = compact.used_memory_bytes < sized.used_memory_bytes
    said = ", ".join(f"{directive} {value}" for directive, value in directives.items()) if is_smaller else ""
    with_it = compact.used_memory_bytes if is_smaller else None
    figures = (sized.memory_usage_bytes, sized.used_memory_bytes, said, with_it)
    return (name, sized.node, sized.type, sized.keys, sized.said_encodings, *figures, "")


def _raised(name: str, data: Dataset, sized: SizedDataset, ruled: Rules, seed: int) -> dict[str, int]:
    """{directive: value} that would keep every sampled key small; empty if none is large, or one by far."""
    has_small = data.type in ("hash", "zset") or (data.type == "set" and ruled.since("7.2"))
    if not has_small or set(sized.encodings) <= set(_SMALL):
        return {}
    shapes = sampled_keys(name, data, seed, GLANCE)
    wanted = {
        f"{data.type}-max-{ruled.small_encoding}-entries": max(shape.elements for shape in shapes),
        f"{data.type}-max-{ruled.small_encoding}-value": max(shape.value_bytes for shape in shapes),
    }
    missed = {directive: value for directive, value in wanted.items() if value > ruled.limit(directive)}
    return missed if all(value <= MISSED_BY * ruled.limit(directive) for directive, value in missed.items()) else {}
