"""The twin's append-only file: the commands that are in the buffer, in the file, on the disk, as counts; the flush as it reads.

Written from aof.c, bio.c and db.c. The flush is a generator: it yields ASK where the control plane knows more, and finds the
answer in `until` when it goes on. Differs and not modelled: as in dataplane/aof.py.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from redsim.dataplane import layout as dp
from redsim.dataplane.twin.luck import Stream
from redsim.dataplane.twin.memory import grown
from redsim.dataplane.twin.things import Record, Request, Sim, record

ALONE, PENDING_FSYNC, ACTIVE_CHILD, FSYNC_ALWAYS = range(4)  # offsets of the events' causes


@dataclass(eq=False, slots=True)
class Aof:
    """state    buffered    bytes of aof_buf;  room: of its block
    appended, acked, written, submitted, synced     (bytes, commands): how far each has come in the file to be
    in_flight   the bio thread's fsync is not done, as far as the server has seen;  done: when it will be
    log         (time, bytes, commands) each time that something became durable, for tests"""

    row: Record
    luck: Stream
    buffered: int = 0
    room: int = 0
    appended: tuple[int, int] = (0, 0)
    acked: tuple[int, int] = (0, 0)
    written: tuple[int, int] = (0, 0)
    submitted: tuple[int, int] = (0, 0)
    synced: tuple[int, int] = (0, 0)
    in_flight: bool = False
    was_in_flight: bool = False
    done: int = 0
    last: int = 0
    postponed: int | None = None
    postponed_from: int = 0
    want: int = dp.WANT_NONE
    until: int = 0
    unit: list[int] = field(default_factory=list)  # deletions that the command under way has caused
    has_selected: bool = False
    failing: bool = False
    is_dirty: bool = False
    count: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("delayed", "misconf", "writes", "fsyncs", "postponements", "postponed_ns"), 0
        )
    )  # fmt: skip
    log: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def is_on(self) -> bool:
        return bool(self.row.policy != dp.AOF_OFF)


def read_aof(w: dp.World, luck: Stream) -> Aof:
    row = record(w.aof, "A_")
    return Aof(row, luck, last=row.last)


# ---- appending ---------------------------------------------------------------------------------------------------------


def argument(text_bytes: int) -> int:
    """RESP bytes of one argument."""
    return len(f"${text_bytes}\r\n") + text_bytes + 2


def append(sim: Sim, size: int, commands: int = 0) -> int:
    """So many bytes more in the buffer; ns."""
    aof = sim.aof
    if not aof.has_selected:
        aof.has_selected = True
        size += len(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n")
    aof.buffered += size
    aof.appended = (aof.appended[0] + size, aof.appended[1] + commands)
    aof.room = grown(sim, aof.room, aof.buffered)
    return int(aof.row.append_ns + size * aof.row.append_ps // 1000)


def deletion(sim: Sim, data: Record, lazy: int) -> int:
    """The server deletes a key of its own accord: DEL or UNLINK; ns."""
    if not sim.aof.is_on:
        return 0
    ns = append_deletion(sim, data, lazy)
    if sim.log is not None:
        sim.log.unit_ends(sim)
    return ns


def append_deletion(sim: Sim, data: Record, lazy: int) -> int:
    return append(sim, len("*2\r\n") + argument(6 if lazy else 3) + argument(data.keybytes))


def lazy_deletion(sim: Sim, data: Record, lazy: int) -> int:
    """The same, caused by a command that came across the key: it goes with what that command writes."""
    if not sim.aof.is_on:
        return 0
    ns = append_deletion(sim, data, lazy)
    sim.aof.unit.append(ns)
    return ns


def command(sim: Sim, request: Request) -> int:
    """After a command: its own propagation, if it changed anything, and MULTI ... EXEC if it did not go alone; ns."""
    aof, kind = sim.aof, request.kind
    is_propagated = kind.aof == dp.PROPAGATED or (kind.aof == dp.IF_DIRTY and aof.is_dirty)
    together = len(aof.unit) + is_propagated
    aof.unit, aof.is_dirty = [], False
    if not aof.is_on:
        aof.appended = (0, aof.appended[1] + (is_propagated and aof.row.feed))
        return 0
    ns = append(sim, request.size + kind.aof_more, 1) if is_propagated else 0
    if together > 1 and aof.row.wrap:
        ns += append(sim, len(b"*1\r\n$5\r\nMULTI\r\n") + len(b"*1\r\n$4\r\nEXEC\r\n"))
    if together > 0 and sim.log is not None:
        sim.log.unit_ends(sim)
    return ns


# ---- flushing ----------------------------------------------------------------------------------------------------------


def clock(sim: Sim) -> int:
    return int((sim.now + sim.aof.row.phase_ns) // sim.aof.row.tick_ns)


def durable(sim: Sim, at: int, upto: tuple[int, int]) -> None:
    sim.aof.synced = upto
    sim.aof.log.append((at, *upto))


def flush(sim: Sim) -> Generator[int, None, None]:
    """aof.c:flushAppendOnlyFile(0), then the replies may go."""
    aof = sim.aof
    if not aof.is_on:
        aof.acked = aof.appended if sim.now < sim.crash_at else aof.acked
        return
    if aof.in_flight and aof.done <= sim.now:
        aof.in_flight = False
        durable(sim, aof.done, aof.submitted)
    aof.was_in_flight = aof.in_flight and aof.row.policy == dp.AOF_EVERYSEC
    if aof.buffered:
        yield from write(sim)
    elif aof.submitted[0] != aof.written[0] and not aof.was_in_flight:
        yield from fsync(sim)
    if sim.now < sim.crash_at:
        aof.acked = aof.appended


def write(sim: Sim) -> Generator[int, None, None]:
    """write(2), now or later; then the fsync step."""
    aof, patience = sim.aof, 2 * sim.aof.row.second
    if aof.was_in_flight:
        if aof.postponed is None:
            aof.postponed, aof.postponed_from = clock(sim), sim.now
            aof.count["postponements"] += 1
            return
        if clock(sim) - aof.postponed < patience:
            return
        aof.count["delayed"] += 1
    event = PENDING_FSYNC if aof.was_in_flight else ACTIVE_CHILD if aof.row.child else ALONE
    if aof.row.full:
        sim.charge(aof.row.cause + event, aof.row.write_ns)
        no_longer_postponed(sim)
        aof.failing = aof.row.policy != dp.AOF_ALWAYS
        if not aof.failing:
            aof.want = dp.WANT_EXIT
            yield dp.ASK
        return
    is_locked = aof.was_in_flight and aof.row.locks
    if is_locked or aof.written[0] + aof.buffered > aof.row.limit:
        yield from blocked(sim, dp.WANT_WRITE, event)
    system_call(sim, event, aof.row.write_ns + aof.buffered * aof.row.write_ps // 1000)
    no_longer_postponed(sim)
    aof.count["writes"] += 1
    aof.written = aof.appended
    aof.buffered, aof.failing = 0, False
    aof.room = 0 if aof.room >= 4000 else aof.room
    yield from fsync(sim)


def no_longer_postponed(sim: Sim) -> None:
    aof = sim.aof
    if aof.postponed is not None:
        aof.count["postponed_ns"] += sim.now - aof.postponed_from
        aof.postponed = None


def blocked(sim: Sim, want: int, event: int) -> Generator[int, None, None]:
    """A system call that takes as long as the control plane says."""
    sim.aof.want = want
    yield dp.ASK
    if sim.aof.until > sim.now:
        system_call(sim, event, sim.aof.until - sim.now)


def system_call(sim: Sim, event: int, ns: int) -> None:
    start = sim.now
    sim.charge(sim.aof.row.cause + event, ns)
    if ns >= sim.cost[dp.STALL_NS]:
        sim.stall(sim.aof.row.cause + event, start, dp.NONE, dp.NONE)


def fsync(sim: Sim) -> Generator[int, None, None]:
    """The fsync step of the policy."""
    aof = sim.aof
    if aof.row.no_fsync and aof.row.child:
        return
    if aof.row.policy == dp.AOF_ALWAYS:
        if aof.row.shared:
            yield from blocked(sim, dp.WANT_FSYNC, FSYNC_ALWAYS)
        else:
            drawn = sim.sizes[aof.row.dist].draw(aof.luck)
            system_call(sim, FSYNC_ALWAYS, drawn + (aof.written[0] - aof.submitted[0]) * aof.row.sync_ps // 1000)
            if sim.now >= sim.crash_at:
                return
        aof.count["fsyncs"] += 1
        aof.last, aof.submitted = clock(sim), aof.written
        durable(sim, sim.now, aof.written)
    elif aof.row.policy == dp.AOF_EVERYSEC and clock(sim) - aof.last >= aof.row.second:
        aof.last = clock(sim)
        if not aof.was_in_flight:
            aof.submitted, aof.in_flight, aof.want = aof.written, True, dp.WANT_BIO
            aof.count["fsyncs"] += 1
            yield dp.ASK


# ---- what the control plane sees ------------------------------------------------------------------------------------------


class Numbers:
    """The World's aof row as the control plane reads and sets it."""

    _ROW: ClassVar = {
        dp.A_SHARED: "shared",
        dp.A_FULL: "full",
        dp.A_LIMIT: "limit",
        dp.A_LOCKS: "locks",
        dp.A_CHILD: "child",
        dp.A_POLICY: "policy",
    }
    _PAIRS: ClassVar = {
              dp.A_APPENDED: ("appended", 0), dp.A_CMDS: ("appended", 1), dp.A_ACKED: ("acked", 0), dp.A_ACKED_CMDS: ("acked", 1),
              dp.A_WRITTEN: ("written", 0), dp.A_WRITTEN_CMDS: ("written", 1), dp.A_SUBMITTED: ("submitted", 0),
              dp.A_SUBMITTED_CMDS: ("submitted", 1), dp.A_SYNCED: ("synced", 0), dp.A_SYNCED_CMDS: ("synced", 1)}  # fmt: skip
    _PLAIN: ClassVar = {dp.A_WANT: "want", dp.A_UNTIL: "until", dp.A_DONE: "done", dp.A_LEN: "buffered", dp.A_ROOM: "room",
              dp.A_FLIGHT: "in_flight", dp.A_PENDING: "was_in_flight", dp.A_FAILING: "failing",
              dp.A_POSTPONED_FROM: "postponed_from", dp.A_SELECTED: "has_selected", dp.A_DIRTY: "is_dirty"}  # fmt: skip
    _COUNTS: ClassVar = {dp.A_DELAYED: "delayed", dp.A_MISCONF: "misconf", dp.A_WRITES: "writes", dp.A_FSYNCS: "fsyncs",
               dp.A_POSTPONEMENTS: "postponements", dp.A_POSTPONED_NS: "postponed_ns"}  # fmt: skip

    def __init__(self, aof: Aof) -> None:
        self._aof = aof

    def __getitem__(self, column: int) -> int:
        if column in self._ROW:
            return int(getattr(self._aof.row, self._ROW[column]))
        if column in self._PAIRS:
            name, part = self._PAIRS[column]
            return int(getattr(self._aof, name)[part])
        if column in self._COUNTS:
            return self._aof.count[self._COUNTS[column]]
        if column == dp.A_POSTPONED:
            return dp.NONE if self._aof.postponed is None else self._aof.postponed
        return int(getattr(self._aof, self._PLAIN[column]))

    def __setitem__(self, column: int, value: int) -> None:
        if column in self._ROW:
            setattr(self._aof.row, self._ROW[column], value)
        elif column in self._PAIRS:
            name, part = self._PAIRS[column]
            pair = list(getattr(self._aof, name))
            pair[part] = value
            setattr(self._aof, name, tuple(pair))
        elif column == dp.A_POSTPONED:
            assert value == dp.NONE, "a new process has put nothing off"
            self._aof.postponed = None
        elif column == dp.A_UNIT:
            self._aof.unit = []
        else:
            setattr(self._aof, self._PLAIN[column], value)


COMPARED = [*Numbers._PAIRS, *Numbers._COUNTS, dp.A_LEN, dp.A_ROOM, dp.A_FLIGHT, dp.A_FAILING]


def state(numbers: Any) -> list[int]:
    """What both loops must agree on, of a World's row or of Numbers."""
    return [int(numbers[column]) for column in COMPARED]
