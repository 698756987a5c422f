"""redis.conf: the grammar, the table of directives, and what is said about each line.

Claims about 7.0 are asked of a real redis-server 7.0.15 where one is installed (marked `real`).
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from redsim.scenario.directives import VERSIONS, known_names, split_args, table
from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.redis_conf import RedisConf, parse_conf, parse_conf_file

STOCK = Path("/etc/redis/redis.conf")


def conf(text: str, version: str = "7.0") -> RedisConf:
    return parse_conf(text, version=version)


def refusal(text: str, version: str = "7.0", **more: Any) -> str:
    with pytest.raises(ScenarioError) as caught:
        parse_conf(text, version=version, **more)
    return str(caught.value)


# ---- grammar -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a b", ("a", "b")),
        ("\ta \t b\r", ("a", "b")),
        ('a "b c" d', ("a", "b c", "d")),
        (r'a "\x41\n\"\q"', ("a", 'A\n"q')),
        (r"a 'b\'c\n'", ("a", r"b'c\n")),
        ('a ""', ("a", "")),
        ('a b"c d"', ("a", "bc d")),
        ("a b#c", ("a", "b#c")),
    ],
)
def test_words_are_split_as_sdssplitargs_does(line: str, words: tuple[str, ...]) -> None:
    """sds.c:sdssplitargs, 7.0.15."""
    assert split_args(line) == words


@pytest.mark.parametrize("line", ['a "b', "a 'b", 'a "b"c', "a 'b'c", 'a "b\\"'])
def test_unbalanced_quotes_are_refused_with_their_line(line: str) -> None:
    """sds.c:sdssplitargs: a closing quote is followed by white space or nothing."""
    assert refusal(f"hz 10\n{line}").startswith("redis.conf:2: unbalanced quotes")


def test_comments_start_only_at_the_start_of_a_line() -> None:
    """config.c:loadServerConfigFromString: `#` after a directive is one more argument."""
    assert conf("# hz 99\n   # hz 98\n\n\t hz 20").get("hz") == 20
    assert refusal("hz 10 # fast") == "redis.conf:1: hz takes one value, not 3"


def test_names_and_words_are_taken_in_any_case() -> None:
    """config.c: sdstolower on the name, strcasecmp on yes/no and enum words."""
    parsed = conf("APPENDONLY Yes\nMaxMemory-Policy ALLKEYS-LRU")
    assert (parsed.get("appendonly"), parsed.get("maxmemory-policy")) == (True, "allkeys-lru")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1),
        ("1b", 1),
        ("1k", 1000),
        ("1kb", 1024),
        ("1M", 10**6),
        ("1Mb", 2**20),
        ("1g", 10**9),
        ("1GB", 2**30),
        ("010", 10),
    ],
)
def test_memory_units_are_decimal_or_binary(text: str, count: int) -> None:
    """util.c:memtoull; leading zeros are fine in a memory size."""
    assert conf(f"maxmemory {text}").get("maxmemory") == count


def test_leading_zeros_are_no_whole_number() -> None:
    """util.c:string2ll takes neither leading zeros nor a plus sign."""
    for text in ("010", "+10", "10.0", "1e3", "", "٣"):
        assert "must be a whole number" in refusal(f'hz "{text}"')


def test_maxmemory_clients_takes_a_percentage() -> None:
    """config.c: PERCENT_CONFIG, kept as a negative number."""
    assert conf("maxmemory-clients 5%").get("maxmemory-clients") == -5
    assert conf("maxmemory-clients 64mb").get("maxmemory-clients") == 64 * 2**20
    assert "between 0 and 100" in refusal("maxmemory-clients 101%")
    assert "memory size" in refusal("maxmemory 5%")


def test_unixsocketperm_is_octal() -> None:
    """config.c: OCTAL_CONFIG, 0..0777."""
    assert conf("unixsocketperm 700").get("unixsocketperm") == 0o700
    assert "octal" in refusal("unixsocketperm 888")
    assert "between" in refusal("unixsocketperm 1000")


def test_save_adds_up_and_the_empty_one_clears() -> None:
    """config.c:setConfigSaveOption: the first line replaces the defaults, `save ""` drops all before it."""
    assert conf("").get("save") == ((3600, 1), (300, 100), (60, 10000))
    assert conf("save 900 1\nsave 60 10 30 5").get("save") == ((900, 1), (60, 10), (30, 5))
    assert conf('save 900 1\nsave ""').get("save") == ()
    assert conf('save ""\nsave 900 1').get("save") == ((900, 1),)
    assert conf('save "900 1 60 10"').get("save") == ((900, 1), (60, 10))
    for bad in ("save 900", "save 0 1", "save 60 -1", "save a b"):
        assert refusal(bad).startswith("redis.conf:1: save ")
    assert conf("save").get("save") == ()
    assert "write a line for each pair" in refusal("save 900 1 60 10", "6.2")


def test_output_buffer_limits_change_only_the_classes_named() -> None:
    """config.c:updateClientOutputBufferLimit; `slave` is the old word for replica."""
    limits = conf("client-output-buffer-limit slave 1gb 512mb 30").get("client-output-buffer-limit")
    assert limits == {"normal": (0, 0, 0), "replica": (2**30, 2**29, 30), "pubsub": (2**25, 2**23, 60)}
    assert "not 'master'" in refusal("client-output-buffer-limit master 0 0 0")


def test_the_last_line_wins_and_the_others_are_said_to_be_overridden() -> None:
    parsed = conf("hz 20\nhz 50")
    assert parsed.get("hz") == 50
    assert [(r.status, r.says[:10]) for r in parsed.report()] == [
        ("accepted", "overridden"),
        ("modelled", "serverCron"),
    ]


def test_hz_is_clamped_as_redis_does() -> None:
    """config.c: `hz` out of range is brought into 1..500 after loading; Valkey 8.0 caps io-threads at 16."""
    assert [conf(f"hz {hz}").get("hz") for hz in (0, 10, 9999)] == [1, 10, 500]
    assert [conf("io-threads 64", v).get("io-threads") for v in ("7.0", "valkey-8.0")] == [64, 16]


def test_aliases_share_one_value() -> None:
    """config.c: the second argument of create*Config."""
    pairs = {
        "slave-priority": "replica-priority", "hash-max-ziplist-entries": "hash-max-listpack-entries",
        "lua-time-limit": "busy-reply-threshold", "list-max-ziplist-size": "list-max-listpack-size",
    }  # fmt: skip
    for old, new in pairs.items():
        parsed = conf(f"{old} 7")
        assert (parsed.get(new), parsed.get(old), parsed.is_set(new)) == (7, 7, True)


def test_renames_are_kept_and_clashes_refused() -> None:
    """config.c: rename-command; an empty name removes the command."""
    parsed = conf('rename-command FLUSHALL ""\nrename-command config Secret')
    assert parsed.get("rename-command") == {"FLUSHALL": "", "CONFIG": "SECRET"}
    assert "already renamed" in refusal("rename-command GET A\nrename-command GET B")
    assert "already taken" in refusal("rename-command GET A\nrename-command SET a")


# ---- files ---------------------------------------------------------------------------------------


def test_include_is_read_in_its_place(tmp_path: Path) -> None:
    """config.c: a later line wins over the included one, the included one over an earlier line."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "b.conf").write_text("hz 40\ntimeout 9")
    (tmp_path / "parts" / "a.conf").write_text("hz 30")
    main = tmp_path / "redis.conf"
    main.write_text("timeout 1\nhz 20\ninclude parts/*.conf\ninclude nothing-*.conf\ntimeout 2")
    parsed = parse_conf_file(main, version="7.0")
    assert (parsed.get("hz"), parsed.get("timeout")) == (40, 2)
    assert [Path(line.where).name for line in parsed.lines][3:5] == ["a.conf", "b.conf"]


