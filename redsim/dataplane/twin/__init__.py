"""The plain-Python twin of the compiled loop: slow, obvious, and equal to it, array by array, with ==.

It is written from what Redis does, not from loop.py: objects instead of rows, one heap instead of a FIFO and a heap, a generator
instead of phases, and waiting read from a list of everything the main thread did instead of from copies of counters. The control
plane drives either one by the same functions.

    twin = Twin(world)                 a World that has not run; it is read, not changed
    run(twin, until)                   REACHED, TIMER or ASK; never GROW
    hold(twin, cause, ns), clients_cron(twin, cursor, visits, idle_ns), databases_cron(twin, rehash), slow_expire_cycle(twin, hz),
    fork_now(twin, kind)
    twin.outcome()                     what the World's arrays should hold
Not modelled: the recording of the worst stall (segs, recs), which no number depends on.
"""

import numpy as np
import numpy.typing as npt

from redsim.dataplane import layout as dp
from redsim.dataplane.twin import aof, clients, cow, crash, cron, expires, memory, server, station
from redsim.dataplane.twin.outcome import Arrays, differences, of_world, outcome
from redsim.dataplane.twin.things import Sim, read_world
from redsim.dataplane.undo import Snapshot, Unit

__all__ = ["Twin", "clients_cron", "databases_cron", "die", "differences", "empty", "fall", "fork_now", "hold", "host_is_up",
           "keys_of", "last_unit", "of_world", "revive", "run", "slow_expire_cycle", "snapshot_of", "take_back",
           "take_snapshot"]  # fmt: skip


class _Numbers:
    """The few numbers the control plane reads and sets, under the World's indices."""

    def __init__(self, sim: Sim) -> None:
        self._sim = sim

    def __getitem__(self, index: int) -> int:
        sim = self._sim
        if index == dp.USED:
            return memory.used_memory(sim)
        return {dp.NOW: sim.now, dp.END: sim.end, dp.CLIENTS: sim.count.clients, dp.COMMANDS: sim.count.commands,
                dp.IDLE: sim.idle, dp.READY_AT: sim.ready_at, dp.UNDO_N: 0}[index]  # fmt: skip

    def __setitem__(self, index: int, value: int) -> None:
        if index == dp.CRON_DUE:
            self._sim.cron_due = value
        else:
            assert index == dp.PHASE, f"the control plane sets st[{index}], which the twin does not know"


class Twin:
    """Stands where a World does in front of redis/server.py."""

    def __init__(self, world: dp.World) -> None:
        self.sim = read_world(world)
        self.sim.aof = aof.read_aof(world, self.sim.aof)
        self.aof = aof.Numbers(self.sim.aof)
        self.sim.child = cow.read_child(world, self.sim.child)
        self.child, self.cow = self.sim.child.row, world.cow  # cow: only how large it is
        self.st = _Numbers(self.sim)
        self.dataset, self.place, self._kind = world.dataset, world.place, world.kind.copy()
        for slot in self.sim.slots:
            if slot.thread is not None:
                slot.thread.step = station.thread_step
        clients.plan_first_events(self.sim, world, crash.crash)
        if world.aof[dp.A_UNDO]:
            self.sim.log = crash.Log(self.sim)
        self.load_cause = int(world.st[dp.LOAD_CAUSE])
        self.undo = world.undo
        self.sim.loop = server.event_loop(self.sim)

    @property
    def kv(self) -> npt.NDArray[np.int64]:
        """As in a World: sizes and last accesses of the keys."""
        return np.array([self.sim.kv, self.sim.ka], dtype=np.int64).T

    @property
    def ke(self) -> npt.NDArray[np.int64]:
        """Elements of aggregates."""
        return np.array(self.sim.ke, dtype=np.int64)

    @property
    def kx(self) -> npt.NDArray[np.int64]:
        """When keys are due."""
        return np.array(self.sim.kx, dtype=np.int64)

    @property
    def kind(self) -> npt.NDArray[np.int64]:
        """As it was built, with how often each was called by now."""
        self._kind[:, dp.K_CALLS] = [kind.calls for kind in self.sim.kinds]
        return self._kind

    def outcome(self) -> Arrays:
        """Arrays and counters by name; compare with of_world(world) by differences()."""
        return outcome(self.sim)


def run(twin: Twin, until: int) -> int:
    """Whole iterations until `until` (REACHED) or until serverCron is due (TIMER)."""
    assert twin.sim.loop is not None
    twin.sim.until = until
    return next(twin.sim.loop)


def hold(twin: Twin, cause: int, ns: int) -> None:
    cron.hold(twin.sim, cause, ns)


def fork_now(twin: Twin, kind: int) -> None:
    cow.fork_now(twin.sim, kind)


def slow_expire_cycle(twin: Twin, hz: int) -> None:
    expires.slow_cycle(twin.sim, hz)


def databases_cron(twin: Twin, rehash: bool) -> None:
    memory.databases_cron(twin.sim, rehash)


def clients_cron(twin: Twin, cursor: int, visits: int, idle_ns: int) -> int:
    return cron.clients_cron(twin.sim, cursor, visits, idle_ns)


# ---- crashes: the twin's side of run/crash.py


def fall(twin: Twin, next_crash_ns: int) -> None:
    crash.fall(twin.sim, next_crash_ns)


def die(twin: Twin) -> None:
    crash.crash(twin.sim, 0, twin.sim.now)


def host_is_up(twin: Twin) -> None:
    crash.host_is_up(twin.sim)


def revive(twin: Twin, load_ns: int, every_ns: int) -> None:
    crash.revive(twin.sim, load_ns, every_ns, twin.load_cause)


def last_unit(twin: Twin, upto: int) -> Unit:
    return Unit(*crash.last_unit(twin.sim, upto))


def take_back(twin: Twin, upto: int, lost_bytes: int, lost_commands: int) -> None:
    crash.take_back(twin.sim, upto, lost_bytes, lost_commands)


def empty(twin: Twin) -> None:
    crash.empty(twin.sim)


def keys_of(twin: Twin) -> int:
    return sum(data.live for data in twin.sim.datasets)


def snapshot_of(twin: Twin) -> Snapshot:
    return crash.snapshot_of(twin.sim, twin.sim.now)


def take_snapshot(twin: Twin, snapshot: Snapshot) -> None:
    crash.take_snapshot(twin.sim, snapshot.columns)
