"""The twin's replies: all of them before the next poll, last client first, at most 64 KiB each; what becomes of an answer.

Mirrors handleClientsWithPendingWrites(UsingThreads) as loop.py has it. Differs and not modelled: as there.
"""

from redsim.dataplane import layout as dp
from redsim.dataplane.twin.answers import complete
from redsim.dataplane.twin.clients import issue, make_ready, think_until
from redsim.dataplane.twin.hiccups import busy_hiccups
from redsim.dataplane.twin.things import Conn, Request, Sim

WRITE_BYTES = 65536  # server.h: NET_MAX_WRITES_PER_EVENT


def lanes_of(sim: Sim) -> list[int]:
    return [0] * sim.cost[dp.IO_LANES]


def lane(sim: Sim, i: int) -> int:
    """Which lane client number `i` of a list dealt round robin is served by."""
    return (i % sim.cost[dp.IO_THREADS]) % sim.cost[dp.IO_LANES]


def write_replies(sim: Sim) -> int:
    """All replies, last client first; with I/O threads if enough wait. How many clients were written to."""
    if sim.cost[dp.IO_THREADS] > 1 and not sim.is_busy:
        sim.io_active = len(sim.pending) >= 2 * sim.cost[dp.IO_THREADS]
    kept = [conn for conn in sim.pending if sim.script and sim.script[0] is conn]
    conns = [conn for conn in reversed(sim.pending) if conn not in kept]
    sim.pending = kept
    for conn in conns:
        conn.pending = False
    if sim.io_active and not sim.is_busy:
        threaded_writes(sim, conns)
        return len(conns)
    for conn in conns:
        busy_hiccups(sim)
        if conn.live and conn.out > 0:
            write_to_client(sim, conn)
            if conn.want_write:
                make_ready(sim, conn)
    return len(conns)


def threaded_writes(sim: Sim, conns: list[Conn]) -> None:
    sim.charge(dp.IO, sim.cost[dp.FORKJOIN_NS])
    lanes = lanes_of(sim)
    for i, conn in enumerate(conns):
        if not conn.live or conn.out == 0:
            continue
        size = min(conn.out, WRITE_BYTES)
        ns = sim.cost[dp.WRITE_NS] + size * sim.cost[dp.WRITE_PS] // 1000
        lanes[lane(sim, i)] += ns
        sim.count.twrites += 1
        sent(sim, conn, size, ns, sim.now + lanes[lane(sim, i)])
        if conn.want_write:
            make_ready(sim, conn)
    sim.charge(dp.WRITE, max(lanes))
    sim.count.io_active_ns += max(lanes) + sim.cost[dp.FORKJOIN_NS]


def write_to_client(sim: Sim, conn: Conn) -> None:
    size = min(conn.out, WRITE_BYTES)
    ns = sim.cost[dp.WRITE_NS] + size * sim.cost[dp.WRITE_PS] // 1000
    thread = conn.slot.thread if conn.slot is not None else None
    if thread is not None and conn.group.local:
        is_up = thread.costs.spin or thread.wakes is not None or thread.free > sim.now
        ns += 0 if is_up else sim.cost[dp.WAKE_PEER_NS]
    sim.charge(dp.WRITE, ns)
    sent(sim, conn, size, ns, sim.now)


def sent(sim: Sim, conn: Conn, size: int, ns: int, at: int) -> None:
    """`size` bytes left at `at`, in a write of `ns`: replies that are whole now are answers."""
    sim.count.writes += 1
    sim.count.net_out += size
    conn.out -= size
    conn.last = at
    while size > 0 and conn.outbox:
        request = conn.outbox[0]
        request.serve(dp.WRITE, ns)
        part = min(size, request.reply - conn.head_sent)
        size -= part
        conn.head_sent += part
        on_link = over_link(conn, part, at)
        if conn.head_sent < request.reply:
            break
        conn.outbox.popleft()
        conn.head_sent = 0
        answer(sim, conn, request, at, on_link)
    conn.want_write = conn.out > 0


def over_link(conn: Conn, size: int, at: int) -> int:
    """When the last of `size` bytes written at `at` is off the client's link."""
    group = conn.group
    if group.ps_per_byte == 0 or conn.slot is None:
        return at
    group.link_out = max(at, group.link_out) + size * group.ps_per_byte // 1000
    return int(group.link_out)


def answer(sim: Sim, conn: Conn, request: Request, left: int, delivered: int) -> None:
    """The last byte of the reply left: an `ample` client has it now, another one when its thread reads it."""
    slot, group = request.slot, request.slot.group
    if not request.wanted or slot.conn is not conn:
        return
    request.left, request.delivered, request.answered = left, delivered + group.net, True
    if slot.thread is not None:
        if not slot.readable:
            slot.readable = True
            sim.wake_for(slot.thread, slot.thread.reads, slot, request.delivered)
        return
    done = request.delivered + group.recv
    gave_up = slot.outstanding[0] if group.reconnect else request  # the alarm that ends the connection, or this request's own
    if done >= sim.end or (group.timeout > 0 and gave_up.begin + group.timeout < done):
        return
    complete(sim, request, request.intended, done)
    if group.mode == dp.CLOSED and slot.out == 0:
        issue(sim, slot, think_until(group, done))
