"""Which keys are asked for, out of how often each was seen: a Zipf exponent with its error, or a hot set, or uniform.

Ranking keys by the counts seen makes even uniform traffic look skewed (the luckiest key comes first), so no ranks are used: every
key's count is Poisson about n times its share, its true rank unknown, and the likelihood of the whole histogram of counts, keys
never seen included, is greatest at the estimate. Its bias and error come from sets drawn at the estimate and fitted the same way
(parametric bootstrap). The alternative is a hot set: two kinds of keys, by expectation-maximisation; it is taken only where
its likelihood is clearly the greater.
Differs: ranks are continuous, and a count above COUNT_EXACT_MAX is known to about one step of the rank grid, so that a real
key space that is no exact Zipf still gets one answer. Not modelled: popularity that drifts during the capture.
"""

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from redsim.lab.observed import Fit
from redsim.rng import generator

ACCESSES_MIN = 200  # guess: below it a fit says nothing
EXPONENT_MAX = 3.0
NODES = 400  # ranks at which the likelihood is summed
COUNT_EXACT_MAX = 50
BOOTSTRAPS = 24
EXACT_RANKS = 100_000  # ranks drawn one by one in the bootstrap; behind them in bins
LIKELIHOOD_FALL = 2.0  # two standard errors down from the greatest log likelihood
ERROR_FLOOR = 0.01  # the grid's own coarseness
LFU_INIT = 5  # server.h: LFU_INIT_VAL
LFU_HITS_MIN = 10.0  # guess: below it a counter is mostly luck
LFU_KEYS_MIN = 20
LFU_ERROR = 0.3  # guess
HOTSET_GAIN = 10.0  # in log likelihood: what a hot set must explain better to be taken

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def fit(counts: Ints, keys: int | None) -> Fit:
    """Popularity from `counts`, int64 of shape (distinct keys,), times each key seen was asked for; `keys` in the data set.

    `keys` None: unknown; then it is the size at which keys seen at all explain their counts best, and its own uncertainty
    is in the error.
    """
    counts = np.asarray(counts, dtype=np.int64)
    total, distinct = int(counts.sum()), int(counts.size)
    spread = 0.0
    there = max(keys if keys is not None else distinct, distinct, 1)
    if keys is None and total >= ACCESSES_MIN:
        there, spread = _key_space(counts, total)
    if total < ACCESSES_MIN or there < 2:
        return Fit("uniform", 0.0, 0.0, 0.0, 0.0, total, there, f"{total} accesses are too few to tell; uniform is assumed")
    values, weights = _histogram(counts, there)
    raw, gain_zipf, within = _zipf(values, weights, total, there)
    again = [_zipf(*_histogram(_drawn(raw, total, there, b), there), total, there)[0] for b in range(BOOTSTRAPS)]
    exponent = max(0.0, raw - (float(np.mean(again)) - raw)) if raw > within else raw
    error = max(2 * float(np.std(again, ddof=1)), within if raw <= within else 0.0, spread, ERROR_FLOOR)
    hot_keys, hot_traffic, gain_hot = _hotset(values, weights, total, there)
    seen = f"{total} accesses to {distinct} of {there} keys"
    if gain_hot > gain_zipf + HOTSET_GAIN:
        said = f"{hot_traffic:.0%} of {seen} went to {hot_keys:.2%} of them; likelier than zipf {exponent:.2f}"
        return Fit("hotset", exponent, error, hot_keys, hot_traffic, total, there, said)
    if exponent <= error:
        said = f"{seen}: zipf {exponent:.2f} ± {error:.2f} is none"
        return Fit("uniform", exponent, error, hot_keys, hot_traffic, total, there, said)
    said = f"{seen}: zipf {exponent:.2f} ± {error:.2f} (twice the standard error)"
    return Fit("zipf", exponent, error, hot_keys, hot_traffic, total, there, said)


