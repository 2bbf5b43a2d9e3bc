"""The section `evaluation`: what a model is asked, and how."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tunery.config.data import RowSource
from tunery.config.section import Count, CountOrZero, Fraction, Section, key
from tunery.config.suites import expanded

AnswerMetric = Literal[
    "exact_match", "rouge1", "rouge2", "rougeL", "bleu", "chrf", "repetition_rate", "both_sides_rate", "semantic"
]


class GenerationConfig(Section):
    """Answers to held-out prompts from the base and the tuned model, side by side."""

    prompts: CountOrZero = key(32, "Validation prompts to answer; 0 turns generation off.")
    max_new_tokens: Count = key(128, "Longest answer, in tokens; decoding is greedy.")


class AnswersConfig(RowSource):
    """Prompts that the model answers, scored by how near each answer is to its reference; a task like any other."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the task: {reviews: rougeL} in primary."
    )
    metrics: list[AnswerMetric] = Field(
        min_length=1, description="What is measured of each answer; the first counts unless primary says otherwise."
    )
    semantic_model: str | None = key(
        None, "Folder of a model whose token embeddings the metric semantic compares (BERTScore, arXiv:1904.09675)."
    )
    max_new_tokens: Count = key(128, "Longest answer, in tokens; decoding is greedy.")

    @model_validator(mode="after")
    def _a_model_where_one_is_needed(self) -> Self:
        if "semantic" in self.metrics and self.semantic_model is None:
            raise ValueError("the metric semantic needs semantic_model: the folder of an encoder, such as a BERT")
        return self


class EvaluationConfig(Section):
    """lm-eval tasks and text metrics; every score is reported beside the base model's own on the same items."""

    # Before tasks, whose suites it decides on.
    allow_code: bool = key(
        False, "Run code that the model writes, on this machine and without a sandbox: tasks such as humaneval need it."
    )
    tasks: list[str] = key([], "lm-eval tasks or groups, our own tasks, or the name of a suite.")
    primary: dict[str, str] = key(
        {}, "Metric of each task that counts; their mean is the run's score. Empty: each task's first metric."
    )
    answers: list[AnswersConfig] = key([], "Sets of prompts with references, each a task that is answered in writing.")
    task_folders: list[str] = key(
        [],
        "Folders with more task YAML files, relative to project.yaml; data_files in a YAML file "
        "are relative to that file.",
    )
    few_shot: CountOrZero | None = key(None, "Solved examples before each item; unset: the task's own number.")
    limit: Count | None = key(None, "Score only this many items of each task, from the first.")
    chat_template: bool | Literal["auto"] = key(
        "auto", "Format prompts with the chat template; auto: when data.template is chat."
    )
    batch_size: Count = key(16, "Requests in one forward pass while scoring.")
    dev_fraction: Fraction = key(
        0.5, "Share of the items that may be used to choose a checkpoint or a trial; the rest stay locked."
    )
    generation: GenerationConfig = key(GenerationConfig(), "Generations on held-out prompts.")

    @field_validator("tasks", mode="before")
    @classmethod
    def _expand_suites(cls, tasks: object, info: ValidationInfo) -> object:
        names = [tasks] if isinstance(tasks, str) else tasks
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            return names
        return expanded(names, bool(info.data.get("allow_code")))

    @property
    def names(self) -> list[str]:
        """Everything that is scored: tasks, then sets of answers."""
        return [*self.tasks, *(one.name for one in self.answers)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for name in self.names:
            if self.names.count(name) > 1:
                raise ValueError(f"{name!r} names two of tasks and answers: give one another name")
        return self
