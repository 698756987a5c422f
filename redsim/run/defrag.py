"""Active defragmentation of a node of a scenario: whether its build can, and what it goes by.

Mirrors config.c:isValidActiveDefrag; the cycles are redis/defrag.py, the pages run/server_memory.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from redsim.records import LatencyEvent
from redsim.redis.defrag import ActiveDefrag, Fragments
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario

if TYPE_CHECKING:
    from redsim.run.build import Built

__all__ = ["active_defrag", "has_defrag"]


def active_defrag(scenario: Scenario, built: Built, look: Callable[[], Fragments]) -> ActiveDefrag | None:
    """That of the one server, None while activedefrag is off; `look` is asked for its fragments once a second."""
    conf = scenario.confs[built.node]
    if not conf.get("activedefrag"):
        return None
    cause = built.causes.index(str(LatencyEvent.ACTIVE_DEFRAG_CYCLE))
    return ActiveDefrag(conf, scenario.profiles[built.host], cause, look)


def has_defrag(scenario: Scenario, node: str) -> bool:
    """Whether activedefrag is on; config.c:isValidActiveDefrag refuses it without Redis' own jemalloc."""
    is_on, allocator = bool(scenario.confs[node].get("activedefrag")), scenario.file.nodes[node].allocator
    if is_on and allocator != "jemalloc":
        raise ScenarioError(
            f"{scenario.where('nodes', node, 'allocator')}: activedefrag yes with allocator {allocator!r}: Redis refuses it"
            " without its own modified jemalloc; use allocator: jemalloc, or activedefrag no"
        )
    return is_on
