"""What replication keeps in memory: the shared buffer's blocks and what a replica has of them; 6.2's ring and output buffers.

Mirrors networking.c:getClientOutputBufferMemoryUsage, closeClientOnOutputBufferLimitReached (the hard limit, at each new block);
replication.c:createReplicationBacklog of 6.2, where the backlog is a ring, there as a whole, and each replica has an output
buffer of its own.
Differs: 6.2: the 16 KiB that a client has anyway are taken for full before a replica has blocks.
"""

from redsim.dataplane.compile import compiled, entry
from redsim.dataplane.layout import *
from redsim.dataplane.memory import LIST_NODE_BYTES, usable

BLOCK_BYTES = 16384  # server.h: PROTO_REPLY_CHUNK_BYTES
BLOCK_HEADER_BYTES = 40  # server.h: replBufBlock
REPLY_BLOCK_HEADER_BYTES = 16  # server.h: clientReplyBlock


@compiled
def account(w: World, size):
    """So many bytes more of used_memory are the buffer's."""
    w.repl[M_MEMORY] += size
    w.st[USED] += size


@compiled
def own_blocks(w: World, link):
    """6.2: reply blocks of a replica's output buffer."""
    row = w.wire[link]
    payload = usable(w, BLOCK_BYTES + REPLY_BLOCK_HEADER_BYTES) - REPLY_BLOCK_HEADER_BYTES
    left = w.repl[M_OFFSET] - row[W_SENT] - BLOCK_BYTES if row[W_STATE] != WIRE_OFF else 0
    return (left + payload - 1) // payload if left > 0 else 0


@compiled
def owe(w: World):
    """6.2: what each replica has not been sent lies in blocks of its own output buffer, behind the 16 KiB that a client has
    anyway."""
    m, size = w.repl, usable(w, BLOCK_BYTES + REPLY_BLOCK_HEADER_BYTES) + usable(w, LIST_NODE_BYTES)
    for link in range(w.wire.shape[0]):
        row = w.wire[link]
        if row[W_FROM] == m[M_SELF]:
            owed = own_blocks(w, link) * size
            account(w, owed - row[W_OWED])
            row[W_OWED] = owed


@compiled
def output_buffer_bytes(w: World, link):
    """networking.c:getClientOutputBufferMemoryUsage of a replica: from the block it is at to the end of the last one."""
    m, mask = w.repl, w.block.shape[0] - 1
    if m[M_RING]:
        return own_blocks(w, link) * (usable(w, BLOCK_BYTES + REPLY_BLOCK_HEADER_BYTES) + LIST_NODE_BYTES)
    at, blocks = w.wire[link, W_BLOCK], m[M_BLOCKS]
    if at >= blocks or w.wire[link, W_STATE] == WIRE_OFF:
        return 0
    first = w.block[at & mask, 0] - w.block[at & mask, 1]
    return w.block[(blocks - 1) & mask, 0] - first + (blocks - at) * (LIST_NODE_BYTES + BLOCK_HEADER_BYTES)


@compiled
def mind_limits(w: World):
    """networking.c:closeClientOnOutputBufferLimitReached, the hard limit, of each replica."""
    m = w.repl
    for link in range(w.wire.shape[0]):
        row = w.wire[link]
        is_bound = row[W_FROM] == m[M_SELF] and row[W_STATE] != WIRE_OFF and not row[W_OVER] and m[M_HARD] > 0
        if is_bound and output_buffer_bytes(w, link) >= m[M_HARD]:
            row[W_OVER] = 1
            m[M_WANT] |= LINK_OVERFLOWS


@entry
def omem(w: World, link):
    """omem of CLIENT LIST for a replica."""
    return output_buffer_bytes(w, link)


@entry
def take_ring(w: World):
    """replication.c:createReplicationBacklog of 6.2: the whole ring at once."""
    if w.repl[M_RING]:
        account(w, usable(w, w.repl[M_BACKLOG]))
