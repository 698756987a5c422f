"""The twin's copy-on-write: the set of pages written since the fork, asked page by page, and who pays for the faults.

Written from what a command writes in Redis, as cow.py says it. Differs and not modelled: as there.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from redsim.dataplane import layout as dp
from redsim.dataplane.evict import LFU
from redsim.dataplane.twin.luck import Stream, bits_of
from redsim.dataplane.twin.things import Record, Request, Sim, record

MISCONF_BYTES = 343  # the -MISCONF line of a failed BGSAVE
PAGE = 4096
ANSWERS = {  # bytes
    "started": len("+Background saving started\r\n"),
    "ok": len("+OK\r\n"),
    "error": len("-ERR\r\n"),
    "busy": len("-ERR Background save already in progress\r\n"),
    "other": 139,
    "scheduled save": len("+Background saving scheduled\r\n"),
    "rewriting": len("+Background append only file rewriting started\r\n"),
    "rewriting already": len("-ERR Background append only file rewriting already in progress\r\n"),
    "scheduled": len("+Background append only file rewriting scheduled\r\n"),
}


@dataclass(eq=False, slots=True)
class Child:
    """`row`: the columns that the control plane reads and sets, as in the World; `written`: pages since the last fork."""

    row: Any
    places: list[Record]
    luck: Stream
    written: set[int] = field(default_factory=set)

    @property
    def is_alive(self) -> bool:
        return bool(self.row[dp.CH_STATE] == dp.CHILD_ALIVE)

    @property
    def is_known(self) -> bool:
        """Whether there is one, or was: pages are shared, or protected still."""
        return bool(self.row[dp.CH_STATE] != dp.NO_CHILD)


def read_child(w: dp.World, luck: Stream) -> Child:
    return Child(w.child.copy(), [record(row, "P_") for row in w.place], luck)


def place_of(sim: Sim, data: Record, key: int) -> tuple[Record, int]:
    """The areas of the data set, and which block in each is the key's."""
    law = sim.child.places[sim.datasets.index(data)]
    size, fold = 2**law.bits, (law.bits + 1) // 2
    number = key - data.base
    while True:
        for factor, more in ((law.mul, law.add), (law.mul2, law.add2)):
            number = (number * factor + more) % size
            number ^= number // 2**fold
        if number < law.n:
            return law, number


