"""The model's side of a case about Sentinels: as many simulated repeats as real ones, each of a seed of its own.

Instants are medians over the repeats. An order counts as predicted (1) if one of the repeats has it.
Differs: the machine's speed of the moment is not told to it; the instants are made of timers of 100 ms and more.
NOT modelled: the first connections, by which real Sentinels find each other before the fault.
"""

import statistics
from dataclasses import replace

from redsim.lab.predicted import Side, with_profile
from redsim.lab.sentinel_lines import FailoverSeen, failover_of
from redsim.run import engine
from redsim.scenario.load import Scenario
from redsim.scenario.profile import HostProfile
from redsim.units import S

__all__ = ["predict_failover", "simulated"]

Repeats = list[tuple[FailoverSeen, dict[str, float]]]
_made: dict[tuple[str, str, int], Repeats] = {}  # of this process: all repeats of a case are held against the same


def predict_failover(scenario: Scenario, group: str, profile: HostProfile, count: int, seen: FailoverSeen) -> Side:
    """Every quantity of `count` repeats; `seen`: what the real Sentinels said."""
    key = (scenario.source.text, profile.name, count)
    if key not in _made:
        _made[key] = [simulated(scenario, group, profile, seed) for seed in range(1, count + 1)]
    repeats = _made[key]
    names = {name for _, figures in repeats for name in figures}
    figures = {name: statistics.median(f[name] for _, f in repeats if name in f) for name in sorted(names)}
    figures["order_on_leader"] = float(any(one.leader == seen.leader for one, _ in repeats))
    orders = {order for one, _ in repeats for order in one.observers}
    figures["order_on_observers"] = float(orders.issuperset(seen.observers) and bool(orders) == bool(seen.observers))
    return Side(figures)


def simulated(scenario: Scenario, group: str, profile: HostProfile, seed: int) -> tuple[FailoverSeen, dict[str, float]]:
    """One repeat: what its Sentinels say, figures by quantity."""
    made = with_profile(replace(scenario, file=scenario.file.model_copy(update={"seed": seed})), profile)
    result, conf = engine.run(made), scenario.sentinel_conf
    assert conf is not None, "the case has Sentinels"
    strikes = [fault.at for _, fault in scenario.file.node_faults]
    fault_s = min(strikes + [entry.at for _, entry in scenario.file.sentinel_entries]) / S
    who = {place.name for place in scenario.file.sentinel_places}
    rows = result.events.itertuples(index=False)
    lines = [(at - fault_s, name, text) for at, name, text in rows if name in who]
    seen = failover_of(lines, conf.masters[0].quorum)
    told = result.summary["clients"][group]
    lost = sum(row["lost_acked_writes"] for row in result.summary["failovers"])
    figures = {"failovers": float(seen.failovers), "outage_ms": 1000 * told["unavailable_s"], "lost_writes": float(lost)}
    return seen, {**seen.instants_ms, **figures}
