"""The figures of replication: how far each replica is behind and whether the backlog still has what it lacks; full syncs as a
Gantt.

Mirrors INFO replication.
Differs: lag in seconds is the age of the oldest write that a replica has not executed, which INFO does not tell; INFO's own lag,
the age of the last ACK, is drawn beside it.
NOT modelled: nothing is computed but differences of offsets.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from redsim.report import facts
from redsim.report.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    PINK,
    RED,
    SKY,
    TIME,
    WIDE_IN,
    YELLOW,
    Margins,
    bytes_axis,
    label,
    legend_below,
    mark_warmup,
    new_figure,
    nothing_to_draw,
    short,
)
from redsim.run.result import Result

HOW_TO_READ = {
    "replication": "The line is what a replica lacks, the band what the master's backlog still has: while it is in the band, "
    "a replica that lost its connection gets the rest only; a cross marks where it fell out. Below, how old the oldest write is "
    "that it has not executed, and, dotted, what INFO calls lag: the age of its last ACK.",
    "syncs": "What each replica went through, from losing its master to following it again; a triangle is a partial resync, a "
    "cross a full one.",
}
PANELS_MAX = 3
MARK: dict[str, Any] = {"markersize": 8, "markeredgewidth": 2}
PHASES = {
    "down": ("no process", GREY, "//"),
    "disconnected": ("no connection", PALE, ""),
    "handshake": ("handshake", BLACK, ""),
    "wait_bgsave": ("waits for a BGSAVE", YELLOW, ".."),
    "bgsave": ("master saves", ORANGE, "//"),
    "transfer": ("file on its way", BLUE, ""),
    "save": ("fsync of the file", PINK, "xx"),
    "flush": ("old data freed", RED, "\\\\"),
    "load": ("loads", GREEN, "++"),
}


def is_replication_shown(result: Result) -> bool:
    """Whether there is a replica."""
    return not result.replication.empty


def is_syncs_shown(result: Result) -> bool:
    """Whether a replica went through anything but being online."""
    return not result.syncs.empty


def _replicas(result: Result) -> Iterator[tuple[str, pd.DataFrame]]:
    """The replicas' rows, those that were furthest behind first."""
    groups = [(str(name), rows) for name, rows in result.replication.groupby("replica", sort=False)]
    yield from sorted(groups, key=lambda one: -float(one[1]["lag_bytes"].max()))[:PANELS_MAX]


def replication(result: Result, width_in: float) -> Figure:
    """Bytes behind and the backlog's window, and seconds behind, for each of the replicas that were furthest behind."""
    shown = list(_replicas(result))
    if not shown:
        return nothing_to_draw(width_in, "No server is a replica, so nothing of replication can be drawn.")
    foot = 1.05 if width_in >= WIDE_IN else 1.35
    height_in = 0.35 + foot + 3.6 * len(shown)
    drawn, axes = new_figure(width_in, height_in, Margins(left=1.05, bottom=foot), [1.5, 1.0] * len(shown))
    for i, (name, rows) in enumerate(shown):
        _window(axes[2 * i], rows)
        label(axes[2 * i], y="behind", title=f"What {short(name, 24)} lacks, and the backlog")
        _seconds(axes[2 * i + 1], rows)
        label(axes[2 * i + 1], y="behind, s")
        for ax in axes[2 * i : 2 * i + 2]:
            mark_warmup(ax, facts.warmup_s(result), named=False)
            ax.set_xlim(0, facts.duration_s(result) or 1)
    label(axes[-1], x=TIME)
    handles = [axes[0], axes[1]]
    _legend(drawn, handles, 3 if width_in >= WIDE_IN else 2)
    return drawn


def _legend(drawn: Figure, axes: list[Axes], columns: int) -> None:
    """One legend of two axes at the foot."""
    _, extra_labels = axes[1].get_legend_handles_labels()
    if "age of the last ACK" in extra_labels:
        axes[0].plot([], [], color=RED, linestyle=":", linewidth=1.5, label="age of the last ACK")
    legend_below(drawn, axes[0], columns)


