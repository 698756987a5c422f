"""What a build has to know of the crashes ahead: when the loop stops for them, what is remembered, what they are called.

Mirrors nothing in Redis; the crashes themselves are run/crash.py.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from redsim.dataplane import layout as dp
from redsim.dataplane.events import NEVER
from redsim.records import LatencyEvent
from redsim.run.kinds import KindMaker
from redsim.scenario.crashes import CRASHES, HOST_CRASHES, faults_of

__all__ = ["CrashPlan", "plan_crashes"]

LOADING = "loading"  # the cause
UNDO_ROWS = 1 << 18  # of the log, beside two for each key: a FLUSHALL remembers all of them


@dataclass(frozen=True)
class CrashPlan:
    """`events`: (ns, what, argument) of each death; `load_cause`: what loading is blamed as; `has_undo`: keys are remembered."""

    events: list[tuple[int, int, int]] = field(default_factory=list)
    load_cause: int = dp.NONE
    has_undo: bool = False

    @property
    def first_ns(self) -> int:
        """When the first one is, NEVER without any."""
        return min((at for at, _, _ in self.events), default=int(NEVER))

    def undo_log(self, keys: int) -> dp.I64:
        """The World's log of what keys were, empty; pages that are never written take no memory."""
        return np.zeros((UNDO_ROWS + 2 * keys if self.has_undo else 1, dp.U_SIZE), dtype=np.int64)


def plan_crashes(file: Any, node: str, maker: KindMaker, aof: dp.I64) -> CrashPlan:
    """The deaths of the node and causes that only a world with faults has; its aof row is told. `file`: a ScenarioFile."""
    faults = faults_of(file, node)
    if any(fault.fault == "pause" for fault in faults):
        maker.cause(str(LatencyEvent.PROCESS_STOPPED))
    deadly = [fault for fault in faults if fault.fault in CRASHES]
    if not deadly:
        return CrashPlan()
    aof[dp.A_FEED] = 1
    aof[dp.A_UNDO] = int(aof[dp.A_POLICY] != dp.AOF_OFF)
    events = [(fault.at, dp.EV_CRASH, int(fault.fault in HOST_CRASHES)) for fault in deadly]
    return CrashPlan(events, maker.cause(LOADING), bool(aof[dp.A_UNDO]))
