"""Findings about failovers: how long one took and what of it, what it cost, why there was none, who was only held.

Mirrors sentinel.c in its words: events, directives, the majority of all known Sentinels that an election takes.
Differs: an operator knows what Sentinels logged; here the cause is known, too.
NOT modelled: whether a shorter down-after-milliseconds suits the hosts; a finding says what it would have to be longer than.
"""

from itertools import pairwise
from typing import Any

from redsim.report import facts
from redsim.report import failover_facts as ff
from redsim.report.client_findings import Findings
from redsim.report.facts import number, say_count, say_times
from redsim.run.failover_steps import ASKED, down_after_s, long_stall
from redsim.run.result import Finding, Result
from redsim.units import S, say_ns

BOTH_S = 0.1  # two masters for less are a change of masters
_CURES = {
    "+sdown": "sentinel down-after-milliseconds: less detects earlier, but must stay above the longest stall",
    "+odown": "Sentinels nearer to each other: each is asked once a second",
    "+elected-leader": "an odd number of Sentinels, so that votes do not split",
    "the promotion": "a replica that is connected and answers at once",
    "+switch-master": "nothing to set: the leader learns of the promotion by INFO, once a second",
    "the clients": "shorter time-outs and backoff of the clients, or a client that listens to +switch-master",
}


def say_s(seconds: float) -> str:
    """`3.0592` → `3.06 s`."""
    return say_ns(round(seconds * S))


def say_cause(result: Result, episode: ff.Episode) -> str:
    """What happened to the master, with its article; "": nothing that is known."""
    if episode.cause is None:
        return ""
    at_s, kind = episode.cause
    if kind == "stall":
        held = long_stall(result, episode.old, at_s, episode.begin_s)
        return f"the {say_held(held)[0]}" if held is not None else "the stall"
    return _the(kind)


def _the(kind: str) -> str:
    """`kill` → `the kill -9`."""
    return f"the {ff.FAULTS.get(kind, kind)}"


def say_held(held: tuple[float, float, str, str]) -> tuple[str, str]:
    """What held a server, and the same as a sentence's beginning."""
    _, length_s, event, because = held
    if event == "process-stopped":
        return "SIGSTOP", f"SIGSTOP stopped its process for {say_s(length_s)}"
    name = facts.command_of(because) or event
    return name, f"{name} held its loop for {say_s(length_s)}"


def back_s(result: Result, episode: ff.Episode) -> tuple[str, float] | None:
    """(group, when) the last of the groups that got no answer meanwhile was served again."""
    found = []
    for name, group in ff.followers(result).items():
        span = ff.away_span(group)
        if span is not None and span[0] <= episode.end_s and span[1] >= episode.start_s and span[1] < facts.duration_s(result):
            found.append((name, span[1]))
    return max(found, key=lambda one: one[1], default=None)


def phases(result: Result, episode: ff.Episode) -> list[tuple[str, float]]:
    """(until what, s): where the time of the episode's first failover went, until its clients were served again.

    A Sentinel that leads gives the new address as soon as it knows of the promotion, before it says +switch-master.
    """
    row, back = episode.failovers[0], back_s(result, episode)
    marks = [
        ("", row.get("down_at_s")), ("+sdown", row.get("sdown_s")), ("+odown", row.get("odown_s")),
        ("+elected-leader", row.get("elected_s")), ("the promotion", row["at_s"]), ("+switch-master", row.get("switch_s")),
    ]  # fmt: skip
    known = [(name, float(at)) for name, at in marks if at is not None]
    if back is not None and back[1] >= row["at_s"]:
        known = [(name, at) for name, at in known if at <= back[1]] + [("the clients", back[1])]
    return [(name, max(at - before_s, 0.0)) for (_, before_s), (name, at) in pairwise(known)]


def took(result: Result) -> Findings:
    """How long a failover took, and where the time went."""
    for episode in ff.episodes(result):
        if not episode.failovers:
            continue
        row, parts = episode.failovers[0], phases(result, episode)
        total_s, longest = sum(length for _, length in parts), max(parts, key=lambda part: part[1], default=("", 0.0))
        begin = say_cause(result, episode) or (_the(row["because"]) if row.get("because") else "the first +sdown")
        leader = f" (leader {', '.join(episode.leaders)})" if episode.leaders else ""
        text = f"The failover from {row['from']} to {row['to']} took {say_s(total_s)} from {begin} on{leader}: "
        text += ", ".join(f"{say_s(length)} to {name}" for name, length in parts)
        yield Finding("warning", text + ".", _CURES.get(longest[0], ""))


