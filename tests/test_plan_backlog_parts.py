"""What `redsim plan backlog` is made of: the backlog's window, outages, offsets over time, the band of a share, full syncs."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from redsim.rng import generator
from redsim.run.backlog_outages import away, parse_outages, resent_until_ns
from redsim.run.backlog_sizes import ROUND_SIZES, say_size
from redsim.run.backlog_sync import Limits, full_sync_spans, gathered, plan_sync
from redsim.run.backlog_window import (
    BlockBacklog,
    RingBacklog,
    block_payload_bytes,
    buffer_block_bytes,
    output_buffer_bytes,
    window_bytes,
)
from redsim.run.offsets import Written, of_frame, read_offsets
from redsim.scenario.errors import ScenarioError
from redsim.units import KIB, MIB, MS, S, memory_bytes

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "psync.json").read_text(encoding="utf-8"))
SIGMAS = 4.5  # of a share of draws: beyond it once in 150,000
DRAWS = 20_000


def steady(per_s: int, seconds: int = 3600) -> Written:
    """A stream of so many bytes a second."""
    at = np.array([0, seconds * S], dtype=np.int64)
    return Written("steady", at, at // S * per_s)


def is_near(share: float, expected: float, draws: int = DRAWS) -> bool:
    return abs(share - expected) <= SIGMAS * math.sqrt(max(expected * (1 - expected), 1 / draws) / draws)


# ---- the window ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", RECORDED["blocks"], ids=lambda case: str(case["backlog_size"]))
def test_the_window_is_the_recorded_one_after_every_command(case):
    """first_byte_offset, histlen and mem_total_replication_buffers of a real 7.0.15, row by row, exact."""
    backlog, at = BlockBacklog(case["backlog_size"], "jemalloc-debian"), 0
    for offset, first, histlen, memory in case["rows"]:
        backlog.feed(offset - at)
        at = offset
        assert (backlog.first_byte_offset, backlog.histlen, backlog.memory_bytes()) == (first, histlen, memory)
        assert backlog.master_repl_offset == offset


@pytest.mark.parametrize("row", RECORDED["threshold"], ids=lambda row: f"{row['backlog_real']}-{row['gap_bytes']}")
def test_the_verdict_is_the_recorded_one(row):
    """52 links cut and restored on a real 7.0.15: partial or full; the window is the size and at most a block more."""
    size, asked = row["backlog_real"], row["replica_asks_offset"]
    backlog = BlockBacklog(size, "jemalloc-debian", row["first_byte_offset_mid"], row["histlen_mid"])
    assert backlog.master_repl_offset == row["master_offset_mid"]
    assert ("partial" if backlog.accepts(asked) else "full") == row["outcome"]
    assert size < row["histlen_mid"] <= size + block_payload_bytes(size, size, "jemalloc-debian")
    missed = row["master_offset_mid"] - asked + 1
    assert (missed <= row["histlen_mid"]) == (row["outcome"] == "partial")


def test_small_blocks_are_replayed_from_the_start():
    """The rows with 16 KiB, where any command makes blocks of one size: the window of each follows from the offset alone."""
    for row in RECORDED["threshold"]:
        if row["backlog_real"] == 16 * KIB:
            backlog = BlockBacklog(16 * KIB, "jemalloc-debian")
            backlog.feed(row["replica_asks_offset"] - 1)
            backlog.feed(row["gap_bytes"])
            more = row["master_offset_mid"] - backlog.master_repl_offset  # what INFO and PSYNC were asked between
            backlog.feed(more)
            assert (backlog.first_byte_offset, backlog.histlen) == (row["first_byte_offset_mid"], row["histlen_mid"])


@pytest.mark.parametrize("allocator", ["jemalloc", "jemalloc-debian", "libc"])
@pytest.mark.parametrize("size", [16 * KIB, 100_000, MIB, 3 * MIB])
def test_the_closed_form_is_the_rule(size, allocator):
    """Blocks of one size: histlen after any number of commands, and the verdict on what was missed."""
    payload = block_payload_bytes(size, 0, allocator)
    backlog, luck = BlockBacklog(size, allocator), generator(1, "feed")
    for piece in luck.integers(1, 16 * KIB, 600).tolist():
        backlog.feed(piece)
        written = np.array([backlog.master_repl_offset])
        window = int(window_bytes(size, written, payload)[0])
        assert window == backlog.histlen
        for missed in (0, window, window + 1):
            assert backlog.accepts(backlog.master_repl_offset - missed + 1) == (missed <= window)
        assert not backlog.accepts(backlog.master_repl_offset + 2), "an offset that was never written"


def test_before_7_the_window_is_a_ring_of_exactly_the_size():
    """6.2: the last byte of the size is there, the one before is not."""
    ring = RingBacklog(MIB)
    ring.feed(5000)
    assert (ring.histlen, ring.first_byte_offset, ring.accepts(1), ring.accepts(5001)) == (5000, 1, True, True)
    ring.feed(3 * MIB)
    end = ring.master_repl_offset
    assert ring.accepts(end - MIB + 1)
    assert not ring.accepts(end - MIB)
    assert ring.histlen == int(window_bytes(MIB, np.array([end]), 0)[0])


@pytest.mark.parametrize(("blocks", "omem"), [(205, 4_203_320), (755, 15_480_520)])
def test_the_output_buffer_counts_whole_blocks_with_their_heads(blocks, omem):
    """What 7.0.15 logged when it closed a replica at 4mb and at 1mb for 2 s: oll=205 omem=4203320, oll=755 omem=15480520."""
    block = buffer_block_bytes(MIB, "jemalloc-debian")
    for into in (0, 1, 20_439):
        assert int(output_buffer_bytes(np.array([blocks * block[0] - into]), np.array([into]), block)[0]) == omem


# ---- outages ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["exponential:5s", "lognormal:5s:1.2", "uniform:1s:60s", "5s", "file"])
def test_draws_survival_and_quantiles_are_of_one_distribution(text, tmp_path):
    """P(draw > the q-quantile) is the survival there, 1 - q where the distribution has no steps."""
    if text == "file":
        path = tmp_path / "outages.txt"
        path.write_text("# of last year\n1s\n\n2.5s  # the switch\n500ms\n1s\n", encoding="utf-8")
        text = f"file:{path}"
    outages = parse_outages(text)
    drawn = outages.draw_ns(generator(1, "draws"), DRAWS)
    for q in (0.01, 0.3, 0.5, 0.9, 0.999):
        at = outages.quantile_ns(q)
        assert is_near(float((drawn > at).mean()), outages.survival(at))
        if outages.kind not in ("always", "file"):
            assert outages.survival(at) == pytest.approx(1 - q, abs=1e-6)
    assert outages.survival(-1) == 1
    assert outages.survival(1e18) < 1e-6
    assert bool(outages.notes()) == (outages.kind == "file")


def test_the_figures_of_a_distribution_are_what_their_names_say():
    """The mean of an exponential one, the median of a lognormal one, the ends of a uniform one."""
    assert parse_outages("exponential:5s").draw_ns(generator(1, "a"), DRAWS).mean() == pytest.approx(5e9, rel=4.5 / DRAWS**0.5)
    assert parse_outages("lognormal:5s:1.2").quantile_ns(0.5) == 5 * S
    drawn = parse_outages("uniform:1s:60s").draw_ns(generator(1, "u"), DRAWS)
    assert S <= drawn.min() < 1.02 * S
    assert 59.9 * S < drawn.max() < 60 * S


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exponential", "not a duration"), ("expnential:5s", "did you mean 'exponential'"), ("exponential:5", "--outage expo"),
        ("lognormal:5s", "lognormal:MEDIAN:SIGMA"), ("lognormal:5s:x", "sigma 'x'"), ("lognormal:5s:9", "up to 5"),
        ("uniform:5s:1s", "1s is not longer than 5s"), ("0s", "no outage"), ("-1s", "not a duration"), ("", "not a duration"),
        ("file:nowhere.txt", "nowhere.txt: cannot be read"), ("5s:6s", "not a distribution"), ("exponential:1s:2s", ":MEAN"),
    ],
)  # fmt: skip
def test_what_is_no_outage_is_one_sentence(text, said):
    with pytest.raises(ScenarioError, match=said):
        parse_outages(text)


def test_a_bad_line_of_a_file_of_outages_is_named(tmp_path):
    path = tmp_path / "outages.txt"
    path.write_text("5s\n\nfive\n", encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"outages.txt:3: 'five' is not a duration"):
        parse_outages(f"file:{path}")
    path.write_text("# none\n", encoding="utf-8")
    with pytest.raises(ScenarioError, match="holds no duration"):
        parse_outages(f"file:{path}")


def test_a_replica_is_back_by_the_next_cron_and_four_round_trips():
    """replicationCron each second, at a phase of its own: outage + uniform over a second + 4 RTT."""
    gone = away(np.full(DRAWS, 5 * S), generator(1, "cron"), MS)
    wait = gone.ns - 5 * S - 4 * MS
    assert gone.asks.all()
    assert (wait.min() >= 0, wait.max() < S) == (True, True)
    assert is_near(float((wait < S // 4).mean()), 0.25)
    assert gone.longer_ns == S + 4 * MS


def test_a_silent_outage_is_noticed_after_repl_timeout():
    """Shorter ones end by TCP alone, whose eighth try comes after 0.201 x 255 s; longer ones wait for the next SYN, 0, 1, 3, 7,
    15, 31 s after a try, or the next try, a second after repl-timeout."""
    lost = generator(1, "lost").integers(S, 300 * S, DRAWS)
    gone = away(lost, generator(1, "cron"), MS, 60 * S)
    assert gone.unasked_ns == 255 * 201 * MS == resent_until_ns(MS, 60 * S)
    assert (gone.asks == (lost > gone.unasked_ns)).all()
    late = (gone.ns - lost)[gone.asks]
    assert late.min() >= 4 * MS
    assert late.max() <= gone.longer_ns
    cron = generator(1, "cron")
    phase, last_io = ((cron.random(DRAWS) * S).astype(np.int64) for _ in range(2))
    noticed = 61 * S + phase - last_io
    tried = {one / S for one in (gone.ns - 4 * MS - noticed)[gone.asks].tolist()}
    assert tried <= {61 * again + after for again in range(5) for after in (0, 1, 3, 7, 15, 31)}
    assert {0, 1, 3, 7, 15, 31, 61, 62} <= tried
    just = away(np.full(100, 60 * S + 1), generator(2, "cron"), MS, 60 * S)
    assert (just.ns <= 62 * S + 4 * MS).all()
    assert resent_until_ns(0, 100 * MS) == 0


# ---- offsets over time -----------------------------------------------------------------------------------------------------

INFO = "# Replication\r\nrole:master\r\nmaster_replid:{id}\r\nmaster_repl_offset:{offset}\r\nsecond_repl_offset:-1\r\n"
OFFSETS = ((0, 100), (60, 700), (90, 700), (200, 5000))


def texts() -> dict[str, str]:
    """One series in each form."""
    csv = "".join(f"{s},{offset}\n" for s, offset in OFFSETS)
    info = [(s, INFO.format(id="abc", offset=offset)) for s, offset in OFFSETS]
    minutes = {0: "2026-11-26T12:00:00", 60: "2026-11-26T12:01:00Z", 90: "2026-11-26T12:01:30+00:00", 200: "2026-11-26T12:03:20"}
    return {
        "csv": "time_s,offset\n" + csv, "bare csv": csv, "lines": "".join(f"# {1_690_000_000 + s}.0\n{text}" for s, text in info),
        "iso": "".join(f"# {minutes[s]}\n{text}" for s, text in info),
        "usec": "".join(f"server_time_usec:{10**15 + s * 10**6}\nuptime_in_seconds:{9 + s}\n{text}" for s, text in info),
        "uptime": "".join(f"redis_version:6.2.14\nuptime_in_seconds:{21 + s}\n{text}" for s, text in info),
    }  # fmt: skip


@pytest.mark.parametrize("form", texts())
def test_every_form_of_offsets_is_the_same_series(form, tmp_path):
    """CSV, INFO replication with times before it, whole INFO with the server's own clock or its uptime."""
    path = tmp_path / "offsets.txt"
    path.write_text(texts()[form], encoding="utf-8")
    read = read_offsets(path)
    assert (read.at_ns // S).tolist() == [0, 60, 90, 200]
    assert read.offset_bytes.tolist() == [0, 600, 600, 4900]
    assert read.mean_per_s == pytest.approx(24.5)
    assert read.peak_per_s == pytest.approx(4300 / 110)
    assert "4 samples over 200 s, 110 s apart" in read.notes[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time_s,offset\n0,1\n1,x\n", r":3: offset 'x' is not a whole number"), ("0,1\n1,2,3\n", ":2: 3 values"),
        ("time,bytes\n0,1\n", ":1: the header is 'time,bytes'"), ("0,1\nnoon,2\n", ":2: 'noon' is no time"),
        ("0,5\n1,9\n1,10\n", ":3: 0 ns after the sample before it"), ("0,5\n", ":1: one offset is no rate"),
        ("0,5\n9,5\n", ":2: nothing was written"), ("", ":1: no offset is in the file"), ("0,1\n1,-5\n", ":2: offset '-5'"),
        ("0,90\n5,99\n9,3\n", ":3: master_repl_offset 3 after 99: the server was restarted"), ("hello\n", ":1: 'hello' is"),
        ("master_repl_offset:5\n", ":1: no time is said"), ("# 5\nmaster_repl_offset:x\n", ":2: offset 'x'"),
        ("# 5\nmaster_repl_offset:5\nmaster_repl_offset:9\n", ":3: no time is said"),
        ("# 1\nmaster_replid:a\nmaster_repl_offset:5\n# 2\nmaster_replid:b\nmaster_repl_offset:6\n", ":5: master_replid b after"),
        ("uptime_in_seconds:5\nmaster_repl_offset:5\n# 9.5\nmaster_repl_offset:6\n", ":3: a time by line behind samples by"),
        ("0,1\n1,99999999999999999999\n", ":2: offset"), ("nan,1\n1,2\n", ":1: 'nan' is no time"),
    ],
)  # fmt: skip
def test_a_bad_line_of_offsets_is_named(text, said, tmp_path):
    """File and line, the value, the cure; a server that was restarted in between is refused where it was."""
    path = tmp_path / "offsets.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError, match=rf"offsets\.txt{said}"):
        read_offsets(path)


