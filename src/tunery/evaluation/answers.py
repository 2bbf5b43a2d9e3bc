"""Which answer of a multiple choice was chosen on each item, and which is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("options", "target", "loglikelihoods")
# What lm-eval divides an option's log-likelihood by before it takes the largest.
_LENGTHS: Mapping[str, Callable[[str], int]] = {
    "acc": lambda _: 1,
    "acc_norm": len,
    "acc_bytes": lambda option: len(option.encode()),
}
_TEXTS_AN_OPTION = 2


def columns_read(metric: str) -> tuple[str, ...]:
    """The columns of samples that `chosen_answers` reads, beside the metric's own; none for a metric of other tasks."""
    return _COLUMNS if metric.partition(".")[0] in _LENGTHS else ()


def chosen_answers(samples: pd.DataFrame, metric: str) -> pd.DataFrame | None:
    """The answer that was chosen and the one that is right, item by item.

    An answer is named by its text where items share their options ("yes", "B"), otherwise by its place ("option 2").

    Args:
        samples: Answers of one task, as in `TaskResult.samples`.
        metric: The metric that decides which option counts as chosen.

    Returns:
        Columns `chosen` and `right`, categories, with the index of `samples`; None where the task is no multiple
        choice, its options were not kept, or the metric says something else than whether the right one was chosen.
    """
    import pandas as pd

    length = _LENGTHS.get(metric.partition(".")[0])
    if length is None or samples.empty or not {*_COLUMNS, metric} <= set(samples.columns):
        return None
    options = [list(map(str, row)) for row in samples["options"]]
    logs = [list(row) for row in samples["loglikelihoods"]]
    if any(len(row) < 2 or len(row) != len(values) for row, values in zip(options, logs, strict=True)):
        return None
    picked = [_largest(row, values, length) for row, values in zip(options, logs, strict=True)]
    hits = [row[place] == str(target) for row, place, target in zip(options, picked, samples["target"], strict=True)]
    if [float(hit) for hit in hits] != [float(value) for value in samples[metric]]:
        return None  # several right answers, say: the metric is not taken on trust
    named = _by_text if _shared(options) else _by_place
    right = [row.index(target) if target in row else -1 for row, target in zip(options, samples["target"], strict=True)]
    columns = {"chosen": _names(options, picked, named), "right": _names(options, right, named)}
    return pd.DataFrame(columns, index=samples.index, dtype="category")


def given_answers(samples: pd.DataFrame, metric: str) -> pd.Series | None:
    """What was answered to each item: the option that was chosen, or else the text that was written.

    Args:
        samples: Answers of one task, as in `TaskResult.samples`.
        metric: As for `chosen_answers`.

    Returns:
        Answers with the index of `samples`; None where nothing is chosen or written, as in a task of perplexity.
    """
    chosen = chosen_answers(samples, metric)
    if chosen is not None:
        return chosen["chosen"]
    written = "raw_answers" in samples and len(samples) > 0 and all(map(len, samples["raw_answers"]))
    return samples["raw_answers"].map(tuple) if written else None


def _largest(options: Sequence[str], logs: Sequence[float], length: Callable[[str], int]) -> int:
    return max(range(len(options)), key=lambda place: logs[place] / max(1, length(options[place])))


def _shared(options: Sequence[Sequence[str]]) -> bool:
    """Whether items have their options in common: few texts, of which there are fewer than items."""
    texts = {text for row in options for text in row}
    return len(texts) <= min(len(options) - 1, _TEXTS_AN_OPTION * max(map(len, options)))


def _names(
    options: Sequence[Sequence[str]], places: Sequence[int], name: Callable[[Sequence[str], int], str]
) -> list[str]:
    return [name(row, place) for row, place in zip(options, places, strict=True)]


def _by_text(options: Sequence[str], place: int) -> str:
    return options[place].strip() if place >= 0 else ""


def _by_place(_: Sequence[str], place: int) -> str:
    return f"option {place + 1}" if place >= 0 else ""
