"""Round sizes of a backlog to choose from, and how redsim says them.

A size is chosen as the first of the row whose band of P(full resync) meets the target. As the share only falls with the size, the
row needs no correction for having been looked through: it goes wrong only if the band of the last size that is too small does.
Not modelled: nothing is computed here.
"""

from redsim.units import GIB, KIB, MIB

__all__ = ["ROUND_SIZES", "say_size"]

STEPS = (4, 5, 6, 7)  # quarters of a power of two
SIZE_MAX_LG = 42
ROUND_SIZES = tuple((step << lg) // 4 for lg in range(16, SIZE_MAX_LG) for step in STEPS)  # 64kb, 80kb, 96kb, 112kb, 128kb …


def say_size(size_bytes: int) -> str:
    """As redis.conf writes it: `1280kb`, `12mb`; whole units only."""
    for unit, name in ((GIB, "gb"), (MIB, "mb"), (KIB, "kb")):
        if size_bytes and size_bytes % unit == 0:
            return f"{size_bytes // unit}{name}"
    return str(size_bytes)
