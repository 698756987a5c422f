"""The model against a real Redis 7.0.15 that was measured once (tests/recorded/lab-7.0.15.json): shape and level.

    python -m tests.test_recorded [section …]     prints every row: measured, simulated, ratio, and which are misses

Nothing here is fitted by the test: it runs the default profile. The bound of a level is a factor of 1.6 either way, because the
machine measured differs from itself by that much (the same SET with 50 clients and P=16 gave 477, 568, 812 and 997 thousand a
second in the four experiments the rows come from), or the spread of the row's own repetitions where that is wider. What the model
misses is named in MISSES with what is thought to be the reason; such a row is held to its own wider bound, so that neither a hit
nor a miss can rot. Shapes have tests too.
The lab's generator spins and never sleeps: its profile is the default one with nothing paid for waking the client.
"""

import functools
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redsim.dataplane import layout as dp
from redsim.run import engine
from redsim.scenario.load import Scenario
from redsim.units import MS
from tests.recorded_rows import BOUND, Misses, Row, lines_of
from tests.small_worlds import profile, scenario, world_of

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "lab-7.0.15.json").read_text(encoding="utf-8"))
DRAIN_BOUND = 2.0  # three repetitions of one drain: 33, 58 and 64 ms

# (section, case, quantity) -> (widest ratio allowed, why it is missed)
CEILING = "the generator itself cannot do more than 140,000/s, so that it cannot catch up"
MISSES: Misses = {
    ("KEYS stall", "1M, 30 %", "stall ms"): (2.2, "the curve is KEYS alone, 265 ms; under load the lab saw 132 to 217"),
    ("KEYS stall", "3M, 30 %", "stall ms"): (2.0, "453 to 785 in the lab; the curve is extrapolated from 1M"),
    ("drain", "3M, 80 %", "drained after ms"): (5.0, CEILING),
}


@functools.cache
def spinning() -> str:
    """The profile of the lab's runs with its own generator, whose thread never sleeps."""
    return profile(zero=False, wake_peer_ns=0, loop_wake_ns=0)


def load(
    seconds: float, connections: int, arrivals: str, *, pipeline: int = 1, keys: int = 100_000, station: str = "loop",
    commands: str = "{GET: 0.5, SET: 0.5}", value_bytes: int = 100, extra: str = "",
) -> Scenario:  # fmt: skip
    """The lab's load as a scenario: one group `lg` on uniform keys, server and generator on a core each."""
    return scenario(
        f"""\
duration: {seconds}s
warmup: 100ms
nodes: {{main: {{host: box, conf: 'save ""'}}}}
datasets: {{d: {{node: main, keys: {keys}, value_bytes: {value_bytes}}}}}
clients:
  lg: {{node: main, connections: {connections}, pipeline: {pipeline}, arrivals: {arrivals}, commands: {commands},
       keys: {{dataset: d}}, station: {{kind: {station}, threads: 1}}}}
{extra}""",
        profile_text=spinning() if station == "loop" else None,
    )


def spread(repetitions: list[float]) -> float:
    """BOUND, or how far the repetitions lie from their median, as a factor, if that is more."""
    middle = float(np.median(repetitions))
    return max(BOUND, max(repetitions) / middle, middle / min(repetitions))


def _numbers(loaded: Scenario) -> tuple[dict[str, Any], dict[str, Any]]:
    summary = engine.run(loaded).summary
    return summary["clients"]["lg"], summary["nodes"]["main"]


@functools.cache
def open_loop() -> list[Row]:
    """loop_latency: 10 to 110 % of the closed-loop capacity of 50 connections."""
    rows = []
    for r in RECORDED["open_loop"]["rows"]:
        lg, node = _numbers(load(0.8, 50, f"{{open: {{rate_per_s: {r['rate_per_s']}}}}}"))
        case = f"{r['load']:.0%}"
        rows += [
            Row("open loop", case, "CPU us/command", r["server_cpu_us_per_command"], node["cpu_us_per_command"]),
            Row("open loop", case, "p50 us", r["p50_us"], lg["latency_us"]["p50"], spread(r["p50_us_all"])),
            Row("open loop", case, "commands/read", r["commands_per_read"], node["commands"] / node["reads"], 1.15),
        ]
    return rows


@functools.cache
def saturation() -> list[Row]:
    """loop_saturation: 10 and 50 connections, up to what the generator can offer without being late itself."""
    rows = []
    for r in RECORDED["saturation"]["rows"]:
        if r["rate_per_s"] > 130_000:
            continue
        lg, node = _numbers(load(0.8, r["connections"], f"{{open: {{rate_per_s: {r['rate_per_s']}}}}}"))
        case = f"{r['connections']}, {r['rate_per_s'] / 1000:.0f}k/s"
        rows += [
            Row("saturation", case, "answered/s", r["achieved_per_s"], lg["throughput_per_s"], 1.05),
            Row("saturation", case, "CPU us/command", r["server_cpu_us_per_command"], node["cpu_us_per_command"]),
            Row("saturation", case, "commands/read", r["commands_per_read"], node["commands"] / node["reads"]),
        ]
    return rows


