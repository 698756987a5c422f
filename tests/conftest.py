"""What tests share: a real redis-server, where one is installed.

`redis_server` runs one on a free loopback port with its defaults; `redis_refuses` asks the same binary
whether it takes a redis.conf. Both skip, saying so, where no redis-server is on PATH.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

START_S = 10
ANSWER_S = 20


@dataclass(frozen=True)
class RealRedis:
    """A running redis-server: `port` on 127.0.0.1, and `cli` to ask it."""

    port: int
    process: subprocess.Popen[bytes]
    redis_cli: str

    def cli(self, *args: str) -> str:
        """What redis-cli prints, raw, without the last newline; an error reply is printed too."""
        command = [self.redis_cli, "-h", "127.0.0.1", "-p", str(self.port), *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=False)
        return done.stdout.removesuffix("\n")


def on_path(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} on PATH")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(binary: str, redis_cli: str, folder: Path, *more: str) -> RealRedis:
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), *more]
    with (folder / "redis-server.log").open("wb") as log:
        process = subprocess.Popen([binary, *options], stdout=log, stderr=log, cwd=folder)
    server = RealRedis(port, process, redis_cli)
    give_up = time.monotonic() + START_S
    while server.cli("PING") != "PONG":
        if process.poll() is not None or time.monotonic() > give_up:
            process.kill()
            process.wait()
            pytest.fail(f"redis-server did not start: {(folder / 'redis-server.log').read_text()[-500:]}")
        time.sleep(0.02)
    return server


@pytest.fixture(scope="class")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRedis]:
    """A fresh redis-server with its defaults but for port, bind and dir, stopped at the end of the class."""
    binary, redis_cli = on_path("redis-server"), on_path("redis-cli")
    server = start(binary, redis_cli, tmp_path_factory.mktemp("redis"))
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture(scope="session")
def redis_refuses(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bool]:
    """`redis_refuses(text)`: does redis-server 7.0 refuse this redis.conf?

    A directive that cannot exist follows the text, so that no server ever starts: the text passed if that one
    is blamed.
    """
    binary = on_path("redis-server")
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True, timeout=ANSWER_S)
    if "v=7.0." not in said.stdout:
        pytest.skip(f"redis-server is not 7.0: {said.stdout.strip()}")
    folder = tmp_path_factory.mktemp("conf")

    def refuses(text: str) -> bool:
        conf = folder / "redis.conf"
        conf.write_bytes(text.encode() + b"\nthis-directive-does-not-exist 1\n")
        done = subprocess.run(
            [binary, str(conf)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_S,
            cwd=folder,
        )
        assert done.returncode == 1, (text, done.stdout, done.stderr)
        return "this-directive-does-not-exist" not in done.stderr

    return refuses


# ---- goldens ---------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden-update", action="store_true", help="rewrite the golden files instead of comparing")


@dataclass(frozen=True)
class Golden:
    """`check(name, text)`: the text is what tests/scenarios/golden/<name>.txt says, or becomes it with --golden-update."""

    folder: Path
    is_updating: bool

    def check(self, name: str, text: str) -> None:
        path = self.folder / f"{name}.txt"
        if self.is_updating:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path.name} is missing; write it with `pytest --golden-update` and read it before the commit"
        kept = path.read_text(encoding="utf-8")
        assert text == kept, f"{path.name} differs; if the model was to move, `pytest --golden-update`, and say why in the commit"


@pytest.fixture(scope="session")
def golden(pytestconfig: pytest.Config) -> Golden:
    folder = Path(__file__).parent / "scenarios" / "golden"
    return Golden(folder, bool(pytestconfig.getoption("--golden-update")))
