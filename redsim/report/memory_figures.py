"""The figures about memory: what used_memory and RSS consist of, what a cache keeps, what expiry leaves behind.

Mirrors the fields of INFO memory and stats, over time. Differs: layers of used_memory are the bytes allocated, not what MEMORY
STATS counts as overhead. A limit that is far above the memory in use is told, not drawn. NOT modelled: nothing is computed but
differences of counters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from redsim.report import facts
from redsim.report.style import (
    BLACK,
    BLUE,
    GREY,
    LINES,
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
)
from redsim.run.result import Result
from redsim.units import say_bytes

NODES_MAX = 4
CHILDREN_MAX = 40  # more of them are no lines but a pattern
FAR = 1.8  # a limit above so many times the memory drawn would leave the rest too small to see
MOVED = 0.01  # memory that moves by less is not worth a picture
MOVED_BYTES = 1 << 20
Floats = npt.NDArray[np.float64]

_LAYERS = {  # column of memory.csv: (what it is called, colour, hatch), from the ground up
    "startup_bytes": ("start-up", GREY, ""),
    "clients_bytes": ("clients and buffers", PINK, "\\\\"),
    "dict_table_bytes": ("dict tables", ORANGE, "//"),
    "keys_bytes": ("keys and entries", SKY, ".."),
    "values_bytes": ("values", BLUE, ""),
}
_COW = ("copied while a child lived", RED, "++")
_TABLES = ("page tables", GREY, "..")
_RSS = ("fragmentation, up to RSS", YELLOW, "xx")

HOW_TO_READ = {
    "memory": "The layers add up to used_memory; the top one is what the process holds beyond it (RSS). A step in the dict "
    "tables is a table that doubled: both stay until the keys have moved. A child shares all; what is written meanwhile is there "
    "twice.",
    "cache": "Above, how many of the reads found their key; below, what had to go to make room. A hit ratio that falls while "
    "keys are evicted says that the working set does not fit.",
    "expiry": "Keys past their time that still take memory, how many go, and how late: active cycles find them by sampling, a "
    "client by asking for one.",
}


def is_memory_shown(result: Result) -> bool:
    """Whether memory moved, or something limits it."""
    frame = result.memory
    if frame.empty:
        return False
    if "cow_bytes" in frame and frame["cow_bytes"].max() > 0:
        return True
    if frame["maxmemory_bytes"].max() > 0 or 2 * frame["used_memory_rss_bytes"].max() > facts.host_memory_bytes(result) > 0:
        return True
    used = frame.groupby("node")["used_memory_bytes"]
    moved = (used.max() - used.min()).to_numpy()
    return bool((moved > np.maximum(MOVED_BYTES, MOVED * used.max().to_numpy())).any())


def is_cache_shown(result: Result) -> bool:
    """Whether keys were evicted, or clients fetched what they missed."""
    frame = result.memory
    fetched = any(facts.number(group.get("fetches")) for group in facts.groups(result).values())
    return not frame.empty and (fetched or bool(frame["evicted_keys"].max() > 0))


def is_expiry_shown(result: Result) -> bool:
    """Whether a key's time came."""
    frame = result.memory
    return not frame.empty and bool(frame[["expired_keys", "stale_keys"]].to_numpy().max() > 0)


# ---- memory ----------------------------------------------------------------------------------------------------------------


def memory(result: Result, width_in: float) -> Figure:
    """used_memory by its parts, RSS above it, and the limits, over time; a panel per node."""
    shown = list(result.memory["node"].unique()[:NODES_MAX])
    if not shown:
        return nothing_to_draw(width_in, "The run was too short for a sample of memory, so there is nothing to draw.")
    foot = 1.05 if width_in >= WIDE_IN else 1.5
    if "cow_bytes" in result.memory and result.memory["cow_bytes"].max() > 0:  # four names more in the legend
        foot += 0.3 if width_in >= WIDE_IN else 0.5
    drawn, axes = new_figure(width_in, 0.35 + foot + 2.3 * len(shown), Margins(bottom=foot), [1.0] * len(shown))
    for ax, node in zip(axes, shown, strict=True):
        _memory_panel(ax, result, str(node))
        label(ax, y="memory", title=f"Memory of {node}")
    label(axes[-1], x=TIME)
    legend_below(drawn, axes[-1], 4 if width_in >= WIDE_IN else 2)
    return drawn


def _memory_panel(ax: Axes, result: Result, node: str) -> None:
    frame = result.memory[result.memory["node"] == node]
    at_s = frame["time_s"].to_numpy(dtype=float)
    floor = np.zeros(len(frame))
    beside = {"aof_buffer_bytes": ("aof_buf", RED, "--"), "replication_buffers_bytes": ("replication buffer", RED, "xx")}
    there = {column: how for column, how in beside.items() if frame.get(column, pd.Series([0])).max() > 0}
    for column, (name, colour, hatch) in {**_LAYERS, **there}.items():
        floor = _layer(ax, at_s, floor, floor + frame[column].to_numpy(dtype=float), (name, colour, hatch))
    top = np.maximum(floor, frame["used_memory_rss_bytes"].to_numpy(dtype=float))
    _layer(ax, at_s, floor, top, _RSS)
    top = _children(ax, result, node, frame, top)
    ax.plot(at_s, floor, color=BLACK, linewidth=1.2, label="used_memory")
    highest = float(top.max())
    limits = {"maxmemory": float(frame["maxmemory_bytes"].max()), "host's memory": float(facts.host_memory_bytes(result))}
    far = []
    for (name, limit), (colour, style) in zip(limits.items(), ((RED, "--"), (BLACK, "-.")), strict=True):
        if 0 < limit <= FAR * highest:
            ax.axhline(limit, color=colour, linestyle=style, linewidth=1.8, label=name)
        elif limit > 0:
            far.append(f"{name} {say_bytes(round(limit))}")
    drawn_limits = [limit for limit in limits.values() if limit <= FAR * highest]
    ax.set_ylim(0, 1.12 * max(highest, *drawn_limits))
    if far:
        ax.text(0.99, 0.97, f"↑ {', '.join(far)}", transform=ax.transAxes, ha="right", va="top", fontsize=9, color=GREY)
    bytes_axis(ax)
    ax.set_xlim(0, facts.duration_s(result) or 1)


