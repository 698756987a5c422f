"""A dict whose keys are row numbers: chained buckets in two arrays, random keys as Redis draws them.

Mirrors dict.c:dictAddRaw, dictGenericDelete, dictGetSomeKeys, dictGetRandomKey (Redis 7.0.15) [facts 4.1].

    heads[2**bits]   first key of each bucket           bucket = the top `bits` bits of the mixed key
    nexts[keys]      the next key in the same bucket    NONE ends a chain; a new key goes to its front

The table has the size that the data set's maximum needs. A table of 2**logical_bits buckets, as Redis has it at the moment, is
groups of 2**(bits - logical_bits) neighbours: growing and shrinking move no key, and a cursor that counts buckets of `heads`
stays where it is. The arrays may be those of a World or plain ones.

Differs: Redis takes the lowest bits of SipHash, so its buckets double into i and i + n instead of 2i and 2i + 1; what a bucket
holds is equally random either way.
Not modelled: the two tables of a rehash in progress (keys are drawn from one table of the given size); 6.2's dictGetSomeKeys,
which takes the first keys of the last chain it visits, where 7.0 takes a fair choice of them.
"""

import numpy as np
import numpy.typing as npt

from redsim.dataplane.compile import compiled, entry, inlined
from redsim.dataplane.draws import below, mix
from redsim.dataplane.layout import NODATA, NONE

INITIAL_BITS = 2  # dict.h: DICT_HT_INITIAL_EXP
_WORD_BITS = np.uint64(64)


def bits_for(keys: int) -> int:
    """Bits of the smallest table that Redis, growing key by key, has when it holds `keys` keys."""
    return max(INITIAL_BITS, (keys - 1).bit_length())


def empty_table(keys: int, key_rows: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """(heads, nexts) of an empty table for `keys` keys at once, out of the rows 0..key_rows-1."""
    return np.full(1 << bits_for(keys), NONE, dtype=np.int32), np.full(key_rows, NONE, dtype=np.int32)


@inlined
def bucket_of(key, seed, bits):
    """Bucket 0..2**bits-1 of a key; 1 <= bits < 32."""
    return np.int64(mix(np.uint64(key) ^ np.uint64(seed)) >> (_WORD_BITS - np.uint64(bits)))


@inlined
def link(heads, nexts, key, seed, bits):
    """The key, which is not in the table, is in it."""
    bucket = bucket_of(key, seed, bits)
    nexts[key] = heads[bucket]
    heads[bucket] = key


@inlined
def unlink(heads, nexts, key, seed, bits):
    """The key, which is in the table, is not any more."""
    bucket = bucket_of(key, seed, bits)
    at = np.int64(heads[bucket])
    if at == key:
        heads[bucket] = nexts[key]
        return
    while np.int64(nexts[at]) != key:
        at = np.int64(nexts[at])
    nexts[at] = nexts[key]


@compiled
def some_keys(heads, nexts, rng, row, bits, logical_bits, count, out):
    """dict.c:dictGetSomeKeys: up to `count` keys, at most as many as the table holds, into `out`; returns how many. They come
    from consecutive buckets, so they are no independent sample, and may be fewer than asked for."""
    group_bits = bits - logical_bits
    mask = (1 << logical_bits) - 1
    bucket = below(rng, row, mask + 1)
    stored = empty = 0
    for _ in range(10 * count):
        before = stored
        for slot in range(bucket << group_bits, (bucket + 1) << group_bits):
            key = np.int64(heads[slot])
            while key != NONE:
                if stored < count:
                    out[stored] = key
                else:
                    place = below(rng, row, stored + 1)
                    if place < count:
                        out[place] = key
                stored += 1
                key = np.int64(nexts[key])
        if stored >= count:
            return count
        empty = 0 if stored > before else empty + 1
        if empty >= 5 and empty > count:
            bucket = below(rng, row, mask + 1)
            empty = 0
        bucket = (bucket + 1) & mask
    return stored


@compiled
def random_key(heads, nexts, rng, row, bits, logical_bits):
    """dict.c:dictGetRandomKey: any key of a random bucket that has some; the table must not be empty."""
    chain = 0
    while chain == 0:
        bucket = below(rng, row, 1 << logical_bits)
        chain = keys_in(heads, nexts, bits, logical_bits, bucket)
    return key_at(heads, nexts, bits, logical_bits, bucket, below(rng, row, chain))


@inlined
def keys_in(heads, nexts, bits, logical_bits, bucket):
    """Keys in one of 2**logical_bits buckets."""
    group_bits = bits - logical_bits
    keys = 0
    for slot in range(bucket << group_bits, (bucket + 1) << group_bits):
        key = np.int64(heads[slot])
        while key != NONE:
            keys += 1
            key = np.int64(nexts[key])
    return keys


@inlined
def key_at(heads, nexts, bits, logical_bits, bucket, index):
    """Key number `index`, from 0, of one of 2**logical_bits buckets, which has more than that."""
    slot = bucket << (bits - logical_bits)
    key = np.int64(heads[slot])
    while True:
        while key == NONE:
            slot += 1
            key = np.int64(heads[slot])
        if index == 0:
            return key
        index -= 1
        key = np.int64(nexts[key])


# ---- a walk over one bucket, during which keys may go -----------------------------------------------------------


@inlined
def first_in(heads, bits, logical_bits, bucket):
    """First key of one of 2**logical_bits buckets, NONE if it is empty. expire.c and dictScan go through buckets in the order of
    a cursor that outlives the call: counted in buckets of `heads` it survives growth, as dictScan's does."""
    group_bits = bits - logical_bits
    return _first_from(heads, bucket << group_bits, (bucket + 1) << group_bits)


@inlined
def next_in(heads, nexts, seed, bits, logical_bits, key):
    """The key after `key` in its bucket, NONE after the last; ask before `key` is unlinked."""
    after = np.int64(nexts[key])
    if after != NONE:
        return after
    group_bits = bits - logical_bits
    slot = bucket_of(key, seed, bits)
    return _first_from(heads, slot + 1, ((slot >> group_bits) + 1) << group_bits)


@inlined
def _first_from(heads, slot, end):
    while slot < end:
        key = np.int64(heads[slot])
        if key != NONE:
            return key
        slot += 1
    return NONE


@entry
def link_range(heads, nexts, first, end, seed, bits):
    """Link the keys first..end-1: how a data set comes into its table."""
    for key in range(first, end):
        link(heads, nexts, key, seed, bits)


@entry
def link_present(heads, nexts, kv, seed, bits):
    """Link the keys that are there: kv as in the World."""
    for key in range(kv.shape[0]):
        if kv[key, 0] != NODATA:
            link(heads, nexts, key, seed, bits)
