"""A replica inside its loop: it reads its master's stream and does what that says, reads an RDB file, hands the stream on.

Mirrors networking.c:readQueryFromClient of the master's connection (a query buffer of 32 KiB and more), commandProcessed,
replication.c:replicationFeedStreamFromMasterStream (the same bytes at the same offsets for replicas of its own),
readSyncBulkPayload (16 KiB at a time into a file); db.c:expireIfNeeded (a replica deletes nothing by itself).

    read     up to 32 KiB of the stream -> every unit that is whole -> its keys are what the row says

With two channels it keeps the stream while it takes and loads the file (M_BUFFERING), up to its own output buffer limit, then
stops reading.
With repl-diskless-load a chunk costs its share of the loading.
Differs: a unit takes the CPU that it took at the master, times how much slower this host is, beside its own parsing; a read's
units are charged together.
"""


from redsim.dataplane.aof import feed as feed_aof
from redsim.dataplane.compile import compiled, entry
from redsim.dataplane.database import forget_keys
from redsim.dataplane.expires import remove_expire, set_expire
from redsim.dataplane.histogram import COARSE_BITS, bit_length, bucket_of
from redsim.dataplane.keyspace import append, create, forget, set_elements
from redsim.dataplane.layout import *
from redsim.dataplane.ledger import bytes_ns, charge, note_hold
from redsim.dataplane.memory import usable, value_memory
from redsim.dataplane.output_buffers import account
from redsim.dataplane.replication import CHUNK_BYTES, ask_to_write, feed, serve_replica
from redsim.dataplane.undo import mark
from redsim.dataplane.wire import reply, wake_master_end, wake_replica_end

MASTER_READ_BYTES = 32768  # networking.c: sdsMakeRoomFor of PROTO_IOBUF_LEN, greedy
ARGUMENTS = 3  # of a command of the stream, mean: a guess that costs tens of ns


@compiled
def apply_image(w: World, row):
    """A key becomes what the master's unit left it."""
    key, d, size = row[Y_KEY], row[Y_DATASET], row[Y_VALUE]
    if key == FLUSHED_ALL:
        forget_keys(w)
        return
    if key < 0:
        return
    if size == NODATA:
        if w.kv[key, 0] != NODATA:
            forget(w, d, key)
        return
    if w.dataset[d, D_STRING]:
        if w.dataset[d, D_GROWS] and row[Y_MORE] > 0 and w.kv[key, 0] != NODATA:
            append(w, d, key, size)
        else:
            create(w, d, key, size)
        if w.dataset[d, D_GROWS] and w.grown[key] != row[Y_MORE]:
            w.st[USED] -= value_memory(w, d, key)
            w.grown[key] = row[Y_MORE]
            w.st[USED] += value_memory(w, d, key)
    else:
        set_elements(w, d, key, row[Y_MORE])
    if w.dataset[d, D_VOLATILE]:
        if row[Y_DUE] > 0:
            set_expire(w, d, key, row[Y_DUE])
        else:
            remove_expire(w, d, key)


@compiled
def is_whole(w: World, link):
    """Whether the next unit of the stream is there as a whole and may be executed."""
    m, row = w.repl, w.wire[link]
    n = m[M_APPLY]
    return not m[M_BUFFERING] and n < row[W_ROWS] and w.stream[n & (w.stream.shape[0] - 1), Y_END] <= row[W_READ]


@compiled
def send_ack(w: World, link):
    """How far the stream has been executed and, with an AOF (7.2), how far it is on the disk."""
    if w.aof[A_POLICY]:
        reply(w, link, LANE_FACK, w.repl[M_FSYNCED])
    reply(w, link, LANE_ACK, w.repl[M_OFFSET])


