"""The Sentinels of a scenario: how many, on which hosts, with which sentinel.conf.

    sentinels:
      count: 3                  # or as many as there are hosts
      hosts: [a, b, s]          # one each; a single host has them all
      conf: |                   # or conf_file: sentinel.conf
        sentinel monitor mymaster main 2
        sentinel down-after-milliseconds mymaster 3000

ADDRESS of `sentinel monitor` and `known-replica` is a node. Sentinels are called sentinel-1, sentinel-2, …; those of one host
listen on ports one apart.
Not modelled: Sentinels with different configurations.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import Field, PositiveInt, model_validator

from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.sentinel_conf import SentinelConf
from redsim.scenario.shape import Model

__all__ = ["Place", "Sentinels", "check_sentinels", "with_ports"]

_COUNT_MAX = 99


class Sentinels(Model):
    """The part `sentinels` of a scenario file."""

    count: PositiveInt | None = Field(default=None, le=_COUNT_MAX)  # None: one on each host
    hosts: list[str] = Field(min_length=1)
    conf: str = ""  # verbatim sentinel.conf text
    conf_file: str | None = None  # or a path, relative to the scenario

    @model_validator(mode="after")
    def _places(self) -> "Sentinels":
        if self.count is not None and len(self.hosts) not in (1, self.count):
            raise ValueError(f"count is {self.count} but hosts names {len(self.hosts)}; name one host for each, or a single one")
        if bool(self.conf) == (self.conf_file is not None):
            raise ValueError("give exactly one of conf, conf_file")
        return self

    def places(self, port: int) -> list["Place"]:
        """Where each of them runs and listens, the first of a host on `port`."""
        count = self.count or len(self.hosts)
        hosts = self.hosts * count if len(self.hosts) == 1 else self.hosts
        return [Place(f"sentinel-{i + 1}", host, port + hosts[:i].count(host)) for i, host in enumerate(hosts)]


@dataclass(frozen=True)
class Place:
    """A Sentinel's name, its host and the port on which it listens there."""

    name: str
    host: str
    port: int


def check_sentinels(
    sentinels: Sentinels, conf: SentinelConf, hosts: Sequence[str], nodes: Sequence[str],
) -> Iterator[tuple[str, str]]:  # fmt: skip
    """(key, sentence) for each thing that does not fit the rest of the scenario; the key is below `sentinels`."""
    for host in sentinels.hosts:
        if host not in hosts:
            yield "hosts", f"there is no host {host!r}{did_you_mean(host, hosts) or '; add it to hosts'}"
    count = len(sentinels.places(conf.port))
    for rules in conf.masters:
        for name in (rules.host, *(host for host, _ in rules.replicas)):
            if name not in nodes:
                near = did_you_mean(name, nodes) or f"; nodes are {', '.join(nodes)}"
                yield "conf", f"{rules.name}: {name!r} is not a node of the scenario{near}"
        if rules.quorum > count:
            cure = f"; give {count // 2 + 1}, or add Sentinels"
            yield "conf", f"{rules.name}: quorum {rules.quorum} with {count} Sentinels: no failover can ever begin{cure}"


def with_ports(conf: SentinelConf, ports: Mapping[str, int]) -> SentinelConf:
    """`conf` with the ports of nodes where a line left them out; ScenarioError for a port on which the node does not listen."""

    def port_of(host: str, port: int) -> int:
        if port and port != ports[host]:
            raise ScenarioError(f"sentinel.conf: node {host!r} listens on port {ports[host]}, not {port}; leave the port out")
        return ports[host]

    return replace(conf, masters=tuple(
        replace(rules, port=port_of(rules.host, rules.port),
                replicas=tuple((host, port_of(host, port)) for host, port in rules.replicas))
        for rules in conf.masters
    ))  # fmt: skip
