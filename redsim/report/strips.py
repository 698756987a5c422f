"""A strip of runs: each a dot, the middle nine tenths as a bar, the median and where it lies with 95 % confidence.

Mirrors nothing in Redis. The dots are spread over the strip's height in the order of the runs, by nothing else.
NOT modelled: nothing is computed about a server here.
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from redsim.report.style import BLUE, GREY, ORANGE, PALE
from redsim.run.confidence import median_between, tenths

__all__ = ["HOW_TO_READ", "name_rows", "strip"]

HOW_TO_READ = (
    "Each dot is one run with a seed of its own. The bar is where nine tenths of the runs lie (p5 to p95), the thick line their "
    "median, the whiskers around it where the true median lies with 95 % confidence."
)
GOLDEN = 0.618  # neighbours in a row of its multiples lie far apart


def strip(ax: Axes, at: float, values: Sequence[float], colour: str = BLUE) -> None:
    """Runs at the height `at`, which is one wide."""
    p5, median, p95 = tenths(values)
    low, high = median_between(values)
    ax.barh(at, p95 - p5, left=p5, height=0.62, color=PALE, zorder=1)
    heights = at + 0.5 * (np.arange(len(values)) * GOLDEN % 1 - 0.5)
    ax.plot(values, heights, linestyle="", marker="o", markersize=2.6, color=colour, alpha=0.6, markeredgewidth=0, zorder=2)
    ax.plot([median, median], [at - 0.36, at + 0.36], color=ORANGE, linewidth=2.6, zorder=4, solid_capstyle="butt")
    if not math.isnan(low):
        ax.plot([low, high], [at, at], color=GREY, linewidth=1.4, marker="|", markersize=7, zorder=3)


def name_rows(ax: Axes, texts: Sequence[str]) -> None:
    """The heights 0, 1, … are strips of these names, from the foot up."""
    ax.set_yticks(range(len(texts)), list(texts))
    ax.set_ylim(-0.6, len(texts) - 0.4)
    ax.grid(axis="x", color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
