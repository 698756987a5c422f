"""INFO memory, MEMORY STATS and MEMORY DOCTOR against what real servers printed."""

from typing import Any

import pytest
from recorded_loads import DEBIAN, RECORDED

from redsim.redis.config import Rules, rules
from redsim.redis.memory_doctor import memory_doctor
from redsim.redis.memory_overhead import (
    not_counted_for_evict_bytes,
)
from redsim.redis.memory_report import DbMemory, ServerMemory, info_memory, memory_stats
from redsim.redis.zmalloc import Pages
from redsim.units import MIB

# ---- INFO, STATS, DOCTOR ----------------------------------------------------------------------------------------------------


def recorded_info() -> dict[str, str]:
    text = (RECORDED / "info-all-7.0.15.txt").read_text(encoding="utf-8")
    section = text.split("# Memory", 1)[1].split("\n#", 1)[0]
    return dict(line.strip().split(":", 1) for line in section.splitlines() if ":" in line)


SAMPLED = ("allocator_allocated", "allocator_active", "allocator_resident", "used_memory_rss")


def server_like(info: dict[str, str]) -> ServerMemory:
    """The state whose INFO that is; its databases are whatever makes up the overhead."""
    number = {name: int(value) for name, value in info.items() if value.isdigit()}
    rest = number["used_memory_overhead"] - number["used_memory_startup"] - number["mem_clients_normal"]
    rest -= number["used_memory_scripts"]
    db = DbMemory(keys=0, expires=0, buckets=rest // 8, expires_buckets=0)
    return ServerMemory(
        used=number["used_memory"], peak=number["used_memory_peak"], startup=number["used_memory_startup"], dbs={0: db},
        pages=Pages(*(number[name] for name in SAMPLED)),
        rules=DEBIAN, clients_normal=number["mem_clients_normal"],
        used_sampled=number["used_memory_rss"] - number["mem_fragmentation_bytes"], lua=number["used_memory_lua"],
        functions_vm=number["used_memory_vm_functions"], scripts=number["used_memory_scripts_eval"], cached_scripts=1,
    )  # fmt: skip


def test_info_memory_reads_like_that_of_a_real_server() -> None:
    """The recorded INFO of a 7.0.15: names, their order, every formatted figure; but for total_system_memory."""
    info = recorded_info()
    mine = {name: str(value) for name, value in info_memory(server_like(info)).items()}
    del mine["total_system_memory"], mine["total_system_memory_human"]
    assert list(mine.items()) == list(info.items())


def test_info_memory_has_the_fields_of_its_version() -> None:
    """server.c:genRedisInfoString of 6.2.14, 7.2.5, 7.4.0 and Valkey 8.0.0."""
    fields = {version: list(info_memory(small_server(rules(version)))) for version in ("6.2", "7.0", "7.2", "7.4", "valkey-8.0")}
    assert fields["7.0"] == fields["7.2"]
    assert fields["7.4"] == fields["valkey-8.0"]
    assert set(fields["7.4"]) - set(fields["7.2"]) == {"allocator_muzzy", "mem_overhead_db_hashtable_rehashing"}
    assert fields["6.2"][18:21] == ["used_memory_scripts", "used_memory_scripts_human", "number_of_cached_scripts"]
    assert len(fields["6.2"]) == 41


def small_server(mine: Rules, **changes: Any) -> ServerMemory:
    """One key with a TTL in database 0, figures as a freshly started 7.0.15 had them."""
    state: dict[str, Any] = {
        "used": 939_256, "peak": 939_288, "startup": 876_240, "dbs": {0: DbMemory(1, 1, 4, 4)},
        "pages": Pages(1_735_904, 1_880_064, 4_550_656, 12_271_616), "rules": mine,
    }  # fmt: skip
    return ServerMemory(**(state | changes))


@pytest.mark.parametrize(
    ("version", "main", "expires"),
    [("6.2", 72, 56), ("7.0", 72, 56), ("7.2", 72, 56), ("7.4", 352, 336), ("valkey-8.0", 248, 232)],
)
def test_memory_stats_count_one_key_with_a_ttl_as_each_version_does(version: str, main: int, expires: int) -> None:
    """MEMORY STATS after SET a b EX 1000, read off builds of 6.2.14, 7.0.15, 7.2.5, 7.4.0 and Valkey 8.0.0."""
    db = memory_stats(small_server(rules(version)))["db.0"]
    assert isinstance(db, dict)
    assert (db["overhead.hashtable.main"], db["overhead.hashtable.expires"]) == (main, expires)
    assert ("overhead.hashtable.slot-to-keys" in db) == (version in ("7.0", "7.2"))


def test_memory_stats_print_ratios_as_a_float_made_double() -> None:
    """redis-cli MEMORY STATS of an empty 7.0.15, digit for digit."""
    stats = memory_stats(small_server(DEBIAN, dbs={}))
    assert stats["allocator-fragmentation.ratio"] == "1.0830460786819458"
    assert stats["allocator-rss.ratio"] == "2.4204792976379395"
    assert stats["rss-overhead.ratio"] == "2.6966695785522461"
    assert stats["peak.percentage"] == "99.996589660644531"
    assert stats["dataset.percentage"] == "99.6826171875"
    assert (stats["overhead.total"], stats["dataset.bytes"]) == (876_440, 62_816)


DOCTOR = {
    "empty": {"used": 5 * MIB - 1},
    "big_peak": {"peak": 151 * MIB},
    "high_frag": {"pages": Pages(100 * MIB, 105 * MIB, 134 * MIB, 141 * MIB)},
    "high_alloc_frag": {"pages": Pages(100 * MIB, 111 * MIB, 112 * MIB, 112 * MIB)},
    "high_alloc_rss": {"pages": Pages(100 * MIB, 101 * MIB, 112 * MIB, 112 * MIB)},
    "high_proc_rss": {"pages": Pages(100 * MIB, 101 * MIB, 102 * MIB, 113 * MIB)},
    "big_slave_buf": {"replicas": 1, "replication_buffers": 12 * MIB},
    "big_client_buf": {"normal_clients": 2, "clients_normal": 2 * 201 * 1024},
    "many_scripts": {"cached_scripts": 1001},
}


@pytest.mark.parametrize("code", DOCTOR)
def test_the_doctor_finds_each_of_its_nine_causes_past_its_threshold(code: str) -> None:
    """object.c:getMemoryDoctorReport [facts 8.11]; a total of 1.4 has a resident set that also exceeds active, as it must."""
    healthy: dict[str, Any] = {"used": 100 * MIB, "peak": 150 * MIB, "pages": Pages(100 * MIB, 101 * MIB, 102 * MIB, 104 * MIB)}
    assert memory_doctor(small_server(DEBIAN, **healthy)) == []
    found = memory_doctor(small_server(DEBIAN, **(healthy | DOCTOR[code])))
    assert code in {each.code for each in found}
    assert {each.code for each in found} <= {code, "high_alloc_rss"}
    assert all(each.advice for each in found)


def test_replicas_answer_for_what_exceeds_the_backlog() -> None:
    """object.c:getMemoryOverheadData and evict.c:freeMemoryGetNotCountedMemory of 7.0."""
    m = small_server(DEBIAN, replicas=1, replication_buffers=3 * MIB, backlog_size=MIB, aof_buffer=100)
    assert (m.replication_backlog, m.clients_replicas) == (MIB, 2 * MIB)
    assert not_counted_for_evict_bytes(3 * MIB, MIB, 100) == 2 * MIB - 65 * 64 + 100
    assert not_counted_for_evict_bytes(MIB, MIB, 0) == 0
