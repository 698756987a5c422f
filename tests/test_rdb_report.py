"""What an RDB file is said to hold and to take in memory, and the data sets a scenario makes of it."""

import doctest
import json
from pathlib import Path
from shutil import copyfile

import pytest
import redis
from conftest import RealRedis, on_path, start
from small_worlds import world_of
from typer.testing import CliRunner

from redsim.cli import app
from redsim.dataplane import layout as dp
from redsim.redis.config import rules
from redsim.redis.memory_overhead import startup_bytes
from redsim.run import rdb_report as module
from redsim.run.build import check
from redsim.run.rdb_report import RdbReport, rdb_report
from redsim.run.rdb_text import datasets_text, report_lines
from redsim.scenario.load import Scenario

RECORDED = Path(__file__).parent / "recorded" / "dump-7.0.15.rdb"
SCENARIO = """
question: Does a data set of an RDB file run?
duration: 100ms
hosts: {box: {profile: default}}
nodes: {main: {host: box, version: "7.0"}}
"""
CLIENTS = """
clients:
  api: {node: main, arrivals: {open: {rate_per_s: 1000}}, commands: {GET: 1}, keys: {dataset: %s}}
"""


def recorded() -> RdbReport:
    return rdb_report(RECORDED, rules("7.0", "jemalloc-debian"))


# ---- the report ---------------------------------------------------------------------------------------------------------


def test_every_key_is_counted_once_in_each_table() -> None:
    """Sums of the same keys, however they are parted."""
    report = recorded()
    assert report.keys == 15
    for parts in (report.types, report.encodings, report.patterns):
        assert sum(part.keys for part in parts.values()) == 15
        assert sum(part.memory_bytes for part in parts.values()) == sum(part.memory_bytes for part in report.types.values())
    assert {pattern for pattern, _ in report.patterns} >= {"user:*", "session:*", "page:*", "queue"}
    assert report.volatile[0] == 1
    assert max(report.biggest)[1] == b"log"


def test_what_a_person_reads_names_types_patterns_and_what_was_passed_over() -> None:
    """The issue: bytes by type, encoding and prefix, biggest keys."""
    text = "\n".join(report_lines(recorded()))
    for word in ("15 keys in 2 databases, 1 with a TTL", "7.0, jemalloc-debian", "skiplist", "user:*", "1 x function library"):
        assert word in text
    assert len(text.splitlines()[0]) < 250


def test_encodings_follow_the_directives_and_the_version_asked_for() -> None:
    """rdb.c:rdbLoadObject chooses again: user:2's 80 bytes fit a listpack of 100, three tags one of 7.2, and 6.2 has ziplists."""
    larger = rdb_report(RECORDED, rules("7.0", "jemalloc", {"hash-max-listpack-value": 100, "zset-max-listpack-value": 100}))
    assert ("hashtable", "hash") not in larger.encodings
    assert ("skiplist", "zset") not in larger.encodings
    assert rdb_report(RECORDED, rules("7.2")).encodings["listpack", "set"].keys == 1
    assert rdb_report(RECORDED, rules("7.2")).encodings["listpack", "list"].keys == 1
    assert rdb_report(RECORDED, rules("6.2")).encodings["ziplist", "hash"].keys == 1


def test_the_examples_of_patterns_hold() -> None:
    """Doctests of the module."""
    assert doctest.testmod(module).failed == 0


# ---- data sets ----------------------------------------------------------------------------------------------------------


def test_the_data_sets_of_a_report_make_a_scenario() -> None:
    """Every type that is simulated, as text that a scenario takes as it stands."""
    text = datasets_text(recorded())
    scenario = Scenario.from_text(SCENARIO + text + CLIENTS % "session")
    check(scenario)
    data = scenario.file.datasets
    assert {name: (one.type, one.keys) for name, one in data.items()} == {
        "log": ("list", 1), "page": ("string", 1), "scores": ("zset", 1), "queue": ("list", 1), "user": ("hash", 2),
        "tags": ("set", 1), "board": ("zset", 1), "session": ("string", 1), "ids": ("set", 1), "big-number": ("string", 1),
        "greeting": ("string", 1), "counter": ("string", 1), "elsewhere": ("string", 1),
    }  # fmt: skip
    assert "events are of type stream, which is not modelled" in text


def test_a_data_set_takes_what_is_not_said_from_the_file() -> None:
    """`rdb` and `prefix`: keys, type and sizes; what the scenario says itself stands."""
    data = f'datasets: {{pages: {{node: main, rdb: "{RECORDED}", prefix: "page:", keys: 50, key_bytes: 9}}}}'
    run = world_of(Scenario.from_text(SCENARIO + data + CLIENTS % "pages"))
    row = run.w.dataset[0]
    assert (row[dp.D_N], row[dp.D_KEYBYTES]) == (50, 9)
    assert set(run.w.kv[:50, 0].tolist()) == {len("<p></p>") + 480}


