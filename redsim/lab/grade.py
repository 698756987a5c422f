"""The arithmetic of a verdict: what is compared, how far it may be off, and when the machine was too noisy to say.

A row shows the repeat whose error is the median of the repeats: a real measurement and the prediction made for it, so that
measured, predicted and error_pct agree to the digit. Repeats are compared by the ratio of the two, which a common drift of the
machine leaves alone. The noise of a row is how far one real run is off as a prediction of another of the same case: no model of
the case can be expected to come nearer than that.
NOT modelled: a confidence interval; three repeats give none.

pass          the error is within the bar, and real runs agree within the bar miss          the error is beyond the bar, and real
runs agree within the bar, or each is beyond it on the same side; for a tail
              that must be the upper side, since what disturbs a machine only lengthens tails
inconclusive  everything else: too few calm repeats, or real runs that differ by more than the bar. Never `pass` on noise.
"""

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from redsim.scenario.errors import did_you_mean

PASS, MISS, INCONCLUSIVE = "pass", "miss", "inconclusive"
COLUMNS = ("case", "quantity", "utilisation", "measured", "measured_spread", "predicted", "error_pct", "fitted", "verdict")
CALM_MIN = 2  # repeats: one alone has no spread
STEAL_MAX = 0.02  # of the run's time, taken by the machine under this one
QUEUED_MAX = 0.08  # of the run's time, the server ready and without a CPU
DRIFT_MAX = 0.25  # the yardstick before a run against the one after it
LATE_MAX = 0.5  # the generator's own lateness at p99, as a share of the latency p99 it measured
BUSY = 0.8  # utilisation above which tails are held to `bar_busy_pct`


@dataclass(frozen=True)
class Quantity:
    """What is compared: the bar in per cent of what was measured; 0 means equal."""

    says: str
    unit: str
    bar_pct: float
    bar_busy_pct: float | None = None  # above BUSY utilisation; None: the same
    is_count: bool = False  # a count or a share may be 0 and is off by whole ones, or by hundredths
    is_latency: bool = False  # spoilt by a generator that sends late
    is_tail: bool = False  # a machine's own stalls reach into it
    is_timeless: bool = False  # a machine's speed does not touch it, so that noise leaves it alone

    def bar(self, utilisation: float) -> float:
        """The bar in per cent at that utilisation of the main thread (0..1)."""
        return self.bar_busy_pct if self.bar_busy_pct is not None and utilisation >= BUSY else self.bar_pct


