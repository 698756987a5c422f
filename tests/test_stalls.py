"""What a command, a script or a client does to everybody else, one claim a test; and that a run can be repeated.

The claims are those of Redis' sources (file and function named in each docstring) or of the literature on overload.
"""

import functools
from typing import Any

import pytest

from redsim.dataplane import layout as dp
from redsim.run import engine
from redsim.scenario.load import Scenario
from redsim.units import MS, US
from tests.small_worlds import Run, clients, longest_ns, node, profile, row, scenario, steady, world_of

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


def test_a_server_in_debug_sleep_uses_no_cpu():
    """debug.c: DEBUG SLEEP is nanosleep(); the loop is held for 600 of 1000 ms, the CPU is not."""
    body = "duration: 1s\n" + node("enable-debug-command local") + clients(steady("p", "{open: {rate_per_s: 100}}"))
    body += 'timeline:\n  - {at: 100ms, run: "DEBUG SLEEP 0.6", node: main}\n'
    main = engine.run(scenario(body)).summary["nodes"]["main"]
    assert main["main_thread_busy_s"] > 0.6
    assert main["cpu_utilisation"] < 0.1


def test_every_stall_has_its_queue_counted_also_when_a_hiccup_falls_into_the_same_turn():
    """ledger.py: requests waiting at a stall's end are known when the arrivals up to then are admitted."""
    stalls = "".join(f"  - {{at: {20 * i}ms, run: 'EVAL script 0', duration: 3ms, node: main}}\n" for i in range(1, 40))
    body = f"duration: 1s\n{node()}" + clients(steady("p", "{open: {rate_per_s: 20000}}")) + "timeline:\n" + stalls
    hosts = "hosts: {box: {profile: default, hiccups: {every: 2ms, table: [[1500us, 1]]}}}"
    w = world_of(Scenario.from_text(f"question: q?\n{hosts}\n{body}")).w
    assert w.st[dp.STALLS] > 200
    assert (w.stalls[: int(w.st[dp.STALLS]), 4] >= 0).all()


def test_slowlog_never_names_the_victims():
    """Its time is the command's own function (facts 14.1): PINGs waited 200 ms behind the script, which is its only entry."""
    run = one_script(200)
    assert longest_ns(run, "p", "PING") > 190 * MS
    assert run.st(dp.SLOW_ID) == 1
    assert run.built.kinds[int(run.w.slow[0, 3])].name == "EVAL"
    assert int(run.w.slow[0, 2]) == 200 * MS


def test_slowlog_keeps_the_newest_slowlog_max_len():
    """slowlog.c: the oldest goes; ids go on counting."""
    body = (
        "duration: 1s\n"
        + node("slowlog-log-slower-than 0\nslowlog-max-len 7")
        + clients(steady("p", "{open: {rate_per_s: 100, process: constant}}"))
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
        return sum(getattr(run.w, name).nbytes for name in dp.ARRAYS), run.st(dp.COMMANDS)

    (short, few), (long, many) = size(2), size(20)
    assert many > 9 * few
    assert long == short
