"""The master that a backlog is planned for: its directives of now, the way to its replicas, its machine.

Mirrors config.c (repl-backlog-size, repl-backlog-ttl, client-output-buffer-limit replica), by version and allocator. Of a
scenario it is the first node that another one replicates; of a real server what its redis.conf and the command line say.
Not modelled: a chain of replicas, whose members have backlogs of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from redsim.host.malloc import ALLOCATORS
from redsim.run.backlog_sync import Limits
from redsim.run.backlog_window import BACKLOG_MIN_BYTES, block_payload_bytes, buffer_block_bytes, output_buffer_bytes
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.scenario.network import RTT_NS, link_between
from redsim.scenario.redis_conf import RedisConf, parse_conf, parse_conf_file
from redsim.units import S, duration_ns, memory_bytes, say_ns

__all__ = ["FREED", "Master", "master_of"]

RING_VERSION = "6.2"
FREED = 2**62  # bytes that no backlog has: it is gone


@dataclass(frozen=True)
class Master:
    """What is known of the server: its directives of now, the way to its replicas, its machine."""

    name: str
    version: str
    allocator: str
    conf: RedisConf
    rtt_ns: int
    replicas: int
    ram_bytes: int  # 0: not known
    guesses: tuple[str, ...] = ()

    @property
    def is_shared(self) -> bool:
        """One buffer for backlog and replicas: 7.0 and later."""
        return self.version != RING_VERSION

    @property
    def backlog_bytes(self) -> int:
        """In force."""
        return max(int(self.conf.get("repl-backlog-size")), BACKLOG_MIN_BYTES)

    @property
    def limits(self) -> Limits:
        """client-output-buffer-limit replica."""
        return Limits(*map(int, self.conf.get("client-output-buffer-limit")["replica"]))

    def freed_after_ns(self, silent_for_ns: int) -> int:
        """How long after a link broke the backlog is freed: repl-backlog-ttl, from when the master knows of no replica."""
        ttl_s = int(self.conf.get("repl-backlog-ttl"))
        return silent_for_ns + ttl_s * S if ttl_s and self.replicas == 1 else FREED

    def payload_bytes(self, backlog_bytes: int) -> int:
        """Of a block of the backlog; 0: it is a ring."""
        return block_payload_bytes(backlog_bytes, 0, self.allocator) if self.is_shared else 0

    def backlog_memory_bytes(self, backlog_bytes: int) -> int:
        """What the backlog adds to used_memory at most."""
        if not self.is_shared:
            return ALLOCATORS[self.allocator].usable(backlog_bytes)
        held = np.array([backlog_bytes + self.payload_bytes(backlog_bytes)])
        return int(output_buffer_bytes(held, np.array([0]), buffer_block_bytes(backlog_bytes, self.allocator))[0])


def master_of(
    source: Scenario | Path, conf: Path | None, version: str, rtt: str | None, ram: str | None, replicas: int | None
) -> Master:
    """From a scenario's first master with a replica, or from what is said of a server; ScenarioError for what does not fit."""
    rtt_ns, ram_bytes = _said("--rtt", rtt, duration_ns), _said("--ram", ram, memory_bytes)
    if replicas is not None and replicas < 1:
        raise ScenarioError(f"--replicas {replicas}: 1 at least")
    if not isinstance(source, Scenario):
        held = parse_conf_file(conf, version=version) if conf else parse_conf("", version=version)
        guess = () if rtt else (f"rtt {say_ns(RTT_NS)}: between two hosts of one data centre; say it with --rtt",)
        return Master(source.stem, version, "jemalloc", held, rtt_ns or RTT_NS, replicas or 1, ram_bytes, guess)
    if conf is not None:
        raise ScenarioError(f"--conf {conf}: goes with --offsets; a scenario has its own (--set nodes.main.conf.repl-timeout=30)")
    file = source.file
    of = [node for node in file.nodes.values() if node.replica_of]
    if not of:
        raise ScenarioError(
            f"{source.where('nodes')}: the scenario has no replica, so it has no replication stream; give a node"
            " `replica_of: <master>`, or the offsets of a real server with --offsets"
        )
    name = str(of[0].replica_of)
    main, guess = file.nodes[name], ()
    link = link_between(file, main.host, of[0].host)
    profile = source.profiles[main.host]
    if rtt is None:
        is_local = main.host == of[0].host
        rtt_ns = profile.loopback_rtt_ns if is_local else link.rtt
        if not is_local and link not in file.links:
            guess = (f"rtt {say_ns(rtt_ns)}: no link between these hosts in the scenario; two hosts of one data centre",)
    memory = ram_bytes or file.hosts[main.host].memory or profile.memory_bytes
    count = replicas or sum(node.replica_of == name for node in of)
    return Master(name, main.version, main.allocator, source.confs[name], rtt_ns, count, memory, guess)


def _said(option: str, text: str | None, read: Callable[[str], int]) -> int:
    try:
        return read(text) if text is not None else 0
    except ValueError as error:
        raise ScenarioError(f"{option} {text}: {error}") from None
