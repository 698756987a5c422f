"""Crashes that happen: what each takes, who hears of it when, what a new process has, how long it loads.

Sources: facts/redis.md sections 6 and 7 (loading, -LOADING), Linux for sockets of a dead process and of a host that is down. The
plain-Python twin is the second witness (test_twins_crash.py).
"""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import simpy

import redsim
from redsim.dataplane import layout as dp
from redsim.redis.server import Server
from redsim.report.html import render_html
from redsim.rng import generator
from redsim.run import restart
from redsim.run.aof import attach_aof
from redsim.run.build import build
from redsim.run.checks import check_conservation
from redsim.run.crash import Life, attach_life
from redsim.run.result import Result
from redsim.scenario.load import Scenario
from redsim.units import MS, S
from tests.test_twins import text_of

FOLDER = Path(__file__).resolve().parents[1] / "scenarios"
USERS = "users: {node: main, keys: 2000, value_bytes: 100}"


def crash_of(faults: str, *, policy: str = "everysec", rate: int = 2000, commands: str = "{SET: 1}", duration: str = "2s",
             disk: str = "", clients: str = "", conf: str = "", data: str = USERS, seed: int = 1) -> Result:  # fmt: skip
    """One run of open-loop clients under a policy ("": no AOF) with these faults."""
    aof = f"appendonly yes\nappendfsync {policy}\nauto-aof-rewrite-percentage 0\n" if policy else ""
    host = f"{{profile: default, disk: {{{disk}}}}}" if disk else "{profile: default}"
    keys = "keys: {dataset: users}"
    api = f"api: {{node: main, connections: 5, arrivals: {{open: {{rate_per_s: {rate}}}}}, commands: {commands}, {keys}}}"
    text = text_of(
        clients or api, conf=aof + conf, duration=duration, host=host, timeline=f"[{faults}]", datasets=data, seed=seed
    )
    return redsim.run(Scenario.from_text(text))


def row(result: Result) -> dict[str, Any]:
    (one,) = result.summary["nodes"]["main"]["crashes"]
    return dict(one)


def answers_between(result: Result, low_s: float, high_s: float) -> int:
    frame = result.latency
    return int(frame[(frame["start_s"] >= low_s) & (frame["start_s"] + frame["window_s"] <= high_s)]["count"].sum())


# ---- what is lost ----------------------------------------------------------------------------------------------------------


def test_kill_keeps_what_the_page_cache_has_and_a_power_loss_only_what_is_synced() -> None:
    """The same instant of the same run: nothing, the writes since the last fsync, and all of a drive's last second."""
    at = "{{at: 1700ms, fault: {}, node: main, restart_after: 100ms}}"
    lost = {fault: row(crash_of(at.format(fault)))["lost_acked_writes"] for fault in ("kill", "os_crash", "power_loss")}
    lying = row(crash_of(at.format("power_loss"), disk="lies: true"))["lost_acked_writes"]
    assert lost["kill"] <= 5
    assert 100 < lost["os_crash"] == lost["power_loss"] <= 2100
    assert lying >= lost["power_loss"]
    assert row(crash_of(at.format("os_crash"), disk="lies: true"))["lost_acked_writes"] == lost["os_crash"], "the drive has power"


@pytest.mark.parametrize("fault", ["kill", "os_crash", "power_loss"])
def test_always_never_loses_an_acknowledged_write(fault: str) -> None:
    """30 crashes each at random instants, a server that starts just before the end: what is replayed is all that was answered."""
    luck = generator(7, "test", "crashes", fault)
    for seed in range(30):
        at_us = int(luck.integers(20_000, 180_000))
        result = crash_of(f"{{at: {at_us}us, fault: {fault}, node: main, restart_after: {199_500 - at_us}us}}", policy="always",
                          rate=4000, duration="200ms", seed=seed, disk="fsync: [[0.5, 200us], [1.0, 3ms]]")  # fmt: skip
        told = row(result)
        assert told["lost_acked_writes"] == 0
        assert told["replayed_commands"] >= result.summary["clients"]["api"]["completed"] > 0


def test_a_drive_that_lies_is_how_always_loses() -> None:
    """And only a power loss makes it."""
    faults = "{{at: 1500ms, fault: {}, host: box, restart_after: 100ms}}"
    assert row(crash_of(faults.format("power_loss"), policy="always", disk="lies: true"))["lost_acked_writes"] > 500
    assert row(crash_of(faults.format("os_crash"), policy="always", disk="lies: true"))["lost_acked_writes"] == 0


