"""A scenario, read whole: file, overrides, redis.conf, profiles, captures; every mistake with its line.

The order is what a user sees first: not readable, not YAML, not modelled yet, wrong shape, does not fit
together, then redis.conf line by line (with the scenario file's own line numbers), profiles and captures.
Not modelled: command names and key types; they are checked where commands are, with `Scenario.where`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from redsim.scenario.check import check
from redsim.scenario.crashes import NodeFault
from redsim.scenario.errors import ScenarioError
from redsim.scenario.explain import explain, refuse_not_yet
from redsim.scenario.faults import DiskFault
from redsim.scenario.info import InfoCapture, parse_info_file
from redsim.scenario.monitor import MonitorCapture, parse_monitor_file
from redsim.scenario.network import NetworkFault, root_of
from redsim.scenario.overrides import Override, apply_overrides, parse_override
from redsim.scenario.profile import HostProfile, load_profile
from redsim.scenario.redis_conf import RedisConf, parse_conf, parse_conf_file
from redsim.scenario.schema import Arrivals, Dataset, Group, ScenarioFile, TimelineEntry
from redsim.scenario.sentinel_conf import SentinelConf
from redsim.scenario.services import at_masters, read_sentinel_conf
from redsim.scenario.source import INTEGER_MAX, Source, parse_source, read_text
from redsim.units import S

M = TypeVar("M", bound=BaseModel)
Entry = TimelineEntry | DiskFault | NodeFault | NetworkFault

SMOKE_NS = 2 * S
SMOKE_KEYS_MAX = 100_000


@dataclass(frozen=True)
class Scenario:
    """What a run needs, checked: `confs` by node, `profiles` by host, `infos` and `traces` by group."""

    name: str
    path: Path | None
    text: str = field(repr=False)
    file: ScenarioFile
    confs: dict[str, RedisConf] = field(repr=False)
    profiles: dict[str, HostProfile] = field(repr=False)
    infos: dict[str, InfoCapture] = field(repr=False)
    traces: dict[str, MonitorCapture] = field(repr=False)
    overrides: tuple[str, ...]
    source: Source = field(repr=False, compare=False)
    sentinel_conf: SentinelConf | None = field(default=None, repr=False)
    places: tuple[int, ...] | None = None  # of one node's scenario: where its timeline's entries stand in the file's
    whole: "Scenario | None" = field(default=None, repr=False, compare=False)  # of one node's scenario: all of it

    def where(self, *keys: str | int) -> str:
        """`path/to/file.yaml:17` of that key or its nearest parent; `--set …` behind it if set from there.

        `scenario.where("clients", "api", "commands", "GTE")`; a timeline entry is `("timeline", 0)`.
        """
        if self.places is not None and keys[:1] == ("timeline",) and isinstance(keys[1], int):
            keys = ("timeline", self.places[keys[1]], *keys[2:])
        return _where(self.source, [parse_override(text) for text in self.overrides])(*keys)

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> "Scenario":
        """Read and check a scenario file; ScenarioError, one sentence, if anything in it is wrong."""
        path = Path(path)
        return _build(path.stem, path, read_text(path), str(path), path.parent, overrides)

    @classmethod
    def from_text(
        cls, text: str, *, name: str = "scenario", base: Path | None = None, overrides: Sequence[str] = ()
    ) -> "Scenario":
        """The same from text; files it names are looked for in `base` (default: the current directory)."""
        return _build(name, None, text, f"<{name}>", base or Path(), overrides)

    def smoke(self) -> "Scenario":
        """The same story in the tests' size: 2 s at most, its times scaled together, 100,000 keys at most."""
        if self.file.duration <= SMOKE_NS and all(d.keys <= SMOKE_KEYS_MAX for d in self.file.datasets.values()):
            return self
        return replace(self, file=_smoke_file(self.file))

    def of_node(self, name: str) -> "Scenario":
        """What concerns one node: it alone, its master's data sets, its clients, its part of the timeline and of what happens to
        its host."""
        file, root = self.file, root_of(self.file, name)
        host = file.nodes[name].host
        mine = [i for i, entry in enumerate(file.timeline)
                if not isinstance(entry, NetworkFault) and (getattr(entry, "node", None) or name) == name
                and (getattr(entry, "host", None) or host) == host]  # fmt: skip
        changes: dict[str, Any] = {
            "nodes": {name: file.nodes[name]},
            "datasets": {key: data.model_copy(update={"node": name}) for key, data in file.datasets.items() if data.node == root},
            "clients": {key: group.model_copy(update={"node": name}) for key, group in file.clients.items()
                        if group.node == name or group.service is not None},
            "timeline": [file.timeline[i] for i in mine],
        }
        return replace(self, file=file.model_copy(update=changes), confs={name: self.confs[name]}, places=tuple(mine), whole=self)

    def with_seed(self, seed: int) -> "Scenario":
        """The same scenario with another seed, 0 or more."""
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= INTEGER_MAX:
            raise ScenarioError(f"seed {seed!r}: a seed is a whole number from 0 to {INTEGER_MAX}")
        return replace(self, file=self.file.model_copy(update={"seed": seed}))


