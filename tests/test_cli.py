"""The command line as a user meets it: a report left behind, Ctrl-C, lists, lint of a real redis.conf."""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

import redsim
from redsim.cli import BAD_INPUT, INTERRUPTED, app
from redsim.run import progress

ROOT = Path(__file__).parent.parent
SMALL = """
question: Does a small run leave all its files?
duration: 200ms
hosts: {box: {profile: default}}
nodes: {main: {host: box, conf: 'save ""'}}
datasets: {users: {node: main, keys: 1000}}
clients:
  api: {node: main, connections: 5, arrivals: {open: {rate_per_s: 5000}}, commands: {GET: 1}, keys: {dataset: users}}
timeline:
  - {at: 100ms, run: "KEYS *", node: main}
"""
STOCK = """
question: Does stock redis.conf load verbatim?
duration: 100ms
hosts: {box: {profile: default}}
nodes: {main: {host: box, conf_file: /etc/redis/redis.conf}}
datasets: {users: {node: main, keys: 1000}}
clients:
  api: {node: main, arrivals: {closed: {think: 1ms}}, commands: {SET: 1}, keys: {dataset: users}}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def test_a_run_leaves_every_file_the_design_lists(small, tmp_path):
    """DESIGN §6: the files of a run, and durability.csv; summary.json is valid JSON with the stable names."""
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["run", str(small), "--out", str(out), "--trace"])
    assert done.exit_code == 0, done.output
    frames = {"durability.csv", "latency.csv", "memory.csv", "replication.csv", "stalls.csv", "syncs.csv"}
    assert {p.name for p in out.iterdir()} == frames | {"report.html", "summary.json", "events.log", "trace.json"}
    summary = json.loads((out / "summary.json").read_text())
    stable = {"schema", "redsim_version", "scenario", "question", "seed", "digest", "simulated_s", "wall_s", "clients", "nodes"}
    assert stable <= set(summary)
    assert {"p50", "p90", "p99", "p999", "max", "mean"} == set(summary["clients"]["api"]["latency_us"])


def test_ctrl_c_leaves_a_valid_report_marked_partial(small, tmp_path, monkeypatch):
    """DESIGN §6: Ctrl-C leaves a valid partial report marked as such; the laws hold for the part that ran."""

    @contextmanager
    def stopped_half_way(_duration_ns, *, quiet):
        def report(now_ns, _commands):
            if now_ns > 120_000_000:
                raise KeyboardInterrupt

        yield report

    monkeypatch.setattr(progress, "progress_bar", stopped_half_way)
    done = CliRunner().invoke(app, ["run", str(small), "--out", str(tmp_path / "out")])
    assert done.exit_code == INTERRUPTED
    assert "partial" in (tmp_path / "out" / "report.html").read_text().lower()
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["simulated_s"] < 0.2


def test_bad_input_is_one_sentence_on_stderr_and_exit_code_2(tmp_path):
    """README: bad input is one sentence and exit code 2, in a real process, without a traceback."""
    bad = tmp_path / "bad.yaml"
    bad.write_text(SMALL.replace("GET", "GTE"))
    command = [sys.executable, "-m", "redsim", "run", str(bad), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == BAD_INPUT
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(word in done.stderr for word in ("bad.yaml:", "GTE", "did you mean 'GET'"))
    assert not (tmp_path / "out").exists()


def test_a_report_that_cannot_be_written_says_so(small, tmp_path):
    """A file in the way of the folder is the user's mistake, not a traceback."""
    (tmp_path / "out").write_text("")
    done = CliRunner().invoke(app, ["run", str(small), "--out", str(tmp_path / "out"), "--quiet"])
    assert done.exit_code == BAD_INPUT
    assert "cannot be written" in done.output


@pytest.mark.parametrize("what", ["scenarios", "profiles", "commands", "directives"])
def test_every_listing_prints_something(what):
    """`redsim list`: each thing it offers to list."""
    done = CliRunner().invoke(app, ["list", what, "--folder", str(ROOT / "scenarios")])
    assert done.exit_code == 0
    assert len(done.output.splitlines()) >= 1


def test_an_unknown_listing_is_bad_input():
    """`redsim list nonsense` names what there is."""
    done = CliRunner().invoke(app, ["list", "nonsense"])
    assert done.exit_code == BAD_INPUT
    assert "scenarios" in done.output


def test_stock_debian_redis_conf_runs_through_conf_file(tmp_path):
    """The issue: Debian's /etc/redis/redis.conf loads verbatim, and the report lists what each line became."""
    if not Path("/etc/redis/redis.conf").is_file():
        pytest.skip("no /etc/redis/redis.conf on this machine")
    result = redsim.run(redsim.Scenario.from_text(STOCK))
    statuses = set(result.directives["status"])
    assert {"modelled", "accepted", "not modelled yet"} <= statuses
    assert (result.directives["directive"] == "hz").any()
    assert result.summary["clients"]["api"]["completed"] > 0


def test_overrides_reach_the_model(small):
    """`--set` on a directive and on a rate changes the answer; the same without them does not."""
    plain = redsim.run(redsim.load(small)).summary
    again = redsim.run(redsim.load(small)).summary
    faster = redsim.run(redsim.load(small, ["nodes.main.conf.hz=100", "clients.api.arrivals.open.rate_per_s=10000"])).summary
    assert plain["digest"] == again["digest"] != faster["digest"]
    assert faster["nodes"]["main"]["info"]["server"]["configured_hz"] == 100
    assert faster["clients"]["api"]["offered"] > 1.5 * plain["clients"]["api"]["offered"]


# ---- with a real Redis -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["calibrate", "--url", "redis://:secret@127.0.0.1:1"], ["--yes-load-it"]),
        (["calibrate", "--folder", "no-such-folder"], ["no-such-folder", "fsync"]),
        (["observe", "no-such-file.txt"], ["no-such-file.txt"]),
        (["observe", "redis://:secret@127.0.0.1:1", "--window", "1"], ["127.0.0.1"]),
        (["validate", "--only", "opn-10"], ["opn-10"]),
        (["validate", "--profile", "dev-mv", "--only", "open-10"], ["dev-mv", "dev-vm"]),
        (["validate", "--regrade", "no-such-record.json"], ["no-such-record.json", "--record"]),
    ],
)
def test_the_lab_refuses_in_one_sentence_without_a_secret(arguments, words, tmp_path, monkeypatch):
    """DESIGN §6: exit code 2 and one clear sentence; secrets never reach the screen."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*arguments, "--quiet"])
    assert done.exit_code == BAD_INPUT, done.output
    said = done.output.strip()
    assert len(said.splitlines()) == 1
    assert all(word in said for word in words)
    assert "secret" not in said


def test_a_record_is_graded_again_without_a_server(tmp_path):
    """validate --regrade: pages and cases.csv of what was measured before, predicted by the model as it is."""
    record = ROOT / "tests" / "recorded" / "validation-pack.json"
    done = CliRunner().invoke(app, ["validate", "--regrade", str(record), "--only", "open-50", "--out", str(tmp_path), "-q"])
    assert done.exit_code == 0, done.output
    assert "1 cases" in done.output
    head = (tmp_path / "cases.csv").read_text().splitlines()[0]
    assert head == "case,quantity,utilisation,measured,measured_spread,predicted,error_pct,fitted,verdict"
    assert {path.name for path in tmp_path.iterdir()} == {"cases.csv", "index.html", "when-not-to-trust.html"}
