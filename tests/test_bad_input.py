"""Every mistake in tests/bad is refused in one line that names file, line and cure; nothing else comes out.

The first line of a fixture says what its sentence must hold: `# expect: :17: | word | word`. Those that
cannot carry a comment (empty, binary, captures) are in EXPECT. The fixtures are ours, named by their fault.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redsim.scenario.errors import ScenarioError
from redsim.scenario.info import InfoCapture, parse_info
from redsim.scenario.load import Scenario
from redsim.scenario.monitor import MonitorCapture, parse_monitor

BAD = Path(__file__).parent / "bad"
FIXTURES = sorted(path.name for path in BAD.glob("*.yaml"))
EXPECT = {
    "empty.yaml": [":1:", "empty", "question"],
    "binary.yaml": [":1:", "0x80", "UTF-8"],
    "zero-bytes.yaml": [":2:", "x00"],
}
# Command names and key types belong to the commands' own table, not to the scenario's shape.
BY_COMMAND_TABLE = {"command-unknown.yaml", "command-of-wrong-type.yaml", "timeline-command-unknown.yaml"}
HAS_BUILD = find_spec("redsim.run.build") is not None
HAS_CLI = find_spec("redsim.cli") is not None


def expected_words(name: str) -> list[str]:
    if name in EXPECT:
        return EXPECT[name]
    first = (BAD / name).read_text(encoding="utf-8").split("\n", 1)[0]
    assert first.startswith("# expect: "), f"{name} lacks its '# expect: …'"
    return first.removeprefix("# expect: ").split(" | ")


def refusal(path: Path) -> str:
    """The sentence for the user, from loading and, where loading finds nothing, from building."""
    with pytest.raises(ScenarioError) as caught:  # noqa: PT012
        scenario = Scenario.load(path)
        import_module("redsim.run.build").check(scenario)
    return str(caught.value)


@pytest.mark.parametrize("name", FIXTURES)
def test_a_fault_is_one_sentence_with_file_line_and_cure(name: str) -> None:
    """DESIGN section 5: an error names file, line, key, value, and the likely cure."""
    if name in BY_COMMAND_TABLE and not HAS_BUILD:
        pytest.skip("redsim.run.build is not there")
    sentence = refusal(BAD / name)
    assert sentence.startswith(f"{BAD / name}:")
    assert sentence.isprintable(), "one line, no control characters"
    assert len(sentence) < 500 + len(str(BAD)) * 2
    missing = [word for word in expected_words(name) if word not in sentence]
    assert not missing, sentence


def test_there_are_fixtures_for_forty_faults_at_least() -> None:
    """The list can only grow; a glob that finds nothing would pass everything."""
    assert len(FIXTURES) >= 100


@pytest.mark.parametrize(("path", "words"), [
    (BAD, ["directory"]),
    (BAD / "no-such-scenario.yaml", ["no such file", "redsim list"]),
    (BAD / ("x" * 5000), ["cannot be read"]),
    (BAD / "monitor-garbage.txt", [":1:", "mapping"]),
    (BAD / "zero\0byte.yaml", ["cannot be read"]),
])  # fmt: skip
def test_what_is_not_a_scenario_file_is_refused(path: Path, words: list[str]) -> None:
    """Paths a shell or a typo produces."""
    with pytest.raises(ScenarioError) as caught:
        Scenario.load(path)
    assert str(caught.value).isprintable()
    assert all(word in str(caught.value) for word in words), str(caught.value)


# ---- the command line ------------------------------------------------------------------------------------


@pytest.mark.skipif(not HAS_CLI, reason="redsim.cli is not there")
@pytest.mark.parametrize("name", FIXTURES)
def test_lint_says_it_on_stderr_in_one_line_and_exits_2(name: str) -> None:
    """DESIGN section 6: exit code 2 and one clear sentence on bad input."""
    from typer.testing import CliRunner

    outcome = CliRunner().invoke(import_module("redsim.cli").app, ["lint", str(BAD / name)])
    assert outcome.exit_code == 2, outcome.output
    lines = outcome.stderr.strip().splitlines()
    assert len(lines) == 1, outcome.stderr
    assert name in lines[0]
    assert all(word in lines[0] for word in expected_words(name)), lines[0]


@pytest.mark.skipif(not HAS_CLI, reason="redsim.cli is not there")
@pytest.mark.parametrize("name", ["rate-negative.yaml", "binary.yaml"])
def test_the_process_itself_exits_2_without_a_traceback(name: str) -> None:
    """As a shell sees it."""
    done = subprocess.run(
        [sys.executable, "-m", "redsim", "lint", str(BAD / name)],
        capture_output=True, text=True, timeout=120, cwd=BAD.parent.parent, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in [name, *expected_words(name)])


# ---- anything at all -------------------------------------------------------------------------------------

GOOD = (BAD / "seed-negative.yaml").read_text(encoding="utf-8").replace("seed: -1", "seed: 1")
WORDS = [
    "question:", "duration:", "20s", "hosts:", "{}", "[", "]", "{", "}", "- ", "\n", "\n  ", "\t", "&a ",
    "*a", "~", "<<: ", "|", ">", "!!", "%YAML 1.1", "---", "...", "? ", ": ", "#", "'", '"', "\\x", ".nan",
    "1e999", "0x", "\u2028", "\ufeff", "é", "nodes:", "conf: |", "save", "2001-12-14",
]  # fmt: skip


def scalars_of(text: str) -> list[str]:
    words = [word.strip("{},") for word in text.split()]
    return [word for word in words if word and not word.endswith(":")]


def outcome_of(make: Callable[[], object], label: str) -> object:
    """What `make` returns, or None after a ScenarioError fit to be shown; other exceptions pass through."""
    try:
        return make()
    except ScenarioError as error:
        sentence = str(error)
    assert sentence.startswith(label), sentence
    assert sentence.isprintable(), repr(sentence)
    return None


def only_scenario_error(text: str) -> None:
    outcome_of(lambda: Scenario.from_text(text), "<scenario>:")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=5)), max_size=20))
def test_random_yaml_raises_nothing_but_scenario_error(parts: list[str]) -> None:
    """Fuzz: text made of YAML's own punctuation."""
    only_scenario_error("".join(parts))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40), st.integers(0, len(GOOD)))
