"""The wire between Sentinels and redsim's servers: connections over the scenario's links, answered when a server's loop is free.

Mirrors hiredis over TCP as redis/sentinel_wire.py asks for it; server.c, replication.c, networking.c, pubsub.c of the server's
side: PING (-LOADING, -BUSY, -MASTERDOWN, -MISCONF), INFO, PUBLISH, SCRIPT KILL, and the transaction that changes a role, whose
CLIENT KILLs reset the clients' connections and the other Sentinels'.

    a message arrives -> process dead, host up: reset;  host down: nothing, TCP sends again;  loop busy: it waits;  else answered
    host down -> when it is up again it resets what it does not know

Differs: a command of a Sentinel takes its server no CPU (INFO is only answered later), and does not wait behind the clients of
the same turn of the loop. A hello that comes to a replica by its master's stream is not heard there once more.
Not modelled: jitter, loss, a NIC that is full: a Sentinel's messages have the path to themselves.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import simpy

from redsim.dataplane import layout as dp
from redsim.dataplane.cron import kill_clients
from redsim.dataplane.replication import publish
from redsim.host.paths import Paths
from redsim.redis.roles import replicaof
from redsim.redis.sentinel_wire import (
    Address,
    Command,
    Info,
    InfoReply,
    Ping,
    Publish,
    Purpose,
    Receiver,
    ScriptKill,
    SlaveOf,
)
from redsim.run.replicas import Peers
from redsim.scenario.services import SERVER_PORT
from redsim.units import MS, S

__all__ = ["Line", "SentinelWire"]

LOOK_NS = MS  # how often a server that waits for its disk is looked at
INFO_NS = 20_000  # measured: redis-server 7.0.15 without keys, usec_per_call 20.1; of PING 0.06, of PUBLISH 0.25
SYN_TRIES = 6  # net.ipv4.tcp_syn_retries


@dataclass
class End:
    """A process that takes connections: a server (`peers`) or a Sentinel (`receiver`); `priority`: replica-priority."""

    name: str
    host: str
    peers: Peers | None = None
    receiver: Receiver | None = None
    priority: int = 100
    epoch: int = 0  # of a Sentinel: how often it has died


class Line:
    """One connection: who opened it, whom it is with, and of which process there (`epoch`: how often that one had died).
    `is_closed`: by the Sentinel; `is_lost`: by the other end, and the Sentinel has been told."""

    def __init__(self, wire: "SentinelWire", who: Receiver, end: End, purpose: Purpose, calls: tuple[Any, Any]) -> None:
        self.wire, self.who, self.end, self.purpose = wire, who, end, purpose
        self.on_lost: Callable[[Any], None] = calls[0]
        self.on_message: Callable[[Any], None] | None = calls[1]
        self.is_closed = self.is_lost = self.is_there = False
        self.epoch = -1
        self.waiting: deque[tuple[Command, Callable[[Any], None]]] = deque()
        self.there_ns = self.back_ns = 0  # when what was sent last arrives, each way

    def send(self, command: Command, on_reply: Callable[[Any], None], delay_ns: int) -> None:
        """As the Protocol has it."""
        self.wire.after(delay_ns, self._send, command, on_reply)

    def _send(self, command: Command, on_reply: Callable[[Any], None]) -> None:
        if self.is_over:
            return
        if self.is_there:
            self.wire.carry(self, command, on_reply)
        else:
            self.waiting.append((command, on_reply))

    def close(self) -> None:
        """By the Sentinel."""
        self.is_closed = True
        self.wire.forget(self)

    def lost(self) -> None:
        """By the other end: it hears of it now."""
        if not self.is_over:
            self.is_lost = True
            self.wire.forget(self)
            self.who.deliver(self, self.on_lost, self)

    @property
    def is_over(self) -> bool:
        """By whom ever."""
        return self.is_closed or self.is_lost


class SentinelWire:
    """All connections of all Sentinels.

    state    ends     processes by name
             lines    connections that are there, by the process they are with
             down     hosts without power, or whose OS has crashed
    """

    def __init__(self, env: simpy.Environment, paths: Paths, hosts: dict[str, str], peers: dict[str, Peers]) -> None:
        self.env, self.paths, self.peers = env, paths, peers
        self.ends = {name: End(name, hosts[name], one) for name, one in peers.items()}
        self.lines: dict[str, list[Line]] = {name: [] for name in self.ends}
        for name, one in peers.items():
            one.on_death.append(partial(self._died, name))

    def add(self, receiver: Receiver, host: str) -> None:
        """A Sentinel, on a host."""
        self.ends[receiver.name] = End(receiver.name, host, receiver=receiver)
        self.lines[receiver.name] = []

    def after(self, delay_ns: int, call: Callable[..., None], *args: Any) -> None:
        """So much later."""
        event = self.env.timeout(delay_ns)
        event.callbacks.append(lambda _event: call(*args))

    # ---- connections

    def connect(
        self, who: Receiver, to: Address, purpose: Purpose, on_lost: Callable[[Any], None],
        on_message: Callable[[Any], None] | None, delay_ns: int,
    ) -> Line:  # fmt: skip
        """As the Protocol has it."""
        line = Line(self, who, self.ends[to.host], purpose, (on_lost, on_message))
        self.after(delay_ns, self._syn, line, 0)
        return line

    def _host_of(self, line: Line) -> str:
        return self.ends[line.who.name].host

    def _syn(self, line: Line, tries: int) -> None:
        """A SYN leaves."""
        if line.is_over:
            return
        here, there, now = self._host_of(line), line.end.host, int(self.env.now)
        self.after(self.paths.travel_ns(here, there, now, is_first=True), self._knock, line, tries)

    def _knock(self, line: Line, tries: int) -> None:
        """The SYN is there."""
        if line.is_over:
            return
        here, there, now = self._host_of(line), line.end.host, int(self.env.now)
        if self._host_is_down(line.end):
            if tries < SYN_TRIES:
                self.after(S << tries, self._syn, line, tries + 1)
            else:
                self.after(S << tries, line.lost)
            return
        back_ns = self.paths.travel_ns(there, here, now)
        if self._is_dead(line.end):
            self.after(back_ns, line.lost)
        else:
            line.epoch = self._epoch(line.end)
            self.lines[line.end.name].append(line)
            self.after(back_ns, self._established, line)

    def _established(self, line: Line) -> None:
        if line.is_over:
            return
        line.is_there = True
        if line.purpose == "pubsub":
            self._when_free(line, self._subscribe, line)
        while line.waiting:
            self.carry(line, *line.waiting.popleft())

    def _subscribe(self, line: Line) -> None:
        assert line.on_message is not None, "who subscribes listens"
        self.back(line, line.on_message, None)

    def _reset(self, line: Line) -> None:
        """The other end has no such connection any more; the Sentinel hears of that when the RST is there."""
        self.after(self.paths.travel_ns(line.end.host, self._host_of(line), int(self.env.now)), line.lost)

    def forget(self, line: Line) -> None:
        """It is closed."""
        mine = self.lines[line.end.name]
        if line in mine:
            mine.remove(line)

    # ---- messages

    def carry(self, line: Line, command: Command, on_reply: Callable[[Any], None]) -> None:
        """A command leaves."""
        now = int(self.env.now)
        at = max(now + self.paths.travel_ns(self._host_of(line), line.end.host, now), line.there_ns)
        line.there_ns = at
        self.after(at - now, self._arrives, line, command, on_reply)

    def _arrives(self, line: Line, command: Command, on_reply: Callable[[Any], None]) -> None:
        if line.is_over or self._host_is_down(line.end):
            return
        if self._epoch(line.end) != line.epoch or self._is_dead(line.end):
            self._reset(line)
        elif line.end.receiver is not None:
            line.end.receiver.request(command, lambda reply, delay_ns: self.after(delay_ns, self.back, line, on_reply, reply))
        else:
            self._when_free(line, self._execute, line, command, on_reply)

    def back(self, line: Line, callback: Callable[[Any], None], message: Any, took_ns: int = 0) -> None:
        """A reply, or a message of the channel, leaves for the Sentinel, `took_ns` from now; no later one overtakes it."""
        if line.is_over:
            return
        now = int(self.env.now)
        at = max(now + took_ns + self.paths.travel_ns(line.end.host, self._host_of(line), now), line.back_ns)
        line.back_ns = at
        self.after(at - now, self._delivered, line, callback, message)

    @staticmethod
    def _delivered(line: Line, callback: Callable[[Any], None], message: Any) -> None:
        if not line.is_over:
            line.who.deliver(line, callback, message)

    # ---- the server's end

    def _when_free(self, line: Line, call: Callable[..., None], *args: Any) -> None:
        """The loop comes to it when it has done what it is in the middle of."""
        if line.is_over or line.end.peers is None:
            return
        server = line.end.peers.server
        late_ns = int(server.world.st[dp.NOW]) - int(self.env.now)
        if server.is_waiting:
            self.after(LOOK_NS, self._when_free, line, call, *args)
        elif late_ns > 0:
            self.after(late_ns, self._when_free, line, call, *args)
        elif self._epoch(line.end) == line.epoch and not self._is_dead(line.end):
            call(*args)

    def _execute(self, line: Line, command: Command, on_reply: Callable[[Any], None]) -> None:
        one = line.end.peers
        assert one is not None, "a Sentinel takes its own requests"
        self.back(line, on_reply, self._answer(one, line, command), INFO_NS if isinstance(command, Info) else 0)

    def _answer(self, one: Peers, line: Line, command: Command) -> Any:
        st = one.server.world.st
        refused = "LOADING" if st[dp.LOADING] else "BUSY" if st[dp.BUSY] else ""
        if isinstance(command, Ping):
            return refused or self._ping(one)
        if isinstance(command, Info):
            return "BUSY" if refused == "BUSY" else self._info(one)
        if isinstance(command, Publish):
            return "BUSY" if refused == "BUSY" else self._publish(one, command)
        if isinstance(command, SlaveOf):
            return refused or self._slaveof(one, line, command)
        assert isinstance(command, ScriptKill), f"a server is not asked {command}"
        if refused == "BUSY":
            st[dp.SCRIPT_LEFT] = 0
        return "OK" if refused == "BUSY" else "NOTBUSY"

    @staticmethod
    def _ping(one: Peers) -> str:
        world = one.server.world
        if world.aof[dp.A_FAILING] or world.child[dp.CH_MISCONF]:
            return "MISCONF"
        return "MASTERDOWN" if world.repl[dp.M_REFUSES] & dp.STALE else "PONG"

    def _info(self, one: Peers) -> InfoReply:
        follows, name = one.follows, one.master.name
        replicas = tuple(Address(session.replica, SERVER_PORT) for session in one.master.sessions)
        run_id = f"{name}-{one.server.deaths}"
        if follows is None:
            return InfoReply(run_id, "master", replicas)
        is_up = follows.state == "online"
        return InfoReply(
            run_id, "slave", replicas, Address(follows.master.name, SERVER_PORT), is_up, 0 if is_up else follows.down_s(),
            self.ends[name].priority, follows.offset,
        )  # fmt: skip

    def _publish(self, one: Peers, command: Publish) -> int:
        if one.server.world.repl[dp.M_ON]:
            publish(one.server.world, command.stream_bytes())
        heard = [line for line in self.lines[one.master.name] if line.purpose == "pubsub" and line.is_there]
        for line in heard:
            if line.on_message is not None:
                self.back(line, line.on_message, command.hello)
        return len(heard)

    def _slaveof(self, one: Peers, line: Line, command: SlaveOf) -> str:
        assert one.role is not None, "with Sentinels roles may change"
        master = self.peers[command.master.host].master if command.master is not None else None
        answer = replicaof(one.role, master, is_kept=True)
        kill_clients(one.server.world)
        for other in [other for other in self.lines[line.end.name] if other is not line]:
            self.forget(other)
            self._reset(other)
        return answer

    # ---- deaths

    def _epoch(self, end: End) -> int:
        return end.peers.server.deaths if end.peers is not None else end.epoch

    @staticmethod
    def _is_dead(end: End) -> bool:
        if end.receiver is not None:
            return not end.receiver.is_alive
        assert end.peers is not None, "it is a server, or a Sentinel"
        return bool(end.peers.server.world.st[dp.DEAD])

    @staticmethod
    def _host_is_down(end: End) -> bool:
        return end.peers is not None and int(end.peers.server.world.st[dp.DEAD]) == dp.DEAD_HOST

    def gone(self, name: str) -> None:
        """A Sentinel's process is gone."""
        self.ends[name].epoch += 1
        self._died(name, False)

    def _died(self, name: str, with_host: bool, /) -> None:
        """A server's process is gone: its host resets its connections, unless it is gone itself."""
        if with_host:
            return
        for line in list(self.lines[name]):
            self.forget(line)
            self._reset(line)
