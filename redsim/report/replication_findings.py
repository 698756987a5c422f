"""Findings about replicas: full syncs that a larger backlog would have spared, buffers that overflow, how stale reads are.

Mirrors the inequality that operators go by: a full sync converges if what is written meanwhile stays below the output buffer's
limit; a partial one is possible if what was missed is in the backlog.
NOT modelled: which of several cures is the cheapest.
"""

import re
from typing import Any

import numpy as np

from redsim.report import facts
from redsim.report.client_findings import Findings
from redsim.report.facts import number, say_count, say_times
from redsim.run.result import Finding, Result
from redsim.units import MIB, S, say_bytes, say_ns

STALE_S = 0.1  # a reader notices
LOOP = 2  # full syncs that ended by the output buffer's limit: it goes on like that
PINNED = 1.5  # times its size, a backlog that a replica keeps
_BEFORE = re.compile(r"offset (\d+) is before the backlog's first byte (\d+)")


def replicas(result: Result) -> dict[str, dict[str, Any]]:
    """Replicas of the summary, by name."""
    return dict(result.summary.get("replicas") or {})


def _master(result: Result, name: str) -> str:
    """Whom it follows, or followed last before it was promoted."""
    followed = [str(row.master) for row in facts.rows(result.roles) if row.node == name and row.master]
    return str(replicas(result)[name].get("master") or (followed[-1] if followed else "–"))


def _next_size(missed: float) -> str:
    """A round size, a half larger."""
    size = MIB
    while size < 1.5 * missed:
        size *= 2
    return f"{size // MIB}mb"


def resynced(result: Result) -> str:
    """For the answer: what became of each replica that lost its master, or never had one; "": none did."""
    told = []
    for name, numbers in replicas(result).items():
        over, downs = len(numbers.get("output_buffer_overflows") or []), number(numbers.get("link_downs"))
        partial, full = number(numbers.get("partial_syncs_ok")), number(numbers.get("full_syncs"))
        if not partial + full:
            continue
        verdicts = [f"{say_count(count)} {said}" for count, said in ((partial, "partial"), (full, "full")) if count]
        syncs = f"{' and '.join(verdicts)} resync{'s' if partial + full > 1 else ''}"
        longest = max(numbers.get("resync_s") or [0])
        if numbers.get("state") != "online" and over:
            told.append(f"{name} never came back: {syncs}, {say_times(over)} its output buffer was full before it was done")
        elif numbers.get("state") != "online":
            told.append(f"{name} is not back at the end, after {syncs}")
        elif downs:
            lasted = f"{say_ns(round(longest * S))} at most"
            told.append(f"{name} lost its master {say_times(int(downs))} and came back by {syncs}, {lasted}")
        else:
            told.append(f"{name} came online by {syncs}")
    return f"{'; '.join(told)}. " if told else ""


def overflow_loop(result: Result) -> Findings:
    """The output buffer was too small for what is written during a full sync: once, or for ever."""
    for name, numbers in replicas(result).items():
        over = numbers.get("output_buffer_overflows") or []
        if not over:
            continue
        last = over[-1]
        omem, at_s = number(last["omem_bytes"]), number(last["at_s"])
        rows = result.replication[(result.replication["replica"] == name) & (result.replication["time_s"] <= at_s)]
        grown = rows["master_offset"].diff().sum() / max(np.ptp(rows["time_s"]), 1e-9) if len(rows) > 1 else 0
        rate = f" at {say_bytes(round(grown))}/s" if grown > 0 else ""
        text = f"{_master(result, name)} closed {name} {say_times(len(over))} because its output buffer was full"
        text += f", at {say_bytes(round(omem))}{rate}"
        if len(over) >= LOOP and numbers.get("state") != "online":
            text += f": {say_count(number(numbers['full_syncs']))} full syncs began and none ended. This goes on for ever"
        severity = "critical" if len(over) >= LOOP else "warning"
        cure = f"client-output-buffer-limit replica {_next_size(2 * omem)} {_next_size(omem)} 60"
        cure += "; a faster transfer or load, or fewer writes"
        yield Finding(severity, text + ".", cure)


