"""The network under connections between servers: delay and bandwidth of a path, what its faults do to them.

Mirrors Linux TCP: a lost segment is sent again after a round trip (fast retransmit), one at the tail of what was sent after the
tail loss probe (two round trips, 10 ms at least); while nothing comes through, after 200 ms and a round trip, doubled each time
up to 120 s (tcp_timer.c), so that a connection goes on up to as long again after a fault as the fault took. Random loss bounds
the rate at MSS / RTT * 1.22 / sqrt(loss) [mathis-1997]. A payload of 1,448 bytes takes 1,538 of an Ethernet line.

    Network(env, file, names, wires, loopback_rtt_ns)   sets delay, picoseconds per byte and holds of `wires` for the scenario's
                                                        links and faults; `is_refused` and `on_cut` tell of closed connections

Differs: a fault's first lost segment is sent when the fault begins.
Not modelled: congestion windows as they grow, routers' queues.
"""

from collections.abc import Callable, Generator
from math import sqrt
from typing import Any

import simpy

from redsim.dataplane import layout as dp
from redsim.scenario.network import Link, NetworkFault, link_between
from redsim.units import MS, S

__all__ = ["Network"]

MSS_BYTES, FRAME_BYTES = 1448, 1538  # dataplane/ledger.py: frame_bytes
RTO_MIN_NS, RTO_MAX_NS = 200 * MS, 120 * S  # net/tcp.h
MATHIS = 1.22
SYN_NS = S  # net/tcp.h: TCP_TIMEOUT_INIT
SYN_LINEAR, SYN_LINEAR_SINCE = 4, (6, 5)  # net/ipv4/tcp_ipv4.c: so many are sent a second apart before that doubles


def ps_per_byte(link: Link) -> int:
    """Picoseconds that a byte of payload takes on the link, by its bandwidth and by its loss."""
    ps = 8 * 10**12 * FRAME_BYTES // (MSS_BYTES * link.bandwidth) if link.bandwidth else 0
    if link.loss:
        ps = max(ps, round(1e3 * link.rtt * sqrt(link.loss) / (MSS_BYTES * MATHIS)))
    return ps


def resent_ns(lost_ns: int, healed_ns: int, rtt_ns: int) -> int:
    """When a segment first sent at `lost_ns` is sent again for the first time that it comes through."""
    return comes_through_ns(lambda at: at < healed_ns, lost_ns, rtt_ns)


def comes_through_ns(is_lost: Callable[[int], bool], at_ns: int, rtt_ns: int, syn_linear: int | None = None) -> int:
    """When a packet first sent at `at_ns` is sent for the first time that it comes through; `is_lost(ns)`: one sent then is not.
    `syn_linear`: it is a SYN, which is sent so often at even distances before those double."""
    at, wait = at_ns, (RTO_MIN_NS + rtt_ns if syn_linear is None else SYN_NS)
    even = syn_linear or 0
    while is_lost(at):
        at += wait
        even -= 1
        if even < 0:
            wait = min(2 * wait, RTO_MAX_NS)
    return at


def syn_linear(file: Any, host: str) -> int:
    """How many SYNs the host's Linux sends at even distances (tcp_syn_linear_timeouts)."""
    major, minor = (int(word) for word in file.hosts[host].linux.split(".")[:2])
    return SYN_LINEAR if (major, minor) >= SYN_LINEAR_SINCE else 0


