"""The Sentinels of a scenario: processes on its hosts, what happens to them, and whom clients ask for the master.

Mirrors redis-sentinel as redis/sentinel.py has it, over run/sentinel_wire.py; a client as redis-py's Sentinel.discover_master: it
asks one Sentinel after the other, and takes the first answer of one that does not have the master down.

Differs: they know each other and the replicas from the start, and their timers are out of step, as after days of service, unless
the scenario says just_started: a Sentinel's INFO comes each 10 s, and a promotion is seen by INFO. A client that listens to
+switch-master listens to all of them.
Not modelled: scripts that Sentinels run.
"""

from collections.abc import Generator, Iterable
from dataclasses import replace
from typing import Any

import simpy

from redsim.host.paths import Paths
from redsim.redis.sentinel import Sentinel
from redsim.redis.sentinel_state import Instance, KnownMaster
from redsim.redis.sentinel_wire import Address, Failover, GetMasterAddr
from redsim.rng import generator
from redsim.run.replicas import Peers
from redsim.run.sentinel_wire import SentinelWire
from redsim.run.services import AGAIN_NS, SLICE_NS, Place, Service, Watch
from redsim.scenario.crashes import HOST_CRASHES, NodeFault
from redsim.scenario.disk import chosen_disk
from redsim.scenario.load import Scenario
from redsim.scenario.profile import disk_profile
from redsim.scenario.schema import Group, TimelineEntry
from redsim.scenario.sentinels import master_to_fail_over
from redsim.scenario.services import SERVER_PORT
from redsim.units import MS, S

__all__ = ["Sentinels"]

START_NS = 200 * MS  # guess: within so long those that are just started are, one after the other
SAVE_FSYNCS = 4  # measured on ext4: a new file, fsync, rename, fsync of the folder, 4.0 ms; 512 bytes and fdatasync, 1.06 ms
ASK_NS = S  # guess: how long a client without a time-out of its own waits for a Sentinel's answer


