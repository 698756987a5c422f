"""`redsim plan backlog`: P(full resync) by size against arithmetic, the sizes chosen, full syncs, the page, bad input."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from redsim.cli import app
from redsim.report.plan_backlog import answer, inequalities, lines
from redsim.rng import generator
from redsim.run import engine
from redsim.run.plan_backlog import plan_backlog
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.units import MIB, S

SIGMAS = 4.5  # of a share of draws: beyond it once in 150,000
DRAWS = 20_000

TEXT = """\
question: Does a blip cost a full sync?
duration: 4s
warmup: 200ms
window: 50ms
seed: 1
hosts: {a: {profile: default}, b: {profile: default}}
links: [{between: [a, b], rtt: 1ms}]
nodes:
  main: {host: a, conf: "save ''\\nrepl-backlog-size 64kb\\nrepl-diskless-sync-delay 0"}
  r1: {host: b, replica_of: main, conf: "save ''"}
datasets: {users: {node: main, keys: 20000, value_bytes: 200}}
clients:
  api: {node: main, connections: 10, arrivals: {open: {rate_per_s: 2000}}, commands: {SET: 1}, keys: {dataset: users}}
timeline:
  - {at: 1s, fault: disconnect, node: r1, for: 700ms}
"""


def steady(tmp_path: Path, per_s: int = MIB, seconds: int = 100_000) -> Path:
    """Offsets of a stream of so many bytes a second."""
    path = tmp_path / "steady.csv"
    path.write_text(f"time_s,offset\n0,0\n{seconds},{per_s * seconds}\n", encoding="utf-8")
    return path


def bursty(tmp_path: Path, seed: int = 1) -> Path:
    """Offsets of a stream whose rate changes each minute, lognormal about 1 MB/s."""
    path = tmp_path / f"bursty-{seed}.csv"
    each = (6e7 * generator(seed, "bursty").lognormal(0, 1, 200)).astype(int)
    rows = "".join(f"{60 * n},{offset}\n" for n, offset in enumerate([0, *np.cumsum(each).tolist()]))
    path.write_text("time_s,offset\n" + rows, encoding="utf-8")
    return path


def is_near(share: float, expected: float) -> bool:
    return abs(share - expected) <= SIGMAS * math.sqrt(max(expected * (1 - expected), 1 / DRAWS) / DRAWS)


def test_steady_writes_and_one_outage_give_the_share_that_arithmetic_gives(tmp_path):
    """1 MiB/s, 5 s: missed = 5 s + U(0, 1 s) + 4 x 1 ms; kept: size + U(1, 20440) bytes. P(missed > kept), both uniform."""
    plan = plan_backlog(steady(tmp_path), "5s", rtt="1ms")
    for row in plan.rows.itertuples():
        short_s = float(row.size_bytes) / MIB - 5.004  # of the second's share that is enough
        slack_s = 20440 / MIB
        edges = np.clip(1 - np.linspace(short_s, short_s + slack_s, 2001), 0, 1)
        assert is_near(float(row.p_full), float(edges.mean()))
    assert plan.backlog_bytes == 6 * MIB, "5.004 s and up to one more: 4 ms more than 6 MiB, which a block's slack holds mostly"


def test_steady_writes_and_exponential_outages_give_the_share_that_arithmetic_gives(tmp_path):
    """P(D + U > x) = m e^(-x/m) (e^(1/m) - 1) for exponential D of mean m s and uniform U, where x > 1 s."""
    plan = plan_backlog(steady(tmp_path), "exponential:5s", rtt="1us")
    for row in plan.rows[plan.rows["size_bytes"] >= 2 * MIB].itertuples():
        x = (float(row.size_bytes) + 10_220) / MIB
        assert is_near(float(row.p_full), 5 * math.exp(-x / 5) * (math.exp(1 / 5) - 1))
        assert row.bound_mean == pytest.approx(math.exp(-float(row.size_bytes) / MIB / 5))


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("outage", ["5s", "exponential:20s", "lognormal:30s:1", "uniform:1s:200s"])
def test_no_simulation_exceeds_the_bound_by_the_highest_rate(outage, silent, tmp_path):
    """The stream never grows faster than it did between two samples, and reconnecting takes no longer than said."""
    for seed in range(3):
        plan = plan_backlog(bursty(tmp_path, seed), outage, silent=silent, seed=seed)
        spare = SIGMAS * np.sqrt((plan.rows["bound_peak"] * (1 - plan.rows["bound_peak"])).clip(lower=1 / DRAWS) / DRAWS)
        assert (plan.rows["p_full"] <= plan.rows["bound_peak"] + spare).all()
        assert (plan.rows["p_full"].diff().dropna() <= 0).all(), "a larger backlog never costs"
        assert (plan.rows["low"] <= plan.rows["p_full"]).all()
        assert (plan.rows["p_full"] <= plan.rows["high"]).all()
        sure = plan.formulas[plan.formulas["says"].str.startswith("highest rate")]
        assert float(sure["p_full"].iloc[0]) <= 0.001 + SIGMAS * math.sqrt(0.001 / DRAWS)


def test_bursts_make_the_mean_rate_too_small(tmp_path):
    """What the rule of thumb gives for 99.9 % of the outages leaves more than twice 0.1 % of them full; this plan does not."""
    plan = plan_backlog(bursty(tmp_path), "exponential:5s", ram="1gb")
    by_rule = dict(zip(plan.formulas["says"].str.split(" \\(").str[0], plan.formulas["p_full"], strict=True))
    assert by_rule["mean rate x outage"] > 0.002
    assert plan.backlog_bytes is not None
    assert plan.band(plan.hits)[1] <= 0.001
    below = plan.rows[plan.rows["size_bytes"] < plan.backlog_bytes]
    assert float(below["high"].iloc[-1]) > 0.001, "the next smaller size does not meet the target"
    assert {"1 % of RAM: percona.com", "2 % of RAM: percona.com"} <= set(plan.formulas["says"])


def test_longer_outages_and_more_writes_need_no_less(tmp_path):
    """The same draws: the size chosen grows with the outage, with the rate and with the target."""
    by_outage = [plan_backlog(steady(tmp_path), f"exponential:{s}s").backlog_bytes for s in (1, 2, 5, 20)]
    by_rate = [plan_backlog(steady(tmp_path, rate), "exponential:5s").backlog_bytes for rate in (100_000, MIB, 10 * MIB)]
    by_target = [plan_backlog(steady(tmp_path), "exponential:5s", target=share).backlog_bytes for share in (0.5, 0.99, 0.999)]
    for sizes in (by_outage, by_rate, by_target):
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[-1]
    assert plan_backlog(steady(tmp_path, 1000), "1s").backlog_bytes == MIB, "no less than the default"


def test_the_same_seed_is_the_same_plan_and_another_is_not(tmp_path):
    path = bursty(tmp_path)
    one, same, other = (plan_backlog(path, "exponential:5s", seed=seed) for seed in (1, 1, 2))
    assert (one.needed_bytes == same.needed_bytes).all()
    assert (one.needed_bytes != other.needed_bytes).any()
    assert one.lines_to_paste() == same.lines_to_paste()


def test_a_target_that_the_draws_cannot_show_says_how_many_can(tmp_path):
    """No full resync in n draws leaves 1 - 0.025^(1/n): 0.1 % takes 3,688."""
    plan = plan_backlog(steady(tmp_path), "5s", draws=1000)
    assert plan.backlog_bytes is None
    assert plan.lines_to_paste() == []
    assert "takes --draws 3688" in answer(plan)
    assert plan_backlog(steady(tmp_path), "5s", draws=3688).backlog_bytes in (6 * MIB, 7 * MIB)


def test_before_7_there_is_no_block_to_spare_and_each_replica_has_its_own_buffer(tmp_path):
    """6.2: a ring of the size; memory of backlog and output buffers adds up."""
    new, old = (plan_backlog(steady(tmp_path), "5s", full_sync="40s", replicas=3, version=v) for v in ("7.0", "6.2"))
    more = old.needed_bytes - new.needed_bytes
    assert (more.min() >= 1, more.max() <= 20440) == (True, True)
    assert new.sync is not None
    assert old.sync is not None
    assert new.gathered_memory_bytes() == new.sync.worst_bytes
    assert old.gathered_memory_bytes() == old.master.backlog_memory_bytes(7 * MIB) + 3 * old.sync.worst_bytes
    assert old.master.backlog_memory_bytes(7 * MIB) == 7 * MIB


def test_an_outage_longer_than_the_series_goes_on_at_the_mean_rate(tmp_path):
    """10 s of offsets, 100 s without the link."""
    plan = plan_backlog(steady(tmp_path, MIB, 10), "100s")
    assert any("20,000 of 20,000 outages are longer than the 10 s" in line for line in plan.notes)
    assert plan.needed_bytes.min() == pytest.approx(100 * MIB, rel=0.001)


def test_a_server_of_today_is_read_from_its_conf(tmp_path):
    """Its backlog and limits are those of now; its limits stay where they are enough."""
    conf = tmp_path / "redis.conf"
    conf.write_text("repl-backlog-size 100mb\nclient-output-buffer-limit replica 64mb 16mb 10\n", encoding="utf-8")
    plan = plan_backlog(steady(tmp_path), "5s", full_sync="5s", conf=conf)
    assert plan.master.backlog_bytes == 100 * MIB
    assert plan.hits_now == 0
    assert plan.lines_to_paste() == ["repl-backlog-size 6mb", "client-output-buffer-limit replica 64mb 16mb 10"]
    slow = plan_backlog(steady(tmp_path), "5s", full_sync="uniform:100s:200s", conf=conf)
    assert slow.sync is not None
    assert slow.sync.p_overflow == 1
    assert "for ever" in answer(slow)
    assert (
        "150 MiB >= 100mb (repl-backlog-size lifts it), above the soft limit 16mb, which may last 10 s" in inequalities(slow)[1]
    )
    assert slow.lines_to_paste()[1].startswith("client-output-buffer-limit replica 224mb ")


def test_a_backlog_without_replicas_is_freed_after_its_ttl(tmp_path):
    """repl-backlog-ttl 3600 s: beyond it every resync of the only replica is full; another replica keeps the backlog."""
    ttl = tmp_path / "ttl.conf"
    ttl.write_text("repl-backlog-ttl 0\n", encoding="utf-8")
    path = steady(tmp_path, 1000)
    gone, kept, two = (
        plan_backlog(path, "uniform:1800s:5400s", **more)
        for more in ({}, {"conf": ttl}, {"replicas": 2})  # type: ignore[arg-type]
    )
    share = float((gone.needed_bytes > 2**60).mean())
    assert is_near(share, 0.5)
    assert gone.backlog_bytes is None
    assert "no size up to a terabyte is enough" in answer(gone)
    assert any("repl-backlog-ttl 0 keeps it" in line for line in gone.notes)
    assert (gone.rows["bound_peak"] >= 0.5).all()
    assert kept.backlog_bytes == two.backlog_bytes == 6 * MIB


def test_a_partial_resync_larger_than_the_soft_limit_is_told(tmp_path):
    """What is sent from the backlog counts as output buffer: 96 MiB over 64 in 60 s, beside 10 MiB a second of writes."""
    plan = plan_backlog(steady(tmp_path, 10 * MIB), "uniform:1s:14s")
    assert plan.backlog_bytes == 160 * MIB
    assert any("above the soft limit of 64mb" in line and "11.6 MiB a second" in line for line in plan.notes)
    assert not any("soft limit" in line for line in plan_backlog(steady(tmp_path), "5s").notes)


def test_no_limit_is_below_the_backlog_to_paste(tmp_path):
    """6.2 closes a replica whose partial resync sends more than the hard limit; 7.0 lifts the limit, but it is better said."""
    for version in ("6.2", "7.0"):
        for more in ({}, {"full_sync": "5s"}):
            plan = plan_backlog(steady(tmp_path, 10 * MIB), "40s", version=version, **more)  # type: ignore[arg-type]
            assert plan.lines_to_paste() == ["repl-backlog-size 448mb", "client-output-buffer-limit replica 448mb 64mb 60"]
    assert plan_backlog(steady(tmp_path), "40s").lines_to_paste() == ["repl-backlog-size 48mb"]


def test_a_scenario_gives_rate_full_sync_link_and_directives(monkeypatch):
    """Offsets after the warm-up, full syncs from the fork to the load, the link's RTT, the master's conf and replicas."""
    at = np.arange(0, 4.05, 0.05)
    frame = pd.DataFrame({"time_s": at, "replica": "r1", "master_offset": np.maximum(at - 0.2, 0) * 1e6})
    syncs = pd.DataFrame([("r1", "bgsave", 1.0, 1.1, ""), ("r1", "transfer", 1.1, 2, ""), ("r1", "load", 2, 3.5, "")],
                         columns=["replica", "phase", "start_s", "end_s", "note"])  # fmt: skip
    monkeypatch.setattr(engine, "run", lambda scenario, progress: SimpleNamespace(replication=frame, syncs=syncs))
    plan = plan_backlog(Scenario.from_text(TEXT), "exponential:2s")
    assert plan.written.mean_per_s == pytest.approx(1e6)
    assert plan.master.rtt_ns == 1_000_000
    assert (plan.master.name, plan.master.backlog_bytes, plan.master.replicas, plan.guesses) == ("main", 65536, 1, ())
    assert plan.sync is not None
    assert (plan.sync.mean_ns, plan.sync.said) == (2_500_000_000, "the full sync in the run")
    assert plan_backlog(Scenario.from_text(TEXT), "2s", full_sync="40s").sync.mean_ns == 40 * S  # type: ignore[union-attr]


def test_a_run_is_planned_for_from_what_it_did():
    """The simulated replica lost 700 ms and the backlog of 64 KiB was too small, as the plan says of such outages; with the size
    that the plan gives, the same run has a partial resync."""
    scenario = Scenario.from_text(TEXT)
    result = engine.run(scenario)
    assert result.summary["replicas"]["r1"]["full_syncs"] == 1
    plan = plan_backlog(scenario, "700ms")
    assert plan.hits_now == plan.draws
    stream = result.replication["master_offset"]
    assert plan.written.offset_bytes[-1] <= stream.max()
    assert plan.sync is not None
    at_s = result.syncs.set_index("phase")
    assert plan.sync.mean_ns == pytest.approx((at_s.loc["load", "end_s"] - at_s.loc["bgsave", "start_s"]) * S, abs=2)
    assert plan.sync.p_overflow == 0
    enough = Scenario.from_text(TEXT, overrides=[f"nodes.main.conf.repl-backlog-size={plan.backlog_bytes}"])
    again = engine.run(enough).summary["replicas"]["r1"]
    assert (again["full_syncs"], again["partial_syncs_ok"]) == (0, 1)


def test_as_many_outages_of_a_run_are_full_as_the_plan_says(tmp_path):
    """60 outages, exponential of 1.5 s, in a simulated server that writes 1 MB/s with 2mb of backlog; the engine knows nothing of
    the plan. The plan is given those 60 and must be near: 4.5 standard deviations of 60 draws."""
    luck, at, rows = generator(3, "engine"), 3.0, []
    for lost_s in luck.exponential(1.5, 60).tolist():
        at += float(luck.uniform(3, 5))
        rows.append((at, lost_s))
        at += lost_s + 1.5
    faults = "".join(f"  - {{at: {round(a * 1e6)}us, fault: disconnect, node: r1, for: {round(d * 1e6)}us}}\n" for a, d in rows)
    text = (
        TEXT.split("timeline:")[0]
        .replace("64kb", "2mb")
        .replace("4s", f"{int(at) + 5}s")
        .replace("value_bytes: 200", "value_bytes: 1000")
    )
    text = text.replace("keys: 20000", "keys: 5000").replace("rate_per_s: 2000", "rate_per_s: 1000")
    result = engine.run(Scenario.from_text(f"{text}timeline:\n{faults}"))
    told = result.summary["replicas"]["r1"]
    assert told["full_syncs"] + told["partial_syncs_ok"] == len(rows)
    (tmp_path / "outages.txt").write_text("".join(f"{round(d * 1e6)}us\n" for _, d in rows), encoding="utf-8")
    offsets = tmp_path / "offsets.csv"
    result.replication[["time_s", "master_offset"]].to_csv(offsets, index=False, header=["time_s", "offset"])
    plan = plan_backlog(offsets, f"file:{tmp_path / 'outages.txt'}", rtt="1ms")
    expected = float((plan.needed_bytes > 2 * MIB).mean())
    assert abs(told["full_syncs"] / len(rows) - expected) <= SIGMAS * math.sqrt(expected * (1 - expected) / len(rows))


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("--target 1: a share", {"target": 1.0}), ("--target 0.4", {"target": 0.4}), ("--draws 9: from 100", {"draws": 9}),
        ("--rtt 5: '5' is not a duration", {"rtt": "5"}), ("--ram 5x", {"ram": "5x"}), ("--replicas 0: 1 at", {"replicas": 0}),
        ("--full-sync x", {"full_sync": "x"}), ("nowhere.conf", {"conf": Path("nowhere.conf")}), ("version", {"version": "5.0"}),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_is_one_sentence(said, asked, tmp_path):
    """Numbers out of range and files that are not there, named with their option."""
    with pytest.raises(ScenarioError, match=said):
        plan_backlog(steady(tmp_path), "5s", **asked)


def test_a_scenario_without_a_replica_is_refused_before_it_runs(tmp_path):
    """It has no replication stream; and a scenario has its conf itself."""
    alone = TEXT.replace("  r1: {host: b, replica_of: main, conf: \"save ''\"}\n", "").split("timeline:")[0]
    with pytest.raises(ScenarioError, match=r"<scenario>:8: the scenario has no replica"):
        plan_backlog(Scenario.from_text(alone), "5s")
    with pytest.raises(ScenarioError, match="--conf x: goes with --offsets"):
        plan_backlog(Scenario.from_text(TEXT), "5s", conf=Path("x"))


def test_the_command_writes_page_numbers_and_lines(tmp_path):
    """plan.html without a link to anywhere, plan.json with the stable names, backlog.csv with both curves; the answer on top."""
    path = bursty(tmp_path)
    words = ["plan", "backlog", "--offsets", str(path), "--outage", "exponential:5s", "--full-sync", "90s", "--ram", "16gb"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "repl-backlog-size " in done.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"plan.html", "plan.json", "backlog.csv"}
    told = json.loads((tmp_path / "out" / "plan.json").read_text(encoding="utf-8"))
    assert {"backlog_bytes", "p_full", "p_full_now", "target", "draws_needed", "lines", "formulas", "rows", "sync"} <= set(told)
    page = (tmp_path / "out" / "plan.html").read_text(encoding="utf-8")
    assert all(line in page for line in told["lines"])
    assert len(told["lines"]) == 2
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    table = pd.read_csv(tmp_path / "out" / "backlog.csv")
    assert set(table["directive"]) == {"repl-backlog-size", "client-output-buffer-limit"}
    assert table["p"].between(0, 1).all()
    plan = plan_backlog(path, "exponential:5s", full_sync="90s", ram="16gb")
    assert lines(plan)[0] in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give a scenario with a replica, or --offsets FILE"), (["a.yaml", "--offsets", "b.csv"], "one of the two"),
        (["--offsets", "none.csv"], "none.csv: cannot be read"), (["none.yaml"], "none.yaml:1: no such file"),
        (["--offsets", "none.csv", "--set", "seed=2"], "--set seed=2: goes with a scenario"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_one_sentence_and_exit_code_2(words, said):
    done = CliRunner().invoke(app, ["plan", "backlog", *words, "--outage", "5s"])
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.output + done.stderr
