"""Time inside each command, from two replies of LATENCY HISTOGRAM: percentiles of what ran between them.

Mirrors latency.c:latencyHistogramCommand (7.0 and later): cumulative counts by upper edges, powers of
two. Not modelled: 6.2, which has none.
"""

from typing import Any

from redsim.lab.asker import as_text

SHARES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}


def histogram_delta(before: Any, after: Any, names: set[str]) -> dict[str, dict[str, float]]:
    """p50, p99, p99.9 (µs, upper edges of buckets) of the time inside each of `names`, between two replies."""
    old, out = _histograms(before), {}
    for name, buckets in _histograms(after).items():
        was = old.get(name, {})
        edges = sorted(buckets)
        counts = [buckets[e] - max((was[w] for w in was if w <= e), default=0) for e in edges]  # cumulative
        total = counts[-1] if counts else 0
        if total > 0 and name.upper() in names:
            chosen = {p: next(e for e, c in zip(edges, counts, strict=True) if c >= share * total) for p, share in SHARES.items()}
            out[name.upper()] = {p: float(e) for p, e in chosen.items()}
    return out


def _histograms(reply: Any) -> dict[str, dict[int, int]]:
    """Command -> {upper edge µs: cumulative count} of a RESP2 or RESP3 reply."""
    out = {}
    for name, body in _pairs(reply):
        inner = {as_text(key): value for key, value in _pairs(body)}
        out[as_text(name)] = {int(edge): int(count) for edge, count in _pairs(inner.get("histogram_usec"))}
    return out


def _pairs(reply: Any) -> list[tuple[Any, Any]]:
    if isinstance(reply, dict):
        return list(reply.items())
    return list(zip(reply[::2], reply[1::2], strict=False)) if isinstance(reply, list) else []