def spared_full_syncs(result: Result) -> Findings:
    """Full syncs because the backlog had given up what the replica lacked."""
    for name in replicas(result):
        full = result.syncs[(result.syncs["replica"] == name) & (result.syncs["phase"] == "full")]
        found = [(row, match) for row in facts.rows(full) if (match := _BEFORE.search(str(row.note)))]
        if not found:
            continue
        missed = max(_missed(result, name, row.start_s) for row, _ in found)
        size = number(result.replication["backlog_size"].iloc[0]) if len(result.replication) else 0
        count = "one full sync" if len(found) == 1 else f"{len(found)} full syncs"
        text = (
            f"{name} needed {count} of {_master(result, name)} because the backlog of {say_bytes(round(size))} no longer had what"
            f" it missed, {say_bytes(round(missed))} at most"
        )
        yield Finding("warning", text + ".", f"repl-backlog-size {_next_size(missed)}")


def _missed(result: Result, name: str, at_s: float) -> float:
    rows = result.replication[(result.replication["replica"] == name) & (result.replication["time_s"] <= at_s + 1e-9)]
    return number(rows["lag_bytes"].iloc[-1]) if len(rows) else 0.0


def stale_reads(result: Result) -> Findings:
    """How long after a write on the master a replica has it."""
    for name, numbers in replicas(result).items():
        lag = numbers.get("lag_s") or {}
        p99, worst = number(lag.get("p99")), number(lag.get("max"))
        if not number(numbers.get("units_executed")):
            continue
        p50_said, p99_said, worst_said = (say_ns(round(one * S)) for one in (number(lag.get("p50")), p99, worst))
        text = (
            f"A write is on {name} {p50_said} after it was on {_master(result, name)} at the median, {p99_said} at p99 and"
            f" {worst_said} at worst; INFO's lag counts seconds since the last ACK instead"
        )
        severity = "warning" if p99 > STALE_S else "info"
        yield Finding(severity, text + ".", "read from the master what must be fresh, or WAIT after the write")


def pinned_backlog(result: Result) -> Findings:
    """A replica that is slow keeps blocks of the shared buffer: the backlog is longer than its size."""
    frame = result.replication
    if frame.empty:
        return
    at = int(frame["backlog_histlen"].to_numpy().argmax())
    length, size = (int(frame[column].iloc[at]) for column in ("backlog_histlen", "backlog_size"))
    if length > PINNED * size:
        text = (
            f"The replication buffer grew to {say_bytes(length)}, with repl-backlog-size {say_bytes(size)}: a slow replica keeps"
            " its blocks, up to client-output-buffer-limit replica"
        )
        yield Finding("info", text + ".", "leave that much room above maxmemory, which does not count it")


def replica_rows(result: Result) -> tuple[str, list[str], list[list[str]]]:
    """(caption, head, rows) of the page's table of replicas."""
    head = ["replica", "of", "at the end", "full syncs", "partial", "partial refused", "connections lost", "buffer overflows",
            "a write is there after, p50", "p99", "at worst", "bytes behind at worst", "longest resync"]  # fmt: skip
    rows = []
    for name, numbers in replicas(result).items():
        counts = [numbers.get(key) for key in ("full_syncs", "partial_syncs_ok", "partial_syncs_refused", "link_downs")]
        lag, bytes_behind = numbers.get("lag_s") or {}, numbers.get("lag_bytes") or {}
        seconds = [say_ns(round(number(lag.get(key)) * S)) for key in ("p50", "p99", "max")]
        longest = max(numbers.get("resync_s") or [0])
        rows.append([
            name, _master(result, name), str(numbers.get("state")), *(say_count(number(count)) for count in counts),
            say_count(len(numbers.get("output_buffer_overflows") or [])), *seconds,
            say_bytes(int(number(bytes_behind.get("max")))),
            say_ns(round(longest * S)) if longest else "–",
        ])  # fmt: skip
    return "Replicas", head, rows


REPLICATION_FINDINGS = (overflow_loop, spared_full_syncs, pinned_backlog, stale_reads)
