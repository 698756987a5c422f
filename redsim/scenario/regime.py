"""Which regime a scenario lies in: the kind of load and the band of utilisation by which accuracy is told.

Mirrors nothing in Redis: these are the words that `redsim validate` publishes its errors under and that a run's report looks
itself up by, so both must mean the same. Differs from a description of the load: one word per scenario, the gravest first.
NOT modelled: a scenario whose parts lie in several regimes counts as the gravest of them.
"""

from redsim.scenario.schema import ScenarioFile

AT_REST = "at rest"
KINDS = {
    "failover": "clients that follow a master whom Sentinels replace",
    "time-outs": "clients that lose patience and ask again",
    "stall": "a long command sent once into an open or closed load",
    "trace": "a capture of MONITOR, replayed",
    "redis-benchmark": "redis-benchmark, with its own loop and its own clock",
    "open loop": "requests that come when they come",
    "closed loop": "connections that wait for their answer",
    AT_REST: "no clients: a data set as it lies in memory",
}
BANDS = ((0.3, "< 30 %"), (0.6, "30-60 %"), (0.8, "60-80 %"), (float("inf"), "> 80 %"))


def band_of(utilisation: float) -> str:
    """The band of a main thread's utilisation (0..1), by its name in the tables; an edge belongs to the band above it."""
    return next(name for below, name in BANDS if utilisation < below)


def kind_of_load(file: ScenarioFile) -> str:
    """One of KINDS, the gravest that the scenario has."""
    groups = file.clients.values()
    if not groups and not file.commands_at:
        return AT_REST
    if file.followers:
        return "failover"
    if any(group.timeout is not None for group in groups):
        return "time-outs"
    if file.commands_at:
        return "stall"
    if any(group.arrivals.trace is not None for group in groups):
        return "trace"
    if any(group.station.kind == "redis-benchmark" for group in groups):
        return "redis-benchmark"
    return "open loop" if any(group.arrivals.open is not None for group in groups) else "closed loop"
