"""What a report says of memory: figures that add up and appear when there is something to show, findings with their cure, the
answers redis-cli would print.
"""

import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from memory_example import LIMIT, cached, samples
from report_example import calm, stalled
from small_worlds import clients, node, scenario, steady

import redsim
from redsim.redis.config import rules
from redsim.report.answer import answer
from redsim.report.figures import figure, shown_figures
from redsim.report.findings import findings
from redsim.report.html import render_html
from redsim.report.memory_texts import memory_texts
from redsim.report.style import svg
from redsim.run.dataset_table import datasets_frame
from redsim.run.result import DATASET_COLUMNS, Result
from redsim.run.size_scenario import GLANCE, sized_dataset
from redsim.scenario.schema import Dataset, Size
from redsim.units import MIB

MEMORY_FIGURES = ("memory", "cache", "expiry")

# ---- figures ---------------------------------------------------------------------------------------------------------------


def test_figures_of_memory_are_shown_only_when_there_is_something_to_show() -> None:
    """Issue 4, report: a run without a limit, without TTLs and with still memory keeps its report short."""
    assert set(MEMORY_FIGURES) & set(shown_figures(stalled())) == set()
    assert set(MEMORY_FIGURES) < set(shown_figures(cached()))
    grown = samples().assign(maxmemory_bytes=0, evicted_keys=0, expired_keys=0, stale_keys=0)
    assert set(MEMORY_FIGURES) & set(shown_figures(dataclasses.replace(calm(), memory=grown))) == {"memory"}


@pytest.mark.parametrize("narrow", [False, True], ids=["screen", "phone"])
@pytest.mark.parametrize("name", MEMORY_FIGURES)
def test_a_figure_of_memory_is_the_same_svg_twice_and_parses(name: str, narrow: bool) -> None:
    """STYLE, rule 4: no luck outside the streams."""
    first, second = (svg(figure(cached(), name, narrow=narrow), name) for _ in range(2))
    assert first == second
    assert ET.fromstring(first).tag.endswith("svg")


def test_the_layers_of_the_memory_figure_end_at_used_memory_and_rss() -> None:
    """Conservation: start-up, clients, tables, keys and values add up to used_memory; with fragmentation to RSS."""
    (ax,) = figure(cached(), "memory").axes
    tops = [float(layer.get_paths()[0].vertices[:, 1].max()) for layer in ax.collections]
    frame = samples()
    assert len(tops) == 6
    assert tops == sorted(tops)
    assert tops[4] == frame["used_memory_bytes"].max()
    assert tops[5] == frame["used_memory_rss_bytes"].max()


def test_a_limit_far_above_the_memory_is_told_and_not_drawn() -> None:
    """memory_figures.py: a line at 16 GiB would leave 112 MiB too small to see."""
    (ax,) = figure(cached(), "memory").axes
    assert any("host's memory 16 GiB" in text.get_text() for text in ax.texts)
    assert ax.get_ylim()[1] < 2 * LIMIT
    assert LIMIT in [line.get_ydata()[0] for line in ax.lines]


def test_the_hit_ratio_of_a_window_is_that_of_its_own_reads() -> None:
    """Arithmetic on counters: all hits while the cache fills, 7 of 10 afterwards."""
    ax = figure(cached(), "cache").axes[0]
    ratio = ax.lines[0].get_ydata()
    assert ratio[:50] == pytest.approx(np.ones(50))
    assert ratio[60:] == pytest.approx(np.full(140, 0.7), abs=0.001)


# ---- findings --------------------------------------------------------------------------------------------------------------


def _node(**change: Any) -> Callable[[Result], Result]:
    def changed(result: Result) -> Result:
        result.summary["nodes"]["main"] |= change
        return result

    return changed


def _memory(**change: Any) -> Callable[[Result], Result]:
    return lambda result: dataclasses.replace(result, memory=result.memory.assign(**change))


def _host(memory_bytes: int) -> Callable[[Result], Result]:
    def changed(result: Result) -> Result:
        result.summary["host"]["memory_bytes"] = memory_bytes
        return result

    return changed


def _stall(event: str) -> Callable[[Result], Result]:
    rows = [(5.0, "main", event, 21_000.0, "evicting keys")]
    return lambda result: dataclasses.replace(result, stalls=type(result.stalls)(rows, columns=list(result.stalls.columns)))


