"""Names of the columns of what servers of a master and its replicas have between them; layout.py exports them with its own.

A World of its own for each server; stream, wire and mail are one array each that all their Worlds look at.
"""

# fmt: off repl: a server's part in replication (replication.py). On: the stream is fed, as there are replicas or a backlog. Rows
# of the stream: where the next one goes, where the unit under way began, on a replica the next one to apply. Blocks: numbers of
# the first one kept and behind the last one; bytes kept, bytes free in the last one
(M_ON, M_SELF, M_LINKED, M_IS_REPLICA, M_OFFSET, M_SELECTED, M_WRAP, M_UNIT_BYTES, M_UNIT_NS, M_ROWS, M_BEGUN, M_APPLY,
 M_BACKLOG, M_HISTLEN, M_FIRST, M_BLOCK, M_BLOCKS, M_ROOM, M_MEMORY, M_BLOCK_MAX, M_HARD, M_WANT, M_REFUSES,
 M_CAUSE, M_FEED_NS, M_FEED_PS, M_FILE_NS, M_FILE_PS, M_SCALE_PPM, M_APPLIED,
 M_PIPE_SIZE, M_PIPE_MADE, M_PIPE_READ, M_PIPE_AT, M_PIPE_PS, M_PIPE_CALLED, M_GETACK, M_BUFFERING, M_WAKE_NS, M_FED,
 # offsets that the AOF is on the disk up to: handed to the bio thread, done, known to the loop, which has moved; whether the
 # offset moves without anybody to feed; a ring, and an output buffer for each replica (6.2)
 M_SUBMITTED, M_ON_DISK, M_FSYNCED, M_MOVED, M_COUNTS, M_RING) = range(46)
M_SIZE = 48
LINK_OVERFLOWS, BULK_SENT, BULK_READ, PIPE_EMPTY, LINK_ACKED, CLIENTS_WONDER = 1, 2, 4, 8, 16, 32  # M_WANT: it hears of
# stream: what the master's stream makes of a key, in the order of offsets; a row of a ring for each key that a unit changed. Key
# NONE: it changes none (PING), FLUSHED_ALL: all are gone, GETACK: REPLCONF GETACK. More: elements of an aggregate, the room of a
# string that has grown
# at: ns, odd if a client waits for the answer of the command (Y_NS, which is 0 but in its last row)
(Y_END, Y_AT, Y_NS, Y_KEY, Y_DATASET, Y_VALUE, Y_MORE, Y_DUE) = range(8)
Y_SIZE = 8
FLUSHED_ALL, GETACK = -2, -3
# wire: a connection of a replica with its master, seen from both ends. Positions are offsets of the stream, or bytes of the RDB
# file (BULK); sent by the master, seen: read by the replica as far as the master knows; lanes: what is on its way, in `mail`
(W_FROM, W_TO, W_STATE, W_DELAY, W_PS, W_BUFFER, W_HOLD, W_BUSY, W_SENT, W_SEEN, W_BULK, W_BULK_SENT, W_BULK_SEEN, W_PENDING,
 W_WANT, W_BLOCK, W_ROWS, W_ACK, W_ACK_AT, W_ACKS, W_OVER, W_ARRIVED, W_READ, W_BULK_ARRIVED, W_BULK_READ, W_LAST_IO,
 W_READY_MASTER, W_READY_REPLICA, W_HOLD_BACK, W_JITTER, W_LOSS_PPB, W_LOCAL, W_FACK, W_OWED) = range(34)
W_HEAD, W_QUEUED, W_LAST = 34, 40, 46  # + lane: first, how many, when the last one arrives
W_SIZE = 56
WIRE_OFF, WIRE_WAITS, WIRE_STREAM, WIRE_BULK, WIRE_PIPE, WIRE_DUAL = range(6)  # W_STATE; dual: stream and file at once
LANE_STREAM, LANE_BULK, LANE_SEEN, LANE_BULK_SEEN, LANE_FACK, LANE_ACK = range(6)
LANES = 6
# M_REFUSES: too few replicas are in step; it loads from its socket, and answers nothing; it is a replica, which takes no writes;
# it has no master, and does not serve stale data
FEW, LOADS, READS_ONLY, STALE = 1, 2, 4, 8
MAIL_ROWS = 4096  # of a lane; beyond them the last one takes on what comes
# fmt: on
