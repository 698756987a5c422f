"""Eviction's parts, each against evict.c's own rule: the two clocks, the counter, the pool of 16, ghosts, the victim."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redsim.dataplane.compile import entry
from redsim.dataplane.dict import bits_for, empty_table, link_range, unlink
from redsim.dataplane.evict import (
    EVPOOL_SIZE,
    LRU_CLOCK_MAX,
    POLICIES,
    accessed_word,
    created_word,
    empty_pool,
    idle_s,
    lfu_decayed,
    pick_victim,
    pool_insert,
)
from redsim.dataplane.layout import NODATA, NONE
from redsim.rng import stream
from redsim.units import MINUTE, MS, S

Ints = npt.NDArray[np.int64]
HASH_SEED = 7


@entry
def _idle_s(word, clock):
    return idle_s(word, clock)


@entry
def _decayed(word, minutes, decay_time):
    return lfu_decayed(word, minutes, decay_time)


@entry
def _counter_after(hits, keys, log_factor, rng):
    total = 0
    for _ in range(keys):
        word = created_word(2, 0)
        for _ in range(hits):
            word = accessed_word(2, word, 0, 1, log_factor, rng, 0)
        total += word & 255
    return total / keys


@entry
def _insert(pool, scores, keys):
    for i in range(scores.size):
        pool_insert(pool, scores[i], keys[i])


@entry
def _victims(policy, heads, nexts, bits, used, kv, kx, rng, samples, pool, now_ns, out):
    sampled = out[out.size - samples :]
    for i in range(out.size - samples):
        out[i] = pick_victim(policy, heads, nexts, bits, bits, used, kv, kx, rng, 0, samples, sampled, pool, now_ns, 1)
        if out[i] >= 0:
            kv[out[i], 0] = NODATA
            unlink(heads, nexts, out[i], HASH_SEED, bits)
            used -= 1


def victims(policy: str, words: list[int], *, now_ns: int, count: int, samples: int = 5, expires_ns: list[int] | None = None,
            is_last_gone: bool = False, pool: Ints | None = None) -> list[int]:  # fmt: skip
    """`count` victims, one after the other, among keys with these words; the last one has gone if `is_last_gone`."""
    keys, used = len(words), len(words) - is_last_gone
    heads, nexts = empty_table(keys, keys)
    link_range(heads, nexts, 0, used, HASH_SEED, bits_for(keys))
    kv = np.column_stack([np.ones(keys), words]).astype(np.int32)
    kv[used:, 0] = NODATA
    kx = np.array(expires_ns or [0] * keys, dtype=np.int64)
    out = np.zeros(count + samples, dtype=np.int64)
    luck = stream(1, policy).reshape(1, 2)
    pool = empty_pool() if pool is None else pool
    _victims(POLICIES[policy], heads, nexts, bits_for(keys), used, kv, kx, luck, samples, pool, now_ns, out)
    return out[:count].tolist()


def test_idle_time_goes_once_round_the_24_bit_clock() -> None:
    """evict.c:estimateObjectIdleTime: wraps after 194 days [facts 9.3]."""
    assert _idle_s(100, 130) == 30
    assert _idle_s(LRU_CLOCK_MAX - 5, 10) == 15


@pytest.mark.parametrize(("decay_min", "after_min", "counter"), [(1, 3, 7), (2, 3, 9), (1, 11, 0), (0, 60_000, 10)])
def test_the_counter_loses_one_per_decay_time_and_none_at_zero(decay_min: int, after_min: int, counter: int) -> None:
    """evict.c:LFUDecrAndReturn [facts 9.4]: a counter of 10 from minute 500, or across the end of the 16 bits."""
    assert _decayed(500 << 8 | 10, (500 + after_min) & 65535, decay_min) == counter


def test_minutes_wrap_at_65535_as_in_redis() -> None:
    """evict.c:LFUTimeElapsed takes 65535 - then + now, one minute less than have passed."""
    assert _decayed(65530 << 8 | 20, 4, 1) == 20 - 9


@pytest.mark.parametrize("log_factor", [1, 10, 100])
def test_the_counter_grows_by_the_logarithmic_law(log_factor: int) -> None:
    """evict.c:LFULogIncr: the mean after 200 hits against the exact distribution, counted up hit by hit; 5 standard errors."""
    chance = np.zeros(256)
    chance[5] = 1.0
    odds = 1.0 / (np.maximum(np.arange(256) - 5, 0) * log_factor + 1)
    for _ in range(200):
        moved = chance * odds
        chance = chance - moved + np.concatenate([[0.0], moved[:-1]])
    mean = float(chance @ np.arange(256))
    spread = float(chance @ (np.arange(256) - mean) ** 2) ** 0.5
    assert abs(_counter_after(200, 4000, log_factor, stream(5, "lfu").reshape(1, 2)) - mean) < 5 * spread / 4000**0.5


class Pool(list[tuple[int, int]]):
    """evict.c's pool as a list of (score, key): bounded, by rising score."""

    def offer(self, score: int, key: int) -> None:
        """In front of the first that scores as high; the worst goes if there is no room, and that may be this one."""
        at = next((i for i, (other, _) in enumerate(self) if other >= score), len(self))
        if len(self) == EVPOOL_SIZE:
            if at == 0:
                return
            del self[0]
            at -= 1
        self.insert(at, (score, key))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 99)), max_size=60))
