"""Scenarios of a master and replicas, and a run that keeps its Worlds: what the tests of replication share."""

from typing import Any

import numpy as np

import redsim
from redsim.dataplane import layout as dp
from redsim.run import engine
from redsim.run.result import Result

MIXED = """
question: Do replicas have what their master had?
duration: {duration}
seed: {seed}
hosts: {{a: {{profile: default}}, b: {{profile: default}}, c: {{profile: default}}}}
links:
  - {{between: [a, b], rtt: 500us, bandwidth: 1gbit, loss: {loss}, jitter: 50us, socket_buffer: 64kb}}
  - {{between: [a, c], rtt: 2ms, bandwidth: 100mbit, socket_buffer: 64kb}}
nodes:
  main:
    host: a
    conf: |
      save ""
      repl-backlog-size {backlog}
      repl-diskless-sync-delay 0
      repl-diskless-sync {diskless}
      maxmemory {maxmemory}
      maxmemory-policy allkeys-lru
      client-output-buffer-limit replica 1mb 0 0
  r1: {{host: b, replica_of: main, conf: "save \\"\\"\\nreplica-serve-stale-data {stale}\\nrepl-diskless-sync-delay 0"}}
  r2: {{host: c, replica_of: {above}, synced: {synced}, conf: "save \\"\\"\\nappendonly yes\\nrepl-diskless-sync-delay 0"}}
datasets:
  s: {{node: main, keys: 20000, value_bytes: {{uniform: [10, 300]}}, ttl: {{uniform: [1s, 8s], share: 0.5}}}}
  n: {{node: main, keys: 500, value_bytes: 3}}
  l: {{node: main, keys: 300, type: list, elements: 10, value_bytes: 20}}
  h: {{node: main, keys: 300, type: hash, elements: 10, value_bytes: 20}}
  z: {{node: main, keys: 300, type: zset, elements: 10, value_bytes: 20}}
clients:
  web:
    node: main
    connections: 20
    stop: {stop}
    arrivals: {{open: {{rate_per_s: 3000}}}}
    keys: {{dataset: s}}
    commands:
      SET: {{weight: 3, ttl: 4s, ttl_jitter: 1s}}
      GET: 2
      DEL: {{weight: 1, keys: 3}}
      EXPIRE: {{weight: 1, ttl: 3s}}
      APPEND: 1
      MSET: {{weight: 1, keys: 4}}
  c: {{node: main, stop: {stop}, arrivals: {{open: {{rate_per_s: 300}}}}, keys: {{dataset: n}}, commands: {{INCR: 1}}}}
  l:
    node: main
    stop: {stop}
    arrivals: {{open: {{rate_per_s: 300}}}}
    keys: {{dataset: l}}
    commands: {{LPUSH: 1, LPOP: {{weight: 1, elements: 5}}}}
  h: {{node: main, stop: {stop}, arrivals: {{open: {{rate_per_s: 300}}}}, keys: {{dataset: h}}, commands: {{HSET: 1, DEL: 1}}}}
  z:
    node: main
    stop: {stop}
    arrivals: {{open: {{rate_per_s: 300}}}}
    keys: {{dataset: z}}
    commands: {{ZADD: 1, UNLINK: 0.2}}
{more}
  readers: {{node: r1, connections: 5, arrivals: {{open: {{rate_per_s: 1000}}}}, keys: {{dataset: s}}, commands: {{GET: 1}}}}
timeline:
  - {{at: 2s, run: FLUSHALL, node: main}}
{faults}
"""
DEFAULTS: dict[str, Any] = {
    "duration": "8s", "seed": 1, "loss": 0, "diskless": "yes", "maxmemory": "0", "above": "main", "synced": "true", "stop": "6s",
    "faults": "", "backlog": "64kb", "more": "", "stale": "yes",
}  # fmt: skip


def mixed(**changes: Any) -> redsim.Scenario:
    """Every kind of write, TTLs, deletions; clients that stop before the end; `changes` of DEFAULTS."""
    return redsim.Scenario.from_text(MIXED.format(**{**DEFAULTS, **changes}))


def run_and_keep(scenario: redsim.Scenario) -> tuple[Result, dict[str, engine.Node]]:
    """The run's result, and its servers by their names."""
    kept: dict[str, engine.Node] = {}
    of = engine.Node.of.__func__  # type: ignore[attr-defined]

    def keeping(cls: type[engine.Node], *args: Any) -> engine.Node:
        node = of(cls, *args)
        kept[node.built.node] = node
        return node

    engine.Node.of = classmethod(keeping)  # type: ignore[assignment, method-assign]
    try:
        return engine.run(scenario), kept
    finally:
        engine.Node.of = classmethod(of)  # type: ignore[assignment, method-assign]


def different_keys(a: dp.World, b: dp.World) -> list[int]:
    """By data set, how many keys are not the same in two Worlds: value, elements, TTL, room."""
    out = []
    for data in a.dataset:
        mine = slice(int(data[dp.D_BASE]), int(data[dp.D_BASE] + data[dp.D_N]))
        is_there = a.kv[mine, 0] != dp.NODATA
        is_same = a.kv[mine, 0] == b.kv[mine, 0]
        if not data[dp.D_STRING]:
            is_same &= ~is_there | (a.ke[mine] == b.ke[mine])
        if data[dp.D_VOLATILE]:
            is_same &= ~is_there | (a.kx[mine] == b.kx[mine])
        if data[dp.D_GROWS]:
            is_same &= ~is_there | (a.grown[mine] == b.grown[mine])
        out.append(int(np.count_nonzero(~is_same)))
    return out
