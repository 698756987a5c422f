"""The pages of a validation: how far off redsim was, and when not to trust it. Self-contained HTML, no network, no script.

Mirrors nothing in Redis. Reads plain data that `redsim validate` hands over (`write_validation` lists it); every sentence and
table is generated from it, none is written by hand. NOT modelled: nothing is graded here.
"""

import itertools
import json
import math
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from matplotlib.figure import Figure

from redsim.report import facts
from redsim.report.files import plain, replace_file
from redsim.report.html import Plot, Table, template_environment
from redsim.report.style import svg_uri
from redsim.report.trust import WORDS, sentence
from redsim.report.validation_figures import HOW_TO_READ, against, utilisation
from redsim.scenario.regime import AT_REST, BANDS, KINDS

CSV_COLUMNS = ["case", "quantity", "utilisation", "measured", "measured_spread", "predicted", "error_pct", "fitted", "verdict"]
MARKS = {"pass": "✔ pass", "miss": "✖ miss", "inconclusive": "? inconclusive"}
Data = Mapping[str, Any]


def write_validation(data: Data, folder: Path, *, trust_file: Path | None = None) -> list[Path]:
    """Write cases.csv, index.html and when-not-to-trust.html into `folder`, and `trust_file` if given; the paths written.

    `data`: rows (frame of every row: the columns of cases.csv, kind, evidence, noise_pct, name, band, cause), by_quantity,
    by_utilisation (frames), regions (list), misses (frame), headline (dict), fit (frame of fit points), published (frame),
    machine (label -> text), noise (sentences), cases (frame: case, kind, says), repeat (the shell line).
    OSError if a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = [
        replace_file(folder / "cases.csv", data["rows"][CSV_COLUMNS].to_csv(index=False, lineterminator="\n")),
        replace_file(folder / "index.html", page(data)),
        replace_file(folder / "when-not-to-trust.html", distrust_page(data)),
    ]
    if trust_file is not None:
        made.append(replace_file(trust_file, trust_json(data)))
    return made


def trust_json(data: Data) -> str:
    """What redsim.report.trust reads: the machine in one line and the regions."""
    machine = machine_line(data)
    rows = ",\n".join(json.dumps(plain(region), ensure_ascii=False) for region in data["regions"])
    return f'{{"machine": {json.dumps(machine, ensure_ascii=False)},\n"regions": [\n{rows}\n]}}\n'


def machine_line(data: Data) -> str:
    """Processor, Redis and date in one line."""
    known = {"Processor": "{}", "Redis": "Redis {}", "Date": "{}"}
    return ", ".join(how.format(data["machine"][key]) for key, how in known.items() if key in data["machine"])


def page(data: Data) -> str:
    """index.html as text."""
    rows = data["rows"]
    published = data["published"]
    return _template("validation.html.j2").render(
        answer=answer(data),
        cases=_table("Cases", data["cases"], ["case", "kind", "says"], words=3),
        every=[_rows_table(str(case), mine) for case, mine in rows.groupby("case", sort=False)],
        fit=_table("Fit points", data["fit"], list(data["fit"].columns), words=2),
        machine=Table("Machine and versions", ["what", "value"], [[k, str(v)] for k, v in data["machine"].items()], words=2),
        missed=_misses(data["misses"]),
        noise=data["noise"],
        plots=_plots(data),
        published=_published(published),
        published_said=_published_said(published),
        quantities=_quantities(data["by_quantity"]),
        repeat=data["repeat"],
        utilisation=_by_band(data["by_utilisation"]),
    )


def answer(data: Data) -> str:
    """The first sentence of the page."""
    told, kept = data["headline"], data["by_quantity"]
    if kept.empty:
        return "Nothing was predicted that could be compared with a measurement."
    parts = [f"{WORDS.get(r.quantity, r.quantity)} {r.median_error_pct:.1f} %" for r in facts.rows(kept) if r.quantity in _HEAD]
    graded = told["pass"] + told["miss"] + told["inconclusive"]
    return (
        f"Median error of what was never fitted: {', '.join(parts)}. Of {graded:,} predictions in {told['cases']} cases "
        f"{told['pass']:,} are within their bar, {told['miss']:,} miss it, and for {told['inconclusive']:,} the "
        f"machine was too noisy to say."
    )


_HEAD = ("throughput_per_s", "p50_us", "p99_us", "stall_us", "cpu_us_per_command", "used_memory_bytes", "used_memory_rss_bytes")


def distrust_page(data: Data) -> str:
    """when-not-to-trust.html as text."""
    regions = data["regions"]
    bad = sorted((r for r in regions if not r["trusted"]), key=lambda r: -r["median_error_pct"] / r["bar_pct"])
    good = [r for r in regions if r["trusted"]]
    seen = {(r["kind"], r["band"]) for r in regions}
    played = [kind for kind in KINDS if kind != AT_REST]
    unseen = [f"{kind}, main thread {band} busy" for kind in played for _, band in BANDS if (kind, band) not in seen]
    return _template("distrust.html.j2").render(
        answer=_distrust_answer(bad, regions),
        bad=_by_place(bad),
        good=Table("Where the bars are kept", ["kind of load", "busy", "quantity", "cases", "median error", "worst"],
                   [_region_row(r) for r in good], words=3),
        kinds=KINDS,
        machine=machine_line(data),
        unseen=unseen,
    )  # fmt: skip


def _distrust_answer(bad: list[Any], regions: list[Any]) -> str:
    if not regions:
        return "Nothing has been validated yet, so there is nothing to trust."
    if not bad:
        return f"In all {len(regions)} regions that were measured, the median error is within one and a half times the bar."
    worst = bad[0]
    return (
        f"In {len(bad)} of {len(regions)} measured regions redsim is off by more than one and a half times the bar; the worst is "
        f"{WORDS[worst['quantity']]} under {worst['kind']} with the main thread {worst['band']} busy: "
        f"{worst['median_error_pct']:.0f} % at the median."
    )


def _by_place(bad: list[Any]) -> dict[str, list[str]]:
    """Sentences by kind of load and band, the worst place first."""
    places: dict[str, list[str]] = {}
    for region in bad:
        places.setdefault(_where(region), []).append(sentence(region))
    return places


def _where(region: Any) -> str:
    return f"{region['kind']}, main thread {region['band']} busy"


def _region_row(region: Any) -> list[str]:
    return [region["kind"], region["band"], WORDS[region["quantity"]], str(region["rows"]), f"{region['median_error_pct']:.1f} %",
            f"{region['worst_error_pct']:+.0f} %"]  # fmt: skip


# ---- tables ------------------------------------------------------------------------------------------------------


def _quantities(by_quantity: pd.DataFrame) -> Table:
    if by_quantity.empty:
        return Table("Accuracy by quantity", ["quantity"], [])
    head = ["quantity", "bar", "kept", "rows", "median", "two real runs", "conclusive", "MAPE", "bias", "✔ / ✖ / ?", "worst"]
    rows = []
    for r, passed in zip(facts.rows(by_quantity), by_quantity["pass"], strict=True):
        bar, kept = f"{r.bar_pct:g} %" if r.bar_pct else "equal", "yes" if r.kept else "no"
        errors = [
            f"{r.median_error_pct:.1f} %",
            say(r.noise_pct, "{:.1f} %"),
            say(r.conclusive_median_error_pct, "{:.1f} %"),
            f"{r.mape_pct:.1f} %",
        ]
        verdicts, worst = f"{passed} / {r.miss} / {r.inconclusive}", f"{r.worst_error_pct:+.0f} %"
        rows.append([WORDS.get(r.quantity, r.quantity), bar, kept, str(r.rows), *errors, f"{r.bias_pct:+.1f} %", verdicts, worst])
    return Table("Accuracy by quantity, fitted cases left out", head, rows)


def _by_band(frame: pd.DataFrame) -> Table:
    bands = [band for _, band in BANDS]
    rows = []
    for name, mine in [] if frame.empty else frame.groupby("quantity", sort=False):
        cells = {r.band: r for r in facts.rows(mine)}
        rows.append([WORDS.get(str(name), str(name)), *(_band_cell(cells[b]) if b in cells else "–" for b in bands)])
    return Table("Accuracy by utilisation of the main thread", ["quantity", *bands], rows)


def _band_cell(r: Any) -> str:
    noise = say(r.noise_pct, "{:.1f} %")
    return f"{r.median_error_pct:.1f} % ({r.rows}), two real runs {noise}, worst {r.worst_error_pct:+.0f} %"


def _rows_table(case: str, rows: pd.DataFrame) -> Table:
    head = ["quantity", "verdict", "evidence", "busy", "measured", "± spread", "predicted", "error", "two real runs"]
    said = []
    for r in facts.rows(rows):
        numbers = [figure(r.measured), say(r.measured_spread, "{:.1f} %"), figure(r.predicted), say(r.error_pct, "{:+.1f} %")]
        numbers.append(say(r.noise_pct, "{:.1f} %"))
        verdict = ("fitted, " if r.fitted else "") + MARKS[r.verdict]
        said.append([r.quantity, verdict, r.evidence, say(100 * r.utilisation, "{:.0f} %"), *numbers])
    return Table(case, head, said, words=3)


def _misses(rows: pd.DataFrame) -> Table:
    head = ["case", "quantity", "why", "busy", "measured", "predicted", "error", "two real runs"]
    said = []
    for r in facts.rows(rows[~rows["fitted"].astype(bool)]):
        numbers = [figure(r.measured), figure(r.predicted), say(r.error_pct, "{:+.1f} %"), say(r.noise_pct, "{:.1f} %")]
        said.append([r.case, r.quantity, r.cause or "not known", say(100 * r.utilisation, "{:.0f} %"), *numbers])
    return Table("Misses, the widest of their bar first", head, said, words=3)


def _published(rows: pd.DataFrame) -> list[Table]:
    """A table per host or source: the part of the case's name before the colon."""
    head = ["what", "quantity", "verdict", "why", "published", "± as read", "predicted", "error"]
    tables: dict[str, list[list[str]]] = {}
    for r in facts.rows(rows):
        name, _, what = r.case.rpartition(": ")
        verdict = "the one constant fitted" if r.fitted else MARKS[r.verdict]
        numbers = [figure(r.measured), say(r.measured_spread, "{:.0f} %"), figure(r.predicted), say(r.error_pct, "{:+.1f} %")]
        tables.setdefault(name or what, []).append([what, r.quantity, verdict, str(getattr(r, "cause", "")), *numbers])
    return [Table(name, head, said, words=4) for name, said in tables.items()]


