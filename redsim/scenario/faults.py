"""Faults of a host's disk on the timeline: what may be written, and what must fit.

    - {at: 10s, fault: slow_disk, host: box, for: 5s, factor: 20}        # or added: 50ms to each fsync
    - {at: 10s, fault: stuck_disk, host: box, for: 3s}                   # nothing moves
    - {at: 10s, fault: full_disk, host: box, for: 5s}                    # writes fail with no space left
    - {at: 10s, fault: disk_hog, host: box, for: 20s, bytes_per_s: 100mb}

Faults of servers and hosts are in crashes.py, of the network in network.py.
"""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from redsim.scenario.crashes import NODE_FAULTS, NodeFault, crashes_fit
from redsim.scenario.network import NETWORK_FAULTS, NetworkFault
from redsim.scenario.shape import Duration, Memory, Model
from redsim.units import say_ns

DISK_FAULTS = ("slow_disk", "stuck_disk", "full_disk", "disk_hog")


class DiskFault(Model):
    """One fault, from `at` on for `for_ns`."""

    at: Duration
    fault: Literal["slow_disk", "stuck_disk", "full_disk", "disk_hog"]
    host: str
    for_ns: Duration = Field(alias="for", gt=0)
    factor: float = Field(default=1.0, gt=0, le=1e6)
    added: Duration = 0
    bytes_per_s: Memory | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _says_how_much(self) -> "DiskFault":
        if self.fault == "slow_disk" and self.factor == 1 and self.added == 0:
            raise ValueError("slow_disk needs factor: 10 (times as slow) or added: 50ms (to each fsync)")
        if self.fault == "disk_hog" and self.bytes_per_s is None:
            raise ValueError("disk_hog needs bytes_per_s: 100mb")
        if self.fault != "slow_disk" and (self.factor != 1 or self.added != 0):
            raise ValueError(f"factor and added belong to slow_disk, not to {self.fault}")
        if self.fault != "disk_hog" and self.bytes_per_s is not None:
            raise ValueError(f"bytes_per_s belongs to disk_hog, not to {self.fault}")
        return self

    def say(self) -> str:
        """One line of the event log."""
        more = f", factor {self.factor:g}" if self.factor != 1 else ""
        more += f", {say_ns(self.added)} added to each fsync" if self.added else ""
        more += f", {self.bytes_per_s} bytes/s" if self.bytes_per_s else ""
        return f"{self.fault} for {say_ns(self.for_ns)}{more}"


def kind_of_entry(value: Any) -> str:
    """Which of the timeline's shapes an entry has: a fault of a disk, one of a server or host, one of the network, or a
    command."""
    if isinstance(value, NetworkFault) or (isinstance(value, dict) and value.get("fault") in NETWORK_FAULTS):
        return "a network fault"
    if isinstance(value, NodeFault) or (isinstance(value, dict) and value.get("fault") in NODE_FAULTS):
        return "a crash"
    return "a fault" if isinstance(value, DiskFault) or (isinstance(value, dict) and "fault" in value) else "a command"


def faults_fit(file: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(path, sentence) of each fault on a host that is not there, or beyond the end, and of crashes that make no sense. `file`: a
    ScenarioFile."""
    for i, entry in file.faults:
        if entry.host not in file.hosts:
            yield ("timeline", i, "host"), f"timeline.{i}.host: no host is named {entry.host!r}; there is {', '.join(file.hosts)}"
        if entry.at >= file.duration:
            yield (
                ("timeline", i, "at"),
                f"timeline.{i}: at {say_ns(entry.at)} is not before the end, {say_ns(file.duration)}",
            )
    yield from crashes_fit(file)
