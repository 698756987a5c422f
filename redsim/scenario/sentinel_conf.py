"""sentinel.conf, read as a Sentinel reads it: `parse_sentinel_conf`.

Mirrors sentinel.c of 7.0.15: queueSentinelConfig, loadSentinelConfigFromQueue, sentinelHandleConfiguration. What concerns the
Sentinel itself is read first, then `sentinel monitor`, then the rest, wherever they stand; the last line wins; rename-command,
known-replica and known-sentinel add up. Lines without the word `sentinel` are redis.conf's (redis_conf.py); of those a Sentinel
minds `port` and `loglevel`.

    sentinel monitor mymaster main 2          ADDRESS is a node of the scenario, its port may be left out
    sentinel monitor mymaster main 6379 2

Differs: a number is a number (Redis takes 3 of `3s`); two masters of one address are refused.
Not modelled: whether a script is there, whether a host name resolves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redsim.scenario.directives import ascii_lower, split_args
from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.redis_conf import DirectiveReport, RedisConf, parse_conf
from redsim.units import MS, S

__all__ = ["SECRET", "SENTINEL_DIRECTIVES", "SERVER_PORT", "MasterRules", "SentinelConf", "parse_sentinel_conf"]

SENTINEL_PORT = 26379  # sentinel.c: REDIS_SENTINEL_PORT
SERVER_PORT = 6379  # of every node: its name tells it from the others
RUN_ID_CHARS = 40  # server.h: CONFIG_RUN_ID_SIZE
SECRET = ("auth-pass", "sentinel-pass")  # their last word is told nowhere
_INT_MAX = 2**31 - 1
_DIGITS_MAX = 19  # of 2**63 - 1
_SHOWN_CHARS = 100


@dataclass(frozen=True)
class MasterRules:
    """One `sentinel monitor` and what was said of it; times are ns, defaults are sentinel.c's."""

    name: str
    host: str  # a node's name
    port: int  # 0: where the node listens
    quorum: int
    down_after_ns: int = 30 * S  # sentinel_default_down_after
    failover_timeout_ns: int = 180 * S  # sentinel_default_failover_timeout
    parallel_syncs: int = 1  # SENTINEL_DEFAULT_PARALLEL_SYNCS
    master_reboot_down_after_ns: int = 0  # createSentinelRedisInstance: 0, off
    config_epoch: int = 0
    leader_epoch: int = 0
    replicas: tuple[tuple[str, int], ...] = ()  # known-replica: host, port
    sentinels: tuple[tuple[str, int, str], ...] = ()  # known-sentinel: host, port, run id
    renamed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class SentinelConf:
    """A sentinel.conf in force; every line is known and within bounds."""

    masters: tuple[MasterRules, ...]
    port: int = SENTINEL_PORT
    loglevel: str = "notice"
    announce_ip: str = ""
    announce_port: int = 0
    current_epoch: int = 0
    myid: str = ""
    lines: tuple[DirectiveReport, ...] = ()

    def master(self, name: str) -> MasterRules | None:
        """The rules of that master."""
        return next((rules for rules in self.masters if rules.name == name), None)

    def report(self) -> list[DirectiveReport]:
        """One entry for each line: what it is to the model, and why."""
        return list(self.lines)

    def with_override(self, directive: str, value: str, label: str) -> "SentinelConf":
        """As if `sentinel <directive> <master> <value>` stood last for every master; `quorum` is that of `sentinel monitor`.
        ScenarioError, which begins with `label`, for one that is not of a master, and as for a line of the file."""
        row = SENTINEL_DIRECTIVES.get(directive)
        settable = ["quorum", *(name for name, one in SENTINEL_DIRECTIVES.items() if one.of_master)]
        if directive not in settable:
            near = did_you_mean(directive, settable)
            raise ScenarioError(f"{label}: {directive[:100]!r} is nothing that can be set for a master{near}")
        reader = _Reader(label)
        reader.name, reader.masters = directive, {rules.name: rules for rules in self.masters}
        try:
            given = split_args(value)
        except ValueError as error:
            raise reader.fail(str(error)) from error
        for name in reader.masters:
            words = (name, *given)
            if row is None:
                reader.set(name, quorum=reader.number(value, 1, _INT_MAX, "how many Sentinels have to agree, e.g. 2"))
            elif not row.low <= len(words) <= row.high:
                what = f"{len(given)} words" if directive in SECRET else repr(value[:_SHOWN_CHARS])
                raise reader.fail(f"takes {row.usage.removeprefix('NAME ')}, not {what}")
            else:
                row.take(reader, words)
        status, says = (row.status, row.says) if row is not None else ("modelled", "how many Sentinels have to agree")
        line = DirectiveReport(0, f"sentinel {directive}", _shown(directive, (value,)), status, says, "override")
        return replace(self, masters=tuple(reader.masters.values()), lines=(*self.lines, line))


