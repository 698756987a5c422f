"""What redis-cli would print of a server's memory at the end of the run: INFO memory, MEMORY STATS and MEMORY DOCTOR.

Mirrors redis-cli's own layout of the three answers. Differs: the doctor's findings are Redis' names of them with advice in our
words. NOT modelled: nothing is computed; the summary holds the answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redsim.report import facts
from redsim.run.result import Result


@dataclass(frozen=True)
class Text:
    """One answer: the command and its node, and the lines it prints."""

    title: str
    lines: list[str]


def memory_texts(result: Result) -> list[Text]:
    """The three answers of each node that has them."""
    texts = []
    for node, numbers in facts.nodes(result).items():
        info = (numbers.get("info") or {}).get("memory")
        if not info:
            continue
        texts.append(Text(f"INFO memory of {node}", ["# Memory", *(f"{name}:{value}" for name, value in info.items())]))
        texts.append(Text(f"MEMORY STATS of {node}", _reply(numbers.get("memory_stats") or {})))
        found = [f"* {entry['code']}: {entry['advice']}" for entry in numbers.get("memory_doctor") or []]
        texts.append(Text(f"MEMORY DOCTOR of {node}", found or ["no complaint"]))
    return texts


def _reply(stats: Mapping[str, Any]) -> list[str]:
    """A map as redis-cli numbers it, one within another indented."""
    width = len(str(2 * len(stats)))
    lines = []
    for at, (name, value) in enumerate(stats.items()):
        lines.append(f'{2 * at + 1:>{width}}) "{name}"')
        said = _reply(value) if isinstance(value, Mapping) else [_scalar(value)]
        lines.append(f"{2 * at + 2:>{width}}) {said[0]}")
        lines += [" " * (width + 2) + line for line in said[1:]]
    return lines


def _scalar(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else f"(integer) {value}"
