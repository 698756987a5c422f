"""Findings and the answer: each fires on its cause, with the figure and the cure, and not on a calm run."""

import dataclasses
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_example import calm, scenario, stalled

from redsim.report import facts
from redsim.report.answer import answer
from redsim.report.findings import findings
from redsim.run.result import Result


def test_the_answer_names_culprit_sufferers_and_share() -> None:
    """DESIGN §2, blame: "of p99.9 = 182 ms, 171 ms was waiting behind KEYS"."""
    said = answer(stalled())
    assert said.startswith("One KEYS at t = 10 s held the event loop of main for 214 ms: 4,299 requests waited")
    assert "p99.9 of api is 199 ms (median 40.3 µs), 99.9 % of it waiting behind KEYS." in said


def test_the_answer_of_a_calm_run_has_its_figures() -> None:
    """DESIGN §6: the answer in the first sentence, also when nothing happened."""
    assert re.search(r"api waits 40\.3 µs at the median, 63\.2 µs at p99", answer(calm()))


def test_a_stall_too_rare_for_p999_is_not_blamed_for_it() -> None:
    """A stall that holds 0.01 % of the requests is in the maximum, not in p99.9 (arithmetic)."""
    result = stalled()
    api = result.summary["clients"]["api"]
    api["latency_us"] |= {"p999": 90.0}
    api["blame_us"]["p999"] = {"network": 18.0, "serverCron": 70.0, "KEYS": 2.0}
    said = answer(result)
    assert "api saw 214 ms at worst, but p99.9 of api is 90 µs" in said
    assert "waiting behind" not in said


def _saturate(result: Result) -> Result:
    result.summary["nodes"]["main"]["cpu_utilisation"] = 0.998
    result.summary["clients"]["api"] |= {"offered_per_s": 90_000.0, "throughput_per_s": 70_000.0}
    return result


def _closed(result: Result) -> Result:
    group = {
        "node": "main",
        "connections": 50,
        "arrivals": {"closed": {}},
        "commands": {"GET": 1},
        "keys": {"dataset": "users"},
    }
    result = dataclasses.replace(result, scenario=scenario(api=group))
    result.summary["nodes"]["main"]["cpu_utilisation"] = 0.998
    return result


def _api(**change: Any) -> Any:
    def changed(result: Result) -> Result:
        result.summary["clients"]["api"] |= change
        return result

    return changed


def _node(**change: Any) -> Any:
    def changed(result: Result) -> Result:
        result.summary["nodes"]["main"] |= change
        return result

    return changed


def _p50(**parts: float) -> Any:
    return _api(blame_us={"p50": parts})


def _ledger(event: str, duration_us: float, because: str) -> Any:
    def changed(result: Result) -> Result:
        row = pd.DataFrame([(5.0, "main", event, duration_us, because)], columns=list(result.stalls.columns))
        return dataclasses.replace(result, stalls=row)

    return changed


def _pipelines(result: Result) -> Result:
    batch = {
        "node": "main",
        "connections": 2,
        "pipeline": 100,
        "arrivals": {"closed": {}},
        "commands": {"MGET": 1},
    }
    api = {
        "node": "main",
        "connections": 50,
        "arrivals": {"open": {"rate_per_s": 20000}},
        "commands": {"GET": 1},
    }
    result = dataclasses.replace(result, scenario=scenario(api=api, batch=batch))
    result.summary["clients"]["batch"] = {**result.summary["clients"]["api"], "by_command": {"MGET": {}}}
    result.summary["clients"]["api"]["blame_us"] = {"p99": {"MGET": 900.0, "network": 20.0}}
    return result


def _costly(result: Result) -> Result:
    commands = result.commands.copy()
    commands["command"], commands["usec_per_call"] = ["ZRANGE", "SET"], [640.0, 2.0]
    return dataclasses.replace(result, commands=commands)


