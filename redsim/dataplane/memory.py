"""used_memory, kept to the byte while commands run: what a key's value, a client and its buffers take.

Mirrors zmalloc.c (every block counts with its whole size class), object.c:tryObjectEncoding (int up to 20 digits, embstr up to
44 bytes, raw), sds.c:sdsMakeRoomFor (APPEND doubles), networking.c (query buffer, reply buffer and list), server.c:
clientsCronResizeOutputBuffer; 6.2 to 8.0 and Valkey 8.0.

    USED = startup + for each key (key, dictEntry, value) + hash tables (rehash.py) + for each client (structure, buffers)
           + a latency histogram for each command called yet

recount() adds all of it up anew, slowly; every run asserts at its end that the running total is the same.
Differs: the elements of an aggregate are all of the mean size of their data set; keys of different lengths count with the mean
of their size classes; a set of counters (INCR works on it) holds integers only. A reply list consists of blocks of 16 KiB.
Not modelled: SLOWLOG entries; half a command in a query buffer that 8.0 otherwise shares among clients.
"""

import numpy as np

from redsim.dataplane.compile import compiled, entry, inlined
from redsim.dataplane.histogram import bit_length
from redsim.dataplane.layout import *

USABLE_MAX = 65536  # the allocator's table goes up to here
EMBSTR_MAX = 44  # object.c: OBJ_ENCODING_EMBSTR_SIZE_LIMIT
INT_DIGITS_MAX = 20  # object.c: tryObjectEncoding
SHARED_DIGITS_MAX = 4  # server.h: OBJ_SHARED_INTEGERS is 10000
ROBJ_BYTES = 16
BIG_ARG_BYTES = 32768  # server.h: PROTO_MBULK_BIG_ARG: such a value is the query buffer itself, two bytes longer
SDS_PREALLOC_MAX = 1 << 20  # sds.h: SDS_MAX_PREALLOC
REPLY_BYTES = 16384  # server.h: PROTO_REPLY_CHUNK_BYTES
REPLY_MIN_BYTES = 1024  # server.h: PROTO_REPLY_MIN_BYTES
REPLY_BLOCK_HEADER_BYTES = 16  # server.h: clientReplyBlock
LIST_NODE_BYTES = 24  # adlist.h: listNode
PEAK_RESET_NS = 5_000_000_000  # server.h: REPLY_BUFFER_DEFAULT_PEAK_RESET_TIME
DENSE = 1024  # sizes of an aggregate are tabulated for each number of elements up to here, then twice an octave
DENSE_BITS = 10
OCTAVES = 21  # up to 2**31 elements
# a list's words behind its dense sizes (run/list_sizes.py): elements of the first node and of each further one; bytes of a full
# node with its struct, of the struct alone, of an element in a block and of an empty block; of everything but the block while
# there is one node, and with the first one full; nodes at each end that stay uncompressed, and what a compressed one saves
(L_FIRST, L_PER_NODE, L_FULL, L_NODE, L_ENTRY, L_HEADER, L_SMALL, L_LARGE, L_DEPTH, L_SAVED) = range(10)
L_SIZE = 10


@inlined
def usable(w: World, n):
    """Bytes that a request of n >= 1 bytes takes."""
    if n <= USABLE_MAX:
        return w.tab[w.cost[USABLE] + ((n + 7) >> 3)]
    return large_usable(w, n)


@compiled
def large_usable(w: World, n):
    """The same beyond the table: four classes an octave, or glibc's pages (host/malloc.py)."""
    if w.cost[LIBC]:
        chunk = (n + 23) // 16 * 16
        return chunk - 8 if chunk < 131072 else (chunk + 4103) // 4096 * 4096 - 16
    spacing = 1 << (bit_length(n - 1) - 3)
    return (n + spacing - 1) // spacing * spacing


@inlined
def sds_header(n):
    """sds.c:sdsReqType of a string of 32 bytes and more."""
    return 3 if n < 256 else 5 if n < 65536 else 9


@inlined
def raw_bytes(w: World, room):
    """A raw string: the object, and a buffer with room for so many bytes."""
    return usable(w, ROBJ_BYTES) + usable(w, sds_header(room) + room + 1)


@compiled
def string_bytes(w: World, d, size):
    """What SET makes of a value of `size` bytes."""
    if w.dataset[d, D_INT] and size <= INT_DIGITS_MAX:
        return 0 if size <= SHARED_DIGITS_MAX and w.cost[SHARED_INTS] else usable(w, ROBJ_BYTES)
    if size <= EMBSTR_MAX:
        return usable(w, ROBJ_BYTES + 3 + size + 1)
    return raw_bytes(w, size if size < BIG_ARG_BYTES else size + 2)


