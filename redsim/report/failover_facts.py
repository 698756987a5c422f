"""What a report reads of failovers: the Sentinels' events, what state each server was in, and the episodes of a run.

Mirrors sentinel.c: events have Redis' names, and are read from the log, as an operator would.

    episode    a master is taken for down (+sdown) or a failover begins; all events until nothing has happened for QUIET_S.
               The fault, or the stall, that came before it belongs to it

Differs: when a fault struck and when a server was promoted is known to the run, not only to the Sentinels.
Not modelled: a run whose sentinel.conf says `loglevel warning` leaves fewer lines; what is not logged is not told.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from redsim.report import facts
from redsim.report.facts import number
from redsim.run.failover_log import master_of
from redsim.run.failover_steps import HELD_S, cause
from redsim.run.result import Result
from redsim.units import S

QUIET_S = 6.0  # between two events of one episode at most; +convert-to-slave comes 8 s after the old master is back
FULL_SYNC = ("wait_bgsave", "bgsave", "transfer", "save", "flush", "load")
FAULTS = {"kill": "kill -9", "os_crash": "crash of the OS", "power_loss": "power loss"}


@dataclass(frozen=True)
class Event:
    """A line of a Sentinel's log: the event, whom it is about ("": itself), of which service ("": of none)."""

    at_s: float
    who: str
    name: str
    about: str
    service: str
    text: str

    @property
    def is_of_master(self) -> bool:
        """Whether it is about the master itself."""
        return self.text.startswith("master ")


@dataclass(frozen=True)
class Episode:
    """A stretch of time in which Sentinels dealt with a master."""

    service: str
    old: str
    begin_s: float
    events: tuple[Event, ...]
    failovers: tuple[dict[str, Any], ...]
    cause: tuple[float, str] | None  # when, and what came before the first +sdown

    @cached_property
    def end_s(self) -> float:
        """Its last event."""
        return max(event.at_s for event in self.events)

    @property
    def start_s(self) -> float:
        """What caused it, or its first event."""
        return min(self.begin_s, self.cause[0]) if self.cause is not None else self.begin_s

    def all(self, *names: str) -> list[Event]:
        """Its events of these names."""
        return [event for event in self.events if event.name in names]

    def first_s(self, *names: str) -> float | None:
        """When the first of them was; None: never."""
        return min((event.at_s for event in self.all(*names)), default=None)

    @cached_property
    def leaders(self) -> list[str]:
        """Who was elected."""
        return list(dict.fromkeys(event.who for event in self.all("+elected-leader")))

    @cached_property
    def candidates(self) -> list[str]:
        """Who tried a failover."""
        return list(dict.fromkeys(event.who for event in self.all("+try-failover")))

    def says_down(self) -> list[str]:
        """Which Sentinels took the master for down."""
        return list(dict.fromkeys(event.who for event in self.all("+sdown") if event.is_of_master))


def sentinels(result: Result) -> dict[str, dict[str, Any]]:
    """Sentinels of the summary, by name."""
    return dict(result.summary.get("sentinels") or {})


def failovers(result: Result) -> list[dict[str, Any]]:
    """Promotions of the summary, as they came."""
    return list(result.summary.get("failovers") or [])


def rules(result: Result, service: str) -> Any:
    """What sentinel.conf says of a service (MasterRules); None: nothing."""
    conf = result.scenario.sentinel_conf
    return conf.master(service) if conf is not None else None


def events(result: Result) -> list[Event]:
    """What the Sentinels logged as events, as they came."""
    names = sentinels(result)
    by_id = {str(row.get("myid")): name for name, row in names.items()}
    services = _services(result)
    mine = result.events[result.events["who"].isin(list(names))]
    return [
        _event(row, by_id, services) for row in facts.rows(mine)
        if row.text[:1] in "+-" and not row.text.startswith(("+monitor", "-monitor"))
    ]  # fmt: skip


def _services(result: Result) -> list[str]:
    conf = result.scenario.sentinel_conf
    return [one.name for one in conf.masters] if conf is not None else []


