"""The twin's keys with a TTL: where they lie, the cycles that remove them, how late they are removed.

Mirrors expires.py and expire.py over lists of keys. Differs and not modelled: as there.
"""

from redsim.dataplane import layout as dp
from redsim.dataplane.twin import cow
from redsim.dataplane.twin.aof import deletion, lazy_deletion
from redsim.dataplane.twin.memory import add, dict_work, remove
from redsim.dataplane.twin.things import Expires, Record, Sim, Table, curve_ns

MS_NS = 1_000_000
BILLION = 10**9


def is_past_due(sim: Sim, key: int) -> bool:
    return sim.kx[key] > 0 and sim.now // MS_NS > sim.kx[key] // MS_NS


def set_expire(sim: Sim, data: Record, key: int, at: int) -> None:
    """The key is due at `at`, in whole milliseconds."""
    begins = sim.kx[key] == 0
    cow.expire(sim, data, key, begins)
    sim.kx[key] = at // MS_NS * MS_NS
    if begins:
        sim.expires.slots[sim.expires.slot_of(key)].insert(0, key)
        data.expires += 1
        add(sim, sim.tables[dp.EXPIRES])


def remove_expire(sim: Sim, data: Record, key: int) -> None:
    """The key has no TTL from now on."""
    if data.volatile and sim.kx[key] != 0:
        cow.expire(sim, data, key, True)
        sim.kx[key] = 0
        sim.expires.slots[sim.expires.slot_of(key)].remove(key)
        data.expires -= 1
        remove(sim, sim.tables[dp.EXPIRES])


def flush(sim: Sim) -> None:
    """No key has a TTL any more."""
    sim.kx = [0] * len(sim.kx)
    sim.expires.slots = [[] for _ in sim.expires.slots]
    for data in sim.datasets:
        data.expires = 0


def forget(sim: Sim, data: Record, key: int) -> None:
    """The key is gone."""
    sim.kv[key] = dp.NODATA
    data.live -= 1
    sim.eviction.unlink(key)
    cow.key_moves(sim, data, key, False)
    remove(sim, sim.tables[dp.MAIN])
    remove_expire(sim, data, key)


def delete_expired_key(sim: Sim, key: int, by: int) -> int:
    """The key is gone because its time is past; what that takes."""
    data = next(data for data in sim.datasets if data.base <= key < data.base + data.n)
    sim.lags.append((by, sim.now - sim.kx[key]))
    ns = sim.expires.row.del_ns + sim.curves[sim.expires.row.del_curve][max(data.live, 1).bit_length() - 1]
    if not sim.expires.row.lazy and not data.string:
        ns += curve_ns(sim, data.del_curve, sim.ke[key])
    forget(sim, data, key)
    sim.count.expired += 1
    propagated = lazy_deletion if by == dp.LAZY else deletion
    return int(ns + propagated(sim, data, sim.expires.row.lazy))


# ---- the cycles -----------------------------------------------------------------------------------------------------


def fast_cycle(sim: Sim) -> None:
    """Before the loop sleeps, if the last cycle ran out of time (or the estimate is above the limit, which it never is)."""
    row, now_us = sim.expires.row, sim.now // 1000
    is_wanted = row.timelimit_exit or row.stale_ppb >= row.acceptable * BILLION
    if is_wanted and now_us >= row.last_fast_us + 2 * row.fast_us:
        row.last_fast_us = now_us
        cycle(sim, row.fast_us)


