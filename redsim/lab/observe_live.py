"""A running server, looked at without disturbing it: read-only commands, few at a time, within a stated budget.

INFO before and after a window; between them nothing of ours, or, where there is a replication stream, INFO replication once a
second. Then CONFIG GET, SLOWLOG, LATENCY, CLIENT LIST once each; then a sample of keys by SCAN, a few keys a step, each step
timed, with a pause ten times as long behind it; then, if asked for, MONITOR, given up as soon as the server is busy or its
output comes late. What the server refuses is noted, never worked around.
Differs: before Redis 7.2 (CLIENT NO-TOUCH) asking a sampled key's length counts as a read of it for LRU and LFU. Calls and bytes
of our own INFO are taken out of the window's counters (but for 4 bytes a reply by RESP3); their CPU is not.
Not modelled: a cluster (one node of it is seen), streams and module types (counted, not described).
"""

import time
from dataclasses import dataclass, field, replace
from typing import Any

from redsim.lab.asker import Asker, as_text, masked
from redsim.lab.exec_times import histogram_delta
from redsim.lab.observe_conf import conf_of_pairs
from redsim.lab.observe_monitor import watch
from redsim.lab.observe_sentinel import NO_TRAFFIC
from redsim.lab.observed import Clients, Observation, Progress, Window, about_server, databases, flat, window_of
from redsim.lab.observed_replication import Series, replication_of
from redsim.lab.sampled import Sampled, shapes_of
from redsim.scenario.errors import ScenarioError
from redsim.scenario.info import InfoCapture, parse_info
from redsim.scenario.monitor import bulk_bytes, request_bytes
from redsim.scenario.redis_conf import parse_conf

LENGTH_OF = {"string": "STRLEN", "list": "LLEN", "hash": "HLEN", "set": "SCARD", "zset": "ZCARD"}
CONF_IN_INFO = (  # directive, field of INFO
    ("maxclients", "maxclients"), ("maxmemory", "maxmemory"), ("maxmemory-policy", "maxmemory_policy"), ("hz", "configured_hz"),
)  # fmt: skip
SCAN_COUNT = 20  # keys a step
STEP_SLOW_S = 0.005  # guess: a step that takes longer halves the next one's COUNT
STEP_TOO_SLOW_S = 0.1  # guess: three such in a row end the sample
PAUSE_STEPS = 10  # a pause this many times the step's own time: at most a tenth of the loop is ours
CLIENTS_MAX = 5_000  # CLIENT LIST formats a line for each
OFFSET_EVERY_S = 1.0  # at most so often INFO replication is asked for during the window


# ---- the order of looking ------------------------------------------------------------------------------------------


def observe_live(
    url: str, *, window_s: float, monitor_s: float, sample_keys: int, budget_s: float, progress: Progress
) -> Observation:
    """Look at the server for `window_s`, then sample at most `sample_keys` keys in `budget_s`, then MONITOR for `monitor_s`."""
    asker = Asker.connect(url)
    try:
        seen = Observation(sources=["a running server (its address is not written here)"])
        histogram = asker.ask("LATENCY", "HISTOGRAM")
        own = Own(asker)
        before = own.all()
        if flat(before).get("redis_mode") == "sentinel":
            raise ScenarioError(f"{masked(url)}: {NO_TRAFFIC}; give the URL of its master, redis://HOST:6379, beside this one")
        there = replication_of(flat(before))
        _wait(window_s, own, there is not None and there.has_stream, progress)
        after = own.all()
        seen.window = own.taken_out(window_of(before, after, own={"INFO": own.calls}))
        ran = {command.name for command in seen.window.commands}
        seen.exec_us = histogram_delta(histogram, asker.ask("LATENCY", "HISTOGRAM"), ran)
        seen.exec_said = "LATENCY HISTOGRAM, difference over the window" if seen.exec_us else ""
        about_server(seen, after)
        if seen.replication is not None:
            own.series.into(seen.replication)
        _ask_once(asker, seen, after, window_s)
        _sample(url, asker, seen, after, sample_keys, budget_s, progress)
        if monitor_s > 0:
            watch(asker, seen, monitor_s, progress)
        for name, why in asker.refused.items():
            seen.could_not_see.append(f"{name.replace('|', ' ')}: refused ({why})")
        return seen
    finally:
        asker.close()


