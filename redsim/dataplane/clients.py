"""The clients: arrivals, sending, connecting, waiting in vain, and the client machine's own event loop.

admit(w) lets everything happen that the outside world does up to the main thread's clock: open-loop arrivals and queued events in
time order. It stops (False) when rows run out, and may be called again after layout.grow().
Differs: a client behind an `ample` station learns of its answer without an event, at the moment it leaves the server.
Not modelled: socket buffers that fill, packet loss, TLS.
"""

from redsim.dataplane.compile import compiled, inlined
from redsim.dataplane.connections import free_conn, open_conn, ring_push
from redsim.dataplane.crash import crash, knock, lost_on_the_way
from redsim.dataplane.draws import below, exponential
from redsim.dataplane.events import NEVER, next_time, pop, push
from redsim.dataplane.layout import *
from redsim.dataplane.ledger import bytes_ns, frame_bytes, held_at
from redsim.dataplane.replication import pipe_is_readable
from redsim.dataplane.requests import (
    complete,
    drop_server_interest,
    link_to_slot,
    new_request,
    oldest_deadline,
    retry_or_fail,
    think_until,
)
from redsim.dataplane.station import enqueue, plan_step, ready_in_batch
from redsim.dataplane.wait import note_idle
from redsim.dataplane.wire import next_mail, take_mail

BENCHMARK_READ_BYTES = 16384  # hiredis.c:redisBufferRead, what redis-benchmark takes at most from one readable event


@inlined
def make_ready(w: World, c):
    """Put connection `c` in the ready ring once."""
    flags = w.conn[c, C_FLAGS]
    if flags & F_ACCEPTED and not flags & F_RING:
        w.conn[c, C_FLAGS] = flags | F_RING
        ring_push(w, c)


@inlined
def arrive(w: World, head, t):
    """The chain of requests from `head` reaches the server's socket at `t`."""
    st, req, conn = w.st, w.req, w.conn
    c = req[head, R_CONN]
    if conn[c, C_FLAGS] & F_RESET:
        lost_on_the_way(w, head, c, t)
        return
    if conn[c, C_TAIL] == NONE:
        conn[c, C_HEAD] = head
    else:
        req[conn[c, C_TAIL], R_NEXT] = head
    r = head
    size = 0
    while True:
        req[r, R_ARRIVE] = t
        size += req[r, R_BYTES]
        st[WAITING] += 1
        held_at(w, t, r)
        if req[r, R_NEXT] == NONE:
            break
        r = req[r, R_NEXT]
    if conn[c, C_BLOCKED]:
        note_idle(w, head)
    conn[c, C_TAIL] = r
    conn[c, C_SOCK] += size
    st[NET_IN] += size
    make_ready(w, c)


@inlined
def leave_client(w: World, g, s, head, t):
    """Arrival time of a chain that leaves the client at `t`: propagation, then the link's serialisation, in order."""
    group, req = w.group, w.req
    c = w.slot[s, S_CONN]
    r = head
    size = 0
    while r != NONE:
        req[r, R_SENT] = t
        req[r, R_CONN] = c
        req[r, R_FLAGS] = (req[r, R_FLAGS] | Z_SERVER) & ~Z_QUEUED
        size += req[r, R_BYTES]
        r = req[r, R_NEXT]
    at = t
    if group[g, G_PS_PER_BYTE] > 0:
        at = max(at, group[g, G_LINK_IN]) + bytes_ns(size, group[g, G_PS_PER_BYTE])
        group[g, G_LINK_IN] = at
    if w.cost[NIC_PS] > 0:
        at = max(at, w.st[NIC_IN]) + bytes_ns(frame_bytes(size), w.cost[NIC_PS])
        w.st[NIC_IN] = at
    at = max(at + group[g, G_NET], w.slot[s, S_LAST])
    w.slot[s, S_LAST] = at
    return at


