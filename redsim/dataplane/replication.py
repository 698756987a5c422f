"""The replication stream inside the loop: what commands feed into it, the buffer that replicas share, what is written to them.

Mirrors replication.c of 7.0: replicationFeedSlaves, feedReplicationBuffer, incrementalTrimReplicationBacklog; networking.c:
writeToClient for a replica, checkClientOutputBufferLimits (hard limit, at each new block), getClientOutputBufferMemoryUsage.

    unit     a command with the deletions it caused, a deletion of the server's own: its propagated form goes to the stream, MULTI
             and EXEC around more than one, SELECT before the first; each key it changed is a row of the stream: what it is now
    blocks   payloads of at least 16 KiB in one list: the backlog keeps them from its first one on, a replica from the one it is
    at
    trim     the backlog gives up its first block while it stays longer than its size, if no replica is at it; 64 at a time
    write    in the order of the pending clients: all that there is for the replica, as far as its socket takes it

Differs: of a command longer than 16 KiB Redis sizes blocks argument by argument, here by what is left of it. A row is the key as
the unit left it, where a replica executes the command.
With two channels (8.0, Valkey 8.0) the child writes to the replicas itself: at no cost to the loop, but in its turns.
Not modelled: the stream of databases other than 0.
"""

import numpy as np

from redsim.dataplane.compile import compiled, entry
from redsim.dataplane.events import push
from redsim.dataplane.layout import *
from redsim.dataplane.ledger import bytes_ns, charge
from redsim.dataplane.memory import LIST_NODE_BYTES, usable
from redsim.dataplane.output_buffers import BLOCK_BYTES, BLOCK_HEADER_BYTES, account, mind_limits, owe
from redsim.dataplane.undo import note
from redsim.dataplane.wire import depart, marker, wake_master_end

MULTI_EXEC_BYTES = 29  # *1 $5 MULTI, *1 $4 EXEC
SELECT_BYTES = 23  # *2 $6 SELECT $1 0
PING_BYTES = 14  # *1 $4 PING
TRIM_BLOCKS = 64  # server.h: REPL_BACKLOG_TRIM_BLOCKS_PER_CALL
TRIM_BLOCKS_BEFORE_SLEEP = 640  # server.c: beforeSleep
CHUNK_BYTES = 16384  # server.h: PROTO_IOBUF_LEN: of an RDB file read and sent at once
PIPE_BYTES = 65536  # pipe(7): what a pipe holds


# ---- the shared buffer -------------------------------------------------------------------------------------------


@compiled
def feed(w: World, size):
    """replication.c:feedReplicationBuffer: `size` bytes more in the stream."""
    m = w.repl
    m[M_OFFSET] += size
    m[M_HISTLEN] += size
    left = size - m[M_ROOM]
    m[M_ROOM] -= size
    is_grown = left > 0
    while left > 0:
        left -= add_block(w, left)
    if is_grown:
        m[M_ROOM] = -left
    if m[M_RING]:
        owe(w)
    if is_grown or m[M_RING]:
        mind_limits(w)
    if m[M_HISTLEN] > m[M_BACKLOG]:
        trim(w, TRIM_BLOCKS)


@compiled
def add_block(w: World, left):
    """A block for at most `left` bytes, behind all others; its payload."""
    m, mask = w.repl, w.block.shape[0] - 1
    asked = min(max(left, BLOCK_BYTES), m[M_BLOCK_MAX]) + BLOCK_HEADER_BYTES
    taken = usable(w, asked)
    n = m[M_BLOCKS]
    w.block[n & mask, 0] = m[M_OFFSET] - left + taken - BLOCK_HEADER_BYTES
    w.block[n & mask, 1] = taken - BLOCK_HEADER_BYTES
    m[M_BLOCKS] = n + 1
    if not m[M_RING]:
        account(w, taken + usable(w, LIST_NODE_BYTES))
    return taken - BLOCK_HEADER_BYTES


