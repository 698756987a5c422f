"""The rig, the load generator, redis-benchmark and the real twin of a scenario: structure and exact counts, no timing."""

import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redsim.lab import rig
from redsim.lab.benchmark import parse_csv, redis_benchmark
from redsim.lab.load_plan import GroupLoad, LoadPlan, merge, open_plan, plan, pool
from redsim.lab.loadgen import Load, closed_loop, open_loop, play_plan
from redsim.lab.resp import ERROR_REPLY, MORE, SCANNER_SIZE, encode, scan
from redsim.lab.schedule import draw_keys, open_times
from redsim.lab.shapes import Shape, shapes
from redsim.lab.twin import load_dataset, real_run
from redsim.lab.twin_result import drained_after_ms, outstanding
from redsim.redis.commands import COMMANDS
from redsim.rng import generator
from redsim.run.kinds import SAME_AS
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.scenario.monitor import request_bytes
from redsim.scenario.schema import Open, Popularity
from redsim.units import MS, S

RECORDED = Path(__file__).parent / "recorded"
HAS_SERVER = shutil.which("redis-server") is not None
real = [pytest.mark.real, pytest.mark.skipif(not HAS_SERVER, reason="no redis-server on PATH; install Redis to run this test")]
needs_server = lambda test: real[0](real[1](test))  # noqa: E731
linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the load generator needs Linux")


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


# ---- replies -----------------------------------------------------------------------------------------------------

REPLIES = [  # bytes, is it an error
    (b"+OK\r\n", False), (b"-ERR no\r\n", True), (b":17\r\n", False), (b"$5\r\nhel\r\n\r\n", False), (b"$0\r\n\r\n", False),
    (b"$-1\r\n", False), (b"*-1\r\n", False), (b"*0\r\n", False), (b"*2\r\n$3\r\n-no\r\n:1\r\n", False),
    (b"*3\r\n*2\r\n+a\r\n*0\r\n$-1\r\n*1\r\n*1\r\n$12\r\n123456789012\r\n", False), (b"*1\r\n-ERR inside EXEC\r\n", False),
]  # fmt: skip


def count(parts: list[bytes]) -> list[bool]:
    """Whether each reply in these reads is an error."""
    state = np.zeros(SCANNER_SIZE, dtype=np.int64)
    found = []
    for part in parts:
        inbox = np.frombuffer(part + b"?", dtype=np.uint8).copy()
        at, what = 0, -1
        while what != MORE:
            at, what = scan(state, inbox, at, len(part))
            if what != MORE:
                found.append(what == ERROR_REPLY)
    assert state[0] == 0, "a reply was left unfinished"
    return found


def test_replies_are_counted_from_any_split():
    """RESP2 (facts/redis.md): nested arrays, nil, empty ones, errors, bodies that look like headers; every split in two."""
    whole = b"".join(text for text, _ in REPLIES)
    expected = [is_error for _, is_error in REPLIES]
    assert count([whole]) == expected
    assert count([whole[i : i + 1] for i in range(len(whole))]) == expected
    for i in range(1, len(whole)):
        assert count([whole[:i], whole[i:]]) == expected


def test_a_byte_that_begins_no_reply_is_told_apart():
    """RESP has five types (and RESP3's one-line ones); anything else cannot be followed."""
    at, what = scan(np.zeros(SCANNER_SIZE, dtype=np.int64), np.frombuffer(b"HTTP/1.1", dtype=np.uint8).copy(), 0, 8)
    assert (at, what) == (1, 3)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20))
def test_a_request_is_as_long_as_the_simulator_says(words):
    """redsim.scenario.monitor.request_bytes, which the data plane's K_REQ_BYTES follows."""
    text = encode(*words)
    assert len(text) == request_bytes(len(word) for word in words)
    assert count([text]) == [False]  # a request is an array of bulk strings, so the scanner can follow it too


# ---- plans -------------------------------------------------------------------------------------------------------


def test_constant_arrivals_and_bursts_are_exact():
    """scenario/schema.py: Open; the first comes one gap after the start."""
    rng = generator(1, "test")
    assert list(open_times(Open(rate_per_s=1000.0, process="constant"), 0, 5 * MS, 1, rng)) == [1 * MS, 2 * MS, 3 * MS, 4 * MS]
    bursts = open_times(Open.model_validate({"bursts": {"every": "10ms", "size": 8}}), 0, 35 * MS, 4, rng)
    assert list(bursts) == [10 * MS] * 2 + [20 * MS] * 2 + [30 * MS] * 2


