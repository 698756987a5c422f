"""INFO and MONITOR of a real server are read back exactly. Recordings: tests/recorded/README.md."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from redsim.scenario.errors import ScenarioError
from redsim.scenario.info import parse_info, parse_info_file
from redsim.scenario.monitor import MonitorCapture, parse_monitor, parse_monitor_file, request_bytes

RECORDED = Path(__file__).parent / "recorded"
INFO = RECORDED / "info-all-7.0.15.txt"
MONITOR = RECORDED / "monitor-7.0.15.txt"


def one(arguments: str, client: str = "0 127.0.0.1:60866") -> MonitorCapture:
    return parse_monitor([f"1339518083.107412 [{client}] {arguments}\n"], "m.txt")


# ---- INFO ------------------------------------------------------------------------------------------------


def test_info_of_a_real_7_0_15_has_its_sections_and_fields() -> None:
    """Recorded: INFO all, CRLF as the server sends it."""
    assert b"\r\n" in INFO.read_bytes()
    capture = parse_info_file(INFO)
    assert capture.sections["Server"]["redis_version"] == "7.0.15"
    assert capture.sections["Clients"]["maxclients"] == "10000"
    assert capture.sections["Modules"] == {}
    assert capture.sections["Keyspace"]["db0"].startswith("keys=1093,")


def test_commandstats_of_a_real_server_are_read_to_the_digit() -> None:
    """Recorded: evalsha:calls=6,usec=219,usec_per_call=36.50,rejected_calls=0,failed_calls=1."""
    stats = {stat.name: stat for stat in parse_info_file(INFO).commandstats}
    evalsha = stats["evalsha"]
    assert (evalsha.calls, evalsha.usec, evalsha.usec_per_call) == (6, 219, 36.5)
    assert (evalsha.rejected_calls, evalsha.failed_calls) == (0, 1)
    assert stats["config|resetstat"].calls == 1
    assert all(stat.usec_per_call == pytest.approx(stat.usec / stat.calls, abs=0.005) for stat in stats.values())


def test_mix_is_the_share_of_the_data_commands_and_their_cost() -> None:
    """Recorded: GET 6498 calls, 19857 us; CONFIG, SCRIPT and MONITOR are left out."""
    mix = parse_info_file(INFO).mix()
    assert sum(weight for weight, _ in mix.values()) == pytest.approx(1)
    assert mix["GET"][1] == 19857 * 1000 // 6498
    assert 0.4 < mix["GET"][0] < 0.45
    assert not {"CONFIG|RESETSTAT", "SCRIPT|LOAD", "MONITOR"} & set(mix)


def test_mix_keeps_ping_and_leaves_out_transaction_brackets() -> None:
    """EXEC's usec is that of the commands it ran, which are counted under their own names."""
    lines = [f"cmdstat_{name}:calls=2,usec=10,usec_per_call=5.00" for name in ("ping", "multi", "exec", "set")]
    assert parse_info("\n".join(lines), "i").mix() == {"PING": (0.5, 5000), "SET": (0.5, 5000)}


def test_a_commandstat_without_rejected_calls_is_read_as_6_0_printed_it() -> None:
    """Redis 6.0 and older: calls, usec, usec_per_call only."""
    (stat,) = parse_info("# Commandstats\ncmdstat_GET:calls=3,usec=6,usec_per_call=2.00\n", "i").commandstats
    assert (stat.name, stat.calls, stat.rejected_calls, stat.failed_calls) == ("get", 3, 0, 0)


def test_the_difference_of_two_captures_is_what_happened_between_them() -> None:
    """Ours: counters subtract, commands that were not called between them are gone."""
    earlier = parse_info("cmdstat_get:calls=3,usec=6,usec_per_call=2.00\ncmdstat_set:calls=1,usec=9,usec_per_call=9", "a")
    later = parse_info("cmdstat_get:calls=5,usec=16,usec_per_call=3.20\ncmdstat_set:calls=1,usec=9,usec_per_call=9", "b")
    (stat,) = later.delta(earlier).commandstats
    assert (stat.name, stat.calls, stat.usec, stat.usec_per_call) == ("get", 2, 10, 5.0)
    with pytest.raises(ScenarioError, match=r"^a:1: cmdstat_get counts less than in b"):
        earlier.delta(later)


