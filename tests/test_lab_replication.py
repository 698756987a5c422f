"""A real master and its replica as the validation pack plays them: what the log says, what the proxy cuts, who spins."""

import math
import shutil
import socket
from typing import Any

import pytest

from redsim.lab import replication_twin
from redsim.lab.replication_twin import Proxy, phases_of, real_replicated_run
from redsim.scenario.load import Scenario

needs_server = [pytest.mark.real, pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on PATH")]
SYNC = [
    "Connecting to MASTER 127.0.0.1:1", "MASTER <-> REPLICA sync started", "Full resync from master: 5f:14",
    "MASTER <-> REPLICA sync: receiving 100 bytes from master to disk", "MASTER <-> REPLICA sync: Flushing old data",
    "MASTER <-> REPLICA sync: Loading DB in memory", "MASTER <-> REPLICA sync: Finished with success",
]  # fmt: skip
PAIR = """\
question: Is there a full sync?
duration: 1500ms
seed: 1
hosts: {{box: {{profile: default}}}}
nodes:
  main: {{host: box, version: "7.0", conf: "save \\"\\"\\nrepl-diskless-sync-delay 0"}}
  r1: {{host: box, version: "7.0", replica_of: main, synced: {synced}, conf: 'save ""'}}
datasets: {{d: {{node: main, keys: 2000, value_bytes: 100}}}}
clients:
  lg: {{node: main, connections: 2, arrivals: {{open: {{rate_per_s: 100}}}}, commands: {{SET: 1}}, keys: {{dataset: d}},
       station: {{kind: loop}}}}
"""


def log_of(texts: list[str], step_ms: int, from_s: int = 59) -> str:
    """A replica's log, a line each so many ms."""
    lines = []
    for i, text in enumerate(texts):
        ms = 86_340_000 + from_s * 1000 + i * step_ms  # 23:59
        seconds, minutes, hours = ms // 1000 % 60, ms // 60_000 % 60, ms // 3_600_000 % 24
        lines.append(f"77:S 27 Nov 2026 {hours:02}:{minutes:02}:{seconds:02}.{ms % 1000:03} * {text}\n")
    return "".join(lines)


def test_phases_are_read_off_the_log_of_the_last_full_sync() -> None:
    """The first begins anew and never ends; the last is over after midnight."""
    whole, transfer, load = phases_of(log_of(SYNC[:4], 100, from_s=50) + log_of(SYNC, 300))
    assert (round(whole), round(transfer), round(load)) == (1500, 300, 300)


@pytest.mark.parametrize("lines", [[], SYNC[:4], SYNC[4:]])
def test_a_full_sync_that_is_not_in_the_log_from_end_to_end_has_no_length(lines: list[str]) -> None:
    assert all(math.isnan(ms) for ms in phases_of(log_of(lines, 100)))


def is_refused(port: int) -> bool:
    """It ends with a reset, on the way or at the first byte."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as near:
            near.recv(1)
    except ConnectionResetError:
        return True
    return False


def test_a_cut_proxy_resets_its_connections_and_refuses_others_until_it_is_restored() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = Proxy(server.getsockname()[1])
        try:
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as near:
                far, _ = server.accept()
                near.sendall(b"there")
                assert far.recv(5) == b"there"
                proxy.cut()
                with pytest.raises(ConnectionResetError):
                    near.recv(1)
                far.close()
            assert is_refused(proxy.port)
            proxy.restore()
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as near:
                far, _ = server.accept()
                far.sendall(b"again")
                assert near.recv(5) == b"again"
                far.close()
        finally:
            proxy.close()


class TestOnRealServers:
    """A master and a replica of our own; counts, nothing timed."""

    pytestmark = needs_server

    @pytest.mark.parametrize(("synced", "full"), [("false", 1), ("true", 0)])
    def test_clients_do_not_spin_beside_a_replica_that_is_timed(
        self, synced: str, full: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They share its CPU: spinning, they take half of it from a full sync."""
        told: dict[str, Any] = {}
        play = replication_twin.real_run

        def listening(*args: Any, **named: Any) -> Any:
            told.update(named)
            return play(*args, **{**named, "spin": False})

        monkeypatch.setattr(replication_twin, "real_run", listening)
        _, seen = real_replicated_run(Scenario.from_text(PAIR.format(synced=synced)))
        assert told["spin"] is (synced == "true")
        assert (seen.counts["sync_full"], seen.counts["sync_partial_ok"]) == (full, 0)
        assert math.isnan(seen.sync_ms) is (full == 0)
