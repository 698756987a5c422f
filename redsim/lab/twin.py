"""real_run(scenario): any scenario of one node played against a real server, and what it left.

    start the server with the scenario's conf → fill it → TTLs → sample → all groups and the timeline → sample → read SLOWLOG

One load generator plays all groups and sends the timeline's commands over connections of their own; a group whose station is
redis-benchmark is that program. The server has the first CPU, the clients the second.
Not modelled: what one machine cannot be made to be (a round trip, a bandwidth, hiccups of one's choice); each is refused by name.
"""

import contextlib
import shlex
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from redsim.lab.benchmark import Benchmark, redis_benchmark, requests_for
from redsim.lab.durability_twin import FilesSeen, FilesWatch, hogs
from redsim.lab.load_plan import GroupLoad, LoadPlan, merge, plan
from redsim.lab.loadgen import Load, compile_loop, play_plan
from redsim.lab.memory_twin import ExpiryWatch, MemorySeen, empty_bytes, look, set_ttls
from redsim.lab.replayed import Replay, replays
from redsim.lab.requests import LUA
from redsim.lab.resp import Word, encode_all
from redsim.lab.rig import RealServer, Sample, start
from redsim.lab.shapes import Shape, fill, shapes
from redsim.lab.twin_refused import conf_text, refuse
from redsim.lab.twin_result import (
    Measured,
    NodeMeasured,
    RealRun,
    RealStall,
    drained_after_ms,
    group_measured,
    node_measured,
    outstanding,
)
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.scenario.schema import TimelineEntry
from redsim.units import MS, US, S
from redsim.workload.tables import mean

__all__ = ["CLI", "Measured", "NodeMeasured", "RealRun", "RealStall", "load_dataset", "lua_per_ms", "real_run"]

CLI = "redis-cli"  # the timeline's group
LUA_READINGS = 5
LUA_PROBE_MS = 20
HEAD_START_S = 0.3  # to connect all clients before keys are due
Say = Callable[[str], None]


def real_run(
    scenario: Scenario,
    *,
    server: RealServer | None = None,
    spin: bool = True,
    say: Say = lambda what: None,
    grace_s: float = 5.0,
    looks_at_memory: bool = False,
    looks_at_files: bool = False,
    on_start: Callable[[int], None] = lambda base_ns: None,
) -> RealRun:
    """Play the scenario against a server of our own (or `server`, empty, already configured as it should be).

    `looks_at_memory`: the data set's bytes and some of its keys are measured before anything is played; `looks_at_files`: what
    INFO persistence says, before and after, and children meanwhile; `on_start` is called with the CLOCK_MONOTONIC ns at which the
    play begins.
    Takes the scenario's duration and the time to fill the server. ScenarioError for what a real run cannot do, naming it.
    """
    refuse(scenario)
    with contextlib.ExitStack() as stack:
        live = stack.enter_context(start(conf_text(scenario))) if server is None else server
        if live.redis.dbsize():
            raise ScenarioError("the server holds keys already; give real_run an empty one")
        return _Twin(scenario, live, spin, grace_s, say, looks_at_memory, looks_at_files, on_start).run()


def load_dataset(server: RealServer, scenario: Scenario) -> dict[str, Shape]:
    """Fill the server with all data sets of the scenario, those its MONITOR captures imply included; their shapes by name."""
    known = _all_shapes(scenario, replays(scenario))
    _fill_all(server, known, lambda what: None)
    return known


def lua_per_ms(server: RealServer) -> float:
    """Turns of the counting loop that EVAL does in a millisecond there: the fastest of a few readings, by commandstats."""
    turns, best = 20_000, 0.0
    for _ in range(LUA_READINGS):
        before = server.sample()
        server.redis.eval(LUA, 0, str(turns))
        usec = max((server.sample() - before).usec["EVAL"][1], 1)
        best = max(best, turns / usec * 1000)
        turns = round(best * LUA_PROBE_MS)
    return best


