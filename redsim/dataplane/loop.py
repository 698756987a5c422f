"""One Redis server's event loop, as a state machine that stops when its world is about to change.

Mirrors ae.c:aeProcessEvents and server.c:beforeSleep of 7.0: poll; every ready client's read and its whole pipeline; due
timers; then all replies (replies.py); reads of 16 KiB; scripts past busy-reply-threshold; loading; fork-join I/O threads of
6.0-7.4. A process dies between two of these steps (st[CRASH_AT], crash.py).

    run(w, until):   POLL -> [SLEEP] -> FILE_EVENTS -> TIMERS* -> BEFORE_SLEEP -> EXEC_READ -> WRITES -> POLL
                     (* comes back to the control plane, which runs serverCron and sets the phase)

A run may end past `until`, as a long command would. A reply leaves only after its batch and the timers are done.
Differs: with I/O threads the first command's parsing is charged to the main thread.
Not modelled: TLS, a client socket whose buffer is full.
"""

from redsim.dataplane.aof import MISCONF_REPLY_BYTES, flush_append_only_file, propagate
from redsim.dataplane.clients import admit, make_ready
from redsim.dataplane.compile import Plain, compiled, entry, inlined
from redsim.dataplane.connections import close_by_server, free_conn, ring_push
from redsim.dataplane.cow import RDB_MISCONF_REPLY_BYTES, pay, share_cpu
from redsim.dataplane.crash import refusal_bytes
from redsim.dataplane.draws import draw_size
from redsim.dataplane.expire import fast_expire_cycle
from redsim.dataplane.keyspace import run_command
from redsim.dataplane.layout import *
from redsim.dataplane.ledger import bytes_ns, charge, hiccups, idle_hiccups, idle_until, segment, serve, slowlog_push, stall
from redsim.dataplane.loading import BUSY_ROUNDS_MAX, idle_while_down, load_step
from redsim.dataplane.maxmemory import OOM_REPLY_BYTES, eviction_timer, make_room
from redsim.dataplane.memory import client_comes, first_call, owe_more, resize_query_buffer
from redsim.dataplane.replica import peer_event
from redsim.dataplane.replication import TRIM_BLOCKS_BEFORE_SLEEP, ask_to_write, trim
from redsim.dataplane.replies import handle_clients_with_pending_writes, write_to_client
from redsim.dataplane.roles import refuse_peer
from redsim.dataplane.wait import ask_for_acks, end_wait, must_wait, next_answered

IOBUF_BYTES = 16384  # server.h: PROTO_IOBUF_LEN
BIG_ARG_BYTES = 32768  # server.h: PROTO_MBULK_BIG_ARG
MS_NS = 1_000_000


def run(w: World, until: int) -> int:
    """Run whole iterations until `until` (REACHED), a due timer (TIMER), a lack of rows (GROW), a question (ASK)."""
    return int(iterate(Plain(w) if w.st[IS_PLAIN] else w, until))


