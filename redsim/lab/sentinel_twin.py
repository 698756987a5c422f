"""A real master, its replicas and their Sentinels on loopback, one fault of the master, and a client that follows it.

    servers started → replicas synchronised → Sentinels started (instant 0) → a client writes
    → kill -9, SIGSTOP … SIGCONT, or SENTINEL FAILOVER, at the fault's time → until the scenario's end
    → the Sentinels' logs, the client's gaps, acknowledged keys that the last master lacks

Mirrors redis-sentinel's log (server.c:serverLogRaw, in ms). The client writes, waits for the answer, thinks, writes; whatever
fails makes it ask one Sentinel after the other and connect anew; each key is written once.
Differs: the Sentinels have to find replicas and each other before the fault, where the model's know them; if they do not, the run
is refused.
Not modelled: more than one master, faults of the network or of a Sentinel, links; refused by name.
"""

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from redsim.lab.rig import RealServer, die_with_parent, find, free_port, start
from redsim.lab.sentinel_lines import FailoverSeen, Line, failover_of
from redsim.lab.twin_refused import conf_text
from redsim.scenario.crashes import NodeFault
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.scenario.schema import TimelineEntry
from redsim.scenario.sentinel_conf import MasterRules
from redsim.units import MS, S

__all__ = ["SentinelsSeen", "real_failover"]

PATIENCE_S = 30
ANSWER_S = 0.1  # guess: what a client without a time-out waits
AGAIN_S = 0.01  # after it was told what it knew
_LINE = re.compile(r"^\d+:X \d+ \w+ \d+ (\d+):(\d+):(\d+)\.(\d+) \S (.*)$")
Client = Any


@dataclass(frozen=True)
class SentinelsSeen:
    """`failover`: by the logs; `outage_ms`: the longest gap between acknowledged writes; `lost`: of `acked`, what the last master
    does not have; `lines`: all of the logs, in seconds since the fault."""

    failover: FailoverSeen
    outage_ms: float
    acked: int
    lost: int
    lines: list[Line] = field(repr=False)

    def figures(self) -> dict[str, float]:
        """By quantity."""
        told = {"failovers": float(self.failover.failovers), "outage_ms": self.outage_ms, "lost_writes": float(self.lost)}
        return {**self.failover.instants_ms, **told, "order_on_leader": 1.0, "order_on_observers": 1.0}


def playable(scenario: Scenario) -> tuple[MasterRules, NodeFault | TimelineEntry]:
    """(the one master's rules, its one fault or the one SENTINEL FAILOVER); ScenarioError, naming it, for what this rig cannot
    do."""
    file, conf = scenario.file, scenario.sentinel_conf
    if conf is None or len(conf.masters) != 1:
        raise ScenarioError(f"{scenario.where('sentinels')}: a real run has Sentinels of one master; give them one")
    rules = conf.masters[0]
    faults = [fault for _, fault in file.node_faults]
    asked = [entry for _, entry in file.sentinel_entries]
    is_struck = not asked and len(faults) == 1 and faults[0].fault in ("kill", "pause") and faults[0].node == rules.host
    if file.network_faults or file.role_entries or not (is_struck or (len(asked) == 1 and not faults)):
        raise ScenarioError(
            f"{scenario.where('timeline')}: a real run has one fault, kill or pause, of {rules.host}, or one SENTINEL FAILOVER"
        )
    if all(node.replica_of is None for node in file.nodes.values()):
        raise ScenarioError(f"{scenario.where('nodes')}: a real run has {rules.host} and replicas of it; add one")
    if any(node.replica_of not in (None, rules.host) for node in file.nodes.values()) or file.links:
        raise ScenarioError(f"{scenario.where('nodes')}: a real run has {rules.host} and its replicas on one host; no links")
    groups = list(file.clients.values())
    if len(groups) != 1 or groups[0].service != rules.name or groups[0].arrivals.closed is None:
        raise ScenarioError(
            f"{scenario.where('clients')}: a real run has one group, of the service {rules.name}, in a closed loop"
        )
    return rules, asked[0] if asked else faults[0]


