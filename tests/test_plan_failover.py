"""`redsim plan failover`: what is struck and when, how each directive is chosen, what is written, and what cannot be planned."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import redsim
from redsim.cli import BAD_INPUT, app
from redsim.report.plan_failover import answer, lines, write_plan
from redsim.run.failover_trials import AFTER_NS, HEALED_NS, Setting, Trial, kinds_of, made, now_of, with_setting
from redsim.run.plan_failover import AXES, DOWN_AFTER_MS, MARGIN, FailoverPlan, _Runs, _Search, plan_failover
from redsim.scenario.crashes import NodeFault
from redsim.scenario.errors import ScenarioError
from redsim.scenario.network import NetworkFault
from redsim.scenario.redis_conf import parse_conf
from redsim.scenario.sentinel_conf import parse_sentinel_conf
from redsim.units import MS, S
from tests.test_services import trio

SLEEPS = """- {at: 3s, run: "DEBUG SLEEP 1.2", node: main}
  - {at: 5s, fault: kill, node: main}
  - {at: 6s, run: "DEBUG SLEEP 1.2", node: main}"""
GIVEN: dict[str, Any] = {
    "duration": "9s", "arrivals": "{open: {rate_per_s: 60}}", "connections": 4, "conf": "enable-debug-command yes",
    "timeline": SLEEPS,
}  # fmt: skip
CUT_NS = 6 * S


@pytest.fixture(scope="module")
def planned() -> FailoverPlan:
    """Two stalls of 1.2 s, down-after 1 s as it is, three seeds of everything."""
    return plan_failover(trio(**GIVEN), repeats=3, down_after="2s,4s", cut="6s", processes=1)


# ---- trials ------------------------------------------------------------------------------------------------------------------


def test_a_trial_strikes_what_its_kind_says_and_nothing_else() -> None:
    """The timeline's own kill is left out, its commands stay; a seed has one instant, whatever is set."""
    scenario = trio(**GIVEN)
    now = now_of(scenario)
    assert kinds_of(scenario.file, "main") == ["calm", "kill", "cut", "blind", "short", "own"]
    for kind in ("kill", "cut", "blind", "short"):
        ready, at_ns = made(scenario, Trial(now, kind, 7, CUT_NS))
        strikes = [entry for entry in ready.file.timeline if isinstance(entry, (NodeFault, NetworkFault))]
        assert 2 * S <= at_ns < 9 * S
        assert {entry.at for entry in strikes} <= {at_ns, at_ns - S}
        assert all(entry.at < ready.file.duration for entry in ready.file.timeline)
        assert ready.file.duration >= at_ns + now.down_after_ns + AFTER_NS
        other = replace(now, down_after_ns=4 * S, quorum=1)
        assert made(scenario, Trial(other, kind, 7, CUT_NS))[1] == at_ns
        assert made(scenario, Trial(now, kind, 8, CUT_NS))[1] != at_ns
        if kind == "cut":
            assert [entry.groups for entry in strikes] == [[["a"], ["b", "c"]]]
            assert ready.file.duration >= at_ns + CUT_NS + HEALED_NS
        elif kind == "blind":
            assert strikes[0].groups in ([["a"], ["b"]], [["a"], ["c"]])
        else:
            assert strikes[-1].node == "main"
            assert [entry.node for entry in strikes[:-1]] in ([], ["sentinel-1"], ["sentinel-2"], ["sentinel-3"])
            assert len(strikes) == (2 if kind == "short" else 1)


def test_a_calm_trial_has_the_stalls_alone_and_an_own_one_the_whole_timeline() -> None:
    """Its length is the scenario's."""
    scenario = trio(**GIVEN)
    calm, _ = made(scenario, Trial(now_of(scenario), "calm", 3, CUT_NS))
    assert [entry.at for entry in calm.file.timeline] == [3 * S, 6 * S]
    own, at_ns = made(scenario, Trial(now_of(scenario), "own", 3, CUT_NS))
    assert own.file.timeline == scenario.file.timeline
    assert (at_ns, own.file.duration, own.file.seed) == (5 * S, 5 * S + 1 * S + AFTER_NS, 3)


