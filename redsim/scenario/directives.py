"""The table of redis.conf directives: names by version, types, defaults, and what we do with each.

Mirrors config.c:static_configs and the special cases of loadServerConfigFromString, read at Redis 6.2.16,
7.0.15, 7.2.6, 7.4.1 and Valkey 8.0.1; Redis 8.0 is read at 7.9.224 (October 2024) plus the changes its
release notes name.
The rows are in `directives.csv`: `names` may say since when a name is known
(`hash-max-listpack-entries@7.0+`), `default` may differ by version (`no | valkey-8.0=yes`), `off` is the
value that switches the thing off, `needs` the directive without which this one has no effect.
Differs: a number too large for 64 bits is refused, Redis saturates or wraps; in 6.2 a `save` line with two
or more pairs is refused, Redis 6.2 drops it without a word.
Not modelled: whether a command to rename exists; what only the host can judge (does `dir` exist).
"""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from redsim.scenario.errors import did_you_mean
from redsim.units import memory_bytes

__all__ = [
    "SENTINEL_ONLY", "VERSIONS", "Directive", "ascii_lower", "by_any_name", "known_names", "split_args",
    "table", "versions_of",
]  # fmt: skip

VERSIONS = ("6.2", "7.0", "7.2", "7.4", "8.0", "valkey-8.0")
SENTINEL_ONLY = frozenset({  # sentinel.c, after the word `sentinel`
    "monitor", "quorum", "down-after-milliseconds", "failover-timeout", "parallel-syncs", "auth-pass",
    "auth-user", "notification-script", "client-reconfig-script", "deny-scripts-reconfig",
    "resolve-hostnames", "announce-hostnames", "announce-ip", "announce-port", "known-replica",
    "known-slave", "known-sentinel", "current-epoch", "config-epoch", "leader-epoch", "myid",
    "sentinel-user", "sentinel-pass", "master-reboot-down-after-period",
})  # fmt: skip
_LIMITS = {
    "INT_MIN": -(2**31), "INT_MAX": 2**31 - 1, "UINT_MAX": 2**32 - 1, "LONG_MAX": 2**63 - 1,
    "ULONG_MAX": 2**64 - 1, "ULLONG_MAX": 2**64 - 1,
}  # fmt: skip
_BINDADDR_MAX = 16  # server.h: CONFIG_BINDADDR_MAX
_HOST_CHARS_MAX = 255  # server.h: NET_HOST_STR_LEN - 1
_CLAMPED = {("hz", v): (1, 500) for v in VERSIONS} | {("io-threads", "valkey-8.0"): (1, 16)}  # after the file is read
_TITLE = re.compile(r"(\{\{|\{(title|listen-addr|server-mode|port|tls-port|unixsocket|config-file)\}|[^{])+")
_SPACE = " \t\n\v\f\r"  # isspace() in the C locale
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "a": "\a"}
_UPPER_TO_LOWER = {c: c + 32 for c in range(ord("A"), ord("Z") + 1)}


def ascii_lower(text: str) -> str:
    """tolower() in the C locale: only A-Z change."""
    return text.translate(_UPPER_TO_LOWER)


# ---- one line into words -------------------------------------------------------------------------


def _quoted(line: str, at: int) -> tuple[str, int]:
    """The text of the quotes that open at `at`, and the place after them; ValueError if left open."""
    quote, out, i = line[at], "", at + 1
    while i < len(line) and line[i] != quote:
        hexa = re.match(r"\\x([0-9a-fA-F]{2})", line[i : i + 4])
        if quote == '"' and hexa:
            out, i = out + chr(int(hexa[1], 16)), i + 4
        elif line[i] == "\\" and i + 1 < len(line) and (quote == '"' or line[i + 1] == "'"):
            out, i = out + (_ESCAPES.get(line[i + 1], line[i + 1]) if quote == '"' else "'"), i + 2
        else:
            out, i = out + line[i], i + 1
    if i == len(line) or (i + 1 < len(line) and line[i + 1] not in _SPACE):
        raise ValueError("unbalanced quotes; a closing quote ends its word")
    return out, i + 1


def split_args(line: str) -> tuple[str, ...]:
    """sds.c:sdssplitargs: words by white space, "..." with escapes, '...' with \\' only, else ValueError."""
    words: list[str] = []
    i = 0
    while True:
        while i < len(line) and line[i] in _SPACE:
            i += 1
        if i == len(line):
            return tuple(words)
        word = ""
        while i < len(line) and line[i] not in " \t\n\r":
            if line[i] in "\"'":
                text, i = _quoted(line, i)
                word += text
                break
            word, i = word + line[i], i + 1
        words.append(word)


