"""`redsim calibrate`: measure this machine and a real Redis on it, and write a host profile.

    host -> sockets -> wake -> hiccups | commands -> keys -> walk -> database -> server -> disk | points -> benchmark -> fits
    probes of the machine              | probes of redis-server                                 | small loads, solved with redsim

Each step leaves a JSON object; finished ones are kept beside the profile until it is written, so that Ctrl-C loses one step at
most and the next call goes on. A server of somebody else's (`--url`) is asked for its commands only, on keys of ours that are
deleted; what that leaves out is taken over from the profile `default`, and says so.
Not modelled: servers on other machines under load; TLS costs; I/O threads.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redsim.lab import cost_curves, costs, expiry_costs, fit_points, probe_pages, probe_server, probes, rig
from redsim.lab.calm import calmest
from redsim.lab.fit import BENCHMARK_POINTS, CROWD_POINTS, POINTS, as_rows
from redsim.lab.profile_out import machine_facts, profile_data, write_profile
from redsim.lab.solve import found_so_far, solve, solve_benchmark, solve_crowd
from redsim.lab.yardstick import OPEN_PER_S, Yardstick, middle
from redsim.rng import generator
from redsim.run.progress import share_bar
from redsim.scenario.errors import ScenarioError

Share = Callable[[float], None]
Progress = Callable[[str, float], None]  # what is being done, share of the whole 0..1
SCHEMA = 1
DEBUG_CONF = "enable-debug-command yes"
SEED = 1
DISTURBED = 0.15  # of a point's time: above it the summary warns


@dataclass(frozen=True)
class Size:
    """How much is measured. Seconds, repeats, calls, elements."""

    calls: int
    repeats: int
    elements_max: int
    turns: int  # echoes of each sleep
    spin_s: float  # looking for hiccups
    idle_s: float
    fork_mib: tuple[int, ...]
    save_keys: int
    fsyncs: int
    point_s: float
    point_repeats: int
    walks: int


QUICK = Size(4000, 3, 100_000, 100, 1.0, 0.5, (64, 192), 30_000, 100, 0.3, 3, 3)
FULL = Size(16_000, 5, 1_000_000, 400, 15.0, 2.0, (128, 512, 1024), 200_000, 1000, 0.8, 5, 10)
THEIRS_SMALLER = 10  # times: the big keys on a server that is not ours


@dataclass
class Lab:
    """What the steps share. `done`: results so far by step. The server is started when the first step asks for it."""

    size: Size
    folder: Path
    theirs: rig.RealServer | None = None
    done: dict[str, Any] = field(default_factory=dict)
    _own: rig.RealServer | None = None

    @property
    def server(self) -> rig.RealServer:
        """The server being measured."""
        if self.theirs is not None:
            return self.theirs
        if self._own is None:
            try:
                self._own = rig.start(DEBUG_CONF, folder=self.folder)
            except ScenarioError:
                self._own = rig.start(folder=self.folder)  # before 7.0 DEBUG needs no directive, and does not know it
        return self._own

    def bench(self) -> costs.Bench:
        """The same server, to have its commands measured."""
        elements = self.size.elements_max // (1 if self.theirs is None else THEIRS_SMALLER)
        return costs.Bench(self.server, self.theirs is None, self.size.calls, self.size.repeats, elements)

    def const_ns(self) -> dict[str, int]:
        """Constants of the commands, as measured."""
        laws = self.done["commands"]["laws"]
        return {name: law["const_ns"]["value"] for name, law in laws.items()}

    def stop(self) -> None:
        """Our server, if there is one, ends."""
        if self._own is not None:
            self._own.stop()
            self._own = None


# ---- the steps -----------------------------------------------------------------------------------------------------


def _host(lab: Lab, share: Share) -> dict[str, Any]:
    out = probes.syscall()
    share(0.2)
    out |= probes.memory(generator(SEED, "lab", "memory"))
    share(0.9)
    return out | probe_pages.copy_on_write() | probe_pages.huge_pages()


def _sockets(lab: Lab, share: Share) -> dict[str, Any]:
    return calmest(lambda: probes.sockets(10 * lab.size.turns))[0]


def _crowd(lab: Lab, share: Share) -> dict[str, Any]:
    return {"client_connections": probes.client_crowd(10 * lab.size.turns)}


def _wake(lab: Lab, share: Share) -> dict[str, Any]:
    return calmest(lambda: probes.wake_ups(lab.size.turns, lab.done["sockets"]))[0]


def _hiccups(lab: Lab, share: Share) -> dict[str, Any]:
    return calmest(lambda: probes.hiccups(lab.size.spin_s))[0]


@contextmanager
def _benched(lab: Lab) -> Iterator[costs.Bench]:
    bench = lab.bench()
    try:
        yield bench
    finally:
        bench.close()


def _commands(lab: Lab, share: Share) -> dict[str, Any]:
    with _benched(lab) as bench:
        laws = costs.laws(bench, share)
        return {"laws": laws, **costs.cold(bench), **costs.lua_hook(bench)}


def _keys(lab: Lab, share: Share) -> dict[str, Any]:
    with _benched(lab) as bench:
        return cost_curves.big_keys(bench, lab.const_ns(), share)


def _database(lab: Lab, share: Share) -> dict[str, Any]:
    with _benched(lab) as bench:
        return cost_curves.database(bench, lab.const_ns(), generator(SEED, "lab", "lookup"), share)


def _walk(lab: Lab, share: Share) -> dict[str, Any]:
    """What the validation's yardstick reads while the curves are taken, so that both know how fast memory was then."""
    with Yardstick(OPEN_PER_S) as yardstick:
        yardstick.read()
        readings = []
        for i in range(lab.size.walks):
            readings.append(yardstick.read())
            share((i + 1) / lab.size.walks)
    return {"walk_us": middle(readings).walk_us}


