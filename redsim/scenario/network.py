"""The network between hosts: links, and their faults on the timeline.

    links: [{between: [a, b], rtt: 500us, bandwidth: 1gbit, loss: 0.001, jitter: 100us, socket_buffer: 4mb}]
    - {at: 10s, fault: disconnect, node: r1, for: 5s}               # its connections with its master end, and none comes about
    - {at: 10s, fault: partition, groups: [[a], [b, c]], for: 5s}   # packets between the groups are lost; connections wait
    - {at: 10s, fault: cut, from: a, to: b, for: 5s}                # the same one way
    - {at: 10s, fault: slow_link, between: [a, b], rtt: 80ms, for: 5s}     # rtt, bandwidth, loss: what is given changes
    - {at: 10s, fault: flapping, between: [a, b], up: 2s, down: 500ms, for: 30s}

Clients are not on these links: each group has its own rtt and bandwidth. Two hosts without a link between them have LINK's
figures.
Not modelled: routes over other hosts, links that share a cable.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from redsim.scenario.shape import Bandwidth, Duration, Memory, Model
from redsim.units import US, say_ns

NETWORK_FAULTS = ("disconnect", "partition", "cut", "slow_link", "flapping")
RTT_NS = 500 * US  # between two hosts of one data centre, where the scenario has no link: a guess
SOCKET_BUFFER_BYTES = 4 << 20  # what both sockets of a connection hold: tcp_wmem's maximum, a guess for what autotuning leaves
Place = tuple[str | int, ...]
Pair = Annotated[tuple[str, str], Field(strict=False)]


class Link(Model):
    """The way between two hosts, the same in both directions."""

    between: Pair
    rtt: Duration = Field(default=RTT_NS, gt=0)
    jitter: Duration = 0  # up to so much more each way
    bandwidth: Bandwidth | None = Field(default=None, gt=0)  # None: no limit
    loss: float = Field(default=0.0, ge=0, le=0.5)  # of packets
    socket_buffer: Memory = Field(default=SOCKET_BUFFER_BYTES, ge=4096)


class NetworkFault(Model):
    """One fault, from `at` on for `for_ns`."""

    at: Duration
    fault: Literal["disconnect", "partition", "cut", "slow_link", "flapping"]
    for_ns: Duration = Field(alias="for", gt=0)
    node: str | None = None
    groups: list[list[str]] | None = None
    from_host: str | None = Field(default=None, alias="from")
    to_host: str | None = Field(default=None, alias="to")
    between: Pair | None = None
    rtt: Duration | None = Field(default=None, gt=0)
    bandwidth: Bandwidth | None = Field(default=None, gt=0)
    loss: float | None = Field(default=None, ge=0, le=0.5)
    up: Duration | None = Field(default=None, gt=0)
    down: Duration | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "NetworkFault":
        needs = {"disconnect": ("node",), "partition": ("groups",), "cut": ("from_host", "to_host"), "slow_link": ("between",),
                 "flapping": ("between", "up", "down")}[self.fault]  # fmt: skip
        written = {"from_host": "from", "to_host": "to"}
        changes = ("rtt", "bandwidth", "loss")
        for name in ("node", "groups", "from_host", "to_host", "between", "up", "down"):
            if (getattr(self, name) is not None) != (name in needs):
                said = f"{self.fault} needs {written.get(name, name)}:" if name in needs else f"{self.fault} has no {name}:"
                raise ValueError(said)
        if self.fault == "slow_link" and all(getattr(self, name) is None for name in changes):
            raise ValueError("slow_link needs what changes: rtt: 80ms, bandwidth: 10mbit or loss: 0.01")
        if self.fault != "slow_link" and any(getattr(self, name) is not None for name in changes):
            raise ValueError(f"rtt, bandwidth and loss belong to slow_link, not to {self.fault}")
        return self

    @property
    def host(self) -> str:
        """Who it strikes, for the event log."""
        if self.node is not None:
            return self.node
        pairs = self.between or (self.from_host, self.to_host)
        return " | ".join(", ".join(group) for group in self.groups) if self.groups else " - ".join(map(str, pairs))

    def say(self) -> str:
        """One line of the event log."""
        return f"{self.fault} for {say_ns(self.for_ns)}"

    def spans(self) -> list[tuple[int, int]]:
        """(from, to) in ns of each time that it strikes."""
        if self.up is None or self.down is None:
            return [(self.at, self.at + self.for_ns)]
        period, end = self.up + self.down, self.at + self.for_ns
        return [(at, min(at + self.down, end)) for at in range(self.at, end, period)]

    def strikes(self, sender: str, receiver: str) -> bool:
        """Whether it loses packets from host to host."""
        if self.fault == "cut":
            return (sender, receiver) == (self.from_host, self.to_host)
        if self.fault == "partition":
            groups = [set(group) for group in self.groups or []]
            return not any(sender in g and receiver in g for g in groups) and all(
                any(one in g for g in groups) for one in (sender, receiver)
            )
        return self.fault == "flapping" and self.between is not None and {sender, receiver} == set(self.between)


def link_between(file: Any, a: str, b: str) -> Link:
    """The link between two hosts; on one host loopback's is a matter of the caller. `file`: a ScenarioFile."""
    return next((link for link in file.links if set(link.between) == {a, b}), Link(between=(a, b)))


