"""Whole failovers of the model, servers and a client included, against real ones (tests/recorded/sentinel_runs.json).

    python -m tests.test_recorded_sentinel_run [part of a name …]     prints a table: instants, real and simulated, min median max

Nothing is fitted. The simulated faults are spread over the INFO period of 10 s, since it is not known where in it the lab's were.
An instant agrees if the simulated median lies within the recorded minimum and maximum, both widened by the longest tick.
"""

import functools
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import redsim
from redsim.lab.case import load_pack
from redsim.lab.sentinel_lines import FailoverSeen, failover_of

RECORDED: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "recorded" / "sentinel_runs.json").read_text(encoding="utf-8")
)["rows"]  # fmt: skip
ROWS = {row["name"]: row for row in RECORDED}
TICK_MS = 100  # serverCron at hz 10, the slowest that a Sentinel draws
REPEATS = 8
EARLIER_MS = 6000  # what is not alive in a row is taken for down by the fault
SWITCHED = [row["name"] for row in RECORDED if any(event[2] == "+switch-master" for t in row["trials"] for event in t["events"])]
INSTANTS = (
    "sdown_ms", "sdown_quorum_ms", "odown_ms", "elected_ms", "promoted_ms", "switch_ms", "switch_leader_ms", "outage_ms",
)  # fmt: skip
SCENARIO = """
question: What does a failover take?
duration: {duration}ms
seed: {seed}
hosts: {{box: {{profile: default}}}}
nodes:
  main: {{host: box, version: "7.0", conf: "save \\"\\""}}
  r1: {{host: box, version: "7.0", replica_of: main, conf: "save \\"\\"\\nrepl-diskless-sync-delay 0\\n{r1}"}}
  r2: {{host: box, version: "7.0", replica_of: main, conf: "save \\"\\"\\nrepl-diskless-sync-delay 0\\n{r2}"}}
sentinels:
  count: {ns}
  just_started: true
  hosts: [box]
  conf: |
    sentinel monitor mymaster main {quorum}
    sentinel down-after-milliseconds mymaster {da}
    sentinel failover-timeout mymaster {failover_timeout}
datasets: {{d: {{node: main, keys: 100, value_bytes: 10}}}}
clients:
  w: {{service: mymaster, connections: 1, arrivals: {{closed: {{think: 10ms}}}}, timeout: 100ms, commands: {{SET: 1}},
      keys: {{dataset: d}}}}
timeline:
{timeline}
"""


@functools.cache
def recorded(name: str) -> list[tuple[FailoverSeen, dict[str, float]]]:
    """The trials of a row: what was logged, figures."""
    row, out = ROWS[name], []
    for trial in row["trials"]:
        lines = [(ms / 1000, f"sentinel-{who + 1}", text) for ms, who, text in trial["events"]]
        seen = failover_of(lines, row["params"]["quorum"])
        out.append((seen, {**seen.instants_ms, "outage_ms": trial["outage_ms"], "lost_writes": trial["lost"]}))
    return out


def scenario(name: str, seed: int) -> tuple[redsim.Scenario, int]:
    """The row's scenario and the fault's instant in ms."""
    params = ROWS[name]["params"]
    at = 12_000 + 10_000 * (seed - 1) // REPEATS
    after = params["da"] + 1000 * params.get("resume_after", 0) + 5000
    ends = f", for: {round(1000 * params.get('resume_after', 60))}ms" if params["kind"] == "stop" else ""
    faults = [f"{{at: {at}ms, fault: {'pause' if ends else 'kill'}, node: main{ends}}}"]
    gone = range(params.get("alive_sentinels", params["ns"]) + 1, params["ns"] + 1)
    faults += [f"{{at: {at - EARLIER_MS}ms, fault: kill, node: sentinel-{number}}}" for number in gone]
    faults += [f"{{at: {at - EARLIER_MS}ms, fault: kill, node: r{i}}}" for i in (1, 2) if params.get("kill_replicas")]
    confs = params.get("replica_conf", [{}, {}])
    more = [f"replica-priority {conf.get('replica_priority', 100)}" for conf in confs]
    text = SCENARIO.format(
        duration=round(at + after), seed=seed, r1=more[0], r2=more[1], ns=params["ns"], quorum=params["quorum"], da=params["da"],
        failover_timeout=params.get("failover_timeout", 60_000), timeline="\n".join(f"  - {fault}" for fault in faults),
    )  # fmt: skip
    return redsim.Scenario.from_text(text), at


@functools.cache
def simulated(name: str) -> list[tuple[FailoverSeen, dict[str, float], str]]:
    """As many simulated trials as REPEATS: what is logged, figures, the last master."""
    out = []
    for seed in range(1, REPEATS + 1):
        made, at_ms = scenario(name, seed)
        result = redsim.run(made)
        who = {place.name for place in made.file.sentinel_places}
        rows = result.events.itertuples(index=False)
        lines = [(at - at_ms / 1000, one, text) for at, one, text in rows if one in who]
        seen = failover_of(lines, ROWS[name]["params"]["quorum"])
        told, changes = result.summary["clients"]["w"], result.summary["failovers"]
        lost = float(sum(row["lost_acked_writes"] for row in changes))
        figures = {"outage_ms": 1000 * told["unavailable_s"], "lost_writes": lost}
        out.append((seen, {**seen.instants_ms, **figures}, changes[-1]["to"] if changes else "main"))
    return out


