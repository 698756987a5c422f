"""Notebook 02: what a key takes, what a full server throws away, and what that costs the hit ratio.

NOT modelled: anything; it uses only what `import redsim` gives everybody.
"""

import nbformat
import numpy as np
import numpy.typing as npt
from cells import SETUP, do, say

import redsim

GROWING = """
question: What does the 131,073rd key cost?
duration: 4s
seed: 1
window: 20ms
hosts:
  box: {profile: default}
nodes:
  main: {host: box, version: "7.0", conf: "save \\"\\"\\nappendonly no"}
datasets:
  users: {node: main, keys: 160000, type: string, key_bytes: 15, value_bytes: 20, present: 0}
clients:
  writer:
    node: main
    connections: 10
    requests: 150000
    arrivals: {open: {rate_per_s: 50000}}
    commands: {SET: 1}
    keys: {dataset: users, popularity: sequential}
"""
ACCESSES = """
import numpy as np

rng = np.random.default_rng(1)
ranks = np.arange(1, 100_001)
weights = 1 / ranks**0.99
pages = rng.permutation(100_000)  # so that a page's number says nothing about its rank
accesses = pages[rng.choice(100_000, size=1_000_000, p=weights / weights.sum())]
"""
SAMPLES = (1, 3, 5, 10, 64)


def memory_and_eviction() -> list[nbformat.NotebookNode]:
    """Sizes by encoding, thresholds, the doubling of the hash table, LRU against exact, eviction in a run."""
    return [*_sizes(), *_thresholds(), *_doubling(), *_approximation(), *_eviction(), *_exercise()]


def _sizes() -> list[nbformat.NotebookNode]:
    return [
        say("""
# 02 Memory, and what goes when it is full

**Question.** How many bytes does a key take in Redis, and what remains of a cache's hit ratio if it may keep only a tenth
of its keys?

**Predict first**, on paper: (a) what `MEMORY USAGE` answers for a key of 9 bytes with a value of 10; (b) how many bytes a
hash of 512 small fields takes, and one of 513; (c) what the 131,073rd key costs the server; (d) how many hits Redis loses
because its LRU looks at five keys only instead of all."""),
        do(SETUP),
        say("""
## One string

Nothing here asks a server: `redsim.memory_usage` adds up the blocks that Redis would allocate. The size is in the small print:
the key is an sds, the value an object, and each block is rounded up to a size class of the allocator."""),
        do("""
values = {"12": 12, "10 letters": "a" * 10, "44 letters": "a" * 44, "45 letters": "a" * 45, "100 letters": "a" * 100}
builds = ["jemalloc", "jemalloc-debian", "libc"]
rows = [
    (name, redsim.object_encoding(value), *(redsim.memory_usage(value, key="user:1000", allocator=build) for build in builds))
    for name, value in values.items()
]
pd.DataFrame(rows, columns=["value", "encoding", *builds])"""),
        say(f"""
Ten letters take {redsim.memory_usage("a" * 10, key="user:1000")} bytes: 24 for the dictEntry, 16 for the key with its header
and its zero, 32 for the value, which shares one block with its object up to 44 bytes (`embstr`). A number needs no letters at
all. The same version built by a Linux distribution has other size classes, so the build is part of the question.

**Predict** the shape before you run this: bytes against the length of the value."""),
        do("""
lengths = range(1, 201)
frame = pd.DataFrame(
    {build: [redsim.memory_usage("a" * n, key="user:1000", allocator=build) for n in lengths] for build in builds}, index=lengths
)
ax = frame.plot(drawstyle="steps-post", figsize=(8, 3.5), xlabel="bytes of the value", ylabel="MEMORY USAGE, bytes")
ax.set_ylim(0)
ax.figure.tight_layout()"""),
    ]


def _hash_bytes(fields: int, limit: int = 512) -> int:
    value = {f"f{i:04}": "v" * 8 for i in range(fields)}
    return redsim.memory_usage(value, key="user:1000", samples=0, conf={"hash-max-listpack-entries": limit})


