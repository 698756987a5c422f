"""What the load generator sends: requests as bytes, who sends them when, and how each group behaves.

A LoadPlan holds templates (encoded requests), open requests (template, time, connection) and groups. plan() makes the one of a
scenario's group; plans of several groups are put behind each other by merge(), so that one generator plays them all.
Differs: where the requests would take more than PLAN_BYTES, or a group is closed, a stock of them is sent in turn.
Not modelled: see requests.py and schedule.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from redsim.lab.requests import Writer
from redsim.lab.resp import Word, encode_all
from redsim.lab.schedule import draw_keys, open_times
from redsim.lab.shapes import Shape
from redsim.rng import generator
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.scenario.schema import CommandUse, Group, Popularity, Size
from redsim.units import S
from redsim.workload.tables import sample

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

PLAN_BYTES = 256 * 1024 * 1024
STOCK = 100_000  # different requests of a closed group
JITTER = {"none": 0, "full": 1, "equal": 2}
NO_INTS: Ints = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class GroupLoad:
    """How one group's connections behave. Times in ns from the start; `requests` -1: any number."""

    name: str
    connections: int
    is_closed: bool = False
    pipeline: int = 1
    think_ns: int = 0
    think_is_exponential: bool = False
    start_ns: int = 0
    stop_ns: int = 0
    requests: int = -1
    timeout_ns: int = 0
    reconnects: bool = True
    retries: int = 0
    backoff_ns: int = 10_000_000
    cap_ns: int = 1_000_000_000
    jitter: int = 0  # 0 none, 1 full, 2 equal
    fetch_ns: int = 0  # between a nil answer and the SET that fills it
    fetch_is_exponential: bool = False


@dataclass(frozen=True)
class LoadPlan:
    """Templates, open requests in time order, and groups; a closed group sends its templates in turn.

    `blob` uint8; `off` int64 (templates + 1,); `kind` int64 (templates,) into `names`; `at_ns`, `template`, `connection` int64
    (open requests,); `pools[g]` the templates [first, last) of group g. `fill` int64 (templates,): the template that is
    sent after a nil answer, -1 for none; empty where no group fills.
    """

    blob: Bytes = field(repr=False)
    off: Ints = field(repr=False)
    kind: Ints = field(repr=False)
    names: tuple[str, ...]
    at_ns: Ints = field(repr=False)
    template: Ints = field(repr=False)
    connection: Ints = field(repr=False)
    groups: tuple[GroupLoad, ...]
    pools: tuple[tuple[int, int], ...]
    fill: Ints = field(default_factory=lambda: NO_INTS, repr=False)

    @property
    def connections(self) -> int:
        """Of all groups together."""
        return sum(group.connections for group in self.groups)

    @property
    def fills(self) -> Ints:
        """`fill`, of full length."""
        return self.fill if self.fill.size else np.full(self.kind.size, -1, dtype=np.int64)

    @property
    def seconds(self) -> float:
        """Until the last group stops."""
        return max((group.stop_ns for group in self.groups), default=0) / S


def pool(commands: Sequence[Sequence[Word]], *, names: Sequence[str] | None = None) -> LoadPlan:
    """Templates only, for closed_loop(): the commands are sent in turn, over and over. `names`: what each is called."""
    called = [str(words[0]).upper() for words in commands] if names is None else list(names)
    blob, off = encode_all(commands)
    known = tuple(dict.fromkeys(called))
    kind = np.array([known.index(name) for name in called], dtype=np.int64)
    return LoadPlan(blob, off, kind, known, NO_INTS, NO_INTS, NO_INTS, (), ((0, len(called)),))


def open_plan(
    stock: LoadPlan, *, rate_per_s: float, seconds: float, connections: int, seed: int, process: str = "poisson"
) -> LoadPlan:  # fmt: skip
    """The templates of pool() drawn evenly, `rate_per_s` of them, Poisson (or `constant`), over connections drawn evenly."""
    rng = generator(seed, "lab", "open_plan")
    count = round(rate_per_s * seconds)
    if process == "poisson":
        gaps = rng.exponential(1.0, count + 10 * int(count**0.5) + 10) / rate_per_s
        at: npt.NDArray[np.floating] = np.cumsum(gaps)
        at = at[at < seconds]
    else:
        at = (np.arange(count) + 0.5) / rate_per_s
    at_ns = (at * S).astype(np.int64)
    group = GroupLoad("load", connections, stop_ns=round(seconds * S))
    return replace(
        stock, at_ns=at_ns, template=rng.integers(0, stock.kind.size, at_ns.size),
        connection=rng.integers(0, connections, at_ns.size), groups=(group,),
    )  # fmt: skip


