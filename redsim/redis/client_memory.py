"""What one connection costs the server in memory: struct, buffers, bookkeeping, by version and allocator.

Mirrors networking.c:createClient and getClientMemoryUsage, server.c:clientsCronResizeQueryBuffer and
clientsCronResizeOutputBuffer, of 6.2 to 7.4 and Valkey 8.0. A file of its own because networking.py here is about time. Struct
sizes are sizeof() of those sources on x86-64; 6.2 keeps its 16 KiB reply buffer inside the struct.

    connected  struct, reply buffer of 16 KiB, lists, dicts, connection, a list node, a rax entry
    spoke      and a query buffer of the 20 KiB class (6.2: 40 KiB; Valkey 8.0: one buffer for all of them)
    idle       after 2 s no query buffer, after 5 s the reply buffer shrunk to what was last needed, 1 KiB at least (7.0 on)

Differs: the rax that finds a client by its number costs 26 bytes a client on average [lab-server-memory], not an exact sum.
Not modelled: argv in flight (6.2 keeps its array, 8 bytes an argument), MULTI queues, subscriptions, tracking; Redis 8.0's struct
is taken to be 7.4's (a guess).
"""

from dataclasses import dataclass

from redsim.redis.config import Rules
from redsim.units import KIB

__all__ = [
    "ClientBuffers", "client_counted_bytes", "connection_bytes", "output_list_bytes", "query_buffer_bytes", "reply_buffer_bytes",
]  # fmt: skip

PROTO_REPLY_CHUNK_BYTES = 16 * KIB  # server.h
PROTO_REPLY_MIN_BYTES = KIB  # server.h
PROTO_IOBUF_LEN = 16 * KIB  # server.h
REPLY_BLOCK_HEADER_BYTES = 16  # sizeof(clientReplyBlock)
LIST_NODE_BYTES = 24  # sizeof(listNode)
QUERY_BUFFER_IDLE_S = 2  # server.c:clientsCronResizeQueryBuffer
REPLY_BUFFER_PEAK_RESET_S = 5  # server.c: reply_buffer_peak_reset_time

_EMPTY_SDS_BYTES = 4  # header of 3 and the NUL
_SDS16_BYTES = 6  # header of 5 and the NUL
_LIST_BYTES = 48
_CONNECTION_BYTES = 64
_RAX_BYTES = 26


@dataclass(frozen=True, slots=True)
class _Layout:
    """What createClient asks the allocator for, beside buffers.

    state    struct_bytes       sizeof(client)
             lists, dicts       of the client itself
             empty_sds          query buffers that start as an empty sds
             has_reply_in_struct  6.2: char buf[16 KiB] is part of the struct
             has_shared_query   one query buffer for all clients whose commands arrive whole
    """

    struct_bytes: int
    lists: int
    dicts: int
    empty_sds: int = 1
    has_reply_in_struct: bool = False
    has_shared_query: bool = False


_LAYOUTS = {
    "6.2": _Layout(16992, lists=3, dicts=2, empty_sds=2, has_reply_in_struct=True),
    "7.0": _Layout(744, lists=3, dicts=3),
    "7.2": _Layout(776, lists=2, dicts=4),
    "7.4": _Layout(784, lists=2, dicts=4),
    "8.0": _Layout(784, lists=2, dicts=4, empty_sds=0, has_shared_query=True),
    "valkey-8.0": _Layout(896, lists=2, dicts=4, empty_sds=0, has_shared_query=True),
}


def _layout(rules: Rules) -> _Layout:
    return _LAYOUTS[rules.conf.version]


@dataclass(frozen=True, slots=True)
class ClientBuffers:
    """What a connection holds at one moment, bytes as requested from the allocator or as `usable` of it (both give the same).

    state    query_bytes    query buffer, header and all; 0: the empty one it starts with, or none
             reply_bytes    static reply buffer; ignored of 6.2, whose struct holds it
             output_bytes   reply list: blocks with their headers and nodes
    """

    query_bytes: int = 0
    reply_bytes: int = PROTO_REPLY_CHUNK_BYTES
    output_bytes: int = 0


