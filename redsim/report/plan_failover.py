"""What a plan of failovers leaves: plan.html (self-contained), plan.json and failovers.csv.

Mirrors nothing in Redis. Sentences and tables are generated from the FailoverPlan. NOT modelled: nothing is computed here.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from redsim.report import plan_failover_figures as figures
from redsim.report.facts import say_count
from redsim.report.files import csv_text, plain, replace_file
from redsim.report.html import Plot, Table, template_environment
from redsim.report.style import svg_uri
from redsim.run.confidence import tenths
from redsim.run.failover_trials import AFTER_NS, Setting
from redsim.run.plan_failover import AXES, MARGIN, MATTERS, FailoverPlan, Share, Step
from redsim.units import S, say_ns

__all__ = ["answer", "lines", "write_plan"]

QUESTION = "Which down-after, quorum, min-replicas and parallel-syncs suit this service and its stalls?"
FEW = 60  # runs of which the largest one in twenty is worth a word
STRUCK = {"kill": "a kill of {}", "own": "what the timeline does to {}"}


def write_plan(plan: FailoverPlan, folder: Path, repeat: str) -> list[Path]:
    """Write the three files into `folder`; the paths written. `repeat`: the shell line. OSError if a file cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        replace_file(folder / "plan.html", page(plan, repeat)),
        replace_file(folder / "plan.json", as_json(plan)),
        replace_file(folder / "failovers.csv", csv_text(plan.rows)),
    ]


def as_json(plan: FailoverPlan) -> str:
    """{schema, scenario, service, now, chosen, lines, steps: [{axis, why, taken, tried: [{setting, kinds}]}], …}."""
    steps = [
        {"axis": step.axis, "why": step.why, "taken": step.taken.row(),
         "tried": [{**one.row(), **_figures(plan, one)} for one in step.tried]}
        for step in plan.steps
    ]  # fmt: skip
    whole = {
        "schema": 1, "scenario": plan.name, "service": plan.service, "master": plan.master, "sentinels": plan.sentinels,
        "repeats": plan.repeats, "cut_s": plan.cut_ns / S, "strike": plan.strike, "lines": plan.lines_to_paste(),
        "now": {**plan.now.row(), **_figures(plan, plan.now)}, "chosen": {**plan.chosen.row(), **_figures(plan, plan.chosen)},
        "answer": answer(plan),
        "steps": steps, "notes": list(plan.notes), "guesses": list(plan.guesses),
    }  # fmt: skip
    return json.dumps(plain(whole), indent=1) + "\n"


def _figures(plan: FailoverPlan, setting: Setting) -> dict[str, object]:
    """The chief figures of a setting; null: that was not tried."""

    def middle(kind: str, name: str) -> list[float] | None:
        values = plan.values(setting, kind, name)
        return list(tenths(values)) if values else None

    def share(kind: str, name: str) -> dict[str, object] | None:
        found = plan.share(setting, kind, name)
        return None if found is None else {"hits": found.hits, "runs": found.runs, "band": found.band}

    return {
        "unavailable_s": middle(plan.strike, "unavailable_s"), "redundant_s": middle(plan.strike, "redundant_s"),
        "replaced": share(plan.strike, "failovers"), "replaced_with_a_dead_sentinel": share("short", "failovers"),
        "false_failovers": share("calm", "false_failovers"), "false_sdowns": share("calm", "sdowns"),
        "false_failovers_by_a_blind_sentinel": share("blind", "false_failovers"),
        "lost_acked_writes": middle(plan.cut, "lost_acked_writes") if plan.cut else None,
    }  # fmt: skip


# ---- sentences


def answer(plan: FailoverPlan) -> str:
    """The first sentences: what to set, what an outage then lasts, whether a calm run is left alone, what is lost."""
    now, chosen = plan.now, plan.chosen
    changed = say_changes(plan)
    unsafe = [step.axis for step in plan.steps if not step.is_safe]
    begin = f"No {' and no '.join(unsafe)} that was tried is safe. " if unsafe else ""
    if changed:
        begin += f"With {changed}, "
    else:
        begin += "With the setting of now, " if unsafe else "The setting of now is the one to keep: with it, "
    said = f"{begin}{STRUCK[plan.strike].format(plan.master)} leaves clients without an answer for {_middle(plan, chosen)}"
    said += f" (now {_middle(plan, now)})" if changed else ""
    share = plan.share(chosen, "calm", "false_failovers")
    if share is not None:
        said += f"; {_seen(share)} calm runs of {say_ns(plan.duration_ns)} {'has' if share.hits < 2 else 'have'} a failover"
        said += f" {_sure(share)}"
        before = plan.share(now, "calm", "false_failovers")
        said += f" (now {before.hits} of {before.runs})" if changed and before is not None and before.hits else ""
    return said + "." + (_lost(plan, changed) if plan.cut else "")