def _expiry(lab: Lab, share: Share) -> dict[str, Any]:
    with _benched(lab) as bench:
        return expiry_costs.expiry(bench, share)


def _server(lab: Lab, share: Share) -> dict[str, Any]:
    lab.server.redis.flushall()
    out = calmest(lambda: probe_server.connections(lab.server, lab.size.repeats))[0]
    share(0.3)
    return out | calmest(lambda: probe_server.cron(lab.server, lab.size.idle_s))[0]


def _disk(lab: Lab, share: Share) -> dict[str, Any]:
    out = probe_server.fsync(lab.folder, lab.size.fsyncs)
    share(0.1)
    out |= probe_server.fork_and_rdb(lab.server, lab.folder, lab.size.fork_mib, 2)
    share(0.7)
    return out | calmest(lambda: probe_server.saves(lab.server, lab.folder, lab.size.save_keys))[0]


def _points(lab: Lab, share: Share) -> dict[str, Any]:
    seconds, repeats = lab.size.point_s, lab.size.point_repeats
    crowds = [point for point in CROWD_POINTS if probes.within_limits([point.connections])]
    points = (*POINTS, *crowds)
    return {"rows": as_rows(fit_points.measure(lab.server, points, seconds=seconds, repeats=repeats, progress=share))}


def _benchmark(lab: Lab, share: Share) -> dict[str, Any]:
    seconds, repeats = lab.size.point_s, lab.size.point_repeats
    return {"rows": as_rows(fit_points.measure(lab.server, BENCHMARK_POINTS, seconds=seconds, repeats=repeats, progress=share))}


def _fit(lab: Lab, share: Share) -> dict[str, Any]:
    return solve(lab.done, share)


def _fit_crowd(lab: Lab, share: Share) -> dict[str, Any]:
    return solve_crowd(lab.done, share)


def _fit_benchmark(lab: Lab, share: Share) -> dict[str, Any]:
    return solve_benchmark(lab.done, share)