def _event(row: Any, by_id: dict[str, str], services: list[str]) -> Event:
    """`+sdown slave r1:6379 r1 6379 @ mymaster main 6379`: about r1, of mymaster."""
    name, _, text = str(row.text).partition(" ")
    words = text.split()
    service = master_of(words)
    about = words[2] if len(words) > 2 and words[0] in ("master", "slave") else ""
    if words[:1] == ["sentinel"]:
        about = by_id.get(words[1], words[2])
    elif name == "+switch-master":
        service, about = words[0], words[3]
    elif name == "+vote-for-leader":
        about = by_id.get(words[0], words[0][:8])
    if not service and len(services) == 1:
        service = services[0]
    return Event(float(row.time_s), str(row.who), name, about, service, text)


# ---- episodes


def episodes(result: Result) -> list[Episode]:
    """All of a run, as they came."""
    out = []
    every = [event for event in events(result) if event.name not in ("+slave", "+sentinel", "+new-epoch")]
    for service in _services(result):
        for part in _parts([event for event in every if event.service == service]):
            begin = next((event for event in part if _begins(event)), None)
            if begin is not None:
                out.append(_episode(result, service, part, begin))
    return sorted(out, key=lambda one: one.begin_s)


def _begins(event: Event) -> bool:
    return event.name == "+try-failover" or (event.name in ("+sdown", "+odown") and event.is_of_master)


def _parts(mine: list[Event]) -> list[list[Event]]:
    """Cut where nothing happens for long; a failover that is under way holds its part together."""
    parts: list[list[Event]] = []
    under_way: set[str] = set()
    last_s = float("-inf")
    for event in mine:
        if not parts or (event.at_s - last_s > QUIET_S and not under_way):
            parts.append([])
        parts[-1].append(event)
        last_s = event.at_s
        if event.name == "+try-failover":
            under_way.add(event.who)
        elif event.name in ("+switch-master", "-tilt") or event.name.startswith("-failover-abort"):
            under_way.discard(event.who)
    return parts


def _episode(result: Result, service: str, part: list[Event], begin: Event) -> Episode:
    rows = [row for row in failovers(result) if part[0].at_s - 1 <= row["at_s"] <= part[-1].at_s + 1]
    old = begin.about
    return Episode(service, old, begin.at_s, tuple(part), tuple(rows), cause(result, old, begin.at_s))


# ---- servers


def states(result: Result, node: str) -> list[tuple[float, float, str]]:
    """(from s, to s, state) of a server; later ones hide earlier ones.

    States: master, replica, alone (no master to follow), sync, held, stopped, loading, dead.
    """
    end_s = facts.duration_s(result)
    out = [(start, end, "master" if role == "master" else "replica") for start, end, role in roles(result, node)]
    for row in facts.rows(result.syncs[result.syncs["replica"] == node]):
        kind = "sync" if row.phase in FULL_SYNC else "alone" if row.phase in ("disconnected", "handshake", "down") else ""
        if kind:
            out.append((float(row.start_s), float(row.end_s), kind))
    for row in facts.rows(result.stalls[result.stalls["node"] == node]):
        if row.duration_us >= HELD_S * 1e6:
            kind = "stopped" if row.event == "process-stopped" else "held"
            out.append((float(row.start_s), min(float(row.start_s) + float(row.duration_us) / 1e6, end_s), kind))
    for down_s, loading_s, serving_s in facts.away_s(result, node):
        out += [(down_s, loading_s, "dead"), (loading_s, serving_s, "loading")]
    return [(start, end, kind) for start, end, kind in out if end > start]


def sentinel_states(result: Result, name: str) -> list[tuple[float, float, str]]:
    """(from s, to s, dead or stopped): what faults did to a Sentinel."""
    host, end_s = str(sentinels(result)[name].get("host")), facts.duration_s(result)
    out: list[tuple[float, float, str]] = []
    for _, fault in result.scenario.file.node_faults:
        if fault.node == name or (fault.node is None and fault.host == host):
            back = fault.for_ns if fault.fault == "pause" else fault.restart_after
            until_s = end_s if back is None else min((fault.at + back) / S, end_s)
            if fault.fault == "restart":
                out = [(start, min(end, fault.at / S), kind) for start, end, kind in out]
            else:
                out.append((fault.at / S, until_s, "stopped" if fault.fault == "pause" else "dead"))
    return out


