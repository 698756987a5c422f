"""What a scenario's Sentinels monitor, and which client groups follow it by that name.

Mirrors nothing in Redis; a client library looks its master up by the name that `sentinel monitor` gives it.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.overrides import Override
from redsim.scenario.redis_conf import RedisConf, parse_conf_file
from redsim.scenario.schema import ScenarioFile
from redsim.scenario.sentinel_conf import SECRET, SERVER_PORT, SentinelConf, parse_sentinel_conf
from redsim.scenario.sentinels import check_conf, read_conf, with_ports
from redsim.scenario.source import Source

__all__ = ["SERVER_PORT", "at_masters", "read_any_conf", "read_sentinel_conf"]

Where = Callable[..., str]


def read_sentinel_conf(
    file: ScenarioFile, source: Source, where: Where, base: Path, overrides: Sequence[Override] = (),
) -> SentinelConf | None:  # fmt: skip
    """The sentinel.conf of the scenario, `overrides` in force; None without Sentinels. ScenarioError for what is wrong in it."""
    section, at = file.sentinels, ("sentinels", "conf")
    if section is None:
        return None
    first_line = source.blocks.get(at)
    conf = read_conf(section, list(file.nodes), base, source.label if first_line else where(*at), first_line or 1)
    for one in (one for one in overrides if one.is_of_sentinels):
        label = f"{where(*at)}: {_label(one)}"
        conf = conf.with_override(one.directive, one.text, label)
        for sentence in check_conf(section, conf, list(file.nodes)):
            raise ScenarioError(f"{label}: {sentence}")
    for rules in conf.masters:
        above = file.nodes[rules.host].replica_of
        if above is not None:
            raise ScenarioError(f"{where(*at)}: {rules.name}: {rules.host} is a replica; monitor its master, {above}")
    for i, entry in file.sentinel_entries:
        name = entry.run.split()[2] if len(entry.run.split()) == 3 else ""
        if name and conf.master(name) is None:
            near = did_you_mean(name, [rules.name for rules in conf.masters])
            known = near or f"; it monitors {', '.join(rules.name for rules in conf.masters)}"
            raise ScenarioError(f"{where('timeline', i, 'run')}: no `sentinel monitor` names {name!r}{known}")
    return with_ports(conf, dict.fromkeys(file.nodes, SERVER_PORT))


def _label(override: Override) -> str:
    """The option as written, but for a password."""
    return f"--set sentinels.conf.{override.directive}=***" if override.directive in SECRET else override.label


def read_any_conf(path: Path, version: str) -> RedisConf | SentinelConf:
    """A file of a server or of a Sentinel: one with a line that begins with the word `sentinel` is a sentinel.conf."""
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        lines = []  # said by the other reader
    if any(line.split()[:1] == ["sentinel"] for line in lines):
        return parse_sentinel_conf("\n".join(lines), version=version, where=str(path))
    return parse_conf_file(path, version=version)


def at_masters(file: ScenarioFile, conf: SentinelConf | None, where: Where) -> ScenarioFile:
    """The file, its groups that follow a service at the master that this has at the start."""
    masters = {rules.name: rules.host for rules in conf.masters} if conf is not None else {}
    clients = {}
    for name, group in file.clients.items():
        if group.service is not None:
            for sentence in _faults(group.service, masters):
                raise ScenarioError(f"{where('clients', name, 'service')}: clients.{name}.service: {sentence}")
            clients[name] = group.model_copy(update={"node": _first(file, name, group.role, masters[group.service], where)})
    return file.model_copy(update={"clients": file.clients | clients}) if clients else file


def _first(file: ScenarioFile, name: str, role: str, master: str, where: Where) -> str:
    """Where the clients of a group are at the start: with the master, or with one of its replicas, not all with the same one."""
    if role == "master":
        return master
    replicas = [node for node, what in file.nodes.items() if what.replica_of == master]
    if not replicas:
        place = where("clients", name, "role")
        raise ScenarioError(f"{place}: clients.{name}.role: {master} has no replica; add a node with replica_of: {master}")
    return replicas[list(file.clients).index(name) % len(replicas)]


def _faults(service: str, masters: dict[str, str]) -> Iterator[str]:
    if not masters:
        yield f"nobody says who {service} is; add sentinels with `sentinel monitor {service} <node> 2`, or name a node"
    elif service not in masters:
        near = did_you_mean(service, masters) or f"; they monitor {', '.join(masters)}"
        yield f"no Sentinel monitors {service!r}{near}"
