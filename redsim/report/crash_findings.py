"""Findings about crashes that happened: what they took, how long nobody was served, whom it hit, what would have been better.

Mirrors the server's own log lines in what is told, not how.
Differs: what was lost is known to the write.
NOT modelled: what the application does about a write that is gone.
"""

from redsim.report import facts
from redsim.report.client_findings import Findings
from redsim.report.facts import number, say_count, say_us
from redsim.report.failover_facts import took_over
from redsim.run.result import Finding, Result
from redsim.units import say_bytes

SAID = {"kill": "kill -9", "shutdown": "SHUTDOWN", "os_crash": "crash of the OS", "power_loss": "power loss", "exit": "exit"}
LONG_LOAD_S = 1.0
_CURES = {
    "none": "appendonly yes keeps all but the last second; appendonly yes with appendfsync always keeps all",
    "no": "appendfsync everysec loses a second at most, always none",
    "everysec": "appendfsync always loses none",
    "always": "a drive with power-loss protection, or its write cache off: it said that bytes were written which were not",
}


def crashed(result: Result) -> str:
    """The first sentences of an answer: the first crash, and how many more."""
    rows = [(node, row) for node, row in facts.crashes(result) if took_over(result, node, row) is None]
    if not rows:
        return ""
    node, row = rows[0]
    lost, away_s = number(row["lost_acked_writes"]), number(row["serves_s"]) - number(row["at_s"])
    text = f"{'An' if row['fault'] == 'exit' else 'A'} {SAID[row['fault']]} of {node} at {number(row['at_s']):.4g} s took "
    text += f"{say_count(lost)} acknowledged writes" if lost else "no acknowledged write"
    if row["serves_s"] is not None:
        text += f"; nobody was served for {say_us(1e6 * away_s)}, {say_us(1e6 * number(row['loading_s']))} of them for loading"
    else:
        text += "; the server refuses to start again" if row["refuses_to_start"] else "; the server does not come back"
    if len(rows) > 1:
        more = sum(number(other["lost_acked_writes"]) for _, other in rows[1:])
        text += f"; {len(rows) - 1} more crash{'es' if len(rows) > 2 else ''} took {say_count(more)}"
    return text + ". "


def lost_writes(result: Result) -> Findings:
    """A crash that took acknowledged writes, or the whole data set."""
    for node, row in facts.crashes(result):
        lost, policy = number(row["lost_acked_writes"]), str(row["appendfsync"])
        if node in (result.summary.get("replicas") or {}) or took_over(result, node, row) is not None:
            continue  # what it had is its master's, or the new master's
        if not lost and policy != "none":
            kept = f"The {SAID[row['fault']]} of {node} at {number(row['at_s']):.4g} s took no acknowledged write."
            yield Finding("info", kept, "")
            continue
        after, before = row["keys_after"], number(row["keys_before"])
        text = f"The {SAID[row['fault']]} of {node} at {number(row['at_s']):.4g} s took {say_count(lost)} acknowledged writes"
        if policy == "none" and row["loads"] != "RDB":
            text += f" and all {say_count(before)} keys, as nothing is saved"
        else:
            text += f" of the last {number(row['oldest_lost_s']):.3g} s"
            if after is not None and before > number(after):
                text += f", {say_count(before - number(after))} keys with them"
        yield Finding("critical", text + ".", _cure(row))


def _cure(row: dict[str, object]) -> str:
    if row["fault"] == "kill" and row["appendfsync"] == "everysec":
        return "a faster disk: these writes were still in memory, put off while a fsync was in flight; or appendfsync always"
    return _CURES[str(row["appendfsync"])]


def torn_tails(result: Result) -> Findings:
    """A file that ends in the middle of a command."""
    for node, row in facts.crashes(result):
        torn = int(number(row["torn_bytes"]))
        if row["refuses_to_start"]:
            text = f"{node} does not start again: its AOF ends in the middle of a command ({say_bytes(torn)} of one)."
            yield Finding("critical", text, "aof-load-truncated yes, or redis-check-aof --fix by hand")
        elif torn:
            text = f"{node} dropped the last {say_bytes(torn)} of its AOF at the start, part of a command that was not whole."
            yield Finding("warning", text, "")


def time_away(result: Result) -> Findings:
    """How long nobody was served, and why that long."""
    for node, row in facts.crashes(result):
        if row["serves_s"] is None:
            if not row["refuses_to_start"] and row["starts_s"] is None and row["fault"] != "exit":
                is_replaced = took_over(result, node, row) is not None
                cure = "a supervisor that starts it" + ("; it comes back as a replica" if is_replaced else "; a replica")
                yield Finding("warning" if is_replaced else "critical", f"{node} does not come back in this run.", cure)
            continue
        away_s, loading_s = number(row["serves_s"]) - number(row["at_s"]), number(row["loading_s"])
        text = f"{node} served nobody for {say_us(1e6 * away_s)}: down for {say_us(1e6 * number(row['down_s']))}, then"
        text += f" {say_us(1e6 * loading_s)} for loading {say_count(number(row['keys_after']))} keys"
        text += f" from {say_bytes(int(number(row['loaded_bytes'])))} of {row['loads']}" if row["loaded_bytes"] else ""
        replayed = number(row["replayed_commands"])
        text += f", {say_count(replayed)} commands replayed" if replayed else ""
        cure = "a replica to fail over to" if loading_s > LONG_LOAD_S else ""
        if replayed * 4 > number(row["keys_after"]) and loading_s > LONG_LOAD_S:
            cure = "BGREWRITEAOF more often (auto-aof-rewrite-percentage): an RDB preamble loads faster than commands; " + cure
        yield Finding("warning" if loading_s > LONG_LOAD_S else "info", text + ".", cure)


def stopped(result: Result) -> Findings:
    """SIGSTOP: the process is there, but does not run."""
    for node, numbers in facts.nodes(result).items():
        row = (numbers.get("stalls") or {}).get("process-stopped")
        if row:
            text = (
                f"The process of {node} was stopped for {say_us(number(row['total_us']))} (SIGSTOP); its connections stayed open."
            )
            yield Finding("warning", text, "client time-outs shorter than that notice; TCP does not")


CRASH_FINDINGS = (lost_writes, torn_tails, time_away, stopped)
