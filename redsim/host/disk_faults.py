"""What goes wrong with a disk on the timeline, as SimPy processes: slow, stuck, full, and somebody else who writes a lot.

Mirrors `dd bs=1M oflag=dsync` for the hog: a MiB at a time, each synced and awaited, no faster than it is told to be. Differs:
the hog's bytes never lie dirty in the page cache. Not modelled: the CPU that it takes, errors of the disk itself.
"""

from collections.abc import Generator

import numpy as np
import simpy

from redsim.host.disk import Disk
from redsim.scenario.faults import DiskFault
from redsim.units import MIB, S

__all__ = ["disk_fault"]


def disk_fault(env: simpy.Environment, disk: Disk, fault: DiskFault, place: int) -> Generator[simpy.Event, None, None]:
    """One fault, from its time to its end; `place`: which of the timeline it is."""
    yield env.timeout(fault.at)
    if fault.fault == "stuck_disk":
        disk.stick(fault.for_ns)
    elif fault.fault == "disk_hog":
        assert fault.bytes_per_s is not None, "the shape asks for it"
        yield from _hog(env, disk, disk.stream(f"hog {place}"), fault.bytes_per_s, int(env.now) + fault.for_ns)
    elif fault.fault == "full_disk":
        disk.full += 1
        yield env.timeout(fault.for_ns)
        disk.full -= 1
    else:
        disk.factor *= fault.factor
        disk.added_ns += fault.added
        yield env.timeout(fault.for_ns)
        disk.factor /= fault.factor
        disk.added_ns -= fault.added


def _hog(
    env: simpy.Environment, disk: Disk, luck: np.random.Generator, bytes_per_s: int, until_ns: int
) -> Generator[simpy.Event, None, None]:
    disk.others += 1
    each_ns = MIB * S // bytes_per_s
    while env.now < until_ns:
        begun_ns = int(env.now)
        yield from disk.wait(disk.fsync(MIB, luck))
        yield env.timeout(max(begun_ns + each_ns - int(env.now), 0))
    disk.others -= 1
