"""Host profiles: what each mechanism costs on a host, with where every number came from.

A profile is a YAML file, shipped in `profiles/` or written by a calibration. Numbers are int ns, or ps per byte. Reports list
those whose source is `guess`. A profile may be another one at another speed, with single numbers of its own:

    based_on: default, speed: {value: 1.34, …}   ->   scaled(default, 1 / 1.34), then the file's own numbers over it

Differs: one speed for all that a CPU does; a real host's caches, system calls and wake-ups do not move together.
What stands under `later` (fork, copy-on-write, saving, fsync) is for host/fork.py and host/disk.py; a profile need not have it.
"""

import math
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from redsim.records import Param
from redsim.scenario.disk import DiskProfile, disk_of, with_own_fsync
from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.profile_file import OPTIONAL_CURVES, CurveFile, Later, Law, Number, ProfileFile, check_names, read_shape
from redsim.scenario.source import parse_source, read_text

Points = tuple[tuple[int, int], ...]
DELAYS = ("syn_retry_ns", "deep_after_ns")  # not work: a timer of TCP, the length of sleep after which a CPU halts deeply
DEPTH_MAX = 5
LAW_COLUMNS = ("const_ns", "in_ps", "out_ps", "extra_ns", "scan_ps")


@dataclass(frozen=True)
class Curve:
    """Cost against a number of elements: totals in ns, or (`is_each`) values that are not multiplied by it."""

    points: Points
    is_each: bool
    source: str

    def at(self, n: float) -> float:
        """ns per element, or the value itself, at `n` elements: linear in log n between the points, flat outside."""
        each = [ns if self.is_each else ns / count for count, ns in self.points]
        return float(np.interp(np.log2(n), [np.log2(count) for count, _ in self.points], each))


@dataclass(frozen=True)
class HostProfile:
    """Costs by name; `commands[NAME][const_ns | in_ps | out_ps | extra_ns | scan_ps]`; curves by name."""

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
    wake_spread: tuple[tuple[int, float], ...] = ()  # (permille of the median, weight): how wake-ups differ; (): not at all
    based_on: str = ""  # the profile it was made from, "" for a whole one
    speed: float = 1.0  # times as fast as that
    later: dict[str, Later] = field(default_factory=dict)  # of single mechanisms, as written
    machine: dict[str, Any] = field(default_factory=dict)  # what was measured, as written
    fit: Any = None  # the points it was fitted on and their residuals, as written
    disk: DiskProfile | None = None  # None in a whole profile without one: default_disk()

    def crowding_ns(self, name: str, connections: int) -> int:
        """What a request costs more for sharing the CPU's caches with `connections` connections, by the optional curve `name`:
        `connections` of a server, `client_connections` of a client's thread. 0 without the curve."""
        return round(self.curves[name].at(max(connections, 1))) if name in self.curves else 0

    def rdb_load_bytes_per_s(self) -> int | None:
        """How fast an RDB file of large strings is loaded, if a calibration measured that."""
        found = self.later.get("rdb_load_bytes_per_s")
        return int(found.value) if found is not None and found.value else None

    def guesses(self) -> list[tuple[str, int, str]]:
        """(name, value, says) of every number that is a guess, there or in the profile it is based on."""
        numbers = {**self.costs, **self.client}
        return [(n, p.value, self.notes.get(n, "")) for n, p in numbers.items() if p.source == "guess"]


def shipped_profiles() -> list[str]:
    """Names that `profile:` takes besides a path."""
    folder = files("redsim.scenario") / "profiles"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))


def load_profile(name_or_path: str, base: Path) -> HostProfile:
    """A shipped profile by name, or a file relative to `base`. ScenarioError if there is none or it is broken."""
    return _load(name_or_path, base, ())


def scaled(profile: HostProfile, factor: float) -> HostProfile:
    """The same host with every cost of its CPU times `factor` (2: half as fast), rounded to whole ns and ps.

    Server, client, commands, curves and the loopback round trip (no wire in it) are CPU work; the timers in DELAYS, hiccups,
    `later` and a scenario's own `rtt:` are not. A guess stays a guess, other numbers become derived. ScenarioError for a
    factor that is not a positive number.
    """
    if not (math.isfinite(factor) and factor > 0):
        raise ScenarioError(f"profile {profile.name!r} cannot be scaled by {factor}; give a number above 0")
    if factor == 1:
        return profile
    return replace(
        profile,
        loopback_rtt_ns=round(profile.loopback_rtt_ns * factor),
        costs={n: p if n in DELAYS else _scaled_param(p, factor) for n, p in profile.costs.items()},
        client={n: _scaled_param(p, factor) for n, p in profile.client.items()},
        commands={n: {k: round(v * factor) for k, v in law.items()} for n, law in profile.commands.items()},
        curves={n: _scaled_curve(c, factor) for n, c in profile.curves.items()},
    )


def _scaled_param(param: Param, factor: float) -> Param:
    extremes = param.extremes and (round(param.extremes[0] * factor), round(param.extremes[1] * factor))
    source = "guess" if param.source == "guess" else "derived"
    return Param(round(param.value * factor), source, param.ref, extremes)


def _scaled_curve(curve: Curve, factor: float) -> Curve:
    source = "guess" if curve.source == "guess" else "derived"
    return Curve(tuple((n, round(ns * factor)) for n, ns in curve.points), curve.is_each, source)


# ---- files ----------------------------------------------------------------------------------------------------


