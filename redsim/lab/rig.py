"""The rig: real Redis servers, started on loopback for a measurement, sampled, and always stopped.

start() gives a server of our own: pinned to one CPU, its own port and folder, nothing saved unless asked. attach() takes
somebody else's and neither starts nor stops anything. A Sample is the server's counters at one instant; `later - earlier` is
what happened between, with the sampler's own INFO calls taken out.
Differs from a server in production: protected by loopback only, its password (if the conf has one) is taken away, and places
of the machine (`dir`, `port`, `bind`, `logfile`, …) are ours whatever the conf says.
Not modelled: replicas, Sentinel and Cluster; TLS between the rig and its own servers.
"""

import atexit
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakSet

from redsim.scenario.errors import ScenarioError
from redsim.units import S

if TYPE_CHECKING:
    import redis

PROGRAMS = {"redis-server": "redis-server", "redis-benchmark": "redis-tools", "redis-cli": "redis-tools"}  # Debian's packages
SAMPLE_COMMANDS = 3  # INFO calls of one sample, in one write
STATS = (  # further fields of INFO stats that only rise
    "keyspace_hits", "keyspace_misses", "evicted_keys", "expired_keys", "expired_time_cap_reached_count",
    "expire_cycle_cpu_milliseconds",
)  # fmt: skip
PR_SET_PDEATHSIG = 1  # linux/prctl.h
STARTS_MAX = 5  # another process may take the free port before the server does
BEFORE = 'save ""\nappendonly no\nloglevel warning\n'
AFTER = """
bind 127.0.0.1
port {port}
daemonize no
supervised no
dir "{folder}"
logfile ""
pidfile ""
unixsocket ""
requirepass ""
"""

_running: "WeakSet[RealServer]" = WeakSet()


def find(program: str) -> Path:
    """Path of `redis-server`, `redis-benchmark` or `redis-cli` on PATH; ScenarioError with the cure if it is missing."""
    found = shutil.which(program)
    if found is None:
        package = PROGRAMS.get(program, program)
        raise ScenarioError(
            f"{program} is not on PATH: install Redis (Debian, Ubuntu: `apt install {package}`) or add its folder to PATH"
        )
    return Path(found)


