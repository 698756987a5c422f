"""The append-only file as SimPy sees it: what the loop asks, the bio thread's fsync, how much a crash would lose at each moment.

Mirrors aof.c and bio.c of 7.0 where they meet the host: the state machine itself runs inside the loop (dataplane/aof.py) and
comes here for what it cannot know.

    bio     submit the file's dirty bytes to the disk; aof[A_DONE] is when that will be done, moved if the disk gets stuck
    write   wait for the fsync in flight if that locks the file, and for room in the page cache
    fsync   always, on a disk that others use too: wait for it
    exit    a write failed under appendfsync always: the process ends, and with it the run of its loop

`points` keeps what was acknowledged, written and durable at each run of serverCron and around each fsync: exposure over time.
Differs: what the loop has written since the last visit here is dirty as of the visit, 100 ms later at most.
Redis samples each write a second time as `aof-write`; here it is one stall under one name.

A rewrite (aof.c:rewriteAppendOnlyFileBackground) begins a new incremental file, syncs the old one in the background, and leaves
the base file to a child (childinfo.py). Rewriter knows when it is due: by growth, by command, and how long not after failures.
Differs: the base file at the start is as long as a rewrite would make it, where anything is ever rewritten, else there is none;
what the turn of the fork still has in aof_buf goes to the new file; 6.2, which has no such files, is taken as 7.0.
Not modelled: the time that opening and closing files takes, a bio thread busy with other jobs, timestamps.
"""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simpy

from redsim.dataplane import layout as dp
from redsim.host.disk import Disk, Job
from redsim.host.pagecache import PageCache
from redsim.redis.config import Rules
from redsim.redis.sds import sds_bytes

__all__ = ["EVENTS", "POINT", "Aof", "Rewriter", "aof_buffer_bytes"]

EVENTS = ("aof-write-alone", "aof-write-pending-fsync", "aof-write-active-child", "aof-fsync-always")  # as AOF_* of the layout
FILE = "appendonly.aof"
NO_SPACE_AOF = "Write error writing append only file on disk: No space left on device"
ENOMEM_AOF = "Can't rewrite append only file in background: fork: Cannot allocate memory"
REWRITE_LIMIT_THRESHOLD = 3  # aof.c: AOF_REWRITE_LIMITE_THRESHOLD
REWRITE_LIMIT_MAX_MINUTES = 60  # aof.c: AOF_REWRITE_LIMITE_MAX_MINUTES
POINT = ("now_ns", "acked_bytes", "acked_cmds", "written_bytes", "written_cmds", "durable_bytes", "durable_cmds")
_KEPT = (dp.A_ACKED, dp.A_ACKED_CMDS, dp.A_WRITTEN, dp.A_WRITTEN_CMDS, dp.A_SYNCED, dp.A_SYNCED_CMDS)


