"""The answer: the first sentence of a report, with the figure, the sufferer and the culprit.

Mirrors nothing in Redis.
NOT modelled: the question itself is not parsed; the sentence tells the gravest thing the run shows, in the order refused,
stalled, saturated, nothing held the loop.
"""

from redsim.report import facts
from redsim.report.client_findings import FEW
from redsim.report.crash_findings import crashed
from redsim.report.facts import number, say_count, say_share, say_us
from redsim.report.failover_findings import failed_over
from redsim.report.findings import SATURATED, STALL_US, command_stalls
from redsim.report.repeats import said as said_of_repeats
from redsim.report.replication_findings import resynced
from redsim.run.result import Result

_PART = 0.2  # a smaller part of a p99.9 is not its cause
_HEAVY = 0.1  # failures told before everything else
_FELT = 5.0  # a stall this many times the median is told first


def answer(result: Result) -> str:
    """One or two sentences for people; always a figure, also when nothing was answered or the run was
    stopped.
    """
    told = _refused(result) or _stalled(result) or _saturated(result) or _calm(result)
    if result.repeats is not None:
        return said_of_repeats(result) + (failed_over(result).strip() or told)
    begun = _stopped(result) + failed_over(result) + crashed(result)
    return begun + resynced(result) + _unanswered(result) + told + _forgotten(result)


def _stopped(result: Result) -> str:
    if not result.partial:
        return ""
    return f"Stopped at {facts.duration_s(result):.3g} s of {result.scenario.file.duration / 1e9:.3g} s: "


def _refused(result: Result) -> str:
    """Nobody was answered at all."""
    if any(number(group.get("completed")) for group in facts.groups(result).values()):
        return ""
    commands = number(result.summary.get("commands"))
    said = "no" if result.partial else "No"
    return f"{said} client request was answered; the server ran {say_count(commands)} commands."


def _unanswered(result: Result) -> str:
    """The group that fared worst, if a tenth or more of its requests failed in the end."""
    shares = {
        name: number(group.get("failed")) / number(group.get("offered"))
        for name, group in facts.groups(result).items()
        if number(group.get("offered")) >= FEW and number(group.get("completed"))
    }
    name = max(shares, key=lambda group: shares[group], default="")
    if not name or shares[name] < _HEAVY:
        return ""
    return f"{say_share(shares[name])} of {name}'s requests failed in the end. "


def _forgotten(result: Result) -> str:
    """What a node at its maxmemory kept: the reads that found their key, and the keys that went."""
    told = ""
    for node, numbers in facts.nodes(result).items():
        evicted, found = number(numbers.get("evicted_keys")), numbers.get("hit_ratio")
        if evicted:
            told += f" {node} evicted {say_count(evicted)} keys to stay below maxmemory"
            told += f"; {say_share(number(found))} of the reads found theirs." if found is not None else "."
    return told


def _main_group(result: Result, node: str) -> str:
    """The group a sentence is about: the worst p99.9 of those that talk to `node` ("" for any)."""
    named = [name for name in facts.groups(result) if not node or facts.node_of(result, name) == node]
    return max(named, key=lambda name: number(facts.latency_us(facts.groups(result)[name], "p999")), default="")


def _failures(result: Result) -> str:
    errors = {
        "timeout": "timed out",
        "connection": "lost their connection",
        "busy": "were answered BUSY",
        "oom": "were refused -OOM",
        "misconf": "were refused -MISCONF",
        "loading": "were answered -LOADING",
        "noreplicas": "were refused -NOREPLICAS",
        "readonly": "were refused -READONLY by a replica",
        "masterdown": "were refused -MASTERDOWN",
    }
    told = []
    for key, said in errors.items():
        count = sum(number((group.get("errors") or {}).get(key)) for group in facts.groups(result).values())
        told += [f"{say_count(count)} attempts {said}"] if count else []
    return f" {' and '.join(told)}." if told else ""


