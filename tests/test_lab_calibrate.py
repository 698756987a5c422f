"""Calibration: the file it writes, the fit it solves, what it goes on from; a real server is asked for structure only.

No test here asserts a time: figures of a real server are only asked to be there, whole, and not negative.
"""

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redsim.host import fork
from redsim.lab import calibrate, cost_curves, costs, fit, fit_points, probe_pages, probe_server, probes, rig, solve
from redsim.lab.profile_out import profile_data, write_profile
from redsim.redis.commands import COMMANDS
from redsim.scenario.errors import ScenarioError
from redsim.scenario.profile import Curve, HostProfile, load_profile
from redsim.scenario.schema import Host

MACHINE = {"cpu": "a processor", "cores": 3, "memory_bytes": 1 << 30, "redis": "7.0.15", "date": "2026-01-01"}
POINTS = tuple(replace(point, simulated_ms=80 if point.share is None else 200, keys=2000) for point in fit.POINTS)


def figure(value: int) -> dict[str, Any]:
    return {"value": value, "spread": [value - 1, value + 1], "says": "a stub: measured by nobody"}


def laws() -> dict[str, dict[str, Any]]:
    names = [*costs.SCENES, "KEYS", "SCAN", "FLUSHALL"]
    return {name: {"const_ns": figure(100 + i)} for i, name in enumerate(names)}


