"""What the findings of the scenarios about memory, expiry and eviction say, as claims."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pandas import DataFrame

import redsim
from redsim.run.result import Result

FOLDER = Path(__file__).parent.parent / "scenarios"
CONF = "nodes.main.conf."


@cache
def ran(name: str, *overrides: str) -> Result:
    return redsim.run(redsim.load(FOLDER / f"{name}.yaml", overrides))


def node(result: Result) -> dict[str, Any]:
    return result.summary["nodes"]["main"]


def hit_ratio(memory: DataFrame, from_s: float) -> float:
    """Of the reads from then to the end."""
    late = memory[memory["time_s"] >= from_s]
    hits, misses = (late[name].iloc[-1] - late[name].iloc[0] for name in ("keyspace_hits", "keyspace_misses"))
    return float(hits / (hits + misses))


def zipf_accesses(count: int) -> np.ndarray:
    """Accesses by the law of learn/lru-samples: Zipf 0.99 over 100,000 keys."""
    weights = 1 / np.arange(1, 100_001) ** 0.99
    return np.random.default_rng(1).choice(100_000, size=count, p=weights / weights.sum())


def test_more_samples_come_closer_to_exact_lru_and_never_reach_it() -> None:
    """evict.c [facts 9.3]; the server's hit ratio is that of a rehearsal of the same law of accesses, within half a point."""
    ratios = [hit_ratio(ran("learn/lru-samples", f"{CONF}maxmemory-samples={n}").memory, 10) for n in (3, 5, 10)]
    keys = int(ran("learn/lru-samples", f"{CONF}maxmemory-samples=5").memory["keys"].iloc[-1])
    accesses = zipf_accesses(400_000)
    half, whole = (
        redsim.rehearse(part, capacity=keys, samples=(3, 5, 10), rate_per_s=20_000)["hits"].to_numpy()
        for part in (accesses[:200_000], accesses)
    )
    rehearsed = (whole - half) / 200_000
    assert ratios == sorted(ratios)
    assert ratios == pytest.approx(rehearsed[:3], abs=0.005)
    assert ratios[-1] < rehearsed[3], "exact LRU bounds them"


def test_a_scan_costs_lru_hits_and_lfu_none() -> None:
    """evict.c: a page read once starts with a low counter under LFU [facts 9.4]; under LRU it is the newest of all."""
    lost = {}
    for policy in ("allkeys-lru", "allkeys-lfu", "allkeys-random"):
        clients = ran("learn/eviction-policies", f"{CONF}maxmemory-policy={policy}").summary["clients"]
        lost[policy] = clients["pages"]["hit_ratio"] - clients["pages-beside-scan"]["hit_ratio"]
    assert lost["allkeys-lru"] > 0.03
    assert lost["allkeys-random"] > 0.03
    assert lost["allkeys-lfu"] < 0.01


def test_a_table_waits_below_1618_keys_in_a_thousand_buckets_and_then_comes_all_the_same() -> None:
    """Redis pull request 7954 (6.2) [redis-7954]."""
    memory = ran("incident/dict-doubling").memory
    doubled = memory[memory["dict_table_bytes"] > 2**21].iloc[0]
    before = memory[memory["time_s"] < doubled["time_s"]].iloc[-1]
    assert before["keys"] == pytest.approx(1.618 * 2**18, rel=0.005)
    assert doubled["evicted_keys"] - before["evicted_keys"] > 10_000
    with_room = ran("incident/dict-doubling", f"{CONF}maxmemory=92mb").memory
    early = with_room[with_room["keys"] > 2**18].iloc[1]
    assert early["dict_table_bytes"] > 2**21
    assert early["evicted_keys"] == 0


