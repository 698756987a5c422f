"""Host profiles: what each mechanism costs on a host, with where every number came from.

A profile is a YAML file, shipped in `profiles/` or written by a calibration. Numbers are int ns, or ps per byte. Reports list
those whose source is `guess`.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from redsim.records import Param
from redsim.scenario.errors import ScenarioError, did_you_mean

SOURCES = ("measured", "derived", "published", "redis", "guess")
Points = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Curve:
    """Cost against a number of elements: totals in ns, or (`is_each`) values that are not multiplied by it."""

    points: Points
    is_each: bool
    source: str


@dataclass(frozen=True)
class HostProfile:
    """Costs by name; `commands[NAME][const_ns | in_ps | out_ps | extra_ns]`; curves by name."""

    name: str
    says: str
    cores: int
    memory_bytes: int
    loopback_rtt_ns: int
    costs: dict[str, Param]
    client: dict[str, Param]
    commands: dict[str, dict[str, int]]
    curves: dict[str, Curve]
    hiccup_every_ns: int
    hiccup_table_ns: tuple[tuple[int, float], ...]
    notes: dict[str, str]  # name of a number -> its `says`

    def guesses(self) -> list[tuple[str, int, str]]:
        """(name, value, says) of every number that is a guess."""
        numbers = {**self.costs, **self.client}
        return [(n, p.value, self.notes.get(n, "")) for n, p in numbers.items() if p.source == "guess"]


def shipped_profiles() -> list[str]:
    """Names that `profile:` takes besides a path."""
    folder = files("redsim.scenario") / "profiles"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))


def load_profile(name_or_path: str, base: Path) -> HostProfile:
    """A shipped profile by name, or a file relative to `base`. ScenarioError if there is none or it is broken."""
    if name_or_path in shipped_profiles():
        return _shipped(name_or_path)
    path = base / name_or_path
    if not path.is_file():
        raise ScenarioError(
            f"profile {name_or_path!r} is neither a shipped profile ({', '.join(shipped_profiles())}) nor a file"
            f"{did_you_mean(name_or_path, shipped_profiles())}"
        )
    return _parse(path.read_text(encoding="utf-8", errors="replace"), str(path))


@cache
def _shipped(name: str) -> HostProfile:
    return _parse((files("redsim.scenario") / "profiles" / f"{name}.yaml").read_text(encoding="utf-8"), name)


def _parse(text: str, where: str) -> HostProfile:
    try:
        data = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ScenarioError(f"{where}: the profile is not YAML: {str(error).splitlines()[0]}") from error
    try:
        return _build(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ScenarioError(
            f"{where}: the profile lacks or misstates {error}; compare it with the shipped profile `default`"
        ) from error


def _build(data: dict[str, Any]) -> HostProfile:
    notes: dict[str, str] = {}
    commands = {name: dict(law) for name, law in data["commands"].items() if isinstance(law, dict)}
    curves: dict[str, Curve] = {}
    for name, given in data["curves"].items():
        if isinstance(given, dict):
            curves[name] = Curve(_points(given["each"]), True, given["source"])
            notes[name] = str(given.get("says", ""))
        elif isinstance(given, list):
            curves[name] = Curve(_points(given), False, data["curves"]["source"])
    rtt = _param("loopback_rtt_ns", data["loopback_rtt_ns"], notes)
    hiccups = data["hiccups"]
    return HostProfile(
        name=str(data["name"]),
        says=str(data["says"]),
        cores=int(data["cores"]),
        memory_bytes=int(data["memory_bytes"]),
        loopback_rtt_ns=rtt.value,
        costs={n: _param(n, d, notes) for n, d in data["costs"].items()},
        client={n: _param(n, d, notes) for n, d in data["client"].items()},
        commands=commands,
        curves=curves,
        hiccup_every_ns=int(hiccups["every_ns"]["value"]),
        hiccup_table_ns=tuple((int(length), float(weight)) for length, weight in hiccups["table_ns"]),
        notes=notes,
    )


def _points(rows: list[list[int]]) -> Points:
    points = tuple((int(n), int(ns)) for n, ns in rows)
    if list(points) != sorted(points) or points[0][0] < 1 or points[0][1] < 0:
        raise ValueError("a curve whose points do not rise")
    return points


def _param(name: str, data: dict[str, Any], notes: dict[str, str]) -> Param:
    if data["source"] not in SOURCES:
        raise ValueError(f"{name} source {data['source']!r}")
    notes[name] = str(data.get("says", ""))
    low_high = data.get("extremes")
    extremes = (int(low_high[0]), int(low_high[1])) if low_high else None
    return Param(int(data["value"]), str(data["source"]), str(data.get("ref", "")), extremes)
