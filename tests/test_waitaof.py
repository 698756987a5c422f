"""WAITAOF (7.2), and the memory of replication before 7.0: a ring, and an output buffer for each replica."""

from typing import Any

import pytest

import redsim
from redsim.dataplane import layout as dp
from redsim.scenario.errors import ScenarioError
from tests.replicated_worlds import run_and_keep

PAIR = """
question: When is a write on the disks?
duration: 8s
hosts: {{a: {{profile: default}}, b: {{profile: default}}}}
links: [{{between: [a, b], rtt: 1ms, bandwidth: 1gbit, socket_buffer: 64kb}}]
nodes:
  main: {{host: a, version: "{version}", conf: "save \\"\\"\\nappendonly {aof}\\nappendfsync {fsync}\\nrepl-backlog-size 1mb"}}
  r1: {{host: b, version: "{version}", replica_of: main, conf: "save \\"\\"\\nappendonly yes\\nappendfsync {theirs}"}}
datasets: {{d: {{node: main, keys: 1000, value_bytes: 100}}}}
clients:
  api: {{node: main, connections: 1, arrivals: {{{arrivals}}}, keys: {{dataset: d}}, commands: {{SET: 1, {wait}}}, {more}}}
timeline: [{faults}]
"""
WORDS = {"version": "7.2", "aof": "yes", "fsync": "everysec", "theirs": "always", "faults": "", "more": "",
         "arrivals": "closed: {}"}  # fmt: skip


def pair(wait: str, **changes: Any) -> redsim.Scenario:
    return redsim.Scenario.from_text(PAIR.format(**{**WORDS, "wait": f"WAITAOF: {{{wait}}}", **changes}))


def waited_us(scenario: redsim.Scenario) -> dict[str, Any]:
    result = redsim.run(scenario)
    return dict(result.summary["clients"]["api"]["by_command"]["WAITAOF"])


def test_the_own_disk_is_waited_for_as_its_policy_has_it() -> None:
    """always: it is there when the write is answered. everysec: up to a second, and whose turn it is to notice (bio.c)."""
    always = waited_us(pair("weight: 1, local: 1, replicas: 0", fsync="always"))
    assert always["latency_us"]["p99"] < 1000
    everysec = waited_us(pair("weight: 1, local: 1, replicas: 0"))
    assert 4 <= everysec["count"] <= 60
    assert 500_000 < everysec["latency_us"]["max"] < 1_300_000


def test_a_replica_says_how_far_its_aof_is() -> None:
    """Its fsync is done before the ACK that GETACK asks for; if the write comes in one read with GETACK, or with everysec, the
    next ACK that may say so is the cron's."""
    slow = "open: {rate_per_s: 20, process: constant}"
    alone = waited_us(pair("weight: 1, local: 0, replicas: 1", arrivals=slow))
    assert 1000 < alone["latency_us"]["max"] < 5000
    in_one = waited_us(pair("weight: 1, local: 0, replicas: 1"))
    assert 500_000 < in_one["latency_us"]["max"] < 1_200_000
    everysec = waited_us(pair("weight: 1, local: 0, replicas: 1", theirs="everysec"))
    assert 300_000 < everysec["latency_us"]["max"] < 2_500_000


def test_what_is_never_synced_is_waited_for_until_the_time_out() -> None:
    never = waited_us(pair("weight: 1, local: 1, replicas: 0, timeout: 300ms", fsync="no"))
    assert 300_000 <= never["latency_us"]["p50"] < 410_000, "noticed by the next serverCron at the latest"


def test_without_replicas_the_offset_moves_all_the_same() -> None:
    """7.2: one a command, so that WAITAOF has something to go by."""
    alone = PAIR.replace('  r1: {{host: b, version: "{version}", replica_of: main', '  #')
    words = {**WORDS, "wait": "WAITAOF: {weight: 1, local: 1, replicas: 0}", "fsync": "everysec"}
    scenario = redsim.Scenario.from_text(alone.format(**words))
    result, nodes = run_and_keep(scenario)
    found = result.summary["clients"]["api"]["by_command"]
    assert found["WAITAOF"]["latency_us"]["max"] > 500_000
    assert nodes["main"].server.world.repl[dp.M_OFFSET] == found["SET"]["count"]


@pytest.mark.parametrize(
    ("wait", "changes", "said"),
    [
        ("weight: 1, local: 1, replicas: 0", {"version": "7.0"}, "WAITAOF is not in 7.0"),
        ("weight: 1, local: 1, replicas: 0", {"aof": "no"}, "numlocal is set but appendonly is disabled"),
        ("weight: 1, local: 2, replicas: 0", {}, "local"),
    ],
)
def test_what_cannot_be_answered_is_refused(wait: str, changes: dict[str, str], said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        redsim.run(pair(wait, **changes))


# ---- 6.2 -------------------------------------------------------------------------------------------------------------

CUT = "{at: 2s, fault: partition, groups: [[a], [b]], for: 3s}"


def buffers(version: str) -> tuple[int, int, int]:
    """Memory of replication at the end, the replica's largest output buffer, the stream's length."""
    load = {"wait": "GET: 1", "arrivals": "open: {rate_per_s: 3000}", "more": "stop: 7s"}
    scenario = redsim.Scenario.from_text(PAIR.format(**{**WORDS, **load, "version": version, "faults": CUT}))
    result, nodes = run_and_keep(scenario)
    m = nodes["main"].server.world.repl
    return int(m[dp.M_MEMORY]), result.summary["replicas"]["r1"]["output_buffer_peak_bytes"], int(m[dp.M_OFFSET])


def test_before_7_0_each_replica_has_its_own_buffer() -> None:
    """6.2: the ring is there as a whole and stays so; what the replica misses is there once more, in blocks of its own. 7.0:
    the same bytes are in one list, which nobody has twice."""
    ring, own, offset = buffers("6.2")
    shared, pinned, same = buffers("7.0")
    assert ring == 1024 * 1024, "a large class of jemalloc's; nothing is left of the output buffer"
    assert abs(offset - same) < 0.02 * same
    assert 300_000 < own < 1_000_000
    assert abs(own - pinned) < 0.1 * pinned
    assert shared < ring + 100_000
