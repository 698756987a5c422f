"""fork(2) and the pages written after it, against published times and closed formulas."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from redsim.dataplane import layout as dp
from redsim.host.fork import fork_costs, fork_ns, page_tables_bytes, refusal, victim
from redsim.scenario.linux import Linux
from redsim.scenario.profile import load_profile
from redsim.units import GIB, MIB, MS, S
from tests.small_worlds import Run, clients, node, scenario, steady, world_of

# Redis repository, doc/RedisBigData.html: MB -> seconds of fork, one host.
BIG_DATA = {
    1000: 0.059, 10_000: 0.460, 20_000: 0.895, 30_000: 1.327, 40_000: 1.759, 50_000: 2.190, 60_000: 2.621, 70_000: 3.051,
    80_000: 3.483, 90_000: 3.911, 100_000: 4.340, 110_000: 4.770, 120_000: 5.202,
}  # fmt: skip
GB = 10**9


def test_a_line_through_forks_at_10_and_20_gb_predicts_120_gb() -> None:
    """[redis-big-data]: page tables are copied in proportion to what is mapped; 1 % off at six times the size."""
    slope = (BIG_DATA[20_000] - BIG_DATA[10_000]) / 10_000
    fixed = BIG_DATA[10_000] - 10_000 * slope
    costs = fork_costs(load_profile("default", Path()), Linux(), False)
    costs = replace(costs, fork_ns=round(fixed * S), per_mib_ns=round(slope * S * MIB / 1e6))
    for mb in (mb for mb in BIG_DATA if mb > 20_000):
        assert fork_ns(costs, mb * 10**6) / S == pytest.approx(BIG_DATA[mb], rel=0.01)


@pytest.mark.parametrize(
    ("name", "gb", "ms"),
    [("vmware-2012", 6.0, 77), ("xeon-e5520-2010", 6.9, 62), ("kvm-2012", 0.36, 8.2), ("ec2-xen-2012", 6.1, 1460),
     ("ec2-hvm-2013", 1.0, 10), ("linode-2048", 0.9, 382), ("ec2-c7g-2xlarge", 5.0, 89)],
)  # fmt: skip
def test_published_hosts_fork_as_published(name: str, gb: float, ms: float) -> None:
    """Redis documentation, latency page; Valkey issue 2767. Exact but for the rounding of ns per MiB, and GB for GiB."""
    costs = fork_costs(load_profile(name, Path()), Linux(), False)
    assert fork_ns(costs, round(gb * GIB)) / MS == pytest.approx(ms, rel=0.05) or fork_ns(
        costs, round(gb * GB)
    ) / MS == pytest.approx(ms, rel=0.05)


def test_page_tables_of_24_gib_take_48_mib() -> None:
    """Redis documentation: exact for pages of 4 KiB; 512 times less for huge ones."""
    assert page_tables_bytes(24 * GIB) == 48 * MIB
    assert page_tables_bytes(24 * GIB, True) == 96 * 1024


def test_overcommit_refuses_as_linux_does() -> None:
    """vm.overcommit_memory: 1 never refuses, 2 what could not all be written, 0 what is larger than all memory since 5.2 and
    what is larger than what is free before."""
    for mode, linux, rss, refused in ((1, "6.1", 100, False), (2, "6.1", 26, True), (2, "6.1", 24, False), (0, "6.1", 99, False),
                                      (0, "6.1", 101, True), (0, "4.19", 51, True), (0, "4.19", 49, False)):  # fmt: skip
        assert refusal(Linux(overcommit_memory=mode, linux=linux), 100 * GIB, rss * GIB, 0) == refused, (mode, linux, rss)


def test_the_oom_killer_takes_the_server_unless_told_otherwise() -> None:
    """mm/oom_kill.c: the larger; before 5.1 a child in the place of its parent; oom-score-adj raises the child's score."""
    assert victim(Linux(), "no") == "parent"
    assert victim(Linux(), "yes") == "child"
    assert victim(Linux(linux="4.19"), "no") == "child"


# ---- pages ---------------------------------------------------------------------------------------------------------------


