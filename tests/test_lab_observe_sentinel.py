"""`redsim observe` of what Sentinels tell, in files beside INFO: the scenario, what is left out, and what cannot be used."""

import json
from pathlib import Path
from typing import Any

import pytest
from sentinel_example import (
    ADDRESSES,
    CONF,
    FORMS,
    HAND_WRITTEN,
    OTHER_ID,
    RUN_ID,
    SECRETS,
    bare,
    master,
    replica,
    sentinel,
    text_in,
    tty,
)  # fmt: skip

from redsim.lab.observe import command, compare, observe
from redsim.lab.observed import Observation
from redsim.lab.observed_sentinel import beside
from redsim.run import engine
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario

RECORDED = Path(__file__).parent / "recorded"


def info(at_s: int, *, slaves: int = 2, role: str = "master", run_id: str = RUN_ID, port: int = 6379, ping: int = 0) -> str:
    """INFO all of the observed server at one second of its life."""
    lines = [f"slave{i}:ip={ADDRESSES[i + 1]},port=6379,state=online,offset={at_s},lag=0\r\n" for i in range(slaves)]
    return (
        f"# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:{run_id}\r\ntcp_port:{port}\r\n"
        f"uptime_in_seconds:{at_s}\r\nserver_time_usec:{at_s * 1_000_000}\r\n"
        f"# Replication\r\nrole:{role}\r\nconnected_slaves:{slaves}\r\n{''.join(lines)}master_repl_offset:{at_s}\r\n"
        f"# Commandstats\r\ncmdstat_set:calls={100 * at_s},usec={500 * at_s},usec_per_call=5.00\r\n"
        f"cmdstat_ping:calls={1 + ping * at_s},usec={at_s},usec_per_call=1.00\r\n"
        f"cmdstat_publish:calls={1 + 3 * at_s // 2},usec={at_s},usec_per_call=1.00\r\n"
    )


def looked_at(folder: Path, *texts: str, infos: dict[str, Any] | None = None) -> Observation:
    """observe() of two INFO and of the texts."""
    given = [info(100, **(infos or {})), info(160, **(infos or {})), *texts]
    paths = [folder / f"file-{i}.txt" for i in range(len(given))]
    for path, text in zip(paths, given, strict=True):
        path.write_text(text, encoding="utf-8")
    return observe([str(path) for path in paths], out=folder / "out")


# ---- the scenario --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_info_and_masters_are_one_scenario_that_runs(form: str, tmp_path: Path) -> None:
    """Master, replicas, Sentinels and a group that follows; the rules as found; no address is left."""
    seen = looked_at(tmp_path, FORMS[form]([master()]))
    scenario = Scenario.load(seen.scenario_path)
    assert {name: node.replica_of for name, node in scenario.file.nodes.items()} == {"main": None, "r1": "main", "r2": "main"}
    assert scenario.sentinel_conf is not None
    (rules,) = scenario.sentinel_conf.masters
    found = rules.name, rules.host, rules.quorum, rules.down_after_ns, rules.failover_timeout_ns, rules.parallel_syncs
    assert found == ("mymaster", "main", 2, 3 * 10**9, 60 * 10**9, 2)
    assert len(scenario.file.sentinel_places) == 3
    assert {group.service for group in scenario.file.clients.values()} == {"mymaster"}
    result = engine.run(scenario.smoke())
    observed = json.loads(Path(seen.observed_path).read_text(encoding="utf-8"))
    assert {quantity for quantity, *_ in compare(observed, result.summary)} >= {"commands_per_s", "SET calls_per_s"}
    assert observed["sentinel"]["fields"]["last-ok-ping-reply"] == 930
    assert observed["sentinel"]["fields"]["config-epoch"] == 7
    told = text_in(tmp_path / "out")
    assert not [one for one in (*ADDRESSES, RUN_ID, "6379") if one in told]


def test_the_failover_that_the_header_tells_of_happens(tmp_path: Path) -> None:
    """Its two pieces of advice, put in: r1 or r2 becomes the master and the clients go there."""
    seen = looked_at(tmp_path, bare([master(down_after_milliseconds=500)]))
    text = Path(seen.scenario_path).read_text(encoding="utf-8")
    assert "add `timeline: [{at: 5s, fault: kill, node: main}]`" in text
    assert "`timeout: 100ms` and `retries: {max: 3, backoff: 50ms}`" in text
    text = text.replace("    connections:", "    timeout: 100ms\n    retries: {max: 3, backoff: 50ms}\n    connections:")
    result = engine.run(Scenario.from_text(f"{text}timeline: [{{at: 5s, fault: kill, node: main}}]\n", name="f", base=tmp_path))
    assert "+switch-master mymaster main 6379 r" in "\n".join(result.events["text"])


