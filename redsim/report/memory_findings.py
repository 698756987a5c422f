"""Findings about memory: the limit, what it costs a cache, keys past their time, RSS, and bytes that an encoding would save.

Mirrors the questions of MEMORY DOCTOR (object.c:getMemoryDoctorReport) and those it does not ask. Differs: the whole run is
known, so a finding says what changed and when. NOT modelled: what a miss costs the application behind the cache.
"""

from typing import Any

import numpy as np
import pandas as pd

from redsim.report import facts
from redsim.report.client_findings import Findings
from redsim.report.facts import STALL_WARNING_US, number, say_count, say_share, say_times, say_us
from redsim.run.result import Finding, Result
from redsim.units import MIB, say_bytes

YOUNG_S = 60  # a cache that lets go of what was read a minute ago forgets within a user's visit
FELL = 0.02  # a hit ratio moves by less from window to window
TIGHT = 0.9  # of a limit
FELT_SHARE = 0.05  # of the loop, of the keys
CLIENTS_SHARE = 0.1  # of maxmemory
FRAGMENTED = 1.4  # object.c: what MEMORY DOCTOR calls high_frag, with 10 MiB at least
FRAGMENTED_BYTES = 10 * MIB
SAVES = 0.1  # of a data set
EXCEEDED_US = 10_000  # above maxmemory for less is no news: a value is written, then room made for it


def _samples(result: Result, node: str) -> pd.DataFrame:
    return result.memory[result.memory["node"] == node]


def _policy(numbers: dict[str, Any]) -> str:
    return str(((numbers.get("info") or {}).get("memory") or {}).get("maxmemory_policy", "noeviction"))


def evictions(result: Result) -> Findings:
    """maxmemory was reached and keys went: how many, from when on, and how long nobody had read them."""
    for node, numbers in facts.nodes(result).items():
        evicted = number(numbers.get("evicted_keys"))
        if not evicted:
            continue
        frame = _samples(result, node)
        began = frame[frame["evicted_keys"] > 0]["time_s"]
        since = f" from {began.iloc[0]:.3g} s on" if len(began) else ""
        limit = say_bytes(int(number(numbers.get("maxmemory_bytes"))))
        idle_s = (numbers.get("eviction_age_s") or {}).get("p50")
        text = f"{node} reached maxmemory ({limit}, {_policy(numbers)}) and evicted {say_count(evicted)} keys{since}"
        if idle_s is None:
            yield Finding("info", f"{text}.", "raise maxmemory if these keys were wanted")
            continue
        text += f"; half of them had been read or written within the last {_say_s(number(idle_s))}"
        is_young = number(idle_s) < min(YOUNG_S, 0.5 * facts.duration_s(result))
        if is_young:
            yield Finding(
                "warning", f"{text}: the cache is too small for what is in use.", "raise maxmemory, or store less per key"
            )
        else:
            yield Finding("info", f"{text}.", "raise maxmemory if these keys were wanted")


def _say_s(seconds: float) -> str:
    return "second" if seconds <= 1 else f"{seconds:,.0f} s"


