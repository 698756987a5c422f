"""What was seen of a server: its counters over a window, its keys, its clients; never a secret, an address, a key or a value.

An Observation is filled by `observe_live` (a running server) or `observe_files` (what an operator attached to a ticket), turned
into a scenario by `observed_scenario`, saved as observed.json, and laid beside a run's summary by compare().
Mirrors: the fields of INFO by their own names. Differs: counters become a difference over the window, or totals since the server
started where there is only one INFO.
Not modelled: clients' own latencies; a server does not know them, so nothing here is compared with them.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redsim.lab.observed_replication import Replication, replication_of, stream_per_s
from redsim.lab.observed_sentinel import Place, SeenSentinel
from redsim.scenario.errors import ScenarioError
from redsim.scenario.info import InfoCapture
from redsim.units import US, S

Progress = Callable[[str, float], None]  # what is being done, share of it done
VERSIONS = {(6, 2): "6.2", (7, 0): "7.0", (7, 2): "7.2", (7, 4): "7.4", (8, 0): "8.0"}
SERVER_FIELDS = {  # field of INFO -> name in `counters`; all only ever rise
    "total_commands_processed": "commands", "total_reads_processed": "reads", "total_writes_processed": "writes",
    "total_net_input_bytes": "net_in_bytes", "total_net_output_bytes": "net_out_bytes", "keyspace_hits": "hits",
    "keyspace_misses": "misses", "expired_keys": "expired", "evicted_keys": "evicted", "rejected_connections": "rejected",
    "total_connections_received": "connections_received", "total_error_replies": "errors",
}  # fmt: skip
MEMORY_FIELDS = ("used_memory", "used_memory_rss", "used_memory_overhead", "used_memory_dataset")


@dataclass(frozen=True)
class Command:
    """One command over the window: its name upper-case, calls, total µs by the server's own clock."""

    name: str
    calls: int
    usec: int

    @property
    def usec_per_call(self) -> float:
        return self.usec / self.calls if self.calls else 0.0


@dataclass(frozen=True)
class Window:
    """A stretch of a server's life: `seconds` long; `counters` by the names of SERVER_FIELDS, None where INFO lacks the field.

    `cpu_s`: CPU of the main thread, else (`cpu_of` says "process") of the whole process; None if INFO has neither.
    `said`: how the window came about, for people.
    """

    seconds: float
    commands: tuple[Command, ...]  # data commands and PING
    admin: tuple[Command, ...]  # what operators, handshakes and the server itself send
    counters: dict[str, int | None]
    cpu_s: float | None
    cpu_of: str
    said: str

    @property
    def calls(self) -> int:
        return sum(command.calls for command in self.commands)

    @property
    def is_counted(self) -> bool:
        """Whether the calls are commandstats' (which count what scripts call too) rather than a capture's."""
        return any(command.usec for command in self.commands)

    @property
    def per_s(self) -> float:
        return self.calls / self.seconds

    @property
    def cpu_share(self) -> float | None:
        return None if self.cpu_s is None else self.cpu_s / self.seconds

    @property
    def commands_per_read(self) -> float | None:
        reads = self.counters.get("reads")
        commands = self.counters.get("commands")
        return commands / reads if reads and commands else None


@dataclass
class Shape:
    """Keys of one type: how many, and the sizes of those looked at. Tables are (value, count of keys) pairs, values rising."""

    type: str
    keys: int
    sampled: int = 0
    key_bytes: list[tuple[int, int]] = field(default_factory=list)
    value_bytes: list[tuple[int, int]] = field(default_factory=list)  # of a string, or of one element
    elements: list[tuple[int, int]] = field(default_factory=list)
    with_ttl: int = 0
    ttl_ms: int | None = None  # median of those that have one
    ttls_ms: tuple[int, int] | None = None  # what nine in ten of them lie between
    encodings: dict[str, int] = field(default_factory=dict)  # OBJECT ENCODING -> keys seen with it
    biggest: int | None = None  # bytes of a string, elements of others
    said: str = ""
    lfu: "Fit | None" = None  # popularity by OBJECT FREQ, where the policy is LFU


@dataclass(frozen=True)
class Fit:
    """Popularity of one key type's keys: `kind` uniform, zipf or hotset; `error` is twice the standard error of the exponent."""

    kind: str
    exponent: float
    error: float
    hot_keys: float
    hot_traffic: float
    accesses: int
    keys: int
    said: str


