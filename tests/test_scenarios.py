"""Every scenario asks a question, is in the index, lints, runs in smoke size, and does what it did [STYLE rules 11 and 12]."""

import re
from functools import cache
from pathlib import Path

import pytest
from conftest import Golden

import redsim
from redsim.records import LatencyEvent
from redsim.refs import refs
from redsim.report.answer import answer
from redsim.run.build import check
from redsim.run.result import Result
from redsim.units import S, say_ns

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "scenarios"
PATHS = sorted(FOLDER.rglob("*.yaml"))
NAMES = [str(path.relative_to(FOLDER).with_suffix("")) for path in PATHS]
SMOKE_COMMANDS_MAX = 1_500_000  # some 0.5 s of wall time


@cache
def smoke(name: str, seed: int | None = None) -> Result:
    """The scenario in the tests' size, run once per session and seed."""
    scenario = redsim.load(FOLDER / f"{name}.yaml").smoke()
    return redsim.run(scenario, seed=seed)


def headline(result: Result) -> str:
    """What a person can judge: the answer, a line per group, a line for the server, and the digest."""
    node = next(iter(result.summary["nodes"].values()))
    lines = [answer(result)]
    for name, group in result.summary["clients"].items():
        latency = group["latency_us"]
        errors = "".join(f" {key} {count}" for key, count in group["errors"].items() if count)
        said = ", ".join(f"{p} {say_ns(round(latency[p] * 1000))}" for p in ("p50", "p99", "max"))
        said = said if group["completed"] else "nobody answered"
        lines.append(f"{name}: {group['completed']} answered, {group['failed']} failed{errors}; {said}")
    stalls = ", ".join(f"{event} {row['count']}" for event, row in sorted(node["stalls"].items())) or "none"
    lines.append(f"server: {node['commands']} commands, {node['polls']} polls, {node['reads']} reads; stalls: {stalls}")
    return "\n".join([*lines, f"digest {result.summary['digest']}", ""])


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_a_scenario_states_question_finding_look_at_and_refs(path: Path) -> None:
    """STYLE rule 12: before any parameter."""
    file = redsim.load(path).file
    assert file.question.endswith("?"), "question: ends with a question mark"
    assert file.finding, "finding: add the figures of the scenario's own run"
    assert re.search(r"[0-9]", file.finding), "finding: say it in figures"
    assert file.look_at, "look_at: say where in the report the answer is"
    assert file.refs, "refs: say where the numbers come from"
    unknown = set(file.refs) - set(refs())
    assert not unknown, f"refs {unknown} are not in redsim/refs.toml; add them there"
    text = path.read_text(encoding="utf-8")
    first = [f"\n{text}".index(f"\n{key}:") for key in ("question", "finding", "duration")]
    assert first == sorted(first), "question and finding come before any parameter"
    for word in ("# Costs:", "# Try next:"):
        assert word in text, f"say it in a comment: {word}"


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_a_scenario_is_in_the_index_with_its_question_and_its_finding(path: Path) -> None:
    """scenarios/README.md: one row each, the question word for word, a finding in a line."""
    name = path.relative_to(FOLDER)
    index = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [row for row in index if row.startswith(f"| [{name}]({name}) |")]
    assert len(rows) == 1, f"add a row for {name} to scenarios/README.md"
    _, _, question, finding, _ = (cell.strip() for cell in rows[0].split("|"))
    assert question == redsim.load(path).file.question
    assert finding


