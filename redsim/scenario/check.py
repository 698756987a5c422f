"""What the shape of a scenario cannot say: names that must exist, times that must fit, things given twice.

A list of small functions; each yields (path of the key, sentence) for what is wrong, in the words of the
file. The first in the file is raised, the others counted. Command names and key types are checked where
commands are modelled.
Not modelled: more than one master.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from redsim.scenario.disk import disks_are_known
from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.faults import faults_fit
from redsim.scenario.network import network_fits, replicas_fit, root_of
from redsim.scenario.roles import roles_fit
from redsim.scenario.schema import Group, ScenarioFile, Size
from redsim.scenario.sentinels import asked_fit, hosts_exist
from redsim.scenario.source import Keys, dotted, show
from redsim.units import DAY, MIB, S, say_bytes, say_ns

Fault = tuple[Keys, str]
Where = Callable[..., str]

DATASET_KEYS_MAX = 100_000_000  # 20 bytes a key on the machine that simulates
CONNECTIONS_MAX = 1_000_000
PIPELINE_MAX = 100_000
BURST_MAX = 10_000_000
TIMES_MAX = 10_000  # each is a redis-cli of its own
PER_CALL_MAX = 1_000_000  # keys or elements one call names
RATE_PER_S_MAX = 100_000_000
DURATION_NS_MAX = 31 * DAY
VALUE_BYTES_MAX = 512 * MIB  # proto-max-bulk-len
THREADS_MAX = 1024
RETRIES_MAX = 1000

# Commands a group may send without saying which keys: they have none, or read the whole key space.
_KEYLESS = """
PING ECHO TIME DBSIZE KEYS SCAN RANDOMKEY FLUSHALL FLUSHDB INFO EVAL EVALSHA DEBUG CLIENT COMMAND CONFIG
LASTSAVE WAIT WAITAOF SELECT PUBLISH
"""
KEYLESS = frozenset([*_KEYLESS.split(), "DEBUG SLEEP"])


def check(file: ScenarioFile, where: Where) -> None:
    """Raise ScenarioError `file:line: key …` for the first fault in the file, counting the others."""
    faults = list(chain.from_iterable(one(file) for one in CHECKS))
    if not faults:
        return
    faults.sort(key=lambda fault: _line(where(*fault[0])))
    path, sentence = faults[0]
    others = len(faults) - 1
    also = f" (and {others} more fault{'s' if others > 1 else ''})" if others else ""
    raise ScenarioError(f"{where(*path)}: {sentence}{also}")


def _line(where: str) -> int:
    tail = where.rpartition(":")[2]
    return int(tail) if tail.isdigit() else 0


def _unknown(path: Keys, name: str, what: str, known: Iterable[str]) -> Fault:
    known = list(known)
    there = f"; there is {', '.join(known[:8])}" if known else f"; there are no {what}s"
    return path, f"{dotted(path)}: no {what} is named {show(name)}{did_you_mean(name[:60], known) or there}"


# ---- servers ---------------------------------------------------------------------------------------------


def node_host_exists(file: ScenarioFile) -> Iterator[Fault]:
    for name, node in file.nodes.items():
        if node.host not in file.hosts:
            yield _unknown(("nodes", name, "host"), node.host, "host", file.hosts)


def one_conf(file: ScenarioFile) -> Iterator[Fault]:
    for name, node in file.nodes.items():
        if node.conf_file is not None and node.conf:
            yield ("nodes", name, "conf_file"), f"nodes.{name} has both conf and conf_file; keep one"


# ---- names -----------------------------------------------------------------------------------------------


def dataset_node_exists(file: ScenarioFile) -> Iterator[Fault]:
    for name, dataset in file.datasets.items():
        if dataset.node not in file.nodes:
            yield _unknown(("datasets", name, "node"), dataset.node, "node", file.nodes)


def group_node_exists(file: ScenarioFile) -> Iterator[Fault]:
    for name, group in file.clients.items():
        if group.node not in file.nodes:
            yield _unknown(("clients", name, "node"), group.node, "node", file.nodes)


def group_dataset_exists(file: ScenarioFile) -> Iterator[Fault]:
    for name, group in file.clients.items():
        if group.keys is None:
            continue
        path = ("clients", name, "keys", "dataset")
        dataset = file.datasets.get(group.keys.dataset)
        if dataset is None:
            yield _unknown(path, group.keys.dataset, "data set", file.datasets)
        elif dataset.node in file.nodes and group.node in file.nodes and root_of(file, group.node) != root_of(file, dataset.node):
            yield path, f"{dotted(path)}: {group.keys.dataset} is on node {dataset.node}, not on {group.node}"


def popularity_has_keys(file: ScenarioFile) -> Iterator[Fault]:
    for name, group in file.clients.items():
        dataset = file.datasets.get(group.keys.dataset) if group.keys else None
        if dataset is not None and dataset.keys == 0 and dataset.rdb is None:
            path = ("clients", name, "keys", "dataset")
            yield (
                path,
                f"{dotted(path)}: that data set has 0 keys to choose from; give it some, or use present: 0",
            )


def timeline_node_exists(file: ScenarioFile) -> Iterator[Fault]:
    for i, entry in [*file.commands_at, *file.role_entries]:
        if entry.node not in file.nodes:
            yield _unknown(("timeline", i, "node"), entry.node, "node", file.nodes)


# ---- times -----------------------------------------------------------------------------------------------


def duration_is_sane(file: ScenarioFile) -> Iterator[Fault]:
    if file.duration > DURATION_NS_MAX:
        yield (
            ("duration",),
            f"duration is {file.duration // DAY} days; at most {DURATION_NS_MAX // DAY} are simulated",
        )
    if file.warmup >= file.duration:
        yield (
            ("warmup",),
            f"warmup {say_ns(file.warmup)} leaves nothing of duration {say_ns(file.duration)}; shorten it",
        )
    if file.window is not None and file.window > file.duration:
        yield ("window",), f"window {say_ns(file.window)} is longer than duration {say_ns(file.duration)}"


def timeline_is_short(file: ScenarioFile) -> Iterator[Fault]:
    for i, entry in file.commands_at:
        if entry.times > TIMES_MAX:
            yield ("timeline", i, "times"), f"timeline.{i}.times is {entry.times}; at most {TIMES_MAX}"


def timeline_fits(file: ScenarioFile) -> Iterator[Fault]:
    for i, entry in file.entries:
        if not entry.run.strip():
            yield ("timeline", i, "run"), f"timeline.{i}.run is empty; write a command, e.g. KEYS *"
        if entry.times > 1 and entry.every is None:
            yield (
                ("timeline", i, "times"),
                f"timeline.{i}.times is {entry.times} but every is not given; add every: 1s",
            )
        last = entry.at + (entry.times - 1) * (entry.every or 0)
        if last >= file.duration:
            which = "at" if entry.times == 1 else f"its run number {entry.times} would come at"
            yield (
                ("timeline", i, "at"),
                f"timeline.{i}: {which} {say_ns(last)} is not before the end, {say_ns(file.duration)}",
            )


def group_times_fit(file: ScenarioFile) -> Iterator[Fault]:
    for name, group in file.clients.items():
        path = ("clients", name)
        if group.start >= file.duration:
            yield (
                (*path, "start"),
                f"{dotted(path)}.start {say_ns(group.start)} is not before the end, {say_ns(file.duration)}",
            )
        if group.stop is not None and group.stop <= group.start:
            yield (
                (*path, "stop"),
                f"{dotted(path)}.stop {say_ns(group.stop)} is not after its start {say_ns(group.start)}",
            )


def schedule_fits(file: ScenarioFile) -> Iterator[Fault]:
    for name, group in file.clients.items():
        points = group.arrivals.open.schedule if group.arrivals.open else None
        for i, point in enumerate(points or []):
            if point.at >= file.duration:
                path = ("clients", name, "arrivals", "open", "schedule", i, "at")
                yield (
                    path,
                    f"{dotted(path)} {say_ns(point.at)} is not before the end, {say_ns(file.duration)}",
                )


# ---- what a group does -----------------------------------------------------------------------------------


def commands_given_once(file: ScenarioFile) -> Iterator[Fault]:
    for name, group in file.clients.items():
        path = ("clients", name)
        given = [key for key in ("commands", "commands_from_info") if getattr(group, key)]
        if group.arrivals.trace is not None and given:
            yield (
                (*path, given[0]),
                f"{dotted(path)} replays a trace, which has its own commands; remove {given[0]}",
            )
        elif group.arrivals.trace is None and not given:
            yield path, f"{dotted(path)} sends no commands; add commands: {{GET: 1}} or commands_from_info"
        elif len(given) > 1:
            yield (*path, given[1]), f"{dotted(path)} has both commands and commands_from_info; keep one"


def commands_have_keys(file: ScenarioFile) -> Iterator[Fault]:
    for name, group in file.clients.items():
        keyed = [c for c in group.commands if c.upper() not in KEYLESS]
        if keyed and group.keys is None:
            yield (
                ("clients", name, "commands", keyed[0]),
                f"clients.{name} sends {show(keyed[0])} without keys; add keys: {{dataset: …}}{_there(file)}",
            )


def _there(file: ScenarioFile) -> str:
    return f" with one of {', '.join(file.datasets)}" if file.datasets else ", and that data set under datasets:"


def weights_add_up(file: ScenarioFile) -> Iterator[Fault]:
    for name, group in file.clients.items():
        if sum(use.weight for use in group.commands.values()) > 1e12:
            yield (
                ("clients", name, "commands"),
                f"clients.{name}.commands: the weights add up to more than 1e12",
            )


def trace_stands_alone(file: ScenarioFile) -> Iterator[Fault]:
    for name, group in file.clients.items():
        if group.arrivals.trace is None:
            continue
        if group.pipeline > 1:
            path = ("clients", name, "pipeline")
            yield path, f"{dotted(path)} is {group.pipeline}, but a trace is sent one by one; remove pipeline"
        if not 1e-6 <= group.arrivals.trace.speed <= 1e6:
            at = ("clients", name, "arrivals", "trace", "speed")
            yield (
                at,
                f"{dotted(at)} is {group.arrivals.trace.speed:g}; use 0.000001 to 1000000",
            )


def station_has_connections(file: ScenarioFile) -> Iterator[Fault]:
    for name, group in file.clients.items():
        threads = group.station.threads
        if threads > group.connections:
            yield (
                ("clients", name, "station", "threads"),
                f"clients.{name}.station.threads is {threads}, more than its {group.connections} connections",
            )


def retries_are_sane(file: ScenarioFile) -> Iterator[Fault]:
    for name, group in file.clients.items():
        path, retries = ("clients", name, "retries"), group.retries
        if retries.backoff > retries.cap:
            yield (
                (*path, "backoff"),
                f"{dotted(path)}.backoff {say_ns(retries.backoff)} is above its cap {say_ns(retries.cap)}",
            )
        if retries.max > 0 and group.timeout is None and not file.node_faults:
            yield (
                (*path, "max"),
                f"{dotted(path)}.max is {retries.max}, but nothing times out and no server dies; add timeout: 100ms",
            )


# ---- how large -------------------------------------------------------------------------------------------


def datasets_fit(file: ScenarioFile) -> Iterator[Fault]:
    for name, dataset in file.datasets.items():
        path = ("datasets", name)
        if dataset.keys > DATASET_KEYS_MAX:
            yield (
                (*path, "keys"),
                f"{dotted(path)}.keys is {dataset.keys}; at most {DATASET_KEYS_MAX} are simulated",
            )
        yield from _sizes_fit((*path, "key_bytes"), dataset.key_bytes, VALUE_BYTES_MAX)
        yield from _sizes_fit((*path, "value_bytes"), dataset.value_bytes, VALUE_BYTES_MAX)
        yield from _sizes_fit((*path, "elements"), dataset.elements, DATASET_KEYS_MAX)


def datasets_fit_together(file: ScenarioFile) -> Iterator[Fault]:
    total = sum(dataset.keys for dataset in file.datasets.values())
    if total > DATASET_KEYS_MAX and all(d.keys <= DATASET_KEYS_MAX for d in file.datasets.values()):
        yield ("datasets",), f"datasets have {total} keys together; at most {DATASET_KEYS_MAX} are simulated"


def _sizes_fit(path: Keys, size: Size | None, largest: int) -> Iterator[Fault]:
    if size is None:
        return
    values = [size.constant or 0] + [value for value, _ in size.table or []]
    values += [size.uniform.high] if size.uniform else []
    values += [size.lognormal.max or size.lognormal.median] if size.lognormal else []
    values += [size.gpareto.max] if size.gpareto else []
    if max(values) > largest:
        said = f"{say_bytes(largest)}, as for Redis" if largest == VALUE_BYTES_MAX else str(largest)
        yield path, f"{dotted(path)} goes up to {max(values)}; at most {said}"


def groups_fit(file: ScenarioFile) -> Iterator[Fault]:
    for name, group in file.clients.items():
        path = ("clients", name)
        limits = {"connections": CONNECTIONS_MAX, "pipeline": PIPELINE_MAX}
        for key, most in limits.items():
            if getattr(group, key) > most:
                yield (*path, key), f"{dotted((*path, key))} is {getattr(group, key)}; at most {most}"
        if group.station.threads > THREADS_MAX:
            threads = (*path, "station", "threads")
            yield threads, f"{dotted(threads)} is {group.station.threads}; at most {THREADS_MAX}"
        if group.retries.max > RETRIES_MAX:
            yield (
                (*path, "retries", "max"),
                f"{dotted(path)}.retries.max is {group.retries.max}; at most {RETRIES_MAX}",
            )
        yield from _sizes_fit((*path, "value_bytes"), group.value_bytes, VALUE_BYTES_MAX)
        for command, use in group.commands.items():
            for key in ("keys", "elements", "count"):
                at = (*path, "commands", command, key)
                if getattr(use, key) > PER_CALL_MAX:
                    yield at, f"{dotted(at)} is {getattr(use, key)}; at most {PER_CALL_MAX} a call"
            yield from _sizes_fit((*path, "commands", command, "value_bytes"), use.value_bytes, VALUE_BYTES_MAX)


def bursts_fit(file: ScenarioFile) -> Iterator[Fault]:
    for name, group in file.clients.items():
        bursts = group.arrivals.open.bursts if group.arrivals.open else None
        if bursts is not None and bursts.size > BURST_MAX:
            path = ("clients", name, "arrivals", "open", "bursts", "size")
            yield path, f"{dotted(path)} is {bursts.size}; at most {BURST_MAX}"
        elif bursts is not None and bursts.size % group.pipeline:
            path = ("clients", name, "arrivals", "open", "bursts", "size")
            yield path, f"{dotted(path)} is {bursts.size}, which is not a multiple of its pipeline of {group.pipeline}"


def rates_fit(file: ScenarioFile) -> Iterator[Fault]:
    for name, group in file.clients.items():
        for path, rate in _rates(group):
            at = ("clients", name, "arrivals", "open", *path)
            if not rate <= RATE_PER_S_MAX:
                yield at, f"{dotted(at)} is {rate:g} a second; at most {RATE_PER_S_MAX} are simulated"


def _rates(group: Group) -> Iterator[tuple[Keys, float]]:
    offered = group.arrivals.open
    if offered is None:
        return
    if offered.rate_per_s is not None:
        yield ("rate_per_s",), offered.rate_per_s
    for i, point in enumerate(offered.schedule or []):
        yield ("schedule", i, "rate_per_s"), point.rate_per_s
    if offered.diurnal is not None:
        yield ("diurnal", "high_per_s"), offered.diurnal.high_per_s
    if offered.mmpp is not None:
        yield ("mmpp", "rates_per_s"), max(offered.mmpp.rates_per_s)
    if offered.bursts is not None and offered.bursts.size <= BURST_MAX:
        yield ("bursts",), offered.bursts.size * S / offered.bursts.every


CHECKS: tuple[Callable[[ScenarioFile], Iterator[Fault]], ...] = (
    faults_fit,
    network_fits,
    replicas_fit,
    roles_fit,
    hosts_exist, asked_fit,
    disks_are_known,
    node_host_exists,
    one_conf,
    dataset_node_exists,
    group_node_exists,
    group_dataset_exists,
    popularity_has_keys,
    timeline_node_exists,
    duration_is_sane,
    timeline_is_short,
    timeline_fits,
    group_times_fit,
    schedule_fits,
    commands_given_once,
    commands_have_keys,
    weights_add_up,
    trace_stands_alone,
    station_has_connections,
    retries_are_sane,
    datasets_fit,
    datasets_fit_together,
    groups_fit,
    bursts_fit,
    rates_fit,
)
