"""The Sentinels of an observed service: what they said of the master, its replicas and each other, and the part `sentinels:`.

Mirrors the fields of SENTINEL MASTERS, REPLICAS and SENTINELS, and the directives of sentinel.conf, by their own names. Differs:
addresses and run ids are compared, never kept; which Sentinel shares a host with which server is, where addresses tell it.
Not modelled: Sentinels that are down or in TILT, or disagree, at the start; they are told and run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from redsim.scenario.sentinel_conf import MasterRules
from redsim.units import MS

FIELDS = (  # whole numbers of any of the three commands, then of sentinel.conf
    "link-pending-commands", "last-ping-sent", "last-ok-ping-reply", "last-ping-reply", "s-down-time", "o-down-time",
    "down-after-milliseconds", "info-refresh", "role-reported-time", "config-epoch", "num-slaves", "num-other-sentinels",
    "quorum", "failover-timeout", "parallel-syncs", "master-link-down-time", "slave-priority", "slave-repl-offset",
    "replica-announced", "last-hello-message", "voted-leader-epoch", "leader-epoch", "current-epoch",
    "master-reboot-down-after-period",
)  # fmt: skip
FLAGS = (  # sentinel.c: addReplySentinelRedisInstance
    "s_down", "o_down", "master", "slave", "sentinel", "disconnected", "master_down", "failover_in_progress", "promoted",
    "reconf_sent", "reconf_inprog", "reconf_done", "force_failover", "script_kill_sent", "master_reboot",
)  # fmt: skip
TROUBLE = ("s_down", "o_down", "disconnected", "master_down", "failover_in_progress", "promoted", "force_failover")
WRITTEN = ("down-after-milliseconds", "failover-timeout", "parallel-syncs", "master-reboot-down-after-period")
DOWN_AFTER_MS = MasterRules.down_after_ns // MS
STANDS_IN = "hosts of their own stand in"


@dataclass(frozen=True)
class Place:
    """By which an observed server is found again in what Sentinels say. Never written anywhere."""

    role: str = field(default="", repr=False)
    run_id: str = field(default="", repr=False)
    port: str = field(default="", repr=False)
    replicas: tuple[str, ...] = field(default=(), repr=False)  # addresses, in the order of slave0, slave1, …

    @classmethod
    def of(cls, fields: dict[str, str]) -> "Place":
        """Out of all fields of an INFO."""
        replicas = []
        for name, text in fields.items():
            words = dict(word.partition("=")[::2] for word in text.split(","))
            if name.startswith("slave") and name[5:].isdigit() and words.get("type") != "rdb-channel":
                replicas.append(words.get("ip", ""))
        return cls(fields.get("role", ""), fields.get("run_id", ""), fields.get("tcp_port", ""), tuple(replicas))


@dataclass
class Instance:
    """A replica or another Sentinel, as the one that was asked sees it; `link`: a replica's master-link-status."""

    flags: list[str]
    fields: dict[str, int]
    link: str = ""

    @classmethod
    def of(cls, fields: dict[str, str]) -> "Instance":
        """What of a record's fields may be kept."""
        link = fields.get("master-link-status", "")
        flags = [flag if flag in FLAGS else "unknown" for flag in fields.get("flags", "").split(",") if flag]
        return cls(flags, numbers(fields), link if link in ("ok", "err") else "")


@dataclass
class SeenSentinel:
    """The master `name` by a Sentinel. `fields`: FIELDS that were told; `said`: by what; `count`: all Sentinels, `count_said` how
    that is known. `beside`: for each Sentinel 0 if it stands on the master's host, n on that of the n-th replica, else None."""

    name: str
    flags: list[str]
    fields: dict[str, int]
    count: int
    said: str
    count_said: str = ""
    role_reported: str = ""
    replicas: list[Instance] = field(default_factory=list)
    sentinels: list[Instance] = field(default_factory=list)
    beside: list[int | None] = field(default_factory=list)

    @property
    def replica_count(self) -> int | None:
        """None: nobody told."""
        return self.fields.get("num-slaves", len(self.replicas) or None)

    def hosts(self, simulated: int) -> list[str]:
        """The scenario's name of each Sentinel's host; `simulated`: how many replicas the scenario has."""
        own = iter(range(1, self.count + 1))
        return [
            f"watch{next(own)}" if at is None or at > simulated else f"box{at or ''}"
            for at in self.beside or [None] * self.count
        ]  # fmt: skip