@entry
def iterate(w: World, until):
    """run() for one flavour of World."""
    st = w.st
    while True:  # the phases stand in the order in which they mostly follow each other
        if st[NOW] >= st[CRASH_AT]:
            return REACHED
        if st[PHASE] == PH_POLL:
            if st[NOW] >= until:
                return REACHED
            if not poll(w):
                return GROW
        if st[PHASE] == PH_SLEEP:
            why = sleep(w, until)
            if why != NONE:
                return why
        if st[PHASE] == PH_AWAKE and not awake(w):
            return GROW
        if st[PHASE] == PH_FILE_EVENTS and not file_events(w):
            return GROW
        if st[PHASE] == PH_TIMERS:
            if st[NOW] >= st[CRASH_AT]:
                return REACHED
            if st[EVICT_ARMED]:
                eviction_timer(w)
            if st[NOW] >= st[CRON_DUE]:
                return TIMER
            st[PHASE] = PH_BEFORE_SLEEP
        if st[PHASE] == PH_BEFORE_SLEEP:
            before_sleep(w)
        if st[PHASE] == PH_EXEC_READ and not execute_threaded_reads(w):
            return GROW
        if st[PHASE] == PH_WRITES:
            if st[NOW] >= st[CRASH_AT]:
                return REACHED
            if (st[CAN_FORK] and w.child[CH_WANT]) or w.repl[M_WANT]:
                return ASK
            if st[BLOCKED_N]:
                unblock(w)
            if w.repl[M_LINKED] and w.repl[M_HISTLEN] > w.repl[M_BACKLOG]:
                trim(w, TRIM_BLOCKS_BEFORE_SLEEP)
            if w.aof[A_STAGE] == WANT_NONE and w.expiry[X_FAST_DUE] and not st[BUSY]:
                fast_expire_cycle(w)
            if st[CAN_FORK] and w.child[CH_STRETCH] and w.aof[A_STAGE] == WANT_NONE:
                share_cpu(w)
            if w.aof[A_FEED] and flush_append_only_file(w):
                return ASK
            if st[NOW] >= st[CRASH_AT]:
                return REACHED
            handle_clients_with_pending_writes(w)
        if st[PHASE] == PH_BUSY:
            if st[LOADING] and st[NOW] >= until:
                return REACHED
            if not (load_step(w) if st[LOADING] else busy_script(w)):
                return GROW
        if st[PHASE] == PH_BUSY_POLL and not poll_while_busy(w):
            return GROW
        if st[PHASE] == PH_DOWN:
            why = idle_while_down(w, until)
            if why != NONE:
                return why


@inlined
def poll(w: World):
    """ae_epoll.c:aeApiPoll: every ready client in the order it became ready; with none, sleep, unless keys are to go."""
    st, cost = w.st, w.cost
    if not admit(w):
        return False
    st[ITER_T0] = st[NOW]
    fill_batch(w)
    n = st[BATCH_N]
    st[POLLS] += 1
    charge(w, POLL, cost[POLL_NS] + n * cost[POLL_EVENT_NS])
    if n > 0 or st[EVICT_ARMED] or w.repl[M_MOVED]:
        w.repl[M_MOVED] = 0
        st[BATCH_SUM] += n
        st[MAX_BATCH] = max(st[MAX_BATCH], n)
        st[PHASE] = PH_FILE_EVENTS
    else:
        late = max(st[CRON_DUE] - st[NOW], 0)
        st[POLL_DEADLINE] = st[NOW] + (late + MS_NS - 1) // MS_NS * MS_NS
        st[SLEEP_FROM] = st[NOW]
        st[PHASE] = PH_SLEEP
    return True


@inlined
def fill_batch(w: World):
    """The batch is the whole ready ring, less those whose bytes an earlier read took along, those that are gone, and the
    client whose script is running (script.c protects it from its own events)."""
    st, conn = w.st, w.conn
    mask = w.ring.shape[0] - 1
    n = 0
    for i in range(st[RING_N]):
        c = w.ring[(st[RING_HEAD] + i) & mask]
        if c == NONE:
            st[LISTEN_READY] = 0
            w.batch[n] = c
            n += 1
        elif c < NONE:
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