@pytest.mark.parametrize(("text", "line", "word"), [
    ("", 1, "no INFO fields"),
    ("# Server\r\n", 1, "no INFO fields"),
    ("# Server\na:b\nhello there\n", 3, "hello there"),
    ("cmdstat_get:calls=1\n", 1, "usec="),
    ("\n\ncmdstat_get:calls=-1,usec=1,usec_per_call=1.00\n", 3, "calls=-1"),
    ("cmdstat_get:calls=1.5,usec=1,usec_per_call=1.00\n", 1, "whole number"),
    ("cmdstat_get:calls=99999999999999999999,usec=1,usec_per_call=1.00\n", 1, "calls="),
    ("cmdstat_a:calls=1,usec=1,usec_per_call=1\ncmdstat_A:calls=1,usec=1,usec_per_call=1\n", 2, "twice"),
])  # fmt: skip
def test_what_info_never_prints_is_refused_with_its_line(text: str, line: int, word: str) -> None:
    """Ours: garbage is not read as zeros."""
    with pytest.raises(ScenarioError) as caught:
        parse_info(text, "i.txt")
    assert str(caught.value).startswith(f"i.txt:{line}: ")
    assert word in str(caught.value)


# ---- MONITOR ---------------------------------------------------------------------------------------------


def test_monitor_of_a_real_7_0_15_is_read_to_the_last_line() -> None:
    """Recorded: 7,041 lines, the first of which is OK; counted apart with a plain split."""
    capture = parse_monitor_file(MONITOR)
    lines = MONITOR.read_bytes().split(b"\n")[1:-1]
    assert len(capture) == len(lines) == 7040
    plain = Counter(line.split(b'"')[1].upper().decode() for line in lines)
    read = Counter(capture.names[code].partition("|")[0] for code in capture.command)
    assert read == plain
    assert len(capture.clients) == 6
    assert capture.last_line_cut is False
    assert capture.span_ns == 8_987_212_000
    assert np.all(np.diff(capture.time_ns) >= 0)


def test_a_scripts_own_calls_belong_to_no_client() -> None:
    """Recorded: 5 runs of a script that calls INCR and GET show as `[0 lua]`."""
    capture = parse_monitor_file(MONITOR)
    assert int((capture.client == -1).sum()) == 10
    assert {capture.names[code] for code in capture.command[capture.client == -1]} == {"INCR", "GET"}


def test_escaped_bytes_count_as_the_bytes_they_stand_for() -> None:
    r"""Recorded: SET of key `bin:\x01` to the 12 bytes 00 ff "quoted" backslash newline."""
    capture = parse_monitor_file(MONITOR)
    key = capture.keys.index(b"bin:\x01")
    (at,) = np.flatnonzero((capture.key == key) & (capture.command == capture.names.index("SET")))
    assert capture.value_bytes[at] == len(b'\x00\xff"quoted"\\\n')
    assert capture.request_bytes[at] == request_bytes([3, 5, 12])


def test_a_set_of_16_and_100_bytes_is_144_bytes_of_resp() -> None:
    """The RESP encoding by hand: 4 + 9 + 23 + 108."""
    capture = one(f'"SET" "{"k" * 16}" "{"v" * 100}"')
    assert (capture.request_bytes[0], capture.argc[0], capture.value_bytes[0]) == (144, 3, 100)
    resp = b"*2\r\n$3\r\nGET\r\n$1024\r\n" + b"k" * 1024 + b"\r\n"
    assert one(f'"GET" "{"k" * 1024}"').request_bytes[0] == len(resp)


@pytest.mark.parametrize(("arguments", "key"), [
    ('"GET" "a"', b"a"),
    ('"get" ""', b""),
    ('"PING"', None),
    ('"FLUSHALL" "ASYNC"', None),
    ('"PUBLISH" "channel" "text"', None),
    ('"EVAL" "return 1" "0"', None),
    ('"EVALSHA" "abc" "1" "k" "x"', b"k"),
    ('"OBJECT" "ENCODING" "k"', b"k"),
    ('"BITOP" "AND" "dest" "a"', b"dest"),
    ('"ZUNION" "2" "a" "b"', b"a"),
    ('"XREADGROUP" "GROUP" "g" "c" "STREAMS" "s" ">"', b"s"),
    ('"SET" "a b" "c"', b"a b"),
    ('"SET" "a\\" \\"b" "c"', b'a" "b'),
    ('"SET" "\\x00\\xfF\\n\\r\\t\\a\\b\\\\" "c"', b"\x00\xff\n\r\t\a\b\\"),
])  # fmt: skip
def test_the_first_key_is_where_the_command_has_it(arguments: str, key: bytes | None) -> None:
    """Redis' own key specifications (COMMAND DOCS), for the commands of several shapes."""
    capture = one(arguments)
    assert (capture.keys[capture.key[0]] if capture.key[0] >= 0 else None) == key


