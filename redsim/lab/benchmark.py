"""redis-benchmark, run and read: the load everybody knows, with its own client's costs and its own clock.

Its latency of a pipeline runs from its write to its first read; its rps counts the whole run, connecting included. What it asks
of the server beside its load: two CONFIG GET at the start.
Not modelled: its idle and cluster modes; TLS.
"""

import csv
import io
import os
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace

from redsim.lab.rig import cpu_number, find
from redsim.scenario.errors import ScenarioError

PILOT_S = 0.2  # of a timed run, to learn how many requests it takes
PILOT_REQUESTS = 2_000
REQUESTS_MAX = 100_000_000
COLUMNS = {  # of its CSV -> our field
    "rps": "per_s", "avg_latency_ms": "avg_ms", "min_latency_ms": "min_ms", "p50_latency_ms": "p50_ms",
    "p95_latency_ms": "p95_ms", "p99_latency_ms": "p99_ms", "max_latency_ms": "max_ms",
}  # fmt: skip


@dataclass(frozen=True)
class Benchmark:
    """One row of redis-benchmark's CSV: `test` as it calls it, requests per second, latencies in ms (3 digits)."""

    test: str
    per_s: float
    avg_ms: float
    min_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    requests: int


def redis_benchmark(
    port: int, *, test: str = "", command: Sequence[str] = (), clients: int = 50, pipeline: int = 1, payload_bytes: int = 3,
    requests: int | None = None, seconds: float | None = None, keyspace: int | None = None, threads: int | None = None,
    cpu: int | None = 1, host: str = "127.0.0.1", timeout_s: float = 120,
) -> Benchmark:  # fmt: skip
    """One test (`-t`, e.g. "set", "get", "lrange_100") or one command of your own (`__rand_int__` in it with `keyspace`).

    `requests`, or about `seconds` (a short pilot finds how many that takes); `cpu` None: not pinned. With a test of several rows
    (its preparations), the last one. ScenarioError if it is missing, fails, prints an error, or outlasts `timeout_s`.
    """
    if (requests is None) == (seconds is None):
        raise ScenarioError("redis-benchmark: give either requests or seconds")
    line, what = _line(port, host, test, command, clients, pipeline, payload_bytes, keyspace, threads)
    if requests is None:
        requests = _requests_for(line, what, seconds or 1.0, clients * pipeline, cpu, timeout_s)
    return _run(line, what, requests, cpu, timeout_s)


def requests_for(
    port: int, *, seconds: float, test: str = "", command: Sequence[str] = (), clients: int = 50, pipeline: int = 1,
    payload_bytes: int = 3, keyspace: int | None = None, threads: int | None = None, cpu: int | None = 1, host: str = "127.0.0.1",
    timeout_s: float = 120,
) -> int:  # fmt: skip
    """How many requests redis_benchmark() with these options gets answered in about so many seconds, by short pilots."""
    line, what = _line(port, host, test, command, clients, pipeline, payload_bytes, keyspace, threads)
    return _requests_for(line, what, seconds, clients * pipeline, cpu, timeout_s)


def _line(
    port: int, host: str, test: str, command: Sequence[str], clients: int, pipeline: int, payload_bytes: int,
    keyspace: int | None, threads: int | None,
) -> tuple[list[str], list[str]]:  # fmt: skip
    """The command line up to the number of requests, and what comes behind it; a look whether the server is there."""
    if bool(test) == bool(command):
        raise ScenarioError("redis-benchmark: give either a test or a command")
    try:
        socket.create_connection((host, port), timeout=5).close()  # redis-benchmark itself would wait for ever
    except OSError as error:
        raise ScenarioError(f"redis-benchmark: no server at {host}:{port} ({error.strerror or error}); start one") from None
    line = [str(find("redis-benchmark")), "-h", host, "-p", str(port), "-c", str(clients), "-P", str(pipeline)]
    line += ["-d", str(payload_bytes), "--csv", "--precision", "3"]
    line += ["-r", str(keyspace)] if keyspace else []
    line += ["--threads", str(threads)] if threads and threads > 1 else []
    return line, ["-t", test] if test else list(command)


def parse_csv(text: str) -> list[Benchmark]:
    """The rows of `redis-benchmark --csv` 7.0; ScenarioError for anything else."""
    rows = list(csv.DictReader(io.StringIO(text)))
    if rows and set(COLUMNS) - set(rows[0]):
        missing = ", ".join(sorted(set(COLUMNS) - set(rows[0])))
        raise ScenarioError(f"redis-benchmark's CSV has no {missing}; use redis-benchmark 6.2 or later")
    try:
        return [
            Benchmark(test=row["test"], requests=0, **{ours: float(row[theirs]) for theirs, ours in COLUMNS.items()})
            for row in rows
        ]
    except (TypeError, ValueError, KeyError):
        raise ScenarioError(f"redis-benchmark's CSV could not be read: {text[:200]!r}") from None


def _requests_for(line: list[str], what: list[str], seconds: float, at_once: int, cpu: int | None, timeout_s: float) -> int:
    """How many requests take about `seconds`: pilots, ten times longer each, until one shows."""
    count = max(PILOT_REQUESTS, 10 * at_once)
    while True:
        per_s = _run(line, what, count, cpu, timeout_s).per_s
        if count / per_s >= min(PILOT_S, seconds) or count >= REQUESTS_MAX:
            return min(max(round(per_s * seconds / at_once), 1) * at_once, REQUESTS_MAX)  # whole pipelines for each client
        count = min(round(per_s * PILOT_S * 1.5), REQUESTS_MAX)


def _run(line: list[str], what: list[str], requests: int, cpu: int | None, timeout_s: float) -> Benchmark:
    """Start it with this thread's CPU mask narrowed for a moment, which it takes over."""
    before = os.sched_getaffinity(0)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu_number(cpu)})
    try:
        process = subprocess.Popen(
            [*line, "-n", str(requests), *what],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
    finally:
        os.sched_setaffinity(0, before)
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise ScenarioError(f"redis-benchmark was not done within {timeout_s:g} s; ask for fewer requests") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    rows = parse_csv(out)
    said = " ".join(part.strip() for part in err.splitlines() if part.strip() and not part.startswith("WARNING"))
    if process.returncode != 0 or not rows or "rror" in said:
        raise ScenarioError(f"redis-benchmark {' '.join(what)} failed: {(said or out or 'it said nothing')[:300]}")
    return replace(rows[-1], requests=requests)
