"""`redsim plan memory`: the peak with its confidence, the maxmemory that fits, and what cannot be planned."""

import json

import pytest
from typer.testing import CliRunner

from redsim.cli import app
from redsim.report.plan_memory import answer
from redsim.run.plan_memory import plan_memory, prepared, scaled
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.units import MIB

TEXT = """\
question: Which maxmemory fits?
duration: 1s
warmup: 100ms
seed: 1
hosts: {box: {profile: default, memory: 64mb}}
nodes: {main: {host: box, conf: 'save ""'}}
datasets: {users: {node: main, keys: 60000, value_bytes: 200}}
clients:
  api: {node: main, connections: 20, arrivals: {open: {rate_per_s: 5000}}, commands: {SET: 1}, keys: {dataset: users}}
"""


@pytest.fixture(scope="module")
def planned():
    """The scenario above, three seeds a size."""
    return plan_memory(Scenario.from_text(TEXT), repeats=3)


def test_the_peak_is_rss_and_what_a_child_costs(planned):
    """RSS + copied pages + page tables at the worst moment, and that lies where the child has lived longest."""
    for row in planned.rows.itertuples():
        assert row.total_bytes == row.used_memory_rss_bytes + row.cow_bytes + row.page_tables_bytes
        assert row.child
        assert row.cow_bytes > 0


def test_the_maxmemory_found_fits_when_it_is_simulated(planned):
    """On the line, the peak at that maxmemory is the box less its reserve; simulated, within 3 % of that (one seed,
    samples 10 ms apart)."""
    room = planned.box_bytes - planned.reserve_bytes
    assert planned.maxmemory_bytes is not None
    assert planned.maxmemory_bytes % MIB == 0
    assert planned.base_bytes + planned.slope * planned.maxmemory_bytes <= room
    assert planned.base_bytes + planned.slope * (planned.maxmemory_bytes + MIB) > room
    assert planned.checked_bytes == pytest.approx(room, rel=0.03)
    assert f"maxmemory {planned.maxmemory_bytes // MIB}mb" in planned.lines_to_paste()
    assert "fits" in answer(planned)


def test_a_scenario_that_saves_by_itself_gets_no_save_of_ours():
    """A BGSAVE is sent behind the warm-up unless the timeline has one; a run lasts until a child of more keys is done."""
    scenario = Scenario.from_text(TEXT)
    ready, notes = prepared(scenario, "main")
    assert [entry.run for _, entry in ready.file.commands_at] == ["BGSAVE"]
    assert "BGSAVE sent" in notes[0]
    own = Scenario.from_text(TEXT + "timeline: [{at: 300ms, run: BGSAVE, node: main}]\n")
    assert prepared(own, "main") == (prepared(own, "main")[0], [])
    longer = scaled(ready, 2.0, 5_000_000_000)
    assert (longer.file.datasets["users"].keys, longer.file.duration) == (120_000, 5_000_000_000)


@pytest.mark.parametrize(
    ("said", "asked"),
    [("2 runs at least", {"repeats": 1}), ("0 to less than 1", {"reserve": 1.0}), ("--box 4gx", {"box": "4gx"})],
)
def test_what_cannot_be_planned_is_one_sentence(said, asked):
    """Numbers out of range, named with their option."""
    with pytest.raises(ScenarioError, match=said):
        plan_memory(Scenario.from_text(TEXT), **asked)


def test_no_box_is_too_small_to_be_told(planned):
    """A box that what is no data already fills has no maxmemory."""
    plan = plan_memory(Scenario.from_text(TEXT), box="1mb", repeats=2)
    assert plan.maxmemory_bytes is None
    assert "No maxmemory fits" in answer(plan)
    assert not plan.fits


def test_the_command_writes_page_numbers_and_lines(tmp_path):
    """plan.html without a link to anywhere, plan.json with the stable names, plan.csv; the answer on the terminal."""
    path = tmp_path / "small.yaml"
    path.write_text(TEXT, encoding="utf-8")
    done = CliRunner().invoke(
        app, ["plan", "memory", str(path), "--repeats", "2", "--processes", "1", "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    assert "maxmemory " in done.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"plan.html", "plan.json", "plan.csv"}
    told = json.loads((tmp_path / "out" / "plan.json").read_text(encoding="utf-8"))
    assert {"box_bytes", "upper_bytes", "maxmemory_bytes", "checked_bytes", "slope", "rows"} <= set(told)
    page = (tmp_path / "out" / "plan.html").read_text(encoding="utf-8")
    assert told["lines"][0] in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    wrong = CliRunner().invoke(app, ["plan", "memory", str(path), "--repeats", "1"])
    assert wrong.exit_code == 2
