"""Trials of a plan of failovers: a setting of Sentinel and of min-replicas, something that happens, a seed; and what came of it.

    calm     nothing but the scenario's own stalls: forks, fsyncs, slow commands. A failover here is a false one
    kill     kill -9 of the master at a random instant, for good
    cut      the master's host loses all other hosts for a while; clients still reach it
    blind    a Sentinel's host and the master's lose each other; nothing is wrong with the master
    short    one Sentinel is dead when the master is killed
    own      the timeline as it is written, from the first thing that it does to the master

Of one seed the instant, the arrivals and all other luck are the same whatever the setting is: settings are compared in pairs.
The scenario's own faults of servers and of the network, REPLICAOF and SENTINEL FAILOVER are left out of all but `own`; faults of
disks are stalls and stay.
Differs: the instant is anywhere in the scenario's duration in which all groups that follow ask, the run goes on behind it for as
long as it takes, and so do the groups.
Not modelled: a supervisor that starts the killed master again; clients that lose the master's host, too; more than one service.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from redsim.rng import generator
from redsim.run import engine
from redsim.run.result import Result
from redsim.scenario.crashes import NodeFault
from redsim.scenario.load import Scenario
from redsim.scenario.network import NetworkFault
from redsim.scenario.roles import is_role_change
from redsim.scenario.schema import ScenarioFile, TimelineEntry
from redsim.scenario.sentinel_conf import MasterRules
from redsim.scenario.sentinels import is_of_sentinel
from redsim.units import MS, S

__all__ = [
    "Setting", "Trial", "instants", "kinds_of", "made", "measured", "now_of", "rules_of", "trials_of", "tried",
    "with_setting",
]  # fmt: skip

SETTLE_NS = 2 * S  # no fault before: Sentinels have pinged everybody by then
AFTER_NS = 20 * S  # an election that nobody won is given up after 10 s; then a second to the promotion, some to the clients
HEALED_NS = 20 * S  # +convert-to-slave of the old master comes 8 s after it is back, at an INFO
EARLIER_NS = S  # before the master a Sentinel dies


@dataclass(frozen=True)
class Setting:
    """What is chosen: of sentinel.conf, and of redis.conf of all servers (`min_lag_s`: min-replicas-max-lag)."""

    down_after_ns: int
    quorum: int
    parallel_syncs: int
    min_replicas: int
    min_lag_s: int

    def row(self) -> dict[str, int]:
        """As columns."""
        return {
            "down_after_ms": self.down_after_ns // MS, "quorum": self.quorum, "parallel_syncs": self.parallel_syncs,
            "min_replicas_to_write": self.min_replicas, "min_replicas_max_lag_s": self.min_lag_s,
        }  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One run to be made. `cut_ns`: how long hosts lose each other."""

    setting: Setting
    kind: str
    seed: int
    cut_ns: int


def rules_of(scenario: Scenario) -> MasterRules:
    """Of the one master that the Sentinels watch."""
    assert scenario.sentinel_conf is not None, "there are Sentinels"
    return scenario.sentinel_conf.masters[0]


def now_of(scenario: Scenario) -> Setting:
    """The scenario's own setting."""
    rules = rules_of(scenario)
    conf = scenario.confs[rules.host]
    lag_s = int(conf.get("min-replicas-max-lag"))
    least = int(conf.get("min-replicas-to-write")) if lag_s else 0  # a lag of 0 switches it off, too
    return Setting(rules.down_after_ns, rules.quorum, rules.parallel_syncs, least, lag_s)


def kinds_of(file: ScenarioFile, master: str) -> list[str]:
    """What can happen in this scenario: hosts that are one cannot lose each other."""
    host = file.nodes[master].host
    apart = len({node.host for node in file.nodes.values()} | {place.host for place in file.sentinel_places}) > 1
    kinds = ["calm", "kill", *(["cut"] if apart else []), *(["blind"] if _others(file, host) else [])]
    kinds += ["short"] if len(file.sentinel_places) > 1 else []
    return kinds + (["own"] if any(_strikes_master(file, entry, master) for entry in file.timeline) else [])


def _others(file: ScenarioFile, host: str) -> list[str]:
    """Hosts that are not the master's, with fewer than half of the Sentinels: who is blind there is in the minority."""
    places = [place.host for place in file.sentinel_places]
    return sorted({one for one in places if one != host and 2 * places.count(one) < len(places)})


def _is_strike(entry: object) -> bool:
    """A fault of a server, a Sentinel or the network, but a link that is only slow; a change of roles."""
    if isinstance(entry, TimelineEntry):
        return is_role_change(entry) or is_of_sentinel(entry)
    return isinstance(entry, NodeFault) or (isinstance(entry, NetworkFault) and entry.fault != "slow_link")


