"""Crashes of a run in its summary: what each took, how long the server was away.

Mirrors INFO persistence (loading_*) for the last start. Not modelled: loading_eta_seconds and what else counts down.
"""

from typing import Any

from redsim.run.crash import Crash, Life
from redsim.units import S

__all__ = ["away_spans", "crash_rows"]


def crash_rows(life: Life | None) -> dict[str, Any]:
    """lost_acked_writes and crashes of nodes.<node>, {} for one that nothing could end. In s of the run; None: not in it."""
    if life is None:
        return {}
    return {
        "lost_acked_writes": sum(crash.lost_commands for crash in life.crashes),
        "crashes": [_row(crash) for crash in life.crashes],
    }


def away_spans(life: Life | None, end_ns: int) -> list[tuple[int, int]]:
    """(from, to) in ns of the times when nobody was served."""
    crashes = life.crashes if life is not None else []
    ends = [crash.at_ns for crash in crashes[1:]] + [end_ns]
    return [(crash.at_ns, end if crash.ready_ns is None else crash.ready_ns) for crash, end in zip(crashes, ends, strict=False)]


def _row(crash: Crash) -> dict[str, Any]:
    loaded, ready_ns, back_ns = crash.loaded, crash.ready_ns, crash.back_ns
    return {
        "at_s": crash.at_ns / S,
        "fault": crash.fault,
        "appendfsync": crash.policy,
        "lost_acked_writes": crash.lost_commands,
        "lost_bytes": crash.lost_bytes,
        "oldest_lost_s": round(crash.oldest_ns / S, 6),
        "torn_bytes": crash.torn_bytes,
        "keys_before": crash.keys_before,
        "keys_after": loaded.keys if loaded else None,
        "starts_s": _seconds(crash.back_ns),
        "refuses_to_start": crash.refused,
        "loads": loaded.what if loaded else None,
        "loaded_bytes": loaded.file_bytes if loaded else None,
        "replayed_commands": loaded.commands if loaded else None,
        "serves_s": _seconds(ready_ns),
        "down_s": _seconds(back_ns - crash.at_ns if back_ns is not None else None),
        "loading_s": _seconds(ready_ns - back_ns if ready_ns is not None and back_ns is not None else None),
    }


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / S
