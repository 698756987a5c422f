"""The exact laws of every random draw: keys by popularity, exponentials, sizes, arrivals, and that streams are independent.

Keys, exponentials and sizes are drawn by the compiled functions themselves; arrivals are counted in a run, by window of their
intended time. Discrete laws are tested by chi-square at 99.9 %, continuous ones by Kolmogorov-Smirnov at 99 %; seeds are fixed.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest

from redsim.dataplane.compile import entry
from redsim.dataplane.draws import draw_key, draw_size, exponential
from redsim.rng import stream
from redsim.run.build import build
from redsim.scenario.schema import Size
from redsim.workload.tables import Tables
from tests.small_worlds import SEEDS, assert_holds, profile, scenario, world_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


# ---- popularity --------------------------------------------------------------------------------------------------


@entry
def _keys(w, out):
    for i in range(out.size):
        out[i] = draw_key(w, 0)


def drawn(popularity: str, keys: int, count: int = 400_000) -> Ints:
    """Keys as the compiled loop draws them."""
    built = build(scenario(f"""\
duration: 1s
nodes: {{main: {{host: box, conf: 'save ""'}}}}
datasets: {{d: {{node: main, keys: {keys}}}}}
clients:
  q: {{node: main, arrivals: {{open: {{rate_per_s: 1}}}}, commands: {{GET: 1}}, keys: {{dataset: d, popularity: {popularity}}}}}
"""))  # fmt: skip
    out = np.zeros(count, dtype=np.int64)
    _keys(built.world, out)
    assert out.min() >= 0
    assert out.max() < keys
    return out


def chi_square_is_plausible(observed: Floats, expected: Floats) -> bool:
    """Pearson's test at 99.9 %, cells joined from the left until each expects 20; the quantile by Wilson and Hilferty (1931)."""
    cells: list[tuple[float, float]] = []
    o = e = 0.0
    for seen_, due in zip(observed, expected, strict=True):
        o, e = o + seen_, e + due
        if e >= 20:
            cells.append((o, e))
            o = e = 0.0
    if cells and (o or e):
        cells[-1] = (cells[-1][0] + o, cells[-1][1] + e)
    statistic = sum((o - e) ** 2 / e for o, e in cells)
    df = len(cells) - 1
    if df == 0:
        return True
    limit = df * (1 - 2 / (9 * df) + NormalDist().inv_cdf(0.999) * math.sqrt(2 / (9 * df))) ** 3
    return statistic <= limit


def zipf_law(exponent: float, keys: int) -> Floats:
    weights = np.arange(1, keys + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()


@pytest.mark.parametrize("keys", [10, 5000, 1_000_000])
@pytest.mark.parametrize("exponent", [0, 0.5, 0.99, 1, 1.5, 3])
def test_zipf_draws_have_the_exact_law(exponent, keys):
    """P(rank k) = k ** -s / H(n, s), rank 1 is key 0 [ycsb-2010]; every key counts, rare ones in cells of 20."""
    counts = np.bincount(drawn(f"{{zipf: {exponent}}}", keys), minlength=keys)
    assert chi_square_is_plausible(counts, 400_000 * zipf_law(exponent, keys))


@pytest.mark.parametrize("exponent", [0.99, 1.5])
def test_latest_is_zipf_by_age_newest_first(exponent):
    """The last key of the data set is the newest [ycsb-2010]."""
    counts = np.bincount(drawn(f"{{latest: {exponent}}}", 5000), minlength=5000)[::-1]
    assert chi_square_is_plausible(counts, 400_000 * zipf_law(exponent, 5000))


def test_uniform_draws_are_uniform():
    """Every key alike."""
    assert chi_square_is_plausible(np.bincount(drawn("uniform", 5000), minlength=5000), np.full(5000, 80.0))


def test_a_hotset_gets_its_share_and_both_parts_are_uniform():
    """A fifth of the keys, four fifths of the traffic [ycsb-2010]."""
    expected = np.where(np.arange(5000) < 1000, 0.8 / 1000, 0.2 / 4000) * 400_000
    counts = np.bincount(drawn("{hotset: {keys: 0.2, traffic: 0.8}}", 5000), minlength=5000)
    assert chi_square_is_plausible(counts, expected)


def test_sequential_draws_visit_each_key_in_turn():
    """[ycsb-2010] scan order, round and round."""
    assert (drawn("sequential", 700, 2000) == np.arange(2000) % 700).all()


def test_the_chi_square_test_can_fail():
    """400,000 draws of zipf 0.99 are not taken for zipf 1.02: the statistic is 24 standard deviations off (for 1.0 it would be
    2.7, under the limit in two cases out of three)."""
    counts = np.bincount(drawn("{zipf: 0.99}", 5000), minlength=5000)
    assert not chi_square_is_plausible(counts, 400_000 * zipf_law(1.02, 5000))


# ---- exponentials and sizes --------------------------------------------------------------------------------------


@entry
def _exponentials(rng, out):
    for i in range(out.size):
        out[i] = exponential(rng, 0)


@entry
def _sizes(rng, tab, dist, out):
    for i in range(out.size):
        out[i] = draw_size(rng, 0, tab, dist, 0)


def ks_is_plausible(sample: Floats, cdf: Callable[[Floats], Floats]) -> bool:
    """Kolmogorov and Smirnov at 99 %: sqrt(n) D <= 1.63 (asymptotic)."""
    ordered = np.sort(sample)
    n = len(ordered)
    law = cdf(ordered)
    d = max((np.arange(1, n + 1) / n - law).max(), (law - np.arange(n) / n).max())
    return float(d) * math.sqrt(n) <= 1.63


def test_exponential_draws_are_exponential():
    """-ln U by a polynomial: the law and, to 1e-9, the logarithm itself (mean 1, variance 1 within 4 standard errors)."""
    out = np.zeros(400_000)
    _exponentials(np.stack([stream(1, "test", "exponential")]), out)
    assert ks_is_plausible(out, lambda x: -np.expm1(-x))
    assert abs(out.mean() - 1) < 4 / math.sqrt(len(out))
    assert abs(out.var() - 1) < 4 * math.sqrt(8 / len(out))


def _normal(x: Floats) -> Floats:
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])