def _thresholds() -> list[nbformat.NotebookNode]:
    small, large = _hash_bytes(512), _hash_bytes(513)
    return [
        say("""
## A small hash is not a hash table

Small hashes, sets, sorted sets and lists are one block of bytes, a listpack: no pointers, no buckets, no objects. Over a
threshold they become what their name says."""),
        do("""
def hash_of(fields, limit=512):
    value = {f"f{i:04}": "v" * 8 for i in range(fields)}
    conf = {"hash-max-listpack-entries": limit}
    return redsim.object_encoding(value, conf=conf), redsim.memory_usage(value, key="user:1000", samples=0, conf=conf)


rows = [(fields, *hash_of(fields)) for fields in (1, 8, 64, 128, 129, 512, 513, 1024)]
frame = pd.DataFrame(rows, columns=["fields", "encoding", "bytes"])
frame["bytes_per_field"] = frame["bytes"] / frame["fields"]
frame"""),
        say(f"""
One field more and the hash takes {large:,} bytes instead of {small:,}, {large / small:.1f} times as much. The way back does
not exist: a hash that shrinks again stays a hash table.

Thresholds are directives, and their defaults are not the same for all types, nor in all versions:"""),
        do("""
def converts_at(value_of, kind, version):
    small = redsim.object_encoding(value_of(1), type=kind, version=version)
    sizes = (128, 129, 512, 513)
    grown = [n for n in sizes if redsim.object_encoding(value_of(n), type=kind, version=version) != small]
    large = redsim.object_encoding(value_of(513), type=kind, version=version)
    return f"{small} → {large} at {grown[0]}" if grown else f"{small}"


of_size = {
    "hash": lambda n: {f"f{i}": "v" for i in range(n)},
    "zset": lambda n: {f"m{i}": float(i) for i in range(n)},
    "set": lambda n: [f"m{i}" for i in range(n)],
}
versions = ["6.2", "7.0", "7.2", "7.4", "valkey-8.0"]
rows = [(kind, *(converts_at(make, kind, version) for version in versions)) for kind, make in of_size.items()]
pd.DataFrame(rows, columns=["type", *versions])"""),
    ]


def _doubling() -> list[nbformat.NotebookNode]:
    memory = redsim.run(redsim.Scenario.from_text(GROWING)).memory
    jump = int(memory["dict_table_bytes"].max()) / 1e6
    return [
        say("""
## The key that costs two megabytes

The keyspace itself is a hash table with as many buckets as keys, in powers of two. **Predict** used_memory while 150,000
keys are written: a straight line?"""),
        do(f"growing = redsim.Scenario.from_text(r'''{GROWING}''')\nmemory = redsim.run(growing).memory"),
        do("""
frame = memory.set_index("keys")[["used_memory_bytes", "dict_table_bytes"]] / 1e6
ax = frame.plot(figsize=(8, 3.5), xlabel="keys", ylabel="MB")
ax.set_ylim(0)
ax.figure.tight_layout()"""),
        say(f"""
At 65,536 and at 131,072 keys a table twice as large is allocated at once, 8 bytes a bucket; both tables exist until the keys
have moved from one to the other, a bucket with each command and a millisecond in each serverCron. The tables together take
{jump:.1f} MB at their worst. At 2²⁶ keys it is a gigabyte in one instant. Before Redis 6.2 a server near its maxmemory
evicted as many keys as that takes; since then it puts the doubling off, up to 1.6 keys a bucket
(`scenarios/incident/dict-doubling.yaml`)."""),
    ]


def _accesses() -> npt.NDArray[np.int64]:
    """The accesses of the cell."""
    names: dict[str, npt.NDArray[np.int64]] = {}
    exec(ACCESSES, names)  # the notebook's own text, so that prose and cell cannot differ
    return names["accesses"]


def _approximation() -> list[nbformat.NotebookNode]:
    rows = redsim.rehearse(_accesses(), capacity=10_000, samples=SAMPLES)
    hits = dict(zip(zip(rows["policy"], rows["samples"], strict=True), rows["hit_ratio"], strict=True))
    exact, lost = hits["exact LRU", 0], {n: hits["exact LRU", 0] - hits["allkeys-lru", n] for n in SAMPLES}
    return [
        say("""
## LRU without a list

Exact LRU needs a list of all keys, two pointers each. Redis has none: it draws `maxmemory-samples` keys, keeps the sixteen
that were idle longest in a pool, and evicts the worst of them. How much worse is that? A million accesses to 100,000 pages
by Zipf's law, a cache for 10,000 of them. **Predict** the hit ratio with 1, 3, 5, 10 and 64 samples, and of exact LRU."""),
        do(ACCESSES.strip()),
        do(f"""
policies = ["allkeys-lru", "allkeys-lfu", "allkeys-random"]
rows = redsim.rehearse(accesses, capacity=10_000, samples={SAMPLES}, policies=policies)
rows["hit_percent"] = 100 * rows["hit_ratio"]
rows[["policy", "samples", "hit_percent", "evicted", "idle_s_when_evicted"]]"""),
        do("""
lru = rows[rows["policy"] == "allkeys-lru"]
ax = lru.plot(x="samples", y="hit_ratio", marker="o", logx=True, figsize=(8, 3.5), label="allkeys-lru")
for name, color in (("exact LRU", "black"), ("Belady", "green"), ("allkeys-random", "red")):
    ratio = rows.loc[rows["policy"] == name, "hit_ratio"].iloc[0]
    ax.axhline(ratio, color=color, linestyle="--", label=name)
ax.set_ylabel("hit ratio")
ax.legend()
ax.figure.tight_layout()"""),
        say(f"""
With five samples {100 * lost[5]:.1f} of 100 hits are lost against exact LRU ({exact:.1%}), with ten {100 * lost[10]:.1f}.
Ten times the samples cannot buy what another rule gives: LFU counts accesses instead of remembering the last one and is
ahead of exact LRU here, because these accesses have favourites that never change. Belady's rule, which knows the future, bounds
them all.

**What do you expect** if the favourites move? Try `accesses` with another permutation in its second half."""),
        do("""
moved = accesses.copy()
moved[500_000:] = rng.permutation(100_000)[moved[500_000:]]
rows = redsim.rehearse(moved, capacity=10_000, samples=5, policies=["allkeys-lru", "allkeys-lfu"])
rows["hit_percent"] = 100 * rows["hit_ratio"]
rows[["policy", "samples", "hit_percent"]]"""),
    ]