def lost(result: Result) -> Findings:
    """Writes that were acknowledged and are gone."""
    for row in ff.failovers(result):
        count = number(row["lost_acked_writes"])
        if not count:
            continue
        first, last = number(row["lost_from_s"]), number(row["lost_until_s"])
        text = f"The failover from {row['from']} to {row['to']} lost {say_writes(count)}: {row['from']} executed"
        text += f" {'them between' if count > 1 else 'it at'} {first:.4g} s"
        text += f"{f' and {last:.4g} s' if count > 1 else ''}, and {row['to']} never got {'them' if count > 1 else 'it'}."
        other = number(row.get("lost_replicated_writes"))
        text += f" Another replica had {say_count(other)} of them: WAIT 1 would not have told." if other else ""
        cure = "WAIT 1 after a write that must survive; min-replicas-to-write 1 and min-replicas-max-lag: a master that is"
        cure += " without replicas refuses writes"
        if row.get("because") == ASKED:
            cure = "CLIENT PAUSE WRITE on the old master before a drill, and clients that listen to +switch-master"
        yield Finding("critical", text, cure)


def say_writes(count: float) -> str:
    """`1 acknowledged write`, `5,926 acknowledged writes`."""
    return f"{say_count(count)} acknowledged write{'' if count == 1 else 's'}"


# ---- no failover


def reason(result: Result, episode: ff.Episode) -> tuple[str, str]:
    """(why an episode ended without a new master, the cure)."""
    known, rules = len(ff.sentinels(result)), ff.rules(result, episode.service)
    needed, down, quorum = known // 2 + 1, episode.says_down(), rules.quorum if rules is not None else 0
    if episode.all("-failover-abort-no-good-slave"):
        why = "no replica was good enough (-failover-abort-no-good-slave: down, cut off for too long, or replica-priority 0)"
        return why, "a replica with a replica-priority above 0 that was connected to its master shortly before"
    if episode.all("-failover-abort-not-elected"):
        who = ", ".join(episode.candidates)
        votes = max((len(voters) for voters in ballots(episode).values()), default=0)
        cure = "more Sentinels, on hosts that do not fail together; an odd number of them"
        return f"{who} got {votes} of the {max(needed, quorum)} votes that an election takes (most of all {known} known)", cure
    if episode.all("-failover-abort-slave-timeout"):
        return "the chosen replica did not become a master in time (-failover-abort-slave-timeout)", "a replica that answers"
    if not episode.all("+odown") and len(down) < quorum:
        said = f"only {len(down)} of {known} Sentinels said +sdown, and quorum is {quorum}"
        return said, f"sentinel monitor {episode.service} with a lower quorum; Sentinels that see what the clients see"
    if episode.all("-sdown"):
        return "the master answered again before one began", ""
    why = "a vote or a failover before keeps the Sentinels from another one for 2 × failover-timeout"
    return why, "sentinel failover-timeout"


def ballots(episode: ff.Episode) -> dict[str, set[str]]:
    """candidate -> who voted for it, the last vote of each."""
    last = {event.who: event.about for event in episode.all("+vote-for-leader")}
    return {name: {who for who, whom in last.items() if whom == name} for name in dict.fromkeys(last.values())}


def is_held_only(episode: ff.Episode) -> bool:
    """The master's loop was held, and it answered again."""
    return episode.cause is not None and episode.cause[1] == "stall"


def none_happened(result: Result) -> Findings:
    """A master was gone, and no replica took its place; told once for each reason."""
    told: dict[tuple[str, str], int] = {}
    cures: dict[tuple[str, str], tuple[ff.Episode, str]] = {}
    for episode in ff.episodes(result):
        if episode.failovers or is_held_only(episode):
            continue
        why, cure = reason(result, episode)
        told[episode.old, why] = told.get((episode.old, why), 0) + 1
        cures.setdefault((episode.old, why), (episode, cure))
    for (old, why), count in told.items():
        episode, cure = cures[old, why]
        begin = say_cause(result, episode)
        text = f"No failover of {old}{f' after {begin}' if begin else ''} at {episode.start_s:.4g} s: {why}"
        yield Finding("critical", text + (f"; {say_times(count)}." if count > 1 else "."), cure)


def lost_elections(result: Result) -> Findings:
    """Who was not elected, and until when it does not try again."""
    for episode in ff.episodes(result):
        rules = ff.rules(result, episode.service)
        for event in episode.all("-failover-abort-not-elected"):
            lock_s = 2 * rules.failover_timeout_ns / S if rules is not None else 360.0
            votes = "; ".join(f"{who}: {', '.join(sorted(voters))}" for who, voters in ballots(episode).items())
            text = f"{event.who} was not elected at {event.at_s:.4g} s (votes for {votes}). It and who voted for another do not"
            text += f" try again for {say_s(lock_s)} after their vote, twice failover-timeout."
            cure = f"sentinel failover-timeout {episode.service}: less shortens the lock-out; Sentinels in odd number"
            yield Finding("warning", text, cure)


# ---- false alarms, two masters