@compiled
def elements_bytes(w: World, d, n):
    """An aggregate of n >= 1 elements, by the table of its data set (run/value_sizes.py)."""
    at = w.dataset[d, D_SIZES]
    if n <= DENSE:
        return w.tab[at + n]
    at += DENSE + 1
    if w.dataset[d, D_LIST]:
        return quicklist_bytes(w, at, n)
    k = bit_length(n - 1) - 1
    at += 2 * (k - DENSE_BITS)
    first = (1 << k) + 1  # the table has the bytes at 2**k + 1 and what each element more takes, in 1024ths
    return w.tab[at] + w.tab[at + 1] * (n - first) // 1024


@compiled
def quicklist_bytes(w: World, at, n):
    """A list of more than DENSE elements: full nodes and one at an end that is being filled; 0 <= rest < L_PER_NODE."""
    first = w.tab[at + L_FIRST]
    if n <= first:
        return w.tab[at + L_SMALL] + usable(w, w.tab[at + L_HEADER] + n * w.tab[at + L_ENTRY])
    full = (n - first) // w.tab[at + L_PER_NODE]
    rest = (n - first) % w.tab[at + L_PER_NODE]
    size = w.tab[at + L_LARGE] + full * w.tab[at + L_FULL]
    nodes = 1 + full
    if rest > 0:
        size += w.tab[at + L_NODE] + usable(w, w.tab[at + L_HEADER] + rest * w.tab[at + L_ENTRY])
        nodes += 1
    return size - w.tab[at + L_SAVED] * max(nodes - 2 * w.tab[at + L_DEPTH], 0)


@compiled
def value_memory(w: World, d, key):
    """The value of a key that is there."""
    if not w.dataset[d, D_STRING]:
        return elements_bytes(w, d, np.int64(w.ke[key]))
    if w.dataset[d, D_GROWS] and w.grown[key] > 0:
        return raw_bytes(w, np.int64(w.grown[key]))
    return string_bytes(w, d, np.int64(w.kv[key, 0]))


@compiled
def append_room(w: World, room, size):
    """Room in the buffer of a value that grows to `size` bytes, from `room` (0: none to spare): sds.c doubles."""
    if room >= size:
        return room
    wanted = 2 * size if size < SDS_PREALLOC_MAX else size + SDS_PREALLOC_MAX
    header = 3 if wanted < 256 else sds_header(wanted)
    return usable(w, header + wanted + 1) - header - 1


# ---- clients -------------------------------------------------------------------------------------------------------


@inlined
def query_bytes(w: World, alloc):
    """A query buffer with room for `alloc` bytes; the first one is of the build (8.0 has one for all clients)."""
    if alloc == 0:
        return 0
    if alloc == w.cost[QB_ALLOC]:
        return w.cost[QUERY_BYTES]
    return usable(w, alloc + sds_header(alloc) + 1)


@inlined
def list_bytes(w: World, out, buffer):
    """The reply list of a client that is owed `out` bytes, `buffer` of them in its reply buffer."""
    if out <= buffer:
        return 0
    block = usable(w, REPLY_BYTES + REPLY_BLOCK_HEADER_BYTES)
    room = block - REPLY_BLOCK_HEADER_BYTES
    return (out - buffer + room - 1) // room * (block + usable(w, LIST_NODE_BYTES))


@compiled
def client_memory(w: World, c):
    """All that the server has for connection `c`."""
    conn = w.conn
    owed = list_bytes(w, conn[c, C_OUT], conn[c, C_RBUF])
    return w.cost[CLIENT_BYTES] + usable(w, conn[c, C_RBUF]) + query_bytes(w, conn[c, C_ALLOC]) + owed


@compiled
def client_comes(w: World, c):
    """networking.c:createClient."""
    conn = w.conn
    conn[c, C_RBUF] = conn[c, C_PEAK] = REPLY_BYTES
    conn[c, C_RESET] = w.st[NOW]
    w.st[USED] += client_memory(w, c)


@compiled
def client_goes(w: World, c):
    """networking.c:freeClient."""
    w.st[USED] -= client_memory(w, c)


@compiled
def resize_query_buffer(w: World, c, alloc):
    """The query buffer of `c` has room for `alloc` bytes from now on."""
    w.st[USED] += query_bytes(w, alloc) - query_bytes(w, w.conn[c, C_ALLOC])
    w.conn[c, C_ALLOC] = alloc


