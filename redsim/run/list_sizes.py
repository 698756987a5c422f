"""What a list of n elements takes: full nodes, all alike, and one at an end that is being filled.

Mirrors t_list.c and quicklist.c through redsim/redis: a list is pushed until it has three nodes, and these say how many elements
the first node takes (7.2 on: what the listpack held when it was converted), how many each further one, and in how many bytes.
Differs: elements are all of one length and no integers; compressed nodes are all as long as one of the same letter, which LZF
packs better than most text. A list that was popped from has two nodes that are not full; here it takes what a pushed one does.
"""

from redsim.dataplane.memory import (
    DENSE,
    L_DEPTH,
    L_ENTRY,
    L_FIRST,
    L_FULL,
    L_HEADER,
    L_LARGE,
    L_NODE,
    L_PER_NODE,
    L_SAVED,
    L_SIZE,
    L_SMALL,
)
from redsim.redis.config import Rules
from redsim.redis.object import QUICKLIST_BYTES, QUICKLIST_LZF_BYTES, ROBJ_BYTES
from redsim.redis.quicklist import Quicklist
from redsim.redis.t_list import push

MEASURED_NODES = 3


def list_law(element_bytes: int, rules: Rules) -> list[int]:
    """The words that dataplane/memory.py:quicklist_bytes reads."""
    usable, text = rules.allocator.usable, b"m" * element_bytes
    is_small = push(None, [text], rules, at_head=False).encoding == "listpack"
    first, second, *_ = _pushed(text, rules).nodes
    node_bytes, quicklist_bytes = usable(rules.quicklist_node_bytes), usable(QUICKLIST_BYTES)
    words = [0] * L_SIZE
    words[L_FIRST], words[L_PER_NODE] = len(first.elements()), len(second.elements())
    words[L_ENTRY] = _block_bytes(text, 2, rules) - _block_bytes(text, 1, rules)
    words[L_HEADER] = _block_bytes(text, 1, rules) - words[L_ENTRY]
    words[L_NODE] = node_bytes
    words[L_FULL] = node_bytes + usable(second.size_bytes)
    words[L_SMALL] = ROBJ_BYTES + (0 if is_small else quicklist_bytes + node_bytes)
    words[L_LARGE] = ROBJ_BYTES + quicklist_bytes + node_bytes + usable(first.size_bytes)
    words[L_DEPTH] = rules.list_compress_depth
    if words[L_DEPTH] and (packed := second.compressed()):
        words[L_SAVED] = usable(second.size_bytes) - usable(QUICKLIST_LZF_BYTES + len(packed))
    return words


def list_sizes(element_bytes: int, rules: Rules) -> list[int]:
    """Bytes of lists of 0 to DENSE elements."""
    words, usable = list_law(element_bytes, rules), rules.allocator.usable
    first, per_node = words[L_FIRST], words[L_PER_NODE]
    sizes = [0, *(words[L_SMALL] + usable(words[L_HEADER] + n * words[L_ENTRY]) for n in range(1, first))]
    sizes.append(words[L_SMALL] + words[L_LARGE] - ROBJ_BYTES - usable(QUICKLIST_BYTES) - words[L_NODE])
    for n in range(first + 1, DENSE + 1):
        full, rest = divmod(n - first, per_node)
        unfilled_bytes = words[L_NODE] + usable(words[L_HEADER] + rest * words[L_ENTRY]) if rest else 0
        packed_count = max(0, 1 + full + (rest > 0) - 2 * words[L_DEPTH])
        sizes.append(words[L_LARGE] + full * words[L_FULL] + unfilled_bytes - packed_count * words[L_SAVED])
    return sizes[: DENSE + 1]


def _pushed(text: bytes, rules: Rules) -> Quicklist:
    """A list of MEASURED_NODES nodes."""
    obj = push(None, [text], rules, at_head=False)
    while obj.encoding != "quicklist" or len(obj.value.nodes) < MEASURED_NODES:
        obj = push(obj, [text], rules, at_head=False)
    found: Quicklist = obj.value
    return found


def _block_bytes(text: bytes, count: int, rules: Rules) -> int:
    """A listpack (ziplist) of so many elements, before the allocator."""
    return Quicklist(rules).block([text] * count).size_bytes
