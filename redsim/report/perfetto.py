"""trace.json: the run in Chrome's JSON trace format, which ui.perfetto.dev opens. Times in µs, as that format
wants.

Mirrors nothing in Redis. One process per node: its main thread's stalls over the whole run, every segment
around the worst stall on a track of its own (the two would overlap), its children, its bio thread's fsyncs,
the requests that waited as async spans, and counters per window. One process per Sentinel, its events as
instants.
Differs: a span that would straddle its neighbour is cut at the neighbour's end, because spans of one track must nest; `args`
keeps the true length.
Not modelled: I/O threads as tracks, what bio threads do beside fsyncs.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from redsim.report import facts
from redsim.report import failover_facts as ff
from redsim.run.result import Result

REQUESTS_MAX = 2_000
STALLS, SEGMENTS, CHILDREN, BIO, REPLICATION, SENTINEL = 1, 2, 3, 4, 5, 6
Event = dict[str, Any]


def trace_events(result: Result) -> dict[str, Any]:
    """`{"traceEvents": [...], "displayTimeUnit": "ms", "otherData": {...}}`, ready for json.dump."""
    pids = {name: pid for pid, name in enumerate(facts.nodes(result), start=1)}
    clients_pid = len(pids) + 1
    events = [
        *_names(result, pids, clients_pid),
        *_stalls(result, pids),
        *_view(result, pids),
        *_children(result, pids),
        *_fsyncs(result, pids),
        *_syncs(result, pids),
        *_sentinels(result, clients_pid + 1),
        *_counters(result, clients_pid),
    ]
    keys = ("scenario", "question", "seed", "digest", "redsim_version")
    other = {key: str(result.summary.get(key, "")) for key in keys}
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": other}


def _names(result: Result, pids: dict[str, int], clients_pid: int) -> Iterator[Event]:
    for node, pid in pids.items():
        yield {
            "ph": "M",
            "name": "process_name",
            "pid": pid,
            "tid": 0,
            "args": {"name": f"redis-server {node}"},
        }
        yield {
            "ph": "M",
            "name": "thread_name",
            "pid": pid,
            "tid": STALLS,
            "args": {"name": "main thread: stalls"},
        }
        said = "main thread: around the worst stall"
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": SEGMENTS, "args": {"name": said}}
        for tid, said in ((CHILDREN, "children"), (BIO, "bio thread: fsync of the AOF")):
            yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": said}}
        if node in set(result.syncs["replica"]):
            args = {"name": "as a replica: resyncs"}
            yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": REPLICATION, "args": args}
    yield {"ph": "M", "name": "process_name", "pid": clients_pid, "tid": 0, "args": {"name": "clients"}}


def _nested(
    spans: Iterable[tuple[float, float, str, Event]], pid: int, tid: int, category: str = "main thread"
) -> Iterator[Event]:
    """Complete events of one track from (start_us, end_us, name, args); a span that would straddle another's
    end is cut there.
    """
    ends: list[float] = []
    for start, end, name, args in sorted(spans, key=lambda span: (span[0], -span[1])):
        while ends and ends[-1] <= start:
            ends.pop()
        stop = min(end, ends[-1]) if ends else end
        ends.append(stop)
        yield {
            "ph": "X",
            "name": name,
            "cat": category,
            "pid": pid,
            "tid": tid,
            "ts": start,
            "dur": stop - start,
            "args": args,
        }


def _stalls(result: Result, pids: dict[str, int]) -> Iterator[Event]:
    for node, pid in pids.items():
        spans = []
        for row in facts.rows(result.stalls[result.stalls["node"] == node]):
            start_us, length_us = float(row.start_s) * 1e6, float(row.duration_us)
            args = {"event": str(row.event), "because": str(row.because), "duration_us": length_us}
            name = facts.command_of(str(row.because)) or str(row.event)
            spans.append((start_us, start_us + length_us, name, args))
        yield from _nested(spans, pid, STALLS)


def _view(result: Result, pids: dict[str, int]) -> Iterator[Event]:
    view = result.stall_view
    if view is None:
        return
    pid = pids.get(view.node, 1)
    spans = [
        (int(row.start_ns) / 1000, int(row.end_ns) / 1000, str(row.what), {"client": int(row.client)})
        for row in facts.rows(view.segments)
    ]
    yield from _nested(spans, pid, SEGMENTS)
    waited = view.requests.sort_values(["arrived_ns", "done_ns"], kind="stable")
    if len(waited) > REQUESTS_MAX:
        waited = waited.iloc[np.unique(np.linspace(0, len(waited) - 1, REQUESTS_MAX).astype(int))]
    for number, row in enumerate(facts.rows(waited)):
        shared = {"name": f"{row.group} {row.command}", "cat": "waiting", "id": number, "pid": pid, "tid": 0}
        yield {"ph": "b", "ts": int(row.arrived_ns) / 1000, **shared}
        yield {"ph": "e", "ts": int(row.done_ns) / 1000, **shared}


def _children(result: Result, pids: dict[str, int]) -> Iterator[Event]:
    """From fork to exit, or to the end of the run; SAVE is the main thread's."""
    end_us = facts.duration_s(result) * 1e6
    for node, pid in pids.items():
        spans = []
        for child in result.summary["nodes"][node].get("children", []):
            if child["kind"] == "SAVE" or not child["fork_ms"]:
                continue
            start_us = float(child["at_s"]) * 1e6
            stop_us = end_us if child["took_s"] is None else start_us + float(child["took_s"]) * 1e6
            names = ("because", "status", "fork_ms", "cow_bytes", "file_bytes", "rss_bytes")
            spans.append((start_us, stop_us, str(child["kind"]), {name: child[name] for name in names}))
        yield from _nested(spans, pid, CHILDREN, "child")


