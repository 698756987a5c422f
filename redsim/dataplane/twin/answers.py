"""The twin's answers: what a client does with one; a cache-aside client fetches what it has missed.

Mirrors complete() and fetch_and_fill() of requests.py. Differs and not modelled: as there.
"""

from redsim.dataplane import layout as dp
from redsim.dataplane.twin.clients import retry, value_bytes
from redsim.dataplane.twin.keys import draw_value
from redsim.dataplane.twin.things import Request, Sim


def complete(sim: Sim, request: Request, start: int, done: int) -> None:
    """The client has its answer; `start` is where the group's clock starts."""
    group = request.slot.group
    request.slot.outstanding.remove(request)
    request.wanted = False
    request.slot.out -= 1
    group.lat_sum += done - request.intended
    if request.is_oom:
        group.failed += 1
        group.err_oom += 1
    elif request.is_misconf:
        group.failed += 1
        group.err_misconf += 1
    elif request.refused:
        group.failed += 1
        group.err_busy += 1
    elif request.is_loading:
        group.failed += 1
        group.err_loading += 1
    else:
        group.completed += 1
    sim.done.append((request, start, done))
    if request.missed and group.fill >= 0:
        fetch_and_fill(sim, request, done)


def fetch_and_fill(sim: Sim, missed: Request, at: int) -> None:
    """Cache-aside: fetch the value elsewhere, then SET it; the slot is not done until that is answered."""
    slot, group, kind = missed.slot, missed.slot.group, sim.kinds[missed.slot.group.fill]
    group.fetches += 1
    slot.out += 1
    fetch = group.fetch
    if group.fetch_exp:
        fetch = int(group.luck[dp.RNG_FETCH].exponential() * fetch)
    if at + fetch >= sim.end:
        return
    value = draw_value(sim, group, kind)
    group.offered += 1
    sim.offered.append((at + fetch, group))
    fill = Request(slot, kind, missed.key, value, kind.req_bytes + value_bytes(kind, value), at + fetch, at + fetch)
    sim.push(at + fetch, retry, fill)
