"""Reading and writing clients: the constants and the directives that shape them, as the data plane's cost row.

Mirrors networking.c and server.h of 7.0: reads of 16 KiB (PROTO_IOBUF_LEN), writes of at most 64 KiB a client and iteration
(NET_MAX_WRITES_PER_EVENT), 1000 accepts an event (MAX_ACCEPTS_PER_CALL; 10 from 7.4), tcp-backlog, maxclients,
busy-reply-threshold, and the fork-join I/O threads of 6.0-7.4. The loop itself is dataplane/loop.py.
Differs: with more I/O threads than cores the lists are served by as many lanes as there are cores; a real spinning thread
would waste more than that. With many connections each one's socket, epoll item, client struct and query buffer fall out of the
CPU's caches between two of its requests: the profile's curve `connections`, half of it paid by the read, half by the write.
Not modelled: client-output-buffer-limit, client-query-buffer-limit, the 8.0 and Valkey I/O threads, TLS.
"""

import numpy as np

from redsim.dataplane import layout as dp
from redsim.dataplane.events import NEVER
from redsim.scenario.profile import HostProfile
from redsim.scenario.redis_conf import RedisConf
from redsim.units import MS, US

MAX_ACCEPTS_PER_CALL = 1000  # socket.c, up to 7.2
NEW_CONNECTIONS_PER_CYCLE = 10  # max-new-connections-per-cycle, from 7.4
QUERY_BUFFER_BYTES = 20474  # sdsalloc of the first 16 KiB query buffer: size class 20480 less header and NUL [facts 8.9]
SOMAXCONN = 4096  # Linux' cap on tcp-backlog
STALL_NS = MS  # the ledger's threshold unless latency-monitor-threshold is set

_BY_NAME = {
    dp.POLL_NS: "poll_ns", dp.POLL_EVENT_NS: "poll_event_ns", dp.WAKE_NS: "wake_ns", dp.WAKE_CPU_NS: "wake_cpu_ns",
    dp.WAKE_DEEP_NS: "wake_deep_ns", dp.WAKE_CPU_DEEP_NS: "wake_cpu_deep_ns",
    dp.READ_NS: "read_ns", dp.READ_PS: "read_ps_per_byte", dp.WRITE_NS: "write_ns", dp.WRITE_PS: "write_ps_per_byte",
    dp.PARSE_NS: "parse_ns", dp.PARSE_PS: "parse_ps_per_byte", dp.CALL_NS: "call_ns", dp.COLD_NS: "cold_ns",
    dp.FIRST_NS: "first_ns",
    dp.ACCEPT_NS: "accept_ns", dp.CLOSE_NS: "close_ns", dp.FORKJOIN_NS: "forkjoin_ns", dp.WAKE_PEER_NS: "wake_peer_ns",
    dp.EXPAND_NS: "expand_ns", dp.EXPAND_PS: "expand_ps_per_byte", dp.EMPTY_BUCKET_NS: "empty_bucket_ns",
    dp.HOOK_NS: "hook_ns", dp.BUSY_REPLY_NS: "busy_reply_ns", dp.SYN_RETRY_NS: "syn_retry_ns",
}  # fmt: skip


def loop_costs(
    profile: HostProfile, conf: RedisConf, version: str, io_threads: int, cores: int, connections: int
) -> dp.I64:  # fmt: skip
    """The World's cost row: profile numbers and the directives that are modelled. Shape (COST_SIZE,).

    `connections`: those that take turns, all groups together.
    """
    cost = np.zeros(dp.COST_SIZE, dtype=np.int64)
    for column, name in _BY_NAME.items():
        cost[column] = profile.costs[name].value
    crowding_ns = profile.crowding_ns("connections", connections)
    cost[dp.READ_NS] += crowding_ns // 2
    cost[dp.WRITE_NS] += crowding_ns - crowding_ns // 2
    cost[dp.DEEP_AFTER_NS] = max(profile.costs["deep_after_ns"].value, 1)
    cost[dp.WAKE_DIST] = dp.NONE
    cost[dp.IO_THREADS] = io_threads
    cost[dp.IO_LANES] = max(1, min(io_threads, cores))
    cost[dp.IO_DO_READS] = int(bool(conf.get("io-threads-do-reads")))
    cost[dp.MAXCLIENTS] = conf.get("maxclients")
    cost[dp.BACKLOG] = min(conf.get("tcp-backlog"), SOMAXCONN)
    cost[dp.ACCEPTS_PER_CALL] = _accepts(conf, version)
    slower = int(conf.get("slowlog-log-slower-than"))
    cost[dp.SLOW_NS] = slower * US if slower >= 0 else NEVER
    cost[dp.SLOW_MAX] = min(conf.get("slowlog-max-len"), 100_000)
    threshold = int(conf.get("latency-monitor-threshold"))
    cost[dp.STALL_NS] = threshold * MS if threshold > 0 else STALL_NS
    busy = int(conf.get("busy-reply-threshold"))
    cost[dp.BUSY_NS] = busy * MS if busy > 0 else NEVER
    cost[dp.QB_ALLOC] = QUERY_BUFFER_BYTES
    cost[dp.LAZY_DEL] = int(bool(conf.get("lazyfree-lazy-user-del")))
    cost[dp.LAZY_FLUSH] = int(bool(conf.get("lazyfree-lazy-user-flush")))
    return cost


def _accepts(conf: RedisConf, version: str) -> int:
    if version in ("6.2", "7.0", "7.2"):
        return MAX_ACCEPTS_PER_CALL
    return int(conf.get("max-new-connections-per-cycle") or NEW_CONNECTIONS_PER_CYCLE)