@dataclass(frozen=True)
class _Directive:
    """How many words follow (at least, at most), what it is to the model, why, and who takes it: each gets the words after the
    name; `of_master`: the first of them names a monitored master."""

    low: int
    high: int
    usage: str
    status: str
    says: str
    of_master: bool
    take: Callable[["_Reader", tuple[str, ...]], None]


@dataclass(frozen=True)
class _Line:
    number: int
    words: tuple[str, ...]  # after `sentinel`; the first in lower case


class _Reader:
    """What was read so far; `place` is the line at hand."""

    def __init__(self, where: str) -> None:
        self.where, self.place, self.name = where, where, ""
        self.masters: dict[str, MasterRules] = {}
        self.own: dict[str, Any] = {}

    def fail(self, sentence: str) -> ScenarioError:
        return ScenarioError(f"{self.place}: sentinel {self.name}: {sentence}")

    def number(self, text: str, low: int, high: int, what: str) -> int:
        """A whole number within bounds."""
        digits = text.removeprefix("-")
        shown = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
        if not digits.isascii() or not digits.isdigit():
            raise self.fail(f"{shown!r} is not a whole number; give {what}")
        digits = digits.lstrip("0") or "0"
        value = int(digits) * (-1 if text.startswith("-") else 1) if len(digits) <= _DIGITS_MAX else None
        if value is None or not low <= value <= high:
            raise self.fail(f"{shown} is not between {low} and {high}; give {what}")
        return value

    def set(self, name: str, **fields: Any) -> None:
        """Fields of a master's rules."""
        if name not in self.masters:
            known = ", ".join(self.masters) or "none"
            near = did_you_mean(name, self.masters)
            raise self.fail(f"no `sentinel monitor` names {name!r}; it names {known}{near or '; add that line'}")
        self.masters[name] = replace(self.masters[name], **fields)


# ---- who takes which line


def _address(host: str, port: int) -> tuple[str, int]:
    """Who is meant, whether its port was left out or not."""
    return host, port or SERVER_PORT


def _monitor(r: _Reader, words: tuple[str, ...]) -> None:
    name, host = words[:2]
    port = r.number(words[2], 1, 65535, "a port, or leave it out") if len(words) == 4 else 0
    quorum = r.number(words[-1], 1, _INT_MAX, "how many Sentinels have to agree, e.g. 2")
    if name in r.masters:
        raise r.fail(f"{name!r} is monitored twice; keep one of the lines")
    same = next((one.name for one in r.masters.values() if _address(one.host, one.port) == _address(host, port)), None)
    if same is not None:
        raise r.fail(f"{host!r} is monitored already, as {same!r}; keep one of the lines")
    r.masters[name] = MasterRules(name, host, port, quorum)


def _ms(field: str, low: int) -> Callable[[_Reader, tuple[str, ...]], None]:
    def take(r: _Reader, words: tuple[str, ...]) -> None:
        r.set(words[0], **{field: r.number(words[1], low, _INT_MAX, "milliseconds, e.g. 3000") * MS})

    return take


def _count(field: str, low: int, high: int) -> Callable[[_Reader, tuple[str, ...]], None]:
    def take(r: _Reader, words: tuple[str, ...]) -> None:
        r.set(words[0], **{field: r.number(words[1], low, high, "a number")})

    return take


def _known_replica(r: _Reader, words: tuple[str, ...]) -> None:
    r.set(words[0])
    port = r.number(words[2], 1, 65535, "a port, or leave it out") if len(words) == 3 else 0
    known = r.masters[words[0]].replicas
    if _address(words[1], port) in [_address(*one) for one in known]:
        raise r.fail(f"{words[1]!r} is listed twice; keep one of the lines")
    r.set(words[0], replicas=(*known, (words[1], port)))


def _known_sentinel(r: _Reader, words: tuple[str, ...]) -> None:
    r.set(words[0])
    port = r.number(words[2], 1, 65535, "a port")
    if len(words) == 4:  # the form without run id is ignored, as Redis does
        known = r.masters[words[0]].sentinels
        if any(runid == words[3] for _, _, runid in known):
            raise r.fail(f"run id {words[3]!r} is listed twice; keep one of the lines")
        r.set(words[0], sentinels=(*known, (words[1], port, words[3])))


