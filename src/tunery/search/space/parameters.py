"""One key that is searched: the values that it may take, and how Optuna is asked for one of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunery.config.fields import field_at, kept, number_type
from tunery.config.project import Project
from tunery.config.search import Dimension

if TYPE_CHECKING:
    import optuna

_LONGEST_TEXT = 48  # characters of a choice in a trial's name
Label = None | bool | int | float | str


@dataclass(frozen=True)
class Parameter:
    """A key that is drawn."""

    key: str
    when: Mapping[str, Sequence[object]]  # other keys, and the values that they must have for this key to be drawn
    choices: tuple[Any, ...] = ()  # the values, as the key's field keeps them; empty for a range
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False  # whether the key holds whole numbers

    def outside(self, value: object) -> str | None:
        """The rule that a value breaks: "one of 4, 8", "from 1 to 8 in steps of 2"; None if it is in the space."""
        if self.choices:
            known = any(value == choice and type(value) is type(choice) for choice in self.choices)
            return None if known else f"one of {', '.join(map(short_text, self.choices))}"
        rule = f"from {self.low:g} to {self.high:g}" + (f" in steps of {self.step:g}" if self.step else "")
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return rule
        steps = (value - self.low) / self.step if self.step else 0.0
        return None if abs(steps - round(steps)) < 1e-8 else rule

    def values(self) -> list[Any]:
        """Every value of choices, or of a range with steps."""
        if self.choices:
            return list(self.choices)
        step = self.step or self.high - self.low
        # Twelve digits: 0.1 + 2 * 0.1 is meant to be 0.3.
        values = [float(f"{self.low + at * step:.12g}") for at in range(round((self.high - self.low) / step) + 1)]
        return [int(value) for value in values] if self.whole else values

    def holds(self, value_of: Callable[[str], object]) -> bool:
        """Whether the key is drawn, given the values of the keys that it depends on."""
        return all(value_of(key) in values for key, values in self.when.items())


def parameter(key: str, dimension: Dimension) -> Parameter:
    """A declared dimension, its values as the key's field keeps them."""
    declared = (dimension.when or {}).items()
    when = {name: [kept_at(name, value) for value in as_list(wanted)] for name, wanted in declared}
    if dimension.choices is not None:
        return Parameter(key, when, choices=tuple(kept_at(key, choice) for choice in dimension.choices))
    low, high, step = dimension.low or 0.0, dimension.high or 0.0, dimension.step
    if step:
        # The greatest value that steps from low reach: Optuna would warn of a high that they pass over.
        high = low + int((high - low) / step + 1e-8) * step
    field = field_at(Project, key)
    whole = field is not None and number_type(field) is int
    return Parameter(key, when, low=low, high=high, step=step, log=dimension.log, whole=whole)


def suggest(trial: optuna.Trial, found: Parameter) -> Any:
    """Ask Optuna for a value: a whole number for a key that holds whole numbers, a choice as it was declared."""
    if found.choices:
        labels = [label_of(choice) for choice in found.choices]
        return found.choices[labels.index(trial.suggest_categorical(found.key, labels))]
    if found.whole:
        step = int(found.step or 1)
        return trial.suggest_int(found.key, int(found.low), int(found.high), step=step, log=found.log)
    return trial.suggest_float(found.key, found.low, found.high, step=found.step, log=found.log)


def as_list(value: object) -> list[object]:
    """One value or several, as `when` takes them."""
    return list(value) if isinstance(value, list) else [value]


def label_of(value: Any) -> Label:
    """A value as Optuna stores it: plain values as they are, a list as its JSON."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)


def kept_at(key: str, value: object) -> Any:
    """A value as the key's field keeps it; the value itself if it does not fit."""
    field = field_at(Project, key)
    return value if field is None else kept(field, value)


def short_text(value: object) -> str:
    """A value in a trial's name: three significant digits, a list joined by +, a dataset by its source."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value).replace("null", "none")
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return str(value.get("source", json.dumps(value)))
    return "+".join(map(short_text, value)) if isinstance(value, list) else _middle_out(" ".join(str(value).split()))


def _middle_out(text: str) -> str:
    """A text with its middle left out where it is long, as a prompt template is: variants may begin or end alike."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT // 2]}…{text[-_LONGEST_TEXT // 2 + 1 :]}"
