"""report.html: one self-contained page that says the answer first. No network, no script.

Mirrors nothing in Redis. Order: question and answer, findings, key numbers, plots with how to read them, tables, SLOWLOG,
redis.conf, what the model leaves out and guesses, how to repeat it. Each plot is drawn twice, for a screen and for a phone; the
browser picks one.
NOT modelled: nothing is computed here beyond sums that a table needs.
"""

import math
import shlex
from dataclasses import dataclass
from functools import cache
from typing import Any

import jinja2
import pandas as pd

from redsim.report import facts
from redsim.report.answer import answer
from redsim.report.crash_findings import SAID
from redsim.report.facts import number, say_count, say_share, say_us
from redsim.report.failover_tables import client_numbers, failover_rows, sentinel_rows
from redsim.report.figures import AWAY, GROUPS_MAX, HOW_TO_READ, HOW_TO_READ_AWAY, PER_GROUP, figure, shown_figures
from redsim.report.findings import findings
from redsim.report.memory_texts import memory_texts
from redsim.report.repeats import repeats_rows
from redsim.report.replication_findings import replica_rows
from redsim.report.style import svg_uri
from redsim.report.trust import trust
from redsim.run.result import Finding, Result
from redsim.units import say_bytes

ICONS = {"critical": "✖", "warning": "▲", "info": "ℹ"}  # in every common font, unlike emoji
ROWS_MAX = 60  # of a table; the CSV has them all
SLOWLOG_LINES_MAX = 120
_UNKNOWN = {  # what the page says of a run whose summary is cut short
    "question": "",
    "seed": "?",
    "digest": "none",
    "redsim_version": "?",
    "simulated_s": 0,
    "wall_s": 0,
    "commands": 0,
}
PERCENTILES = {"p50": "p50", "p99": "p99", "p999": "p99.9", "max": "max"}
_TITLES = {
    "repeats": "Over many seeds",
    "failover": "The failover",
    "stall": "The worst stall",
    "latency": "Latency over time",
    "heatmap": "Where the requests are",
    "percentiles": "Latency by percentile",
    "throughput": "Throughput",
    "blame": "Who is to blame",
    "memory": "Memory",
    "cache": "What the cache keeps",
    "expiry": "Keys past their time",
    "durability": "What the disk did, and what a crash would have taken",
    "replication": "How far replicas are behind",
    "syncs": "Resyncs",
}


@dataclass(frozen=True)
class Table:
    """A <table> for the template: head cells and rows of text; the first column heads its row."""

    caption: str
    head: list[str]
    rows: list[list[str]]
    left_out: int = 0
    words: int = 1  # this many columns hold words and stand left, the rest figures


@dataclass(frozen=True)
class Plot:
    """One figure: data URIs for a screen and for a phone, the text for who cannot see it, and how to read
    it.
    """

    name: str
    title: str
    wide: str
    narrow: str
    alt: str
    how: str


def render_html(result: Result) -> str:
    """The page as text; the same Result gives the same bytes."""
    return _template().render(
        answer=answer(result),
        conf=_conf_tables(result),
        facts=_key_numbers(result),
        findings=_findings(result),
        memory=memory_texts(result),
        guesses=_frame_table("Guesses used", result.guesses, ["name", "value", "says"]),
        icons=ICONS,
        not_modelled=result.not_modelled,
        partial=result.partial,
        plots=[_plot(result, name) for name in shown_figures(result)],
        repeat=repeat_command(result),
        result=result,
        said_partial=_said_partial(result),
        slowlog={node: lines[:SLOWLOG_LINES_MAX] for node, lines in result.slowlog.items()},
        slowlog_left={node: max(0, len(lines) - SLOWLOG_LINES_MAX) for node, lines in result.slowlog.items()},
        summary={**_UNKNOWN, **result.summary},
        tables=[table for table in _tables(result) if table.rows],
        trust=trust(result),
    )


@cache
def template_environment() -> jinja2.Environment:
    """Where the pages' templates are, and how they are read: everything escaped, nothing undefined."""
    loader = jinja2.PackageLoader("redsim.report", "templates")
    return jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )


def _template() -> jinja2.Template:
    return template_environment().get_template("report.html.j2")


def repeat_command(result: Result) -> str:
    """The shell line that runs the same scenario again with the same seed and overrides."""
    path = str(result.scenario.path) if result.scenario.path else "SCENARIO.yaml"
    words = ["redsim", "run", path, "--seed", str(result.summary.get("seed", result.scenario.file.seed))]
    if result.repeats is not None:
        words += ["--repeats", str(result.repeats.asked)]
    for override in result.scenario.overrides:
        words += ["--set", str(override)]
    return shlex.join(words)


def _findings(result: Result) -> list[Finding]:
    return list(result.findings) or findings(result)


