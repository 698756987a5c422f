"""Children of the server as SimPy sees them: when one is forked, how far it is, what it has cost, when its end is noticed.

Mirrors childinfo.c, rdb.c (rdbSaveBackground, backgroundSaveDoneHandler), aof.c (rewriteAppendOnlyFileBackground,
backgroundRewriteDoneHandler, persistAofManifest) and server.c (checkChildrenDone, serverCron) of 7.0.

    BGSAVE, a save point --fork-->  child: CPU for 4 MiB, hand them to the disk, wait for those before ... fsync --exit--> cron
                         parent: copies the pages it writes (dataplane/cow.py)

A child counts as gone once serverCron has waited for it. *-incremental-fsync hands each 4 MiB to the disk and waits for the ones
before; without it they stay dirty in the page cache, and the fsync at the end takes them all. With fewer cores than threads the
child gets what the main thread leaves of its share.
Differs: the length and the work are those of the keys at the fork; the order in which a child comes to them is drawn.
BGREWRITEAOF begins at the next serverCron; the syncs of manifests, two, at the end four, hold the loop for what the disk says
then. SAVE, and the save that FLUSHALL makes where there are save points, take what an idle disk would take; they hold what the
keys are at the end of their iteration. RSS is used_memory and what was resident beside it at the start.
Not modelled: a child's own memory growing.
"""

from collections.abc import Callable
from typing import Any

import simpy

from redsim.dataplane import layout as dp
from redsim.host.disk import Disk
from redsim.host.fork import fork_ns, page_tables_bytes, refusal, victim
from redsim.host.pagecache import PageCache
from redsim.redis.aof import ENOMEM_AOF, NO_SPACE_AOF, Rewriter
from redsim.redis.child_life import life
from redsim.redis.config import ChildRules
from redsim.redis.rdb import EMPTY_FILE_BYTES, ENOMEM, NO_SPACE, RdbFile, Save
from redsim.units import MIB, S

__all__ = ["Child"]

RETRY_S = 5  # server.h: CONFIG_BGSAVE_RETRY_DELAY


