"""One Redis server's event loop, as a state machine that stops when its world is about to change.

Mirrors ae.c:aeProcessEvents and server.c:beforeSleep of 7.0: poll; every ready client's read and its whole pipeline; due
timers; then all replies, last client first, at most 64 KiB each; reads of 16 KiB; fork-join I/O threads of 6.0-7.4.

    run(w, until):   POLL -> [SLEEP] -> FILE_EVENTS -> TIMERS* -> BEFORE_SLEEP -> EXEC_READ -> WRITES -> POLL
                     (* comes back to the control plane, which runs serverCron and sets the phase)

A run may end past `until`, as a long command would. A reply leaves only after its batch and the timers are done.
Differs: with I/O threads the first command's parsing is charged to the main thread.
Not modelled: AOF and replication steps of before_sleep, TLS, a client socket whose buffer is full.
"""

from redsim.dataplane.clients import admit, enqueue, free_conn, issue, make_ready, next_event_ns, ring_push
from redsim.dataplane.compile import compiled, entry, inlined
from redsim.dataplane.events import push
from redsim.dataplane.keyspace import run_command
from redsim.dataplane.layout import *
from redsim.dataplane.ledger import charge, hiccups, idle_hiccups, idle_until, segment, slowlog_push, stall
from redsim.dataplane.requests import complete, drop_server_interest, note_waiting, seal, think_until

IOBUF_BYTES = 16384  # server.h: PROTO_IOBUF_LEN
BIG_ARG_BYTES = 32768  # server.h: PROTO_MBULK_BIG_ARG
MAX_WRITE_BYTES = 65536  # server.h: NET_MAX_WRITES_PER_EVENT
BUSY_ROUNDS_MAX = 4  # networking.c: processEventsWhileBlocked
MS_NS = 1_000_000


@entry
def run(w: World, until):
    """Run whole iterations until `until` (REACHED), a due timer (TIMER) or a lack of rows (GROW)."""
    st = w.st
    while True:
        phase = st[PHASE]
        if phase == PH_POLL:
            if st[NOW] >= until:
                return REACHED
            if not poll(w):
                return GROW
        elif phase == PH_SLEEP:
            why = sleep(w, until)
            if why != NONE:
                return why
        elif phase == PH_AWAKE:
            if not awake(w):
                return GROW
        elif phase == PH_FILE_EVENTS:
            if not file_events(w):
                return GROW
        elif phase == PH_TIMERS:
            if st[NOW] >= st[CRON_DUE]:
                return TIMER
            st[PHASE] = PH_BEFORE_SLEEP
        elif phase == PH_BEFORE_SLEEP:
            before_sleep(w)
        elif phase == PH_EXEC_READ:
            if not execute_threaded_reads(w):
                return GROW
        elif phase == PH_WRITES:
            handle_clients_with_pending_writes(w)
        elif phase == PH_BUSY:
            if not busy_script(w):
                return GROW
        elif not poll_while_busy(w):
            return GROW


@inlined
def poll(w: World):
    """ae_epoll.c:aeApiPoll: every ready client in the order it became ready; with none, sleep."""
    st, cost = w.st, w.cost
    if not admit(w):
        return False
    st[ITER_T0] = st[NOW]
    fill_batch(w)
    n = st[BATCH_N]
    st[POLLS] += 1
    charge(w, POLL, cost[POLL_NS] + n * cost[POLL_EVENT_NS])
    if n > 0:
        st[BATCH_SUM] += n
        st[MAX_BATCH] = max(st[MAX_BATCH], n)
        st[PHASE] = PH_FILE_EVENTS
    else:
        late = max(st[CRON_DUE] - st[NOW], 0)
        st[POLL_DEADLINE] = st[NOW] + (late + MS_NS - 1) // MS_NS * MS_NS
        st[PHASE] = PH_SLEEP
    return True


@inlined
def fill_batch(w: World):
    """The batch is the whole ready ring, less those whose bytes an earlier read took along, those that are gone, and the
    client whose script is running (script.c protects it from its own events)."""
    st, conn = w.st, w.conn
    mask = w.ring.size - 1
    n = 0
    for i in range(st[RING_N]):
        c = w.ring[(st[RING_HEAD] + i) & mask]
        if c == NONE:
            st[LISTEN_READY] = 0
            w.batch[n] = c
            n += 1
        elif conn[c, C_FLAGS] & F_RING:
            conn[c, C_FLAGS] &= ~F_RING
            if st[BUSY] and c == st[SCRIPT_CONN]:
                continue
            if conn[c, C_SOCK] > 0 or conn[c, C_FLAGS] & (F_EOF | F_WANT_WRITE):
                w.batch[n] = c
                n += 1
    st[RING_HEAD] = (st[RING_HEAD] + st[RING_N]) & mask
    st[RING_N] = 0
    st[BATCH_N] = n
    st[BATCH_POS] = 0


