"""What a host's disk is like: how long fdatasync takes, how fast it writes, what a write(2) costs on the way to it.

A profile has a `disk:` section, or that of `default` with its own `later: fsync_ns` in it; a scenario may take another disk by
name (disks.yaml), or change single figures:

    hosts: {box: {profile: default, disk: hdd}}
    hosts: {box: {disk: {like: hdd, fsync: [[0.5, 3ms], [1.0, 20ms]], bytes_per_s: 100mb, write_waits_for_fsync: false}}}
    hosts: {box: {disk: {like: ebs-like, iops: 3000}}}
    hosts: {box: {disk: {lies: true}}}      # a drive cache that acknowledges, and forgets when the power goes

Differs: of a fsync's time only what its dirty bytes add follows the disk's bandwidth; the rest is drawn from the table, whatever
was written before. The CPU costs of a write are not changed by another disk.
Not modelled: reads, several disks of one host, file systems (what they do is in the table).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

import numpy as np
from pydantic import Field, ValidationError, model_validator

from redsim.records import Param
from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.shape import Duration, Memory, Model
from redsim.scenario.source import parse_source
from redsim.units import KIB, S

Table = tuple[tuple[float, int], ...]
CELLS = 1024
IO_BYTES = 256 * KIB  # what a request carries at most: as cloud volumes count them [aws-ebs-io]


def rising(table: list[tuple[float, int]] | None) -> None:
    """ValueError unless quantiles and times rise, the last quantile being 1."""
    for (q, ns), (above, more) in zip(table or [], (table or [])[1:], strict=False):
        if q >= above or ns > more:
            raise ValueError("the quantiles and their times must rise")
    if table is not None and not (table[0][0] >= 0 and table[-1][0] == 1):
        raise ValueError("quantiles go from 0 to 1, and the last one is 1.0, the longest")


class Number(Model):
    """A figure of a disk with its birth certificate, as in a host profile."""

    value: int = Field(ge=0)
    source: str
    ref: str = ""
    says: str = ""
    extremes: Annotated[tuple[int, int], Field(strict=False)] | None = None


class FsyncTable(Model):
    """fdatasync after a small append: [quantile, ns], the last one the longest."""

    table: list[Annotated[tuple[float, int], Field(strict=False)]] = Field(min_length=1)
    source: str
    ref: str = ""
    says: str = ""

    @model_validator(mode="after")
    def _rises(self) -> "FsyncTable":
        rising(self.table)
        return self


class DiskFile(Model):
    """The `disk:` section of a profile, or an entry of disks.yaml, which has no CPU costs."""

    says: str = Field(min_length=1)
    fsync_ns: FsyncTable
    bytes_per_s: Number
    iops: Number | None = None  # None: no limit
    write_waits_for_fsync: bool = True
    costs: dict[str, Number] = Field(default_factory=dict)


class DiskUse(Model):
    """A scenario's disk."""

    like: str | None = None
    fsync: list[Annotated[tuple[float, Duration], Field(strict=False)]] | None = Field(default=None, min_length=1)
    bytes_per_s: Memory | None = Field(default=None, gt=0)
    iops: int | None = Field(default=None, gt=0)
    write_waits_for_fsync: bool | None = None
    lies: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"like": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _rises(self) -> "DiskUse":
        rising(self.fsync)
        return self


COSTS = ("write_ns", "write_ps_per_byte", "append_ns", "append_ps_per_byte")


@dataclass(frozen=True)
class DiskProfile:
    """One disk as the model takes it. `fsync_ns`: (quantile, ns); `costs`: of the CPU, by name; `iops`: 0 for no limit."""

    name: str
    says: str
    fsync_ns: Table
    bytes_per_s: int
    write_waits_for_fsync: bool
    costs: dict[str, Param] = field(default_factory=dict)
    guessed: tuple[tuple[str, int, str], ...] = ()  # name, value, says
    iops: int = 0
    lies: bool = False  # it says that a fsync is done while the bytes are in a cache that a power loss empties

    @property
    def io_ns(self) -> int:
        """What a request takes at least."""
        return S // self.iops if self.iops else 0

    @property
    def stream_bytes_per_s(self) -> int:
        """How fast it takes a large write: its bandwidth, or as many bytes as its requests can carry."""
        return min(self.bytes_per_s, self.iops * IO_BYTES) if self.iops else self.bytes_per_s

    def fsync_at(self, quantile: float) -> int:
        """ns of the fsync at `quantile`: linear between the table's points, the first one's below it; one request at least."""
        table = [ns for _, ns in self.fsync_ns]
        return max(round(float(np.interp(quantile, [q for q, _ in self.fsync_ns], table))), self.io_ns)

    def words(self) -> list[int]:
        """1025 quantiles, then 1025 of the last 1/1024: as the data plane draws."""
        main = [self.fsync_at(i / CELLS) for i in range(CELLS + 1)]
        return main + [self.fsync_at(1 - (1 - i / CELLS) / CELLS) for i in range(CELLS + 1)]