def ranges(figures: list[dict[str, float]], name: str) -> tuple[float, float, float] | None:
    """Minimum, median, maximum; None: it never was."""
    values = [one[name] for one in figures if name in one]
    return (min(values), statistics.median(values), max(values)) if values else None


def apart(name: str) -> list[str]:
    """The instants of a row that do not agree, as sentences."""
    said = []
    for instant in INSTANTS:
        real = ranges([figures for _, figures in recorded(name)], instant)
        model = ranges([figures for _, figures, _ in simulated(name)], instant)
        is_over = ROWS[name]["params"]["kind"] == "kill" and not any("promoted_ms" in figures for _, figures in recorded(name))
        if instant == "outage_ms" and is_over:
            continue  # nobody answers again: the lab counted up to its last answer
        if (real is None) != (model is None):
            said.append(f"{instant}: real {real}, simulated {model}")
        elif real is not None and model is not None and not real[0] - TICK_MS <= model[1] <= real[2] + TICK_MS:
            said.append(f"{instant}: real {real[0]:.0f} to {real[2]:.0f}, simulated median {model[1]:.0f}")
    return said


@pytest.mark.parametrize("name", list(ROWS))
def test_instants_of_a_failover_lie_where_the_real_ones_do(name: str) -> None:
    """Lab rows: +sdown, +odown, elected, promoted, +switch-master, the client's outage."""
    assert apart(name) == []


@pytest.mark.parametrize("name", SWITCHED)
def test_events_come_in_the_real_order(name: str) -> None:
    """Lab rows with a new master: each order that a real leader or observer had is a simulated one's, and the other way round.

    Without one the lab's Sentinels try for 40 s, and the number of tries is the order."""
    real, model = [one[0] for one in recorded(name)], [one[0] for one in simulated(name)]
    assert {seen.leader for seen in real} == {seen.leader for seen in model}
    assert {o for seen in real for o in seen.observers} == {o for seen in model for o in seen.observers}


@pytest.mark.parametrize("name", list(ROWS))
def test_no_acknowledged_write_is_lost_and_the_same_replica_is_chosen(name: str) -> None:
    """Lab rows: 0 lost in each trial; by priority r2 is chosen, otherwise whichever has more."""
    assert {figures["lost_writes"] for _, figures in recorded(name)} == {0}
    assert {figures["lost_writes"] for _, figures, _ in simulated(name)} == {0}
    if name.startswith("priority"):
        assert {trial["new_master"] for trial in ROWS[name]["trials"]} == {to for _, _, to in simulated(name)}


def heard_ms(seen: FailoverSeen) -> float:
    """From +promoted-slave to the first observer's +switch-master."""
    return seen.instants_ms["switch_ms"] - seen.instants_ms["promoted_ms"]


@pytest.mark.parametrize("seed", [12, 21, 47])
def test_observers_hear_of_the_promotion_at_the_leaders_next_tick(seed: int) -> None:
    """Lab rows: 46 to 102 ms in each trial with a promotion. The tick after the INFO that shows it sends a hello that says so,
    unless one was sent beside that INFO and is answered after it, which puts it off by 2 s; in these seeds one is.

    INFO takes its server 20 us, so another Sentinel's answer to a PUBLISH of the same instant comes earlier. On a busy machine it
    is luck: it came later in 2 of 120 trials of this case, and the observers heard 1.93 s after the promotion."""
    real = [heard_ms(seen) for name in SWITCHED for seen, _ in recorded(name) if "promoted_ms" in seen.instants_ms]
    (case,) = load_pack(only=["sentinel-kill-1s"])
    made = case.at(0)
    rows = redsim.run(replace(made, file=made.file.model_copy(update={"seed": seed}))).events.itertuples(index=False)
    lines = [(row.time_s, str(row.who), str(row.text)) for row in rows if str(row.who).startswith("sentinel-")]
    assert min(real) - TICK_MS <= heard_ms(failover_of(lines, 2)) <= max(real) + TICK_MS


def main(parts: list[str]) -> None:
    """The table."""
    print(f"{'row':52} {'instant':17} {'real min':>9} {'median':>7} {'max':>7}   {'model min':>9} {'median':>7} {'max':>7}")
    for name in ROWS:
        if parts and not any(part in name for part in parts):
            continue
        for instant in INSTANTS:
            real = ranges([figures for _, figures in recorded(name)], instant)
            model = ranges([figures for _, figures, _ in simulated(name)], instant)
            if real is None and model is None:
                continue
            shown = [" ".join(f"{value:8.0f}" for value in one) if one else f"{'-':>26}" for one in (real, model)]
            print(f"{name:52} {instant:17} {shown[0]}  {shown[1]}")
        for said in apart(name):
            print(f"{name:52} APART {said}")


if __name__ == "__main__":
    main(sys.argv[1:])
