"""Servers, Sentinels and clients under random faults: what must hold when all is up again.

Random timetables: 8 here, 1,000 with `-m slow --dist load`; a failing one says its seed. Sentinels alone under faults:
test_sentinel_laws.py.
"""

import random
import re

import pytest

from redsim.run.engine import Node
from redsim.run.result import Result
from tests.replicated_worlds import different_keys, run_and_keep
from tests.sentinel_world import leaders_by_epoch
from tests.test_services import RETRIES, trio

NODES, HOSTS, SENTINELS = ("main", "r1", "r2"), "abc", ("sentinel-1", "sentinel-2", "sentinel-3")
TIMETABLES = 1000
HEALED_S = 24  # the last fault begins at 16 s and lasts 7 s
FAILOVER_TIMEOUT_S = 6  # of tests.test_services.trio


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


def elected(result: Result) -> dict[int, set[str]]:
    """Who was elected in which epoch, as the Sentinels' logs have it."""
    rows = result.events[result.events.who.isin(SENTINELS)]
    return leaders_by_epoch((row.time_s, str(row.who), str(row.text)) for row in rows.itertuples())


def broken(seed: int) -> list[str]:
    """What of it does not hold, all servers up and everything healed for 60 s: one leader an epoch; one master, whose data the
    others have and with whom the clients are; within a bound; no acknowledged write lost without a failover or a crash."""
    timeline = timetable(seed)
    more = RETRIES + ("\n    follow: switch-master" if seed % 3 == 0 else "")
    result, nodes = run_and_keep(
        trio(timeline=timeline, seed=seed, duration="90s", more=more + "\n    stop: 85s", arrivals="{open: {rate_per_s: 200}}")
    )
    found = [f"leaders {sorted(who)} in epoch {epoch}" for epoch, who in elected(result).items() if len(who) > 1]
    masters = [name for name in nodes if result.summary["nodes"][name]["role"] == "master"]
    if len(masters) != 1:
        return [*found, f"masters {masters}"]
    found += astray(result, nodes, masters[0]) + late(result)
    has_died = any(f"fault: kill, node: {name}" in timeline for name in NODES)
    if not has_died and set(result.roles["role"][result.roles["node"] != "main"]) <= {"slave"}:
        found += lost(result)
    if not result.summary["failovers"] and "kill" not in timeline and "pause" not in timeline and "partition" not in timeline:
        failed = result.summary["clients"]["web"]["failed"]
        found += [f"{failed} requests failed"] if failed else []
    return [f"seed {seed}: {one}, {timeline}" for one in found]


def astray(result: Result, nodes: dict[str, Node], master: str) -> list[str]:
    """Who is not with the master: replicas and their data, Sentinels, clients."""
    found = []
    for name in NODES:
        if name != master:
            state = result.summary["replicas"][name]["state"]
            its, mine = nodes[master].server.world, nodes[name].server.world
            keys = different_keys(its, mine)
            if state != "online" or any(keys):
                found.append(f"{name} is {state}, {keys} keys differ")
    known = {name for one in result.summary["sentinels"].values() for name in one["masters"].values()}
    found += [f"the Sentinels know {sorted(known)}"] if known != {master} else []
    moves = result.summary["clients"]["web"]["moves"]
    at = moves[-1]["to"] if moves else "main"
    return [*found, f"clients at {at}"] if at != master else found


def late(result: Result) -> list[str]:
    """down-after, a PING, an ask, the steps; twice failover-timeout and a second more if somebody tried or voted just before
    the faults were over, and for each try that was aborted."""
    aborted = int(result.events.text.str.startswith("-failover-abort").sum())
    bound_s = HEALED_S + 5 + (1 + aborted) * (2 * FAILOVER_TIMEOUT_S + 2)
    web = result.summary["clients"]["web"]
    again_s = web["unavailable_from_s"] + web["unavailable_s"]
    is_late = web["unavailable_s"] > 1 and again_s > bound_s  # at 200 requests/s there is a longest gap without any fault, too
    return [f"clients without answers until {again_s:.1f} s, bound {bound_s} s"] if is_late else []


def lost(result: Result) -> list[str]:
    """Without a failover or a crash: the master executed whatever was acknowledged, and nobody counts any of it as lost."""
    counted = len(result.lost_writes)
    done, acked = result.summary["nodes"]["main"]["commands"], result.summary["clients"]["web"]["completed"]
    return [f"{counted} writes lost, {acked} acknowledged, {done} executed"] if counted or done < acked else []


@pytest.mark.parametrize("seed", range(8))
def test_no_timetable_of_faults_breaks_it(seed: int) -> None:
    assert broken(seed) == []


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, TIMETABLES, 50))
def test_no_timetable_of_many_breaks_it(first: int) -> None:
    """TIMETABLES of them; all that break are told, by their seeds."""
    assert [one for seed in range(first, first + 50) for one in broken(seed)] == []
