"""The report of a failover: what the findings say of it, what the figure draws, where the page and the trace have it.

Small runs of one master, two replicas and three Sentinels (tests/test_services.py); facts/redis.md 12 has the events' order.
"""

import dataclasses
import json
import re
from functools import cache
from typing import Any

import pandas as pd
import pytest
from matplotlib import text as mpl_text
from matplotlib.backends.backend_agg import FigureCanvasAgg

import redsim
from redsim.report import failover_facts as ff
from redsim.report import failover_figure as drawn
from redsim.report import failover_findings as told
from redsim.report.answer import answer
from redsim.report.figures import figure, shown_figures
from redsim.report.files import events_log, summary_json
from redsim.report.findings import findings
from redsim.report.html import render_html
from redsim.report.perfetto import SENTINEL, trace_events
from redsim.run.result import Finding, Result
from tests.test_services import DEFAULTS, TRIO

GONE = "- {at: 3s, fault: kill, node: main}"
NO_ONE_LEFT = "- {at: 2s, fault: kill, node: sentinel-1}\n  - {at: 2s, fault: kill, node: sentinel-2}\n  " + GONE
LONELY = "- {at: 3s, fault: partition, groups: [[a], [b, c]], for: 6s}"
SLEEP = '- {{at: 3s, run: "DEBUG SLEEP {}", node: main}}'
DEBUG = "enable-debug-command yes"
NAMED = "  old: {node: main, connections: 2, arrivals: {open: {rate_per_s: 100}}, commands: {SET: 1}, keys: {dataset: d}}"
RUNS: dict[str, dict[str, Any]] = {
    "killed": {"timeline": "- {at: 3s, fault: kill, node: main, restart_after: 4s}"},
    "short sleep": {"timeline": SLEEP.format(1.6), "conf": DEBUG, "duration": "8s", "quorum": 3, "seed": 3},
    "long sleep": {"timeline": SLEEP.format(4), "conf": DEBUG},
    "no quorum": {"timeline": NO_ONE_LEFT, "duration": "8s"},
    "no majority": {"timeline": NO_ONE_LEFT, "quorum": 1, "duration": "16s"},
    "no good slave": {"timeline": GONE, "conf": "replica-priority 0", "duration": "8s"},
    "two masters": {"timeline": LONELY, "others": NAMED, "duration": "20s"},
    "stays": {"timeline": GONE, "more": "follow: nothing", "duration": "8s"},
    "tilt": {"timeline": "- {at: 2s, fault: pause, node: sentinel-1, for: 4s}", "duration": "8s"},
    "calm": {"timeline": '- {at: 2s, run: "KEYS *", node: main}', "duration": "4s"},
}  # fmt: skip


@cache
def ran(name: str) -> Result:
    changes = {**DEFAULTS, "arrivals": "{open: {rate_per_s: 200}}", **RUNS[name]}
    text = TRIO.format(**changes).replace("mymaster main 2", f"mymaster main {changes.get('quorum', 2)}")
    return redsim.run(redsim.Scenario.from_text(text))


def said(name: str, part: str) -> Finding:
    """The one finding of a run with these words."""
    found = [one for one in findings(ran(name)) if part in one.text]
    assert len(found) == 1, f"{part!r} in {[one.text for one in findings(ran(name))]}"
    return found[0]


def nobody_says(name: str, part: str) -> None:
    assert not [one.text for one in findings(ran(name)) if part in one.text]


# ---- findings ----------------------------------------------------------------------------------------------------


def test_a_failover_is_told_with_where_its_time_went() -> None:
    """facts 12.7: detection is down-after and up to a second more, and most of the failover; the parts add up to the whole."""
    (episode,) = ff.episodes(ran("killed"))
    parts = told.phases(ran("killed"), episode)
    assert [name for name, _ in parts] == ["+sdown", "+odown", "+elected-leader", "the promotion", "the clients"]
    assert 1.0 <= parts[0][1] <= 2.2
    back = told.back_s(ran("killed"), episode)
    assert back is not None
    assert sum(length for _, length in parts) == pytest.approx(back[1] - 3.0)
    finding = said("killed", "The failover from main to")
    assert "from the kill -9 on" in finding.text
    assert "down-after-milliseconds" in finding.directive


def test_the_answer_begins_with_the_failover() -> None:
    """DESIGN 6: the answer in the first sentence; what the new master has is not lost with the old one."""
    began = r"r[12] took over from main at [\d.]+ s, [\d.]+ s after the kill -9; web got no answer"
    assert re.match(began, answer(ran("killed")))
    assert "no acknowledged write was lost" in answer(ran("killed"))
    nobody_says("killed", "as nothing is saved")
    assert answer(ran("calm")).startswith("No failover: no Sentinel took a master for down.")
    assert answer(ran("short sleep")).startswith("No failover: main was taken for down at")


