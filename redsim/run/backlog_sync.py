"""Whether a full sync gets through: what gathers for the replica from the fork to its first ACK, against its output buffer limit.

    fork ......... save, transfer ......... load ... ACK
    ^ +FULLRESYNC: from here on the stream gathers in the replica's output buffer, and nothing of it is sent
                                                     ^ so many bytes; over the limit before: the link is closed, the old offset is
                                                       gone from the backlog, and the next full sync begins

Mirrors networking.c:checkClientOutputBufferLimits: at or above the hard limit at any time; at or above the soft limit for more
than soft-seconds, in whole seconds of the server's clock. 7.0 takes a hard limit below repl-backlog-size for that size.
Differs: the soft limit is looked at when the sync ends, in Redis about each second and at each new block.
Not modelled: what is above the soft limit while it is being sent after the ACK.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from redsim.run.backlog_outages import Outages, parse_outages
from redsim.run.backlog_sizes import ROUND_SIZES
from redsim.run.backlog_window import output_buffer_bytes
from redsim.run.confidence import band
from redsim.run.offsets import Written
from redsim.units import S, say_ns

__all__ = ["Gathered", "Limits", "SyncPlan", "full_sync_spans", "gathered", "lengths", "plan_sync"]

FORK, LOADED = "bgsave", "load"  # phases of Result.syncs: the first begins at the fork, the second ends before the ACK
MORE_SIZES = 4  # of the curve, beyond the first without an overflow
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Limits:
    """client-output-buffer-limit replica: bytes, bytes, seconds; 0: none."""

    hard_bytes: int
    soft_bytes: int
    soft_s: int


@dataclass(frozen=True)
class Gathered:
    """Full syncs drawn: when each begins, how long it takes, what has gathered at its end as the limit counts it."""

    written: Written
    start_ns: Ints
    span_ns: Ints
    into: Ints  # bytes into its block, where the replica begins
    second_ns: Ints  # into a second of the server's clock
    block: tuple[int, int]
    stream_bytes: Ints
    bytes: Ints

    def over_hard(self, hard_bytes: int) -> Bools:
        """Those that reach it."""
        return self.bytes >= hard_bytes if hard_bytes else np.zeros(len(self.bytes), dtype=bool)

    def over_soft(self, limits: Limits) -> Bools:
        """Those that are above it for more than its seconds."""
        if not limits.soft_bytes:
            return np.zeros(len(self.bytes), dtype=bool)
        payload, counted = self.block
        blocks = -(-limits.soft_bytes // counted)
        more = np.maximum((blocks - 1) * payload - self.into + 1, 0)
        since = self.written.reached_ns(self.start_ns, more) - self.start_ns
        seconds = (self.second_ns + self.span_ns) // S - (self.second_ns + since) // S
        return (since <= self.span_ns) & (seconds > limits.soft_s)


@dataclass(frozen=True)
class SyncPlan:
    """`said`: where the length comes from; `now`, `chosen`: limits, the latter None where the target cannot be shown; `rows`:
    hard limit by P(overflow); `p_hard`, `p_soft`: shares of the syncs that the limits of now break; `mean_bytes`: by the mean
    rate."""

    said: str
    mean_ns: int
    longest_ns: int
    now: Limits
    hard_in_force_bytes: int  # of now, where the backlog lifts it
    hits: int
    draws: int
    p_hard: float
    p_soft: float
    chosen: Limits | None
    chosen_hits: int
    rows: pd.DataFrame
    mean_bytes: int
    worst_bytes: int

    @property
    def p_overflow(self) -> float:
        """By either limit of now."""
        return self.hits / self.draws


def full_sync_spans(syncs: pd.DataFrame, end_s: float) -> list[int]:
    """ns from the fork to the end of the load of each full sync of `Result.syncs` that was over when the run ended."""
    spans, forked = [], {}
    for row in syncs.sort_values("start_s", kind="stable").to_dict(orient="records"):
        if row["phase"] == FORK:
            forked[row["replica"]] = row["start_s"]
        elif row["phase"] == "disconnected":
            forked.pop(row["replica"], None)
        elif row["phase"] == LOADED and row["replica"] in forked and row["end_s"] < end_s:
            spans.append(round((row["end_s"] - forked.pop(row["replica"])) * S))
    return spans


def lengths(full_sync: str | None, seen_ns: Sequence[int]) -> tuple[Outages, str] | None:
    """How long a full sync takes, and where that comes from: as it is given, or the longest seen in a run; None: nobody knows."""
    if full_sync is not None:
        return parse_outages(full_sync, "--full-sync"), f"--full-sync {full_sync}"
    if not seen_ns:
        return None
    said = f"the longest of {len(seen_ns)} full syncs in the run" if len(seen_ns) > 1 else "the full sync in the run"
    return Outages(say_ns(max(seen_ns)), "always", max(seen_ns)), said


def gathered(written: Written, spans_ns: Ints, block: tuple[int, int], rng: np.random.Generator) -> Gathered:
    """Full syncs of such lengths, each from a uniform instant on."""
    count = len(spans_ns)
    start = written.starts_ns(rng, spans_ns)
    into = (rng.random(count) * block[0]).astype(np.int64)
    second = (rng.random(count) * S).astype(np.int64)
    stream = written.bytes_between(start, start + spans_ns)
    return Gathered(written, start, spans_ns, into, second, block, stream, output_buffer_bytes(stream, into, block))


def plan_sync(drawn: Gathered, said: str, now: Limits, lifted_to: int, backlog: int, target: float) -> SyncPlan:
    """`lifted_to`: the backlog of now, where it lifts the hard limit (7.0), 0 where it does not; `backlog`: the one to come; no
    limit that is chosen is below it, as a partial resync may send all of it."""
    draws = len(drawn.bytes)
    in_force = max(now.hard_bytes, lifted_to) if now.hard_bytes else 0
    over_hard, over_soft = drawn.over_hard(in_force), drawn.over_soft(now)
    chosen, chosen_hits = _choose(drawn, now, backlog, target)
    mean_ns = float(drawn.span_ns.mean())
    return SyncPlan(
        said, round(mean_ns), int(drawn.span_ns.max()), now, in_force, int((over_hard | over_soft).sum()), draws,
        float(over_hard.mean()), float(over_soft.mean()), chosen, chosen_hits, pd.DataFrame(list(_rows(drawn))),
        round(drawn.written.mean_per_s * mean_ns / S), int(drawn.bytes.max()),
    )  # fmt: skip


def _choose(drawn: Gathered, now: Limits, backlog: int, target: float) -> tuple[Limits | None, int]:
    """The limits of now if they meet the target and hold the backlog, else the smallest round ones above them that do."""
    for hard in _from(max(now.hard_bytes, backlog) if now.hard_bytes else 0):
        over_hard = drawn.over_hard(hard)
        if not _meets(over_hard, target):
            continue
        for soft in _from(now.soft_bytes):
            limits = Limits(hard, min(soft, hard) if hard else soft, now.soft_s)
            over = over_hard | drawn.over_soft(limits)
            if _meets(over, target):
                return limits, int(over.sum())
            if hard and soft >= hard:
                break
    return None, 0


def _from(size_bytes: int) -> Sequence[int]:
    return (size_bytes, *(size for size in ROUND_SIZES if size > size_bytes)) if size_bytes else (0,)


def _meets(over: Bools, target: float) -> bool:
    return band(int(over.sum()), len(over))[1] <= 1 - target


def _rows(drawn: Gathered) -> Iterator[dict[str, float]]:
    """P(what gathers reaches it) by a limit that no backlog lifts: from the last round size that every sync reaches to some
    beyond the first that none does."""
    least, most = int(drawn.bytes.min()), int(drawn.bytes.max())
    first = max(sum(size <= least for size in ROUND_SIZES) - 2, 0)
    last = sum(size <= most for size in ROUND_SIZES) + MORE_SIZES
    for size in ROUND_SIZES[first:last]:
        hits = int(drawn.over_hard(size).sum())
        low, high = band(hits, len(drawn.bytes))
        yield {"size_bytes": size, "p": hits / len(drawn.bytes), "low": low, "high": high}
