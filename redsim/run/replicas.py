"""The servers of a scenario that belong together: arrays that their Worlds share, each one's row, who is whose master.

Mirrors config.c (repl-*, client-output-buffer-limit replica, min-replicas-*); the loop's part is dataplane/replication.py and
dataplane/replica.py, the control's redis/replication.py and redis/replica.py, the network's host/network.py.
Differs: a replica that is synced at the start has an empty backlog at offset 0, as its master. Executing a unit costs a replica
what it cost its master times the ratio of what a call costs on their hosts.
Not modelled: used_memory of the connections between servers, besides the replication buffer.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import simpy

from redsim.dataplane import layout as dp
from redsim.dataplane.output_buffers import take_ring
from redsim.dataplane.replica import look_again
from redsim.dataplane.replication import drop_backlog
from redsim.dataplane.undo import Snapshot
from redsim.host.network import Network
from redsim.redis.repl_session import BACKLOG_MIN_BYTES, Data, ReplRules
from redsim.redis.replica import Replica
from redsim.redis.replication import Master
from redsim.redis.roles import Role, replicaof
from redsim.redis.server import Server
from redsim.rng import generator
from redsim.run import restart
from redsim.run.groups import Plans, make_plans
from redsim.run.kinds import KindMaker, maker_of
from redsim.scenario.disk import chosen_disk
from redsim.scenario.load import Scenario
from redsim.scenario.network import RTT_NS, SOCKET_BUFFER_BYTES, link_between
from redsim.scenario.profile import disk_profile
from redsim.scenario.roles import RoleChange, role_change
from redsim.units import MIB, MS, S

__all__ = ["Family", "Peers", "guessed_of_network", "has_replicas", "repl_rules"]

STREAM_CAUSE, REPLICAS_CAUSE = "replication stream", "writing to replicas"
SAVE_CAUSE, FLUSH_CAUSE, LOAD_CAUSE = "full sync: fsync of the file", "full sync: flush of old data", "full sync: loading"
STREAM_ROWS = 1 << 18  # at first; as many as nobody needs any more are room for new ones
BLOCKS_MAX = 1 << 20
TWO_CHANNELS = {"valkey-8.0": "dual-channel-replication-enabled", "8.0": "repl-rdb-channel"}
REPLICA_LIMITS = 256 * MIB, 64 * MIB, 60  # config.c: clientBufferLimitsDefaults, where a conf names other classes only
SHUTDOWN_NS = 20 * MS  # guess: within so long a replica has executed what was left of the stream
SYNC_BYTES = 8 * MIB  # replication.c: REPL_MAX_WRITTEN_BEFORE_FSYNC: what fsync of the file finds at most
RDB_STEP_BYTES = 2 * MIB  # config.c: loading-process-events-interval-bytes


def has_replicas(scenario: Scenario, node: str) -> bool:
    """Whether another server of the scenario replicates the node, or may come to."""
    file = (scenario.whole or scenario).file
    return file.may_change_roles or any(other.replica_of == node for other in file.nodes.values())


def repl_rules(scenario: Scenario, node: str) -> ReplRules:
    """What the node's conf says of replication."""
    conf, version = scenario.confs[node], scenario.file.nodes[node].version
    hard, soft, soft_s = conf.get("client-output-buffer-limit").get("replica", REPLICA_LIMITS)
    backlog = max(int(conf.get("repl-backlog-size")), BACKLOG_MIN_BYTES)
    since_70 = version != "6.2"
    return ReplRules(
        backlog_bytes=backlog, ttl_s=int(conf.get("repl-backlog-ttl")), timeout_s=int(conf.get("repl-timeout")),
        ping_s=int(conf.get("repl-ping-replica-period")), is_diskless=bool(conf.get("repl-diskless-sync")),
        delay_s=int(conf.get("repl-diskless-sync-delay")),
        max_replicas=int(conf.get("repl-diskless-sync-max-replicas")) if since_70 else 0,
        hard_bytes=max(int(hard), backlog) if hard and since_70 else int(hard), soft_bytes=int(soft), soft_s=int(soft_s),
        min_replicas=int(conf.get("min-replicas-to-write")), max_lag_s=int(conf.get("min-replicas-max-lag")),
        is_exact=not since_70, diskless_load=str(conf.get("repl-diskless-load")),
        is_dual=version in TWO_CHANNELS and bool(conf.get(TWO_CHANNELS[version])),
        serves_stale=bool(conf.get("replica-serve-stale-data")),
    )  # fmt: skip