def _lost(plan: FailoverPlan, changed: str) -> str:
    """What a master that is cut off loses, and what bounding that costs."""
    who = "It" if plan.cut == "own" else f"A {plan.master} that is cut off for {say_ns(plan.cut_ns)}"
    count = _count(plan, plan.chosen, "lost_acked_writes")
    said = f" {who} loses {say_count(count)} acknowledged write{'' if count == 1 else 's'} at the median"
    said += f" (now {say_count(_count(plan, plan.now, 'lost_acked_writes'))})" if changed else ""
    refused = _count(plan, plan.chosen, "refused_writes")
    return said + (f"; {say_count(refused)} writes are refused meanwhile." if refused else ".")


def say_changes(plan: FailoverPlan) -> str:
    """`down-after-milliseconds 2000 (now 30000) and quorum 2 (now 1)`; "": nothing changes."""
    names = ("down-after-milliseconds", "quorum", "parallel-syncs", "min-replicas-to-write", "min-replicas-max-lag")
    pairs = zip(names, plan.now.row().values(), plan.chosen.row().values(), strict=True)
    parts = [f"{name} {after} (now {before})" for name, before, after in pairs if before != after]
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _middle(plan: FailoverPlan, setting: Setting) -> str:
    runs, values = plan.of(setting, plan.strike), plan.values(setting, plan.strike, "unavailable_s")
    lasting = len(values) - int(runs["is_over"].sum())
    stuck = int(((runs["failovers"] > 0) & runs["writable_s"].isna()).sum())
    said = _spread(values, lambda value: say_ns(round(value * S)))
    said += f", and in {lasting} of {len(values)} runs it is not over by the end" if lasting else ""
    return said + (f", and in {stuck} of {len(values)} runs nobody takes a write again" if stuck else "")


def _spread(values: Sequence[float], say: Callable[[float], str]) -> str:
    """The median, and what 95 % of the runs stay under; of fewer than FEW, which cannot tell that, the worst."""
    _, median, most = tenths(values)
    if len(values) < FEW:
        return f"{say(median)} at the median, {say(max(values))} at worst of {len(values)}"
    return f"{say(median)} at the median, under {say(most)} in 95 %"


def _count(plan: FailoverPlan, setting: Setting, name: str) -> int:
    return round(float(np.median(plan.values(setting, plan.cut, name))))


def _seen(share: Share) -> str:
    return f"{share.hits} of {share.runs}" if share.hits else f"none of {share.runs}"


def _sure(share: Share) -> str:
    low, high = share.band
    return f"({100 * low:.3g} to {100 * high:.3g} %)" if share.hits else f"(under {100 * high:.3g} % with 97.5 % confidence)"


def lines(plan: FailoverPlan) -> list[str]:
    """As a terminal shows it: the answer, the lines to paste, why each is what it is, what to know besides."""
    paste = [f"    {line}" for line in plan.lines_to_paste()]
    return [
        answer(plan), *(["To paste:", *paste] if paste else []), *why(plan), *plan.notes,
        *(f"guessed: {line}" for line in plan.guesses),
    ]  # fmt: skip


def why(plan: FailoverPlan) -> list[str]:
    """A sentence for each directive."""
    return [f"{step.axis} {_value(step.axis, step.taken)}: {step.why}" for step in plan.steps]


def _value(axis: str, setting: Setting) -> str:
    values = {
        AXES[0]: f"{setting.row()['down_after_ms']}", AXES[1]: f"{setting.quorum}",
        AXES[2]: figures.say_min_replicas(setting), AXES[3]: f"{setting.parallel_syncs}",
    }  # fmt: skip
    return values[axis]


# ---- the page


