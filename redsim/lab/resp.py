"""RESP on the wire: requests written by Python, replies counted by a compiled, incremental scanner.

scan() follows RESP2 from whatever split of the bytes and jumps over the bodies of bulk strings without looking at them, so that
the answer of KEYS on a million keys costs its headers only. It keeps no content, only whether a reply is an error, or nil.
Not modelled: RESP3's streamed types; replies nested deeper than 8; inline requests.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numba import njit

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Word = str | bytes | int | float

DEPTH_MAX = 8
MODE, NUMBER, NEGATIVE, LEFT, DEPTH, IS_ERROR, STACK = range(7)  # a scanner's state: an int64 row of SCANNER_SIZE
SCANNER_SIZE = STACK + DEPTH_MAX
TYPE, LINE, BULK, MULTI, BODY = range(5)  # what comes next
MORE, REPLY, ERROR_REPLY, BROKEN, NIL_REPLY = range(5)  # what scan() says

_PLUS, _MINUS, _COLON, _DOLLAR, _STAR, _LF, _CR, _ZERO = (ord(c) for c in "+-:$*\n\r0")
_OTHER_LINES = tuple(ord(c) for c in "_#,(")  # RESP3's one-line types


def encode(*words: Word) -> bytes:
    """One request as RESP: `encode("SET", "k", b"v")`; numbers as Redis would print them."""
    parts = [word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogateescape") for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def encode_all(commands: Sequence[Sequence[Word]]) -> tuple[Bytes, Ints]:
    """(bytes of all requests, where each begins and the last ends): uint8, int64 of shape (n + 1,)."""
    parts = [encode(*words) for words in commands]
    off = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum([len(part) for part in parts], out=off[1:])
    return np.frombuffer(b"".join(parts), dtype=np.uint8), off


@njit(_nrt=False, nogil=True)
def _element_over(p: Ints) -> bool:
    """An element has ended; True if the whole reply has."""
    while p[DEPTH] > 0:
        p[STACK + p[DEPTH] - 1] -= 1
        if p[STACK + p[DEPTH] - 1] > 0:
            return False
        p[DEPTH] -= 1
    return True


@njit(_nrt=False, nogil=True)
def _number_read(p: Ints) -> tuple[bool, bool]:
    """A length has been read, at its LF; (the element is over, the reply cannot be followed)."""
    length = -p[NUMBER] if p[NEGATIVE] else p[NUMBER]
    multi = p[MODE] == MULTI
    p[MODE] = TYPE
    if length < 0 or (multi and length == 0):
        return True, False
    if not multi:
        p[MODE] = BODY
        p[LEFT] = length + 2
        return False, False
    if p[DEPTH] == DEPTH_MAX:
        return False, True
    p[STACK + p[DEPTH]] = length
    p[DEPTH] += 1
    return False, False


@njit(_nrt=False, nogil=True)
def _type_read(p: Ints, byte: int) -> bool:
    """The first byte of an element; False for one that is none."""
    p[NUMBER] = 0
    p[NEGATIVE] = 0
    if byte == _DOLLAR:
        p[MODE] = BULK
    elif byte == _STAR:
        p[MODE] = MULTI
    elif byte in (_PLUS, _MINUS, _COLON) or byte in _OTHER_LINES:
        p[MODE] = LINE
        if byte == _MINUS and p[DEPTH] == 0:
            p[IS_ERROR] = 1
    else:
        return False
    return True


@njit(_nrt=False, nogil=True)
def scan(p: Ints, buf: Bytes, at: int, n: int) -> tuple[int, int]:
    """Go on from byte `at` of buf[:n]: (where it stopped, REPLY, NIL_REPLY or ERROR_REPLY; MORE at the end of the
    bytes; or BROKEN)."""
    while at < n:
        is_nil = False
        if p[MODE] == BODY:
            step = min(p[LEFT], n - at)
            p[LEFT] -= step
            at += step
            if p[LEFT] > 0:
                break
            p[MODE] = TYPE
            over = True
        else:
            byte = buf[at]
            at += 1
            over, broken = False, False
            if p[MODE] == TYPE:
                broken = not _type_read(p, byte)
            elif p[MODE] == LINE:
                over = byte == _LF
                if over:
                    p[MODE] = TYPE
            elif byte == _LF:
                over, broken = _number_read(p)
                is_nil = p[NEGATIVE] == 1 and p[DEPTH] == 0
            elif byte == _MINUS:
                p[NEGATIVE] = 1
            elif byte != _CR:
                p[NUMBER] = p[NUMBER] * 10 + (np.int64(byte) - _ZERO)
            if broken:
                return at, BROKEN
        if over and _element_over(p):
            what = ERROR_REPLY if p[IS_ERROR] else NIL_REPLY if is_nil else REPLY
            p[IS_ERROR] = 0
            return at, what
    return at, MORE
