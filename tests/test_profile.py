"""Host profiles: a profile based on another, scaling, what is kept for later, and every fault in one sentence with its cure."""

from dataclasses import replace
from pathlib import Path

import pytest

from redsim.dataplane import layout as dp
from redsim.redis.commands import COMMANDS
from redsim.redis.networking import _BY_NAME
from redsim.refs import refs
from redsim.run import engine
from redsim.run.build import build
from redsim.run.crowd import taking_turns
from redsim.run.listing import profiles
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.scenario.profile import DELAYS, HostProfile, load_profile, scaled, shipped_profiles
from redsim.scenario.profile_file import OPTIONAL_CURVES
from tests.small_worlds import profile as profile_text

BASED = "name: mine\nsays: made by hand\nbased_on: default\n"
DEFAULT = load_profile("default", Path())
CALIBRATED = """\
speed: {value: 2, source: published, says: "twice as fast"}
machine: {cpu: some, cores: 4, quick: false}
fit: [{point: "50 x 1", residual_pct: 1.5}]
costs: {poll_ns: {value: 5, source: measured, ref: calibration, says: "by hand", spread: [4, 7]}}
commands: {GET: {const_ns: {value: 9, source: measured, spread: [8, 10]}}, SET: {in_ps: 3, spread: [1, 5]}}
curves: {scan: {total: [[10, 80], [100, 800]], source: measured, spread: [[70, 90]]}}
later:
  fork_ns_per_mib: {value: 12000, source: measured, says: "latest_fork_usec at 2 sizes", spread: [11000, 13000]}
  fsync_ns: {table: [[0.5, 300000], [1.0, 4000000]], source: measured, unit: "[quantile, ns]"}
"""


def parse(tmp_path: Path, text: str) -> HostProfile:
    (tmp_path / "box.yaml").write_text(text, encoding="utf-8")
    return load_profile("box.yaml", tmp_path)


def test_a_profile_based_on_another_has_its_costs_divided_by_the_speed_and_its_own_numbers_over_them(tmp_path):
    """profile.py: scaled(base, 1 / speed), then the file's numbers; delays and hiccups as in the base."""
    mine = parse(tmp_path, BASED + CALIBRATED)
    assert mine.costs["poll_ns"].value == 5
    assert mine.costs["read_ns"].value == DEFAULT.costs["read_ns"].value / 2
    assert mine.client["benchmark_send_ns"].value == DEFAULT.client["benchmark_send_ns"].value / 2
    assert mine.loopback_rtt_ns == DEFAULT.loopback_rtt_ns / 2
    assert mine.commands["GET"] == {"const_ns": 9, "out_ps": DEFAULT.commands["GET"]["out_ps"] / 2}
    assert mine.commands["SET"] == {"const_ns": DEFAULT.commands["SET"]["const_ns"] / 2, "in_ps": 3}
    assert mine.curves["scan"].points == ((10, 80), (100, 800))
    assert [mine.costs[name].value for name in DELAYS] == [DEFAULT.costs[name].value for name in DELAYS]
    assert mine.hiccup_table_ns == DEFAULT.hiccup_table_ns
    assert (mine.based_on, mine.speed, mine.cores) == ("default", 2, DEFAULT.cores)


def test_what_a_calibration_writes_besides_is_kept(tmp_path):
    """machine, fit, spread and later: for the reader, and for mechanisms to come."""
    mine = parse(tmp_path, BASED + CALIBRATED)
    assert mine.later["fork_ns_per_mib"].value == 12000
    assert mine.later["fsync_ns"].table == [[0.5, 300000], [1.0, 4000000]]
    assert mine.machine["cores"] == 4
    assert mine.fit[0]["residual_pct"] == 1.5
    assert mine.notes["poll_ns"] == "by hand"


def test_a_guess_of_the_base_stays_a_guess(tmp_path):
    """A speed does not turn a guess into knowledge; a number of the file's own does."""
    known = "costs: {accept_ns: {value: 9000, source: measured}}\n"
    before, after = ({name for name, _, _ in p.guesses()} for p in (DEFAULT, parse(tmp_path, BASED + known)))
    assert before - after == {"accept_ns"}
    assert {p.source for p in scaled(DEFAULT, 0.5).costs.values()} == {"derived", "guess", "published"}
    assert [name for name, _, _ in scaled(DEFAULT, 0.5).guesses()] == [name for name, _, _ in DEFAULT.guesses()]


def test_a_host_twice_as_fast_answers_twice_as_much():
    """One client on an empty loop pays costs only, so that half the costs are twice the rate (to the rounding of ns)."""
    text = """\
question: how much?
duration: 200ms
hosts: {box: {profile: default}}
nodes: {main: {host: box, conf: 'save ""'}}
datasets: {d: {node: main, keys: 1000}}
clients: {c: {node: main, arrivals: {closed: {}}, commands: {GET: 1}, keys: {dataset: d}}}
"""
    slow = Scenario.from_text(text)
    flat = Scenario.from_text(text)
    flat.profiles["box"] = scaled(DEFAULT, 0.5)
    rates = [engine.run(s).summary["clients"]["c"]["throughput_per_s"] for s in (slow, flat)]
    # deep_after_ns is a time, so that half as long a sleep wakes a little faster still
    assert 2.0 <= rates[1] / rates[0] <= 2.25


