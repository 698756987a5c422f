"""The stage of a rehearsal: a trace and a cache as arrays, what each key costs, and one replay under one policy.

A cost is what Redis 7.0 allocates for a string: sds of the key, dictEntry, object [facts 8.2]; buckets count as the dict grows.
Not modelled: the entries of Valkey 8.0; a key whose value is an integer.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from redsim.dataplane import rehearsal as dp
from redsim.dataplane.dict import bits_for
from redsim.dataplane.evict import LFU
from redsim.dataplane.stack_distance import lru_hits
from redsim.redis.config import Rules, rules
from redsim.redis.dict import ENTRY_BYTES
from redsim.redis.memory_overhead import startup_bytes
from redsim.redis.object import object_size
from redsim.redis.sds import usable_bytes
from redsim.redis.t_string import set_command
from redsim.rng import stream, stream_words
from redsim.scenario.errors import ScenarioError
from redsim.units import S, say_bytes
from redsim.workload.access_trace import AccessTrace

WINDOWS = 100
LINE_POINTS = 200
GUESSED_KEY_BYTES, GUESSED_VALUE_BYTES, GUESSED_RATE_PER_S = 16, 100, 10_000  # used, and named, where nothing says better
_AT_ONCE = 2_000_000
_INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class Cached:
    """How the cache is set up: the limit, in keys or in bytes of maxmemory, and redis.conf's directives of eviction."""

    capacity_keys: int | None = None
    maxmemory_bytes: int | None = None
    samples: Sequence[int] = (5,)  # maxmemory-samples
    lfu_log_factor: int = 10
    lfu_decay_time: int = 1
    ttl_ns: int = 0  # of every key that is written, where the trace has none
    rate_per_s: int | None = None  # of the accesses, where the trace has no times; given: instead of its times
    key_bytes: int | None = None  # where the trace does not say
    value_bytes: int | None = None
    allocator: str = "jemalloc"

    @property
    def is_in_keys(self) -> bool:
        return self.capacity_keys is not None

    @property
    def limit(self) -> int:
        """Keys, or bytes."""
        return int(self.capacity_keys if self.capacity_keys is not None else self.maxmemory_bytes or 0)


@dataclass(frozen=True)
class Outcome:
    """Counts of one replay."""

    accesses: int
    reads: int
    hits: int
    evicted: int
    expired: int
    denied: int
    keys: int
    used_bytes: int
    idle_s: float  # mean of the victims, by the LRU clock; nan under LFU, where nobody remembers
    cpu_s: float
    windows: npt.NDArray[np.float64]  # hit ratio of each part of the trace

    @property
    def hit_ratio(self) -> float:
        """Hits of all reads."""
        return self.hits / self.reads if self.reads else float("nan")


def _or_none(values: npt.NDArray[Any] | None, dtype: type) -> npt.NDArray[Any]:
    return np.zeros(0, dtype=dtype) if values is None else values


