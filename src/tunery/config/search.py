"""The section `search`: which settings are searched, how, and what is optimised."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Tag, model_validator

from tunery.config.section import (
    Count,
    CountOrZero,
    NumberOrText,
    OpenProbability,
    PositiveNumber,
    Section,
    Seed,
    WrittenOff,
    key,
)


class Dimension(Section):
    """Values that one config key may take in a search: a range, or a list of choices."""

    low: float | None = key(None, "Smallest value.", allow_inf_nan=False)
    high: float | None = key(None, "Largest value.", allow_inf_nan=False)
    log: bool = key(False, "Draw on a logarithmic scale.")
    step: float | None = key(None, "Distance between values.", allow_inf_nan=False)
    choices: list[Any] | None = key(None, "The values themselves.")
    when: dict[str, Any] | None = key(
        None, "Search this key only if other keys have these values (one or a list): {adapter.method: lora}."
    )

    @model_validator(mode="after")
    def _is_a_range_or_choices(self) -> Self:
        low, high, step = self.low, self.high, self.step
        if self.choices is not None:
            if not self.choices or any(given is not None for given in (low, high, step)) or self.log:
                raise ValueError("either choices (at least one) or low and high")
        elif low is None or high is None:
            raise ValueError("either choices or both low and high")
        elif low >= high:
            raise ValueError(f"low ({low}) must be below high ({high})")
        elif self.log and low <= 0:
            raise ValueError(f"log needs low ({low:g}) above 0")
        elif self.log and step is not None:
            raise ValueError(f"log goes without step ({step:g}): leave one of them out")
        elif step is not None and not 0 < step <= high - low:
            raise ValueError(f"step ({step}) must be above 0 and at most high - low ({high - low:g})")
        return self


def _branch(value: object) -> str:
    return "[expression]" if isinstance(value, str) else "[dimension]"


# The brackets in the tags keep them out of the keys that faults name.
Searched = Annotated[
    Annotated[Dimension, Tag("[dimension]")] | Annotated[str, Tag("[expression]")], Discriminator(_branch)
]


class SearchConfig(Section):
    """An Optuna study over config keys."""

    trials: Count | Literal["all"] = key(
        20, "Total number of trials; the first uses the project's own settings. all: every point of a grid."
    )
    repeats: Count | None = key(
        None,
        "How often each point of a grid is trained, each time with another seed, from training.seed on; the winner has "
        "the best mean, and there are no finals.",
    )
    sampler: Literal["tpe", "random", "grid", "qmc", "gp", "cmaes", "nsga2"] = key(
        "tpe", "How the next trial is chosen."
    )
    pruner: Literal["hyperband", "median", "percentile", "wilcoxon", "none"] = key(
        "hyperband", "How poor trials are stopped early; unused with several objectives."
    )
    prune_by: Literal["auto", "score", "validation/nll"] = key(
        "auto", "What the pruner compares at each checkpoint; auto: score if checkpoints are scored, else loss."
    )
    racing: OpenProbability | None = key(
        None,
        "Largest chance of ending a trial that is no worse than those that are ahead: dev items are scored in blocks, "
        "and scoring ends once the trial is surely worse than the last finalist so far. 0.05, say; unset: never.",
    )
    pack: Annotated[Count | Literal["auto", "off"], WrittenOff] = key(
        "off",
        "How many trials are trained at once, over one frozen base: their passes are computed together. auto: up to 4, "
        "where that is measured to be faster. Losses are those of each trial alone but for rounding.",
    )
    seed: Seed = key(0, "Seed of the sampler; together with a trial's number it determines what is drawn.")
    space: dict[str, Searched] = key(
        {}, "Config keys and the values they may take; a string is an expression: '2 * adapter.rank'."
    )
    objectives: dict[str, Literal["maximize", "minimize"]] = key(
        {"score": "maximize"}, "Metrics to optimise; several give a Pareto front, and the first one picks the winner."
    )
    constraints: dict[str, str] = key(
        {}, "Bounds that the winner must meet: {peak_memory_bytes: '<= 22 GiB', delta/mmlu: '>= -0.01'}."
    )
    known_good: list[str] = key(
        [], "Settings to try first: YAML files relative to project.yaml (a list of {key: value}), or runs:/ID."
    )
    finalists: CountOrZero = key(
        3, "Number of best trials that are retrained with other seeds before a winner is chosen; 0: none."
    )
    seeds: Count = key(3, "Number of seeds for each finalist and for the project's own settings.")
    timeout_seconds: PositiveNumber | None = key(None, "Time limit of one trial.")
    memory: NumberOrText | None = key(
        None, "Largest estimated memory a trial may need, with a unit: '24 GiB'; unset: the device's memory."
    )
    storage: str | None = key(
        None, "Optuna storage URL, such as postgresql://host/name; unset: optuna.db in the working folder."
    )