def merge(plans: Sequence[LoadPlan]) -> LoadPlan:
    """One plan of them all, groups in that order, open requests in time order (ties: earlier plan first)."""
    names = tuple(dict.fromkeys(name for plan in plans for name in plan.names))
    bytes_before = np.cumsum([0] + [plan.blob.size for plan in plans])
    templates_before = np.cumsum([0] + [plan.kind.size for plan in plans])
    connections_before = np.cumsum([0] + [plan.connections for plan in plans])
    at_ns = np.concatenate([plan.at_ns for plan in plans])
    ends = [plan.off[1:] + first for plan, first in zip(plans, bytes_before, strict=False)]
    order = np.argsort(at_ns, kind="stable")
    template = np.concatenate([plan.template + first for plan, first in zip(plans, templates_before, strict=False)])
    connection = np.concatenate([plan.connection + first for plan, first in zip(plans, connections_before, strict=False)])
    return LoadPlan(
        blob=np.concatenate([plan.blob for plan in plans]),
        off=np.concatenate([np.zeros(1, dtype=np.int64), *ends]),
        kind=np.concatenate([np.array([names.index(n) for n in plan.names], dtype=np.int64)[plan.kind] for plan in plans]),
        names=names, at_ns=at_ns[order], template=template[order].astype(np.int64), connection=connection[order].astype(np.int64),
        groups=tuple(group for plan in plans for group in plan.groups),
        pools=tuple((low + int(first), high + int(first)) for plan, first in zip(plans, templates_before, strict=False)
                    for low, high in plan.pools),
        fill=np.concatenate([np.where(plan.fills >= 0, plan.fills + first, -1)
                             for plan, first in zip(plans, templates_before, strict=False)]),
    )  # fmt: skip


# ---- from a scenario -----------------------------------------------------------------------------------------------


