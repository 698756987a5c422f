"""How much a master has written by when: its replication offset over time, from a run or from a real server.

    CSV          time_s,offset                            a header or none; seconds, or ISO times
    INFO dumps   # 1690000000.0  (or an ISO time)         a line before each saved `redis-cli INFO replication`
                 master_repl_offset:123
    INFO dumps   uptime_in_seconds:… or server_time_usec:…   of `INFO` or `INFO everything`: no line of one's own is needed

    while sleep 10; do date '+# %s'; redis-cli INFO replication; done > offsets.txt

Mirrors INFO replication (server.c:genRedisInfoString): master_repl_offset, and master_replid, the history that it counts in.
Between two samples the stream is taken to grow evenly: a burst that is shorter than their distance is not seen.
Not modelled: a history that changes in between (a restart, a failover); it is refused, with the line where it does.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from redsim.scenario.errors import ScenarioError
from redsim.units import MIB, S, say_ns

__all__ = ["Written", "file_text", "of_frame", "read_offsets", "samples_of"]

FILE_BYTES_MAX = 256 * MIB  # a year of INFO replication each minute
OFFSET_MAX = 2**62
TIME_MAX_S = 2**33  # ns of it fit into 64 bits; in the year 2242
HEAD = ("time_s", "offset")
TIMES = {"uptime_in_seconds": S, "server_time_usec": 1000}  # INFO server: ns of one
CURE = "it is CSV (time_s,offset), or INFO replication with `# <seconds>` or `# <ISO time>` before each"
Ints = npt.NDArray[np.int64]
Place = tuple[str, int, int]  # where it stands, ns, offset


@dataclass(frozen=True)
class Written:
    """The series: `at_ns` and `offset_bytes`, int64[n], both from 0 on, n at least 2; `source`: what it was read from."""

    source: str
    at_ns: Ints
    offset_bytes: Ints
    notes: tuple[str, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        assert self.at_ns[0] == 0
        assert self.offset_bytes[0] == 0
        assert np.all(np.diff(self.at_ns) > 0)
        assert np.all(np.diff(self.offset_bytes) >= 0)

    @property
    def span_ns(self) -> int:
        """From the first sample to the last."""
        return int(self.at_ns[-1])

    @property
    def mean_per_s(self) -> float:
        """Bytes a second, over all of it."""
        return float(self.offset_bytes[-1]) * S / self.span_ns

    @property
    def rates_per_s(self) -> npt.NDArray[np.float64]:
        """Bytes a second from each sample to the next."""
        return np.diff(self.offset_bytes) * float(S) / np.diff(self.at_ns)

    @property
    def peak_per_s(self) -> float:
        """The largest of them."""
        return float(self.rates_per_s.max())

    def starts_ns(self, rng: np.random.Generator, spans_ns: Ints) -> Ints:
        """Instants from which on spans of such lengths lie within the series, uniform; 0 where one is longer than the series."""
        room = np.maximum(self.span_ns - spans_ns, 0)
        return (rng.random(len(spans_ns)) * room).astype(np.int64)

    def bytes_between(self, from_ns: Ints, to_ns: Ints) -> Ints:
        """Bytes written from instant to instant; beyond the last sample by the mean rate."""
        return np.floor(self._at(to_ns) - self._at(from_ns)).astype(np.int64)

    def reached_ns(self, from_ns: Ints, more_bytes: Ints) -> Ints:
        """The instant when so many bytes more have been written than at `from_ns`."""
        wanted = self._at(from_ns) + more_bytes
        at = np.interp(wanted, self.offset_bytes, self.at_ns)
        beyond = np.maximum(wanted - self.offset_bytes[-1], 0) * S / self.mean_per_s
        return (at + beyond).astype(np.int64)

    def _at(self, ns: Ints) -> npt.NDArray[np.float64]:
        beyond = np.maximum(ns - self.span_ns, 0) * (self.mean_per_s / S)
        return np.interp(ns, self.at_ns, self.offset_bytes) + beyond


def of_frame(frame: pd.DataFrame, source: str, where: str) -> Written:
    """Of `Result.replication`: the master's offset by its first replica. `where`: the scenario's place for a mistake."""
    if frame.empty or frame["master_offset"].isna().all():
        raise ScenarioError(
            f"{where}: the scenario has no replica, so nothing is known of its replication stream; give a node"
            " `replica_of: <master>`, or the offsets of a real server with --offsets"
        )
    mine = frame[frame["replica"] == frame["replica"].iloc[0]].dropna(subset=["master_offset"])
    times = [(where, round(row.time_s * S), int(row.master_offset)) for row in mine.itertuples()]
    return _written(source, times)


def read_offsets(path: Path) -> Written:
    """The series of a file. ScenarioError, with file and line, where a line is none of the forms, or time or offset runs back."""
    return _written(path.name, samples_of(path))


def samples_of(path: Path) -> list[Place]:
    """The file's samples, one at least, times rising; offsets as they are."""
    lines = file_text(path, "--offsets").splitlines()
    first = next((line.strip() for line in lines if line.strip()), "")
    is_csv = "," in first and ":" not in first.split(",")[-1] and not first.startswith("#")
    samples = list(_csv(path, lines) if is_csv else _info(path, lines))
    if not samples:
        raise ScenarioError(f"{path}:1: no offset is in the file; {CURE}")
    _run_forward(samples)
    return samples


