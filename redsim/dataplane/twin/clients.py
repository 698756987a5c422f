"""The twin's clients: arrivals, sending, connecting, giving up.

Mirrors clients.py and requests.py as plain lists and one heap. Differs and not modelled: as there.
"""

from collections.abc import Callable
from heapq import heappop

from redsim.dataplane import layout as dp
from redsim.dataplane.events import NEVER
from redsim.dataplane.twin.keys import digits, draw_key, draw_value
from redsim.dataplane.twin.luck import below_ns
from redsim.dataplane.twin.things import CONNECTING, DOWN, UP, Conn, Record, Request, Sim, Slot, free_conn, open_conn

NO_JITTER, FULL_JITTER, EQUAL_JITTER = range(3)


def next_happening(sim: Sim) -> tuple[int, Record | None]:
    """When the outside world next does something, and the open group that does it; at equal times groups go first, in order."""
    groups = [group for group in sim.groups if group.next_ns < NEVER]
    first = min(groups, key=lambda group: int(group.next_ns), default=None)
    event = sim.queue[0][0] if sim.queue else int(NEVER)
    if first is not None and first.next_ns <= event:
        return first.next_ns, first
    return event, None


def admit(sim: Sim) -> None:
    """Everything the clients do up to now, in the order of time."""
    while True:
        at, group = next_happening(sim)
        if at > sim.now:
            break
        if group is not None:
            open_arrival(sim, group, at)
        else:
            at, _, what, thing = heappop(sim.queue)
            what(sim, thing, at)
    for row in sim.open_stalls:
        row[4] = sim.waiting
    sim.open_stalls.clear()


# ---- requests are made ------------------------------------------------------------------------------------------


def new_request(sim: Sim, group: Record, slot: Slot, intended: int) -> Request:
    """A command, a key, a value: drawn, or read in the capture."""
    if group.mode == dp.TRACE:
        _, number, key, _, value = sim.trace[group.trace0 + group.trace_i]
        kind = sim.kinds[number]
    else:
        choice = group.luck[dp.RNG_MIX].alias(group.mix_table) if group.mix_n > 1 else 0
        kind = sim.kinds[group.kind0 + choice]
        key = dp.NONE
        if kind.slotkey >= 0:
            key = kind.slotkey
        elif kind.draw:
            key = draw_key(group, sim.datasets[group.dataset])
        value = draw_value(sim, group, kind) if kind.vdist >= 0 else 0
    size = kind.req_bytes + value_bytes(kind, value)
    group.offered += 1
    sim.offered.append((intended, group))
    slot.out += 1
    request = Request(slot, kind, key, value, size, intended, intended)
    slot.outstanding.append(request)
    return request


def value_bytes(kind: Record, value: int) -> int:
    """RESP bytes of the value or values a request carries."""
    values = kind.nkeys if kind.op == dp.OP_MSET else 1
    return values * (1 + digits(value) + 2 + value + 2) if value > 0 else 0


def draw_batch(sim: Sim, group: Record, slot: Slot, at: int) -> list[Request]:
    """A pipeline, shorter if the group's total is nearly used up."""
    n = group.pipe
    if group.left >= 0:
        n = min(n, group.left)
        group.left -= n
    return [new_request(sim, group, slot, at) for _ in range(n)]


def issue(sim: Sim, slot: Slot, at: int) -> None:
    """A closed-loop slot asks again."""
    group = slot.group
    if group.left != 0 and at < sim.end and at < group.stop:
        submit(sim, slot, draw_batch(sim, group, slot, at), at)


def open_arrival(sim: Sim, group: Record, at: int) -> None:
    """Requests of an open group; `at` is their arrival at the server where the way there takes a constant time (shift > 0)."""
    intended = at - group.shift
    if intended >= sim.end or intended >= group.stop or group.left == 0:
        group.next_ns = NEVER
        return
    for _ in range(group.batch):
        if group.left == 0:
            break
        if group.mode == dp.TRACE:
            choice = sim.trace[group.trace0 + group.trace_i][3] % group.slots
        else:
            choice = group.luck[dp.RNG_CONN].below(group.slots)
        slot = sim.slots[group.slot0 + choice]
        chain = draw_batch(sim, group, slot, intended)
        is_there = group.shift > 0 and slot.state == UP and slot.last_arrival <= at and not slot.unsent
        if is_there:
            leave_client(slot, chain, intended + group.send)
            assert slot.conn is not None
            arrive(sim, (slot.conn, chain), at)
            set_alarm(sim, slot, at)
        else:
            submit(sim, slot, chain, intended)
    next_arrival(sim, group)


def next_arrival(sim: Sim, group: Record) -> None:
    if group.mode == dp.TRACE:
        group.trace_i += 1
        if group.trace_i >= group.trace_n:
            group.trace_i = 0
            group.start += group.trace_span
            if not group.trace_loop:
                group.left = 0
        group.next_ns = group.start + sim.trace[group.trace0 + group.trace_i][0] + group.shift
        return
    gap = group.mean_ps
    if group.poisson:
        gap = int(group.luck[dp.RNG_ARRIVAL].exponential() * gap)
    group.next_ps += gap
    group.next_ns = group.next_ps // 1000 + group.shift


