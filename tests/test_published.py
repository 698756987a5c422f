"""Published tables about Redis and Valkey against redsim: one constant fitted per host, every other row predicted.

    python -m tests.test_published [table …]     prints every row: measured, predicted, error, verdict, cause
    python -m tests.test_published refit         fits each host's speed again and writes it into its profile

A row is held to the bar of its quantity and the spread of its source unless its table names what is missing in the model; such a
row is a known miss, held to its own bound (`within_pct`) so that it cannot grow, and must still be one, so that a mechanism built
later shows.
"""

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from redsim.lab.grade import COLUMNS
from redsim.lab.published import fit_speed, fitted_row, read_table, rows, scenario_of, tables, verdict
from redsim.refs import refs
from redsim.scenario.errors import ScenarioError
from redsim.scenario.profile import load_profile, scaled

PROFILES = Path(__file__).resolve().parents[1] / "redsim" / "scenario" / "profiles"
TABLES = {table.table: table for table in tables()}


@cache
def published() -> pd.DataFrame:
    return rows()


def table_lines(only: list[str]) -> Iterator[str]:
    """Every row of these tables (default: all), then how many pass and the median error of what was not fitted."""
    frame = rows(only)
    for r in frame.itertuples():
        numbers = f"{r.measured:>12,.0f}{r.predicted:>12,.0f}{r.error_pct:>+8.1f} %"
        yield f"{r.case:48}{r.quantity:20}{numbers}  {'fitted' if r.fitted else r.verdict:13}{r.cause}"
    free = frame[~frame.fitted]
    yield f"{(free.verdict == 'pass').sum()} of {len(free)} pass; median error {free.error_pct.abs().median():.1f} %"


def refit() -> Iterator[str]:
    """Write each host's fitted speed into its profile."""
    for table in TABLES.values():
        if fitted_row(table):
            speed = fit_speed(table)
            for path in PROFILES.glob(f"{table.profile}*.yaml"):
                text = path.read_text(encoding="utf-8")
                path.write_text(re.sub(r"speed: \{value: [\d.]+", f"speed: {{value: {speed}", text), encoding="utf-8")
                yield f"{path.stem}: {speed}"


# ---- one constant per host ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, table in TABLES.items() if fitted_row(table)])
def test_a_host_has_one_constant_and_it_is_the_one_its_profile_says(name):
    """published.py: the speed is fitted on the marked row alone, and everything else of the profile is its base's. Half a per
    cent, because a rate counts whole answers; after a change of the model run `python -m tests.test_published refit`."""
    table = TABLES[name]
    profile = load_profile(table.profile, Path())
    base = load_profile(profile.based_on, Path())
    assert fit_speed(table) == pytest.approx(profile.speed, rel=0.005), "refit: python -m tests.test_published refit"
    same = scaled(base, 1 / profile.speed)
    assert (profile.costs, profile.client, profile.commands, profile.curves) == (
        same.costs,
        same.client,
        same.commands,
        same.curves,
    )
    assert profile.loopback_rtt_ns == same.loopback_rtt_ns


def test_what_a_unix_socket_saves_was_measured_by_us_and_not_fitted_to_the_table():
    """lab-unix-socket: the profile for the unix rows is default-unix at the speed fitted over TCP."""
    tcp, unix = load_profile("xeon-x5670-2012", Path()), load_profile("xeon-x5670-2012-unix", Path())
    assert unix.speed == tcp.speed
    assert unix.based_on == "default-unix"
    changed = {name for name in tcp.costs if tcp.costs[name] != unix.costs[name]}
    assert changed == {"read_ns", "write_ns"}
    frame = published()
    free = frame[frame.case.isin([f"xeon-x5670-2012: unix {c}" for c in ("PING", "SET", "GET")])]
    assert len(free) == 3
    assert free.error_pct.abs().max() < 10


# ---- the rows -----------------------------------------------------------------------------------------------------


def test_every_predicted_row_is_within_its_bound_or_a_known_miss_with_a_cause():
    """The bar of the quantity and the spread of the source together (then it is no miss), or the row's own `within_pct`."""
    frame = published()
    bounds = {f"{table.table}: {row.case}": row for table in TABLES.values() for row in table.rows}
    far = []
    for r in frame[~frame.fitted].itertuples():
        row = bounds[str(r.case)]
        is_far = abs(r.error_pct) > row.within_pct if row.within_pct else r.verdict == "miss"  # type: ignore[operator]
        if is_far:
            far.append(f"{r.case}, {r.quantity}: {r.error_pct:+.1f} %")
    assert not far, f"{far}: the model moved; find out why, or name the cause and a bound in the table"


def test_every_known_miss_is_still_one_and_has_a_bound():
    """A row that has become a hit has no business among the misses: take its `missing` out, and the better for the model."""
    frame = published()
    known = {f"{table.table}: {row.case}" for table in TABLES.values() for row in table.rows if row.missing}
    missed = set(frame[frame.verdict == "miss"].case)
    assert known == missed
    assert all(bool(row.missing) == (row.within_pct is not None) for table in TABLES.values() for row in table.rows)