def page(plan: FailoverPlan, repeat: str) -> str:
    """plan.html as text."""
    plots = [_plot(plan, name) for name in figures.shown(plan)]
    return template_environment().get_template("plan.html.j2").render(
        title=f"Failovers of {plan.name}", question=QUESTION, answer=answer(plan), paste="\n".join(plan.lines_to_paste()),
        plots=plots, tables=[_table(plan, step) for step in plan.steps], notes=[*why(plan), *plan.notes], guesses=plan.guesses,
        repeat=repeat, files="failovers.csv and plan.json", assumed=_assumed(plan),
    )  # fmt: skip


def _plot(plan: FailoverPlan, name: str) -> Plot:
    wide, narrow = (svg_uri(figures.figure(plan, name, narrow=phone), name) for phone in (False, True))
    title, how = figures.TITLES[name], figures.HOW_TO_READ[name]
    return Plot(name, title, wide, narrow, f"{title}. {how}", how)


def _assumed(plan: FailoverPlan) -> list[str]:
    struck = [
        f"The master is struck at a random instant of the scenario's {say_ns(plan.duration_ns)}, the same for each setting of a"
        f" seed; the run goes on for down-after and {say_ns(AFTER_NS)}.",
        "A killed master does not come back; a host that is cut off loses the other hosts, not its clients.",
    ]
    if plan.strike == "own":
        struck = [f"The timeline strikes as it is written; the run goes on for down-after and {say_ns(AFTER_NS)} behind it."]
    return [
        *struck,
        f"A safe directive changes only where {plan.repeats} pairs of runs show something better, by {100 * MATTERS:.0f} %"
        f" of the mean or more; down-after is {MARGIN:g} times the longest stall at least. Both figures are guesses.",
        "Each directive is chosen alone, in the order of the tables, the others as chosen before.",
        "A stall that the scenario does not have (a longer fork, a slower disk, a KEYS by hand) makes no false failover here.",
    ]


def _table(plan: FailoverPlan, step: Step) -> Table:
    """A row per setting that was tried for a directive."""
    columns = {
        AXES[0]: ("outage", "replaced", "false", "sdown"), AXES[1]: ("outage", "replaced", "short", "blind", "false"),
        AXES[2]: ("lost", "refused", "outage", "calm refused"), AXES[3]: ("redundant", "outage"),
    }[step.axis]  # fmt: skip
    head = [step.axis, *(_HEADS[name] for name in columns)]
    rows = []
    for setting in step.tried:
        text = figures.marked(plan, _value(step.axis, setting), setting, step.taken)
        rows.append([text, *(_cell(plan, setting, name) for name in columns)])
    return Table(f"{step.axis}: {step.why}", head, rows)


_HEADS = {
    "outage": "no answer after the strike", "replaced": "master replaced", "false": "false failovers, calm",
    "sdown": "false +sdown, calm", "lost": "writes lost when cut off", "short": "replaced with a dead Sentinel",
    "blind": "false failovers, a blind Sentinel", "refused": "writes refused when cut off",
    "calm refused": "writes refused, calm", "redundant": "until all replicas follow",
}  # fmt: skip


def _cell(plan: FailoverPlan, setting: Setting, name: str) -> str:
    shares = {"replaced": (plan.strike, "failovers"), "false": ("calm", "false_failovers"), "sdown": ("calm", "sdowns"),
              "short": ("short", "failovers"), "blind": ("blind", "false_failovers")}  # fmt: skip
    spans = {"outage": (plan.strike, "unavailable_s"), "redundant": (plan.strike, "redundant_s"),
             "lost": (plan.cut, "lost_acked_writes"), "refused": (plan.cut, "refused_writes"),
             "calm refused": ("calm", "refused_writes")}  # fmt: skip
    if name in shares:
        share = plan.share(setting, *shares[name])
        if share is None:
            return "–"
        low, high = share.band
        return f"{share.hits} of {share.runs} ({100 * low:.0f} to {100 * high:.0f} %)"
    kind, column = spans[name]
    values = plan.values(setting, kind, column)
    if not values:
        return "–"
    say = (lambda value: say_ns(round(value * S))) if column.endswith("_s") else (lambda value: say_count(round(value)))
    return f"{say(float(np.median(values)))}, worst {say(max(values))}"
