"""Radix trees: how many nodes and bytes hold a set of keys.

Mirrors rax.c of Redis 6.2 to 7.4 and Valkey 8.0: a chain of bytes without a branch is one compressed node, a branch has a byte
and a pointer for each child, a key's node a pointer to its value. Which nodes there are follows from the keys alone, in whatever
order they came. abc, abd and abdx are five:

    ab -> c|d -> c: leaf, of abc
                 d: x, of abd -> leaf, of abdx

Differs: a tree that lost its last key keeps what its first node had grown to, a few ten bytes more than said here.
Not modelled: keys without a value; chains of 512 MiB and more, which take several nodes.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from redsim.host.malloc import Allocator

__all__ = ["Rax"]

_HEADER_BYTES = 24  # rax.h: rax, a pointer and two counts
_NODE_HEADER_BYTES = 4  # rax.h: raxNode, 29 bits of size and three flags
_POINTER_BYTES = 8


class Rax:
    """The tree of some different keys in order: `numele`, `numnodes` as rax.h has them."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.numele = len(keys)
        self._node_bytes = list(_nodes(keys))
        self.numnodes = len(self._node_bytes)

    def allocated_bytes(self, allocator: Allocator) -> int:
        """What the tree adds to used_memory, without its values."""
        return allocator.usable(_HEADER_BYTES) + sum(map(allocator.usable, self._node_bytes))


def _nodes(keys: Sequence[bytes]) -> Iterator[int]:
    """Bytes of each node."""
    open_ = [(0, len(keys), 0)]  # keys[low:high], which have `depth` bytes in common
    while open_:
        low, high, depth = open_.pop()
        is_key = low < high and len(keys[low]) == depth
        low += is_key
        if low == high:
            yield _node_bytes(0, 0, is_key)
        elif keys[low][depth] == keys[high - 1][depth]:
            chain = _in_common(keys[low], keys[high - 1]) - depth
            yield _node_bytes(chain, 1, is_key)
            open_.append((low, high, depth + chain))
        else:
            children = 0
            while low < high:
                until = keys[low][:depth] + bytes([keys[low][depth] + 1]) if keys[low][depth] < 255 else None
                after = high if until is None else bisect_left(keys, until, low, high)
                open_.append((low, after, depth + 1))
                low, children = after, children + 1
            yield _node_bytes(children, children, is_key)


def _in_common(first: bytes, last: bytes) -> int:
    """Length of the common prefix."""
    pairs = zip(first, last, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(last)))


def _node_bytes(length: int, children: int, is_key: bool) -> int:
    """rax.c:raxNodeCurrentLength."""
    padding_bytes = -(_NODE_HEADER_BYTES + length) % _POINTER_BYTES
    return _NODE_HEADER_BYTES + length + padding_bytes + _POINTER_BYTES * (children + is_key)
