"""What the event loop promises, one claim a test, on runs so small that most answers are exact integers.

The claims are those of Redis' sources (file and function named in each docstring); profiles are zero but for what a claim is
about, so that a latency is a sum anyone can check: 1 ns to the server, the work, 1 ns back.
"""

import functools
from typing import Any

import numpy as np
import pytest

from redsim.dataplane import layout as dp
from redsim.run import engine
from redsim.scenario.load import Scenario
from redsim.units import MS, US, S
from tests.small_worlds import Run, profile, scenario, world_of

WAY_NS = 1  # each way, in a zero profile


def node(conf: str = "", version: str = "7.0") -> str:
    lines = "".join(f"\n      {line}" for line in conf.splitlines())
    return f'nodes:\n  main:\n    host: box\n    version: "{version}"\n    conf: |\n      save ""{lines}\n'


def once(name: str, command: str, *, at: str = "1ms", dataset: str = "", pipeline: int = 1) -> str:
    """A group with one connection that sends `pipeline` requests at `at`, once."""
    keys = f", keys: {{dataset: {dataset}}}" if dataset else ""
    return (
        f"  {name}: {{node: main, connections: 1, start: {at}, pipeline: {pipeline}, requests: {pipeline},\n"
        f"    arrivals: {{closed: {{}}}}, commands: {command}{keys}}}\n"
    )


def steady(name: str, arrivals: str, *, connections: int = 50, command: str = "{PING: 1}", more: str = "") -> str:
    return f"  {name}: {{node: main, connections: {connections}, arrivals: {arrivals}, commands: {command}{more}}}\n"


def clients(*groups: str) -> str:
    return "clients:\n" + "".join(groups)


def longest_ns(run: Run, group: str, command: str) -> int:
    """Exact: the longest latency of the whole run."""
    return int(run.w.smax[-1, run.series(group, command), 0])


def row(run: Run, group: str) -> Any:
    return run.w.group[[plan.name for plan in run.built.plans.plans].index(group)]


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


# ---- SLOWLOG, BUSY, DEBUG SLEEP -----------------------------------------------------------------------------------


def one_script(milliseconds: int, conf: str = "", *, run: str = "EVAL s 0", rate: int = 2000) -> Run:
    """PINGs at `rate` for 1 s and one script (or DEBUG SLEEP) at 0.5 s."""
    length = f", duration: {milliseconds}ms" if run.startswith("EVAL") else ""
    body = f"duration: 1s\n{node(conf)}" + clients(steady("p", f"{{open: {{rate_per_s: {rate}}}}}"))
    body += f'timeline:\n  - {{at: 500ms, run: "{run}", node: main{length}}}\n'
    return world_of(scenario(body, profile_text=profile(zero=True, hook_ns=420 * US)))


def test_slowlog_takes_what_lasts_slowlog_log_slower_than_and_nothing_shorter():
    """slowlog.c:slowlogPushEntryIfNeeded: 10,000 us by default, -1 is off."""
    assert one_script(9).st(dp.SLOW_ID) == 0
    assert one_script(10).st(dp.SLOW_ID) == 1
    assert one_script(9, "slowlog-log-slower-than 5000").st(dp.SLOW_ID) == 1
    assert one_script(900, "slowlog-log-slower-than -1").st(dp.SLOW_ID) == 0


def test_slowlog_never_names_the_victims():
    """Its time is the command's own function (facts 14.1): PINGs waited 200 ms behind the script, which is its only entry."""
    run = one_script(200)
    assert longest_ns(run, "p", "PING") > 190 * MS
    assert run.st(dp.SLOW_ID) == 1
    assert run.built.kinds[int(run.w.slow[0, 3])].name == "EVAL"
    assert int(run.w.slow[0, 2]) == 200 * MS


def test_slowlog_keeps_the_newest_slowlog_max_len():
    """slowlog.c: the oldest goes; ids go on counting."""
    body = "duration: 1s\n" + node("slowlog-log-slower-than 0\nslowlog-max-len 7") + clients(
        steady("p", "{open: {rate_per_s: 100, process: constant}}")
    )
    result = engine.run(scenario(body, profile_text=profile(zero=True)))
    ids = [entry["id"] for entry in result.summary["nodes"]["main"]["slowlog"]]
    assert ids == list(range(ids[0], ids[0] - 7, -1))
    assert ids[0] == result.summary["commands"] - 1