@compiled
def trim(w: World, most):
    """replication.c:incrementalTrimReplicationBacklog."""
    m, mask = w.repl, w.block.shape[0] - 1
    pinned = m[M_BLOCKS]
    for link in range(w.wire.shape[0]):
        if w.wire[link, W_FROM] == m[M_SELF] and w.wire[link, W_STATE] != WIRE_OFF:
            pinned = min(pinned, w.wire[link, W_BLOCK])
    while most > 0 and m[M_HISTLEN] > m[M_BACKLOG] and m[M_BLOCKS] - m[M_BLOCK] > 1 and m[M_BLOCK] < pinned:
        size = w.block[m[M_BLOCK] & mask, 1]
        if m[M_HISTLEN] - size <= m[M_BACKLOG]:
            break
        m[M_BLOCK] += 1
        m[M_HISTLEN] -= size
        m[M_FIRST] += size
        if not m[M_RING]:
            account(w, -usable(w, size + BLOCK_HEADER_BYTES) - usable(w, LIST_NODE_BYTES))
        most -= 1


@compiled
def come_along(w: World, link):
    """The replica is at the block behind which it has been sent nothing."""
    m, mask, row = w.repl, w.block.shape[0] - 1, w.wire[link]
    while row[W_BLOCK] + 1 < m[M_BLOCKS] and w.block[row[W_BLOCK] & mask, 0] <= row[W_SENT]:
        row[W_BLOCK] += 1


# ---- units -------------------------------------------------------------------------------------------------------


@compiled
def feed_unit(w: World, r, k, is_own, deletions, ns):
    """server.c:propagatePendingCommands, the stream's part: request `r` of kind `k` took `ns`; is it propagated itself, how many
    deletions did it cause? ns that takes."""
    m = w.repl
    size = m[M_UNIT_BYTES]
    if is_own:
        size += w.req[r, R_BYTES] + w.kind[k, K_AOF_MORE]
        if m[M_ROWS] == m[M_BEGUN]:
            note(w, w.kind[k, K_DATASET], w.req[r, R_KEY] if w.kind[k, K_DATASET] >= 0 else NONE)
    if m[M_WRAP] and deletions + is_own > 1:
        size += MULTI_EXEC_BYTES
    if size == 0:
        return 0
    return end_unit(w, size + select_bytes(w), ns, w.req[r, R_FLAGS] & Z_LIVE)


@compiled
def select_bytes(w: World):
    """replicationFeedSlaves: SELECT goes before the first command that is of a data base, which PING and GETACK are not."""
    is_selected = w.repl[M_SELECTED]
    w.repl[M_SELECTED] = 1
    return 0 if is_selected else SELECT_BYTES


@compiled
def end_unit(w: World, size, ns, is_awaited):
    """A unit of `size` bytes that took `ns` ends here: the rows of its keys are what the keys are now; does a client wait for its
    answer? ns that takes."""
    at = (w.st[NOW] + ns) // 2 * 2 + is_awaited
    m, mask = w.repl, w.stream.shape[0] - 1
    feed(w, size)
    if m[M_ROWS] == m[M_BEGUN]:
        note(w, NONE, NONE)
    for n in range(m[M_BEGUN], m[M_ROWS]):
        row = w.stream[n & mask]
        row[Y_END], row[Y_AT], row[Y_NS] = m[M_OFFSET], at, 0
        key, d = row[Y_KEY], row[Y_DATASET]
        if key >= 0:
            row[Y_VALUE] = np.int64(w.kv[key, 0])
            row[Y_MORE] = np.int64(w.ke[key]) if not w.dataset[d, D_STRING] else 0
            if w.dataset[d, D_GROWS]:
                row[Y_MORE] = np.int64(w.grown[key])
            row[Y_DUE] = w.kx[key] if w.dataset[d, D_VOLATILE] else 0
    w.stream[(m[M_ROWS] - 1) & mask, Y_NS] = ns
    m[M_BEGUN] = m[M_ROWS]
    m[M_UNIT_BYTES] = 0
    m[M_FED] = 1
    return m[M_FEED_NS] + bytes_ns(size, m[M_FEED_PS])


@compiled
def ask_to_write(w: World):
    """networking.c:prepareClientToWrite, for each replica that the stream goes to: behind the client whose command it was, so
    that it is written to before that one."""
    w.repl[M_FED] = 0
    for link in range(w.wire.shape[0]):
        row = w.wire[link]
        is_fed = row[W_STATE] == WIRE_STREAM or row[W_STATE] == WIRE_DUAL
        if row[W_FROM] == w.repl[M_SELF] and is_fed and not row[W_PENDING] and not row[W_WANT]:
            row[W_PENDING] = 1
            w.pending[w.st[PENDING_N]] = marker(link, 1)
            w.st[PENDING_N] += 1


