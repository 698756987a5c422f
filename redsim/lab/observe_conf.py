"""redis.conf lines fit to be shown: those that differ from the version's defaults, never a secret, a name or a path.

From CONFIG GET or from the text of a redis.conf. What a directive may hold decides: numbers, sizes, yes/no and words of a fixed
list are written; free text (passwords, users, paths, addresses, titles) is not, whatever the directive is called.
Mirrors the table of directives. Differs: `include` is not followed. Not modelled: directives of modules.
"""

from collections.abc import Sequence
from typing import Any

from redsim.scenario.directives import Directive, ascii_lower, split_args, table
from redsim.scenario.errors import ScenarioError
from redsim.scenario.redis_conf import parse_conf

SECRET = frozenset({"secret", "user"})
FREE_TEXT = frozenset(
    {"string", "title", "hostname", "filename", "filename!", "words", "include", "module", "sentinel", "replicaof"}
)
PLACE = frozenset({  # where it is and how it is started, not how it behaves
    "port", "tls-port", "cluster-port", "cluster-announce-port", "cluster-announce-bus-port", "cluster-announce-tls-port",
    "replica-announce-port", "daemonize", "unixsocketperm",
})  # fmt: skip
MULTIPLE = frozenset({"flags", "save", "buffer-limit", "oom-values", "percentiles"})


def conf_of_pairs(pairs: Sequence[tuple[str, str]], version: str) -> tuple[list[str], list[str]]:
    """(lines, what was left out, said) of CONFIG GET's (name, value) pairs."""
    return _chosen([(name, _args(name, value, version)) for name, value in pairs], version)


def conf_of_text(text: str, version: str) -> tuple[list[str], list[str]]:
    """(lines, what was left out, said) of a redis.conf; a line that cannot be read is left out by its number, unquoted."""
    given: list[tuple[str, tuple[str, ...]]] = []
    unread: list[int] = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip(" \t\r\n")
        if not line or line[0] == "#":
            continue
        try:
            name, *args = split_args(line)
        except ValueError:
            unread.append(number)
            continue
        given.append((name, tuple(args)))
    lines, left_out = _chosen(given, version)
    if unread:
        left_out.append(f"redis.conf line {', '.join(map(str, unread[:10]))}: cannot be read")
    return lines, left_out


def is_conf(text: str) -> bool:
    """Whether most of the text's lines begin with a directive of some version (comments aside)."""
    words = [line.split(None, 1)[0] for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    names = set(table("7.0")) | set(table("6.2")) | set(table("8.0")) | set(table("valkey-8.0"))
    return bool(words) and sum(ascii_lower(word) in names for word in words) * 2 > len(words)


def _args(name: str, value: str, version: str) -> tuple[str, ...]:
    row = table(version).get(ascii_lower(name))
    if row is None or row.type not in MULTIPLE:
        return (value,)
    return tuple(value.split()) or ("",)


def _chosen(given: Sequence[tuple[str, tuple[str, ...]]], version: str) -> tuple[list[str], list[str]]:
    lines: dict[str, list[str]] = {}
    secret: list[str] = []
    free: list[str] = []
    other: list[str] = []
    for written, args in given:
        row = table(version).get(ascii_lower(written))
        if row is None:
            other.append(f"{_plain(written)}: not a directive of this version")
        elif row.ignored or args == () or PLACE & set(row.names):
            continue
        elif row.type in SECRET:
            secret += [row.name] if any(args) else []
        elif row.type in FREE_TEXT or (row.type == "rename" and args[1:] != ("",)):
            free += [row.name] if any(args) and not _is_default(row, args, version) else []
        else:
            _add(lines, other, row, args, version)
    left_out = [f"{name}: left out (a secret)" for name in dict.fromkeys(secret)]
    if free:
        left_out.append(f"names, paths and addresses: left out ({', '.join(sorted(set(free)))})")
    return [line for row_lines in lines.values() for line in row_lines], left_out + list(dict.fromkeys(other))


def _plain(word: str) -> str:
    """A directive's name as an operator may have mistyped it, if it is a name at all."""
    return word if len(word) <= 60 and word.replace("-", "").replace("_", "").replace(".", "").isalnum() else "a line"


def _is_default(row: Directive, args: tuple[str, ...], version: str) -> bool:
    try:
        return bool(row.value(args, version) == row.default(version))
    except (ValueError, IndexError, KeyError):
        return False


def _add(lines: dict[str, list[str]], other: list[str], row: Directive, args: tuple[str, ...], version: str) -> None:
    """The line(s) of one directive, unless it is the default; the last of several wins, `save` adds up."""
    name = row.name_in(version)
    try:
        value: Any = row.value(args, version) if not (row.type == "save" and version == "6.2") else _pairs_6_2(args)
    except (ValueError, IndexError):
        other.append(f"{name}: its value cannot be read")
        return
    text = [" ".join([name, *(arg or '""' for arg in args)])]
    if row.type == "save" and version == "6.2" and any(args):
        text = [f"{name} {seconds} {changes}" for seconds, changes in value]
    if row.type == "buffer-limit":
        default = row.default(version)
        text = [f"{name} {kind} {a} {b} {c}" for kind, (a, b, c) in value.items() if (a, b, c) != default.get(kind)]
    try:
        parse_conf("\n".join(text), version=version)
    except ScenarioError:
        why = f"redsim refuses it ({row.says})" if row.status == "refused" else "its value cannot be read"
        other.append(f"{name}: {why}")
        return
    earlier = lines.pop(row.name, [])
    if row.type in ("buffer-limit", "rename") or (row.type == "save" and any(args) and earlier):
        lines[row.name] = [line for line in earlier if line != f'{name} ""'] + text
    elif value != row.default(version):
        lines[row.name] = text


def _pairs_6_2(args: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """CONFIG GET shows several pairs in one value, which a 6.2 redis.conf needs a line each for."""
    numbers = [int(arg) for arg in args if arg]
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))
