"""The server as SimPy sees it: the driver of the loop, serverCron, clientsCron.

Mirrors server.c of 7.0: serverCron every 1000/hz ms after the end of the previous run (first after 1 ms); hz doubles while there
are more than 200 clients per tick (dynamic-hz); jobs of 100 ms by counting runs, so that they stretch under stalls; clientsCron
visits max(clients/hz, 5) clients.

    SimPy: next event of anybody?  ->  data plane: whole iterations until then  ->  timer due? serverCron  ->  ...

Differs: what databasesCron does with nothing to do is part of the fixed cost.
Not modelled: what the rest of the world does after a server was killed for want of memory: the run ends there.
"""

from collections.abc import Callable, Generator
from typing import Any, Protocol

import simpy

from redsim.dataplane import layout as dp
from redsim.dataplane.cow import fork_now
from redsim.dataplane.cron import clients_cron, hold
from redsim.dataplane.expire import slow_expire_cycle
from redsim.dataplane.loop import run
from redsim.dataplane.rehash import databases_cron
from redsim.redis.aof import Aof
from redsim.redis.childinfo import Child
from redsim.redis.defrag import ActiveDefrag
from redsim.scenario.profile import HostProfile
from redsim.scenario.redis_conf import RedisConf
from redsim.units import MS, S

MAX_CLIENTS_PER_CLOCK_TICK = 200  # server.h
CONFIG_MAX_HZ = 500  # server.h
CLIENTS_CRON_MIN_ITERATIONS = 5  # server.c
QUIET_NS = 1_000 * S  # a horizon for a world in which nobody else plans anything


class Peer(Protocol):
    """What replication gives a server: it is told of serverCron, and answers what its World's M_WANT asks."""

    def cron(self, *, is_a_second: bool) -> None: ...

    def answer(self) -> None: ...


