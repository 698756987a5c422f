"""What happens before a command when memory is short: keys go, or the command is refused.

Mirrors evict.c:performEvictions, evictionTimeProc; server.c:processCommand (7.0; 6.2 to 8.0 and Valkey 8.0 do the same). Which
key goes is evict.py's.

    command       memory <= maxmemory: go ahead. Else delete keys until as much is free as was too much
    every 16 keys time is up (tenacity): the timer goes on in each turn of the loop, and the command goes ahead all the same
    nothing left  to evict, or noeviction: a command that may need memory is answered -OOM

The arguments of the command count while it waits: its value, and a query buffer as large if a big one (32 KiB) took it.
Differs: a value freed in the background (lazyfree-lazy-eviction) is free at once and at no cost, so that nobody waits for it.
Not modelled: MULTI, scripts that are refused half-way, replicas' output buffers.
"""

import numpy as np

from redsim.dataplane.aof import feed_deletion
from redsim.dataplane.compile import compiled
from redsim.dataplane.evict import ALLKEYS, LFU, LFU_MINUTES, NO_EVICTION, idle_s, lfu_minutes, lru_clock, pick_victim
from redsim.dataplane.histogram import COARSE_BITS, bit_length, bucket_of
from redsim.dataplane.keyspace import forget
from redsim.dataplane.layout import *
from redsim.dataplane.ledger import charge, curve_ns, segment, stall
from redsim.dataplane.memory import BIG_ARG_BYTES, EMBSTR_MAX, ROBJ_BYTES, raw_bytes, sds_header, usable
from redsim.dataplane.rehash import dict_work

KEYS_PER_CHECK = 16  # evict.c: the time is looked at once in so many keys
LAZYFREE_THRESHOLD = 64  # lazyfree.c: smaller values are freed at once
OOM_REPLY_BYTES = 58  # server.c: shared.oomerr
EVICT_OK, EVICT_RUNNING, EVICT_FAIL = range(3)
DELETION_STEPS = 2  # look-ups in the dict besides the samples: the victim is found, then deleted


@compiled
def make_room(w: World, r, k):
    """Memory is short, or may be with the arguments of request `r` of kind `k`: may it be executed?"""
    st = w.st
    arguments = argument_bytes(w, r, k)
    st[USED] += arguments
    result = perform_evictions(w)
    st[USED] -= arguments
    return result != EVICT_FAIL or not w.kind[k, K_DENYOOM]


@compiled
def argument_bytes(w: World, r, k):
    """What the values among the arguments of request `r` take."""
    size = w.req[r, R_ARG]
    if w.kind[k, K_VDIST] < 0 or size <= 0:
        return 0
    if size <= EMBSTR_MAX:
        return usable(w, ROBJ_BYTES + 3 + size + 1)
    if size < BIG_ARG_BYTES:
        return raw_bytes(w, size)
    return raw_bytes(w, size + 2) + usable(w, sds_header(size + 2) + size + 3) - w.cost[QUERY_BYTES]


@compiled
def perform_evictions(w: World):
    """evict.c:performEvictions. While memory is over the limit each command comes here, else only those that may have to wait."""
    st, cost = w.st, w.cost
    result = EVICT_OK
    if st[USED] > cost[MAXMEMORY]:
        result = EVICT_FAIL if cost[POLICY] == NO_EVICTION else evict_keys(w, st[USED] - cost[MAXMEMORY])
    if result != EVICT_OK and st[WATCH_ABOVE] > 0:
        st[WATCH_ABOVE] = 0
        st[EXCEEDED_FROM] = st[NOW]
    elif result == EVICT_OK and st[WATCH_ABOVE] == 0:
        st[WATCH_ABOVE] = cost[MAXMEMORY]
        st[EXCEEDED_NS] += st[NOW] - st[EXCEEDED_FROM]
    return result