def _stalled(result: Result) -> str:
    """A stall that somebody felt: what held the loop, when, how many waited, whose p99.9 it is."""
    table = command_stalls(result)
    if table.empty or table["max_us"].max() < STALL_US:
        return ""
    row = table.sort_values("max_us", ascending=False, kind="stable").iloc[0]
    node, command, max_us, count = (
        str(row["node"]),
        str(row["command"]),
        float(row["max_us"]),
        int(row["count"]),
    )
    victim, p999_us, blamed_us = facts.worst_victim(result, node, command)
    share = blamed_us / p999_us if p999_us else 0.0
    about = victim if share >= _PART else _main_group(result, node)
    group = facts.groups(result).get(about, {})
    median = facts.latency_us(group, "p50")
    if max_us < _FELT * number(median) or (share < _PART and _overloaded(result, node)):
        return ""
    held = f"held the event loop of {node} for {say_us(max_us)}"
    text = f"One {command} at t = {float(row['start_s']):.4g} s {held}"
    if count > 1:
        total = say_us(float(row["total_us"]))
        text = f"{count:,} {command} {held} at worst and {total} in all"
    text += _queue(result, command)
    p999 = f"p99.9 of {about} is {say_us(facts.latency_us(group, 'p999'))} (median {say_us(median)})"
    if share >= _PART:
        text += f"; {p999}, {say_share(share)} of it waiting behind {command}"
    elif about:
        text += f"; {about} saw {say_us(facts.latency_us(group, 'max'))} at worst, but {p999}"
    return f"{text}.{_failures(result)}"


def _queue(result: Result, command: str) -> str:
    """How many waited for the stall that the view shows, and how long after it the last of them was
    answered.
    """
    view = result.stall_view
    queued = facts.waiting_at_end(result)
    if view is None or not queued or facts.command_of(view.what) != command:
        return ""
    drained = say_us(facts.drained_ns(result) / 1000)
    return f": {queued:,} requests waited, the last of them answered {drained} after it ended"


def _overloaded(result: Result, node: str) -> bool:
    return facts.loop_share(facts.nodes(result).get(node, {})) > SATURATED


def _saturated(result: Result) -> str:
    """The main thread is the limit."""
    for node, numbers in facts.nodes(result).items():
        if not _overloaded(result, node):
            continue
        name = _main_group(result, node)
        group = facts.groups(result).get(name, {})
        done = say_count(number(group.get("throughput_per_s")))
        used = say_share(facts.loop_share(numbers))
        tail = f"p50 {say_us(facts.latency_us(group, 'p50'))}, p99.9 {say_us(facts.latency_us(group, 'p999'))}"
        if name and facts.is_client_bound(result, name):
            return (
                f"{name} is bound by its client machine at {done} requests/s: it has no idle time, the loop of {node} is "
                f"{used} busy, {tail}.{_failures(result)}"
            )
        if facts.is_closed(result, name):
            return f"{node} is at capacity: {name} gets {done} requests/s with the loop {used} busy, {tail}.{_failures(result)}"
        offered = say_count(number(group.get("offered_per_s")))
        return (
            f"{node} is saturated: the loop is {used} busy and {name} gets {done} "
            f"of {offered} requests/s, {tail}.{_failures(result)}"
        )
    return ""


def _calm(result: Result) -> str:
    name = _main_group(result, "")
    group = facts.groups(result)[name]
    used = facts.loop_share(facts.nodes(result).get(facts.node_of(result, name), {}))
    busy = f" and {say_share(used)} of the main thread" if facts.is_whole_run(result, name) else ""
    text = (
        f"At {say_count(number(group.get('throughput_per_s')))} requests/s{busy}, {name} waits "
        f"{say_us(facts.latency_us(group, 'p50'))} at the median, "
        f"{say_us(facts.latency_us(group, 'p99'))} at p99 and "
        f"{say_us(facts.latency_us(group, 'p999'))} at p99.9"
    )
    parts = facts.blame_us(group, "p999")
    total = sum(parts.values())
    if total > 0:
        cause, us = next(iter(parts.items()))
        text += f"; the largest part of p99.9 is {cause}, {say_us(us)} ({say_share(us / total)})"
    return f"{text}.{_failures(result)}"
