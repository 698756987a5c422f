"""Rows of what a real server measured beside what the model makes of it: how far off, how far that may be, as a table.

`misses`: (section, case, quantity) -> (widest ratio allowed, why it is missed). What is not in it is held to the row's own bound.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BOUND = 1.6
Misses = dict[tuple[str, str, str], tuple[float, str]]


@dataclass(frozen=True)
class Row:
    """One number, measured and simulated."""

    section: str
    case: str
    quantity: str
    measured: float
    simulated: float
    bound: float = BOUND

    @property
    def ratio(self) -> float:
        return self.simulated / self.measured

    def factor(self) -> float:
        """How far off, as a factor of at least 1."""
        return max(self.ratio, 1 / self.ratio) if self.simulated > 0 else float("inf")

    def is_hit(self) -> bool:
        return self.factor() <= self.bound

    def allowed(self, misses: Misses) -> float:
        return max(self.bound, misses.get((self.section, self.case, self.quantity), (0.0, ""))[0])

    def line(self, misses: Misses) -> str:
        known = misses.get((self.section, self.case, self.quantity), (0.0, "not known before"))[1]
        why = "" if self.is_hit() else f"  MISS: {known}"
        numbers = f"{self.measured:>12,.2f}{self.simulated:>12,.2f}{self.ratio:>7.2f}"
        return f"{self.section:16}{self.case:16}{self.quantity:20}{numbers}{why}"


def lines_of(rows: list[Row], misses: Misses) -> Iterator[str]:
    """The rows as a table, then how many are hits."""
    yield f"{'':16}{'':16}{'':20}{'measured':>12}{'simulated':>12}{'ratio':>7}"
    yield from (row.line(misses) for row in rows)
    middle = np.median([row.factor() for row in rows])
    yield f"{sum(row.is_hit() for row in rows)} of {len(rows)} within their bound; median factor {middle:.3f}"
