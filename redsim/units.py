"""Integers with the unit in the name: ns for time, bytes for memory.

Strings with units exist only in scenario files; they are read here once and never again.
Durations: `250us`, `2ms`, `1.5s`, `1m`, `1h`, `1d`. Memory: redis.conf's own grammar
(util.c:memtoull: `1k` = 1000, `1kb` = 1024, case ignored).
"""

import re

NS = 1
US = 1_000
MS = 1_000_000
S = 1_000_000_000
MINUTE = 60 * S
HOUR = 60 * MINUTE
DAY = 24 * HOUR
KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_TIME = {"ns": NS, "us": US, "µs": US, "ms": MS, "s": S, "m": MINUTE, "min": MINUTE, "h": HOUR, "d": DAY}
_MEMORY = {
    "": 1, "b": 1, "k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2,
    "g": 1000**3, "gb": 1024**3,
}  # fmt: skip
_BITS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-zµ]*)\s*\Z")
_LARGEST = 2**62


def _split(text: str, units: dict[str, int], what: str, example: str) -> int:
    match = _NUMBER.match(text)
    if match is None or match[2].lower() not in units:
        raise ValueError(f"{text!r} is not a {what}; write it like {example}")
    whole, _, fraction = match[1].partition(".")
    scale = units[match[2].lower()]
    value = int(whole) * scale + int(fraction or 0) * scale // 10 ** len(fraction)
    if value > _LARGEST:
        raise ValueError(f"{text!r} is too large for a {what}")
    return value


def duration_ns(text: str) -> int:
    """`"250ms"` → 250_000_000. A bare number has no unit and is refused."""
    if isinstance(text, str) and text.strip() == "0":
        return 0
    return _split(str(text), _TIME, "duration", "250us, 20ms, 1.5s or 1h")


def memory_bytes(text: str | int) -> int:
    """util.c:memtoull: `"1k"` → 1000, `"1kb"` → 1024, `"5"` → 5 bytes."""
    if isinstance(text, int) and not isinstance(text, bool):
        if text < 0:
            raise ValueError(f"{text} is negative; a size is 0 or more bytes")
        return text
    return _split(str(text), _MEMORY, "memory size", "100, 64kb, 1mb or 2gb")


def bits_per_s(text: str) -> int:
    """`"1gbit"` → 1_000_000_000."""
    return _split(str(text), _BITS, "bandwidth", "100mbit or 1gbit")


def say_ns(ns: int) -> str:
    """A duration for people: three significant figures and the unit that suits it."""
    for scale, unit in ((S, "s"), (MS, "ms"), (US, "µs")):
        if abs(ns) >= scale:
            value = ns / scale
            return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    return f"{ns} ns"


def say_bytes(count: int) -> str:
    """Bytes for people, in binary units."""
    for scale, unit in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count >= scale:
            value = count / scale
            return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}"
    return f"{count} B"
