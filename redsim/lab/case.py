"""Cases: one YAML file each, a scenario with a real twin and what is compared of the two.

Mirrors nothing in Redis. The keys are those of `CaseFile`; `scenario` comes last, as an indented block that is a scenario file of
its own, so that a mistake in it is told with its line. A rate may be the word LOAD: it becomes `load` times the capacity that is
measured in the very run.
NOT modelled: a scenario of several masters.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from redsim.lab.grade import fault_of
from redsim.scenario.errors import ScenarioError, did_you_mean
from redsim.scenario.load import Scenario
from redsim.scenario.regime import kind_of_load
from redsim.scenario.source import Source, parse_source, read_text

LOAD = "LOAD"
CAPACITY_PER_S = 100_000.0  # stands for the capacity where none has been measured: checking a file, listing the pack
_SECTION = "scenario"


class CaseFile(BaseModel):
    """What may stand beside `scenario` in a case file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    case: str = Field(min_length=1)
    says: str = Field(min_length=1)
    capability: Literal["loop", "memory", "durability", "replication", "sentinel"]
    quantities: Annotated[list[str], Field(min_length=1)]
    group: str | None = None  # whose throughput and latencies; default: the first
    repeats: PositiveInt = 3
    fitted: bool = False
    quick: bool = False  # also in the short pack
    load: float | None = Field(default=None, gt=0, le=3)
    causes: dict[str, str] = Field(default_factory=dict)  # quantity -> why it is missed, where that is known
    scenario: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A case, checked; `at(capacity)` makes its scenario."""

    file: CaseFile
    path: Path
    rates: tuple[str, ...]  # dotted paths of the rates written as LOAD
    body: str = field(repr=False)  # the scenario's text, on the lines it has in the file

    @property
    def name(self) -> str:
        return self.file.case

    @property
    def kind(self) -> str:
        """The kind of load, one of redsim.scenario.regime.KINDS."""
        return kind_of_load(self.at(CAPACITY_PER_S).file)

    @property
    def group(self) -> str:
        """The client group whose figures are compared; "" where a data set lies at rest."""
        return self.file.group or next(iter(self.at(CAPACITY_PER_S).file.clients), "")

    @property
    def is_memory(self) -> bool:
        """Whether the data set is looked at before anything is sent."""
        return self.file.capability == "memory"

    @property
    def is_durability(self) -> bool:
        """Whether the server's files are looked at: what it appends, forks, saves."""
        return self.file.capability == "durability"

    @property
    def is_replication(self) -> bool:
        """Whether it has a master and a replica."""
        return self.file.capability == "replication"

    @property
    def is_sentinel(self) -> bool:
        """Whether Sentinels watch its master."""
        return self.file.capability == "sentinel"

    def at(self, capacity_per_s: float) -> Scenario:
        """The scenario with its rates in requests per second, rounded to whole ones."""
        rate = max(1, round((self.file.load or 0) * capacity_per_s))
        overrides = [f"{path}={rate}" for path in self.rates]
        try:
            made = Scenario.from_text(self.body, name=self.name, base=self.path.parent, overrides=overrides)
            return replace(made, source=replace(made.source, label=str(self.path)))
        except ScenarioError as error:
            raise ScenarioError(str(error).replace(f"<{self.name}>", str(self.path))) from None


def load_case(path: Path) -> Case:
    """Read and check one case file; ScenarioError (file, line, key, cure) for whatever is wrong with it or its scenario."""
    text = read_text(path)
    source = parse_source(text, str(path))
    file = _checked(source, path)
    line = source.lines[(_SECTION,)]
    _check_block(source, text, line)
    rates = tuple(".".join(str(part) for part in keys) for keys in _words(source.data[_SECTION], LOAD))
    if bool(rates) != (file.load is not None):
        cure = f"write a rate_per_s as {LOAD}" if file.load is not None else "add load: 0.5, a share of the capacity"
        raise ScenarioError(f"{source.where(_SECTION)}: load and {LOAD} go together; {cure}")
    case = Case(file, path, rates, "\n" * line + "\n".join(text.splitlines()[line:]) + "\n")
    groups = case.at(CAPACITY_PER_S).file.clients
    if not groups and not case.is_memory:
        raise ScenarioError(f"{source.where(_SECTION)}: the scenario has no clients; a case compares what they see")
    if file.group is not None and file.group not in groups:
        raise ScenarioError(
            f"{source.where('group')}: group {file.group!r} is none of the scenario's{did_you_mean(file.group, groups)}"
        )
    return case