def slow_cycle(sim: Sim, hz: int) -> None:
    cycle(sim, max(sim.expires.row.slow_percent * 10**6 // hz // 100, 1))


def cycle(sim: Sim, limit_us: int) -> None:
    """One walk over the databases, of which number 0 alone has keys."""
    row, start, before = sim.expires.row, sim.now, sim.count.expired
    visits = row.databases if row.timelimit_exit or row.stops else min(row.databases, 16)
    row.timelimit_exit, row.big_key = 0, dp.NONE
    rounds, looked_at = 0, 0
    for _ in range(visits):
        database, row.current_db = row.current_db, (row.current_db + 1) % row.databases
        if database > 0:
            rounds += 1
            continue
        rounds, looked_at = database_rounds(sim, rounds, start // 1000 + limit_us)
        if row.timelimit_exit:
            break
    share = BILLION * (sim.count.expired - before) // looked_at if looked_at else 0
    row.stale_ppb = (5 * share + 95 * row.stale_ppb) // 100
    row.cycles += 1
    row.cycle_ns += sim.now - start
    row.active += sim.count.expired - before
    if sim.now - start >= sim.cost[dp.STALL_NS]:
        sim.stall(row.cause, start, dp.NONE, row.big_key)


def database_rounds(sim: Sim, rounds: int, until_us: int) -> tuple[int, int]:
    """Round after round while enough of what was seen is past due; (rounds so far, keys looked at)."""
    row, table, looked_at = sim.expires.row, sim.tables[dp.EXPIRES], 0
    while True:
        rounds += 1
        if table.used == 0:
            row.avg_ttl_ms = 0
            break
        size = sum(2**bits for bits in (table.bits, table.next) if bits is not None)
        if size > 4 and table.used * 100 // size < 1:
            break
        seen, expired, is_through = one_round(sim, table)
        looked_at += seen
        if rounds % 16 == 0 and sim.now // 1000 > until_us:
            row.timelimit_exit = 1
            row.cap_reached += 1
            break
        if (seen > 0 and expired * 100 // seen <= row.acceptable) or (is_through and row.stops):
            break
    return rounds, looked_at


def one_round(sim: Sim, table: Table) -> tuple[int, int, bool]:
    """(keys seen, of them past due, has the cursor come round)."""
    row = sim.expires.row
    wanted = min(table.used, row.per_loop)
    seen: list[bool] = []
    ttls: list[int] = []
    buckets = ns = 0
    is_through = False
    while len(seen) < wanted and buckets < 20 * wanted and not (is_through and row.stops):
        buckets += 1 if table.next is None else 2
        for key in keys_at_cursor(sim.expires, table):
            ns += row.sample_ns + look_at(sim, key, seen, ttls)
        row.cursor += 1
        assert table.bits is not None
        is_through = row.cursor % 2**table.bits == 0
    sim.charge(row.cause, ns + buckets * sim.cost[dp.EMPTY_BUCKET_NS] + dict_work(sim, sum(seen)))
    if ttls:
        mean = sum(ttls) // len(ttls)
        row.avg_ttl_ms = (row.avg_ttl_ms or mean) // 50 * 49 + mean // 50
    return len(seen), sum(seen), is_through


def keys_at_cursor(expires: Expires, table: Table) -> list[int]:
    """The keys of the cursor's bucket, and of its bucket in the new table if there is one."""
    assert table.bits is not None
    first = expires.slots_of(expires.row.cursor % 2**table.bits, table.bits)
    if table.next is None:
        slots = list(first)
    else:
        moved = expires.slots_of(2**table.bits - -(-table.left // 1000), table.bits).start
        second = expires.slots_of(expires.row.cursor % 2**table.next, table.next)
        slots = [slot for slot in first if slot >= moved] + [slot for slot in second if slot < moved]
    return [key for slot in slots for key in expires.slots[slot]]


def look_at(sim: Sim, key: int, seen: list[bool], ttls: list[int]) -> int:
    """Remove the key if it is past due, else note its time. What the removal takes."""
    row, left_ms = sim.expires.row, sim.kx[key] // MS_NS - sim.now // MS_NS
    seen.append(is_past_due(sim, key))
    if left_ms > 0:
        ttls.append(left_ms)
    if not seen[-1]:
        return 0
    ns = delete_expired_key(sim, key, dp.ACTIVE)
    if ns >= sim.cost[dp.STALL_NS]:
        row.big_key = key
    return ns