def _eviction() -> list[nbformat.NotebookNode]:
    return [
        say("""
## In a server

A rehearsal has no latency. In a run, keys are deleted before the command that needs their room, in the only thread there is.
Cache-aside clients: a miss is fetched elsewhere in 2 ms and SET. **Predict** who is slower: p50 and p99 with allkeys-lru and
with noeviction?"""),
        do("""
rows = []
for policy in ("allkeys-lru", "allkeys-lfu", "allkeys-random", "noeviction"):
    sets = [f"nodes.main.conf.maxmemory-policy={policy}", "duration=10s", "warmup=3s"]
    run = redsim.run(redsim.load("../scenarios/learn/lru-samples.yaml", sets))
    node, group = run.summary["nodes"]["main"], run.summary["clients"]["pages"]
    wait, refused = group["latency_us"], group["errors"]["oom"]
    rows.append((policy, group["hit_ratio"], node["evicted_keys"], refused, node["cpu_utilisation"], wait["p50"], wait["p99"]))
pd.DataFrame(rows, columns=["policy", "hit_ratio", "evicted", "refused", "busy", "p50_us", "p99_us"])"""),
        do("""
run = redsim.run(redsim.load("../scenarios/learn/lru-samples.yaml"))
[finding.text for finding in run.findings]"""),
        say("""
The policies differ in hits and hardly in latency: evicting a small key takes a few microseconds of the one thread. noeviction
keeps the tenth it began with, which nobody chose, and refuses every SET that would change it. It is another matter when a
single large key has to go, or thousands of small ones at once: `scenarios/incident/evicting-large-keys.yaml`,
`scenarios/incident/dict-doubling.yaml`."""),
    ]


def _exercise() -> list[nbformat.NotebookNode]:
    return [
        say(f"""
## Exercise

A million pictures, each with the number of its user: `SET media:1155315 939241`. In 2011 Instagram put the numbers into
hashes instead, a thousand to a hash: `HSET mediabucket:1155 315 939241`. How many bytes an id does that save, and which
number of fields would you choose?

<details><summary>Solution</summary>

```python
string = redsim.memory_usage(939241, key="media:1155315")
for fields in (10, 100, 500, 1000, 2000):
    bucket = {{str(i): 939241 for i in range(fields)}}
    size = redsim.memory_usage(bucket, key="mediabucket:1155", samples=0, conf={{"hash-max-listpack-entries": 1000}})
    print(fields, size / fields)
```

{_bucket_table()}

A string has its dictEntry, its key and its object for every id; a field of a listpack has six bytes or so. Over the
threshold everything is lost again. The price is time: a listpack is read from its first field on
(`scenarios/plan/listpack-thresholds.yaml`, `scenarios/plan/small-hashes.yaml`).

</details>

## Sources

* Sizes: Redis 6.2 to 7.4 and Valkey 8.0, `object.c`, `sds.h`, `listpack.c`, `dict.c`; jemalloc's size classes [facts 8.1]; held
  against some 3,000 keys of a real Redis 7.0.15
* Doubling and maxmemory: Redis pull request 7954 [redis-7954]
* LRU by samples, LFU: `evict.c`; recorded hit ratios of Redis 7.0.15 [lab-eviction]; exact LRU by stack distances
  [mattson-1970], Belady's rule [belady-1966]
* Instagram, *Storing hundreds of millions of simple key-value pairs in Redis*, 2011 [instagram-2011]"""),
    ]


def _bucket_table() -> str:
    string = redsim.memory_usage(939241, key="media:1155315")
    rows = [f"| a string each | {string} |"]
    for fields in (10, 100, 500, 1000, 2000):
        bucket = {str(i): 939241 for i in range(fields)}
        size = redsim.memory_usage(bucket, key="mediabucket:1155", samples=0, conf={"hash-max-listpack-entries": 1000})
        rows.append(f"| {fields:,} | {size / fields:.1f} |")
    return "\n".join(["| fields of a hash | bytes an id |", "| --- | --- |", *rows])
