"""Cache-aside clients: a miss is fetched elsewhere and SET; how often that happens follows from TTL and rate alone."""

import math
from typing import Any

import pytest

import redsim
from redsim.scenario.load import Scenario

TEXT = """\
question: How often is the value there?
duration: {duration}
seed: 3
hosts: {{box: {{profile: default}}}}
nodes: {{main: {{host: box, conf: "save ''"}}}}
datasets: {{cache: {{node: main, keys: {keys}, present: 0}}}}
clients:
  api:
    node: main
    connections: {connections}
    arrivals: {arrivals}
    commands: {{GET: 1}}
    keys: {{dataset: cache}}
    on_miss: {{fetch: {fetch}, ttl: {ttl}}}
"""


def group(keys: int, arrivals: str, *, ttl: str, fetch: str, duration: str = "8s", connections: int = 50) -> dict[str, Any]:
    text = TEXT.format(keys=keys, arrivals=arrivals, ttl=ttl, fetch=fetch, duration=duration, connections=connections)
    found: dict[str, Any] = redsim.run(Scenario.from_text(text)).summary["clients"]["api"]
    return found


@pytest.mark.parametrize("ttl_ms", [25, 100, 400])
def test_hit_ratio_of_a_ttl_cache_is_rate_times_ttl_over_one_plus_that(ttl_ms: int) -> None:
    """Poisson arrivals of rate l to each key, TTL T not renewed: h = lT / (1 + lT) [jung-2003]. l = 10/s. A TTL of whole
    milliseconds lasts up to one longer; the fill is on its way for less than one. Four standard errors of 60,000 reads (a cycle
    of a key is one miss and lT hits on the average, of geometric spread)."""
    keys, rate_per_s = 1000, 10_000
    h = group(keys, f"{{open: {{rate_per_s: {rate_per_s}}}}}", ttl=f"{ttl_ms}ms", fetch="0")["hit_ratio"]
    low, high = (10 * t / (1 + 10 * t) for t in ((ttl_ms - 1) / 1000, (ttl_ms + 1) / 1000))
    margin = 4 * math.sqrt(0.25 / 60_000)
    # Before its first fill no key can hit: one read of each is lost at the start.
    assert low - margin - keys / (8 * rate_per_s) <= h <= high + margin


def test_all_clients_that_miss_a_hot_key_fetch_it() -> None:
    """Dogpile: 20 clients read one key with a TTL of 50 ms as fast as they can; while the first one fetches for 10 ms, the others
    miss it too. Some 60 ms from one expiry to the next, 20 fetches in each."""
    found = group(1, "{closed: {}}", ttl="50ms", fetch="10ms", duration="1200ms", connections=20)
    assert found["fetches"] == pytest.approx(20 * 1200 / 60, rel=0.1)


def test_a_fill_is_a_request_of_its_group() -> None:
    """Conservation: every fetch but those still under way at the end has become a SET; the run's own checks count the rest."""
    found = group(1000, "{open: {rate_per_s: 5000}}", ttl="100ms", fetch="3ms", duration="1s")
    sets = found["by_command"]["SET"]["count"]
    assert 0 <= found["fetches"] - sets <= found["fetches"] // 20
    assert found["by_command"]["GET"]["count"] + sets == found["completed"]