def _load(name_or_path: str, base: Path, above: tuple[str, ...]) -> HostProfile:
    if name_or_path in shipped_profiles():
        if name_or_path in above:
            raise _circle(above, name_or_path)
        return _shipped(name_or_path, above)
    path = base / name_or_path
    if not path.is_file():
        raise ScenarioError(
            f"profile {name_or_path!r} is neither a shipped profile ({', '.join(shipped_profiles())}) nor a file"
            f"{did_you_mean(name_or_path, shipped_profiles())}"
        )
    if str(path.resolve()) in above:
        raise _circle(above, str(path))
    return _parse(read_text(path), str(path), path.parent, (*above, str(path.resolve())))


def _circle(above: tuple[str, ...], name: str) -> ScenarioError:
    return ScenarioError(f"profile {above[0]!r} is based_on itself by way of {name!r}; one of them must be a whole profile")


@cache
def _shipped(name: str, above: tuple[str, ...] = ()) -> HostProfile:
    text = (files("redsim.scenario") / "profiles" / f"{name}.yaml").read_text(encoding="utf-8")
    return _parse(text, f"{name}.yaml", Path(), (*above, name))


@cache
def _default_names() -> dict[str, set[str]]:
    """The names of a whole profile's numbers, by part: those of the shipped `default`."""
    text = (files("redsim.scenario") / "profiles" / "default.yaml").read_text(encoding="utf-8")
    file = read_shape(parse_source(text, "default.yaml"))
    return {"costs": set(file.costs), "client": set(file.client), "commands": set(file.commands.named),
            "curves": set(file.curves.named) | OPTIONAL_CURVES}  # fmt: skip


def _parse(text: str, where: str, folder: Path, above: tuple[str, ...]) -> HostProfile:
    source = parse_source(text, where, start="name:, says:, based_on: default")
    file = read_shape(source)
    check_names(file, _default_names(), source)
    if file.based_on is None:
        return _over(_nothing(), file)
    place = source.where("based_on")
    if len(above) > DEPTH_MAX:
        raise ScenarioError(f"{place}: based_on leads through more than {DEPTH_MAX} profiles; write one of them whole")
    try:
        base = _load(file.based_on, folder, above)
    except ScenarioError as error:
        raise ScenarioError(f"{place}: based_on: {error}") from None
    return _over(scaled(base, 1 / file.speed.value) if file.speed else base, file)


def _nothing() -> HostProfile:
    return HostProfile("", "", 0, 0, 0, {}, {}, {}, {}, 0, (), {})


def _over(base: HostProfile, file: ProfileFile) -> HostProfile:
    """`base` with the file's numbers in the place of its own."""
    named: dict[str, Number | Law | CurveFile] = {**file.costs, **file.client, **file.curves.named}
    notes = {**base.notes, **{name: given.says for name, given in named.items()}}
    if file.loopback_rtt_ns is not None:
        notes["loopback_rtt_ns"] = file.loopback_rtt_ns.says
    if file.speed is not None:
        notes["speed"] = file.speed.says
    curves = {name: _curve(given, str(given.source or file.curves.source)) for name, given in file.curves.named.items()}
    hiccups = file.hiccups
    return HostProfile(
        name=file.name,
        says=file.says,
        cores=file.cores or base.cores,
        memory_bytes=file.memory_bytes or base.memory_bytes,
        loopback_rtt_ns=file.loopback_rtt_ns.value if file.loopback_rtt_ns else base.loopback_rtt_ns,
        costs={**base.costs, **{n: _param(d) for n, d in file.costs.items()}},
        client={**base.client, **{n: _param(d) for n, d in file.client.items()}},
        commands={**base.commands, **{n: {**base.commands.get(n, {}), **_law(d)} for n, d in file.commands.named.items()}},
        curves={**base.curves, **curves},
        hiccup_every_ns=hiccups.every_ns.value if hiccups else base.hiccup_every_ns,
        hiccup_table_ns=tuple(hiccups.table_ns) if hiccups else base.hiccup_table_ns,
        notes=notes,
        wake_spread=tuple(file.wake_spread.table_permille) if file.wake_spread else base.wake_spread,
        based_on=file.based_on or "",
        speed=file.speed.value if file.speed else 1.0,
        later={**base.later, **file.later},
        machine=file.machine,
        fit=file.fit,
        disk=_disk(base, file),
    )


def _disk(base: HostProfile, file: ProfileFile) -> DiskProfile | None:
    """The file's own disk, or its base's; with the fsync times of a calibration if it has some."""
    if file.disk is not None:
        return disk_of(file.name, file.disk)
    measured = file.later.get("fsync_ns")
    disk = base.disk or (_shipped("default").disk if measured is not None else None)
    if measured is None or measured.table is None or disk is None:
        return disk
    return with_own_fsync(disk, measured.table, measured.says)


def default_profile() -> HostProfile:
    """The shipped profile `default`, which has every number."""
    return _shipped("default")


def disk_profile(profile: HostProfile) -> DiskProfile:
    """The host's disk: its profile's, or the shipped default's."""
    disk = profile.disk or _shipped("default").disk
    assert disk is not None, "the shipped profile `default` has a disk"
    return disk


def _param(given: Number) -> Param:
    return Param(given.value, given.source, given.ref, given.extremes)


def _law(given: Law) -> dict[str, int]:
    columns = {name: getattr(given, name) for name in LAW_COLUMNS}
    return {name: value for name, value in columns.items() if value is not None}


def _curve(given: CurveFile, source: str) -> Curve:
    return Curve(tuple(given.total or given.each or ()), given.each is not None, source)