def test_a_file_that_cannot_be_read_is_said(tmp_path):
    path = tmp_path / "bytes.txt"
    path.write_bytes(b"0,1\xff\n")
    for bad in (path, tmp_path, tmp_path / "none"):
        with pytest.raises(ScenarioError, match=r"--offsets .*cannot be read"):
            read_offsets(bad)


def test_bytes_between_two_instants_follow_the_samples_and_then_the_mean():
    """Linear between samples; beyond the last one at the mean rate, 200 bytes a second here."""
    series = Written("x", np.array([0, 10 * S, 20 * S]), np.array([0, 1000, 4000]))
    at = np.array([0, 5 * S, 15 * S, 20 * S, 25 * S])
    assert series.bytes_between(np.zeros(5, dtype=np.int64), at).tolist() == [0, 500, 2500, 4000, 5000]
    assert series.reached_ns(np.zeros(5, dtype=np.int64), np.array([0, 500, 2500, 4000, 5000])).tolist() == at.tolist()
    spans = np.array([5 * S] * 500 + [20 * S] * 500 + [90 * S] * 500)
    start = series.starts_ns(generator(1, "s"), spans)
    assert (start + spans <= 20 * S)[:1000].all()
    assert (start[500:] == 0).all()
    assert start[:500].std() > S, "anywhere"