def _rename(r: _Reader, words: tuple[str, ...]) -> None:
    r.set(words[0])
    known = r.masters[words[0]].renamed
    if any(words[1].upper() == name for name, _ in known):
        raise r.fail(f"{words[1]!r} is renamed twice; keep one of the lines")
    r.set(words[0], renamed=(*known, (words[1].upper(), words[2])))


def _of_master(r: _Reader, words: tuple[str, ...]) -> None:
    r.set(words[0])


def _nothing(_r: _Reader, _words: tuple[str, ...]) -> None:
    return


def _yes_no(r: _Reader, words: tuple[str, ...]) -> None:
    if ascii_lower(words[0]) not in ("yes", "no"):
        raise r.fail(f"{words[0]!r} is neither yes nor no{did_you_mean(words[0], ('yes', 'no'))}")


def _announce_ip(r: _Reader, words: tuple[str, ...]) -> None:
    r.own["announce_ip"] = words[0]


def _announce_port(r: _Reader, words: tuple[str, ...]) -> None:
    r.own["announce_port"] = r.number(words[0], 0, 65535, "a port")


def _current_epoch(r: _Reader, words: tuple[str, ...]) -> None:
    epoch = r.number(words[0], 0, 2**63 - 1, "an epoch")
    r.own["current_epoch"] = max(epoch, r.own.get("current_epoch", 0))


def _myid(r: _Reader, words: tuple[str, ...]) -> None:
    if len(words[0]) != RUN_ID_CHARS:
        raise r.fail(f"an id has {RUN_ID_CHARS} characters, not {len(words[0])}; leave the line out and one is drawn")
    r.own["myid"] = words[0]


_FREE = "AUTH costs nothing in the model"
_SCRIPT = "scripts are not run"
_NAMES = "names of nodes stand for addresses"
SENTINEL_DIRECTIVES: dict[str, _Directive] = {
    "monitor": _Directive(3, 4, "NAME ADDRESS [PORT] QUORUM", "modelled", "which master", False, _monitor),
    "down-after-milliseconds": _Directive(
        2, 2, "NAME MS", "modelled", "when an instance is down by itself", True, _ms("down_after_ns", 1)),
    "failover-timeout": _Directive(
        2, 2, "NAME MS", "modelled", "when a failover is given up, twice it until the next", True, _ms("failover_timeout_ns", 1)),
    "parallel-syncs": _Directive(
        2, 2, "NAME COUNT", "modelled",
        "replicas that follow the new master at once", True, _count("parallel_syncs", 0, _INT_MAX)),
    "master-reboot-down-after-period": _Directive(
        2, 2, "NAME MS", "modelled", "when a restarted master is down", True, _ms("master_reboot_down_after_ns", 0)),
    "config-epoch": _Directive(2, 2, "NAME EPOCH", "modelled", "at the start", True, _count("config_epoch", 0, 2**63 - 1)),
    "leader-epoch": _Directive(2, 2, "NAME EPOCH", "modelled", "at the start", True, _count("leader_epoch", 0, 2**63 - 1)),
    "known-replica": _Directive(2, 3, "NAME ADDRESS [PORT]", "modelled", "known at the start", True, _known_replica),
    "known-slave": _Directive(2, 3, "NAME ADDRESS [PORT]", "modelled", "known at the start", True, _known_replica),
    "known-sentinel": _Directive(3, 4, "NAME ADDRESS PORT RUNID", "modelled", "known at the start", True, _known_sentinel),
    "current-epoch": _Directive(1, 1, "EPOCH", "modelled", "at the start", False, _current_epoch),
    "myid": _Directive(1, 1, "ID", "modelled", "who it is", False, _myid),
    "announce-ip": _Directive(1, 1, "ADDRESS", "modelled", "where others look for it", False, _announce_ip),
    "announce-port": _Directive(1, 1, "PORT", "modelled", "where others look for it", False, _announce_port),
    "auth-pass": _Directive(2, 2, "NAME PASSWORD", "accepted", _FREE, True, _of_master),
    "auth-user": _Directive(2, 2, "NAME USER", "accepted", _FREE, True, _of_master),
    "sentinel-user": _Directive(1, 1, "USER", "accepted", _FREE, False, _nothing),
    "sentinel-pass": _Directive(1, 1, "PASSWORD", "accepted", _FREE, False, _nothing),
    "rename-command": _Directive(3, 3, "NAME COMMAND RENAMED", "accepted", "a name changes nothing", True, _rename),
    "notification-script": _Directive(2, 2, "NAME PATH", "accepted", _SCRIPT, True, _of_master),
    "client-reconfig-script": _Directive(2, 2, "NAME PATH", "accepted", _SCRIPT, True, _of_master),
    "deny-scripts-reconfig": _Directive(1, 1, "yes|no", "accepted", _SCRIPT, False, _yes_no),
    "resolve-hostnames": _Directive(1, 1, "yes|no", "accepted", _NAMES, False, _yes_no),
    "announce-hostnames": _Directive(1, 1, "yes|no", "accepted", _NAMES, False, _yes_no),
}  # fmt: skip
_PLAIN_MODELLED = {"port": "where it listens", "loglevel": "what of its events the log has"}


