"""maxmemory as the data plane takes it: the policy's numbers, and the tables that keys are sampled from.

Mirrors config.c (maxmemory, -policy, -samples, -eviction-tenacity, lfu-*, lazyfree-lazy-eviction) and
evict.c:evictionTimeLimitUs (7.0).
"""

from typing import Any

import numpy as np

from redsim.dataplane import layout as dp
from redsim.dataplane.dict import bits_for, link_present
from redsim.dataplane.events import NEVER
from redsim.dataplane.evict import ALLKEYS, LFU, LFU_INIT_VAL, LRU, POLICIES, empty_pool
from redsim.records import LatencyEvent
from redsim.rng import stream
from redsim.run.kinds import KindMaker
from redsim.scenario.redis_conf import RedisConf

HASH_BITS = 31  # of the seed that a table's keys are mixed with


def eviction_costs(cost: dp.I64, conf: RedisConf, maker: KindMaker, seed: int, keys: int, *, is_replica: bool) -> None:
    """Fill the columns of the World's cost row that maxmemory.py and evict.py read; `keys`: how many there may be at most. A
    replica leaves evictions to its master (replica-ignore-maxmemory)."""
    cost[dp.POLICY] = policy = POLICIES[conf.get("maxmemory-policy")]
    cost[dp.SAMPLES] = conf.get("maxmemory-samples")
    cost[dp.LFU_DECAY], cost[dp.LFU_LOG] = conf.get("lfu-decay-time"), conf.get("lfu-log-factor")
    cost[dp.LAZY_EVICT] = int(bool(conf.get("lazyfree-lazy-eviction")))
    cost[dp.EVICT_LIMIT_US] = time_limit_us(int(conf.get("maxmemory-eviction-tenacity")))
    cost[dp.EVICT_CURVE], cost[dp.SAMPLE_CURVE] = maker.curves.number("evict"), maker.curves.number("evict_sample")
    limit = int(conf.get("maxmemory"))
    if limit == 0 or is_replica:
        cost[dp.MAXMEMORY] = NEVER
        return
    cost[dp.MAXMEMORY] = min(limit, int(NEVER))
    cost[dp.SHARED_INTS] = int(not policy & (LRU | LFU))  # server.c: a shared object could not remember its accesses
    cost[dp.EVICT_CAUSE] = maker.cause(str(LatencyEvent.EVICTION_CYCLE))
    cost[dp.EVICT_DEL_CAUSE] = maker.cause(str(LatencyEvent.EVICTION_DEL))
    if policy & ALLKEYS:
        cost[dp.HEAD_BITS] = bits_for(keys)
        cost[dp.DICT_SEED] = int(stream(seed, "dict", "main")[0] >> np.uint64(64 - HASH_BITS))


def time_limit_us(tenacity: int) -> int:
    """evict.c:evictionTimeLimitUs: how long one round of evictions may take."""
    if tenacity <= 10:
        return 50 * tenacity
    return int(500.0 * 1.15 ** (tenacity - 10.0)) if tenacity < 100 else int(NEVER)


def sampled_tables(cost: dp.I64, kv: np.ndarray) -> dict[str, Any]:
    """The arrays of the World that evictions need, by their names; what the keys that are there remember is set to the start."""
    kv[:, 1] = LFU_INIT_VAL if cost[dp.POLICY] & LFU else 0
    bits = int(cost[dp.HEAD_BITS])
    heads = np.full(1 << bits, dp.NONE, dtype=np.int32)
    nexts = np.full(kv.shape[0] if bits else 1, dp.NONE, dtype=np.int32)
    if bits:
        link_present(heads, nexts, kv, cost[dp.DICT_SEED], bits)
    return {
        "heads": heads, "nexts": nexts, "pool": empty_pool(), "sampled": np.zeros(max(int(cost[dp.SAMPLES]), 1), dtype=np.int64),
        "ages": np.zeros(dp.COARSE_BUCKETS, dtype=np.int64),
    }  # fmt: skip
