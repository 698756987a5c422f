"""A small world for Sentinels: servers that only have a role, links with a delay, faults. It carries what redsim.redis.sentinel
sends (the Protocol of sentinel_wire.py), and knows nothing of redsim's servers.

    world = World(1, conf_text, sentinels=3)    master main, replicas r1, r2, Sentinels sentinel-1..3, each on a host of its own
    world.at(20 * S, world.kill, "main"); world.run(60 * S); world.log

A server handles a command when it comes; a paused one when it goes on; a connection to a dead one is refused or reset. A message
takes 50 to 500 µs. Hosts that are parted: `reset` closes their connections and refuses new ones, otherwise packets wait.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import simpy

from redsim.redis.sentinel import Sentinel
from redsim.redis.sentinel_wire import Address, Command, Connection, Hello, Info, InfoReply, Ping, Publish, ScriptKill, SlaveOf
from redsim.rng import generator
from redsim.scenario.sentinel_conf import parse_sentinel_conf
from redsim.scenario.sentinels import with_ports
from redsim.units import MS, US, S

PORT, SENTINEL_PORT = 6379, 26379
DELAY_NS = (50 * US, 500 * US)


class Link:
    """One connection: what its Sentinel sends arrives in order, and so do the replies."""

    def __init__(
        self, world: "World", who: Sentinel, to: str, on_lost: Callable[[Any], None], hear: Callable[[Any], None] | None,
    ) -> None:  # fmt: skip
        self.world, self.who, self.to, self.on_lost, self.hear = world, who, to, on_lost, hear
        self.is_closed = self.is_lost = False
        self.opened = False
        self.there_ns = self.back_ns = 0

    def send(self, command: Command, on_reply: Callable[[Any], None], delay_ns: int) -> None:
        self.world.carry(self, self.who.name, self.to, delay_ns, lambda: self._arrive(command, on_reply))

    def close(self) -> None:
        self.is_closed = True
        self.world.links.pop(self, None)

    def _arrive(self, command: Command, on_reply: Callable[[Any], None]) -> None:
        if not self.is_closed and not self.is_lost:
            self.world.take(self.to, command, lambda reply, delay_ns: self.answer(reply, on_reply, delay_ns))

    def answer(self, message: Any, callback: Callable[[Any], None], delay_ns: int = 0) -> None:
        self.world.carry(self, self.to, self.who.name, delay_ns, lambda: self._deliver(callback, message))

    def _deliver(self, callback: Callable[[Any], None], message: Any) -> None:
        if not self.is_closed and not self.is_lost:
            self.who.deliver(self, callback, message)

    def lose(self) -> None:
        if not self.is_closed and not self.is_lost:
            self.is_lost = True
            self.world.links.pop(self, None)
            self.who.deliver(self, self.on_lost, self)


class Server:
    """What INFO says of it, and whether it answers."""

    def __init__(self, world: "World", name: str, master: str | None, offset: int = 1000, priority: int = 100) -> None:
        self.world, self.name, self.master, self.offset, self.priority = world, name, master, offset, priority
        self.boots = 0
        self.is_alive, self.is_paused = True, False
        self.says = "PONG"
        self.is_synced, self.cut_since_ns = True, 0
        self.sync_ns = 5 * MS
        self.waiting: list[tuple[Command, Callable[[Any, int], None]]] = []
        self.orders: list[str | None] = []

    @property
    def run_id(self) -> str:
        return f"{self.world.run_ids[self.name]}{self.boots:02d}"

    def link_up(self) -> bool:
        if self.master is None:
            return False
        master = self.world.servers[self.master]
        up = self.is_synced and master.is_alive and not self.world.is_parted(self.name, self.master)
        if up:
            self.cut_since_ns = 0
        elif not self.cut_since_ns:
            self.cut_since_ns = int(self.world.env.now)
        return up

    def info(self) -> InfoReply:
        if self.master is None:
            replicas = [one for one in self.world.servers.values() if one.master == self.name and one.link_up()]
            return InfoReply(self.run_id, "master", tuple(Address(one.name, PORT) for one in replicas))
        up = self.link_up()
        down_s = 0 if up else (int(self.world.env.now) - self.cut_since_ns) // S
        return InfoReply(self.run_id, "slave", (), Address(self.master, PORT), up, down_s, self.priority, self.offset)

    def execute(self, command: Command) -> Any:
        if isinstance(command, Ping):
            return self.says
        if isinstance(command, ScriptKill):
            self.says = "PONG"
            return "OK"
        if self.says not in ("PONG", "LOADING"):
            return self.says
        if isinstance(command, Info):
            return self.info()
        if isinstance(command, Publish):
            return self.world.publish(self.name, command.hello)
        assert isinstance(command, SlaveOf), f"a server is not asked {command}"
        if self.says == "LOADING":
            return "EXECABORT"
        self.follow(command.master.host if command.master else None)
        return "OK"

    def follow(self, master: str | None) -> None:
        self.orders.append(master)
        self.master, self.is_synced = master, False
        if master is not None:
            self.world.after(self.sync_ns, self._synced)

    def _synced(self) -> None:
        self.is_synced = True


class World:
    """The Protocol `Wire`, and everything behind it."""

    def __init__(
        self, seed: int, conf: str, sentinels: int = 3, replicas: int = 2, flush_ns: Callable[[], int] = lambda: 3 * MS,
        start_within_ns: int = S, is_long_up: bool = False,
    ) -> None:  # fmt: skip
        self.env = simpy.Environment()
        self.log: list[tuple[int, str, str]] = []
        self.run_ids: dict[str, str] = {}
        self._rng = generator(seed, "world", "delay")
        self._delays: list[int] = []
        draw = generator(seed, "world", "run ids")
        names = ["main", *(f"r{i + 1}" for i in range(replicas))]
        for name in names:
            self.run_ids[name] = f"{int(draw.integers(0, 2**60)):038x}"
        self.servers = {name: Server(self, name, "main" if i else None) for i, name in enumerate(names)}
        parsed = with_ports(parse_sentinel_conf(conf), dict.fromkeys(names, PORT))
        self.sentinels: dict[str, Sentinel] = {}
        self.links: dict[Link, None] = {}  # in the order in which they were opened
        self.parted: set[frozenset[str]] = set()
        self.resets = False
        self._held: list[tuple[str, str, Callable[[], None]]] = []
        starts = generator(seed, "world", "starts")
        for i in range(sentinels):
            name = f"sentinel-{i + 1}"
            one = Sentinel(self.env, name, Address(name, SENTINEL_PORT), parsed, self, seed, self.log, flush_ns)
            self.sentinels[name] = one
            one.start(int(starts.integers(0, start_within_ns)), is_long_up=is_long_up)

    # ---- time

    def after(self, delay_ns: int, step: Callable[[], None]) -> None:
        callbacks = self.env.timeout(delay_ns).callbacks
        assert callbacks is not None
        callbacks.append(lambda _event: step())

    def at(self, ns: int, step: Callable[..., None], *args: Any) -> None:
        self.after(ns - int(self.env.now), lambda: step(*args))

    def run(self, until_ns: int) -> None:
        self.env.run(until=until_ns)

    def lines(self, since_ns: int = 0) -> list[tuple[int, str, str]]:
        return sorted((line for line in self.log if line[0] >= since_ns), key=lambda line: line[0])

    # ---- Wire

    def connect(
        self, who: Sentinel, to: Address, purpose: str, on_lost: Callable[[Any], None], on_message: Callable[[Any], None] | None,
        delay_ns: int,
    ) -> Connection:  # fmt: skip
        link = Link(self, who, to.host, on_lost, on_message if purpose == "pubsub" else None)
        self.links[link] = None
        self.carry(link, who.name, to.host, delay_ns, lambda: self._accept(link))
        return link

    def _accept(self, link: Link) -> None:
        if not self._listens(link.to):
            self.carry(link, link.to, link.who.name, 0, link.lose)
            return
        link.opened = True
        if link.hear is not None and not self.servers[link.to].is_paused:
            link.answer(None, link.hear)

    def _listens(self, name: str) -> bool:
        return self.servers[name].is_alive if name in self.servers else self.sentinels[name].is_alive

    def is_parted(self, a: str, b: str) -> bool:
        return bool(self.parted) and frozenset((a, b)) in self.parted

    def carry(self, link: Link, a: str, b: str, delay_ns: int, arrive: Callable[[], None]) -> None:
        """From a to b over `link`, in order."""
        if self.parted and frozenset((a, b)) in self.parted:
            if self.resets:
                self.after(delay_ns, link.lose)
            else:
                self._held.append((a, b, lambda: self.carry(link, a, b, 0, arrive)))
            return
        if not self._delays:
            self._delays = self._rng.integers(*DELAY_NS, 256).tolist()
        at_ns = int(self.env.now) + delay_ns + self._delays.pop()
        if a == link.who.name:
            at_ns = link.there_ns = max(at_ns, link.there_ns)
        else:
            at_ns = link.back_ns = max(at_ns, link.back_ns)
        self.after(at_ns - int(self.env.now), arrive)

    def take(self, name: str, command: Command, answer: Callable[[Any, int], None]) -> None:
        if name in self.sentinels:
            self.sentinels[name].request(command, answer)
            return
        server = self.servers[name]
        if server.is_paused:
            server.waiting.append((command, answer))
        elif server.is_alive:
            answer(server.execute(command), 0)

    def publish(self, name: str, hello: Hello) -> int:
        """To all who are subscribed there; as PUBLISH is in the replication stream, to those of its replicas too."""
        heard = 0
        followers = {one.name for one in self.servers.values() if one.master == name and one.is_alive and one.link_up()}
        for link in self.links:
            if link.hear is not None and link.opened and (link.to == name or link.to in followers):
                if not self.servers[link.to].is_paused:
                    link.answer(hello, link.hear)
                heard += 1
        return heard

    # ---- faults

    def kill(self, name: str) -> None:
        if name in self.sentinels:
            self.sentinels[name].kill()
        else:
            self.servers[name].is_alive = False
            self.servers[name].waiting.clear()
        lost: dict[str, list[Link]] = {}
        for link in self.links:
            if link.to == name:
                lost.setdefault(link.who.name, []).append(link)
        for links in lost.values():  # a process' sockets are closed within microseconds
            self.carry(links[0], name, links[0].who.name, 0, lambda links=links: [link.lose() for link in links])

    def restart(self, name: str) -> None:
        if name in self.sentinels:
            self.sentinels[name].start()
            return
        server = self.servers[name]
        server.is_alive, server.is_paused, server.boots = True, False, server.boots + 1

    def pause(self, name: str) -> None:
        if name in self.sentinels:
            self.sentinels[name].pause()
        else:
            self.servers[name].is_paused = True

    def resume(self, name: str) -> None:
        if name in self.sentinels:
            self.sentinels[name].resume()
            return
        server = self.servers[name]
        server.is_paused = False
        waiting, server.waiting = server.waiting, []
        for command, answer in waiting:
            answer(server.execute(command), 0)
        for link in list(self.links):
            if link.to == name and link.hear is not None:
                link.answer(None, link.hear)

    def part(self, ours: list[str], others: list[str], *, resets: bool = False) -> None:
        """Nothing comes through between the two groups."""
        self.parted |= {frozenset((a, b)) for a in ours for b in others}
        self.resets = resets
        if resets:
            for link in [one for one in self.links if self.is_parted(one.who.name, one.to)]:
                link.lose()

    def heal(self) -> None:
        self.parted.clear()
        held, self._held = self._held, []
        for _a, _b, again in held:
            again()


CONF = """sentinel monitor mymaster main {quorum}
sentinel down-after-milliseconds mymaster {da}
sentinel failover-timeout mymaster {ft}
"""


def world_of(seed: int, da: int = 1000, ft: int = 60_000, more: str = "", quorum: int = 2, **given: Any) -> World:
    """One master, two replicas and three Sentinels, unless `given` otherwise."""
    return World(seed, CONF.format(da=da, ft=ft, quorum=quorum) + more, **given)


def said(world: World, start: str) -> list[tuple[float, str, str]]:
    """(s, who, text) of all lines that start so."""
    return [(ns / S, who, text) for ns, who, text in world.lines() if text.startswith(start)]


def masters(world: World) -> set[Address | None]:
    """Where the Sentinels that live have the master."""
    return {one.get_master_addr_by_name("mymaster") for one in world.sentinels.values() if one.is_alive}


def leaders_by_epoch(lines: Iterable[tuple[float, str, str]]) -> dict[int, set[str]]:
    """Who said +elected-leader, by the epoch in which it had asked for votes; `lines`: (when, who, text) in their order."""
    epoch: dict[str, int] = {}
    asked: dict[str, int] = {}
    found: dict[int, set[str]] = defaultdict(set)
    for _, who, text in lines:
        if text.startswith("+new-epoch"):
            epoch[who] = int(text.split()[1])
        elif text.startswith("+try-failover"):
            asked[who] = epoch[who]
        elif text.startswith("+elected-leader"):
            found[asked[who]].add(who)
    return found
