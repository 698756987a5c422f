"""The append-only file inside the loop: what commands append, and the one write of an iteration.

Mirrors aof.c:feedAppendOnlyFile, flushAppendOnlyFile, bio.c's one fsync at a time, server.c:propagatePendingCommands (7.0; 7.4
and Valkey count milliseconds where 7.0 counts whole seconds, 6.2 wraps nothing in MULTI).

    command     changed something? its propagated form goes into aof_buf: deletions of keys past their time before it, MULTI and
                EXEC around more than one, SELECT before the first of all
    flush       before the replies; an everysec fsync in flight puts the write off, for up to two seconds
                write(2) -> always: fdatasync here;  everysec: a new second and none in flight: the bio thread's;  no: nothing

What only the control plane knows (a disk others use too, a page cache that is full) it is asked for: flush returns true, run()
comes back with ASK, aof[A_WANT] says for what; the stage stays until run() is called again. A fsync in flight is over when the
clock has passed aof[A_DONE].
Differs: a write waits for a fsync in flight where the host's file is locked meanwhile (A_LOCKS); buffers of up to 4,000 bytes
are kept as Redis does, but grow by sds.c's doubling from one command's bytes. Retries of a postponed write inside serverCron are
those of the same iteration's end.
Not modelled: WAIT_REWRITE, short writes (a full disk takes nothing), timestamps, writes of scripts.
"""

from redsim.dataplane.compile import compiled
from redsim.dataplane.draws import draw_size
from redsim.dataplane.layout import *
from redsim.dataplane.ledger import bytes_ns, charge, note_hold
from redsim.dataplane.memory import append_room
from redsim.dataplane.replication import MULTI_EXEC_BYTES, SELECT_BYTES, ask_to_write, end_unit, feed_unit, select_bytes
from redsim.dataplane.undo import mark

DEL_BYTES, UNLINK_BYTES = 13, 16  # *2 $3 DEL and *2 $6 UNLINK, without the key
KEPT_ROOM_BYTES = 4000  # aof.c: a smaller buffer is kept
MISCONF_REPLY_BYTES = 66  # server.c: writeCommandsGetDiskErrorMessage, with ENOSPC's words


# ---- what commands append ----------------------------------------------------------------------------------------


@compiled
def feed(w: World, size):
    """aof.c:feedAppendOnlyFile: `size` bytes more in aof_buf. ns that takes."""
    a = w.aof
    if not a[A_SELECTED]:
        a[A_SELECTED] = 1
        size += SELECT_BYTES
    a[A_LEN] += size
    a[A_APPENDED] += size
    if a[A_LEN] > a[A_ROOM]:
        a[A_ROOM] = append_room(w, a[A_ROOM], a[A_LEN])
    return a[A_APPEND_NS] + bytes_ns(size, a[A_APPEND_PS])


@compiled
def feed_deletion(w: World, d, is_lazy, is_part):
    """db.c:propagateDeletion: the server itself deletes a key of data set `d`, in its own name, or as part of what a command
    does. ns that takes."""
    size, ns = (UNLINK_BYTES if is_lazy else DEL_BYTES) + w.dataset[d, D_KEYBULK], 0
    if w.aof[A_POLICY]:
        ns += feed(w, size)
    if w.repl[M_ON] and is_part:
        w.repl[M_UNIT_BYTES] += size
    elif w.repl[M_ON]:
        ns += end_unit(w, size + select_bytes(w), 0, 0)
        ask_to_write(w)
    if is_part:
        w.aof[A_UNIT] += 1
    elif w.aof[A_UNDO]:
        mark(w)
    return ns


