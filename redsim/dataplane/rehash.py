"""How the database's dicts grow, shrink and move from table to table, and what that costs the commands.

Mirrors dict.c: _dictExpandIfNeeded, dictRehash, _dictRehashStep; server.c: dictExpandAllowed, tryResizeHashTables,
incrementallyRehash (7.0); kvstore.c:kvstoreTryResizeDicts (7.4).

    used == size at an insertion      a table twice as large, at once: used_memory jumps by 8 bytes a bucket
    each find, insert, delete         moves one bucket that is not empty, passing at most 10 empty ones
    each serverCron                   hundreds of buckets at a time for one millisecond, up to 7.2 by a clock of whole ones
    fill below 10 % (12.5 % from 7.4) a smaller table; in serverCron, from 7.4 also at a deletion

Differs: a bucket is empty with the probability exp(-keys / buckets), and each step passes as many as that makes on the average;
the old table's buckets come free in equal shares.

While a child lives all this would copy pages: tables grow only when they are FORCE_RATIO times too small, a rehash waits unless
the new table is far larger or smaller, serverCron leaves them alone.
"""

from redsim.dataplane.compile import compiled, entry, inlined
from redsim.dataplane.histogram import bit_length
from redsim.dataplane.layout import *
from redsim.dataplane.ledger import charge, segment, stall
from redsim.dataplane.memory import usable

INITIAL_BITS = 2  # dict.h: DICT_HT_INITIAL_EXP
EMPTY_VISITS = 10  # dict.c:dictRehash, for each bucket moved
LOAD_ALWAYS_ALLOWED = 1618  # server.c: HASHTABLE_MAX_LOAD_FACTOR, in thousandths
BATCH = 100  # dict.c:dictRehashMilliseconds
MS_NS = 1_000_000


@inlined
def add_key(w: World, h):
    """dict.c:dictAddRaw: one key more in dict `h`."""
    row = w.dicts[h]
    if row[H_NEXT] == NONE and (row[H_BITS] == NONE or row[H_USED] >= 1 << row[H_BITS]):
        expand_if_allowed(w, h)
    row[H_USED] += 1


@inlined
def remove_key(w: World, h):
    """dict.c:dictGenericDelete: one key less."""
    w.dicts[h, H_USED] -= 1
    if w.cost[SHRINK_ON_DELETE]:
        resize_if_sparse(w, h)


@compiled
def expand_if_allowed(w: World, h):
    """dict.c:_dictExpandIfNeeded: the first table, or one twice as large (larger after a child) unless maxmemory forbids it."""
    st, row = w.st, w.dicts[h]
    if row[H_BITS] == NONE:
        row[H_BITS] = INITIAL_BITS
        st[USED] += usable(w, 8 << INITIAL_BITS)
        return
    if w.child[CH_STATE] == CHILD_ALIVE and row[H_USED] < w.cost[FORCE_RATIO] << row[H_BITS]:
        return
    bits = bit_length(row[H_USED])
    load = 1000 * row[H_USED] >> row[H_BITS]
    if load <= LOAD_ALWAYS_ALLOWED and st[USED] + (8 << bits) > w.cost[MAXMEMORY]:
        return
    begin_rehash(w, h, bits)


@compiled
def resize_if_sparse(w: World, h):
    """server.c:tryResizeHashTables: the smallest table that holds the keys, if this one is nearly empty."""
    row = w.dicts[h]
    if row[H_NEXT] != NONE or row[H_BITS] <= INITIAL_BITS:
        return
    at_once = w.cost[SHRINK_ON_DELETE]  # from 7.4 on at the threshold, before it below
    used = row[H_USED] * w.cost[FORCE_RATIO] if w.child[CH_STATE] == CHILD_ALIVE else row[H_USED]
    if 1000 * used - at_once < w.cost[FILL_PERMILLE] << row[H_BITS]:
        begin_rehash(w, h, max(INITIAL_BITS, bit_length(max(row[H_USED] - 1, 1))))


@compiled
def begin_rehash(w: World, h, bits):
    """dict.c:_dictExpand: the new table is there and empty; its zeroing is the command's."""
    st, row = w.st, w.dicts[h]
    st[USED] += usable(w, 8 << bits)
    st[DICT_NS] += w.cost[EXPAND_NS] + (8 << bits) * w.cost[EXPAND_PS] // 1000
    st[DICT_WORK] = 1
    row[H_NEXT] = bits
    row[H_LEFT] = 1000 << row[H_BITS]


