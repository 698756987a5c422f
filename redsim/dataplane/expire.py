"""Active expiry: how much of the event loop the keys past their time may eat.

Mirrors expire.c:activeExpireCycle (Redis 7.0), slow from databasesCron, fast from beforeSleep. A cycle goes through the buckets
of the expires dict from where the last one stopped, some 20 keys at a time, for as long as more than a tenth of what it saw was
past due; it looks at the clock after every sixteenth of these rounds, and rounds spent on databases without such keys count:
after a cycle that ran out of time the next one begins at the database behind it.

    slow    every 1000/hz ms                       at most 25 % of them
    fast    before the loop sleeps, at most 1 ms   only after a cycle that ran out of time, at most every 2 ms

From 7.4 a cycle stops where it has been through the whole table.
Differs: the stale estimate is kept in whole parts of 10^9; from 7.2 the table is walked with dictScan, which sees during a rehash
what is walked here, in another order; of a table being rehashed the buckets that should have moved by now (rehash.py) count as
moved. All keys lie in database 0.
Not modelled: hash fields' TTLs (7.4), replicas (which do not expire), CLIENT PAUSE, propagation of the DEL.
"""

import numpy as np

from redsim.dataplane.compile import compiled, entry
from redsim.dataplane.expires import MS_NS, is_past_due
from redsim.dataplane.keyspace import delete_expired_key
from redsim.dataplane.layout import *
from redsim.dataplane.ledger import charge, segment, stall
from redsim.dataplane.rehash import INITIAL_BITS, dict_work

DBS_PER_CALL = 16  # server.h: CRON_DBS_PER_CALL
ROUNDS_PER_CHECK = 16  # expire.c: the clock is looked at once in so many rounds
BUCKETS_PER_KEY = 20  # expire.c: buckets looked into at most, for each key wanted
PPB = 1_000_000_000


@compiled
def fast_expire_cycle(w: World):
    """expire.c:activeExpireCycle(ACTIVE_EXPIRE_CYCLE_FAST), if the last one was long enough ago; who calls has seen that it is
    wanted (X_FAST_DUE)."""
    x = w.expiry
    now_us = w.st[NOW] // 1000
    if now_us >= x[X_LAST_FAST_US] + 2 * x[X_FAST_US]:
        x[X_LAST_FAST_US] = now_us
        expire_cycle(w, x[X_FAST_US])