def _refused(policy: str) -> Callable[[Result], Result]:
    return _node(oom_errors=17, info={"memory": {"maxmemory_policy": policy}})


def _same(result: Result) -> Result:
    return result


def _doubled(result: Result) -> Result:
    frame = result.memory.copy()
    frame.loc[frame["time_s"] > 12, "dict_table_bytes"] += 8 * MIB
    frame.loc[frame["time_s"] > 12, "evicted_keys"] += 27_000
    return dataclasses.replace(result, memory=frame)


FIRES = {
    "evictions": (_same, "warning", "evicted 60,000 keys from 5.1 s on; half of them had been read", "raise maxmemory"),
    "old-victims": (_node(eviction_age_s={"p50": 90}), "info", "within the last 90 s.", "if these keys were wanted"),
    "hit-ratio": (_same, "warning", "The hit ratio of main fell from 100 % to 70 %: 60,000 keys were evicted", "allkeys-lfu"),
    "oom": (_refused("noeviction"), "critical", "refused 17 commands with -OOM", "maxmemory-policy allkeys-lru"),
    "oom-volatile": (_refused("volatile-ttl"), "critical", "no key with a TTL was left", "give keys a TTL"),
    "headroom": (
        _node(evicted_keys=0, used_memory_bytes={"final": 1, "peak": LIMIT - 3 * MIB}),
        "warning", "97 % of maxmemory: 3 MiB are left", "raise maxmemory before",
    ),
    "doubling": (_doubled, "warning", "8 MiB more at once, close to maxmemory, and 27,400 keys were evicted", "16 bytes a key"),
    "refused-growth": (_memory(keys=700_000), "info", "700,000 keys share 262,144 buckets (2.67 a bucket)", "next table"),
    "eviction-cycle": (_stall("eviction-cycle"), "warning", "many keys in a row, 21 ms at worst", "tenacity"),
    "eviction-del": (_stall("eviction-del"), "warning", "deleting one large key, 21 ms at worst", "lazyfree-lazy-eviction"),
    "expiry-share": (
        _node(expiry={"cycle_ms": 4000.0, "cycles_out_of_time": 55}),
        "warning", "Active expiry took 20 % of the loop of main. It removed 0 keys", "spread the TTLs",
    ),
    "expire-cycle": (_stall("expire-cycle"), "warning", "Active expiry held the loop of main once, 21 ms at worst, 1.5 %", "hz"),
    "rehash": (_stall("server-cron"), "warning", "A hash table changed its size", "activerehashing"),
    "stale": (_same, "warning", "36,000 keys of main (12 % of all) were past their time", "active-expire-effort"),
    "fragmentation": (
        _node(used_memory_bytes={"final": 40 * MIB, "peak": 90 * MIB}),
        "warning", "RSS of main is 112 MiB for 40 MiB of used_memory at the end (mem_fragmentation_ratio 2.80)", "activedefrag",
    ),
    "replies": (
        _memory(clients_bytes=30 * MIB, output_buffers_bytes=28 * MIB),
        "warning", "30 % of maxmemory, most of it replies that were not read yet", "client-output-buffer-limit",
    ),
    "connections": (_memory(clients_bytes=30 * MIB), "warning", "50 clients took 30 MiB", "fewer connections"),
    "beyond-the-host": (_host(100 * MIB), "critical", "RSS of main peaked at 112 MiB; the host has 100 MiB", "below the host's"),
    "near-the-host": (_host(120 * MIB), "warning", "a fork needs more", "well below"),
    "threshold": (_same, "info", "Keys of carts miss their compact encoding by little: 4 MiB", "hash-max-listpack-entries 600"),
}  # fmt: skip


@pytest.mark.parametrize("case", FIRES.values(), ids=FIRES.keys())
def test_a_finding_about_memory_fires_on_its_cause_and_not_on_a_calm_run(case: Any) -> None:
    """Issue 4, report: findings with the figure, the cause and the directive."""
    change, severity, text, directive = case
    told = [found for found in findings(change(cached())) if text in found.text]
    assert [found for found in findings(calm()) if text in found.text] == []
    assert [found.severity for found in told] == [severity]
    assert directive in told[0].directive


