"""`redsim observe`: a scenario out of a running server or out of files, and never a secret. Recordings: tests/recorded/README.md.

The server is one of the test's own, with a password and ACL users; what it counted itself (commandstats) is the oracle.
"""

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from redsim.lab.asker import READ_ONLY, masked
from redsim.lab.observe import command, compare, observe
from redsim.lab.observed import Observation
from redsim.run import engine
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.scenario.schema import ScenarioFile

redis = pytest.importorskip("redis")
rig = pytest.importorskip("redsim.lab.rig")

RECORDED = Path(__file__).parent / "recorded"
PASSWORD, ACL_PASSWORD, POOR_PASSWORD, MASTERAUTH = "pw-of-all-9f2", "pw-of-eye-7c1", "pw-of-poor-3d8", "pw-of-master-5b4"
SECRETS = (PASSWORD, ACL_PASSWORD, POOR_PASSWORD, MASTERAUTH)
CYCLE = ("GET", "GET", "GET", "SET", "HGETALL", "LPUSH", "LRANGE", "SADD", "ZADD", "XADD")
HANDSHAKE = {"AUTH", "HELLO", "SELECT", "CLIENT|SETINFO", "CLIENT|SETNAME", "CLIENT|MAINT_NOTIFICATIONS", "COMMAND"}


# ---- a server of our own -------------------------------------------------------------------------------------------


class Server:
    """A redis-server with every type of key, a password, a user `eye` who may read, and a user `poor` who may only INFO."""

    def __init__(self, port: int, client: "redis.Redis") -> None:
        self.port, self.redis = port, client

    def url(self, user: str = "", password: str = PASSWORD) -> str:
        return f"redis://{user}:{password}@127.0.0.1:{self.port}/0"

    def cycle(self, i: int) -> None:
        """One of each of CYCLE, by redis-py."""
        r = self.redis
        for _ in range(3):
            r.get(f"user:{i % 200}")
        r.set(f"user:{i % 200}", "x" * 80)
        r.hgetall(f"session:{i % 50}")
        r.lpush(f"feed:{i % 20}", "y" * 30)
        r.lrange(f"feed:{i % 20}", 0, 4)
        r.sadd(f"tags:{i % 10}", i % 40)
        r.zadd("board", {f"player-{i % 60}": i})
        r.xadd(f"events:{i % 2}", {"f": "v"}, maxlen=50, approximate=False)

    def stats(self) -> dict[str, int]:
        rows = self.redis.info("commandstats")
        return {name.removeprefix("cmdstat_").upper(): int(row["calls"]) for name, row in rows.items()}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Started on a free loopback port, stopped at the end; skips where there is no redis-server."""
    try:
        rig.find("redis-server")
    except ScenarioError:
        pytest.skip("no redis-server on PATH")
    with rig.start("maxmemory-policy allkeys-lru\nhz 20\n", cpu=None) as running:
        r = running.redis
        for i in range(200):
            r.set(f"user:{i}", "x" * (20 + i % 100), px=3_600_000 if i % 4 == 0 else None)
            r.hset(f"session:{i % 50}", f"field-{i // 50}", "v" * 30)
        r.config_set("masterauth", MASTERAUTH)
        may = "+@read +info +config|get +client|list +slowlog|get +latency|latest +latency|histogram +time +monitor +select"
        r.execute_command("ACL", "SETUSER", "eye", "on", f">{ACL_PASSWORD}", "~*", "-@all", *may.split())
        r.execute_command("ACL", "SETUSER", "poor", "on", f">{POOR_PASSWORD}", "~*", "-@all", "+info")
        r.config_set("requirepass", PASSWORD)
        mine = redis.Redis(port=running.port, password=PASSWORD, decode_responses=True)
        one = Server(running.port, mine)
        for i in range(60):
            one.cycle(i)
        yield one
        mine.config_set("requirepass", "")
        mine.close()


@pytest.fixture
def loaded(server: Server) -> Iterator[Server]:
    """The server under a steady cycle of commands on one connection."""
    done = threading.Event()

    def load() -> None:
        i = 0
        while not done.wait(0.002):
            server.cycle(i)
            i += 1

    thread = threading.Thread(target=load)
    thread.start()
    yield server
    done.set()
    thread.join()


def written(seen: Observation) -> str:
    return Path(seen.scenario_path).read_text(encoding="utf-8") + Path(seen.observed_path).read_text(encoding="utf-8")


def no_secret(text: str) -> None:
    assert not [secret for secret in SECRETS if secret in text]


def weights(file: ScenarioFile) -> dict[str, float]:
    return {name: use.weight for group in file.clients.values() for name, use in group.commands.items()}


# ---- live ----------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_a_running_server_becomes_a_scenario_that_runs(loaded: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Issue 3: a scenario that runs as it stands; weights are commandstats' own calls, and no secret is written or printed."""
    lines = command([loaded.url()], out=tmp_path / "o.yaml", window_s=1.0, sample_keys=150, budget_s=20.0)
    scenario = Scenario.load(tmp_path / "o.yaml")
    observed = json.loads((tmp_path / "o.observed.json").read_text(encoding="utf-8"))
    counted = {c["name"]: c["calls"] for c in observed["window"]["commands"]}
    assert weights(scenario.file) == counted
    one = counted["SADD"]
    for name in set(CYCLE):
        assert abs(counted[name] - CYCLE.count(name) * one) <= CYCLE.count(name), (
            f"{name}: whole cycles, but for the first and last"
        )
    rate = sum(group.arrivals.open.rate_per_s or 0 for group in scenario.file.clients.values() if group.arrivals.open)
    assert rate == pytest.approx(sum(counted.values()) / observed["window"]["seconds"], rel=1e-4)
    assert {d.type for d in scenario.file.datasets.values()} == {"string", "list", "hash", "set", "zset"}
    assert scenario.confs["main"].get("maxmemory-policy") == "allkeys-lru"
    assert scenario.confs["main"].get("hz") == 20
    assert "XADD" in Path(tmp_path / "o.yaml").read_text(encoding="utf-8").split("question:")[0], "said not to be modelled"
    result = engine.run(scenario.smoke())
    assert result.summary["commands"] > 0
    rows = {quantity: (measured, predicted) for quantity, measured, predicted, _ in compare(observed, result.summary)}
    assert {"commands_per_s", "cpu_utilisation", "net_in_bytes_per_s", "GET calls_per_s"} <= set(rows)
    out, err = capfd.readouterr()
    no_secret(written_in(tmp_path) + out + err + "\n".join(lines))
    assert "127.0.0.1" not in written_in(tmp_path)


