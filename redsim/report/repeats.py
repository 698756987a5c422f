"""What a report says of many seeds of one scenario: the sentence, the table and the figure of Result.repeats.

Mirrors nothing in Redis. Medians and shares have 95 % intervals that assume no law (redsim.run.confidence); a run that had no
failover has no steps of one.
NOT modelled: nothing is computed about a server here.
"""

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from redsim.report import facts, strips
from redsim.report.facts import say_count
from redsim.report.style import Margins, label, new_figure, nothing_to_draw, short
from redsim.run.repeats import LATENCIES, STEPS, Repeats
from redsim.run.result import Result
from redsim.units import S, say_bytes, say_ns

HOW_TO_READ = {"repeats": f"{strips.HOW_TO_READ} A wide bar is luck that a single run hides."}
STEP_WORDS = {
    "sdown_s": "first +sdown", "odown_s": "+odown of the leader", "elected_s": "+elected-leader", "promoted_s": "promotion",
    "switch_s": "first +switch-master", "writable_again_s": "first write at the new master",
}  # fmt: skip
OTHER_WORDS = {
    "failovers.count": "failovers", "failovers.after_a_stall": "failovers of a server that was only held",
    "failovers.lost_acked_writes": "acknowledged writes lost by failovers", "unavailable_s": "longest time without an answer",
    "throughput_per_s": "answered per second", "failed": "requests that failed", "full_syncs": "full resyncs",
    "lag_max_s": "worst lag", "used_memory_rss_peak_bytes": "peak of RSS",
    "lost_acked_writes": "acknowledged writes lost by crashes",
    **{f"{which}_us": {"p999": "p99.9"}.get(which, which) for which in LATENCIES},
}  # fmt: skip
TENTHS_MIN = 20  # runs: of fewer, the outer tenth is less than a run at each end
Rows = tuple[str, list[str], list[list[str]]]


def say_quantity(name: str) -> str:
    """`failover.sdown_s` → `from the fault to the first +sdown`; `web.p99_us` → `web: p99`."""
    if name in OTHER_WORDS:
        return OTHER_WORDS[name]
    owner, _, what = name.rpartition(".")
    is_step = owner == "failover" and what in STEP_WORDS  # a client group may be called so, too
    return f"from the fault to the {STEP_WORDS[what]}" if is_step else f"{owner}: {OTHER_WORDS[what]}"


def say_value(name: str, value: float) -> str:
    """With the unit that its name ends in; `–`: cannot be told."""
    if math.isnan(value):
        return "–"
    if name.endswith("_per_s"):
        return say_count(value)
    if name.endswith("_bytes"):
        return say_bytes(round(value))
    ns = value * S if name.endswith("_s") else value * 1000
    return say_ns(round(ns)) if name.endswith(("_s", "_us")) else say_count(round(value, 2))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _span(row: Any, count: int) -> str:
    """`1.2 s at the median, 1.1 s to 1.5 s in nine of ten`; of fewer than TENTHS_MIN runs, in all of them."""
    name = str(row.quantity)
    if row.runs == 1:
        return say_value(name, row.median) + ("" if count == 1 else " in the one run that has it")
    few = row.runs < TENTHS_MIN
    low, high = (say_value(name, end) for end in ((row.min, row.max) if few else (row.p5, row.p95)))
    where = ("all of them" if row.runs == count else f"all {row.runs} that have it") if few else "nine of ten"
    return f"{say_value(name, row.median)} at the median, {low} to {high} in {where}"


def _said_of_failovers(repeats: Repeats) -> str:
    hits, (low, high) = repeats.share("failovers.count")
    if hits == repeats.count:
        return "it has a failover" if hits == 1 else "each has a failover"
    who = f"{hits} of {repeats.count} runs {'has' if hits == 1 else 'have'}" if hits else _none(repeats, "has")
    return f"{who} a failover ({_percent(low)} to {_percent(high)} with 95 % confidence)"


def _said_of_loss(repeats: Repeats) -> str:
    hits, (least, most) = repeats.share("failovers.lost_acked_writes")
    worst = f"{say_count(max(repeats.values('failovers.lost_acked_writes')))} at worst"
    if hits == repeats.count:
        who = "it loses" if hits == 1 else "each loses"
        return f"{who} acknowledged writes, {worst} (in over {_percent(least)} with 97.5 % confidence)"
    lost = f"acknowledged writes are lost in {hits} of {repeats.count} runs, {worst}"
    lost = lost if hits else f"{_none(repeats, 'loses')} an acknowledged write"
    sure = "" if _percent(most) == _percent(1) else f" (in under {_percent(most)} with 97.5 % confidence)"
    return lost + sure


