"""From the steps' results to numbers: what probes said as a starting point, then the fit, then the file's names.

    sockets, wake -> prior of poll, read, write, wake-ups, client        POINTS -> gauss_newton -> costs of the loop
    write() to a sleeper -> wake_peer                                    BENCHMARK_POINTS -> redis-benchmark's own costs
                                                                         CROWD_POINTS -> what more connections cost

A cost the probes see directly is doubted by a third, one that only the totals show by a factor of 1.6 or more. read() and write()
cannot be told apart by totals: their ratio is the probes'.
Not modelled: correlated drift between the probes' minute and the points'.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from redsim.lab.costs import DEPTH
from redsim.lab.fit import (
    BENCHMARK_POINTS,
    CAPACITY_OF,
    CROWD_POINTS,
    POINTS,
    RISES,
    Fitted,
    Measured,
    Point,
    Unknown,
    fit,
    from_rows,
    simulate,
    twin,
    value_of,
    with_values,
)
from redsim.lab.probes import Rows, wake_law
from redsim.lab.profile_out import profile_data, write_profile
from redsim.scenario.profile import Curve, HostProfile, load_profile
from redsim.units import US

Share = Callable[[float], None]
Figures = dict[str, dict[str, Any]]
LATER_HOST = ("syscall_ns", "random_load_ns", "memcpy_bytes_per_s", "page_fault_ns", "cow_fault_ns", "reuse_fault_ns",
              "huge_fork_ns_per_mib", "huge_split_ns", "huge_copy_ns")  # fmt: skip
LATER_DISK = ("fork_ns_per_mib", "fork_ns", "child_own_bytes", "rdb_save_bytes_per_s", "rdb_load_bytes_per_s", "rdb_key_ns",
              "rdb_byte_ps", "lzf_byte_ps", "fsync_ns")  # fmt: skip
LOOKUPS = {"lookup", "value"}  # curves that memory's speed in one minute scales together
LATER_COLD = ("cold_get_ns", "cold_set_ns")
BOOKKEEPING_NS = 300  # of our generator around each of its calls: the start of the search, not a result
FAST = 0.7  # the search begins with a generator that is not the limit: behind that edge throughput says nothing of the server
NETWORK_MIN_NS = 1000
CROWD_ROUNDS = 4
WAKE_RISE_MIN_NS = 2000.0  # a beginning for the search where the probes were too noisy to show one
SLEEPY, BUSY, TOGETHER = "50 connections at 10 %", CAPACITY_OF, "50 connections x 16"
DIRECT, INDIRECT, VAGUE = 0.3, 0.5, 0.8  # doubts, as logarithms


def found_so_far(done: dict[str, Any]) -> dict[str, Any]:
    """The steps' results under the names profile_data() takes; what was not measured is not there."""
    out: dict[str, Any] = {"numbers": {**probed(done), **fitted(done)}, "later": later(done)}
    if "commands" in done:
        out["commands"] = done["commands"]["laws"]
    out["curves"] = {**done.get("keys", {}), **done.get("database", {}), **done.get("crowd", {}), **done.get("fit_crowd", {})}
    factor = done.get("fit", {}).get("lookup_factor", 1.0)
    for name in LOOKUPS & out["curves"].keys():
        out["curves"][name] = [[n, *(round(ns * factor) for ns in row)] for n, *row in out["curves"][name]]
    if "expiry" in done:
        out["curves"]["expire_del"] = done["expiry"]["expire_del"]
    if done.get("wake", {}).get("spread_permille"):
        out["wake_spread"] = done["wake"]["spread_permille"]
    if "hiccups" in done:
        out["hiccups"] = done["hiccups"]
    points = [row for step in ("fit", "fit_benchmark") for row in done.get(step, {}).get("residuals", [])]
    if points:
        says = "redsim against the same loads on the real server; fitted: false was only compared"
        seen = {"rates_per_s": _rates(done), "disturbed": _disturbed(done), "points": points}
        out["fit"] = {"says": says, "lookup_factor": round(factor, 3), **seen}
        if "walk" in done:
            out["fit"]["walk_us"] = done["walk"]["walk_us"]
    return out


def _rates(done: dict[str, Any]) -> dict[str, float]:
    return {row["point"]: row["rate_per_s"] for row in done["points"]["rows"] if row["rate_per_s"]} if "points" in done else {}


def _disturbed(done: dict[str, Any]) -> dict[str, float]:
    """By point: the share of its time in which somebody waited for a CPU."""
    rows = [row for step in ("points", "benchmark") for row in done.get(step, {}).get("rows", [])]
    return {row["point"]: row["disturbed"] for row in rows}


