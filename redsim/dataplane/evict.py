"""Which key goes when memory is short: what a key remembers of its last accesses, the pool of candidates, the victim.

Mirrors evict.c:evictionPoolPopulate and the choice inside performEvictions, estimateObjectIdleTime, LFUGetTimeInMinutes,
LFUTimeElapsed, LFUDecrAndReturn, LFULogIncr; db.c:updateLFU (Redis 7.0.15; 6.2 to 8.0 and Valkey 8.0 choose alike)
[facts 9.3] [facts 9.4].

    a key's word     LRU and others: second of the last access, 24 bits;  LFU: minute of the last decrement << 8 | counter
    the pool         EVPOOL_SIZE rows (score, key) by rising score, the last is the best; it outlives the call, so that good
                     candidates of earlier samples are not lost. An empty row has key NONE; those are behind the others
    a ghost          a row of the pool whose key has gone meanwhile; one that came back is taken for itself, as Redis does

Differs: the LRU clock is exact to the second; Redis reads it every 1/hz.
Not modelled: more than one database; cluster mode of 7.4 and later, which samples slot by slot; 8.6's least recently modified.
"""

import numpy as np
import numpy.typing as npt

from redsim.dataplane.compile import compiled, inlined
from redsim.dataplane.dict import random_key, some_keys
from redsim.dataplane.draws import below
from redsim.dataplane.layout import NODATA, NONE

# server.h: MAXMEMORY_*, flags in the low byte
LRU, LFU, ALLKEYS = 1, 2, 4
VOLATILE_TTL, VOLATILE_RANDOM, NO_EVICTION = 2 << 8, 3 << 8, 7 << 8
POLICIES = {
    "volatile-lru": 0 << 8 | LRU, "volatile-lfu": 1 << 8 | LFU, "volatile-ttl": VOLATILE_TTL,
    "volatile-random": VOLATILE_RANDOM, "allkeys-lru": 4 << 8 | LRU | ALLKEYS, "allkeys-lfu": 5 << 8 | LFU | ALLKEYS,
    "allkeys-random": 6 << 8 | ALLKEYS, "noeviction": NO_EVICTION,
}  # fmt: skip
EVPOOL_SIZE = 16  # evict.c
SAMPLES_MAX = 64  # config.c: maxmemory-samples
LFU_INIT_VAL = 5  # server.h
LFU_COUNTER_MAX = 255
LFU_MINUTES = 65535  # evict.c: 16 bits
LRU_CLOCK_MAX = (1 << 24) - 1  # server.h: LRU_BITS 24, LRU_CLOCK_RESOLUTION 1000 ms
_SECOND_NS, _MINUTE_NS, _MS_NS = np.uint64(1_000_000_000), np.uint64(60_000_000_000), 1_000_000
_LATEST_MS = 1 << 62


def empty_pool() -> npt.NDArray[np.int64]:
    """evict.c:evictionPoolAlloc: shape (EVPOOL_SIZE, 2), score and key."""
    return np.tile(np.array([0, NONE], dtype=np.int64), (EVPOOL_SIZE, 1))


# ---- what a key remembers ---------------------------------------------------------------------------------------


