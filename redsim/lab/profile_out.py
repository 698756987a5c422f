"""A calibration's results as a host profile: every number with value, source, how, and spread.

The shape is that of the shipped profile `default`, whose numbers stand wherever this method measures nothing: marked `guess`
unless published, and saying that they were taken over. What no mechanism of the simulator uses yet stands under `later`, what
was measured under `machine`, and the points of the fit with their residuals under `fit`.

    probes, laws, curves (measured)  +  fit (derived)  +  default (taken over)  ->  profile.yaml

Not modelled: merging two calibrations of one machine.
"""

import json
import os
import platform
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from redsim.scenario.errors import ScenarioError

REF = "calibration"
TAKEN_OVER = "taken over from the profile `default`; not measured by this method"
UNITS = {
    "fsync_ns": "[quantile, ns]",
    "rdb_save_bytes_per_s": "bytes/s",
    "rdb_load_bytes_per_s": "bytes/s",
    "memcpy_bytes_per_s": "bytes/s",
    "child_own_bytes": "bytes",
    "rdb_byte_ps": "ps",
    "lzf_byte_ps": "ps",
}  # others: ns
VALUES = {
    "lookup": "GET of keys drawn from all against one hot key",
    "value": "of `lookup`, what a value outside its robj costs: GET of 3 bytes against as many bytes of keys of 100",
    "expire_del": "deleting a key past its time in a cycle, by keys, more than among the fewest",
    "zadd": "ZADD all over a sorted set against a small one",
    "connections": "CPU of a request in a closed loop, by connections, more than with 50; half on its read, half on its write",
    "client_connections": "write, read and poll on loopback sockets taken in turn, by their number, more than on 50; half each",
}
SOLVED = ("connections", "value")
OPTIONAL = ("value", "expire_del")  # which the profile `default` need not have
WAKE_SPREAD = "permille of the median echo of a thread that slept 5 us to 0.1 ms, and how often"
_PLAIN = re.compile(r"[A-Za-z_][\w.-]*( [A-Z]+)?\Z")


def default_data() -> dict[str, Any]:
    """The shipped profile `default`, as written."""
    text = (files("redsim.scenario") / "profiles" / "default.yaml").read_text(encoding="utf-8")
    data: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return data


def number(found: dict[str, Any]) -> dict[str, Any]:
    """A figure and its source as the file has them."""
    whole = max(0, int(found["value"]))
    return {"value": whole, "source": found["source"], "ref": REF, "says": found["says"], "spread": found["spread"]}


