"""Values as they stand in an RDB file: lengths, strings, and every type made of them.

Mirrors rdb.c:rdbLoadLenByRef, rdbGenericLoadStringObject, rdbLoadObject of Redis 7.4, all of rdb.h's types but zipmaps.
A part of rdb_read.py, which has the keys around them. Every loop takes at least a byte, so no length in a damaged file makes more
of it than the file is long (LZF: 132 times).
Not modelled: checks beyond what is needed to go on; Redis has more.
"""

import struct
from collections.abc import Callable
from mmap import mmap
from typing import Any

from redsim.redis import listpack, ziplist
from redsim.redis.listpack import integer_of
from redsim.redis.lzf import lzf_decompress
from redsim.redis.t_stream import STREAM_ITEM_FLAG_SAMEFIELDS, Consumer, Entry, Group, Nack, Node, Stream, StreamId

__all__ = ["READ_VALUE", "Damaged", "Reader", "Value"]

_LZF_EXPANDS_MAX = 132  # lzf_c.c: two bytes stand for at most MAX_REF, 264
_EMBSTR_BYTES_MAX = 44  # object.c: OBJ_ENCODING_EMBSTR_SIZE_LIMIT
_INTSET_HEADER_BYTES = 8
_PLAIN = 1  # quicklist.h: QUICKLIST_NODE_CONTAINER_PLAIN
_ID_BYTES = 16

Value = tuple[str, str, Any, list[int]]  # type, encoding, value, bytes of each block


class Damaged(ValueError):
    """The file cannot go on like this; the text says where and why."""


class Reader:
    """A position in the file, and what can be read at it."""

    def __init__(self, data: bytes | mmap, at: int) -> None:
        self.data, self.at, self.end = data, at, len(data)

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        start = self.at
        if count > self.end - start:
            raise Damaged(f"ends at byte {self.end}, in the middle of something that began at byte {start}")
        self.at = start + count
        return self.data[start : self.at]

    def byte(self) -> int:
        return self.take(1)[0]

    def integer(self, width: int, *, signed: bool = True) -> int:
        return int.from_bytes(self.take(width), "little", signed=signed)

    def double(self) -> float:
        return float(struct.unpack("<d", self.take(8))[0])

    def text_double(self) -> float:
        """rdbLoadDoubleValue: a score as it was written before version 8."""
        length = self.byte()
        if length >= 253:
            return {253: float("nan"), 254: float("inf"), 255: float("-inf")}[length]
        start, text = self.at, self.take(length)
        return _score(text, start)

    def _length_or_encoding(self) -> tuple[int, bool]:
        """rdbLoadLenByRef: (length, False) or (kind of encoding, True)."""
        first = self.byte()
        if first < 0x40:
            return first, False
        if first < 0x80:
            return (first & 0x3F) << 8 | self.byte(), False
        if first == 0x80:
            return int.from_bytes(self.take(4), "big"), False
        if first == 0x81:
            return int.from_bytes(self.take(8), "big"), False
        if first < 0xC0:
            raise Damaged(f"byte {self.at - 1}: {first:#x} is no length")
        return first & 0x3F, True

    def length(self) -> int:
        start = self.at
        value, is_encoding = self._length_or_encoding()
        if is_encoding:
            raise Damaged(f"byte {start}: an encoded value stands where a length was due")
        return value

    def signed_length(self) -> int:
        """One that may be -1, "not known"."""
        value = self.length()
        return value - (1 << 64) if value >= 1 << 63 else value

    def lengths(self, count: int) -> list[int]:
        return [self.length() for _ in range(count)]

    def string(self) -> bytes:
        """rdbGenericLoadStringObject; an integer comes as its text."""
        start = self.at
        value, is_encoding = self._length_or_encoding()
        if not is_encoding:
            return self.take(value)
        if value < 3:
            return b"%d" % self.integer(1 << value)
        if value != 3:
            raise Damaged(f"byte {start}: {value} is no kind of string")
        compressed_bytes, size_bytes = self.lengths(2)
        compressed = self.take(compressed_bytes)
        if size_bytes <= _LZF_EXPANDS_MAX * compressed_bytes:
            try:
                return lzf_decompress(compressed, size_bytes)
            except ValueError as error:
                raise Damaged(f"byte {start}: the string there {error}") from None
        raise Damaged(f"byte {start}: {compressed_bytes} bytes cannot stand for {size_bytes}")

    def module_name(self) -> str:
        """module.c:moduleTypeNameByID: nine characters of six bits; the rest is a version."""
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        number = self.length()
        return "".join(letters[number >> 10 + 6 * i & 63] for i in reversed(range(9)))

    def skip_module(self) -> None:
        """rdb.c:rdbLoadCheckModuleValue: pairs of a kind and a value, ended by 0."""
        while kind := self.length():
            if kind in (1, 2):
                self.length()
            elif kind in (3, 4):
                self.take(4 if kind == 3 else 8)
            elif kind == 5:
                self.string()
            else:
                raise Damaged(f"byte {self.at}: {kind} is no kind of a module's value")


