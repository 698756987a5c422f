"""The checksum at the end of an RDB file.

Mirrors crc64.c: the Jones polynomial, bits taken from the low end, nothing added before or after.
Not modelled: the eight tables at once that make the real one faster.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["crc64"]

_POLYNOMIAL = 0x95AC9329AC4BC9B5  # 0xad93d23594c935a9 of crc64.c, its bits in reverse


def _table() -> npt.NDArray[np.uint64]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return np.array(table, dtype=np.uint64)


_TABLE = _table()


def crc64(data: bytes | memoryview) -> int:
    """Of all of `data`.

    >>> hex(crc64(b"123456789"))
    '0xe9c6d914c4b8d9ca'
    """
    return int(_crc64(np.frombuffer(data, dtype=np.uint8), _TABLE))


@njit(cache=True)
def _crc64(data: npt.NDArray[np.uint8], table: npt.NDArray[np.uint64]) -> np.uint64:
    crc = np.uint64(0)
    for byte in data:
        crc = table[(crc ^ byte) & np.uint64(0xFF)] ^ (crc >> np.uint64(8))
    return crc