@pytest.mark.parametrize("disk", ["", "fsync: [[1.0, 1500ms]], write_waits_for_fsync: false"])
@pytest.mark.parametrize(("fault", "kind"), [("kill", "process_kill"), ("os_crash", "os_crash_or_power_loss")])
def test_a_crash_that_happens_is_within_the_distribution_of_those_that_might(fault: str, kind: str, disk: str) -> None:
    """durability.py over 1,000 instants of the same run, against ten crashes: not above its worst (and 100 ms of writes)."""
    luck = generator(3, "test", "realised", fault, disk)
    losses = []
    for _ in range(10):
        at_ms = int(luck.integers(2500, 5500))
        result = crash_of(f"{{at: {at_ms}ms, fault: {fault}, node: main}}", rate=400, duration="6s", disk=disk)
        worst = result.summary["nodes"]["main"]["durability"]["loss"][kind]["commands"]["max"]
        losses.append(row(result)["lost_acked_writes"])
        assert losses[-1] <= worst + 40
    assert max(losses) > 0 or (fault == "kill" and not disk)


def test_without_persistence_everything_is_lost_and_a_cache_fills_again() -> None:
    """No AOF, no snapshot: no keys; a cache-aside client fetches what it misses."""
    keys = "keys: {dataset: users}, on_miss: {fetch: 2ms}"
    clients = f"api: {{node: main, connections: 20, arrivals: {{open: {{rate_per_s: 3000}}}}, commands: {{GET: 1}}, {keys}}}"
    result = crash_of("{at: 500ms, fault: kill, node: main, restart_after: 50ms}", policy="", clients=clients)
    told, memory = row(result), result.memory
    assert (told["keys_before"], told["keys_after"], told["loads"]) == (2000, 0, "nothing")
    assert result.summary["clients"]["api"]["fetches"] > 1000
    assert memory["keys"].iloc[-1] > 1000
    assert (memory[(memory["time_s"] > 0.5) & (memory["time_s"] < 0.55)]["used_memory_bytes"] == 0).all(), (
        "a dead process has none"
    )


def test_a_snapshot_is_what_a_restart_without_an_aof_loads() -> None:
    """The hook that BGSAVE fills: keys as it has them, and what was written since is lost."""
    commands = "commands: {SET: 1, DEL: 1}, keys: {dataset: users}"
    text = text_of(
        f"api: {{node: main, connections: 5, arrivals: {{open: {{rate_per_s: 2000}}}}, {commands}}}",
        duration="500ms",
        timeline="[{at: 300ms, fault: kill, node: main, restart_after: 190ms}]",
        datasets="users: {node: main, keys: 2000, value_bytes: {uniform: [1, 200]}, present: 0.5, ttl: 100s}",
    )
    scenario = Scenario.from_text(text)
    built, env = build(scenario), simpy.Environment()
    server = Server(env, built.world, scenario.confs["main"], scenario.profiles["box"])
    life = attach_life(env, server, scenario, built)
    assert life is not None
    live = int(built.world.dataset[:, dp.D_LIVE].sum())
    life.snapshot = restart.snapshot_of(built.world)
    env.process(server.main())
    env.run()
    check_conservation(built, server.world)
    (crash,) = life.crashes
    assert crash.loaded is not None
    assert (crash.loaded.what, crash.loaded.keys) == ("RDB", live)
    assert crash.lost_commands > 300


# ---- torn tails ------------------------------------------------------------------------------------------------------------


@cache
def torn(is_allowed: str) -> Result:
    path = FOLDER / "incident/torn-tail.yaml"
    return redsim.run(redsim.load(path, overrides=(f"nodes.main.conf.aof-load-truncated={is_allowed}",)))


def test_half_a_command_is_dropped_or_refused_as_aof_load_truncated_says() -> None:
    """aof.c:loadSingleAppendOnlyFile: yes cuts the file behind the last whole command, no exits."""
    yes, no = row(torn("yes")), row(torn("no"))
    assert yes["torn_bytes"] == no["torn_bytes"] > 0
    assert yes["torn_bytes"] < 144, "less than one SET"
    assert yes["serves_s"] is not None
    assert no["refuses_to_start"]
    assert no["serves_s"] is None
    assert answers_between(torn("no"), 10.5, 30) == 0
    assert answers_between(torn("yes"), 20, 30) > 40_000
    assert any("does not start again" in finding.text for finding in torn("no").findings)


# ---- who hears of it -------------------------------------------------------------------------------------------------------


def test_the_sockets_of_a_dead_process_are_reset_and_its_port_refuses() -> None:
    """All that is offered while it is down fails at once, as a lost connection; nothing times out."""
    result = crash_of("{at: 500ms, fault: kill, node: main, restart_after: 500ms}", rate=2000, policy="")
    api = result.summary["clients"]["api"]
    assert api["errors"]["timeout"] == 0
    assert 900 <= api["errors"]["connection"] <= 1100
    assert api["failed"] == api["errors"]["connection"] + api["errors"]["loading"]
    assert answers_between(result, 0.51, 1.0) == 0