@compiled
def propagate(w: World, r, k, took_ns):
    """server.c:propagatePendingCommands after request `r` of kind `k` that took `took_ns` and whose lookups may have deleted
    keys. ns that takes."""
    a = w.aof
    ns, deletions = 0, a[A_UNIT]
    is_own = w.kind[k, K_AOF] == PROPAGATED or (w.kind[k, K_AOF] == IF_DIRTY and a[A_DIRTY] > 0)
    a[A_UNIT] = a[A_DIRTY] = 0
    if w.repl[M_ON]:
        ns += feed_unit(w, r, k, is_own, deletions, took_ns)
    elif w.repl[M_COUNTS] and is_own:
        w.repl[M_OFFSET] += 1
    if is_own:
        a[A_CMDS] += 1
        if a[A_POLICY] == AOF_OFF:
            return ns
        ns += feed(w, w.req[r, R_BYTES] + w.kind[k, K_AOF_MORE])
    elif a[A_POLICY] == AOF_OFF:
        return ns
    if a[A_WRAP] and deletions + is_own > 1:
        ns += feed(w, MULTI_EXEC_BYTES)
    if a[A_UNDO] and deletions + is_own > 0:
        mark(w)
    return ns


# ---- before the replies --------------------------------------------------------------------------------------------


@compiled
def flush_append_only_file(w: World):
    """aof.c:flushAppendOnlyFile(0). True: the control plane is asked; the answer is acted upon at the next call."""
    a = w.aof
    stage = a[A_STAGE]
    a[A_STAGE] = WANT_NONE
    if a[A_POLICY] == AOF_OFF:  # writes are counted, as a crash is ahead
        is_over = True
    elif stage == WANT_NONE:
        land_fsync(w)
        is_over = begin_flush(w)
    elif stage == WANT_WRITE:
        wait_until(w, a[A_CAUSE] + write_event(w))
        is_over = write(w)
    else:
        if stage == WANT_FSYNC:
            wait_until(w, a[A_CAUSE] + AOF_FSYNC_ALWAYS)
            fsynced(w)
        is_over = True
    if is_over and w.st[NOW] < w.st[CRASH_AT]:
        a[A_ACKED], a[A_ACKED_CMDS] = a[A_APPENDED], a[A_CMDS]
        if w.st[BLOCKED_N] and w.repl[M_FSYNCED] != w.repl[M_ON_DISK]:
            w.repl[M_MOVED] = 1
        w.repl[M_FSYNCED] = w.repl[M_ON_DISK]
    return not is_over


@compiled
def land_fsync(w: World):
    """bio.c: the job is done once its time is past."""
    a = w.aof
    if a[A_FLIGHT] and a[A_DONE] <= w.st[NOW]:
        a[A_FLIGHT] = 0
        a[A_SYNCED], a[A_SYNCED_CMDS] = a[A_SUBMITTED], a[A_SUBMITTED_CMDS]
        w.repl[M_ON_DISK] = w.repl[M_SUBMITTED]


@compiled
def ask(w: World, want):
    """run() comes back for an answer."""
    w.aof[A_WANT] = w.aof[A_STAGE] = want
    return False


@compiled
def tick(w: World):
    """server.unixtime of 7.0, mstime() where the version counts milliseconds."""
    return (w.st[NOW] + w.aof[A_PHASE_NS]) // w.aof[A_TICK_NS]


@compiled
def begin_flush(w: World):
    """Up to the write: is there anything, may it wait? True: the flush is over."""
    a = w.aof
    a[A_PENDING] = a[A_FLIGHT] if a[A_POLICY] == AOF_EVERYSEC else 0
    if a[A_LEN] == 0:
        if a[A_SUBMITTED] == a[A_WRITTEN] and not a[A_FLIGHT] and a[A_POLICY] != AOF_NO:
            w.repl[M_ON_DISK] = w.repl[M_OFFSET]  # what the stream has besides, as PING, is in no AOF
        if a[A_SUBMITTED] == a[A_WRITTEN] or a[A_PENDING]:
            return True
        return try_fsync(w)
    if a[A_PENDING]:
        if a[A_POSTPONED] == NONE:
            a[A_POSTPONED], a[A_POSTPONED_FROM] = tick(w), w.st[NOW]
            a[A_POSTPONEMENTS] += 1
            return True
        if tick(w) - a[A_POSTPONED] < 2 * a[A_SECOND]:
            return True
        a[A_DELAYED] += 1
    if a[A_FULL]:
        return fail_write(w)
    if (a[A_PENDING] and a[A_LOCKS]) or a[A_WRITTEN] + a[A_LEN] > a[A_LIMIT]:
        return ask(w, WANT_WRITE)
    return write(w)