def numbers(fields: dict[str, str]) -> dict[str, int]:
    """Those of FIELDS that are there."""
    kept = {}
    for name in FIELDS:
        digits = fields.get(name, "").removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) < 20:
            kept[name] = int(fields[name])
    return kept


def beside(servers: Sequence[str], others: Sequence[str], count: int) -> list[int | None]:
    """Where `count` Sentinels stand, the one that was asked first. `servers`: addresses of the master and its replicas; `others`:
    of the other Sentinels. The first stands at the one server that has none of them, if all of them stand at servers."""
    telling = len(set(servers)) == len(servers) > 1 and "" not in servers and not any(map(_is_loopback, servers))
    if not telling or len(others) != count - 1:
        return []
    found = [servers.index(address) if address in servers else None for address in others]
    free = sorted(set(range(len(servers))) - {at for at in found if at is not None})
    first = free[0] if len(free) == 1 and None not in found else None
    return [first, *found]


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address in ("localhost", "::1")


# ---- for people ----------------------------------------------------------------------------------------------------


def lines(seen: SeenSentinel | None) -> list[str]:
    """What the command line prints."""
    if seen is None:
        return []
    replicas, fields = seen.replica_count, seen.fields
    said = [
        f"sentinel: {seen.name}", f"quorum {fields['quorum']} of {seen.count} Sentinel{'s' * (seen.count > 1)}",
        f"down-after {fields.get('down-after-milliseconds', DOWN_AFTER_MS)} ms",
    ]  # fmt: skip
    said += [f"{replicas} replica{'s' * (replicas != 1)}"] if replicas is not None else []
    said += [f"flags {','.join(seen.flags)}"] if seen.flags else []
    return [", ".join(said)]


def unseen(seen: SeenSentinel | None, connected: int) -> list[str]:
    """What stands in for what was not told, and what is otherwise in the scenario. `connected`: the master's replicas by INFO."""
    if seen is None:
        return []
    out = ["whether the clients follow the master by way of the Sentinels; they do here, asking anew after an error"]
    if seen.count_said:
        out.append(seen.count_said)
    if trouble := [flag for flag in seen.flags if flag in TROUBLE]:
        out.append(f"the master was {','.join(trouble)} when its Sentinel was asked; it is up here at the start")
    known = seen.replica_count
    there_too = known is None or known == connected
    for what, there in (("replicas", seen.replicas if there_too else []), ("other Sentinels", seen.sentinels)):
        down = sum(any(flag in TROUBLE for flag in one.flags) for one in there)
        if down:
            out.append(f"{down} of {len(there)} {what} were s_down or disconnected when their Sentinel was asked; here all run")
    if not there_too:
        said = f"replicas not connected: Sentinels know {known}, the master's INFO lists {connected}, and so many are here"
        out.append(f"{said}{'' if connected else '; without one no failover can come about'}")
    if not seen.beside:
        out.append(f"where the Sentinels run: {STANDS_IN}")
    elif None in seen.beside:
        out.append(f"where {seen.beside.count(None)} of the {seen.count} Sentinels run: {STANDS_IN}")
    return out


# ---- the scenario --------------------------------------------------------------------------------------------------


def host_lines(seen: SeenSentinel | None, simulated: int, profile: str) -> list[str]:
    """YAML under `hosts:`: those of Sentinels only. `profile`: quoted."""
    own = [host for host in seen.hosts(simulated) if host.startswith("watch")] if seen is not None else []
    return [f"  {host}: {{profile: {profile}}}  # of a Sentinel; a guess, it was not asked" for host in own]


def scenario_lines(seen: SeenSentinel | None, simulated: int) -> list[str]:
    """The part `sentinels:`, and how to see a failover."""
    if seen is None:
        return []
    out = [
        "# A failover: add `timeline: [{at: 5s, fault: kill, node: main}]`, and to each group of clients what it does about it,",
        "# e.g. `timeout: 100ms` and `retries: {max: 3, backoff: 50ms}`.",
        "sentinels:",
        f"  count: {seen.count}",
        f"  hosts: [{', '.join(seen.hosts(simulated))}]",
        f"  conf: |  # {seen.said}",
        f"    sentinel monitor {seen.name} main {seen.fields['quorum']}",
    ]
    return out + [f"    sentinel {name} {seen.name} {seen.fields[name]}" for name in WRITTEN if name in seen.fields]
