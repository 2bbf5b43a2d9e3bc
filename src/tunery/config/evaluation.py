"""The section `evaluation`: which questions a model is asked, and how."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from tunery.config.section import Count, CountOrZero, Fraction, Section

# Named lists of lm-eval tasks. leaderboard-v1 is the Open LLM Leaderboard's first edition; commonsense is the
# eight-task set that LoRA papers report (LLM-Adapters, arXiv:2304.01933).
SUITES: dict[str, tuple[str, ...]] = {
    "quickstart": ("world_facts", "world_comparison"),
    "leaderboard-v1": ("arc_challenge", "hellaswag", "mmlu", "truthfulqa_mc2", "winogrande", "gsm8k"),
    "commonsense": (
        "boolq",
        "piqa",
        "social_iqa",
        "hellaswag",
        "winogrande",
        "arc_easy",
        "arc_challenge",
        "openbookqa",
    ),
}


class GenerationConfig(Section):
    """Answers written out on held-out prompts, by the base and by the tuned model, side by side."""

    prompts: CountOrZero = Field(32, description="How many validation prompts are answered; 0 turns generation off.")
    max_new_tokens: Count = Field(128, description="Longest answer, in tokens; decoding is greedy.")


class EvaluationConfig(Section):
    """lm-eval tasks and text metrics; every score stands beside the base model's own on the same items."""

    tasks: list[str] = Field([], description="lm-eval tasks or groups, our own tasks, or the name of a suite.")
    primary: dict[str, str] = Field(
        {},
        description="Metric of each task that counts; their mean is the run's score. Empty: the tasks' first metrics.",
    )
    task_folders: list[str] = Field(
        [],
        description="Folders with more task YAML files, looked for beside project.yaml; the data_files that such a "
        "file names start beside it.",
    )
    few_shot: CountOrZero | None = Field(
        None, description="Solved examples before each item; unset: what the task says."
    )
    limit: Count | None = Field(None, description="Score only the first so many items of each task.")
    chat_template: bool | Literal["auto"] = Field(
        "auto", description="Ask through the chat template; auto: when data.template is chat."
    )
    batch_size: Count = Field(16, description="Requests in one forward pass while scoring.")
    dev_fraction: Fraction = Field(
        0.5, description="Share of the items that choosing a checkpoint or a trial may look at; the rest stay locked."
    )
    generation: GenerationConfig = Field(GenerationConfig(), description="Generations on held-out prompts.")

    @field_validator("tasks", mode="before")
    @classmethod
    def _expand_suites(cls, tasks: object) -> object:
        names = [tasks] if isinstance(tasks, str) else tasks
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            return names
        expanded = [
            task for name in names for task in (SUITES.get(name, (name,)) if isinstance(name, str) else (name,))
        ]
        return list(dict.fromkeys(expanded))
