"""Logs of Sentinels made comparable: the same for those of real ones (tests/recorded/sentinel.json) and for those of the model.

A line keeps its words; addresses become MASTER, PROMOTED, OTHER (of a Sentinel: nothing), run ids LEADER or OBSERVER, dates DATE.
"""

import re
from collections.abc import Sequence

Line = tuple[float, str, str]  # seconds from the fault, Sentinel, text

MARKS = {
    "sdown_first": ("+sdown master", 0), "odown": ("+odown master", 0), "try_failover": ("+try-failover", 0),
    "elected": ("+elected-leader", 0), "select_slave": ("+selected-slave", 0), "promoted": ("+promoted-slave", 0),
    "switch_first": ("+switch-master", 0), "switch_all": ("+switch-master", -1), "convert": ("+convert-to-slave", 0),
}  # fmt: skip


def leader_of(lines: Sequence[Line]) -> tuple[str, str]:
    """(who was elected, its run id): of the first +elected-leader, else of the first vote."""
    who = next((name for _, name, text in lines if text.startswith("+elected-leader")), "")
    votes = [(name, text.split()[1]) for _, name, text in lines if text.startswith("+vote-for-leader")]
    runid = next((runid for name, runid in votes if name == who), votes[0][1] if votes else "")
    return who, runid


def normal(lines: Sequence[Line], master: tuple[str, str]) -> dict[str, list[str]]:
    """By Sentinel, what it says in order; `master` as host and port in the texts."""
    _, runid = leader_of(lines)
    promoted = next((text.split()[3:5] for _, _, text in lines if text.startswith("+selected-slave")), ["none", "none"])
    found: dict[str, list[str]] = {}
    for _, name, text in lines:
        found.setdefault(name, []).append(_normal(text, runid, master, (promoted[0], promoted[1])))
    return found


def _normal(text: str, runid: str, master: tuple[str, str], promoted: tuple[str, str]) -> str:
    text = re.sub(r"before .*", "before DATE", text)
    text = re.sub(r"sentinel ([0-9a-f]{40}) \S+ \d+", r"sentinel \1", text)
    if runid:
        text = text.replace(runid, "LEADER")
    text = re.sub(r"\b[0-9a-f]{40}\b", "OBSERVER", text)
    for who, (host, port) in (("MASTER", master), ("PROMOTED", promoted)):
        text = text.replace(f"{host}:{port} {host} {port}", who).replace(f"{host} {port}", who)
    return re.sub(r"(\S+):(\d+) \1 \2", "OTHER", text)


def times(lines: Sequence[Line], quorum: int) -> dict[str, float]:
    """Seconds from the fault to each of MARKS, and to the `quorum`-th +sdown of the master."""
    found = {}
    for mark, (start, which) in MARKS.items():
        at = [t for t, _, text in lines if text.startswith(start)]
        if at:
            found[mark] = at[which]
    downs = [t for t, _, text in lines if text.startswith("+sdown master")]
    if len(downs) >= quorum:
        found["sdown_quorum"] = downs[quorum - 1]
    return found
