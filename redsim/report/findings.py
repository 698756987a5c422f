"""Findings: what a run shows, graded, with the figure, the cause and the directive or command to change.

Mirrors latency.c:createLatencyReport (LATENCY DOCTOR) in manner: measure, grade, advise in a sentence.
Differs: clients' latencies and their blame are known here, so a finding can say who suffered. One small function per finding,
each given the Result: the loop's are here, the clients' in client_findings.py, those about memory in memory_findings.py; the list
at the end is the order in which equals are told.
NOT modelled: what the application could do without Redis.
"""

from collections.abc import Callable

import pandas as pd

from redsim.report import facts
from redsim.report.advice import cure
from redsim.report.client_findings import (
    DOMINATES,
    Findings,
    busy_replies,
    client_bound,
    failing,
    neighbours_pipeline,
    network_bound,
    rejected_connections,
    retry_storm,
    timeouts,
)
from redsim.report.crash_findings import CRASH_FINDINGS
from redsim.report.durability_findings import DURABILITY_FINDINGS
from redsim.report.facts import STALL_WARNING_US, number, say_count, say_share, say_times, say_us
from redsim.report.failover_findings import FAILOVER_FINDINGS
from redsim.report.fork_findings import FORK_FINDINGS
from redsim.report.memory_findings import MEMORY_FINDINGS
from redsim.report.replication_findings import REPLICATION_FINDINGS
from redsim.run.result import Finding, Result

_RANK = {"critical": 0, "warning": 1, "info": 2}
STALL_US = 1_000.0  # a loop held this long is felt by thousands of commands; below it is ordinary work
STALL_CRITICAL_US = 100_000.0  # a person notices; usual client time-outs begin here
SATURATED = 0.9
LITTLE_IDLE = 0.75


def command_stalls(result: Result) -> pd.DataFrame:
    """Slow commands of the ledger: node, command, count, total_us, max_us, start_s of the worst; largest
    first.
    """
    rows = result.stalls[result.stalls["event"].isin(["command", "fast-command", "while-busy-script"])]
    rows = rows.assign(command=[facts.command_of(str(text)) for text in rows["because"]])
    rows = rows[rows["command"] != ""].sort_values("duration_us", ascending=False, kind="stable")
    grouped = rows.groupby(["node", "command"], sort=False)
    table = grouped.agg(
        count=("duration_us", "size"),
        total_us=("duration_us", "sum"),
        max_us=("duration_us", "max"),
        start_s=("start_s", "first"),
    )
    return table.reset_index()


def _waited(result: Result, node: str, command: str, max_us: float) -> str:
    view = result.stall_view
    if view is not None and view.node == node and facts.command_of(view.what) in (command, ""):
        queued = facts.waiting_at_end(result)
        return f"; {queued:,} requests were waiting at its end" if queued else ""
    rate = sum(
        number(group.get("offered_per_s"))
        for name, group in facts.groups(result).items()
        if facts.node_of(result, name) == node and not facts.is_closed(result, name)
    )
    return f"; about {say_count(rate * max_us / 1e6)} requests arrived meanwhile" if rate * max_us >= 2e6 else ""


def slow_commands(result: Result) -> Findings:
    """A command that held the loop: KEYS, SMEMBERS, DEL of a big key, EVAL and their like."""
    for row in facts.rows(command_stalls(result)):
        if row.max_us < STALL_US:
            continue
        victim, p999_us, blamed_us = facts.worst_victim(result, row.node, row.command)
        severity = "critical" if row.max_us >= STALL_CRITICAL_US else "warning" if row.max_us >= STALL_WARNING_US else "info"
        if severity == "info" and blamed_us >= DOMINATES * p999_us > 0:
            severity = "warning"
        many = (
            f"{row.count:,} {row.command} held the loop of {row.node} for "
            f"{say_us(row.total_us)} in all, {say_us(row.max_us)} at worst"
        )
        held = f"One {row.command} held the loop of {row.node} for {say_us(row.max_us)}" if row.count == 1 else many
        text = held + _waited(result, row.node, row.command, row.max_us)
        if victim:
            text += f"; p99.9 of {victim} is {say_us(p999_us)}, of which {say_us(blamed_us)} is waiting behind {row.command}"
        yield Finding(severity, text + ".", cure(row.command, facts.versions(result).get(row.node, "7.0")))