# ---- words into values, one function per type; a ValueError's text follows the directive's name --


def _long(text: str, *, strtoll: bool = False) -> int:
    """util.c:string2ll (no sign `+`, no leading zeros), or C's strtoll, which takes both."""
    pattern = rf"[{_SPACE}]*[+-]?[0-9]+|" if strtoll else r"0|-?[1-9][0-9]*"
    if not re.fullmatch(pattern, text) or len(text) > 20:
        raise ValueError(f"must be a whole number, not {text!r}")
    return int(text or 0)


def _memory(text: str) -> int:
    """util.c:memtoull, where no digits at all mean 0; up to 64 bits, twice what `memory_bytes` takes."""
    match = re.fullmatch(r"([0-9]{0,100})([bB]|[kKmMgG][bB]?)?", text)
    if match is None:
        raise ValueError(f"must be a memory size like 100, 64kb, 1mb or 2gb, not {text!r}")
    return int(match[1] or 0) * memory_bytes("1" + (match[2] or ""))


def _within(value: int, low: int, high: int, text: str) -> int:
    if not low <= value <= high:
        raise ValueError(f"must be between {low} and {high}, not {text}")
    return value


def _number(d: "Directive", args: tuple[str, ...], _version: str) -> int:
    text, low, high = args[0], d.low or 0, d.high or 0
    if d.type == "percent-memory" and re.fullmatch(r"(0|[1-9][0-9]*)%", text):
        return -_within(_long(text[:-1]), 0, -low, text)
    if d.type == "octal":
        if not re.fullmatch(rf"[{_SPACE}]*[+-]?[0-7]{{1,20}}|", text):
            raise ValueError(f"must be octal, like 700, not {text!r}")
        return _within(int(text or "0", 8), low, high, text)
    if d.type == "int":
        return _within(_long(text), low, high, text)
    return _within(_memory(text), max(low, 0), high, text)


def _yes_no(_d: "Directive", args: tuple[str, ...], _version: str) -> bool:
    if ascii_lower(args[0]) not in ("yes", "no"):
        raise ValueError(f"must be yes or no, not {args[0]!r}")
    return ascii_lower(args[0]) == "yes"


def _choice(d: "Directive", args: tuple[str, ...], _version: str) -> str | tuple[str, ...]:
    for arg in args:
        if ascii_lower(arg) not in d.choices:
            near = did_you_mean(arg, d.choices)
            raise ValueError(f"must be one of {', '.join(d.choices)}, not {arg!r}{near}")
    if d.type == "enum":
        return ascii_lower(args[0])
    if not args:
        raise ValueError(f"needs one or more of {', '.join(d.choices)}")
    flags = tuple(ascii_lower(arg) for arg in args)
    if "save" in flags and "nosave" in flags:
        raise ValueError("cannot have save and nosave at once; keep one")
    return flags


def _text(d: "Directive", args: tuple[str, ...], _version: str) -> str:
    text = args[0]
    if d.type == "filename!" and text == "":
        raise ValueError("cannot be empty")
    if d.type.startswith("filename") and ("/" in text or "\\" in text):
        raise ValueError(f"must be a file name without a path, not {text!r}; the folder goes to `dir`")
    if d.type == "hostname" and not re.fullmatch(rf"[A-Za-z0-9.-]{{0,{_HOST_CHARS_MAX}}}", text):
        raise ValueError(f"must be a host name of letters, digits, dots and hyphens, not {text!r}")
    if d.type == "title":
        certain = re.sub(r"\{(title|server-mode|unixsocket)\}", "", text).strip(" ")  # the others may be empty
        if not certain or not _TITLE.fullmatch(text):
            raise ValueError(f"may hold {{title}}, {{port}} and the like, and more than {{title}}; not {text!r}")
    return text


