"""Connections as rows: opened by a SYN, closed by one end or both.

A row is freed when neither end knows of it any more; what was in it and not answered the server has lost.
"""

from redsim.dataplane.compile import compiled, inlined
from redsim.dataplane.events import push
from redsim.dataplane.layout import *
from redsim.dataplane.memory import client_goes
from redsim.dataplane.requests import drop_server_interest


@inlined
def ring_push(w: World, c):
    """Connection `c` (NONE: the listening socket; below: one with another server) is ready for the next poll."""
    st = w.st
    w.ring[(st[RING_HEAD] + st[RING_N]) & (w.ring.shape[0] - 1)] = c
    st[RING_N] += 1


@compiled
def open_conn(w: World, s, t):
    """A fresh connection row for slot `s`."""
    st, conn = w.st, w.conn
    c = st[CONN_FREE]
    st[CONN_FREE] = conn[c, C_NEXT]
    st[CONN_FREE_N] -= 1
    for k in range(C_SIZE):
        conn[c, k] = 0
    conn[c, C_SLOT] = s
    conn[c, C_HEAD] = NONE
    conn[c, C_TAIL] = NONE
    conn[c, C_RHEAD] = NONE
    conn[c, C_RTAIL] = NONE
    conn[c, C_NEXT] = NONE
    conn[c, C_GROUP] = w.slot[s, S_GROUP]
    conn[c, C_LAST] = t
    conn[c, C_LIVE] = 1
    w.slot[s, S_CONN] = c
    return c


@compiled
def free_conn(w: World, c):
    """The connection is gone on both sides; the server loses interest in what was in it."""
    st, conn = w.st, w.conn
    if conn[c, C_FLAGS] & F_ACCEPTED:
        client_goes(w, c)
    lose_requests(w, c)
    conn[c, C_LIVE] = 0
    conn[c, C_FLAGS] = 0
    conn[c, C_NEXT] = st[CONN_FREE]
    st[CONN_FREE] = c
    st[CONN_FREE_N] += 1


@compiled
def lose_requests(w: World, c):
    """What has arrived in connection `c` and what is owed to it is lost to the server."""
    for column in (C_HEAD, C_RHEAD):
        r = w.conn[c, column]
        while r != NONE:
            after = w.req[r, R_NEXT]
            if column == C_HEAD:
                w.st[WAITING] -= 1
            drop_server_interest(w, r)
            r = after


@compiled
def close_by_server(w: World, c):
    """The server closes connection `c`; its client hears of it one way later (F_TELLING); the row goes when it has heard and
    hung up, in either order."""
    conn = w.conn
    if conn[c, C_FLAGS] & F_EOF:
        free_conn(w, c)
        return
    if conn[c, C_FLAGS] & F_ACCEPTED:
        client_goes(w, c)
    conn[c, C_FLAGS] = F_RESET
    tell_of_reset(w, c, w.st[NOW] + w.group[conn[c, C_GROUP], G_NET])


@compiled
def tell_of_reset(w: World, c, t):
    """The client of the reset connection `c` hears of it at `t`, if it has not hung up."""
    if w.conn[c, C_SLOT] != NONE:
        w.conn[c, C_FLAGS] |= F_TELLING
        push(w, t, EV_CLOSED, c)
