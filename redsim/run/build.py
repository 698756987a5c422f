"""From a Scenario to a World: rows, tables and streams of one server and its clients. Nothing runs here.

check(scenario) makes the plans only, so that `redsim lint` finds every mistake without allocating the keys.
"""

from dataclasses import dataclass, field

import numpy as np

from redsim.dataplane import layout as dp
from redsim.dataplane.events import NEVER
from redsim.dataplane.plain import may_be_plain
from redsim.host.malloc import ALLOCATORS
from redsim.records import Cause, LatencyEvent
from redsim.redis.config import Rules
from redsim.redis.expire import EVENT, expires_table, expiry_row
from redsim.redis.networking import loop_costs
from redsim.rng import stream
from redsim.run.aof import aof_row
from redsim.run.bgsave import child_row, note_resident
from redsim.run.crash_plan import plan_crashes
from redsim.run.crowd import commands_about, connect, taking_turns
from redsim.run.datasets import fill_datasets
from redsim.run.defrag import has_defrag
from redsim.run.eviction import eviction_costs, sampled_tables
from redsim.run.groups import Plan, Plans, make_plans
from redsim.run.kinds import Kind, KindMaker, maker_of
from redsim.run.lookups import set_lookup_curves
from redsim.run.memory import count_used_memory, first_tables, memory_costs, size_datasets
from redsim.run.refusals import io_threads
from redsim.run.replicas import Family
from redsim.scenario.load import Scenario
from redsim.scenario.profile import HostProfile
from redsim.scenario.schema import Dataset, Hiccups
from redsim.units import MS
from redsim.workload.arrivals import Rates, plan_rates
from redsim.workload.keys import KeyChoice, key_choice
from redsim.workload.tables import alias_words

STREAMS = ("mix", "keys", "arrivals", "connections", "sizes", "jitter", "ttls", "fetches")
WINDOWS = 200
MANY_COMMANDS = 5_000_000  # from here on a loop of their own pays for plain Worlds: it takes half a minute to compile, once
JITTER = {"none": 0, "full": 1, "equal": 2}


@dataclass
class Built:
    """A World and the names of its rows."""

    world: dp.World
    plans: Plans
    kinds: list[Kind]  # in row order; the row's group is kind.group
    series: list[tuple[str, str]]  # (group, command) of each series
    causes: list[str]  # names of the columns of held, from OWN on; those behind them have none
    node: str
    host: str
    cores: int
    datasets: dict[str, Dataset]
    elsewhere: set[str] = field(default_factory=set)  # groups that are told of with another server


def check(scenario: Scenario) -> None:
    """Raise ScenarioError for whatever a run would trip over: commands, key types, io-threads of an unknown kind."""
    for node in scenario.file.nodes:
        view = scenario.of_node(node)
        make_plans(view, maker_of(_profile(view, node)))
        io_threads(view, node)
        has_defrag(view, node)


def build(scenario: Scenario, family: Family | None = None) -> Built:
    """Allocate and fill the World of the one server of a scenario, or of a node's part of one, which `family` belongs to."""
    node = next(iter(scenario.file.nodes))
    maker = maker_of(_profile(scenario, node))
    plans = make_plans(scenario, maker)
    return _Builder(scenario, node, maker, plans, family or Family(scenario)).build()


def _profile(scenario: Scenario, node: str) -> HostProfile:
    return scenario.profiles[scenario.file.nodes[node].host]


