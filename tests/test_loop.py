"""What the event loop promises, one claim a test, on runs so small that most answers are exact integers.

The claims are those of Redis' sources (file and function named in each docstring); profiles are zero but for what a claim is
about, so that a latency is a sum anyone can check: 1 ns to the server, the work, 1 ns back.
"""

from typing import Any

import numpy as np
import pytest

from redsim.dataplane import layout as dp
from redsim.run import engine
from redsim.units import MS, US, S
from tests.small_worlds import Run, clients, longest_ns, node, once, profile, row, scenario, steady, world_of

WAY_NS = 1  # each way, in a zero profile


def at_once(*commands: str, **costs_ns: int) -> Run:
    """Each command from a client of its own, all at the same instant, in this order; everybody was connected before."""
    groups = [
        f"  c{i}: {{node: main, connections: 1, arrivals: {{open: {{schedule: [{{at: 0s, rate_per_s: 0}},"
        f" {{at: 1ms, rate_per_s: 1000}}], process: constant}}}}, requests: 1, commands: {command}}}\n"
        for i, command in enumerate(commands)
    ]
    return world_of(scenario("duration: 100ms\n" + node() + clients(*groups), profile_text=profile(zero=True, **costs_ns)))


# ---- replies ------------------------------------------------------------------------------------------------------


def test_a_reply_leaves_only_when_its_whole_batch_has_been_executed():
    """server.c:beforeSleep writes all replies after the batch: the PING before a script waits for it as the one behind does."""
    run = at_once("{PING: 1}", "{EVAL: {weight: 1, duration: 10ms}}", "{PING: 1}")
    assert longest_ns(run, "c0", "PING") == longest_ns(run, "c2", "PING") == 10 * MS + 2 * WAY_NS


def test_replies_are_written_last_client_first():
    """networking.c:prepareClientToWrite puts a client at the head of the pending list: three writes of 5 us in reverse order."""
    run = at_once("{PING: 1}", "{PING: 1}", "{PING: 1}", write_ns=5 * US)
    waits = [longest_ns(run, f"c{i}", "PING") - 2 * WAY_NS for i in range(3)]
    assert waits == [15 * US, 10 * US, 5 * US]


def test_the_blame_of_a_victim_names_who_ran_in_its_batch():
    """What the PING waited for is EVAL and nothing else, to the nanosecond."""
    run = at_once("{PING: 1}", "{EVAL: {weight: 1, duration: 10ms}}")
    whole = run.w.blame[0].sum(axis=0).tolist()
    blame = {cause: ns for cause, ns in zip(run.built.causes, whole, strict=False) if ns}
    assert blame == {"EVAL": 10 * MS, "network": 2 * WAY_NS}


def test_a_reply_of_ten_megabytes_takes_160_writes_and_others_are_served_in_between():
    """server.h:NET_MAX_WRITES_PER_EVENT is 64 KiB per client and iteration: nobody waits for more than two such writes."""
    value = 160 * 65536 - 13  # $, eight digits, CRLF, the value, CRLF
    run = world_of(scenario(
        "duration: 50ms\n" + node() + f"datasets: {{big: {{node: main, keys: 1, value_bytes: {value}}}}}\n"
        + clients(once("big", "{GET: 1}", dataset="big"), steady("small", "{closed: {}}", connections=1, more=", stop: 40ms")),
        profile_text=profile(zero=True, poll_ns=500, write_ns=10 * US),
    ))  # fmt: skip
    big, small = longest_ns(run, "big", "GET"), int(row(run, "small")[dp.G_COMPLETED])
    assert run.st(dp.WRITES) - small == 160
    assert big >= 160 * 10 * US
    assert longest_ns(run, "small", "PING") < 5 * 10 * US


# ---- reads --------------------------------------------------------------------------------------------------------


