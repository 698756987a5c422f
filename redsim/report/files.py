"""What a run leaves in its folder: the page, the numbers, the frames as CSV, the log and the trace.

Mirrors nothing in Redis. Each file is written beside its place and then renamed, so that a reader never meets half a file; a run
again replaces them.
NOT modelled: old files that a new run does not write are left alone.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from redsim.report import facts
from redsim.report.answer import answer
from redsim.report.facts import number, say_count, say_share, say_us
from redsim.report.findings import findings
from redsim.report.html import ICONS, PERCENTILES, render_html
from redsim.report.perfetto import trace_events
from redsim.run.result import Result

FRAMES = ("latency", "memory", "replication", "syncs", "stalls", "durability")


def write_report(result: Result, out_dir: Path, *, trace: bool) -> list[Path]:
    """Write report.html, summary.json, the CSVs, events.log and, with `trace`, trace.json; the paths written.

    The folder is made if it is missing; OSError if that or a write fails, with nothing half written.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    texts = {"report.html": render_html(result), "summary.json": summary_json(result)}
    texts |= {f"{name}.csv": csv_text(getattr(result, name)) for name in FRAMES}
    texts["events.log"] = events_log(result)
    if result.repeats is not None:
        texts["repeats.csv"] = csv_text(result.repeats.rows)
    if trace:
        texts["trace.json"] = json.dumps(plain(trace_events(result)), allow_nan=False, separators=(",", ":"))
    return [replace_file(out_dir / name, text) for name, text in texts.items()]


def replace_file(path: Path, text: str) -> Path:
    """Write the file beside its place and rename it, so that nobody meets half of it; its path."""
    waiting = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        waiting.write_text(text, encoding="utf-8", newline="")
        waiting.replace(path)
    finally:
        waiting.unlink(missing_ok=True)
    return path


def plain(value: Any) -> Any:
    """The value as JSON has it: numpy scalars as int or float, NaN and infinities null, tuples as lists."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, str) else str(value)


def summary_json(result: Result) -> str:
    """summary.json in the order the run filled it; findings are added when the run has none; a partial run
    says so.
    """
    found = result.findings or findings(result)
    told = [{"severity": f.severity, "text": f.text, "directive": f.directive} for f in found]
    many = {} if result.repeats is None else {"repeats": result.repeats.summary()}
    summary = {**result.summary, **many, "partial": result.partial, "answer": answer(result), "findings": told}
    return json.dumps(plain(summary), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as CSV with its own columns; floats in full, so that reading it back gives the same numbers."""
    return frame.to_csv(index=False, lineterminator="\n")


def events_log(result: Result) -> str:
    """One line per event: simulated seconds, who, what."""
    return "".join(f"{row.time_s:14.6f} {row.who}: {row.text}\n" for row in facts.rows(result.events))


def headline(result: Result) -> str:
    """For the terminal, 12 lines at most: the answer, a line per group and node, the gravest findings."""
    lines = [answer(result)]
    for name, group in list(facts.groups(result).items())[:4]:
        spread = "  ".join(f"{said} {say_us(facts.latency_us(group, key))}" for key, said in PERCENTILES.items())
        lines.append(f"  {name}: {say_count(number(group.get('throughput_per_s')))} requests/s  {spread}")
    for name, node in list(facts.nodes(result).items())[:2]:
        lines.append(f"  {name}: main thread {say_share(facts.loop_share(node))} busy")
    found = result.findings or findings(result)
    lines += [f"{ICONS[f.severity]} {f.severity}: {f.text}" for f in found[: 12 - len(lines)]]
    return "\n".join(lines[:12])
