"""Validation: a verdict is arithmetic, a case is one file, the pages say what the table says, and a recorded pack still holds.

Only the tests marked `real` start a server; they check structure and exact counts, never a timing.
"""

import math
import shutil
from pathlib import Path

import pytest

from redsim.lab import accuracy
from redsim.lab.case import CAPACITY_PER_S, Case, load_case, load_pack
from redsim.lab.grade import QUANTITIES, Repeat, Row, error_pct, grade, lateness_of, noise_of
from redsim.lab.predicted import Drift, in_order, predict
from redsim.lab.record import Record, Shot, predicted_side, read_record
from redsim.lab.validate import Outcome, graded, profile_of, validate
from redsim.lab.yardstick import Mark
from redsim.report.trust import sentence
from redsim.report.validation import write_validation
from redsim.run.build import check
from redsim.scenario.errors import ScenarioError
from redsim.scenario.profile import load_profile
from redsim.scenario.regime import KINDS, band_of, kind_of_load

PACK = load_pack()
RECORDED = Path(__file__).parent / "recorded" / "validation-pack.json"
OF_A_SHOT = ("slowlog_in_order", "bytes_per_key", "keys_exact")  # of the commands or keys that a real run has shown
CASE = """\
case: small
says: A small one.
capability: loop
quantities: [p50_us, calls GET]
load: 0.2
scenario:
  question: How small?
  duration: 100ms
  hosts: {box: {profile: default}}
  nodes: {main: {host: box}}
  datasets: {d: {node: main, keys: 100}}
  clients:
    lg: {node: main, arrivals: {open: {rate_per_s: LOAD}}, commands: {GET: 1}, keys: {dataset: d}, station: {kind: loop}}
"""


def repeats(
    measured: list[float], predicted: list[float], *, quantity: str = "p50_us", noise: str = "", used: float = 0.5
) -> list[Repeat]:
    return [Repeat({quantity: m}, {quantity: p}, used, noise) for m, p in zip(measured, predicted, strict=True)]


def test_a_row_shows_the_repeat_in_the_middle_so_that_its_figures_agree():
    """grade's note: measured, predicted and error_pct belong to one repeat. Errors -10, +5, +2 %: the middle is +2."""
    row = grade("c", "p50_us", repeats([100, 100, 100], [90, 105, 102]))
    assert (row.measured, row.predicted, row.error_pct) == (100, 102, 2)
    assert row.error_pct == pytest.approx(100 * (row.predicted - row.measured) / row.measured)


def test_within_the_bar_and_agreeing_is_a_pass():
    """Bar 10 %, error 4 to 6 %, half the range 1 %."""
    row = grade("c", "p50_us", repeats([100, 101, 102], [106, 106, 106]))
    assert (row.verdict, row.evidence) == ("pass", "")
    assert row.measured_spread == pytest.approx(100 * (102 - 100) / 2 / 101, abs=0.01)


def test_beyond_the_bar_and_agreeing_is_a_miss():
    """Bar 10 %, error 30 %."""
    row = grade("c", "p50_us", repeats([100, 101, 99], [130, 130, 130]))
    assert row.verdict == "miss"
    assert "+30.0 %" in row.evidence


def test_real_runs_that_differ_by_more_than_the_bar_are_never_a_pass():
    """Issue 3: inconclusive with the evidence. Middle error 0 %, but |a - b| / b of two runs is 36 % at the median."""
    row = grade("c", "p50_us", repeats([100, 130, 70], [100, 100, 100]))
    assert row.verdict == "inconclusive"
    assert row.evidence == "two real runs differ by 36 %, the bar is 10 %"
    assert row.noise_pct == pytest.approx((30 + 100 * 3 / 7) / 2, abs=0.01)


def test_a_wide_spread_does_not_hide_a_miss_of_every_repeat():
    """All of them beyond the bar on one side: noise or not, the model is off."""
    row = grade("c", "p50_us", repeats([100, 150, 200], [20, 20, 20]))
    assert row.verdict == "miss"


