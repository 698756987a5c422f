"""MONITOR for some seconds on a running server: warned of before, given up as soon as it hurts, figures kept, lines thrown away.

Mirrors `redis-cli MONITOR`. Differs: a second connection looks at INFO twice a second, and each line's time is held against the
server's clock; a busy server or late output ends it. Not modelled: what MONITOR itself costs during the capture.
"""

import time

from redsim.lab.asker import Asker, as_text, refusal
from redsim.lab.observed import Observation, Progress, flat, whole
from redsim.lab.traffic import traffic_of
from redsim.scenario.errors import ScenarioError
from redsim.scenario.info import parse_info
from redsim.scenario.monitor import parse_monitor

MONITOR_PER_S_MAX = 30_000  # guess: above it MONITOR would cost the server much, and this reader would fall behind
MONITOR_LATE_S = 0.5
MONITOR_LINES_MAX = 1_000_000
OWN = (b'] "INFO"', b'] "TIME"')  # what this module itself asks meanwhile
MONITOR_WARNING = "MONITOR copies every command to this reader; it can halve what the server is able to do while it runs"


def watch(asker: Asker, seen: Observation, seconds: float, progress: Progress) -> None:
    """MONITOR for `seconds`; what it told goes into `seen.traffic`, why it ended early or never began into `could_not_see`."""
    assert seen.window is not None
    if seen.window.per_s > MONITOR_PER_S_MAX:
        seen.could_not_see.append(
            f"MONITOR: not started; {seen.window.per_s:,.0f} commands/s are above {MONITOR_PER_S_MAX:,}, where it costs too much"
        )
        return
    progress(MONITOR_WARNING, 0.0)
    try:
        lines, ended = _monitor_lines(asker, seconds, progress)
    except (asker.module.RedisError, OSError) as error:
        asker.refused["MONITOR"] = refusal(error)
        return
    if ended:
        seen.could_not_see.append(f"MONITOR: given up early: {ended}")
    if not lines:
        seen.could_not_see.append("MONITOR: nobody sent a command while it ran")
        return
    keys_of = {shape.type: shape.keys for shape in seen.shapes}
    try:
        capture = parse_monitor(lines, "MONITOR")
    except ScenarioError:  # its sentence may quote a line
        seen.could_not_see.append("MONITOR: a line of it could not be read")
        return
    seen.traffic = traffic_of(capture, keys_of or None)


def _monitor_lines(asker: Asker, seconds: float, progress: Progress) -> tuple[list[bytes], str]:
    """(lines, why it ended early or ""). Nothing of a line is kept beyond this module's figures."""
    now = asker.ask("TIME")
    ahead_s = int(now[0]) + int(now[1]) / 1e6 - time.perf_counter() if now else None
    lines: list[bytes] = []
    started = looked = time.perf_counter()
    with asker.redis.monitor() as monitor:
        while (passed := time.perf_counter() - started) < seconds:
            if monitor.connection.can_read(timeout=0.1):
                line = monitor.connection.read_response(disable_decoding=True)
                if not any(own in line[:120] for own in OWN):
                    lines.append(line)
                if len(lines) >= MONITOR_LINES_MAX:
                    return lines, f"{MONITOR_LINES_MAX:,} lines are enough"
                if ahead_s is not None and len(lines) % 256 == 0 and line[:10].isdigit():
                    late_s = time.perf_counter() + ahead_s - float(line[:17])
                    if late_s > MONITOR_LATE_S:
                        return lines, f"its output came {late_s:.1f} s late, and waits in the server's memory meanwhile"
            if time.perf_counter() - looked > 0.5:
                looked = time.perf_counter()
                progress("MONITOR", passed / seconds)
                info = asker.ask("INFO", "stats")
                per_s = whole(flat(parse_info(as_text(info), "INFO")), "instantaneous_ops_per_sec") if info else None
                if per_s is not None and per_s > MONITOR_PER_S_MAX:
                    return lines, f"{per_s:,} commands/s are above {MONITOR_PER_S_MAX:,}"
    return lines, ""
