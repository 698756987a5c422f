"""A recorded trace of accesses to keys, as arrays: CSV, libCacheSim's oracleGeneral, or bare 32-bit keys; .gz, .xz, .bz2 as well.

    csv            a header names the columns: time (s), key, size (bytes of the value), op, ttl (s), key_size; only `key` must be
                   there, others are passed over. Without a header: key | time,key | time,key,size | time,key,size,op |
                   time,key,size,op,ttl, or the seven columns of twitter/cache-trace
    oracleGeneral  records of 24 bytes, little-endian: uint32 time (s), uint64 key, uint32 size, int64 next access (passed over)
    int32          big-endian int32 keys and nothing else (the traces that come with Caffeine)

Keys become numbers 0.. in the order of their first access. A CSV is read piece by piece and its keys are held as 64-bit hashes:
two of ten million keys are taken for one with probability 3e-6.
Not modelled: commands that touch several keys or part of a value; a size that a delete brings.
"""

import bz2
import gzip
import lzma
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from redsim.dataplane.rehearsal import DELETE, READ, WRITE
from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.units import S

__all__ = ["FORMATS", "AccessTrace", "read_access_trace"]

ROWS_AT_ONCE = 1_000_000
_OPEN: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
_NAMES = {
    "time": "time", "timestamp": "time", "ts": "time", "key": "key", "id": "key", "obj_id": "key", "object_id": "key",
    "size": "size", "value_size": "size", "obj_size": "size", "value_bytes": "size", "bytes": "size",
    "op": "op", "operation": "op", "command": "op", "ttl": "ttl", "key_size": "key_size", "key_bytes": "key_size",
}  # fmt: skip
_TWITTER = ["time", "key", "key_size", "size", "client", "op", "ttl"]
_POSITIONS = {1: ["key"], **{n: ["time", "key", "size", "op", "ttl"][:n] for n in (2, 3, 4, 5)}, 7: _TWITTER}
_READS = ("get", "gets", "read", "r", "mget", "hget", "hgetall", "exists")
_WRITES = ("set", "add", "replace", "cas", "append", "prepend", "incr", "decr", "put", "write", "w", "mset", "setex", "hset")
_DELETES = ("del", "delete", "d", "remove", "unlink")
_OPS = {**dict.fromkeys(_READS, READ), **dict.fromkeys(_WRITES, WRITE), **dict.fromkeys(_DELETES, DELETE)}
_ORACLE = np.dtype([("time", "<u4"), ("key", "<u8"), ("size", "<u4"), ("next", "<i8")])


@dataclass(frozen=True)
class AccessTrace:
    """Accesses in order; what the file does not say is None."""

    name: str
    keys: npt.NDArray[np.int32]  # [accesses]: 0..distinct-1
    distinct: int
    ops: npt.NDArray[np.int8] | None = None  # [accesses]: READ, WRITE, DELETE of dataplane.rehearsal
    times_ns: npt.NDArray[np.int64] | None = None  # [accesses]: since the first, never falling
    sizes: npt.NDArray[np.int64] | None = None  # [accesses]: bytes of the value
    key_sizes: npt.NDArray[np.int64] | None = None  # [distinct]: bytes of the key
    ttls_ns: npt.NDArray[np.int64] | None = None  # [accesses]: 0 none
    read_s: float = 0.0  # wall seconds it took to read


def read_access_trace(path: Path, form: str = "auto") -> AccessTrace:
    """The trace in a file; `form` is one of FORMATS, or auto: by the file's name. ScenarioError if it cannot be read so."""
    begun = time.perf_counter()
    if form == "auto":
        form = _form_of(path)
    if form not in FORMATS:
        raise ScenarioError(f"--format {form!r} is unknown; use one of auto, {', '.join(FORMATS)}{did_you_mean(form, FORMATS)}")
    try:
        columns = FORMATS[form](path)
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: this trace cannot be read ({error}); check the path, or give --format") from None
    if not columns or columns["key"].size == 0:
        raise ScenarioError(f"{path}: there is no access in this trace")
    return _trace(path, columns, begun)


def _form_of(path: Path) -> str:
    name = path.name.lower()
    bare = name.removesuffix(path.suffix.lower()) if path.suffix.lower() in _OPEN else name
    if "oraclegeneral" in bare and not bare.endswith((".zst", ".zstd")):
        return "oracleGeneral"
    endings = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".trace": "int32"}
    found = next((form for ending, form in endings.items() if bare.endswith(ending)), "")
    if found:
        return found
    cure = "decompress it first" if bare.endswith((".zst", ".zstd")) else f"say it with --format: {', '.join(FORMATS)}"
    raise ScenarioError(f"{path}: the name does not tell the format of this trace; {cure}")


def _open(path: Path) -> IO[bytes]:
    opened: IO[bytes] = _OPEN.get(path.suffix.lower(), open)(path, "rb")
    return opened