# ---- reading


def parse_sentinel_conf(text: str, *, version: str = "7.0", where: str = "sentinel.conf", first_line: int = 1) -> SentinelConf:
    """sentinel.conf text that starts at line `first_line` of `where`; ScenarioError `where:line: ...`."""
    lines, plain_text = _split_lines(text, where, first_line)
    plain = parse_conf(plain_text, version=version, where=where, first_line=first_line)
    reader = _Reader(where)
    for line in sorted(lines, key=_turn):
        _take(reader, line)
    if not reader.masters:
        raise ScenarioError(f"{where}:{first_line}: no master is monitored; add `sentinel monitor mymaster NODE 2`")
    report = sorted([*_report_plain(plain), *(_report_line(line, where) for line in lines)], key=lambda one: one.number)
    port = int(plain.get("port")) if plain.is_set("port") else SENTINEL_PORT
    if port == 0:
        raise ScenarioError(f"{where}: port 0: a Sentinel that does not listen hears of no other; remove the line")
    masters = tuple(reader.masters.values())
    return SentinelConf(masters, port, str(plain.get("loglevel")), lines=tuple(report), **reader.own)


def _split_lines(text: str, where: str, first_line: int) -> tuple[list[_Line], str]:
    """Lines that begin with `sentinel`, and the text without them, line for line."""
    ours: list[_Line] = []
    rest: list[str] = []
    for number, raw in enumerate(text.split("\n"), first_line):
        stripped = raw.strip(" \t\r\n")
        first = stripped.split(None, 1)[0] if stripped else ""
        if ascii_lower(first.strip("\"'")) != "sentinel":
            rest.append(raw)
            continue
        rest.append("")
        try:
            words = split_args(stripped)
        except ValueError as error:
            raise ScenarioError(f"{where}:{number}: {error}") from error
        if len(words) < 2:
            raise ScenarioError(f"{where}:{number}: `sentinel` alone says nothing; add a directive, e.g. monitor mymaster NODE 2")
        ours.append(_Line(number, (ascii_lower(words[1]), *words[2:])))
    return ours, "\n".join(rest)


def _turn(line: _Line) -> int:
    """Which of the three queues of loadSentinelConfigFromQueue has it."""
    row = SENTINEL_DIRECTIVES.get(line.words[0])
    if line.words[0] == "monitor":
        return 1
    return 2 if row is None or row.of_master else 0


def _take(reader: _Reader, line: _Line) -> None:
    name, *words = line.words
    reader.place, reader.name = f"{reader.where}:{line.number}", name
    row = SENTINEL_DIRECTIVES.get(name)
    if row is None:
        near = did_you_mean(name, SENTINEL_DIRECTIVES)
        cure = near or f"; it knows {', '.join(SENTINEL_DIRECTIVES)}"
        raise ScenarioError(f"{reader.place}: {name[:100]!r} is not a directive of sentinel.conf (Redis 7.0){cure}")
    if not row.low <= len(words) <= row.high:
        raise reader.fail(f"takes {row.usage}, not {len(words)} word{'s' if len(words) != 1 else ''}")
    row.take(reader, tuple(words))


def _shown(directive: str, words: Sequence[str]) -> str:
    """What may be told of a line's words."""
    return " ".join([*words[:-1], "***"] if directive in SECRET else words)


def _report_line(line: _Line, where: str) -> DirectiveReport:
    name, *words = line.words
    row = SENTINEL_DIRECTIVES[name]
    return DirectiveReport(line.number, f"sentinel {name}", _shown(name, words), row.status, row.says, where)


def _report_plain(plain: RedisConf) -> list[DirectiveReport]:
    """redis.conf's lines, as far as they matter to a Sentinel."""
    found = []
    for line in plain.report():
        says = _PLAIN_MODELLED.get(line.directive)
        if says is None:
            found.append(replace(line, status="accepted", says="no effect on a Sentinel in the model"))
        elif line.says.startswith("overridden"):
            found.append(line)
        else:
            found.append(replace(line, status="modelled", says=says))
    return found
