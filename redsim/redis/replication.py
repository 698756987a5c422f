"""Replication as its two ends see it: who asks for what, what a master answers, what that sets going.

Mirrors replication.c of 7.0: masterTryPartialResynchronization, syncCommand, startBgsaveForReplication,
updateSlavesWaitingBgsave, rdbPipeReadHandler's end, replicaPutOnline, replicationCron; networking.c:
checkClientOutputBufferLimits.

    psync      partial: the history is known and what is missing is in the backlog; the replica is online at once
    full       a BGSAVE for it (disk: at once; diskless: by replicationCron, after repl-diskless-sync-delay), the RDB file, then
               the stream from the fork on, which has been kept for it meanwhile and counts against its output buffer limit
    cron       once a second: PING, timed out replicas, the next BGSAVE, the backlog's ttl, min-replicas
    soft limit at each serverCron, in whole seconds: over it for more than soft-seconds

The bytes and what a loop spends on them are the data plane's (dataplane/replication.py, dataplane/replica.py); a replica's own
side is redis/replica.py.
A promoted replica's history goes on under a new ID; the one before is known as replid2 (shiftReplicationId), so that who followed
the same master goes on with it (PSYNC2).
Differs: commands of a handshake take a round trip and no CPU.
With two channels the stream goes to the replica from the fork on, beside the file.
Not modelled: AUTH, FAILOVER, a replica that times out while it is sent an RDB file.
"""

from collections.abc import Callable
from typing import Any

import simpy

from redsim.dataplane import layout as dp
from redsim.dataplane.output_buffers import omem, take_ring
from redsim.dataplane.replica import look_again
from redsim.dataplane.replication import drop_backlog, ping, trim_backlog
from redsim.dataplane.roles import refuse
from redsim.redis.rdb import Save
from redsim.redis.repl_session import ReplRules, Session, Unheard, psync_refusal
from redsim.redis.server import Server
from redsim.units import S

__all__ = ["IDS_EACH", "Master"]

IDS_EACH = 1_000_000  # replication IDs of a server