@compiled
def evict_keys(w: World, to_free):
    """Delete keys until `to_free` bytes are free, time is up or there are none."""
    st, cost = w.st, w.cost
    start = st[NOW]
    freed, evicted, longest, largest = 0, 0, 0, NONE
    result = EVICT_OK
    while freed < to_free:
        key = next_victim(w)
        if key == NONE:
            result = EVICT_FAIL
            break
        before, began = st[USED], st[NOW]
        evict(w, key)
        freed += before - st[USED]
        if st[NOW] - began > longest:
            longest, largest = st[NOW] - began, key
        evicted += 1
        if evicted % KEYS_PER_CHECK == 0:
            if cost[LAZY_EVICT] and st[USED] <= cost[MAXMEMORY]:
                break
            if (st[NOW] - start) // 1000 > cost[EVICT_LIMIT_US]:
                st[EVICT_ARMED] = 1
                break
    if st[NOW] - start >= cost[STALL_NS]:
        if longest >= cost[STALL_NS]:
            stall(w, cost[EVICT_DEL_CAUSE], start, NONE, largest)
        else:
            stall(w, cost[EVICT_CAUSE], start, NONE, NONE)
    if st[REC_ON] and st[NOW] > start:
        segment(w, cost[EVICT_CAUSE], start, st[NOW], NONE)
    return EVICT_RUNNING if result == EVICT_OK and st[EVICT_ARMED] else result


@compiled
def next_victim(w: World):
    """The key that goes next, NONE if there is none; choosing takes its time."""
    st, cost = w.st, w.cost
    policy, row = cost[POLICY], w.group.shape[0] * RNG_PER_GROUP + 3
    samples, decay = cost[SAMPLES], cost[LFU_DECAY]
    table = w.dicts[MAIN if policy & ALLKEYS else EXPIRES]
    bits, used = table[H_BITS], table[H_USED]
    charge(w, cost[EVICT_CAUSE], samples * w.curve[cost[SAMPLE_CURVE], max(bits, 0)])
    if policy & ALLKEYS:
        return pick_victim(policy, w.heads, w.nexts, cost[HEAD_BITS], bits, used, w.kv, w.kx, w.rng, row, samples, w.sampled,
                           w.pool, st[NOW], decay)  # fmt: skip
    return pick_victim(policy, w.xhead, w.xnext, w.expiry[X_HASH_BITS], bits, used, w.kv, w.kx, w.rng, row, samples, w.sampled,
                       w.pool, st[NOW], decay)  # fmt: skip


@compiled
def evict(w: World, key):
    """db.c:dbGenericDelete of a victim: counted, its age noted, the time of its deletion."""
    st, cost = w.st, w.cost
    d = 0
    while key >= w.dataset[d, D_BASE] + w.dataset[d, D_N]:
        d += 1
    charge(w, cost[EVICT_CAUSE], w.curve[cost[EVICT_CURVE], max(w.dicts[MAIN, H_BITS], 0)])
    if st[DICT_WORK]:
        charge(w, cost[EVICT_CAUSE], dict_work(w, cost[SAMPLES] + DELETION_STEPS))
    if not w.dataset[d, D_STRING]:
        elements = np.int64(w.ke[key])
        if not cost[LAZY_EVICT] or elements <= LAZYFREE_THRESHOLD:
            charge(w, cost[EVICT_DEL_CAUSE], curve_ns(w.curve, w.dataset[d, D_DEL_CURVE], elements))
    age = idle_for_s(w, np.int64(w.kv[key, 1]))
    w.ages[bucket_of(age, bit_length(max(age, 1)), COARSE_BITS)] += 1
    forget(w, d, key)
    st[EVICTED] += 1
    if w.aof[A_POLICY] or w.repl[M_ON]:
        charge(w, cost[EVICT_CAUSE], feed_deletion(w, d, cost[LAZY_EVICT], False))


@compiled
def idle_for_s(w: World, word):
    """Seconds since the last access of a key that remembers `word`; with LFU whole minutes."""
    if w.cost[POLICY] & LFU:
        return 60 * ((lfu_minutes(w.st[NOW]) - (word >> 8)) & LFU_MINUTES)
    return idle_s(word, lru_clock(w.st[NOW]))


@compiled
def eviction_timer(w: World):
    """evict.c:evictionTimeProc: once in each turn of the loop while there is too much."""
    if perform_evictions(w) != EVICT_RUNNING:
        w.st[EVICT_ARMED] = 0