def load(path: str | Path, overrides: Sequence[str] = ()) -> Scenario:
    """`Scenario.load`: read and check a scenario file; ScenarioError if anything in it is wrong."""
    return Scenario.load(path, overrides)


def _build(name: str, path: Path | None, text: str, label: str, base: Path, overrides: Sequence[str]) -> Scenario:
    source = parse_source(text, label)
    changes = [parse_override(written) for written in overrides]
    where = _where(source, changes)
    apply_overrides(source.data, changes)
    refuse_not_yet(source.data, where)
    try:
        file = ScenarioFile.model_validate(source.data)
    except ValidationError as error:
        raise explain(error, source.data, where) from None
    sentinel_conf = read_sentinel_conf(file, source, where, base, changes)
    file = at_masters(file, sentinel_conf, where)
    check(file, where)
    file = _beside(file, base)
    return Scenario(
        name=name,
        path=path,
        text=text,
        file=file,
        confs={node: _conf(source, file, node, base, changes) for node in file.nodes},
        profiles=_profiles(file, base, where),
        infos=_infos(file, base, where),
        traces=_traces(file, base, where),
        overrides=tuple(overrides),
        source=source,
        sentinel_conf=sentinel_conf,
    )


def _where(source: Source, overrides: Sequence[Override]) -> Callable[..., str]:
    def where(*keys: str | int) -> str:
        for override in reversed(overrides):
            if override.path == tuple(keys)[: len(override.path)]:
                return f"{source.label}: {override.label}"
        return source.where(*keys)

    return where


def _beside(file: ScenarioFile, base: Path) -> ScenarioFile:
    """RDB files are looked for beside the scenario; they are read when the run is built."""
    found = {name: data.model_copy(update={"rdb": str(base / data.rdb)}) for name, data in file.datasets.items() if data.rdb}
    return file.model_copy(update={"datasets": file.datasets | found}) if found else file


def _conf(source: Source, file: ScenarioFile, name: str, base: Path, overrides: Sequence[Override]) -> RedisConf:
    node = file.nodes[name]
    at = ("nodes", name, "conf")
    if node.conf_file is not None:
        conf = _with_place(
            lambda: parse_conf_file(base / str(node.conf_file), version=node.version),
            source.where("nodes", name, "conf_file"),
        )
    elif at in source.blocks and not any(o.path == at for o in overrides):
        first_line = source.blocks[at]
        conf = parse_conf(node.conf, version=node.version, where=source.label, first_line=first_line)
    else:
        conf = parse_conf(node.conf, version=node.version, where=f"{source.where(*at)} nodes.{name}.conf")
    for override in overrides:
        if override.is_directive and not override.is_of_sentinels and override.path[1] == name:
            conf = _with_place(
                lambda conf=conf, o=override: conf.with_override(o.directive, o.text),  # type: ignore[misc]
                f"{source.where(*at)}: {override.label}",
            )
    return conf


def _with_place(make: Callable[[], Any], place: str) -> Any:
    """What `make` returns; its ScenarioError begins with the place in the scenario that asked for it."""
    try:
        return make()
    except ScenarioError as error:
        raise ScenarioError(f"{place}: {error}") from None


def _profiles(file: ScenarioFile, base: Path, where: Callable[..., str]) -> dict[str, HostProfile]:
    found: dict[str, HostProfile] = {}
    for name, host in file.hosts.items():
        place = where("hosts", name, "profile")
        found[name] = _with_place(lambda profile=host.profile: load_profile(profile, base), place)  # type: ignore[misc]
    return found