def fit_lfu(counters: Ints, log_factor: int, keys: int) -> Fit:
    """Popularity from OBJECT FREQ of keys drawn evenly: the slope of expected accesses over rank, on log scales.

    A counter stands for the accesses its steps take on average, 1 + log_factor x (counter - 5) each (evict.c: LFULogIncr);
    decay is not undone, so the error is a guess (LFU_ERROR), not a standard error.
    """
    steps = np.arange(256, dtype=np.float64)
    reached = np.cumsum(np.where(steps < LFU_INIT, 0.0, 1 + log_factor * (steps - LFU_INIT)))
    hits = np.sort(reached[np.clip(np.asarray(counters, dtype=np.int64), 1, 255) - 1])[::-1]
    used = hits >= LFU_HITS_MIN
    if int(used.sum()) < LFU_KEYS_MIN or np.unique(hits[used]).size < 3:
        return Fit("uniform", 0.0, 0.0, 0.0, 0.0, 0, keys, "LFU counters are too few or too alike to tell; uniform is assumed")
    ranks = (np.arange(hits.size) + 0.5)[used]
    slope = -float(np.polyfit(np.log(ranks), np.log(hits[used]), 1)[0])
    exponent = float(np.clip(slope, 0.0, EXPONENT_MAX))
    said = f"LFU counters of {hits.size} sampled keys: zipf {exponent:.2f} ± {LFU_ERROR} (a guess; counters decay)"
    return Fit("zipf" if exponent > LFU_ERROR else "uniform", exponent, LFU_ERROR, 0.0, 0.0, 0, keys, said)


def _key_space(counts: Ints, total: int) -> tuple[int, float]:
    """(keys there may be, error of the exponent that comes of not knowing) by the likelihood of the counts of keys seen."""
    sizes = np.unique(np.round(counts.size * np.geomspace(1.0, 1000.0, 25)).astype(np.int64))
    tried = [_zipf(*_histogram(counts, int(size)), total, int(size), seen_only=True)[:2] for size in sizes]
    best = int(np.argmax([gain for _, gain in tried]))
    near = [exponent for i, (exponent, gain) in enumerate(tried) if abs(i - best) < 2 or gain > tried[best][1] - LIKELIHOOD_FALL]
    return int(sizes[best]), max(abs(exponent - tried[best][0]) for exponent in near)


def _histogram(counts: Ints, keys: int) -> tuple[Floats, Floats]:
    """(counts, how many keys had each), zero included; large counts are put together by steps of 2 %."""
    rounded = counts.astype(np.float64)
    large = rounded > COUNT_EXACT_MAX
    rounded[large] = np.exp(np.round(np.log(rounded[large]) / 0.02) * 0.02)
    values, weights = np.unique(rounded[rounded > 0], return_counts=True)
    never = keys - int((counts > 0).sum())
    return np.concatenate([[0.0], values]), np.concatenate([[float(max(never, 0))], weights.astype(np.float64)])


# ---- Zipf --------------------------------------------------------------------------------------------------------


def _zipf(values: Floats, weights: Floats, total: int, keys: int, *, seen_only: bool = False) -> tuple[float, float, float]:
    """(exponent, its log likelihood, how far up the likelihood stays within LIKELIHOOD_FALL): a grid, then a golden section."""
    log_factorial = np.array([math.lgamma(v + 1) for v in values])
    edges = np.geomspace(0.5, keys + 0.5, NODES + 1)

    def likelihood(exponent: float) -> float:
        return _likelihood(exponent, values, weights, log_factorial, edges, total, keys, seen_only)

    grid = np.arange(0.0, EXPONENT_MAX + 0.01, 0.1)
    best = int(np.argmax([likelihood(float(s)) for s in grid]))
    low, high = max(float(grid[best]) - 0.1, 0.0), min(float(grid[best]) + 0.1, EXPONENT_MAX)
    ratio = (math.sqrt(5) - 1) / 2
    while high - low > 0.001:
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        if likelihood(a) < likelihood(b):
            low = a
        else:
            high = b
    middle = (low + high) / 2
    gain = likelihood(middle)
    if likelihood(0.0) < gain - LIKELIHOOD_FALL:
        return middle, gain, 0.0
    top = next((float(s) for s in np.arange(middle, 1.0, 0.01) if likelihood(float(s)) < gain - LIKELIHOOD_FALL), 1.0)
    return middle, gain, max(top, middle)


