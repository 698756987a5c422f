"""sentinel.conf and the part `sentinels` of a scenario: what is read, what is refused, in which words."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from redsim.scenario.directives import SENTINEL_ONLY
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import load
from redsim.scenario.sentinel_conf import SENTINEL_DIRECTIVES, MasterRules, parse_sentinel_conf
from redsim.scenario.sentinels import Sentinels, check_conf, hosts_exist, read_conf, with_ports
from redsim.units import MS, S

MONITOR = "sentinel monitor mymaster main 2\n"
RUNID = "0123456789abcdef0123456789abcdef01234567"

EXAMPLE = f"""# as a Sentinel rewrites it
port 26380
daemonize yes
protected-mode no
bind 0.0.0.0
dir /tmp
logfile ""
loglevel verbose
sentinel myid {RUNID}
sentinel down-after-milliseconds mymaster 3000
SENTINEL monitor mymaster main 6379 2
sentinel monitor other main2 1
sentinel failover-timeout mymaster 60000
sentinel parallel-syncs mymaster 3
sentinel auth-pass mymaster "a secret"
sentinel auth-user mymaster watcher
sentinel master-reboot-down-after-period mymaster 1500
sentinel rename-command mymaster CONFIG guessme
sentinel notification-script mymaster /var/redis/notify.sh
sentinel client-reconfig-script mymaster /var/redis/reconfig.sh
sentinel deny-scripts-reconfig yes
sentinel resolve-hostnames yes
sentinel announce-hostnames no
sentinel announce-ip box
sentinel announce-port 26999
sentinel sentinel-user someone
sentinel sentinel-pass other
sentinel config-epoch mymaster 4
sentinel leader-epoch mymaster 5
sentinel current-epoch 5
sentinel known-replica mymaster r1 6379
sentinel known-slave mymaster r2
sentinel known-sentinel mymaster box 26381 {RUNID[::-1]}
sentinel known-sentinel mymaster box 26382
"""


def test_every_directive_of_7_0_is_read() -> None:
    """Lines may stand in any order; down-after-milliseconds before its monitor is fine (7.0 reads monitor lines first)."""
    conf = parse_sentinel_conf(EXAMPLE)
    rules = conf.master("mymaster")
    assert rules is not None
    assert (rules.host, rules.port, rules.quorum) == ("main", 6379, 2)
    assert (rules.down_after_ns, rules.failover_timeout_ns, rules.parallel_syncs) == (3 * S, 60 * S, 3)
    assert rules.master_reboot_down_after_ns == 3 * S // 2
    assert (rules.config_epoch, rules.leader_epoch, conf.current_epoch, conf.myid) == (4, 5, 5, RUNID)
    assert rules.replicas == (("r1", 6379), ("r2", 0))
    assert rules.sentinels == (("box", 26381, RUNID[::-1]),)
    assert rules.renamed == (("CONFIG", "guessme"),)
    assert (conf.port, conf.loglevel, conf.announce_ip, conf.announce_port) == (26380, "verbose", "box", 26999)


def test_defaults_are_those_of_sentinel_c() -> None:
    """30 s, 180 s, one at once, reboot rule off, port 26379."""
    conf = parse_sentinel_conf(MONITOR)
    assert conf.masters == (MasterRules("mymaster", "main", 0, 2),)
    rules = conf.masters[0]
    assert (rules.down_after_ns, rules.failover_timeout_ns, rules.parallel_syncs) == (30 * S, 180 * S, 1)
    assert (conf.port, conf.loglevel) == (26379, "notice")


def test_every_name_that_the_redis_conf_table_sends_here_is_known_here() -> None:
    """`quorum` is a word of SENTINEL SET, not of the file; rename-command is one of both."""
    assert SENTINEL_ONLY - {"quorum"} == set(SENTINEL_DIRECTIVES) - {"rename-command"}


def test_each_line_is_reported_once_and_secrets_are_masked() -> None:
    """modelled, accepted: what the report lists."""
    report = parse_sentinel_conf(EXAMPLE).report()
    by_name = {line.directive: line for line in report}
    assert [line.number for line in report] == sorted(line.number for line in report)
    assert len(report) == len([line for line in EXAMPLE.splitlines() if not line.startswith("#")])
    assert {line.status for line in report} == {"modelled", "accepted"}
    assert by_name["sentinel auth-pass"].value == "mymaster ***"
    assert by_name["sentinel sentinel-pass"].value == "***"
    assert by_name["port"].status == by_name["loglevel"].status == "modelled"
    assert by_name["daemonize"].status == by_name["bind"].status == "accepted"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port 26379\n", "sentinel.conf:1: no master is monitored; add `sentinel monitor"),
        ("sentinel moniter mymaster main 2\n",
         ":1: 'moniter' is not a directive of sentinel.conf (Redis 7.0); did you mean 'monitor'?"),
        (MONITOR + "sentinel down-after-milliseconds mymastr 3000\n", "sentinel.conf:2: sentinel down-after-milliseconds: no "
         "`sentinel monitor` names 'mymastr'; it names mymaster; did you mean 'mymaster'?"),
        (MONITOR + "sentinel down-after-milliseconds mymaster 3s\n",
         ":2: sentinel down-after-milliseconds: '3s' is not a whole number"),
        (MONITOR + "sentinel down-after-milliseconds mymaster 0\n",
         ":2: sentinel down-after-milliseconds: 0 is not between 1 and"),
        (MONITOR + "sentinel failover-timeout mymaster -1\n", ":2: sentinel failover-timeout: -1 is not between"),
        ("sentinel monitor mymaster main 0\n", ":1: sentinel monitor: 0 is not between 1 and"),
        ("sentinel monitor mymaster main 70000 2\n", ":1: sentinel monitor: 70000 is not between 1 and 65535"),
        ("sentinel monitor mymaster 2\n", ":1: sentinel monitor: takes NAME ADDRESS [PORT] QUORUM, not 2 words"),
        (MONITOR + MONITOR, ":2: sentinel monitor: 'mymaster' is monitored twice"),
        (MONITOR + "sentinel monitor again main 2\n", ":2: sentinel monitor: 'main' is monitored already, as 'mymaster'"),
        (MONITOR + "sentinel monitor again main 6379 2\n", ":2: sentinel monitor: 'main' is monitored already, as 'mymaster'"),
        ("sentinel monitor mymaster main 6379 2\nsentinel monitor again main 2\n", ":2: sentinel monitor: 'main' is monitored"),
        (MONITOR + "sentinel known-replica mymaster r1\nsentinel known-replica mymaster r1 6379\n", ":3: sentinel known-replica"),
        (f"sentinel monitor mymaster main {'9' * 5000}\n", f":1: sentinel monitor: {'9' * 100}… is not between 1 and"),
        (MONITOR + f"sentinel parallel-syncs mymaster -{'9' * 5000}\n", "… is not between 0 and"),
        (MONITOR + f"sentinel parallel-syncs mymaster x{'9' * 5000}\n", "…' is not a whole number"),
        (MONITOR + "sentinel quorum mymaster 2\n", ":2: 'quorum' is not a directive of sentinel.conf"),
        (MONITOR + "sentinel myid 12\n", ":2: sentinel myid: an id has 40 characters, not 2"),
        (MONITOR + "sentinel\n", ":2: `sentinel` alone says nothing"),
        (MONITOR + "sentinel deny-scripts-reconfig maybe\n", ":2: sentinel deny-scripts-reconfig: 'maybe' is neither yes nor no"),
        (MONITOR + "sentinel known-replica mymaster r1\nsentinel known-replica mymaster r1\n",
         ":3: sentinel known-replica: 'r1' is listed"),
        (MONITOR + "sentinel rename-command mymaster CONFIG a\nsentinel rename-command mymaster config b\n",
         ":3: sentinel rename-command"),
        (MONITOR + 'sentinel auth-pass mymaster "open\n', ":2: unbalanced quotes"),
        (MONITOR + "portt 26379\n", ":2: 'portt' is not a directive of Redis 7.0; did you mean 'port'?"),
        (MONITOR + "port 0\n", "port 0: a Sentinel that does not listen"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_with_its_line(text: str, words: str) -> None:
    """File, line, directive, value, cure."""
    with pytest.raises(ScenarioError) as error:
        parse_sentinel_conf(text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_zeros_before_a_number_do_not_count() -> None:
    """Neither as digits too many, nor in the value."""
    rules = parse_sentinel_conf(MONITOR + f"sentinel parallel-syncs mymaster {'0' * 5000}3\n").masters[0]
    assert rules.parallel_syncs == 3
    assert parse_sentinel_conf(MONITOR + f"sentinel config-epoch mymaster {2**63 - 1}\n").masters[0].config_epoch == 2**63 - 1


def test_lines_count_from_where_the_text_stands_in_the_scenario() -> None:
    """first_line: the block's."""
    with pytest.raises(ScenarioError, match=r"^s\.yaml:12: 'nonsense'"):
        parse_sentinel_conf(MONITOR + "\nsentinel nonsense 1\n", where="s.yaml", first_line=10)