@compiled
def read_stream(w: World, link):
    """The connection with the master has bytes of the stream: one read, then every unit that is whole."""
    st, cost, m, row = w.st, w.cost, w.repl, w.wire[link]
    start = st[NOW]
    size = min(row[W_ARRIVED] - row[W_READ], MASTER_READ_BYTES)
    ns = np.int64(0)
    if size > 0:
        row[W_READ] += size
        st[NET_IN] += size
        st[READS] += 1
        ns += cost[READ_NS] + bytes_ns(size, cost[READ_PS] + cost[PARSE_PS])
    mask, first = w.stream.shape[0] - 1, m[M_OFFSET]
    while is_whole(w, link) and m[M_OFFSET] - first < MASTER_READ_BYTES:
        unit = w.stream[m[M_APPLY] & mask]
        apply_image(w, unit)
        m[M_APPLY] += 1
        if unit[Y_KEY] == GETACK:
            ns += cost[WRITE_NS]
            send_ack(w, link)  # its own bytes are not in it yet
        if unit[Y_NS] > 0:
            ns += cost[CALL_NS] + ARGUMENTS * cost[PARSE_NS] + unit[Y_NS] * m[M_SCALE_PPM] // 1_000_000
            m[M_APPLIED] += 1
            late = max(start + ns - unit[Y_AT], 1)
            w.behind[min(bucket_of(late, bit_length(late), COARSE_BITS), COARSE_BUCKETS - 1)] += 1
            w.behind[COARSE_BUCKETS] += late
            w.behind[COARSE_BUCKETS + 1] = max(w.behind[COARSE_BUCKETS + 1], late)
        if unit[Y_END] > m[M_OFFSET]:
            if w.aof[A_POLICY] and unit[Y_NS] > 0:
                ns += feed_aof(w, unit[Y_END] - m[M_OFFSET])
                w.aof[A_CMDS] += 1
                if w.aof[A_UNDO]:
                    mark(w)
            feed(w, unit[Y_END] - m[M_OFFSET])
    charge(w, m[M_CAUSE], ns)
    if ns >= cost[STALL_NS]:
        note_hold(w, m[M_CAUSE], start)
    if size > 0:
        reply(w, link, LANE_SEEN, row[W_READ])
    ask_to_write(w)


@compiled
def read_chunk(w: World, link):
    """readSyncBulkPayload: 16 KiB of the master's RDB file, into a file of the replica's own."""
    cost, m, row = w.cost, w.repl, w.wire[link]
    size = min(row[W_BULK_ARRIVED] - row[W_BULK_READ], CHUNK_BYTES)
    row[W_BULK_READ] += size
    w.st[NET_IN] += size
    charge(w, m[M_CAUSE], cost[READ_NS] + m[M_FILE_NS] + bytes_ns(size, cost[READ_PS] + m[M_FILE_PS]))
    reply(w, link, LANE_BULK_SEEN, row[W_BULK_READ])
    if row[W_BULK_READ] == row[W_BULK]:
        m[M_WANT] |= BULK_READ


@compiled
def peer_event(w: World, marked):
    """A connection with another server is ready."""
    link, is_master_end = (NONE - 1 - marked) >> 1, (NONE - 1 - marked) & 1
    row, m = w.wire[link], w.repl
    if is_master_end:
        row[W_READY_MASTER] = 0
        if not w.st[LOADING]:
            serve_replica(w, link)
        return
    row[W_READY_REPLICA] = 0
    has_room = not m[M_BUFFERING] or m[M_HARD] == 0 or row[W_READ] - m[M_OFFSET] < m[M_HARD]
    if (w.st[LOADING] or w.st[BUSY]) and not (m[M_BUFFERING] and w.st[LOADING]):
        return  # nobody reads it; whoever ends that wakes it
    if row[W_BULK_ARRIVED] > row[W_BULK_READ]:
        read_chunk(w, link)
    elif is_whole(w, link) or (row[W_ARRIVED] > row[W_READ] and has_room):
        read_stream(w, link)
    if row[W_BULK_ARRIVED] > row[W_BULK_READ] or is_whole(w, link) or (row[W_ARRIVED] > row[W_READ] and has_room):
        wake_replica_end(w, link)


# ---- what the control plane does ---------------------------------------------------------------------------------------


@entry
def look_again(w: World, link, is_master_end):
    """An end of a connection may have something to do: it is ready for the next poll."""
    if is_master_end:
        wake_master_end(w, link)
    else:
        wake_replica_end(w, link)


@entry
def acknowledge(w: World, link):
    """replication.c:replicationSendAck: REPLCONF ACK, how far the stream has been executed."""
    charge(w, w.repl[M_CAUSE], w.cost[WRITE_NS])
    send_ack(w, link)


@entry
def restart_stream(w: World, offset, row, backlog):
    """A full sync: the server is at `offset` of its master's stream, whose next row is `row`, and begins a backlog of its own."""
    m = w.repl
    account(w, -m[M_MEMORY])
    m[M_OFFSET], m[M_APPLY] = offset, row
    m[M_BACKLOG], m[M_HISTLEN], m[M_FIRST], m[M_ROOM] = backlog, 0, offset + 1, 0
    m[M_BLOCK] = m[M_BLOCKS]
    if m[M_RING]:
        account(w, usable(w, backlog))


@entry
def begin_loading(w: World, cause, load_ns, every_ns):
    """The main thread loads an RDB file for `load_ns`, seeing to its clients every `every_ns`."""
    st = w.st
    st[LOADING] = st[BUSY] = 1
    st[LOAD_CAUSE], st[LOAD_LEFT], st[LOAD_EVERY] = cause, load_ns, every_ns
    st[SCRIPT_CONN] = NONE
    st[PHASE] = PH_BUSY
