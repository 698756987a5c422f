"""Changes of masters in a run, and the writes that each of them has cost: acknowledged by the old master, unknown to the new one.

A promoted server knows its master's history up to some row of the stream. What its master executed behind that, before or after
the promotion, is lost: when the old master takes the new one's data, or at the end of the run, if it has not come back.

What nobody waited for any more when it was executed was not acknowledged: clients had given it up while their server stood
still. Writable again is the new master when it executes the first write for which a client waits.
Differs: a write counts as acknowledged when it was executed; what was not yet answered when its server died counts, too.
"""

from dataclasses import dataclass, field
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
    """A promotion: at `at_ns` `new` became a master, which had followed `old` up to `row` of its stream; `lost_ns`: when the
    writes were executed that only `old` had, None: not known yet; `seen_row`: of the new master's own stream, which has been
    looked through for a write up to there; `writable_ns`: when it was executed, None: not yet."""

    at_ns: int
    old: str
    new: str
    row: int
    seen_row: int
    lost_ns: np.ndarray | None = field(default=None)
    writable_ns: int | None = None

    def summary(self) -> dict[str, Any]:
        """As summary.json has it: at_s, from, to, writable_again_s; lost_acked_writes, how many acknowledged writes only `from`
        had, and when it executed the first and the last of them: lost_from_s, lost_until_s; null: never, none."""
        lost = self.lost_ns if self.lost_ns is not None else np.zeros(0)
        first, last = (float(lost.min()) / S, float(lost.max()) / S) if len(lost) else (None, None)
        return {
            "at_s": self.at_ns / S, "from": self.old, "to": self.new,
            "writable_again_s": None if self.writable_ns is None else self.writable_ns / S,
            "lost_acked_writes": len(lost), "lost_from_s": first, "lost_until_s": last,
        }  # fmt: skip


class Failovers:
    """All of a run.

    state    rows     so far
    """

    def __init__(self, peers: dict[str, Peers]) -> None:
        self.peers = peers
        self.rows: list[Failover] = []
        for one in peers.values():
            if one.role is not None:
                one.role.on_change.append(self._change)
                one.server.on_step.append(self._step)

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

    def _step(self, _now_ns: int) -> None:
        """Whether somebody has written to a new master by now."""
        for one in [one for one in self.rows if one.writable_ns is None]:
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
            one.lost_ns = mine[_is_acknowledged(mine), dp.Y_AT].copy()
        peer.kept_row = None

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
