"""Groups: who sends what, from the scenario's clients, captures and timeline, as the builder takes them.

A timeline entry is a redis-cli of its own: it connects when its time comes and sends one command. A MONITOR capture brings its
own commands, keys and times; what it cannot show (how many elements a key has) is a guess the report lists.
"""

import shlex
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from redsim.dataplane import layout as dp
from redsim.redis.commands import COMMANDS, Command
from redsim.run.kinds import SAME_AS, Kind, KindMaker, check_type, find_command, match_ppm
from redsim.run.rdb_datasets import datasets_of
from redsim.run.refusals import refuse_waits, refuse_writes
from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.load import Scenario
from redsim.scenario.monitor import MonitorCapture
from redsim.scenario.schema import Arrivals, CommandUse, Dataset, Group, Open, Size, TimelineEntry
from redsim.units import MS, S, duration_ns, say_ns

Ints = npt.NDArray[np.int64]
CLI = "redis-cli"
TRACE_ELEMENTS = 20  # guess: elements of an aggregate that only a MONITOR capture tells of
GENERIC = COMMANDS["PING"]


@dataclass
class Plan:
    """One group, ready to become rows. `trace`: (n, 5) time, kind within the group, key, connection, value bytes."""

    name: str
    group: Group
    kinds: list[Kind]
    dataset: str | None
    trace: Ints | None = None
    connections: int = 1
    span_ns: int = 0
    is_cli: bool = False
    fill: Kind | None = None  # the SET that follows a miss

    @property
    def all_kinds(self) -> list[Kind]:
        return self.kinds if self.fill is None else [*self.kinds, self.fill]


@dataclass
class Plans:
    """All groups of a run, the data sets captures implied, and sentences for the report."""

    plans: list[Plan] = field(default_factory=list)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    not_modelled: list[str] = field(default_factory=list)
    guesses: list[tuple[str, int, str]] = field(default_factory=list)


def make_plans(scenario: Scenario, maker: KindMaker) -> Plans:
    """Every group of the scenario; ScenarioError for a command that does not exist or does not fit its keys."""
    plans = Plans(datasets=datasets_of(scenario))
    for name, group in scenario.file.clients.items():
        if name in scenario.traces:
            plans.plans.append(_trace_plan(scenario, plans, name, group, maker))
        elif name in scenario.infos:
            plans.plans.append(_info_plan(scenario, plans, name, group, maker))
        else:
            plans.plans.append(_plan(scenario, plans, name, group, maker))
    plans.plans.extend(_timeline_plans(scenario, plans, maker))
    refuse_writes(scenario, plans.plans)
    refuse_waits(scenario, plans.plans)
    return plans


def _dataset(plans: Plans, name: str | None) -> tuple[int, Dataset] | None:
    return None if name is None else (list(plans.datasets).index(name), plans.datasets[name])


def _plan(scenario: Scenario, plans: Plans, name: str, group: Group, maker: KindMaker) -> Plan:
    dataset = group.keys.dataset if group.keys else None
    kinds, generic = [], []
    for written, use in group.commands.items():
        where = scenario.where("clients", name, "commands", written)
        if use.time_per_call is not None:
            kinds.append(_measured_kind(plans, name, group, maker, " ".join(written.upper().split()), use, use.time_per_call))
            generic += _generic_names(kinds[-1])
            continue
        command = find_command(written, where)
        _check_allowed(scenario, command, where, group.node)
        if dataset is not None:
            check_type(command, dataset, plans.datasets[dataset], where)
        elif command.types:
            raise ScenarioError(f"{where}: {command.name} needs keys; give clients.{name}.keys a dataset")
        if command.op in (dp.OP_SCRIPT, dp.OP_SLEEP) and use.duration is None:
            raise ScenarioError(
                f"{where}: {command.name} needs a stated duration; write {{weight: {use.weight:g}, duration: 5ms}}"
            )
        if command.op == dp.OP_EXPIRE and use.ttl is None:
            raise ScenarioError(f"{where}: EXPIRE needs a ttl; write {{weight: {use.weight:g}, ttl: 60s}}")
        if command.op == dp.OP_UNION and use.keys < 2:
            use = use.model_copy(update={"keys": 2})
        kinds.append(maker.make(name, command, use, _dataset(plans, dataset), value=group.value_bytes, variant=_variant(command)))
    _tell_generic(plans, name, generic, "the scenario's time_per_call")
    fill = _fill(scenario, plans, name, maker) if group.on_miss is not None else None
    return Plan(name, group, kinds, dataset, connections=group.connections, fill=fill)


