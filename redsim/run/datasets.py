"""The data sets of a World: a row each, and the columns of their keys, filled from the seed.

Not modelled: key names; sizes of the single elements of an aggregate.
"""

import numpy as np
import numpy.typing as npt

from redsim.dataplane import layout as dp
from redsim.dataplane.expires import MS_NS
from redsim.rng import generator
from redsim.run.groups import Plans
from redsim.scenario.monitor import bulk_bytes
from redsim.scenario.schema import Dataset
from redsim.scenario.shape import Ttl
from redsim.workload.tables import mean, sample


def fill_datasets(plans: Plans, seed: int) -> tuple[dp.I64, dict[str, np.ndarray]]:
    """(dataset rows, key columns by their names in the World). A column that no data set needs has one row."""
    names = list(plans.datasets)
    total = max(sum(data.keys for data in plans.datasets.values()), 1)
    has_aggregates = any(data.type != "string" for data in plans.datasets.values())
    volatile = {k.row[dp.K_DATASET] for p in plans.plans for k in p.all_kinds if k.row[dp.K_TTL] > 0}
    volatile |= {i for i, name in enumerate(names) if plans.datasets[name].ttl is not None}
    kv = np.zeros((total, 2), dtype=np.int32)
    ke = np.zeros(total if has_aggregates else 1, dtype=np.int32)
    kx = np.zeros(total if volatile else 1, dtype=np.int64)
    appends = any(k.row[dp.K_OP] == dp.OP_APPEND for p in plans.plans for k in p.kinds)
    grown = np.zeros(total if appends else 1, dtype=np.int32)
    rows = dp.rows(max(len(names), 1), dp.D_SIZE)
    base = 0
    for i, name in enumerate(names):
        data = plans.datasets[name]
        mine = slice(base, base + data.keys)
        row = rows[i]
        row[dp.D_BASE], row[dp.D_N], row[dp.D_LIVE] = base, data.keys, data.keys
        row[dp.D_STRING] = int(data.type == "string")
        row[dp.D_EBYTES], row[dp.D_KEYBYTES] = mean(data.value_bytes), mean(data.key_bytes)
        row[dp.D_KEYBULK] = bulk_bytes(mean(data.key_bytes))
        row[dp.D_VOLATILE] = int(i in volatile)
        if data.type == "string":
            kv[mine, 0] = sample(data.value_bytes, data.keys, seed, "dataset", name, "values")
        else:
            ke[mine] = np.maximum(sample(data.elements, data.keys, seed, "dataset", name, "elements"), 1)
        if data.present < 1:
            absent = generator(seed, "dataset", name, "present").random(data.keys) >= data.present
            kv[mine, 0][absent] = dp.NODATA
            row[dp.D_LIVE] = data.keys - int(absent.sum())
        if data.ttl is not None:
            kx[mine] = np.where(kv[mine, 0] == dp.NODATA, 0, due_ns(data, data.ttl, seed, name))
            row[dp.D_EXPIRES] = np.count_nonzero(kx[mine])
        base += data.keys
    return rows, {"kv": kv, "ke": ke, "kx": kx, "grown": grown}


def due_ns(data: Dataset, ttl: Ttl, seed: int, name: str) -> npt.NDArray[np.int64]:
    """When each key of the data set is due, in whole milliseconds and at least one; 0 for a key without a TTL."""
    low, high = (max(time_ns // MS_NS, 1) for time_ns in ttl.uniform)
    due_ms = generator(seed, "dataset", name, "ttl").integers(low, high, data.keys, endpoint=True)
    if ttl.share < 1:
        due_ms[generator(seed, "dataset", name, "ttl-share").random(data.keys) >= ttl.share] = 0
    return due_ms * MS_NS