def test_the_pool_keeps_the_sixteen_best_as_evict_c_does(offers: list[tuple[int, int]]) -> None:
    """evict.c:evictionPoolPopulate [facts 9.3]: the same rows in the same order as a sorted list that drops its worst."""
    pool, model = empty_pool(), Pool()
    _insert(pool, np.array([s for s, _ in offers], dtype=np.int64), np.array([k for _, k in offers], dtype=np.int64))
    for score, key in offers:
        model.offer(score, key)
    assert [tuple(row) for row in pool.tolist() if row[1] != NONE] == list(model)


@pytest.mark.parametrize(
    ("policy", "words", "expires_ns", "order"),
    [
        ("allkeys-lru", [50, 10, 30, 20, 40], None, [1, 3, 2, 4, 0]),
        ("allkeys-lfu", [9, 5, 7, 200, 6], None, [1, 4, 2, 0, 3]),
        ("volatile-lru", [50, 10, 30, 20, 40], [S] * 5, [1, 3, 2, 4, 0]),
        ("volatile-ttl", [0] * 5, [5 * MS, 3 * MS, 9 * MS, 4 * MS, 8 * MS], [1, 3, 0, 4, 2]),
    ],
)
def test_with_fewer_keys_than_the_pool_has_rows_the_order_is_exact(
    policy: str, words: list[int], expires_ns: list[int] | None, order: list[int]
) -> None:
    """evict.c: sixty-four samples of five keys see them all: the longest idle, the least frequent, the soonest to expire."""
    assert victims(policy, words, now_ns=60 * S, count=5, samples=64, expires_ns=expires_ns) == order


def test_a_word_of_lfu_is_compared_by_its_decayed_counter() -> None:
    """evict.c:LFUDecrAndReturn in the score: a counter of 9 that is ten minutes old is behind a fresh 2."""
    assert victims("allkeys-lfu", [0 << 8 | 9, 10 << 8 | 2], now_ns=10 * MINUTE, count=1, samples=64) == [0]


def test_a_ghost_is_skipped_and_leaves_the_pool() -> None:
    """performEvictions: what the pool remembers of a key that has gone is dropped, and the next best is taken."""
    pool = empty_pool()
    _insert(pool, np.array([1000, 900], dtype=np.int64), np.array([3, 2], dtype=np.int64))
    assert victims("allkeys-lru", [50, 50, 40, 45], now_ns=60 * S, count=1, samples=1, is_last_gone=True, pool=pool) == [2]
    assert 3 not in pool[:, 1]


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-ttl", "volatile-random", "allkeys-random", "noeviction"])
def test_there_is_no_victim_in_an_empty_dict_or_without_eviction(policy: str) -> None:
    """performEvictions: nothing to choose from is EVICT_FAIL [facts 9.3]."""
    used = 4 if policy == "noeviction" else 0
    heads, nexts = empty_table(4, 4)
    out = np.zeros(6, dtype=np.int64)
    kv, kx = np.ones((4, 2), dtype=np.int32), np.zeros(4, dtype=np.int64)
    _victims(POLICIES[policy], heads, nexts, 2, used, kv, kx, stream(1, "v").reshape(1, 2), 5, empty_pool(), 0, out)
    assert out[0] == NONE


def test_more_samples_come_nearer_to_the_oldest_keys() -> None:
    """evict.c: mean rank by age of the first thousand victims of ten thousand keys, 499.5 if exact. With one sample the pool is
    always empty again, so that is no better than random: the middle, by five standard errors."""
    words = list(range(10_000))
    ranks = [float(np.mean(victims("allkeys-lru", words, now_ns=20_000 * S, count=1000, samples=n))) for n in (1, 3, 5, 10)]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[-1] > 499.5
    assert abs(ranks[0] - 4999.5) < 5 * 10_000 / (12 * 1000) ** 0.5
