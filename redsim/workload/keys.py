"""Key popularity: what tables the data plane draws keys from.

Mirrors: YCSB's generators (uniform, zipfian, hotspot, latest, sequential) [ycsb-2010]; any zipf exponent >= 0, exact
[hormann-1996 for the idea of rejection]; rank 0 is key 0. `latest` is zipf by age, the newest key being the last of the data set.
Not modelled: popularity that drifts with time.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from redsim.dataplane import layout as dp
from redsim.scenario.schema import Popularity
from redsim.workload.tables import Tables, alias_words

_HEAD = 512  # ranks with a bucket of their own
_SPREAD = 1.01  # weights within a bucket differ by under this


@dataclass(frozen=True)
class KeyChoice:
    """Columns G_POP, G_POP_N, G_POP_ARG, G_POP_ARG2 of a group."""

    kind: int
    buckets: int = 0
    arg: int = 0
    arg2: int = 0


def key_choice(popularity: Popularity, keys: int, tables: Tables) -> KeyChoice:
    """The data plane's view of `popularity` over `keys` >= 1 keys; its table goes into `tables`."""
    exponent = popularity.zipf if popularity.zipf is not None else popularity.latest
    if popularity.sequential:
        return KeyChoice(dp.POP_SEQUENTIAL)
    if popularity.hotset is not None:
        hot = max(1, round(popularity.hotset.keys * keys))
        return KeyChoice(dp.POP_HOTSET, arg=hot, arg2=round(popularity.hotset.traffic * 2**32))
    if exponent is None or exponent == 0:
        return KeyChoice(dp.POP_UNIFORM) if popularity.latest is None else _zipf(0.0, keys, tables, dp.POP_LATEST)
    return _zipf(exponent, keys, tables, dp.POP_ZIPF if popularity.zipf is not None else dp.POP_LATEST)


def zipf_buckets(exponent: float, keys: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(first rank, width, mass) of buckets over ranks 0..keys-1 with weight (rank + 1) ** -exponent."""
    head = min(keys, _HEAD)
    firsts, widths = list(range(head)), [1] * head
    ratio = _SPREAD ** (1 / exponent) if exponent > 0.01 else 2.7
    at = head
    while at < keys:
        width = max(1, min(int((at + 1) * (ratio - 1)), keys - at))
        firsts.append(at)
        widths.append(width)
        at += width
    first, width_ = np.array(firsts, dtype=np.int64), np.array(widths, dtype=np.int64)
    single = (first + 1.0) ** -exponent
    low = (first + 0.5).astype(np.float64)
    high = (first + width_ + 0.5).astype(np.float64)
    return first, width_, np.where(width_ == 1, single, _power_sum(low, high, exponent))


def _power_sum(low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], s: float) -> npt.NDArray[np.float64]:
    """Sum of k ** -s over the integers between, by the midpoint rule with its first correction (error under 1e-12 here)."""
    if abs(s - 1) < 1e-12:
        integral = np.log(high / low)
    else:
        integral = (high ** (1 - s) - low ** (1 - s)) / (1 - s)
    return integral - (-s * high ** (-s - 1) + s * low ** (-s - 1)) / 24


def _zipf(exponent: float, keys: int, tables: Tables, kind: int) -> KeyChoice:
    first, width, mass = zipf_buckets(exponent, keys)
    sure = np.floor(((first + 1.0) / (first + width)) ** exponent * 2**32).astype(np.int64)
    threshold, alias = alias_words(mass).reshape(-1, 2).T
    own = np.column_stack([first, width, np.where(width == 1, 2**32, sure)])
    offset = tables.add(np.column_stack([threshold, own, own[alias], alias]).ravel())  # ZIPF_WORDS each
    return KeyChoice(kind, buckets=len(first), arg=offset, arg2=round(exponent * 1e9))