def plan(
    scenario: Scenario, group_name: str, seed: int | None = None, *, shapes: dict[str, Shape], lua_per_ms: float = 0.0
) -> LoadPlan:
    """What the group sends (open or closed; MONITOR captures: replayed.py), drawn with `seed` (default: the scenario's).

    `shapes`: the data sets as the server holds them. ScenarioError for what cannot be sent to a real server.
    """
    group = scenario.file.clients[group_name]
    if group.commands_from_info is not None:
        where = scenario.where("clients", group_name, "commands_from_info")
        raise ScenarioError(f"{where}: an INFO does not tell the arguments of its commands, so a real server cannot be sent them")
    seed = scenario.file.seed if seed is None else seed
    stop_ns = min(group.stop or scenario.file.duration, scenario.file.duration)
    load = group_load(group_name, group, stop_ns)
    times, connection = NO_INTS, NO_INTS
    count = min(STOCK, group.requests or STOCK)
    if group.arrivals.open is not None:
        times = open_times(
            group.arrivals.open, group.start, stop_ns, group.pipeline, generator(seed, "lab", group_name, "arrivals")
        )
        times = times[: -(-group.requests // group.pipeline)] if group.requests else times
        on = generator(seed, "lab", group_name, "connections").integers(0, group.connections, times.size)
        times, connection = (np.repeat(column, group.pipeline)[: group.requests] for column in (times, on))
        count = times.size
    shape = shapes[group.keys.dataset] if group.keys else None
    writers = [Writer(name.upper(), use, shape, lua_per_ms) for name, use in group.commands.items()]
    weights = np.array([use.weight for use in group.commands.values()])
    kind = generator(seed, "lab", group_name, "mix").choice(len(writers), count, p=weights / weights.sum())
    stock, touched = _write(group_name, group, writers, kind.astype(np.int64), seed)
    template = np.arange(times.size, dtype=np.int64) % max(stock.kind.size, 1)
    if group.on_miss is not None and shape is not None:
        stock = _with_fills(group_name, group, shape, stock, touched, seed)
    return replace(stock, at_ns=times, template=template, connection=connection.astype(np.int64), groups=(load,))


def group_load(name: str, group: Group, stop_ns: int) -> GroupLoad:
    """How a scenario's group behaves."""
    closed = group.arrivals.closed
    return GroupLoad(
        name, group.connections, is_closed=closed is not None, pipeline=group.pipeline, think_ns=closed.think if closed else 0,
        think_is_exponential=closed is not None and closed.think_is == "exponential", start_ns=group.start, stop_ns=stop_ns,
        requests=group.requests or -1, timeout_ns=group.timeout or 0, reconnects=group.on_timeout == "reconnect",
        retries=group.retries.max, backoff_ns=group.retries.backoff, cap_ns=group.retries.cap,
        jitter=JITTER[group.retries.jitter], fetch_ns=group.on_miss.fetch if group.on_miss else 0,
        fetch_is_exponential=group.on_miss is not None and group.on_miss.fetch_is == "exponential",
    )  # fmt: skip


def _write(name: str, group: Group, writers: Sequence[Writer], kind: Ints, seed: int) -> tuple[LoadPlan, Ints]:
    """The requests of these kinds, up to PLAN_BYTES of them, and the first key of each."""
    shape = writers[0].shape
    popularity = group.keys.popularity if group.keys else Popularity(uniform=True)
    keys = max(shape.data.keys, 1) if shape else 1
    first = draw_keys(popularity, keys, kind.size, generator(seed, "lab", name, "keys"))
    more = generator(seed, "lab", name, "more-keys")
    other = generator(seed, "lab", name, "arguments")
    sizes = np.zeros(kind.size, dtype=np.int64)
    extra: dict[int, Ints] = {}
    for k, writer in enumerate(writers):
        mine = np.flatnonzero(kind == k)
        if writer.writes_value:
            law = writer.use.value_bytes or group.value_bytes or (shape.data.value_bytes if shape else Size(constant=100))
            sizes[mine] = sample(law, mine.size, seed, "lab", name, "sizes", writer.command) * writer.keys
        if writer.keys > 1:
            extra[k] = draw_keys(popularity, keys, mine.size * (writer.keys - 1), more).reshape(mine.size, -1)
    kind = kind[: max(int(np.searchsorted(np.cumsum(sizes + 64), PLAN_BYTES)), 1)]
    turn = [0] * len(writers)
    commands: list[list[Word]] = []
    for k, key, size in zip(kind.tolist(), first.tolist(), sizes.tolist(), strict=False):
        writer = writers[k]
        touched = [key] if writer.keys else []
        if writer.keys > 1:
            touched += extra[k][turn[k]].tolist()
            turn[k] += 1
        commands.append(writer.words(touched, size // max(writer.keys, 1), other))
    blob, off = encode_all(commands)
    names = tuple(w.command for w in writers)
    return LoadPlan(blob, off, kind, names, NO_INTS, NO_INTS, NO_INTS, (), ((0, kind.size),)), first[: kind.size]


def _with_fills(name: str, group: Group, shape: Shape, stock: LoadPlan, touched: Ints, seed: int) -> LoadPlan:
    """The plan with a SET for the nil answer of each GET, its TTL and size drawn anew."""
    assert group.on_miss is not None
    miss = group.on_miss
    is_get = stock.kind == stock.names.index("GET")
    keys = touched[is_get]
    use = CommandUse.model_construct(weight=1.0, ttl=miss.ttl, ttl_jitter=miss.ttl_jitter)
    writer, rng = Writer("SET", use, shape), generator(seed, "lab", name, "fills")
    sizes = sample(miss.value_bytes or group.value_bytes or shape.data.value_bytes, keys.size, seed, "lab", name, "sizes", "fill")
    blob, off = encode_all([writer.words([k], size, rng) for k, size in zip(keys.tolist(), sizes.tolist(), strict=True)])
    names = stock.names if "SET" in stock.names else (*stock.names, "SET")
    fill = np.full(stock.kind.size + keys.size, -1, dtype=np.int64)
    fill[: stock.kind.size][is_get] = stock.kind.size + np.arange(keys.size)
    return replace(
        stock, blob=np.concatenate([stock.blob, blob]), off=np.concatenate([stock.off, off[1:] + stock.off[-1]]), names=names,
        kind=np.concatenate([stock.kind, np.full(keys.size, names.index("SET"), dtype=np.int64)]), fill=fill,
    )  # fmt: skip
