"""When keys are due: the one place where a key gets a time to live and loses it.

Mirrors db.c: setExpire, removeExpire, keyIsExpired (Redis 7.0): times are whole milliseconds, and a key is past due once the
clock shows a later millisecond than its own.
Differs: one table over all data sets' keys, as one database has.
"""

from redsim.dataplane.compile import compiled, inlined
from redsim.dataplane.layout import *
from redsim.dataplane.rehash import add_key, remove_key

MS_NS = 1_000_000


@inlined
def set_expire(w: World, d, key, at_ns):
    """db.c:setExpire: key `key` of data set `d`, one with a TTL column, is due at `at_ns` > 0."""
    if w.kx[key] == 0:
        w.dataset[d, D_EXPIRES] += 1
        w.st[USED] += w.cost[ENTRY_BYTES]
        add_key(w, EXPIRES)
    w.kx[key] = at_ns - at_ns % MS_NS


@inlined
def remove_expire(w: World, d, key):
    """db.c:removeExpire: the key stays for ever, or is going."""
    if w.kx[key] != 0:
        w.dataset[d, D_EXPIRES] -= 1
        w.st[USED] -= w.cost[ENTRY_BYTES]
        remove_key(w, EXPIRES)
        w.kx[key] = 0


@compiled
def remove_all_expires(w: World, d):
    """db.c:emptyDb: no key of the data set, one with a TTL column, is due any more."""
    low = w.dataset[d, D_BASE]
    for key in range(low, low + w.dataset[d, D_N]):
        w.kx[key] = 0
    w.st[USED] -= w.dataset[d, D_EXPIRES] * w.cost[ENTRY_BYTES]
    w.dataset[d, D_EXPIRES] = 0


@inlined
def is_past_due(w: World, key):
    """db.c:keyIsExpired; the key has a TTL column."""
    return w.kx[key] > 0 and w.kx[key] + MS_NS <= w.st[NOW]
