"""When keys are due: the one place where a key gets a time to live and loses it.

Mirrors db.c: setExpire, removeExpire, keyIsExpired (Redis 7.0): times are whole milliseconds, and a key is past due once the
clock shows a later millisecond than its own. The keys that have a time lie in buckets (dict.py), which the cycles of expire.py
go through; how large the table is and how far a rehash has come is the dicts' business (rehash.py).
Differs: one table over all data sets' keys, as one database has.
"""

from redsim.dataplane.compile import compiled, entry, inlined
from redsim.dataplane.cow import expire_written
from redsim.dataplane.dict import link, unlink
from redsim.dataplane.layout import *
from redsim.dataplane.rehash import add_key, remove_key
from redsim.dataplane.undo import before_change

MS_NS = 1_000_000


@inlined
def set_expire(w: World, d, key, at_ns):
    """db.c:setExpire: key `key` of data set `d`, one with a TTL column, is due at `at_ns` > 0."""
    before_change(w, d, key)
    if w.child[CH_STATE]:
        expire_written(w, d, key, w.kx[key] == 0)
    if w.kx[key] == 0:
        w.dataset[d, D_EXPIRES] += 1
        w.st[USED] += w.cost[ENTRY_BYTES]
        add_key(w, EXPIRES)
        link(w.xhead, w.xnext, key, w.expiry[X_HASH_SEED], w.expiry[X_HASH_BITS])
    w.kx[key] = at_ns - at_ns % MS_NS


@inlined
def remove_expire(w: World, d, key):
    """db.c:removeExpire: the key stays for ever, or is going."""
    if w.kx[key] != 0:
        before_change(w, d, key)
        if w.child[CH_STATE]:
            expire_written(w, d, key, True)
        w.dataset[d, D_EXPIRES] -= 1
        w.st[USED] -= w.cost[ENTRY_BYTES]
        remove_key(w, EXPIRES)
        unlink(w.xhead, w.xnext, key, w.expiry[X_HASH_SEED], w.expiry[X_HASH_BITS])
        w.kx[key] = 0


@compiled
def remove_all_expires(w: World):
    """db.c:emptyDb: no key is due any more."""
    for d in range(w.dataset.shape[0]):
        w.st[USED] -= w.dataset[d, D_EXPIRES] * w.cost[ENTRY_BYTES]
        w.dataset[d, D_EXPIRES] = 0
    for key in range(w.kx.shape[0]):
        w.kx[key] = 0
    for slot in range(w.xhead.shape[0]):
        w.xhead[slot] = NONE


@inlined
def is_past_due(w: World, key):
    """db.c:keyIsExpired; the key has a TTL column."""
    return w.kx[key] > 0 and w.kx[key] + MS_NS <= w.st[NOW]


@entry
def link_volatile(xhead, xnext, kx, seed, bits):
    """The keys that have a TTL at the start are in their buckets. int32, int32, int64 arrays."""
    for key in range(kx.shape[0]):
        if kx[key] > 0:
            link(xhead, xnext, key, seed, bits)