def first_gap(sim: Sim, group: Record, at: int) -> None:
    """From `at` on at the group's rate; bursts begin at once."""
    group.next_ps = at * 1000
    if group.mean_ps >= NEVER // 1000:
        group.next_ns = NEVER
    elif group.batch > 1:
        group.next_ns = at + group.shift
    else:
        next_arrival(sim, group)


def start_group(sim: Sim, group: Record, at: int) -> None:
    if group.mode == dp.OPEN:
        first_gap(sim, group, at)
    elif group.mode == dp.TRACE:
        group.next_ns = at + sim.trace[group.trace0][0] + group.shift
    else:
        for slot in sim.slots[group.slot0 : group.slot0 + group.slots]:
            sim.push(at, issue, slot)


def plan_first_events(sim: Sim, w: dp.World, crash: Callable[[Sim, int, int], None]) -> None:
    """What the build has planned: groups that start, rates that change, crashes."""
    planned = [w.fifo[(w.st[dp.FIFO_HEAD] + i) % len(w.fifo)] for i in range(w.st[dp.FIFO_N])] + list(w.heap[: w.st[dp.HEAP_N]])
    for at, _, what, arg in sorted([int(x) for x in row] for row in planned):
        if what == dp.EV_START:
            sim.push(at, start_group, sim.groups[arg])
        elif what == dp.EV_CRASH:
            sim.push(at, crash, arg)
        else:
            assert what == dp.EV_RATE, f"a build plans starts, rates and crashes, not event {what}"
            sim.push(at, change_rate, arg)


def change_rate(sim: Sim, row: int, at: int) -> None:
    g, mean_ps, stay, then = sim.rates[row]
    group = sim.groups[g]
    group.mean_ps = mean_ps
    first_gap(sim, group, at)
    if stay > 0:
        length = int(group.luck[dp.RNG_ARRIVAL].exponential() * stay)
        sim.push(at + max(length, 1), change_rate, then)


# ---- requests are sent ------------------------------------------------------------------------------------------


def set_alarm(sim: Sim, slot: Slot, not_before: int = 0) -> None:
    """The slot has one alarm, for its oldest request."""
    if slot.group.timeout > 0 and not slot.alarm_set:
        slot.alarm_set = True
        sim.push(max(not_before, deadline(slot)), alarm, slot)


def deadline(slot: Slot) -> int:
    return slot.outstanding[0].begin + int(slot.group.timeout)


def submit(sim: Sim, slot: Slot, chain: list[Request], at: int) -> None:
    """Send over the slot, connecting first if need be."""
    set_alarm(sim, slot)
    slot.unsent += chain
    if slot.state == UP:
        send_now(sim, slot, at)
    elif slot.state == DOWN:
        slot.state, slot.tries = CONNECTING, 0
        sim.push(at + slot.group.net, syn, slot)


def send_now(sim: Sim, slot: Slot, at: int) -> None:
    if slot.thread is not None:
        if not slot.writable:
            slot.writable = True
            sim.wake_for(slot.thread, slot.thread.writes, slot, at)
        return
    send(sim, slot, at + slot.group.send)


def send(sim: Sim, slot: Slot, at: int) -> list[Request]:
    """What waits in the slot leaves the client at `at`, less what the client has given up."""
    chain = [request for request in slot.unsent if request.wanted]
    slot.unsent = []
    if chain:
        sim.push(leave_client(slot, chain, at), arrive, (slot.conn, chain))
    return chain


def leave_client(slot: Slot, chain: list[Request], at: int) -> int:
    """When a chain that leaves at `at` is at the server: the link's bytes in order, then the way; never before an earlier one."""
    group = slot.group
    for request in chain:
        request.sent = at
    if group.ps_per_byte > 0:
        at = max(at, group.link_in) + sum(request.size for request in chain) * group.ps_per_byte // 1000
        group.link_in = at
    slot.last_arrival = max(at + group.net, slot.last_arrival)
    return slot.last_arrival


def arrive(sim: Sim, sent: tuple[Conn, list[Request]], at: int) -> None:
    """The chain is in the server's socket."""
    conn, chain = sent
    if conn.reset or not conn.live:
        if conn.reset and sim.dead != "host" and not conn.telling and not conn.eof and conn.slot is not None:
            conn.telling = True
            sim.push(at + conn.group.net, closed_by_server, conn)
        return
    for request in chain:
        request.arrived = at
        conn.socket += request.size
        sim.count.net_in += request.size
    conn.inbox.extend(chain)
    sim.waiting += len(chain)
    make_ready(sim, conn)


def make_ready(sim: Sim, conn: Conn) -> None:
    """The next poll will return the connection."""
    if conn.accepted and not conn.in_ring:
        conn.in_ring = True
        sim.ready.append(conn)


# ---- connections come and go --------------------------------------------------------------------------------------