def test_a_schedule_sends_nothing_where_its_rate_is_0():
    """scenario/schema.py: piecewise constant."""
    schedule = Open.model_validate({"schedule": [{"at": "100ms", "rate_per_s": 5000.0}, {"at": "200ms", "rate_per_s": 0.0}]})
    at = open_times(schedule, 50 * MS, 1 * S, 1, generator(2, "test"))
    assert at.size > 0
    assert at.min() >= 150 * MS
    assert at.max() < 250 * MS


@pytest.mark.parametrize("popularity", [{"uniform": True}, {"zipf": 0.99}, {"latest": 0.99}, {"sequential": True},
                                        {"hotset": {"keys": 0.1, "traffic": 0.9}}])  # fmt: skip
def test_keys_drawn_lie_in_the_data_set(popularity):
    """workload/keys.py, whose laws these are; a zipf's first key is its most frequent."""
    keys = draw_keys(Popularity.model_validate(popularity), 1000, 20_000, generator(3, "test"))
    assert keys.min() >= 0
    assert keys.max() <= 999
    if "zipf" in popularity:
        assert np.bincount(keys).argmax() == 0


def test_merged_plans_keep_each_request_with_its_bytes_and_connection():
    """load_plan.merge: groups behind each other, requests in time order."""
    one = open_plan([("GET", "a"), ("SET", "a", "x")], rate_per_s=1000, seconds=0.1, connections=3, seed=1)
    two = open_plan([("PING",), ("SET", "b", "y")], rate_per_s=1000, seconds=0.1, connections=2, seed=2)
    both = merge([one, two])

    def requests(p: LoadPlan, first_connection: int) -> list[tuple[int, bytes, int, str]]:
        return [(int(at), p.blob[p.off[t] : p.off[t + 1]].tobytes(), int(c) + first_connection, p.names[p.kind[t]])
                for at, t, c in zip(p.at_ns, p.template, p.connection, strict=True)]  # fmt: skip

    assert sorted(requests(both, 0)) == sorted(requests(one, 0) + requests(two, 3))
    assert (np.diff(both.at_ns) >= 0).all()
    assert both.pools == ((0, 2), (2, 4))


def test_a_plan_is_the_same_for_the_same_seed():
    """Design 3: one seed; another seed gives others."""
    loaded = scenario("{c: {node: main, connections: 5, arrivals: {open: {rate_per_s: 2000}}, commands: {GET: 1, SET: 1}, "
                      "keys: {dataset: d, popularity: {zipf: 0.99}}}}")  # fmt: skip
    plans = [plan(loaded, "c", seed, shapes=shapes(loaded)) for seed in (7, 7, 8)]
    assert plans[0].blob.tobytes() == plans[1].blob.tobytes()
    assert plans[0].blob.tobytes() != plans[2].blob.tobytes()


# ---- the generator, against servers made of a few lines ------------------------------------------------------------


class Answering:
    """A server on loopback that answers every PING with `reply`, a byte at a time, or not at all (None)."""

    def __init__(self, reply: Callable[[int], bytes] | None) -> None:
        self.reply = reply
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                made, _ = self.listening.accept()
            except OSError:  # closed: the test is over
                return
            self.connections.append(made)
            threading.Thread(target=self._answer, args=(made,), daemon=True).start()

    def _answer(self, made: socket.socket) -> None:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        seen, answered = b"", 0
        try:
            while data := made.recv(65536):
                seen += data
                while self.reply is not None and answered < seen.count(b"PING"):
                    for byte in self.reply(answered):
                        made.send(bytes([byte]))
                    answered += 1
        except OSError:  # the client hung up, which is what some tests are about
            return

    def __enter__(self) -> "Answering":
        return self

    def __exit__(self, *_: object) -> None:
        self.listening.close()
        for made in self.connections:
            made.close()


def _open(requests: int, connections: int, **behaviour: object) -> LoadPlan:
    """PINGs a millisecond apart, one connection after the other."""
    at = np.arange(1, requests + 1, dtype=np.int64) * MS
    group = GroupLoad("g", connections, stop_ns=(requests + 1) * MS, **behaviour)  # type: ignore[arg-type]
    none = np.zeros(requests, dtype=np.int64)
    return replace(pool([("PING",)]), at_ns=at, template=none, connection=np.arange(requests) % connections, groups=(group,))


@linux
def test_replies_that_come_a_byte_at_a_time_reach_their_requests():
    """Each request has one answer, the erroneous ones are flagged, none is left over."""
    with Answering(lambda i: REPLIES[i % len(REPLIES)][0]) as server:
        load = open_loop(server.port, _open(len(REPLIES), 1), spin=False)
    assert load.complete
    assert load.answered == len(REPLIES)
    assert list(load.error) == [is_error for _, is_error in REPLIES]
    assert load.counters["unexpected"] == 0
    assert (load.done_ns >= load.sent_ns).all()
    assert (load.sent_ns >= load.intended_ns).all()


