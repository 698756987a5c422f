"""The figures of a plan of failovers: outages and false alarms by down-after-milliseconds, lost writes by min-replicas.

Mirrors nothing in Redis. Outages that were not over by the end of their run are drawn as long as they were so far.
NOT modelled: nothing is computed here beyond shares and their bands.
"""

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from redsim.report import strips
from redsim.report.style import GREY, NARROW_IN, ORANGE, RED, WIDE_IN, Margins, label, legend_below, new_figure
from redsim.run.failover_trials import Setting
from redsim.run.plan_failover import AXES, FailoverPlan, Step
from redsim.units import S, say_ns

__all__ = ["HOW_TO_READ", "TITLES", "figure", "marked", "say_min_replicas", "shown"]

TITLES = {
    "outage": "What a strike costs, and what a calm run does, by down-after-milliseconds",
    "lost": "Acknowledged writes that a master loses which is cut off, by min-replicas",
}
HOW_TO_READ = {
    "outage": f"Above, how long clients got no answer. {strips.HOW_TO_READ} Below, in how many runs without any strike a "
    "Sentinel took the healthy master for down, and in how many it was replaced; the line shows how sure that share is (95 %). "
    "Less is faster and more nervous: the value to choose is free of both, with room for a longer stall.",
    "lost": f"{strips.HOW_TO_READ} What is lost was answered +OK by the old master and never reached the new one.",
}  # fmt: skip
ROW_IN = 0.4


def shown(plan: FailoverPlan) -> list[str]:
    """Names of the figures that have something to show."""
    return ["outage", *(["lost"] if _step(plan, "min-replicas") is not None else [])]


def figure(plan: FailoverPlan, name: str, *, narrow: bool) -> Figure:
    """`outage` or `lost`, for a screen or for a phone."""
    return _outage(plan, narrow) if name == "outage" else _lost(plan, narrow)


def _step(plan: FailoverPlan, axis: str) -> Step | None:
    return next((step for step in plan.steps if step.axis == axis), None)


def marked(plan: FailoverPlan, text: str, setting: Setting, taken: Setting) -> str:
    """Which of them is the one of now, which the one taken."""
    marks = [*(["now"] if setting == plan.now else []), *(["chosen"] if setting == taken else [])]
    return f"{text} ({', '.join(marks)})" if marks else text


def _outage(plan: FailoverPlan, narrow: bool) -> Figure:
    step = _step(plan, AXES[0])
    assert step is not None, "it is always tried"
    settings = list(reversed(step.tried))
    margins = Margins(left=1.55, bottom=1.0, gap=0.75)
    height_in = 2 * (ROW_IN * len(settings)) + margins.top + margins.bottom + margins.gap
    drawn, (above, below) = new_figure(NARROW_IN if narrow else WIDE_IN, height_in, margins, (1, 1), shares_x=False)
    for at, setting in enumerate(settings):
        strips.strip(above, at, plan.values(setting, plan.strike, "unavailable_s"))
        for name, colour, shift, said in (
            ("sdowns", ORANGE, 0.18, "a Sentinel says +sdown"), ("false_failovers", RED, -0.18, "a failover"),
        ):  # fmt: skip
            share = plan.share(setting, "calm", name)
            if share is not None:
                low, high = share.band
                below.barh(at + shift, share.share, height=0.3, color=colour, label=said if at == 0 else None)
                below.plot([low, high], [at + shift, at + shift], color=GREY, linewidth=1.4, marker="|", markersize=6)
    texts = [marked(plan, say_ns(setting.down_after_ns), setting, step.taken) for setting in settings]
    for ax in (above, below):
        strips.name_rows(ax, texts)
    above.set_xscale("log")
    above.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    above.xaxis.set_major_formatter(FuncFormatter(lambda s, _: say_ns(round(s * S))))
    above.xaxis.set_minor_locator(NullLocator())
    label(above, title="no answer after the strike" if narrow else "after the strike: longest time without an answer")
    below.set_xlim(0, 1)
    below.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    label(below, x=f"share of runs of {say_ns(plan.duration_ns)}", title="nothing struck: false alarms")
    legend_below(drawn, below, 1 if narrow else 2)
    return drawn


def _lost(plan: FailoverPlan, narrow: bool) -> Figure:
    step = _step(plan, "min-replicas")
    assert step is not None, "it is shown only then"
    settings = list(reversed(step.tried))
    margins = Margins(left=1.75 if narrow else 3.0)
    drawn, (ax,) = new_figure(NARROW_IN if narrow else WIDE_IN, 0.9 + ROW_IN * len(settings), margins)
    for at, setting in enumerate(settings):
        strips.strip(ax, at, plan.values(setting, plan.cut, "lost_acked_writes"))
    texts = [marked(plan, say_min_replicas(setting, narrow=narrow), setting, step.taken) for setting in settings]
    strips.name_rows(ax, texts)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_locator(MaxNLocator(4 if narrow else 7))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    label(ax, x="acknowledged writes lost")
    return drawn


def say_min_replicas(setting: Setting, *, narrow: bool = False) -> str:
    """`1, max-lag 3 s`; `0`: off."""
    if not setting.min_replicas or not setting.min_lag_s:
        return "0"
    return f"{setting.min_replicas}, {'' if narrow else 'max-'}lag {setting.min_lag_s} s"