FIRES = {
    "saturated": (_saturate, "critical", "90,000 requests/s are offered and 70,000 answered", "more nodes"),
    "capacity": (_closed, "info", "closed loops, so this is its capacity", "arrivals: {open"),
    "little-idle": (_node(cpu_utilisation=0.85), "info", "only 15 % idle", ""),
    "client-bound": (
        _p50(client=80.0, network=10.0),
        "warning",
        "bound by its client: 80 µs",
        "more client threads",
    ),
    "network-bound": (
        _p50(network=500.0, client=10.0),
        "info",
        "waits for the network: 500 µs",
        "pipelining",
    ),
    "timeouts": (_api(errors={"timeout": 50_000}), "critical", "50,000 attempts of api timed out", "cause"),
    "retry-storm": (_api(retries=400_000), "critical", "multiply its load by 2.1", "jitter"),
    "rejected": (_node(rejected_connections=12), "critical", "rejected 12 connections", "raise maxclients"),
    "busy": (_api(errors={"busy": 7}), "critical", "7 requests of api were answered BUSY", "SCRIPT KILL"),
    "io-threads-cores": (
        _node(io_threads={"configured": 8, "active_share": 0.9}),
        "warning",
        "io-threads 8 on 2 cores",
        "io-threads 1",
    ),
    "io-threads-idle": (
        _node(io_threads={"configured": 2, "active_share": 0.0}),
        "info",
        "must have 4 clients (2 × io-threads)",
        "io-threads 1",
    ),
    "hiccup": (
        _ledger("host-hiccup", 21_000, "the host ran others"),
        "warning",
        "took the CPU",
        "intrinsic-latency",
    ),
    "pipelines": (
        _pipelines,
        "warning",
        "api waits behind batch's pipelines of 100: 900 µs",
        "shorter pipeline",
    ),
    "costly": (_costly, "warning", "ZRANGE of api takes", "LIMIT"),
    "del": (
        _ledger("command", 340_000, "DEL of a set of 5,000,000 members"),
        "critical",
        "One DEL",
        "UNLINK",
    ),
    "smembers": (_ledger("command", 12_000, "SMEMBERS of 90,000"), "warning", "One SMEMBERS", "SSCAN"),
    "flushall": (
        _ledger("command", 1.5e6, "FLUSHALL of 3,000,000 keys"),
        "critical",
        "One FLUSHALL",
        "ASYNC",
    ),
    "eval": (_ledger("command", 2e6, "EVAL script of 2 s"), "critical", "One EVAL", "busy-reply-threshold"),
    "debug-sleep": (
        _ledger("command", 5e5, "DEBUG SLEEP 0.5"),
        "critical",
        "One DEBUG SLEEP",
        "enable-debug",
    ),
    "unknown": (_ledger("command", 15_000, "GEOSEARCH of 9,000"), "warning", "One GEOSEARCH", "SLOWLOG GET"),
}


@pytest.mark.parametrize("case", FIRES.values(), ids=FIRES.keys())
def test_a_finding_fires_on_its_cause_and_not_on_a_calm_run(case: Any) -> None:
    """Brief of the report: graded sentences with the figure, the cause and what to change."""
    change, severity, text, directive = case
    before = findings(calm())
    told = [found for found in findings(change(calm())) if text in found.text]
    assert [found for found in before if text in found.text] == []
    assert [found.severity for found in told] == [severity]
    assert directive in told[0].directive


def test_lua_time_limit_is_named_as_the_nodes_version_names_it() -> None:
    """redis.conf of 6.2 has lua-time-limit, 7.0 renames it busy-reply-threshold."""
    result = _ledger("command", 2e6, "EVAL script of 2 s")(calm())
    file = result.scenario.file
    node = file.nodes["main"].model_copy(update={"version": "6.2"})
    result.scenario.file = file.model_copy(update={"nodes": {"main": node}})
    assert any("lua-time-limit" in found.directive for found in findings(result))


def test_slowlog_is_called_blind_to_those_who_waited() -> None:
    """slowlog.c times execution only: one entry for KEYS, none for the thousands behind it."""
    told = [found.text for found in findings(stalled()) if "SLOWLOG of main has 1 entry" in found.text]
    assert told
    assert int(re.search(r"while ([\d,]+) requests", told[0])[1].replace(",", "")) > 4_000  # type: ignore[index]