def file_text(path: Path, option: str) -> str:
    """The file as text; ScenarioError when it is missing, a directory, too large or not UTF-8."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ScenarioError(f"{option} {path}: larger than {FILE_BYTES_MAX // MIB} MiB; keep fewer samples")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise ScenarioError(f"{option} {path}: cannot be read ({reason}); name a file of text") from None


def _written(source: str, samples: list[Place]) -> Written:
    """Checked: time runs forward, the offset does not run back, something was written."""
    _run_forward(samples)
    for (_, _, before), (place, _, offset) in pairwise(samples):
        if offset < before:
            raise ScenarioError(
                f"{place}: master_repl_offset {offset} after {before}: the server was restarted or replaced here, and a new"
                " history began; give the part before this line, or the one from it on"
            )
    if len(samples) < 2:
        raise ScenarioError(f"{samples[0][0]}: one offset is no rate; take a second one some time later")
    at = np.array([sample[1] for sample in samples], dtype=np.int64)
    offsets = np.array([sample[2] for sample in samples], dtype=np.int64)
    if offsets[-1] == offsets[0]:
        raise ScenarioError(f"{samples[-1][0]}: nothing was written (master_repl_offset stays {offsets[0]}): any backlog will do")
    widest = int(np.diff(at).max())
    note = f"offsets of {source}: {len(at):,} samples over {say_ns(int(at[-1] - at[0]))}, {say_ns(widest)} apart at most"
    return Written(source, at - at[0], offsets - offsets[0], (f"{note}; the stream grows evenly between two of them",))


def _run_forward(samples: list[Place]) -> None:
    for (_, before_ns, _), (place, ns, _) in pairwise(samples):
        if ns <= before_ns:
            raise ScenarioError(f"{place}: {say_ns(ns - before_ns)} after the sample before it; times must run forward")


def _csv(path: Path, lines: list[str]) -> Iterator[Place]:
    is_first = True
    for number, line in enumerate(lines, 1):
        place, text = f"{path}:{number}", line.strip()
        if not text or text.startswith("#"):
            continue
        cells = [cell.strip() for cell in text.split(",")]
        is_head = is_first and not any(c.isdigit() for c in text)
        is_first = False
        if is_head:
            if tuple(cells) != HEAD:
                raise ScenarioError(f"{place}: the header is {text!r}; it must be {','.join(HEAD)}")
            continue
        if len(cells) != 2:
            raise ScenarioError(f"{place}: {len(cells)} values in {text!r}; a line is time_s,offset")
        yield place, _time(cells[0], place), _offset(cells[1], place)


def _info(path: Path, lines: list[str]) -> Iterator[Place]:
    """Each master_repl_offset with the time said last before it: a line of the user's, or a field of INFO server."""
    kind, at_ns, replid = "", -1, ""
    for number, line in enumerate(lines, 1):
        place, text = f"{path}:{number}", line.strip()
        name, _, value = text.partition(":")
        if text.startswith("#"):
            said = _is_time(text[1:].strip())
            if said is not None:
                kind, at_ns = _one_clock(kind, "line", place), said
        elif (name == "server_time_usec" and kind != "line") or (name == "uptime_in_seconds" and kind in ("", name)):
            kind, at_ns = _one_clock(kind, name, place), _whole(value, name, place) * TIMES[name]
        elif name == "master_replid":
            if replid and value != replid:
                raise ScenarioError(
                    f"{place}: master_replid {value} after {replid}: another history of the stream, by a restart or a failover;"
                    " give the part before this line, or the one from it on"
                )
            replid = value
        elif name == "master_repl_offset":
            if at_ns < 0:
                raise ScenarioError(f"{place}: no time is said for this master_repl_offset; {CURE}")
            yield place, at_ns, _offset(value, place)
            at_ns = -1
        elif text and not value and ":" not in text:
            raise ScenarioError(f"{place}: {text[:60]!r} is no line of INFO; {CURE}")


def _one_clock(kind: str, wanted: str, place: str) -> str:
    if kind not in ("", wanted):
        raise ScenarioError(f"{place}: a time by {wanted} behind samples by {kind}; let all have the same clock")
    return wanted


def _is_time(text: str) -> int | None:
    """ns of seconds or of an ISO time; None: it is a heading, such as `# Replication`."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            said = datetime.fromisoformat(text)
        except ValueError:
            return None
        return round((said if said.tzinfo else said.replace(tzinfo=UTC)).timestamp() * S)
    return round(seconds * S) if math.isfinite(seconds) and 0 <= seconds <= TIME_MAX_S else None


def _time(text: str, place: str) -> int:
    ns = _is_time(text)
    if ns is None:
        raise ScenarioError(f"{place}: {text!r} is no time; write seconds (1690000000.5) or 2026-11-26T12:00:00")
    return ns


def _offset(text: str, place: str) -> int:
    return _whole(text, "offset", place)


def _whole(text: str, name: str, place: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:20]) <= OFFSET_MAX and len(text) <= 20):
        raise ScenarioError(f"{place}: {name} {text[:40]!r} is not a whole number of 0 or more")
    return int(text)