def test_missing_files_and_cycles_are_refused_with_their_line(tmp_path: Path) -> None:
    main = tmp_path / "redis.conf"
    main.write_text("hz 20\ninclude other.conf")
    for other, said in (
        (None, "cannot read"),
        ("include redis.conf", "includes itself"),
        ("hz x", "hz must"),
    ):
        if other is not None:
            (tmp_path / "other.conf").write_text(other)
        with pytest.raises(ScenarioError, match=said) as caught:
            parse_conf_file(main, version="7.0")
        assert str(caught.value).startswith(f"{tmp_path}/")
    with pytest.raises(ScenarioError, match="cannot read"):
        parse_conf_file(tmp_path / "absent.conf", version="7.0")
    assert "conf_file" in refusal("include other.conf")


@pytest.mark.skipif(not os.access(STOCK, os.R_OK), reason=f"no readable {STOCK} on this machine")
def test_the_stock_debian_conf_loads_verbatim() -> None:
    """Debian package redis-server 7.0.15: every line that is not a comment is reported, none is refused."""
    text = STOCK.read_text()
    said = [n for n, line in enumerate(text.split("\n"), 1) if line.strip() and not line.startswith("#")]
    report = parse_conf_file(STOCK, version="7.0").report()
    assert [entry.number for entry in report] == said
    assert {entry.status for entry in report} == {"modelled", "accepted", "not modelled yet"}
    assert {entry.directive: entry.says for entry in report}["appendfsync"].startswith("when the AOF is synced")


