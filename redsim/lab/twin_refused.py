"""What a real run cannot be made to do, each refused by name, and the redis.conf that is left of a scenario's.

A machine's round trip, bandwidth and hiccups are its own; one generator has one thread; redis-benchmark sends what it sends.
Not modelled: more than one server.
"""

from redsim.lab.durability_twin import refuse_faults
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.scenario.schema import Group, Hiccups

OURS = frozenset({
    "bind", "port", "daemonize", "dir", "logfile", "pidfile", "unixsocket", "unixsocketperm", "supervised", "requirepass",
    "masterauth", "masteruser", "user", "aclfile", "include", "loadmodule", "tls-port", "syslog-enabled", "syslog-ident",
    "syslog-facility", "proc-title-template",
})  # fmt: skip
REFUSED = frozenset(("replicaof", "slaveof", "cluster-enabled", "io-threads-affinity"))


def conf_text(scenario: Scenario) -> str:
    """The node's redis.conf as the rig's server gets it: what belongs to the machine is left out."""
    conf = scenario.confs[next(iter(scenario.file.nodes))]
    kept = []
    for line in conf.lines:
        if line.directive in REFUSED and line.args not in (("no",), ("no", "one")):
            raise ScenarioError(f"{line.where}:{line.number}: {line.directive} cannot be measured with one server; leave it out")
        if line.directive not in OURS:
            kept.append(line.text.strip())
    return "\n".join(kept) + "\n"


def refuse(scenario: Scenario) -> None:
    """ScenarioError, naming the line, for what no real run on this machine can be."""
    file = scenario.file
    refuse_faults(scenario)
    if len(file.nodes) > 1:
        raise ScenarioError(f"{scenario.where('nodes')}: a real run has one server so far; keep one node")
    for name, host in file.hosts.items():
        if isinstance(host.hiccups, Hiccups):
            where = scenario.where("hosts", name, "hiccups")
            raise ScenarioError(f"{where}: a real machine has hiccups of its own; remove hosts.{name}.hiccups for a real run")
    for name, group in file.clients.items():
        for what in ("rtt", "bandwidth"):
            if getattr(group, what) is not None:
                where = scenario.where("clients", name, what)
                raise ScenarioError(f"{where}: a real run is on loopback; remove clients.{name}.{what} for it")
        if group.station.kind == "redis-benchmark":
            _refuse_benchmark(scenario, name, group)
        elif group.station.threads > 1:
            where = scenario.where("clients", name, "station", "threads")
            raise ScenarioError(
                f"{where}: the load generator has one thread; set clients.{name}.station.threads to 1 for a real run"
            )


def _refuse_benchmark(scenario: Scenario, name: str, group: Group) -> None:
    """What redis-benchmark cannot do."""
    wrong = ""
    if group.arrivals.closed is None or group.arrivals.closed.think:
        wrong = "it sends as soon as it is answered: arrivals {closed: {}}"
    elif len(group.commands) != 1 or next(iter(group.commands)).upper() not in ("GET", "SET", "INCR", "PING"):
        wrong = "it is given one of GET, SET, INCR, PING here"
    elif group.keys is not None and group.keys.popularity.uniform is None:
        wrong = "its keys are uniform"
    elif group.timeout or group.start:
        wrong = "it has neither time-outs nor a late start"
    if wrong:
        where = scenario.where("clients", name, "station")
        raise ScenarioError(f"{where}: clients.{name} cannot be redis-benchmark: {wrong}")