def cpu_number(cpu: int) -> int:
    """The number of the `cpu`-th CPU this process may use, counted from 0 and round again where there are fewer."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[cpu % len(allowed)]


def cpu_count() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Sample:
    """Counters of a server at one instant; subtract two. -1 stands for what cannot be seen from here.

    `at_ns` CLOCK_MONOTONIC; `cpu_ns` of the main thread (schedstat, or INFO's used_cpu_*_main_thread for a server elsewhere);
    `commands`, `reads`, `writes`, `net_in_bytes`, `net_out_bytes` from INFO stats; `sleeps` voluntary context switches of the
    main thread; `usec` calls and µs per command, upper-case names; `steal_ns` of the whole machine, /proc/stat; `queued_ns` how
    long the main thread was ready and had no CPU.
    """

    at_ns: int
    cpu_ns: int
    commands: int
    reads: int
    writes: int
    sleeps: int
    net_in_bytes: int
    net_out_bytes: int
    usec: dict[str, tuple[int, int]] = field(repr=False)
    steal_ns: int
    queued_ns: int = -1
    number: int = 0  # of the server's samples so far, this one included
    stats: dict[str, int] = field(default_factory=dict, repr=False)  # by STATS, 0 where the server has no such field

    def __sub__(self, earlier: "Sample") -> "Sample":
        """What happened from `earlier` to here, without the samples' own INFO calls (their bytes and CPU stay in)."""
        samples = self.number - earlier.number
        usec: dict[str, tuple[int, int]] = {}
        for name, (calls, us) in self.usec.items():
            before = earlier.usec.get(name, (0, 0))
            own = samples * SAMPLE_COMMANDS if name == "INFO" else 0
            if calls - before[0] - own > 0:
                usec[name] = (calls - before[0] - own, us - before[1])

        def less(name: str, own: int = 0) -> int:
            mine, before = getattr(self, name), getattr(earlier, name)
            return -1 if mine < 0 or before < 0 else mine - before - own

        return Sample(
            at_ns=self.at_ns - earlier.at_ns, cpu_ns=less("cpu_ns"), commands=less("commands", samples * SAMPLE_COMMANDS),
            reads=less("reads", samples), writes=less("writes", samples), sleeps=less("sleeps"),
            net_in_bytes=less("net_in_bytes"), net_out_bytes=less("net_out_bytes"), usec=usec,
            steal_ns=less("steal_ns"), queued_ns=less("queued_ns"), number=samples,
            stats={name: count - earlier.stats.get(name, 0) for name, count in self.stats.items()},
        )  # fmt: skip

    @property
    def seconds(self) -> float:
        """Of a difference: how long it was."""
        return self.at_ns / S


class RealServer:
    """A live server: `port`, `pid` (None if not on this machine), `redis` (a redis-py client, text replies), `version`.

    A context manager; one that start() made is stopped at its end, one from attach() is only let go of.
    """

    def __init__(
        self, client: "redis.Redis", host: str, port: int, *, process: "subprocess.Popen[bytes] | None" = None,
        folder: "tempfile.TemporaryDirectory[str] | None" = None,
    ) -> None:  # fmt: skip
        self.redis = client
        self.host, self.port = host, port
        self._process, self._folder = process, folder
        self._samples = 0
        info: dict[str, Any] = client.info("server")
        self.version = str(info.get("redis_version", "?"))
        self.pid: int | None = process.pid if process is not None else _local_pid(host, int(info.get("process_id", 0)))
        if process is not None:
            _running.add(self)

    def __enter__(self) -> "RealServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_own(self) -> bool:
        """Started by start(), and so ours to fill and to stop."""
        return self._process is not None

    def sample(self) -> Sample:
        """The counters now: three INFO calls in one write. Of the CPU time it costs, most is before `cpu_ns` is read."""
        pipe = self.redis.pipeline(transaction=False)
        for section in ("cpu", "stats", "commandstats"):
            pipe.info(section)
        cpu, stats, commandstats = pipe.execute()
        self._samples += 1
        if self.pid is not None:
            cpu_ns, queued_ns, sleeps = main_thread(self.pid)
        else:
            parts = [cpu.get(f"used_cpu_{what}_main_thread", -1) for what in ("user", "sys")]
            cpu_ns, sleeps = (-1 if min(parts) < 0 else round(sum(parts) * S)), -1
            queued_ns = -1
        usec = {
            name.removeprefix("cmdstat_").upper(): (int(row["calls"]), int(row["usec"])) for name, row in commandstats.items()
        }
        return Sample(
            at_ns=time.monotonic_ns(), cpu_ns=cpu_ns, commands=int(stats["total_commands_processed"]),
            reads=int(stats.get("total_reads_processed", -1)), writes=int(stats.get("total_writes_processed", -1)), sleeps=sleeps,
            net_in_bytes=int(stats["total_net_input_bytes"]), net_out_bytes=int(stats["total_net_output_bytes"]),
            usec=usec, steal_ns=steal_ns(), queued_ns=queued_ns, number=self._samples,
            stats={name: int(stats.get(name, 0)) for name in STATS},
        )  # fmt: skip

    def stop(self) -> None:
        """SHUTDOWN NOSAVE, then SIGTERM, then SIGKILL, each given a little time; folder removed. Nothing for attach()."""
        process, self._process = self._process, None
        if process is not None:
            _stop(process, self.redis)
        _running.discard(self)
        self.redis.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def start(conf: str = "", *, cpu: int | None = 0, folder: Path | None = None, timeout_s: float = 10) -> RealServer:
    """A redis-server of our own on loopback, pinned to the `cpu`-th CPU (None: wherever Linux likes), ready to answer.

    `conf` is redis.conf text; `folder`: where it keeps its files (a temporary one if None). ScenarioError if there is no
    redis-server, or with what it logged if it does not come up within `timeout_s`.
    """
    program = find("redis-server")
    for attempt in range(STARTS_MAX):
        own = None if folder is not None else tempfile.TemporaryDirectory(prefix="redsim-")
        place = folder if folder is not None else Path(own.name if own else ".")
        port = free_port()
        said = place / "redis.log"
        with said.open("wb") as log:
            process = _spawn([str(program), "-"], BEFORE + conf + AFTER.format(port=port, folder=place), cpu, log)
        try:
            return RealServer(_connect(process, port, timeout_s), "127.0.0.1", port, process=process, folder=own)
        except ScenarioError:
            raise_it = attempt == STARTS_MAX - 1 or b"ddress already in use" not in said.read_bytes()
            if raise_it:
                raise ScenarioError(f"redis-server did not start: {_last_words(said, place)}") from None
        finally:
            if not any(server.pid == process.pid for server in _running):
                _stop(process, None)
                if own is not None:
                    own.cleanup()
    raise AssertionError("the loop above returns or raises")


def attach(url: str) -> RealServer:
    """A server that runs already, by redis-py's URL (`redis://user:secret@host:6379/0`, `rediss://`, `unix://`).

    ScenarioError, without the URL's secrets, if it does not answer. Its `pid` is known only on this machine.
    """
    module = _redis_module()
    try:
        parts = urlsplit(url)
        client = module.Redis.from_url(
            url, decode_responses=True, encoding_errors="surrogateescape", socket_timeout=30, socket_connect_timeout=5
        )
    except ValueError:
        raise ScenarioError("the URL is not one redis-py understands; write it like redis://127.0.0.1:6379/0") from None
    host, port = parts.hostname or "127.0.0.1", parts.port or 6379
    try:
        return RealServer(client, host if parts.scheme != "unix" else "127.0.0.1", port)
    except module.AuthenticationError:
        raise ScenarioError(f"the server at {host}:{port} refused the user or password; correct them in the URL") from None
    except module.RedisError as error:
        hint = "is it running, and may this machine reach it?"
        raise ScenarioError(f"no Redis answers at {host}:{port} ({type(error).__name__}); {hint}") from None


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main_thread(pid: int) -> tuple[int, int, int]:
    """CPU ns, ns queued for a CPU and voluntary context switches of a process's main thread; -1 where /proc does not say.

    Linux adds the CPU time of a running thread at its ticks and switches: exact for a thread that sleeps.
    """
    task = Path(f"/proc/{pid}/task/{pid}")
    try:
        cpu_ns, queued_ns = (int(word) for word in (task / "schedstat").read_text().split()[:2])
        rows = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines() if ":" in line)
        return cpu_ns, queued_ns, int(rows["voluntary_ctxt_switches"])
    except (OSError, KeyError, ValueError):
        return -1, -1, -1


