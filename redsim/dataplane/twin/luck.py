"""The twin's random numbers: the same streams as draws.py, on Python's own integers and floats.

Mirrors: splitmix64 [splitmix-2014], the alias method [vose-1991], zipf by buckets and rejection. Differs: integers have no width
here, so what would overflow there does not here, and shows.
"""

import math
from dataclasses import dataclass, field

from redsim.dataplane import layout as dp

WORD = (1 << 64) - 1


def bits_of(z: int) -> int:
    """The 64 bits that a state stands for."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


@dataclass(slots=True)
class Stream:
    """One splitmix64 stream: `state` and its odd `step`."""

    state: int
    step: int

    def bits(self) -> int:
        """The next 64 bits."""
        self.state = (self.state + self.step) & WORD
        return bits_of(self.state)

    def below(self, n: int) -> int:
        """Uniform in 0..n-1, from the upper 32 bits."""
        return ((self.bits() >> 32) * n) >> 32

    def exponential(self) -> float:
        """-ln u for u in (0, 1], with the polynomial of draws.py."""
        m, e = math.frexp(float((self.bits() >> 11) + 1) / 2.0**53)
        if m < 0.7071067811865476:
            m, e = 2.0 * m, e - 1
        t = (m - 1.0) / (m + 1.0)
        q = t * t
        series = 0.0
        for odd in (13, 11, 9, 7, 5, 3):
            series = q * (1 / odd + series)
        return -(2.0 * t * (1.0 + series) + e * 0.6931471805599453)

    def alias(self, table: list[list[int]]) -> int:
        """Row of an alias table, whose rows begin with a threshold out of 2**32 and an alias."""
        u = self.bits()
        row = ((u >> 32) * len(table)) >> 32
        return row if u & 0xFFFFFFFF < table[row][0] else table[row][1]


def below_ns(luck: Stream, n: int) -> int:
    """Uniform in 0..n-1; the generator's 32 bits count microseconds, or more, where nanoseconds would be too many for them."""
    unit = next(unit for unit in (1, 10**3, 10**6, 10**9) if n // unit < 2**32)
    return unit * luck.below(n // unit)


@dataclass(slots=True)
class Sizes:
    """A size distribution: constant, 1024 quantiles with 1024 more of the last one, or a table of weights."""

    form: int
    value: int
    quantiles: list[int]
    table: list[list[int]]
    values: list[int]

    def draw(self, stream: Stream) -> int:
        if self.form == dp.DIST_CONSTANT:
            return self.value
        if self.form == dp.DIST_ALIAS:
            return self.values[stream.alias(self.table)]
        u = stream.bits()
        step, rest = u >> 54, (u >> 22) & 0xFFFFFFFF
        if step == 1023:
            step, rest = 1025 + ((u >> 44) & 1023), (u >> 12) & 0xFFFFFFFF
        low, high = self.quantiles[step], self.quantiles[step + 1]
        return low + (((high - low) * rest) >> 32)


def alias_rows(tab: list[int], at: int, n: int, width: int = 2) -> list[list[int]]:
    """`n` rows of `width` words of the World's tables."""
    return [tab[at + width * i : at + width * (i + 1)] for i in range(n)]


def read_sizes(tab: list[int], form: int, at: int, n: int) -> Sizes:
    """The distribution as the tables of a World hold it."""
    if form == dp.DIST_CONSTANT:
        return Sizes(form, at, [], [], [])
    if form == dp.DIST_QUANTILE:
        return Sizes(form, 0, tab[at : at + 2050], [], [])
    return Sizes(form, 0, [], alias_rows(tab, at, n), tab[at + 2 * n : at + 3 * n])


@dataclass(slots=True)
class Popularity:
    """Which key of its data set (0..n-1) a group asks for next."""

    form: int
    n: int
    hot: int = 0
    hot_share: int = 0  # out of 2**32
    exponent: float = 0.0
    buckets: list[list[int]] = field(default_factory=list)  # threshold, alias, first rank, width, sure acceptance
    last: int = -1

    def draw(self, stream: Stream) -> int:
        if self.form == dp.POP_UNIFORM:
            return stream.below(self.n)
        if self.form == dp.POP_SEQUENTIAL:
            self.last = (self.last + 1) % self.n
            return self.last
        if self.form == dp.POP_HOTSET:
            if self.hot > 0 and (self.hot >= self.n or stream.bits() >> 32 < self.hot_share):
                return stream.below(self.hot)
            return self.hot + stream.below(self.n - self.hot)
        rank = self._rank(stream)
        return self.n - 1 - rank if self.form == dp.POP_LATEST else rank

    def _rank(self, stream: Stream) -> int:
        bucket = stream.alias(self.buckets)
        _, _, first, width, sure = self.buckets[bucket]
        while True:
            u = stream.bits()
            rank, test = first + (((u >> 32) * width) >> 32), u & 0xFFFFFFFF
            if test < sure or test < 4294967296.0 * ((first + 1.0) / (rank + 1.0)) ** self.exponent:
                return rank
