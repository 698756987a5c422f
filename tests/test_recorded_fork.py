"""Fork, BGSAVE and copy-on-write of the model against a real Redis 7.0.15 (tests/recorded/fork_bgsave.json, from the lab).

    python -m tests.test_recorded_fork [section …]     prints every row: measured, simulated, ratio, and which are misses

What is fitted and what is predicted: the line of fork times on 0.1 to 1 GiB, predicted 2 and 4; the time of a save on 0.5 GiB
without load, predicted the others; bytes copied have nothing fitted: they are counted at as many writes as the lab's clients
made. `loaded` leaves all to the default profile; `fitted` takes what a fault really cost that server from one row (5,000/s,
uniform) and predicts the rest. Bounds as in test_recorded; what is missed is named in MISSES with a presumed reason.
"""

import functools
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

import redsim
from redsim.dataplane import layout as dp
from redsim.host.fork import page_tables_bytes
from redsim.redis.aof import Rewriter
from redsim.units import MIB
from tests.recorded_rows import Misses, Row, lines_of
from tests.small_worlds import profile, scenario, world_of

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "fork_bgsave.json").read_text(encoding="utf-8"))
SIZES = sorted({row["gib"] for row in RECORDED["forks"]})
LOADED = [row for row in RECORDED["load"] if row["writes_per_s"] and not row["series"]]
FITTED_ON = (5000, 0)  # writes/s, zipf exponent
FITTED_FAULT_NS = 74_000

NOISE = "the lab's own repetitions: 35 to 53 ms, no line"
ONCE = "one of the lab's four saves had 5.2 MB where the others had 0.9 to 1.0"
DISK = "the lab's disk gave 85 MB/s to the largest file, 108 to the others"
KERNEL = "the lab's one core also did the kernel's work (writing back, network), and faults cost more than the probe's 3.2 us"
FRESH = "8 MB more than a save copied; the lab had just loaded the data by way of the AOF, whose buffers were perhaps used again"
SATURATED = "faults alone do not explain the lab's long saves: at the cost that fits 5,000/s the thread would be full at 20,000/s"
MISSES: Misses = {
    ("stall", "2 GiB", "us, profile"): (1.35, NOISE),
    ("save", "1 GiB", "copied bytes"): (6.0, ONCE),
    ("save", "2 GiB", "s, noticed"): (1.35, DISK),
    ("loaded", "1k/s uniform", "save s"): (1.4, KERNEL),
    ("loaded", "1k/s uniform", "copied MB"): (1.5, KERNEL),
    ("loaded", "5k/s uniform", "save s"): (1.7, KERNEL),
    ("loaded", "5k/s uniform", "copied MB"): (1.6, KERNEL),
    ("loaded", "20k/s uniform", "save s"): (1.7, KERNEL),
    ("loaded", "20k/s zipf", "save s"): (1.4, KERNEL),
    ("fitted", "20k/s uniform", "copied MB"): (2.4, SATURATED),
    ("rewrites", "0k/s", "copied MB"): (10.0, FRESH),
    ("rewrites", "5k/s", "wall s"): (1.5, KERNEL),
    ("rewrites", "5k/s", "copied MB"): (1.5, KERNEL),
}


def body(
    *, keys: int, rate: int = 0, zipf: float = 0, seconds: float = 12, requests: int = 0, disk: str = "", aof: bool = False
) -> str:
    """The lab's server: strings of 1024 bytes, one core for it and its child, a BGSAVE."""
    popularity = f"{{zipf: {zipf}}}" if zipf else "uniform"
    most = f", requests: {requests}" if requests else ""
    group = (
        f"clients:\n  lg: {{node: main, connections: 50, arrivals: {{open: {{rate_per_s: {rate}}}}}, commands: {{SET: 1}},"
        f" keys: {{dataset: d, popularity: {popularity}}}, start: 1100ms{most}}}\n"
        if rate
        else ""
    )
    conf = '"save \\"\\"\\nappendonly yes\\nauto-aof-rewrite-percentage 0"' if aof else "'save \"\"'"
    return (
        f"hosts: {{box: {{profile: p.yaml, cores: 1{', disk: ' + disk if disk else ''}}}}}\nduration: {seconds}s\n"
        f"nodes: {{main: {{host: box, allocator: jemalloc-debian, conf: {conf}}}}}\n"
        f"datasets: {{d: {{node: main, keys: {keys}, key_bytes: 10, value_bytes: 1024}}}}\n{group}"
        f"timeline: [{{at: 1s, run: {'BGREWRITEAOF' if aof else 'BGSAVE'}, node: main}}]\n"
    )


