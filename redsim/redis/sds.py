"""A dynamic string as Redis allocates it: header, text, NUL, and the room greedy growth leaves behind.

Mirrors sds.c:sdsnewlen, _sdsMakeRoomFor, sdsResize and sdsgrowzero (6.2.16 to 7.4) and sds.h's five headers; Valkey 8.0 goes to
the next header a few bytes earlier, so that a header can always count its whole block (sdsReqType, adjustTypeIfNeeded).
Not modelled: sdshdr64 (strings of 4 GiB and more have its size here, but nothing else is made of them).
"""

from dataclasses import dataclass

from redsim.redis.config import Rules
from redsim.units import MIB

__all__ = ["Sds", "append", "grow_zero", "header_bytes", "make_room_for", "resize", "sds_bytes", "shorten_to_fit", "usable_bytes"]

SDS_MAX_PREALLOC_BYTES = MIB  # sds.h
_HEADERS = ((1 << 5, 1), (1 << 8, 3), (1 << 16, 5), (1 << 32, 9), (1 << 63, 17))  # sds.h: text below ... bytes, header bytes
_VALKEY_HEADERS = ((1 << 5, 1), *((below - header, header) for below, header in _HEADERS[1:]))
_TEXT_BYTES_MAX = {1: (1 << 5) - 1, 3: (1 << 8) - 1, 5: (1 << 16) - 1, 9: (1 << 32) - 1, 17: (1 << 63) - 1}  # sdsTypeMaxSize
_GROWING_HEADER_BYTES = 3  # sdshdr8: sdshdr5 cannot remember free room


def header_bytes(text_bytes: int, rules: Rules) -> int:
    """sds.c:sdsReqType as the size of that header."""
    return next(size for below, size in (_VALKEY_HEADERS if rules.is_valkey else _HEADERS) if text_bytes < below)


def sds_bytes(text_bytes: int, rules: Rules) -> int:
    """What sdsnewlen asks the allocator for; an empty string gets sdshdr8, as it is about to grow."""
    return (header_bytes(text_bytes, rules) if text_bytes else _GROWING_HEADER_BYTES) + text_bytes + 1


def usable_bytes(text_bytes: int, rules: Rules) -> int:
    """sds.c:sdsZmallocSize, in Valkey sdsAllocSize, of a string nobody appended to.

    >>> from redsim.redis.config import rules
    >>> usable_bytes(16, rules("7.0")), usable_bytes(32, rules("7.0"))
    (24, 40)
    """
    known = rules.usable_by_length
    if text_bytes not in known:
        known[text_bytes] = rules.allocator.usable(sds_bytes(text_bytes, rules))
    return known[text_bytes]


@dataclass(slots=True)
class Sds:
    """One string: its text, its header, `alloc_bytes` as sdsalloc() says, and the whole block."""

    text: bytes
    header_bytes: int
    alloc_bytes: int
    block_bytes: int

    @classmethod
    def of(cls, text: bytes, rules: Rules, room_bytes: int | None = None) -> "Sds":
        """sdsnewlen(text); with `room_bytes`, one made for that many bytes of which `text` is now the start."""
        made_for = len(text) if room_bytes is None else room_bytes
        header = sds_bytes(made_for, rules) - made_for - 1
        block = rules.allocator.usable(sds_bytes(made_for, rules))
        alloc = made_for if header == 1 else min(block - header - 1, _TEXT_BYTES_MAX[header])
        return cls(text, header, alloc, block)

    @property
    def available_bytes(self) -> int:
        return self.alloc_bytes - len(self.text)


def make_room_for(sds: Sds, more_bytes: int, rules: Rules) -> None:
    """_sdsMakeRoomFor, greedy: twice what is needed, above 1 MiB one MiB more."""
    if sds.available_bytes >= more_bytes:
        return
    wanted = len(sds.text) + more_bytes
    wanted += min(wanted, SDS_MAX_PREALLOC_BYTES)
    sds.header_bytes = max(header_bytes(wanted, rules), _GROWING_HEADER_BYTES)
    sds.block_bytes = rules.allocator.usable(sds.header_bytes + wanted + 1)
    sds.alloc_bytes = min(sds.block_bytes - sds.header_bytes - 1, _TEXT_BYTES_MAX[sds.header_bytes])


def append(sds: Sds, text: bytes, rules: Rules) -> None:
    """sdscatlen."""
    make_room_for(sds, len(text), rules)
    sds.text += text


def grow_zero(sds: Sds, text_bytes: int, rules: Rules) -> None:
    """sdsgrowzero: zeros up to `text_bytes`, if it is not that long yet."""
    if text_bytes > len(sds.text):
        append(sds, bytes(text_bytes - len(sds.text)), rules)


def resize(sds: Sds, rules: Rules) -> None:
    """sdsRemoveFreeSpace: the block fits the text; a header above sdshdr8 stays, as moving the text would cost more."""
    if sds.alloc_bytes == len(sds.text):
        return
    least = header_bytes(len(sds.text), rules)
    if not (least < sds.header_bytes and least > _GROWING_HEADER_BYTES):
        sds.header_bytes = least
    sds.block_bytes = rules.allocator.usable(sds.header_bytes + len(sds.text) + 1)
    sds.alloc_bytes = sds.block_bytes - sds.header_bytes - 1 if rules.is_valkey else len(sds.text)


def shorten_to_fit(sds: Sds, rules: Rules) -> None:
    """object.c:trimStringObjectIfNeeded: free room is given back if it is more than a tenth of the text."""
    if sds.available_bytes > len(sds.text) // 10:
        resize(sds, rules)
