"""When open groups send, and on which keys: arrays drawn with numpy from the same laws the simulator draws from one by one.

Differs: within one of the zipf table's buckets (1 % of weight) keys are even; an MMPP starts in its first state.
Not modelled: nothing of the schema is left out.
"""

import math

import numpy as np
import numpy.typing as npt

from redsim.scenario.schema import Mmpp, Open, Popularity
from redsim.units import S
from redsim.workload.arrivals import STEPS
from redsim.workload.keys import zipf_buckets

Ints = npt.NDArray[np.int64]
Rate = tuple[int, int, float]  # from ns, to ns, pipelines per second


def open_times(opened: Open, start_ns: int, stop_ns: int, pipeline: int, rng: np.random.Generator) -> Ints:
    """Times of all pipelines in [start, stop), ns, rising; several of one instant for bursts."""
    if opened.bursts is not None:
        at = np.arange(start_ns, stop_ns, opened.bursts.every) + opened.bursts.every
        return np.repeat(at[at < stop_ns], opened.bursts.size // pipeline)
    if opened.rate_per_s is not None and opened.process == "constant":
        gap = S * pipeline / opened.rate_per_s
        times = start_ns + gap * np.arange(1, int((stop_ns - start_ns) / gap) + 1)
        return times[times < stop_ns].astype(np.int64)
    parts = [_poisson(rate, pipeline, rng) for rate in rates(opened, start_ns, stop_ns, rng)]
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


def rates(opened: Open, start_ns: int, stop_ns: int, rng: np.random.Generator) -> list[Rate]:
    """The rate as pieces of constant commands per second, in time order."""
    if opened.schedule is not None:
        starts = [start_ns + point.at for point in opened.schedule] + [stop_ns]
        pieces = [(at, to, point.rate_per_s) for point, at, to in zip(opened.schedule, starts, starts[1:], strict=False)]
        return [(at, min(to, stop_ns), rate) for at, to, rate in pieces if at < stop_ns]
    if opened.diurnal is not None:
        step = max(opened.diurnal.period // STEPS, 1)
        half = (opened.diurnal.high_per_s - opened.diurnal.low_per_s) / 2
        level = [opened.diurnal.low_per_s + half * (1 - math.cos(2 * math.pi * (i + 0.5) / STEPS)) for i in range(STEPS)]
        return [(at, min(at + step, stop_ns), level[i % STEPS]) for i, at in enumerate(range(start_ns, stop_ns, step))]
    if opened.mmpp is not None:
        return _mmpp(opened.mmpp, start_ns, stop_ns, rng)
    return [(start_ns, stop_ns, opened.rate_per_s or 0.0)]


def _mmpp(mmpp: Mmpp, start_ns: int, stop_ns: int, rng: np.random.Generator) -> list[Rate]:
    out: list[Rate] = []
    at, state = start_ns, 0
    while at < stop_ns:
        to = min(at + max(int(rng.exponential(mmpp.stay[state])), 1), stop_ns)
        out.append((at, to, mmpp.rates_per_s[state]))
        at, state = to, (state + 1) % len(mmpp.stay)
    return out


def _poisson(rate: Rate, pipeline: int, rng: np.random.Generator) -> Ints:
    """Given how many there are, Poisson arrivals lie evenly."""
    low, high, per_s = rate
    count = int(rng.poisson(per_s / pipeline * (high - low) / S)) if high > low else 0
    return np.sort(rng.integers(low, high, count)) if count else np.zeros(0, dtype=np.int64)


def draw_keys(popularity: Popularity, keys: int, count: int, rng: np.random.Generator) -> Ints:
    """`count` key indexes in 0..keys-1."""
    if popularity.sequential:
        return np.arange(count, dtype=np.int64) % keys
    if popularity.hotset is not None:
        hot = min(max(1, round(popularity.hotset.keys * keys)), keys)
        is_hot = rng.random(count) < popularity.hotset.traffic if hot < keys else np.ones(count, dtype=bool)
        return np.where(is_hot, rng.integers(0, hot, count), hot + rng.integers(0, max(keys - hot, 1), count))
    exponent = popularity.zipf if popularity.zipf is not None else popularity.latest
    if not exponent:
        rank = rng.integers(0, keys, count)
    else:
        first, width, mass = zipf_buckets(exponent, keys)
        bucket = np.searchsorted(np.cumsum(mass / mass.sum()), rng.random(count), side="right").clip(0, first.size - 1)
        rank = first[bucket] + (rng.random(count) * width[bucket]).astype(np.int64)
    return keys - 1 - rank if popularity.latest is not None else rank
