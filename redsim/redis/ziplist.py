"""Ziplists: what 6.2 keeps small hashes, sorted sets and list nodes in.

Mirrors ziplist.c:zipTryEncoding, zipStoreEntryEncoding, __ziplistInsert and __ziplistDelete (6.2.16):

    total bytes, 4 | offset of the last entry, 4 | entries, 2 | entry ... | 0xFF
    entry: bytes of the one before, 1 or 5 | encoding | data

The field for the length before an entry takes 5 bytes once that is 254 or more; a deletion narrows only the field behind it.
Not modelled: inserting so short an entry that its neighbour would need more room while the block shrinks.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from redsim.redis.listpack import integer_of

__all__ = ["Ziplist", "read"]

EMPTY_BYTES = 4 + 4 + 2 + 1  # ZIPLIST_HEADER_SIZE and ZIP_END
_BIG_PREVIOUS_BYTES = 254  # ZIP_BIG_PREVLEN
_FORCE_LARGE_BELOW_BYTES = 4  # __ziplistInsert: so short an entry leaves the next one's field at 5 bytes
_INTEGER_TEXT_MAX = 31  # zipTryEncoding looks at no longer text
_WIDTHS = ((0xFE, 1), (0xC0, 2), (0xF0, 3), (0xD0, 4), (0xE0, 8))  # ZIP_INT_8B, 16B, 24B, 32B, 64B


def _body(element: bytes) -> bytes:
    """Encoding and data, without the field for the entry before."""
    value = integer_of(element) if len(element) <= _INTEGER_TEXT_MAX else None
    if value is not None:
        if 0 <= value <= 12:
            return bytes([0xF1 + value])
        tag, width = next((tag, width) for tag, width in _WIDTHS if -(1 << 8 * width - 1) <= value < 1 << 8 * width - 1)
        return bytes([tag]) + value.to_bytes(width, "little", signed=True)
    if len(element) < 1 << 6:
        return bytes([len(element)]) + element
    if len(element) < 1 << 14:
        return (0x4000 | len(element)).to_bytes(2, "big") + element
    return b"\x80" + len(element).to_bytes(4, "big") + element


def _body_bytes(element: bytes) -> int:
    if len(element) <= _INTEGER_TEXT_MAX:
        return len(_body(element))
    return len(element) + (1 if len(element) < 1 << 6 else 2 if len(element) < 1 << 14 else 5)


@dataclass(slots=True)
class Ziplist:
    """Elements in order (a pair is two), and the bytes they take: what ziplistBlobLen answers."""

    entries: list[bytes] = field(default_factory=list)
    size_bytes: int = EMPTY_BYTES
    _fields: list[int] = field(default_factory=list)  # bytes of each entry's field for the one before

    @classmethod
    def of(cls, entries: Iterable[bytes]) -> "Ziplist":
        made = cls()
        for element in entries:
            made.append(element)
        return made

    def insert(self, at: int, element: bytes) -> None:
        """__ziplistInsert; the fields behind grow as long as the entry before each one did."""
        self.entries.insert(at, element)
        self._fields.insert(at, self._field_bytes(at))
        self.size_bytes += self._entry_bytes(at)
        for place in range(at + 1, len(self.entries)):
            wanted, was = self._field_bytes(place), self._fields[place]
            may_shrink = place == at + 1 and self._entry_bytes(at) >= _FORCE_LARGE_BELOW_BYTES
            if wanted == was or (wanted < was and not may_shrink):
                break
            self._set_field(place, wanted)

    def append(self, element: bytes) -> None:
        self.insert(len(self.entries), element)

    def delete_range(self, first: int, count: int) -> None:
        """__ziplistDelete: the entry behind gets the field it needs, those further on keep theirs or grow."""
        self.size_bytes -= sum(self._entry_bytes(at) for at in range(first, min(first + count, len(self.entries))))
        del self.entries[first : first + count]
        del self._fields[first : first + count]
        if first < len(self.entries):
            self._set_field(first, self._field_bytes(first))

    def encode(self) -> bytes:
        """The block, byte for byte."""
        parts, before = [], 0
        for width, element in zip(self._fields, self.entries, strict=True):
            front = bytes([before]) if width == 1 else b"\xfe" + before.to_bytes(4, "little")
            parts.append(front + _body(element))
            before = len(parts[-1])
        data = b"".join(parts)
        tail = EMPTY_BYTES - 1 + len(data) - before
        head = (EMPTY_BYTES + len(data)).to_bytes(4, "little") + tail.to_bytes(4, "little")
        return head + min(len(self.entries), 0xFFFF).to_bytes(2, "little") + data + b"\xff"

    def _entry_bytes(self, at: int) -> int:
        return self._fields[at] + _body_bytes(self.entries[at])

    def _field_bytes(self, at: int) -> int:
        return 1 if at == 0 or self._entry_bytes(at - 1) < _BIG_PREVIOUS_BYTES else 5

    def _set_field(self, at: int, width: int) -> None:
        self.size_bytes += width - self._fields[at]
        self._fields[at] = width


def read(data: bytes) -> Iterator[tuple[bytes | int, int]]:
    """Each element and the offset it ends at; ValueError where `data` is no ziplist."""
    if len(data) < EMPTY_BYTES or int.from_bytes(data[:4], "little") != len(data) or data[-1] != 0xFF:
        raise ValueError("is no ziplist")
    at, end = EMPTY_BYTES - 1, len(data) - 1
    while at < end:
        body_at = at + (5 if data[at] >= _BIG_PREVIOUS_BYTES else 1)
        if body_at >= end:
            raise ValueError("is a ziplist whose last element has no end")
        element, size = _decode(data, body_at)
        at = body_at + size
        if at > end:
            raise ValueError("is a ziplist whose last element has no end")
        yield element, at


def _decode(data: bytes, at: int) -> tuple[bytes | int, int]:
    """(element, bytes of its encoding and data) at `at`."""
    tag = data[at]
    if tag < 0xC0:
        width = (1, 2, 5)[tag >> 6]
        length = int.from_bytes(data[at + 1 : at + 5], "big") if width == 5 else int.from_bytes(data[at : at + width], "big")
        length &= 0xFFFFFFFF if width == 5 else (1 << 8 * width - 2) - 1
        return data[at + width : at + width + length], width + length
    for known, width in _WIDTHS:
        if tag == known:
            return int.from_bytes(data[at + 1 : at + 1 + width], "little", signed=True), 1 + width
    if 0xF1 <= tag <= 0xFD:
        return tag - 0xF1, 1
    raise ValueError(f"is a ziplist with an element of the unknown kind {tag:#x}")