def machine_facts(redis_version: str, date: str) -> dict[str, Any]:
    """CPU model, cores, memory, system, Redis: what a reader needs to know whose numbers these are. No host name."""
    return {
        "cpu": _proc("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1, "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "os": _os_name(), "linux": platform.release(), "arch": platform.machine(), "redis": redis_version, "date": date,
    }  # fmt: skip


def _proc(path: str, label: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(label)), "")


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def profile_data(name: str, says: str, machine: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The whole profile. `found`: numbers {name: {value, source, says, spread}}, commands, curves, hiccups, later, fit; each may
    be missing or lack names."""
    data = default_data()
    numbers: dict[str, dict[str, Any]] = found.get("numbers", {})
    for part in ("costs", "client"):
        data[part] = {n: number(numbers[n]) if n in numbers else _taken(old) for n, old in data[part].items()}
    rtt = numbers.get("loopback_rtt_ns")
    data["loopback_rtt_ns"] = number(rtt) if rtt else _taken(data["loopback_rtt_ns"])
    data["commands"] = _commands(data["commands"], found.get("commands", {}))
    data["curves"] = _curves(data["curves"], found.get("curves", {}))
    data["hiccups"] = _hiccups(data["hiccups"], found.get("hiccups"))
    if "wake_spread" in found:
        data["wake_spread"] = {"table_permille": found["wake_spread"], "source": "measured", "ref": REF, "says": WAKE_SPREAD}
    header = {"name": name, "says": says, "machine": machine, "cores": machine["cores"], "memory_bytes": machine["memory_bytes"]}
    later = {n: _later(n, figure) for n, figure in found.get("later", {}).items()}
    return {**data, **header, "later": later, "fit": found.get("fit", {})}


def _taken(old: dict[str, Any]) -> dict[str, Any]:
    source = old["source"] if old["source"] in ("published", "redis") else "guess"
    return {**old, "source": source, "says": f"{old.get('says', '')} ({TAKEN_OVER})"}


def _commands(old: dict[str, Any], laws: dict[str, dict[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {
        "source": "measured", "ref": REF,
        "says": "usec of commandstats per call, one connection, 16 commands in a write, a hot key; by bytes: 16 KiB against 3",
    }  # fmt: skip
    for name, law in old.items():
        if not isinstance(law, dict):
            continue
        mine = laws.get(name)
        if mine is None:
            out[name] = {**law, "source": "guess", "says": TAKEN_OVER}
            continue
        values = {column: int(figure["value"]) for column, figure in mine.items()}
        not_measured = {"scan_ps": law["scan_ps"]} if "scan_ps" in law else {}
        out[name] = {**values, **not_measured, "spread": {column: figure["spread"] for column, figure in mine.items()}}
    return out


def _curves(old: dict[str, Any], rows: dict[str, list[list[int]]]) -> dict[str, Any]:
    out: dict[str, Any] = {
        "source": "measured", "ref": REF, "says": "total ns inside the command less its constant; spread: [elements, low, high]",
    }  # fmt: skip
    known: dict[str, Any] = {name: {"each": []} for name in OPTIONAL if rows.get(name)}
    for name, points in {**old, **known}.items():
        if not isinstance(points, (list, dict)):
            continue
        form = "each" if isinstance(points, dict) else "total"
        if not rows.get(name):
            given = points["each"] if isinstance(points, dict) else points
            out[name] = {form: given, "source": "guess", "says": TAKEN_OVER}
            continue
        mine = [[n, ns] for n, ns, _, _ in rows[name]]
        spread = [[n, low, high] for n, _, low, high in rows[name]]
        says = {"says": VALUES[name]} if name in VALUES else {}
        says |= {"source": "derived"} if name in SOLVED else {}
        out[name] = {form: mine, **says, "spread": spread}
    return out


def _hiccups(old: dict[str, Any], found: dict[str, Any] | None) -> dict[str, Any]:
    if found is None:
        return {**old, "every_ns": _taken(old["every_ns"]), "source": "guess", "says": f"{old['says']} ({TAKEN_OVER})"}
    every = {"value": found["every_ns"], "source": "measured", "ref": REF, "says": "mean time between two"}
    return {"every_ns": every, "table_ns": found["table_ns"], "source": "measured", "ref": REF, "says": found["says"]}


def _later(name: str, figure: dict[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {k: figure[k] for k in ("value", "table") if k in figure}
    spread = {"spread": figure["spread"]} if "spread" in figure else {}
    return {**given, "unit": UNITS.get(name, "ns"), "source": "measured", "ref": REF, "says": figure["says"], **spread}


# ---- the file ------------------------------------------------------------------------------------------------------


def write_profile(data: dict[str, Any], path: Path) -> None:
    """The profile as YAML, one line per number. ScenarioError if it cannot be written there."""
    lines = [
        "# A host profile written by `redsim calibrate`: integer nanoseconds, ps for what is paid per byte, bytes per second.",
        "# measured: a probe of this machine or its Redis; derived: solved from the points under `fit`; guess: taken over.",
        *_lines(data, 0),
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise ScenarioError(f"{path}: the profile cannot be written ({error.strerror}); give another path with --out") from None


def _lines(data: dict[str, Any], depth: int) -> Iterator[str]:
    """`key: value` lines; a mapping opens a block unless it is one number, law, or row."""
    for key, value in data.items():
        if isinstance(value, dict) and depth == 0 and value and not _is_leaf(value):
            yield f"{_word(key)}:"
            yield from ("  " + line for line in _lines(value, depth + 1))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{_word(key)}:"
            yield from (f"  - {_flow(row)}" for row in value)
        else:
            yield f"{_word(key)}: {_flow(value)}"


def _is_leaf(value: dict[str, Any]) -> bool:
    return "value" in value


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_word(str(key))}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, str) and value not in ("measured", "derived", "published", "redis", "guess", REF):
        return json.dumps(value, ensure_ascii=False)
    return str(value) if isinstance(value, str) else json.dumps(value)


def _word(key: str) -> str:
    return key if _PLAIN.match(key) else json.dumps(key, ensure_ascii=False)
