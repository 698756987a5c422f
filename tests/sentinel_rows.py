"""The recorded failovers of tests/recorded/sentinel.json, and the same trials played by the model."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from redsim.rng import generator
from redsim.units import MS, S
from tests.sentinel_record import Line
from tests.sentinel_world import PORT, World

MASTER = ("main", str(PORT))
# The recording does not tell when its Sentinels were started. Its row `kill da=5000` does: each replica is asked for INFO 10 s
# after the start, and 1 s (and a tick) later once it says that its master is gone; +promoted-slave came 5.45 to
# 6.20 s after the fault.
STARTED_BEFORE_NS = (4_850 * MS, 5_600 * MS)
WITHIN_NS = 100 * MS
LONGEST = {"stop then resume": 20, "partition": 20, "failover-timeout 6000": 46}


@cache
def recorded() -> dict[str, Any]:
    """The file."""
    return dict(json.loads((Path(__file__).parent / "recorded" / "sentinel.json").read_text(encoding="utf-8")))


def rows() -> dict[str, dict[str, Any]]:
    """Its rows by name."""
    return {row["name"]: row for row in recorded()["rows"]}


def texts(numbers: list[int]) -> tuple[str, ...]:
    """Lines of a trial."""
    return tuple(recorded()["texts"][number] for number in numbers)


def play(name: str, seed: int) -> list[Line]:
    """What the model's Sentinels log in a trial of that row, seconds from the fault."""
    params = rows()[name]["params"]
    draw = generator(seed, "trial", name)
    conf = (
        f"sentinel monitor mymaster main {params['quorum']}\n"
        f"sentinel down-after-milliseconds mymaster {params['da']}\n"
        f"sentinel failover-timeout mymaster {params.get('failover_timeout', 60_000)}\n"
    )
    flushes = recorded()["flush_s"]
    which = generator(seed, "trial", name, "flush")

    def flush_ns() -> int:
        return int(flushes[int(which.integers(0, len(flushes)))] * S)

    world = World(seed, conf, params["ns"], flush_ns=flush_ns, start_within_ns=WITHIN_NS)
    for i, given in enumerate(params.get("replica_conf", [])):
        world.servers[f"r{i + 1}"].priority = given["replica_priority"]
    at_ns = int(draw.integers(*STARTED_BEFORE_NS)) + WITHIN_NS
    gone = list(world.sentinels)[params.get("alive_sentinels", params["ns"]) :] + ["r1", "r2"] * bool(params.get("kill_replicas"))
    for process in gone:  # long enough before the fault to be down when it comes
        world.at(at_ns - 2 * S, world.kill, process)
    world.at(at_ns, _strike, world, params, at_ns)
    world.run(at_ns + next((s for key, s in LONGEST.items() if key in name), 6 + params["da"] // 1000) * S)
    return [((ns - at_ns) / S, who, text) for ns, who, text in world.lines(at_ns - 200 * MS)]


def _strike(world: World, params: dict[str, Any], at_ns: int) -> None:
    """The row's fault."""
    back_ns = at_ns + int(params.get("resume_after", 0) * S)
    if params["kind"] == "kill":
        world.kill("main")
    elif params["kind"] == "stop":
        world.pause("main")
        if back_ns > at_ns:
            world.at(back_ns, world.resume, "main")
    else:
        world.part(["main"], [*world.sentinels, "r1", "r2"], resets=True)
        world.at(back_ns, world.heal)
