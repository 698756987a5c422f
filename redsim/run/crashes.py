"""Crashes of a run in its summary: what each took, how long the server was away.

Mirrors INFO persistence (loading_*) for the last start. Not modelled: loading_eta_seconds and what else counts down.
"""

from typing import Any

from redsim.run.crash import Crash, Life
from redsim.units import S

__all__ = ["crash_rows"]


def crash_rows(life: Life | None) -> dict[str, Any]:
    """lost_acked_writes and crashes of nodes.<node>, {} for a node that nothing was to strike. Seconds of the run; None: not in it."""
    if life is None:
        return {}
    return {
        "lost_acked_writes": sum(crash.lost_commands for crash in life.crashes),
        "crashes": [_row(crash) for crash in life.crashes],
    }


def _row(crash: Crash) -> dict[str, Any]:
    loaded = crash.loaded
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
        "serves_s": _seconds(crash.ready_ns),
        "down_s": _seconds(crash.back_ns - crash.at_ns if crash.back_ns is not None else None),
        "loading_s": _seconds(crash.ready_ns - crash.back_ns if crash.ready_ns is not None and crash.back_ns is not None else None),
    }


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / S
