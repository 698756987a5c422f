"""The report of a run with an AOF: the figure, the table, the findings, the files."""

import dataclasses
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from report_example import calm

import redsim
from redsim.report.durability_findings import DURABILITY_FINDINGS
from redsim.report.figures import figure, shown_figures
from redsim.report.html import render_html
from redsim.report.style import svg
from redsim.run.result import DURABILITY_COLUMNS, FSYNC_COLUMNS, Result
from redsim.scenario.load import Scenario
from tests.test_aof import world

FAULT = "{at: 2s, fault: stuck_disk, host: box, for: 5s}"


@cache
def result(policy: str = "everysec", faults: str = FAULT) -> Result:
    return redsim.run(Scenario.from_text(world(policy, faults=faults, rate=500)))


def told(of: Result) -> str:
    return "\n".join(f"{one.severity}: {one.text}" for finding in DURABILITY_FINDINGS for one in finding(of))


@pytest.mark.parametrize("narrow", [False, True], ids=["screen", "phone"])
def test_the_figure_is_the_same_svg_twice_and_parses(narrow: bool) -> None:
    first, second = (svg(figure(result(), "durability", narrow=narrow), "durability") for _ in range(2))
    assert first == second
    assert ET.fromstring(first).tag.endswith("svg")


def test_the_figure_is_shown_only_when_there_was_something_to_lose() -> None:
    assert "durability" in shown_figures(result())
    assert "durability" not in shown_figures(calm())
    assert "durability" not in shown_figures(result("always", ""))
    assert figure(calm(), "durability").axes, "a picture that says that there is nothing"


def test_the_frames_have_their_columns_and_their_order() -> None:
    """result.py; acknowledged >= written >= durable at every point, and none of them falls."""
    frame, spans = result().durability, result().fsyncs
    assert list(frame.columns) == DURABILITY_COLUMNS
    assert list(spans.columns) == FSYNC_COLUMNS
    assert set(spans["what"]) == {"fsync", "postponed", "blocked"}
    for unit in ("cmds", "bytes"):
        acked, written, durable = (frame[f"{name}_{unit}"].to_numpy() for name in ("acked", "written", "durable"))
        assert (durable <= written).all()
        assert all((np.diff(column) >= 0).all() for column in (acked, written, durable))
    assert (spans["duration_us"] >= 0).all()


def test_what_is_put_off_ends_before_what_is_blocked_begins() -> None:
    """facts 6.1: two seconds of patience, then the blocked write, within the same fsync in flight."""
    spans = result().fsyncs
    longest = {what: mine.loc[mine["duration_us"].idxmax()] for what, mine in spans.groupby("what")}
    ends = {what: float(row.start_s + row.duration_us / 1e6) for what, row in longest.items()}
    assert longest["fsync"].start_s < longest["postponed"].start_s
    assert ends["postponed"] == pytest.approx(float(longest["blocked"].start_s), abs=0.001)
    assert ends["blocked"] == pytest.approx(ends["fsync"], abs=0.001)


def test_the_findings_tell_the_wait_the_count_and_the_loss() -> None:
    said = told(result())
    assert "critical: Writing the AOF while its fsync was in flight held the loop of main once" in said
    assert "aof_delayed_fsync" in said
    assert "A power loss of main would take up to" in said


def test_a_full_disk_is_told_by_policy() -> None:
    full = FAULT.replace("stuck_disk", "full_disk")
    assert "-MISCONF" in told(result("everysec", full))
    assert "main exited at 2 s" in told(result("always", full))
    assert "no crash of main would lose an acknowledged write" in told(result("always", ""))


def test_the_page_has_the_table_the_plot_and_what_a_crash_takes() -> None:
    page = render_html(result())
    assert "What the AOF costs, and what it loses" in page
    assert 'id="plot-durability"' in page
    assert "What the AOF costs" not in render_html(dataclasses.replace(calm()))


def test_aof_buf_is_part_of_used_memory_while_writes_wait() -> None:
    """facts 8.8: mem_aof_buffer counts in used_memory and not towards eviction."""
    frame = result().memory
    assert frame["aof_buffer_bytes"].max() > 100_000
    layers = frame[["startup_bytes", "clients_bytes", "dict_table_bytes", "keys_bytes", "values_bytes", "aof_buffer_bytes"]]
    assert (layers.sum(axis=1) == frame["used_memory_bytes"]).all()


def test_the_summary_agrees_with_info() -> None:
    node = result().summary["nodes"]["main"]
    info = node["info"]["persistence"]
    assert info["aof_enabled"] == 1
    assert info["aof_delayed_fsync"] == node["durability"]["delayed_fsync"]
    assert node["durability"]["loss"]["os_crash_or_power_loss"]["commands"]["max"] >= 500


def test_files_of_a_run_hold_the_exposure(tmp_path: Path) -> None:
    from redsim.report.files import write_report

    written = {path.name: path for path in write_report(result(), tmp_path, trace=True)}
    assert written["durability.csv"].read_text(encoding="utf-8").splitlines()[0] == ",".join(DURABILITY_COLUMNS)


def test_the_guesses_of_a_named_disk_are_listed_and_only_under_an_aof() -> None:
    """STYLE rule 5: a report lists the guesses it leaned on."""
    names = ["disk.bytes_per_s", "disk.fsync_ns"]
    text = world("everysec", disk="like: hdd", duration="1s")
    assert set(names) <= set(redsim.run(Scenario.from_text(text)).guesses["name"])
    without = redsim.run(Scenario.from_text(text.replace("appendonly yes", "appendonly no"))).guesses["name"]
    assert not set(names) & set(without)
    own = world("everysec", disk="like: hdd, fsync: [[1.0, 1ms]]", duration="1s")
    assert "disk.fsync_ns" not in set(redsim.run(Scenario.from_text(own)).guesses["name"])
