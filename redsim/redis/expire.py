"""Active expiry's parameters from the conf, and the keys that have a TTL at the start.

Mirrors expire.c:activeExpireCycle's own (7.0, the same from 6.0 to 8.0): with effort e = active-expire-effort - 1 a round looks
at 20 + 5e keys, a fast cycle takes 1000 + 250e us, a slow one (25 + 2e) % of a core, and it goes on while more than (10 - e) % of
them were past due. The cycles themselves are dataplane/expire.py.
Not modelled: expireSlaveKeys (keys of writable replicas).
"""

import numpy as np
import numpy.typing as npt

from redsim.dataplane import layout as dp
from redsim.dataplane.dict import bits_for, empty_table
from redsim.dataplane.expires import link_volatile
from redsim.rng import stream_words
from redsim.scenario.profile import HostProfile
from redsim.scenario.redis_conf import RedisConf

KEYS_PER_LOOP = 20  # expire.c: ACTIVE_EXPIRE_CYCLE_KEYS_PER_LOOP
FAST_DURATION_US = 1000  # expire.c: ACTIVE_EXPIRE_CYCLE_FAST_DURATION
SLOW_TIME_PERCENT = 25  # expire.c: ACTIVE_EXPIRE_CYCLE_SLOW_TIME_PERC
ACCEPTABLE_STALE_PERCENT = 10  # expire.c: ACTIVE_EXPIRE_CYCLE_ACCEPTABLE_STALE
EVENT = "expire-cycle"  # latency.c
SINCE_7_4 = ("7.4", "8.0", "valkey-8.0")

_COSTS = {
    dp.X_SAMPLE_NS: "expire_sample_ns", dp.X_DEL_NS: "expire_del_ns",
}  # fmt: skip


def expiry_row(profile: HostProfile, conf: RedisConf, version: str, cause: int) -> dp.I64:
    """The World's expiry row before any key: what the conf and the profile say. Shape (X_SIZE,)."""
    effort = int(conf.get("active-expire-effort")) - 1
    row = np.zeros(dp.X_SIZE, dtype=np.int64)
    for column, name in _COSTS.items():
        row[column] = profile.costs[name].value
    row[dp.X_PER_LOOP] = KEYS_PER_LOOP + KEYS_PER_LOOP // 4 * effort
    row[dp.X_FAST_US] = FAST_DURATION_US + FAST_DURATION_US // 4 * effort
    row[dp.X_SLOW_PERCENT] = SLOW_TIME_PERCENT + 2 * effort
    row[dp.X_ACCEPTABLE] = ACCEPTABLE_STALE_PERCENT - effort
    row[dp.X_STOPS] = int(version in SINCE_7_4)
    row[dp.X_LAZY] = int(bool(conf.get("lazyfree-lazy-expire")))
    row[dp.X_DATABASES] = int(conf.get("databases"))
    row[dp.X_CAUSE] = cause
    row[dp.X_BIG_KEY] = dp.NONE
    return row


def expires_table(row: dp.I64, kx: dp.I64, volatile_keys: int, seed: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """(xhead, xnext) with the keys that have a TTL at the start, `volatile_keys` at most later on; `row` is told of the table."""
    heads, nexts = empty_table(volatile_keys, kx.size)
    row[dp.X_HASH_SEED], row[dp.X_HASH_BITS] = stream_words(seed, "expires", "hash")[0] >> 1, bits_for(volatile_keys)
    link_volatile(heads, nexts, kx, int(row[dp.X_HASH_SEED]), int(row[dp.X_HASH_BITS]))
    return heads, nexts
