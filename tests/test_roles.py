"""REPLICAOF: promotions, demotions and new masters; whose data whoever follows ends with, what a changed role refuses.

Random timetables of roles and faults: 12 here, 1,000 with -m slow; a failing one says its seed.
"""

import random

import pytest

import redsim
from redsim.dataplane import layout as dp
from redsim.run import engine
from redsim.run.result import Result
from redsim.scenario.errors import ScenarioError
from tests.replicated_worlds import different_keys, mixed, run_and_keep
from tests.test_replication import timetable

WRITER = "  w1: {node: r1, stop: 6500ms, arrivals: {open: {rate_per_s: 500}}, keys: {dataset: s}, commands: {SET: 1, DEL: 1}}"
OLD = "  old: {node: main, start: 5s, stop: 5500ms, arrivals: {open: {rate_per_s: 100}}, keys: {dataset: s}, commands: {SET: 1}}"


def told(at: str, node: str, what: str) -> str:
    return f"  - {{at: {at}, run: REPLICAOF {what}, node: {node}}}\n"


def same_data(nodes: dict[str, engine.Node], *names: str) -> bool:
    first, *others = (nodes[name].server.world for name in names)
    return all(
        different_keys(first, w) == [0] * len(first.dataset) and w.repl[dp.M_OFFSET] == first.repl[dp.M_OFFSET] for w in others
    )


def verdicts(result: Result, name: str) -> list[str]:
    mine = result.syncs[(result.syncs.replica == name) & result.syncs.phase.isin(["partial", "full"])]
    return list(mine.phase)


def test_who_followed_the_same_master_goes_on_with_the_promoted_one() -> None:
    """PSYNC2: the new master knows the old history as its second one."""
    faults = told("4s", "r1", "NO ONE") + told("4100ms", "r2", "r1")
    result, nodes = run_and_keep(mixed(stop="3900ms", more=WRITER, faults=faults))
    assert verdicts(result, "r2") == ["partial"]
    assert same_data(nodes, "r1", "r2")
    info = {name: result.summary["nodes"][name]["info"]["replication"] for name in nodes}
    assert info["r1"]["role"] == "master"
    assert info["r1"]["master_replid2"] == info["main"]["master_replid"]
    assert info["r2"]["master_replid"] == info["r1"]["master_replid"]
    assert result.summary["clients"]["w1"]["errors"]["readonly"] > 1000, "before it was promoted"
    assert nodes["r1"].server.world.repl[dp.M_OFFSET] > nodes["main"].server.world.repl[dp.M_OFFSET]


@pytest.mark.parametrize(("more", "verdict"), [("", "partial"), (OLD, "full")])
def test_an_old_master_comes_back_by_what_it_wrote_alone(more: str, verdict: str) -> None:
    """Not a write behind the promotion: its history is a part of the new one. One: all its data go."""
    faults = told("4s", "r1", "NO ONE") + told("6s", "main", "r1 6379") + told("6s", "r2", "r1")
    scenario = mixed(stop="3900ms", more="\n".join([WRITER, more]), faults=faults, backlog="16mb", duration="14s")
    result, nodes = run_and_keep(scenario)
    assert verdicts(result, "main") == [verdict]
    assert same_data(nodes, "r1", "main", "r2")


def test_a_replica_of_a_replica_may_follow_the_master_itself() -> None:
    result, nodes = run_and_keep(mixed(above="r1", faults=told("3s", "r2", "main")))
    assert verdicts(result, "r2") == ["partial"]
    assert same_data(nodes, "main", "r1", "r2")


def test_a_new_process_has_the_role_of_its_conf() -> None:
    """REPLICAOF is not in redis.conf until CONFIG REWRITE: a promoted replica that restarts follows its old master."""
    faults = told("3s", "r1", "NO ONE") + "  - {at: 4s, fault: kill, node: r1, restart_after: 500ms}\n"
    result, nodes = run_and_keep(mixed(more=WRITER, faults=faults))
    assert result.summary["nodes"]["r1"]["role"] == "slave"
    assert verdicts(result, "r1") == ["full"]
    assert same_data(nodes, "main", "r1", "r2")


