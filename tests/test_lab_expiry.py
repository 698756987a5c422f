"""The calibration's step about keys past their time: its two equations, and a real server asked for structure only."""

from pathlib import Path

import pytest

from redsim.dataplane import layout as dp
from redsim.lab import costs, expiry_costs, rig, solve
from redsim.lab.profile_out import profile_data, write_profile
from redsim.run.build import build
from redsim.scenario.profile import load_profile
from tests.small_worlds import scenario

MACHINE = {"cpu": "a processor", "cores": 3, "memory_bytes": 1 << 30, "redis": "7.0.15", "date": "2026-01-01"}
LOOK_NS, DELETE_NS = 100.0, {10_000: 500.0, 100_000: 720.0}


def test_the_fewest_keys_give_the_constant_and_more_keys_the_curve():
    """solved(): medians of the repeats, what is less than the constant is 0."""
    found = expiry_costs.solved([90, 100, 110], {10_000: [480, 500, 530], 100_000: [700, 720, 760]})
    assert found["expire_sample_ns"]["value"] == 100
    assert found["expire_del_ns"]["value"] == 500
    assert found["expire_del"] == [[1, 0, 0, 0], [10_000, 0, 0, 30], [100_000, 220, 200, 260]]


def test_all_due_and_a_quarter_due_give_look_and_delete(monkeypatch: pytest.MonkeyPatch):
    """expiry(): ms = n * (look + share * delete), twice; on a server whose cycles take exactly that."""

    def per_key_ns(server: object, n: int, every: int) -> tuple[float, int]:
        return LOOK_NS + DELETE_NS[n] / every, 1

    class Redis:
        def config_get(self, *names: str) -> dict[str, str]:
            return dict.fromkeys(names, "10")

        def config_set(self, name: str, value: object) -> None:
            pass

        def flushall(self) -> None:
            pass

    bench = costs.Bench.__new__(costs.Bench)
    bench.server = type("Server", (), {"redis": Redis()})()  # type: ignore[assignment]
    bench.is_own, bench.repeats, bench.elements_max = True, 2, 100_000
    monkeypatch.setattr(expiry_costs, "per_key_ns", per_key_ns)
    found = expiry_costs.expiry(bench, lambda share: None)
    assert found["expire_sample_ns"]["value"] == LOOK_NS
    assert found["expire_del_ns"]["value"] == DELETE_NS[10_000]
    assert [row[:2] for row in found["expire_del"]] == [[1, 0], [10_000, 0], [100_000, 220]]
    assert found["caps"] == 4


def test_the_step_reaches_the_profile_and_the_profile_the_cycles(tmp_path: Path):
    """found_so_far, profile_out, build: numbers as measured with their spread, and a curve that deletes in cycles go by."""
    step = expiry_costs.solved([100], {10_000: [500], 100_000: [720]})
    write_profile(profile_data("p", "p", MACHINE, solve.found_so_far({"expiry": step})), tmp_path / "p.yaml")
    profile = load_profile("p.yaml", tmp_path)
    assert (profile.costs["expire_del_ns"].value, profile.costs["expire_del_ns"].source) == (500, "measured")
    assert profile.curves["expire_del"].points == ((1, 0), (10_000, 0), (100_000, 220))
    body = "duration: 1ms\nnodes: {main: {host: box}}\ndatasets: {d: {node: main, keys: 10, ttl: 1s}}\n"
    text = (tmp_path / "p.yaml").read_text(encoding="utf-8")
    measured, older = build(scenario(body, profile_text=text)).world, build(scenario(body)).world
    assert measured.curve[measured.expiry[dp.X_DEL_CURVE], 17] == 220
    assert older.expiry[dp.X_DEL_CURVE] != dp.NONE, "a profile that knows no such curve: one look-up"


def test_a_real_server_expires_what_is_due_and_is_left_as_it_was():
    """Structure: whole milliseconds of cycles, all due keys gone, those of a later time still there, hz and effort as before."""
    server = rig.start("enable-debug-command yes\nhz 50\nactive-expire-effort 3")
    try:
        before = server.redis.config_get("hz", "active-expire-effort")
        ms, caps = expiry_costs._once(server, 4000, 4)
        assert ms >= 0
        assert caps >= 0
        assert 3000 <= server.redis.dbsize() <= 3000 + 1 + 1000 // expiry_costs.STRAGGLERS
        bench = costs.Bench(server, True, repeats=1, elements_max=10_000)
        found = expiry_costs.expiry(bench, lambda share: None)
        assert found["expire_sample_ns"]["value"] >= 0
        assert [row[0] for row in found["expire_del"]] == [1, 10_000]
        assert server.redis.config_get("hz", "active-expire-effort") == before
        assert server.redis.dbsize() == 0
        bench.close()
    finally:
        server.stop()
