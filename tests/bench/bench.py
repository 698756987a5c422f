"""Speed, as ratios: redsim and the naive peer side by side in one process, taking turns.

    python -m tests.bench            the whole table, and one line appended to reports/bench.jsonl
    python -m tests.bench --quick    no cold compile, fewer repetitions; nothing appended

Both are timed in CPU seconds of this process (other load on the machine does not count), redsim with everything a run() does
but the compilation: set-up of the data set, 1 M keys each with a size and a last access, zipf 0.99 popularity, full
percentiles per group, command and window, blame, SLOWLOG, the frames of the Result; runs of some sixteen million commands, so
that what is the same whatever their length is a twentieth of it at most. Medians of repetitions. The ratio is requests per CPU
second over the peer's in the same round; `lean` is the ratio to a peer without a process per request. What runs from a shell
is timed by the wall.
The durable run has an AOF (everysec) and a BGSAVE every five seconds, so that a child lives and pages are copied during a good
part of it; the replicated one a replica besides, which executes each write once more. Five replicas have no bar.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from redsim.rng import generator
from redsim.run import engine
from redsim.run.rehearse import Cached, rehearsal
from redsim.scenario.load import Scenario
from redsim.workload.access_trace import AccessTrace
from tests.bench import peer

ROOT = Path(__file__).resolve().parents[2]
CONNECTIONS = 50
BARS = {"closed": 100.0, "open": 50.0, "durable": 30.0, "replicated": 30.0, "five": None}  # ratio to the peer
SHELL_BAR_S, SETUP_BAR_S = 5.0, 1.0
SCENARIO = """\
question: How fast is redsim itself?
duration: {seconds}s
seed: {seed}
hosts: {{box: {{profile: default}}{hosts}}}
nodes: {{main: {{host: box, conf: {conf}}}{more}}}
datasets: {{users: {{node: main, keys: {keys}, value_bytes: 100}}}}
clients:
  api:
    node: main
    connections: {connections}
    arrivals: {arrivals}
    commands: {{GET: 0.9, SET: 0.1}}
    keys: {{dataset: users, popularity: {{zipf: 0.99}}}}
"""
PLAIN = "'save \"\"'"
DURABLE = '"save \\"\\"\\nappendonly yes\\nappendfsync everysec\\nauto-aof-rewrite-percentage 0"'
SAVES = "timeline: [{{at: 1s, run: BGSAVE, node: main, every: 5s, times: {times}}}]\n"


@dataclass
class Pair:
    """Requests per CPU second of both sides, round by round."""

    name: str
    redsim: list[float] = field(default_factory=list)
    naive: list[float] = field(default_factory=list)
    lean: list[float] = field(default_factory=list)
    digest: str = ""

    def ratio(self) -> float:
        """Median over the rounds of redsim / peer."""
        return statistics.median(a / b for a, b in zip(self.redsim, self.naive, strict=True))

    def lean_ratio(self) -> float:
        """The same against the peer without a process per request."""
        return statistics.median(a / b for a, b in zip(self.redsim, self.lean, strict=True))


def scenario(
    arrivals: str, seconds: float, *, keys: int = 1_000_000, seed: int = 1, durable: bool = False, replicas: int = 0
) -> Scenario:
    """The benchmark's scenario with these arrivals (YAML in one line); `durable`: with an AOF and BGSAVEs; `replicas`: so many,
    each on a host of its own."""
    more = "".join(f", r{i}: {{host: h{i}, replica_of: main, conf: {PLAIN}}}" for i in range(replicas))
    hosts = "".join(f", h{i}: {{profile: default}}" for i in range(replicas))
    numbers = {"seconds": seconds, "seed": seed, "keys": keys, "connections": CONNECTIONS, "more": more, "hosts": hosts}
    text = SCENARIO.format(**numbers, arrivals=arrivals, conf=DURABLE if durable else PLAIN)
    return Scenario.from_text(text + SAVES.format(times=max(int(seconds) // 5, 1)) if durable else text)


def cpu_s(what: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of `what()` and what it returned."""
    begun = time.process_time()
    result = what()
    return time.process_time() - begun, result


def _redsim_rate(pair: Pair, loaded: Scenario) -> None:
    seconds, result = cpu_s(lambda: engine.run(loaded))
    pair.redsim.append(result.summary["commands"] / seconds)
    pair.digest = result.summary["digest"]


