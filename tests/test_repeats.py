"""Many seeds of one scenario: each run is the one that its seed gives alone; what is said of all of them follows from them."""

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import redsim
from redsim.cli import BAD_INPUT, INTERRUPTED, app
from redsim.report.html import render_html
from redsim.report.repeats import repeats_rows, said, say_quantity, say_value
from redsim.run import repeats as many
from redsim.run.confidence import band, mean_between, median_between
from redsim.run.repeats import STEPS, Repeats, quantities, repeat
from redsim.scenario.errors import ScenarioError
from tests.test_services import trio

FEW = {"duration": "8s", "arrivals": "{open: {rate_per_s: 100}}"}
PLAIN = """\
question: How long does a GET take?
duration: 200ms
seed: 5
hosts: {box: {profile: default}}
nodes: {main: {host: box, conf: 'save ""'}}
datasets: {d: {node: main, keys: 1000}}
clients:
  api: {node: main, connections: 5, arrivals: {open: {rate_per_s: 5000}}, commands: {GET: 1}, keys: {dataset: d}}
"""


@pytest.fixture(scope="module")
def killed() -> Repeats:
    """A master killed with seven seeds."""
    return repeat(trio(**FEW), 7, processes=1)


def test_each_run_is_the_one_that_its_seed_gives_alone(killed: Repeats) -> None:
    """Seeds from the scenario's own on; the digest is a run's fingerprint."""
    assert list(killed.rows["seed"]) == [1, 2, 3, 4, 5, 6, 7]
    alone = redsim.run(trio(**FEW), seed=3)
    assert killed.rows["digest"][2] == alone.summary["digest"]
    assert killed.rows["web.unavailable_s"][2] == alone.summary["clients"]["web"]["unavailable_s"]
    assert len(set(killed.rows["digest"])) == 7


def test_processes_change_nothing_but_the_time() -> None:
    """Two at a time, and with the first one made before: the same rows."""
    scenario = redsim.Scenario.from_text(PLAIN)
    one = repeat(scenario, 4, processes=1)
    two = repeat(scenario, 4, processes=2, first=redsim.run(scenario))
    pd.testing.assert_frame_equal(one.rows, two.rows)


def test_the_steps_of_a_failover_come_in_their_order(killed: Repeats) -> None:
    """facts 12.7: down-after 1 s, then +sdown, +odown, the election, the promotion; clients write behind it."""
    order = [f"failover.{step}" for step in STEPS if step != "switch_s"]
    for _, row in killed.rows.iterrows():
        assert all(row[before] <= row[after] for before, after in pairwise(order))
        assert row["failover.sdown_s"] > 1.0
    assert killed.share("failovers.count") == (7, band(7, 7))


def test_the_stats_are_those_of_the_values(killed: Repeats) -> None:
    """Median and mean with their 95 %, of the runs that had the quantity."""
    values = killed.values("web.unavailable_s")
    row = killed.stats.set_index("quantity").loc["web.unavailable_s"]
    assert (row["median_low"], row["median_high"]) == median_between(values)
    assert (row["mean_low"], row["mean_high"]) == mean_between(values)
    assert row["runs"] == 7
    assert min(values) == row["min"] <= row["median"] <= row["max"] == max(values)
    assert killed.values("no such quantity") == []


def test_a_run_without_a_failover_has_no_steps_of_one() -> None:
    """A calm run counts in the share, not in the times."""
    calm = redsim.run(trio(**FEW, timeline='- {at: 2s, run: "KEYS *", node: main}')).summary
    told = quantities(calm)
    assert told["failovers.count"] == 0
    assert told["failover.sdown_s"] is None
    assert "failovers.count" not in quantities(redsim.run(redsim.Scenario.from_text(PLAIN)).summary)


def test_a_group_may_be_called_as_the_failovers_are() -> None:
    """Its figures are its own, and those of failovers theirs."""
    assert say_quantity("failover.p99_us") == "failover: p99"
    assert say_quantity("failovers.unavailable_s") == "failovers: longest time without an answer"
    assert say_quantity("failovers.count") == "failovers"


def told(asked: int, **columns: list[float]) -> tuple[str, list[list[str]], list[str]]:
    """The sentence, the table and its head for runs with those values, `__` for the dot."""
    rows = pd.DataFrame({name.replace("__", "."): values for name, values in columns.items()})
    rows.insert(0, "seed", range(1, len(rows) + 1))
    result: Any = SimpleNamespace(repeats=Repeats("s", asked, rows), summary={"seed": 1})
    _, head, table = repeats_rows(result)
    return said(result), table, head


