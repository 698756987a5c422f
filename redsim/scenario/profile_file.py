"""The shape of a host profile's file: which keys may stand where, and the sentence for each that may not.

A profile is whole, like the shipped `default`, or it says `based_on: NAME` and gives what differs. Numbers are
`{value, source, ref, says, extremes, spread}`; `machine` and `fit` are for the reader; `later` holds numbers of
single mechanisms that a profile may lack. Not modelled: units in a profile (every number is int ns, ps or bytes).
"""

import itertools
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from redsim.scenario.disk import DiskFile
from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.source import Keys, Source, dotted, show

ProvenanceWord = Literal["measured", "derived", "published", "redis", "guess"]
Point = Annotated[tuple[PositiveInt, NonNegativeInt], Field(strict=False)]
# Not known to every profile. Without the first two more connections cost nothing; without `value` a look-up goes by the number
# of keys only; without `expire_del` a key deleted past its time takes one `lookup`.
OPTIONAL_CURVES = {"connections", "client_connections", "value", "expire_del"}
_HEADER = ("source", "ref", "says")
_EXPECTED = {
    "model_type": "write a mapping, e.g. {value: 700, source: measured, says: how}",
    "int_type": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "string_type": "it must be text",
    "list_type": "it must be a list of pairs, [[10, 500], [100, 4000]]",
    "tuple_type": "it must be a pair, [10, 500]",
    "dict_type": "it must be a mapping",
    "too_short": "write at least one pair",
}


class Shape(BaseModel):
    """Strict, as the scenario's own shape."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Provenance(Shape):
    """Where a number comes from: `ref` is a key of refs.toml or `calibration`; `spread` is what repeats gave."""

    source: ProvenanceWord
    ref: str = ""
    says: str = ""
    spread: Any = None


class Number(Provenance):
    value: NonNegativeInt
    extremes: Annotated[tuple[int, int], Field(strict=False)] | None = None


class Speed(Provenance):
    """How many times faster than its base this host is: every CPU cost of the base is divided by it."""

    value: float = Field(gt=0.001, lt=1000)


class Later(Provenance):
    """A number, or a table of them, of one mechanism; what a profile lacks is `default`'s."""

    value: float | None = None
    table: list[Any] | None = None
    unit: str = ""

    @model_validator(mode="after")
    def _one(self) -> "Later":
        if (self.value is None) == (self.table is None):
            raise ValueError("give value or table")
        return self


def _plain(value: Any) -> Any:
    """130 of `130` and of `{value: 130, source: …}`."""
    return value["value"] if isinstance(value, dict) and "value" in value else value


Amount = Annotated[NonNegativeInt, BeforeValidator(_plain)]


class Law(Shape):
    """Cost inside a command's own function; what is not given is 0 (or, on a base, as there)."""

    const_ns: Amount | None = None
    in_ps: Amount | None = None
    out_ps: Amount | None = None
    extra_ns: Amount | None = None
    scan_ps: Amount | None = None  # for each element of a listpack, looking for one
    source: ProvenanceWord | None = None
    ref: str = ""
    says: str = ""
    spread: Any = None


