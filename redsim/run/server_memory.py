"""The server's memory while it runs, as Redis would report it: used_memory, its overhead, and the pages behind the keys.

Mirrors what server.c:cronUpdateMemoryStats samples for INFO; the laws are redis/memory_overhead.py, redis/zmalloc.py and
host/memory.py, the running total is dataplane/memory.py.

    data against their peak, or what activedefrag left -> slabs in use -> allocator_active -> resident -> RSS

Differs: keys and values are blocks of their mean sizes, and what is gone since the peak went at random; pages freed between two
readings start to decay at the later one.
Not modelled: new blocks of another size class, which cannot use the room that deletes left.
"""

from dataclasses import dataclass, field
from typing import Any

from redsim.dataplane import layout as dp
from redsim.dataplane.memory import at_rest
from redsim.host.malloc import ALLOCATORS
from redsim.host.memory import Blocks, active_after_random_deletes, active_bytes, dirty_bytes, merge, touched_bytes, used_bytes
from redsim.redis.aof import aof_buffer_bytes
from redsim.redis.client_memory import PROTO_REPLY_CHUNK_BYTES, ClientBuffers, client_counted_bytes
from redsim.redis.config import Rules
from redsim.redis.defrag import ActiveDefrag, DefragPolicy, Fragments, defrag_returns_bytes
from redsim.redis.dict import POINTER_BYTES
from redsim.redis.memory_overhead import not_counted_for_evict_bytes
from redsim.redis.memory_report import DbMemory, ServerMemory
from redsim.redis.zmalloc import Pages, pages
from redsim.scenario.load import Scenario
from redsim.units import MIB

__all__ = ["MemoryGauge"]

_FREED_EXTENT_BYTES = MIB  # slabs come free one by one: none of them is an oversize extent
_DICTS = (dp.MAIN, dp.EXPIRES)


