"""A scenario is read whole: defaults, units, lines, overrides, the tests' size. Source: DESIGN section 5."""

import pickle
from pathlib import Path

import pytest

from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import SMOKE_NS, Scenario, load
from redsim.units import MS, S

DESIGN_EXAMPLE = """\
question: How long does one KEYS on a million keys hold everybody else up?
duration: 20s
warmup: 2s
seed: 1
hosts:
  box: {profile: default}            # a shipped profile, or a path written by `redsim calibrate`
nodes:
  main:
    host: box
    version: "7.0"
    conf: |                          # or conf_file: redis.conf
      save ""
      appendonly no
datasets:
  users: {node: main, keys: 1000000, type: string, key_bytes: 15, value_bytes: 100}
clients:
  api:
    node: main
    connections: 50
    arrivals: {open: {rate_per_s: 20000}}
    pipeline: 1
    commands: {GET: 0.9, SET: 0.1}
    keys: {dataset: users, popularity: {zipf: 0.99}}
timeline:
  - {at: 10s, run: "KEYS *", node: main}
"""
RECORDED = Path(__file__).parent / "recorded"


def error_of(text: str, *overrides: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_text(text, overrides=overrides)
    return str(caught.value)


def with_override(*overrides: str) -> Scenario:
    return Scenario.from_text(DESIGN_EXAMPLE, overrides=overrides)


def test_the_first_example_of_the_design_runs_as_it_stands() -> None:
    """DESIGN section 5: "This file must run as it stands"."""
    scenario = Scenario.from_text(DESIGN_EXAMPLE, name="keys-stall")
    file = scenario.file
    assert (file.duration, file.warmup, file.seed) == (20 * S, 2 * S, 1)
    assert file.datasets["users"].value_bytes.constant == 100
    assert file.clients["api"].commands["GET"].weight == 0.9
    assert file.timeline[0].at == 10 * S
    assert scenario.confs["main"].get("appendonly") is False
    assert (scenario.name, scenario.path) == ("keys-stall", None)
    assert set(scenario.profiles) == {"box"}


def test_loading_a_file_keeps_its_name_and_path(tmp_path: Path) -> None:
    """The report says how to repeat a run, so the path stays as the user wrote it."""
    path = tmp_path / "keys-stall.yaml"
    path.write_text(DESIGN_EXAMPLE)
    scenario = load(path)
    assert (scenario.name, scenario.path, scenario.text) == ("keys-stall", path, DESIGN_EXAMPLE)
    assert scenario.where("seed") == f"{path}:4"


def test_a_windows_file_with_a_byte_order_mark_is_the_same_scenario(tmp_path: Path) -> None:
    """YAML 1.2 section 5.2 and 5.4: a byte order mark is no content, CRLF is a line break."""
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + DESIGN_EXAMPLE.replace("\n", "\r\n").encode())
    assert load(path).file == Scenario.from_text(DESIGN_EXAMPLE).file


def test_conf_file_is_found_beside_the_scenario(tmp_path: Path) -> None:
    """Paths in a scenario are relative to it."""
    (tmp_path / "redis.conf").write_text("# ours\nhz 50\n")
    block = DESIGN_EXAMPLE[DESIGN_EXAMPLE.index("    conf: |") : DESIGN_EXAMPLE.index("datasets:")]
    path = tmp_path / "s.yaml"
    path.write_text(DESIGN_EXAMPLE.replace(block, "    conf_file: redis.conf\n"))
    assert load(path).confs["main"].get("hz") == 50
    (tmp_path / "redis.conf").write_text("# ours\nhz many\n")
    with pytest.raises(ScenarioError, match=r"s\.yaml:11: .*redis\.conf:2: hz"):
        load(path)


# ---- YAML 1.2 --------------------------------------------------------------------------------------------


def test_yes_no_and_on_stay_words() -> None:
    """YAML 1.2.2 section 10.3: only true and false are booleans in the core schema."""
    scenario = Scenario.from_text(DESIGN_EXAMPLE.replace("question: How long does one KEYS on a", "finding: no\nquestion: A"))
    assert scenario.file.finding == "no"


@pytest.mark.parametrize(("written", "keys"), [("1e6", 1_000_000), ("0x10", 16), ("1_000", 1000), ("0", 0)])
def test_whole_numbers_may_be_written_as_planners_write_them(written: str, keys: int) -> None:
    """Ours: a float with an exponent that is whole counts as whole, so 1e6 keys is a million."""
    text = DESIGN_EXAMPLE.replace("keys: 1000000", f"keys: {written}")
    text = text.replace("    keys: {dataset: users, popularity: {zipf: 0.99}}\n", "").replace("{GET: 0.9, SET: 0.1}", "{PING: 1}")
    assert Scenario.from_text(text).file.datasets["users"].keys == keys


