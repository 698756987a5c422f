"""What an operator can attach to a ticket, told apart by content: INFO, redis.conf, SLOWLOG GET, --bigkeys, --memkeys, MONITOR;
and a Sentinel's files, which observe_sentinel reads.

INFO all twice gives rates over the time between them; one gives totals since the server started. INFO replication, saved many
times into one file with a time before each (offsets.py), gives the replication offset over time. The texts are redis-cli's, as
it prints them on a terminal and into a file.
Differs: of --bigkeys only averages and the biggest are known, so a size is its type's average, and one key is the biggest.
Not modelled: output of other tools (redis-rdb-tools, RedisInsight).
"""

import re
from dataclasses import dataclass
from pathlib import Path

from redsim.lab.element_size import value_bytes_of
from redsim.lab.observe_conf import conf_of_text, is_conf
from redsim.lab.observed import Command, Observation, Progress, Shape, Window, about_server, flat, whole, window_of
from redsim.lab.observed_replication import Series, replication_of
from redsim.lab.sampled import ELEMENTS_GUESS, KEY_OVERHEAD_BYTES
from redsim.lab.sentinel_texts import is_sentinel_text
from redsim.lab.sentinel_words import is_sentinel_conf
from redsim.lab.traffic import traffic_of
from redsim.run.offsets import samples_of
from redsim.scenario.errors import ScenarioError
from redsim.scenario.info import CommandStat, InfoCapture, parse_info, parse_info_file
from redsim.scenario.monitor import MonitorCapture, parse_monitor_file
from redsim.units import S

HEAD_BYTES = 256 * 1024  # what a file's kind is told from
TEXT_BYTES_MAX = 16 * 1024 * 1024
ELEMENT_BYTES_GUESS = 16  # what an element of a small aggregate takes
ACCEPTED = (
    "INFO all, INFO replication, redis.conf, SLOWLOG GET, redis-cli --bigkeys or --memkeys, a MONITOR capture, sentinel.conf, or "
    "SENTINEL MASTERS"
)

SAID = {
    "info": "INFO", "conf": "redis.conf", "slowlog": "SLOWLOG GET", "keys": "redis-cli --bigkeys or --memkeys",
    "monitor": "MONITOR", "replication": "INFO replication",
}  # fmt: skip
OF_SENTINEL = ("sentinel-info", "sentinel-text", "sentinel-conf")

_MONITOR = re.compile(rb"\A(?:\+?OK\r?\n)?\+?\d{1,11}\.\d{6} \[")
_INFO = re.compile(rb"^(?:# Server|redis_version:|cmdstat_|uptime_in_seconds:)", re.MULTILINE)
_INFO_OF_SENTINEL = re.compile(rb"^redis_mode:sentinel", re.MULTILINE)
_OFFSET = re.compile(rb"^master_repl_offset:", re.MULTILINE)
_KEYS = re.compile(rb"^(?:# Scanning the entire keyspace|Sampled \d+ keys in the keyspace|\[\d+\.\d\d%\] Biggest )", re.MULTILINE)
_TTY = re.compile(r"^ *\d+\) +1\) \(integer\) \d+ *$", re.MULTILINE)
_TTY_ENTRY = re.compile(
    r"^ *\d+\) +1\) \(integer\) \d+ *\n +2\) \(integer\) \d+ *\n +3\) \(integer\) (\d{1,18}) *\n +4\) +1\) \"?([^\s\"]{1,40})",
    re.MULTILINE,
)
_KEY_BYTES = re.compile(r"^Total key length in bytes is \d+ \(avg len (\d{1,12}(?:\.\d{1,6})?)\)", re.MULTILINE)
_OF_TYPE = re.compile(r"^(\d{1,15}) (string|list|hash|set|zset|stream)s with (\d{1,18}) (\w+) ", re.MULTILINE)
_BIGGEST = re.compile(r"^Biggest +(string|list|hash|set|zset) found .* has (\d{1,18}) (\w+) *$", re.MULTILINE)


@dataclass
class _Files:
    """What was given, by kind."""

    infos: list[InfoCapture]
    confs: list[tuple[str, str]]
    slowlogs: list[list[tuple[int, str]]]
    key_reports: list[str]
    monitors: list[MonitorCapture]
    replications: list[tuple[Path, str]]


def kind_of(head: bytes) -> str:
    """`monitor`, `replication`, `info`, `keys`, `slowlog`, `conf`, one of OF_SENTINEL or "" from the first bytes of a file."""
    if _MONITOR.match(head):
        return "monitor"
    offsets = len(_OFFSET.findall(head))
    if offsets > 1 or (offsets == 1 and not _INFO.search(head.replace(b"\r\n", b"\n"))):
        return "replication"
    if _INFO.search(head.replace(b"\r\n", b"\n")):
        return "sentinel-info" if _INFO_OF_SENTINEL.search(head) else "info"
    if _KEYS.search(head):
        return "keys"
    text = head.decode("utf-8", "replace").replace("\r\n", "\n")
    if is_sentinel_text(text):
        return "sentinel-text"
    if is_sentinel_conf(text):
        return "sentinel-conf"
    if _TTY.search(text) or slowlog(text):
        return "slowlog"
    return "conf" if is_conf(text) else ""