def pack_folder() -> Path:
    """Where the shipped cases lie."""
    return Path(str(files("redsim.lab") / "cases"))


def load_pack(folder: Path | None = None, *, only: Sequence[str] = (), quick: bool = False) -> list[Case]:
    """The cases of a folder (default: the shipped ones) in the order of their file names.

    `only`: shell patterns, a name must match one of them; `quick`: those marked so. ScenarioError if none is left.
    """
    folder = folder or pack_folder()
    found = [load_case(path) for path in sorted(folder.glob("*.yaml"))]
    kept = [case for case in found if not only or any(fnmatch(case.name, pattern) for pattern in only)]
    kept = [case for case in kept if case.file.quick or not quick or only]
    if not kept:
        names = [case.name for case in found]
        cure = did_you_mean(" ".join(only), names) or f"; there is {', '.join(names) or 'nothing'}"
        raise ScenarioError(f"{folder}: no case matches {' '.join(only) or 'the short pack'!r}{cure}")
    return kept


def _checked(source: Source, path: Path) -> CaseFile:
    try:
        file = CaseFile.model_validate(source.data)
    except ValidationError as error:
        raise _explained(error, source) from None
    if file.case != path.stem:
        raise ScenarioError(f"{source.where('case')}: case {file.case!r} lies in {path.name}; the two go by one name")
    for i, quantity in enumerate(file.quantities):
        fault = fault_of(quantity)
        if fault:
            raise ScenarioError(f"{source.where('quantities', i)}: {quantity!r} {fault}")
        if quantity in file.quantities[:i]:
            raise ScenarioError(f"{source.where('quantities', i)}: {quantity!r} is given twice; keep one")
    for quantity in file.causes:
        if quantity not in file.quantities:
            cure = did_you_mean(quantity, file.quantities)
            raise ScenarioError(f"{source.where('causes', quantity)}: {quantity!r} is none of the case's quantities{cure}")
    return file


def _explained(error: ValidationError, source: Source) -> ScenarioError:
    """The first fault as one sentence; a key that does not exist goes before one that is missing."""
    fault = min(error.errors(include_url=False), key=lambda e: (e["type"] != "extra_forbidden", e["type"] == "missing"))
    key = str(fault["loc"][0])
    known = list(CaseFile.model_fields)
    if fault["type"] == "extra_forbidden":
        cure = did_you_mean(key, known) or f"; the keys here are {', '.join(known)}"
        return ScenarioError(f"{source.where(key)}: {key} is not a key of a case{cure}")
    if fault["type"] == "missing":
        return ScenarioError(f"{source.where(key)}: {key} is missing; add {key}: …")
    return ScenarioError(f"{source.where(*fault['loc'])}: {key}: {fault['msg']}")


def _check_block(source: Source, text: str, line: int) -> None:
    later = [str(keys[0]) for keys, at in source.lines.items() if len(keys) == 1 and at > line]
    if later:
        raise ScenarioError(f"{source.where(later[0])}: {later[0]} stands behind scenario; the scenario comes last")
    if text.splitlines()[line - 1].split("#")[0].strip() != f"{_SECTION}:":
        raise ScenarioError(f"{source.where(_SECTION)}: write the scenario as an indented block below 'scenario:'")


def _words(value: Any, word: str, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of the values that are exactly `word`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _words(inner, word, (*path, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _words(inner, word, (*path, i))
    elif value == word:
        yield path