class Aof:
    """The file of one node. `numbers` is the World's aof row, or its twin's.

    state    points    rows of POINT, in time order
             fsyncs    (submitted, done) of the bio thread's fsyncs, ns
             blocked   (from, to) of the writes that had to wait for the disk, ns
             postponed (from, to) of the writes put off; an end that only the loop saw is known to 100 ms
             exited    when the process ended for want of space, None while it lives
             lost      (bytes, commands) appended that no file has any more, as a crash took them
             base      of the base file: bytes, keys, and (bytes, commands) appended when it was made
    """

    def __init__(self, env: simpy.Environment, numbers: dp.I64, disk: Disk, cache: PageCache) -> None:
        self.env, self.numbers, self.disk, self.cache = env, numbers, disk, cache
        self.points: list[tuple[int, ...]] = []
        self.fsyncs: list[tuple[int, int]] = []
        self.blocked: list[tuple[int, int]] = []
        self.postponed: list[tuple[int, int]] = []
        self._put_off: int | None = None  # since when, as far as seen here
        self._told_of = -1  # the last postponement whose end was told
        self.exited: int | None = None
        self.may_die = False
        self._job: Job | None = None
        self._told = 0  # bytes that the page cache has heard of
        self._landed = (0, 0)  # bytes, commands that the last fsync done has made durable, seen by the loop or not
        self.lost = (0, 0)  # bytes, commands that crashes have taken: they are counted on, but are not in the file
        self.gone = env.event()  # the process is
        self.base = (0, 0, 0, 0)  # of the base file: bytes, keys; bytes and commands appended when it was made

    def before_run(self) -> None:
        """What the loop may take as given until it comes back."""
        a = self.numbers
        self._tell()
        a[dp.A_SHARED] = int(self.disk.is_shared)
        a[dp.A_FULL] = int(self.disk.full > 0)
        a[dp.A_LIMIT] = int(a[dp.A_WRITTEN]) + self.cache.room_bytes
        if self._job is not None and a[dp.A_FLIGHT]:
            a[dp.A_DONE] = self._job.done_ns

    def note(self) -> None:
        """A point of the exposure, now."""
        self._watch_postponement()
        kept = [int(self.numbers[column]) for column in _KEPT]
        kept[4:] = max(kept[4], self._landed[0]), max(kept[5], self._landed[1])
        written_back = min(self.lost[0] + self.cache.clean_bytes.get(FILE, 0), kept[2])
        if written_back > kept[4]:  # the page cache was faster than the policy
            share = (written_back - kept[4]) / max(kept[2] - kept[4], 1)
            kept[5] += int(share * (kept[3] - kept[5]))
            kept[4] = written_back
        self.points.append((int(self.env.now), *kept))

    def answer(self) -> Generator[simpy.Event, None, None]:
        """What the loop came back for; it goes on after this."""
        a, asked_ns = self.numbers, int(self.env.now)
        want = int(a[dp.A_WANT])
        self._tell()
        self._watch_postponement()
        if want == dp.WANT_BIO:
            self._job = self.cache.fsync(FILE)
            a[dp.A_DONE] = self._job.done_ns
            self.env.process(self._land(self._job, (int(a[dp.A_SUBMITTED]), int(a[dp.A_SUBMITTED_CMDS]))))
        elif want == dp.WANT_WRITE:
            self._end_postponement()
            if a[dp.A_PENDING] and a[dp.A_LOCKS] and self._job is not None:
                yield from self._while_alive(self.disk.wait(self._job))
            yield from self._while_alive(self.cache.room(int(a[dp.A_LEN])))
            self.blocked.append((asked_ns, int(self.env.now)))
        elif want == dp.WANT_FSYNC:
            yield from self._while_alive(self.disk.wait(self.cache.fsync(FILE)))
        else:
            self.exited = asked_ns
        a[dp.A_UNTIL] = int(self.env.now)
        a[dp.A_WANT] = dp.WANT_NONE
        self.note()

    def _while_alive(self, waiting: Generator[simpy.Event, None, None]) -> Generator[simpy.Event, None, None]:
        """Wait for the disk, unless the process dies first."""
        if not self.may_die:
            yield from waiting
        elif not self.gone.triggered:
            yield self.env.process(waiting) | self.gone

    def _land(self, job: Job, upto: tuple[int, int]) -> Generator[simpy.Event, None, None]:
        begun_ns, lost, epoch = int(self.env.now), self.lost, self.cache.epoch
        yield from self.disk.wait(job)
        if epoch != self.cache.epoch:
            return
        self.fsyncs.append((begun_ns, job.done_ns))
        self._landed = (upto[0] + self.lost[0] - lost[0], upto[1] + self.lost[1] - lost[1])
        self.note()
        self._end_postponement()

    def durable_bytes(self) -> int:
        """How far the file is on the disk now, in bytes appended."""
        return int(max(self.numbers[dp.A_SYNCED], self._landed[0], self.lost[0] + self.cache.clean_bytes.get(FILE, 0)))

    def arrived_bytes(self) -> int:
        """How far it is there already, in the middle of a fsync."""
        return max(self.durable_bytes(), self.lost[0] + self.cache.arrived_bytes(FILE))

    def acknowledged_by_drive(self, before_ns: int) -> int:
        """How far it was on the disk by `before_ns`, as far as was noted: what a drive that lies has given to its medium."""
        return max((row[POINT.index("durable_bytes")] for row in self.points if row[0] <= before_ns), default=self.lost[0])

    def die(self) -> None:
        """The process is gone."""
        self.note()
        self._tell()
        self._end_postponement()
        self.gone.succeed()

    def lose_host(self) -> None:
        """And its host, with all that was dirty."""
        self.cache.forget()
        self.disk.forget()

    def reopen(self, upto: int, commands: int, *, with_host: bool) -> None:
        """A new process has read the file up to `upto` bytes appended, `commands` in them, and goes on behind them. Bytes are
        counted on as if nothing had been lost; `lost` is the difference."""
        a = self.numbers
        appended, all_commands = int(a[dp.A_APPENDED]), int(a[dp.A_CMDS])
        more, more_commands = appended - upto, all_commands - commands
        durable = (appended, all_commands)
        if not with_host:
            durable = min(self.durable_bytes() + more, appended), min(int(a[dp.A_SYNCED_CMDS]) + more_commands, all_commands)
        self.lost = (self.lost[0] + more, self.lost[1] + more_commands)
        if with_host:
            self.cache.clean_bytes[FILE] = appended - self.lost[0]
        for column in (dp.A_LEN, dp.A_ROOM, dp.A_FLIGHT, dp.A_PENDING, dp.A_SELECTED, dp.A_DIRTY, dp.A_UNIT, dp.A_FAILING):
            a[column] = 0
        a[dp.A_POSTPONED] = dp.NONE
        for column in (dp.A_ACKED, dp.A_WRITTEN, dp.A_SUBMITTED):
            a[column] = appended
        for column in (dp.A_ACKED_CMDS, dp.A_WRITTEN_CMDS, dp.A_SUBMITTED_CMDS):
            a[column] = all_commands
        a[dp.A_SYNCED], a[dp.A_SYNCED_CMDS] = durable
        self._landed, self._told, self._job, self.gone = durable, appended, None, self.env.event()
        self.note()

    def _watch_postponement(self) -> None:
        """What the loop has put off, or no longer puts off, since the last look."""
        a = self.numbers
        since = int(a[dp.A_POSTPONED_FROM]) if a[dp.A_POSTPONED] != dp.NONE else None
        if since != self._put_off:
            self._end_postponement()
        if since is not None and since != self._told_of:
            self._put_off = since

    def _end_postponement(self) -> None:
        if self._put_off is not None:
            self.postponed.append((self._put_off, int(self.env.now)))
            self._told_of = self._put_off
            self._put_off = None

    def _tell(self) -> None:
        """The page cache hears of what was written since; what the loop itself has synced (always) is not dirty any more."""
        written = int(self.numbers[dp.A_WRITTEN])
        self.cache.dirty(FILE, written - max(self._told, int(self.numbers[dp.A_SYNCED])))
        self._told = written

    def info(self) -> dict[str, int | str]:
        """INFO persistence: what it says of the AOF."""
        a = self.numbers
        return {
            "aof_enabled": 1,
            "aof_rewrite_in_progress": 0,
            "aof_rewrite_scheduled": 0,
            "aof_last_write_status": "err" if a[dp.A_FAILING] else "ok",
            "aof_current_size": self.in_files(),
            "aof_base_size": 0,
            "aof_buffer_length": int(a[dp.A_LEN]),
            "aof_pending_bio_fsync": int(a[dp.A_FLIGHT]),
            "aof_delayed_fsync": int(a[dp.A_DELAYED]),
        }

    def in_files(self) -> int:
        """Bytes in incremental files since the start of the run."""
        return int(self.numbers[dp.A_WRITTEN]) - self.lost[0]

    def switch(self) -> None:
        """aof.c:openNewIncrAofForAppend: the old incremental file is synced and closed by a bio thread."""
        self._tell()
        upto = (int(self.numbers[dp.A_WRITTEN]), int(self.numbers[dp.A_WRITTEN_CMDS]))
        self.env.process(self._land(self.cache.fsync(FILE), upto))

    def table(self) -> npt.NDArray[np.int64]:
        """The points, shape (n, len(POINT))."""
        return np.array(self.points, dtype=np.int64).reshape(-1, len(POINT))


