"""The twin's host that takes the CPU away now and then. Mirrors hiccups() and idle_hiccups() of ledger.py."""

from redsim.dataplane import layout as dp
from redsim.dataplane.twin.things import Sim


def draw_hiccup(sim: Sim) -> int:
    """The length of the hiccup due at next_hiccup; plans the one after."""
    ns = sim.sizes[sim.cost[dp.HICCUP_DIST]].draw(sim.hiccup_lengths)
    sim.count.hiccups += 1
    sim.next_hiccup += ns + 1 + int(sim.hiccup_gaps.exponential() * sim.cost[dp.HICCUP_MEAN_NS])
    return ns


def hiccup(sim: Sim, ns: int) -> None:
    start = sim.now
    sim.charge(dp.HICCUP, max(ns, 0))
    if ns >= sim.cost[dp.STALL_NS]:
        sim.stall(dp.HICCUP, start, dp.NONE, dp.NONE)


def busy_hiccups(sim: Sim) -> None:
    """Hiccups while the loop has work delay all that follows."""
    while sim.cost[dp.HICCUP_MEAN_NS] > 0 and sim.next_hiccup <= sim.now:
        hiccup(sim, draw_hiccup(sim))