def test_offsets_of_a_run_are_those_of_the_first_replica():
    """Result.replication has a row for each replica; the offset is their master's."""
    frame = pd.DataFrame({"time_s": [0.0, 0.0, 1.0, 1.0], "replica": ["r1", "r2"] * 2, "master_offset": [10, 10, 50, 50]})
    assert of_frame(frame, "run", "file:1").offset_bytes.tolist() == [0, 40]
    with pytest.raises(ScenarioError, match="file:1: the scenario has no replica"):
        of_frame(frame.iloc[:0], "run", "file:1")


# ---- round sizes ---------------------------------------------------------------------------------------------------------


def test_round_sizes_read_back_and_grow():
    """As redis.conf takes them, none more than a third above the one before."""
    assert [memory_bytes(say_size(size)) for size in ROUND_SIZES] == list(ROUND_SIZES)
    assert all(a < b <= a * 4 / 3 for a, b in itertools.pairwise(ROUND_SIZES))
    assert {MIB, 2 * MIB, 10 * MIB, 256 * MIB} <= set(ROUND_SIZES)


# ---- full syncs ------------------------------------------------------------------------------------------------------------


def syncs_of(per_s: int, seconds: float) -> Any:
    spans = np.full(DRAWS, round(seconds * S))
    return gathered(steady(per_s), spans, buffer_block_bytes(MIB), generator(1, "sync"))


