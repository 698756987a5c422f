"""Failovers as real Sentinels of 7.0.15 logged them (tests/recorded/sentinel.json), played by the model.

What is taken from the recording as an input: how long a rewrite of the configuration takes, and when the Sentinels were started
(tests/sentinel_rows.py). Everything else is sentinel.c's constants. `python -m tests.test_sentinel` prints the table.
"""

from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from statistics import median
from time import perf_counter

import pytest

from redsim.units import S
from tests.sentinel_record import MARKS, Line, leader_of, normal, times
from tests.sentinel_rows import MASTER, play, rows, texts
from tests.sentinel_world import world_of

QUICK = ("kill da=1000 3 sentinels", "stop da=1000 3 sentinels", "kill da=3000 3 sentinels", "kill da=5000 3 sentinels",
         "kill da=1000 5 sentinels q3", "stop then resume da=1000", "partition da=1000", "2 of 3 alive")  # fmt: skip
SEEDS, MANY_SEEDS = 40, 400
# Of every time there are a few trials. A timer ticks every 52 to 100 ms, so that no instant is known better than one tick.
JITTER_S = 0.1
CONTESTED = "voted for OBSERVER 1"  # two asked for votes at once: rare, and the more so in a few dozen trials
COMMON = 12  # lines of a Sentinel that tries again and again, after which every trial is another one


@cache
def played(name: str, seed: int) -> list[Line]:
    return play(name, seed)


@cache
def said(name: str, seeds: int) -> tuple[frozenset[tuple[str, ...]], frozenset[tuple[str, ...]]]:
    """What the model's leaders and observers say, a variant each."""
    leaders, observers = set(), set()
    for seed in range(seeds):
        lines = played(name, seed)
        who, _ = leader_of(lines)
        for sentinel, spoken in normal(lines, MASTER).items():
            (leaders if sentinel == who else observers).add(tuple(spoken))
    return frozenset(leaders), frozenset(observers)


def is_said(recorded: tuple[str, ...], model: Iterable[tuple[str, ...]]) -> bool:
    """The recording ends earlier."""
    return any(spoken[: len(recorded)] == recorded for spoken in model)


@pytest.mark.parametrize("name", QUICK)
def test_every_sentinel_says_what_a_real_one_said_in_that_order(name: str) -> None:
    """Every recorded log of a Sentinel, line for line, is one of the model's; contested elections are left to the slow run."""
    leaders, observers = said(name, SEEDS)
    until_switch = [_until_switch(spoken) for spoken in observers]
    for trial in rows()[name]["trials"]:
        if any(CONTESTED in line for line in texts(trial["leader"])):
            continue
        assert is_said(texts(trial["leader"]), leaders), texts(trial["leader"])
        for recorded in map(texts, trial["observers"]):
            assert is_said(_until_switch(recorded), until_switch), recorded


def _until_switch(spoken: tuple[str, ...]) -> tuple[str, ...]:
    """An observer's log up to the new master; the slow run has the rest."""
    return spoken[: 1 + next((i for i, text in enumerate(spoken) if text.startswith("+switch-master")), len(spoken))]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(rows()))
def test_every_recorded_log_is_one_of_the_models(name: str) -> None:
    """All rows, leaders and observers, contested elections too."""
    leaders, observers = said(name, MANY_SEEDS)
    short = COMMON if name.startswith("no replica") else None
    for trial in rows()[name]["trials"]:
        for recorded, model in [(trial["leader"], leaders), *((one, observers) for one in trial["observers"])]:
            spoken = texts(recorded)[:short]
            assert not spoken or is_said(spoken, (one[:short] for one in model)), spoken


@pytest.mark.parametrize("name", QUICK)
def test_times_are_those_of_real_sentinels(name: str) -> None:
    """The model's median is within the recorded range, widened by one tick; every recorded time within the model's, likewise."""
    quorum = rows()[name]["params"]["quorum"]
    model = [times(played(name, seed), quorum) for seed in range(SEEDS)]
    for mark in (*MARKS, "sdown_quorum"):
        real = [trial["times"][mark] for trial in rows()[name]["trials"] if mark in trial["times"]]
        ours = [found[mark] for found in model if mark in found]
        if not real:
            continue
        assert min(real) - JITTER_S <= median(ours) <= max(real) + JITTER_S, f"{mark}: {median(ours)}, recorded {real}"
        assert min(ours) - JITTER_S <= min(real) <= max(real) <= max(ours) + JITTER_S, f"{mark}: {min(ours)}..{max(ours)}, {real}"


