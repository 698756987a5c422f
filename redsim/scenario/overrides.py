"""`--set path.to.key=value`: changes to a scenario before it is checked.

The path walks the file, or the schema where the file is silent; the value is YAML. What follows
`nodes.<name>.conf.` is a redis.conf directive, what follows `sentinels.conf.` one of sentinel.conf that holds for every master
(or `quorum`); they are handed to the parsers of those grammars as text.
Differs from editing the file: no new host, node, data set or client group can be made up.
Not modelled: taking something out of the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.explain import model_at, names_at
from redsim.scenario.schema import CommandUse
from redsim.scenario.source import Keys, dotted, parse_value, show


@dataclass(frozen=True)
class Override:
    """One `--set`, as written and taken apart; `text` is the part after `=`."""

    written: str
    path: Keys
    text: str

    @property
    def label(self) -> str:
        return f"--set {self.written}" if self.written.isprintable() else f"--set {show(self.written)}"

    @property
    def is_of_sentinels(self) -> bool:
        return len(self.path) > 2 and self.path[:2] == ("sentinels", "conf")

    @property
    def is_directive(self) -> bool:
        return self.is_of_sentinels or (len(self.path) > 3 and self.path[0] == "nodes" and self.path[2] == "conf")

    @property
    def directive(self) -> str:
        return ".".join(str(part) for part in self.path[2 if self.is_of_sentinels else 3 :])


def parse_override(written: str) -> Override:
    """`seed=7` → path `("seed",)`, text `7`. ScenarioError if there is no `=` or the path is empty."""
    name, equals, text = written.partition("=")
    parts = [part.strip() for part in name.strip().split(".")]
    if not equals or not all(parts):
        raise ScenarioError(f"--set {show(written)}: write it as path.to.key=value, e.g. seed=7")
    path = tuple(int(p) if p.isascii() and p.isdigit() and len(p) < 10 else p for p in parts)
    return Override(written, path, text.strip())


def apply_overrides(data: dict[str, Any], overrides: Sequence[Override]) -> None:
    """Change `data` in place; directives of redis.conf are only checked for the name of their node, those of sentinel.conf for
    whether there are Sentinels."""
    for override in overrides:
        if override.is_of_sentinels and "sentinels" not in data:
            raise ScenarioError(f"{override.label}: the scenario has no sentinels; add them with hosts and conf")
        if override.is_directive and not override.is_of_sentinels:
            _descend(data, override.path[:2], override)
        elif not override.is_directive:
            _set(data, override)


def _set(data: dict[str, Any], override: Override) -> None:
    *parents, key = override.path
    parent = _descend(data, tuple(parents), override)
    value = parse_value(override.text, override.label)
    if isinstance(parent, list):
        parent[_index(parent, key, tuple(parents), override)] = value
        return
    key = str(key)
    if key not in parent:
        _must_be_allowed(parent, key, tuple(parents), override, last=True)
    parent[key] = value


def _descend(data: Any, path: Keys, override: Override) -> Any:
    """The container at `path`, made on the way where the schema has one and the file does not."""
    current = data
    for depth, part in enumerate(path):
        here = path[: depth + 1]
        if isinstance(current, list):
            current = current[_index(current, part, path[:depth], override)]
            continue
        part = str(part)
        if part not in current:
            _must_be_allowed(current, part, path[:depth], override, last=False)
            current[part] = {}
        elif not isinstance(current[part], (dict, list)):
            current[part] = _long_form(current[part], here, override)
        current = current[part]
    if not isinstance(current, (dict, list)):
        raise ScenarioError(f"{override.label}: {dotted(path)} is {show(current)} and has nothing inside it")
    return current


def _index(items: list[Any], part: str | int, path: Keys, override: Override) -> int:
    if not isinstance(part, int) or part >= len(items):
        known = f"it has items 0 to {len(items) - 1}" if items else "it is empty"
        raise ScenarioError(f"{override.label}: {dotted(path)} is a list and has no item {show(part)}; {known}")
    return part


def _must_be_allowed(current: dict[str, Any], part: str, path: Keys, override: Override, *, last: bool) -> None:
    """A key the file does not have: right if the schema has it; a new name only as a group's command."""
    model = model_at(path)
    if model is not None and part in model.model_fields:
        if last or model_at((*path, part)) is not None:
            return
    elif model_at((*path, part)) is CommandUse:
        return
    known = list(model.model_fields) if model is not None else list(current)
    there = f"; there is {', '.join(known)}" if 0 < len(known) <= 12 else ""
    cure = did_you_mean(part[:60], known) or there
    raise ScenarioError(f"{override.label}: {dotted(path)} has no {show(part)}{cure}")


def _long_form(value: Any, path: Keys, override: Override) -> dict[str, Any]:
    """`GET: 0.9` becomes `{weight: 0.9}`; any other short form gives way to what is being set."""
    model = model_at(path)
    if model is CommandUse:
        return {"weight": value}
    if model is None and not names_at(path):
        raise ScenarioError(f"{override.label}: {dotted(path)} is {show(value)} and has nothing inside it")
    return {}