@compiled
def sleep(w: World, until):
    """The loop sleeps in epoll_wait until a socket is ready or a timer is due. NONE: awake; else why run() must come back."""
    st, cost = w.st, w.cost
    while st[RING_N] == 0:
        t, _ = next_event_ns(w)
        if t > st[NOW]:
            if min(t, st[POLL_DEADLINE]) > until:
                idle_until(w, until)
                return REACHED
            idle_until(w, min(t, st[POLL_DEADLINE]))
            if st[NOW] == st[POLL_DEADLINE] and t > st[NOW]:
                break
        if not admit(w):
            return GROW
    st[SLEEPS] += 1
    st[SLEPT] = 1
    st[ITER_T0] = st[NOW]
    if cost[HICCUP_MEAN_NS] > 0:
        idle_hiccups(w)
    charge(w, WAKE, cost[WAKE_NS])
    st[PHASE] = PH_AWAKE
    return NONE


@compiled
def awake(w: World):
    """epoll_wait returns what has become ready by now."""
    st = w.st
    if not admit(w):
        return False
    fill_batch(w)
    charge(w, POLL, st[BATCH_N] * w.cost[POLL_EVENT_NS])
    st[PHASE] = PH_FILE_EVENTS
    return True


@inlined
def file_events(w: World):
    """Every ready client of the batch in turn: read, execute its whole pipeline, then go on writing what it is owed."""
    st, cost, conn = w.st, w.cost, w.conn
    while st[BATCH_POS] < st[BATCH_N]:
        if cost[HICCUP_MEAN_NS] > 0 and st[NEXT_HICCUP] <= st[NOW]:
            hiccups(w)
        if not admit(w):
            return False
        c = w.batch[st[BATCH_POS]]
        st[BATCH_POS] += 1
        if c == NONE:
            accept_clients(w)
            continue
        if conn[c, C_SOCK] > 0 or conn[c, C_FLAGS] & F_EOF:
            if st[IO_ACTIVE] and cost[IO_DO_READS] and not st[BUSY] and conn[c, C_SOCK] > 0:
                w.tread[st[TREAD_N]] = c
                st[TREAD_N] += 1
            else:
                read_query_from_client(w, c, NONE)
                if st[PHASE] == PH_BUSY and not st[BUSY]:
                    begin_busy(w, PH_TIMERS)
                    return True
        if conn[c, C_LIVE] and conn[c, C_FLAGS] & F_WANT_WRITE:
            write_to_client(w, c)
            if conn[c, C_FLAGS] & F_WANT_WRITE or conn[c, C_SOCK] > 0:
                make_ready(w, c)
    if not st[BUSY]:
        st[PHASE] = PH_TIMERS
    else:
        st[PHASE] = PH_WRITES if st[BUSY_ROUNDS] > 0 else PH_BUSY
    return True


@compiled
def read_query_from_client(w: World, c, planned):
    """networking.c:readQueryFromClient: one read, then every complete command in the buffer. `planned` >= 0: an I/O
    thread has read that many bytes already."""
    st, cost, conn = w.st, w.cost, w.conn
    avail = conn[c, C_SOCK]
    if avail == 0:
        charge(w, READ, cost[CLOSE_NS])
        st[CLIENTS] -= 1
        free_conn(w, c)
        return
    start = st[NOW]
    size = planned if planned >= 0 else min(avail, read_size(w, c))
    conn[c, C_SOCK] = avail - size
    conn[c, C_QB] += size
    conn[c, C_LAST] = start
    st[READS] += 1
    ns = cost[READ_NS] + size * cost[READ_PS] // 1000
    if planned < 0:
        charge(w, READ, ns)
    else:
        st[TREADS] += 1
    own_read(w, c, ns)
    process_input_buffer(w, c)
    if conn[c, C_SOCK] > 0 or conn[c, C_FLAGS] & F_EOF:
        make_ready(w, c)
    if st[REC_ON]:
        segment(w, READ, start, start + (ns if planned < 0 else 0), c)


