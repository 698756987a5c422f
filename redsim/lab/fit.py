"""The fit: the loop's costs, solved from a handful of measured points with redsim itself in the loop.

Unknowns are costs of the profile; a point is a small load played both against a real server and in the model; what is minimised
is the relative error of server CPU per command and of p50, throughput or time inside commands, as each point states, together
with each unknown's relative distance from what a direct probe said of it. Everything is a logarithm, so that a cost stays
positive and 2 us against 1 us weighs as much as 20 against 10.

    log cost -> redsim -> log quantity        Gauss-Newton with finite differences; a step that makes it worse is
                                             damped (Levenberg-Marquardt)

Simulations are deterministic, so a fit of the same points gives the same profile on any machine.
Not modelled: errors of the points that go together (drift of the machine during one round).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from redsim.lab.probes import CROWDS
from redsim.run import engine
from redsim.scenario.load import Scenario
from redsim.scenario.profile import HostProfile

Floats = npt.NDArray[np.float64]
Model = Callable[[Floats], Floats]

STEP = 0.06  # of a logarithm, for the finite differences: well above the grain of one simulated second
MOVE_MAX = 0.8  # of a logarithm in one round
ROUNDS = 8
TRIALS = 4
DAMPING = 0.01
GAIN_MIN = 0.005  # a round that gains less is the last
POLISH = (0.2, 0.1, 0.05)  # of a logarithm
ERROR_FLOOR = 0.03  # nothing is measured better than this here


@dataclass(frozen=True)
class Unknown:
    """A cost to be found. `prior`: what is known of it before, `doubt`: how far it may be off, as a logarithm (0.3: a third)."""

    name: str
    prior: float
    doubt: float
    begin: float = 1.0  # times `prior`: where the search begins


@dataclass(frozen=True)
class Point:
    """A load of the fit. Open at `share` of the capacity that the point `capacity_of` measured, or closed (share None)."""

    name: str
    connections: int
    pipeline: int = 1
    share: float | None = None
    commands: tuple[str, ...] = ("GET", "SET")
    value_bytes: int = 100
    keys: int = 100_000
    station: str = "loop"
    quantities: tuple[str, ...] = ("cpu_us_per_command", "per_s")  # of a full closed loop, p50 has two humps and is only reported
    simulated_ms: int = 250


@dataclass(frozen=True)
class Measured:
    """What a point's real runs gave: rate offered (open loop; else 0), and by quantity the median and its relative spread."""

    point: str
    rate_per_s: float
    values: dict[str, float]
    spreads: dict[str, float]
    disturbed: float = 0.0  # the median run's share of the time in which somebody waited for a CPU


_OPEN = ("cpu_us_per_command", "p50_us")
POINTS = (
    Point("1 connection", 1, quantities=("cpu_us_per_command", "p50_us")),
    Point("50 connections", 50),
    Point("50 connections x 16", 50, pipeline=16, simulated_ms=80),
    Point("50 connections at 10 %", 50, share=0.1, quantities=_OPEN, simulated_ms=500),
    Point("50 connections at 50 %", 50, share=0.5, quantities=_OPEN),
    Point("50 connections, GET 16 kB", 50, commands=("GET",), value_bytes=16384, keys=2000),
    Point("50 connections, SET 16 kB", 50, 1, None, ("SET",), value_bytes=16384, keys=2000, quantities=("cpu_us_per_command",)),
)
CAPACITY_OF = "50 connections"
BENCHMARK_POINTS = (
    Point("redis-benchmark 1", 1, station="redis-benchmark", commands=("GET",), quantities=("cpu_us_per_command", "per_s")),
    Point("redis-benchmark 50", 50, station="redis-benchmark", commands=("GET",), quantities=("per_s", "p50_us")),
    Point("redis-benchmark 50 x 16", 50, 16, None, ("GET",), station="redis-benchmark", quantities=("per_s",), simulated_ms=80),
)
CROWD_POINTS = tuple(Point(f"{n} connections", n) for n in CROWDS)


# ---- the model -----------------------------------------------------------------------------------------------------


RISES = {"wake_rise_ns": ("wake_ns", "wake_deep_ns"), "wake_cpu_rise_ns": ("wake_cpu_ns", "wake_cpu_deep_ns")}


