"""Findings about children: who waited for a fork, how much was copied, what could not be saved, whom the host killed.

Mirrors LATENCY DOCTOR's grades of a fork (10, 25 and 100 GB/s) and what redis-server says at start about overcommit_memory and
huge pages.
Differs: copied bytes are told beside the memory the host has.
NOT modelled: what a restart would cost after a kill.
"""

from typing import Any

from redsim.report import facts
from redsim.report.client_findings import Findings
from redsim.report.facts import STALL_WARNING_US, number, say_count, say_share, say_times, say_us
from redsim.run.result import Finding, Result
from redsim.units import GIB, say_bytes

CRITICAL_US = 100_000.0
TERRIBLE_GIB_PER_S, POOR_GIB_PER_S = 10, 25  # latency.c: createLatencyReport
MANY_COPIED = 0.3  # of RSS
OFTEN = 0.4  # of the time with a child at work
SHARED_CORE = 0.1  # of p99.9
GOOD = ("ok", "at work", "killed by FLUSHALL", "killed: no replica is left to send it to")  # statuses that are no failure
COW, CORE = "copy-on-write", "sharing a core with a child"


def _children(numbers: dict[str, Any]) -> list[dict[str, Any]]:
    return list(numbers.get("children") or [])


def fork_stalls(result: Result) -> Findings:
    """fork(2) held the loop: how long, for how much memory, who felt it."""
    for node, numbers in facts.nodes(result).items():
        row = (numbers.get("stalls") or {}).get("fork")
        forks = [one for one in _children(numbers) if one["fork_ms"]]
        if not row or not forks:
            continue
        last = forks[-1]
        rate = number(last["rss_bytes"]) / GIB / max(number(last["fork_ms"]) / 1000, 1e-9)
        worst = number(row["max_us"])
        severity = "critical" if worst >= CRITICAL_US else "warning" if worst >= STALL_WARNING_US else "info"
        text = (
            f"Forking held the loop of {node} {say_times(int(row['count']))}, {say_us(worst)} at worst, to copy the page tables"
            f" of {say_bytes(int(number(last['rss_bytes'])))} ({rate:.3g} GiB/s)"
        )
        victim, p999_us, blamed_us = facts.worst_victim(result, node, "fork")
        if victim:
            text += f"; p99.9 of {victim} is {say_us(p999_us)}, of which {say_us(blamed_us)} is waiting for it"
        slow = rate < TERRIBLE_GIB_PER_S
        cure = "a host that forks faster (hardware virtualisation, not Xen PV)" if slow else "smaller instances"
        yield Finding(severity, text + ".", f'{cure}, or save on a replica only: save ""')


def copied_pages(result: Result) -> Findings:
    """How much memory a child took besides: pages that the parent wrote meanwhile."""
    for node, numbers in facts.nodes(result).items():
        saves = [one for one in _children(numbers) if one["rss_bytes"] and one["fork_ms"]]
        if not saves:
            continue
        most = max(saves, key=lambda one: number(one["cow_bytes"]))
        copied, rss = number(most["cow_bytes"]), number(most["rss_bytes"])
        host = facts.host_memory_bytes(result)
        text = (
            f"While a child of {node} saved, {say_bytes(int(copied))} were copied ({say_share(copied / rss)} of RSS): it needs up"
            f" to {say_bytes(int(copied + rss))}"
        )
        text += f" of the host's {say_bytes(int(host))}." if host else "."
        is_much = copied > MANY_COPIED * rss or (host and copied + rss > 0.9 * host)
        yield Finding("warning" if is_much else "info", text, "leave that room above maxmemory; save when little is written")


def failed_saves(result: Result) -> Findings:
    """A fork that was refused, a disk without space, a child that was killed; and what that did to writes."""
    for node, numbers in facts.nodes(result).items():
        bad = [one for one in _children(numbers) if one["status"] not in GOOD]
        refused = number(numbers.get("rdb_misconf_errors"))
        if bad:
            cure = "vm.overcommit_memory 1" if "fork" in str(bad[-1]["status"]) else "alarm on free space"
            if "OOM" in str(bad[-1]["status"]):
                cure = "more memory, or a lower maxmemory"
            text = f"{node} failed to save {say_times(len(bad))}: {bad[-1]['status']}"
            if refused:
                text += f"; it refused {say_count(refused)} commands with -MISCONF"
                cure += "; stop-writes-on-bgsave-error no if writes matter more than snapshots"
            yield Finding("critical" if refused else "warning", text + ".", cure)
        if numbers.get("killed_at_s") is not None:
            text = f"The host's OOM killer took {node} at {number(numbers['killed_at_s']):.3g} s; the run ends there."
            yield Finding("critical", text, "more memory, a lower maxmemory, or oom-score-adj yes: the child goes first")


def often_saving(result: Result) -> Findings:
    """Save points that follow each other."""
    for node, numbers in facts.nodes(result).items():
        saves = [one for one in _children(numbers) if one["took_s"] and one["kind"] != "SAVE"]
        share = sum(number(one["took_s"]) for one in saves) / max(facts.duration_s(result), 1e-9)
        if len(saves) > 1 and share > OFTEN:
            because = ", ".join(sorted({str(one["because"]) for one in saves}))
            text = f"A child of {node} was at work {say_share(share)} of the time, {say_count(len(saves))} times by {because}."
            yield Finding(
                "warning", text, "save points further apart, a larger auto-aof-rewrite-percentage, or a replica that saves"
            )


def shared_core(result: Result) -> Findings:
    """The child and the main thread had one core."""
    for node in facts.nodes(result):
        victim, p999_us, blamed_us = facts.worst_victim(result, node, CORE)
        if victim and blamed_us > SHARED_CORE * p999_us:
            text = (
                f"p99.9 of {victim} is {say_us(p999_us)}, of which {say_us(blamed_us)} is {node} sharing its core with the child"
            )
            yield Finding("warning", text + ".", "a core more than threads")


FORK_FINDINGS = (fork_stalls, copied_pages, failed_saves, often_saving, shared_core)
