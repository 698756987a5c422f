"""The figures of a report, by name, and how to read each: figure(result, "stall") gives a matplotlib Figure.

Mirrors nothing in Redis. Differs from the frames: percentiles over time are read off a Series' buckets (1/16 wide), all commands
of a group together. The offered load of one rate is drawn as its mean, of a changing one by window.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from redsim.report import durability_figures, facts, failover_figure, memory_figures, repeats, replication_figures
from redsim.report.stall_figure import stall
from redsim.report.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LINES,
    NARROW_IN,
    ORANGE,
    PALE,
    PINK,
    RED,
    SKY,
    TIME,
    WIDE_IN,
    YELLOW,
    Margins,
    decades,
    label,
    latency_axis,
    legend_below,
    mark_away,
    mark_warmup,
    new_figure,
    nothing_to_draw,
    short,
)  # fmt: skip
from redsim.run.result import Result

PER_GROUP = ("latency", "throughput", "blame")
GROUPS_MAX = 4  # panels or lines in one figure; the busiest groups are drawn
HEATMAP_ROWS = 240
_TAIL = np.array([0.5, 0.99, 0.999])
_TAIL_LOOKS = [
    ("p50", GREEN, "-.", 1.3),
    ("p99", BLUE, "--", 1.3),
    ("p99.9", RED, "-", 1.6),
    ("max", GREY, ":", 1.2),
]
_HATCHES = ["", "//", "..", "xx", "\\\\", "++", "--"]
_BLAME_COLOURS = [RED, ORANGE, GREEN, BLUE, PINK, YELLOW]
_OUTSIDE = {"network": SKY, "client": PALE, "other": GREY}  # the same colour in every report

HOW_TO_READ = {
    "latency": "Each window's percentiles on a logarithmic axis: a step up is a wait that many requests shared.",
    "stall": "Above, what the main thread did; below, one line per request from arrival "
    "to answer. Lines that end together waited for the same thing.",
    "heatmap": "Time runs right, latency up, brightness is the number of requests: two bands mean two kinds of request.",
    "percentiles": "Go right to the share of requests you promise, read up to what the slowest of them waits.",
    "throughput": "Requests answered per second, against those offered: a gap is a queue, a peak after it the queue drained.",
    "blame": "What a request of that percentile spent its latency on: each bar is the whole latency, named at its right end.",
    **memory_figures.HOW_TO_READ,
    **durability_figures.HOW_TO_READ,
    **replication_figures.HOW_TO_READ,
    **failover_figure.HOW_TO_READ,
    **repeats.HOW_TO_READ,
}


AWAY = {"latency", "throughput"}  # figures that mark when a server was away
HOW_TO_READ_AWAY = " Hatched: the server is down; yellow: it loads its data."


def figure(result: Result, name: str, *, narrow: bool = False) -> Figure:
    """A Figure by name: stall, latency, heatmap, percentiles, throughput, blame, memory, cache, expiry, durability,
    replication, syncs, failover, repeats; `narrow` for a phone. KeyError-free: ValueError names them.
    """
    if name not in _DRAW:
        raise ValueError(f"no figure is called {name!r}; there are {', '.join(_DRAW)}")
    return _DRAW[name](result, NARROW_IN if narrow else WIDE_IN)


def _windows_s(count: int, window_ns: int) -> Any:
    return np.arange(count) * (window_ns / 1e9)


def _latency_panel(ax: Axes, result: Result, group: str) -> None:
    edges, counts, window_ns = facts.window_counts(result, group)
    start_s = _windows_s(len(counts), window_ns)
    tail_us = np.array([facts.percentiles_us(edges, row, _TAIL) for row in counts])
    largest = facts.max_by_window_us(result, group, window_ns, len(counts))
    lines = [(start_s, tail_us[:, i]) for i in range(3)] + [(start_s, largest)]
    for (x, y), (name, colour, style, width) in zip(lines, _TAIL_LOOKS, strict=True):
        ax.step(x, y, where="post", color=colour, linestyle=style, linewidth=width, label=name)
    latency_axis(ax)
    mark_warmup(ax, facts.warmup_s(result), named=True)
    mark_away(ax, facts.away_s(result, facts.node_of(result, group)), named=True)
    ax.set_xlim(0, facts.duration_s(result) or 1)


def latency(result: Result, width_in: float) -> Figure:
    """p50, p99, p99.9 and the largest latency of every window, a panel per group."""
    shown = facts.shown_groups(result, GROUPS_MAX)
    if not shown:
        return nothing_to_draw(width_in, "No request was answered, so there is no latency to draw.")
    drawn, axes = new_figure(width_in, 0.7 + 2.4 * len(shown), Margins(bottom=0.8), [1.0] * len(shown))
    for ax, group in zip(axes, shown, strict=True):
        _latency_panel(ax, result, group)
        label(ax, y="latency", title=f"Latency of {short(group, 30)}")
    label(axes[-1], x=TIME)
    legend_below(drawn, axes[-1], 4)
    return drawn


def heatmap(result: Result, width_in: float) -> Figure:
    """Requests per cell of time × log latency, all groups together; cells without a request stay white."""
    edges, counts, window_ns = facts.window_counts(result, None)
    if not counts.sum():
        return nothing_to_draw(width_in, "No request was answered, so there is no density to draw.")
    used = np.flatnonzero(counts.sum(axis=0))
    low_us, high_us = edges[used[0]] / 1000, edges[used[-1] + 1] / 1000
    rows_us = np.geomspace(low_us, high_us, HEATMAP_ROWS + 1)[:-1]  # an image has even rows: the bucket at each row
    bucket = np.clip(np.searchsorted(edges, rows_us * 1000, side="right") - 1, used[0], used[-1])
    drawn, (ax,) = new_figure(width_in, 3.4, Margins(right=1.05))
    cells = np.ma.masked_less(counts[:, bucket].T, 1)
    shape = LogNorm(vmin=1, vmax=max(2, int(counts.max())))
    end_s = len(counts) * window_ns / 1e9
    extent = (0.0, end_s, float(np.log10(low_us)), float(np.log10(high_us)))
    image = ax.imshow(cells, origin="lower", aspect="auto", interpolation="none", extent=extent, cmap="cividis", norm=shape)
    decades(ax, low_us, high_us)
    bar = drawn.colorbar(image, cax=drawn.add_axes((1 - 0.95 / width_in, 0.55 / 3.4, 0.14 / width_in, 2.5 / 3.4)))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda count, _: facts.say_count(count)))
    bar.set_label("requests per cell", fontsize=10)
    bar.ax.tick_params(labelsize=9)
    label(ax, x=TIME, y="latency", title="Where the requests are")
    return drawn


def _nines(count: int) -> str:
    """1 → 90, 2 → 99, 3 → 99.9, …"""
    return "90" if count == 1 else "99" + ("." + "9" * (count - 2) if count > 2 else "")


def percentiles(result: Result, width_in: float) -> Figure:
    """Latency over percentile on a 1/(1 − p) axis (as HdrHistogram draws it), a line per group."""
    shown = facts.shown_groups(result, len(LINES))
    totals = {group: int(facts.run_counts(result, group)[1].sum()) for group in shown}
    shown = [group for group in shown if totals[group] > 1]
    if not shown:
        return nothing_to_draw(width_in, "No request was answered, so there are no percentiles to draw.")
    foot = 0.55 + 0.25 * math.ceil(len(shown) / 2)
    drawn, (ax,) = new_figure(width_in, 2.8 + foot, Margins(bottom=foot))
    last = max(totals.values())
    for group, (colour, style) in zip(shown, LINES, strict=False):
        odds = np.geomspace(1, totals[group], 160)
        us = facts.percentiles_us(*facts.run_counts(result, group), 1 - 1 / odds)
        ax.plot(odds, us, color=colour, linestyle=style, linewidth=1.8, label=short(group, 24))
    ax.set_xscale("log")
    ax.set_xlim(1, last * 1.15)
    nines = [(1.0, "0"), (2.0, "50")] + [(10.0**n, _nines(n)) for n in range(1, 9)]
    kept = [(odds, text) for odds, text in nines if odds <= last and (odds > 1 or width_in >= WIDE_IN)]
    ax.set_xticks([odds for odds, _ in kept], [text for _, text in kept])
    ax.minorticks_off()
    ax.grid(axis="x", color=PALE, linewidth=0.6)
    latency_axis(ax)
    label(ax, x="percentile of requests, %", y="latency", title="Latency by percentile")
    legend_below(drawn, ax, 2)
    return drawn


def _offered(result: Result, group: str, end_s: float) -> tuple[Any, Any]:
    """Offered requests/s as steps: times in s and rates; a schedule as written, one rate as its mean, else by window."""
    written = facts.group_file(result, group)
    opened = written.arrivals.open if written is not None else None
    if opened is not None and opened.schedule:
        times = [point.at / 1e9 for point in opened.schedule] + [end_s]
        return np.array(times), np.array([point.rate_per_s for point in opened.schedule] + [opened.schedule[-1].rate_per_s])
    counts = result.offered.get(group)
    if counts is not None and (opened is None or opened.rate_per_s is None):
        joined = facts.joined_windows(len(counts))
        starts = np.arange(0, len(counts), joined)
        at_s = starts * result.window_ns / 1e9
        length_s = np.clip(end_s - at_s, 1e-9, joined * result.window_ns / 1e9)
        rates = np.add.reduceat(counts, starts) / length_s
        return np.append(at_s, end_s), np.append(rates, rates[-1])
    rate = facts.number(facts.groups(result).get(group, {}).get("offered_per_s"))
    start_s = written.start / 1e9 if written is not None else 0.0
    stop_s = written.stop / 1e9 if written is not None and written.stop is not None else end_s
    return np.array([start_s, min(stop_s, end_s)]), np.array([rate, rate])


def throughput(result: Result, width_in: float) -> Figure:
    """Requests answered per second in each window and, for open loops, those offered; a line per group."""
    shown = facts.shown_groups(result, GROUPS_MAX)
    if not shown:
        return nothing_to_draw(width_in, "No request was answered, so there is no throughput to draw.")
    lines = len(shown) + sum(not facts.is_closed(result, group) for group in shown)
    foot = 0.55 + 0.25 * math.ceil(lines / 2)
    drawn, (ax,) = new_figure(width_in, 2.8 + foot, Margins(bottom=foot))
    end_s = facts.duration_s(result)
    top = 0.0
    for group, (colour, style) in zip(shown, LINES, strict=False):
        _, counts, window_ns = facts.window_counts(result, group)
        start_s = _windows_s(len(counts), window_ns)
        length_s = np.clip(end_s - start_s, 1e-9, window_ns / 1e9)  # the last window may be cut short
        rate = counts.sum(axis=1) / length_s
        ax.step(
            start_s,
            rate,
            where="post",
            color=colour,
            linestyle=style,
            linewidth=1.5,
            label=f"{short(group, 20)}, answered",
        )
        top = max(top, float(rate.max()))
        if not facts.is_closed(result, group):
            at_s, offered = _offered(result, group, end_s)
            ax.step(
                at_s,
                offered,
                where="post",
                color=BLACK if len(shown) == 1 else colour,
                linestyle=(0, (1, 2)),
                linewidth=1.6,
                zorder=3,
                label=f"{short(group, 20)}, offered",
            )
            top = max(top, float(offered.max()))
    ax.set_ylim(0, top * 1.12 or 1)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.grid(axis="y", color=PALE, linewidth=0.6)
    mark_warmup(ax, facts.warmup_s(result), named=False)
    mark_away(ax, facts.away_s(result), named=True)
    ax.set_xlim(0, end_s or 1)
    label(ax, x=TIME, y="requests per second", title="Throughput")
    legend_below(drawn, ax, 2)
    return drawn


def _blame_rows(result: Result, characters: int) -> list[tuple[str, dict[str, float]]]:
    rows = []
    names = {"mean": "mean", "p50": "p50", "p99": "p99", "p999": "p99.9"}
    for group in facts.shown_groups(result, GROUPS_MAX):
        mine = result.blame[result.blame["group"] == group]
        for percentile, said in names.items():
            part = mine[mine["percentile"] == percentile]
            parts = {str(cause): float(us) for cause, us in zip(part["cause"], part["us"], strict=True) if us > 0}
            if parts:
                rows.append((f"{short(group, characters)} {said}", parts))
    return rows


def blame(result: Result, width_in: float) -> Figure:
    """Shares of the mean, p50, p99 and p99.9 latency: the six causes with the largest, the rest together."""
    rows = _blame_rows(result, 30 if width_in >= WIDE_IN else 11)
    if not rows:
        return nothing_to_draw(width_in, "No latency was measured, so there is nobody to blame.")
    weight: dict[str, float] = {}
    for _, parts in rows:
        for cause, us in parts.items():
            weight[cause] = weight.get(cause, 0.0) + us / sum(parts.values())
    causes = sorted(weight, key=lambda cause: -weight[cause])[:6]
    shares = np.array([[parts.get(cause, 0.0) / sum(parts.values()) for cause in causes] for _, parts in rows])
    rest = 1 - shares.sum(axis=1, keepdims=True)
    if rest.max() > 0.001:
        shares, causes = np.hstack([shares, rest]), [*causes, "other"]
    columns = 4 if width_in >= WIDE_IN else 2
    foot = 0.55 + 0.25 * math.ceil(len(causes) / columns)
    left = min(0.35 * width_in, 0.2 + 0.085 * max(len(name) for name, _ in rows))
    margins = Margins(left=left, right=0.85, bottom=foot)
    drawn, (ax,) = new_figure(width_in, 0.35 + foot + 0.36 * len(rows), margins)
    ys, lefts, colours = np.arange(len(rows)), np.zeros(len(rows)), iter(_BLAME_COLOURS)
    for cause, hatch, share in zip(causes, _HATCHES, shares.T, strict=False):
        colour = _OUTSIDE.get(cause) or next(colours)
        ax.barh(
            ys,
            share,
            left=lefts,
            height=0.72,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.6,
            label=cause,
        )
        lefts = lefts + share
    for y, (_, parts) in enumerate(rows):
        ax.text(1.01, y, facts.say_us(sum(parts.values())), va="center", fontsize=10)
    ax.margins(y=0.02)
    ax.set_yticks(ys, [name for name, _ in rows])
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(lambda share, _: f"{share * 100:.0f} %")
    label(ax, x="share of the latency", title="Who is to blame")
    drawn.legend(loc="outside lower center", ncols=4 if width_in >= WIDE_IN else 2, frameon=False, fontsize=10)
    return drawn


_DRAW: dict[str, Callable[[Result, float], Figure]] = {
    "repeats": repeats.repeats,
    "failover": failover_figure.failover,
    "stall": stall,
    "latency": latency,
    "heatmap": heatmap,
    "percentiles": percentiles,
    "throughput": throughput,
    "blame": blame,
    "memory": memory_figures.memory,
    "cache": memory_figures.cache,
    "expiry": memory_figures.expiry,
    "durability": durability_figures.durability,
    "replication": replication_figures.replication,
    "syncs": replication_figures.syncs,
}
_ONLY_IF: dict[str, Callable[[Result], bool]] = {
    "repeats": lambda result: bool(repeats.drawn_quantities(result)),
    "failover": failover_figure.is_failover_shown,
    "stall": lambda result: result.stall_view is not None,
    "memory": memory_figures.is_memory_shown,
    "cache": memory_figures.is_cache_shown,
    "expiry": memory_figures.is_expiry_shown,
    "durability": durability_figures.is_durability_shown,
    "replication": replication_figures.is_replication_shown,
    "syncs": replication_figures.is_syncs_shown,
}


def shown_figures(result: Result) -> list[str]:
    """The names of the figures that have something to show, in the order of a report."""
    return [name for name in _DRAW if name not in _ONLY_IF or _ONLY_IF[name](result)]
