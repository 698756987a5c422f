"""Findings about the clients: where their latency is made, what they gave up, what they do to each other.

Mirrors nothing in Redis, which cannot see its clients wait. Same manner as findings.py: one small function
per finding, each given the Result. NOT modelled: the application behind a client.
"""

from collections.abc import Iterator
from typing import Any

from redsim.report import facts
from redsim.report.advice import busy_directive
from redsim.report.facts import number, say_count, say_share, say_us
from redsim.run.result import Finding, Result

Findings = Iterator[Finding]
DOMINATES = 0.5  # more than half of a latency is one thing
LONG_PIPELINE = 16
FEW = 100  # requests of which a share says something
FAILED_SHARE = 0.01
_LESS_LOAD = "a timeout above the longest stall, or less load on the server"
_CURES = {  # by the error that most attempts ended in
    "connection": "a server that comes back or is replaced (Sentinel), and retries that last as long as that takes",
    "readonly": "clients that ask a Sentinel for the master, or a failover that ends sooner",
    "masterdown": "replica-serve-stale-data yes, or a link that holds",
    "noreplicas": "replicas that stay connected, or a lower min-replicas-to-write",
    "loading": "a smaller data set to load, a replica that takes over meanwhile, retries that last",
    "oom": "maxmemory, or a maxmemory-policy that evicts",
    "misconf": "a disk on which BGSAVE and the AOF can be written",
}


def client_bound(result: Result) -> Findings:
    """The measured latency is made in the client machine."""
    for name, group in facts.groups(result).items():
        share = facts.share_of(facts.blame_us(group, "p50"), facts.CLIENT)
        if share > DOMINATES:
            us = share * sum(facts.blame_us(group, "p50").values())
            text = (
                f"{name} is bound by its client: {say_us(us)} of its median ({say_share(share)}) "
                "is spent in the client machine, not in Redis."
            )
            yield Finding(
                "warning",
                text,
                "more client threads or machines (redis-benchmark --threads; station.threads here)",
            )


def network_bound(result: Result) -> Findings:
    """The round trip is most of the latency."""
    for name, group in facts.groups(result).items():
        share = facts.share_of(facts.blame_us(group, "p50"), facts.NETWORK)
        if share > 0.6:
            us = share * sum(facts.blame_us(group, "p50").values())
            text = (
                f"{name} waits for the network: {say_us(us)} of its median ({say_share(share)}) "
                "is the round trip; a faster Redis would not help."
            )
            yield Finding(
                "info",
                text,
                "fewer round trips: pipelining, MGET/MSET, client-side caching; or clients nearer to the server",
            )


def failing(result: Result) -> Findings:
    """A group a noticeable share of whose requests got no answer in the end."""
    for name, group in facts.groups(result).items():
        offered, failed = number(group.get("offered")), number(group.get("failed"))
        if offered < FEW or failed < FAILED_SHARE * offered:
            continue
        kinds = {str(kind): number(count) for kind, count in (group.get("errors") or {}).items() if number(count)}
        why = ", ".join(f"{kind} {say_count(count)}" for kind, count in kinds.items())
        text = (
            f"{say_count(failed)} of {name}'s {say_count(offered)} requests ({say_share(failed / offered)}) failed "
            f"in the end; attempts that ended in an error: {why}."
        )
        severity = "critical" if failed >= 0.1 * offered else "warning"
        yield Finding(severity, text, _CURES.get(max(kinds, key=lambda kind: kinds[kind], default=""), _LESS_LOAD))


def timeouts(result: Result) -> Findings:
    """Requests that their clients gave up."""
    for name, group in facts.groups(result).items():
        gave_up = number((group.get("errors") or {}).get("timeout"))
        tried = number(group.get("completed")) + number(group.get("failed")) + number(group.get("retries"))
        share = gave_up / tried if tried else 0.0
        if gave_up > 0:
            severity = "critical" if share > 0.05 else "warning"
            text = (
                f"{say_count(gave_up)} attempts of {name} timed out ({say_share(share)} "
                "of all); the server still does the work of each."
            )
            yield Finding(
                severity,
                text,
                "remove the cause of the wait; a longer timeout stops wasted work, a shorter one adds to it",
            )


def retry_storm(result: Result) -> Findings:
    """Retries that add to the load which made them necessary."""
    for name, group in facts.groups(result).items():
        retries = number(group.get("retries"))
        asked = number(group.get("completed")) + number(group.get("failed")) + number(group.get("in_flight"))
        factor = 1 + retries / asked if asked else 1.0
        if factor > 1.1:
            severity = "critical" if factor > 1.5 else "warning"
            text = (
                f"Retries of {name} multiply its load by {factor:.2g}: {say_count(retries)} "
                f"retries for {say_count(asked)} requests."
            )
            yield Finding(
                severity,
                text,
                "exponential backoff with full jitter, few retries, a retry budget or circuit breaker",
            )


def rejected_connections(result: Result) -> Findings:
    """maxclients turned connections away."""
    for node, numbers in facts.nodes(result).items():
        rejected = number(numbers.get("rejected_connections"))
        if rejected > 0:
            text = f"{node} rejected {say_count(rejected)} connections: maxclients was reached."
            yield Finding(
                "critical",
                text,
                "raise maxclients (and the open-file limit, ulimit -n), or pool connections in the clients",
            )


def busy_replies(result: Result) -> Findings:
    """A script outlived busy-reply-threshold."""
    for name, group in facts.groups(result).items():
        busy = number((group.get("errors") or {}).get("busy"))
        if busy > 0:
            version = facts.versions(result).get(facts.node_of(result, name), "7.0")
            text = f"{say_count(busy)} requests of {name} were answered BUSY: a script ran longer than {busy_directive(version)}."
            yield Finding(
                "critical",
                text,
                f"shorten the script; SCRIPT KILL ends one that has not written; {busy_directive(version)}",
            )


def _at_the_same_time(one: Any, other: Any) -> bool:
    """Whether two groups of the scenario file ask at the same time, if only for a while."""
    if other is None:
        return True
    return all(late.stop is None or early.start < late.stop for early, late in ((one, other), (other, one)))


def neighbours_pipeline(result: Result) -> Findings:
    """One group's long pipelines hold the replies of another."""
    for name, group in facts.groups(result).items():
        written = facts.group_file(result, name)
        if written is None or written.pipeline < LONG_PIPELINE:
            continue
        for other, numbers in facts.groups(result).items():
            if other == name or facts.node_of(result, other) != facts.node_of(result, name):
                continue
            if not _at_the_same_time(written, facts.group_file(result, other)):
                continue
            parts = facts.blame_us(numbers, "p99")
            behind = sum(us for cause, us in parts.items() if cause in (group.get("by_command") or {}) or cause == name)
            if behind > DOMINATES * sum(parts.values()):
                text = (
                    f"{other} waits behind {name}'s pipelines of "
                    f"{written.pipeline}: {say_us(behind)} of its p99 of "
                    f"{say_us(facts.latency_us(numbers, 'p99'))}; a pipeline "
                    "runs whole before anybody's reply leaves."
                )
                yield Finding("warning", text, f"a shorter pipeline for {name}, or a server of its own")