def _trace(path: Path, columns: dict[str, npt.NDArray[Any]], begun: float) -> AccessTrace:
    codes, distinct = pd.factorize(columns["key"])
    keys = codes.astype(np.int32)
    times_ns = None
    if "time" in columns:
        times_ns = columns["time"] - columns["time"][0]
        back = np.flatnonzero(np.diff(times_ns) < 0)
        if back.size:
            raise ScenarioError(f"{path}: time goes back at access {back[0] + 2:,}; sort the trace by time")
    key_sizes = None
    if "key_size" in columns:
        key_sizes = np.zeros(len(distinct), dtype=np.int64)
        key_sizes[keys[::-1]] = columns["key_size"][::-1]  # the first access of a key is written last
    for what in ("size", "ttl"):
        if what in columns and columns[what].min() < 0:
            raise ScenarioError(f"{path}: {what} is negative at access {int(np.argmax(columns[what] < 0)) + 1:,}")
    return AccessTrace(
        name=path.name, keys=keys, distinct=len(distinct), ops=columns.get("op"), times_ns=times_ns, sizes=columns.get("size"),
        key_sizes=key_sizes, ttls_ns=columns.get("ttl"), read_s=time.perf_counter() - begun,
    )  # fmt: skip


def _joined(pieces: Sequence[dict[str, npt.NDArray[Any]]]) -> dict[str, npt.NDArray[Any]]:
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]} if pieces else {}


# ---- binary -----------------------------------------------------------------------------------------------------


def _records(path: Path, record: np.dtype[Any]) -> Iterator[npt.NDArray[Any]]:
    with _open(path) as file:
        while block := file.read(ROWS_AT_ONCE * record.itemsize):
            if len(block) % record.itemsize:
                raise ScenarioError(f"{path}: the last record is cut short; each has {record.itemsize} bytes in this format")
            yield np.frombuffer(block, dtype=record)


def _int32(path: Path) -> dict[str, npt.NDArray[Any]]:
    return _joined([{"key": rows.astype(np.int32)} for rows in _records(path, np.dtype(">i4"))])


def _oracle_general(path: Path) -> dict[str, npt.NDArray[Any]]:
    return _joined([
        {"key": rows["key"], "time": rows["time"].astype(np.int64) * S, "size": rows["size"].astype(np.int64)}
        for rows in _records(path, _ORACLE)
    ])  # fmt: skip


# ---- CSV --------------------------------------------------------------------------------------------------------


def _csv(path: Path) -> dict[str, npt.NDArray[Any]]:
    with _open(path) as file:
        first = file.readline(100_000).decode("utf-8")
    separator = "\t" if "\t" in first else ","
    words = [word.strip().strip('"').lower() for word in first.rstrip("\r\n").split(separator)]
    has_header = any(_NAMES.get(word) == "key" for word in words)
    if has_header:
        names = [_NAMES.get(word, f"other {at}") for at, word in enumerate(words)]
    elif len(words) in _POSITIONS:
        names = _POSITIONS[len(words)]
    else:
        raise ScenarioError(f"{path}: a trace of {len(words)} columns needs a header line that names them: time,key,size,op,ttl")
    if len(set(names)) < len(names):
        raise ScenarioError(f"{path}: two columns of the header say the same: {first.strip()}")
    wanted = [name for name in names if name in _NAMES.values()]
    try:
        pieces = pd.read_csv(
            path, sep=separator, names=names, usecols=wanted, header=0 if has_header else None, chunksize=ROWS_AT_ONCE,
            dtype="str", keep_default_na=False, compression="infer", index_col=False,
        )  # fmt: skip
        return _joined([_csv_piece(path, piece) for piece in pieces])
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ScenarioError(f"{path}: this trace cannot be read as CSV ({str(error).strip()})") from None


def _csv_piece(path: Path, rows: pd.DataFrame) -> dict[str, npt.NDArray[Any]]:
    text = rows["key"].to_numpy(dtype=object)
    columns: dict[str, npt.NDArray[Any]] = {"key": pd.util.hash_array(text)}
    columns["key_size"] = np.array([len(key) for key in text], dtype=np.int64)
    for name, scale in (("time", S), ("size", 1), ("ttl", S), ("key_size", 1)):
        if name in rows:
            numbers = pd.to_numeric(rows[name], errors="coerce").to_numpy(dtype=np.float64)
            if np.isnan(numbers).any():
                at = int(np.argmax(np.isnan(numbers)))
                raise ScenarioError(f"{path}: {name} {rows[name].iloc[at]!r} of access {rows.index[at] + 1:,} is no number")
            columns[name] = np.rint(numbers * scale).astype(np.int64)
    if "op" in rows:
        ops = rows["op"].str.lower().map(_OPS)
        if ops.isna().any():
            at = int(np.argmax(ops.isna()))
            raise ScenarioError(f"{path}: operation {rows['op'].iloc[at]!r} of access {rows.index[at] + 1:,} is unknown; "
                                f"use get, set, del or memcached's words")  # fmt: skip
        columns["op"] = ops.to_numpy(dtype=np.int8)
    return columns


FORMATS: dict[str, Callable[[Path], dict[str, npt.NDArray[Any]]]] = {
    "csv": _csv, "oracleGeneral": _oracle_general, "int32": _int32,
}  # fmt: skip