@dataclass(slots=True)
class MemoryGauge:
    """Reads a World now and then; in between it remembers the data's peak and the pages that came free.

    state    rules        version, allocator and conf of the node
             data_peak    bytes of keys and values at their most
             slabs_peak   the same since activedefrag last packed them, None: it never did
             reading      what the last reading was made from, what it found, used_memory by its parts
             active       bytes of their pages, and of the tables, at the last reading
             used_peak    the largest used_memory read so far, or the server's own
             rss_peak     the largest RSS read so far
             host_bytes   memory of the host
             dense        bytes of those pages if they had no gaps
             freed        (when in ns, bytes of pages) of those that have not all been returned
             blocks       keys and values at the last reading
             defrag       the node's active defragmentation, None: off
    """

    rules: Rules
    host_bytes: int = 0
    data_peak: int = 0
    active: int = 0
    dense: int = 0
    freed: list[tuple[int, int]] = field(default_factory=list)
    used_peak: int = 0
    rss_peak: int = 0
    blocks: Blocks = field(default_factory=dict)
    defrag: ActiveDefrag | None = None
    slabs_peak: int | None = None
    reading: tuple[tuple[Any, ...], ServerMemory, dict[str, int]] | None = None
    is_over: bool = False
    _passes: int = 0

    @classmethod
    def of(cls, scenario: Scenario, node: str) -> "MemoryGauge":
        """The gauge of a node of the scenario, before its run."""
        written = scenario.file.nodes[node]
        host_bytes = scenario.file.hosts[written.host].memory or scenario.profiles[written.host].memory_bytes
        return cls(Rules(scenario.confs[node], ALLOCATORS[written.allocator]), host_bytes)

    def begin_again(self) -> None:
        """A new process: no peak, no gaps, no pages to return; the largest RSS of the run stays."""
        self.data_peak = self.active = self.dense = self.used_peak = 0
        self.slabs_peak, self.reading = None, None
        self.freed.clear()

    def read(self, w: dp.World) -> ServerMemory:
        """The server's memory at this moment of the run; INFO memory, MEMORY STATS and the doctor are made from it."""
        if self.is_over and self.reading is not None:
            return self.reading[1]
        used = int(w.st[dp.USED]) + self._aof_buffer(w)
        self.used_peak = peak = max(self.used_peak, int(w.st[dp.USED_PEAK]), used)  # INFO looks, as the cron does
        clients, called = at_rest(w)
        counted = used, peak, clients, called, int(w.repl[dp.M_MEMORY]), int(w.st[dp.CLIENTS])
        made_from = (*counted, w.dataset.tobytes(), w.dicts.tobytes())
        if self.reading and self.reading[0] == made_from and not self.freed and not self.defrag:
            return self.reading[1]
        found = self._read(w, used, peak, clients, called)
        self.reading = (made_from, found, self._parts(w, clients))
        return found

    def end(self, w: dp.World) -> None:
        """The run is over: what is read from now on is what there is now, whatever is counted together afterwards."""
        self.read(w)
        self.is_over = True

    def _read(self, w: dp.World, used: int, peak: int, clients: int, called: int) -> ServerMemory:
        tables = self._tables(w)
        aof_buffer = self._aof_buffer(w)
        rest = (
            int(w.cost[dp.STARTUP_BYTES]) + clients + used_bytes(tables) + called * int(w.cost[dp.HISTOGRAM_BYTES]) + aof_buffer
        )
        buffers, backlog = int(w.repl[dp.M_MEMORY]), int(w.repl[dp.M_BACKLOG])
        rest += buffers
        data = used - rest
        assert data >= 0, "keys and values take some of used_memory, not less than none"
        self.data_peak = max(self.data_peak, data, peak - rest if data else 0)
        return ServerMemory(
            used=used,
            peak=peak,
            startup=int(w.cost[dp.STARTUP_BYTES]),
            dbs=_databases(w),
            pages=self._pages(w, data, tables),
            rules=self.rules,
            clients_normal=self._counted(w, clients),
            aof_buffer=aof_buffer,
            not_counted_for_evict=not_counted_for_evict_bytes(buffers, backlog, aof_buffer) if backlog else aof_buffer,
            replicas=sum(row[dp.W_FROM] == w.repl[dp.M_SELF] and row[dp.W_STATE] != dp.WIRE_OFF for row in w.wire),
            replication_buffers=buffers,
            backlog_size=backlog,
            normal_clients=int(w.st[dp.CLIENTS]),
            maxmemory=self.rules.limit("maxmemory"),
            maxmemory_policy=str(self.rules.conf.get("maxmemory-policy")),
            total_system=self.host_bytes,
            active_defrag_running=self.defrag.running_percent if self.defrag else 0,
        )

    def fragments(self, w: dp.World) -> Fragments:
        """What a scan of activedefrag would find now."""
        m = self.read(w)
        in_slabs = self.active - used_bytes(self._tables(w))
        holes_share = (self.active - self.dense) / in_slabs if in_slabs else 0.0
        buckets, keys = sum(_slots(w, dp.MAIN)), int(w.dataset[:, dp.D_LIVE].sum())
        return Fragments(m.pages.allocated_bytes, m.pages.active_bytes, keys, buckets, sum(self.blocks.values()), holes_share)

    def parts(self, w: dp.World) -> dict[str, int]:
        """used_memory by what it was allocated for, in bytes; the parts add up to it."""
        self.read(w)
        assert self.reading is not None, "it was just read"
        return self.reading[2]

    def _aof_buffer(self, w: dp.World) -> int:
        """Bytes of aof_buf: not in the data plane's USED, as eviction does not count it."""
        return aof_buffer_bytes(int(w.aof[dp.A_ROOM]), self.rules)

    def _parts(self, w: dp.World, clients: int) -> dict[str, int]:
        used, startup = int(w.st[dp.USED]), int(w.cost[dp.STARTUP_BYTES])
        tables, keys = used_bytes(self._tables(w)), _keys_bytes(w)
        buffers = int(w.repl[dp.M_MEMORY])
        values = used - startup - clients - tables - keys - buffers
        return {"startup": startup, "clients": clients, "tables": tables, "keys": keys, "values": values,
                "replication_buffers": buffers, "aof_buffer": self._aof_buffer(w)}  # fmt: skip

    def defrag_returns(self, memory: ServerMemory) -> tuple[int, int]:
        """Bytes that activedefrag would give back at the last reading, which was `memory`: (at least, at most)."""
        allocated, active = memory.pages.allocated_bytes, memory.pages.active_bytes
        dense = active - (self.active - self.dense)
        return defrag_returns_bytes(allocated, active, dense, self.rules.allocator, DefragPolicy.of(self.rules.conf))

    def _pages(self, w: dp.World, data: int, tables: Blocks) -> Pages:
        allocator, table_bytes, now = self.rules.allocator, used_bytes(tables), int(w.st[dp.NOW])
        blocks = _mean_blocks(w, data, self.rules)
        at_peak = _before_deletes(blocks, data / self.data_peak if self.data_peak else 1.0)
        active = self._data_active(blocks, data) + table_bytes
        if active < self.active:
            self.freed.append((now, self.active - active))
        self.active = active
        self.dense = active_bytes(blocks, allocator) + table_bytes
        left = [(at, dirty_bytes(_FREED_EXTENT_BYTES, now - at, allocator) / _FREED_EXTENT_BYTES) for at, _ in self.freed]
        dirty = round(sum(size * part for (_, size), (_, part) in zip(self.freed, left, strict=True)))
        self.freed = [entry for entry, (_, part) in zip(self.freed, left, strict=True) if part]
        figures = pages(
            int(w.st[dp.USED]),
            merge(blocks, tables),
            self.rules,
            peak_blocks=merge(at_peak, tables),
            blocks_active_bytes=active,
            dirty=dirty,
            untouched=_untouched_bytes(w),
        )
        self.rss_peak = max(self.rss_peak, figures.rss_bytes)
        return figures

    def _data_active(self, blocks: Blocks, data: int) -> int:
        """Pages of the data; a whole scan of activedefrag leaves them as if loaded in order."""
        scanned_share = 0.0
        if self.defrag is not None:
            scanned_share = self.defrag.scanned_share
            if self.defrag.passes != self._passes:
                self._passes, self.slabs_peak = self.defrag.passes, data
        if self.slabs_peak is not None:
            self.slabs_peak = max(self.slabs_peak, data)
        peak = self.data_peak if self.slabs_peak is None else self.slabs_peak
        share = data / peak if peak else 1.0
        self.blocks = blocks
        return active_after_random_deletes(_before_deletes(blocks, share), 1 - share, self.rules.allocator, scanned_share)

    def _counted(self, w: dp.World, clients: int) -> int:
        """What mem_clients_normal counts of the bytes that the server has for its clients."""
        fixed = client_counted_bytes(ClientBuffers(reply_bytes=0), self.rules)
        if w.cost[dp.FIXED_RBUF]:
            fixed -= PROTO_REPLY_CHUNK_BYTES  # 6.2: the reply buffer is in the struct
        return clients - int(w.st[dp.CLIENTS]) * (int(w.cost[dp.CLIENT_BYTES]) - fixed)

    def _tables(self, w: dp.World) -> dict[int, float]:
        return merge(*({self.rules.allocator.usable(POINTER_BYTES * slots): 1} for h in _DICTS for slots in _slots(w, h)))