def test_places_one_host_each_or_all_on_one() -> None:
    """Ports are one apart on a host."""
    three = Sentinels.model_validate({"count": 3, "hosts": ["a", "b", "s"], "conf": MONITOR})
    assert [(p.name, p.host, p.port) for p in three.places(26379)] == [
        ("sentinel-1", "a", 26379), ("sentinel-2", "b", 26379), ("sentinel-3", "s", 26379)]  # fmt: skip
    alone = Sentinels.model_validate({"count": 3, "hosts": ["a"], "conf": MONITOR})
    assert [(p.host, p.port) for p in alone.places(26379)] == [("a", 26379), ("a", 26380), ("a", 26381)]
    assert len(Sentinels.model_validate({"hosts": ["a", "b", "a"], "conf": MONITOR}).places(26379)) == 3


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"count": 3, "hosts": ["a", "b"], "conf": MONITOR}, "count is 3 but hosts names 2"),
        ({"count": 3, "hosts": ["a"]}, "exactly one of conf, conf_file"),
        ({"count": 0, "hosts": ["a"], "conf": MONITOR}, "greater than 0"),
        ({"count": 3, "host": ["a"], "conf": MONITOR}, "Extra inputs"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(given: dict[str, object], words: str) -> None:
    """pydantic; explain.py makes one sentence of it."""
    with pytest.raises(ValidationError, match=words):
        Sentinels.model_validate(given)


def test_what_does_not_fit_the_scenario_is_said() -> None:
    """Hosts, nodes, and a quorum that can never be reached."""
    part = Sentinels.model_validate({"count": 3, "hosts": ["a", "b", "c"], "conf": MONITOR})
    file = SimpleNamespace(sentinels=part, hosts={"a": None, "b": None})
    assert list(hosts_exist(file)) == [(("sentinels", "hosts", 2), "sentinels.hosts: no host is named 'c'; there is a, b")]
    assert not list(hosts_exist(SimpleNamespace(sentinels=None, hosts={})))
    conf = parse_sentinel_conf("sentinel monitor mymaster mian 4\nsentinel known-replica mymaster r9\n")
    assert list(check_conf(part, conf, ["main", "r1"])) == [
        "mymaster: 'mian' is not a node of the scenario; did you mean 'main'?",
        "mymaster: 'r9' is not a node of the scenario; nodes are main, r1",
        "mymaster: quorum 4 with 3 Sentinels: no failover can ever begin; give 2, or add Sentinels",
    ]


def test_the_text_is_in_the_scenario_or_in_a_file_beside_it(tmp_path: Path) -> None:
    """conf, conf_file; a mistake names the file that holds it."""
    part = Sentinels.model_validate({"hosts": ["a", "b", "c"], "conf_file": "sentinel.conf"})
    with pytest.raises(ScenarioError, match=r"^s\.yaml: sentinels\.conf_file: cannot read .*sentinel\.conf'"):
        read_conf(part, ["main"], tmp_path, "s.yaml")
    (tmp_path / "sentinel.conf").write_text(MONITOR, encoding="utf-8")
    assert read_conf(part, ["main"], tmp_path, "s.yaml").masters[0].host == "main"
    with pytest.raises(ScenarioError, match=r"sentinel\.conf:1: mymaster: 'main' is not a node"):
        read_conf(part, ["other"], tmp_path, "s.yaml")
    inline = Sentinels.model_validate({"hosts": ["a"], "count": 3, "conf": MONITOR + "sentinel nonsense 1\n"})
    with pytest.raises(ScenarioError, match=r"^s\.yaml:21: 'nonsense'"):
        read_conf(inline, ["main"], tmp_path, "s.yaml", first_line=20)


def test_ports_come_from_the_nodes() -> None:
    """Left out: where the node listens; given: it has to be that."""
    conf = with_ports(parse_sentinel_conf(MONITOR + "sentinel known-replica mymaster r1\n"), {"main": 7000, "r1": 7001})
    assert (conf.masters[0].port, conf.masters[0].replicas) == (7000, (("r1", 7001),))
    with pytest.raises(ScenarioError, match="node 'main' listens on port 7000, not 6379"):
        with_ports(parse_sentinel_conf("sentinel monitor mymaster main 6379 2\n"), {"main": 7000})


# ---- --set sentinels.conf.… ------------------------------------------------------------------------------------------------


def test_a_directive_of_sentinel_conf_can_be_set_from_the_command_line() -> None:
    """For every master, as if it stood last; the report lists it."""
    changes = ["sentinels.conf.down-after-milliseconds=1500", "sentinels.conf.quorum=3", "sentinels.conf.parallel-syncs=2"]
    conf = load("scenarios/learn/failover.yaml", changes).sentinel_conf
    assert conf is not None
    (rules,) = conf.masters
    assert (rules.down_after_ns, rules.quorum, rules.parallel_syncs) == (1500 * MS, 3, 2)
    assert [line.directive for line in conf.report()][-3:] == [
        "sentinel down-after-milliseconds", "sentinel quorum", "sentinel parallel-syncs",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("sentinels.conf.down-after=1", "did you mean 'down-after-milliseconds'"),
        ("sentinels.conf.down-after-milliseconds=3s", "whole number"),
        ("sentinels.conf.down-after-milliseconds=1 2", "takes MS, not '1 2'"),
        ("sentinels.conf.quorum=4", "quorum 4 with 3 Sentinels"),
        ("sentinels.conf.quorum=0", "between 1 and"),
        (f"sentinels.conf.quorum={'9' * 5000}", "… is not between 1 and"),
        ('sentinels.conf.auth-user="abc', "sentinel auth-user: unbalanced quotes"),
        ("sentinels.conf.myid=x", "nothing that can be set for a master"),
    ],
)
def test_a_wrong_one_is_one_sentence_with_its_place(change: str, says: str) -> None:
    """File, line, the option as written, the cure."""
    with pytest.raises(ScenarioError, match=says) as error:
        load("scenarios/learn/failover.yaml", [change])
    assert str(error.value).startswith("scenarios/learn/failover.yaml:")
    assert f"--set {change.split('=')[0]}" in str(error.value)
    with pytest.raises(ScenarioError, match="has no sentinels"):
        load("scenarios/learn/keys-stall.yaml", [change])


def test_a_password_from_the_command_line_is_told_nowhere() -> None:
    """Masked as a file's; a mistake does not quote it."""
    conf = load("scenarios/learn/failover.yaml", ["sentinels.conf.auth-pass=geheim"]).sentinel_conf
    assert conf is not None
    assert (conf.report()[-1].directive, conf.report()[-1].value) == ("sentinel auth-pass", "***")
    wrong = {
        'auth-pass="geheim': "unbalanced quotes",
        "auth-pass=geheim x": "takes PASSWORD, not 2 words",
        "sentinel-pass=geheim": "",
    }
    for change, says in wrong.items():
        with pytest.raises(ScenarioError) as error:
            load("scenarios/learn/failover.yaml", [f"sentinels.conf.{change}"])
        assert f"--set sentinels.conf.{change.split('=')[0]}=***: " in str(error.value)
        assert says in str(error.value)
        assert "geheim" not in str(error.value)


def test_an_override_that_fails_begins_with_its_label() -> None:
    """One sentence."""
    with pytest.raises(ScenarioError, match=r"^here: sentinel auth-pass: unbalanced quotes"):
        parse_sentinel_conf(MONITOR).with_override("auth-pass", '"abc', "here")
