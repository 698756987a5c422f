"""Probes of forks and of pages that a forked child shares, in a process of our own: no server is needed.

    store into each page | a child lives        -> a fault and a copy             cow_fault_ns
                         | it has just gone     -> only the write protection      reuse_fault_ns
    huge pages (madvise) | fork, with and without them -> per MiB                 huge_fork_ns_per_mib
                         | first store into each of them while a child lives      huge_split_ns, huge_copy_ns before Linux 5.8

Where the host gives no huge pages the last two are not there, and a profile takes them over.
"""

import json
import mmap
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from redsim.host.fork import HUGE_BYTES, PAGE_BYTES, SPLIT_SINCE
from redsim.lab import probe_loops
from redsim.lab.probes import Figures, figure
from redsim.units import KIB, MIB

__all__ = ["copy_on_write", "has_huge_pages", "huge_pages"]

ROUNDS = 4  # the first of each is thrown away
FORKS = """
import json, mmap, os, sys, time
def forks():
    out = []
    for _ in range(15):
        started = time.perf_counter_ns()
        child = os.fork()
        if child == 0:
            os._exit(0)
        out.append(time.perf_counter_ns() - started)
        os.waitpid(child, 0)
    return out
without, size = forks(), int(sys.argv[1])
area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area.madvise(mmap.MADV_HUGEPAGE)
for first in range(0, size, 4096):
    area[first] = 1
print(json.dumps([without, forks()]))
"""
Bytes = npt.NDArray[np.uint8]


def copy_on_write(size: int = 64 * MIB) -> Figures:
    """cow_fault_ns and reuse_fault_ns: a store into each 4 KiB page while a forked child shares them, and when it has gone."""
    shared, left = [], []
    pages = _area(size, "MADV_NOHUGEPAGE")
    probe_loops.touch(pages)
    for _ in range(ROUNDS):
        with _child():
            shared.append(probe_loops.touch(pages) / (size // PAGE_BYTES))
        with _child():
            pass
        left.append(probe_loops.touch(pages) / (size // PAGE_BYTES))
    says = f"store into each 4 KiB page of {size // MIB} MiB"
    return {
        "cow_fault_ns": figure(shared[1:], f"{says} while a forked child shares them"),
        "reuse_fault_ns": figure(left[1:], f"{says} after the child has gone: only the write protection is left"),
    }


def huge_pages(size: int = 256 * MIB) -> Figures:
    """huge_fork_ns_per_mib and huge_split_ns (huge_copy_ns on a Linux that copies them whole); {} where the host gives none."""
    pages = _area(size, "MADV_HUGEPAGE")
    probe_loops.touch(pages)
    if not has_huge_pages(size):
        return {}
    stores = []
    for _ in range(ROUNDS):
        few = _area(size // 4, "MADV_HUGEPAGE")
        probe_loops.touch(few)
        with _child():
            stores.append(probe_loops.touch(few[:: HUGE_BYTES // PAGE_BYTES]) / (size // 4 // HUGE_BYTES))
    is_split = tuple(int(part) for part in platform.release().split(".")[:2]) >= SPLIT_SINCE
    says = f"first store into each huge page of {size // 4 // MIB} MiB that a child shares"
    return _forks(size) | {"huge_split_ns" if is_split else "huge_copy_ns": figure(stores[1:], says)}


def _forks(size: int) -> Figures:
    """huge_fork_ns_per_mib, by a small process of its own, whose other memory is little; {} if it shows no difference."""
    done = subprocess.run([sys.executable, "-S", "-c", FORKS, str(size)], capture_output=True, text=True, check=True)
    without, within = np.array(json.loads(done.stdout))
    more = (within - np.median(without)) / (size // MIB)
    if np.median(more) <= 0:
        return {}
    return {"huge_fork_ns_per_mib": figure(more, f"fork of a small process with {size // MIB} MiB of huge pages more")}


def has_huge_pages(least: int) -> bool:
    """Whether at least half of `least` bytes of this process lie in huge pages."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) * KIB for line in lines if line.startswith("AnonHugePages:")) >= least // 2


@contextmanager
def _child() -> Iterator[None]:
    """A forked child that shares all pages, until the block ends."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    try:
        yield
    finally:
        os.close(writer)
        os.close(reader)
        os.waitpid(child, 0)


def _area(size: int, advice: str) -> Bytes:
    """So many bytes of private memory, beginning with a huge page; freed with the array."""
    area = mmap.mmap(-1, size + HUGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, advice):
        area.madvise(getattr(mmap, advice))
    whole = np.frombuffer(area, dtype=np.uint8)
    first = -whole.ctypes.data % HUGE_BYTES
    return whole[first : first + size]