@compiled
def send_now(w: World, g, s, t):
    """Slot `s` is up: what waits in it goes out at `t` (ample), or when its client thread gets round to it."""
    slot = w.slot
    if slot[s, S_THREAD] >= 0:
        if not slot[s, S_WQ_IN]:
            enqueue(w, slot[s, S_THREAD], s, t, S_WQ_IN, S_WQ_NEXT, S_WQ_T, T_WHEAD, T_WTAIL)
        return
    head = take_waiting(w, s)
    if head != NONE:
        push(w, leave_client(w, g, s, head, t + w.group[g, G_SEND]), EV_ARRIVE, head)


@compiled
def take_waiting(w: World, s):
    """The chain waiting in slot `s`, without those its client has given up."""
    req = w.req
    r = w.slot[s, S_WHEAD]
    head, tail = NONE, NONE
    while r != NONE:
        after = req[r, R_NEXT]
        if req[r, R_FLAGS] & Z_LIVE:
            req[r, R_NEXT] = NONE
            if head == NONE:
                head = r
            else:
                req[tail, R_NEXT] = r
            tail = r
        else:
            req[r, R_FLAGS] &= ~Z_QUEUED
            drop_server_interest(w, r)
        r = after
    w.slot[s, S_WHEAD] = NONE
    w.slot[s, S_WTAIL] = NONE
    return head


@compiled
def wait_in_slot(w: World, s, head, tail):
    """The chain head..tail waits in slot `s` until it can be sent."""
    req, slot = w.req, w.slot
    r = head
    while r != NONE:
        req[r, R_FLAGS] |= Z_QUEUED
        r = req[r, R_NEXT]
    if slot[s, S_WTAIL] == NONE:
        slot[s, S_WHEAD] = head
    else:
        req[slot[s, S_WTAIL], R_NEXT] = head
    slot[s, S_WTAIL] = tail


@compiled
def set_alarm(w: World, g, s, earliest):
    """An alarm, not before `earliest`, for the oldest request of slot `s`, if its group has a time-out and none is set."""
    if w.group[g, G_TIMEOUT] > 0 and not w.slot[s, S_TIMER]:
        w.slot[s, S_TIMER] = 1
        push(w, max(earliest, oldest_deadline(w, s, g)), EV_TIMEOUT, s)


@compiled
def submit(w: World, g, s, head, tail, t):
    """Send the chain at `t` over slot `s`, connecting first if need be; set the slot's alarm."""
    slot = w.slot
    set_alarm(w, g, s, 0)
    wait_in_slot(w, s, head, tail)
    if slot[s, S_STATE] == UP:
        send_now(w, g, s, t)
    elif slot[s, S_STATE] == DOWN:
        slot[s, S_STATE] = CONNECTING
        slot[s, S_TRIES] = 0
        push(w, t + w.group[g, G_NET], EV_SYN, s)


@inlined
def draw_batch(w: World, g, s, t):
    """(head, tail) of a pipeline of new requests for slot `s`, fewer if the group's total is nearly used up."""
    group, req = w.group, w.req
    n = group[g, G_PIPE]
    if group[g, G_LEFT] >= 0:
        n = min(n, group[g, G_LEFT])
        group[g, G_LEFT] -= n
    head, tail = NONE, NONE
    for i in range(n):
        r = new_request(w, g, s, t)
        if i == 0:
            head = r
        else:
            req[tail, R_NEXT] = r
        tail = r
    return head, tail


@inlined
def issue(w: World, g, s, t):
    """A closed-loop slot asks again at `t` (not before now)."""
    group, st = w.group, w.st
    if group[g, G_LEFT] == 0 or t >= st[END] or t >= group[g, G_STOP]:
        return
    head, tail = draw_batch(w, g, s, t)
    if w.slot[s, S_STATE] == UP and w.slot[s, S_THREAD] < 0 and group[g, G_TIMEOUT] == 0:
        push(w, leave_client(w, g, s, head, t + group[g, G_SEND]), EV_ARRIVE, head)
    else:
        submit(w, g, s, head, tail, t)