def test_lost_writes_are_critical_and_counted_as_the_run_counts_them() -> None:
    """Acknowledged by the old master alone: summary.json, the frame and the finding say the same number."""
    (row,) = ran("two masters").summary["failovers"]
    assert row["lost_acked_writes"] == len(ran("two masters").lost_writes) > 0
    finding = said("two masters", "The failover from main to r1 lost")
    assert finding.severity == "critical"
    assert f"{row['lost_acked_writes']:,} acknowledged writes" in finding.text
    assert "min-replicas-to-write" in finding.directive
    assert "WAIT" in finding.directive


def test_two_masters_at_once_are_told_with_what_the_old_one_took() -> None:
    """From the promotion until a Sentinel has made the old master a replica."""
    finding = said("two masters", "Two masters at once")
    assert finding.severity == "critical"
    frame = ran("two masters").lost_writes
    after = int((frame["time_s"] >= ran("two masters").summary["failovers"][0]["at_s"]).sum())
    assert f"took {after:,} writes meanwhile" in finding.text


@pytest.mark.parametrize(
    ("name", "why", "cure"),
    [
        ("no quorum", "only 1 of 3 Sentinels said +sdown, and quorum is 2", "quorum"),
        ("no majority", "sentinel-3 got 1 of the 2 votes", "more Sentinels"),
        ("no good slave", "-failover-abort-no-good-slave", "replica-priority above 0"),
    ],
)
def test_no_failover_is_told_with_its_reason(name: str, why: str, cure: str) -> None:
    """facts 12.4 to 12.6: quorum, a majority of all known Sentinels, a replica that will do."""
    finding = said(name, "No failover of main after the kill -9")
    assert finding.severity == "critical"
    assert why in finding.text
    assert cure in finding.directive
    assert answer(ran(name)).startswith("No failover of main")


def test_an_election_that_was_lost_is_told_with_its_lock_out() -> None:
    """facts 12.5: twice failover-timeout, here 6 s."""
    finding = said("no majority", "sentinel-3 was not elected")
    assert "votes for sentinel-3: sentinel-3" in finding.text
    assert "again for 12 s" in finding.text


@pytest.mark.parametrize(
    ("name", "outcome"), [("short sleep", "no failover came of it"), ("long sleep", "would not have been needed")]
)
def test_a_server_that_was_only_held_is_told_with_what_held_it(name: str, outcome: str) -> None:
    """facts 12.3: a slow command longer than down-after is a +sdown, too; the ledger knows which."""
    finding = said(name, "was not dead when it was taken for down")
    assert "DEBUG SLEEP held its loop" in finding.text
    assert outcome in finding.text
    nobody_says("killed", "was not dead")


def test_clients_that_do_not_follow_are_named() -> None:
    """One does not ask, the other names a server."""
    assert "did not ask for the master again" in said("stays", "web did not follow to").text
    assert "names the server" in said("two masters", "old did not follow to").text
    nobody_says("killed", "did not follow")


def test_tilt_is_told() -> None:
    """facts 12.8: for 30 s, here to the end."""
    assert "sentinel-1 was in TILT from 6" in said("tilt", "TILT").text


# ---- the figure --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("narrow", [False, True], ids=["screen", "phone"])
@pytest.mark.parametrize("name", ["killed", "two masters", "no majority"])
def test_no_label_of_the_figure_covers_another(name: str, narrow: bool) -> None:
    """Of one lane, at both widths; and each ends within the page."""
    picture = figure(ran(name), "failover", narrow=narrow)
    canvas = FigureCanvasAgg(picture)
    canvas.draw()
    renderer = canvas.get_renderer()
    for ax in picture.axes:
        notes = [one for one in ax.get_children() if isinstance(one, mpl_text.Annotation)]
        boxes = [(one.get_text(), mpl_text.Text.get_window_extent(one, renderer)) for one in notes]
        assert boxes
        for i, (text, box) in enumerate(boxes):
            assert box.x1 <= picture.bbox.x1, f"{text} leaves the page"
            for other, beside in boxes[:i]:
                width = min(box.x1, beside.x1) - max(box.x0, beside.x0)
                height = min(box.y1, beside.y1) - max(box.y0, beside.y0)
                assert width <= 0 or height <= 2.5, f"{text} covers {other}"


def test_a_label_stands_below_all_that_begin_above_it() -> None:
    """So that no line to a label crosses another one."""
    assert drawn.stacked([0.0, 0.1, 0.2, 3.0], [1.0, 1.0, 1.0, 1.0]) == [2, 1, 0, 0]
    assert drawn.stacked([0.0, 0.0], [1.0, 1.0]) == [1, 0]
    assert drawn.stacked([], []) == []