def roles(result: Result, node: str) -> list[tuple[float, float, str]]:
    """(from s, to s, role) of a server whose role may change."""
    mine = list(facts.rows(result.roles[result.roles["node"] == node]))
    ends = [float(row.time_s) for row in mine[1:]] + [facts.duration_s(result)]
    return [(float(row.time_s), end, str(row.role)) for row, end in zip(mine, ends, strict=True) if end > row.time_s]


def as_master(result: Result, node: str) -> list[tuple[float, float]]:
    """When a server was a master whose process lived and ran."""
    away = [(start, end) for start, end, kind in states(result, node) if kind in ("dead", "loading", "stopped", "held")]
    spans = [(start, end) for start, end, role in roles(result, node) if role == "master"]
    for start, end in away:
        cut = [((a, min(b, start)), (max(a, end), b)) for a, b in spans]
        spans = [(a, b) for pair in cut for a, b in pair if b > a]
    return spans


def took_over(result: Result, node: str, crash: dict[str, Any]) -> dict[str, Any] | None:
    """The failover that gave a crashed master's data to another before it was back; None: what it lost is lost."""
    until_s = number(crash.get("serves_s"), float("inf"))
    rows = [row for row in failovers(result) if row["from"] == node and crash["at_s"] <= row["at_s"] <= until_s]
    return rows[0] if rows else None


def followers(result: Result) -> dict[str, dict[str, Any]]:
    """Client groups of the summary that follow a service, by name."""
    return {name: group for name, group in facts.groups(result).items() if "unavailable_s" in group}


def places(result: Result, group: str) -> list[tuple[float, float, str]]:
    """(from s, to s, node): where a group that follows a service had its connections."""
    moves = followers(result)[group].get("moves") or []
    starts = [0.0, *(float(move["at_s"]) for move in moves)]
    at = [facts.node_of(result, group), *(str(move["to"]) for move in moves)]
    return list(zip(starts, [*starts[1:], facts.duration_s(result)], at, strict=True))


def away_span(group: dict[str, Any]) -> tuple[float, float] | None:
    """(from s, to s) of the longest time in which nobody answered a group; None: none worth a word."""
    length_s, from_s = number(group.get("unavailable_s")), number(group.get("unavailable_from_s"))
    return (from_s, from_s + length_s) if length_s >= HELD_S else None


def nodes_of(result: Result, episode: Episode) -> list[str]:
    """The servers of the service: its master at the start and all that ever followed it."""
    conf = rules(result, episode.service)
    found = [conf.host] if conf is not None else []
    for row in facts.rows(result.roles):
        if row.master in found and row.node not in found:
            found.append(str(row.node))
    return [name for name in facts.nodes(result) if name in found] or list(facts.nodes(result))


def happened(result: Result, node: str) -> list[tuple[float, str]]:
    """(when, what) of a server's lane: faults, the start of a new process, what it was told to follow."""
    out = []
    for name, row in facts.crashes(result):
        if name == node:
            out.append((float(row["at_s"]), FAULTS.get(str(row["fault"]), str(row["fault"]))))
            if row.get("starts_s") is not None:
                out.append((float(row["starts_s"]), "starts"))
    for row in facts.rows(result.stalls[(result.stalls["node"] == node) & (result.stalls["duration_us"] >= HELD_S * 1e6)]):
        said = "SIGSTOP" if row.event == "process-stopped" else facts.command_of(str(row.because)) or str(row.event)
        out.append((float(row.start_s), said))
    host = result.scenario.file.nodes[node].host
    for _, fault in result.scenario.file.network_faults:
        if fault.node == node or any(host in one for one in (*(fault.groups or []), fault.between or ())) or host in (
            fault.from_host, fault.to_host):  # fmt: skip
            out += [(start / S, str(fault.fault)) for start, _ in fault.spans()]
            out += [(end / S, f"{fault.fault} over") for _, end in fault.spans()]
    mine = result.roles[(result.roles["node"] == node) & (result.roles["time_s"] > 0)]
    out += [(float(row.time_s), f"REPLICAOF {row.master}" if row.master else "REPLICAOF NO ONE") for row in facts.rows(mine)]
    return sorted(out, key=lambda one: one[0])
