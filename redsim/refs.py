"""refs.toml: where every claim and number comes from; `[key]` in a docstring points here."""

import tomllib
from functools import cache
from importlib.resources import files


@cache
def refs() -> dict[str, str]:
    """Key → what it is and where it was read."""
    return dict(tomllib.loads((files("redsim") / "refs.toml").read_text(encoding="utf-8"))["refs"])