def with_fault(ns: int) -> str:
    """The default profile with another cost of a copied page."""
    yaml, out = YAML(typ="safe", pure=True), io.StringIO()
    data = yaml.load(profile(zero=False))
    data["later"]["cow_fault_ns"]["value"] = ns
    yaml.dump(data, out)
    return out.getvalue()


def median_us(gib: float) -> float:
    return float(np.median([row["latest_fork_usec"] for row in RECORDED["forks"] if row["gib"] == gib]))


def rss_mib(gib: float) -> float:
    return float(np.median([row["rss"] for row in RECORDED["forks"] if row["gib"] == gib])) / MIB


@functools.cache
def stall() -> list[Row]:
    """latest_fork_usec, medians of five: predicted by a line through the smaller sizes, and by the default profile."""
    small = [gib for gib in SIZES if gib <= 1]
    slope, fixed = np.polyfit([rss_mib(gib) for gib in small], [median_us(gib) for gib in small], 1)
    rows = [
        Row("stall", f"{gib} GiB", "us, from <= 1", median_us(gib), fixed + slope * rss_mib(gib), 1.25)
        for gib in SIZES
        if gib > 1
    ]
    for gib in SIZES:
        keys = next(row["keys"] for row in RECORDED["forks"] if row["gib"] == gib)
        node = redsim.run(scenario(body(keys=keys, seconds=1.05, disk="{bytes_per_s: 1gb}"))).summary["nodes"]["main"]
        rows.append(Row("stall", f"{gib} GiB", "us, profile", median_us(gib), node["info"]["stats"]["latest_fork_usec"], 1.25))
        tables = next(row["vm_pte_kb"] for row in RECORDED["forks"] if row["gib"] == gib)
        rows.append(Row("stall", f"{gib} GiB", "VmPTE kB", tables, page_tables_bytes(round(rss_mib(gib) * MIB)) / 1024, 1.4))
    return rows


@functools.cache
def save() -> list[Row]:
    """Time and length of a file, and the copied bytes, of a save without load."""
    rows = []
    for gib in SIZES:
        full = [row for row in RECORDED["forks"] if row["gib"] == gib and row["bgsave_wall_s"]]
        if not full:
            continue
        child = redsim.run(scenario(body(keys=full[0]["keys"], seconds=1.2 + 13 * gib))).summary["nodes"]["main"]["children"][0]
        seen = float(np.median([row["bgsave_wall_s"] for row in full]))
        rows.append(Row("save", f"{gib} GiB", "s, noticed", seen, child["noticed_s"] - child["at_s"], 1.25))
        rows.append(Row("save", f"{gib} GiB", "file bytes", full[0]["rdb_size"], child["file_bytes"], 1.002))
        copied = float(np.median([row["rdb_last_cow_size"] for row in full]))
        rows.append(Row("save", f"{gib} GiB", "copied bytes", copied, child["cow_bytes"], 1.25))
    return rows


def case(row: dict[str, Any]) -> str:
    return f"{row['writes_per_s'] // 1000}k/s " + ("zipf" if row["zipf"] else "uniform")


@functools.cache
def copied() -> list[Row]:
    """rdb_last_cow_size by write rate and popularity, counted at as many writes as there were: nothing is fitted."""
    rows = []
    for r in LOADED:
        text = body(keys=396_214, rate=40_000, zipf=r["zipf"], requests=r["writes_during"], disk="{bytes_per_s: 2mb}", seconds=7)
        w = world_of(scenario(text)).w
        assert int(w.child[dp.CH_STATE]) == dp.CHILD_ALIVE
        bytes_copied = (int(w.child[dp.CH_COPIED]) << 12) + 940_000
        rows.append(Row("copied", case(r), "MB", r["rdb_last_cow_size"] / 1e6, bytes_copied / 1e6, 1.15))
    return rows


