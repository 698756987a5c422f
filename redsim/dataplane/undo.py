"""What keys were before they changed, in the order of time, so that a crash can take back what its AOF has lost.

Mirrors nothing in Redis, where a restart replays the file: here the same data come about by going backwards from what there is.

    before_change    a key: its value, elements, TTL, and how far the AOF had come
    mark             after a unit (a command with the deletions it caused, a deletion of the server's own): how far it is now

A unit that is not whole in the file is not replayed (MULTI without EXEC, half a command), so what is taken back begins at the end
of a unit. Only in a world with crashes ahead is anything remembered (A_UNDO); the control plane forgets what is durable.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from redsim.dataplane.compile import compiled, inlined
from redsim.dataplane.layout import *


class Unit(NamedTuple):
    """The end of a unit in the AOF: bytes and commands up to it; when the first one behind it was executed, ns (None: there is
    none)."""

    end_bytes: int
    commands: int
    next_ns: int | None


@dataclass(frozen=True)
class Snapshot:
    """What the last completed snapshot holds: what a restart without an AOF loads. `commands`: writes counted when it was begun;
    `columns`: copies of the World's kv, ke, kx, grown of that moment (lists of the twin's). `replid`, `offset`, `row`: which
    history of replication it belongs to (0: none), how much of it is in it, and the stream's row behind that."""

    at_ns: int
    file_bytes: int
    keys: int
    commands: int
    columns: dict[str, Any] = field(default_factory=dict)
    replid: int = 0
    offset: int = 0
    row: int = 0


@inlined
def before_change(w: World, d, key):
    """Key `key` of data set `d` is about to change."""
    if w.aof[A_UNDO]:
        remember(w, d, key)
    if w.repl[M_ON]:
        note(w, d, key)


@compiled
def note(w: World, d, key):
    """The unit under way changes the key (NONE: none): a row of the replication stream, filled in at the end of the unit."""
    m, mask = w.repl, w.stream.shape[0] - 1
    n = m[M_ROWS]
    if n > m[M_BEGUN] and w.stream[(n - 1) & mask, Y_KEY] == key:
        return
    w.stream[n & mask, Y_KEY], w.stream[n & mask, Y_DATASET] = key, d
    m[M_ROWS] = n + 1


@compiled
def remember(w: World, d, key):
    """What the key is now."""
    n = w.st[UNDO_N]
    w.st[UNDO_N] = n + 1
    if n >= w.undo.shape[0]:  # the control plane asserts that it never comes to this
        return
    data = w.dataset[d]
    row = w.undo[n]
    row[U_AT], row[U_KEY] = w.aof[A_APPENDED], key
    row[U_VALUE] = w.kv[key, 0]
    row[U_ELEMENTS] = 0 if data[D_STRING] else w.ke[key]
    row[U_DUE] = w.kx[key] if data[D_VOLATILE] else 0
    row[U_ROOM] = w.grown[key] if data[D_GROWS] else 0


@compiled
def mark(w: World):
    """A unit ends here in the AOF."""
    n = w.st[UNDO_N]
    w.st[UNDO_N] = n + 1
    if n >= w.undo.shape[0]:
        return
    row = w.undo[n]
    row[U_AT], row[U_KEY] = w.aof[A_APPENDED], NONE
    row[U_CMDS], row[U_NOW] = w.aof[A_CMDS], w.st[NOW]