@inlined
def next_arrival(w: World, g):
    """Move open group `g` to its next arrival."""
    group = w.group
    if group[g, G_MODE] == TRACE:
        i = group[g, G_TRACE_I] + 1
        if i >= group[g, G_TRACE_N]:
            i = 0
            group[g, G_START] += group[g, G_TRACE_SPAN]
            if not group[g, G_TRACE_LOOP]:
                group[g, G_LEFT] = 0
        group[g, G_TRACE_I] = i
        group[g, G_NEXT_NS] = group[g, G_START] + w.trace[group[g, G_TRACE0] + i, 0] + group[g, G_SHIFT]
        return
    gap = group[g, G_MEAN_PS]
    if group[g, G_POISSON]:
        gap = int(exponential(w.rng, g * RNG_PER_GROUP + RNG_ARRIVAL) * gap)
    group[g, G_NEXT_PS] += gap
    group[g, G_NEXT_NS] = group[g, G_NEXT_PS] // 1000 + group[g, G_SHIFT]


@inlined
def open_arrival(w: World, g, t):
    """Requests of an open group at `t` (their arrival at the socket if the way there is constant, else their intention)."""
    group, slot = w.group, w.slot
    intended = t - group[g, G_SHIFT]
    if intended >= w.st[END] or intended >= group[g, G_STOP] or group[g, G_LEFT] == 0:
        group[g, G_NEXT_NS] = NEVER
        return
    for _ in range(group[g, G_BATCH]):
        if group[g, G_LEFT] == 0:
            break
        if group[g, G_MODE] == TRACE:
            s = group[g, G_SLOT0] + w.trace[group[g, G_TRACE0] + group[g, G_TRACE_I], 3] % group[g, G_SLOTS]
        else:
            s = group[g, G_SLOT0] + below(w.rng, g * RNG_PER_GROUP + RNG_CONN, group[g, G_SLOTS])
        head, tail = draw_batch(w, g, s, intended)
        if group[g, G_SHIFT] > 0 and slot[s, S_STATE] == UP and slot[s, S_LAST] <= t and slot[s, S_WHEAD] == NONE:
            leave_client(w, g, s, head, intended + group[g, G_SEND])
            arrive(w, head, t)
            set_alarm(w, g, s, t)
        else:
            submit(w, g, s, head, tail, intended)
    next_arrival(w, g)


@inlined
def plan_groups(w: World):
    """Which open group is the next to have an arrival, and when."""
    st = w.st
    st[GROUP_DUE] = NEVER
    for g in range(w.group.shape[0]):
        if w.group[g, G_NEXT_NS] < st[GROUP_DUE]:
            st[GROUP_DUE] = w.group[g, G_NEXT_NS]
            st[GROUP_NEXT] = g


@inlined
def admit(w: World):
    """Everything the clients do up to now. False: rows ran out; grow and call again."""
    if w.st[DUE] > w.st[NOW] and w.st[STALL_ROW] == NONE:
        return True
    return admit_due(w)


@compiled
def admit_due(w: World):
    """What is due is done in the order of time, arrivals of open groups first; but first what other servers have sent."""
    st = w.st
    now = st[NOW]
    if w.repl[M_LINKED]:
        take_mail(w, now)
    while True:
        t = next_time(w)
        group_first = st[GROUP_DUE] <= t
        if group_first:
            t = st[GROUP_DUE]
        if t > now:
            break
        free = st[REQ_FREE_N]
        if st[DEAD] and st[HEAP_N] + w.conn.shape[0] + 64 > w.heap.shape[0]:
            return False
        if free < w.cost[NEED] or st[CONN_FREE_N] < 2 or (w.cost[RETRYING] and 2 * free < w.req.shape[0]):
            return False
        if group_first:
            open_arrival(w, st[GROUP_NEXT], t)
            plan_groups(w)
        else:
            what, arg = pop(w)
            if what == EV_ARRIVE:
                arrive(w, arg, t)
            else:
                other_event(w, what, arg, t)
    st[DUE] = min(t, next_mail(w)) if w.repl[M_LINKED] else t
    st[LOG_N] = 0
    if st[STALL_ROW] != NONE:
        for row in range(st[STALL_ROW], min(st[STALLS], STALLS_MAX)):
            w.stalls[row, 4] = st[WAITING]
        st[STALL_ROW] = NONE
    return True