@inlined
def is_frozen(w: World, h):
    """dict.c:dictRehash: with a child alive only a rehash into a table that is far larger or far smaller goes on."""
    if w.child[CH_STATE] != CHILD_ALIVE:
        return False
    row = w.dicts[h]
    more = row[H_NEXT] - row[H_BITS]
    return more < w.cost[FORCE_GROW_BITS] if more > 0 else -more < w.cost[FORCE_SHRINK_BITS]


@compiled
def move_buckets(w: World, h, count, at_once):
    """dict.c:dictRehash, `count` times one bucket, or (at_once) that many together: past some thousandths of the old table's
    buckets, of which those that are not empty move. Returns ns. Empty ones are passed ten for each to be moved at most."""
    row = w.dicts[h]
    empty = 1.0 - row[H_USED] / (1 << row[H_BITS]) / 1024.0
    for _ in range(10):
        empty *= empty  # exp(-load), by arithmetic that is the same on every machine
    passed, ns = row[H_LEFT], 0
    if empty < 1.0:
        each = min(1000.0 / (1.0 - empty), 1000.0 * (EMPTY_VISITS + 1))
        if not at_once:
            most = 1.0
            for _ in range(EMPTY_VISITS):
                most *= empty
            each = 1000.0 * (1.0 - most) / (1.0 - empty)
        passed = min(count * int(each), row[H_LEFT])
        moved = int(passed * (1.0 - empty))
        ns = (moved * w.curve[w.cost[REHASH_CURVE], row[H_BITS]] + (passed - moved) * w.cost[EMPTY_BUCKET_NS]) // 1000
    row[H_LEFT] -= passed
    if row[H_LEFT] <= 0:
        w.st[USED] -= usable(w, 8 << row[H_BITS])
        row[H_BITS] = row[H_NEXT]
        row[H_NEXT] = NONE
    return ns


@compiled
def dict_work(w: World, steps):
    """ns that a command pays for its `steps` finds, insertions and deletions in dicts that rehash, and for a new table."""
    st = w.st
    ns = st[DICT_NS]
    st[DICT_NS] = 0
    going = 0
    for h in range(w.dicts.shape[0]):
        if w.dicts[h, H_NEXT] != NONE and steps > 0 and not is_frozen(w, h):
            ns += move_buckets(w, h, steps, False)
        if w.dicts[h, H_NEXT] != NONE:
            going = 1
    st[DICT_WORK] = going
    return ns


@compiled
def empty_dict(w: World, h):
    """dict.c:dictEmpty: no keys, no table."""
    for column in (H_BITS, H_NEXT):
        if w.dicts[h, column] != NONE:
            w.st[USED] -= usable(w, 8 << w.dicts[h, column])
            w.dicts[h, column] = NONE
    w.dicts[h, H_USED] = 0


@entry
def databases_cron(w: World, rehash):
    """server.c:databasesCron, its part about tables: shrink sparse ones, then `rehash` for a millisecond the first dict that is
    at it. Also where used_memory_peak is looked at (cronUpdateMemoryStats)."""
    st = w.st
    st[USED_PEAK] = max(st[USED_PEAK], st[USED])
    is_alone = w.child[CH_STATE] != CHILD_ALIVE
    for h in range(w.dicts.shape[0]):
        if is_alone:
            resize_if_sparse(w, h)
    start = st[NOW]
    for h in range(w.dicts.shape[0]):
        if rehash and is_alone and w.dicts[h, H_NEXT] != NONE:
            rehash_millisecond(w, h, start)
            break
    charge(w, CRON, dict_work(w, 0))
    if st[NOW] - start >= w.cost[STALL_NS]:
        stall(w, CRON, start, NONE, NONE)
    if st[REC_ON] and st[NOW] > start:
        segment(w, CRON, start, st[NOW], NONE)


@compiled
def rehash_millisecond(w: World, h, start):
    """dict.c:dictRehashMilliseconds, or from 7.4 dictRehashMicroseconds."""
    st = w.st
    while w.dicts[h, H_NEXT] != NONE:
        charge(w, CRON, move_buckets(w, h, BATCH, True))
        if w.cost[REHASH_US]:
            if st[NOW] - start >= MS_NS:
                return
        elif st[NOW] // MS_NS - start // MS_NS > 1:
            return
