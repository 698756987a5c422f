"""What the parts hand each other and nobody else owns: the ledger's vocabulary and the causes of waiting.

Mirrors latency.h (event names) and DESIGN's ledger; a stall is written once, under Redis' own event name, with its cause.
"""

from dataclasses import dataclass
from enum import StrEnum


class LatencyEvent(StrEnum):
    """latency.c event names this step emits; `server-cron`, `host-hiccup`, `process-stopped` and `aof-manifest` are ours (no
    Redis event covers them)."""

    COMMAND = "command"
    FAST_COMMAND = "fast-command"
    EXPIRE_CYCLE = "expire-cycle"
    SERVER_CRON = "server-cron"
    HOST_HICCUP = "host-hiccup"
    EVICTION_CYCLE = "eviction-cycle"
    EVICTION_DEL = "eviction-del"
    ACTIVE_DEFRAG_CYCLE = "active-defrag-cycle"
    AOF_WRITE_ALONE = "aof-write-alone"
    AOF_WRITE_PENDING_FSYNC = "aof-write-pending-fsync"
    AOF_WRITE_ACTIVE_CHILD = "aof-write-active-child"
    AOF_FSYNC_ALWAYS = "aof-fsync-always"
    AOF_MANIFEST = "aof-manifest"
    FORK = "fork"
    PROCESS_STOPPED = "process-stopped"


class Cause(StrEnum):
    """The parts of a latency and who held the loop meanwhile, in the order of the data plane's rows; behind them the commands,
    by their own names."""

    OWN = "own service"
    NETWORK = "network"
    CLIENT = "client"
    EARLIER = "earlier attempts"
    WAKE_UP = "wake-up"
    POLL = "poll"
    READ = "reading other clients"
    WRITE = "writing other replies"
    CRON = "serverCron"
    ACCEPT = "accepting connections"
    HICCUP = "host hiccup"
    IO_THREADS = "io-threads fork and join"


@dataclass(frozen=True, slots=True)
class Param:
    """A number with its birth certificate: measured, published, redis (read in its source), or guess."""

    value: int
    source: str
    ref: str = ""
    extremes: tuple[int, int] | None = None