def _children(ax: Axes, result: Result, node: str, frame: pd.DataFrame, top: Floats) -> Floats:
    """What children take beside RSS, and lines where they were forked and noticed to be gone. The top with it."""
    if "cow_bytes" not in frame or not facts.nodes(result).get(node, {}).get("children"):
        return top
    at_s = frame["time_s"].to_numpy(dtype=float)
    top = _layer(ax, at_s, top, top + frame["cow_bytes"].to_numpy(dtype=float), _COW)
    tables = frame["page_tables_bytes"].to_numpy(dtype=float)
    top = _layer(ax, at_s, top, top + tables, _TABLES)
    for i, one in enumerate(facts.nodes(result)[node]["children"][:CHILDREN_MAX]):
        ax.axvline(one["at_s"], color=BLACK, linewidth=0.9, label=None if i else "fork")
        if one["noticed_s"] is not None:
            ax.axvline(one["noticed_s"], color=BLACK, linewidth=0.9, linestyle=":", label=None if i else "child gone")
    return top


def _layer(ax: Axes, at_s: Floats, floor: Floats, top: Floats, looks: tuple[str, str, str]) -> Floats:
    name, colour, hatch = looks
    ax.fill_between(at_s, floor, top, facecolor=colour, hatch=hatch, edgecolor="white", linewidth=0.0, label=name)
    return top


# ---- rates and shares over time ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Panel:
    """One axis of a figure that is read off memory.csv: a value of each sample, from its node's rows."""

    title: str
    y: str
    value: Callable[[pd.DataFrame], Any]
    top: float | None = None


def _per_s(column: str) -> Callable[[pd.DataFrame], Floats]:
    return lambda frame: facts.steps(frame, column) / np.maximum(facts.steps(frame, "time_s"), 1e-9)


def _lag_s(frame: pd.DataFrame) -> Floats:
    """How late the keys were removed that expired in each window, on the average; NaN without one."""
    return facts.ratio(facts.steps(frame, "expiry_lag_s"), facts.steps(frame, "expired_keys"))


_CACHE = (
    _Panel("Hit ratio", "of reads", facts.hit_ratio, 1.02),
    _Panel("Keys evicted", "per second", _per_s("evicted_keys")),
)
_EXPIRY = (
    _Panel("Keys past their time, still there", "keys", lambda frame: frame["stale_keys"].to_numpy(dtype=float)),
    _Panel("Keys expired", "per second", _per_s("expired_keys")),
    _Panel("How late they went, mean", "seconds", _lag_s),
)


def cache(result: Result, width_in: float) -> Figure:
    """Hit ratio and evictions over time, a line per node."""
    return _panels(result, width_in, _CACHE, "No read was counted, so there is no hit ratio to draw.")


def expiry(result: Result, width_in: float) -> Figure:
    """Stale keys, expired keys and their lag over time, a line per node."""
    return _panels(result, width_in, _EXPIRY, "No key's time came, so there is no expiry to draw.")


def _panels(result: Result, width_in: float, panels: tuple[_Panel, ...], nothing: str) -> Figure:
    shown = list(result.memory["node"].unique()[:NODES_MAX])
    if not shown:
        return nothing_to_draw(width_in, nothing)
    foot = 0.8 if len(shown) > 1 else 0.55
    drawn, axes = new_figure(width_in, 0.35 + foot + 1.55 * len(panels), Margins(bottom=foot, gap=0.42), [1.0] * len(panels))
    for ax, panel in zip(axes, panels, strict=True):
        for node, (colour, style) in zip(shown, LINES, strict=False):
            frame = result.memory[result.memory["node"] == node]
            ends_s = frame["time_s"].to_numpy(dtype=float)
            ax.step(ends_s, panel.value(frame), where="pre", color=colour, linestyle=style, linewidth=1.6, label=str(node))
        ax.set_ylim(0, panel.top)
        if panel.top is not None:
            ax.yaxis.set_major_formatter(lambda share, _: f"{share * 100:.0f} %")
        else:
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        ax.grid(axis="y", color=PALE, linewidth=0.6)
        mark_warmup(ax, facts.warmup_s(result), named=False)
        ax.set_xlim(0, facts.duration_s(result) or 1)
        label(ax, y=panel.y, title=panel.title)
    label(axes[-1], x=TIME)
    if len(shown) > 1:
        legend_below(drawn, axes[-1], 2)
    return drawn