def sort_out(paths: list[Path]) -> tuple[list[Path], list[tuple[Path, str, str]]]:
    """(files of a server, files of a Sentinel: path, kind, text); what cannot be read is left to observe_files."""
    servers, sentinels = [], []
    for path in paths:
        try:
            with path.open("rb") as file:
                raw = file.read(HEAD_BYTES)
                kind = kind_of(raw)
                raw += file.read(TEXT_BYTES_MAX - HEAD_BYTES) if kind in OF_SENTINEL else b""
        except (OSError, ValueError):
            kind = ""
        if kind in OF_SENTINEL:
            sentinels.append((path, kind, raw.decode("utf-8", "replace").replace("\r\n", "\n")))
        else:
            servers.append(path)
    return servers, sentinels


def observe_files(paths: list[Path], progress: Progress) -> Observation:
    """An Observation out of files; ScenarioError, one sentence, for a file of no known kind or that does not fit the others."""
    files = _Files([], [], [], [], [], [])
    seen = Observation()
    for number, path in enumerate(paths):
        progress(f"reading {path.name}", number / len(paths))
        _read(path, files, seen)
    if not files.infos and not files.monitors:
        raise ScenarioError(
            f"{', '.join(str(path) for path in paths)}: nothing here tells how often which command came; "
            "add `redis-cli INFO all`, saved twice a minute apart, or a MONITOR capture"
        )
    at_most = (
        (files.infos[2:], "two INFO"), (files.confs[1:], "one redis.conf"), (files.monitors[1:], "one MONITOR capture"),
        (files.replications[1:], "one file of INFO replication"),
    )  # fmt: skip
    for given, what in at_most:
        if given:
            raise ScenarioError(f"{', '.join(str(path) for path in paths)}: more than {what}; keep {what} of one server")
    if files.infos:
        files.infos.sort(key=lambda info: (_at(info), info.where))
        seen.window = window_of(files.infos[0] if len(files.infos) == 2 else None, files.infos[-1])
        about_server(seen, files.infos[-1])
    _replication(seen, files)
    for _, text in files.confs:
        seen.conf, left_out = conf_of_text(text, seen.version)
        seen.left_out += left_out
        seen.conf_seen = True
    if not files.confs:
        seen.could_not_see.append("redis.conf: not given; the version's defaults are taken")
    seen.slowlog = [entry for entries in files.slowlogs for entry in entries]
    seen.shapes = shapes_of_reports(files.key_reports)
    if seen.keys is None and seen.shapes:
        seen.keys = sum(shape.keys for shape in seen.shapes)
    if files.monitors:
        keys_of = {shape.type: shape.keys for shape in seen.shapes} or None
        seen.traffic = traffic_of(files.monitors[0], keys_of)
        if seen.window is None:
            seen.window = _window_of_capture(files.monitors[0])
    return seen