# ---- types -------------------------------------------------------------------------------------------------------------------


def _string(reader: Reader) -> Value:
    data = reader.string()
    value = integer_of(data)
    encoding = "int" if value is not None else "embstr" if len(data) <= _EMBSTR_BYTES_MAX else "raw"
    return "string", encoding, data, []


def _plain_list(reader: Reader) -> Value:
    return "list", "quicklist", [reader.string() for _ in range(reader.length())], []


def _set(reader: Reader) -> Value:
    return "set", "hashtable", [reader.string() for _ in range(reader.length())], []


def _hash(reader: Reader) -> Value:
    return "hash", "hashtable", [(reader.string(), reader.string()) for _ in range(reader.length())], []


def _zset(score: Callable[[Reader], float]) -> Callable[[Reader], Value]:
    return lambda reader: ("zset", "skiplist", [(reader.string(), score(reader)) for _ in range(reader.length())], [])


def _hash_with_ttls(*, starts_with_time: bool) -> Callable[[Reader], Value]:
    """RDB_TYPE_HASH_METADATA: a TTL before each field."""

    def read(reader: Reader) -> Value:
        if starts_with_time:
            reader.integer(8)
        triples = [(reader.length(), reader.string(), reader.string()) for _ in range(reader.length())]
        return "hash", "hashtable", [(name, value) for _, name, value in triples], []

    return read


def _packed(reader: Reader, encoding: str) -> tuple[list[bytes], int]:
    """The elements of the block at the reader, and its bytes."""
    start, data = reader.at, reader.string()
    read = listpack.read if encoding == "listpack" else ziplist.read
    try:
        elements = [element if isinstance(element, bytes) else b"%d" % element for element, _ in read(data)]
    except ValueError as error:
        raise Damaged(f"byte {start}: the block there {error}") from None
    return elements, len(data)


def _intset(reader: Reader) -> Value:
    start, data = reader.at, reader.string()
    width, count = int.from_bytes(data[:4], "little"), int.from_bytes(data[4:8], "little")
    if width not in (2, 4, 8) or len(data) != _INTSET_HEADER_BYTES + width * count:
        raise Damaged(f"byte {start}: the block there is no intset")
    at = range(_INTSET_HEADER_BYTES, len(data), width)
    members = [b"%d" % int.from_bytes(data[i : i + width], "little", signed=True) for i in at]
    return "set", "intset", members, [len(data)]


def _packed_value(kind: str, encoding: str) -> Callable[[Reader], Value]:
    """One block: a list or set, pairs of a hash or sorted set."""

    def read(reader: Reader) -> Value:
        start = reader.at
        elements, size_bytes = _packed(reader, encoding)
        if kind in ("list", "set"):
            return kind, encoding, elements, [size_bytes]
        if len(elements) % 2:
            raise Damaged(f"byte {start}: the {kind} there has a field without a value")
        pairs: list[tuple[bytes, Any]] = list(zip(elements[::2], elements[1::2], strict=True))
        if kind == "zset":
            pairs = [(member, _score(text, start)) for member, text in pairs]
        return kind, encoding, pairs, [size_bytes]

    return read


def _score(text: bytes, start: int) -> float:
    try:
        return float(text)
    except ValueError:
        raise Damaged(f"byte {start}: {text[:40]!r} is no score") from None


def _hash_listpack_with_ttls(*, starts_with_time: bool) -> Callable[[Reader], Value]:
    """RDB_TYPE_HASH_LISTPACK_EX: field, value and TTL in turn."""

    def read(reader: Reader) -> Value:
        if starts_with_time:
            reader.integer(8)
        start = reader.at
        elements, size_bytes = _packed(reader, "listpack")
        if len(elements) % 3:
            raise Damaged(f"byte {start}: the hash there has a field without a TTL")
        return "hash", "listpack", list(zip(elements[::3], elements[1::3], strict=True)), [size_bytes]

    return read


def _quicklist(encoding: str) -> Callable[[Reader], Value]:
    """RDB_TYPE_LIST_QUICKLIST of ziplists, RDB_TYPE_LIST_QUICKLIST_2 of listpacks and single large elements."""

    def read(reader: Reader) -> Value:
        values: list[bytes] = []
        blocks: list[int] = []
        for _ in range(reader.length()):
            if encoding == "listpack" and reader.length() == _PLAIN:
                values.append(reader.string())
                blocks.append(len(values[-1]))
            else:
                elements, size_bytes = _packed(reader, encoding)
                values += elements
                blocks.append(size_bytes)
        return "list", "quicklist", values, blocks if encoding == "listpack" else []

    return read


