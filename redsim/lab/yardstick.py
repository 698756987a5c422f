"""The yardstick: a server of our own that is measured for half a second before and after every case.

It says how fast the machine is these minutes: CPU per command under two of the fit's own loads (50 connections closed, and open
at half of the capacity), and KEYS over 100,000 keys, which walks memory. Over what the profile was calibrated at they are the
drift that a prediction is made for. A single reading is mostly noise (on the development machine one says nothing of the next:
their autocorrelation is 0.1), so the drift of a case is the median of the readings AROUND on each side of it.
Each reading also tells how far the machine is from itself: the walk, and a script of constant work, on a server that does nothing
else, one after the other.
Differs from a calibration: nothing is fitted, a profile as a whole becomes faster or slower.
NOT modelled: costs that drift apart from these (a wake-up may).
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from redsim.lab import fit_points, rig
from redsim.lab.fit import CAPACITY_OF, POINTS, simulate, twin
from redsim.lab.predicted import Drift
from redsim.scenario.profile import HostProfile

LOADS = {"closed_us": (CAPACITY_OF, 0.2), "open_us": ("50 connections at 50 %", 0.2)}
AROUND = 10
POINT = {name: next(p for p in POINTS if p.name == point) for name, (point, _) in LOADS.items()}
WALKS = 5
SCRIPT = "for i=1,500000 do end return 1"  # some 2 ms of CPU, no memory
OPEN_PER_S = 50_000.0  # where the profile does not say at which rate it was fitted


@dataclass(frozen=True)
class Mark:
    """One reading: CPU µs per command under the two loads, µs of a walk over all keys, capacity in commands per second.

    `*_apart_pct`: how far a walk, and a script of constant work, was from the one before it.
    """

    closed_us: float
    open_us: float
    walk_us: float
    per_s: float
    walk_apart_pct: float = math.nan
    script_apart_pct: float = math.nan


def drift(marks: Sequence[Mark], reference: Mark) -> Drift:
    """How much slower than the reference, by the median of the readings: 1.1 costs a tenth more."""
    now = middle(marks)
    ratios = [math.log(getattr(now, name) / getattr(reference, name)) for name in LOADS]
    walk_ns = round(1000 * reference.walk_us / POINT["closed_us"].keys, 1)
    return Drift(round(math.exp(sum(ratios) / len(ratios)), 4), round(now.walk_us / reference.walk_us, 4), walk_ns)


def middle(marks: Sequence[Mark]) -> Mark:
    """The median of each figure."""
    return Mark(*(float(np.median([getattr(mark, name) for mark in marks])) for name in Mark.__dataclass_fields__))


class Yardstick:
    """Holds the server; a context manager. `open_per_s`: the rate of the open load."""

    def __init__(self, open_per_s: float) -> None:
        self._server = rig.start()
        self._open_per_s, self._turn = open_per_s, 0
        fit_points.fill(self._server, POINT["closed_us"].keys, POINT["closed_us"].value_bytes)

    def __enter__(self) -> "Yardstick":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    @property
    def version(self) -> str:
        """Of the redis-server measured."""
        return self._server.version

    def read(self) -> Mark:
        """One reading, two thirds of a second or so."""
        self._turn += 1
        rows = {
            name: fit_points.one(self._server, POINT[name], self._open_per_s, seconds, self._turn)
            for name, (_, seconds) in LOADS.items()
        }
        walks = self._times_us("KEYS", lambda: self._server.redis.keys("nomatch*"))
        scripts = self._times_us("EVAL", lambda: self._server.redis.eval(SCRIPT, 0))
        cpu_us = {name: row["cpu_us_per_command"] for name, row in rows.items()}
        return Mark(
            **cpu_us, walk_us=float(sorted(walks)[1]),  # interruptions only lengthen a walk
            per_s=rows["closed_us"]["per_s"], walk_apart_pct=apart_pct(walks), script_apart_pct=apart_pct(scripts),
        )  # fmt: skip

    def _times_us(self, name: str, call: Callable[[], object]) -> list[int]:
        """µs inside command `name` of each of WALKS calls, one after the other."""
        times = []
        for _ in range(WALKS):
            before = self._server.sample()
            call()
            times.append((self._server.sample() - before).usec[name][1])
        return times


def apart_pct(times: Sequence[float]) -> float:
    """How far the same work is from itself, per cent: the median of |a - b| / b over neighbours; nan of fewer than two."""
    pairs = [pair for one in itertools.pairwise(times) for pair in (one, one[::-1])]
    return float(np.median([100 * abs(a - b) / max(b, 1e-9) for a, b in pairs])) if pairs else math.nan


def open_rate(profile: HostProfile) -> float:
    """The rate that the profile was fitted at with its open load."""
    rates = profile.fit.get("rates_per_s", {}) if isinstance(profile.fit, dict) else {}
    return float(rates.get(POINT["open_us"].name, OPEN_PER_S))


def reference(profile: HostProfile, open_per_s: float, marks: Sequence[Mark]) -> Mark:
    """What the yardstick read where the profile was made, or what the profile predicts for it where that was not kept, or was
    taken at another rate than `open_per_s`.

    The walk's is what a yardstick read while the profile's curves were taken, or else the median of all `marks`: it walks again
    and again over what it has just walked, the curves were taken between others' commands, so it is compared with itself only.
    """
    fitted = profile.fit if isinstance(profile.fit, dict) else {}
    told = fitted.get("points", [])
    figures: dict[str, float] = {}
    for name, point in POINT.items():
        kept = {row["quantity"]: float(row["measured"]) for row in told if row["point"] == point.name}
        is_told = {"cpu_us_per_command", "per_s"} <= set(kept) and (point.share is None or open_rate(profile) == open_per_s)
        found = kept if is_told else simulate(twin(point, open_per_s), profile)
        figures[name] = found["cpu_us_per_command"]
        if name == "closed_us":
            figures["per_s"] = found["per_s"]
    return Mark(**figures, walk_us=float(fitted.get("walk_us") or middle(marks).walk_us))