def test_the_index_names_no_scenario_that_is_not_there() -> None:
    """scenarios/README.md against the folder."""
    named = re.findall(r"^\| \[([^]]+)\]", (FOLDER / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(named) == [str(path.relative_to(FOLDER)) for path in PATHS]


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_a_scenario_lints(path: Path) -> None:
    """`redsim lint`: shape, redis.conf, commands, key types; raises ScenarioError if anything is wrong."""
    scenario = redsim.load(path)
    check(scenario)
    assert scenario.file.duration > scenario.file.warmup


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_runs_in_smoke_size_and_does_what_it_did(name: str, golden: Golden) -> None:
    """Recorded: tests/scenarios/golden, rewritten by `pytest --golden-update`, the diff read before the commit."""
    result = smoke(name)
    assert result.summary["simulated_s"] <= 2
    assert 0 < result.summary["commands"] <= SMOKE_COMMANDS_MAX, "smoke size is too large; use fewer requests"
    golden.check(name.replace("/", "-"), headline(result))


def test_the_same_seed_gives_the_same_digest_and_another_seed_another() -> None:
    """DESIGN 3: same scenario, seed and version, same digest; exact."""
    again = redsim.run(redsim.load(FOLDER / "learn/keys-stall.yaml").smoke())
    first = smoke("learn/keys-stall")
    assert again.summary["digest"] == first.summary["digest"]
    assert again.latency.equals(first.latency)
    assert smoke("learn/keys-stall", 2).summary["digest"] != first.summary["digest"]


@pytest.mark.parametrize("event", list(LatencyEvent), ids=str)
def test_a_latency_event_is_emitted_by_some_scenario_and_has_advice(event: LatencyEvent) -> None:
    """STYLE rule 7: one ledger, one vocabulary; no event without a scenario, none without a sentence of advice."""
    results = [smoke(name) for name in NAMES]
    if event is LatencyEvent.AOF_WRITE_PENDING_FSYNC:  # Redis' two seconds of patience do not shrink with a scenario
        results = [redsim.run(redsim.load(FOLDER / "incident/stuck-disk.yaml"))]
    emitting = [result for result in results if (result.stalls["event"] == event).any()]
    assert emitting, f"no scenario emits {event}; write one"
    words = {
        LatencyEvent.COMMAND: "held the loop of", LatencyEvent.FAST_COMMAND: "held the loop of",
        LatencyEvent.EXPIRE_CYCLE: "Active expiry held",
        LatencyEvent.SERVER_CRON: "serverCron", LatencyEvent.HOST_HICCUP: "The host took the CPU",
        LatencyEvent.EVICTION_CYCLE: "Evictions held", LatencyEvent.EVICTION_DEL: "Evictions held",
        LatencyEvent.ACTIVE_DEFRAG_CYCLE: "Active defragmentation held",
        LatencyEvent.PROCESS_STOPPED: "was stopped for",
        LatencyEvent.AOF_FSYNC_ALWAYS: "fdatasync of the AOF held",
        LatencyEvent.AOF_WRITE_ALONE: "into the page cache held",
        LatencyEvent.AOF_WRITE_PENDING_FSYNC: "while its fsync was in flight held",
        LatencyEvent.AOF_WRITE_ACTIVE_CHILD: "while a child was writing to the same disk held",
        LatencyEvent.AOF_MANIFEST: "Syncing the manifest of the AOF", LatencyEvent.FORK: "Forking held the loop of",
    }[event]  # fmt: skip
    told = [f for result in emitting for f in result.findings if words in f.text and f.directive]
    assert told, f"no finding tells of {event} with something to change; add it to redsim/report/findings.py"


def test_the_stalls_of_keys_stall_say_who_and_how_many() -> None:
    """DESIGN 2: a stall is written once, under Redis' own event name, with its cause."""
    stalls = smoke("learn/keys-stall").stalls
    keys = stalls[stalls["because"].str.startswith("KEYS")]
    assert len(keys) == 1
    assert keys["event"].tolist() == ["command"]
    assert re.search(r"[0-9]+ requests? waiting", keys["because"].iloc[0])


# ---- what the findings say, as claims ----------------------------------------------------------------------------


def groups(path: str, *overrides: str) -> dict[str, dict]:
    """The groups' part of the summary of a whole run."""
    return redsim.run(redsim.load(FOLDER / path, overrides)).summary["clients"]


def test_a_closed_loop_hides_the_stall_that_an_open_one_shows() -> None:
    """Coordinated omission [coordinated-omission]: same server, same stall of 0.3 s, less load in the open loop."""
    clients = groups("learn/open-vs-closed.yaml")
    assert clients["closed"]["throughput_per_s"] > clients["open"]["throughput_per_s"]
    assert clients["closed"]["latency_us"]["p99"] < 300_000 / 10
    assert clients["open"]["latency_us"]["p99"] > 300_000
    assert clients["overload"]["latency_us"]["p99"] > clients["open"]["latency_us"]["p99"]


def test_retries_at_once_keep_a_server_down_and_patient_ones_let_it_up() -> None:
    """A metastable failure [metastable-2021]: after the cause is gone nobody is answered; jitter [retry-jitter] avoids it."""
    clients = groups("incident/retry-storm.yaml")
    asked = 10 * 4000
    assert clients["eager"]["completed"] < 0.25 * asked  # 2 s before the stall, nothing after
    assert clients["patient"]["completed"] > 0.99 * asked


def test_what_redis_benchmark_prints_breaks_littles_law() -> None:
    """Requests in the system = rate x time [little-1961]: 50 connections are always full, its own figures say fewer."""
    bench = groups("learn/redis-benchmark.yaml", "duration=2s")["bench"]
    in_system = bench["throughput_per_s"] * bench["latency_us"]["mean"] / 1e6
    assert in_system < 0.75 * 50
    assert bench["station_utilisation"] > 0.95
    ample = groups("learn/redis-benchmark.yaml", "duration=2s", "clients.bench.station.kind=ample")["bench"]
    assert ample["throughput_per_s"] * ample["latency_us"]["mean"] / 1e6 == pytest.approx(50, rel=0.01)  # an honest clock


def test_a_larger_scan_count_saves_little_and_hurts_the_others() -> None:
    """Own measurement [lab-keys-stall]: cost per element falls by 20 % from COUNT 10 to 10,000, the stall grows with it."""
    clients = groups("learn/scan-walk.yaml")
    p99 = [clients[f"beside-{count}"]["latency_us"]["p99"] for count in (10, 100, 1000, 10000)]
    assert p99 == sorted(p99)
    assert p99[3] > 50 * p99[0]


def test_io_threads_help_until_the_commands_are_left() -> None:
    """networking.c, 6.0 to 7.4: reading (unless io-threads-do-reads) and executing stay on the main thread."""
    sets = [f"nodes.main.conf.io-threads={n}" for n in (1, 2, 4, 8)]
    rates = [groups("learn/io-threads.yaml", "duration=1s", change)["app"]["throughput_per_s"] for change in sets]
    assert rates == sorted(rates)
    assert rates[3] < 3 * rates[0]


def test_a_script_is_refused_busy_only_after_the_threshold() -> None:
    """script.c: busy-reply-threshold; before it nobody is answered at all."""
    result = redsim.run(redsim.load(FOLDER / "learn/lua-busy.yaml"))
    api = result.summary["clients"]["api"]
    assert api["errors"]["busy"] == pytest.approx(7 * 5000, rel=0.05)  # seven seconds at 5,000 a second
    stall = result.stalls[result.stalls["because"].str.startswith("EVAL")].iloc[0]
    assert stall["duration_us"] == pytest.approx(5 * S / 1000, rel=0.01)


def test_busy_is_answered_while_the_script_still_runs() -> None:
    """networking.c:processEventsWhileBlocked runs before_sleep, so the replies leave; measured: -BUSY at once [lab-misc]."""
    result = redsim.run(redsim.load(FOLDER / "learn/lua-busy.yaml", ["duration=9s"]))  # the script runs from 3 s to 10 s
    assert result.summary["clients"]["api"]["errors"]["busy"] == pytest.approx(6 * 5000, rel=0.05)
