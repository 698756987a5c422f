"""Rehearsal of a trace: the bounds against caches written naively, every format read alike, bad input in one sentence."""

import gzip
import itertools
import json
import lzma
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import redsim
from redsim.dataplane.farthest import levels_of
from redsim.dataplane.rehearsal import DELETE, READ, WRITE
from redsim.report.rehearsal import write_rehearsal
from redsim.rng import generator
from redsim.run.rehearse import Cached, rehearsal
from redsim.run.rehearse_stage import Stage
from redsim.scenario.errors import ScenarioError
from redsim.units import S
from redsim.workload.access_trace import AccessTrace, read_access_trace
from tests.bench.peer import lru_hits

KEYS = st.lists(st.integers(0, 30), min_size=1, max_size=200)


def zipf_keys(accesses: int, distinct: int, exponent: float = 0.99, seed: int = 1) -> npt.NDArray[np.int64]:
    """Independent accesses, key k with weight (k + 1) ** -exponent."""
    weights = np.arange(1, distinct + 1) ** -exponent
    return generator(seed, "trace").choice(distinct, size=accesses, p=weights / weights.sum())


def trace_of(keys: npt.ArrayLike, **columns: npt.NDArray[np.int64]) -> AccessTrace:
    """The accesses as a trace."""
    codes, distinct = pd.factorize(np.asarray(keys))
    return AccessTrace(name="t", keys=codes.astype(np.int32), distinct=len(distinct), **columns)  # type: ignore[arg-type]


def hits_of(frame: pd.DataFrame) -> dict[str, float]:
    return dict(zip(frame["policy"], frame["hits"], strict=True))


def most_hits(keys: list[int], capacity: int) -> int:
    """The most that any cache can hit that takes in each missed key and drops what it likes: by trying everything."""
    best = {frozenset[int](): 0}
    for key in keys:
        after: dict[frozenset[int], int] = {}
        for held, hits in best.items():
            hit, now = hits + (key in held), held | {key}
            for kept in [now] if len(now) <= capacity else [now - {victim} for victim in now]:
                after[kept] = max(after.get(kept, 0), hit)
        best = after
    return max(best.values())


@settings(deadline=None)
@given(KEYS, st.integers(1, 35))
def test_exact_lru_hits_what_an_ordered_dict_hits(keys: list[int], capacity: int) -> None:
    """Ours: against the OrderedDict."""
    assert hits_of(redsim.rehearse(keys, capacity=capacity))["exact LRU"] == lru_hits(keys, capacity)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=14), st.integers(1, 4))
def test_no_cache_hits_more_than_belady(keys: list[int], capacity: int) -> None:
    """Belady (1966) is optimal [belady-1966]: the same as the best of all possible choices."""
    assert hits_of(redsim.rehearse(keys, capacity=capacity))["Belady"] == most_hits(keys, capacity)


@settings(deadline=None)
@given(KEYS)
def test_the_line_of_stack_distances_is_exact_lru_at_every_size(keys: list[int]) -> None:
    """Mattson et al. [mattson-1970]: one pass against a replay per size."""
    line = Stage(trace_of(keys), Cached(capacity_keys=1)).line()
    assert [round(ratio * len(keys)) for ratio in line["hit_ratio"]] == [lru_hits(keys, n) for n in line["limit_keys"]]


@pytest.mark.parametrize("positions", [1, 63, 64, 65, 4096, 4097, 300_000])
def test_the_set_of_positions_has_a_word_for_each_64_up_to_one(positions: int) -> None:
    """dataplane/farthest.py: each level has a bit for each word of the one below."""
    words = np.diff(levels_of(positions))
    assert words[-1] == 1
    assert all(64 * above >= below > 64 * (above - 1) for below, above in zip([positions, *words[:-1]], words, strict=True))


def test_sampled_lru_comes_nearer_to_exact_lru_with_more_samples() -> None:
    """redis.conf: 10 approximates true LRU very closely, 3 is faster but less accurate. Five seeds, 95 % intervals."""
    keys = zipf_keys(300_000, 20_000)
    done = rehearsal(trace_of(keys), Cached(capacity_keys=2000, samples=(3, 5, 10), rate_per_s=1000), seeds=5)
    rows = done.rows.set_index("said")
    low = rows["hit_ratio"] - rows["hit_ratio_pm"].fillna(0)
    high = rows["hit_ratio"] + rows["hit_ratio_pm"].fillna(0)
    order = ["allkeys-lru, 3 samples", "allkeys-lru, 5 samples", "allkeys-lru, 10 samples", "exact LRU"]
    assert all(high[one] < low[other] for one, other in itertools.pairwise(order))


