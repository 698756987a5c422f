"""RDB files: what is in one, what a value takes in one, and that no damaged file does more than be refused."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import redis
from conftest import RealRedis
from hypothesis import given, settings
from hypothesis import strategies as st

from redsim.redis.config import rules
from redsim.redis.crc64 import crc64
from redsim.redis.listpack import Listpack
from redsim.redis.lzf import lzf_compress, lzf_decompress
from redsim.redis.object import RedisObject
from redsim.redis.rdb import len_length, serialized_length, string_length
from redsim.redis.rdb_read import RdbKey, read_rdb
from redsim.redis.t_hash import hset
from redsim.redis.t_list import push
from redsim.redis.t_set import sadd
from redsim.redis.t_stream import UNKNOWN
from redsim.redis.t_string import set_command
from redsim.redis.t_zset import zadd
from redsim.redis.ziplist import Ziplist
from redsim.rng import generator
from redsim.scenario.errors import ScenarioError

RECORDED = Path(__file__).parent / "recorded" / "dump-7.0.15.rdb"
DUMP_BYTES = 11  # around the value in DUMP's answer: its type, version and checksum


def keys_of(path: Path) -> dict[bytes, RdbKey]:
    return {key.key: key for key in read_rdb(path).read_keys()}


# ---- a recorded file ------------------------------------------------------------------------------------------------------


def test_a_recorded_file_reads_as_it_was_written() -> None:
    """Recorded on redis-server 7.0.15 (tests/recorded/README.md says how)."""
    file = read_rdb(RECORDED)
    keys = {key.key: key for key in file.read_keys()}
    assert (file.version, file.aux["redis-ver"], file.skipped) == (10, "7.0.15", {"function library": 1})
    assert {key.db for key in keys.values()} == {0, 3}
    value = {name: key.value for name, key in keys.items()}
    assert (value[b"greeting"], value[b"counter"], value[b"big-number"]) == (b"hello", b"12345", b"%d" % -(1 << 40))
    assert value[b"page:1"] == b"<p>" + b"lorem ipsum " * 40 + b"</p>"
    assert value[b"queue"] == [b"a", b"b", b"1", b"-7", b"300000", b"c" * 70]
    assert (len(value[b"log"]), len(keys[b"log"].blocks_bytes)) == (120, 2)
    assert (set(value[b"ids"]), set(value[b"tags"])) == ({b"1", b"2", b"70000"}, {b"red", b"green", b"blue"})
    assert dict(value[b"user:1"]) == {b"name": b"Ada", b"year": b"1815"}
    assert dict(value[b"user:2"]) == {b"bio": b"y" * 80, b"name": b"Bob"}
    assert dict(value[b"board"]) == {b"ada": 1.5, b"bob": -3.0, b"cyd": float("inf")}
    assert sorted(score for _, score in value[b"scores"]) == [0.0, 0.25, 0.5]
    assert keys[b"session:1"].expires_ms == 4_102_444_800_000
    encodings = {name.decode(): keys[name].encoding for name in keys if name != b"events"}
    assert set(encodings.values()) == {"int", "embstr", "raw", "quicklist", "intset", "hashtable", "listpack", "skiplist"}


def test_a_recorded_stream_reads_with_its_groups() -> None:
    """The same file: three entries, one of them deleted, one delivered to w1."""
    stream = keys_of(RECORDED)[b"events"].value
    assert (stream.length, stream.entries_added, stream.max_deleted_id) == (2, 3, (1_700_000_000_010, 0))
    assert [entry.id[0] % 100 for node in stream.nodes for entry in node.entries if not entry.is_deleted] == [0, 20]
    group = stream.groups[b"workers"]
    assert {stream_id: nack.consumer for stream_id, nack in group.pel.items()} == {(1_700_000_000_000, 0): b"w1"}
    assert group.entries_read == UNKNOWN  # an entry was deleted behind it


# ---- older and newer forms ------------------------------------------------------------------------------------------------


def short(data: bytes) -> bytes:
    """A string with a 14-bit length."""
    return (0x4000 | len(data)).to_bytes(2, "big") + data


def file_of(tmp_path: Path, body: bytes, version: int = 10) -> Path:
    path = tmp_path / "dump.rdb"
    path.write_bytes(b"REDIS%04d" % version + body + b"\xff" + bytes(8))  # a checksum of 0 is not looked at
    return path


FORMS: list[tuple[int, bytes, str, object]] = [
    (10, short(Ziplist.of([b"a", b"12", b"x" * 300, b"-5000"]).encode()), "list", [b"a", b"12", b"x" * 300, b"-5000"]),
    (12, short(Ziplist.of([b"m", b"1.5", b"n", b"70000"]).encode()), "zset", [(b"m", 1.5), (b"n", 70000.0)]),
    (13, short(Ziplist.of([b"f", b"9"]).encode()), "hash", [(b"f", b"9")]),
    (14, b"\x01" + short(Ziplist.of([b"e", b"99999999999"]).encode()), "list", [b"e", b"99999999999"]),
    (20, short(Listpack.of([b"p", b"q"]).encode()), "set", [b"p", b"q"]),
    (18, b"\x01\x01" + short(b"plain"), "list", [b"plain"]),
    (1, b"\x02\x01a\xc1\x00\x01", "list", [b"a", b"256"]),
    (3, b"\x02\x01a\x03-.5\x01b\xfe", "zset", [(b"a", -0.5), (b"b", float("inf"))]),
    (24, bytes(8) + b"\x01\x05\x01f\x01v", "hash", [(b"f", b"v")]),
    (25, bytes(8) + short(Listpack.of([b"f", b"v", b"0"]).encode()), "hash", [(b"f", b"v")]),
]


@pytest.mark.parametrize(("rdb_type", "data", "kind", "value"), FORMS, ids=[f"type-{form[0]}" for form in FORMS])
def test_forms_that_7_0_does_not_write_are_read(tmp_path: Path, rdb_type: int, data: bytes, kind: str, value: object) -> None:
    """rdb.h:RDB_TYPE_...: ziplists of 6.2 and before, listpack sets of 7.2, hashes with field TTLs of 7.4."""
    (key,) = keys_of(file_of(tmp_path, bytes([rdb_type]) + b"\x03key" + data, 12)).values()
    assert (key.type, key.value) == (kind, value)


def test_a_modules_value_is_skipped_and_counted(tmp_path: Path) -> None:
    """rdb.c:rdbLoadCheckModuleValue; the name is nine characters of six bits (module.c:moduleTypeEncodeId)."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    number = 0
    for letter in "ReJSON-RL":
        number = number << 6 | letters.index(letter)
    module = b"\x81" + (number << 10 | 3).to_bytes(8, "big") + b"\x02\x07" + b"\x05\x02ab" + b"\x04" + bytes(8) + b"\x00"
    file = read_rdb(file_of(tmp_path, b"\x07\x03key" + module + b"\x00\x03str\x02ok"))
    assert [(key.key, key.type, key.value) for key in file.read_keys()] == [(b"key", "module", None), (b"str", "string", b"ok")]
    assert file.skipped == {"value of module ReJSON-RL": 1}