def test_a_run_that_forgets_says_so_in_its_first_sentence() -> None:
    """DESIGN 6: the answer in the first sentence; a cache is asked what it keeps."""
    assert answer(cached()).endswith("main evicted 60,000 keys to stay below maxmemory; 78 % of the reads found theirs.")
    assert "evicted" not in answer(calm())


# ---- tables and texts --------------------------------------------------------------------------------------------------------


def test_the_page_has_the_data_sets_and_what_redis_cli_would_print() -> None:
    """Issue 4, report: encodings table of the data sets; INFO memory, MEMORY STATS and MEMORY DOCTOR."""
    page = render_html(cached())
    assert "Data sets at the start" in page
    assert "hash-max-listpack-entries 600" in page
    for title in ("INFO memory of main", "MEMORY STATS of main", "MEMORY DOCTOR of main"):
        assert f"<details><summary>{title}</summary>" in page


def test_memory_stats_are_laid_out_as_redis_cli_does() -> None:
    """redis-cli.c:cliFormatReplyTTY (7.0): numbered, strings quoted, a map within a map indented by its number's width."""
    stats = memory_texts(cached())[1].lines
    assert stats == [
        '1) "peak.allocated"', f"2) (integer) {LIMIT}", '3) "db.0"', '4) 1) "overhead.hashtable.main"', "   2) (integer) 7",
        '5) "fragmentation"', '6) "1.12"',
    ]  # fmt: skip


def test_a_data_set_that_misses_a_limit_by_little_is_told_the_directive_by_its_versions_name() -> None:
    """config.c: hash-max-listpack-entries is 512 (hash-max-ziplist-entries before 7.0), hash-max-listpack-value 64."""
    hashes = {"carts": Dataset.model_validate({"node": "main", "keys": 10, "type": "hash", "elements": 600, "value_bytes": 20})}
    for version, small in (("6.2", "ziplist"), ("7.0", "listpack"), ("valkey-8.0", "listpack")):
        row = datasets_frame(hashes, rules(version), 1).iloc[0]
        assert row["encodings"] == "hashtable"
        assert row["directive"] == f"hash-max-{small}-entries 600"
        assert row["used_memory_with_it_bytes"] < 0.6 * row["used_memory_bytes"]
    far = {"carts": hashes["carts"].model_copy(update={"elements": Size(constant=5000)})}
    assert datasets_frame(far, rules(), 1).iloc[0]["directive"] == ""


@pytest.mark.parametrize("type_", ["set", "hash", "zset", "list"])
def test_a_glance_at_a_large_key_sizes_it_as_building_it_does(type_: str) -> None:
    """size_scenario.py: a power of two times the elements has tables as full; what is left is one struct, 0.2 %."""
    data = Dataset.model_validate({"node": "main", "keys": 1, "type": type_, "elements": 100_000, "value_bytes": 20})
    whole, glance = (sized_dataset("d", data, rules(), 1, sampling) for sampling in (None, GLANCE))
    assert glance.encodings == whole.encodings
    assert glance.memory_usage_bytes == pytest.approx(whole.memory_usage_bytes, rel=0.002)


def test_a_run_leaves_its_data_sets_its_parts_of_memory_and_its_stats() -> None:
    """Conservation in every sample of memory.csv: the parts add up to used_memory."""
    body = "duration: 2s\nwarmup: 0s\nseed: 1\n" + node() + "datasets:\n  users: {node: main, keys: 1000, ttl: 1s}\n"
    group = steady("api", "{open: {rate_per_s: 1000}}", command="{SET: 1}", more=", keys: {dataset: users}")
    result = redsim.run(scenario(body + clients(group)))
    parts = ["startup_bytes", "clients_bytes", "dict_table_bytes", "keys_bytes", "values_bytes"]
    assert (result.memory[parts].sum(axis=1) == result.memory["used_memory_bytes"]).all()
    assert result.memory["expiry_lag_s"].iloc[-1] > 0
    assert list(result.datasets.columns) == DATASET_COLUMNS
    assert result.datasets["keys"].tolist() == [1000]
    main = result.summary["nodes"]["main"]
    assert main["memory_stats"]["total.allocated"] == main["used_memory_bytes"]["final"]
    assert main["info"]["memory"]["total_system_memory"] == result.summary["host"]["memory_bytes"] > 0