@inlined
def read_size(w: World, c):
    """How much one read asks for: 16 KiB into a fresh buffer, what fits into one that has grown, a big argument whole."""
    conn = w.conn
    head = conn[c, C_HEAD]
    qb, alloc = conn[c, C_QB], conn[c, C_ALLOC]
    if w.req[head, R_BYTES] - qb >= BIG_ARG_BYTES and qb > 0:
        return w.req[head, R_BYTES] - qb
    if alloc < IOBUF_BYTES:
        conn[c, C_ALLOC] = w.cost[QB_ALLOC]
        return IOBUF_BYTES
    if alloc - qb < IOBUF_BYTES:
        alloc = 2 * (qb + IOBUF_BYTES)
        conn[c, C_ALLOC] = alloc
    return alloc - qb


@inlined
def own_read(w: World, c, ns):
    """The read that brought a request's bytes is its own service, not waiting."""
    req = w.req
    r = w.conn[c, C_HEAD]
    left = w.conn[c, C_QB]
    while r != NONE and left > 0:
        req[r, R_OWN_READ] += ns
        left -= req[r, R_BYTES]
        r = req[r, R_NEXT]


@inlined
def process_input_buffer(w: World, c):
    """networking.c:processInputBuffer: complete commands back to back; stops at a script that has become busy."""
    conn, req = w.conn, w.req
    while True:
        r = conn[c, C_HEAD]
        if r == NONE or req[r, R_BYTES] > conn[c, C_QB]:
            return
        conn[c, C_QB] -= req[r, R_BYTES]
        conn[c, C_HEAD] = req[r, R_NEXT]
        if conn[c, C_HEAD] == NONE:
            conn[c, C_TAIL] = NONE
        call(w, c, r)
        if w.st[PHASE] == PH_BUSY and not w.st[BUSY]:
            return


@inlined
def call(w: World, c, r):
    """server.c:call and what surrounds it: parse, checks, the command's own function, the reply into the client's buffer."""
    st, cost, req, kind = w.st, w.cost, w.req, w.kind
    k = req[r, R_KIND]
    cause = kind[k, K_CAUSE]
    st[WAITING] -= 1
    st[COMMANDS] += 1
    start = st[NOW]
    around = cost[CALL_NS] + kind[k, K_ARGC] * cost[PARSE_NS] + req[r, R_BYTES] * cost[PARSE_PS] // 1000
    if st[BUSY]:
        around += cost[BUSY_REPLY_NS]
        ns, reply = 0, 105
        req[r, R_FLAGS] |= Z_BUSY
        kind[k, K_ERRORS] += 1
    else:
        ns, reply = run_command(w, r)
        kind[k, K_CALLS] += 1
        kind[k, K_USEC_NS] += ns
        if ns > cost[BUSY_NS] and kind[k, K_OP] == OP_SCRIPT:
            st[SCRIPT_LEFT] = ns - cost[BUSY_NS]
            st[SCRIPT_REQ], st[SCRIPT_CONN], st[SCRIPT_FROM] = r, c, start + around
            st[PHASE] = PH_BUSY
            ns = cost[BUSY_NS]
    charge(w, cause, around + ns)
    req[r, R_OWN_EXEC] = around + ns
    req[r, R_REPLY] = reply
    if st[REC_ON]:
        segment(w, cause, start, st[NOW], c)
    if ns >= cost[STALL_NS]:
        stall(w, cause, start, k, req[r, R_KEY])
    if st[PHASE] == PH_BUSY and not st[BUSY]:
        return
    if ns >= cost[SLOW_NS] and not st[BUSY]:
        slowlog_push(w, r, start, ns)
    add_reply(w, c, r)


@inlined
def add_reply(w: World, c, r):
    """networking.c:addReply: the first pending byte puts the client at the head of the pending-write list."""
    conn, req, st = w.conn, w.req, w.st
    req[r, R_NEXT] = NONE
    if conn[c, C_RTAIL] == NONE:
        conn[c, C_RHEAD] = r
    else:
        req[conn[c, C_RTAIL], R_NEXT] = r
    conn[c, C_RTAIL] = r
    conn[c, C_OUT] += req[r, R_REPLY]
    flags = conn[c, C_FLAGS]
    if not flags & (F_PENDING | F_WANT_WRITE):
        conn[c, C_FLAGS] = flags | F_PENDING
        w.pending[st[PENDING_N]] = c
        st[PENDING_N] += 1


