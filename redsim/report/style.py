"""How the figures look: colours that colour-blind readers tell apart, line styles beside colours, axes that
say their unit.

Mirrors nothing in Redis; the palette is Okabe and Ito's (2008), the density map cividis. Object-oriented
matplotlib only, so a report changes no global state; the SVG has no date and seeded ids, so the same Result
gives the same bytes. NOT modelled: a dark theme; figures are drawn on white.
"""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from redsim.units import say_bytes, say_ns

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
GREY, PALE = "#6b6b6b", "#d9d9d9"
LINES = [(BLUE, "-"), (RED, "--"), (GREEN, "-."), (PINK, ":"), (ORANGE, (0, (5, 1))), (BLACK, (0, (1, 1)))]
WIDE_IN, NARROW_IN = 8.2, 4.3
TIME = "simulated time, s"
_POINTS = 10.0


@dataclass(frozen=True)
class Margins:
    """Room around the axes in inches: fixed, because measuring every text costs more than drawing the
    figure.
    """

    left: float = 0.95
    right: float = 0.25
    top: float = 0.35
    bottom: float = 0.55
    gap: float = 0.4


def new_figure(
    width_in: float, height_in: float, margins: Margins, heights: Sequence[float] = (1.0,), *, shares_x: bool = True
) -> tuple[Figure, list[Axes]]:
    """A Figure of that size and its axes, top to bottom, of these relative heights, sharing the x axis unless told otherwise."""
    drawn = Figure(figsize=(width_in, height_in), facecolor="white")
    rows = len(heights)
    drawn.subplots_adjust(
        left=margins.left / width_in,
        right=1 - margins.right / width_in,
        top=1 - margins.top / height_in,
        bottom=margins.bottom / height_in,
        hspace=margins.gap * rows / max(0.1, height_in - margins.top - margins.bottom - margins.gap * (rows - 1)),
    )
    axes = drawn.subplots(rows, 1, sharex=shares_x, squeeze=False, height_ratios=list(heights))[:, 0]
    for ax in axes:
        ax.tick_params(labelsize=_POINTS, color=GREY)
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(GREY)
    return drawn, list(axes)


def legend_below(drawn: Figure, ax: Axes, columns: int) -> None:
    """The legend of `ax` at the foot of the figure, where it covers nothing."""
    handles, labels = ax.get_legend_handles_labels()
    drawn.legend(
        handles, labels, loc="lower center", ncols=columns, frameon=False, fontsize=_POINTS,
        handlelength=2.4, columnspacing=1.2, borderaxespad=0.1,
    )  # fmt: skip


def label(ax: Axes, *, x: str = "", y: str = "", title: str = "") -> None:
    """Axis labels with their units, and a title on the left."""
    if x:
        ax.set_xlabel(x, fontsize=_POINTS)
    if y:
        ax.set_ylabel(y, fontsize=_POINTS)
    if title:
        ax.set_title(title, fontsize=_POINTS + 1, loc="left", fontweight="bold")


def _say_us(us: float, _: int | None = None) -> str:
    return say_ns(round(us * 1000))


def latency_axis(ax: Axes) -> None:
    """A logarithmic y axis in µs whose ticks carry their own unit: 10 µs, 1 ms, 1 s."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(numticks=9))
    ax.yaxis.set_major_formatter(FuncFormatter(_say_us))
    ax.yaxis.set_minor_locator(LogLocator(subs=(2, 5), numticks=99))
    ax.yaxis.set_minor_formatter(FuncFormatter(lambda us, at: _say_us(us, at) if _is_short(ax) else ""))
    ax.grid(axis="y", color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)


def _is_short(ax: Axes) -> bool:
    """Whether the axis spans so little that decades alone would leave it without figures."""
    low, high = ax.get_ylim()
    return high < 50 * low


def decades(ax: Axes, low_us: float, high_us: float) -> None:
    """The same ticks on a linear axis of log10(µs), for an image whose rows are even in log10."""
    exponents = range(math.ceil(math.log10(low_us)), math.floor(math.log10(high_us)) + 1)
    ax.set_yticks(list(exponents), [_say_us(10.0**exponent) for exponent in exponents])


def mark_warmup(ax: Axes, warmup_s: float, *, named: bool) -> None:
    """Shade the seconds that the run's figures leave out; `named` writes so."""
    if warmup_s <= 0:
        return
    ax.axvspan(0, warmup_s, color=PALE, alpha=0.5, linewidth=0)
    if named:
        looks: dict[str, Any] = {
            "rotation": 90,
            "ha": "center",
            "va": "top",
            "fontsize": _POINTS - 1,
            "color": GREY,
        }
        ax.text(warmup_s / 2, 0.97, "warm-up", transform=ax.get_xaxis_transform(), **looks)


def mark_away(ax: Axes, spans: list[tuple[float, float, float]], *, named: bool) -> None:
    """Shade when a server was down (hatched) and when it loaded its data: (down from, loading from, serving from), in s."""
    for down_s, loading_s, serving_s in spans:
        ax.axvspan(down_s, loading_s, facecolor="white", edgecolor=GREY, hatch="////", alpha=0.45, linewidth=0, zorder=0)
        ax.axvspan(loading_s, serving_s, color=YELLOW, alpha=0.35, linewidth=0, zorder=0)
        ax.axvline(down_s, color=BLACK, linewidth=1.0, linestyle=(0, (3, 2)))
        if named:
            looks: dict[str, Any] = {"fontsize": _POINTS - 1, "color": BLACK, "va": "top", "rotation": 90, "ha": "right"}
            ax.text(down_s, 0.97, "crash ", transform=ax.get_xaxis_transform(), **looks)


def short(name: str, characters: int) -> str:
    """The name cut to so many characters, with an ellipsis where it was cut."""
    return name if len(name) <= characters else name[: characters - 1] + "…"


def nothing_to_draw(width_in: float, why: str) -> Figure:
    """A small figure that says why there is no picture."""
    drawn, (ax,) = new_figure(width_in, 1.2, Margins())
    ax.set_axis_off()
    ax.text(0.5, 0.5, why, ha="center", va="center", fontsize=_POINTS + 1, color=GREY, transform=ax.transAxes)
    return drawn


def svg(drawn: Figure, name: str) -> str:
    """The figure as SVG text, the same bytes each time; text stays text, in the reader's sans-serif."""
    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.sans-serif": ["DejaVu Sans"]}):
        drawn.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, dpi=130)
    return out.getvalue().replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, Arial, Helvetica, sans-serif")


def svg_uri(drawn: Figure, name: str) -> str:
    """The SVG as a data URI, for an <img> of a page that needs no other file."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg(drawn, name).encode()).decode()


def bytes_axis(ax: Axes) -> None:
    """A y axis from 0 whose ticks are round in binary units and carry them."""
    top = ax.get_ylim()[1]
    step = 2.0 ** np.ceil(np.log2(top / 6))
    ax.set_yticks(np.arange(0, top, step))
    ax.yaxis.set_major_formatter(lambda count, _: say_bytes(round(count)) if count else "0")
    ax.grid(axis="y", color=PALE, linewidth=0.6)