def _before_deletes(blocks: Blocks, left_share: float) -> dict[int, float]:
    """The census of which `left_share` is left."""
    return {size: count / left_share for size, count in blocks.items()} if left_share else {}


def _slots(w: dp.World, h: int) -> list[int]:
    """Buckets of each table of a dict."""
    return [1 << int(w.dicts[h, column]) for column in (dp.H_BITS, dp.H_NEXT) if w.dicts[h, column] != dp.NONE]


def _databases(w: dp.World) -> dict[int, DbMemory]:
    keys, expires = (int(w.dicts[h, dp.H_USED]) for h in _DICTS)
    if keys == 0:
        return {}
    moving = [h for h in _DICTS if w.dicts[h, dp.H_NEXT] != dp.NONE]
    old_bytes = sum(POINTER_BYTES << int(w.dicts[h, dp.H_BITS]) for h in moving)
    return {0: DbMemory(keys, expires, sum(_slots(w, dp.MAIN)), sum(_slots(w, dp.EXPIRES)), len(moving), old_bytes)}


def _keys_bytes(w: dp.World) -> int:
    """Of the keys' names and of the dictEntries of both dicts."""
    entry = int(w.cost[dp.ENTRY_BYTES])
    rows = w.dataset[:, [dp.D_LIVE, dp.D_KEYMEM, dp.D_EXPIRES]].tolist()
    return sum(live * each + expires * entry for live, each, expires in rows)


def _mean_blocks(w: dp.World, data: int, rules: Rules) -> dict[int, float]:
    """Keys, dictEntries and values of `data` bytes as blocks of their mean sizes' classes; counts that add up to `data`."""
    entry = int(w.cost[dp.ENTRY_BYTES])
    keys, expires = (int(w.dataset[:, column].sum()) for column in (dp.D_LIVE, dp.D_EXPIRES))
    if keys == 0:
        return {}
    entries = (keys + expires) * entry
    names = _keys_bytes(w) - entries
    parts = ((keys + expires, entries), (keys, names), (keys, data - entries - names))
    blocks: dict[int, float] = {}
    for count, total in parts:
        if total > 0:
            size = rules.allocator.usable(round(total / count))
            blocks[size] = blocks.get(size, 0) + total / size
    return blocks


def _untouched_bytes(w: dp.World) -> int:
    """Pages of new tables that no bucket was moved to yet: a rehash goes from the first bucket on, an upper and a lower half."""
    untouched = 0
    for h in _DICTS:
        if w.dicts[h, dp.H_NEXT] != dp.NONE:
            size = POINTER_BYTES << int(w.dicts[h, dp.H_NEXT])
            moved = 1 - int(w.dicts[h, dp.H_LEFT]) / (1000 << int(w.dicts[h, dp.H_BITS]))
            untouched += size - touched_bytes(size, round(size * moved), 0)
    return untouched