def network_fits(file: Any) -> Iterator[tuple[Place, str]]:
    """(path, sentence) of each host or node that is not there, and of faults beyond the end. `file`: a ScenarioFile."""
    seen: set[frozenset[str]] = set()
    for i, link in enumerate(file.links):
        for name in link.between:
            if name not in file.hosts:
                yield ("links", i, "between"), f"links.{i}.between: no host is named {name!r}; there is {', '.join(file.hosts)}"
        if link.between[0] == link.between[1]:
            yield ("links", i, "between"), f"links.{i}.between joins {link.between[0]} with itself; remove it"
        if frozenset(link.between) in seen:
            yield ("links", i, "between"), f"links.{i}: {' and '.join(link.between)} are joined already; keep one link"
        seen.add(frozenset(link.between))
    for i, fault in file.network_faults:
        hosts = [*(fault.between or ()), *(one for group in fault.groups or [] for one in group), fault.from_host, fault.to_host]
        for name in hosts:
            if name is not None and name not in file.hosts:
                said = f"timeline.{i}: no host is named {name!r}; there is {', '.join(file.hosts)}"
                yield ("timeline", i, "fault"), said
        if fault.node is not None and fault.node not in file.nodes:
            said = f"timeline.{i}.node: no node is named {fault.node!r}; there is {', '.join(file.nodes)}"
            yield ("timeline", i, "node"), said
        elif fault.node is not None and file.nodes[fault.node].replica_of is None:
            said = f"timeline.{i}.node: {fault.node} has no master to be disconnected from; name a node with replica_of"
            yield ("timeline", i, "node"), said
        if fault.at >= file.duration:
            said = f"timeline.{i}: at {say_ns(fault.at)} is not before the end, {say_ns(file.duration)}"
            yield ("timeline", i, "at"), said


def replicas_fit(file: Any) -> Iterator[tuple[Place, str]]:
    """(path, sentence) of what is wrong with replica_of: unknown masters, circles, servers that have nothing to do with each
    other, data on a replica. `file`: a ScenarioFile."""
    nodes = file.nodes
    for name, node in nodes.items():
        path = ("nodes", name, "replica_of")
        if node.replica_of is None:
            if not node.synced:
                yield ("nodes", name, "synced"), f"nodes.{name}.synced is of a replica; add replica_of, or remove synced"
        elif node.replica_of not in nodes:
            yield path, f"nodes.{name}.replica_of: no node is named {node.replica_of!r}; there is {', '.join(nodes)}"
        elif root_of(file, name) is None:
            yield path, f"nodes.{name}.replica_of goes in a circle; one node must be the master of all"
    masters = [name for name, node in nodes.items() if node.replica_of is None]
    for name in masters[1:]:
        yield (
            ("nodes", name),
            f"redsim 0.1 simulates one master with its replicas; add replica_of to nodes.{name}, or remove it",
        )
    for name, data in file.datasets.items():
        if data.node in nodes and nodes[data.node].replica_of is not None:
            cure = f"write node: {root_of(file, data.node)}"
            said = f"datasets.{name}.node: {data.node} is a replica and has its master's data; {cure}"
            yield ("datasets", name, "node"), said


def root_of(file: Any, name: str) -> str | None:
    """The master of all above a node, itself for a master; None: its replica_of goes in a circle. `file`: a ScenarioFile."""
    seen = []
    while (above := file.nodes[name].replica_of) is not None and above in file.nodes:
        seen.append(name)
        if above in seen:
            return None
        name = above
    return name