def test_the_bytes_of_keys_and_tables_are_those_of_a_server() -> None:
    """`SET key:i <16 B>` with the system jemalloc takes 104.39 bytes a key at a million [lab-dataset-memory]: 16 of the key, 32
    of the dictEntry, 48 of the object, the rest buckets; here 2**17 of them."""
    trace = trace_of(np.arange(100_000))
    cached = Cached(maxmemory_bytes=1 << 30, key_bytes=10, value_bytes=16, allocator="jemalloc-debian")
    row = rehearsal(trace, cached).rows.iloc[0]
    assert row["used_bytes"] == 876_304 + 100_000 * (16 + 32 + 48) + 8 * 2**17


def test_a_budget_in_bytes_is_kept_up_to_one_command() -> None:
    """evict.c: room is made before a command, so what the command adds stands over the limit."""
    cached = Cached(maxmemory_bytes=2_000_000, value_bytes=500, key_bytes=20)
    rows = rehearsal(trace_of(zipf_keys(50_000, 20_000)), cached, policies=["all"]).rows
    assert (rows["used_bytes"] <= 2_000_000 + 700).all()
    assert (rows["used_bytes"] > 1_990_000).all()


def test_a_refused_write_is_no_eviction() -> None:
    """noeviction: the keys that were first stay, the others are refused."""
    row = rehearsal(trace_of([1, 2, 3, 1, 2, 3, 3]), Cached(capacity_keys=1), policies=["noeviction"]).rows.iloc[0]
    assert (row["hits"], row["denied"], row["evicted"]) == (2, 3, 0)


def test_writes_do_not_hit_and_deleted_keys_are_gone() -> None:
    """Ours: set, get, set, del, get, del of nothing."""
    ops = np.array([WRITE, READ, WRITE, DELETE, READ, DELETE], dtype=np.int8)
    trace = trace_of([7] * 5 + [8], ops=ops)
    rows = rehearsal(trace, Cached(capacity_keys=5), policies=["all"]).rows
    assert (rows["reads"] == 2).all()
    assert (rows["hits"] == 1).all()


def test_a_key_past_its_time_misses_and_is_written_again_with_a_new_one() -> None:
    """db.c:expireIfNeeded: later than its time, not at it."""
    trace = trace_of([1, 1, 1, 1], times_ns=np.array([0, 10, 20, 31]) * S)
    row = rehearsal(trace, Cached(capacity_keys=5, ttl_ns=10 * S), policies=["volatile-ttl"]).rows.iloc[0]
    assert (row["hits"], row["expired"]) == (1, 2)


def test_the_same_seed_gives_the_same_rows_and_another_one_others() -> None:
    """DESIGN 3: one seed, named streams."""
    trace = trace_of(zipf_keys(20_000, 2000))

    def hits(seed: int) -> list[float]:
        return list(rehearsal(trace, Cached(capacity_keys=200), policies=["all"], seed=seed).rows["hits"])

    assert hits(1) == hits(1) != hits(2)


# ---- reading ----------------------------------------------------------------------------------------------------


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes({".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)(data))
    return path


ORACLE = np.array([(5, 9, 100, -1), (6, 8, 50, -1), (8, 9, 70, -1)],
                  dtype=[("time", "<u4"), ("key", "<u8"), ("size", "<u4"), ("next", "<i8")])  # fmt: skip


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", b"size,when,timestamp,key\n100,x,5,nine\n50,x,6,8\n70,x,8,nine\n"),
        ("a.csv.gz", b"5.0,nine,100\n6.0,8,50\n8.0,nine,70\n"),
        ("a.tsv.xz", b"5\tnine\t100\tget\n6\t8\t50\tget\n8\tnine\t70\tget\n"),
        ("twitter.csv", b"5,nine,4,100,1,get,0\n6,8,1,50,1,get,0\n8,nine,4,70,1,gets,0\n"),
        ("a.oracleGeneral.bin.xz", ORACLE.tobytes()),
        ("a.oracleGeneral", ORACLE.tobytes()),
    ],
)
def test_every_format_says_the_same(name: str, data: bytes, tmp_path: Path) -> None:
    """Three accesses to two keys: numbers in the order of their first access, ns since the first."""
    trace = read_access_trace(written(tmp_path, name, data))
    assert (trace.keys.tolist(), trace.distinct) == ([0, 1, 0], 2)
    assert trace.times_ns is not None
    assert trace.times_ns.tolist() == [0, S, 3 * S]
    assert trace.sizes is not None
    assert trace.sizes.tolist() == [100, 50, 70]


