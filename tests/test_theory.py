"""redsim against queueing theory and the exact laws of its random draws.

Every cost is 0 but the command's own function, so that the loop is a single server whose service time is the value written times
a cost per byte. What theory then says:

    the main thread's work   M/D/1, M/M/1, M/G/1: utilisation, and the wait until execution STARTS (from SLOWLOG rows). Redis
                             answers at the end of a poll's batch, so its replies are not M/G/1's, but its executions are.
    the replies              a gated batch queue: the next batch is what came during this one. Its Markov chain is solved here.
    closed loops             with thinking clients: the gated chain; mean value analysis where batches are rare.

Statistics: 20 seeds, Student's interval at 99 % around the mean of the seeds' means must hold the exact value. Seeds are fixed: a
test passes or fails for good. Requests that share a connection are read together, out of order; with 4,000 connections for a few
requests at a time that is rare, and it cannot change a mean (order independent of service times [kleinrock-1975]).
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest

from redsim.dataplane import layout as dp
from redsim.dataplane.compile import entry
from redsim.dataplane.draws import below, draw_key, draw_size, exponential
from redsim.rng import stream
from redsim.run import engine
from redsim.run.build import build
from redsim.scenario.load import Scenario
from redsim.scenario.schema import Size
from redsim.units import S
from redsim.workload.tables import Tables, quantile_words
from tests.small_worlds import profile, scenario, world_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
SEEDS = range(1, 21)
STUDENT_99 = 2.861  # two-sided 99 % quantile of Student's t with 19 degrees of freedom
PS_PER_BYTE = 100_000  # so that 100 bytes are a service time of 10 us


def interval(values: list[float]) -> tuple[float, float]:
    """Student's 99 % interval of the mean of 20 independent values."""
    assert len(values) == 20
    half = STUDENT_99 * float(np.std(values, ddof=1)) / math.sqrt(20)
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def assert_holds(values: list[float], exact: float, *, slack: float = 0.0) -> None:
    """The interval, widened by `slack` (relative, for what is known to differ), holds the exact value."""
    low, high = interval(values)
    assert low - slack * exact <= exact <= high + slack * exact, f"{exact:.6g} is not in {low:.6g} .. {high:.6g}"


# ---- an open queue -----------------------------------------------------------------------------------------------

DISTRIBUTIONS = {
    "deterministic": "100",
    "exponential": "{gpareto: {location: 0, scale: 100, shape: 0, max: 4000}}",
    "lognormal": "{lognormal: {median: 60, sigma: 1.0, max: 4000}}",
}


@functools.cache
def queue(service: str, rho: float, milliseconds: int = 500, connections: int = 4000) -> Scenario:
    """Poisson SETs at utilisation `rho` of a server that only executes."""
    return scenario(
        f"""\
duration: {milliseconds}ms
nodes:
  main:
    host: box
    conf: |
      save ""
      slowlog-log-slower-than 0
      slowlog-max-len 100000
      maxclients 20000
datasets: {{d: {{node: main, keys: 1000}}}}
clients:
  q: {{node: main, connections: {connections}, arrivals: {{open: {{rate_per_s: {rho / mean_service_s(service):.3f}}}}},
      commands: {{SET: 1}}, keys: {{dataset: d}}, value_bytes: {DISTRIBUTIONS[service]}}}
""",
        profile_text=only_set(),
    )


@functools.cache
def only_set() -> str:
    return profile(zero=True, commands={"SET": {"const_ns": 0, "in_ps": PS_PER_BYTE}})


def _size(service: str) -> Size:
    return {
        "deterministic": Size.model_validate(100),
        "exponential": Size.model_validate({"gpareto": {"location": 0.0, "scale": 100.0, "shape": 0.0, "max": 4000}}),
        "lognormal": Size.model_validate({"lognormal": {"median": 60, "sigma": 1.0, "max": 4000}}),
    }[service]


