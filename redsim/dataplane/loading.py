"""A loop without a process, or with one that loads its data: what it does instead of serving.

Mirrors rdb.c:rdbLoadProgressCallback, aof.c:loadSingleAppendOnlyFile: the clients are seen to now and then, and refused. Not
modelled: which commands are let through while loading.
"""

from redsim.dataplane.clients import admit
from redsim.dataplane.compile import compiled
from redsim.dataplane.layout import *
from redsim.dataplane.ledger import charge, idle_until, segment
from redsim.dataplane.wire import look_at_peers

BUSY_ROUNDS_MAX = 4  # networking.c: processEventsWhileBlocked


@compiled
def load_step(w: World):
    """rdb.c:rdbLoadProgressCallback, aof.c:loadSingleAppendOnlyFile: the data up to the next look at the clients; after the last
    of them the server serves."""
    st = w.st
    if not admit(w):
        return False
    if st[DEAD]:
        return True
    if st[LOAD_LEFT] == 0:
        st[LOADING] = st[BUSY] = 0
        st[READY_AT] = st[NOW]
        if w.repl[M_LINKED]:
            look_at_peers(w)
        st[PHASE] = PH_POLL
        return True
    step, start = min(st[LOAD_EVERY], st[LOAD_LEFT]), st[NOW]
    charge(w, st[LOAD_CAUSE], step)
    st[LOAD_LEFT] -= step
    if st[REC_ON]:
        segment(w, st[LOAD_CAUSE], start, st[NOW], NONE)
    st[BUSY_ROUNDS] = BUSY_ROUNDS_MAX
    st[PHASE] = PH_WRITES
    return True


@compiled
def idle_while_down(w: World, until):
    """The clients go on without a server. Why run() must come back, NONE: it need not yet."""
    if not admit(w):
        return GROW
    if w.repl[M_WANT]:
        return ASK
    t = w.st[DUE]
    idle_until(w, min(t, until))
    return REACHED if t > until else NONE