@pytest.mark.parametrize(("arguments", "value_bytes", "elements"), [
    ('"SET" "k" "12345" "EX" "10"', 5, 1),
    ('"SETEX" "k" "10" "1234"', 4, 1),
    ('"MSET" "a" "1234" "b" "12"', 3, 2),
    ('"MGET" "a" "b" "c"', -1, 3),
    ('"DEL" "a" "b"', -1, 2),
    ('"LPUSH" "l" "1" "333"', 2, 2),
    ('"HSET" "h" "f" "12345678" "g" "12"', 5, 2),
    ('"ZADD" "z" "GT" "CH" "1" "member"', 6, 1),
    ('"LRANGE" "l" "0" "-1"', -1, 1),
    ('"SET" "k"', -1, 1),
])  # fmt: skip
def test_values_and_elements_are_counted_where_the_command_has_them(arguments: str, value_bytes: int, elements: int) -> None:
    """Redis' command syntax; a mean where a call writes several values."""
    capture = one(arguments)
    assert (capture.value_bytes[0], capture.elements[0]) == (value_bytes, elements)


@pytest.mark.parametrize("client", ["0 127.0.0.1:60866", "15 [::1]:6379", "0 unix:/run/redis.sock", "0 ?:0"])
def test_every_form_of_client_is_read(client: str) -> None:
    """networking.c:getClientPeerId: IPv4, IPv6, a unix socket's path, unknown."""
    assert one('"GET" "a"', client).clients == (client.split(" ", 1)[1],)


def test_a_redacted_argument_is_an_argument() -> None:
    """Secrets are printed as (redacted), in quotes or bare."""
    assert one('"auth" "(redacted)"').argc[0] == 2
    assert one('"config" "set" "requirepass" (redacted)').argc[0] == 4


def test_times_count_from_the_first_command_in_ns() -> None:
    """Microseconds in the text, integer nanoseconds inside."""
    lines = [
        "OK",
        '1.000001 [0 1:1] "PING"',
        '1.000002 [0 1:1] "PING"',
        '2.5 [0 1:1] "PING"'.replace("2.5", "2.500000"),
    ]
    assert parse_monitor(lines, "m").time_ns.tolist() == [0, 1000, 1_499_999_000]


@pytest.mark.parametrize(("lines", "line", "word"), [
    ([], 1, "no commands"),
    (["OK\n"], 1, "no commands"),
    (["OK\n", "hello\n"], 2, "hello"),
    (['1.000001 [0 a:1] "GET\n'], 1, "not a line of MONITOR"),
    (['1.000001 [0 a:1] "GET" x "y"\n'], 1, "not a line of MONITOR"),
    (['1.000001 [0 a:1] "GET" "\\q"\n'], 1, "not a line of MONITOR"),
    (['1.000001 [0 a:1] ""\n'], 1, "not a line of MONITOR"),
    (['1.01 [0 a:1] "GET"\n'], 1, "not a line of MONITOR"),
    (['2.000000 [0 a:1] "GET"\n', '1.000000 [0 a:1] "GET"\n'], 2, "goes back by 1000000 us"),
    (['1.000000 [0 a:1] "GET"\n', '99999999.000000 [0 a:1] "GET"\n'], 2, "year"),
    (["x" * 500], 1, "…"),
])  # fmt: skip
def test_what_monitor_never_prints_is_refused_with_its_line(lines: list[str], line: int, word: str) -> None:
    """Ours: a capture with a hole in it is not a capture."""
    with pytest.raises(ScenarioError) as caught:
        parse_monitor(lines, "m.txt")
    assert str(caught.value).startswith(f"m.txt:{line}: ")
    assert word in str(caught.value)
    assert len(str(caught.value)) < 160


def test_a_last_line_cut_by_ctrl_c_is_left_out_and_said(tmp_path: Path) -> None:
    """redis-cli writes through a buffer; a stopped capture often ends inside a line."""
    path = tmp_path / "m.txt"
    path.write_bytes(b'OK\n1.000001 [0 a:1] "GET" "k"\n1.000002 [0 a:1] "GET" "cut')
    capture = parse_monitor_file(path)
    assert (len(capture), capture.last_line_cut) == (1, True)


def test_a_capture_costs_memory_by_command_not_by_text() -> None:
    """100,000 commands of 1 KB each are read from a stream into some 40 bytes a command."""
    line = '1.000001 [0 a:1] "SET" "k" "' + "v" * 1000 + '"\n'
    capture = parse_monitor((line for _ in range(100_000)), "m")
    columns = [getattr(capture, name) for name in capture.__dataclass_fields__]
    assert sum(c.nbytes for c in columns if isinstance(c, np.ndarray)) <= 40 * 100_000
    assert (len(capture.keys), len(capture.names), len(capture.clients)) == (1, 1, 1)