def test_a_calm_run_has_nothing_notable() -> None:
    """Brief of the report: "nothing notable: p99 x at y % utilisation"."""
    said = [found.text for found in findings(calm())]
    assert said[0] == "Nothing notable. api: p99 63.2 µs at 19,998 requests/s; the loop is 27 % busy."
    assert all(found.severity == "info" for found in findings(calm()))


def test_findings_are_told_gravest_first() -> None:
    """Brief of the report: graded."""
    ranks = [{"critical": 0, "warning": 1, "info": 2}[f.severity] for f in findings(_saturate(stalled()))]
    assert ranks == sorted(ranks)
    assert ranks[0] == 0


# ---- reading the buckets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.5, 0.99, 0.999])
def test_percentiles_read_off_the_buckets_are_within_a_bucket(share: float) -> None:
    """1/128 buckets: the summary's own percentiles were taken from the raw latencies (numpy)."""
    result = stalled()
    edges, counts = facts.run_counts(result, "api")
    name = {0.5: "p50", 0.99: "p99", 0.999: "p999"}[share]
    exact = result.summary["clients"]["api"]["latency_us"][name]
    assert facts.percentiles_us(edges, counts, np.array([share]))[0] == pytest.approx(exact, rel=1 / 128)


def test_queue_and_drain_are_counted_from_the_view() -> None:
    """Arithmetic: answered before the end, two that waited at it, one that came later, and KEYS itself."""
    result = stalled()
    view = result.stall_view
    assert view is not None
    end = view.end_ns
    rows = [(-9, -5), (-8, 30), (-1, 40), (7, 90)]
    times = pd.DataFrame([(end + a, end + b) for a, b in rows], columns=["arrived_ns", "done_ns"])
    requests = times.assign(group="api", command="GET")
    culprit = {"arrived_ns": view.start_ns - 9, "done_ns": end + 95, "group": "cli", "command": "KEYS"}
    requests = pd.concat([requests, pd.DataFrame([culprit])])
    result = dataclasses.replace(result, stall_view=dataclasses.replace(view, requests=requests))
    assert facts.waiting_at_end(result) == 2
    assert facts.drained_ns(result) == 40


def test_the_command_is_read_out_of_a_stalls_reason() -> None:
    """records.py: a stall is written with its cause; the reason begins with or holds the command's name."""
    assert facts.command_of("KEYS * on 1,000,000 keys") == "KEYS"
    assert facts.command_of("freeing 5 MiB inside DEBUG SLEEP 0.5") == "DEBUG SLEEP"
    assert facts.command_of("the host ran somebody else") == ""


def test_a_long_run_is_joined_into_few_windows_and_loses_no_request() -> None:
    """Conservation: 1,000 windows of 100 ms become 334 of 300 ms, with the same requests."""
    result = stalled()
    tall = [dataclasses.replace(series, by_window=np.tile(series.by_window, (5, 1))) for series in result.series]
    long = dataclasses.replace(result, series=tall)
    _, counts, window_ns = facts.window_counts(long, "api")
    assert (len(counts), window_ns) == (334, 3 * result.window_ns)
    assert counts.sum() == sum(series.by_window.sum() for series in tall)


def test_the_largest_latency_of_a_window_is_the_largest_of_its_commands() -> None:
    """Arithmetic on the latency frame; a window without a request is NaN, not 0."""
    result = stalled()
    largest = facts.max_by_window_us(result, "api", result.window_ns, 201)
    at_stall = result.latency[np.isclose(result.latency["start_s"], 10.0)]
    assert largest[100] == at_stall["max_us"].max()
    assert np.isnan(largest[200])


def test_a_timelines_redis_cli_is_not_the_reports_subject() -> None:
    """A timeline entry is a redis-cli of its own: it is in the command table, not among the sufferers."""
    result = stalled()
    result.summary["clients"]["redis-cli"] = {**result.summary["clients"]["api"], "latency_us": {"p999": 9e9}}
    assert list(facts.groups(result)) == ["api"]
    assert answer(result) == answer(stalled())
