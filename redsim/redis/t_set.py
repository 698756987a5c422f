"""Sets: integers in an intset, a few short members in a listpack (7.2 on), else a hash table without values.

Mirrors t_set.c:saddCommand, setTypeCreate, setTypeMaybeConvert, setTypeAddAux, setTypeRemoveAux, setTypeConvertAndExpand
(6.2.16 to 7.4.1, Valkey 8.0.1). Conversions go one way.
Not modelled: SPOP and the results of SUNIONSTORE and its kin.
"""

from redsim.redis.config import Rules
from redsim.redis.dict import Dict
from redsim.redis.intset import Intset
from redsim.redis.listpack import Listpack, integer_of
from redsim.redis.object import HashTable, RedisObject

__all__ = ["members_of", "sadd", "srem"]


def members_of(obj: RedisObject) -> list[bytes]:
    """SMEMBERS, in the order of the encoding; a hash table's is that of arrival."""
    if obj.encoding == "intset":
        return [b"%d" % value for value in sorted(obj.value.members)]
    return list(obj.value.elements) if obj.encoding == "hashtable" else obj.value.entries


def sadd(obj: RedisObject | None, members: list[bytes], rules: Rules) -> RedisObject:
    """One SADD."""
    if obj is None:
        obj = _create(members, rules)
    elif _is_too_many(obj, len(members), rules):
        _convert_to_table(obj, rules, len(members))
    for member in members:
        _add(obj, member, rules)
    return obj


def srem(obj: RedisObject, members: list[bytes]) -> RedisObject | None:
    """SREM of members that are there; None if that leaves nothing."""
    for member in members:
        if obj.encoding == "hashtable":
            del obj.value.elements[member]
            obj.value.table.delete()
            obj.value.table.shrink_if_needed()
        elif obj.encoding == "intset":
            obj.value.remove(int(member))
        else:
            obj.value.delete_range(obj.value.entries.index(member), 1)
    return obj if members_of(obj) else None


def _create(members: list[bytes], rules: Rules) -> RedisObject:
    """setTypeCreate: from 7.2 on the number of arguments is a hint."""
    is_integer, hint = integer_of(members[0]) is not None, len(members)
    if is_integer and (hint <= rules.set_max_intset_entries or not rules.since("7.2")):
        return RedisObject("set", "intset", Intset())
    if rules.since("7.2") and hint <= rules.set_max_listpack_entries:
        return RedisObject("set", "listpack", Listpack())
    return RedisObject("set", "hashtable", HashTable(Dict.empty(rules, expand_to=hint if rules.since("7.2") else None), {}))


def _is_too_many(obj: RedisObject, hint: int, rules: Rules) -> bool:
    """setTypeMaybeConvert (7.2 on)."""
    most = {"intset": rules.set_max_intset_entries, "listpack": rules.set_max_listpack_entries}
    return rules.since("7.2") and hint > most.get(obj.encoding, hint)


def _convert_to_table(obj: RedisObject, rules: Rules, expand_to: int) -> None:
    """setTypeConvertAndExpand."""
    members = members_of(obj)
    table = Dict.empty(rules, expand_to=expand_to)
    table.add_many(len(members))
    obj.value, obj.encoding = HashTable(table, dict.fromkeys(members)), "hashtable"


def _add(obj: RedisObject, member: bytes, rules: Rules) -> None:
    """setTypeAddAux."""
    if obj.encoding == "hashtable":
        if member in obj.value.elements:
            obj.value.table.seek_place()
        else:
            obj.value.elements[member] = None
            obj.value.table.add()
    elif obj.encoding == "listpack":
        _add_to_listpack(obj, member, rules)
    elif (value := integer_of(member)) is not None:
        obj.value.add(value)
        if len(obj.value.members) > rules.set_max_intset_entries:
            _convert_to_table(obj, rules, len(obj.value.members))
    else:
        _add_text_to_intset(obj, member, rules)


def _add_to_listpack(obj: RedisObject, member: bytes, rules: Rules) -> None:
    entries = obj.value.entries
    if member in entries:
        return
    if len(entries) < rules.set_max_listpack_entries and len(member) <= rules.set_max_value_bytes:
        obj.value.append(member)
        return
    _convert_to_table(obj, rules, len(entries) + 1)
    _add(obj, member, rules)


def _add_text_to_intset(obj: RedisObject, member: bytes, rules: Rules) -> None:
    """To a listpack if it would still be a small one, else to a table: before 7.2 made for those that were there."""
    members = members_of(obj)
    longest = max((len(member_) for member_ in members), default=0)
    fits = max(longest, len(member)) <= rules.set_max_value_bytes
    if len(members) < rules.set_max_listpack_entries and fits:
        obj.value, obj.encoding = Listpack.of([*members, member]), "listpack"
        return
    _convert_to_table(obj, rules, len(members) + (1 if rules.since("7.2") else 0))
    _add(obj, member, rules)