def test_the_line_that_is_printed(tmp_path: Path) -> None:
    """One sentence of the Sentinels; what stands in is said."""
    looked_at(tmp_path, bare([master()]))
    lines = command([str(tmp_path / f"file-{i}.txt") for i in range(3)], out=tmp_path / "out")
    assert "  sentinel: mymaster, quorum 2 of 3 Sentinels, down-after 3000 ms, 2 replicas, flags master" in lines
    said = "\n".join(line for line in lines if "could not see" in line)
    assert "whether the clients follow the master" in said
    assert "where the Sentinels run" in said


def test_sentinel_conf_alone_with_info_and_nothing_of_it_leaks(tmp_path: Path) -> None:
    """As on disk, with what Sentinel wrote; passwords, users, scripts, addresses, ids and paths stay out."""
    seen = looked_at(tmp_path, CONF)
    assert seen.sentinel is not None
    assert (seen.sentinel.count, seen.sentinel.replica_count) == (3, 2)
    assert seen.sentinel.fields == {
        "quorum": 2, "down-after-milliseconds": 3000, "failover-timeout": 60000, "config-epoch": 7, "leader-epoch": 7,
        "current-epoch": 7,
    }  # fmt: skip
    told = text_in(tmp_path / "out")
    hidden = [*SECRETS, *ADDRESSES, RUN_ID, "c3c3", "d4d4", "e5e5", "26379", "/srv"]
    assert not [one for one in hidden if one in told]
    assert "parallel-syncs" not in Path(seen.scenario_path).read_text(encoding="utf-8"), "the default, as in the file"
    assert engine.run(Scenario.load(seen.scenario_path).smoke()).summary["commands"] > 0


def test_running_values_win_over_the_file_and_the_difference_is_said(tmp_path: Path) -> None:
    """SENTINEL MASTERS is what runs."""
    seen = looked_at(tmp_path, CONF, bare([master(down_after_milliseconds=5000)]))
    assert "sentinel down-after-milliseconds mymaster 5000" in Path(seen.scenario_path).read_text(encoding="utf-8")
    said = "why file-2.txt has down-after-milliseconds 3000: 5000, as the other source has it, is taken"
    assert said in seen.could_not_see


def test_sentinels_stand_where_addresses_say(tmp_path: Path) -> None:
    """Two beside the replicas, so the one that was asked beside the master; another machine is one of its own."""
    others = [sentinel(ADDRESSES[1], "d4" * 20), sentinel(ADDRESSES[2], "e5" * 20)]
    seen = looked_at(tmp_path, bare([master(), *others]))
    file = Scenario.load(seen.scenario_path).file
    assert [place.host for place in file.sentinel_places] == ["box", "box1", "box2"]
    assert beside([ADDRESSES[0], ADDRESSES[1]], [ADDRESSES[3], ADDRESSES[1]], 3) == [None, None, 1]
    assert beside(["127.0.0.1", "127.0.0.2"], ["127.0.0.1"], 2) == [], "loopback tells nothing"
    assert beside([ADDRESSES[0], ADDRESSES[0]], [ADDRESSES[0]], 2) == []


def test_flags_of_trouble_are_said(tmp_path: Path) -> None:
    """A ticket comes from the middle of an incident; the scenario begins with all of them up."""
    rows = [master(flags="s_down,o_down,master,failover_in_progress"), replica(1, flags="s_down,slave,disconnected"), replica(2)]
    seen = looked_at(tmp_path, tty(rows))
    text = Path(seen.scenario_path).read_text(encoding="utf-8")
    assert "the master was s_down,o_down,failover_in_progress when its Sentinel was asked" in text
    assert "1 of 2 replicas were s_down or disconnected" in text
    assert seen.sentinel is not None
    assert seen.sentinel.replicas[0].flags == ["s_down", "slave", "disconnected"]