def _infos(file: ScenarioFile, base: Path, where: Callable[..., str]) -> dict[str, InfoCapture]:
    found: dict[str, InfoCapture] = {}
    for name, group in file.clients.items():
        if group.commands_from_info is None:
            continue
        place = where("clients", name, "commands_from_info")
        path = base / group.commands_from_info
        found[name] = _with_place(lambda path=path: parse_info_file(path), place)  # type: ignore[misc]
        if not found[name].mix():
            raise ScenarioError(f"{place}: {path}:1: no data command was called (Commandstats); save INFO all under load")
    return found


def _traces(file: ScenarioFile, base: Path, where: Callable[..., str]) -> dict[str, MonitorCapture]:
    found: dict[str, MonitorCapture] = {}
    for name, group in file.clients.items():
        trace = group.arrivals.trace
        if trace is None:
            continue
        place = where("clients", name, "arrivals", "trace", "monitor")
        path = base / trace.monitor
        found[name] = _with_place(lambda path=path: parse_monitor_file(path), place)  # type: ignore[misc]
        if trace.loop and found[name].span_ns == 0:
            raise ScenarioError(f"{place}: all its commands have one time, so it cannot loop; remove loop")
    return found


# ---- the tests' size -------------------------------------------------------------------------------------


def _smoke_file(file: ScenarioFile) -> ScenarioFile:
    def scaled(time_ns: int) -> int:
        return time_ns * SMOKE_NS // file.duration if file.duration > SMOKE_NS else time_ns

    datasets = {name: _smoke_dataset(dataset, scaled) for name, dataset in file.datasets.items()}
    timeline = [_smoke_entry(entry, scaled) for entry in file.timeline]
    return _copy(file, scaled, duration=file.duration, warmup=file.warmup, window=file.window).model_copy(
        update={
            "datasets": datasets,
            "timeline": timeline,
            "clients": {name: _smoke_group(group, scaled) for name, group in file.clients.items()},
        }
    )


def _smoke_dataset(dataset: Dataset, scaled: Callable[[int], int]) -> Dataset:
    changes: dict[str, Any] = {"keys": min(dataset.keys, SMOKE_KEYS_MAX)}
    if dataset.ttl is not None:
        low, high = dataset.ttl.uniform
        changes["ttl"] = dataset.ttl.model_copy(update={"uniform": (max(scaled(low), 1), max(scaled(high), 1))})
    return dataset.model_copy(update=changes)


def _smoke_group(group: Group, scaled: Callable[[int], int]) -> Group:
    copy = _copy(group, scaled, start=group.start, stop=group.stop)
    commands = {name: _copy(use, scaled, ttl=use.ttl, ttl_jitter=use.ttl_jitter) for name, use in group.commands.items()}
    copy = copy.model_copy(update={"commands": commands})
    offered = group.arrivals.open
    if offered is None:
        return copy
    changes: dict[str, Any] = {}
    if offered.schedule is not None:
        changes["schedule"] = [_copy(point, scaled, at=point.at) for point in offered.schedule]
    if offered.diurnal is not None:
        changes["diurnal"] = _copy(offered.diurnal, scaled, period=offered.diurnal.period)
    if offered.mmpp is not None:
        stay = [max(1, scaled(time_ns)) for time_ns in offered.mmpp.stay]
        changes["mmpp"] = offered.mmpp.model_copy(update={"stay": stay})
    return copy.model_copy(update={"arrivals": Arrivals(open=offered.model_copy(update=changes))})


def _smoke_entry(entry: Entry, scaled: Callable[[int], int]) -> Entry:
    if isinstance(entry, DiskFault):
        return _copy(entry, scaled, at=entry.at, for_ns=entry.for_ns)
    if isinstance(entry, NetworkFault):
        return _copy(entry, scaled, at=entry.at, for_ns=entry.for_ns, up=entry.up, down=entry.down)
    if isinstance(entry, NodeFault):
        return _copy(entry, scaled, at=entry.at, for_ns=entry.for_ns, restart_after=entry.restart_after)
    return _copy(entry, scaled, at=entry.at, every=entry.every)


def _copy(model: M, scaled: Callable[[int], int], **times_ns: int | None) -> M:
    """`model` with these times scaled; one that was above 0 stays above 0, None stays None."""
    update = {k: None if v is None else max(min(v, 1), scaled(v)) for k, v in times_ns.items()}
    return model.model_copy(update=update)
