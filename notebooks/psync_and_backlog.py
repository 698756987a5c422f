"""Notebook 05: which blips a backlog makes up for, what a full sync is made of, when it never ends, and how stale a replica is.

NOT modelled: anything; it uses only what `import redsim` gives everybody.
"""

import nbformat
from cells import SCENARIOS, SETUP, do, say

import redsim
from redsim.units import say_bytes, say_ns

BLIPS = SCENARIOS / "learn" / "psync-blips.yaml"
LOOP = SCENARIOS / "incident" / "full-sync-loop.yaml"
STALE = SCENARIOS / "learn" / "keys-on-the-replica.yaml"
OUTAGE = "lognormal:8s:1.1"


def psync_and_backlog() -> list[nbformat.NotebookNode]:
    """Blips against sizes, the window, a full sync's phases, the loop and its cure, staleness."""
    return [*_blips(), *_window(), *_phases(), *_loop(), *_stale(), *_exercise()]


def _blips() -> list[nbformat.NotebookNode]:
    base = redsim.run(redsim.load(BLIPS))
    rows = base.replication
    rate = float(rows["master_offset"].iloc[-1]) / float(rows["time_s"].iloc[-1])
    return [
        say(f"""
# 05 PSYNC and the backlog

**Question.** A replica loses its master for 1, 5, 20, 60 and 120 seconds. After which of these blips does it get the rest only,
after which does it need everything, and what has `repl-backlog-size` to do with it?

The master keeps the last bytes of what it has sent to its replicas: the backlog. Here its clients write
{say_bytes(round(rate))} of replication stream a second.

**Predict first**, on paper: for backlogs of 1, 4, 16 and 64 MiB, the longest of the five blips that each makes up for."""),
        do(SETUP),
        do("""
def blips(size):
    result = redsim.run(redsim.load("../scenarios/learn/psync-blips.yaml", [f"nodes.main.conf.repl-backlog-size={size}"]))
    told = result.syncs[result.syncs.phase.isin(["partial", "full"])]
    return list(told.phase)


sizes = ("1mb", "4mb", "16mb", "64mb")
table = pd.DataFrame({size: blips(size) for size in sizes}, index=["1 s", "5 s", "20 s", "60 s", "120 s"])
table"""),
        say(f"""
The rule is one line: what was written while the replica was away must still be in the backlog. {say_bytes(round(rate))} times
20 seconds are {say_bytes(round(20 * rate))}, which 1 MiB has not and 4 MiB has. A second more than the blip counts as well: the
first attempt is refused, the next one is made by the replica's cron of that second."""),
    ]


def _window() -> list[nbformat.NotebookNode]:
    return [
        say("""
## The moment at which it falls out

The band is what the backlog still has, the line what the replica lacks. While the line is in the band, it would get the rest
only."""),
        do("""
result = redsim.run(redsim.load("../scenarios/learn/psync-blips.yaml", ["nodes.main.conf.repl-backlog-size=4mb"]))
result.figure("replication")"""),
    ]


def _phases() -> list[nbformat.NotebookNode]:
    disk, pipe = (
        redsim.run(redsim.load(SCENARIOS / "learn" / "diskless-or-disk.yaml", [f"nodes.main.conf.repl-diskless-sync={how}"]))
        for how in ("no", "yes")
    )
    ends = [float(one.syncs[one.syncs.phase == "load"].end_s.iloc[-1]) for one in (disk, pipe)]
    return [
        say("""
## What a full sync is made of

By way of the master's disk, or through a pipe from its child (`repl-diskless-sync`)."""),
        do("""
for how in ("no", "yes"):
    one = redsim.run(redsim.load("../scenarios/learn/diskless-or-disk.yaml", [f"nodes.main.conf.repl-diskless-sync={how}"]))
    phases = one.syncs.assign(seconds=one.syncs.end_s - one.syncs.start_s)
    display(phases[["phase", "start_s", "seconds", "note"]])"""),
        say(f"""
By disk the replica is online after {ends[0]:.1f} s, through the pipe after {ends[1]:.1f} s, of which 5 are
`repl-diskless-sync-delay`: the master waits whether another replica comes along."""),
    ]