def disk_of(name: str, given: DiskFile) -> DiskProfile:
    """The shape as a disk."""
    guessed = [(f"disk.{n}", p.value, p.says) for n, p in given.costs.items() if p.source == "guess"]
    if given.bytes_per_s.source == "guess":
        guessed.append(("disk.bytes_per_s", given.bytes_per_s.value, given.bytes_per_s.says))
    disk = DiskProfile(
        name, given.says, tuple(given.fsync_ns.table), given.bytes_per_s.value, given.write_waits_for_fsync,
        {n: Param(p.value, p.source, p.ref, p.extremes) for n, p in given.costs.items()},
        iops=given.iops.value if given.iops is not None else 0,
    )  # fmt: skip
    if given.fsync_ns.source == "guess":
        guessed.append(("disk.fsync_ns", disk.fsync_at(0.5), given.fsync_ns.says))
    return replace(disk, guessed=tuple(guessed))


@cache
def named_disks() -> dict[str, DiskProfile]:
    """The disks of disks.yaml by name."""
    text = (files("redsim.scenario") / "disks.yaml").read_text(encoding="utf-8")
    return {name: disk_of(name, DiskFile.model_validate(one)) for name, one in parse_source(text, "disks.yaml").data.items()}


def with_own_fsync(disk: DiskProfile, table: list[Any], says: str) -> DiskProfile:
    """A calibrated host's own fsync times, [quantile, ns], instead of the base's. ScenarioError if they do not rise to 1.0."""
    try:
        given = FsyncTable(table=[(float(q), int(ns)) for q, ns in table], source="measured", says=says)
    except (ValidationError, TypeError, ValueError):
        raise ScenarioError(f"later.fsync_ns.table {table!r} is not a list of rising [quantile, ns] up to 1.0") from None
    return replace(disk, name="", says=says, fsync_ns=tuple(given.table))


def chosen_disk(own: DiskProfile, use: DiskUse | None) -> DiskProfile:
    """The disk a scenario's host has: the profile's `own`, another by name, or one with figures of the scenario's."""
    if use is None:
        return own
    disk = own
    if use.like is not None:
        disk = replace(named_disks()[use.like], costs=own.costs)
    changes: dict[str, Any] = {}
    if use.fsync is not None:
        changes["fsync_ns"] = tuple(use.fsync)
    if use.bytes_per_s is not None:
        changes["bytes_per_s"] = use.bytes_per_s
    if use.iops is not None:
        changes["iops"] = use.iops
    if use.write_waits_for_fsync is not None:
        changes["write_waits_for_fsync"] = use.write_waits_for_fsync
    if use.lies is not None:
        changes["lies"] = use.lies
    said = {"fsync_ns": "disk.fsync_ns", "bytes_per_s": "disk.bytes_per_s"}
    replaced = {said[name] for name in changes if name in said}
    return replace(disk, **changes, guessed=tuple(row for row in disk.guessed if row[0] not in replaced))


def disks_are_known(file: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(path, sentence) of each host whose disk is none of disks.yaml. `file`: a ScenarioFile."""
    for name, host in file.hosts.items():
        like = host.disk.like if host.disk is not None else None
        if like is not None and like not in named_disks():
            known = f"; there is {', '.join(named_disks())}, or give fsync: [[0.5, 1ms], [1.0, 9ms]]"
            yield ("hosts", name, "disk"), f"disk {like!r} is not one redsim knows{did_you_mean(like, named_disks()) or known}"