def test_a_full_sync_is_broken_off_when_more_gathers_than_the_hard_limit():
    """Bytes = rate x time, in whole blocks of 20,440 + 64: broken off each time, or never, a block either side of the limit."""
    limits = Limits(256 * MIB, 0, 0)
    below, above = (plan_sync(syncs_of(rate, 40), "40s", limits, 0, MIB, 0.999) for rate in (6_600_000, 6_750_000))
    assert (below.p_overflow, above.p_overflow) == (0, 1)
    assert below.chosen == limits
    assert above.chosen == Limits(320 * MIB, 0, 0)
    assert below.mean_bytes == 264_000_000
    assert below.worst_bytes - 264_000_000 * 20504 / 20440 <= 2 * 20504


@pytest.mark.parametrize(("seconds_above", "share"), [(59.5, 0), (60.0, 0), (60.25, 0.25), (60.5, 0.5), (61.5, 1)])
def test_the_soft_limit_counts_whole_seconds_strictly_above_its_own(seconds_above, share):
    """Elapsed > 60 of the server's whole seconds: 60.5 s above it show as 60 or as 61, each half of the time."""
    per_s = 4 * MIB
    reaches_s = 64 * MIB * 20440 / 20504 / per_s
    drawn = syncs_of(per_s, reaches_s + seconds_above)
    over = float(drawn.over_soft(Limits(0, 64 * MIB, 60)).mean())
    assert abs(over - share) < 0.02, "where it stands in its first block is worth 5 ms, the draws 0.014"


