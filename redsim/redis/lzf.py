"""LZF: what a string becomes in an RDB file, and back, byte by byte.

Mirrors lzf_c.c:lzf_compress and lzf_d.c:lzf_decompress of Redis 7.0 (liblzf with HLOG 16, VERY_FAST 1; Debian's liblzf 3.6 is
the same code). A table of 65,536 places remembers where each three bytes were seen last; a run of literals has a byte before
every 32, a match of 3 to 264 bytes takes 2 or 3. Only two positions of a match enter the table, hence the exact loops below.
Differs: the table starts empty at every call. liblzf leaves it as the stack has it (INIT_HTAB 0), so a real server now and then
finds a match thanks to what it compressed before, and the same value may be a few bytes shorter the second time.
Not modelled: the time it takes.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["lzf_compress", "lzf_decompress", "lzf_length"]

Bytes = npt.NDArray[np.uint8]
Table = npt.NDArray[np.int64]

_TABLE_SIZE = 1 << 16  # lzfP.h: HLOG 16
_MAX_LIT = 32  # lzf_c.c: literals behind one control byte
_MAX_OFF = 1 << 13
_MAX_REF = (1 << 8) + (1 << 3)
_UNROLLED = 16  # comparisons that do not look at the length left, when there is room for all of them
_SLACK = _MAX_LIT + 8  # a run being written may reach past the limit before that is noticed
_SCRATCH = np.zeros(_TABLE_SIZE, dtype=np.int64)  # empty before and after every call: clearing it whole would cost more


def lzf_compress(data: bytes, limit_bytes: int) -> bytes:
    """The compressed bytes, or b"" when they would not fit in `limit_bytes`."""
    out = np.empty(max(limit_bytes, 0) + _SLACK, dtype=np.uint8)
    return out[: _compress(data, out, limit_bytes, _SCRATCH)].tobytes()


def lzf_length(data: bytes, limit_bytes: int) -> int:
    """How many bytes `lzf_compress` would return."""
    return _compress(data, np.empty(max(limit_bytes, 0) + _SLACK, dtype=np.uint8), limit_bytes, _SCRATCH)


def lzf_decompress(data: bytes, size_bytes: int) -> bytes:
    """The `size_bytes` that `data` stands for; ValueError when it does not stand for just so many."""
    out = np.empty(size_bytes, dtype=np.uint8)
    if _decompress(data, out) != size_bytes:
        raise ValueError(f"is no LZF of {size_bytes} bytes")
    return out.tobytes()


@njit(cache=True)
def _at(data: bytes, i: int) -> int:
    """A byte as a signed integer: with unsigned ones numba would go over to floats."""
    return np.int64(data[i])  # type: ignore[return-value]


@njit(cache=True)
def _slot(three: int) -> int:
    return ((three >> 8) - three * 5) & (_TABLE_SIZE - 1)


@njit(cache=True)
def _match_length(data: bytes, ref: int, ip: int) -> int:
    """Bytes in common at `ref` and `ip`, where three are known to be; the last bytes of the input are never looked at."""
    length = 2
    longest = min(len(data) - ip - length, _MAX_REF)
    if longest > _UNROLLED:
        for _ in range(_UNROLLED):
            length += 1
            if data[ref + length] != data[ip + length]:
                return length
    length += 1
    while length < longest and data[ref + length] == data[ip + length]:
        length += 1
    return length


@njit(cache=True)
def _compress(data: bytes, out: Bytes, limit: int, table: Table) -> int:
    """Bytes written to `out`, 0 if more than `limit`; the table is left empty, as it came."""
    if len(data) == 0 or limit <= 0:
        return 0
    size = _compress_into(data, out, limit, table)
    for ip in range(len(data) - 2):
        table[_slot((_at(data, ip) << 16) | (_at(data, ip + 1) << 8) | _at(data, ip + 2))] = 0
    return size


@njit(cache=True)
def _compress_into(data: bytes, out: Bytes, limit: int, table: Table) -> int:
    """lzf_c.c:lzf_compress. `ip` reads, `op` writes; `lit` literals are open behind a control byte."""
    end = len(data)
    ip, op, lit = 0, 1, 0
    three = (_at(data, 0) << 8) | _at(data, 1) if end > 1 else 0
    while ip < end - 2:
        three = ((three << 8) | _at(data, ip + 2)) & 0xFFFFFF
        slot = _slot(three)
        ref = table[slot]
        table[slot] = ip
        off = ip - ref - 1
        is_match = 0 <= off < _MAX_OFF and ref > 0 and data[ref + 2] == data[ip + 2]
        if is_match and data[ref] == data[ip] and data[ref + 1] == data[ip + 1]:
            if op - (lit == 0) + 4 >= limit:
                return 0
            out[op - lit - 1] = (lit - 1) & 0xFF
            op -= lit == 0
            length = _match_length(data, ref, ip) - 2  # as it is written
            if length < 7:
                out[op] = (off >> 8) + (length << 5)
            else:
                out[op] = (off >> 8) + (7 << 5)
                op += 1
                out[op] = length - 7
            out[op + 1] = off & 0xFF
            op += 3  # the offset's low byte, and room for the next run's control byte
            lit = 0
            ip += length + 2
            if ip >= end - 2:
                break
            ip -= 2
            three = (_at(data, ip) << 8) | _at(data, ip + 1)
            for _ in range(2):
                three = ((three << 8) | _at(data, ip + 2)) & 0xFFFFFF
                table[_slot(three)] = ip
                ip += 1
        else:
            if op >= limit:
                return 0
            out[op] = data[ip]
            lit, op, ip = lit + 1, op + 1, ip + 1
            if lit == _MAX_LIT:
                out[op - lit - 1] = lit - 1
                lit, op = 0, op + 1
    if op + 3 > limit:
        return 0
    return _finish(data, out, ip, op, lit)


@njit(cache=True)
def _finish(data: bytes, out: Bytes, ip: int, op: int, lit: int) -> int:
    """The last bytes of the input as literals; returns the size of all."""
    while ip < len(data):
        out[op] = data[ip]
        lit, op, ip = lit + 1, op + 1, ip + 1
        if lit == _MAX_LIT:
            out[op - lit - 1] = lit - 1
            lit, op = 0, op + 1
    out[op - lit - 1] = (lit - 1) & 0xFF
    return op - (lit == 0)


@njit(cache=True)
def _decompress(data: bytes, out: Bytes) -> int:
    """Bytes written to `out`; -1 where the input ends early, refers to before the start, or does not fit."""
    ip, op = 0, 0
    while ip < len(data):
        control = _at(data, ip)
        ip += 1
        if control < _MAX_LIT:
            length, ref = control + 1, -1
            if ip + length > len(data):
                return -1
        else:
            length = control >> 5
            if length == 7:
                if ip >= len(data):
                    return -1
                length += _at(data, ip)
                ip += 1
            if ip >= len(data):
                return -1
            ref = op - ((control & 0x1F) << 8) - _at(data, ip) - 1
            ip, length = ip + 1, length + 2
            if ref < 0:
                return -1
        if op + length > out.size:
            return -1
        for k in range(length):
            out[op + k] = data[ip + k] if ref < 0 else out[ref + k]
        op += length
        if ref < 0:
            ip += length
    return op
