"""`redsim observe` of a master and of a replica: INFO replication, offsets.csv for `redsim plan backlog`, the nodes it writes.

The pair is of the test's own, on loopback ports; what the master counted itself is the oracle.
"""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from redsim.lab.observe import command, compare, observe
from redsim.lab.observe_files import kind_of
from redsim.lab.observed_replication import REPLICAS_MAX, Replication, SeenReplica, offsets_csv, replication_of
from redsim.run import engine
from redsim.run.offsets import read_offsets
from redsim.run.plan_backlog import plan_backlog
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.scenario.monitor import request_bytes

redis = pytest.importorskip("redis")
rig = pytest.importorskip("redsim.lab.rig")

KEY, VALUE = "user:%03d", "x" * 100
SET_BYTES = request_bytes([3, len(KEY % 0), len(VALUE)])
MASTER = """
repl-diskless-sync-delay 0
repl-ping-replica-period 3600
repl-backlog-size 2mb
"""
LINK_S = 30  # the pair is given so long to come together


# ---- a master and its replica --------------------------------------------------------------------------------------


class Pair:
    """A master, its replica, online; both with 50 keys."""

    def __init__(self, master: "rig.RealServer", replica: "rig.RealServer") -> None:
        self.master, self.replica = master, replica

    @property
    def urls(self) -> tuple[str, str]:
        return f"redis://127.0.0.1:{self.master.port}/0", f"redis://127.0.0.1:{self.replica.port}/0"


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Started on free loopback ports, stopped at the end; skips where there is no redis-server."""
    try:
        rig.find("redis-server")
    except ScenarioError:
        pytest.skip("no redis-server on PATH")
    with rig.start(MASTER, cpu=None) as master, rig.start(f"replicaof 127.0.0.1 {master.port}\n", cpu=None) as replica:
        until = time.monotonic() + LINK_S
        while replica.redis.info("replication")["master_link_status"] != "up" and time.monotonic() < until:
            time.sleep(0.05)
        for i in range(50):  # the first one sends SELECT, too
            master.redis.set(KEY % i, VALUE)
        assert master.redis.wait(1, 1000 * LINK_S) == 1
        yield Pair(master, replica)


@pytest.fixture
def written(pair: Pair) -> Iterator[Pair]:
    """The pair while one client SETs."""
    done = threading.Event()

    def load() -> None:
        i = 0
        while not done.wait(0.002):
            pair.master.redis.set(KEY % (i % 50), VALUE)
            i += 1

    thread = threading.Thread(target=load)
    thread.start()
    yield pair
    done.set()
    thread.join()


def text_in(folder: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.real
def test_the_stream_of_a_master_is_its_sets_to_the_byte(written: Pair, tmp_path: Path) -> None:
    """replicationFeedSlaves: the stream is the requests as they came; commandstats of the same two INFO counts them."""
    seen = observe([written.urls[0]], out=tmp_path, window_s=2.5, sample_keys=50)
    assert seen.window is not None
    assert seen.replication is not None
    calls = {one.name: one.calls for one in seen.window.commands}
    offsets = [offset for _, offset in seen.replication.offsets]
    assert offsets[-1] - offsets[0] == calls["SET"] * SET_BYTES > 0
    assert offsets == sorted(offsets)
    assert len(offsets) >= 2
    assert seen.replication.role == "master"
    assert seen.replication.fields["repl_backlog_size"] == 2 << 20
    assert [replica.state for replica in seen.replication.replicas] == ["online"]


@pytest.mark.real
def test_offsets_of_a_master_are_what_plan_backlog_reads(written: Pair, tmp_path: Path) -> None:
    """The file holds the observation's series, and a plan comes of it."""
    lines = command([written.urls[0]], out=tmp_path / "o.yaml", window_s=1.5, sample_keys=20)
    assert f"offsets: {tmp_path / 'o.offsets.csv'}" in lines
    observed = json.loads((tmp_path / "o.observed.json").read_text(encoding="utf-8"))
    series = observed["replication"]["offsets"]
    read = read_offsets(tmp_path / "o.offsets.csv")
    assert read.offset_bytes.tolist() == [offset - series[0][1] for _, offset in series]
    np.testing.assert_allclose(read.at_ns / 1e9, [at_s for at_s, _ in series], atol=1e-6)
    plan = plan_backlog(tmp_path / "o.offsets.csv", "exponential:5s", draws=2000)
    assert plan.master.backlog_bytes == 1 << 20  # of now: the version's default, no redis.conf was given


