"""What the control plane does to the twin inside serverCron, and how the server closes a connection.

Mirrors server.c:clientsCron as loop.py has it. Differs and not modelled: as there.
"""

from redsim.dataplane import layout as dp
from redsim.dataplane.twin.clients import closed_by_server
from redsim.dataplane.twin.memory import resize_reply_buffer
from redsim.dataplane.twin.things import Conn, Sim, free_conn

CLIENT_IDLE_NS = 2_000_000_000  # server.c: clientsCronResizeQueryBuffer


def hold(sim: Sim, cause: int, ns: int) -> None:
    start = sim.now
    sim.charge(cause, ns)
    if ns >= sim.cost[dp.STALL_NS]:
        sim.stall(cause, start, dp.NONE, dp.NONE)


def clients_cron(sim: Sim, cursor: int, visits: int, idle_ns: int) -> int:
    """server.c:clientsCron over `visits` clients, in row order from `cursor` on; returns the next cursor."""
    order = list(range(cursor, len(sim.rows))) + list(range(min(cursor, len(sim.rows))))
    for row in order:
        if visits == 0:
            break
        cursor = row + 1
        conn = sim.rows[row]
        if conn is None or not conn.accepted:
            continue
        visits -= 1
        idle = sim.now - conn.last
        if idle > CLIENT_IDLE_NS and conn.buffered == 0:
            conn.alloc = 0
        resize_reply_buffer(sim, conn)
        if 0 < idle_ns < idle and conn.out == 0 and not conn.in_ring and not conn.eof:
            sim.charge(dp.CRON, sim.cost[dp.CLOSE_NS])
            sim.count.clients -= 1
            sim.count.closed_idle += 1
            close_by_server(sim, conn)
    return cursor


def close_by_server(sim: Sim, conn: Conn) -> None:
    """Nothing of it is read or written any more; its row goes when the client has hung up too."""
    if conn.eof:
        free_conn(sim, conn)
        return
    conn.reset, conn.accepted, conn.pending, conn.want_write = True, False, False, False
    if conn.slot is not None:
        conn.telling = True
        sim.push(sim.now + conn.group.net, closed_by_server, conn)
