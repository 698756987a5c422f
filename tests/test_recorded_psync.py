"""Replication of the model against a real Redis 7.0.15 that was measured once (tests/recorded/psync.json): bytes, blocks,
verdicts.

All of it is exact: no host has a part in it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import redsim
from redsim.dataplane import layout as dp
from redsim.dataplane.compile import entry
from redsim.dataplane.layout import World
from redsim.dataplane.replication import come_along, feed, trim
from redsim.run import engine
from redsim.run.build import build
from redsim.run.replicas import Family
from redsim.scenario.load import Scenario
from tests.replicated_worlds import run_and_keep

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "psync.json").read_text(encoding="utf-8"))

PAIR = """
question: What does the replication buffer hold?
duration: {duration}
hosts: {{a: {{profile: default}}}}
nodes:
  main:
    host: a
    allocator: jemalloc-debian
    conf: |
      save ""
      repl-backlog-size {backlog}
      repl-diskless-sync-delay 0
      repl-ping-replica-period 3600
      {more}
  r1: {{host: a, replica_of: main, conf: 'save ""'}}
datasets: {{s: {{node: main, keys: 1000, value_bytes: {value}, key_bytes: {key}}}}}
clients:
  {clients}
timeline: [{timeline}]
"""


def pair(**changes: Any) -> Scenario:
    words = {"duration": "1s", "backlog": "1mb", "more": "", "value": 100, "key": 10, "clients": "{}", "timeline": ""}
    return redsim.Scenario.from_text(PAIR.format(**{**words, **changes}))


@entry
def feed_all(w: World, sizes, has_replica, seen):
    """Units of these sizes, one after the other; after each: offset, first byte, histlen, bytes of blocks, blocks."""
    for n in range(sizes.shape[0]):
        feed(w, sizes[n])
        if has_replica:
            w.wire[0, dp.W_SENT] = w.repl[dp.M_OFFSET]
            come_along(w, 0)
            trim(w, 64)
        seen[n, 0], seen[n, 1], seen[n, 2] = w.repl[dp.M_OFFSET], w.repl[dp.M_FIRST], w.repl[dp.M_HISTLEN]
        seen[n, 3], seen[n, 4] = w.repl[dp.M_MEMORY], w.repl[dp.M_BLOCKS] - w.repl[dp.M_BLOCK]


def master_world(backlog: int) -> dp.World:
    scenario = pair(backlog=backlog)
    return build(scenario.of_node("main"), Family(scenario)).world


@pytest.mark.parametrize("case", range(len(RECORDED["blocks"])))
def test_blocks_as_they_grow_and_are_trimmed(case: int) -> None:
    """After each of the recorded commands: the offset, the backlog's first byte and length, the memory of its blocks."""
    recorded = RECORDED["blocks"][case]
    rows = np.array(recorded["rows"])
    world = master_world(recorded["backlog_size"])
    if not recorded["with_replica"]:
        world.wire[0, dp.W_STATE] = dp.WIRE_OFF
    seen = np.zeros((len(rows), 5), dtype=np.int64)
    feed_all(world, np.diff(rows[:, 0], prepend=0), recorded["with_replica"], seen)
    assert (seen[:, :3] == rows[:, :3]).all(), np.concatenate([seen, rows], axis=1)[(seen[:, :3] != rows[:, :3]).any(axis=1)][:5]
    node_bytes = 32 - 24  # INFO counts a list node as 24 bytes, the allocator gives 32
    assert (seen[:, 3] - node_bytes * seen[:, 4] == rows[:, 3]).all()


def test_every_recorded_verdict() -> None:
    """Where each recorded disconnection left the two, the model's master decides as the real one did."""
    wrong = []
    for row in RECORDED["threshold"]:
        _, nodes = _idle_pair()
        master = nodes["main"].peers.master
        m = master.world.repl
        m[dp.M_OFFSET], m[dp.M_FIRST], m[dp.M_HISTLEN] = (
            row["master_offset_mid"], row["first_byte_offset_mid"], row["histlen_mid"],
        )  # fmt: skip
        refusal = master._refusal(master.replid, row["replica_asks_offset"] - 1)
        if (refusal == "") != (row["outcome"] == "partial"):
            wrong.append((row, refusal))
    assert wrong == []


