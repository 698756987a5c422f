"""A master and one replica in each way that a full sync, a restart or a wait can go: what clients get, and equal data at the end.

Sources: facts of replication.c 7.0 (section 11), restarts as recorded from a real 7.0.15 (tests/recorded/psync.json).
"""

import json
from pathlib import Path
from typing import Any

import pytest

import redsim
from redsim.dataplane import layout as dp
from redsim.run import engine
from redsim.run.result import Result
from tests.replicated_worlds import different_keys, run_and_keep

FOLDER = Path(__file__).resolve().parents[1]
RECORDED = dict(json.loads((FOLDER / "tests" / "recorded" / "psync.json").read_text(encoding="utf-8"))["restart"])
PAIR = """
question: What becomes of a master and its replica?
duration: {duration}
warmup: 0
seed: 1
hosts: {{a: {{profile: default}}, b: {{profile: default}}}}
links: [{{between: [a, b], rtt: {rtt}, bandwidth: 1gbit}}]
nodes:
  main: {{host: a, version: "{version}", conf: "save \\"\\"\\nrepl-diskless-sync-delay 0\\nrepl-backlog-size 8mb\\n{conf}"}}
  r1: {{host: b, version: "{version}", replica_of: main, synced: {synced}, conf: "save \\"\\"\\n{own}"}}
datasets: {{users: {{node: main, keys: 20000, key_bytes: 10, value_bytes: 100}}}}
clients:
  api:
    node: main
    connections: {connections}
    stop: {stop}
    arrivals: {{open: {{rate_per_s: {rate}}}}}
    commands: {commands}
    keys: {{dataset: users}}
timeline: [{faults}]
"""
DEFAULTS: dict[str, Any] = {
    "duration": "8s", "rtt": "1ms", "version": "7.0", "conf": "", "own": "", "synced": "true", "connections": 10, "stop": "6s",
    "rate": 2000, "commands": "{SET: 1}", "faults": "",
}  # fmt: skip
CUT = "{{at: {at}, fault: partition, groups: [[a], [b]], for: {length}}}"


def pair(**changes: Any) -> redsim.Scenario:
    return redsim.Scenario.from_text(PAIR.format(**{**DEFAULTS, **changes}))


def phases(result: Result) -> list[str]:
    return list(result.syncs["phase"])


def verdicts(result: Result) -> list[str]:
    return [phase for phase in phases(result) if phase in ("partial", "full")]


def is_equal_at_the_end(**changes: Any) -> Result:
    """Run it: the replica is online, as far as its master, and has its keys, of which some were written on the way."""
    result, nodes = run_and_keep(pair(**changes))
    master, mine = nodes["main"].server.world, nodes["r1"].server.world
    assert result.summary["replicas"]["r1"]["state"] == "online"
    assert mine.repl[dp.M_OFFSET] == master.repl[dp.M_OFFSET]
    assert different_keys(master, mine) == [0]
    return result


# ---- ways of a full sync -------------------------------------------------------------------------------------------------

