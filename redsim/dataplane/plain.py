"""A plain World: what most scenarios leave out, and compiled code need not look for.

Mirrors nothing in Redis.
Not modelled: a World that stops being plain; every run asserts at its end that it did not.
"""

from redsim.dataplane.layout import *

# what a plain World has in these columns, in every row and for good: compiled code takes them for constants (compile.py), so that
# what it cannot have costs it nothing: children, AOF, crashes, hiccups, I/O threads, maxmemory, TTLs, scripts, time-outs, client
# stations, links of a bandwidth
PLAIN = {
    "st": {CAN_FORK: 0, BLOCKED_N: 0, CRASH_AT: NEVER_NS, DEAD: 0, LOADING: 0, BUSY: 0, IO_ACTIVE: 0, TREAD_N: 0, EVICT_ARMED: 0,
           WATCH_ABOVE: NEVER_NS},
    "cost": {HICCUP_MEAN_NS: 0, IO_THREADS: 1, IO_DO_READS: 0, RETRYING: 0, HEAD_BITS: 0, WAKE_DIST: NONE, NIC_PS: 0,
             POLICY: 7 << 8},  # evict.py: NO_EVICTION
    "aof": {A_FEED: 0, A_UNDO: 0, A_STAGE: 0, A_FAILING: 0, A_POLICY: 0},
    "repl": {M_ON: 0, M_LINKED: 0, M_IS_REPLICA: 0, M_WANT: 0, M_REFUSES: 0, M_FED: 0, M_MOVED: 0},
    "child": {CH_STATE: 0, CH_OWED: 0, CH_MISCONF: 0, CH_WANT: 0, CH_STRETCH: 0, CH_FLUSH_SAVES: 0},
    "expiry": {X_FAST_DUE: 0, X_OWED_NS: 0},
    "dataset": {D_VOLATILE: 0, D_GROWS: 0},
    "group": {G_TIMEOUT: 0, G_RETRIES: 0, G_PS_PER_BYTE: 0, G_FILL: NONE, G_THREADS: 0, G_THINK_EXP: 0, G_PIPE: 1,
              G_BATCH: 1, G_MEASURE: 0, G_FOLLOWS: 0},
    "slot": {S_THREAD: NONE},
    "kind": {K_TTL: 0, K_TTL_JITTER: 0, K_MEASURED: 0},
}  # fmt: skip


def may_be_plain(w: World) -> bool:
    """Whether the World has what a plain one has, and nobody sends a script or waits for replicas."""
    found = all(
        bool((getattr(w, table)[..., column] == value).all())
        for table, columns in PLAIN.items()
        for column, value in columns.items()
    )
    return found and not bool(np.isin(w.kind[:, K_OP], (OP_SCRIPT, OP_WAIT, OP_WAITAOF)).any())
