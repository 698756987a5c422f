"""Master or replica inside the loop: what a role refuses, what a server becomes when its role changes.

Mirrors server.c:processCommand (NOREPLICAS, READONLY, MASTERDOWN, in this order), replication.c:replicationSetMaster,
replicationUnsetMaster: the offset and the backlog stay.
Differs: clients in WAIT are answered with what has been acknowledged by now, where Redis unblocks them with an error.
Not modelled: replica-read-only no.
"""

from redsim.dataplane.compile import compiled, entry
from redsim.dataplane.crash import LOADING_REPLY_BYTES
from redsim.dataplane.layout import *

NOREPLICAS_REPLY_BYTES = 48  # server.c: shared.noreplicaserr
READONLY_REPLY_BYTES = 56  # server.c: shared.roslaveerr
MASTERDOWN_REPLY_BYTES = 83  # server.c: shared.masterdownerr


@compiled
def refuse_peer(w: World, r, k):
    """A command that replication forbids just now. Length of the answer."""
    w.kind[k, K_ERRORS] += 1
    why = w.repl[M_REFUSES] if w.kind[k, K_AOF] else w.repl[M_REFUSES] & (LOADS | STALE)
    if why & FEW:
        flag, size = Z_NOREPLICAS, NOREPLICAS_REPLY_BYTES
    elif why & READS_ONLY:
        flag, size = Z_READONLY, READONLY_REPLY_BYTES
    elif why & STALE:
        flag, size = Z_MASTERDOWN, MASTERDOWN_REPLY_BYTES
    else:
        flag, size = Z_LOADING, LOADING_REPLY_BYTES
    w.req[r, R_FLAGS] |= flag
    return size


def refuse(w: World, why: int, *, is_so: bool) -> None:
    """Whether it refuses commands for that reason, one or several bits of M_REFUSES, from here on."""
    w.repl[M_REFUSES] = (int(w.repl[M_REFUSES]) & ~why) | (why if is_so else 0)


@entry
def become_master(w: World, cause):
    """The stream is its own from here on: what it has executed is how far it goes."""
    st, m = w.st, w.repl
    m[M_IS_REPLICA], m[M_ON], m[M_SELECTED], m[M_UNIT_BYTES], m[M_BUFFERING] = 0, int(m[M_BACKLOG] > 0), 0, 0, 0
    m[M_ROWS] = m[M_BEGUN] = m[M_APPLY]
    m[M_REFUSES] &= FEW
    m[M_CAUSE] = cause
    w.aof[A_FEED] = 1
    st[WATCH_ABOVE] = w.cost[MAXMEMORY]


@entry
def become_replica(w: World, cause, refuses):
    """It follows: what it has fed is what it has executed. Nobody's wait goes on."""
    st, m = w.st, w.repl
    m[M_IS_REPLICA], m[M_ON], m[M_UNIT_BYTES], m[M_GETACK] = 1, 0, 0, 0
    m[M_APPLY] = m[M_ROWS]
    m[M_REFUSES] = refuses
    m[M_CAUSE] = cause
    w.expiry[X_FAST_DUE] = 0
    st[WATCH_ABOVE], st[EVICT_ARMED] = NEVER_NS, 0
    for i in range(st[BLOCKED_N]):
        w.blocked[i, 2] = max(st[NOW], 1)
