"""What a command does to the keys, what it costs, how long its answer is.

A cost law per command (redis/commands.py fills the columns): constant + per byte + per extra key or element + curves over the
elements of the key touched, the elements returned, the keys in the database. Every key is real: size, elements, expiry, last
access.
Differs: SADD, HSET, ZADD to an existing key update a member in place (elements unchanged); sets are disjoint in SUNION.
Keys past their time go here when they are touched, else in the cycles of expire.py.
"""

import numpy as np

from redsim.dataplane.aof import feed_deletion
from redsim.dataplane.compile import compiled, inlined
from redsim.dataplane.cow import (
    elements_written,
    key_moved,
    persist,
    robj_written,
    value_appended,
    value_written,
)
from redsim.dataplane.database import database_command
from redsim.dataplane.dict import link, unlink
from redsim.dataplane.draws import below_ns, draw_key, draw_size
from redsim.dataplane.evict import LFU, accessed_word, created_word
from redsim.dataplane.expires import is_past_due, remove_expire, set_expire
from redsim.dataplane.histogram import COARSE_BITS, bit_length
from redsim.dataplane.histogram import bucket_of as histogram_bucket
from redsim.dataplane.layout import *
from redsim.dataplane.ledger import bytes_ns, curve_ns
from redsim.dataplane.memory import append_room, elements_bytes, string_bytes, value_memory
from redsim.dataplane.rehash import add_key, dict_work, remove_key
from redsim.dataplane.resp import bulk, digits
from redsim.dataplane.undo import before_change


