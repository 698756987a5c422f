"""summary.json: stable names, units in the names, as the design lists them."""

from typing import Any

import numpy as np

import redsim
from redsim.dataplane import layout as dp
from redsim.dataplane.histogram import COARSE_EDGES
from redsim.redis.memory_doctor import memory_doctor
from redsim.redis.memory_report import info_memory, memory_stats
from redsim.redis.server import Server
from redsim.run import stats
from redsim.run.bgsave import child_info, children, fork_stats, rewrite_info
from redsim.run.build import Built
from redsim.run.crash import Life
from redsim.run.crashes import away_spans, crash_rows
from redsim.run.durability import blocked_ns, durability
from redsim.run.expiry import expiry
from redsim.run.server_memory import MemoryGauge
from redsim.scenario.load import Scenario
from redsim.units import MS, S

SCHEMA = 1


def summary(
    scenario: Scenario,
    built: Built,
    server: Server,
    gauge: MemoryGauge,
    digest: str,
    slowlog: list[dict[str, Any]],
    wall_s: float,
    life: Life | None = None,
) -> dict[str, Any]:
    """The numbers of one run; ints, floats, strings and lists of them only."""
    w = server.world
    commands = int(w.st[dp.COMMANDS])
    return {
        "schema": SCHEMA,
        "redsim_version": redsim.__version__,
        "scenario": scenario.name,
        "question": scenario.file.question,
        "seed": scenario.file.seed,
        "digest": digest,
        "simulated_s": min(int(w.st[dp.NOW]), int(w.st[dp.END])) / S,
        "wall_s": round(wall_s, 3),
        "commands": commands,
        "commands_per_wall_s": round(commands / wall_s) if wall_s > 0 else 0,
        "host": {"cores": built.cores, "memory_bytes": gauge.host_bytes, "profile": scenario.profiles[built.host].name},
        "clients": {
            plan.name: _group(built, w, g) for g, plan in enumerate(built.plans.plans) if plan.name not in built.elsewhere
        },
        "nodes": {
            built.node: {
                **_node(built, server, gauge, slowlog),
                **_aof(built, server, scenario.file.seed, life),
                **crash_rows(life),
            }
        },
        "replicas": {},
        "failovers": [],
        "findings": [],
    }


def _group(built: Built, w: dp.World, g: int) -> dict[str, Any]:
    plan, row = built.plans.plans[g], w.group[g]
    elapsed = min(int(w.st[dp.NOW]), int(w.st[dp.END]), int(row[dp.G_STOP])) - plan.group.start
    offered, completed, failed = (int(row[c]) for c in (dp.G_OFFERED, dp.G_COMPLETED, dp.G_FAILED))
    seconds = max(elapsed, 1) / S
    out: dict[str, Any] = {
        "offered_per_s": round(offered / seconds, 3),
        "throughput_per_s": round(completed / seconds, 3),
        "offered": offered,
        "completed": completed,
        "failed": failed,
        "in_flight": offered - completed - failed,
        "errors": {
            "timeout": int(row[dp.G_ERR_TIMEOUT]),
            "connection": int(row[dp.G_ERR_CONN]),
            "busy": int(row[dp.G_ERR_BUSY]),
            "oom": int(row[dp.G_ERR_OOM]),
            "misconf": int(row[dp.G_ERR_MISCONF]),
            "loading": int(row[dp.G_ERR_LOADING]),
            "noreplicas": int(row[dp.G_ERR_NOREPLICAS]),
            "readonly": int(row[dp.G_ERR_READONLY]),
            "masterdown": int(row[dp.G_ERR_MASTERDOWN]),
        },
        "retries": int(row[dp.G_RETRIED]),
        **_cache(built, w, g),
        "connections": plan.connections,
        "latency_us": stats.group_latency(built, w, plan.name),
        "by_command": {
            command: {
                "count": int(w.hist[i].sum()),
                "latency_us": stats.latency_us(w.hist[i], stats.FINE_EDGES, int(w.smax[-1, i, 1]), int(w.smax[-1, i, 0])),
            }
            for i, (group, command) in enumerate(built.series)
            if group == plan.name
        },
        "blame_us": {p: stats.blame_at(built, w, g, p) for p in ("mean", "p50", "p99", "p999")},
    }
    if row[dp.G_THREADS]:
        first = int(row[dp.G_THREAD0])
        busy = w.thread[first : first + int(row[dp.G_THREADS]), dp.T_BUSY].sum()
        out["station_utilisation"] = round(int(busy) / (int(row[dp.G_THREADS]) * max(elapsed, 1)), 4)
    return out


