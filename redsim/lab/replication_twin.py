"""A real master and its replica: two servers of ours with a proxy between them, and what became of the replica.

    master started → replica follows it through the proxy → data filled → play; the proxy cuts and restores at the timeline's
    faults, both servers' INFO is read every WATCH_S → what was synchronised how, bytes of the stream, phases by the replica's log

Mirrors INFO replication and stats (sync_full, sync_partial_ok, sync_partial_err, master_repl_offset), redis-server's log lines
with their milliseconds. Both servers are on one machine: the master has the first CPU, the replica shares the second with the
clients. Where a full sync is timed they sleep between two requests: clients that spin take half of the replica's CPU, and a full
sync of 107 MB took 1,318 ms instead of 874 by disk, 1,119 instead of 738 through a pipe, its load 564 instead of 293. The proxy
took 60 ms of the 874, nothing of the 738.
Not modelled: links of another delay or bandwidth than loopback's, more than one replica, faults but disconnect; refused by name.
"""

import contextlib
import re
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from redsim.lab.durability_twin import WRITES
from redsim.lab.rig import RealServer, start
from redsim.lab.twin import RealRun, real_run
from redsim.lab.twin_refused import conf_text
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.scenario.network import NetworkFault
from redsim.units import S

__all__ = ["Proxy", "ReplicationSeen", "real_replicated_run"]

WATCH_S = 0.02
PATIENCE_S = 60
CHUNK = 1 << 16
COUNTS = ("sync_full", "sync_partial_ok", "sync_partial_err")
_LINE = re.compile(r"^\d+:[MSC] \d+ \w+ \d+ (\d+):(\d+):(\d+)\.(\d+) \S (.*)$")  # server.c: serverLogRaw
PHASES = {  # log lines of the replica
    "asked": "MASTER <-> REPLICA sync started",
    "receiving": "MASTER <-> REPLICA sync: receiving",
    "flushing": "MASTER <-> REPLICA sync: Flushing old data",
    "loading": "MASTER <-> REPLICA sync: Loading DB in memory",
    "finished": "MASTER <-> REPLICA sync: Finished with success",
}


@dataclass(frozen=True)
class ReplicationSeen:
    """`counts`: of INFO stats, the difference over the run; `stream_bytes`: growth of master_repl_offset; `behind_bytes`: the
    most that the replica lacked while its link was down; `resync_ms`: from the end of each cut to the link being up; `sync_ms`,
    `transfer_ms`, `load_ms`: of the last full sync in the run, nan without one."""

    counts: dict[str, int]
    stream_bytes: int
    behind_bytes: int
    resync_ms: list[float]
    sync_ms: float
    transfer_ms: float
    load_ms: float


class Proxy:
    """A port of loopback that hands on to another one, until it is cut: then its connections are reset and new ones refused."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), reuse_port=False)
        self.port = int(self._listener.getsockname()[1])
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._stop, self._is_cut, self._lock = threading.Event(), False, threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="proxy", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """All connections end now, and none comes about."""
        with self._lock:
            self._is_cut = True
            for pair in self._pairs:
                for one in pair:
                    _reset(one)
            self._pairs.clear()

    def restore(self) -> None:
        """New connections are taken again."""
        self._is_cut = False

    def close(self) -> None:
        """Done."""
        self._stop.set()
        self._thread.join()
        self.cut()
        self._listener.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                pairs = list(self._pairs)
            watched = [self._listener, *(one for pair in pairs for one in pair)]
            try:
                ready, _, _ = select.select(watched, [], [], 0.005)
            except (OSError, ValueError):
                continue  # one of them was cut meanwhile
            for one in ready:
                if one is self._listener:
                    self._accept()
                else:
                    self._hand_on(one, pairs)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        if self._is_cut:
            _reset(near)
            return
        far = socket.create_connection(("127.0.0.1", self._target))
        for one in (near, far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._pairs.append((near, far))

    def _hand_on(self, one: socket.socket, pairs: list[tuple[socket.socket, socket.socket]]) -> None:
        pair = next(pair for pair in pairs if one in pair)
        other = pair[1] if one is pair[0] else pair[0]
        try:
            data = one.recv(CHUNK)
            if data:
                other.sendall(data)
                return
        except OSError:
            data = b""
        with self._lock:
            if pair in self._pairs:
                self._pairs.remove(pair)
        for end in pair:
            end.close()


def _reset(one: socket.socket) -> None:
    """Close with RST."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        one.close()