def _strikes_master(file: ScenarioFile, entry: object, master: str) -> bool:
    """Whether it is of the master, of its host's network, or gives it up."""
    host = file.nodes[master].host
    if isinstance(entry, NodeFault):
        return master == entry.node or (entry.node is None and entry.host == host)
    if isinstance(entry, NetworkFault) and _is_strike(entry):
        return any(entry.strikes(*pair) for other in file.hosts for pair in ((host, other), (other, host)))
    return isinstance(entry, TimelineEntry) and is_of_sentinel(entry)


def instants(file: ScenarioFile) -> tuple[int, int]:
    """From when to when in ns something may strike: Sentinels have settled, all groups that follow are asking."""
    groups = file.followers.values()
    first = max(file.warmup, SETTLE_NS, *(group.start for group in groups))
    return first, min(file.duration, *(group.stop if group.stop is not None else file.duration for group in groups))


def made(scenario: Scenario, trial: Trial) -> tuple[Scenario, int]:
    """(the scenario of a trial, when it strikes in ns: its end for a calm one)."""
    given = with_setting(scenario, trial.setting).with_seed(trial.seed)
    file = given.file
    master = rules_of(scenario).host
    if trial.kind == "own":
        struck = [entry.at for entry in file.timeline if _strikes_master(file, entry, master)]
        end = max(file.duration, max(struck) + trial.setting.down_after_ns + AFTER_NS)
        return replace(given, file=_lasting(file, end, list(file.timeline))), min(struck)
    timeline = [entry for entry in file.timeline if not _is_strike(entry)]
    if trial.kind == "calm":
        return replace(given, file=file.model_copy(update={"timeline": timeline})), file.duration
    luck = generator(trial.seed, "plan failover", "instant")
    at = int(luck.integers(*instants(file)))
    strikes = _strikes(file, trial, master, at, luck)
    end = at + trial.setting.down_after_ns + AFTER_NS
    if trial.kind in ("cut", "blind"):
        end = max(end, at + trial.cut_ns + HEALED_NS)
    timeline = [entry for entry in timeline if entry.at < end]
    return replace(given, file=_lasting(file, end, [*timeline, *strikes])), at


def _lasting(file: ScenarioFile, end: int, timeline: list[Any]) -> ScenarioFile:
    """With that timeline, to that end, and with groups that follow to the end."""
    lasting = {name: group.model_copy(update={"stop": None}) for name, group in file.followers.items()}
    return file.model_copy(update={"timeline": timeline, "duration": end, "clients": file.clients | lasting})


def _strikes(file: ScenarioFile, trial: Trial, master: str, at: int, luck: np.random.Generator) -> list[NodeFault | NetworkFault]:
    host = file.nodes[master].host
    killed = NodeFault.model_validate({"at": f"{at}ns", "fault": "kill", "node": master})
    if trial.kind == "kill":
        return [killed]
    if trial.kind == "short":
        names = [place.name for place in file.sentinel_places]
        name = names[int(luck.integers(len(names)))]
        return [NodeFault.model_validate({"at": f"{at - EARLIER_NS}ns", "fault": "kill", "node": name}), killed]
    if trial.kind == "cut":
        others = [name for name in file.hosts if name != host]
    else:
        blind = _others(file, host)
        others = [blind[int(luck.integers(len(blind)))]]
    part = {"at": f"{at}ns", "fault": "partition", "groups": [[host], others], "for": f"{trial.cut_ns}ns"}
    return [NetworkFault.model_validate(part)]


def with_setting(scenario: Scenario, setting: Setting) -> Scenario:
    """The scenario with another setting; what is as it was leaves redis.conf as it was."""
    now, conf = now_of(scenario), scenario.sentinel_conf
    assert conf is not None, "there are Sentinels"
    rules = replace(
        rules_of(scenario), down_after_ns=setting.down_after_ns, quorum=setting.quorum, parallel_syncs=setting.parallel_syncs
    )
    confs = dict(scenario.confs)
    for name, one in confs.items():
        if setting.min_replicas != now.min_replicas:
            one = one.with_override("min-replicas-to-write", setting.min_replicas)
        if setting.min_lag_s != now.min_lag_s:
            one = one.with_override("min-replicas-max-lag", setting.min_lag_s)
        confs[name] = one
    return replace(scenario, confs=confs, sentinel_conf=replace(conf, masters=(rules, *conf.masters[1:])))


