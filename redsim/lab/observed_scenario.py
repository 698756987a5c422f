"""An Observation as a scenario file that runs as it stands, every number with a comment that says where it came from.

One data set and one group of clients for each key type that commands touch, in proportion to the calls; what has no key, or is
no command redsim has, is a group of its own that only holds the loop as long as the server measured. Weights are calls as
counted, so shares are exact. Differs: a command that takes any type (DEL, EXPIRE, …) goes to the type with most calls;
connections are divided among the groups in proportion; TTLs lie evenly between the shortest and the longest twentieth of those
seen; replicas have their master's redis.conf. Not modelled: look-ups that miss, clients' own round trips.
"""

import json
from dataclasses import dataclass, field

from redsim.dataplane import layout as dp
from redsim.lab import observed_replication as replication
from redsim.lab import observed_sentinel as sentinel
from redsim.lab.observed import Command, Observation, Shape, Window
from redsim.lab.sampled import ELEMENTS_GUESS
from redsim.lab.traffic import known, one_type
from redsim.redis.commands import ALL
from redsim.redis.commands import Command as Model
from redsim.scenario.check import CONNECTIONS_MAX, DATASET_KEYS_MAX, PIPELINE_MAX
from redsim.scenario.monitor import bulk_bytes, request_bytes
from redsim.units import DAY, MS, say_bytes

OTHER = "other"
PIPELINE_SEEN_MIN = 1.5  # guess: commands a read below it are chance meetings in the socket, not pipelines
SIZES_DIFFER = 0.25  # guess: network bytes a write must tell of a mean this far from the data set's to be taken instead
WRITES_MIN, STRINGS_MIN = 0.02, 0.8  # guesses: shares of the calls from which network bytes tell the size of a write
VALUE_BYTES_GUESS = 100
TTL_GUESS_MS = 3_600_000
RENEWED_MIN = 0.5  # guess: share of keys with a TTL from which SET is taken to give one
TTL_MAX_MS = 3650 * DAY // MS  # a scenario's longest time
COMMANDS_MIN = 2_000  # guess: what a run should serve at least
SECONDS_MIN, SECONDS_MAX = 20, 600
KEYS_PER_CALL = (dp.OP_MGET, dp.OP_MSET, dp.OP_DEL, dp.OP_UNLINK, dp.OP_EXISTS, dp.OP_UNION)
PLURAL = {"string": "strings", "list": "lists", "hash": "hashes", "set": "sets", "zset": "zsets"}
HOLDS_ONLY = (dp.OP_SCRIPT, dp.OP_SLEEP, dp.OP_KEYS, dp.OP_FLUSHALL, dp.OP_SCAN, dp.OP_PING, dp.OP_DBSIZE)


@dataclass
class Part:
    """One group of the scenario: its data set's key type ("" for OTHER) and the commands it sends, calls as counted."""

    name: str
    type: str
    commands: list[Command] = field(default_factory=list)
    connections: int = 1

    @property
    def calls(self) -> int:
        return sum(command.calls for command in self.commands)


@dataclass(frozen=True)
class Fitted:
    """What a short run of the model adds to the reading of INFO: COMMAND -> ns per call to write; elements a range returns."""

    time_ns: dict[str, int] = field(default_factory=dict)
    returned: int | None = None


def parts_of(seen: Observation) -> list[Part]:
    """The groups, the one with most calls first; commands that scripts called are counted as their scripts' time only."""
    assert seen.window is not None
    parts: dict[str, Part] = {}
    commands = _without_scripted(seen, seen.window)
    typed = [c for c in commands if one_type(c.name)]
    for command in typed:
        parts.setdefault(one_type(command.name), Part(one_type(command.name), one_type(command.name))).commands.append(command)
    main = next((shape.type for shape in seen.shapes if shape.type in ALL), "")
    if parts:
        main = max(parts.values(), key=lambda part: part.calls).name
    for command in commands:
        if command in typed:
            continue
        model = known(command.name)
        if model is not None and model.types and main and model.op not in HOLDS_ONLY:
            parts.setdefault(main, Part(main, main)).commands.append(command)
        elif command.usec > 0 or (model is not None and model.op not in (dp.OP_SCRIPT, dp.OP_SLEEP)):
            parts.setdefault(OTHER, Part(OTHER, "")).commands.append(command)
    out = sorted(parts.values(), key=lambda part: -part.calls)
    _share_connections(out, seen)
    return out


