"""Probes of a server of our own that no load asks for: connections, serverCron, fork, RDB, and the disk under it.

    DEBUG SLEEP | 400 connections come (or go) meanwhile | one poll returns them all    -> CPU per accept and per close
    idle at hz 10, 100, 500                                                            -> CPU per serverCron, per 100 ms job
    BGSAVE at several sizes                                                            -> latest_fork_usec against RSS
    SAVE of values of 100 and of 1024 bytes | luck, rdbcompression yes                 -> CPU per key, per byte, per byte tried

Not modelled: AOF rewrites (a save with a preamble), text that LZF compresses well (redis/rdb.py: 40 % of the time).
"""

import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np

from redsim.lab.probes import Figure, Figures, figure
from redsim.lab.rig import RealServer
from redsim.rng import generator
from redsim.scenario.errors import ScenarioError
from redsim.units import KIB, MIB, US, S

CONNECTIONS = 400  # below tcp-backlog's 511
HZS = (10, 100, 500)
POPULATE_BYTES = 1000  # of each value when memory is to be filled
FSYNC_BYTES = 4 * KIB
QUANTILES = (0.1, 0.5, 0.9, 0.99, 1.0)
SAVE_TIMEOUT_S = 120
SAVED_BYTES, SAVES, FILL_BATCH, SEED = (100, 1024), 3, 1000, 1


def connections(server: RealServer, repeats: int) -> Figures:
    """accept_ns and close_ns: the main thread's CPU for 400 connections that come, and go, while it sleeps."""
    rows = np.array([_accept_and_close(server) for _ in range(repeats)])
    return {
        "accept_ns": figure(rows[:, 0], f"CPU of {CONNECTIONS} connections accepted at once, each"),
        "close_ns": figure(rows[:, 1], f"CPU of {CONNECTIONS} connections closed at once, each, with its poll event and read"),
    }


def _accept_and_close(server: RealServer) -> tuple[float, float]:
    opened: list[socket.socket] = []

    def come() -> None:
        opened.extend(socket.create_connection(("127.0.0.1", server.port)) for _ in range(CONNECTIONS))

    def go() -> None:
        for each in opened:
            each.close()

    try:
        return _cpu_while_asleep(server, come), _cpu_while_asleep(server, go)
    finally:
        go()


def _cpu_while_asleep(server: RealServer, change: Any) -> float:
    """CPU ns of the main thread per connection for a `change` made while it sleeps."""
    before = server.sample()
    pipe = server.redis.connection_pool.get_connection()
    pipe.send_command("DEBUG", "SLEEP", "0.15")
    time.sleep(0.01)
    change()
    pipe.read_response()
    server.redis.connection_pool.release(pipe)
    time.sleep(0.05)
    return (server.sample() - before).cpu_ns / CONNECTIONS


def cron(server: RealServer, seconds: float) -> Figures:
    """serverCron's CPU out of that of an idle server at three hz: each run with the wake-up before it, and each 100 ms job."""
    info = server.sample()
    own = max((server.sample() - info).cpu_ns, 0)  # what a sample costs by itself
    per_s = []
    for hz in HZS:
        server.redis.config_set("hz", hz)
        time.sleep(0.2)
        before = server.sample()
        time.sleep(seconds)
        spent = server.sample() - before
        per_s.append(max(spent.cpu_ns - own, 0) * S / max(spent.at_ns, 1))
    server.redis.config_set("hz", 10)
    table = np.array([[hz, 10] for hz in HZS], dtype=np.float64)
    weight = 1 / np.maximum(np.array(per_s), 1)
    each, jobs = np.linalg.lstsq(table * weight[:, None], np.array(per_s) * weight, rcond=None)[0]
    says = "idle CPU at hz 10, 100 and 500: " + ", ".join(f"{ns / 1e6:.2f}" for ns in per_s) + " ms a second"
    return {
        "cron_and_wake_ns": figure([max(each, 0)], f"{says}; each serverCron run and its wake-up"),
        "cron_100ms_ns": figure([max(jobs, 0)], f"{says}; the jobs of every 100 ms"),
    }


# ---- memory and disk -----------------------------------------------------------------------------------------------


