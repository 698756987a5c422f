"""The append-only file of a node of a scenario: its row of the World, its disk, what a run says of it afterwards.

Mirrors config.c (appendonly, appendfsync); the loop's part is dataplane/aof.py, the host's redis/aof.py.
Differs: the AOF is on from the start.
"""

import numpy as np
import simpy

from redsim.dataplane import layout as dp
from redsim.dataplane.events import NEVER
from redsim.host.disk import Disk
from redsim.host.disk_faults import disk_fault
from redsim.host.pagecache import PageCache
from redsim.redis.aof import EVENTS, Aof
from redsim.redis.server import Server
from redsim.rng import stream_words
from redsim.run.bgsave import attach_child
from redsim.run.kinds import KindMaker
from redsim.scenario.disk import DiskProfile, chosen_disk
from redsim.scenario.load import Scenario
from redsim.scenario.profile import disk_profile
from redsim.units import MS, S

__all__ = ["aof_row", "attach_aof", "disk_of_host", "guessed_of_disk", "has_aof"]

POLICIES = {"no": dp.AOF_NO, "everysec": dp.AOF_EVERYSEC, "always": dp.AOF_ALWAYS}
SECONDS = ("6.2", "7.0", "7.2")  # versions that compare whole seconds of the clock


def has_aof(scenario: Scenario, node: str) -> bool:
    """Whether the node's conf says appendonly yes."""
    return bool(scenario.confs[node].get("appendonly"))


def disk_of_host(scenario: Scenario, host: str) -> DiskProfile:
    """The disk of a host of the scenario."""
    return chosen_disk(disk_profile(scenario.profiles[host]), scenario.file.hosts[host].disk)


def aof_row(scenario: Scenario, node: str, maker: KindMaker) -> dp.I64:
    """The World's aof row, zeros without an AOF; adds the causes that a write or fsync is blamed by."""
    row = np.zeros(dp.A_SIZE, dtype=np.int64)
    disk = disk_of_host(scenario, scenario.file.nodes[node].host)
    if not has_aof(scenario, node):
        return row
    conf, version = scenario.confs[node], scenario.file.nodes[node].version
    row[dp.A_POLICY] = POLICIES[str(conf.get("appendfsync"))]
    row[dp.A_FEED] = 1
    columns = {"write_ns": dp.A_WRITE_NS, "write_ps_per_byte": dp.A_WRITE_PS, "append_ns": dp.A_APPEND_NS,
               "append_ps_per_byte": dp.A_APPEND_PS}  # fmt: skip
    for name, column in columns.items():
        row[column] = disk.costs[name].value
    row[dp.A_DIST] = maker.tables.quantiles(disk.words())
    row[dp.A_SYNC_PS] = 1000 * S // disk.stream_bytes_per_s
    row[dp.A_LOCKS] = int(disk.write_waits_for_fsync)
    row[dp.A_NO_FSYNC] = int(bool(conf.get("no-appendfsync-on-rewrite")))
    is_by_seconds = version in SECONDS
    row[dp.A_TICK_NS], row[dp.A_SECOND] = (S, 1) if is_by_seconds else (MS, 1000)
    row[dp.A_PHASE_NS] = stream_words(scenario.file.seed, node, "aof", "second")[0] % S
    row[dp.A_LAST] = row[dp.A_PHASE_NS] // row[dp.A_TICK_NS]
    row[dp.A_WRAP] = int(version != "6.2")
    row[dp.A_POSTPONED], row[dp.A_LIMIT] = dp.NONE, NEVER
    causes = [maker.cause(event) for event in EVENTS]
    assert causes == list(range(causes[0], causes[0] + len(EVENTS))), "the events' causes follow each other"
    row[dp.A_CAUSE] = causes[0]
    return row


def attach_aof(env: simpy.Environment, server: Server, scenario: Scenario, node: str) -> None:
    """Give the server its AOF on its host's disk, if its conf has it on, and its children, if it can have any."""
    can_fork = server.world.cow.size > 1
    if not has_aof(scenario, node) and not can_fork:
        return
    file, host = scenario.file, scenario.file.nodes[node].host
    disk = Disk(env, disk_of_host(scenario, host), file.seed, host)
    memory_bytes = file.hosts[host].memory or scenario.profiles[host].memory_bytes
    for place, fault in file.faults:
        if fault.host == host:
            env.process(disk_fault(env, disk, fault, place))
    cache = PageCache(env, disk, memory_bytes, file.duration)
    if has_aof(scenario, node):
        server.aof = Aof(env, server.world.aof, disk, cache)
    if can_fork:
        attach_child(env, server, scenario, node, disk, cache)


def guessed_of_disk(scenario: Scenario, node: str) -> list[tuple[str, int, str]]:
    """(name, value, says) of what is a guess in the disk under the node's AOF."""
    return list(disk_of_host(scenario, scenario.file.nodes[node].host).guessed) if has_aof(scenario, node) else []
