"""The life of a forked child, from its fork to its exit: what it computes, hands to the disk, waits for.

Mirrors rdb.c:rdbSave, rdbSaveToSlavesSockets, rio.c (a hand-over each 4 MiB with *-incremental-fsync, and a wait for the one
before).
Not modelled: what a child reads.
"""

from collections.abc import Callable, Generator
from typing import Any, Protocol

import simpy

from redsim.dataplane import layout as dp
from redsim.host.disk import Disk
from redsim.host.pagecache import PageCache
from redsim.redis.aof import NO_SPACE_AOF, Rewriter
from redsim.redis.config import ChildRules
from redsim.redis.rdb import NO_SPACE, RdbFile, Save
from redsim.units import MIB

__all__ = ["life"]

AUTOSYNC_BYTES = 4 * MIB  # server.h: REDIS_AUTOSYNC_BYTES
ORDER = 1 << 31  # cow.py: the whole of the order in which a child comes to the keys
FILES = {"BGSAVE": "dump.rdb", "BGREWRITEAOF": "temp-rewriteaof.aof"}


class Parent(Protocol):
    """What a child's life needs of redis/childinfo.py:Child."""

    env: simpy.Environment
    world: Callable[[], Any]
    numbers: dp.I64
    disk: Disk
    cache: PageCache
    luck: Any
    rules: ChildRules
    rewriter: Rewriter | None
    alive: Save | None
    on_saved: Callable[[Save], None]


def life(parent: Parent, save: Save, file: RdbFile) -> Generator[simpy.Event, None, None]:
    """The child, from its fork to its exit."""
    yield from (_to_disk(parent, save, file) if save.drained is None else _to_sockets(save))
    if save.done_ns is None:
        save.status = save.status or "ok"
        save.done_ns = int(parent.env.now)
        parent.numbers[dp.CH_STRETCH] = 0
        if save.status == "ok" and save.kind == "BGSAVE" and save.drained is None:
            parent.on_saved(save)


def _to_sockets(save: Save) -> Generator[simpy.Event, None, None]:
    """rdb.c:rdbSaveToSlavesSockets: until the parent has relayed all of it (how fast, dataplane/replication.py)."""
    assert save.drained is not None, "it goes through a pipe"
    assert save.file is not None, "what is saved has a size"
    yield save.drained
    save.written_bytes = save.file.file_bytes


def _to_disk(parent: Parent, save: Save, file: RdbFile) -> Generator[simpy.Event, None, None]:
    parent.disk.others += 1
    cpu_ns, before, name = file.cpu_ns(parent.rules.costs), None, FILES[save.kind]
    is_incremental = parent.rewriter.incremental if save.kind == "BGREWRITEAOF" and parent.rewriter else parent.rules.incremental
    while save.written_bytes < file.file_bytes and not save.status:
        part = min(AUTOSYNC_BYTES, file.file_bytes - save.written_bytes)
        yield from _work(parent, cpu_ns * part // file.file_bytes)
        if parent.disk.full:
            save.status = NO_SPACE if save.kind == "BGSAVE" else NO_SPACE_AOF
            break
        if is_incremental:
            job = parent.disk.write(part)
            if before is not None:
                yield from _asleep(parent, save, parent.disk.wait(before))
            before = job
        else:
            yield from _asleep(parent, save, parent.cache.room(part))
            parent.cache.dirty(name, part)
        save.written_bytes += part
        if parent.alive is save:
            parent.numbers[dp.CH_PROGRESS] = int(save.share * ORDER)
    if not save.status:
        job = parent.disk.fsync(0, parent.luck) if is_incremental else parent.cache.fsync(name)
        yield from _asleep(parent, save, parent.disk.wait(job))
    parent.disk.others -= 1


def _main_cpu_ns(parent: Parent) -> int:
    """What the main thread has used of the cores."""
    st = parent.world().st
    return int(st[dp.NOW]) - int(st[dp.IDLE]) - int(parent.numbers[dp.CH_WAITED_NS])


def _work(parent: Parent, ns: int) -> Generator[simpy.Event, None, None]:
    """So much CPU for the child; where cores are short it gets what the main thread leaves of its share."""
    while ns > 0:
        used_ns = _main_cpu_ns(parent)
        yield parent.env.timeout(ns)
        ns = (_main_cpu_ns(parent) - used_ns) * parent.rules.stretch // 1_000_000


def _asleep(parent: Parent, save: Save, wait: Generator[simpy.Event, None, None]) -> Generator[simpy.Event, None, None]:
    """The child waits for the disk: it takes no core meanwhile."""
    a = parent.numbers
    if parent.alive is save:
        a[dp.CH_STRETCH] = 0
    yield from wait
    if parent.alive is save and save.done_ns is None and parent.rules.stretch:
        st = parent.world().st
        a[dp.CH_MARK] = int(st[dp.NOW]) - int(st[dp.IDLE])
        a[dp.CH_STRETCH] = parent.rules.stretch