def hit_ratio_fell(result: Result) -> Findings:
    """Fewer reads find their key than at the beginning."""
    for node, numbers in facts.nodes(result).items():
        ratios = facts.hit_ratio(_samples(result, node))
        ratios = ratios[np.isfinite(ratios)]
        part = max(1, len(ratios) // 5)
        if len(ratios) < 5:
            continue
        before, after = float(ratios[:part].mean()), float(ratios[-part:].mean())
        gone = {
            "evicted": number(numbers.get("evicted_keys")),
            "expired": number((numbers.get("expiry") or {}).get("expired_keys")),
        }
        why = max(gone, key=lambda name: gone[name])
        if before - after < FELL or not gone[why]:
            continue
        cures = {
            "evicted": "raise maxmemory; compare allkeys-lru with allkeys-lfu",
            "expired": "longer TTLs, or refresh keys before they are due",
        }
        fell = f"The hit ratio of {node} fell from {say_share(before)} to {say_share(after)}"
        yield Finding("warning", f"{fell}: {say_count(gone[why])} keys were {why}.", cures[why])


def refused_for_memory(result: Result) -> Findings:
    """-OOM: nothing may be evicted, or nothing is left."""
    for node, numbers in facts.nodes(result).items():
        refused = number(numbers.get("oom_errors"))
        if not refused:
            continue
        policy = _policy(numbers)
        why, cure = "under it nothing is ever evicted", "maxmemory-policy allkeys-lru if this is a cache; else raise maxmemory"
        if policy.startswith("volatile"):
            why, cure = (
                "no key with a TTL was left to evict",
                "give keys a TTL, or maxmemory-policy allkeys-*; else raise maxmemory",
            )
        elif policy != "noeviction":
            why, cure = "no key was left to evict: what fills it is not data", "raise maxmemory; see the clients' buffers"
        text = (
            f"{node} refused {say_count(refused)} commands with -OOM: maxmemory was reached, the policy is {policy}, and {why}."
        )
        yield Finding("critical", text, cure)


def headroom(result: Result) -> Findings:
    """maxmemory was not reached, but nearly."""
    for node, numbers in facts.nodes(result).items():
        limit, peak = number(numbers.get("maxmemory_bytes")), number((numbers.get("used_memory_bytes") or {}).get("peak"))
        if number(numbers.get("evicted_keys")) or number(numbers.get("oom_errors")) or not TIGHT * limit < peak < limit:
            continue
        text = (
            f"used_memory of {node} peaked at {say_bytes(int(peak))}, {say_share(peak / limit)} of maxmemory: "
            f"{say_bytes(int(limit - peak))} are left."
        )
        yield Finding("warning", text, "raise maxmemory before the data grow")


def table_doubling(result: Result) -> Findings:
    """A dict doubled near maxmemory: its new table pushed keys out at once."""
    for node in facts.nodes(result):
        frame = _samples(result, node)
        if frame.empty or not frame["maxmemory_bytes"].max():
            continue
        tables, evicted = (np.diff(frame[name].to_numpy(dtype=float)) for name in ("dict_table_bytes", "evicted_keys"))
        grown = np.flatnonzero((tables > 0) & (evicted > 0))
        if not len(grown):
            continue
        worst = grown[np.argmax(tables[grown])]
        usual = float(np.median(evicted))
        if evicted[worst] < 2 * usual + 1:
            continue
        at_s = float(frame["time_s"].iloc[worst + 1])
        text = (
            f"A hash table of {node} grew at about {at_s:.3g} s: {say_bytes(int(tables[worst]))} more at once, close to "
            f"maxmemory, and {say_count(evicted[worst])} keys were evicted in that window."
        )
        yield Finding("warning", text, "leave room for the next table (16 bytes a key) below maxmemory")


def refused_growth(result: Result) -> Findings:
    """More keys than buckets, because the larger table would not fit."""
    for node in facts.nodes(result):
        frame = _samples(result, node)
        full = frame[(frame["maxmemory_bytes"] > 0) & (8 * frame["keys"] > 1.02 * frame["dict_table_bytes"])]
        if full.empty:
            continue
        row = full.iloc[(full["keys"] / full["dict_table_bytes"]).argmax()]
        load = 8 * row["keys"] / row["dict_table_bytes"]
        text = (
            f"The hash table of {node} could not grow: with maxmemory so near, {say_count(row['keys'])} keys share "
            f"{say_count(row['dict_table_bytes'] / 8)} buckets ({load:.3g} a bucket), and look-ups take longer."
        )
        yield Finding("info", text, "raise maxmemory by the size of the next table")


def eviction_stalls(result: Result) -> Findings:
    """Making room held the loop: many keys in a row, or one large one."""
    for event, says, cure in (
        ("eviction-del", "deleting one large key", "lazyfree-lazy-eviction yes, or smaller keys"),
        ("eviction-cycle", "deleting many keys in a row", "a lower maxmemory-eviction-tenacity, or more maxmemory"),
    ):
        rows = result.stalls[result.stalls["event"] == event]
        for node, mine in rows.groupby("node"):
            group, p999_us, blamed_us = facts.worst_victim(result, str(node), event)
            longest = say_us(mine["duration_us"].max())
            text = f"Evictions held the loop of {node} {say_times(len(mine))} by {says}, {longest} at worst ({event})"
            if group:
                text += f"; of {group}'s p99.9 of {say_us(p999_us)}, {say_us(blamed_us)} is due to that"
            yield Finding("warning", f"{text}.", cure)


def over_the_limit(result: Result) -> Findings:
    """Evictions that a slice before each command could not keep up with."""
    for node, numbers in facts.nodes(result).items():
        exceeded_us, evicted = 1e6 * number(numbers.get("eviction_exceeded_s")), number(numbers.get("evicted_keys"))
        if exceeded_us < EXCEEDED_US or not evicted:
            continue
        group, p999_us, blamed_us = facts.worst_victim(result, node, "eviction-cycle")
        text = f"Memory of {node} was above maxmemory for {say_us(exceeded_us)} while each command first evicted for its while"
        if group:
            text += f"; of {group}'s p99.9 of {say_us(p999_us)}, {say_us(blamed_us)} is due to that"
        yield Finding("warning", f"{text}.", "room below maxmemory for what comes at once: a table that doubles, large values")


def expire_cycles(result: Result) -> Findings:
    """Keys that are past due together: the active expire cycle holds the loop, and takes a part of it that is worth knowing."""
    for node, numbers in facts.nodes(result).items():
        told = numbers.get("expiry") or {}
        held = result.stalls[(result.stalls["event"] == "expire-cycle") & (result.stalls["node"] == node)]
        share = number(told.get("cycle_ms")) / 1000 / max(facts.duration_s(result), 1e-9)
        if held.empty and share <= FELT_SHARE:
            continue
        longest_us = float(held["duration_us"].max()) if len(held) else 0.0
        text = f"Active expiry took {say_share(share)} of the loop of {node}"
        if len(held):
            held_for = f"{say_us(longest_us)} at worst, {say_share(share)} of the run"
            text = f"Active expiry held the loop of {node} {say_times(len(held))}, {held_for}"
        victim, p999_us, blamed_us = facts.worst_victim(result, node, "expire-cycle")
        text += f"; of {victim}'s p99.9 of {say_us(p999_us)}, {say_us(blamed_us)} is due to that" if victim else ""
        late = number((told.get("active_lag_ms") or {}).get("p99"))
        text += f". It removed {say_count(number(told.get('expired_by_cycles')))} keys, 99 % of them within {say_us(1000 * late)}"
        capped = number(told.get("cycles_out_of_time"))
        text += f"; {say_count(capped)} cycles ran out of time (expired_time_cap_reached_count)" if capped else ""
        severity = "warning" if longest_us >= STALL_WARNING_US or share > FELT_SHARE else "info"
        yield Finding(severity, f"{text}.", "spread the TTLs (a random part in each), or raise hz: more and shorter cycles")


def stale_keys(result: Result) -> Findings:
    """Keys past their time that take memory."""
    for node in facts.nodes(result):
        frame = _samples(result, node)
        if frame.empty or not frame["keys"].max():
            continue
        share = (frame["stale_keys"] / frame["keys"].clip(lower=1)).to_numpy(dtype=float)
        at = int(share.argmax())
        if share[at] <= FELT_SHARE:
            continue
        count, time_s = frame["stale_keys"].iloc[at], frame["time_s"].iloc[at]
        text = (
            f"At {time_s:.3g} s {say_count(count)} keys of {node} ({say_share(share[at])} of all) were past their time and still "
            "took memory"
        )
        yield Finding("warning", f"{text}.", "raise hz or active-expire-effort")


def fragmentation(result: Result) -> Findings:
    """RSS stays when keys go."""
    for node, numbers in facts.nodes(result).items():
        rss = number((numbers.get("used_memory_rss_bytes") or {}).get("final"))
        used = numbers.get("used_memory_bytes") or {}
        final, peak = number(used.get("final")), number(used.get("peak"))
        if not final or rss / final <= FRAGMENTED or rss - final <= FRAGMENTED_BYTES:
            continue
        text = (
            f"RSS of {node} is {say_bytes(int(rss))} for {say_bytes(int(final))} of used_memory at the end "
            f"(mem_fragmentation_ratio {rss / final:.2f})"
        )
        text += f": the peak was {say_bytes(int(peak))}, and pages that still hold a key stay" if peak > 1.2 * final else ""
        least, most = (int(number(value)) for value in numbers.get("activedefrag_returns_bytes") or (0, 0))
        is_on = number(((numbers.get("info") or {}).get("memory") or {}).get("active_defrag_running")) > 0
        would = "has still to give back" if is_on else "would give back"
        text += f"; activedefrag {would} {say_bytes(least)} to {say_bytes(most)}" if most else ""
        cure = "activedefrag yes (jemalloc of Redis), MEMORY PURGE, or a restart"
        yield Finding("warning", f"{text}.", "a higher active-defrag-cycle-max, or time" if is_on else cure)


def defrag_cycles(result: Result) -> Findings:
    """Active defragmentation works in slices of serverCron, each of which everybody waits for."""
    for node, numbers in facts.nodes(result).items():
        held = result.stalls[(result.stalls["event"] == "active-defrag-cycle") & (result.stalls["node"] == node)]
        if held.empty:
            continue
        total = numbers.get("stalls", {}).get("active-defrag-cycle", {})
        share = number(total.get("total_us")) / 1e6 / max(facts.duration_s(result), 1e-9)
        longest_us = float(held["duration_us"].max())
        text = f"Active defragmentation held the loop of {node} {say_times(int(number(total.get('count'))))}, "
        text += f"{say_us(longest_us)} at worst, {say_share(share)} of the run"
        victim, p999_us, blamed_us = facts.worst_victim(result, node, "active-defrag-cycle")
        text += f"; of {victim}'s p99.9 of {say_us(p999_us)}, {say_us(blamed_us)} is due to that" if victim else ""
        severity = "warning" if longest_us >= STALL_WARNING_US or share > FELT_SHARE else "info"
        yield Finding(severity, f"{text}.", "raise hz: as much work in shorter slices; or a lower active-defrag-cycle-max")


def clients_take_room(result: Result) -> Findings:
    """Buffers of clients count against maxmemory, so they push data out."""
    for node in facts.nodes(result):
        frame = _samples(result, node)
        limited = frame[frame["evicted_keys"] > 0]
        if limited.empty:
            continue
        share = (limited["clients_bytes"] / limited["maxmemory_bytes"]).to_numpy(dtype=float)
        at = int(share.argmax())
        if share[at] <= CLIENTS_SHARE:
            continue
        row = limited.iloc[at]
        is_replies = row["output_buffers_bytes"] > 0.5 * row["clients_bytes"]
        text = (
            f"{say_count(row['connected_clients'])} clients took {say_bytes(int(row['clients_bytes']))} of {node} at "
            f"{row['time_s']:.3g} s, {say_share(share[at])} of maxmemory, "
            f"{'most of it replies that were not read yet' if is_replies else 'for their buffers'}: keys are evicted for them."
        )
        cure = "client-output-buffer-limit normal 64mb 16mb 10" if is_replies else "fewer connections (a pool)"
        yield Finding("warning", text, f"{cure}; maxmemory-clients (7.0)")


def beyond_the_host(result: Result) -> Findings:
    """RSS against the memory of the host."""
    host = facts.host_memory_bytes(result)
    for node, numbers in facts.nodes(result).items():
        rss = number((numbers.get("used_memory_rss_bytes") or {}).get("peak"))
        if not host or rss <= TIGHT * host:
            continue
        share = f"RSS of {node} peaked at {say_bytes(int(rss))}; the host has {say_bytes(host)}"
        if rss > host:
            yield Finding(
                "critical", f"{share}: it would swap or be killed.", "maxmemory below the host's memory, or a larger host"
            )
        else:
            yield Finding("warning", f"{share}, and a fork needs more.", "keep maxmemory well below the host's memory")


def near_a_threshold(result: Result) -> Findings:
    """A data set that misses its compact encoding by little."""
    for row in facts.rows(result.datasets):
        used, with_it = number(row.used_memory_bytes), number(row.used_memory_with_it_bytes)
        if not row.directive or used - with_it < SAVES * used:
            continue
        text = (
            f"Keys of {row.dataset} miss their compact encoding by little: {say_bytes(int(used))} as {row.encodings}, "
            f"{say_bytes(int(with_it))} with a limit that holds them."
        )
        yield Finding("info", text, f"{row.directive}: less memory, more time for each access to a long one")


MEMORY_FINDINGS = [
    refused_for_memory, beyond_the_host, evictions, hit_ratio_fell, eviction_stalls, over_the_limit, table_doubling,
    clients_take_room, headroom, expire_cycles, defrag_cycles, stale_keys, fragmentation, refused_growth, near_a_threshold,
]  # fmt: skip