@dataclass(frozen=True)
class Step:
    """One step: what the bar says, its usual seconds (quick, full), and whether it may be asked of somebody else's server."""

    says: str
    seconds: tuple[float, float]
    run: Callable[[Lab, Share], dict[str, Any]]
    of_theirs: bool = False


STEPS: dict[str, Step] = {
    "host": Step("system calls, memory, page faults", (2.5, 2.5), _host),
    "sockets": Step("read, write and epoll_wait", (1.5, 4), _sockets),
    "crowd": Step("read and write on many connections", (2, 4), _crowd),
    "wake": Step("what a wake-up costs", (1.5, 6), _wake),
    "hiccups": Step("when the host takes the CPU away", (1, 15), _hiccups),
    "commands": Step("each command, small and hot", (5, 28), _commands, of_theirs=True),
    "keys": Step("big keys", (9, 90), _keys, of_theirs=True),
    "walk": Step("the validation's yardstick", (3, 8), _walk),
    "database": Step("big databases", (4, 45), _database),
    "expiry": Step("keys past their time", (35, 150), _expiry),
    "server": Step("connections and serverCron", (3.5, 9), _server),
    "disk": Step("fork, RDB and fsync", (5, 30), _disk),
    "points": Step("points of the fit", (40, 100), _points),
    "benchmark": Step("redis-benchmark", (18, 40), _benchmark),
    "fit": Step("solving for the loop's costs", (15, 20), _fit),
    "fit_benchmark": Step("solving for redis-benchmark's costs", (3, 4), _fit_benchmark),
    "fit_crowd": Step("solving for what more connections cost", (10, 10), _fit_crowd),
}


def calibrate(server: rig.RealServer | None = None, *, quick: bool = False, progress: Progress = lambda says, share: None,
              resume: Path | None = None, name: str = "calibrated", folder: Path | None = None) -> dict[str, Any]:  # fmt: skip
    """A profile's data, for write_profile(): of this machine and a redis-server of our own, or of the commands of `server`.

    `folder`: where fsync and RDB are measured (default: the system's temporary one). `resume`: a JSON file of finished steps,
    kept up to date and taken up again if it is there. ScenarioError if a measurement cannot be made, or `resume` is of
    another calibration.
    """
    size = QUICK if quick else FULL
    todo = {step: one for step, one in STEPS.items() if server is None or one.of_theirs}
    with tempfile.TemporaryDirectory(prefix="redsim-", dir=folder) as place, _said_plainly():
        lab = Lab(size, Path(place), server)
        try:
            version = lab.server.version
            of = {"schema": SCHEMA, "quick": quick, "own": server is None, "redis": version}
            lab.done = _resumed(resume, of)
            whole = sum(one.seconds[0 if quick else 1] for one in todo.values())
            before = 0.0
            for step, one in todo.items():
                mine = one.seconds[0 if quick else 1]
                if step not in lab.done:
                    progress(one.says, before / whole)
                    lab.done[step] = one.run(lab, lambda s, b=before, m=mine, t=one.says: progress(t, (b + s * m) / whole))  # type: ignore[misc]
                    _keep(resume, of, lab.done)
                before += mine
                progress(one.says, before / whole)
        finally:
            lab.stop()
    return finished(lab.done, quick=quick, name=name, redis_version=version, is_own=server is None)


@contextmanager
def _said_plainly() -> Iterator[None]:
    """What redis-py raises (no permission, a renamed command, a server that went away) as one sentence."""
    try:
        yield
    except Exception as error:
        from redis import RedisError

        if not isinstance(error, RedisError):
            raise
        raise ScenarioError(
            f"the server being measured answered {type(error).__name__}: {error}; it must allow what calibrate measures"
        ) from None


