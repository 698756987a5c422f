"""Result: everything a run leaves, and all a report may read. Times are int ns until a frame says otherwise in a column name."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from redsim.scenario.load import Scenario

if TYPE_CHECKING:
    from redsim.run.repeats import Repeats

Ints = npt.NDArray[np.int64]
DATASET_COLUMNS = [
    "dataset", "node", "type", "keys", "encodings", "memory_usage_bytes", "used_memory_bytes", "directive",
    "used_memory_with_it_bytes", "says",
]  # fmt: skip

DURABILITY_COLUMNS = [
    "time_s", "node", "acked_bytes", "acked_cmds", "written_bytes", "written_cmds", "durable_bytes", "durable_cmds",
]  # fmt: skip
REPLICATION_COLUMNS = [
    "time_s", "replica", "state", "master_offset", "replica_offset", "ack_offset", "lag_bytes", "lag_s", "output_buffer_bytes",
    "backlog_first_byte_offset", "backlog_histlen", "backlog_size", "ack_age_s",
]  # fmt: skip
SYNC_COLUMNS = ["replica", "phase", "start_s", "end_s", "note"]
ROLE_COLUMNS = ["time_s", "node", "role", "master"]
LOST_COLUMNS = ["time_s", "node", "promoted"]
FSYNC_COLUMNS = ["start_s", "node", "what", "duration_us"]


@dataclass(frozen=True)
class Series:
    """Latencies of one group and command: counts over log-linear buckets, whole run and per window.

    `edges_ns` shape (buckets + 1,), bucket i holds edges_ns[i] <= latency < edges_ns[i + 1]; `counts` shape (buckets,);
    `by_window` shape (windows, buckets). Warm-up is left out of `counts`, kept in `by_window`. Both lose nothing: the same
    requests are in both, at 1/128 resolution in `counts` with `fine_edges_ns` and 1/16 in `by_window` with `edges_ns`.
    """

    group: str
    command: str
    fine_edges_ns: Ints
    counts: Ints
    edges_ns: Ints
    by_window: Ints


@dataclass(frozen=True)
class StallView:
    """The main thread around the worst stall, for the teacher's timeline.

    `segments`: start_ns, end_ns, what (a command name, `read`, `write`, `poll`, `serverCron`, `accept`, …), client (int).
    `requests`: group, command, arrived_ns, done_ns: those that waited in it, at most a few thousand.
    """

    node: str
    what: str
    start_ns: int
    end_ns: int
    segments: pd.DataFrame
    requests: pd.DataFrame
    waiting_count: int | None = None  # requests waiting at its end, from the ledger; None: only what `requests` holds


@dataclass(frozen=True)
class Finding:
    severity: str  # "critical", "warning", "info"
    text: str  # one or two sentences with the figure and the cause
    directive: str  # the directive or command to change, "" if none


@dataclass(frozen=True)
class Result:
    """One run. Frames, column by column (all times from the start of the simulation):

    latency      start_s, window_s, group, command, count, mean_us, p50_us, p90_us, p99_us, p999_us, max_us
    memory       time_s, node, keys, connected_clients, query_buffers_bytes, output_buffers_bytes, dict_table_bytes,
                 used_memory_bytes, used_memory_rss_bytes, used_memory_overhead_bytes, used_memory_dataset_bytes,
                 clients_normal_bytes, allocator_active_bytes, maxmemory_bytes, aof_buffer_bytes; evicted_keys, expired_keys,
                 keyspace_hits, keyspace_misses since the start
    stalls       start_s, node, event, duration_us, because
    events       time_s, who, text
    replication  time_s, replica, state, master_offset, replica_offset, ack_offset, lag_bytes, lag_s, output_buffer_bytes,
                 backlog_first_byte_offset, backlog_histlen, backlog_size, ack_age_s (INFO's lag): per window and replica
    syncs        replica, phase, start_s, end_s, note: what its replication went through; verdicts (partial, full) are points
    roles        time_s, node, role ("master" | "slave"), master (whom it follows, ""): at the start and at each change; empty
                 where no role may change
    lost_writes  time_s, node, promoted: when `node` executed each acknowledged write that `promoted` never got
    blame        group, percentile ("p50" | "p99" | "p999" | "mean"), cause, us
    commands     group, command, completed, failed, hits, misses, p50_us, p99_us, p999_us, max_us, usec_per_call
    directives   node, line, directive, value, status ("modelled" | "accepted" | "not modelled yet"), says
    datasets     dataset, node, type, keys, encodings, memory_usage_bytes (of a key), used_memory_bytes (of all, at the start),
                 directive, used_memory_with_it_bytes (where a larger limit would keep keys small), says
    durability   time_s, node, acked_bytes, acked_cmds, written_bytes, written_cmds, durable_bytes, durable_cmds: how far the AOF
                 had come; empty without one
    fsyncs       start_s, node, what ("fsync" in flight | "postponed" write | "blocked" write), duration_us
    guesses      name, value, says   (numbers of the host profile and the model that are guesses and were used)
    """

    scenario: Scenario
    summary: dict[str, Any]
    latency: pd.DataFrame
    memory: pd.DataFrame
    stalls: pd.DataFrame
    events: pd.DataFrame
    replication: pd.DataFrame
    blame: pd.DataFrame
    commands: pd.DataFrame
    directives: pd.DataFrame
    guesses: pd.DataFrame
    series: list[Series]
    window_ns: int
    stall_view: StallView | None
    slowlog: dict[str, list[str]]  # node -> what `redis-cli SLOWLOG GET` would print, newest first
    findings: list[Finding] = field(default_factory=list)
    not_modelled: list[str] = field(default_factory=list)  # sentences: what this run left out
    offered: dict[str, Ints] = field(default_factory=dict)  # group -> requests by window of their intended time, shape (windows,)
    datasets: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=DATASET_COLUMNS))
    syncs: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=SYNC_COLUMNS))
    durability: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=DURABILITY_COLUMNS))
    fsyncs: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=FSYNC_COLUMNS))
    roles: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=ROLE_COLUMNS))
    lost_writes: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=LOST_COLUMNS))
    repeats: "Repeats | None" = None  # what more seeds have given
    partial: bool = False  # stopped by Ctrl-C before its end

    def figure(self, name: str) -> Any:
        """A matplotlib Figure by name: latency, heatmap, percentiles, stall, throughput, blame, memory, cache, expiry,
        durability, replication, syncs, failover, repeats (see redsim.report.figures)."""
        from importlib import import_module

        return import_module("redsim.report.figures").figure(self, name)
