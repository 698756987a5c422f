"""`redsim observe URL|FILES`: a scenario out of a running server or out of what an operator saved, and what it could not see.

Left are the scenario, which runs as it stands; observed.json beside it, what was measured, for compare(); and, where there is a
replication stream, offsets.csv, which `redsim plan backlog --offsets` reads. The times per call written are INFO's less what the
model adds by itself (the first command after a sleep is slower), found by one short run.
Mirrors nothing in Redis. Differs: numbers only; no key, value, address, user or password is in any of them or in any message.
Not modelled: more than one server, but for the Sentinels that monitor it (observe_sentinel.py).
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redsim.dataplane import layout as dp
from redsim.lab.asker import masked
from redsim.lab.observe_files import observe_files, sort_out
from redsim.lab.observe_live import observe_live
from redsim.lab.observe_sentinel import NO_TRAFFIC, Told, ask_sentinel, attach, is_sentinel, names_of, read_sentinel_files
from redsim.lab.observed import Observation, Progress, compare
from redsim.lab.observed_replication import lines as replication_lines
from redsim.lab.observed_replication import offsets_csv
from redsim.lab.observed_scenario import VALUE_BYTES_GUESS, Fitted, scenario_text, unseen
from redsim.lab.observed_sentinel import lines as sentinel_lines
from redsim.lab.traffic import known
from redsim.run import engine
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.scenario.monitor import bulk_bytes
from redsim.scenario.profile import load_profile

__all__ = ["Observation", "command", "compare", "observe"]

URL = re.compile(r"(redis|rediss|unix|valkey|valkeys)://", re.IGNORECASE)
WINDOW_S_MAX, MONITOR_S_MAX, SAMPLE_KEYS_MAX, BUDGET_S_MAX = 3600.0, 60.0, 1_000_000, 600.0
LEAST_SHARE = 0.1  # of a measured time per call that is kept, whatever the model adds
FIT_CALLS_MIN = 20  # calls in the short run below which a command's time is left as measured


def observe(
    sources: list[str],
    *,
    out: Path,
    window_s: float = 10.0,
    monitor_s: float = 0.0,
    sample_keys: int = 1000,
    budget_s: float = 10.0,
    progress: Progress | None = None,
    profile: str = "default",
) -> Observation:
    """Look at one server (`sources`: its URL) or at files, write scenario, observed.json, perhaps offsets.csv; what was seen.

    Beside either there may be what a Sentinel of it tells: files of its own, its URL, or both.
    `out`: the scenario's path if it ends in .yaml, else a folder for scenario.yaml and the others. For a URL: INFO twice
    `window_s` apart, then at most `sample_keys` keys in at most `budget_s`, then MONITOR for `monitor_s` (0: none).
    `progress(what, share)`. ScenarioError, in one sentence without secrets, if the server cannot be asked, a file is not
    understood, or nothing can be written.
    """
    tell = progress if progress is not None else _silent
    urls = [source for source in sources if URL.match(source)]
    _check(sources, urls, window_s, monitor_s, sample_keys, budget_s)
    told = Told()
    url, paths = _sources(sources, urls, told, tell)
    if url:
        seen = observe_live(
            url, window_s=window_s, monitor_s=monitor_s, sample_keys=sample_keys, budget_s=budget_s, progress=tell
        )
    else:
        seen = observe_files(paths, tell)
    if told.sources:
        attach(told, seen)
    folder = out.parent if out.suffix in (".yaml", ".yml") else out
    path = out if out.suffix in (".yaml", ".yml") else out / "scenario.yaml"
    beside = path.with_suffix(".observed.json") if path == out else folder / "observed.json"
    stream = path.with_suffix(".offsets.csv") if path == out else folder / "offsets.csv"
    load_profile(profile, folder)  # a profile that is none is said before anything is run
    tell("fitting times per call and ranges", 0.9)
    text = scenario_text(seen, profile, fitted(seen, profile, folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        beside.write_text(json.dumps(seen.data(), indent=1) + "\n", encoding="utf-8")
        if (offsets := offsets_csv(seen.replication)) != "":
            stream.write_text(offsets, encoding="utf-8")
            seen.offsets_path = str(stream)
    except OSError as error:
        raise ScenarioError(
            f"{folder}: the scenario cannot be written ({error.strerror}); give another place with --out"
        ) from None
    seen.scenario_path, seen.observed_path = str(path), str(beside)
    tell("done", 1.0)
    return seen


def _silent(_what: str, _share: float) -> None:
    """Nobody asked to be told."""


def _check(sources: list[str], urls: list[str], window_s: float, monitor_s: float, sample_keys: int, budget_s: float) -> None:
    if not sources:
        raise ScenarioError(
            "observe needs a URL such as redis://127.0.0.1:6379, or files: INFO all, redis.conf, SLOWLOG, sentinel.conf …"
        )
    strange = [source for source in sources if "://" in source and source not in urls]
    if strange:
        raise ScenarioError(f"{masked(strange[0])} is not a URL redis-py takes; write it like redis://127.0.0.1:6379/0")
    for name, value, low, high in (
        ("--window", window_s, 0.1, WINDOW_S_MAX), ("--monitor", monitor_s, 0.0, MONITOR_S_MAX),
        ("--sample-keys", sample_keys, 0, SAMPLE_KEYS_MAX), ("--budget", budget_s, 0.0, BUDGET_S_MAX),
    ):  # fmt: skip
        if not low <= value <= high:
            raise ScenarioError(f"{name} {value:g}: from {low:g} to {high:g}")


def _sources(sources: list[str], urls: list[str], told: Told, tell: Progress) -> tuple[str, list[Path]]:
    """(URL of the server to observe, "" for none; files of it); what is a Sentinel's is read and asked into `told`."""
    paths, theirs = sort_out([Path(source) for source in sources if source not in urls])
    read_sentinel_files(theirs, told)
    is_one = len(urls) == 1 and not paths  # observe_live finds out what it is
    if not is_one and urls:
        tell("asking who is a Sentinel", 0.0)
    asked = [] if is_one else [url for url in urls[:2] if is_sentinel(url)]
    servers = [url for url in urls if url not in asked]
    if len(servers) + bool(paths) > 1 or len(asked) > 1 or len(urls) > 2:
        raise ScenarioError(
            f"{masked(urls[0])} and {len(sources) - 1} more: give one server's URL, or files of it, not both; beside it, "
            "if it has Sentinels, one's URL or files"
        )
    for url in asked:
        ask_sentinel(url, told)
    names = names_of(told) if told.sources else []
    if not servers and not paths:
        raise ScenarioError(
            f"{', '.join(masked(one) if one in urls else one for one in sources)}: {NO_TRAFFIC}; add `redis-cli INFO all` of "
            f"{names[0]}, saved twice a minute apart, or its URL; `redis-cli -p 26379 "
            f"SENTINEL GET-MASTER-ADDR-BY-NAME {names[0]}` tells where it is"
        )
    return (servers or [""])[0], paths