def _fsyncs(result: Result, pids: dict[str, int]) -> Iterator[Event]:
    """The bio thread's; writes put off and blocked are the main thread's stalls."""
    for node, pid in pids.items():
        mine = result.fsyncs[(result.fsyncs["node"] == node) & (result.fsyncs["what"] == "fsync")]
        starts_us, lengths_us = mine["start_s"].to_numpy(float) * 1e6, mine["duration_us"].to_numpy(float)
        none: Event = {}
        spans = [(at, at + length, "fdatasync", none) for at, length in zip(starts_us, lengths_us, strict=True)]
        yield from _nested(spans, pid, BIO, "bio")


def _syncs(result: Result, pids: dict[str, int]) -> Iterator[Event]:
    """What each replica went through; a verdict is an instant."""
    for node, pid in pids.items():
        mine = result.syncs[result.syncs["replica"] == node]
        is_point = mine["phase"].isin(["partial", "full"])
        spans = [
            (float(row.start_s) * 1e6, float(row.end_s) * 1e6, str(row.phase), {"note": str(row.note)})
            for row in facts.rows(mine[~is_point])
        ]
        yield from _nested(spans, pid, REPLICATION, "replication")
        for row in facts.rows(mine[is_point]):
            shared = {"cat": "replication", "pid": pid, "tid": REPLICATION, "s": "t", "args": {"note": str(row.note)}}
            yield {"ph": "i", "name": f"{row.phase} resync", "ts": float(row.start_s) * 1e6, **shared}


def _sentinels(result: Result, first_pid: int) -> Iterator[Event]:
    """A process each, its events as instants of its timer's track."""
    every = ff.events(result)
    for pid, name in enumerate(ff.sentinels(result), start=first_pid):
        yield {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": f"redis-sentinel {name}"}}
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": SENTINEL, "args": {"name": "events"}}
        for event in every:
            if event.who == name:
                shared = {"cat": "sentinel", "pid": pid, "tid": SENTINEL, "s": "t", "args": {"text": event.text}}
                yield {"ph": "i", "name": event.name, "ts": event.at_s * 1e6, **shared}


def _counters(result: Result, pid: int) -> Iterator[Event]:
    """Requests/s and p99 of each group and window."""
    for group in facts.groups(result):
        edges, counts, window_ns = facts.window_counts(result, group)
        for window, row in enumerate(counts):
            ts = window * window_ns / 1000
            total = int(row.sum())
            yield {
                "ph": "C",
                "name": f"{group} requests/s",
                "pid": pid,
                "ts": ts,
                "args": {"per_s": total * 1e9 / window_ns},
            }
            if total:
                p99_us = float(facts.percentiles_us(edges, row, np.array([0.99]))[0])
                yield {
                    "ph": "C",
                    "name": f"{group} p99 (µs)",
                    "pid": pid,
                    "ts": ts,
                    "args": {"us": round(p99_us, 1)},
                }
