"""What redis-cli printed of SENTINEL MASTERS, MASTER, REPLICAS (SLAVES) and SENTINELS, as records: `records_of`.

    1)  1) "name"                    on a terminal           name            into a file
        2) "mymaster"                                        mymaster
    1)  1# "name" => "mymaster"      the same by RESP3       name mymaster   the same by RESP3

and --json. Outputs may stand one after the other in a file, with prompts between them; `flags` tells what a record is of.
Mirrors sentinel.c:addReplySentinelRedisInstance. Differs: fields that are missing at a record's end are told, those that a later
version adds are passed over. Not modelled: --csv.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from redsim.scenario.errors import ScenarioError

__all__ = ["INT_MAX", "Record", "is_sentinel_text", "record", "records_of"]

INT_MAX = 2**31 - 1
NAME = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")  # sentinel.c: createSentinelRedisInstance takes no other
COMMANDS = {"master": "SENTINEL MASTERS", "slave": "SENTINEL REPLICAS mymaster", "sentinel": "SENTINEL SENTINELS mymaster"}
NEEDED = {  # in the order in which they are printed; all but addresses are numbers
    "master": ("down-after-milliseconds", "num-slaves", "num-other-sentinels", "quorum", "failover-timeout", "parallel-syncs"),
    "slave": ("last-ok-ping-reply", "master-host", "master-port", "slave-priority", "slave-repl-offset"),
    "sentinel": ("last-ok-ping-reply", "last-hello-message", "voted-leader-epoch"),
}
POSITIVE = ("down-after-milliseconds", "quorum", "failover-timeout")
ADDRESSES = ("master-host",)
FIELDS = frozenset({
    "name", "ip", "port", "runid", "flags", "link-pending-commands", "link-refcount", "failover-state", "last-ping-sent",
    "last-ok-ping-reply", "last-ping-reply", "s-down-time", "o-down-time", "down-after-milliseconds", "info-refresh",
    "role-reported", "role-reported-time", "config-epoch", "num-slaves", "num-other-sentinels", "quorum", "failover-timeout",
    "parallel-syncs", "notification-script", "client-reconfig-script", "master-link-down-time", "master-link-status",
    "master-host", "master-port", "slave-priority", "slave-repl-offset", "replica-announced", "last-hello-message",
    "voted-leader", "voted-leader-epoch",
})  # fmt: skip

_TTY = re.compile(r'^\s*(?:\d+\)\s+)*\d+[)#] +"((?:[^"\\]|\\.)*)"(?: => "((?:[^"\\]|\\.)*)")?\s*$')
_FIELD = re.compile(r"[a-z][a-z-]{1,40}\Z")
_KNOWN = re.compile(
    r'^(?:\s*(?:\d+\)\s+)*\d+[)#] +")?(runid|flags|link-pending-commands|link-refcount|last-ping-sent|last-ok-ping-reply'
    r'|last-ping-reply|down-after-milliseconds|role-reported|num-other-sentinels|voted-leader)(?:"| |$)',
    re.MULTILINE,
)
_KNOWN_MIN = 3  # such lines make a text Sentinel's
_JSON = re.compile(r'\A\s*[\[{].{0,400}"runid" *:', re.DOTALL)
Token = tuple[int, str]  # line, word


@dataclass(frozen=True)
class Record:
    """An instance as a Sentinel sees it. `kind`: master, slave or sentinel; `fields` as printed, addresses and ids among them."""

    kind: str
    fields: dict[str, str] = field(repr=False)
    where: str
    master: str = ""  # whose replica or Sentinel it is, where the question told

    @property
    def flags(self) -> list[str]:
        return self.fields["flags"].split(",")


def is_sentinel_text(text: str) -> bool:
    """Whether it is an output of those commands, whole or not."""
    return len(set(_KNOWN.findall(text))) >= _KNOWN_MIN or _JSON.match(text) is not None


def records_of(text: str, where: str) -> list[Record]:
    """The records of a text, in its order; ScenarioError `where:line: …` for one that is not whole."""
    if _JSON.match(text):
        return _of_json(text, where)
    found = [one for one in text.split("\n") if _TTY.match(one)]
    pairs = list(_of_terminal(text, where) if found else _of_file(text, where))
    starts = [i for i, (_, name, _) in enumerate(pairs) if name == "name"]
    if not starts or starts[0] > 0:
        raise ScenarioError(f"{where}:1: the output lacks its beginning; save it whole: {_cure('master', where)}")
    out = []
    for i, end in zip(starts, [*starts[1:], len(pairs)], strict=True):
        fields = {name: value for _, name, value in pairs[i:end]}
        out.append(record(fields, f"{where}:{pairs[i][0]}", f"{where}:{pairs[end - 1][0]}"))
    return out


def record(fields: dict[str, str], where: str, ends: str = "") -> Record:
    """A record out of its fields, which are checked; `ends`: the place of the last one, if that is another."""
    flags = fields.get("flags", "").split(",")
    kind = next((kind for kind in COMMANDS if kind in flags), None)
    place = where.rpartition(":")[0] if ends else where
    if kind is None:
        missing = "its flags are missing" if "flags" not in fields else "its flags are of no master, replica or Sentinel"
        raise ScenarioError(f"{ends or where}: the output is not whole, {missing}; save it anew: {_cure('master', place)}")
    if "name" not in fields:
        raise ScenarioError(f"{where}: the output is not whole, its name is missing; save it anew: {_cure(kind, place)}")
    last = list(fields)[-1]
    for name in NEEDED[kind]:
        if name not in fields:
            raise ScenarioError(
                f"{ends or where}: the output breaks off after {_shown(last)}, {name} is missing; "
                f"save it whole: {_cure(kind, place)}"
            )
        if name not in ADDRESSES and not _is_number(fields[name], int(name in POSITIVE), INT_MAX if kind == "master" else 2**63):
            raise ScenarioError(f"{where}: {name} is not a whole number as Redis has it; save it anew: {_cure(kind, place)}")
    if kind == "master" and not NAME.match(fields["name"]):
        raise ScenarioError(f"{where}: the name of a master has letters, digits, dot, dash and underscore only; correct it")
    return Record(kind, fields, where)


def _is_number(text: str, low: int, high: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high


def _shown(name: str) -> str:
    """A field's name; what is none may be a value, which is not told."""
    return repr(name) if name in FIELDS else "a word that is no field"