def costly_commands(result: Result) -> Findings:
    """One command that eats the main thread without a single long stall."""
    stalled = set(command_stalls(result).query("max_us >= @STALL_US")["command"])
    frame = result.commands.assign(busy_us=result.commands["completed"] * result.commands["usec_per_call"])
    total_us = float(frame["busy_us"].sum())
    for row in facts.rows(frame):
        share = row.busy_us / total_us if total_us > 0 else 0.0
        if share > DOMINATES and row.usec_per_call >= 100 and row.command not in stalled:
            text = (
                f"{row.command} of {row.group} takes {say_share(share)} of all "
                f"command time: {say_us(row.usec_per_call)} per call."
            )
            yield Finding("warning", text, cure(row.command, next(iter(facts.versions(result).values()), "7.0")))


def saturated_loop(result: Result) -> Findings:
    """The main thread has no idle time: growth for an open loop, capacity for a closed one."""
    for node, numbers in facts.nodes(result).items():
        used = facts.loop_share(numbers)
        here = [name for name in facts.groups(result) if facts.node_of(result, name) == node]
        is_open = [name for name in here if not facts.is_closed(result, name)]
        done = sum(number(facts.groups(result)[name].get("throughput_per_s")) for name in here)
        if used <= SATURATED or not here:
            continue
        if any(facts.is_client_bound(result, name) for name in here):
            continue
        if not is_open:
            text = (
                f"The loop of {node} is {say_share(used)} busy. Its clients "
                "are closed loops, so this is its capacity, "
                f"{say_count(done)} requests/s; their latency is connections × pipeline "
                "÷ throughput, not what independent users would see."
            )
            yield Finding("info", text, "to ask about latency, use arrivals: {open: {rate_per_s: …}} below this rate")
            continue
        offered = sum(number(facts.groups(result)[name].get("offered_per_s")) for name in is_open)
        answered = sum(number(facts.groups(result)[name].get("throughput_per_s")) for name in is_open)
        if answered < 0.98 * offered:
            text = (
                f"The loop of {node} is saturated ({say_share(used)} busy): "
                f"{say_count(offered)} requests/s are offered and "
                f"{say_count(answered)} answered; the queue, and with "
                "it latency, grows as long as this lasts."
            )
            yield Finding(
                "critical",
                text,
                "shed or spread load: more nodes, pipelining, cheaper commands, io-threads if reads and writes dominate",
            )
        else:
            text = (
                f"The loop of {node} is {say_share(used)} busy at {say_count(done)} requests/s; "
                "it keeps up, with nothing left for a stall or a peak."
            )
            yield Finding("warning", text, "plan for more nodes, pipelining or cheaper commands before the load grows")


def little_idle(result: Result) -> Findings:
    """Three quarters busy: it works today."""
    for node, numbers in facts.nodes(result).items():
        used = facts.loop_share(numbers)
        if LITTLE_IDLE < used <= SATURATED:
            text = (
                f"The loop of {node} is only {say_share(1 - used)} idle: after a stall "
                "the queue drains slowly, and a peak has little room."
            )
            yield Finding("info", text, "")


def io_threads(result: Result) -> Findings:
    """More I/O threads than cores, or I/O threads that never had enough to do."""
    cores = number((result.summary.get("host") or {}).get("cores"))
    for node, numbers in facts.nodes(result).items():
        threads = numbers.get("io_threads") or {}
        configured = number(threads.get("configured"), 1)
        if configured > cores > 0:
            text = (
                f"{node} runs io-threads {configured:.0f} on {cores:.0f} cores: the threads "
                "spin while they wait and take the main thread's core."
            )
            yield Finding("warning", text, f"io-threads {max(1, int(cores) - 1)}")
        if configured > 1 and number(threads.get("active_share")) < 0.01 and not _own_threads(result, node):
            text = (
                f"io-threads {configured:.0f} on {node} were never active: a loop "
                f"iteration must have {2 * configured:.0f} clients "
                "(2 × io-threads) to write to, and had fewer."
            )
            yield Finding("info", text, "io-threads 1 does the same here")


def _own_threads(result: Result, node: str) -> bool:
    """Redis 8.0's I/O threads have loops of their own and no threshold."""
    return facts.versions(result).get(node) == "8.0"


def host_hiccups(result: Result) -> Findings:
    """The host took the CPU away."""
    rows = result.stalls[result.stalls["event"] == "host-hiccup"]
    for node, mine in rows.groupby("node"):
        if float(mine["duration_us"].max()) < STALL_US:
            continue
        victim, p999_us, blamed_us = facts.worst_victim(result, str(node), "hiccup")
        text = f"The host took the CPU from {node} {say_times(len(mine))}, {say_us(mine['duration_us'].max())} at worst"
        text += f"; of {victim}'s p99.9 of {say_us(p999_us)}, {say_us(blamed_us)} is due to that" if victim else ""
        yield Finding(
            "warning",
            text + ". No Redis setting changes it.",
            "redis-cli --intrinsic-latency; CPU pinning, quotas, noisy neighbours",
        )


