"""The children of a node of a scenario: their row of the World, the rules of conf and host, what a run says of them afterwards.

Mirrors config.c (save, stop-writes-on-bgsave-error, rdbcompression, rdb-save-incremental-fsync, disable-thp); the loop's part is
dataplane/cow.py, the host's host/fork.py and redis/childinfo.py.
Differs: worlds in which nothing can fork (no save point within the run, no BGSAVE on the timeline) have none of it.
"""

from collections.abc import Sequence

import numpy as np
import simpy

from redsim.dataplane import layout as dp
from redsim.dataplane.events import NEVER
from redsim.host.disk import Disk
from redsim.host.fork import ForkCosts, fork_costs
from redsim.host.pagecache import PageCache
from redsim.records import LatencyEvent
from redsim.redis.aof import Rewriter
from redsim.redis.childinfo import Child
from redsim.redis.config import ChildRules, Rules
from redsim.redis.rdb import RdbFile
from redsim.redis.server import Server
from redsim.rng import stream_words
from redsim.run.kinds import Kind, KindMaker
from redsim.run.placement import file_rows, placement
from redsim.run.replicas import has_replicas
from redsim.run.server_memory import MemoryGauge
from redsim.scenario.crashes import SHUTDOWN, faults_of
from redsim.scenario.load import Scenario
from redsim.scenario.redis_conf import RedisConf
from redsim.scenario.schema import Dataset, Host
from redsim.units import S

__all__ = [
    "CPU_CAUSE", "attach_child", "child_info", "child_limits", "child_row", "children",
    "children_lines", "fork_stats", "guessed_of_fork", "note_resident", "rewrite_info",
]  # fmt: skip

FORK_EVENT, COW_CAUSE, CPU_CAUSE = "fork", "copy-on-write", "sharing a core with a child"
PERSIST_OPS = (dp.OP_BGSAVE, dp.OP_SAVE, dp.OP_BGREWRITEAOF)
KEEPS_FILE_CACHED = ("6.2", "7.0")  # versions whose RDB file stays in the page cache
DISMISSES_SINCE = "7.0"  # dismissMemoryInChild
DISMISS_BYTES = 4096


def may_fork(scenario: Scenario, node: str, kinds: Sequence[Kind]) -> bool:
    """Whether anything can fork in this run: a command that somebody sends, or a save point that can be due before the end."""
    if any(int(kind.row[dp.K_OP]) in PERSIST_OPS for kind in kinds) or has_replicas(scenario, node):
        return True
    conf = scenario.confs[node]
    if conf.get("save") and any(fault.fault == SHUTDOWN for fault in faults_of(scenario.file, node)):
        return True  # it saves
    if conf.get("save") and any(int(kind.row[dp.K_OP]) == dp.OP_FLUSHALL for kind in kinds):
        return True  # it saves an empty file
    if conf.get("appendonly") and int(conf.get("auto-aof-rewrite-percentage")):
        return True
    return any(seconds * S < scenario.file.duration for seconds, _ in scenario.confs[node].get("save"))


def has_huge_pages(scenario: Scenario, node: str) -> bool:
    """Whether the server's memory lies in transparent huge pages: the host has them for all, and Redis did not turn them off."""
    host = scenario.file.hosts[scenario.file.nodes[node].host]
    return host.thp == "always" and not bool(scenario.confs[node].get("disable-thp"))


def _host(scenario: Scenario, node: str) -> Host:
    return scenario.file.hosts[scenario.file.nodes[node].host]


def _costs(scenario: Scenario, node: str) -> ForkCosts:
    name = scenario.file.nodes[node].host
    return fork_costs(scenario.profiles[name], scenario.file.hosts[name], has_huge_pages(scenario, node))