@linux
@pytest.mark.parametrize("reconnects", [False, True])
def test_a_silent_server_costs_every_attempt_and_nothing_hangs(reconnects):
    """Time-outs with 2 retries: three attempts a request, two of them retries; the run ends before its deadline."""
    with Answering(None) as server:
        made = _open(10, 5, timeout_ns=20 * MS, retries=2, backoff_ns=MS, reconnects=reconnects)
        load = play_plan(server.port, made, spin=False, grace_s=20)
    failures = load.failures["g"]
    assert load.complete
    assert load.answered == 0
    assert failures["retried"] == 20
    assert failures["timeouts"] + failures["lost"] == 30
    assert load.intended_ns.size == 10
    assert set(load.attempts.tolist()) == {3}
    assert (load.counters["reconnects"] > 0) == reconnects
    assert reconnects or failures["lost"] == 0


@linux
def test_a_run_ends_though_no_answer_ever_comes():
    """No time-outs: the deadline ends it, and the requests have no answer."""
    with Answering(None) as server:
        load = open_loop(server.port, _open(5, 2), spin=False, grace_s=0.1)
    assert not load.complete
    assert load.answered == 0
    assert load.sent_ns.min() >= 0


@linux
def test_a_server_that_hangs_up_loses_the_requests_it_had():
    """A reply that cannot be followed ends the connection: its request is lost, the next one connects anew."""
    with Answering(lambda i: b"?") as server:
        load = open_loop(server.port, _open(4, 1), spin=False, grace_s=5)
    assert load.complete
    assert load.answered == 0
    assert load.failures["g"]["lost"] == 4
    assert load.counters["reconnects"] >= 1


@linux
def test_nobody_listening_is_one_sentence():
    """Bad input: which server, and that it does not answer."""
    with pytest.raises(ScenarioError, match=r"connection 1 of 2 to 127\.0\.0\.1:\d+ failed"):
        open_loop(rig.free_port(), _open(2, 2), spin=False)


# ---- arithmetic of a run -------------------------------------------------------------------------------------------


def _load(intended: list[int], done: list[int]) -> Load:
    n = len(intended)
    zero = np.zeros(n, dtype=np.int64)
    return Load(("GET",), ("g",), 0, 1.0, np.array(intended), np.array(intended), np.array(done), zero, zero, zero, zero + 1,
                zero > 0, {}, {}, True)  # fmt: skip


def test_queue_and_drain_are_counted_by_hand():
    """Ten requests a millisecond apart, all answered between 20 and 29 ms: at 20.5 ms nine are out, three from 26 ms on."""
    load = _load([i * MS for i in range(10)], [(20 + i) * MS for i in range(10)])
    assert outstanding(load, 20 * MS + MS // 2) == 9
    assert drained_after_ms(load, 20 * MS + MS // 2) == pytest.approx(5.5)
    assert drained_after_ms(load, 40 * MS) == 0.0
    assert load.latency_us(0.5) == 20_000
    assert load.summary_us()["max"] == 20_000


def test_quantiles_of_nothing_are_not_a_number():
    """A group without answers."""
    assert np.isnan(_load([], []).latency_us(0.5))
    assert _load([], []).late_ns == {"p50": 0, "p99": 0, "max": 0}


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
    made = open_plan([("GET", "text"), ("INCR", "text")], rate_per_s=5000, seconds=0.3, connections=10, seed=1)
    before = server.sample()
    load = open_loop(server.port, made)
    assert load.answered == made.at_ns.size == (server.sample() - before).commands
    assert (load.error == (load.kind == load.names.index("INCR"))).all()


@needs_server
def test_latency_counts_from_the_intended_time(server):
    """A fact of waiting: who should have been served at the beginning of a 200 ms sleep waited nearly that long."""
    made = open_plan([("PING",)], rate_per_s=1000, seconds=0.5, connections=5, seed=1, process="constant")
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
        "FLUSHALL": "{weight: 0.001}"}  # fmt: skip


OF_KIND = {
    kind: [c.name for c in COMMANDS.values() if (kind in c.types or (not c.types and kind == "string")) and c.name != "INCR"]
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
    ("{c: {node: main, connections: 2, arrivals: {closed: {}}, commands: {PING: 1}, station: {kind: loop, threads: 2}}}", "station.threads to 1"),
]  # fmt: skip


@pytest.mark.parametrize(("clients", "says"), REFUSALS)
def test_what_a_real_run_cannot_do_is_refused_by_name(clients, says):
    """twin.real_run: before any server is started."""
    with pytest.raises(ScenarioError, match=says):
        real_run(scenario(clients))
