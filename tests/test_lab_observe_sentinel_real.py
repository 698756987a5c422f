"""`redsim observe` of a master, two replicas and three Sentinels of the test's own: by URL, and by what redis-cli prints."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sentinel_example import text_in

from redsim.lab.asker import Asker, command_name
from redsim.lab.observe import command, observe
from redsim.lab.observed import Observation
from redsim.lab.sentinel_texts import records_of
from redsim.run import engine
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario

redis = pytest.importorskip("redis")
rig = pytest.importorskip("redsim.lab.rig")

PASSWORD, LINK_S = "pw-of-all-3e8", 30


class Service:
    """A master of ours, its replicas, and the Sentinels' (port, sentinel.conf)."""

    def __init__(self, servers: "list[rig.RealServer]", sentinels: list[tuple[int, Path]]) -> None:
        self.master, self.servers, self.sentinels = servers[0], servers, sentinels

    @property
    def urls(self) -> list[str]:
        return [f"redis://:{PASSWORD}@127.0.0.1:{self.master.port}", f"redis://127.0.0.1:{self.sentinels[0][0]}"]

    def cli(self, *words: str, port: int | None = None) -> str:
        """What redis-cli prints, of the first Sentinel or of a server."""
        args = ["-p", str(port or self.sentinels[0][0]), *(["-a", PASSWORD, "--no-auth-warning"] if port else []), *words]
        done = subprocess.run([str(rig.find("redis-cli")), *args], capture_output=True, text=True, timeout=30, check=True)
        return done.stdout


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Started on free loopback ports, all known to each other, stopped at the end; skips where there is no redis-server."""
    try:
        rig.find("redis-server")
    except ScenarioError:
        pytest.skip("no redis-server on PATH")
    folder = tmp_path_factory.mktemp("sentinels")
    with contextlib.ExitStack() as stack:
        auth = f"masterauth {PASSWORD}\nrepl-diskless-sync-delay 0\n"
        first = stack.enter_context(rig.start(auth, cpu=None))
        first.redis.config_set("requirepass", PASSWORD)
        stack.callback(first.redis.config_set, "requirepass", "")
        above = f"{auth}replicaof 127.0.0.1 {first.port}\n"
        servers = [first, *(stack.enter_context(rig.start(above, cpu=None)) for _ in range(2))]
        sentinels = []
        for i in range(3):
            port, conf = rig.free_port(), folder / f"sentinel-{i}" / "sentinel.conf"
            conf.parent.mkdir()
            conf.write_text(
                f"bind 127.0.0.1\nport {port}\ndir {conf.parent}\nsentinel monitor mymaster 127.0.0.1 {first.port} 2\n"
                f"sentinel auth-pass mymaster {PASSWORD}\nsentinel down-after-milliseconds mymaster 20000\n"
                "sentinel failover-timeout mymaster 61000\nsentinel parallel-syncs mymaster 2\n", encoding="utf-8",
            )  # fmt: skip
            words = [str(rig.find("redis-server")), str(conf), "--sentinel"]
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                preexec_fn=rig.die_with_parent,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.kill)
            sentinels.append((port, conf))
        expect_all_known(sentinels)
        yield Service(servers, sentinels)


def expect_all_known(sentinels: list[tuple[int, Path]]) -> None:
    until = time.monotonic() + LINK_S
    for port, conf in sentinels:
        client = redis.Redis(port=port, decode_responses=True)
        known = False
        while not known and time.monotonic() < until:
            with contextlib.suppress(redis.RedisError):
                seen = client.sentinel_master("mymaster")
                known = (seen["num-slaves"], seen["num-other-sentinels"]) == (2, 2)
            known = known and conf.read_text(encoding="utf-8").count("known-sentinel") == 2
            time.sleep(0.1)
        client.close()
        assert known, "the Sentinels found each other and the replicas"


def rules_of(seen: Observation) -> tuple[Any, ...]:
    """Of the scenario that was written, after a run of it."""
    scenario = Scenario.load(seen.scenario_path)
    assert scenario.sentinel_conf is not None
    (rules,) = scenario.sentinel_conf.masters
    assert engine.run(scenario.smoke()).summary["commands"] >= 0
    nodes = [node.replica_of for node in scenario.file.nodes.values()]
    times = rules.down_after_ns // 10**6, rules.failover_timeout_ns // 10**6
    return rules.name, rules.quorum, len(scenario.file.sentinel_places), *times, rules.parallel_syncs, nodes


FOUND = ("mymaster", 2, 3, 20000, 61000, 2, [None, "main", "main"])


@pytest.mark.real
def test_a_running_master_and_its_sentinel_are_one_scenario(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read-only: a Sentinel has no commandstats, so what was asked, and its sentinel.conf, are the witnesses. Nothing leaks."""
    conf, asked = service.sentinels[0][1].read_bytes(), set()
    many = Asker.many
    monkeypatch.setattr(Asker, "many", lambda self, words: asked.update(map(command_name, words)) or many(self, words))
    lines = command(service.urls[::-1], out=tmp_path, window_s=1.0, sample_keys=10)
    of_sentinel = {"SENTINEL|MASTERS", "SENTINEL|REPLICAS", "SENTINEL|SENTINELS"}
    assert {name for name in asked if name.startswith("SENTINEL")} == of_sentinel
    assert service.sentinels[0][1].read_bytes() == conf
    assert "  sentinel: mymaster, quorum 2 of 3 Sentinels, down-after 20000 ms, 2 replicas, flags master" in lines
    told = text_in(tmp_path) + "\n".join(lines)
    ids = [service.master.redis.info("server")["run_id"], "127.0.0.1", PASSWORD, *(str(port) for port, _ in service.sentinels)]
    assert not [one for one in [*ids, *(str(server.port) for server in service.servers)] if one in told]