def test_the_backlog_lifts_a_smaller_hard_limit():
    """networking.c of 7.0: a limit below repl-backlog-size is that size."""
    drawn = syncs_of(MIB, 100)
    assert plan_sync(drawn, "", Limits(64 * MIB, 0, 0), 0, MIB, 0.999).p_overflow == 1
    lifted = plan_sync(drawn, "", Limits(64 * MIB, 0, 0), 128 * MIB, 128 * MIB, 0.999)
    assert (lifted.p_overflow, lifted.hard_in_force_bytes) == (0, 128 * MIB)
    assert lifted.chosen == Limits(128 * MIB, 0, 0), (
        "said as it is in force; 6.2 lifts nothing, and a partial resync sends as much"
    )
    assert plan_sync(drawn, "", Limits(0, 0, 0), 128 * MIB, MIB, 0.999).p_overflow == 0, "0 is no limit"


def test_limits_to_paste_are_raised_until_both_hold():
    """A hard limit that is reached and a soft one that lasts too long; the seconds stay."""
    plan = plan_sync(syncs_of(4 * MIB, 90), "90s", Limits(256 * MIB, 64 * MIB, 60), MIB, MIB, 0.999)
    assert plan.p_hard == 1
    assert plan.p_soft == 1
    assert plan.chosen is not None
    assert plan.chosen.hard_bytes == 384 * MIB
    reached_s = plan.chosen.soft_bytes / (4 * MIB)
    assert 90 - reached_s < 61.2
    assert (plan.chosen.soft_s, plan.chosen_hits) == (60, 0)


def test_full_syncs_of_a_run_last_from_the_fork_to_the_end_of_the_load():
    """One whole, one broken off, one still loading when the run ended."""
    rows = [("r1", "wait_bgsave", 1, 6), ("r1", "bgsave", 6, 7), ("r1", "transfer", 7, 9), ("r1", "load", 9, 10.5),
            ("r2", "bgsave", 3, 4), ("r2", "disconnected", 4, 5), ("r2", "load", 5, 6), ("r1", "bgsave", 12, 13),
            ("r1", "load", 14, 20)]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["replica", "phase", "start_s", "end_s"])
    assert full_sync_spans(frame, 20.0) == [4_500_000_000]