def _cache(built: Built, w: dp.World, g: int) -> dict[str, Any]:
    """hit_ratio of the group's reads, None without any; fetches of a cache-aside group."""
    mine = [k for k, kind in enumerate(built.kinds) if kind.group == built.plans.plans[g].name]
    hits, misses = (int(w.kind[mine, column].sum()) for column in (dp.K_HITS, dp.K_MISSES))
    return {"hit_ratio": round(hits / (hits + misses), 6) if hits + misses else None, "fetches": int(w.group[g, dp.G_FETCHES])}


def _node(built: Built, server: Server, gauge: MemoryGauge, slowlog: list[dict[str, Any]]) -> dict[str, Any]:
    w, st = server.world, server.world.st
    memory = gauge.read(w)
    elapsed = max(int(st[dp.NOW]), 1)
    busy = int(w.held.sum())
    slept = int(w.kind[w.kind[:, dp.K_OP] == dp.OP_SLEEP, dp.K_USEC_NS].sum())
    # A thread being woken waits for most of that time, and one in DEBUG SLEEP uses none.
    waited = blocked_ns(w)
    cpu = busy - int(w.held[dp.WAKE]) + int(st[dp.WAKE_CPU]) - slept - waited
    commands, polls = int(st[dp.COMMANDS]), max(int(st[dp.POLLS]), 1)
    looked_up = int(st[dp.HITS]) + int(st[dp.MISSES])
    return {
        "role": "master",
        "cpu_utilisation": round(min(cpu / elapsed, 1.0), 4),
        "loop_utilisation": round(min((cpu + slept + waited) / elapsed, 1.0), 4),  # of the time the loop was at work for somebody
        "main_thread_busy_s": round(busy / S, 6),
        "busy_s_by_cause": {name: round(int(ns) / S, 6) for name, ns in zip(built.causes, w.held, strict=False) if ns},
        "polls": int(st[dp.POLLS]),
        "sleeps": int(st[dp.SLEEPS]),
        "reads": int(st[dp.READS]),
        "writes": int(st[dp.WRITES]),
        "commands": commands,
        "commands_per_poll": round(commands / polls, 3),
        "cpu_us_per_command": round(cpu / max(commands, 1) / 1000, 3),
        "largest_poll": int(st[dp.MAX_BATCH]),
        "connected_clients": int(st[dp.CLIENTS]),
        "rejected_connections": int(st[dp.REJECTED]),
        "accepted_connections": int(st[dp.ACCEPTED]),
        "listen_drops": int(st[dp.LISTEN_DROPS]),
        "closed_idle": int(st[dp.CLOSED_IDLE]),
        "hiccups": int(st[dp.HICCUPS]),
        "hz": server.hz,
        "cronloops": server.cronloops,
        "io_threads": {
            "configured": int(w.cost[dp.IO_THREADS]),
            "active_share": round(int(st[dp.IO_ACTIVE_NS]) / elapsed, 4),
            "threaded_reads": int(st[dp.TREADS]),
            "threaded_writes": int(st[dp.TWRITES]),
        },
        "expiry": expiry(w),
        **_saves(server),
        "used_memory_bytes": {"final": memory.used, "peak": memory.peak},
        "used_memory_rss_bytes": {"final": memory.pages.rss_bytes, "peak": gauge.rss_peak},
        "activedefrag_returns_bytes": list(gauge.defrag_returns(memory)),
        "maxmemory_bytes": memory.maxmemory,
        "evicted_keys": int(st[dp.EVICTED]),
        "eviction_age_s": _eviction_age_s(w),
        "eviction_exceeded_s": round(_exceeded_ns(w) / S, 6),
        "oom_errors": int(st[dp.OOM]),
        "hit_ratio": round(int(st[dp.HITS]) / looked_up, 6) if looked_up else None,
        "memory_stats": memory_stats(memory),
        "memory_doctor": [{"code": found.code, "advice": found.advice} for found in memory_doctor(memory)],
        "stalls": stats.stall_totals(built, w),
        "slowlog": [{k: row[k] for k in ("id", "time_s", "duration_us", "args")} for row in slowlog],
        "info": {**_info(built, server), "memory": info_memory(memory)},
    }


def _aof(built: Built, server: Server, seed: int, life: Life | None) -> dict[str, Any]:
    """durability, of a server with an AOF."""
    st = server.world.st
    away = away_spans(life, int(st[dp.NOW]))
    return {"durability": durability(server.aof, seed, built.node, int(st[dp.WARMUP]), away)} if server.aof is not None else {}


def _saves(server: Server) -> dict[str, Any]:
    """children, of a server that can fork: what it forked and saved; misconf_errors, of those refused for a failed save."""
    child = server.child
    if child is None:
        return {}
    return {
        "children": children(child),
        "rdb_misconf_errors": int(child.numbers[dp.CH_MISCONFS]),
        "cow_faults": {"copied": int(child.numbers[dp.CH_COPIED]), "reused": int(child.numbers[dp.CH_REUSED]),
                       "s": round(int(child.numbers[dp.CH_FAULTED_NS]) / S, 6)},
        "killed_at_s": None if child.exited is None else child.exited / S,
    }  # fmt: skip


