"""The load generator against servers of a few lines, its plans and its reply scanner: exact counts, no timing, no Redis."""

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redsim.lab import rig
from redsim.lab.load_plan import GroupLoad, LoadPlan, merge, open_plan, plan, pool
from redsim.lab.loadgen import Load, open_loop, play_plan
from redsim.lab.resp import ERROR_REPLY, MORE, NIL_REPLY, REPLY, SCANNER_SIZE, encode, scan
from redsim.lab.schedule import draw_keys, open_times
from redsim.lab.shapes import shapes
from redsim.lab.twin_result import drained_after_ms, outstanding
from redsim.rng import generator
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.scenario.monitor import request_bytes
from redsim.scenario.schema import Open, Popularity
from redsim.units import MS, S

linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the load generator needs Linux")


def scenario(clients: str) -> Scenario:
    """One node, a thousand keys, and these clients."""
    return Scenario.from_text(f"""\
question: test
duration: 1s
hosts: {{box: {{profile: default}}}}
nodes: {{main: {{host: box}}}}
datasets: {{d: {{node: main, keys: 1000, value_bytes: 20}}}}
clients: {clients}
""")


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


def test_a_nil_answer_is_told_from_others():
    """RESP2: a null bulk string by itself; not an empty one, nor a nil inside an array."""
    state, found = np.zeros(SCANNER_SIZE, dtype=np.int64), []
    for text in (b"$-1\r\n", b"$0\r\n\r\n", b"*2\r\n:1\r\n$-1\r\n", b"$1\r\n-\r\n", b":-1\r\n"):
        found.append(scan(state, np.frombuffer(text, dtype=np.uint8).copy(), 0, len(text))[1])
    assert found == [NIL_REPLY, REPLY, REPLY, REPLY, REPLY]


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
    one = open_plan(pool([("GET", "a"), ("SET", "a", "x")]), rate_per_s=1000, seconds=0.1, connections=3, seed=1)
    two = open_plan(pool([("PING",), ("SET", "b", "y")]), rate_per_s=1000, seconds=0.1, connections=2, seed=2)
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


def _open(requests: int, connections: int, *, every_ns: int = MS, **behaviour: object) -> LoadPlan:
    """PINGs a millisecond apart, one connection after the other."""
    at = np.arange(1, requests + 1, dtype=np.int64) * every_ns
    group = GroupLoad("g", connections, stop_ns=(requests + 1) * every_ns, **behaviour)  # type: ignore[arg-type]
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
    """A reply that cannot be followed ends the connection: its request is lost, the next one connects anew. They are far enough
    apart for a busy machine to lose one before the next is sent."""
    with Answering(lambda i: b"?") as server:
        load = open_loop(server.port, _open(4, 1, every_ns=250 * MS), spin=False, grace_s=5)
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