def test_the_commonest_type_is_taken_where_none_is_said() -> None:
    """The file has six strings, more than of any other type."""
    data = f'datasets: {{all: {{node: main, rdb: "{RECORDED}"}}}}'
    run = world_of(Scenario.from_text(SCENARIO + data + CLIENTS % "all"))
    assert run.w.dataset[0, dp.D_N] == 6
    hashes = f'datasets: {{all: {{node: main, rdb: "{RECORDED}", type: hash}}}}'
    assert world_of(Scenario.from_text(SCENARIO + hashes)).w.dataset[0, dp.D_N] == 2


# ---- a real server ------------------------------------------------------------------------------------------------------


@pytest.mark.real
class TestAgainstARealServer:
    """redis-server 7.0: a file it saved, and what it uses with that data set."""

    def test_used_memory_after_loading_is_known_but_for_skiplists(self, redis_server: RealRedis, tmp_path: Path) -> None:
        """INFO used_memory of a second server that loads 3,000 keys of all types, less that of the same server emptied.

        0.1 %: the heights of 60,000 skiplist nodes are random (standard deviation 0.03 %); without them it is 32 bytes.
        """
        with redis.Redis(port=redis_server.port) as client:
            if not client.info("server")["redis_version"].startswith("7.0."):
                pytest.skip("redis-server is not 7.0")
            fill(client)
            client.save()
            copyfile(Path(client.config_get("dir")["dir"]) / "dump.rdb", tmp_path / "dump.rdb")
        loaded = start(on_path("redis-server"), redis_server.redis_cli, tmp_path)
        with redis.Redis(port=loaded.port) as client:
            allocator = "libc" if "libc" in client.info("memory")["mem_allocator"] else "jemalloc-debian"
            report = rdb_report(tmp_path / "dump.rdb", rules("7.0", allocator))
            client.execute_command("SELECT", 1)
            client.flushdb()  # a command has its histogram from its first call on
            client.info("memory")
            full = client.info("memory")["used_memory"]
            client.execute_command("SELECT", 0)
            client.flushdb()
            data_bytes = full - client.info("memory")["used_memory"]
        loaded.process.kill()
        loaded.process.wait()
        assert report.keys == 3_000
        assert report.used_memory_bytes() - startup_bytes(report.rules).value == pytest.approx(data_bytes, rel=0.001)


def fill(client: "redis.Redis[bytes]") -> None:
    """600 keys each of five types, strings with a TTL."""
    pipe = client.pipeline(transaction=False)
    for i in range(600):
        pipe.set(f"string:{i}", "x" * (i % 200), ex=100_000)
        pipe.rpush(f"list:{i}", *["e" * (j % 90) for j in range(1 + i % 150)])
        pipe.sadd(f"set:{i}", *[f"member-{j}" for j in range(1 + i % 60)])
        pipe.hset(f"hash:{i}", mapping={f"f{j}": "v" * (i % 100) for j in range(1 + i % 20)})
        pipe.zadd(f"zset:{i}", {f"member-{j}": j / 8 for j in range(1 + i % 200)})
    pipe.execute()


# ---- the command line ---------------------------------------------------------------------------------------------------


def test_redsim_size_reads_an_rdb_file_and_writes_its_figures_and_data_sets(tmp_path: Path) -> None:
    """`redsim size dump.rdb --out figures.json --datasets sets.yaml`."""
    out, sets = tmp_path / "figures.json", tmp_path / "sets.yaml"
    done = CliRunner().invoke(app, ["size", str(RECORDED), "--out", str(out), "--datasets", str(sets)])
    assert (done.exit_code, "15 keys in 2 databases" in done.stdout) == (0, True)
    figures = json.loads(out.read_text())
    assert (figures["keys"], figures["written_by"], len(figures["biggest"])) == (15, "7.0.15", 15)
    assert "user" in Scenario.from_text(SCENARIO + sets.read_text() + "clients: {}").file.datasets


def test_redsim_size_reads_what_redis_cli_printed(tmp_path: Path) -> None:
    """`redsim size bigkeys.txt --datasets sets.yaml`."""
    sets = tmp_path / "sets.yaml"
    done = CliRunner().invoke(app, ["size", str(RECORDED.parent / "bigkeys-7.0.15.txt"), "--datasets", str(sets)])
    assert (done.exit_code, "189 strings" in done.stdout) == (0, True)
    assert len(Scenario.from_text(SCENARIO + sets.read_text() + "clients: {}").file.datasets) == 5


@pytest.mark.parametrize("words", [["none.rdb"], [__file__], [str(RECORDED), "--allocator", "tcmalloc"]])
def test_redsim_size_refuses_a_file_in_one_sentence(words: list[str]) -> None:
    """Exit code 2 and one line on stderr."""
    done = CliRunner().invoke(app, ["size", *words])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