def _save(_d: "Directive", args: tuple[str, ...], version: str) -> tuple[tuple[int, int], ...]:
    """((seconds, changes), ...); () switches snapshots off."""
    args = () if args == ("",) else args
    if len(args) % 2:
        raise ValueError('takes pairs of seconds and changes, e.g. 900 1, or "" for no snapshots')
    if version == "6.2" and len(args) > 2:
        raise ValueError("takes one pair a line in Redis 6.2, which would ignore this line; write a line for each pair")
    numbers = [_long(arg, strtoll=True) for arg in args]
    if any(s < 1 for s in numbers[::2]) or any(c < 0 for c in numbers[1::2]):
        raise ValueError("needs seconds of 1 or more and changes of 0 or more")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _buffer_limit(_d: "Directive", args: tuple[str, ...], version: str) -> dict[str, tuple[int, int, int]]:
    """{class: (hard bytes, soft bytes, soft seconds)} for the classes named."""
    if len(args) % 4 or (version == "6.2" and len(args) != 4):
        raise ValueError("takes a class, a hard limit, a soft limit and soft seconds, e.g. replica 256mb 64mb 60")
    limits = {}
    for name, hard, soft, seconds in zip(args[::4], args[1::4], args[2::4], args[3::4], strict=True):
        kind = {"slave": "replica"}.get(ascii_lower(name), ascii_lower(name))
        if kind not in ("normal", "replica", "pubsub"):
            raise ValueError(f"knows the classes normal, replica and pubsub, not {name!r}")
        limits[kind] = (
            _memory(hard),
            _memory(soft),
            _within(_long(seconds, strtoll=True), 0, 2**31 - 1, seconds),
        )
    return limits


def _oom_values(_d: "Directive", args: tuple[str, ...], _version: str) -> tuple[int, ...]:
    if len(args) != 3:
        raise ValueError("takes three numbers: for a primary, a replica and a child process")
    return tuple(_within(_long(arg, strtoll=True), -2000, 2000, arg) for arg in args)


def _keyspace_events(_d: "Directive", args: tuple[str, ...], version: str) -> str:
    classes = "KEg$lshzxeAtmd" if version == "6.2" else "KEg$lshzxeAtmdn"
    if len(args) != 1 or not set(args[0]) <= set(classes):
        raise ValueError(f"takes one word of the letters {classes}, not {' '.join(args)!r}")
    return args[0]


def _words(_d: "Directive", args: tuple[str, ...], version: str) -> tuple[str, ...]:
    if len(args) > _BINDADDR_MAX or (version == "6.2" and not args):
        raise ValueError(f"takes 1 to {_BINDADDR_MAX} addresses")
    return () if args == ("",) else args


def _replicaof(_d: "Directive", args: tuple[str, ...], _version: str) -> tuple[str, int] | None:
    if len(args) != 2:
        raise ValueError("takes a host and a port, or `no one`")
    if [ascii_lower(arg) for arg in args] == ["no", "one"]:
        return None
    return args[0], _within(_long(args[1], strtoll=True), 0, 65535, args[1])


def _percentiles(_d: "Directive", args: tuple[str, ...], _version: str) -> tuple[float, ...]:
    args = () if args == ("",) else args
    for arg in args:
        if not re.fullmatch(r"[+-]?[0-9]{1,40}(\.[0-9]{0,40})?", arg) or not 0 <= float(arg) <= 100:
            raise ValueError(f"takes percentiles between 0 and 100, not {arg!r}")
    return tuple(float(arg) for arg in args)


def _rename(_d: "Directive", args: tuple[str, ...], _version: str) -> dict[str, str]:
    if len(args) != 2:
        raise ValueError('takes a command and its new name, or "" to remove it')
    return {args[0].upper(): args[1].upper()}


def _as_is(_d: "Directive", args: tuple[str, ...], _version: str) -> tuple[tuple[str, ...], ...]:
    if not args:
        raise ValueError("needs a value")
    return (args,)


Parse = Callable[["Directive", tuple[str, ...], str], Any]
_SINGLE: dict[str, Parse] = {
    "bool": _yes_no, "enum": _choice, "int": _number, "memory": _number, "percent-memory": _number,
    "octal": _number, "string": _text, "secret": _text, "filename": _text, "filename!": _text,
    "hostname": _text, "title": _text, "include": _text,
}  # fmt: skip
_MULTI: dict[str, Parse] = {
    "flags": _choice, "save": _save, "buffer-limit": _buffer_limit, "oom-values": _oom_values,
    "words": _words, "keyspace-events": _keyspace_events, "replicaof": _replicaof,
    "percentiles": _percentiles,
}  # fmt: skip
_WHOLE: dict[str, Parse] = {"rename": _rename, "user": _as_is, "module": _as_is, "sentinel": _as_is}
_UNSET: dict[str, Any] = {"rename": {}, "user": (), "module": (), "sentinel": (), "include": ()}