def refuse_replicas(scenario: Scenario) -> tuple[str, str]:
    """(master, replica) of a scenario that can be played; ScenarioError, naming it, for what this rig cannot do."""
    replicas = [name for name, node in scenario.file.nodes.items() if node.replica_of is not None]
    masters = [name for name, node in scenario.file.nodes.items() if node.replica_of is None]
    if len(replicas) != 1 or len(masters) != 1:
        raise ScenarioError(f"{scenario.where('nodes')}: a real run has one master and one replica; leave the others out")
    if len({node.host for node in scenario.file.nodes.values()}) > 1 or scenario.file.links:
        raise ScenarioError(f"{scenario.where('nodes')}: a real run has both on one host; leave the links out")
    for i, fault in scenario.file.network_faults:
        if fault.fault != "disconnect":
            where = scenario.where("timeline", i)
            raise ScenarioError(f"{where}: a real run cannot have the fault {fault.fault}; use disconnect")
    if any(group.node in replicas for group in scenario.file.clients.values()):
        raise ScenarioError(f"{scenario.where('clients')}: a real run sends to the master only; take the replica's groups out")
    return masters[0], replicas[0]


def real_replicated_run(scenario: Scenario) -> tuple[RealRun, ReplicationSeen]:
    """Play the scenario of a master and one replica against two servers of ours."""
    master_name, replica_name = refuse_replicas(scenario)
    whole = scenario.of_node(master_name)
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(start(conf_text(whole)))
        proxy = Proxy(master.port)
        stack.callback(proxy.close)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="redsim-")))
        conf = conf_text(scenario.of_node(replica_name)) + "loglevel notice\n"
        replica = stack.enter_context(start(conf, cpu=1, folder=folder))
        watch = _Watch(master, replica, proxy, scenario, replica_name, folder / "redis.log")
        is_synced = scenario.file.nodes[replica_name].synced
        if is_synced:
            watch.follow()
        faults = [fault for _, fault in scenario.file.network_faults]
        run = real_run(whole, server=master, spin=is_synced, on_start=lambda base_ns: watch.begin(base_ns, faults))
        return run, watch.stop()