SIZES: dict[str, tuple[dict[str, object], Callable[[Floats], Floats]]] = {
    "lognormal": ({"lognormal": {"median": 500_000, "sigma": 0.8}}, lambda x: _normal(np.log(x / 500_000) / 0.8)),
    "gpareto": (  # Facebook ETC's shape, a thousand times as large so that rounding to bytes does not show [atikoglu-2012]
        {"gpareto": {"location": 0.0, "scale": 214_476.0, "shape": 0.348238, "max": 2**40}},
        lambda x: 1 - (1 + 0.348238 * x / 214_476.0) ** (-1 / 0.348238),
    ),
    "gpareto of shape 0": (
        {"gpareto": {"location": 0.0, "scale": 100_000.0, "shape": 0.0, "max": 2**40}},
        lambda x: -np.expm1(-x / 100_000.0),
    ),
    "uniform": ({"uniform": {"low": 10_000, "high": 999_999}}, lambda x: (x - 10_000 + 1) / 990_000),
}


@pytest.mark.parametrize("name", list(SIZES))
def test_sizes_have_their_law(name):
    """Kolmogorov-Smirnov over 100,000 draws against the distribution named in the scenario."""
    given, cdf = SIZES[name]
    assert ks_is_plausible(sizes(given, 100_000).astype(float), cdf)


def test_a_table_of_sizes_gives_each_value_its_weight():
    """Vose's alias table [vose-1991]."""
    values = sizes({"table": [(10, 1.0), (100, 5.0), (1000, 94.0)]}, 100_000)
    counts = np.array([(values == v).sum() for v in (10, 100, 1000)])
    assert chi_square_is_plausible(counts, np.array([1000.0, 5000.0, 94_000.0]))


def sizes(given: dict[str, object], count: int) -> Ints:
    tables = Tables()
    tables.size(Size.model_validate(given))
    out = np.zeros(count, dtype=np.int64)
    _sizes(np.stack([stream(1, "test", "sizes")]), tables.tab, tables.dist, out)
    return out


# ---- arrivals ----------------------------------------------------------------------------------------------------


def offered(arrivals: str, *, seconds: int = 20, window_ms: int = 10, seed: int = 1, pipeline: int = 1) -> Ints:
    """Requests by window of their intended time."""
    x = world_of(scenario(f"""\
duration: {seconds}s
window: {window_ms}ms
seed: {seed}
nodes: {{main: {{host: box, conf: 'save ""'}}}}
clients:
  q: {{node: main, connections: 20, pipeline: {pipeline}, arrivals: {{open: {arrivals}}}, commands: {{PING: 1}}}}
""", profile_text=profile(zero=True)))  # fmt: skip
    return x.w.offered[:, 0].astype(np.int64)