# ---- versions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("directive", "values"),
    [
        (
            "io-threads-do-reads",
            (False, False, False, False, True, True),
        ),  # 8.0 ignores the line: threads read
        ("repl-backlog-size", (2**20, 2**20, 2**20, 2**20, 2**20, 10 * 2**20)),
        ("repl-diskless-sync", (False, True, True, True, True, True)),
        ("lazyfree-lazy-user-del", (False, False, False, False, False, True)),
        ("replica-lazy-flush", (False, False, False, False, False, True)),
        ("acl-pubsub-default", ("allchannels", *["resetchannels"] * 5)),
        ("hash-max-listpack-entries", (512,) * 6),
        ("maxmemory-samples", (5,) * 6),
    ],
)
def test_defaults_follow_the_version(directive: str, values: tuple[Any, ...]) -> None:
    """config.c:static_configs at 6.2.16, 7.0.15, 7.2.6, 7.4.1, 8.0 and Valkey 8.0.1."""
    assert tuple(conf("", version).get(directive) for version in VERSIONS) == values


@pytest.mark.parametrize(
    ("line", "versions"),
    [
        ("set-max-listpack-entries 128", "7.2 7.4 8.0 valkey-8.0"),
        ("latency-tracking yes", "7.0 7.2 7.4 8.0 valkey-8.0"),
        ("hash-max-listpack-entries 128", "7.0 7.2 7.4 8.0 valkey-8.0"),
        ("hash-max-ziplist-entries 128", "6.2 7.0 7.2 7.4 8.0 valkey-8.0"),
        ("max-new-connections-per-cycle 10", "7.4 8.0 valkey-8.0"),
        ("server-cpulist 0-3", "7.4 8.0 valkey-8.0"),
        ("gopher-enabled no", "6.2"),
        ("prefetch-batch-max-size 16", "valkey-8.0"),
        ("maxmemory-samples 100", "6.2 7.0 7.2"),
        ("loglevel nothing", "7.2 7.4 8.0 valkey-8.0"),
    ],
)
def test_a_line_is_taken_only_by_the_versions_that_know_it(line: str, versions: str) -> None:
    """config.c:static_configs of each version."""
    for version in VERSIONS:
        if version in versions.split():
            assert conf(line, version).is_set(line.split()[0])
        else:
            assert refusal(line, version).startswith("redis.conf:1: ")