def _read(path: Path, files: _Files, seen: Observation) -> None:
    try:
        with path.open("rb") as file:
            raw = file.read(TEXT_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the name is not one a file can have"
        raise ScenarioError(f"{path}: cannot be read ({reason}); give a URL, redis://127.0.0.1:6379, or {ACCEPTED}") from None
    kind = kind_of(raw[:HEAD_BYTES])
    if kind in ("", "conf", "slowlog", "keys", "replication") and len(raw) > TEXT_BYTES_MAX:
        raise ScenarioError(f"{path}: is larger than 16 MiB and no MONITOR capture; redsim observe reads {ACCEPTED}")
    text = raw.decode("utf-8", "replace").replace("\r\n", "\n")
    if kind == "":
        raise ScenarioError(f"{path}: is none of what redsim observe reads: {ACCEPTED}")
    seen.sources.append(f"{path.name} ({SAID[kind]})")
    if kind == "info":
        files.infos.append(parse_info_file(path))
    elif kind == "monitor":
        files.monitors.append(parse_monitor_file(path))
    elif kind == "replication":
        files.replications.append((path, text))
    elif kind == "conf":
        files.confs.append((path.name, text))
    elif kind == "slowlog":
        files.slowlogs.append(slowlog(text))
    else:
        files.key_reports.append(text)


def _replication(seen: Observation, files: _Files) -> None:
    """The series: of the file of INFO replication if there is one, else of the two INFO; the rest by INFO if there is one."""
    series = Series()
    for path, text in files.replications:
        last = max(text.rfind("# Replication"), 0)
        if seen.replication is None:
            seen.replication = replication_of(flat(parse_info(text[last:], str(path))))
        if text.count("master_repl_offset:") > 1:
            for _, at_ns, offset in samples_of(path):
                series.add_offset(at_ns / S, offset)
    if not files.replications and len(files.infos) == 2 and seen.window is not None:
        series.add(0.0, flat(files.infos[0]))
        series.add(seen.window.seconds, flat(files.infos[1]))
    if seen.replication is not None:
        series.into(seen.replication)


def _at(info: InfoCapture) -> int:
    fields = flat(info)
    return whole(fields, "server_time_usec") or (whole(fields, "uptime_in_seconds") or 0)


def _window_of_capture(capture: MonitorCapture) -> Window:
    """Rates of a MONITOR capture on its own: who sent what how often, with no costs."""
    if capture.span_ns == 0:
        raise ScenarioError(f"{capture.where}:1: all its commands have one time, so no rate follows; capture some seconds")
    seconds = capture.span_ns / S
    calls = [int(((capture.command == code) & (capture.client >= 0)).sum()) for code in range(len(capture.names))]
    called = dict(zip(capture.names, calls, strict=True))
    stats = tuple(CommandStat(name.lower(), n, 0, 0.0, 0, 0) for name, n in called.items())
    data = InfoCapture(capture.where, {}, stats).mix()
    commands = sorted((Command(name, called[name], 0) for name in data), key=lambda c: (-c.calls, c.name))
    admin = sorted(
        (Command(name, n, 0) for name, n in called.items() if n and name not in data), key=lambda c: (-c.calls, c.name)
    )
    said = f"{seconds:.3g} s of MONITOR; no INFO, so no costs: the profile's are taken"
    return Window(seconds, tuple(commands), tuple(admin), {}, None, "", said)


# ---- redis-cli's texts ---------------------------------------------------------------------------------------------


def slowlog(text: str) -> list[tuple[int, str]]:
    """(µs, command) of `SLOWLOG GET`, newest first, as redis-cli prints it on a terminal or (bare) into a file; else []."""
    if _TTY.search(text):
        return [(int(match[1]), _word(match[2])) for match in _TTY_ENTRY.finditer(text)]
    lines = text.split("\n")
    out: list[tuple[int, str]] = []
    last_id = -1
    for i in range(len(lines) - 3):
        number, at, usec = lines[i : i + 3]
        if not (number.isdigit() and len(number) < 19 and at.isdigit() and usec.isdigit() and len(usec) < 19):
            continue
        if not 1_000_000_000 <= int(at[:11]) <= 9_999_999_999 or not (i == 0 or -1 < int(number) < last_id):
            continue
        if i > 0 and not out:
            return []
        last_id = int(number)
        out.append((int(usec), _word(lines[i + 3])))
    return out


def _word(text: str) -> str:
    return text.upper()[:40] if text.replace(".", "").replace("_", "").isalnum() else "?"


def shapes_of_reports(texts: list[str]) -> list[Shape]:
    """Shapes out of --bigkeys (counts, elements, the biggest) and --memkeys (bytes) reports of one server."""
    found: dict[str, Shape] = {}
    memory: dict[str, int] = {}
    key_bytes = 0
    for text in texts:
        average = _KEY_BYTES.search(text)
        key_bytes = round(float(average[1])) if average else key_bytes
        biggest = {m[1]: (int(m[2]), m[3]) for m in _BIGGEST.finditer(text)}
        of_type = [(int(m[1]), m[2], int(m[3]), m[4]) for m in _OF_TYPE.finditer(text)]
        in_memory = any(kind != "string" and unit == "bytes" for _, kind, _, unit in of_type)
        for keys, kind, total, _unit in of_type:
            if keys == 0:
                continue
            shape = found.setdefault(kind, Shape(kind, keys, keys, said="--bigkeys: averages over all keys, and the biggest"))
            if in_memory:
                memory[kind] = total // keys
                continue
            most = min(biggest.get(kind, (total // keys, ""))[0], total)
            sizes = [(round((total - most) / max(keys - 1, 1)), keys - 1), (most, 1)] if keys > 1 else [(total, 1)]
            sizes = sorted(sizes) if sizes[0][0] != sizes[-1][0] else [(most, keys)]
            shape.biggest = most
            if kind == "string":
                shape.value_bytes = sizes
            else:
                shape.elements = sizes
    for kind, shape in found.items():
        shape.key_bytes = [(key_bytes, shape.keys)] if key_bytes else []
        if kind in memory and not shape.value_bytes:
            said = "--bigkeys and --memkeys: averages over all keys, and the biggest"
            if not shape.elements and kind != "string":
                guess = min(max((memory[kind] - key_bytes - KEY_OVERHEAD_BYTES) // ELEMENT_BYTES_GUESS, 1), ELEMENTS_GUESS)
                shape.elements = [(guess, shape.keys)]
                said = "--memkeys: averages over all keys; how many elements is a guess, --bigkeys would tell"
            elements = sum(n * count for n, count in shape.elements) / shape.keys if shape.elements else 1
            shape.value_bytes = [(value_bytes_of(kind, key_bytes, round(elements), memory[kind]), shape.keys)]
            shape.said = said
    return sorted(found.values(), key=lambda shape: -shape.keys)
