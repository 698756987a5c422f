"""Cases about durability: what a real server's files are looked at for, and which faults a real run can have.

Only the tests marked `real` start a server; they check bytes and counts, never a timing.
"""

import shutil

import pytest

from redsim.lab.case import load_pack
from redsim.lab.durability_predicted import predict_files
from redsim.lab.durability_twin import FilesSeen, files_figures
from redsim.lab.twin import real_run
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import Scenario
from redsim.units import MS

needs_server = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on PATH; install Redis")
TEXT = """\
question: What is appended?
duration: 600ms
hosts: {{box: {{profile: dev-vm}}}}
nodes:
  main:
    host: box
    conf: |
      save ""
      appendonly yes
      appendfsync {policy}
      auto-aof-rewrite-percentage 0
datasets: {{d: {{node: main, keys: 1000, key_bytes: 12, value_bytes: 77}}}}
clients:
  c: {{node: main, connections: 2, arrivals: {{open: {{rate_per_s: 1000}}}}, commands: {{SET: 1}}, keys: {{dataset: d}}}}
{timeline}"""


def test_the_pack_has_cases_about_durability() -> None:
    """Issue 5: the three policies, with and without a hog."""
    mine = {case.name: case for case in load_pack() if case.is_durability}
    assert {"aof-no-c50", "aof-everysec-c50", "aof-always-c50", "aof-always-hog", "aof-everysec-hog"} <= set(mine)
    asked = {quantity for case in mine.values() for quantity in case.file.quantities}
    assert {"aof_bytes_per_write", "aof_delayed_fsync", "throughput_per_s", "p99_us"} <= asked


def test_figures_are_of_what_happened() -> None:
    """No child, no fork: nothing is said of one. 144 bytes each over three writes; a GET is none."""
    seen = FilesSeen(aof_bytes=432, delayed_fsyncs=1, fork_us=0, cow_bytes=0, rdb_bytes=0)
    assert files_figures(seen, {"SET": 3, "GET": 9}) == {"aof_delayed_fsync": 1, "aof_bytes_per_write": 144}
    forked = FilesSeen(0, 0, fork_us=900, cow_bytes=4096, rdb_bytes=50, load_ms=7.0, children=[(10 * MS, 35 * MS)])
    told = {"aof_delayed_fsync": 0, "fork_us": 900, "cow_bytes": 4096, "child_ms": 25, "rdb_bytes": 50, "load_ms": 7.0}
    assert files_figures(forked, {}) == told


def test_a_fault_that_nobody_can_cause_is_refused_with_its_line() -> None:
    """A healthy disk cannot be made slow; the sentence says which fault, and the cure."""
    slow = "timeline:\n  - {at: 100ms, fault: slow_disk, host: box, for: 100ms, factor: 5}\n"
    with pytest.raises(ScenarioError, match=r"timeline\.0|:1\d: .*slow_disk.*only disk_hog"):
        real_run(Scenario.from_text(TEXT.format(policy="no", timeline=slow)))


@pytest.mark.real
@needs_server
@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_a_real_server_appends_the_predicted_bytes_beside_a_hog(policy: str) -> None:
    """aof_current_size per SET equal to the byte but for the one SELECT; the hog's file is gone afterwards."""
    hog = "timeline:\n  - {at: 100ms, fault: disk_hog, host: box, for: 300ms, bytes_per_s: 1mb}\n"
    scenario = Scenario.from_text(TEXT.format(policy=policy, timeline=hog))
    run = real_run(scenario, spin=False, looks_at_files=True)
    assert run.files is not None
    writes = int(run.node.commandstats["SET"]["calls"])
    each, rest = divmod(run.files.aof_bytes, writes)
    assert (each, rest) == (116, 0)  # *3 $3 SET $12 <12> $2 <77> and their CRLFs
    predicted = predict_files(scenario, "c", scenario.profiles["box"]).figures
    assert predicted["aof_bytes_per_write"] == pytest.approx(116, abs=0.1)
    assert run.files.delayed_fsyncs == predicted["aof_delayed_fsync"] == 0


@pytest.mark.real
@needs_server
def test_a_real_save_has_the_predicted_bytes_and_is_loaded_by_another_server() -> None:
    """dump.rdb equal to the byte but for the few of its header; a load is logged; what is copied is some, and not all."""
    save = "timeline:\n  - {at: 100ms, run: BGSAVE, node: main}\n"
    text = TEXT.format(policy="no", timeline=save).replace('save ""', 'save ""\n      rdbcompression no')
    scenario = Scenario.from_text(text)
    run = real_run(scenario, spin=False, looks_at_files=True)
    predicted = predict_files(scenario, "c", scenario.profiles["box"]).figures
    assert run.files is not None
    assert run.files.rdb_bytes == pytest.approx(predicted["rdb_bytes"], abs=8)
    assert run.files.load_ms >= 0
    assert run.files.fork_us > 0
    assert run.files.cow_bytes > 0
    assert predicted["load_ms"] > 0
