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
from report_example import STALL_NS, calm, empty, scenario, stalled

from redsim.report import facts
from redsim.report.answer import answer
from redsim.report.figures import HOW_TO_READ, figure
from redsim.report.files import FRAMES, csv_text, headline, plain, summary_json, write_report
from redsim.report.findings import findings
from redsim.report.html import render_html, repeat_command
from redsim.report.perfetto import REQUESTS_MAX, trace_events
from redsim.report.style import svg
from redsim.run.result import Finding, Result

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
    fetched = [value for tag, name, value in parser.attributes if name in ("src", "href", "srcset", "data")]
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
    assert len(images) == len(HOW_TO_READ)
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


def test_the_repeat_command_quotes_its_words() -> None:
    """POSIX sh: an override with a blank is one word."""
    result = stalled()
    result.scenario.overrides = ("nodes.main.conf.save=3600 1",)
    said = repeat_command(result)
    assert said == "redsim run scenarios/learn/keys-stall.yaml --seed 1 --set 'nodes.main.conf.save=3600 1'"


# ---- the answer and the findings -------------------------------------------------------------------------


def test_the_answer_names_culprit_sufferers_and_share() -> None:
    """DESIGN §2, blame: "of p99.9 = 182 ms, 171 ms was waiting behind KEYS"."""
    said = answer(stalled())
    assert said.startswith(
        "One KEYS at t = 10 s held the event loop of main for 214 ms: 4,299 requests waited"
    )
    assert "p99.9 of api is 199 ms (median 40.3 µs), 99.9 % of it waiting behind KEYS." in said


def test_the_answer_of_a_calm_run_has_its_figures() -> None:
    """DESIGN §6: the answer in the first sentence, also when nothing happened."""
    assert re.search(r"api waits 40\.3 µs at the median, 63\.2 µs at p99", answer(calm()))


def test_a_stall_too_rare_for_p999_is_not_blamed_for_it() -> None:
    """A stall that holds 0.01 % of the requests is in the maximum, not in p99.9 (arithmetic)."""
    result = stalled()
    api = result.summary["clients"]["api"]
    api["latency_us"] |= {"p999": 90.0}
    api["blame_us"]["p999"] = {"network": 18.0, "serverCron": 70.0, "KEYS": 2.0}
    said = answer(result)
    assert "api saw 214 ms at worst, but p99.9 of api is 90 µs" in said
    assert "waiting behind" not in said


def _told(result: Result) -> list[Finding]:
    return findings(result)


def _saturate(result: Result) -> Result:
    result.summary["nodes"]["main"]["cpu_utilisation"] = 0.998
    result.summary["clients"]["api"] |= {"offered_per_s": 90_000.0, "throughput_per_s": 70_000.0}
    return result


def _closed(result: Result) -> Result:
    group = {
        "node": "main",
        "connections": 50,
        "arrivals": {"closed": {}},
        "commands": {"GET": 1},
        "keys": {"dataset": "users"},
    }
    result = dataclasses.replace(result, scenario=scenario(api=group))
    result.summary["nodes"]["main"]["cpu_utilisation"] = 0.998
    return result


def _api(**change: Any) -> Any:
    def changed(result: Result) -> Result:
        result.summary["clients"]["api"] |= change
        return result

    return changed


def _node(**change: Any) -> Any:
    def changed(result: Result) -> Result:
        result.summary["nodes"]["main"] |= change
        return result

    return changed


def _p50(**parts: float) -> Any:
    return _api(blame_us={"p50": parts})


def _ledger(event: str, duration_us: float, because: str) -> Any:
    def changed(result: Result) -> Result:
        row = pd.DataFrame([(5.0, "main", event, duration_us, because)], columns=list(result.stalls.columns))
        return dataclasses.replace(result, stalls=row)

    return changed


def _pipelines(result: Result) -> Result:
    batch = {
        "node": "main",
        "connections": 2,
        "pipeline": 100,
        "arrivals": {"closed": {}},
        "commands": {"MGET": 1},
    }
    api = {
        "node": "main",
        "connections": 50,
        "arrivals": {"open": {"rate_per_s": 20000}},
        "commands": {"GET": 1},
    }
    result = dataclasses.replace(result, scenario=scenario(api=api, batch=batch))
    result.summary["clients"]["batch"] = {**result.summary["clients"]["api"], "by_command": {"MGET": {}}}
    result.summary["clients"]["api"]["blame_us"] = {"p99": {"MGET": 900.0, "network": 20.0}}
    return result


