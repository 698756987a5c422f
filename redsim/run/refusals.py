"""What a conf asks of a build that it cannot do: refused before a run.

Mirrors nothing in Redis, which takes them.
Not modelled: I/O threads of 8.0 and Valkey 8.0.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from redsim.dataplane import layout as dp
from redsim.run.kinds import WRITING_OPS
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.scenario.roles import role_change

__all__ = ["io_threads", "refuse_waits", "refuse_writes"]


def io_threads(scenario: Scenario, node: str) -> int:
    """io-threads; ScenarioError for a version whose I/O threads are others."""
    threads = int(scenario.confs[node].get("io-threads"))
    if threads > 1 and scenario.file.nodes[node].version in ("8.0", "valkey-8.0"):
        raise ScenarioError(
            f"{scenario.where('nodes', node, 'version')}: io-threads {threads} with version"
            f" {scenario.file.nodes[node].version!r}: redsim models the I/O threads of 6.0 to 7.4 so far; use one of those"
        )
    return threads


def refuse_waits(scenario: Scenario, plans: Iterable[Any]) -> None:
    """ScenarioError for a WAITAOF that the version does not have, or that could not be answered (waitaofCommand)."""
    node, what = next(iter(scenario.file.nodes.items()))
    waits = [(plan, kind) for plan in plans for kind in plan.all_kinds if kind.command.op == dp.OP_WAITAOF]
    for plan, kind in waits:
        where = scenario.where(*(("timeline",) if plan.is_cli else ("clients", plan.name)))
        if what.version in ("6.2", "7.0"):
            raise ScenarioError(f"{where}: WAITAOF is not in {what.version}, the version of {node}; use WAIT, or version 7.2")
        if kind.row[dp.K_LO] and not scenario.confs[node].get("appendonly"):
            raise ScenarioError(
                f"{where}: WAITAOF cannot be used when numlocal is set but appendonly is disabled; "
                f"add appendonly yes to nodes.{node}.conf, or say local: 0"
            )


def refuse_writes(scenario: Scenario, plans: Sequence[Any]) -> None:
    """ScenarioError for a command that writes to a replica (processCommand: READONLY). `plans`: run/groups.py's, of the node."""
    node, what = next(iter(scenario.file.nodes.items()))
    for plan in plans:
        if plan.group.role == "replica" and any(kind.command.op in WRITING_OPS for kind in plan.all_kinds):
            where = scenario.where("clients", plan.name)
            raise ScenarioError(f"{where}: clients.{plan.name} wants a replica, which would answer READONLY; leave role out")
    whole = scenario.whole or scenario
    is_promoted = whole.file.sentinels is not None or any(
        entry.node == node and role_change(entry).master is None for _, entry in whole.file.role_entries
    )
    if what.replica_of is None:
        return
    for plan in plans:
        for kind in plan.all_kinds:
            if (kind.command.op in WRITING_OPS and not is_promoted) or kind.command.op in (dp.OP_WAIT, dp.OP_WAITAOF):
                where = scenario.where(*(("timeline",) if plan.is_cli else ("clients", plan.name)))
                is_wait = kind.command.op in (dp.OP_WAIT, dp.OP_WAITAOF)
                error = f"{kind.command.name} cannot be used with replica instances" if is_wait else "READONLY"
                raise ScenarioError(
                    f"{where}: {kind.name} on {node} would answer {error}: it is a replica; send it to {what.replica_of}"
                )
