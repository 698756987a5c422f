"""The yardstick: a server of our own that is measured for a quarter of a second before and after every case.

Two figures say how fast the machine is at this moment: CPU per command of 50 connections in a closed loop (the fit's own
reference point), and KEYS over 100,000 keys, which walks memory. Over what the profile was calibrated at they are the drift that
a prediction is made for. Differs from a calibration: nothing is fitted, a profile as a whole becomes faster or slower.
NOT modelled: costs that drift apart from both (a wake-up may).
"""

from dataclasses import dataclass

import numpy as np

from redsim.lab import fit_points, rig
from redsim.lab.fit import CAPACITY_OF, POINTS, simulate, twin
from redsim.lab.predicted import Drift
from redsim.run.kinds import curve_row
from redsim.scenario.profile import HostProfile

SECONDS = 0.25
WALKS = 5
POINT = next(point for point in POINTS if point.name == CAPACITY_OF)


@dataclass(frozen=True)
class Mark:
    """One reading: CPU µs per command, capacity in commands per second, and µs of a walk over all keys."""

    cpu_us: float
    per_s: float
    walk_us: float

    def over(self, reference: "Mark") -> Drift:
        """How much slower than the reference: 1.1 costs a tenth more."""
        return Drift(self.cpu_us / reference.cpu_us, self.walk_us / reference.walk_us)


class Yardstick:
    """Holds the server; a context manager."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._server = rig.start()
        self._turn = 0
        fit_points.fill(self._server, POINT.keys, POINT.value_bytes)

    def __enter__(self) -> "Yardstick":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    @property
    def version(self) -> str:
        """Of the redis-server measured."""
        return self._server.version

    def read(self) -> Mark:
        """One reading, a third of a second or so."""
        self._turn += 1
        row = fit_points.one(self._server, POINT, 0.0, self._seconds, self._turn)
        walks = []
        for _ in range(WALKS):
            before = self._server.sample()
            self._server.redis.keys("nomatch*")
            walks.append((self._server.sample() - before).usec["KEYS"][1])
        return Mark(
            row["cpu_us_per_command"], row["per_s"], float(sorted(walks)[1])
        )  # what interrupts a walk makes it longer only


def middle(marks: list[Mark]) -> Mark:
    """The median of each figure."""
    return Mark(*(float(np.median([getattr(mark, name) for mark in marks])) for name in ("cpu_us", "per_s", "walk_us")))


def reference(profile: HostProfile, measured: dict[str, float] | None) -> Mark:
    """What the yardstick read, or would have read, where the profile was made.

    `measured`: the fit's own figures of this point, where the profile keeps them; otherwise what the profile predicts for it. The
    walk is the profile's curve, that was measured.
    """
    told = measured or simulate(twin(POINT, 0.0), profile)
    walk_ns = np.interp(np.log2(POINT.keys), np.arange(42), np.log2(curve_row(profile.curves["keys_walk"])))
    return Mark(told["cpu_us_per_command"], told["per_s"], float(2**walk_ns) / 1000)
