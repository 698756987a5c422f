"""Notebook 03: what a BGSAVE takes from the clients and from the memory while it runs.

NOT modelled: anything; it uses only what `import redsim` gives everybody.
"""

import math

import nbformat
from cells import SCENARIOS, SETUP, api, do, say, us

import redsim
from redsim.units import MIB

SAVE = SCENARIOS / "incident" / "bgsave-under-writes.yaml"
XEN = SCENARIOS / "incident" / "fork-on-xen.yaml"


def fork_and_cow() -> list[nbformat.NotebookNode]:
    """The fork's stall by size and host, copied pages and the coupon collector, huge pages, one core, an exercise."""
    return [*_stall(), *_pages(), *_huge(), *_cores(), *_exercise()]


def _saved(*sets: str) -> dict:
    result = redsim.run(redsim.load(SAVE, list(sets)))
    child = result.summary["nodes"]["main"]["children"][0]
    return {**child, "cow_mib": child["cow_bytes"] / MIB, "p99": api(result)["latency_us"]["p99"]}


def _stall() -> list[nbformat.NotebookNode]:
    base = _saved()
    xen = redsim.run(redsim.load(XEN)).summary["nodes"]["main"]["children"][0]
    return [
        say(f"""
# 03 A save, and who pays for it

**Question.** A Redis with {base["rss_bytes"] / MIB:.0f} MiB in memory writes a snapshot in the background while clients write.
What does it cost them, and how much memory does it take besides?

**Predict first**, on paper: (a) how long `fork()` holds everybody up here, and in an instance of 24 GB; (b) how many bytes are
copied while the child lives, if half of 5,000 requests a second are `SET`s to any of the keys; (c) what huge pages change."""),
        do(SETUP),
        do("""
scenario = redsim.load("../scenarios/incident/bgsave-under-writes.yaml")
result = redsim.run(scenario)
node = result.summary["nodes"]["main"]
pd.DataFrame(node["children"])[["because", "fork_ms", "took_s", "rss_bytes", "cow_bytes", "file_bytes", "status"]]"""),
        do('result.figure("memory")'),
        say(f"""
The fork copies no data, but the page tables: 8 bytes for each page of 4 KiB, 2 MiB for each GiB. That took
{us(base["fork_ms"] * 1000)}, in which nobody was answered. It grows with the memory, and with the host: on an old Xen
instance each entry goes through the hypervisor, and 24 GB take {xen["fork_ms"] / 1000:.2f} s [redis-latency-page]."""),
        do("""
rows = []
for profile in ("xeon-e5520-2010", "ec2-hvm-2013", "default", "kvm-2012", "ec2-xen-2012"):
    run = redsim.run(redsim.load("../scenarios/incident/fork-on-xen.yaml", [f"hosts.box.profile={profile}"]))
    group = run.summary["clients"]["api"]
    fork_ms = run.summary["nodes"]["main"]["children"][0]["fork_ms"]
    rows.append((profile, fork_ms, group["latency_us"]["p99"] / 1000, group["failed"] / group["offered"]))
pd.DataFrame(rows, columns=["host", "fork_ms", "p99_ms", "failed"]).set_index("host")"""),
        say("""
With a time-out of one second a stall of several is no stall any more: clients give up, connect again, and the server works for
nobody (`scenarios/incident/fork-on-xen.yaml`)."""),
    ]


def _pages() -> list[nbformat.NotebookNode]:
    return [
        say("""
## Which pages are copied

After the fork both processes share every page. The first write to a page copies it, later ones find it copied. What is
copied is therefore a **coupon collection**: of N pages, w writes to any of them hit N (1 - (1 - 1/N)^w) different
ones. **What do you expect** if the keys are not equally popular?"""),
        do("""
import numpy as np

keys, rows = 396_214, []
for name, popularity in (("uniform", "uniform"), ("zipf 0.99", "{zipf: 0.99}")):
    for rate in (1_000, 5_000, 20_000):
        sets = [f"clients.api.arrivals.open.rate_per_s={rate}", "clients.api.commands={SET: 1}",
                f"clients.api.keys.popularity={popularity}"]
        run = redsim.run(redsim.load("../scenarios/incident/bgsave-under-writes.yaml", sets))
        child = run.summary["nodes"]["main"]["children"][0]
        writes = rate * child["took_s"]
        chance = np.full(keys, 1 / keys) if name == "uniform" else np.arange(1, keys + 1) ** -0.99
        written = (1 - np.exp(-writes * chance / chance.sum())).sum()
        rows.append((name, rate, writes, written, child["cow_bytes"] / 2**20, child["cow_bytes"] / child["rss_bytes"]))
pd.DataFrame(rows, columns=["popularity", "writes_per_s", "writes", "different keys", "copied_MiB", "of RSS"])"""),
        say("""
A write copies more than the value's page: the key's dictEntry points to another value now, and the object has a new header.
Those lie 128 and 256 on a page, so they are soon all copied; the values are what counts. A real Redis 7.0.15
copied 48, 176 and 444 MB at as many writes as it got (uniform), 24, 75 and 209 (zipf); counted at the same writes the model
is 0.91 to 1.12 times that
[lab-fork-bgsave].

Reads copy nothing: while a child lives Redis leaves the clock of each key's last access alone, lets no hash table grow and moves
no bucket, only to spare pages."""),
    ]


