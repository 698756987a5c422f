"""The model's side of a case about replication: the run of both servers, read out of the summary under the quantities' names.

NOT modelled: that the replica shares its CPU with the clients here.
"""

import math

from redsim.lab.durability_predicted import on_one_core
from redsim.lab.durability_twin import WRITES
from redsim.lab.predicted import Side, figures_of, with_profile
from redsim.run import engine
from redsim.scenario.load import Scenario
from redsim.scenario.profile import HostProfile

COUNTS = ("sync_full", "sync_partial_ok", "sync_partial_err")


def predict_replication(scenario: Scenario, group: str, profile: HostProfile) -> Side:
    """Every quantity that the run has, of that client group, the master and its one replica."""
    result = engine.run(on_one_core(with_profile(scenario, profile)))
    summary = result.summary
    replica = next(iter(summary["replicas"].values()))
    figures = figures_of(summary["clients"][group], summary["nodes"][replica["master"]])
    told = summary["nodes"][replica["master"]]["info"]["replication"]
    figures |= {count: float(told[count]) for count in COUNTS}
    figures["overflows"] = figures["sync_full"]
    writes = sum(figures.get(f"calls {command}", 0) for command in WRITES)
    if writes:
        figures["stream_bytes_per_write"] = told["master_repl_offset"] / writes
    spans = {row.phase: (float(row.start_s), float(row.end_s)) for row in result.syncs.itertuples()}  # type: ignore[arg-type]
    if "load" in spans:
        begun_s = spans["handshake"][0]
        figures |= {
            "sync_ms": 1000 * (spans["load"][1] - begun_s),
            "transfer_ms": 1000 * (spans["transfer"][1] - spans["transfer"][0] if "transfer" in spans else math.nan),
            "sync_load_ms": 1000 * (spans["load"][1] - spans["load"][0]),
        }
    return Side(figures)
