"""The twin's server: one event loop, written as the sequence it is.

Mirrors ae.c, networking.c and script.c as loop.py does; a generator instead of a machine of phases: it yields where the control
plane has something to do, and nowhere else. Differs and not modelled: as there.
"""

from collections import deque
from collections.abc import Generator

from redsim.dataplane import layout as dp
from redsim.dataplane.twin import aof, cow
from redsim.dataplane.twin.clients import admit, make_ready, next_happening
from redsim.dataplane.twin.cron import close_by_server
from redsim.dataplane.twin.evict import eviction_timer, make_room
from redsim.dataplane.twin.expires import fast_cycle
from redsim.dataplane.twin.hiccups import busy_hiccups, draw_hiccup, hiccup
from redsim.dataplane.twin.keys import run_command
from redsim.dataplane.twin.things import Conn, Request, Sim, free_conn
from redsim.dataplane.twin.writing import lane, lanes_of, write_replies, write_to_client

READ_BYTES = 16384  # server.h: PROTO_IOBUF_LEN
BIG_ARG_BYTES = 32768  # server.h: PROTO_MBULK_BIG_ARG
BUSY_ITERATIONS = 4  # networking.c: processEventsWhileBlocked
BUSY_BYTES = 105  # the -BUSY error line
LOADING_BYTES = len("-LOADING Redis is loading the dataset in memory\r\n")
OOM_BYTES = 58  # the -OOM error line
MISCONF_BYTES = len("-MISCONF Errors writing to the AOF file: No space left on device\r\n")
MS_NS = 1_000_000


def event_loop(sim: Sim) -> Generator[int, None, None]:
    """ae.c:aeMain for ever; REACHED when `sim.until` is, TIMER when serverCron is due."""
    while True:
        while sim.now >= min(sim.until, sim.crash_at):
            yield dp.REACHED
        admit(sim)
        n = poll(sim)
        sim.count.polls += 1
        sim.charge(dp.POLL, sim.cost[dp.POLL_NS] + n * sim.cost[dp.POLL_EVENT_NS])
        if n == 0 and not sim.eviction.is_armed:
            yield from sleep(sim)
        else:
            sim.count.batch_sum += n
            sim.count.max_batch = max(sim.count.max_batch, n)
        file_events(sim)
        if sim.script:
            yield from run_script(sim)
        yield from survived(sim)
        eviction_timer(sim)
        if sim.now >= sim.cron_due:
            yield dp.TIMER
            yield from survived(sim)
        threaded_reads(sim)
        if sim.script:
            yield from run_script(sim)
        yield from survived(sim)
        yield from cow.ask_for_child(sim)
        fast_cycle(sim)
        cow.share_cpu(sim)
        yield from aof.flush(sim)
        yield from survived(sim)
        write_replies(sim)


def survived(sim: Sim) -> Generator[int, None, None]:
    """Between two steps: goes on only if the process is still there."""
    while sim.now >= sim.crash_at:
        yield dp.REACHED


def loading_loop(sim: Sim, load_ns: int, every_ns: int, cause: int) -> Generator[int, None, None]:
    """The data, with a look at the clients in between; then the event loop."""
    while True:
        while sim.now >= min(sim.until, sim.crash_at):
            yield dp.REACHED
        admit(sim)
        if load_ns == 0 and not sim.dead:
            break
        if not sim.dead:
            step = min(every_ns, load_ns)
            load_ns -= step
            sim.charge(cause, step)
            yield from events_while_blocked(sim)
    sim.loading, sim.ready_at = False, sim.now
    yield from event_loop(sim)


def poll(sim: Sim) -> int:
    """The batch is everything that is ready; how many it is. A running script's own client is left alone."""
    sim.batch = deque()
    for conn in sim.ready:
        if conn is None:
            sim.listen_ready = False
            sim.batch.append(conn)
            continue
        conn.in_ring = False
        if sim.script and sim.script[0] is conn:
            continue
        if conn.live and (conn.socket > 0 or conn.eof or conn.want_write):
            sim.batch.append(conn)
    sim.ready.clear()
    return len(sim.batch)