@inlined
def second_of(now_ns):
    """The last access a key remembers."""
    return np.int32(np.uint64(now_ns) // np.uint64(1_000_000_000))


@compiled
def forget(w: World, d, key):
    """The key is gone."""
    before_change(w, d, key)
    w.st[USED] -= w.dataset[d, D_KEYMEM] + value_memory(w, d, key)
    w.kv[key, 0] = NODATA
    w.dataset[d, D_LIVE] -= 1
    if w.cost[HEAD_BITS]:
        unlink(w.heads, w.nexts, key, w.cost[DICT_SEED], w.cost[HEAD_BITS])
    if w.child[CH_STATE]:
        key_moved(w, d, key, False)
    remove_key(w, MAIN)
    if w.dataset[d, D_VOLATILE]:
        remove_expire(w, d, key)


@compiled
def appear(w: World, d, key):
    """A key that was not there: it, its dictEntry, perhaps a larger table."""
    w.kv[key, 1] = created_word(w.cost[POLICY], w.st[NOW])
    if w.cost[HEAD_BITS]:
        link(w.heads, w.nexts, key, w.cost[DICT_SEED], w.cost[HEAD_BITS])
    w.dataset[d, D_LIVE] += 1
    w.st[USED] += w.dataset[d, D_KEYMEM]
    if w.child[CH_STATE]:
        key_moved(w, d, key, True)
    add_key(w, MAIN)


@inlined
def create(w: World, d, key, size):
    """The key is a string of `size` bytes as SET leaves it, without expiry."""
    if w.kv[key, 0] != size or w.dataset[d, D_GROWS]:
        replace_string(w, d, key, size)
    if w.st[CAN_FORK] and w.child[CH_STATE]:
        value_written(w, d, key, size)
    if w.dataset[d, D_VOLATILE]:
        remove_expire(w, d, key)


@compiled
def replace_string(w: World, d, key, size):
    """A value of `size` bytes in the place of another one, or of none."""
    before_change(w, d, key)
    begins = w.kv[key, 0] == NODATA
    if not begins:
        w.st[USED] -= value_memory(w, d, key)
    if w.dataset[d, D_GROWS]:
        w.grown[key] = 0
    w.kv[key, 0] = size
    w.st[USED] += string_bytes(w, d, size)
    if begins:
        appear(w, d, key)


@compiled
def append(w: World, d, key, size):
    """APPEND has made the value `size` bytes long: its buffer has grown as sds.c lets it."""
    before_change(w, d, key)
    w.st[USED] -= value_memory(w, d, key)
    room = np.int64(w.grown[key])
    w.grown[key] = min(append_room(w, room, size), 2**31 - 1)
    if w.child[CH_STATE]:
        value_appended(w, d, key, np.int64(w.kv[key, 0]), size, w.grown[key] != room)
    w.kv[key, 0] = size
    w.st[USED] += value_memory(w, d, key)


@compiled
def set_elements(w: World, d, key, n):
    """The aggregate that is there, or begins now, has n >= 1 elements."""
    before_change(w, d, key)
    begins = w.kv[key, 0] == NODATA
    if not begins:
        w.st[USED] -= elements_bytes(w, d, np.int64(w.ke[key]))
    w.kv[key, 0] = 0
    w.ke[key] = n
    w.st[USED] += elements_bytes(w, d, n)
    if begins:
        appear(w, d, key)


@compiled
def delete_expired_key(w: World, d, key, by):
    """db.c:deleteExpiredKeyAndPropagate: the key is gone, removed `by` LAZY or ACTIVE expiry. Returns what that takes, in ns. A
    replica leaves it there until its master says DEL (expireIfNeeded)."""
    if w.repl[M_IS_REPLICA]:
        return 0
    x = w.expiry
    late = w.st[NOW] - w.kx[key]
    w.lag[by, min(histogram_bucket(late, bit_length(late), COARSE_BITS), COARSE_BUCKETS - 1)] += 1
    w.lag[by, COARSE_BUCKETS] += late
    w.lag[by, COARSE_BUCKETS + 1] = max(w.lag[by, COARSE_BUCKETS + 1], late)
    ns = x[X_DEL_NS] + w.curve[x[X_DEL_CURVE], size_class(w, d)]
    if not x[X_LAZY] and not w.dataset[d, D_STRING]:
        ns += curve_ns(w.curve, w.dataset[d, D_DEL_CURVE], elements(w, d, key))
    forget(w, d, key)
    w.st[EXPIRED] += 1
    if w.aof[A_POLICY] or w.repl[M_ON]:
        ns += feed_deletion(w, d, x[X_LAZY], by == LAZY)
    return ns


@inlined
def lookup(w: World, d, key):
    """db.c:lookupKey: True if the key is there; one past its time is deleted (lazy expiry); the access is noted, but not while
    a child shares the page."""
    if w.kv[key, 0] == NODATA:
        return False
    if w.dataset[d, D_VOLATILE] and is_past_due(w, key):
        w.expiry[X_OWED_NS] += delete_expired_key(w, d, key, LAZY)
        return False
    if w.st[CAN_FORK] and leaves_access(w, d, key):
        return True
    if w.cost[POLICY] & LFU:
        count_access(w, key)
    else:
        w.kv[key, 1] = second_of(w.st[NOW])
    return True


@compiled
def leaves_access(w: World, d, key):
    """While a child shares the page, an access is not noted; when it has gone, noting it writes to the robj."""
    if w.child[CH_STATE] == CHILD_GONE:
        robj_written(w, d, key)
    return w.child[CH_STATE] == CHILD_ALIVE


@compiled
def count_access(w: World, key):
    """db.c:updateLFU."""
    cost, row = w.cost, w.group.shape[0] * RNG_PER_GROUP + 3
    word = np.int64(w.kv[key, 1])
    w.kv[key, 1] = accessed_word(cost[POLICY], word, w.st[NOW], cost[LFU_DECAY], cost[LFU_LOG], w.rng, row)


@compiled
def due_ns(w: World, r, k):
    """When a key that request `r` gives a TTL is due."""
    jitter = w.kind[k, K_TTL_JITTER]
    at = w.st[NOW] + w.kind[k, K_TTL]
    if jitter > 0:
        at += below_ns(w.rng, w.slot[w.req[r, R_SLOT], S_GROUP] * RNG_PER_GROUP + RNG_TTL, jitter + 1)
    return at


@inlined
def changed(w: World, count):
    """server.dirty grows by a command that does not always change something."""
    w.aof[A_DIRTY] = 1
    w.child[CH_CHANGES] += count


@compiled
def elements(w: World, d, key):
    """Elements of an aggregate; 1 for a string."""
    return 1 if w.dataset[d, D_STRING] else np.int64(w.ke[key])


@inlined
def string_command(w: World, r, op, k, d, key):
    """(ns, reply bytes) of the one-key commands on strings and EXPIRE; `there` is decided here."""
    kind, st = w.kind, w.st
    there = lookup(w, d, key)
    ns = kind[k, K_CONST]
    if op == OP_SET:
        size = w.req[r, R_ARG]
        create(w, d, key, size)
        if kind[k, K_TTL] > 0:
            set_expire(w, d, key, due_ns(w, r, k))
        return ns + bytes_ns(size, kind[k, K_IN_PS]), 5
    if op == OP_GET:
        if not there:
            kind[k, K_MISSES] += 1
            st[MISSES] += 1
            w.req[r, R_FLAGS] |= Z_MISS
            return ns, 5
        kind[k, K_HITS] += 1
        st[HITS] += 1
        size = np.int64(w.kv[key, 0])
        return ns + bytes_ns(size, kind[k, K_OUT_PS]), bulk(size)
    if op == OP_EXPIRE:
        if there and kind[k, K_TTL] > 0:
            set_expire(w, d, key, due_ns(w, r, k))
        if there:
            changed(w, 1)
        return ns, 4
    if op == OP_INCR:
        size = np.int64(w.kv[key, 0]) if there else 1
        if not there:
            create(w, d, key, 1)
        elif w.child[CH_STATE]:
            robj_written(w, d, key)
        return ns, 3 + min(size, 20)
    size = w.req[r, R_ARG] + (np.int64(w.kv[key, 0]) if there else 0)  # APPEND
    if there:
        append(w, d, key, min(size, 2**31 - 1))
    else:
        create(w, d, key, size)
    return ns + w.req[r, R_ARG] * kind[k, K_IN_PS] // 1000, 3 + digits(size)


@compiled
def many_keys(w: World, r, op, k, d, key):
    """(ns, reply bytes) of DEL, UNLINK, EXISTS, MGET, MSET over K_NKEYS keys, the first one given."""
    kind, st = w.kind, w.st
    g = w.slot[w.req[r, R_SLOT], S_GROUP]
    n = kind[k, K_NKEYS]
    ns = kind[k, K_CONST] + (n - 1) * kind[k, K_EXTRA_NS]
    reply = 5 if op == OP_MSET else 3 + digits(n)
    for i in range(n):
        if i > 0:
            key = draw_key(w, g)
        there = lookup(w, d, key)
        if op == OP_MSET:
            size = w.req[r, R_ARG] if i == 0 else draw_size(w.rng, g * RNG_PER_GROUP + RNG_SIZE, w.tab, w.dist, kind[k, K_VDIST])
            create(w, d, key, size)
            ns += size * kind[k, K_IN_PS] // 1000
        elif op == OP_MGET:
            size = np.int64(w.kv[key, 0]) if there else 0
            reply += bulk(size) if there else 5
            ns += size * kind[k, K_OUT_PS] // 1000
            kind[k, K_HITS] += 1 if there else 0
            kind[k, K_MISSES] += 0 if there else 1
            st[HITS] += 1 if there else 0
            st[MISSES] += 0 if there else 1
        elif there and op != OP_EXISTS:
            if op == OP_DEL and not w.cost[LAZY_DEL] and not w.dataset[d, D_STRING]:
                ns += curve_ns(w.curve, kind[k, K_CURVE_KEY], elements(w, d, key))
            forget(w, d, key)
            changed(w, 1)
    return ns, reply


@inlined
def scan_ns(w: World, k, d, n):
    """listpack.c:lpFind: a member among n is found by reading on from the first one; mean over the members."""
    return n * w.kind[k, K_SCAN_PS] // 1000 if n <= w.dataset[d, D_PACKED] else 0


@compiled
def aggregate_command(w: World, r, op, k, d, key):
    """(ns, reply bytes) of the commands on lists, hashes, sets and sorted sets."""
    kind, st = w.kind, w.st
    there = lookup(w, d, key)
    ebytes = w.dataset[d, D_EBYTES]
    n = np.int64(w.ke[key]) if there else 0
    ns = kind[k, K_CONST]
    if op in (OP_PUSH, OP_PUT):
        more = kind[k, K_NELEM]
        if not there:
            set_elements(w, d, key, more)
            changed(w, more)
        elif op == OP_PUSH:
            set_elements(w, d, key, min(n + more, 2**31 - 1))
        if w.child[CH_STATE]:
            elements_written(w, d, key, elements_bytes(w, d, np.int64(w.ke[key])), more)
        ns += (more - 1) * kind[k, K_EXTRA_NS] + more * ebytes * kind[k, K_IN_PS] // 1000 + more * scan_ns(w, k, d, n)
        return ns + curve_ns(w.curve, kind[k, K_CURVE_KEY], n), 3 + digits(np.int64(w.ke[key]))
    if op != OP_SORT and op != OP_UNION:
        kind[k, K_HITS] += 1 if there else 0
        kind[k, K_MISSES] += 0 if there else 1
        st[HITS] += 1 if there else 0
        st[MISSES] += 0 if there else 1
    if op == OP_POP:
        take = min(n, kind[k, K_NELEM])
        if take > 0:
            changed(w, take)
            if w.child[CH_STATE]:
                elements_written(w, d, key, elements_bytes(w, d, n), take)
        if there and n == take:
            forget(w, d, key)
            w.ke[key] = 0
        elif there:
            set_elements(w, d, key, n - take)
        return ns + max(take - 1, 0) * kind[k, K_EXTRA_NS], bulk(ebytes) if take > 0 else 5
    if op == OP_FIELD:
        return ns + ebytes * kind[k, K_OUT_PS] // 1000 + scan_ns(w, k, d, n), bulk(ebytes) if there else 5
    returned = n
    if op == OP_RANGE:
        low = kind[k, K_LO] if kind[k, K_LO] >= 0 else max(n + kind[k, K_LO], 0)
        high = kind[k, K_HI] if kind[k, K_HI] >= 0 else n + kind[k, K_HI]
        returned = max(min(high, n - 1) - low + 1, 0)
    elif op == OP_UNION:
        g = w.slot[w.req[r, R_SLOT], S_GROUP]
        for _ in range(kind[k, K_NKEYS] - 1):
            other = draw_key(w, g)
            if lookup(w, d, other):
                returned += np.int64(w.ke[other])
        n = returned
    ns += curve_ns(w.curve, kind[k, K_CURVE_KEY], n) + curve_ns(w.curve, kind[k, K_CURVE_RET], returned)
    each = bulk(ebytes) * (2 if op == OP_ALL and kind[k, K_NELEM] == 2 else 1)
    return ns + returned * ebytes * kind[k, K_OUT_PS] // 1000, 3 + digits(returned) + returned * each


@inlined
def run_command(w: World, r):
    """(ns inside the command's function, reply bytes) of request `r`, executed now."""
    kind, st = w.kind, w.st
    k = w.req[r, R_KIND]
    op = kind[k, K_OP]
    d = kind[k, K_DATASET]
    key = w.req[r, R_KEY]
    lookups = kind[k, K_LOOKUPS]
    if op in (OP_GET, OP_SET) or OP_EXPIRE <= op <= OP_APPEND:
        ns, reply = string_command(w, r, op, k, d, key)
    elif op == OP_PING:
        ns, reply = kind[k, K_CONST], 7
    elif OP_DEL <= op <= OP_EXISTS or op in (OP_MGET, OP_MSET):
        ns, reply = many_keys(w, r, op, k, d, key)
    elif OP_KEYS <= op <= OP_FLUSHALL:
        ns, reply = database_command(w, r, op, k)
    elif OP_PUSH <= op <= OP_UNION:
        ns, reply = aggregate_command(w, r, op, k, d, key)
    elif op >= OP_WAIT:
        ns, reply = kind[k, K_CONST], 4 if op == OP_WAIT else 12
    elif op >= OP_BGSAVE:
        ns, reply = persist(w, op, kind[k, K_NELEM] == 2)
        ns += kind[k, K_CONST]
    else:  # EVAL, DEBUG SLEEP
        ns, reply = kind[k, K_CONST] + kind[k, K_DUR], 5
    if lookups > 0:
        ns += lookups * w.curve[kind[k, K_LOOKUP_CURVE], size_class(w, d)]
    if st[DICT_WORK]:
        ns += dict_work(w, lookups)
    if d >= 0 and w.dataset[d, D_VOLATILE] and w.expiry[X_OWED_NS] > 0:
        ns += w.expiry[X_OWED_NS]
        w.expiry[X_OWED_NS] = 0
    is_cold = kind[k, K_MEASURED] == 0  # a time that a real server measured has it in it
    if st[FIRST]:
        if is_cold:
            ns += w.cost[FIRST_NS]
        st[FIRST] = 0
    if st[SLEPT]:
        if is_cold:
            ns += w.cost[COLD_NS] * (st[SLEPT] - 1) // w.cost[DEEP_AFTER_NS]
        st[SLEPT] = 0
    return ns, reply


@inlined
def size_class(w: World, d):
    """Power of two of the data set's keys: how cold a lookup is."""
    return bit_length(max(w.dataset[d, D_LIVE], 1)) - 1