def _as(source: str, figure: dict[str, Any], says: str = "") -> dict[str, Any]:
    return {**figure, "source": source, "says": says or figure["says"]}


def probed(done: dict[str, Any]) -> Figures:
    """Numbers of the profile that a probe gives without the fit (some are replaced by the fit's afterwards)."""
    out: Figures = {}
    if "sockets" in done:
        calls = done["sockets"]
        out |= {name: _as("measured", calls[name]) for name in calls}
        out["loop_poll_ns"] = _as("measured", calls["poll_ns"])
        out["ample_recv_ns"] = _as("measured", calls["read_ns"])
        out["ample_send_ns"] = _as("measured", calls["write_ns"])
    if done.get("wake"):
        out |= _of_wake(done["wake"])
    if "commands" in done:
        out["hook_ns"] = _as("measured", done["commands"]["hook_ns"])
    if "expiry" in done:
        out |= {name: _as("measured", done["expiry"][name]) for name in ("expire_sample_ns", "expire_del_ns")}
    if "server" in done:
        found = done["server"]
        out |= {name: _as("measured", found[name]) for name in ("accept_ns", "close_ns")}
        out["cron_100ms_ns"] = _as("derived", found["cron_100ms_ns"])
        wake = out.get("wake_cpu_deep_ns", {"value": 0})["value"]
        if "fit" in done:
            wake = done["fit"]["values"].get("wake_cpu_deep_ns", {"value": wake})["value"]
        each = found["cron_and_wake_ns"]
        rest = max(each["value"] - wake, each["value"] // 4)
        says = f"{each['says']}, less the wake-up"
        out["cron_ns"] = _as("derived", {**each, "value": rest, "spread": [rest, each["value"]]}, says)
    return out


def _of_wake(wake: dict[str, Any]) -> Figures:
    """The wake-up law, the writer's share of it, the client's own, the loopback's round trip."""
    rows = wake["rows"]
    short, deep, knee = wake_law(rows, "wake_ns")
    short_cpu, deep_cpu, _ = wake_law(rows, "cpu_ns", (knee,))
    middle = min(rows, key=lambda row: abs(row["sleep_ns"] - 50 * US))
    says = "echo of a thread that slept 5 us to 0.5 ms against one that spins"
    peer = max(middle["write_ns"] - wake["spinning_write_ns"]["value"], 100)
    lows, highs = min(row["spread"][0] for row in rows), max(row["spread"][1] for row in rows)

    def law(value: int, what: str, low: int = 0, high: int = 0) -> dict[str, Any]:
        return {"value": value, "source": "derived", "says": f"{what}; {says}", "spread": [low or value, high or value]}

    return {
        "wake_ns": law(short, "latency after a short sleep", max(lows, 0)),
        "wake_deep_ns": law(deep, "latency after a long sleep", 0, highs),
        "wake_cpu_ns": law(short_cpu, "CPU after a short sleep"),
        "wake_cpu_deep_ns": law(deep_cpu, "CPU after a long sleep"),
        "deep_after_ns": law(knee, "where the line of latency against sleep bends"),
        "loop_wake_ns": law(max(middle["wake_ns"], 100), "latency after 50 us of sleep", *middle["spread"]),
        "wake_peer_ns": law(peer, "write() to a thread asleep for 50 us, more than to one that spins"),
    }


def later(done: dict[str, Any]) -> Figures:
    """What the simulator has no place for yet."""
    out: Figures = {}
    for step, names in (("host", LATER_HOST), ("disk", LATER_DISK), ("commands", LATER_COLD)):
        out |= {name: done[step][name] for name in names if name in done.get(step, {})}
    if done.get("wake"):
        table = [[row["sleep_ns"], row["wake_ns"], row["cpu_ns"], row["write_ns"]] for row in done["wake"]["rows"]]
        says = "[sleep ns, latency of the wake-up ns, its CPU ns, ns of the waking write()]"
        out["wake_ups"] = {"table": table, "says": says}
        out["round_trip_ns"] = done["wake"]["round_trip_ns"]
    return out


def fitted(done: dict[str, Any]) -> Figures:
    """The fits' numbers, each saying what it started from."""
    out: Figures = {}
    for step in ("fit", "fit_benchmark"):
        for name, found in done.get(step, {}).get("values", {}).items():
            says = f"solved from the points under `fit`; {found['from']}"
            out[name] = {"value": found["value"], "spread": found["spread"], "source": "derived", "says": says}
    return out


# ---- the fits ------------------------------------------------------------------------------------------------------


def profile_of(done: dict[str, Any]) -> HostProfile:
    """A HostProfile of the results so far, by way of the file's own loader."""
    machine = {"cores": 2, "memory_bytes": 1 << 30}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "so-far.yaml"
        write_profile(profile_data("so far", "the results so far", machine, found_so_far(done)), path)
        return load_profile(str(path), Path(folder))


def unknowns(done: dict[str, Any], base: HostProfile) -> list[Unknown]:
    """The loop's costs, each with what is known of it and how far that may be off."""
    calls, wake = done.get("sockets", {}), done.get("wake") or {}

    def at(name: str) -> float:
        return value_of(base, name)

    write = float(wake["spinning_write_ns"]["value"]) if wake else at("write_ns")
    round_trip = float(wake["round_trip_ns"]["value"]) if wake else 0.0
    network = round_trip - 2 * (write + at("read_ns"))
    per_byte = INDIRECT if "read_ps_per_byte" in calls else VAGUE
    return [
        Unknown("poll_ns", at("poll_ns"), DIRECT),
        Unknown("read_ns", at("read_ns"), DIRECT),
        Unknown("write_ns", at("write_ns"), DIRECT),
        Unknown("call_ns", at("call_ns"), VAGUE),
        Unknown("parse_ns", at("parse_ns"), INDIRECT),
        Unknown("read_ps_per_byte", max(at("read_ps_per_byte"), 50.0), per_byte),
        Unknown("write_ps_per_byte", max(at("write_ps_per_byte"), 50.0), per_byte),
        Unknown("parse_ps_per_byte", at("parse_ps_per_byte"), VAGUE),
        Unknown("wake_ns", max(at("wake_ns"), 500.0), INDIRECT),
        Unknown("wake_rise_ns", max(at("wake_rise_ns"), WAKE_RISE_MIN_NS), INDIRECT),
        Unknown("wake_cpu_ns", max(at("wake_cpu_ns"), WAKE_RISE_MIN_NS), INDIRECT),
        Unknown("wake_cpu_rise_ns", max(at("wake_cpu_rise_ns"), WAKE_RISE_MIN_NS), INDIRECT),
        Unknown("deep_after_ns", at("deep_after_ns"), DIRECT),
        Unknown("loopback_rtt_ns", max(network, float(NETWORK_MIN_NS)), VAGUE),
        Unknown("loop_send_ns", at("ample_send_ns") + BOOKKEEPING_NS, DIRECT, FAST),
        Unknown("loop_recv_ns", at("ample_recv_ns") + BOOKKEEPING_NS, DIRECT, FAST),
        Unknown("loop_each_ns", at("loop_each_ns"), INDIRECT),
        Unknown("bytes_ps", at("bytes_ps"), VAGUE),
    ]


def solve(done: dict[str, Any], share: Share = lambda part: None) -> dict[str, Any]:
    """{values, residuals}: the loop's costs from the step `points`."""
    base = profile_of({step: result for step, result in done.items() if step not in ("fit", "fit_benchmark")})
    rows = from_rows(done["points"]["rows"])
    first, said = first_ns(base, rows)
    base = with_values(base, {"first_ns": first})
    factor = lookup_factor(base, rows)
    base = with_lookups(base, factor)
    base = with_values(base, {"cold_ns": cold_ns(base, rows)})
    found = fit(base, unknowns(done, base), POINTS, rows, share)
    out = _told(found, unknowns(done, base))
    cold = round(cold_ns(found.profile, rows))
    out["lookup_factor"] = factor
    out["values"]["first_ns"] = {"value": round(first), "spread": [round(first)] * 2, "from": said}
    says = f"commandstats at {SLEEPY} against {BUSY}"
    out["values"]["cold_ns"] = {"value": cold, "spread": [cold, cold], "from": says}
    return out


def with_lookups(profile: HostProfile, factor: float) -> HostProfile:
    """The profile with look-ups that cost `factor` times as much, whatever the number of keys."""
    known = {name: profile.curves[name] for name in LOOKUPS & profile.curves.keys()}
    dearer = {name: tuple((n, round(ns * factor)) for n, ns in curve.points) for name, curve in known.items()}
    return replace(profile, curves={**profile.curves, **{n: replace(known[n], points=points) for n, points in dearer.items()}})


def lookup_factor(profile: HostProfile, measured: Sequence[Measured]) -> float:
    """What the curve `lookup` is to be multiplied by, so that the time inside pipelined commands is that of the points: memory
    was as fast in that minute as it was, not as when the curve was taken. Within a factor of two: beyond that one of them was
    disturbed."""
    rows = {row.point: row for row in measured}
    if TOGETHER not in rows:
        return 1.0
    scenario = twin(next(point for point in POINTS if point.name == TOGETHER), 0.0)
    without, with_all = (simulate(scenario, with_lookups(profile, factor))["usec_per_call"] for factor in (0.0, 1.0))
    factor = (rows[TOGETHER].values["usec_per_call"] - without) / max(with_all - without, 1e-6)
    return min(max(factor, 0.5), 2.0)


def first_ns(profile: HostProfile, measured: Sequence[Measured]) -> tuple[float, str]:
    """How much longer the first command of a read is inside its function: commandstats of one command a read against 16; its
    code and data have been driven out of the caches by the system calls since the last."""
    rows = {row.point: row for row in measured}
    if BUSY not in rows or TOGETHER not in rows:
        return value_of(profile, "first_ns"), "taken over"
    more = 1000 * (rows[BUSY].values["usec_per_call"] - rows[TOGETHER].values["usec_per_call"])
    return max(more * DEPTH / (DEPTH - 1), 0.0), f"commandstats at {BUSY} against {TOGETHER}"


def cold_ns(profile: HostProfile, measured: Sequence[Measured]) -> float:
    """How much longer the first command after a long sleep is, from commandstats of a sleepy server against a busy one: the
    model's time inside commands is linear in it, so two simulations tell."""
    rows = {row.point: row for row in measured}
    if SLEEPY not in rows or BUSY not in rows:
        return value_of(profile, "cold_ns")
    point = next(point for point in POINTS if point.name == SLEEPY)
    scenario = twin(point, rows[SLEEPY].rate_per_s)
    trial = 2000.0
    without, with_trial = (simulate(scenario, with_values(profile, {"cold_ns": cold}))["usec_per_call"] for cold in (1.0, trial))
    wanted = rows[SLEEPY].values["usec_per_call"] - rows[BUSY].values["usec_per_call"]
    return max(1.0, trial * wanted / max(with_trial - without, 1e-6))


def solve_benchmark(done: dict[str, Any], share: Share = lambda part: None) -> dict[str, Any]:
    """{values, residuals}: redis-benchmark's own costs, and what waking a sleeping client costs, from the step `benchmark`."""
    base = profile_of({step: result for step, result in done.items() if step != "fit_benchmark"})
    names = {"benchmark_send_ns": INDIRECT, "benchmark_recv_ns": INDIRECT, "benchmark_each_ns": VAGUE, "loop_wake_ns": INDIRECT,
             "wake_peer_ns": INDIRECT}  # fmt: skip
    wanted = [Unknown(name, value_of(base, name), doubt) for name, doubt in names.items()]
    return _told(fit(base, wanted, BENCHMARK_POINTS, from_rows(done["benchmark"]["rows"]), share), wanted)


def solve_crowd(done: dict[str, Any], share: Share = lambda part: None) -> dict[str, Rows]:
    """The curve `connections`: what a request of each of CROWD_POINTS costs the server more than one of 50 connections, in the
    same rounds of the step `points`; none if they were not measured."""
    base = profile_of({step: result for step, result in done.items() if step != "fit_crowd"})
    rows = {row.point: row for row in from_rows(done["points"]["rows"])}
    points = [point for point in CROWD_POINTS if point.name in rows]
    if BUSY not in rows or not points:
        return {}
    few = next(point for point in POINTS if point.name == BUSY)
    left = simulate(twin(few, 0.0), base)["cpu_us_per_command"] / rows[BUSY].values["cpu_us_per_command"]  # by the fit
    out = [[few.connections, 0, 0, 0]]
    for i, point in enumerate(points):
        row = rows[point.name]
        cpu_us, spread = left * row.values["cpu_us_per_command"], row.spreads["cpu_us_per_command"]
        ns, doubt = crowding_ns(base, few.connections, point, cpu_us), 1000 * cpu_us * spread
        out.append([point.connections, round(ns), max(round(ns - doubt), 0), round(ns + doubt)])
        share((i + 1) / len(points))
    return {"connections": out}


def crowding_ns(base: HostProfile, few: int, point: Point, cpu_us: float) -> float:
    """ns of the server a request of `point` more than with `few` connections, so that redsim gives `cpu_us` of its CPU a command:
    they show in it one to one, but for polls that are shared otherwise."""
    more = 0.0
    for _ in range(CROWD_ROUNDS):
        curve = Curve(((few, 0), (point.connections, round(more))), True, "derived")
        found = simulate(twin(point, 0.0), replace(base, curves={**base.curves, "connections": curve}))
        more = max(more + 1000 * (cpu_us - found["cpu_us_per_command"]), 0.0)
    return more


def _told(found: Fitted, wanted: list[Unknown]) -> dict[str, Any]:
    start = {
        RISES[u.name][1] if u.name in RISES else u.name: f"begun at {round(u.prior)}, doubted by {u.doubt:g}" for u in wanted
    }
    return {"values": {name: {**row, "from": start[name]} for name, row in found.values.items()}, "residuals": found.residuals}