@inlined
def sleep(w: World, until):
    """The loop sleeps in epoll_wait until a socket is ready or a timer is due. NONE: awake; else why run() must come back."""
    st, cost = w.st, w.cost
    while st[RING_N] == 0:
        t = st[DUE]
        if t > st[NOW]:
            if min(t, st[POLL_DEADLINE]) > until:
                idle_until(w, until)
                return REACHED
            idle_until(w, min(t, st[POLL_DEADLINE]))
            if st[NOW] >= st[POLL_DEADLINE] and t > st[NOW]:
                break
        if not admit(w):
            return GROW
    deep = cost[DEEP_AFTER_NS]
    depth = min(st[NOW] - st[SLEEP_FROM], deep)
    st[SLEEPS] += 1
    st[SLEPT] = depth + 1
    st[ITER_T0] = st[NOW]
    if cost[HICCUP_MEAN_NS] > 0:
        idle_hiccups(w)
    st[WAKE_CPU] += cost[WAKE_CPU_NS] + (cost[WAKE_CPU_DEEP_NS] - cost[WAKE_CPU_NS]) * depth // deep
    wake = cost[WAKE_NS] + (cost[WAKE_DEEP_NS] - cost[WAKE_NS]) * depth // deep
    if cost[WAKE_DIST] >= 0:
        wake = wake * draw_size(w.rng, w.group.shape[0] * RNG_PER_GROUP + 2, w.tab, w.dist, cost[WAKE_DIST]) // 1000
    charge(w, WAKE, wake)
    st[PHASE] = PH_AWAKE
    return NONE


@inlined
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
        if st[DEAD]:
            break
        c = w.batch[st[BATCH_POS]]
        st[BATCH_POS] += 1
        if c == NONE:
            accept_clients(w)
            continue
        if c < NONE:
            peer_event(w, c)
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


@inlined
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
    st[FIRST] = 1
    ns = cost[READ_NS] + bytes_ns(size, cost[READ_PS])
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
        resize_query_buffer(w, c, w.cost[QB_ALLOC])
        return IOBUF_BYTES
    if alloc - qb < IOBUF_BYTES:
        alloc = 2 * (qb + IOBUF_BYTES)
        resize_query_buffer(w, c, alloc)
    return alloc - qb


@inlined
def own_read(w: World, c, ns):
    """The read that brought a request's bytes is its own service, not waiting."""
    req = w.req
    r = w.conn[c, C_HEAD]
    left = w.conn[c, C_QB]
    while r != NONE and left > 0:
        serve(w, r, READ, ns)
        left -= req[r, R_BYTES]
        r = req[r, R_NEXT]


@inlined
def process_input_buffer(w: World, c):
    """networking.c:processInputBuffer: complete commands back to back; stops at a script that has become busy."""
    conn, req = w.conn, w.req
    while True:
        r = conn[c, C_HEAD]
        if r == NONE or req[r, R_BYTES] > conn[c, C_QB] or conn[c, C_BLOCKED]:
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
    above = st[WATCH_ABOVE]
    is_oom = above < NEVER_NS and st[USED] + 3 * req[r, R_ARG] + 128 > above and not st[BUSY] and not make_room(w, r, k)
    start = st[NOW]
    around = cost[CALL_NS] + kind[k, K_ARGC] * cost[PARSE_NS] + bytes_ns(req[r, R_BYTES], cost[PARSE_PS])
    if st[BUSY]:
        around += cost[BUSY_REPLY_NS]
        ns, reply = 0, refusal_bytes(w, r, k)
    elif is_oom:
        ns, reply = 0, OOM_REPLY_BYTES
        req[r, R_FLAGS] |= Z_OOM
        kind[k, K_ERRORS] += 1
        st[OOM] += 1
    elif (w.aof[A_FAILING] or (st[CAN_FORK] and w.child[CH_MISCONF])) and (kind[k, K_AOF] or kind[k, K_OP] == OP_PING):
        ns, reply = 0, refuse(w, r, k)
    elif w.repl[M_REFUSES] and (kind[k, K_AOF] or w.repl[M_REFUSES] & (LOADS | STALE)):
        ns, reply = 0, refuse_peer(w, r, k)
    else:
        ns, reply = run_command(w, r)
        if w.aof[A_FEED]:
            around += propagate(w, r, k, ns)
            if (w.repl[M_ON] or w.repl[M_COUNTS]) and kind[k, K_AOF]:
                w.conn[c, C_WOFF] = w.repl[M_OFFSET]
        if kind[k, K_CALLS] == 0:
            first_call(w, k)
        kind[k, K_CALLS] += 1
        kind[k, K_USEC_NS] += ns
        if ns > cost[BUSY_NS] and kind[k, K_OP] == OP_SCRIPT:
            st[SCRIPT_LEFT] = ns - cost[BUSY_NS]
            st[SCRIPT_REQ], st[SCRIPT_CONN], st[SCRIPT_FROM] = r, c, start + around
            st[PHASE] = PH_BUSY
            ns = cost[BUSY_NS]
    charge(w, cause, around + ns)
    serve(w, r, cause, around + ns)
    req[r, R_REPLY] = reply
    if st[REC_ON]:
        segment(w, cause, start, st[NOW], c)
    if ns >= cost[STALL_NS]:
        stall(w, cause, start, k, req[r, R_KEY])
    if st[CAN_FORK] and w.child[CH_OWED] and not st[BUSY]:
        ns += pay(w, r, k)
    if st[PHASE] == PH_BUSY and not st[BUSY]:
        return
    if ns >= cost[SLOW_NS] and not st[BUSY]:
        slowlog_push(w, r, start, ns)
    if kind[k, K_OP] >= OP_WAIT and not st[BUSY] and must_wait(w, c, r, k):
        return
    add_reply(w, c, r)
    if w.repl[M_FED]:
        ask_to_write(w)


