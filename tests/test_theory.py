"""redsim against queueing theory.

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
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from redsim.dataplane import layout as dp
from redsim.dataplane.compile import entry
from redsim.dataplane.draws import below, exponential
from redsim.rng import stream
from redsim.run import engine
from redsim.scenario.load import Scenario
from redsim.scenario.schema import Size
from redsim.units import S
from redsim.workload.tables import quantile_words
from tests.small_worlds import SEEDS, assert_holds, interval, profile, scenario, world_of

Floats = npt.NDArray[np.float64]
PS_PER_BYTE = 100_000  # so that 100 bytes are a service time of 10 us


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