def writing(rate: int, popularity: str, *, keys: int = 20_000, value: int = 4000, more: str = "", host: str = "") -> Run:
    """SETs while a child that takes seconds is alive from 0.1 s on; the run ends before it does."""
    body = (
        f"hosts: {{box: {{profile: default, disk: {{bytes_per_s: 1mb}}{host}}}}}\nduration: 1100ms\n"
        + node(more, "7.0")
        + f"datasets: {{users: {{node: main, keys: {keys}, key_bytes: 16, value_bytes: {value}}}}}\n"
        + clients(steady("api", f"{{open: {{rate_per_s: {rate}}}}}", command="{SET: 1}",
                         more=f", keys: {{dataset: users, popularity: {popularity}}}, start: 200ms"))
        + "timeline: [{at: 100ms, run: BGSAVE, node: main}]\n"
    )  # fmt: skip
    return world_of(scenario(body))


@pytest.mark.parametrize("popularity", ["uniform", "{zipf: 0.99}"])
def test_copied_pages_follow_the_coupon_collector(popularity: str) -> None:
    """Uniform writes: N(1 - (1 - 1/N)^w) keys written at least once [kolchin-1978]; zipf: the sum of 1 - e^(-w p_i). Values
    of 4096 bytes have a page each; 170 entries and 256 robjs share one. The count is exact, the law an expectation: 3 %."""
    run = writing(6000, popularity)
    n, w = 20_000, int(run.w.kind[:, dp.K_CALLS].max())
    p = np.full(n, 1 / n) if popularity == "uniform" else np.arange(1, n + 1) ** -0.99
    p = p / p.sum()
    chance = 1 - np.exp(-w * p)
    block = int(run.w.place[0, dp.P_STRIDE])
    on_a_page = {"entry": 4096 // 24, "robj": 4096 // 16}
    values = chance.sum()
    rng = np.random.Generator(np.random.PCG64(1))
    others = 0.0
    for count in on_a_page.values():
        untouched = np.add.reduceat(np.log1p(-np.minimum(chance[rng.permutation(n)], 1 - 1e-12)), np.arange(0, n, count))
        others += (1 - np.exp(untouched)).sum()
    if block % 4096:
        ends = np.zeros(n * block // 4096 + 2)
        for key, place in enumerate(rng.permutation(n)):
            first = place * block
            ends[first >> 12 : ((first + 3999) >> 12) + 1] += np.log1p(-min(chance[key], 1 - 1e-12))
        values = (1 - np.exp(ends)).sum()
    assert int(run.w.child[dp.CH_COPIED]) == pytest.approx(values + others, rel=0.03)


def test_no_page_is_copied_twice_and_none_for_a_get() -> None:
    """What is copied is bounded by what there is; LRU words are left alone while a child lives."""
    run = writing(6000, "uniform", keys=500)
    assert int(run.w.child[dp.CH_COPIED]) <= 500 * 2 + 500 * 24 // 4096 + 500 * 16 // 4096 + 6


def test_a_huge_page_is_copied_whole_before_linux_5_8_and_split_since() -> None:
    """[redis-7381]: 2 MiB a fault; since 5.8 4 KiB, and some µs once in each 2 MiB for the split."""
    huge = ', thp: always, linux: "{}"'
    old, new = (writing(2000, "uniform", more="disable-thp no", host=huge.format(linux)) for linux in ("5.4", "5.10"))
    plain = writing(2000, "uniform")
    assert int(old.w.child[dp.CH_SHIFT]) == 21
    assert int(new.w.child[dp.CH_COPIED]) == int(plain.w.child[dp.CH_COPIED])
    assert int(old.w.child[dp.CH_COPIED]) <= 20_000 * 4096 // (2 * MIB) + 8
    regions = (int(new.w.child[dp.CH_FAULTED_NS]) - int(plain.w.child[dp.CH_FAULTED_NS])) / int(new.w.child[dp.CH_REGION_NS])
    assert regions == int(regions)
    assert 0 < regions <= 60


def test_redis_turns_huge_pages_off_by_default() -> None:
    """disable-thp yes: the host's `always` has no effect."""
    assert int(writing(100, "uniform", host=", thp: always").w.child[dp.CH_SHIFT]) == 12


def test_an_asynchronous_fork_is_shorter_by_four_fifths_and_more() -> None:
    """[async-fork-2022]: tail latency during the snapshot falls by 81.76 % at 8 GB, 99.84 % at 64 GB; here the fork's time."""
    plain, other = (
        fork_costs(load_profile("ec2-c7g-2xlarge", Path()), Linux(async_fork=is_async), False) for is_async in (False, True)
    )
    for gib, at_least in ((8, 0.8176), (64, 0.99)):
        assert 1 - fork_ns(other, gib * GIB) / fork_ns(plain, gib * GIB) >= at_least
