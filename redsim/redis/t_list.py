"""Lists: a listpack while small (7.2 on), else a quicklist.

Mirrors t_list.c:pushGenericCommand, listTypeTryConversionRaw, popGenericCommand (6.2.16 to 7.4.1, Valkey 8.0.1): before 7.2
always a quicklist; then a push that might exceed list-max-listpack-size converts first, and a pop converts back once one node
of half the limit remains.
Not modelled: LINSERT, LSET, LREM and LTRIM from the tail.
"""

from redsim.redis.config import Rules
from redsim.redis.listpack import Listpack
from redsim.redis.object import RedisObject
from redsim.redis.quicklist import Quicklist, QuicklistNode, exceeds_limit, node_limits

__all__ = ["elements_of", "lpop", "push"]


def elements_of(obj: RedisObject) -> list[bytes]:
    """LRANGE 0 -1."""
    if obj.encoding == "quicklist":
        return [element for node in obj.value.nodes for element in node.elements()]
    return obj.value.entries


def push(obj: RedisObject | None, elements: list[bytes], rules: Rules, *, at_head: bool) -> RedisObject:
    """One LPUSH or RPUSH."""
    if obj is None:
        small = rules.since("7.2")
        obj = RedisObject("list", "listpack" if small else "quicklist", Listpack() if small else Quicklist(rules))
    if obj.encoding == "listpack":
        _try_convert_listpack(obj, elements, rules)
    if obj.encoding == "quicklist":
        for element in elements:
            obj.value.push(element, at_head=at_head)
        return obj
    for element in elements:
        obj.value.insert(0 if at_head else len(obj.value.entries), element)
    return obj


def lpop(obj: RedisObject, count: int, rules: Rules) -> RedisObject | None:
    """LPOP key count; None if that leaves nothing."""
    obj.value.delete_range(0, count)
    if not elements_of(obj):
        return None
    if obj.encoding == "quicklist" and rules.since("7.2"):
        _try_convert_quicklist(obj, rules)
    return obj


def _try_convert_listpack(obj: RedisObject, elements: list[bytes], rules: Rules) -> None:
    """listTypeTryConvertListpack: every argument counts with its text's length, what is to be an integer too."""
    more_bytes = sum(map(len, elements))
    block: Listpack = obj.value
    if exceeds_limit(rules.list_max_size, block.size_bytes + more_bytes, len(block.entries) + len(elements)):
        obj.value = Quicklist(rules, [QuicklistNode(block)] if block.entries else [])
        obj.encoding = "quicklist"


def _try_convert_quicklist(obj: RedisObject, rules: Rules) -> None:
    """listTypeTryConvertQuicklist, shrinking."""
    nodes = obj.value.nodes
    most_bytes, most_count = (limit // 2 for limit in node_limits(rules.list_max_size))
    if len(nodes) == 1 and nodes[0].plain is None and nodes[0].size_bytes <= most_bytes and obj.value.count <= most_count:
        obj.value, obj.encoding = nodes[0].block, "listpack"