def real_failover(scenario: Scenario) -> SentinelsSeen:
    """Play it; at most the scenario's duration and PATIENCE_S."""
    rules, fault = playable(scenario)
    with contextlib.ExitStack() as stack:
        servers = _servers(scenario, rules.host, stack)
        master = servers[rules.host]
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="redsim-")))
        count = len(scenario.file.sentinel_places)
        begun_s = time.monotonic()
        sentinels = [_Sentinel(folder, i, rules, master.port) for i in range(count)]
        for one in sentinels:
            stack.callback(one.stop)
        writer = _Writer(scenario, sentinels, rules.name, master.port)
        stack.callback(writer.stop)
        writer.start()
        _wait_until(begun_s + fault.at / S - 0.5)
        _expect_all_known(sentinels, rules.name, len(servers) - 1)
        _wait_until(begun_s + fault.at / S)
        clock = next(server for name, server in servers.items() if name != rules.host)
        if isinstance(fault, TimelineEntry):
            fault_s = _ask_for_failover(fault, rules.name, sentinels, clock)
            _wait_until(begun_s + scenario.file.duration / S)
        else:
            fault_s = _strike(fault, master, clock, begun_s, scenario.file.duration, stack)
        writer.stop()
        lines = [line for one in sentinels for line in one.lines(fault_s)]
        lost = writer.missing_at(sentinels)
    return SentinelsSeen(failover_of(lines, rules.quorum), 1000 * writer.gap_s, len(writer.acked), lost, lines)


def _servers(scenario: Scenario, host: str, stack: contextlib.ExitStack) -> dict[str, RealServer]:
    """All of them, the replicas synchronised."""
    servers = {}
    for name in scenario.file.nodes:
        servers[name] = stack.enter_context(start(conf_text(scenario.of_node(name)), cpu=None))
    followers = [server for name, server in servers.items() if name != host]
    for one in followers:
        one.redis.execute_command("REPLICAOF", "127.0.0.1", servers[host].port)
    until = time.monotonic() + PATIENCE_S
    while any(one.redis.info("replication").get("master_link_status") != "up" for one in followers):
        if time.monotonic() > until:
            raise ScenarioError("the real replicas did not follow their master in time; is the machine busy?")
        time.sleep(0.05)
    return servers


def _ask_for_failover(entry: TimelineEntry, name: str, sentinels: "list[_Sentinel]", clock: RealServer) -> float:
    """SENTINEL FAILOVER; the time of day of the command in seconds, rounded down to a millisecond as the log's lines are: the
    first of them come in the same one."""
    one = next(one for one in sentinels if one.name == entry.node)
    asked_s = int(1000 * _time_of_day(clock)) / 1000
    one.client.execute_command("SENTINEL", "FAILOVER", name)
    return asked_s


def _strike(
    fault: NodeFault, master: RealServer, clock: RealServer, begun_s: float, duration_ns: int, stack: contextlib.ExitStack
) -> float:
    """The fault, then until the scenario's end; the time of day of the fault in seconds, by `clock`, as the logs have it."""
    assert master.pid is not None, "it is ours"
    end_s = begun_s + duration_ns / S
    if fault.fault == "kill":
        os.kill(master.pid, signal.SIGKILL)
        fault_s = _time_of_day(clock)
    else:
        os.kill(master.pid, signal.SIGSTOP)
        fault_s = _time_of_day(clock)
        stack.callback(os.kill, master.pid, signal.SIGCONT)  # it is not reaped before it is stopped, so the pid is its own
        assert fault.for_ns is not None, "a pause has an end"
        _wait_until(min(time.monotonic() + fault.for_ns / S, end_s))
        os.kill(master.pid, signal.SIGCONT)
    _wait_until(end_s)
    return fault_s


def _time_of_day(server: RealServer) -> float:
    """TIME."""
    seconds, us = server.redis.time()
    return int(seconds) + int(us) / 1e6


def _expect_all_known(sentinels: "list[_Sentinel]", name: str, replicas: int) -> None:
    for one in sentinels:
        told = one.client.sentinel_master(name)
        if (told["num-slaves"], told["num-other-sentinels"]) != (replicas, len(sentinels) - 1):
            raise ScenarioError("the real Sentinels had not found all replicas and each other at the fault; let it come later")


def _wait_until(at_s: float) -> None:
    time.sleep(max(at_s - time.monotonic(), 0))


