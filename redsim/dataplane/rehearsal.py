"""A trace of accesses replayed on a cache under one policy: who is there, who has to go, what hits.

Mirrors server.c:processCommand (room is made before each command), dict.c's doubling and server.c:dictExpandAllowed (Redis 7.0);
the victims are evict.py's. Each access is a read, whose miss writes the key back (cache-aside), a write, or a delete. Beside
Redis' policies two that know everything: EXACT_LRU, and FARTHEST_USE, which drops the key whose next read is farthest, best of
all if all keys cost the same [belady-1966].

    cost        what a key adds to the memory counted, by key or by access
    budget      maxmemory; a capacity in keys is the same with a cost of 1 and nothing else counted
    kv, kx      as in the World: kv[key] = (cost or NODATA, the word of its accesses), expiry in ns or 0

Differs: room is made however long it takes (no tenacity); the old table of a rehash is free at once; a key past its time stays
until it is next touched or evicted (no active expire cycle).
Not modelled: everything that takes time. FARTHEST_USE knows nothing of expiry or of costs that differ: then it is no bound.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from redsim.dataplane.compile import entry, inlined
from redsim.dataplane.dict import INITIAL_BITS, bits_for, empty_table, link, unlink
from redsim.dataplane.evict import (
    ALLKEYS,
    LFU,
    SAMPLES_MAX,
    accessed_word,
    created_word,
    empty_pool,
    idle_s,
    lru_clock,
    pick_victim,
)
from redsim.dataplane.farthest import farthest, levels_of, mark, unmark
from redsim.dataplane.layout import NODATA, NONE

I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]

# fmt: off
# plan: how it is replayed, one number each ------------------------------------------------------------------------
(P_POLICY, P_SAMPLES, P_BUDGET, P_LOG_FACTOR, P_DECAY_TIME, P_PERIOD_PS, P_SEED, P_BITS, P_BUCKET_BYTES, P_TTL_BYTES,
 P_TTL_NS) = range(11)
PLAN_SIZE = 12
# totals: what came of it ---------------------------------------------------------------------------------------
(N_HITS, N_MISSES, N_WRITES, N_DENIED, N_EVICTED, N_EXPIRED, N_DELETED, N_USED, N_KEYS, N_VOLATILE, N_BITS, N_TTL_BITS,
 N_IDLE_S) = range(13)
COUNT_SIZE = 16
# fmt: on
READ, WRITE, DELETE = range(3)
EXACT_LRU, FARTHEST_USE = 16 << 8 | ALLKEYS, 17 << 8 | ALLKEYS
LOAD_MAX_E3 = 1618  # dict.h: HASHTABLE_MAX_LOAD_FACTOR
BUCKET_BYTES = 8  # dict.h: a pointer


class Accesses(NamedTuple):
    """A trace as arrays; those that say nothing are empty."""

    keys: I32  # [accesses]: 0..distinct-1
    ops: npt.NDArray[np.int8]  # [accesses or 0]: READ, WRITE, DELETE; empty: all read
    times_ns: I64  # [accesses or 0]: since the first; empty: one every P_PERIOD_PS
    ttls_ns: I64  # [accesses or 0]: of the key if it is written; empty: P_TTL_NS
    costs: I32  # [accesses]: of the key if it is written; or [distinct]: always


class Cache(NamedTuple):
    """A cache in the course of a replay."""

    plan: I64  # [PLAN_SIZE]
    totals: I64  # [COUNT_SIZE]
    kv: I32  # [distinct, 2]
    kx: I64  # [distinct or 0]: empty where nothing expires
    heads: I32  # the main dict
    nexts: I32
    ttl_heads: I32  # the expires dict
    ttl_nexts: I32
    rng: npt.NDArray[np.uint64]  # [1, 2]
    sampled: I64  # [SAMPLES_MAX]: scratch
    pool: I64  # [EVPOOL_SIZE, 2]
    order: I32  # [distinct + 1 or 0, 2]: EXACT_LRU's list, row 0 both its ends, key k row k + 1
    use: I64  # [accesses or 0]: FARTHEST_USE's next read of the same key, accesses + key if there is none
    due: I64  # [distinct or 0]: that of the latest access
    levels: I64
    marks: npt.NDArray[np.uint64]


def _no_rows(dtype: type = np.int64) -> npt.NDArray[np.int64]:
    return np.zeros(0, dtype=dtype)


def new_cache(plan: I64, trace: Accesses, distinct: int, keys_max: int, rng: npt.NDArray[np.uint64]) -> Cache:
    """An empty cache for a trace of `distinct` keys of which at most `keys_max` fit at once; P_BITS of `plan` is set."""
    is_exact = plan[P_POLICY] in (EXACT_LRU, FARTHEST_USE)
    expires = plan[P_TTL_NS] > 0 or trace.ttls_ns.size > 0
    n = trace.keys.size
    plan[P_BITS] = bits_for(keys_max)
    heads, nexts = empty_table(keys_max, 0 if is_exact else distinct)
    ttl_heads, ttl_nexts = empty_table(keys_max if expires else 1, distinct if expires else 0)
    use, levels, marks = _no_rows(), np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.uint64)
    if plan[P_POLICY] == FARTHEST_USE:
        use, levels = np.empty(n, dtype=np.int64), levels_of(n + distinct)
        next_reads(trace.keys, trace.ops, np.full(distinct, NONE, dtype=np.int64), use)
        marks = np.zeros(levels[-1], dtype=np.uint64)
    totals = np.zeros(COUNT_SIZE, dtype=np.int64)
    totals[[N_BITS, N_TTL_BITS]] = INITIAL_BITS
    totals[N_USED] = plan[P_BUCKET_BYTES] << INITIAL_BITS
    return Cache(
        plan=plan, totals=totals, kv=np.tile(np.array([NODATA, 0], dtype=np.int32), (distinct, 1)),
        kx=np.zeros(distinct if expires else 0, dtype=np.int64), heads=heads, nexts=nexts, ttl_heads=ttl_heads,
        ttl_nexts=ttl_nexts, rng=rng.reshape(1, 2), sampled=np.zeros(SAMPLES_MAX, dtype=np.int64), pool=empty_pool(),
        order=np.zeros((distinct + 1 if plan[P_POLICY] == EXACT_LRU else 0, 2), dtype=np.int32), use=use,
        due=np.zeros(distinct if use.size else 0, dtype=np.int64), levels=levels, marks=marks,
    )  # fmt: skip


@entry
def next_reads(keys, ops, upcoming, use):
    """use[i] = the next read of the key of access i that finds what access i left there; accesses + key if there is none.
    `upcoming`: NONE for every key."""
    n = keys.size
    for i in range(n - 1, -1, -1):
        key = np.int64(keys[i])
        use[i] = upcoming[key] if upcoming[key] != NONE else n + key
        upcoming[key] = i if ops.size == 0 or ops[i] == READ else NONE


# ---- the policies that know everything --------------------------------------------------------------------------


@inlined
def _to_front(order, key):
    """The key, in no list, is the most recently used."""
    row = key + 1
    first = order[0, 1]
    order[row, 0] = 0
    order[row, 1] = first
    order[first, 0] = row
    order[0, 1] = row


@inlined
def _out_of_list(order, key):
    before, after = order[key + 1, 0], order[key + 1, 1]
    order[before, 1] = after
    order[after, 0] = before


@inlined
def _put_in(c, key, i):
    """The key, written by access `i`, is among those to choose a victim from."""
    if c.plan[P_POLICY] == EXACT_LRU:
        _to_front(c.order, key)
    elif c.plan[P_POLICY] == FARTHEST_USE:
        c.due[key] = c.use[i]
        mark(c.levels, c.marks, c.due[key])
    else:
        link(c.heads, c.nexts, key, c.plan[P_SEED], c.plan[P_BITS])


@inlined
def _take_out(c, key):
    if c.plan[P_POLICY] == EXACT_LRU:
        _out_of_list(c.order, key)
    elif c.plan[P_POLICY] == FARTHEST_USE:
        unmark(c.levels, c.marks, c.due[key])
    else:
        unlink(c.heads, c.nexts, key, c.plan[P_SEED], c.plan[P_BITS])


@inlined
def _touch(c, key, i, now_ns):
    """db.c:lookupKey: the access `i` is noted."""
    plan = c.plan
    if plan[P_POLICY] == EXACT_LRU:
        _out_of_list(c.order, key)
        _to_front(c.order, key)
    elif plan[P_POLICY] == FARTHEST_USE:
        unmark(c.levels, c.marks, c.due[key])
        c.due[key] = c.use[i]
        mark(c.levels, c.marks, c.due[key])
    else:
        word = np.int64(c.kv[key, 1])
        c.kv[key, 1] = accessed_word(plan[P_POLICY], word, now_ns, plan[P_DECAY_TIME], plan[P_LOG_FACTOR], c.rng, 0)


@inlined
def _victim(t, c, now_ns):
    """The key to evict, NONE if there is none to choose from."""
    plan, totals, policy = c.plan, c.totals, c.plan[P_POLICY]
    if policy == EXACT_LRU:
        return np.int64(c.order[0, 0]) - 1
    if policy == FARTHEST_USE:
        if totals[N_KEYS] == 0:
            return NONE
        at = farthest(c.levels, c.marks)
        return np.int64(t.keys[at]) if at < t.keys.size else at - t.keys.size
    heads, nexts, n_bits, n_keys = c.heads, c.nexts, N_BITS, N_KEYS
    if not policy & ALLKEYS:
        heads, nexts, n_bits, n_keys = c.ttl_heads, c.ttl_nexts, N_TTL_BITS, N_VOLATILE
    return pick_victim(policy, heads, nexts, plan[P_BITS], totals[n_bits], totals[n_keys], c.kv, c.kx, c.rng, 0, plan[P_SAMPLES],
                       c.sampled, c.pool, now_ns, plan[P_DECAY_TIME])  # fmt: skip


# ---- keys come and go -------------------------------------------------------------------------------------------


@inlined
def _grow(plan, totals, n_keys, n_bits):
    """dict.c:_dictExpandIfNeeded: the table doubles on the insertion that finds it full, unless the new one does not fit in
    maxmemory while the load is bearable."""
    size = np.int64(1) << totals[n_bits]
    if totals[n_keys] < size or totals[n_bits] >= plan[P_BITS]:
        return
    if totals[N_USED] + 2 * size * plan[P_BUCKET_BYTES] <= plan[P_BUDGET] or 1000 * totals[n_keys] > LOAD_MAX_E3 * size:
        totals[n_bits] += 1
        totals[N_USED] += size * plan[P_BUCKET_BYTES]


@inlined
def _persist(c, key):
    """db.c:removeExpire; kx is empty where nothing expires."""
    if c.kx.size > 0 and c.kx[key] != 0:
        unlink(c.ttl_heads, c.ttl_nexts, key, c.plan[P_SEED], c.plan[P_BITS])
        c.kx[key] = 0
        c.totals[N_VOLATILE] -= 1
        c.totals[N_USED] -= c.plan[P_TTL_BYTES]


@inlined
def _expire_at(c, key, at_ns):
    """db.c:setExpire."""
    if c.kx[key] == 0:
        _grow(c.plan, c.totals, N_VOLATILE, N_TTL_BITS)
        link(c.ttl_heads, c.ttl_nexts, key, c.plan[P_SEED], c.plan[P_BITS])
        c.totals[N_VOLATILE] += 1
        c.totals[N_USED] += c.plan[P_TTL_BYTES]
    c.kx[key] = at_ns


@inlined
def _remove(c, key):
    """db.c:dbDelete."""
    c.totals[N_USED] -= np.int64(c.kv[key, 0])
    c.totals[N_KEYS] -= 1
    c.kv[key, 0] = NODATA
    _take_out(c, key)
    _persist(c, key)


@inlined
def _set(t, c, key, i, now_ns, is_there):
    """db.c:setKey: the key has a value, and the TTL that comes with it or none."""
    totals = c.totals
    cost = t.costs[i] if t.costs.size == t.keys.size else t.costs[key]
    if is_there:
        totals[N_USED] -= np.int64(c.kv[key, 0])
        _touch(c, key, i, now_ns)
        _persist(c, key)
    else:
        _grow(c.plan, totals, N_KEYS, N_BITS)
        _put_in(c, key, i)
        totals[N_KEYS] += 1
        c.kv[key, 1] = created_word(c.plan[P_POLICY], now_ns)
    c.kv[key, 0] = cost
    totals[N_USED] += np.int64(cost)
    if c.kx.size > 0:
        ttl_ns = t.ttls_ns[i] if t.ttls_ns.size > 0 else c.plan[P_TTL_NS]
        if ttl_ns > 0:
            _expire_at(c, key, now_ns + ttl_ns)


@inlined
def _make_room(t, c, now_ns):
    """evict.c:performEvictions: True if the memory counted is within the budget afterwards."""
    totals, plan = c.totals, c.plan
    while totals[N_USED] > plan[P_BUDGET]:
        victim = _victim(t, c, now_ns)
        if victim == NONE:
            return False
        if not plan[P_POLICY] & LFU:
            totals[N_IDLE_S] += idle_s(np.int64(c.kv[victim, 1]), lru_clock(now_ns))
        _remove(c, victim)
        totals[N_EVICTED] += 1
    return True


@entry
def replay(t, c, first, end, hits):
    """The accesses first..end-1 of the trace. hits[w] counts those that hit in each of its even parts of the whole trace."""
    totals, n = c.totals, t.keys.size
    for i in range(first, end):
        key = np.int64(t.keys[i])
        now_ns = t.times_ns[i] if t.times_ns.size > 0 else i * c.plan[P_PERIOD_PS] // 1000
        has_room = _make_room(t, c, now_ns)
        is_there = c.kv[key, 0] != NODATA
        if is_there and c.kx.size > 0 and 0 < c.kx[key] < now_ns:
            _remove(c, key)
            totals[N_EXPIRED] += 1
            is_there = False
        op = t.ops[i] if t.ops.size > 0 else READ
        if op == READ and is_there:
            totals[N_HITS] += 1
            hits[i * hits.size // n] += 1
            _touch(c, key, i, now_ns)
            continue
        if op == DELETE:
            if is_there:
                _remove(c, key)
                totals[N_DELETED] += 1
            continue
        if op == READ:
            totals[N_MISSES] += 1
        else:
            totals[N_WRITES] += 1
        if has_room:
            _set(t, c, key, i, now_ns, is_there)
        else:
            totals[N_DENIED] += 1
