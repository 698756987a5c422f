"""The rig, redis-benchmark and the real twin of a scenario: structure and exact counts, no timing."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from redsim.lab import rig
from redsim.lab.benchmark import parse_csv, redis_benchmark
from redsim.lab.load_plan import GroupLoad, merge, open_plan, pool
from redsim.lab.loadgen import closed_loop, open_loop
from redsim.lab.shapes import Shape
from redsim.lab.twin import load_dataset, real_run
from redsim.redis.commands import COMMANDS
from redsim.run.kinds import SAME_AS
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.units import MS

RECORDED = Path(__file__).parent / "recorded"


def needs_server(test: Callable[..., None]) -> Callable[..., None]:
    """Marked `real`; skipped, saying so, only where there is no redis-server."""
    missing = shutil.which("redis-server") is None
    return pytest.mark.real(pytest.mark.skipif(missing, reason="no redis-server on PATH; install Redis to run this test")(test))


def scenario(
    clients: str, datasets: str = "{d: {node: main, keys: 1000, value_bytes: 20}}", *, conf: str = "", extra: str = ""
) -> Scenario:
    """One node and what the test says."""
    return Scenario.from_text(f"""\
question: test
duration: 1s
hosts: {{box: {{profile: default}}}}
nodes: {{main: {{host: box, conf: {json.dumps(conf)}}}}}
datasets: {datasets}
clients: {clients}
{extra}""")


# ---- redis-benchmark's CSV -----------------------------------------------------------------------------------------

CSV = """"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
"SET","33500.84","0.196","0.024","0.167","0.327","0.879","5.231"
"LRANGE_100 (first 100 elements)","25974.03","0.259","0.040","0.127","0.335","3.831","8.279"
"""


def test_the_csv_of_redis_benchmark_is_read():
    """Output of redis-benchmark 7.0.15 --csv --precision 3, as recorded."""
    first, second = parse_csv(CSV)
    assert (first.test, first.per_s, first.p50_ms, first.max_ms) == ("SET", 33500.84, 0.167, 5.231)
    assert second.test == "LRANGE_100 (first 100 elements)"


@pytest.mark.parametrize("text", ['"test","rps"\n"SET","1.0"\n', CSV.replace("33500.84", "many")])
def test_another_csv_is_refused(text):
    """redis-benchmark before 6.2 prints test and rps only."""
    with pytest.raises(ScenarioError, match="redis-benchmark's CSV"):
        parse_csv(text)


def test_a_missing_program_names_its_package(monkeypatch):
    """Bad input: what is missing and how to get it."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ScenarioError, match="redis-server is not on PATH: install Redis"):
        rig.find("redis-server")


# ---- a real server -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[rig.RealServer]:
    with rig.start("enable-debug-command yes") as started:
        yield started


@needs_server
def test_commands_are_counted_exactly_by_info(server):
    """INFO's total_commands_processed and commandstats, the sampler's own INFO calls taken out."""
    before = server.sample()
    load = closed_loop(server.port, pool([("PING",), ("SET", "k", "v")]), connections=4, pipeline=5, seconds=30, requests=400)
    happened = server.sample() - before
    assert load.complete
    assert load.answered == 400
    assert happened.commands == 400
    assert {name: calls for name, (calls, _) in happened.usec.items()} == {"PING": 200, "SET": 200}
    assert happened.reads <= 400
    assert happened.cpu_ns > 0
    assert not load.error.any()


@needs_server
def test_an_open_load_sends_all_it_was_told_and_flags_the_errors(server):
    """One answer for each request; INCR on text is an error each time."""
    server.redis.set("text", "x")
    made = open_plan(pool([("GET", "text"), ("INCR", "text")]), rate_per_s=5000, seconds=0.3, connections=10, seed=1)
    before = server.sample()
    load = open_loop(server.port, made)
    assert load.answered == made.at_ns.size == (server.sample() - before).commands
    assert (load.error == (load.kind == load.names.index("INCR"))).all()


@needs_server
def test_latency_counts_from_the_intended_time(server):
    """A fact of waiting: who should have been served at the beginning of a 200 ms sleep waited nearly that long."""
    made = open_plan(pool([("PING",)]), rate_per_s=1000, seconds=0.5, connections=5, seed=1, process="constant")
    sleep = replace(
        pool([("DEBUG", "SLEEP", "0.2")]), at_ns=np.array([100 * MS]), template=np.zeros(1, dtype=np.int64),
        connection=np.zeros(1, dtype=np.int64), groups=(GroupLoad("sleep", 1, stop_ns=500 * MS),),
    )  # fmt: skip
    load = open_loop(server.port, merge([made, sleep]))
    assert load.complete
    assert load.of("load").summary_us()["max"] >= 190_000
    assert load.of("sleep").summary_us()["max"] >= 200_000