def test_bare_keys_are_read_too(tmp_path: Path) -> None:
    """Caffeine's traces: big-endian int32."""
    trace = read_access_trace(written(tmp_path, "orm.trace.xz", np.array([70000, 3, 70000], dtype=">i4").tobytes()))
    assert (trace.keys.tolist(), trace.times_ns, trace.sizes) == ([0, 1, 0], None, None)


def test_lengths_of_keys_are_those_of_the_text(tmp_path: Path) -> None:
    """CSV: bytes of the key, unless a column says them."""
    trace = read_access_trace(written(tmp_path, "a.csv", b"key\nuser:1\nu\nuser:1\n"))
    assert trace.key_sizes is not None
    assert trace.key_sizes.tolist() == [6, 1]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.csv", b"", "no access"),
        ("a.csv", b"1,2,3,4,5,6\n", "needs a header"),
        ("a.csv", b"time,key\n1,a\nx,b\n", "'x' of access 2 is no number"),
        ("a.csv", b"time,key\n2,a\n1,b\n", "time goes back at access 2"),
        ("a.csv", b"time,key,op\n2,a,get\n3,b,frob\n", "operation 'frob' of access 2"),
        ("a.csv", b"time,ts,key\n2,3,a\n", "say the same"),
        ("a.csv", b"time,key,size\n2,a,-1\n", "size is negative"),
        ("a.dat", b"abcd", "does not tell the format"),
        ("a.oracleGeneral.zst", b"abcd", "decompress it first"),
        ("a.trace", b"abcde", "cut short"),
        ("b.csv.xz", b"", "no access"),
    ],
)
def test_a_trace_that_cannot_be_read_is_one_sentence(name: str, data: bytes, says: str, tmp_path: Path) -> None:
    """The file, the place and the cure."""
    with pytest.raises(ScenarioError, match=says):
        read_access_trace(written(tmp_path, name, data))


def test_what_is_no_xz_file_is_one_sentence(tmp_path: Path) -> None:
    """The suffix lies."""
    path = tmp_path / "a.trace.xz"
    path.write_bytes(b"not xz at all")
    with pytest.raises(ScenarioError, match="cannot be read"):
        read_access_trace(path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "--maxmemory"),
        ({"capacity": 5, "maxmemory": "1mb"}, "--maxmemory"),
        ({"capacity": 0}, "no room"),
        ({"maxmemory": "100kb"}, "an empty Redis alone"),
        ({"maxmemory": "1 parsec"}, "memory size"),
        ({"capacity": 5, "samples": 65}, "1 to 64"),
        ({"capacity": 5, "samples": "3,x"}, "invalid literal"),
        ({"capacity": 5, "policies": "allkeys-lur"}, "did you mean 'allkeys-lru'"),
        ({"capacity": 5, "allocator": "tcmalloc"}, "allocator"),
        ({"capacity": 5, "rate_per_s": 0}, "--rate"),
        ({"capacity": 5, "curve": 1}, "--curve"),
    ],
)
def test_a_question_that_makes_no_sense_is_one_sentence(options: dict[str, object], says: str) -> None:
    """Bad input says what to give instead."""
    with pytest.raises(ScenarioError, match=says):
        redsim.rehearse([1, 2, 3], **options)


def test_a_trace_of_nothing_is_refused() -> None:
    """Bad input says what is wrong."""
    with pytest.raises(ScenarioError, match="without accesses"):
        redsim.rehearse([], capacity=5)


def test_the_page_has_the_answer_and_the_files_the_rows(tmp_path: Path) -> None:
    """ISSUE 4: table, JSON and a figure of the curve; nothing is fetched from the network."""
    done = rehearsal(trace_of(zipf_keys(5000, 500)), Cached(capacity_keys=50, samples=(3, 5)), policies=["all"], curve=3)
    page, data, table = write_rehearsal(done, tmp_path, "redsim rehearse t")
    text = page.read_text(encoding="utf-8")
    assert "At 50 keys, " in text
    assert "http" not in text.replace("http-equiv", "")
    told = json.loads(data.read_text(encoding="utf-8"))
    assert [row["said"] for row in told["rows"]][-2:] == ["exact LRU", "Belady"]
    assert len(pd.read_csv(table)) == len(told["rows"]) + len(told["curve"]) == 4 * len(told["rows"])