@compiled
def other_event(w: World, what, arg, t):
    """All events but arrivals."""
    slot = w.slot
    if what == EV_ISSUE:
        issue(w, slot[arg, S_GROUP], arg, t)
    elif what == EV_THREAD:
        client_thread(w, arg, t)
    elif what == EV_TIMEOUT:
        alarm(w, arg, t)
    elif what == EV_RETRY:
        s = w.req[arg, R_SLOT]
        w.req[arg, R_BEGIN] = t
        w.req[arg, R_FLAGS] = Z_LIVE
        link_to_slot(w, s, arg)
        submit(w, slot[s, S_GROUP], s, arg, arg, t)
    elif what == EV_SYN:
        syn(w, arg, t)
    elif what == EV_UP:
        connected(w, arg, t)
    elif what == EV_CLOSED:
        closed_by_server(w, arg, t)
    elif what == EV_START:
        start_group(w, arg, t)
        plan_groups(w)
    elif what == EV_RATE:
        change_rate(w, arg, t)
        plan_groups(w)
    elif what == EV_REFUSED:
        refused(w, arg, t)
    elif what == EV_CRASH:
        crash(w, arg, t)
    elif what == EV_PIPE:
        pipe_is_readable(w)
    elif what == EV_NOTHING:
        return
    else:
        w.conn[arg, C_FLAGS] |= F_EOF
        if not w.conn[arg, C_FLAGS] & F_RESET:
            make_ready(w, arg)
        elif not w.conn[arg, C_FLAGS] & F_TELLING:
            free_conn(w, arg)


@compiled
def alarm(w: World, s, t):
    """The oldest request of slot `s` may have timed out."""
    slot, group = w.slot, w.group
    g = slot[s, S_GROUP]
    slot[s, S_TIMER] = 0
    if slot[s, S_HEAD] == NONE:
        return
    if oldest_deadline(w, s, g) > t:
        set_alarm(w, g, s, 0)
        return
    if group[g, G_RECONNECT]:
        hang_up(w, s, t)
        return
    while slot[s, S_HEAD] != NONE and oldest_deadline(w, s, g) <= t:
        retry_or_fail(w, slot[s, S_HEAD], t, False)
    if slot[s, S_HEAD] != NONE:
        set_alarm(w, g, s, 0)


@compiled
def hang_up(w: World, s, t):
    """The client closes the connection: what was in it times out or loses its connection; the server still has the bytes."""
    slot = w.slot
    g = slot[s, S_GROUP]
    c = slot[s, S_CONN]
    if c != NONE:
        w.conn[c, C_SLOT] = NONE
        slot[s, S_CONN] = NONE
        push(w, max(t + w.group[g, G_NET], slot[s, S_LAST]), EV_EOF, c)
    slot[s, S_STATE] = DOWN
    fail_all(w, s, t)


@compiled
def fail_all(w: World, s, t):
    """Every request of slot `s` fails at `t`: those past their time as time-outs, the others as lost connections."""
    slot = w.slot
    g = slot[s, S_GROUP]
    head = slot[s, S_HEAD]
    slot[s, S_HEAD] = NONE
    slot[s, S_TAIL] = NONE
    while head != NONE:
        after = w.req[head, R_SNEXT]
        slot[s, S_HEAD] = head
        w.req[head, R_SNEXT] = NONE
        slot[s, S_TAIL] = head
        late = w.group[g, G_TIMEOUT] > 0 and w.req[head, R_BEGIN] + w.group[g, G_TIMEOUT] <= t
        retry_or_fail(w, head, t, not late)
        head = after
    take_waiting(w, s)


@compiled
def syn(w: World, s, t):
    """A connection request reaches the server: into the accept queue, or dropped if that is full and sent again later."""
    st, slot, conn = w.st, w.slot, w.conn
    if slot[s, S_STATE] != CONNECTING or slot[s, S_CONN] != NONE:
        return
    if st[DEAD]:
        knock(w, s, t)
        return
    g = slot[s, S_GROUP]
    if st[ACCEPT_N] > w.cost[BACKLOG]:
        st[LISTEN_DROPS] += 1
        push(w, t + (w.cost[SYN_RETRY_NS] << min(slot[s, S_TRIES], 5)), EV_SYN, s)
        slot[s, S_TRIES] += 1
        return
    c = open_conn(w, s, t)
    if st[ACCEPT_TAIL] == NONE:
        st[ACCEPT_HEAD] = c
    else:
        conn[st[ACCEPT_TAIL], C_NEXT] = c
    st[ACCEPT_TAIL] = c
    st[ACCEPT_N] += 1
    if not st[LISTEN_READY]:
        st[LISTEN_READY] = 1
        ring_push(w, NONE)
    push(w, t + w.group[g, G_NET], EV_UP, c)


