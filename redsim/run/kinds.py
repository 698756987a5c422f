"""Kinds: each command as one group sends it, as a row of the data plane's table.

A kind is a command, its arguments, the data set it touches and its cost law taken from the host profile (or from a real
server's INFO).
"""

from dataclasses import dataclass
from fnmatch import translate
from re import compile as compile_re

import numpy as np
import numpy.typing as npt

from redsim.dataplane import layout as dp
from redsim.redis.commands import COMMANDS, Command
from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.monitor import bulk_bytes
from redsim.scenario.profile import Curve, HostProfile
from redsim.scenario.schema import CommandUse, Dataset, Size
from redsim.workload.tables import Tables, mean

CURVE_POINTS = 42
WAIT_NS = 500  # of WAIT's own function: a guess, as of a command that looks at a list of clients
PROPAGATED_OPS = {dp.OP_SET, dp.OP_INCR, dp.OP_APPEND, dp.OP_MSET, dp.OP_FLUSHALL, dp.OP_PUSH}
DIRTYING_OPS = {dp.OP_DEL, dp.OP_UNLINK, dp.OP_EXPIRE, dp.OP_POP}  # and SADD, of a member that is not there
WRITING_OPS = PROPAGATED_OPS | DIRTYING_OPS | {dp.OP_PUT}