def loaded_rows(section: str, fault_ns: int | None) -> list[Row]:
    rows = []
    for r in LOADED:
        if section == "fitted" and (r["writes_per_s"], r["zipf"]) == FITTED_ON:
            continue
        text = body(keys=396_214, rate=r["writes_per_s"], zipf=r["zipf"], seconds=16)
        result = redsim.run(scenario(text, profile_text=with_fault(fault_ns) if fault_ns else None))
        child = result.summary["nodes"]["main"]["children"][0]
        rows.append(Row(section, case(r), "save s", r["save_wall_s"], child["noticed_s"] - child["at_s"], 1.25))
        rows.append(Row(section, case(r), "copied MB", r["rdb_last_cow_size"] / 1e6, child["cow_bytes"] / 1e6, 1.25))
    return rows


@functools.cache
def loaded() -> list[Row]:
    """Save time and copied bytes under load, all from the default profile."""
    return loaded_rows("loaded", None)


@functools.cache
def fitted() -> list[Row]:
    """The same, with the cost of a fault that makes the save of one row as long as it was."""
    return loaded_rows("fitted", FITTED_FAULT_NS)


@functools.cache
def rewrites() -> list[Row]:
    """BGREWRITEAOF of 0.5 GiB at 0, 5,000 and 10,000 writes/s: time, base file, copied bytes."""
    rows = []
    for r in RECORDED["rewrites"]:
        name, rate = f"{r['rate_per_s'] // 1000}k/s", r["rate_per_s"]
        text = body(keys=396_214, rate=rate, seconds=14, aof=True)
        child = redsim.run(scenario(text)).summary["nodes"]["main"]["children"][0]
        rows.append(Row("rewrites", name, "wall s", r["wall_s"], child["noticed_s"] - child["at_s"], 1.25))
        rows.append(Row("rewrites", name, "base bytes", r["base_file_bytes"], child["file_bytes"], 1.002))
        rows.append(Row("rewrites", name, "copied MB", r["aof_last_cow_size"] / 1e6, child["cow_bytes"] / 1e6, 1.25))
    return rows


SECTIONS: dict[str, Callable[[], list[Row]]] = {
    "stall": stall, "save": save, "copied": copied, "loaded": loaded, "fitted": fitted, "rewrites": rewrites,
}  # fmt: skip


@pytest.mark.parametrize("section", list(SECTIONS))
def test_forks_and_saves_are_near_the_measured_servers(section: str) -> None:
    """tests/recorded/fork_bgsave.json; the bound of the row, or what MISSES says."""
    far = [row.line(MISSES) for row in SECTIONS[section]() if row.factor() > row.allowed(MISSES)]
    assert not far, "\n".join(far)


def test_every_named_miss_of_a_fork_is_still_missed() -> None:
    """A row that has become a hit has no business in MISSES."""
    rows = {(row.section, row.case, row.quantity): row for make in SECTIONS.values() for row in make()}
    assert [key for key in MISSES if rows[key].is_hit()] == []


@pytest.mark.parametrize("case", RECORDED["auto"], ids=lambda case: f"{case['percentage']}-{case['min_size']}")
def test_rewrites_begin_where_the_labs_began(case: dict[str, Any]) -> None:
    """serverCron's trigger on the lab's own sizes: due at each start, not at the end of a rewrite. Exact."""
    least = {"1mb": MIB, "2mb": 2 * MIB}[case["min_size"]]
    for is_at_work, base, size in case["events"][1:]:
        aof = SimpleNamespace(in_files=lambda size=size: size)
        rewriter = Rewriter(aof, case["percentage"], least, False, True, grown_from=base)  # type: ignore[arg-type]
        assert rewriter.is_due(0) == bool(is_at_work), (base, size)


def table(sections: list[str]) -> Iterator[str]:
    """Every row of these sections (default: all), then how many are hits."""
    return lines_of([row for name in sections or SECTIONS for row in SECTIONS[name]()], MISSES)


if __name__ == "__main__":
    print("\n".join(table(sys.argv[1:])))