def test_sigstop_shorter_than_down_after_goes_unnoticed() -> None:
    """1.4 s of 2: recorded without a line."""
    name = "SIGSTOP shorter than down-after (1.4 of 2000 ms)"
    assert all(not trial["observers"] for trial in rows()[name]["trials"])
    assert all(not played(name, seed) for seed in range(10))


def test_one_of_three_with_quorum_one_is_never_elected_and_waits_twice_the_timeout() -> None:
    """failover-timeout 6000: not elected after it, tried again after 12 s and up to 1 s; recorded the same."""
    name = "1 of 3 alive, quorum 1, failover-timeout 6000"
    for seed in range(5):
        tries = [at for at, _, text in played(name, seed) if text.startswith("+try-failover")]
        lost = [at for at, _, text in played(name, seed) if text.startswith("-failover-abort-not-elected")]
        assert len(tries) >= 4, "12 s apart or so, in 46 s"
        assert all(6.0 <= b - a <= 7.2 for a, b in zip(tries, lost, strict=False)), (tries, lost)
        assert all(12.0 <= b - a <= 13.2 for a, b in pairwise(tries)), tries


def test_one_of_three_with_quorum_two_finds_it_down_and_does_nothing() -> None:
    """Recorded: one line, +sdown."""
    lines = {text for seed in range(5) for _, _, text in played("1 of 3 sentinels alive, quorum 2", seed)}
    assert lines == {"+sdown master mymaster main 6379"}


def test_without_a_replica_the_leader_gives_up_and_another_tries_later() -> None:
    """Recorded: -failover-abort-no-good-slave, the next try after twice failover-timeout."""
    lines = played("no replica alive, failover-timeout 6000", 1)
    tries = [at for at, _, text in lines if text.startswith("+try-failover")]
    assert sum(text.startswith("-failover-abort-no-good-slave") for _, _, text in lines) >= 3
    assert 12.0 <= tries[1] - tries[0] <= 13.2


def test_priority_decides_who_is_promoted() -> None:
    """slave-priority 10 before 100; 0 never: recorded r2 in both."""
    for name in ("priority: r1 100, r2 10", "priority: r1 0 (never), r2 100"):
        chosen = {text.split()[2] for seed in range(5) for _, _, text in played(name, seed) if text.startswith("+selected-slave")}
        assert chosen == {"r2:6379"}


def test_the_leader_is_the_last_to_switch() -> None:
    """facts §12.7: observers switch at the hello after the promotion, the leader after all replicas are reconfigured."""
    for seed in range(SEEDS):
        lines = played("kill da=3000 3 sentinels", seed)
        switches = [who for _, who, text in lines if text.startswith("+switch-master")]
        assert switches[-1] == leader_of(lines)[0]
        assert len(switches) == 3


def test_one_seed_is_one_story() -> None:
    """STYLE rule 4: the same seed, the same lines at the same instants."""
    assert play("stop da=1000 3 sentinels", 7) == play("stop da=1000 3 sentinels", 7) != play("stop da=1000 3 sentinels", 8)


def table() -> str:
    """Medians, and the range, of every mark of every row: recorded, the model's."""
    out = [f"{'row':50} {'mark':13} {'recorded, s':>26} {'model, s':>26} {'model - recorded':>17}"]
    for name, row in rows().items():
        model = [times(played(name, seed), row["params"]["quorum"]) for seed in range(SEEDS)]
        for mark in (*MARKS, "sdown_quorum"):
            real = [trial["times"][mark] for trial in row["trials"] if mark in trial["times"]]
            ours = [found[mark] for found in model if mark in found]
            if real and ours:
                figures = [f"{median(x):8.3f} ({min(x):.3f}..{max(x):.3f})" for x in (real, ours)]
                out.append(f"{name:50} {mark:13} {figures[0]:>26} {figures[1]:>26} {median(ours) - median(real):+17.3f}")
    return "\n".join(out)


def speed() -> str:
    """What 60 simulated seconds of a failover take: three Sentinels, one master, two replicas, and the world around them."""
    begin = perf_counter()
    world = world_of(1)
    world.at(20 * S, world.kill, "main")
    world.run(60 * S)
    ticks = sum(one.ticks for one in world.sentinels.values())
    return f"60 s with 3 Sentinels, 1 master, 2 replicas: {perf_counter() - begin:.3f} s, {ticks} ticks"


if __name__ == "__main__":
    import sys

    sys.stdout.write(f"{table()}\n{speed()}\n")