@inlined
def lru_clock(now_ns):
    """evict.c:getLRUClock."""
    return np.int64(np.uint64(now_ns) // _SECOND_NS) & LRU_CLOCK_MAX


@inlined
def idle_s(word, clock):
    """evict.c:estimateObjectIdleTime, in seconds; the clock has gone round at most once."""
    return clock - word if clock >= word else clock + LRU_CLOCK_MAX - word


@inlined
def lfu_minutes(now_ns):
    """evict.c:LFUGetTimeInMinutes."""
    return np.int64(np.uint64(now_ns) // _MINUTE_NS) & LFU_MINUTES


@inlined
def lfu_decayed(word, minutes, decay_time):
    """evict.c:LFUDecrAndReturn: the counter now; `decay_time` in minutes, 0 never decays."""
    counter = word & LFU_COUNTER_MAX
    if decay_time == 0:
        return counter
    since = word >> 8
    elapsed = minutes - since if minutes >= since else LFU_MINUTES - since + minutes
    return max(counter - elapsed // decay_time, 0)


@inlined
def lfu_log_incr(counter, log_factor, rng, row):
    """evict.c:LFULogIncr: one more with probability 1 / (log_factor * (counter - LFU_INIT_VAL) + 1)."""
    if counter == LFU_COUNTER_MAX:
        return counter
    odds = max(counter - LFU_INIT_VAL, 0) * log_factor + 1
    return counter + (below(rng, row, odds) == 0)


@inlined
def created_word(policy, now_ns):
    """object.c:initObjectLRUOrLFU: what a new key remembers."""
    if policy & LFU:
        return lfu_minutes(now_ns) << 8 | LFU_INIT_VAL
    return lru_clock(now_ns)


@inlined
def accessed_word(policy, word, now_ns, decay_time, log_factor, rng, row):
    """db.c:lookupKey: what a key remembers after an access, if no child is alive."""
    if policy & LFU:
        minutes = lfu_minutes(now_ns)
        return minutes << 8 | lfu_log_incr(lfu_decayed(word, minutes, decay_time), log_factor, rng, row)
    return lru_clock(now_ns)


# ---- the pool ---------------------------------------------------------------------------------------------------


@inlined
def score_of(policy, key, kv, kx, now_ns, decay_time):
    """The higher, the better to evict: seconds idle, 255 - frequency, or the nearer expiry in ms."""
    if policy & LRU:
        return idle_s(np.int64(kv[key, 1]), lru_clock(now_ns))
    if policy & LFU:
        return LFU_COUNTER_MAX - lfu_decayed(np.int64(kv[key, 1]), lfu_minutes(now_ns), decay_time)
    return _LATEST_MS - np.int64(kx[key]) // _MS_NS


@inlined
def pool_insert(pool, score, key):
    """evict.c:evictionPoolPopulate, for one sampled key: in front of the first that scores as high. Into a full pool it goes
    at the cost of the worst; if it is the worst itself, it does not."""
    last = EVPOOL_SIZE - 1
    is_full = pool[last, 1] != NONE
    if is_full and pool[0, 0] >= score:
        return
    at = 0
    while at < EVPOOL_SIZE and pool[at, 1] != NONE and pool[at, 0] < score:
        at += 1
    if is_full:
        at -= 1
        for row in range(at):
            pool[row, 0] = pool[row + 1, 0]
            pool[row, 1] = pool[row + 1, 1]
    elif pool[at, 1] != NONE:
        for row in range(last, at, -1):
            pool[row, 0] = pool[row - 1, 0]
            pool[row, 1] = pool[row - 1, 1]
    pool[at, 0] = score
    pool[at, 1] = key


@inlined
def pool_best(pool, policy, kv, kx):
    """Take rows off the pool, the best first, until one is no ghost: its key, or NONE and the pool is empty."""
    for row in range(EVPOOL_SIZE - 1, -1, -1):
        key = pool[row, 1]
        if key != NONE:
            pool[row, 0] = 0
            pool[row, 1] = NONE
            if kv[key, 0] != NODATA and (policy & ALLKEYS or kx[key] != 0):
                return key
    return NONE


@compiled
def pick_victim(policy, heads, nexts, bits, logical_bits, used, kv, kx, rng, row, samples, sampled, pool, now_ns, decay_time):
    """The key that performEvictions deletes next, or NONE if there is none to choose from. `heads`, `nexts` and their `used` keys
    are the main dict for allkeys-*, the expires dict for volatile-*. kv: shape (keys, 2), NODATA in column 0 if the key is not
    there, its word in column 1; kx: (keys) expiry in ns, 0 none, read by volatile-* only; `sampled`: (samples) scratch."""
    if used == 0 or policy == NO_EVICTION:
        return NONE
    if policy & (LRU | LFU) == 0 and policy != VOLATILE_TTL:
        return random_key(heads, nexts, rng, row, bits, logical_bits)
    best = NONE
    while best == NONE:
        found = some_keys(heads, nexts, rng, row, bits, logical_bits, min(samples, used), sampled)
        for i in range(found):
            key = sampled[i]
            pool_insert(pool, score_of(policy, key, kv, kx, now_ns, decay_time), key)
        best = pool_best(pool, policy, kv, kx)
    return best