def fork_and_rdb(server: RealServer, folder: Path, mib: tuple[int, ...], repeats: int) -> Figures:
    """fork_ns_per_mib, fork_ns (of no memory), rdb_save_bytes_per_s, rdb_load_bytes_per_s of `mib` MiB of strings."""
    redis = server.redis
    redis.config_set("rdbcompression", "no")
    sizes, forks = [], []
    for size in mib:
        redis.flushall()
        redis.execute_command("DEBUG", "POPULATE", size * MIB // (POPULATE_BYTES + 120), "fork", POPULATE_BYTES)
        for _ in range(repeats):
            sizes.append(int(redis.info("memory")["used_memory_rss"]) / MIB)
            forks.append(_fork_ns(server))
    slope, constant = np.polyfit(sizes, forks, 1)
    spread = [ns / size for ns, size in zip(forks, sizes, strict=True)]
    says = f"latest_fork_usec of BGSAVE at {', '.join(f'{size:.0f}' for size in sorted(set(map(round, sizes))))} MiB of RSS"
    save, load = _save_and_load(server, folder, repeats)
    redis.flushall()
    per_mib = figure([max(slope, 0)], f"{says}; the slope, its spread the whole fork over the whole RSS")
    return {
        "fork_ns_per_mib": {**per_mib, "spread": [round(min(spread)), round(max(spread))]},
        "fork_ns": figure([max(constant, 0)], f"{says}; what the line leaves at no memory"),
        "rdb_save_bytes_per_s": figure(save, f"SAVE of {mib[-1]} MiB of {POPULATE_BYTES}-byte strings, not compressed"),
        "rdb_load_bytes_per_s": figure(load, "DEBUG RELOAD of that file"),
    }


def saves(server: RealServer, folder: Path, keys: int) -> Figures:
    """rdb_key_ns, rdb_byte_ps, lzf_byte_ps: the main thread's CPU of a SAVE; child_own_bytes: what is private to a child."""
    redis, rdb = server.redis, folder / str(server.redis.config_get("dbfilename")["dbfilename"])
    redis.config_set("rdbcompression", "no")
    sizes, spent = [], []
    for value_bytes in SAVED_BYTES:
        redis.flushall()
        _fill(server, keys, value_bytes)
        spent.append(_save_cpu_ns(server))
        sizes.append(rdb.stat().st_size)
    byte_ns = (np.median(spent[1]) - np.median(spent[0])) / (sizes[1] - sizes[0])
    per_key = [max(ns - byte_ns * sizes[0], 0) / keys for ns in spent[0]]
    redis.config_set("rdbcompression", "yes")
    tried = [max(ns - float(np.median(spent[1])), 0) / (keys * SAVED_BYTES[1]) for ns in _save_cpu_ns(server)]
    _fork_ns(server)
    own_bytes = int(redis.info("persistence")["rdb_last_cow_size"])
    redis.flushall()
    says = f"CPU of SAVE of {keys} keys at {' and '.join(map(str, SAVED_BYTES))} bytes of luck"
    return {
        "rdb_key_ns": figure(per_key, f"{says}, not compressed: what is left at none"),
        "rdb_byte_ps": figure([1000 * max(byte_ns, 0)], f"{says}, not compressed: per byte more"),
        "lzf_byte_ps": figure([1000 * each for each in tried], f"{says}: what rdbcompression yes adds, per byte that LZF tries"),
        "child_own_bytes": figure([own_bytes], "rdb_last_cow_size of a save without writes"),
    }


def _fill(server: RealServer, keys: int, value_bytes: int) -> None:
    """So many strings that no LZF shortens."""
    luck = generator(SEED, "lab", "saves", str(value_bytes)).bytes(keys * value_bytes)
    for first in range(0, keys, FILL_BATCH):
        pipe = server.redis.pipeline(transaction=False)
        for i in range(first, min(first + FILL_BATCH, keys)):
            pipe.set(f"save:{i}", luck[i * value_bytes : (i + 1) * value_bytes])
        pipe.execute()


def _save_cpu_ns(server: RealServer) -> list[float]:
    """CPU of the main thread of each of some SAVEs."""
    out = []
    for _ in range(SAVES):
        before = server.sample()
        server.redis.save()
        out.append(float((server.sample() - before).cpu_ns))
    return out


def _fork_ns(server: RealServer) -> int:
    server.redis.bgsave()
    until = time.monotonic() + SAVE_TIMEOUT_S
    while time.monotonic() < until:
        info = server.redis.info("persistence")
        if not info["rdb_bgsave_in_progress"]:
            return int(server.redis.info("stats")["latest_fork_usec"]) * US
        time.sleep(0.02)
    raise ScenarioError(f"a BGSAVE of the probe did not end within {SAVE_TIMEOUT_S} s; give a faster --folder")


def _save_and_load(server: RealServer, folder: Path, repeats: int) -> tuple[list[float], list[float]]:
    """Bytes of RDB per second, saved and loaded."""
    redis, save, load = server.redis, [], []
    rdb = folder / str(redis.config_get("dbfilename")["dbfilename"])
    for _ in range(repeats):
        started = time.perf_counter_ns()
        redis.save()
        save.append(rdb.stat().st_size * S / (time.perf_counter_ns() - started))
        redis.flushall()
        started = time.perf_counter_ns()
        redis.execute_command("DEBUG", "RELOAD", "NOSAVE")
        load.append(rdb.stat().st_size * S / (time.perf_counter_ns() - started))
    return save, load


def fsync(folder: Path, count: int) -> dict[str, Figure]:
    """`fsync_ns`: quantiles of fdatasync after each 4 KiB appended to a file in `folder`."""
    took = []
    path = folder / f"redsim-fsync-{os.getpid()}"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        for _ in range(count):
            os.write(fd, bytes(FSYNC_BYTES))
            started = time.perf_counter_ns()
            os.fdatasync(fd)
            took.append(time.perf_counter_ns() - started)
    finally:
        os.close(fd)
        path.unlink()
    table = [[q, int(np.quantile(took, q))] for q in QUANTILES]
    return {"fsync_ns": {"table": table, "says": f"{count} times fdatasync after 4 KiB appended; [quantile, ns]"}}
