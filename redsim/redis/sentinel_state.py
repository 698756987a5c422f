"""What a Sentinel knows: itself, the instances that it watches, the links to them, what of it is on disk.

Mirrors sentinel.c of 7.0: sentinelState, sentinelRedisInstance, instanceLink, sentinelEvent, sentinelFlushConfig,
rewriteConfigSentinelOption (what of it matters after a restart), sentinelGetCurrentMasterAddress.

    Sentinel   masters by name, each with replicas by host:port and other Sentinels by run id; a link to every one of them
    clock      mstime(): whole milliseconds. A flush (rewrite and fsync) takes the main thread: the clock goes on, nobody is heard
    send       hiredis writes when the loop polls again: what a turn sends leaves at its end, after its flushes
    event      to the log at once, to subscribers at the turn's end; loglevel decides for the log only

Differs: a dict's order is drawn per process and holds for good; in Redis it follows a hash that is drawn per process.
Not modelled: scripts, SENTINEL SET, RESET and REMOVE, lines about saved configurations.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import simpy

from redsim.redis.sentinel_wire import Address, Command, Connection, Hello, InfoReply, Wire
from redsim.units import MS

__all__ = ["Instance", "KnownMaster", "Link", "SavedConfig", "State", "Table"]

# sentinel.c, ms
PING_PERIOD = 1000
INFO_PERIOD = 10_000
INFO_PERIOD_FAST = 1000
ASK_PERIOD = 1000
PUBLISH_PERIOD = 2000
TILT_TRIGGER = 2000
TILT_PERIOD = 30 * PING_PERIOD
SLAVE_RECONF_TIMEOUT = 10_000
MIN_LINK_RECONNECT_PERIOD = 15_000
ELECTION_TIMEOUT = 10_000
MAX_DESYNC = 1000
MAX_PENDING_COMMANDS = 100
DEFAULT_HZ = 10  # server.h: CONFIG_DEFAULT_HZ
RUN_ID_CHARS = 40  # server.h: CONFIG_RUN_ID_SIZE
BEGIN = 10**9  # mstime() when the run begins: 0 is long ago, as in Redis

# failover_state
NONE, WAIT_START, SELECT_SLAVE, SEND_SLAVEOF_NOONE, WAIT_PROMOTION, RECONF_SLAVES, UPDATE_CONFIG = range(7)

# log levels: server.h
DEBUG, VERBOSE, NOTICE, WARNING = range(4)
LOGLEVELS = {"debug": DEBUG, "verbose": VERBOSE, "notice": NOTICE, "warning": WARNING}


class Link:
    """instanceLink: times are ms, 0 is never. Shared by the instances of one Sentinel under several masters."""

    __slots__ = (
        "act_ping_time", "cc", "cc_conn_time", "disconnected", "last_avail_time", "last_ping_time", "last_pong_time",
        "last_reconn_time", "pc", "pc_conn_time", "pc_last_activity", "pending_commands", "ping_ago", "refcount",
    )  # fmt: skip

    def __init__(self, now: int) -> None:
        self.refcount, self.disconnected, self.pending_commands = 1, True, 0
        self.cc: Connection | None = None
        self.pc: Connection | None = None
        self.cc_conn_time = self.pc_conn_time = self.pc_last_activity = self.last_ping_time = self.last_reconn_time = 0
        self.act_ping_time = self.last_avail_time = self.last_pong_time = now
        self.ping_ago = 0  # the first PONG counts as that much older

    def close_commands(self) -> None:
        """instanceLinkCloseConnection of cc."""
        if self.cc is not None:
            self.cc.close()
            self.cc, self.pending_commands, self.disconnected = None, 0, True

    def close_pubsub(self) -> None:
        """The same of pc."""
        if self.pc is not None:
            self.pc.close()
            self.pc, self.disconnected = None, True

    def lost(self, connection: Any) -> None:
        """instanceLinkConnectionError: refused, reset or timed out."""
        if connection is self.pc:
            self.pc = None
        elif connection is self.cc:
            self.cc = None
        self.disconnected = True

    def release(self) -> None:
        """releaseInstanceLink."""
        self.refcount -= 1
        if not self.refcount:
            self.close_commands()
            self.close_pubsub()


class Instance:
    """sentinelRedisInstance: a master, a replica or another Sentinel; the flags SRI_* are attributes. Times are ms."""

    __slots__ = (
        "address", "config_epoch", "down_after", "failover_delay_logged", "failover_epoch", "failover_in_progress",
        "failover_start_time", "failover_state", "failover_state_change_time", "failover_timeout", "force_failover",
        "info_ago", "info_refresh", "is_master", "is_released", "is_sentinel", "is_slave", "last_hello_time",
        "last_master_down_reply_time", "last_pub_time", "leader", "leader_epoch", "link", "master", "master_down",
        "master_link_down_time", "master_reboot", "master_reboot_down_after", "master_reboot_since_time", "name",
        "o_down", "o_down_since_time", "owner", "parallel_syncs", "promoted", "promoted_slave", "quorum",
        "reconf_done", "reconf_inprog", "reconf_sent", "role_reported", "role_reported_time", "runid", "s_down",
        "s_down_since_time", "script_kill_sent", "sentinels", "slave_conf_change_time", "slave_master",
        "slave_master_link_up", "slave_priority", "slave_reconf_sent_time", "slave_repl_offset", "slaves", "type",
    )  # fmt: skip

    def __init__(self, owner: "State", kind: str, name: str, address: Address, master: "Instance | None") -> None:
        now = owner.now_ms()
        self.owner, self.type, self.name, self.address, self.master = owner, kind, name, address, master
        self.is_master, self.is_slave, self.is_sentinel = kind == "master", kind == "slave", kind == "sentinel"
        self.is_released = False
        self.runid = ""
        self.link = Link(now)
        self.config_epoch = 0
        self.last_pub_time = self.last_hello_time = self.last_master_down_reply_time = now
        self.s_down = self.o_down = self.master_down = self.script_kill_sent = self.master_reboot = False
        self.s_down_since_time = self.o_down_since_time = self.master_reboot_since_time = 0
        self.down_after: int = master.down_after if master else 30_000
        self.master_reboot_down_after, self.info_refresh = 0, 0
        self.info_ago = 0  # the first INFO counts as that much older
        self.role_reported, self.role_reported_time = ("" if self.is_sentinel else kind), now
        self.slave_conf_change_time = now
        self.quorum, self.parallel_syncs, self.failover_timeout = 0, 1, 180_000
        self.slaves, self.sentinels = Table(owner), Table(owner)
        self.master_link_down_time, self.slave_priority, self.slave_repl_offset = 0, 100, 0
        self.slave_master: Address | None = None
        self.slave_master_link_up = False
        self.slave_reconf_sent_time = 0
        self.promoted = self.reconf_sent = self.reconf_inprog = self.reconf_done = False
        self.leader, self.leader_epoch = "", 0
        self.failover_epoch, self.failover_state, self.failover_state_change_time = 0, NONE, 0
        self.failover_start_time = self.failover_delay_logged = 0
        self.failover_in_progress = self.force_failover = False
        self.promoted_slave: Instance | None = None

    def text(self) -> str:
        """The %@ of sentinelEvent."""
        here = f"{self.type} {self.name} {self.address.host} {self.address.port}"
        if self.master is None:
            return here
        return f"{here} @ {self.master.name} {self.master.address.host} {self.master.address.port}"

    def current_address(self) -> Address:
        """sentinelGetCurrentMasterAddress: the promoted replica's as soon as it says that it is a master."""
        if self.failover_in_progress and self.promoted_slave is not None and self.failover_state >= RECONF_SLAVES:
            return self.promoted_slave.address
        return self.address

    def no_down_for(self, period: int) -> bool:
        """sentinelRedisInstanceNoDownFor."""
        latest = max(self.s_down_since_time, self.o_down_since_time)
        return latest == 0 or self.owner.now_ms() - latest > period

    def looks_sane(self) -> bool:
        """sentinelMasterLooksSane."""
        is_up = self.role_reported == "master" and not (self.s_down or self.o_down)
        return is_up and self.owner.now_ms() - self.info_refresh < 2 * INFO_PERIOD

    def release(self) -> None:
        """releaseSentinelRedisInstance."""
        self.is_released = True
        self.link.release()