def test_stalls_of_the_machine_can_lengthen_a_tail_but_not_shorten_it():
    """A p99 measured at 2, 5 and 9 times the prediction says nothing; one at a third of it is a miss."""
    assert grade("c", "p99_us", repeats([200, 500, 900], [100] * 3, quantity="p99_us")).verdict == "inconclusive"
    assert grade("c", "p99_us", repeats([20, 50, 30], [100] * 3, quantity="p99_us")).verdict == "miss"


def test_noisy_repeats_do_not_decide_and_one_calm_one_is_too_few():
    """Steal above 2 % of the time: the repeat is left out; with one left, nothing is said."""
    calm = repeats([100], [100])
    noisy = repeats([100, 100], [100, 100], noise=noise_of(steal=0.05, drift=0.0))
    row = grade("c", "p50_us", calm + noisy)
    assert row.verdict == "inconclusive"
    assert "1 of 3 repeats were calm" in row.evidence
    assert "5.0% of the time" in row.evidence
    assert grade("c", "p50_us", calm + calm + noisy[:1]).verdict == "pass"


def test_a_late_generator_spoils_latencies_but_not_the_servers_cpu():
    """lateness_of: half of the p99 it measured."""
    late = lateness_of(60.0, 100.0)
    both = {"p50_us": 50.0, "cpu_us_per_command": 10.0}
    shots = [Repeat(both, both, 0.5, late=late)] * 3
    assert grade("c", "p50_us", shots).verdict == "inconclusive"
    assert grade("c", "cpu_us_per_command", shots).verdict == "pass"
    assert lateness_of(40.0, 100.0) == ""


def test_drift_common_to_measurement_and_prediction_is_no_spread():
    """Repeats are compared by their ratio: a machine twice as slow in the second repeat, and a prediction that knows it."""
    row = grade("c", "p50_us", repeats([100, 200, 101], [103, 206, 104]))
    assert row.verdict == "pass"
    assert row.measured_spread < 1
    assert row.noise_pct < 1


def test_exact_quantities_are_equal_or_missed():
    """SLOWLOG entries and calls: bar 0."""
    equal = repeats([3, 3, 3], [3, 3, 3], quantity="slowlog_entries")
    assert grade("c", "slowlog_entries", equal).verdict == "pass"
    assert grade("c", "slowlog_entries", repeats([3, 3, 3], [2, 2, 2], quantity="slowlog_entries")).verdict == "miss"
    assert grade("c", "slowlog_entries", repeats([0, 0, 0], [0, 0, 0], quantity="slowlog_entries")).verdict == "pass"
    assert grade("c", "slowlog_entries", repeats([0, 0, 0], [1, 1, 1], quantity="slowlog_entries")).verdict == "miss"


def test_what_nobody_measured_is_inconclusive():
    """No figure, no verdict."""
    row = grade("c", "stall_us", repeats([1], [1]))
    assert row.verdict == "inconclusive"
    assert math.isnan(row.error_pct)


def test_the_bar_of_a_tail_is_wider_above_80_percent():
    """Issue 3: p99 20 % below 80 % utilisation."""
    assert QUANTITIES["p99_us"].bar(0.79) == 20
    assert QUANTITIES["p99_us"].bar(0.8) > 20
    assert {q: QUANTITIES[q].bar_pct for q in ("throughput_per_s", "p50_us", "stall_us", "cpu_us_per_command")} == {
        "throughput_per_s": 5, "p50_us": 10, "stall_us": 10, "cpu_us_per_command": 10,
    }  # fmt: skip


def test_error_counts_from_what_was_measured():
    """100 * (predicted - measured) / measured."""
    assert error_pct(50, 60) == 20
    assert error_pct(0, 2, is_count=True) == 200
    assert math.isnan(error_pct(0, 2))


def row(
    error: float, *, quantity: str = "p50_us", used: float = 0.5, fitted: bool = False, verdict: str = "pass", case: str = "c"
) -> Row:
    return Row(case, quantity, used, 100.0, 1.0, 100.0 + error, error, fitted, verdict, "open loop")