@compiled
def accept_clients(w: World):
    """socket.c:connSocketAcceptHandler: up to 1000 connections for one event of the listening socket."""
    st, cost, conn = w.st, w.cost, w.conn
    start = st[NOW]
    left = cost[ACCEPTS_PER_CALL]
    while st[ACCEPT_HEAD] != NONE and left > 0:
        left -= 1
        c = st[ACCEPT_HEAD]
        st[ACCEPT_HEAD] = conn[c, C_NEXT]
        if st[ACCEPT_HEAD] == NONE:
            st[ACCEPT_TAIL] = NONE
        st[ACCEPT_N] -= 1
        charge(w, ACCEPT, cost[ACCEPT_NS])
        if st[CLIENTS] >= cost[MAXCLIENTS]:
            st[REJECTED] += 1
            close_by_server(w, c)
            continue
        st[CLIENTS] += 1
        st[ACCEPTED] += 1
        conn[c, C_FLAGS] |= F_ACCEPTED
        if conn[c, C_SOCK] > 0 or conn[c, C_FLAGS] & F_EOF:
            make_ready(w, c)
    if st[ACCEPT_HEAD] != NONE:
        st[LISTEN_READY] = 1
        ring_push(w, NONE)
    if st[REC_ON]:
        segment(w, ACCEPT, start, st[NOW], NONE)


@compiled
def close_by_server(w: World, c):
    """The server closes connection `c`; its client hears of it one way later, and the row goes when the client has."""
    conn = w.conn
    if conn[c, C_FLAGS] & F_EOF:
        free_conn(w, c)
        return
    conn[c, C_FLAGS] = F_RESET
    if conn[c, C_SLOT] != NONE:
        push(w, w.st[NOW] + w.group[conn[c, C_GROUP], G_NET], EV_CLOSED, c)


# ---- a script past busy-reply-threshold ------------------------------------------------------------------------


@compiled
def begin_busy(w: World, back):
    """script.c: the threshold is over; the rest of the batch will be polled again by processEventsWhileBlocked. The loop
    goes on with phase `back` after the script."""
    st = w.st
    st[BUSY] = 1
    st[SCRIPT_BACK] = back
    for i in range(st[BATCH_POS], st[BATCH_N]):
        c = w.batch[i]
        if c == NONE:
            st[LISTEN_READY] = 1
            ring_push(w, NONE)
        else:
            make_ready(w, c)
    st[BATCH_N] = 0
    st[BATCH_POS] = 0


@compiled
def busy_script(w: World):
    """The script runs on to its next hook, where everybody ready will be read and answered -BUSY."""
    st, cost, req = w.st, w.cost, w.req
    r, c = st[SCRIPT_REQ], st[SCRIPT_CONN]
    cause = w.kind[req[r, R_KIND], K_CAUSE]
    if not admit(w):
        return False
    if st[SCRIPT_LEFT] == 0:
        end_script(w, c, r)
        return True
    step = min(cost[HOOK_NS], st[SCRIPT_LEFT])
    start = st[NOW]
    charge(w, cause, step)
    req[r, R_OWN_EXEC] += step
    st[SCRIPT_LEFT] -= step
    if st[REC_ON]:
        segment(w, cause, start, st[NOW], c)
    st[BUSY_ROUNDS] = BUSY_ROUNDS_MAX
    st[PHASE] = PH_WRITES
    return True


@compiled
def end_script(w: World, c, r):
    """The script is done: its reply, then whatever its client sent meanwhile. SLOWLOG counts the time from its start."""
    st, conn = w.st, w.conn
    st[BUSY] = 0
    st[PHASE] = st[SCRIPT_BACK]
    ns = st[NOW] - st[SCRIPT_FROM]
    if ns >= w.cost[SLOW_NS]:
        slowlog_push(w, r, st[SCRIPT_FROM], ns)
    add_reply(w, c, r)
    process_input_buffer(w, c)
    if conn[c, C_SOCK] > 0 or conn[c, C_FLAGS] & (F_EOF | F_WANT_WRITE):
        make_ready(w, c)
    if st[PHASE] == PH_BUSY:
        begin_busy(w, st[SCRIPT_BACK])


@compiled
def poll_while_busy(w: World):
    """networking.c:processEventsWhileBlocked: a poll that does not wait, after the replies; up to four rounds while there is
    something to do."""
    st, cost = w.st, w.cost
    if not admit(w):
        return False
    fill_batch(w)
    charge(w, POLL, cost[POLL_NS] + st[BATCH_N] * cost[POLL_EVENT_NS])
    st[BUSY_ROUNDS] = st[BUSY_ROUNDS] - 1 if st[BATCH_N] + st[WROTE] > 0 else 0
    st[PHASE] = PH_FILE_EVENTS
    return True


