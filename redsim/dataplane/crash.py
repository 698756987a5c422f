"""A process that dies, a host that goes down, and what comes back: what is left of connections, who hears of it and when.

Mirrors Linux: the sockets of a process that dies are reset, a SYN to a port where nobody listens is refused; a host that is down
answers nothing, so that a client waits for its own time-out, or until the host is up again and resets what it does not know: what
is sent first, or sent again (after 200 ms, doubled each time up to 120 s). networking.c and server.c for -LOADING, while rdb.c or
aof.c load (dataplane/loop.py: load_step).

    alive --crash--> no process, host up: SYN refused, bytes reset      --revive--> loading --> alive
             |-----> no host: nothing is answered, SYNs are sent again  --revive--|

Differs: a process dies between two steps of its loop: what it does at that moment is finished but goes nowhere. While loading all
commands are refused; Redis lets a few pass, of the modelled ones DEBUG alone. A connection attempt made in the place of one that
was given up shares the time at which the host hears of it.
Not modelled: TCP keepalive, FINs instead of resets, ARP.
"""

from redsim.dataplane.compile import compiled, entry
from redsim.dataplane.connections import free_conn, lose_requests, tell_of_reset
from redsim.dataplane.events import push
from redsim.dataplane.layout import *
from redsim.dataplane.ledger import skip_hiccups
from redsim.dataplane.memory import client_goes
from redsim.dataplane.requests import drop_server_interest

BUSY_REPLY_BYTES = 105
LOADING_REPLY_BYTES = 49  # server.c: shared.loadingerr
RTO_NS, RTO_MAX_NS = 200_000_000, 120_000_000_000  # net/tcp.h: TCP_RTO_MIN, TCP_RTO_MAX


@compiled
def crash(w: World, is_host, t):
    """The process is gone at `t`, or its host is."""
    st = w.st
    was_dead = st[DEAD]
    st[DEAD] = max(was_dead, DEAD_HOST if is_host else DEAD_PROCESS)
    if was_dead != ALIVE:
        return
    for c in range(w.conn.shape[0]):
        if w.conn[c, C_LIVE] and not w.conn[c, C_FLAGS] & F_RESET:
            lose_connection(w, c, is_host, t)
    if st[BUSY] and not st[LOADING]:
        drop_server_interest(w, st[SCRIPT_REQ])
    st[BUSY] = st[LOADING] = st[SCRIPT_LEFT] = st[LOAD_LEFT] = st[BUSY_ROUNDS] = 0
    st[EVICT_ARMED] = st[IO_ACTIVE] = st[LISTEN_READY] = st[ACCEPT_N] = 0
    st[ACCEPT_HEAD] = st[ACCEPT_TAIL] = NONE
    st[RING_N] = st[PENDING_N] = st[TREAD_N] = st[CLIENTS] = 0
    for i in range(st[BLOCKED_N]):
        drop_server_interest(w, w.blocked[i, 1])
    st[BLOCKED_N] = 0


@compiled
def lose_connection(w: World, c, is_host, t):
    """Connection `c` is gone at the server's end; its client hears of it if there still is a host to tell it."""
    conn = w.conn
    flags = conn[c, C_FLAGS]
    conn[c, C_SOCK] = 0
    if flags & F_EOF:
        free_conn(w, c)
        return
    if flags & F_ACCEPTED:
        client_goes(w, c)
    lose_requests(w, c)
    conn[c, C_HEAD] = conn[c, C_TAIL] = conn[c, C_RHEAD] = conn[c, C_RTAIL] = NONE
    conn[c, C_QB] = conn[c, C_OUT] = conn[c, C_SENT] = conn[c, C_ALLOC] = 0
    conn[c, C_FLAGS] = F_RESET
    if not is_host:
        tell_of_reset(w, c, t + w.group[conn[c, C_GROUP], G_NET])


@compiled
def lost_on_the_way(w: World, head, c, t):
    """The chain from `head` comes to connection `c` at `t`, which the server does not know any more: the host that has been down
    says so now."""
    while head != NONE:
        after = w.req[head, R_NEXT]
        drop_server_interest(w, head)
        head = after
    if w.st[DEAD] != DEAD_HOST and not w.conn[c, C_FLAGS] & (F_TELLING | F_EOF):
        tell_of_reset(w, c, t + w.group[w.conn[c, C_GROUP], G_NET])


@compiled
def knock(w: World, s, t):
    """A SYN of slot `s` finds nobody at `t`: refused, or lost and sent again later."""
    slot = w.slot
    if w.st[DEAD] == DEAD_PROCESS:
        push(w, t + w.group[slot[s, S_GROUP], G_NET], EV_REFUSED, s)
    elif slot[s, S_RETRY] <= t:
        slot[s, S_RETRY] = t + (w.cost[SYN_RETRY_NS] << min(slot[s, S_TRIES], 5))
        slot[s, S_TRIES] += 1
        push(w, slot[s, S_RETRY], EV_SYN, s)


@compiled
def refusal_bytes(w: World, r, k):
    """The command of request `r` of kind `k` is refused, as a script is busy or the data are being loaded: bytes of the reply."""
    w.kind[k, K_ERRORS] += 1
    if w.st[LOADING]:
        w.req[r, R_FLAGS] |= Z_LOADING
        return LOADING_REPLY_BYTES
    w.req[r, R_FLAGS] |= Z_BUSY
    return BUSY_REPLY_BYTES


# ---- what the control plane does ---------------------------------------------------------------------------------------


@entry
def fall(w: World, next_crash_ns):
    """There is no process any more, from now until revive(); the next crash is at `next_crash_ns` (NEVER)."""
    st = w.st
    st[PHASE], st[CRASH_AT] = PH_DOWN, next_crash_ns
    st[SLEPT] = st[FIRST] = st[BATCH_N] = st[BATCH_POS] = 0
    w.aof[A_STAGE] = w.aof[A_WANT] = WANT_NONE


@entry
def die(w: World):
    """The process ends by itself, now."""
    crash(w, 0, w.st[NOW])


@entry
def host_is_up(w: World):
    """The host answers again, with resets: to what clients send again at the next time that TCP lets them."""
    st, slot = w.st, w.slot
    st[DEAD] = DEAD_PROCESS
    for c in range(w.conn.shape[0]):
        s = w.conn[c, C_SLOT]
        if not w.conn[c, C_LIVE] or w.conn[c, C_FLAGS] != F_RESET or s == NONE:
            continue
        r = slot[s, S_HEAD]
        if r == NONE or w.req[r, R_FLAGS] & Z_QUEUED:
            continue
        at, wait = w.req[r, R_SENT], RTO_NS
        while at < st[NOW]:
            at += wait
            wait = min(2 * wait, RTO_MAX_NS)
        tell_of_reset(w, c, at + 2 * w.group[w.conn[c, C_GROUP], G_NET])


@entry
def revive(w: World, load_ns, every_ns):
    """A new process has opened its port and begins to load for `load_ns`, seeing to its clients every `every_ns`."""
    st = w.st
    st[DEAD] = ALIVE
    st[LOADING] = st[BUSY] = 1
    st[LOAD_LEFT], st[LOAD_EVERY] = load_ns, every_ns
    st[SCRIPT_CONN] = NONE
    if w.cost[HICCUP_MEAN_NS] > 0:
        skip_hiccups(w)
    st[PHASE] = PH_BUSY
    st[CRON_DUE] = st[NOW] + 1_000_000
