"""Active defragmentation of a node of a scenario: whether its build can, and what it goes by.

Mirrors config.c:isValidActiveDefrag; the cycles are redis/defrag.py, the pages run/server_memory.py.
"""

from collections.abc import Callable

from redsim.records import LatencyEvent
from redsim.redis.defrag import ActiveDefrag, Fragments
from redsim.run.build import Built
from redsim.scenario.load import Scenario

__all__ = ["active_defrag"]


def active_defrag(scenario: Scenario, built: Built, look: Callable[[], Fragments]) -> ActiveDefrag | None:
    """That of the one server, None while activedefrag is off; `look` is asked for its fragments once a second."""
    conf = scenario.confs[built.node]
    if not conf.get("activedefrag"):
        return None
    cause = built.causes.index(str(LatencyEvent.ACTIVE_DEFRAG_CYCLE))
    return ActiveDefrag(conf, scenario.profiles[built.host], cause, look)
