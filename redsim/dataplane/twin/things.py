"""The twin's things: requests, connections, slots, groups, client threads, and the simulation that holds them.

Mirrors layout.py, as objects instead of rows: nothing is reused, nothing has a capacity. `read_world` makes them from a World
that has not run yet, so that one build feeds both.
"""

from bisect import insort
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from heapq import heappush
from types import SimpleNamespace
from typing import Any

from redsim.dataplane import layout as dp
from redsim.dataplane.events import NEVER
from redsim.dataplane.twin.luck import Popularity, Sizes, Stream, alias_rows, bits_of, read_sizes

Record = SimpleNamespace  # a row of the World by the names of its columns, in lower case without prefix
DOWN, CONNECTING, UP = "down", "connecting", "up"


@dataclass(eq=False, slots=True)
class Request:
    """From the client's intention to the last byte of the answer; all times in ns."""

    slot: "Slot"
    kind: Record
    key: int
    value: int
    size: int
    intended: int
    begin: int
    attempt: int = 0
    issued: int = 0
    sent: int = 0
    arrived: int = 0
    left: int = 0
    delivered: int = 0
    reply: int = 0
    own: dict[int, int] = field(default_factory=dict)  # cause -> ns of the main thread that were its own service
    wanted: bool = True  # its client has neither an answer nor given up
    answered: bool = False
    refused: bool = False  # -BUSY
    missed: bool = False  # the answer is nil
    is_oom: bool = False  # -OOM
    is_misconf: bool = False  # -MISCONF
    is_loading: bool = False  # -LOADING
    in_aof: int = 0  # bytes of the AOF up to what it propagated, 0: nothing

    def serve(self, cause: int, ns: int) -> None:
        self.own[cause] = self.own.get(cause, 0) + ns


@dataclass(eq=False, slots=True)
class Conn:
    """The server's end of a connection."""

    row: int
    slot: "Slot | None"
    group: Record
    last: int = 0  # last interaction
    inbox: deque[Request] = field(default_factory=deque)  # arrived and not executed, oldest first
    socket: int = 0  # bytes unread
    buffered: int = 0  # bytes read and not executed
    alloc: int = 0  # size of the query buffer
    outbox: deque[Request] = field(default_factory=deque)  # executed, answer not wholly written
    out: int = 0  # bytes to write
    head_sent: int = 0  # bytes of outbox[0] already written
    planned_read: int = 0  # what the I/O threads read
    accepted: bool = False
    in_ring: bool = False
    pending: bool = False
    want_write: bool = False
    eof: bool = False
    reset: bool = False  # closed by the server, its client does not know or has not hung up yet
    telling: bool = False  # its client will hear of that
    live: bool = True
    reply_buffer: int = 16384  # bytes; what is owed beyond it lies in a list
    peak: int = 16384  # the most that was in it since
    peak_since: int = 0


@dataclass(eq=False, slots=True)
class Slot:
    """A client's end of a connection; the connection may change."""

    row: int
    group: Record
    thread: "Thread | None"
    state: str
    conn: Conn | None = None
    outstanding: deque[Request] = field(default_factory=deque)  # sent or waiting to be, oldest first; not those in back-off
    out: int = 0  # the same and those in back-off
    unsent: list[Request] = field(default_factory=list)
    alarm_set: bool = False
    tries: int = 0
    cursor: int = 0
    last_arrival: int = 0
    readable: bool = False  # in its thread's list
    knocks_at: int = 0  # its SYN goes out again, to a host that is down
    writable: bool = False


@dataclass(eq=False, slots=True)
class Thread:
    """A client machine's event loop; `step` is one step of it."""

    costs: Record
    step: "Callable[[Sim, Thread, int], None] | None" = None
    reads: list[tuple[int, Slot]] = field(default_factory=list)  # readable from when, in time order
    writes: list[tuple[int, Slot]] = field(default_factory=list)
    free: int = 0
    wakes: int | None = None  # when its next step is planned
    asleep: bool = False
    batch: int = 0