WAYS = {
    "by disk": ("7.0", "repl-diskless-sync no", "", {"bgsave", "save"}),
    "by disk, 6.2": ("6.2", "", "", {"bgsave", "save"}),
    "a pipe": ("7.0", "", "", {"save"}),
    "a pipe, swapdb": ("7.0", "", "repl-diskless-load swapdb", set()),
    "a pipe, on-empty-db": ("7.0", "", "repl-diskless-load on-empty-db", set()),
    "dual channel": ("valkey-8.0", "dual-channel-replication-enabled yes", "", {"save"}),
    "rdb channel": ("8.0", "repl-rdb-channel yes", "", {"save"}),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_a_full_sync_ends_with_the_masters_data(way: str) -> None:
    """`took`: the phases that take time. By disk the master saves first; from the socket into memory nothing is put on a disk."""
    version, conf, own, took = WAYS[way]
    result = is_equal_at_the_end(version=version, conf=conf, own=own, synced="false", rate=8000)
    assert verdicts(result) == ["full"]
    long = result.syncs[result.syncs.end_s > result.syncs.start_s]
    assert set(long.phase) - {"disconnected", "handshake", "transfer", "load"} == took


@pytest.mark.parametrize(("load", "has_file"), [("on-empty-db", True), ("swapdb", False), ("disabled", True)])
def test_a_replica_that_has_data_loads_from_the_socket_only_with_swapdb(load: str, has_file: bool) -> None:
    """replication.c:useDisklessLoad: on-empty-db goes by its disk here."""
    cut = "{at: 2s, fault: disconnect, node: r1, for: 1s}"
    result = is_equal_at_the_end(conf="repl-backlog-size 16kb", own=f"repl-diskless-load {load}", faults=cut)
    assert verdicts(result) == ["full"]
    assert ("save" in phases(result)) == has_file


def test_with_two_channels_the_stream_does_not_wait_at_the_master() -> None:
    """The stream goes beside the file and is kept by the replica: no output buffer at the master, where one channel fills it."""
    one = is_equal_at_the_end(version="valkey-8.0", synced="false", rate=8000)
    two = is_equal_at_the_end(version="valkey-8.0", conf="dual-channel-replication-enabled yes", synced="false", rate=8000)
    peaks = [result.summary["replicas"]["r1"]["output_buffer_peak_bytes"] for result in (one, two)]
    assert peaks[0] > 2 * peaks[1], peaks


def test_a_load_ends_when_it_is_over_and_not_when_somebody_looks() -> None:
    """The length of the run sets how often samples are taken, and nothing else."""
    spans = []
    for duration in ("6s", "7s", "8s"):
        rows = engine.run(pair(synced="false", stop="2s", duration=duration)).syncs
        load = rows[rows.phase == "load"].iloc[0]
        spans.append(round((load.end_s - load.start_s) * 1e6))
    assert len(set(spans)) == 1, spans


# ---- restarts ------------------------------------------------------------------------------------------------------------

KILL = "{{at: {at}, fault: kill, node: {node}, restart_after: 1s}}"
SAVE = "{{at: 2s, run: BGSAVE, node: {node}}}, "


def test_a_replica_that_loads_an_rdb_file_asks_for_the_rest() -> None:
    """Recorded: kill -9 after BGSAVE, partial. The file knows its history and its offset."""
    result = is_equal_at_the_end(faults=SAVE.format(node="r1") + KILL.format(at="3s", node="r1"))
    assert verdicts(result) == [RECORDED["kill -9 after BGSAVE"]] == ["partial"]


def test_a_replica_whose_rdb_file_is_older_than_the_backlog_needs_everything() -> None:
    faults = SAVE.format(node="r1") + KILL.format(at="3s", node="r1")
    assert verdicts(is_equal_at_the_end(conf="repl-backlog-size 64kb", faults=faults)) == ["full"]


@pytest.mark.parametrize("own", ["appendonly yes", ""])
def test_a_replica_that_loads_an_aof_or_nothing_needs_everything(own: str) -> None:
    """An AOF of 7.0 does not know its offset."""
    result = is_equal_at_the_end(own=own, faults=KILL.format(at="3s", node="r1"))
    assert verdicts(result) == ["full"]
    assert "no data" in result.syncs[result.syncs.phase == "full"].note.iloc[0]


@pytest.mark.parametrize("saved", ["", SAVE.format(node="main")], ids=["nothing", "a file older than the last write"])
def test_a_master_that_restarts_begins_another_history(saved: str) -> None:
    """Recorded: MASTER SHUTDOWN NOSAVE, full. A replica that is ahead of the master's file cannot go on either."""
    result = is_equal_at_the_end(faults=saved + KILL.format(at="3s", node="main"))
    assert verdicts(result) == [RECORDED["MASTER SHUTDOWN NOSAVE"]] == ["full"]
    why = "second replication ID" if saved else "another one"
    assert why in result.syncs[result.syncs.phase == "full"].note.iloc[0]


def test_a_master_that_restarts_from_an_aof_begins_another_history_with_its_data() -> None:
    result, nodes = run_and_keep(pair(conf="appendonly yes", faults=KILL.format(at="3s", node="main")))
    assert verdicts(result) == ["full"]
    assert different_keys(nodes["main"].server.world, nodes["r1"].server.world) == [0]
    assert nodes["main"].server.world.dataset[0, dp.D_LIVE] == 20000


def test_a_master_whose_rdb_file_has_all_goes_on_with_its_replica() -> None:
    """Recorded: MASTER SHUTDOWN SAVE, partial. The file's history is the second one, since 7.0."""
    faults = SAVE.format(node="main") + KILL.format(at="3s", node="main")
    assert verdicts(is_equal_at_the_end(stop="1s", faults=faults)) == [RECORDED["MASTER SHUTDOWN SAVE"]] == ["partial"]
    assert verdicts(is_equal_at_the_end(version="6.2", stop="1s", faults=faults)) == ["full"]


# ---- WAIT ------------------------------------------------------------------------------------------------------------------


def waits_us(result: Result, which: str) -> float:
    """Of the WAITs of a run."""
    rows = result.commands[result.commands["command"] == "WAIT"]
    return float(rows[which].iloc[0])


WAIT = "{{SET: 1, WAIT: {{weight: 1, replicas: {replicas}, timeout: {timeout}}}}}"


def test_wait_returns_when_the_replica_has_acknowledged() -> None:
    """replication.c:waitCommand: GETACK before the loop sleeps, the ACK a round trip later; a SET does not wait."""
    result = engine.run(pair(rtt="20ms", rate=20, connections=1000, commands=WAIT.format(replicas=1, timeout="1s")))
    assert 20_000 <= waits_us(result, "max_us") < 22_000
    assert result.commands.set_index("command").loc["SET", "max_us"] < 5_000


def test_wait_returns_at_once_if_its_connection_has_written_nothing() -> None:
    result = engine.run(pair(rtt="20ms", rate=20, connections=1000, commands="{WAIT: {weight: 1, replicas: 1, timeout: 1s}}"))
    assert waits_us(result, "max_us") < 5_000


def test_wait_for_more_replicas_than_there_are_waits_for_its_time_out() -> None:
    """One replica is less than two, even if nothing was written. An idle loop looks at time-outs when its cron wakes it, every
    100 ms: `WAIT 2 30` took an idle Redis 7.0.15 35 to 123 ms."""
    result = engine.run(pair(rate=20, connections=1000, commands="{WAIT: {weight: 1, replicas: 2, timeout: 30ms}}"))
    assert 30_000 <= waits_us(result, "p50_us") < waits_us(result, "max_us") < 132_000
    assert result.summary["clients"]["api"]["failed"] == 0, "it answers how many there were, no error"


@pytest.mark.parametrize(("timeout", "low_us", "high_us"), [("50ms", 50_000, 152_000), ("0ms", 1_900_000, 4_500_000)])
def test_wait_during_a_partition_ends_at_its_time_out_or_with_the_partition(timeout: str, low_us: int, high_us: int) -> None:
    """The partition lasts for two seconds, TCP sends again within another two; 0 waits for ever."""
    scenario = pair(
        rate=20, connections=1000, commands=WAIT.format(replicas=1, timeout=timeout), faults=CUT.format(at="2s", length="2s")
    )
    result = engine.run(scenario)
    assert low_us <= waits_us(result, "max_us") < high_us
    assert result.summary["clients"]["api"]["failed"] == 0


# ---- min-replicas-to-write, the NIC ---------------------------------------------------------------------------------------


def test_writes_are_refused_while_the_replica_is_cut_for_longer_than_max_lag_and_not_after() -> None:
    """-NOREPLICAS from the first second in which the last ACK is older than min-replicas-max-lag, until TCP has got through."""
    rules = "min-replicas-to-write 1\\nmin-replicas-max-lag 2"
    result = engine.run(pair(conf=rules, faults=CUT.format(at="3s", length="6s"), duration="20s", stop="20s"))
    frame = result.replication

    def written(low_s: float, high_s: float) -> int:
        seen = frame[(frame.time_s >= low_s) & (frame.time_s <= high_s)]["master_offset"]
        return int(seen.iloc[-1] - seen.iloc[0])

    assert written(0, 4.5) > 4 * 2000 * 100
    assert written(6.2, 8.8) == 0
    assert written(14, 20) > 5 * 2000 * 100
    api = result.summary["clients"]["api"]
    assert api["errors"]["noreplicas"] == api["failed"] > 3 * 2000


@pytest.mark.parametrize(("replicas", "length"), [(1, "500ms"), (0, "6s")])
def test_no_write_is_refused_within_max_lag_or_without_the_rule(replicas: int, length: str) -> None:
    rules = f"min-replicas-to-write {replicas}\\nmin-replicas-max-lag 2"
    result = engine.run(pair(conf=rules, faults=CUT.format(at="3s", length=length), duration="12s", stop="12s"))
    assert result.summary["clients"]["api"]["failed"] == 0


def test_gets_of_a_kilobyte_end_at_what_a_gigabit_carries() -> None:
    """1,009 bytes of RESP, 90 more for each 1,448: 113,700 a second, while the CPU is idle for the most part."""
    path = FOLDER / "scenarios" / "learn" / "nic-bound.yaml"
    one = redsim.run(redsim.load(path, ["duration=2s", "warmup=500ms"])).summary
    assert one["clients"]["api"]["throughput_per_s"] == pytest.approx(113_700, rel=0.01)
    assert one["nodes"]["main"]["cpu_utilisation"] < 0.5
    ten = redsim.run(redsim.load(path, ["duration=2s", "warmup=500ms", "hosts.box.nic=10gbit"])).summary
    assert ten["clients"]["api"]["throughput_per_s"] > 200_000
