"""INFO replication of an observed server: its role, replicas and backlog, its offset over time, and the nodes that follow.

    time_s,offset        offsets.csv: what `redsim plan backlog --offsets` reads
    0.000000,1400
    1.002113,9822        master_repl_offset; on a replica slave_repl_offset, which is its master's history

Mirrors server.c:genRedisInfoString by its own names. Differs: addresses and replication ids are never kept; an offset that runs
back, or another master_replid, begins the series anew.
Not modelled: what the replicas would say themselves; only the observed server is asked.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from redsim.scenario.check import DATASET_KEYS_MAX
from redsim.scenario.network import RTT_NS
from redsim.units import US, say_bytes

FIELDS = (
    "connected_slaves", "master_repl_offset", "second_repl_offset", "repl_backlog_active", "repl_backlog_size",
    "repl_backlog_first_byte_offset", "repl_backlog_histlen", "slave_repl_offset", "master_last_io_seconds_ago",
)  # fmt: skip
STATES = ("wait_bgsave", "send_bulk", "send_bulk_and_stream", "bg_transfer", "online")  # replication.c, by 6.2 to 8.0 and Valkey
OF_SENTINEL = "known to a Sentinel"  # neither its state nor its offset was seen
REPLICAS_MAX = 10  # guess: each is a server of its own to simulate
HEAD = "time_s,offset"

_SLAVE = re.compile(r"slave\d{1,4}\Z")
_NUMBER = re.compile(r"-?\d{1,19}\Z")


# ---- what INFO says ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SeenReplica:
    """A slaveN line: `state` as Redis has it, the offset acknowledged, `lag` seconds since its last ACK."""

    state: str
    offset: int
    lag: int


@dataclass
class Replication:
    """`role` and `link` (master_link_status) in INFO's words; `fields`: those of FIELDS that INFO had.

    `offsets`: (s since the first, offset) over the window; `offsets_said`: what that series lacks, "" if nothing.
    """

    role: str
    fields: dict[str, int] = field(default_factory=dict)
    link: str = ""
    replicas: list[SeenReplica] = field(default_factory=list)
    offsets: list[tuple[float, int]] = field(default_factory=list)
    offsets_said: str = ""

    @property
    def is_replica(self) -> bool:
        return self.role == "slave"

    @property
    def has_stream(self) -> bool:
        """Somebody writes it down: there is a backlog, a replica, or a master above."""
        return self.is_replica or bool(self.replicas) or self.fields.get("repl_backlog_active", 0) > 0 or self.per_s > 0

    @property
    def per_s(self) -> float:
        """Bytes a second over the series, 0 where there is none."""
        return stream_per_s(self.offsets) or 0.0


def replication_of(fields: dict[str, str]) -> Replication | None:
    """Out of all fields of an INFO; None if it has no replication section."""
    role = fields.get("role", "")
    if role not in ("master", "slave"):
        return None
    numbers = {name: int(text) for name in FIELDS if _NUMBER.match(text := fields.get(name, ""))}
    link = fields.get("master_link_status", "")
    seen = Replication(role, numbers, link if link in ("up", "down") else "")
    for name, text in fields.items():
        words = dict(word.partition("=")[::2] for word in text.split(",")) if _SLAVE.match(name) else {}
        if not words or words.get("type") == "rdb-channel":  # Redis 8: a second connection of one replica
            continue
        state = words.get("state", "")
        offset, lag = (int(text) if _NUMBER.match(text := words.get(key, "")) else 0 for key in ("offset", "lag"))
        seen.replicas.append(SeenReplica(state if state in STATES else "unknown", offset, lag))
    return seen


def offset_of(fields: dict[str, str]) -> int | None:
    """master_repl_offset; of a replica slave_repl_offset, what it has executed."""
    text = fields.get("slave_repl_offset" if fields.get("role") == "slave" else "master_repl_offset", "")
    return int(text) if _NUMBER.match(text) and int(text) >= 0 else None


# ---- the series ----------------------------------------------------------------------------------------------------


@dataclass
class Series:
    """Samples of the offset, of one history and in order."""

    samples: list[tuple[float, int]] = field(default_factory=list)
    begun_anew: int = 0
    replid: str = ""

    def add(self, at_s: float, fields: dict[str, str]) -> None:
        """The offset of an INFO at `at_s`, later than the one before it."""
        offset = offset_of(fields)
        if offset is not None:
            self.add_offset(at_s, offset, fields.get("master_replid", ""))

    def add_offset(self, at_s: float, offset: int, replid: str = "") -> None:
        assert not self.samples or at_s > self.samples[-1][0], "samples come in order"
        if self.samples and (replid != self.replid or offset < self.samples[-1][1]):
            self.samples.clear()
            self.begun_anew += 1
        self.replid = replid
        self.samples.append((at_s, offset))

    def into(self, seen: Replication) -> None:
        """The series, counted from its first sample."""
        seen.offsets = [(round(at_s - self.samples[0][0], 6), offset) for at_s, offset in self.samples]
        if self.begun_anew:
            seen.offsets_said = (
                f"the stream's history changed {self.begun_anew} times (a failover, a restart or a full sync); the offsets before"
                " the last change are left out"
            )


def stream_per_s(offsets: Sequence[Sequence[float]]) -> float | None:
    """Bytes a second from the first sample to the last; None: one sample or none."""
    if len(offsets) < 2 or not offsets[-1][0] > offsets[0][0]:
        return None
    return (offsets[-1][1] - offsets[0][1]) / (offsets[-1][0] - offsets[0][0])


def offsets_csv(seen: Replication | None) -> str:
    """The text of offsets.csv; "" where there is no stream, or no second sample of it."""
    if seen is None or not seen.has_stream or len(seen.offsets) < 2:
        return ""
    return "\n".join([HEAD, *(f"{at_s:.6f},{offset}" for at_s, offset in seen.offsets)]) + "\n"


# ---- for people ----------------------------------------------------------------------------------------------------


def who(seen: Replication | None) -> str:
    """The server, as a question begins: "A master with 2 replicas"."""
    if seen is None or not (seen.replicas or seen.is_replica):
        return "A server"
    below = f" with {len(seen.replicas)} replica{'s' * (len(seen.replicas) > 1)}" if seen.replicas else ""
    return f"A {'replica' if seen.is_replica else 'master'}{below}"


def behind(seen: Replication, replica: SeenReplica) -> str:
    """`online, 14 bytes not acknowledged, last ACK 0 s ago`."""
    if replica.state == OF_SENTINEL:
        return f"{OF_SENTINEL}, its state and offset were not seen"
    if replica.state != "online":
        return f"{replica.state}, so it has no data yet"
    lacks = max(seen.fields.get("master_repl_offset", replica.offset) - replica.offset, 0)
    return f"online, {lacks:,} bytes not acknowledged, last ACK {replica.lag} s ago"


def lines(seen: Replication | None) -> list[str]:
    """What the command line prints; nothing for a server alone."""
    if seen is None or not seen.has_stream:
        return []
    said = [f"replication: role {seen.role}"]
    if seen.is_replica:
        ago = seen.fields.get("master_last_io_seconds_ago", -1)
        said.append(f"master link {seen.link or 'unknown'}{f', last heard of {ago} s ago' if ago >= 0 else ''}")
    if len(seen.offsets) > 1:
        said.append(f"stream {seen.per_s:,.0f} bytes/s ({len(seen.offsets)} offsets)")
    if seen.fields.get("repl_backlog_active", 0):
        size, held = (seen.fields.get(f"repl_backlog_{name}", 0) for name in ("size", "histlen"))
        said.append(f"backlog of {say_bytes(size)} holds {say_bytes(held)}")
    return ["; ".join(said), *(f"slave{i}: {behind(seen, replica)}" for i, replica in enumerate(seen.replicas))]


def unseen(seen: Replication | None, simulated: int) -> list[str]:
    """What stands in for what was not asked. `simulated`: how many replicas the scenario has."""
    out: list[str] = []
    if seen is None:
        return out
    if seen.is_replica:
        out.append("its master: not asked; what it sends comes from clients of this server here, replies and all")
    if seen.replicas:
        out.append("its replicas: not asked; this server's redis.conf, hosts of their own and a link of a guessed rtt stand in")
    if simulated < len(seen.replicas):
        out.append(f"{len(seen.replicas) - simulated} of {len(seen.replicas)} replicas: left out, as too much to simulate")
    if seen.offsets_said:
        out.append(seen.offsets_said)
    return out


# ---- the scenario --------------------------------------------------------------------------------------------------


def simulated_count(seen: Replication | None, keys: int) -> int:
    """Replicas that the scenario has: each holds all keys, too."""
    if seen is None:
        return 0
    return min(len(seen.replicas), REPLICAS_MAX, max(DATASET_KEYS_MAX // max(keys, 1) - 1, 0))


def host_lines(count: int, profile: str) -> list[str]:
    """YAML under `hosts:`, then the links to the observed server's host. `profile`: quoted."""
    if count == 0:
        return []
    out = [f"  box{i}: {{profile: {profile}}}  # of replica r{i}; a guess, it was not asked" for i in range(1, count + 1)]
    link = f"rtt: {RTT_NS // US}us}}  # a guess; add bandwidth, loss or jitter"
    return [*out, "links:", *(f"  - {{between: [box, box{i}], {link}" for i in range(1, count + 1))]


def node_lines(seen: Replication | None, count: int, version: str, allocator: str) -> list[str]:
    """YAML under `nodes:`: the replicas of main, which has named its redis.conf `conf`."""
    if seen is None:
        return []
    out = []
    rest = f'version: "{version}", {f"allocator: {allocator}, " if allocator else ""}conf: *conf'
    for i, replica in enumerate(seen.replicas[:count]):
        synced = "true" if replica.state in ("online", OF_SENTINEL) else "false"
        said = f"slave{i}: {behind(seen, replica)}"
        out.append(f"  r{i + 1}: {{host: box{i + 1}, replica_of: main, synced: {synced}, {rest} }}  # {said}")
    return out
