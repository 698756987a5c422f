"""What an allocator really hands out for a request of n bytes: its size classes.

Mirrors jemalloc 5.2/5.3 (sz.h: sz_s2u, sc.c: size_classes), malloc_usable_size() of glibc 2.36 (malloc.c: request2size,
sysmalloc) and zmalloc.c:zmalloc of Redis, which asks for 8 bytes where 0 are wanted. The classes are a property of the build:
  jemalloc         the one Redis brings along, quantum 8 (deps/Makefile: --with-lg-quantum=3): 8, 16, 24, 32, 40, 48, 56, 64, 80
  jemalloc-debian  the system's, quantum 16, which distributions link against: 8, 16, 32, 48, 64, 80; no 24, 40, 56
  libc             glibc: a multiple of 16 less an 8-byte header; from 128 KiB on whole pages of its own less 16 bytes
Differs: glibc raises its mmap threshold when such a block is freed, serves large blocks from free heap while there is some,
and leaves up to 16 bytes on a chunk it cannot split.
Not modelled here: which pages the classes come from (slabs, extents).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from redsim.units import KIB

__all__ = ["ALLOCATORS", "Allocator"]

_PER_DOUBLING_LG = 2  # sc.h: SC_LG_NGROUP, four classes for every doubling
_ZERO_SIZE_BYTES = 8  # zmalloc.c: MALLOC_MIN_SIZE, sizeof(long)
_LIBC_HEADER_BYTES = 8
_LIBC_ALIGN_BYTES = 16
_LIBC_CHUNK_MIN_BYTES = 32
_LIBC_MMAP_BYTES = 128 * KIB  # malloc.c: DEFAULT_MMAP_THRESHOLD_MIN
_PAGE_BYTES = 4 * KIB
_QUANTUM_LG = {"jemalloc": 3, "jemalloc-debian": 4}


def _round_up(size_bytes: int, to_bytes: int) -> int:
    return -(-size_bytes // to_bytes) * to_bytes


def _jemalloc_usable(size_bytes: int, quantum_lg: int) -> int:
    if size_bytes <= 8:
        return 8
    spacing_lg = (size_bytes - 1).bit_length() - 1 - _PER_DOUBLING_LG
    return _round_up(size_bytes, 1 << max(spacing_lg, quantum_lg))


def _libc_usable(size_bytes: int) -> int:
    chunk_bytes = max(_LIBC_CHUNK_MIN_BYTES, _round_up(size_bytes + _LIBC_HEADER_BYTES, _LIBC_ALIGN_BYTES))
    if chunk_bytes >= _LIBC_MMAP_BYTES:
        return _round_up(chunk_bytes + _LIBC_HEADER_BYTES, _PAGE_BYTES) - 2 * _LIBC_HEADER_BYTES
    return chunk_bytes - _LIBC_HEADER_BYTES


@dataclass(frozen=True, slots=True)
class Allocator:
    """One build's allocator, by the name of `ALLOCATORS`."""

    name: str

    def usable(self, size_bytes: int) -> int:
        """Bytes that zmalloc(size_bytes) adds to used_memory: the whole block, what malloc_usable_size() answers.

        >>> ALLOCATORS["jemalloc"].usable(33), ALLOCATORS["jemalloc-debian"].usable(33), ALLOCATORS["libc"].usable(33)
        (40, 48, 40)
        """
        return _usable(self.name, size_bytes)

    def table(self, largest_bytes: int = 64 * KIB) -> npt.NDArray[np.int64]:
        """int64[largest_bytes // 8 + 1]: `usable(n)` is `table[(n + 7) // 8]` for every n up to `largest_bytes`."""
        return np.array([self.usable(size_bytes) for size_bytes in range(0, largest_bytes + 1, 8)], dtype=np.int64)


@lru_cache(maxsize=1 << 16)
def _usable(name: str, size_bytes: int) -> int:
    assert size_bytes >= 0, "a request is 0 or more bytes"
    wanted_bytes = size_bytes or _ZERO_SIZE_BYTES
    if name == "libc":
        return _libc_usable(wanted_bytes)
    return _jemalloc_usable(wanted_bytes, _QUANTUM_LG[name])


ALLOCATORS = {name: Allocator(name) for name in ("jemalloc", "jemalloc-debian", "libc")}