@compiled
def refused(w: World, s, t):
    """The client of slot `s` learns that nobody listens: whatever it has for the server fails."""
    if w.slot[s, S_STATE] == CONNECTING and w.slot[s, S_CONN] == NONE:
        w.slot[s, S_STATE] = DOWN
        fail_all(w, s, t)


@compiled
def connected(w: World, c, t):
    """The handshake of connection `c` is over for its client, if that still wants it."""
    s = w.conn[c, C_SLOT]
    if s == NONE or w.slot[s, S_CONN] != c or w.slot[s, S_STATE] != CONNECTING:
        return
    w.slot[s, S_STATE] = UP
    w.slot[s, S_TRIES] = 0
    if w.slot[s, S_WHEAD] != NONE:
        send_now(w, w.slot[s, S_GROUP], s, t)


@compiled
def closed_by_server(w: World, c, t):
    """The client learns that the server has closed connection `c` (maxclients, timeout)."""
    s = w.conn[c, C_SLOT]
    g = w.conn[c, C_GROUP]
    w.conn[c, C_FLAGS] &= ~F_TELLING
    if w.conn[c, C_FLAGS] & F_EOF:
        free_conn(w, c)
    elif s != NONE and w.slot[s, S_CONN] == c:
        w.slot[s, S_CONN] = NONE
        w.slot[s, S_STATE] = DOWN
        w.conn[c, C_SLOT] = NONE
        push(w, max(t + w.group[g, G_NET], w.slot[s, S_LAST]), EV_EOF, c)
        fail_all(w, s, t)


# ---- the client machine ---------------------------------------------------------------------------------------


@compiled
def client_thread(w: World, th, t):
    """One step of a client machine's loop: poll if the last batch is used up, then one read or one write."""
    slot, thread = w.slot, w.thread
    if not thread[th, T_SCHEDULED] or thread[th, T_AT] != t:
        return
    start = t
    if thread[th, T_BATCH] == 0:
        start += thread[th, T_POLL]
        if thread[th, T_ASLEEP] and not thread[th, T_SPIN]:
            start += thread[th, T_WAKE]
        thread[th, T_BATCH] = ready_in_batch(w, th, t)
    thread[th, T_ASLEEP] = 0
    if thread[th, T_BATCH] > 0:
        thread[th, T_BATCH] -= 1
        rs, ws = thread[th, T_RHEAD], thread[th, T_WHEAD]
        if rs != NONE and (ws == NONE or slot[rs, S_RQ_T] <= slot[ws, S_WQ_T]):
            thread[th, T_RHEAD] = slot[rs, S_RQ_NEXT]
            if thread[th, T_RHEAD] == NONE:
                thread[th, T_RTAIL] = NONE
            slot[rs, S_RQ_IN] = 0
            end = thread_receives(w, th, rs, start)
        else:
            thread[th, T_WHEAD] = slot[ws, S_WQ_NEXT]
            if thread[th, T_WHEAD] == NONE:
                thread[th, T_WTAIL] = NONE
            slot[ws, S_WQ_IN] = 0
            end = thread_sends(w, th, ws, start)
    else:
        end = start
    thread[th, T_BUSY] += end - t
    thread[th, T_FREE] = end
    ready = NEVER
    if thread[th, T_RHEAD] != NONE:
        ready = slot[thread[th, T_RHEAD], S_RQ_T]
    if thread[th, T_WHEAD] != NONE:
        ready = min(ready, slot[thread[th, T_WHEAD], S_WQ_T])
    thread[th, T_SCHEDULED] = 0
    if ready < NEVER:
        thread[th, T_ASLEEP] = 1 if ready > end else 0
        plan_step(w, th, max(end, ready))