def test_medians_leave_the_fitted_out_and_keep_the_inconclusive():
    """Issue 3: fit and predict kept apart. Errors 1, -3, 8 %, and a fitted 50 %."""
    told = accuracy.frame([row(1), row(-3, verdict="inconclusive"), row(8, verdict="miss", case="far"), row(50, fitted=True)])
    (line,) = accuracy.by_quantity(told).itertuples()
    assert (line.rows, line.median_error_pct, line.worst_error_pct, line.worst_case) == (3, 3, 8, "far")
    assert (line.mape_pct, line.bias_pct) == (4, 2)
    assert line.conclusive_median_error_pct == 4.5
    assert line.kept


def test_utilisation_falls_into_four_bands():
    """Issue 3: < 30 %, 30-60 %, 60-80 %, > 80 %."""
    assert [band_of(u) for u in (0.0, 0.29, 0.3, 0.6, 0.8, 1.0)] == ["< 30 %", "< 30 %", "30-60 %", "60-80 %", "> 80 %", "> 80 %"]
    told = accuracy.by_utilisation(accuracy.frame([row(1, used=0.1), row(5, used=0.1), row(9, used=0.9)]))
    assert list(told["band"]) == ["< 30 %", "> 80 %"]
    assert list(told["median_error_pct"]) == [3, 9]


def test_a_region_beyond_one_and_a_half_bars_is_not_trusted():
    """accuracy.DISTRUST."""
    near, far = accuracy.regions(accuracy.frame([row(14, used=0.4), row(16, used=0.7)]))
    assert near["trusted"]
    assert not far["trusted"]
    assert "do not decide on it" in sentence(far)


@pytest.mark.parametrize("case", PACK, ids=lambda case: case.name)
def test_every_shipped_case_loads_and_can_be_simulated(case: Case):
    """A case is added by one file; `redsim lint` finds nothing wrong with its scenario."""
    check(case.at(CAPACITY_PER_S))
    assert case.kind in KINDS


def test_the_pack_holds_what_the_issue_asks_for():
    """Issue 3: at least 25 cases; the load curve, the matrix, KEYS at three sizes and loads, and the others by name."""
    names = {case.name for case in PACK}
    assert len(names) >= 25
    assert {f"open-{load}" for load in (10, 20, 30, 40, 50, 60, 70, 80, 90, 95)} <= names
    assert {f"keys-{size}-{load}" for size in ("10k", "100k", "1m") for load in (30, 60, 80)} <= names
    assert {"drain-80", "retry-storm", "monitor-x40", "eval-50ms", "hgetall-100k", "sort-100k", "unlink-hash-1m"} <= names
    assert sum(case.kind == "redis-benchmark" for case in PACK) >= 12
    assert 0 < len(load_pack(quick=True)) <= len(PACK) / 2


def test_load_is_a_share_of_the_capacity_of_the_run(tmp_path: Path):
    """A rate written LOAD: 0.2 of 50,000 a second."""
    (tmp_path / "small.yaml").write_text(CASE, encoding="utf-8")
    case = load_case(tmp_path / "small.yaml")
    opened = case.at(50_000).file.clients["lg"].arrivals.open
    assert opened is not None
    assert opened.rate_per_s == 10_000
    assert kind_of_load(case.at(1).file) == "open loop"


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        ("p50_us, calls GET", "p51_us, calls GET", r"small.yaml:4: 'p51_us' is not a quantity; did you mean 'p50_us'\?"),
        ("calls GET", "calls", r"small.yaml:4: 'calls' names no command; write it like 'calls GET'"),
        ("calls GET", "p50_us", r"small.yaml:4: 'p50_us' is given twice"),
        ("says: A small one.", "sais: A small one.", r"small.yaml:2: sais is not a key of a case; did you mean 'says'\?"),
        ("says: A small one.\n", "", r"says is missing"),
        ("case: small", "case: large", r"small.yaml:1: case 'large' lies in small.yaml; the two go by one name"),
        ("load: 0.2\n", "", r"small.yaml:5: load and LOAD go together; add load"),
        ("rate_per_s: LOAD", "rate_per_s: 10.0", r"load and LOAD go together; write a rate_per_s as LOAD"),
        ("duration: 100ms", "duration: 100", r"small.yaml:8: duration"),
        ("GET: 1", "GTE: 1", r"small.yaml:13: .*'GTE'"),
        ("load: 0.2", "group: api\nload: 0.2", r"small.yaml:5: group 'api' is none of the scenario's"),
        ("scenario:\n", "scenario: {a: 1}\n", r"small.yaml:"),
        ("load: 0.2", "causes: {p99_us: x}\nload: 0.2", r"small.yaml:5: 'p99_us' is none of the case's quantities"),
        ("capability: loop", "capability: aof", r"small.yaml:3: capability"),
    ],
)  # fmt: skip
def test_a_wrong_case_is_told_with_file_line_and_cure(tmp_path: Path, was: str, becomes: str, told: str):
    """STYLE rule 8."""
    assert was in CASE
    path = tmp_path / "small.yaml"
    path.write_text(CASE.replace(was, becomes), encoding="utf-8")
    with pytest.raises(ScenarioError, match=told):
        check(load_case(path).at(1000))