def test_nobody_is_told_of_a_host_that_is_down_until_tcp_sends_again() -> None:
    """Linux' TCP_RTO_MIN: 0.2, 0.6, 1.4 s after the request; the host, back after 1 s, resets what comes at 1.4 s."""
    clients = "web: {node: main, connections: 10, arrivals: {closed: {think: 2ms}}, commands: {GET: 1}, keys: {dataset: users}}"
    result = crash_of("{at: 1s, fault: os_crash, host: box, restart_after: 1s}", clients=clients, duration="4s")
    assert result.summary["clients"]["web"]["errors"]["connection"] == 10
    assert answers_between(result, 1.02, 2.38) == 0
    assert answers_between(result, 2.38, 2.5) > 100


def test_a_client_with_a_time_out_connects_as_soon_as_the_host_is_back() -> None:
    """Its SYNs are lost meanwhile, and no refusal comes."""
    load = "arrivals: {open: {rate_per_s: 500}}, commands: {GET: 1}, keys: {dataset: users}"
    clients = f"web: {{node: main, connections: 10, {load}, timeout: 50ms}}"
    result = crash_of("{at: 1s, fault: os_crash, host: box, restart_after: 1s}", clients=clients, duration="3s")
    web = result.summary["clients"]["web"]
    assert 400 <= web["errors"]["timeout"] + web["errors"]["connection"] <= 600
    assert answers_between(result, 1.02, 2.0) == 0
    assert answers_between(result, 2.05, 2.2) > 50


# ---- loading ---------------------------------------------------------------------------------------------------------------


def test_loading_takes_what_bytes_keys_and_commands_cost() -> None:
    """LOAD_COSTS over what the summary says was loaded; clients are told -LOADING meanwhile and add a little."""
    data = "users: {node: main, keys: 50000, value_bytes: 100}"
    told = crash_of("{at: 1s, fault: kill, node: main, restart_after: 100ms}", rate=5000, data=data)
    crash, costs = row(told), {name: cost.value for name, cost in restart.LOAD_COSTS.items()}
    each = 50_000 * costs["rdb_key_ns"] + crash["replayed_commands"] * costs["aof_command_ns"]
    expected_s = (each + crash["loaded_bytes"] * costs["ps_per_byte"] // 1000) / S
    assert crash["keys_after"] == 50_000
    assert expected_s <= crash["loading_s"] <= 1.1 * expected_s
    assert told.summary["clients"]["api"]["errors"]["loading"] > 0


def test_a_process_that_is_killed_while_it_loads_begins_anew() -> None:
    """Two deaths, one service."""
    faults = "{at: 1s, fault: kill, node: main, restart_after: 10ms}, {at: 1020ms, fault: kill, node: main, restart_after: 10ms}"
    result = crash_of(faults, data="users: {node: main, keys: 50000, value_bytes: 100}")
    first, second = result.summary["nodes"]["main"]["crashes"]
    assert first["serves_s"] is None
    assert second["serves_s"] > 1.03
    assert second["keys_after"] == 50_000


def test_a_stopped_process_keeps_its_connections_and_everybody_waits() -> None:
    """SIGSTOP: no error without a time-out, a latency as long as the stop."""
    result = crash_of("{at: 500ms, fault: pause, node: main, for: 700ms}", policy="", rate=500)
    api = result.summary["clients"]["api"]
    assert api["failed"] == 0
    assert 690_000 <= api["latency_us"]["max"] <= 760_000
    assert result.summary["nodes"]["main"]["stalls"]["process-stopped"]["total_us"] == pytest.approx(700 * MS / 1000)


def test_a_server_that_cannot_write_under_always_is_gone_and_its_clients_hear_of_it() -> None:
    """aof.c:flushAppendOnlyFile exits; until then nobody has lost anything, from then on everybody is refused."""
    result = crash_of("{at: 500ms, fault: full_disk, host: box, for: 100ms}", policy="always")
    told, api = row(result), result.summary["clients"]["api"]
    assert (told["fault"], told["lost_acked_writes"], told["serves_s"]) == ("exit", 0, None)
    assert answers_between(result, 0.51, 2.0) == 0
    assert api["errors"]["connection"] > 2500
    assert any("nobody is served" in finding.text for finding in result.findings)


# ---- the report ------------------------------------------------------------------------------------------------------------


def test_the_report_tells_of_a_crash_in_its_first_sentence_and_in_a_table() -> None:
    """What it took, how long nobody was served, where in the figures."""
    page = render_html(torn("yes"))
    assert "A power loss of main at 10 s took" in page
    assert "Crashes" in page
    assert "yellow: it loads its data" in page


def test_a_life_without_faults_is_none() -> None:
    """Nothing is attached, counted or remembered in a world where nothing dies."""
    scenario = Scenario.from_text(text_of("api: {node: main, arrivals: {closed: {}}, commands: {PING: 1}}"))
    built, env = build(scenario), simpy.Environment()
    server = Server(env, built.world, scenario.confs["main"], scenario.profiles["box"])
    attach_aof(env, server, scenario, built.node)
    assert attach_life(env, server, scenario, built) is None
    assert not built.world.aof.any()
    assert len(built.world.undo) == 1
    assert Life.has_no_process is not None
