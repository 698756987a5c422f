"""run(scenario) -> Result: SimPy's clock, the servers on it, samplers, and what they leave.

A server alone drives itself (redis/server.py:main); a master and its replicas run in lockstep (run/lockstep.py).
"""

import hashlib
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import simpy

import redsim
from redsim.dataplane import layout as dp
from redsim.dataplane.cron import buffers
from redsim.redis.server import Server
from redsim.redis.slowlog import slowlog_get
from redsim.run import stats
from redsim.run.aof import attach_aof, guessed_of_disk
from redsim.run.bgsave import child_limits, children_lines, guessed_of_fork
from redsim.run.build import Built, build
from redsim.run.checks import check_conservation
from redsim.run.crash import Life, attach_life
from redsim.run.dataset_table import datasets_frame
from redsim.run.defrag import active_defrag
from redsim.run.durability import exposure_frame, fsyncs_frame
from redsim.run.expiry import lag_total_s, stale_keys
from redsim.run.failover_log import failovers as failover_log
from redsim.run.failover_steps import with_steps
from redsim.run.failovers import Failovers
from redsim.run.groups import say_plan
from redsim.run.lockstep import Lockstep
from redsim.run.replicas import Family, Peers, attach_peers, guessed_of_network
from redsim.run.replication import Record
from redsim.run.result import Result
from redsim.run.sentinels import Sentinels
from redsim.run.server_memory import MemoryGauge
from redsim.run.services import Place, gather, lines, told
from redsim.run.summary import summary
from redsim.scenario.load import Scenario
from redsim.units import S, say_ns

Progress = Callable[[int, int], None]  # simulated ns, commands so far
MEMORY_COLUMNS = [
    "time_s", "node", "keys", "connected_clients", "query_buffers_bytes", "output_buffers_bytes", "dict_table_bytes",
    "used_memory_bytes", "used_memory_rss_bytes", "used_memory_overhead_bytes", "used_memory_dataset_bytes",
    "clients_normal_bytes", "allocator_active_bytes", "maxmemory_bytes",
    "expires", "expired_keys", "stale_keys", "evicted_keys", "keyspace_hits", "keyspace_misses",
    "startup_bytes", "clients_bytes", "keys_bytes", "values_bytes", "expiry_lag_s",
    "aof_buffer_bytes", "cow_bytes", "child_rss_bytes", "page_tables_bytes", "page_cache_bytes",
    "replication_buffers_bytes",
]  # fmt: skip
SENTINELS = "sentinels"  # the node of Result.directives that stands for sentinel.conf
STANDING_LIMITS = [
    "memory: swap; what SLOWLOG and scripts take",
    "replication: Cluster, the FAILOVER command; clients' sockets that fill, TLS",
    "CPU shared with clients or bio threads on the same cores (hiccups stand in for it, if the host has them)",
]


@dataclass
class Node:
    """One server of a run: its part of the scenario, its World and what stands around it."""

    view: Scenario
    built: Built
    server: Server
    gauge: MemoryGauge
    life: Life | None
    peers: Peers | None = None
    memory: list[tuple[Any, ...]] = field(default_factory=list)

    @classmethod
    def of(cls, env: simpy.Environment, view: Scenario, family: Family) -> "Node":
        """The server of a node's scenario, ready to run."""
        built = build(view, family)
        server = Server(env, built.world, view.confs[built.node], view.profiles[built.host])
        attach_aof(env, server, view, built.node)
        gauge = MemoryGauge.of(view, built.node)
        server.defrag = gauge.defrag = active_defrag(view, built, lambda: gauge.fragments(server.world))
        return cls(view, built, server, gauge, attach_life(env, server, view, built, gauge))