def test_a_scenario_with_junk_in_it_raises_nothing_but_scenario_error(junk: bytes, at: int) -> None:
    """Fuzz: bytes dropped into a good file."""
    only_scenario_error(GOOD[:at] + junk.decode("latin-1") + GOOD[at:])


PATH_WORDS = ["nodes", "main", "conf", "clients", "api", "timeline", "0", "9", "keys", "seed", "x", ""]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(set(scalars_of(GOOD.partition("\n")[2])))), JSON)
def test_a_scalar_of_any_other_value_raises_nothing_but_scenario_error(scalar: str, value: object) -> None:
    """Fuzz: one word of a good scenario becomes a random JSON value."""
    only_scenario_error(GOOD.replace(scalar, json.dumps(value), 1))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(PATH_WORDS)), JSON)
def test_an_override_raises_nothing_but_scenario_error(path: list[str], value: object) -> None:
    """Fuzz: `--set` of any path to any value."""
    override = f"{'.'.join(path)}={json.dumps(value)}"
    outcome_of(lambda: Scenario.from_text(GOOD, overrides=[override]), "")


INFO_WORDS = [
    "# Server",
    "cmdstat_get:",
    "calls=",
    "1",
    "-1",
    ",",
    "usec=",
    "usec_per_call=",
    "\n",
    "\r\n",
    "x:y",
]


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80) | st.lists(st.sampled_from(INFO_WORDS)).map("".join))
def test_random_info_raises_nothing_but_scenario_error(text: str) -> None:
    """Fuzz: INFO text."""
    capture = outcome_of(lambda: parse_info(text, "info.txt"), "info.txt:")
    if isinstance(capture, InfoCapture):
        assert sum(weight for weight, _ in capture.mix().values()) in (0, pytest.approx(1))


MONITOR_WORDS = [
    b'1.000001 [0 127.0.0.1:1] "GET" "k"\n', b'2.000001 [0 lua] "SET" "k" "v"\n', b"OK\n", b'"', b"\\", b" ",
    b"\n", b"\\x4", b"[0 ", b"] ", b"(redacted)", b"3.000000", b"\xff",
    b'"eval" "s" "1" "k"', b'"XREAD" "STREAMS"',
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(MONITOR_WORDS) | st.binary(max_size=6), max_size=12).map(b"".join))
def test_random_monitor_raises_nothing_but_scenario_error(raw: bytes) -> None:
    """Fuzz: MONITOR text."""
    lines = raw.splitlines(keepends=True)
    capture = outcome_of(lambda: parse_monitor(lines, "monitor.txt"), "monitor.txt:")
    if isinstance(capture, MonitorCapture):
        assert len(capture) > 0
        assert capture.key.max() < len(capture.keys)
