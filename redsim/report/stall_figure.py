"""The stall, for a teacher: what the main thread did, and under it everybody who waited.

    main thread   ▏GET▕▏read▕▏────────────── KEYS ──────────────▕▏GET▕ …
    requests          ├───────────────────────────────────────────┤
                          ├───────────────────────────────────────────┤

Mirrors the StallView of a Result. Differs: neighbouring segments of one kind are joined when they are too
thin to see, and at most 110 requests are drawn, evenly over their arrivals. NOT modelled: nothing is
computed; queue and drain are counted in the view.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
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
    WIDE_IN,
    Margins,
    label,
    new_figure,
    nothing_to_draw,
)
from redsim.run.result import Result, StallView
from redsim.units import say_ns

REQUESTS_MAX = 110
CLIENTS = "serving clients"
_COLOURS = {"read": SKY, "write": GREEN, "poll": PALE, "wake-up": PALE, "serverCron": ORANGE, "accept": PINK}


def stall(result: Result, width_in: float) -> Figure:
    """The main thread around the worst stall, and the requests that waited in it; times from the stall's
    start.
    """
    view = result.stall_view
    if view is None or view.end_ns <= view.start_ns:
        return nothing_to_draw(width_in, "Nothing held the event loop long enough to draw.")
    scale, unit = (1e6, "ms") if view.end_ns - view.start_ns >= 1_000_000 else (1e3, "µs")
    drawn, (lane, below) = new_figure(width_in, 4.6, Margins(left=0.7, gap=0.3), (1.0, 4.0))
    length = (view.end_ns - view.start_ns) / scale
    after = max(facts.drained_ns(result) / scale * 1.6, length * 0.22)
    lane.set_xlim(-length * 0.08, length + after)
    _main_thread(lane, view, scale, length)
    _requests(below, view, scale)
    _point_out(below, result, view, length, scale)
    at_s = view.start_ns / 1e9
    label(lane, title=f"{view.what} holds {view.node} at t = {at_s:.6g} s")
    label(below, x=f"{unit} since the stall began", y="waiting requests" if width_in >= WIDE_IN else "requests")
    return drawn


def _joined(view: StallView, scale: float, thin: float) -> list[tuple[float, float, str]]:
    """Segments as (start, end, what) from the stall's start; runs of thin ones become one `serving clients`
    block.
    """
    out: list[tuple[float, float, str]] = []
    frame = view.segments.sort_values("start_ns", kind="stable")
    starts = (frame["start_ns"].to_numpy() - view.start_ns) / scale
    ends = (frame["end_ns"].to_numpy() - view.start_ns) / scale
    for start, end, what in zip(starts, ends, frame["what"].astype(str), strict=True):
        name = what if end - start >= thin else CLIENTS
        if out and name == CLIENTS == out[-1][2] and start - out[-1][1] <= thin:
            out[-1] = (out[-1][0], float(end), name)
        else:
            out.append((float(start), float(end), name))
    return out


def _main_thread(ax: Axes, view: StallView, scale: float, length: float) -> None:
    low, high = ax.get_xlim()
    shown = [block for block in _joined(view, scale, (high - low) / 400) if block[1] >= low and block[0] <= high]
    for start, end, what in shown:
        is_stall = end - start > 0.5 * length
        colour = RED if is_stall else BLUE if what == CLIENTS else _COLOURS.get(what, SKY)
        hatch = "" if is_stall else "//"
        ax.broken_barh([(start, end - start)], (0, 1), facecolor=colour, hatch=hatch, edgecolor="white", linewidth=0.4)
        if is_stall:
            text = f"{what}, {say_ns(round((end - start) * scale))}"
            middle = (start + end) / 2
            ax.text(middle, 0.5, text, ha="center", va="center", fontsize=11, color="white", fontweight="bold")
    last = shown[-1] if shown else (0.0, 0.0, "")
    if last[2] == CLIENTS:
        ax.text(min(last[1], high), 1.08, CLIENTS, ha="right", va="bottom", fontsize=10, color=BLUE)
    ax.set_ylim(-0.1, 1.5)
    ax.set_yticks([0.5], ["main\nthread"])
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.tick_params(left=False, bottom=False)


def _sampled(requests: pd.DataFrame) -> pd.DataFrame:
    ordered = requests.sort_values(["arrived_ns", "done_ns"], kind="stable")
    picked = np.unique(np.linspace(0, len(ordered) - 1, min(REQUESTS_MAX, len(ordered))).astype(int))
    return ordered.iloc[picked]


def _requests(ax: Axes, view: StallView, scale: float) -> None:
    ax.set_yticks([])
    if view.requests.empty:
        ax.text(0.5, 0.5, "nobody waited", transform=ax.transAxes, ha="center", color=GREY, fontsize=11)
        return
    shown = _sampled(view.requests)
    arrived = (shown["arrived_ns"].to_numpy() - view.start_ns) / scale
    done = (shown["done_ns"].to_numpy() - view.start_ns) / scale
    rows = np.arange(len(shown))
    ends = [[(start, row), (end, row)] for start, end, row in zip(arrived, done, rows, strict=True)]
    ax.add_collection(LineCollection(ends, colors=BLUE, linewidths=0.9))
    ax.plot(done, rows, linestyle="", marker="|", markersize=3, color=BLACK)
    ax.set_ylim(len(shown) + 1, -len(shown) * 0.06 - 1)


def _point_out(ax: Axes, result: Result, view: StallView, length: float, scale: float) -> None:
    ax.axvline(0, color=RED, linewidth=1)
    ax.axvline(length, color=RED, linewidth=1)
    queued = facts.waiting_at_end(result)
    if not queued:
        return
    drained_ns = facts.drained_ns(result)
    drawn = min(REQUESTS_MAX, len(view.requests))
    ax.axvspan(length, length + drained_ns / scale, color=ORANGE, alpha=0.25, linewidth=0)
    text = f"{queued:,} waiting when it ends,\nthe last of them answered\n{say_ns(drained_ns)} later"
    sampled = "" if drawn == len(view.requests) else f"\n({drawn} of {len(view.requests):,} drawn)"
    box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": GREY, "linewidth": 0.6}
    ax.annotate(
        text + sampled, xy=(length, drawn * 0.75), xytext=(0.03, 0.05), textcoords="axes fraction",
        fontsize=10, va="bottom", bbox=box, arrowprops={"arrowstyle": "->", "color": GREY},
    )  # fmt: skip