@functools.cache
def closed_loop() -> list[Row]:
    """loop_latency's closed rows: connections x pipeline with the spinning generator."""
    rows = []
    for r in RECORDED["closed_loop"]["rows"]:
        lg, node = _numbers(load(0.4, r["connections"], "{closed: {}}", pipeline=r["pipeline"]))
        case = f"{r['connections']} x {r['pipeline']}"
        rows += [
            Row("closed loop", case, "requests/s", r["per_s"], lg["throughput_per_s"], spread(r["per_s_all"])),
            Row("closed loop", case, "p50 us", r["p50_us"], lg["latency_us"]["p50"]),
            Row("closed loop", case, "CPU us/command", r["server_cpu_us_per_command"], node["cpu_us_per_command"]),
        ]
    return rows


@functools.cache
def redis_benchmark() -> list[Row]:
    """The redis-benchmark matrix, SET and GET of 100 bytes: it is bound by its one client thread."""
    rows = []
    for r in RECORDED["redis_benchmark"]["rows"]:
        if r["payload_bytes"] != 100:
            continue
        name = r["test"].upper()
        lg, node = _numbers(load(0.3, r["clients"], "{closed: {}}", pipeline=r["pipeline"], station="redis-benchmark",
                                 commands=f"{{{name}: 1}}"))  # fmt: skip
        case = f"{name} {r['clients']} x {r['pipeline']}"
        inside = r["clients"] * r["pipeline"] * 1e3
        rows += [
            Row("redis-benchmark", case, "requests/s", r["per_s"], lg["throughput_per_s"]),
            Row("redis-benchmark", case, "p50 us", 1000 * r["p50_ms"], lg["latency_us"]["p50"]),
            Row("redis-benchmark", case, "X p50 / (c P)", r["per_s"] * r["p50_ms"] / inside,
                lg["throughput_per_s"] * lg["latency_us"]["p50"] / 1000 / inside, 1.25),
            Row("redis-benchmark", case, "CPU us/command", r["server_cpu_us_per_command"], node["cpu_us_per_command"]),
        ]  # fmt: skip
    return rows


def drain(keys: int, rate_per_s: float, injected: str) -> tuple[float, int, float]:
    """(stall ms, requests outstanding at its end, ms until at most 3 were) of one command at 0.5 s under an open load."""
    x = world_of(load(2, 50, f"{{open: {{rate_per_s: {rate_per_s}}}}}", keys=keys,
                      extra=f"window: 500us\ntimeline:\n  - {{at: 500ms, node: main, {injected}}}\n"))  # fmt: skip
    mine = [i for i, (group, _) in enumerate(x.built.series) if group == "lg"]
    group = [plan.name for plan in x.built.plans.plans].index("lg")
    outstanding = np.cumsum(x.w.offered[:, group]) - np.cumsum(x.w.heat[:, mine, :].sum(axis=(1, 2)))
    stalls = x.w.stalls[: x.st(dp.STALLS)]
    start, ns = (int(v) for v in stalls[np.argmax(stalls[:, 1]), :2])
    window = x.st(dp.WINDOW)
    at_end = (start + ns) // window
    calm = int(at_end) + 1 + int(np.argmax(outstanding[at_end + 1 :] <= 3))
    assert outstanding[calm] <= 3, "the queue never drained"
    return ns / MS, int(outstanding[at_end]), ((calm + 1) * window - start - ns) / MS


def _median(r: dict[str, Any], what: str) -> float:
    return float(np.median([repetition[what] for repetition in r["repetitions"]]))


def _stall_case(r: dict[str, Any]) -> str:
    return f"{'100k' if r['keys'] == 100_000 else str(r['keys'] // 1_000_000) + 'M'}, {r['load']:.0%}".replace("%", " %")


@functools.cache
def keys_stall() -> list[Row]:
    """keys_stall: how long KEYS itself holds the loop, by the profile's curve."""
    rows = []
    for r in RECORDED["keys_stall"]["rows"]:
        if r["load"] == 0.3:
            stall_ms, _, _ = drain(r["keys"], r["rate_per_s"], 'run: "KEYS nomatch*"')
            rows.append(Row("KEYS stall", _stall_case(r), "stall ms", _median(r, "exec_ms"), stall_ms))
    return rows


