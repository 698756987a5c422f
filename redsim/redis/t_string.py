"""Strings: which encoding a write leaves, and how much room.

Mirrors t_string.c (SET, APPEND, SETRANGE, INCRBY, INCRBYFLOAT), bitops.c:setbitCommand, db.c:dbUnshareStringValue,
object.c:tryObjectEncoding and networking.c:processMultibulkBuffer, which makes an argument of 32 KiB or more the value itself,
with the room of its closing CRLF (6.2.16 to 7.4.1, Valkey 8.0.1).
Differs: such an argument is taken to have come alone into a query buffer no larger than it needs. Not modelled: the buffer's
history, that is a larger argument on the same connection just before (room of up to a tenth of the value then stays).
"""

import numpy as np

from redsim.redis.config import Rules
from redsim.redis.listpack import integer_of
from redsim.redis.object import RedisObject
from redsim.redis.sds import SDS_MAX_PREALLOC_BYTES, Sds, append, grow_zero, shorten_to_fit
from redsim.units import KIB

__all__ = ["append_command", "incrby", "incrbyfloat", "set_command", "setbit", "setrange"]

OBJ_ENCODING_EMBSTR_SIZE_LIMIT = 44  # object.c
PROTO_MBULK_BIG_ARG_BYTES = 32 * KIB  # server.h
_CRLF_BYTES = 2
_LONG_DOUBLE_DIGITS = 17  # util.c:ld2string, LD_STR_HUMAN


def _string(encoding: str, value: Sds | int) -> RedisObject:
    return RedisObject("string", encoding, value)


def _created(text: bytes, rules: Rules) -> RedisObject:
    """createStringObject: never an integer."""
    is_embedded = len(text) <= OBJ_ENCODING_EMBSTR_SIZE_LIMIT
    return _string("embstr" if is_embedded else "raw", Sds.of(text, rules))


def set_command(text: bytes, rules: Rules) -> RedisObject:
    """SET, SETEX, GETSET, and APPEND to a key that is not there: tryObjectEncoding of the argument."""
    value = integer_of(text)
    if value is not None:
        return _string("int", value)
    if len(text) <= OBJ_ENCODING_EMBSTR_SIZE_LIMIT:
        return _created(text, rules)
    is_query_buffer = len(text) >= PROTO_MBULK_BIG_ARG_BYTES
    sds = Sds.of(text, rules, _query_buffer_bytes(len(text), rules) if is_query_buffer else None)
    if is_query_buffer or not rules.since("7.2"):
        shorten_to_fit(sds, rules)
    return _string("raw", sds)


def _query_buffer_bytes(length: int, rules: Rules) -> int:
    """Room that processMultibulkBuffer makes for an argument: in 6.2 still greedily."""
    needed = length + _CRLF_BYTES
    return needed if rules.since("7.0") else needed + min(needed, SDS_MAX_PREALLOC_BYTES)


def text_of(obj: RedisObject) -> bytes:
    """getDecodedObject."""
    return b"%d" % obj.value if obj.encoding == "int" else obj.value.text


def _unshared(obj: RedisObject, rules: Rules) -> RedisObject:
    """dbUnshareStringValue: what can be changed in place."""
    return obj if obj.encoding == "raw" else _string("raw", Sds.of(text_of(obj), rules))


def append_command(obj: RedisObject | None, text: bytes, rules: Rules) -> RedisObject:
    """APPEND."""
    if obj is None:
        return set_command(text, rules)
    obj = _unshared(obj, rules)
    append(obj.value, text, rules)
    return obj


def setrange(obj: RedisObject | None, offset: int, text: bytes, rules: Rules) -> RedisObject:
    """SETRANGE."""
    end = offset + len(text)
    obj = _string("raw", Sds.of(bytes(end), rules)) if obj is None else _unshared(obj, rules)
    grow_zero(obj.value, end, rules)
    obj.value.text = obj.value.text[:offset] + text + obj.value.text[end:]
    return obj


def setbit(obj: RedisObject | None, bit: int, rules: Rules) -> RedisObject:
    """SETBIT of a 1."""
    at = bit >> 3
    obj = _string("raw", Sds.of(bytes(at + 1), rules)) if obj is None else _unshared(obj, rules)
    grow_zero(obj.value, at + 1, rules)
    text = obj.value.text
    obj.value.text = text[:at] + bytes([text[at] | 0x80 >> (bit & 7)]) + text[at + 1 :]
    return obj


def incrby(obj: RedisObject | None, by: int) -> RedisObject:
    """INCRBY, DECRBY."""
    return _string("int", (0 if obj is None else int(text_of(obj))) + by)


def incrbyfloat(obj: RedisObject | None, by: bytes, rules: Rules) -> RedisObject:
    """INCRBYFLOAT: 17 decimals without closing zeros, in long double; embstr or raw even where the sum is whole."""
    before = np.longdouble("0" if obj is None else text_of(obj).decode())
    text = np.format_float_positional(before + np.longdouble(by.decode()), precision=_LONG_DOUBLE_DIGITS, unique=False, trim="-")
    return _created(text.encode(), rules)
