"""What the tests of the loop share: short scenarios, profiles that cost nothing but what a test needs, the World after a run,
and the interval that statistics are judged by.

`world_of` runs as redsim.run.engine does but hands back the World, for what a Result does not show (SLOWLOG rows, events).
"""

import functools
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simpy
from ruamel.yaml import YAML

from redsim.dataplane import layout as dp
from redsim.redis.server import Server
from redsim.run.aof import attach_aof
from redsim.run.build import Built, build
from redsim.run.checks import check_conservation
from redsim.scenario.load import Scenario
from redsim.scenario.profile import shipped_profiles

SEEDS = range(1, 21)
STUDENT_99 = 2.861  # two-sided 99 % quantile of Student's t with 19 degrees of freedom
PROFILES = Path(__file__).resolve().parents[1] / "redsim" / "scenario" / "profiles"


@dataclass(frozen=True)
class Run:
    """A finished run: the World, and the names of its rows."""

    built: Built
    server: Server

    @property
    def w(self) -> dp.World:
        return self.server.world

    def st(self, column: int) -> int:
        return int(self.w.st[column])

    def series(self, group: str, command: str) -> int:
        return self.built.series.index((group, command))


def world_of(scenario: Scenario) -> Run:
    """Run the scenario to its end; conservation is checked as in every run."""
    built = build(scenario)
    env = simpy.Environment()
    server = Server(env, built.world, scenario.confs[built.node], scenario.profiles[built.host])
    attach_aof(env, server, scenario, built.node)
    env.process(server.main())
    env.run()
    check_conservation(built, server.world)
    return Run(built, server)


@functools.cache
def _default() -> str:
    assert "default" in shipped_profiles()
    return (PROFILES / "default.yaml").read_text(encoding="utf-8")


def profile(*, zero: bool, rtt_ns: int | None = None, commands: dict[str, dict[str, int]] | None = None, **costs_ns: int) -> str:
    """The default profile's text with these costs changed. `zero`: all others 0 (network 1 ns each way).

    `costs_ns` are names under `costs` or `client`; `commands` replaces the laws of those commands.
    """
    data: dict[str, Any] = YAML(typ="safe", pure=True).load(_default())
    for part in ("costs", "client"):
        for name, number in data[part].items():
            if zero:
                number["value"] = 0
            if name in costs_ns:
                number["value"] = costs_ns.pop(name)
    assert not costs_ns, f"no such cost: {', '.join(costs_ns)}"
    if zero:
        data["loopback_rtt_ns"]["value"] = 2
        for law in data["commands"].values():
            if isinstance(law, dict):
                law.update(dict.fromkeys(law, 0))
        for name in ("lookup", "connections", "client_connections", "rehash"):
            data["curves"][name]["each"] = [[1, 0], [10, 0]]
    if rtt_ns is not None:
        data["loopback_rtt_ns"]["value"] = rtt_ns
    data["commands"].update(commands or {})
    with tempfile.NamedTemporaryFile("w+", suffix=".yaml", encoding="utf-8") as out:
        YAML(typ="safe", pure=True).dump(data, out)
        out.seek(0)
        return out.read()


def scenario(body: str, *, profile_text: str | None = None, overrides: tuple[str, ...] = ()) -> Scenario:
    """A Scenario from YAML without question and hosts; `profile_text` is what the host `box` has for a profile."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "p.yaml").write_text(profile_text or _default(), encoding="utf-8")
        head = "question: Does the loop do as Redis does?\n" + ("" if "hosts:" in body else "hosts: {box: {profile: p.yaml}}\n")
        return Scenario.from_text(head + body, base=Path(folder), overrides=overrides)


def interval(values: list[float]) -> tuple[float, float]:
    """Student's 99 % interval of the mean of 20 independent values."""
    assert len(values) == 20
    half = STUDENT_99 * float(np.std(values, ddof=1)) / math.sqrt(20)
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def assert_holds(values: list[float], exact: float, *, slack: float = 0.0) -> None:
    """The interval, widened by `slack` (relative, for what is known to differ), holds the exact value."""
    low, high = interval(values)
    assert low - slack * exact <= exact <= high + slack * exact, f"{exact:.6g} is not in {low:.6g} .. {high:.6g}"


# ---- a scenario in pieces ----------------------------------------------------------------------------------------


def node(conf: str = "", version: str = "7.0") -> str:
    lines = "".join(f"\n      {line}" for line in conf.splitlines())
    return f'nodes:\n  main:\n    host: box\n    version: "{version}"\n    conf: |\n      save ""{lines}\n'


def once(name: str, command: str, *, at: str = "1ms", dataset: str = "", pipeline: int = 1) -> str:
    """A group with one connection that sends `pipeline` requests at `at`, once."""
    keys = f", keys: {{dataset: {dataset}}}" if dataset else ""
    return (
        f"  {name}: {{node: main, connections: 1, start: {at}, pipeline: {pipeline}, requests: {pipeline},\n"
        f"    arrivals: {{closed: {{}}}}, commands: {command}{keys}}}\n"
    )


def steady(name: str, arrivals: str, *, connections: int = 50, command: str = "{PING: 1}", more: str = "") -> str:
    return f"  {name}: {{node: main, connections: {connections}, arrivals: {arrivals}, commands: {command}{more}}}\n"


def clients(*groups: str) -> str:
    return "clients:\n" + "".join(groups)


def longest_ns(run: Run, group: str, command: str) -> int:
    """Exact: the longest latency of the whole run."""
    return int(run.w.smax[-1, run.series(group, command), 0])


def row(run: Run, group: str) -> Any:
    return run.w.group[[plan.name for plan in run.built.plans.plans].index(group)]
