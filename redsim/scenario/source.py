"""A scenario file as text with line numbers: YAML 1.2 → plain dicts, and the line of every key.

Mirrors: YAML 1.2 core types (`yes`, `no`, `on` stay words; `1e6` is the whole number 1000000).
Differs: duplicate keys, merge keys (`<<`), tags of any language and numbers beyond 2**62 are refused.
Not modelled: several documents in one file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from redsim.scenario.errors import ScenarioError

Keys = tuple[str | int, ...]

SCENARIO_BYTES_MAX = 1024 * 1024
DEPTH_MAX = 30
NODES_MAX = 100_000  # after aliases are followed: a file of nested aliases grows without bound
INTEGER_MAX = 2**62
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Source:
    """What was read: `label` is the name errors print, `lines` maps the path of a key to its line,
    `blocks` the path of a `|` text to the line of its first character."""

    label: str
    text: str
    data: dict[str, Any]
    lines: Mapping[Keys, int]
    blocks: Mapping[Keys, int]

    def where(self, *keys: str | int) -> str:
        """`file:line` of the key at that path, or of its nearest parent that stands in the file."""
        path = tuple(keys)
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.label}:{self.lines.get(path, 1)}"


def show(value: object, limit: int = 60) -> str:
    """A value for an error sentence: on one line, cut short, never the inside of a container."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None:
        return "empty"
    text = repr(value[: limit + 1] if isinstance(value, str) else value)
    return text if len(text) <= limit + 2 else text[:limit] + "…"


def dotted(keys: Keys) -> str:
    """`clients.api.keys`; a part that is not a plain word is quoted, a list index stays a number."""
    parts = (str(k) if isinstance(k, int) or _is_plain(k) else show(k) for k in keys)
    return ".".join(parts) or "the file"


def _is_plain(word: str) -> bool:
    return 0 < len(word) <= 60 and all(c.isalnum() or c in "_-|:*/" for c in word)


def read_text(path: Path) -> str:
    """The file as text. ScenarioError when it is missing, a directory, too large or not UTF-8."""
    try:
        with path.open("rb") as file:
            raw = file.read(SCENARIO_BYTES_MAX + 1)
    except IsADirectoryError:
        raise ScenarioError(f"{path}:1: is a directory; name a scenario file in it") from None
    except FileNotFoundError:
        raise ScenarioError(f"{path}:1: no such file; `redsim list` names the shipped scenarios") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the name holds a zero byte"
        raise ScenarioError(f"{str(path)!r}:1: cannot be read: {reason}") from None
    if len(raw) > SCENARIO_BYTES_MAX:
        raise ScenarioError(f"{path}:1: is larger than 1 MiB; is this a scenario?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ScenarioError(
            f"{path}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8 text; save the file as UTF-8 YAML"
        ) from None


def parse_source(text: str, label: str, start: str = "question:, duration:, hosts:, nodes:") -> Source:
    """Parse one YAML document whose top level is a mapping; ScenarioError `label:line: …` otherwise. `start`: the keys such a
    file starts with, for the cure."""
    root = _compose(text, label)
    if root is None:
        raise ScenarioError(f"{label}:1: the file is empty; start with {start}")
    if not isinstance(root, MappingNode):
        raise ScenarioError(f"{label}:{root.start_mark.line + 1}: the top level is not a mapping; start with {start}")
    reader = _Reader(label)
    data = reader.build(root, ())
    return Source(label, text, data, reader.lines, reader.blocks)


def parse_value(text: str, where: str) -> Any:
    """One YAML value, as after the `=` of `--set`."""
    root = _compose(text, where)
    return None if root is None else _Reader(where).build(root, ())


