"""Real questions and answers by which two forms of a model are compared."""

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

Item = tuple[str, str]
_MOST = 64
# Ships in the package: there even for a model of which nothing else is known.
_OWN_TASK = "world_facts"


def real_items(facts: RunFacts, home: Path | None, most: int = _MOST) -> list[Item]:
    """Questions with right answers: the held-out prompts of the run, and items of the tasks that it was scored on.

    Args:
        facts: What is known of the run.
        home: The project's folder, where it is on this machine.
        most: At most so many.

    Raises:
        RefError: If there are none.
    """
    held_out = [(row["prompt"], row["reference"]) for row in facts.answers if row.get("reference")][: most // 2]
    try:
        asked = _of_tasks(facts.config, home or Path.cwd(), most - len(held_out))
    except InputError as error:  # a task's dataset may be out of reach
        if not held_out:
            raise RefError(f"run {facts.run_id}", f"there is nothing to compare by: {error}") from error
        asked = []
    return held_out + asked


def _of_tasks(tree: Mapping[str, Any], home: Path, most: int) -> list[Item]:
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
