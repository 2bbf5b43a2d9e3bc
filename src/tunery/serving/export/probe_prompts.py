"""Questions with reference answers, on which two forms of a model are compared."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.errors import InputError, RefError

if TYPE_CHECKING:
    from tunery.config.evaluation import EvaluationConfig
    from tunery.tracking.run_facts import RunFacts

Answer = tuple[str, str]  # a question and its reference answer
_MOST = 64
# Ships with the package, so it exists even for a model without a project.
_OWN_TASK = "world_facts"


def reference_answers(facts: RunFacts, home: Path | None, most: int = _MOST) -> list[Answer]:
    """The held-out prompts of the run, and items of the tasks that it was scored on.

    Args:
        facts: The run in MLflow.
        home: The project's folder, if it is on this machine.
        most: The most to return.

    Raises:
        RefError: If there are none.
    """
    held_out = [(row["prompt"], row["reference"]) for row in facts.answers if row.get("reference")][: most // 2]
    try:
        of_tasks = _of_tasks(facts.config, home or Path.cwd(), most - len(held_out))
    except InputError as error:  # a task's dataset may be unreachable
        if not held_out:
            raise RefError(f"run {facts.run_id}", f"there are no answers to compare on: {error}") from error
        of_tasks = []
    return held_out + of_tasks


def _of_tasks(tree: Mapping[str, Any], home: Path, most: int) -> list[Answer]:
    from tunery.evaluation.tasks import load_tasks

    tasks = load_tasks(_evaluation(tree, home, most), home, chat_template=False)
    share = -(-most // len(tasks.leaves))  # the same number of each, rounded up
    items = [
        item for leaf in tasks.leaves.values() for item in islice(zip(leaf.texts, leaf.targets, strict=True), share)
    ]
    return [(question, answer) for question, answer in items if question.strip() and answer.strip()][:most]


def _evaluation(tree: Mapping[str, Any], home: Path, most: int) -> EvaluationConfig:
    from tunery.config.evaluation import EvaluationConfig
    from tunery.config.load import project_from

    if tree.get("evaluation", {}).get("tasks"):
        evaluation = project_from(deepcopy(dict(tree)), "config/project.yaml", home).evaluation
    else:
        evaluation = EvaluationConfig(tasks=[_OWN_TASK])
    return evaluation.model_copy(update={"limit": min(evaluation.limit or most, most)})
