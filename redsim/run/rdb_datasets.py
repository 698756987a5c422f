"""Data sets that take their shape from an RDB file: `datasets: {users: {node: main, rdb: dump.rdb, prefix: "user:"}}`.

The keys of the file that begin with the prefix and have the data set's type (without one, the type most of them have) give the
number of keys, the tables of key lengths, elements and value lengths, and the TTLs; whatever the scenario says itself stands.
Differs: of a hash's element a scenario gives the value, its field is taken to have FIELD_BYTES; TTLs are spread evenly from the
shortest left to the longest, and those of ten years and more are none; keys past theirs when the file was written are left out.
Not modelled: how sizes go together (long keys with long values); streams and modules' values.
"""

from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from redsim.redis.rdb_load import element_count
from redsim.redis.rdb_read import read_rdb
from redsim.run.rdb_report import Part, pattern_of
from redsim.scenario.check import DATASET_KEYS_MAX
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.scenario.schema import Dataset, Size
from redsim.scenario.shape import Ttl
from redsim.units import DAY, MS
from redsim.workload.tables import table_of

__all__ = ["FIELD_BYTES", "MODELLED", "datasets_of", "shape_of"]

FIELD_BYTES = 6  # of a hash field, as the simulator's HSET sends it
MODELLED = ("string", "list", "hash", "set", "zset")
_NAMED_MAX = 6
_NEVER_MS = 3650 * DAY // MS  # a scenario's longest time


def datasets_of(scenario: Scenario) -> dict[str, Dataset]:
    """The scenario's data sets, those with `rdb` filled in; ScenarioError where a file cannot be read or has no such keys."""
    return {name: _filled(scenario, name, data) if data.rdb else data for name, data in scenario.file.datasets.items()}


def _filled(scenario: Scenario, name: str, data: Dataset) -> Dataset:
    place, path = scenario.where("datasets", name, "rdb"), Path(str(data.rdb))
    try:
        parts, others = _read(path, path.stat().st_mtime_ns if path.is_file() else 0, data.prefix)
    except ScenarioError as error:
        raise ScenarioError(f"{place}: {error}") from None
    said = data.model_fields_set
    kinds = [data.type] if "type" in said else sorted(set(parts) & set(MODELLED), key=lambda kind: -parts[kind].keys)
    shape = shape_of(parts[kinds[0]], kinds[0]) if kinds and kinds[0] in parts else {}
    if not shape.get("keys"):
        kind = f"{data.type} keys" if "type" in said else "keys of a type that is simulated"
        there = ", ".join(f"{count:,} {of}" for of, count in others.most_common(_NAMED_MAX)) or "no others"
        raise ScenarioError(f"{place}: {path} has no {kind} beginning with {data.prefix!r}; it has {there}")
    if not data.keys and shape["keys"] > DATASET_KEYS_MAX:
        raise ScenarioError(
            f"{place}: {path} has {shape['keys']} such keys; at most {DATASET_KEYS_MAX} are simulated, give keys:"
        )
    taken = {field: value for field, value in shape.items() if field not in said}
    return data.model_copy(update=taken | {"keys": data.keys or shape["keys"]})


@lru_cache(maxsize=8)
def _read(path: Path, _changed_ns: int, prefix: str) -> tuple[dict[str, Part], Counter[str]]:
    """(by type, the keys that begin with `prefix`; how many there are of other patterns)."""
    begins = prefix.encode()
    parts: dict[str, Part] = {}
    others: Counter[str] = Counter()
    file = read_rdb(path)
    for key in file.read_keys():
        if key.key.startswith(begins):
            part, elements = parts.setdefault(key.type, Part()), element_count(key)
            part.add(key, elements, 0, file.written_ms)
            part.add_sizes(key, elements)
        else:
            others[f"{pattern_of(key.key)} ({key.type})"] += 1
    return parts, others


def shape_of(part: Part, kind: str) -> dict[str, Any]:
    """The fields of a Dataset that these keys of one type make; `keys` counts those that are not past their TTL."""
    left_ms = [ttl_ms for ttl_ms in part.ttl_ms if ttl_ms > 0]
    keys = part.keys - len(part.ttl_ms) + len(left_ms)
    value_bytes = part.value_bytes
    if kind == "hash":
        value_bytes = Counter()
        for length, count in part.value_bytes.items():
            value_bytes[max(length - FIELD_BYTES, 1)] += count
    shape: dict[str, Any] = {"keys": keys, "type": kind, "key_bytes": _size(part.key_bytes)}
    if kind != "string":
        shape["elements"] = _size(part.element_counts)
    shape["value_bytes"] = _size(value_bytes)
    due_ms = [ttl_ms for ttl_ms in left_ms if ttl_ms < _NEVER_MS]
    if due_ms:
        shape["ttl"] = Ttl.model_validate({"uniform": [f"{min(due_ms)}ms", f"{max(due_ms)}ms"], "share": len(due_ms) / keys})
    return shape


def _size(lengths: Counter[int]) -> Size:
    """A constant, or a table of sizes and how often each."""
    rows = table_of(np.repeat(list(lengths.keys()), list(lengths.values())))
    return Size(constant=rows[0][0]) if len(rows) == 1 else Size(table=[(value, float(count)) for value, count in rows])