class Server:
    """One node. `world` is replaced when the data plane needs more rows; read it anew after each step.

    state    hz         runs of serverCron per second, now
             cronloops  runs so far
             defrag     the active defragmentation, if the conf has it on
             aof        the append-only file, if the conf has it on
             child      its children, if anything can fork
             deaths     how often the process died; what the loop came back for before is of no use then
             started_ns when the process began
             is_waiting the loop waits for its disk
             on_exit    called when the process ends by itself, None: the run ends there
             on_step    called after each return of the data plane with (now_ns,): progress, Ctrl-C
    """

    run, hold = staticmethod(run), staticmethod(hold)  # the data plane, or its twin
    clients_cron, databases_cron = staticmethod(clients_cron), staticmethod(databases_cron)
    slow_expire_cycle, fork_now = staticmethod(slow_expire_cycle), staticmethod(fork_now)

    def __init__(self, env: simpy.Environment, world: dp.World, conf: RedisConf, profile: HostProfile) -> None:
        self.env = env
        self.world = world
        self.config_hz = max(1, min(int(conf.get("hz")), CONFIG_MAX_HZ))
        self.is_dynamic_hz = bool(conf.get("dynamic-hz"))
        self.hz = self.config_hz
        self.cronloops = 0
        self.has_volatile_keys = bool(world.dataset[:, dp.D_VOLATILE].any())
        self.is_rehashing_actively = bool(conf.get("activerehashing"))
        self.timeout_ns = int(conf.get("timeout")) * S
        self.cron_ns = profile.costs["cron_ns"].value
        self.cron_100ms_ns = profile.costs["cron_100ms_ns"].value
        self.cron_client_ns = profile.costs["cron_client_ns"].value
        self.on_step: list[Callable[[int], None]] = []
        self.defrag: ActiveDefrag | None = None
        self.aof: Aof | None = None
        self.child: Child | None = None
        self.peer: Peer | None = None
        self.deaths = self.started_ns = 0
        self.is_waiting = False
        self.on_exit: Callable[[], None] | None = None
        self._cursor = 0

    def main(self) -> Generator[simpy.Event, Any, None]:
        """ae.c:aeMain, as a SimPy process: ends when the loop's clock has passed the end of the run."""
        st = self.world.st
        end = int(st[dp.END])
        while True:
            self.before_run()
            deaths, horizon = self.deaths, min(self.env.peek(), end)
            why = self.run(self.world, min(int(horizon), QUIET_NS if horizon == float("inf") else int(horizon)))
            if why == dp.GROW:
                self.world = dp.grow(self.world)
                continue
            now = int(st[dp.NOW])
            yield self.env.timeout(max(0, now - self.env.now))
            self.after_run(now)
            if self.deaths != deaths:
                why = dp.REACHED
            is_over = yield from self.turn(why, deaths)
            if is_over or (why == dp.REACHED and now >= end):
                return

    def before_run(self) -> None:
        """Before each call of the data plane."""
        if self.aof is not None:
            self.aof.before_run()

    def after_run(self, now_ns: int) -> None:
        """After each return of the data plane."""
        for step in self.on_step:
            step(now_ns)

    def turn(self, why: int, deaths: int) -> Generator[simpy.Event, Any, bool]:
        """What the loop came back for, when the process had died `deaths` times; is the server gone for good?"""
        if why == dp.ASK and self.peer is not None and self.world.repl[dp.M_WANT]:
            self.peer.answer()
        elif why == dp.ASK and self.child is not None and self.world.child[dp.CH_WANT]:
            self.child.answer()
        elif why == dp.ASK:
            assert self.aof is not None
            yield from self.aof.answer()
            if self.aof.exited is not None and self.deaths == deaths:
                if self.on_exit is None:
                    return True
                self.on_exit()
        elif why == dp.TIMER:
            self.server_cron()
            self.world.st[dp.PHASE] = dp.PH_BEFORE_SLEEP
            return self.child is not None and self.child.exited is not None
        return False

    def begin_again(self) -> None:
        """server.c:initServer of a new process."""
        self.hz, self.cronloops, self._cursor = self.config_hz, 0, 0
        self.started_ns = int(self.env.now)

    def server_cron(self) -> None:
        """server.c:serverCron; holds the loop and sets when it is due again."""
        st = self.world.st
        self.hz = self.config_hz
        if self.is_dynamic_hz:
            while int(st[dp.CLIENTS]) // self.hz > MAX_CLIENTS_PER_CLOCK_TICK and self.hz < CONFIG_MAX_HZ:
                self.hz = min(2 * self.hz, CONFIG_MAX_HZ)
        period_ms = 1000 // self.hz
        ns = self.cron_ns
        if self._is_run_of(100, period_ms):
            ns += self.cron_100ms_ns
        visits = min(int(st[dp.CLIENTS]), max(int(st[dp.CLIENTS]) // self.hz, CLIENTS_CRON_MIN_ITERATIONS))
        ns += visits * self.cron_client_ns
        self.hold(self.world, dp.CRON, ns)
        self._cursor = int(self.clients_cron(self.world, self._cursor, visits, self.timeout_ns))
        if self.has_volatile_keys:
            self.slow_expire_cycle(self.world, self.hz)
        if self.defrag is not None and self.world.child[dp.CH_STATE] != dp.CHILD_ALIVE:
            self._active_defrag(self.defrag, self._is_run_of(1000, period_ms))
        self.databases_cron(self.world, self.is_rehashing_actively)
        if self.child is not None:
            self.child.cron()
        if self.peer is not None:
            self.peer.cron(is_a_second=self._is_run_of(1000, period_ms))
        if self.aof is not None:
            self.aof.note()
        self.cronloops += 1
        st[dp.CRON_DUE] = int(st[dp.NOW]) + period_ms * MS

    def _is_run_of(self, every_ms: int, period_ms: int) -> bool:
        """server.h:run_with_period: whether this run does the jobs of every `every_ms`."""
        return period_ms >= every_ms or self.cronloops % (every_ms // period_ms) == 0

    def _active_defrag(self, defrag: ActiveDefrag, is_a_second: bool) -> None:
        ns = defrag.cycle(int(self.world.st[dp.NOW]), self.hz, is_a_second)
        if ns:
            self.hold(self.world, defrag.cause, ns)
