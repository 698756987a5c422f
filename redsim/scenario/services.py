"""What a scenario's Sentinels monitor, and which client groups follow it by that name.

Mirrors nothing in Redis; a client library looks its master up by the name that `sentinel monitor` gives it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.schema import ScenarioFile
from redsim.scenario.sentinel_conf import SentinelConf, parse_sentinel_conf
from redsim.scenario.sentinels import check_sentinels, with_ports
from redsim.scenario.source import Source

__all__ = ["SERVER_PORT", "at_masters", "read_sentinel_conf"]

SERVER_PORT = 6379  # of every node: its name tells it from the others
Where = Callable[..., str]


def read_sentinel_conf(file: ScenarioFile, source: Source, where: Where, base: Path) -> SentinelConf | None:
    """The sentinel.conf of the scenario; None without Sentinels. ScenarioError for what is wrong with it."""
    section, at = file.sentinels, ("sentinels", "conf")
    if section is None:
        return None
    if section.conf_file is not None:
        path = base / section.conf_file
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            place = where("sentinels", "conf_file")
            raise ScenarioError(f"{place}: {section.conf_file} cannot be read: {error.strerror}") from None
        conf = parse_sentinel_conf(text, where=section.conf_file)
    elif at in source.blocks:
        conf = parse_sentinel_conf(section.conf, where=source.label, first_line=source.blocks[at])
    else:
        conf = parse_sentinel_conf(section.conf, where=f"{where(*at)} sentinels.conf")
    for key, sentence in check_sentinels(section, conf, list(file.hosts), list(file.nodes)):
        raise ScenarioError(f"{where('sentinels', key)}: sentinels.{key}: {sentence}")
    for rules in conf.masters:
        above = file.nodes[rules.host].replica_of
        if above is not None:
            raise ScenarioError(f"{where(*at)}: {rules.name}: {rules.host} is a replica; monitor its master, {above}")
    return with_ports(conf, dict.fromkeys(file.nodes, SERVER_PORT))


def at_masters(file: ScenarioFile, conf: SentinelConf | None, where: Where) -> ScenarioFile:
    """The file, its groups that follow a service at the master that this has at the start."""
    masters = {rules.name: rules.host for rules in conf.masters} if conf is not None else {}
    clients = {}
    for name, group in file.clients.items():
        if group.service is not None:
            for sentence in _faults(group.service, masters):
                raise ScenarioError(f"{where('clients', name, 'service')}: clients.{name}.service: {sentence}")
            clients[name] = group.model_copy(update={"node": masters[group.service]})
    return file.model_copy(update={"clients": file.clients | clients}) if clients else file


def _faults(service: str, masters: dict[str, str]) -> Iterator[str]:
    if not masters:
        yield f"nobody says who {service} is; add sentinels with `sentinel monitor {service} <node> 2`, or name a node"
    elif service not in masters:
        near = did_you_mean(service, masters) or f"; they monitor {', '.join(masters)}"
        yield f"no Sentinel monitors {service!r}{near}"
