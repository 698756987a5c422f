"""One disk, shared by whoever writes to it: first come, first served, one request at a time.

Mirrors a block device behind a file system as a single queue:

    fsync of n dirty bytes    drawn from the disk's table of fdatasync times, plus n at the disk's bandwidth
    write of n bytes          n at the bandwidth
    done = max(now, when the disk is free) + that long; with a limit of IOPS at least that of a request, 256 KiB in each

A request's end is known when it comes, but may move: a disk that gets stuck holds up all that is not done yet.
Differs: no request overtakes another, none run side by side; a disk of many queues serves a mix better than this one.
A drive that lies (`profile.lies`) takes as long as one that does not. Not modelled: reads, seeks between files, a file system's
journal shared by its files.
"""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import simpy

from redsim.rng import generator
from redsim.scenario.disk import DiskProfile
from redsim.units import S

__all__ = ["Disk", "Job"]


@dataclass(eq=False, slots=True)
class Job:
    """One request; `done_ns` moves if the disk gets stuck before. It is worked on from `begun_ns` on."""

    done_ns: int
    begun_ns: int = 0

    def share_at(self, now_ns: int) -> float:
        """How much of it is done."""
        return min(max((now_ns - self.begun_ns) / max(self.done_ns - self.begun_ns, 1), 0.0), 1.0)


class Disk:
    """The disk of a host.

    state    free_ns         when it has done all it was asked for
             busy_ns         how long it worked, or will have
             factor          how many times slower than its profile it is now (slow_disk)
             added_ns        what each fsync takes longer now (slow_disk)
             full            faults that leave no space now (full_disk)
             others          how many others write to it now: hogs, faults, write-back
    """

    def __init__(self, env: simpy.Environment, profile: DiskProfile, seed: int, host: str) -> None:
        self.env, self.profile = env, profile
        self.free_ns = self.busy_ns = self.added_ns = self.others = self.full = 0
        self.factor = 1.0
        self._jobs: list[Job] = []
        self._seed, self._host = seed, host
        self._luck = self.stream("fsync")

    @property
    def is_shared(self) -> bool:
        """Whether a fsync may have to wait for somebody, or takes another time than its profile's."""
        return self.others > 0 or abs(self.factor - 1.0) > 1e-9 or self.added_ns > 0 or self.free_ns > self.env.now

    def stream(self, *names: str) -> np.random.Generator:
        """A stream of luck for one who writes to this disk."""
        return generator(self._seed, self._host, "disk", *names)

    def fsync(self, dirty_bytes: int, luck: np.random.Generator | None = None) -> Job:
        """fdatasync of a file with so many bytes only in the page cache; `luck` of who asks, None: the servers'."""
        ns = self.profile.fsync_at(float((luck or self._luck).random()))
        return self._submit(self.factor * (ns + self._transfer_ns(dirty_bytes)) + self.added_ns)

    def write(self, count_bytes: int) -> Job:
        """Bytes written by somebody else, or back from the page cache."""
        return self._submit(self.factor * max(self._transfer_ns(count_bytes), self.profile.io_ns))

    def _transfer_ns(self, count_bytes: int) -> float:
        return count_bytes * S / self.profile.stream_bytes_per_s

    def _submit(self, ns: float) -> Job:
        now = int(self.env.now)
        self._jobs = [job for job in self._jobs if job.done_ns > now]
        begun_ns = max(now, self.free_ns)
        job = Job(begun_ns + max(round(ns), 1), begun_ns)
        self.free_ns = job.done_ns
        self.busy_ns += max(round(ns), 1)
        self._jobs.append(job)
        return job

    def stick(self, for_ns: int) -> None:
        """Nothing moves for so long; what is not done yet is done later by as much."""
        now = int(self.env.now)
        self.free_ns = max(self.free_ns, now) + for_ns
        for job in self._jobs:
            if job.done_ns > now:
                job.done_ns += for_ns

    def forget(self) -> None:
        """The host is down: nothing of what the disk was asked for is of use any more."""
        self.free_ns = int(self.env.now)
        self._jobs = []

    def wait(self, job: Job) -> Generator[simpy.Event, None, None]:
        """A SimPy process may `yield from` this until the job is done, however often its end moves."""
        while self.env.now < job.done_ns:
            yield self.env.timeout(job.done_ns - self.env.now)
