"""WAIT, WAITAOF: a client is blocked until enough replicas have acknowledged what its connection wrote last.

Mirrors replication.c:waitCommand, waitaofCommand (7.2), replicationRequestAckFromSlaves, processClientsWaitingReplicas;
blocked.c, timeout.c (7.0). A time-out is noticed in the next turn of the loop, which an idle one has at the next serverCron.

    WAIT n t     enough have it already: answered at once;  else blocked, REPLCONF GETACK goes out at the end of the next turn
    each turn    acknowledged by enough of those online, or out of time: answered with how many

WAITAOF l n t: of the server's own AOF (l: 1) and of n replicas', on the disk: a replica says how far its own is with each ACK. A
write that it reads together with GETACK is not yet there then: the next ACK that says so is the cron's, up to a second later.
Differs: what was written and by whom is told by connection.
Not modelled: WAIT on a replica (an error), other blocking commands.
"""

from redsim.dataplane.compile import compiled
from redsim.dataplane.layout import *
from redsim.dataplane.replication import ask_to_write, end_unit
from redsim.dataplane.requests import drop_server_interest
from redsim.dataplane.undo import note

GETACK_BYTES = 37  # *3 $8 REPLCONF $6 GETACK $1 *
REPLY_BYTES, AOF_REPLY_BYTES = 4, 12  # :1;  *2 :1 :1


@compiled
def acknowledged(w: World, column, offset):
    """How many replicas that are online have said of the stream up to there that they have executed it (column W_ACK), or that
    their AOF is on the disk (W_FACK)."""
    count = 0
    for link in range(w.wire.shape[0]):
        row = w.wire[link]
        if row[W_FROM] == w.repl[M_SELF] and row[W_STATE] == WIRE_STREAM and row[column] >= offset:
            count += 1
    return count


@compiled
def has_enough(w: World, c, k):
    """Whether the command of kind `k` on connection `c` has what it asks for."""
    offset = w.conn[c, C_WOFF]
    if w.kind[k, K_OP] == OP_WAIT:
        return acknowledged(w, W_ACK, offset) >= w.kind[k, K_NELEM]
    return (w.kind[k, K_LO] == 0 or w.repl[M_FSYNCED] >= offset) and acknowledged(w, W_FACK, offset) >= w.kind[k, K_NELEM]


@compiled
def must_wait(w: World, c, r, k):
    """waitCommand of request `r` of kind `k`: has it blocked connection `c`?"""
    st = w.st
    if has_enough(w, c, k):
        return False
    n = st[BLOCKED_N]
    row = w.blocked[n]
    row[0], row[1], row[3] = c, r, st[IDLE]
    row[2] = st[NOW] + w.kind[k, K_DUR] if w.kind[k, K_DUR] > 0 else 0
    st[BLOCKED_N] = n + 1
    w.conn[c, C_BLOCKED] = r + 1
    w.repl[M_GETACK] = 1
    return True


@compiled
def ask_for_acks(w: World):
    """beforeSleep: REPLCONF GETACK, once for all clients that began to wait in this turn."""
    if w.repl[M_GETACK]:
        w.repl[M_GETACK] = 0
        if w.repl[M_ON]:
            note(w, NONE, GETACK)
            end_unit(w, GETACK_BYTES, 0, 0)
            ask_to_write(w)


@compiled
def next_answered(w: World):
    """Row of a blocked client that need not wait any longer; NONE: all go on waiting. Those whose connection is gone are
    forgotten."""
    st = w.st
    i = st[BLOCKED_N] - 1
    while i >= 0:
        c, r = w.blocked[i, 0], w.blocked[i, 1]
        if not w.conn[c, C_LIVE] or w.conn[c, C_BLOCKED] != r + 1:
            forget_blocked(w, i)
            drop_server_interest(w, r)
        else:
            k = w.req[r, R_KIND]
            is_late = 0 < w.blocked[i, 2] <= st[NOW]
            if is_late or has_enough(w, c, k):
                return i
        i -= 1
    return NONE


@compiled
def forget_blocked(w: World, i):
    """The row is another one's now."""
    w.st[BLOCKED_N] -= 1
    last = w.st[BLOCKED_N]
    for column in range(4):
        w.blocked[i, column] = w.blocked[last, column]


@compiled
def note_idle(w: World, r):
    """The chain from `r` comes to a connection whose client is blocked: how long the loop had slept by then."""
    while r != NONE:
        w.req[r, R_IDLE] = w.st[IDLE]
        r = w.req[r, R_NEXT]


@compiled
def end_wait(w: World, i):
    """The client of row `i` is not blocked any more: what the loop slept meanwhile was its own waiting, and that of what it sent
    behind it. (connection, request)."""
    c, r = w.blocked[i, 0], w.blocked[i, 1]
    w.req[r, R_OWN] += w.st[IDLE] - w.blocked[i, 3]
    behind = w.conn[c, C_HEAD]
    while behind != NONE:
        w.req[behind, R_OWN] += w.st[IDLE] - max(w.req[behind, R_IDLE], w.blocked[i, 3])
        behind = w.req[behind, R_NEXT]
    w.conn[c, C_BLOCKED] = 0
    w.req[r, R_REPLY] = REPLY_BYTES if w.kind[w.req[r, R_KIND], K_OP] == OP_WAIT else AOF_REPLY_BYTES
    forget_blocked(w, i)
    return c, r
