"""Sizes and counts of a scenario: a constant, or one distribution.

Mirrors nothing in Redis.
Not modelled: sizes that depend on each other, or on the time.
"""

from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from redsim.scenario.shape import Memory, Model


class Uniform(Model):
    low: NonNegativeInt
    high: NonNegativeInt


class Lognormal(Model):
    median: PositiveInt
    sigma: float = Field(gt=0, le=10)
    max: PositiveInt | None = None


class Gpareto(Model):
    """Generalised Pareto (location, scale, shape), truncated at `max`; e.g. Facebook ETC [atikoglu-2012]."""

    location: float = Field(ge=0)
    scale: float = Field(gt=0)
    shape: float = Field(ge=-1, le=5)
    max: PositiveInt = 1024 * 1024


class Size(Model):
    """A size or a count: `100`, `4kb`, or one distribution."""

    constant: Memory | None = None
    uniform: Uniform | None = None
    lognormal: Lognormal | None = None
    gpareto: Gpareto | None = None
    table: list[Annotated[tuple[Memory, float], Field(strict=False)]] | None = None  # (value, weight) pairs

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, (int, str)) and not isinstance(value, bool):
            return {"constant": value}
        if isinstance(value, dict) and isinstance(value.get("uniform"), list) and len(value["uniform"]) == 2:
            return {**value, "uniform": {"low": value["uniform"][0], "high": value["uniform"][1]}}
        return value

    @model_validator(mode="after")
    def _one_form(self) -> "Size":
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of constant, uniform, lognormal, gpareto, table")
        if self.uniform is not None and self.uniform.low > self.uniform.high:
            low, high = self.uniform.low, self.uniform.high
            raise ValueError(f"uniform [{low}, {high}] is empty; the smaller goes first")
        if self.table is not None and not (self.table and sum(w for _, w in self.table) > 0):
            raise ValueError("table needs at least one [value, weight] pair with a positive weight")
        if self.table is not None and any(w < 0 for _, w in self.table):
            raise ValueError("table has a negative weight")
        return self