QUANTITIES: dict[str, Quantity] = {
    "throughput_per_s": Quantity("requests answered per second", "1/s", 5),
    "p50_us": Quantity("median latency", "µs", 10, is_latency=True),
    "p90_us": Quantity("90th percentile of latency", "µs", 15, 30, is_latency=True, is_tail=True),
    "p99_us": Quantity("99th percentile of latency", "µs", 20, 50, is_latency=True, is_tail=True),
    "p999_us": Quantity("99.9th percentile of latency", "µs", 40, 60, is_latency=True, is_tail=True),
    "stall_us": Quantity("how long the command held the loop, by SLOWLOG", "µs", 10),
    "queue_at_end": Quantity("requests outstanding when the stall ends", "requests", 15, is_count=True),
    "drained_after_us": Quantity("from the stall's end until at most three are outstanding", "µs", 30),
    "cpu_utilisation": Quantity("share of a core the main thread used", "of 1", 10),
    "cpu_us_per_command": Quantity("CPU of the main thread per command", "µs", 10),
    "commands_per_read": Quantity("commands found by one read()", "commands", 10),
    "usec_per_call": Quantity("commandstats' time per call", "µs", 10),
    "calls": Quantity("commandstats' number of calls", "calls", 0, is_count=True),
    "slowlog_entries": Quantity("entries in SLOWLOG", "entries", 0, is_count=True),
    "slowlog_in_order": Quantity("SLOWLOG entries whose commands come in the predicted order", "entries", 0, is_count=True),
    "timeouts": Quantity("attempts that timed out", "attempts", 20, is_count=True),
    "retries": Quantity("attempts made again", "attempts", 20, is_count=True),
    "failed": Quantity("requests that failed in the end", "requests", 20, is_count=True),
    "used_memory_bytes": Quantity("used_memory of the data set: keys, values, entries, tables", "bytes", 0.5, is_timeless=True),
    "used_memory_rss_bytes": Quantity("RSS of the filled server", "bytes", 5, is_timeless=True),
    "bytes_per_key": Quantity("mean MEMORY USAGE of sampled keys", "bytes", 0.5, is_timeless=True),
    "keys_exact": Quantity(
        "sampled keys with the predicted OBJECT ENCODING and MEMORY USAGE", "keys", 0, is_count=True, is_timeless=True
    ),
    "hit_ratio": Quantity("share of the look-ups that found their key, in hundredths", "of 1", 2, is_count=True),
    "evicted_keys": Quantity("keys evicted", "keys", 5, is_count=True),
    "keys_end": Quantity("keys at the end", "keys", 2, is_count=True),
    "expired_keys": Quantity("keys expired", "keys", 0, is_count=True, is_timeless=True),
    "gone_after_ms": Quantity("from the last key's time until none is left", "ms", 20),
    "expire_cpu_ms": Quantity("time in active expire cycles", "ms", 10),
    "aof_bytes_per_write": Quantity("bytes appended to the AOF per write command", "bytes", 0.5, is_timeless=True),
    "aof_delayed_fsync": Quantity("writes that waited two seconds for a fsync", "writes", 20, is_count=True),
    "fork_us": Quantity("how long fork() held the loop, latest_fork_usec", "µs", 10),
    "cow_bytes": Quantity("copy-on-write of the child, rdb_last_cow_size", "bytes", 10),
    "child_ms": Quantity("how long the child was at work", "ms", 20),
    "load_ms": Quantity("how long another server took to load the RDB file", "ms", 20),
    "rdb_bytes": Quantity("size of the RDB file", "bytes", 0.5, is_timeless=True),
    "sync_full": Quantity("full syncs", "syncs", 0, is_count=True, is_timeless=True),
    "sync_partial_ok": Quantity("partial resyncs", "syncs", 0, is_count=True, is_timeless=True),
    "sync_partial_err": Quantity("partial resyncs refused", "syncs", 0, is_count=True, is_timeless=True),
    "overflows": Quantity("full syncs begun in a loop of output buffer overflows", "syncs", 20, is_count=True),
    "stream_bytes_per_write": Quantity("growth of master_repl_offset per write command", "bytes", 0.1, is_timeless=True),
    "sync_ms": Quantity("a full sync, by the replica's log", "ms", 20),
    "transfer_ms": Quantity("of which the file is on its way", "ms", 20),
    "sync_load_ms": Quantity("of which it is loaded", "ms", 20),
    "failovers": Quantity("failovers whose leader was elected", "failovers", 0, is_count=True, is_timeless=True),
    "order_on_leader": Quantity("the leader's events in an order that the model has", "of 1", 0, is_count=True, is_timeless=True),
    "order_on_observers": Quantity(
        "the other Sentinels' events in an order that the model has", "of 1", 0, is_count=True, is_timeless=True
    ),
    "sdown_ms": Quantity("from the fault to the first +sdown", "ms", 10, is_timeless=True),
    "sdown_quorum_ms": Quantity("to the +sdown that makes the quorum", "ms", 10, is_timeless=True),
    "odown_ms": Quantity("to +odown", "ms", 10, is_timeless=True),
    "elected_ms": Quantity("to +elected-leader", "ms", 10, is_timeless=True),
    "promoted_ms": Quantity("to +promoted-slave", "ms", 10, is_timeless=True),
    "switch_ms": Quantity("to the first +switch-master, an observer's", "ms", 10, is_timeless=True),
    "switch_leader_ms": Quantity("to the leader's own +switch-master", "ms", 10, is_timeless=True),
    "demoted_ms": Quantity("to +convert-to-slave of the old master", "ms", 10, is_timeless=True),
    "outage_ms": Quantity("longest time between acknowledged writes of the client", "ms", 10, is_timeless=True),
    "lost_writes": Quantity("acknowledged writes that the last master lacks", "writes", 0, is_count=True, is_timeless=True),
}  # bars of memory: 0.5 % and 5 % of issue 4, 2 % of the design's goals; of what follows luck or the loop, as the loop's
# of Sentinels: recorded failovers of one setting lie within 1 to 10 % of their median (timers of random phase, no machine)
OF_A_COMMAND = ("usec_per_call", "calls")  # written `usec_per_call KEYS`


@dataclass(frozen=True)
class Repeat:
    """One measurement and the prediction made for it, by quantity; `noise` says why its figures are not to be trusted."""

    measured: dict[str, float]
    predicted: dict[str, float]
    utilisation: float
    noise: str = ""
    late: str = ""  # the same, for latencies only


@dataclass(frozen=True)
class Row:
    """A line of cases.csv, and why its verdict is what it is."""

    case: str
    quantity: str
    utilisation: float
    measured: float
    measured_spread: float
    predicted: float
    error_pct: float
    fitted: bool
    verdict: str
    kind: str = field(default="", compare=False)  # the kind of load, redsim.scenario.regime
    evidence: str = field(default="", compare=False)
    noise_pct: float = field(default=math.nan, compare=False)


def fault_of(quantity: str) -> str:
    """Why this is no quantity, as the end of a sentence; "" if it is one."""
    name, _, command = quantity.partition(" ")
    if name not in QUANTITIES:
        return f"is not a quantity{did_you_mean(name, QUANTITIES)}"
    if (name in OF_A_COMMAND) != bool(command):
        return f"names no command; write it like '{name} GET'" if not command else f"takes no command; write {name}"
    return ""


def quantity_of(quantity: str) -> Quantity:
    """The quantity by its name, with or without a command behind it."""
    return QUANTITIES[quantity.partition(" ")[0]]


def error_pct(measured: float, predicted: float, *, is_count: bool = False) -> float:
    """100 * (predicted - measured) / measured; a count is divided by 1 at least; nan where nothing was measured."""
    base = max(abs(measured), 1.0) if is_count else measured
    return 100 * (predicted - measured) / base if base > 0 and math.isfinite(measured) else math.nan


