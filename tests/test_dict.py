"""The dict of keys: what is linked is found, buckets are as random as Redis', and random keys follow dict.c's own law."""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redsim.dataplane.compile import entry
from redsim.dataplane.dict import (
    bits_for,
    bucket_of,
    empty_table,
    first_in,
    link,
    link_range,
    next_in,
    random_key,
    some_keys,
    unlink,
)
from redsim.dataplane.layout import NONE
from redsim.rng import generator, stream

SEED = 12345
Table = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]


@entry
def _change(heads, nexts, keys, is_new, seed, bits):
    for i in range(keys.size):
        if is_new[i]:
            link(heads, nexts, keys[i], seed, bits)
        else:
            unlink(heads, nexts, keys[i], seed, bits)


@entry
def _walk(heads, nexts, seed, bits, logical_bits, bucket, out):
    found = 0
    key = first_in(heads, bits, logical_bits, bucket)
    while key != NONE:
        out[found] = key
        found += 1
        key = next_in(heads, nexts, seed, bits, logical_bits, key)
    return found


@entry
def _bucket(key, seed, bits):
    return bucket_of(key, seed, bits)


@entry
def _samples(heads, nexts, rng, bits, logical_bits, count, out, sizes):
    for i in range(out.shape[0]):
        sizes[i] = some_keys(heads, nexts, rng, 0, bits, logical_bits, count, out[i])


@entry
def _random_keys(heads, nexts, rng, bits, logical_bits, out):
    for i in range(out.size):
        out[i] = random_key(heads, nexts, rng, 0, bits, logical_bits)


def filled(keys: int, key_rows: int = 0) -> Table:
    """A table of the keys 0..keys-1."""
    heads, nexts = empty_table(max(keys, key_rows), max(keys, key_rows))
    link_range(heads, nexts, 0, keys, SEED, bits_for(max(keys, key_rows)))
    return heads, nexts


def buckets(table: Table, bits: int, logical_bits: int, rows: int) -> list[list[int]]:
    """All keys, bucket by bucket."""
    out = np.zeros(rows, dtype=np.int64)
    return [out[: _walk(*table, SEED, bits, logical_bits, b, out)].tolist() for b in range(1 << logical_bits)]


def test_a_table_that_grows_by_doubling_has_the_size_redis_gives_it() -> None:
    """dict.c:_dictExpandIfNeeded: the insertion that finds used == size doubles it, from 4; so 2**k keys fit in 2**k buckets."""
    assert [1 << bits_for(keys) for keys in (1, 4, 5, 8, 9, 1024, 1025)] == [4, 4, 8, 8, 16, 1024, 2048]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 199), st.integers(2, 8)), max_size=300))
def test_a_walk_over_all_buckets_meets_each_linked_key_once_at_every_size(changes: list[tuple[int, int]]) -> None:
    """Against a Python set; each change toggles a key, then the table is read at another logical size."""
    table = empty_table(200, 200)
    model: set[int] = set()
    for key, logical_bits in changes:
        _change(*table, np.array([key]), np.array([key not in model]), SEED, 8)
        model ^= {key}
        met = [key for bucket in buckets(table, 8, logical_bits, 200) for key in bucket]
        assert len(met) == len(model)
        assert set(met) == model


def test_growing_moves_no_key_out_of_the_two_halves_of_its_bucket() -> None:
    """A bucket of n is the buckets 2i and 2i + 1 of 2n, in this order."""
    table = filled(1000)
    small, large = buckets(table, 10, 6, 1000), buckets(table, 10, 7, 1000)
    assert small == [large[2 * i] + large[2 * i + 1] for i in range(64)]


def test_chain_lengths_are_those_of_random_buckets() -> None:
    """SipHash spreads keys at random: of n buckets with n keys a share 1/e is empty; five standard deviations."""
    n = 1 << 16
    used = np.bincount([_bucket(key, SEED, 16) for key in range(n)], minlength=n)
    empty = np.count_nonzero(used == 0)
    assert abs(empty - n / np.e) < 5 * np.sqrt(n * (1 / np.e) * (1 - 2 / np.e))


def dict_get_some_keys(chains: list[list[int]], count: int, luck: np.random.Generator) -> list[int]:
    """dict.c:dictGetSomeKeys as the fact sheet tells it, on lists."""
    at, found, empty = int(luck.integers(len(chains))), list[int](), 0
    seen = 0
    for _ in range(10 * count):
        for key in chains[at]:
            if len(found) < count:
                found.append(key)
            elif (place := int(luck.integers(seen + 1))) < count:
                found[place] = key
            seen += 1
        if seen >= count:
            break
        empty = 0 if chains[at] else empty + 1
        if empty >= 5 and empty > count:
            at, empty = int(luck.integers(len(chains))), 0
        at = (at + 1) % len(chains)
    return found


@pytest.mark.parametrize(("keys", "room", "logical_bits"), [(60, 64, 6), (60, 512, 6), (9, 512, 8)])
def test_some_keys_are_drawn_as_dict_get_some_keys_draws_them(keys: int, room: int, logical_bits: int) -> None:
    """dict.c:dictGetSomeKeys [facts 4.1, 9.3]: how often each key comes, against the walk on lists; 5 standard deviations."""
    table, bits, draws = filled(keys, room), bits_for(room), 40_000
    chains = buckets(table, bits, logical_bits, room)
    out, sizes = np.full((draws, 5), NONE, dtype=np.int64), np.zeros(draws, dtype=np.int64)
    _samples(*table, stream(1, "some").reshape(1, 2), bits, logical_bits, 5, out, sizes)
    luck = generator(2, "lists")
    lists = [dict_get_some_keys(chains, 5, luck) for _ in range(draws)]
    assert abs(sizes.mean() - np.mean([len(row) for row in lists])) < 0.05
    mine = np.bincount(np.concatenate([row[:n] for row, n in zip(out, sizes, strict=True)]), minlength=keys)
    theirs = np.bincount([key for row in lists for key in row], minlength=keys)
    assert np.all(np.abs(mine - theirs) < 5 * np.sqrt(mine + theirs + 1))


def test_a_random_key_is_a_random_one_of_a_random_bucket_that_is_not_empty() -> None:
    """dict.c:dictGetRandomKey: a key alone in its bucket is likelier than one of three [facts 4.1]; 5 standard deviations."""
    table, draws = filled(40, 64), 100_000
    chains = [chain for chain in buckets(table, 6, 5, 64) if chain]
    out = np.zeros(draws, dtype=np.int64)
    _random_keys(*table, stream(3, "random").reshape(1, 2), 6, 5, out)
    seen = Counter(out.tolist())
    assert len({len(chain) for chain in chains}) > 2, "chains of several lengths, or the claim is empty"
    for chain in chains:
        due = draws / len(chains) / len(chain)
        assert all(abs(seen[key] - due) < 5 * np.sqrt(due) for key in chain)