def _said_partial(result: Result) -> str:
    asked_s = result.scenario.file.duration / 1e9
    return f"Partial run: stopped at {facts.duration_s(result):.3g} s of {asked_s:.3g} s of simulated time."


def _plot(result: Result, name: str) -> Plot:
    wide, narrow = (svg_uri(figure(result, name, narrow=phone), name) for phone in (False, True))
    how = HOW_TO_READ[name] + (HOW_TO_READ_AWAY if name in AWAY and facts.away_s(result) else "")
    alt = f"{_TITLES[name]}. {answer(result)}" if name == "stall" else f"{_TITLES[name]}. {how}"
    some = name in PER_GROUP and len(facts.groups(result)) > GROUPS_MAX
    how += f" The {GROUPS_MAX} busiest groups are drawn." if some else ""
    return Plot(name, _TITLES[name], wide, narrow, alt, how)


def _key_numbers(result: Result) -> Table:
    """One line per figure a planner asks for first."""
    rows = []
    for name, group in facts.groups(result).items():
        rate = say_count(number(group.get("throughput_per_s")))
        offered = "" if facts.is_closed(result, name) else f" of {say_count(number(group.get('offered_per_s')))} offered"
        rows.append([f"{name}: requests answered per second", rate + offered])
        spread = [f"{said} {say_us(facts.latency_us(group, key))}" for key, said in PERCENTILES.items()]
        offered_count, failed = number(group.get("offered")), number(group.get("failed"))
        if failed > 0.01 * offered_count:
            rows.append([f"{name}: failed in the end", say_share(failed / offered_count)])
            spread.append("(of the requests that were answered)")
        rows.append([f"{name}: latency", ", ".join(spread)])
        rows += client_numbers(result, name)
    for name, node in facts.nodes(result).items():
        rows.append([f"{name}: main thread busy", say_share(facts.loop_share(node))])
        rows.append([f"{name}: commands per poll", say_count(number(node.get("commands_per_poll")))])
        rows += _memory_numbers(name, node)
        worst = max((number(event.get("max_us")) for event in (node.get("stalls") or {}).values()), default=0.0)
        rows.append([f"{name}: longest stall", say_us(worst) if worst else "none in the ledger"])
    host = result.summary.get("host") or {}
    memory = f", {_say_bytes(number(host['memory_bytes']))}" if host.get("memory_bytes") else ""
    rows.append(["host", f"{host.get('cores', '?')} cores{memory}, profile {host.get('profile', '?')}"])
    return Table("Key numbers", ["figure", "value"], rows)


def _memory_numbers(name: str, node: dict[str, Any]) -> list[list[str]]:
    used, rss = node.get("used_memory_bytes") or {}, node.get("used_memory_rss_bytes") or {}
    if not used:
        return []
    said = f"{_say_bytes(number(used.get('peak')))} at most, RSS {_say_bytes(number(rss.get('peak')))}"
    limit = number(node.get("maxmemory_bytes"))
    rows = [[f"{name}: used_memory", f"{said}, maxmemory {_say_bytes(limit)}" if limit else said]]
    if number(node.get("evicted_keys")):
        rows.append([f"{name}: keys evicted", say_count(number(node["evicted_keys"]))])
    if node.get("hit_ratio") is not None:
        rows.append([f"{name}: reads that found their key", say_share(number(node["hit_ratio"]))])
    return rows


def _tables(result: Result) -> tuple[Table, ...]:
    return (
        Table(*repeats_rows(result)),
        _group_table(result),
        _command_table(result),
        _durability_table(result),
        _crash_table(result),
        Table(*failover_rows(result), words=5),
        Table(*sentinel_rows(result), words=4),
        Table(*replica_rows(result), words=3),
        _dataset_table(result),
        _stall_table(result),
    )


def _group_table(result: Result) -> Table:
    head = [
        "group",
        "offered/s",
        "answered/s",
        "answered",
        "failed",
        "timed out",
        "retries",
        "mean",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
    ]
    rows = []
    for name, group in facts.groups(result).items():
        offered = "closed" if facts.is_closed(result, name) else say_count(number(group.get("offered_per_s")))
        counts = [
            group.get("completed"),
            group.get("failed"),
            (group.get("errors") or {}).get("timeout"),
            group.get("retries"),
        ]
        spread = [say_us(facts.latency_us(group, key)) for key in ("mean", "p50", "p90", "p99", "p999", "max")]
        rate = say_count(number(group.get("throughput_per_s")))
        rows.append([name, offered, rate, *(say_count(number(count)) for count in counts), *spread])
    return Table("Client groups", head, rows)


