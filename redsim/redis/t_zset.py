"""Sorted sets: member and score side by side in a listpack (6.2: ziplist) while small, then a skiplist and a hash table for good.

Mirrors t_zset.c:zaddGenericCommand, zsetTypeCreate, zsetAdd, zzlInsert, zsetConvertAndExpand, zremrangeGenericCommand and
util.c:d2string (6.2.16 to 7.4.1, Valkey 8.0.1). The member over zset-max-listpack-entries or -value converts before it is added.
Differs: fpconv_dtoa, which writes scores from 7.2 on, needs a digit more than the fewest in one case of a thousand; here it never
does. Not modelled: ZADD's options, which add nothing else; results of ZUNIONSTORE and its kin.
"""

from bisect import bisect
from decimal import Decimal
from math import isinf

from redsim.redis.config import Rules
from redsim.redis.dict import Dict
from redsim.redis.object import RedisObject, SkipList
from redsim.redis.t_hash import small_block

__all__ = ["ranked", "score_text", "zadd", "zremrangebyrank"]

_WHOLE_BELOW = 1 << 62  # util.c:double2ll; 6.2 stops at 2**52, with the same text up to 17 digits
_DIGITS_MAX = 18  # fpconv_dtoa.c:emit_digits

Scored = list[tuple[bytes, float]]


def score_text(score: float, rules: Rules) -> bytes:
    """A score as it stands in a listpack: whole numbers as integers, else 17 digits; from 7.2 on as few as tell it apart."""
    if isinf(score):
        return b"inf" if score > 0 else b"-inf"
    if abs(score) < _WHOLE_BELOW and score == int(score):
        return b"%d" % int(score)
    return (_fpconv_dtoa(score) if rules.since("7.2") else f"{score:.17g}").encode()


def _fpconv_dtoa(score: float) -> str:
    """fpconv_dtoa.c:emit_digits: plain up to 7 places of zeros, else with an exponent of as many digits as it has."""
    sign, numbers, exponent = Decimal(repr(score)).normalize().as_tuple()
    assert isinstance(exponent, int), "infinities are told by name"
    digits, minus = "".join(map(str, numbers)), "-" if sign else ""
    scale = exponent + len(digits) - 1
    if exponent >= 0 and abs(scale) < len(digits) + 7:
        return minus + digits + "0" * exponent
    if exponent < 0 and (exponent > -7 or abs(scale) < 4):
        whole = len(digits) + exponent
        return minus + (digits[:whole] + "." + digits[whole:] if whole > 0 else "0." + "0" * -whole + digits)
    digits = digits[: _DIGITS_MAX - sign]
    return f"{minus}{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}e{'-' if scale < 0 else '+'}{abs(scale)}"


def ranked(obj: RedisObject) -> Scored:
    """ZRANGE 0 -1 WITHSCORES."""
    if obj.encoding == "skiplist":
        return obj.value.ranked()
    return [(member, float(text)) for member, text in zip(obj.value.entries[::2], obj.value.entries[1::2], strict=True)]


def zadd(obj: RedisObject | None, pairs: Scored, rules: Rules) -> RedisObject:
    """One ZADD of (member, score)."""
    hint = len(pairs) if rules.since("7.2") else 0
    if obj is None:
        obj = _create(pairs, rules, hint)
    elif obj.encoding != "skiplist" and hint > rules.zset_max_entries:
        _convert(obj, rules, expand_to=hint)
    for member, score in pairs:
        _add(obj, member, score, rules)
    return obj


def zremrangebyrank(obj: RedisObject, first: int, count: int) -> RedisObject | None:
    """ZREMRANGEBYRANK of `count` members from rank `first`; the table shrinks once, at the end. None if that leaves nothing."""
    if obj.encoding != "skiplist":
        obj.value.delete_range(2 * first, 2 * count)
        return obj if obj.value.entries else None
    value: SkipList = obj.value
    gone = value.ranked()[first : first + count]
    for member, _ in gone:
        del value.scores[member]
        value.table.delete(may_shrink=False)
    value.table.shrink_if_needed()
    return obj if value.scores else None


def _create(pairs: Scored, rules: Rules, hint: int) -> RedisObject:
    """zsetTypeCreate; before 7.2 zsetCreate by the first member alone."""
    if rules.zset_max_entries == 0 or hint > rules.zset_max_entries or len(pairs[0][0]) > rules.zset_max_value_bytes:
        return RedisObject("zset", "skiplist", SkipList(Dict.empty(rules, expand_to=hint if hint else None), {}))
    return RedisObject("zset", rules.small_encoding, small_block(rules))


def _add(obj: RedisObject, member: bytes, score: float, rules: Rules) -> None:
    """zsetAdd."""
    if obj.encoding != "skiplist":
        entries = obj.value.entries
        members = entries[::2]
        if member in members:
            obj.value.delete_range(2 * members.index(member), 2)
        elif len(members) + 1 > rules.zset_max_entries or len(member) > rules.zset_max_value_bytes:
            _convert(obj, rules, expand_to=len(members) + 1)
    if obj.encoding != "skiplist":
        _insert(obj, member, score, rules)
        return
    value: SkipList = obj.value
    if member in value.scores:
        value.table.step()
    else:
        value.table.add(lookups=1)
    value.scores[member] = score


def _insert(obj: RedisObject, member: bytes, score: float, rules: Rules) -> None:
    """zzlInsert: by score, then by bytes."""
    entries = obj.value.entries
    at = len(entries) // 2
    if entries and (float(entries[-1]), entries[-2]) > (score, member):
        at = bisect([(float(text), name) for name, text in zip(entries[::2], entries[1::2], strict=True)], (score, member))
    obj.value.insert(2 * at, member)
    obj.value.insert(2 * at + 1, score_text(score, rules))


def _convert(obj: RedisObject, rules: Rules, *, expand_to: int) -> None:
    """zsetConvertAndExpand; before 7.2 the table grows as the members come."""
    scores = dict(ranked(obj))
    table = Dict.empty(rules, expand_to=expand_to if rules.since("7.2") else None)
    table.add_many(len(scores))
    obj.value, obj.encoding = SkipList(table, scores), "skiplist"