def test_more_connections_cost_each_request_what_the_curves_say(tmp_path):
    """networking.py, build.py: half of `connections` on each read, half on each write; `client_connections` likewise."""
    curves = "{connections: {each: [[1, 0], [16, 4000]], source: guess}, client_connections: {each: [[16, 6000]], source: guess}}"
    (tmp_path / "p.yaml").write_text(f"name: p\nsays: more connections cost more\nbased_on: default\ncurves: {curves}\n")
    one, crowded = load_profile("default", tmp_path), load_profile("p.yaml", tmp_path)
    assert [crowded.crowding_ns("connections", n) for n in (1, 4, 16, 500)] == [0, 2000, 4000, 4000]
    few = replace(one, curves={name: curve for name, curve in one.curves.items() if name not in OPTIONAL_CURVES})
    assert few.crowding_ns("connections", 10_000) == 0
    before, after = calls_ns(few), calls_ns(crowded)
    assert [b - a for a, b in zip(before, after, strict=True)] == [2000, 2000, 3000, 3000]


def calls_ns(profile: HostProfile) -> list[int]:
    """What a read and a write cost the server, a send and a receive its client, with 10 and 6 connections in two groups."""
    scenario = Scenario.from_text("""\
question: how much?
duration: 10ms
hosts: {box: {profile: default}}
nodes: {main: {host: box}}
clients:
  a: {node: main, connections: 10, arrivals: {closed: {}}, commands: {PING: 1}, station: {kind: loop}}
  b: {node: main, connections: 6, arrivals: {closed: {}}, commands: {PING: 1}, station: {kind: loop}}
""")
    world = build(replace(scenario, profiles={"box": profile})).world
    return [int(ns) for ns in (*world.cost[[dp.READ_NS, dp.WRITE_NS]], *world.thread[0, [dp.T_SEND, dp.T_RECV]])]


def test_connections_that_hardly_ever_send_do_not_make_the_others_dearer():
    """crowd.py: between two requests of an api connection (2.5 ms) a tenth of a request of the idle ones comes."""
    text = """\
question: how many?
duration: 10ms
hosts: {box: {profile: default}}
nodes: {main: {host: box}}
clients:
  api: {node: main, connections: 50, arrivals: {open: {rate_per_s: 20000}}, commands: {PING: 1}}
  idle: {node: main, connections: 5000, arrivals: {open: {rate_per_s: IDLE}}, commands: {PING: 1}}
"""
    few, many = (build(Scenario.from_text(text.replace("IDLE", rate))).plans.plans for rate in ("40", "2000000"))
    assert taking_turns(few) == 60  # 50.1 of a request of api, 2,550 of the rare one of idle
    assert 5000 < taking_turns(many) <= 5050


def test_scaling_by_one_changes_nothing_and_by_nonsense_is_refused():
    """scaled() takes what a baseline measured; a broken baseline must not pass as a profile."""
    assert scaled(DEFAULT, 1) is DEFAULT
    for factor in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ScenarioError, match="above 0"):
            scaled(DEFAULT, factor)


@pytest.mark.parametrize(("text", "words"), [
    ("costs: {pol_ns: {value: 5, source: measured}}", [":4:", "costs.pol_ns", "poll_ns", "default"]),
    ("client: {loop_sand_ns: {value: 5, source: measured}}", [":4:", "loop_send_ns"]),
    ("commands: {GTE: {const_ns: 7}}", [":4:", "commands.GTE", "'GET'"]),
    ("commands: {GET: {const: 7}}", [":4:", "commands.GET.const", "const_ns"]),
    ("curves: {scann: [[1, 2]]}", [":4:", "'scan'"]),
    ("curves: {scan: [[1, 2]]}", [":4:", "curves.scan", "source"]),
    ("curves: {scan: {total: [[10, 5], [2, 7]], source: guess}}", [":4:", "do not rise"]),
    ("curves: {scan: {total: [[1, 5]], each: [[1, 5]], source: guess}}", [":4:", "total or each"]),
    ("costs: {poll_ns: {value: 5.5, source: measured}}", [":4:", "costs.poll_ns.value is 5.5", "whole number"]),
    ("costs: {poll_ns: {value: -5, source: measured}}", [":4:", "-5", "greater than or equal to 0"]),
    ("costs: {poll_ns: {value: 5, source: measurd}}", [":4:", "'measurd'", "'measured'"]),
    ("costs: {poll_ns: {vlue: 5, source: measured}}", [":4:", "vlue", "'value'"]),
    ("costs: {poll_ns: {value: 5}}", [":4:", "costs.poll_ns.source is missing"]),
    ("costs: {poll_ns: 5}", [":4:", "costs.poll_ns is 5", "write a mapping"]),
    ("costs: {poll_ns: {value: 5, value: 6, source: guess}}", [":4:", "given twice"]),
    ("sped: {value: 2, source: guess}", [":4:", "'speed'"]),
    ("speed: {value: 0, source: guess}", [":4:", "speed.value is 0", "greater than"]),
    ("later: {fork_ns_per_mib: {source: guess}}", [":4:", "fork_ns_per_mib", "value or table"]),
    ("hiccups: {every_ns: {value: 5, source: guess}, table_ns: []}", [":4:", "at least one pair"]),
])  # fmt: skip
def test_a_fault_in_a_profile_is_one_sentence_with_file_line_key_and_cure(tmp_path, text, words):
    """STYLE rule 8; a misspelt number must not pass silently, or the default's stays in force unnoticed."""
    with pytest.raises(ScenarioError) as caught:
        parse(tmp_path, BASED + text + "\n")
    sentence = str(caught.value)
    assert sentence.startswith(str(tmp_path / "box.yaml") + ":")
    assert sentence.isprintable()
    assert [word for word in words if word not in sentence] == [], sentence