def _window(ax: Axes, rows: pd.DataFrame) -> None:
    at_s = rows["time_s"].to_numpy(dtype=float)
    behind = rows["lag_bytes"].to_numpy(dtype=float)
    window = (rows["master_offset"] - rows["backlog_first_byte_offset"] + 1).to_numpy(dtype=float)
    ax.fill_between(at_s, 0, window, facecolor=SKY, alpha=0.35, linewidth=0, label="in the backlog")
    ax.plot(at_s, rows["backlog_size"], color=GREY, linestyle="--", linewidth=1.0, label="repl-backlog-size")
    ax.plot(at_s, behind, color=BLUE, linewidth=1.6, label="lacking")
    buffers = rows["output_buffer_bytes"].to_numpy(dtype=float)
    if buffers.max() > 2 * rows["backlog_size"].max():
        ax.plot(at_s, buffers, color=ORANGE, linestyle="-.", linewidth=1.2, label="its output buffer")
    is_out = (behind > window) & (rows["state"] != "online").to_numpy()
    fell = np.flatnonzero(is_out & ~np.concatenate([[False], is_out[:-1]]))
    if len(fell):
        ax.plot(at_s[fell], behind[fell], linestyle="", marker="x", markersize=9, markeredgewidth=2, color=RED, label="fell out")
    ax.set_ylim(bottom=0)
    bytes_axis(ax)


def _seconds(ax: Axes, rows: pd.DataFrame) -> None:
    at_s = rows["time_s"].to_numpy(dtype=float)
    ax.plot(at_s, rows["lag_s"], color=BLUE, linewidth=1.4)
    ax.plot(at_s, rows["ack_age_s"], color=RED, linestyle=":", linewidth=1.2, label="age of the last ACK")
    ax.set_ylim(bottom=0)
    ax.grid(axis="y", color=PALE, linewidth=0.6)


def syncs(result: Result, width_in: float) -> Figure:
    """A lane per replica with the phases it went through, and the verdicts."""
    if result.syncs.empty:
        return nothing_to_draw(width_in, "No replica lost its master, so there is no resync to draw.")
    names = list(dict.fromkeys(result.syncs["replica"]))
    used = [phase for phase in PHASES if (result.syncs["phase"] == phase).any()]
    columns = 4 if width_in >= WIDE_IN else 2
    foot = 0.6 + 0.25 * -(-(len(used) + 2) // columns)
    drawn, (ax,) = new_figure(width_in, 0.4 + foot + 0.55 * max(len(names), 2), Margins(left=1.05, bottom=foot))
    least_s = facts.duration_s(result) / 500
    for phase in used:
        said, colour, hatch = PHASES[phase]
        for lane, name in enumerate(names):
            mine = result.syncs[(result.syncs["phase"] == phase) & (result.syncs["replica"] == name)]
            bars = [(row.start_s, max(row.end_s - row.start_s, least_s)) for row in facts.rows(mine)]
            ax.broken_barh(
                bars, (lane - 0.35, 0.7), label=said if lane == 0 else None, facecolor=colour, hatch=hatch, edgecolor="white",
                linewidth=0,
            )  # fmt: skip
    for phase, marker, said in (("partial", "^", "partial resync"), ("full", "x", "full resync")):
        mine = result.syncs[result.syncs["phase"] == phase]
        if len(mine):
            lanes = [names.index(name) for name in mine["replica"]]
            colour = GREEN if phase == "partial" else RED
            ax.plot(mine["start_s"], lanes, linestyle="", marker=marker, label=said, color=colour, **MARK)
    ax.set_yticks(range(len(names)), [short(name, 12) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(0, facts.duration_s(result) or 1)
    label(ax, x=TIME, title="Losing the master, and following it again")
    legend_below(drawn, ax, columns)
    return drawn
