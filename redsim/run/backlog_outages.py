"""How long a replica is away: outages as somebody writes them, and when its PSYNC is with the master again.

    5s   exponential:5s (mean)   lognormal:5s:1.2 (median, sigma)   uniform:1s:60s   file:outages.txt (a duration a line)

    link lost ..... link back .... next replicationCron .... TCP, PING, REPLCONF, PSYNC arrives
              outage          0 to 1 s                3.5 RTT

Mirrors replication.c: connectWithMaster at once when the link is lost, then by replicationCron each second; syncWithMaster (a
round trip of TCP and three of commands, the last half of which comes after the verdict). What was on its way when the link broke
is lost besides, half an RTT of it. Together: outage + the wait for the cron + 4 RTT.
Silent: packets are lost and nobody is told. TCP sends what was lost again after 200 ms, each time twice as long after the one
before; if that gets through before repl-timeout (60 s: the eighth try, after 51 s), nobody asks for anything. Otherwise the cron
finds more than repl-timeout in whole seconds and the replica connects, TCP repeating a lost SYN after 1, 2, 4, 8, 16 s [tcp-rto];
a second after one more repl-timeout it connects anew.
Measured: at a port that drops SYNs Redis 7.0.15 with repl-timeout 8 said `Timeout connecting` each 9.03 s. Linux 6.18 sends SYNs
at 0, 1, 2, 3, 4, 5, 7, 11, 19, 35 s (tcp_syn_linear_timeouts, since 6.5); the older times are used here, which come back later.
Not modelled: a replica whose loop is busy when the link is back.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from redsim.run.offsets import file_text
from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.units import MS, S, duration_ns

__all__ = ["Away", "Outages", "away", "parse_outages", "resent_until_ns"]

CRON_NS = S  # replication.c:replicationCron, once a second
HANDSHAKE_RTTS = 4  # from the last byte that arrived to PSYNC at the master: half an RTT, and three and a half
RTO_NS = 200 * MS  # net/tcp.h: TCP_RTO_MIN; a round trip comes on top
SYN_AT_NS = tuple(after * S for after in (0, 1, 3, 7, 15, 31))  # RFC 6298: one second, doubled each time
FORMS = {
    "exponential": "exponential:MEAN", "lognormal": "lognormal:MEDIAN:SIGMA", "uniform": "uniform:FROM:TO", "file": "file:PATH",
}  # fmt: skip
EXAMPLE = "write 5s, exponential:5s, lognormal:5s:1.2, uniform:1s:60s or file:outages.txt"
SIGMA_MAX = 5.0  # e^5: the 84th of 100 outages is 148 times the median
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Outages:
    """A distribution of durations. `kind`: always, exponential, lognormal, uniform, file; `a_ns`, `b`: its figures (uniform's end
    in ns, sigma of lognormal); `seen_ns`: a file's, in order of size."""

    said: str
    kind: str
    a_ns: int = 0
    b: float = 0.0
    seen_ns: tuple[int, ...] = ()

    def draw_ns(self, rng: np.random.Generator, count: int) -> Ints:
        """So many durations."""
        u = rng.random(count)
        if self.kind == "file":
            return np.array(self.seen_ns, dtype=np.int64)[(u * len(self.seen_ns)).astype(np.int64)]
        if self.kind == "uniform":
            return np.int64(self.a_ns) + (u * (self.b - self.a_ns)).astype(np.int64)
        if self.kind == "exponential":
            return (-np.log1p(-u) * self.a_ns).astype(np.int64)
        if self.kind == "lognormal":
            return (self.a_ns * np.exp(self.b * rng.standard_normal(count))).astype(np.int64)
        return np.full(count, self.a_ns, dtype=np.int64)

    def survival(self, ns: float) -> float:
        """P(outage > ns)."""
        if ns < 0:
            return 1.0
        if self.kind == "file":
            return sum(one > ns for one in self.seen_ns) / len(self.seen_ns)
        if self.kind == "uniform":
            return min(max((self.b - ns) / (self.b - self.a_ns), 0.0), 1.0)
        if self.kind == "exponential":
            return math.exp(-ns / self.a_ns)
        if self.kind == "lognormal":
            return 0.5 * math.erfc(math.log(ns / self.a_ns) / self.b / math.sqrt(2)) if ns > 0 else 1.0
        return float(self.a_ns > ns)

    def quantile_ns(self, share: float) -> int:
        """The duration that this share of outages does not exceed."""
        if self.kind == "file":
            return self.seen_ns[min(math.ceil(share * len(self.seen_ns)), len(self.seen_ns)) - 1]
        if self.kind == "uniform":
            return round(self.a_ns + share * (self.b - self.a_ns))
        if self.kind == "exponential":
            return round(-math.log1p(-share) * self.a_ns)
        if self.kind == "lognormal":
            return round(self.a_ns * math.exp(self.b * NormalDist().inv_cdf(share)))
        return self.a_ns

    def notes(self) -> list[str]:
        """What a reader must know of it."""
        if not self.seen_ns:
            return []
        n = len(self.seen_ns)
        return [f"{self.said} holds {n} outages: the next one is longer than all of them once in {n + 1} times; none is drawn so"]