def _likelihood(
    exponent: float, values: Floats, weights: Floats, log_factorial: Floats, edges: Floats, total: int, keys: int, seen_only: bool
) -> float:  # fmt: skip
    """Log likelihood of a histogram of counts, ranks uniform over (0.5, keys + 0.5); `seen_only`: given that they are above 0."""
    ranks = np.sqrt(edges[1:] * edges[:-1])
    share_of_keys = np.diff(edges) / keys
    rate = total * ranks**-exponent / harmonic(exponent, keys)
    step = 1.5 * exponent * math.log(edges[1] / edges[0])
    exact = values <= COUNT_EXACT_MAX
    log_rate = np.log(rate)[:, None]
    poisson = values[None, exact] * log_rate - rate[:, None] - log_factorial[None, exact]
    large = values[None, ~exact]
    width = np.sqrt(np.maximum(rate, 1.0) + (step * rate) ** 2)[:, None]
    normal = -0.5 * ((large - rate[:, None]) / width) ** 2 - np.log(width * math.sqrt(2 * math.pi))
    log_chance = np.empty((NODES, values.size))
    log_chance[:, exact], log_chance[:, ~exact] = poisson, normal
    chance = (share_of_keys[:, None] * np.exp(np.maximum(log_chance, -700.0))).sum(axis=0)
    logs = np.log(np.maximum(chance, 1e-300))
    if seen_only:
        return float((weights[1:] * (logs[1:] - math.log(max(1.0 - float(chance[0]), 1e-300)))).sum())
    return float((weights * logs).sum())


def harmonic(exponent: float, keys: int) -> float:
    """Sum of i**-exponent for i in 1..keys; behind 1,000 terms an integral."""
    first = min(keys, 1000)
    head = float((np.arange(1, first + 1, dtype=np.float64) ** -exponent).sum())
    if keys <= first:
        return head
    a, b = first + 0.5, keys + 0.5
    return head + (math.log(b / a) if abs(exponent - 1) < 1e-9 else (b ** (1 - exponent) - a ** (1 - exponent)) / (1 - exponent))


def _drawn(exponent: float, total: int, keys: int, number: int) -> Ints:
    """Counts of the keys seen in `total` draws from a Zipf of `exponent` over `keys` keys."""
    luck = generator(1, "lab.popularity", "bootstrap", str(number))
    first = min(keys, EXACT_RANKS)
    norm = harmonic(exponent, keys)
    counts = [luck.poisson(total * np.arange(1, first + 1, dtype=np.float64) ** -exponent / norm)]
    if keys > first:
        edges = np.unique(np.geomspace(first, keys, 60).astype(np.int64))
        for low, high in pairwise(edges):
            rate = total * math.sqrt(low * high) ** -exponent / norm
            seen = luck.binomial(int(high - low), -math.expm1(-rate))
            counts.append(_above_zero(luck, rate, seen))
    drawn = np.concatenate(counts)
    return drawn[drawn > 0].astype(np.int64)


def _above_zero(luck: np.random.Generator, rate: float, size: int) -> Ints:
    """`size` Poisson counts of mean `rate` given that they are not 0."""
    if rate > 1:
        many = luck.poisson(rate, size)
        return np.maximum(many, 1)
    arrived = -np.log1p(luck.random(size) * math.expm1(-rate))  # time of the first arrival, within the rate
    return 1 + luck.poisson(np.maximum(rate - arrived, 0.0))


# ---- a hot set ---------------------------------------------------------------------------------------------------


def _hotset(values: Floats, weights: Floats, total: int, keys: int) -> tuple[float, float, float]:
    """(share of the keys that is hot, its share of the traffic, log likelihood) of two Poisson kinds of keys."""
    log_factorial = np.array([math.lgamma(v + 1) for v in values])
    mean = total / keys
    best = (0.5, 0.5, -math.inf)
    for share in (0.001, 0.01, 0.1, 0.3):
        hot, rates = share, np.array([min(0.8 / share, 50.0) * mean, 0.2 * mean / (1 - share)])
        gain = -math.inf
        for _ in range(300):
            log_chance = values[:, None] * np.log(rates)[None, :] - rates[None, :] - log_factorial[:, None]
            log_chance += np.log(np.array([hot, 1 - hot]))[None, :]
            top = log_chance.max(axis=1)
            both = top + np.log(np.exp(log_chance - top[:, None]).sum(axis=1))
            before, gain = gain, float((weights * both).sum())
            of_hot = np.exp(log_chance[:, 0] - both)
            hot = float(np.clip((weights * of_hot).sum() / weights.sum(), 1e-9, 1 - 1e-9))
            for kind, part in enumerate((of_hot, 1 - of_hot)):
                rates[kind] = max((weights * part * values).sum() / max((weights * part).sum(), 1e-12), 1e-12)
            if gain - before < 1e-6:
                break
        if rates[0] < rates[1]:
            hot, rates = 1 - hot, rates[::-1]
        if gain > best[2]:
            best = (hot, float(np.clip(hot * rates[0] / (hot * rates[0] + (1 - hot) * rates[1]), 0.0, 1.0)), gain)
    return best
