"""The model's side of a case about memory: the data set before the first client, single keys, evictions and expiry of the run.

What the filled server holds is what the simulation's own running total starts from; a key's MEMORY USAGE is that of the very
bytes the real server was given. NOT modelled: the height of a skiplist's nodes; a sorted set's bytes are their mean.
"""

from collections.abc import Sequence

from redsim.host.malloc import ALLOCATORS
from redsim.lab.memory_twin import KeySeen, gone_after_ms
from redsim.lab.predicted import Side, figures_of, with_profile
from redsim.lab.shapes import AT_ONCE, Shape, shapes
from redsim.redis import t_hash, t_list, t_set, t_string, t_zset
from redsim.redis.config import Rules
from redsim.redis.object import ALL, RedisObject
from redsim.redis.object import memory_usage as usage_of
from redsim.run import engine
from redsim.run.build import Built, build
from redsim.run.server_memory import MemoryGauge
from redsim.scenario.load import Scenario
from redsim.scenario.profile import HostProfile
from redsim.units import MS, S

EXACT = "keys_exact"


def predict_memory(scenario: Scenario, group: str, profile: HostProfile, seen: Sequence[KeySeen]) -> Side:
    """Every quantity that the run has, of that client group ("" for none) and the one node; `seen` as a real server had them."""
    scenario = with_profile(scenario, profile)
    figures = at_rest(scenario, seen)
    if group:
        result = engine.run(scenario)
        node = next(iter(result.summary["nodes"].values()))
        client = result.summary["clients"][group]
        stats = node["info"]["stats"]
        figures |= figures_of(client, node) | {"hit_ratio": client["hit_ratio"]}
        figures |= {name: stats[name] for name in ("evicted_keys", "expired_keys") if name in stats}
        figures["expire_cpu_ms"] = node["expiry"]["cycle_ms"]
        figures["keys_end"] = node["info"]["keyspace"]["db0"]["keys"]
        counted = zip(result.memory["time_s"], result.memory["expires"], strict=True)
        figures["gone_after_ms"] = gone_after_ms([(round(at * S), int(n)) for at, n in counted], last_due_ns(scenario))
    return Side({name: value for name, value in figures.items() if value is not None})


def at_rest(scenario: Scenario, seen: Sequence[KeySeen]) -> dict[str, float]:
    """used_memory_bytes, used_memory_rss_bytes, bytes_per_key and keys_exact of the filled server."""
    built = build(scenario)
    memory = MemoryGauge.of(scenario, built.node).read(built.world)
    found: dict[str, float] = {
        "used_memory_bytes": memory.used - memory.startup,
        "used_memory_rss_bytes": memory.pages.rss_bytes,
    }
    if seen:
        mine = list(zip(seen, _usages(scenario, built, seen), strict=True))
        found["bytes_per_key"] = sum(bytes_ for _, (_, bytes_) in mine) / len(mine)
        found[EXACT] = sum((one.encoding, one.memory_bytes) == (enc, bytes_) for one, (enc, bytes_) in mine)
    return found


def last_due_ns(scenario: Scenario) -> int:
    """When the last key that the data sets begin with is due at the latest; 0 without TTLs."""
    return max((data.ttl.uniform[1] // MS * MS for data in scenario.file.datasets.values() if data.ttl is not None), default=0)


def _usages(scenario: Scenario, built: Built, seen: Sequence[KeySeen]) -> list[tuple[str, int]]:
    """(OBJECT ENCODING, MEMORY USAGE SAMPLES 0) of each of those keys."""
    rules = Rules(scenario.confs[built.node], ALLOCATORS[scenario.file.nodes[built.node].allocator])
    known = shapes(scenario)
    made = []
    for one in seen:
        shape = known[one.dataset]
        value = filled_value(shape, one.index, rules)
        made.append((value.encoding, usage_of(shape.key(one.index), value, rules, ALL)))
    return made


def filled_value(shape: Shape, i: int, rules: Rules) -> RedisObject:
    """Key `i` of the data set as redsim.lab.shapes.fill() builds it, command by command."""
    if shape.data.type == "string":
        return t_string.set_command(shape.value(i, int(shape.value_bytes[i])), rules)
    obj: RedisObject | None = None
    for low in range(0, int(shape.elements[i]), AT_ONCE):
        words = shape.adding(i, range(low, min(low + AT_ONCE, int(shape.elements[i]))))
        obj = _added(obj, str(words[0]), [w if isinstance(w, bytes) else str(w).encode() for w in words[2:]], rules)
    assert obj is not None
    return obj


def _added(obj: RedisObject | None, command: str, words: list[bytes], rules: Rules) -> RedisObject:
    if command == "HSET":
        return t_hash.hset(obj, list(zip(words[::2], words[1::2], strict=True)), rules)
    if command == "ZADD":
        return t_zset.zadd(obj, [(member, float(score)) for score, member in zip(words[::2], words[1::2], strict=True)], rules)
    return t_set.sadd(obj, words, rules) if command == "SADD" else t_list.push(obj, words, rules, at_head=False)
