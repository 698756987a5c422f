"""Faults of a server's process and of its host on the timeline: what may be written, and what makes sense in that order.

    - {at: 10s, fault: kill, node: main, restart_after: 2s}        # kill -9: what was not written to the file is lost
    - {at: 10s, fault: shutdown, node: main, restart_after: 2s}    # SIGTERM: it saves, if it has save points, and exits
    - {at: 10s, fault: os_crash, host: box, restart_after: 60s}    # and what the page cache had not given to the disk
    - {at: 10s, fault: power_loss, host: box}                      # and, if the disk lies, what it only said it had
    - {at: 30s, fault: restart, node: main}                        # of a server that is down
    - {at: 10s, fault: pause, node: main, for: 5s}                 # SIGSTOP, SIGCONT

Faults of the network are in network.py.
"""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from redsim.scenario.shape import Duration, Model
from redsim.units import say_ns

CRASHES = ("kill", "shutdown", "os_crash", "power_loss")
SHUTDOWN = "shutdown"
HOST_CRASHES = ("os_crash", "power_loss")
NODE_FAULTS = (*CRASHES, "restart", "pause")
Place = tuple[str | int, ...]


class NodeFault(Model):
    """One fault of a process, or of the host it runs on."""

    at: Duration
    fault: Literal["kill", "shutdown", "os_crash", "power_loss", "restart", "pause"]
    node: str | None = None
    host: str | None = None
    for_ns: Duration | None = Field(default=None, alias="for", gt=0)
    restart_after: Duration | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "NodeFault":
        if self.fault not in HOST_CRASHES and (self.node is None or self.host is not None):
            raise ValueError(f"{self.fault} is of a process: give it node: and no host:")
        if (self.node is None) == (self.host is None):
            raise ValueError(f"{self.fault} needs one of host: and node: (the host that node is on)")
        if (self.fault == "pause") != (self.for_ns is not None):
            raise ValueError("pause needs for: 5s" if self.fault == "pause" else f"for: belongs to pause, not to {self.fault}")
        if self.restart_after is not None and self.fault not in CRASHES:
            raise ValueError(f"restart_after belongs to {', '.join(CRASHES)}, not to {self.fault}")
        return self

    def say(self) -> str:
        """One line of the event log."""
        more = f" for {say_ns(self.for_ns)}" if self.for_ns is not None else ""
        said = {"kill": "kill -9", "shutdown": "SHUTDOWN", "os_crash": "the host crashes", "power_loss": "the power is gone",
                "pause": "SIGSTOP"}  # fmt: skip
        return said.get(self.fault, self.fault) + more


def node_of(fault: NodeFault, file: Any) -> str | None:
    """The node that a fault strikes; None: there is none on that host. `file`: a ScenarioFile."""
    if fault.node is not None:
        return fault.node
    return next((name for name, node in file.nodes.items() if node.host == fault.host), None)


def faults_of(file: Any, node: str) -> list[NodeFault]:
    """The faults that strike a node, in the order of time. `file`: a ScenarioFile."""
    mine = [fault for _, fault in file.node_faults if node_of(fault, file) == node]
    return sorted(mine, key=lambda fault: fault.at)


def crashes_fit(file: Any) -> Iterator[tuple[Place, str]]:
    """(path, sentence) of each fault of a node that is not there, comes too late, or strikes a server that is down, or up."""
    for i, entry in file.node_faults:
        at = ("timeline", i)
        known = [*file.nodes, *(place.name for place in file.sentinel_places)]
        if entry.node is not None and entry.node not in known:
            yield (*at, "node"), f"timeline.{i}.node: no node is named {entry.node!r}; there is {', '.join(known)}"
        elif entry.host is not None and entry.host not in file.hosts:
            yield (*at, "host"), f"timeline.{i}.host: no host is named {entry.host!r}; there is {', '.join(file.hosts)}"
        elif node_of(entry, file) is None and entry.host not in [place.host for place in file.sentinel_places]:
            yield (*at, "host"), f"timeline.{i}.host: no node is on {entry.host}, so nothing would come of its {entry.fault}"
        if entry.at >= file.duration:
            said = f"timeline.{i}: at {say_ns(entry.at)} is not before the end, {say_ns(file.duration)}"
            yield (*at, "at"), said
        elif entry.at + (entry.restart_after or 0) >= file.duration:
            back = say_ns(entry.at + (entry.restart_after or 0))
            yield (*at, "restart_after"), f"timeline.{i}: the restart at {back} is not before the end, {say_ns(file.duration)}"
    yield from _in_order(file)


def _in_order(file: Any) -> Iterator[tuple[Place, str]]:
    """What strikes a server in the wrong state, as the faults follow each other."""
    down: dict[str | None, tuple[int, int | None]] = {}  # since when, back when
    for i, entry in sorted(file.node_faults, key=lambda one: one[1].at):
        node = node_of(entry, file)
        since, back = down.get(node, (0, 0))
        is_down = node in down and (back is None or entry.at <= back)
        if entry.fault == "restart" and not is_down:
            yield ("timeline", i, "fault"), f"timeline.{i}: {node} is not down at {say_ns(entry.at)}; kill it before"
        elif entry.fault == "restart" and back is not None:
            yield ("timeline", i, "fault"), f"timeline.{i}: restart_after brings {node} back at {say_ns(back)}; keep one"
        elif entry.fault == "restart":
            down[node] = (since, entry.at - 1)
        elif is_down:
            said = f"timeline.{i}: {node} is down since {say_ns(since)}; {entry.fault} at {say_ns(entry.at)} finds no process"
            yield ("timeline", i, "fault"), said + "; let it come back before, by restart_after"
        elif entry.fault in CRASHES:
            down[node] = (entry.at, None if entry.restart_after is None else entry.at + entry.restart_after)
