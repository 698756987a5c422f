"""What a run says of replication: a row per window and replica, phases and verdicts, the log, the summary's part.

Mirrors INFO replication (replication.c, server.c:genRedisInfoString): lag_s is how long ago the master executed what the replica
has not executed yet, which INFO does not show; INFO's own `lag` is the age of the last ACK, here ack_age_s.
"""

import hashlib
from collections.abc import Generator, Iterable
from typing import Any

import numpy as np
import pandas as pd
import simpy

from redsim.dataplane import layout as dp
from redsim.dataplane.histogram import COARSE_EDGES, percentiles_ns
from redsim.dataplane.output_buffers import omem
from redsim.redis.replica import Replica
from redsim.redis.replication import IDS_EACH, Master
from redsim.run.replicas import Family, Peers
from redsim.run.result import REPLICATION_COLUMNS, SYNC_COLUMNS
from redsim.units import S

__all__ = ["Record"]

QUANTILES = {"p50": 0.5, "p99": 0.99}


class Record:
    """Keeps what is sampled; of a server alone nothing."""

    def __init__(self, env: simpy.Environment, family: Family, peers: dict[str, Peers]) -> None:
        self.env, self.family, self.peers = env, family, peers
        self.rows: list[tuple[Any, ...]] = []

    def sample(self, window_ns: int, end_ns: int) -> Generator[simpy.Event, Any, None]:
        """A row for each replica at each window's end, as a SimPy process."""
        while self.env.now + window_ns <= end_ns:
            yield self.env.timeout(window_ns)
            self.rows += [self._row(name) for name in self.family.links if self.peers[name].follows is not None]

    def _replica(self, name: str) -> Replica:
        replica = self.peers[name].replica
        assert replica is not None, "who has a link is a replica"
        return replica

    def _row(self, name: str) -> tuple[Any, ...]:
        replica = self._replica(name)
        world, mine = replica.master.world, replica.world.repl
        m, wire = world.repl, world.wire[replica.link]
        now_ns = int(self.env.now)
        offset, own = int(m[dp.M_OFFSET]), int(mine[dp.M_OFFSET])
        has_session = replica.session is not None and not replica.session.is_over
        ack = int(wire[dp.W_ACK]) if has_session else dp.NONE
        return (
            now_ns / S, name, replica.state if has_session or replica.state == "handshake" else "down", offset, own, ack,
            max(offset - own, 0), self.lag_ns(replica, now_ns) / S, omem(world, replica.link),
            replica.master.first_byte(), int(m[dp.M_HISTLEN]), replica.master.rules.backlog_bytes,
            (now_ns - int(wire[dp.W_ACK_AT])) / S if has_session and replica.state == "online" else float("nan"),
        )  # fmt: skip

    def lag_ns(self, replica: Replica, now_ns: int) -> int:
        """How long ago the master executed what the replica has not executed yet; 0: it has it all."""
        world, source = replica.master.world, self._root(replica).world
        n = int(replica.world.repl[dp.M_APPLY])
        if n >= source.repl[dp.M_ROWS]:
            return 0
        return max(now_ns - int(world.stream[n % len(world.stream), dp.Y_AT]), 0)

    def _root(self, replica: Replica) -> Master:
        """The master above all masters of a replica."""
        master = replica.master
        while (above := self.peers[master.name].follows) is not None:
            master = above.master
        return master

    def _replicas(self) -> list[str]:
        """Who has ever followed another."""
        return [name for name in self.family.links if self.peers[name].follows is not None or self._replica(name).syncs]

    def frame(self) -> pd.DataFrame:
        """Result.replication."""
        return pd.DataFrame(self.rows, columns=REPLICATION_COLUMNS)

    def syncs(self) -> pd.DataFrame:
        """Result.syncs; what is not over at the end of the run ends there."""
        rows = []
        for name in self.family.links:
            for one in self._replica(name).syncs:
                end = one.over_ns if one.over_ns is not None else max(int(self.env.now), one.begun_ns)
                rows.append((name, one.phase, one.begun_ns / S, end / S, one.note))
        rows.sort(key=lambda row: row[2])
        return pd.DataFrame(rows, columns=SYNC_COLUMNS)

    def lines(self) -> list[tuple[float, str, str]]:
        """Rows of the event log."""
        rows = []
        for name, one in self.peers.items():
            rows += [(at / S, name, text) for at, text in one.master.lines]
            rows += [(at / S, name, text) for at, text in (one.replica.lines if one.replica is not None else [])]
        return rows

    # ---- the summary

    def merged(self, summaries: list[dict[str, Any]]) -> dict[str, Any]:
        """One summary of those of the nodes, with what replication adds."""
        first = summaries[0]
        if not self.peers:
            return first
        digest = hashlib.sha256("".join(one["digest"] for one in summaries).encode())
        for one in self.peers.values():
            digest.update(np.ascontiguousarray(one.server.world.repl).astype("<i8").tobytes())
            digest.update(np.ascontiguousarray(one.server.world.behind).astype("<i8").tobytes())
        commands = sum(one["commands"] for one in summaries)
        out = {
            **first, "digest": digest.hexdigest()[:32], "commands": commands,
            "commands_per_wall_s": round(commands / first["wall_s"]) if first["wall_s"] > 0 else 0,
            "simulated_s": max(one["simulated_s"] for one in summaries),
            "clients": _union(one["clients"] for one in summaries), "nodes": _union(one["nodes"] for one in summaries),
            "replicas": {name: self._replica_summary(name) for name in self._replicas()},
        }  # fmt: skip
        for name, one in self.peers.items():
            out["nodes"][name]["role"] = "master" if one.follows is None else "slave"
            out["nodes"][name]["info"]["replication"] = self._info(name, one)
        return out

    def _replica_summary(self, name: str) -> dict[str, Any]:
        replica = self._replica(name)
        mine = [row for row in self.rows if row[1] == name]
        lags = np.array([row[6] for row in mine] or [0])
        counts, longest = replica.world.behind[: dp.COARSE_BUCKETS], int(replica.world.behind[dp.COARSE_BUCKETS + 1])
        found = percentiles_ns(counts[None], COARSE_EDGES, list(QUANTILES.values()), np.array([longest]))[0].tolist()
        marks = [one.phase for one in replica.syncs]
        refused = sum(one.phase == "full" and "no data yet" not in one.note for one in replica.syncs)
        return {
            "master": replica.followed.name if replica.followed is not None else None, "state": replica.state,
            "full_syncs": marks.count("full"), "partial_syncs_ok": marks.count("partial"), "partial_syncs_refused": refused,
            "output_buffer_overflows": [
                {"at_s": at / S, "omem_bytes": omem, "limit": limit}
                for one in self.peers.values() for at, who, omem, limit in one.master.omem if who == name
            ],
            "link_downs": replica.downs,
            "lag_bytes": {**{key: int(np.percentile(lags, 100 * q)) for key, q in QUANTILES.items()}, "max": int(lags.max())},
            "lag_s": {**{key: ns / S for key, ns in zip(QUANTILES, found, strict=True)}, "max": longest / S},
            "resync_s": [round(seconds, 6) for seconds in replica.resyncs],
            "units_executed": int(replica.world.repl[dp.M_APPLIED]),
            "output_buffer_peak_bytes": max((row[8] for row in mine), default=0),
        }  # fmt: skip

    def _info(self, name: str, one: Peers) -> dict[str, Any]:
        """INFO replication."""
        m, master, now_ns = one.server.world.repl, one.master, int(self.env.now)
        out: dict[str, Any] = {"role": "master" if one.follows is None else "slave"}
        if (replica := one.follows) is not None:
            wire = one.server.world.wire[replica.link]
            is_up = replica.state == "online"
            out |= {
                "master_host": replica.master.name, "master_link_status": "up" if is_up else "down",
                "master_last_io_seconds_ago": (now_ns - int(wire[dp.W_LAST_IO])) // S if is_up else -1,
                "master_sync_in_progress": int(replica.state in ("wait_bgsave", "transfer", "loading")),
                "slave_read_repl_offset": int(wire[dp.W_READ]), "slave_repl_offset": int(m[dp.M_OFFSET]),
            }  # fmt: skip
        online = [session for session in master.sessions if session.state == "online"]
        out["connected_slaves"] = len(master.sessions)
        if master.rules.min_replicas and (lag := master.rules.max_lag_s):
            out["min_slaves_good_slaves"] = master.unheard.good(now_ns, lag) + sum(
                (now_ns - int(one.server.world.wire[session.link, dp.W_ACK_AT])) // S <= lag for session in online
            )
        for i, session in enumerate(master.sessions):
            wire = one.server.world.wire[session.link]
            lag = (now_ns - int(wire[dp.W_ACK_AT])) // S if session.state == "online" else 0
            out[f"slave{i}"] = f"ip={session.replica},state={session.state},offset={int(wire[dp.W_ACK])},lag={lag}"
        return out | {
            "master_replid": self._named(master.replid), "master_replid2": self._named(master.replid2),
            "master_repl_offset": int(m[dp.M_OFFSET]), "second_repl_offset": master.second_offset,
            "repl_backlog_active": int(master.has_backlog), "repl_backlog_size": master.rules.backlog_bytes,
            "repl_backlog_first_byte_offset": master.first_byte() if master.has_backlog else 0,
            "repl_backlog_histlen": int(m[dp.M_OFFSET]) - master.first_byte() + 1 if master.has_backlog else 0,
            "sync_full": master.full, "sync_partial_ok": master.partial_ok, "sync_partial_err": master.partial_err,
        }  # fmt: skip

    def _named(self, replid: int) -> str:
        """A replication ID, with the server that made it; 0: none."""
        return f"{self.family.names[replid // IDS_EACH]}:{replid % IDS_EACH}" if replid else "0"


def _union(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for part in parts:
        out |= part
    return out