def _command_table(result: Result) -> Table:
    head = [
        "command",
        "group",
        "answered",
        "failed",
        "hits",
        "misses",
        "p50",
        "p99",
        "p99.9",
        "max",
        "server time per call",
    ]
    rows = []
    for row in facts.rows(result.commands.head(ROWS_MAX)):
        counts = [row.completed, row.failed, row.hits, row.misses]
        times = [row.p50_us, row.p99_us, row.p999_us, row.max_us, row.usec_per_call]
        said = [
            *(say_count(number(count)) for count in counts),
            *(say_us(number(us, math.nan)) for us in times),
        ]
        rows.append([str(row.command), str(row.group), *said])
    return Table("Commands", head, rows, max(0, len(result.commands) - ROWS_MAX), words=2)


def _durability_table(result: Result) -> Table:
    """What the policy costs and what it loses; a row per node with an AOF."""
    head = [
        "node",
        "appendfsync",
        "disk",
        "answered/s",
        "p99.9 of the slowest group",
        "fsyncs",
        "aof_delayed_fsync",
        "a kill loses at worst",
        "a power loss, half of the time",
        "at worst",
        "the last",
    ]
    rows = []
    groups = list(facts.groups(result).values())
    rate = sum(number(group.get("throughput_per_s")) for group in groups)
    slowest_us = max((facts.latency_us(group, "p999") for group in groups), default=math.nan)
    for name, node in facts.nodes(result).items():
        told = node.get("durability") or {}
        if told:
            kill, power = (told["loss"][kind] for kind in ("process_kill", "os_crash_or_power_loss"))
            counts = [
                told["fsyncs"],
                told["delayed_fsync"],
                kill["commands"]["max"],
                *(power["commands"][q] for q in ("p50", "max")),
            ]
            said = [say_count(number(count)) for count in counts]
            age = f"{number(power['age_s']['max']):.3g} s"
            rows.append([name, told["appendfsync"], told["disk"], say_count(rate), say_us(slowest_us), *said, age])
    return Table("What the AOF costs, and what it loses (acknowledged writes)", head, rows, words=3)


def _crash_table(result: Result) -> Table:
    """What each crash took, and how long the server was away."""
    head = [
        "at",
        "node",
        "fault",
        "appendfsync",
        "acknowledged writes lost",
        "the last",
        "keys before",
        "after",
        "down",
        "loading",
    ]
    rows = []
    for name, row in facts.crashes(result):
        counts = [row["lost_acked_writes"], row["keys_before"], row["keys_after"]]
        lost, before, after = (say_count(number(count)) if count is not None else "–" for count in counts)
        down, loading = (
            say_us(1e6 * number(row[key])) if row[key] is not None else "until the end" for key in ("down_s", "loading_s")
        )
        age = f"{number(row['oldest_lost_s']):.3g} s" if row["lost_acked_writes"] else "–"
        said = [lost, age, before, after, down, loading if not row["refuses_to_start"] else "refuses to start"]
        rows.append([f"{number(row['at_s']):.6g} s", name, SAID[row["fault"]], row["appendfsync"], *said])
    return Table("Crashes", head, rows, words=4)


def _dataset_table(result: Result) -> Table:
    """What each data set takes before anybody touches it, and where a larger limit would save some of it."""
    head = [
        "data set",
        "type",
        "encoding",
        "would be less with",
        "keys",
        "MEMORY USAGE of a key",
        "used_memory of a key",
        "of all",
        "with it",
    ]
    rows = []
    for row in facts.rows(result.datasets):
        used, with_it = number(row.used_memory_bytes), number(row.used_memory_with_it_bytes)
        sizes = [
            _say_bytes(number(row.memory_usage_bytes)),
            _say_bytes(used / max(1, row.keys)),
            _say_bytes(used),
            _say_bytes(with_it),
        ]
        rows.append(
            [str(row.dataset), str(row.type), str(row.encodings or row.says), str(row.directive), say_count(row.keys), *sizes]
        )
    return Table("Data sets at the start", head, rows, words=4)


def _say_bytes(count: float) -> str:
    return say_bytes(round(count)) if count else "–"


def _stall_table(result: Result) -> Table:
    """The ledger's longest entries."""
    longest = result.stalls.sort_values("duration_us", ascending=False, kind="stable").head(15)
    rows = [
        [f"{row.start_s:.6g} s", str(row.node), str(row.event), say_us(row.duration_us), str(row.because)]
        for row in facts.rows(longest)
    ]
    return Table(
        "Longest stalls",
        ["at", "node", "event", "held the loop", "because"],
        rows,
        len(result.stalls) - len(rows),
        words=5,
    )


def _frame_table(caption: str, frame: pd.DataFrame, columns: list[str]) -> Table:
    rows = [[str(value) for value in row] for row in frame[columns].itertuples(index=False)]
    return Table(caption, columns, rows)


def _conf_tables(result: Result) -> list[Table]:
    """What became of each redis.conf line, a table per node."""
    columns = ["line", "directive", "value", "status", "says"]
    named = {"sentinels": "sentinel.conf"}
    groups = result.directives.groupby("node", sort=False)
    return [_frame_table(named.get(str(node), f"redis.conf of {node}"), rows, columns) for node, rows in groups]
