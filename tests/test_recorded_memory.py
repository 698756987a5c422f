"""The recorded runs of memory, eviction and expiry graded as `redsim validate` grades live ones: their errors and their bars.

`python -m tests.test_recorded_memory` prints the tables. Each recording is one run, so that a row is within its bar or a miss;
the other tests of these recordings (test_memory_usage, test_server_memory, test_memory_pages, test_eviction_law,
test_expiry_law) ask more of them, by mechanism.
"""

import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import pytest

from redsim.lab.grade import error_pct, quantity_of
from redsim.redis.object import ALL, memory_usage
from tests import test_eviction_law, test_expiry_law
from tests.recorded_keys import recorded as recorded_keys
from tests.recorded_loads import SETTLING_NS, named, predicted_pages, predicted_used, recorded

SEEDS = (1, 2, 3)  # of the model's runs whose median stands beside a recorded eviction run


@dataclass(frozen=True)
class Graded:
    """One recorded figure beside the model's."""

    row: str
    quantity: str
    measured: float
    predicted: float

    @property
    def error_pct(self) -> float:
        """As redsim.lab.grade counts it: per cent of what was measured, or hundredths of a share."""
        return error_pct(self.measured, self.predicted, is_count=quantity_of(self.quantity).is_count)

    @property
    def is_within(self) -> bool:
        """Whether it is within the quantity's bar."""
        return abs(self.error_pct) <= quantity_of(self.quantity).bar_pct


@cache
def memory_usages() -> list[Graded]:
    """3,000 keys by encoding: how many are equal to the byte (a skiplist's nodes have random heights), and their mean."""
    ruled, keys = recorded_keys()
    made = [(record["enc"], record["mem"], memory_usage(record["key"].encode(), obj, ruled, ALL)) for record, obj in keys]
    rows = []
    for encoding, count in Counter(name for name, _, _ in made).items():
        mine = [(measured, predicted) for name, measured, predicted in made if name == encoding]
        if encoding != "skiplist":
            rows.append(Graded(encoding, "keys_exact", count, sum(measured == predicted for measured, predicted in mine)))
        means = [sum(column) / count for column in zip(*mine, strict=True)]
        rows.append(Graded(encoding, "bytes_per_key", means[0], means[1]))
    return rows


@cache
def dataset_memory() -> list[Graded]:
    """27 loads, settled: used_memory and RSS of the whole server."""
    rows = []
    for row in recorded()["loads"]:
        used, rss = predicted_used(row, SETTLING_NS), predicted_pages(row, SETTLING_NS).rss_bytes
        rows.append(Graded(named(row), "used_memory_bytes", row["settled"]["used_memory"], used))
        rows.append(Graded(named(row), "used_memory_rss_bytes", row["settled"]["used_memory_rss"], rss))
    return rows


@cache
def eviction() -> list[Graded]:
    """17 closed loops of GET and, if nil, SET against a full server; the model's is the median of SEEDS."""
    rows = []
    for pace in ("fast", "slow"):
        for row in test_eviction_law.RECORDED[pace]:
            name = f"{pace} {test_eviction_law.name_of(row)}"
            runs = [test_eviction_law.replayed(row, seed) for seed in SEEDS]
            rows.append(Graded(name, "hit_ratio", row["hit_ratio"], statistics.median(run.hit_ratio for run in runs)))
            rows.append(Graded(name, "evicted_keys", row["evicted_keys"], statistics.median(run.evicted for run in runs)))
    return rows


@cache
def expiry() -> list[Graded]:
    """8 mass expiries: when the last key was gone, and the time in active cycles."""
    rows = []
    for i, (name, row) in enumerate(zip(test_expiry_law.NAMES, test_expiry_law.ROWS, strict=True)):
        result = test_expiry_law.simulated(i)
        gone_ms = 1000 * (test_expiry_law.done_s(result) - row["window_s"])
        rows.append(Graded(name, "gone_after_ms", 1000 * (row["done_s"] - row["window_s"]), gone_ms))
        rows.append(Graded(name, "expire_cpu_ms", row["cycle_cpu_ms"], test_expiry_law.expiry(result)["cycle_ms"]))
    return rows


Table = Callable[[], list[Graded]]
TABLES: tuple[Table, ...] = (memory_usages, dataset_memory, eviction, expiry)
KNOWN_MISSES = {
    # three sets of 8 whose rehash needed a step more (test_memory_usage)
    "memory_usages": {"keys_exact": 1},
    # at zipf 1.2 one look-up in ten misses, so that 0.2 hundredths of hit ratio, one trace's luck, are 6 % of the evictions
    "eviction": {"evicted_keys": 6},
    # CPU: sampling keys that stay is taken for too dear (test_expiry_law), a cycle of hz 100 for too cheap by a tenth to a fifth;
    # the last keys wait for whole periods of the cron, so that its phase is a tenth of a second either way
    "expiry": {"expire_cpu_ms": 4, "gone_after_ms": 1},
}


def lines(rows: Iterable[Graded]) -> list[str]:
    """A table for people."""
    said = [f"{'':42}{'quantity':24}{'measured':>15}{'predicted':>15}{'error %':>10}{'bar':>6}"]
    for row in rows:
        bar = quantity_of(row.quantity).bar_pct
        shown = "15,.4f" if row.quantity == "hit_ratio" else "15,.0f"
        numbers = f"{row.measured:{shown}}{row.predicted:{shown}}{row.error_pct:10.2f}{bar:6g}"
        said.append(f"{row.row:42}{row.quantity:24}{numbers}{'' if row.is_within else '  miss'}")
    return said


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_recorded_figures_beyond_their_bar_are_the_known_ones(table: Table) -> None:
    """The lab's recordings of Redis 7.0.15; bars of redsim.lab.grade, each miss explained at KNOWN_MISSES."""
    missed = Counter(row.quantity for row in table() if not row.is_within)
    assert missed == KNOWN_MISSES.get(table.__name__, {}), lines(row for row in table() if not row.is_within)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_the_median_recorded_error_is_within_the_bar(table: Table) -> None:
    """The same; a miss here and there does not hide that most are met, nor the other way round."""
    errors: dict[str, list[float]] = {}
    for row in table():
        errors.setdefault(row.quantity, []).append(abs(row.error_pct))
    beyond = {name: size for name, mine in errors.items() if (size := statistics.median(mine)) > quantity_of(name).bar_pct}
    assert beyond == {}


if __name__ == "__main__":
    for table in TABLES:
        print(f"\n{table.__doc__}", *lines(table()), sep="\n")