def written_in(folder: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.real
def test_the_shape_of_a_small_data_set_is_exact(server: Server, tmp_path: Path) -> None:
    """TYPE, STRLEN, HLEN … of every key; a stream is counted and left out."""
    seen = observe([server.url()], out=tmp_path, window_s=0.2, sample_keys=10_000, budget_s=60.0)
    shapes = {shape.type: shape for shape in seen.shapes}
    assert {kind: shape.keys for kind, shape in shapes.items()} == {
        "string": 200, "hash": 50, "list": 20, "set": 10, "zset": 1, "stream": 2,
    }  # fmt: skip
    assert shapes["hash"].elements == [(4, 50)]
    assert shapes["zset"].elements == [(60, 1)]
    assert sum(count for _, count in shapes["string"].value_bytes) == 200
    assert shapes["string"].with_ttl == sum(server.redis.pttl(f"user:{i}") > 0 for i in range(200))
    for kind, key in (("hash", "session:1"), ("set", "tags:1"), ("zset", "board")):
        assert list(shapes[kind].encodings) == [server.redis.object("ENCODING", key)]
    assert seen.memory["used_memory"] > seen.memory["used_memory_dataset"] > 0


@pytest.mark.real
def test_observe_sends_read_only_commands_only(server: Server, tmp_path: Path) -> None:
    """Issue 3: safe in production. What the server counted, from a reset to the end, is the witness."""
    server.redis.config_resetstat()
    before = server.redis.dbsize()
    observe([server.url()], out=tmp_path, window_s=0.2, monitor_s=0.5, sample_keys=50, budget_s=10.0)
    sent = set(server.stats()) - {"CONFIG|RESETSTAT", "DBSIZE"}
    assert sent <= READ_ONLY | HANDSHAKE
    assert {"INFO", "SCAN", "MONITOR"} <= sent
    assert server.redis.dbsize() == before


@pytest.mark.real
def test_the_budget_of_keys_and_of_seconds_is_kept(server: Server, tmp_path: Path) -> None:
    """Issue 3: a stated budget; the server's own count of SCAN and TYPE is the witness."""
    server.redis.config_resetstat()
    seen = observe([server.url()], out=tmp_path, window_s=0.1, sample_keys=30, budget_s=10.0)
    assert sum(shape.sampled for shape in seen.shapes) == server.stats()["TYPE"] == 30
    none = observe([server.url()], out=tmp_path, window_s=0.1, sample_keys=1000, budget_s=0.0)
    assert any("budget of seconds" in said for said in none.could_not_see)
    assert Scenario.load(none.scenario_path).file.datasets


@pytest.mark.real
def test_an_acl_user_sees_as_much_and_a_poor_one_says_what_it_could_not(server: Server, tmp_path: Path) -> None:
    """Issue 3: TLS and ACL users through redis-py's URL; a refused command becomes a line, and the scenario still runs."""
    eye = observe([server.url("eye", ACL_PASSWORD)], out=tmp_path / "eye", window_s=0.2, sample_keys=20)
    assert eye.conf_seen
    assert not [said for said in eye.could_not_see if "NOPERM" in said]
    poor = observe([server.url("poor", POOR_PASSWORD)], out=tmp_path / "poor", window_s=0.2, sample_keys=20, monitor_s=0.3)
    refused = " ".join(poor.could_not_see)
    for name in ("CONFIG GET", "SLOWLOG GET", "SCAN", "CLIENT LIST", "MONITOR"):
        assert f"{name}: refused (NOPERM" in refused
    assert poor.keys == 283
    engine.run(Scenario.load(poor.scenario_path).smoke())
    no_secret(written_in(tmp_path))


@pytest.mark.real
def test_monitor_tells_popularity_and_sizes(loaded: Server, tmp_path: Path) -> None:
    """Issue 3: optional MONITOR, its cost warned about before; keys and values are not kept."""
    said: list[str] = []
    command([loaded.url()], out=tmp_path, window_s=0.5, monitor_s=1.5, sample_keys=300, say=said.append)
    assert "halve" in said[0]
    observed = json.loads((tmp_path / "observed.json").read_text(encoding="utf-8"))
    assert observed["traffic"]["written"]["SET"] == [[80, observed["traffic"]["written"]["SET"][0][1]]]
    assert "string" in observed["traffic"]["popularity"]
    assert "user:" not in written_in(tmp_path)
    assert "xxxx" not in written_in(tmp_path)


@pytest.mark.real
def test_lfu_counters_are_asked_for_only_where_the_policy_is_lfu(server: Server, tmp_path: Path) -> None:
    """OBJECT FREQ answers an error under any other policy; the server's own count of it is the witness."""
    server.redis.config_resetstat()
    observe([server.url()], out=tmp_path, window_s=0.1, sample_keys=40)
    assert "OBJECT|FREQ" not in server.stats()
    server.redis.config_set("maxmemory-policy", "allkeys-lfu")
    try:
        seen = observe([server.url()], out=tmp_path, window_s=0.1, sample_keys=40)
    finally:
        server.redis.config_set("maxmemory-policy", "allkeys-lru")
    assert server.stats()["OBJECT|FREQ"] == sum(shape.sampled for shape in seen.shapes if shape.type != "stream")
    assert all(shape.lfu is not None for shape in seen.shapes if shape.type != "stream")


@pytest.mark.real
def test_no_error_shows_a_password(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 3: tokens in URLs never reach a file or a log, exceptions of redis-py included."""
    monkeypatch.setattr("redsim.lab.asker.TIMEOUT_S", 1.0)  # TLS towards a server that speaks none
    wrong = "pw-typed-wrongly-1e6"
    urls = [
        server.url("eye", wrong), server.url("", wrong), f"redis://127.0.0.1:{server.port}/0", f"redis://:{wrong}@127.0.0.1:1/0",
        f"rediss://eye:{wrong}@127.0.0.1:{server.port}/0", f"unix://:{wrong}@/no/such.sock?db=0", f"redis://:{wrong}@127.0.0.1:notaport/0",
        f"redis://127.0.0.1:{server.port}/0?password={wrong}", f"http://:{wrong}@127.0.0.1/0",
        f"redis://127.0.0.1:{server.port}/0?socket_timeout={wrong}",
    ]  # fmt: skip
    for url in urls:
        with pytest.raises(ScenarioError) as caught:
            observe([url], out=tmp_path, window_s=0.1)
        assert wrong not in str(caught.value), masked(url)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None, "a traceback would show the cause"
        assert str(caught.value).isprintable()
    out, err = capfd.readouterr()
    assert wrong not in out + err


# ---- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_files_of_a_server_give_what_asking_it_gives(server: Server, tmp_path: Path) -> None:
    """INFO all twice, redis.conf and --bigkeys: the mix exact to the call, shapes by type, no secret."""
    cli = rig.find("redis-cli")

    def save(name: str, *words: str) -> Path:
        path = tmp_path / name
        done = subprocess.run([str(cli), "-p", str(server.port), "--no-auth-warning", "-a", PASSWORD, *words],
                              capture_output=True, timeout=30, check=True)  # fmt: skip
        path.write_bytes(done.stdout)
        return path

    first = save("info-1.txt", "INFO", "all")
    for i in range(25):
        server.cycle(i)
    second = save("info-2.txt", "INFO", "all")
    conf = tmp_path / "redis.conf"
    conf.write_text(
        f'requirepass "{PASSWORD}"\nmasterauth {MASTERAUTH}\nuser eye on >{ACL_PASSWORD} ~* +@read\nhz 20\nport 7000\n'
    )
    files = [save("big.txt", "--bigkeys"), second, save("mem.txt", "--memkeys"), conf, first, save("slow.txt", "SLOWLOG", "GET")]
    files = [path for path in files if path.read_bytes().strip()]
    seen = observe([str(path) for path in files], out=tmp_path / "out")
    file = Scenario.load(seen.scenario_path).file
    assert weights(file) == {name: 25 * CYCLE.count(name) for name in set(CYCLE)}
    live = observe([server.url()], out=tmp_path / "live", window_s=0.1, sample_keys=10_000, budget_s=60.0)
    asked = {shape.type: shape for shape in live.shapes}
    for shape in seen.shapes:
        assert shape.keys == asked[shape.type].keys
    assert {shape.type for shape in seen.shapes} == {"string", "list", "hash", "set", "zset", "stream"}
    assert seen.conf == ["hz 20"]
    assert any("requirepass: left out" in said for said in seen.left_out)
    no_secret(written_in(tmp_path / "out"))


def test_one_info_gives_rates_by_uptime_and_says_so(tmp_path: Path) -> None:
    """Recorded: INFO all of a 7.0.15; one of them has totals only."""
    info = RECORDED / "info-all-7.0.15.txt"
    seen = observe([str(info), str(RECORDED / "monitor-7.0.15.txt")], out=tmp_path)
    assert seen.window is not None
    assert "one INFO only" in seen.window.said
    assert seen.window.counters["commands"] is not None
    file = Scenario.load(seen.scenario_path).file
    assert file.clients["strings"].keys is not None
    assert file.clients["strings"].keys.popularity.zipf is not None
    assert any("scripts" in name or name.startswith("EVAL") for name in weights(file))


def test_a_monitor_capture_alone_is_enough(tmp_path: Path) -> None:
    """Recorded: 7,040 commands in 9 s; costs are then the profile's."""
    seen = observe([str(RECORDED / "monitor-7.0.15.txt")], out=tmp_path)
    scenario = Scenario.load(seen.scenario_path)
    assert all(use.time_per_call is None for group in scenario.file.clients.values() for use in group.commands.values())
    assert engine.run(scenario.smoke()).summary["commands"] > 0


@pytest.mark.parametrize(("texts", "words"), [
    ([b"# Server\r\nredis_version:7.0.15\r\n"], ["uptime_in_seconds"]),
    ([b"dear diary\n"], ["none of what redsim observe reads", "MONITOR"]),
    ([b""], ["none of what"]),
    ([b"\xff\xfe\x00"], ["none of what"]),
    ([b"maxmemory 1gb\nhz 10\n"], ["how often", "INFO all"]),
    ([b"# Server\nrun_id:a\nuptime_in_seconds:5\n", b"# Server\nrun_id:b\nuptime_in_seconds:9\n"], ["run_id"]),
    ([b"# Server\nrun_id:a\nuptime_in_seconds:5\n"] * 2, ["not later"]),
    ([b"# Server\nrun_id:a\nuptime_in_seconds:5\n"] * 3, ["more than two INFO"]),
])  # fmt: skip
def test_files_that_cannot_be_used_are_one_sentence(texts: list[bytes], words: list[str], tmp_path: Path) -> None:
    """A file that is none of the known, or too little to go by: exit code 2's sentence."""
    paths = []
    for i, text in enumerate(texts):
        paths.append(tmp_path / f"file-{i}")
        paths[-1].write_bytes(text)
    with pytest.raises(ScenarioError) as caught:
        observe([str(path) for path in paths], out=tmp_path / "out")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("sources", [[], ["ftp://x"], ["redis://a", "redis://b"], ["no-such-file"]])
def test_sources_that_are_none_are_refused(sources: list[str], tmp_path: Path) -> None:
    """One URL, or files."""
    with pytest.raises(ScenarioError):
        observe(sources, out=tmp_path)
