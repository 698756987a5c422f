"""What a report says of many seeds of one scenario: the sentence, the table and the figure of Result.repeats.

Mirrors nothing in Redis. Medians and shares have 95 % intervals that assume no law (redsim.run.confidence); a run that had no
failover has no steps of one.
NOT modelled: nothing is computed about a server here.
"""

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from redsim.report import facts, strips
from redsim.report.facts import say_count
from redsim.report.style import PALE, Margins, label, new_figure, nothing_to_draw, short
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
Rows = tuple[str, list[str], list[list[str]]]


def say_quantity(name: str) -> str:
    """`failover.sdown_s` → `from the fault to the first +sdown`; `web.p99_us` → `web: p99`."""
    if name in OTHER_WORDS:
        return OTHER_WORDS[name]
    owner, _, what = name.rpartition(".")
    return f"from the fault to the {STEP_WORDS[what]}" if owner == "failover" else f"{owner}: {OTHER_WORDS[what]}"


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


def said(result: Result) -> str:
    """The first sentences of an answer: what of the run's figures was luck; "" for a single run."""
    repeats = result.repeats
    if repeats is None or not repeats.count:
        return ""
    parts, of = [], f"of {repeats.count} runs"
    if repeats.values("failovers.count"):
        hits, (low, high) = repeats.share("failovers.count")
        sure = f" ({_percent(low)} to {_percent(high)} with 95 % confidence)"
        parts.append("each has a failover" if hits == repeats.count else f"{hits} {of} have a failover{sure}")
    rows = {row.quantity: row for row in facts.rows(repeats.stats)}
    for name in [name for name in rows if name.endswith(".unavailable_s")] or _worst_p999(result, repeats):
        median, p5, p95 = (say_value(name, getattr(rows[name], of)) for of in ("median", "p5", "p95"))
        owner = name.rpartition(".")[0]
        what = f"{owner} gets no answer for" if name.endswith(".unavailable_s") else f"p99.9 of {owner} is"
        parts.append(f"{what} {median} at the median, {p5} to {p95} in nine of ten")
    if repeats.values("failovers.lost_acked_writes"):
        hits, (_, most) = repeats.share("failovers.lost_acked_writes")
        worst = say_count(max(repeats.values("failovers.lost_acked_writes")))
        lost = f"acknowledged writes are lost in {hits} {of}, {worst} at worst" if hits else "none loses an acknowledged write"
        parts.append(f"{lost} (in under {_percent(most)} with 97.5 % confidence)")
    seeds = f"Over {repeats.count} seeds" + (f" of {repeats.asked} asked for" if repeats.is_partial else "")
    return f"{seeds}: {'; '.join(parts)}. With seed {result.summary['seed']}: "


def _worst_p999(result: Result, repeats: Repeats) -> list[str]:
    """The group with the largest median of p99.9."""
    names = [name for group in facts.groups(result) if repeats.values(name := f"{group}.p999_us")]
    return [max(names, key=lambda name: float(np.median(repeats.values(name))))] if names else []


def repeats_rows(result: Result) -> Rows:
    """(caption, head, rows): a row per quantity."""
    head = ["quantity", "runs", "median", "of it, 95 %", "mean", "of it, 95 %", "nine tenths of the runs", "least to most"]
    repeats = result.repeats
    if repeats is None:
        return "", head, []

    def span(name: str, low: float, high: float) -> str:
        return "–" if math.isnan(low) else f"{say_value(name, low)} to {say_value(name, high)}"

    rows = []
    for row in facts.rows(repeats.stats):
        name = str(row.quantity)
        rows.append([
            say_quantity(name), str(row.runs), say_value(name, row.median), span(name, row.median_low, row.median_high),
            say_value(name, row.mean), span(name, row.mean_low, row.mean_high), span(name, row.p5, row.p95),
            span(name, row.min, row.max),
        ])  # fmt: skip
    return f"Over {repeats.count} seeds", head, rows


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
    ax.set_yticks(range(len(names)), [short(text, 20 if is_narrow else 44) for text in texts])
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.grid(axis="x", color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    if names[0].endswith("_us"):
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda us, _: say_ns(round(us * 1000))))
        label(ax, x="latency")
    else:
        ax.xaxis.set_major_locator(MaxNLocator(5 if is_narrow else 9))
        label(ax, x="s after the fault; outages: their length, s")
    return drawn
