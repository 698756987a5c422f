"""A sentinel.conf of somebody, checked without what must not be told: passwords, users, paths, addresses and ids.

Each such word is replaced before sentinel_conf.py reads the text, so that no error can quote it. Lines that are redis.conf's
(requirepass, user, port, …) are not read at all.
Mirrors sentinel.c's directives by way of sentinel_conf.py. Not modelled: directives that it does not know; they are refused.
"""

import re
from dataclasses import dataclass, field

from redsim.lab.sentinel_texts import NAME
from redsim.scenario.directives import ascii_lower, split_args
from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.sentinel_conf import RUN_ID_CHARS, SENTINEL_DIRECTIVES, MasterRules, parse_sentinel_conf

__all__ = ["WatchedConf", "conf_without_secrets", "is_sentinel_conf"]

_LINE = re.compile(r"^[ \t]*[\"']?sentinel[\"']?[ \t]+[\"']?([a-z-]{4,40})[\"']?(?:[ \t]|\r?$)", re.MULTILINE | re.IGNORECASE)
_NUMBER = re.compile(r"-?\d{1,19}[a-z]{0,2}\Z")
_WORD = re.compile(r"[A-Za-z-]{1,40}\Z")
_NUMBERS = frozenset({  # their words after the name may be told, if they are numbers
    "monitor", "down-after-milliseconds", "failover-timeout", "parallel-syncs", "master-reboot-down-after-period", "config-epoch",
    "leader-epoch", "current-epoch", "known-replica", "known-slave", "known-sentinel", "announce-port",
})  # fmt: skip
_ADDRESS_SECOND = frozenset({"monitor", "known-replica", "known-slave", "known-sentinel"})
_YES_NO = frozenset({"deny-scripts-reconfig", "resolve-hostnames", "announce-hostnames"})


@dataclass(frozen=True)
class WatchedConf:
    """A sentinel.conf; hosts in `masters` are stand-ins, `address()` tells theirs. `given`: (master, directive) that it has;
    `line`: of the first `sentinel monitor`; `was_run`: a Sentinel has written into it."""

    where: str
    line: int
    masters: tuple[MasterRules, ...]
    given: frozenset[tuple[str, str]]
    current_epoch: int | None
    was_run: bool
    addresses: dict[str, str] = field(repr=False)

    def address(self, stand_in: str) -> str:
        """What stood in the file."""
        return self.addresses.get(stand_in, "")


def is_sentinel_conf(text: str) -> bool:
    """Whether a line of it is a directive of Sentinel's, or nearly."""
    return any(ascii_lower(name) in SENTINEL_DIRECTIVES for name in _LINE.findall(text))


def conf_without_secrets(text: str, where: str) -> WatchedConf:
    """The file, checked; ScenarioError `where:line: …` that quotes names, directives and numbers only."""
    rows = [(number, words) for number, line in enumerate(text.split("\n"), 1) if (words := _words(line, f"{where}:{number}"))]
    monitors = [(number, words) for number, words in rows if ascii_lower(words[1]) == "monitor" and len(words) > 2]
    names = {words[2] for _, words in monitors}
    for number, words in monitors:
        if not NAME.match(words[2]):
            raise ScenarioError(
                f"{where}:{number}: a master's name has letters, digits, dot, dash and underscore only; correct it"
            )
        if len(words) == 5:
            raise ScenarioError(
                f"{where}:{number}: sentinel monitor takes NAME ADDRESS PORT QUORUM; was the file cut off here? Give it whole"
            )
    hidden = _Hidden(names)
    lines = [""] * (text.count("\n") + 1)
    for number, words in rows:
        lines[number - 1] = hidden.line(words)
    conf = parse_sentinel_conf("\n".join(lines), where=where)
    present = [(words[2], ascii_lower(words[1])) for _, words in rows if len(words) > 3]
    directives = {ascii_lower(words[1]) for _, words in rows}
    return WatchedConf(
        where, monitors[0][0], conf.masters, frozenset(present), conf.current_epoch if "current-epoch" in directives else None,
        "myid" in directives, {stand_in: word for word, stand_in in hidden.stand_ins.items()},
    )  # fmt: skip


def _words(line: str, place: str) -> tuple[str, ...]:
    """The words of a line that begins with `sentinel`, else none."""
    first = line.split(None, 1)[:1]
    if not first or ascii_lower(first[0].strip("\"'")) != "sentinel":
        return ()
    try:
        words = split_args(line.strip(" \t\r\n"))
    except ValueError:
        raise ScenarioError(f"{place}: a quotation mark has no partner; correct the line") from None
    if len(words) < 2:
        raise ScenarioError(f"{place}: `sentinel` alone says nothing; was the file cut off here? Give it whole")
    if not _WORD.match(words[1]):
        raise ScenarioError(f"{place}: what follows `sentinel` is no directive; correct the line")
    return words


class _Hidden:
    """Words that are not to be told, and what stands in for each."""

    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.stand_ins: dict[str, str] = {}

    def line(self, words: tuple[str, ...]) -> str:
        """The line as it may be quoted."""
        name = ascii_lower(words[1])
        row = SENTINEL_DIRECTIVES.get(name)
        if name == "myid":
            return f"sentinel myid {'x' * min(len(words[2]), 2 * RUN_ID_CHARS)}" if len(words) == 3 else "sentinel myid"
        if row is None:
            return f"sentinel {words[1]}"
        has_name = name == "monitor" or row.of_master
        kept = [self._word(word, i, name, is_name=has_name and i == 0) for i, word in enumerate(words[2:])]
        return " ".join(["sentinel", name, *kept])

    def _word(self, word: str, i: int, name: str, *, is_name: bool) -> str:
        """The i-th word after the directive `name`, or its stand-in."""
        if is_name and (word in self.names or did_you_mean(word, self.names)):
            return word
        if name in _NUMBERS and _NUMBER.match(word) and not (i == 1 and name in _ADDRESS_SECOND):
            return word
        if name in _YES_NO and _WORD.match(word):
            return word
        return self.stand_ins.setdefault(word, f"hidden-{len(self.stand_ins) + 1}")