@dataclass
class Traffic:
    """What a MONITOR capture added; `uses[NAME]` mean keys or elements a call, `written[NAME]` (value bytes, count) pairs."""

    commands: int
    seconds: float
    popularity: dict[str, Fit] = field(default_factory=dict)
    uses: dict[str, int] = field(default_factory=dict)
    written: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    inside_scripts: dict[str, float] = field(default_factory=dict)  # NAME -> share of its calls that a script made
    connections: int = 0


@dataclass
class Clients:
    """Connections at the end of the window; `active` sent something during it, None if CLIENT LIST could not be read."""

    connected: int
    active: int | None = None
    said: str = ""


@dataclass
class Observation:
    """All that was seen. `sources` say what was read, `could_not_see` what was not and why; both are sentences for people."""

    sources: list[str] = field(default_factory=list)
    when: str = ""
    version: str = "7.0"
    version_said: str = ""
    conf: list[str] = field(default_factory=list)  # lines of redis.conf that differ from the version's defaults
    conf_seen: bool = False
    window: Window | None = None
    shapes: list[Shape] = field(default_factory=list)
    keys: int | None = None  # in all databases
    clients: Clients | None = None
    traffic: Traffic | None = None
    slowlog: list[tuple[int, str]] = field(default_factory=list)  # (µs, command name), newest first
    latency: list[tuple[str, int]] = field(default_factory=list)  # LATENCY LATEST: (event, worst ms)
    memory: dict[str, int] = field(default_factory=dict)  # MEMORY_FIELDS of INFO, bytes
    allocator: str = ""  # as a scenario calls it, "" if INFO does not tell
    exec_us: dict[str, dict[str, float]] = field(default_factory=dict)  # NAME -> percentile -> µs inside the command
    exec_said: str = ""
    replication: Replication | None = None  # None: INFO has no such section
    sentinel: SeenSentinel | None = None  # None: no Sentinel was asked
    place: Place = field(default_factory=Place, repr=False)  # in no output
    could_not_see: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # said in the scenario's header, e.g. "requirepass: left out"
    scenario_path: str = ""
    observed_path: str = ""
    offsets_path: str = ""  # "": there is no stream to plan a backlog by

    def data(self) -> dict[str, Any]:
        """As observed.json has it: plain dicts and lists, units in the names."""
        out = asdict(self)
        if self.window is not None:
            w = self.window
            out["window"] |= {
                "commands_per_s": round(w.per_s, 3),
                "cpu_utilisation": w.cpu_share,
                "commands_per_read": w.commands_per_read,
            }
        for name in ("scenario_path", "observed_path", "offsets_path", "place"):
            out.pop(name)
        return {"schema": 1, **out}


# ---- INFO ------------------------------------------------------------------------------------------------


def flat(info: InfoCapture) -> dict[str, str]:
    """All fields of all sections."""
    return {name: text for section in info.sections.values() for name, text in section.items()}


def whole(fields: dict[str, str], name: str) -> int | None:
    """A whole-number field, None if it is missing or is none."""
    text = fields.get(name, "")
    return int(text) if text.isdigit() and len(text) < 20 else None


def real(fields: dict[str, str], name: str) -> float | None:
    """A field with a decimal point, None if it is missing or is none."""
    whole_part, _, fraction = fields.get(name, "").partition(".")
    if whole_part.isdigit() and len(whole_part) < 15 and (fraction.isdigit() or fraction == ""):
        return float(fields[name])
    return None


def _cpu_s(fields: dict[str, str]) -> tuple[float | None, str]:
    for suffix, said in (("_main_thread", "main thread"), ("", "process")):
        parts = [real(fields, f"used_cpu_{mode}{suffix}") for mode in ("sys", "user")]
        if parts[0] is not None and parts[1] is not None:
            return parts[0] + parts[1], said
    return None, ""