@dataclass
class Own:
    """Our own INFO and what it added to the server's counters from the first to the last: that one's call and reply are not in
    them yet, the first one's request was counted before. Each also gives a sample of the replication offset."""

    asker: Asker
    series: Series = field(default_factory=Series)
    requests_bytes: list[int] = field(default_factory=list)
    replies_bytes: list[int] = field(default_factory=list)

    def all(self) -> InfoCapture:
        """INFO all; ScenarioError where it is refused."""
        info = self.ask("all")
        if info is None:
            raise ScenarioError(f"{masked(self.asker.url)}: INFO is refused to this user; grant it with ACL SETUSER … +info")
        return info

    def ask(self, section: str) -> InfoCapture | None:
        """INFO of the section, None where that is refused."""
        asked_s = time.perf_counter()
        raw = self.asker.ask("INFO", section)
        if raw is None:
            return None
        self.requests_bytes.append(request_bytes([len("INFO"), len(section)]))
        self.replies_bytes.append(bulk_bytes(len(raw)))
        info = parse_info(as_text(raw), "INFO")
        self.series.add((asked_s + time.perf_counter()) / 2, flat(info))
        return info

    @property
    def calls(self) -> int:
        """Between the first and the last, the first included."""
        return len(self.replies_bytes) - 1

    def taken_out(self, window: Window) -> Window:
        """The window's counters without ours."""
        ours = {
            "commands": self.calls, "reads": self.calls, "writes": self.calls,
            "net_in_bytes": sum(self.requests_bytes[1:]), "net_out_bytes": sum(self.replies_bytes[:-1]),
        }  # fmt: skip
        left = {name: n if n is None else n - ours.get(name, 0) for name, n in window.counters.items()}
        return replace(window, counters={name: None if n is not None and n < 0 else n for name, n in left.items()})


def _wait(seconds: float, own: Own, has_stream: bool, progress: Progress) -> None:
    """Until the window is over; INFO replication meanwhile, where there is a stream."""
    asked_s = time.perf_counter()
    until = asked_s + seconds
    while (left := until - time.perf_counter()) > 0:
        progress(f"watching for {seconds:g} s", 1 - left / seconds)
        if has_stream and min(time.perf_counter() - asked_s, left) >= OFFSET_EVERY_S:
            asked_s = time.perf_counter()
            has_stream = own.ask("replication") is not None
        time.sleep(min(left, 0.2))


def _ask_once(asker: Asker, seen: Observation, info: InfoCapture, window_s: float) -> None:
    pairs = asker.ask("CONFIG", "GET", "*")
    if pairs is not None:
        flat_pairs = [x for pair in pairs.items() for x in pair] if isinstance(pairs, dict) else list(pairs)
        words = [as_text(x) for x in flat_pairs]
        seen.conf, left_out = conf_of_pairs(list(zip(words[::2], words[1::2], strict=False)), seen.version)
        seen.left_out += left_out
        seen.conf_seen = True
    else:
        fields = flat(info)
        given = [(name, fields[field_name]) for name, field_name in CONF_IN_INFO if field_name in fields]
        seen.conf, _ = conf_of_pairs(given, seen.version)
        names = ", ".join(name for name, _ in given)
        seen.could_not_see.append(f"redis.conf: CONFIG GET is refused; {names} are from INFO, the rest is taken for default")
    for row in asker.ask("SLOWLOG", "GET", "128") or []:
        if isinstance(row, list) and len(row) >= 4 and row[3]:
            seen.slowlog.append((int(row[2]), _command_word(row[3])))
    for row in asker.ask("LATENCY", "LATEST") or []:
        seen.latency.append((as_text(row[0])[:40], int(row[3])))
    if seen.clients is None or seen.clients.connected > CLIENTS_MAX:
        seen.could_not_see.append(f"CLIENT LIST: not asked, {CLIENTS_MAX:,} clients and more take it too long")
        return
    listed = asker.ask("CLIENT", "LIST", "TYPE", "normal")
    if listed is not None:
        clients = [dict(w.partition("=")[::2] for w in line.split() if "=" in w) for line in as_text(listed).splitlines()]
        others = [c for c in clients if not c.get("cmd", "").startswith("client")]
        idle = [int(c["idle"]) for c in others if c.get("idle", "").isdigit()]
        active = sum(seconds <= window_s for seconds in idle)
        seen.clients = Clients(len(others), active, "CLIENT LIST; active: sent something during the window")


