"""How sure a share is that was counted in draws: the exact band of Clopper and Pearson, and round sizes to choose from.

The band is of the draws alone: it says what more draws would change, not how well the outages or the rates asked for are known.
A size is chosen as the first of a growing row whose upper end meets the target. As the share only falls with the size, the row
needs no correction for having been looked through: it goes wrong only if the band of the last size that is too small does.
Not modelled: nothing; the binomial tail is summed.
"""

import math
from functools import lru_cache

import numpy as np

from redsim.units import GIB, KIB, MIB

__all__ = ["CONFIDENCE", "ROUND_SIZES", "band", "draws_needed", "say_size"]

CONFIDENCE = 0.95  # of the band; its upper end alone is not exceeded with 97.5 %
STEPS = (4, 5, 6, 7)  # quarters of a power of two
SIZE_MAX_LG = 42
ROUND_SIZES = tuple((step << lg) // 4 for lg in range(16, SIZE_MAX_LG) for step in STEPS)  # 64kb, 80kb, 96kb, 112kb, 128kb …
HALVINGS = 60  # of [0, 1]: beyond what a double holds
TAIL_SIGMAS, TAIL_MORE = 20, 400  # terms below the count that can matter: the next ones are smaller than a double's last bit


@lru_cache(maxsize=4096)
def band(hits: int, draws: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Lower and upper end of the share of which `hits` of `draws` were seen.

    >>> [round(end, 5) for end in band(0, 1000)], [round(end, 4) for end in band(5, 100)]
    ([0.0, 0.00368], [0.0164, 0.1128])
    """
    assert 0 <= hits <= draws
    alpha = (1 - confidence) / 2
    return 1 - _upper(draws - hits, draws, alpha), _upper(hits, draws, alpha)


def _upper(hits: int, draws: int, alpha: float) -> float:
    """The share at which so few hits or fewer have the probability alpha."""
    if hits == draws:
        return 1.0
    low, high = hits / draws, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _at_most(hits, draws, middle) > alpha:
            low = middle
        else:
            high = middle
    return high


def _at_most(hits: int, draws: int, share: float) -> float:
    """P(a binomial count <= hits): its terms from `hits` down, each by its ratio to the one above it."""
    if share <= 0:
        return 1.0
    if share >= 1:
        return 0.0
    top = math.lgamma(draws + 1) - math.lgamma(hits + 1) - math.lgamma(draws - hits + 1)
    top += hits * math.log(share) + (draws - hits) * math.log1p(-share)
    count = np.arange(hits, max(0, hits - TAIL_SIGMAS * math.isqrt(hits) - TAIL_MORE), -1, dtype=np.float64)
    ratios = count / (draws - count + 1) * ((1 - share) / share)
    return math.exp(top) * (1.0 + float(np.cumprod(ratios).sum())) if top > -700 else 0.0


def draws_needed(target: float, confidence: float = CONFIDENCE) -> int:
    """How many draws without a hit it takes until the upper end is 1 - target."""
    return math.ceil(math.log((1 - confidence) / 2) / math.log(target))


def say_size(size_bytes: int) -> str:
    """As redis.conf writes it: `1280kb`, `12mb`; whole units only."""
    for unit, name in ((GIB, "gb"), (MIB, "mb"), (KIB, "kb")):
        if size_bytes and size_bytes % unit == 0:
            return f"{size_bytes // unit}{name}"
    return str(size_bytes)
