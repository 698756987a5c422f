"""Write and execute the notebooks: `python notebooks/write.py`, whenever the model has moved.

Prose is here, in memory_and_eviction.py and in fork_and_cow.py, figures come from runs: the numbers told in the text are filled
in from the same scenarios that the cells run, so that a notebook never tells a number that its own output contradicts.
NOT modelled: anything; a notebook uses only what `import redsim` gives everybody.
"""

import sys

import nbformat
from cells import HERE, SCENARIOS, SETUP, api, do, say, us
from fork_and_cow import fork_and_cow
from fsync import fsync
from memory_and_eviction import memory_and_eviction
from nbclient import NotebookClient
from nbformat.v4 import new_notebook
from psync_and_backlog import psync_and_backlog
from sentinel import sentinel

import redsim
from redsim.units import say_ns

KEYS_STALL = SCENARIOS / "learn" / "keys-stall.yaml"
HELLO = """
question: What do users of a quiet Redis wait?
duration: 5s
warmup: 500ms
seed: 1
hosts:
  box: {profile: default}
nodes:
  main: {host: box, version: "7.0", conf: "save \\"\\"\\nappendonly no"}
datasets:
  users: {node: main, keys: 100000, type: string, key_bytes: 15, value_bytes: 100}
clients:
  api:
    node: main
    connections: 50
    arrivals: {open: {rate_per_s: 20000}}
    commands: {GET: 0.9, SET: 0.1}
    keys: {dataset: users, popularity: {zipf: 0.99}}
"""


# ---- 00 ----------------------------------------------------------------------------------------------------------


def hello() -> list[nbformat.NotebookNode]:
    """Load a scenario from text, run it, read summary and frames, change the seed, change the rate."""
    base = redsim.run(redsim.Scenario.from_text(HELLO))
    latency, node = api(base)["latency_us"], base.summary["nodes"]["main"]
    slow, fast = (_at_rate(rate) for rate in (2000, 100000))
    cpu = [result.summary["nodes"]["main"]["cpu_us_per_command"] for result in (slow, fast)]
    medians = [us(api(result)["latency_us"]["p50"]) for result in (slow, fast)]
    return [
        say("""
# 00 Hello, redsim

**Question.** Fifty connections ask a Redis server 20,000 times a second. What do they wait, how busy is the server, and
what happens to both when the rate grows fifty-fold?

redsim is a simulator: it replays, in seconds, what the event loop of a Redis server does with every single request. Nothing
here talks to a real server.

**Predict first**, before anything runs: write down the median wait, the slowest wait of five seconds, and how busy (in
percent) the server's main thread is."""),
        do(SETUP),
        say("A scenario is a text in YAML: hosts, servers with their `redis.conf`, data, clients. This one is complete."),
        do(f"text = r'''{HELLO}'''\nscenario = redsim.Scenario.from_text(text)\nscenario.file.question"),
        do('result = redsim.run(scenario)\npd.Series(result.summary["clients"]["api"]["latency_us"], name="µs")'),
        do("""
node = result.summary["nodes"]["main"]
{key: node[key] for key in ("cpu_utilisation", "cpu_us_per_command", "commands", "polls", "sleeps")}"""),
        say(f"""
The median is {us(latency["p50"])} and the slowest of {api(base)["completed"]:,} requests waited {us(latency["max"])}. The
main thread is busy {node["cpu_utilisation"]:.0%} of the time, although GET itself takes about a microsecond: most of the
work is reading sockets, writing answers, and going to sleep and waking up ({node["sleeps"]:,} times in five seconds).

Where do those {us(latency["p50"])} go? Every wait is taken apart while it is simulated; the parts add up to the whole."""),
        do("""
blame = result.blame[result.blame["group"] == "api"].pivot(index="cause", columns="percentile", values="us")
blame[blame.max(axis=1) > 0.5].sort_values("p50", ascending=False)[["p50", "p99", "p999"]]"""),
        do('result.figure("latency")'),
        say("""
## Frames

A result holds pandas frames: `latency` (each window, group and command), `commands`, `stalls`, `memory`, `events`, `blame`."""),
        do("""
windows = result.latency[result.latency["command"] == "GET"].drop(columns=["group", "command"])
windows.head()"""),
        say("""
## Luck has a seed

The same scenario and seed give the same digest, on any machine. Another seed gives other arrivals and other keys. How much
do the percentiles move? Guess first: which moves more, p50 or the maximum?"""),
        do("""
rows = []
for seed in (1, 1, 2, 3, 4):
    run = redsim.run(scenario, seed=seed)
    wait = run.summary["clients"]["api"]["latency_us"]
    rows.append((seed, run.summary["digest"][:8], wait["p50"], wait["p99"], wait["max"]))
pd.DataFrame(rows, columns=["seed", "digest", "p50_us", "p99_us", "max_us"])"""),
        say("""
## What do you expect if the rate grows?

A textbook queue with a fixed cost per request would say: at 2,000/s nobody waits, at 100,000/s the server drowns. Predict
the CPU per command and the median at 2,000, 20,000, 60,000 and 100,000 requests a second, then run."""),
        do("""
rows = []
for rate in (2_000, 20_000, 60_000, 100_000):
    changed = redsim.Scenario.from_text(text, overrides=[f"clients.api.arrivals.open.rate_per_s={rate}"])
    run = redsim.run(changed)
    node, wait = run.summary["nodes"]["main"], run.summary["clients"]["api"]["latency_us"]
    shares = [node[key] for key in ("cpu_utilisation", "cpu_us_per_command", "commands_per_poll")]
    rows.append((rate, *shares, wait["p50"], wait["p99"]))
columns = ["rate_per_s", "busy", "cpu_us_per_command", "commands_per_poll", "p50_us", "p99_us"]
pd.DataFrame(rows, columns=columns)"""),
        say(f"""
Fifty times the load, and the median goes from {medians[0]} to {medians[1]}: at a low rate every request pays for a wake-up
({cpu[0]:.0f} µs of CPU a command), at a high rate one round of the loop serves many ({cpu[1]:.1f} µs). A real Redis 7.0.15
on the measured host behaves so: 23 µs at 10 % load, 9 µs at 100 %, median 40 to 55 µs from 10 % to 90 % [lab-loop-latency].
A model with a constant service time cannot.

## Exercise

Replace the open loop by a closed one with 50 connections that ask again at once: `arrivals: {{closed: {{think: 0ms}}}}`.
Predict the throughput and the median, using Little's law (50 connections = throughput × wait). Does the simulator agree?

<details><summary>Solution</summary>

```python
closed = redsim.Scenario.from_text(text.replace("{{open: {{rate_per_s: 20000}}}}", "{{closed: {{think: 0ms}}}}"))
run = redsim.run(closed).summary["clients"]["api"]
run["throughput_per_s"], run["latency_us"]["mean"], run["throughput_per_s"] * run["latency_us"]["mean"] / 1e6
```

{_closed_solution()}

</details>

## Sources

* CPU per command and latency by load: own measurement of Redis 7.0.15 on a 2-core virtual machine [lab-loop-latency],
  [lab-baseline-costs]
* Little, *A proof for the queuing formula L = λW*, Operations Research 9, 1961 [little-1961]
* The shipped host profile names the source of each cost; a report lists the guesses among them"""),
    ]


