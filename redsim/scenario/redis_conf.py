"""redis.conf, read as Redis reads it: `parse_conf` for text in a scenario, `parse_conf_file` for a file.

Mirrors config.c:loadServerConfigFromString (7.0.15): a comment only where a line starts, names in any case,
quotes as sdssplitargs has them, the last line wins, `save` adds up and `save ""` clears,
`client-output-buffer-limit` class by class, `include` in its place. What a directive means, and in which
versions, is in `directives`.
Differs: `include` is relative to the file that holds it (Redis: to its working directory) and a cycle is
refused. What cannot be honoured (modules, cluster, TLS, replicaof) is refused here, so that no answer
misleads.
Not modelled: `dir` and `logfile` are not tried out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from glob import glob
from pathlib import Path
from typing import Any

from redsim.scenario.directives import (
    SENTINEL_ONLY,
    VERSIONS,
    Directive,
    ascii_lower,
    by_any_name,
    known_names,
    split_args,
    table,
    versions_of,
)
from redsim.scenario.errors import ScenarioError, did_you_mean

__all__ = ["ConfLine", "DirectiveReport", "RedisConf", "parse_conf", "parse_conf_file"]

_ADDS_UP = ("save", "buffer-limit", "rename", "user")  # types whose earlier lines still count
_SHOWN_CHARS_MAX = 300  # of a directive and its value in an error


@dataclass(frozen=True, slots=True)
class ConfLine:
    """One line that says something; `number` counts from 1 in the file `where` (0: an override)."""

    number: int
    directive: str  # lower case, as spelled
    args: tuple[str, ...]
    text: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class DirectiveReport:
    """What became of one line; `status`: modelled, accepted, not modelled yet (refused never gets here)."""

    number: int
    directive: str
    value: str  # as written, passwords masked
    status: str
    says: str
    where: str = ""


@dataclass(frozen=True)
class RedisConf:
    """A redis.conf in force for one version; every line is known, typed and within bounds."""

    version: str
    where: str
    lines: tuple[ConfLine, ...]

    def get(self, directive: str) -> Any:
        """The value in force, by any of its names; the version's default if no line sets it.

        yes/no are bool, sizes int bytes (maxmemory-clients in percent: negative), numbers int in the
        directive's own unit, `save` ((seconds, changes), ...), client-output-buffer-limit
        {class: (hard, soft, seconds)}, rename-command {OLD: NEW}, other lists tuples. KeyError if this
        version lacks it.
        """
        return self._in_force[self._row(directive).name]

    def is_set(self, directive: str) -> bool:
        """Whether a line (or an override) sets it, by any of its names."""
        row = self._row(directive)
        return any(self._row_of(line) is row for line in self.lines)

    def report(self) -> list[DirectiveReport]:
        """One entry for each line, in order: what it is to the model, and why."""
        last = {self._row_of(line).name: at for at, line in enumerate(self.lines)}
        return [self._report_line(line, last[self._row_of(line).name], at) for at, line in enumerate(self.lines)]

    def with_override(self, directive: str, value: Any) -> "RedisConf":
        """As if this one stood last: `with_override("appendfsync", "always")`; `save` starts afresh.

        ScenarioError as for a line of the file.
        """
        text = {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
        place = f"{self.where}: override {_one_line(f'{directive}={text}')}"
        name = ascii_lower(directive.strip())
        args = _split(text, place) or ("",)
        row = _check(name, args, self.version, place)
        line = ConfLine(0, name, args, f"{name} {text or chr(34) * 2}", "override")
        drop = row.type not in ("buffer-limit", "rename", "user")
        kept = tuple(old for old in self.lines if not (drop and self._row_of(old) is row))
        _check_renames([*kept, line])
        return replace(self, lines=(*kept, line))

    def _row(self, directive: str) -> Directive:
        rows = by_any_name(self.version)
        if ascii_lower(directive) not in rows:
            raise KeyError(f"{directive} is not a directive of {_said(self.version)}")
        return rows[ascii_lower(directive)]

    def _row_of(self, line: ConfLine) -> Directive:
        return table(self.version)[line.directive]

    @cached_property
    def _in_force(self) -> dict[str, Any]:
        """Row name to value, for every row of the version."""
        version = self.version
        values = {row.name: row.default(version) for row in table(version).values()}
        seen: set[str] = set()
        for line in self.lines:
            row = self._row_of(line)
            if row.ignored:
                continue
            value = row.clamped(row.value(line.args, version), version)
            if row.type == "save":
                value = value if line.args == ("",) or row.name not in seen else values[row.name] + value
            elif row.type in ("buffer-limit", "rename"):
                value = values[row.name] | value
            elif row.type == "user":
                value = values[row.name] + value
            values[row.name] = value
            seen.add(row.name)
        return values

    def _report_line(self, line: ConfLine, last: int, at: int) -> DirectiveReport:
        row = self._row_of(line)
        status, says = row.status, row.says
        if row.type not in _ADDS_UP and row.type != "include" and last != at:
            status, says = "accepted", f"overridden by line {self.lines[last].number}"
        elif row.ignored or status == "modelled":
            pass
        elif row.type == "buffer-limit" and set(row.value(line.args, self.version)) == {"replica"}:
            status, says = "modelled", "when a replica is closed that is too far behind"
        elif row.is_off(row.value(line.args, self.version), self.version):
            status, says = "accepted", "off"
        elif row.needs:
            needed = self._row(row.needs)
            if needed.is_off(self._in_force[needed.name], self.version):
                off = next(iter(split_args(needed.off or "")), "") or '""'
                status, says = "accepted", f"no effect while {needed.name_in(self.version)} is {off}"
        value = line.text.strip(" \t\r\n").split(None, 1)
        shown = value[1] if len(value) > 1 else ""
        if row.type in ("secret", "user") and line.args != ("",):
            shown = "***" if row.type == "secret" else f"{line.args[0]} ***"
        return DirectiveReport(line.number, line.directive, shown, status, says, line.where)


# ---- reading -------------------------------------------------------------------------------------


def parse_conf(text: str, *, version: str, where: str = "redis.conf", first_line: int = 1) -> RedisConf:
    """redis.conf text that starts at line `first_line` of `where`; ScenarioError `where:line: ...`.

    `include` needs a file to be relative to, and is refused here.
    """

    def no_include(_pattern: str, place: str) -> list[ConfLine]:
        raise ScenarioError(f"{place}: include needs a file to start from; put this text in a file and name it in conf_file")

    _check_version(version, where)
    return RedisConf(version, where, tuple(_lines(text, version, where, first_line, no_include)))


def parse_conf_file(path: Path, *, version: str) -> RedisConf:
    """A redis.conf and what it includes; ScenarioError if one is missing, includes itself or is wrong."""
    path = Path(path)
    _check_version(version, str(path))
    return RedisConf(version, str(path), tuple(_file_lines(path, version, (), str(path))))


def _check_version(version: str, where: str) -> None:
    if version not in VERSIONS:
        near = did_you_mean(version, VERSIONS)
        raise ScenarioError(f"{where}: version {version!r} is unknown; use one of {', '.join(VERSIONS)}{near}")


def _file_lines(path: Path, version: str, above: tuple[Path, ...], place: str) -> list[ConfLine]:
    """The lines of `path`; `above` are the files that include it, `place` says who asked for it."""
    try:
        real = path.resolve()
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ScenarioError(f"{place}: cannot read {str(path)!r}: {reason}") from error
    if real in above:
        raise ScenarioError(f"{place}: {str(path)!r} includes itself; remove the include")

    def include(pattern: str, place: str) -> list[ConfLine]:
        full = str(path.parent / pattern)
        found = sorted(glob(full)) if set("*?[") & set(pattern) else [full]
        return [line for name in found for line in _file_lines(Path(name), version, (*above, real), place)]

    return _lines(text, version, str(path), 1, include)


def _lines(text: str, version: str, where: str, first_line: int, include: Callable[[str, str], list[ConfLine]]) -> list[ConfLine]:
    lines: list[ConfLine] = []
    for number, raw in enumerate(text.split("\n"), first_line):
        place = f"{where}:{number}"
        stripped = raw.strip(" \t\r\n")
        if not stripped or stripped[0] == "#":
            continue
        if "\0" in stripped:
            raise ScenarioError(f"{place}: the line holds a NUL byte; redis.conf is plain text")
        words = _split(stripped, place)
        if not words:
            continue
        name, *args = words
        line = ConfLine(number, ascii_lower(name), tuple(args), raw, where)
        _check(line.directive, line.args, version, place)
        lines.append(line)
        if line.directive == "include":
            lines += include(args[0], place)
    _check_renames(lines)
    return lines


def _split(text: str, place: str) -> tuple[str, ...]:
    try:
        return split_args(text)
    except ValueError as error:
        raise ScenarioError(f"{place}: {error}") from error


def _said(version: str) -> str:
    return "Valkey " + version.removeprefix("valkey-") if version.startswith("valkey-") else "Redis " + version


def _one_line(text: str) -> str:
    """`text` with what cannot be printed escaped, and shortened if it is very long."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:_SHOWN_CHARS_MAX])
    return shown if len(text) <= _SHOWN_CHARS_MAX else shown + "…"


