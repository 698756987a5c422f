"""Streams: entries in listpacks that hang in a radix tree, consumer groups and what is pending in them.

Mirrors t_stream.c of Redis 7.0 (streamAppendItem, streamTrim, streamDeleteItem, streamReplyWithRange for groups) on real bytes:

    rax: ID of a node's first entry -> listpack
    listpack: live | deleted | fields of the first entry | 0 | entry | entry | ...
    entry:    flags | ms and seq since the node's ID | [fields if other than the first entry's] values | elements before

A node takes no more from stream-node-max-bytes or stream-node-max-entries on; it starts with a block of 4,096 bytes and gives the
rest back when the next node starts. A deleted entry stays where it is, flagged, until its whole node goes.
Differs: 6.2 has no counters of what was ever added, read and deleted; they are kept, and left out where 6.2 is asked about.
Since 7.2 a consumer is made by an XREADGROUP that finds nothing, too; here only by one that finds something.
Not modelled: XCLAIM, XAUTOCLAIM, XSETID and XGROUP SETID; blocked readers; time.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice

from redsim.host.malloc import Allocator
from redsim.redis import listpack
from redsim.redis.rax import Rax

__all__ = ["Consumer", "Entry", "Group", "Nack", "Node", "Stream", "StreamId", "allocated_bytes", "key_of", "memory_usage"]

StreamId = tuple[int, int]  # ms, seq
Pair = tuple[bytes, bytes]  # field, value

ZERO: StreamId = (0, 0)
_PREALLOCATED_BYTES = 4096  # t_stream.c: STREAM_LISTPACK_MAX_PRE_ALLOCATE
_NODE_BYTES_MAX = 1 << 30  # t_stream.c: STREAM_LISTPACK_MAX_SIZE
_ELEMENTS_BEFORE = 4  # live, deleted, number of fields; and the 0 behind the fields
STREAM_ITEM_FLAG_DELETED = 1
STREAM_ITEM_FLAG_SAMEFIELDS = 2
_APPROX_NODES = 100  # XADD and XTRIM with ~ and no LIMIT look at so many nodes' worth of entries
UNKNOWN = -1  # stream.h: SCG_INVALID_ENTRIES_READ


def key_of(stream_id: StreamId) -> bytes:
    """t_stream.c:streamEncodeID, the 16 bytes that an ID is in a radix tree."""
    return stream_id[0].to_bytes(8, "big") + stream_id[1].to_bytes(8, "big")


@cache
def _counter_bytes(count: int) -> int:
    return len(listpack.encode(count))


@dataclass(slots=True)
class Entry:
    """An entry as it stands in its listpack, `element_count` elements; the first byte holds the flags."""

    id: StreamId
    data: bytearray
    element_count: int

    @property
    def is_deleted(self) -> bool:
        return bool(self.data[0] & STREAM_ITEM_FLAG_DELETED)


@dataclass(slots=True)
class Node:
    """A listpack, by the ID of its first entry. `requested_bytes` is what its block was last asked to be: it fills its block, or
    asks for just what it needs."""

    id: StreamId
    fields: tuple[bytes, ...]
    requested_bytes: int
    entries: list[Entry] = field(default_factory=list)
    live_count: int = 0
    deleted_count: int = 0
    master: bytes = field(init=False)
    rest_bytes: int = field(init=False)  # all but the two counters

    def __post_init__(self) -> None:
        names = [listpack.encode(name) for name in self.fields]
        self.master = b"".join([listpack.encode(len(names)), *names, listpack.encode(0)])
        self.rest_bytes = listpack.EMPTY_BYTES + len(self.master)

    @property
    def size_bytes(self) -> int:
        """listpack.c:lpBytes."""
        return _counter_bytes(self.live_count) + _counter_bytes(self.deleted_count) + self.rest_bytes

    def listpack(self) -> bytes:
        """Its bytes."""
        parts = [listpack.encode(self.live_count), listpack.encode(self.deleted_count), self.master]
        parts += [bytes(entry.data) for entry in self.entries]
        element_count = _ELEMENTS_BEFORE + len(self.fields) + sum(entry.element_count for entry in self.entries)
        return listpack.listpack(parts, element_count)

    def append(self, entry_id: StreamId, pairs: Sequence[Pair]) -> None:
        """The entry behind the others."""
        is_same = self.fields == tuple(name for name, _ in pairs)
        parts: list[bytes | int] = [
            STREAM_ITEM_FLAG_SAMEFIELDS if is_same else 0,
            entry_id[0] - self.id[0],
            entry_id[1] - self.id[1],
        ]
        parts += [value for _, value in pairs] if is_same else [len(pairs), *(part for pair in pairs for part in pair)]
        data = b"".join(map(listpack.encode, [*parts, len(parts)]))
        self.take(Entry(entry_id, bytearray(data), len(parts) + 1))

    def take(self, entry: Entry) -> None:
        """The same of an entry that is encoded already."""
        self.entries.append(entry)
        self.rest_bytes += len(entry.data)
        self.live_count += 1
        self.requested_bytes = max(self.requested_bytes, self.size_bytes)

    def delete(self, entry: Entry) -> None:
        """Flag the entry, which keeps its place, and count it; a counter that becomes shorter makes the block just fit."""
        entry.data[0] |= STREAM_ITEM_FLAG_DELETED
        self.live_count -= 1
        if _counter_bytes(self.live_count) < _counter_bytes(self.live_count + 1):
            self.requested_bytes = self.size_bytes
        self.deleted_count += 1
        self.requested_bytes = max(self.requested_bytes, self.size_bytes)


@dataclass(slots=True)
class Nack:
    """stream.h: streamNACK, one entry delivered and not yet acknowledged."""

    consumer: bytes
    delivery_time_ms: int
    delivery_count: int = 1


@dataclass(slots=True)
class Consumer:
    pel: set[StreamId] = field(default_factory=set)
    seen_time_ms: int = 0
    active_time_ms: int = -1


@dataclass(slots=True)
class Group:
    """stream.h: streamCG. `entries_read` is UNKNOWN until it can be told."""

    last_id: StreamId
    entries_read: int = UNKNOWN
    pel: dict[StreamId, Nack] = field(default_factory=dict)
    consumers: dict[bytes, Consumer] = field(default_factory=dict)


@dataclass(slots=True)
class Stream:
    """stream.h: stream, with the two directives that shape its nodes. IDs of a node lie before those of the next."""

    node_max_bytes: int = 4096
    node_max_entries: int = 100
    nodes: list[Node] = field(default_factory=list)
    length: int = 0
    last_id: StreamId = ZERO
    first_id: StreamId = ZERO
    max_deleted_id: StreamId = ZERO
    entries_added: int = 0
    groups: dict[bytes, Group] = field(default_factory=dict)

    def xadd(self, entry_id: StreamId, pairs: Sequence[Pair]) -> None:
        """streamAppendItem; the ID must be larger than the last one."""
        assert entry_id > self.last_id, "IDs rise"
        elements_bytes = sum(len(name) + len(value) for name, value in pairs)
        is_full = bool(self.nodes) and self._is_full(self.nodes[-1], elements_bytes)
        if is_full:
            self.nodes[-1].requested_bytes = self.nodes[-1].size_bytes  # lpShrinkToFit
        if is_full or not self.nodes:
            block_bytes = min(_PREALLOCATED_BYTES, self.node_max_bytes or _PREALLOCATED_BYTES)
            self.nodes.append(Node(entry_id, tuple(name for name, _ in pairs), block_bytes))
        self.nodes[-1].append(entry_id, pairs)
        self.length += 1
        self.entries_added += 1
        self.last_id = entry_id
        if self.length == 1:
            self.first_id = entry_id

    def _is_full(self, node: Node, elements_bytes: int) -> bool:
        bytes_max = min(self.node_max_bytes or _NODE_BYTES_MAX, _NODE_BYTES_MAX)
        if node.size_bytes + elements_bytes >= bytes_max:
            return True
        return 0 < self.node_max_entries <= node.live_count + node.deleted_count

    def xtrim_maxlen(self, maxlen: int, *, approx: bool = False, limit: int | None = None) -> int:
        """XTRIM MAXLEN [~]; returns how many went. Without `limit`, ~ has its default and = has none (0)."""
        return self._trim(
            lambda: self.length <= maxlen,
            lambda node: self.length - node.live_count >= maxlen,
            lambda _entry: self.length <= maxlen,
            approx, limit,
        )  # fmt: skip

    def xtrim_minid(self, minid: StreamId, *, approx: bool = False, limit: int | None = None) -> int:
        """XTRIM MINID [~], likewise."""
        return self._trim(
            lambda: False,
            lambda node: node.entries[-1].id < minid,
            lambda entry: entry.id >= minid,
            approx, limit,
        )  # fmt: skip

    def _trim(
        self,
        is_done: Callable[[], bool],
        goes_whole: Callable[[Node], bool],
        stops_at: Callable[[Entry], bool],
        approx: bool,
        limit: int | None,
    ) -> int:
        """streamTrim: whole nodes from the front, then entries of the next one unless `approx`."""
        at_most = (_APPROX_NODES * self.node_max_entries if approx else 0) if limit is None else limit
        before_count = self.length
        gone = 0
        for node in self.nodes:
            if is_done() or (at_most and before_count - self.length + node.live_count > at_most):
                break
            if not goes_whole(node):
                if not approx:
                    self._trim_node(node, stops_at)
                break
            self.length -= node.live_count
            gone += 1
        del self.nodes[:gone]
        if self.length < before_count:
            self.first_id = self._first_live_id()
        return before_count - self.length

    def _trim_node(self, node: Node, stops_at: Callable[[Entry], bool]) -> None:
        for entry in node.entries:
            if stops_at(entry):
                return
            if not entry.is_deleted:
                node.delete(entry)
                self.length -= 1

    def _first_live_id(self) -> StreamId:
        return next((entry.id for node in self.nodes for entry in node.entries if not entry.is_deleted), ZERO)

    def xdel(self, entry_id: StreamId) -> bool:
        """streamDeleteItem and what xdelCommand does after it; False if there is no such entry."""
        at = bisect_right(self.nodes, entry_id, key=lambda node: node.id) - 1
        node = self.nodes[at] if at >= 0 else None
        entry = next((e for e in node.entries if e.id == entry_id and not e.is_deleted), None) if node else None
        if node is None or entry is None:
            return False
        if node.live_count == 1:
            del self.nodes[at]
        else:
            node.delete(entry)
        self.length -= 1
        self.max_deleted_id = max(self.max_deleted_id, entry_id)
        if self.length == 0 or entry_id == self.first_id:
            self.first_id = self._first_live_id()
        return True

    # ---- groups ------------------------------------------------------------------------------------------------------

    def xgroup_create(self, name: bytes, last_id: StreamId = ZERO) -> None:
        """XGROUP CREATE; `last_id` as of $ is `self.last_id`."""
        self.groups.setdefault(name, Group(last_id))

    def xreadgroup(self, group_name: bytes, consumer_name: bytes, count: int, *, now_ms: int = 0, noack: bool = False) -> int:
        """XREADGROUP ... COUNT count STREAMS key >; returns how many entries were new to the group."""
        group = self.groups[group_name]
        found = list(islice(self._live_after(group.last_id), count))
        for entry in found:
            if group.entries_read != UNKNOWN and not self._has_tombstone_from(entry.id):
                group.entries_read += 1
            else:
                group.entries_read = self._entries_up_to(entry.id)
            group.last_id = entry.id
        if found:
            consumer = group.consumers.setdefault(consumer_name, Consumer())
            consumer.seen_time_ms = consumer.active_time_ms = now_ms
        for entry in found if not noack else ():
            self._deliver(group, consumer_name, entry.id, now_ms)
        return len(found)

    def _live_after(self, last_id: StreamId) -> Iterator[Entry]:
        for node in self.nodes[max(bisect_right(self.nodes, last_id, key=lambda node: node.id) - 1, 0) :]:
            yield from (entry for entry in node.entries if entry.id > last_id and not entry.is_deleted)

    @staticmethod
    def _deliver(group: Group, consumer_name: bytes, entry_id: StreamId, now_ms: int) -> None:
        """An entry pending with another consumer (after XGROUP SETID) changes hands."""
        if entry_id in group.pel:
            group.consumers[group.pel[entry_id].consumer].pel.discard(entry_id)
        group.pel[entry_id] = Nack(consumer_name, now_ms)
        group.consumers[consumer_name].pel.add(entry_id)

    def xack(self, group_name: bytes, entry_id: StreamId) -> bool:
        """XACK of one entry; False if it is not pending."""
        group = self.groups[group_name]
        nack = group.pel.pop(entry_id, None)
        if nack is not None:
            group.consumers[nack.consumer].pel.remove(entry_id)
        return nack is not None

    def _has_tombstone_from(self, entry_id: StreamId) -> bool:
        """streamRangeHasTombstones to the end."""
        if not self.length or self.max_deleted_id == ZERO or self.first_id > self.max_deleted_id:
            return False
        return entry_id <= self.max_deleted_id

    def _entries_up_to(self, entry_id: StreamId) -> int:
        """streamEstimateDistanceFromFirstEverEntry of an entry that is there: how many were ever added up to it, or UNKNOWN."""
        if entry_id == self.last_id:
            return self.entries_added
        if entry_id == self.first_id and (self.max_deleted_id == ZERO or self.max_deleted_id < self.first_id):
            return self.entries_added - self.length + 1
        return UNKNOWN


# ---- bytes -----------------------------------------------------------------------------------------------------------------

_ROBJ_BYTES = 16
_NACK_BYTES = 24


def _struct_bytes(version: str) -> tuple[int, int, int]:
    """sizeof stream, streamCG and streamConsumer: 7.0 counts what was added and read, 7.2 knows when a consumer was active."""
    if version == "6.2":
        return 40, 32, 24
    return 80, 40, 24 if version == "7.0" else 32


def _estimated_bytes(rax: Rax) -> int:
    """object.c:streamRadixTreeMemoryUsage, which takes thirty words for every node and never less."""
    return 16 * rax.numele + (4 + 30 * 8) * rax.numnodes


def _rax_of(ids: Iterable[StreamId]) -> Rax:
    return Rax(sorted(map(key_of, ids)))


def _name_bytes(name: bytes) -> int:
    """sds.c: a name's header, text and NUL."""
    return (1 if 0 < len(name) < 32 else 3 if len(name) < 256 else 5) + len(name) + 1


