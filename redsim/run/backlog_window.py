"""What the backlog still holds, to the byte: which offset a master would answer +CONTINUE.

Mirrors replication.c of 7.0: feedReplicationBuffer, incrementalTrimReplicationBacklog, masterTryPartialResynchronization;
networking.c: getClientOutputBufferMemoryUsage of a replica. 6.2: feedReplicationBacklog, a ring of exactly repl-backlog-size.

    block    payload of clamp(bytes, 16 KiB, max(backlog / 16, 16 KiB)) and what the allocator adds: 20,440 bytes with jemalloc
    trim     the first block goes while more than repl-backlog-size is left without it
    so       offsets kept: more than the size, by one byte to a whole block; where within that is a matter of chance

A plain-Python class that follows the rule, and its closed form for blocks of one size, for a plan of thousands of outages.
Differs: a `feed` trims all that may go; Redis gives up 64 blocks at a call, too few only where one command has megabytes.
Not modelled: the blocks that a slow replica pins (the window is wider then); the radix tree over the blocks.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from redsim.host.malloc import ALLOCATORS

__all__ = ["BACKLOG_MIN_BYTES", "BlockBacklog", "RingBacklog", "block_payload_bytes", "buffer_block_bytes",
           "output_buffer_bytes", "window_bytes"]  # fmt: skip

BACKLOG_MIN_BYTES = 16384  # server.h: CONFIG_REPL_BACKLOG_SIZE_MIN
BLOCK_MIN_BYTES = 16384  # server.h: PROTO_REPLY_CHUNK_BYTES
BLOCKS_MIN = 16  # replication.c: a block is at most this part of the backlog
BLOCK_HEADER_BYTES = 40  # server.h: sizeof(replBufBlock)
REPLY_HEADER_BYTES = 16  # server.h of 6.2: sizeof(clientReplyBlock)
LIST_NODE_BYTES = 24  # adlist.h: sizeof(listNode), as INFO's mem_total_replication_buffers adds it
Ints = npt.NDArray[np.int64]


def block_payload_bytes(backlog_bytes: int, piece_bytes: int = 0, allocator: str = "jemalloc") -> int:
    """Bytes that a block holds when `piece_bytes` (an argument of a command) are to be put into a new one.

    >>> block_payload_bytes(1 << 20), block_payload_bytes(1 << 20, 60_000)
    (20440, 65496)
    """
    asked = min(max(piece_bytes, BLOCK_MIN_BYTES), max(backlog_bytes // BLOCKS_MIN, BLOCK_MIN_BYTES))
    return ALLOCATORS[allocator].usable(asked + BLOCK_HEADER_BYTES) - BLOCK_HEADER_BYTES


@dataclass
class BlockBacklog:
    """The backlog of 7.0 and later, created at offset 0 of an empty history; no replica pins a block."""

    size_bytes: int
    allocator: str = "jemalloc"
    first_byte_offset: int = 1
    histlen: int = 0
    blocks: deque[int] = field(default_factory=deque)  # payloads, the oldest first
    room: int = 0  # in the last block

    def feed(self, piece_bytes: int) -> None:
        """So many bytes more in the stream, in one piece: replication.c:feedReplicationBuffer."""
        left = piece_bytes
        self.histlen += piece_bytes
        while left > self.room:
            left -= self.room
            self.room = block_payload_bytes(self.size_bytes, left, self.allocator)
            self.blocks.append(self.room)
        self.room -= left
        while len(self.blocks) > 1 and self.histlen - self.blocks[0] > self.size_bytes:
            given_up = self.blocks.popleft()
            self.histlen -= given_up
            self.first_byte_offset += given_up

    @property
    def master_repl_offset(self) -> int:
        """The stream's last byte."""
        return self.first_byte_offset + self.histlen - 1

    def accepts(self, offset: int) -> bool:
        """Whether PSYNC from `offset` on (the replica's last byte + 1) is answered +CONTINUE."""
        return self.first_byte_offset <= offset <= self.first_byte_offset + self.histlen

    def memory_bytes(self) -> int:
        """INFO's mem_total_replication_buffers."""
        return sum(payload + BLOCK_HEADER_BYTES + LIST_NODE_BYTES for payload in self.blocks)


@dataclass
class RingBacklog:
    """The backlog of 6.2: the last `size_bytes` of the stream, no more."""

    size_bytes: int
    master_repl_offset: int = 0

    def feed(self, piece_bytes: int) -> None:
        """So many bytes more in the stream: replication.c:feedReplicationBacklog."""
        self.master_repl_offset += piece_bytes

    @property
    def histlen(self) -> int:
        """Bytes that it holds."""
        return min(self.master_repl_offset, self.size_bytes)

    @property
    def first_byte_offset(self) -> int:
        """The oldest one's offset."""
        return self.master_repl_offset - self.histlen + 1

    def accepts(self, offset: int) -> bool:
        """Whether PSYNC from `offset` on is answered +CONTINUE."""
        return self.first_byte_offset <= offset <= self.first_byte_offset + self.histlen


def window_bytes(size_bytes: int, written: Ints, payload_bytes: int) -> Ints:
    """How many bytes the backlog holds when so many have been written since it was created: BlockBacklog.histlen for blocks of
    `payload_bytes`; RingBacklog.histlen for 0."""
    if payload_bytes == 0:
        return np.minimum(written, size_bytes)
    over = written - size_bytes
    return np.where(over > 0, size_bytes + (over - 1) % payload_bytes + 1, written)


def buffer_block_bytes(backlog_bytes: int, allocator: str = "jemalloc", *, is_shared: bool = True) -> tuple[int, int]:
    """(stream bytes, bytes that count against the limit) of a block of a replica's output buffer. Shared: 7.0; else 6.2's own
    reply blocks, networking.c:_addReplyProtoToList.

    >>> buffer_block_bytes(1 << 20), buffer_block_bytes(1 << 20, is_shared=False)
    ((20440, 20504), (20464, 20504))
    """
    if is_shared:
        payload = block_payload_bytes(backlog_bytes, 0, allocator)
        return payload, payload + BLOCK_HEADER_BYTES + LIST_NODE_BYTES
    payload = ALLOCATORS[allocator].usable(BLOCK_MIN_BYTES + REPLY_HEADER_BYTES) - REPLY_HEADER_BYTES
    return payload, payload + REPLY_HEADER_BYTES + LIST_NODE_BYTES


def output_buffer_bytes(behind: Ints, into: Ints, block: tuple[int, int]) -> Ints:
    """networking.c:getClientOutputBufferMemoryUsage of a replica that is `behind` bytes behind and stands `into` bytes into its
    block: whole blocks of buffer_block_bytes."""
    payload, counted = block
    return -(-(behind + into) // payload) * counted