def test_a_directive_of_another_version_says_which_and_what_it_is_called_here() -> None:
    assert refusal("set-max-listpack-value 64") == (
        "redis.conf:1: set-max-listpack-value does not exist in Redis 7.0, only in Redis 7.2, Redis 7.4, Redis 8.0, Valkey 8.0"
    )
    assert refusal("busy-reply-threshold 1", "6.2").endswith("; here it is called lua-time-limit")
    assert refusal("hz 1", "7.1") == (
        "redis.conf: version '7.1' is unknown; use one of 6.2, 7.0, 7.2, 7.4, 8.0, valkey-8.0; did you mean '7.4'?"
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("maxmemmory 1gb", "'maxmemmory' is not a directive of Redis 7.0; did you mean 'maxmemory'?"),
        ("maxmemory-policy allkeys-lu", "did you mean 'allkeys-lru'?"),
        ("appendonly maybe", "appendonly must be yes or no, not 'maybe'"),
        ("active-expire-effort 11", "active-expire-effort must be between 1 and 10, not 11"),
        ("maxclients 0", "maxclients must be between 1 and 4294967295, not 0"),
        ("dbfilename a/b", "must be a file name without a path"),
        ("sentinel monitor m 127.0.0.1 1 2", "sentinel.conf"),
        ("down-after-milliseconds m 1", "belongs in sentinel.conf"),
        ("loadmodule a.so", "loadmodule a.so is refused: modules are not modelled"),
        ("search.timeout 5", "is a module's directive"),
        ("replicaof 10.0.0.1 6379", "use `replica_of` in the scenario"),
        ("cluster-enabled yes", "Redis Cluster is not modelled yet"),
        ("tls-port 6380", "TLS is not modelled yet"),
        ("hz\0 1", "NUL"),
        ("shutdown-on-sigterm save nosave", "save and nosave at once"),
        ("notify-keyspace-events Kq", "takes one word of the letters"),
        ("proc-title-template {nope}", "proc-title-template may hold"),
    ],
)
def test_a_bad_line_is_refused_in_one_sentence_with_its_cure(line: str, said: str) -> None:
    message = refusal(f"\n{line}", where="scenario.yaml", first_line=41)
    assert message.startswith("scenario.yaml:42: ")
    assert said in message
    assert "\n" not in message


# ---- what is said about a line --------------------------------------------------------------------


@pytest.mark.parametrize("line", ['loadmodule "a\\nb"', "hz " + "9" * 5000, "x" * 10_000, 'maxmemory-policy "\\x07"'])
def test_an_error_is_one_printable_line_of_a_readable_length(line: str) -> None:
    message = refusal(line)
    assert message.isprintable()
    assert len(message) < 500