def client_of(port: int, timeout_s: float) -> Client:
    """One that tries once."""
    return redis.Redis(
        port=port, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0), decode_responses=True,
        single_connection_client=False,
    )  # fmt: skip


class _Sentinel:
    """One of ours: its own configuration file and log."""

    def __init__(self, folder: Path, number: int, rules: MasterRules, master_port: int) -> None:
        self.name, self.port = f"sentinel-{number + 1}", free_port()
        place = folder / self.name
        place.mkdir()
        self._log = place / "sentinel.log"
        conf = place / "sentinel.conf"
        conf.write_text(
            f'bind 127.0.0.1\nport {self.port}\ndir "{place}"\nlogfile "{self._log}"\n'
            f"sentinel monitor {rules.name} 127.0.0.1 {master_port} {rules.quorum}\n"
            f"sentinel down-after-milliseconds {rules.name} {rules.down_after_ns // MS}\n"
            f"sentinel failover-timeout {rules.name} {rules.failover_timeout_ns // MS}\n"
            f"sentinel parallel-syncs {rules.name} {rules.parallel_syncs}\n",
            encoding="utf-8",
        )
        self._process = subprocess.Popen(
            [str(find("redis-server")), str(conf), "--sentinel"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, preexec_fn=die_with_parent,
        )  # fmt: skip
        self.client = client_of(self.port, 2.0)

    def lines(self, fault_s: float) -> list[Line]:
        """Its log so far, in seconds since the fault's time of day."""
        day = time.localtime(fault_s)
        zero = 3600 * day.tm_hour + 60 * day.tm_min + day.tm_sec + fault_s % 1
        found = []
        for line in self._log.read_text(encoding="utf-8", errors="replace").splitlines():
            if match := _LINE.match(line):
                hours, minutes, seconds, ms, text = match.groups()
                at = 3600 * int(hours) + 60 * int(minutes) + int(seconds) + int(ms) / 1000 - zero
                found.append(((at + 43_200) % 86_400 - 43_200, self.name, text))
        return found

    def stop(self) -> None:
        """SIGTERM, then SIGKILL."""
        self.client.close()
        for end in (self._process.terminate, self._process.kill):
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=3)
                return


class _Writer:
    """The client. `acked`: numbers of the keys whose SET was answered OK; `gap_s`: the longest time without one."""

    def __init__(self, scenario: Scenario, sentinels: list[_Sentinel], name: str, port: int) -> None:
        (group,) = scenario.file.clients.values()
        assert group.arrivals.closed is not None, "refused otherwise"
        self.acked: list[int] = []
        self.gap_s = 0.0
        self._think_s = group.arrivals.closed.think / S
        self._timeout_s = group.timeout / S if group.timeout else ANSWER_S
        self._name, self._port = name, port
        self._ask = [client_of(one.port, self._timeout_s) for one in sentinels]
        self._client = client_of(port, self._timeout_s)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, name="writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """No more; may be called twice."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _write(self) -> None:
        number, last_s = 0, time.monotonic()
        while not self._stop.is_set():
            number += 1
            try:
                self._client.set(f"k{number}", "x" * 10)
            except redis.RedisError:
                self._look_up()
            else:
                now_s = time.monotonic()
                self.acked.append(number)
                self.gap_s, last_s = max(self.gap_s, now_s - last_s), now_s
            self._stop.wait(self._think_s)
        self.gap_s = max(self.gap_s, time.monotonic() - last_s)

    def _look_up(self) -> None:
        """Who is the master? A new connection to it."""
        port = self._port
        for sentinel in self._ask:
            with contextlib.suppress(redis.RedisError):
                _, port = sentinel.sentinel_get_master_addr_by_name(self._name)
                break
        if port == self._port:
            self._stop.wait(AGAIN_S)
        self._port = port
        self._client.close()
        self._client = client_of(port, self._timeout_s)

    def missing_at(self, sentinels: list[_Sentinel]) -> int:
        """How many acknowledged keys the master that the Sentinels name does not have."""
        _, port = sentinels[0].client.sentinel_get_master_addr_by_name(self._name)
        master = client_of(port, 5.0)
        pipe = master.pipeline(transaction=False)
        for number in self.acked:
            pipe.exists(f"k{number}")
        found = sum(pipe.execute())
        master.close()
        return len(self.acked) - found
