"""What the parts hand each other and nobody else owns: the ledger's vocabulary and the causes of waiting.

Mirrors latency.h (event names) and DESIGN's ledger; a stall is written once, under Redis' own event name, with its cause.
"""

from dataclasses import dataclass
from enum import StrEnum


class LatencyEvent(StrEnum):
    """latency.c event names this step emits; `host-hiccup` and `while-busy-script` are ours (no Redis event covers them)."""

    COMMAND = "command"
    FAST_COMMAND = "fast-command"
    SERVER_CRON = "server-cron"
    HOST_HICCUP = "host-hiccup"


class Cause(StrEnum):
    """Who held the loop while a request waited, besides the commands themselves (those go by their own names)."""

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
