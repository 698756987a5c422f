"""activedefrag at work: when it scans, how long it holds the loop, what moves, and which pages come free."""

import math
from pathlib import Path

import pytest
from small_worlds import clients, node, scenario, steady

import redsim
from redsim.host.malloc import ALLOCATORS
from redsim.host.memory import active_after_random_deletes, active_bytes
from redsim.redis.defrag import ActiveDefrag, Fragments
from redsim.run.build import check
from redsim.run.result import Result
from redsim.scenario.errors import ScenarioError
from redsim.scenario.profile import load_profile
from redsim.scenario.redis_conf import parse_conf
from redsim.units import KIB, MIB, MS

EAGER = "activedefrag yes\nactive-defrag-ignore-bytes 1mb\nactive-defrag-cycle-min 50\nactive-defrag-cycle-max 50"


def defrag(found: list[Fragments], conf: str = "") -> ActiveDefrag:
    """One that finds the last of `found`; more can be put behind."""
    parsed = parse_conf(f"activedefrag yes\n{conf}", version="7.0")
    return ActiveDefrag(parsed, load_profile("default", Path()), 0, lambda: found[-1])


def fragments(frag_percent: int, *, keys: int = 1_000_000, holes_share: float = 0.5, each: int = 3) -> Fragments:
    """A gibibyte allocated, with that many percent more pages."""
    paged_bytes = math.ceil(1024 * MIB * (100 + frag_percent) / 100)
    return Fragments(1024 * MIB, paged_bytes, keys, 1 << 20, float(each * keys), holes_share)


def pass_over(d: ActiveDefrag) -> int:
    """Runs of serverCron until every key was looked at."""
    for run in range(1, 10_000):
        d.cycle(run * 100 * MS, 10, run == 1)
        if d.passes:
            return run
    raise AssertionError("a scan ends")


@pytest.mark.parametrize(("frag_percent", "hz", "share_percent"), [(10, 10, 1), (55, 10, 13), (55, 100, 13), (300, 10, 25)])
def test_a_slice_is_its_percent_of_the_cron_period_and_one_look_at_the_clock(
    frag_percent: int, hz: int, share_percent: int
) -> None:
    """defrag.c:activeDefragCycle: timelimit = 1000000 * running / hz / 100 us, looked at every 65 keys."""
    d = defrag([fragments(frag_percent)])
    ns = d.cycle(0, hz, True)
    assert d.running_percent == share_percent
    limit_ns = 10_000 * share_percent // hz * 1000
    assert limit_ns < ns <= limit_ns + 65 * (d.key_ns + 3 * d.move_ns)


def test_pages_are_looked_at_once_a_second_only() -> None:
    """defrag.c: run_with_period(1000) computeDefragCycles()."""
    d = defrag([fragments(50)])
    assert d.cycle(0, 10, False) == 0
    assert d.cycle(100 * MS, 10, True) > 0


def test_a_scan_gets_faster_but_not_slower() -> None:
    """defrag.c:computeDefragCycles: increasing the aggressiveness during a scan is allowed, reducing it is not."""
    found = [fragments(55)]
    d = defrag(found)
    d.cycle(0, 10, True)
    for percent, running in ((20, 13), (100, 25), (0, 25)):
        found.append(fragments(percent))
        d.cycle(1000 * MS, 10, True)
        assert d.running_percent == running


def test_sixteen_runs_of_server_cron_pass_between_the_last_key_and_the_end_of_a_scan() -> None:
    """defrag.c: a database that is done ends the slice, empty ones too; 1.6 s of a scan of 2.1 s at hz 10 [lab-defrag]."""
    found = [fragments(50, keys=50_000)]
    d = defrag(found)
    last = pass_over(d)
    found.append(fragments(0))
    for run in range(1, 17):
        assert d.running_percent
        assert d.cycle((last + run) * 100 * MS, 10, False) == 0
    assert d.running_percent == 0
    assert d.time_ms((last + 20) * 100 * MS) == (d.time_ms(10**15)[0], 0)


def test_a_new_scan_starts_at_once_while_fragmentation_stays_above_the_lower_threshold() -> None:
    """defrag.c: "if another scan is needed, start it right away"."""
    d = defrag([fragments(50, keys=50_000)])
    last = pass_over(d)
    spent = [d.cycle((last + run) * 100 * MS, 10, False) for run in range(1, 17)]
    assert spent[:15] == [0] * 15
    assert spent[15] > 0