def window_of(before: InfoCapture | None, after: InfoCapture, *, own: dict[str, int] | None = None) -> Window:
    """The window between two INFO, or from the server's start to one. `own`: calls of ours to take out of the count, by name.

    ScenarioError if the two are not of one server's life, in this order, some time apart.
    """
    fields = flat(after)
    if before is None:
        seconds = float(whole(fields, "uptime_in_seconds") or 0)
        if seconds <= 0:
            raise ScenarioError(f"{after.where}:1: has no uptime_in_seconds above 0, so no rate follows; save `INFO all` twice")
        stats, old = after, {}
        said = f"totals since the server started, {seconds:,.0f} s ago (one INFO only; counters may have been reset since)"
    else:
        old = flat(before)
        if fields.get("run_id") != old.get("run_id"):
            raise ScenarioError(f"{after.where}:1: its run_id is not that of {before.where}; give two INFO of one server's life")
        seconds = _seconds_between(old, fields)
        if seconds <= 0:
            raise ScenarioError(f"{after.where}:1: is not later than {before.where}; save `INFO all` twice, a minute apart")
        stats, said = after.delta(before), f"{seconds:.3g} s between two INFO"
    counters = {}
    for name, short in SERVER_FIELDS.items():
        now, then = whole(fields, name), whole(old, name) if before is not None else 0
        counters[short] = now - then if now is not None and then is not None and now >= then else None
    cpu, cpu_of = _cpu_s(fields)
    cpu_before = _cpu_s(old)[0] if before is not None else 0.0
    data = stats.mix()
    commands: list[Command] = []
    admin: list[Command] = []
    for stat in stats.commandstats:
        calls = stat.calls - (own or {}).get(stat.name.upper(), 0)
        if calls > 0:
            (commands if stat.name.upper() in data else admin).append(Command(stat.name.upper(), calls, stat.usec))
    commands.sort(key=lambda c: (-c.calls, c.name))
    cpu_s = cpu - cpu_before if cpu is not None and cpu_before is not None else None
    return Window(seconds, tuple(commands), tuple(admin), counters, cpu_s, cpu_of, said)


def _seconds_between(old: dict[str, str], new: dict[str, str]) -> float:
    then, now = whole(old, "server_time_usec"), whole(new, "server_time_usec")
    if then is not None and now is not None:
        return (now - then) * US / S
    return float((whole(new, "uptime_in_seconds") or 0) - (whole(old, "uptime_in_seconds") or 0))


def version_of(info: InfoCapture) -> tuple[str, str]:
    """(version a scenario takes, sentence about it)."""
    fields = flat(info)
    text = fields.get("valkey_version") or fields.get("redis_version", "")
    name = "Valkey" if "valkey_version" in fields else "Redis"
    parts = text.split(".")
    if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
        return "7.0", "the version is not in INFO; 7.0 is assumed"
    number = (int(parts[0][:4]), int(parts[1][:4]))
    shown = f"{name} {'.'.join(str(int(p[:6])) for p in parts[:3] if p.isdigit())}"
    if name == "Valkey" and number >= (8, 0):
        return "valkey-8.0", shown if number == (8, 0) else f"{shown}, simulated as Valkey 8.0"
    known = VERSIONS.get(number)
    if known is not None:
        return known, shown if name == "Redis" else f"{shown}, simulated as Redis {known}"
    nearest = max((v for v in VERSIONS if v <= number), default=(6, 2))
    return VERSIONS[nearest], f"{shown}, simulated as Redis {VERSIONS[nearest]}"


def allocator_of(fields: dict[str, str], version: str) -> str:
    """The build's allocator as a scenario calls it: Redis up to 7.0 brings jemalloc 5.2 and older along, so that 5.3 is the
    system's. From 7.2 on the two cannot be told apart. "" if INFO does not say."""
    name = fields.get("mem_allocator", "")
    if name.startswith("jemalloc"):
        return "jemalloc-debian" if name.startswith("jemalloc-5.3") and version in ("6.2", "7.0") else "jemalloc"
    return "libc" if name == "libc" else ""


def databases(info: InfoCapture) -> dict[int, int]:
    """Database number -> keys, of INFO keyspace; empty if there are none."""
    out = {}
    for name, text in info.sections.get("Keyspace", {}).items():
        first = text.partition(",")[0].removeprefix("keys=")
        if name.startswith("db") and name[2:].isdigit() and len(name) < 12 and first.isdigit() and len(first) < 16:
            out[int(name[2:])] = int(first)
    return out


def about_server(seen: Observation, info: InfoCapture) -> None:
    """Version, time, number of keys and what INFO alone tells of the surroundings."""
    fields = flat(info)
    seen.version, seen.version_said = version_of(info)
    at = whole(fields, "server_time_usec")
    if at is not None and at < 4_000_000_000_000_000:
        seen.when = datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    seen.memory = {name: size for name in MEMORY_FIELDS if (size := whole(fields, name)) is not None}
    seen.allocator = allocator_of(fields, seen.version)
    seen.replication, seen.place = replication_of(fields), Place.of(fields)
    counted = databases(info)
    if "Keyspace" in info.sections:
        seen.keys = sum(counted.values())
    seen.clients = Clients(max(whole(fields, "connected_clients") or 1, 1), None, "INFO connected_clients")
    notes = {
        "role": ("slave", "this is a replica: the writes of its master are counted as its commands"),
        "redis_mode": ("cluster", "this is one node of a cluster; the others were not asked"),
        "rdb_bgsave_in_progress": ("1", "a BGSAVE was running; add one to the timeline to have it here"),
        "aof_rewrite_in_progress": ("1", "an AOF rewrite was running; add BGREWRITEAOF to the timeline to have it here"),
    }
    seen.could_not_see += [said for name, (value, said) in notes.items() if fields.get(name) == value]
    if len(counted) > 1:
        seen.could_not_see.append(f"{len(counted)} databases hold keys; the scenario folds them into one key space")
    if (real(fields, "mem_fragmentation_ratio") or 0) == 0 and "used_memory" not in fields:
        seen.could_not_see.append("memory: INFO has no memory section")


