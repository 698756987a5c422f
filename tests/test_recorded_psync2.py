"""Promotions against a real Redis 7.0.15 that was measured once (tests/recorded/psync.json, psync2): replication IDs, offsets,
verdicts.

Offsets are counted from the promotion on, IDs by who made them; what is left is exact.
"""

import json
from pathlib import Path
from typing import Any

import pytest

import redsim

FILE = Path(__file__).parent / "recorded" / "psync.json"
RECORDED: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["psync2"]
TRIO = """
question: Who may go on with the promoted one?
duration: 12s
hosts: {{a: {{profile: default}}}}
nodes:
  m: {{host: a, conf: "save \\"\\"\\nrepl-diskless-sync-delay 0\\nrepl-ping-replica-period 3600"}}
  a: {{host: a, replica_of: m, conf: "save \\"\\"\\nrepl-diskless-sync-delay 0\\nrepl-ping-replica-period 3600"}}
  b: {{host: a, replica_of: m, conf: "save \\"\\"\\nrepl-diskless-sync-delay 0\\nrepl-ping-replica-period 3600"}}
datasets: {{d: {{node: m, keys: 60, value_bytes: 1, key_bytes: 4}}}}
clients:
  before: {{node: m, {all}, requests: 50, stop: 2s}}
  more: {{node: m, {all}, requests: {more}, start: 2500ms, stop: 3s}}
  ten: {{node: a, {all}, requests: 10, start: 5s}}
  extra: {{node: m, {all}, requests: {extra}, start: 6s}}
timeline:
  {timeline}
"""
ALL = "arrivals: {open: {rate_per_s: 100, process: constant}}, commands: {SET: 1}, keys: {dataset: d}"
PROMOTED = "- {at: 4s, run: REPLICAOF NO ONE, node: a}"
KILLED = "- {at: 3500ms, fault: kill, node: m}"
B_FOLLOWS, M_FOLLOWS = "- {at: 8s, run: REPLICAOF a, node: b}", "- {at: 8s, run: REPLICAOF a, node: m}"
CASES: dict[str, tuple[int, int, list[str]]] = {  # writes that b lacks, writes of the old master after it, what happens
    "both replicas equal": (0, 0, [KILLED, PROMOTED, B_FOLLOWS]),
    "other replica behind by some writes": (
        20, 0, ["- {at: 2200ms, fault: disconnect, node: b, for: 9s}", KILLED, PROMOTED, B_FOLLOWS.replace("8s", "11500ms")],
    ),
    "old master returns with extra writes": (0, 20, [PROMOTED, M_FOLLOWS, B_FOLLOWS]),
    "old master returns without extra writes": (0, 0, [PROMOTED, M_FOLLOWS, B_FOLLOWS]),
    "REPLICAOF NO ONE on b too, then b to a": (0, 0, [KILLED, PROMOTED, "- {at: 4s, run: REPLICAOF NO ONE, node: b}", B_FOLLOWS]),
}  # fmt: skip


def seen(infos: dict[str, dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """What INFO replication says at the end, without what a run chooses for itself."""
    start = infos["a"]["second_repl_offset"] - 1
    ids = {infos["a"]["master_replid"]: "new", infos["a"]["master_replid2"]: "old", "0": 0, 0: 0}
    out = {}
    for name, info in infos.items():
        second, first = info["second_repl_offset"], info["repl_backlog_first_byte_offset"]
        out[name] = (
            info["role"], ids[info["master_replid"]], ids[info["master_replid2"]], info["master_repl_offset"] - start,
            second if second == -1 else second <= start + 1, first == 1 or first - start, info["repl_backlog_histlen"] == 0,
            info["sync_partial_ok"] if name == "a" else None, info["sync_full"] if name == "a" else None,
        )  # fmt: skip
    return out


@pytest.mark.parametrize("case", CASES)
def test_a_promotion(case: str) -> None:
    more, extra, timeline = CASES[case]
    words = {"all": ALL, "more": max(more, 1), "extra": max(extra, 1), "timeline": "\n  ".join(timeline)}
    text = TRIO.format(**words)
    for name, count in (("more", more), ("extra", extra)):
        if not count:
            text = "\n".join(line for line in text.split("\n") if not line.startswith(f"  {name}:"))
    result = redsim.run(redsim.Scenario.from_text(text))
    row = next(row for row in RECORDED if row["case"] == case)
    real = {name: dict(zip(row["fields"], values, strict=True)) for name, values in row["steps"]["relinked"].items()}
    found = {name: result.summary["nodes"][name]["info"]["replication"] for name in real}
    assert seen(found) == seen(real)


def test_every_recorded_promotion_is_held_against_the_model() -> None:
    assert [row["case"] for row in RECORDED] == list(CASES)