def steal_ns() -> int:
    """CPU time the hypervisor kept from this machine since it started, all CPUs; -1 where /proc does not say."""
    try:
        ticks = int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8])
    except (OSError, IndexError, ValueError):
        return -1
    return ticks * S // os.sysconf("SC_CLK_TCK")


# ---- starting and stopping -----------------------------------------------------------------------------------------


def _redis_module() -> Any:
    try:
        import redis
        import redis.backoff
        import redis.retry
    except ImportError:
        raise ScenarioError("redis-py is not installed; `pip install redsim-des[lab]`") from None
    return redis


def die_with_parent() -> None:
    """In the child: SIGKILL when the thread that started it is gone, also by a signal that leaves it no time to clean up."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _spawn(command: list[str], conf: str, cpu: int | None, log: Any) -> "subprocess.Popen[bytes]":
    """Start with the conf on its standard input; the child takes over this thread's CPU mask, so that is set for a moment."""
    before = os.sched_getaffinity(0)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu_number(cpu)})
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, preexec_fn=die_with_parent
        )
    finally:
        os.sched_setaffinity(0, before)
    assert process.stdin is not None
    process.stdin.write(conf.encode())
    process.stdin.close()
    return process


def _connect(process: "subprocess.Popen[bytes]", port: int, timeout_s: float) -> "redis.Redis":
    module = _redis_module()
    client = module.Redis(
        host="127.0.0.1", port=port, decode_responses=True, encoding_errors="surrogateescape", socket_timeout=120,
        retry=module.retry.Retry(module.backoff.NoBackoff(), 0),
    )  # fmt: skip
    until = time.monotonic() + timeout_s
    while time.monotonic() < until and process.poll() is None:
        try:
            info = client.info("server")
            if int(info["process_id"]) == process.pid:
                return client
        except module.RedisError:  # not up yet, or still loading its file
            time.sleep(0.02)
    client.close()
    raise ScenarioError("redis-server did not start")


def _last_words(said: Path, place: Path) -> str:
    lines = [line.strip() for line in said.read_text(errors="replace").splitlines() if line.strip()]
    return "; ".join(lines[-4:]).replace(str(place), "<its folder>")[:600] if lines else "it said nothing in the time given"


def _stop(process: "subprocess.Popen[bytes]", client: "redis.Redis | None") -> None:
    if client is not None and process.poll() is None:
        module = _redis_module()
        try:
            client.connection_pool.disconnect()
            client.connection_pool.connection_kwargs["socket_timeout"] = 2
            client.shutdown(nosave=True)
        except module.RedisError:
            process.terminate()  # it does not listen; the signals below do the same
    for end in (None, process.terminate, process.kill):
        if end is not None and process.poll() is None:
            end()
        try:
            process.wait(timeout=3)
            return
        except subprocess.TimeoutExpired:
            continue


def _local_pid(host: str, pid: int) -> int | None:
    """`pid` if that is a Redis on this machine, by the host's name and what /proc calls the process."""
    if host not in ("127.0.0.1", "localhost", "::1") or pid <= 0:
        return None
    try:
        name = Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return None
    return pid if name.startswith(("redis", "valkey")) else None


@atexit.register
def _stop_all() -> None:
    for server in list(_running):
        server.stop()
