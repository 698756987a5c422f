"""The figures of a plan of the backlog: P(full resync) by its size, the rate of writes, P(overflow) by the hard limit.

Mirrors nothing in Redis. Probabilities are on a logarithmic axis; where nothing was hit only the band's upper end is drawn.
NOT modelled: nothing is computed here.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from redsim.report.style import (
    BLUE,
    GREEN,
    GREY,
    NARROW_IN,
    ORANGE,
    PALE,
    PINK,
    RED,
    SKY,
    WIDE_IN,
    Margins,
    label,
    legend_below,
    new_figure,
)
from redsim.run.plan_backlog import BacklogPlan
from redsim.units import KIB, MIB, say_bytes

TITLES = {
    "backlog": "Full resyncs by repl-backlog-size",
    "rate": "What the master wrote",
    "sync": "Full syncs broken off, by the hard limit",
}
HOW_TO_READ = {
    "backlog": "Each outage that does not fit the backlog costs a full resync. Go right to a size, read up to the share "
    "of outages that do not fit; the shade is how sure the draws are. Above the line of the target is too small. The dotted line "
    "is what mean rate and outage alone would say: where it lies below the simulation, bursts and reconnecting make the "
    "difference. The dashed bound takes the highest rate all the time and cannot be exceeded.",
    "rate": "Bytes a second into the replication stream, from sample to sample, and their mean. An outage during a peak misses "
    "more than the mean says; a peak that is shorter than the distance of two samples is not in it.",
    "sync": "While a replica is sent the whole data, what is written meanwhile gathers for it. Go right to a hard limit of "
    "client-output-buffer-limit replica, read up to the share of full syncs that reach it and begin anew. Above the line of the "
    "target is too small; at 100 % a full sync never ends.",
}
WIDE_HEIGHT_IN, LINES_IN = 3.6, 0.24
POINTS_MAX = 2000  # of the rate: a figure shows no more


def figure(plan: BacklogPlan, name: str, *, narrow: bool) -> Figure:
    """`backlog`, `rate` or `sync`, for a screen or for a phone."""
    if name == "rate":
        return _rate(plan, narrow=narrow)
    if name == "sync":
        return _sync(plan, narrow=narrow)
    drawn, ax = _axes(narrow, 6)
    rows = plan.rows
    _shares(ax, rows, "p_full", plan)
    x, mean, peak = rows["size_bytes"], _seen(rows["bound_mean"], plan), _seen(rows["bound_peak"], plan)
    ax.plot(x, mean, color=GREEN, linestyle=":", linewidth=1.6, label="by the mean rate")
    ax.plot(x, peak, color=RED, linestyle="--", linewidth=1.3, label="bound, highest rate")
    _sizes(ax, {"now": plan.master.backlog_bytes, "chosen": plan.backlog_bytes})
    label(ax, x="repl-backlog-size", y="share of outages", title=TITLES[name])
    legend_below(drawn, ax, 2 if narrow else 4)
    return drawn


def _sync(plan: BacklogPlan, *, narrow: bool) -> Figure:
    assert plan.sync is not None
    drawn, ax = _axes(narrow, 5)
    _shares(ax, plan.sync.rows, "p", plan)
    chosen = plan.sync.chosen.hard_bytes if plan.sync.chosen else None
    _sizes(ax, {"now": plan.sync.now.hard_bytes, "chosen": chosen})
    label(ax, x="hard limit", y="share of full syncs", title=TITLES["sync"])
    legend_below(drawn, ax, 2 if narrow else 4)
    return drawn


def _rate(plan: BacklogPlan, *, narrow: bool) -> Figure:
    drawn, (ax,) = new_figure(NARROW_IN if narrow else WIDE_IN, 2.6, Margins(bottom=0.8))
    step = -(-len(plan.written.at_ns) // POINTS_MAX)
    at, offset = plan.written.at_ns[::step], plan.written.offset_bytes[::step]
    rates = np.diff(offset) * 1e9 / np.diff(at)
    ax.stairs(rates / MIB, at / 1e9, color=BLUE, linewidth=1.2, label="written", baseline=None)
    ax.axhline(plan.written.mean_per_s / MIB, color=GREEN, linestyle=":", linewidth=1.6, label="mean")
    ax.set_ylim(bottom=0)
    ax.set_xlim(0, plan.written.span_ns / 1e9)
    ax.grid(axis="y", color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    label(ax, x="time, s", y="MiB/s", title=TITLES["rate"])
    legend_below(drawn, ax, 2)
    return drawn


def _axes(narrow: bool, entries: int) -> tuple[Figure, Axes]:
    foot = 0.62 + LINES_IN * -(-entries // (2 if narrow else 4))
    size = Margins(bottom=foot, left=0.85, right=0.4)
    drawn, (ax,) = new_figure(NARROW_IN if narrow else WIDE_IN, WIDE_HEIGHT_IN + foot - 0.9, size)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(LogLocator(base=2, numticks=5 if narrow else 9))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: say_bytes(round(value)) if value >= KIB else ""))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.grid(color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    return drawn, ax


def _floor(plan: BacklogPlan) -> float:
    """The least share that is drawn: a tenth of what is allowed, or a third of one hit."""
    return min((1 - plan.target) / 10, 0.3 / plan.draws)


def _seen(shares: "pd.Series[float]", plan: BacklogPlan) -> "pd.Series[float]":
    return shares.where(shares >= _floor(plan))


def _shares(ax: Axes, rows: pd.DataFrame, column: str, plan: BacklogPlan) -> None:
    """The simulated curve in its band, and the target."""
    floor = _floor(plan)
    ax.fill_between(rows["size_bytes"], rows["low"].clip(lower=floor), rows["high"].clip(lower=floor), color=SKY, alpha=0.45,
                    linewidth=0, label="95 % band")  # fmt: skip
    ax.plot(rows["size_bytes"], rows[column].where(rows[column] > 0), color=BLUE, linewidth=1.8, label="simulated")
    ax.axhline(1 - plan.target, color=GREY, linewidth=1.0, linestyle=(0, (5, 2)), label=f"target {100 * (1 - plan.target):.3g} %")
    ax.set_ylim(floor, 1.6)
    ax.set_xlim(float(rows["size_bytes"].min()), float(rows["size_bytes"].max()))


def _sizes(ax: Axes, sizes: dict[str, int | None]) -> None:
    low, high = ax.get_xlim()
    looks = {"now": (ORANGE, "-."), "chosen": (PINK, "-")}
    for name, size in sizes.items():
        if size:
            ax.set_xlim(min(low, 0.8 * size), max(high, 1.25 * size))
            low, high = ax.get_xlim()
            ax.axvline(size, color=looks[name][0], linestyle=looks[name][1], linewidth=1.5, label=f"{name}: {say_bytes(size)}")