def compare(rounds: int = 5, *, requests: int = 40_000, seconds: float = 160.0) -> list[Pair]:
    """Closed loop, open loop, closed loop with an AOF and BGSAVEs, side by side.

    `requests` for the peer, `seconds` of simulated time for redsim.
    """
    warm = engine.run(scenario("{closed: {}}", 1))
    rate = round(warm.summary["clients"]["api"]["throughput_per_s"] / 4)
    closed, opened = Pair("closed loop, 50 connections"), Pair(f"open loop, {rate}/s (a quarter of capacity)")
    closed_scenario = scenario("{closed: {}}", seconds)
    others = [
        (Pair("closed loop, AOF everysec and BGSAVEs"), scenario("{closed: {}}", seconds, durable=True)),
        (Pair("the same with a replica"), scenario("{closed: {}}", seconds / 4, durable=True, replicas=1)),
        (Pair("closed loop, five replicas"), scenario("{closed: {}}", seconds / 8, replicas=5)),
    ]
    open_scenario = scenario(f"{{open: {{rate_per_s: {rate}}}}}", 4 * seconds)
    for turn in range(rounds):
        closed.naive.append(requests / cpu_s(lambda turn=turn: peer.closed_loop(requests, CONNECTIONS, turn))[0])
        _redsim_rate(closed, closed_scenario)
        closed.lean.append(requests / cpu_s(lambda turn=turn: peer.closed_loop(requests, CONNECTIONS, turn, lean=True))[0])
        opened.naive.append(requests / cpu_s(lambda turn=turn: peer.open_loop(requests, rate, turn))[0])
        _redsim_rate(opened, open_scenario)
        opened.lean.append(opened.naive[-1])
        for pair, loaded in others:
            _redsim_rate(pair, loaded)
            pair.naive.append(closed.naive[-1])
            pair.lean.append(closed.lean[-1])
    return [closed, opened, *(pair for pair, _ in others)]


_SETUP = """
import sys, time, tracemalloc
from tests.bench.bench import scenario
from redsim.run import build
loaded = scenario("{open: {rate_per_s: 20000}}", 1, keys=int(sys.argv[1]))
build.build(scenario("{open: {rate_per_s: 20000}}", 1, keys=1))
begun = time.process_time()
build.build(loaded)
taken = time.process_time() - begun
tracemalloc.start()
build.build(loaded)
print(taken, tracemalloc.get_traced_memory()[1] / 2**20)
"""


def _child(arguments: list[str], **environment: str) -> tuple[float, str]:
    begun = time.perf_counter()
    env = {**os.environ, **environment}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return time.perf_counter() - begun, done.stdout


def setup_cost(keys: int) -> tuple[float, float]:
    """CPU seconds and MiB of peak memory that setting up `keys` keys takes, in a fresh process."""
    seconds, mib = _child(["-c", _SETUP, str(keys)])[1].split()
    return float(seconds), float(mib)


