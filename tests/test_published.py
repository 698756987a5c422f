"""Published tables about Redis and Valkey against redsim: one constant fitted per host, every other row predicted.

    python -m tests.test_published [table …]     prints every row: measured, predicted, error, verdict, cause
    python -m tests.test_published refit         fits each host's speed again and writes it into its profile

A row is held to the bound of its kind of source (BOUND_PCT) unless its table names what is missing in the model; such a row is a
known miss, held to its own bound in MISSES so that it cannot grow, and must still be one, so that a mechanism built later shows.
"""

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from redsim.lab.grade import COLUMNS
from redsim.lab.published import Row, Table, fit_speed, fitted_row, read_table, rows, scenario_of, tables, verdict
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
            path = PROFILES / f"{table.profile}.yaml"
            text = path.read_text(encoding="utf-8")
            path.write_text(re.sub(r"speed: \{value: [\d.]+", f"speed: {{value: {speed}", text), encoding="utf-8")
            yield f"{table.profile}: {speed}"


if __name__ == "__main__":
    print("\n".join(refit() if sys.argv[1:] == ["refit"] else table_lines(sys.argv[1:])))