@pytest.mark.real
def test_urls_and_files_of_the_service_give_the_same_rules(service: Service, tmp_path: Path) -> None:
    """The same by two URLs, by redis-cli's every form, by sentinel.conf as on disk, and by one of each kind."""
    texts = {
        "bare.txt": service.cli("SENTINEL", "MASTERS"), "tty.txt": service.cli("--no-raw", "SENTINEL", "MASTERS"),
        "bare3.txt": service.cli("-3", "SENTINEL", "MASTERS"), "tty3.txt": service.cli("-3", "--no-raw", "SENTINEL", "MASTERS"),
        "json.txt": service.cli("--json", "SENTINEL", "MASTERS"), "sinfo.txt": service.cli("INFO"),
        "replicas.txt": service.cli("SENTINEL", "REPLICAS", "mymaster"),
        "sentinels.txt": service.cli("--no-raw", "SENTINEL", "SENTINELS", "mymaster"),
        "info-1.txt": service.cli("INFO", "all", port=service.master.port),
    }  # fmt: skip
    time.sleep(1.1)
    texts["info-2.txt"] = service.cli("INFO", "all", port=service.master.port)
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    path = {name: str(tmp_path / name) for name in texts}
    infos = [path["info-1.txt"], path["info-2.txt"]]
    conf = str(service.sentinels[1][1])
    assert rules_of(observe(service.urls, out=tmp_path / "urls", window_s=0.5, sample_keys=0)) == FOUND
    assert rules_of(observe([service.urls[0], conf], out=tmp_path / "url", window_s=0.5, sample_keys=0)) == FOUND
    assert rules_of(observe([service.urls[1], *infos], out=tmp_path / "infos")) == FOUND
    assert rules_of(observe([*infos, conf], out=tmp_path / "conf")) == FOUND
    for name in ("bare", "tty", "bare3", "tty3", "json"):
        assert [one.fields["name"] for one in records_of(texts[f"{name}.txt"], name)] == ["mymaster"]
        assert rules_of(observe([*infos, path[f"{name}.txt"]], out=tmp_path / name)) == FOUND
    both = [path[name] for name in ("tty.txt", "replicas.txt", "sentinels.txt", "sinfo.txt")]
    seen = observe([*infos, conf, *both], out=tmp_path / "all")
    assert rules_of(seen) == FOUND
    assert seen.sentinel is not None
    assert (len(seen.sentinel.replicas), len(seen.sentinel.sentinels)) == (2, 2)
    assert seen.could_not_see == ["redis.conf: not given; the version's defaults are taken"], "they are of one mind"


@pytest.mark.real
def test_a_sentinel_alone_and_two_servers_are_refused(service: Service, tmp_path: Path) -> None:
    """One sentence without a password."""
    server = f"redis://:{PASSWORD}@127.0.0.1:{service.servers[1].port}"
    for sources in ([service.urls[1]], [service.urls[0], server], [service.urls[1]] * 2, [*service.urls, service.urls[1]]):
        with pytest.raises(ScenarioError, match=r"a Sentinel knows|give one server's URL") as caught:
            observe(sources, out=tmp_path / "out", window_s=0.1)
        assert PASSWORD not in str(caught.value)
