"""The allocators' size classes against the libraries themselves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from redsim.host.malloc import ALLOCATORS

SYSTEM_JEMALLOC = sorted(Path("/usr/lib").glob("*/libjemalloc.so.2"))
M_MMAP_THRESHOLD = -3
ASK = """
import ctypes, sys
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
c.malloc_usable_size.restype, c.malloc_usable_size.argtypes = ctypes.c_size_t, [ctypes.c_void_p]
c.mallopt(int(sys.argv[1]), 131072)
for line in sys.stdin:
    sys.stdout.write(f"{c.malloc_usable_size(c.malloc(int(line)))}\\n")
"""
SIZES = [*range(1, 2200), *range(2200, 131_000, 997), 300_000, 400_001, 1 << 20, (1 << 20) + 1, 33_333_333]


def asked(sizes: list[int], preload: str) -> list[int]:
    """malloc_usable_size(malloc(n)) of each n in a fresh process that never frees."""
    environment = {**os.environ, "LD_PRELOAD": preload}
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(M_MMAP_THRESHOLD)], input="\n".join(map(str, sizes)), env=environment,
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(not SYSTEM_JEMALLOC, reason="no system jemalloc here (Debian: libjemalloc2)")
def test_debian_classes_are_those_of_the_system_jemalloc() -> None:
    """libjemalloc2 5.3.0 itself, by malloc_usable_size()."""
    model = [ALLOCATORS["jemalloc-debian"].usable(size) for size in SIZES]
    assert asked(SIZES, str(SYSTEM_JEMALLOC[0])) == model


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's law")
def test_libc_is_a_multiple_of_16_less_8_and_whole_pages_from_128_kib_on() -> None:
    """glibc malloc.c:request2size, sysmalloc; a block cut from a free one may keep 16 bytes that cannot be split off."""
    usable = asked(SIZES, "")
    for size, found in zip(SIZES, usable, strict=True):
        model = ALLOCATORS["libc"].usable(size)
        assert found == model or (size < 131_072 and found == model + 16), f"{size}: {found}, model {model}"
    exact = sum(found == ALLOCATORS["libc"].usable(size) for size, found in zip(SIZES, usable, strict=True))
    assert exact > 0.9 * len(SIZES)


def test_upstream_classes_are_eight_apart_up_to_64_then_four_per_doubling() -> None:
    """Redis' deps/Makefile builds jemalloc with --with-lg-quantum=3; sc.h: SC_LG_NGROUP 2 [facts 8.1]."""
    classes = sorted({ALLOCATORS["jemalloc"].usable(size) for size in range(1, 1100)})
    assert classes == [
        8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280,
    ]  # fmt: skip
    assert ALLOCATORS["jemalloc"].usable(16_385) == 20_480
    assert ALLOCATORS["jemalloc"].usable((1 << 30) + 1) == (1 << 30) + (1 << 28)


@pytest.mark.parametrize("name", ALLOCATORS)
def test_the_table_holds_usable_of_every_size(name: str) -> None:
    """`usable(n)` is `table[(n + 7) // 8]`: what compiled code reads."""
    table = ALLOCATORS[name].table(4096)
    assert all(table[(size + 7) // 8] == ALLOCATORS[name].usable(size) for size in range(4097))