def test_changes_of_roles_are_left_out_as_faults_are() -> None:
    """An operator's drill is no false failover, but --own strikes with it. A fault of a replica is none of the master."""
    asked = trio(**{**GIVEN, "timeline": '- {at: 3s, run: "SENTINEL FAILOVER mymaster", node: sentinel-1}'})
    assert made(asked, Trial(now_of(asked), "calm", 1, CUT_NS))[0].file.timeline == []
    assert "own" in kinds_of(asked.file, "main")
    other = trio(**{**GIVEN, "timeline": "- {at: 3s, fault: disconnect, node: r1, for: 1s}"})
    assert "own" not in kinds_of(other.file, "main")


def test_nothing_strikes_while_a_group_that_follows_does_not_ask() -> None:
    """From its start to its stop; behind the strike it goes on, so that silence is an outage."""
    scenario = trio(**{**GIVEN, "more": "start: 3s\n    stop: 6s\n    timeout: 100ms"})
    for seed in range(20):
        ready, at_ns = made(scenario, Trial(now_of(scenario), "kill", seed, CUT_NS))
        assert 3 * S <= at_ns < 6 * S
        assert ready.file.clients["web"].stop is None
    short = trio(**{**GIVEN, "more": "start: 3s\n    stop: 3500ms\n    timeout: 100ms"})
    with pytest.raises(ScenarioError, match="no room for a strike"):
        plan_failover(short)


def test_a_host_with_half_of_the_sentinels_is_not_called_blind() -> None:
    """Its view would be the majority's."""
    text = """
question: q
duration: 5s
hosts: {a: {profile: default}, b: {profile: default}}
nodes: {main: {host: a}, r1: {host: b, replica_of: main}}
sentinels: {hosts: [a, b, b], conf: "sentinel monitor m main 2"}
datasets: {d: {node: main, keys: 10}}
clients: {w: {service: m, arrivals: {closed: {think: 10ms}}, commands: {SET: 1}, keys: {dataset: d}}}
"""
    assert kinds_of(redsim.Scenario.from_text(text).file, "main") == ["calm", "kill", "cut", "short"]


def test_a_setting_reaches_sentinel_conf_and_every_servers_redis_conf() -> None:
    """And reading it back gives it; the one of now leaves redis.conf as it was written."""
    scenario = trio(**GIVEN)
    wanted = Setting(4 * S, 3, 2, 1, 5)
    assert now_of(with_setting(scenario, wanted)) == wanted
    assert {conf.get("min-replicas-max-lag") for conf in with_setting(scenario, wanted).confs.values()} == {5}
    assert with_setting(scenario, now_of(scenario)).confs == scenario.confs


def test_on_one_host_nothing_can_be_cut_off() -> None:
    """Nor can a Sentinel be blind; one Sentinel alone has nobody who could be dead."""
    text = """
question: q
duration: 5s
hosts: {box: {profile: default}}
nodes: {main: {host: box}, r1: {host: box, replica_of: main}}
sentinels: {count: 1, hosts: [box], conf: "sentinel monitor m main 1"}
datasets: {d: {node: main, keys: 10}}
clients: {w: {service: m, arrivals: {closed: {think: 10ms}}, commands: {SET: 1}, keys: {dataset: d}}}
"""
    assert kinds_of(redsim.Scenario.from_text(text).file, "main") == ["calm", "kill"]


# ---- the plan ----------------------------------------------------------------------------------------------------------------