class Network:
    """The paths of all connections between servers.

    state    refused_until   by the number of a connection: no new one comes about before
             on_cut          called with the number of a connection that both ends lose now
    """

    def __init__(
        self, env: simpy.Environment, file: Any, names: list[str], wires: dp.I64, loopback_rtt_ns: int,
    ) -> None:  # fmt: skip
        self.env, self.file, self.names, self.wires = env, file, names, wires
        self.loopback_rtt_ns = loopback_rtt_ns
        self.refused_until = [0] * len(wires)
        self.down: list[list[tuple[int, int]]] = [[] for _ in wires]  # per connection: when packets are lost, one way or both
        self.on_cut: Callable[[int], None] = lambda _link: None
        for i in range(len(wires)):
            if wires[i, dp.W_FROM] >= 0:
                self._set(i, self._link(i))
        for _, fault in file.network_faults:
            for begin, end in fault.spans():
                env.process(self._strike(fault, begin, end))

    def join(self, i: int, master: int) -> None:
        """Connection `i` is one with the server `master` from here on: another path, and what is wrong with that one now."""
        self.wires[i, dp.W_FROM] = master
        now = int(self.env.now)
        self.wires[i, [dp.W_HOLD, dp.W_HOLD_BACK]], self.down[i] = 0, []
        self._set(i, self._link(i))
        for _, fault in self.file.network_faults:
            for begin, end in fault.spans():
                if begin <= now < end and fault.fault == "slow_link":
                    if i in self._between(fault):
                        self._set(i, self._link(i).model_copy(update=_given(fault)))
                elif begin <= now < end and fault.fault != "disconnect":
                    self._hold(i, fault, begin, end)

    def hosts(self, i: int) -> tuple[str, str]:
        """Hosts of the master and of the replica of connection `i`."""
        ends = (self.names[int(self.wires[i, column])] for column in (dp.W_FROM, dp.W_TO))
        master, replica = (self.file.nodes[name].host for name in ends)
        return master, replica

    def one_way_ns(self, i: int) -> int:
        """Delay of connection `i` now."""
        return int(self.wires[i, dp.W_DELAY])

    def travel_ns(self, i: int, at_ns: int, *, is_first: bool = False) -> int:
        """How long something sent over connection `i` at `at_ns` is on its way; a connection's first packet is a SYN."""
        syns = syn_linear(self.file, self.hosts(i)[1]) if is_first else None

        def is_lost(at: int) -> bool:
            return any(begin <= at < end for begin, end in self.down[i])

        return comes_through_ns(is_lost, at_ns, 2 * self.one_way_ns(i), syns) - at_ns + self.one_way_ns(i)

    def _link(self, i: int) -> Link:
        a, b = self.hosts(i)
        if a == b:
            return Link(between=(a, b)).model_copy(update={"rtt": self.loopback_rtt_ns})
        return link_between(self.file, a, b)

    def _set(self, i: int, link: Link) -> None:
        row = self.wires[i]
        row[dp.W_DELAY] = max(link.rtt // 2, 1)
        row[dp.W_PS], row[dp.W_BUFFER] = ps_per_byte(link), link.socket_buffer
        row[dp.W_LOCAL] = int(link.between[0] == link.between[1])
        row[dp.W_JITTER], row[dp.W_LOSS_PPB] = link.jitter, round(link.loss * 1e9)

    def _strike(self, fault: NetworkFault, begin_ns: int, end_ns: int) -> Generator[simpy.Event, None, None]:
        yield self.env.timeout(begin_ns - int(self.env.now))
        if fault.fault == "slow_link":
            yield from self._slow(fault, end_ns)
            return
        for i in range(len(self.wires)):
            if fault.fault == "disconnect":
                if self.names[int(self.wires[i, dp.W_TO])] == fault.node:
                    self.refused_until[i] = end_ns
                    self.on_cut(i)
                continue
            self._hold(i, fault, begin_ns, end_ns)

    def _hold(self, i: int, fault: NetworkFault, begin_ns: int, end_ns: int) -> None:
        """The fault strikes connection `i`, if it lies on its path: nothing comes through before."""
        if self.wires[i, dp.W_FROM] < 0:
            return
        master, replica = self.hosts(i)
        is_down = False
        for way, column in (((master, replica), dp.W_HOLD), ((replica, master), dp.W_HOLD_BACK)):
            if fault.strikes(*way):
                again_ns = resent_ns(begin_ns, end_ns, 2 * self.one_way_ns(i)) + self.one_way_ns(i)
                self.wires[i, column] = max(int(self.wires[i, column]), again_ns)
                is_down = True
        if is_down:
            self.down[i].append((begin_ns, end_ns))

    def _slow(self, fault: NetworkFault, end_ns: int) -> Generator[simpy.Event, None, None]:
        """The link between two hosts is another one for a while."""
        for i in self._between(fault):
            self._set(i, self._link(i).model_copy(update=_given(fault)))
        yield self.env.timeout(end_ns - int(self.env.now))
        for i in self._between(fault):
            self._set(i, self._link(i))

    def _between(self, fault: NetworkFault) -> list[int]:
        """Connections between the two hosts of the fault, now."""
        pair = set(fault.between or ())
        return [i for i in range(len(self.wires)) if self.wires[i, dp.W_FROM] >= 0 and set(self.hosts(i)) == pair]


def _given(fault: NetworkFault) -> dict[str, Any]:
    """What the fault makes of a link."""
    return {name: getattr(fault, name) for name in ("rtt", "bandwidth", "loss") if getattr(fault, name) is not None}
