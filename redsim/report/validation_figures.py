"""The figures of the validation page: predicted against measured, and the error by utilisation.

Mirrors nothing in Redis. Both axes of the first are logarithmic, so that a bar of so many per cent is a band of one width. Errors
beyond the edge of the second are drawn on the edge, as triangles. NOT modelled: the spread of the repeats; the table has it.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from redsim.report.style import BLACK, BLUE, GREEN, GREY, NARROW_IN, ORANGE, PALE, PINK, RED, WIDE_IN, Margins, label, new_figure
from redsim.report.trust import WORDS
from redsim.units import say_ns

PANELS = ("throughput_per_s", "p50_us", "p99_us", "p999_us", "stall_us", "cpu_us_per_command")
VERDICTS = {"pass": ("o", BLUE, "pass"), "inconclusive": ("s", ORANGE, "inconclusive"), "miss": ("X", RED, "miss")}
FITTED = ("+", GREY, "fitted")
SERIES = {"throughput_per_s": (BLUE, "o"), "p50_us": (GREEN, "s"), "p99_us": (RED, "X"), "cpu_us_per_command": (PINK, "D")}
EDGE_PCT = 60.0

HOW_TO_READ = {
    "against": "Each mark is one case. On the diagonal the prediction is right; in the grey band it is within the bar. Above "
    "it the model promises more than was measured, below it less.",
    "utilisation": "Above the line the model says too much, below it too little; the thick line is the median of each band. "
    "Marks on the edge lie beyond it.",
}


def against(rows: pd.DataFrame, bars: dict[str, float], *, narrow: bool) -> Figure:
    """Predicted against measured, a panel per quantity of PANELS that has rows; `bars` in per cent by quantity."""
    names = [name for name in PANELS if (rows["name"] == name).any()]
    columns = 2 if narrow else 3
    lines = max(1, -(-len(names) // columns))
    width = NARROW_IN if narrow else WIDE_IN
    height = 0.55 + lines * (width / columns + 0.25)
    drawn = Figure(figsize=(width, height), facecolor="white")
    drawn.subplots_adjust(left=0.6 / width, right=1 - 0.12 / width, top=1 - 0.35 / height, bottom=0.85 / height,
                          wspace=0.42 if narrow else 0.36, hspace=0.38)  # fmt: skip
    axes = drawn.subplots(lines, columns, squeeze=False).flatten()
    for ax, name in zip(axes, names, strict=False):
        _panel(ax, rows[rows["name"] == name], name, bars.get(name, 0.0), 8 if narrow else 9)
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    marks = [*VERDICTS.values(), FITTED]
    handles = [axes[0].plot([], [], mark, color=colour, markersize=6)[0] for mark, colour, _ in marks]
    drawn.legend(handles, [said for *_, said in marks], loc="lower center", ncols=4, frameon=False, fontsize=9,
                 handletextpad=0.2, columnspacing=1.0)  # fmt: skip
    drawn.text(0.5, 0.36 / height, "measured (across), predicted (up)", ha="center", fontsize=9)
    return drawn


def _panel(ax: Axes, rows: pd.DataFrame, name: str, bar_pct: float, points: int) -> None:
    shown = rows[(rows["measured"] > 0) & (rows["predicted"] > 0)]
    ax.set_title(WORDS[name], fontsize=points + 1, loc="left", fontweight="bold")
    ax.tick_params(labelsize=points - 1, color=GREY)
    ax.spines[["top", "right"]].set_visible(False)
    if shown.empty:
        return
    low, high = shown[["measured", "predicted"]].to_numpy().min() / 1.3, shown[["measured", "predicted"]].to_numpy().max() * 1.3
    ends = np.array([low, high])
    ax.fill_between(ends, ends * (1 - bar_pct / 100), ends * (1 + bar_pct / 100), color=PALE, linewidth=0)
    ax.plot(ends, ends, color=GREY, linewidth=0.8)
    fitted = shown["fitted"].astype(bool)
    for verdict, (mark, colour, _) in VERDICTS.items():
        mine = shown[(shown["verdict"] == verdict) & ~fitted]
        ax.plot(
            mine["measured"],
            mine["predicted"],
            mark,
            color=colour,
            markersize=4.5,
            alpha=0.85,
            linestyle="none",
            markeredgewidth=0,
        )
    ax.plot(shown[fitted]["measured"], shown[fitted]["predicted"], FITTED[0], color=FITTED[1], markersize=5, linestyle="none")
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    unit = _say_rate if name == "throughput_per_s" else _say_us
    subs = (1.0,) if high / low > 100 else ((1.0, 3.0) if high / low > 12 else (1.0, 2.0, 5.0))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=subs, numticks=6))
        axis.set_major_formatter(FuncFormatter(unit))
        axis.set_minor_locator(NullLocator())


def _say_us(us: float, _: Any = None) -> str:
    return say_ns(round(us * 1000))


def _say_rate(per_s: float, _: Any = None) -> str:
    if per_s >= 1e6:
        return f"{per_s / 1e6:g}M"
    return f"{per_s / 1000:g}k" if per_s >= 1000 else f"{per_s:g}"


def utilisation(rows: pd.DataFrame, bands: list[tuple[float, float]], *, narrow: bool) -> Figure:
    """Signed error in per cent over the main thread's utilisation, the quantities of SERIES; `bands` are (from, to), 0..1."""
    width = NARROW_IN if narrow else WIDE_IN
    drawn, (ax,) = new_figure(width, 3.9, Margins(bottom=1.15 if narrow else 0.85, left=0.7))
    ax.axhline(0, color=BLACK, linewidth=0.8)
    for name, (colour, mark) in SERIES.items():
        mine = rows[(rows["name"] == name) & ~rows["fitted"].astype(bool) & np.isfinite(rows["error_pct"].astype(float))]
        shown = mine["error_pct"].astype(float).clip(-EDGE_PCT, EDGE_PCT)
        is_out = mine["error_pct"].abs() > EDGE_PCT
        used = 100 * mine["utilisation"].astype(float)
        ax.plot(used[~is_out], shown[~is_out], mark, color=colour, markersize=4, alpha=0.8, markeredgewidth=0, label=WORDS[name])
        ax.plot(used[is_out], shown[is_out], "^", color=colour, markersize=5, alpha=0.8, markeredgewidth=0)
        for low, high in bands:
            part = mine[(mine["utilisation"] >= low) & (mine["utilisation"] < high)]["error_pct"]
            if len(part):
                middle = float(np.clip(part.median(), -EDGE_PCT, EDGE_PCT))
                ax.plot([100 * low + 1, min(100 * high, 100) - 1], [middle] * 2, color=colour, linewidth=2.2, alpha=0.9)
    for low, _ in bands[1:]:
        ax.axvline(100 * low, color=PALE, linewidth=0.8)
    ax.set(xlim=(0, 101), ylim=(-EDGE_PCT - 3, EDGE_PCT + 3))
    label(ax, x="main thread busy, %", y="predicted − measured, %")
    drawn.legend(*ax.get_legend_handles_labels(), loc="lower center", ncols=2 if narrow else 4, frameon=False, fontsize=9)
    return drawn