def _check(name: str, args: tuple[str, ...], version: str, place: str) -> Directive:
    """The row of `name` if `args` suit it and the model can honour it, else ScenarioError."""
    row = table(version).get(name)
    if row is None:
        raise ScenarioError(f"{place}: {_one_line(_why_unknown(name, version))}")
    if row.type == "sentinel":
        raise ScenarioError(f"{place}: `sentinel` lines belong in sentinel.conf; move this one there")
    if row.ignored:
        return row
    try:
        value = row.value(args, version)
    except ValueError as error:
        raise ScenarioError(f"{place}: {_one_line(f'{name} {error}')}") from error
    if row.status == "refused" and not row.is_off(value, version):
        raise ScenarioError(f"{place}: {_one_line(' '.join((name, *args)))} is refused: {row.says}")
    return row


def _why_unknown(name: str, version: str) -> str:
    where_known = versions_of(name)
    if where_known:
        elsewhere = by_any_name(version).get(name)
        called = f"; here it is called {elsewhere.name_in(version)}" if elsewhere else ""
        return f"{name} does not exist in {_said(version)}, only in {', '.join(map(_said, where_known))}{called}"
    if name in SENTINEL_ONLY:
        return f"{name} belongs in sentinel.conf, after the word `sentinel`"
    if "." in name:
        return f"{name!r} is a module's directive; modules are not modelled, remove the line"
    return f"{name!r} is not a directive of {_said(version)}{did_you_mean(name, known_names())}"


def _check_renames(lines: Sequence[ConfLine]) -> None:
    """A command is renamed once, and no two commands get one name (config.c refuses both)."""
    gone: set[str] = set()
    taken: set[str] = set()
    for line in lines:
        if line.directive != "rename-command":
            continue
        old, new = (word.upper() for word in line.args)
        said = f"{line.where}:{line.number}: rename-command {_one_line(old)}"
        if old in gone and old not in taken:
            raise ScenarioError(f"{said}: it is already renamed; keep one of the lines")
        if new and new in taken:
            raise ScenarioError(f"{said}: the name {_one_line(new)} is already taken")
        gone.add(old)
        taken.discard(old)
        taken |= {new} - {""}