@pytest.mark.parametrize(("text", "words"), [
    ("", [":1:", "empty", "based_on: default"]),
    ("- a\n", [":1:", "not a mapping", "based_on: default"]),
    ("name: a\nsays: b\n", [":1:", "costs.accept_ns is missing", "based_on: default"]),
    ("name: a\nsays: b\nspeed: {value: 2, source: guess}\n", ["relative to another", "based_on"]),
    ("name: a\nsays: b\nbased_on: defualt\n", [":3:", "neither a shipped profile", "'default'"]),
    ("name: a\nsays: b\nbased_on: box.yaml\n", [":3:", "based_on itself", "whole profile"]),
    ("name: a\nbased_on: default\n", [":1:", "says is missing"]),
])  # fmt: skip
def test_a_profile_that_is_no_profile_is_refused_with_the_cure(tmp_path, text, words):
    """What a hand-written file starts as."""
    with pytest.raises(ScenarioError) as caught:
        parse(tmp_path, text)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_two_profiles_based_on_each_other_are_refused(tmp_path):
    """A circle has no numbers in it."""
    (tmp_path / "other.yaml").write_text("name: o\nsays: o\nbased_on: box.yaml\n", encoding="utf-8")
    with pytest.raises(ScenarioError, match="based_on itself"):
        parse(tmp_path, "name: a\nsays: b\nbased_on: other.yaml\n")


def test_a_profile_lies_relative_to_the_one_that_is_based_on_it(tmp_path):
    """As files named in a scenario lie relative to the scenario."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "base.yaml").write_text(profile_text(zero=False, poll_ns=4242), encoding="utf-8")
    (tmp_path / "deep" / "mine.yaml").write_text("name: a\nsays: b\nbased_on: base.yaml\n", encoding="utf-8")
    assert parse(tmp_path, "name: t\nsays: t\nbased_on: deep/mine.yaml\n").costs["poll_ns"].value == 4242


def test_the_default_profile_has_what_the_model_asks_for():
    """networking.py's cost row and the command table: a name that is only in one of them would be found at run time."""
    assert set(_BY_NAME.values()) <= set(DEFAULT.costs)
    elsewhere = {"BGSAVE", "SAVE", "BGREWRITEAOF", "WAIT", "WAITAOF"}  # host/fork.py, run/kinds.py
    assert set(COMMANDS) - elsewhere == set(DEFAULT.commands)


def test_every_shipped_profile_loads_has_a_sentence_and_known_refs():
    """`redsim list profiles` shows name and says; every `ref` of a number is in refs.toml or names the calibration."""
    assert len(profiles(Path())) == len(shipped_profiles())
    for name in shipped_profiles():
        found = load_profile(name, Path())
        assert found.name == name
        assert found.says
        given = {p.ref for p in [*found.costs.values(), *found.client.values(), *found.later.values()]} - {"", "calibration"}
        assert given <= set(refs()), given - set(refs())


def test_published_forks_are_kept_for_the_capability_that_forks():
    """Redis documentation, latency: 9 ms a GB on a physical Xeon, 240 on an old EC2 (Xen), 10 on its HVM successor."""
    ms_per_gb = {
        name: load_profile(name, Path()).later["fork_ns_per_mib"].value * 1024 / 1e6
        for name in ("xeon-e5520-2010", "vmware-2012", "kvm-2012", "ec2-xen-2012", "ec2-hvm-2013", "linode-2048")
    }
    published = {"xeon-e5520-2010": 9.0, "vmware-2012": 12.8, "kvm-2012": 22.8, "ec2-xen-2012": 239.3, "ec2-hvm-2013": 10.0,
                 "linode-2048": 424}  # fmt: skip
    assert ms_per_gb == pytest.approx(published, rel=0.01)