def test_busy_is_answered_only_after_busy_reply_threshold():
    """script.c: 5,000 ms by default; past it everybody else gets -BUSY at the next hook. 300 ms of script, threshold 100."""
    assert int(row(one_script(300), "p")[dp.G_ERR_BUSY]) == 0
    busy = row(one_script(300, "busy-reply-threshold 100"), "p")
    assert int(busy[dp.G_ERR_BUSY]) == pytest.approx(2000 * 0.3, rel=0.1)  # those that waited 100 ms, and those after
    assert int(busy[dp.G_COMPLETED]) + int(busy[dp.G_ERR_BUSY]) == int(busy[dp.G_OFFERED])


def test_debug_sleep_cannot_be_interrupted():
    """debug.c sleeps inside the command: no -BUSY however low the threshold, everybody waits it out."""
    run = one_script(300, "busy-reply-threshold 100\nenable-debug-command yes", run="DEBUG SLEEP 0.3")
    assert int(row(run, "p")[dp.G_ERR_BUSY]) == 0
    assert longest_ns(run, "p", "PING") > 290 * MS


# ---- freeing ------------------------------------------------------------------------------------------------------


def worst_stall_ms(command: str, conf: str = "") -> float:
    """The longest stall of one command on a set of a million and 100,000 strings; the default profile's costs."""
    body = f"duration: 2s\n{node(conf)}" + """\
datasets:
  big: {node: main, keys: 1, type: set, elements: 1000000, value_bytes: 10}
  small: {node: main, keys: 100000}
""" + clients(steady("p", "{open: {rate_per_s: 1000}}"))  # fmt: skip
    run = world_of(scenario(body + f'timeline:\n  - {{at: 500ms, run: "{command}", node: main}}\n'))
    stalls = run.w.stalls[: run.st(dp.STALLS)]
    return int(stalls[stalls[:, 2] >= dp.CAUSE0, 1].max(initial=0)) / MS


def test_del_of_a_big_set_stalls_and_unlink_does_not():
    """lazyfree.c: UNLINK frees in a bio thread; DEL of a million members took 412 ms in the lab."""
    assert worst_stall_ms("DEL big:0") == pytest.approx(412, rel=0.1)
    assert worst_stall_ms("UNLINK big:0") == 0


def test_lazyfree_lazy_user_del_turns_del_into_unlink():
    """db.c:delGenericCommand: DEL behaves as UNLINK."""
    assert worst_stall_ms("DEL big:0", "lazyfree-lazy-user-del yes") == 0


def test_flushall_stalls_and_flushall_async_does_not():
    """db.c:emptyDbAsync swaps the tables; FLUSHALL frees a hundred thousand keys on the spot; lazyfree-lazy-user-flush."""
    assert worst_stall_ms("FLUSHALL") > 50
    assert worst_stall_ms("FLUSHALL ASYNC") == 0
    assert worst_stall_ms("FLUSHALL", "lazyfree-lazy-user-flush yes") == 0


@pytest.mark.xfail(strict=True, reason="FLUSHALL SYNC is taken for a plain FLUSHALL, which lazyfree-lazy-user-flush makes lazy")
def test_flushall_sync_stalls_whatever_lazyfree_lazy_user_flush_says():
    """db.c:getFlushCommandFlags: the word SYNC wins over the directive."""
    assert worst_stall_ms("FLUSHALL SYNC", "lazyfree-lazy-user-flush yes") > 50


# ---- what clients do to themselves --------------------------------------------------------------------------------


@functools.cache
def storm(retries: str) -> Any:
    """9,000/s of 35 us each (32 % load), a time-out of 50 ms, one stall of 200 ms at 1 s: answers by window of 100 ms, 4 s."""
    body = f"duration: 4s\nwindow: 100ms\n{node()}" + clients(
        steady("c", "{open: {rate_per_s: 9000}}", connections=200, command="{EVAL: {weight: 1, duration: 30us}}",
               more=f", timeout: 50ms, on_timeout: abandon, retries: {retries}")
    )  # fmt: skip
    run = world_of(scenario(body + 'timeline:\n  - {at: 1s, run: "EVAL s 0", node: main, duration: 200ms}\n'))
    return run.w.heat[:, run.series("c", "EVAL"), :].sum(axis=1)


def test_retries_without_back_off_keep_a_storm_alive_after_its_cause_is_gone():
    """Metastable failure [bronson-2021]: three retries make four times 32 % of what nobody waits for any more."""
    answered = storm("{max: 3, backoff: 1ms, cap: 1ms}")
    assert answered[:10].mean() > 850
    assert answered[-10:].mean() < 90


def test_a_back_off_that_grows_lets_the_storm_die_out():
    """The same with a back-off from 500 ms to 10 s and full jitter, and without retries: the last second is as the first."""
    assert storm("{max: 3, backoff: 500ms, cap: 10s, jitter: full}")[-10:].mean() > 850
    assert storm("{max: 0}")[-10:].mean() > 850