def finished(done: dict[str, Any], *, quick: bool, name: str, redis_version: str, is_own: bool) -> dict[str, Any]:
    """The profile's data from the steps' results."""
    machine = machine_facts(redis_version, time.strftime("%Y-%m-%d", time.gmtime()))
    date, how = machine["date"], "quick" if quick else "full"
    says = f"Redis {redis_version} on {machine['cpu']}, measured {date} by a {how} calibration"
    if not is_own:
        machine = {name: machine[name] for name in ("redis", "date", "cores", "memory_bytes")}
        says = f"The commands of a Redis {redis_version}, measured {date} from outside; loop costs and cores are not its own"
    return profile_data(name, says, {**machine, "quick": quick}, found_so_far(done))


# ---- going on after Ctrl-C -----------------------------------------------------------------------------------------


def _resumed(path: Path | None, of: dict[str, Any]) -> dict[str, Any]:
    if path is None or not path.is_file():
        return {}
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        same = kept["of"] == of
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScenarioError(f"{path}: these finished steps cannot be read ({type(error).__name__}); remove the file") from None
    if not same:
        raise ScenarioError(f"{path}: these steps are of another calibration ({kept['of']}); remove the file to start anew")
    done: dict[str, Any] = kept["steps"]
    return done


def _keep(path: Path | None, of: dict[str, Any], done: dict[str, Any]) -> None:
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(path.suffix + ".part")
        beside.write_text(json.dumps({"of": of, "steps": done}), encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise ScenarioError(f"{path}: finished steps cannot be kept ({error.strerror}); give another path with --out") from None


# ---- the command ---------------------------------------------------------------------------------------------------


def steps_path(out: Path) -> Path:
    """Where the finished steps of a calibration that writes `out` are kept meanwhile."""
    return out.with_name(out.name + ".steps.json")


def calibrate_to(out: Path, *, quick: bool = False, url: str | None = None, yes_load_it: bool = False, folder: Path | None = None,
                 quiet: bool = False) -> list[str]:  # fmt: skip
    """The command `redsim calibrate`: the lines to print. Writes `out` and removes the kept steps; KeyboardInterrupt leaves them.

    ScenarioError for a URL without `yes_load_it`, a server that does not answer, or a place that cannot be written.
    """
    if url is not None and not yes_load_it:
        raise ScenarioError(
            "calibrate --url loads a server that is not ours (big keys under redsim:, deleted afterwards); add --yes-load-it"
        )
    if folder is not None and not folder.is_dir():
        raise ScenarioError(f"--folder {folder}: no such folder; it is where fsync and RDB are measured")
    started = time.monotonic()
    server = rig.attach(url) if url is not None else None
    try:
        with share_bar("starting redis-server", quiet=quiet) as progress:
            data = calibrate(server, quick=quick, progress=progress, resume=steps_path(out), name=out.stem, folder=folder)
    finally:
        if server is not None:
            server.stop()
    write_profile(data, out)
    steps_path(out).unlink(missing_ok=True)
    return summary(data, out, time.monotonic() - started)


def summary(data: dict[str, Any], out: Path, seconds: float) -> list[str]:
    """Three lines: where the profile is, how much of it was measured, how well the fit fits."""
    numbers = [row for part in ("costs", "client") for row in data[part].values()]
    count = {word: sum(row["source"] == word for row in numbers) for word in ("measured", "derived", "guess")}
    lines = [f"profile: {out} (use it with hosts: {{box: {{profile: {out}}}}}); {seconds:.0f} s"]
    told = f"{count['measured']} measured, {count['derived']} derived, {count['guess']} guesses taken over"
    lines.append(f"of {len(numbers)} costs {told}")
    off = sorted(abs(row["error_pct"]) for row in data["fit"].get("points", []) if row["fitted"])
    if off:
        lines.append(f"the fit is off by {off[len(off) // 2]:.1f} % (median of {len(off)} quantities), at worst {off[-1]:.1f} %")
    noisy = max(data["fit"].get("disturbed", {"": 0.0}).values(), default=0.0)
    if noisy > DISTURBED:
        lines.append(f"others used the CPUs for {noisy:.0%} of the time of a point: calibrate again on a calm machine")
    return lines