@functools.cache
def moments(service: str) -> tuple[float, float]:
    """E[S] in s and E[S^2] in s^2 of the integers that draw_size gives: uniform on each of the quantile table's cells."""
    if service == "deterministic":
        return 1e-5, 1e-10
    words = quantile_words(_size(service)).astype(float)
    main, tail = words[:1025], words[1025:]
    low = np.concatenate([main[:1023], tail[:1024]])
    width = np.concatenate([np.diff(main)[:1023], np.diff(tail)])
    mass = np.concatenate([np.full(1023, 1 / 1024), np.full(1024, 1 / 1024**2)])
    steps = np.maximum(width, 1)  # low .. low + width - 1, or low alone
    mean = low + (steps - 1) / 2
    square = mean**2 + (steps**2 - 1) / 12
    unit = PS_PER_BYTE / 1e12
    return float((mass * mean).sum()) * unit, float((mass * square).sum()) * unit**2


def mean_service_s(service: str) -> float:
    return moments(service)[0]


@entry
def _arrivals(rng, mean_ps, slots, at, slot):
    """The group's own streams once more: intended times in ns, and connections."""
    ps = 0
    for i in range(at.size):
        ps += int(exponential(rng, 0) * mean_ps)
        at[i] = ps // 1000
        slot[i] = below(rng, 1, slots)


@dataclass(frozen=True)
class Seen:
    """One seed: utilisation, and the waits in s until execution started."""

    utilisation: float
    waits: Floats


@functools.cache
def seen(service: str, rho: float) -> list[Seen]:
    """All seeds. Executions are matched with arrivals connection by connection, in order."""
    out = []
    for seed in SEEDS:
        loaded = queue(service, rho).with_seed(seed)
        x = world_of(loaded)
        rows = x.w.slow[: x.st(dp.SLOW_ID)]
        count = len(rows)
        assert 10_000 < count < 100_000
        at, slot = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        rng = np.stack([stream(seed, "q", "arrivals"), stream(seed, "q", "connections")])
        _arrivals(rng, int(x.w.group[0, dp.G_MEAN_PS]), int(x.w.group[0, dp.G_SLOTS]), at, slot)
        executed = rows[np.lexsort((rows[:, 0], rows[:, 5]))]
        arrived = np.lexsort((np.arange(count), slot))
        assert (executed[:, 5] == slot[arrived]).all(), "the recomputed arrivals are not those of the run"
        waits = executed[:, 1] - at[arrived] - int(x.w.group[0, dp.G_SHIFT])
        assert waits.min() >= 0
        out.append(Seen(int(x.w.held.sum()) / x.st(dp.NOW), waits / S))
    return out


@pytest.mark.parametrize("rho", [0.3, 0.7])
@pytest.mark.parametrize("service", list(DISTRIBUTIONS))
def test_utilisation_is_arrival_rate_times_mean_service(service, rho):
    """rho = lambda E[S] for any work-conserving server [kleinrock-1975]."""
    assert_holds([one.utilisation for one in seen(service, rho)], rho)


@pytest.mark.parametrize("rho", [0.3, 0.7])
@pytest.mark.parametrize("service", list(DISTRIBUTIONS))
def test_mean_wait_until_execution_is_pollaczek_khinchine(service, rho):
    """E[W] = lambda E[S^2] / (2 (1 - rho)): M/D/1, M/M/1, M/G/1 [kleinrock-1975]."""
    mean, square = moments(service)
    assert_holds([float(one.waits.mean()) for one in seen(service, rho)], rho / mean * square / (2 * (1 - rho)))


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_percentiles_of_the_mm1_wait_are_exponential_beyond_its_atom(q):
    """M/M/1, first come first served: P(W > t) = rho exp(-(mu - lambda) t) [kleinrock-1975]; 1 % for shared connections."""
    rho, mean = 0.7, mean_service_s("exponential")
    exact = -math.log((1 - q) / rho) * mean / (1 - rho)
    assert_holds([float(np.quantile(one.waits, q)) for one in seen("exponential", rho)], exact, slack=0.01)


def crommelin(t: float, rate: float, service: float) -> float:
    """P(W <= t) of M/D/1 [crommelin-1932]."""
    terms = range(int(t / service) + 1)
    return (1 - rate * service) * sum(
        (rate * (k * service - t)) ** k / math.factorial(k) * math.exp(-rate * (k * service - t)) for k in terms
    )