def _rising(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    if any(a[0] >= b[0] for a, b in itertools.pairwise(points)):
        raise ValueError("the numbers of elements do not rise")
    return points


class CurveFile(Shape):
    """`[[elements, total ns], …]`, or `{each: [[elements, ns], …]}` for values that are not multiplied by the elements."""

    total: list[Point] | None = Field(default=None, min_length=1)
    each: list[Point] | None = Field(default=None, min_length=1)
    source: ProvenanceWord | None = None
    ref: str = ""
    says: str = ""
    spread: Any = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"total": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _one_rising(self) -> "CurveFile":
        if (self.total is None) == (self.each is None):
            raise ValueError("give total or each")
        _rising(self.total or self.each or [])
        return self


def _with_header(value: Any) -> Any:
    """Provenance for all beside the names: {source, says, GET: …} -> {source, says, named: {GET: …}}."""
    if not isinstance(value, dict):
        return value
    header = {k: v for k, v in value.items() if k in _HEADER}
    return {**header, "named": {k: v for k, v in value.items() if k not in _HEADER}}


class Commands(Shape):
    named: dict[str, Law]
    source: ProvenanceWord | None = None
    ref: str = ""
    says: str = ""


class Curves(Shape):
    named: dict[str, CurveFile]
    source: ProvenanceWord | None = None
    ref: str = ""
    says: str = ""


class HiccupsFile(Shape):
    every_ns: Number
    table_ns: list[Annotated[tuple[PositiveInt, float], Field(strict=False)]] = Field(min_length=1)
    source: ProvenanceWord | None = None
    ref: str = ""
    says: str = ""
    spread: Any = None


class WakeSpread(Shape):
    """How wake-ups of one length of sleep differ: (permille of the median, weight)."""

    table_permille: list[Annotated[tuple[PositiveInt, float], Field(strict=False)]] = Field(min_length=1)
    source: ProvenanceWord | None = None
    ref: str = ""
    says: str = ""


class ProfileFile(Shape):
    """A whole profile, or what differs from `based_on`."""

    name: str = Field(min_length=1)
    says: str = Field(min_length=1)
    based_on: str | None = None
    speed: Speed | None = None
    cores: PositiveInt | None = None
    memory_bytes: PositiveInt | None = None
    loopback_rtt_ns: Number | None = None
    costs: dict[str, Number] = Field(default_factory=dict)
    client: dict[str, Number] = Field(default_factory=dict)
    hiccups: HiccupsFile | None = None
    wake_spread: WakeSpread | None = None  # none: every wake-up after the same sleep takes the same time
    commands: Annotated[Commands, BeforeValidator(_with_header)] = Commands(named={})
    curves: Annotated[Curves, BeforeValidator(_with_header)] = Curves(named={})
    disk: DiskFile | None = None  # none: that of `default`, with `later: fsync_ns` for its times if that is there
    later: dict[str, Later] = Field(default_factory=dict)
    machine: dict[str, Any] = Field(default_factory=dict)
    fit: Any = None

    @model_validator(mode="after")
    def _speed_of_what(self) -> "ProfileFile":
        if self.speed is not None and self.based_on is None:
            raise ValueError("speed is relative to another profile; name it with based_on: default")
        return self


def read_shape(source: Source) -> ProfileFile:
    """The file's shape, checked; ScenarioError with file, line, key and cure for the first fault."""
    try:
        return ProfileFile.model_validate(source.data)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        first = min(faults, key=lambda fault: fault["type"] != "extra_forbidden")
        path = _path(first["loc"], source.data)
        raise ScenarioError(f"{source.where(*path)}: {_sentence(path, dict(first), source.data)}") from None


def check_names(file: ProfileFile, whole: dict[str, set[str]], source: Source) -> None:
    """Every name is one the default profile has, and a file without `based_on` has them all."""
    given = {"costs": set(file.costs), "client": set(file.client), "commands": set(file.commands.named),
             "curves": set(file.curves.named)}  # fmt: skip
    for part, names in given.items():
        for name in sorted(names - whole[part]):
            raise ScenarioError(
                f"{source.where(part, name)}: {dotted((part, name))} is not a number redsim knows"
                f"{did_you_mean(name, whole[part])}; the shipped profile `default` has them all"
            )
        missing = sorted(whole[part] - names - OPTIONAL_CURVES)
        if missing and file.based_on is None:
            raise ScenarioError(_missing(source, (part, missing[0]), len(missing) - 1))
    for name in ("cores", "memory_bytes", "loopback_rtt_ns", "hiccups"):
        if file.based_on is None and getattr(file, name) is None:
            raise ScenarioError(_missing(source, (name,), 0))
    for name, curve in file.curves.named.items():
        if (curve.source or file.curves.source) is None:
            raise ScenarioError(f"{source.where('curves', name)}: curves.{name} has no source; add source: measured or guess")


def _missing(source: Source, path: Keys, others: int) -> str:
    more = f" (and {others} more)" if others else ""
    return (
        f"{source.where(*path)}: {dotted(path)} is missing{more}; copy it from the shipped profile `default`,"
        " or begin with based_on: default"
    )


def _path(loc: tuple[Any, ...], data: Any) -> Keys:
    """pydantic's loc without the parts that stand in no file (`named`, branches of a union)."""
    path: list[str | int] = []
    for i, part in enumerate(loc):
        in_list = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if in_list or (isinstance(data, dict) and part in data):
            data = data[part]
        elif i != len(loc) - 1 or not isinstance(data, dict):
            continue
        path.append(part)
    return tuple(path)


def _sentence(path: Keys, fault: dict[str, Any], data: Any) -> str:
    key = dotted(path)
    if fault["type"] == "extra_forbidden":
        known = _keys_at(path)
        return f"{key} is not a key here{did_you_mean(str(path[-1]), known) or '; the keys here are ' + ', '.join(known)}"
    if fault["type"] == "missing":
        return f"{key} is missing; add {path[-1]}: …"
    for part in path:
        data = data[part]
    if fault["type"] == "value_error":
        return f"{key}: {fault['ctx']['error']}"
    says = _EXPECTED.get(fault["type"], str(fault["msg"]).replace("Input should", "it must"))
    return f"{key} is {show(data)}; {says}"


def _keys_at(path: Keys) -> list[str]:
    """The keys that may stand beside `path`."""
    beside: dict[tuple[str, int], type[Shape]] = {
        ("costs", 3): Number, ("client", 3): Number, ("loopback_rtt_ns", 2): Number, ("speed", 2): Speed, ("later", 3): Later,
        ("commands", 3): Law, ("curves", 3): CurveFile, ("hiccups", 2): HiccupsFile, ("hiccups", 3): Number,
        ("wake_spread", 2): WakeSpread,
    }  # fmt: skip
    shape = ProfileFile if len(path) == 1 else beside.get((str(path[0]), len(path)), Provenance)
    return list(shape.model_fields)
