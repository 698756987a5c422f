"""The twin's eviction: what goes when memory is short.

Written from evict.c and dict.c. Differs and not modelled: as in maxmemory.py, evict.py and dict.py.
"""

from redsim.dataplane import layout as dp
from redsim.dataplane.events import NEVER
from redsim.dataplane.evict import ALLKEYS, LFU, LRU, NO_EVICTION, VOLATILE_TTL
from redsim.dataplane.twin.aof import deletion
from redsim.dataplane.twin.expires import forget
from redsim.dataplane.twin.memory import ROBJ, dict_work, raw, sds_header, usable, used_memory
from redsim.dataplane.twin.things import Request, Sim, Table, curve_ns

POOL_SIZE = 16
S_NS, MINUTE_NS, MS_NS = 1_000_000_000, 60_000_000_000, 1_000_000


def minutes(sim: Sim) -> int:
    return sim.now // MINUTE_NS % 65536


def decayed(sim: Sim, word: int) -> int:
    """evict.c:LFUDecrAndReturn."""
    counter, since, period = word % 256, word // 256, sim.cost[dp.LFU_DECAY]
    if period == 0:
        return counter
    elapsed = minutes(sim) - since if minutes(sim) >= since else 65535 - since + minutes(sim)
    return max(counter - elapsed // period, 0)


def first_word(sim: Sim) -> int:
    """What a key that begins remembers."""
    return minutes(sim) * 256 + 5 if sim.cost[dp.POLICY] & LFU else sim.now // S_NS


def touched(sim: Sim, word: int) -> int:
    """What a key remembers after one more access."""
    if not sim.cost[dp.POLICY] & LFU:
        return sim.now // S_NS
    counter = decayed(sim, word)
    if counter < 255 and sim.eviction.luck.below(max(counter - 5, 0) * sim.cost[dp.LFU_LOG] + 1) == 0:
        counter += 1
    return minutes(sim) * 256 + counter


def score(sim: Sim, key: int) -> int:
    """The higher, the better to evict."""
    if sim.cost[dp.POLICY] & LRU:
        return sim.now // S_NS - sim.ka[key]
    if sim.cost[dp.POLICY] & LFU:
        return 255 - decayed(sim, sim.ka[key])
    return (1 << 62) - sim.kx[key] // MS_NS


def sampled_table(sim: Sim) -> tuple[Table, list[list[int]]]:
    """What victims are chosen from: the keyspace, or with volatile-* the expires."""
    if sim.cost[dp.POLICY] & ALLKEYS:
        return sim.tables[dp.MAIN], sim.eviction.slots
    return sim.tables[dp.EXPIRES], sim.expires.slots


def bucket_keys(sim: Sim, number: int) -> list[int]:
    """The keys of one of the table's buckets, in the order of its slots."""
    table, slots = sampled_table(sim)
    assert table.bits is not None
    wide = len(slots) >> table.bits
    return [key for slot in slots[number * wide : (number + 1) * wide] for key in slot]


def some_keys(sim: Sim, count: int) -> list[int]:
    """dict.c:dictGetSomeKeys: neighbours from a random bucket on; the last bucket's surplus gets a fair chance."""
    luck, bits = sim.eviction.luck, sampled_table(sim)[0].bits
    assert bits is not None
    bucket, seen, empty = luck.below(1 << bits), 0, 0
    taken: list[int] = []
    for _ in range(10 * count):
        chain = bucket_keys(sim, bucket)
        for key in chain:
            if len(taken) < count:
                taken.append(key)
            else:
                place = luck.below(seen + 1)
                if place < count:
                    taken[place] = key
            seen += 1
        if seen >= count:
            break
        empty = 0 if chain else empty + 1
        if empty >= 5 and empty > count:
            bucket, empty = luck.below(1 << bits), 0
        bucket = (bucket + 1) % (1 << bits)
    return taken


def random_key(sim: Sim) -> int:
    """dict.c:dictGetRandomKey."""
    bits = sampled_table(sim)[0].bits
    assert bits is not None
    chain: list[int] = []
    while not chain:
        chain = bucket_keys(sim, sim.eviction.luck.below(1 << bits))
    return chain[sim.eviction.luck.below(len(chain))]


def offer(pool: list[tuple[int, int]], score: int, key: int) -> None:
    """evict.c:evictionPoolPopulate: the pool by rising score; the worst goes if there is no room, be it this one."""
    at = sum(other < score for other, _ in pool)
    if len(pool) == POOL_SIZE:
        if at == 0:
            return
        del pool[0]
        at -= 1
    pool.insert(at, (score, key))


def next_victim(sim: Sim) -> int | None:
    cost, pool, table = sim.cost, sim.eviction.pool, sampled_table(sim)[0]
    sim.charge(cost[dp.EVICT_CAUSE], cost[dp.SAMPLES] * sim.curves[cost[dp.SAMPLE_CURVE]][table.bits or 0])
    if table.used == 0:
        return None
    if not cost[dp.POLICY] & (LRU | LFU) and cost[dp.POLICY] != VOLATILE_TTL:
        return random_key(sim)
    while True:
        for key in some_keys(sim, min(cost[dp.SAMPLES], table.used)):
            offer(pool, score(sim, key), key)
        while pool:
            _, key = pool.pop()
            if sim.kv[key] != dp.NODATA and (cost[dp.POLICY] & ALLKEYS or sim.kx[key] > 0):
                return key


def evict(sim: Sim, key: int) -> int:
    """Delete a victim; ns of it."""
    cost, start = sim.cost, sim.now
    data = next(data for data in sim.datasets if data.base <= key < data.base + data.n)
    sim.charge(cost[dp.EVICT_CAUSE], sim.curves[cost[dp.EVICT_CURVE]][sim.tables[dp.MAIN].bits or 0])
    sim.charge(cost[dp.EVICT_CAUSE], dict_work(sim, cost[dp.SAMPLES] + 2))
    if not data.string and (not cost[dp.LAZY_EVICT] or sim.ke[key] <= 64):
        sim.charge(cost[dp.EVICT_DEL_CAUSE], curve_ns(sim, data.del_curve, sim.ke[key]))
    if cost[dp.POLICY] & LFU:
        sim.eviction.ages.append(60 * ((minutes(sim) - sim.ka[key] // 256) % 65536))
    else:
        sim.eviction.ages.append(sim.now // S_NS - sim.ka[key])
    forget(sim, data, key)
    sim.count.evicted += 1
    sim.charge(cost[dp.EVICT_CAUSE], deletion(sim, data, cost[dp.LAZY_EVICT]))
    return sim.now - start


def make_room(sim: Sim, request: Request) -> bool:
    """Before a command: may it be executed? Its arguments count meanwhile."""
    if sim.cost[dp.MAXMEMORY] >= NEVER:
        return True
    sim.arguments = argument_bytes(sim, request)
    result = perform_evictions(sim)
    sim.arguments = 0
    return result != "fail" or not request.kind.denyoom


def argument_bytes(sim: Sim, request: Request) -> int:
    """The value among the arguments; a big one was the query buffer, in whose place there is another one as large."""
    n = request.value
    if request.kind.vdist < 0 or n == 0:
        return 0
    if n <= 44:
        return usable(sim, ROBJ + 3 + n + 1)
    if n < 32768:
        return raw(sim, n)
    return raw(sim, n + 2) + usable(sim, sds_header(n + 2) + n + 2 + 1) - sim.cost[dp.QUERY_BYTES]


def eviction_timer(sim: Sim) -> None:
    """evict.c:evictionTimeProc."""
    if sim.eviction.is_armed and perform_evictions(sim) != "running":
        sim.eviction.is_armed = False


def perform_evictions(sim: Sim) -> str:
    """evict.c:performEvictions: "ok", "running" or "fail"."""
    too_much = used_memory(sim) - sim.cost[dp.MAXMEMORY]
    if too_much <= 0:
        result = "ok"
    elif sim.cost[dp.POLICY] == NO_EVICTION:
        result = "fail"
    else:
        result = evict_keys(sim, too_much)
    if result != "ok" and sim.eviction.exceeded_from is None:
        sim.eviction.exceeded_from = sim.now
    elif result == "ok" and sim.eviction.exceeded_from is not None:
        sim.count.exceeded_ns += sim.now - sim.eviction.exceeded_from
        sim.eviction.exceeded_from = None
    return result


def evict_keys(sim: Sim, to_free: int) -> str:
    cost, start = sim.cost, sim.now
    freed, evicted, longest = 0, 0, (0, dp.NONE)
    result = "ok"
    while freed < to_free:
        key = next_victim(sim)
        if key is None:
            result = "fail"
            break
        before = used_memory(sim)
        ns = evict(sim, key)
        freed += before - used_memory(sim)
        longest = max(longest, (ns, key), key=lambda one: one[0])
        evicted += 1
        if evicted % 16 == 0:
            if cost[dp.LAZY_EVICT] and used_memory(sim) <= cost[dp.MAXMEMORY]:
                break
            if (sim.now - start) // 1000 > cost[dp.EVICT_LIMIT_US]:
                sim.eviction.is_armed = True
                break
    if sim.now - start >= cost[dp.STALL_NS]:
        is_one_key = longest[0] >= cost[dp.STALL_NS]
        sim.stall(
            cost[dp.EVICT_DEL_CAUSE if is_one_key else dp.EVICT_CAUSE], start, dp.NONE, longest[1] if is_one_key else dp.NONE
        )
    return "running" if result == "ok" and sim.eviction.is_armed else result