def with_values(profile: HostProfile, values: dict[str, float]) -> HostProfile:
    """The profile with these costs (under `costs`, `client`, or loopback_rtt_ns) rounded into it, at least 1. A rise in RISES is
    what a long sleep costs more than a short one, so that no fit can make it cost less."""
    costs, client, rtt = dict(profile.costs), dict(profile.client), profile.loopback_rtt_ns
    for name, value in values.items():
        whole = max(1, round(value))
        if name == "loopback_rtt_ns":
            rtt = whole
        elif name in costs:
            costs[name] = replace(costs[name], value=whole)
        elif name in client:
            client[name] = replace(client[name], value=whole)
    for name, (short, deep) in RISES.items():
        if name in values:
            costs[deep] = replace(costs[deep], value=costs[short].value + round(values[name]))
    return replace(profile, costs=costs, client=client, loopback_rtt_ns=rtt)


def value_of(profile: HostProfile, name: str) -> float:
    """The cost of that name, or the rise."""
    if name == "loopback_rtt_ns":
        return float(profile.loopback_rtt_ns)
    if name in RISES:
        short, deep = RISES[name]
        return float(max(profile.costs[deep].value - profile.costs[short].value, 1))
    return float((profile.costs.get(name) or profile.client[name]).value)


def spinning(profile: HostProfile) -> HostProfile:
    """The profile as our load generator meets it, whose thread never sleeps: nothing is paid for waking the client. Another
    server on the host sleeps as ever."""
    wake = profile.costs["wake_peer_ns"]
    costs = {**profile.costs, "wake_peer_ns": replace(wake, value=0), "wake_server_ns": wake}
    client = {**profile.client, "loop_wake_ns": replace(profile.client["loop_wake_ns"], value=0)}
    return replace(profile, costs=costs, client=client)


def twin(point: Point, rate_per_s: float) -> Scenario:
    """The point as a scenario: one group `lg`, uniform keys of 16 bytes; the profile is put in by simulate()."""
    arrivals = f"{{open: {{rate_per_s: {rate_per_s}}}}}" if point.share is not None else "{closed: {}}"
    commands = ", ".join(f"{name}: 1" for name in point.commands)
    return Scenario.from_text(
        f"""\
question: What does this point of the fit cost?
duration: {point.simulated_ms}ms
warmup: {point.simulated_ms // 10}ms
hosts: {{box: {{profile: default}}}}
nodes: {{main: {{host: box, conf: 'save ""'}}}}
datasets: {{d: {{node: main, keys: {point.keys}, value_bytes: {point.value_bytes}}}}}
clients:
  lg: {{node: main, connections: {point.connections}, pipeline: {point.pipeline}, arrivals: {arrivals},
       commands: {{{commands}}}, keys: {{dataset: d}}, station: {{kind: {point.station}, threads: 1}}}}
""",
        name=point.name,
    )


def simulate(scenario: Scenario, profile: HostProfile) -> dict[str, float]:
    """Quantities of one point as redsim predicts them: cpu_us_per_command, p50_us, per_s, usec_per_call."""
    station = scenario.file.clients["lg"].station.kind
    here = spinning(profile) if station == "loop" else profile
    summary = engine.run(replace(scenario, profiles=dict.fromkeys(scenario.profiles, here))).summary
    group, node = summary["clients"]["lg"], summary["nodes"]["main"]
    stats = node["info"]["commandstats"].values()
    return {
        "cpu_us_per_command": node["cpu_us_per_command"],
        "p50_us": group["latency_us"]["p50"],
        "per_s": group["throughput_per_s"],
        "usec_per_call": sum(row["usec"] for row in stats) / max(sum(row["calls"] for row in stats), 1),
    }


# ---- least squares -------------------------------------------------------------------------------------------------


def gauss_newton(
    model: Model, start: Floats, prior: Floats, doubt: Floats, target: Floats, error: Floats,
    rounds: int = ROUNDS, on_round: Callable[[float], None] = lambda share: None,
) -> tuple[Floats, Floats]:  # fmt: skip
    """(unknowns, their doubts afterwards), all logarithms: least ((model - target) / error)^2 + ((x - prior) / doubt)^2.

    `model` takes shape (unknowns,) and gives shape (quantities,). `on_round` hears how much is done, 0..1.
    """

    def residual(predicted: Floats, x: Floats) -> Floats:
        return np.concatenate([(predicted - target) / error, (x - prior) / doubt])

    x, best = start.copy(), residual(model(start), start)
    jacobian, damping = np.zeros((best.size, x.size)), DAMPING
    for i in range(rounds):
        for k in range(x.size):
            ahead = x.copy()
            ahead[k] += STEP
            jacobian[:, k] = (residual(model(ahead), ahead) - best) / STEP
        normal, before = jacobian.T @ jacobian, float(best @ best)
        for _ in range(TRIALS):
            move = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -jacobian.T @ best)
            move = np.clip(move, -MOVE_MAX, MOVE_MAX)
            there = residual(model(x + move), x + move)
            if float(there @ there) < before:
                break
            damping *= 8
        on_round((i + 1) / rounds / 2)
        if float(there @ there) >= before:
            break
        x, best, damping = x + move, there, damping / 8
        if float(best @ best) > (1 - GAIN_MIN) * before:
            break
    x = polished(lambda trial: float(np.square(residual(model(trial), trial)).sum()), x, lambda share: on_round(0.5 + share / 2))
    return x, np.sqrt(np.diag(np.linalg.pinv(jacobian.T @ jacobian)))