def test_a_higher_hz_and_a_higher_effort_leave_fewer_keys_past_their_time() -> None:
    """expire.c:activeExpireCycle: more often, or on at a lower share of keys past their time [lab-expiry]."""
    plain, often, eager = (
        ran("incident/mass-expiry", *changes) for changes in ((), (f"{CONF}hz=100",), (f"{CONF}active-expire-effort=10",))
    )
    lags = [node(result)["expiry"]["active_lag_ms"]["mean"] for result in (eager, often, plain)]
    assert lags == sorted(lags)
    assert plain.memory["stale_keys"].max() > 0.3 * plain.memory["expires"].max()
    p999 = [result.summary["clients"]["api"]["latency_us"]["p999"] for result in (often, plain, eager)]
    assert p999 == sorted(p999)


def test_replies_of_a_pipeline_push_keys_out_and_one_at_a_time_does_not() -> None:
    """evict.c: output buffers of normal clients count as used memory."""
    assert node(ran("incident/client-buffers-evict"))["evicted_keys"] > 30_000
    assert node(ran("incident/client-buffers-evict", "clients.export.pipeline=1"))["evicted_keys"] == 0


def test_pages_stay_when_nine_in_ten_keys_are_gone() -> None:
    """jemalloc returns a slab when it is empty; RSS after random deletes measured [lab-server-memory]."""
    summary = node(ran("incident/fragmentation"))
    assert summary["used_memory_bytes"]["final"] < 0.1 * summary["used_memory_bytes"]["peak"]
    assert summary["used_memory_rss_bytes"]["final"] > 0.9 * summary["used_memory_rss_bytes"]["peak"]
    least, most = summary["activedefrag_returns_bytes"]
    assert 0 < least < most < summary["used_memory_rss_bytes"]["final"] - summary["used_memory_bytes"]["final"]


def test_active_defragmentation_gives_the_pages_back_in_slices_of_the_loop() -> None:
    """defrag.c: at most active-defrag-cycle-max 25 % of a cron period of 10 ms; costs measured [lab-defrag]."""
    summary = node(ran("incident/fragmentation", "nodes.main.conf.activedefrag=yes"))
    assert summary["used_memory_rss_bytes"]["final"] < 2 * summary["used_memory_bytes"]["final"]
    assert summary["activedefrag_returns_bytes"] == [0, 0]
    assert 2_500 < summary["stalls"]["active-defrag-cycle"]["max_us"] < 2_600


def test_slices_of_active_defragmentation_are_a_quarter_of_a_cron_period_and_add_to_those_of_expiry() -> None:
    """defrag.c: activeDefragCycle has its own 25 % of a period, beside expire.c's: 25 ms each at hz 10, 2.5 ms at hz 100."""
    worst = {}
    for hz, slice_us in ((10, 25_000), (100, 2_500)):
        result = ran("incident/activedefrag", f"nodes.main.conf.hz={hz}")
        assert slice_us < node(result)["stalls"]["active-defrag-cycle"]["max_us"] < 1.04 * slice_us
        worst[hz] = result.summary["clients"]["api"]["latency_us"]["p999"]
    assert worst[10] > 40_000 > 10_000 > worst[100]
    without = ran("incident/activedefrag", "nodes.main.conf.activedefrag=no").summary["clients"]["api"]["latency_us"]["p999"]
    assert without < 30_000


def test_a_listpack_of_many_fields_is_read_slowly_and_a_hash_table_is_not() -> None:
    """Measured [lab-listpack]: usec_per_call of HGET of a random field among 1,024: 4.3 as a listpack, 0.18 as a table."""
    clients = ran("plan/listpack-thresholds").summary["clients"]
    rates = [clients[name]["throughput_per_s"] for name in ("f4096", "f1024", "f512", "f256", "f64", "f16", "table")]
    assert rates == sorted(rates)
    commands = ran("plan/small-hashes").commands.set_index(["group", "command"])["usec_per_call"]
    assert commands["thousands", "HGET"] - commands["hundreds", "HGET"] == pytest.approx(900 * 0.0042, rel=0.1)


def test_groups_that_never_meet_do_not_wait_behind_each_other() -> None:
    """Slices in time: no finding about a neighbour's pipeline."""
    assert not [found.text for found in ran("plan/listpack-thresholds").findings if "pipelines of" in found.text]
