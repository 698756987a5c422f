"""A MONITOR capture played against a real server: the same commands on the same keys at the same times.

Follows what the simulator takes from the capture: commands redsim models, keys by the type their commands imply, aggregates of a
guessed number of elements, values as long as written. A key two types are implied for is the aggregate.
Not modelled: the capture's own arguments beyond keys and sizes (ranges, fields, scores, scripts).
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from redsim.dataplane import layout as dp
from redsim.lab.load_plan import LoadPlan, group_load
from redsim.lab.requests import MANY, Writer
from redsim.lab.resp import Word, encode_all
from redsim.lab.shapes import Shape
from redsim.redis.commands import COMMANDS
from redsim.rng import generator
from redsim.run.build import build
from redsim.run.groups import TRACE_ELEMENTS, Plan
from redsim.run.kinds import SAME_AS
from redsim.scenario.load import Scenario
from redsim.scenario.schema import CommandUse, Dataset
from redsim.units import S

Ints = npt.NDArray[np.int64]
INTEGERS = ("INCR", "INCRBY", "DECR", "DECRBY")


@dataclass(frozen=True)
class Replay:
    """A trace group as the simulator plans it, and the data sets its keys imply. `rows`: time, kind, key, connection, bytes."""

    plan: Plan
    shapes: list[Shape | None]  # of each kind
    all_shapes: dict[str, Shape]

    def load_plan(self, scenario: Scenario) -> LoadPlan:
        """Its requests, each at its time, up to the scenario's end."""
        group = self.plan.group
        assert self.plan.trace is not None
        assert group.arrivals.trace is not None
        stop_ns = min(group.stop or scenario.file.duration, scenario.file.duration)
        rows = self.plan.trace
        turns = -(-(stop_ns - group.start) // max(self.plan.span_ns, 1)) if group.arrivals.trace.loop else 1
        at = np.concatenate([group.start + rows[:, 0] + i * self.plan.span_ns for i in range(max(turns, 1))])
        kept = np.flatnonzero(at < stop_ns)[: group.requests]
        names, commands = self._commands(scenario)
        blob, off = encode_all(commands)
        known = tuple(dict.fromkeys(names))
        template = kept % len(rows)
        load = replace(group_load(self.plan.name, group, stop_ns), connections=self.plan.connections)
        return LoadPlan(
            blob, off, np.array([known.index(name) for name in names], dtype=np.int64), known, at[kept], template,
            rows[template, 3] % self.plan.connections, (load,), ((0, len(commands)),),
        )  # fmt: skip

    def _commands(self, scenario: Scenario) -> tuple[list[str], list[list[Word]]]:
        rng = generator(scenario.file.seed, "lab", self.plan.name, "arguments")
        writers = []
        for kind, shape in zip(self.plan.kinds, self.shapes, strict=True):
            many = kind.name in MANY
            count = int(kind.row[dp.K_NKEYS] if many else kind.row[dp.K_NELEM])
            use = CommandUse(weight=1, keys=count if many else 1, elements=1 if many else max(count, 1), stop=TRACE_ELEMENTS - 1)
            use = use.model_copy(update={"ttl": 3600 * S if "EXPIRE" in kind.name else None, "duration": 0})
            writers.append(Writer(kind.name, use, shape))
        names, commands = [], []
        assert self.plan.trace is not None
        for _, k, key, _, size in self.plan.trace.tolist():
            writer = writers[k]
            keys = [max(key, 0)] if writer.keys else []
            if writer.keys > 1 and writer.shape is not None:
                keys += [int(i) for i in rng.integers(0, writer.shape.data.keys, writer.keys - 1)]
            names.append(writer.command)
            commands.append(writer.words(keys, size, rng))
        return names, commands


def replays(scenario: Scenario) -> dict[str, Replay]:
    """The scenario's trace groups by name."""
    if not scenario.traces:
        return {}
    plans = build(scenario).plans
    return {plan.name: _replay(scenario, plan, plans.datasets) for plan in plans.plans if plan.name in scenario.traces}


def _replay(scenario: Scenario, plan: Plan, datasets: dict[str, Dataset]) -> Replay:
    capture = scenario.traces[plan.name]
    assert plan.trace is not None
    known = np.array([SAME_AS.get(name, name) in COMMANDS for name in capture.names])
    index = np.flatnonzero(known[capture.command] & (capture.client >= 0))  # the rows the simulator took
    assert index.size == len(plan.trace)
    of_kind = [list(datasets)[d] if (d := int(kind.row[dp.K_DATASET])) >= 0 else None for kind in plan.kinds]
    exact: dict[str, dict[int, bytes]] = {name: {} for name in of_kind if name is not None}
    integers: dict[str, set[int]] = {name: set() for name in exact}
    for row, (_, k, key, _, _) in zip(index.tolist(), plan.trace.tolist(), strict=True):
        name = of_kind[k]
        if name is not None and key >= 0 and capture.key[row] >= 0:
            exact[name][key] = capture.keys[capture.key[row]]
            if plan.kinds[k].name in INTEGERS:
                integers[name].add(key)
    made: dict[str, Shape] = {}
    aggregates = frozenset(key for name, keys in exact.items() if datasets[name].type != "string" for key in keys.values())
    for name, keys in exact.items():
        names = tuple(keys.get(i, f"{name}:{i}".encode()) for i in range(datasets[name].keys))
        taken = aggregates if datasets[name].type == "string" else frozenset[bytes]()
        made[name] = Shape(name, datasets[name], scenario.file.seed, frozenset(integers[name]), names, taken)
    return Replay(plan, [made[name] if name is not None else None for name in of_kind], made)