def run(scenario: Scenario, *, seed: int | None = None, progress: Progress | None = None) -> Result:
    """Simulate the scenario to its end, or to Ctrl-C (`partial`). ScenarioError for a scenario that cannot run."""
    if seed is not None:
        scenario = scenario.with_seed(seed)
    started = time.perf_counter()  # wall time of the run, for the report; nothing simulated depends on it
    env, family = simpy.Environment(), Family(scenario)
    views = {name: scenario.of_node(name) for name in family.names} if family.links else {family.names[0]: scenario}
    nodes = {name: Node.of(env, view, family) for name, view in views.items()}
    servers = {name: node.server for name, node in nodes.items()}
    peers = attach_peers(env, scenario, family, servers, views, {name: node.built.causes for name, node in nodes.items()})
    record, failovers = Record(env, family, peers), Failovers(peers)
    places = {name: Place(node.built, node.server) for name, node in nodes.items()}
    sentinels = Sentinels(env, scenario, peers) if scenario.file.sentinels is not None else None
    services = sentinels.attach(places, peers) if sentinels is not None else {}
    first = next(iter(servers.values()))
    env.process(Lockstep(env, list(servers.values()), family.wire).main() if family.links else first.main())
    for name, node in nodes.items():
        node.peers = peers.get(name)
        if node.life is not None and node.peers is not None:
            node.life.peers = node.peers
            for other in peers.values():
                other.lives.append(node.life)
        env.process(_sample(env, node))
    if family.links:
        env.process(record.sample(int(first.world.st[dp.WINDOW]), scenario.file.duration))
    if progress is not None:
        first.on_step.append(lambda now: progress(now, sum(int(s.world.st[dp.COMMANDS]) for s in servers.values())))
    partial = False
    try:
        env.run(until=None if sentinels is None else scenario.file.duration + 1)
    except KeyboardInterrupt:
        partial = True
    failovers.end()
    for node in nodes.values():
        check_conservation(node.built, node.server.world)
        node.gauge.end(node.server.world)
    for name in services:
        home = scenario.file.clients[name].node
        gather(name, places[home], [place for node, place in places.items() if node != home])
    more = list(sentinels.lines) if sentinels is not None else []
    more += [line for name, one in services.items() for line in lines(one, str(scenario.file.clients[name].service))]
    result = _result(scenario, list(nodes.values()), record, partial, time.perf_counter() - started, more)
    result = replace(result, roles=failovers.roles(), lost_writes=failovers.lost_writes())
    result.summary["failovers"] = failovers.summaries()
    for name, service in services.items():
        there = places[scenario.file.clients[name].node]
        result.summary["clients"][name] |= told(service, there, scenario.file.duration)
    if sentinels is not None:
        result.summary["sentinels"] = sentinels.summary()
        attempts = failover_log(sentinels.lines)
        result.summary["failover_attempts"] = [one.summary() for one in attempts]
        result.summary["failovers"] = with_steps(result, attempts)
        guesses = pd.DataFrame(sentinels.guesses(), columns=result.guesses.columns)
        result = replace(result, guesses=pd.concat([result.guesses, guesses], ignore_index=True))
    return result


def _sample(env: simpy.Environment, one: Node) -> Generator[simpy.Event, Any, None]:
    """A row of memory.csv at each window's end; a process that is dead has no memory."""
    server, node, gauge, rows, life = one.server, one.built.node, one.gauge, one.memory, one.life
    window, end = int(server.world.st[dp.WINDOW]), int(server.world.st[dp.END])
    while env.now + window <= end:
        yield env.timeout(window)
        w = server.world
        if life is not None and life.has_no_process:
            rows.append((env.now / S, node, *[0] * (len(MEMORY_COLUMNS) - 2)))
            continue
        query, output = buffers(w)
        live = int(w.dataset[:, dp.D_LIVE].sum())
        m, parts = gauge.read(w), gauge.parts(w)
        rows.append((
            env.now / S, node, live, int(w.st[dp.CLIENTS]), int(query), int(output), m.tables, m.used, m.pages.rss_bytes,
            m.overhead, m.dataset, m.clients_normal, m.pages.active_bytes, m.maxmemory,
            int(w.dataset[:, dp.D_EXPIRES].sum()), int(w.st[dp.EXPIRED]), stale_keys(w),
            *(int(w.st[column]) for column in (dp.EVICTED, dp.HITS, dp.MISSES)),
            *(parts[name] for name in ("startup", "clients", "keys", "values")), lag_total_s(w),
            parts["aof_buffer"], *_beside(server, m.pages.rss_bytes), parts["replication_buffers"],
        ))  # fmt: skip


