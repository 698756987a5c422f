"""Rehearsal: what a cache under each eviction policy would have made of a recorded trace of accesses.

Key by key, with Redis' own sampling, pool, clocks and counters (dataplane/rehearsal.py), at millions of accesses a second; beside
each other exact LRU and Belady's rule, which knows the future, as bounds. The limit is a number of keys or a maxmemory; bytes per
key are those of a string in Redis 7.0: sds of the key, dictEntry, object, buckets, and a second dictEntry for a TTL.
The time that drives LRU seconds, LFU minutes and TTLs is the trace's own, or a constant rate.
Differs: see dataplane/rehearsal.py. A value's bytes are taken as text (an int would be smaller).
Not modelled: clients' buffers and all else that counts as used memory beside the keys and an empty server's; latency.
"""

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from redsim.dataplane import rehearsal as dp
from redsim.dataplane.evict import LFU, LRU, POLICIES, SAMPLES_MAX, VOLATILE_TTL
from redsim.run.rehearse_stage import WINDOWS, Cached, Outcome, Stage
from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.units import duration_ns, memory_bytes
from redsim.workload.access_trace import AccessTrace, read_access_trace

__all__ = ["BOUNDS", "Cached", "Rehearsal", "rehearsal", "rehearse"]

SMALLEST_SHARE = 0.005  # where a curve begins, of what all keys together take
BOUNDS = {"exact LRU": dp.EXACT_LRU, "Belady": dp.FARTHEST_USE}
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Rehearsal:
    """What came of it. `rows`: a row per policy and number of samples at the limit; `curve`: the same at several limits; `line`:
    limit_keys and hit_ratio of exact LRU, at many; `windows`: hit ratio of each row in even parts of the trace."""

    rows: pd.DataFrame
    curve: pd.DataFrame
    line: pd.DataFrame
    windows: pd.DataFrame
    facts: Mapping[str, Any]
    guesses: Sequence[str] = field(default_factory=tuple)


def rehearse(
    trace: AccessTrace | str | Path | npt.ArrayLike,
    *,
    maxmemory: str | int | None = None,
    capacity: int | None = None,
    samples: int | str | Sequence[int] = 5,
    policies: str | Sequence[str] = "allkeys-lru",
    curve: int = 0,
    seeds: int = 1,
    seed: int = 1,
    form: str = "auto",
    **conf: Any,
) -> pd.DataFrame:
    """Hit ratio and its like of each policy over a trace: a file, or the accessed keys in order. The limit is `maxmemory`
    ("100mb", bytes) or `capacity` in keys; `conf`: fields of Cached. A row per policy, samples and limit, both bounds last.

    >>> frame = rehearse([1, 2, 1, 3, 1, 2], capacity=2)
    >>> dict(zip(frame["policy"], frame["hits"]))["exact LRU"]
    2.0
    """
    if not isinstance(trace, AccessTrace | str | Path):
        codes, distinct = pd.factorize(np.asarray(trace).ravel())
        trace = AccessTrace(name="keys", keys=codes.astype(np.int32), distinct=len(distinct))
    cached = cached_as_written(maxmemory=maxmemory, capacity=capacity, samples=samples, **conf)
    named = policies.split(",") if isinstance(policies, str) else policies
    done = rehearsal(trace, cached, policies=named, curve=curve, seeds=seeds, seed=seed, form=form)
    return pd.concat([part for part in (done.rows, done.curve) if not part.empty]).drop(columns="said")


def cached_as_written(
    *, maxmemory: str | int | None, capacity: int | None, samples: int | str | Sequence[int], ttl: str | None = None, **conf: Any
) -> Cached:
    """How the cache is set up, from words as people write them: `100mb`, `3,5,10`, `1h`; `conf`: other fields of Cached."""
    try:
        bytes_max = None if maxmemory is None else memory_bytes(maxmemory)
        ttl_ns = 0 if ttl is None else duration_ns(ttl)
        asked = [int(n) for n in samples.split(",")] if isinstance(samples, str) else samples
    except ValueError as error:
        raise ScenarioError(f"rehearse: {error}") from None
    asked = [asked] if isinstance(asked, int) else list(asked)
    return Cached(capacity_keys=capacity, maxmemory_bytes=bytes_max, samples=asked, ttl_ns=ttl_ns, **conf)


def rehearsal(
    trace: AccessTrace | str | Path,
    cached: Cached,
    *,
    policies: Sequence[str] = ("allkeys-lru",),
    curve: int = 0,
    seeds: int = 1,
    seed: int = 1,
    form: str = "auto",
    progress: Progress = lambda _what, _share: None,
) -> Rehearsal:
    """Replay the trace under each policy (`all`: every one that makes sense) and both bounds; `curve` more limits, even by their
    logarithm; `seeds` repetitions of what luck decides. ScenarioError says what cannot be rehearsed."""
    if not isinstance(trace, AccessTrace):
        trace = read_access_trace(Path(trace), form)
    if trace.keys.size == 0:
        raise ScenarioError("a trace without accesses cannot be rehearsed")
    _check(cached, curve, seeds)
    stage = Stage(trace, cached)
    kinds = _kinds(_policies(policies, stage), cached.samples)
    limits = _limits(stage, curve) if curve else []
    done = itertools.count(1)

    def run(kind: _Kind, limit: int) -> dict[str, Any]:
        turns = range(seed, seed + (seeds if kind.is_lucky else 1))
        outcomes = [stage.replay(kind.name, kind.policy, kind.samples, limit, turn) for turn in turns]
        progress(kind.said, next(done) / len(kinds) / (1 + len(limits)))
        return _row(kind, limit, outcomes)

    stage.compile()
    rows = [run(kind, cached.limit) for kind in kinds]
    windows = pd.DataFrame({row["said"]: row.pop("windows") for row in rows}, index=np.arange(WINDOWS) / WINDOWS)
    points = [run(kind, limit) for limit in limits for kind in kinds]
    frame = pd.DataFrame(points, columns=list(rows[0])) if points else pd.DataFrame(columns=list(rows[0]))
    line = stage.line() if curve and cached.is_in_keys else pd.DataFrame(columns=["limit_keys", "hit_ratio"])
    return Rehearsal(pd.DataFrame(rows), frame, line, windows, stage.facts(), stage.guesses)


