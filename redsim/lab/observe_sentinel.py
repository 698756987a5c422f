"""What Sentinels say of an observed server: of a running one, asked, or of files, and which of their masters that server is.

    sentinel.conf, as on disk           name, quorum, times; known-replica, known-sentinel, epochs by the Sentinel itself
    SENTINEL MASTERS (or MASTER name)   the same as it runs, and what it sees: counts, flags; wins over sentinel.conf
    SENTINEL REPLICAS, SENTINELS name   each of the others as it is seen
    INFO of a Sentinel                  counts, TILT

A running one is asked the three commands and INFO once each. The observed server is found by its run id (as a master's, else
as a replica's), else its port, else its number of replicas, else it is taken to be the first master.
Differs: a sentinel.conf is checked without its passwords, addresses and paths, so that no error can quote them.
Not modelled: Sentinels of one master that differ; the first file given is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from redsim.lab.asker import Asker, as_text, masked
from redsim.lab.observed import Observation, Window, flat, whole
from redsim.lab.observed_replication import OF_SENTINEL, Replication, SeenReplica
from redsim.lab.observed_sentinel import DOWN_AFTER_MS, WRITTEN, Instance, Place, SeenSentinel, beside, numbers
from redsim.lab.sentinel_texts import Record, record, records_of
from redsim.lab.sentinel_words import WatchedConf, conf_without_secrets
from redsim.redis.sentinel_state import PING_PERIOD, PUBLISH_PERIOD
from redsim.scenario.errors import ScenarioError
from redsim.scenario.info import parse_info
from redsim.scenario.sentinel_conf import MasterRules
from redsim.scenario.sentinels import COUNT_MAX
from redsim.units import MS

__all__ = ["NO_TRAFFIC", "Told", "ask_sentinel", "attach", "is_sentinel", "names_of", "read_sentinel_files"]

NO_TRAFFIC = "a Sentinel knows who watches whom, not what clients ask for"
HABIT = 1.1  # guess: Sentinels send a few more than their periods tell, after a change
CURE = "`redis-cli -p 26379 SENTINEL MASTERS > masters.txt`, or its sentinel.conf"


@dataclass
class Told:
    """All that was told by Sentinels, addresses included; an Observation gets what may be kept of it by attach()."""

    sources: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list, repr=False)
    confs: list[WatchedConf] = field(default_factory=list, repr=False)
    infos: list[dict[str, str]] = field(default_factory=list, repr=False)
    could_not_see: list[str] = field(default_factory=list)
    is_live: bool = False

    @property
    def masters(self) -> dict[str, Record]:
        """The last record of each name."""
        return {one.fields["name"]: one for one in self.records if one.kind == "master"}

    def of_kind(self, kind: str) -> list[Record]:
        """The last of each instance, in the order of the first."""
        return list({(one.master, one.fields.get("name")): one for one in self.records if one.kind == kind}.values())


# ---- looking -------------------------------------------------------------------------------------------------------


def read_sentinel_files(paths: Sequence[tuple[Path, str, str]], told: Told) -> None:
    """Adds files to `told`: (path, kind by kind_of, text). ScenarioError for one that is not whole or not understood."""
    for path, kind, text in paths:
        if kind == "sentinel-conf":
            told.confs.append(conf_without_secrets(text, str(path)))
            told.sources.append(f"{path.name} (sentinel.conf)")
        elif kind == "sentinel-info":
            told.infos.append(flat(parse_info(text, str(path))))
            told.sources.append(f"{path.name} (INFO of a Sentinel)")
        else:
            found = records_of(text, str(path))
            told.records += found
            kinds = {"master": "MASTERS", "slave": "REPLICAS", "sentinel": "SENTINELS"}
            names = ", ".join(name for kind, name in kinds.items() if any(one.kind == kind for one in found))
            told.sources.append(f"{path.name} (SENTINEL {names})")


def is_sentinel(url: str) -> bool:
    """Whether a Sentinel answers there; ScenarioError if nobody does."""
    asker = Asker.connect(url)
    try:
        raw = asker.ask("INFO", "server")
    finally:
        asker.close()
    return raw is not None and "redis_mode:sentinel" in as_text(raw)


def ask_sentinel(url: str, told: Told) -> None:
    """Adds what a running Sentinel answers to `told`."""
    asker = Asker.connect(url)
    try:
        masters = asker.ask("SENTINEL", "MASTERS")
        if masters is None:
            why = asker.refused["SENTINEL|MASTERS"]
            raise ScenarioError(
                f"{masked(url)}: SENTINEL MASTERS is refused ({why}); grant it with ACL SETUSER … +sentinel|masters "
                "+sentinel|replicas +sentinel|sentinels"
            )
        found = [record(_words(row), masked(url)) for row in masters]
        if not found:
            raise ScenarioError(f"{masked(url)}: this Sentinel monitors no master; give the URL of one that does")
        raw = asker.ask("INFO", "sentinel")
        told.infos += [flat(parse_info(as_text(raw), masked(url)))] if raw is not None else []
        for one in found:
            for command in ("REPLICAS", "SENTINELS"):
                rows = asker.ask("SENTINEL", command, one.fields["name"]) or []
                told.records += [replace(record(_words(row), masked(url)), master=one.fields["name"]) for row in rows]
        told.records += found
        told.is_live = True
        told.sources.append("a running Sentinel (its address is not written here)")
        told.could_not_see += [f"{name.replace('|', ' ')}: refused ({why})" for name, why in asker.refused.items()]
    finally:
        asker.close()


def _words(row: Any) -> dict[str, str]:
    """A row of a reply: pairs by RESP3, one word after the other by RESP2."""
    words = [as_text(x) for pair in row.items() for x in pair] if isinstance(row, dict) else [as_text(x) for x in row]
    return dict(zip(words[::2], words[1::2], strict=False))


# ---- which master --------------------------------------------------------------------------------------------------


def attach(told: Told, seen: Observation) -> None:
    """Gives the observation its Sentinels: the one master that is the observed server. ScenarioError for what does not fit."""
    names = names_of(told)
    name, doubt = _choose(told, names, seen)
    others = [other for other in names if other != name]
    if others:
        seen.could_not_see.append(f"other masters of the Sentinels: left out ({', '.join(others)})")
    seen.sources += told.sources
    seen.could_not_see += [*told.could_not_see, *doubt]
    seen.sentinel = _sentinel_of(told, name, len(names), seen)
    replicas = seen.sentinel.replica_count or 0
    if seen.replication is None and replicas:
        seen.replication = Replication("master", replicas=[SeenReplica(OF_SENTINEL, 0, 0)] * replicas)
    if seen.place.role == "slave":
        seen.could_not_see.append("Sentinels in the scenario: the observed server is a replica; observe its master to have them")


def names_of(told: Told) -> list[str]:
    """Of the masters whose quorum is told; ScenarioError if there is none, or sources are of different Sentinels."""
    masters = list(told.masters)
    for conf in told.confs:
        known = [rules.name for rules in conf.masters]
        if masters and not set(known) & set(masters):
            raise ScenarioError(
                f"{conf.where}:{conf.line}: monitors {', '.join(known)}, but the other source lists {', '.join(masters)}; "
                "give what is of one Sentinel"
            )
        masters = masters or known
    if not masters:
        raise ScenarioError(f"{'; '.join(told.sources)}: tells no master's name and quorum; add {CURE}")
    return masters


def _choose(told: Told, names: list[str], seen: Observation) -> tuple[str, list[str]]:
    """(the observed server's name, why that may be wrong)."""
    place, masters = seen.place, told.masters
    if place.role == "slave":
        above = _above(told, names, place)
        if len(above) == 1 or len(names) == 1:
            return (above or names)[0], []
        return names[0], [f"which master of the Sentinels this replica follows: its run id tells none; {names[0]} is taken"]
    ids = {name: masters[name].fields.get("runid", "") if name in masters else "" for name in names}
    ports = {rules.name: str(rules.port or "") for conf in reversed(told.confs) for rules in conf.masters}
    ports |= {name: one.fields.get("port", "") for name, one in masters.items()}
    count = str(len(seen.replication.replicas)) if seen.replication is not None else ""
    which = "which master of the Sentinels this server is: "
    ways = (
        ([name for name in names if place.run_id and ids[name] == place.run_id], ""),
        (_above(told, names, place), "why it is a replica to the Sentinels and a master in its INFO (of before a failover?)"),
        ([name for name in names if place.port and ports.get(name) == place.port], ""),
        ([name for name in names if len(names) > 1 and name in masters and masters[name].fields["num-slaves"] == count],
         f"{which}found by its number of replicas only"),
    )  # fmt: skip
    for found, doubt in ways:
        if len(found) == 1:
            other = place.run_id and ids[found[0]] not in ("", place.run_id)
            doubt = doubt or (
                f"why {found[0]} has another run id to the Sentinels (a restart or a failover since?)" if other else ""
            )
            return found[0], [doubt] if doubt else []
    if len(names) > 1:
        return names[0], [f"{which}neither run id, port nor number of replicas tell; {names[0]} is taken"]
    strange = bool(place.run_id or place.port)
    return names[0], [f"whether {names[0]} is this server: its run id and port are others to the Sentinels"] * strange


def _above(told: Told, names: list[str], place: Place) -> list[str]:
    """The masters whose replica has the server's run id."""
    rows = [row for row in told.of_kind("slave") if place.run_id and row.fields.get("runid") == place.run_id]
    return [name for name in names if any(_is_of(row, name, told.masters.get(name), len(names)) for row in rows)]


# ---- what is kept of it --------------------------------------------------------------------------------------------


def _sentinel_of(told: Told, name: str, masters: int, seen: Observation) -> SeenSentinel:
    one = told.masters.get(name)
    confs = [(conf, rules) for conf in told.confs for rules in conf.masters if rules.name == name]
    fields = _of_conf(*confs[0]) if confs else {}
    asked = numbers(one.fields) if one is not None else {}
    for conf, rules in confs[1:] if one is None else confs:
        _differences(_of_conf(conf, rules), asked or fields, conf.where, seen)
    fields |= asked
    replicas, others = ([row for row in told.of_kind(kind) if _is_of(row, name, one, masters)] for kind in ("slave", "sentinel"))
    if masters > 1 and others and not others[0].master and len(others) != fields.get("num-other-sentinels"):
        others = []  # of which master they are is not in SENTINEL SENTINELS
    where = one.where if one is not None else f"{confs[0][0].where}:{confs[0][0].line}"
    count, count_said = _count(told, name, fields, confs, len(others))
    quorum = fields["quorum"]
    if count > COUNT_MAX:
        raise ScenarioError(f"{where}: {name}: {count} Sentinels; redsim simulates {COUNT_MAX} at most")
    if quorum > count:
        raise ScenarioError(
            f"{where}: {name}: quorum {quorum} with {count} Sentinel{'s' * (count > 1)}: no failover can ever begin; lower it by "
            f"`SENTINEL SET {name} quorum {count // 2 + 1}`, add Sentinels, or give SENTINEL MASTERS of one that knows the others"
        )
    kept = Instance.of(one.fields) if one is not None else Instance([], {})
    followers = [Instance.of(row.fields) for row in replicas]
    if not followers and confs:
        followers = [Instance([], {}) for _ in confs[0][1].replicas]
    role = one.fields.get("role-reported", "") if one is not None else ""
    _tilt(told, seen)
    if seen.window is not None and seen.place.role != "slave":
        seen.window = without_sentinels(seen.window, count, fields.get("down-after-milliseconds", DOWN_AFTER_MS))
    return SeenSentinel(
        name, kept.flags, fields, count, _said(told, one, bool(confs)), count_said, role if role in ("master", "slave") else "",
        followers, [Instance.of(row.fields) for row in others],
        beside(_servers(told, name, replicas, confs, seen), _addresses(others, confs), count),
    )  # fmt: skip


def without_sentinels(window: Window, count: int, down_after_ms: int) -> Window:
    """The window with PING and PUBLISH among the administration, if they are no more than what `count` Sentinels send by
    themselves: the scenario's do that, too."""
    most = {"PING": count * (1000 * window.seconds / min(PING_PERIOD, down_after_ms) + 1),
            "PUBLISH": count * (1000 * window.seconds / PUBLISH_PERIOD + 1)}  # fmt: skip
    theirs = tuple(one for one in window.commands if one.calls <= HABIT * most.get(one.name, 0))
    return replace(window, commands=tuple(one for one in window.commands if one not in theirs), admin=window.admin + theirs)


def _is_of(row: Record, name: str, master: Record | None, masters: int) -> bool:
    """Whether a replica or another Sentinel is one of this master's, as far as it can be told."""
    if row.master:
        return row.master == name
    if row.kind == "sentinel" or master is None or masters == 1:
        return True
    return [row.fields["master-host"], row.fields["master-port"]] == [master.fields.get("ip"), master.fields.get("port")]


def _of_conf(conf: WatchedConf, rules: MasterRules) -> dict[str, int]:
    """The rules by Redis' own names; times that sentinel.conf leaves to the default are not in it."""
    values = {
        "quorum": rules.quorum, "down-after-milliseconds": rules.down_after_ns // MS,
        "failover-timeout": rules.failover_timeout_ns // MS, "parallel-syncs": rules.parallel_syncs,
        "config-epoch": rules.config_epoch, "leader-epoch": rules.leader_epoch,
        "master-reboot-down-after-period": rules.master_reboot_down_after_ns // MS,
    }  # fmt: skip
    out = {name: value for name, value in values.items() if name == "quorum" or (rules.name, name) in conf.given}
    return {**out, "current-epoch": conf.current_epoch} if conf.current_epoch is not None else out


def _differences(theirs: dict[str, int], taken: dict[str, int], where: str, seen: Observation) -> None:
    for name in ("quorum", *WRITTEN):
        if name in theirs and theirs[name] != taken.get(name, theirs[name]):
            said = f"why {Path(where).name} has {name} {theirs[name]}: {taken[name]}, as the other source has it, is taken"
            seen.could_not_see.append(said)


def _count(
    told: Told, name: str, fields: dict[str, int], confs: list[tuple[WatchedConf, MasterRules]], listed: int
) -> tuple[int, str]:
    """(how many Sentinels, what to say of that)."""
    if "num-other-sentinels" in fields:
        return fields["num-other-sentinels"] + 1, ""
    known = max((len(rules.sentinels) for _, rules in confs), default=0)
    in_info = max((_in_info(info, name) for info in told.infos), default=0)
    if known or listed or in_info:
        return max(known + 1, listed + 1, in_info), ""
    if any(conf.was_run for conf, _ in confs):
        return 1, ""
    quorum = fields["quorum"]
    count = min(max(2 * quorum - 1, 1), COUNT_MAX)
    return count, f"how many Sentinels there are: sentinel.conf names no other; {count}, whose majority is {quorum}, stand in"


def _in_info(info: dict[str, str], name: str) -> int:
    """`sentinels=` of the master in INFO sentinel, 0 without."""
    for key, text in info.items():
        words = dict(word.partition("=")[::2] for word in text.split(","))
        if key.startswith("master") and key[6:].isdigit() and words.get("name") == name:
            return whole(words, "sentinels") or 0
    return 0


def _tilt(told: Told, seen: Observation) -> None:
    if any(info.get("sentinel_tilt") == "1" for info in told.infos):
        seen.could_not_see.append("the Sentinel was in TILT mode when it was asked, and did nothing; here it works")


def _servers(
    told: Told, name: str, replicas: list[Record], confs: list[tuple[WatchedConf, MasterRules]], seen: Observation
) -> list[str]:
    """Addresses of the master and of the scenario's replicas, in its order; empty if they are not known."""
    one = told.masters.get(name)
    master = one.fields.get("ip", "") if one is not None else confs[0][0].address(confs[0][1].host)
    followers = list(seen.place.replicas)
    if seen.replication is None:
        known = [confs[0][0].address(host) for host, _ in confs[0][1].replicas] if confs else []
        followers = [row.fields.get("ip", "") for row in replicas] or known
    return [master, *followers]


def _addresses(others: list[Record], confs: list[tuple[WatchedConf, MasterRules]]) -> list[str]:
    if others or not confs:
        return [row.fields.get("ip", "") for row in others]
    return [confs[0][0].address(host) for host, _, _ in confs[0][1].sentinels]


def _said(told: Told, one: Record | None, has_conf: bool) -> str:
    by = "SENTINEL MASTERS of a running Sentinel" if told.is_live else "SENTINEL MASTERS"
    by = by if one is not None else ""
    return " and ".join([part for part in (by, "sentinel.conf" if has_conf else "") if part])