def _fill(scenario: Scenario, plans: Plans, name: str, maker: KindMaker) -> Kind:
    """The SET of a cache-aside group."""
    group = scenario.file.clients[name]
    where = scenario.where("clients", name, "on_miss")
    if group.keys is None or "GET" not in [command.upper() for command in group.commands]:
        raise ScenarioError(f"{where}: on_miss follows a GET that finds nothing; give clients.{name} keys and a GET")
    if group.station.kind == "redis-benchmark":
        raise ScenarioError(f"{where}: redis-benchmark does not SET what it misses; use another clients.{name}.station")
    assert group.on_miss is not None
    miss = group.on_miss
    use = CommandUse.model_construct(weight=1.0, ttl=miss.ttl, ttl_jitter=miss.ttl_jitter, value_bytes=miss.value_bytes)
    return maker.make(name, COMMANDS["SET"], use, _dataset(plans, group.keys.dataset), value=group.value_bytes)


def _variant(command: Command) -> int:
    return 2 if command.name == "HGETALL" else 1


def _check_allowed(scenario: Scenario, command: Command, where: str, node: str) -> None:
    conf = scenario.confs[node]
    renamed = {old.upper(): new for old, new in dict(conf.get("rename-command") or {}).items()}
    word = command.name.split()[0]
    if word in renamed:
        to = f"renamed to {renamed[word]!r}" if renamed[word] else "removed"
        raise ScenarioError(f"{where}: {word} is {to} by rename-command; the server would answer 'unknown command'")
    if word == "BGREWRITEAOF" and not conf.get("appendonly"):
        raise ScenarioError(f"{where}: BGREWRITEAOF without an AOF is not modelled; add `appendonly yes` to nodes.{node}.conf")
    if word == "DEBUG" and scenario.file.nodes[node].version != "6.2" and conf.get("enable-debug-command") == "no":
        raise ScenarioError(f"{where}: DEBUG is off by default since 7.0; add `enable-debug-command yes` to nodes.{node}.conf")


def _info_plan(scenario: Scenario, plans: Plans, name: str, group: Group, maker: KindMaker) -> Plan:
    """The mix of a real server's INFO: shares by calls, time per call as measured there, effects where the type fits."""
    dataset = group.keys.dataset if group.keys else None
    kinds, generic = [], []
    for written, (share, ns) in scenario.infos[name].mix().items():
        kinds.append(_measured_kind(plans, name, group, maker, written, CommandUse(weight=share), ns))
        generic += _generic_names(kinds[-1])
    _tell_generic(plans, name, generic, scenario.infos[name].where)
    return Plan(name, group, kinds, dataset, connections=group.connections)


def _measured_kind(
    plans: Plans, name: str, group: Group, maker: KindMaker, written: str, use: CommandUse, measured_ns: int
) -> Kind:
    """A command that takes the time a real server measured; where redsim has no such command, that time is all it does."""
    dataset = group.keys.dataset if group.keys else None
    data = plans.datasets[dataset] if dataset else None
    known = COMMANDS.get(SAME_AS.get(written, written))
    fits = known is not None and (not known.types or (data is not None and data.type in known.types))
    if known is None or not fits or known.op in (dp.OP_SCRIPT, dp.OP_SLEEP, dp.OP_KEYS, dp.OP_FLUSHALL, dp.OP_SCAN):
        known = GENERIC
    if known.op == dp.OP_EXPIRE and use.ttl is None:
        use = use.model_copy(update={"ttl": 3600 * S})
    target = _dataset(plans, dataset) if known.types else None
    return maker.make(
        name, known, use, target, name=written, measured_ns=measured_ns, value=group.value_bytes, variant=_variant(known)
    )


def _generic_names(kind: Kind) -> list[str]:
    """The kind's name if it only holds the loop: redsim has no such command, or its data set is of another type."""
    return [kind.name] if kind.command is GENERIC and SAME_AS.get(kind.name, kind.name) != GENERIC.name else []