def test_a_stall_longer_than_down_after_is_a_false_alarm_and_the_plan_stays_above_it(planned: FailoverPlan) -> None:
    """redis #8607 in small: with 1 s two stalls of 1.2 s make Sentinels say +sdown, with 2 s none does."""
    share = planned.share(planned.now, "calm", "sdowns")
    assert share is not None
    assert share.hits > 0
    assert planned.chosen.down_after_ns == 2 * S >= MARGIN * 1.2 * S
    for name in ("sdowns", "false_failovers"):
        safe = planned.share(planned.chosen, "calm", name)
        assert safe is not None
        assert (safe.hits, safe.runs) == (0, 3)


def test_quorum_one_trusts_a_blind_sentinel_and_quorum_three_needs_a_dead_one(planned: FailoverPlan) -> None:
    """sentinel.c: quorum says how many must see it down; the election takes a majority whatever it is."""
    step = next(step for step in planned.steps if step.axis == "quorum")
    by_quorum = {setting.quorum: setting for setting in step.tried}
    blind = {quorum: planned.share(setting, "blind", "false_failovers") for quorum, setting in by_quorum.items()}
    short = {quorum: planned.share(setting, "short", "failovers") for quorum, setting in by_quorum.items()}
    assert [share.hits for share in blind.values() if share] == [3, 0, 0]
    assert [share.hits for share in short.values() if share] == [3, 3, 0]
    assert planned.chosen.quorum == 2


def test_min_replicas_bounds_what_a_master_loses_that_is_cut_off(planned: FailoverPlan) -> None:
    """redis.conf's own promise; it is taken, as nothing is refused while all is well."""
    step = next(step for step in planned.steps if step.axis == "min-replicas")
    worst = {setting: max(planned.values(setting, "cut", "lost_acked_writes")) for setting in step.tried}
    least = min(worst, key=lambda setting: worst[setting])
    assert planned.chosen.min_replicas == least.min_replicas == 1
    assert worst[least] < min(planned.values(replace(least, min_replicas=0, min_lag_s=10), "cut", "lost_acked_writes"))


def test_a_replica_that_leaves_across_a_cut_counts_until_its_last_ack_is_old(planned: FailoverPlan) -> None:
    """refreshGoodSlavesCount goes by the last ACK; the FIN does not come through. With a lag of 3 s the master stops after 3 to
    4 s, with one of 10 s not within the 6 s of the cut."""
    step = next(step for step in planned.steps if step.axis == "min-replicas")
    by_lag = {setting.min_lag_s: setting for setting in step.tried if setting.min_replicas == 1}
    refused = {lag_s: planned.values(setting, "cut", "refused_writes") for lag_s, setting in by_lag.items()}
    lost = {lag_s: max(planned.values(setting, "cut", "lost_acked_writes")) for lag_s, setting in by_lag.items()}
    assert min(refused[3]) > 0
    assert lost[3] < 0.8 * lost[10]


def test_runs_of_one_seed_are_struck_at_one_instant(planned: FailoverPlan) -> None:
    """Pairs: the same luck under every setting."""
    for (kind, seed), rows in planned.rows.groupby(["kind", "seed"]):
        assert rows["fault_s"].nunique() == 1, (kind, seed)


def test_the_lines_to_paste_are_what_redis_reads(planned: FailoverPlan) -> None:
    """Only what changes; sentinel.conf and redis.conf take them as they stand."""
    pasted = planned.lines_to_paste()
    sentinel = [line for line in pasted if line.startswith("sentinel ")]
    server = [line for line in pasted if line.startswith("min-")]
    rules = parse_sentinel_conf("\n".join(["sentinel monitor mymaster main 2", *sentinel])).masters[0]
    assert rules.down_after_ns == planned.chosen.down_after_ns
    assert parse_conf("\n".join(server), version="7.0").get("min-replicas-to-write") == 1
    assert not any("quorum" in line or "monitor" in line for line in pasted)


