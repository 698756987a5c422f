"""Notebook 04: what appendfsync costs, what it loses, and what a restart takes; the table for three disks.

NOT modelled: anything; it uses only what `import redsim` gives everybody.
"""

import nbformat
import pandas as pd
from cells import SCENARIOS, SETUP, api, do, say, us

import redsim

LOAD = """
question: What does appendfsync cost and lose on this disk?
duration: 12s
warmup: 2s
seed: 1
hosts:
  box: {profile: default, disk: nvme-consumer}
nodes:
  main: {host: box, version: "7.0", conf: "save \\"\\"\\nappendonly yes\\nauto-aof-rewrite-percentage 0"}
datasets:
  users: {node: main, keys: 100000, value_bytes: 100}
clients:
  api:
    node: main
    connections: 50
    arrivals: {closed: {}}
    commands: {SET: 0.5, GET: 0.5}
    keys: {dataset: users}
"""
DISKS, POLICIES = ("nvme-plp", "nvme-consumer", "hdd"), ("no", "everysec", "always")
TABLE = """
def told(disk, policy):
    settings = [f"hosts.box.disk={disk}", f"nodes.main.conf.appendfsync={policy}"]
    summary = redsim.run(redsim.Scenario.from_text(LOAD, overrides=settings)).summary
    api, node = summary["clients"]["api"], summary["nodes"]["main"]
    loss = node["durability"]["loss"]
    return {
        "disk": disk,
        "appendfsync": policy,
        "requests/s": api["throughput_per_s"],
        "p99.9 us": api["latency_us"]["p999"],
        "worst kill": loss["process_kill"]["commands"]["max"],
        "worst power loss": loss["os_crash_or_power_loss"]["commands"]["max"],
        "of the last s": loss["os_crash_or_power_loss"]["age_s"]["max"],
    }


rows = [told(disk, policy) for disk in ("nvme-plp", "nvme-consumer", "hdd") for policy in ("no", "everysec", "always")]
table = pd.DataFrame(rows).set_index(["disk", "appendfsync"])
table"""


def fsync() -> list[nbformat.NotebookNode]:
    """The table, a real crash, what a lie costs, a restart."""
    return [*_table(), *_moment(), *_crash(), *_restart(), *_exercise()]


def _rows() -> pd.DataFrame:
    space: dict[str, object] = {"redsim": redsim, "pd": pd, "LOAD": LOAD}
    exec(TABLE, space)  # the same lines as the cell's, so that the prose tells the cell's numbers
    table = space["table"]
    assert isinstance(table, pd.DataFrame)
    return table


def _table() -> list[nbformat.NotebookNode]:
    told = _rows()

    def of(disk: str, policy: str, what: str) -> float:
        return float(told.loc[(disk, policy), what])

    plp, consumer, hdd = (of(disk, "no", "requests/s") / of(disk, "always", "requests/s") for disk in DISKS)
    return [
        say("""
# 04 What fsync costs, and what it saves

**Question.** `appendfsync` is `no`, `everysec` or `always`. What does each cost in throughput and in the tail, on three
disks, and how many writes that Redis has already answered are gone after kill -9, and after the power was?

**Predict first**, on paper, for fifty clients that ask as fast as they are answered: (a) by which factor `always` is slower
than `no` on a data centre's NVMe, a consumer's NVMe, a spinning disk; (b) how many acknowledged writes a kill -9 takes under
each policy; (c) how many a power loss takes."""),
        do(SETUP),
        say("""
One load, half SET and half GET, closed loop. The disks are redsim's named ones: how long `fdatasync` takes is a table of
quantiles, and how fast they write is a bandwidth; for some of them these are guesses, and the report says which."""),
        do(f'LOAD = """{LOAD.replace(chr(92), chr(92) * 2)}"""'),
        say("**What do you expect** in the nine rows? Write the order of the three policies down, per column."),
        do(TABLE.strip()),
        say(f"""
`always` is {plp:.1f} times slower than `no` on the NVMe with power-loss protection, {consumer:.1f} times on the consumer's
and {hdd:.0f} times on the spinning disk: one fsync for each turn of the event loop, shared by whoever wrote in it, and waited
for by those who only read. `everysec` costs next to nothing on all of them, and a power loss then takes up to
{of("hdd", "everysec", "worst power loss"):,.0f} writes of the last {of("hdd", "everysec", "of the last s"):.2g} s. A kill -9
takes what is in the process' own buffer: nothing most of the time, because the page cache outlives the process and what
`write(2)` has taken is in it; {of("hdd", "everysec", "worst kill"):,.0f} writes at the worst moment of the spinning disk, when
writes are put off behind a fsync in flight. `no` loses everything since the page cache was last written back: all of this run,
up to half a minute of a longer one."""),
    ]


