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
_COARSE_OF_FINE = np.searchsorted(COARSE_EDGES, FINE_EDGES[:-1], side="right") - 1


def coarse_counts(fine: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """A fine histogram, shape (FINE_BUCKETS,), by coarse buckets, shape (COARSE_BUCKETS,): each consists of whole fine ones."""
    return np.bincount(_COARSE_OF_FINE, weights=fine, minlength=COARSE_BUCKETS).astype(np.int64)


def percentiles_ns(
    counts: npt.NDArray[np.integer], edges_ns: npt.NDArray[np.int64], qs: list[float], top_ns: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Of histograms, shape (n, buckets), the smallest value with at least q of the counts at or below it, shape (n, qs): middle
    of its bucket, at most `top_ns` (n); 0 if empty."""
    below = np.cumsum(counts, axis=1, dtype=np.int64)
    total = below[:, -1]
    middle = (edges_ns[:-1] + edges_ns[1:] - 1) // 2
    found = np.zeros((len(counts), len(qs)), dtype=np.int64)
    for i, q in enumerate(qs):
        rank = np.clip(np.ceil(q * total).astype(np.int64), 1, total)
        bucket = np.count_nonzero(below < rank[:, None], axis=1)
        found[:, i] = np.minimum(middle[bucket], top_ns)
    return np.where(total[:, None] > 0, found, 0)
