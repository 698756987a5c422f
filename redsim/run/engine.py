"""run(scenario) -> Result: SimPy's clock, the server on it, a sampler, and what they leave.

Not modelled: more than one server.
"""

import hashlib
import time
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pandas as pd
import simpy

import redsim
from redsim.dataplane import layout as dp
from redsim.dataplane.cron import buffers
from redsim.redis.childinfo import Child
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
from redsim.run.groups import say_plan
from redsim.run.result import Result
from redsim.run.server_memory import MemoryGauge
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
]  # fmt: skip
STANDING_LIMITS = [
    "memory: swap; what SLOWLOG and scripts take",
    "replication: replicas, Sentinel, Cluster",
    "the network beyond a delay and a bandwidth: loss, socket buffers that fill, TLS",
    "CPU shared with clients or bio threads on the same cores (hiccups stand in for it, if the host has them)",
]


def run(scenario: Scenario, *, seed: int | None = None, progress: Progress | None = None) -> Result:
    """Simulate the scenario to its end, or to Ctrl-C (`partial`). ScenarioError for a scenario that cannot run."""
    if seed is not None:
        scenario = scenario.with_seed(seed)
    started = time.perf_counter()  # wall time of the run, for the report; nothing simulated depends on it
    built = build(scenario)
    env = simpy.Environment()
    server = Server(env, built.world, scenario.confs[built.node], scenario.profiles[built.host])
    attach_aof(env, server, scenario, built.node)
    memory: list[tuple[Any, ...]] = []
    env.process(server.main())
    gauge = MemoryGauge.of(scenario, built.node)
    server.defrag = gauge.defrag = active_defrag(scenario, built, lambda: gauge.fragments(server.world))
    life = attach_life(env, server, scenario, built, gauge)
    env.process(_sample(env, server, built.node, gauge, memory, life))
    if progress is not None:
        server.on_step.append(lambda now: progress(now, int(server.world.st[dp.COMMANDS])))
    partial = False
    try:
        env.run()
    except KeyboardInterrupt:
        partial = True
    w = server.world
    check_conservation(built, w)
    return _result(scenario, built, server, gauge, memory, partial, time.perf_counter() - started, life)


def _sample(
    env: simpy.Environment, server: Server, node: str, gauge: MemoryGauge, rows: list[tuple[Any, ...]], life: Life | None
) -> Generator[simpy.Event, Any, None]:
    """A row of memory.csv at each window's end; a process that is dead has no memory."""
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
            parts["aof_buffer"], *_beside(server, m.pages.rss_bytes),
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
    scenario: Scenario,
    built: Built,
    server: Server,
    gauge: MemoryGauge,
    memory: list[tuple[Any, ...]],
    partial: bool,
    wall_s: float,
    life: Life | None,
) -> Result:
    w = server.world
    stalls = stats.stalls_frame(built, w)
    slowlog = stats.slowlog_rows(built, w)
    directives = _directives(scenario)
    return Result(
        scenario=scenario,
        summary=summary(scenario, built, server, gauge, digest(built, w), slowlog, wall_s, life),
        latency=stats.latency_frame(built, w),
        memory=pd.DataFrame(memory, columns=MEMORY_COLUMNS),
        stalls=stalls,
        events=_events(scenario, built, server, stalls, life),
        replication=pd.DataFrame(columns=["time_s", "replica", "state", "master_offset", "lag_bytes", "lag_s"]),
        blame=stats.blame_frame(built, w),
        commands=stats.commands_frame(built, w),
        directives=directives,
        guesses=_guesses(scenario, built, server.child, life),
        series=stats.series_of(built, w),
        window_ns=int(w.st[dp.WINDOW]),
        stall_view=stats.stall_view(built, w),
        slowlog={built.node: slowlog_get(slowlog)},
        not_modelled=_not_modelled(scenario, built, directives, server),
        offered={plan.name: w.offered[:, g].copy() for g, plan in enumerate(built.plans.plans)},
        datasets=datasets_frame(built.datasets, gauge.rules, scenario.file.seed),
        durability=exposure_frame(server.aof, built.node),
        fsyncs=fsyncs_frame(server.aof, built.node),
        partial=partial,
    )


def _events(scenario: Scenario, built: Built, server: Server, stalls: pd.DataFrame, life: Life | None) -> pd.DataFrame:
    w = server.world
    rows: list[tuple[float, str, str]] = [(0.0, "redsim", f"seed {scenario.file.seed}, {len(built.plans.plans)} groups")]
    rows += [(plan.group.start / S, plan.name, say_plan(plan)) for plan in built.plans.plans]
    rows += [(fault.at / S, fault.host, fault.say()) for _, fault in scenario.file.faults]
    rows += children_lines(server.child, built.node)
    rows += [(float(row.start_s), str(row.node), stats.say_stall(row)) for row in stalls.itertuples()]  # type: ignore[arg-type]
    rows += [(at / S, built.node, text) for at, text in (life.events if life is not None else [])]
    lost = int(w.st[dp.STALLS]) - dp.STALLS_MAX
    if lost > 0:
        rows.append((int(w.st[dp.NOW]) / S, "redsim", f"{lost} more stalls are counted in summary.json but not listed"))
    rows.append((int(w.st[dp.NOW]) / S, "redsim", f"end after {say_ns(int(w.st[dp.NOW]))}, {int(w.st[dp.COMMANDS])} commands"))
    rows.sort(key=lambda row: row[0])
    return pd.DataFrame(rows, columns=["time_s", "who", "text"])


def _directives(scenario: Scenario) -> pd.DataFrame:
    rows = [
        (node, line.number, line.directive, line.value, line.status, line.says)
        for node, conf in scenario.confs.items()
        for line in conf.report()
    ]
    return pd.DataFrame(rows, columns=["node", "line", "directive", "value", "status", "says"])


def _guesses(scenario: Scenario, built: Built, child: Child | None, life: Life | None) -> pd.DataFrame:
    rows = scenario.profiles[built.host].guesses() + built.plans.guesses
    used = [plan.group.station.kind != "ample" for plan in built.plans.plans]
    if not any(used):
        rows = [row for row in rows if row[0] not in ("loop_each_ns", "bytes_ps")]
    if built.world.cost[dp.IO_THREADS] <= 1:
        rows = [row for row in rows if row[0] != "forkjoin_ns"]
    rows += guessed_of_disk(scenario, built.node) + guessed_of_fork(scenario, built.node, child, built.datasets)
    rows += life.guesses() if life is not None else []
    return pd.DataFrame(rows, columns=["name", "value", "says"])


def _not_modelled(scenario: Scenario, built: Built, directives: pd.DataFrame, server: Server) -> list[str]:
    out = list(built.plans.not_modelled)
    for row in directives.itertuples():
        if row.status == "not modelled yet":
            out.append(f"{row.directive} {row.value} (line {row.line}): {row.says}")
    out += child_limits(scenario, built.node, server.child)
    if scenario.file.faults and server.aof is None and server.child is None:
        out.append("disk faults on the timeline: nothing touches the disk while appendonly is no and nothing is saved")
    return out + STANDING_LIMITS
