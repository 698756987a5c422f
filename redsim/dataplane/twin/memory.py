"""The twin's used_memory: no running total, but everything there is, added up each time it is asked for.

Written from zmalloc.c, sds.c, object.c, networking.c and dict.c. Differs and not modelled: as in memory.py and rehash.py.
"""

from redsim.dataplane import layout as dp
from redsim.dataplane.events import NEVER
from redsim.dataplane.memory import (
    DENSE,
    DENSE_BITS,
    L_DEPTH,
    L_ENTRY,
    L_FIRST,
    L_FULL,
    L_HEADER,
    L_LARGE,
    L_NODE,
    L_PER_NODE,
    L_SAVED,
    L_SIZE,
    L_SMALL,
)
from redsim.dataplane.twin.things import Conn, Record, Sim, Table

ROBJ, LIST_NODE, BLOCK_HEADER = 16, 24, 16
REPLY_BUFFER, REPLY_BUFFER_MIN = 16384, 1024
PEAK_RESET_NS = 5_000_000_000
MS_NS = 1_000_000


def usable(sim: Sim, n: int) -> int:
    if n <= 65536:
        return sim.tab[sim.cost[dp.USABLE] + -(-n // 8)]
    if sim.cost[dp.LIBC]:
        chunk = -(-(n + 8) // 16) * 16
        return chunk - 8 if chunk < 131072 else -(-(chunk + 8) // 4096) * 4096 - 16
    group = 1 << (n - 1).bit_length() - 3
    return -(-n // group) * group


def sds_header(n: int) -> int:
    return next(header for header, limit in ((1, 32), (3, 256), (5, 65536), (9, 2**62)) if n < limit)


def raw(sim: Sim, room: int) -> int:
    return usable(sim, ROBJ) + usable(sim, max(sds_header(room), 3) + room + 1)


def string(sim: Sim, data: Record, size: int, room: int = 0) -> int:
    """A value as SET leaves it, or with a buffer of `room` bytes that APPEND has made."""
    if room > 0:
        return raw(sim, room)
    if data.int and size <= 20:
        return 0 if sim.cost[dp.SHARED_INTS] and size <= 4 else usable(sim, ROBJ)
    if size <= 44:
        return usable(sim, ROBJ + 3 + size + 1)
    return raw(sim, size + 2 if size >= 32768 else size)


def aggregate(sim: Sim, data: Record, n: int) -> int:
    if n <= DENSE:
        return sim.tab[data.sizes + n]
    if data.list:
        return quicklist(sim, sim.tab[data.sizes + DENSE + 1 :][:L_SIZE], n)
    octave = (n - 1).bit_length() - 1
    first, each = sim.tab[data.sizes + DENSE + 1 + 2 * (octave - DENSE_BITS) :][:2]
    return first + each * (n - 2**octave - 1) // 1024


def quicklist(sim: Sim, law: list[int], n: int) -> int:
    """Node by node, from the tail that was pushed first."""
    if n <= law[L_FIRST]:
        return law[L_SMALL] + usable(sim, law[L_HEADER] + n * law[L_ENTRY])
    counts = [law[L_PER_NODE]] * ((n - law[L_FIRST]) // law[L_PER_NODE])
    last = n - law[L_FIRST] - sum(counts)
    blocks = [law[L_FULL] for _ in counts]
    if last:
        blocks.append(law[L_NODE] + usable(sim, law[L_HEADER] + last * law[L_ENTRY]))
    inner = range(law[L_DEPTH], 1 + len(blocks) - law[L_DEPTH])
    return law[L_LARGE] + sum(blocks) - law[L_SAVED] * len(inner)


def grown(sim: Sim, room: int, size: int) -> int:
    """sds.c:sdsMakeRoomFor: the buffer of an appended value that is `size` bytes long now."""
    if room >= size:
        return room
    wanted = 2 * size if size < 2**20 else size + 2**20
    header = max(sds_header(wanted), 3)
    return usable(sim, header + wanted + 1) - header - 1


def reply_list(sim: Sim, out: int, buffer: int) -> int:
    block = usable(sim, REPLY_BUFFER + BLOCK_HEADER)
    blocks = -(-max(out - buffer, 0) // (block - BLOCK_HEADER))
    return blocks * (block + usable(sim, LIST_NODE))


def client(sim: Sim, conn: Conn) -> int:
    query = usable(sim, max(sds_header(conn.alloc), 3) + conn.alloc + 1) if conn.alloc > 0 else 0
    if conn.alloc == sim.cost[dp.QB_ALLOC]:
        query = sim.cost[dp.QUERY_BYTES]
    return sim.cost[dp.CLIENT_BYTES] + usable(sim, conn.reply_buffer) + query + reply_list(sim, conn.out, conn.reply_buffer)


def used_memory(sim: Sim) -> int:
    """From scratch."""
    total = sim.cost[dp.STARTUP_BYTES] + sim.arguments
    for data in sim.datasets:
        for key in range(data.base, data.base + data.n):
            if sim.kv[key] == dp.NODATA:
                continue
            total += data.keymem
            if data.string:
                total += string(sim, data, sim.kv[key], sim.grown[key] if data.grows else 0)
            else:
                total += aggregate(sim, data, sim.ke[key])
            if data.volatile and sim.kx[key] > 0:
                total += sim.cost[dp.ENTRY_BYTES]
    total += len({kind.cause for kind in sim.kinds if kind.calls > 0}) * sim.cost[dp.HISTOGRAM_BYTES]
    for table in sim.tables:
        total += sum(usable(sim, 8 << bits) for bits in (table.bits, table.next) if bits is not None)
    return total + sum(client(sim, conn) for conn in sim.rows if conn is not None and conn.accepted)


# ---- tables ----------------------------------------------------------------------------------------------------------


def add(sim: Sim, table: Table) -> None:
    """dict.c:dictAddRaw."""
    if table.bits is None:
        table.bits = 2
    elif table.next is None and table.used >= 2**table.bits:
        must_wait = sim.child.is_alive and table.used < sim.cost[dp.FORCE_RATIO] * 2**table.bits
        is_crowded = 1000 * table.used // 2**table.bits > 1618
        bits = table.used.bit_length()
        if not must_wait and (is_crowded or not over_maxmemory(sim, 8 << bits)):
            begin(sim, table, bits)
    table.used += 1


def over_maxmemory(sim: Sim, more: int) -> bool:
    """server.c:overMaxmemoryAfterAlloc."""
    return sim.cost[dp.MAXMEMORY] < int(NEVER) and used_memory(sim) + more > sim.cost[dp.MAXMEMORY]


def remove(sim: Sim, table: Table) -> None:
    table.used -= 1
    if sim.cost[dp.SHRINK_ON_DELETE]:
        shrink(sim, table)


def shrink(sim: Sim, table: Table) -> None:
    """server.c:tryResizeHashTables; from 7.4 a fill of exactly one eighth is sparse already."""
    if table.next is not None or table.bits is None or table.bits <= 2:
        return
    used = table.used * sim.cost[dp.FORCE_RATIO] if sim.child.is_alive else table.used
    fill, limit = 1000 * used, sim.cost[dp.FILL_PERMILLE] * 2**table.bits
    if fill < limit or (sim.cost[dp.SHRINK_ON_DELETE] and fill == limit):
        begin(sim, table, max(2, (table.used - 1).bit_length() if table.used > 1 else 0))


def begin(sim: Sim, table: Table, bits: int) -> None:
    assert table.bits is not None
    sim.dict_ns += sim.cost[dp.EXPAND_NS] + (8 << bits) * sim.cost[dp.EXPAND_PS] // 1000
    table.next, table.left = bits, 1000 * 2**table.bits


def move(sim: Sim, table: Table, count: int, at_once: bool) -> int:
    """`count` times dict.c:dictRehash of one bucket, or once of `count`: ns. Buckets are counted in thousandths."""
    assert table.bits is not None
    empty = 1.0 - table.used / 2**table.bits / 1024.0
    for _ in range(10):
        empty = empty * empty
    passed, ns = table.left, 0
    if empty < 1.0:
        ten_empty = 1.0
        for _ in range(10):
            ten_empty *= empty
        each = min(1000.0 / (1.0 - empty), 11000.0) if at_once else 1000.0 * (1.0 - ten_empty) / (1.0 - empty)
        passed = min(count * int(each), table.left)
        moved = int(passed * (1.0 - empty))
        ns = (moved * sim.curves[sim.cost[dp.REHASH_CURVE]][table.bits] + (passed - moved) * sim.cost[dp.EMPTY_BUCKET_NS]) // 1000
    table.left -= passed
    if table.left <= 0:
        table.bits, table.next = table.next, None
    return int(ns)


def is_frozen(sim: Sim, table: Table) -> bool:
    """A child is alive, and the new table is of about the size of the old one."""
    assert table.bits is not None
    assert table.next is not None
    if not sim.child.is_alive:
        return False
    if table.next > table.bits:
        return bool(table.next - table.bits < sim.cost[dp.FORCE_GROW_BITS])
    return bool(table.bits - table.next < sim.cost[dp.FORCE_SHRINK_BITS])


def dict_work(sim: Sim, steps: int) -> int:
    """What a command pays: new tables, and a step of each rehash for each of its look-ups."""
    ns, sim.dict_ns = sim.dict_ns, 0
    for table in sim.tables:
        if table.next is not None and steps > 0 and not is_frozen(sim, table):
            ns += move(sim, table, steps, False)
    return ns


def databases_cron(sim: Sim, rehash: bool) -> None:
    """server.c:databasesCron."""
    for table in sim.tables:
        if not sim.child.is_alive:
            shrink(sim, table)
    start = sim.now
    rehash = rehash and not sim.child.is_alive
    busy = [table for table in sim.tables if table.next is not None]
    while rehash and busy and busy[0].next is not None:
        sim.charge(dp.CRON, move(sim, busy[0], 100, True))
        if sim.cost[dp.REHASH_US]:
            is_over = sim.now - start >= MS_NS
        else:
            is_over = sim.now // MS_NS - start // MS_NS >= 2
        if is_over:
            break
    sim.charge(dp.CRON, dict_work(sim, 0))
    if sim.now - start >= sim.cost[dp.STALL_NS]:
        sim.stall(dp.CRON, start, dp.NONE, dp.NONE)


def resize_reply_buffer(sim: Sim, conn: Conn) -> None:
    """server.c:clientsCronResizeOutputBuffer."""
    if sim.cost[dp.FIXED_RBUF] or conn.out > conn.reply_buffer:
        return
    size, wanted = conn.reply_buffer, 0
    if size // 2 >= REPLY_BUFFER_MIN and conn.peak < size // 2:
        wanted = max(REPLY_BUFFER_MIN, conn.peak + 1)
    elif size < REPLY_BUFFER and conn.peak == size:
        wanted = min(REPLY_BUFFER, 2 * size)
    if sim.now - conn.peak_since > PEAK_RESET_NS:
        conn.peak, conn.peak_since = conn.out, sim.now
    if wanted:
        conn.reply_buffer = usable(sim, wanted)