def parse_outages(text: str, option: str = "--outage") -> Outages:
    """ScenarioError, with the option or the file's line, for what is no distribution of durations."""
    kind, *words = text.split(":") if ":" in text else ["always", text]
    if kind == "file":
        return Outages(text, "file", seen_ns=_read(Path(text.partition(":")[2]), option))
    wanted = {"always": 1, "exponential": 1, "lognormal": 2, "uniform": 2}
    if kind not in wanted or len(words) != wanted[kind]:
        form = f"write it {FORMS[kind]}" if kind in FORMS else EXAMPLE + did_you_mean(kind, FORMS)
        raise ScenarioError(f"{option} {text}: not a distribution of durations; {form}")
    a_ns = _duration(words[0], f"{option} {text}")
    if kind == "lognormal":
        return Outages(text, kind, a_ns, _sigma(words[1], f"{option} {text}"))
    if kind == "uniform":
        b_ns = _duration(words[1], f"{option} {text}")
        if b_ns <= a_ns:
            raise ScenarioError(f"{option} {text}: {words[1]} is not longer than {words[0]}; write uniform:FROM:TO")
        return Outages(text, kind, a_ns, float(b_ns))
    return Outages(text, kind, a_ns)


def _duration(text: str, place: str) -> int:
    try:
        ns = duration_ns(text)
    except ValueError as error:
        raise ScenarioError(f"{place}: {error}") from None
    if ns <= 0:
        raise ScenarioError(f"{place}: a duration of {text} is no outage; write 5s, say")
    return ns


def _sigma(text: str, place: str) -> float:
    try:
        sigma = float(text)
    except ValueError:
        sigma = math.nan
    if not 0 < sigma <= SIGMA_MAX:
        raise ScenarioError(f"{place}: sigma {text!r} is not a number above 0 and up to {SIGMA_MAX:g}; it is the logarithm's")
    return sigma


def _read(path: Path, option: str) -> tuple[int, ...]:
    found = []
    for number, line in enumerate(file_text(path, option).splitlines(), 1):
        word = line.split("#")[0].strip()
        if word:
            found.append(_duration(word, f"{path}:{number}"))
    if not found:
        raise ScenarioError(f"{option} file:{path}: the file holds no duration; write one a line, such as 2.5s")
    return tuple(sorted(found))


@dataclass(frozen=True)
class Away:
    """For each outage: ns from the last byte that arrived until PSYNC is with the master, and whether there is a PSYNC at all:
    not where an outage is `unasked_ns` or shorter."""

    ns: Ints
    asks: npt.NDArray[np.bool_]
    longer_ns: int  # than the outage, at most
    unasked_ns: int


def away(outages_ns: Ints, rng: np.random.Generator, rtt_ns: int, silent_for_ns: int = 0) -> Away:
    """`silent_for_ns`: repl-timeout, where an outage is silent; 0: both ends see the link break."""
    phase = (rng.random(len(outages_ns)) * CRON_NS).astype(np.int64)
    shake = HANDSHAKE_RTTS * rtt_ns
    if not silent_for_ns:
        return Away(outages_ns + phase + shake, np.ones(len(outages_ns), dtype=bool), CRON_NS + shake, 0)
    last_io = (rng.random(len(outages_ns)) * S).astype(np.int64)  # into a second of the clock that is read in whole ones
    noticed = silent_for_ns + S + phase - last_io
    tried = np.array([at for at in SYN_AT_NS if at < silent_for_ns] + [silent_for_ns + CRON_NS], dtype=np.int64)
    since = np.maximum(outages_ns - noticed, 0)
    rest = since % tried[-1]
    back = noticed + since - rest + tried[np.searchsorted(tried, rest)]
    lasts = resent_until_ns(rtt_ns, silent_for_ns)
    longer = max(int(np.diff(tried).max()), silent_for_ns + S + CRON_NS - lasts) + shake
    return Away(back + shake, outages_ns > lasts, longer, lasts)


def resent_until_ns(rtt_ns: int, within_ns: int) -> int:
    """When TCP sends a lost segment again for the last time within `within_ns`, from the first time on; 0: not once.

    >>> resent_until_ns(0, 60 * S) / S
    51.0
    """
    last = 0
    while 2 * last + RTO_NS + rtt_ns <= within_ns:
        last = 2 * last + RTO_NS + rtt_ns
    return last
