"""Runs side by side, each in a process of its own: `each(function, given, processes)`.

By joblib, so that a cluster takes the place of this machine's cores where the caller says so
(`joblib.parallel_config(backend="dask")`), and a script that runs redsim needs no `if __name__ == "__main__"`.
Not modelled: nothing; how many run at a time changes no result, only when it is there.
"""

import os
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

__all__ = ["cores", "each"]

PROCESSES_MAX = 8  # by default: each takes some 300 MB
G = TypeVar("G")
R = TypeVar("R")


def cores() -> int:
    """How many runs at a time this process may have, PROCESSES_MAX at most."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(mine, PROCESSES_MAX)


def each(function: Callable[[G], R], given: Sequence[G], processes: int | None = None) -> Generator[R, None, None]:
    """What `function` makes of each of `given`, in their order, as soon as it is there; `processes` at a time, None: as many as
    there are cores. What `function` raises; closing it stops what is under way."""
    count = min(cores() if processes is None else processes, len(given))
    if count <= 1:
        yield from (function(one) for one in given)
        return
    from joblib import Parallel, delayed

    results = Parallel(n_jobs=count, return_as="generator", max_nbytes=None)(delayed(function)(one) for one in given)
    try:
        yield from results
    finally:
        results.close()