def test_a_pattern_that_matches_no_case_says_what_there_is():
    """Bad input, one sentence."""
    assert [case.name for case in load_pack(only=["open-1?"])] == ["open-10"]
    with pytest.raises(ScenarioError, match="did you mean 'open-10'"):
        load_pack(only=["opn-10"])


def test_every_quantity_a_case_asks_for_is_predicted():
    """Whatever the pack compares, the model has a figure for it (but a queue that never drains within the run)."""
    profile = load_profile("default", Path())
    for case in PACK:
        side = predicted_side(case, Shot({}, [], 0.0, 0, keys=[]), 60_000, profile)
        missing = [q for q in case.file.quantities if q not in side.figures and q not in OF_A_SHOT]
        assert missing == [], case.name


def test_a_slower_machine_is_predicted_slower():
    """Drift: CPU costs doubled double the CPU per command; the walk through memory has a factor of its own."""
    profile = load_profile("default", Path())
    (keys,) = load_pack(only=["keys-100k-30"])
    one, two = (predict(keys.at(40_000), keys.group, Drift(cpu, memory).on(profile)) for cpu, memory in ((1, 1), (1, 2)))
    assert two.figures["usec_per_call KEYS"] == pytest.approx(2 * one.figures["usec_per_call KEYS"], rel=0.2)
    (calm,) = load_pack(only=["open-20"])
    one, two = (predict(calm.at(40_000), calm.group, Drift(cpu, cpu).on(profile)) for cpu in (1, 2))
    assert two.figures["cpu_us_per_command"] == pytest.approx(2 * one.figures["cpu_us_per_command"], rel=0.1)


def test_order_in_slowlog_is_the_longest_common_sequence():
    """in_order."""
    assert in_order(("KEYS", "DEL", "KEYS"), ("KEYS", "DEL", "KEYS")) == 3
    assert in_order(("DEL", "KEYS"), ("KEYS", "DEL")) == 1
    assert in_order((), ("KEYS",)) == 0


def shot(p50: float, *, calls: float = 3.0) -> Shot:
    return Shot({"p50_us": p50, "calls KEYS": calls}, ["KEYS"], 0.5, 0, steal=0.001, late_p99_us=2.0)


def test_a_record_comes_back_as_it_was_written(tmp_path: Path):
    """JSON, a line per repeat; six significant figures."""
    record = Record(
        {"Redis": "7.0.15"},
        98_000.0,
        50_000.0,
        "name: x\n",
        [Mark(9.0, 11.0, 8000.0, 1e5)],
        {"a": [shot(41.5), shot(43.25)], "b": []},
    )
    path = tmp_path / "pack.json"
    path.write_text(record.text(), encoding="utf-8")
    assert read_record(path) == record
    assert len([line for line in record.text().splitlines() if "p50_us" in line]) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"meta": {}}',
        '{"meta": {}, "capacity_per_s": 1, "open_per_s": 1, "profile": "", "marks": [], "shots": {"a": [{}]}}',
    ],
)
def test_what_is_no_record_is_refused_in_one_sentence(tmp_path: Path, text: str):
    """Bad input."""
    path = tmp_path / "pack.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError, match="is not the record of a validation"):
        read_record(path)
    with pytest.raises(ScenarioError, match="cannot be read"):
        read_record(tmp_path / "none.json")


