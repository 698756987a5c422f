"""What the control plane does to a World: serverCron's hold and clientsCron, the sums it samples.

Mirrors server.c: clientsCron (clientsCronHandleTimeout, clientsCronResizeQueryBuffer, clientsCronResizeOutputBuffer).
"""

from redsim.dataplane.compile import compiled, entry
from redsim.dataplane.connections import close_by_server
from redsim.dataplane.layout import *
from redsim.dataplane.ledger import charge, note_hold
from redsim.dataplane.memory import resize_query_buffer, resize_reply_buffer


@entry
def hold(w: World, cause, ns):
    """The control plane holds the loop for `ns` (serverCron's jobs); in the ledger if long enough."""
    start = w.st[NOW]
    charge(w, cause, ns)
    note_hold(w, cause, start)


@compiled
def free_client(w: World, c):
    """networking.c:freeClient of connection `c`, which is accepted and not yet closed."""
    charge(w, CRON, w.cost[CLOSE_NS])
    w.st[CLIENTS] -= 1
    close_by_server(w, c)


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
            resize_query_buffer(w, c, 0)
        resize_reply_buffer(w, c)
        if idle_ns > 0 and idle > idle_ns and conn[c, C_OUT] == 0 and not flags & (F_RING | F_EOF):
            st[CLOSED_IDLE] += 1
            free_client(w, c)
    return cursor


@entry
def kill_clients(w: World):
    """networking.c:clientKillCommand, CLIENT KILL TYPE normal: all of them; how many."""
    killed = 0
    for c in range(w.conn.shape[0]):
        flags = w.conn[c, C_FLAGS]
        if w.conn[c, C_LIVE] and flags & F_ACCEPTED and not flags & F_RESET:
            free_client(w, c)
            killed += 1
    return killed


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
    for g in range(w.live.shape[0]):
        w.live[g, 0] = 0
        w.live[g, 1] = 0
    for r in range(w.req.shape[0]):
        if w.req[r, R_FLAGS] & Z_LIVE:
            g = w.slot[w.req[r, R_SLOT], S_GROUP]
            w.live[g, 0] += 1
            w.live[g, 1] += w.st[END] - w.req[r, R_INTENDED]
