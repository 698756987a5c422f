"""Changes of masters in a run, and the writes that each of them has cost: acknowledged by the old master, unknown to the new one.

A promoted server knows its master's history up to some row of the stream. What its master executed behind that, before or after
the promotion, is lost: when the old master takes the new one's data, or at the end of the run, if it has not come back.

What nobody waited for any more when it was executed was not acknowledged: clients had given it up while their server stood
still. Those of the lost ones that some replica had acknowledged, behind which WAIT 1 would have answered 1, are counted beside
them: a replica that stays with the old master may have what the promoted one lacks.
Writable again is the new master when it executes the first write for which a client waits.
Differs: a write counts as acknowledged when it was executed; what was not yet answered when its server died counts, too.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from redsim.dataplane import layout as dp
from redsim.redis.replication import Master
from redsim.redis.roles import Role
from redsim.run.replicas import Peers
from redsim.run.result import LOST_COLUMNS, ROLE_COLUMNS
from redsim.units import S

__all__ = ["Failover", "Failovers"]


@dataclass
class Failover:
    """A promotion: at `at_ns` `new` became a master, which had followed `old` up to `row` of its stream.

    lost_ns      when the writes were executed that `new` never got, None: not known yet; `replicated` of them a replica had
    writable_ns  when the first write to the new master was executed, None: not yet; its stream is looked through to `seen_row`
    """

    at_ns: int
    old: str
    new: str
    row: int
    seen_row: int
    lost_ns: np.ndarray | None = field(default=None)
    replicated: int = 0
    writable_ns: int | None = None

    def summary(self) -> dict[str, Any]:
        """As summary.json has it: at_s, from, to, writable_again_s; lost_acked_writes, how many acknowledged writes `to` never
        got, lost_replicated_writes, how many of them another replica had acknowledged, and when `from` executed the first and the
        last: lost_from_s, lost_until_s; null: never, none."""
        lost = self.lost_ns if self.lost_ns is not None else np.zeros(0)
        first, last = (float(lost.min()) / S, float(lost.max()) / S) if len(lost) else (None, None)
        return {
            "at_s": self.at_ns / S, "from": self.old, "to": self.new,
            "writable_again_s": None if self.writable_ns is None else self.writable_ns / S,
            "lost_acked_writes": len(lost), "lost_replicated_writes": self.replicated, "lost_from_s": first, "lost_until_s": last,
        }  # fmt: skip


class Failovers:
    """All of a run.

    state    rows     so far
             acked    node -> the farthest offset of its stream that a replica has acknowledged to it
    """

    def __init__(self, peers: dict[str, Peers]) -> None:
        self.peers = peers
        self.rows: list[Failover] = []
        self.acked = dict.fromkeys(peers, 0)
        for name, one in peers.items():
            if one.role is not None:
                one.role.on_change.append(self._change)
                one.server.on_step.append(partial(self._step, name))

    def _change(self, role: Role, master: Master | None) -> None:
        replica = role.replica
        if master is None:
            old = replica.master
            while (above := self.peers[old.name].follows) is not None:
                old = above.master
            row = int(replica.world.repl[dp.M_APPLY])
            self.rows.append(Failover(replica.now_ns(), old.name, replica.name, row, seen_row=row))
            peer = self.peers[old.name]
            peer.kept_row = row if peer.kept_row is None else min(peer.kept_row, row)
        elif replica.followed is None:
            self._count(replica.name)

    def _step(self, name: str, _now_ns: int) -> None:
        """What replicas have acknowledged to a server, and whether somebody has written to it, if it is a new master."""
        mine = self.peers[name].server.world
        links = mine.wire[(mine.wire[:, dp.W_FROM] == mine.repl[dp.M_SELF]) & (mine.wire[:, dp.W_STATE] == dp.WIRE_STREAM)]
        self.acked[name] = max(self.acked[name], int(links[:, dp.W_ACK].max(initial=0)))
        for one in [one for one in self.rows if one.new == name and one.writable_ns is None]:
            world = self.peers[one.new].server.world
            rows, mask = int(world.repl[dp.M_ROWS]), len(world.stream) - 1
            fresh = world.stream[np.arange(max(one.seen_row, rows - mask - 1), rows) & mask]
            one.seen_row = rows
            written = fresh[_is_acknowledged(fresh), dp.Y_AT]
            if len(written):
                one.writable_ns = int(written[0])

    def _count(self, old: str) -> None:
        """The old master's own writes are lost now."""
        peer = self.peers[old]
        world = peer.server.world
        rows, mask = int(world.repl[dp.M_ROWS]), len(world.stream) - 1
        for one in [one for one in self.rows if one.old == old and one.lost_ns is None]:
            mine = world.stream[np.arange(one.row, rows) & mask]
            lost = mine[_is_acknowledged(mine)]
            one.lost_ns, one.replicated = lost[:, dp.Y_AT].copy(), int((lost[:, dp.Y_END] <= self.acked[old]).sum())
        peer.kept_row, self.acked[old] = None, 0

    def end(self) -> None:
        """The run is over: who has not come back has lost what it had alone."""
        for old in {one.old for one in self.rows if one.lost_ns is None}:
            self._count(old)

    def summaries(self) -> list[dict[str, Any]]:
        """summary.json's failovers."""
        return [one.summary() for one in self.rows]

    def roles(self) -> pd.DataFrame:
        """Result.roles."""
        rows = [
            (ns / S, name, "slave" if master else "master", master)
            for name, one in self.peers.items() if one.role is not None for ns, master in one.role.taken
        ]  # fmt: skip
        rows.sort(key=lambda row: row[0])
        return pd.DataFrame(rows, columns=ROLE_COLUMNS)

    def lost_writes(self) -> pd.DataFrame:
        """Result.lost_writes."""
        rows = [(ns / S, one.old, one.new) for one in self.rows if one.lost_ns is not None for ns in sorted(one.lost_ns.tolist())]
        return pd.DataFrame(rows, columns=LOST_COLUMNS)


def _is_acknowledged(rows: np.ndarray) -> np.ndarray:
    """Which rows of a stream end a command that a client waits for."""
    return (rows[:, dp.Y_NS] > 0) & (rows[:, dp.Y_AT] % 2 == 1)
