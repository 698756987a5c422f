"""What a value of an RDB file becomes in a server that loads it: encodings are chosen again by version and directives.

Mirrors rdb.c:rdbLoadObject of 6.2 to 7.4 and Valkey 8.0: blocks are taken over as they are if their kind is still in use and they
have no more elements than the directive says (their lengths are not looked at); what was saved element by element becomes small
again where it may; tables are made for all their elements at once.
Apart from rdb_read.py, which reads the file whatever server it is for.
Differs: Valkey 8.0 gives a short key that it loads two bytes less of header than one that a command brings; here they are alike.
Not modelled: field TTLs of 7.4, which are left out.
"""

from collections.abc import Callable

from redsim.redis import t_list
from redsim.redis.config import Rules
from redsim.redis.dict import DICT_HT_INITIAL_SIZE, Dict, table_slots
from redsim.redis.intset import Intset
from redsim.redis.listpack import Listpack, integer_of
from redsim.redis.object import HashTable, RedisObject, SkipList
from redsim.redis.quicklist import Quicklist, QuicklistNode
from redsim.redis.rdb_read import RdbKey
from redsim.redis.sds import Sds
from redsim.redis.t_string import OBJ_ENCODING_EMBSTR_SIZE_LIMIT
from redsim.redis.t_zset import score_text
from redsim.redis.ziplist import Ziplist

__all__ = ["element_count", "loaded"]


def loaded(key: RdbKey, rules: Rules) -> RedisObject:
    """The value in memory after loading; not for a module's. Blocks of a list that are taken over have their size, not their
    elements."""
    return _LOADED[key.type](key, rules)


def element_count(key: RdbKey) -> int:
    """LLEN, SCARD, HLEN, ZCARD or XLEN; 1 of a string and of a module's value."""
    if key.type == "stream":
        return int(key.value.length)
    return 1 if key.type in ("string", "module") else len(key.value)


def _table(count: int, rules: Rules) -> Dict:
    return Dict(rules, [table_slots(count), 0], count)


def _string(key: RdbKey, rules: Rules) -> RedisObject:
    value = integer_of(key.value)
    if value is not None:
        return RedisObject("string", "int", value)
    encoding = "embstr" if len(key.value) <= OBJ_ENCODING_EMBSTR_SIZE_LIMIT else "raw"
    return RedisObject("string", encoding, Sds.of(key.value, rules))


def _list(key: RdbKey, rules: Rules) -> RedisObject:
    is_taken_over = key.encoding == "quicklist" and key.blocks_bytes and rules.since("7.0") and not rules.list_compress_depth
    if not is_taken_over or (rules.since("7.2") and len(key.blocks_bytes) == 1):
        return t_list.push(None, key.value, rules, at_head=False)
    nodes = [QuicklistNode(Listpack([], size_bytes)) for size_bytes in key.blocks_bytes]  # whatever is in them
    return RedisObject("list", "quicklist", Quicklist(rules, nodes))


def _set(key: RdbKey, rules: Rules) -> RedisObject:
    members, count = key.value, len(key.value)
    if key.encoding == "intset" and count <= rules.set_max_intset_entries:
        return RedisObject("set", "intset", Intset(set(map(int, members)), (key.blocks_bytes[0] - 8) // max(count, 1)))
    if key.encoding == "hashtable" and count <= rules.set_max_intset_entries:
        numbers = [integer_of(member) for member in members]
        if None not in numbers:
            return RedisObject("set", "intset", Intset.of(number for number in numbers if number is not None))
    longest_bytes = max(map(len, members), default=0)
    if count <= rules.set_max_listpack_entries and (key.encoding == "listpack" or longest_bytes <= rules.set_max_value_bytes):
        return RedisObject("set", "listpack", Listpack.of(members))
    return RedisObject("set", "hashtable", HashTable(_table(count, rules), dict.fromkeys(members)))


def _block(key: RdbKey, elements: list[bytes], rules: Rules) -> RedisObject:
    """A small hash or sorted set; its block has the size it was saved with, if it was saved in this version's kind."""
    if key.encoding == rules.small_encoding == "listpack":
        return RedisObject(key.type, "listpack", Listpack(elements, key.blocks_bytes[0]))
    kind: type[Listpack | Ziplist] = Listpack if rules.since("7.0") else Ziplist
    return RedisObject(key.type, rules.small_encoding, kind.of(elements))


def _hash(key: RdbKey, rules: Rules) -> RedisObject:
    pairs, count = key.value, len(key.value)
    if count <= rules.hash_max_entries:
        is_long = (i for i, pair in enumerate(pairs) if max(map(len, pair)) > rules.hash_max_value_bytes)
        short_count = count if key.blocks_bytes else next(is_long, count)  # fields in a listpack until there is a long one
        if short_count == count:
            return _block(key, [text for pair in pairs for text in pair], rules)
    else:
        short_count = 0
    table = Dict.empty(rules, expand_to=short_count if rules.since("7.0") else None)
    table.add_many(short_count)
    if short_count or count <= rules.hash_max_entries:
        table.add()
        short_count += 1
    if count - short_count > DICT_HT_INITIAL_SIZE:
        table.expand(count - short_count)
    table.add_many(count - short_count)
    return RedisObject("hash", "hashtable", HashTable(table, dict(pairs)))


def _zset(key: RdbKey, rules: Rules) -> RedisObject:
    scored = key.value
    is_short = bool(key.blocks_bytes) or all(len(member) <= rules.zset_max_value_bytes for member, _ in scored)
    if len(scored) <= rules.zset_max_entries and is_short:
        return _block(key, [text for member, score in scored for text in (member, score_text(score, rules))], rules)
    return RedisObject("zset", "skiplist", SkipList(_table(len(scored), rules), dict(scored)))


def _stream(key: RdbKey, _rules: Rules) -> RedisObject:
    return RedisObject("stream", "stream", key.value)


_LOADED: dict[str, Callable[[RdbKey, Rules], RedisObject]] = {
    "string": _string, "list": _list, "set": _set, "hash": _hash, "zset": _zset, "stream": _stream,
}  # fmt: skip
