"""What a new process finds and makes of it: data taken back to what the files hold, tables of their size, how long loading takes.

Mirrors server.c:loadDataFromDisk, aof.c:loadSingleAppendOnlyFile (7.0: a unit that is not whole is cut off), rdb.c:rdbLoadRio
(tables made for RESIZEDB at once). The data are not replayed: the World goes back, change by change, to where the file ends.

    last_unit   where the file's last whole unit ends
    take_back   keys as they were there          empty   no keys          take_snapshot   keys as a snapshot has them
    load        what is read: bytes, keys, commands, and how long that takes

Differs: what keys remember of their accesses begins at the restart; keys past their time are loaded and go then, which Redis does
with those of an AOF's commands but not with those of an RDB. Looks at the clients come evenly over the load.
Not modelled: reading the files from the disk, which is taken to be quicker than the parsing (or cached).
"""

from dataclasses import dataclass

import numpy as np

from redsim.dataplane import layout as dp
from redsim.dataplane.dict import link_present
from redsim.dataplane.evict import LFU, LFU_INIT_VAL, empty_pool
from redsim.dataplane.expires import link_volatile
from redsim.dataplane.undo import Snapshot, Unit
from redsim.records import Param
from redsim.redis.rdb import RdbFile
from redsim.run.memory import count_used_memory, first_tables
from redsim.units import S

__all__ = ["LOAD_COSTS", "Loaded", "Snapshot", "aof_load", "empty", "last_unit", "rdb_load", "snapshot_of",
           "take_back", "take_snapshot"]  # fmt: skip

SAYS = "Redis 7.0.15 on this project's machine, 30,000 to 1,000,000 strings of 16 to 10,000 bytes (tests/test_recorded_crash.py)"
LOAD_COSTS = {
    "aof_command_ns": Param(600, "measured", "load-times", (200, 3000)),  # a command that is read, parsed and executed
    "aof_new_key_ns": Param(1200, "measured", "load-times", (300, 5000)),  # and makes a key
    "rdb_key_ns": Param(850, "measured", "load-times", (200, 5000)),
    "ps_per_byte": Param(3500, "measured", "load-times", (500, 20000)),  # of either file
}
AOF_STEP_COMMANDS = 1024  # aof.c: loadSingleAppendOnlyFile
MINUTE_NS = 60 * S
COLUMNS = ("kv", "ke", "kx", "grown")
FORGOTTEN = [dp.X_CURSOR, dp.X_CURRENT_DB, dp.X_TIMELIMIT_EXIT, dp.X_LAST_FAST_US, dp.X_STALE_PPB, dp.X_FAST_DUE, dp.X_OWED_NS,
             dp.X_AVG_TTL_MS]  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """What a start reads: of what (`AOF`, `RDB`, `nothing`), bytes, keys that are there then, commands replayed, how long."""

    what: str
    file_bytes: int
    keys: int
    commands: int
    load_ns: int
    every_ns: int


# ---- how long ------------------------------------------------------------------------------------------------------------


def rdb_load(file_bytes: int, keys: int, step_bytes: int, bytes_per_s: int | None = None) -> tuple[int, int]:
    """(ns, looks at the clients, one in `step_bytes`) of loading an RDB file; `bytes_per_s`: what a calibration measured of large
    strings."""
    ps = LOAD_COSTS["ps_per_byte"].value if bytes_per_s is None else 1000 * S // bytes_per_s
    return keys * LOAD_COSTS["rdb_key_ns"].value + file_bytes * ps // 1000, file_bytes // step_bytes


def aof_load(file_bytes: int, commands: int, keys: int) -> tuple[int, int]:
    """(ns, looks at the clients) of replaying so many commands, `keys` of which make a key."""
    each = {name: cost.value for name, cost in LOAD_COSTS.items()}
    ns = commands * each["aof_command_ns"] + keys * each["aof_new_key_ns"] + file_bytes * each["ps_per_byte"] // 1000
    return ns, commands // AOF_STEP_COMMANDS


# ---- the World -------------------------------------------------------------------------------------------------------------


def keys_of(w: dp.World) -> int:
    """Keys that are there."""
    return int(w.dataset[:, dp.D_LIVE].sum())


def last_unit(w: dp.World, upto: int) -> Unit:
    """The last whole unit of the first `upto` bytes appended."""
    i, rows = _last(w, upto)
    after = rows[i + 1 :]
    later = after[after[:, dp.U_KEY] == dp.NONE]
    next_ns = int(later[0, dp.U_NOW]) if len(later) else None
    return Unit(int(rows[i, dp.U_AT]), int(rows[i, dp.U_CMDS]), next_ns) if i >= 0 else Unit(0, 0, next_ns)