class Family:
    """A master with its replicas, and theirs: what their Worlds share. Of one server alone: arrays of no use.

    state    names      the master first, the others in the order of the file
             plans      what the master's clients do, once it is built: the keys of all are as that makes them
             wire, mail, stream      the Worlds' arrays of these names
             has_roles  somebody's role may change
             links      who may follow another -> row of wire
             causes     node -> numbers of the causes STREAM_CAUSE, REPLICAS_CAUSE, where roles may change
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.names = sorted(scenario.file.nodes, key=lambda name: scenario.file.nodes[name].replica_of is not None)
        self.plans: Plans | None = None
        self.writers: Plans | None = None  # what all clients do, where roles may change: anybody's may write then
        self.has_roles = scenario.file.may_change_roles
        self.causes: dict[str, tuple[int, int]] = {}
        replicas = [name for name in self.names if self.is_replica(name) or self.has_roles]
        self.links = {name: i for i, name in enumerate(replicas)}
        self.wire = dp.rows(max(len(replicas), 1), dp.W_SIZE)
        self.wire[:, [dp.W_FROM, dp.W_TO]] = dp.NONE
        for name, i in self.links.items():
            self.wire[i, dp.W_TO] = self.names.index(name)
            if self.is_replica(name):
                self.wire[i, dp.W_FROM] = self.names.index(str(scenario.file.nodes[name].replica_of))
                self.wire[i, dp.W_STATE] = dp.WIRE_STREAM if scenario.file.nodes[name].synced else dp.WIRE_OFF
        self.mail = dp.rows(dp.LANES * dp.MAIL_ROWS * len(replicas) or 1, 2)
        self.stream = dp.rows(STREAM_ROWS if replicas else 16, dp.Y_SIZE)

    def everybody(self, plans: Plans) -> Plans:
        """What the clients of all servers do, with the data sets of `plans`."""
        views = [(name, self.scenario.of_node(name)) for name in self.names]
        every = [plan for name, view in views for plan in make_plans(view, maker_of(self._profile(name))).plans]
        return Plans(plans=every, datasets=plans.datasets)

    def is_replica(self, node: str) -> bool:
        """Whether it follows another at the start."""
        return self.scenario.file.nodes[node].replica_of is not None

    def arrays(self, scenario: Scenario, node: str, maker: KindMaker, aof: dp.I64) -> dict[str, Any]:
        """What the World of a node has of it; its aof row is told that there is a stream. `scenario`: the node's."""
        row = np.zeros(dp.M_SIZE, dtype=np.int64)
        blocks = 16
        if self.links:
            blocks = self._fill(row, scenario, node, maker)
            aof[dp.A_FEED] |= int(not self.is_replica(node))  # commands are counted from the start, fed once there is a backlog
        return {
            "repl": row, "behind": np.zeros(dp.COARSE_BUCKETS + 2, dtype=np.int64), "block": dp.rows(blocks, 2),
            "stream": self.stream, "wire": self.wire, "mail": self.mail,
        }  # fmt: skip

    def _fill(self, row: dp.I64, scenario: Scenario, node: str, maker: KindMaker) -> int:
        """The row of a server that others belong to; how many blocks its buffer may have."""
        rules, is_replica = repl_rules(scenario, node), self.is_replica(node)
        row[dp.M_SELF], row[dp.M_LINKED], row[dp.M_IS_REPLICA] = self.names.index(node), 1, int(is_replica)
        row[dp.M_WRAP] = int(scenario.file.nodes[node].version != "6.2")
        row[dp.M_RING] = int(rules.is_exact)
        mine = [self.scenario.file.nodes[name] for name in self.links if self.scenario.file.nodes[name].replica_of == node]
        has_history = self.scenario.file.nodes[node].synced if is_replica else any(one.synced for one in mine)
        if has_history:
            row[dp.M_BACKLOG], row[dp.M_FIRST], row[dp.M_ON] = rules.backlog_bytes, 1, int(not is_replica)
        row[dp.M_BLOCK_MAX] = max(rules.backlog_bytes // 16, BACKLOG_MIN_BYTES)
        row[dp.M_HARD] = rules.hard_bytes
        costs = self._profile(node).costs
        row[dp.M_WAKE_NS] = costs.get("wake_server_ns", costs["wake_peer_ns"]).value
        disk = chosen_disk(disk_profile(self._profile(node)), self.scenario.file.hosts[self._host(node)].disk)
        for name, column in (("append_ns", dp.M_FEED_NS), ("append_ps_per_byte", dp.M_FEED_PS), ("write_ns", dp.M_FILE_NS),
                             ("write_ps_per_byte", dp.M_FILE_PS)):  # fmt: skip
            row[column] = disk.costs[name].value
        row[dp.M_CAUSE] = maker.cause(STREAM_CAUSE if is_replica else REPLICAS_CAUSE)
        if is_replica or self.has_roles:
            for name in (SAVE_CAUSE, FLUSH_CAUSE, LOAD_CAUSE):
                maker.cause(name)
        if self.has_roles:
            self.causes[node] = maker.cause(STREAM_CAUSE), maker.cause(REPLICAS_CAUSE)
            row[dp.M_REFUSES] = dp.READS_ONLY if is_replica else 0
        if is_replica:
            row[dp.M_SCALE_PPM] = self.scale_ppm(node, str(self.scenario.file.nodes[node].replica_of))
        most = 2 * max(rules.hard_bytes, rules.backlog_bytes) // BACKLOG_MIN_BYTES if rules.hard_bytes else BLOCKS_MAX
        return dp.power_of_two(int(min(max(most, 4096), BLOCKS_MAX)))

    def scale_ppm(self, node: str, master: str) -> int:
        """What a command takes on the node's host, in millionths of what it takes on the master's."""
        mine_ns, its_ns = (self._profile(name).costs["call_ns"].value for name in (node, master))
        return 1_000_000 * mine_ns // max(its_ns, 1)

    def _host(self, node: str) -> str:
        return self.scenario.file.nodes[node].host

    def _profile(self, node: str) -> Any:
        return self.scenario.profiles[self._host(node)]


def guessed_of_network(scenario: Scenario) -> list[tuple[str, int, str]]:
    """(name, value, says) of what is a guess in the network between the servers."""
    out, seen = [], set()
    for name, node in scenario.file.nodes.items():
        if node.replica_of is None:
            continue
        a, b = scenario.file.nodes[node.replica_of].host, node.host
        if a == b or frozenset((a, b)) in seen:
            continue
        seen.add(frozenset((a, b)))
        link = link_between(scenario.file, a, b)
        if link not in scenario.file.links:
            out.append((f"rtt {a} - {b}", RTT_NS, "no link between these hosts in the scenario; two hosts of one data centre"))
        if "socket_buffer" not in link.model_fields_set:
            said = f"bytes that the sockets of {name}'s connection hold before its master's writes wait"
            out.append(("socket_buffer", SOCKET_BUFFER_BYTES, said))
    return out


@dataclass
class Peers:
    """One server's part: as a master, as a replica; `role`: what may change from one to the other; `kept_row`: from where on its
    stream is kept, whoever needs it, None: nobody's history has left its own."""

    server: Server
    master: Master
    replica: Replica | None = None
    role: Role | None = None
    kept_row: int | None = None
    shares: list[Server] = field(default_factory=list)  # all servers that share the stream
    lives: list[Any] = field(default_factory=list)  # run/crash.py: what their restarts would load
    on_wonder: Callable[[], None] = lambda: None  # clients that follow a service have lost it
    on_death: list[Callable[[bool], None]] = field(default_factory=list)  # whether its host is gone, too

    def cron(self, *, is_a_second: bool) -> None:
        """serverCron."""
        self.master.soft_limits()
        self.master.child_is_gone()
        if is_a_second:
            self.master.cron()
            if self.follows is not None:
                self.follows.cron()
        if self.server.world.repl[dp.M_ON]:
            self._make_room()

    @property
    def follows(self) -> Replica | None:
        """Its half as a replica, if it is one now."""
        return self.replica if self.replica is not None and self.replica.followed is not None else None

    def answer(self) -> None:
        """What the data plane asks."""
        if self.server.world.repl[dp.M_WANT] & dp.CLIENTS_WONDER:
            self.on_wonder()
        self.master.answer()
        if self.replica is not None:
            self.replica.answer()

    def noted(self, snapshot: Snapshot) -> Snapshot:
        """rdb.c:rdbSaveInfoAuxFields: a file that is begun now knows the history it belongs to."""
        m = self.server.world.repl
        replica = self.follows
        replid = replica.replid if replica is not None else self.master.replid if self.master.has_backlog else 0
        row = int(m[dp.M_APPLY] if replica is not None else m[dp.M_ROWS])
        return replace(snapshot, replid=replid, offset=int(m[dp.M_OFFSET]), row=row)

    def died(self, *, with_host: bool, has_said_all: bool = False) -> None:
        """The process is gone. Its host resets its connections; one that is gone too says nothing, and the others wait for
        time-outs. `has_said_all`: its replicas get what it has for them first (a shutdown waits for them, 10 s at most)."""
        world = self.server.world
        for row in world.wire:
            if row[dp.W_TO] == world.repl[dp.M_SELF]:
                row[dp.W_READY_REPLICA] = 0
            elif row[dp.W_FROM] == world.repl[dp.M_SELF]:
                row[[dp.W_READY_MASTER, dp.W_PENDING]] = 0
        if has_said_all:
            self.server.env.process(self._say_all())
        elif not with_host:
            self.master.close_all("the master died")
        for watcher in self.on_death:
            watcher(with_host)
        self.master.is_down = True
        if self.replica is not None:
            self.replica.died(with_host=with_host)
        drop_backlog(world)
        world.repl[[dp.M_WANT, dp.M_UNIT_BYTES, dp.M_GETACK]] = 0

    def _say_all(self) -> Generator[simpy.Event, None, None]:
        """prepareForShutdown: what is left of the stream comes to replicas that can be reached; then they lose their master."""
        world, env = self.server.world, self.server.env
        offset, rows = int(world.repl[dp.M_OFFSET]), int(world.repl[dp.M_ROWS])
        mine = [one for one in self.master.sessions if one.state == "online"]
        yield env.timeout(MS + 2 * max((int(world.wire[one.link, dp.W_DELAY]) for one in mine), default=0))
        for session in [one for one in mine if not one.is_over and int(world.wire[one.link, dp.W_HOLD]) <= env.now]:
            row = world.wire[session.link]
            row[dp.W_QUEUED + dp.LANE_STREAM], row[dp.W_ARRIVED], row[dp.W_ROWS] = 0, offset, rows
            other = next(one for one in self.shares if one.world.repl[dp.M_SELF] == row[dp.W_TO])
            look_again(other.world, session.link, 0)
        yield env.timeout(SHUTDOWN_NS)
        for session in [one for one in mine if not one.is_over]:
            self.master.close(session, "the master was shut down")

    def started(self, snapshot: Snapshot | None) -> None:
        """A new process has its data: does it know how far it was in which history? (loadDataFromDisk; an AOF does not say.)"""
        replid, offset, row = (snapshot.replid, snapshot.offset, snapshot.row) if snapshot is not None else (0, 0, 0)
        for session in list(self.master.sessions):
            self.master.close(session, "the master has restarted")
        if self.role is not None and self.role.replica.conf_master is not self.role.replica.followed:
            self.role.take(self.role.replica.conf_master)
        if self.follows is not None:
            m = self.server.world.repl
            m[dp.M_OFFSET], m[dp.M_APPLY] = offset, row if replid else m[dp.M_APPLY]
            self.follows.started(replid)
        else:
            self.master.restarted(replid, offset)

    def ready(self) -> None:
        """The new process serves: it connects to its master, and others to it."""
        self.master.is_down = False
        if self.replica is not None:
            self.replica.revive()

    def _make_room(self) -> None:
        """The stream keeps the rows that a replica may still need; if they fill half of it, it becomes twice as large."""
        world = self.server.world
        rows, first = int(world.repl[dp.M_ROWS]), int(world.repl[dp.M_FIRST])
        needed = [
            int(other.world.repl[dp.M_APPLY if other.world.repl[dp.M_IS_REPLICA] else dp.M_ROWS]) for other in self.shares
            if other is not self.server and int(other.world.repl[dp.M_OFFSET]) + 1 >= first
        ]  # fmt: skip
        needed += [one.snapshot.row for one in self.lives if one.snapshot is not None and one.snapshot.offset + 1 >= first]
        needed += [self.kept_row] if self.kept_row is not None else []
        needed += [one.row for one in self.master.sessions if one.state in ("wait_bgsave", "send_bulk") and one.save]
        tail, size = min(needed, default=rows), len(world.stream)
        assert rows - tail <= size, "the replication stream has run over"
        if 2 * (rows - tail) > size:
            stream = dp.rows(2 * size, dp.Y_SIZE)
            numbers = np.arange(tail, rows)
            stream[numbers % (2 * size)] = world.stream[numbers % size]
            old = world.stream
            for server in [one for one in self.shares if one.world.stream is old]:
                server.world = dp.placed(server.world._replace(stream=stream))


def attach_peers(
    env: simpy.Environment, scenario: Scenario, family: Family, servers: dict[str, Server], views: dict[str, Scenario],
    causes: dict[str, list[str]],
) -> dict[str, Peers]:  # fmt: skip
    """Give each server its part in replication; none for a server alone. Before the run."""
    if not family.links:
        return {}
    file = scenario.file
    loopback_ns = scenario.profiles[file.nodes[family.names[0]].host].loopback_rtt_ns
    for server in servers.values():
        if server.world.repl[dp.M_BACKLOG]:
            take_ring(server.world)
    network = Network(env, file, family.names, family.wire, loopback_ns)
    peers = {
        name: Peers(server, Master(env, server, repl_rules(views[name], name), name, restart.snapshot_of),
                    shares=list(servers.values()))
        for name, server in servers.items()
    }  # fmt: skip
    for name, link in family.links.items():
        view, server = views[name], servers[name]
        numbers = [causes[name].index(cause) for cause in (SAVE_CAUSE, FLUSH_CAUSE, LOAD_CAUSE)]
        master = peers[str(file.nodes[name].replica_of)].master if family.is_replica(name) else None
        replica = Replica(env, server, name, link, peers[name].master, master, network, _data(view, name),
                          (numbers[0], numbers[1], numbers[2]), repl_rules(view, name))  # fmt: skip
        peers[name].replica = replica
        peers[name].master.is_ready = lambda replica=replica: replica.state in ("online", "master")  # type: ignore[misc]
        if family.has_roles:
            scales = {other: family.scale_ppm(name, other) for other in family.names}
            peers[name].role = Role(replica, family.causes[name], scales, server.has_volatile_keys)
        if master is not None and file.nodes[name].synced:
            replica.adopt()
        elif master is not None:
            restart.empty(server.world)
        replica.process = env.process(replica.life())
    for _, entry in file.role_entries:
        env.process(_told(env, role_change(entry), peers))

    def cut(link: int) -> None:
        for one in peers.values():
            for session in [s for s in one.master.sessions if s.link == link]:
                one.master.close(session, "the connection was cut")

    network.on_cut = cut
    for name, one in peers.items():
        servers[name].peer = one
        servers[name].has_volatile_keys &= not family.is_replica(name)
    return peers


def _told(env: simpy.Environment, change: RoleChange, peers: dict[str, Peers]) -> Generator[simpy.Event, Any, None]:
    """REPLICAOF by somebody's redis-cli: executed when its turn comes."""
    yield env.timeout(change.at)
    one = peers[change.node]
    assert one.role is not None, "roles may change"
    said = f"REPLICAOF {change.master if change.master is not None else 'NO ONE'}"
    while (late_ns := int(one.server.world.st[dp.NOW]) - int(env.now)) > 0:
        yield env.timeout(late_ns)
    if one.master.is_down:
        one.master.lines.append((int(env.now), f"{said}: there is no process"))
        return
    answer = replicaof(one.role, peers[change.master].master if change.master is not None else None)
    one.master.lines.append((int(env.now), f"{said}: {answer}"))


def _data(view: Scenario, name: str) -> Data:
    """Files and keys of a replica."""
    profile = view.profiles[view.file.nodes[name].host]
    disk = chosen_disk(disk_profile(profile), view.file.hosts[view.file.nodes[name].host].disk)
    luck = generator(view.file.seed, name, "replica", "fsync")
    is_lazy = bool(view.confs[name].get("replica-lazy-flush"))
    step = view.confs[name].get("loading-process-events-interval-bytes") if view.file.nodes[name].version != "6.2" else None
    pace = int(step or RDB_STEP_BYTES), profile.rdb_load_bytes_per_s()

    def load_ns(file_bytes: int, keys: int) -> tuple[int, int]:
        ns, looks = restart.rdb_load(file_bytes, keys, *pace)
        return ns, ns // (looks + 1)

    def flush_ns(world: Any) -> int:
        keys = int(world.dataset[:, dp.D_LIVE].sum())
        return 0 if is_lazy or keys == 0 else round(profile.curves["flushall"].at(keys) * keys)

    def fsync_ns() -> int:
        return disk.fsync_at(float(luck.random())) + SYNC_BYTES * S // disk.stream_bytes_per_s

    return Data(restart.take_snapshot, load_ns, flush_ns, fsync_ns)