@needs_server
def test_a_server_is_gone_when_its_block_ends():
    """rig.start: always stopped, its folder removed."""
    with rig.start() as started:
        pid, folder = started.pid, Path(started.redis.config_get("dir")["dir"])
        assert folder.exists()
        assert rig.attach(f"redis://127.0.0.1:{started.port}").pid == pid
    assert not folder.exists()
    assert not Path(f"/proc/{pid}").exists()


@needs_server
def test_what_redis_says_of_a_wrong_conf_is_passed_on():
    """Bad input: the directive Redis stumbled over."""
    with pytest.raises(ScenarioError, match="no-such-directive"):
        rig.start("no-such-directive 1\n")


@needs_server
def test_an_unreachable_server_is_one_sentence_without_its_password():
    """Secrets of a URL never reach a message."""
    with pytest.raises(ScenarioError, match=r"no Redis answers at 127\.0\.0\.1") as failed:
        rig.attach(f"redis://user:topsecret@127.0.0.1:{rig.free_port()}")
    assert "topsecret" not in str(failed.value)


@needs_server
def test_data_sets_are_filled_with_the_sizes_the_simulator_draws():
    """redsim.workload.tables.sample, the same streams: lengths, element counts and number of keys are equal."""
    loaded = scenario("{}", """
  s: {node: main, keys: 300, key_bytes: 20, value_bytes: {uniform: [1, 200]}, present: 0.5}
  l: {node: main, keys: 20, type: list, elements: {uniform: [1, 50]}, value_bytes: 30}
  h: {node: main, keys: 20, type: hash, elements: {uniform: [1, 50]}}
  e: {node: main, keys: 20, type: set, elements: {uniform: [1, 50]}}
  z: {node: main, keys: 2, type: zset, elements: 2500}""")  # fmt: skip
    with rig.start() as started:
        known = load_dataset(started, loaded)
        there = known["s"].present()
        assert started.redis.dbsize() == len(there) + 62
        assert [started.redis.strlen(known["s"].key(i).decode()) for i in there] == known["s"].value_bytes[there].tolist()
        count_of = {"l": started.redis.llen, "h": started.redis.hlen, "e": started.redis.scard, "z": started.redis.zcard}
        for name, how in count_of.items():
            shape: Shape = known[name]
            assert [how(shape.key(i).decode()) for i in range(shape.data.keys)] == shape.elements.tolist()
        assert len(known["s"].key(7)) == 20
        assert len(started.redis.lindex(known["l"].key(3).decode(), 0)) == 30


USES = {"EVAL": "{weight: 1, duration: 10us}", "DEBUG SLEEP": "{weight: 1, duration: 10us}", "EXPIRE": "{weight: 1, ttl: 60s}",
        "FLUSHALL": "{weight: 0.001}", "WAIT": "{weight: 0.01, replicas: 1, timeout: 1ms}"}  # fmt: skip
LEFT_OUT = {"INCR", "BGSAVE", "SAVE", "BGREWRITEAOF", "WAITAOF"}  # of another type; one at a time; not in 7.0


OF_KIND = {
    kind: [
        c.name for c in COMMANDS.values() if (kind in c.types or (not c.types and kind == "string")) and c.name not in LEFT_OUT
    ]
    for kind in ("string", "list", "hash", "set", "zset")
} | {"integers": ["INCR", "GET", "SET"]}


@needs_server
@pytest.mark.parametrize("kind", list(OF_KIND))
def test_every_command_redsim_models_is_taken_by_a_real_server(kind):
    """redis/commands.py on its key types: no reply is an error, and commandstats counts each request once."""
    uses = ", ".join(f"{name}: {USES.get(name, '{weight: 1, keys: 2, elements: 2}')}" for name in OF_KIND[kind])
    type_ = "string" if kind == "integers" else kind
    loaded = scenario(
        "{c: {node: main, connections: 3, arrivals: {closed: {}}, requests: 600, keys: {dataset: d}, commands: {" + uses + "}}}",
        f"{{d: {{node: main, keys: 50, type: {type_}, elements: 20, value_bytes: 10}}}}", conf="enable-debug-command yes",
    )  # fmt: skip
    run = real_run(loaded, spin=False)
    group = run.groups["c"]
    assert group.errors == {"timeout": 0, "connection": 0, "reply": 0}
    assert group.completed == 600
    assert run.node.commands == 600
    called = {name: row["calls"] for name, row in run.node.commandstats.items()}
    sent = {name.split()[0]: row["count"] for name, row in group.by_command.items()}
    assert called == sent