def _tell_generic(plans: Plans, name: str, generic: list[str], source: str) -> None:
    if generic:
        plans.not_modelled.append(
            f"{name}: {', '.join(generic)} take their measured time per call from {source}, "
            f"but do not touch keys, and their replies count 7 bytes"
        )


# ---- MONITOR captures --------------------------------------------------------------------------------------------


def _trace_plan(scenario: Scenario, plans: Plans, name: str, group: Group, maker: KindMaker) -> Plan:
    capture = scenario.traces[name]
    assert group.arrivals.trace is not None
    ops = [COMMANDS.get(SAME_AS.get(n, n)) for n in capture.names]
    usable = np.array([op is not None for op in ops])[capture.command] & (capture.client >= 0)
    left_out = sorted({n for n, op in zip(capture.names, ops, strict=True) if op is None})
    lua = int((capture.client < 0).sum())
    if left_out or lua:
        what = f"{', '.join(left_out)} are not modelled" if left_out else ""
        inner = f"{lua} calls from inside scripts are part of their EVAL" if lua else ""
        plans.not_modelled.append(f"{name}: of {capture.where}, {'; '.join(x for x in (what, inner) if x)}; left out")
    if not usable.any():
        raise ScenarioError(f"{capture.where}:1: no command in the capture is one redsim models; see `redsim list commands`")
    targets = _trace_datasets(plans, name, group.node, capture, ops, usable)
    kinds, kind_of = _trace_kinds(plans, name, capture, ops, usable, targets, maker)
    index = np.flatnonzero(usable)
    time_ns = ((capture.time_ns[index] - capture.time_ns[index[0]]) / group.arrivals.trace.speed).astype(np.int64)
    _, connection = np.unique(capture.client[index], return_inverse=True)
    trace = np.stack([time_ns, kind_of[index], _trace_keys(index, capture, ops, targets), connection,
                      np.maximum(capture.value_bytes[index], 0)], axis=1).astype(np.int64)  # fmt: skip
    span = int(time_ns[-1]) + 1_000_000
    return Plan(name, group, kinds, None, trace, int(connection.max()) + 1, span)


def _key_type(command: Command | None) -> str | None:
    if command is None or not command.types:
        return None
    return command.types[0]


def _trace_datasets(
    plans: Plans, name: str, node: str, capture: MonitorCapture, ops: list[Command | None], usable: npt.NDArray[np.bool_]
) -> dict[str, tuple[str, Ints]]:
    """For each key type of the capture an implied data set, and the capture's keys in it (sorted)."""
    out: dict[str, tuple[str, Ints]] = {}
    types = np.array([_key_type(op) or "" for op in ops])[capture.command]
    for kind in sorted(set(types[usable]) - {""}):
        mine = usable & (types == kind) & (capture.key >= 0)
        keys = np.unique(capture.key[mine]).astype(np.int64)
        if keys.size == 0:
            continue
        values = capture.value_bytes[mine]
        known = values[values >= 0]
        value = int(np.median(known)) if known.size else 100
        label = f"{name}:{kind}"
        key_bytes = int(np.mean([len(capture.keys[k]) for k in keys[:1000]]))
        plans.datasets[label] = Dataset(
            node=node, keys=int(keys.size), type=kind, key_bytes=Size(constant=key_bytes),
            value_bytes=Size(constant=max(value, 1)), elements=Size(constant=1 if kind == "string" else TRACE_ELEMENTS),
        )  # fmt: skip
        if kind != "string":
            says = "a MONITOR capture does not show how many elements a key has"
            plans.guesses.append((f"{label} elements", TRACE_ELEMENTS, says))
        out[kind] = (label, keys)
    return out