def aof_buffer_bytes(room_bytes: int, rules: Rules) -> int:
    """mem_aof_buffer: the block of aof_buf beyond that of an empty string, which is there from the start."""
    return rules.allocator.usable(sds_bytes(room_bytes, rules)) if room_bytes else 0


@dataclass(slots=True)
class Rewriter:
    """When the AOF is rewritten, and what that has come to. Mirrors serverCron's trigger and aof.c:aofRewriteLimited.

    state    percentage, least_bytes, by_commands, incremental   the directives: auto-aof-rewrite-*, aof-use-rdb-preamble no,
                                                                 aof-rewrite-incremental-fsync
             base_bytes       of the base file
             incr_from        bytes in incremental files since the start of the run, where the first after the base begins
             grown_from       aof_base_size of INFO: what growth is counted from, both files after the last rewrite
             is_scheduled     aof_rewrite_scheduled
             failures         in a row;  rewrites: begun
    """

    aof: Aof
    percentage: int
    least_bytes: int
    by_commands: bool
    incremental: bool
    base_bytes: int = 0
    incr_from: int = 0
    grown_from: int = 0
    is_scheduled: bool = False
    is_ok: bool = True
    failures: int = 0
    rewrites: int = 0
    last_cow_bytes: int = 0
    last_s: int = -1
    _delay_minutes: int = 0
    _retry_s: int = 0

    @property
    def size_bytes(self) -> int:
        """aof_current_size: base and incremental files."""
        return self.base_bytes + self.aof.in_files() - self.incr_from

    def growth(self) -> int:
        """Percent."""
        return self.size_bytes * 100 // max(self.grown_from, 1) - 100

    def is_due(self, now_s: int) -> bool:
        """auto-aof-rewrite-percentage: asked by serverCron while there is no child."""
        is_grown = self.size_bytes > self.least_bytes and self.growth() >= self.percentage
        return self.percentage > 0 and is_grown and not self.is_limited(now_s)

    def is_limited(self, now_s: int) -> bool:
        """After three failures in a row a rewrite waits for a minute, then two, four … sixty."""
        if self.failures < REWRITE_LIMIT_THRESHOLD:
            self._delay_minutes = self._retry_s = 0
            return False
        if self._retry_s:
            if now_s < self._retry_s:
                return True
            self._retry_s = 0
            return False
        self._delay_minutes = min(2 * self._delay_minutes or 1, REWRITE_LIMIT_MAX_MINUTES)
        self._retry_s = now_s + 60 * self._delay_minutes
        return True

    def failed(self) -> None:
        """aof_lastbgrewrite_status err."""
        self.is_ok = False
        self.failures += 1

    def succeeded(self, file_bytes: int, incr_from: int) -> None:
        """backgroundRewriteDoneHandler: the new base file, and the incremental one begun at the fork."""
        self.base_bytes, self.incr_from = file_bytes, incr_from
        self.grown_from = self.size_bytes
        self.is_ok, self.failures = True, 0

    def begin_again(self) -> None:
        """aof.c:loadAppendOnlyFiles: growth is counted from the base file's size."""
        self.is_scheduled, self.is_ok, self.failures, self.grown_from = False, True, 0, self.base_bytes

    def info(self, *, is_at_work: bool, current_s: int) -> dict[str, int | str]:
        """INFO persistence: what it says of rewrites, over what the AOF says."""
        return {
            "aof_rewrite_in_progress": int(is_at_work),
            "aof_rewrite_scheduled": int(self.is_scheduled),
            "aof_last_rewrite_time_sec": self.last_s,
            "aof_current_rewrite_time_sec": current_s,
            "aof_last_bgrewrite_status": "ok" if self.is_ok else "err",
            "aof_rewrites": self.rewrites,
            "aof_rewrites_consecutive_failures": self.failures,
            "aof_last_cow_size": self.last_cow_bytes,
            "aof_current_size": self.size_bytes,
            "aof_base_size": self.grown_from,
        }
