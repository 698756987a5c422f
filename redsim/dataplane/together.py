"""Several servers on one clock: each runs as far as nothing that the others may still send can reach it.

Conservative synchronisation [chandy-misra-1979]: what another server sends takes a link's delay at least, so that a server may
run to the others' clocks plus that delay. A server that came back to the control plane (serverCron, a question, no rows) stands
there, and the others go on until they would need to know what it does next.

    run_together(worlds, delay, promise, why, until)
        delay     [n, n] ns from one to the other, NEVER: they have nothing to do with each other
        promise   [n]: ns before which a server that the control plane has not answered yet does nothing
        why       [n]: REACHED: to be run; else why it stands
    afterwards every server has reached `until`, stands, or waits for one that stands
"""

from collections.abc import Sequence

import numpy as np

from redsim.dataplane.compile import entry, world_at
from redsim.dataplane.events import NEVER
from redsim.dataplane.layout import *
from redsim.dataplane.loop import iterate
from redsim.dataplane.wire import next_mail

WAITS = -1  # why: the control plane owes it an answer


def run_together(worlds: Sequence[World], delay: I64, promise: I64, why: I64, until: int) -> None:
    """Run all of `worlds` that may run; `why` says of each how it came back."""
    _run(np.array([w.address for w in worlds], dtype=np.int64), delay, promise, why, until)


@entry
def _run(addresses, delay, promise, why, until):
    n = addresses.shape[0]
    is_moving = True
    while is_moving:
        is_moving = False
        for i in range(n):
            if why[i] != REACHED:
                continue
            w = world_at(addresses[i])
            horizon = until
            for j in range(n):
                if delay[j, i] < NEVER:
                    clock = promise[j] if why[j] == WAITS else world_at(addresses[j]).st[NOW]
                    horizon = min(horizon, clock + delay[j, i])
            if w.st[NOW] >= horizon:
                continue
            before = w.st[NOW]
            w.st[DUE] = min(w.st[DUE], next_mail(w))
            answer = iterate(w, horizon)
            is_moving = is_moving or w.st[NOW] > before
            if answer != REACHED:
                why[i] = answer
                is_moving = True
