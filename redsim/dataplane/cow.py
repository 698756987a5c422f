"""Copy-on-write while a forked child lives: which pages the main thread writes for the first time since, and what that takes.

Mirrors what Linux does with the pages of db.c, dict.c, object.c and t_*.c after server.c:redisFork (7.0), and the child's
dismissObject: pages of values of a page and more that it has saved are its own no longer.

    fork ---> every page is shared: bit 0      first write: a fault that copies it (CH_COPIED), bit 1      later writes: nothing
    exit ---> pages not written yet are write-protected still: a fault that copies nothing (CH_REUSED), once

A key lies where a permutation of its data set by the seed puts it: its dictEntry, its name, its robj and its value are blocks
beside those of other keys, in areas of their own (run/placement.py). What is written, command by command:

    a new value    entry, robj, the bytes of the value          a key comes or goes   its bucket; its entry and name
    one element    the robj, pages of the value it lies on      a TTL                 the entry of the expires, its bucket
    GET            nothing while the child lives (no LRU or LFU); the robj after

Differs: a new value is taken to be written where the key's old one is. Redis' comes into the block that the last overwrite has
freed: which page is written moves by one write, how many are written at first does not. Values of mixed sizes lie at strides of
the mean, so that large ones overlap what follows. Faults outside of a command are paid by the next one.
Not modelled: the allocator's own pages, buffers of clients (what they take is in the measured pages of a child without writes).
"""

import numpy as np

from redsim.dataplane.compile import compiled, entry
from redsim.dataplane.dict import bucket_of
from redsim.dataplane.draws import below
from redsim.dataplane.evict import LFU, created_word
from redsim.dataplane.layout import *
from redsim.dataplane.ledger import charge, note_hold, serve

PAGE_BYTES = 4096
ORDER_BITS = 31  # of the order in which a child comes to the keys
BUCKET_BYTES = 8
REGION_PAGE_BITS = 9  # pages of 4 KiB in 2 MiB
ELEMENT_PAGES = 2  # an element of a large aggregate: its entry or node, and its bytes
# Lengths of the answers, with their line ends.
OK_BYTES, ERROR_BYTES, STARTED_BYTES, SAVE_IN_PROGRESS_BYTES, OTHER_CHILD_BYTES, SCHEDULED_BYTES = 5, 6, 28, 42, 139, 30
REWRITE_STARTED_BYTES, REWRITE_SCHEDULED_BYTES, REWRITE_IN_PROGRESS_BYTES = 48, 50, 64
RDB_MISCONF_REPLY_BYTES = 343  # server.c: writeCommandsGetDiskErrorMessage, the RDB's


# ---- where things lie ------------------------------------------------------------------------------------------------


@compiled
def place_of(w: World, d, key):
    """Place 0..n-1 of a key among those of its data set: invertible steps modulo a power of two, until one is below n."""
    row = w.place[d]
    mask, half = (1 << row[P_BITS]) - 1, (row[P_BITS] + 1) // 2
    x = key - w.dataset[d, D_BASE]
    while True:
        x = (x * row[P_MUL] + row[P_ADD]) & mask
        x ^= x >> half
        x = (x * row[P_MUL2] + row[P_ADD2]) & mask
        x ^= x >> half
        if x < row[P_N]:
            return x


@compiled
def write_bytes(w: World, first, count, is_released):
    """The main thread writes `count` >= 1 bytes from address `first` on. `is_released`: the child has given its pages back."""
    shift = w.child[CH_SHIFT]
    last = min((first + count - 1) >> shift, w.child[CH_REGION_AT] - 1)
    for page in range(first >> shift, last + 1):
        word, bit = page >> 6, np.int64(1) << (page & 63)
        if w.cow[word] & bit == 0:
            w.cow[word] |= bit
            fault(w, page, is_released)


@compiled
def fault(w: World, page, is_released):
    """A page is written for the first time since the fork."""
    child = w.child
    if child[CH_STATE] == CHILD_ALIVE and not is_released:
        child[CH_COPIED] += 1
        child[CH_OWED] += child[CH_FAULT_NS]
    else:
        child[CH_REUSED] += 1
        child[CH_OWED] += child[CH_REUSE_NS]
    if child[CH_REGION_NS] > 0 and w.st[NOW] < child[CH_REGION_UNTIL]:
        region_written(w, child[CH_REGION_AT] + (page >> REGION_PAGE_BITS))