def test_the_figure_has_a_lane_for_everybody_and_the_events_by_name() -> None:
    """Servers, Sentinels, clients; the leader in bold."""
    (ax,) = figure(ran("killed"), "failover").axes
    sentinels = ["sentinel-1", "sentinel-2", "sentinel-3"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["main", "r1", "r2", *sentinels, "web"]
    (episode,) = ff.episodes(ran("killed"))
    bold = [tick.get_text() for tick in ax.get_yticklabels() if tick.get_fontweight() == "bold"]
    assert bold == episode.leaders
    words = {one.get_text().split()[0] for one in ax.get_children() if isinstance(one, mpl_text.Annotation)}
    assert {"+sdown", "+odown", "+try-failover", "+vote-for-leader", "+elected-leader", "+switch-master"} <= words
    low, high = ax.get_xlim()
    assert low < 3.0 < episode.end_s < high


def test_the_figure_is_there_only_where_a_sentinel_did_something() -> None:
    """An empty picture says why."""
    assert "failover" in shown_figures(ran("killed"))
    assert "failover" not in shown_figures(ran("calm"))
    assert figure(ran("calm"), "failover").axes


def test_a_loss_is_drawn_on_the_old_masters_lane() -> None:
    """A mark a write, and their number."""
    (ax,) = figure(ran("two masters"), "failover").axes
    words = [one.get_text() for one in ax.get_children() if isinstance(one, mpl_text.Annotation)]
    assert f"{len(ran('two masters').lost_writes):,} writes lost" in words


# ---- what the run keeps, the page, the trace ------------------------------------------------------------------------


def test_roles_over_time_begin_with_the_scenario_and_end_with_the_summary() -> None:
    """Result.roles: at the start and at each change."""
    frame, nodes = ran("two masters").roles, ran("two masters").summary["nodes"]
    assert frame[frame["time_s"] == 0]["role"].tolist() == ["master", "slave", "slave"]
    for name, node in nodes.items():
        assert frame[frame["node"] == name]["role"].iloc[-1] == node["role"], name


def test_states_of_a_server_that_dies_and_comes_back() -> None:
    """A dead master is none."""
    kinds = [kind for _, _, kind in ff.states(ran("killed"), "main")]
    assert {"master", "dead"} <= set(kinds)
    spans = ff.as_master(ran("killed"), "main")
    assert spans[0] == (0.0, 3.0)
    assert all(start >= 7.0 for start, _ in spans[1:])


def test_an_attempt_far_from_the_next_is_an_episode_of_its_own() -> None:
    """Cut where nothing happens for long."""
    result = ran("killed")
    lines = result.events[result.events["who"].isin(list(ff.sentinels(result)))]
    again = pd.concat([result.events, lines.assign(time_s=lines["time_s"] + 100)], ignore_index=True)
    assert len(ff.episodes(dataclasses.replace(result, events=again))) == 2


def test_the_page_has_the_tables_and_the_guesses() -> None:
    """Failovers, Sentinels, and the numbers that nobody measured."""
    page = render_html(ran("killed"))
    for words in ("Failovers", "Sentinels", "pool_again_ns", "client_slice_ns", 'id="plot-failover"'):
        assert words in page, words
    assert page.index('id="plot-failover"') < page.index('id="plot-latency"')


def test_the_trace_has_an_instant_for_each_event_of_a_sentinel() -> None:
    """A process each; ui.perfetto.dev opens it."""
    trace = trace_events(ran("killed"))["traceEvents"]
    instants = [one for one in trace if one["ph"] == "i" and one["tid"] == SENTINEL]
    assert len(instants) == len(ff.events(ran("killed")))
    names = {one["args"]["name"] for one in trace if one["ph"] == "M" and one["name"] == "process_name"}
    assert {f"redis-sentinel sentinel-{i}" for i in (1, 2, 3)} <= names
    pids = {one["pid"] for one in instants}
    assert len(pids) == 3
    assert not pids & {one["pid"] for one in trace if one["ph"] in "XC"}


def test_the_log_and_the_summary_say_where_the_clients_went() -> None:
    """events.log: a line of the group; summary.json is JSON with the failover in it."""
    assert re.search(r"web: the master of mymaster is r[12] now, not main", events_log(ran("killed")))
    summary = json.loads(summary_json(ran("killed")))
    assert summary["failovers"][0]["from"] == "main"
    assert len(summary["sentinels"]["sentinel-1"]["myid"]) == 40


def test_a_failover_of_the_summary_has_its_steps_in_order_and_what_came_before() -> None:
    """The names of the contract: down_at_s, sdown_s, odown_s, switch_s, writable_again_s, lost_acked_writes."""
    (row,) = ran("killed").summary["failovers"]
    names = ("down_at_s", "sdown_s", "odown_s", "elected_s", "at_s", "writable_again_s")
    steps = [row[name] for name in names]
    assert steps == sorted(steps)
    assert row["because"] == "kill"
    assert row["at_s"] < row["switch_s"] <= row["switch_all_s"]
    assert row["lost_acked_writes"] == len(ran("killed").lost_writes)