def _published_said(rows: pd.DataFrame) -> str:
    free = rows[~rows["fitted"].astype(bool)] if len(rows) else rows
    if free.empty:
        return "No published table was compared in this run."
    errors = free["error_pct"].astype(float)
    passed = int((free["verdict"] == "pass").sum())
    return (
        f"One constant per host was fitted, its speed; of the other {len(free)} figures {passed} are within their bar, with a "
        f"median error of {errors.abs().median():.0f} % and a mean of {errors.mean():+.0f} %."
    )


def _table(caption: str, frame: pd.DataFrame, columns: list[str], *, words: int) -> Table:
    rows = [[figure(v) if isinstance(v, float) else str(v) for v in row] for row in frame[columns].itertuples(index=False)]
    return Table(caption, columns, rows, words=words)


def figure(value: float) -> str:
    """Four significant figures, thousands apart; a dash for what is not there."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def say(value: float, how: str) -> str:
    """The value in that format, a dash where there is none."""
    return how.format(value) if math.isfinite(value) else "–"


# ---- pictures ----------------------------------------------------------------------------------------------------


def _plots(data: Data) -> list[Plot]:
    rows = data["rows"]
    if rows.empty:
        return []
    bars = {r.quantity: r.bar_pct for r in facts.rows(data["by_quantity"])}
    edges = [0.0, *(below for below, _ in BANDS)]
    bands = list(itertools.pairwise(edges))
    drawn: dict[str, tuple[str, Callable[[bool], Figure]]] = {
        "against": ("Predicted against measured", lambda narrow: against(rows, bars, narrow=narrow)),
        "utilisation": ("Error by utilisation", lambda narrow: utilisation(rows, bands, narrow=narrow)),
    }
    return [
        Plot(
            name, title, svg_uri(make(False), name), svg_uri(make(True), name), f"{title}. {HOW_TO_READ[name]}", HOW_TO_READ[name]
        )
        for name, (title, make) in drawn.items()
    ]


@cache
def _template(name: str) -> jinja2.Template:
    return template_environment().get_template(name)