def test_the_files_tell_the_same_as_the_plan(planned: FailoverPlan, tmp_path: Path) -> None:
    """plan.json in strict JSON, a row per run in failovers.csv, a page with both figures."""
    write_plan(planned, tmp_path, "redsim plan failover s.yaml")
    told = json.loads((tmp_path / "plan.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert told["chosen"]["down_after_ms"] == planned.chosen.down_after_ns // MS
    assert told["lines"] == planned.lines_to_paste()
    assert [step["axis"] for step in told["steps"]] == [step.axis for step in planned.steps] == list(AXES[:3])
    assert len((tmp_path / "failovers.csv").read_text().splitlines()) == len(planned.rows) + 1
    page = (tmp_path / "plan.html").read_text()
    for words in ('id="plot-outage"', 'id="plot-lost"', "To paste", answer(planned).split(",")[0]):
        assert words in page, words
    assert "nan" not in page.replace("nant", "")
    assert any(line.startswith("quorum 2: ") for line in lines(planned))
    assert "the timeline's faults of servers and of the network are left out" in " ".join(planned.notes)


# ---- how it is chosen, with figures made up --------------------------------------------------------------------------------


NOW = Setting(30 * S, 2, 1, 0, 10)
QUIET = {"sdowns": 0, "false_failovers": 0, "longest_stall_s": 0.5, "refused_writes": 0, "failovers": 1, "unavailable_s": 5.0,
         "is_over": True, "writable_s": 5.0, "lost_acked_writes": 1000, "redundant_s": 10.0,
         "reads_unavailable_s": None}  # fmt: skip


ALL = ("calm", "kill", "cut", "blind", "short")


def search(made_up: Any, now: Setting = NOW, kinds: tuple[str, ...] = ALL) -> _Search:
    """A search whose trials have `made_up(setting, kind)` beside QUIET, four seeds."""
    runs = _Runs(trio(**GIVEN), 4, CUT_NS, 1, lambda what, share: None)

    def make(settings: Any, kinds: Any, says: str, share: Any) -> None:
        for one in settings:
            for kind in kinds:
                runs.done[one, kind] = [{**QUIET, "seed": seed, **made_up(one, kind)} for seed in range(4)]

    runs.make = make  # type: ignore[method-assign]
    found = _Search(runs, now, "kill", "cut", list(kinds))
    found.all([ms * MS for ms in DOWN_AFTER_MS], 3, 5)
    return found


def test_nothing_changes_where_nothing_is_better() -> None:
    """All settings alike: the one of now stays, but for a shorter outage, and one that does not end is none."""
    assert search(lambda one, kind: {}).at == NOW
    endless = search(lambda one, kind: {"unavailable_s": one.down_after_ns / S + 1, "is_over": False})
    assert endless.at == NOW
    shorter = search(lambda one, kind: {"unavailable_s": one.down_after_ns / S + 1})
    assert shorter.at == replace(NOW, down_after_ns=1 * S)


def test_a_stall_pushes_down_after_up_by_the_margin() -> None:
    """1.5 times 1.5 s is above 2 s, so that 3 s is the least."""
    found = search(lambda one, kind: {"unavailable_s": one.down_after_ns / S + 1, "longest_stall_s": 1.5})
    assert found.at.down_after_ns == 3 * S
    nervous = search(lambda one, kind: {"sdowns": 1 if kind == "calm" and one.down_after_ns < 10 * S else 0,
                                        "unavailable_s": one.down_after_ns / S + 1})  # fmt: skip
    assert nervous.at.down_after_ns == 10 * S
    unsafe = search(lambda one, kind: {"false_failovers": 1 if kind == "calm" else 0})
    assert unsafe.at == NOW


def test_two_sentinels_have_no_quorum_that_is_safe() -> None:
    """Whatever it is, one dead Sentinel is enough: it stays, and the plan says so."""
    found = search(lambda one, kind: {"failovers": 0 if kind == "short" else 1})
    assert found.at.quorum == NOW.quorum


def test_without_a_blind_sentinel_a_majority_is_the_least() -> None:
    """On one host nobody can be blinded, which makes quorum 1 no safer."""
    faster = search(lambda one, kind: {"unavailable_s": 3.0 + one.quorum}, replace(NOW, quorum=3), ("calm", "kill", "short"))
    assert faster.at.quorum == 2
    again = search(lambda one, kind: {"false_failovers": int(one.quorum == 1 and kind == "kill"),
                                      "unavailable_s": 3.0 + one.quorum})  # fmt: skip
    assert again.at.quorum == 2  # 1 makes a second failover of the strike


def test_min_replicas_is_not_taken_at_any_price() -> None:
    """Neither where writes are refused while all is well nor where nobody takes any after a kill."""
    fewer = {"lost_acked_writes": 100}
    assert search(lambda one, kind: fewer if one.min_replicas else {}).at.min_replicas == 1
    refuses = search(lambda one, kind: {**fewer, "refused_writes": 1} if one.min_replicas else {})
    assert refuses.at.min_replicas == 0
    stuck = search(lambda one, kind: {**fewer, "writable_s": None} if one.min_replicas else {})
    assert stuck.at.min_replicas == 0
    harmful = replace(NOW, min_replicas=2)
    freed = search(lambda one, kind: {**fewer, "writable_s": None} if one.min_replicas == 2 else {}, harmful)
    assert freed.at.min_replicas < 2
    off = search(lambda one, kind: fewer if one.min_replicas and one.min_lag_s else {}, replace(NOW, min_lag_s=0))
    assert (off.at.min_replicas, off.at.min_lag_s) in {(1, 3), (1, 10)}


def test_more_parallel_syncs_are_taken_for_redundancy_unless_readers_pay() -> None:
    """Five replicas: 1, 2 and 4 are tried."""
    assert search(lambda one, kind: {"redundant_s": 12.0 / one.parallel_syncs}).at.parallel_syncs == 4
    paid = search(lambda one, kind: {"redundant_s": 12.0 / one.parallel_syncs, "reads_unavailable_s": 1.0 * one.parallel_syncs})
    assert paid.at.parallel_syncs == 1


# ---- what cannot be planned --------------------------------------------------------------------------------------------------


NAMED = "  old: {node: main, arrivals: {open: {rate_per_s: 10}}, commands: {SET: 1}, keys: {dataset: d}}"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"repeats": 1}, "--repeats 1: from 2"),
        ({"down_after": "soon"}, "--down-after soon"),
        ({"down_after": "10us"}, "whole milliseconds"),
        ({"down_after": "400000h"}, "whole milliseconds"),
        ({"cut": "0s"}, "--cut 0s"),
        ({"processes": 0}, "--processes 0"),
    ],
)
def test_a_bad_option_is_one_sentence(options: dict[str, Any], says: str) -> None:
    """Before any run is made."""
    with pytest.raises(ScenarioError, match=says):
        plan_failover(trio(**GIVEN), **options)


def test_a_scenario_without_what_it_takes_is_refused_with_the_cure(tmp_path: Path) -> None:
    """Sentinels, a replica, clients that follow, and for --own a fault."""
    calm = trio(**{**GIVEN, "timeline": '- {at: 3s, run: "KEYS *", node: main}'})
    with pytest.raises(ScenarioError, match="nothing on the timeline strikes the master"):
        plan_failover(calm, own=True)
    page = Path("scenarios/learn/keys-stall.yaml")
    with pytest.raises(ScenarioError, match="add sentinels:"):
        plan_failover(redsim.load(page))
    followed = trio(**{**GIVEN, "others": NAMED})
    clients = {"old": followed.file.clients["old"]}
    alone = replace(followed, file=followed.file.model_copy(update={"clients": clients}))
    with pytest.raises(ScenarioError, match="service: mymaster"):
        plan_failover(alone)
    done = CliRunner().invoke(app, ["plan", "failover", str(page), "--out", str(tmp_path / "out")])
    assert done.exit_code == BAD_INPUT
    assert len(done.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
