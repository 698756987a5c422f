"""Attempts at a failover, read from what Sentinels log: who tried, how far it got, when each step was taken.

A failover begins with +try-failover and ends with its leader's +switch-master or with an abort. Who asked for votes and lost to
another Sentinel is no failover of its own once that one has switched.
Not modelled: what clients see of it; that is in their latencies.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from redsim.units import S

__all__ = ["Failover", "failovers", "master_of"]

OUTCOMES = {
    "-failover-abort-not-elected": "not elected",
    "-failover-abort-no-good-slave": "no good slave",
    "-failover-abort-slave-timeout": "slave timeout",
}


@dataclass
class Failover:
    """One attempt of one Sentinel; times are ns, None is never.

    outcome    switched, not elected, no good slave, slave timeout, lost to another, under way (to the end, or its leader died)
    switch_first_ns, switch_all_ns    the first and the last Sentinel that gives the new address
    """

    master: str
    sentinel: str
    old: str  # host and port
    try_ns: int
    sdown_ns: int | None = None  # the first Sentinel's, before the try
    odown_ns: int | None = None
    elected_ns: int | None = None
    selected_ns: int | None = None
    promoted_ns: int | None = None
    switch_first_ns: int | None = None
    switch_all_ns: int | None = None
    new: str = ""  # host and port
    is_late: bool = False  # +failover-end-for-timeout
    outcome: str = "under way"

    def summary(self) -> dict[str, Any]:
        """As summary.json has it: seconds."""
        times = {name.removesuffix("_ns") + "_s": value for name, value in asdict(self).items() if name.endswith("_ns")}
        told = {name: None if ns is None else ns / S for name, ns in times.items()}
        hosts = {"from": self.old.split()[0], "to": self.new.split()[0] if self.new else None}
        return {"master": self.master, "sentinel": self.sentinel, "outcome": self.outcome, **hosts, **told}


def failovers(log: Sequence[tuple[int, str, str]]) -> list[Failover]:
    """All of a run; `log`: (ns, Sentinel, text)."""
    found: list[Failover] = []
    open_by: dict[tuple[str, str], Failover] = {}  # Sentinel, master
    downs: dict[tuple[str, str], int] = {}  # master, its address: first +sdown since it was up
    odowns: dict[tuple[str, str], int] = {}  # Sentinel, master
    for ns, who, text in sorted(log, key=lambda line: line[0]):
        kind, *words = text.split()
        if kind == "+sdown" and words[0] == "master":
            downs.setdefault((words[1], f"{words[2]} {words[3]}"), ns)
        elif kind == "-sdown" and words[0] == "master":
            downs.pop((words[1], f"{words[2]} {words[3]}"), None)
        elif kind == "+odown":
            odowns[who, words[1]] = ns
        elif kind == "-odown":
            odowns.pop((who, words[1]), None)
        elif kind == "+try-failover":
            name, address = words[1], f"{words[2]} {words[3]}"
            one = Failover(name, who, address, ns, downs.get((name, address)), odowns.get((who, name)))
            open_by[who, name] = one
            found.append(one)
        elif kind == "+switch-master":
            _switch(found, open_by, ns, who, words)
            odowns.pop((who, words[0]), None)
            downs.pop((words[0], f"{words[3]} {words[4]}"), None)
        else:
            _step(open_by, ns, who, kind, words)
    return found


def master_of(words: list[str]) -> str:
    """The master whose name is in what sentinelEvent says of an instance, `master NAME …` or `… @ NAME …`; "": no such line."""
    return words[words.index("@") + 1] if "@" in words else words[1] if words[:1] == ["master"] else ""


def _step(open_by: dict[tuple[str, str], Failover], ns: int, who: str, kind: str, words: list[str]) -> None:
    """A line of the Sentinel that tries."""
    name = master_of(words)
    one = open_by.get((who, name))
    if one is None:
        return
    if kind == "+elected-leader":
        one.elected_ns = ns
    elif kind == "+selected-slave":
        one.selected_ns, one.new = ns, f"{words[2]} {words[3]}"
    elif kind == "+promoted-slave":
        one.promoted_ns = ns
    elif kind == "+failover-end-for-timeout":
        one.is_late = True
    elif kind in OUTCOMES:
        one.outcome = OUTCOMES[kind]
        del open_by[who, name]


def _switch(
    found: list[Failover], open_by: dict[tuple[str, str], Failover], ns: int, who: str, words: list[str],
) -> None:  # fmt: skip
    """Somebody has the new address."""
    name, new = words[0], f"{words[3]} {words[4]}"
    one = next((each for each in reversed(found) if each.master == name and each.new == new and each.promoted_ns), None)
    if one is not None:
        one.switch_first_ns = one.switch_first_ns or ns
        one.switch_all_ns = ns
    own = open_by.pop((who, name), None)
    if own is not None:
        own.outcome = "switched" if own is one else "lost to another"