def shell_s(rate_per_s: int = 50_000, seconds: int = 60, **environment: str) -> float:
    """Wall seconds of `redsim run` from shell to finished report."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.yaml"
        path.write_text(scenario(f"{{open: {{rate_per_s: {rate_per_s}}}}}", seconds).text, encoding="utf-8")
        return _child(["-m", "redsim", "run", str(path), "--out", str(Path(folder) / "out"), "--quiet"], **environment)[0]


def cold_s() -> float:
    """Wall seconds of a one-second `redsim run` with nothing compiled before."""
    with tempfile.TemporaryDirectory() as folder:
        return shell_s(1000, 1, NUMBA_CACHE_DIR=folder)


REHEARSED_KEYS, REHEARSED_CAPACITY, REHEARSAL_BAR_PER_S = 1_000_000, 100_000, 5_000_000


def rehearsal_rates(rounds: int, accesses: int = 3_000_000) -> dict[str, Pair]:
    """Accesses per CPU second of each policy's rehearsal, zipf 0.99 over REHEARSED_KEYS, beside an OrderedDict's exact LRU."""
    weights = np.arange(1, REHEARSED_KEYS + 1) ** -0.99
    keys = generator(1, "bench", "trace").choice(REHEARSED_KEYS, size=accesses, p=weights / weights.sum())
    codes, distinct = pd.factorize(keys)
    trace, listed = AccessTrace(name="zipf", keys=codes.astype(np.int32), distinct=len(distinct)), keys.tolist()
    cached = Cached(capacity_keys=REHEARSED_CAPACITY, rate_per_s=50_000)
    pairs: dict[str, Pair] = {}
    for _ in range(rounds):
        naive = accesses / cpu_s(lambda: peer.lru_hits(listed, REHEARSED_CAPACITY))[0]
        for row in rehearsal(trace, cached, policies=["all"]).rows.itertuples():
            pair = pairs.setdefault(str(row.policy), Pair(str(row.policy)))
            pair.redsim.append(float(row.accesses_per_cpu_s))
            pair.naive.append(naive)
    return pairs


def rehearsal_table(pairs: dict[str, Pair]) -> list[str]:
    """The same for people."""
    lines = [f"rehearsal, {REHEARSED_CAPACITY:,} of {REHEARSED_KEYS:,} keys, M accesses/s (bar {REHEARSAL_BAR_PER_S // 10**6})"]
    for name, pair in pairs.items():
        mine, theirs = (statistics.median(side) / 1e6 for side in (pair.redsim, pair.naive))
        lines.append(f"{name:44}{mine:>12.1f}{theirs:>10.1f}{pair.ratio():>8.1f}")
    return lines


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def table(pairs: list[Pair], shell: float, setups: dict[int, tuple[float, float]], cold: float | None) -> list[str]:
    """The result for people."""
    lines = [f"{'':44}{'redsim':>12}{'peer':>10}{'ratio':>8}{'bar':>6}{'lean':>7}"]
    for pair, bar in zip(pairs, BARS.values(), strict=True):
        mine, theirs = statistics.median(pair.redsim), statistics.median(pair.naive)
        asked = "–" if bar is None else f"{bar:.0f}"
        lines.append(f"{pair.name:44}{mine:>10,.0f}/s{theirs:>8,.0f}/s{pair.ratio():>8.1f}{asked:>6}{pair.lean_ratio():>7.1f}")
    lines += [f"set-up of {keys:>10,} keys: {s:.3f} s CPU (bar {SETUP_BAR_S:.0f} s at 10 M), {mib:.0f} MiB at the peak"
              for keys, (s, mib) in setups.items()]  # fmt: skip
    lines.append(f"redsim run, 60 s at 50,000/s, shell to report: {shell:.2f} s (bar {SHELL_BAR_S:.0f} s)")
    if cold is not None:
        lines.append(f"the first run ever, everything to be compiled: {cold:.1f} s")
    return lines


def main(arguments: list[str]) -> None:
    """Print the table; append a line of reports/bench.jsonl unless --quick."""
    quick = "--quick" in arguments
    pairs = compare(3 if quick else 7)
    shell_s(1000, 1)  # what a shell run compiles is compiled before it is timed
    shell = statistics.median(shell_s() for _ in range(1 if quick else 3))
    setups = {keys: setup_cost(keys) for keys in (1_000_000, 10_000_000)}
    cold = None if quick else cold_s()
    rehearsed = rehearsal_rates(3 if quick else 5)
    print("\n".join([*table(pairs, shell, setups, cold), *rehearsal_table(rehearsed)]))
    if quick:
        return
    row = {
        "commit": _commit(),
        **{f"{name}_ratio": round(pair.ratio(), 1) for name, pair in zip(BARS, pairs, strict=True)},
        **{f"{name}_per_cpu_s": round(statistics.median(pair.redsim)) for name, pair in zip(BARS, pairs, strict=True)},
        **{f"{name}_digest": pair.digest for name, pair in zip(BARS, pairs, strict=True)},
        "shell_s": round(shell, 2), "setup_10m_s": round(setups[10_000_000][0], 3),
        "setup_10m_mib": round(setups[10_000_000][1]), "cold_s": round(cold or 0, 1),
        "rehearsed_per_cpu_s": {name: round(statistics.median(pair.redsim)) for name, pair in rehearsed.items()},
    }  # fmt: skip
    path = ROOT / "reports" / "bench.jsonl"
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as out:
        out.write(json.dumps(row) + "\n")
