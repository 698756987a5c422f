"""Several servers on SimPy's clock: all run together up to the next event of anybody, and each is served where it stands.

    next event of anybody -> data plane: all servers, each as far as the others let it (dataplane/together.py)
        one stands (serverCron, a question)?  the earliest of them is served, at its own time;  none: the event happens

A server that waits for its disk is not run meanwhile, and promises to do nothing before the next event.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
import simpy

from redsim.dataplane import layout as dp
from redsim.dataplane.events import NEVER
from redsim.dataplane.together import WAITS, run_together
from redsim.redis.server import Server

__all__ = ["Lockstep"]

LOOK_NS = 10_000  # between two looks whether a server has loaded, at least


class Lockstep:
    """The driver of `servers`, whose connections are the rows of `wires`."""

    run_together: Callable[..., None] = staticmethod(run_together)

    def __init__(self, env: simpy.Environment, servers: Sequence[Server], wires: dp.I64) -> None:
        self.env, self.servers, self.wires = env, servers, wires
        self._why = np.full(len(servers), dp.REACHED, dtype=np.int64)
        self._over = [False] * len(servers)
        self._deaths = [0] * len(servers)

    def main(self) -> Generator[simpy.Event, Any, None]:
        """As a SimPy process: ends when all clocks have passed the end of the run, or a server is gone."""
        env, servers, why = self.env, self.servers, self._why
        end = int(servers[0].world.st[dp.END])
        promise = np.zeros(len(servers), dtype=np.int64)
        while not any(self._over):
            for server in servers:
                server.before_run()
            self._deaths = [server.deaths for server in servers]
            horizon = int(min(env.peek(), end, self._loaded_ns()))
            promise[:] = horizon
            self.run_together([server.world for server in servers], self._delays(), promise, why, horizon)
            standing = [i for i in range(len(servers)) if why[i] not in (dp.REACHED, WAITS)]
            if standing:
                i = min(standing, key=lambda one: int(servers[one].world.st[dp.NOW]))
                yield from self._serve(i)
                continue
            if horizon >= end and all(int(server.world.st[dp.NOW]) >= end for server in servers):
                return
            yield env.timeout(max(horizon - env.now, 0))
            for server in servers:
                server.after_run(int(server.world.st[dp.NOW]))

    def _loaded_ns(self) -> int:
        """No server that loads has loaded before: a replica comes online then, not at the next event of somebody else."""
        states = [server.world.st for server in self.servers]
        return min((int(st[dp.NOW]) + max(int(st[dp.LOAD_LEFT]), LOOK_NS) for st in states if st[dp.LOADING]), default=int(NEVER))

    def _delays(self) -> dp.I64:
        """[n, n]: at least so long is what one server sends another on its way, ns."""
        delays = np.full((len(self.servers), len(self.servers)), NEVER, dtype=np.int64)
        for master, replica, delay in self.wires[:, [dp.W_FROM, dp.W_TO, dp.W_DELAY]].tolist():
            if master >= 0:
                delays[master, replica] = delays[replica, master] = delay
        return delays

    def _serve(self, i: int) -> Generator[simpy.Event, Any, None]:
        """Server `i` stands: give it what it came back for."""
        server, why = self.servers[i], int(self._why[i])
        self._why[i] = dp.REACHED
        if why == dp.GROW:
            server.world = dp.grow(server.world)
            return
        now = int(server.world.st[dp.NOW])
        self._why[i] = WAITS
        yield self.env.timeout(max(0, now - self.env.now))
        server.after_run(now)
        if server.deaths != self._deaths[i]:
            self._why[i] = dp.REACHED
            return
        turn = server.turn(why, server.deaths)
        try:
            event = next(turn)
        except StopIteration as stop:
            self._over[i], self._why[i] = bool(stop.value), dp.REACHED
        else:
            server.is_waiting = True
            self.env.process(self._finish(i, event, turn))

    def _finish(self, i: int, event: simpy.Event, turn: Generator[simpy.Event, Any, bool]) -> Generator[simpy.Event, Any, None]:
        """The rest of a turn that waits for something."""
        yield event
        self._over[i] = yield from turn
        self.servers[i].is_waiting, self._why[i] = False, dp.REACHED
