"""The twin's crashes: connections go, clients hear of it or not, and a new process has what the AOF holds.

Written from what Linux and Redis do; forwards where restart.py goes backwards: the keys as at the start, then unit after unit as
far as the file goes. Differs and not modelled: as in dataplane/crash.py and run/restart.py.
"""

from collections.abc import Generator
from typing import Any

import numpy as np

from redsim.dataplane import layout as dp
from redsim.dataplane.evict import LFU
from redsim.dataplane.twin.clients import admit, closed_by_server, next_happening
from redsim.dataplane.twin.hiccups import draw_hiccup
from redsim.dataplane.twin.server import loading_loop
from redsim.dataplane.twin.things import Conn, Sim, Table, free_conn
from redsim.dataplane.undo import Snapshot

PROCESS, HOST = "process", "host"
MS, S = 1_000_000, 1_000_000_000
COLUMNS = ("kv", "ke", "kx", "grown")


class Log:
    """What each unit of the AOF has changed: (end in bytes, commands up to it, when, by column {key: value})."""

    def __init__(self, sim: Sim) -> None:
        self.first = {name: list(getattr(sim, name)) for name in COLUMNS}
        self.image = {name: list(getattr(sim, name)) for name in COLUMNS}
        self.units: list[tuple[int, int, int, dict[str, dict[int, int]]]] = []

    def unit_ends(self, sim: Sim) -> None:
        changed: dict[str, dict[int, int]] = {}
        for name, image in self.image.items():
            now = getattr(sim, name)
            if now != image:
                changed[name] = {i: value for i, (value, before) in enumerate(zip(now, image, strict=True)) if value != before}
                self.image[name] = list(now)
        self.units.append((*sim.aof.appended, sim.now, changed))


# ---- the end ---------------------------------------------------------------------------------------------------------------


def crash(sim: Sim, is_host: int, at: int) -> None:
    """The process is gone, or its host is."""
    if sim.dead:
        sim.dead = HOST if is_host else sim.dead
        return
    sim.dead = HOST if is_host else PROCESS
    for conn in list(sim.rows):
        if conn is not None and not conn.reset:
            lose_connection(sim, conn, at)
    sim.script, sim.loading, sim.listen_ready, sim.io_active, sim.eviction.is_armed = None, False, False, False, False
    for queue in (sim.accept_queue, sim.ready, sim.pending, sim.threaded):
        queue.clear()
    sim.count.clients = 0


def lose_connection(sim: Sim, conn: Conn, at: int) -> None:
    conn.socket = 0
    if conn.eof:
        free_conn(sim, conn)
        return
    sim.waiting -= len(conn.inbox)
    conn.inbox.clear()
    conn.outbox.clear()
    conn.buffered = conn.out = conn.head_sent = conn.alloc = 0
    conn.accepted = conn.in_ring = conn.pending = conn.want_write = False
    conn.reset = True
    if sim.dead == PROCESS and conn.slot is not None:
        conn.telling = True
        sim.push(at + conn.group.net, closed_by_server, conn)


def down_loop(sim: Sim) -> Generator[int, None, None]:
    """The clients go on without a server."""
    while True:
        admit(sim)
        at, _ = next_happening(sim)
        sim.idle_until(min(at, sim.until))
        if at > sim.until:
            yield dp.REACHED


def fall(sim: Sim, next_crash: int) -> None:
    sim.crash_at, sim.slept, sim.first, sim.aof.want = next_crash, 0, False, dp.WANT_NONE
    sim.batch.clear()
    sim.loop = down_loop(sim)


# ---- the beginning ---------------------------------------------------------------------------------------------------------


def host_is_up(sim: Sim) -> None:
    """A client that is waiting sends again after 0.2 s, 0.4 s more, ...; the first of these that finds the host is answered with
    a reset."""
    sim.dead = PROCESS
    for conn in sim.rows:
        if conn is None or not conn.reset or conn.telling or conn.eof or conn.slot is None or not conn.slot.outstanding:
            continue
        oldest = conn.slot.outstanding[0]
        if oldest in conn.slot.unsent:
            continue
        again, wait = oldest.sent, S // 5
        while again < sim.now:
            again, wait = again + wait, min(2 * wait, 120 * S)
        conn.telling = True
        sim.push(again + 2 * conn.group.net, closed_by_server, conn)