# Commands of a capture or an INFO that behave as another one here: same data structure, same cost class.
SAME_AS = {
    "INCRBY": "INCR", "DECR": "INCR", "DECRBY": "INCR", "SETEX": "SET", "PSETEX": "SET", "SETNX": "SET", "GETSET": "SET",
    "RPUSH": "LPUSH", "RPOP": "LPOP", "ZREVRANGE": "ZRANGE", "ZRANGEBYSCORE": "ZRANGE", "HMSET": "HSET", "HMGET": "HGETALL",
    "PEXPIRE": "EXPIRE", "EXPIREAT": "EXPIRE", "TTL": "EXISTS", "TYPE": "EXISTS", "STRLEN": "GET", "HEXISTS": "HGET",
    "EVALSHA": "EVAL", "FLUSHDB": "FLUSHALL", "ECHO": "PING",
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A row of the kind table and what a report calls it."""

    group: str
    command: Command
    name: str  # what reports call it
    row: npt.NDArray[np.int64]
    weight: float
    words: tuple[str, ...] = ()  # the whole command, where the scenario gives it


class Curves:
    """The curves a run uses, each once, as totals (or values) at powers of two."""

    def __init__(self, profile: HostProfile) -> None:
        self._profile = profile
        self._numbers: dict[str, int] = {}
        self._rows: list[list[int]] = []

    def number(self, name: str) -> int:
        """Row of curve `name`; NONE for no name or a curve the profile does not have."""
        if not name or name not in self._profile.curves:
            return dp.NONE
        if name not in self._numbers:
            self._numbers[name] = len(self._rows)
            self._rows.append(curve_row(self._profile.curves[name]))
        return self._numbers[name]

    def add(self, name: str, row: list[int]) -> int:
        """Row of a curve made for this run, under a name of its own."""
        if name not in self._numbers:
            self._numbers[name] = len(self._rows)
            self._rows.append(row)
        return self._numbers[name]

    @property
    def table(self) -> npt.NDArray[np.int64]:
        return np.array(self._rows, dtype=np.int64)


def curve_row(curve: Curve) -> list[int]:
    """Values at 2**0 .. 2**41."""
    values = [curve.at(2.0**i) for i in range(CURVE_POINTS)]
    return [int(v if curve.is_each else v * 2.0**i) for i, v in enumerate(values)]


def find_command(name: str, where: str) -> Command:
    """The command of that name; ScenarioError with a suggestion if redsim has none."""
    command = COMMANDS.get(" ".join(name.upper().split()))
    if command is None:
        raise ScenarioError(
            f"{where}: command {name!r} is not one redsim models{did_you_mean(name.upper(), COMMANDS)}"
            f" (`redsim list commands` shows all {len(COMMANDS)})"
        )
    return command


def check_type(command: Command, name: str, dataset: Dataset, where: str) -> None:
    """ScenarioError if the command cannot work on that type of key."""
    if command.types and dataset.type not in command.types:
        fits = " or ".join(command.types)
        raise ScenarioError(
            f"{where}: {command.name} on data set {name!r} would answer WRONGTYPE: it holds {dataset.type} keys; "
            f"use a data set of type {fits}, or a command for {dataset.type}"
        )


def argument_bytes(command: Command, use: CommandUse, key_bytes: int, element_bytes: int, pattern: int) -> list[int]:
    """Lengths of the arguments whose length does not vary from call to call."""
    name = [len(word) for word in command.name.split()]
    key = [key_bytes] * (use.keys if command.types else 0)
    extra: dict[int, list[int]] = {
        dp.OP_KEYS: [max(pattern, 1)],
        dp.OP_SCAN: [6, 5, len(str(use.count))],
        dp.OP_EXPIRE: [5],
        dp.OP_SCRIPT: [40, 1],
        dp.OP_SLEEP: [5],
        dp.OP_WAIT: [len(str(use.replicas)), len(str(use.timeout // 1_000_000))],
        dp.OP_WAITAOF: [1, len(str(use.replicas)), len(str(use.timeout // 1_000_000))],
        dp.OP_RANGE: [len(str(use.start)), len(str(use.stop))],
        dp.OP_FIELD: [6],
        dp.OP_POP: [len(str(use.elements))] if use.elements > 1 else [],
    }
    lengths = name + key + extra.get(command.op, [])
    if command.op in (dp.OP_PUSH, dp.OP_PUT):
        pair = [6, element_bytes] if command.name in ("HSET", "ZADD") else [element_bytes]
        lengths += pair * use.elements
    if command.op == dp.OP_SET and use.ttl:
        lengths += [2, 5]
    return lengths


def propagation(command: Command, use: CommandUse) -> tuple[int, int]:
    """(is it propagated: dp.PROPAGATED and its like; bytes that its propagated form has more than the request): a TTL goes as a
    point of time in ms, `EX 60` as `PXAT` and 13 digits, EXPIRE as PEXPIREAT. SADD of a member that is there changes nothing."""
    if command.op not in WRITING_OPS:
        return dp.NEVER_PROPAGATED, 0
    more = bulk_bytes(13) - bulk_bytes(5)
    if command.op == dp.OP_EXPIRE:
        return dp.IF_DIRTY, more + len("PEXPIREAT") - len("EXPIRE")
    is_sure = command.op in PROPAGATED_OPS or command.name in ("HSET", "ZADD")
    with_ttl = command.op == dp.OP_SET and use.ttl is not None
    return dp.PROPAGATED if is_sure else dp.IF_DIRTY, more + len("PXAT") - len("EX") if with_ttl else 0


def match_ppm(pattern: str, datasets: dict[str, Dataset]) -> int:
    """Share of the keys, in millionths, that a KEYS pattern matches, by 2,000 names of each data set."""
    matches = compile_re(translate(pattern.replace("[^", "[!"))).match
    total, hit = 0.0, 0.0
    for name, data in datasets.items():
        if data.keys:
            step = max(1, data.keys // 2000)
            names = [f"{name}:{i}" for i in range(0, data.keys, step)]
            total += data.keys
            hit += data.keys * sum(matches(n) is not None for n in names) / len(names)
    return round(1_000_000 * hit / total) if total else 0


@dataclass(frozen=True)
class KindMaker:
    """Makes kind rows of one node: its profile, tables and the numbering of causes."""

    profile: HostProfile
    tables: Tables
    curves: Curves
    causes: list[str]  # command names, in the order of their rows behind CAUSE0

    def cause(self, name: str) -> int:
        if name not in self.causes:
            self.causes.append(name)
        return dp.CAUSE0 + self.causes.index(name)

    def make(
        self,
        group: str,
        command: Command,
        use: CommandUse,
        dataset: tuple[int, Dataset] | None,
        *,
        name: str = "",
        value: Size | None = None,
        measured_ns: int | None = None,
        match_ppm: int = 1_000_000,
        key: int = dp.NONE,
        variant: int = 1,
        pattern_bytes: int = 1,
        words: tuple[str, ...] = (),
    ) -> Kind:
        """The row of `command` as `group` sends it. `measured_ns`: a real server's time per call instead of the cost law."""
        law = self.profile.commands.get(command.name, {})  # BGSAVE and its like: what they do is in the fork
        row = np.zeros(dp.K_SIZE, dtype=np.int64)
        data = dataset[1] if dataset else None
        key_bytes = mean(data.key_bytes) if data else 0
        element_bytes = mean(data.value_bytes) if data else 0
        lengths = argument_bytes(command, use, key_bytes, element_bytes, pattern_bytes)
        values = use.keys if command.op == dp.OP_MSET else int(command.writes_value)
        argc = len(lengths) + values
        has_key = bool(command.types) and data is not None
        kind_type = data.type if data else ""
        row[dp.K_OP] = command.op
        row[dp.K_CAUSE] = self.cause(name or command.name)
        row[dp.K_CONST] = law.get("const_ns", 0) if measured_ns is None else measured_ns
        row[dp.K_MEASURED] = int(measured_ns is not None)
        row[dp.K_NKEYS] = use.keys
        row[dp.K_NELEM] = variant if command.op in (dp.OP_FLUSHALL, dp.OP_ALL, dp.OP_BGSAVE) else use.elements
        row[dp.K_REQ_BYTES] = 3 + len(str(argc)) + sum(bulk_bytes(n) for n in lengths)
        row[dp.K_ARGC] = argc
        row[dp.K_LO], row[dp.K_HI] = use.start, use.stop
        row[dp.K_COUNT] = use.count
        row[dp.K_DUR] = use.duration or 0
        if command.op in (dp.OP_WAIT, dp.OP_WAITAOF):
            row[dp.K_CONST], row[dp.K_NELEM], row[dp.K_DUR], row[dp.K_LO] = WAIT_NS, use.replicas, use.timeout, use.local
        row[dp.K_TTL], row[dp.K_TTL_JITTER] = use.ttl or 0, use.ttl_jitter
        row[dp.K_DENYOOM] = int(command.denyoom)
        row[dp.K_AOF], row[dp.K_AOF_MORE] = propagation(command, use)
        row[dp.K_FAST] = int(command.is_fast)
        row[dp.K_MATCH_PPM] = match_ppm
        row[dp.K_DATASET] = dataset[0] if dataset else dp.NONE
        row[dp.K_SLOTKEY] = key
        row[dp.K_DRAW] = int(has_key)
        row[dp.K_VDIST] = dp.NONE
        if command.writes_value:
            row[dp.K_VDIST] = self.tables.size(use.value_bytes or value or (data.value_bytes if data else Size(constant=100)))
        row[dp.K_CURVE_KEY] = row[dp.K_CURVE_RET] = row[dp.K_CURVE_DB] = dp.NONE
        if measured_ns is None:
            row[dp.K_IN_PS], row[dp.K_OUT_PS] = law.get("in_ps", 0), law.get("out_ps", 0)
            row[dp.K_EXTRA_NS], row[dp.K_SCAN_PS] = law.get("extra_ns", 0), law.get("scan_ps", 0)
            row[dp.K_CURVE_KEY] = self.curves.number(command.key_curve.format(type=kind_type))
            row[dp.K_CURVE_RET] = self.curves.number(command.returned_curve)
            row[dp.K_CURVE_DB] = self.curves.number(command.database_curve)
            row[dp.K_LOOKUPS] = command.lookups * use.keys if has_key else 0
        return Kind(group, command, name or command.name, row, use.weight, words)


def maker_of(profile: HostProfile) -> KindMaker:
    """A maker that has made nothing yet."""
    return KindMaker(profile, Tables(), Curves(profile), [])