def _reads_by_window(trace: AccessTrace) -> npt.NDArray[np.int64]:
    edges = [-(-part * trace.keys.size // WINDOWS) for part in range(WINDOWS + 1)]
    if trace.ops is None:
        return np.diff(edges)
    return np.array([np.count_nonzero(trace.ops[low:high] == dp.READ) for low, high in itertools.pairwise(edges)])


# ---- bytes ------------------------------------------------------------------------------------------------------


def _by_length(lengths: npt.NDArray[np.int64], cost: Callable[[int], int]) -> npt.NDArray[np.int64]:
    values, where = np.unique(lengths, return_inverse=True)
    return np.array([cost(int(value)) for value in values], dtype=np.int64)[where]


def _key_cost(key_bytes: int, how: Rules) -> int:
    """db.c:dbAdd: an exact copy of the key, and its dictEntry."""
    return usable_bytes(key_bytes, how) + how.allocator.usable(ENTRY_BYTES)


def _value_cost(value_bytes: int, how: Rules) -> int:
    return object_size(set_command(b"v" * value_bytes, how), how)


class Stage:
    """A trace and how the cache is set up, ready to be replayed."""

    def __init__(self, trace: AccessTrace, cached: Cached) -> None:
        self.trace, self.cached = trace, cached
        self.guesses: list[str] = []
        self.period_ps = 0  # between two accesses, where the trace has no times
        self.rules = rules("7.0", allocator=cached.allocator)
        self.base_bytes = 0 if cached.is_in_keys else int(startup_bytes(self.rules).value)
        self.accesses = dp.Accesses(
            keys=trace.keys, ops=_or_none(trace.ops, np.int8), times_ns=self._times_ns(),
            ttls_ns=_or_none(trace.ttls_ns, np.int64), costs=self._costs(),
        )  # fmt: skip
        if cached.limit <= self.base_bytes and not cached.is_in_keys:
            raise ScenarioError(f"maxmemory {say_bytes(cached.limit)}: an empty Redis alone has {say_bytes(self.base_bytes)}")
        self.reads = _reads_by_window(trace)

    @property
    def expires(self) -> bool:
        """Whether any key has a TTL."""
        return self.cached.ttl_ns > 0 or self.trace.ttls_ns is not None

    def _times_ns(self) -> npt.NDArray[np.int64]:
        rate = self.cached.rate_per_s
        if rate is None and self.trace.times_ns is not None:
            return self.trace.times_ns
        if rate is None:
            self.guesses.append(f"the trace has no times: {GUESSED_RATE_PER_S:,} accesses a second (--rate)")
        self.period_ps = 1000 * S // (rate or GUESSED_RATE_PER_S)
        return _or_none(None, np.int64)

    def _costs(self) -> npt.NDArray[np.int32]:
        """By access if the trace has sizes, else by key; 1 each if the limit is in keys."""
        trace, cached = self.trace, self.cached
        if cached.is_in_keys:
            return np.ones(trace.distinct, dtype=np.int32)
        key_bytes = trace.key_sizes if cached.key_bytes is None else None
        if key_bytes is None:
            key_bytes = np.full(trace.distinct, self._given("key_bytes", cached.key_bytes, GUESSED_KEY_BYTES))
        costs = _by_length(key_bytes, lambda n: _key_cost(n, self.rules))
        if trace.sizes is not None and cached.value_bytes is None:
            costs = costs[trace.keys] + _by_length(trace.sizes, lambda n: _value_cost(n, self.rules))
        else:
            costs = costs + _value_cost(self._given("value_bytes", cached.value_bytes, GUESSED_VALUE_BYTES), self.rules)
        if costs.max() > _INT32_MAX:
            raise ScenarioError(f"{trace.name}: a value of {say_bytes(int(costs.max()))}; Redis takes no more than 512 MiB")
        return costs.astype(np.int32)

    def _given(self, name: str, value: int | None, guess: int) -> int:
        if value is None:
            self.guesses.append(f"{name.replace('_', ' ')}: {guess} (--{name.replace('_', '-')})")
        return guess if value is None else value

    @property
    def whole_limit(self) -> int:
        """Keys or bytes with which nothing would ever be evicted, or little more."""
        if self.cached.is_in_keys:
            return self.trace.distinct
        costs = self.accesses.costs.astype(np.int64)
        if costs.size == self.trace.keys.size:
            largest = np.zeros(self.trace.distinct, dtype=np.int64)
            np.maximum.at(largest, self.trace.keys, costs)
            costs = largest
        buckets = 1 << bits_for(self.trace.distinct)
        ttl_bytes = (self._ttl_bytes() * self.trace.distinct + buckets * dp.BUCKET_BYTES) if self.expires else 0
        return int(costs.sum()) + buckets * dp.BUCKET_BYTES + ttl_bytes + self.base_bytes

    def _ttl_bytes(self) -> int:
        return 0 if self.cached.is_in_keys else self.rules.allocator.usable(ENTRY_BYTES)

    def _plan(self, policy: int, samples: int, limit: int, seed: int) -> npt.NDArray[np.int64]:
        cached, plan = self.cached, np.zeros(dp.PLAN_SIZE, dtype=np.int64)
        plan[dp.P_POLICY], plan[dp.P_SAMPLES], plan[dp.P_BUDGET] = policy, samples, limit - self.base_bytes
        plan[dp.P_LOG_FACTOR], plan[dp.P_DECAY_TIME] = cached.lfu_log_factor, cached.lfu_decay_time
        plan[dp.P_PERIOD_PS], plan[dp.P_TTL_NS] = self.period_ps, cached.ttl_ns
        plan[dp.P_SEED] = stream_words(seed, "rehearsal", "dict")[0] >> 1
        plan[dp.P_TTL_BYTES] = self._ttl_bytes()
        plan[dp.P_BUCKET_BYTES] = 0 if cached.is_in_keys else dp.BUCKET_BYTES
        return plan

    def new_cache(self, name: str, policy: int, samples: int, limit: int, seed: int) -> dp.Cache:
        """An empty cache for the trace."""
        fit = max(0, limit - self.base_bytes) // max(1, int(self.accesses.costs.min()))
        keys_max = min(self.trace.distinct, fit + 1)
        luck = stream(seed, "rehearsal", name, str(samples))
        return dp.new_cache(self._plan(policy, samples, limit, seed), self.accesses, self.trace.distinct, keys_max, luck)

    def compile(self) -> None:
        """Have the replay compiled, so that no row's speed is that of the compiler."""
        cache = self.new_cache("", dp.EXACT_LRU, 1, self.cached.limit, 0)
        dp.replay(self.accesses, cache, 0, 0, np.zeros(WINDOWS, dtype=np.int64))

    def replay(self, name: str, policy: int, samples: int, limit: int, seed: int) -> Outcome:
        """The whole trace under one policy."""
        cache = self.new_cache(name, policy, samples, limit, seed)
        hits, n = np.zeros(WINDOWS, dtype=np.int64), self.trace.keys.size
        begun = time.process_time()
        for first in range(0, n, _AT_ONCE):
            dp.replay(self.accesses, cache, first, min(n, first + _AT_ONCE), hits)
        cpu_s = time.process_time() - begun
        totals = cache.totals
        evicted = int(totals[dp.N_EVICTED])
        return Outcome(
            accesses=n, reads=int(self.reads.sum()), hits=int(totals[dp.N_HITS]), evicted=evicted,
            expired=int(totals[dp.N_EXPIRED]), denied=int(totals[dp.N_DENIED]), keys=int(totals[dp.N_KEYS]),
            used_bytes=int(totals[dp.N_USED]) + self.base_bytes,
            idle_s=totals[dp.N_IDLE_S] / evicted if evicted and not policy & LFU else float("nan"), cpu_s=cpu_s,
            windows=hits / np.where(self.reads > 0, self.reads, np.nan),
        )  # fmt: skip

    def line(self) -> pd.DataFrame:
        """Hit ratio of exact LRU at LINE_POINTS capacities: limit_keys, hit_ratio."""
        distinct = self.trace.distinct
        edges = np.unique(np.rint(np.geomspace(1, distinct, LINE_POINTS)).astype(np.int64))
        hits = np.zeros(edges.size, dtype=np.int64)
        places = 2 * distinct + 1
        lru_hits(self.accesses, edges, hits, np.zeros(places, dtype=np.int64), np.zeros(distinct, dtype=np.int64),
                 np.full(places, -1, dtype=np.int32), np.zeros(distinct, dtype=np.int64))  # fmt: skip
        return pd.DataFrame({"limit_keys": edges, "hit_ratio": np.cumsum(hits) / self.reads.sum()})

    def facts(self) -> dict[str, Any]:
        """What the trace is and how it was taken."""
        trace, cached = self.trace, self.cached
        times_ns = self.accesses.times_ns
        span_s = (int(times_ns[-1]) if times_ns.size else trace.keys.size * self.period_ps // 1000) / S
        return {
            "trace": trace.name, "accesses": int(trace.keys.size), "reads": int(self.reads.sum()),
            "distinct_keys": trace.distinct, "span_s": span_s, "limit": cached.limit,
            "limit_unit": "keys" if cached.is_in_keys else "bytes",
            "whole_limit": self.whole_limit, "allocator": cached.allocator, "lfu_log_factor": cached.lfu_log_factor,
            "lfu_decay_time": cached.lfu_decay_time, "ttl_s": cached.ttl_ns / S, "trace_read_s": trace.read_s,
        }  # fmt: skip