def _trace_kinds(
    plans: Plans, name: str, capture: MonitorCapture, ops: list[Command | None], usable: npt.NDArray[np.bool_],
    targets: dict[str, tuple[str, Ints]], maker: KindMaker,
) -> tuple[list[Kind], Ints]:  # fmt: skip
    """One kind for each (command, number of keys or elements) of the capture, and the kind of each command."""
    kinds: list[Kind] = []
    kind_of = np.zeros(len(capture), dtype=np.int64)
    pairs = np.stack([capture.command[usable].astype(np.int64), capture.elements[usable].astype(np.int64)], axis=1)
    for code, count in np.unique(pairs, axis=0):
        command = ops[int(code)]
        assert command is not None
        n = max(int(count), 1)
        kind_type = _key_type(command)
        target = _dataset(plans, targets[kind_type][0]) if kind_type in targets else None
        many = command.op in (dp.OP_DEL, dp.OP_UNLINK, dp.OP_EXISTS, dp.OP_MGET, dp.OP_MSET, dp.OP_UNION)
        use = CommandUse(weight=1, keys=n if many else 1, elements=1 if many else n, stop=TRACE_ELEMENTS - 1, duration=0)
        if command.op == dp.OP_EXPIRE:
            use = use.model_copy(update={"ttl": 3600 * S})
        kind_of[(capture.command == code) & (capture.elements == count)] = len(kinds)
        kinds.append(maker.make(name, command, use, target, name=capture.names[int(code)], variant=_variant(command)))
    return kinds, kind_of


def _trace_keys(index: Ints, capture: MonitorCapture, ops: list[Command | None], targets: dict[str, tuple[str, Ints]]) -> Ints:
    """Key number within its data set for each command, NONE if it has none."""
    out = np.full(index.size, dp.NONE, dtype=np.int64)
    types = np.array([_key_type(op) or "" for op in ops])[capture.command[index]]
    for kind, (_, keys) in targets.items():
        mine = types == kind
        found = np.searchsorted(keys, capture.key[index][mine])
        out[mine] = np.minimum(found, keys.size - 1)
    return out


# ---- timeline ----------------------------------------------------------------------------------------------------


def _timeline_plans(scenario: Scenario, plans: Plans, maker: KindMaker) -> list[Plan]:
    """The timeline's commands, grouped by the data set they touch, each command with a connection of its own."""
    parsed = [_parse_entry(scenario, plans, i, e) for i, e in scenario.file.commands_at]
    out: list[Plan] = []
    for dataset in dict.fromkeys(d for _, _, d, _ in parsed):
        mine = [(e, k) for (_, e), (_, _, d, k) in zip(scenario.file.commands_at, parsed, strict=True) if d == dataset]
        name = CLI if len({d for _, _, d, _ in parsed}) == 1 else f"{CLI} {dataset or 'server'}"
        kinds: list[Kind] = []
        rows: list[tuple[int, int, int, int, int]] = []
        for entry, make in mine:
            kinds.append(make(maker, name))
            value_bytes = 100 if kinds[-1].row[dp.K_VDIST] >= 0 else 0
            for i in range(entry.times):
                at = entry.at + i * (entry.every or 0)
                if at < scenario.file.duration:
                    rows.append((at, len(kinds) - 1, int(kinds[-1].row[dp.K_SLOTKEY]), len(rows), value_bytes))
        rows.sort()
        group = Group(node=mine[0][0].node, connections=len(rows), arrivals=Arrivals(open=Open(rate_per_s=1)))
        out.append(Plan(name, group, kinds, dataset, np.array(rows, dtype=np.int64), len(rows), is_cli=True))
    return out


def _parse_entry(scenario: Scenario, plans: Plans, i: int, entry: TimelineEntry):  # type: ignore[no-untyped-def]
    """(command, use, data set, maker of the kind) of one timeline entry."""
    where = scenario.where("timeline", i, "run")
    try:
        words = shlex.split(entry.run)
    except ValueError as error:
        raise ScenarioError(f"{where}: run {entry.run!r} has unbalanced quotes") from error
    if not words:
        raise ScenarioError(f'{where}: run is empty; write a command, e.g. run: "KEYS *"')
    two = " ".join(words[:2]).upper()
    name, args = (two, words[2:]) if two in COMMANDS else (words[0], words[1:])
    command = find_command(name, where)
    _check_allowed(scenario, command, where, entry.node)
    use = _entry_use(command, args, entry, where)
    dataset, key = _entry_key(command, args, plans, where)
    if dataset is not None:
        check_type(command, dataset, plans.datasets[dataset], where)
    pattern = args[0] if command.op == dp.OP_KEYS and args else "*"
    how = _how(command, args, where)
    variant = {"ASYNC": 2, "SYNC": 3, "SCHEDULE": 2}.get(how, _variant(command))
    label = f"{command.name} {how}".strip()
    first = dataset if dataset is not None else next(iter(plans.datasets), None)

    def make(maker: KindMaker, group: str) -> Kind:
        ppm = match_ppm(pattern, plans.datasets) if command.op == dp.OP_KEYS else 1_000_000
        target = _dataset(plans, first) if command.types or command.op in (dp.OP_KEYS, dp.OP_SCAN) else None
        return maker.make(group, command, use, target, name=label, match_ppm=ppm, key=key, variant=variant,
                          pattern_bytes=len(pattern), words=tuple(words))  # fmt: skip

    return command, use, dataset, make


