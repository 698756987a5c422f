"""What a real server says of its files around a run, and a disk hog beside it.

    INFO persistence and stats → play, the child watched meanwhile → INFO again: bytes appended, fsyncs late, fork, copy-on-write

Mirrors INFO persistence (aof_current_size, aof_delayed_fsync, rdb_last_cow_size) and latest_fork_usec. A hog is a process of ours
that writes to a file in the server's folder at the stated rate; the kernel's page cache is before the disk, as it is for dd.
Not modelled: faults that no user can cause on a healthy disk (slow, stuck, full); a real run refuses them by name.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from redsim.lab.rig import RealServer, start
from redsim.scenario.errors import ScenarioError
from redsim.scenario.faults import DiskFault
from redsim.scenario.load import Scenario
from redsim.units import MS, S

WATCH_S = 0.01
CHUNK = 1 << 20
LOADED = re.compile(r"DB loaded from disk: ([0-9.]+) seconds")  # server.c: loadDataFromDisk
WRITES = ("SET", "MSET", "INCR", "APPEND", "DEL", "UNLINK", "EXPIRE", "LPUSH", "LPOP", "HSET", "SADD", "ZADD")  # appended
_HOG = """
import os, sys, time
path, rate, until = sys.argv[1], int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
block = os.urandom({chunk})
with open(path, "wb", buffering=0) as out:
    begun, written = time.monotonic(), 0
    while time.monotonic() < until:
        written += out.write(block)
        if out.tell() > 1 << 30:
            out.seek(0)
        time.sleep(max(begun + written / rate - time.monotonic(), 0))
os.unlink(path)
"""


@dataclass(frozen=True)
class FilesSeen:
    """INFO's figures, the difference over the run where they count up. `children`: (begun, ended) of each child, ns from the
    run's start, to WATCH_S; one that outlives the run is not in it. `rdb_bytes`: the size of its dump, 0 if there is none;
    `load_ms`: what another server took to load that, by its own log."""

    aof_bytes: int
    delayed_fsyncs: int
    fork_us: int
    cow_bytes: int
    rdb_bytes: int
    load_ms: float = 0.0
    children: list[tuple[int, int]] = field(default_factory=list)


class FilesWatch:
    """Reads INFO before and after, and looks for children in between, over a connection of its own."""

    def __init__(self, server: RealServer) -> None:
        self._server, self._stop, self._base_ns = server, threading.Event(), 0
        self._before = self._look()
        self._children: list[tuple[int, int]] = []
        self._since: int | None = None
        self._thread = threading.Thread(target=self._watch, name="children", daemon=True)

    def start(self, base_ns: int) -> None:
        """Begin to look; times are told from `base_ns`, CLOCK_MONOTONIC."""
        self._base_ns = base_ns
        self._thread.start()

    def stop(self, patience_s: float = 30.0) -> FilesSeen:
        """What was seen. A child that is still at work is waited for, for its copy-on-write is told when it is done."""
        until = time.monotonic() + patience_s
        while self._is_child_there() and time.monotonic() < until:
            time.sleep(WATCH_S)
        self._stop.set()
        self._thread.join()
        after = self._look()
        conf = {**self._server.redis.config_get("dir"), **self._server.redis.config_get("dbfilename")}
        dump = Path(str(conf["dir"])) / str(conf["dbfilename"])
        return FilesSeen(
            aof_bytes=after["aof_current_size"] - self._before["aof_current_size"],
            delayed_fsyncs=after["aof_delayed_fsync"] - self._before["aof_delayed_fsync"],
            fork_us=after["latest_fork_usec"],
            cow_bytes=max(after["rdb_last_cow_size"], after["aof_last_cow_size"]),
            rdb_bytes=dump.stat().st_size if dump.exists() else 0,
            load_ms=load_ms(dump) if dump.exists() else 0.0,
            children=self._children,
        )

    def _look(self) -> dict[str, int]:
        told = {**self._server.redis.info("persistence"), **self._server.redis.info("stats")}
        names = ("aof_current_size", "aof_delayed_fsync", "rdb_last_cow_size", "aof_last_cow_size", "latest_fork_usec")
        return {name: int(told.get(name, 0)) for name in names}

    def _is_child_there(self) -> bool:
        told = self._server.redis.info("persistence")
        return bool(int(told.get("rdb_bgsave_in_progress", 0)) or int(told.get("aof_rewrite_in_progress", 0)))

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_S):
            now = time.monotonic_ns() - self._base_ns
            is_there = self._is_child_there()
            if is_there and self._since is None:
                self._since = now
            elif not is_there and self._since is not None:
                self._children.append((self._since, now))
                self._since = None


def load_ms(dump: Path) -> float:
    """How long a server takes to load this RDB file, as it logs it; 0.0 if its log does not say."""
    with tempfile.TemporaryDirectory(prefix="redsim-") as name:
        folder = Path(name)
        shutil.copy(dump, folder / "dump.rdb")
        with start('save ""\nloglevel notice\n', folder=folder) as other:
            while int(other.redis.info("persistence")["loading"]):
                time.sleep(WATCH_S)
            found = LOADED.search((folder / "redis.log").read_text(encoding="utf-8", errors="replace"))
    return 1000 * float(found[1]) if found else 0.0


def refuse_faults(scenario: Scenario) -> None:
    """ScenarioError for a fault of the timeline that a real run cannot have."""
    for i, fault in scenario.file.faults:
        if not (isinstance(fault, DiskFault) and fault.fault == "disk_hog"):
            where = scenario.where("timeline", i)
            raise ScenarioError(f"{where}: a real run cannot have the fault {fault.fault}; only disk_hog, or take it out")


@contextlib.contextmanager
def hogs(server: RealServer, faults: Sequence[DiskFault], base_ns: int) -> Iterator[None]:
    """The hogs at their times, each a process that ends by itself; whatever is left of them ends with the block."""
    folder = str(server.redis.config_get("dir")["dir"]) if faults else ""
    running: list[subprocess.Popen[bytes]] = []
    timers = []

    def begin(fault: DiskFault, number: int) -> None:
        path = os.path.join(folder, f"hog-{number}")
        arguments = [path, str(fault.bytes_per_s), str(fault.for_ns / S)]
        running.append(subprocess.Popen([sys.executable, "-c", _HOG.format(chunk=CHUNK), *arguments]))

    for number, fault in enumerate(faults):
        delay = max((base_ns + fault.at - time.monotonic_ns()) / S, 0)
        timers.append(threading.Timer(delay, begin, (fault, number)))
        timers[-1].start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
            timer.join()
        for process in running:
            process.terminate()
            process.wait()


def files_figures(seen: FilesSeen, calls: dict[str, float]) -> dict[str, float]:
    """Figures by quantity; `calls`: of each command. What did not happen has none."""
    writes = sum(calls.get(name, 0) for name in WRITES)
    figures: dict[str, float] = {"aof_delayed_fsync": seen.delayed_fsyncs}
    if seen.aof_bytes and writes:
        figures["aof_bytes_per_write"] = seen.aof_bytes / writes
    if seen.children:
        begun, ended = seen.children[0]
        figures |= {"fork_us": seen.fork_us, "cow_bytes": seen.cow_bytes, "child_ms": (ended - begun) / MS}
        if seen.rdb_bytes:
            figures["rdb_bytes"] = seen.rdb_bytes
        if seen.load_ms:
            figures["load_ms"] = seen.load_ms
    return figures
