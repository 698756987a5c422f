"""RDB files: every key with its value, as it was saved.

Mirrors rdb.c:rdbLoadRioWithLoadingCtx of Redis 7.4 (versions 1 to 12 of the format; 9 is 6.2, 10 is 7.0, 11 is 7.2 and Valkey
8.0, 12 is 7.4). Apart from rdb.py, which knows the other direction, and rdb_values.py, what a value is made of. No package is
leaned on: those that read RDB files stop at version 9 or so and do not know listpacks.
Differs: values are taken as they are; duplicate members and the order of sorted sets are not checked.
Not modelled: modules' values (skipped, their keys counted), functions (skipped), zipmaps (Redis 2.4; refused).
"""

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redsim.redis.crc64 import crc64
from redsim.redis.rdb_values import READ_VALUE, Damaged, Reader, Value
from redsim.scenario.errors import ScenarioError

__all__ = ["RdbFile", "RdbKey", "read_rdb"]

VERSION_MAX = 12
MAGIC = b"REDIS"
_VERSION_DIGITS = 4
_CRC_BYTES = 8

# rdb.h: RDB_OPCODE_...
_SLOT_INFO, _FUNCTION2, _FUNCTION_PRE_GA, _MODULE_AUX, _IDLE, _FREQ = range(244, 250)
_AUX, _RESIZEDB, _EXPIRETIME_MS, _EXPIRETIME, _SELECTDB, _EOF = range(250, 256)
_MODULE_TYPES = (6, 7)  # RDB_TYPE_MODULE_PRE_GA, RDB_TYPE_MODULE_2


@dataclass(slots=True)
class RdbKey:
    """One key. `value` by type: bytes; a list of bytes (list, set), of (field, value) or (member, score); a t_stream.Stream; None
    of a module. `encoding` is the saved one; `blocks_bytes` are the sizes of its listpack or listpacks, ziplist or intset (none
    of a list of ziplists); `saved_bytes` is what the value takes in the file."""

    db: int
    key: bytes
    type: str
    encoding: str
    value: Any
    blocks_bytes: list[int]
    saved_bytes: int
    expires_ms: int | None = None
    idle_s: int | None = None
    freq: int | None = None


@dataclass(slots=True)
class RdbFile:
    """An RDB file, read on demand: `read_keys()` walks it once more each time. `aux` are its AUX fields, known after a walk."""

    path: Path
    version: int
    data: bytes | mmap.mmap = field(repr=False)
    aux: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)  # what was passed over, and how often

    @property
    def written_ms(self) -> int:
        """When it was written; 0 if it does not say."""
        text = self.aux.get("ctime", "0")
        return 1000 * int(text) if text.isdigit() else 0

    def read_keys(self, progress: Callable[[float], None] = lambda _share: None) -> Iterator[RdbKey]:
        """Every key in the file's order; ScenarioError, one sentence, where the file is cut short or damaged."""
        reader = Reader(self.data, len(MAGIC) + _VERSION_DIGITS)
        self.skipped.clear()
        try:
            for number, key in enumerate(self._walk(reader)):
                if number % 4096 == 0:
                    progress(reader.at / len(self.data))
                yield key
        except Damaged as error:
            raise ScenarioError(f"{self.path}: {error}; copy the file again, after the save is done") from None

    def _walk(self, reader: Reader) -> Iterator[RdbKey]:
        db = 0
        attributes: dict[str, int] = {}
        while (opcode := reader.byte()) != _EOF:
            if opcode == _SELECTDB:
                db = reader.length()
            elif opcode in (_EXPIRETIME, _EXPIRETIME_MS):
                attributes["expires_ms"] = reader.integer(8) if opcode == _EXPIRETIME_MS else 1000 * reader.integer(4)
            elif opcode == _IDLE:
                attributes["idle_s"] = reader.length()
            elif opcode == _FREQ:
                attributes["freq"] = reader.byte()
            elif opcode in _OPCODES:
                _OPCODES[opcode](self, reader)
            else:
                yield self._key(reader, opcode, db, attributes)
                attributes = {}
        if self.version >= 5:
            self._check_crc(reader)

    def _key(self, reader: Reader, rdb_type: int, db: int, attributes: dict[str, int]) -> RdbKey:
        start = reader.at - 1
        key = reader.string()
        value_at = reader.at
        if rdb_type in _MODULE_TYPES:
            if rdb_type == _MODULE_TYPES[0]:
                raise Damaged(
                    f"byte {start}: key {key[:60]!r} is a module's value as Redis 4.0-rc wrote it, which cannot be skipped"
                )
            found: Value = "module", reader.module_name(), None, []
            reader.skip_module()
            self._skip(f"value of module {found[1]}")
        elif rdb_type in READ_VALUE:
            found = READ_VALUE[rdb_type](reader)
        else:
            raise Damaged(f"byte {start}: has no meaning there ({rdb_type} is no type of value)")
        kind, encoding, value, blocks = found
        return RdbKey(db, key, kind, encoding, value, blocks, reader.at - value_at, **attributes)

    def _aux(self, reader: Reader) -> None:
        name = reader.string().decode("utf-8", "replace")
        self.aux[name] = reader.string().decode("utf-8", "replace")

    def _function(self, reader: Reader) -> None:
        reader.string()
        self._skip("function library")

    def _skip(self, what: str) -> None:
        self.skipped[what] = self.skipped.get(what, 0) + 1

    def _module_aux(self, reader: Reader) -> None:
        reader.module_name()
        reader.skip_module()

    def _check_crc(self, reader: Reader) -> None:
        until = reader.at
        said = reader.integer(_CRC_BYTES, signed=False)
        if said and crc64(memoryview(self.data)[:until]) != said:
            raise Damaged("the checksum at its end does not fit its bytes")


_OPCODES: dict[int, Callable[[RdbFile, Reader], object]] = {
    _AUX: RdbFile._aux,
    _FUNCTION2: RdbFile._function,
    _MODULE_AUX: RdbFile._module_aux,
    _RESIZEDB: lambda _file, reader: reader.lengths(2),
    _SLOT_INFO: lambda _file, reader: reader.lengths(3),
}


def read_rdb(path: Path) -> RdbFile:
    """The file's head; ScenarioError, one sentence, if it is none of Redis up to 7.4 or Valkey 8.0."""
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC) + _VERSION_DIGITS)
            is_rdb = head.startswith(MAGIC) and len(head) == len(MAGIC) + _VERSION_DIGITS and head[len(MAGIC) :].isdigit()
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if is_rdb else b""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the name is not one a file can have"
        raise ScenarioError(
            f"{path}: cannot be read ({reason}); give an RDB file, such as the dump.rdb of a redis-server"
        ) from None
    if not is_rdb:
        raise ScenarioError(
            f"{path}: is no RDB file: it does not begin with REDIS and four digits; give the dump.rdb of a redis-server"
        )
    version = int(head[len(MAGIC) :])
    if not 1 <= version <= VERSION_MAX:
        raise ScenarioError(f"{path}: is RDB version {version}; redsim reads 1 to {VERSION_MAX}, Redis up to 7.4 and Valkey 8.0")
    return RdbFile(path, version, data)