def query_buffer_bytes(rules: Rules, largest_bytes: int = 0) -> int:
    """The block behind a query buffer after a client's first command; `largest_bytes` is its longest argument yet.

    networking.c:readQueryFromClient: 16 KiB, doubled by 6.2 (sdsMakeRoomFor is greedy); an argument of 32 KiB and more sizes the
    buffer to itself. 0 where the version shares one buffer among clients.
    """
    if _layout(rules).has_shared_query and largest_bytes < PROTO_IOBUF_LEN:
        return 0
    first_bytes = PROTO_IOBUF_LEN if rules.since("7.0") else 2 * PROTO_IOBUF_LEN
    return rules.allocator.usable(max(first_bytes, largest_bytes + 2) + _SDS16_BYTES)


def reply_buffer_bytes(rules: Rules, recent_peak_bytes: int | None = None) -> int:
    """The static reply buffer: 16 KiB of a new client, later what `recent_peak_bytes` of replies need.

    server.c:clientsCronResizeOutputBuffer: while less than half is used it is cut to one byte more than the peak of the last five
    seconds, 1 KiB at least; 0 for 6.2, where it is part of the struct.
    """
    if _layout(rules).has_reply_in_struct:
        return 0
    if recent_peak_bytes is None or recent_peak_bytes >= PROTO_REPLY_CHUNK_BYTES // 2:
        return PROTO_REPLY_CHUNK_BYTES
    return rules.allocator.usable(max(PROTO_REPLY_MIN_BYTES, recent_peak_bytes + 1))


def connection_bytes(buffers: ClientBuffers, rules: Rules) -> int:
    """Bytes of used_memory that go when this connection is closed."""
    layout, usable = _layout(rules), rules.allocator.usable
    empty_sds = layout.empty_sds - (1 if buffers.query_bytes and layout.empty_sds else 0)
    return (
        usable(layout.struct_bytes)
        + layout.lists * usable(_LIST_BYTES)
        + layout.dicts * usable(rules.dict_bytes)
        + empty_sds * usable(_EMPTY_SDS_BYTES)
        + usable(_CONNECTION_BYTES)
        + usable(LIST_NODE_BYTES)
        + _RAX_BYTES
        + (usable(buffers.query_bytes) if buffers.query_bytes else 0)
        + (usable(buffers.reply_bytes) if buffers.reply_bytes and not layout.has_reply_in_struct else 0)
        + buffers.output_bytes
    )


def client_counted_bytes(buffers: ClientBuffers, rules: Rules) -> int:
    """Bytes of it that mem_clients_normal and CLIENT LIST's tot-mem count: struct and buffers, not the bookkeeping."""
    layout, usable = _layout(rules), rules.allocator.usable
    query_bytes = usable(buffers.query_bytes or _EMPTY_SDS_BYTES) if buffers.query_bytes or layout.empty_sds else 0
    reply_bytes = usable(buffers.reply_bytes) if buffers.reply_bytes and not layout.has_reply_in_struct else 0
    return usable(layout.struct_bytes) + query_bytes + reply_bytes + buffers.output_bytes


def output_list_bytes(reply_bytes: int, rules: Rules) -> int:
    """Bytes of a reply list of `reply_bytes`, the part of many small replies that the static buffer had no room for.

    networking.c:_addReplyProtoToList fills a block of at least 16 KiB to the end of its size class before it takes another.
    """
    usable = rules.allocator.usable
    block_bytes = usable(PROTO_REPLY_CHUNK_BYTES + REPLY_BLOCK_HEADER_BYTES)
    blocks = -(-reply_bytes // (block_bytes - REPLY_BLOCK_HEADER_BYTES))
    return blocks * (block_bytes + usable(LIST_NODE_BYTES))
