"""The page cache between write(2) and the disk: what is dirty, when it goes to the disk, when a writer has to wait.

Mirrors Linux' write-back [linux-vm]: every dirty_writeback_centisecs pages older than dirty_expire_centisecs are written; beyond
dirty_background_ratio of the memory all that is more; a writer waits from half way between there and dirty_ratio on until the
disk has taken enough (balance_dirty_pages). fsync writes its file's pages and waits.

    write ---> dirty, oldest first ---> write-back, a MiB at a time ---> disk
                    |______________________ fsync of its file __________^

Differs: what the disk has when the host goes down is all there in the file, whatever the file system has told of its length;
the ratios are taken of all the host's memory; a writer over the limit waits until dirty is below it, Linux lets it
trickle at about the disk's pace. What is on its way to the disk counts as clean.
Not modelled: rewriting a page that is dirty already (a log never does), memory that the page cache lacks, per-cgroup limits.
"""

from collections import deque
from collections.abc import Generator

import simpy

from redsim.host.disk import Disk, Job
from redsim.units import MIB, S

__all__ = ["PageCache"]

BACKGROUND_SHARE, DIRTY_SHARE = 0.10, 0.20  # vm.dirty_background_ratio, vm.dirty_ratio
EXPIRE_NS, WRITEBACK_NS = 30 * S, 5 * S  # vm.dirty_expire_centisecs, vm.dirty_writeback_centisecs
CHUNK_BYTES = MIB
PAGE_BYTES = 4096


class PageCache:
    """Dirty bytes of all files of a host.

    state    dirty_bytes    not yet on their way to the disk
             clean_bytes    by file: how many of its bytes, from its start, are on the disk
             epoch          how often the host has lost it all
    """

    def __init__(self, env: simpy.Environment, disk: Disk, memory_bytes: int, end_ns: int) -> None:
        self.env, self.disk, self.end_ns = env, disk, end_ns
        self.background_bytes = int(BACKGROUND_SHARE * memory_bytes)
        self.ceiling_bytes = int((BACKGROUND_SHARE + DIRTY_SHARE) / 2 * memory_bytes)
        self.dirty_bytes = self.epoch = 0
        self.clean_bytes: dict[str, int] = {}
        self._extents: deque[tuple[int, str, int]] = deque()  # when, file, bytes; oldest first
        self._more: simpy.Event | None = None
        self._flying: list[tuple[Job, str, int]] = []  # job, file, bytes; oldest first
        env.process(self._write_back())

    @property
    def room_bytes(self) -> int:
        """How much may be written before a writer has to wait."""
        return max(self.ceiling_bytes - self.dirty_bytes, 0)

    def dirty(self, file: str, count_bytes: int) -> None:
        """A file has got so many bytes more."""
        if count_bytes > 0:
            self._extents.append((int(self.env.now), file, count_bytes))
            self.dirty_bytes += count_bytes
            if self.dirty_bytes > self.background_bytes and self._more is not None and not self._more.triggered:
                self._more.succeed()

    def fsync(self, file: str) -> Job:
        """fdatasync: the file's dirty bytes go to the disk now; durable when the job is done."""
        mine = sum(size for _, name, size in self._extents if name == file)
        self._extents = deque(extent for extent in self._extents if extent[1] != file)
        self.dirty_bytes -= mine
        job = self.disk.fsync(mine)
        self.env.process(self._landed(job, file, mine))
        return job

    def room(self, count_bytes: int) -> Generator[simpy.Event, None, None]:
        """A writer may `yield from` this until so many bytes more may be dirty."""
        while self.dirty_bytes > 0 and self.room_bytes < count_bytes:
            yield from self._write_oldest()

    def forget(self) -> None:
        """The host is down: what is dirty is gone, and what is on its way to the disk does not arrive."""
        self._extents.clear()
        self.dirty_bytes = 0
        self.epoch += 1
        self._flying.clear()

    def arrived_bytes(self, file: str) -> int:
        """How many of the file's bytes, from its start, the disk has now: of a request under way whole pages, in order."""
        flying = next((one for one in self._flying if one[1] == file), None)
        part = flying[0].share_at(int(self.env.now)) * flying[2] if flying is not None else 0
        return self.clean_bytes.get(file, 0) + int(part) // PAGE_BYTES * PAGE_BYTES

    def _landed(self, job: Job, file: str, count_bytes: int) -> Generator[simpy.Event, None, None]:
        epoch, flying = self.epoch, (job, file, count_bytes)
        self._flying.append(flying)
        yield from self.disk.wait(job)
        if epoch == self.epoch:
            self._flying.remove(flying)
            self.clean_bytes[file] = self.clean_bytes.get(file, 0) + count_bytes

    def _write_oldest(self) -> Generator[simpy.Event, None, None]:
        when, file, size = self._extents.popleft()
        now = min(size, CHUNK_BYTES)
        if size > now:
            self._extents.appendleft((when, file, size - now))
        self.dirty_bytes -= now
        yield from self._landed(self.disk.write(now), file, now)

    def _write_back(self) -> Generator[simpy.Event, None, None]:
        """The flusher: wakes up every five seconds, and as soon as there is too much."""
        while self.env.now < self.end_ns:
            self._more = self.env.event()
            yield self.env.timeout(WRITEBACK_NS) | self._more
            self.disk.others += 1
            while self._extents and self._is_due():
                yield from self._write_oldest()
            self.disk.others -= 1

    def _is_due(self) -> bool:
        return self.dirty_bytes > self.background_bytes or self._extents[0][0] + EXPIRE_NS <= self.env.now