def noise_of(*, steal: float, drift: float, queued: float = 0.0) -> str:
    """Why a repeat is left out, "" if it is not; all are shares (0.02 is 2 %)."""
    said = []
    if steal > STEAL_MAX:
        said.append(f"{steal:.1%} of the time was taken by the machine underneath")
    if queued > QUEUED_MAX:
        said.append(f"the server was ready and had no CPU for {queued:.0%} of the time")
    if abs(drift) > DRIFT_MAX:
        said.append(f"the yardstick moved by {drift:+.0%} meanwhile")
    return " and ".join(said)


def lateness_of(late_p99_us: float, p99_us: float) -> str:
    """Why a repeat's latencies are left out: the generator sent late by a good part of what it measured."""
    if not math.isfinite(p99_us) or late_p99_us <= LATE_MAX * p99_us:
        return ""
    return f"the generator itself was {late_p99_us:.0f} µs late at p99"


def grade(case: str, quantity: str, repeats: Sequence[Repeat], *, fitted: bool = False, kind: str = "") -> Row:
    """The row of one quantity of one case; repeats that were noisy, or did not measure it, do not decide."""
    what = quantity_of(quantity)
    told = [r for r in repeats if math.isfinite(r.measured.get(quantity, math.nan))]
    calm = [r for r in told if what.is_timeless or (not r.noise and not (what.is_latency and r.late))]
    used = calm or told
    if not used:
        return Row(case, quantity, math.nan, math.nan, math.nan, math.nan, math.nan, fitted, INCONCLUSIVE, kind,
                   "no repeat measured it")  # fmt: skip
    ordered = sorted(used, key=lambda r: _error(r, quantity, what))
    middle = ordered[(len(ordered) - 1) // 2]
    errors = [_error(r, quantity, what) for r in ordered]
    spread = spread_pct(used, quantity, what)
    noise, bar = noise_pct(used, quantity, what), what.bar(middle.utilisation)
    verdict, evidence = verdict_of(errors, noise, bar, calm=len(calm), asked=len(repeats), is_tail=what.is_tail)
    reasons = sorted({r.noise or r.late for r in told if r not in calm})
    if reasons and verdict == INCONCLUSIVE:
        evidence = "; ".join([evidence, *reasons])
    return Row(
        case, quantity, round(middle.utilisation, 4), middle.measured[quantity], round(spread, 2),
        middle.predicted[quantity], round(_error(middle, quantity, what), 2), fitted, verdict, kind, evidence,
        round(noise, 2),
    )  # fmt: skip


def _error(repeat: Repeat, quantity: str, what: Quantity) -> float:
    found = error_pct(repeat.measured[quantity], repeat.predicted.get(quantity, math.nan), is_count=what.is_count)
    return found if math.isfinite(found) else math.inf


def spread_pct(repeats: Sequence[Repeat], quantity: str, what: Quantity) -> float:
    """Half the range of the repeats in per cent of their middle, drift taken out by each repeat's own prediction."""
    values = _at_one_speed(repeats, quantity, what)
    middle = sorted(values)[(len(values) - 1) // 2] if values else 0.0
    if middle <= 0:
        return 0.0 if values and max(values) == min(values) else 100.0
    return 100 * (max(values) - min(values)) / 2 / middle


def _at_one_speed(repeats: Sequence[Repeat], quantity: str, what: Quantity) -> list[float]:
    """What was measured, in units of what the model says at the speed that the machine had then; exact counts as they are."""
    if what.is_count and what.bar_pct == 0:
        return [r.measured[quantity] for r in repeats]
    return [r.measured[quantity] / r.predicted[quantity] for r in repeats if r.predicted.get(quantity, 0) > 0]


def noise_pct(repeats: Sequence[Repeat], quantity: str, what: Quantity) -> float:
    """How far two real runs differ: the median of |a - b| / b over every two of them, per cent, drift taken out as in
    spread_pct(); nan of fewer than two."""
    values = _at_one_speed(repeats, quantity, what)
    apart = [100 * (abs(a - b) / b if b else abs(a)) for a, b in itertools.permutations(values, 2)]
    return statistics.median(apart) if apart else math.nan


def verdict_of(
    errors: Sequence[float], noise: float, bar: float, *, calm: int, asked: int, is_tail: bool = False
) -> tuple[str, str]:
    """(verdict, evidence) of the errors of the repeats in rising order; see the module's note for the rule."""
    middle = errors[(len(errors) - 1) // 2]
    far = abs(middle) > bar
    if calm < CALM_MIN:
        return INCONCLUSIVE, f"{calm} of {asked} repeats were calm, {CALM_MIN} are needed"
    if far and (noise <= bar or min(errors) > bar or (max(errors) < -bar and not is_tail)):
        return MISS, f"off by {middle:+.1f} %, the bar is {bar:g} %"
    if not far and noise <= bar:
        return PASS, ""
    return INCONCLUSIVE, f"two real runs differ by {noise:.0f} %, the bar is {bar:g} %"
