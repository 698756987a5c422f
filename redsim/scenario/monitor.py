"""`redis-cli MONITOR`, read back into arrays: who sent which command when, to which key, of what size.

Mirrors replication.c:replicationFeedMonitors and sds.c:sdscatrepr, e.g.
`1339518083.107412 [0 127.0.0.1:60866] "keys" "*"`. A request's bytes are its RESP encoding, not the text's.
Differs: commands that a script called (`[0 lua]`) have client -1: nobody sent them. Databases are folded
into one key space.
Not modelled: MONITOR shows a command when it runs, so what a client waited before is not in a capture.
"""

import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from redsim.scenario.errors import ScenarioError
from redsim.units import DAY

LINES_MAX = 20_000_000  # some 50 bytes each once read, and the distinct keys
LINE_BYTES_MAX = 64 * 1024 * 1024
COMMANDS_MAX = 2_000

_LINE = re.compile(rb"\+?(\d{1,11})\.(\d{6}) \[(\d{1,5}) ([^\r\n]{1,200}?)\] (\S.*)", re.DOTALL)
_ARGUMENT = re.compile(rb'"((?:[^"\\]|\\.)*)"|\(redacted\)', re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b'"': b'"', b"\\": b"\\"}

_WITH_SUBCOMMAND = """
ACL CLIENT CLUSTER COMMAND CONFIG FUNCTION LATENCY MEMORY MODULE OBJECT PUBSUB SCRIPT SLOWLOG XGROUP XINFO
"""
_CONTAINERS = frozenset(_WITH_SUBCOMMAND.encode().split())
_KEYLESS = """
ACL ASKING AUTH BGREWRITEAOF BGSAVE CLIENT CLUSTER COMMAND CONFIG DBSIZE DEBUG DISCARD ECHO EXEC FAILOVER
FLUSHALL FLUSHDB FUNCTION HELLO INFO KEYS LASTSAVE LATENCY LOLWUT MODULE MONITOR MULTI PING PSUBSCRIBE PSYNC
PUBLISH PUBSUB PUNSUBSCRIBE QUIT RANDOMKEY READONLY READWRITE REPLCONF REPLICAOF RESET ROLE SAVE SCAN SCRIPT
SELECT SHUTDOWN SLAVEOF SLOWLOG SPUBLISH SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE SWAPDB SYNC TIME UNSUBSCRIBE
UNWATCH WAIT WAITAOF
"""
_SECOND = "BITOP OBJECT XGROUP XINFO MEMORY ZUNION ZINTER ZDIFF ZINTERCARD SINTERCARD LMPOP ZMPOP"
_THIRD = "BLMPOP BZMPOP MIGRATE"
_NUMKEYS_AT_2 = "EVAL EVALSHA EVAL_RO EVALSHA_RO FCALL FCALL_RO"
_STREAMS = "XREAD XREADGROUP"
_KEY_AT = {  # command -> argument that is its first key; 0: none; -1: depends on the arguments; else 1
    **dict.fromkeys(_KEYLESS.split(), 0),
    **dict.fromkeys(_SECOND.split(), 2),
    **dict.fromkeys(_THIRD.split(), 3),
    **dict.fromkeys(f"{_NUMKEYS_AT_2} {_STREAMS}".split(), -1),
}
_VALUES = {  # command -> (first, step) of the arguments that are values it writes
    **dict.fromkeys(("SET", "SETNX", "GETSET", "APPEND"), (2, 0)),
    **dict.fromkeys(("SETEX", "PSETEX", "SETRANGE", "HSETNX", "LSET"), (3, 0)),
    "LINSERT": (4, 0),
    **dict.fromkeys(("LPUSH", "RPUSH", "LPUSHX", "RPUSHX", "SADD"), (2, 1)),
    **dict.fromkeys(("HSET", "HMSET", "ZADD"), (3, 2)),
    **dict.fromkeys(("MSET", "MSETNX"), (2, 2)),
}
_MANY_KEYS = "MGET DEL UNLINK EXISTS TOUCH SINTER SUNION SDIFF"
_MANY_ELEMENTS = "LPUSH RPUSH LPUSHX RPUSHX SADD SREM SMISMEMBER HMGET HDEL ZREM PFADD"
_ELEMENTS = {  # command -> (first, step) of the keys or elements one call names
    **dict.fromkeys(_MANY_KEYS.split(), (1, 1)),
    **dict.fromkeys(("MSET", "MSETNX"), (1, 2)),
    **dict.fromkeys(_MANY_ELEMENTS.split(), (2, 1)),
    **dict.fromkeys(("HSET", "HMSET", "ZADD"), (3, 2)),
}
_ZADD_FLAGS = frozenset((b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"))

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MonitorCapture:
    """One element per command, in the order they ran; every array has shape (n,).

    `time_ns` int64 from the first command; `client` int32 into `clients`, -1 for a script's own calls;
    `command` int16 into `names` (upper-case, `CONFIG|GET`); `argc` int32; `request_bytes` int64 (RESP);
    `key` int32 into `keys`, the first key or -1; `value_bytes` int32, of the value written (the mean where a
    call writes several), -1 if none; `elements` int32: keys or elements one call names, else 1.
    """

    where: str
    time_ns: Ints
    client: npt.NDArray[np.int32]
    clients: tuple[str, ...]
    command: npt.NDArray[np.int16]
    names: tuple[str, ...]
    argc: npt.NDArray[np.int32]
    request_bytes: Ints
    key: npt.NDArray[np.int32]
    keys: tuple[bytes, ...]
    value_bytes: npt.NDArray[np.int32]
    elements: npt.NDArray[np.int32]
    last_line_cut: bool  # the file ended in the middle of a line, which was left out

    def __len__(self) -> int:
        return int(self.time_ns.size)

    @property
    def span_ns(self) -> int:
        """From the first command to the last."""
        return int(self.time_ns[-1])


def parse_monitor_file(path: Path) -> MonitorCapture:
    """Read a saved MONITOR; ScenarioError `path:line: …`. A last line cut short by Ctrl-C is left out."""
    try:
        with path.open("rb") as file:
            return _Reader(str(path), cut_tail=True).read(_lines(file))
    except OSError as error:
        cure = f"save one with `redis-cli MONITOR > {path.name}`"
        raise ScenarioError(f"{path}:1: cannot be read ({error.strerror}); {cure}") from None


def parse_monitor(lines: Iterable[bytes | str], where: str) -> MonitorCapture:
    """Parse the lines of a MONITOR session; ScenarioError `where:line: …` for the first that is not one."""
    return _Reader(where, cut_tail=False).read(
        line.encode("utf-8", "surrogateescape") if isinstance(line, str) else line for line in lines
    )


def _lines(file: object) -> Iterator[bytes]:
    readline = file.readline  # type: ignore[attr-defined]
    return iter(lambda: readline(LINE_BYTES_MAX), b"")


def bulk_bytes(length: int) -> int:
    """RESP size of one argument: `$<digits>`, CRLF, the bytes, CRLF."""
    return 5 + len(str(length)) + length


def request_bytes(lengths: Iterable[int]) -> int:
    """RESP size of a request whose arguments have these lengths; `SET` of 16 and 100 bytes is 144."""
    sizes = [bulk_bytes(length) for length in lengths]
    return 3 + len(str(len(sizes))) + sum(sizes)


_BULK_BYTES = [bulk_bytes(length) for length in range(1024)]
_Spec = tuple[int, int, tuple[int, int] | None, tuple[int, int] | None]


class _Reader:
    """Lines to arrays. A line without escapes, nearly all of them, is split; the others are decoded."""

    def __init__(self, where: str, *, cut_tail: bool) -> None:
        self.where = where
        self.cut_tail = cut_tail
        self.columns = {
            "time_ns": array("q"), "client": array("i"), "command": array("h"), "argc": array("i"),
            "request_bytes": array("q"), "key": array("i"), "value_bytes": array("i"), "elements": array("i"),
        }  # fmt: skip
        self.clients: dict[bytes, int] = {}
        self.names: dict[str, int] = {}
        self.keys: dict[bytes, int] = {}
        self.specs: dict[bytes, _Spec] = {}
        self.first_ns = -1
        self.last_line_cut = False

    def read(self, lines: Iterable[bytes]) -> MonitorCapture:
        number = 0
        previous_ns = 0
        for number, raw in enumerate(lines, 1):
            if number > LINES_MAX:
                raise self._error(number, f"the capture is longer than {LINES_MAX:,} lines; cut it with head")
            line = raw.rstrip(b"\r\n")
            if not line or (number == 1 and line.upper() in (b"OK", b"+OK")):
                continue
            arguments = self._arguments(line)
            if arguments is None:
                if self.cut_tail and not raw.endswith(b"\n") and len(raw) < LINE_BYTES_MAX:
                    self.last_line_cut = True
                    break
                raise self._error(number, f"{_show(line)} is not a line of MONITOR")
            match, parts = arguments
            now_ns = int(match[1]) * 1_000_000_000 + int(match[2]) * 1000
            if self.first_ns < 0:
                self.first_ns = now_ns
            now_ns -= self.first_ns
            self._check_time(now_ns, previous_ns, number)
            previous_ns = now_ns
            self._append(now_ns, match[4], parts, number)
        if not self.columns["time_ns"]:
            raise self._error(max(number, 1), "holds no commands; save some with `redis-cli MONITOR`")
        return self._capture()

    def _arguments(self, line: bytes) -> tuple[re.Match[bytes], list[bytes]] | None:
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        text = match[5]
        if b"\\" not in text and text[0] == 34 and text[-1] == 34 and len(text) > 1:
            parts = text[1:-1].split(b'" "')
            return (match, parts) if text.count(b'"') == 2 * len(parts) and parts[0] else None
        decoded = _decode(text)
        return (match, decoded) if decoded and decoded[0] else None

    def _append(self, now_ns: int, client: bytes, parts: list[bytes], number: int) -> None:
        name = parts[0]
        code, key_at, values, elements = self.specs.get(name) or self._spec(name, parts, number)
        argc = len(parts)
        if key_at < 0:
            key_at = _find_key(name.upper(), parts)
        size = 3 + len(str(argc))
        for part in parts:
            length = len(part)
            size += _BULK_BYTES[length] if length < 1024 else bulk_bytes(length)
        columns = self.columns
        columns["time_ns"].append(now_ns)
        sender = -1 if client == b"lua" else self.clients.setdefault(client, len(self.clients))
        columns["client"].append(sender)
        columns["command"].append(code)
        columns["argc"].append(argc)
        columns["request_bytes"].append(size)
        key = self.keys.setdefault(parts[key_at], len(self.keys)) if 0 < key_at < argc else -1
        columns["key"].append(key)
        columns["value_bytes"].append(_mean_bytes(_written(parts, values)) if values else -1)
        columns["elements"].append(max(1, len(_written(parts, elements))) if elements else 1)

    def _spec(self, name: bytes, parts: list[bytes], number: int) -> _Spec:
        """What to look for in a command; remembered, except where the name depends on the subcommand."""
        upper = name.upper()
        text = upper.decode("utf-8", "backslashreplace")[:60]
        container = upper in _CONTAINERS and len(parts) > 1
        full = f"{text}|{parts[1].upper().decode('utf-8', 'backslashreplace')[:60]}" if container else text
        code = self.names.setdefault(full, len(self.names))
        if code >= COMMANDS_MAX:
            raise self._error(number, f"{_show(name)} is command number {COMMANDS_MAX + 1}; is this MONITOR?")
        spec = (code, _KEY_AT.get(text, 1), _VALUES.get(text), _ELEMENTS.get(text))
        if not container:
            self.specs[name] = spec
        return spec

    def _check_time(self, now_ns: int, previous_ns: int, number: int) -> None:
        if now_ns < previous_ns:
            back_us = (previous_ns - now_ns) // 1000
            raise self._error(number, f"the clock goes back by {back_us} us; are two captures in this file?")
        if now_ns > 366 * DAY:
            raise self._error(number, "is over a year after the first; are two captures in this file?")

    def _capture(self) -> MonitorCapture:
        def column(name: str, dtype: type) -> np.ndarray:
            return np.frombuffer(self.columns[name], dtype=dtype).copy()

        return MonitorCapture(
            where=self.where,
            time_ns=column("time_ns", np.int64),
            client=column("client", np.int32),
            clients=tuple(c.decode("utf-8", "backslashreplace") for c in self.clients),
            command=column("command", np.int16),
            names=tuple(self.names),
            argc=column("argc", np.int32),
            request_bytes=column("request_bytes", np.int64),
            key=column("key", np.int32),
            keys=tuple(self.keys),
            value_bytes=column("value_bytes", np.int32),
            elements=column("elements", np.int32),
            last_line_cut=self.last_line_cut,
        )

    def _error(self, number: int, sentence: str) -> ScenarioError:
        return ScenarioError(f"{self.where}:{number}: {sentence}")


def _show(line: bytes) -> str:
    text = line[:80].decode("utf-8", "backslashreplace")
    return repr(text) + ("…" if len(line) > 80 else "")


def _decode(text: bytes) -> list[bytes] | None:
    """Arguments as sdscatrepr printed them, unescaped; None if that is not what they are."""
    parts: list[bytes] = []
    end = -1
    for match in _ARGUMENT.finditer(text):
        if match.start() != end + 1 or text[end : end + 1] not in (b" ", b""):
            return None
        raw = b"(redacted)" if match[1] is None else match[1]
        try:
            parts.append(_ESCAPE.sub(_unescape, raw) if b"\\" in raw else raw)
        except KeyError:
            return None
        end = match.end()
    return parts if end == len(text) else None


def _unescape(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 16),)) if match[1] is not None else _ESCAPES[match[2]]


def _find_key(name: bytes, parts: list[bytes]) -> int:
    """The first key's place where it depends on the arguments; 0 if there is none."""
    if name.decode("ascii", "replace") in _STREAMS.split():
        upper = [part.upper() for part in parts]
        return upper.index(b"STREAMS") + 1 if b"STREAMS" in upper else 0
    return 3 if len(parts) > 3 and parts[2].isdigit() and int(parts[2][:9]) > 0 else 0


def _written(parts: list[bytes], where: tuple[int, int]) -> list[bytes]:
    """The arguments at (first, step); ZADD's flags stand before its pairs and move them."""
    first, step = where
    if parts[0].upper() == b"ZADD":
        while first - 1 < len(parts) and parts[first - 1].upper() in _ZADD_FLAGS:
            first += 1
    return parts[first::step] if step else parts[first : first + 1]


def _mean_bytes(values: list[bytes]) -> int:
    return sum(map(len, values)) // len(values) if values else -1
