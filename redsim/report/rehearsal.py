"""What a rehearsal leaves: rehearsal.html (self-contained), rehearsal.json and rehearsal.csv.

Mirrors nothing in Redis. Sentences and tables are generated from the Rehearsal. NOT modelled: nothing is computed here.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from redsim.report import facts
from redsim.report.files import plain, replace_file
from redsim.report.html import Plot, Table, template_environment
from redsim.report.rehearsal_figures import HOW_TO_READ, curve, windows
from redsim.report.style import svg_uri
from redsim.run.rehearse import BOUNDS, Rehearsal
from redsim.units import say_bytes

LEFT_OUT = ("said", "windows")


def write_rehearsal(rehearsal: Rehearsal, folder: Path, repeat: str) -> list[Path]:
    """Write the three files into `folder`; the paths written. `repeat`: the shell line. OSError if a file cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.concat([part for part in (rehearsal.rows, rehearsal.curve) if not part.empty])
    return [
        replace_file(folder / "rehearsal.html", page(rehearsal, repeat)),
        replace_file(folder / "rehearsal.json", as_json(rehearsal)),
        replace_file(folder / "rehearsal.csv", table.drop(columns="said").to_csv(index=False, lineterminator="\n")),
    ]


def as_json(rehearsal: Rehearsal) -> str:
    """{schema, facts, guesses, rows, curve, line}: units in the names, ratios 0 to 1."""
    frames = {"rows": rehearsal.rows, "curve": rehearsal.curve, "line": rehearsal.line}
    told = {name: frame.to_dict(orient="records") for name, frame in frames.items()}
    whole = {"schema": 1, "facts": dict(rehearsal.facts), "guesses": list(rehearsal.guesses), **told}
    return json.dumps(plain(whole), indent=1) + "\n"


def said_limit(rehearsal: Rehearsal, limit: float) -> str:
    """A limit for people: `100 MiB`, `7,634 keys`."""
    return say_bytes(round(limit)) if rehearsal.facts["limit_unit"] == "bytes" else f"{limit:,.0f} keys"


def answer(rehearsal: Rehearsal) -> str:
    """The first sentence: the best policy and the room above it."""
    told = rehearsal.facts
    hit = {str(said): float(ratio) for said, ratio in zip(rehearsal.rows["said"], rehearsal.rows["hit_ratio"], strict=True)}
    at = said_limit(rehearsal, told["limit"])
    if not told["reads"]:
        return f"There is no read in the trace, so nothing can hit at {at}."
    best = max((said for said in hit if said not in BOUNDS), key=lambda said: hit[said])
    return (
        f"At {at}, {best} hits {_percent(hit[best])} of {told['reads']:,} reads; exact LRU would hit "
        f"{_percent(hit['exact LRU'])}, Belady's rule, which knows the future, {_percent(hit['Belady'])}."
    )


def lines(rehearsal: Rehearsal) -> list[str]:
    """The table as a terminal shows it, the answer first."""
    rows = [[*cells] for cells in _table(rehearsal).rows]
    head = _table(rehearsal).head
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    text = ["  ".join(cell.ljust(w) if at == 0 else cell.rjust(w) for at, (cell, w) in enumerate(zip(row, widths, strict=True)))
            for row in [head, *rows]]  # fmt: skip
    return [answer(rehearsal), *text, *(f"guessed: {line}" for line in rehearsal.guesses)]


def page(rehearsal: Rehearsal, repeat: str) -> str:
    """rehearsal.html as text."""
    return template_environment().get_template("rehearsal.html.j2").render(
        answer=answer(rehearsal), guesses=rehearsal.guesses, table=_table(rehearsal), trace=_trace_table(rehearsal),
        points=_curve_table(rehearsal), plots=_plots(rehearsal), repeat=repeat, name=rehearsal.facts["trace"],
    )  # fmt: skip


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.2f} %"


def _table(rehearsal: Rehearsal) -> Table:
    head = ["policy", "hit ratio", "±", "evicted", "idle when evicted", "expired", "-OOM", "keys at the end", "accesses/s"]
    rows = [
        [str(r.said), _percent(r.hit_ratio), "" if math.isnan(r.hit_ratio_pm) else _percent(r.hit_ratio_pm), f"{r.evicted:,.0f}",
         "–" if math.isnan(r.idle_s_when_evicted) else f"{r.idle_s_when_evicted:,.3g} s", f"{r.expired:,.0f}", f"{r.denied:,.0f}",
         f"{r.keys_at_end:,.0f}", f"{r.accesses_per_cpu_s / 1e6:.1f} M"]
        for r in facts.rows(rehearsal.rows)
    ]  # fmt: skip
    return Table(f"At {said_limit(rehearsal, rehearsal.facts['limit'])}", head, rows)


def _trace_table(rehearsal: Rehearsal) -> Table:
    told = rehearsal.facts
    pairs = {
        "Trace": told["trace"], "Accesses": f"{told['accesses']:,}", "of them reads": f"{told['reads']:,}",
        "Distinct keys": f"{told['distinct_keys']:,}", "Span": f"{told['span_s']:,.6g} s",
        "Nothing is evicted from about": said_limit(rehearsal, told["whole_limit"]), "Allocator": told["allocator"],
        "lfu-log-factor, lfu-decay-time": f"{told['lfu_log_factor']}, {told['lfu_decay_time']} min",
    }  # fmt: skip
    return Table("The trace", ["what", "value"], [[what, str(value)] for what, value in pairs.items()], words=2)


def _curve_table(rehearsal: Rehearsal) -> Table | None:
    if rehearsal.curve.empty:
        return None
    wide = rehearsal.curve.pivot(index="limit", columns="said", values="hit_ratio")[list(rehearsal.rows["said"])]
    rows = [[said_limit(rehearsal, row[0]), *(_percent(share) for share in row[1:])] for row in wide.itertuples()]
    return Table("Hit ratio by size", ["limit", *map(str, wide.columns)], rows)


def _plots(rehearsal: Rehearsal) -> list[Plot]:
    unit = rehearsal.facts["limit_unit"]
    points = rehearsal.curve[rehearsal.curve["policy"] != "noeviction"]
    parts = rehearsal.windows.drop(columns="noeviction", errors="ignore")
    drawn: dict[str, tuple[str, Callable[[bool], Figure]]] = {
        "curve": ("Hit ratio by size", lambda narrow: curve(points, rehearsal.line, unit, narrow=narrow)),
        "windows": ("Hit ratio over the trace", lambda narrow: windows(parts, narrow=narrow)),
    }
    return [
        Plot(
            name, title, svg_uri(make(False), name), svg_uri(make(True), name), f"{title}. {HOW_TO_READ[name]}", HOW_TO_READ[name]
        )
        for name, (title, make) in drawn.items()
        if name != "curve" or not rehearsal.curve.empty
    ]