@compiled
def region_written(w: World, number):
    """The first write to a stretch of 2 MiB: a huge page is split, or its part of the page tables copied (host/fork.py)."""
    word, bit = number >> 6, np.int64(1) << (number & 63)
    if w.cow[word] & bit == 0:
        w.cow[word] |= bit
        w.child[CH_OWED] += w.child[CH_REGION_NS]


@compiled
def is_saved(w: World, key):
    """Whether the child has come to the key: it goes through the table, whose order is as good as any."""
    return bucket_of(key, w.child[CH_ORDER], ORDER_BITS) < w.child[CH_PROGRESS]


# ---- what a command writes -------------------------------------------------------------------------------------------------


@compiled
def value_written(w: World, d, key, size):
    """dbOverwrite and the like: a new value of `size` bytes; the entry points to it. Its robj begins with the time of now
    (LFU: with what the old one remembers)."""
    row, place = w.place[d], place_of(w, d, key)
    write_bytes(w, row[P_ENTRY_AT] + place * row[P_ENTRY], row[P_ENTRY], False)
    if row[P_ROBJ] > 0:
        write_bytes(w, row[P_ROBJ_AT] + place * row[P_ROBJ], row[P_ROBJ], False)
    block_written(w, d, key, place, 0, max(size, 1))
    if not w.cost[POLICY] & LFU:
        w.kv[key, 1] = created_word(w.cost[POLICY], w.st[NOW])


@compiled
def block_written(w: World, d, key, place, first, count):
    """Bytes of a value; a value of a page and more is given back by a child that has saved it."""
    row = w.place[d]
    is_released = w.child[CH_DISMISS] > 0 and first + count >= w.child[CH_DISMISS] and is_saved(w, key)
    write_bytes(w, row[P_VALUE_AT] + place * row[P_STRIDE] + first, count, is_released)


@compiled
def robj_written(w: World, d, key):
    """The LRU word, or a number in its robj."""
    row, place = w.place[d], place_of(w, d, key)
    if row[P_ROBJ] > 0:
        write_bytes(w, row[P_ROBJ_AT] + place * row[P_ROBJ], row[P_ROBJ], False)
    else:
        write_bytes(w, row[P_VALUE_AT] + place * row[P_STRIDE], 1, False)


@compiled
def value_appended(w: World, d, key, before, size, has_moved):
    """APPEND: the length at the front and the new bytes, or all of a buffer that had to grow."""
    robj_written(w, d, key)
    place = place_of(w, d, key)
    if has_moved:
        block_written(w, d, key, place, 0, max(size, 1))
    else:
        block_written(w, d, key, place, 0, 1)
        block_written(w, d, key, place, before, max(size - before, 1))


@compiled
def elements_written(w: World, d, key, value_bytes, count):
    """`count` elements of an aggregate that takes `value_bytes`: all of a small one, else pages of a large one at random."""
    robj_written(w, d, key)
    place = place_of(w, d, key)
    if value_bytes <= 2 * PAGE_BYTES:
        block_written(w, d, key, place, 0, max(value_bytes, 1))
        return
    row = w.group.shape[0] * RNG_PER_GROUP + 5
    for _ in range(ELEMENT_PAGES * min(count, 64)):
        block_written(w, d, key, place, below(w.rng, row, value_bytes), 1)


@compiled
def key_moved(w: World, d, key, has_come):
    """A key comes (its entry and name are written) or goes; either way a pointer in the table or in another entry of it."""
    child, bits = w.child, max(w.dicts[MAIN, H_BITS], 1)
    write_bytes(w, child[CH_TABLE_AT] + BUCKET_BYTES * bucket_of(key, child[CH_ORDER], bits), BUCKET_BYTES, False)
    if has_come:
        row, place = w.place[d], place_of(w, d, key)
        write_bytes(w, row[P_ENTRY_AT] + place * row[P_ENTRY], row[P_ENTRY], False)
        write_bytes(w, row[P_KEY_AT] + place * row[P_KEY], row[P_KEY], False)


@compiled
def expire_written(w: World, d, key, is_moved):
    """The key's entry among the expires, and its bucket there if it comes or goes."""
    child, row = w.child, w.place[d]
    write_bytes(w, row[P_XENTRY_AT] + place_of(w, d, key) * row[P_ENTRY], row[P_ENTRY], False)
    if is_moved:
        bits = max(w.dicts[EXPIRES, H_BITS], 1)
        write_bytes(w, child[CH_XTABLE_AT] + BUCKET_BYTES * bucket_of(key, child[CH_ORDER], bits), BUCKET_BYTES, False)


# ---- fork, and who pays ------------------------------------------------------------------------------------------------------