@pytest.mark.parametrize("left", [0.2, 0.5, 0.9])
def test_of_all_blocks_those_move_whose_slab_is_not_full_yet(left: float) -> None:
    """All slabs drain alike while one after the other is filled up: (1 - u) / u * ln(1 / (1 - u)) of the blocks in a scan."""
    d = defrag([fragments(50, holes_share=1 - left, each=3)])
    pass_over(d)
    law = (1 - left) / left * math.log(1 / (1 - left))
    assert d.hits == pytest.approx(2 * 1_000_000 * law, rel=0.02), "dictEntries are moved and not counted"
    assert d.misses == pytest.approx(3 * 1_000_000 * (1 - law), rel=0.02)
    assert d.key_hits + d.key_misses == pytest.approx(1_000_000, rel=0.001)


@pytest.mark.parametrize(
    ("each", "keys", "hits", "misses"),
    [(3, 200_289, 244_526, 224_832), (4, 200_289, 363_369, 305_519), (4, 100_096, 153_572, 180_982)],
)
def test_a_real_server_moves_a_tenth_to_a_quarter_fewer_blocks(each: int, keys: int, hits: int, misses: int) -> None:
    """[lab-defrag]: every other of the strings of 10, 100 and 1,000 bytes deleted; active_defrag_hits and _misses of a scan."""
    d = defrag([fragments(50, keys=keys, each=each)])
    pass_over(d)
    assert 1.0 < d.hits / hits < 1.4
    moved, said = each * keys - misses, each * keys - d.misses
    assert 1.1 < said / moved < 1.3


def test_pages_of_small_blocks_come_free_at_the_end_of_a_scan_those_of_large_ones_before() -> None:
    """[lab-defrag]: with half of it scanned, strings of 10 and 100 bytes had given back nothing, those of 1,000 bytes a part."""
    malloc = ALLOCATORS["jemalloc"]
    for size, early in ((32, 0.0), (128, 0.0), (1024, 0.25)):
        blocks = {size: 4_000_000.0}
        start, half, end = (active_after_random_deletes(blocks, 0.5, malloc, share) for share in (0.0, 0.5, 1.0))
        assert end == active_bytes({size: 2_000_000.0}, malloc)
        assert (start - half) / (start - end) == pytest.approx(early, abs=0.03)


def run(conf: str, *, duration: str = "6s") -> Result:
    """Four in five of 40,000 strings deleted at random within a second and a half, then a quiet time."""
    keys = "{node: main, keys: 40000, type: string, key_bytes: 9, value_bytes: 200}"
    group = steady("api", "{open: {rate_per_s: 45000}}", command="{DEL: 1}", more=", keys: {dataset: users}, stop: 1500ms")
    body = f"duration: {duration}\nwarmup: 0s\nseed: 1\n" + node(conf) + f"datasets:\n  users: {keys}\n"
    return redsim.run(scenario(body + clients(group)))


def test_a_run_gives_back_pages_and_says_who_held_the_loop() -> None:
    """memory-optimization page of Redis: activedefrag compacts what deletes left; LATENCY event active-defrag-cycle."""
    result = run(EAGER)
    told = result.summary["nodes"]["main"]
    first, last = result.memory.iloc[0], result.memory.iloc[-1]
    assert last.allocator_active_bytes < last.used_memory_bytes + 1.5 * MIB < 0.7 * first.allocator_active_bytes
    assert told["busy_s_by_cause"]["active-defrag-cycle"] > 0.01
    assert told["stalls"]["active-defrag-cycle"]["max_us"] > 10_000
    stats = told["info"]["stats"]
    assert stats["active_defrag_hits"] > 8_000
    assert stats["total_active_defrag_time"] > 1_000
    assert told["info"]["memory"]["active_defrag_running"] == 0
    assert "activedefrag" not in " ".join(result.not_modelled)


def test_below_a_hundred_mebibytes_it_changes_nothing() -> None:
    """redis.conf: active-defrag-ignore-bytes 100mb."""
    on, off = run("activedefrag yes", duration="2s"), run("", duration="2s")
    assert on.memory[["keys", "used_memory_bytes"]].equals(off.memory[["keys", "used_memory_bytes"]])
    active = on.memory["allocator_active_bytes"] - off.memory["allocator_active_bytes"]
    assert active.abs().max() < 128 * KIB, "the gauge is read earlier, before the first command has its histogram"
    assert "active-defrag-cycle" not in on.summary["nodes"]["main"]["busy_s_by_cause"]
    assert on.summary["nodes"]["main"]["info"]["stats"]["total_active_defrag_time"] == 0


@pytest.mark.parametrize("allocator", ["jemalloc-debian", "libc"])
def test_a_build_without_redis_own_jemalloc_refuses_it(allocator: str) -> None:
    """config.c:isValidActiveDefrag: it requires a server compiled with a modified jemalloc."""
    body = "duration: 1s\nwarmup: 0s\nseed: 1\n" + node("activedefrag yes") + f"    allocator: {allocator}\n"
    with pytest.raises(ScenarioError, match="use allocator: jemalloc, or activedefrag no"):
        check(scenario(body + clients(steady("api", "{open: {rate_per_s: 10}}"))))