def test_one_read_takes_sixteen_kilobytes_of_a_pipeline_and_the_rest_waits_for_the_next_poll():
    """networking.c:readQueryFromClient, PROTO_IOBUF_LEN: of 2,000 PINGs of 14 bytes 1,170 are whole in the first 16 KiB."""
    run = world_of(scenario(
        "duration: 50ms\n" + node("slowlog-log-slower-than 0\nslowlog-max-len 5000")
        + clients(once("p", "{PING: 1}", pipeline=2000)),
        profile_text=profile(zero=True, read_ns=US),
    ))  # fmt: skip
    starts = run.w.slow[: run.st(dp.SLOW_ID), 1]
    assert run.st(dp.READS) == 2
    assert np.unique(starts, return_counts=True)[1].tolist() == [16384 // 14, 2000 - 16384 // 14]


def test_a_whole_pipeline_is_executed_before_the_next_client():
    """networking.c:processInputBuffer runs until the buffer is used up: 100 commands of one client, then the other's."""
    run = world_of(scenario(
        "duration: 50ms\n" + node("slowlog-log-slower-than 0\nslowlog-max-len 5000")
        + clients(once("p", "{PING: 1}", pipeline=100), once("q", "{DBSIZE: 1}", pipeline=100)),
        profile_text=profile(zero=True, commands={"PING": {"const_ns": 10}, "DBSIZE": {"const_ns": 10}}),
    ))  # fmt: skip
    rows = run.w.slow[: run.st(dp.SLOW_ID)]
    kinds = rows[np.argsort(rows[:, 0]), 3]
    assert kinds.tolist() in ([0] * 100 + [1] * 100, [1] * 100 + [0] * 100)


# ---- serverCron ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hz", "runs"), [(10, 20), (100, 200), (500, 1000)])
def test_server_cron_runs_hz_times_a_second(hz, runs):
    """server.c:serverCron returns 1000 / hz ms; the first run is after 1 ms; an idle server, 2 s."""
    assert world_of(scenario(f"duration: 2s\n{node(f'hz {hz}')}", profile_text=profile(zero=True))).server.cronloops == runs


@pytest.mark.parametrize(
    ("connections", "dynamic", "hz"), [(2000, "yes", 10), (2500, "yes", 20), (5000, "yes", 40), (5000, "no", 10)]
)
def test_dynamic_hz_doubles_while_a_tick_would_visit_more_than_200_clients(connections, dynamic, hz):
    """server.c:serverCron, MAX_CLIENTS_PER_CLOCK_TICK: 2,000 clients at hz 10 are just not too many."""
    body = f"duration: 500ms\n{node(f'dynamic-hz {dynamic}')}" + clients(
        steady("idle", "{open: {rate_per_s: 10}}", connections=connections)
    )
    assert world_of(scenario(body, profile_text=profile(zero=True))).server.hz == hz


def test_a_stall_of_a_second_costs_the_crons_that_were_due_in_it():
    """ae.c:processTimeEvents re-arms from now and never catches up: 3 s at hz 10 with 1 s of stall are 20 or 21 runs, not 30."""
    body = f"duration: 3s\n{node()}" + clients(steady("c", "{open: {rate_per_s: 10}}"))
    stalled = body + 'timeline:\n  - {at: 1s, run: "EVAL s 0", node: main, duration: 1s}\n'
    calm = world_of(scenario(body, profile_text=profile(zero=True))).server.cronloops
    assert calm == 30
    assert world_of(scenario(stalled, profile_text=profile(zero=True))).server.cronloops in (20, 21)


def test_jobs_of_every_100_ms_are_counted_in_runs_so_that_a_stall_stretches_them():
    """server.h:run_with_period counts cronloops: at hz 100 one run in ten does them, whatever the clock says."""
    body = f"duration: 3s\n{node('hz 100')}" + clients(steady("c", "{open: {rate_per_s: 10}}"))
    body += 'timeline:\n  - {at: 1s, run: "EVAL s 0", node: main, duration: 1s}\n'
    run = world_of(scenario(body, profile_text=profile(zero=True, cron_100ms_ns=US)))
    jobs = int(run.w.held[dp.CRON]) // US
    assert jobs == -(-run.server.cronloops // 10)
    assert jobs in (20, 21)


# ---- connections --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "at_least", "at_most"), [("7.0", 1, 20), ("7.2", 1, 20), ("7.4", 150, 10_000)])
def test_a_thousand_connections_are_accepted_at_one_event_and_ten_from_7_4(version, at_least, at_most):
    """socket.c:MAX_ACCEPTS_PER_CALL; max-new-connections-per-cycle since 7.4: polls that 1,500 new clients take."""
    body = "duration: 20ms\n" + node("tcp-backlog 4096", version)
    body += clients(steady("new", "{closed: {think: 1s}}", connections=1500, more=", start: 1ms"))
    run = world_of(scenario(body, profile_text=profile(zero=True, accept_ns=US)))
    assert run.st(dp.ACCEPTED) == 1500
    assert at_least <= run.st(dp.POLLS) <= at_most


def test_clients_beyond_maxclients_are_turned_away():
    """networking.c:acceptCommonHandler: ten are in, the other five are told so and lose their requests."""
    body = f"duration: 50ms\n{node('maxclients 10')}" + clients(
        steady("c", "{closed: {think: 1s}}", connections=15, more=", start: 1ms")
    )
    run = world_of(scenario(body, profile_text=profile(zero=True)))
    assert run.st(dp.CLIENTS) == 10
    assert run.st(dp.REJECTED) >= 5
    assert int(row(run, "c")[dp.G_ERR_CONN]) >= 5
    assert int(row(run, "c")[dp.G_COMPLETED]) == 10


def test_idle_clients_are_closed_after_timeout_and_not_before():
    """networking.c:clientsCronHandleTimeout: idle for more than `timeout` seconds when the cron comes by; 0 is never."""

    def closed(conf: str, seconds: float) -> int:
        body = f"duration: {seconds}s\n{node(conf)}" + clients(steady("c", "{closed: {think: 100s}}", connections=20))
        return world_of(scenario(body, profile_text=profile(zero=True))).st(dp.CLOSED_IDLE)

    assert closed("timeout 2", 2.0) == 0
    assert closed("timeout 2", 4.0) == 20
    assert closed("timeout 0", 4.0) == 0


def test_connection_requests_beyond_the_backlog_are_dropped_and_sent_again_after_a_second():
    """Linux keeps tcp-backlog + 1 connections in the accept queue; a dropped SYN is sent again after 1 s, then 2 s [tcp-rto]."""

    def run(seconds: float) -> Run:
        body = f"duration: {seconds}s\n{node('tcp-backlog 10')}" + clients(
            steady("c", "{closed: {think: 100s}}", connections=30, more=", start: 1ms")
        )
        return world_of(scenario(body, profile_text=profile(zero=True, syn_retry_ns=S)))

    early, later = run(0.9), run(1.5)
    assert (early.st(dp.LISTEN_DROPS), early.st(dp.ACCEPTED)) == (19, 11)
    assert (later.st(dp.LISTEN_DROPS), later.st(dp.ACCEPTED)) == (19 + 8, 22)


# ---- I/O threads --------------------------------------------------------------------------------------------------


def threaded(connections: int, *, io_threads: int = 4, cores: int = 8, do_reads: str = "no") -> dict[str, Any]:
    """Summary of a closed loop with writes dear enough to be worth sharing."""
    body = (
        f"hosts: {{box: {{profile: p.yaml, cores: {cores}}}}}\nduration: 200ms\n"
        + node(f"io-threads {io_threads}\nio-threads-do-reads {do_reads}")
        + clients(steady("c", "{closed: {}}", connections=connections))
    )
    costs = profile(zero=True, poll_ns=500, read_ns=2 * US, write_ns=8 * US, call_ns=500, forkjoin_ns=2 * US)
    return engine.run(scenario(body, profile_text=costs)).summary


def test_io_threads_write_only_from_twice_their_number_of_pending_clients():
    """networking.c:stopThreadedIOIfNeeded: fewer than 2 * io-threads pending writes stop them."""
    assert threaded(7)["nodes"]["main"]["io_threads"]["threaded_writes"] == 0
    assert threaded(50)["nodes"]["main"]["io_threads"]["threaded_writes"] > 1000


def test_io_threads_help_as_far_as_there_are_cores():
    """Fork and join: the write phase takes as long as its longest lane, and lanes need cores."""
    rate = {
        (threads, cores): threaded(64, io_threads=threads, cores=cores)["clients"]["c"]["throughput_per_s"]
        for threads, cores in ((1, 8), (4, 1), (4, 2), (4, 8))
    }
    assert rate[4, 1] <= rate[1, 8]
    assert rate[4, 1] < 0.8 * rate[4, 2]
    assert rate[4, 2] < 0.9 * rate[4, 8]
    assert rate[4, 8] < 4 * rate[1, 8]


def test_io_threads_read_only_if_told_to():
    """io-threads-do-reads no by default: reads stay on the main thread."""
    assert threaded(64)["nodes"]["main"]["io_threads"]["threaded_reads"] == 0
    assert threaded(64, do_reads="yes")["nodes"]["main"]["io_threads"]["threaded_reads"] > 1000
