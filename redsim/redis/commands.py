"""The command table: what each command is, what it may be sent to, and the shape of its cost.

Mirrors src/commands/*.json (name, arity, FAST flag) of 7.0 for the commands modelled so far; costs come from the host profile
under the command's name. To add a command: one line in COMMANDS (an operation of the data plane, the types it takes, its
curves), one in the profile. An operation is added in dataplane/keyspace.py.
Not modelled: options that do not change the cost class (SET NX, GET variants), blocking commands, transactions.
"""

from dataclasses import dataclass

from redsim.dataplane import layout as dp

ALL = ("string", "list", "hash", "set", "zset")
STRING, LIST, HASH, SET, ZSET = (("string",), ("list",), ("hash",), ("set",), ("zset",))


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `types`: key types it takes, empty if it takes no key. Curves name entries of the profile; `{type}` is
    filled in."""

    name: str
    op: int
    types: tuple[str, ...] = ()
    is_fast: bool = False  # commands/*.json: FAST -> LATENCY event fast-command
    writes_value: bool = False
    denyoom: bool = False  # commands/*.json: DENYOOM -> refused when memory is short and nothing can be evicted
    lookups: int = 1  # dictionary look-ups in the keyspace per key
    args: int = 2  # arguments with one key and one element, for the parser
    key_curve: str = ""  # over the elements of the key touched
    returned_curve: str = ""  # over the elements returned or visited
    database_curve: str = ""  # over the keys of the database
    cure: str = ""  # what to use instead when it stalls the loop


COMMANDS: dict[str, Command] = {
    c.name: c
    for c in (
        Command("PING", dp.OP_PING, is_fast=True, lookups=0, args=1),
        Command("GET", dp.OP_GET, STRING, is_fast=True),
        Command("SET", dp.OP_SET, STRING, writes_value=True, args=3, denyoom=True),
        Command("DEL", dp.OP_DEL, ALL, key_curve="del_{type}", cure="UNLINK, or lazyfree-lazy-user-del yes"),
        Command("UNLINK", dp.OP_UNLINK, ALL, is_fast=True),
        Command("EXISTS", dp.OP_EXISTS, ALL, is_fast=True),
        Command("EXPIRE", dp.OP_EXPIRE, ALL, is_fast=True, args=3),
        Command("INCR", dp.OP_INCR, STRING, is_fast=True, denyoom=True),
        Command("APPEND", dp.OP_APPEND, STRING, is_fast=True, writes_value=True, args=3, denyoom=True),
        Command("MGET", dp.OP_MGET, STRING, is_fast=True),
        Command("MSET", dp.OP_MSET, STRING, writes_value=True, args=3, denyoom=True),
        Command(
            "KEYS", dp.OP_KEYS, lookups=0, database_curve="keys_walk", returned_curve="keys_match",
            cure="SCAN with a COUNT, or rename-command KEYS",
        ),
        Command("SCAN", dp.OP_SCAN, lookups=0, args=4, returned_curve="scan", cure="a smaller COUNT"),
        Command("DBSIZE", dp.OP_DBSIZE, is_fast=True, lookups=0, args=1),
        Command("FLUSHALL", dp.OP_FLUSHALL, lookups=0, args=1, database_curve="flushall", cure="FLUSHALL ASYNC"),
        Command("LPUSH", dp.OP_PUSH, LIST, is_fast=True, args=3, denyoom=True),
        Command("LPOP", dp.OP_POP, LIST, is_fast=True),
        Command("LRANGE", dp.OP_RANGE, LIST, args=4, returned_curve="lrange", cure="a shorter range"),
        Command("HSET", dp.OP_PUT, HASH, is_fast=True, args=4, key_curve="lookup", denyoom=True),  # a field among many
        Command("HGET", dp.OP_FIELD, HASH, is_fast=True, args=3),
        Command("HGETALL", dp.OP_ALL, HASH, key_curve="hgetall", cure="HSCAN, HMGET, or a smaller hash"),
        Command("SADD", dp.OP_PUT, SET, is_fast=True, args=3, key_curve="lookup", denyoom=True),
        Command("SMEMBERS", dp.OP_ALL, SET, key_curve="smembers", cure="SSCAN, or a smaller set"),
        Command("ZADD", dp.OP_PUT, ZSET, is_fast=True, args=4, key_curve="zadd", denyoom=True),
        Command("ZRANGE", dp.OP_RANGE, ZSET, args=4, returned_curve="zrange", cure="a shorter range"),
        Command(
            "SORT", dp.OP_SORT, ("list", "set", "zset"), key_curve="sort", denyoom=True,
            cure="a sorted set, or sorting in the client",
        ),
        Command("SUNION", dp.OP_UNION, SET, key_curve="sunion", cure="smaller sets, or SUNIONSTORE on a replica"),
        Command("EVAL", dp.OP_SCRIPT, lookups=0, args=3, cure="a shorter script, or several calls"),
        Command("BGSAVE", dp.OP_BGSAVE, lookups=0, args=1, cure="a replica that saves, or less memory to fork"),
        Command("BGREWRITEAOF", dp.OP_BGREWRITEAOF, lookups=0, args=1),
        Command("SAVE", dp.OP_SAVE, lookups=0, args=1, cure="BGSAVE"),
        Command("WAIT", dp.OP_WAIT, lookups=0, args=3, cure="a time-out, or fewer replicas"),
        Command("WAITAOF", dp.OP_WAITAOF, lookups=0, args=4, cure="a time-out, or fewer replicas"),
        Command("DEBUG SLEEP", dp.OP_SLEEP, lookups=0, args=3, cure="no DEBUG in production"),
    )
}  # fmt: skip