def _without_scripted(seen: Observation, window: Window) -> list[Command]:
    """The window's commands as clients sent them; where no costs are known, under the names redsim has costs for."""
    inside = seen.traffic.inside_scripts if seen.traffic is not None else {}
    merged: dict[str, Command] = {}
    for command in window.commands:
        share = inside.get(command.name, 0.0) if window.is_counted else 0.0  # a capture counts clients' calls only
        calls, usec = round(command.calls * (1 - share)), round(command.usec * (1 - share))
        model = known(command.name)
        name = model.name if model is not None and usec == 0 else command.name
        if calls > 0:
            earlier = merged.get(name, Command(name, 0, 0))
            merged[name] = Command(name, earlier.calls + calls, earlier.usec + usec)
    return list(merged.values())


def _share_connections(parts: list[Part], seen: Observation) -> None:
    """Active connections in proportion to the calls, one each at least."""
    total = sum(part.calls for part in parts)
    there = 1
    if seen.clients is not None:
        there = seen.clients.active if seen.clients.active is not None else seen.clients.connected
    elif seen.traffic is not None:
        there = seen.traffic.connections
    for part in parts:
        part.connections = min(max(1, round(there * part.calls / max(total, 1))), CONNECTIONS_MAX)


# ---- the text ------------------------------------------------------------------------------------------------------


def scenario_text(seen: Observation, profile_name: str, fitted: Fitted) -> str:
    """The scenario as YAML; `fitted` makes the model, with what it adds by itself, show INFO's."""
    assert seen.window is not None
    parts = parts_of(seen)
    window = seen.window
    shapes = _shapes(seen, parts)
    rate = sum(part.calls for part in parts) / window.seconds
    seconds = round(min(max(COMMANDS_MIN / rate if rate > 0 else 0, SECONDS_MIN), SECONDS_MAX))
    busy = "" if window.cpu_share is None else f", {window.cpu_of} {window.cpu_share:.1%} busy"
    question = f"{replication.who(seen.replication)} as it was observed ({rate:,.0f} commands/s{busy}): what do its clients wait?"
    replicas = _replicas(seen)
    lines = _header(seen, parts)
    lines += [
        f"question: {json.dumps(question)}",
        f"duration: {seconds}s",
        f"warmup: {max(seconds // 10, 1)}s",
        "seed: 1",
        "hosts:",
        f"  box: {{profile: {json.dumps(profile_name)}}}  # costs around the commands; `redsim calibrate` measures your host's",
        *sentinel.host_lines(_sentinel(seen), replicas, json.dumps(profile_name)),
        *replication.host_lines(replicas, json.dumps(profile_name)),
        "nodes:",
        "  main:",
        "    host: box",
        f'    version: "{seen.version}"  # {_line(seen.version_said)}',
    ]
    source = "what differs from the version's defaults" if seen.conf_seen else "as far as INFO tells"
    if seen.allocator:
        lines.append(f"    allocator: {seen.allocator}  # by INFO mem_allocator")
    name = "&conf " if replicas else ""
    conf = [f"    conf: {name}|  # {source}", *(f"      {line}" for line in seen.conf)]
    lines += conf if seen.conf else [f'    conf: {name}""  # {source}: nothing']
    lines += replication.node_lines(seen.replication, replicas, seen.version, seen.allocator)
    lines += sentinel.scenario_lines(_sentinel(seen), replicas)
    lines.append("datasets:")
    for shape in shapes:
        lines += dataset_lines(shape)
    lines.append("clients:" if parts else "clients: {}  # no data command was called in the window")
    for part in parts:
        lines += _group(part, seen, {shape.type: shape for shape in shapes}, fitted, rate)
    return "\n".join(lines) + "\n"


def _replicas(seen: Observation) -> int:
    """How many the scenario has."""
    return replication.simulated_count(seen.replication, max(seen.keys or 0, sum(shape.keys for shape in seen.shapes)))


def _sentinel(seen: Observation) -> sentinel.SeenSentinel | None:
    """The Sentinels that the scenario has: of a replica alone they would have no master."""
    return None if seen.replication is not None and seen.replication.is_replica else seen.sentinel


def _line(text: str) -> str:
    """Text fit for a comment: on one line, printable."""
    return "".join(c if c.isprintable() else " " for c in text)


