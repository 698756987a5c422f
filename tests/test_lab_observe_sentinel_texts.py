"""What redis-cli prints of SENTINEL MASTERS, REPLICAS and SENTINELS, whole or not, and a sentinel.conf, which tells no secret."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentinel_example import ADDRESSES, CONF, FORMS, HAND_WRITTEN, RUN_ID, SECRETS, bare, master, replica, sentinel, tty

from redsim.lab.observe_files import kind_of
from redsim.lab.sentinel_texts import is_sentinel_text, records_of
from redsim.lab.sentinel_words import conf_without_secrets
from redsim.scenario.errors import ScenarioError

RECORDED = Path(__file__).parent / "recorded"


# ---- redis-cli's forms ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_output_is_the_same_records(form: str) -> None:
    """RESP2 and RESP3, on a terminal and into a file; a run id not known yet is an empty word."""
    rows = [master("cache", runid="", port=7000), master(), replica(1), sentinel(ADDRESSES[1], "d4" * 20)]
    text = FORMS[form](rows)
    assert kind_of(text.encode()) == "sentinel-text"
    found = records_of(text, "m.txt")
    assert [one.fields for one in found] == rows
    assert [one.kind for one in found] == ["master", "master", "slave", "sentinel"]


@pytest.mark.parametrize("form", ["bare", "tty", "tty-resp3"])
def test_prompts_between_outputs_are_passed_over(form: str) -> None:
    """As an operator copies them off a terminal."""
    print_as = FORMS[form]
    outputs = {"MASTERS": print_as([master()]), "replicas mymaster": print_as([replica(1)])}
    text = "".join(f"127.0.0.1:26379> sentinel {what}\n{printed}" for what, printed in outputs.items())
    assert [one.fields for one in records_of(text, "m.txt")] == [master(), replica(1)]


@pytest.mark.parametrize("form", FORMS)
def test_an_output_that_is_cut_off_is_said_with_file_and_line(form: str) -> None:
    """At whichever line; the last one gone is enough. Nothing of an address is told."""
    lines = FORMS[form]([master(flags="s_down,master")]).splitlines(keepends=True)
    lines = lines if len(lines) > 1 else [lines[0][i : i + 40] for i in range(0, len(lines[0]), 40)]
    for end in range(1, len(lines)):
        text = "".join(lines[:end])
        with pytest.raises(ScenarioError) as caught:
            records_of(text, "some/m.txt")
        assert str(caught.value).startswith("some/m.txt:")
        assert "redis-cli -p 26379 SENTINEL MASTERS > m.txt" in str(caught.value)
        assert not [one for one in (*ADDRESSES, RUN_ID) if one in str(caught.value)]
    with pytest.raises(ScenarioError, match=r"some/m\.txt:"):
        records_of("".join(lines[2:]), "some/m.txt")


@pytest.mark.parametrize(("changed", "words"), [
    ({"quorum": "two"}, "quorum is not a whole number"),
    ({"quorum": 0}, "quorum is not a whole number"),
    ({"down_after_milliseconds": 2**31}, "down-after-milliseconds is not a whole number"),
    ({"flags": "s_down"}, "its flags are of no master"),
    ({"name": "my master"}, "the name of a master"),
])  # fmt: skip
def test_fields_that_redis_would_not_print_are_refused(changed: dict[str, Any], words: str) -> None:
    """One sentence with file and line."""
    fields = master() | {key.replace("_", "-"): str(value) for key, value in changed.items()}
    with pytest.raises(ScenarioError, match=rf"m\.txt:\d+: .*{words}"):
        records_of(tty([fields]), "m.txt")


@pytest.mark.parametrize("missing", ["name", "quorum", "flags"])
def test_a_json_record_that_lacks_a_field_is_one_sentence(missing: str) -> None:
    """File and line; the cure names the file alone."""
    fields = master()
    del fields[missing]
    with pytest.raises(ScenarioError, match=rf"^some/f\.json:1: .*{missing}.* > f\.json$"):
        records_of(json.dumps([fields]), "some/f.json")


def test_other_texts_are_not_taken_for_sentinels() -> None:
    """Recordings of what else redis-cli prints, and a redis.conf."""
    for path in RECORDED.glob("*.txt"):
        assert not is_sentinel_text(path.read_text(encoding="utf-8", errors="replace")), path.name
    assert kind_of(b"maxmemory 1gb\nhz 10\n# sentinel monitor is elsewhere\n") == "conf"
    assert kind_of(CONF.encode()) == "sentinel-conf"


# ---- sentinel.conf -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [
    "sentinel auth-pass mymaster {0} {0}", "sentinel auth-pass {0} mymaster", "sentinel auth-pass mymaster \"{0}",
    "sentinel {0} x", "sentinel monitor {0} {1} 6379 2", "sentinel monitor two {0} {1} 2", "sentinel monitor two {1} {0} 2",
    "sentinel monitor two {0}", "sentinel known-replica mymaster {1} {0}", "sentinel known-replica {1} 6379",
    "sentinel known-sentinel mymaster {1} 1 {0}\n" * 2, "sentinel known-replica mymaster {1} 5\n" * 2, "sentinel myid {0}",
    "sentinel rename-command mymaster GET {0}\n" * 2, "sentinel announce-port {1}", "sentinel deny-scripts-reconfig {1}",
    "sentinel current-epoch {0}", "requirepass {0} {0}", "sentinel monitor two {1} 7 1\nsentinel monitor three {1} 7 1",
    "user {0} on >{0}", "sentinel sentinel-user {0} {0}",
])  # fmt: skip
def test_no_error_of_a_sentinel_conf_quotes_a_secret(line: str) -> None:
    """A word in the wrong place may be a password, an address or an id."""
    secret, address = "pw,of.m/1e6", "10.7.0.8"
    text = HAND_WRITTEN + line.format(secret, address)
    said = refusal_of(text)
    assert secret not in said
    assert address not in said
    assert said.startswith("s.conf:") or said == ""


def refusal_of(text: str) -> str:
    """Why it is refused, "" if it is not."""
    try:
        conf_without_secrets(text, "s.conf")
    except ScenarioError as error:
        return str(error)
    return ""


# ---- anything at all -----------------------------------------------------------------------------------------------

LINES = [
    *CONF.splitlines(),
    *bare([master(), replica(1)]).splitlines(),
    *tty([master()]).splitlines(),
    "",
    '"',
    "sentinel",
    "name",
    "name x",
]
TEXT = st.lists(st.sampled_from(LINES) | st.text(max_size=6), max_size=60).map("\n".join)


@settings(max_examples=150, deadline=None)
@given(TEXT)
def test_random_text_is_records_or_one_sentence(text: str) -> None:
    """Fuzz: lines of both kinds in any order; a sentence quotes no address and no secret."""
    for read in (records_of, conf_without_secrets):
        with contextlib.suppress(ScenarioError):
            read(text, "f.txt")
    said = refusal_of(text)
    assert not [one for one in (*SECRETS, *ADDRESSES, RUN_ID) if one in said]