@pytest.mark.parametrize("services", [0.5, 1.5, 3.0, 6.0])
def test_the_md1_wait_has_crommelins_distribution(services):
    """M/D/1, first come first served: P(W <= t) [crommelin-1932], at half, one and a half, three and six service times."""
    rho, mean = 0.7, 1e-5
    got = [float((one.waits <= services * mean).mean()) for one in seen("deterministic", rho)]
    assert_holds(got, crommelin(services * mean, rho / mean, mean), slack=0.002)


def test_a_server_is_idle_for_an_arrival_with_probability_one_minus_rho():
    """Poisson arrivals see time averages [wolff-1982]."""
    assert_holds([float((one.waits == 0).mean()) for one in seen("exponential", 0.7)], 0.3)


# ---- what clients see: the gated batch queue ---------------------------------------------------------------------


def gated_response(rate: float, service: float, largest: int = 400) -> tuple[float, float]:
    """(mean response, empty polls per batch) when all that came during a batch is the next one, answered at its end.

    Chain over batch sizes: n -> Poisson(rate n service), 0 -> a batch of one after a sleep. The m requests that came during a
    batch of n came uniformly over n * service: each waits half of that, and then m * service.
    """
    n = np.arange(1, largest + 1)
    a = rate * n * service
    k = np.arange(largest + 1)
    logs = -a[:, None] + k * np.log(a)[:, None] - np.array([math.lgamma(j + 1) for j in k])
    step = np.exp(logs)
    chain = step[:, 1:].copy()
    chain[:, 0] += step[:, 0]
    chain /= chain.sum(axis=1, keepdims=True)
    pi = np.full(largest, 1 / largest)
    for _ in range(2000):
        pi = pi @ chain
    empty = np.exp(-a)
    response = a * n * service / 2 + (a + a**2) * service + empty * service
    return float((pi * response).sum() / (pi * (a + empty)).sum()), float((pi * empty).sum())


@pytest.mark.parametrize("rho", [0.3, 0.7, 0.9])
def test_mean_latency_is_that_of_the_gated_batch_queue(rho):
    """Replies leave at the end of their poll's batch (ae.c, server.c:beforeSleep): exact mean by the chain of batch sizes.

    Service is constant; clearly not M/D/1's mean. 0.4 % for requests that join a connection of a batch under way.
    """
    rate = rho / 1e-5
    exact, _ = gated_response(rate, 1e-5)
    got = [_mean_latency_s(queue("deterministic", rho).with_seed(seed)) for seed in SEEDS]
    assert_holds(got, exact, slack=0.004)
    md1 = 1e-5 * (1 + rho / (2 * (1 - rho)))
    assert interval(got)[0] > (1 + rho / 10) * md1


def _mean_latency_s(loaded: Scenario) -> float:
    row = world_of(loaded).w.group[0]
    return int(row[dp.G_LAT_SUM]) / int(row[dp.G_COMPLETED]) / S


def test_the_loop_sleeps_as_often_as_the_gated_batch_queue_runs_empty():
    """The same chain: a sleep follows a batch during which nobody came."""
    rho = 0.7
    _, empty = gated_response(rho / 1e-5, 1e-5)
    got = []
    for seed in SEEDS:
        x = world_of(queue("deterministic", rho).with_seed(seed))
        got.append(x.st(dp.SLEEPS) / x.st(dp.POLLS))
    # every batch is followed by one poll; it either takes a batch or sleeps and wakes with one, in the same iteration
    assert_holds(got, empty, slack=0.01)


# ---- closed loops ------------------------------------------------------------------------------------------------


def thinking(clients: int, think_us: int, *, service: str = "deterministic", is_exponential: bool = True) -> Scenario:
    kind = "exponential" if is_exponential else "constant"
    return scenario(
        f"""\
duration: 1s
nodes: {{main: {{host: box, conf: 'save ""'}}}}
datasets: {{d: {{node: main, keys: 1000}}}}
clients:
  q: {{node: main, connections: {clients}, arrivals: {{closed: {{think: {think_us}us, think_is: {kind}}}}},
      commands: {{SET: 1}}, keys: {{dataset: d}}, value_bytes: {DISTRIBUTIONS[service]}}}
""",
        profile_text=only_set(),
    )


def _throughput(loaded: Scenario) -> list[float]:
    return [int(world_of(loaded.with_seed(seed)).w.group[0, dp.G_COMPLETED]) / (loaded.file.duration / S) for seed in SEEDS]