@dataclass(eq=False, slots=True)
class Expires:
    """Keys with a TTL in the buckets of the largest table there can be, newest first; one of a smaller table is some in a row."""

    row: Record  # parameters and state, by the names of their columns
    slots: list[list[int]]

    def slot_of(self, key: int) -> int:
        return bits_of(key ^ self.row.hash_seed) >> (64 - self.row.hash_bits)

    def slots_of(self, bucket: int, bits: int) -> range:
        """The slots of one of 2**bits buckets."""
        wide = len(self.slots) // 2**bits
        return range(bucket * wide, (bucket + 1) * wide)


@dataclass(eq=False, slots=True)
class Table:
    """A dict of the database: keys, bits of its table, and of the next one with what is left to move of the old."""

    used: int
    bits: int | None
    next: int | None = None
    left: int = 0  # thousandths of a bucket


@dataclass(eq=False, slots=True)
class Eviction:
    """What evict.c remembers, and the buckets that the keyspace is sampled from."""

    luck: Stream
    slots: list[list[int]]  # of the largest table there can be, newest key first; none if no policy samples the keyspace
    seed: int
    pool: list[tuple[int, int]] = field(default_factory=list)  # score, key
    ages: list[int] = field(default_factory=list)  # of the victims, in seconds
    is_armed: bool = False
    exceeded_from: int | None = None  # memory is over the limit since

    def slot_of(self, key: int) -> list[int]:
        return self.slots[bits_of(key ^ self.seed) * len(self.slots) >> 64]

    def link(self, key: int) -> None:
        if self.slots:
            self.slot_of(key).insert(0, key)

    def unlink(self, key: int) -> None:
        if self.slots:
            self.slot_of(key).remove(key)


COUNTS: list[str] = [
    "clients", "rejected", "accepted", "polls", "sleeps", "reads", "writes", "commands", "treads", "twrites", "hiccups", "hits",
    "misses", "net_in", "net_out", "max_batch", "batch_sum", "expired", "listen_drops", "closed_idle", "io_active_ns",
    "evicted", "oom", "exceeded_ns",
]  # fmt: skip


