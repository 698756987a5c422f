"""A node's connections: those that are there from the start, and how many take turns in its caches, which is to say how many are
touched between two requests of the same one.

Mirrors nothing in Redis. A connection that sends once an hour drives nobody's socket and client struct out of the caches; of ten
thousand that send in turn each finds its own gone. Between two requests of a connection of group h, c_h / rate_h passes, in which
group g touches at most its c_g connections; the mean is over requests.
Differs: a rate that changes counts at its highest; closed groups, whose rate only the run tells, are taken to share CLOSED_PER_S.
Not modelled: clientsCron, which visits every client once a second.
"""

from collections.abc import Sequence

import numpy as np

from redsim.dataplane import layout as dp
from redsim.dataplane.memory import REPLY_BYTES
from redsim.run.groups import Plan
from redsim.scenario.schema import Open
from redsim.units import S

CLOSED_PER_S = 100_000.0  # guess: about what one server answers


def taking_turns(plans: Sequence[Plan]) -> int:
    """Connections of a server's caches, at least 1: all of them if each sends as often as the others."""
    plans = [plan for plan in plans if not plan.is_cli]
    closed = sum(plan.connections for plan in plans if plan.trace is None and plan.group.arrivals.closed is not None)
    groups = [(plan.connections, _per_s(plan, closed)) for plan in plans]
    groups = [(connections, rate) for connections, rate in groups if rate > 0]
    total = sum(rate for _, rate in groups)
    touched = sum(
        rate / total * min(others, other_rate * connections / rate)
        for connections, rate in groups
        for others, other_rate in groups
    )
    return max(round(touched), 1)


def _per_s(plan: Plan, closed: int) -> float:
    """Requests a second of the group, or a guess at them."""
    arrivals = plan.group.arrivals
    if plan.trace is not None:
        return len(plan.trace) * S / max(plan.span_ns, 1)
    if arrivals.closed is not None:
        at_most = plan.connections * S / arrivals.closed.think if arrivals.closed.think else CLOSED_PER_S
        return min(at_most, CLOSED_PER_S * plan.connections / closed)
    assert arrivals.open is not None
    return highest_per_s(arrivals.open)


def highest_per_s(opened: Open) -> float:
    """The highest rate of an open group, requests a second."""
    rates = [opened.rate_per_s or 0.0]
    rates += [point.rate_per_s for point in opened.schedule or ()]
    if opened.diurnal is not None:
        rates.append(opened.diurnal.high_per_s)
    if opened.mmpp is not None:
        rates += opened.mmpp.rates_per_s
    if opened.bursts is not None:
        rates.append(opened.bursts.size * S / opened.bursts.every)
    return max(rates)


def commands_about(plans: Sequence[Plan], duration_ns: int) -> float:
    """About how many commands a run will have; rates that change and traces are not counted."""
    total = 0.0
    for plan in plans:
        opened = plan.group.arrivals.open
        if plan.group.arrivals.closed is not None:
            total += CLOSED_PER_S * duration_ns / S
        elif opened is not None and opened.rate_per_s is not None and plan.trace is None:
            total += opened.rate_per_s * duration_ns / S
    return total


def connect(w: dp.World) -> None:
    """Clients that are there from the start are connected before it, up to maxclients; the rest connect at first use."""
    st, slot, conn = w.st, w.slot, w.conn
    for s in np.flatnonzero(slot[:, dp.S_STATE] == dp.UP):
        if st[dp.CLIENTS] >= w.cost[dp.MAXCLIENTS]:
            slot[s, dp.S_STATE] = dp.DOWN
            continue
        c = int(st[dp.CONN_FREE])
        st[dp.CONN_FREE] = conn[c, dp.C_NEXT]
        st[dp.CONN_FREE_N] -= 1
        st[dp.CLIENTS] += 1
        conn[c] = 0
        conn[c, [dp.C_HEAD, dp.C_TAIL, dp.C_RHEAD, dp.C_RTAIL, dp.C_NEXT]] = dp.NONE
        conn[c, [dp.C_RBUF, dp.C_PEAK]] = REPLY_BYTES
        conn[c, dp.C_SLOT], conn[c, dp.C_GROUP] = s, slot[s, dp.S_GROUP]
        conn[c, dp.C_FLAGS], conn[c, dp.C_LIVE] = dp.F_ACCEPTED, 1
        slot[s, dp.S_CONN] = c
