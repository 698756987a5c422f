"""Hits of an exact LRU cache of every size, in one pass over the trace.

Mattson's stack distances [mattson-1970]: an access hits in a cache that holds all that was used since the same key's last use.
Kept in a Fenwick tree over the time of last use; when its places are used up the keys move together, so that memory goes with the
number of keys, not of accesses.
Differs: costs that change make it an approximation (a cache that was emptied by one large value is not full again at once).
Not modelled: expiry.
"""

import numpy as np

from redsim.dataplane.compile import compiled, entry, inlined
from redsim.dataplane.rehearsal import DELETE, READ


@inlined
def _add(tree, place, weight):
    while place < tree.size:
        tree[place] += weight
        place += place & -place


@inlined
def _up_to(tree, place):
    total = 0
    while place > 0:
        total += tree[place]
        place &= place - 1
    return total


@compiled
def _move_together(tree, places, owners, weights):
    """Keys keep their order and take the first places; returns the last one taken."""
    tree[:] = 0
    last = 0
    for place in range(1, tree.size):
        key = np.int64(owners[place])
        if key >= 0 and places[key] == place:
            last += 1
            owners[last] = key
            places[key] = last
            tree[last] = weights[key]
    for place in range(1, tree.size):
        above = place + (place & -place)
        if above < tree.size:
            tree[above] += tree[place]
    return last


@inlined
def _first_not_below(edges, value):
    low, high = 0, edges.size
    while low < high:
        middle = (low + high) >> 1
        if edges[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@entry
def lru_hits(t, edges, hits, tree, places, owners, weights):
    """hits[b] counts the reads of the Accesses `t` that hit if edges[b] fits but not if edges[b - 1] does; edges rise. Scratch:
    tree int64[m + 1], owners int32[m + 1], m >= 2 * distinct; places int64[distinct], zeros; weights int64[distinct]."""
    last = total = 0
    for i in range(t.keys.size):
        key = np.int64(t.keys[i])
        op = t.ops[i] if t.ops.size > 0 else READ
        place = places[key]
        if place > 0:
            if op == READ:
                edge = _first_not_below(edges, total - _up_to(tree, place - 1))
                if edge < edges.size:
                    hits[edge] += 1
            _add(tree, place, -weights[key])
            total -= weights[key]
            places[key] = 0
        if op == DELETE:
            continue
        if place == 0 or op != READ:
            weights[key] = np.int64(t.costs[i] if t.costs.size == t.keys.size else t.costs[key])
        if last == tree.size - 1:
            last = _move_together(tree, places, owners, weights)
        last += 1
        places[key] = last
        owners[last] = key
        _add(tree, last, weights[key])
        total += weights[key]
