"""Lists: a chain of small blocks, each filled up to list-max-listpack-size.

Mirrors quicklist.c:quicklistPushHead, _quicklistNodeAllowInsert, quicklistNodeExceedsLimit, quicklistDelRange, quicklistPush and
__quicklistCompress (6.2.16 to 7.4.1, Valkey 8.0.1): a push goes into the end's node if an estimate of its new size says so; nodes
deeper than list-compress-depth from both ends are LZF-compressed if that saves 8 bytes at least. A node that loses elements is
not merged with its neighbours.
Differs: which nodes are compressed is read off the final list; Redis decompresses and compresses them as it goes, to the same
end. Not modelled: 6.2's LPOP with a count, which leaves a compressed node that it ends in compressed though it now is the head;
LINSERT, LSET and LREM in the middle of a list, which split and merge nodes; plain nodes of 1 GiB before 7.4.
"""

from dataclasses import dataclass, field

from redsim.redis.config import Rules
from redsim.redis.listpack import Listpack
from redsim.redis.lzf import lzf_compress
from redsim.redis.ziplist import Ziplist
from redsim.units import KIB

__all__ = ["Quicklist", "QuicklistNode", "exceeds_limit", "node_limits"]

OPTIMIZATION_LEVEL_BYTES = (4 * KIB, 8 * KIB, 16 * KIB, 32 * KIB, 64 * KIB)  # quicklist.c: for -1 .. -5
SIZE_SAFETY_LIMIT_BYTES = 8 * KIB
SIZE_ESTIMATE_OVERHEAD_BYTES = 8
MIN_COMPRESS_BYTES = 48
MIN_COMPRESS_IMPROVE_BYTES = 8
_UNLIMITED = 1 << 62


def node_limits(fill: int) -> tuple[int, int]:
    """quicklistNodeLimit: (bytes, elements) a node may have; one of them has no limit."""
    if fill >= 0:
        return _UNLIMITED, max(1, fill)
    return OPTIMIZATION_LEVEL_BYTES[min(-fill, 5) - 1], _UNLIMITED


def exceeds_limit(fill: int, size_bytes: int, count: int) -> bool:
    """quicklistNodeExceedsLimit; where elements are limited, 8 KiB are a limit too."""
    most_bytes, most_count = node_limits(fill)
    if fill < 0:
        return size_bytes > most_bytes
    return size_bytes > SIZE_SAFETY_LIMIT_BYTES or count > most_count


@dataclass(slots=True)
class QuicklistNode:
    """A node: its block, or the one element too large for one (7.4 on); compressed when the list has settled."""

    block: Listpack | Ziplist
    plain: bytes | None = None

    @property
    def size_bytes(self) -> int:
        """quicklistNode.sz: uncompressed."""
        return self.block.size_bytes if self.plain is None else len(self.plain)

    def elements(self) -> list[bytes]:
        return self.block.entries if self.plain is None else [self.plain]

    def data(self) -> bytes:
        """What lies there when it is not compressed."""
        return self.block.encode() if self.plain is None else self.plain

    def compressed(self) -> bytes:
        """__quicklistCompressNode: the LZF bytes, or b"" where they are not worth it."""
        if self.size_bytes < MIN_COMPRESS_BYTES:
            return b""
        packed = lzf_compress(self.data(), self.size_bytes)
        return packed if packed and len(packed) + MIN_COMPRESS_IMPROVE_BYTES < self.size_bytes else b""


@dataclass(slots=True)
class Quicklist:
    """The nodes from head to tail."""

    rules: Rules
    nodes: list[QuicklistNode] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(len(node.elements()) for node in self.nodes)

    def push(self, element: bytes, *, at_head: bool) -> None:
        """quicklistPush."""
        if self._is_large(element):
            self._add(QuicklistNode(self.block([]), plain=element), at_head)
            return
        node = self.nodes[0 if at_head else -1] if self.nodes else None
        if node is not None and self._allows(node, len(element)):
            node.block.insert(0 if at_head else len(node.block.entries), element)
        else:
            self._add(QuicklistNode(self.block([element])), at_head)

    def delete_range(self, first: int, count: int) -> None:
        """quicklistDelRange; `first` counts from the head."""
        kept = []
        for node in self.nodes:
            have = len(node.elements())
            here = max(0, min(have, first + count) - max(0, first)) if first < have else 0
            if here < have:
                if here:
                    node.block.delete_range(max(0, first), here)
                kept.append(node)
            first -= have
        self.nodes = kept

    def is_compressed(self, at: int) -> bool:
        """Whether node `at` is one that Redis tries to compress."""
        depth = self.rules.list_compress_depth
        return depth > 0 and depth <= at < len(self.nodes) - depth

    def block(self, entries: list[bytes]) -> Listpack | Ziplist:
        """A node's block of this version."""
        return Listpack.of(entries) if self.rules.since("7.0") else Ziplist.of(entries)

    def _add(self, node: QuicklistNode, at_head: bool) -> None:
        self.nodes.insert(0 if at_head else len(self.nodes), node)

    def _is_large(self, element: bytes) -> bool:
        """isLargeElement of 7.4 and Valkey 8.0: larger than a node may be, 8 KiB at least where elements are counted."""
        if not self.rules.has_kvstore:
            return False
        fill = self.rules.list_max_size
        return len(element) > (node_limits(fill)[0] if fill < 0 else SIZE_SAFETY_LIMIT_BYTES)

    def _allows(self, node: QuicklistNode, element_bytes: int) -> bool:
        """_quicklistNodeAllowInsert."""
        if node.plain is not None:
            return False
        fill, count = self.rules.list_max_size, len(node.block.entries)
        if self.rules.since("7.0"):
            size_bytes = node.size_bytes + element_bytes + SIZE_ESTIMATE_OVERHEAD_BYTES
        else:
            size_bytes = node.size_bytes + element_bytes + _ziplist_overhead_bytes(element_bytes)
        if not self.rules.since("7.2") and fill == 0:
            return False
        return not exceeds_limit(fill, size_bytes, count + 1)


def _ziplist_overhead_bytes(element_bytes: int) -> int:
    """_quicklistNodeAllowInsert of 6.2."""
    before = 1 if element_bytes < 254 else 5
    return before + (1 if element_bytes < 64 else 2 if element_bytes < 16_384 else 5)
