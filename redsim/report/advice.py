"""What to do about a command that holds the event loop: one line of advice per command that can.

Mirrors the commands whose cost grows with the data, and Redis' own escapes: SCAN, UNLINK, ASYNC,
lazyfree-lazy-user-del (6.0), lazyfree-lazy-user-flush (6.2), busy-reply-threshold (lua-time-limit before
7.0). NOT modelled: whether the advice suits the application; it says what Redis offers.
"""

_BY_COMMAND = {
    "KEYS": 'use SCAN with COUNT, or take KEYS away: rename-command KEYS "", or ACL -keys',
    "SMEMBERS": "use SSCAN, or SISMEMBER for one member; keep sets small",
    "HGETALL": "use HMGET for the fields needed, or HSCAN; split the hash",
    "HKEYS": "use HSCAN; split the hash",
    "HVALS": "use HSCAN; split the hash",
    "LRANGE": "ask for a page (LRANGE key 0 99), not 0 -1; LTRIM the list",
    "ZRANGE": "ask for a page (LIMIT offset count), not 0 -1",
    "ZRANGEBYSCORE": "ask for a page (LIMIT offset count)",
    "SORT": "sort in the application, or on a replica with SORT_RO; keep a sorted set instead",
    "SUNION": "intersect and unite in the application over SSCAN, or on a replica",
    "SINTER": "cost follows the smallest set: intersect with a small one, SINTERCARD LIMIT, or a replica",
    "SDIFF": "do it in the application over SSCAN, or on a replica",
    "SUNIONSTORE": "do it off-peak, or in the application over SSCAN",
    "ZUNIONSTORE": "do it off-peak, or keep the union up to date as members change",
    "ZINTERSTORE": "do it off-peak, or keep the result up to date as members change",
    "DEL": "use UNLINK, or lazyfree-lazy-user-del yes",
    "FLUSHALL": "use FLUSHALL ASYNC, or lazyfree-lazy-user-flush yes",
    "FLUSHDB": "use FLUSHDB ASYNC, or lazyfree-lazy-user-flush yes",
    "DEBUG SLEEP": "enable-debug-command no; DEBUG is for tests",
    "DEBUG": "enable-debug-command no; DEBUG is for tests",
    "MGET": "fewer keys per MGET; the whole command holds the loop",
    "MSET": "fewer keys per MSET; the whole command holds the loop",
    "SCAN": "a smaller COUNT",
    "SAVE": "use BGSAVE",
}
_SCRIPTS = ("EVAL", "EVALSHA", "EVAL_RO", "FCALL", "FCALL_RO")


def cure(command: str, version: str) -> str:
    """The directive or command to change for a slow `command` on a Redis of `version`; a general line for
    any other command.
    """
    if command in _SCRIPTS:
        return f"shorten the script, or cut it into several calls; {busy_directive(version)} only decides when BUSY starts"
    general = f"find who sends {command} (SLOWLOG GET, MONITOR), make it smaller, or send it to a replica"
    return _BY_COMMAND.get(command, general)


def busy_directive(version: str) -> str:
    """busy-reply-threshold, or the name it had before Redis 7.0."""
    return "lua-time-limit" if version.startswith("6.") else "busy-reply-threshold"
