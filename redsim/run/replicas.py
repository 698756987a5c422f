"""Replicas."""
import numpy as np
from redsim.dataplane import layout as dp


def repl_arrays() -> dict[str, dp.I64]:
    return {"repl": np.zeros(dp.M_SIZE, dtype=np.int64), "behind": np.zeros(dp.COARSE_BUCKETS + 2, dtype=np.int64),
            "block": dp.rows(16, 2), "stream": dp.rows(16, dp.Y_SIZE), "wire": dp.rows(1, dp.W_SIZE, dp.NONE),
            "mail": dp.rows(1, 2)}
