"""Which answers base and tuned model chose, task by task, beside the majority answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tunery.evaluation.result import restrict
from tunery.records.runs import RunRecord
from tunery.records.scores import ChangedAnswers, ChosenAnswers, TaskResult
from tunery.reporting.answers import unchanged, warning
from tunery.statistics.majority import answers_of, changed_of

_WHO = {"tuned": "the tuned model", "in context": "the base in context"}


@dataclass(frozen=True)
class TaskAnswers:
    """Both models' answers to one multiple-choice task; `tuned` is None for a bare model."""

    base: ChosenAnswers | None  # None too where an earlier version kept its answers without the options
    tuned: ChosenAnswers | None

    @property
    def either(self) -> ChosenAnswers:
        """The tuned model's, or the base's: both are beside the same majority answer."""
        found = self.tuned or self.base
        assert found is not None, "a task without either is left out"
        return found


def answers_by_task(record: RunRecord) -> dict[str, TaskAnswers]:
    """The multiple-choice tasks of a run, on the items of its headline."""
    found = {
        task: TaskAnswers(*(_answers(side, task, metric, record.split) for side in (record.base, record.tuned)))
        for task, metric in record.shown.items()
    }
    return {task: answers for task, answers in found.items() if answers.base or answers.tuned}


def changes_by_task(record: RunRecord) -> dict[str, ChangedAnswers]:
    """On how many items of its headline the tuned model answers otherwise than its base, task by task."""
    found = {
        task: changed_of(
            _on_headline(record.base[task], record.split), _on_headline(record.tuned[task], record.split), metric
        )
        for task, metric in record.shown.items()
        if all(task in side and metric in side[task].scores for side in (record.base, record.tuned))
    }
    return {task: changes for task, changes in found.items() if changes is not None}


def remarks(record: RunRecord, answers: Mapping[str, TaskAnswers], changes: Mapping[str, ChangedAnswers]) -> list[str]:
    """All that a reader must know before the scores: cut prompts, answers that did not change, one answer to all."""
    same = (unchanged(one, _WHO[record.side]) for one in changes.values())
    return [
        *cut_prompts(record),
        *(sentence for sentence in same if sentence is not None),
        *warnings(answers, record.side),
    ]


def warnings(answers: Mapping[str, TaskAnswers], side: str) -> list[str]:
    """What a reader must know of the answers: of the model's, and of a base that all but always answers alike.

    Args:
        side: RunRecord.side.
    """
    told: list[str | None] = []
    for both in answers.values():
        who = "the model" if both.tuned is None else _WHO[side]
        told.append(warning(both.either, who))
        if both.tuned and both.base and both.base.is_one_answer:
            told.append(warning(both.base, "the base"))
    return [sentence for sentence in told if sentence is not None]


def cut_prompts(record: RunRecord) -> list[str]:
    """A sentence a task of which prompts are longer than the model takes; lm-eval cuts them without a word."""
    told = []
    for task, result in (record.tuned or record.base).items():
        cut = result.samples.get("cut_tokens")
        if task in record.shown and cut is not None and (count := int((cut > 0).sum())):
            shots = result.settings.few_shot
            lost = f": not all of the {shots} examples were seen" if shots else ""
            longer = f"{count} of {len(cut)} prompts are longer than the model takes"
            told.append(f"{task}: {longer} and were cut at the beginning, by up to {int(cut.max())} tokens{lost}.")
    return told


def _answers(results: Mapping[str, TaskResult], task: str, metric: str, split: str) -> ChosenAnswers | None:
    if task not in results or metric not in results[task].scores:
        return None
    result = _on_headline(results[task], split)
    return answers_of(result, metric) if metric in result.scores else None


def _on_headline(result: TaskResult, split: str) -> TaskResult:
    return restrict(result, "locked") if split == "locked" else result
