"""Crashes and restarts of a run: what the timeline does to a server, what that took, when it serves again.

Mirrors kill -9, a crash of the OS, a power loss, SIGSTOP; server.c:main of the process that comes after: port open, data loaded,
clients told -LOADING meanwhile; aof-load-truncated (a tail cut in a unit is dropped, or the process refuses to start).

    shutdown     takes nothing: the AOF is synced; with save points the server saves first (prepareForShutdown)
    kill         takes aof_buf: what the page cache has is kept
    os_crash     and what the page cache has not written back or synced; where that ends is where the file ends
    power_loss   and, of a drive that lies, what it acknowledged in the last second, which it had in its cache only

The crash itself is an event among the clients' (dataplane/crash.py); here is what only the control plane knows.
Differs: a shutdown's clients are gone when it begins, its restart is later by the time that the save takes. A host is up when its
server starts; the other processes on its disk do not die with it; INFO counts on over a restart.
Not modelled: an RDB file from before the run, a torn base file, file systems that leave zeros.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import simpy

from redsim.dataplane import crash as plane
from redsim.dataplane import layout as dp
from redsim.dataplane.events import NEVER
from redsim.records import LatencyEvent, Param
from redsim.redis.rdb import RdbFile, Save
from redsim.redis.server import Server
from redsim.run import restart
from redsim.run.build import Built
from redsim.run.replicas import Peers
from redsim.run.restart import Loaded, Snapshot
from redsim.run.server_memory import MemoryGauge
from redsim.scenario.crashes import CRASHES, HOST_CRASHES, SHUTDOWN, NodeFault, faults_of
from redsim.scenario.load import Scenario
from redsim.units import MIB, S, say_bytes, say_ns

__all__ = ["Crash", "Life", "attach_life"]

DRIVE_CACHE_NS = Param(S, "guess", "", (100_000_000, 30 * S))  # how long a drive that lies keeps bytes in its cache
REWRITE = "BGREWRITEAOF"
EXIT = "exit"
AT_LEAST_NS = 1_000_000  # of loading: an empty file
RDB_STEP_BYTES = 2 * MIB  # config.c: loading-process-events-interval-bytes, in 6.2 too


@dataclass
class Crash:
    """One death of the server. Times in ns, None: not in this run. Lost: writes acknowledged, in commands and bytes, and how
    long ago the oldest of them was executed; `torn_bytes`: of a unit cut in two at the file's end; `upto`: what the file holds,
    in bytes appended."""

    at_ns: int
    fault: str
    policy: str
    lost_commands: int = 0
    lost_bytes: int = 0
    oldest_ns: int = 0
    keys_before: int = 0
    torn_bytes: int = 0
    back_ns: int | None = None
    ready_ns: int | None = None
    loaded: Loaded | None = None
    refused: bool = False
    upto: int = 0
    save_ns: int = 0  # of a shutdown, before the process exits


class Life:
    """The process of a node, from crash to crash.

    state    crashes     so far
             snapshot    what a restart without an AOF loads, None: nothing was saved
             since       (ns, writes counted) when the process without an AOF began, with nothing but what it had loaded
             events      (ns, text) as the server's log would have it
    """

    fall, host_is_up, revive = staticmethod(plane.fall), staticmethod(plane.host_is_up), staticmethod(plane.revive)
    die = staticmethod(plane.die)
    last_unit, take_back = staticmethod(restart.last_unit), staticmethod(restart.take_back)
    empty = staticmethod(restart.empty)
    keys_of = staticmethod(restart.keys_of)
    take_snapshot, forget_before = staticmethod(restart.take_snapshot), staticmethod(restart.forget_before)
    snapshot_of = staticmethod(restart.snapshot_of)

    def __init__(
        self, env: simpy.Environment, server: Server, scenario: Scenario, built: Built, gauge: MemoryGauge | None
    ) -> None:
        self.env, self.server, self.gauge, self.built = env, server, gauge, built
        self.conf = scenario.confs[built.node]
        step = (
            self.conf.get("loading-process-events-interval-bytes") if scenario.file.nodes[built.node].version != "6.2" else None
        )
        self.rdb_pace = int(step or RDB_STEP_BYTES), scenario.profiles[built.host].rdb_load_bytes_per_s()
        self.crashes: list[Crash] = []
        self.snapshot: Snapshot | None = None
        self.since = (0, 0)
        self.events: list[tuple[int, str]] = []
        self.peers: Peers | None = None  # what it is to other servers
        self._saving: Snapshot | None = None
        self._rewriting = 0, 0  # bytes, commands written when the rewrite under way forked
        self.faults = faults_of(scenario.file, built.node)
        self._deadly = [fault.at for fault in self.faults if fault.fault in CRASHES]
        self._worst = "power_loss" if any(fault.fault in HOST_CRASHES for fault in self.faults) else "kill"

    @property
    def is_down(self) -> bool:
        """No process, or one that loads."""
        return bool(self.crashes) and self.crashes[-1].ready_ns is None

    @property
    def has_no_process(self) -> bool:
        """Not even one that loads."""
        return self.is_down and self.crashes[-1].loaded is None

    @property
    def _is_gone(self) -> bool:
        """No process, and starting one would not help."""
        return bool(self.crashes) and (self.crashes[-1].refused or self.crashes[-1].fault == EXIT)

    def exit(self) -> None:
        """aof.c: the file cannot be written under appendfsync always; what was answered is in it."""
        now, server = int(self.env.now), self.server
        self.crashes.append(Crash(now, EXIT, "always", keys_before=self.keys_of(server.world)))
        self.events.append((now, "Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting..."))
        if server.child is not None:
            server.child.die()
        self.die(server.world)
        server.deaths += 1
        self.fall(server.world, self._next_after(now))

    def guesses(self) -> list[tuple[str, int, str]]:
        """(name, value, says) of what was guessed about a crash of this run."""
        aof = self.server.aof
        lied = aof is not None and aof.disk.profile.lies and any(crash.fault == "power_loss" for crash in self.crashes)
        said = "what a drive that lies has acknowledged and not written when the power goes: so much of the time before"
        return [("drive_cache_ns", DRIVE_CACHE_NS.value, said)] if lied else []

    def begin(self) -> None:
        """Before the run."""
        aof = self.server.aof
        if aof is not None:
            aof.may_die = True
            has_preamble = bool(self.conf.get("aof-use-rdb-preamble"))
            base_bytes = (RdbFile.of if has_preamble else RdbFile.commands)(self.built.world).file_bytes
            aof.base = (base_bytes, int(self.built.world.dataset[:, dp.D_LIVE].sum()), 0, 0)
        child = self.server.child
        if child is not None and self._deadly:
            child.on_fork, child.on_saved = self._remember, self._keep
        for fault in self.faults:
            self.env.process(self._strike(fault))
        self.server.on_step.append(self._step)
        self.server.on_exit = self.exit

    def _remember(self, save: Save) -> None:
        """A save or a rewrite begins: of what there is now."""
        world = self.server.world
        if save.kind == REWRITE:
            self._rewriting = int(world.aof[dp.A_WRITTEN]), int(world.aof[dp.A_WRITTEN_CMDS])
        else:
            self._saving = replace(self.snapshot_of(world), file_bytes=RdbFile.of(world).file_bytes)
            if self.peers is not None:
                self._saving = self.peers.noted(self._saving)

    def _keep(self, save: Save) -> None:
        """Its file is whole: a restart would load it."""
        if save.kind != REWRITE:
            self.snapshot, self._saving = self._saving, None
        elif self.server.aof is not None and save.file is not None:
            self.server.aof.base = (save.file.file_bytes, save.keys, *self._rewriting)

    def _strike(self, fault: NodeFault) -> Generator[simpy.Event, None, None]:
        yield self.env.timeout(fault.at)
        if fault.fault == "pause":
            assert fault.for_ns is not None, "the shape asks for it"
            self.events.append((fault.at, fault.say()))
            if not self.is_down:
                cause = self.built.causes.index(str(LatencyEvent.PROCESS_STOPPED))
                self.server.hold(self.server.world, cause, fault.for_ns)
            return
        if fault.fault in CRASHES:
            self._die(fault)
            if fault.restart_after is None:
                return
            yield self.env.timeout(fault.restart_after + self.crashes[-1].save_ns)
        mine = self.crashes[-1]
        late_ns = int(self.server.world.st[dp.NOW]) - int(self.env.now)
        if late_ns > 0:  # the loop was in the middle of something long when the process died
            yield self.env.timeout(late_ns)
        if self.crashes[-1] is not mine:  # the next fault came first
            return
        self._start(with_host=self.crashes[-1].fault in HOST_CRASHES)

    # ---- the end

    def _die(self, fault: NodeFault) -> None:
        """What is left of the writes at this moment; then the process is gone."""
        if self._is_gone:
            self.events.append((fault.at, f"{fault.say()}: there is no process"))
            self.fall(self.server.world, self._next_after(fault.at))
            return
        server, aof, at = self.server, self.server.aof, int(self.env.now)
        with_host = fault.fault in HOST_CRASHES
        a = server.world.aof
        acked = int(a[dp.A_ACKED]), int(a[dp.A_ACKED_CMDS])
        crash = Crash(at, fault.fault, "none", keys_before=self.keys_of(server.world))
        if fault.fault == SHUTDOWN and self.conf.get("save") and not self.has_no_process:
            crash.save_ns = self._save()
        if server.child is not None:
            server.child.die()
        before = self.crashes.pop() if self.has_no_process else None
        if aof is not None:
            if before is None:
                aof.die()
            crash.policy = str(self.conf.get("appendfsync"))
            safe_bytes = max(self._safe_bytes(fault.fault, at), aof.base[2])
            crash.upto = min(safe_bytes, before.upto if before is not None else int(NEVER))
            unit = self.last_unit(server.world, crash.upto)
            crash.torn_bytes = crash.upto - unit.end_bytes
            crash.lost_bytes, crash.lost_commands = max(acked[0] - unit.end_bytes, 0), max(acked[1] - unit.commands, 0)
            if crash.lost_commands and unit.next_ns is not None:
                crash.oldest_ns = at - unit.next_ns
            if with_host:
                aof.lose_host()
        else:
            since_ns, since = max(self.since, (self.snapshot.at_ns, self.snapshot.commands) if self.snapshot else (0, 0))
            crash.lost_commands = max(acked[1] - since, 0)
            crash.oldest_ns = at - since_ns if crash.lost_commands else 0
        self.crashes.append(crash)
        self.events.append((at, fault.say()))
        if self.peers is not None and before is None:
            self.peers.died(with_host=with_host, has_said_all=fault.fault == SHUTDOWN)
        server.deaths += 1
        self.fall(server.world, self._next_after(at))

    def _save(self) -> int:
        """rdbSave of prepareForShutdown: what there is now is what a restart finds. ns that takes."""
        child, world = self.server.child, self.server.world
        assert child is not None, "who has save points can save"
        file = RdbFile.of(world)
        self.snapshot = replace(self.snapshot_of(world), file_bytes=file.file_bytes)
        if self.peers is not None:
            self.snapshot = self.peers.noted(self.snapshot)
        return int(file.cpu_ns(child.rules.costs))

    def _next_after(self, at: int) -> int:
        return min((deadly for deadly in self._deadly if deadly > at), default=int(NEVER))

    def _safe_bytes(self, fault: str, at: int) -> int:
        """How far the AOF survives this fault, in bytes appended."""
        aof = self.server.aof
        assert aof is not None, "asked of a server with an AOF"
        if fault in ("kill", SHUTDOWN):
            return int(aof.numbers[dp.A_APPENDED if fault == SHUTDOWN else dp.A_WRITTEN])
        if fault == "power_loss" and aof.disk.profile.lies:
            return aof.acknowledged_by_drive(at - DRIVE_CACHE_NS.value)
        return aof.arrived_bytes()

    # ---- the beginning

    def _start(self, *, with_host: bool) -> None:
        """A new process: its data, then its clients."""
        crash, server = self.crashes[-1], self.server
        if self._is_gone:
            return
        crash.back_ns = int(self.env.now)
        if with_host:
            self.host_is_up(server.world)
        self.events.append((crash.back_ns, "the server starts"))
        if crash.torn_bytes and not self.conf.get("aof-load-truncated"):
            crash.refused = True
            said = f"Unexpected end of file reading the append only file ({crash.torn_bytes} bytes of a command)"
            self.events.append((crash.back_ns, f"{said}; aof-load-truncated is no: the server exits"))
            return
        crash.loaded = self._load(crash, with_host)
        server.begin_again()
        if server.child is not None:
            server.child.begin_again()
        if self.gauge is not None:
            self.gauge.begin_again()
        if self.peers is not None:
            self.peers.started(self.snapshot if crash.loaded.what == "RDB" else None)
        self.revive(server.world, crash.loaded.load_ns, crash.loaded.every_ns)

    def _load(self, crash: Crash, with_host: bool) -> Loaded:
        aof, world = self.server.aof, self.server.world
        if aof is None:
            self.since = int(self.env.now), int(world.aof[dp.A_CMDS])
            if self.snapshot is None:
                self.empty(world)
                return Loaded("nothing", 0, 0, 0, AT_LEAST_NS, AT_LEAST_NS)
            self.take_snapshot(world, self.snapshot)
            file_bytes, commands = self.snapshot.file_bytes, 0
            ns, looks = restart.rdb_load(file_bytes, self.snapshot.keys, *self.rdb_pace)
        else:
            unit = self.last_unit(world, crash.upto)
            appended, counted = int(aof.numbers[dp.A_APPENDED]), int(aof.numbers[dp.A_CMDS])
            base_bytes, base_keys, base_at, base_commands = aof.base
            replayed_bytes = unit.end_bytes - max(aof.lost[0], base_at)
            commands = unit.commands - max(aof.lost[1], base_commands)
            self.take_back(world, crash.upto, appended - unit.end_bytes, counted - unit.commands)
            aof.reopen(unit.end_bytes, unit.commands, with_host=with_host)
            if self.conf.get("aof-use-rdb-preamble"):
                ns, looks = restart.rdb_load(base_bytes, base_keys, *self.rdb_pace)
            else:  # a base file of commands, one a key
                ns, looks = restart.aof_load(base_bytes, base_keys, base_keys)
            made = max(self.keys_of(world) - base_keys, 0)
            more_ns, more_looks = restart.aof_load(replayed_bytes, commands, min(made, commands))
            ns, looks, file_bytes = ns + more_ns, looks + more_looks, base_bytes + replayed_bytes
            if crash.torn_bytes:
                said = (
                    f"the append only file ended in a command: its {crash.torn_bytes} bytes are dropped (aof-load-truncated yes)"
                )
                self.events.append((int(self.env.now), said))
        ns = max(ns, AT_LEAST_NS)
        keys = self.keys_of(world)
        return Loaded("RDB" if aof is None else "AOF", file_bytes, keys, commands, ns, max(ns // (looks + 1), 1))

    def _step(self, now_ns: int) -> None:
        """After each return of the data plane: is the loading over, is there too much to remember?"""
        server = self.server
        if self.is_down and self.crashes[-1].loaded is not None:
            ready_ns = int(server.world.st[dp.READY_AT])
            if ready_ns > self.crashes[-1].at_ns:
                crash = self.crashes[-1]
                assert crash.loaded is not None
                assert crash.back_ns is not None
                crash.ready_ns = ready_ns
                took = say_ns(ready_ns - crash.back_ns)
                what = f"{crash.loaded.what}, {say_bytes(crash.loaded.file_bytes)}, {crash.loaded.keys} keys"
                if self.peers is not None:
                    self.peers.ready()
                self.events.append((ready_ns, f"DB loaded from {what} in {took}. Ready to accept connections"))
        if server.aof is not None and not self.is_down and 4 * int(server.world.st[dp.UNDO_N]) > len(server.world.undo):
            server.world = self.forget_before(server.world, self._safe_bytes(self._worst, now_ns))


def attach_life(
    env: simpy.Environment, server: Server, scenario: Scenario, built: Built, gauge: MemoryGauge | None = None, kind: Any = Life
) -> Life | None:
    """The faults of the node's timeline happen to the server; None if nothing can end it. After attach_aof()."""
    aof = server.aof
    may_exit = aof is not None and scenario.confs[built.node].get("appendfsync") == "always" and bool(scenario.file.faults)
    if not faults_of(scenario.file, built.node) and not may_exit:
        return None
    life: Life = kind(env, server, scenario, built, gauge)
    life.begin()
    return life
