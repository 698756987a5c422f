"""Random numbers inside the compiled loop: splitmix64 streams, exponentials, alias tables, zipf, sizes.

Mirrors: splitmix64 [splitmix-2014], Vose's alias method [vose-1991]. Zipf is exact for any exponent >= 0 and any number of keys
with a table of a few thousand rows: ranks are grouped into buckets whose weights differ by under 1 %, a bucket is drawn by its
true mass, a rank within it by rejection. The logarithm is our own polynomial so that every machine draws the same integers.
"""

import math

import numpy as np

from redsim.dataplane.compile import compiled, entry, inlined
from redsim.dataplane.layout import *

_S11, _S27, _S30, _S31, _S32 = (np.uint64(x) for x in (11, 27, 30, 31, 32))
_S12, _S22, _S44, _S54 = (np.uint64(x) for x in (12, 22, 44, 54))
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ONE, _M10, _M32 = np.uint64(1), np.uint64(1023), np.uint64(0xFFFFFFFF)
_LN2 = 0.6931471805599453


@inlined
def mix(s):
    """The 64 bits that state `s` stands for."""
    z = (s ^ (s >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


@inlined
def next_u64(rng, i):
    """The next 64 bits of stream `i`."""
    s = rng[i, 0] + rng[i, 1]
    rng[i, 0] = s
    return mix(s)


@inlined
def below(rng, i, n):
    """Uniform in 0..n-1, n < 2**32 (bias under n / 2**32)."""
    return np.int64(((next_u64(rng, i) >> _S32) * np.uint64(n)) >> _S32)


@compiled
def below_ns(rng, i, n):
    """Uniform in 0..n-1 where n may be a long time: in microseconds, milliseconds... if the 32 bits do not hold it."""
    unit = 1
    while n // unit >= 1 << 32:
        unit *= 1000
    return unit * below(rng, i, n // unit)


@compiled
def exponential(rng, i):
    """-ln(u) for u in (0, 1], as float64; + - * / only, so the same on every IEEE machine."""
    x = float(np.int64((next_u64(rng, i) >> _S11) + _ONE)) * (1.0 / 9007199254740992.0)
    m, e = math.frexp(x)
    if m < 0.7071067811865476:
        m *= 2.0
        e -= 1
    t = (m - 1.0) / (m + 1.0)
    q = t * t
    series = 1.0 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q * (1 / 13))))))
    return -(2.0 * t * series + e * _LN2)


@inlined
def alias_draw(rng, i, tab, offset, n):
    """Row of an alias table of n rows at `offset`: pairs (threshold out of 2**32, alias)."""
    u = next_u64(rng, i)
    row = np.int64(((u >> _S32) * np.uint64(n)) >> _S32)
    threshold, alias = tab[offset + 2 * row], tab[offset + 2 * row + 1]
    return alias + (row - alias if np.int64(u & _M32) < threshold else 0)  # no branch: luck cannot be predicted


@compiled
def draw_size(rng, i, tab, dist, d):
    """A size from distribution `d`: bytes or elements."""
    kind = dist[d, 0]
    if kind == DIST_CONSTANT:
        return dist[d, 1]
    if kind == DIST_QUANTILE:
        return quantile(next_u64(rng, i), tab, dist[d, 1])
    n = dist[d, 2]
    row = alias_draw(rng, i, tab, dist[d, 1], n)
    return tab[dist[d, 1] + 2 * n + row]


@compiled
def quantile(u, tab, offset):
    """Linear between 1024 quantiles; the last 1/1024 has 1024 of its own."""
    q = np.int64(u >> _S54)
    fraction = np.int64((u >> _S22) & _M32)
    if q == 1023:
        q = 1025 + np.int64((u >> _S44) & _M10)
        fraction = np.int64((u >> _S12) & _M32)
    low = tab[offset + q]
    return low + (((tab[offset + q + 1] - low) * fraction) >> 32)


