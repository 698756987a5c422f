"""Client groups that follow a service: they are built into every server that may be its master, and have their clients in one.

Mirrors a client library with a pool that asks a Sentinel for the master when a connection fails or an answer says READONLY, or
that listens to +switch-master.

    something failed -> G_WONDERS -> ask (who is the master?)   another one: all clients of the group go there
                                                                the same one: they go on as they are, and wonder at the next error

Differs: a group is one process with one pool: who asks, asks for all. A server that is held for longer than SLICE_NS has its
clients' time-outs seen to each SLICE_NS.
Not modelled: the time that closing and opening a pool takes its process.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

from redsim.dataplane import follow as plane
from redsim.dataplane import layout as dp
from redsim.redis.server import Server
from redsim.run.build import Built
from redsim.run.replicas import Peers
from redsim.units import MS, S

__all__ = ["Place", "Service", "Watch", "gather", "told"]

AGAIN_NS = 10 * MS  # guess: a pool that was told what it knew asks again so much later at the earliest
SLICE_NS = 10 * MS  # guess: how late a client of a server that is held hears of its own time-out
CARRIED = (
    dp.G_NEXT_PS, dp.G_NEXT_NS, dp.G_LEFT, dp.G_START, dp.G_TRACE_I, dp.G_SEQ_KEY, dp.G_DONE_AT,
)  # fmt: skip
ADDED = (
    dp.G_OFFERED, dp.G_COMPLETED, dp.G_FAILED, dp.G_ERR_TIMEOUT, dp.G_ERR_CONN, dp.G_ERR_BUSY, dp.G_RETRIED, dp.G_AREA,
    dp.G_LAT_SUM, dp.G_FETCHES, dp.G_ERR_OOM, dp.G_ERR_MISCONF, dp.G_ERR_LOADING, dp.G_ERR_NOREPLICAS, dp.G_ERR_READONLY,
    dp.G_ERR_MASTERDOWN,
)  # fmt: skip
Ask = Callable[[str], Generator[simpy.Event, Any, "str | None"]]


@dataclass
class Place:
    """A server that groups may have their clients at."""

    built: Built
    server: Server

    def number(self, name: str) -> int:
        """The row of the group."""
        return next(g for g, plan in enumerate(self.built.plans.plans) if plan.name == name)


@dataclass
class Service:
    """One group.

    state    name       of the group
             places     node -> its server and the group's row there
             at         the node that has its clients
             ask        asks where to go, from where it is: the node, None: nobody says
             moves      (ns, from, to)
             asked      how often it asked
    """

    env: simpy.Environment
    name: str
    places: dict[str, tuple[Server, int]]
    at: str
    ask: Ask
    moves: list[tuple[int, str, str]] = field(default_factory=list)
    asked: int = 0
    _is_asking: bool = False
    _is_moving: bool = False
    _goes_to: str = ""

    def begin(self) -> None:
        """Before the run: the clients are at one place."""
        for node, (server, g) in self.places.items():
            row = server.world.group[g]
            row[dp.G_AWAY], row[dp.G_DONE_AT] = int(node != self.at), row[dp.G_START]
            if node != self.at:
                slots = slice(int(row[dp.G_SLOT0]), int(row[dp.G_SLOT0] + row[dp.G_SLOTS]))
                assert (server.world.slot[slots, dp.S_CONN] == dp.NONE).all(), "nobody has connected there"

    def wonders(self) -> None:
        """Something failed: it asks, unless it does already."""
        if not self._is_asking:
            self._is_asking = True
            self.env.process(self._ask())

    def _ask(self) -> Generator[simpy.Event, Any, None]:
        self.asked += 1
        found = yield from self.ask(self.at)
        if found in (None, self.at):
            yield self.env.timeout(AGAIN_NS)
        self._is_asking = False
        server, g = self.places[self.at]
        server.world.group[g, dp.G_WONDERS] = 0
        if found is not None:
            self.move(found)

    def move(self, to: str) -> None:
        """All clients go to the node `to`, once its clock is reached, which may be ahead by what holds it."""
        self._goes_to = to
        if not self._is_moving:
            self._is_moving = True
            self.env.process(self._move())

    def _move(self) -> Generator[simpy.Event, None, None]:
        while self._goes_to != self.at:
            ahead_ns = int(self.places[self._goes_to][0].world.st[dp.NOW]) - int(self.env.now)
            if ahead_ns > 0:
                yield self.env.timeout(ahead_ns)
            else:
                self._go(self._goes_to)
        self._is_moving = False

    def _go(self, to: str) -> None:
        """Now: what arrives there must not have arrived in its past."""
        (source, g), (target, h), now = self.places[self.at], self.places[to], int(self.env.now)
        see_to(source, now)
        out = dp.rows(len(source.world.req) + len(source.world.slot), plane.L_SIZE)
        self._carry(source.world, g, target.world, h)
        n = int(plane.leave(source.world, g, now, out))
        while int(target.world.st[dp.REQ_FREE_N]) < n + int(target.world.cost[dp.NEED]):
            target.world = dp.grow(target.world)
        plane.come(target.world, h, now, out, n)
        self.moves.append((now, self.at, to))
        self.at = to

    @staticmethod
    def _carry(source: dp.World, g: int, target: dp.World, h: int) -> None:
        """The arrivals go on as they would have, with the same luck."""
        target.group[h, list(CARRIED)] = source.group[g, list(CARRIED)]
        mine, its = (slice(row * dp.RNG_PER_GROUP, (row + 1) * dp.RNG_PER_GROUP) for row in (g, h))
        target.rng[its] = source.rng[mine]


def see_to(server: Server, now_ns: int) -> None:
    """The clients of a server that is in the middle of something do what they do up to now."""
    while not plane.catch_up(server.world, now_ns):
        server.world = dp.grow(server.world)


class Watch:
    """One server's clients that follow a service: who of them wonders, even while the server is held."""

    def __init__(self, env: simpy.Environment, server: Server, services: dict[int, Service]) -> None:
        self.env, self.server, self.services = env, server, services
        self._is_watching = False
        server.on_step.append(self._step)

    @classmethod
    def on(cls, env: simpy.Environment, peers: Peers, services: dict[int, Service]) -> "Watch":
        """Of the clients of one server of several."""
        watch = cls(env, peers.server, services)
        peers.on_wonder = watch.answer
        return watch

    def answer(self) -> None:
        """CLIENTS_WONDER: those that do ask."""
        world = self.server.world
        world.repl[dp.M_WANT] &= ~dp.CLIENTS_WONDER
        for g, service in self.services.items():
            if world.group[g, dp.G_WONDERS]:
                service.wonders()

    def _step(self, _now_ns: int) -> None:
        late_ns = int(self.server.world.st[dp.NOW]) - int(self.env.now)
        if late_ns > SLICE_NS and not self._is_watching:
            self._is_watching = True
            self.env.process(self._watch())

    def _watch(self) -> Generator[simpy.Event, None, None]:
        """Until the server is not held any more."""
        while int(self.server.world.st[dp.NOW]) > self.env.now:
            yield self.env.timeout(min(SLICE_NS, int(self.server.world.st[dp.NOW]) - int(self.env.now)))
            see_to(self.server, int(self.env.now))
            if self.server.world.repl[dp.M_WANT] & dp.CLIENTS_WONDER:
                self.answer()
        self._is_watching = False