def fitted(seen: Observation, profile: str, base: Path) -> Fitted:
    """What makes the model show INFO's time per call and bytes out; from one run of the scenario in the tests' size.

    A range (LRANGE, ZRANGE) returns one element in that run; what is missing of the measured bytes out is what more it returns.
    """
    window = seen.window
    assert window is not None
    measured = {c.name: 1000 * c.usec / c.calls for c in window.commands if c.usec > 0}
    if not measured:
        return Fitted()
    text = scenario_text(seen, profile, Fitted({}, 1))
    scenario = Scenario.from_text(text, name="observed", base=base).smoke()
    summary = engine.run(scenario).summary
    node = next(iter(summary["nodes"].values()))
    shown = node["info"]["commandstats"]
    times: dict[str, int] = {}
    for name, ns in measured.items():
        row = shown.get(f"cmdstat_{name.lower()}")
        if row is not None and row["calls"] >= FIT_CALLS_MIN:
            added = 1000 * row["usec"] / row["calls"] - ns
            if added > 0.02 * ns:
                times[name] = max(round(ns - added), round(LEAST_SHARE * ns), 1)
    return Fitted(times, _returned(seen, node, summary["simulated_s"]))


def _returned(seen: Observation, node: dict[str, Any], simulated_s: float) -> int | None:
    """Elements each range call returns, by the bytes out that the run (one element each) lacks; None if they cannot tell."""
    window = seen.window
    assert window is not None
    out_bytes = window.counters.get("net_out_bytes")
    missing = (out_bytes or 0) / window.seconds - node["info"]["stats"]["total_net_output_bytes"] / simulated_s
    each = 0.0
    for command in window.commands:
        model = known(command.name)
        if model is not None and model.op == dp.OP_RANGE:
            sizes = next((shape.value_bytes for shape in seen.shapes if shape.type == model.types[0]), [])
            mean = sum(v * n for v, n in sizes) / max(sum(n for _, n in sizes), 1) if sizes else VALUE_BYTES_GUESS
            each += command.calls / window.seconds * bulk_bytes(round(mean))
    if out_bytes is None or each == 0.0:
        return None
    return 1 + max(round(missing / each), 0)


def headline(seen: Observation) -> list[str]:
    """What the command line prints: what was seen, what could not be, where the files are."""
    assert seen.window is not None
    window = seen.window
    busy = "" if window.cpu_share is None else f"; {window.cpu_of} {window.cpu_share:.1%} busy"
    lines = [f"{seen.version_said or 'version unknown'}: {window.per_s:,.1f} data commands/s{busy} ({window.said})"]
    lines += [f"  {shape.type}: {shape.keys:,} keys ({shape.said})" for shape in seen.shapes]
    lines += [f"  {said}" for said in replication_lines(seen.replication)]
    lines += [f"  {said}" for said in sentinel_lines(seen.sentinel)]
    lines += [f"  left out: {said}" for said in seen.left_out]
    lines += [f"  could not see: {said}" for said in [*seen.could_not_see, *unseen(seen, [])]]
    lines += [f"scenario: {seen.scenario_path}", f"measured: {seen.observed_path}"]
    return [*lines, *([f"offsets: {seen.offsets_path}"] if seen.offsets_path else [])]


def command(
    sources: list[str],
    *,
    out: Path | None = None,
    window_s: float = 10.0,
    monitor_s: float = 0.0,
    sample_keys: int = 1000,
    budget_s: float = 10.0,
    profile: str = "default",
    say: Callable[[str], Any] | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """`redsim observe`: observe(), then the lines to print. `say` gets a warning before MONITOR. `out` None: observed/."""
    from redsim.lab.observe_monitor import MONITOR_WARNING

    if monitor_s > 0 and say is not None and any(URL.match(source) for source in sources):
        say(f"{MONITOR_WARNING}; for {monitor_s:g} s, given up if the server is busy or its output late")
    seen = observe(
        sources, out=out or Path("observed"), window_s=window_s, monitor_s=monitor_s, sample_keys=sample_keys, budget_s=budget_s,
        progress=progress, profile=profile,
    )  # fmt: skip
    return headline(seen)
