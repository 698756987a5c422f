"""Log-linear histograms in integers: 128 (fine) or 16 (coarse) buckets per octave of nanoseconds.

Mirrors HdrHistogram's bucketing [hdrhistogram]: no value is further from its bucket's edge than 1/128 (1/16) of itself.
"""

import numpy as np
import numpy.typing as npt
from numba.cpython.unsafe.numbers import leading_zeros

from redsim.dataplane.compile import inlined
from redsim.dataplane.layout import *

FINE_BITS = 7
COARSE_BITS = 4


@inlined
def bit_length(value):
    """Bits of a value >= 1, below 2**62."""
    return 64 - leading_zeros(np.int64(value))


@inlined
def bucket_of(value, length, bits):
    """Bucket of a value >= 0 with `length` bits (0 counts as 1)."""
    shift = length - bits - 1
    if shift <= 0:
        return value
    return (shift << bits) + (value >> shift)


def edges(bits: int, buckets: int) -> npt.NDArray[np.int64]:
    """Lower edges of the buckets and one more: shape (buckets + 1,)."""
    index = np.arange(buckets + 1, dtype=np.int64)
    shift = np.maximum((index >> bits) - 1, 0)
    return np.where(index < (2 << bits), index, (index - (shift << bits)) << shift)


FINE_EDGES = edges(FINE_BITS, FINE_BUCKETS)
COARSE_EDGES = edges(COARSE_BITS, COARSE_BUCKETS)


def percentile_ns(counts: npt.NDArray[np.int64], edges_ns: npt.NDArray[np.int64], q: float, top_ns: int) -> int:
    """Smallest value with at least q of the counts at or below it: middle of its bucket, at most `top_ns`; 0 if empty."""
    total = int(counts.sum())
    if total == 0:
        return 0
    rank = min(total, max(1, int(np.ceil(q * total))))
    bucket = int(np.searchsorted(np.cumsum(counts), rank))
    return min(int(edges_ns[bucket] + edges_ns[bucket + 1] - 1) // 2, top_ns)