def _none(repeats: Repeats, verb: str) -> str:
    return f"none {verb}" if repeats.count > 1 else f"it never {verb}"


def said(result: Result) -> str:
    """The first sentences of an answer: what of the run's figures was luck; "" for a single run."""
    repeats = result.repeats
    if repeats is None or not repeats.count:
        return ""
    parts = [_said_of_failovers(repeats)] if repeats.values("failovers.count") else []
    rows = {row.quantity: row for row in facts.rows(repeats.stats)}
    for name in [name for name in rows if name.endswith(".unavailable_s")] or _worst_p999(result, repeats):
        owner = name.rpartition(".")[0]
        what = f"{owner} gets no answer for" if name.endswith(".unavailable_s") else f"p99.9 of {owner} is"
        parts.append(f"{what} {_span(rows[name], repeats.count)}")
    if repeats.values("failovers.lost_acked_writes"):
        parts.append(_said_of_loss(repeats))
    seeds = f"Over {_seeds(repeats.count)}" + (f" of {repeats.asked} asked for" if repeats.is_partial else "")
    return f"{seeds}: {'; '.join(parts)}. With seed {result.summary['seed']}: "


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count != 1 else ''}"


def _worst_p999(result: Result, repeats: Repeats) -> list[str]:
    """The group with the largest median of p99.9."""
    names = [name for group in facts.groups(result) if repeats.values(name := f"{group}.p999_us")]
    return [max(names, key=lambda name: float(np.median(repeats.values(name))))] if names else []


def repeats_rows(result: Result) -> Rows:
    """(caption, head, rows): a row per quantity."""
    repeats = result.repeats
    tenths = "p5 to p95, interpolated" if repeats and repeats.count < TENTHS_MIN else "nine tenths of the runs"
    head = ["quantity", "runs", "median", "of it, 95 %", "mean", "of it, 95 %", tenths, "least to most"]
    if repeats is None:
        return "", head, []

    def span(name: str, low: float, high: float) -> str:
        return "–" if math.isnan(low) else f"{say_value(name, low)} to {say_value(name, high)}"

    def mean_span(row: Any) -> str:
        """Cut at 0 where no run is below it: Student's t knows of no such bound."""
        low = 0.0 if row.mean_low < 0 <= row.min else row.mean_low
        return span(str(row.quantity), low, row.mean_high)

    rows = []
    for row in facts.rows(repeats.stats):
        name = str(row.quantity)
        rows.append([
            say_quantity(name), str(row.runs), say_value(name, row.median), span(name, row.median_low, row.median_high),
            say_value(name, row.mean), mean_span(row), span(name, row.p5, row.p95),
            span(name, row.min, row.max),
        ])  # fmt: skip
    return f"Over {_seeds(repeats.count)}", head, rows


# ---- the figure


def drawn_quantities(result: Result) -> list[str]:
    """Those of one unit that the figure has: the steps of a failover and the outages, or the latencies of the busiest groups."""
    repeats = result.repeats
    if repeats is None:
        return []
    steps = [name for step in STEPS if repeats.values(name := f"failover.{step}")]
    steps += [name for name in repeats.quantities if name.endswith(".unavailable_s") and repeats.values(name)]
    if steps:
        return steps
    groups = list(facts.groups(result))[:3]
    return [name for group in groups for which in LATENCIES if repeats.values(name := f"{group}.{which}_us")]


def repeats(result: Result, width_in: float) -> Figure:
    """A strip per quantity: runs as dots, the middle nine tenths, the median and where it lies with 95 % confidence."""
    names = drawn_quantities(result)
    if result.repeats is None or not names:
        return nothing_to_draw(width_in, "There is nothing to draw: run with --repeats")
    is_narrow = width_in < 6
    drawn, (ax,) = new_figure(width_in, 0.9 + 0.42 * len(names), Margins(left=1.75 if is_narrow else 3.1))
    for at, name in enumerate(reversed(names)):
        strips.strip(ax, at, result.repeats.values(name))
    texts = [say_quantity(name).removeprefix("from the fault to the ") for name in reversed(names)]
    strips.name_rows(ax, [short(text, 20 if is_narrow else 44) for text in texts])
    if names[0].endswith("_us"):
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda us, _: say_ns(round(us * 1000))))
        label(ax, x="latency")
    else:
        ax.xaxis.set_major_locator(MaxNLocator(5 if is_narrow else 9))
        label(ax, x="s after the fault; outages: their length, s")
    return drawn