class Table:
    """A dict of instances by name, in an order of the process' own."""

    __slots__ = ("_by_name", "_owner", "all")

    def __init__(self, owner: "State") -> None:
        self._owner, self._by_name = owner, dict[str, Instance]()
        self.all: tuple[Instance, ...] = ()

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Instance]:
        return iter(self.all)

    def get(self, name: str) -> Instance | None:
        """The instance of that name."""
        return self._by_name.get(name)

    def add(self, instance: Instance) -> None:
        """createSentinelRedisInstance puts it in."""
        assert instance.name not in self._by_name, f"{instance.name} is there already"
        self._by_name[instance.name] = instance
        self._sort()

    def remove(self, instance: Instance) -> None:
        """It is released."""
        del self._by_name[instance.name]
        instance.release()
        self._sort()

    def clear(self) -> None:
        """All of them are."""
        for instance in self.all:
            instance.release()
        self._by_name.clear()
        self.all = ()

    def _sort(self) -> None:
        self.all = tuple(sorted(self._by_name.values(), key=self._owner.dict_order))


@dataclass(frozen=True)
class KnownMaster:
    """What sentinel.conf has of a master after a flush."""

    address: Address
    config_epoch: int = 0
    leader_epoch: int = 0
    replicas: tuple[Address, ...] = ()
    sentinels: tuple[tuple[Address, str], ...] = ()  # with run id