# ---- streams -----------------------------------------------------------------------------------------------------------------


def _stream(version: int) -> Callable[[Reader], Value]:
    """RDB_TYPE_STREAM_LISTPACKS (1) to _3."""

    def read(reader: Reader) -> Value:
        stream = Stream()
        for _ in range(reader.length()):
            stream.nodes.append(_stream_node(reader))
        stream.length = reader.length()
        stream.last_id = _id(reader)
        stream.entries_added = stream.length
        if version > 1:
            stream.first_id, stream.max_deleted_id = _id(reader), _id(reader)
            stream.entries_added = reader.length()
        for _ in range(reader.length()):
            name = reader.string()
            stream.groups[name] = _group(reader, version)
        return "stream", "stream", stream, [node.requested_bytes for node in stream.nodes]

    return read


def _id(reader: Reader) -> StreamId:
    return reader.length(), reader.length()


def _raw_id(data: bytes) -> StreamId:
    return int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big")


def _stream_node(reader: Reader) -> Node:
    start, key, data = reader.at, reader.string(), reader.string()
    if len(key) != _ID_BYTES:
        raise Damaged(f"byte {start}: {len(key)} bytes are no ID of a stream's node")
    try:
        return _node(_raw_id(key), data)
    except (ValueError, StopIteration):
        raise Damaged(f"byte {start}: the block there is no node of a stream") from None


def _node(node_id: StreamId, data: bytes) -> Node:
    """A node from its listpack; ValueError or StopIteration where that does not have the elements it should."""
    elements = listpack.read(data)

    def number() -> tuple[int, int]:
        element, end = next(elements)
        if not isinstance(element, int):
            raise ValueError("is text where a number is due")
        return element, end

    live_count, deleted_count, field_count = number()[0], number()[0], number()[0]
    names = [next(elements)[0] for _ in range(field_count)]
    at = number()[1]
    node = Node(node_id, tuple(name if isinstance(name, bytes) else b"%d" % name for name in names), len(data))
    for _ in range(live_count + deleted_count):
        start = at
        flags, ms, seq = number()[0], number()[0], number()[0]
        count = field_count if flags & STREAM_ITEM_FLAG_SAMEFIELDS else 2 * number()[0]
        for _ in range(count):
            next(elements)
        element_count, at = number()
        node.take(Entry((node_id[0] + ms, node_id[1] + seq), bytearray(data[start:at]), element_count + 1))
    node.live_count, node.deleted_count = live_count, deleted_count
    return node


def _group(reader: Reader, version: int) -> Group:
    group = Group(_id(reader))
    if version > 1:
        group.entries_read = reader.signed_length()
    delivered = [(_raw_id(reader.take(_ID_BYTES)), reader.integer(8), reader.length()) for _ in range(reader.length())]
    for _ in range(reader.length()):
        name = reader.string()
        consumer = Consumer(seen_time_ms=reader.integer(8))
        if version > 2:
            consumer.active_time_ms = reader.integer(8)
        consumer.pel = {_raw_id(reader.take(_ID_BYTES)) for _ in range(reader.length())}
        group.consumers[name] = consumer
    holders = {stream_id: name for name, consumer in group.consumers.items() for stream_id in consumer.pel}
    group.pel = {stream_id: Nack(holders.get(stream_id, b""), time, count) for stream_id, time, count in delivered}
    return group


READ_VALUE: dict[int, Callable[[Reader], Value]] = {  # rdb.h: RDB_TYPE_...
    0: _string,
    1: _plain_list,
    2: _set,
    3: _zset(Reader.text_double),
    4: _hash,
    5: _zset(Reader.double),
    10: _packed_value("list", "ziplist"),
    11: _intset,
    12: _packed_value("zset", "ziplist"),
    13: _packed_value("hash", "ziplist"),
    14: _quicklist("ziplist"),
    15: _stream(1),
    16: _packed_value("hash", "listpack"),
    17: _packed_value("zset", "listpack"),
    18: _quicklist("listpack"),
    19: _stream(2),
    20: _packed_value("set", "listpack"),
    21: _stream(3),
    22: _hash_with_ttls(starts_with_time=False),
    23: _hash_listpack_with_ttls(starts_with_time=False),
    24: _hash_with_ttls(starts_with_time=True),
    25: _hash_listpack_with_ttls(starts_with_time=True),
}
