"""The Sentinels of a scenario: how many, on which hosts, with which sentinel.conf.

    sentinels:
      count: 3                  # or as many as there are hosts
      hosts: [a, b, s]          # one each; a single host has them all
      conf: |                   # or conf_file: sentinel.conf
        sentinel monitor mymaster main 2
        sentinel down-after-milliseconds mymaster 3000
      just_started: true        # all of them with the run; default: up for long, their INFO and PING out of step

On the timeline `{at: 10s, run: "SENTINEL FAILOVER mymaster", node: sentinel-1}`: an operator's, of a master that is well.

ADDRESS of `sentinel monitor` and `known-replica` is a node. Sentinels are called sentinel-1, sentinel-2, …; those of one host
listen on ports one apart.
Not modelled: Sentinels with different configurations, other commands of theirs on the timeline.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt, model_validator

from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.sentinel_conf import SentinelConf, parse_sentinel_conf
from redsim.scenario.shape import Model

__all__ = [
    "COUNT_MAX", "Place", "Sentinels", "asked_fit", "check_conf", "hosts_exist", "is_of_sentinel", "master_to_fail_over",
    "read_conf", "with_ports",
]  # fmt: skip

COUNT_MAX = 99


class Sentinels(Model):
    """The part `sentinels` of a scenario file."""

    count: PositiveInt | None = Field(default=None, le=COUNT_MAX)  # None: one on each host
    hosts: list[str] = Field(min_length=1)
    conf: str = ""  # verbatim sentinel.conf text
    conf_file: str | None = None  # or a path, relative to the scenario
    just_started: bool = False  # with the run, so that all send INFO and PING at nearly the same time; else out of step

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


def is_of_sentinel(entry: Any) -> bool:
    """Whether a timeline's command is a SENTINEL command."""
    return bool(entry.run.split()) and entry.run.split()[0].upper() == "SENTINEL"


def master_to_fail_over(entry: Any) -> str:
    """What SENTINEL FAILOVER names; asked_fit() has found it to be whole."""
    return str(entry.run.split()[2])


def asked_fit(file: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(path, sentence) of each SENTINEL command that is none of a Sentinel, or not FAILOVER. `file`: a ScenarioFile."""
    names = [place.name for place in file.sentinel_places]
    for i, entry in file.sentinel_entries:
        shown, words = f"timeline.{i}.run {entry.run!r}", entry.run.split()
        if len(words) != 3 or words[1].upper() != "FAILOVER":
            yield ("timeline", i, "run"), f"{shown}: of a Sentinel's commands the timeline knows SENTINEL FAILOVER <master name>"
        elif entry.node not in names:
            there = f"; there is {', '.join(names)}" if names else "; there are none, add sentinels:"
            yield ("timeline", i, "node"), f"{shown} is asked of a Sentinel, and {entry.node!r} is none{there}"
        elif entry.times > 1:
            yield ("timeline", i, "times"), f"{shown} runs {entry.times} times; write an entry for each"


def hosts_exist(file: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(path, sentence) for each host that is not there; one of check.py's CHECKS. `file`: a ScenarioFile."""
    for i, host in enumerate(file.sentinels.hosts if file.sentinels is not None else ()):
        if host not in file.hosts:
            near = did_you_mean(host, file.hosts) or f"; there is {', '.join(file.hosts)}"
            yield ("sentinels", "hosts", i), f"sentinels.hosts: no host is named {host!r}{near}"


def read_conf(sentinels: Sentinels, nodes: Sequence[str], base: Path, label: str, first_line: int = 1) -> SentinelConf:
    """Its sentinel.conf, checked against the scenario; `label` and `first_line`: where the text stands if it is in the scenario,
    `base`: the folder in which conf_file is looked for. ScenarioError, one sentence."""
    text, where = sentinels.conf, label
    if sentinels.conf_file is not None:
        path = base / sentinels.conf_file
        where, first_line = str(path), 1
        try:
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ScenarioError(f"{label}: sentinels.conf_file: cannot read {str(path)!r}: {reason}") from error
    conf = parse_sentinel_conf(text, where=where, first_line=first_line)
    for sentence in check_conf(sentinels, conf, nodes):
        raise ScenarioError(f"{where}:{first_line}: {sentence}")
    return conf


def check_conf(sentinels: Sentinels, conf: SentinelConf, nodes: Sequence[str]) -> Iterator[str]:
    """A sentence for each thing in it that does not fit the rest of the scenario."""
    count = len(sentinels.places(conf.port))
    for rules in conf.masters:
        for name in (rules.host, *(host for host, _ in rules.replicas)):
            if name not in nodes:
                near = did_you_mean(name, nodes) or f"; nodes are {', '.join(nodes)}"
                yield f"{rules.name}: {name!r} is not a node of the scenario{near}"
        if rules.quorum > count:
            cure = f"; give {count // 2 + 1}, or add Sentinels"
            yield f"{rules.name}: quorum {rules.quorum} with {count} Sentinels: no failover can ever begin{cure}"


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