def false_alarms(result: Result) -> Findings:
    """A server that was only held is taken for down."""
    told = set()
    for event in ff.events(result):
        if event.name != "+sdown" or not event.text.startswith(("master ", "slave ")):
            continue
        held = long_stall(result, event.about, event.at_s - down_after_s(result), event.at_s)
        if held is None or (event.about, held[0]) in told:
            continue
        told.add((event.about, held[0]))
        over_s = held[0] + held[1]
        row = next((row for row in ff.failovers(result) if row["from"] == event.about and event.at_s <= row["at_s"]), None)
        is_cause = row is not None and row["at_s"] <= over_s + ff.QUIET_S
        rules = ff.rules(result, event.service)
        after = f", longer than the {say_ns(rules.down_after_ns)} of down-after-milliseconds" if rules is not None else ""
        text = f"{event.about} was not dead when it was taken for down (+sdown) at {event.at_s:.4g} s: {say_held(held)[1]}{after}"
        text += f". The failover to {row['to']} would not have been needed." if is_cause and row else "; no failover came of it."
        cure = f"remove the stall, or sentinel down-after-milliseconds {event.service} above {int(1000 * held[1])}"
        yield Finding("warning", text, cure)


def split_brain(result: Result) -> Findings:
    """Two masters at once: for how long, and what the old one took."""
    for row in ff.failovers(result):
        old, new = str(row["from"]), str(row["to"])
        both = [
            (max(a, c), min(b, d)) for a, b in ff.as_master(result, old) for c, d in ff.as_master(result, new)
            if min(b, d) - max(a, c) > BOTH_S and min(b, d) > row["at_s"]
        ]  # fmt: skip
        for start, end in both:
            mine = result.lost_writes[(result.lost_writes["node"] == old) & (result.lost_writes["promoted"] == new)]
            count = int(((mine["time_s"] >= start) & (mine["time_s"] <= end)).sum())
            until = "the end" if end >= facts.duration_s(result) - 1e-6 else f"{end:.4g} s"
            text = f"Two masters at once, {old} and {new}, for {say_s(end - start)}, from {start:.4g} s to {until}"
            text += f": {old} took {say_count(count)} writes meanwhile, which are lost." if count else f"; nobody wrote to {old}."
            cure = f"min-replicas-to-write 1 on {old}: without its replicas it refuses writes" if count else ""
            yield Finding("critical" if count else "info", text, cure)


# ---- clients, TILT


def stayed(result: Result) -> Findings:
    """Clients that are not at the master of today."""
    rows = ff.failovers(result)
    if not rows or not ff.sentinels(result):
        return
    now, gone = str(rows[-1]["to"]), {str(row["from"]) for row in rows} - {str(rows[-1]["to"])}
    for name in facts.groups(result):
        is_following = name in ff.followers(result)
        at = ff.places(result, name)[-1][2] if is_following else facts.node_of(result, name)
        if at not in gone:
            continue
        why = "it did not ask for the master again" if is_following else "the scenario names the server, not the service"
        text = f"{name} did not follow to {now}: it was at {at} to the end, as {why}."
        yield Finding("warning", text, "a client that asks a Sentinel for the master after an error, or hears +switch-master")


def tilt(result: Result) -> Findings:
    """A Sentinel whose timer was late does nothing for 30 s."""
    every = ff.events(result)
    for event in every:
        if event.name != "+tilt":
            continue
        ends = [one.at_s for one in every if one.name == "-tilt" and one.who == event.who and one.at_s > event.at_s]
        until = f"until {min(ends):.4g} s" if ends else "to the end"
        text = f"{event.who} was in TILT from {event.at_s:.4g} s {until}: its timer was more than 2 s late. It took no server for"
        yield Finding("warning", text + " down meanwhile and began no failover.", "a host that stops no process; more Sentinels")


# ---- the answer


def failed_over(result: Result) -> str:
    """The first sentences of an answer, where there are Sentinels."""
    if not ff.sentinels(result):
        return ""
    episodes = ff.episodes(result)
    done = [episode for episode in episodes if episode.failovers]
    if done:
        return _told(result, done)
    if not episodes:
        return "No failover: no Sentinel took a master for down. "
    first = episodes[0]
    if is_held_only(first):
        return f"No failover: {first.old} was taken for down at {first.begin_s:.4g} s, but answered again. "
    return f"No failover of {first.old}, down at {first.start_s:.4g} s: {reason(result, first)[0]}. "


def _told(result: Result, done: list[ff.Episode]) -> str:
    episode, row = done[0], done[0].failovers[0]
    begin = say_cause(result, episode)
    since = f", {say_s(row['at_s'] - episode.start_s)} after {begin}" if begin else ""
    text = f"{row['to']} took over from {row['from']} at {row['at_s']:.4g} s{since}"
    back = back_s(result, episode)
    if back is not None:
        away = ff.away_span(ff.followers(result)[back[0]])
        text += f"; {back[0]} got no answer for {say_s(away[1] - away[0])}" if away is not None else ""
    rows: list[dict[str, Any]] = ff.failovers(result)
    count = sum(number(one["lost_acked_writes"]) for one in rows)
    text += f"; {say_writes(count) if count else 'no acknowledged write'} {'were' if count > 1 else 'was'} lost"
    more = len(rows) - 1
    return text + (f"; {more} more failover{'s' if more > 1 else ''} followed. " if more else ". ")


FAILOVER_FINDINGS = (took, lost, none_happened, lost_elections, false_alarms, split_brain, stayed, tilt)