# ---- before_sleep ------------------------------------------------------------------------------------------------


@compiled
def before_sleep(w: World):
    """server.c:beforeSleep. The order is the model: threaded reads, (fast expire, AOF: later capabilities), all replies."""
    st = w.st
    if st[TREAD_N] > 0:
        threaded_reads(w)
        st[BATCH_POS] = 0
        st[PHASE] = PH_EXEC_READ
    else:
        st[PHASE] = PH_WRITES


@compiled
def threaded_reads(w: World):
    """networking.c:handleClientsWithPendingReadsUsingThreads: clients dealt round robin, the last queued first, all
    threads joined."""
    st, cost, conn = w.st, w.cost, w.conn
    lanes = w.lanes
    lanes[:] = 0
    keep_open_reversed(w)
    if st[TREAD_N] == 0:
        return
    for i in range(st[TREAD_N]):
        c = w.tread[i]
        size = min(conn[c, C_SOCK], read_size(w, c))
        conn[c, C_PLANNED] = size
        lanes[(i % cost[IO_THREADS]) % cost[IO_LANES]] += cost[READ_NS] + size * cost[READ_PS] // 1000
    longest = 0
    for lane in range(lanes.size):
        longest = max(longest, lanes[lane])
    charge(w, IO, cost[FORKJOIN_NS])
    charge(w, READ, longest)
    st[IO_ACTIVE_NS] += longest + cost[FORKJOIN_NS]


