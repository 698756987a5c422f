"""What the tests of the loop share: short scenarios, profiles that cost nothing but what a test needs, the World after a run.

`world_of` runs as redsim.run.engine does but hands back the World, for what a Result does not show (SLOWLOG rows, events).
"""

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import simpy
from ruamel.yaml import YAML

from redsim.dataplane import layout as dp
from redsim.redis.server import Server
from redsim.run.build import Built, build
from redsim.run.checks import check_conservation
from redsim.scenario.load import Scenario
from redsim.scenario.profile import shipped_profiles

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
        data["curves"]["lookup"]["each"] = [[1, 0], [10, 0]]
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