def test_exactly_these_directives_are_modelled_now() -> None:
    """The list the model keeps; a directive joins it when it changes an answer."""
    modelled = {d.name for v in VERSIONS for d in table(v).values() if d.status == "modelled"}
    assert modelled == {
        "hz", "dynamic-hz", "maxclients", "timeout", "io-threads", "io-threads-do-reads",
        "slowlog-log-slower-than", "slowlog-max-len", "busy-reply-threshold", "lazyfree-lazy-user-del",
        "lazyfree-lazy-user-flush", "latency-monitor-threshold", "rename-command", "tcp-backlog",
        "max-new-connections-per-cycle", "active-expire-effort", "activerehashing", "lazyfree-lazy-expire",
        "maxmemory", "maxmemory-policy", "maxmemory-samples", "maxmemory-eviction-tenacity", "lazyfree-lazy-eviction",
        "lfu-decay-time", "lfu-log-factor", "hash-max-listpack-entries", "hash-max-listpack-value", "list-max-listpack-size",
        "set-max-intset-entries", "set-max-listpack-entries", "set-max-listpack-value", "zset-max-listpack-entries",
        "zset-max-listpack-value", "activedefrag", "active-defrag-cycle-max", "active-defrag-cycle-min",
        "active-defrag-ignore-bytes", "active-defrag-threshold-lower", "active-defrag-threshold-upper",
        "appendonly", "appendfsync", "aof-load-truncated", "loading-process-events-interval-bytes", "save",
        "stop-writes-on-bgsave-error", "rdbcompression", "rdb-save-incremental-fsync", "disable-thp", "oom-score-adj",
        "auto-aof-rewrite-percentage", "auto-aof-rewrite-min-size", "aof-use-rdb-preamble",
        "aof-rewrite-incremental-fsync", "no-appendfsync-on-rewrite",
        "repl-backlog-size", "repl-backlog-ttl", "repl-diskless-sync", "repl-diskless-sync-delay",
        "repl-diskless-sync-max-replicas", "repl-ping-replica-period", "repl-timeout",
        "repl-diskless-load", "dual-channel-replication-enabled", "repl-rdb-channel",
        "replica-lazy-flush", "min-replicas-to-write", "min-replicas-max-lag", "replica-serve-stale-data", "replica-priority",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "status", "says"),
    [
        ("hz 10", "modelled", "serverCron"),
        ("port 7000", "accepted", "clients"),
        ("appendonly no", "modelled", "append-only file"),
        ('save ""', "modelled", "save points"),
        ("save 60 1", "modelled", "save points"),
        ("maxmemory 1gb", "modelled", "eviction"),
        ("maxmemory-clients 0", "accepted", "off"),
        ("maxmemory-clients 1gb", "not modelled yet", "disconnected"),
        ("active-defrag-max-scan-fields 10", "accepted", "no effect while activedefrag is no"),
        ("cluster-node-timeout 5000", "accepted", "no effect while cluster-enabled is no"),
        ("tls-cert-file a.pem", "accepted", "no effect while tls-port is 0"),
        ("replicaof no one", "accepted", "off"),
        ("client-output-buffer-limit normal 0 0 0", "accepted", "off"),
        ("client-output-buffer-limit pubsub 32mb 8mb 60", "not modelled yet", "slow readers"),
        ("client-output-buffer-limit replica 1gb 1gb 60", "modelled", "too far behind"),
        ("lua-replicate-commands anything", "accepted", "ignored"),
    ],
)
def test_each_line_is_modelled_accepted_or_said_to_be_left_out(text: str, status: str, says: str) -> None:
    (entry,) = conf(text).report()
    assert (entry.number, entry.directive, entry.status) == (1, text.split()[0], status)
    assert says in entry.says


def test_what_needs_a_switch_is_left_out_only_when_it_is_on() -> None:
    entries = conf("aof-timestamp-enabled yes\nappendonly yes").report()
    assert [entry.status for entry in entries] == ["not modelled yet", "modelled"]


def test_passwords_are_not_repeated() -> None:
    report = conf("requirepass hunter2\nuser alice on >hunter2 ~* +@all").report()
    assert [entry.value for entry in report] == ["***", "alice ***"]


def test_an_override_is_the_last_word() -> None:
    """`--set nodes.main.conf.appendfsync=always`."""
    parsed = conf("hz 20\nsave 900 1\nslave-priority 5").with_override("hz", 50).with_override("save", "60 1")
    parsed = parsed.with_override("replica-priority", 9).with_override("APPENDONLY", True)
    assert (parsed.get("hz"), parsed.get("save"), parsed.get("slave-priority")) == (50, ((60, 1),), 9)
    assert parsed.get("appendonly") is True
    assert parsed.with_override("save", "").get("save") == ()
    assert [line.directive for line in parsed.lines] == ["hz", "save", "replica-priority", "appendonly"]
    with pytest.raises(ScenarioError, match=r"override hzz=1: 'hzz' is not a directive.*did you mean 'hz'"):
        parsed.with_override("hzz", 1)
    with pytest.raises(ScenarioError, match="hz must be a whole number"):
        parsed.with_override("hz", "fast")


def test_a_name_is_suggested_only_when_one_is_near() -> None:
    assert did_you_mean("ALLKEYS-LUR", ["allkeys-lru", "noeviction"]) == "; did you mean 'allkeys-lru'?"
    assert did_you_mean("zzzz", ["allkeys-lru"]) == ""