def _last(w: dp.World, upto: int) -> tuple[int, dp.I64]:
    """(the row of the end of that unit, -1 for the beginning of the file; all rows)."""
    count = int(w.st[dp.UNDO_N])
    assert count <= len(w.undo), "the log of what keys were has run over"
    rows = w.undo[:count]
    ends = np.flatnonzero((rows[:, dp.U_KEY] == dp.NONE) & (rows[:, dp.U_AT] <= upto))
    return (int(ends[-1]) if len(ends) else -1), rows


def forget_before(w: dp.World, upto: int) -> dp.World:
    """What is durable up to there is never taken back; room for as much again."""
    i, rows = _last(w, upto)
    kept = rows[max(i, 0) :].copy()
    if 2 * len(kept) > len(w.undo):
        w = dp.placed(w._replace(undo=np.zeros((4 * len(w.undo), dp.U_SIZE), dtype=np.int64)))
    w.undo[: len(kept)] = kept
    w.st[dp.UNDO_N] = len(kept)
    return w


def take_back(w: dp.World, upto: int, lost_bytes: int, lost_commands: int) -> None:
    """Keys as they were at the end of the last unit of the first `upto` bytes; what is remembered from before that lies
    `lost_bytes` and `lost_commands` later from now on, as the AOF counts on."""
    i, rows = _last(w, upto)
    changed = rows[i + 1 :]
    changed = changed[changed[:, dp.U_KEY] != dp.NONE]
    keys, first = np.unique(changed[:, dp.U_KEY], return_index=True)
    before = changed[first]
    of = np.searchsorted(w.dataset[:, dp.D_BASE], keys, side="right") - 1
    data = w.dataset[of]
    w.kv[keys, 0] = before[:, dp.U_VALUE]
    for column, kept, has in (("ke", dp.U_ELEMENTS, data[:, dp.D_STRING] == 0), ("kx", dp.U_DUE, data[:, dp.D_VOLATILE] > 0),
                              ("grown", dp.U_ROOM, data[:, dp.D_GROWS] > 0)):  # fmt: skip
        getattr(w, column)[keys[has]] = before[has, kept]
    ends = rows[: i + 1, dp.U_KEY] == dp.NONE
    rows[: i + 1, dp.U_AT] += lost_bytes
    rows[: i + 1, dp.U_CMDS][ends] += lost_commands
    w.st[dp.UNDO_N] = i + 1
    _begin(w)


def empty(w: dp.World) -> None:
    """No keys."""
    w.kv[:, 0] = dp.NODATA
    w.kx[:] = 0
    w.st[dp.UNDO_N] = 0
    _begin(w)


def snapshot_of(w: dp.World) -> Snapshot:
    """What a snapshot begun now holds when it is complete."""
    columns = {name: getattr(w, name).copy() for name in COLUMNS}
    return Snapshot(int(w.st[dp.NOW]), RdbFile.of(w).file_bytes, keys_of(w), int(w.aof[dp.A_CMDS]), columns)


def take_snapshot(w: dp.World, snapshot: Snapshot) -> None:
    """Keys as the snapshot has them."""
    for name in COLUMNS:
        getattr(w, name)[:] = snapshot.columns[name]
    w.st[dp.UNDO_N] = 0
    _begin(w)


def _begin(w: dp.World) -> None:
    """Everything that goes by the keys, as a process has it that has just loaded them."""
    st = w.st
    for row in w.dataset:
        mine = slice(int(row[dp.D_BASE]), int(row[dp.D_BASE] + row[dp.D_N]))
        row[dp.D_LIVE] = np.count_nonzero(w.kv[mine, 0] != dp.NODATA)
        row[dp.D_EXPIRES] = np.count_nonzero(w.kx[mine]) if row[dp.D_VOLATILE] else 0
    w.dicts[:] = first_tables(w.dataset)
    now = int(st[dp.NOW])
    word = (now // MINUTE_NS % 65536) * 256 + LFU_INIT_VAL if w.cost[dp.POLICY] & LFU else now // S
    w.kv[w.kv[:, 0] != dp.NODATA, 1] = word
    w.xhead[:], w.xnext[:] = dp.NONE, dp.NONE
    link_volatile(w.xhead, w.xnext, w.kx, int(w.expiry[dp.X_HASH_SEED]), int(w.expiry[dp.X_HASH_BITS]))
    if w.cost[dp.HEAD_BITS]:
        w.heads[:], w.nexts[:] = dp.NONE, dp.NONE
        link_present(w.heads, w.nexts, w.kv, int(w.cost[dp.DICT_SEED]), int(w.cost[dp.HEAD_BITS]))
        w.pool[:] = empty_pool()
    w.expiry[FORGOTTEN] = 0
    if st[dp.WATCH_ABOVE] == 0:
        st[dp.EXCEEDED_NS] += now - int(st[dp.EXCEEDED_FROM])
        st[dp.WATCH_ABOVE] = w.cost[dp.MAXMEMORY]
    st[[dp.DICT_WORK, dp.DICT_NS]] = 0
    count_used_memory(w)