class Sentinels:
    """All of a run.

    state    all     in the order of the scenario
             lines   (ns, name, text) of their logs
    """

    def __init__(self, env: simpy.Environment, scenario: Scenario, peers: dict[str, Peers]) -> None:
        self.env, self.scenario = env, scenario
        section, conf, file = scenario.file.sentinels, scenario.sentinel_conf, scenario.file
        assert section is not None, "there are Sentinels"
        assert conf is not None, "their sentinel.conf has been read"
        first = scenario.profiles[next(iter(file.nodes.values())).host]
        self.loopback_rtt_ns = first.loopback_rtt_ns
        hosts = {name: node.host for name, node in file.nodes.items()}
        self.wire = SentinelWire(env, Paths(file, self.loopback_rtt_ns), hosts, peers)
        for name in peers:
            self.wire.ends[name].priority = int(scenario.confs[name].get("replica-priority"))
        self.lines: list[tuple[int, str, str]] = []
        self.all: list[Sentinel] = []
        for place in section.places(conf.port):
            address, flush = Address(place.name, place.port), self._flush(place.name, place.host)
            one = Sentinel(env, place.name, address, conf, self.wire, file.seed, self.lines, flush)
            self.wire.add(one, place.host)
            self.all.append(one)
        self._introduce(peers)
        luck = generator(file.seed, "sentinels", "start")
        for one in self.all:
            one.start(int(luck.integers(0, START_NS)) if section.just_started else 0, is_long_up=not section.just_started)
        for _, entry in file.sentinel_entries:
            env.process(self._asked_for_a_failover(entry))
        for fault in [fault for _, fault in file.node_faults]:
            mine = [one for one in self.all if self._strikes(fault, one)]
            if mine:
                env.process(self._strike(fault, mine))

    def _flush(self, name: str, host: str) -> Any:
        """What a rewrite of its configuration takes (config.c:rewriteConfigOverwriteFile): SAVE_FSYNCS of the host's disk."""
        disk = chosen_disk(disk_profile(self.scenario.profiles[host]), self.scenario.file.hosts[host].disk)
        luck = generator(self.scenario.file.seed, name, "sentinel", "fsync")
        return lambda: sum(disk.fsync_at(float(luck.random())) for _ in range(SAVE_FSYNCS))

    def _introduce(self, peers: dict[str, Peers]) -> None:
        """Each knows the replicas and the others."""
        for one in self.all:
            masters = {}
            for name, known in one.saved.masters.items():
                replicas = tuple(Address(other, SERVER_PORT) for other in peers if other != known.address.host)
                others = tuple((other.address, other.saved.myid) for other in self.all if other is not one)
                masters[name] = KnownMaster(known.address, known.config_epoch, known.leader_epoch, replicas, others)
            one.saved = replace(one.saved, masters=masters)

    # ---- what happens to them

    def _strikes(self, fault: NodeFault, one: Sentinel) -> bool:
        host = self.wire.ends[one.name].host
        return fault.node == one.name or (fault.fault in HOST_CRASHES and fault.host == host and fault.node is None)

    def _strike(self, fault: NodeFault, mine: Iterable[Sentinel]) -> Generator[simpy.Event, None, None]:
        yield self.env.timeout(fault.at)
        for one in mine:
            if fault.fault == "restart" and not one.is_alive:
                one.start()
            elif fault.fault == "pause" and one.is_alive:
                one.pause()
            elif fault.fault != "restart" and one.is_alive:
                one.kill()
                self.wire.gone(one.name)
            self.lines.append((int(self.env.now), one.name, fault.say()))
        back_ns = fault.for_ns if fault.fault == "pause" else fault.restart_after
        if back_ns is None:
            return
        yield self.env.timeout(back_ns)
        for one in mine:
            if fault.fault == "pause":
                one.resume()
            elif not one.is_alive:
                one.start()

    def _asked_for_a_failover(self, entry: TimelineEntry) -> Generator[simpy.Event, None, None]:
        """An operator's SENTINEL FAILOVER."""
        yield self.env.timeout(entry.at)
        one, master = next(one for one in self.all if one.name == entry.node), master_to_fail_over(entry)
        said = f"SENTINEL FAILOVER {master}: {{}}"

        def answered(reply: Any, delay_ns: int) -> None:
            self.lines.append((int(self.env.now) + delay_ns, "redis-cli", said.format(reply)))

        if one.is_alive:
            one.request(Failover(master), answered)
        else:
            answered("Connection refused", 0)

    # ---- whom clients ask

    def ask(self, group: Group, at: str) -> Generator[simpy.Event, Any, "str | None"]:
        """Where a client of the group, which has been with `at`, is told to go; None: by nobody."""
        assert group.service is not None, "who asks has a service"
        half_ns = self._one_way_ns(group)
        for one in self.all:
            yield self.env.timeout(half_ns)
            if not one.is_alive:
                yield self.env.timeout(half_ns)
                continue
            answered = self.env.event()

            def answer(reply: Any, delay_ns: int, one: Sentinel = one, answered: simpy.Event = answered) -> None:
                known = one.masters.get(str(group.service))
                is_down = known is not None and (known.s_down or known.o_down) and known.address == reply
                reply = None if is_down else reply
                if group.role == "replica" and known is not None:
                    reply = self._replica(known, at)
                self.wire.after(delay_ns, lambda: answered.succeed(reply))  # type: ignore[arg-type]

            one.request(GetMasterAddr(group.service), answer)
            yield answered | self.env.timeout(group.timeout or ASK_NS)
            if answered.processed and answered.value is not None:
                yield self.env.timeout(half_ns)
                return str(answered.value.host)
        return None

    def _one_way_ns(self, group: Group) -> int:
        """Between the group's clients and a Sentinel."""
        return max((group.rtt if group.rtt is not None else self.loopback_rtt_ns) // 2, 1)

    @staticmethod
    def _replica(master: Instance, at: str) -> Address | None:
        """SENTINEL REPLICAS: one that is up, another one than before if there is; as redis-py's slave_for, without the master."""
        found = [slave.address for slave in master.slaves.all if not slave.s_down and slave.slave_master_link_up]
        return next((address for address in found if address.host != at), found[0] if found else None)

    def tell(self, group: Group, service: Service) -> None:
        """The clients of the group listen to +switch-master."""
        half_ns = self._one_way_ns(group)

        def hear(ns: int, event: str, text: str) -> None:
            words = text.split()
            if event == "+switch-master" and words[0] == group.service:
                self.wire.after(ns - int(self.env.now) + half_ns, service.move, words[3])

        for one in self.all:
            one.subscribe(hear)

    def attach(self, places: dict[str, Place], peers: dict[str, Peers]) -> dict[str, Service]:
        """The scenario's groups that follow a service, each at its master; by their names."""
        out = {}
        for name, group in self.scenario.file.followers.items():
            mine = {node: (place.server, place.number(name)) for node, place in places.items()}
            out[name] = Service(self.env, name, mine, group.node, lambda at, group=group: self.ask(group, at))  # type: ignore[misc]
            out[name].begin()
            if group.follow == "switch-master" and group.role == "master":
                self.tell(group, out[name])
        for node, place in places.items():
            Watch.on(self.env, peers[node], {place.number(name): service for name, service in out.items()})
        return out

    def guesses(self) -> list[tuple[str, int, str]]:
        """(name, value, says) of what is a guess here and in the clients that follow a service."""
        section, out = self.scenario.file.sentinels, []
        if section is not None and section.just_started:
            out.append(("sentinel_start_ns", START_NS, "the Sentinels are started within so long of each other"))
        groups = self.scenario.file.followers.values()
        if any(not group.timeout for group in groups):
            out.append(("sentinel_ask_ns", ASK_NS, "a client without a timeout waits so long for a Sentinel's answer"))
        if groups:
            out.append(("pool_again_ns", AGAIN_NS, "a pool that was told what it knew asks again so much later at least"))
            out.append(("client_slice_ns", SLICE_NS, "a client of a server that is held hears of its own time-out so late"))
        return out

    def summary(self) -> dict[str, Any]:
        """What summary.json has: myid (as it stands in their votes), alive (at the end), epoch (current_epoch),
        config_flushes since the start of the process or before, config_flush_max_us; masters: whom each takes for the master."""
        return {
            one.name: {
                "myid": one.myid, "host": self.wire.ends[one.name].host, "alive": one.is_alive, "epoch": one.current_epoch,
                "config_flushes": one.flushes, "config_flush_max_us": one.flush_max_ns / 1000,
                "masters": {master.name: master.current_address().host for master in one.masters.all},
            }
            for one in self.all
        }  # fmt: skip