def _all_shapes(scenario: Scenario, played: dict[str, Replay]) -> dict[str, Shape]:
    known = shapes(scenario)
    for replay in played.values():
        known |= replay.all_shapes
    return known


def _fill_all(server: RealServer, known: dict[str, Shape], say: Say) -> None:
    for shape in known.values():
        say(f"filling {shape.name}: {shape.data.keys:,} keys")
        fill(server, shape)


# ---- the run -------------------------------------------------------------------------------------------------------


@dataclass
class _Sent:
    """A timeline entry once more, at one of its times."""

    entry: TimelineEntry
    at_ns: int
    words: list[Word]


@dataclass
class _Twin:
    """One real run; run() is the only entry."""

    scenario: Scenario
    server: RealServer
    spin: bool
    grace_s: float
    say: Say
    looks_at_memory: bool = False
    looks_at_files: bool = False
    on_start: Callable[[int], None] = lambda base_ns: None
    shapes: dict[str, Shape] = field(default_factory=dict)
    sent: list[_Sent] = field(default_factory=list)
    benchmarks: dict[str, Benchmark] = field(default_factory=dict)
    expires: list[tuple[int, int]] = field(default_factory=list)
    files: FilesSeen | None = None

    def run(self) -> RealRun:
        file, redis = self.scenario.file, self.server.redis
        compile_loop()
        played = replays(self.scenario)
        self.shapes = _all_shapes(self.scenario, played)
        memory, start_ns = self._fill()
        lua = lua_per_ms(self.server) if self._needs_lua() else 0.0
        plans = [self._plan(name, played, lua) for name, group in file.clients.items() if group.station.kind != "redis-benchmark"]
        self.sent = self._timeline(lua)
        if self.sent:
            plans.append(_timeline_plan(self.sent, file.duration))
        redis.slowlog_reset()
        counts = {name: self._benchmark_requests(name) for name, g in file.clients.items() if g.station.kind == "redis-benchmark"}
        self.say("playing")
        load, happened = self._play(plans, counts, start_ns)
        groups = {name: self._measured(name, load) for name in file.clients}
        rows = redis.slowlog_get(1000)
        slowlog = [{"id": row["id"], "duration_us": int(row["duration"]), "args": _text(row["command"])} for row in rows]
        seconds = file.duration / S
        if load is None and self.benchmarks:
            seconds = max(found.requests / found.per_s for found in self.benchmarks.values())
        node = node_measured(self.server.version, happened, seconds, redis.dbsize())
        if memory is not None:
            memory = replace(memory, expires=self.expires)
        return RealRun(groups, node, self._stalls(load, slowlog, node), slowlog, load, memory, self.files)

    def _fill(self) -> tuple[MemorySeen | None, int]:
        """(the filled server's memory, if it is looked at; when the run is to start, CLOCK_MONOTONIC ns, 0: at once)."""
        known = list(self.shapes.values())
        empty = empty_bytes(self.server, known) if self.looks_at_memory else 0
        _fill_all(self.server, self.shapes, self.say)
        volatile = [shape for shape in known if shape.data.ttl is not None]
        start_ns = set_ttls(self.server, volatile) if volatile else 0
        return look(self.server, known, empty) if self.looks_at_memory else None, start_ns

    def _needs_lua(self) -> bool:
        file = self.scenario.file
        entries = [entry for _, entry in file.commands_at if entry.run.upper().startswith("EVAL")]
        return bool(entries) or any(name.upper() == "EVAL" for group in file.clients.values() for name in group.commands)

    def _plan(self, name: str, played: dict[str, Replay], lua: float) -> LoadPlan:
        if name in played:
            return played[name].load_plan(self.scenario)
        return plan(self.scenario, name, shapes=self.shapes, lua_per_ms=lua)

    def _play(self, plans: list[LoadPlan], counts: dict[str, int], start_ns: int) -> tuple[Load | None, Sample]:
        """Generator and redis-benchmarks side by side, between two samples."""
        before: list[Sample] = []
        watch = ExpiryWatch(self.server) if start_ns else None
        files = FilesWatch(self.server) if self.looks_at_files else None
        hogging = contextlib.ExitStack()
        failed: list[BaseException] = []

        def one_benchmark(name: str) -> None:
            try:
                self.benchmarks[name] = self._benchmark(name, counts[name])
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=one_benchmark, args=(name,), daemon=True) for name in counts]

        def begin(base_ns: int) -> None:
            if self.looks_at_memory:
                self.server.redis.config_resetstat()  # the histograms of what was called to look
            before.append(self.server.sample())
            self.on_start(base_ns)
            if watch is not None:
                watch.start(base_ns)
            if files is not None:
                files.start(base_ns)
            hogging.enter_context(hogs(self.server, [fault for _, fault in self.scenario.file.faults], base_ns))
            for thread in threads:
                thread.start()

        time.sleep(max((start_ns - time.monotonic_ns()) / S - HEAD_START_S, 0))
        load = None
        if plans:
            load = play_plan(
                self.server.port, merge(plans), spin=self.spin, host=self.server.host, on_start=begin, grace_s=self.grace_s,
                not_before_ns=start_ns,
            )  # fmt: skip
        else:
            begin(max(time.monotonic_ns(), start_ns))
        for thread in threads:
            thread.join()
        after = self.server.sample()
        hogging.close()
        if files is not None:
            self.files = files.stop()
        if watch is not None:
            self.expires = watch.stop()
        if failed:
            raise failed[0]
        return load, after - before[0]

    # ---- redis-benchmark

    def _benchmark_options(self, name: str) -> dict[str, object]:
        group = self.scenario.file.clients[name]
        command, use = next(iter(group.commands.items()))
        words = [command.upper()]
        options: dict[str, object] = {"clients": group.connections, "pipeline": group.pipeline, "threads": group.station.threads}
        if group.keys is not None:
            shape = self.shapes[group.keys.dataset]
            words.append(shape.prefix.decode() + "__rand_int__")
            options["keyspace"] = shape.data.keys
            if command.upper() == "SET":
                words.append("x" * mean(use.value_bytes or group.value_bytes or shape.data.value_bytes))
        return {**options, "command": words}

    def _benchmark_requests(self, name: str) -> int:
        """As many as it answers in the scenario's duration; finding out is its warm-up."""
        group = self.scenario.file.clients[name]
        seconds = self.scenario.file.duration / S
        options = self._benchmark_options(name)
        return group.requests or requests_for(self.server.port, seconds=seconds, host=self.server.host, **options)  # type: ignore[arg-type]

    def _benchmark(self, name: str, requests: int) -> Benchmark:
        options = self._benchmark_options(name)
        limit = 4 * self.scenario.file.duration / S + 30
        return redis_benchmark(self.server.port, requests=requests, host=self.server.host, timeout_s=limit, **options)  # type: ignore[arg-type]

    def _measured(self, name: str, load: Load | None) -> Measured:
        group = self.scenario.file.clients[name]
        if name not in self.benchmarks:
            assert load is not None
            return group_measured(load, name, self.scenario.file)
        found = self.benchmarks[name]
        latency = {"mean": found.avg_ms, "p50": found.p50_ms, "p95": found.p95_ms, "p99": found.p99_ms, "max": found.max_ms}
        in_us = {key: round(1000 * value, 3) for key, value in latency.items()}
        command = next(iter(group.commands)).upper()
        return Measured(
            offered_per_s=found.per_s, throughput_per_s=found.per_s, offered=found.requests, completed=found.requests, failed=0,
            in_flight=0, errors={"timeout": 0, "connection": 0, "reply": 0}, retries=0, connections=group.connections,
            latency_us=in_us, by_command={command: {"count": found.requests, "latency_us": in_us}},
        )  # fmt: skip

    # ---- the timeline

    def _timeline(self, lua: float) -> list[_Sent]:
        out = []
        for _, entry in self.scenario.file.commands_at:
            words = self._timeline_words(entry, lua)
            for i in range(entry.times):
                at_ns = entry.at + i * (entry.every or 0)
                if at_ns < self.scenario.file.duration:
                    out.append(_Sent(entry, at_ns, words))
        return sorted(out, key=lambda sent: sent.at_ns)

    def _timeline_words(self, entry: TimelineEntry, lua: float) -> list[Word]:
        """`users:17` becomes that key's real name; an EVAL becomes a loop of the stated duration."""
        words: list[Word] = list(shlex.split(entry.run))
        if str(words[0]).upper() == "EVAL":
            return ["EVAL", LUA, 0, round((entry.duration or 0) / MS * lua)]
        out: list[Word] = [words[0]]
        for word in words[1:]:
            name, _, number = str(word).rpartition(":")
            out.append(self.shapes[name].key(int(number)) if name in self.shapes and number.isdigit() else word)
        return out

    def _stalls(self, load: Load | None, slowlog: list[dict[str, object]], node: NodeMeasured) -> list[RealStall]:
        if load is None or not self.sent:
            return []
        cli = load.of(CLI)
        others = load.only(load.group != load.groups.index(CLI))
        order = np.argsort(cli.intended_ns, kind="stable")
        left = list(reversed(slowlog))
        out = []
        for sent, r in zip(self.sent, order.tolist(), strict=True):
            if cli.done_ns[r] < 0:
                raise ScenarioError(
                    f"timeline: {sent.entry.run!r} had no answer by the end of the run; give the scenario more time"
                )
            client_us = float(cli.done_ns[r] - cli.sent_ns[r]) / US
            duration_us, source = _duration(sent, left, node, len([s for s in self.sent if s.words == sent.words]), client_us)
            end_ns = int(cli.sent_ns[r]) + round(duration_us * US)
            out.append(
                RealStall(
                    event=str(sent.words[0]).upper(), run=sent.entry.run, at_s=sent.at_ns / S, sent_s=int(cli.sent_ns[r]) / S,
                    client_us=client_us, duration_us=duration_us, duration_from=source, queue_at_end=outstanding(others, end_ns),
                    drained_after_ms=drained_after_ms(others, end_ns),
                )
            )  # fmt: skip
        return out


