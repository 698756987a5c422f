"""What a run says about memory: keys that had to go, commands that were refused for want of it.

Mirrors the advice of MEMORY DOCTOR and LATENCY DOCTOR on eviction-cycle and eviction-del, in our own words.
Not modelled: whether the keys evicted were still wanted; the hit ratio tells.
"""

from redsim.report import facts
from redsim.report.client_findings import Findings
from redsim.report.facts import number, say_us
from redsim.run.result import Finding, Result


def evictions_that_stall(result: Result) -> Findings:
    """The loop was held by evictions: by many in a row, or by one large key."""
    for event, says, directive in (
        ("eviction-del", "deleting one large key", "lazyfree-lazy-eviction yes, or smaller keys"),
        ("eviction-cycle", "deleting many keys in a row", "a lower maxmemory-eviction-tenacity, or more maxmemory"),
    ):
        rows = result.stalls[result.stalls["event"] == event]
        for node, mine in rows.groupby("node"):
            longest = say_us(mine["duration_us"].max())
            text = f"Evictions held the loop of {node} {len(mine):,} times by {says}, {longest} at worst ({event})."
            yield Finding("warning", text, directive)


def refused_for_memory(result: Result) -> Findings:
    """Commands answered -OOM."""
    for node, numbers in facts.nodes(result).items():
        refused = int(number(numbers.get("oom_errors")))
        if refused:
            evicted = int(number(numbers.get("evicted_keys")))
            why = f"{evicted:,} keys were evicted and there was none left to evict" if evicted else "nothing may be evicted"
            text = f"{refused:,} commands on {node} were refused with -OOM: memory was at maxmemory and {why}."
            yield Finding("critical", text, "maxmemory, maxmemory-policy")
