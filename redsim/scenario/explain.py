"""What pydantic found, said in one sentence: file, line, key, value, cure.

The first fault in the file is said, the others are counted; a key that does not exist goes before a key
that is missing, because the first is usually the cause of the second.
Not modelled yet and refused by name, whatever their value: the parts of a scenario in `NOT_YET`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from redsim.scenario.crashes import NODE_FAULTS
from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.faults import DISK_FAULTS
from redsim.scenario.network import NETWORK_FAULTS
from redsim.scenario.schema import CommandUse, Popularity, ScenarioFile, Size
from redsim.scenario.source import Keys, dotted, show

Where = Callable[..., str]

NOT_YET: dict[Keys, str] = {}
_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
_SHORT_FORMS: dict[type[BaseModel], str] = {
    CommandUse: "a weight (0.9) or ",
    Size: "a size (100, 4kb) or ",
    Popularity: "uniform, sequential, latest or ",
}
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list, [a, b] or lines that start with '- '",
    "tuple_type": "a pair, [value, weight]",
    "dict_type": "a mapping, name: {…}",
    "finite_number": "a finite number",
}


def refuse_not_yet(data: dict[str, Any], where: Where) -> None:
    """Raise ScenarioError for the first key of `NOT_YET` that stands in the file."""
    for pattern, what in NOT_YET.items():
        for path in _matches(data, pattern):
            raise ScenarioError(f"{where(*path)}: redsim 0.1 does not model {what} yet; remove {dotted(path)}")
    for path in _matches(data, ("timeline", "*", "fault")):
        fault = _value_at(data, path)
        known = ", ".join((*DISK_FAULTS, *NODE_FAULTS, *NETWORK_FAULTS))
        if fault not in (*DISK_FAULTS, *NODE_FAULTS, *NETWORK_FAULTS):
            raise ScenarioError(
                f"{where(*path)}: redsim 0.1 does not model the fault {show(fault)} yet; it knows {known}; remove {dotted(path)}"
            )


def _matches(data: Any, pattern: Keys, prefix: Keys = ()) -> Iterator[Keys]:
    if not pattern:
        yield prefix
        return
    head, rest = pattern[0], pattern[1:]
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(data, dict):
        pairs = data.items() if head == "*" else [(k, v) for k, v in data.items() if k == head]
    elif isinstance(data, list) and head == "*":
        pairs = enumerate(data)
    for key, value in pairs:
        yield from _matches(value, rest, (*prefix, key))


def explain(error: ValidationError, data: dict[str, Any], where: Where) -> ScenarioError:
    """The ScenarioError for what pydantic raised on `data`."""
    faults: dict[Keys, dict[str, Any]] = {}
    for fault in error.errors(include_url=False):
        faults.setdefault(_path(fault, data), dict(fault))
    paths = [p for p in faults if not any(len(q) > len(p) and q[: len(p)] == p for q in faults)]
    paths.sort(key=lambda p: (faults[p]["type"] != "extra_forbidden", _line(where(*p))))
    first = paths[0]
    others = len(paths) - 1
    also = f" (and {others} more fault{'s' if others > 1 else ''})" if others else ""
    return ScenarioError(f"{where(*first)}: {_sentence(first, faults[first], data)}{also}")


def _line(where: str) -> int:
    tail = where.rpartition(":")[2]
    return int(tail) if tail.isdigit() else 0


def _path(fault: dict[str, Any] | Any, data: Any) -> Keys:
    """pydantic's loc without the names of union branches and of the long form of what was written short."""
    path: list[str | int] = []
    last = len(fault["loc"]) - 1
    for i, part in enumerate(fault["loc"]):
        if (isinstance(data, dict) and part in data) or (isinstance(data, list) and isinstance(part, int) and part < len(data)):
            data = data[part]
        elif not (i == last and fault["type"] == "missing" and isinstance(data, dict)):
            continue
        path.append(part)
    return tuple(path)


def _value_at(data: Any, path: Keys) -> Any:
    for part in path:
        data = data[part]
    return data


