"""The page's tables of failovers and of Sentinels.

Mirrors nothing in Redis; times are seconds of the run at which Sentinels logged the event of the column's name.
NOT modelled: a failover's later ones in one episode have no times of their own but the promotion's.
"""

from redsim.report import facts
from redsim.report import failover_facts as ff
from redsim.report.facts import number, say_count, say_us
from redsim.report.failover_findings import back_s, reason, say_cause
from redsim.run.result import Result

Rows = tuple[str, list[str], list[list[str]]]


def _at(at_s: float | None) -> str:
    return "–" if at_s is None else f"{at_s:.3f} s"


def failover_rows(result: Result) -> Rows:
    """(caption, head, rows): a row for each promotion, and for each episode without one."""
    head = ["service", "from", "to", "after", "leader", "fault at", "+sdown", "+odown", "+elected-leader", "promoted",
            "+switch-master", "clients back", "lost"]  # fmt: skip
    rows = []
    for one in ff.episodes(result) if ff.sentinels(result) else []:
        begin = say_cause(result, one).removeprefix("the ") or "–"
        times = [_at(one.cause[0] if one.cause is not None else None), *(_at(one.first_s(name)) for name in ("+sdown", "+odown"))]
        elected, switched, back = one.first_s("+elected-leader"), one.first_s("+switch-master"), back_s(result, one)
        leader = ", ".join(one.leaders) or "–"
        for row in one.failovers:
            rows.append([
                one.service, str(row["from"]), str(row["to"]), begin, leader, *times, _at(elected), _at(float(row["at_s"])),
                _at(switched), _at(back[1] if back is not None else None), say_count(number(row["lost_acked_writes"])),
            ])  # fmt: skip
        if not one.failovers:
            to = f"nobody: {reason(result, one)[0]}"
            rows.append([one.service, one.old, to, begin, leader, *times, _at(elected), "–", "–", "–", "–"])
    return "Failovers", head, rows


def sentinel_rows(result: Result) -> Rows:
    """(caption, head, rows): a row for each Sentinel."""
    head = ["Sentinel", "host", "its master", "at the end", "current_epoch", "votes", "elected", "+sdown",
            "+tilt", "flushes", "longest"]  # fmt: skip
    every, rows = ff.events(result), []
    for name, told in ff.sentinels(result).items():
        mine = [event.name for event in every if event.who == name]
        counts = [mine.count(kind) for kind in ("+vote-for-leader", "+elected-leader", "+sdown", "+tilt")]
        masters = "; ".join(f"{service}: {node}" for service, node in (told.get("masters") or {}).items())
        rows.append([
            name, str(told.get("host", "–")), masters or "–", "alive" if told.get("alive") else "dead",
            say_count(number(told.get("epoch"))), *(say_count(count) for count in counts),
            say_count(number(told.get("config_flushes"))), say_us(number(told.get("config_flush_max_us"))),
        ])  # fmt: skip
    return "Sentinels", head, rows


def client_numbers(result: Result, name: str) -> list[list[str]]:
    """Key numbers of a group that follows a service."""
    told = ff.followers(result).get(name)
    if told is None:
        return []
    span, at = ff.away_span(told), ff.places(result, name)[-1][2]
    length = say_us(1e6 * number(told["unavailable_s"]))
    length += f", from {number(told['unavailable_from_s']):.4g} s on" if span is not None else ""
    moves, asked = len(told.get("moves") or []), int(told["asked_for_the_master"])
    said = f"{facts.say_times(asked) if asked else 'never'}, at {at} in the end"
    said += f" ({moves} move{'s' if moves > 1 else ''})" if moves else ""
    return [[f"{name}: longest time without an answer", length], [f"{name}: asked for the master", said]]