def revive(sim: Sim, load_ns: int, every_ns: int, cause: int) -> None:
    while sim.cost[dp.HICCUP_MEAN_NS] > 0 and sim.next_hiccup <= sim.now:
        draw_hiccup(sim)
        sim.count.hiccups -= 1  # nobody was there to feel it
    sim.dead, sim.loading, sim.cron_due = "", True, sim.now + MS
    sim.loop = loading_loop(sim, load_ns, every_ns, cause)


def last_unit(sim: Sim, upto: int) -> tuple[int, int, int | None]:
    """(end in bytes, commands) of the last whole unit; when the one after it was executed."""
    whole = [unit for unit in sim.log.units if unit[0] <= upto]
    after = [unit for unit in sim.log.units if unit[0] > upto]
    return (*(whole[-1][:2] if whole else (0, 0)), after[0][2] if after else None)


def take_back(sim: Sim, upto: int, lost_bytes: int, lost_commands: int) -> None:
    log = sim.log
    whole = [unit for unit in log.units if unit[0] <= upto]
    for name in COLUMNS:
        column = list(log.first[name])
        for *_, changed in whole:
            for key, value in changed.get(name, {}).items():
                column[key] = value
        setattr(sim, name, column)
        log.image[name] = list(column)
    log.units = [(end + lost_bytes, commands + lost_commands, when, changed) for end, commands, when, changed in whole]
    begin(sim)


def empty(sim: Sim) -> None:
    sim.kv = [dp.NODATA] * len(sim.kv)
    sim.kx = [0] * len(sim.kx)
    begin(sim)


def snapshot_of(sim: Sim, at: int) -> Snapshot:
    """Keys as they are, in columns as the World's."""
    columns = {name: np.array(getattr(sim, name), dtype=np.int64) for name in ("ke", "kx", "grown")}
    columns["kv"] = np.array([sim.kv, sim.ka], dtype=np.int64).T
    return Snapshot(at, 0, sum(value != dp.NODATA for value in sim.kv), sim.aof.appended[1], columns)


def take_snapshot(sim: Sim, columns: dict[str, Any]) -> None:
    """Keys as a snapshot has them: columns of the World's."""
    sim.kv = columns["kv"][:, 0].tolist()
    sim.ke, sim.kx, sim.grown = (columns[name].tolist() for name in ("ke", "kx", "grown"))
    begin(sim)


def begin(sim: Sim) -> None:
    """Tables, buckets and counters as after a load."""
    word = sim.now // (60 * S) % 65536 * 256 + 5 if sim.cost[dp.POLICY] & LFU else sim.now // S
    sim.ka = [before if value == dp.NODATA else word for before, value in zip(sim.ka, sim.kv, strict=True)]
    sim.expires.slots = [[] for _ in sim.expires.slots]
    sim.eviction.slots = [[] for _ in sim.eviction.slots]
    sim.eviction.pool = []
    for data in sim.datasets:
        there = [key for key in range(data.base, data.base + data.n) if sim.kv[key] != dp.NODATA]
        volatile = [key for key in there if data.volatile and sim.kx[key] > 0]
        data.live, data.expires = len(there), len(volatile)
        for key in there:
            sim.eviction.link(key)
        for key in volatile:
            sim.expires.slots[sim.expires.slot_of(key)].insert(0, key)
    sim.tables = [table_of(sum(data.live for data in sim.datasets)), table_of(sum(data.expires for data in sim.datasets))]
    row = sim.expires.row
    row.cursor = row.current_db = row.timelimit_exit = row.last_fast_us = row.stale_ppb = row.avg_ttl_ms = 0
    if sim.eviction.exceeded_from is not None:
        sim.count.exceeded_ns += sim.now - sim.eviction.exceeded_from
        sim.eviction.exceeded_from = None
    sim.dict_ns = 0


def table_of(keys: int) -> Table:
    return Table(keys, max(2, (keys - 1).bit_length()) if keys else None)
