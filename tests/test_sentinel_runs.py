"""Servers, Sentinels and clients under random faults: what must hold when all is up again.

Random timetables: 8 here, 1,000 with -m slow; a failing one says its seed. Sentinels alone under faults: test_sentinel_laws.py.
"""

import random
import re

import pytest

from redsim.run.result import Result
from tests.replicated_worlds import different_keys, run_and_keep
from tests.test_services import RETRIES, trio

NODES, HOSTS, SENTINELS = ("main", "r1", "r2"), "abc", ("sentinel-1", "sentinel-2", "sentinel-3")


def timetable(seed: int) -> str:
    """One to three faults in the first 16 s, all over at 24 s: of a server, a Sentinel, a host or the network."""
    luck = random.Random(seed)
    lines, hit = [], set()
    for _ in range(luck.randint(1, 3)):
        at, length = luck.randint(2000, 16000), luck.choice([300, 900, 1500, 3000, 7000])
        kind = luck.choice(["kill", "kill", "pause", "pause", "sentinel", "partition", "disconnect", "cut"])
        who = luck.choice(NODES)
        if kind in ("kill", "pause", "sentinel") and who in hit:
            continue
        hit.add(who)
        after = f"restart_after: {length}ms"
        lines.append({
            "kill": f"{{at: {at}ms, fault: kill, node: {who}, {after}}}",
            "pause": f"{{at: {at}ms, fault: pause, node: {who}, for: {length}ms}}",
            "sentinel": f"{{at: {at}ms, fault: kill, node: {luck.choice(SENTINELS)}, {after}}}",
            "partition": f"{{at: {at}ms, fault: partition, groups: [[{luck.choice(HOSTS)}], [{'ab'}]], for: {length}ms}}",
            "disconnect": f"{{at: {at}ms, fault: disconnect, node: {luck.choice(NODES[1:])}, for: {length}ms}}",
            "cut": f"{{at: {at}ms, fault: cut, from: a, to: {luck.choice('bc')}, for: {length}ms}}",
        }[kind])  # fmt: skip
    lines = [re.sub(r"groups: \[\[(\w)\], \[ab\]\]", isolated, line) for line in lines]
    sentinels: set[str] = set()
    kept = []
    for line in lines:
        name = next((one for one in SENTINELS if f"node: {one}," in line), None)
        if name is None or name not in sentinels:
            kept.append(f"- {line}")
        if name is not None:
            sentinels.add(name)
    return "\n  ".join(kept) or "[]"


def isolated(found: "re.Match[str]") -> str:
    others = ", ".join(host for host in HOSTS if host != found.group(1))
    return f"groups: [[{found.group(1)}], [{others}]]"


def votes(result: Result) -> dict[int, set[str]]:
    """Who was elected in which epoch, as the Sentinels' logs have it."""
    epoch, elected = dict.fromkeys(SENTINELS, 0), {}
    for row in result.events[result.events.who.isin(SENTINELS)].itertuples():
        words = str(row.text).split()
        if words[0] == "+new-epoch":
            epoch[str(row.who)] = int(words[1])
        elif words[0] == "+elected-leader":
            elected.setdefault(epoch[str(row.who)], set()).add(str(row.who))
    return elected


def holds(seed: int) -> None:
    """All servers up and everything healed for 60 s: one master, the others have its data, the clients are with it."""
    timeline = timetable(seed)
    more = RETRIES + ("\n    follow: switch-master" if seed % 3 == 0 else "")
    result, nodes = run_and_keep(
        trio(timeline=timeline, seed=seed, duration="90s", more=more + "\n    stop: 85s", arrivals="{open: {rate_per_s: 200}}")
    )
    said = f"seed {seed}:\n  {timeline}"
    assert all(len(leaders) == 1 for leaders in votes(result).values()), f"two leaders in one epoch, {said}"
    masters = [name for name in nodes if result.summary["nodes"][name]["role"] == "master"]
    assert len(masters) == 1, f"{masters} {said}"
    for name in NODES:
        if name != masters[0]:
            summary = result.summary["replicas"][name]
            assert summary["state"] == "online", f"{name} {said}"
            its, mine = nodes[masters[0]].server.world, nodes[name].server.world
            assert different_keys(its, mine) == [0] * len(its.dataset), f"{name} {said}"
    known = {name for one in result.summary["sentinels"].values() for name in one["masters"].values()}
    assert known == set(masters), f"{known} {said}"
    web = result.summary["clients"]["web"]
    at = web["moves"][-1]["to"] if web["moves"] else "main"
    assert at == masters[0], f"clients at {at}, {said}"
    if not result.summary["failovers"] and "kill" not in timeline:
        assert web["failed"] == 0 or "pause" in timeline or "partition" in timeline, said


@pytest.mark.parametrize("seed", range(8))
def test_no_timetable_of_faults_breaks_it(seed: int) -> None:
    holds(seed)


@pytest.mark.slow
def test_no_timetable_of_many_breaks_it() -> None:
    for seed in range(1000):
        holds(seed)