def _moment() -> list[nbformat.NotebookNode]:
    return [
        say("""
## At which moment?

The run keeps how far answers, writes and fsyncs had come, so that for every moment it is known what a crash would have
taken. A tooth is a fsync."""),
        do("""
quiet = redsim.run(redsim.Scenario.from_text(LOAD, overrides=["hosts.box.disk=hdd"]))
quiet.figure("durability")"""),
    ]


def _crash() -> list[nbformat.NotebookNode]:
    return [
        say("""
## A crash that happens

The timeline takes crashes: `kill`, `os_crash`, `power_loss`, and how long after it the server starts again. The same instant,
three ways, under `everysec`; and `always` on a drive that says a write is on its medium when it is in its cache."""),
        do("""
def crash(fault, *settings):
    faults = f"timeline:\\n  - {{at: 8700ms, fault: {fault}, node: main, restart_after: 1s}}\\n"
    result = redsim.run(redsim.Scenario.from_text(LOAD + faults, overrides=list(settings)))
    (row,) = result.summary["nodes"]["main"]["crashes"]
    return {"fault": fault, "settings": " ".join(settings), **{key: row[key] for key in (
        "lost_acked_writes", "oldest_lost_s", "down_s", "loading_s")}}


always, lies = "nodes.main.conf.appendfsync=always", "hosts.box.disk={like: nvme-consumer, lies: true}"
rows = [crash("kill"), crash("os_crash"), crash("power_loss"), crash("power_loss", always), crash("power_loss", always, lies)]
pd.DataFrame(rows)"""),
        say("""
`always` keeps its promise as far as the drive keeps its own. Nothing in Redis can tell a drive that lies: ask for power-loss
protection, or switch its write cache off."""),
    ]


def _restart() -> list[nbformat.NotebookNode]:
    drill = redsim.run(redsim.load(SCENARIOS / "incident" / "restore-drill.yaml"))
    (row,) = drill.summary["nodes"]["main"]["crashes"]
    served = api(drill)
    return [
        say("""
## And then it has to come back

Two million keys, killed and started a second later. The port is open at once; until the files are loaded everybody is told
`-LOADING`."""),
        do("""
drill = redsim.run(redsim.load("../scenarios/incident/restore-drill.yaml"))
drill.figure("throughput")"""),
        do("""
(row,) = drill.summary["nodes"]["main"]["crashes"]
said = ("loaded_bytes", "keys_after", "replayed_commands", "down_s", "loading_s", "lost_acked_writes")
pd.Series({key: row[key] for key in said})"""),
        say(f"""
{row["loaded_bytes"] / 1e6:,.0f} MB take {row["loading_s"]:.1f} s, in which {served["errors"]["loading"]:,} requests were answered
`-LOADING`; p99.9 of those that were served is {us(served["latency_us"]["p999"])}."""),
    ]


def _always() -> str:
    rows = []
    for disk in DISKS:
        settings = [f"hosts.box.disk={disk}", "nodes.main.conf.appendfsync=always"]
        text = LOAD.replace("arrivals: {closed: {}}", "arrivals: {open: {rate_per_s: 5000}}")
        told = api(redsim.run(redsim.Scenario.from_text(text, overrides=settings)))
        latency = told["latency_us"]
        rows.append(f"| {disk} | {told['throughput_per_s']:,.0f} | {us(latency['p50'])} | {us(latency['p999'])} |")
    return "\n".join(["| disk | answered/s | p50 | p99.9 |", "| --- | --- | --- | --- |", *rows])


def _exercise() -> list[nbformat.NotebookNode]:
    return [
        say(f"""
## Exercise

A service may lose at most 500 acknowledged writes to a power loss, and needs 5,000 requests a second, half of them writes. Which
policy, on which of the disks? Change the arrivals in `LOAD` to `{{open: {{rate_per_s: 5000}}}}`.

<details><summary>Solution</summary>

`everysec` loses up to a second of writes on any disk: 2,500, five times too many, so it has to be `always`. All three disks do
it: the spinning one, too, whose fsync takes 10 ms and which gave fifty clients that wait for their answers fewer than that,
because the more requests wait, the more of them share the next fsync.

{_always()}

</details>

## Sources

* SET under each policy, fdatasync, kill -9, age of unsynced writes: own measurement of Redis 7.0.15 [lab-aof]
* Start-up from an AOF and from an RDB: own measurement [load-times]
* Write-back: Documentation/admin-guide/sysctl/vm.rst of Linux [linux-vm]"""),
    ]