def _header(seen: Observation, parts: list[Part]) -> list[str]:
    assert seen.window is not None
    window = seen.window
    said = ["# Written by `redsim observe`; it runs as it stands: redsim run <this file>."]
    said.append(f"# From: {'; '.join(seen.sources)}{f', at {seen.when}' if seen.when else ''}. Window: {window.said}.")
    calls = max(sum(c.calls for c in window.commands + window.admin), 1)
    usec = max(sum(c.usec for c in window.commands + window.admin), 1)

    def shares(commands: list[Command]) -> str:
        each = [f"{c.name} ({c.calls / calls:.2%} of calls, {c.usec / usec:.2%} of command time)" for c in commands]
        return ", ".join(each[:12]) + (f" and {len(each) - 12} more" if len(each) > 12 else "")

    kept = {command.name for part in parts for command in part.commands}
    holds = [c for part in parts for c in part.commands if known(c.name) is None]
    gone = [c for c in window.commands if c.name not in kept]
    if holds:
        fed = ", nor do replicas get them" if _replicas(seen) else ""
        said.append(f"# Not modelled, so they only hold the loop as long as measured, and touch no keys{fed}: {shares(holds)}.")
    if gone:
        said.append(f"# Not modelled and of unknown cost, left out: {shares(gone)}.")
    if window.admin:
        said.append(f"# Administration and handshakes, left out: {shares(list(window.admin))}.")
    for title, rows in (("Left out", seen.left_out), ("Could not see", [*seen.could_not_see, *unseen(seen, parts)])):
        said += [f"# {title}:"] * bool(rows) + [f"#   - {row}" for row in rows]
    return [_line(line) for line in said]


def unseen(seen: Observation, parts: list[Part]) -> list[str]:
    """What follows from what was looked at: sentences about the estimates that stand in for what a server does not tell."""
    assert seen.window is not None
    window, out = seen.window, []
    if seen.traffic is None:
        if not any(shape.lfu for shape in seen.shapes):
            out.append("which keys are popular: no MONITOR, so every key is taken to be as likely as any other (uniform)")
        scripts = [c.name for c in window.commands if (m := known(c.name)) is not None and m.op == dp.OP_SCRIPT]
        if scripts:
            out.append(
                f"what scripts call: {', '.join(scripts)} hold that time, and the calls inside are counted once more by name"
            )
    hits, misses = window.counters.get("hits"), window.counters.get("misses")
    if hits is not None and misses is not None and misses > 0.05 * (hits + misses):
        out.append(f"misses: {misses / (hits + misses):.1%} of the look-ups found no key; all keys of the scenario exist")
    if window.cpu_share is not None and window.cpu_share > 0.9:
        out.append("the limit: the server was over 90 % busy; open-loop clients here do not slow down as yours may have")
    if any(shape.with_ttl for shape in seen.shapes):
        with_ttl = sum(shape.with_ttl for shape in seen.shapes) / max(sum(shape.sampled for shape in seen.shapes), 1)
        out.append(f"expiry: {with_ttl:.0%} of the keys looked at have a TTL; which commands give and renew it is not seen")
    out.append(
        "clients: their machines, their round trips and what they waited; a loopback round trip and ample clients stand in"
    )
    if any(part.name == OTHER for part in parts):
        out.append("reply sizes of the group `other`: 7 bytes stand in")
    connected = len(seen.replication.replicas) if seen.replication is not None else 0
    out += sentinel.unseen(_sentinel(seen), connected)
    return out + replication.unseen(seen.replication, _replicas(seen))