@compiled
def unblock(w: World):
    """server.c:beforeSleep: clients in WAIT that are answered now, and what they have sent since."""
    ask_for_acks(w)
    i = next_answered(w)
    while i != NONE:
        c, r = end_wait(w, i)
        add_reply(w, c, r)
        process_input_buffer(w, c)
        i = next_answered(w)


@compiled
def refuse(w: World, r, k):
    """server.c:writeCommandsDeniedByDiskError: what could not be saved must not change. Length of the answer."""
    w.req[r, R_FLAGS] |= Z_MISCONF
    w.kind[k, K_ERRORS] += 1
    if w.child[CH_MISCONF]:
        w.child[CH_MISCONFS] += 1
        return RDB_MISCONF_REPLY_BYTES
    w.aof[A_MISCONF] += 1
    return MISCONF_REPLY_BYTES


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
    before = conn[c, C_OUT]
    conn[c, C_OUT] = before + req[r, R_REPLY]
    if conn[c, C_OUT] > conn[c, C_PEAK]:
        owe_more(w, c, before)
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
        client_comes(w, c)
        if conn[c, C_SOCK] > 0 or conn[c, C_FLAGS] & F_EOF:
            make_ready(w, c)
    if st[ACCEPT_HEAD] != NONE:
        st[LISTEN_READY] = 1
        ring_push(w, NONE)
    if st[REC_ON]:
        segment(w, ACCEPT, start, st[NOW], NONE)


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
        elif c < NONE:
            ring_push(w, c)
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
    if st[DEAD]:
        return True
    if st[SCRIPT_LEFT] == 0:
        end_script(w, c, r)
        return True
    step = min(cost[HOOK_NS], st[SCRIPT_LEFT])
    start = st[NOW]
    charge(w, cause, step)
    serve(w, r, cause, step)
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


@inlined
def before_sleep(w: World):
    """server.c:beforeSleep. The order is the model: threaded reads; in run() fast expire, AOF, all replies."""
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
    for lane in range(lanes.shape[0]):
        lanes[lane] = 0
    keep_open_reversed(w)
    if st[TREAD_N] == 0:
        return
    for i in range(st[TREAD_N]):
        c = w.tread[i]
        size = min(conn[c, C_SOCK], read_size(w, c))
        conn[c, C_PLANNED] = size
        lanes[(i % cost[IO_THREADS]) % cost[IO_LANES]] += cost[READ_NS] + bytes_ns(size, cost[READ_PS])
    longest = 0
    for lane in range(lanes.shape[0]):
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
        if st[DEAD]:
            break
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