@pytest.fixture(scope="module")
def recorded() -> Outcome:
    """The pack measured once on the development machine, predicted again by the model as it is now."""
    return graded(read_record(RECORDED), PACK)


def test_the_model_is_no_worse_than_was_published(recorded: Outcome):
    """tests/recorded/validation-pack.json, a real Redis 7.0.15: the median error of a quantity may grow by a tenth and one point
    at most over the one recorded with the pack. A better model records anew."""
    medians = dict(zip(*(accuracy.by_quantity(recorded.rows)[c] for c in ("quantity", "median_error_pct")), strict=True))
    worse = {q: (medians[q], was) for q, was in recorded.record.medians.items() if medians[q] > 1.1 * was + 1}
    assert recorded.record.medians
    assert worse == {}


def test_the_recorded_pack_holds_every_shipped_case(recorded: Outcome):
    """A case that is added is recorded, too."""
    assert {case.name for case in PACK} == set(recorded.record.shots)
    assert {row.case for row in recorded.rows.itertuples()} == {case.name for case in PACK}


LIVE = """\
case: live
says: Two stalls of 60 ms under a light load.
capability: loop
quantities: [throughput_per_s, p50_us, calls DEBUG, slowlog_entries, slowlog_in_order, stall_us, queue_at_end]
repeats: 2
load: 0.02
scenario:
  question: Are the exact quantities exact?
  duration: 500ms
  hosts: {box: {profile: default}}
  nodes:
    main:
      host: box
      conf: |
        save ""
        slowlog-log-slower-than 55000
        enable-debug-command yes
  datasets: {d: {node: main, keys: 1000}}
  clients:
    lg: {node: main, connections: 5, arrivals: {open: {rate_per_s: LOAD}},
         commands: {GET: 1}, keys: {dataset: d}, station: {kind: loop}}
  timeline:
    - {at: 100ms, run: "DEBUG SLEEP 0.06", node: main, every: 150ms, times: 2}
"""


@pytest.mark.real
def test_a_live_validation_measures_every_quantity_and_counts_exactly(tmp_path: Path):
    """Issue 3: structure and exact quantities, never a timing. SLOWLOG holds both stalls; a machine may add one."""
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server on PATH")
    (tmp_path / "live.yaml").write_text(LIVE, encoding="utf-8")
    resume = tmp_path / "record.json"
    done = validate(profile="default", folder=tmp_path, resume=resume)
    assert [len(shots) for shots in done.record.shots.values()] == [2]
    assert list(done.rows["quantity"]) == done.cases[0].file.quantities
    measured = dict(zip(done.rows["quantity"], done.rows["measured"], strict=True))
    predicted = dict(zip(done.rows["quantity"], done.rows["predicted"], strict=True))
    assert measured["calls DEBUG"] == predicted["calls DEBUG"] == 2
    assert predicted["slowlog_entries"] == 2 <= measured["slowlog_entries"]
    assert measured["stall_us"] >= 60_000
    assert set(done.rows["verdict"]) <= {"pass", "miss", "inconclusive"}
    again = graded(read_record(resume), done.cases).rows
    assert list(again["quantity"]) == list(done.rows["quantity"])
    assert list(again["measured"]) == pytest.approx(list(done.rows["measured"]), rel=1e-4)
    names = [path.name for path in write_validation(done.page_data("redsim validate", with_published=False), tmp_path / "out")]
    assert names == ["cases.csv", "index.html", "when-not-to-trust.html"]


def test_a_record_outlives_a_new_cost():
    """A profile kept before the model had some mechanism has 0 for it."""
    text = read_record(RECORDED).profile
    assert (
        profile_of("\n".join(line for line in text.splitlines() if "poll_event_ns" not in line)).costs["poll_event_ns"].value == 0
    )