def memory_usage(stream: Stream, allocator: Allocator, version: str = "7.0", *, samples: int = 0) -> int:
    """object.c:objectComputeSize: what MEMORY USAGE counts for the value, bytes; `samples` nodes are looked at, all for 0.

    An estimate on purpose: trees are charged 244 bytes a node where 16 would be nearer, names and 24-byte blocks exactly. 6.2 up
    to 6.2.9 at least counted the bytes in a node instead of its block; here as in 6.2.14.
    """
    stream_bytes, group_bytes, consumer_bytes = _struct_bytes(version)
    total_bytes = _ROBJ_BYTES + stream_bytes + _estimated_bytes(_rax_of(node.id for node in stream.nodes))
    sizes = [allocator.usable(node.requested_bytes) for node in stream.nodes]
    looked_at = sizes[: samples or None]
    if len(looked_at) == len(sizes):
        total_bytes += sum(sizes)
    else:
        total_bytes += sum(looked_at) // len(looked_at) * (len(sizes) - 1) + sizes[-1]
    for group in stream.groups.values():
        total_bytes += group_bytes + _estimated_bytes(_rax_of(group.pel)) + _NACK_BYTES * len(group.pel)
        for name, consumer in group.consumers.items():
            total_bytes += consumer_bytes + len(name) + _estimated_bytes(_rax_of(consumer.pel))
    return total_bytes


def allocated_bytes(stream: Stream, allocator: Allocator, version: str = "7.0") -> int:
    """What the value really adds to used_memory."""
    usable = allocator.usable
    stream_bytes, group_bytes, consumer_bytes = map(usable, _struct_bytes(version))

    def tree(keys: Iterable[bytes]) -> int:
        return Rax(sorted(keys)).allocated_bytes(allocator)

    total_bytes = usable(_ROBJ_BYTES) + stream_bytes + tree(key_of(node.id) for node in stream.nodes)
    total_bytes += sum(usable(node.requested_bytes) for node in stream.nodes)
    if stream.groups:
        total_bytes += tree(stream.groups)
    for group in stream.groups.values():
        total_bytes += group_bytes + tree(map(key_of, group.pel)) + usable(_NACK_BYTES) * len(group.pel) + tree(group.consumers)
        for name, consumer in group.consumers.items():
            total_bytes += consumer_bytes + usable(_name_bytes(name)) + tree(map(key_of, consumer.pel))
    return total_bytes
