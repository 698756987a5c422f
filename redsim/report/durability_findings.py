"""Findings about durability: who waited for the disk, what was refused for it, what a crash would have taken.

Mirrors LATENCY DOCTOR's advice on the aof-* events. Differs: the loss is known for every moment of the run. NOT modelled: whether
the application could do a lost write again.
"""

from redsim.report import facts
from redsim.report.client_findings import Findings
from redsim.report.facts import STALL_WARNING_US, number, say_count, say_times, say_us
from redsim.run.result import Finding, Result

CRITICAL_US = 100_000.0
_SAID = {
    "aof-fsync-always": (
        "fdatasync of the AOF held the loop of",
        "appendfsync everysec, or a disk with power-loss protection; more clients or pipelining share one fsync",
    ),
    "aof-write-pending-fsync": (
        "Writing the AOF while its fsync was in flight held the loop of",
        "a local SSD; take whoever else writes off this disk; no-appendfsync-on-rewrite yes if it is the server's own child",
    ),
    "aof-write-active-child": (
        "Writing the AOF while a child was writing to the same disk held the loop of",
        "a disk of its own for the AOF; rdb-save-incremental-fsync yes; save when little is written",
    ),
    "aof-manifest": (
        "Syncing the manifest of the AOF, at the start and the end of a rewrite, held the loop of",
        "rewrite less often: a larger auto-aof-rewrite-percentage and -min-size; a disk whose fsync is short",
    ),
    "aof-write-alone": ("Writing the AOF into the page cache held the loop of", "a faster disk, or fewer and smaller writes"),
}


def aof_stalls(result: Result) -> Findings:
    """An aof-* event that held the loop for a millisecond and more."""
    for node, numbers in facts.nodes(result).items():
        for event, (said, directive) in _SAID.items():
            row = (numbers.get("stalls") or {}).get(event)
            if not row:
                continue
            worst = number(row["max_us"])
            severity = "critical" if worst >= CRITICAL_US else "warning" if worst >= STALL_WARNING_US else "info"
            victim, p999_us, blamed_us = facts.worst_victim(result, node, event)
            total = say_us(number(row["total_us"]))
            text = f"{said} {node} {say_times(int(row['count']))} for {total} in all, {say_us(worst)} at worst"
            if victim:
                text += f"; p99.9 of {victim} is {say_us(p999_us)}, of which {say_us(blamed_us)} is waiting for it"
            yield Finding(severity, text + ".", directive)


def postponed_writes(result: Result) -> Findings:
    """everysec on a slow disk: writes put off, and those that could not wait any longer."""
    for node, numbers in facts.nodes(result).items():
        durability = numbers.get("durability") or {}
        delayed = int(number(durability.get("delayed_fsync")))
        longest = say_us(1000 * number(durability.get("longest_fsync_ms")))
        if delayed:
            yield Finding(
                "warning",
                f"{node} put the write of its AOF off for two seconds and then made it while the fsync was still in flight,"
                f" {say_times(delayed)} (aof_delayed_fsync); the longest fsync took {longest}.",
                "a faster disk, or one of its own for the AOF",
            )


def disk_full(result: Result) -> Findings:
    """No space left: writes refused, or the process gone."""
    for node, numbers in facts.nodes(result).items():
        durability = numbers.get("durability") or {}
        refused, exited_s = number(durability.get("misconf_errors")), durability.get("exited_at_s")
        if exited_s is not None:
            yield Finding(
                "critical",
                f"{node} exited at {number(exited_s):.3g} s, as the AOF could not be written and appendfsync is always;"
                " nobody is served from then on.",
                "alarm on free space; appendfsync everysec refuses writes instead",
            )
        elif refused:
            text = f"{node} refused {say_count(refused)} commands with -MISCONF while the AOF could not be written."
            yield Finding("critical", text, "alarm on free space; a disk of its own for the AOF")


def losses(result: Result) -> Findings:
    """What a crash would take."""
    for node, numbers in facts.nodes(result).items():
        durability = numbers.get("durability") or {}
        if not durability:
            continue
        power, kill = (durability["loss"][kind] for kind in ("os_crash_or_power_loss", "process_kill"))
        policy, worst = durability["appendfsync"], number(power["commands"]["max"])
        if worst == 0:
            if policy == "always":
                yield Finding("info", f"With appendfsync always no crash of {node} would lose an acknowledged write.", "")
            continue
        text = (
            f"A power loss of {node} would take up to {say_count(worst)} acknowledged writes of the last"
            f" {number(power['age_s']['max']):.3g} s (half of the time {say_count(number(power['commands']['p50']))} or more)"
        )
        killed = number(kill["commands"]["max"])
        text += f", a kill of the process up to {say_count(killed)}" if killed else ", a kill of the process alone none"
        yield Finding("warning" if number(power["age_s"]["max"]) > 2 else "info", text + ".", "appendfsync always loses none")


DURABILITY_FINDINGS = (aof_stalls, postponed_writes, disk_full, losses)
