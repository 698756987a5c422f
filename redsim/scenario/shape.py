"""What every part of a scenario's shape is made of: the strict model, and the types with units.

Mirrors redis.conf's grammar of memory (redsim.units). Not modelled: units of other kinds; each is written out in its key's name.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from redsim.units import DAY, bits_per_s, duration_ns, memory_bytes


def _duration(value: Any) -> int:
    """A bare 0 needs no unit; ten years leave room below 2**63 ns for whatever is added to it."""
    time_ns = 0 if value == 0 and type(value) is int else duration_ns(value)
    if time_ns > 3650 * DAY:
        raise ValueError(f"{value!r} is longer than ten years")
    return time_ns


Duration = Annotated[int, BeforeValidator(_duration)]
Memory = Annotated[int, BeforeValidator(memory_bytes)]
Bandwidth = Annotated[int, BeforeValidator(bits_per_s)]


class Model(BaseModel):
    """Strict: text is not a number, `true` is not 1, and neither NaN nor infinity is a rate."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Ttl(Model):
    """When the keys of a data set are due: `60s` (all at that instant), or spread over a window; `share` of them at all."""

    uniform: Annotated[tuple[Duration, Duration], Field(strict=False)]
    share: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return value if isinstance(value, dict) else {"uniform": [value, value]}

    @model_validator(mode="after")
    def _ordered(self) -> "Ttl":
        low, high = self.uniform
        if not 0 < low <= high:
            raise ValueError("uniform [low, high] needs a time above 0 and the smaller one first")
        return self
