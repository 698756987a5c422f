"""An RDB report as a person reads it, and its data sets as a scenario file takes them.

A data set is made of the keys of one pattern and type, as rdb_datasets.py says.
Not modelled: streams and modules' values in a scenario; they are named in a comment.
"""

import json
import re
from collections.abc import Iterable

from redsim.run.rdb_datasets import MODELLED, shape_of
from redsim.run.rdb_report import Part, RdbReport, figures, ordered, say_key
from redsim.scenario.schema import Size
from redsim.units import MS, say_bytes

__all__ = ["datasets_text", "report_lines"]

SHOWN = 30  # rows of the table of patterns


def _table(head: Iterable[str], rows: list[list[str]]) -> list[str]:
    """Columns, the first ones flush left, figures flush right."""
    everything = [list(head), *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(everything[0]))]
    is_figure = [all(re.fullmatch(r"[0-9.,]+ ?[kMGT]?i?B?|[0-9.]+%", row[c]) for row in rows) for c in range(len(widths))]
    out = []
    for row in everything:
        cells = [cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(row, widths, is_figure, strict=True)]
        out.append("  " + "  ".join(cells).rstrip())
    return out


def report_lines(report: RdbReport) -> list[str]:
    """The report for a terminal."""
    written_by = report.file.aux.get("redis-ver", "an unnamed version")
    used, said = report.used_memory_bytes(), report.as_dict()["used_memory_when_written"]
    asked = f"{report.rules.conf.version}, {report.rules.allocator.name}"
    lines = [
        f"{report.file.path}: RDB version {report.file.version}, written by {written_by}; {report.keys:,} keys in"
        f" {len(report.dbs)} database{'s' if len(report.dbs) != 1 else ''}, {sum(report.volatile.values()):,} with a TTL",
        f"used_memory in a server that loads it ({asked}): {say_bytes(used)}"
        + (f"; the server that wrote it had {say_bytes(said)}" if said else ""),
        "",
    ]
    total = max(sum(part.memory_bytes for part in report.types.values()), 1)

    def rows(parts: list[tuple[list[str], Part]]) -> list[list[str]]:
        return [
            [
                *names, f"{part.keys:,}", f"{part.elements:,}", say_bytes(part.memory_bytes), f"{part.memory_bytes / total:.1%}",
                say_bytes(round(part.memory_bytes / part.keys)), say_bytes(part.biggest_bytes), say_bytes(part.saved_bytes),
                f"{len(part.ttl_ms):,}",
            ]
            for names, part in parts
        ]  # fmt: skip

    head = ["keys", "elements", "memory", "share", "mean", "biggest", "in the file", "with TTL"]
    lines += _table(["type", *head], rows([([name], part) for name, part in ordered(report.types)]))
    encodings = [([name, kind], part) for (name, kind), part in ordered(report.encodings)]
    lines += ["", *_table(["encoding", "type", *head], rows(encodings))]
    patterns = [([say_key(name.encode()), kind], part) for (name, kind), part in ordered(report.patterns)]
    lines += ["", *_table(["keys like", "type", *head], rows(patterns[:SHOWN]))]
    if len(patterns) > SHOWN:
        lines.append(f"  and {len(patterns) - SHOWN:,} more, with {say_bytes(sum(p.memory_bytes for _, p in patterns[SHOWN:]))}")
    biggest = [
        [say_key(key), kind, encoding, f"{elements:,}", say_bytes(size)]
        for size, key, kind, encoding, elements in sorted(report.biggest, reverse=True)
    ]
    lines += ["", *_table(["biggest keys", "type", "encoding", "elements", "memory"], biggest)] if biggest else []
    over = sum(figures(part)["ttl_over"] for part in report.types.values())
    lines += [f"{over:,} keys were past their TTL when the file was written; a master that loads it drops them"] if over else []
    lines += [f"passed over: {count:,} x {what}" for what, count in sorted(report.file.skipped.items())]
    return lines


# ---- data sets ---------------------------------------------------------------------------------------------------------------


def datasets_text(report: RdbReport, node: str = "main") -> str:
    """The `datasets:` of a scenario file, one for each pattern and type of key."""
    lines = [f"datasets:  # of {say_key(report.file.path.name.encode())}, {report.keys:,} keys; read by redsim size"]
    names: set[str] = set()
    for (pattern, kind), part in ordered(report.patterns):
        if kind not in MODELLED:
            lines.append(f"  # {part.keys:,} keys like {say_key(pattern.encode())} are of type {kind}, which is not modelled")
            continue
        lines += _dataset(_name(pattern, kind, names), pattern, kind, part, node)
    return "\n".join(lines) + "\n"


def _name(pattern: str, kind: str, names: set[str]) -> str:
    """A word for the data set: the pattern's letters and digits, told apart by type and number where that is not enough."""
    word = re.sub(r"[^a-z0-9]+", "-", pattern.lower()).strip("-") or kind
    tries = [word, f"{word}-{kind}", *(f"{word}-{kind}-{number}" for number in range(2, len(names) + 3))]
    name = next(each for each in tries if each not in names)
    names.add(name)
    return name


def _dataset(name: str, pattern: str, kind: str, part: Part, node: str) -> list[str]:
    shape = shape_of(part, kind)
    said = f"keys like {say_key(pattern.encode())}; {say_bytes(part.memory_bytes)}, the biggest {say_bytes(part.biggest_bytes)}"
    lines = [
        f"  {json.dumps(name)}:  # {said}",
        f"    node: {json.dumps(node)}",
        f"    keys: {shape['keys']}",
        f"    type: {kind}",
    ]
    lines += [f"    {field}: {_size(shape[field])}" for field in ("key_bytes", "elements", "value_bytes") if field in shape]
    ttl = shape.get("ttl")
    if ttl is not None:
        low, high = (time_ns // MS for time_ns in ttl.uniform)
        lines.append(f"    ttl: {{uniform: [{low}ms, {high}ms], share: {ttl.share:.6g}}}")
    return lines


def _size(size: Size) -> str:
    if size.table is None:
        return str(size.constant)
    return "{table: [" + ", ".join(f"[{value}, {weight:.0f}]" for value, weight in size.table) + "]}"
