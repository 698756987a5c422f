"""The plan against a real Redis 7.0.15, measured once (tests/recorded/plan_backlog.json): outages, and full syncs broken off.

Tolerances are those of so few draws (4.5 standard deviations); blocks are exact, instants as fine as the log's ms and
the offsets' quarter of a second.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redsim.run.backlog_sync import Limits
from redsim.run.backlog_window import block_payload_bytes, buffer_block_bytes
from redsim.run.plan_backlog import BacklogPlan, plan_backlog

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "plan_backlog.json").read_text(encoding="utf-8"))
OUTAGES, SYNCS = RECORDED["outages"], RECORDED["full_syncs"]
SIGMAS = 4.5


def offsets_file(part: dict[str, Any], folder: Path) -> Path:
    path = folder / "offsets.csv"
    path.write_text("time_s,offset\n" + "".join(f"{ms / 1000},{offset}\n" for ms, offset in part["offsets"]), encoding="utf-8")
    return path


def is_near(seen: float, expected: float, draws: int) -> bool:
    return abs(seen - expected) <= SIGMAS * math.sqrt(expected * (1 - expected) / draws)


@pytest.fixture(scope="module")
def planned(tmp_path_factory) -> BacklogPlan:
    """The same stream, outages of the distribution that the proxy drew from, the size that the server had."""
    folder = tmp_path_factory.mktemp("recorded")
    return plan_backlog(offsets_file(OUTAGES, folder), f"exponential:{OUTAGES['mean_s']}s", rtt=f"{OUTAGES['rtt_us']}us")


def test_as_many_real_outages_were_full_as_the_plan_says(planned):
    """49 of 115 on the real server (33 to 52 %), 40 % by the plan."""
    full = [verdict for _, _, verdict, _ in OUTAGES["rows"]].count("full")
    assert planned.master.backlog_bytes == OUTAGES["backlog_bytes"]
    expected = planned.hits_now / planned.draws
    low, high = 0.3344, 0.5217  # Clopper and Pearson of 49 in 115
    assert (full, len(OUTAGES["rows"])) == (49, 115)
    assert low < expected < high


def test_the_arithmetic_by_the_mean_rate_says_less():
    """P(outage > size / mean rate) = exp(-1 MiB / 612 kB/s / 1.5 s) is 32 %, outside what was seen."""
    ms, offset = OUTAGES["offsets"][-1]
    by_mean = math.exp(-OUTAGES["backlog_bytes"] / (offset / ms * 1000) / OUTAGES["mean_s"])
    assert by_mean < 0.3344


def test_a_real_replica_came_back_within_the_second_after_the_link():
    """replicationCron: uniform over a second; 20 ms for the proxy and the log's ms."""
    waits = np.array([wait for _, wait, _, _ in OUTAGES["rows"]])
    assert waits.min() >= 0
    assert waits.max() <= 1.02
    assert abs(waits.mean() - 0.5) <= SIGMAS * math.sqrt(1 / 12 / len(waits))


def test_no_real_partial_resync_sent_more_than_the_size_and_a_block():
    """A verdict is partial up to the window, which is no larger than that; some sent more than the size."""
    sent = [size for _, _, verdict, size in OUTAGES["rows"] if verdict == "partial"]
    size = OUTAGES["backlog_bytes"]
    assert size < max(sent) <= size + block_payload_bytes(size, 0, "jemalloc-debian")


def test_every_real_full_sync_was_broken_off_at_the_same_block():
    """omem when the hard limit was reached: the least whole number of blocks of 20,440 + 64 bytes that does."""
    _, counted = buffer_block_bytes(OUTAGES["backlog_bytes"], "jemalloc-debian")
    broken = [row for row in SYNCS["rows"] if row[1] == "overflow"]
    assert len(broken) > 10
    assert {row[3] for row in broken} == {math.ceil(SYNCS["hard_bytes"] / counted) * counted}


def test_what_a_real_full_sync_gathered_until_then_is_the_stream_since_its_fork():
    """Offsets between the fork and the broken connection fill the last block but one; none that got through gathered more.
    60 kB: what is written within the 50 ms to which the instants of log and offsets agree."""
    payload, counted = buffer_block_bytes(OUTAGES["backlog_bytes"], "jemalloc-debian")
    blocks = math.ceil(SYNCS["hard_bytes"] / counted)
    at, offset = np.array(SYNCS["offsets"]).T
    for forked_s, verdict, took_s, *_ in SYNCS["rows"]:
        gathered = float(np.interp(1000 * (forked_s + took_s), at, offset) - np.interp(1000 * forked_s, at, offset))
        if verdict == "overflow":
            assert abs(gathered - (blocks - 1) * payload) <= payload + 60_000
        else:
            assert gathered <= blocks * payload


def test_as_many_real_full_syncs_were_broken_off_as_the_plan_says(tmp_path):
    """48 of 91 on the real server (42 to 63 %), 50 % by the plan; the lengths are those of the syncs that got through."""
    lengths = tmp_path / "lengths.txt"
    lengths.write_text("".join(f"{row[2]}s\n" for row in SYNCS["rows"] if row[1] == "ok"), encoding="utf-8")
    conf = tmp_path / "redis.conf"
    conf.write_text(f"client-output-buffer-limit replica {SYNCS['hard_bytes']} 0 0\n", encoding="utf-8")
    plan = plan_backlog(offsets_file(SYNCS, tmp_path), "1s", full_sync=f"file:{lengths}", conf=conf)
    assert plan.sync is not None
    assert plan.sync.now == Limits(SYNCS["hard_bytes"], 0, 0)
    broken = [row[1] for row in SYNCS["rows"]].count("overflow")
    assert is_near(broken / len(SYNCS["rows"]), plan.sync.p_overflow, len(SYNCS["rows"]))
