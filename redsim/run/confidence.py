"""How sure a figure is that came of so many draws or repeats: a share, a mean, a median, one value more.

    share       Clopper and Pearson's exact band
    mean        Student's t: exact for normal values, near enough for others once there are some dozens of them
    median      two of the values in order, between which the true one lies with that confidence at least; no law is assumed
    one more    mean + t s sqrt(1 + 1/n): below it a further normal value lies with 95 %

All of it is about luck alone: it says what more draws would change, not how well the rates asked for are known.
Not modelled: that several figures are looked at together, one in twenty of which lies outside its 95 %.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.special import bdtr, betaincinv, stdtrit

__all__ = ["CONFIDENCE", "band", "draws_needed", "mean_between", "median_between", "one_more_below", "tenths"]

CONFIDENCE = 0.95  # of a band; its upper end alone is not exceeded with 97.5 %
Ends = tuple[float, float]


@lru_cache(maxsize=4096)
def band(hits: int, draws: int, confidence: float = CONFIDENCE) -> Ends:
    """Lower and upper end of the share of which `hits` of `draws` were seen.

    >>> [round(end, 5) for end in band(0, 1000)], [round(end, 4) for end in band(5, 100)]
    ([0.0, 0.00368], [0.0164, 0.1128])
    """
    assert 0 <= hits <= draws
    alpha = (1 - confidence) / 2
    low = float(betaincinv(hits, draws - hits + 1, alpha)) if hits else 0.0
    high = float(betaincinv(hits + 1, draws - hits, 1 - alpha)) if hits < draws else 1.0
    return low, high


def draws_needed(target: float, confidence: float = CONFIDENCE) -> int:
    """How many draws without a hit it takes until the upper end is 1 - target."""
    return math.ceil(math.log((1 - confidence) / 2) / math.log(target))


def mean_between(values: Sequence[float], confidence: float = CONFIDENCE) -> Ends:
    """Lower and upper end of the mean; NaN for fewer than two values.

    >>> [round(end, 3) for end in mean_between([10.0, 11.0, 12.0])]
    [8.516, 13.484]
    """
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    mean = float(np.mean(values))
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return mean - half, mean + half


def median_between(values: Sequence[float], confidence: float = CONFIDENCE) -> Ends:
    """Lower and upper end of the median, two of the values; NaN for fewer than six, which cannot tell with 95 %.

    >>> median_between([1, 2, 3, 4, 5, 6]), median_between([1, 2, 3])
    ((1.0, 6.0), (nan, nan))
    """
    n, ordered = len(values), sorted(values)
    outside = [k for k in range(n // 2) if bdtr(k, n, 0.5) <= (1 - confidence) / 2]  # k or fewer of n lie below it
    if not outside:
        return math.nan, math.nan
    return float(ordered[outside[-1]]), float(ordered[n - 1 - outside[-1]])


def tenths(values: Sequence[float]) -> tuple[float, float, float]:
    """(p5, median, p95) of the values, interpolated: between the ends lie nine tenths of them.

    >>> tenths([0.0, 10.0, 20.0])
    (1.0, 10.0, 19.0)
    """
    p5, median, p95 = np.quantile(values, (0.05, 0.5, 0.95))
    return float(p5), float(median), float(p95)


def one_more_below(values: Sequence[float], confidence: float = CONFIDENCE) -> float:
    """Below which a further value lies with that confidence, one-sided; two values at least."""
    n = len(values)
    t = float(stdtrit(n - 1, confidence))
    return float(np.mean(values)) + t * float(np.std(values, ddof=1)) * math.sqrt(1 + 1 / n)