# ---- damage ---------------------------------------------------------------------------------------------------------------


def one_sentence(path: Path, read: Callable[[Path], object] = keys_of) -> str:
    with pytest.raises(ScenarioError) as refused:
        read(path)
    text = str(refused.value)
    assert "\n" not in text
    assert str(path) in text
    return text


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is no RDB file"),
        (b"*3\r\n$3\r\nSET\r\n", "is no RDB file"),
        (b"REDIS00", "is no RDB file"),
        (b"REDIS0080\xff" + bytes(8), "is RDB version 80; redsim reads 1 to 12"),
        (b"REDIS0010", "ends at byte 9"),
        (b"REDIS0010\x00\x03ke", "ends at byte 13"),
        (b"REDIS0010\x00\x01k\x81" + b"\xff" * 8, "ends at byte 21"),
        (b"REDIS0010\x00\x01k\xc3\x01\x81" + b"\xff" * 8 + b"x", "cannot stand for"),
        (b"REDIS0010\x09\x01k\x01x", "9 is no type of value"),
        (b"REDIS0010\x0b\x01k\x05abcde", "is no intset"),
        (b"REDIS0010\x10\x01k\x05abcde", "is no listpack"),
        (b"REDIS0010\xff" + b"\x01" * 8, "checksum"),
    ],
)
def test_a_foreign_or_damaged_file_is_refused_with_the_reason(tmp_path: Path, content: bytes, why: str) -> None:
    """STYLE rule 8: one sentence that names the file."""
    path = tmp_path / "dump.rdb"
    path.write_bytes(content)
    assert why in one_sentence(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The same."""
    assert "cannot be read" in one_sentence(tmp_path / "none.rdb")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_damage_does_more_than_be_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """The recorded file, cut anywhere and with any bytes changed, its checksum switched off."""
    content = bytearray(RECORDED.read_bytes()[:-8])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(9, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(content)), st.integers(9, len(content))))
    path = tmp_path_factory.getbasetemp() / "damaged.rdb"
    path.write_bytes(bytes(content[:cut]) + bytes(8))
    try:
        keys_of(path)
    except ScenarioError as error:
        assert str(path) in str(error)  # noqa: PT017  (whether it is refused depends on the damage)


# ---- LZF and checksum -----------------------------------------------------------------------------------------------------


def test_the_checksum_is_that_of_crc64_c() -> None:
    """crc64.c:crc64Test."""
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA
    assert crc64(b"") == 0


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=400), st.text("ab", max_size=600).map(str.encode)))
def test_what_lzf_made_it_can_undo(data: bytes) -> None:
    """lzf_d.c; a result is never longer than asked for."""
    packed = lzf_compress(data, len(data) - 4)
    assert len(packed) <= max(len(data) - 4, 0)
    if packed:
        assert lzf_decompress(packed, len(data)) == data


def test_lzf_of_known_strings() -> None:
    """Recorded on redis-server 7.0.15: serializedlength of m, a base-36 number and underscores, to 21, 100 and 1,000 bytes."""
    lengths = [string_length(text.ljust(size, b"_")) for text, size in ((b"m1", 21), (b"m10", 21), (b"m1", 100), (b"m10", 1000))]
    assert lengths == [13, 14, 14, 24]


def test_lengths_change_where_rdb_c_says() -> None:
    """rdb.c:rdbSaveLen; -1, a group's unknown counter, is a length of 64 bits."""
    assert [len_length(n) for n in (0, 63, 64, 16383, 16384, (1 << 32) - 1, 1 << 32, -1)] == [1, 1, 2, 2, 5, 5, 9, 9]
    assert [string_length(text) for text in (b"0", b"-128", b"128", b"40000", b"2147483648", b"007")] == [2, 2, 3, 5, 11, 4]


# ---- a real server --------------------------------------------------------------------------------------------------------


def draw_text(rng: np.random.Generator, longest: int) -> bytes:
    if rng.random() < 0.25:
        return b"%d" % int(rng.integers(-(1 << 62), 1 << 62) >> int(rng.integers(62)))
    letters = int(rng.choice([1, 2, 26, 200]))
    return (rng.integers(33, 33 + letters, int(rng.integers(0, longest)), dtype=np.uint8)).tobytes()


@pytest.fixture(scope="class")
def client(redis_server: RealRedis) -> "Iterator[redis.Redis[bytes]]":
    with redis.Redis(port=redis_server.port) as connection:
        if not connection.info("server")["redis_version"].startswith("7.0."):
            pytest.skip("redis-server is not 7.0")
        yield connection


def fill(client: "redis.Redis[bytes]", seed: int) -> dict[bytes, RedisObject]:
    """Some keys of every type, on the server and as the model builds them."""
    rng, made = generator(seed, "rdb", "drawn"), rules("7.0", "jemalloc", client.config_get("*-max-*"))
    built: dict[bytes, RedisObject] = {}
    for number in range(40):
        longest, count = int(rng.choice([10, 64, 70, 3000])), int(rng.choice([1, 5, 40, 140]))
        texts = list(dict.fromkeys(draw_text(rng, longest) for _ in range(count)))
        name = b"%d" % number
        built[b"string:" + name] = set_command(texts[0], made)
        client.set(b"string:" + name, texts[0])
        built[b"list:" + name] = push(None, texts, made, at_head=False)
        client.rpush(b"list:" + name, *texts)
        built[b"set:" + name] = sadd(None, texts, made)
        client.sadd(b"set:" + name, *texts)
        built[b"hash:" + name] = hset(None, [(text, text[::-1]) for text in texts], made)
        client.hset(b"hash:" + name, mapping={text: text[::-1] for text in texts})
        built[b"zset:" + name] = zadd(None, [(text, i / 4 - 9) for i, text in enumerate(texts)], made)
        client.zadd(b"zset:" + name, {text: i / 4 - 9 for i, text in enumerate(texts)})
    return built


@pytest.mark.real
class TestAgainstARealServer:
    """redis-server 7.0 with keys drawn at random: DUMP is what SAVE writes of a value."""

    @pytest.mark.parametrize("seed", range(5))
    def test_serialized_length_is_what_dump_returns(self, client: "redis.Redis[bytes]", seed: int) -> None:
        """rdb.c:rdbSavedObjectLen. Of many strings in one value, what the compressor saw before may save a few bytes."""
        client.flushall()
        for key, obj in fill(client, seed).items():
            saved = len(client.dump(key)) - DUMP_BYTES
            said = serialized_length(obj, "7.0")
            if obj.encoding in ("hashtable", "skiplist"):
                assert 0 <= said - saved <= 0.01 * said, key
            else:
                assert said == saved, key

    def test_a_saved_file_has_every_key_with_its_value(self, client: "redis.Redis[bytes]") -> None:
        """SAVE, then each key asked for."""
        client.flushall()
        fill(client, 99)
        client.pexpireat("string:1", 4_102_444_800_000)
        client.save()
        keys = keys_of(Path(client.config_get("dir")["dir"]) / "dump.rdb")
        assert len(keys) == client.dbsize()
        ask = {
            "string": client.get,
            "list": lambda name: client.lrange(name, 0, -1),
            "set": lambda name: client.smembers(name),
            "hash": client.hgetall,
            "zset": lambda name: dict(client.zrange(name, 0, -1, withscores=True)),
        }
        as_type = {"string": bytes, "list": list, "set": set, "hash": dict, "zset": dict}
        for name, key in keys.items():
            assert as_type[key.type](key.value) == ask[key.type](name), name
            assert key.encoding == client.object("encoding", name).decode(), name
            assert key.saved_bytes == len(client.dump(name)) - DUMP_BYTES, name
        assert keys[b"string:1"].expires_ms == 4_102_444_800_000
