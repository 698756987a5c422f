"""Accuracy out of graded rows: by quantity, by utilisation, by region, and the places where not to trust the model.

Mirrors nothing in Redis. Fitted rows never count, nor do rows that measured nothing. Medians are over all other rows, the
inconclusive ones too: leaving them out would let noise hide what is wrong; the median of the conclusive ones stands beside it,
and so does the noise floor: the median of how far two real runs of one case differ in that quantity.
A region is one quantity in one band of utilisation under one kind of load. NOT modelled: weights; a case counts as one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from redsim.lab.grade import COLUMNS, INCONCLUSIVE, MISS, PASS, QUANTITIES, Row, quantity_of
from redsim.scenario.regime import BANDS, KINDS, band_of

DISTRUST = 1.5  # a region whose median error is above this many times its bar is one not to be trusted


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """The rows as a frame: the columns of cases.csv, kind, evidence, noise_pct, name (the quantity without its command), band."""
    columns = [*COLUMNS, "kind", "evidence", "noise_pct"]
    made = pd.DataFrame([[getattr(row, column) for column in columns] for row in rows], columns=columns)
    made["name"] = made["quantity"].str.partition(" ")[0]
    made["band"] = [band_of(u) if np.isfinite(u) else "" for u in made["utilisation"]]
    return made


def predicted_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that count: never fitted, something measured and a finite error."""
    was_measured = np.isfinite(rows["error_pct"].astype(float)) & np.isfinite(rows["measured"].astype(float))
    return rows[~rows["fitted"].astype(bool) & was_measured]


def _of(rows: pd.DataFrame) -> dict[str, float]:
    errors = rows["error_pct"]
    size = errors.abs()
    return {
        "rows": len(errors),
        "median_error_pct": round(float(size.median()), 2),
        "mape_pct": round(float(size.mean()), 2),
        "worst_error_pct": round(float(errors.iloc[int(np.argmax(size.to_numpy()))]), 2),
        "bias_pct": round(float(errors.mean()), 2),
        "noise_pct": round(float(rows["noise_pct"].median()), 2),
    }


def by_quantity(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per quantity: rows, verdicts, median and worst error, MAPE, bias (mean signed error), noise floor, bar,
    median within it.

    `p99_us` is judged below 80 % utilisation, as its bar says; `conclusive_median_error_pct` leaves the inconclusive rows out.
    """
    told = predicted_rows(rows)
    out = []
    for name, what in QUANTITIES.items():
        mine = told[told["name"] == name]
        if what.bar_busy_pct is not None and name == "p99_us":
            mine = mine[mine["utilisation"] < 0.8]
        if mine.empty:
            continue
        sure = mine[mine["verdict"] != INCONCLUSIVE]["error_pct"].abs()
        numbers = _of(mine)
        counts = {verdict: int((mine["verdict"] == verdict).sum()) for verdict in (PASS, MISS, INCONCLUSIVE)}
        worst = str(mine["case"].iloc[int(np.argmax(mine["error_pct"].abs().to_numpy()))])
        median = round(float(sure.median()), 2) if len(sure) else float("nan")
        out.append({"quantity": name, "says": what.says, **numbers, "worst_case": worst, **counts,
                    "conclusive_median_error_pct": median, "bar_pct": what.bar_pct,
                    "kept": numbers["median_error_pct"] <= what.bar_pct})  # fmt: skip
    return pd.DataFrame(out)


def by_utilisation(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per quantity and band of utilisation: rows, median and worst error, MAPE, bias, noise floor."""
    told = predicted_rows(rows)
    out = []
    for name in QUANTITIES:
        for _, band in BANDS:
            mine = told[(told["name"] == name) & (told["band"] == band)]
            if len(mine):
                out.append({"quantity": name, "band": band, **_of(mine)})
    return pd.DataFrame(out)


def regions(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """quantity × band × kind of load with what was found there: rows, median, worst, bias, bar, and `trusted`.

    A region is trusted when its median error is at most DISTRUST bars; regions without a row are not in the list.
    """
    told = predicted_rows(rows)
    out = []
    for name, what in QUANTITIES.items():
        if what.bar_pct == 0:
            continue
        for kind in KINDS:
            for below, band in BANDS:
                mine = told[(told["name"] == name) & (told["band"] == band) & (told["kind"] == kind)]
                if mine.empty:
                    continue
                bar = what.bar(min(below, 1.0) - 1e-9)
                numbers = _of(mine)
                trusted = bool(numbers["median_error_pct"] <= DISTRUST * bar)
                out.append({"quantity": name, "band": band, "kind": kind, **numbers, "bar_pct": bar, "trusted": trusted})
    return out


def misses(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose verdict is miss, the widest of their bar first."""
    found = rows[rows["verdict"] == MISS].copy()
    bars = [max(quantity_of(q).bar(u), 1.0) for q, u in zip(found["quantity"], found["utilisation"], strict=True)]
    found["bars"] = found["error_pct"].abs() / np.array(bars, dtype=float) if len(found) else []
    return found.sort_values("bars", ascending=False, kind="stable")


def headline(rows: pd.DataFrame) -> dict[str, Any]:
    """For the first sentence: cases, rows by verdict (fitted ones apart), MAPE and bias over all that count."""
    told = rows[~rows["fitted"].astype(bool)]
    numbers = _of(predicted_rows(rows)) if len(predicted_rows(rows)) else {}
    verdicts = {v: int((told["verdict"] == v).sum()) for v in (PASS, MISS, INCONCLUSIVE)}
    return {"cases": int(rows["case"].nunique()), "fitted_rows": int(rows["fitted"].sum()), **verdicts, **numbers}