@pytest.mark.real
def test_a_master_becomes_a_scenario_with_its_replica(written: Pair, tmp_path: Path) -> None:
    """It loads, it runs, the replica is fed; predicted against measured has the stream; no address is written."""
    lines = command([written.urls[0]], out=tmp_path, window_s=1.0, sample_keys=50)
    scenario = Scenario.load(tmp_path / "scenario.yaml")
    assert {name: node.replica_of for name, node in scenario.file.nodes.items()} == {"main": None, "r1": "main"}
    assert scenario.file.nodes["r1"].synced
    assert len({node.host for node in scenario.file.nodes.values()}) == 2
    assert scenario.confs["main"].get("repl-backlog-size") == scenario.confs["r1"].get("repl-backlog-size") == 2 << 20
    assert scenario.file.question.startswith("A master with 1 replica")
    summary = engine.run(scenario.smoke()).summary
    assert summary["replicas"]["r1"]["units_executed"] > 0
    observed = json.loads((tmp_path / "observed.json").read_text(encoding="utf-8"))
    rows = {quantity: (measured, predicted) for quantity, measured, predicted, _ in compare(observed, summary)}
    assert min(rows["master_repl_offset_bytes_per_s"]) > 0
    told = text_in(tmp_path) + "\n".join(lines)
    ids = [written.master.redis.info("replication")["master_replid"], str(written.replica.port), "127.0.0.1"]
    assert not [one for one in ids if one in told]
    assert any(line.strip().startswith("slave0: online") for line in lines)


@pytest.mark.real
def test_our_own_info_is_one_for_each_offset_and_in_no_counter(pair: Pair, tmp_path: Path) -> None:
    """Nobody else asks: what is left of the master's counters is its replica's ACKs, of 34 to 40 bytes each."""
    pair.master.redis.config_resetstat()
    seen = observe([pair.urls[0]], out=tmp_path, window_s=2.5, sample_keys=0)
    stats = pair.master.redis.info("commandstats")
    assert seen.window is not None
    assert seen.replication is not None
    assert stats["cmdstat_info"]["calls"] == len(seen.replication.offsets)
    assert seen.window.commands == ()
    acks = {one.name: one.calls for one in seen.window.admin}
    assert set(acks) <= {"REPLCONF"}
    assert seen.window.counters["commands"] == acks.get("REPLCONF", 0) >= (seen.window.counters["reads"] or 0)
    assert 34 * acks.get("REPLCONF", 0) <= (seen.window.counters["net_in_bytes"] or 0) <= 40 * acks.get("REPLCONF", 0)
    marks = 4 * (len(seen.replication.offsets) - 1)  # RESP3 sends `txt:` before each reply
    assert seen.window.counters["net_out_bytes"] in (0, marks)


@pytest.mark.real
def test_a_replica_says_that_its_master_was_not_asked(written: Pair, tmp_path: Path) -> None:
    """Its offset is what it has executed; the scenario is of it alone, its master's writes by clients."""
    seen = observe([written.urls[1]], out=tmp_path, window_s=1.0, sample_keys=20)
    assert seen.replication is not None
    assert (seen.replication.role, seen.replication.link) == ("slave", "up")
    assert seen.replication.offsets[-1][1] == seen.replication.fields["slave_repl_offset"]
    assert "its master: not asked" in text_in(tmp_path)
    scenario = Scenario.load(seen.scenario_path)
    assert list(scenario.file.nodes) == ["main"]
    assert scenario.file.question.startswith("A replica as")
    assert engine.run(scenario.smoke()).summary["commands"] > 0
    assert read_offsets(Path(seen.offsets_path)).mean_per_s > 0


# ---- files ---------------------------------------------------------------------------------------------------------


def info(at_s: int, offset: int, slaves: str = "", replid: str = "a" * 40) -> str:
    """INFO all of a master, as far as observe needs it."""
    return (
        f"# Server\r\nredis_version:7.0.15\r\nrun_id:x\r\nuptime_in_seconds:{at_s}\r\nserver_time_usec:{at_s * 1_000_000}\r\n"
        f"# Replication\r\nrole:master\r\nconnected_slaves:{slaves.count('slave')}\r\n{slaves}master_replid:{replid}\r\n"
        f"master_repl_offset:{offset}\r\nsecond_repl_offset:-1\r\nrepl_backlog_active:1\r\nrepl_backlog_size:1048576\r\n"
        f"# Commandstats\r\ncmdstat_set:calls={at_s},usec={5 * at_s},usec_per_call=5.00\r\n"
    )


def slave(number: int, state: str, offset: int) -> str:
    return f"slave{number}:ip=10.0.0.{number},port=6379,state={state},offset={offset},lag=1\r\n"


def saved(folder: Path, *texts: str) -> list[str]:
    for i, text in enumerate(texts):
        (folder / f"info-{i}.txt").write_text(text, encoding="utf-8")
    return [str(folder / f"info-{i}.txt") for i in range(len(texts))]


def test_two_info_are_a_series_of_two(tmp_path: Path) -> None:
    """The time between them is the server's own, the offsets are as they stand there; in whichever order they are given."""
    slaves = slave(0, "online", 6900) + slave(1, "wait_bgsave", 0)
    seen = observe(saved(tmp_path, info(160, 7000, slaves), info(100, 1000)), out=tmp_path / "out")
    assert (tmp_path / "out" / "offsets.csv").read_text(encoding="utf-8") == "time_s,offset\n0.000000,1000\n60.000000,7000\n"
    assert seen.replication is not None
    assert seen.replication.per_s == 100
    nodes = Scenario.load(seen.scenario_path).file.nodes
    assert {name: node.synced for name, node in nodes.items()} == {"main": True, "r1": True, "r2": False}
    told = text_in(tmp_path / "out")
    assert "online, 100 bytes not acknowledged, last ACK 1 s ago" in told
    assert "10.0.0" not in told
    assert "a" * 40 not in told