@needs_server
def test_a_real_run_counts_what_the_scenario_says():
    """twin.real_run: requests, commandstats, SLOWLOG (threshold 0: every command) and the timeline's KEYS, exactly."""
    loaded = scenario(
        """
  a: {node: main, connections: 4, arrivals: {closed: {}}, pipeline: 4, requests: 200, commands: {GET: 1}, keys: {dataset: d}}
  b: {node: main, connections: 2, arrivals: {open: {rate_per_s: 200, process: constant}}, commands: {SET: 1},
      keys: {dataset: d}}""",
        conf="slowlog-log-slower-than 0\nslowlog-max-len 1000",
        extra="timeline: [{at: 500ms, run: 'KEYS *', node: main}]",
    )
    run = real_run(loaded, spin=False)
    assert run.groups["a"].completed == 200
    assert run.groups["b"].completed + run.groups["b"].in_flight == 199
    assert {name: row["calls"] for name, row in run.node.commandstats.items()} == {"GET": 200, "SET": 199, "KEYS": 1}
    assert run.node.commands == 400
    assert [stall.event for stall in run.stalls] == ["KEYS"]
    assert run.stalls[0].duration_from == "slowlog"
    assert run.stalls[0].client_us >= run.stalls[0].duration_us
    words = [str(row["args"]).split()[0] for row in run.slowlog]
    assert [words.count(name) for name in ("GET", "SET", "KEYS")] == [200, 199, 1]


@needs_server
def test_a_capture_is_replayed_command_by_command():
    """tests/recorded/monitor-7.0.15.txt: as many calls of each command as the capture holds of those redsim models."""
    monitor = RECORDED / "monitor-7.0.15.txt"
    loaded = scenario(f"{{a: {{node: main, arrivals: {{trace: {{monitor: {str(monitor)!r}, speed: 100}}}}}}}}", "{}")
    run = real_run(loaded, spin=False)
    capture = loaded.traces["a"]
    names = [capture.names[c] for c, client in zip(capture.command, capture.client, strict=True) if client >= 0]
    known = [name for name in names if SAME_AS.get(name, name) in COMMANDS]
    called = {("EVAL" if name == "EVALSHA" else name): known.count(name) for name in dict.fromkeys(known)}
    assert {name: row["calls"] for name, row in run.node.commandstats.items() if name != "PEXPIRE"} == called
    assert run.groups["a"].errors["reply"] == 0


@needs_server
def test_redis_benchmark_sends_as_many_as_it_was_told(server):
    """commandstats counts its requests; keyspace and pipeline are passed on."""
    before = server.sample()
    found = redis_benchmark(
        server.port, command=["SET", "k:__rand_int__", "x" * 50], requests=3200, clients=4, pipeline=16, keyspace=10
    )
    assert (server.sample() - before).usec["SET"][0] == found.requests == 3200
    assert found.per_s > 0


@needs_server
def test_redis_benchmark_without_a_server_does_not_wait_for_ever():
    """redis-benchmark itself would."""
    with pytest.raises(ScenarioError, match=r"no server at 127\.0\.0\.1"):
        redis_benchmark(rig.free_port(), test="get", requests=10)


REFUSALS = [
    ("{c: {node: main, arrivals: {closed: {}}, commands: {PING: 1}, rtt: 1ms}}", "remove clients.c.rtt"),
    ("{c: {node: main, arrivals: {closed: {}}, commands: {PING: 1}, bandwidth: 1gbit}}", "remove clients.c.bandwidth"),
    ("{c: {node: main, arrivals: {open: {rate_per_s: 5}}, commands: {PING: 1}, station: {kind: redis-benchmark}}}",
     "cannot be redis-benchmark"),
    ("{c: {node: main, connections: 2, arrivals: {closed: {}}, commands: {PING: 1}, station: {kind: loop, threads: 2}}}",
     "station.threads to 1"),
]  # fmt: skip


@pytest.mark.parametrize(("clients", "says"), REFUSALS)
def test_what_a_real_run_cannot_do_is_refused_by_name(clients, says):
    """twin.real_run: before any server is started."""
    with pytest.raises(ScenarioError, match=says):
        real_run(scenario(clients))