def _costly(result: Result) -> Result:
    commands = result.commands.copy()
    commands["command"], commands["usec_per_call"] = ["ZRANGE", "SET"], [640.0, 2.0]
    return dataclasses.replace(result, commands=commands)


FIRES = {
    "saturated": (_saturate, "critical", "90,000 requests/s are offered and 70,000 answered", "more nodes"),
    "capacity": (_closed, "info", "closed loops, so this is its capacity", "arrivals: {open"),
    "little-idle": (_node(cpu_utilisation=0.85), "info", "only 15 % idle", ""),
    "client-bound": (
        _p50(client=80.0, network=10.0),
        "warning",
        "bound by its client: 80 µs",
        "more client threads",
    ),
    "network-bound": (
        _p50(network=500.0, client=10.0),
        "info",
        "waits for the network: 500 µs",
        "pipelining",
    ),
    "timeouts": (_api(errors={"timeout": 50_000}), "critical", "50,000 attempts of api timed out", "cause"),
    "retry-storm": (_api(retries=400_000), "critical", "multiply its load by 2.1", "jitter"),
    "rejected": (_node(rejected_connections=12), "critical", "rejected 12 connections", "raise maxclients"),
    "busy": (_api(errors={"busy": 7}), "critical", "7 requests of api were answered BUSY", "SCRIPT KILL"),
    "io-threads-cores": (
        _node(io_threads={"configured": 8, "active_share": 0.9}),
        "warning",
        "io-threads 8 on 2 cores",
        "io-threads 1",
    ),
    "io-threads-idle": (
        _node(io_threads={"configured": 2, "active_share": 0.0}),
        "info",
        "must have 4 clients (2 × io-threads)",
        "io-threads 1",
    ),
    "hiccup": (
        _ledger("host-hiccup", 21_000, "the host ran others"),
        "warning",
        "took the CPU",
        "intrinsic-latency",
    ),
    "pipelines": (
        _pipelines,
        "warning",
        "api waits behind batch's pipelines of 100: 900 µs",
        "shorter pipeline",
    ),
    "costly": (_costly, "warning", "ZRANGE of api takes", "LIMIT"),
    "del": (
        _ledger("command", 340_000, "DEL of a set of 5,000,000 members"),
        "critical",
        "One DEL",
        "UNLINK",
    ),
    "smembers": (_ledger("command", 12_000, "SMEMBERS of 90,000"), "warning", "One SMEMBERS", "SSCAN"),
    "flushall": (
        _ledger("command", 1.5e6, "FLUSHALL of 3,000,000 keys"),
        "critical",
        "One FLUSHALL",
        "ASYNC",
    ),
    "eval": (_ledger("command", 2e6, "EVAL script of 2 s"), "critical", "One EVAL", "busy-reply-threshold"),
    "debug-sleep": (
        _ledger("command", 5e5, "DEBUG SLEEP 0.5"),
        "critical",
        "One DEBUG SLEEP",
        "enable-debug",
    ),
    "unknown": (_ledger("command", 15_000, "GEOSEARCH of 9,000"), "warning", "One GEOSEARCH", "SLOWLOG GET"),
}


@pytest.mark.parametrize("case", FIRES.values(), ids=FIRES.keys())
def test_a_finding_fires_on_its_cause_and_not_on_a_calm_run(case: Any) -> None:
    """Brief of the report: graded sentences with the figure, the cause and what to change."""
    change, severity, text, directive = case
    before = _told(calm())
    told = [found for found in _told(change(calm())) if text in found.text]
    assert [found for found in before if text in found.text] == []
    assert [found.severity for found in told] == [severity]
    assert directive in told[0].directive


def test_lua_time_limit_is_named_as_the_nodes_version_names_it() -> None:
    """redis.conf of 6.2 has lua-time-limit, 7.0 renames it busy-reply-threshold."""
    result = _ledger("command", 2e6, "EVAL script of 2 s")(calm())
    file = result.scenario.file
    node = file.nodes["main"].model_copy(update={"version": "6.2"})
    result.scenario.file = file.model_copy(update={"nodes": {"main": node}})
    assert any("lua-time-limit" in found.directive for found in findings(result))