# ---- what goes to replicas -----------------------------------------------------------------------------------------


@compiled
def write_to_replica(w: World, link):
    """networking.c:writeToClient of a replica: a write for each block, until its socket is full."""
    m, row = w.repl, w.wire[link]
    row[W_PENDING] = 0
    if row[W_STATE] != WIRE_STREAM and row[W_STATE] != WIRE_DUAL:
        return
    size = min(m[M_OFFSET] - row[W_SENT], row[W_BUFFER] - (row[W_SENT] - row[W_SEEN]))
    if size > 0:
        before, is_asleep = row[W_BLOCK], row[W_SEEN] == row[W_SENT]
        row[W_SENT] += size
        come_along(w, link)
        ns = (1 + row[W_BLOCK] - before) * w.cost[WRITE_NS] + bytes_ns(size, w.cost[WRITE_PS])
        if row[W_LOCAL] and is_asleep:  # a reader on this host that has nothing to read is woken at the writer's expense
            ns += m[M_WAKE_NS]
        charge(w, m[M_CAUSE], ns)
        w.st[NET_OUT] += size
        row[W_ROWS] = m[M_APPLY] if m[M_IS_REPLICA] else m[M_ROWS]
        depart(w, link, LANE_STREAM, size, row[W_SENT])
        if m[M_RING]:
            owe(w)
        if m[M_HISTLEN] > m[M_BACKLOG]:
            trim(w, TRIM_BLOCKS)
    row[W_WANT] = int(row[W_SENT] < m[M_OFFSET])


@compiled
def serve_replica(w: World, link):
    """The master's end of the connection is ready: REPLCONF ACKs are read, what waited for room in the socket goes on."""
    row = w.wire[link]
    if row[W_ACKS] > 0:
        ns = w.cost[READ_NS] + row[W_ACKS] * (w.cost[CALL_NS] + 3 * w.cost[PARSE_NS])
        row[W_ACKS] = 0
        charge(w, w.repl[M_CAUSE], ns)
        if row[W_STATE] == WIRE_WAITS:
            w.repl[M_WANT] |= LINK_ACKED
    if (row[W_STATE] == WIRE_STREAM or row[W_STATE] == WIRE_DUAL) and row[W_WANT]:
        write_to_replica(w, link)
    if row[W_STATE] == WIRE_DUAL:
        relay(w)
    elif row[W_STATE] == WIRE_BULK:
        send_chunk(w, link)
    elif row[W_STATE] == WIRE_PIPE:
        relay(w)


@compiled
def room(w: World, link):
    """Bytes of an RDB file that the connection's socket takes now."""
    row = w.wire[link]
    return row[W_BUFFER] - (row[W_BULK_SENT] - row[W_BULK_SEEN])


@compiled
def send_chunk(w: World, link):
    """replication.c:sendBulkToSlave: 16 KiB of the file for each time that the socket is writable."""
    row, cost = w.wire[link], w.cost
    size = min(CHUNK_BYTES, row[W_BULK] - row[W_BULK_SENT], room(w, link))
    if size > 0:
        charge(w, w.repl[M_CAUSE], cost[READ_NS] + cost[WRITE_NS] + bytes_ns(size, cost[READ_PS] + cost[WRITE_PS]))
        row[W_BULK_SENT] += size
        w.st[NET_OUT] += size
        depart(w, link, LANE_BULK, size, row[W_BULK_SENT])
    row[W_WANT] = int(row[W_BULK_SENT] < row[W_BULK])
    if not row[W_WANT]:
        w.repl[M_WANT] |= BULK_SENT
    elif room(w, link) > 0:
        wake_master_end(w, link)


# ---- diskless: the pipe from the child -------------------------------------------------------------------------------