@entry
def slow_expire_cycle(w: World, hz):
    """expire.c:activeExpireCycle(ACTIVE_EXPIRE_CYCLE_SLOW), from databasesCron."""
    expire_cycle(w, max(w.expiry[X_SLOW_PERCENT] * 1_000_000 // hz // 100, 1))


@compiled
def expire_cycle(w: World, limit_us):
    """One cycle of about `limit_us` at most, and what it says of the keys still to be removed."""
    st, x = w.st, w.expiry
    start, before = st[NOW], st[EXPIRED]
    databases = x[X_DATABASES]
    visits = databases if databases < DBS_PER_CALL or x[X_TIMELIMIT_EXIT] or x[X_STOPS] else DBS_PER_CALL
    empty = (databases - x[X_CURRENT_DB]) % databases
    x[X_CURRENT_DB] = (x[X_CURRENT_DB] + visits) % databases
    x[X_TIMELIMIT_EXIT] = 0
    x[X_BIG_KEY] = NONE
    sampled = 0
    if empty < visits:
        sampled = expire_database(w, start // 1000, limit_us, empty)
    share = PPB * (st[EXPIRED] - before) // max(sampled, 1)
    x[X_STALE_PPB] = (5 * share + 95 * x[X_STALE_PPB]) // 100
    x[X_FAST_DUE] = 1 if x[X_TIMELIMIT_EXIT] or x[X_STALE_PPB] >= x[X_ACCEPTABLE] * PPB else 0
    x[X_CYCLES] += 1
    x[X_CYCLE_NS] += st[NOW] - start
    x[X_ACTIVE] += st[EXPIRED] - before
    if st[REC_ON] and st[NOW] > start:
        segment(w, x[X_CAUSE], start, st[NOW], NONE)
    if st[NOW] - start >= w.cost[STALL_NS]:
        stall(w, x[X_CAUSE], start, NONE, x[X_BIG_KEY])


@compiled
def expire_database(w: World, start_us, limit_us, rounds):
    """One cycle's rounds in the database that has the keys; `rounds` have gone by in others. Returns the keys looked at."""
    st, x, table = w.st, w.expiry, w.dicts[EXPIRES]
    sampled = 0
    while table[H_USED] > 0:
        rounds += 1
        buckets = 1 << table[H_BITS]
        if table[H_NEXT] != NONE:
            buckets += 1 << table[H_NEXT]
        if buckets > 1 << INITIAL_BITS and 100 * table[H_USED] // buckets < 1:
            return sampled
        is_through = expire_some(w)
        sampled += x[X_SAMPLED]
        charge(w, x[X_CAUSE], x[X_SPENT_NS])
        note_ttls(w)
        if rounds % ROUNDS_PER_CHECK == 0 and st[NOW] // 1000 - start_us > limit_us:
            x[X_TIMELIMIT_EXIT] = 1
            x[X_CURRENT_DB] = 1 % x[X_DATABASES]
            x[X_CAP_REACHED] += 1
            return sampled
        is_stale = x[X_SAMPLED] == 0 or 100 * x[X_EXPIRED] // x[X_SAMPLED] > x[X_ACCEPTABLE]
        if not is_stale or (is_through and x[X_STOPS]):
            return sampled
    x[X_AVG_TTL_MS] = 0
    return sampled


@compiled
def expire_some(w: World):
    """One round: the keys of the next buckets, in both tables while there are two. True if the cursor has come to the end."""
    x, table = w.expiry, w.dicts[EXPIRES]
    x[X_SAMPLED], x[X_EXPIRED], x[X_SPENT_NS], x[X_TTL_MS], x[X_TTLS] = 0, 0, 0, 0, 0
    wanted = min(table[H_USED], x[X_PER_LOOP])
    buckets = 0
    is_through = False
    while x[X_SAMPLED] < wanted and buckets < BUCKETS_PER_KEY * wanted and not (is_through and x[X_STOPS]):
        buckets += 1
        bits = x[X_HASH_BITS] - table[H_BITS]  # so many slots of xhead are one bucket, as a power of two
        bucket = x[X_CURSOR] & ((1 << table[H_BITS]) - 1)
        if table[H_NEXT] == NONE:
            expire_slots(w, bucket << bits, (bucket + 1) << bits)
        else:
            buckets += 1
            moved = (1 << table[H_BITS]) - (table[H_LEFT] + 999) // 1000
            if bucket >= moved:
                expire_slots(w, bucket << bits, (bucket + 1) << bits)
            new_bits = x[X_HASH_BITS] - table[H_NEXT]
            bucket = x[X_CURSOR] & ((1 << table[H_NEXT]) - 1)
            expire_slots(w, bucket << new_bits, min((bucket + 1) << new_bits, moved << bits))
        x[X_CURSOR] += 1
        is_through = x[X_CURSOR] & ((1 << table[H_BITS]) - 1) == 0
    x[X_SPENT_NS] += buckets * w.cost[EMPTY_BUCKET_NS]
    if w.st[DICT_WORK]:
        x[X_SPENT_NS] += dict_work(w, x[X_EXPIRED])
    return is_through


@compiled
def expire_slots(w: World, first, end):
    """The keys in these slots of the table: those past due are deleted, the others' time is noted."""
    x = w.expiry
    for slot in range(first, end):
        key = np.int64(w.xhead[slot])
        while key != NONE:
            after = np.int64(w.xnext[key])
            x[X_SAMPLED] += 1
            x[X_SPENT_NS] += x[X_SAMPLE_NS]
            if is_past_due(w, key):
                ns = delete_expired_key(w, dataset_of(w, key), key, ACTIVE)
                x[X_SPENT_NS] += ns
                x[X_EXPIRED] += 1
                if ns >= w.cost[STALL_NS]:
                    x[X_BIG_KEY] = key
            elif w.kx[key] // MS_NS > w.st[NOW] // MS_NS:
                x[X_TTL_MS] += w.kx[key] // MS_NS - w.st[NOW] // MS_NS
                x[X_TTLS] += 1
            key = after


@compiled
def dataset_of(w: World, key):
    """The data set that key number `key` belongs to."""
    d = 0
    while key >= w.dataset[d, D_BASE] + w.dataset[d, D_N]:
        d += 1
    return d


@compiled
def note_ttls(w: World):
    """INFO keyspace's avg_ttl: 2 % of what this round saw."""
    x = w.expiry
    if x[X_TTLS] > 0:
        mean_ms = x[X_TTL_MS] // x[X_TTLS]
        if x[X_AVG_TTL_MS] == 0:
            x[X_AVG_TTL_MS] = mean_ms
        x[X_AVG_TTL_MS] = x[X_AVG_TTL_MS] // 50 * 49 + mean_ms // 50