def sleep(sim: Sim) -> Generator[int, None, None]:
    """epoll_wait until a socket is ready or the next timer is due, in whole milliseconds."""
    asleep = sim.now
    late = max(sim.cron_due - sim.now, 0)
    deadline = sim.now + -(-late // MS_NS) * MS_NS
    while not sim.ready:
        at, _ = next_happening(sim)
        if at > sim.now:
            if min(at, deadline) > sim.until:
                sim.idle_until(sim.until)
                yield dp.REACHED
                continue
            sim.idle_until(min(at, deadline))
            if sim.now >= deadline and at > sim.now:
                break
        admit(sim)
    depth = min(sim.now - asleep, sim.cost[dp.DEEP_AFTER_NS])
    sim.count.sleeps += 1
    sim.slept = depth + 1
    if sim.cost[dp.HICCUP_MEAN_NS] > 0:
        woken = sim.now
        while sim.next_hiccup <= woken:
            began, ns = sim.next_hiccup, draw_hiccup(sim)
            hiccup(sim, began + ns - sim.now)
    deeper = (sim.cost[dp.WAKE_DEEP_NS] - sim.cost[dp.WAKE_NS]) * depth // sim.cost[dp.DEEP_AFTER_NS]
    wake = sim.cost[dp.WAKE_NS] + deeper
    if sim.cost[dp.WAKE_DIST] >= 0:
        wake = wake * sim.sizes[sim.cost[dp.WAKE_DIST]].draw(sim.wake_ups) // 1000
    sim.charge(dp.WAKE, wake)
    admit(sim)
    sim.charge(dp.POLL, poll(sim) * sim.cost[dp.POLL_EVENT_NS])


# ---- reading and executing ------------------------------------------------------------------------------------------


def file_events(sim: Sim) -> None:
    """Every connection of the batch; stops at a script that has become busy, the rest will be polled again."""
    is_busy = sim.is_busy
    while sim.batch:
        busy_hiccups(sim)
        admit(sim)
        if sim.dead:
            return
        conn = sim.batch.popleft()
        if conn is None:
            accept_clients(sim)
            continue
        if conn.socket > 0 or conn.eof:
            if sim.io_active and sim.cost[dp.IO_DO_READS] and not is_busy and conn.socket > 0:
                sim.threaded.insert(0, conn)  # networking.c: at the head of clients_pending_read
            else:
                read_query(sim, conn)
                if sim.script and not is_busy:
                    poll_again(sim, sim.batch)
                    return
        if conn.live and conn.want_write:
            write_to_client(sim, conn)
            if conn.want_write or conn.socket > 0:
                make_ready(sim, conn)


def poll_again(sim: Sim, conns: "deque[Conn | None]") -> None:
    for conn in conns:
        if conn is None:
            sim.listen_ready = True
            sim.ready.append(None)
        else:
            make_ready(sim, conn)
    conns.clear()


def read_query(sim: Sim, conn: Conn) -> None:
    """One read, then every complete command."""
    if conn.socket == 0:
        sim.charge(dp.READ, sim.cost[dp.CLOSE_NS])
        sim.count.clients -= 1
        free_conn(sim, conn)
        return
    size = min(conn.socket, read_size(sim, conn))
    conn.last = sim.now
    ns = read_ns(sim, size)
    sim.charge(dp.READ, ns)
    take_bytes(sim, conn, size, ns)


def read_ns(sim: Sim, size: int) -> int:
    return sim.cost[dp.READ_NS] + size * sim.cost[dp.READ_PS] // 1000


def take_bytes(sim: Sim, conn: Conn, size: int, ns: int) -> None:
    """`size` bytes are in the query buffer; the read is the own service of every request it brought a byte of."""
    sim.count.reads += 1
    sim.first = True
    conn.socket -= size
    conn.buffered += size
    covered = 0
    for request in conn.inbox:
        if covered >= conn.buffered:
            break
        request.serve(dp.READ, ns)
        covered += request.size
    execute(sim, conn)
    if conn.socket > 0 or conn.eof:
        make_ready(sim, conn)


def read_size(sim: Sim, conn: Conn) -> int:
    """What one read asks for."""
    rest = conn.inbox[0].size - conn.buffered
    if rest >= BIG_ARG_BYTES and conn.buffered > 0:
        return rest
    if conn.alloc < READ_BYTES:
        conn.alloc = sim.cost[dp.QB_ALLOC]
        return READ_BYTES
    if conn.alloc - conn.buffered < READ_BYTES:
        conn.alloc = 2 * (conn.buffered + READ_BYTES)
    return conn.alloc - conn.buffered


def execute(sim: Sim, conn: Conn) -> None:
    """networking.c:processInputBuffer."""
    was_busy = sim.is_busy
    while conn.inbox and conn.inbox[0].size <= conn.buffered:
        request = conn.inbox.popleft()
        conn.buffered -= request.size
        call(sim, conn, request)
        if sim.script and not was_busy:
            return


def call(sim: Sim, conn: Conn, request: Request) -> None:
    """server.c:call and what surrounds it."""
    cost, kind = sim.cost, request.kind
    sim.waiting -= 1
    sim.count.commands += 1
    request.is_oom = not sim.is_busy and not make_room(sim, request)
    start = sim.now
    around = cost[dp.CALL_NS] + kind.argc * cost[dp.PARSE_NS] + request.size * cost[dp.PARSE_PS] // 1000
    if sim.is_busy:
        around += cost[dp.BUSY_REPLY_NS]
        request.refused, request.is_loading = not sim.loading, sim.loading
        request.reply = LOADING_BYTES if sim.loading else BUSY_BYTES
        kind.errors += 1
        sim.charge(kind.cause, around)
        request.serve(kind.cause, around)
        add_reply(sim, conn, request)
        return
    if request.is_oom:
        ns, request.reply = 0, OOM_BYTES
        kind.errors += 1
        sim.count.oom += 1
    elif (kind.aof or kind.op == dp.OP_PING) and cow.refuse(sim, request):
        ns = 0
    elif sim.aof.failing and (kind.aof or kind.op == dp.OP_PING):
        ns, request.reply, request.is_misconf = 0, MISCONF_BYTES, True
        kind.errors += 1
        sim.aof.count["misconf"] += 1
    else:
        ns, request.reply = run_command(sim, request)
        around += aof.command(sim, request)
        request.in_aof = sim.aof.appended[0] if kind.aof else 0
        kind.calls += 1
        kind.usec_ns += ns
    held = ns
    if kind.op == dp.OP_SCRIPT and ns > cost[dp.BUSY_NS]:
        held = cost[dp.BUSY_NS]
        sim.script, sim.script_left, sim.script_from = (conn, request), ns - held, start + around
    sim.charge(kind.cause, around + held)
    request.serve(kind.cause, around + held)
    if held >= cost[dp.STALL_NS]:
        sim.stall(kind.cause, start, kind.row, request.key)
    ns += cow.pay(sim, request)
    if sim.script:
        return
    if ns >= cost[dp.SLOW_NS]:
        log_slow(sim, request, start, ns)
    add_reply(sim, conn, request)


def log_slow(sim: Sim, request: Request, start: int, ns: int) -> None:
    sim.slowlog.append([len(sim.slowlog), start, ns, request.kind.row, request.key, request.slot.row])


def add_reply(sim: Sim, conn: Conn, request: Request) -> None:
    conn.outbox.append(request)
    conn.out += request.reply
    conn.peak = max(conn.peak, min(conn.out, conn.reply_buffer))
    if not conn.pending and not conn.want_write:
        conn.pending = True
        sim.pending.append(conn)


def accept_clients(sim: Sim) -> None:
    for _ in range(sim.cost[dp.ACCEPTS_PER_CALL]):
        if not sim.accept_queue:
            break
        conn = sim.accept_queue.popleft()
        sim.charge(dp.ACCEPT, sim.cost[dp.ACCEPT_NS])
        if sim.count.clients >= sim.cost[dp.MAXCLIENTS]:
            sim.count.rejected += 1
            close_by_server(sim, conn)
            continue
        sim.count.clients += 1
        sim.count.accepted += 1
        conn.accepted, conn.peak_since = True, sim.now
        if conn.socket > 0 or conn.eof:
            make_ready(sim, conn)
    if sim.accept_queue:
        sim.listen_ready = True
        sim.ready.append(None)


# ---- a script past busy-reply-threshold -----------------------------------------------------------------------------


def run_script(sim: Sim) -> Generator[int, None, None]:
    """The script runs from hook to hook; at each, the others are read and told -BUSY. Its own client is not read meanwhile."""
    assert sim.script is not None
    conn, request = sim.script
    admit(sim)
    while sim.script_left > 0 and not sim.dead:
        step = min(sim.cost[dp.HOOK_NS], sim.script_left)
        sim.script_left -= step
        sim.charge(request.kind.cause, step)
        request.serve(request.kind.cause, step)
        yield from events_while_blocked(sim)
        admit(sim)
    yield from survived(sim)
    sim.script = None
    ns = sim.now - sim.script_from
    if ns >= sim.cost[dp.SLOW_NS]:
        log_slow(sim, request, sim.script_from, ns)
    add_reply(sim, conn, request)
    execute(sim, conn)
    if conn.socket > 0 or conn.eof or conn.want_write:
        make_ready(sim, conn)
    if sim.script:
        yield from run_script(sim)


def events_while_blocked(sim: Sim) -> Generator[int, None, None]:
    """networking.c:processEventsWhileBlocked: replies, poll without waiting, file events; up to four times while there is any."""
    for _ in range(BUSY_ITERATIONS):
        yield from survived(sim)
        yield from cow.ask_for_child(sim)
        cow.share_cpu(sim)
        yield from aof.flush(sim)
        yield from survived(sim)
        wrote = write_replies(sim)
        admit(sim)
        n = poll(sim)
        sim.charge(dp.POLL, sim.cost[dp.POLL_NS] + n * sim.cost[dp.POLL_EVENT_NS])
        yield from survived(sim)
        file_events(sim)
        if n == 0 and wrote == 0:
            break


# ---- before_sleep -----------------------------------------------------------------------------------------------------


def threaded_reads(sim: Sim) -> None:
    """All deferred reads in parallel, then their commands one client after the other."""
    lanes = lanes_of(sim)
    clients = deque(conn for conn in sim.threaded if conn.live and not conn.reset)
    sim.threaded = []
    if not clients:
        return
    reads = []
    for i, conn in enumerate(clients):
        size = min(conn.socket, read_size(sim, conn))
        reads.append((size, read_ns(sim, size)))
        lanes[lane(sim, i)] += reads[-1][1]
    sim.charge(dp.IO, sim.cost[dp.FORKJOIN_NS])
    sim.charge(dp.READ, max(lanes))
    sim.count.io_active_ns += max(lanes) + sim.cost[dp.FORKJOIN_NS]
    for size, ns in reads:
        admit(sim)
        if sim.dead:
            return
        conn = clients.popleft()
        conn.last = sim.now
        sim.count.treads += 1
        take_bytes(sim, conn, size, ns)
        if sim.script:
            for other in clients:
                make_ready(sim, other)
            return
