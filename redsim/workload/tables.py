"""One int64 array for all tables the data plane draws from, and the tables themselves: aliases and size distributions."""

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from redsim.dataplane import layout as dp
from redsim.dataplane.draws import fill_sizes
from redsim.rng import generator, stream
from redsim.scenario.schema import Size

Ints = npt.NDArray[np.int64]
TABLE_ROWS = 12
_CELLS = 1024


class Tables:
    """Collects tables and distributions; `tab` and `dist` are what the World takes."""

    def __init__(self) -> None:
        self._parts: list[Ints] = [np.zeros(1, dtype=np.int64)]
        self._length = 1
        self._dist: list[tuple[int, int, int]] = []

    def add(self, words: Ints) -> int:
        """Offset at which `words` will lie."""
        offset = self._length
        self._parts.append(words.astype(np.int64))
        self._length += words.size
        return offset

    def size(self, size: Size) -> int:
        """Number of the distribution of `size`."""
        self._dist.append(self._size_row(size))
        return len(self._dist) - 1

    def weighted(self, values: list[int], weights: list[float]) -> int:
        """Number of the distribution that gives values[i] with weight weights[i]."""
        words = np.concatenate([alias_words(np.array(weights)), np.array(values, dtype=np.int64)])
        self._dist.append((dp.DIST_ALIAS, self.add(words), len(values)))
        return len(self._dist) - 1

    def quantiles(self, words: list[int]) -> int:
        """Number of the distribution with these quantiles: 1025 of it all, then 1025 of its last 1/1024."""
        self._dist.append((dp.DIST_QUANTILE, self.add(np.array(words, dtype=np.int64)), 0))
        return len(self._dist) - 1

    def _size_row(self, size: Size) -> tuple[int, int, int]:
        if size.constant is not None:
            return dp.DIST_CONSTANT, size.constant, 0
        if size.table is not None:
            values = np.array([v for v, _ in size.table], dtype=np.int64)
            words = np.concatenate([alias_words(np.array([weight for _, weight in size.table])), values])
            return dp.DIST_ALIAS, self.add(words), len(values)
        return dp.DIST_QUANTILE, self.add(quantile_words(size)), 0

    @property
    def tab(self) -> Ints:
        return np.concatenate(self._parts)

    @property
    def dist(self) -> Ints:
        return np.array(self._dist or [(0, 0, 0)], dtype=np.int64)


def alias_words(weights: npt.NDArray[np.float64]) -> Ints:
    """Vose's alias table [vose-1991] as pairs (threshold out of 2**32, alias): shape (2 * n,)."""
    n = len(weights)
    scaled = np.asarray(weights, dtype=np.float64) * (n / float(np.sum(weights)))
    threshold = np.full(n, 2**32, dtype=np.int64)
    alias = np.arange(n, dtype=np.int64)
    small = [i for i in range(n) if scaled[i] < 1.0]
    large = [i for i in range(n) if scaled[i] >= 1.0]
    left = scaled.tolist()
    while small and large:
        low, high = small.pop(), large[-1]
        threshold[low] = round(left[low] * 2**32)
        alias[low] = high
        left[high] -= 1.0 - left[low]
        if left[high] < 1.0:
            small.append(large.pop())
    return np.stack([threshold, alias], axis=1).ravel()


def quantile_at(size: Size, q: float) -> int:
    """Quantile 0 <= q <= 1 of a continuous `size`."""
    if size.uniform is not None:
        return size.uniform.low + math.floor((size.uniform.high + 1 - size.uniform.low) * q)
    q = min(max(q, 2.0**-24), 1 - 2.0**-24)
    if size.lognormal is not None:
        value = size.lognormal.median * math.exp(size.lognormal.sigma * NormalDist().inv_cdf(q))
        return min(max(round(value), 1), size.lognormal.max or 2**29)
    assert size.gpareto is not None
    shape = size.gpareto.shape
    tail = -math.log(1 - q) if abs(shape) < 1e-9 else ((1 - q) ** -shape - 1) / shape
    return min(max(round(size.gpareto.location + size.gpareto.scale * tail), 1), size.gpareto.max)


def quantile_words(size: Size) -> Ints:
    """1025 quantiles, then 1025 of the last 1/1024."""
    main = [quantile_at(size, i / _CELLS) for i in range(_CELLS + 1)]
    tail = [quantile_at(size, 1 - (1 - i / _CELLS) / _CELLS) for i in range(_CELLS + 1)]
    return np.array(main + tail, dtype=np.int64)


def sample(size: Size, count: int, seed: int, *names: str) -> npt.NDArray[np.int32]:
    """`count` draws of `size` from the stream `names`: how a data set is filled. Capped at 2**31 - 1."""
    if size.constant is not None:
        return np.full(count, min(size.constant, 2**31 - 1), dtype=np.int32)
    if size.table is not None:
        values, weights = np.array([v for v, _ in size.table]), np.array([w for _, w in size.table])
        return generator(seed, *names).choice(values, size=count, p=weights / weights.sum()).astype(np.int32)
    out = np.empty(count, dtype=np.int32)
    fill_sizes(out, stream(seed, *names).reshape(1, 2), quantile_words(size))
    return out


def mean(size: Size) -> int:
    """The mean of `size`, rounded (numerically for continuous ones)."""
    if size.constant is not None:
        return size.constant
    if size.table is not None:
        total = sum(weight for _, weight in size.table)
        return round(sum(v * weight for v, weight in size.table) / total)
    words = quantile_words(size)
    cells = (words[:_CELLS] + words[1 : _CELLS + 1]) / 2
    tail = ((words[_CELLS + 1 : -1] + words[_CELLS + 2 :]) / 2).mean()
    return round((cells[:-1].sum() + tail) / _CELLS)


def table_of(values: Ints, rows: int = TABLE_ROWS) -> list[tuple[int, int]]:
    """(value, count) pairs, values rising: all of them, or the means of `rows` groups of equal count and the greatest."""
    distinct, counts = np.unique(np.asarray(values, dtype=np.int64), return_counts=True)
    if distinct.size <= rows:
        return [(int(v), int(c)) for v, c in zip(distinct, counts, strict=True)]
    ordered = np.sort(values)
    merged: dict[int, int] = {}
    for group in [*np.array_split(ordered[:-1], rows - 1), ordered[-1:]]:
        middle = round(float(group.mean()))
        merged[middle] = merged.get(middle, 0) + int(group.size)
    return sorted(merged.items())
