"""How disturbed the machine was during a measurement, and measuring again when it was.

Disturbance is the share of the time in which some task wanted a CPU and had none (Linux' pressure file, when it has one) plus
what the hypervisor kept for itself (steal). A server and a generator on a core each wait for nobody, so whatever there is comes
from others. Differs: says nothing about caches and memory bandwidth that others use.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from redsim.lab.rig import cpu_count, steal_ns
from redsim.units import US

T = TypeVar("T")

CALM = 0.04  # a run is taken as it is below this
PAUSE_S = 0.3  # before trying again
PRESSURE = Path("/proc/pressure/cpu")


def waited_ns() -> int:
    """Time since the machine started in which a task waited for a CPU, plus steal per CPU; 0 where Linux does not say."""
    try:
        some = PRESSURE.read_text().split("total=", 1)[1].split()[0]
    except (OSError, IndexError):
        some = "0"
    return int(some) * US + max(steal_ns(), 0) // max(cpu_count(), 1)


def disturbance(run: Callable[[], T]) -> tuple[T, float]:
    """What `run` gives, and the disturbed share of the time it took."""
    waited, started = waited_ns(), time.monotonic_ns()
    result = run()
    return result, (waited_ns() - waited) / max(time.monotonic_ns() - started, 1)


def calmest(run: Callable[[], T], tries: int = 4, limit: float = CALM) -> tuple[T, float]:
    """The first run that was disturbed for less than `limit` of its time, or of `tries` the calmest; and its disturbed share."""
    best: tuple[T, float] | None = None
    for _ in range(max(tries, 1)):
        result, share = disturbance(run)
        if best is None or share < best[1]:
            best = (result, share)
        if share < limit:
            break
        time.sleep(PAUSE_S)
    assert best is not None
    return best
