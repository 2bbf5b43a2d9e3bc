"""What every section of project.yaml shares: strictness, immutability, and the types with units in their rules."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def not_a_boolean(value: object) -> object:
    """Refuse a truth value where a number must stand."""
    # YAML reads yes, no, on and off as booleans, and Python takes True for 1.
    if isinstance(value, bool):
        raise ValueError(f"{value} is a truth value, but must be a number")
    return value


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _off(value: object) -> object:
    return "off" if value is False else value


_Number = BeforeValidator(not_a_boolean)
Probability = Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False), _Number]
OpenProbability = Annotated[float, Field(gt=0.0, lt=1.0, allow_inf_nan=False), _Number]
Fraction = Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False), _Number]
PositiveNumber = Annotated[float, Field(gt=0.0, allow_inf_nan=False), _Number]
NonNegativeNumber = Annotated[float, Field(ge=0.0, allow_inf_nan=False), _Number]
Count = Annotated[int, Field(ge=1), _Number]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1), _Number]  # the most that NumPy takes
CountOrZero = Annotated[int, Field(ge=0), _Number]
# An amount with a unit; the code that reads it reports a missing unit.
NumberOrText = Annotated[str, BeforeValidator(_as_text)]
# For choices with `off` among them, which YAML reads as false.
WrittenOff = BeforeValidator(_off)


def key(default: Any, text: str, **rules: Any) -> Any:
    """A key of a section: its default, its line in docs/config.md, and pydantic's rules for its value."""
    return Field(default, description=text, **rules)


class Section(BaseModel):
    """A frozen part of project.yaml: unknown keys are faults, defaults are validated like everything else."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, protected_namespaces=())
