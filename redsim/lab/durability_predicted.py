"""The model's side of a case about durability: the run with its files, read out of the summary under the quantities' names.

NOT modelled: other users of the machine's disk, unless the case has a hog of its own.
"""

from dataclasses import replace

from redsim.lab.durability_twin import WRITES
from redsim.lab.predicted import Side, figures_of, with_profile
from redsim.run import engine
from redsim.run.restart import rdb_load
from redsim.scenario.load import Scenario
from redsim.scenario.profile import HostProfile
from redsim.units import MIB, MS

STEP_BYTES = 2 * MIB  # loading-process-events-interval-bytes


def on_one_core(scenario: Scenario) -> Scenario:
    """The rig pins the server to one CPU, and its children with it."""
    hosts = {name: host.model_copy(update={"cores": 1}) for name, host in scenario.file.hosts.items()}
    return replace(scenario, file=scenario.file.model_copy(update={"hosts": hosts}))


def predict_files(scenario: Scenario, group: str, profile: HostProfile) -> Side:
    """Every quantity that the run has, of that client group and the one node."""
    result = engine.run(on_one_core(with_profile(scenario, profile)))
    node = next(iter(result.summary["nodes"].values()))
    figures = figures_of(result.summary["clients"][group], node)
    told = node["info"]["persistence"]
    writes = sum(figures.get(f"calls {name}", 0) for name in WRITES)
    figures["aof_delayed_fsync"] = told.get("aof_delayed_fsync", 0)
    if writes and told.get("aof_current_size"):
        figures["aof_bytes_per_write"] = told["aof_current_size"] / writes
    done = [child for child in node.get("children", []) if child["took_s"] is not None]
    if done:
        figures |= {"fork_us": 1000 * done[0]["fork_ms"], "cow_bytes": done[0]["cow_bytes"], "child_ms": 1000 * done[0]["took_s"]}
        if done[0]["kind"] == "BGSAVE":
            figures["rdb_bytes"] = done[0]["file_bytes"]
            keys = node["info"]["keyspace"]["db0"]["keys"]
            figures["load_ms"] = rdb_load(done[0]["file_bytes"], keys, STEP_BYTES, profile.rdb_load_bytes_per_s())[0] / MS
    return Side(figures)
