"""Arrival rates that change: schedules, diurnal curves, MMPP, as rows the data plane switches to at planned times.

Mirrors: piecewise-constant Poisson (exact, the process is memoryless), a sine in 288 steps a period, a Markov-modulated
Poisson process [fischer-1993] whose states follow each other in the order given.
"""

import math
from dataclasses import dataclass, field

from redsim.scenario.schema import Group, Open

STEPS = 288  # five minutes of a day
NEVER_PS = 2**62


@dataclass
class Rates:
    """`rows`: (group, mean ps between batches, mean stay ns or 0, next row); `planned`: (time ns, row)."""

    rows: list[tuple[int, int, int, int]] = field(default_factory=list)
    planned: list[tuple[int, int]] = field(default_factory=list)

    def add(self, group: int, mean_ps: int, stay_ns: int = 0, then: int = 0) -> int:
        """Number of the new row."""
        self.rows.append((group, mean_ps, stay_ns, then))
        return len(self.rows) - 1


def mean_ps(rate_per_s: float, pipeline: int) -> int:
    """Mean time between two pipelines at so many commands per second."""
    return round(1e12 * pipeline / rate_per_s) if rate_per_s > 0 else NEVER_PS


def plan_rates(rates: Rates, g: int, opened: Open, group: Group, duration_ns: int) -> None:
    """Rows and planned changes of open group `g`; nothing for a constant rate or bursts."""
    if opened.schedule is not None:
        for point in opened.schedule:
            rates.planned.append((group.start + point.at, rates.add(g, mean_ps(point.rate_per_s, group.pipeline))))
    elif opened.diurnal is not None:
        period = opened.diurnal.period
        step = max(period // STEPS, 1)
        half = (opened.diurnal.high_per_s - opened.diurnal.low_per_s) / 2
        sine = [half * (1 - math.cos(2 * math.pi * (i + 0.5) / STEPS)) for i in range(STEPS)]
        level = [rates.add(g, mean_ps(opened.diurnal.low_per_s + extra, group.pipeline)) for extra in sine]
        steps = min((duration_ns - group.start) // step + 1, 100_000)
        rates.planned += [(group.start + i * step, level[i % STEPS]) for i in range(max(steps, 0))]
    elif opened.mmpp is not None:
        first = len(rates.rows)
        n = len(opened.mmpp.rates_per_s)
        for i, (rate, stay) in enumerate(zip(opened.mmpp.rates_per_s, opened.mmpp.stay, strict=True)):
            rates.add(g, mean_ps(rate, group.pipeline), stay, first + (i + 1) % n)
        rates.planned.append((group.start, first))