class _Watch:
    """Both servers while the scenario is played."""

    def __init__(self, master: RealServer, replica: RealServer, proxy: Proxy, scenario: Scenario, name: str, log: Path) -> None:
        self._master, self._replica, self._proxy, self._log = master, replica, proxy, log
        self._is_synced = scenario.file.nodes[name].synced
        self._stop = threading.Event()
        self._before: dict[str, int] = {}
        self._behind = 0
        self._resyncs: list[float] = []
        self._restored: float | None = None
        self._timers: list[threading.Timer] = []
        self._thread = threading.Thread(target=self._look, name="replication", daemon=True)
        self._log_at = 0

    def follow(self) -> None:
        """The replica follows the master, and is waited for."""
        self._replica.redis.execute_command("REPLICAOF", "127.0.0.1", self._proxy.port)
        until = time.monotonic() + PATIENCE_S
        while not self._is_up() and time.monotonic() < until:
            time.sleep(WATCH_S)

    def begin(self, base_ns: int, faults: list[NetworkFault]) -> None:
        """The play begins at `base_ns`, CLOCK_MONOTONIC."""
        self._before = self._counts()
        self._log_at = self._log.stat().st_size
        for fault in faults:
            for at_ns, what in ((fault.at, self._proxy.cut), (fault.at + fault.for_ns, self._restore)):
                delay = max((base_ns + at_ns - time.monotonic_ns()) / S, 0)
                self._timers.append(threading.Timer(delay, what))
        for timer in self._timers:
            timer.start()
        if not self._is_synced:
            self._replica.redis.execute_command("REPLICAOF", "127.0.0.1", self._proxy.port)
        self._thread.start()

    def stop(self) -> ReplicationSeen:
        """What was seen; a link that is down is given a while to come up."""
        until = time.monotonic() + 2
        while self._restored is not None and time.monotonic() < until:
            time.sleep(WATCH_S)
        self._stop.set()
        self._thread.join()
        for timer in self._timers:
            timer.cancel()
        after = self._counts()
        counts = {name: after[name] - self._before[name] for name in COUNTS}
        log = self._log.read_bytes()[self._log_at :].decode("utf-8", "replace")
        sync_ms, transfer_ms, load_ms = phases_of(log)
        return ReplicationSeen(
            counts, after["master_repl_offset"] - self._before["master_repl_offset"], self._behind, self._resyncs, sync_ms,
            transfer_ms, load_ms,
        )  # fmt: skip

    def _restore(self) -> None:
        self._proxy.restore()
        self._restored = time.monotonic()

    def _counts(self) -> dict[str, int]:
        told = {**self._master.redis.info("stats"), **self._master.redis.info("replication")}
        return {name: int(told[name]) for name in (*COUNTS, "master_repl_offset")}

    def _is_up(self) -> bool:
        return bool(self._replica.redis.info("replication").get("master_link_status") == "up")

    def _look(self) -> None:
        while not self._stop.wait(WATCH_S):
            with contextlib.suppress(Exception):  # a replica that loads answers nothing
                mine: dict[str, Any] = self._replica.redis.info("replication")
                offset = int(self._master.redis.info("replication")["master_repl_offset"])
                if mine.get("master_link_status") != "up":
                    self._behind = max(self._behind, offset - int(mine.get("slave_repl_offset", offset)))
                elif self._restored is not None:
                    self._resyncs.append(1000 * (time.monotonic() - self._restored))
                    self._restored = None


def phases_of(log: str) -> tuple[float, float, float]:
    """(whole, transfer, load) in ms of the last full sync in a replica's log; nan: there is none."""
    at: dict[str, float] = {}
    for seconds, text in _matches(log):
        for name, words in PHASES.items():
            if text.startswith(words):
                at = {name: seconds} if name == "asked" else {**at, name: seconds}
    nan = float("nan")
    if "finished" not in at or "asked" not in at:
        return nan, nan, nan

    def between(a: str, b: str) -> float:
        return 1000 * ((at[b] - at[a]) % 86400) if a in at and b in at else nan

    return between("asked", "finished"), between("receiving", "flushing"), between("loading", "finished")


def _matches(log: str) -> Iterator[tuple[float, str]]:
    for line in log.splitlines():
        found = _LINE.match(line)
        if found:
            hours, minutes, seconds, ms, text = found.groups()
            yield 3600 * int(hours) + 60 * int(minutes) + int(seconds) + int(ms) / 1000, text


def replication_figures(seen: ReplicationSeen, calls: dict[str, float]) -> dict[str, float]:
    """Figures by quantity; `calls`: of each command. What did not happen has none."""
    writes = sum(calls.get(name, 0) for name in WRITES)
    figures: dict[str, float] = {**seen.counts, "overflows": seen.counts["sync_full"]}
    if writes:
        figures["stream_bytes_per_write"] = seen.stream_bytes / writes
    figures |= {"sync_ms": seen.sync_ms, "transfer_ms": seen.transfer_ms, "sync_load_ms": seen.load_ms}
    return figures