@inlined
def zipf_rank(rng, i, tab, offset, n, exponent_e9):
    """Rank 0.. by zipf. A bucket's row: threshold out of 2**32; first rank, width, sure acceptance out of 2**32 of the bucket
    itself; the same of its alias. Nothing that luck decides is a branch but the rare rejection, and a rank alone in its bucket
    takes a second draw too: where the stream goes on must not wait for what the first one found."""
    u = next_u64(rng, i)
    row = offset + ZIPF_WORDS * np.int64(((u >> _S32) * np.uint64(n)) >> _S32)
    is_own = np.int64(u & _M32) < tab[row]
    first = tab[row + 1] if is_own else tab[row + 4]
    width = tab[row + 2] if is_own else tab[row + 5]
    sure = tab[row + 3] if is_own else tab[row + 6]
    u = next_u64(rng, i)
    if np.int64(u & _M32) < sure:
        return first + np.int64(((u >> _S32) * np.uint64(width)) >> _S32)
    return rank_by_rejection(rng, i, u, first, width, exponent_e9)


@compiled
def rank_by_rejection(rng, i, u, first, width, exponent_e9):
    """A rank of the bucket `first`, `width` by its weight; the first to be tried is that of the 64 bits `u`."""
    while True:
        rank = first + np.int64(((u >> _S32) * np.uint64(width)) >> _S32)
        if np.int64(u & _M32) < 4294967296.0 * ((first + 1.0) / (rank + 1.0)) ** (exponent_e9 * 1e-9):
            return rank
        u = next_u64(rng, i)


@inlined
def draw_key(w: World, g):
    """A global key index for group `g`, by its popularity."""
    group = w.group
    if group[g, G_POP] != POP_ZIPF:
        return other_key(w, g)
    i = g * RNG_PER_GROUP + RNG_KEY
    rank = zipf_rank(w.rng, i, w.tab, group[g, G_POP_ARG], group[g, G_POP_N], group[g, G_POP_ARG2])
    return w.dataset[group[g, G_DATASET], D_BASE] + rank


@compiled
def other_key(w: World, g):
    """A key of a popularity other than zipf."""
    group, rng = w.group, w.rng
    d = group[g, G_DATASET]
    base, n = w.dataset[d, D_BASE], w.dataset[d, D_N]
    i = g * RNG_PER_GROUP + RNG_KEY
    pop = group[g, G_POP]
    if pop == POP_UNIFORM:
        return base + below(rng, i, n)
    if pop == POP_SEQUENTIAL:
        key = group[g, G_SEQ_KEY]
        group[g, G_SEQ_KEY] = key + 1 if key + 1 < n else 0
        return base + key
    if pop == POP_HOTSET:
        hot = group[g, G_POP_ARG]
        if hot > 0 and (hot >= n or np.int64(next_u64(rng, i) >> _S32) < group[g, G_POP_ARG2]):
            return base + below(rng, i, hot)
        return base + hot + below(rng, i, n - hot)
    return base + n - 1 - zipf_rank(rng, i, w.tab, group[g, G_POP_ARG], group[g, G_POP_N], group[g, G_POP_ARG2])


@compiled
def draw_ahead(w: World, g):
    """Kinds and keys of the next requests of group `g`: into the last rows of its part of `drawn`. Many at once, because the
    draws of one request are a long chain of steps and those of several run side by side; one at a time (G_AHEAD) if a command
    draws further keys of the same stream when it is executed."""
    group, kind, drawn = w.group, w.kind, w.drawn
    end = (g + 1) * AHEAD
    first = end - group[g, G_AHEAD]
    n = group[g, G_MIX_N]
    for i in range(first, end):
        drawn[i, 0] = group[g, G_KIND0]
        if n > 1:
            drawn[i, 0] += alias_draw(w.rng, g * RNG_PER_GROUP + RNG_MIX, w.tab, group[g, G_MIX], n)
    for i in range(first, end):
        k = drawn[i, 0]
        if kind[k, K_SLOTKEY] >= 0 or not kind[k, K_DRAW]:
            drawn[i, 1] = kind[k, K_SLOTKEY]
        else:
            drawn[i, 1] = draw_key(w, g)
    group[g, G_DRAWN] = first


@entry
def fill_sizes(out, rng, words):
    """out[:] = draws from the quantiles `words` (2050 of them): how a data set of varied sizes is filled. `rng` shape (1, 2)."""
    for i in range(out.shape[0]):
        out[i] = min(quantile(next_u64(rng, 0), words, 0), 2147483647)