# ---- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Directive:
    """One row: a directive in the versions where it means one thing."""

    names: dict[str, frozenset[str]]  # every spelling, and the versions that take it; the newest comes first
    versions: frozenset[str]
    type: str
    choices: tuple[str, ...]
    low: int | None
    high: int | None
    defaults: dict[str, str]  # by version, as redis.conf would say it
    status: str  # "modelled", "accepted", "not modelled yet", "refused"
    off: str | None
    needs: str
    says: str
    ignored: bool  # Redis reads the line and forgets it

    @property
    def name(self) -> str:
        return next(iter(self.names))

    def name_in(self, version: str) -> str:
        """What `version` calls it first."""
        return next(name for name, versions in self.names.items() if version in versions)

    def value(self, args: tuple[str, ...], version: str) -> Any:
        """`args` typed and checked; ValueError with a text that follows the directive's name."""
        if self.type in _WHOLE:
            return _WHOLE[self.type](self, args, version)
        if self.type in _SINGLE:
            if len(args) != 1:
                raise ValueError(f"takes one value, not {len(args)}")
            return _SINGLE[self.type](self, args, version)
        if len(args) == 1 and args[0] and version != "6.2":
            args = split_args(args[0])  # config.c: one quoted argument is split again
        return _MULTI[self.type](self, args, version)

    def default(self, version: str) -> Any:
        """The value in force when no line sets it."""
        if self.type in _UNSET:
            return _UNSET[self.type]
        words = split_args(self.defaults[version])
        if self.type == "save":
            return tuple(zip(map(int, words[::2]), map(int, words[1::2]), strict=True))
        if self.type == "buffer-limit":
            return _buffer_limit(self, words, "7.0")
        return self.clamped(self.value(words, version), version)

    def clamped(self, value: Any, version: str) -> Any:
        """config.c: once the file is read, hz is brought into 1..500, Valkey's io-threads into 1..16."""
        if (self.name, version) not in _CLAMPED:
            return value
        low, high = _CLAMPED[self.name, version]
        return max(low, min(high, value))

    def is_off(self, value: Any, version: str) -> bool:
        """Whether `value` switches the thing off."""
        if self.type == "buffer-limit":
            return all(hard == soft == 0 for hard, soft, _ in value.values())
        return self.off is not None and bool(value == self.value(split_args(self.off), version))


def _versions(text: str) -> frozenset[str]:
    """`""` is all of them, `7.2+` that one and all after it (Valkey 8.0 too), else the ones listed."""
    if text.endswith("+"):
        return frozenset(VERSIONS[VERSIONS.index(text[:-1]) :])
    found = frozenset(text.replace("/", " ").split()) or frozenset(VERSIONS)
    assert found <= set(VERSIONS), text
    return found


def _limit(text: str, kind: str) -> int | None:
    if text == "":
        return None
    if text in _LIMITS:
        return _LIMITS[text]
    if text[0] == "-":
        return int(text)
    return int(text, 8) if kind == "octal" else memory_bytes(text)


def _directive(row: dict[str, str]) -> Directive:
    versions = _versions(row["versions"])
    names = {}
    for word in row["names"].split():
        name, _, since = word.partition("@")
        names[name] = _versions(since) & versions if since else versions
    base, *others = row["default"].split(" | ")
    words = row["type"].split()
    kind = words[1] if words[0] == "ignored" else words[0]
    return Directive(
        names=names, versions=versions, type=kind, ignored=words[0] == "ignored",
        choices=tuple(words[1].split("|")) if kind in ("enum", "flags") else (),
        low=_limit(row["low"], kind), high=_limit(row["high"], kind),
        defaults=dict.fromkeys(VERSIONS, base) | dict(other.split("=", 1) for other in others),
        status=row["status"], off=row["off"] or None, needs=row["needs"], says=row["says"],
    )  # fmt: skip


@cache
def _rows() -> tuple[Directive, ...]:
    path = Path(__file__).with_name("directives.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(_directive(row) for row in csv.DictReader(file))


@cache
def table(version: str) -> dict[str, Directive]:
    """Every name that `version` takes in its redis.conf, aliases included, to its row."""
    return {n: d for d in _rows() for n, versions in d.names.items() if version in versions}


@cache
def by_any_name(version: str) -> dict[str, Directive]:
    """As `table`, and also by the names other versions give the same row (for the model's own look-ups)."""
    return {n: d for d in _rows() if version in d.versions for n in d.names} | table(version)


@cache
def known_names() -> frozenset[str]:
    """Every name of every version."""
    return frozenset(name for d in _rows() for name in d.names)


def versions_of(name: str) -> list[str]:
    """The versions that take `name`, oldest first; empty if none does."""
    return [version for version in VERSIONS if name in table(version)]
