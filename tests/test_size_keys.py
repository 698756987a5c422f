"""`redsim size` of what redis-cli --bigkeys and --memkeys print, and the law of MEMORY USAGE turned round."""

from pathlib import Path

import pytest

from redsim.lab.element_size import value_bytes_of
from redsim.lab.size_keys import key_report_shapes, keys_datasets_text, keys_lines
from redsim.redis.config import rules
from redsim.redis.object import memory_usage
from redsim.redis.t_list import push
from redsim.redis.t_string import set_command
from redsim.run.build import check
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario

RECORDED = Path(__file__).parent / "recorded"
BIGKEYS, MEMKEYS = RECORDED / "bigkeys-7.0.15.txt", RECORDED / "memkeys-7.0.15.txt"
SCENARIO = """
question: Do the data sets run?
duration: 1s
hosts: {box: {profile: default}}
nodes: {main: {host: box}}
clients: {}
"""


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """One report behind the other, as `cat` makes it."""
    path = tmp_path / "keys.txt"
    path.write_bytes(BIGKEYS.read_bytes() + MEMKEYS.read_bytes())
    return path


@pytest.mark.parametrize("path", [BIGKEYS, MEMKEYS], ids=["bigkeys", "memkeys"])
def test_one_report_alone_makes_a_scenario(path: Path) -> None:
    """The recorded server had 396 keys; streams are counted only."""
    assert keys_lines(path)[0].endswith(": 396 keys")
    scenario = Scenario.from_text(SCENARIO + keys_datasets_text(path))
    check(scenario)
    assert {name: data.keys for name, data in scenario.file.datasets.items()} == {
        "strings": 189, "hashes": 86, "lists": 58, "sets": 57, "zsets": 1,
    }  # fmt: skip


def test_both_reports_give_elements_and_bytes(both: Path) -> None:
    """--bigkeys has the elements, --memkeys the bytes of all keys of a type."""
    shapes, memory = key_report_shapes(both)
    assert memory == {"string": 39264, "hash": 16440, "list": 208788, "set": 4024, "zset": 688, "stream": 32728}
    assert {shape.type: shape.biggest for shape in shapes}["list"] == 2447
    assert all(shape.value_bytes for shape in shapes if shape.type != "stream")


def test_the_strings_of_memkeys_alone_are_as_long_as_bigkeys_says() -> None:
    """137.15 bytes on the average by --bigkeys; the allocator's classes hide 10 %."""
    (string,) = (shape for shape in key_report_shapes(MEMKEYS)[0] if shape.type == "string")
    assert string.value_bytes[0][0] == pytest.approx(137.15, rel=0.1)


@pytest.mark.parametrize("length", [1, 20, 63, 200, 5000])
def test_the_length_of_values_follows_from_what_they_take(length: int) -> None:
    """No shorter, and taking no more memory: the answer is the longest of the allocator's class."""
    ruled = rules()
    string = memory_usage(b"1234567", set_command(b"x" * length, ruled), ruled, samples=0)
    found = value_bytes_of("string", 7, 1, string)
    assert found >= length
    assert memory_usage(b"1234567", set_command(b"x" * found, ruled), ruled, samples=0) == string
    texts = [b"%04d" % i + b"x" * length for i in range(50)]
    many = memory_usage(b"1234567", push(None, texts, ruled, at_head=False), ruled, samples=0)
    assert value_bytes_of("list", 7, 50, many) == pytest.approx(length + 4, rel=0.25)


@pytest.mark.parametrize("text", ["", "hello\n", "# Scanning the entire keyspace to find biggest keys\n"])
def test_another_file_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    """STYLE rule 8."""
    path = tmp_path / "keys.txt"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=r"keys\.txt: "):
        keys_lines(path)
