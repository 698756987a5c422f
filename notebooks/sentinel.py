"""Notebook 06: what a failover is made of, what down-after, quorum and min-replicas-to-write change, and who stays too long.

NOT modelled: anything; it uses only what `import redsim` gives everybody.
"""

from itertools import accumulate

import nbformat
from cells import SCENARIOS, SETUP, do, say

import redsim

FAILOVER = SCENARIOS / "learn" / "failover.yaml"
SPLIT = SCENARIOS / "incident" / "split-brain.yaml"
BOUNDED = SCENARIOS / "plan" / "split-brain-min-replicas.yaml"
FALSE_ALARM = SCENARIOS / "incident" / "down-after-500ms.yaml"
RETRIES_MAX = 20


def sentinel() -> list[nbformat.NotebookNode]:
    """The parts of a failover, down-after both ways, quorum, a split brain and its bound, patience as the exercise."""
    return [*_parts(), *_down_after(), *_false_alarm(), *_quorum(), *_split(), *_exercise()]


def _parts() -> list[nbformat.NotebookNode]:
    base = redsim.run(redsim.load(FAILOVER))
    web = base.summary["clients"]["web"]
    return [
        say("""
# 06 Sentinel

**Question.** A master is killed at second 10. Three Sentinels watch it, `down-after-milliseconds` is 3000, the quorum 2. How long
can nobody write, which part of that is what, and which writes are lost?

A Sentinel knows a server only by what it answers: a PING each second, an INFO each ten seconds, each second once something is
wrong. There is no message "I am dead".

**Predict first**, on paper: the seconds without an answer, the share of the requests of these thirty seconds that fail for good
(a time-out of 100 ms, three retries within 300 ms), and the number of acknowledged writes that are gone."""),
        do(SETUP),
        do("""
result = redsim.run(redsim.load("../scenarios/learn/failover.yaml"))
web = result.summary["clients"]["web"]
pd.Series({
    "seconds without an answer": web["unavailable_s"], "failed for good": web["failed"] / web["offered"],
    "writes lost": result.summary["failovers"][0]["lost_acked_writes"],
})"""),
        do("""
def first(events, words):
    return events[events.text.str.startswith(words)].time_s.min()


steps = {
    "+sdown": "one Sentinel had no answer for down-after", "+odown": "as many as the quorum say so",
    "+elected-leader": "a majority of all has voted for one of them",
    "MASTER MODE": "the replica executes SLAVEOF NO ONE",
    "+promoted-slave": "its INFO, asked for each second, shows it",
    "+switch-master": "the others have heard it: clients are told",
}
times = pd.Series({step: first(result.events, step) for step in steps})
pd.DataFrame({"at_s": times, "took_s": times.diff().fillna(times.iloc[0] - 10), "because": steps})"""),
        do('result.figure("failover")'),
        say(f"""
Of {web["unavailable_s"]:.1f} s without an answer, `down-after-milliseconds` is three. The election is the smallest part. The
second largest is waiting for the next INFO of the promoted replica, which would have taken writes for nearly a second by then:
nobody sends it any.

{_lost(base)} The lag of a replica is some 0.3 ms here: what was acknowledged earlier than that has left the master before it
died."""),
    ]


def _lost(result: redsim.Result) -> str:
    lost = result.summary["failovers"][0]["lost_acked_writes"]
    return "No write is lost." if lost == 0 else f"{lost} acknowledged writes are lost."