def polished(cost: Callable[[Floats], float], start: Floats, on_round: Callable[[float], None]) -> Floats:
    """`start` with each unknown moved up or down where that lowers `cost`, in smaller and smaller steps: loops that lock into
    step with each other (client and server equally fast) make edges that no derivative sees."""
    x, best = start.copy(), cost(start)
    for i, step in enumerate(POLISH):
        for k in range(x.size):
            for sign in (1, -1):
                trial = x.copy()
                trial[k] += sign * step
                there = cost(trial)
                if there < best:
                    x, best = trial, there
                    break
            on_round((i + (k + 1) / x.size) / len(POLISH))
    return x


@dataclass(frozen=True)
class Fitted:
    """The profile found, each unknown's value and range, and how far each point is off."""

    profile: HostProfile
    values: dict[str, dict[str, Any]]  # name -> value, spread
    residuals: list[dict[str, Any]]  # point, quantity, measured, fitted, error_pct, is_fitted


def fit(profile: HostProfile, unknowns: Sequence[Unknown], points: Sequence[Point], measured: Sequence[Measured],
        on_round: Callable[[float], None] = lambda share: None, rounds: int = ROUNDS) -> Fitted:  # fmt: skip
    """The costs `unknowns` of `profile` such that redsim gives what was measured at `points`.

    Points that were not measured are left out; quantities outside a point's list are compared afterwards, not fitted.
    """
    by_name = {row.point: row for row in measured}
    used = [point for point in points if point.name in by_name]
    scenarios = [twin(point, by_name[point.name].rate_per_s) for point in used]
    rows = [(i, quantity) for i, point in enumerate(used) for quantity in point.quantities]
    names = [unknown.name for unknown in unknowns]
    prior = np.log([max(unknown.prior, 1.0) for unknown in unknowns])
    target = np.log([by_name[used[i].name].values[quantity] for i, quantity in rows])
    error = np.array([max(by_name[used[i].name].spreads.get(quantity, 0.0) / 2, ERROR_FLOOR) for i, quantity in rows])

    def model(x: Floats) -> Floats:
        here = with_values(profile, dict(zip(names, np.exp(x), strict=True)))
        found = [simulate(scenario, here) for scenario in scenarios]
        return np.asarray(np.log([max(found[i][quantity], 1e-9) for i, quantity in rows]))

    start = prior + np.log([unknown.begin for unknown in unknowns])
    x, doubt = gauss_newton(model, start, prior, np.array([u.doubt for u in unknowns]), target, error, rounds, on_round)
    values: dict[str, dict[str, Any]] = {
        name: {"value": max(1, round(math.exp(v))), "spread": [round(math.exp(v - d)), round(math.exp(v + d))]}
        for name, v, d in zip(names, x, doubt, strict=True)
    }
    done = with_values(profile, {name: math.exp(v) for name, v in zip(names, x, strict=True)})
    for name, (short, deep) in RISES.items():
        if name in values:
            rise = values.pop(name)
            least = values.get(short, {"value": value_of(profile, short)})["value"]
            values[deep] = {"value": round(value_of(done, deep)), "spread": [least + ns for ns in rise["spread"]]}
    return Fitted(done, values, residuals(done, used, scenarios, by_name))


def residuals(profile: HostProfile, points: Sequence[Point], scenarios: Sequence[Scenario], measured: dict[str, Measured]
              ) -> list[dict[str, Any]]:  # fmt: skip
    """Every measured quantity of every point against redsim's."""
    out = []
    for point, scenario in zip(points, scenarios, strict=True):
        found = simulate(scenario, profile)
        for quantity, value in measured[point.name].values.items():
            out.append({
                "point": point.name, "quantity": quantity, "measured": round(value, 3),
                "spread_pct": round(100 * measured[point.name].spreads.get(quantity, 0.0), 1), "model": round(found[quantity], 3),
                "error_pct": round(100 * (found[quantity] / value - 1), 1), "fitted": quantity in point.quantities,
            })  # fmt: skip
    return out


def as_rows(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """For a JSON file; from_rows() reads it back."""
    return [asdict(row) for row in measured]


def from_rows(rows: Sequence[dict[str, Any]]) -> list[Measured]:
    """The inverse of as_rows()."""
    return [Measured(**row) for row in rows]