def test_a_version_without_quotes_is_read_as_it_looks() -> None:
    """YAML reads 7.0 as a float; its text is still one of the versions."""
    scenario = Scenario.from_text(DESIGN_EXAMPLE.replace('"7.0"', "7.0"))
    assert scenario.file.nodes["main"].version == "7.0"


@pytest.mark.parametrize(("block", "line"), [("|", 13), ("|-", 13), ("|2", 13)])
def test_a_line_of_the_conf_block_has_the_scenario_files_number(block: str, line: int) -> None:
    """A user looks for the line in the file that is open in the editor."""
    text = DESIGN_EXAMPLE.replace("conf: |  ", f"conf: {block}  ").replace("appendonly no", "appendonly nope")
    assert error_of(text).startswith(f"<scenario>:{line}: appendonly")


def test_a_conf_in_quotes_says_the_line_of_the_key_and_its_own() -> None:
    """Ours: a quoted text has no lines of its own in the file."""
    block = DESIGN_EXAMPLE[DESIGN_EXAMPLE.index("    conf: |") : DESIGN_EXAMPLE.index("datasets:")]
    text = DESIGN_EXAMPLE.replace(block, '    conf: "hz 10\\nhz many"\n')
    assert error_of(text).startswith("<scenario>:11 nodes.main.conf:2: hz")


def test_the_first_fault_in_the_file_is_said_and_the_others_are_counted() -> None:
    """Ours: one sentence; the cause (a key that is misspelt) before the effect (a key that is missing)."""
    text = DESIGN_EXAMPLE.replace("connections: 50", "connections: 0").replace("keys: 1000000", "keys: -1")
    assert error_of(text).startswith("<scenario>:15: datasets.users.keys is -1")
    assert error_of(text).endswith("(and 1 more fault)")
    assert "'node'" in error_of(DESIGN_EXAMPLE.replace("    node: main\n", "    nodee: main\n"))


def test_where_names_the_line_of_a_key_or_of_its_nearest_parent() -> None:
    """Errors raised later (command names, key types) still point into the file."""
    scenario = Scenario.from_text(DESIGN_EXAMPLE)
    assert scenario.where("clients", "api", "commands", "GET") == "<scenario>:22"
    assert scenario.where("clients", "api", "retries", "max") == "<scenario>:17"
    assert scenario.where("timeline", 0, "run") == "<scenario>:25"
    assert scenario.where() == "<scenario>:1"
    assert with_override("seed=7").where("seed") == "<scenario>: --set seed=7"


# ---- overrides -------------------------------------------------------------------------------------------


def test_overrides_change_what_the_file_says_before_it_is_checked() -> None:
    """DESIGN section 5: `--set nodes.main.conf.appendfsync=always`."""
    scenario = with_override(
        "seed=7",
        "nodes.main.conf.appendfsync=always",
        "clients.api.arrivals.open.rate_per_s=50000",
        "datasets.users.keys=1000",
        "timeline.0.at=5s",
    )
    assert scenario.file.seed == 7
    assert scenario.confs["main"].get("appendfsync") == "always"
    offered = scenario.file.clients["api"].arrivals.open
    assert offered is not None
    assert offered.rate_per_s == 50_000
    assert scenario.file.datasets["users"].keys == 1000
    assert scenario.file.timeline[0].at == 5 * S
    assert scenario.overrides[0] == "seed=7"


def test_an_override_reaches_what_the_file_leaves_to_defaults_or_writes_short() -> None:
    """Ours: the schema knows the path even where the file is silent, and a weight takes its long form."""
    scenario = with_override(
        "clients.api.timeout=100ms",
        "clients.api.retries.max=2",
        "clients.api.commands.MGET.weight=0.5",
        "clients.api.commands.MGET.keys=10",
        "clients.api.commands.GET.keys=1",
        "datasets.users.value_bytes.uniform=[10, 20]",
    )
    group = scenario.file.clients["api"]
    assert (group.timeout, group.retries.max) == (100 * MS, 2)
    assert (group.commands["MGET"].keys, group.commands["GET"].weight) == (10, 0.9)
    size = scenario.file.datasets["users"].value_bytes
    assert size.uniform is not None
    assert (size.uniform.low, size.uniform.high) == (10, 20)


def test_the_last_override_wins_also_in_redis_conf() -> None:
    """As for arguments of redis-server: the later one counts."""
    scenario = with_override("seed=2", "seed=3", "nodes.main.conf.hz=20", "nodes.main.conf.hz=30")
    assert scenario.file.seed == 3
    assert scenario.confs["main"].get("hz") == 30