def _cure(kind: str, where: str) -> str:
    name = "masters.txt" if "://" in where else where.replace("\\", "/").rpartition("/")[2]
    return f"redis-cli -p 26379 {COMMANDS[kind]} > {name}"


# ---- the forms -----------------------------------------------------------------------------------------------------


def _of_terminal(text: str, where: str) -> Iterator[tuple[int, str, str]]:
    """(line, field, value); lines that are none of redis-cli's, such as prompts, are passed over."""
    waiting: Token | None = None
    for number, raw in enumerate(text.split("\n"), 1):
        match = _TTY.match(raw)
        if match is None:
            continue
        if match[2] is not None:
            yield number, match[1], match[2]
        elif waiting is None:
            waiting = number, match[1]
        else:
            yield waiting[0], waiting[1], match[1]
            waiting = None
    _whole(waiting, where)


def _of_file(text: str, where: str) -> Iterator[tuple[int, str, str]]:
    """The same of bare lines: field and value one below the other, or in one line. An empty value is an empty line."""
    lines = text.split("\n")
    in_one_line = any(line.startswith("name ") for line in lines)
    waiting: Token | None = None
    for number, line in enumerate(lines, 1):
        name, _, value = line.partition(" ")
        if in_one_line:
            if _FIELD.match(name):
                yield number, name, value
        elif waiting is not None:
            yield waiting[0], waiting[1], line
            waiting = None
        elif _FIELD.match(line):
            waiting = number, line
    _whole(waiting, where)


def _whole(waiting: Token | None, where: str) -> None:
    if waiting is not None:
        raise ScenarioError(
            f"{where}:{waiting[0]}: the output breaks off after {_shown(waiting[1])}; save it whole: {_cure('master', where)}"
        )


def _of_json(text: str, where: str) -> list[Record]:
    try:
        parsed: Any = json.loads(text)
    except ValueError:
        raise ScenarioError(f"{where}:1: is no whole JSON; save it anew: {_cure('master', where)}") from None
    rows = parsed if isinstance(parsed, list) else [parsed]
    if not all(isinstance(row, dict) and row for row in rows):
        raise ScenarioError(f"{where}:1: is no output of SENTINEL MASTERS; save it anew: {_cure('master', where)}")
    return [record({str(name): str(value) for name, value in row.items()}, f"{where}:1", f"{where}:1") for row in rows]