def syn(sim: Sim, slot: Slot, at: int) -> None:
    """A connection request: into the accept queue, or lost if that is full, and sent again later."""
    if slot.state != CONNECTING or slot.conn is not None:
        return
    if sim.dead:
        knock(sim, slot, at)
        return
    if len(sim.accept_queue) > sim.cost[dp.BACKLOG]:
        sim.count.listen_drops += 1
        sim.push(at + sim.cost[dp.SYN_RETRY_NS] * 2 ** min(slot.tries, 5), syn, slot)
        slot.tries += 1
        return
    conn = open_conn(sim, slot, at)
    sim.accept_queue.append(conn)
    if not sim.listen_ready:
        sim.listen_ready = True
        sim.ready.append(None)
    sim.push(at + slot.group.net, connected, conn)


def knock(sim: Sim, slot: Slot, at: int) -> None:
    """Nobody listens, and the host says so; or it says nothing, and the SYN goes out again unless one is about to."""
    if sim.dead == "process":
        sim.push(at + slot.group.net, refused, slot)
    elif slot.knocks_at <= at:
        slot.knocks_at = at + sim.cost[dp.SYN_RETRY_NS] * 2 ** min(slot.tries, 5)
        slot.tries += 1
        sim.push(slot.knocks_at, syn, slot)


def refused(sim: Sim, slot: Slot, at: int) -> None:
    if slot.state == CONNECTING and slot.conn is None:
        lose(sim, slot, at)


def connected(sim: Sim, conn: Conn, at: int) -> None:
    slot = conn.slot
    if slot is None or slot.conn is not conn or slot.state != CONNECTING:
        return
    slot.state, slot.tries = UP, 0
    if slot.unsent:
        send_now(sim, slot, at)


def end_of_file(sim: Sim, conn: Conn, _at: int) -> None:
    """The client's FIN reaches the server."""
    conn.eof = True
    if not conn.reset:
        make_ready(sim, conn)
    elif not conn.telling:
        free_conn(sim, conn)


def lose(sim: Sim, slot: Slot, at: int) -> None:
    """The client's end closes; the FIN follows what was sent."""
    if slot.conn is not None:
        sim.push(max(at + slot.group.net, slot.last_arrival), end_of_file, slot.conn)
        slot.conn.slot = None
        slot.conn = None
    slot.state = DOWN
    for request in list(slot.outstanding):
        late = slot.group.timeout > 0 and request.begin + slot.group.timeout <= at
        fail(sim, request, at, connection_lost=not late)
    slot.unsent = []


def closed_by_server(sim: Sim, conn: Conn, at: int) -> None:
    """The client learns of it, if the connection is still its own."""
    conn.telling = False
    if conn.eof:
        free_conn(sim, conn)
    elif conn.slot is not None and conn.slot.conn is conn:
        lose(sim, conn.slot, at)


def alarm(sim: Sim, slot: Slot, at: int) -> None:
    """The oldest request of the slot may have waited too long."""
    slot.alarm_set = False
    if not slot.outstanding:
        return
    if deadline(slot) > at:
        set_alarm(sim, slot)
    elif slot.group.reconnect:
        lose(sim, slot, at)
    else:
        while slot.outstanding and deadline(slot) <= at:
            fail(sim, slot.outstanding[0], at, connection_lost=False)
        if slot.outstanding:
            set_alarm(sim, slot)


def fail(sim: Sim, request: Request, at: int, *, connection_lost: bool) -> None:
    """This attempt has failed: another one after a back-off, or none."""
    slot, group = request.slot, request.slot.group
    slot.outstanding.remove(request)
    request.wanted = False
    if connection_lost:
        group.err_conn += 1
    else:
        group.err_timeout += 1
    if request.attempt < group.retries:
        again = Request(slot, request.kind, request.key, request.value, request.size, request.intended, 0, request.attempt + 1)
        group.retried += 1
        sim.push(at + backoff_ns(group, request.attempt), retry, again)
        return
    group.failed += 1
    group.lat_sum += at - request.intended
    slot.out -= 1
    if group.mode == dp.CLOSED and slot.out == 0:
        again_at = think_until(group, at)
        sim.push(max(again_at, at + group.backoff) if connection_lost else again_at, issue, slot)


def backoff_ns(group: Record, attempt: int) -> int:
    """Doubles from attempt to attempt, up to the cap; all of it, any part of it, or its half and any part of the other."""
    full = min(int(group.cap), group.backoff * 2**attempt)
    luck = group.luck[dp.RNG_JITTER]
    if group.jitter == FULL_JITTER:
        return below_ns(luck, full + 1)
    if group.jitter == EQUAL_JITTER:
        return full // 2 + below_ns(luck, full // 2 + 1)
    return full


def retry(sim: Sim, request: Request, at: int) -> None:
    request.begin = at
    request.slot.outstanding.append(request)
    submit(sim, request.slot, [request], at)


# ---- answers ------------------------------------------------------------------------------------------------------


def think_until(group: Record, at: int) -> int:
    if group.think > 0 and group.think_exp:
        return at + int(group.luck[dp.RNG_ARRIVAL].exponential() * group.think)
    return int(at + group.think)
