"""What a run's report may say about its own accuracy: the errors that `redsim validate` found where this scenario lies.

Mirrors nothing in Redis. `trust.json` beside this module is made by `redsim validate` and committed: for each quantity, band of
utilisation and kind of load, how far predictions were off on the machine named in it. Differs from a confidence interval: another
machine needs a profile of its own first. NOT modelled: a scenario with several groups is looked up by its busiest node.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from redsim.report import facts
from redsim.report.facts import number
from redsim.run.result import Result
from redsim.scenario.regime import band_of, kind_of_load

PAGE = "../validation/when-not-to-trust.html"  # from a report in its own folder beside it
WORDS = {
    "throughput_per_s": "throughput", "p50_us": "p50", "p90_us": "p90", "p99_us": "p99", "p999_us": "p99.9",
    "stall_us": "stall length", "queue_at_end": "queue at a stall's end", "drained_after_us": "time to drain",
    "cpu_utilisation": "utilisation", "cpu_us_per_command": "CPU per command", "commands_per_read": "commands per read",
    "usec_per_call": "commandstats' time per call", "calls": "number of calls", "slowlog_entries": "SLOWLOG entries",
    "slowlog_in_order": "SLOWLOG order", "timeouts": "time-outs", "retries": "retries", "failed": "failures",
    "used_memory_bytes": "used_memory of a data set", "used_memory_rss_bytes": "RSS", "bytes_per_key": "bytes per key",
    "keys_exact": "keys equal to the byte", "hit_ratio": "hit ratio (hundredths)", "evicted_keys": "evicted keys",
    "keys_end": "keys at the end", "expired_keys": "expired keys", "gone_after_ms": "expiry lag of the last key",
    "expire_cpu_ms": "time in expire cycles", "aof_bytes_per_write": "AOF bytes per write", "aof_delayed_fsync": "delayed fsyncs",
    "fork_us": "fork", "cow_bytes": "copy-on-write", "child_ms": "the child's time", "rdb_bytes": "RDB size",
    "load_ms": "time to load", "sync_full": "full syncs", "sync_partial_ok": "partial resyncs",
    "sync_partial_err": "partial resyncs refused", "overflows": "full syncs in a loop",
    "stream_bytes_per_write": "stream bytes per write", "sync_ms": "a full sync's time", "transfer_ms": "time to transfer",
    "sync_load_ms": "time to load in a full sync", "failovers": "failovers", "order_on_leader": "order of the leader's events",
    "order_on_observers": "order of the other Sentinels' events", "sdown_ms": "time to +sdown",
    "sdown_quorum_ms": "time to the quorum's +sdown", "odown_ms": "time to +odown", "elected_ms": "time to +elected-leader",
    "promoted_ms": "time to +promoted-slave", "switch_ms": "time to +switch-master",
    "switch_leader_ms": "time to the leader's +switch-master", "demoted_ms": "time until the old master is demoted",
    "outage_ms": "outage of a failover", "lost_writes": "lost writes",
}  # fmt: skip
TOLD = ("throughput_per_s", "p50_us", "p99_us", "p999_us", "stall_us", "timeouts", "failed")
FEW = 2  # rows: fewer than this say little


@dataclass(frozen=True)
class Trust:
    """For the page: the region's name, a sentence per quantity, and whether one of them is bad."""

    region: str
    sentences: list[str]
    is_bad: bool
    machine: str
    page: str = PAGE


def published_path() -> Path:
    """Where `redsim validate --publish` writes what reports read."""
    return Path(str(files("redsim.report") / "trust.json"))


@cache
def _published() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(published_path().read_text(encoding="utf-8"))
    return found


def trust(result: Result) -> Trust:
    """What was found where this run lies; `sentences` says so when nothing was ever measured there."""
    file = result.scenario.file
    kind = kind_of_load(file)
    used = max((number(node.get("cpu_utilisation")) for node in facts.nodes(result).values()), default=0.0)
    band = band_of(used)
    told = [r for r in _published()["regions"] if r["kind"] == kind and r["band"] == band and r["quantity"] in TOLD]
    sentences = [sentence(r) for r in told]
    if not told:
        sentences = [f"No case of the validation lies here ({kind}, main thread {band} busy): nobody has checked this region."]
    bad = not told or any(not r["trusted"] for r in told)
    return Trust(f"{kind}, main thread {band} busy", sentences, bad, str(_published().get("machine", "")))


def sentence(region: dict[str, Any]) -> str:
    """One region in words, with the figures that it hangs on."""
    name, count = WORDS[region["quantity"]], int(region["rows"])
    bias = float(region["bias_pct"])
    way = "too high" if bias > 0 else "too low"
    text = f"{name}: off by {region['median_error_pct']:.0f} % at the median of {count} case{'' if count == 1 else 's'}"
    text += f", {abs(region['worst_error_pct']):.0f} % at worst" if count > 1 else ""
    text += f", {way} by {abs(bias):.0f} % on average" if count >= FEW and abs(bias) >= 2 else ""
    if region["trusted"]:
        return text + "."
    noise = region.get("noise_pct")
    told = "" if noise is None else f"; two real runs differ by {noise:.0f} %"
    return f"{text}; do not decide on it (the bar is {region['bar_pct']:g} %{told})."