def test_sentences_of_few_runs_claim_no_more_than_they_show() -> None:
    """One run, three, all of them; nine of ten are told of twenty or more."""
    one, _, head = told(9, failovers__count=[1], web__unavailable_s=[1.5], failovers__lost_acked_writes=[4])
    assert one.startswith("Over 1 seed of 9 asked for: it has a failover; web gets no answer for 1.5 s; it loses acknowledged ")
    assert "p5 to p95, interpolated" in head
    nan = float("nan")
    three, _, _ = told(3, failovers__count=[0, 1, 0], web__unavailable_s=[1, 2, 3], failovers__lost_acked_writes=[0, 4, 0])
    assert three.startswith("Over 3 seeds: 1 of 3 runs has a failover (")
    assert "web gets no answer for 2 s at the median, 1 s to 3 s in all of them; " in three
    assert "acknowledged writes are lost in 1 of 3 runs, 4 at worst (in under 90.6 % with 97.5 % confidence)" in three
    assert "in all 2 that have it" in told(3, web__unavailable_s=[1, nan, 3])[0]
    everyone = told(3, failovers__lost_acked_writes=[1, 2, 3])[0]
    assert "each loses acknowledged writes, 3 at worst (in over 29.2 % with 97.5 % confidence)" in everyone
    assert "none has a failover (0 % to " in told(3, failovers__count=[0, 0, 0])[0]
    many_runs, _, head = told(20, web__unavailable_s=[float(i) for i in range(1, 21)])
    assert "in nine of ten" in many_runs
    assert "nine tenths of the runs" in head


def test_no_interval_of_a_mean_goes_below_zero() -> None:
    """Nothing here can be negative; Student's t does not know."""
    _, table, _ = told(3, web__failed=[0, 0, 9], main__used_memory_rss_peak_bytes=[1, 1, 2**30], web__unavailable_s=[0, 0, 9])
    assert [row[5].partition(" to ")[0] for row in table] == ["0", "0 B", "0 ns"]


def test_every_quantity_has_words_and_a_unit(killed: Repeats) -> None:
    """What the table says of it."""
    assert say_quantity("failover.sdown_s") == "from the fault to the first +sdown"
    assert say_value("web.p99_us", 1500.0) == "1.5 ms"
    assert say_value("web.unavailable_s", float("nan")) == "–"
    for name in killed.quantities:
        assert say_quantity(name)
        assert say_value(name, 1.0)


def test_the_command_writes_the_distribution(tmp_path: Path) -> None:
    """repeats.csv, summary.json's repeats, the table and the figure, and the answer begins with it."""
    (tmp_path / "s.yaml").write_text(PLAIN)
    words = ["run", str(tmp_path / "s.yaml"), "--out", str(tmp_path), "--repeats", "6", "--processes", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert done.output.strip().startswith("Over 6 seeds: p99.9 of api is ")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["repeats"]["seeds"] == [5, 10]
    assert summary["repeats"]["quantities"]["api.p50_us"]["runs"] == 6
    assert len(pd.read_csv(tmp_path / "repeats.csv")) == 6
    page = (tmp_path / "report.html").read_text()
    for words in ('id="plot-repeats"', "Over 6 seeds", "--repeats 6"):
        assert words in page, words


def test_ctrl_c_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A valid report of two seeds of six, marked, exit code 130."""

    def two(function: Any, given: Any, processes: int | None) -> Any:
        yield function(given[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(many, "each", two)
    (tmp_path / "s.yaml").write_text(PLAIN)
    done = CliRunner().invoke(app, ["run", str(tmp_path / "s.yaml"), "--out", str(tmp_path), "--repeats", "6"])
    assert done.exit_code == INTERRUPTED
    assert "Over 2 seeds of 6 asked for" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_ctrl_c_cut_short_is_the_last(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds that are told are one after the other."""
    asked: list[int] = []

    def row_of(scenario: Any) -> dict[str, Any] | None:
        asked.append(scenario.file.seed)
        return None if scenario.file.seed == 7 else {"seed": scenario.file.seed, "digest": "d"}

    monkeypatch.setattr(many, "each", lambda function, given, processes: (function(one) for one in given))
    monkeypatch.setattr(many, "_row_of", row_of)
    done = repeat(redsim.Scenario.from_text(PLAIN), 6, processes=processes)
    assert list(done.rows["seed"]) == [5, 6]
    assert done.is_partial
    assert asked == [5, 6, 7]


@pytest.mark.parametrize("option", [["--repeats", "0"], ["--repeats", "2", "--processes", "0"], ["--repeats", "200000"]])
def test_a_number_out_of_range_is_one_sentence(tmp_path: Path, option: list[str]) -> None:
    """Exit code 2, and nothing is written."""
    (tmp_path / "s.yaml").write_text(PLAIN)
    done = CliRunner().invoke(app, ["run", str(tmp_path / "s.yaml"), "--out", str(tmp_path / "out"), *option])
    assert done.exit_code == BAD_INPUT
    assert len(done.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
    with pytest.raises(ScenarioError, match="--repeats 0"):
        repeat(redsim.Scenario.from_text(PLAIN), 0)


def test_the_page_of_repeated_failovers_tells_them_first(killed: Repeats) -> None:
    """What was luck, then what one seed did."""
    from dataclasses import replace

    from redsim.report.answer import answer

    result = replace(redsim.run(trio(**FEW)), repeats=killed)
    told = answer(result)
    assert told.startswith("Over 7 seeds: each has a failover; web gets no answer for ")
    assert "With seed 1: " in told
    page = render_html(result)
    assert page.index('id="plot-repeats"') < page.index('id="plot-failover"')
    assert result.figure("repeats") is not None
