"""Texts that `redsim observe` reads: redis-cli's SLOWLOG GET, --bigkeys and --memkeys, CONFIG GET and redis.conf.

Recordings: tests/recorded/README.md.
"""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redsim.lab.observe import observe
from redsim.lab.observe_conf import conf_of_pairs, conf_of_text
from redsim.lab.observe_files import kind_of, shapes_of_reports, slowlog
from redsim.lab.observed import against
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario

RECORDED = Path(__file__).parent / "recorded"


def test_slowlog_reads_the_same_from_a_terminal_and_from_a_file() -> None:
    """Recorded: both texts are one SLOWLOG GET of redis-cli 7.0.15, one value with a line end in it."""
    bare = slowlog((RECORDED / "slowlog-7.0.15.txt").read_text(encoding="utf-8"))
    terminal = slowlog((RECORDED / "slowlog-terminal-7.0.15.txt").read_text(encoding="utf-8"))
    assert bare == terminal
    assert [(usec, name) for usec, name in bare if name != "AUTH"] == [
        (8, "SET"), (68, "KEYS"), (195, "LRANGE"), (8, "HGETALL"), (1, "SLOWLOG"),
    ]  # fmt: skip


def test_bigkeys_and_memkeys_give_counts_sizes_and_the_biggest() -> None:
    """Recorded: redis-cli 7.0.15."""
    texts = [(RECORDED / f"{name}-7.0.15.txt").read_text(encoding="utf-8") for name in ("bigkeys", "memkeys")]
    shapes = {shape.type: shape for shape in shapes_of_reports(texts)}
    assert all(shape.keys == sum(n for _, n in shape.value_bytes) for shape in shapes.values())
    lists = shapes["list"]
    assert lists.biggest == max(value for value, _ in lists.elements)
    alone = {shape.type: shape for shape in shapes_of_reports(texts[:1])}
    assert alone["list"].elements == lists.elements
    assert alone["list"].value_bytes == []


# ---- redis.conf ----------------------------------------------------------------------------------------------------


def test_conf_keeps_what_differs_and_no_free_text() -> None:
    """CONFIG GET of a 7.0: defaults, secrets, paths and addresses are not written."""
    pairs = [
        ("requirepass", "hunter2"), ("masterauth", ""), ("dir", "/srv/x"), ("maxmemory", "1073741824"), ("hz", "10"),
        ("port", "7001"),
        ("save", "3600 1 300 100 60 10000"), ("appendfsync", "always"), ("nosuch", "1"), ("bind", "10.0.0.7"),
        ("client-output-buffer-limit", "normal 0 0 0 slave 268435456 67108864 60 pubsub 1048576 8388608 60"),
    ]  # fmt: skip
    lines, left_out = conf_of_pairs(pairs, "7.0")
    assert lines == ["maxmemory 1073741824", "appendfsync always", "client-output-buffer-limit pubsub 1048576 8388608 60"]
    assert "requirepass: left out (a secret)" in left_out
    said = " ".join(lines + left_out)
    assert not any(word in said for word in ("hunter2", "/srv", "10.0.0.7"))


def test_conf_text_keeps_save_lines_and_hides_renames() -> None:
    """save adds up; a command renamed to a secret word is not told, one removed is; what redsim refuses is said with a reason."""
    text = 'save 900 1\nsave 300 10\nrename-command CONFIG "b840fc02d52"\nrename-command KEYS ""\ncluster-enabled yes\nhz "open'
    lines, left_out = conf_of_text(text, "7.0")
    assert lines == ["save 900 1", "save 300 10", 'rename-command KEYS ""']
    said = " ".join(left_out)
    assert "b840" not in said
    assert "cluster-enabled: redsim refuses it" in said
    assert "line 6" in said


# ---- anything at all -----------------------------------------------------------------------------------------------

WORDS = [
    "1) 1) (integer) 5\n", "   2) (integer) 1795359980\n", "   3) (integer) 17\n", '   4) 1) "GET"\n', "259\n", "1795359980\n",
    "# Scanning the entire keyspace\n", "Sampled 60 keys in the keyspace!\n", "# Server\n", "hz 10\n", "OK\n", "\n", '"', "\\x",
    "20 lists with 80 items (33.33% of keys, avg size 4.00)\n", "Biggest   list found '\"l:6\"' has 4 items\n",
    "Total key length in bytes is 213 (avg len 3.55)\n", "requirepass x\n", "save 900 1\n", "redis_version:7.0.15\n", "6\n",
    "uptime_in_seconds:9\n", "cmdstat_get:calls=9,usec=9,usec_per_call=1.0\n", "db0:keys=9,expires=0\n",
    '1339518083.107412 [0 127.0.0.1:60866] "get" "k"\n', "99999999999999999999\n",
]  # fmt: skip
TEXT = st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=14).map("".join)


@settings(max_examples=150, deadline=None)
@given(TEXT)
def test_random_text_makes_the_parsers_raise_nothing(text: str) -> None:
    """Fuzz: the parsers of redis-cli's texts and of redis.conf answer or leave out; they have nothing to raise."""
    assert kind_of(text.encode("utf-8", "replace")) in ("monitor", "info", "keys", "slowlog", "conf", "")
    assert all(usec >= 0 for usec, _ in slowlog(text))
    assert all(shape.keys > 0 for shape in shapes_of_reports([text]))
    lines, _ = conf_of_text(text, "7.0")
    assert not any("requirepass" in line for line in lines)


@settings(max_examples=60, deadline=None)
@given(TEXT)
def test_random_files_raise_nothing_but_scenario_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Fuzz: a file of redis-cli's own phrases in any order; a scenario that loads, or one sentence."""
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / "given.txt"
    path.write_bytes(text.encode("utf-8", "replace"))
    outcome = sentence_of(path, folder)
    assert outcome == "" or outcome.isprintable()


def sentence_of(path: Path, folder: Path) -> str:
    """Why the file was refused, "" if a scenario that loads came of it."""
    try:
        seen = observe([str(path)], out=folder)
    except ScenarioError as error:
        return str(error)
    Scenario.load(seen.scenario_path)
    return ""


def test_what_is_no_observed_json_is_refused_in_a_sentence(tmp_path):
    """STYLE: one clear sentence with the file and what it should be."""
    path = tmp_path / "observed.json"
    with pytest.raises(ScenarioError, match="cannot be read"):
        against(path, {})
    path.write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"observed\.json: is no observed\.json"):
        against(path, {"nodes": {}})