def test_a_replica_without_its_master_says_masterdown_if_told_to() -> None:
    cut = "  - {at: 3s, fault: disconnect, node: r1, for: 2s}"
    for stale, least in (("yes", 0), ("no", 1500)):
        result, _ = run_and_keep(mixed(stale=stale, faults=cut))
        refused = result.summary["clients"]["readers"]["errors"]["masterdown"]
        assert refused >= least, stale
        assert (refused == 0) == (stale == "yes"), stale


def test_a_run_with_roles_is_the_same_again() -> None:
    faults = told("4s", "r1", "NO ONE") + told("5s", "main", "r1")
    assert len({run_and_keep(mixed(more=WRITER, faults=faults))[0].summary["digest"] for _ in range(2)}) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (told("1s", "r1", "r9"), "no node is named 'r9'"),
        (told("1s", "r1", ""), "is not a complete REPLICAOF"),
        (told("1s", "main", "r1"), "would follow itself in a circle"),
        (told("1s", "r1", "NO ONE").replace("node: r1", "times: 2, every: 1s, node: r1"), "REPLICAOF is said once"),
    ],
)
def test_what_cannot_be_is_refused(line: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        mixed(faults=line)


def test_one_server_has_nobody_to_follow() -> None:
    text = "question: q\nduration: 1s\nhosts: {a: {profile: default}}\nnodes: {n: {host: a}}\ntimeline:\n"
    with pytest.raises(ScenarioError, match="there is one server only"):
        redsim.Scenario.from_text(text + told("100ms", "n", "NO ONE"))


# ---- whatever happens ------------------------------------------------------------------------------------------------


def roles(seed: int) -> str:
    """One to four changes of roles, none of which makes a circle; r1 is promoted at some time."""
    luck = random.Random(1000 + seed)
    above: dict[str, str | None] = {"main": None, "r1": "main", "r2": luck.choice(["main", "r1"])}
    lines, at = [f"# above r2: {above['r2']}\n"], 1000
    for n in range(luck.randint(1, 4)):
        at += luck.randint(50, 1500)
        node = "r1" if n == 0 else luck.choice(list(above))
        masters: list[str | None] = [None] if n == 0 else [None, *(one for one in above if one != node)]
        above[node] = luck.choice([one for one in masters if not leads_to(above, one, node)])
        lines.append(told(f"{at}ms", node, above[node] or "NO ONE"))
    return "".join(lines)


def leads_to(above: dict[str, str | None], name: str | None, node: str) -> bool:
    while name is not None and name != node:
        name = above[name]
    return name == node


def holds(seed: int) -> None:
    """Whoever follows ends online with its master's data; nobody's offset is ahead of its master's."""
    changes, faults = roles(seed), timetable(seed) if seed % 2 else ""
    luck = random.Random(-seed)
    above = "r1" if "above r2: r1" in changes else "main"
    result, nodes = run_and_keep(
        mixed(faults=changes.partition("\n")[2] + faults, more=WRITER, seed=seed, above=above, duration="14s",
              diskless=luck.choice(["yes", "no"]), maxmemory=luck.choice(["0", "4mb"]))
    )  # fmt: skip
    said = f"seed {seed}:\n{changes}{faults}"
    assert (result.replication.replica_offset >= 0).all(), said
    for name, summary in result.summary["replicas"].items():
        if summary["master"] is not None:
            assert summary["state"] == "online", f"{name} {said}"
            assert same_data(nodes, summary["master"], name), f"{name} {said}"


@pytest.mark.parametrize("seed", range(12))
def test_no_timetable_of_roles_breaks_it(seed: int) -> None:
    holds(seed)


@pytest.mark.slow
def test_no_timetable_of_many_roles_breaks_it() -> None:
    for seed in range(1000):
        holds(seed)
