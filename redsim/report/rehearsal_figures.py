"""The figures of a rehearsal: hit ratio by the size of the cache, and over the trace.

Mirrors nothing in Redis. Bounds are drawn in black, policies in colours; more than five policies repeat the colours with another
mark. noeviction is no cache and far below the others: the tables have it.
NOT modelled: the interval of several seeds; the table has it.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from redsim.report.style import BLACK, LINES, NARROW_IN, PALE, WIDE_IN, Margins, label, legend_below, new_figure, short
from redsim.units import say_bytes

COLOURS = LINES[:5]  # the sixth is black, as the bounds are
BOUND_LINES = {"exact LRU": "-", "Belady": ":"}
MARKS = ("o", "s", "^", "D")
HOW_TO_READ = {
    "curve": "Go right to the size you can afford, read up to the share of reads that hit. Where a line is flat, more memory "
    "buys nothing; between the best policy and Belady lies what no policy without knowledge of the future can get.",
    "windows": "Each line is one policy at the limit asked for: the share of reads that hit in each hundredth of the trace. The "
    "first part is the cache filling up; a dip that all share is the trace's, not the policy's.",
}


def curve(points: pd.DataFrame, line: pd.DataFrame, unit: str, *, narrow: bool) -> Figure:
    """Hit ratio by limit in `unit` (keys or bytes), a line per row of the table; `line`: exact LRU at many limits, or empty."""
    drawn, ax = _axes(narrow, points["said"].nunique())
    for said, mine in points.groupby("said", sort=False):
        is_drawn_finely = said == "exact LRU" and not line.empty
        if not is_drawn_finely:
            _draw(ax, list(points["said"].unique()), str(said), mine["limit"], mine["hit_ratio"], marked=True)
    if not line.empty:
        first = int(points["limit"].min())
        seen = line[line["limit_keys"] >= first]
        ax.plot(seen["limit_keys"], seen["hit_ratio"], color=BLACK, linewidth=1.2, label="exact LRU")
    ax.set_xscale("log")
    if unit == "bytes":
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: say_bytes(round(value))))
        ax.xaxis.set_minor_formatter(FuncFormatter(lambda _value, _: ""))
    label(ax, x="maxmemory" if unit == "bytes" else "keys that fit", y="hit ratio", title="Hit ratio by size")
    legend_below(drawn, ax, 2 if narrow else 3)
    return drawn


def windows(parts: pd.DataFrame, *, narrow: bool) -> Figure:
    """Hit ratio over the trace, a column of `parts` per row of the table, its index the share of the trace."""
    drawn, ax = _axes(narrow, parts.shape[1])
    for said in parts.columns:
        _draw(ax, list(parts.columns), str(said), 100 * parts.index.to_series(), parts[said], marked=False)
    label(ax, x="part of the trace [%]", y="hit ratio", title="Hit ratio over the trace")
    legend_below(drawn, ax, 2 if narrow else 3)
    return drawn


def _axes(narrow: bool, lines: int) -> tuple[Figure, Axes]:
    rows = -(-lines // (2 if narrow else 3))
    drawn, (ax,) = new_figure(NARROW_IN if narrow else WIDE_IN, 3.4 + 0.22 * rows, Margins(bottom=0.65 + 0.22 * rows))
    ax.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    ax.grid(axis="y", color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    return drawn, ax


def _draw(ax: Axes, names: list[str], said: str, x: "pd.Series[float]", y: "pd.Series[float]", *, marked: bool) -> None:
    if said in BOUND_LINES:
        ax.plot(x, y, color=BLACK, linestyle=BOUND_LINES[said], linewidth=1.2, label=said)
        return
    at = [name for name in names if name not in BOUND_LINES].index(said)
    colour, dashes = COLOURS[at % len(COLOURS)]
    mark = MARKS[at // len(COLOURS) % len(MARKS)] if marked or at >= len(COLOURS) else ""
    ax.plot(x, y, color=colour, linestyle=dashes, linewidth=1.4, marker=mark, markersize=3.5, markevery=1 if marked else 10,
            label=short(said, 28))  # fmt: skip