@functools.cache
def drains() -> list[Row]:
    """keys_stall: the queue at the end of a stall and the time it takes to drain, for a stall as long as the one measured."""
    rows = []
    for r in RECORDED["keys_stall"]["rows"]:
        stall = f"run: 'EVAL script 0', duration: {_median(r, 'exec_ms')}ms"
        _, queue, drained_ms = drain(r["keys"], r["rate_per_s"], stall)
        rows.append(Row("drain", _stall_case(r), "queue at end", _median(r, "queue_at_end"), queue, 1.2))
        rows.append(Row("drain", _stall_case(r), "drained after ms", _median(r, "drained_after_ms"), drained_ms, DRAIN_BOUND))
    return rows


@functools.cache
def scan() -> list[Row]:
    """keys_stall's SCAN passes over 200,000 keys: usec_per_call at COUNT 10 to 10,000."""
    rows = []
    for r in RECORDED["scan"]["rows"]:
        _, node = _numbers(load(1, 1, "{closed: {}}", keys=RECORDED["scan"]["keys"], station="ample",
                                commands=f"{{SCAN: {{weight: 1, count: {r['count']}}}}}"))  # fmt: skip
        usec = node["info"]["commandstats"]["cmdstat_scan"]["usec_per_call"]
        rows.append(Row("SCAN", f"COUNT {r['count']}", "usec per call", r["usec_per_call"], usec, 1.3))
    return rows


SECTIONS: dict[str, Callable[[], list[Row]]] = {
    "open": open_loop, "saturation": saturation, "closed": closed_loop, "benchmark": redis_benchmark,
    "keys": keys_stall, "drain": drains, "scan": scan,
}  # fmt: skip


@pytest.mark.parametrize("section", list(SECTIONS))
def test_the_model_is_near_the_measured_server(section, capsys):
    """tests/recorded/lab-7.0.15.json; a factor of 1.6, or what MISSES or the row says."""
    rows = SECTIONS[section]()
    with capsys.disabled():
        for row in rows:
            if not row.is_hit():
                print("\n" + row.line(MISSES), end="")
    far = [row.line(MISSES) for row in rows if row.factor() > row.allowed(MISSES)]
    assert not far, "\n".join(far)


def test_every_named_miss_is_still_missed():
    """A row that has become a hit has no business in MISSES."""
    rows = {(row.section, row.case, row.quantity): row for make in SECTIONS.values() for row in make()}
    assert [key for key in MISSES if rows[key].is_hit()] == []


def _by_case(rows: list[Row], quantity: str) -> list[tuple[float, float]]:
    return [(row.measured, row.simulated) for row in rows if row.quantity == quantity]


def test_cpu_per_command_falls_with_load_as_polls_and_wake_ups_are_shared():
    """loop_latency: 23 us at 10 %, 9 us at 100 %: a fixed service time is off by 2.5. Ours falls at each step, by 1.6 in all."""
    simulated = [s for _, s in _by_case(open_loop(), "CPU us/command")]
    assert all(a > b for a, b in itertools.pairwise(simulated))
    assert simulated[0] / simulated[-2] > 1.6


def test_median_latency_is_nearly_flat_from_ten_to_ninety_percent():
    """loop_latency: 40 to 55 us; M/M/1 would rise tenfold. Ours stays within a factor of 1.7 of itself."""
    simulated = [s for _, s in _by_case(open_loop(), "p50 us")][:10]
    assert max(simulated) / min(simulated) < 1.7


def test_a_queue_drains_far_faster_than_a_fixed_service_time_allows():
    """keys_stall: 172 ms at 80 % drained in 58 ms; M/D/1 says rho / (1 - rho) = 4 times the stall. Both under half of it here."""
    (row,) = [r for r in drains() if r.case == "1M, 80 %" and r.quantity == "drained after ms"]
    stall_ms = next(_median(r, "exec_ms") for r in RECORDED["keys_stall"]["rows"] if _stall_case(r) == "1M, 80 %")
    assert row.simulated < 0.5 * stall_ms
    assert row.measured < 0.5 * stall_ms


def test_redis_benchmark_breaks_littles_law_in_the_same_sense():
    """Its clock runs from its write to its first read: rate times p50 is half of 50 connections, nearly all of 1."""
    for case, low, high in (("SET 50 x 1", 0.4, 0.65), ("SET 200 x 1", 0.4, 0.65), ("SET 1 x 1", 0.8, 1.0)):
        (row,) = [r for r in redis_benchmark() if r.case == case and r.quantity == "X p50 / (c P)"]
        assert low < row.simulated < high
        assert low < row.measured < high


def table(sections: list[str]) -> Iterator[str]:
    """Every row of these sections (default: all), then how many are hits."""
    return lines_of([row for name in sections or SECTIONS for row in SECTIONS[name]()], MISSES)


if __name__ == "__main__":
    print("\n".join(table(sys.argv[1:])))
