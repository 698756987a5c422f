"""SLOWLOG as redis-cli prints it.

Mirrors slowlog.c of 7.0: time of the command's own function only, newest first, slowlog-log-slower-than and slowlog-max-len; the
entries are taken in dataplane/ledger.py.
Differs: times are simulated seconds from the start of the run. Not modelled: client names; argument lists beyond command and
first key.
"""

from typing import Any


def slowlog_get(rows: list[dict[str, Any]]) -> list[str]:
    """What `redis-cli SLOWLOG GET` prints, line by line."""
    lines: list[str] = []
    for i, row in enumerate(rows, start=1):
        head = f"{i}) "
        pad = " " * len(head)
        lines.append(f"{head}1) (integer) {row['id']}")
        lines.append(f"{pad}2) (integer) {int(row['time_s'])}")
        lines.append(f"{pad}3) (integer) {row['duration_us']}")
        for j, word in enumerate(row["args"], start=1):
            lines.append(f'{pad}{"4) " if j == 1 else "   "}{j}) "{word}"')
        lines.append(f'{pad}5) "{row["client"]}"')
        lines.append(f'{pad}6) ""')
    return lines
