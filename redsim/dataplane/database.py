"""What the commands on the whole database do and cost: KEYS, SCAN, DBSIZE, FLUSHALL.

Mirrors db.c:keysCommand, scanGenericCommand, dbsizeCommand, flushallCommand (7.0), which saves an empty RDB file where there are
save points.
Differs: SCAN's cursor counts keys, so that it visits each once.
Not modelled: key names.
"""

from redsim.dataplane.compile import compiled
from redsim.dataplane.expires import remove_all_expires
from redsim.dataplane.layout import *
from redsim.dataplane.ledger import curve_ns
from redsim.dataplane.memory import value_memory
from redsim.dataplane.rehash import empty_dict
from redsim.dataplane.resp import bulk, digits
from redsim.dataplane.undo import note, remember


@compiled
def database_keys(w: World):
    """Keys of the whole database."""
    total = 0
    for d in range(w.dataset.shape[0]):
        total += w.dataset[d, D_LIVE]
    return total


@compiled
def database_command(w: World, r, op, k):
    """(ns, reply bytes) of KEYS, SCAN, DBSIZE, FLUSHALL."""
    kind, cost = w.kind, w.cost
    total = database_keys(w)
    ns = kind[k, K_CONST]
    if op == OP_DBSIZE:
        return ns, 3 + digits(total)
    keybytes = bulk(w.dataset[kind[k, K_DATASET], D_KEYBYTES]) if kind[k, K_DATASET] >= 0 else 5
    if op == OP_KEYS:
        matched = total * kind[k, K_MATCH_PPM] // 1_000_000
        ns += curve_ns(w.curve, kind[k, K_CURVE_DB], total) + curve_ns(w.curve, kind[k, K_CURVE_RET], matched)
        return ns, 3 + digits(matched) + matched * keybytes
    if op == OP_SCAN:
        s = w.req[r, R_SLOT]
        cursor = w.slot[s, S_CURSOR]
        visited = max(min(kind[k, K_COUNT], total - cursor), 0)
        cursor = cursor + visited if cursor + visited < total else 0
        w.slot[s, S_CURSOR] = cursor
        ns += curve_ns(w.curve, kind[k, K_CURVE_RET], visited)
        return ns, 4 + bulk(digits(cursor)) + 3 + digits(visited) + visited * keybytes
    if kind[k, K_NELEM] == 2 or (cost[LAZY_FLUSH] and kind[k, K_NELEM] != 3):  # ASYNC; SYNC wins over the directive
        ns += kind[k, K_EXTRA_NS]
    else:
        ns += curve_ns(w.curve, kind[k, K_CURVE_DB], total)
    if w.child[CH_FLUSH_SAVES]:
        ns += w.child[CH_FLUSH_NS]
        w.child[CH_WANT] |= FLUSHED
    w.child[CH_CHANGES] += total
    w.child[CH_FLUSHES] += 1
    forget_keys(w)
    if w.repl[M_ON]:
        note(w, NONE, FLUSHED_ALL)
    return ns, 5


@compiled
def forget_keys(w: World):
    """db.c:emptyDb: all keys and the tables they are in."""
    for d in range(w.dataset.shape[0]):
        low = w.dataset[d, D_BASE]
        for key in range(low, low + w.dataset[d, D_N]):
            if w.kv[key, 0] != NODATA:
                if w.aof[A_UNDO]:
                    remember(w, d, key)
                w.st[USED] -= w.dataset[d, D_KEYMEM] + value_memory(w, d, key)
                w.kv[key, 0] = NODATA
        w.dataset[d, D_LIVE] = 0
    if w.dicts[EXPIRES, H_USED] > 0:
        remove_all_expires(w)
    if w.cost[HEAD_BITS]:
        for bucket in range(w.heads.shape[0]):
            w.heads[bucket] = NONE
    empty_dict(w, MAIN)
    empty_dict(w, EXPIRES)
