"""A failover for nothing, a second after one that was needed: the model against 120 real trials of the case sentinel-kill-1s.

    kill   each Sentinel tries to connect, at once and then once a second
    +2.2 s the observers switch: down-after, 1 s here, counts from now, but they try again when the last try is a second old
    +3.2 s whose last try was just before the switch has sent no PING for longer than down-after: +sdown of a master that is
           well, and +odown in the same tick, "3/2": the others' answers are good for 5 s, and were about the dead master
    +3.4 s it is elected; the master of a second is told nothing for 8 s, and what it acknowledges meanwhile is lost

Nothing is fitted.
"""

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import redsim
from redsim.lab.case import load_pack
from redsim.run.result import Result

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parent / "recorded" / "sentinel_second_failovers.json").read_text(encoding="utf-8")
)  # fmt: skip
TRIALS = [dict(zip(RECORDED["columns"], row, strict=True)) for row in RECORDED["trials"]]
KILL_MS = 8000
TWICE = 35  # a seed with a second failover


@functools.cache
def simulated(seed: int) -> Result:
    (case,) = load_pack(only=["sentinel-kill-1s"])
    made = case.at(0)
    return redsim.run(replace(made, file=made.file.model_copy(update={"seed": seed})))


def events(seed: int) -> list[tuple[float, str, str]]:
    """(ms after the kill, who, text) of the Sentinels' lines."""
    rows = simulated(seed).events.itertuples(index=False)
    return [(1000 * row.time_s - KILL_MS, str(row.who), str(row.text)) for row in rows if str(row.who).startswith("sentinel-")]


def second(lines: list[tuple[float, Any, str]]) -> dict[str, float]:
    """From the first +switch-master to each step of the failover after it, by the one who tries, in ms."""
    at_ms = next(ms for ms, _, text in lines if text.startswith("+switch-master"))
    who = next(who for ms, who, text in lines if ms > at_ms and text.startswith("+try-failover"))
    kinds = ("+sdown master", "+odown master", "+try-failover", "-sdown master", "+elected-leader", "+promoted-slave")
    mine = [(ms - at_ms, text) for ms, one, text in lines if one == who and ms > at_ms]
    return {kind: next(ms for ms, text in mine if text.startswith(kind)) for kind in kinds}


def test_a_second_failover_is_told_as_in_the_real_log() -> None:
    """+sdown, +odown by answers about another master, +try-failover in one tick, down-after and up to a tick after the switch;
    +promoted-slave an INFO later. 150 ms: a tick, and a flush on the lab's disk."""
    real, model = [(ms, who, text) for ms, who, text in RECORDED["twice"]], events(TWICE)
    for lines in (real, model):
        steps = second(lines)
        assert 1000 < steps["+sdown master"] <= 1100
        assert steps["+sdown master"] <= steps["+odown master"] <= steps["+try-failover"] <= steps["+sdown master"] + 1
        assert any(text.startswith("+odown") and text.endswith("#quorum 3/2") and ms > 3000 for ms, _, text in lines)
        assert steps["-sdown master"] - steps["+sdown master"] <= 150
    for kind, ms in second(real).items():
        assert second(model)[kind] == pytest.approx(ms, abs=150), kind


def test_what_is_acknowledged_from_then_on_is_lost() -> None:
    """Real: 234 to 240 writes of a client that writes each 10 ms, in these trials alone; a request here takes a tenth less."""
    real = [trial["lost"] for trial in TRIALS if trial["tries_after"]]
    assert all(bool(trial["lost"]) == bool(trial["tries_after"]) for trial in TRIALS)
    lost = sum(one["lost_acked_writes"] for one in simulated(TWICE).summary["failovers"])
    assert 0.85 * lost <= min(real) <= max(real) <= lost


@pytest.mark.slow
def test_a_second_failover_is_as_rare_as_a_real_one() -> None:
    """Real: 4 of 120, 0.9 to 8.3 % [Clopper-Pearson, 95 %]; of the model 16 of 320; it was 18 of 150 before INFO took 20 us."""
    assert sum(bool(trial["tries_after"]) for trial in TRIALS) == 4
    count = 0
    for seed in range(1, 121):
        lines = events(seed)
        promoted_ms = next(ms for ms, _, text in lines if text.startswith("+promoted-slave"))
        count += any(ms > promoted_ms and text.startswith("+try-failover") for ms, _, text in lines)
        simulated.cache_clear()
    assert 0.009 <= count / 120 <= 0.083