@compiled
def made(w: World):
    """Bytes that the child has written to the pipe by now, 16 KiB at a time (rio.c:rioFdWrite); it waits while the pipe is
    full."""
    m = w.repl
    more = (w.st[NOW] - m[M_PIPE_AT]) * 1000 // max(m[M_PIPE_PS], 1)
    m[M_PIPE_MADE] = min(m[M_PIPE_SIZE], m[M_PIPE_READ] + PIPE_BYTES, m[M_PIPE_MADE] + more)
    m[M_PIPE_AT] = w.st[NOW]
    return m[M_PIPE_MADE] if m[M_PIPE_MADE] == m[M_PIPE_SIZE] else m[M_PIPE_MADE] // CHUNK_BYTES * CHUNK_BYTES


@compiled
def relay(w: World):
    """replication.c:rdbPipeReadHandler: chunks from the pipe to all replicas, until it is empty or one of their sockets is
    full."""
    m, cost = w.repl, w.cost
    while m[M_PIPE_READ] < m[M_PIPE_SIZE]:
        size = min(CHUNK_BYTES, made(w) - m[M_PIPE_READ])
        replicas, is_full, is_direct = 0, False, False
        for link in range(w.wire.shape[0]):
            row = w.wire[link]
            if row[W_FROM] == m[M_SELF] and row[W_STATE] >= WIRE_PIPE:
                replicas += 1
                is_direct = row[W_STATE] == WIRE_DUAL
                if room(w, link) < CHUNK_BYTES:
                    row[W_WANT] = 1
                    is_full = True
                elif not is_direct:
                    row[W_WANT] = 0
        if is_full or replicas == 0:
            return
        if size <= 0:
            call_when_made(w)
            return
        ns = cost[READ_NS] + replicas * cost[WRITE_NS] + bytes_ns(size, cost[READ_PS] + replicas * cost[WRITE_PS])
        if not is_direct:
            charge(w, m[M_CAUSE], ns)
        m[M_PIPE_READ] += size
        for link in range(w.wire.shape[0]):
            row = w.wire[link]
            if row[W_FROM] == m[M_SELF] and row[W_STATE] >= WIRE_PIPE:
                row[W_BULK_SENT] += size
                w.st[NET_OUT] += size
                depart(w, link, LANE_BULK, size, row[W_BULK_SENT])
    m[M_WANT] |= PIPE_EMPTY


@compiled
def call_when_made(w: World):
    """The pipe is empty: it becomes readable when the child has written again, in pieces of 16 KiB."""
    m = w.repl
    if not m[M_PIPE_CALLED]:
        m[M_PIPE_CALLED] = 1
        size = min(CHUNK_BYTES, m[M_PIPE_SIZE] - m[M_PIPE_READ]) - (m[M_PIPE_MADE] - m[M_PIPE_READ])
        push(w, w.st[NOW] + 1 + bytes_ns(max(size, 0), m[M_PIPE_PS]), EV_PIPE, 0)


@compiled
def pipe_is_readable(w: World):
    """The child has written to the pipe again: the first of its replicas is woken, for all of them."""
    m = w.repl
    m[M_PIPE_CALLED] = 0
    for link in range(w.wire.shape[0]):
        if w.wire[link, W_FROM] == m[M_SELF] and w.wire[link, W_STATE] >= WIRE_PIPE:
            wake_master_end(w, link)
            return


# ---- what the control plane does ---------------------------------------------------------------------------------------


@entry
def ping(w: World):
    """replication.c:replicationCron: PING for the replicas, in the stream."""
    end_unit(w, PING_BYTES, 0, 0)
    ask_to_write(w)


@entry
def publish(w: World, size):
    """pubsub.c:publishCommand of a master: PUBLISH, of so many bytes, goes to its replicas."""
    end_unit(w, size + select_bytes(w), 0, 0)
    ask_to_write(w)


@entry
def trim_backlog(w: World):
    """networking.c:freeClient of a replica, freeReplicaReferencedReplBuffer: what it kept may go."""
    if w.repl[M_RING]:
        owe(w)
    trim(w, TRIM_BLOCKS)


@entry
def drop_backlog(w: World):
    """replication.c:freeReplicationBacklog, of a master without replicas."""
    m = w.repl
    account(w, -m[M_MEMORY])
    m[M_ON] = m[M_BACKLOG] = m[M_HISTLEN] = m[M_ROOM] = 0
    m[M_BLOCK] = m[M_BLOCKS]