@pytest.mark.parametrize(
    ("slaves", "words"), [(1, "lists 1, and so many are here"), (0, "without one no failover can come about")]
)
def test_replicas_that_are_not_connected_are_said_and_left_out(slaves: int, words: str, tmp_path: Path) -> None:
    """A Sentinel forgets no replica; the master's INFO lists those that are connected."""
    seen = looked_at(tmp_path, bare([master(), replica(1, flags="slave,s_down")]), infos={"slaves": slaves})
    text = Path(seen.scenario_path).read_text(encoding="utf-8")
    assert words in text
    assert "here all run" not in text
    scenario = Scenario.load(seen.scenario_path)
    assert len(scenario.file.nodes) == 1 + slaves
    assert engine.run(scenario.smoke()).summary["commands"] > 0


def test_what_sentinels_send_is_no_clients_command(tmp_path: Path) -> None:
    """PING each second and PUBLISH every two, of each of three: the scenario's Sentinels do that themselves."""
    seen = looked_at(tmp_path, bare([master()]), infos={"ping": 3})
    assert seen.window is not None
    assert [one.name for one in seen.window.commands] == ["SET"]
    assert {one.name for one in seen.window.admin} == {"PING", "PUBLISH"}
    busy = looked_at(tmp_path, bare([master()]), infos={"ping": 5})
    assert busy.window is not None
    assert "PING" in [one.name for one in busy.window.commands], "somebody else pings, too"


def test_without_info_replication_the_sentinels_tell_how_many_replicas(tmp_path: Path) -> None:
    """A MONITOR capture has no roles."""
    (tmp_path / "m.txt").write_text(tty([master()]), encoding="utf-8")
    seen = observe([str(RECORDED / "monitor-7.0.15.txt"), str(tmp_path / "m.txt")], out=tmp_path / "out")
    scenario = Scenario.load(seen.scenario_path)
    assert [node.replica_of for node in scenario.file.nodes.values()] == [None, "main", "main"]
    assert all(node.synced for node in scenario.file.nodes.values())
    assert "known to a Sentinel" in text_in(tmp_path / "out")


def test_of_a_replica_no_sentinels_are_written_and_that_is_said(tmp_path: Path) -> None:
    """They would monitor its master, which was not observed."""
    seen = looked_at(tmp_path, bare([master()]), infos={"role": "slave", "slaves": 0, "run_id": OTHER_ID})
    assert Scenario.load(seen.scenario_path).sentinel_conf is None
    assert any("the observed server is a replica" in said for said in seen.could_not_see)


@pytest.mark.parametrize(("replica_id", "name", "is_doubt"), [("c" * 40, "cache", True), (OTHER_ID, "mymaster", False)])
def test_which_master_a_replica_follows_is_found_or_said_to_be_a_doubt(
    replica_id: str, name: str, is_doubt: bool, tmp_path: Path
) -> None:
    """By its run id in SENTINEL REPLICAS, else the first is taken."""
    rows = [master("cache", ip=ADDRESSES[3], runid="d" * 40), master(), replica(1, runid=replica_id)]
    seen = looked_at(tmp_path, bare(rows), infos={"role": "slave", "slaves": 0, "run_id": OTHER_ID})
    assert seen.sentinel is not None
    assert seen.sentinel.name == name
    assert any("this replica follows: its run id tells none; cache is taken" in said for said in seen.could_not_see) is is_doubt


# ---- several masters -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("other", "infos", "name", "doubt"), [
    ({"runid": OTHER_ID}, {}, "mymaster", ""),
    ({"runid": OTHER_ID}, {"run_id": OTHER_ID}, "cache", ""),
    ({"runid": OTHER_ID, "port": 7000}, {"run_id": "f" * 40, "port": 7000}, "cache", "why cache has another run id"),
    ({"runid": "", "port": 7000}, {"run_id": "f" * 40, "port": 7000}, "cache", ""),
    ({"runid": OTHER_ID, "num_slaves": 1}, {"run_id": "f" * 40, "slaves": 1}, "cache", "found by its number of replicas only"),
    ({"runid": OTHER_ID}, {"run_id": "f" * 40, "port": 1}, "cache", "cache is taken"),
])  # fmt: skip
def test_the_observed_server_is_found_among_masters(
    other: dict[str, Any], infos: dict[str, Any], name: str, doubt: str, tmp_path: Path
) -> None:
    """By run id, port, number of replicas, else the first; which is said, and what was left out."""
    seen = looked_at(tmp_path, bare([master("cache", ip=ADDRESSES[3], **other), master()]), infos=infos)
    assert seen.sentinel is not None
    assert seen.sentinel.name == name
    left = "mymaster" if name == "cache" else "cache"
    assert f"other masters of the Sentinels: left out ({left})" in seen.could_not_see
    assert any(doubt in said for said in seen.could_not_see)
    assert doubt or not any("which master" in said for said in seen.could_not_see)