def _beside(server: Server, rss_bytes: int) -> tuple[int, int, int, int]:
    """Bytes of copied pages, of the child, of page tables and of page cache; zeros where nothing can fork."""
    if server.child is None:
        return 0, 0, 0, 0
    found = server.child.memory(rss_bytes)
    return found["cow"], found["child_rss"], found["page_tables"], found["page_cache"]


def digest(built: Built, w: dp.World) -> str:
    """Of what the run computed, in integers: histograms, windows, blame, counters, stalls. Same scenario, seed, version: same
    digest."""
    state = hashlib.sha256(redsim.__version__.encode())
    counters = [dp.POLLS, dp.SLEEPS, dp.READS, dp.WRITES, dp.COMMANDS, dp.IDLE, dp.NOW, dp.NET_IN, dp.NET_OUT, dp.REJECTED]
    causes = len(built.causes)
    counts = np.zeros(w.blame.shape[:2], dtype=np.int64)
    for g in range(len(built.plans.plans)):
        counts[g] = stats.blame_counts(built, w, g)
    blame = np.concatenate([w.blame[:, :, :causes], counts[:, :, None], w.blame.sum(axis=2, keepdims=True)], axis=2)
    for array in (w.hist, w.heat, blame, w.held[:causes], w.st[counters], w.stalls[: min(int(w.st[dp.STALLS]), dp.STALLS_MAX)],
                  w.group[:, [dp.G_OFFERED, dp.G_COMPLETED, dp.G_FAILED, dp.G_RETRIED, dp.G_AREA]]):  # fmt: skip
        state.update(np.ascontiguousarray(array).astype("<i8").tobytes())
    return state.hexdigest()[:32]


def _result(
    scenario: Scenario, nodes: list[Node], record: Record, partial: bool, wall_s: float, more: list[tuple[int, str, str]],
) -> Result:  # fmt: skip
    slowlogs = {one.built.node: stats.slowlog_rows(one.built, one.server.world) for one in nodes}
    stalls = [stats.stalls_frame(one.built, one.server.world) for one in nodes]
    views = [view for one in nodes if (view := stats.stall_view(one.built, one.server.world)) is not None]
    summaries = [
        summary(one.view, one.built, one.server, one.gauge, digest(one.built, one.server.world), slowlogs[one.built.node], wall_s,
                one.life)
        for one in nodes
    ]  # fmt: skip
    directives = _directives(scenario)
    return Result(
        scenario=scenario,
        summary=record.merged(summaries),
        latency=_together(stats.latency_frame(one.built, one.server.world) for one in nodes),
        memory=pd.DataFrame([row for one in nodes for row in one.memory], columns=MEMORY_COLUMNS).sort_values(
            "time_s", kind="stable", ignore_index=True
        ),
        stalls=_together(stalls),
        events=_events(scenario, nodes, _together(stalls), [*record.lines(), *((ns / S, who, said) for ns, who, said in more)]),
        replication=record.frame(),
        syncs=record.syncs(),
        blame=_together(stats.blame_frame(one.built, one.server.world) for one in nodes),
        commands=_together(stats.commands_frame(one.built, one.server.world) for one in nodes),
        directives=directives,
        guesses=_guesses(scenario, nodes),
        series=[series for one in nodes for series in stats.series_of(one.built, one.server.world)],
        window_ns=int(nodes[0].server.world.st[dp.WINDOW]),
        stall_view=max(views, key=lambda view: view.end_ns - view.start_ns, default=None),
        slowlog={name: slowlog_get(rows) for name, rows in slowlogs.items()},
        not_modelled=_not_modelled(scenario, nodes, directives),
        offered={
            plan.name: one.server.world.offered[:, g].copy() for one in nodes for g, plan in enumerate(one.built.plans.plans)
            if plan.name not in one.built.elsewhere
        },
        datasets=_together(datasets_frame(one.built.datasets, one.gauge.rules, scenario.file.seed) for one in nodes),
        durability=_together(exposure_frame(one.server.aof, one.built.node) for one in nodes),
        fsyncs=_together(fsyncs_frame(one.server.aof, one.built.node) for one in nodes),
        partial=partial,
    )