def lines(service: Service, asks_for: str) -> list[tuple[int, str, str]]:
    """(ns, name, text) of the event log."""
    said = f"the master of {asks_for} is {{}} now, not {{}}: all connections go there"
    return [(at, service.name, said.format(to, before)) for at, before, to in service.moves]


# ---- after the run ---------------------------------------------------------------------------------------------------


def gather(name: str, home: Place, others: list[Place]) -> None:
    """What the group `name` did at other servers is counted at home; nothing is left of it there."""
    for other in others:
        _rows(name, home, other)
        _blame(name, home, other)
        other.built.elsewhere.add(name)


def _rows(name: str, home: Place, other: Place) -> None:
    built, theirs, w, v = home.built, other.built, home.server.world, other.server.world
    g, h = home.number(name), other.number(name)
    added = list(ADDED)
    w.group[g, added] += v.group[h, added]
    v.group[h, added] = 0
    if v.group[h, dp.G_GAP] > w.group[g, dp.G_GAP]:
        w.group[g, [dp.G_GAP, dp.G_GAP_FROM]] = v.group[h, [dp.G_GAP, dp.G_GAP_FROM]]
    w.offered[:, g] += v.offered[:, h]
    v.offered[:, h] = 0
    for i, series in enumerate(theirs.series):
        if series[0] != name:
            continue
        at = built.series.index(series)
        w.hist[at] += v.hist[i]
        w.heat[:, at] += v.heat[:, i]
        w.smax[:, at, 0] = np.maximum(w.smax[:, at, 0], v.smax[:, i, 0])
        w.smax[:, at, 1] += v.smax[:, i, 1]
        v.hist[i], v.heat[:, i], v.smax[:, i] = 0, 0, 0
    counted = [dp.K_CALLS, dp.K_ERRORS, dp.K_HITS, dp.K_MISSES, dp.K_USEC_NS]
    for k, kind in enumerate(theirs.kinds):
        if kind.group == name:
            at = next(n for n, mine in enumerate(built.kinds) if (mine.group, mine.name) == (name, kind.name))
            w.kind[at, counted] += v.kind[k, counted]
            v.kind[k, counted] = 0


def _blame(name: str, home: Place, other: Place) -> None:
    """Causes have other numbers there, and some of them are not at home at all."""
    built, theirs, w, v = home.built, other.built, home.server.world, other.server.world
    g, h = home.number(name), other.number(name)
    for cause in [one for one in theirs.causes if one not in built.causes]:
        built.causes.append(cause)
    more = len(built.causes) - w.blame.shape[2]
    if more > 0:
        w = w._replace(blame=np.concatenate([w.blame, np.zeros((*w.blame.shape[:2], more), dtype=np.int64)], axis=2))
        home.server.world = w
    for column, cause in enumerate(theirs.causes):
        w.blame[g, :, built.causes.index(cause)] += v.blame[h, :, column]
    v.blame[h] = 0


def told(service: Service, home: Place, end_ns: int) -> dict[str, Any]:
    """What summary.json has of a group besides: unavailable_s, the longest time without an answer that was no error, and when it
    began; moves, when all its clients went from one node to another; how often it asked a Sentinel."""
    row = home.server.world.group[home.number(service.name)]
    last = int(service.places[service.at][0].world.group[service.places[service.at][1], dp.G_DONE_AT])
    gap, since = int(row[dp.G_GAP]), int(row[dp.G_GAP_FROM])
    if min(end_ns, int(row[dp.G_STOP])) - last > gap:
        gap, since = min(end_ns, int(row[dp.G_STOP])) - last, last
    moves = [{"at_s": at / S, "from": before, "to": to} for at, before, to in service.moves]
    return {"unavailable_s": gap / S, "unavailable_from_s": since / S, "moves": moves, "asked_for_the_master": service.asked}