class _Builder:
    """Holds what the parts of a build share; build() is the only entry."""

    def __init__(self, scenario: Scenario, node: str, maker: KindMaker, plans: Plans, family: Family) -> None:
        self.family = family
        self.writers = plans  # whose commands say what becomes of keys: on a replica its master's
        if family.is_replica(node):
            assert family.plans is not None, "a master is built before its replicas"
            self.writers, plans.datasets = family.plans, family.plans.datasets
        else:
            family.plans = plans
        if family.has_roles:
            self.writers = family.writers = family.writers or family.everybody(plans)
        self.scenario, self.node, self.maker, self.plans = scenario, node, maker, plans
        self.file = scenario.file
        self.profile = _profile(scenario, node)
        self.tables = maker.tables
        self.kinds: list[Kind] = []
        self.series: list[tuple[str, str]] = []
        host = self.file.hosts[self.file.nodes[node].host]
        self.cores = host.cores or self.profile.cores
        self.nic = host.nic
        self.hiccups: Hiccups | None = None
        if isinstance(host.hiccups, Hiccups):
            self.hiccups = host.hiccups
        elif host.hiccups == "profile":
            self.hiccups = Hiccups.model_construct(every=self.profile.hiccup_every_ns, table=list(self.profile.hiccup_table_ns))

    def build(self) -> Built:
        dataset, keys = fill_datasets(self.writers, self.file.seed)
        group, slot, thread = self._groups(dataset)
        rules = Rules(self.scenario.confs[self.node], ALLOCATORS[self.file.nodes[self.node].allocator])
        kind = self._kind_rows(group, rules)
        keys |= self._expires(dataset, keys["kx"])
        cost = self._costs(group)
        memory_costs(cost, rules, self.tables)
        eviction_costs(cost, self.scenario.confs[self.node], self.maker, self.file.seed, int(dataset[:, dp.D_N].sum()),
                       is_replica=self.family.is_replica(self.node) and not self.family.has_roles)
        if has_defrag(self.scenario, self.node):
            self.maker.cause(str(LatencyEvent.ACTIVE_DEFRAG_CYCLE))
        self.aof = aof_row(self.scenario, self.node, self.maker)
        self.repl = self.family.arrays(self.scenario, self.node, self.maker, self.aof)
        self.crashes = plan_crashes(self.file, self.node, self.maker, self.aof)
        self.repl["repl"][dp.M_COUNTS] = int(self.aof[dp.A_POLICY] > 0 and (kind[:, dp.K_OP] == dp.OP_WAITAOF).any())
        cost[dp.REHASH_CURVE] = self.maker.curves.number("rehash")
        written = [kind.row for plan in self.writers.plans for kind in plan.all_kinds]
        size_datasets(dataset, self.plans.datasets, written, rules, self.tables)
        for row, data in zip(dataset, self.plans.datasets.values(), strict=False):
            row[dp.D_DEL_CURVE] = self.maker.curves.number("" if data.type == "string" else f"del_{data.type}")
        self.child = child_row(self.scenario, self.node, self.kinds, self.maker, dataset, self.plans.datasets, rules,
                               int(cost[dp.ENTRY_BYTES]))  # fmt: skip
        world = self._world(dataset, keys, group, slot, thread, kind, cost, self._rates())
        note_resident(self.scenario, self.node, world)
        return Built(world, self.plans, self.kinds, self.series, [*map(str, Cause), *self.maker.causes], self.node,
                     self.file.nodes[self.node].host, self.cores, self.plans.datasets)  # fmt: skip

    def _expires(self, dataset: dp.I64, kx: dp.I64) -> dict[str, np.ndarray]:
        """The keys with a TTL and what the cycles go by; a cause of its own only where a key can have one."""
        volatile = np.flatnonzero(dataset[:, dp.D_VOLATILE])
        cause = self.maker.cause(EVENT) if volatile.size else dp.CRON
        row = expiry_row(self.profile, self.scenario.confs[self.node], self.file.nodes[self.node].version, cause)
        curves = self.maker.curves
        row[dp.X_DEL_CURVE] = curves.number("expire_del" if "expire_del" in self.profile.curves else "lookup")
        for d in volatile:
            dataset[d, dp.D_DEL_CURVE] = self.maker.curves.number(f"del_{list(self.plans.datasets.values())[d].type}")
        heads, nexts = expires_table(row, kx, int(dataset[volatile, dp.D_N].sum()), self.file.seed)
        return {"xhead": heads, "xnext": nexts, "expiry": row}

    # ---- groups, slots, threads

    def _groups(self, dataset: dp.I64) -> tuple[dp.I64, dp.I64, dp.I64]:
        group = dp.rows(max(len(self.plans.plans), 1), dp.G_SIZE)
        slots: list[dp.I64] = []
        threads: list[dp.I64] = []
        for g, plan in enumerate(self.plans.plans):
            row = group[g]
            row[dp.G_SLOT0], row[dp.G_SLOTS] = sum(len(s) for s in slots), plan.connections
            row[dp.G_THREAD0] = len(threads)
            self._group_load(row, plan)
            self._group_network(row, plan)
            self._group_keys(row, plan, dataset)
            threads += self._threads(row, plan)
            slots.append(self._slots(g, row, plan, len(threads)))
        if not self.plans.plans:
            group[0, dp.G_NEXT_NS] = NEVER
        slot = dp.on_lines(np.concatenate(slots)) if slots else dp.rows(1, dp.S_SIZE)
        thread = np.array(threads, dtype=np.int64) if threads else dp.rows(1, dp.T_SIZE)
        return group, slot, thread

    def _group_load(self, row: dp.I64, plan: Plan) -> None:
        load, end = plan.group, self.file.duration
        row[dp.G_PIPE] = load.pipeline
        row[dp.G_BATCH] = 1
        row[dp.G_NEXT_NS] = NEVER
        row[dp.G_MEAN_PS] = NEVER
        row[dp.G_LEFT] = load.requests if load.requests is not None else dp.NONE
        row[dp.G_START], row[dp.G_STOP] = load.start, load.stop if load.stop is not None else end
        row[dp.G_TIMEOUT] = load.timeout or 0
        row[dp.G_RECONNECT] = int(load.on_timeout == "reconnect")
        row[dp.G_RETRIES], row[dp.G_BACKOFF], row[dp.G_CAP] = load.retries.max, load.retries.backoff, load.retries.cap
        row[dp.G_FILL] = dp.NONE
        if load.on_miss is not None:
            row[dp.G_FETCH], row[dp.G_FETCH_EXP] = load.on_miss.fetch, int(load.on_miss.fetch_is == "exponential")
        row[dp.G_JITTER], row[dp.G_LINEAR] = JITTER[load.retries.jitter], int(load.retries.growth == "linear")
        row[dp.G_FOLLOWS] = 0 if load.service is None else dp.PINNED if load.follow == "nothing" else dp.ASKS
        row[dp.G_AWAY] = int(not self._is_home(plan))
        if plan.trace is not None:
            row[dp.G_MODE], row[dp.G_PIPE] = dp.TRACE, 1
            row[dp.G_TRACE_N], row[dp.G_TRACE_SPAN] = len(plan.trace), max(plan.span_ns, 1)
            row[dp.G_TRACE_LOOP] = int(load.arrivals.trace is not None and load.arrivals.trace.loop)
        elif load.arrivals.closed is not None:
            row[dp.G_MODE] = dp.CLOSED
            row[dp.G_THINK] = load.arrivals.closed.think
            row[dp.G_THINK_EXP] = int(load.arrivals.closed.think_is == "exponential")
        else:
            row[dp.G_MODE] = dp.OPEN
            assert load.arrivals.open is not None
            opened = load.arrivals.open
            row[dp.G_POISSON] = int(opened.process == "poisson" and opened.bursts is None)
            if opened.rate_per_s is not None:
                row[dp.G_MEAN_PS] = round(1e12 * load.pipeline / opened.rate_per_s)
            if opened.bursts is not None:
                row[dp.G_BATCH] = opened.bursts.size // load.pipeline
                row[dp.G_MEAN_PS] = opened.bursts.every * 1000

    def _group_network(self, row: dp.I64, plan: Plan) -> None:
        client = self.profile.client
        load = plan.group
        rtt = load.rtt if load.rtt is not None else self.profile.loopback_rtt_ns
        row[dp.G_NET] = max(rtt // 2, 1)
        row[dp.G_PS_PER_BYTE] = 8 * 10**12 // load.bandwidth if load.bandwidth else 0
        row[dp.G_LOCAL] = int(load.rtt is None)
        row[dp.G_MEASURE] = int(load.station.kind == "redis-benchmark")
        if load.station.kind == "ample":
            row[dp.G_SEND], row[dp.G_RECV] = client["ample_send_ns"].value, client["ample_recv_ns"].value
            if not load.bandwidth and not self.nic:
                row[dp.G_SHIFT] = row[dp.G_SEND] + row[dp.G_NET]

    def _group_keys(self, row: dp.I64, plan: Plan, dataset: dp.I64) -> None:
        row[dp.G_DATASET] = dp.NONE
        choice = KeyChoice(dp.POP_UNIFORM)
        if plan.dataset is not None:
            d = list(self.plans.datasets).index(plan.dataset)
            row[dp.G_DATASET] = d
            if plan.group.keys is not None and dataset[d, dp.D_N] > 0:
                choice = key_choice(plan.group.keys.popularity, int(dataset[d, dp.D_N]), self.tables)
        elif plan.trace is not None and self.plans.datasets:
            row[dp.G_DATASET] = max(plan.kinds[0].row[dp.K_DATASET], 0)
        row[dp.G_POP], row[dp.G_POP_N] = choice.kind, choice.buckets
        row[dp.G_POP_ARG], row[dp.G_POP_ARG2] = choice.arg, choice.arg2

    def _threads(self, row: dp.I64, plan: Plan) -> list[dp.I64]:
        station, client = plan.group.station, self.profile.client
        if station.kind == "ample":
            return []
        row[dp.G_THREADS] = station.threads
        prefix = "benchmark" if station.kind == "redis-benchmark" else "loop"
        one = np.zeros(dp.T_SIZE, dtype=np.int64)
        one[[dp.T_RHEAD, dp.T_RTAIL, dp.T_WHEAD, dp.T_WTAIL]] = dp.NONE
        crowding_ns = self.profile.crowding_ns("client_connections", plan.connections // station.threads)
        one[dp.T_SEND] = client[f"{prefix}_send_ns"].value + crowding_ns // 2
        one[dp.T_RECV] = client[f"{prefix}_recv_ns"].value + crowding_ns - crowding_ns // 2
        one[dp.T_EACH] = client[f"{prefix}_each_ns"].value
        one[dp.T_POLL], one[dp.T_WAKE] = client["loop_poll_ns"].value, client["loop_wake_ns"].value
        one[dp.T_SEND_PS] = one[dp.T_RECV_PS] = client["bytes_ps"].value
        return [one.copy() for _ in range(station.threads)]

    def _slots(self, g: int, row: dp.I64, plan: Plan, threads: int) -> dp.I64:
        slot = dp.rows(plan.connections, dp.S_SIZE)
        slot[:, dp.S_GROUP] = g
        none = [dp.S_CONN, dp.S_THREAD, dp.S_HEAD, dp.S_TAIL, dp.S_WHEAD, dp.S_WTAIL, dp.S_RQ_NEXT, dp.S_WQ_NEXT]
        slot[:, none] = dp.NONE
        if row[dp.G_THREADS]:
            slot[:, dp.S_THREAD] = row[dp.G_THREAD0] + np.arange(plan.connections) % row[dp.G_THREADS]
        is_there = plan.group.start == 0 and not plan.is_cli and self._is_home(plan)
        slot[:, dp.S_STATE] = dp.UP if is_there else dp.DOWN
        return slot

    def _is_home(self, plan: Plan) -> bool:
        """Whether the clients are here at the start: of a service, with its master."""
        return plan.group.service is None or self.family.scenario.file.clients[plan.name].node == self.node

    # ---- kinds, costs, rates

    def _kind_rows(self, group: dp.I64, rules: Rules) -> dp.I64:
        for g, plan in enumerate(self.plans.plans):
            group[g, dp.G_KIND0], group[g, dp.G_MIX_N] = len(self.kinds), len(plan.kinds)
            group[g, dp.G_DRAWN] = (g + 1) * dp.AHEAD
            group[g, dp.G_AHEAD] = 1 if any(kind.row[dp.K_NKEYS] > 1 for kind in plan.kinds) else dp.AHEAD
            if len(plan.kinds) > 1 and plan.trace is None:
                group[g, dp.G_MIX] = self.tables.add(alias_words(np.array([k.weight for k in plan.kinds])))
            if plan.fill is not None:
                group[g, dp.G_FILL] = len(self.kinds) + len(plan.kinds)
            for kind in plan.all_kinds:
                name = (plan.name, kind.name)
                if name not in self.series:
                    self.series.append(name)
                kind.row[dp.K_SERIES] = self.series.index(name)
                self.kinds.append(kind)
        set_lookup_curves(self.kinds, list(self.plans.datasets.values()), rules, self.maker.curves, self.profile)
        if not self.kinds:
            return dp.rows(1, dp.K_SIZE)
        return np.stack([k.row for k in self.kinds])

    def _costs(self, group: dp.I64) -> dp.I64:
        cost = loop_costs(
            self.profile, self.scenario.confs[self.node], self.file.nodes[self.node].version,
            io_threads(self.scenario, self.node), self.cores,
            taking_turns(self.plans.plans),
        )  # fmt: skip
        cost[dp.NEED] = int((group[:, dp.G_BATCH] * group[:, dp.G_PIPE]).max()) + 2
        cost[dp.RETRYING] = int((group[:, dp.G_RETRIES] > 0).any())
        if self.hiccups is not None:
            cost[dp.HICCUP_MEAN_NS] = self.hiccups.every
            cost[dp.HICCUP_DIST] = self.tables.weighted(
                [length for length, _ in self.hiccups.table], [weight for _, weight in self.hiccups.table]
            )
        cost[dp.NIC_PS] = 8 * 10**12 // self.nic if self.nic else 0
        if self.profile.wake_spread:
            cost[dp.WAKE_DIST] = self.tables.weighted(*map(list, zip(*self.profile.wake_spread, strict=True)))
        return cost

    def _rates(self) -> Rates:
        rates = Rates()
        for g, plan in enumerate(self.plans.plans):
            if plan.group.arrivals.open is not None and plan.trace is None:
                plan_rates(rates, g, plan.group.arrivals.open, plan.group, self.file.duration)
        return rates

    # ---- the world

    def _world(self, dataset, keys, group, slot, thread, kind, cost, rates: Rates) -> dp.World:  # type: ignore[no-untyped-def]
        file = self.file
        causes = dp.cause_columns(dp.CAUSE0 + len(self.maker.causes))
        conns = slot.shape[0] + 64
        outstanding = int((group[:, dp.G_SLOTS] * group[:, dp.G_PIPE]).sum())
        requests = dp.power_of_two(max(4 * int(cost[dp.NEED]), 2 * outstanding, 1024))
        window = file.window or max(file.duration // WINDOWS, 10 * MS)
        windows = -(-file.duration // window)
        series = max(len(self.series), 1)
        st, world_cost = dp.small_arrays()
        world_cost[:] = cost
        st[dp.END], st[dp.WARMUP], st[dp.WINDOW], st[dp.WINDOWS] = file.duration, file.warmup, window, windows
        st[[dp.ACCEPT_HEAD, dp.ACCEPT_TAIL, dp.STALL_ROW]] = dp.NONE
        st[dp.GROUP_DUE] = NEVER
        st[dp.CRASH_AT], st[dp.LOAD_CAUSE] = self.crashes.first_ns, self.crashes.load_cause
        st[dp.CRON_DUE], st[dp.CAN_FORK] = MS, int(self.child[2].size > 1)
        st[dp.WATCH_ABOVE] = NEVER if self.family.is_replica(self.node) else cost[dp.MAXMEMORY]
        st[dp.NEXT_HICCUP] = cost[dp.HICCUP_MEAN_NS] if self.hiccups is not None else NEVER
        seeds = [stream(file.seed, p.name, s) for p in self.plans.plans for s in STREAMS]
        seeds += [stream(file.seed, "nobody", s) for s in STREAMS if not self.plans.plans]
        cpu = ("host.cpu", self.node) if self.family.is_replica(self.node) else ("host.cpu",)  # each host has its own
        seeds += [stream(file.seed, *cpu, name) for name in ("hiccup-gap", "hiccup-length", "wake-up")]
        seeds += [stream(file.seed, self.node, "eviction"), stream(file.seed, self.node, "aof", "fsync"),
                  stream(file.seed, self.node, "child", "elements")]  # fmt: skip
        seeds += [stream(file.seed, self.node, "network")] if self.family.links else []
        events = dp.event_rows(
            slot.shape[0], requests, len(rates.rows) + len(rates.planned) + len(self.crashes.events), group.shape[0]
        )
        world = dp.World(
            st=st, cost=world_cost, group=group, slot=slot, conn=dp.rows(conns, dp.C_SIZE),
            req=dp.rows(requests, dp.R_SIZE), snap=dp.rows(requests, causes),
            kind=kind, dataset=dataset,
            thread=thread, held=np.zeros(causes, dtype=np.int64), heldp=np.zeros(causes, dtype=np.int64),
            log=dp.rows(dp.LOG_SIZE, 2), ring=np.zeros(dp.power_of_two(2 * (conns + len(self.family.links)) + 2), dtype=np.int64),
            blocked=np.zeros((conns, 4), dtype=np.int64),
            batch=np.zeros(conns + 1 + 2 * len(self.family.links), dtype=np.int64),
            pending=np.zeros(conns + len(self.family.links), dtype=np.int64),
            tread=np.zeros(conns, dtype=np.int64), fifo=dp.rows(dp.power_of_two(events), 4), heap=dp.rows(events, 4),
            rng=np.stack(seeds), tab=self.tables.tab, dist=self.tables.dist, curve=self.maker.curves.table,
            **keys, lag=dp.rows(2, dp.COARSE_BUCKETS + 2), dicts=first_tables(dataset), **sampled_tables(cost, keys["kv"]),
            hist=dp.rows(series, dp.FINE_BUCKETS),
            heat=np.zeros((windows, series, dp.COARSE_BUCKETS), dtype=np.int32),
            blame=dp.rows(group.shape[0] * dp.COARSE_BUCKETS, causes).reshape(-1, dp.COARSE_BUCKETS, causes),
            smax=np.zeros((windows + 1, series, 2), dtype=np.int64),
            slow=dp.rows(max(int(cost[dp.SLOW_MAX]), 1), 6), stalls=dp.rows(dp.STALLS_MAX, 6),
            segs=dp.rows(dp.SEGS_MAX, 4), recs=dp.rows(dp.RECS_MAX, 4), trace=self._trace(group, dataset),
            rates=np.array(rates.rows or [(0, 0, 0, 0)], dtype=np.int64), offered=dp.rows(windows, group.shape[0]),
            stallsum=dp.rows(causes, 3), lanes=np.zeros(max(int(cost[dp.IO_LANES]), 1), dtype=np.int64),
            live=dp.rows(group.shape[0], 2), drawn=dp.rows(group.shape[0] * dp.AHEAD, 2), aof=self.aof,
            child=self.child[0], place=self.child[1], cow=self.child[2], undo=self.crashes.undo_log(keys["kv"].shape[0]),
            **self.repl,
        )  # fmt: skip
        dp.chain_free(world.req, dp.R_NEXT, 0)
        dp.chain_free(world.conn, dp.C_NEXT, 0)
        st[dp.REQ_FREE_N], st[dp.CONN_FREE_N] = requests, conns
        connect(world)
        self._first_events(world, rates)
        world = dp.placed(world)
        count_used_memory(world)
        st[dp.IS_PLAIN] = int(commands_about(self.plans.plans, file.duration) >= MANY_COMMANDS and may_be_plain(world))
        return world

    def _trace(self, group: dp.I64, dataset: dp.I64) -> dp.I64:
        """All traces behind each other, kinds and keys as global rows."""
        parts, offset = [], 0
        for g, plan in enumerate(self.plans.plans):
            if plan.trace is None:
                continue
            trace = plan.trace.copy()
            kinds = trace[:, 1] + group[g, dp.G_KIND0]
            of_kind = np.array([k.row[dp.K_DATASET] for k in self.kinds])[kinds]
            keyed = (trace[:, 2] >= 0) & (of_kind >= 0)
            trace[:, 2] = np.where(keyed, trace[:, 2] + dataset[of_kind, dp.D_BASE], dp.NONE)
            trace[:, 1] = kinds
            group[g, dp.G_TRACE0] = offset
            offset += len(trace)
            parts.append(trace)
        return np.concatenate(parts) if parts else dp.rows(1, 5)

    def _first_events(self, w: dp.World, rates: Rates) -> None:
        """What is planned before the start: groups beginning, rates changing, crashes. In time order, which is a heap."""
        planned = [(int(w.group[g, dp.G_START]), dp.EV_START, g) for g in range(len(self.plans.plans))]
        planned += [(at, dp.EV_RATE, row) for at, row in rates.planned]
        planned += self.crashes.events
        for i, (at, what, arg) in enumerate(sorted(planned, key=lambda p: p[0])):
            w.heap[i] = (at, i, what, arg)
        w.st[dp.HEAP_N] = w.st[dp.SEQ] = len(planned)
