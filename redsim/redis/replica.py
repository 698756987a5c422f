"""A server as a replica of another: it connects, asks, takes the file, loads it, follows the stream.

Mirrors replication.c of 7.0, the replica's half: connectWithMaster, syncWithMaster (about one round trip for TCP and three for
PING, REPLCONF, PSYNC), readSyncBulkPayload (the file to disk, fsync and rename on the main thread, flush, load), replicationCron
(reconnects, ACKs, master timeout), replicationCacheMasterUsingMyself.

    link lost -> connect at once, then at each second's cron -> handshake -> PSYNC its history, its offset + 1
        +CONTINUE     goes on
        +FULLRESYNC   waits for the BGSAVE -> file -> fsync -> its data are gone -> load -> stream from the fork on

A server that follows nobody has one of these too where roles may change (redis/roles.py): its state is master then.
Differs: keys are there from the beginning of the load, though nobody can read them. An AOF is rewritten after a full sync as
Redis does, and what it had before counts until then.
Not modelled: memory for two data sets with swapdb, a connection attempt that hangs for longer than its own time-outs.
"""

from collections.abc import Generator
from typing import Any

import simpy

from redsim.dataplane import layout as dp
from redsim.dataplane.replica import acknowledge, begin_loading, look_again, restart_stream
from redsim.dataplane.roles import refuse
from redsim.host.network import Network
from redsim.redis.repl_session import Data, ReplRules, Session, Sync
from redsim.redis.replication import Master
from redsim.redis.server import Server
from redsim.units import S

__all__ = ["Replica"]

STEP_TIMEOUT_S = 5  # replication.c: repl-timeout of synchronous I/O, server.repl_syncio_timeout
Step = Generator[simpy.Event, Any, Any]