def test_slowlog_is_called_blind_to_those_who_waited() -> None:
    """slowlog.c times execution only: one entry for KEYS, none for the thousands behind it."""
    told = [found.text for found in findings(stalled()) if "SLOWLOG of main has 1 entry" in found.text]
    assert told
    assert int(re.search(r"while ([\d,]+) requests", told[0])[1].replace(",", "")) > 4_000  # type: ignore[index]


def test_a_calm_run_has_nothing_notable() -> None:
    """Brief of the report: "nothing notable: p99 x at y % utilisation"."""
    said = [found.text for found in findings(calm())]
    assert said[0] == "Nothing notable. api: p99 63.2 µs at 19,998 requests/s; the loop is 27 % busy."
    assert all(found.severity == "info" for found in findings(calm()))


def test_findings_are_told_gravest_first() -> None:
    """Brief of the report: graded."""
    ranks = [{"critical": 0, "warning": 1, "info": 2}[f.severity] for f in findings(_saturate(stalled()))]
    assert ranks == sorted(ranks)
    assert ranks[0] == 0


# ---- reading the buckets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.5, 0.99, 0.999])
def test_percentiles_read_off_the_buckets_are_within_a_bucket(share: float) -> None:
    """1/128 buckets: the summary's own percentiles were taken from the raw latencies (numpy)."""
    result = stalled()
    edges, counts = facts.run_counts(result, "api")
    name = {0.5: "p50", 0.99: "p99", 0.999: "p999"}[share]
    exact = result.summary["clients"]["api"]["latency_us"][name]
    assert facts.percentiles_us(edges, counts, np.array([share]))[0] == pytest.approx(exact, rel=1 / 128)


def test_queue_and_drain_are_counted_from_the_view() -> None:
    """Arithmetic on the view's own rows."""
    view = stalled().stall_view
    assert view is not None
    rows = view.requests
    held = rows[(rows["arrived_ns"] <= view.end_ns) & (rows["done_ns"] > view.end_ns)]
    assert view.end_ns - view.start_ns == STALL_NS
    assert facts.waiting_at_end(stalled()) == len(held)
    assert facts.drained_ns(stalled()) == int(held["done_ns"].max()) - view.end_ns


def test_the_command_is_read_out_of_a_stalls_reason() -> None:
    """records.py: a stall is written with its cause; the reason begins with or holds the command's name."""
    assert facts.command_of("KEYS * on 1,000,000 keys") == "KEYS"
    assert facts.command_of("freeing 5 MiB inside DEBUG SLEEP 0.5") == "DEBUG SLEEP"
    assert facts.command_of("the host ran somebody else") == ""


# ---- the figures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOW_TO_READ)
@pytest.mark.parametrize("narrow", [False, True], ids=["screen", "phone"])
def test_a_figure_is_the_same_svg_twice_and_parses(name: str, narrow: bool) -> None:
    """STYLE, rule 4: no luck outside the streams; no date in a file."""
    first, second = (svg(figure(stalled(), name, narrow=narrow), name) for _ in range(2))
    assert first == second
    root = ET.fromstring(first)
    assert root.tag.endswith("svg")
    assert "http://" not in re.sub(
        r'(xmlns(:\w+)?|DOCTYPE|PUBLIC|rdf:\w+)[^>]*"http://[^"]*"', "", first.split("<defs>")[1]
    )


@pytest.mark.parametrize("name", HOW_TO_READ)
def test_every_figure_says_why_when_there_is_nothing_to_draw(name: str) -> None:
    """A run stopped before its first request still has a page."""
    assert "draw" in svg(figure(empty(), name), name) or name == "blame"


def test_an_unknown_figure_is_refused_with_the_known_names() -> None:
    """STYLE, rule 8: explain to the operator."""
    with pytest.raises(ValueError, match="no figure is called 'pie'; there are stall, latency"):
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
            tracks.setdefault((event["pid"], event["tid"]), []).append(
                (event["ts"], event["ts"] + event["dur"])
            )
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
    before = (tmp_path / "summary.json").read_text()

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_report(stalled(), tmp_path, trace=False)
    assert (tmp_path / "summary.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []


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