def _stretch_ppm(scenario: Scenario, node: str) -> int:
    """By how much what the main thread does takes longer while a child works: threads beyond the cores share them evenly."""
    host = scenario.file.nodes[node].host
    cores = scenario.file.hosts[host].cores or scenario.profiles[host].cores
    threads = max(int(scenario.confs[node].get("io-threads")), 1) + 1
    return max(1_000_000 * threads // cores - 1_000_000, 0)


def child_row(
    scenario: Scenario, node: str, kinds: Sequence[Kind], maker: KindMaker, dataset: dp.I64, datasets: dict[str, Dataset],
    rules: Rules, entry_bytes: int,
) -> tuple[dp.I64, dp.I64, dp.I64]:  # fmt: skip
    """(child, place, cow) of the World: zeros where nothing can fork. Adds the causes that a fork and its pages are blamed by."""
    row = np.zeros(dp.CH_SIZE, dtype=np.int64)
    if not may_fork(scenario, node, kinds):
        return row, file_rows(dataset, datasets, rules), np.zeros(1, dtype=np.int64)
    costs, seed = _costs(scenario, node), scenario.file.seed
    row[dp.CH_FAULT_NS], row[dp.CH_REUSE_NS], row[dp.CH_SHIFT] = costs.fault_ns, costs.reuse_ns, costs.page_shift
    row[dp.CH_REGION_NS], row[dp.CH_REGION_FOR] = costs.region_ns, NEVER
    row[dp.CH_FLUSH_SAVES] = int(bool(scenario.confs[node].get("save")))
    row[dp.CH_STRETCH_IF] = _stretch_ppm(scenario, node)
    has_dismiss = rules.since(DISMISSES_SINCE) and rules.allocator.name != "libc" and not has_huge_pages(scenario, node)
    row[dp.CH_DISMISS] = DISMISS_BYTES if has_dismiss else 0
    row[dp.CH_ORDER] = stream_words(seed, node, "child", "order")[0] >> 2
    row[[dp.CH_FORK_CAUSE, dp.CH_COW_CAUSE, dp.CH_CPU_CAUSE]] = [maker.cause(name) for name in (FORK_EVENT, COW_CAUSE, CPU_CAUSE)]
    if scenario.confs[node].get("appendonly"):
        row[dp.CH_MANIFEST_CAUSE] = maker.cause(str(LatencyEvent.AOF_MANIFEST))
    place, cow = placement(row, dataset, datasets, rules, entry_bytes, (seed, node))
    return row, place, cow


def note_resident(scenario: Scenario, node: str, world: dp.World) -> None:
    """Where something can fork: what is resident beside used_memory before the run."""
    if world.cow.size > 1:
        world.child[dp.CH_ABOVE] = MemoryGauge.of(scenario, node).read(world).pages.rss_bytes - int(world.st[dp.USED])


def attach_child(env: simpy.Environment, server: Server, scenario: Scenario, node: str, disk: Disk, cache: PageCache) -> None:
    """Let the server have children, on its host's disk."""
    conf, file, version = scenario.confs[node], scenario.file, scenario.file.nodes[node].version
    name = file.nodes[node].host
    world = server.world
    rules = ChildRules(
        points=tuple(conf.get("save")), stop_writes=bool(conf.get("stop-writes-on-bgsave-error")),
        incremental=bool(conf.get("rdb-save-incremental-fsync")), drops_cache=version not in KEEPS_FILE_CACHED,
        oom_score_adj=str(conf.get("oom-score-adj")), costs=_costs(scenario, node), host=file.hosts[name],
        memory_bytes=file.hosts[name].memory or scenario.profiles[name].memory_bytes,
        has_huge_pages=has_huge_pages(scenario, node), above_bytes=int(world.child[dp.CH_ABOVE]),
        stretch=_stretch_ppm(scenario, node),
        phase_ns=stream_words(file.seed, node, "aof", "second")[0] % S,
        knows_save=bool((world.kind[:, dp.K_OP] == dp.OP_SAVE).any()),
        weights=np.array([changes_of(row) for row in world.kind], dtype=np.int64),
    )  # fmt: skip
    rewriter = _rewriter(server, conf) if server.aof is not None else None
    server.child = Child(env, lambda: server.world, server.fork_now, disk, cache, rules, server.hold, rewriter)


def _rewriter(server: Server, conf: RedisConf) -> Rewriter:
    """The rewrites of the server's AOF; its base file at the start is what a rewrite would make of the data."""
    assert server.aof is not None, "there is an AOF to rewrite"
    by_commands = not bool(conf.get("aof-use-rdb-preamble"))
    base = (RdbFile.commands if by_commands else RdbFile.of)(server.world).file_bytes
    return Rewriter(
        server.aof, int(conf.get("auto-aof-rewrite-percentage")), int(conf.get("auto-aof-rewrite-min-size")), by_commands,
        bool(conf.get("aof-rewrite-incremental-fsync")), base_bytes=base, grown_from=base,
    )  # fmt: skip


def children(child: Child | None) -> list[dict[str, object]]:
    """nodes.<node>.children of the summary: each save in time order."""
    if child is None:
        return []
    out = []
    for save in child.saves:
        is_over = save.done_ns is not None and save.done_ns <= child.end_ns
        took_ns = save.done_ns - save.begun_ns if is_over and save.done_ns is not None else None
        out.append({
            "kind": save.kind, "because": save.because, "at_s": save.begun_ns / S, "fork_ms": round(save.fork_ns / 1e6, 3),
            "took_s": None if took_ns is None else round(took_ns / S, 6),
            "noticed_s": None if save.noticed_ns is None else save.noticed_ns / S, "rss_bytes": save.rss_bytes,
            "cow_bytes": save.cow_bytes if save.noticed_ns is not None else child.cow_bytes(),
            "file_bytes": save.file.file_bytes if save.file is not None else 0,
            "status": (save.status if is_over or not save.fork_ns else "") or "at work",
        })  # fmt: skip
    return out


def rewrite_info(child: Child | None) -> dict[str, int | str]:
    """INFO persistence: what it says of rewrites; nothing where none can be."""
    if child is None or child.rewriter is None:
        return {}
    save = child.alive
    is_at_work = save is not None and save.kind == "BGREWRITEAOF"
    current_s = (child.now_ns() - save.begun_ns) // S if is_at_work and save is not None else -1
    return child.rewriter.info(is_at_work=is_at_work, current_s=current_s)


def child_info(child: Child) -> dict[str, int | float | str]:
    """INFO persistence: what it says of saves."""
    save = child.alive
    is_saving = save is not None and save.kind == "BGSAVE"
    done = [one for one in child.saves if one.kind == "BGSAVE" and one.noticed_ns is not None]
    took_s = (done[-1].noticed_ns - done[-1].begun_ns) // S if done and done[-1].noticed_ns is not None else -1
    return {
        "current_cow_peak": max(child.peak_cow_bytes, child.cow_bytes()) if save is not None else 0,
        "current_cow_size": child.cow_bytes(),
        "current_fork_perc": round(100 * save.share, 2) if save is not None else 0,
        "current_save_keys_processed": int(save.share * save.keys) if save is not None else 0,
        "current_save_keys_total": save.keys if save is not None else 0,
        "rdb_changes_since_last_save": child.dirty(),
        "rdb_bgsave_in_progress": int(is_saving),
        "rdb_last_save_time": child.last_save_s - child.rules.phase_ns // S,
        "rdb_last_bgsave_status": "ok" if child.is_ok else "err",
        "rdb_last_bgsave_time_sec": took_s,
        "rdb_current_bgsave_time_sec": (child.now_ns() - save.begun_ns) // S if is_saving and save is not None else -1,
        "rdb_saves": sum(one.status == "ok" for one in child.saves if one.kind != "BGREWRITEAOF"),
        "rdb_last_cow_size": child.last_cow_bytes,
    }


def fork_stats(child: Child) -> dict[str, int]:
    """INFO stats: of forks."""
    forks = [save.fork_ns for save in child.saves if save.fork_ns]
    return {"latest_fork_usec": forks[-1] // 1000 if forks else 0, "total_forks": int(child.numbers[dp.CH_FORKS])}


def children_lines(child: Child | None, node: str) -> list[tuple[float, str, str]]:
    """Rows of the event log: what redis-server would have logged."""
    return [(ns / S, node, text) for ns, text in child.lines] if child is not None else []


def guessed_of_fork(
    scenario: Scenario, node: str, child: Child | None, datasets: dict[str, Dataset]
) -> list[tuple[str, int, str]]:
    """(name, value, says) of what is a guess about forks and saves."""
    if child is None:
        return []
    rows = list(_costs(scenario, node).guesses)
    if scenario.confs[node].get("rdbcompression"):
        rows += [
            (f"{name} compressed_to", 1, "values are taken not to compress; set compressed_to of the data set")
            for name, data in datasets.items()
            if "compressed_to" not in data.model_fields_set and data.keys
        ]
    return rows


def child_limits(scenario: Scenario, node: str, child: Child | None) -> list[str]:
    """Sentences for the report: what a reader might expect and is not there."""
    host = _host(scenario, node)
    if host.thp == "always" and not has_huge_pages(scenario, node):
        return ["thp always has no effect: disable-thp yes (the default) turns huge pages off for the server"]
    return []


def changes_of(kind: dp.I64) -> int:
    """What one call of a command of this kind adds to server.dirty for sure; others are counted as they happen (CH_CHANGES)."""
    op = int(kind[dp.K_OP])
    if kind[dp.K_AOF] != dp.PROPAGATED or op == dp.OP_FLUSHALL:
        return 0
    if op == dp.OP_MSET:
        return int(kind[dp.K_NKEYS])
    return int(kind[dp.K_NELEM]) if op in (dp.OP_PUSH, dp.OP_PUT) else 1
