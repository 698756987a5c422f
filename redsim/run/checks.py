"""The physics, asserted in every run: nothing lost, nothing counted twice, in integers.

offered = completed + failed + in flight                      for each group
integral of N(t) dt = sum of times in system                  Little's law [little-1961], exactly, for each group
busy + idle = elapsed                                         for the main thread
used_memory = what keys, tables and clients take              added up anew, in bytes
what a plain World has not, it has not at the end     plain.PLAIN
own + network + client + waiting for X, Y, … = latency        for each group, and within the edges of each latency bucket
"""

from redsim.dataplane import layout as dp
from redsim.dataplane.cron import live_requests
from redsim.dataplane.histogram import COARSE_EDGES
from redsim.dataplane.memory import recount
from redsim.dataplane.plain import may_be_plain
from redsim.run.build import Built
from redsim.run.stats import blame_counts, series_of_group


def _check_blame(built: Built, w: dp.World, g: int) -> None:
    name = built.plans.plans[g].name
    counts, blamed = blame_counts(built, w, g), w.blame[g].sum(axis=1)
    far = (blamed < counts * COARSE_EDGES[:-1]) | (blamed > counts * (COARSE_EDGES[1:] - 1))
    assert not far.any(), f"{name}: blame does not add up to latencies of the bucket in {far.sum()} buckets"
    whole = int(w.smax[-1, series_of_group(built, name), 1].sum())
    assert blamed.sum() == whole, f"{name}: blame adds up to {blamed.sum()} ns, latencies to {whole}"


def check_conservation(built: Built, w: dp.World) -> None:
    """AssertionError naming the law and the group if a count does not add up."""
    st = w.st
    busy = int(w.held.sum())
    assert busy + int(st[dp.IDLE]) == int(st[dp.NOW]), f"busy {busy} + idle {st[dp.IDLE]} != elapsed {st[dp.NOW]}"
    live_requests(w)
    for g, plan in enumerate(built.plans.plans):
        row = w.group[g]
        offered, done = int(row[dp.G_OFFERED]), int(row[dp.G_COMPLETED] + row[dp.G_FAILED])
        assert offered == done + int(w.live[g, 0]), f"{plan.name}: offered {offered} != done {done} + in flight {w.live[g, 0]}"
        area, times = int(row[dp.G_AREA]), int(row[dp.G_LAT_SUM]) + int(w.live[g, 1])
        assert area == times, f"{plan.name}: integral of the number in system {area} != sum of the times in it {times}"
        _check_blame(built, w, g)
    assert int(st[dp.USED]) == recount(w), f"used_memory {st[dp.USED]} is {recount(w)} counted anew"
    assert (w.dataset[:, dp.D_LIVE] >= 0).all(), "a data set has fewer than no keys"
    assert not st[dp.IS_PLAIN] or may_be_plain(w), "a plain World is none any more: compiled code took a column for a constant"