def _together(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """One frame of all nodes' rows; the first one's columns where none has rows."""
    every = list(frames)
    full = [frame for frame in every if len(frame)]
    return full[0] if len(full) == 1 else pd.concat(full, ignore_index=True) if full else every[0]


def _events(
    scenario: Scenario, nodes: list[Node], stalls: pd.DataFrame, more: list[tuple[float, str, str]],
) -> pd.DataFrame:  # fmt: skip
    groups = sum(len(one.built.plans.plans) for one in nodes)
    rows: list[tuple[float, str, str]] = [(0.0, "redsim", f"seed {scenario.file.seed}, {groups} groups")]
    rows += [(plan.group.start / S, plan.name, say_plan(plan)) for one in nodes for plan in one.built.plans.plans
             if plan.name not in one.built.elsewhere]  # fmt: skip
    rows += [(fault.at / S, fault.host, fault.say()) for _, fault in scenario.file.faults]
    rows += [(fault.at / S, fault.host, fault.say()) for _, fault in scenario.file.network_faults]
    rows += [line for one in nodes for line in children_lines(one.server.child, one.built.node)]
    rows += [(float(row.start_s), str(row.node), stats.say_stall(row)) for row in stalls.itertuples()]  # type: ignore[arg-type]
    rows += [(at / S, one.built.node, text) for one in nodes if one.life is not None for at, text in one.life.events]
    rows += more
    lost = sum(max(int(one.server.world.st[dp.STALLS]) - dp.STALLS_MAX, 0) for one in nodes)
    end_ns = max(int(one.server.world.st[dp.NOW]) for one in nodes)
    commands = sum(int(one.server.world.st[dp.COMMANDS]) for one in nodes)
    if lost > 0:
        rows.append((end_ns / S, "redsim", f"{lost} more stalls are counted in summary.json but not listed"))
    rows.append((end_ns / S, "redsim", f"end after {say_ns(end_ns)}, {commands} commands"))
    rows.sort(key=lambda row: row[0])
    return pd.DataFrame(rows, columns=["time_s", "who", "text"])


def _directives(scenario: Scenario) -> pd.DataFrame:
    rows = [
        (node, line.number, line.directive, line.value, line.status, line.says)
        for node, conf in scenario.confs.items()
        for line in conf.report()
    ]
    for line in scenario.sentinel_conf.report() if scenario.sentinel_conf is not None else []:
        rows.append((SENTINELS, line.number, line.directive, line.value, line.status, line.says))
    return pd.DataFrame(rows, columns=["node", "line", "directive", "value", "status", "says"])


def _guesses(scenario: Scenario, nodes: list[Node]) -> pd.DataFrame:
    rows: list[tuple[str, int, str]] = []
    for one in nodes:
        mine = scenario.profiles[one.built.host].guesses() + one.built.plans.guesses
        if not any(plan.group.station.kind != "ample" for plan in one.built.plans.plans):
            mine = [row for row in mine if row[0] not in ("loop_each_ns", "bytes_ps")]
        if one.built.world.cost[dp.IO_THREADS] <= 1:
            mine = [row for row in mine if row[0] != "forkjoin_ns"]
        mine += guessed_of_disk(one.view, one.built.node)
        mine += guessed_of_fork(one.view, one.built.node, one.server.child, one.built.datasets)
        rows += mine + (one.life.guesses() if one.life is not None else [])
    rows += guessed_of_network(scenario)
    return pd.DataFrame(list(dict.fromkeys(rows)), columns=["name", "value", "says"])


def _not_modelled(scenario: Scenario, nodes: list[Node], directives: pd.DataFrame) -> list[str]:
    out = [said for one in nodes for said in one.built.plans.not_modelled]
    for row in directives.itertuples():
        if row.status == "not modelled yet":
            out.append(f"{row.directive} {row.value} (line {row.line}): {row.says}")
    out += [said for one in nodes for said in child_limits(one.view, one.built.node, one.server.child)]
    if scenario.file.faults and all(one.server.aof is None and one.server.child is None for one in nodes):
        out.append("disk faults on the timeline: nothing touches the disk while appendonly is no and nothing is saved")
    return out + STANDING_LIMITS