@dataclass(eq=False, slots=True)
class Sim:
    """Everything. `activities` is the main thread's whole past; what a request waited for is read from it at the end."""

    cost: list[int]
    groups: list[Record]
    kinds: list[Record]
    datasets: list[Record]
    slots: list[Slot]
    curves: list[list[int]]
    sizes: list[Sizes]
    hiccup_gaps: Stream
    hiccup_lengths: Stream
    wake_ups: Stream
    kv: list[int]
    ke: list[int]
    kx: list[int]
    ka: list[int]
    grown: list[int]
    expires: Expires
    tables: list[Table]  # of the keyspace, of its expires
    tab: list[int]
    eviction: Eviction
    rates: list[list[int]]
    trace: list[list[int]]
    aof: Any  # twin/aof.py
    child: Any  # twin/cow.py
    end: int
    cron_due: int
    next_hiccup: int
    shapes: dict[str, tuple[int, ...]]
    warmup: int
    window: int
    windows: int
    now: int = 0
    idle: int = 0
    arguments: int = 0  # bytes of the values among those of the command about to run
    dict_ns: int = 0  # new tables that the command under way will pay for
    until: int = 0
    queue: list[tuple[int, int, Callable[..., None], Any]] = field(default_factory=list)
    pushed: int = 0
    ready: deque[Conn | None] = field(default_factory=deque)  # None is the listening socket
    listen_ready: bool = False
    accept_queue: deque[Conn] = field(default_factory=deque)
    batch: deque[Conn | None] = field(default_factory=deque)
    pending: list[Conn] = field(default_factory=list)
    threaded: list[Conn] = field(default_factory=list)
    rows: list[Conn | None] = field(default_factory=list)
    free_rows: list[int] = field(default_factory=list)
    io_active: bool = False
    first: bool = False  # a read has brought bytes and no command has run since
    slept: int = 0  # how deep the last sleep was, plus one, until a command has run
    script: tuple[Conn, Request] | None = None  # a script past busy-reply-threshold
    script_left: int = 0
    dead: str = ""  # PROCESS or HOST
    crash_at: int = int(NEVER)
    loading: bool = False
    ready_at: int = 0
    log: Any = None  # twin/crash.py: what the AOF's units changed, if a crash is ahead
    script_from: int = 0
    activities: list[list[int]] = field(default_factory=list)  # start, end, cause
    stalls: list[list[int]] = field(default_factory=list)
    open_stalls: list[list[int]] = field(default_factory=list)  # whose queue is not counted yet
    slowlog: list[list[int]] = field(default_factory=list)
    done: list[tuple[Request, int, int]] = field(default_factory=list)  # completed: request, start and end of its clock
    lags: list[tuple[int, int]] = field(default_factory=list)  # keys removed late: by whom, by how much
    offered: list[tuple[int, Record]] = field(default_factory=list)
    waiting: int = 0
    count: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(**dict.fromkeys(COUNTS, 0)))
    loop: Generator[int, None, None] | None = None

    @property
    def is_busy(self) -> bool:
        """A script past its threshold, or loading: everybody is refused."""
        return self.script is not None or self.loading

    def push(self, at: int, what: Callable[..., None], thing: Any) -> None:
        """`what(sim, thing, at)` at time `at`; ties go by push order."""
        heappush(self.queue, (at, self.pushed, what, thing))
        self.pushed += 1

    def wake_for(self, thread: Thread, sockets: list[tuple[int, Slot]], slot: Slot, at: int) -> None:
        """The slot is readable (writable) from `at` on; its client thread is woken for it unless it will be up before."""
        insort(sockets, (at, slot), key=lambda entry: entry[0])
        wakes = max(at, thread.free)
        if thread.wakes is None or wakes < thread.wakes:
            thread.wakes, thread.asleep = wakes, at > thread.free
            assert thread.step is not None
            self.push(wakes, thread.step, thread)

    def charge(self, cause: int, ns: int) -> None:
        """The main thread works `ns` more for `cause`."""
        if ns > 0:
            self.activities.append([self.now, self.now + ns, cause])
        self.now += ns

    def idle_until(self, at: int) -> None:
        self.idle += max(at - self.now, 0)
        self.now = max(self.now, at)

    def stall(self, cause: int, start: int, kind: int, key: int) -> None:
        """A row of the ledger: start, ns, cause, kind, requests waiting at its end (filled in later), key."""
        row = [start, self.now - start, cause, kind, dp.NONE, key]
        self.open_stalls.append(row)
        self.stalls.append(row)


def curve_ns(sim: Sim, curve: int, n: int) -> int:
    """Total ns at `n` elements, linear between powers of two."""
    if curve < 0 or n <= 0:
        return 0
    i = n.bit_length() - 1
    low, high = sim.curves[curve][i : i + 2]
    return low + (high - low) * (n - 2**i) // 2**i


def record(row: Any, prefix: str) -> Record:
    """A row of a table by the lower-case names of its columns."""
    columns = {n: i for n, i in vars(dp).items() if n.startswith(prefix) and isinstance(i, int) and n != prefix + "SIZE"}
    return Record(**{name[len(prefix) :].lower(): int(row[i]) for name, i in columns.items()})


def _groups(w: dp.World, tab: list[int], datasets: list[Record]) -> list[Record]:
    groups = []
    for g, row in enumerate(w.group):
        group = record(row, "G_")
        group.row = g
        words = [[int(x) for x in pair] for pair in w.rng[g * dp.RNG_PER_GROUP : (g + 1) * dp.RNG_PER_GROUP]]
        group.luck = [Stream(*pair) for pair in words]
        group.mix_table = alias_rows(tab, group.mix, group.mix_n)
        group.popularity = None
        if group.dataset >= 0:
            rows = alias_rows(tab, group.pop_arg, group.pop_n, dp.ZIPF_WORDS)
            group.popularity = Popularity(
                group.pop, datasets[group.dataset].n, hot=group.pop_arg, hot_share=group.pop_arg2,
                exponent=group.pop_arg2 * 1e-9, buckets=[[own[0], own[7], *own[1:4]] for own in rows],
            )  # fmt: skip
        groups.append(group)
    return groups