def _at_rate(rate: int) -> redsim.Result:
    return redsim.run(redsim.Scenario.from_text(HELLO, overrides=[f"clients.api.arrivals.open.rate_per_s={rate}"]))


def _closed_solution() -> str:
    text = HELLO.replace("{open: {rate_per_s: 20000}}", "{closed: {think: 0ms}}")
    group = api(redsim.run(redsim.Scenario.from_text(text)))
    rate, mean = group["throughput_per_s"], group["latency_us"]["mean"]
    return (
        f"{rate:,.0f} requests a second and a mean of {us(mean)}: {rate:,.0f}/s × {mean / 1e6:.6f} s = "
        f"{rate * mean / 1e6:.1f}, the 50 connections. The wait is no property of the server: with 100 connections "
        "it would double and the throughput would hardly move."
    )


# ---- 01 ----------------------------------------------------------------------------------------------------------


def keys_stall() -> list[nbformat.NotebookNode]:
    """Why everybody waits for one KEYS, what SLOWLOG sees, why the queue is gone so soon, what retries make of it."""
    result = redsim.run(redsim.load(KEYS_STALL))
    latency, stall = api(result)["latency_us"], result.stalls.iloc[0]
    view = result.stall_view
    assert view is not None
    queue = view.requests[(view.requests["group"] == "api") & (view.requests["arrived_ns"] <= view.end_ns)]
    drained = say_ns(int(queue["done_ns"].max()) - view.end_ns)
    return [
        say(f"""
# 01 One KEYS, and everybody waits

**Question.** A server with a million keys answers 20,000 requests a second, {us(latency["p50"])} each at the
median. Somebody types `KEYS *`. How long does it hold everybody else up, and for how long after it has ended?

**Predict first**, on paper: (a) p50 and p99.9 of all requests of the next ten seconds; (b) how many requests wait at the
end of KEYS; (c) how long until that queue is gone; (d) how many entries SLOWLOG will show."""),
        do(SETUP),
        do("""
scenario = redsim.load("../scenarios/learn/keys-stall.yaml")
result = redsim.run(scenario)
result.stalls"""),
        do('result.figure("stall")'),
        say(f"""
A Redis server executes commands on one thread, one after the other. KEYS holds it for {us(stall["duration_us"])}; whoever
arrives meanwhile lies in a socket buffer. {len(queue):,} requests wait at its end: 20,000 a second times the time it took.
The wedge in the figure is that queue; its right edge is nearly vertical, because the last of them is answered only
{drained} after KEYS has ended."""),
        do('result.figure("percentiles")'),
        say(f"""
The median is {us(latency["p50"])}, as if nothing had happened, and p99.9 is {us(latency["p999"])}. There is nothing in
between: a request either met KEYS or did not. A mean ({us(latency["mean"])}) describes nobody. **What do you expect** of
p99 if you look at a minute instead of twenty seconds? (The same {len(queue):,} requests are then 1.1 % of all instead of
3.4 %.)

## Who is to blame, and what SLOWLOG says"""),
        do("""
blame = result.blame[result.blame["group"] == "api"].pivot(index="cause", columns="percentile", values="us")
blame[blame.max(axis=1) > 100].sort_values("p999", ascending=False)[["p50", "p99", "p999"]]"""),
        do("""
print("\\n".join(result.slowlog["main"]))
waited = sum(int(s.counts[s.fine_edges_ns[:-1] >= 10_000_000].sum()) for s in result.series if s.group == "api")
print(f"\\nrequests of api that took 10 ms or more: {waited:,}")"""),
        say("""
SLOWLOG times the execution of a command, not the wait before it. The GETs that waited are not in it, and a dashboard of
`usec_per_call` shows a healthy server. Measure in the clients, or watch `LATENCY HISTORY command`.

## SCAN instead

`SCAN` does the same walk in steps, and others are served between two steps. COUNT decides how long a step is. **Predict**
p99 of the others at COUNT 10, 100, 1,000 and 10,000, and how long the walk takes."""),
        do("""
walks = redsim.run(redsim.load("../scenarios/learn/scan-walk.yaml")).summary["clients"]
rows = []
for count in (10, 100, 1000, 10000):
    walk, others = walks[f"walk-{count}"], walks[f"beside-{count}"]["latency_us"]
    rows.append((count, walk["completed"] * walk["latency_us"]["mean"] / 1e6, others["p50"], others["p99"], others["max"]))
pd.DataFrame(rows, columns=["COUNT", "walk_s", "others_p50_us", "others_p99_us", "others_max_us"])"""),
        say("""
## Why is the queue gone so soon?

A queue with one server and a constant cost per request (M/D/1), busy a share ρ of the time, needs ρ / (1 - ρ) times the
length of the stall to get rid of what has gathered. On a real Redis 7.0.15 at 80 % load, a stall of 172 ms should have
taken 690 ms to drain. Measured: **58 ms** [lab-keys-stall]. The simulator at several rates, with 200,000 keys so that KEYS
takes a tenth of a second:"""),
        do("""
rows = []
for rate in (20_000, 40_000, 60_000, 80_000):
    sets = ["datasets.users.keys=200000", f"clients.api.arrivals.open.rate_per_s={rate}"]
    quiet = redsim.run(redsim.load("../scenarios/learn/keys-stall.yaml", [*sets, "timeline.0.run=PING"]))
    busy = quiet.summary["nodes"]["main"]["cpu_utilisation"]
    run = redsim.run(redsim.load("../scenarios/learn/keys-stall.yaml", sets))
    view = run.stall_view
    queue = view.requests[(view.requests["group"] == "api") & (view.requests["arrived_ns"] <= view.end_ns)]
    end = int(queue["done_ns"].max())
    drain = view.segments[(view.segments["start_ns"] >= view.end_ns) & (view.segments["end_ns"] <= end)]
    reads = int((drain["what"] == "read").sum())
    stall_ms = (view.end_ns - view.start_ns) / 1e6
    rows.append((rate, busy, stall_ms, len(queue), len(queue) / reads, (end - view.end_ns) / 1e6, stall_ms * busy / (1 - busy)))
columns = ["rate_per_s", "busy_without", "stall_ms", "waiting", "requests_per_read", "drain_ms", "M/D/1_drain_ms"]
pd.DataFrame(rows, columns=columns)"""),
        say("""
Look at `requests_per_read`: after the stall each of the 50 sockets holds a crowd of requests, one `read()` takes up to 16
KiB of them, one `write()` sends all their answers, and nobody sleeps. What a command costs falls from some 15 µs to 1 or 2
µs just when it is needed. M/D/1 has one cost for all times, so it is wrong by a factor, not by a few percent.

The measured drain is longer than the simulated one, for its load generator was a single thread that needed some 4 µs a
request of its own; the clients here cost nothing (`station: ample`).

It also shows the limit: commands that are themselves expensive do not get cheaper in company. Then the formula is right
again.

## And if the clients lose patience?

A time-out of 100 ms and three retries at once. The server does not know that a client has given up: it executes every
attempt. **Predict** the number of requests the server executes, and how many fail."""),
        do("""
rows = []
for name, sets in {
    "patient": [],
    "time-out": ["clients.api.timeout=100ms"],
    "3 retries at once": ["clients.api.timeout=100ms", "clients.api.retries.max=3", "clients.api.retries.backoff=0"],
    "3 retries, 200 ms, jitter": [
        "clients.api.timeout=100ms", "clients.api.retries.max=3",
        "clients.api.retries.backoff=200ms", "clients.api.retries.jitter=full",
    ],
}.items():
    run = redsim.run(redsim.load("../scenarios/learn/keys-stall.yaml", sets))
    group, executed = run.summary["clients"]["api"], run.summary["commands"]
    slowest_ms = group["latency_us"]["max"] / 1000
    rows.append((name, group["offered"], executed, group["failed"], group["retries"], slowest_ms))
pd.DataFrame(rows, columns=["clients", "asked", "executed", "failed", "retries", "max_ms"])"""),
        say(f"""
Cheap commands forgive: the queue is gone in milliseconds whatever the clients do. With commands of 70 µs the same retries
keep the server down for good: see `scenarios/incident/retry-storm.yaml`.

## Exercise

How many keys may the database have before one `KEYS *` lifts p99.9 of these twenty seconds above 10 ms, at 20,000 requests
a second? Find the answer on paper first (which share of the requests may wait at all, and for how long?), then with
`redsim.load(path, ["datasets.users.keys=…"])`.

<details><summary>Solution</summary>

{_keys_solution()}

</details>

## Sources

* KEYS at 100 thousand, 1 and 3 million keys under 30, 60 and 80 % load, drain times, cost per element: own measurement of
  Redis 7.0.15 [lab-keys-stall]
* KEYS is O(N) and so are its relatives; SCAN's guarantees: the Redis command reference
* Retries: Brooker, *Exponential backoff and jitter*, 2015 [retry-jitter]; Bronson et al., *Metastable failures in
  distributed systems*, HotOS 2021 [metastable-2021]"""),
    ]


