"""What the Sentinels' log lines say of one failover: order and instants, read alike from a real log and from Result.events.

    +sdown (first, quorum) → +odown → +elected-leader → +promoted-slave → +switch-master (an observer's, the leader's)
    → +convert-to-slave (the old master is told)

Mirrors sentinel.c:sentinelEvent, the names of its events. Differs: of an order those lines are left out that come at either side
of others by the age of an answer alone: -odown, and for observers +sdown, +odown, and the tries of a candidate that lost.
Not modelled: a second failover in the run; the first one counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["FailoverSeen", "Line", "failover_of"]

Line = tuple[float, str, str]  # seconds since the fault, who, text
KINDS = ("master", "slave", "sentinel")  # of the instance that an event is about
OF_AGE = frozenset({"-odown master"})
OF_OBSERVERS = (
    "+new-epoch", "+vote-for-leader", "+config-update-from sentinel", "+switch-master",
)  # fmt: skip


@dataclass(frozen=True)
class FailoverSeen:
    """Instants in ms after the fault, of events that there were; `leader`, `observers`: their events up to +switch-master."""

    instants_ms: dict[str, float]
    failovers: int
    leader: tuple[str, ...] = ()
    observers: tuple[tuple[str, ...], ...] = field(default=())


def failover_of(lines: Sequence[Line], quorum: int) -> FailoverSeen:
    """Of all Sentinels' lines; those before the fault (negative times) do not count."""
    later = sorted((line for line in lines if line[0] >= 0), key=lambda line: line[0])
    by: dict[str, list[tuple[float, str]]] = {}
    for at_s, who, text in later:
        if event := event_of(text):
            by.setdefault(who, []).append((at_s, event))
    leaders = [who for who, events in by.items() if any(event == "+elected-leader master" for _, event in events)]
    leader = min(leaders, key=lambda who: first(by[who], "+elected-leader master") or 0) if leaders else None
    found: dict[str, float | None] = {}
    downs = sorted(at for events in by.values() if (at := first(events, "+sdown master")) is not None)
    found["sdown_ms"] = downs[0] if downs else None
    found["sdown_quorum_ms"] = downs[quorum - 1] if len(downs) >= quorum else None
    found["odown_ms"] = _earliest(by, "+odown master")
    found["demoted_ms"] = _earliest(by, "+convert-to-slave slave")
    switched = [at for who, events in by.items() if who != leader and (at := first(events, "+switch-master")) is not None]
    found["switch_ms"] = min(switched) if switched else None
    if leader is not None:
        found["elected_ms"] = first(by[leader], "+elected-leader master")
        found["promoted_ms"] = first(by[leader], "+promoted-slave slave")
        found["switch_leader_ms"] = first(by[leader], "+switch-master")
    instants = {name: 1000 * at for name, at in found.items() if at is not None}
    orders = {who: _until_switch([event for _, event in events]) for who, events in by.items()}
    mine = tuple(event for event in orders[leader] if event not in OF_AGE) if leader is not None else ()
    others = (tuple(e for e in order if e in OF_OBSERVERS) for who, order in sorted(orders.items()) if who != leader)
    return FailoverSeen(instants, len(leaders), mine, tuple(sorted(order for order in others if order)))


def event_of(text: str) -> str:
    """`+sdown master` of `+sdown master mymaster 127.0.0.1 6379`; `voted` of a vote that is told to a candidate; "": no event."""
    words = text.split()
    if words[1:3] == ["voted", "for"]:
        return "voted"
    if not words or words[0][0] not in "+-":
        return ""
    return " ".join(words[:2]) if words[1:] and words[1] in KINDS else words[0]


def first(events: Sequence[tuple[float, str]], name: str) -> float | None:
    """When it came first."""
    return next((at for at, event in events if event == name), None)


def _earliest(by: dict[str, list[tuple[float, str]]], name: str) -> float | None:
    times = [at for events in by.values() if (at := first(events, name)) is not None]
    return min(times) if times else None


def _until_switch(events: Sequence[str]) -> tuple[str, ...]:
    end = events.index("+switch-master") + 1 if "+switch-master" in events else len(events)
    return tuple(events[:end])