# ---- the table -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_every_row_has_a_default_a_standing_and_a_reason(version: str) -> None:
    parsed = conf("", version)
    for name, row in table(version).items():
        parsed.get(name)
        assert row.status in ("modelled", "accepted", "not modelled yet", "refused"), name
        assert row.says, name
        assert not row.needs or table(version)[row.needs].off is not None, name
        if row.off is not None:
            row.is_off(row.default(version), version)


def test_no_name_means_two_rows_in_one_version() -> None:
    """`table` is a dict; a second row of the same name would hide the first."""
    for version in VERSIONS:
        rows = {id(row): row for row in table(version).values()}.values()
        spelled = [name for row in rows for name, versions in row.names.items() if version in versions]
        assert len(spelled) == len(table(version))


HERE = {
    "port": "the fixture's own", "bind": "the fixture's own", "dir": "the fixture's own",
    "maxclients": "lowered to the limit of open files",
    "replicaof": "an empty answer stands for `no one`", "slaveof": "an empty answer stands for `no one`",
}  # fmt: skip
NOT_GETTABLE = ("include", "rename", "user", "module", "sentinel")

VALUES = (
    "yes", "No", "0", "1", "-1", "10", "010", "+1", "1.5", "5%", "101%", "-5%", "1kb", "1GB", "kb",
    '""', "700", "888", "allkeys-lru", "everysec", "default", "save now", "save nosave", "900 1",
    "900 1 60", "900 1 60 10", '"900 1 60 10"', '" "', "a b", "normal 0 0 0", "'slave 1mb 1mb 5'",
    "master 0 0 0", "normal 0 0", "KEA", "Kq", "{title}", "{port}", "{nope}", "{", "a/b", "50 99.9",
    "101", "1 2 3", "0 200 2001", "no one", "65535", "65536", "2147483647", "2147483648",
    "4294967296", "9223372036854775807", "9223372036854775808", "host.name", "host name", "", '"a"b',
    "user",
)  # fmt: skip
OF_ONE_TYPE = {
    row.type: name
    for name, row in sorted(table("7.0").items())
    if row.status != "refused" and row.type not in NOT_GETTABLE and not row.ignored
}
NAMES = sorted({*OF_ONE_TYPE.values(), "hz", "maxclients", "slowlog-log-slower-than", "maxmemory"})