def test_most_rows_of_calls_without_a_pipeline_are_reproduced_by_one_constant():
    """Redis documentation and valkey 1026: with 50 clients and no pipeline the socket decides, and the commands are alike."""
    frame = published()
    hosts = ("xeon-e5520-2010", "linode-2048", "r6g-metal-2024")
    single = frame[~frame.fitted & frame.case.str.contains("50 x 1$") & frame.case.str.startswith(hosts)]
    assert len(single) == 11
    assert single.error_pct.abs().median() < 5
    assert single.error_pct.abs().max() < 10


def test_a_pipeline_of_sixteen_gains_as_much_as_published():
    """Redis documentation: GET 5.7 times as fast on the E5520, 6.7 on the Linode; ours within a tenth of each."""
    frame = published().set_index("case")
    for host, published_gain in (("xeon-e5520-2010", 707464 / 123602), ("linode-2048", 250188 / 37481)):
        gain = frame.predicted[f"{host}: GET 50 x 16"] / frame.predicted[f"{host}: GET 50 x 1"]
        assert gain == pytest.approx(published_gain, rel=0.1)


def test_a_gigabit_link_caps_large_values():
    """Redis documentation, figure of payloads: 1 Gbit/s is full at 10 kB; loopback is not."""
    frame = published().set_index("case").predicted
    bits_per_s = frame["redis-docs-payload: 1 GbE 10 kB"] * 10_000 * 8
    assert 0.94e9 < bits_per_s < 1e9
    assert frame["redis-docs-payload: TCP 10 kB"] > 5 * frame["redis-docs-payload: 1 GbE 10 kB"]


def test_the_frame_has_the_columns_of_cases_csv_and_a_source_for_each_row():
    """reports/validation/cases.csv; fitted rows are marked, and nothing is both fitted and a known miss."""
    frame = published()
    assert list(frame.columns) == [*COLUMNS, "source", "cause", "grade"]
    assert frame.source.str.len().min() > 10
    assert frame.fitted.sum() == sum(fitted_row(table) is not None for table in TABLES.values())
    assert set(frame.verdict) <= {"pass", "miss", "inconclusive"}
    assert not frame.isna().any().any()
    assert all(table.ref in refs() for table in TABLES.values())


def test_a_verdict_weighs_the_sources_own_spread():
    """verdict(): never pass on a source whose spread is wider than the bar."""
    assert verdict(4, bar=5, spread=5) == "pass"
    assert verdict(-8, bar=5, spread=5) == "inconclusive"
    assert verdict(-11, bar=5, spread=5) == "miss"
    assert verdict(1, bar=5, spread=15) == "inconclusive"
    assert verdict(21, bar=5, spread=15) == "miss"


# ---- broken tables ------------------------------------------------------------------------------------------------

GOOD = """\
table: t
says: s
source: a page
ref: redis-benchmarks-page
profile: default
grade: A
rows:
  - {case: a, measured: {throughput_per_s: 1}}
"""


@pytest.mark.parametrize(("old", "new", "words"), [
    ("grade: A", "grade: Z", ["t.yaml:6:", "grade"]),
    ("says: s", "sayz: s", ["t.yaml:2:", "sayz", "'says'"]),
    ("throughput_per_s: 1", "troughput_per_s: 1", ["t.yaml:8:", "throughput_per_s"]),
    ("{case: a,", "{case: a, load: {command: GTE},", ["t.yaml:8:", "'GTE'", "redsim list commands"]),
    ("{case: a,", "{case: a, load: {pipe: 3},", ["t.yaml:8:", "load.pipe", "pipeline"]),
    ("grade: A", "grade: A\nload: {pipelin: 3}", ["t.yaml:", "load.pipelin", "'pipeline'"]),
    ("{case: a,", "{case: a, missing: nothing,", ["nothing", "causes"]),
    ("{case: a,", "{case: a, fitted: p50_us,", ["p50_us", "not measured"]),
    ("rows:", "rows:\n  - {case: b, fitted: p50_us, measured: {p50_us: 1}}\n"
              "  - {case: c, fitted: p50_us, measured: {p50_us: 1}}", ["b, c", "one constant"]),
])  # fmt: skip
def test_a_broken_table_is_refused_with_file_and_line(old, new, words):
    """A table is added by one file; a slip in it must not shift a row's load or fit a second constant."""
    assert read_table(GOOD, "t.yaml").table == "t"
    with pytest.raises(ScenarioError) as caught:
        read_table(GOOD.replace(old, new, 1), "t.yaml")
    assert "\\n" not in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_a_row_becomes_the_scenario_its_source_describes():
    """-c 50 -P 16 -r 1000000 -d 3 of redis-benchmark."""
    table = TABLES["xeon-e5520-2010"]
    row = next(r for r in table.rows if r.case == "SET 50 x 16")
    file = scenario_of(table, row).file
    group = file.clients["published"]
    assert (group.connections, group.pipeline, list(group.commands), group.station.kind) == (50, 16, ["SET"], "redis-benchmark")
    assert (file.datasets["keys"].keys, file.datasets["keys"].value_bytes.constant) == (1_000_000, 3)


def test_an_unknown_table_is_refused_by_name():
    """rows(only): a misspelt name must not answer with an empty table."""
    with pytest.raises(ScenarioError, match="no published table 'linode'"):
        rows(["linode"])


if __name__ == "__main__":
    print("\n".join(refit() if sys.argv[1:] == ["refit"] else table_lines(sys.argv[1:])))