class Child:
    """The children of one node. `world` gives the World, or its twin; `fork` and `hold` are the data plane's.

    state    saves     all of them, in time order
             lines     (ns, text) of the log
             alive     the one under way, None: none
             is_ok, is_scheduled  rdb_last_bgsave_status; rdb_bgsave_scheduled: a BGSAVE SCHEDULE waits for a rewrite to end
             rewriter  of the AOF, None without one
             exited    when the OOM killer took the server, None while it lives
             on_fork   called with a Save that begins: the keys of this moment are those of its file
             on_saved  called with it when that file is there to be loaded
    """

    def __init__(
        self, env: simpy.Environment, world: Callable[[], Any], fork: Callable[[Any, int], None], disk: Disk, cache: PageCache,
        rules: ChildRules, hold: Callable[[Any, int, int], None], rewriter: Rewriter | None,
    ) -> None:  # fmt: skip
        self.rewriter, self._hold = rewriter, hold
        self.env, self.world, self.disk, self.cache, self.rules = env, world, disk, cache, rules
        self.numbers: dp.I64 = world().child
        self.saves: list[Save] = []
        self.lines: list[tuple[int, str]] = []
        self.exited: int | None = None
        self.on_fork: Callable[[Save], None] = lambda _save: None
        self.on_saved: Callable[[Save], None] = lambda _save: None
        self.end_ns = int(world().st[dp.END])  # of the run; a child may go on
        self.alive: Save | None = None
        self.cached_bytes = 0  # of the last file, in the page cache
        self.last_cow_bytes = self.peak_cow_bytes = 0
        self._fork, self.luck, self._flush_luck = fork, disk.stream("children"), disk.stream("flushall")
        self._saved_changes = self._pids = self._last_try_s = 0
        self.last_save_s = self.now_s()
        self.is_ok, self._estimated_s, self.is_scheduled = True, -1, False
        self._draw_flush()
        self._estimate()

    # ---- what is there now

    def now_ns(self) -> int:
        return int(self.world().st[dp.NOW])

    def now_s(self) -> int:  # server.unixtime
        return (self.now_ns() + self.rules.phase_ns) // S

    def rss_bytes(self) -> int:
        """The server's resident memory."""
        return int(self.world().st[dp.USED]) + self.rules.above_bytes

    def dirty(self) -> int:
        """server.dirty: changes since the last save that succeeded."""
        return self._changes() - self._saved_changes

    def _changes(self) -> int:
        calls = self.world().kind[:, dp.K_CALLS]
        return int(self.numbers[dp.CH_CHANGES]) + int((calls * self.rules.weights).sum())

    def cow_bytes(self) -> int:
        """Private memory of the child: pages that the parent has copied, and its own."""
        if self.alive is None:
            return 0
        return (int(self.numbers[dp.CH_COPIED]) << int(self.numbers[dp.CH_SHIFT])) + self.rules.costs.child_own_bytes

    def memory(self, rss_bytes: int) -> dict[str, int]:
        """Bytes beside the server's own: copied, resident in the child (shared pages too), page tables of both, page cache."""
        tables = page_tables_bytes(rss_bytes, self.rules.has_huge_pages)
        child = page_tables_bytes(self.alive.rss_bytes, self.rules.has_huge_pages) if self.alive is not None else 0
        return {
            "cow": self.cow_bytes(),
            "child_rss": self.alive.rss_bytes if self.alive is not None else 0,
            "page_tables": tables + child,
            "page_cache": self.cache.dirty_bytes + self.cached_bytes,
        }

    # ---- called by the server

    def answer(self) -> None:
        """The loop has forked, or was refused, or has saved."""
        want = int(self.numbers[dp.CH_WANT])
        self.numbers[dp.CH_WANT] = 0
        if want & dp.FORKED:
            self._begin(Save("BGSAVE", "BGSAVE", int(self.numbers[dp.CH_FORK_AT]) - int(self.numbers[dp.CH_FORK_NS])))
        if want & dp.FORK_FAILED:
            self._refused("BGSAVE")
        if want & dp.SAVED:
            self._saved("SAVE", RdbFile.of(self.world()), int(self.numbers[dp.CH_SAVE_NS]))
        if want & dp.FLUSHED:
            self._saved("FLUSHALL", RdbFile(EMPTY_FILE_BYTES, 0, 0, 1_000_000), int(self.numbers[dp.CH_FLUSH_NS]))
            self._draw_flush()
        if want & dp.REWRITE_WANTED and self.rewriter is not None:
            self.rewriter.is_scheduled = True
        if want & dp.SAVE_WANTED:
            self.is_scheduled = True

    def cron(self) -> None:
        """serverCron: a scheduled rewrite; the child is waited for; without one, save points and the AOF's growth."""
        if self.numbers[dp.CH_WANT]:
            self.answer()
        self._mind_memory()
        rewriter = self.rewriter
        if self.alive is None and rewriter is not None and rewriter.is_scheduled and not rewriter.is_limited(self.now_s()):
            self._rewrite(rewriter, "BGREWRITEAOF")
        if (save := self.alive) is not None:
            if save.kind == "BGSAVE" and save.flushes != self.numbers[dp.CH_FLUSHES]:
                save.status, save.done_ns = "killed by FLUSHALL", self.now_ns()
            if save.done_ns is not None:
                self._wait(save)
        else:
            self._save_points()
            if self.alive is None and rewriter is not None and rewriter.is_due(self.now_s()):
                growth = rewriter.growth()
                self._log(f"Starting automatic rewriting of AOF on {growth}% growth")
                self._rewrite(rewriter, f"growth of {growth} %")
        if self.is_scheduled and self.alive is None and self._may_try():
            self._begin_save(Save("BGSAVE", "BGSAVE SCHEDULE", self.now_ns()))
        self._estimate()

    def die(self) -> None:
        """The server is gone, and with it its child (childinfo.c:sendChildInfoGeneric: nobody to report to, it exits)."""
        save, now_ns = self.alive, int(self.env.now)
        if save is not None:
            if save.done_ns is None:
                save.status, save.done_ns = "died with the server", now_ns
            save.noticed_ns, save.cow_bytes = now_ns, self.cow_bytes()
            self.alive = None
        self.cached_bytes = 0
        self.numbers[[dp.CH_STATE, dp.CH_STRETCH, dp.CH_WANT, dp.CH_OWED, dp.CH_FORK_OWED, dp.CH_MISCONF]] = 0
        self.world().aof[dp.A_CHILD] = 0

    def begin_again(self) -> None:
        """A new process has loaded its data: nothing has changed since, the last save is now."""
        self.is_ok, self._last_try_s, self.is_scheduled = True, 0, False
        self._saved_changes, self.last_save_s = self._changes(), self.now_s()
        if self.rewriter is not None:
            self.rewriter.begin_again()

    def _rewrite(self, rewriter: Rewriter, because: str) -> None:
        """aof.c:rewriteAppendOnlyFileBackground."""
        rewriter.is_scheduled, begun_ns = False, self.now_ns()
        self._estimate()
        if self.disk.full or self.numbers[dp.CH_REFUSED]:
            failed = NO_SPACE_AOF if self.disk.full else ENOMEM_AOF
            self.saves.append(Save("BGREWRITEAOF", because, begun_ns, rss_bytes=self.rss_bytes(), status=failed))
            self._log(failed)
            rewriter.failed()
            return
        self._persist_manifest(1)
        rewriter.aof.switch()
        self._fork(self.world(), dp.KIND_AOF)
        rewriter.rewrites += 1
        save = Save("BGREWRITEAOF", because, begun_ns, incr_from=rewriter.aof.in_files())
        self._begin(save, RdbFile.commands(self.world()) if rewriter.by_commands else None)

    def _persist_manifest(self, times: int) -> None:
        """aof.c:persistAofManifest on the main thread: fdatasync of the new one, rename, fsync of the directory."""
        last = [self.disk.fsync(0, self.luck) for _ in range(2 * times)][-1]
        self._hold(self.world(), int(self.numbers[dp.CH_MANIFEST_CAUSE]), max(last.done_ns - int(self.env.now), 0))

    def _save_points(self) -> None:
        dirty, now_s = self.dirty(), self.now_s()
        for seconds, changes in self.rules.points:
            is_due = dirty >= changes and now_s - self.last_save_s > seconds
            if is_due and self._may_try():
                self._log(f"{changes} changes in {seconds} seconds. Saving...")
                self._begin_save(Save("BGSAVE", f"save {seconds} {changes}", self.now_ns()))
                return

    def _may_try(self) -> bool:
        """server.c:serverCron: not within five seconds of a try that failed."""
        return self.is_ok or self.now_s() - self._last_try_s > RETRY_S

    def save_for_replicas(self, *, to_socket: bool, on_over: Callable[[Save], None]) -> Save | None:
        """replication.c:startBgsaveForReplication: to disk, or through a pipe to the replicas' sockets; None: it cannot fork.
        When the child has been waited for, `on_over` is called with the save."""
        save = Save("BGSAVE", "SYNC", self.now_ns(), on_over=on_over, drained=self.env.event() if to_socket else None)
        return save if self._begin_save(save) else None

    def kill(self, save: Save, status: str) -> None:
        """rdb.c:killRDBChild."""
        if save.done_ns is None:
            save.status, save.done_ns = status, self.now_ns()

    def _begin_save(self, save: Save) -> bool:
        """rdb.c:rdbSaveBackground out of serverCron. Has it begun?"""
        self.is_scheduled = False
        self._estimate()
        self._last_try_s = self.now_s()
        if self.numbers[dp.CH_REFUSED]:
            self._refused(save.because)
            return False
        save.begun_ns = self.now_ns()
        self._fork(self.world(), dp.KIND_RDB)
        self._begin(save)
        return True

    def _estimate(self) -> None:
        """What a fork and a SAVE would take now."""
        a, costs, rss = self.numbers, self.rules.costs, self.rss_bytes()
        a[dp.CH_FORK_NS] = fork_ns(costs, rss)
        if costs.region_copied_ns:
            a[dp.CH_REGION_FOR] = rss // MIB * costs.region_copied_ns
        a[dp.CH_REFUSED] = int(refusal(self.rules.host, self.rules.memory_bytes, rss, self.cache.dirty_bytes))
        a[dp.CH_SAVE_REFUSED] = int(self.disk.full > 0)
        if self.rules.knows_save and self.now_s() != self._estimated_s:
            self._estimated_s = self.now_s()
            file = RdbFile.of(self.world())
            a[dp.CH_SAVE_NS] = file.cpu_ns(costs) + file.file_bytes * S // self.disk.profile.stream_bytes_per_s

    # ---- the life of a child

    def _begin(self, save: Save, file: RdbFile | None = None) -> None:
        save.fork_ns, save.rss_bytes = int(self.numbers[dp.CH_FORK_NS]), self.rss_bytes()
        save.file = file or RdbFile.of(self.world())
        save.keys, save.dirty, save.flushes = save.file.keys, self._changes(), int(self.numbers[dp.CH_FLUSHES])
        if save.kind == "BGSAVE":
            self._last_try_s, self.is_scheduled = self.now_s(), False
        self._pids += 1
        self.saves.append(save)
        self.alive = save
        self.on_fork(save)
        self.peak_cow_bytes = 0
        what = "saving" if save.kind == "BGSAVE" else "append only file rewriting"
        self._log(f"Background {what} started by pid {1000 + self._pids}")
        self.env.process(life(self, save, save.file))

    def _wait(self, save: Save) -> None:
        """server.c:checkChildrenDone, after wait3."""
        a = self.numbers
        save.noticed_ns, save.cow_bytes = self.now_ns(), self.cow_bytes()
        self.alive = None
        a[dp.CH_STATE], a[dp.CH_STRETCH] = dp.CHILD_GONE, 0
        self.world().aof[dp.A_CHILD] = 0
        mb = save.cow_bytes // MIB
        cow = f"Fork CoW for {{}}: current {mb} MB, peak {mb} MB, average {mb // 2} MB"
        if save.kind == "BGSAVE":
            self._save_done(save, cow.format("RDB"))
        elif self.rewriter is not None:
            self._rewrite_done(save, self.rewriter, cow.format("AOF rewrite"))
        save.on_over(save)

    def _rewrite_done(self, save: Save, rewriter: Rewriter, cow: str) -> None:
        """aof.c:backgroundRewriteDoneHandler."""
        rewriter.last_cow_bytes, rewriter.last_s = save.cow_bytes, (self.now_ns() - save.begun_ns) // S
        self._log(cow)
        if save.status == "ok":
            assert save.file is not None, "what was rewritten had a size"
            self._log("Background AOF rewrite terminated with success")
            self._persist_manifest(2)
            rewriter.succeeded(save.file.file_bytes, save.incr_from)
            self.on_saved(save)
            self._log("Background AOF rewrite finished successfully")
        else:
            self._log("Background AOF rewrite terminated " + ("by signal 9" if "OOM" in save.status else "with error"))
            rewriter.failed()

    def _save_done(self, save: Save, cow: str) -> None:
        """rdb.c:backgroundSaveDoneHandler."""
        self.last_cow_bytes = save.cow_bytes
        lines, is_ok = save.end(cow)
        self.lines += [(self.now_ns(), text) for text in lines]
        if is_ok and save.drained is None:
            assert save.file is not None, "what was saved had a size"
            self._succeeded(save.dirty, save.file)
        elif is_ok is False:
            self._set_status(is_ok=False)

    def _succeeded(self, changes: int, file: RdbFile) -> None:
        self._saved_changes, self.last_save_s = changes, self.now_s()
        self.cached_bytes = 0 if self.rules.drops_cache else file.file_bytes
        self._set_status(is_ok=True)

    def _saved(self, because: str, file: RdbFile, took_ns: int) -> None:
        """A save on the main thread is done: SAVE, or that of FLUSHALL (db.c:flushAllDataAndResetRDB), whose file is empty."""
        now_ns = self.now_ns()
        save = Save("SAVE", because, max(now_ns - took_ns, 0), keys=file.keys, file=file, done_ns=now_ns, noticed_ns=now_ns)
        save.status = NO_SPACE if self.numbers[dp.CH_SAVE_REFUSED] else "ok"
        self.saves.append(save)
        if save.status == "ok":
            self.on_fork(save)
            self.on_saved(save)
            self._log("DB saved on disk")
            self._succeeded(self._changes(), file)
        else:
            self._log(NO_SPACE)

    def _draw_flush(self) -> None:
        """What the next FLUSHALL's save takes of an idle disk: the fsync of a few bytes."""
        if self.numbers[dp.CH_FLUSH_SAVES]:
            self.numbers[dp.CH_FLUSH_NS] = self.disk.profile.fsync_at(float(self._flush_luck.random()))

    def _refused(self, because: str) -> None:
        self.saves.append(Save("BGSAVE", because, self.now_ns(), rss_bytes=self.rss_bytes(), status=ENOMEM))
        self._log(ENOMEM)
        self._last_try_s = self.now_s()
        self._set_status(is_ok=False)

    def _set_status(self, *, is_ok: bool) -> None:
        self.is_ok = is_ok
        self.numbers[dp.CH_MISCONF] = int(not is_ok and self.rules.stop_writes and bool(self.rules.points))

    def _mind_memory(self) -> None:
        """With a child, does all fit into the memory of host or cgroup? Page cache gives way, dirty pages not at once."""
        rss, save = self.rss_bytes(), self.alive
        if save is None:
            return
        self.peak_cow_bytes = max(self.peak_cow_bytes, self.cow_bytes())
        found = self.memory(rss)
        if rss + found["cow"] + found["page_tables"] + self.cache.dirty_bytes <= self.rules.memory_bytes:
            return
        if save.done_ns is None and victim(self.rules.host, self.rules.oom_score_adj) == "child":
            self._log(f"Out of memory: Killed process {1000 + self._pids} (the child)")
            save.status, save.done_ns = "killed by the OOM killer", self.now_ns()
        elif self.exited is None:
            self._log("Out of memory: Killed process 1000 (redis-server)")
            self.exited = self.now_ns()

    def _log(self, text: str) -> None:
        self.lines.append((self.now_ns(), text))