def results() -> dict[str, Any]:
    """What the steps leave, of a machine that does not exist."""
    rows = [[10, 500, 400, 600], [1000, 60_000, 50_000, 70_000]]
    wakes = [{"sleep_ns": ns, "wake_ns": 4000 + ns // 10, "spread": [3000, 20_000], "cpu_ns": 2000 + ns // 20, "write_ns": 12_000}
             for ns in probes.SLEEPS_NS]  # fmt: skip
    disk = {"fsync_ns": {"table": [[0.5, 90_000], [1.0, 200_000]], "says": "a stub"}}
    return {
        "host": {name: figure(200) for name in solve.LATER_HOST},
        "sockets": {name: figure(3000) for name in ("write_ns", "read_ns", "poll_ns", "poll_event_ns", "write_ps_per_byte",
                                                    "read_ps_per_byte")},
        "wake": {"round_trip_ns": figure(15_000), "spinning_write_ns": figure(4000), "rows": wakes},
        "hiccups": {"every_ns": 5_000_000, "table_ns": [[60_000, 0.9], [900_000, 0.1]], "says": "a stub"},
        "commands": {"laws": laws(), "hook_ns": figure(400_000), "cold_get_ns": figure(150), "cold_set_ns": figure(160)},
        "keys": dict.fromkeys((*cost_curves.READS, "sunion", *cost_curves.DELETES), rows) | {"zadd": [[1, 0, 0, 0], *rows]},
        "database": dict.fromkeys(("keys_walk", "keys_match", "scan", "flushall"), rows) | {"lookup": [[1, 0, 0, 0], *rows]},
        "server": {name: figure(20_000) for name in ("accept_ns", "close_ns", "cron_and_wake_ns", "cron_100ms_ns")},
        "disk": disk | {name: figure(10_000) for name in solve.LATER_DISK if name != "fsync_ns"},
    }  # fmt: skip


def written(data: dict[str, Any], folder: Path) -> HostProfile:
    write_profile(data, folder / "p.yaml")
    return load_profile("p.yaml", folder)


# ---- the file ------------------------------------------------------------------------------------------------------


def test_a_calibration_of_stub_measurements_loads_and_says_what_was_measured(tmp_path):
    """profile_out.py: the file has the shape that load_profile() takes, and every measured number is in it."""
    profile = written(profile_data("stub", "a stub", MACHINE, solve.found_so_far(results())), tmp_path)
    assert (profile.name, profile.cores, profile.machine["cpu"]) == ("stub", 3, "a processor")
    assert profile.costs["accept_ns"].value == 20_000
    assert profile.costs["accept_ns"].source == "measured"
    assert profile.costs["hook_ns"].value == 400_000
    assert {name for name, law in profile.commands.items() if law["const_ns"] >= 100} >= set(laws())
    assert profile.curves["hgetall"].points == ((10, 500), (1000, 60_000))
    assert profile.curves["zadd"].is_each
    assert profile.hiccup_table_ns == ((60_000, 0.9), (900_000, 0.1))
    assert profile.later["fork_ns_per_mib"].value == 10_000
    assert profile.later["fsync_ns"].table == [[0.5, 90_000], [1.0, 200_000]]


def test_what_was_not_measured_is_taken_over_and_called_a_guess(tmp_path):
    """STYLE rule 5: a number of another machine is a guess on this one; a published one stays published."""
    default = load_profile("default", tmp_path)
    profile = written(profile_data("empty", "nothing measured", MACHINE, solve.found_so_far({})), tmp_path)
    assert {name: p.value for name, p in profile.costs.items()} == {name: p.value for name, p in default.costs.items()}
    assert profile.commands == default.commands
    assert {name: curve.points for name, curve in profile.curves.items()} == {n: c.points for n, c in default.curves.items()}
    assert {p.source for name, p in profile.costs.items() if name != "syn_retry_ns"} == {"guess"}
    assert profile.costs["syn_retry_ns"].source == "published"
    assert all("taken over" in says for name, _, says in profile.guesses())


def test_every_command_of_the_simulator_is_measured_or_named_here_as_not():
    """costs.py: a command added to COMMANDS without a scene would silently keep another machine's cost."""
    unmeasured = {"DEBUG SLEEP", "BGSAVE", "SAVE", "BGREWRITEAOF", "WAIT", "WAITAOF"}  # theirs is in `later`: fork and save
    assert set(COMMANDS) - set(laws()) == unmeasured


def test_a_profile_that_cannot_be_written_says_so(tmp_path):
    """Bad input is one sentence with its cure."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ScenarioError, match="cannot be written"):
        write_profile(profile_data("p", "p", MACHINE, {}), tmp_path / "file" / "p.yaml")


# ---- the fit -------------------------------------------------------------------------------------------------------


def test_gauss_newton_finds_the_least_squares_of_a_linear_model_in_one_step():
    """Normal equations: with a linear model and vague priors the answer is lstsq's."""
    a = np.array([[1.0, 2.0], [3.0, 1.0], [0.5, 0.5]])
    wanted = np.array([0.3, -0.2])
    vague, error = np.full(2, 1e3), np.full(3, 0.01)
    found, doubt = fit.gauss_newton(lambda x: a @ x, np.zeros(2), np.zeros(2), vague, a @ wanted, error)
    assert np.allclose(found, wanted, atol=1e-6)
    assert (doubt < 0.05).all()


def test_the_fit_recovers_the_costs_of_a_simulated_server(tmp_path):
    """redsim as the real server: a profile with other costs plays the points, and the fit finds them again from the default's.

    Deterministic. 10 % on what the points show well; read and write are told apart only by what the probes say of them.
    """
    base = load_profile("default", tmp_path)
    truth = {"read_ns": 4200.0, "write_ns": 5600.0, "call_ns": 450.0, "wake_deep_ns": 30_000.0, "wake_cpu_deep_ns": 11_000.0}
    real, rows, capacity = fit.with_values(base, truth), [], 0.0
    for point in POINTS:
        rate = round((point.share or 0) * capacity)
        found = fit.simulate(fit.twin(point, rate), real)
        capacity = found["per_s"] if point.name == fit.CAPACITY_OF else capacity
        rows.append(fit.Measured(point.name, rate, found, {}))
    probed = {"read_ns": 1.1 * truth["read_ns"], "write_ns": 1.1 * truth["write_ns"]}
    wanted = [fit.Unknown(n, probed.get(n, fit.value_of(base, n)), 0.2 if n in probed else 0.5) for n in truth]
    done = fit.fit(base, wanted, POINTS, rows)
    assert {n: done.values[n]["value"] for n in truth} == pytest.approx(truth, rel=0.1)
    assert max(abs(row["error_pct"]) for row in done.residuals if row["fitted"]) < 3


def test_a_cold_first_command_is_read_off_commandstats(tmp_path):
    """solve.py: two simulations, since the time inside commands is linear in cold_ns."""
    real = fit.with_values(load_profile("default", tmp_path), {"cold_ns": 3300.0})
    rows = []
    for point in fit.POINTS:
        if point.name in (solve.SLEEPY, solve.BUSY):
            rate = 10_000.0 if point.share is not None else 0.0
            rows.append(fit.Measured(point.name, rate, fit.simulate(fit.twin(point, rate), real), {}))
    assert solve.cold_ns(real, rows) == pytest.approx(3300, rel=0.05)


def test_look_ups_and_first_commands_are_read_off_commandstats(tmp_path):
    """solve.py: 16 commands a read against one a read give first_ns; what is left over many keys is the look-ups'."""
    base = load_profile("default", tmp_path)
    real = fit.with_values(solve.with_lookups(base, 1.7), {"first_ns": 400.0, "cold_ns": 1.0})
    rows = [
        fit.Measured(point.name, 0.0, fit.simulate(fit.twin(point, 0.0), real), {})
        for point in fit.POINTS
        if point.name in (solve.TOGETHER, solve.BUSY)
    ]
    first, _ = solve.first_ns(base, rows)
    assert first == pytest.approx(400, rel=0.03)
    begun = fit.with_values(base, {"first_ns": first, "cold_ns": 1.0})
    assert solve.lookup_factor(begun, rows) == pytest.approx(1.7, rel=0.03)


def test_what_more_connections_cost_is_read_off_closed_loops(tmp_path):
    """solve.py: the server's share shows in its CPU per command."""
    base = load_profile("default", tmp_path)
    point = fit.CROWD_POINTS[1]
    crowded = replace(base, curves={**base.curves, "connections": Curve(((50, 0), (1000, 3000)), True, "derived")})
    cpu_us = fit.simulate(fit.twin(point, 0.0), crowded)["cpu_us_per_command"]
    assert solve.crowding_ns(base, 50, point, cpu_us) == pytest.approx(3000, abs=20 * cpu_us)  # 2 % of a command


def test_the_loads_of_the_fit_touch_most_of_the_keys_that_the_model_draws_from():
    """A loop of few templates finds them in the CPU's caches: 4,000 of 100,000 keys made look-ups cost half."""
    for point in fit.POINTS:
        stock = fit_points.stock(point.commands, point.value_bytes, point.keys)
        keys = {bytes(stock.blob[low:high]) for low, high in itertools.pairwise(stock.off)}
        assert len(keys) > point.keys / 2


def test_the_wake_up_law_is_found_in_points_that_follow_it():
    """profiles/default.yaml: linear from a short sleep to deep_after_ns, flat behind it."""
    rows = [{"sleep_ns": ns, "wake_ns": 4000 + round(16_000 * min(ns / 50_000, 1))} for ns in probes.SLEEPS_NS]
    assert probes.wake_law(rows, "wake_ns") == (4000, 20_000, 50_000)


# ---- steps ---------------------------------------------------------------------------------------------------------


class NoServer:
    """Stands for a server that no step needs."""

    version = "7.0.15"


@pytest.fixture
def three_steps(monkeypatch):
    """Steps that only count how often they ran; the second stops the first time."""
    ran: list[str] = []

    def step(name: str, stops: bool = False):
        def body(lab: calibrate.Lab, share: Any) -> dict[str, Any]:
            ran.append(name)
            if stops and ran.count(name) == 1:
                raise KeyboardInterrupt
            return {"ran": name}

        return calibrate.Step(name, (1, 1), body, of_theirs=True)

    monkeypatch.setattr(calibrate, "STEPS", {"one": step("one"), "two": step("two", stops=True), "three": step("three")})
    monkeypatch.setattr(calibrate, "found_so_far", lambda done: {})
    return ran


def test_a_stopped_calibration_goes_on_with_the_steps_that_are_missing(three_steps, tmp_path):
    """DESIGN 6: Ctrl-C loses one step at most."""
    kept = tmp_path / "steps.json"
    with pytest.raises(KeyboardInterrupt):
        calibrate.calibrate(NoServer(), quick=True, resume=kept)
    assert list(json.loads(kept.read_text(encoding="utf-8"))["steps"]) == ["one"]
    calibrate.calibrate(NoServer(), quick=True, resume=kept)
    assert three_steps == ["one", "two", "two", "three"]


def test_steps_of_another_calibration_are_refused(three_steps, tmp_path):
    """A full calibration must not go on from a quick one's short measurements."""
    kept = tmp_path / "steps.json"
    with pytest.raises(KeyboardInterrupt):
        calibrate.calibrate(NoServer(), quick=True, resume=kept)
    with pytest.raises(ScenarioError, match="another calibration"):
        calibrate.calibrate(NoServer(), quick=False, resume=kept)
    kept.write_text("no JSON", encoding="utf-8")
    with pytest.raises(ScenarioError, match="remove the file"):
        calibrate.calibrate(NoServer(), quick=True, resume=kept)


def test_a_server_of_somebody_elses_is_not_loaded_without_leave(tmp_path):
    """--url needs --yes-load-it; the sentence repeats nothing of the URL."""
    with pytest.raises(ScenarioError, match="--yes-load-it") as refused:
        calibrate.calibrate_to(tmp_path / "p.yaml", url="redis://user:secret@somewhere:6379")
    assert "secret" not in str(refused.value)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    """Bad input is one sentence with its cure."""
    with pytest.raises(ScenarioError, match="no such folder"):
        calibrate.calibrate_to(tmp_path / "p.yaml", folder=tmp_path / "nowhere")


# ---- a real server: structure only ---------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path):
    """A redis-server of our own."""
    try:
        rig.find("redis-server")
    except ScenarioError as missing:
        pytest.skip(str(missing))
    with rig.start(calibrate.DEBUG_CONF, folder=tmp_path) as started:
        yield started


@pytest.mark.real
def test_laws_and_curves_of_a_real_server_are_whole_and_leave_no_key(server):
    """costs.py, cost_curves.py: commandstats of a redis-server."""
    bench = costs.Bench(server, True, calls=160, repeats=1, elements_max=1000)
    found = costs.laws(bench, lambda share: None)
    assert set(found) == set(laws())
    assert all(law["const_ns"]["value"] >= 0 for law in found.values())
    const = {name: law["const_ns"]["value"] for name, law in found.items()}
    curves = cost_curves.big_keys(bench, const, lambda share: None)
    assert [n for n, *_ in curves["hgetall"]] == [10, 1000]
    assert [n for n, *_ in curves["del_set"]] == [1000]
    assert all(ns >= 0 for rows in curves.values() for _, ns, _, _ in rows)
    bench.close()
    assert server.redis.dbsize() == 0


@pytest.mark.real
def test_somebody_elses_keys_stay_as_they_are(server):
    """--url: keys under a prefix of ours, deleted afterwards; nothing is flushed."""
    server.redis.set("theirs", "value")
    bench = costs.Bench(server, False, calls=160, repeats=1, elements_max=1000)
    costs.laws(bench, lambda share: None)
    cost_curves.big_keys(bench, dict.fromkeys(laws(), 0), lambda share: None)
    bench.close()
    assert server.redis.keys("*") == ["theirs"]


@pytest.mark.real
def test_a_server_that_refuses_is_told_in_one_sentence(server, tmp_path):
    """An ACL user without EVAL: bad input, not a traceback; finished steps stay."""
    server.redis.execute_command("ACL", "SETUSER", "default", "-eval")
    with pytest.raises(ScenarioError, match=r"NoPermission|must allow"):
        calibrate.calibrate(server, quick=True, resume=tmp_path / "steps.json")


@pytest.mark.real
def test_probes_of_a_real_server_have_value_spread_and_how(server, tmp_path):
    """probe_server.py: connections and fsync; every figure says how it was measured."""
    found = probe_server.connections(server, 1) | probe_server.fsync(tmp_path, 5)
    assert set(found) == {"accept_ns", "close_ns", "fsync_ns"}
    assert all(row["says"] for row in found.values())
    assert [q for q, _ in found["fsync_ns"]["table"]] == list(probe_server.QUANTILES)
    assert list(tmp_path.glob("redsim-fsync-*")) == []


def test_the_probes_of_the_host_give_every_number_the_fit_begins_with():
    """probes.py on whatever machine runs this: names and signs, no sizes."""
    found = probes.sockets(22)
    assert set(found) >= {"read_ns", "write_ns", "poll_ns", "poll_event_ns", "read_ps_per_byte", "write_ps_per_byte"}
    assert found["write_ns"]["value"] > 0
    law = probes.wake_ups(30, found)
    assert not law or [row["sleep_ns"] for row in law["rows"]] == list(probes.SLEEPS_NS)
    assert probes.syscall(1)["syscall_ns"]["value"] > 0


# ---- forks, pages and saves ------------------------------------------------------------------------------------------


def test_what_a_save_needs_is_measured_and_not_taken_over(tmp_path):
    """host/fork.py takes each of its figures from a calibration's `later`; of `default` only what no host of today can show:
    copying a huge page whole (Linux before 5.8)."""
    profile = written(profile_data("stub", "a stub", MACHINE, solve.found_so_far(results())), tmp_path)
    measured = {name for name in fork._NAMES if profile.later[name].source == "measured"}
    assert measured == set(fork._NAMES)
    n = fork.fork_costs(profile, Host(), has_huge_pages=False)
    assert (n.key_ns, n.byte_ps, n.lzf_ps, n.child_own_bytes) == (10_000, 10_000, 10_000, 10_000)
    assert (n.reuse_ns, n.guesses) == (200, ())


def test_pages_of_this_machine_are_probed():
    """probe_pages.py: a copy takes more than taking a write protection away; huge pages only where the host gives any."""
    found = probe_pages.copy_on_write(8 << 20)
    assert found["cow_fault_ns"]["value"] > found["reuse_fault_ns"]["value"] > 0
    huge = probe_pages.huge_pages(16 << 20)
    assert all(one["value"] > 0 for one in huge.values())
    assert set(huge) <= {"huge_fork_ns_per_mib", "huge_split_ns", "huge_copy_ns"}


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on PATH")
def test_saves_of_a_real_server_are_taken_apart(tmp_path):
    """probe_server.saves: two lengths of values give what a key and what a byte takes; LZF over luck finds nothing to save."""
    with rig.start(folder=tmp_path) as server:
        found = probe_server.saves(server, tmp_path, 4000)
    assert set(found) == {"rdb_key_ns", "rdb_byte_ps", "lzf_byte_ps", "child_own_bytes"}
    assert all(one["value"] > 0 for one in found.values())
    assert all(isinstance(one["value"], int) for one in found.values())
