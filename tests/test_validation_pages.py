"""The pages of a validation: self-contained, every case and every miss in them, generated from the table and nothing else."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from redsim.lab import accuracy
from redsim.lab.case import load_pack
from redsim.lab.grade import COLUMNS, Row
from redsim.report.trust import trust
from redsim.report.validation import distrust_page, page, write_validation
from redsim.run import engine
from redsim.scenario.regime import BANDS

PACK = load_pack()


def made_up() -> dict[str, Any]:
    """Rows of every shipped case with errors drawn from their place in the pack: page material, not measurements."""
    rows = []
    for i, case in enumerate(PACK):
        for j, quantity in enumerate(case.file.quantities):
            error = (7 * i + 13 * j) % 60 - 30
            verdict = ("pass", "miss", "inconclusive")[(i + j) % 3]
            rows.append(
                Row(
                    case.name,
                    quantity,
                    (i % 20) / 20,
                    100.0,
                    3.0,
                    100.0 + error,
                    error,
                    case.file.fitted,
                    verdict,
                    case.kind,
                    noise_pct=4.0,
                )
            )
    frame = accuracy.frame(rows)
    frame["cause"] = "made up <for the page>"
    fit = pd.DataFrame(
        [("50 connections", "p50_us", 40.0, 41.0, 2.5)], columns=["point", "quantity", "measured", "fitted", "error_pct"]
    )
    return {
        "rows": frame, "by_quantity": accuracy.by_quantity(frame), "by_utilisation": accuracy.by_utilisation(frame),
        "regions": accuracy.regions(frame), "misses": accuracy.misses(frame), "headline": accuracy.headline(frame), "fit": fit,
        "published": pd.DataFrame([("E5520", "p50_us", 0.9, 1e5, 5.0, 9e4, -10.0, False, "pass")], columns=list(COLUMNS)),
        "machine": {"Processor": "made up", "Redis": "7.0.15", "Date": "2026-11-22"}, "noise": ["none"],
        "cases": pd.DataFrame([(c.name, c.kind, c.file.says) for c in PACK], columns=["case", "kind", "says"]),
        "repeat": "redsim validate",
    }  # fmt: skip


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data"):
                (self.links if tag == "a" else self.fetched).append(value or "")


@pytest.mark.parametrize("make", [page, distrust_page], ids=["index", "when-not-to-trust"])
def test_a_page_fetches_nothing(make: Any):
    """One self-contained page; its links stay in its folder."""
    seen = _Links()
    seen.feed(make(made_up()))
    assert all(value.startswith("data:image/svg+xml;base64,") for value in seen.fetched)
    assert set(seen.links) <= {"index.html", "when-not-to-trust.html"}
    assert "<script" not in make(made_up())


def test_the_page_shows_every_case_and_every_miss_with_its_cause():
    """Issue 3: the whole table with misses; text from outside is escaped."""
    text = page(made_up())
    assert all(f'id="case-{case.name}"' in text for case in PACK)
    assert "made up &lt;for the page&gt;" in text
    assert all(band in text.replace("&lt;", "<").replace("&gt;", ">") for _, band in BANDS)
    assert text == page(made_up())


def test_a_page_without_any_row_says_so():
    """Nothing measured, nothing claimed."""
    data = made_up()
    empty = data["rows"].iloc[:0]
    data |= {"rows": empty, "by_quantity": accuracy.by_quantity(empty), "by_utilisation": accuracy.by_utilisation(empty)}
    data |= {"regions": [], "misses": accuracy.misses(empty), "headline": accuracy.headline(empty)}
    data |= {"published": data["published"].iloc[:0]}
    assert "Nothing was predicted" in page(data)
    assert "Nothing has been validated yet" in distrust_page(data)


def test_the_noise_floor_stands_beside_each_median_error():
    """Each real run taken as the prediction of another of the same case: no model can be expected to come nearer."""
    data = made_up()
    for table in (data["by_quantity"], data["by_utilisation"], pd.DataFrame(data["regions"])):
        assert (table["noise_pct"] == 4.0).all()
    assert "two real runs" in page(data)


def test_cases_csv_has_exactly_the_columns_the_issue_names(tmp_path: Path):
    """Issue 3."""
    data = made_up()
    names = [path.name for path in write_validation(data, tmp_path, trust_file=tmp_path / "trust.json")]
    assert names == ["cases.csv", "index.html", "when-not-to-trust.html", "trust.json"]
    rows = list(csv.reader(io.StringIO((tmp_path / "cases.csv").read_text(encoding="utf-8"))))
    said = "case, quantity, utilisation, measured, measured_spread, predicted, error_pct, fitted, verdict"
    assert rows[0] == said.split(", ")
    assert len(rows) == 1 + len(data["rows"])
    assert {r[-1] for r in rows[1:]} <= {"pass", "miss", "inconclusive"}
    assert json.loads((tmp_path / "trust.json").read_text(encoding="utf-8"))["regions"] == json.loads(json.dumps(data["regions"]))


def test_when_not_to_trust_lists_each_bad_region_and_where_nobody_looked():
    """Generated from the table."""
    data = made_up()
    text = re.sub(r"\s+", " ", distrust_page(data))
    bad = [r for r in data["regions"] if not r["trusted"]]
    assert text.count('<span class="change">') == len(bad) > 0
    assert "time-outs, main thread &gt; 80 % busy" in text


def test_a_report_says_how_far_off_its_region_was():
    """Issue 3: linked from every report whose scenario lies in a bad region; the figures are those of trust.json."""
    (case,) = load_pack(only=["open-40"])
    told = trust(engine.run(case.at(90_000)))
    assert told.region.startswith("open loop, main thread")
    assert told.page.endswith("when-not-to-trust.html")
    assert any(line.startswith("throughput: off by") for line in told.sentences)
    (unseen,) = load_pack(only=["retry-storm"])
    assert trust(engine.run(unseen.at(900_000))).is_bad