_KEPT: list[Any] = []


def _idle_pair() -> Any:
    if not _KEPT:
        _KEPT.append(run_and_keep(pair(clients="web: {node: main, arrivals: {open: {rate_per_s: 10}}, commands: {PING: 1}}")))
    return _KEPT[0]


# a gap within a block of the backlog's size hangs on where the blocks begin: test_every_recorded_verdict has those
CLEAR = [row for row in RECORDED["threshold"] if not row["backlog_real"] <= row["gap_bytes"] <= row["backlog_real"] + 21_440]


@pytest.mark.parametrize("row", CLEAR[::3], ids=lambda row: f"{row['backlog_real']}-{row['gap_bytes']}")
def test_a_cut_of_so_many_bytes(row: dict[str, Any]) -> None:
    """The whole way: the replica is cut off while about as many bytes are written as were, and the verdict is the real one's."""
    backlog, gap = row["backlog_real"], row["gap_bytes"]
    size = 100 if gap < 2_000_000 else 4000
    each = 28 + 10 + len(str(size)) + size - 1
    requests = gap // each
    result = engine.run(
        pair(backlog=backlog, value=size, duration="8s", timeline="{at: 2900ms, fault: disconnect, node: r1, for: 3s}",
             clients=f"web: {{node: main, connections: 1, start: 3s, requests: {max(requests, 1)}, keys: {{dataset: s}}, "
                     "arrivals: {closed: {}}, commands: {SET: 1}}")
    )  # fmt: skip
    verdicts = result.syncs[result.syncs.phase.isin(["partial", "full"])]
    assert list(verdicts.phase) == [row["outcome"]], verdicts.to_string()


STREAM = {
    "SET k v": (1, 1, "{SET: 1}"),
    "SET k v EX 100": (1, 1, "{SET: {weight: 1, ttl: 100s}}"),
    "EXPIRE k 100": (1, 1, "{EXPIRE: {weight: 1, ttl: 100s}}"),
    "DEL k": (1, 1, "{DEL: 1}"),
    "INCR k": (1, 2, "{INCR: 1}"),
    "APPEND k x": (1, 1, "{APPEND: 1}"),
    "MSET a 1 b 2": (1, 1, "{MSET: {weight: 1, keys: 2}}"),
}


@pytest.mark.parametrize("command", STREAM)
def test_bytes_of_a_command_in_the_stream(command: str) -> None:
    """One command: master_repl_offset grows by what was recorded, and by the SELECT before the first."""
    key, value, commands = STREAM[command]
    expected = next(grown for name, grown in RECORDED["stream"] if name == command)
    result = engine.run(
        pair(key=key, value=value, clients="web: {node: main, requests: 1, keys: {dataset: s}, "
             f"arrivals: {{open: {{rate_per_s: 100, process: constant}}}}, commands: {commands}}}")
    )  # fmt: skip
    offset = result.summary["nodes"]["main"]["info"]["replication"]["master_repl_offset"]
    assert offset == 23 + expected + 14, "SELECT, the command, the PING of the first second"


def test_the_backlog_goes_a_second_after_its_ttl() -> None:
    """repl-backlog-ttl: freed at the first cron that finds it older; the history is a new one then."""
    for recorded in RECORDED["ttl"]:
        ttl = recorded["ttl"]
        result = engine.run(
            pair(duration=f"{ttl + 5}s", more=f"repl-backlog-ttl {ttl}",
                 clients="web: {node: main, arrivals: {open: {rate_per_s: 10}}, keys: {dataset: s}, commands: {SET: 1}}",
                 timeline=f"{{at: 1050ms, fault: disconnect, node: r1, for: {ttl + 2}s}}")
        )  # fmt: skip
        freed = result.events[result.events.text.str.startswith("Replication backlog freed")].time_s.iloc[0]
        assert ttl < freed - 1.05 <= ttl + 2
        assert abs((freed - 1.05) - recorded["freed_s"]) < 1, "the second's phase is another"
        full = result.syncs[result.syncs.phase == "full"]
        assert "another one" in full.note.iloc[0] or "no backlog" in full.note.iloc[0]
