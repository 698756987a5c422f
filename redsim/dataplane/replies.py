"""All replies before the next poll, and what becomes of an answer.

Mirrors networking.c: handleClientsWithPendingWrites (last client first, at most 64 KiB a client and iteration) and its fork-join
version of 6.0-7.4.
Not modelled: a client socket whose buffer is full, output buffer limits.
"""

from redsim.dataplane.clients import issue, make_ready
from redsim.dataplane.compile import compiled, inlined
from redsim.dataplane.layout import *
from redsim.dataplane.ledger import bytes_ns, charge, frame_bytes, hiccups, pass_time, segment, serve
from redsim.dataplane.memory import owe_less
from redsim.dataplane.replication import write_to_replica
from redsim.dataplane.requests import complete, drop_server_interest, note_waiting, seal, think_until
from redsim.dataplane.station import enqueue

MAX_WRITE_BYTES = 65536  # server.h: NET_MAX_WRITES_PER_EVENT


@inlined
def handle_clients_with_pending_writes(w: World):
    """networking.c: all replies, last client first; with I/O threads if at least 2 * io-threads clients wait."""
    st, cost, conn = w.st, w.cost, w.conn
    start = st[NOW]
    if cost[IO_THREADS] > 1 and not st[BUSY]:
        st[IO_ACTIVE] = 1 if st[PENDING_N] >= 2 * cost[IO_THREADS] else 0
    if st[IO_ACTIVE] and not st[BUSY]:
        threaded_writes(w)
    kept = NONE
    st[WROTE] = st[PENDING_N]
    while st[PENDING_N] > 0:
        st[PENDING_N] -= 1
        c = w.pending[st[PENDING_N]]
        if c < NONE:
            write_to_replica(w, (NONE - 1 - c) >> 1)
            continue
        if st[BUSY] and c == st[SCRIPT_CONN]:
            kept = c
            continue
        conn[c, C_FLAGS] &= ~F_PENDING
        if cost[HICCUP_MEAN_NS] > 0 and st[NEXT_HICCUP] <= st[NOW]:
            hiccups(w)
        if conn[c, C_LIVE] and conn[c, C_OUT] > 0:
            write_to_client(w, c)
            if conn[c, C_FLAGS] & F_WANT_WRITE:
                make_ready(w, c)
    if st[REC_ON] and st[NOW] > start:
        segment(w, WRITE, start, st[NOW], NONE)
    if kept != NONE:
        w.pending[0] = kept
        st[PENDING_N] = 1
        st[WROTE] -= 1
    st[PHASE] = PH_BUSY_POLL if st[BUSY] else PH_POLL


@compiled
def threaded_writes(w: World):
    """networking.c:handleClientsWithPendingWritesUsingThreads: dealt round robin, written in parallel, all joined."""
    st, cost, conn, held = w.st, w.cost, w.conn, w.held
    lanes = w.lanes
    for lane in range(lanes.shape[0]):
        lanes[lane] = 0
    for i in range(st[PENDING_N]):
        c = w.pending[st[PENDING_N] - 1 - i]
        if c < NONE:
            write_to_replica(w, (NONE - 1 - c) >> 1)  # the main thread's
    charge(w, IO, cost[FORKJOIN_NS])
    t0, held0 = st[NOW], held[WRITE]
    for i in range(st[PENDING_N]):
        c = w.pending[st[PENDING_N] - 1 - i]
        if c < NONE:
            continue
        conn[c, C_FLAGS] &= ~F_PENDING
        if not conn[c, C_LIVE] or conn[c, C_OUT] == 0:
            continue
        lane = (i % cost[IO_THREADS]) % cost[IO_LANES]
        size = min(conn[c, C_OUT], MAX_WRITE_BYTES)
        ns = cost[WRITE_NS] + bytes_ns(size, cost[WRITE_PS])
        held[WRITE] = held0 + lanes[lane]
        lanes[lane] += ns
        st[NOW] = t0 + lanes[lane]
        st[TWRITES] += 1
        sent_to_client(w, c, size, ns)
        if conn[c, C_FLAGS] & F_WANT_WRITE:
            make_ready(w, c)
    st[NOW] = t0
    held[WRITE] = held0
    longest = 0
    for lane in range(lanes.shape[0]):
        longest = max(longest, lanes[lane])
    charge(w, WRITE, longest)
    st[IO_ACTIVE_NS] += longest + cost[FORKJOIN_NS]
    st[PENDING_N] = 0


@inlined
def write_to_client(w: World, c):
    """networking.c:writeToClient: one write of at most 64 KiB."""
    cost = w.cost
    size = min(w.conn[c, C_OUT], MAX_WRITE_BYTES)
    ns = cost[WRITE_NS] + bytes_ns(size, cost[WRITE_PS]) + wake_peer(w, c)
    pass_time(w, WRITE, ns)
    sent_to_client(w, c, size, ns)
    w.held[WRITE] += ns