def _keys_solution() -> str:
    rows = []
    for keys in (20_000, 30_000, 50_000, 70_000, 100_000):
        result = redsim.run(redsim.load(KEYS_STALL, [f"datasets.users.keys={keys}"]))
        stall_us = result.stalls["duration_us"].max() if len(result.stalls) else 0
        rows.append(f"| {keys:,} | {us(stall_us)} | {us(api(result)['latency_us']['p999'])} |")
    table = "\n".join(["| keys | KEYS takes | p99.9 |", "| --- | --- | --- |", *rows])
    return f"""In the 18 s that count there are 360,000 requests; p99.9 leaves out 360 of them, and 20,000 a second
bring 360 in 18 ms. So a stall of D ms is above 10 ms at p99.9 as soon as more than 360 requests wait longer than 10 ms:
those of the first D - 10 ms, so D = 28 ms. The drain adds a little to each wait.

{table}"""


# ---- both --------------------------------------------------------------------------------------------------------


def write(name: str, cells: list[nbformat.NotebookNode]) -> None:
    """Execute the cells in this folder and save them with their outputs as `name`.ipynb."""
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number:02}"
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(HERE)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # wall-clock times differ on every run
    path = HERE / f"{name}.ipynb"
    nbformat.write(notebook, path)
    sys.stdout.write(f"{path.name}: {path.stat().st_size // 1000} kB\n")


if __name__ == "__main__":
    write("00-hello", hello())
    write("01-keys-stall", keys_stall())
    write("02-memory-and-eviction", memory_and_eviction())
    write("03-fork-and-cow", fork_and_cow())
    write("04-fsync", fsync())
    write("05-psync-and-backlog", psync_and_backlog())
    write("06-sentinel", sentinel())
