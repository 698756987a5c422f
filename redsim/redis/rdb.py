"""How long a value is in an RDB file (what DEBUG OBJECT calls serializedlength), and a file of all values.

Mirrors rdb.c of Redis 6.2, 7.0, 7.2, 7.4 and Valkey 8.0: rdbSaveObject and below (rdbSavedObjectLen), so the value alone, without
its type byte, key, TTL or eviction data. A string is a length and its bytes, or 2, 3 or 5 bytes if it is an integer of 32 bits,
or LZF if it is longer than 20 bytes and that saves 4.
Differs: strings are compressed one by one from an empty table; see lzf.py.
Not modelled: modules.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from redsim.dataplane import layout as dp
from redsim.host.fork import ForkCosts
from redsim.redis.listpack import integer_of
from redsim.redis.lzf import lzf_length
from redsim.redis.object import HashTable, RedisObject
from redsim.redis.quicklist import Quicklist
from redsim.redis.t_stream import Group, Stream, StreamId, key_of
from redsim.scenario.monitor import bulk_bytes

__all__ = ["RdbFile", "Save", "len_length", "serialized_length", "stream_length", "string_length"]

_INTEGER_TEXT_BYTES_MAX = 11
_LZF_BYTES_ABOVE = 20
_LZF_SAVES_BYTES = 4
_ID_BYTES = 16
_TIME_BYTES = 8
_DOUBLE_BYTES = 8
_NODE_COUNT_BYTES = 1
_CONTAINER_BYTES = 1  # quicklist.h: plain or packed
_UNSIGNED = 1 << 64
_SET_BYTES = 13  # *3 $3 SET
_ITEMS_PER_CMD = 64  # server.h: AOF_REWRITE_ITEMS_PER_CMD
_PEXPIREAT_BYTES = 39  # *3 $9 PEXPIREAT and $13 of a time, without the key
EXPIRE_BYTES = 9  # RDB_OPCODE_EXPIRETIME_MS and a long
ENOMEM = "Can't save in background: fork: Cannot allocate memory"
NO_SPACE = "Write error saving DB on disk: No space left on device"
EMPTY_FILE_BYTES = 98  # magic, auxiliary fields, RESIZEDB, end, checksum: dump.rdb less its keys, 7.0.15


@dataclass(frozen=True, slots=True)
class RdbFile:
    """An RDB file of all there is: bytes, keys, bytes that LZF is tried on and the millionths it leaves of them. How well strings
    longer than 20 bytes compress, their data set says; an aggregate's elements are as long as those of one of mean size."""

    file_bytes: int
    keys: int
    tried_bytes: int
    left_ppm: int

    @classmethod
    def of(cls, world: Any) -> "RdbFile":
        """The file that a save would write now. `world`: a World, or its twin."""
        kv, kx, total, keys, tried, left = world.kv[:, 0], world.kx, EMPTY_FILE_BYTES, 0, 0, 0
        for data, row in zip(world.dataset, world.place, strict=True):
            mine = slice(int(data[dp.D_BASE]), int(data[dp.D_BASE] + data[dp.D_N]))
            is_there = kv[mine] != dp.NODATA
            count, lzf = int(is_there.sum()), int(row[dp.P_RDB_LZF])
            if count == 0:
                continue
            keys += count
            total += count * int(row[dp.P_RDB_FIXED])
            if data[dp.D_VOLATILE]:
                total += EXPIRE_BYTES * int((kx[mine][is_there] != 0).sum())
            if data[dp.D_STRING]:
                values, its_tried = _strings_length(kv[mine][is_there], lzf, is_counter=bool(data[dp.D_INT]))
            else:
                plain = int(world.ke[mine][is_there].astype(np.int64).sum()) * int(row[dp.P_RDB_EACH]) // 1024
                values, its_tried = (plain * lzf // 1_000_000, plain) if lzf else (plain, 0)
            total, tried, left = total + values, tried + its_tried, left + its_tried * lzf
        return cls(total, keys, tried, left // tried if tried else 1_000_000)

    @classmethod
    def commands(cls, world: Any) -> "RdbFile":
        """aof.c:rewriteAppendOnlyFileRio, without a preamble: a SET for each string, else commands of up to 64 elements."""
        kv, total, keys = world.kv[:, 0], 0, 0
        for data in world.dataset:
            mine = slice(int(data[dp.D_BASE]), int(data[dp.D_BASE] + data[dp.D_N]))
            is_there = kv[mine] != dp.NODATA
            count = int(is_there.sum())
            keys += count
            name, element = int(data[dp.D_KEYBULK]), bulk_bytes(int(data[dp.D_EBYTES]))
            if data[dp.D_STRING]:
                sizes, counts = np.unique(kv[mine][is_there], return_counts=True)
                values = sum(bulk_bytes(size) * n for size, n in zip(sizes.tolist(), counts.tolist(), strict=True))
                total += count * (_SET_BYTES + name) + values
            else:
                elements = world.ke[mine][is_there].astype(np.int64)
                total += int(elements.sum()) * element + int((-(-elements // _ITEMS_PER_CMD)).sum()) * (_SET_BYTES + name)
            if data[dp.D_VOLATILE]:
                total += (_PEXPIREAT_BYTES + name) * int((world.kx[mine][is_there] != 0).sum())
        return cls(total, keys, 0, 1_000_000)

    def cpu_ns(self, costs: ForkCosts) -> int:
        """What writing it takes of a CPU: per key, per byte written, per byte tried (text that compresses well takes 40 %)."""
        lzf_ps = costs.lzf_ps * (400_000 + 600_000 * self.left_ppm // 1_000_000) // 1_000_000
        return self.keys * costs.key_ns + (self.file_bytes * costs.byte_ps + self.tried_bytes * lzf_ps) // 1000


@dataclass(slots=True)
class Save:
    """One BGSAVE, SAVE or BGREWRITEAOF, or a fork for one that failed; times in ns, sizes in bytes.

    state    kind     "BGSAVE", "SAVE", "BGREWRITEAOF"
             because  who wanted it: the command, or a save point
             status   "" while it goes on, "ok", or what went wrong
    """

    kind: str
    because: str
    begun_ns: int
    fork_ns: int = 0
    rss_bytes: int = 0
    keys: int = 0
    file: RdbFile | None = None
    dirty: int = 0
    flushes: int = 0
    written_bytes: int = 0
    done_ns: int | None = None  # when it exited
    noticed_ns: int | None = None
    status: str = ""
    cow_bytes: int = 0
    incr_from: int = 0  # A_WRITTEN at the fork, of a rewrite
    on_over: Callable[["Save"], None] = lambda _save: None  # called when the child has been waited for
    drained: Any = None  # of one that goes to replicas' sockets: an event, when its pipe is empty

    @property
    def share(self) -> float:
        """How far it has come, 0 to 1."""
        return self.written_bytes / self.file.file_bytes if self.file is not None and self.file.file_bytes else 0.0

    def end(self, cow: str) -> tuple[list[str], bool | None]:
        """rdb.c:backgroundSaveDoneHandler: (lines of the log, rdb_last_bgsave_status, None: as it was), of a BGSAVE whose copied
        pages `cow` tells of."""
        if self.status == "ok" and self.drained is not None:
            return [cow, "Background RDB transfer terminated with success"], True
        if self.status == "ok":
            return ["DB saved on disk", cow, "Background saving terminated with success"], True
        if self.status == NO_SPACE:
            return [NO_SPACE, "Background saving error"], False
        if self.status.startswith("killed by the OOM"):
            return ["Background saving terminated by signal 9"], False
        return ["Background saving terminated by signal 10"], None


def _strings_length(sizes: Any, lzf: int, *, is_counter: bool) -> tuple[int, int]:
    """(bytes of values of these lengths in the file, bytes that LZF is tried on)."""
    total = tried = 0
    for size, count in zip(*(part.tolist() for part in np.unique(sizes, return_counts=True)), strict=True):
        if is_counter and size <= _INTEGER_TEXT_BYTES_MAX:
            total += count * (2 if size <= 2 else 3 if size <= 4 else 5)
            continue
        plain = len_length(size) + size
        if lzf and size > _LZF_BYTES_ABOVE:
            tried += count * size
            left = size * lzf // 1_000_000
            if left <= size - _LZF_SAVES_BYTES:
                plain = _lzf_length(left, size)
        total += count * plain
    return total, tried


def serialized_length(obj: RedisObject, version: str, *, rdbcompression: bool = True) -> int:
    """rdbSavedObjectLen of a value as `version` saves it, bytes.

    Exact but for hash tables and skiplists whose strings are longer than 20 bytes, which a real server compresses in the order of
    its buckets; there it is what an empty LZF table gives.
    """
    if obj.encoding == "int":
        return _integer_length(obj.value)
    if obj.encoding == "stream":
        return stream_length(obj.value, version, rdbcompression=rdbcompression)

    def strings(texts: Iterable[bytes]) -> int:
        return sum(string_length(text, rdbcompression=rdbcompression) for text in texts)

    if obj.encoding in ("embstr", "raw"):
        return strings([obj.value.text])
    if obj.encoding == "hashtable":
        table: HashTable = obj.value
        return (
            len_length(len(table.elements))
            + strings(table.elements)
            + strings(v for v in table.elements.values() if v is not None)
        )
    if obj.encoding == "skiplist":
        return len_length(len(obj.value.scores)) + strings(obj.value.scores) + _DOUBLE_BYTES * len(obj.value.scores)
    if obj.encoding == "quicklist":
        return _quicklist_length(obj.value, version, rdbcompression)
    is_list = obj.type == "list"  # 7.2 on: saved as a quicklist of one node
    return (_NODE_COUNT_BYTES + _CONTAINER_BYTES if is_list else 0) + strings([obj.value.encode()])


def _quicklist_length(value: Quicklist, version: str, rdbcompression: bool) -> int:
    """RDB_TYPE_LIST_QUICKLIST of 6.2; _2 since then, where each node says whether it is plain. Compressed nodes stay so."""
    total = len_length(len(value.nodes)) + (0 if version == "6.2" else _CONTAINER_BYTES * len(value.nodes))
    for at, node in enumerate(value.nodes):
        packed = node.compressed() if value.is_compressed(at) else b""
        if packed:
            total += _lzf_length(len(packed), node.size_bytes)
        else:
            total += string_length(node.data(), rdbcompression=rdbcompression)
    return total


def len_length(value: int) -> int:
    """rdbSaveLen: bytes that a count or length takes."""
    value %= _UNSIGNED
    if value < 1 << 6:
        return 1
    if value < 1 << 14:
        return 2
    return 5 if value < 1 << 32 else 9


def _integer_length(value: int) -> int:
    """rdbSaveLongLongAsStringObject."""
    for width, length in ((8, 2), (16, 3), (32, 5)):
        if -(1 << width - 1) <= value < 1 << width - 1:
            return length
    text_bytes = len(b"%d" % value)
    return len_length(text_bytes) + text_bytes


def string_length(data: bytes, *, rdbcompression: bool = True) -> int:
    """rdbSaveRawString."""
    value = integer_of(data) if len(data) <= _INTEGER_TEXT_BYTES_MAX else None
    if value is not None and -(1 << 31) <= value < 1 << 31:
        return _integer_length(value)
    if rdbcompression and len(data) > _LZF_BYTES_ABOVE:
        compressed_bytes = lzf_length(data, len(data) - _LZF_SAVES_BYTES)
        if compressed_bytes:
            return _lzf_length(compressed_bytes, len(data))
    return len_length(len(data)) + len(data)


def _lzf_length(compressed_bytes: int, size_bytes: int) -> int:
    """rdbSaveLzfBlob."""
    return 1 + len_length(compressed_bytes) + len_length(size_bytes) + compressed_bytes


def _id_length(stream_id: StreamId) -> int:
    return len_length(stream_id[0]) + len_length(stream_id[1])


def stream_length(stream: Stream, version: str, *, rdbcompression: bool = True) -> int:
    """RDB_TYPE_STREAM_LISTPACKS of 6.2, _2 of 7.0 (first and deleted IDs, counters), _3 since 7.2 (active times)."""
    total = len_length(len(stream.nodes)) + len_length(stream.length) + _id_length(stream.last_id)
    for node in stream.nodes:
        for data in (key_of(node.id), node.listpack()):
            total += string_length(data, rdbcompression=rdbcompression)
    if version != "6.2":
        total += _id_length(stream.first_id) + _id_length(stream.max_deleted_id) + len_length(stream.entries_added)
    total += len_length(len(stream.groups))
    for name, group in stream.groups.items():
        total += string_length(name, rdbcompression=rdbcompression) + _group_length(group, version, rdbcompression)
    return total


def _group_length(group: Group, version: str, rdbcompression: bool) -> int:
    total = _id_length(group.last_id) + (0 if version == "6.2" else len_length(group.entries_read))
    total += len_length(len(group.pel)) + (_ID_BYTES + _TIME_BYTES) * len(group.pel)
    total += sum(len_length(nack.delivery_count) for nack in group.pel.values())
    times_bytes = _TIME_BYTES if version in ("6.2", "7.0") else 2 * _TIME_BYTES
    total += len_length(len(group.consumers))
    for name, consumer in group.consumers.items():
        total += string_length(name, rdbcompression=rdbcompression) + times_bytes
        total += len_length(len(consumer.pel)) + _ID_BYTES * len(consumer.pel)
    return total
