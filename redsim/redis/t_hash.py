"""Hashes: a listpack (6.2: ziplist) while small, then a hash table for good.

Mirrors t_hash.c:hsetCommand, hashTypeTryConversion, hashTypeSet, hashTypeDelete, hashTypeConvertListpack (6.2.16 to 7.4.1,
Valkey 8.0.1): an argument over hash-max-listpack-value converts before anything is added, an entry over hash-max-listpack-entries
after it was; from 7.2 on one HSET with more pairs than that starts with a table for all of them.
Not modelled: field expiry (7.4), which is another encoding (listpackex).
"""

from redsim.redis.config import Rules
from redsim.redis.dict import Dict
from redsim.redis.listpack import Listpack
from redsim.redis.object import HashTable, RedisObject
from redsim.redis.ziplist import Ziplist

__all__ = ["fields_of", "hdel", "hset", "small_block"]

Pairs = list[tuple[bytes, bytes]]


def small_block(rules: Rules) -> Listpack | Ziplist:
    """An empty block of this version's small encoding."""
    return Listpack() if rules.since("7.0") else Ziplist()


def fields_of(obj: RedisObject) -> list[bytes]:
    """HKEYS, in the order of arrival."""
    return list(obj.value.elements) if obj.encoding == "hashtable" else obj.value.entries[::2]


def hset(obj: RedisObject | None, pairs: Pairs, rules: Rules) -> RedisObject:
    """One HSET."""
    if obj is None:
        obj = RedisObject("hash", rules.small_encoding, small_block(rules))
    if obj.encoding != "hashtable":
        _try_conversion(obj, pairs, rules)
    for field, value in pairs:
        _set(obj, field, value, rules)
    return obj


def hdel(obj: RedisObject, fields: list[bytes], rules: Rules) -> RedisObject | None:
    """HDEL of fields that are there; None if that leaves nothing."""
    for field in fields:
        if obj.encoding == "hashtable":
            table: HashTable = obj.value
            del table.elements[field]
            table.table.delete()
            table.table.shrink_if_needed()
        else:
            obj.value.delete_range(2 * obj.value.entries[::2].index(field), 2)
    left = obj.value.elements if obj.encoding == "hashtable" else obj.value.entries
    return obj if left else None


def _try_conversion(obj: RedisObject, pairs: Pairs, rules: Rules) -> None:
    """hashTypeTryConversion."""
    if rules.since("7.2") and len(pairs) > rules.hash_max_entries:
        _convert(obj, rules)
        obj.value.table.expand(len(pairs))
    elif any(max(len(field), len(value)) > rules.hash_max_value_bytes for field, value in pairs):
        _convert(obj, rules)


def _convert(obj: RedisObject, rules: Rules) -> None:
    """hashTypeConvertListpack: into a table made for as many pairs as there are, in 6.2 one that grows with them."""
    entries = obj.value.entries
    elements: dict[bytes, bytes | None] = dict(zip(entries[::2], entries[1::2], strict=True))
    table = Dict.empty(rules, expand_to=len(elements) if rules.since("7.0") else None)
    table.add_many(len(elements))
    obj.value, obj.encoding = HashTable(table, elements), "hashtable"


def _set(obj: RedisObject, field: bytes, value: bytes, rules: Rules) -> None:
    """hashTypeSet: from 7.2 on the field is looked up as it is inserted, before that beforehand."""
    if obj.encoding == "hashtable":
        table: HashTable = obj.value
        is_found_by_adding = rules.since("7.2")
        if field not in table.elements:
            table.table.add(lookups=0 if is_found_by_adding else 1)
        elif is_found_by_adding:
            table.table.seek_place()
        else:
            table.table.step()
        table.elements[field] = value
        return
    fields = obj.value.entries[::2]
    if field in fields:
        at = 2 * fields.index(field) + 1
        obj.value.delete_range(at, 1)
        obj.value.insert(at, value)
    else:
        obj.value.append(field)
        obj.value.append(value)
        if len(fields) + 1 > rules.hash_max_entries:
            _convert(obj, rules)