@compiled
def owe_more(w: World, c, before):
    """The replies of `c` have outgrown `before` bytes and what its buffer has held since the last look: the peak, the list."""
    conn = w.conn
    buffer = conn[c, C_RBUF]
    w.st[USED] += list_bytes(w, conn[c, C_OUT], buffer) - list_bytes(w, before, buffer)
    conn[c, C_PEAK] = min(conn[c, C_OUT], buffer)


@compiled
def owe_less(w: World, c, before):
    """Part of what was owed beyond the buffer is written."""
    buffer = w.conn[c, C_RBUF]
    w.st[USED] += list_bytes(w, w.conn[c, C_OUT], buffer) - list_bytes(w, before, buffer)


@compiled
def resize_reply_buffer(w: World, c):
    """server.c:clientsCronResizeOutputBuffer: half and less used for 5 s: as large as that; full: twice as large."""
    st, conn = w.st, w.conn
    if w.cost[FIXED_RBUF] or conn[c, C_OUT] > conn[c, C_RBUF]:
        return
    size, peak = conn[c, C_RBUF], conn[c, C_PEAK]
    wanted = 0
    if size // 2 >= REPLY_MIN_BYTES and peak < size // 2:
        wanted = max(REPLY_MIN_BYTES, peak + 1)
    elif 2 * size < 2 * REPLY_BYTES and peak == size:
        wanted = min(REPLY_BYTES, 2 * size)
    if st[NOW] - conn[c, C_RESET] > PEAK_RESET_NS:
        conn[c, C_PEAK] = conn[c, C_OUT]
        conn[c, C_RESET] = st[NOW]
    if wanted > 0:
        st[USED] += usable(w, wanted) - usable(w, size)
        conn[c, C_RBUF] = usable(w, wanted)


@compiled
def first_call(w: World, k):
    """server.c:updateCommandLatencyHistogram: a command's histogram comes with its first call, by whatever group (from 7.0)."""
    for other in range(w.kind.shape[0]):
        if w.kind[other, K_CAUSE] == w.kind[k, K_CAUSE] and w.kind[other, K_CALLS] > 0:
            return
    w.st[USED] += w.cost[HISTOGRAM_BYTES]


# ---- from scratch --------------------------------------------------------------------------------------------------


@entry
def recount(w: World):
    """used_memory, added up anew over every key, table and client."""
    total = w.cost[STARTUP_BYTES]
    for d in range(w.dataset.shape[0]):
        total += dataset_bytes(w, d) + w.dataset[d, D_EXPIRES] * w.cost[ENTRY_BYTES]
    for h in range(w.dicts.shape[0]):
        total += tables_bytes(w, h)
    return total + clients_memory(w) + called_commands(w) * w.cost[HISTOGRAM_BYTES] + w.repl[M_MEMORY]


@entry
def at_rest(w: World):
    """(bytes that the server has for its clients, commands called so far): what used_memory has beside data and tables."""
    return clients_memory(w), called_commands(w)


@compiled
def clients_memory(w: World):
    """All that the server has for the connections it has accepted."""
    total = 0
    for c in range(w.conn.shape[0]):
        if w.conn[c, C_LIVE] and w.conn[c, C_FLAGS] & F_ACCEPTED:
            total += client_memory(w, c)
    return total


@compiled
def dataset_bytes(w: World, d):
    """Keys, their dictEntries and values of a data set; a string as long as the one before it takes as much."""
    low = w.dataset[d, D_BASE]
    is_plain = w.dataset[d, D_STRING] and not w.dataset[d, D_GROWS]
    size, value, total = np.int64(NODATA), 0, 0
    for key in range(low, low + w.dataset[d, D_N]):
        there = np.int64(w.kv[key, 0])
        if there == NODATA:
            continue
        if there != size or not is_plain:
            size, value = there, value_memory(w, d, key)
        total += w.dataset[d, D_KEYMEM] + value
    return total


@compiled
def called_commands(w: World):
    """Commands that have been called at least once."""
    total = 0
    for k in range(w.kind.shape[0]):
        called = w.kind[k, K_CALLS] > 0
        for other in range(k):
            if w.kind[other, K_CAUSE] == w.kind[k, K_CAUSE] and w.kind[other, K_CALLS] > 0:
                called = False
        total += called
    return total


@compiled
def tables_bytes(w: World, h):
    """The tables of a dict: eight bytes a bucket, both while it rehashes."""
    total = 0
    for column in (H_BITS, H_NEXT):
        if w.dicts[h, column] != NONE:
            total += usable(w, 8 << w.dicts[h, column])
    return total