# ---- predicted against measured ----------------------------------------------------------------------------


def against(path: Path, summary: dict[str, Any]) -> list[str]:
    """compare() of a run with the observed.json at `path`, as lines for the command line. ScenarioError if it is none."""
    try:
        observed = json.loads(path.read_text(encoding="utf-8"))
        rows = compare(observed, summary)
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read ({error.strerror}); `redsim observe` writes one") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScenarioError(f"{path}: is no observed.json of `redsim observe` ({type(error).__name__}: {error})") from None
    lines = [f"{'':40}{'measured':>14}{'predicted':>14}{'error %':>9}"]
    lines += [f"{what:40}{one:>14,.3f}{other:>14,.3f}{'' if off is None else f'{off:.1f}':>9}" for what, one, other, off in rows]
    return lines


def compare(observed: dict[str, Any], summary: dict[str, Any]) -> list[tuple[str, float, float, float | None]]:
    """Rows (quantity, measured, predicted, error in %) of an observed.json against a run's summary.json.

    The quantity's name carries its unit; the error is None where nothing was measured. `usec_per_call` was fitted (the scenario
    takes its costs from it), and bytes out where ranges were asked for, whose length they give; everything else is predicted.
    """
    window = observed.get("window") or {}
    seconds = window.get("seconds") or 0
    node = next(iter(summary["nodes"].values()))
    simulated_s = summary["simulated_s"]
    stats = node["info"]["stats"]
    rows: list[tuple[str, float, float, float | None]] = []

    def row(quantity: str, measured: float | None, predicted: float | None) -> None:
        if measured is None or predicted is None:
            return
        error = round(100 * (predicted - measured) / measured, 2) if measured else None
        rows.append((quantity, round(measured, 4), round(predicted, 4), error))

    counters = window.get("counters") or {}
    per_s = window.get("commands_per_s")
    completed = sum(group["throughput_per_s"] for group in summary["clients"].values())
    row("commands_per_s", per_s, completed)
    utilisation = window.get("cpu_utilisation")
    row("cpu_utilisation", utilisation, node["cpu_utilisation"])
    if utilisation is not None and per_s:
        row("cpu_us_per_command", 1e6 * utilisation / per_s, node["cpu_us_per_command"])
    if counters.get("reads"):
        row("reads_per_s", counters["reads"] / seconds, node["reads"] / simulated_s)
        row("commands_per_read", window.get("commands_per_read"), node["commands"] / max(node["reads"], 1))
    ranges = any(command["name"] in ("LRANGE", "ZRANGE") for command in window.get("commands", []))
    for name, field_name in (("net_in", "total_net_input_bytes"), ("net_out", "total_net_output_bytes")):
        if counters.get(f"{name}_bytes") is not None:
            said = " (fitted)" if name == "net_out" and ranges else ""
            row(f"{name}_bytes_per_s{said}", counters[f"{name}_bytes"] / seconds, stats[field_name] / simulated_s)
    stream = stream_per_s((observed.get("replication") or {}).get("offsets") or [])
    told = node["info"].get("replication")  # a server alone has no stream
    row("master_repl_offset_bytes_per_s", stream, told["master_repl_offset"] / simulated_s if told is not None else None)
    memory = observed.get("memory") or {}
    for name, predicted in node["info"]["memory"].items():
        if name in MEMORY_FIELDS:
            row(f"{name}_bytes", memory.get(name), predicted)
    for command in window.get("commands", []):
        found = node["info"]["commandstats"].get(f"cmdstat_{command['name'].lower()}")
        if found is not None and found["calls"]:
            row(f"{command['name']} calls_per_s", command["calls"] / seconds, found["calls"] / simulated_s)
            row(f"{command['name']} usec_per_call (fitted)", command["usec"] / command["calls"], found["usec_per_call"])
    if observed.get("slowlog") and node["slowlog"]:
        longest = max(entry["duration_us"] for entry in node["slowlog"])
        row("slowlog longest_us", float(max(usec for usec, _ in observed["slowlog"])), float(longest))
    return rows