def test_a_server_that_lost_its_role_since_its_info_is_found_again(tmp_path: Path) -> None:
    """After a failover SENTINEL MASTERS shows the new master, and REPLICAS the one whose INFO is older."""
    seen = looked_at(tmp_path, bare([master(runid="", port=6380), replica(1, runid=RUN_ID, master_port=6380), replica(2)]))
    assert any("of before a failover?" in said for said in seen.could_not_see)
    other = looked_at(tmp_path, bare([master(runid=OTHER_ID, port=6380)]))
    assert any("whether mymaster is this server" in said for said in other.could_not_see)


def test_replicas_of_another_master_are_not_counted(tmp_path: Path) -> None:
    """SENTINEL REPLICAS tells its master by address only."""
    rows = [master("cache", ip=ADDRESSES[3], runid=OTHER_ID), master(), replica(1, master_host=ADDRESSES[3]), replica(2)]
    seen = looked_at(tmp_path, bare(rows))
    assert seen.sentinel is not None
    assert len(seen.sentinel.replicas) == 1


# ---- what cannot be used -------------------------------------------------------------------------------------------


def test_a_sentinel_conf_nobody_ran_leaves_the_number_to_a_guess(tmp_path: Path) -> None:
    """The fewest of whom the quorum is the majority."""
    seen = looked_at(tmp_path, HAND_WRITTEN)
    assert seen.sentinel is not None
    assert seen.sentinel.count == 3
    assert any("how many Sentinels" in line for line in Path(seen.scenario_path).read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(("texts", "words"), [
    ([bare([master(quorum=4)])], ["file-2.txt:1: mymaster: quorum 4 with 3 Sentinels", "SENTINEL SET mymaster quorum 2"]),
    ([HAND_WRITTEN + f"sentinel myid {'c3' * 20}\n"], ["file-2.txt:1: mymaster: quorum 2 with 1 Sentinel:"]),
    ([bare([master(num_other_sentinels=500)])], ["501 Sentinels", "99 at most"]),
    ([CONF.replace("mymaster", "cache"), bare([master()])], ["file-2.txt:6: monitors cache, but", "lists mymaster"]),
    ([bare([replica(1)])], ["tells no master's name and quorum", "SENTINEL MASTERS"]),
    ([CONF + "sentinel down-after-milisecond mymaster 5\n"], ["file-2.txt:29: ", "did you mean 'down-after-milliseconds'?"]),
    ([CONF + "sentinel down-after-milliseconds mymastr 5\n"], ["file-2.txt:29: ", "did you mean 'mymaster'?"]),
    ([CONF + "sentinel down-after-milliseconds mymaster soon\n"], ["file-2.txt:29: ", "is not a whole number"]),
    ([CONF + "sentinel parallel-syncs\n"], ["file-2.txt:29: ", "takes NAME COUNT"]),
    ([HAND_WRITTEN[:-3]], ["file-2.txt:1: ", "was the file cut off here"]),
    ([CONF + "sentinel"], ["file-2.txt:29: ", "was the file cut off here"]),
    (["sentinel down-after-milliseconds mymaster 5\n"], ["file-2.txt:1: ", "add that line"]),
])  # fmt: skip
def test_what_does_not_fit_is_one_sentence(texts: list[str], words: list[str], tmp_path: Path) -> None:
    """File, line and cure; nothing secret."""
    with pytest.raises(ScenarioError) as caught:
        looked_at(tmp_path, *texts)
    said = str(caught.value).replace(f"{tmp_path}/", "")
    assert all(word in said for word in words), said
    assert not [one for one in (*SECRETS, *ADDRESSES) if one in said]


def test_sentinels_alone_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    """They tell of no traffic."""
    (tmp_path / "m.txt").write_text(bare([master()]), encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"m\.txt: a Sentinel knows .* add `redis-cli INFO all` of mymaster") as caught:
        observe([str(tmp_path / "m.txt")], out=tmp_path / "out")
    assert str(caught.value).isprintable()