# ---- what is asked ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kind:
    """One row of the table: a policy, and how many keys it samples."""

    name: str
    policy: int
    samples: int

    @property
    def is_lucky(self) -> bool:
        return self.name not in BOUNDS

    @property
    def is_sampled(self) -> bool:
        return self.is_lucky and (bool(self.policy & (LRU | LFU)) or self.policy == VOLATILE_TTL)

    @property
    def said(self) -> str:
        return f"{self.name}, {self.samples} samples" if self.is_sampled else self.name


def _check(cached: Cached, curve: int, seeds: int) -> None:
    if (cached.capacity_keys is None) == (cached.maxmemory_bytes is None):
        raise ScenarioError("give the limit either as --maxmemory, e.g. 100mb, or as --capacity in keys")
    if cached.limit < 1:
        raise ScenarioError(f"a limit of {cached.limit} leaves no room for a key; 0 would be no limit at all in Redis")
    for n in cached.samples:
        if not 1 <= n <= SAMPLES_MAX:
            raise ScenarioError(f"--samples {n}: maxmemory-samples is 1 to {SAMPLES_MAX} in Redis")
    if cached.lfu_log_factor < 0 or cached.lfu_decay_time < 0:
        raise ScenarioError("lfu-log-factor and lfu-decay-time are 0 or more")
    if cached.rate_per_s is not None and cached.rate_per_s < 1:
        raise ScenarioError(f"--rate {cached.rate_per_s}: accesses per second, 1 or more")
    if curve < 0 or curve == 1 or seeds < 1:
        raise ScenarioError("--curve takes 2 or more limits, --seeds 1 or more repetitions")


def _policies(named: Sequence[str], stage: Stage) -> list[str]:
    if list(named) == ["all"]:
        return [name for name in POLICIES if stage.expires or not name.startswith("volatile")]
    for name in named:
        if name not in POLICIES:
            raise ScenarioError(f"maxmemory-policy {name!r} is unknown; use one of all, {', '.join(POLICIES)}"
                                f"{did_you_mean(name, POLICIES)}")  # fmt: skip
    return list(dict.fromkeys(named))


def _kinds(policies: Sequence[str], samples: Sequence[int]) -> list[_Kind]:
    found = []
    for name in policies:
        kind = _Kind(name, POLICIES[name], 5)
        found += [replace(kind, samples=n) for n in dict.fromkeys(samples)] if kind.is_sampled else [kind]
    return found + [_Kind(name, policy, 0) for name, policy in BOUNDS.items()]


def _limits(stage: Stage, points: int) -> list[int]:
    """From SMALLEST_SHARE of what all keys take to all of it."""
    most = stage.whole_limit
    least = max(1, most - stage.base_bytes) * SMALLEST_SHARE + stage.base_bytes
    return sorted({max(1, round(limit)) for limit in np.geomspace(max(1.0, least), most, points)})


# ---- what came of it --------------------------------------------------------------------------------------------


def _row(kind: _Kind, limit: int, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """A row of the table: means over the repetitions, and half of a 95 % interval for the hit ratio where there are several."""
    ratios = [one.hit_ratio for one in outcomes]

    def mean(of: Callable[[Outcome], float]) -> float:
        return statistics.fmean(of(one) for one in outcomes)

    return {
        "said": kind.said, "policy": kind.name, "samples": kind.samples if kind.is_sampled else 0, "limit": limit,
        "hit_ratio": statistics.fmean(ratios), "hit_ratio_pm": _half_interval(ratios), "reads": outcomes[0].reads,
        "hits": mean(lambda one: one.hits), "evicted": mean(lambda one: one.evicted), "expired": mean(lambda one: one.expired),
        "denied": mean(lambda one: one.denied), "keys_at_end": mean(lambda one: one.keys),
        "used_bytes": mean(lambda one: one.used_bytes), "idle_s_when_evicted": mean(lambda one: one.idle_s),
        "accesses_per_cpu_s": mean(lambda one: one.accesses / one.cpu_s),
        "windows": np.mean([one.windows for one in outcomes], axis=0),
    }  # fmt: skip


_T_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)  # Student's t, 97.5 %, by degrees of freedom from 1


def _half_interval(values: Sequence[float]) -> float:
    n = len(values)
    if n < 2:
        return float("nan")
    return (_T_95[n - 2] if n - 2 < len(_T_95) else 1.96) * statistics.stdev(values) / n**0.5
