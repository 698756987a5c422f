"""Small messages between hosts: how long one is on its way, by the link and its faults.

Mirrors TCP as host/network.py has it for the connections of replication: what is lost is sent again after 200 ms and a round
trip, doubled each time up to 120 s; a SYN after 1 s, five times at even distances on a Linux that does so.
Differs: the path has no bandwidth: a message is a few hundred bytes.
Not modelled: jitter and random loss of these messages.
"""

from typing import Any

from redsim.host.network import comes_through_ns, syn_linear
from redsim.scenario.network import NetworkFault, link_between

__all__ = ["Paths"]


class Paths:
    """All pairs of hosts of a scenario's `file`; `loopback_rtt_ns` between two processes of one host."""

    def __init__(self, file: Any, loopback_rtt_ns: int) -> None:
        self.file, self.loopback_rtt_ns = file, loopback_rtt_ns
        self._faults: list[NetworkFault] = [fault for _, fault in file.network_faults]
        self._down: dict[tuple[str, str], list[tuple[int, int]]] = {}

    def down(self, sender: str, receiver: str) -> list[tuple[int, int]]:
        """When packets of this direction are lost: (from, to) in ns."""
        key = sender, receiver
        if key not in self._down:
            struck = [fault for fault in self._faults if fault.fault != "slow_link" and fault.strikes(*key)]
            self._down[key] = sorted(span for fault in struck for span in fault.spans())
        return self._down[key]

    def is_down(self, sender: str, receiver: str, at_ns: int) -> bool:
        """Whether a packet sent now is lost."""
        return any(begin <= at_ns < end for begin, end in self.down(sender, receiver))

    def one_way_ns(self, a: str, b: str, at_ns: int) -> int:
        """Delay of a packet that is not lost."""
        if a == b:
            return max(self.loopback_rtt_ns // 2, 1)
        rtt = link_between(self.file, a, b).rtt
        for fault in self._faults:
            is_slow = fault.fault == "slow_link" and fault.rtt is not None and set(fault.between or ()) == {a, b}
            if is_slow and fault.at <= at_ns < fault.at + fault.for_ns:
                rtt = fault.rtt or rtt
        return max(rtt // 2, 1)

    def travel_ns(self, sender: str, receiver: str, at_ns: int, *, is_first: bool = False) -> int:
        """How long a message sent at `at_ns` is on its way; a connection's first packet is a SYN, whose answer comes back."""
        syns = syn_linear(self.file, sender) if is_first else None

        def is_lost(at: int) -> bool:
            return self.is_down(sender, receiver, at) or (is_first and self.is_down(receiver, sender, at))

        at = comes_through_ns(is_lost, at_ns, 2 * self.one_way_ns(sender, receiver, at_ns), syns)
        return at - at_ns + self.one_way_ns(sender, receiver, at)
