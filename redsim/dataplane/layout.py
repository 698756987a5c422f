"""The world as arrays: names of the columns, how it is allocated, how it grows.

Every table is int64 with one row per thing and one named column per property, so that a request is three cache lines and a
function takes one argument, the World. Links between rows are row numbers; -1 is none. Memory does not depend on the number of
commands: a request's row is reused as soon as its answer is in.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from redsim.dataplane.repl_columns import *

I64 = npt.NDArray[np.int64]
NONE = -1


# fmt: off
# st: one number each ------------------------------------------------------------------------------------------
(NOW, PHASE, END, WARMUP, WINDOW, WINDOWS, CRON_DUE, IDLE, SLEEP_FROM, POLL_DEADLINE, SLEPT, SEQ,
 RING_HEAD, RING_N, BATCH_POS, BATCH_N, PENDING_N, TREAD_N, LISTEN_READY, ACCEPT_HEAD, ACCEPT_TAIL, ACCEPT_N,
 REQ_FREE, REQ_FREE_N, CONN_FREE, CONN_FREE_N, FIFO_HEAD, FIFO_N, HEAP_N, LOG_N, LOG_POS, LOG_T,
 CLIENTS, REJECTED, ACCEPTED, POLLS, SLEEPS, READS, WRITES, COMMANDS, TREADS, TWRITES, IO_ACTIVE, IO_ACTIVE_NS,
 BUSY, SCRIPT_LEFT, SCRIPT_REQ, SCRIPT_CONN, WAITING, STALL_ROW, STALLS, SLOW_ID, NEXT_HICCUP, HICCUPS,
 REC_ON, REC_UNTIL, REC_WORST, SEGS, RECS, REC_FROM, REC_TO, REC_CAUSE, REC_KIND, WAKE_CPU, ITER_T0, HITS, MISSES,
 NET_IN, NET_OUT, MAX_BATCH, BATCH_SUM, EXPIRED, LISTEN_DROPS, CLOSED_IDLE, SEGS_LOST,
 WINDOW_NO, WINDOW_FROM, SCRIPT_FROM, SCRIPT_BACK, BUSY_ROUNDS, WROTE, DUE, GROUP_DUE, GROUP_NEXT, FIRST,
 USED, USED_PEAK, DICT_WORK, DICT_NS, EVICTED, EVICT_ARMED, WATCH_ABOVE, EXCEEDED_FROM, EXCEEDED_NS, OOM,
 CAN_FORK, IS_PLAIN, BLOCKED_N, NIC_OUT, NIC_IN) = range(100)
# a server that died: how dead it is, when it dies next; of loading: is it on, what is left, between two looks at the clients, its
# cause, when it was over; rows of the undo log
(DEAD, CRASH_AT, LOADING, LOAD_LEFT, LOAD_EVERY, LOAD_CAUSE, READY_AT, UNDO_N) = range(110, 118)
ST_SIZE = 128
ALIVE, DEAD_PROCESS, DEAD_HOST = range(3)  # DEAD

# phases of the loop (st[PHASE])
(PH_POLL, PH_SLEEP, PH_AWAKE, PH_FILE_EVENTS, PH_TIMERS, PH_BEFORE_SLEEP, PH_EXEC_READ, PH_WRITES, PH_BUSY,
 PH_BUSY_POLL) = range(10)
# why run() came back
REACHED, TIMER, GROW = range(3)
PH_DOWN = 10  # no process: only the clients go on
ASK = 3  # the AOF asks the control plane (aof[A_WANT]), or a child was forked (child[CH_WANT])

# cost: the host profile and the conf, in ns, ps per byte, or counts -------------------------------------------
(POLL_NS, POLL_EVENT_NS, WAKE_NS, WAKE_CPU_NS, READ_NS, READ_PS, WRITE_NS, WRITE_PS, PARSE_NS, PARSE_PS, CALL_NS, COLD_NS,
 ACCEPT_NS, CLOSE_NS, FORKJOIN_NS, WAKE_PEER_NS, IO_THREADS, IO_LANES, IO_DO_READS, MAXCLIENTS, BACKLOG, ACCEPTS_PER_CALL,
 SLOW_NS, SLOW_MAX, STALL_NS, BUSY_NS, HOOK_NS, BUSY_REPLY_NS, QB_ALLOC, HICCUP_MEAN_NS, HICCUP_DIST,
 LAZY_DEL, LAZY_FLUSH, SYN_RETRY_NS, NEED, RETRYING, WAKE_DEEP_NS, WAKE_CPU_DEEP_NS, DEEP_AFTER_NS,
 FIRST_NS, WAKE_DIST, MAXMEMORY, STARTUP_BYTES, CLIENT_BYTES, USABLE, LIBC, SHARED_INTS, QUERY_BYTES, FIXED_RBUF, FILL_PERMILLE,
 SHRINK_ON_DELETE, REHASH_US, REHASH_CURVE, EXPAND_PS, ENTRY_BYTES, EMPTY_BUCKET_NS, POLICY, SAMPLES, LFU_DECAY, LFU_LOG,
 EVICT_LIMIT_US, LAZY_EVICT, EVICT_CAUSE, EVICT_DEL_CAUSE, EVICT_CURVE, SAMPLE_CURVE, DICT_SEED, HEAD_BITS, HISTOGRAM_BYTES,
 EXPAND_NS, FORCE_RATIO, FORCE_GROW_BITS, FORCE_SHRINK_BITS, NIC_PS) = range(74)
COST_SIZE = 80

# group: one row per client group ------------------------------------------------------------------------------
(G_MODE, G_SLOT0, G_SLOTS, G_PIPE, G_MEAN_PS, G_POISSON, G_NEXT_PS, G_BATCH, G_LEFT, G_START, G_STOP, G_THINK, G_THINK_EXP,
 G_TIMEOUT, G_RECONNECT, G_RETRIES, G_BACKOFF, G_CAP, G_JITTER, G_NET, G_PS_PER_BYTE, G_LINK_IN, G_SEND, G_RECV,
 G_MEASURE, G_THREAD0, G_THREADS, G_MIX, G_MIX_N, G_POP, G_POP_N, G_DATASET, G_KIND0, G_SEQ_KEY, G_TRACE0, G_TRACE_N,
 G_TRACE_I, G_OFFERED, G_COMPLETED, G_FAILED, G_ERR_TIMEOUT, G_ERR_CONN, G_ERR_BUSY, G_RETRIED, G_AREA, G_LAT_SUM,
 G_TRACE_LOOP, G_TRACE_SPAN, G_LINK_OUT, G_POP_ARG, G_POP_ARG2, G_NEXT_NS, G_LOCAL, G_SHIFT,
 G_FILL, G_FETCH, G_FETCH_EXP, G_FETCHES, G_ERR_OOM, G_DRAWN, G_AHEAD) = range(61)
G_ERR_MISCONF, G_ERR_LOADING, G_ERR_NOREPLICAS, G_ERR_READONLY, G_ERR_MASTERDOWN = 61, 62, 63, 64, 65
# of clients that follow a service: that they do; another server has them now; since when they wonder where the master is, 0: they
# do not
G_FOLLOWS, G_AWAY, G_WONDERS = 66, 67, 68
PINNED, ASKS = 1, 2  # G_FOLLOWS: to the master it knew at first; who asks for the master after an error
G_DONE_AT, G_GAP, G_GAP_FROM = 70, 71, 72  # of those: the last answer that was no error; the longest time without one, from when
G_LINEAR = 69  # back-off grows by as much each time, instead of doubling
G_SIZE = 80
OPEN, CLOSED, TRACE = range(3)
POP_UNIFORM, POP_ZIPF, POP_HOTSET, POP_LATEST, POP_SEQUENTIAL = range(5)

# slot: a client's end of a connection -------------------------------------------------------------------------
# what every request needs is in the first cache line
(S_GROUP, S_CONN, S_THREAD, S_HEAD, S_TAIL, S_OUT, S_STATE, S_LAST, S_WHEAD, S_WTAIL, S_TRIES, S_CURSOR, S_TIMER,
 S_RQ_IN, S_RQ_NEXT, S_RQ_T, S_WQ_IN, S_WQ_NEXT, S_WQ_T) = range(19)
S_RETRY = 19  # when its SYN goes out again, to a host that is down
S_SIZE = 24
DOWN, CONNECTING, UP = range(3)

# conn: the server's end ---------------------------------------------------------------------------------------
# what every request needs is in the first two cache lines
(C_SLOT, C_HEAD, C_TAIL, C_SOCK, C_QB, C_ALLOC, C_RHEAD, C_RTAIL, C_OUT, C_FLAGS, C_LAST, C_RBUF, C_GROUP, C_LIVE,
 C_SENT, C_PEAK, C_NEXT, C_PLANNED, C_RESET, C_WOFF, C_BLOCKED) = range(21)
C_SIZE = 24
F_RING, F_PENDING, F_WANT_WRITE, F_EOF, F_ACCEPTED, F_RESET, F_TELLING = 1, 2, 4, 8, 16, 32, 64

# req: a request, from the client's intention to its last byte -------------------------------------------------
(R_NEXT, R_SNEXT, R_SLOT, R_KIND, R_KEY, R_BYTES, R_REPLY, R_INTENDED, R_BEGIN, R_SENT, R_ARRIVE, R_ATTEMPT,
 R_FLAGS, R_ARG, R_DELIVER, R_LEFT, R_CONN, R_ISSUED, R_OWN, R_WAITS, R_IDLE) = range(21)
R_SIZE = 24
# wanted by the client; held by the server; waiting unsent; -BUSY; the answer is at the client's; it was nil; -OOM
Z_LIVE, Z_SERVER, Z_QUEUED, Z_BUSY, Z_ANSWERED, Z_MISS, Z_OOM = 1, 2, 4, 8, 16, 32, 64
Z_MISCONF = 128  # refused: the AOF cannot be written
Z_LOADING = 256  # refused: the server is loading its data
Z_NOREPLICAS, Z_READONLY, Z_MASTERDOWN = 512, 1024, 2048  # refused: too few replicas in step; by a replica; without a master
Z_REFUSED = Z_BUSY | Z_OOM | Z_MISCONF | Z_LOADING | Z_NOREPLICAS | Z_READONLY | Z_MASTERDOWN

# kind: a command as one group sends it ------------------------------------------------------------------------
(K_OP, K_CAUSE, K_SERIES, K_CONST, K_IN_PS, K_OUT_PS, K_EXTRA_NS, K_NKEYS, K_NELEM, K_CURVE_KEY, K_CURVE_RET, K_CURVE_DB,
 K_REQ_BYTES, K_ARGC, K_VDIST, K_TTL, K_LO, K_HI, K_COUNT, K_DUR, K_FAST, K_MATCH_PPM, K_DATASET,
 K_CALLS, K_USEC_NS, K_HITS, K_MISSES, K_ERRORS, K_SLOTKEY, K_LOOKUPS, K_DRAW, K_MEASURED, K_TTL_JITTER, K_DENYOOM,
 K_SCAN_PS, K_LOOKUP_CURVE) = range(36)
K_AOF, K_AOF_MORE = 36, 39  # whether it is propagated; bytes that its propagated form has more than the request
K_SIZE = 40
(OP_PING, OP_GET, OP_SET, OP_DEL, OP_UNLINK, OP_EXISTS, OP_EXPIRE, OP_INCR, OP_APPEND, OP_MGET, OP_MSET, OP_KEYS, OP_SCAN,
 OP_DBSIZE, OP_FLUSHALL, OP_PUSH, OP_POP, OP_PUT, OP_RANGE, OP_ALL, OP_FIELD, OP_SORT, OP_UNION, OP_SCRIPT,
 OP_SLEEP, OP_BGSAVE, OP_SAVE, OP_BGREWRITEAOF) = range(28)
OP_WAIT, OP_WAITAOF = 28, 29

# dataset ------------------------------------------------------------------------------------------------------
# D_VOLATILE: its keys may have a TTL, so that kx has their column; D_EXPIRES: how many have one now
# D_KEYMEM: bytes of a key and its dictEntry; D_SIZES: where tab has those of aggregates; D_INT: integers only
# D_LIST: it holds lists, whose bytes go by nodes
# D_PACKED: up to so many elements a hash or sorted set is one listpack, read from its start to find one
(D_BASE, D_N, D_LIVE, D_STRING, D_EBYTES, D_KEYBYTES, D_VOLATILE, D_EXPIRES, D_KEYMEM, D_SIZES, D_INT, D_GROWS,
 D_DEL_CURVE, D_PACKED, D_LIST) = range(15)
D_KEYBULK = 15  # RESP bytes of a key's name as an argument
D_SIZE = 16

# dicts: a row for the keyspace and one for the expires of the database ---------------------------------------
MAIN, EXPIRES = range(2)
H_USED, H_BITS, H_NEXT, H_LEFT = range(4)  # keys; bits of the table, of the new one; thousandths of buckets left to move
H_SIZE = 4

# expiry: where db->expires has its keys, activeExpireCycle's parameters, its state from call to call, what INFO tells of it ----
(X_HASH_SEED, X_HASH_BITS, X_PER_LOOP, X_FAST_US, X_SLOW_PERCENT, X_ACCEPTABLE, X_STOPS, X_LAZY, X_DATABASES, X_CAUSE,
 X_SAMPLE_NS, X_DEL_NS, X_CURSOR, X_CURRENT_DB, X_TIMELIMIT_EXIT, X_LAST_FAST_US, X_STALE_PPB, X_FAST_DUE,
 X_SAMPLED, X_EXPIRED, X_SPENT_NS, X_OWED_NS, X_BIG_KEY, X_TTL_MS, X_TTLS,
 X_CYCLES, X_CYCLE_NS, X_CAP_REACHED, X_AVG_TTL_MS, X_ACTIVE, X_DEL_CURVE) = range(31)
X_SIZE = 32
LAZY, ACTIVE = range(2)  # rows of lag: who removed the key

# aof: the append-only file: what the conf and the host say, state of flushAppendOnlyFile, what is asked, what INFO tells --------
(A_POLICY, A_WRITE_NS, A_WRITE_PS, A_APPEND_NS, A_APPEND_PS, A_DIST, A_SYNC_PS, A_LOCKS, A_PHASE_NS, A_TICK_NS, A_SECOND, A_WRAP,
 A_CAUSE, A_NO_FSYNC, A_CHILD, A_SHARED, A_LIMIT, A_FULL,
 A_DIRTY, A_UNIT, A_SELECTED, A_LEN, A_ROOM, A_STAGE, A_WANT, A_UNTIL, A_PENDING, A_FLIGHT, A_DONE, A_LAST, A_POSTPONED,
 A_APPENDED, A_CMDS, A_ACKED, A_ACKED_CMDS, A_WRITTEN, A_WRITTEN_CMDS, A_SUBMITTED, A_SUBMITTED_CMDS, A_SYNCED, A_SYNCED_CMDS,
 A_DELAYED, A_FAILING, A_MISCONF, A_WRITES, A_FSYNCS, A_POSTPONEMENTS, A_POSTPONED_NS, A_POSTPONED_FROM) = range(49)
# what call() asks: is there an AOF, or are writes counted for a crash; are keys remembered as they were (undo)
A_FEED, A_UNDO = 54, 55
A_SIZE = 56
AOF_OFF, AOF_NO, AOF_EVERYSEC, AOF_ALWAYS = range(4)  # A_POLICY
NEVER_PROPAGATED, IF_DIRTY, PROPAGATED = range(3)  # K_AOF
WANT_NONE, WANT_BIO, WANT_WRITE, WANT_FSYNC, WANT_EXIT = range(5)  # A_WANT, and A_STAGE while its answer is awaited
# A_CAUSE + these: what a blocked write or fsync is called
AOF_WRITE_ALONE, AOF_WRITE_PENDING_FSYNC, AOF_WRITE_ACTIVE_CHILD, AOF_FSYNC_ALWAYS = range(4)

# child: a forked child and what its being there does to the main thread (cow.py) -----------------------------------------------
(CH_STATE, CH_OWED, CH_FORK_OWED, CH_WANT, CH_STRETCH, CH_CHANGES, CH_MISCONF, CH_KIND,
 CH_MARK, CH_STRETCH_IF, CH_FLUSHES, CH_FAULT_NS, CH_REUSE_NS, CH_SHIFT, CH_DISMISS, CH_PROGRESS, CH_ORDER,
 CH_COPIED, CH_REUSED, CH_FAULTED_NS, CH_WAITED_NS, CH_FORK_NS, CH_REFUSED, CH_FORKS, CH_FORK_AT, CH_SAVE_NS, CH_SAVE_REFUSED,
 CH_MISCONFS, CH_FORK_CAUSE, CH_COW_CAUSE, CH_CPU_CAUSE, CH_TABLE_AT, CH_XTABLE_AT, CH_BUSY_AT,
 CH_REGION_NS, CH_REGION_FOR, CH_REGION_UNTIL, CH_REGION_AT, CH_ABOVE, CH_MANIFEST_CAUSE,
 CH_FLUSH_SAVES, CH_FLUSH_NS) = range(42)
CH_SIZE = 48
NO_CHILD, CHILD_ALIVE, CHILD_GONE = range(3)  # CH_STATE; gone: pages that nobody has written since are write-protected still
KIND_RDB, KIND_AOF = 1, 2  # CH_KIND
FORKED, FORK_FAILED, SAVED, REWRITE_WANTED, SAVE_WANTED, FLUSHED = 1, 2, 4, 8, 16, 32  # CH_WANT: what the control plane hears of

# place: where a data set's keys lie: a permutation of them by the seed, first bytes of its areas, bytes of a block in each ------
(P_N, P_BITS, P_MUL, P_ADD, P_MUL2, P_ADD2, P_ENTRY_AT, P_ENTRY, P_KEY_AT, P_KEY, P_ROBJ_AT, P_ROBJ, P_VALUE_AT, P_STRIDE,
 P_XENTRY_AT,
 P_RDB_FIXED, P_RDB_EACH, P_RDB_LZF) = range(18)
P_SIZE = 24
# P_RDB_*: bytes of a key in an RDB file but for its value, 1024ths of bytes of an element, millionths that LZF leaves (0: off)
# undo: what a key was before it changed; or where a unit (a command with what goes with it) ends in the AOF, U_KEY being NONE
(U_AT, U_KEY, U_VALUE, U_ELEMENTS, U_DUE, U_ROOM) = range(6)
U_CMDS, U_NOW = U_VALUE, U_DUE  # of the end of a unit: commands up to it, when it was executed
U_SIZE = 8

# thread: a client machine's event loop ------------------------------------------------------------------------
(T_FREE, T_RHEAD, T_RTAIL, T_WHEAD, T_WTAIL, T_SCHEDULED, T_BATCH, T_SEND, T_RECV, T_POLL, T_WAKE, T_BUSY, T_SPIN,
 T_ASLEEP, T_SEND_PS, T_RECV_PS, T_EACH, T_AT) = range(18)
T_SIZE = 18

# causes (held, snap, blame) -----------------------------------------------------------------------------------
(OWN, NETWORK, CLIENT, RETRY, WAKE, POLL, READ, WRITE, CRON, ACCEPT, HICCUP, IO, CAUSE0) = range(13)

# events -------------------------------------------------------------------------------------------------------
EV_ARRIVE, EV_ISSUE, EV_TIMEOUT, EV_RETRY, EV_SYN, EV_UP, EV_EOF, EV_THREAD, EV_CLOSED, EV_START, EV_RATE = range(11)
EV_REFUSED, EV_CRASH, EV_PIPE, EV_NOTHING = 11, 12, 13, 14

# size distributions (dist) ------------------------------------------------------------------------------------
DIST_CONSTANT, DIST_QUANTILE, DIST_ALIAS = range(3)
# rng rows per group
RNG_MIX, RNG_KEY, RNG_ARRIVAL, RNG_CONN, RNG_SIZE, RNG_JITTER, RNG_TTL, RNG_FETCH = range(8)
RNG_PER_GROUP = 8
ZIPF_WORDS = 8
# fmt: on

NEVER_NS = 2**62
NODATA = -1  # kv: the key does not exist
FINE_BUCKETS = 5120  # 128 per octave up to 2**46 ns
COARSE_BUCKETS = 704  # 16 per octave
LOG_SIZE = 32768
AHEAD = 64  # requests of a group drawn at once
CAUSE_BLOCK = 8
LINE_WORDS = 8  # of a cache line
SEGS_MAX = 20000
RECS_MAX = 20000
STALLS_MAX = 4096


class World(NamedTuple):
    """One server and its clients. Shapes in brackets; int64 unless said otherwise."""

    st: I64  # [ST_SIZE]
    cost: I64  # [COST_SIZE]
    group: I64  # [groups, G_SIZE]
    slot: I64  # [slots, S_SIZE]
    conn: I64  # [conns, C_SIZE]
    req: I64  # [requests, R_SIZE]
    snap: I64  # [requests, causes]: held as of the request's arrival, plus its own service since; or what it has waited for
    kind: I64  # [kinds, K_SIZE]
    dataset: I64  # [datasets, D_SIZE]
    thread: I64  # [threads, T_SIZE]
    held: I64  # [causes]: ns of the main thread by cause, up to st[NOW]
    heldp: I64  # [causes]: the same at the admission pointer, if there is a log
    log: I64  # [LOG_SIZE, 2]: end, cause of each activity since the first one in which something arrives unadmitted
    ring: I64  # [power of two]: connections that became ready, FIFO; NONE is the listening socket
    batch: I64  # [conns + 1]: what the poll returned
    pending: I64  # [conns]: clients with replies to write; the last is written first
    tread: I64  # [conns]: clients whose read waits for the I/O threads
    fifo: I64  # [power of two, 4]: events pushed in time order
    heap: I64  # [events, 4]: the others; time, seq, what, argument
    rng: npt.NDArray[np.uint64]  # [streams, 2]
    tab: I64  # [any]: alias tables, quantiles, popularity buckets
    dist: I64  # [distributions, 3]: type, offset or value, length
    curve: I64  # [curves, 41]: total ns at 2**i elements
    kv: npt.NDArray[np.int32]  # [keys, 2]: bytes of the value, NODATA if the key does not exist; second of the last access
    ke: npt.NDArray[np.int32]  # [keys of aggregate data sets]: elements
    kx: I64  # [keys or 0]: expiry in ns, 0 none
    grown: npt.NDArray[np.int32]  # [keys or 0]: bytes that the buffer of a value grown by APPEND has room for, 0 as SET left it
    dicts: I64  # [2, H_SIZE]: hash tables
    xhead: npt.NDArray[np.int32]  # [2**bits]: the expires dict's buckets (dict.py)
    xnext: npt.NDArray[np.int32]  # [keys or 0]: the next key in the same one
    expiry: I64  # [X_SIZE]
    lag: I64  # [2, COARSE_BUCKETS + 2]: keys by how late they were removed, lazily and actively; then the sum and the longest, ns
    heads: npt.NDArray[np.int32]  # [2**HEAD_BITS, or 1 if no policy samples the keyspace]: first key of each bucket
    nexts: npt.NDArray[np.int32]  # [keys or 1]: the next key in its bucket
    pool: I64  # [EVPOOL_SIZE, 2]: candidates for eviction
    sampled: I64  # [maxmemory-samples]: scratch
    ages: I64  # [COARSE_BUCKETS]: victims by seconds since their last access
    hist: I64  # [series, FINE_BUCKETS]
    heat: npt.NDArray[np.int32]  # [windows, series, COARSE_BUCKETS]
    blame: I64  # [groups, COARSE_BUCKETS, causes]: ns by cause of the latencies in that bucket, which add up to them
    smax: I64  # [windows + 1, series, 2]: max and sum of latencies by window; the last row is the whole run
    slow: I64  # [SLOWLOG ring, 6]: id, start, ns, kind, key, slot
    stalls: I64  # [STALLS_MAX, 6]: start, ns, cause, kind, waiting at its end, key
    segs: I64  # [SEGS_MAX, 4]: start, end, cause, conn
    recs: I64  # [RECS_MAX, 4]: arrive, done, kind, slot
    trace: I64  # [commands in traces, 5]: time, kind, key, connection, value bytes
    rates: I64  # [rate changes, 4]: group, mean ps, mean stay ns (0: for good), next row
    offered: I64  # [windows, groups]: requests by window of their intended time
    stallsum: I64  # [causes, 3]: count, total ns, longest ns of all stalls, also those beyond STALLS_MAX
    lanes: I64  # [I/O threads]: scratch
    live: I64  # [groups, 2]: scratch of live_requests()
    drawn: I64  # [AHEAD per group, 2]: kind and key (NONE: it has none) of the requests drawn ahead, the next at G_DRAWN
    aof: I64  # [A_SIZE]
    child: I64  # [CH_SIZE]
    place: I64  # [datasets, P_SIZE]
    cow: I64  # [pages / 64, or 1 if nothing can fork]: a bit for each page written since the last fork
    undo: I64  # [rows, U_SIZE]: in the order of time
    blocked: I64  # [conns, 4]: clients in WAIT: connection, request, when the loop gives up (0: never), idle time when it began
    repl: I64  # [M_SIZE]
    behind: I64  # [COARSE_BUCKETS + 2]: units of the stream by how long after the master's a replica executed them; sum, longest
    block: I64  # [power of two, 2]: offset behind the last byte, payload of each block of the replication buffer, by its number
    stream: I64  # [power of two, Y_SIZE]: one for all servers of a master and its replicas
    wire: I64  # [connections between them, W_SIZE]: one for all of them
    mail: I64  # [connections * LANES * MAIL_ROWS, 2]: when it arrives, up to which position; one for all of them

    address: int = 0  # where compiled code finds all this; placed() says it


ARRAYS = World._fields[:-1]


def small_arrays() -> tuple[I64, I64]:
    """(st, cost) of a World, zeros, with room behind them for where its other arrays lie: what compiled code needs always is
    at a fixed distance from one address."""
    block = np.zeros(ST_SIZE + COST_SIZE + 4 * len(ARRAYS), dtype=np.int64)
    return block[:ST_SIZE], block[ST_SIZE : ST_SIZE + COST_SIZE]


def placed(w: World) -> World:
    """The World ready for compiled code: behind its st and cost stands of each array its address and shape, four words. Another
    World with the same st is not ready any more."""
    block = w.st.base
    assert isinstance(block, np.ndarray), "st is that of small_arrays()"
    assert w.cost.base is block, "so is cost"
    arrays = [getattr(w, name) for name in ARRAYS]
    block[ST_SIZE + COST_SIZE :] = np.array([[a.ctypes.data, *(*a.shape, 0, 0)[:3]] for a in arrays]).ravel()
    return w._replace(address=int(block.ctypes.data))


WIDTHS = {
    "group": G_SIZE, "slot": S_SIZE, "conn": C_SIZE, "req": R_SIZE, "kind": K_SIZE, "dataset": D_SIZE, "thread": T_SIZE,
    "log": 2, "fifo": 4, "heap": 4, "rng": 2, "dist": 3, "curve": 42, "hist": FINE_BUCKETS, "slow": 6, "stalls": 6, "segs": 4,
    "recs": 4, "kv": 2, "trace": 5, "rates": 4, "live": 2, "stallsum": 3, "dicts": H_SIZE, "pool": 2,
    "drawn": 2, "place": P_SIZE, "undo": U_SIZE, "blocked": 4, "block": 2, "stream": Y_SIZE, "wire": W_SIZE, "mail": 2,
}  # fmt: skip


def rows(count: int, width: int, fill: int = 0) -> I64:
    """int64[count, width], beginning with a cache line."""
    room = np.full(count * width + LINE_WORDS, fill, dtype=np.int64)
    first = -(room.ctypes.data // 8) % LINE_WORDS
    return room[first : first + count * width].reshape(count, width)


def on_lines(table: I64) -> I64:
    """The same table, beginning with a cache line."""
    out = rows(*table.shape)
    out[:] = table
    return out


def cause_columns(causes: int) -> int:
    """Width of held, snap and blame: the causes, and what makes it whole blocks."""
    return -(-causes // CAUSE_BLOCK) * CAUSE_BLOCK


def power_of_two(count: int) -> int:
    return 1 << max(4, (count - 1).bit_length())


def event_rows(slots: int, requests: int, rates: int, groups: int) -> int:
    """Events that can be queued at once: a few per slot, one per request in flight, the planned changes."""
    return 8 * slots + 2 * requests + rates + groups + 64


def chain_free(table: I64, column: int, first: int) -> None:
    """Rows first.. of `table` become a free list linked through `column`; the last one ends it."""
    table[first:, column] = np.arange(first + 1, table.shape[0] + 1)
    table[-1, column] = NONE


def _append_free(st: I64, conn: I64, first: int) -> None:
    """Fresh connection rows go behind those that have been used: rows are taken in the same order whatever the capacity."""
    if st[CONN_FREE] == NONE:
        st[CONN_FREE] = first
        return
    last = int(st[CONN_FREE])
    while conn[last, C_NEXT] != NONE:
        last = int(conn[last, C_NEXT])
    conn[last, C_NEXT] = first


def grow(w: World) -> World:
    """Twice the requests and half as many again connections; row numbers stay. Called when run() answers GROW."""
    st = w.st
    requests, conns = w.req.shape[0], w.conn.shape[0]
    req = on_lines(np.concatenate([w.req, rows(requests, R_SIZE)]))
    chain_free(req, R_NEXT, requests)
    req[-1, R_NEXT] = st[REQ_FREE]
    st[REQ_FREE] = requests
    st[REQ_FREE_N] += requests
    snap = on_lines(np.concatenate([w.snap, rows(requests, w.snap.shape[1])]))
    more = conns // 2 + 64
    conn = on_lines(np.concatenate([w.conn, rows(more, C_SIZE)]))
    chain_free(conn, C_NEXT, conns)
    _append_free(st, conn, conns)
    st[CONN_FREE_N] += more
    ring = np.zeros(power_of_two(2 * (conns + more) + 2), dtype=np.int64)
    for i in range(int(st[RING_N])):
        ring[i] = w.ring[(st[RING_HEAD] + i) % w.ring.size]
    st[RING_HEAD] = 0
    events = event_rows(w.slot.shape[0], req.shape[0], w.rates.shape[0], w.group.shape[0]) + int(st[HEAP_N])
    fifo = np.zeros((power_of_two(events), 4), dtype=np.int64)
    for i in range(int(st[FIFO_N])):
        fifo[i] = w.fifo[(st[FIFO_HEAD] + i) % w.fifo.shape[0]]
    st[FIFO_HEAD] = 0
    heap = rows(events, 4)
    heap[: w.heap.shape[0]] = w.heap
    grown = w._replace(
        req=req, snap=snap, conn=conn, ring=ring, fifo=fifo, heap=heap,
        batch=np.concatenate([w.batch, np.zeros(more, dtype=np.int64)]),
        pending=np.concatenate([w.pending, np.zeros(more, dtype=np.int64)]),
        tread=np.concatenate([w.tread, np.zeros(more, dtype=np.int64)]),
        blocked=np.concatenate([w.blocked, np.zeros((more, 4), dtype=np.int64)]),
    )  # fmt: skip
    return placed(grown)