def test_in_a_reconnect_storm_nobody_is_blamed_for_less_than_nothing():
    """2,000 connections time out, hang up and connect again; the blame of every latency bucket adds up, cause by cause >= 0."""
    body = f"duration: 1500ms\n{node()}" + clients(
        steady("c", "{open: {rate_per_s: 25000}}", connections=2000, more=", timeout: 50ms, retries: {max: 3}")
    )
    run = world_of(scenario(body + 'timeline:\n  - {at: 500ms, run: "EVAL s 0", node: main, duration: 400ms}\n'))
    assert int(row(run, "c")[dp.G_RETRIED]) > 10_000
    assert run.w.blame.min() >= 0


def test_a_closed_loop_omits_the_latency_an_open_loop_suffers():
    """Coordinated omission [tene-2013]: same rate, same stall of 200 ms in 2 s; 50 closed clients send 50 requests into it."""
    stall = 'timeline:\n  - {at: 1s, run: "EVAL s 0", node: main, duration: 200ms}\n'
    head = "duration: 2s\n" + node()

    def figures(arrivals: str) -> Any:
        return engine.run(scenario(head + clients(steady("c", arrivals)) + stall)).summary["clients"]["c"]

    closed = figures("{closed: {think: 5ms}}")
    opened = figures(f"{{open: {{rate_per_s: {closed['throughput_per_s']}}}}}")
    assert opened["latency_us"]["p99"] > 100_000
    assert closed["latency_us"]["p99"] < 1_000
    assert closed["latency_us"]["max"] > 190_000


# ---- repeatability ------------------------------------------------------------------------------------------------


@functools.cache
def mixed(seconds: int = 2, seed: int = 1) -> Scenario:
    keys = ", keys: {dataset: d, popularity: {zipf: 1}}"
    group = steady("c", "{open: {rate_per_s: 40000}}", command="{GET: 0.8, SET: 0.2}", more=keys)
    data = "datasets: {d: {node: main, keys: 10000}}\n"
    return scenario(f"duration: {seconds}s\nseed: {seed}\n{node()}{data}{clients(group)}")


def test_the_same_seed_gives_the_same_digest():
    """Same scenario, seed and version: same integers."""
    assert engine.run(mixed()).summary["digest"] == engine.run(mixed()).summary["digest"]


def test_another_seed_gives_another_digest_and_much_the_same_figures():
    """Luck is in the draws, not in the answer: p50 within 1 %, p99 within 5 %, throughput within 1 %."""
    one, two = (engine.run(mixed(seed=seed)).summary for seed in (1, 2))
    assert one["digest"] != two["digest"]
    a, b = one["clients"]["c"], two["clients"]["c"]
    assert a["latency_us"]["p50"] == pytest.approx(b["latency_us"]["p50"], rel=0.01)
    assert a["latency_us"]["p99"] == pytest.approx(b["latency_us"]["p99"], rel=0.05)
    assert a["throughput_per_s"] == pytest.approx(b["throughput_per_s"], rel=0.01)


def test_watching_a_run_does_not_change_it():
    """A progress callback sees times and counts and touches nothing."""
    calls: list[tuple[int, int]] = []
    watched = engine.run(mixed(), progress=lambda now, commands: calls.append((now, commands)))
    assert watched.summary["digest"] == engine.run(mixed()).summary["digest"]
    assert calls == sorted(calls)
    assert calls[-1][1] == watched.summary["commands"]


def test_a_group_that_is_added_moves_nobody_elses_draws():
    """One named stream per consumer: the offered load of `a` is the same, window by window, with and without `b`."""
    def offered(*groups: str) -> Any:
        body = "duration: 1s\n" + node() + clients(*groups)
        run = world_of(scenario(body))
        return run.w.offered[:, [plan.name for plan in run.built.plans.plans].index("a")].tolist()

    a, b = steady("a", "{open: {rate_per_s: 5000}}"), steady("b", "{open: {rate_per_s: 9000}}")
    assert offered(a) == offered(a, b) == offered(b, a)


def test_memory_does_not_grow_with_the_number_of_commands():
    """A request's row is used again: a run ten times as long, with as many windows, has a World of the same size."""
    def size(seconds: int) -> tuple[int, int]:
        run = world_of(mixed(seconds))
        return sum(array.nbytes for array in run.w), run.st(dp.COMMANDS)

    (short, few), (long, many) = size(2), size(20)
    assert many > 9 * few
    assert long == short
