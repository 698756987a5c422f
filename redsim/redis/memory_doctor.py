"""MEMORY DOCTOR: which of its nine findings a server's memory gives rise to, and what to do.

Mirrors object.c:getMemoryDoctorReport (thresholds and order, the same from 6.2 to 7.4 and in Valkey 8.0). A file of its own
because the object.py here is about one key. Differs: findings carry Redis' own variable names, the advice is in our words.
Not modelled: nothing it reads is left out.
"""

from dataclasses import dataclass

from redsim.redis.memory_report import ServerMemory
from redsim.units import KIB, MIB

__all__ = ["Diagnosis", "memory_doctor"]

_EMPTY_BYTES = 5 * MIB
_EXCESS_BYTES = 10 * MIB
_CLIENT_BYTES = 200 * KIB
_CACHED_SCRIPTS = 1000


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One finding of MEMORY DOCTOR: Redis' name of it, and what to do about it in our words."""

    code: str
    advice: str


_ADVICE = {
    "empty": "less than 5 MiB in use: there is nothing to judge yet",
    "big_peak": "used_memory was once more than 1.5 times what it is now; freed pages may stay with the process: MEMORY PURGE "
    "or a restart gives them back, new data will use them",
    "high_frag": "RSS is more than 1.4 times used_memory; look for an earlier peak first, then for objects of changing size",
    "high_alloc_frag": "the allocator's pages are more than 10 % emptier than full: activedefrag yes compacts them (jemalloc of "
    "Redis only)",
    "high_alloc_rss": "the allocator holds more than 10 % of pages it does not use: MEMORY PURGE returns them",
    "high_proc_rss": "the process holds more than 10 % beside the allocator: Lua, modules, or its binary next to few data",
    "big_slave_buf": "replicas are behind by more than 10 MiB of buffer: find the slow one in INFO replication",
    "big_client_buf": "an average client holds more than 200 KiB: CLIENT LIST shows whose output or query buffer it is",
    "many_scripts": "more than 1000 cached scripts: use KEYS and ARGV instead of a new text for each EVAL; SCRIPT FLUSH",
}


def memory_doctor(m: ServerMemory) -> list[Diagnosis]:
    """The findings of object.c:getMemoryDoctorReport in its order; an empty list is a clean bill of health."""
    return [Diagnosis(code, _ADVICE[code]) for code in _codes(m)]


def _codes(m: ServerMemory) -> list[str]:
    if m.used < _EMPTY_BYTES:
        return ["empty"]
    p = m.pages
    tests = {
        "big_peak": m.peak / m.used > 1.5,
        "high_frag": m.fragmentation[0] > 1.4 and m.fragmentation[1] > _EXCESS_BYTES,
        "high_alloc_frag": _exceeds(p.active_bytes, p.allocated_bytes, 1.1),
        "high_alloc_rss": _exceeds(p.resident_bytes, p.active_bytes, 1.1),
        "high_proc_rss": _exceeds(p.rss_bytes, p.resident_bytes, 1.1),
        "big_slave_buf": m.replicas > 0 and m.clients_replicas > _EXCESS_BYTES,
        "big_client_buf": m.normal_clients > 0 and m.clients_normal // m.normal_clients > _CLIENT_BYTES,
        "many_scripts": m.cached_scripts > _CACHED_SCRIPTS,
    }
    return [code for code, is_found in tests.items() if is_found]


def _exceeds(above: int, below: int, ratio: float) -> bool:
    return below > 0 and above / below > ratio and above - below > _EXCESS_BYTES
