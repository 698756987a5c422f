"""The 3,000 keys of tests/recorded/memory_usage.json.gz and the values the model builds of them."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

from redsim.redis.config import Rules
from redsim.redis.object import RedisObject
from redsim.run.size_records import build, rules_of

RECORDED = Path(__file__).parent / "recorded" / "memory_usage.json.gz"


@cache
def recorded() -> tuple[Rules, list[tuple[dict[str, Any], RedisObject]]]:
    """The recording's rules; each record with the value the model builds of it."""
    file = json.loads(gzip.decompress(RECORDED.read_bytes()))
    ruled = rules_of(file)
    return ruled, [(record, build(record, ruled, at)) for at, record in enumerate(file["data"]["keys"], start=1)]
