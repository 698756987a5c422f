"""SENTINEL FAILOVER on the timeline, held against a real one, and the writes that a replica had and are lost all the same."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest

import redsim
from redsim.report.findings import findings
from redsim.run.result import Result
from redsim.scenario.errors import ScenarioError
from tests.test_services import trio

REAL: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "sentinel_manual_failover.json").read_text("utf-8"))
AT_MS = 14_000
TICKS_MS = 300  # three ticks of at most 100 ms lie between the command and the promotion, and between an INFO's due time and it
INFO_MS = 1000  # the replica that is promoted is asked each second, counted from the command or from less than a second before


def drill(node: str, at_ms: int = AT_MS) -> str:
    """The timeline's entry."""
    return f'- {{at: {at_ms}ms, run: "SENTINEL FAILOVER mymaster", node: {node}}}'


@functools.cache
def drilled(seed: int, node: str = "sentinel-1", more: str = "") -> Result:
    """Down-after 5 s; web stays with the old master until that refuses it."""
    text = drill(node) + more
    scenario = trio(timeline=text, seed=seed, duration="30s", sentinel="sentinel down-after-milliseconds mymaster 5000")
    return redsim.run(scenario)


def lines(result: Result, start: str) -> list[tuple[float, str]]:
    """(ms after the command, who) of the Sentinels' lines that start so."""
    rows = result.events.itertuples(index=False)
    return [(1000 * row.time_s - AT_MS, str(row.who)) for row in rows if str(row.text).startswith(start)]


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_manual_failover_takes_the_steps_of_a_real_one(seed: int) -> None:
    """Recorded: promoted after 207 ms, seen by INFO at 1153, told to the others at 1229, the old master demoted at 11.3 s."""
    result = drilled(seed)
    (row,) = result.summary["failovers"]
    assert row["because"] == "SENTINEL FAILOVER"
    assert row["down_at_s"] == AT_MS / 1000
    assert abs(1000 * row["at_s"] - AT_MS - REAL["promoted_ms"]) <= TICKS_MS
    seen = lines(result, "+promoted-slave")[0][0]
    assert REAL["promoted_slave_ms"] - INFO_MS <= seen <= REAL["promoted_slave_ms"] + TICKS_MS
    told = min(ms for ms, who in lines(result, "+switch-master") if who != "sentinel-1")
    assert 0 < told - seen <= 2 * 100 + 50
    demoted = lines(result, "+convert-to-slave")[0][0]
    since = demoted - told  # 8 s of a role that is not its own, at an INFO each 10 s or at the first one after them
    assert 8000 <= since <= 10_000 + TICKS_MS
    assert 8000 <= REAL["convert_to_slave_ms"] - REAL["switch_master_observers_ms"][0] <= 10_000 + TICKS_MS


def test_what_clients_write_to_the_old_master_until_it_is_told_is_lost() -> None:
    """The real one took 928 writes meanwhile; of the replica's that stayed for a second WAIT 1 would have told nothing."""
    result = drilled(1)
    (row,) = result.summary["failovers"]
    assert row["lost_acked_writes"] == len(result.lost_writes) > 3000
    assert 0 < row["lost_replicated_writes"] < row["lost_acked_writes"]
    finding = next(one.text for one in findings(result) if "lost" in one.text)
    assert "WAIT 1 would not have told" in finding


def test_a_replica_that_goes_with_the_master_has_no_more_than_the_promoted_one() -> None:
    """After a kill both replicas have acknowledged what they have: nothing that one had is lost."""
    (row,) = redsim.run(trio()).summary["failovers"]
    assert row["lost_replicated_writes"] == 0


def test_the_report_tells_the_command_and_the_answer() -> None:
    """As redis-cli would have printed it; a Sentinel that is gone answers nothing, and one that is at it says so."""
    assert [who for _, who in lines(drilled(1), "SENTINEL FAILOVER mymaster: OK")] == ["redis-cli"]
    twice = drilled(1, "sentinel-1", "\n  " + drill("sentinel-1", AT_MS + 100))
    assert [ms for ms, _ in lines(twice, "SENTINEL FAILOVER mymaster: INPROG")] == [100.0]
    gone = drilled(1, "sentinel-2", "\n  - {at: 5s, fault: kill, node: sentinel-2}")
    assert lines(gone, "SENTINEL FAILOVER mymaster: Connection refused")
    assert gone.summary["failovers"] == []
    told = next(one.text for one in findings(drilled(1)) if "took" in one.text and "The failover" in one.text)
    assert "from the SENTINEL FAILOVER on" in told


@pytest.mark.parametrize(
    ("run", "node", "says"),
    [
        ("SENTINEL FAILOVER", "sentinel-1", "SENTINEL FAILOVER <master name>"),
        ("SENTINEL RESET mymaster", "sentinel-1", "SENTINEL FAILOVER <master name>"),
        ("SENTINEL FAILOVER mymaster", "main", "'main' is none; there is sentinel-1"),
        ("SENTINEL FAILOVER mymater", "sentinel-1", "did you mean 'mymaster'"),
    ],
)
def test_a_command_that_no_sentinel_would_take_is_one_sentence(run: str, node: str, says: str) -> None:
    """With the cure."""
    with pytest.raises(ScenarioError, match=says):
        trio(timeline=f'- {{at: 3s, run: "{run}", node: {node}}}')
