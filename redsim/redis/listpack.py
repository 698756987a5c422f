"""Listpacks: small hashes, sets, sorted sets, list nodes and stream nodes in one block of bytes.

Mirrors listpack.c of Redis 7.0 (6.2 has it for streams only):

    total bytes, 4 | elements, 2 | element: encoding and data, backward length | ... | 0xFF

What looks like a 64-bit integer is stored as one. A `Listpack`'s block fits its bytes: each insertion and deletion reallocates,
and growth inside the block's slack leaves the same size class. Not modelled: stream nodes, which are allocated ahead (t_stream).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

__all__ = ["HEADER_BYTES", "Listpack", "encode", "entry_bytes", "integer_of", "listpack", "read", "repeated_integer_bytes"]

HEADER_BYTES = 6  # listpack.c: LP_HDR_SIZE; 0xFF at the end comes on top
EMPTY_BYTES = HEADER_BYTES + 1
_EOF = 0xFF
_UNKNOWN_COUNT = 0xFFFF
_MINUS = ord("-")
_ONE_BYTE = [bytes([value]) for value in range(128)]
_BY_WIDTH = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}  # listpack.c: LP_ENCODING_16BIT_INT and its larger kin


def integer_of(text: bytes) -> int | None:
    """The integer that `text` is the one way to write, if it has 64 bits at most (util.c:string2ll); else None."""
    if not 0 < len(text) <= 20 or not (text.isdigit() or (text[0] == _MINUS and text[1:].isdigit())):
        return None
    value = int(text)
    return value if b"%d" % value == text and -(1 << 63) <= value < 1 << 63 else None


def encode(element: bytes | int) -> bytes:
    """One element as it stands in a listpack (lpEncodeGetType, lpEncodeBacklen); an int and its text are the same."""
    value = element if isinstance(element, int) else integer_of(element)
    if value is not None:
        data = _integer(value)
    else:
        assert isinstance(element, bytes)
        data = _string_header(len(element)) + element
    return data + (_ONE_BYTE[len(data)] if len(data) <= 127 else _backward_length(len(data)))


def _integer(value: int) -> bytes:
    if 0 <= value < 128:
        return _ONE_BYTE[value]
    if -4096 <= value < 4096:
        return (0xC000 | value & 0x1FFF).to_bytes(2, "big")
    tag, width = next((tag, width) for tag, width in _BY_WIDTH.items() if -(1 << 8 * width - 1) <= value < 1 << 8 * width - 1)
    return bytes([tag]) + value.to_bytes(width, "little", signed=True)


def _string_header(length: int) -> bytes:
    if length < 64:
        return bytes((0x80 | length,))
    if length < 4096:
        return (0xE000 | length).to_bytes(2, "big")
    return b"\xf0" + length.to_bytes(4, "little")


def _backward_length(length: int) -> bytes:
    """lpEncodeBacklen: groups of seven bits, to be read from the right; 16,383 takes three of them already."""
    groups = 1 if length <= 127 else next(n for n in range(2, 6) if n == 5 or length < (1 << 7 * n) - 1)
    return bytes((length >> 7 * k & 127) | (128 if k < groups - 1 else 0) for k in range(groups - 1, -1, -1))


def listpack(elements: Iterable[bytes], count: int) -> bytes:
    """A whole listpack of `count` elements that `encode` made."""
    body = b"".join(elements)
    total_bytes = HEADER_BYTES + len(body) + 1
    return total_bytes.to_bytes(4, "little") + min(count, _UNKNOWN_COUNT).to_bytes(2, "little") + body + bytes([_EOF])


def read(data: bytes) -> Iterator[tuple[bytes | int, int]]:
    """Each element and the offset it ends at; ValueError where `data` is no listpack."""
    if len(data) < HEADER_BYTES + 1 or int.from_bytes(data[:4], "little") != len(data) or data[-1] != _EOF:
        raise ValueError("is no listpack")
    at, end = HEADER_BYTES, len(data) - 1
    while at < end:
        element, size = _decode(data, at)
        at += size + len(_backward_length(size))
        if at > end:
            raise ValueError("is a listpack whose last element has no end")
        yield element, at


def _decode(data: bytes, at: int) -> tuple[bytes | int, int]:
    """(element, bytes of its encoding and data) at `at`."""
    tag = data[at]
    if tag < 0x80:
        return tag, 1
    if tag < 0xC0:
        return data[at + 1 : at + 1 + (tag & 0x3F)], 1 + (tag & 0x3F)
    if tag < 0xE0:
        value = (tag & 0x1F) << 8 | data[at + 1]
        return value - (0x2000 if value & 0x1000 else 0), 2
    if tag < 0xF0:
        length = (tag & 0x0F) << 8 | data[at + 1]
        return data[at + 2 : at + 2 + length], 2 + length
    if tag == 0xF0:
        length = int.from_bytes(data[at + 1 : at + 5], "little")
        return data[at + 5 : at + 5 + length], 5 + length
    if tag not in _BY_WIDTH:
        raise ValueError(f"is a listpack with an element of the unknown kind {tag:#x}")
    width = _BY_WIDTH[tag]
    return int.from_bytes(data[at + 1 : at + 1 + width], "little", signed=True), 1 + width


# ---- a small collection ------------------------------------------------------------------------------------------------------


def _integer_bytes(value: int) -> int:
    if 0 <= value < 128:
        return 1
    if -4096 <= value < 4096:
        return 2
    return 1 + next(width for width in _BY_WIDTH.values() if -(1 << 8 * width - 1) <= value < 1 << 8 * width - 1)


def entry_bytes(element: bytes) -> int:
    """`len(encode(element))`, without making it.

    >>> entry_bytes(b"100"), entry_bytes(b"hello"), entry_bytes(b"x" * 64)
    (2, 7, 67)
    """
    value = integer_of(element)
    size = len(element) + len(_string_header(len(element))) if value is None else _integer_bytes(value)
    return size + (1 if size <= 127 else len(_backward_length(size)))


def repeated_integer_bytes(value: int, count: int) -> int:
    """lpEstimateBytesRepeatedInteger: what `count` integers as wide as `value` take."""
    return entry_bytes(b"%d" % value) * count


@dataclass(slots=True)
class Listpack:
    """Elements in order (a pair is two), and the bytes they take."""

    entries: list[bytes] = field(default_factory=list)
    size_bytes: int = EMPTY_BYTES

    @classmethod
    def of(cls, entries: Iterable[bytes]) -> "Listpack":
        made = cls(list(entries))
        made.size_bytes += sum(map(entry_bytes, made.entries))
        return made

    def insert(self, at: int, element: bytes) -> None:
        self.entries.insert(at, element)
        self.size_bytes += entry_bytes(element)

    def append(self, element: bytes) -> None:
        self.insert(len(self.entries), element)

    def delete_range(self, first: int, count: int) -> None:
        """lpDeleteRange."""
        self.size_bytes -= sum(map(entry_bytes, self.entries[first : first + count]))
        del self.entries[first : first + count]

    def encode(self) -> bytes:
        """The block, byte for byte."""
        return listpack(map(encode, self.entries), len(self.entries))
