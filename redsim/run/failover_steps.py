"""What came before a failover, and when its steps were: the failovers of summary.json, with what stalls and Sentinels' logs say.

    down_at_s   the crash, the stall of the loop or the fault of the network that made Sentinels take the master for down, or
                when an operator said SENTINEL FAILOVER
    sdown_s     the first Sentinel's +sdown     odown_s, elected_s   of the Sentinel that led it
    at_s        the promoted server is a master     switch_s, switch_all_s   the first and the last Sentinel to give its address

Mirrors sentinel.c by its events. Differs: an operator would have to guess what came before; a run knows.
Not modelled: two causes at once; of those the crash is told, then the stall, then the network.
"""

from collections.abc import Sequence
from typing import Any

from redsim.run.failover_log import Failover
from redsim.run.result import Result
from redsim.scenario.network import NetworkFault
from redsim.units import S

__all__ = ["ASKED", "HELD_S", "cause", "down_after_s", "long_stall", "with_steps"]

HELD_S = 0.5  # a stall this long is worth a word of its own beside a Sentinel's time-out
SENTINELS_LATE_S = 2.5  # +sdown comes so long after down-after-milliseconds at the latest: the PING's phase and a tick
ASKED = "SENTINEL FAILOVER"
STEPS = {"sdown_s": "sdown_s", "odown_s": "odown_s", "elected_s": "elected_s", "switch_s": "switch_first_s",
         "switch_all_s": "switch_all_s"}  # by their names in an attempt's summary


def with_steps(result: Result, attempts: Sequence[Failover]) -> list[dict[str, Any]]:
    """The failovers of a summary with down_at_s, because, and when Sentinels took which step; null: never, or no Sentinel's."""
    rows = []
    for row in result.summary["failovers"]:
        led = _attempt(row, attempts)
        told = led.summary() if led is not None else {}
        steps = {name: told.get(of) for name, of in STEPS.items()}
        sdown_s = steps["sdown_s"]
        why = cause(result, row["from"], sdown_s) if sdown_s is not None else None
        if led is not None and led.odown_ns is None:
            why = (led.try_ns / S, ASKED)  # nobody saw it down
        down_at_s, because = why if why is not None else (None, None)
        rows.append({**row, "down_at_s": down_at_s, "because": because, **steps})
    return rows


def _attempt(row: dict[str, Any], attempts: Sequence[Failover]) -> Failover | None:
    """The attempt that a promotion came of: the last one that had chosen that server before it."""
    at_ns = round(row["at_s"] * S)
    mine = [one for one in attempts if one.new.split()[:1] == [row["to"]] and one.selected_ns is not None]
    return next((one for one in reversed(mine) if one.selected_ns is not None and one.selected_ns <= at_ns), None)


def down_after_s(result: Result) -> float:
    """The longest down-after-milliseconds there is."""
    conf = result.scenario.sentinel_conf
    return max((one.down_after_ns / S for one in conf.masters), default=0.0) if conf is not None else 0.0


def cause(result: Result, node: str, sdown_s: float) -> tuple[float, str] | None:
    """(when, what) happened to a node before it was taken for down: a crash, a stall of its loop, a fault of the network."""
    first_s = sdown_s - down_after_s(result) - SENTINELS_LATE_S
    for row in result.summary["nodes"][node].get("crashes") or []:
        if first_s <= row["at_s"] <= sdown_s:
            return float(row["at_s"]), str(row["fault"])
    least_s = min(HELD_S, down_after_s(result))
    held = long_stall(result, node, sdown_s - down_after_s(result), sdown_s, least_s)
    if held is not None:
        return held[0], "stall"
    for _, fault in reversed(result.scenario.file.network_faults):
        spans = [start / S for start, end in fault.spans() if start / S <= sdown_s and end / S >= first_s]
        if spans and _parts_from_a_sentinel(result, fault, node):
            return spans[-1], str(fault.fault)
    return None


def _parts_from_a_sentinel(result: Result, fault: NetworkFault, node: str) -> bool:
    """Whether packets between the node's host and a Sentinel's are lost, or late (a link that is slow)."""
    host, others = result.scenario.file.nodes[node].host, {place.host for place in result.scenario.file.sentinel_places}
    if fault.between is not None and fault.fault == "slow_link":
        return host in fault.between and not others.isdisjoint(fault.between)
    return any(fault.strikes(*pair) for other in others - {host} for pair in ((host, other), (other, host)))


def long_stall(
    result: Result, node: str, from_s: float, to_s: float, least_s: float = HELD_S
) -> tuple[float, float, str, str] | None:
    """(start s, length s, event, because) of the longest stall of a node that overlaps from .. to; None: none of `least_s`."""
    mine = result.stalls[result.stalls["node"] == node]
    ends_s = mine["start_s"] + mine["duration_us"] / 1e6
    mine = mine[(mine["start_s"] <= to_s) & (ends_s >= from_s) & (mine["duration_us"] >= least_s * 1e6)]
    if mine.empty:
        return None
    row = mine.sort_values("duration_us", ascending=False, kind="stable").iloc[0]
    return float(row["start_s"]), float(row["duration_us"]) / 1e6, str(row["event"]), str(row["because"])
