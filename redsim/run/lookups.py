"""What finding a key costs in a run: the profile's curve `lookup`, taken where the bytes of the data set put it.

A look-up waits for memory: the bucket, the dictEntry, the key, the robj and, unless it is inside the robj, the value. How many
of these lines no cache holds is a matter of the bytes that the keys lie scattered over, not of their number. `lookup` was
measured on values of 100 bytes, so a data set is taken as the number of such keys that take as many bytes; and what the curve
`value` says is spared where the value is inside its robj (up to 44 bytes, object.c; integers) or the command does not read it
(EXISTS, EXPIRE).

    ns(keys) = lookup(keys * bytes / bytes100) - embedded * value(keys * bytes / bytes100)        never below 0

Differs: a data set keeps the bytes per key it begins with. Aggregates go by their number of keys: what their elements cost more
for being many is in curves of their own. A profile without `value` was made before this was known (`default` is
one): its look-ups go by keys only.
Not modelled: popularity (the keys that everybody asks for stay in the caches); other data sets in the same caches.
"""

from collections.abc import Callable, Sequence

from redsim.dataplane import layout as dp
from redsim.dataplane.memory import EMBSTR_MAX, ROBJ_BYTES
from redsim.redis.config import Rules
from redsim.redis.dict import POINTER_BYTES
from redsim.redis.sds import usable_bytes
from redsim.run.kinds import CURVE_POINTS, Curves, Kind
from redsim.run.memory import key_bytes, mean_of
from redsim.scenario.profile import HostProfile
from redsim.scenario.schema import Dataset, Size

MEASURED_KEY_BYTES, MEASURED_VALUE_BYTES = 12, 100  # what lab/cost_curves.py fills the database with
READS_NO_VALUE = (dp.OP_EXISTS, dp.OP_EXPIRE)
EMBSTR_HEADER_BYTES = 4  # sds.h: sdshdr8 and the closing zero


def set_lookup_curves(
    kinds: Sequence[Kind], datasets: Sequence[Dataset], rules: Rules, curves: Curves, profile: HostProfile
) -> None:
    """Fill K_LOOKUP_CURVE of every kind that looks a key up."""
    plain = curves.number("lookup")
    for kind in kinds:
        d = int(kind.row[dp.K_DATASET])
        kind.row[dp.K_LOOKUP_CURVE] = plain
        if kind.row[dp.K_LOOKUPS] and d >= 0 and datasets[d].type == "string" and "value" in profile.curves:
            is_counter = any(int(k.row[dp.K_OP]) == dp.OP_INCR and int(k.row[dp.K_DATASET]) == d for k in kinds)
            larger, embedded = shape_of(datasets[d], rules, is_counter=is_counter)
            spared = 1.0 if int(kind.row[dp.K_OP]) in READS_NO_VALUE else embedded
            kind.row[dp.K_LOOKUP_CURVE] = curves.add(f"lookup {larger:.4f} {spared:.4f}", lookup_row(profile, larger, spared))


def shape_of(data: Dataset, rules: Rules, *, is_counter: bool = False) -> tuple[float, float]:
    """(bytes per key over those of a key with 100 bytes, share of the values that are inside their robj) of a string data set."""

    def per_key(key: Size, value: Callable[[int], int], size: Size) -> float:
        return mean_of(key, lambda n: key_bytes(n, rules)) + mean_of(size, value) + POINTER_BYTES

    def value_bytes(size: int) -> int:
        usable = rules.allocator.usable
        if is_counter:
            return usable(ROBJ_BYTES)
        if size <= EMBSTR_MAX:
            return usable(ROBJ_BYTES + EMBSTR_HEADER_BYTES + size)
        return usable(ROBJ_BYTES) + usable_bytes(size, rules)

    here = per_key(data.key_bytes, value_bytes, data.value_bytes)
    there = key_bytes(MEASURED_KEY_BYTES, rules) + POINTER_BYTES
    there += rules.allocator.usable(ROBJ_BYTES) + usable_bytes(MEASURED_VALUE_BYTES, rules)
    embedded = 1.0 if is_counter else mean_of(data.value_bytes, lambda size: float(size <= EMBSTR_MAX))
    return here / there, embedded


def lookup_row(profile: HostProfile, larger: float, spared: float) -> list[int]:
    """ns of a look-up among 2**0 .. 2**41 keys, each `larger` times the bytes of those measured, `spared` a share of `value`."""
    lookup, value = profile.curves["lookup"], profile.curves["value"]
    sizes = [max(2.0**i * larger, 1.0) for i in range(CURVE_POINTS)]
    return [max(int(lookup.at(n) - spared * value.at(n)), 0) for n in sizes]