def dispersion(counts: Ints) -> float:
    """Variance over mean of the counts by window: 1 for a Poisson process."""
    return float(counts.var(ddof=1) / counts.mean())


def test_poisson_counts_have_dispersion_one_and_no_memory():
    """(n - 1) times the index of dispersion is chi-square with n - 1 degrees; neighbours uncorrelated; both within 99.9 %."""
    counts = offered("{rate_per_s: 5000}")
    n = len(counts)
    assert n == 2000
    assert abs(dispersion(counts) - 1) < 3.3 * math.sqrt(2 / n)
    assert abs(np.corrcoef(counts[:-1], counts[1:])[0, 1]) < 3.3 / math.sqrt(n)
    assert abs(counts.sum() - 100_000) < 3.3 * math.sqrt(100_000)


def test_constant_arrivals_are_evenly_spaced():
    """5,000 a second are 50 in each window of 10 ms, at most one off where a window begins on an arrival."""
    counts = offered("{rate_per_s: 5000, process: constant}", seconds=2)
    assert np.abs(counts - 50).max() <= 1
    assert abs(counts.sum() - 10_000) <= 1


def test_bursts_come_whole_and_on_time():
    """64 requests every 100 ms, the first at the start: 20 bursts in 2 s, nothing between."""
    counts = offered("{bursts: {every: 100ms, size: 64}}", seconds=2)
    assert counts.sum() == 20 * 64
    assert set(counts.tolist()) == {0, 64}
    assert (np.diff(np.flatnonzero(counts)) == 10).all()


def test_mmpp_has_the_mean_rate_of_its_states_and_is_burstier_than_poisson():
    """Mean rate = sum of rate times stay over sum of stays [fischer-1993]; 20 seeds."""
    counts = [offered("{mmpp: {rates_per_s: [500, 8000], stay: [40ms, 10ms]}}", seconds=10, seed=seed) for seed in SEEDS]
    assert_holds([float(c.sum()) / 10 for c in counts], (500 * 40 + 8000 * 10) / 50)
    assert min(dispersion(c) for c in counts) > 5


def test_a_diurnal_load_is_a_sine_from_low_to_high():
    """Mean over a period (low + high) / 2; the lowest rate at the start, the highest at half of it; Poisson at each step."""
    counts = offered("{diurnal: {period: 10s, low_per_s: 1000, high_per_s: 9000}}", seconds=20, window_ms=100)
    at = (np.arange(200) + 0.5) / 100
    rate = 1000 + 4000 * (1 - np.cos(2 * np.pi * at))
    assert abs(counts.sum() - 100_000) < 3.3 * math.sqrt(100_000)
    assert chi_square_is_plausible(counts, rate * 0.1)


def test_a_schedule_is_poisson_at_each_rate():
    """Piecewise constant: 1,000, then nothing, then 20,000 a second, each within 3.3 standard errors."""
    counts = offered("{schedule: [{at: 0s, rate_per_s: 1000}, {at: 4s, rate_per_s: 0}, {at: 6s, rate_per_s: 20000}]}", seconds=10)
    parts = [int(counts[low:high].sum()) for low, high in itertools.pairwise([0, 400, 600, 1000])]
    assert parts[1] == 0
    for got, due in ((parts[0], 4000), (parts[2], 80_000)):
        assert abs(got - due) < 3.3 * math.sqrt(due)


def test_a_pipeline_multiplies_requests_not_the_rate():
    """rate_per_s counts commands: at a pipeline of 8 they come eight at a time, 5,000 a second in all."""
    counts = offered("{rate_per_s: 5000}", pipeline=8)
    assert (counts % 8 == 0).all()
    assert abs(counts.sum() - 100_000) < 3.3 * math.sqrt(8 * 100_000)


def _streams() -> Iterator[tuple[str, str]]:
    yield from itertools.combinations(("arrivals", "connections", "keys", "sizes", "mix", "jitter"), 2)


@pytest.mark.parametrize("pair", list(_streams()), ids="-".join)
def test_streams_of_one_group_are_independent(pair):
    """Exponentials of two named streams of one seed are uncorrelated: 99.9 % of 100,000 pairs."""
    draws = []
    for name in pair:
        out = np.zeros(100_000)
        _exponentials(np.stack([stream(1, "q", name)]), out)
        draws.append(out)
    assert abs(np.corrcoef(draws[0], draws[1])[0, 1]) < 3.3 / math.sqrt(100_000)