def tried(given: tuple[Scenario, Trial]) -> tuple[dict[str, Any], list[str]] | None:
    """A row of figures and the guesses it leaned on; None: Ctrl-C."""
    scenario, trial = given
    ready, at_ns = made(scenario, trial)
    result = engine.run(ready)
    if result.partial:
        return None
    row = {**trial.setting.row(), "kind": trial.kind, "seed": trial.seed, **measured(result, trial.kind, at_ns / S)}
    return row, [f"{name}: {says}" for name, says in zip(result.guesses["name"], result.guesses["says"], strict=True)]


def measured(result: Result, kind: str, at_s: float) -> dict[str, Any]:
    """What came of a run, a figure each; None: it never did.

    fault_s, failovers (one that was called for), false_failovers (any other); sdowns: Sentinels that took the master for down
    before anything had happened to it; unavailable_s, is_over: whether it was by the end; promoted_s, writable_s from the fault
    on; redundant_s from the promotion until all replicas follow; lost_acked_writes, refused_writes; failed, offered of the groups
    that follow; reads_unavailable_s of those that read from replicas, longest_stall_s of the master.
    """
    summary, file = result.summary, result.scenario.file
    rows = summary["failovers"]
    is_called_for = kind not in ("calm", "blind")
    first = next((row for row in rows if is_called_for and row["at_s"] >= at_s), None)
    false = [row for row in rows if row is not first and (kind != "own" or row.get("because") in (None, "stall"))]
    groups, readers = (
        [summary["clients"][name] for name, group in file.followers.items() if group.role == role]
        for role in ("master", "replica")
    )
    worst = max(groups, key=lambda group: group["unavailable_s"])
    over_s = (worst["unavailable_from_s"] or 0.0) + worst["unavailable_s"]
    master = rules_of(result.scenario).host
    return {
        "fault_s": at_s, "failovers": int(first is not None), "false_failovers": len(false),
        "sdowns": _sdowns(result, master, at_s if is_called_for else float("inf")),
        "unavailable_s": worst["unavailable_s"], "is_over": _is_before_the_end(result, over_s),
        "promoted_s": first["at_s"] - at_s if first else None,
        "writable_s": first["writable_again_s"] - at_s if first and first["writable_again_s"] is not None else None,
        "redundant_s": _redundant_s(result, first) if first else None,
        "lost_acked_writes": sum(row["lost_acked_writes"] for row in rows),
        "refused_writes": sum(group["errors"]["noreplicas"] for group in groups),
        "failed": sum(group["failed"] for group in groups), "offered": sum(group["offered"] for group in groups),
        "reads_unavailable_s": max((group["unavailable_s"] for group in readers), default=None),
        "longest_stall_s": _longest_stall_s(result, master, at_s),
    }  # fmt: skip


def _sdowns(result: Result, master: str, until_s: float) -> int:
    """How many Sentinels took that server for down before."""
    who = set(result.summary["sentinels"])
    events = result.events[(result.events["time_s"] < until_s) & result.events["who"].isin(who)]
    said = [(row.who, str(row.text).split()) for row in events.itertuples(index=False)]
    return len({name for name, words in said if words[:2] == ["+sdown", "master"] and words[3] == master})


def _redundant_s(result: Result, row: dict[str, Any]) -> float | None:
    """From a promotion until all other replicas follow the new master; None: not by the end."""
    others = [name for name in result.scenario.file.nodes if name not in (row["from"], row["to"])]
    phases = result.syncs[result.syncs["replica"].isin(others) & (result.syncs["end_s"] > row["at_s"])]
    last_s = float(phases["end_s"].max()) if len(phases) else row["at_s"]
    return last_s - row["at_s"] if _is_before_the_end(result, last_s) else None


def _is_before_the_end(result: Result, at_s: float) -> bool:
    """Whether something was over then, not cut off by the end of the run."""
    return at_s < result.scenario.file.duration / S - 0.01


def _longest_stall_s(result: Result, master: str, until_s: float) -> float:
    told = result.summary["nodes"][master]["stalls"] if until_s >= result.scenario.file.duration / S else {}
    longest_us = max((row["max_us"] for event, row in told.items() if event != "process-stopped"), default=0.0)
    mine = result.stalls[(result.stalls["node"] == master) & (result.stalls["start_s"] < until_s)]
    mine = mine[mine["event"] != "process-stopped"]
    return max(longest_us, float(mine["duration_us"].max()) if len(mine) else 0.0) / 1e6


def trials_of(
    scenario: Scenario, setting: Setting, kinds: Sequence[str], repeats: int, cut_ns: int
) -> list[tuple[Scenario, Trial]]:
    """The trials of a setting: each kind with as many seeds, the scenario's own first."""
    seed = scenario.file.seed
    return [(scenario, Trial(setting, kind, seed + i, cut_ns)) for kind in kinds for i in range(repeats)]