def _loop() -> list[nbformat.NotebookNode]:
    loop = redsim.run(redsim.load(LOOP)).summary["replicas"]["r1"]
    return [
        say("""
## A full sync that never ends

From the fork on, what is written is kept for the replica. The stream grows by 5 MB a second, a full sync takes 5.5 seconds, and
`client-output-buffer-limit replica` is 16mb. **What do you expect** to happen, and what after that?"""),
        do("""
loop = redsim.run(redsim.load("../scenarios/incident/full-sync-loop.yaml"))
loop.figure("syncs")"""),
        say(f"""
{loop["full_syncs"]} full syncs in a minute, and {len(loop["output_buffer_overflows"])} times the master closed the connection.
Each time the replica comes back with the offset it had before, which is long gone. What helps is in the inequality: bytes per
second, times the time from the fork until it has loaded, must stay below the limit."""),
        do("""
cure = ["nodes.main.conf.client-output-buffer-limit=replica 256mb 64mb 60"]
cured = redsim.run(redsim.load("../scenarios/incident/full-sync-loop.yaml", cure))
pd.Series({key: cured.summary["replicas"]["r1"][key] for key in ("state", "full_syncs", "output_buffer_peak_bytes")})"""),
    ]


def _stale() -> list[nbformat.NotebookNode]:
    lag = redsim.run(redsim.load(STALE)).summary["replicas"]["r1"]["lag_s"]
    p50, worst = (say_ns(round(lag[key] * 1e9)) for key in ("p50", "max"))
    return [
        say("""
## How stale is a read?

`lag` in INFO replication counts seconds since the last ACK, and a replica acknowledges once a second whatever it does. What a
reader sees is another thing: how long after the master's write the replica has executed it. A KEYS on the replica:"""),
        do("""
stale = redsim.run(redsim.load("../scenarios/learn/keys-on-the-replica.yaml"))
stale.figure("replication")"""),
        say(f"The median is {p50}, the worst {worst}: as long as KEYS held the replica's loop."),
    ]


def _exercise() -> list[nbformat.NotebookNode]:
    return [
        say(f"""
## Exercise

Your outages last 8 seconds at the median, with a spread of a factor of three. How large must the backlog of the first scenario
be, so that 99.9 % of them are made up for? Compute it by hand first, then ask
`redsim plan backlog scenarios/learn/psync-blips.yaml --outage {OUTAGE}`, and explain the difference to
`rate x outage x 2`.

<details><summary>Solution</summary>

{_solution()}

</details>

## Sources

* verdicts around the backlog's size, bytes of commands in the stream, growth of its blocks: own measurement of Redis 7.0.15
  [lab-psync]
* phases of full syncs by disk and through a pipe, output buffers that overflow: own measurement [lab-psync-fullsync]
* the order of the handshake, who decides what, and the cron's second: `replication.c` of Redis 7.0
* a replica closed at its limit, and again: Redis issue 4093 [redis-4093], Valkey issue 3044 [valkey-3044]"""),
    ]


def _solution() -> str:
    plan = redsim.plan_backlog(redsim.load(BLIPS), OUTAGE)
    assert plan.backlog_bytes is not None
    longest_ns, rate = plan.outages.quantile_ns(0.999), plan.written.mean_per_s
    by_hand = round(rate * longest_ns / 1e9)
    said = plan.formulas.set_index("size_bytes")["p_full"]
    once, twice = (plan.share(int((plan.needed_bytes > size).sum())) for size in (by_hand, 2 * by_hand))
    assert once in set(said)
    return f"""The 99.9th percentile is 8 s x e^(3.09 x 1.1) = {say_ns(round(longest_ns))}: three spreads above the median, thirty
times as long. At {say_bytes(round(rate))} a second that is {say_bytes(by_hand)}, with which {_percent(once)} of the
drawn outages are full: about one in a thousand, as computed. The plan says `{plan.lines_to_paste()[0]}`
({_percent(plan.share(plan.hits))} of them). It asks that even the upper end of what {plan.draws:,} draws leave open is
below 0.1 %, takes the next round size, and adds up to a second for the replica's cron.

`rate x outage x 2` takes {say_bytes(2 * by_hand)} and fails {_percent(twice)}: here the rate is even, so that its factor of two
buys nothing that was asked for. Where the load swings by day (`scenarios/plan/backlog-for-outages.yaml`), the mean rate is
the wrong one, and the factor makes up for it by luck."""


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
