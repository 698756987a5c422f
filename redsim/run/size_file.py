"""`redsim size dump.rdb`: the report of an RDB file on the terminal, as JSON, and as the data sets of a scenario.

Not modelled: other files; what redis-cli --bigkeys and --memkeys print is read by redsim/lab, as `redsim observe` does.
"""

import json
from pathlib import Path

from redsim.redis.config import Rules
from redsim.redis.rdb_read import MAGIC
from redsim.run.progress import share_bar
from redsim.run.rdb_report import rdb_report
from redsim.run.rdb_text import datasets_text, report_lines
from redsim.scenario.errors import ScenarioError

__all__ = ["is_text", "rdb_lines", "write_text"]


def rdb_lines(
    path: Path, rules: Rules, *, out: Path | None = None, datasets: Path | None = None, quiet: bool = False
) -> list[str]:
    """What to print of an RDB file; `out` gets the figures as JSON, `datasets` the data sets as YAML.

    ScenarioError if the file cannot be read, or one of the others not be written.
    """
    with share_bar(f"reading {path.name}", quiet=quiet) as progress:
        report = rdb_report(path, rules, lambda share: progress(f"reading {path.name}", share))
    if out is not None:
        write_text(out, json.dumps(report.as_dict(), indent=1, ensure_ascii=False) + "\n")
    if datasets is not None:
        write_text(datasets, datasets_text(report))
    return report_lines(report)


def is_text(path: Path) -> bool:
    """Whether the file is there and does not begin as an RDB file does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) != MAGIC


def write_text(path: Path, text: str) -> None:
    """Write a file that was asked for; ScenarioError, one sentence, if that cannot be done."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be written ({error.strerror}); give a file in a folder that exists") from None