@compiled
def child_begins(w: World, kind):
    """server.c:redisFork in the parent, but for its time: every page is shared from now on."""
    child = w.child
    for word in range(w.cow.shape[0]):
        w.cow[word] = 0
    child[CH_STATE], child[CH_KIND] = CHILD_ALIVE, kind
    child[CH_COPIED] = child[CH_REUSED] = child[CH_PROGRESS] = child[CH_OWED] = 0
    child[CH_FORKS] += 1
    child[CH_STRETCH] = child[CH_STRETCH_IF]
    w.aof[A_CHILD] = 1
    count_from_now(w)


@compiled
def count_from_now(w: World):
    """What the main thread does from now on, the child has to share the cores with."""
    child, st = w.child, w.st
    child[CH_FORK_AT] = st[NOW]
    child[CH_REGION_UNTIL] = st[NOW] + child[CH_REGION_FOR]
    child[CH_MARK] = st[NOW] - st[IDLE]
    child[CH_BUSY_AT] = st[NOW] - st[IDLE] - child[CH_WAITED_NS]


@entry
def fork_now(w: World, kind):
    """redisFork from serverCron: the loop is held by it."""
    st, child = w.st, w.child
    start = st[NOW]
    charge(w, child[CH_FORK_CAUSE], child[CH_FORK_NS])
    note_hold(w, child[CH_FORK_CAUSE], start)
    child_begins(w, kind)


@compiled
def persist(w: World, op, is_scheduled):
    """(ns, reply bytes) of BGSAVE, with or without SCHEDULE, SAVE and BGREWRITEAOF; rdb.c:bgsaveCommand, saveCommand,
    aof.c:bgrewriteaofCommand."""
    child = w.child
    is_alive = child[CH_STATE] == CHILD_ALIVE
    if op == OP_BGREWRITEAOF:
        if is_alive and child[CH_KIND] == KIND_AOF:
            return 0, REWRITE_IN_PROGRESS_BYTES
        child[CH_WANT] |= REWRITE_WANTED
        return 0, REWRITE_SCHEDULED_BYTES if is_alive else REWRITE_STARTED_BYTES
    if is_alive and child[CH_KIND] == KIND_RDB:
        return 0, SAVE_IN_PROGRESS_BYTES
    if op == OP_SAVE:
        child[CH_WANT] |= SAVED
        return child[CH_SAVE_NS], ERROR_BYTES if child[CH_SAVE_REFUSED] else OK_BYTES
    if is_alive and is_scheduled:
        child[CH_WANT] |= SAVE_WANTED
        return 0, SCHEDULED_BYTES
    if is_alive:
        return 0, OTHER_CHILD_BYTES
    child[CH_FORK_OWED] = child[CH_FORK_NS]
    if child[CH_REFUSED]:
        child[CH_FORK_OWED] = 0
        child[CH_WANT] |= FORK_FAILED
        return 0, ERROR_BYTES
    child_begins(w, KIND_RDB)
    child[CH_OWED] = child[CH_FORK_OWED]
    child[CH_WANT] |= FORKED
    return 0, STARTED_BYTES


@compiled
def pay(w: World, r, k):
    """The fork and the faults of request `r` of kind `k`: part of its own time, under names of their own. ns."""
    child = w.child
    whole, fork = child[CH_OWED], child[CH_FORK_OWED]
    child[CH_OWED] = child[CH_FORK_OWED] = 0
    if fork > 0:
        own(w, r, child[CH_FORK_CAUSE], fork)
        count_from_now(w)
    if whole > fork:
        own(w, r, child[CH_COW_CAUSE], whole - fork)
        child[CH_FAULTED_NS] += whole - fork
    w.kind[k, K_USEC_NS] += whole
    return whole


@compiled
def own(w: World, r, cause, ns):
    """`ns` of request `r`'s own service, for `cause`."""
    start = w.st[NOW]
    charge(w, cause, ns)
    serve(w, r, cause, ns)
    note_hold(w, cause, start)


@compiled
def share_cpu(w: World):
    """More threads than cores: the main thread has had its share only, so what it did since the last look took longer by
    CH_STRETCH millionths. The child got that."""
    child, st = w.child, w.st
    busy = st[NOW] - st[IDLE] - child[CH_MARK]
    if busy > 0:
        start = st[NOW]
        charge(w, child[CH_CPU_CAUSE], busy * child[CH_STRETCH] // 1_000_000)
        child[CH_WAITED_NS] += st[NOW] - start
        note_hold(w, child[CH_CPU_CAUSE], start)
    child[CH_MARK] = st[NOW] - st[IDLE]