def _command_word(words: Any) -> str:
    """The command's name only: arguments are somebody's data."""
    word = as_text(words[0])[:40].upper()
    return word if word.replace(".", "").replace("_", "").isalnum() else "?"


# ---- keys ----------------------------------------------------------------------------------------------------------


def _sample(
    url: str, asker: Asker, seen: Observation, info: InfoCapture, sample_keys: int, budget_s: float, progress: Progress
) -> None:
    counted = databases(info)
    total = sum(counted.values())
    conf = parse_conf("\n".join(seen.conf), version=seen.version)
    is_lfu = conf.get("maxmemory-policy").endswith("-lfu")
    sampled = Sampled(lfu_log_factor=conf.get("lfu-log-factor") if is_lfu else None)
    until = time.perf_counter() + budget_s
    for db, keys in sorted(counted.items(), key=lambda item: -item[1]):
        wanted = -(-sample_keys * keys // max(total, 1))
        one = Asker.connect(url, db)
        one.refused = asker.refused
        try:
            ended = _walk(one, sampled, min(wanted, sample_keys - sampled.count), until, progress)
        finally:
            one.close()
        if ended:
            seen.could_not_see.append(f"more keys: the sample ended after {sampled.count} ({ended})")
            break
    seen.shapes = shapes_of(sampled, total)
    if total and not sampled.count:
        seen.could_not_see.append("the data set: no key could be sampled; its keys are taken for strings of the default sizes")


def _walk(asker: Asker, sampled: Sampled, wanted: int, until: float, progress: Progress) -> str:
    """Sample `wanted` keys of one database; the reason if it ended before."""
    asker.many([("CLIENT", "NO-TOUCH", "ON")])
    asker.refused.pop("CLIENT|NO-TOUCH", None)  # 7.2 and later only
    cursor, count, slow = b"0", SCAN_COUNT, 0
    goal = sampled.count + wanted
    while sampled.count < goal:
        if time.perf_counter() > until:
            return "the budget of seconds is used up"
        started = time.perf_counter()
        reply = asker.ask("SCAN", cursor, "COUNT", count)
        if reply is None:
            return "SCAN is refused"
        cursor, keys = reply[0], reply[1][: goal - sampled.count]
        if keys:
            _look(asker, sampled, keys)
        took = time.perf_counter() - started
        progress(f"sampling keys ({sampled.count})", sampled.count / max(goal, 1))
        slow = slow + 1 if took > STEP_TOO_SLOW_S else 0
        if slow == 3:
            return f"three steps in a row took over {STEP_TOO_SLOW_S * 1000:.0f} ms"
        count = max(1, count // 2) if took > STEP_SLOW_S else SCAN_COUNT
        if int(cursor) == 0:
            return ""
        time.sleep(min(PAUSE_STEPS * took, 0.5, max(until - time.perf_counter(), 0)))
    return ""


def _look(asker: Asker, sampled: Sampled, keys: list[bytes]) -> None:
    kinds = [as_text(kind) for kind in asker.many([("TYPE", key) for key in keys]) if kind is not None]
    if len(kinds) != len(keys):
        sampled.add_unknown(len(keys))
        return
    known = [(key, kind) for key, kind in zip(keys, kinds, strict=True) if kind in LENGTH_OF]
    asked: list[tuple[Any, ...]] = []

    def lfu(key: bytes) -> tuple[Any, ...]:  # before its length is asked for, which counts as an access
        return ("OBJECT", "FREQ", key) if sampled.lfu_log_factor is not None else ("PTTL", key)

    for key, kind in known:
        asked += [lfu(key), (LENGTH_OF[kind], key), ("MEMORY", "USAGE", key), ("OBJECT", "ENCODING", key), ("PTTL", key)]
    replies = asker.many(asked) if asked else []
    for i, (key, kind) in enumerate(known):
        frequency, length, memory, encoding, ttl = replies[5 * i : 5 * i + 5]
        sampled.add(kind, len(key), length, memory, as_text(encoding or b""), ttl, frequency)
    for kind in kinds:
        if kind not in LENGTH_OF and kind != "none":
            sampled.add_other(kind)
