"""`redsim size` of what `redis-cli --bigkeys` or `--memkeys` printed: keys by type, their bytes, and data sets for a scenario.

One file may hold both reports, one behind the other: --bigkeys has the elements, --memkeys the bytes.
Differs: a size is its type's average, and one key is the biggest, as the reports say no more. Not modelled: streams, which are
counted only.
"""

import re
from pathlib import Path

from redsim.lab.observe_files import HEAD_BYTES, TEXT_BYTES_MAX, kind_of, shapes_of_reports
from redsim.lab.observed import Shape
from redsim.lab.observed_scenario import PLURAL, dataset_lines
from redsim.scenario.errors import ScenarioError
from redsim.units import say_bytes

__all__ = ["key_report_shapes", "keys_datasets_text", "keys_lines"]

_REPORT = re.compile(r"(?=^# Scanning the entire keyspace)", re.MULTILINE)
_MEMORY = re.compile(r"^\d{1,15} (list|hash|set|zset)s with \d{1,18} bytes ", re.MULTILINE)
_OF_TYPE = re.compile(r"^(\d{1,15}) (string|list|hash|set|zset|stream)s with (\d{1,18}) bytes ", re.MULTILINE)


def _reports(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            raw = file.read(TEXT_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the name is not one a file can have"
        raise ScenarioError(f"{path}: cannot be read ({reason})") from None
    if kind_of(raw[:HEAD_BYTES]) != "keys" or len(raw) > TEXT_BYTES_MAX:
        raise ScenarioError(f"{path}: is neither an RDB file nor what redis-cli --bigkeys or --memkeys prints; give one of these")
    return [text for text in _REPORT.split(raw.decode("utf-8", "replace").replace("\r\n", "\n")) if text.strip()]


def key_report_shapes(path: Path) -> tuple[list[Shape], dict[str, int]]:
    """(a Shape for each type of key, bytes of each type where --memkeys told); ScenarioError if the file is something else."""
    texts = _reports(path)
    shapes = shapes_of_reports(texts)
    if not shapes:
        raise ScenarioError(f"{path}: has no summary of the keys by type; let redis-cli --bigkeys or --memkeys run to its end")
    memory = {m[2]: int(m[3]) for text in texts if _MEMORY.search(text) for m in _OF_TYPE.finditer(text)}
    return shapes, memory


def keys_lines(path: Path) -> list[str]:
    """The report on the terminal."""
    shapes, memory = key_report_shapes(path)
    lines = [f"{path}: {sum(shape.keys for shape in shapes):,} keys"]
    for shape in shapes:
        said = f"  {shape.keys:,} {PLURAL.get(shape.type, shape.type + 's')}"
        if shape.elements:
            mean = sum(n * count for n, count in shape.elements) / max(shape.keys, 1)
            said += f", {mean:.3g} elements on the average"
        if shape.biggest is not None:
            what = say_bytes(shape.biggest) if shape.type == "string" else f"{shape.biggest:,} elements"
            said += f", {what} in the biggest"
        if shape.type in memory:
            said += f"; {say_bytes(memory[shape.type])}, {say_bytes(round(memory[shape.type] / shape.keys))} a key"
        lines.append(said)
    if memory:
        lines.append(f"  {say_bytes(sum(memory.values()))} together by MEMORY USAGE, without tables and TTLs")
    return lines


def keys_datasets_text(path: Path) -> str:
    """The `datasets:` of a scenario."""
    lines = [f"datasets:  # of {path.name}, read by redsim size"]
    for shape in key_report_shapes(path)[0]:
        lines += dataset_lines(shape) if shape.type in PLURAL else [f"  # {shape.keys:,} {shape.type}s are not modelled"]
    return "\n".join(lines) + "\n"
