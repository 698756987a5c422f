"""repl-backlog-size and the replicas' output buffer limit: `redsim plan backlog scenario.yaml --outage exponential:5s`.

    offsets over time (a run, a real server)  x  outages drawn  ->  bytes that the replica missed  against  the backlog's window
                                              x  full syncs     ->  bytes that gather meanwhile    against  the limits

An outage ends in a partial resync if what was written from the last byte that arrived until PSYNC is with the master is still in
the backlog: bytes missed <= window, which is the size and one byte to a whole block more (backlog_window.py; where within that is
drawn). One number per outage, the size that it needs, gives P(full resync) for every size at once, from the same draws.
Beside it what arithmetic says: P(outage > size / mean rate), and P(outage + reconnecting > size / highest rate), which no
simulation may exceed: the stream never grew faster. The sizes that others' rules of thumb give are put through the same draws.
The last replica's absence for longer than repl-backlog-ttl frees the backlog (replicationCron): no size helps then.
Each outage starts at a uniform instant at which it fits into the series; one that is longer than that goes on at its mean rate.
Differs: the chance of an outage does not depend on the load.
Not modelled: a backlog that is not full yet (a master just started); second failures; a master that closes the connection during
a silent outage, as its output buffer's limit is reached.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from redsim.rng import generator
from redsim.run import engine
from redsim.run.backlog_master import FREED, Master, master_of
from redsim.run.backlog_outages import Away, Outages, away, parse_outages
from redsim.run.backlog_sizes import ROUND_SIZES, say_size
from redsim.run.backlog_sync import MORE_SIZES, Limits, SyncPlan, full_sync_spans, gathered, lengths, plan_sync
from redsim.run.backlog_window import buffer_block_bytes, window_bytes
from redsim.run.confidence import band, draws_needed
from redsim.run.offsets import Written, of_frame, read_offsets
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario, load
from redsim.units import MIB, S, say_bytes, say_ns

__all__ = ["BacklogPlan", "plan_backlog", "source_of"]

TARGET, DRAWS = 0.999, 20_000
DRAWS_MIN, DRAWS_MAX = 100, 10_000_000
DEFAULT_BYTES = MIB  # repl-backlog-size of 6.2 to 7.4; less is worth nobody's while
Ints = npt.NDArray[np.int64]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class BacklogPlan:
    """What came of it. `rows`: size_bytes, p_full, low, high, bound_mean, bound_peak, memory_bytes; `formulas`: says, size_bytes,
    p_full, low, high; `backlog_bytes` is None where the target cannot be shown; `sync` None where no length is known."""

    name: str
    master: Master
    written: Written
    outages: Outages
    silent: bool
    target: float
    draws: int
    seed: int
    rows: pd.DataFrame
    formulas: pd.DataFrame
    backlog_bytes: int | None
    hits: int  # full resyncs among the draws, with that
    hits_now: int  # with the size in force
    needed_bytes: Ints = field(repr=False)  # each outage's size
    sync: SyncPlan | None
    notes: Sequence[str] = field(default_factory=tuple)
    guesses: Sequence[str] = field(default_factory=tuple)

    @property
    def draws_needed(self) -> int:
        """So many without a full resync would show the target."""
        return draws_needed(self.target)

    @property
    def backlog_in_force_bytes(self) -> int:
        """The size chosen, that of now where none could be."""
        return self.backlog_bytes or self.master.backlog_bytes

    def share(self, hits: int) -> float:
        """Of the draws."""
        return hits / self.draws

    def band(self, hits: int) -> tuple[float, float]:
        """Where that share may lie."""
        return band(hits, self.draws)

    @property
    def limits(self) -> Limits | None:
        """client-output-buffer-limit replica: what full syncs need, and what holds the backlog; None: it may stay as it is."""
        if self.sync:
            return self.sync.chosen
        now = self.master.limits
        is_short = 0 < now.hard_bytes < (self.backlog_bytes or 0)
        return Limits(self.backlog_bytes or 0, now.soft_bytes, now.soft_s) if is_short else None

    def lines_to_paste(self) -> list[str]:
        """redis.conf lines."""
        lines = [f"repl-backlog-size {say_size(self.backlog_bytes)}"] if self.backlog_bytes else []
        limits = self.limits
        if limits:
            said = f"{say_size(limits.hard_bytes)} {say_size(limits.soft_bytes)} {limits.soft_s}"
            lines.append(f"client-output-buffer-limit replica {said}")
        return lines

    def gathered_memory_bytes(self) -> int:
        """Backlog and output buffers while a full sync of every replica ends, at most: shared in 7.0, each its own in 6.2."""
        most = self.sync.worst_bytes if self.sync else 0
        backlog = self.master.backlog_memory_bytes(self.backlog_in_force_bytes)
        return max(backlog, most) if self.master.is_shared else backlog + self.master.replicas * most


def source_of(scenario: Path | None, offsets: Path | None, overrides: Sequence[str]) -> Scenario | Path:
    """What to plan from, as the command line has it: one of the two."""
    if (scenario is None) == (offsets is None):
        raise ScenarioError("plan backlog: give a scenario with a replica, or --offsets FILE of a real server; one of the two")
    if scenario is not None:
        return load(scenario, overrides)
    if overrides:
        raise ScenarioError(f"--set {overrides[0]}: goes with a scenario; with --offsets give the server's --conf")
    assert offsets is not None
    return offsets


def plan_backlog(
    source: Scenario | Path, outage: str, *, target: float = TARGET, draws: int = DRAWS, silent: bool = False,
    full_sync: str | None = None, rtt: str | None = None, ram: str | None = None, replicas: int | None = None,
    conf: Path | None = None, version: str = "7.0", seed: int = 1, progress: Progress = lambda what, share: None,
) -> BacklogPlan:  # fmt: skip
    """The plan for a scenario with a replica, or for a file of offsets (offsets.py) of a real server.

    `outage`, `full_sync`: durations as backlog_outages.py reads them; `conf`, `version`: what the real server has now, default
    the version's defaults; `silent`: nobody is told that the link is gone. ScenarioError for what cannot be planned.
    """
    if not 0.5 <= target < 1:
        raise ScenarioError(f"--target {target:g}: a share of the outages, from 0.5 to less than 1, such as 0.999")
    if not DRAWS_MIN <= draws <= DRAWS_MAX:
        raise ScenarioError(f"--draws {draws}: from {DRAWS_MIN} to {DRAWS_MAX:,}")
    outages = parse_outages(outage)
    times = lengths(full_sync, [])  # a mistake in it is said before a run is made for nothing
    master = master_of(source, conf, version, rtt, ram, replicas)
    syncs: list[int] = []
    if isinstance(source, Scenario):
        written, syncs = _simulated(source, master.name, progress)
    else:
        written = read_offsets(source)
    times = times or lengths(None, syncs)
    notes = [*written.notes, *outages.notes()]
    silent_for = int(master.conf.get("repl-timeout")) * S if silent else 0
    gone, needed, missed_notes = _needed(written, outages, master, draws, seed, silent_for)
    notes += missed_notes
    backlog, hits = _choose(needed, target)
    sync = None
    if times is not None:
        in_force = backlog or master.backlog_bytes
        spans = times[0].draw_ns(generator(seed, "plan backlog", "full sync"), draws)
        block = buffer_block_bytes(in_force, master.allocator, is_shared=master.is_shared)
        drawn = gathered(written, spans, block, generator(seed, "plan backlog", "full sync", "start"))
        sync = plan_sync(drawn, times[1], master.limits, master.backlog_bytes if master.is_shared else 0, in_force, target)
    else:
        notes.append("nothing is said of the output buffer, as no full sync was seen; say how long one takes: --full-sync 40s")
    name = source.name if isinstance(source, Scenario) else source.stem
    rows = _rows(needed, backlog, master, _Bounds(written, outages, gone, master.freed_after_ns(silent_for)))
    notes += _above_soft(backlog or master.backlog_bytes, master.limits, written)
    formulas = _formulas(needed, written, outages, master, target, gone)
    return BacklogPlan(
        name, master, written, outages, silent, target, draws, seed, rows, formulas, backlog, hits,
        int((needed > master.backlog_bytes).sum()), needed, sync, tuple(notes), master.guesses,
    )  # fmt: skip


def _simulated(scenario: Scenario, master: str, progress: Progress) -> tuple[Written, list[int]]:
    """Offsets of the master, without the warm-up, and lengths of full syncs of its replicas in a run."""
    length_ns = scenario.file.duration
    result = engine.run(scenario, progress=lambda now_ns, _commands: progress("simulating", now_ns / length_ns))
    mine = [name for name, node in scenario.file.nodes.items() if node.replica_of == master]
    frame = result.replication[result.replication["time_s"] * S >= scenario.file.warmup]
    series = of_frame(frame[frame["replica"].isin(mine)], scenario.name, scenario.where("nodes"))
    return series, full_sync_spans(result.syncs[result.syncs["replica"].isin(mine)], length_ns / S)


def _needed(
    written: Written, outages: Outages, master: Master, draws: int, seed: int, silent_for: int
) -> tuple[Away, Ints, list[str]]:
    """The least backlog with which each drawn outage ends in a partial resync; 0: any, or nothing is asked for."""
    lost = outages.draw_ns(generator(seed, "plan backlog", "outage"), draws)
    gone = away(lost, generator(seed, "plan backlog", "cron"), master.rtt_ns, silent_for)
    start = written.starts_ns(generator(seed, "plan backlog", "start"), gone.ns)
    missed = written.bytes_between(start, start + gone.ns)
    notes = []
    if silent_for:
        short = int((~gone.asks).sum())
        piled = written.bytes_between(start, start + np.minimum(lost, silent_for))[~gone.asks]
        hard = master.limits.hard_bytes
        notes.append(
            f"silent: {short:,} of {draws:,} outages are over by TCP's last try within repl-timeout, after"
            f" {say_ns(gone.unasked_ns)}: it goes on by itself, and nobody asks for anything"
        )
        if hard and (piled >= hard).any():
            count = int((piled >= hard).sum())
            notes.append(f"in {count:,} of them the output buffer reaches its hard limit and the link is closed: not modelled")
    longer = int((gone.ns > written.span_ns).sum())
    if longer:
        notes.append(
            f"{longer:,} of {draws:,} outages are longer than the {say_ns(written.span_ns)} of offsets: beyond them the stream"
            f" goes on at its mean rate, {say_bytes(round(written.mean_per_s))} a second"
        )
    freed = gone.asks & (gone.ns > master.freed_after_ns(silent_for))
    if freed.any():
        notes.append(
            f"{int(freed.sum()):,} of {draws:,} outages are longer than repl-backlog-ttl, so that the backlog is freed and the"
            " resync is full whatever its size; repl-backlog-ttl 0 keeps it"
        )
    payload = master.payload_bytes(master.backlog_bytes)
    more = np.zeros(draws, dtype=np.int64)
    if payload:
        phase = (generator(seed, "plan backlog", "block").random(draws) * payload).astype(np.int64)
        more = window_bytes(0, phase + 1, payload)  # than the size
    needed = np.where(gone.asks, np.maximum(missed - more, 0), 0)
    return gone, np.where(freed, FREED, needed), notes


def _above_soft(backlog: int, limits: Limits, written: Written) -> list[str]:
    """What a partial resync sends counts as its output buffer until it has been sent."""
    if not limits.soft_bytes or backlog <= limits.soft_bytes:
        return []
    per_s = round((backlog - limits.soft_bytes) / max(limits.soft_s, 1) + written.mean_per_s)
    return [
        f"a partial resync of all {say_size(backlog)} is above the soft limit of {say_size(limits.soft_bytes)} while it is being"
        f" sent: the replica must take {say_bytes(per_s)} a second, or it is cut off after {limits.soft_s} s"
    ]


def _choose(needed: Ints, target: float) -> tuple[int | None, int]:
    """The least round size, the default at least, whose upper end of P(full resync) meets the target, and its full resyncs."""
    for size in ROUND_SIZES:
        hits = int((needed > size).sum())
        if size >= DEFAULT_BYTES and band(hits, len(needed))[1] <= 1 - target:
            return size, hits
    return None, 0


@dataclass(frozen=True)
class _Bounds:
    """P(full resync) by arithmetic."""

    written: Written
    outages: Outages
    gone: Away
    freed_after_ns: int

    def mean(self, size_bytes: int) -> float:
        """P(outage > size / mean rate)."""
        return self.outages.survival(max(min(size_bytes * S / self.written.mean_per_s, self.freed_after_ns), self._least_ns))

    def peak(self, size_bytes: int) -> float:
        """P(outage + the longest that reconnecting takes > size / highest rate): never less than what is simulated."""
        ns = min(size_bytes * S / self.written.peak_per_s, self.freed_after_ns) - self.gone.longer_ns
        return self.outages.survival(max(ns, self._least_ns))

    @property
    def _least_ns(self) -> float:
        return float(self.gone.unasked_ns or -1)


def _row(needed: Ints, size: int) -> dict[str, Any]:
    hits = int((needed > size).sum())
    low, high = band(hits, len(needed))
    return {"size_bytes": size, "p_full": hits / len(needed), "low": low, "high": high}


def _rows(needed: Ints, backlog: int | None, master: Master, bounds: _Bounds) -> pd.DataFrame:
    """The curve: from the first round size to some beyond the one chosen, or beyond the largest need."""
    kept = needed[needed < FREED]
    last = max(backlog or 0, int(np.quantile(kept, 0.9999, method="higher")) if len(kept) else 0, master.backlog_bytes)
    count = min(sum(size <= last for size in ROUND_SIZES) + MORE_SIZES, len(ROUND_SIZES))
    rows = [
        {**_row(needed, size), "bound_mean": bounds.mean(size), "bound_peak": bounds.peak(size),
         "memory_bytes": master.backlog_memory_bytes(size)}
        for size in ROUND_SIZES[:count]
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _formulas(needed: Ints, written: Written, outages: Outages, master: Master, target: float, gone: Away) -> pd.DataFrame:
    """What rules of thumb make of the same figures, put through the same draws."""
    longest = outages.quantile_ns(target)
    by_mean = written.mean_per_s * longest / S
    said = say_ns(longest)
    sizes = [
        ("the server's size of now", master.backlog_bytes),
        (f"mean rate x outage ({said}): percona.com, Valkey", round(by_mean)),
        (f"mean rate x outage ({said}) x 2: schema.ai", round(2 * by_mean)),
        (f"highest rate x (outage + reconnecting): arithmetic that cannot fail {100 * target:g} % of outages",
         round(written.peak_per_s * (longest + gone.longer_ns) / S)),
    ]  # fmt: skip
    if master.ram_bytes:
        sizes += [(f"{share} % of RAM: percona.com", master.ram_bytes * share // 100) for share in (1, 2)]
    return pd.DataFrame([{"says": says, **_row(needed, size)} for says, size in sizes])
