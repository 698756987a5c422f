"""What a plan of memory leaves: plan.html (self-contained), plan.json and plan.csv.

Mirrors nothing in Redis. Sentences and tables are generated from the MemoryPlan. NOT modelled: nothing is computed here.
"""

import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from redsim.report import facts
from redsim.report.files import plain, replace_file
from redsim.report.html import Plot, Table, template_environment
from redsim.report.style import BLACK, LINES, NARROW_IN, WIDE_IN, Margins, label, legend_below, new_figure, svg_uri
from redsim.run.plan_memory import MemoryPlan
from redsim.units import GIB, say_bytes

TITLE = "Peak memory by used_memory"
HOW_TO_READ = (
    "Each dot is one run: right is more data, up is more memory at its worst moment. Follow the line to where it meets the "
    "dashed one, the box less its reserve; below that point on the axis stands the maxmemory that fits. The distance from the "
    "dotted diagonal is what the server needs beside its data: fragmentation, page tables, and pages copied while a child lives."
)
COLOURS = [colour for colour, _ in LINES]
PARTS = {
    "used_memory_bytes": "used_memory", "used_memory_rss_bytes": "RSS", "cow_bytes": "copied pages",
    "page_tables_bytes": "page tables", "aof_buffer_bytes": "AOF buffer",
}  # fmt: skip


def write_plan(plan: MemoryPlan, folder: Path, repeat: str) -> list[Path]:
    """Write the three files into `folder`; the paths written. `repeat`: the shell line. OSError if a file cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        replace_file(folder / "plan.html", page(plan, repeat)),
        replace_file(folder / "plan.json", as_json(plan)),
        replace_file(folder / "plan.csv", plan.rows.to_csv(index=False, lineterminator="\n")),
    ]


def as_json(plan: MemoryPlan) -> str:
    """{schema, scenario, node, box_bytes, …, rows}: units in the names."""
    names = ("scenario", "node", "box_bytes", "reserve_bytes", "confidence", "mean_bytes", "upper_bytes", "base_bytes", "slope",
             "maxmemory_bytes", "checked_bytes")  # fmt: skip
    whole = {"schema": 1, **{name: getattr(plan, name) for name in names}, "fits": plan.fits, "lines": plan.lines_to_paste()}
    return json.dumps(plain({**whole, "notes": list(plan.notes), "guesses": list(plan.guesses),
                             "rows": plan.rows.to_dict(orient="records")}), indent=1) + "\n"  # fmt: skip


def answer(plan: MemoryPlan) -> str:
    """The first sentence: does it fit, and which maxmemory does."""
    room, box = plan.box_bytes - plan.reserve_bytes, say_bytes(plan.box_bytes)
    is_or_not = "fits" if plan.fits else "does not fit"
    said = (
        f"{plan.scenario} peaks at {say_bytes(round(plan.mean_bytes))}, under {say_bytes(round(plan.upper_bytes))} with "
        f"{100 * plan.confidence:.0f} % confidence: it {is_or_not} {say_bytes(room)} of the {box} box."
    )
    if plan.maxmemory_bytes is None:
        return f"{said} No maxmemory fits: {say_bytes(round(plan.base_bytes))} are taken by what is no data."
    checked = ""
    if plan.checked_bytes is not None:
        held = "as promised" if plan.checked_bytes <= room else "MORE than there is: take less"
        checked = f"; simulated there, it peaks at {say_bytes(plan.checked_bytes)}, {held}"
    return f"{said} The largest maxmemory that fits is {say_bytes(plan.maxmemory_bytes)}{checked}."


def lines(plan: MemoryPlan) -> list[str]:
    """As a terminal shows it: the answer, the lines to paste, what to know besides."""
    paste = [f"    {line}" for line in plan.lines_to_paste()]
    return [answer(plan), *(["To paste:", *paste] if paste else []), *plan.notes, *(f"guessed: {line}" for line in plan.guesses)]


def page(plan: MemoryPlan, repeat: str) -> str:
    """plan.html as text."""
    wide, narrow = (svg_uri(figure(plan, narrow=is_narrow), "peak") for is_narrow in (False, True))
    plots = [Plot("peak", TITLE, wide, narrow, f"{TITLE}. {HOW_TO_READ}", HOW_TO_READ)]
    return template_environment().get_template("plan.html.j2").render(
        title=f"Memory for {plan.scenario}", question="How much memory does it need, and which maxmemory fits the box?",
        answer=answer(plan), paste="\n".join(plan.lines_to_paste()), plots=plots, tables=[_table(plan)], notes=plan.notes,
        guesses=plan.guesses, repeat=repeat, files="plan.csv and plan.json",
        assumed=[
            f"{say_bytes(plan.reserve_bytes)} of the box are left to the system (--reserve).",
            "Redis has one child at a time: a rewrite waits for a BGSAVE, so that the peak is that of either.",
            "Peak = RSS of the server + pages copied while a child lives + page tables of both; the page cache gives way.",
            "maxmemory bounds used_memory without the AOF buffer and the buffers of replicas.",
        ],
    )  # fmt: skip


def figure(plan: MemoryPlan, *, narrow: bool) -> Figure:
    """Peak by used_memory: runs, the line through the upper ends, the diagonal, the box less its reserve."""
    drawn, (ax,) = new_figure(NARROW_IN if narrow else WIDE_IN, 4.2, Margins(bottom=1.1 if narrow else 0.9))
    unit = GIB
    right = max(float(plan.rows["used_memory_peak_bytes"].max()), float(plan.maxmemory_bytes or 0)) * 1.08
    x = np.array([0.0, right])
    ax.plot(x / unit, x / unit, color=BLACK, linestyle=":", linewidth=1, label="used_memory itself")
    ax.plot(x / unit, (plan.base_bytes + plan.slope * x) / unit, color=COLOURS[0], label="peak, upper end")
    ax.axhline((plan.box_bytes - plan.reserve_bytes) / unit, color=BLACK, linestyle="--", linewidth=1, label="box less reserve")
    ax.plot(plan.rows["used_memory_peak_bytes"] / unit, plan.rows["total_bytes"] / unit, linestyle="", marker="o", markersize=4,
            color=COLOURS[1], label="a run")  # fmt: skip
    if plan.maxmemory_bytes is not None:
        ax.axvline(plan.maxmemory_bytes / unit, color=COLOURS[2], linewidth=1, label="maxmemory")
    ax.set_xlim(0, right / unit)
    ax.set_ylim(bottom=0)
    label(ax, x="used_memory [GiB]", y="peak [GiB]", title=TITLE)
    legend_below(drawn, ax, 2 if narrow else 5)
    return drawn


def _table(plan: MemoryPlan) -> Table:
    head = ["keys", "seed", "peak", *PARTS.values(), "at", "child alive"]
    rows = [
        [f"{row.keys:,}", str(row.seed), say_bytes(int(row.total_bytes)), *(say_bytes(int(getattr(row, name))) for name in PARTS),
         f"{row.at_s:.3g} s", "yes" if row.child else "no"]
        for row in facts.rows(plan.rows)
    ]  # fmt: skip
    return Table("Each run at its worst moment", head, rows)