def _huge() -> list[nbformat.NotebookNode]:
    old = _saved("hosts.box.thp=always", "nodes.main.conf.disable-thp=no", "hosts.box.linux='5.4'")
    return [
        say("""
## Huge pages

With transparent huge pages a page has 2 MiB. **Predict** the fork's time, the bytes copied, and p99.9; then what it is on a
kernel of today."""),
        do("""
rows = []
for name, sets in {
    "4 KiB": [],
    "2 MiB, Linux 5.4": ["hosts.box.thp=always", "nodes.main.conf.disable-thp=no", "hosts.box.linux='5.4'"],
    "2 MiB, Linux 6.1": ["hosts.box.thp=always", "nodes.main.conf.disable-thp=no"],
    "2 MiB, disable-thp yes": ["hosts.box.thp=always"],
}.items():
    run = redsim.run(redsim.load("../scenarios/incident/bgsave-under-writes.yaml", sets))
    child, wait = run.summary["nodes"]["main"]["children"][0], run.summary["clients"]["api"]["latency_us"]
    rows.append((name, child["fork_ms"], child["cow_bytes"] / 2**20, wait["p99"], wait["p999"]))
pd.DataFrame(rows, columns=["pages", "fork_ms", "copied_MiB", "p99_us", "p999_us"]).set_index("pages")"""),
        say(f"""
The fork is short, for there are 512 times fewer entries, and then nearly everything is copied: {old["cow_mib"]:.0f} MiB, a
quarter of a millisecond at a time [redis-7381]. Since Linux 5.8 a write splits the huge page first and copies 4 KiB of it.
Redis does not wait for that: `disable-thp yes` is the default."""),
    ]


def _cores() -> list[nbformat.NotebookNode]:
    two, one = _saved(), _saved("hosts.box.cores=1")
    return [
        say(f"""
## One core

The child is a process of its own. On a machine with one core it takes half of it whenever both have work: the save
takes {one["took_s"]:.1f} s instead of {two["took_s"]:.1f}, and p99 of the clients is {us(one["p99"])} instead of
{us(two["p99"])}. The model shares the core evenly and at once; a real kernel gives it in slices of some milliseconds, so that
single waits are longer."""),
        do("""
one = redsim.run(redsim.load("../scenarios/incident/bgsave-under-writes.yaml", ["hosts.box.cores=1"]))
blame = one.blame[one.blame["group"] == "api"].pivot(index="cause", columns="percentile", values="us")
blame[blame.max(axis=1) > 5].sort_values("p99", ascending=False)[["mean", "p99", "p999"]]"""),
    ]


def _exercise() -> list[nbformat.NotebookNode]:
    many = _saved("clients.api.arrivals.open.rate_per_s=40000", "clients.api.commands={SET: 1}")
    share, writes = many["cow_bytes"] / many["rss_bytes"], 40_000 * many["took_s"]
    written = 1 - math.exp(-writes / 396_214)
    return [
        say(f"""
## Exercise

How much of the host's memory must stay free above `maxmemory` if clients write 40,000 values a second, all keys alike? Answer on
paper with the coupon collector (the save takes about four seconds, a value lies on 1.25 pages), then with
`redsim.load(path, ["clients.api.arrivals.open.rate_per_s=40000", "clients.api.commands={{SET: 1}}"])`.

<details><summary>Solution</summary>

40,000/s for {many["took_s"]:.1f} s are {writes:,.0f} writes to 396,214 keys: a share of
1 - e^(-{writes / 396_214:.2f}) = {written:.0%} is written at least once. Each page holds parts of some four values, and is
spared only if none of them is written. The run says {many["cow_mib"]:.0f} MiB, {share:.0%} of RSS: plan for twice the
memory, or write less while you save.

</details>

## Sources

* fork, save and copied bytes by size, write rate and popularity: own measurement of Redis 7.0.15 [lab-fork-bgsave]
* fork by host and size: the Redis documentation's latency page [redis-latency-page], `doc/RedisBigData.html` [redis-big-data]
* a copy-on-write fault of 2 MiB: Redis pull request 7381 [redis-7381]; of 4 KiB, and the split since
  Linux 5.8: own measurement [fork-probe]
* the coupon collector: Kolchin, Sevastyanov and Chistyakov, *Random Allocations*, 1978 [kolchin-1978]"""),
    ]
