"""What a master and a replica have between them besides bytes: the rules of a conf, a connection as the master sees it, phases.

Mirrors the fields of struct client and struct redisServer that replication.c goes by (7.0), networking.c:
getClientOutputBufferMemoryUsage.
Not modelled: authentication, ports, capabilities.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import simpy

from redsim.redis.rdb import Save
from redsim.units import S

__all__ = ["BACKLOG_MIN_BYTES", "Data", "ReplRules", "Session", "Sync", "Unheard", "psync_refusal"]

BACKLOG_MIN_BYTES = 16384  # server.h: CONFIG_REPL_BACKLOG_SIZE_MIN


@dataclass(frozen=True, slots=True)
class ReplRules:
    """What a conf says of replication: bytes, seconds.

    state    backlog_bytes, ttl_s        repl-backlog-size (16 KiB at least), repl-backlog-ttl
             timeout_s, ping_s           repl-timeout, repl-ping-replica-period
             is_diskless, delay_s, max_replicas    repl-diskless-sync, -delay, -max-replicas
             hard_bytes, soft_bytes, soft_s        client-output-buffer-limit replica; hard: at least the backlog (7.0), 0: none
             min_replicas, max_lag_s     min-replicas-to-write (0: off), min-replicas-max-lag
             is_exact                    6.2: a ring of exactly so many bytes
             is_dual                     two channels: dual-channel-replication-enabled (Valkey 8.0), repl-rdb-channel (8.0)
             diskless_load               repl-diskless-load of a replica
             serves_stale                replica-serve-stale-data: what it answers while it has no master
    """

    backlog_bytes: int
    ttl_s: int
    timeout_s: int
    ping_s: int
    is_diskless: bool
    delay_s: int
    max_replicas: int
    hard_bytes: int
    soft_bytes: int
    soft_s: int
    min_replicas: int
    max_lag_s: int
    is_exact: bool
    is_dual: bool
    diskless_load: str
    serves_stale: bool


@dataclass(frozen=True)
class Data:
    """What the run knows of files and keys.

    state    take       makes the keys of a World those of a snapshot
             load_ns    (ns, ns between two looks at the clients) of loading a file of so many bytes and keys
             flush_ns   what emptying the World's keys takes, on the main thread
             fsync_ns   what fsync and rename of the file take
    """

    take: Callable[[Any, Any], None]
    load_ns: Callable[[int, int], tuple[int, int]]
    flush_ns: Callable[[Any], int]
    fsync_ns: Callable[[], int]


@dataclass(slots=True)
class Sync:
    """A phase of what a replica went through, or a verdict (begun and over at once): times in ns, over None: still in it."""

    replica: str
    phase: str
    begun_ns: int
    over_ns: int | None = None
    note: str = ""


@dataclass(eq=False)
class Session:
    """A connection of a replica with its master.

    state    link       its row of the World's wire
             state      as INFO has it: wait_bgsave, send_bulk, online; before: handshake
             offset, row      of the stream at the fork, or what a partial resync goes on from
             snapshot   the master's keys at the fork
             asked_s    when it asked for a full sync
             soft_since_s    since when it has been over the soft limit, None: it is not
             broken     event whose value says why it is over
             forked, sending, bulk_read   events: +FULLRESYNC, the first byte of the file leaves, its last one is read
             missed     bytes that a partial resync made up for
    """

    link: int
    replica: str
    broken: simpy.Event
    forked: simpy.Event
    sending: simpy.Event
    bulk_read: simpy.Event
    state: str = "handshake"
    offset: int = 0
    row: int = 0
    snapshot: Any = None
    file_bytes: int = 0
    save: Save | None = None
    asked_s: int = 0
    soft_since_s: int | None = None
    is_over: bool = False
    missed: int = 0


class Unheard:
    """Replicas that have left while no packet came through: until their FIN is there the master counts them by their last ACK."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int]] = []  # last ACK, when the FIN comes

    def add(self, session: Session, ack_at_ns: int, until_ns: int) -> None:
        """`session` is given up by its replica."""
        if session.state == "online":
            self._rows.append((ack_at_ns, until_ns))

    def good(self, now_ns: int, max_lag_s: int) -> int:
        """How many are good replicas to their master still (refreshGoodSlavesCount)."""
        self._rows = [row for row in self._rows if now_ns < row[1]]
        return sum(now_ns // S - ack_at_ns // S <= max_lag_s for ack_at_ns, _ in self._rows)


def psync_refusal(asked: tuple[int, int], ids: tuple[int, int, int], window: tuple[int, int] | None) -> str:
    """masterTryPartialResynchronization: why it cannot be, "": it can. `asked`: history (0: none) and offset of the replica;
    `ids`: replid, replid2, second offset of the master; `window`: first byte of its backlog and the one behind its last."""
    (replid, offset), (own, before, upto) = asked, ids
    if replid == 0:
        return "it has no data yet"
    if replid not in (own, before):
        return "its history is another one (replication ID mismatch)"
    if replid == before != own and offset + 1 > upto:
        return f"offset {offset + 1} of the second replication ID, which is the same up to {upto}"
    if window is None:
        return "there is no backlog"
    first, end = window
    if offset + 1 < first:
        return f"offset {offset + 1} is before the backlog's first byte {first}"
    return f"offset {offset + 1} is beyond the backlog's end {end}" if offset + 1 > end else ""
