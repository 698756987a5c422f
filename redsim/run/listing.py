"""What `redsim list` prints."""

from collections.abc import Callable
from pathlib import Path

from redsim.redis.commands import COMMANDS
from redsim.scenario.directives import VERSIONS, table
from redsim.scenario.errors import ScenarioError
from redsim.scenario.load import load
from redsim.scenario.profile import load_profile, shipped_profiles


def scenarios(folder: Path) -> list[str]:
    """Path and question of every scenario under `folder`; ScenarioError if there is no such folder."""
    if not folder.is_dir():
        raise ScenarioError(f"{folder}: no such folder; give the one your scenarios are in with --folder")
    return [f"{path}: {load(path).file.question}" for path in sorted(folder.rglob("*.yaml"))]


def profiles(_folder: Path) -> list[str]:
    """Name and origin of every shipped host profile."""
    return [f"{name}: {load_profile(name, Path()).says}" for name in shipped_profiles()]


def commands(_folder: Path) -> list[str]:
    """The commands redsim models and the types of key they take."""
    return [f"{c.name}: {'a key of type ' + ', '.join(c.types) if c.types else 'no key'}" for c in COMMANDS.values()]


def directives(_folder: Path) -> list[str]:
    """Every directive of every version, with its standing in the model."""
    seen: dict[str, str] = {}
    for version in VERSIONS:
        for directive in table(version).values():
            seen.setdefault(directive.name, f"{directive.name}: {directive.status}; {directive.says}".rstrip("; "))
    return [seen[name] for name in sorted(seen)]


LISTINGS: dict[str, Callable[[Path], list[str]]] = {
    "scenarios": scenarios, "profiles": profiles, "commands": commands, "directives": directives,
}  # fmt: skip
