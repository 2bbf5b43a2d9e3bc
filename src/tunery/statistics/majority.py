"""A score beside that of one answer to all items: did a model learn, or change the answer that it always gives?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from tunery.evaluation.answers import chosen_answers, given_answers
from tunery.evaluation.result import average, averaging
from tunery.records.scores import ChangedAnswers, ChosenAnswers, TaskResult
from tunery.statistics.paired import compare_scores, item_ids

_ORDERED = 0.75  # share of the items from which on a place is right by the order that the options were written in


def answers_of(result: TaskResult, metric: str, confidence: float = 0.95) -> ChosenAnswers | None:
    """How often each answer was chosen, and how the score differs from that of the majority answer.

    Returns:
        None where `chosen_answers` finds nothing, or there is no majority answer.
    """
    task, how = result.settings.task, averaging(result, metric)
    answers = chosen_answers(result.samples, metric)
    majority = None if answers is None else majority_of(answers)
    if answers is None or majority is None or how is None:
        return None
    constant = result.samples.assign(**{metric: (answers["right"] == majority).astype(float)})
    value, stderr = average(constant, metric, how)
    score = result.scores[metric]
    one_answer = replace(result, samples=constant, scores={metric: replace(score, value=value, stderr=stderr)})
    difference = compare_scores([{task: one_answer}], [{task: result}], {task: metric}, confidence)
    assert difference is not None, "both sides answered the same items"
    return ChosenAnswers(task, metric, counts_of([answers]), majority, score.value, value, difference)


def majority_of(answers: pd.DataFrame) -> str | None:
    """The answer that is right most often, the first by name where several are.

    None where one place is right on most items, as in tasks that list the right option first: a model does not see the
    order in which options are scored, so that it cannot answer by it.
    """
    counts = Counter(answers["right"])
    name, most = min(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    by_order = name.startswith("option ") and most > _ORDERED * len(answers)
    return None if by_order else str(name)


def counts_of(runs: Sequence[pd.DataFrame]) -> dict[str, int]:
    """Items by the answer that was chosen, over all runs, the most frequent first; an answer never chosen has 0."""
    counts: Counter[str] = Counter()
    for answers in runs:
        counts.update(dict.fromkeys(answers["right"], 0))
        counts.update(Counter(answers["chosen"]))
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def changed_of(before: TaskResult, after: TaskResult, metric: str) -> ChangedAnswers | None:
    """How many of the items that both models answered the second answers otherwise; None where nothing is answered."""
    sides = []
    for result in (before, after):
        answers = given_answers(result.samples, metric)
        if answers is None:
            return None
        sides.append(answers.astype(object).set_axis(item_ids(result.samples)))
    return changed_answers(before.settings.task, sides[0], sides[1:])


def changed_answers(task: str, before: pd.Series, after: Sequence[pd.Series]) -> ChangedAnswers | None:
    """The same from answers by `item_ids`, a series a seed of the second model; None if no item is answered by both."""
    counts = []
    for answers in after:
        shared = before.index.intersection(answers.index)
        counts.append((int((before.loc[shared] != answers.loc[shared]).sum()), len(shared)))
    changed, items = map(sum, zip(*counts, strict=True))
    return ChangedAnswers(task, changed, items) if items else None