def _down_after() -> list[nbformat.NotebookNode]:
    return [
        say("""
## down-after-milliseconds

**What do you expect** of 1, 3, 5 and 10 seconds: does the rest stay the same?"""),
        do("""
def conf(quorum=2, down_after=3000, more=""):
    lines = [f"sentinel monitor mymaster main {quorum}", f"sentinel down-after-milliseconds mymaster {down_after}", more]
    return 'sentinels.conf="' + "\\\\n".join(lines) + '"'


rows = []
for down_after in (1000, 3000, 5000, 10000):
    waits = []
    for seed in range(1, 6):
        one = redsim.run(redsim.load("../scenarios/learn/failover.yaml", [conf(down_after=down_after)]), seed=seed)
        waits.append(one.summary["clients"]["web"]["unavailable_s"])
    rows.append((down_after, min(waits), max(waits), max(waits) - down_after / 1000))
pd.DataFrame(rows, columns=["down_after_ms", "shortest_s", "longest_s", "longest_less_down_after_s"])"""),
        say("""
It does: a second or so, whatever down-after is. The dead process' host resets the Sentinels' connections at once, they connect
again, and the PING that waits for an answer is from that moment. A host that is gone resets nothing: there the PING is the next
regular one, up to a second later."""),
    ]


def _false_alarm() -> list[nbformat.NotebookNode]:
    one = redsim.run(redsim.load(FALSE_ALARM))
    lost = sum(row["lost_acked_writes"] for row in one.summary["failovers"])
    return [
        say("""
## Why not half a second, then?

A script holds the master for a second now and then. It is not dead; it answers late. How many failovers do you expect in two
minutes, and what do they cost, with 500 ms and with 2,000?"""),
        do("""
rows = []
for down_after in (500, 2000):
    change = conf(down_after=down_after, more="sentinel failover-timeout mymaster 10000")
    one = redsim.run(redsim.load("../scenarios/incident/down-after-500ms.yaml", [change]))
    fails = one.summary["failovers"]
    sdown = one.events.text.str.startswith("+sdown master").sum()
    rows.append((down_after, sdown, len(fails), sum(f["lost_acked_writes"] for f in fails)))
pd.DataFrame(rows, columns=["down_after_ms", "+sdown", "failovers", "writes_lost"])"""),
        say(f"""
Nobody died, and {lost:,} acknowledged writes are gone: for ten seconds there were two masters, and clients had no reason to leave
the old one, which answered. Then a Sentinel told it to be a replica (+convert-to-slave, after eight seconds of INFO that says
master, so at the second INFO), and it took the other's data. Redis issue 8607 is this, with the same two figures.

`down-after-milliseconds` must be longer than the longest stall that you put up with: a fork, a script, a DEL of a large key, an
fsync (`scenarios/incident/fork-failover.yaml`, `del-failover.yaml`, `fsync-failover.yaml`)."""),
    ]


def _quorum() -> list[nbformat.NotebookNode]:
    return [
        say("""
## Quorum

From 10 to 20 s one Sentinel cannot reach the master, everybody else can. At 35 s a Sentinel dies, at 40 s the master. Predict
the failovers of quorum 1, 2 and 3."""),
        do("""
rows = []
for quorum in (1, 2, 3):
    one = redsim.run(redsim.load("../scenarios/learn/quorum.yaml", [conf(quorum=quorum)]))
    fails = [f"{f['at_s']:.1f} s: {f['from']} to {f['to']}" for f in one.summary["failovers"]]
    lost = sum(f["lost_acked_writes"] for f in one.summary["failovers"])
    rows.append((quorum, ", ".join(fails) or "none", lost, one.summary["clients"]["web"]["unavailable_s"]))
pd.DataFrame(rows, columns=["quorum", "failovers", "writes_lost", "longest_without_an_answer_s"])"""),
        say("""
The quorum says how many must see the master down before one of them tries. Who may do it takes a majority of all Sentinels that
are known, the dead ones too, and voters do not look whether they see it down themselves. So quorum 1 of 3 lets one blind Sentinel
replace a healthy master, and quorum 3 needs every one alive. It never makes a minority enough: of two Sentinels one alone elects
nobody, whatever the quorum (`scenarios/incident/two-sentinels.yaml`)."""),
    ]


