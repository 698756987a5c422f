"""redsim: a discrete-event simulator of Redis internals.

scenario = redsim.load("scenarios/learn/keys-stall.yaml")
result = redsim.run(scenario, seed=2)
result.summary["clients"]["api"]["latency_us"], result.stalls, result.figure("latency")
    redsim.memory_usage({"name": "Ada"}, key="user:1"), redsim.object_encoding([1, 2, 3], version="7.2")
"""

from typing import Any

from redsim import run as _run_first  # noqa: F401  a later import of the package would take the place of run() below

__version__ = "0.1.0"
__all__ = ["Result", "Scenario", "ScenarioError", "load", "memory_usage", "object_encoding", "plan_backlog", "plan_memory",
           "rehearse", "repeat", "run"]  # fmt: skip

_PLACES = {
    "Result": "redsim.run.result", "Scenario": "redsim.scenario.load", "ScenarioError": "redsim.scenario.errors",
    "load": "redsim.scenario.load", "memory_usage": "redsim.run.size", "object_encoding": "redsim.run.size",
    "plan_backlog": "redsim.run.plan_backlog", "plan_memory": "redsim.run.plan_memory", "rehearse": "redsim.run.rehearse",
    "repeat": "redsim.run.repeats",
}  # fmt: skip


def run(scenario: Any, *, seed: int | None = None) -> Any:
    """Simulate a Scenario and return its Result, findings included."""
    from dataclasses import replace
    from importlib import import_module

    result = import_module("redsim.run.engine").run(scenario, seed=seed)
    return replace(result, findings=import_module("redsim.report.findings").findings(result))


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'redsim' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)
