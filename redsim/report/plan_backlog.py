"""What a plan of the backlog leaves: plan.html (self-contained), plan.json and backlog.csv.

Mirrors nothing in Redis. Sentences and tables are generated from the BacklogPlan. NOT modelled: nothing is computed here.
"""

import json
from pathlib import Path

import pandas as pd

from redsim.report import facts
from redsim.report.files import csv_text, plain, replace_file
from redsim.report.html import Plot, Table, template_environment
from redsim.report.plan_backlog_figures import HOW_TO_READ, TITLES, figure
from redsim.report.style import svg_uri
from redsim.run.backlog_sizes import say_size
from redsim.run.plan_backlog import BacklogPlan
from redsim.units import say_bytes, say_ns

QUESTION = "How large must repl-backlog-size be, and does a full sync get through?"
LISTED_MIN = 0.0005  # of a curve's rows the page lists those between this share and one less it, and the powers of two
SHARE_MIN = 1e-6  # below it a share is said to be just that
SYNC_COLUMNS = ("said", "mean_ns", "longest_ns", "hard_in_force_bytes", "hits", "draws", "p_hard", "p_soft", "p_overflow",
                "chosen_hits", "mean_bytes", "worst_bytes")  # fmt: skip


def write_plan(plan: BacklogPlan, folder: Path, repeat: str) -> list[Path]:
    """Write the three files into `folder`; the paths written. `repeat`: the shell line. OSError if a file cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    curves = [plan.rows.rename(columns={"p_full": "p"}).assign(directive="repl-backlog-size")]
    if plan.sync:
        curves.append(plan.sync.rows.assign(directive="client-output-buffer-limit"))
    together = pd.concat(curves)
    together.insert(0, "directive", together.pop("directive"))
    return [
        replace_file(folder / "plan.html", page(plan, repeat)),
        replace_file(folder / "plan.json", as_json(plan)),
        replace_file(folder / "backlog.csv", csv_text(together)),
    ]


def as_json(plan: BacklogPlan) -> str:
    """{schema, source, master, …, rows, formulas, sync}: units in the names, probabilities 0 to 1."""
    master, sync = plan.master, plan.sync
    whole = {
        "schema": 1, "source": plan.written.source, "node": master.name, "version": master.version, "outage": plan.outages.said,
        "silent": plan.silent, "target": plan.target, "draws": plan.draws, "seed": plan.seed, "rtt_us": master.rtt_ns / 1e3,
        "written_per_s": {"mean": plan.written.mean_per_s, "peak": plan.written.peak_per_s},
        "backlog_bytes": plan.backlog_bytes, "p_full": plan.share(plan.hits), "backlog_now_bytes": master.backlog_bytes,
        "p_full_now": plan.share(plan.hits_now), "draws_needed": plan.draws_needed, "lines": plan.lines_to_paste(),
        "memory_bytes": {"backlog": master.backlog_memory_bytes(plan.backlog_in_force_bytes),
                         "backlog_now": master.backlog_memory_bytes(master.backlog_bytes),
                         "during_full_sync": plan.gathered_memory_bytes() if sync else None},
        "sync": None if sync is None else {
            **{name: getattr(sync, name) for name in SYNC_COLUMNS}, "limits_now": vars(sync.now),
            "limits": vars(sync.chosen) if sync.chosen else None, "rows": sync.rows.to_dict(orient="records"),
        },
        "notes": list(plan.notes), "guesses": list(plan.guesses),
        "formulas": plan.formulas.to_dict(orient="records"), "rows": plan.rows.to_dict(orient="records"),
    }  # fmt: skip
    return json.dumps(plain(whole), indent=1) + "\n"


def answer(plan: BacklogPlan) -> str:
    """The first sentences: the size and what it does to outages, what the size of now does, whether a full sync gets through."""
    goal, outages = f"{100 * plan.target:.6g} %", f"outages ({plan.outages.said}{', silent' if plan.silent else ''})"
    now = f"{say_size(plan.master.backlog_bytes)} of now {_percent(plan.hits_now / plan.draws)}"
    if plan.backlog_bytes is None:
        reached = plan.draws >= plan.draws_needed
        why = "no size up to a terabyte is enough" if reached else f"that takes --draws {plan.draws_needed}"
        said = f"{plan.draws:,} draws cannot show that {goal} of {outages} end in a partial resync: {why}."
        return f"{said} With the {now} end in a full one."
    share, (_, high) = plan.share(plan.hits), plan.band(plan.hits)
    drawn = f"{_percent(share)} of {outages} end" if plan.hits else f"none of {plan.draws:,} {outages} ends"
    said = (
        f"With repl-backlog-size {say_size(plan.backlog_bytes)}, {drawn} in a full resync, under"
        f" {_percent(high)} with 97.5 % confidence: {goal} or more are partial. With the {now} are full."
    )
    return f"{said} {_sync_answer(plan)}".strip()


def _sync_answer(plan: BacklogPlan) -> str:
    sync = plan.sync
    if sync is None:
        return ""
    gathers = f"gathers {say_bytes(sync.worst_bytes)} at worst"
    lasts = f"A full sync of {say_ns(sync.mean_ns)}" + ("" if sync.longest_ns == sync.mean_ns else " on average")
    if sync.hits == 0:
        return f"{lasts} {gathers} and gets through the output buffer limit of now."
    fate = f"is broken off in {_percent(sync.p_overflow)} of the cases, and begins anew"
    fate = "is broken off each time, and begins anew for ever" if sync.hits == sync.draws else fate
    if sync.chosen is None:
        return f"{lasts} {gathers} and {fate}; no limit up to a terabyte changes that as often as wanted."
    return f"{lasts} {gathers}: with the limits of now it {fate}."


def lines(plan: BacklogPlan) -> list[str]:
    """As a terminal shows it: the answer, the lines to paste, what to know besides."""
    paste = [f"    {line}" for line in plan.lines_to_paste()]
    return [
        answer(plan), *(["To paste:", *paste] if paste else []), *inequalities(plan), *_prices(plan), *plan.notes,
        *(f"guessed: {line}" for line in plan.guesses),
    ]  # fmt: skip


def inequalities(plan: BacklogPlan) -> list[str]:
    """The two conditions that everybody writes down, with their figures by the mean rate."""
    rate = say_bytes(round(plan.written.mean_per_s))
    typical_ns, size = plan.outages.quantile_ns(0.5), plan.backlog_in_force_bytes
    missed = plan.written.mean_per_s * typical_ns / 1e9
    said = [
        f"PSYNC works while written bytes/s x outage < backlog: {rate}/s x {say_ns(typical_ns)} (median) = "
        f"{say_bytes(round(missed))} {'<' if missed < size else '>='} {say_size(size)}"
    ]
    if plan.sync:
        sync, hard = plan.sync, plan.sync.hard_in_force_bytes
        lifted = " (repl-backlog-size lifts it)" if hard > sync.now.hard_bytes else ""
        verdict = f"{'<' if sync.mean_bytes < hard else '>='} {say_size(hard)}{lifted}" if hard else "and there is no hard limit"
        soft = sync.now.soft_bytes
        side = "below" if sync.mean_bytes < soft else "above"
        over = f"{side} the soft limit {say_size(soft)}, which may last {sync.now.soft_s} s"
        said.append(
            f"A full sync converges while written bytes/s x (fork + save or transfer + load) < hard limit: {rate}/s x "
            f"{say_ns(sync.mean_ns)} = {say_bytes(sync.mean_bytes)} {verdict}" + (f", {over}" if soft else "")
        )
    return said


def _prices(plan: BacklogPlan) -> list[str]:
    """What it costs in memory."""
    master = plan.master
    chosen, now = (master.backlog_memory_bytes(size) for size in (plan.backlog_in_force_bytes, master.backlog_bytes))
    ram = f", {100 * chosen / master.ram_bytes:.2g} % of {say_bytes(master.ram_bytes)}" if master.ram_bytes else ""
    said = [
        f"The backlog takes up to {say_bytes(chosen)} of used_memory{ram} (now {say_bytes(now)}); it counts against maxmemory, so"
        " raise that by as much"
    ]
    if plan.sync:
        how = "backlog and replicas share one buffer" if master.is_shared else f"each of {master.replicas} replicas has its own"
        said.append(f"During a full sync up to {say_bytes(plan.gathered_memory_bytes())}: {how} in {master.version}")
    return said


def page(plan: BacklogPlan, repeat: str) -> str:
    """plan.html as text."""
    names = ["backlog", "rate", *(["sync"] if plan.sync else [])]
    plots = [_plot(plan, name) for name in names]
    paste = "\n".join(plan.lines_to_paste())
    return template_environment().get_template("plan_backlog.html.j2").render(
        title=f"Backlog for {plan.written.source}", question=QUESTION, answer=answer(plan), paste=paste,
        conditions=[*inequalities(plan), *_prices(plan)], plots=plots, formulas=_formula_table(plan), curve=_curve_table(plan),
        sync=_sync_table(plan), notes=plan.notes, guesses=plan.guesses, repeat=repeat, assumed=_assumed(plan),
    )  # fmt: skip


def _plot(plan: BacklogPlan, name: str) -> Plot:
    wide, narrow = (svg_uri(figure(plan, name, narrow=phone), name) for phone in (False, True))
    return Plot(name, TITLES[name], wide, narrow, f"{TITLES[name]}. {HOW_TO_READ[name]}", HOW_TO_READ[name])


def _assumed(plan: BacklogPlan) -> list[str]:
    master, window = plan.master, "exactly repl-backlog-size (6.2)"
    if master.is_shared:
        payload = master.payload_bytes(plan.backlog_in_force_bytes)
        window = (
            f"repl-backlog-size and 1 to {payload:,} bytes more, as whole blocks are given up; where in a block is drawn. Values"
            " above 16 KiB make larger blocks, and a slow replica keeps its own: what is there more is not counted on"
        )
    cut = "the connection breaks at both ends at once; the replica tries at once, then each second (replicationCron)"
    if plan.silent:
        cut = (
            "packets are lost and nobody is told until repl-timeout; then the replica connects, TCP repeating its SYN ever later"
        )
    return [
        f"An outage: {cut}. Bytes missed: outage + up to that wait + 4 round trips of {say_ns(master.rtt_ns)}.",
        f"The backlog holds {window}. It is full: the master has written more than that since its start.",
        "An outage begins at any instant of the series with the same chance, whatever the load is then.",
        f"The bands are of {plan.draws:,} draws (seed {plan.seed}), 95 % (Clopper and Pearson): more draws narrow them. They say"
        " nothing of whether the outages and the rates asked for are those to come.",
        "The output buffer counts whole blocks from the fork to the first ACK after the load. What is left above the soft limit"
        " while it is being sent after that is not looked at.",
    ]


def _percent(share: float) -> str:
    """`0.0123` → `1.23 %`; never 0 or 100 % of what is not."""
    if 0 < share < SHARE_MIN:
        return f"< {100 * SHARE_MIN:g} %"
    return f"{100 * share:.3g} %" if share < 0.9995 or share == 1 else f"{100 * share:.6g} %"


def _share_cells(row: object) -> list[str]:
    p, low, high = (float(getattr(row, name)) for name in ("p_full" if hasattr(row, "p_full") else "p", "low", "high"))
    return [_percent(p), f"{_percent(low)} – {_percent(high)}"]


def _formula_table(plan: BacklogPlan) -> Table:
    head = ["rule", "size", "full resyncs", "95 % band", "target met"]
    rows = [
        [str(row.says), say_bytes(int(row.size_bytes)), *_share_cells(row), "yes" if row.high <= 1 - plan.target else "no"]
        for row in facts.rows(plan.formulas)
    ]
    if plan.backlog_bytes:
        low, high = plan.band(plan.hits)
        band = f"{_percent(low)} – {_percent(high)}"
        rows.insert(0, ["this plan", say_bytes(plan.backlog_bytes), _percent(plan.share(plan.hits)), band, "yes"])
    return Table("What rules of thumb give, put through the same outages", head, rows)


def _curve_table(plan: BacklogPlan) -> Table:
    head = ["repl-backlog-size", "full resyncs", "95 % band", "outage > size / mean rate", "bound, highest rate", "used_memory"]
    rows = [
        [say_size(int(row.size_bytes)), *_share_cells(row), _percent(row.bound_mean), _percent(row.bound_peak),
         say_bytes(int(row.memory_bytes))]
        for row in facts.rows(plan.rows)
        if _is_listed(int(row.size_bytes), float(row.p_full), plan.backlog_bytes)
    ]  # fmt: skip
    return Table("P(full resync) by size", head, rows, len(plan.rows) - len(rows))


def _is_listed(size: int, share: float, chosen: int | None) -> bool:
    return size == chosen or size & (size - 1) == 0 or (LISTED_MIN <= share <= 0.2 and size & (size - 1) & (size // 4) == 0)


def _sync_table(plan: BacklogPlan) -> Table | None:
    if plan.sync is None:
        return None
    rows = [[say_size(int(row.size_bytes)), *_share_cells(row)] for row in facts.rows(plan.sync.rows)]
    return Table("P(a full sync reaches the hard limit)", ["hard limit", "broken off", "95 % band"], rows)