def gated_closed(clients: int, think: float, service: float) -> float:
    """Throughput of `clients` thinkers before a gated server: batch n -> Binomial(clients - n, 1 - exp(-n service / think))."""
    chain = np.zeros((clients, clients))
    length = np.zeros(clients)
    for n in range(1, clients + 1):
        back = 1 - math.exp(-n * service / think)
        p = [math.comb(clients - n, m) * back**m * (1 - back) ** (clients - n - m) for m in range(clients - n + 1)]
        chain[n - 1, 0] = p[0]
        for m in range(1, clients - n + 1):
            chain[n - 1, m - 1] += p[m]
        length[n - 1] = n * service + p[0] * think / clients
    pi = np.full(clients, 1 / clients)
    for _ in range(5000):
        pi = pi @ chain
    return float((pi * np.arange(1, clients + 1)).sum() / (pi * length).sum())


def mva(clients: int, think: float, service: float) -> float:
    """Throughput by exact mean value analysis [reiser-lavenberg-1980]: one queueing station, one delay station."""
    inside, rate = 0.0, 0.0
    for n in range(1, clients + 1):
        response = service * (1 + inside)
        rate = n / (think + response)
        inside = rate * response
    return rate


@pytest.mark.parametrize(("clients", "think_us"), [(5, 100), (20, 300), (20, 150)])
def test_closed_throughput_is_that_of_the_gated_batch_queue(clients, think_us):
    """A reply waits for its batch, so that its client thinks later: exact by the chain of batch sizes; up to saturation."""
    assert_holds(_throughput(thinking(clients, think_us)), gated_closed(clients, think_us * 1e-6, 1e-5), slack=0.0005)


def test_closed_throughput_is_mean_value_analysis_where_batches_are_rare():
    """MVA [reiser-lavenberg-1980] needs exponential service; with 20 clients thinking 1 ms per 10 us of service two requests
    meet in a poll seldom (utilisation a fifth), so gating costs under 0.1 % of the cycle."""
    exact = mva(20, 1e-3, mean_service_s("exponential"))
    assert_holds(_throughput(thinking(20, 1000, service="exponential")), exact, slack=0.001)


@pytest.mark.parametrize(("clients", "think_us"), [(1, 100), (5, 100), (20, 150), (50, 150)])
def test_closed_throughput_keeps_the_asymptotic_bounds(clients, think_us):
    """N / (Z + N D) <= X <= min(N / (Z + D), 1 / D) [lazowska-1984]; constant think, so that they are sharp; 1 % for the ends."""
    think, service = think_us * 1e-6, 1e-5
    (x,) = {round(rate) for rate in _throughput(thinking(clients, think_us, is_exponential=False))[:1]}
    assert clients / (think + clients * service) * 0.99 <= x
    assert x <= min(clients / (think + service), 1 / service) * 1.01


@pytest.mark.parametrize("think_us", [0, 200, 2000])
def test_littles_law_holds_for_a_closed_loop_with_the_default_profile(think_us):
    """N = X (R + Z) [little-1961], with the costs of a real host; 0.5 % for the first and the last cycle."""
    result = engine.run(scenario(f"""\
duration: 2s
nodes: {{main: {{host: box, conf: 'save ""'}}}}
datasets: {{d: {{node: main, keys: 1000}}}}
clients:
  q: {{node: main, connections: 50, arrivals: {{closed: {{think: {think_us}us}}}}, commands: {{GET: 1}}, keys: {{dataset: d}}}}
"""))  # fmt: skip
    q = result.summary["clients"]["q"]
    assert q["throughput_per_s"] * (q["latency_us"]["mean"] + think_us) * 1e-6 == pytest.approx(50, rel=0.005)


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
    """400,000 draws of zipf 0.99 are not taken for zipf 1.0."""
    counts = np.bincount(drawn("{zipf: 0.99}", 5000), minlength=5000)
    assert not chi_square_is_plausible(counts, 400_000 * zipf_law(1.0, 5000))


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
    counts = offered(
        "{schedule: [{at: 0s, rate_per_s: 1000}, {at: 4s, rate_per_s: 0}, {at: 6s, rate_per_s: 20000}]}", seconds=10
    )
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
