"""The twin's commands: what each does to the keys, what it costs, how long its answer is.

Mirrors keyspace.py command by command, over Python lists. Differs and not modelled: as there.
"""

from redsim.dataplane import layout as dp
from redsim.dataplane.twin import cow
from redsim.dataplane.twin.evict import first_word, touched
from redsim.dataplane.twin.expires import delete_expired_key, flush, forget, is_past_due, remove_expire, set_expire
from redsim.dataplane.twin.luck import below_ns
from redsim.dataplane.twin.memory import add, aggregate, dict_work, grown
from redsim.dataplane.twin.things import Record, Request, Sim, curve_ns

LARGEST = 2**31 - 1


def digits(n: int) -> int:
    return len(str(n))


def bulk(n: int) -> int:
    """RESP bytes of a bulk string of n bytes."""
    return 1 + digits(n) + 2 + n + 2


def draw_key(group: Record, data: Record) -> int:
    return int(data.base + group.popularity.draw(group.luck[dp.RNG_KEY]))


def draw_value(sim: Sim, group: Record, kind: Record) -> int:
    return sim.sizes[kind.vdist].draw(group.luck[dp.RNG_SIZE])


def database_keys(sim: Sim) -> int:
    return sum(data.live for data in sim.datasets)


class Keys:
    """The keyspace as one command sees it: its data set, the time, the counters."""

    def __init__(self, sim: Sim, request: Request) -> None:
        self.sim, self.request, self.kind = sim, request, request.kind
        self.group = request.slot.group
        self.data = sim.datasets[self.kind.dataset]
        self.owed = 0  # for deleting keys past their time

    def lookup(self, key: int) -> bool:
        """Is the key there? One past its time is deleted now."""
        sim = self.sim
        if sim.kv[key] == dp.NODATA:
            return False
        if self.data.volatile and is_past_due(sim, key):
            self.owed += delete_expired_key(sim, key, dp.LAZY)
            return False
        self.touch(key)
        return True

    def touch(self, key: int) -> None:
        if self.sim.child.is_alive:
            return
        self.sim.ka[key] = touched(self.sim, self.sim.ka[key])
        cow.accessed(self.sim, self.data, key)

    def changed(self, count: int) -> None:
        """server.dirty, of a command that may change nothing."""
        self.sim.aof.is_dirty = True
        self.sim.child.row[dp.CH_CHANGES] += count

    def forget(self, key: int) -> None:
        forget(self.sim, self.data, key)

    def create(self, key: int, size: int) -> None:
        """A string of `size` bytes, or an aggregate (0) whose elements are there already."""
        begins = self.sim.kv[key] == dp.NODATA
        self.sim.kv[key] = size
        if self.data.grows:
            self.sim.grown[key] = 0
        if begins:
            self.data.live += 1
            self.sim.ka[key] = first_word(self.sim)
            self.sim.eviction.link(key)
            cow.key_moves(self.sim, self.data, key, True)
            add(self.sim, self.sim.tables[dp.MAIN])
        if self.data.string:
            cow.new_value(self.sim, self.data, key, size)
        remove_expire(self.sim, self.data, key)

    def expire(self, key: int) -> None:
        """The key is due after the command's TTL."""
        late = below_ns(self.group.luck[dp.RNG_TTL], self.kind.ttl_jitter + 1) if self.kind.ttl_jitter > 0 else 0
        set_expire(self.sim, self.data, key, self.sim.now + self.kind.ttl + late)

    def seen(self, there: bool) -> None:
        """keyspace_hits, keyspace_misses."""
        if there:
            self.kind.hits += 1
            self.sim.count.hits += 1
        else:
            self.kind.misses += 1
            self.sim.count.misses += 1

    def string(self, op: int, key: int) -> tuple[int, int]:
        """SET, GET, EXPIRE, INCR, APPEND: (ns over the constant, reply bytes)."""
        sim, kind, value = self.sim, self.kind, self.request.value
        there = self.lookup(key)
        if op == dp.OP_SET:
            self.create(key, value)
            if kind.ttl > 0:
                self.expire(key)
            return value * kind.in_ps // 1000, 5
        if op == dp.OP_GET:
            self.seen(there)
            self.request.missed = not there
            return (sim.kv[key] * kind.out_ps // 1000, bulk(sim.kv[key])) if there else (0, 5)
        if op == dp.OP_EXPIRE:
            if there and kind.ttl > 0:
                self.expire(key)
            if there:
                self.changed(1)
            return 0, 4
        if op == dp.OP_INCR:
            if not there:
                self.create(key, 1)
            elif sim.child.is_known:
                cow.robj(sim, self.data, key)
            return 0, 3 + min(sim.kv[key], 20)
        size = value + (sim.kv[key] if there else 0)
        if there:
            before, room = sim.kv[key], sim.grown[key]
            sim.kv[key] = min(size, LARGEST)
            sim.grown[key] = min(grown(sim, room, sim.kv[key]), LARGEST)
            cow.appended(sim, self.data, key, before, sim.kv[key], sim.grown[key] != room)
        else:
            self.create(key, size)
        return value * kind.in_ps // 1000, 3 + digits(size)

    def many(self, op: int, first: int) -> tuple[int, int]:
        """DEL, UNLINK, EXISTS, MGET, MSET over several keys; the others are drawn now."""
        sim, kind = self.sim, self.kind
        ns = (kind.nkeys - 1) * kind.extra_ns
        reply = 5 if op == dp.OP_MSET else 3 + digits(kind.nkeys)
        for i in range(kind.nkeys):
            key = first if i == 0 else draw_key(self.group, sim.datasets[self.group.dataset])
            there = self.lookup(key)
            if op == dp.OP_MSET:
                size = self.request.value if i == 0 else draw_value(sim, self.group, kind)
                self.create(key, size)
                ns += size * kind.in_ps // 1000
            elif op == dp.OP_MGET:
                self.seen(there)
                ns += sim.kv[key] * kind.out_ps // 1000 if there else 0
                reply += bulk(sim.kv[key]) if there else 5
            elif there and op != dp.OP_EXISTS:
                if op == dp.OP_DEL and not sim.cost[dp.LAZY_DEL] and not self.data.string:
                    ns += curve_ns(sim, kind.curve_key, sim.ke[key])
                self.forget(key)
                self.changed(1)
        return ns, reply

    def write_elements(self, op: int, key: int) -> tuple[int, int]:
        """LPUSH lengthens; SADD, HSET, ZADD of an existing key replace."""
        sim, kind = self.sim, self.kind
        there = self.lookup(key)
        before = sim.ke[key] if there else 0
        if not there:
            self.changed(kind.nelem)
        if not there:
            sim.ke[key] = kind.nelem
            self.create(key, 0)
        elif op == dp.OP_PUSH:
            sim.ke[key] = min(before + kind.nelem, LARGEST)
        cow.elements(sim, self.data, key, aggregate(sim, self.data, sim.ke[key]), kind.nelem)
        ns = (kind.nelem - 1) * kind.extra_ns + kind.nelem * self.data.ebytes * kind.in_ps // 1000
        ns += kind.nelem * self.scan_ns(before)
        return ns + curve_ns(sim, kind.curve_key, before), 3 + digits(sim.ke[key])

    def scan_ns(self, n: int) -> int:
        """A listpack of n members is read up to the one wanted."""
        return n * self.kind.scan_ps // 1000 if n <= self.data.packed else 0

    def read_elements(self, op: int, key: int) -> tuple[int, int]:
        """LPOP, HGET, LRANGE, ZRANGE, HGETALL, SMEMBERS, SORT, SUNION."""
        sim, kind, size = self.sim, self.kind, self.data.ebytes
        there = self.lookup(key)
        n = sim.ke[key] if there else 0
        if op not in (dp.OP_SORT, dp.OP_UNION):
            self.seen(there)
        if op == dp.OP_POP:
            take = min(n, kind.nelem)
            if take > 0:
                self.changed(take)
                cow.elements(sim, self.data, key, aggregate(sim, self.data, n), take)
            if there:
                sim.ke[key] = n - take
                if n == take:
                    self.forget(key)
            return max(take - 1, 0) * kind.extra_ns, bulk(size) if take > 0 else 5
        if op == dp.OP_FIELD:
            return size * kind.out_ps // 1000 + self.scan_ns(n), bulk(size) if there else 5
        returned = n
        if op == dp.OP_RANGE:
            low = kind.lo if kind.lo >= 0 else max(n + kind.lo, 0)
            high = kind.hi if kind.hi >= 0 else n + kind.hi
            returned = len(range(low, min(high, n - 1) + 1))
        elif op == dp.OP_UNION:
            others = [draw_key(self.group, sim.datasets[self.group.dataset]) for _ in range(kind.nkeys - 1)]
            n = returned = n + sum(sim.ke[other] for other in others if self.lookup(other))
        ns = curve_ns(sim, kind.curve_key, n) + curve_ns(sim, kind.curve_ret, returned) + returned * size * kind.out_ps // 1000
        each = bulk(size) * (2 if op == dp.OP_ALL and kind.nelem == 2 else 1)
        return ns, 3 + digits(returned) + returned * each

    def database(self, op: int) -> tuple[int, int]:
        """KEYS, SCAN, DBSIZE, FLUSHALL."""
        sim, kind, slot = self.sim, self.kind, self.request.slot
        total = database_keys(sim)
        name = bulk(self.data.keybytes) if kind.dataset >= 0 else 5
        if op == dp.OP_DBSIZE:
            return 0, 3 + digits(total)
        if op == dp.OP_KEYS:
            matched = total * kind.match_ppm // 1_000_000
            ns = curve_ns(sim, kind.curve_db, total) + curve_ns(sim, kind.curve_ret, matched)
            return ns, 3 + digits(matched) + matched * name
        if op == dp.OP_SCAN:
            visited = len(range(slot.cursor, min(slot.cursor + kind.count, total)))
            slot.cursor = slot.cursor + visited if slot.cursor + visited < total else 0
            reply = 4 + bulk(digits(slot.cursor)) + 3 + digits(visited) + visited * name
            return curve_ns(sim, kind.curve_ret, visited), reply
        sim.child.row[dp.CH_CHANGES] += total
        sim.child.row[dp.CH_FLUSHES] += 1
        lazy = kind.nelem == 2 or (sim.cost[dp.LAZY_FLUSH] and kind.nelem != 3)
        for data in sim.datasets:
            for key in range(data.base, data.base + data.n):
                sim.kv[key] = dp.NODATA
            data.live = 0
        for keys in sim.eviction.slots:
            keys.clear()
        flush(sim)
        for table in sim.tables:
            table.used, table.bits, table.next = 0, None, None
        ns = kind.extra_ns if lazy else curve_ns(sim, kind.curve_db, total)
        if sim.child.row[dp.CH_FLUSH_SAVES]:
            ns += int(sim.child.row[dp.CH_FLUSH_NS])
            sim.child.row[dp.CH_WANT] |= dp.FLUSHED
        return ns, 5


def run_command(sim: Sim, request: Request) -> tuple[int, int]:
    """(ns inside the command's own function, reply bytes) of `request`, executed now."""
    kind, op, keys = request.kind, request.kind.op, Keys(sim, request)
    ns, reply = kind.dur, 5  # EVAL, DEBUG SLEEP
    if op in (dp.OP_SET, dp.OP_GET, dp.OP_EXPIRE, dp.OP_INCR, dp.OP_APPEND):
        ns, reply = keys.string(op, request.key)
    elif op == dp.OP_PING:
        ns, reply = 0, 7
    elif op in (dp.OP_DEL, dp.OP_UNLINK, dp.OP_EXISTS, dp.OP_MGET, dp.OP_MSET):
        ns, reply = keys.many(op, request.key)
    elif op in (dp.OP_KEYS, dp.OP_SCAN, dp.OP_DBSIZE, dp.OP_FLUSHALL):
        ns, reply = keys.database(op)
    elif op in (dp.OP_PUSH, dp.OP_PUT):
        ns, reply = keys.write_elements(op, request.key)
    elif op in (dp.OP_BGSAVE, dp.OP_SAVE, dp.OP_BGREWRITEAOF):
        ns, reply = cow.persist(sim, op, is_scheduled=kind.nelem == 2)
    elif op not in (dp.OP_SCRIPT, dp.OP_SLEEP):
        ns, reply = keys.read_elements(op, request.key)
    ns += kind.const + keys.owed
    if kind.lookups > 0:
        size_class = max(keys.data.live, 1).bit_length() - 1
        ns += kind.lookups * sim.curves[kind.lookup_curve][size_class]
    ns += dict_work(sim, kind.lookups)
    if not kind.measured:
        ns += sim.cost[dp.FIRST_NS] if sim.first else 0
        ns += sim.cost[dp.COLD_NS] * (sim.slept - 1) // sim.cost[dp.DEEP_AFTER_NS] if sim.slept else 0
    sim.first, sim.slept = False, 0
    return ns, reply
