"""The figure of a failover: a lane for each server, each Sentinel and each group of clients, with Redis' event names.

    server      its role and state as bars; faults and orders as marks; the writes that only it had as red marks
    Sentinel    a mark per event, its name below; who led, or tried to, is drawn filled and orange
    clients     where their connections are; hatched: nobody answered them

A label begins at its event and stands below all labels that begin under it, so that no line crosses a word.
Mirrors sentinel.c's events by name.
Not modelled: +new-epoch, +slave, -odown and +failover-state-* are left out; events.log has them.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from redsim.report import failover_facts as ff
from redsim.report.facts import say_count
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
    label,
    new_figure,
    nothing_to_draw,
    short,
)
from redsim.run.result import Result
from redsim.units import S, say_ns

HOW_TO_READ = {
    "failover": "Servers above, then Sentinels, then clients. Follow the orange Sentinel, which leads: +sdown (it takes the "
    "master for down), +odown (enough others do), +elected-leader, +promoted-slave, +switch-master. Pink: clients got no answer. "
    "A red mark is an acknowledged write that the new master never got.",
}
PANELS_MAX = 3
LEAD = 0.06  # of the window before its first event
LOST_MAX = 300  # marks; more would be one block
STATES = {
    "master": ("master", BLUE, ""),
    "replica": ("replica", SKY, ""),
    "alone": ("replica, no master", YELLOW, ".."),
    "sync": ("full sync", GREEN, "//"),
    "loading": ("loads its data", GREEN, "++"),
    "held": ("loop held", PINK, "\\\\"),
    "stopped": ("SIGSTOP", PINK, "xx"),
    "dead": ("dead", PALE, "//"),
}
DRAWN = {
    "+sdown", "-sdown", "+odown", "+try-failover", "+vote-for-leader", "+elected-leader", "+selected-slave", "+promoted-slave",
    "+slave-reconf-sent", "+slave-reconf-inprog", "+slave-reconf-done", "+slave-reconf-sent-be", "-slave-reconf-sent-timeout",
    "+failover-end-for-timeout", "+switch-master", "+config-update-from", "+tilt", "-tilt", "+convert-to-slave", "+reboot",
    "+fix-slave-config", "-failover-abort-not-elected", "-failover-abort-no-good-slave", "-failover-abort-slave-timeout",
}  # fmt: skip
CHAR_IN, ROW_IN, TOP_IN, GAP_IN = 0.068, 0.155, 0.24, 0.1
POINTS = 8.5
LEGEND_IN = 0.24
DOT: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 6}


@dataclass
class Lane:
    """One lane of a panel: bars (from s, to s, colour, hatch, text), marks (s, text), and how deep each mark's label stands."""

    name: str
    kind: str
    bars: list[tuple[float, float, str, str, str]] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    lost_s: list[float] = field(default_factory=list)
    leads: bool = False
    rows: list[int] = field(default_factory=list)

    def widths_in(self) -> list[float]:
        """Of its labels; those of who leads are bold."""
        return [0.1 + CHAR_IN * len(text) * (1.13 if self.leads else 1.0) for _, text in self.marks]

    def height_in(self) -> float:
        """What it takes."""
        return TOP_IN + GAP_IN + ROW_IN * (max(self.rows, default=-1) + 1)


@dataclass
class Panel:
    """One window of time: its lanes, when clients got no answer, inches of a second."""

    title: str
    from_s: float
    to_s: float
    lanes: list[Lane]
    away: list[tuple[float, float]]
    per_s: float

    def height_in(self) -> float:
        """Of all its lanes."""
        return sum(lane.height_in() for lane in self.lanes)


def is_failover_shown(result: Result) -> bool:
    """Whether a Sentinel took a master for down, or a failover began."""
    return bool(ff.sentinels(result)) and bool(ff.episodes(result))