def _shapes(seen: Observation, parts: list[Part]) -> list[Shape]:
    """The data sets: those seen, those that only commands tell of, and one to stand in where there is none."""
    out = [shape for shape in seen.shapes if shape.type in ALL]
    there = {shape.type for shape in out}
    counted = sum(shape.keys for shape in seen.shapes)
    for part in parts:
        if part.type and part.type not in there:
            fitted = seen.traffic.popularity.get(part.type) if seen.traffic is not None else None
            left = max((seen.keys or 0) - counted, 0)
            keys = fitted.keys if fitted is not None else left or 1
            said = "keys by MONITOR" if fitted is not None else "no such key was seen; number by INFO keyspace, if it had any"
            out.append(Shape(part.type, keys, said=f"{said}; sizes are guesses"))
            counted += keys
    if not out:
        out.append(Shape("string", max(seen.keys or 1, 1), said="nothing was sampled; sizes are guesses"))
    for shape in out:
        fitted = seen.traffic.popularity.get(shape.type) if seen.traffic is not None else None
        if fitted is not None and fitted.keys > shape.keys:
            shape.said += f"; {fitted.keys} were asked for during MONITOR"
            shape.keys = fitted.keys
        shape.keys = max(shape.keys, 1)
    total = sum(shape.keys for shape in out)
    if total > DATASET_KEYS_MAX:
        for shape in out:
            shape.keys = max(1, shape.keys * (DATASET_KEYS_MAX - len(out)) // total)
            shape.said += f"; of {total:,} keys in all, {DATASET_KEYS_MAX:,} are simulated"
    return out


def _size(table: list[tuple[int, int]]) -> str:
    if len(table) == 1:
        return str(table[0][0])
    return "{table: [" + ", ".join(f"[{value}, {weight}]" for value, weight in table) + "]}"


def dataset_lines(shape: Shape) -> list[str]:
    """The data set of a shape, as YAML under `datasets:`."""
    said = _line(shape.said)
    if shape.biggest is not None:
        said += f"; biggest seen {say_bytes(shape.biggest) if shape.type == 'string' else f'{shape.biggest:,} elements'}"
    if shape.ttl_ms is not None:
        said += f"; {shape.with_ttl} of {shape.sampled} have a TTL, median {shape.ttl_ms / 1000:,.0f} s"
    if shape.encodings:
        said += "; " + ", ".join(f"{name} {count / shape.sampled:.0%}" for name, count in shape.encodings.items())
    lines = [f"  {PLURAL[shape.type]}:  # {said}", "    node: main", f"    keys: {shape.keys}", f"    type: {shape.type}"]
    if shape.key_bytes:
        lines.append(f"    key_bytes: {_size(shape.key_bytes)}")
    if shape.elements:
        lines.append(f"    elements: {_size(shape.elements)}  # [elements, keys seen with about as many]")
    elif shape.type != "string":
        lines.append(f"    elements: {ELEMENTS_GUESS}  # a guess: nobody told")
    if shape.value_bytes:
        how = "STRLEN or --bigkeys" if shape.type == "string" else "of an element, estimated from MEMORY USAGE"
        lines.append(f"    value_bytes: {_size(shape.value_bytes)}  # {how}")
    else:
        lines.append(f"    value_bytes: {VALUE_BYTES_GUESS}  # a guess: nobody told")
    if shape.ttls_ms is not None:
        low, high = (min(ms, TTL_MAX_MS) for ms in shape.ttls_ms)
        share = min(shape.with_ttl / shape.sampled, 1)
        lines.append(f"    ttl: {{uniform: [{low}ms, {high}ms], share: {share:.4g}}}  # nine in ten of those left, by PTTL")
    return lines


def _group(part: Part, seen: Observation, shapes: dict[str, Shape], fitted: Fitted, rate: float) -> list[str]:
    window = seen.window
    assert window is not None
    dataset = shapes[part.type] if part.type else next(iter(shapes.values()))
    clients = "nobody told; a guess"
    if seen.clients is not None or seen.traffic is not None:
        clients = seen.clients.said if seen.clients is not None else "MONITOR"
    per_s = part.calls / window.seconds
    watched = _sentinel(seen)
    at = "node: main" if watched is None else f"service: {json.dumps(watched.name)}  # whether its clients follow was not seen"
    lines = [
        f"  {PLURAL.get(part.type, part.name)}:",
        f"    {at}",
        f"    connections: {part.connections}  # {_line(clients)}; divided among the groups by calls",
        f"    arrivals: {{open: {{rate_per_s: {per_s:.6g}}}}}  # {per_s / max(rate, 1e-9):.1%} of {rate:,.6g}/s, {window.said}",
    ]
    together = window.commands_per_read
    if together is not None and together >= PIPELINE_SEEN_MIN:
        lines.append(f"    pipeline: {min(round(together), PIPELINE_MAX)}  # commands a read of a socket: {together:.2f}")
    lines.append(f"    keys: {{dataset: {PLURAL[dataset.type]}{_popularity(part, seen)}")
    written = _written(part, window, dataset) if seen.traffic is None else None
    if written is not None:
        lines.append(f"    value_bytes: {written}  # by network bytes a write; the data set's sizes do not explain them")
    lines.append("    commands:  # weights are calls in the window")
    for command in part.commands:
        lines.append(_command(command, part, seen, dataset, fitted))
    return lines


def _popularity(part: Part, seen: Observation) -> str:
    fitted = seen.traffic.popularity.get(part.type) if seen.traffic is not None else None
    if fitted is None:
        fitted = next((shape.lfu for shape in seen.shapes if shape.type == part.type), None)
    if fitted is None or fitted.kind == "uniform":
        return "}  # popularity: " + (fitted.said if fitted is not None else "not seen, uniform is assumed")
    if fitted.kind == "zipf":
        return f", popularity: {{zipf: {fitted.exponent:.3f}}}}}  # {fitted.said}"
    hot = min(max(float(f"{fitted.hot_keys:.4g}"), 1e-9), 0.999999)
    return f", popularity: {{hotset: {{keys: {hot}, traffic: {fitted.hot_traffic:.4f}}}}}}}  # {fitted.said}"


def _command(command: Command, part: Part, seen: Observation, dataset: Shape, fitted: Fitted) -> str:
    model = known(command.name)
    name = command.name if command.usec > 0 or model is None else model.name
    options = [f"weight: {command.calls}"]
    said = []
    if command.usec > 0:
        measured = round(1000 * command.usec / command.calls)
        ns = max(fitted.time_ns.get(command.name, measured), 1)
        options.append(f"time_per_call: {ns}ns")
        less = f", less {(measured - ns) / 1000:.2f} the model adds by itself after a sleep" if ns < measured else ""
        said.append(f"{measured / 1000:.2f} µs a call by commandstats{less}")
    if model is not None and part.type:
        _arguments(command, model, seen, dataset, fitted, options, said)
    shown = name if name.isalnum() and not name.isdigit() else json.dumps(name)
    return f"      {shown}: {{{', '.join(options)}}}  # {_line('; '.join(said) or 'cost by the profile')}"


def _arguments(
    command: Command, model: Model, seen: Observation, dataset: Shape, fitted: Fitted, options: list[str], said: list[str]
) -> None:
    """Adds what one call names, as far as anybody told, to `options`, and who told it to `said`."""
    uses = seen.traffic.uses.get(command.name) if seen.traffic is not None else None
    written = seen.traffic.written.get(command.name) if seen.traffic is not None else None
    many = "keys" if model.op in KEYS_PER_CALL else "elements"
    if uses is not None and uses > 1:
        options.append(f"{many}: {uses}")
        said.append(f"{many} a call by MONITOR")
    if model.op == dp.OP_RANGE and fitted.returned is not None:
        options.append(f"stop: {fitted.returned - 1}")
        said.append("range as long as explains the network bytes out")
    if model.op == dp.OP_EXPIRE:
        options.append(f"ttl: {max(dataset.ttl_ms or TTL_GUESS_MS, 1)}ms")
        said.append("TTL: median of the keys seen" if dataset.ttl_ms else "TTL: a guess")
    if command.name == "SET" and dataset.ttl_ms and dataset.with_ttl >= RENEWED_MIN * dataset.sampled:
        options.append(f"ttl: {min(2 * dataset.ttl_ms, TTL_MAX_MS)}ms")
        said.append("TTL: a guess, twice the median that keys have left")
    if written is not None and model.writes_value:
        options.append(f"value_bytes: {_size(written)}")
        said.append("sizes by MONITOR")


def _written(part: Part, window: Window, dataset: Shape) -> int | None:
    """Mean bytes a string is written with, by what the network brought; None if the data set's explain it, or nothing does."""
    net = window.counters.get("net_in_bytes")
    writes = sum(c.calls for c in part.commands if (m := known(c.name)) is not None and m.writes_value)
    if part.type != "string" or net is None or not dataset.value_bytes:
        return None
    if writes < WRITES_MIN * window.calls or part.calls < STRINGS_MIN * window.calls:
        return None
    mean_key = round(_mean(dataset.key_bytes)) if dataset.key_bytes else 16
    around = sum(c.calls * request_bytes([len(c.name), mean_key]) for c in window.commands)
    value = (net - around) / writes - (bulk_bytes(100) - 100)
    mean = _mean(dataset.value_bytes)
    return round(value) if value >= 1 and abs(value - mean) > SIZES_DIFFER * mean + 8 else None


def _mean(table: list[tuple[int, int]]) -> float:
    return sum(value * weight for value, weight in table) / max(sum(weight for _, weight in table), 1)