def _how(command: Command, args: list[str], where: str) -> str:
    """What FLUSHALL or BGSAVE is told besides: ASYNC, SYNC, SCHEDULE."""
    known = {dp.OP_FLUSHALL: ("ASYNC", "SYNC"), dp.OP_BGSAVE: ("SCHEDULE",)}.get(command.op, ())
    how = args[0].upper() if known and args else ""
    if how and how not in known:
        raise ScenarioError(f"{where}: {command.name} knows no {args[0]!r}; use {command.name}, or {command.name} {known[0]}")
    return how


def _entry_use(command: Command, args: list[str], entry: TimelineEntry, where: str) -> CommandUse:
    use = CommandUse(weight=1).model_copy(update={"duration": entry.duration})
    upper = [a.upper() for a in args]
    try:
        if command.op == dp.OP_SCAN and "COUNT" in upper:
            return use.model_copy(update={"count": max(1, int(args[upper.index("COUNT") + 1]))})
        if command.op == dp.OP_RANGE:
            return use.model_copy(update={"start": int(args[1]), "stop": int(args[2])})
        if command.op == dp.OP_EXPIRE:
            return use.model_copy(update={"ttl": int(args[1]) * S})
        if command.op == dp.OP_SLEEP:
            return use.model_copy(update={"duration": duration_ns(f"{args[0]}s")})
        if command.op == dp.OP_WAIT:
            return use.model_copy(update={"replicas": int(args[0]), "timeout": int(args[1]) * MS})
        if command.op == dp.OP_WAITAOF:
            return use.model_copy(update={"local": int(args[0]), "replicas": int(args[1]), "timeout": int(args[2]) * MS})
    except (IndexError, ValueError) as error:
        raise ScenarioError(f"{where}: run {entry.run!r} is not a complete {command.name}; {_example(command)}") from error
    if command.op == dp.OP_SCRIPT and entry.duration is None:
        raise ScenarioError(f"{where}: EVAL needs to be told how long the script runs; add duration: 50ms beside run")
    if command.op == dp.OP_UNION:
        return use.model_copy(update={"keys": max(2, len(args))})
    return use


def _example(command: Command) -> str:
    examples = {dp.OP_SCAN: "SCAN 0 COUNT 1000", dp.OP_RANGE: f"{command.name} users:7 0 -1",
                dp.OP_EXPIRE: "EXPIRE users:7 60", dp.OP_SLEEP: "DEBUG SLEEP 0.5", dp.OP_WAIT: "WAIT 1 100",
                dp.OP_WAITAOF: "WAITAOF 1 1 100"}  # fmt: skip
    return f"write it like {examples[command.op]}"


def _entry_key(command: Command, args: list[str], plans: Plans, where: str) -> tuple[str | None, int]:
    """(data set, key number) of `users:17`; the data set's name, a colon, the number."""
    if not command.types:
        return None, dp.NONE
    if not args:
        raise ScenarioError(f"{where}: {command.name} needs a key, written <data set>:<number>, e.g. users:17")
    dataset, _, number = args[0].rpartition(":")
    if dataset not in plans.datasets:
        raise ScenarioError(
            f"{where}: key {args[0]!r} names no data set{did_you_mean(dataset, plans.datasets)};"
            f" keys are written <data set>:<number>, e.g. {next(iter(plans.datasets), 'users')}:17"
        )
    if not number.isdigit() or int(number) >= plans.datasets[dataset].keys:
        raise ScenarioError(f"{where}: key {args[0]!r}: the number goes from 0 to {plans.datasets[dataset].keys - 1}")
    return dataset, int(number)


def say_plan(plan: Plan) -> str:
    """One line for the event log: who sends what."""
    names = ", ".join(kind.name for kind in plan.kinds)
    return f"{plan.name}: {plan.connections} connections, {names}, from {say_ns(plan.group.start)}"