@compiled
def thread_sends(w: World, th, s, start):
    """The thread writes what waits in slot `s`; returns when it is done."""
    thread, req = w.thread, w.req
    g = w.slot[s, S_GROUP]
    head = take_waiting(w, s) if w.slot[s, S_STATE] == UP else NONE
    if head == NONE:
        return start
    end = start + thread[th, T_SEND]
    r = head
    while r != NONE:
        end += req[r, R_BYTES] * thread[th, T_SEND_PS] // 1000
        req[r, R_ISSUED] = start
        r = req[r, R_NEXT]
    push(w, leave_client(w, g, s, head, end), EV_ARRIVE, head)
    return end


@compiled
def thread_receives(w: World, th, s, start):
    """The thread reads the answers that have reached slot `s`; returns when it is done. One still on its way will make the
    socket readable again."""
    thread, slot, req, group = w.thread, w.slot, w.req, w.group
    g = slot[s, S_GROUP]
    benchmark = group[g, G_MEASURE] == 1
    end = start + thread[th, T_RECV]
    r = slot[s, S_HEAD]
    received = False
    size = 0
    while r != NONE and req[r, R_FLAGS] & Z_ANSWERED:
        if req[r, R_DELIVER] > start:
            enqueue(w, th, s, req[r, R_DELIVER], S_RQ_IN, S_RQ_NEXT, S_RQ_T, T_RHEAD, T_RTAIL)
            break
        after = req[r, R_SNEXT]
        size += req[r, R_REPLY]
        if benchmark and size > BENCHMARK_READ_BYTES:  # the reply goes on in another read
            end += thread[th, T_RECV] * ((size - 1) // BENCHMARK_READ_BYTES)
            size = (size - 1) % BENCHMARK_READ_BYTES + 1
        end += thread[th, T_EACH] + req[r, R_REPLY] * thread[th, T_RECV_PS] // 1000
        done = start if benchmark else end
        if done >= w.st[END]:
            break
        complete(w, r, g, req[r, R_ISSUED] if benchmark else req[r, R_INTENDED], done)
        received = True
        r = after
    if received and group[g, G_MODE] == CLOSED and slot[s, S_OUT] == 0:
        again = think_until(w, g, end)
        if again == end:
            issue(w, g, s, again)
        else:
            push(w, again, EV_ISSUE, s)
    return end


@compiled
def change_rate(w: World, row, t):
    """Open group rates[row, 0] goes on at another rate; with a mean stay, the next change is drawn (MMPP)."""
    g = w.rates[row, 0]
    w.group[g, G_MEAN_PS] = w.rates[row, 1]
    first_gap(w, g, t)
    if w.rates[row, 2] > 0:
        stay = int(exponential(w.rng, g * RNG_PER_GROUP + RNG_ARRIVAL) * w.rates[row, 2])
        push(w, t + max(stay, 1), EV_RATE, w.rates[row, 3])


@compiled
def first_gap(w: World, g, t):
    """The first arrival of an open group after `t`, or after its rate changed at `t`."""
    w.group[g, G_NEXT_PS] = t * 1000
    if w.group[g, G_MEAN_PS] >= NEVER // 1000 or w.group[g, G_AWAY]:
        w.group[g, G_NEXT_NS] = NEVER
    elif w.group[g, G_BATCH] > 1:
        w.group[g, G_NEXT_NS] = t + w.group[g, G_SHIFT]
    else:
        next_arrival(w, g)


@compiled
def start_group(w: World, g, t):
    """Group `g` begins at `t`, if it has its clients here."""
    if w.group[g, G_AWAY]:
        return
    if w.group[g, G_MODE] == OPEN:
        first_gap(w, g, t)
    elif w.group[g, G_MODE] == TRACE:
        w.group[g, G_NEXT_NS] = t + w.trace[w.group[g, G_TRACE0], 0] + w.group[g, G_SHIFT]
    else:
        for s in range(w.group[g, G_SLOT0], w.group[g, G_SLOT0] + w.group[g, G_SLOTS]):
            push(w, t, EV_ISSUE, s)