def failover(result: Result, width_in: float) -> Figure:
    """A panel for each episode, the gravest of them, as they came."""
    every = ff.episodes(result) if ff.sentinels(result) else []
    if not every:
        return nothing_to_draw(width_in, "No Sentinel took a master for down: no failover to draw.")
    kept = sorted(every, key=lambda one: (not one.failovers, not one.candidates))[:PANELS_MAX]
    margins = Margins(left=0.95, right=0.1, gap=0.85)
    inner_in = width_in - margins.left - margins.right
    panels = [_panel(result, one, inner_in) for one in sorted(kept, key=lambda one: one.begin_s)]
    handles = _handles(panels)
    columns = 4 if width_in >= WIDE_IN else 2
    foot = 0.62 + LEGEND_IN * -(-len(handles) // columns)
    heights = [panel.height_in() for panel in panels]
    total = margins.top + foot + sum(heights) + margins.gap * (len(panels) - 1)
    margins = Margins(margins.left, margins.right, margins.top, foot, margins.gap)
    drawn, axes = new_figure(width_in, total, margins, heights, shares_x=False)
    for ax, panel in zip(axes, panels, strict=True):
        _draw(ax, panel)
        label(ax, title=short(panel.title, 70 if width_in >= WIDE_IN else 38))
        ax.set_xlabel(TIME, fontsize=10)
    looks: dict[str, Any] = {"frameon": False, "fontsize": 9, "columnspacing": 1.2, "handlelength": 2.0}
    drawn.legend(handles=handles, loc="lower center", ncols=columns, **looks)
    return drawn


# ---- what is in a panel


def _panel(result: Result, episode: ff.Episode, inner_in: float) -> Panel:
    """The window is as wide as its labels need: each has room from its event to the right edge."""
    start, end = episode.start_s, _end_s(result, episode)
    from_s = max(start - LEAD * max(end - start, 0.5), 0.0)
    lanes = [
        *(_server(result, node, from_s, end) for node in ff.nodes_of(result, episode)),
        *(_sentinel(result, name, episode) for name in ff.sentinels(result)),
        *(_clients(result, name) for name in ff.followers(result)),
    ]
    per_s = 0.97 * inner_in / (end - from_s + 0.05)
    for lane in lanes:
        lane.marks = sorted([mark for mark in lane.marks if from_s <= mark[0] <= end], key=lambda mark: mark[0])
        rooms = [(at, inner_in - width) for (at, _), width in zip(lane.marks, lane.widths_in(), strict=True)]
        per_s = min([per_s, *(room / (at - from_s) for at, room in rooms if at > from_s and room > 0)])
    for lane in lanes:
        lane.rows = stacked([at * per_s for at, _ in lane.marks], lane.widths_in())
    away = [span for span in (ff.away_span(group) for group in ff.followers(result).values()) if span is not None]
    return Panel(_title(result, episode), from_s, from_s + inner_in / per_s, lanes, away, per_s)


def _end_s(result: Result, episode: ff.Episode) -> float:
    """The last event, or the clients' coming back soon after it."""
    backs = [span[1] for group in ff.followers(result).values() if (span := ff.away_span(group)) is not None]
    return max([episode.end_s, *(back for back in backs if back <= episode.end_s + ff.QUIET_S)])


def stacked(starts: list[float], widths: list[float]) -> list[int]:
    """How deep each label stands, in the order of their starts: below all that begin above it."""
    rows = [0] * len(starts)
    for i in range(len(starts) - 2, -1, -1):
        under = [rows[j] for j in range(i + 1, len(starts)) if starts[j] < starts[i] + widths[i]]
        rows[i] = 1 + max(under) if under else 0
    return rows


def _title(result: Result, episode: ff.Episode) -> str:
    if episode.failovers:
        return "; ".join(f"{episode.service}: from {row['from']} to {row['to']}" for row in episode.failovers)
    if episode.candidates:
        return f"{episode.service}: no new master for {episode.old}"
    return f"{episode.service}: {episode.old} down, no failover"


def _server(result: Result, node: str, from_s: float, to_s: float) -> Lane:
    lane = Lane(node, "server")
    for start, end, kind in ff.states(result, node):
        _, colour, hatch = STATES[kind]
        lane.bars.append((start, end, colour, hatch, ""))
    lane.marks = ff.happened(result, node)
    mine = result.lost_writes[result.lost_writes["node"] == node]["time_s"].to_numpy(dtype=float)
    inside = mine[(mine >= from_s) & (mine <= to_s)]
    lane.lost_s = inside[np.unique(np.linspace(0, len(inside) - 1, LOST_MAX).astype(int))].tolist() if len(inside) else []
    if len(inside):
        lane.marks.append((float(inside[0]), f"{say_count(len(mine))} writes lost"))
    return lane


def _sentinel(result: Result, name: str, episode: ff.Episode) -> Lane:
    lane = Lane(name, "sentinel", leads=name in episode.leaders or (not episode.leaders and name in episode.candidates))
    said = [(event.at_s, _said(event, episode)) for event in episode.events if event.who == name and event.name in DRAWN]
    lane.marks = list(dict.fromkeys(said))
    lane.bars = [(start, end, *STATES[kind][1:], "") for start, end, kind in ff.sentinel_states(result, name)]
    return lane


def _said(event: ff.Event, episode: ff.Episode) -> str:
    """The event's name, and whom it is about where that is not the master."""
    is_plain = event.about in ("", episode.old) and not event.text.startswith("slave ")
    return event.name if is_plain or event.name == "+config-update-from" else f"{event.name} {short(event.about, 12)}"


def _clients(result: Result, name: str) -> Lane:
    lane = Lane(name, "clients")
    for start, end, node in ff.places(result, name):
        lane.bars.append((start, end, PALE, "", node))
    away = ff.away_span(ff.followers(result)[name])
    if away is not None:
        lane.bars.append((*away, PINK, "////", ""))
        lane.marks.append((away[0], f"no answer for {say_ns(round((away[1] - away[0]) * S))}"))
    lane.marks += [(start, f"goes to {node}") for start, _, node in ff.places(result, name)[1:]]
    return lane


# ---- how it is drawn


def _draw(ax: Axes, panel: Panel) -> None:
    """Inches down, seconds across."""
    ax.set_xlim(panel.from_s, panel.to_s)
    ax.set_ylim(panel.height_in(), 0)
    for start, end in panel.away:
        ax.axvspan(start, end, color=PINK, alpha=0.13, linewidth=0, zorder=0)
    top, ticks = 0.0, []
    for lane in panel.lanes:
        _lane(ax, panel, lane, top)
        ticks.append(top + TOP_IN / 2)
        top += lane.height_in()
        ax.axhline(top - GAP_IN / 2, color=PALE, linewidth=0.6, zorder=0)
    ax.set_yticks(ticks, [short(lane.name, 12) for lane in panel.lanes])
    for tick, lane in zip(ax.get_yticklabels(), panel.lanes, strict=True):
        if lane.leads:
            tick.set_fontweight("bold")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _lane(ax: Axes, panel: Panel, lane: Lane, top: float) -> None:
    middle = top + TOP_IN / 2
    for start, end, colour, hatch, text in lane.bars:
        a, b = max(start, panel.from_s), min(end, panel.to_s)
        if b <= a:
            continue
        ax.broken_barh([(a, b - a)], (top + 0.05, TOP_IN - 0.08), facecolor=colour, hatch=hatch, edgecolor="white", linewidth=0)
        if text and (b - a) * panel.per_s > CHAR_IN * (len(text) + 2):
            is_right = a > panel.from_s
            ax.text(b if is_right else a, middle, f" {text} ", ha="right" if is_right else "left", va="center", fontsize=POINTS,
                    zorder=6, bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.3})  # fmt: skip
    if lane.lost_s:
        ax.vlines(lane.lost_s, top + 0.02, top + TOP_IN - 0.02, color=RED, linewidth=0.8, zorder=4)
    colour = ORANGE if lane.leads else GREY if lane.kind == "sentinel" else BLACK
    for (at, text), row in zip(lane.marks, lane.rows, strict=True):
        foot = top + TOP_IN + ROW_IN * (row + 0.9)
        ax.vlines(at, middle, foot, color=colour, linewidth=0.7, zorder=1 if lane.kind == "sentinel" else 3)
        is_bad = text.startswith(("-failover", "+tilt")) or "lost" in text
        ax.annotate(
            text, (at, foot), (2, 1), textcoords="offset points", fontsize=POINTS, va="bottom", annotation_clip=True,
            color=RED if is_bad else BLACK, fontweight="bold" if lane.leads else "normal",
        )  # fmt: skip
    if lane.kind == "sentinel":
        ax.axhline(middle, color=PALE, linewidth=1.0, zorder=0)
        times, fill = [at for at, _ in lane.marks], ORANGE if lane.leads else "white"
        ax.plot(times, [middle] * len(times), markerfacecolor=fill, markeredgecolor=colour, zorder=5, **DOT)


def _handles(panels: list[Panel]) -> list[Patch | Line2D]:
    """What of it all is in the picture."""
    used = {
        (colour, hatch) for panel in panels for lane in panel.lanes if lane.kind != "clients"
        for start, end, colour, hatch, _ in lane.bars
        if start < panel.to_s and end > panel.from_s and (end - start) * panel.per_s > 0.01
    }  # fmt: skip
    out: list[Patch | Line2D] = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", linewidth=0, label=said)
        for said, colour, hatch in STATES.values() if (colour, hatch) in used
    ]  # fmt: skip
    lanes = [lane for panel in panels for lane in panel.lanes]
    if any(panel.away for panel in panels):
        out.append(Patch(facecolor=PINK, hatch="////", edgecolor="white", linewidth=0, label="clients unanswered"))
    if any(lane.lost_s for lane in lanes):
        out.append(Line2D([], [], color=RED, linestyle="", marker="|", markersize=10, label="write lost"))
    if any(lane.leads for lane in lanes):
        out.append(Line2D([], [], color=ORANGE, label="Sentinel that leads", **DOT))
    out.append(Line2D([], [], markerfacecolor="white", markeredgecolor=GREY, label="other Sentinel", **DOT))
    return out
