"""Which answers a model gave, in words."""

from __future__ import annotations

from tunery.records.scores import ChangedAnswers, ChosenAnswers
from tunery.reporting.text import counted, listed, number

_MOST_NAMED = 6


def chosen(found: ChosenAnswers) -> str:
    """How often each answer was chosen: "no 190, yes 10"."""
    return listed([f"{name} {count:,}" for name, count in found.chosen.items()], _MOST_NAMED)


def majority(found: ChosenAnswers | None) -> str:
    """The majority answer's score and name: "0.565 (no)"; a dash where there is none."""
    return "–" if found is None else f"{number(found.majority_score, 3)} ({found.majority})"


def warning(found: ChosenAnswers, who: str) -> str | None:
    """What a reader must know before a score is taken for knowledge; None if there is nothing.

    Args:
        who: Whose answers these are: "the tuned model".
    """
    constant = f"always '{found.majority}' scores {number(found.majority_score, 3)}"
    if found.is_one_answer:
        name, most = next(iter(found.chosen.items()))
        alike = f"{who} answers '{name}' to {most:,} of {counted(found.items, 'item')}"
        return (
            f"{found.task}: {alike} and scores {number(found.score, 3)}, where {constant}: not surely better than that."
        )
    if not found.beats_majority:
        return (
            f"{found.task}: {who} scores {number(found.score, 3)}, no better than one answer to all items: {constant}."
        )
    return None


def changed(found: ChangedAnswers | None) -> str:
    """On how many items another answer was given than the base's: "12 of 200"; a dash if unknown."""
    return "–" if found is None else f"{found.changed:,} of {found.items:,}"


def unchanged(found: ChangedAnswers | None, who: str) -> str | None:
    """What a reader must know of a model that answers exactly as its base; None of any other.

    Args:
        who: Whose answers these are: "the tuned model".
    """
    if found is None or found.changed:
        return None
    return f"{found.task}: {changed(found)} answers changed: {who} answers every item as the base does."