def _sentence(path: Keys, fault: dict[str, Any], data: dict[str, Any]) -> str:
    kind, context, key = fault["type"], fault.get("ctx", {}), dotted(path)
    if kind == "missing":
        return f"{key} is missing; add {path[-1]}: …"
    value = _value_at(data, path)
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if value is None:
        return f"{key} is empty; give it a value or remove the line"
    return _wrong_value(kind, context, key, value, path, fault)


def _wrong_value(kind: str, context: dict[str, Any], key: str, value: Any, path: Keys, fault: dict[str, Any]) -> str:
    if kind == "value_error" and isinstance(value, list) and " is not a " in str(context.get("error", "")):
        return f"{key} is a list; write one value"
    if kind == "value_error":
        return f"{key}: {_one_line(str(context.get('error', fault['msg'])))}"
    if kind == "literal_error":
        return _not_one_of(key, value, path)
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"{key} is {show(value)}; it must be {words} {context[name]:g}"
    if kind == "model_type":
        short = _SHORT_FORMS.get(model_at(path) or BaseModel, "")
        return f"{key} is {show(value)}; write {short}a mapping with keys {', '.join(_known_keys(path))}"
    if kind == "string_too_short":
        return f"{key} is empty; write a sentence"
    if kind == "too_short":
        return f"{key} has nothing in it; write at least one"
    if isinstance(value, bool):
        return f"{key} is {str(value).lower()}; write {_EXPECTED.get(kind, 'another value')}"
    quoted = " without quotes" if isinstance(value, str) and _is_number(value) else ""
    expected = _EXPECTED.get(kind, _one_line(fault["msg"]))
    return f"{key} is {show(value)}; it must be {expected}{quoted}"


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:300] + "…"


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isascii() and text.replace(".", "", 1).isdigit()


def _unknown_key(path: Keys) -> str:
    known = _known_keys(path[:-1])
    cure = did_you_mean(str(path[-1])[:60], known)
    if not cure and known:
        cure = f"; the keys here are {', '.join(known)}"
    return f"{dotted(path)} is not a key here{cure}"


def _not_one_of(key: str, value: Any, path: Keys) -> str:
    words = [str(word) for word in _literals(_type_at(path))]
    cure = did_you_mean(str(value)[:60], words) if isinstance(value, str) else ""
    return f"{key} is {show(value)}; it must be {' or '.join(words)}{cure}"


# ---- the schema, walked by path --------------------------------------------------------------------------


def schema_at(path: Keys) -> list[Any]:
    """What the schema allows at `path`: models, `dict`/`list` annotations and leaf types; [] if nothing."""
    return list(_unwrap(_type_at(path)))


def model_at(path: Keys) -> type[BaseModel] | None:
    """The model whose keys stand at `path`, if one does."""
    models = [t for t in schema_at(path) if isinstance(t, type) and issubclass(t, BaseModel)]
    return models[0] if models else None


def names_at(path: Keys) -> bool:
    """True where the user's own names are the keys (`hosts`, `clients`, …)."""
    return any(get_origin(t) is dict for t in schema_at(path))


def _known_keys(path: Keys) -> list[str]:
    model = model_at(path)
    return list(model.model_fields) if model else []


def _type_at(path: Keys) -> Any:
    current: Any = ScenarioFile
    for part in path:
        current = _step(current, part)
    return current


def _step(annotation: Any, part: str | int) -> Any:
    for option in _unwrap(annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            if part in option.model_fields:
                field = option.model_fields[str(part)]
                return field.annotation
        elif get_origin(option) is dict:
            return get_args(option)[1]
        elif get_origin(option) in (list, tuple):
            return get_args(option)[0]
    return None


def _unwrap(annotation: Any) -> Iterator[Any]:
    """The members of Optional and Union, without Annotated's extras and None."""
    if annotation is None or annotation is type(None):
        return
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _unwrap(get_args(annotation)[0])
    elif isinstance(annotation, type) or origin in (dict, list, tuple, Literal):
        yield annotation
    else:
        for member in get_args(annotation):
            yield from _unwrap(member)


def _literals(annotation: Any) -> list[Any]:
    return [word for t in _unwrap(annotation) if get_origin(t) is Literal for word in get_args(t)]
