"""The figure of the AOF: when its fsync was in flight, a write put off or blocked, and what a crash would have taken then.

Mirrors flushAppendOnlyFile's three ways with a write. Differs: with appendfsync always each turn of the loop has a fsync of its
own; those are in the stalls, not here. NOT modelled: nothing is computed but differences of counters.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from redsim.report import facts
from redsim.report.style import (
    BLUE,
    GREY,
    ORANGE,
    PALE,
    RED,
    TIME,
    WIDE_IN,
    Margins,
    label,
    legend_below,
    mark_away,
    mark_warmup,
    new_figure,
    nothing_to_draw,
)
from redsim.run.result import Result

HOW_TO_READ = {
    "durability": "Above, what the disk did to the AOF: a write that is put off waits in memory, one that is blocked holds "
    "everybody up. Below, the acknowledged writes that a crash at that moment would have taken: a tooth is a fsync.",
}
_LANES = {"fsync": ("fsync in flight", BLUE), "postponed": ("write put off", ORANGE), "blocked": ("write blocked", RED)}

JUST_BEFORE_S = 1e-6  # what is durable moves at once, when a fsync is done


def is_durability_shown(result: Result) -> bool:
    """Whether a node's AOF had anything to lose."""
    frame = result.durability
    return not frame.empty and bool((frame["acked_cmds"] > frame["durable_cmds"]).any())


def durability(result: Result, width_in: float) -> Figure:
    """The lanes of the AOF and the writes at stake over time, of the first node that has an AOF."""
    if result.durability.empty:
        return nothing_to_draw(width_in, "No node has an append-only file, so nothing of it can be drawn.")
    node = str(result.durability["node"].iloc[0])
    foot = 0.85 if width_in >= WIDE_IN else 1.2
    drawn, (lanes, stake) = new_figure(width_in, 0.35 + foot + 3.1, Margins(left=1.2, bottom=foot), [0.8, 1.6])
    _lanes(lanes, result, node)
    label(lanes, title=f"The AOF of {node}")
    _stake(stake, result, node)
    label(stake, x=TIME, y="writes", title="Acknowledged writes that a crash would take")
    legend_below(drawn, stake, 3 if width_in >= WIDE_IN else 1)
    return drawn


def _lanes(ax: Axes, result: Result, node: str) -> None:
    spans = result.fsyncs[result.fsyncs["node"] == node]
    least_s = facts.duration_s(result) / 600  # a shorter span would not be seen
    for height, (what, (_, colour)) in enumerate(_LANES.items()):
        mine = spans[spans["what"] == what]
        bars = [(row.start_s, max(row.duration_us / 1e6, least_s)) for row in facts.rows(mine)]
        ax.broken_barh(bars, (2.1 - height, 0.8), facecolor=colour)
    ax.set_yticks([2.5, 1.5, 0.5], [said for said, _ in _LANES.values()])
    ax.set_ylim(0, 3)
    ax.set_xlim(0, facts.duration_s(result) or 1)


def _stake(ax: Axes, result: Result, node: str) -> None:
    frame = result.durability[result.durability["node"] == node]
    points = {name: frame[name].to_numpy(dtype=float) for name in ("time_s", "acked_cmds", "written_cmds", "durable_cmds")}
    at_s = np.sort(np.concatenate([points["time_s"], points["time_s"] - JUST_BEFORE_S]))
    acked, written = (np.interp(at_s, points["time_s"], points[name]) for name in ("acked_cmds", "written_cmds"))
    durable = points["durable_cmds"][np.maximum(np.searchsorted(points["time_s"], at_s, side="right") - 1, 0)]
    power, kill = np.maximum(acked - durable, 0), np.maximum(acked - written, 0)
    ax.fill_between(at_s, 0, power, facecolor=PALE, edgecolor=GREY, linewidth=0.8, label="by a power loss or a crash of the OS")
    ax.fill_between(
        at_s, 0, kill, facecolor=RED, edgecolor="white", hatch="//", linewidth=0, label="of these by a kill of the process"
    )
    mark_warmup(ax, facts.warmup_s(result), named=False)
    mark_away(ax, facts.away_s(result, node), named=True)
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    ax.grid(axis="y", color=PALE, linewidth=0.6)
