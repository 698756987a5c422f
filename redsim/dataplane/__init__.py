"""The data plane: arrays in, arrays out. Moves requests through an unchanging world; SimPy decides when the world changes.

Imports neither simpy nor pydantic. Compiled by numba; the machine code is cached under a directory named by the digest of
these sources, because numba looks only at the file of the outermost function and would reuse stale code.
"""

import hashlib
import os
from pathlib import Path

import numba


def _cache_dir() -> Path:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sources)).hexdigest()[:16]
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "redsim" / f"dataplane-{digest}"


if not os.environ.get("NUMBA_CACHE_DIR"):
    numba.config.CACHE_DIR = str(_cache_dir())