class Master:
    """A server as others' master.

    state    replid, replid2, second_offset    its history, the one before and how far that goes
             sessions     connections of replicas, in the order in which they came
             lines        (ns, text) of its log
             full, partial_ok, partial_err     sync_full, sync_partial_ok, sync_partial_err of INFO
             overflows    replicas closed for their output buffer
             omem         bytes that those had: (ns, replica, bytes, which limit)
    """

    def __init__(
        self, env: simpy.Environment, server: Server, rules: ReplRules, name: str, snapshot: Callable[[Any], Any],
    ) -> None:  # fmt: skip
        self.env, self.server, self.rules, self.name, self._snapshot = env, server, rules, name, snapshot
        self.replid, self.replid2, self.second_offset = 1, 0, -1
        self.sessions, self.unheard = list[Session](), Unheard()
        self.lines: list[tuple[int, str]] = []
        self.full = self.partial_ok = self.partial_err = 0
        self.omem: list[tuple[int, str, int, str]] = []
        self._loops = 0
        self._had_child = False
        self._ids = 1 + IDS_EACH * int(self.world.repl[dp.M_SELF])  # no two servers make the same one
        self._lonely_since_s: int | None = 0
        self.is_down = False  # there is no process, or one that loads
        self.is_ready: Callable[[], bool] = lambda: True  # of a replica with replicas: is it online itself?

    @property
    def world(self) -> Any:
        """The World as it is now."""
        return self.server.world

    def now_ns(self) -> int:
        """The loop's clock, which may be ahead of the others'."""
        return max(int(self.world.st[dp.NOW]), int(self.env.now))

    def now_s(self) -> int:
        """server.unixtime, from the start of the run."""
        return self.now_ns() // S

    def first_byte(self) -> int:
        """repl_backlog_first_byte_offset."""
        m = self.world.repl
        first = int(m[dp.M_FIRST])
        return max(first, int(m[dp.M_OFFSET]) - self.rules.backlog_bytes + 1) if self.rules.is_exact else first

    @property
    def has_backlog(self) -> bool:
        """repl_backlog_active."""
        return bool(self.world.repl[dp.M_BACKLOG])

    # ---- what replicas ask

    def open(self, link: int, replica: str) -> Session:
        """A replica has connected."""
        event = self.env.event
        return Session(link, replica, event(), event(), event(), event())

    def psync(self, session: Session, replid: int, offset: int) -> str:
        """masterTryPartialResynchronization of a replica that has `offset` bytes of the history `replid` (0: of none). Why not,
        "": it goes on from there."""
        self._lonely_since_s = None
        self.sessions.append(session)
        refusal = self.refusal(replid, offset)
        if not refusal:
            self.partial_ok += 1
            session.missed = int(self.world.repl[dp.M_OFFSET]) - offset
            self._log(f"Partial resynchronization request from {session.replica} accepted. Sending "
                      f"{session.missed} bytes of backlog starting from offset {offset + 1}.")  # fmt: skip
            self._go_on(session, offset)
            return ""
        self.full += 1
        if replid:
            self.partial_err += 1
            self._log(f"Unable to partial resync with replica {session.replica}: {refusal}")
        self._wait_for_bgsave(session)
        return refusal

    def refusal(self, replid: int, offset: int) -> str:
        """Why a replica that has `offset` bytes of the history `replid` cannot go on with it, "": it can."""
        window = (self.first_byte(), int(self.world.repl[dp.M_OFFSET]) + 1) if self.has_backlog else None
        return psync_refusal((replid, offset), (self.replid, self.replid2, self.second_offset), window)

    def _go_on(self, session: Session, offset: int) -> None:
        """The stream goes to the replica from there on."""
        session.offset = offset
        self._place(session, offset)
        self._put_online(session)

    def _place(self, session: Session, offset: int) -> None:
        """Nothing is on its way; the replica is at the block that has the next byte."""
        world, m = self.world, self.world.repl
        row, mask = world.wire[session.link], len(world.block) - 1
        row[[dp.W_SENT, dp.W_SEEN, dp.W_ARRIVED, dp.W_READ]] = offset
        row[[dp.W_BULK, dp.W_BULK_SENT, dp.W_BULK_SEEN, dp.W_BULK_ARRIVED, dp.W_BULK_READ, dp.W_OVER, dp.W_WANT, dp.W_ACKS]] = 0
        row[[dp.W_BUSY, dp.W_ROWS]] = 0
        row[dp.W_LAST : dp.W_LAST + dp.LANES] = 0  # another TCP connection: it does not wait behind what the last one had lost
        at = int(m[dp.M_BLOCK])
        while at < m[dp.M_BLOCKS] and world.block[at & mask, 0] <= offset:
            at += 1
        if at == m[dp.M_BLOCKS] and at > m[dp.M_BLOCK] and m[dp.M_ROOM] > 0:
            at -= 1
        row[dp.W_BLOCK], row[dp.W_STATE] = at, dp.WIRE_WAITS
        row[dp.W_ACK_AT] = row[dp.W_LAST_IO] = self.now_ns()
        row[dp.W_ACK] = offset

    def _put_online(self, session: Session) -> None:
        """replicaPutOnline, replicaStartCommandStream."""
        session.state = "online"
        row = self.world.wire[session.link]
        row[dp.W_STATE], row[dp.W_ACK_AT], row[dp.W_WANT] = dp.WIRE_STREAM, self.now_ns(), 1
        look_again(self.world, session.link, 1)
        self._count_good()
        self._log(f"Synchronization with replica {session.replica} succeeded")

    # ---- a full sync

    def _wait_for_bgsave(self, session: Session) -> None:
        """syncCommand."""
        child = self.server.child
        assert child is not None, "a server with replicas can fork"
        session.state, session.asked_s = "wait_bgsave", self.now_s()
        self.create_backlog()
        save = child.alive
        if save is not None:
            other = next((one for one in self.sessions if one.save is save and one is not session), None)
            if other is not None and save.drained is None and save.done_ns is None:
                self._attach(session, other)
            else:
                self._log("Can't attach the replica to the current BGSAVE. Waiting for next BGSAVE for SYNC")
            return
        if self.rules.is_diskless and self.rules.delay_s:
            self._log("Delay next BGSAVE for diskless SYNC")
        else:
            self._start_bgsave()

    def create_backlog(self, *, with_history: bool = True) -> None:
        """createReplicationBacklog, with a new history (syncCommand)."""
        m = self.world.repl
        if not self.has_backlog:
            if with_history:
                self._new_history()
            m[dp.M_BACKLOG], m[dp.M_HISTLEN], m[dp.M_FIRST] = self.rules.backlog_bytes, 0, m[dp.M_OFFSET] + 1
            take_ring(self.world)
            if not m[dp.M_IS_REPLICA]:
                m[dp.M_ON], m[dp.M_BEGUN], m[dp.M_SELECTED] = 1, m[dp.M_ROWS], 0
            self._log(f"Replication backlog created, my new replication IDs are {self.name}:{self.replid} and 0")

    def _new_history(self) -> None:
        """changeReplicationId, clearReplicationId2."""
        self._ids += 1
        self.replid, self.replid2, self.second_offset = self._ids, 0, -1

    def shift_history(self, before: int) -> None:
        """shiftReplicationId: what was `before` up to here goes on under a new ID."""
        self._new_history()
        self.replid2, self.second_offset = before, int(self.world.repl[dp.M_OFFSET]) + 1
        self._lonely_since_s = self.now_s()
        self._log(f"Setting secondary replication ID to {before}, valid up to offset: {self.second_offset}. "
                  f"New replication ID is {self.replid}")  # fmt: skip

    def go_on_as(self, replid: int, before: int) -> None:
        """Its own master goes on under another ID (syncWithMaster, +CONTINUE <ID>): its replicas must hear of that."""
        self.replid, self.replid2, self.second_offset = replid, before, int(self.world.repl[dp.M_OFFSET]) + 1
        self.close_all("the replication ID has changed")

    def close_all(self, why: str) -> None:
        """disconnectSlaves."""
        for session in list(self.sessions):
            self.close(session, why)

    def _attach(self, session: Session, other: Session) -> None:
        """A disk BGSAVE for another replica is under way: its file and its place in the stream are this one's too."""
        wire = self.world.wire
        self._place(session, other.offset)
        wire[session.link, dp.W_BLOCK] = wire[other.link, dp.W_BLOCK]
        session.offset, session.row, session.snapshot, session.save = other.offset, other.row, other.snapshot, other.save
        session.file_bytes = other.file_bytes
        session.forked.succeed()
        self._log("Waiting for end of BGSAVE for SYNC")

    def _start_bgsave(self) -> None:
        """startBgsaveForReplication, for all that wait."""
        child, world, m = self.server.child, self.world, self.world.repl
        assert child is not None, "a server with replicas can fork"
        to_socket = self.rules.is_diskless
        self._log(f"Starting BGSAVE for SYNC with target: {'replicas sockets' if to_socket else 'disk'}")
        save = child.save_for_replicas(to_socket=to_socket, on_over=self._save_is_over)
        waiting = [one for one in self.sessions if one.state == "wait_bgsave" and one.save is None]
        if save is None:
            for session in waiting:
                self.close(session, "its BGSAVE failed")
            return
        assert save.file is not None, "what is saved has a size"
        snapshot = self._snapshot(world)
        for session in waiting:
            session.offset, session.row = int(m[dp.M_OFFSET]), int(m[dp.M_APPLY if m[dp.M_IS_REPLICA] else dp.M_ROWS])
            session.snapshot, session.save, session.file_bytes = snapshot, save, save.file.file_bytes
            self._place(session, session.offset)
            if to_socket:
                state = dp.WIRE_DUAL if self.rules.is_dual else dp.WIRE_PIPE
                world.wire[session.link, dp.W_STATE], world.wire[session.link, dp.W_BULK] = state, save.file.file_bytes
            session.forked.succeed()
        m[dp.M_SELECTED] = 0
        if to_socket:
            m[dp.M_PIPE_SIZE], m[dp.M_PIPE_MADE], m[dp.M_PIPE_READ], m[dp.M_PIPE_AT] = save.file.file_bytes, 0, 0, self.now_ns()
            m[dp.M_PIPE_PS] = save.file.cpu_ns(child.rules.costs) * 1000 // max(save.file.file_bytes, 1)
            for session in waiting:
                self._send_bulk(session)
            if waiting:
                look_again(world, waiting[0].link, 1)

    def _save_is_over(self, save: Save) -> None:
        """updateSlavesWaitingBgsave: the child has been waited for."""
        world = self.world
        for session in [one for one in self.sessions if one.save is save]:
            if save.status != "ok":
                self.close(session, f"its BGSAVE failed: {save.status}")
            elif save.drained is None:
                self._send_bulk(session)
                row = world.wire[session.link]
                row[dp.W_STATE], row[dp.W_BULK] = dp.WIRE_BULK, session.file_bytes
                look_again(world, session.link, 1)

    def _send_bulk(self, session: Session) -> None:
        session.state = "send_bulk"
        session.sending.succeed()

    def answer(self) -> None:
        """The loop says that something is over: a file sent, a pipe emptied, an ACK come, a buffer too large."""
        m, wire = self.world.repl, self.world.wire
        want = int(m[dp.M_WANT])
        m[dp.M_WANT] = want & dp.BULK_READ  # the replica's own affair
        if want & dp.LINK_OVERFLOWS:
            for session in [one for one in self.sessions if wire[one.link, dp.W_OVER]]:
                self._overflow(session, "hard")
        if want & dp.BULK_SENT:
            for session in self.sessions:
                row = wire[session.link]
                if session.state == "send_bulk" and row[dp.W_STATE] == dp.WIRE_BULK and row[dp.W_BULK_SENT] == row[dp.W_BULK]:
                    self._put_online(session)
        if want & dp.PIPE_EMPTY:
            for session in self.sessions:
                if wire[session.link, dp.W_STATE] == dp.WIRE_PIPE:
                    wire[session.link, dp.W_STATE] = dp.WIRE_WAITS
                elif wire[session.link, dp.W_STATE] == dp.WIRE_DUAL:
                    self._put_online(session)
            child = self.server.child
            if child is not None and child.alive is not None and child.alive.drained is not None:
                child.alive.drained.succeed()
        if want & dp.LINK_ACKED:
            for session in self.sessions:
                row = wire[session.link]
                if session.state == "send_bulk" and row[dp.W_STATE] == dp.WIRE_WAITS:
                    self._put_online(session)

    # ---- when it ends

    def close(self, session: Session, why: str) -> None:
        """freeClient of a replica."""
        if session.is_over:
            return
        session.is_over = True
        if session in self.sessions:
            self.sessions.remove(session)
        row = self.world.wire[session.link]
        row[dp.W_STATE] = dp.WIRE_OFF  # what is on its way is lost
        row[dp.W_QUEUED : dp.W_QUEUED + dp.LANES] = 0
        row[dp.W_ARRIVED], row[dp.W_BULK_ARRIVED] = row[dp.W_READ], row[dp.W_BULK_READ]
        trim_backlog(self.world)
        session.broken.succeed(why)
        self._count_good()
        child, save = self.server.child, session.save
        is_last = save is not None and save.drained is not None and not any(one.save is save for one in self.sessions)
        if is_last and save is not None and child is not None:
            child.kill(save, "killed: no replica is left to send it to")
        if not self.sessions:
            self._lonely_since_s = self.now_s()

    def _overflow(self, session: Session, limit: str) -> None:
        size = int(omem(self.world, session.link))
        self.omem.append((self.now_ns(), session.replica, size, limit))
        said = "scheduled to be closed ASAP for overcoming of output buffer limits."
        self._log(f"Client {session.replica} flags=S omem={size} {said}")
        self.close(session, f"output buffer of {size} bytes over the {limit} limit")

    def restarted(self, replid: int, offset: int) -> None:
        """loadDataFromDisk of a master: a new history; that of the RDB file, if it says one, is the one before (7.0)."""
        m = self.world.repl
        self._new_history()
        m[dp.M_OFFSET] = offset
        if replid and not self.rules.is_exact:
            self.create_backlog(with_history=False)
            self.replid2, self.second_offset = replid, offset + 1

    # ---- cron

    def soft_limits(self) -> None:
        """clientsCron, closeClientOnOutputBufferLimitReached: who has been over the soft limit for too long?"""
        if not self.rules.soft_bytes:
            return
        for session in list(self.sessions):
            if omem(self.world, session.link) < self.rules.soft_bytes:
                session.soft_since_s = None
            elif session.soft_since_s is None:
                session.soft_since_s = self.now_s()
            elif self.now_s() - session.soft_since_s > self.rules.soft_s:
                self._overflow(session, "soft")

    def cron(self) -> None:
        """replicationCron, once a second."""
        world, m, now_s = self.world, self.world.repl, self.now_s()
        if self._loops % self.rules.ping_s == 0 and self.sessions and m[dp.M_ON]:
            ping(world)
        self._loops += 1
        for session in [one for one in self.sessions if one.state == "online"]:
            if now_s - int(world.wire[session.link, dp.W_ACK_AT]) // S > self.rules.timeout_s:
                self._log(f"Disconnecting timedout replica (streaming sync): {session.replica}")
                self.close(session, "no ACK for repl-timeout")
        for session in self.sessions:
            if session.state == "wait_bgsave":
                world.wire[session.link, dp.W_LAST_IO] = self.now_ns()  # the newline that keeps it waiting
        self._start_pending()
        is_lonely = self.has_backlog and self._lonely_since_s is not None and not m[dp.M_IS_REPLICA]
        if is_lonely and self.rules.ttl_s and now_s - (self._lonely_since_s or 0) > self.rules.ttl_s:
            self._new_history()
            drop_backlog(world)
            self._log(f"Replication backlog freed after {self.rules.ttl_s} seconds without connected replicas.")
        self._count_good()

    def child_is_gone(self) -> None:
        """checkChildrenDone: who has waited for the end of a child need not wait for the next second."""
        has_child = self.server.child is not None and self.server.child.alive is not None
        if self._had_child and not has_child:
            self._start_pending()
        self._had_child = has_child

    def _start_pending(self) -> None:
        """replicationStartPendingFork."""
        waiting = [one for one in self.sessions if one.state == "wait_bgsave" and one.save is None]
        child = self.server.child
        if waiting and child is not None and child.alive is None:
            is_enough = 0 < self.rules.max_replicas <= len(waiting)
            waited_s = self.now_s() - min(one.asked_s for one in waiting)
            if not self.rules.is_diskless or is_enough or waited_s >= self.rules.delay_s:
                self._start_bgsave()

    def _count_good(self) -> None:
        """refreshGoodSlavesCount."""
        least, lag_s, now_s = self.rules.min_replicas, self.rules.max_lag_s, self.now_s()
        if least and lag_s and not self.world.repl[dp.M_IS_REPLICA]:
            ages_s = [now_s - int(self.world.wire[one.link, dp.W_ACK_AT]) // S for one in self.sessions if one.state == "online"]
            good = sum(age_s <= lag_s for age_s in ages_s) + self.unheard.good(self.now_ns(), lag_s)
            refuse(self.world, dp.FEW, is_so=good < least)

    def _log(self, text: str) -> None:
        self.lines.append((self.now_ns(), text))
