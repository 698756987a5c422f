"""REPLICAOF on the timeline: which server follows which from when on.

Mirrors replication.c:replicaofCommand: REPLICAOF NO ONE, REPLICAOF <node> [port]; SLAVEOF is the same. Nodes stand for hosts,
and a port for nothing.
Not modelled: FAILOVER; REPLICAOF sent by a client group; a circle of replicas, which is refused.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from redsim.scenario.errors import did_you_mean

__all__ = ["RoleChange", "is_role_change", "role_change", "roles_fit"]

NAMES = ("REPLICAOF", "SLAVEOF")
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class RoleChange:
    """At `at` ns `node` is told to follow `master`; None: nobody."""

    at: int
    node: str
    master: str | None


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # unbalanced quotes: said where commands are read
        return []


def is_role_change(entry: Any) -> bool:
    """Whether a timeline's command is one of these."""
    words = _words(entry.run)
    return bool(words) and words[0].upper() in NAMES


def role_change(entry: Any) -> RoleChange:
    """What the timeline's command says; roles_fit() has found it to be whole."""
    words = _words(entry.run)
    is_nobody = [word.upper() for word in words[1:3]] == ["NO", "ONE"]
    return RoleChange(entry.at, entry.node, None if is_nobody else words[1])


def roles_fit(file: Any) -> Iterator[tuple[Place, str]]:
    """(path, sentence) of commands that are not whole, name nobody, or would make a circle. `file`: a ScenarioFile."""
    above = {name: node.replica_of for name, node in file.nodes.items()}
    for i, entry in sorted(file.role_entries, key=lambda pair: pair[1].at):
        path, words = ("timeline", i, "run"), _words(entry.run)
        shown = f"timeline.{i}.run {entry.run!r}"
        if entry.times > 1:
            yield ("timeline", i, "times"), f"{shown} runs {entry.times} times; REPLICAOF is said once, write an entry for each"
        if len(file.nodes) == 1:
            yield path, f"{shown}: there is one server only; add a node with replica_of: {next(iter(file.nodes))}"
            continue
        if not 2 <= len(words) <= 3:
            yield path, f"{shown} is not a complete {words[0].upper()}; write REPLICAOF NO ONE, or REPLICAOF <node>"
            continue
        change = role_change(entry)
        if change.master is not None and change.master not in file.nodes:
            cure = did_you_mean(change.master, file.nodes)
            yield path, f"{shown}: no node is named {change.master!r}{cure}; there is {', '.join(file.nodes)}"
            continue
        if entry.node not in file.nodes:
            continue  # said elsewhere
        above[entry.node] = change.master
        seen, name = {entry.node}, change.master
        while name is not None and name not in seen:
            seen.add(name)
            name = above.get(name)
        if name is not None:
            yield path, f"{shown}: {entry.node} would follow itself in a circle; tell {name} REPLICAOF NO ONE before"
