"""SHUTDOWN: nothing is lost, and who restarts from the file that it saved goes on where it was."""

from typing import Any

import pytest

import redsim
from redsim.run.result import Result
from tests.replicated_worlds import different_keys, run_and_keep

PAIR = """
question: What does a shutdown leave?
duration: 12s
hosts: {{a: {{profile: default}}, b: {{profile: default}}}}
links: [{{between: [a, b], rtt: 500us}}]
nodes:
  main:
    host: a
    conf: |
      repl-diskless-sync-delay 0
      save {save}
      appendonly {aof}
  r1:
    host: b
    replica_of: main
    conf: |
      save {save}
      appendonly {aof}
datasets: {{d: {{node: main, keys: 5000, value_bytes: 100}}}}
clients:
  api: {{node: main, connections: 5, arrivals: {{open: {{rate_per_s: 1000}}}}, commands: {{SET: 1}}, keys: {{dataset: d}},
        timeout: 200ms, retries: {{max: 2, backoff: 100ms}}}}
timeline: [{{at: 3s, fault: {fault}, node: {node}, restart_after: 2s}}]
"""


def run(**changes: Any) -> tuple[Result, Any]:
    words = {"save": "3600 1", "aof": "no", "fault": "shutdown", "node": "main", **changes}
    return run_and_keep(redsim.Scenario.from_text(PAIR.format(**words)))


def verdicts(result: Result) -> list[str]:
    return list(result.syncs[result.syncs.phase.isin(["partial", "full"])].phase)


@pytest.mark.parametrize("node", ["main", "r1"])
def test_a_shutdown_with_save_points_needs_no_full_sync(node: str) -> None:
    """Recorded of Redis 7.0.15 (psync.json, restart): SHUTDOWN saves, the file knows its offset, partial."""
    result, nodes = run(node=node)
    assert verdicts(result) == ["partial"], result.syncs.to_string()
    its, mine = (nodes[name].server.world for name in ("main", "r1"))
    assert different_keys(its, mine) == [0]
    crash = result.summary["nodes"][node]["crashes"][0]
    assert crash["lost_acked_writes"] == 0, crash


def test_without_save_points_there_is_no_file() -> None:
    result, _ = run(save='""')
    assert verdicts(result) == ["full"]


def test_a_kill_at_the_same_time_loses_what_was_not_saved() -> None:
    result, _ = run(fault="kill")
    assert verdicts(result) == ["full"]
    assert result.summary["nodes"]["main"]["crashes"][0]["lost_acked_writes"] > 1000


def test_an_aof_is_synced() -> None:
    result, nodes = run(aof="yes")
    crash = result.summary["nodes"]["main"]["crashes"][0]
    assert crash["lost_acked_writes"] == 0
    assert different_keys(*(nodes[name].server.world for name in ("main", "r1"))) == [0]
