"""Sets of integers: sorted, all as wide as the widest one ever put in.

Mirrors intset.c:intsetAdd, intsetRemove, intsetUpgradeAndAdd (6.2 to 7.4, Valkey 8.0): an 8-byte header, then 2, 4 or 8 bytes
each; the block is reallocated to fit at every change, and never becomes narrower again.
Not modelled: nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Intset"]

HEADER_BYTES = 8  # intset.h: encoding and length


def _width_bytes(value: int) -> int:
    return next(width for width in (2, 4, 8) if -(1 << 8 * width - 1) <= value < 1 << 8 * width - 1)


@dataclass(slots=True)
class Intset:
    """The members, unordered here; `encode` sorts them."""

    members: set[int] = field(default_factory=set)
    width_bytes: int = 2

    @classmethod
    def of(cls, members: Iterable[int]) -> "Intset":
        made = cls()
        for value in members:
            made.add(value)
        return made

    def add(self, value: int) -> None:
        self.members.add(value)
        self.width_bytes = max(self.width_bytes, _width_bytes(value))

    def remove(self, value: int) -> None:
        self.members.discard(value)

    @property
    def size_bytes(self) -> int:
        return HEADER_BYTES + self.width_bytes * len(self.members)

    def encode(self) -> bytes:
        """The block, byte for byte."""
        head = self.width_bytes.to_bytes(4, "little") + len(self.members).to_bytes(4, "little")
        return head + b"".join(value.to_bytes(self.width_bytes, "little", signed=True) for value in sorted(self.members))