def long_cron(result: Result) -> Findings:
    """serverCron itself held the loop: it moved a hash table's keys, or looked after very many connections."""
    rows = result.stalls[result.stalls["event"] == "server-cron"]
    for node, mine in rows.groupby("node"):
        longest_us = float(mine["duration_us"].max())
        victim, p999_us, blamed_us = facts.worst_victim(result, str(node), "serverCron")
        text = f"serverCron held the loop of {node} {say_times(len(mine))} for {say_us(longest_us)} at worst"
        if victim:
            text += f"; of {victim}'s p99.9 of {say_us(p999_us)}, {say_us(blamed_us)} is due to that"
        clients = say_count(number(facts.nodes(result)[str(node)].get("connected_clients")))
        why = f"In each run it looks after connections / hz of the {clients} there are"
        cure = "dynamic-hz yes, a larger hz, or fewer connections (a pool)"
        if result.memory[result.memory["node"] == node]["dict_table_bytes"].nunique() > 1:
            why = "A hash table changed its size, and each run moves keys for a millisecond until all have the new one"
            cure = "activerehashing no leaves that to the commands, a bucket each; both tables stay for longer"
        is_felt = longest_us >= STALL_WARNING_US or blamed_us >= DOMINATES * p999_us > 0
        yield Finding("warning" if is_felt else "info", f"{text}. {why}.", cure)


def blind_slowlog(result: Result) -> Findings:
    """SLOWLOG times execution only, so those who waited are not in it."""
    for node, numbers in facts.nodes(result).items():
        here = [name for name in facts.groups(result) if facts.node_of(result, name) == node]
        slow = sum(facts.count_at_least(result, name, 10_000_000) for name in here)
        logged = len(numbers.get("slowlog") or [])
        if slow >= 10 and slow > 10 * logged:
            text = (
                f"SLOWLOG of {node} has {logged} entr{'y' if logged == 1 else 'ies'}, "
                f"while {slow:,} requests took 10 ms or more: "
                "it times execution only, so those who waited are not in it."
            )
            yield Finding(
                "info",
                text,
                "measure in the clients; latency-monitor-threshold and LATENCY HISTORY show the stall itself",
            )


def not_modelled_yet(result: Result) -> Findings:
    """Directives of the scenario that the model does not act on."""
    rows = result.directives[result.directives["status"] == "not modelled yet"]
    if not rows.empty:
        names = ", ".join(dict.fromkeys(rows["directive"].astype(str)))
        are = "directive is" if len(rows) == 1 else "directives are"
        yield Finding(
            "info",
            f"{len(rows)} {are} read but not modelled yet, so this run says nothing about: {names}.",
            "",
        )


def cut_short(result: Result) -> Findings:
    """A run stopped before its end, or that answered nobody."""
    asked_s = result.scenario.file.duration / 1e9
    if result.partial:
        text = f"The run was stopped at {facts.duration_s(result):.3g} s of {asked_s:.3g} s; all figures cover that part only."
        yield Finding("warning", text, "")
    for name, group in facts.groups(result).items():
        if not number(group.get("completed")) and not result.partial:
            yield Finding(
                "critical",
                f"No request of {name} was answered.",
                "look at start, stop, timeout and maxclients",
            )


_ALL: list[Callable[[Result], Findings]] = [
    cut_short, *FAILOVER_FINDINGS, slow_commands, saturated_loop, timeouts, retry_storm, rejected_connections, busy_replies,
    neighbours_pipeline, failing, host_hiccups, long_cron, *CRASH_FINDINGS, *DURABILITY_FINDINGS, *FORK_FINDINGS,
    *MEMORY_FINDINGS, *REPLICATION_FINDINGS,
    costly_commands, client_bound, io_threads, blind_slowlog, network_bound, little_idle,
]  # fmt: skip


def findings(result: Result) -> list[Finding]:
    """All findings of a run, the gravest first; "nothing notable" with figures when there is nothing to
    tell.
    """
    found = [finding for look in _ALL for finding in look(result)]
    if not found:
        calm = [
            f"{name}: p99 {say_us(facts.latency_us(group, 'p99'))} at "
            f"{say_count(number(group.get('throughput_per_s')))} requests/s"
            for name, group in facts.groups(result).items()
        ]
        used = max((facts.loop_share(node) for node in facts.nodes(result).values()), default=0.0)
        said = "; ".join([*calm[:3], f"the loop is {say_share(used)} busy"])
        found = [Finding("info", f"Nothing notable. {said}.", "")]
    found += list(not_modelled_yet(result))
    return sorted(found, key=lambda finding: _RANK[finding.severity])