def _eviction_age_s(w: dp.World) -> dict[str, int]:
    """Seconds since the last access of the keys evicted; {} if none was."""
    total = int(w.ages.sum())
    if total == 0:
        return {}
    counted = np.cumsum(w.ages)
    at = {name: int(np.searchsorted(counted, max(1, int(np.ceil(q * total))))) for name, q in stats.PERCENTILES.items()}
    return {name: int(COARSE_EDGES[bucket]) for name, bucket in at.items()}


def _exceeded_ns(w: dp.World) -> int:
    """How long memory was over its limit while keys could not be evicted fast enough, or not at all."""
    is_exceeded = int(w.st[dp.WATCH_ABOVE]) == 0
    return int(w.st[dp.EXCEEDED_NS]) + (int(w.st[dp.NOW] - w.st[dp.EXCEEDED_FROM]) if is_exceeded else 0)


def _defrag_stats(server: Server) -> dict[str, int]:
    """What INFO stats counts of active defragmentation; zeros while it is off."""
    defrag = server.defrag
    total_ms, current_ms = defrag.time_ms(int(server.world.st[dp.NOW])) if defrag else (0, 0)
    counters = ("hits", "misses", "key_hits", "key_misses")
    return {
        **{f"active_defrag_{name}": int(getattr(defrag, name, 0)) for name in counters},
        "total_active_defrag_time": total_ms, "current_active_defrag_time": current_ms,
    }  # fmt: skip


def _info(built: Built, server: Server) -> dict[str, dict[str, Any]]:
    """INFO sections this step can answer, with Redis' field names."""
    w, st = server.world, server.world.st
    commandstats: dict[str, dict[str, Any]] = {}
    for k, kind in enumerate(built.kinds):
        row = commandstats.setdefault(f"cmdstat_{kind.name.lower()}", {"calls": 0, "usec": 0, "rejected_calls": 0})
        row["calls"] += int(w.kind[k, dp.K_CALLS])
        row["usec"] += int(w.kind[k, dp.K_USEC_NS]) // 1000
        row["rejected_calls"] += int(w.kind[k, dp.K_ERRORS])
    for row in commandstats.values():
        row["usec_per_call"] = round(row["usec"] / row["calls"], 2) if row["calls"] else 0.0
    keys, expires = (int(w.dataset[:, column].sum()) for column in (dp.D_LIVE, dp.D_EXPIRES))
    return {
        "server": {"uptime_in_seconds": (int(st[dp.NOW]) - server.started_ns) // S, "hz": server.hz,
                   "configured_hz": server.config_hz, "io_threads_active": int(st[dp.IO_ACTIVE])},
        "clients": {"connected_clients": int(st[dp.CLIENTS]), "maxclients": int(w.cost[dp.MAXCLIENTS])},
        "stats": {
            "total_connections_received": int(st[dp.ACCEPTED]) + int(st[dp.REJECTED]),
            "total_commands_processed": int(w.kind[:, dp.K_CALLS].sum()),
            "total_net_input_bytes": int(st[dp.NET_IN]), "total_net_output_bytes": int(st[dp.NET_OUT]),
            "rejected_connections": int(st[dp.REJECTED]), "expired_keys": int(st[dp.EXPIRED]),
            "expired_stale_perc": round(int(w.expiry[dp.X_STALE_PPB]) / 1e7, 2),
            "expired_time_cap_reached_count": int(w.expiry[dp.X_CAP_REACHED]),
            "expire_cycle_cpu_milliseconds": int(w.expiry[dp.X_CYCLE_NS]) // MS,
            "evicted_keys": int(st[dp.EVICTED]), "total_eviction_exceeded_time": _exceeded_ns(w) // MS,
            **_defrag_stats(server), **(fork_stats(server.child) if server.child is not None else {}),
            "keyspace_hits": int(st[dp.HITS]), "keyspace_misses": int(st[dp.MISSES]),
            "total_reads_processed": int(st[dp.READS]), "total_writes_processed": int(st[dp.WRITES]),
            "io_threaded_reads_processed": int(st[dp.TREADS]), "io_threaded_writes_processed": int(st[dp.TWRITES]),
        },
        "persistence": {
            "loading": int(st[dp.LOADING]), **(child_info(server.child) if server.child is not None else {}),
            **(server.aof.info() if server.aof is not None else {"aof_enabled": 0}),
            **rewrite_info(server.child),
        },
        "commandstats": commandstats,
        "keyspace": {"db0": {"keys": keys, "expires": expires, "avg_ttl": int(w.expiry[dp.X_AVG_TTL_MS])}},
    }  # fmt: skip
