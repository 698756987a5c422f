"""What the load generator sends: requests as bytes, who sends them when, and how each group behaves.

A LoadPlan holds templates (encoded requests), open requests (template, time, connection) and groups. Plans of several groups are
put behind each other by merge(), so that one generator plays them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from redsim.lab.resp import Word, encode_all
from redsim.rng import generator
from redsim.units import S

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


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


@dataclass(frozen=True)
class LoadPlan:
    """Templates, open requests in time order, and groups; a closed group sends its templates in turn.

    `blob` uint8; `off` int64 (templates + 1,); `kind` int64 (templates,) into `names`; `at_ns`, `template`, `connection` int64
    (open requests,); `pools[g]` the templates [first, last) of group g.
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

    @property
    def connections(self) -> int:
        """Of all groups together."""
        return sum(group.connections for group in self.groups)

    @property
    def seconds(self) -> float:
        """Until the last group stops."""
        return max((group.stop_ns for group in self.groups), default=0) / S


NO_INTS = np.zeros(0, dtype=np.int64)


def pool(commands: Sequence[Sequence[Word]], *, names: Sequence[str] | None = None) -> LoadPlan:
    """Templates only, for closed_loop(): the commands are sent in turn, over and over. `names`: what each is called."""
    called = [str(words[0]).upper() for words in commands] if names is None else list(names)
    blob, off = encode_all(commands)
    known = tuple(dict.fromkeys(called))
    kind = np.array([known.index(name) for name in called], dtype=np.int64)
    return LoadPlan(blob, off, kind, known, NO_INTS, NO_INTS, NO_INTS, (), ((0, len(called)),))


def open_plan(
    commands: Sequence[Sequence[Word]], *, rate_per_s: float, seconds: float, connections: int, seed: int,
    process: str = "poisson", names: Sequence[str] | None = None,
) -> LoadPlan:  # fmt: skip
    """The commands drawn evenly, `rate_per_s` of them, Poisson (or `constant`), over connections drawn evenly."""
    made = pool(commands, names=names)
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
        made, at_ns=at_ns, template=rng.integers(0, len(commands), at_ns.size),
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
    )  # fmt: skip