def write(sim: Sim, first: int, count: int, released: bool = False) -> None:
    row, size = sim.child.row, 2 ** int(sim.child.row[dp.CH_SHIFT])
    for page in range(first // size, (first + count - 1) // size + 1):
        if page in sim.child.written or page >= row[dp.CH_REGION_AT]:
            continue
        sim.child.written.add(page)
        if sim.child.is_alive and not released:
            row[dp.CH_COPIED] += 1
            row[dp.CH_OWED] += row[dp.CH_FAULT_NS]
        else:
            row[dp.CH_REUSED] += 1
            row[dp.CH_OWED] += row[dp.CH_REUSE_NS]
        stretch = int(row[dp.CH_REGION_AT]) + page // 512
        if row[dp.CH_REGION_NS] and sim.now < row[dp.CH_REGION_UNTIL] and stretch not in sim.child.written:
            sim.child.written.add(stretch)
            row[dp.CH_OWED] += row[dp.CH_REGION_NS]


def order_of(sim: Sim, key: int, bits: int) -> int:
    return bits_of(key ^ int(sim.child.row[dp.CH_ORDER])) >> 64 - bits


def write_value(sim: Sim, data: Record, key: int, first: int, count: int) -> None:
    """Bytes of a value, which is no longer the child's if it is large and the child is past it."""
    row = sim.child.row
    law, number = place_of(sim, data, key)
    is_large = row[dp.CH_DISMISS] > 0 and first + count >= row[dp.CH_DISMISS]
    released = bool(is_large and order_of(sim, key, 31) < row[dp.CH_PROGRESS])
    write(sim, law.value_at + number * law.stride + first, count, released)


def robj(sim: Sim, data: Record, key: int) -> None:
    law, number = place_of(sim, data, key)
    if law.robj:
        write(sim, law.robj_at + number * law.robj, law.robj)
    else:
        write(sim, law.value_at + number * law.stride, 1)


def accessed(sim: Sim, data: Record, key: int) -> None:
    """Its LRU word was set."""
    if sim.child.is_known:
        robj(sim, data, key)


def new_value(sim: Sim, data: Record, key: int, size: int) -> None:
    if not sim.child.is_known:
        return
    law, number = place_of(sim, data, key)
    write(sim, law.entry_at + number * law.entry, law.entry)
    if law.robj:
        write(sim, law.robj_at + number * law.robj, law.robj)
    write_value(sim, data, key, 0, max(size, 1))
    if not sim.cost[dp.POLICY] & LFU:
        sim.ka[key] = sim.now // 10**9


def appended(sim: Sim, data: Record, key: int, before: int, size: int, has_moved: bool) -> None:
    if not sim.child.is_known:
        return
    robj(sim, data, key)
    if has_moved:
        write_value(sim, data, key, 0, max(size, 1))
    else:
        write_value(sim, data, key, 0, 1)
        write_value(sim, data, key, before, max(size - before, 1))


def elements(sim: Sim, data: Record, key: int, value_bytes: int, count: int) -> None:
    """Elements of an aggregate of so many bytes."""
    if not sim.child.is_known:
        return
    robj(sim, data, key)
    if value_bytes <= 2 * PAGE:
        write_value(sim, data, key, 0, max(value_bytes, 1))
    else:
        for _ in range(2 * min(count, 64)):
            write_value(sim, data, key, sim.child.luck.below(value_bytes), 1)


def key_moves(sim: Sim, data: Record, key: int, has_come: bool) -> None:
    """Before the table counts it."""
    if not sim.child.is_known:
        return
    write(sim, int(sim.child.row[dp.CH_TABLE_AT]) + 8 * order_of(sim, key, bits(sim, dp.MAIN)), 8)
    if has_come:
        law, number = place_of(sim, data, key)
        write(sim, law.entry_at + number * law.entry, law.entry)
        write(sim, law.key_at + number * law.key, law.key)


def expire(sim: Sim, data: Record, key: int, moves: bool) -> None:
    if not sim.child.is_known:
        return
    law, number = place_of(sim, data, key)
    write(sim, law.xentry_at + number * law.entry, law.entry)
    if moves:
        write(sim, int(sim.child.row[dp.CH_XTABLE_AT]) + 8 * order_of(sim, key, bits(sim, dp.EXPIRES)), 8)


def bits(sim: Sim, table: int) -> int:
    return max(sim.tables[table].bits or 0, 1)


# ---- fork, and who pays ------------------------------------------------------------------------------------------------


def count_from_now(sim: Sim) -> None:
    row = sim.child.row
    row[dp.CH_FORK_AT] = sim.now
    row[dp.CH_REGION_UNTIL] = sim.now + row[dp.CH_REGION_FOR]
    row[dp.CH_MARK] = sim.now - sim.idle
    row[dp.CH_BUSY_AT] = sim.now - sim.idle - row[dp.CH_WAITED_NS]


def begin(sim: Sim, kind: int) -> None:
    """server.c:redisFork in the parent."""
    row = sim.child.row
    sim.child.written = set()
    row[dp.CH_STATE], row[dp.CH_KIND] = dp.CHILD_ALIVE, kind
    for column in (dp.CH_COPIED, dp.CH_REUSED, dp.CH_PROGRESS, dp.CH_OWED):
        row[column] = 0
    row[dp.CH_FORKS] += 1
    row[dp.CH_STRETCH] = row[dp.CH_STRETCH_IF]
    sim.aof.row.child = 1
    count_from_now(sim)


def held(sim: Sim, cause: int, ns: int) -> None:
    start = sim.now
    sim.charge(cause, ns)
    if ns >= sim.cost[dp.STALL_NS]:
        sim.stall(cause, start, dp.NONE, dp.NONE)


def fork_now(sim: Sim, kind: int) -> None:
    held(sim, int(sim.child.row[dp.CH_FORK_CAUSE]), int(sim.child.row[dp.CH_FORK_NS]))
    begin(sim, kind)


def persist(sim: Sim, op: int, *, is_scheduled: bool) -> tuple[int, int]:
    """BGSAVE, SAVE, BGREWRITEAOF: (ns, reply bytes)."""
    row = sim.child.row
    if op == dp.OP_BGREWRITEAOF and sim.child.is_alive and row[dp.CH_KIND] == dp.KIND_AOF:
        return 0, ANSWERS["rewriting already"]
    if op == dp.OP_BGREWRITEAOF:
        row[dp.CH_WANT] |= dp.REWRITE_WANTED
        return 0, ANSWERS["scheduled" if sim.child.is_alive else "rewriting"]
    if sim.child.is_alive and row[dp.CH_KIND] == dp.KIND_RDB:
        return 0, ANSWERS["busy"]
    if op == dp.OP_SAVE:
        row[dp.CH_WANT] |= dp.SAVED
        return int(row[dp.CH_SAVE_NS]), ANSWERS["error" if row[dp.CH_SAVE_REFUSED] else "ok"]
    if sim.child.is_alive and is_scheduled:
        row[dp.CH_WANT] |= dp.SAVE_WANTED
        return 0, ANSWERS["scheduled save"]
    if sim.child.is_alive:
        return 0, ANSWERS["other"]
    if row[dp.CH_REFUSED]:
        row[dp.CH_WANT] |= dp.FORK_FAILED
        return 0, ANSWERS["error"]
    begin(sim, dp.KIND_RDB)
    row[dp.CH_OWED] = row[dp.CH_FORK_OWED] = row[dp.CH_FORK_NS]
    row[dp.CH_WANT] |= dp.FORKED
    return 0, ANSWERS["started"]


def pay(sim: Sim, request: Request) -> int:
    """The command's fork and faults, after its own time; ns."""
    row = sim.child.row
    whole, fork = int(row[dp.CH_OWED]), int(row[dp.CH_FORK_OWED])
    if whole == 0:
        return 0
    row[dp.CH_OWED] = row[dp.CH_FORK_OWED] = 0
    for cause, ns in ((int(row[dp.CH_FORK_CAUSE]), fork), (int(row[dp.CH_COW_CAUSE]), whole - fork)):
        if ns > 0:
            held(sim, cause, ns)
            request.serve(cause, ns)
            if cause == row[dp.CH_FORK_CAUSE]:
                count_from_now(sim)
            else:
                row[dp.CH_FAULTED_NS] += ns
    request.kind.usec_ns += whole
    return whole


def ask_for_child(sim: Sim) -> Generator[int, None, None]:
    """The control plane hears of a fork, or of what else BGSAVE and its like want, before the replies."""
    if sim.child.row[dp.CH_WANT]:
        yield dp.ASK


def share_cpu(sim: Sim) -> None:
    """The child has had its share of the cores."""
    row = sim.child.row
    if not row[dp.CH_STRETCH]:
        return
    busy = sim.now - sim.idle - int(row[dp.CH_MARK])
    if busy > 0:
        ns = busy * int(row[dp.CH_STRETCH]) // 10**6
        held(sim, int(row[dp.CH_CPU_CAUSE]), ns)
        row[dp.CH_WAITED_NS] += ns
    row[dp.CH_MARK] = sim.now - sim.idle


def refuse(sim: Sim, request: Request) -> bool:
    """-MISCONF after a failed BGSAVE."""
    row = sim.child.row
    if not row[dp.CH_MISCONF]:
        return False
    request.reply, request.is_misconf = MISCONF_BYTES, True
    request.kind.errors += 1
    row[dp.CH_MISCONFS] += 1
    return True


COMPARED = [dp.CH_STATE, dp.CH_OWED, dp.CH_CHANGES, dp.CH_FLUSHES, dp.CH_COPIED, dp.CH_REUSED, dp.CH_FAULTED_NS, dp.CH_WAITED_NS,
            dp.CH_FORKS, dp.CH_FORK_AT, dp.CH_MISCONFS, dp.CH_PROGRESS, dp.CH_FORK_NS, dp.CH_SAVE_NS]  # fmt: skip
