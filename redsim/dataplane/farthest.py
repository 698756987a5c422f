"""A set of positions 0..n-1 that knows its largest: bits, and bits about bits, 64 to a word.

For Belady's rule, which drops the key whose next read is farthest [belady-1966]: in a trace every position is the next read of
one key at most, so a set of bits takes the place of a heap: n / 8 bytes, and a step per factor of 64.
"""

import numpy as np
import numpy.typing as npt
from numba.cpython.unsafe.numbers import leading_zeros

from redsim.dataplane.compile import compiled, inlined

WORD_LG = 6
_ONE = np.uint64(1)
_LOW = np.int64(63)


def levels_of(positions: int) -> npt.NDArray[np.int64]:
    """First word of each level, the positions' own first, and the number of words at the end: shape (levels + 1,)."""
    starts, words = [0], positions
    while len(starts) == 1 or words > 1:
        words = max(1, -(-words >> WORD_LG))
        starts.append(starts[-1] + words)
    return np.array(starts, dtype=np.int64)


@inlined
def mark(levels, marks, position):
    """The position is in the set."""
    for level in range(levels.shape[0] - 1):
        word = levels[level] + (position >> WORD_LG)
        marks[word] |= _ONE << np.uint64(position & _LOW)
        position >>= WORD_LG


@inlined
def unmark(levels, marks, position):
    """The position is not in the set; a word that still has others keeps its own bit above."""
    for level in range(levels.shape[0] - 1):
        word = levels[level] + (position >> WORD_LG)
        marks[word] &= ~(_ONE << np.uint64(position & _LOW))
        if marks[word] != 0:
            return
        position >>= WORD_LG


@compiled
def farthest(levels, marks):
    """The largest position in the set, which is not empty."""
    position = np.int64(0)
    for level in range(levels.shape[0] - 2, -1, -1):
        word = np.int64(marks[levels[level] + position])
        position = (position << WORD_LG) + 63 - np.int64(leading_zeros(word))
    return position
