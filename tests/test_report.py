"""The report reads a Result and nothing else: claims about the page, the findings, the figures, the trace
and the files.
"""

import dataclasses
import io
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_example import calm, empty, stalled

from redsim.report.answer import answer
from redsim.report.figures import HOW_TO_READ, figure, shown_figures
from redsim.report.files import FRAMES, csv_text, headline, plain, summary_json, write_report
from redsim.report.html import render_html, repeat_command
from redsim.report.perfetto import REPLICATION, REQUESTS_MAX, trace_events
from redsim.report.style import svg

VOID = {"meta", "img", "source", "br", "hr", "input", "link"}


class _Page(HTMLParser):
    """Collects what a check of the page needs, and refuses a tag that closes out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def _read(page: str) -> _Page:
    parser = _Page()
    parser.feed(page)
    parser.close()
    return parser


@pytest.fixture(scope="module")
def page() -> str:
    return render_html(stalled())


# ---- the page --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [stalled, calm, empty], ids=["stalled", "calm", "empty"])
def test_the_page_is_well_formed_and_needs_no_network(make: Any) -> None:
    """DESIGN §6: one self-contained page."""
    parser = _read(render_html(make()))
    assert parser.wrong == []
    assert parser.open == []
    fetched = [value for tag, name, value in parser.attributes if name in ("src", "href", "srcset", "data") and tag != "a"]
    assert fetched
    assert all(value.startswith("data:image/svg+xml;base64,") for value in fetched)


def test_the_page_says_the_answer_before_anything_else(page: str) -> None:
    """DESIGN §6: the answer in the first sentence."""
    said = re.search(r'<p class="answer" id="answer">(.*?)</p>', page)
    assert said is not None
    assert "214 ms" in said[1]
    assert page.index('id="answer"') < page.index("<h2") < page.index("<figure")


def test_the_page_can_be_read_without_eyes_or_colours(page: str) -> None:
    """Brief of the report: alt text, headings in order, table heads with a scope, severity as a word."""
    parser = _read(page)
    images = [value for tag, name, value in parser.attributes if (tag, name) == ("img", "alt")]
    assert len(images) == len(shown_figures(stalled()))
    assert all(len(text) > 20 for text in images)
    assert parser.headings[0] == "h1"
    assert parser.headings.count("h1") == 1
    assert len(re.findall(r"<th[ >]", page)) == len(re.findall(r'<th scope="(?:row|col)"', page))
    assert "critical</span>" in page


def test_the_page_of_a_normal_run_stays_below_2_5_mb(page: str) -> None:
    """Brief of the report."""
    assert len(page.encode()) < 2_500_000


def test_the_page_escapes_what_the_scenario_says() -> None:
    """HTML 5: text is not markup."""
    result = stalled()
    result.summary["question"] = "<script>alert(1)</script>"
    assert "<script" not in render_html(result)


def test_a_partial_run_is_marked_in_page_summary_and_answer() -> None:
    """DESIGN §6: Ctrl-C leaves a valid partial report marked as such."""
    result = dataclasses.replace(stalled(), partial=True)
    result.summary["simulated_s"] = 12.5
    assert "Partial run: stopped at 12.5 s of 20 s" in render_html(result)
    assert json.loads(summary_json(result))["partial"] is True
    assert answer(result).startswith("Stopped at 12.5 s of 20 s: ")


def test_a_summary_cut_short_still_makes_a_page() -> None:
    """DESIGN §6: Ctrl-C leaves a valid partial report, whatever had been filled by then."""
    result = dataclasses.replace(empty(), summary={})
    parser = _read(render_html(result))
    assert (parser.wrong, parser.open) == ([], [])
    assert "No client request was answered" in answer(dataclasses.replace(result, partial=False))
    assert json.loads(summary_json(result))["partial"] is True


def test_the_repeat_command_quotes_its_words() -> None:
    """POSIX sh: an override with a blank is one word."""
    result = stalled()
    result.scenario.overrides = ("nodes.main.conf.save=3600 1",)
    said = repeat_command(result)
    assert said == "redsim run scenarios/learn/keys-stall.yaml --seed 1 --set 'nodes.main.conf.save=3600 1'"


# ---- the figures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOW_TO_READ)
@pytest.mark.parametrize("narrow", [False, True], ids=["screen", "phone"])
def test_a_figure_is_the_same_svg_twice_and_parses(name: str, narrow: bool) -> None:
    """STYLE, rule 4: no luck outside the streams; no date in a file."""
    first, second = (svg(figure(stalled(), name, narrow=narrow), name) for _ in range(2))
    assert first == second
    root = ET.fromstring(first)
    assert root.tag.endswith("svg")
    assert "http://" not in re.sub(r'(xmlns(:\w+)?|DOCTYPE|PUBLIC|rdf:\w+)[^>]*"http://[^"]*"', "", first.split("<defs>")[1])


@pytest.mark.parametrize("name", HOW_TO_READ)
def test_every_figure_says_why_when_there_is_nothing_to_draw(name: str) -> None:
    """A run stopped before its first request still has a page."""
    assert "draw" in svg(figure(empty(), name), name) or name == "blame"


@pytest.mark.parametrize("narrow", [False, True], ids=["screen", "phone"])
def test_a_bar_of_blame_is_the_whole_latency(narrow: bool) -> None:
    """Conservation: the shares of every bar add to 100 %, the small causes together in `other`."""
    (ax,) = figure(stalled(), "blame", narrow=narrow).axes
    ends = np.zeros(4)
    for bar in ax.patches:
        row = round(bar.get_y() + bar.get_height() / 2)
        assert bar.get_x() == pytest.approx(ends[row])
        ends[row] += bar.get_width()
    assert ends == pytest.approx(np.ones(4))


def test_an_unknown_figure_is_refused_with_the_known_names() -> None:
    """STYLE, rule 8: explain to the operator."""
    with pytest.raises(ValueError, match="no figure is called 'pie'; there are repeats, failover, stall"):
        figure(stalled(), "pie")


def test_a_result_draws_its_own_figures() -> None:
    """DESIGN §6: Result.figure(name)."""
    assert stalled().figure("latency").axes


# ---- the trace -------------------------------------------------------------------------------------------


def test_the_trace_loads_and_its_spans_nest() -> None:
    """Chrome trace format: complete events of one track nest or are apart; every async begin has its end."""
    events = json.loads(json.dumps(trace_events(stalled()), allow_nan=False))["traceEvents"]
    tracks: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for event in events:
        if event["ph"] == "X":
            tracks.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["ts"] + event["dur"]))
    assert len(tracks) == 2
    for spans in tracks.values():
        ends: list[float] = []
        for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
            while ends and ends[-1] <= start:
                ends.pop()
            assert not ends or end <= ends[-1]
            ends.append(end)
    begun = [event["id"] for event in events if event["ph"] == "b"]
    assert len(begun) == REQUESTS_MAX
    assert sorted(begun) == sorted(event["id"] for event in events if event["ph"] == "e")
    assert {event["name"] for event in events if event["ph"] == "C"} == {"api requests/s", "api p99 (µs)"}


def test_a_straddling_span_is_cut_and_keeps_its_true_length() -> None:
    """perfetto.py: spans of one track must nest; `args` keeps the true length."""
    result = calm()
    rows = [(1.0, "main", "command", 100.0, "KEYS"), (1.00005, "main", "server-cron", 100.0, "serverCron")]
    result = dataclasses.replace(result, stalls=pd.DataFrame(rows, columns=list(result.stalls.columns)))
    spans = [event for event in trace_events(result)["traceEvents"] if event["ph"] == "X"]
    assert [round(span["dur"]) for span in spans] == [100, 50]
    assert spans[1]["args"]["duration_us"] == 100.0


def test_a_replica_has_a_track_of_its_phases_with_the_verdicts_as_instants() -> None:
    """perfetto.py: syncs.csv drawn, in µs; a phase without length is there too, a node that is no replica has no such track."""
    result = calm()
    rows = [
        ("r1", "disconnected", 3.0, 4.5, "the link was cut"), ("r1", "handshake", 4.5, 4.502, ""),
        ("r1", "full", 4.502, 4.502, "the backlog has lost it"), ("r1", "bgsave", 4.502, 4.502, ""),
        ("r1", "transfer", 4.502, 6.0, "260 bytes"),
    ]  # fmt: skip
    syncs = pd.DataFrame(rows, columns=["replica", "phase", "start_s", "end_s", "note"])
    nodes = {**result.summary["nodes"], "r1": next(iter(result.summary["nodes"].values()))}
    result = dataclasses.replace(result, syncs=syncs, summary={**result.summary, "nodes": nodes})
    events = trace_events(result)["traceEvents"]
    pids = {event["args"]["name"]: event["pid"] for event in events if event["name"] == "process_name"}
    mine = [event for event in events if event.get("tid") == REPLICATION]
    assert {event["pid"] for event in mine} == {pids["redis-server r1"]}
    spans = [(event["name"], round(event["ts"]), round(event["dur"])) for event in mine if event["ph"] == "X"]
    assert sorted(spans) == [
        ("bgsave", 4_502_000, 0), ("disconnected", 3_000_000, 1_500_000), ("handshake", 4_500_000, 2_000),
        ("transfer", 4_502_000, 1_498_000),
    ]  # fmt: skip
    (verdict,) = [event for event in mine if event["ph"] == "i"]
    assert (verdict["name"], round(verdict["ts"])) == ("full resync", 4_502_000)
    assert verdict["args"]["note"] == "the backlog has lost it"
    assert [event["args"]["name"] for event in mine if event["ph"] == "M"] == ["as a replica: resyncs"]


# ---- the files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("make", [stalled, empty], ids=["stalled", "empty"])
def test_a_frame_read_back_from_its_csv_is_the_frame(name: str, make: Any) -> None:
    """DESIGN §6: CSV columns exactly as the frames."""
    frame = getattr(make(), name)
    back = pd.read_csv(io.StringIO(csv_text(frame)))
    assert list(back.columns) == list(frame.columns)
    pd.testing.assert_frame_equal(back, frame.reset_index(drop=True), check_dtype=False, check_exact=True)


def test_a_report_is_whole_and_leaves_no_scraps(tmp_path: Any) -> None:
    """DESIGN §6: the files of a run; written beside their place and renamed."""
    names = ["report.html", "summary.json", *(f"{name}.csv" for name in FRAMES), "events.log"]
    written = write_report(stalled(), tmp_path / "keys-stall", trace=False)
    assert [path.name for path in written] == names
    again = write_report(stalled(), tmp_path / "keys-stall", trace=True)
    assert [path.name for path in again] == [*names, "trace.json"]
    assert sorted(path.name for path in (tmp_path / "keys-stall").iterdir()) == sorted([*names, "trace.json"])
    assert "     10.000000 redis-cli: KEYS *\n" in (tmp_path / "keys-stall" / "events.log").read_text()


def test_a_failed_write_leaves_the_old_file(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """files.py: nothing half written, and no scraps."""
    write_report(calm(), tmp_path, trace=False)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_report(stalled(), tmp_path, trace=False)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_summary_json_keeps_its_order_and_has_no_nan() -> None:
    """DESIGN §6, summary.json: stable; RFC 8259: NaN is not JSON."""
    result = stalled()
    result.summary["clients"]["api"]["latency_us"]["max"] = float("nan")
    summary = json.loads(summary_json(result), parse_constant=pytest.fail)
    assert summary["clients"]["api"]["latency_us"]["max"] is None
    assert list(summary)[:3] == ["schema", "redsim_version", "scenario"]
    assert summary["findings"][0]["severity"] == "critical"


def test_plain_turns_numpy_into_json() -> None:
    """json: numpy scalars are not numbers to it."""
    given = {"a": np.int64(3), "b": np.float64(0.5), "c": np.array([1, 2]), "d": np.bool_(True), "e": np.inf}
    assert plain(given) == {"a": 3, "b": 0.5, "c": [1, 2], "d": True, "e": None}


@pytest.mark.parametrize("make", [stalled, calm, empty], ids=["stalled", "calm", "empty"])
def test_the_headline_fits_a_terminal(make: Any) -> None:
    """Brief of the report: twelve lines at most, the answer first."""
    lines = headline(make()).splitlines()
    assert len(lines) <= 12
    assert lines[0] == answer(make())