@inlined
def wake_peer(w: World, c):
    """A client thread on this host that sleeps is woken by the write, at the writer's expense."""
    s = w.conn[c, C_SLOT]
    if s == NONE:
        return 0
    th = w.slot[s, S_THREAD]
    if th < 0 or not w.group[w.slot[s, S_GROUP], G_LOCAL]:
        return 0
    if w.thread[th, T_SPIN] or w.thread[th, T_SCHEDULED] or w.thread[th, T_FREE] > w.st[NOW]:
        return 0
    return w.cost[WAKE_PEER_NS]


@inlined
def sent_to_client(w: World, c, size, ns):
    """`size` bytes left in a write that took `ns` and ends now: the replies that are whole are answered. `held` does not have the
    write yet: it is their own service (and a row that has just been written to in part is read slowly as a whole)."""
    st, conn, req = w.st, w.conn, w.req
    st[WRITES] += 1
    st[NET_OUT] += size
    before = conn[c, C_OUT]
    conn[c, C_OUT] = before - size
    if before > conn[c, C_RBUF]:
        owe_less(w, c, before)
    conn[c, C_LAST] = st[NOW]
    left = size
    while left > 0:
        r = conn[c, C_RHEAD]
        part = min(left, req[r, R_REPLY] - conn[c, C_SENT])
        left -= part
        over_link(w, c, part)
        if conn[c, C_SENT] + part < req[r, R_REPLY]:
            serve(w, r, WRITE, ns)
            conn[c, C_SENT] += part
            break
        req[r, R_OWN] += ns
        conn[c, C_SENT] = 0
        conn[c, C_RHEAD] = req[r, R_NEXT]
        answer(w, c, r)
    if conn[c, C_RHEAD] == NONE:
        conn[c, C_RTAIL] = NONE
    if conn[c, C_OUT] > 0:
        conn[c, C_FLAGS] |= F_WANT_WRITE
    else:
        conn[c, C_FLAGS] &= ~F_WANT_WRITE


@inlined
def over_link(w: World, c, size):
    """`size` bytes written now go over the client's link, behind what is on it."""
    g = w.conn[c, C_GROUP]
    if w.cost[NIC_PS] > 0:
        w.st[NIC_OUT] = max(w.st[NOW], w.st[NIC_OUT]) + bytes_ns(frame_bytes(size), w.cost[NIC_PS])
    if w.group[g, G_PS_PER_BYTE] > 0 and w.conn[c, C_SLOT] != NONE:
        w.group[g, G_LINK_OUT] = max(w.st[NOW], w.group[g, G_LINK_OUT]) + bytes_ns(size, w.group[g, G_PS_PER_BYTE])


@inlined
def answer(w: World, c, r):
    """The last byte of the reply to `r` left now."""
    st, req, group, slot = w.st, w.req, w.group, w.slot
    if st[REC_ON]:
        note_waiting(w, r, st[NOW])
    s = req[r, R_SLOT]
    if not req[r, R_FLAGS] & Z_LIVE or slot[s, S_CONN] != c:
        drop_server_interest(w, r)
        return
    g = slot[s, S_GROUP]
    req[r, R_LEFT] = st[NOW]
    deliver = group[g, G_NET] + (group[g, G_LINK_OUT] if group[g, G_PS_PER_BYTE] > 0 else st[NOW])
    if w.cost[NIC_PS] > 0:
        deliver = max(deliver, group[g, G_NET] + st[NIC_OUT])
    req[r, R_DELIVER] = deliver
    req[r, R_FLAGS] |= Z_ANSWERED
    th = slot[s, S_THREAD]
    if th >= 0:
        seal(w, r)
        drop_server_interest(w, r)
        if not slot[s, S_RQ_IN]:
            enqueue(w, th, s, deliver, S_RQ_IN, S_RQ_NEXT, S_RQ_T, T_RHEAD, T_RTAIL)
        return
    done = deliver + group[g, G_RECV]
    gives_up = slot[s, S_HEAD] if group[g, G_RECONNECT] else r  # whose alarm ends the waiting for this answer
    late = group[g, G_TIMEOUT] > 0 and req[gives_up, R_BEGIN] + group[g, G_TIMEOUT] < done
    if late or done >= st[END]:
        drop_server_interest(w, r)
        return
    req[r, R_FLAGS] &= ~Z_SERVER
    complete(w, r, g, req[r, R_INTENDED], done)
    if group[g, G_MODE] == CLOSED and slot[s, S_OUT] == 0:
        issue(w, g, s, think_until(w, g, done))