def _duration(sent: _Sent, left: list[dict[str, object]], node: NodeMeasured, times: int, client_us: float) -> tuple[float, str]:
    """How long the command held the loop, and who says so. Takes its entry out of `left` (SLOWLOG, oldest first)."""
    name = str(sent.words[0]).upper()
    said = " ".join(_text(word) for word in sent.words)
    for i, row in enumerate(left):
        if str(row["args"]).upper().startswith(name) and str(row["args"])[:40] == said[:40]:
            del left[i]
            return float(str(row["duration_us"])), "slowlog"
    row_of = node.commandstats.get(name)
    if row_of is not None and row_of["calls"] == times:
        return row_of["usec_per_call"], "commandstats"
    return client_us, "client"


def _text(word: object) -> str:
    return word.decode("utf-8", "surrogateescape") if isinstance(word, bytes) else str(word)


def _timeline_plan(sent: list[_Sent], stop_ns: int) -> LoadPlan:
    """Each entry over a connection of its own, at its time."""
    blob, off = encode_all([one.words for one in sent])
    names = [str(one.words[0]).upper() for one in sent]
    known = tuple(dict.fromkeys(names))
    each = np.arange(len(sent), dtype=np.int64)
    return LoadPlan(
        blob, off, np.array([known.index(name) for name in names], dtype=np.int64), known,
        np.array([one.at_ns for one in sent], dtype=np.int64), each, each, (GroupLoad(CLI, len(sent), stop_ns=stop_ns),),
        ((0, len(sent)),),
    )  # fmt: skip