def _split() -> list[nbformat.NotebookNode]:
    runs = [redsim.run(redsim.load(path)) for path in (SPLIT, BOUNDED)]
    free, bounded = (one.summary["failovers"][0] for one in runs)
    refused = runs[1].summary["clients"]["inside"]["errors"]["noreplicas"]
    gone, kept = free["lost_acked_writes"], bounded["lost_acked_writes"]
    return [
        say("""
## Two masters

The master's host is cut off for thirty seconds, together with some of the clients. The majority elects another one; on the
other side nothing seems to be wrong. What do you expect `min-replicas-to-write 1` to change, and what not?"""),
        do("""
split = redsim.run(redsim.load("../scenarios/incident/split-brain.yaml"))
bounded = redsim.run(redsim.load("../scenarios/plan/split-brain-min-replicas.yaml"))
rows = [(name, one.summary["failovers"][0]["lost_acked_writes"], one.summary["failovers"][0]["lost_from_s"],
         one.summary["failovers"][0]["lost_until_s"], one.summary["clients"]["inside"]["errors"]["noreplicas"])
        for name, one in {"without": split, "min-replicas-to-write 1": bounded}.items()]
pd.DataFrame(rows, columns=["", "writes_lost", "from_s", "until_s", "refused"])"""),
        do('split.figure("replication")'),
        say(f"""
Without it, {gone:,} writes were answered +OK and are gone, until {free["lost_until_s"]:.0f} s: fifteen seconds
longer than the network was cut, as TCP, INFO and +convert-to-slave take their time. With it, {kept:,}: those
of the {bounded["lost_until_s"] - 10:.1f} s before the master knew that its replicas were silent (`min-replicas-max-lag 3`, whole
seconds). {refused:,} writes were refused instead. It bounds what is lost, it does not prevent it; `WAIT 1` after a write tells
the client."""),
    ]


def _exercise() -> list[nbformat.NotebookNode]:
    return [
        say(f"""
## Exercise

In the first scenario a client gives up after three retries: 50, 100 and 150 ms after one another (`growth: linear`, capped at
500 ms). How many retries does it need so that no request fails for good? Compute it from the seconds without an answer first,
then try `clients.web.retries.max`.

<details><summary>Solution</summary>

{_solution()}

</details>

## Sources

* constants, order of the steps, who votes for whom, when an old master is converted: `sentinel.c` of Redis 7.0 [sentinel-c]
* down-after 500 ms and 2,000: Redis issue 8607 [redis-8607]; an fsync that is taken for a death: issue 10287 [redis-10287]
* a DEL that brings a failover, and the key back: issue 2455 [redis-2455]"""),
    ]


def _solution() -> str:
    backoffs_ms = [min(50 * n, 500) for n in range(1, RETRIES_MAX + 1)]
    sums_s = [total / 1000 for total in accumulate(backoffs_ms)]
    gap_s = redsim.run(redsim.load(FAILOVER)).summary["clients"]["web"]["unavailable_s"]
    needed = next(n for n, total in enumerate(sums_s, start=1) if total > gap_s)
    rows = []
    for n in (3, needed - 1, needed):
        failed = redsim.run(redsim.load(FAILOVER, [f"clients.web.retries.max={n}"])).summary["clients"]["web"]["failed"]
        rows.append(f"| {n} | {sums_s[n - 1]:.2f} s | {failed:,} |")
    return "\n".join([
        f"Nobody is answered for {gap_s:.2f} s. n retries last 50 + 100 + … ms: 2.75 s for ten, 0.5 s more for each beyond.",
        f"{needed} of them last {sums_s[needed - 1]:.2f} s, the first sum that is longer.", "",
        "| retries | they last | failed for good |", "| --- | --- | --- |", *rows, "",
        "Refused connections come back at once, so that the sum of the back-offs is nearly all of it. A host that is gone",
        "answers nothing: there each attempt takes its time-out as well.",
    ])  # fmt: skip