def _read_expires(w: dp.World) -> Expires:
    expires = Expires(record(w.expiry, "X_"), [[] for _ in w.xhead])
    for slot, key in enumerate(w.xhead.tolist()):
        while key != dp.NONE:
            expires.slots[slot].append(key)
            key = int(w.xnext[key])
    return expires


def _table(used: int, bits: int, following: int) -> Table:
    assert following == dp.NONE, "a World begins with no rehash under way"
    return Table(used, bits if bits != dp.NONE else None)


def _eviction(w: dp.World, luck: Stream) -> Eviction:
    eviction = Eviction(luck, [[] for _ in w.heads] if w.cost[dp.HEAD_BITS] else [], int(w.cost[dp.DICT_SEED]))
    for slot, head in zip(eviction.slots, w.heads.tolist(), strict=False):
        while head != dp.NONE:
            slot.append(head)
            head = int(w.nexts[head])
    return eviction


def read_world(w: dp.World) -> Sim:
    """The same start as objects; the World is read, not changed. Its planned first events come along."""
    st, tab = w.st, [int(x) for x in w.tab]
    datasets = [record(row, "D_") for row in w.dataset]
    groups = _groups(w, tab, datasets)
    kinds = [record(row, "K_") for row in w.kind]
    for number, kind in enumerate(kinds):
        kind.row = number
    threads = [Thread(record(row, "T_")) for row in w.thread]
    states = {dp.DOWN: DOWN, dp.UP: UP}
    slots = [
        Slot(s, groups[int(row[dp.S_GROUP])], threads[int(row[dp.S_THREAD])] if row[dp.S_THREAD] >= 0 else None,
             states[int(row[dp.S_STATE])])
        for s, row in enumerate(w.slot)
    ]  # fmt: skip
    others = w.rng[len(groups) * dp.RNG_PER_GROUP :]
    gaps, lengths, wakes, evictions, fsyncs, elements = ([int(x) for x in pair] for pair in others)
    sim = Sim(
        cost=[int(x) for x in w.cost], groups=groups, kinds=kinds, datasets=datasets, slots=slots, curves=w.curve.tolist(),
        sizes=[read_sizes(tab, *(int(x) for x in row)) for row in w.dist],
        hiccup_gaps=Stream(*gaps), hiccup_lengths=Stream(*lengths), wake_ups=Stream(*wakes),
        eviction=_eviction(w, Stream(*evictions)), rates=w.rates.tolist(), trace=w.trace.tolist(),
        aof=Stream(*fsyncs), child=Stream(*elements),
        kv=w.kv[:, 0].tolist(), ka=w.kv[:, 1].tolist(), ke=w.ke.tolist(), kx=w.kx.tolist(),
        grown=w.grown.tolist(), expires=_read_expires(w), tables=[_table(*map(int, row[:3])) for row in w.dicts], tab=tab,
        end=int(st[dp.END]), cron_due=int(st[dp.CRON_DUE]), next_hiccup=int(st[dp.NEXT_HICCUP]),
        shapes={name: getattr(w, name).shape for name in ("hist", "heat", "blame", "smax", "offered", "held", "slow", "lag")},
        crash_at=int(st[dp.CRASH_AT]), warmup=int(st[dp.WARMUP]), window=int(st[dp.WINDOW]), windows=int(st[dp.WINDOWS]),
    )  # fmt: skip
    for slot in slots:
        if slot.state == UP:
            slot.conn = open_conn(sim, slot, 0)
            slot.conn.accepted = True
            sim.count.clients += 1
    return sim


def open_conn(sim: Sim, slot: Slot, now: int) -> Conn:
    """A connection in the row freed last, or a new one: clientsCron walks them in row order."""
    row = sim.free_rows.pop() if sim.free_rows else len(sim.rows)
    conn = Conn(row, slot, slot.group, last=now)
    if row == len(sim.rows):
        sim.rows.append(conn)
    sim.rows[row] = conn
    slot.conn = conn
    return conn


def free_conn(sim: Sim, conn: Conn) -> None:
    """Gone on both sides, with what was in it."""
    sim.waiting -= len(conn.inbox)
    conn.inbox.clear()
    conn.outbox.clear()
    conn.live = False
    sim.rows[conn.row] = None
    sim.free_rows.append(conn.row)
