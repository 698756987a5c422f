"""Luck has a name: one stream per consumer, keyed by what it is, never by call order.

A stream is two uint64: a splitmix64 state and its odd increment [splitmix-2014], both drawn from
SHA-256 of (seed, names), so that adding a consumer moves nobody else's draws and the same seed gives the same
numbers on any machine.
"""

import hashlib

import numpy as np
import numpy.typing as npt


def stream_words(seed: int, *names: str) -> tuple[int, int]:
    """State and odd increment of the stream `names` of `seed`, each in 0..2**64-1."""
    digest = hashlib.sha256("\x1f".join([str(int(seed)), *names]).encode()).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little") | 1


def stream(seed: int, *names: str) -> npt.NDArray[np.uint64]:
    """The stream as the data plane takes it: uint64 array of shape (2,)."""
    return np.array(stream_words(seed, *names), dtype=np.uint64)


def generator(seed: int, *names: str) -> np.random.Generator:
    """A numpy generator for set-up work off the hot path (sizes of a data set, tables)."""
    return np.random.Generator(np.random.PCG64(list(stream_words(seed, *names))))