class Replica:
    """A server that follows `master`, if anybody, over connection `link`.

    state    state    master, down, connect, handshake, wait_bgsave, send_bulk, transfer, loading, online, as a report names it
             replid, offset      the history it has and how much of it (offset: the World's while it is connected)
             syncs    phases and verdicts
             lines    (ns, text) of its log
             downs    how often it lost its master
             causes   numbers of what holds its loop: saving the file, flushing, loading
             conf_master      whom its redis.conf says to follow: a new process does
             own      what it is to replicas of its own
    """

    def __init__(
        self, env: simpy.Environment, server: Server, name: str, link: int, own: Master, master: Master | None, network: Network,
        data: Data, causes: tuple[int, int, int], rules: ReplRules,
    ) -> None:  # fmt: skip
        self.env, self.server, self.name, self.link, self.own = env, server, name, link, own
        self.followed = self.conf_master = master
        self.network, self.data, self.causes, self.rules = network, data, causes, rules
        self.timeout_s = rules.timeout_s
        self.state, self.replid = "connect" if master is not None else "master", 0
        self.syncs: list[Sync] = []
        self.lines: list[tuple[int, str]] = []
        self.downs = 0
        self.resyncs: list[float] = []  # seconds from a loss to being online again
        self.session: Session | None = None
        self.process: simpy.Process | None = None
        self.is_dead = False
        self._alive, self._tick, self._ready = env.event(), env.event(), env.event()
        self._loading_from: int | None = None
        self._lost_ns: int | None = None
        self._open: Sync | None = None
        self._file_costs = int(self.world.repl[dp.M_FILE_NS]), int(self.world.repl[dp.M_FILE_PS])
        self._from_socket = False
        server.on_step.append(self._step)

    @property
    def world(self) -> Any:
        """The World as it is now."""
        return self.server.world

    @property
    def master(self) -> Master:
        """Whom it follows."""
        assert self.followed is not None, f"{self.name} follows nobody"
        return self.followed

    @property
    def offset(self) -> int:
        """Bytes of the history that it has executed."""
        return int(self.world.repl[dp.M_OFFSET])

    def down_s(self) -> int:
        """master_link_down_since_seconds: whole seconds since it lost its master, or began to look for it."""
        return (self.now_ns() - (self._lost_ns or 0)) // S

    def now_ns(self) -> int:
        """The loop's clock, which may be ahead of the others'."""
        return max(int(self.world.st[dp.NOW]), int(self.env.now))

    def adopt(self) -> None:
        """The run begins with the replica online, all data there."""
        self.replid = self.master.replid
        session = self.session = self.master.open(self.link, self.name)
        self.master.sessions.append(session)
        session.state = "online"
        self.state = "online"

    def life(self) -> Step:
        """The whole of it: from death to death of the process, from one master to the next."""
        while True:
            try:
                if self.is_dead:
                    yield self._alive
                elif self.followed is None:
                    yield self.env.event()
                else:
                    yield from self._follow()
            except simpy.Interrupt:
                if self.is_dead and self.followed is not None:
                    self._to("down", "down", "")

    def _follow(self) -> Step:
        while True:
            session = self.session
            if session is not None:
                why = yield session.broken
                yield from self._lose(session, str(why))
            self.session = yield from self._connect()

    def died(self, *, with_host: bool) -> None:
        """The process is gone; its master hears of it, unless the host is gone too."""
        session, self.session = self.session, None
        if self.followed is not None:
            self.downs += 1
            self._lost_ns = self.now_ns()
        self._loading_from, self.is_dead = None, True
        self._alive = self.env.event()
        self.interrupt()
        if session is not None and not with_host:
            self.master.close(session, "the replica died")

    def started(self, replid: int) -> None:
        """A new process has loaded its data, which are of the history `replid` (0: of none that it knows)."""
        for session in [one for one in self.master.sessions if one.link == self.link]:
            self.master.close(session, "the replica is back with a new connection")
        self.replid = replid

    def revive(self) -> None:
        """It serves, and begins to look for its master."""
        self.is_dead = False
        self._alive.succeed()

    def interrupt(self) -> None:
        """Whatever it does or waits for is of no use any more."""
        if self.process is not None:
            self.process.interrupt()

    def leave(self, why: str) -> None:
        """It gives up the connection with its master, or the attempt to have one (freeClient, cancelReplicationHandshake)."""
        session, self.session = self.session, None
        if session is not None:
            fin_ns = self.now_ns() + self.network.travel_ns(self.link, self.now_ns())
            self.master.unheard.add(session, int(self.world.wire[self.link, dp.W_ACK_AT]), fin_ns)
            self.master.close(session, why)
        self._loading_from, self._lost_ns = None, None
        self.world.repl[dp.M_BUFFERING] = 0
        refuse(self.world, dp.LOADS | dp.STALE, is_so=False)
        self.interrupt()

    def follow(self, master: Master | None) -> None:
        """From here on it follows `master`; None: nobody. Its World has the role already."""
        self.followed = master
        if master is None:
            self.world.wire[self.link, dp.W_FROM] = dp.NONE
            self._to("master", "", "")
        else:
            self.network.join(self.link, int(master.world.repl[dp.M_SELF]))
            self._lost_ns = self.now_ns()
            self._to("connect", "disconnected", f"told to follow {master.name}")

    def cron(self) -> None:
        """replicationCron, once a second: reconnect, ACK, has the master been silent for too long?"""
        self._tick.succeed()
        self._tick = self.env.event()
        session = self.session
        if session is None or session.is_over:
            return
        silent_ns = self.now_ns() - int(self.world.wire[self.link, dp.W_LAST_IO])
        if self.state == "online":
            acknowledge(self.world, self.link)
        if self.state in ("online", "transfer") and silent_ns > self.timeout_s * S:
            self._log("MASTER timeout: no data nor PING received...")
            self.master.close(session, "the master was silent for repl-timeout")

    def answer(self) -> None:
        """The loop says that the file is complete."""
        m = self.world.repl
        if m[dp.M_WANT] & dp.BULK_READ:
            m[dp.M_WANT] &= ~dp.BULK_READ
            if self.session is not None and not self.session.bulk_read.triggered:
                self.session.bulk_read.succeed()

    def _step(self, now_ns: int) -> None:
        """After each return of the data plane: is the loading over?"""
        st = self.world.st
        if self._loading_from is not None and not st[dp.LOADING] and int(st[dp.READY_AT]) > self._loading_from:
            self._loading_from = None
            self._ready.succeed()

    def _lose(self, session: Session, why: str) -> Step:
        """The connection is over; it hears of that a one-way delay later at most."""
        self.downs += 1
        self._lost_ns = self.now_ns()
        self._log(f"Connection with master lost ({why}).")
        self._to("connect", "disconnected", why)
        yield self.env.timeout(0)

    def _connect(self) -> Step:
        """Until there is a session that lives: attempts at once, then once a second."""
        if self._open is None:
            self._to("connect", "disconnected", "not connected yet")
        while True:
            session = yield from self._attempt()
            if session is not None:
                return session
            self._to("connect", "disconnected", "")
            yield self._tick

    def _attempt(self) -> Step:
        """One attempt; None: it came to nothing."""
        begun_ns = int(self.env.now)
        if self._is_refused():
            return None
        limit_ns = (self.timeout_s + 1) * S
        if self.network.travel_ns(self.link, begun_ns, is_first=True) > limit_ns:
            yield self.env.timeout(limit_ns)
            self._log("Timeout connecting to the MASTER...")
            return None
        yield from self._round_trip(is_first=True)
        if self._is_refused():
            return None
        self._to("handshake", "handshake", "")
        for _ in range(2):  # PING; REPLCONF
            took_ns = yield from self._round_trip()
            if self._is_refused() or took_ns > STEP_TIMEOUT_S * S:
                return None
        yield from self._travel(self.master.server)
        if self._is_refused() or not self.master.is_ready():
            return None  # NOMASTERLINK, of a master that has lost its own
        session = self.master.open(self.link, self.name)
        asked = self.replid, self.offset
        refusal = self.master.psync(session, *asked)
        self.session = session
        if not refusal:
            self._share_stream()
            self._mark("partial", f"{session.missed} bytes missed, from offset {asked[1] + 1}")
            return (yield from self._go_on(session))
        self._mark("full", refusal)
        return (yield from self._full_sync(session))

    def _is_refused(self) -> bool:
        return int(self.env.now) < self.network.refused_until[self.link] or self.master.is_down

    def _round_trip(self, *, is_first: bool = False) -> Step:
        begun_ns = int(self.env.now)
        yield from self._travel(self.master.server, is_first=is_first)
        yield from self._travel(self.server)
        return int(self.env.now) - begun_ns

    def _travel(self, to: Server, *, is_first: bool = False) -> Step:
        """Something is on its way over the connection, and waits for the other end's loop."""
        yield self.env.timeout(self.network.travel_ns(self.link, int(self.env.now), is_first=is_first))
        while int(to.world.st[dp.NOW]) > self.env.now:
            yield self.env.timeout(int(to.world.st[dp.NOW]) - int(self.env.now))

    def _go_on(self, session: Session) -> Step:
        """+CONTINUE: the stream goes on where it ended."""
        yield from self._travel(self.server)
        if session.is_over:
            return session
        self._log("Successful partial resynchronization with master.")
        if self.replid != self.master.replid:
            self._log(f"Master replication ID changed to {self.master.replid}")
            self.own.go_on_as(self.master.replid, self.replid)
        self._come_online()
        look_again(self.world, self.link, 0)
        return session

    def _come_online(self) -> None:
        self.replid = self.own.replid = self.master.replid
        if self._lost_ns is not None:
            self.resyncs.append((self.now_ns() - self._lost_ns) / S)
            self._lost_ns = None
        self._to("online", "", "")

    def _share_stream(self) -> None:
        """The stream that it reads is its master's."""
        if self.world.stream is not self.master.world.stream:
            self.server.world = dp.placed(self.world._replace(stream=self.master.world.stream))

    # ---- a full sync

    def _full_sync(self, session: Session) -> Step:
        """+FULLRESYNC, and all that follows; the session, alive or not."""
        self._to("wait_bgsave", "wait_bgsave", "")
        yield session.forked | session.broken
        if session.is_over:
            return session
        self._log(f"Full resync from master: {self.master.name}:{self.master.replid}:{session.offset}")
        self._to("wait_bgsave" if session.state == "wait_bgsave" else "transfer", "bgsave", "")
        if session.state == "wait_bgsave":  # from its master's disk: nothing comes before the child is done
            yield session.sending | session.broken
        if session.is_over:
            return session
        self._to("transfer", "transfer", f"{session.file_bytes} bytes")
        self._prepare(session)
        yield session.bulk_read | session.broken
        if session.is_over:
            return session
        yield from self._load(session)
        return session

    def _prepare(self, session: Session) -> None:
        """What it does with the file as it comes: to its disk, or, by repl-diskless-load, into memory; and with the stream beside
        it."""
        m = self.world.repl
        m[dp.M_FILE_NS], m[dp.M_FILE_PS] = self._file_costs
        is_empty = not self.world.dataset[:, dp.D_LIVE].any()
        self._from_socket = self.rules.diskless_load == "swapdb" or (self.rules.diskless_load == "on-empty-db" and is_empty)
        if self._from_socket:
            ns, _ = self.data.load_ns(session.file_bytes, session.snapshot.keys)
            m[dp.M_FILE_NS], m[dp.M_FILE_PS] = 0, 1000 * ns // max(session.file_bytes, 1)
            refuse(self.world, dp.LOADS, is_so=is_empty)
        if self.master.rules.is_dual:
            self._share_stream()
            m = self.world.repl
            m[dp.M_OFFSET], m[dp.M_APPLY], m[dp.M_BUFFERING] = session.offset, session.row, 1

    def _load(self, session: Session) -> Step:
        """readSyncBulkPayload, from the last byte of the file on."""
        saving, flushing, loading = self.causes
        refuse(self.world, dp.LOADS, is_so=False)
        if not self._from_socket:
            self._to("loading", "save", "")
            yield from self._hold(saving, self.data.fsync_ns())
        self._to("loading", "flush", "")
        self._log("MASTER <-> REPLICA sync: Flushing old data")
        if not self._from_socket:  # swapdb frees them in the background
            yield from self._hold(flushing, self.data.flush_ns(self.world))
        self._to("loading", "load", "")
        self._log("MASTER <-> REPLICA sync: Loading DB in memory")
        self.own.close_all("its master gets other data itself")
        self.own.replid2, self.own.second_offset = 0, -1
        self._share_stream()
        self.data.take(self.world, session.snapshot)
        restart_stream(self.world, session.offset, session.row, self.master.rules.backlog_bytes)
        self.replid = self.master.replid
        ns, every_ns = self.data.load_ns(session.file_bytes, session.snapshot.keys) if not self._from_socket else (1, 1)
        self._loading_from, self._ready = self.now_ns(), self.env.event()
        begin_loading(self.world, loading, max(ns, 1), max(every_ns, 1))
        yield self._ready
        self.world.repl[dp.M_BUFFERING] = 0
        self._log("MASTER <-> REPLICA sync: Finished with success")
        child = self.server.child
        if self.server.aof is not None and child is not None and child.rewriter is not None:
            child.rewriter.is_scheduled = True
        self._come_online()
        if session.is_over:
            return
        if self.master.rules.is_diskless and not self.master.rules.is_dual:
            acknowledge(self.world, self.link)
        self.world.wire[self.link, dp.W_LAST_IO] = self.now_ns()
        look_again(self.world, self.link, 0)

    def _hold(self, cause: int, ns: int) -> Step:
        """The main thread is held for so long."""
        self.server.hold(self.world, cause, ns)
        yield self.env.timeout(max(int(self.world.st[dp.NOW]) - int(self.env.now), 0))

    # ---- what is told of it

    def _to(self, state: str, phase: str, note: str) -> None:
        """It is in another state; a phase ends and another begins ("": none)."""
        self.state = state
        if not self.rules.serves_stale:
            refuse(self.world, dp.STALE, is_so=state not in ("online", "master", "loading"))
        now_ns = self.now_ns()
        if self._open is not None:
            if self._open.phase == phase:
                return
            self._open.over_ns = now_ns
            self._open = None
        if phase:
            self._open = Sync(self.name, phase, now_ns, None, note)
            self.syncs.append(self._open)

    def _mark(self, verdict: str, note: str) -> None:
        """A verdict of the master's."""
        self.syncs.append(Sync(self.name, verdict, self.now_ns(), self.now_ns(), note))

    def _log(self, text: str) -> None:
        self.lines.append((self.now_ns(), text))