def test_another_history_begins_the_series_anew(tmp_path: Path) -> None:
    """A changed master_replid: what came before is no part of the stream, and one offset is no rate."""
    seen = observe(saved(tmp_path, info(100, 1000), info(160, 7000, replid="b" * 40)), out=tmp_path / "out")
    assert seen.offsets_path == ""
    assert not (tmp_path / "out" / "offsets.csv").exists()
    assert any("history changed" in line for line in Path(seen.scenario_path).read_text(encoding="utf-8").splitlines())


def test_a_file_of_info_replication_is_the_series(tmp_path: Path) -> None:
    """The form of offsets.py, beside one INFO: offsets.csv plans as that file itself does."""
    saves = [info(0, offset).split("\r\n# Commandstats")[0].split("# Replication\r\n")[1] for offset in (500, 900, 2000, 2000)]
    text = "".join(f"# {1_690_000_000 + 10 * i}\n# Replication\n{one}\n" for i, one in enumerate(saves))
    (tmp_path / "offsets.txt").write_text(text.replace("\r\n", "\n"), encoding="utf-8")
    assert kind_of((tmp_path / "offsets.txt").read_bytes()) == "replication"
    seen = observe([*saved(tmp_path, info(100, 2000)), str(tmp_path / "offsets.txt")], out=tmp_path / "out")
    mine, theirs = read_offsets(Path(seen.offsets_path)), read_offsets(tmp_path / "offsets.txt")
    assert mine.at_ns.tolist() == theirs.at_ns.tolist() == [0, 10**10, 2 * 10**10, 3 * 10**10]
    assert mine.offset_bytes.tolist() == theirs.offset_bytes.tolist() == [0, 400, 1500, 1500]


def test_writes_that_are_not_modelled_are_said_to_be_in_no_stream(tmp_path: Path) -> None:
    """A predicted stream lacks them: what commandstats names and redsim has no model of is only time that the loop is held."""
    trims = "cmdstat_ltrim:calls={0},usec={0},usec_per_call=1.00\r\n"
    texts = [info(at_s, 10 * at_s, slave(0, "online", 0)) + trims.format(at_s) for at_s in (100, 160)]
    seen = observe(saved(tmp_path, *texts), out=tmp_path / "out")
    assert "touch no keys, nor do replicas get them: LTRIM" in Path(seen.scenario_path).read_text(encoding="utf-8")


def test_more_replicas_than_are_simulated_are_said(tmp_path: Path) -> None:
    """Each is a server of its own to simulate."""
    slaves = "".join(slave(i, "online", 7000) for i in range(REPLICAS_MAX + 2))
    seen = observe(saved(tmp_path, info(100, 1000), info(160, 7000, slaves)), out=tmp_path / "out")
    assert len(Scenario.load(seen.scenario_path).file.nodes) == 1 + REPLICAS_MAX
    assert f"2 of {REPLICAS_MAX + 2} replicas: left out" in Path(seen.scenario_path).read_text(encoding="utf-8")


def test_a_server_alone_has_no_stream(tmp_path: Path) -> None:
    """No backlog, no replica, an offset that stays: nothing to plan by."""
    alone = [info(at_s, 0).replace("repl_backlog_active:1", "repl_backlog_active:0") for at_s in (100, 160)]
    seen = observe(saved(tmp_path, *alone), out=tmp_path / "out")
    assert seen.offsets_path == ""
    assert Scenario.load(seen.scenario_path).file.question.startswith("A server as")


@pytest.mark.parametrize(("fields", "expected"), [
    ({}, None),
    ({"role": "sentinel"}, None),
    ({"role": "master", "slave0": "ip=h,port=1,state=secret word,offset=x,lag=-1"}, [SeenReplica("unknown", 0, -1)]),
    ({"role": "master", "slave0": "ip=h,port=1,state=online,offset=5,lag=0,type=replica", "slave_priority": "100",
      "slave1": "ip=h,port=1,state=send_bulk,offset=0,lag=0,type=rdb-channel"}, [SeenReplica("online", 5, 0)]),
])  # fmt: skip
def test_slave_lines_keep_known_words_and_numbers(fields: dict[str, str], expected: list[SeenReplica] | None) -> None:
    """What INFO replication may hold, by 6.2 to 8.0, and what no Redis says."""
    seen = replication_of(fields)
    assert (seen.replicas if seen is not None else None) == expected


def test_offsets_csv_needs_two_samples() -> None:
    """read_offsets refuses one."""
    assert offsets_csv(None) == ""
    assert offsets_csv(Replication("slave", offsets=[(0.0, 5)])) == ""
    assert offsets_csv(Replication("slave", offsets=[(0.0, 5), (1.0, 5)])).count("\n") == 3
