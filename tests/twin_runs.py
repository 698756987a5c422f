"""The control plane in front of the twin, and a run of either loop to its end: what the twins' tests share."""

import simpy

from redsim.dataplane import twin
from redsim.redis.server import Server
from redsim.run.aof import attach_aof
from redsim.run.build import Built
from redsim.run.crash import Life, attach_life
from redsim.run.restart import Snapshot
from redsim.scenario.load import Scenario


class TwinServer(Server):
    """The same control plane in front of the twin."""

    slow_expire_cycle, fork_now = staticmethod(twin.slow_expire_cycle), staticmethod(twin.fork_now)  # type: ignore[assignment]
    run, hold = staticmethod(twin.run), staticmethod(twin.hold)  # type: ignore[assignment]
    clients_cron, databases_cron = staticmethod(twin.clients_cron), staticmethod(twin.databases_cron)  # type: ignore[assignment]


class TwinLife(Life):
    """The same crashes of the twin."""

    fall, host_is_up, revive = staticmethod(twin.fall), staticmethod(twin.host_is_up), staticmethod(twin.revive)  # type: ignore[assignment]
    last_unit, take_back, empty = staticmethod(twin.last_unit), staticmethod(twin.take_back), staticmethod(twin.empty)  # type: ignore[assignment]
    keys_of, die = staticmethod(twin.keys_of), staticmethod(twin.die)  # type: ignore[assignment]
    snapshot_of, take_snapshot = staticmethod(twin.snapshot_of), staticmethod(twin.take_snapshot)  # type: ignore[assignment]


def drive(
    server: type[Server], world: object, built: Built, scenario: Scenario, pause_ns: int = 0, snapshot: Snapshot | None = None
) -> tuple[object, Life | None]:
    """One run to its end, the world then and what befell the server; with a pause, somebody else has an event each so often; a
    snapshot is what a restart without an AOF loads."""
    env = simpy.Environment()
    node = server(env, world, scenario.confs[built.node], scenario.profiles[built.host])  # type: ignore[arg-type]

    def others():
        while pause_ns and env.now < scenario.file.duration:
            yield env.timeout(pause_ns)

    attach_aof(env, node, scenario, built.node)
    life = attach_life(env, node, scenario, built, kind=TwinLife if server is TwinServer else Life)
    if life is not None:
        life.snapshot = snapshot
    env.process(node.main())
    env.process(others())
    env.run()
    return node.world, life