@dataclass(frozen=True)
class SavedConfig:
    """What survives the process: identity, epochs, votes, what it found."""

    myid: str
    current_epoch: int = 0
    masters: dict[str, KnownMaster] = field(default_factory=dict)


class State(ABC):
    """sentinelState, and what every part of a Sentinel needs: clock, wire, log, disk, luck.

    state    myid, current_epoch, masters, tilt, tilt_start_time, previous_time     as in Redis
             saved     the configuration as last flushed
             flushes   how many there were, and the longest
    """

    def __init__(
        self, env: simpy.Environment, name: str, address: Address, wire: Wire, log: list[tuple[int, str, str]],
        flush_ns: Callable[[], int], loglevel: str,
    ) -> None:  # fmt: skip
        self.env, self.name, self.address, self.wire, self.log = env, name, address, wire, log
        self._flush_ns, self._loglevel = flush_ns, LOGLEVELS[loglevel]
        self.announced, self.is_alive = address, False
        self.subscribers: list[Callable[[int, str, str], None]] = []
        self.published: list[tuple[str, str]] = []
        self.myid, self.current_epoch = "", 0
        self.tilt, self.tilt_start_time, self.previous_time = False, 0, 0
        self.flushes, self.flush_max_ns = 0, 0
        self.ahead_ns = 0  # of this turn of the loop: so much of it was spent on flushes
        self.outbox: list[tuple[Connection, Command, Callable[[Any], None]]] = []
        self.saved = SavedConfig("")
        self.masters = Table(self)

    def now_ms(self) -> int:
        """mstime()."""
        return BEGIN + (int(self.env.now) + self.ahead_ns) // MS

    def dict_order(self, instance: Instance) -> bytes:
        """Where a dict has it."""
        return hashlib.sha256(f"{self.myid} {instance.name}".encode()).digest()

    @abstractmethod
    def desync_ms(self) -> int:
        """rand() % SENTINEL_MAX_DESYNC."""

    @abstractmethod
    def refresh_info(self, ri: Instance, info: InfoReply) -> None:
        """INFO of an instance has come."""

    @abstractmethod
    def process_hello(self, hello: Hello) -> None:
        """Another Sentinel says hello."""

    @abstractmethod
    def deliver(self, connection: Connection, callback: Callable[[Any], None], message: Any) -> None:
        """Receiver: something is in a socket."""

    @abstractmethod
    def request(self, command: Command, answer: Callable[[Any, int], None]) -> None:
        """Receiver: somebody asks."""

    def event(self, level: int, kind: str, text: str) -> None:
        """sentinelEvent; `kind` is the channel too."""
        if level >= self._loglevel:
            self.say(f"{kind} {text}")
        if level != DEBUG and self.subscribers:
            self.published.append((kind, text))

    def send(self, connection: Connection | None, command: Command, on_reply: Callable[[Any], None]) -> None:
        """redisAsyncCommand: it is written when this turn of the loop is over, after whatever it flushes."""
        assert connection is not None, "there is a connection to send it over"
        self.outbox.append((connection, command, on_reply))

    def say(self, text: str) -> None:
        """A line of its log."""
        self.log.append((int(self.env.now) + self.ahead_ns, self.name, text))

    def flush_config(self) -> None:
        """sentinelFlushConfig: on the main thread."""
        took_ns = int(self._flush_ns())
        assert took_ns >= 0, f"a flush takes time: {took_ns}"
        self.flushes, self.flush_max_ns = self.flushes + 1, max(self.flush_max_ns, took_ns)
        self.ahead_ns += took_ns
        self.saved = SavedConfig(self.myid, self.current_epoch, {master.name: _known(master) for master in self.masters})

    def heed_epoch(self, epoch: int) -> None:
        """Another Sentinel says an epoch, which is the current one if it is higher."""
        if epoch > self.current_epoch:
            self.current_epoch = epoch
            self.flush_config()
            self.event(WARNING, "+new-epoch", str(epoch))

    def master_at(self, address: Address) -> Instance | None:
        """The master that is watched under that address."""
        return next((master for master in self.masters.all if master.address == address), None)

    def create(self, kind: str, name: str, address: Address, master: Instance | None) -> Instance | None:
        """createSentinelRedisInstance; None where one of that name is there."""
        if master is None:
            table = self.masters
        else:
            table = master.slaves if kind == "slave" else master.sentinels
        if kind == "slave":
            name = address.name
        if table.get(name) is not None:
            return None
        instance = Instance(self, kind, name, address, master)
        if master is not None:
            instance.quorum = master.quorum
        table.add(instance)
        return instance


def _known(master: Instance) -> KnownMaster:
    """rewriteConfigSentinelOption: a replica that was promoted stands there as the master, the master as a replica."""
    current = master.current_address()
    replicas = tuple(master.address if slave.address == current else slave.address for slave in master.slaves.all)
    others = tuple((other.address, other.runid) for other in master.sentinels.all if other.runid)
    return KnownMaster(current, master.config_epoch, master.leader_epoch, replicas, others)
