"""The scenario file's shape: what may be written, in which unit, within which bounds.

YAML 1.2 checked by pydantic, strict and with `extra=forbid`. Every duration becomes int ns, every size int
bytes; after this module there are no strings with units. Cross references (a node that a group names) are
checked in `check.py`; file, line and cure are added in `explain.py`.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveInt,
    Tag,
    model_validator,
)

from redsim.scenario.crashes import NodeFault
from redsim.scenario.disk import DiskUse
from redsim.scenario.faults import DiskFault, kind_of_entry
from redsim.scenario.linux import Linux
from redsim.scenario.network import Link, NetworkFault
from redsim.scenario.roles import is_role_change
from redsim.scenario.sentinel_conf import SENTINEL_PORT
from redsim.scenario.sentinels import Place, Sentinels, is_of_sentinel
from redsim.scenario.shape import Bandwidth, Duration, Memory, Model, Ttl
from redsim.scenario.sizes import Gpareto, Lognormal, Size, Uniform

Version = Annotated[
    Literal["6.2", "7.0", "7.2", "7.4", "8.0", "valkey-8.0"],
    BeforeValidator(lambda v: str(v) if isinstance(v, float) else v),  # `version: 7.0` without quotes
]
__all__ = ["Arrivals", "CommandUse", "Dataset", "Gpareto", "Group", "Hiccups", "Host", "Lognormal", "Node", "Open", "Popularity",
           "ScenarioFile", "Size", "TimelineEntry", "Uniform"]  # fmt: skip
KeyType = Literal["string", "list", "hash", "set", "zset"]


# ---- hosts and nodes ---------------------------------------------------------------------------------------


class Hiccups(Model):
    """When the host takes the CPU away, and for how long: what `redis-cli --intrinsic-latency` sees."""

    every: Duration = Field(gt=0)  # mean time between two hiccups (exponential)
    table: list[Annotated[tuple[Duration, float], Field(strict=False)]] = Field(min_length=1)  # weights

    @model_validator(mode="after")
    def _weights(self) -> "Hiccups":
        if any(w < 0 for _, w in self.table) or not sum(w for _, w in self.table) > 0:
            raise ValueError("table needs weights of 0 or more, one of them above 0")
        return self


class Host(Linux):
    profile: str = "default"  # a shipped profile, or a path
    cores: PositiveInt | None = None  # None: as the profile says
    memory: Memory | None = Field(default=None, gt=0)  # None: as the profile says
    nic: Bandwidth | None = Field(default=None, gt=0)  # what all its connections share, each way; None: no limit
    hiccups: Literal["none", "profile"] | Hiccups = "none"
    disk: DiskUse | None = None  # None: the profile's; a name of disks.yaml, or figures


class Node(Model):
    host: str
    version: Version = "7.0"
    allocator: Literal["jemalloc", "jemalloc-debian", "libc"] = "jemalloc"  # what the build was linked with
    conf: str = ""  # verbatim redis.conf text
    conf_file: str | None = None  # or a path, relative to the scenario
    replica_of: str | None = None  # the node that it replicates
    synced: bool = True  # has its master's data at the start and is online; false: it asks for them then


class Dataset(Model):
    node: str
    keys: NonNegativeInt
    type: KeyType = "string"
    key_bytes: Size = Size(constant=16)
    value_bytes: Size = Size(constant=100)  # of a string, or of each element of an aggregate
    elements: Size = Size(constant=1)  # per key, for list, hash, set, zset
    present: float = Field(default=1.0, ge=0, le=1)  # fraction of the keys that exist at the start
    ttl: Ttl | None = None  # of the keys that exist at the start, counted from there
    compressed_to: float = Field(default=1.0, gt=0, le=1)  # share of a value's bytes that LZF leaves of it
    rdb: str | None = None  # an RDB file whose keys beginning with `prefix` give what is not said above
    prefix: str = ""

    @model_validator(mode="before")
    @classmethod
    def _keys_of_the_file(cls, value: Any) -> Any:
        return {"keys": 0, **value} if isinstance(value, dict) and "rdb" in value else value  # 0: as many as in the file

    @model_validator(mode="after")
    def _prefix_of_a_file(self) -> "Dataset":
        if self.prefix and self.rdb is None:
            raise ValueError("prefix chooses keys of an RDB file; add rdb: dump.rdb, or remove prefix")
        return self


# ---- load --------------------------------------------------------------------------------------------------


class RatePoint(Model):
    at: Duration
    rate_per_s: float = Field(ge=0)


class Diurnal(Model):
    period: Duration = Field(gt=0)
    low_per_s: float = Field(ge=0)
    high_per_s: float = Field(gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> "Diurnal":
        if self.low_per_s > self.high_per_s:
            raise ValueError(f"low_per_s {self.low_per_s:g} is above high_per_s {self.high_per_s:g}")
        return self


class Mmpp(Model):
    """Markov-modulated Poisson: a state with each rate, left after an exponential stay for the next one."""

    rates_per_s: list[float] = Field(min_length=2)
    stay: list[Duration] = Field(min_length=2)

    @model_validator(mode="after")
    def _same_length(self) -> "Mmpp":
        if len(self.rates_per_s) != len(self.stay):
            raise ValueError("rates_per_s and stay must have the same length")
        if min(self.rates_per_s) < 0 or max(self.rates_per_s) <= 0 or min(self.stay) <= 0:
            raise ValueError("rates must be 0 or more, one of them above 0, and stays above 0")
        return self


class Bursts(Model):
    every: Duration = Field(gt=0)
    size: PositiveInt


class Open(Model):
    """Requests come when they come; latency counts from the intended send time."""

    rate_per_s: float | None = Field(default=None, gt=0)
    process: Literal["poisson", "constant"] = "poisson"
    schedule: list[RatePoint] | None = Field(default=None, min_length=1)  # piecewise constant, Poisson
    diurnal: Diurnal | None = None
    mmpp: Mmpp | None = None
    bursts: Bursts | None = None

    @model_validator(mode="after")
    def _one_rate(self) -> "Open":
        forms = ("rate_per_s", "schedule", "diurnal", "mmpp", "bursts")
        if sum(getattr(self, name) is not None for name in forms) != 1:
            raise ValueError(f"give exactly one of {', '.join(forms)}")
        times = [point.at for point in self.schedule or []]
        if times != sorted(set(times)):
            raise ValueError("schedule times must rise")
        if self.schedule is not None and not any(point.rate_per_s > 0 for point in self.schedule):
            raise ValueError("schedule never has a rate above 0")
        return self


class Closed(Model):
    """Each connection waits for its answer, thinks, and asks again."""

    think: Duration = 0
    think_is: Literal["constant", "exponential"] = "constant"


class Trace(Model):
    """Replay of a `redis-cli MONITOR` capture, each command at its recorded time times 1/speed."""

    monitor: str
    speed: float = Field(default=1.0, gt=0)
    loop: bool = False  # start again at the end of the capture


class Arrivals(Model):
    open: Open | None = None
    closed: Closed | None = None
    trace: Trace | None = None

    @model_validator(mode="after")
    def _one(self) -> "Arrivals":
        if sum(x is not None for x in (self.open, self.closed, self.trace)) != 1:
            raise ValueError("give exactly one of open, closed, trace")
        return self


class CommandUse(Model):
    """How often a group sends a command, and with which arguments."""

    weight: float = Field(gt=0)
    keys: PositiveInt = 1  # MGET, MSET, DEL, UNLINK, EXISTS: keys per call; SUNION: sets per call
    elements: PositiveInt = 1  # LPUSH, SADD, ZADD, HSET: elements per call; LPOP: count
    start: int = 0  # LRANGE, ZRANGE
    stop: int = -1
    count: PositiveInt = 10  # SCAN COUNT
    ttl: Duration | None = Field(default=None, gt=0)  # EXPIRE, SET EX
    ttl_jitter: Duration = 0  # up to so much more, drawn for each call
    duration: Duration | None = None  # EVAL, DEBUG SLEEP
    value_bytes: Size | None = None  # SET, APPEND, MSET: instead of the data set's
    replicas: NonNegativeInt = 1  # WAIT, WAITAOF: how many must have the connection's last write, or have it on the disk
    local: int = Field(default=1, ge=0, le=1)  # WAITAOF: 1: the server itself must have it on the disk
    timeout: Duration = 0  # WAIT, WAITAOF: how long it waits for them, in whole ms; 0: for ever
    time_per_call: Duration | None = Field(default=None, gt=0)  # a real server's usec_per_call, instead of the profile's cost

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"weight": value} if isinstance(value, (int, float)) and not isinstance(value, bool) else value


class Hotset(Model):
    keys: float = Field(gt=0, lt=1)  # fraction of the keys
    traffic: float = Field(gt=0, le=1)  # fraction of the accesses


class Popularity(Model):
    uniform: Literal[True] | None = None
    zipf: float | None = Field(default=None, ge=0, le=20)
    hotset: Hotset | None = None
    latest: float | None = Field(default=None, ge=0, le=20)  # zipf by age, newest first
    sequential: Literal[True] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        words: dict[str, dict[str, Any]] = {
            "uniform": {"uniform": True}, "sequential": {"sequential": True}, "latest": {"latest": 0.99},
        }  # fmt: skip
        if isinstance(value, str):
            if value not in words:
                known = "uniform, sequential, latest, {zipf: 0.99} or {hotset: {keys: 0.2, traffic: 0.8}}"
                raise ValueError(f"popularity {value[:60]!r} is unknown; use {known}")
            return words[value]
        return value

    @model_validator(mode="after")
    def _one(self) -> "Popularity":
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of uniform, zipf, hotset, latest, sequential")
        return self


class Keys(Model):
    dataset: str
    popularity: Popularity = Popularity(uniform=True)


class Retries(Model):
    max: NonNegativeInt = 0
    backoff: Duration = 10_000_000  # before the first retry; doubles
    growth: Literal["double", "linear"] = "double"  # linear: once, twice, three times the back-off, as min(retries * 50, 500)
    cap: Duration = 1_000_000_000
    jitter: Literal["none", "full", "equal"] = "none"


class Station(Model):
    """The client machine. `ample`: never a bottleneck. `loop`: single-threaded event loops (`threads` of
    them) that pay for each poll, send and receive. `redis-benchmark`: such loops with redis-benchmark's own
    per-request work and its own clock, which starts at its write and stops at its first read."""

    kind: Literal["ample", "loop", "redis-benchmark"] = "ample"
    threads: PositiveInt = 1


class OnMiss(Model):
    """Cache-aside: after a GET without a value the client fetches it elsewhere and SETs it, on the same connection."""

    fetch: Duration  # how long that takes
    fetch_is: Literal["constant", "exponential"] = "constant"
    ttl: Duration | None = Field(default=None, gt=0)
    ttl_jitter: Duration = 0
    value_bytes: Size | None = None  # instead of the data set's


class Group(Model):
    node: str = ""  # of a service: its master at the start
    service: str | None = None  # instead: whoever is the master of that name, as the Sentinels have it
    role: Literal["master", "replica"] = "master"  # of a service: whom it wants of it
    follow: Literal["errors", "switch-master", "nothing"] = "errors"  # what makes it ask again
    connections: PositiveInt = 1
    arrivals: Arrivals
    pipeline: PositiveInt = 1
    commands: dict[str, CommandUse] = Field(default_factory=dict)
    commands_from_info: str | None = None  # a saved `INFO all`: mix from calls, cost from usec_per_call
    keys: Keys | None = None
    value_bytes: Size | None = None  # what SET, APPEND, MSET write; default: the data set's
    on_miss: OnMiss | None = None
    timeout: Duration | None = Field(default=None, gt=0)
    on_timeout: Literal["reconnect", "abandon"] = "reconnect"
    retries: Retries = Retries()
    station: Station = Station()
    rtt: Duration | None = None  # None: the profile's loopback round trip
    bandwidth: Bandwidth | None = Field(default=None, gt=0)  # None: no limit
    start: Duration = 0
    stop: Duration | None = None
    requests: PositiveInt | None = None  # stop after so many

    @model_validator(mode="after")
    def _somewhere(self) -> "Group":
        if not self.node and self.service is None:
            raise ValueError("give node: <a node>, or service: <a name that Sentinels monitor>")
        if self.role == "replica" and self.service is None:
            raise ValueError("role: replica is of a service; name the replica with node: instead")
        return self


class TimelineEntry(Model):
    """A command sent once by a redis-cli of its own, e.g. `KEYS *`, `DEL users:17`, `DEBUG SLEEP 0.5`."""

    at: Duration
    run: str
    node: str
    duration: Duration | None = None  # EVAL: how long the script runs
    every: Duration | None = Field(default=None, gt=0)
    times: PositiveInt = 1


class ScenarioFile(Model):
    question: str = Field(min_length=1)
    finding: str | None = None
    look_at: list[str] = Field(default_factory=list)
    refs: list[str] = Field(default_factory=list)
    duration: Duration = Field(gt=0)
    warmup: Duration = 0
    window: Duration | None = Field(default=None, gt=0)  # None: 200 windows, 10 ms at least
    seed: NonNegativeInt = 1
    hosts: dict[str, Host] = Field(min_length=1)
    links: list[Link] = Field(default_factory=list)
    nodes: dict[str, Node] = Field(min_length=1)
    datasets: dict[str, Dataset] = Field(default_factory=dict)
    clients: dict[str, Group] = Field(default_factory=dict)
    sentinels: Sentinels | None = None
    timeline: list[
        Annotated[
            Annotated[TimelineEntry, Tag("a command")]
            | Annotated[DiskFault, Tag("a fault")]
            | Annotated[NodeFault, Tag("a crash")]
            | Annotated[NetworkFault, Tag("a network fault")],
            Discriminator(kind_of_entry),
        ]
    ] = Field(default_factory=list)

    @property
    def entries(self) -> list[tuple[int, TimelineEntry]]:
        """The timeline's commands of all kinds, each with its place in it."""
        return [(i, entry) for i, entry in enumerate(self.timeline) if isinstance(entry, TimelineEntry)]

    @property
    def commands_at(self) -> list[tuple[int, TimelineEntry]]:
        """Without those that change roles and those of Sentinels."""
        return [(i, entry) for i, entry in self.entries if not is_role_change(entry) and not is_of_sentinel(entry)]

    @property
    def may_change_roles(self) -> bool:
        """Whether a master may become a replica, and a replica a master."""
        return self.sentinels is not None or bool(self.role_entries)

    @property
    def sentinel_places(self) -> list[Place]:
        """Each Sentinel's name, host and port."""
        return self.sentinels.places(SENTINEL_PORT) if self.sentinels is not None else []

    @property
    def followers(self) -> dict[str, Group]:
        """Groups that follow a service."""
        return {name: group for name, group in self.clients.items() if group.service is not None}

    @property
    def role_entries(self) -> list[tuple[int, TimelineEntry]]:
        """Its REPLICAOFs, each with its place."""
        return [(i, entry) for i, entry in self.entries if is_role_change(entry)]

    @property
    def sentinel_entries(self) -> list[tuple[int, TimelineEntry]]:
        """Its commands of Sentinels, each with its place."""
        return [(i, entry) for i, entry in self.entries if is_of_sentinel(entry)]

    @property
    def faults(self) -> list[tuple[int, DiskFault]]:
        """Its faults of disks, each with its place."""
        return [(i, entry) for i, entry in enumerate(self.timeline) if isinstance(entry, DiskFault)]

    @property
    def node_faults(self) -> list[tuple[int, NodeFault]]:
        """Faults of processes and hosts, each with its place."""
        return [(i, entry) for i, entry in enumerate(self.timeline) if isinstance(entry, NodeFault)]

    @property
    def network_faults(self) -> list[tuple[int, NetworkFault]]:
        """Faults of the network, each with its place."""
        return [(i, entry) for i, entry in enumerate(self.timeline) if isinstance(entry, NetworkFault)]