@pytest.mark.parametrize(("override", "words"), [
    ("seed", ["path.to.key=value"]),
    ("sed=7", ["'sed'", "'seed'"]),
    ("clients.apy.pipeline=2", ["'apy'", "'api'"]),
    ("clients.api.pipe=2", ["'pipe'", "'pipeline'"]),
    ("datasets.more.keys=5", ["'more'", "users"]),
    ("timeline.3.at=1s", ["timeline", "0 to 0"]),
    ("seed.x=1", ["seed is 1", "nothing inside"]),
    ("seed=lucky", ["seed is 'lucky'", "whole number"]),
    ("duration=5", ["'5'", "1.5s"]),
    ("nodes.mian.conf.hz=10", ["'mian'", "'main'"]),
    ("nodes.main.conf.hzz=10", ["hzz", "'hz'"]),
    ("nodes.main.conf.appendfsync=alwys", ["alwys", "'always'"]),
    ("seed=[", ["YAML"]),
    ("sentinels=[]", ["sentinels is a list", "hosts"]),
])  # fmt: skip
def test_a_wrong_override_is_named_with_its_cure(override: str, words: list[str]) -> None:
    """Ours: the error quotes the override as it was written."""
    sentence = error_of(DESIGN_EXAMPLE, override)
    assert f"--set {override}" in sentence or f"--set '{override}'" in sentence
    assert all(word in sentence for word in words), sentence


def test_an_override_can_break_what_the_file_had_right() -> None:
    """Checks run after overrides: the timeline's entry at 10 s no longer fits."""
    assert error_of(DESIGN_EXAMPLE, "duration=5s").startswith("<scenario>:25: timeline.0")


# ---- sizes and seeds -------------------------------------------------------------------------------------


def test_smoke_tells_the_same_story_in_two_seconds() -> None:
    """STYLE rule 12: tests run every scenario in smoke size; all times keep their proportions."""
    text = DESIGN_EXAMPLE.replace(
        "arrivals: {open: {rate_per_s: 20000}}",
        "arrivals: {open: {schedule: [{at: 0s, rate_per_s: 5}, {at: 10s, rate_per_s: 9}]}}\n"
        "    start: 1s\n    stop: 19s\n    timeout: 100ms",
    )
    smoke = Scenario.from_text(text).smoke()
    file = smoke.file
    assert (file.duration, file.warmup, file.timeline[0].at) == (SMOKE_NS, SMOKE_NS // 10, SMOKE_NS // 2)
    group = file.clients["api"]
    assert group.arrivals.open is not None
    assert group.arrivals.open.schedule is not None
    assert [p.at for p in group.arrivals.open.schedule] == [0, SMOKE_NS // 2]
    assert [p.rate_per_s for p in group.arrivals.open.schedule] == [5, 9]
    assert (group.start, group.stop, group.timeout) == (SMOKE_NS // 20, SMOKE_NS * 19 // 20, 100 * MS)
    assert file.datasets["users"].keys == 100_000
    assert smoke.smoke() is smoke


def test_smoke_leaves_a_small_scenario_alone() -> None:
    """Nothing to shrink: the same object."""
    scenario = with_override("duration=1s", "warmup=0s", "timeline.0.at=500ms", "datasets.users.keys=10")
    assert scenario.smoke() is scenario


def test_with_seed_changes_the_seed_and_nothing_else() -> None:
    """Repeats of a run differ in their seed only."""
    scenario = Scenario.from_text(DESIGN_EXAMPLE)
    other = scenario.with_seed(9)
    assert other.file.seed == 9
    assert other.file.model_copy(update={"seed": 1}) == scenario.file
    with pytest.raises(ScenarioError, match="seed -1"):
        scenario.with_seed(-1)


def test_a_scenario_survives_the_trip_to_another_process() -> None:
    """Sweeps hand scenarios to worker processes."""
    scenario = Scenario.from_text(DESIGN_EXAMPLE)
    copy = pickle.loads(pickle.dumps(scenario))
    assert copy.file == scenario.file
    assert copy.where("seed") == scenario.where("seed")


# ---- captures --------------------------------------------------------------------------------------------


def test_a_group_takes_its_commands_from_a_saved_info_or_monitor() -> None:
    """The recorded files of tests/recorded, by group name."""
    text = DESIGN_EXAMPLE.replace("commands: {GET: 0.9, SET: 0.1}", "commands_from_info: info-all-7.0.15.txt")
    scenario = Scenario.from_text(text, base=RECORDED)
    assert "GET" in scenario.infos["api"].mix()
    text = DESIGN_EXAMPLE.replace("    commands: {GET: 0.9, SET: 0.1}\n", "").replace(
        "{open: {rate_per_s: 20000}}", "{trace: {monitor: monitor-7.0.15.txt, speed: 2}}"
    )
    scenario = Scenario.from_text(text, base=RECORDED)
    assert len(scenario.traces["api"]) == 7040
    assert scenario.infos == {}