class TestRealRedis:
    """Redis 7.0.15, asked."""

    @pytest.mark.real
    def test_every_directive_it_has_is_known_with_its_default(self, redis_server: Any) -> None:
        """CONFIG GET * of a server started without a redis.conf."""
        self.skip_unless_7_0(redis_server)
        answer = redis_server.cli("CONFIG", "GET", "*").split("\n")
        real = dict(zip(answer[::2], [*answer[1::2], ""], strict=False))
        assert len(real) > 150
        ours = conf("")
        for name, text in real.items():
            assert name in table("7.0"), name
            if name not in HERE:
                assert conf(f'{name} "{text}"').get(name) == ours.get(name), name

    @pytest.mark.real
    def test_it_has_every_directive_the_table_gives_it(self, redis_server: Any) -> None:
        """CONFIG GET by exact name also answers for hidden directives."""
        self.skip_unless_7_0(redis_server)
        for name, row in table("7.0").items():
            if row.type not in NOT_GETTABLE and not row.ignored:
                assert redis_server.cli("CONFIG", "GET", name).split("\n")[0] == name

    @pytest.mark.real
    def test_it_takes_every_value_we_take(self, redis_refuses: Callable[[str], bool]) -> None:
        """For one directive of each type: all the lines we take, in one file."""
        assert len(NAMES) >= 20
        for name in NAMES:
            lines = [f"{name} {value}" for value in VALUES]
            taken = [line for line in lines if not self.ours_refuses(line)]
            assert taken
            assert not redis_refuses("\n".join(taken)), taken

    @pytest.mark.real
    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(name=st.sampled_from(NAMES), value=st.sampled_from(VALUES))
    def test_it_refuses_what_we_refuse(self, redis_refuses: Callable[[str], bool], name: str, value: str) -> None:
        """A draw from the sweep below."""
        line = f"{name} {value}"
        assert redis_refuses(line) == self.ours_refuses(line)

    @pytest.mark.real
    def test_its_bounds_are_those_of_the_table(self, redis_refuses: Callable[[str], bool]) -> None:
        """Each number at both bounds, and one beyond each; past 2**63 Redis wraps and we refuse."""
        bounded = {
            row.name: (row.low, row.high)
            for row in table("7.0").values()
            if row.type in ("int", "memory") and row.low is not None and row.high is not None
        }
        assert len(bounded) > 60
        inside = [f"{name} {bound}" for name, bounds in bounded.items() for bound in bounds]
        assert not redis_refuses("\n".join(inside))
        for name, (low, high) in bounded.items():
            assert redis_refuses(f"{name} {low - 1}"), name
            assert high + 1 >= 2**63 or redis_refuses(f"{name} {high + 1}"), name

    @pytest.mark.real
    @pytest.mark.slow
    def test_it_refuses_every_value_we_refuse(self, redis_refuses: Callable[[str], bool]) -> None:
        """For one directive of each type: each line we refuse, in a file of its own."""
        for name in NAMES:
            for value in VALUES:
                line = f"{name} {value}"
                assert redis_refuses(line) == self.ours_refuses(line), line

    @staticmethod
    def skip_unless_7_0(redis_server: Any) -> None:
        if "redis_version:7.0." not in redis_server.cli("INFO", "server"):
            pytest.skip("the redis-server on PATH is not 7.0, which these claims are about")

    @staticmethod
    def ours_refuses(text: str) -> bool:
        try:
            conf(text)
        except ScenarioError:
            return True
        return False

    @pytest.mark.real
    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(words=st.lists(st.text("ab\"'\\x4 \t\v#", max_size=6), max_size=3))
    def test_it_splits_quotes_as_we_do(self, redis_refuses: Callable[[str], bool], words: list[str]) -> None:
        """syslog-ident takes any one word; what it refuses is the splitting."""
        line = "syslog-ident " + " ".join(words)
        assert redis_refuses(line) == self.ours_refuses(line)


# ---- anything at all ------------------------------------------------------------------------------

LINES = st.one_of(
    st.text(max_size=40),
    st.builds(
        lambda name, args: " ".join((name, *args)),
        st.sampled_from(sorted(known_names())),
        st.lists(
            st.one_of(
                st.sampled_from(["yes", "no", "0", "1", "-1", '""', '"', "'", "5%", "1gb", "normal", "900", "\\x", "\0"]),
                st.text(max_size=12),
                st.integers().map(str),
            ),
            max_size=5,
        ),
    ),
)


@settings(max_examples=400, deadline=None)
@given(lines=st.lists(LINES, max_size=6), version=st.sampled_from(VERSIONS), first_line=st.integers(1, 99))
@example(lines=["hz " + "9" * 5000], version="7.0", first_line=1)
@example(lines=["maxmemory " + "9" * 99 + "gb"], version="7.0", first_line=1)
@example(lines=["proc-title-template " + "{" * 300], version="7.0", first_line=1)
@example(lines=["\v"], version="7.0", first_line=1)
def test_any_text_parses_or_is_refused_with_its_line(lines: list[str], version: str, first_line: int) -> None:
    """Nothing but ScenarioError comes out, and it names a line that exists."""
    text = "\n".join(lines)
    try:
        parsed = parse_conf(text, version=version, where="f", first_line=first_line)
    except ScenarioError as error:
        message = str(error)
        where, number, rest = message.split(":", 2)
        assert where == "f"
        assert "\n" not in message
        assert first_line <= int(number) <= first_line + text.count("\n")
        assert rest.strip()
    else:
        assert len(parsed.report()) == len(parsed.lines)
        for line in parsed.lines:
            parsed.get(line.directive)