@compiled
def fail_write(w: World):
    """No space: with `always` the process ends, otherwise writes are refused until one succeeds. Costs a system call."""
    a = w.aof
    charge(w, a[A_CAUSE] + write_event(w), a[A_WRITE_NS])
    end_postponement(w)
    if a[A_POLICY] == AOF_ALWAYS:
        return ask(w, WANT_EXIT)
    a[A_FAILING] = 1
    return True


@compiled
def write_event(w: World):
    """Which of the three latency events the write is."""
    if w.aof[A_PENDING]:
        return AOF_WRITE_PENDING_FSYNC
    return AOF_WRITE_ACTIVE_CHILD if w.aof[A_CHILD] else AOF_WRITE_ALONE


@compiled
def wait_until(w: World, cause):
    """The main thread sits in a system call until aof[A_UNTIL]."""
    start = w.st[NOW]
    if w.aof[A_UNTIL] > start:
        charge(w, cause, w.aof[A_UNTIL] - start)
        note_hold(w, cause, start)


@compiled
def end_postponement(w: World):
    a = w.aof
    if a[A_POSTPONED] != NONE:
        a[A_POSTPONED_NS] += w.st[NOW] - a[A_POSTPONED_FROM]
        a[A_POSTPONED] = NONE


@compiled
def write(w: World):
    """write(2) of the whole buffer into the page cache, then the fsync step. True: the flush is over."""
    a = w.aof
    cause, start = a[A_CAUSE] + write_event(w), w.st[NOW]
    charge(w, cause, a[A_WRITE_NS] + bytes_ns(a[A_LEN], a[A_WRITE_PS]))
    note_hold(w, cause, start)
    end_postponement(w)
    a[A_WRITES] += 1
    a[A_WRITTEN] += a[A_LEN]
    a[A_WRITTEN_CMDS] = a[A_CMDS]
    a[A_FAILING] = a[A_LEN] = 0
    if a[A_ROOM] >= KEPT_ROOM_BYTES:
        a[A_ROOM] = 0
    return try_fsync(w)


@compiled
def try_fsync(w: World):
    """The fsync step. True: the flush is over."""
    a = w.aof
    if a[A_NO_FSYNC] and a[A_CHILD]:
        return True
    if a[A_POLICY] == AOF_ALWAYS:
        if a[A_SHARED]:
            return ask(w, WANT_FSYNC)
        cause, start = a[A_CAUSE] + AOF_FSYNC_ALWAYS, w.st[NOW]
        ns = draw_size(w.rng, w.group.shape[0] * RNG_PER_GROUP + 4, w.tab, w.dist, a[A_DIST])
        charge(w, cause, ns + bytes_ns(a[A_WRITTEN] - a[A_SUBMITTED], a[A_SYNC_PS]))
        note_hold(w, cause, start)
        if w.st[NOW] < w.st[CRASH_AT]:
            fsynced(w)
        return True
    if a[A_POLICY] == AOF_EVERYSEC and tick(w) - a[A_LAST] >= a[A_SECOND]:
        a[A_LAST] = tick(w)
        if not a[A_PENDING]:
            a[A_FLIGHT] = 1
            a[A_FSYNCS] += 1
            a[A_SUBMITTED], a[A_SUBMITTED_CMDS] = a[A_WRITTEN], a[A_WRITTEN_CMDS]
            w.repl[M_SUBMITTED] = w.repl[M_OFFSET]
            return ask(w, WANT_BIO)
    return True


@compiled
def fsynced(w: World):
    """fdatasync has returned on the main thread: what was written is on the disk."""
    a = w.aof
    a[A_FSYNCS] += 1
    a[A_LAST] = tick(w)
    a[A_SUBMITTED], a[A_SUBMITTED_CMDS] = a[A_WRITTEN], a[A_WRITTEN_CMDS]
    a[A_SYNCED], a[A_SYNCED_CMDS] = a[A_WRITTEN], a[A_WRITTEN_CMDS]
    w.repl[M_ON_DISK] = w.repl[M_OFFSET]