@compiled
def keep_open_reversed(w: World):
    """The list of deferred reads, newest first, without clients that serverCron has closed meanwhile."""
    st, tread = w.st, w.tread
    n = 0
    for i in range(st[TREAD_N]):
        if not w.conn[tread[i], C_FLAGS] & F_RESET:
            tread[n] = tread[i]
            n += 1
    st[TREAD_N] = n
    for i in range(n // 2):
        tread[i], tread[n - 1 - i] = tread[n - 1 - i], tread[i]


@compiled
def execute_threaded_reads(w: World):
    """After the join the main thread executes each client's commands, one client after the other."""
    st, conn = w.st, w.conn
    while st[BATCH_POS] < st[TREAD_N]:
        if not admit(w):
            return False
        c = w.tread[st[BATCH_POS]]
        st[BATCH_POS] += 1
        read_query_from_client(w, c, conn[c, C_PLANNED])
        if st[PHASE] == PH_BUSY and not st[BUSY]:
            for i in range(st[BATCH_POS], st[TREAD_N]):
                make_ready(w, w.tread[i])
            st[TREAD_N] = 0
            st[BATCH_POS] = 0
            begin_busy(w, PH_WRITES)
            return True
    st[TREAD_N] = 0
    st[PHASE] = PH_WRITES
    return True


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
    lanes[:] = 0
    charge(w, IO, cost[FORKJOIN_NS])
    t0, held0 = st[NOW], held[WRITE]
    for i in range(st[PENDING_N]):
        c = w.pending[st[PENDING_N] - 1 - i]
        conn[c, C_FLAGS] &= ~F_PENDING
        if not conn[c, C_LIVE] or conn[c, C_OUT] == 0:
            continue
        lane = (i % cost[IO_THREADS]) % cost[IO_LANES]
        size = min(conn[c, C_OUT], MAX_WRITE_BYTES)
        ns = cost[WRITE_NS] + size * cost[WRITE_PS] // 1000
        lanes[lane] += ns
        st[NOW] = t0 + lanes[lane]
        held[WRITE] = held0 + lanes[lane]
        st[TWRITES] += 1
        sent_to_client(w, c, size, ns)
        if conn[c, C_FLAGS] & F_WANT_WRITE:
            make_ready(w, c)
    st[NOW] = t0
    held[WRITE] = held0
    longest = 0
    for lane in range(lanes.size):
        longest = max(longest, lanes[lane])
    charge(w, WRITE, longest)
    st[IO_ACTIVE_NS] += longest + cost[FORKJOIN_NS]
    st[PENDING_N] = 0


@inlined
def write_to_client(w: World, c):
    """networking.c:writeToClient: one write of at most 64 KiB."""
    cost = w.cost
    size = min(w.conn[c, C_OUT], MAX_WRITE_BYTES)
    ns = cost[WRITE_NS] + size * cost[WRITE_PS] // 1000 + wake_peer(w, c)
    charge(w, WRITE, ns)
    sent_to_client(w, c, size, ns)


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


@compiled
def sent_to_client(w: World, c, size, ns):
    """`size` bytes left in a write that took `ns` and ends now: the replies that are whole are answered."""
    st, conn, req = w.st, w.conn, w.req
    st[WRITES] += 1
    st[NET_OUT] += size
    conn[c, C_OUT] -= size
    conn[c, C_LAST] = st[NOW]
    left = size
    while left > 0:
        r = conn[c, C_RHEAD]
        req[r, R_OWN_WRITE] += ns
        part = min(left, req[r, R_REPLY] - conn[c, C_SENT])
        left -= part
        over_link(w, c, part)
        if conn[c, C_SENT] + part < req[r, R_REPLY]:
            conn[c, C_SENT] += part
            break
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
    if w.group[g, G_PS_PER_BYTE] > 0 and w.conn[c, C_SLOT] != NONE:
        w.group[g, G_LINK_OUT] = max(w.st[NOW], w.group[g, G_LINK_OUT]) + size * w.group[g, G_PS_PER_BYTE] // 1000


@inlined
def answer(w: World, c, r):
    """The last byte of the reply to `r` left now."""
    st, req, group, slot = w.st, w.req, w.group, w.slot
    if st[REC_ON]:
        note_waiting(w, r, st[NOW])
    s = req[r, R_SLOT]
    if not req[r, R_FLAGS] & Z_LIVE or conn_of(w, s) != c:
        drop_server_interest(w, r)
        return
    g = slot[s, S_GROUP]
    req[r, R_LEFT] = st[NOW]
    deliver = group[g, G_NET] + (group[g, G_LINK_OUT] if group[g, G_PS_PER_BYTE] > 0 else st[NOW])
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
        issue_later(w, g, s, done)


@inlined
def conn_of(w: World, s):
    """The connection slot `s` uses now."""
    return w.slot[s, S_CONN]


@inlined
def issue_later(w: World, g, s, done):
    """A closed-loop client has all its answers at `done`."""
    issue(w, g, s, think_until(w, g, done))


# ---- what the control plane does inside serverCron -------------------------------------------------------------


@entry
def hold(w: World, cause, ns):
    """The control plane holds the loop for `ns` (serverCron's jobs); in the ledger if long enough."""
    start = w.st[NOW]
    charge(w, cause, ns)
    if ns >= w.cost[STALL_NS]:
        stall(w, cause, start, NONE, NONE)
    if w.st[REC_ON]:
        segment(w, cause, start, w.st[NOW], NONE)


@entry
def clients_cron(w: World, cursor, visits, idle_ns):
    """server.c:clientsCron over `visits` connections from row `cursor`: shrink query buffers idle for 2 s, close clients
    idle for `idle_ns` (0: never). Returns the next cursor."""
    st, conn = w.st, w.conn
    rows = conn.shape[0]
    seen = 0
    for _ in range(rows):
        if seen >= visits:
            break
        c = cursor
        cursor = cursor + 1 if cursor + 1 < rows else 0
        flags = conn[c, C_FLAGS]
        if not conn[c, C_LIVE] or not flags & F_ACCEPTED or flags & F_RESET:
            continue
        seen += 1
        idle = st[NOW] - conn[c, C_LAST]
        if idle > 2_000_000_000 and conn[c, C_QB] == 0:
            conn[c, C_ALLOC] = 0
        if idle_ns > 0 and idle > idle_ns and conn[c, C_OUT] == 0 and not flags & (F_RING | F_EOF):
            charge(w, CRON, w.cost[CLOSE_NS])
            st[CLIENTS] -= 1
            st[CLOSED_IDLE] += 1
            close_by_server(w, c)
    return cursor


@entry
def buffers(w: World):
    """(query buffer bytes, output buffer bytes) over all connections."""
    query, output = 0, 0
    for c in range(w.conn.shape[0]):
        if w.conn[c, C_LIVE]:
            query += w.conn[c, C_ALLOC]
            output += w.conn[c, C_OUT]
    return query, output


@entry
def live_requests(w: World):
    """w.live: count, and sum of END - intended, of the requests whose clients still wait, by group."""
    w.live[:] = 0
    for r in range(w.req.shape[0]):
        if w.req[r, R_FLAGS] & Z_LIVE:
            g = w.slot[w.req[r, R_SLOT], S_GROUP]
            w.live[g, 0] += 1
            w.live[g, 1] += w.st[END] - w.req[r, R_INTENDED]