def _compose(text: str, label: str) -> Any:
    yaml = YAML(typ="safe", pure=True)
    try:
        return yaml.compose(text)
    except MarkedYAMLError as error:
        unclosed = str(error.context or "").startswith("while parsing a flow")
        mark = error.context_mark if unclosed else error.problem_mark or error.context_mark
        raise ScenarioError(f"{label}:{mark.line + 1 if mark else 1}: {_say_yaml(error)}") from None
    except YAMLError as error:
        position = getattr(error, "position", 0) or 0
        line = text.count("\n", 0, position) + 1
        character = text[position : position + 1]
        raise ScenarioError(f"{label}:{line}: {character!r} cannot stand in YAML; is this text?") from None
    except RecursionError:
        raise ScenarioError(f"{label}:1: nests too deeply; a scenario nests 8 levels or so") from None
    except (ValueError, AttributeError, AssertionError, IndexError, TypeError, NotImplementedError) as error:
        # ruamel's scanner trips over some malformed directives and escapes with plain exceptions
        raise ScenarioError(f"{label}:1: is not valid YAML ({show(str(error))})") from None


def _say_yaml(error: MarkedYAMLError) -> str:
    problem = " ".join(str(error.problem or error.context or "is not valid YAML").split())
    if str(error.context or "").startswith("while parsing a flow"):
        return "is not valid YAML: the { or [ that opens here is not closed, or a comma is missing in it"
    if "\\t" in problem:
        return "a tab cannot indent YAML; use spaces"
    if "mapping values are not allowed" in problem:
        return "a second ': ' on one line; quote the value, or put the key on a line of its own"
    if "found another document" in problem:
        return "a second document starts here (---); a scenario file holds one"
    if "could not find expected ':'" in problem:
        return "this key has no ': ' after it"
    return f"is not valid YAML: {problem}"


class _Reader:
    """Nodes to plain values; remembers the line of each path."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.lines: dict[Keys, int] = {}
        self.blocks: dict[Keys, int] = {}
        self._yaml = YAML(typ="safe", pure=True)
        self._nodes = 0

    def build(self, node: Any, path: Keys) -> Any:
        self._nodes += 1
        if len(path) > DEPTH_MAX:
            raise self._error(node, "nests too deeply; a scenario nests 8 levels or so")
        if self._nodes > NODES_MAX:
            raise self._error(node, f"holds more than {NODES_MAX:,} values once its aliases are followed")
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self._item(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _item(self, node: Any, path: Keys) -> Any:
        self.lines[path] = node.start_mark.line + 1
        return self.build(node, path)

    def _mapping(self, node: Any, path: Keys) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if key in found:
                raise self._error(key_node, f"{dotted((*path, key))} is given twice; keep one")
            self.lines[*path, key] = key_node.start_mark.line + 1
            found[key] = self.build(value_node, (*path, key))
        return found

    def _key(self, node: Any) -> str:
        if not isinstance(node, ScalarNode):
            raise self._error(node, "a key here is a list or a mapping; keys are words")
        if str(node.tag) == _TAG + "merge":
            raise self._error(node, "'<<' merge keys are not read; write the keys out")
        if str(node.tag) != _TAG + "str":
            raise self._error(node, f"the key {show(str(node.value))} is not a word; write it in quotes")
        return str(node.value)

    def _scalar(self, node: Any, path: Keys) -> Any:
        kind = str(node.tag).removeprefix(_TAG)
        if kind in ("str", "timestamp", "value"):
            if node.style == "|":
                self.blocks[path] = node.start_mark.line + 2
            return str(node.value)
        if kind == "null":
            return None
        if kind not in ("bool", "int", "float"):
            raise self._error(node, f"the tag {show(str(node.tag))} is not read here; write a plain value")
        return self._number(node, kind, path)

    def _number(self, node: Any, kind: str, path: Keys) -> bool | int | float:
        try:
            value = getattr(self._yaml.constructor, f"construct_yaml_{kind}")(node)
        except (ValueError, KeyError, OverflowError, IndexError):
            raise self._error(node, f"{dotted(path)}: {show(str(node.value))} is not a number") from None
        if kind == "bool":
            return bool(value)
        if kind == "int" and abs(value) > INTEGER_MAX:
            raise self._error(node, f"{dotted(path)}: {show(str(node.value))} is too large a number")
        exponent = "e" in str(node.value).lower() and abs(value) <= INTEGER_MAX and value % 1 == 0
        return int(value) if kind == "int" or exponent else float(value)

    def _error(self, node: Any, sentence: str) -> ScenarioError:
        return ScenarioError(f"{self.label}:{node.start_mark.line + 1}: {sentence}")
