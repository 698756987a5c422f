"""`INFO` of a real server, read back: sections, fields and what each command cost there.

Mirrors server.c:genRedisInfoString, as `redis-cli INFO all` prints it (6.2 to 8.0, Valkey; CRLF or LF).
Differs: a field outside any section goes into section ""; commandstats without rejected_calls count 0 there.
Not modelled: latencystats' percentiles and errorstats are kept as text in `sections`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from redsim.scenario.errors import ScenarioError

INFO_BYTES_MAX = 16 * 1024 * 1024
COUNT_MAX = 2**63 - 1  # commandstats counters are signed 64-bit

_FIELD = re.compile(r"[\w.|:-]{1,200}\Z")
_PAIR = re.compile(r"([a-z_]+)=([0-9]{1,19}(?:\.[0-9]{1,9})?)\Z")
# What an operator, a library's handshake or the server itself sends, rather than the application.
_ADMIN_WORDS = """
acl asking auth bgrewriteaof bgsave client cluster command config debug discard exec failover function hello
info lastsave latency lolwut memory migrate module monitor multi pfdebug pfselftest psubscribe psync
punsubscribe quit readonly readwrite replconf replicaof reset restore-asking role save script select shutdown
slaveof slowlog ssubscribe subscribe sunsubscribe swapdb sync unsubscribe unwatch wait waitaof watch
"""
_ADMIN = frozenset(_ADMIN_WORDS.split())
_EXPECTED = "expected calls=…,usec=…,usec_per_call=…"


@dataclass(frozen=True, slots=True)
class CommandStat:
    """One `cmdstat_` line: `name` is lower-case, with its subcommand (`config|get`); `usec` is the total."""

    name: str
    calls: int
    usec: int
    usec_per_call: float
    rejected_calls: int
    failed_calls: int


@dataclass(frozen=True)
class InfoCapture:
    """`sections`: name as printed → field → text. `commandstats` in the order of the file."""

    where: str
    sections: dict[str, dict[str, str]]
    commandstats: tuple[CommandStat, ...]

    def mix(self) -> dict[str, tuple[float, int]]:
        """COMMAND (upper-case, as a scenario writes it) → (share of the calls, 0..1; ns per call).

        Data commands and PING only: administration, handshakes, subscriptions, replication and transaction
        brackets (MULTI, EXEC, …, whose time is that of what they bracket) are left out. EVAL's time includes
        the commands its scripts call, and those are counted under their own names too.
        """
        kept = [s for s in self.commandstats if s.calls > 0 and s.name.partition("|")[0] not in _ADMIN]
        total = sum(s.calls for s in kept)
        return {s.name.upper(): (s.calls / total, s.usec * 1000 // s.calls) for s in kept}

    def delta(self, earlier: "InfoCapture") -> "InfoCapture":
        """This capture, its commandstats counted from `earlier` on; ScenarioError if a counter went back."""
        before = {stat.name: stat for stat in earlier.commandstats}
        after = {stat.name: stat for stat in self.commandstats}
        gone = [name for name in before if name not in after]
        stats = [_minus(stat, before.get(stat.name)) for stat in self.commandstats]
        back = [s.name for s in stats if min(s.calls, s.usec, s.rejected_calls, s.failed_calls) < 0] + gone
        if back:
            raise ScenarioError(
                f"{self.where}:1: cmdstat_{back[0]} counts less than in {earlier.where}; the server was "
                "restarted or CONFIG RESETSTAT was run between the two, or they are in the wrong order"
            )
        kept = tuple(stat for stat in stats if stat.calls or stat.rejected_calls)
        return InfoCapture(self.where, self.sections, kept)


def _minus(later: CommandStat, earlier: CommandStat | None) -> CommandStat:
    if earlier is None:
        return later
    calls, usec = later.calls - earlier.calls, later.usec - earlier.usec
    rejected = later.rejected_calls - earlier.rejected_calls
    failed = later.failed_calls - earlier.failed_calls
    return CommandStat(later.name, calls, usec, usec / calls if calls > 0 else 0.0, rejected, failed)


def parse_info_file(path: Path) -> InfoCapture:
    """Read a saved `INFO all`; ScenarioError if it cannot be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(INFO_BYTES_MAX + 1)
    except OSError as error:
        raise ScenarioError(
            f"{path}:1: cannot be read ({error.strerror}); save one with `redis-cli INFO all > {path.name}`"
        ) from None
    if len(raw) > INFO_BYTES_MAX:
        raise ScenarioError(f"{path}:1: is larger than 16 MiB; is this the output of INFO?")
    return parse_info(raw.decode("utf-8", errors="backslashreplace"), str(path))


def parse_info(text: str, where: str) -> InfoCapture:
    """Parse the text of `INFO all`; ScenarioError `where:line: …` for what Redis would not have printed."""
    sections: dict[str, dict[str, str]] = {}
    stats: dict[str, CommandStat] = {}
    section = ""
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r").strip()
        if line.startswith("#"):
            section = line[1:].strip()
            sections.setdefault(section, {})
        elif line:
            field, colon, value = line.partition(":")
            if not colon or not _FIELD.match(field):
                raise ScenarioError(f"{where}:{number}: {line[:60]!r} is not a line of INFO (field:value)")
            sections.setdefault(section, {})[field] = value
            if field.startswith("cmdstat_"):
                stat = _commandstat(field.removeprefix("cmdstat_").lower(), value, f"{where}:{number}")
                if stat.name in stats:
                    raise ScenarioError(f"{where}:{number}: {field} stands twice; keep one capture a file")
                stats[stat.name] = stat
    if not any(sections.values()):
        raise ScenarioError(f"{where}:1: holds no INFO fields; save one with `redis-cli INFO all`")
    return InfoCapture(where, sections, tuple(stats.values()))


def _commandstat(name: str, value: str, where: str) -> CommandStat:
    fields: dict[str, str] = {}
    for part in value.split(","):
        match = _PAIR.match(part.strip())
        if match is None:
            raise ScenarioError(f"{where}: cmdstat_{name} has {part[:40]!r}; {_EXPECTED}")
        fields[match[1]] = match[2]
    missing = [k for k in ("calls", "usec", "usec_per_call") if k not in fields]
    if missing:
        raise ScenarioError(f"{where}: cmdstat_{name} has no {missing[0]}=; {_EXPECTED}")
    counts = {k: v for k, v in fields.items() if k != "usec_per_call"}
    for key, text in counts.items():
        if not text.isdigit() or int(text) > COUNT_MAX:
            raise ScenarioError(f"{where}: cmdstat_{name} has {key}={text}; expected a whole number")
    return CommandStat(
        name=name,
        calls=int(fields["calls"]),
        usec=int(fields["usec"]),
        usec_per_call=float(fields["usec_per_call"]),
        rejected_calls=int(fields.get("rejected_calls", 0)),
        failed_calls=int(fields.get("failed_calls", 0)),
    )
