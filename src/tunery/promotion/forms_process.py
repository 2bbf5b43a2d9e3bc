"""What runs in the process that scores a candidate: one model at a time, each freed before the next is loaded.

Nothing of the process that trained, or of the one that decides, is in it: that an adapter answers here shows that its
files are enough.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.config.load import project_from
from tunery.config.project import Project
from tunery.config.promotion import Form
from tunery.errors import BaseModelError, OutOfMemory, RefError
from tunery.records import TaskResult

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from tunery.evaluation.tasks import Tasks
    from tunery.tracking.flavor.rebuild import Rebuilt

Results = Mapping[str, TaskResult]
# What a model's files, or this machine, may be to blame for; a task that cannot be loaded is neither.
_FAULTS = (BaseModelError, RefError, OutOfMemory)


@dataclass(frozen=True)
class FormJob:
    """Questions for one logged model; plain values, since it crosses into another process.

    Args:
        folder: The model's files.
        tree: The resolved project whose questions are asked.
        home: Where that project's relative paths start.
        uri: MLflow's store, where the base's scores are looked up.
    """

    folder: Path
    tree: Mapping[str, Any]
    home: Path
    uri: str


@dataclass(frozen=True)
class FormAnswers:
    """What came of a job.

    Args:
        results: On locked items, by form and task.
        faults: Forms that could not be scored, and why.
        base: The base's own, on the same items; empty where they were not asked for.
        primary: The metric of each task that counts towards the score.
        metrics: The metric of each task that was asked for.
    """

    results: Mapping[Form, Results] = field(default_factory=dict)
    faults: Mapping[Form, str] = field(default_factory=dict)
    base: Results = field(default_factory=dict)
    primary: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)


def follow(line: Connection) -> None:
    """End this process when the other end of the line is closed, by its owner or by its owner's death."""

    def wait() -> None:
        with suppress(EOFError, OSError):
            line.recv()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def score_trained(job: FormJob, with_base: bool = False) -> FormAnswers:
    """Score a model as it was trained and, if wanted, the base below it.

    Raises:
        TaskError: If a task cannot be loaded or has no locked items.
    """
    from tunery.runs import scoring

    project, tasks = _questions(job)
    try:
        results, base = _trained_and_base(job, project, tasks, with_base)
        if with_base and base is None:
            base = _base_apart(job, tasks, project)
    except _FAULTS as error:
        return FormAnswers(faults={"trained": str(error)})
    primary = scoring.primary_metrics(tasks, project.evaluation)
    return FormAnswers(
        {"trained": results}, {}, base or {}, primary, {name: tasks.primary[name] for name in tasks.names}
    )


def score_unquantised(job: FormJob, forms: tuple[Form, ...], with_base: bool = False) -> FormAnswers:
    """Score an adapter over 16-bit weights, and then merged into them; loaded once for both.

    The base, if wanted, in the same weights: against one of 4 bits, a part of the gain would be that of the bits.

    Raises:
        TaskError: As `score_trained`.
    """
    from tunery.evaluation.eval_mode import adapter_off
    from tunery.models.adapter import merge_adapter

    project, tasks = _questions(job)
    results: dict[Form, Results] = {}
    base: Results = {}
    try:
        rebuilt = _load(job, project, _sixteen_bits(job.folder))
        tokenizer = rebuilt.loaded.tokenizer
        if with_base:  # first: if it fails, no form may be compared with another base
            with adapter_off(rebuilt.model):
                base = _base_locked(rebuilt.loaded, tasks, project, job)
        if "adapter" in forms:
            results["adapter"] = _ask(rebuilt.model, tokenizer, tasks, project)
        if "merged" in forms:
            results["merged"] = _ask(merge_adapter(rebuilt.model, str(job.folder)), tokenizer, tasks, project)
    except _FAULTS as error:
        return FormAnswers(results, {form: str(error) for form in forms if form not in results}, base)
    return FormAnswers(results, base=base)


def _sixteen_bits(folder: Path) -> str:
    """The 16-bit type of a logged model's base: its own, bfloat16 where that has 32."""
    from tunery.tracking.flavor.rebuild import read_facts

    own = read_facts(folder).identity.dtype
    return own if own in ("bfloat16", "float16") else "bfloat16"


def _questions(job: FormJob) -> tuple[Project, Tasks]:
    from tunery.tracking.flavor.rebuild import read_facts

    project = project_from(dict(job.tree), str(job.folder), job.home)
    chosen = project.evaluation.chat_template
    chat = read_facts(job.folder).template == "chat" if chosen == "auto" else chosen
    return project, _tasks(project.evaluation.model_dump_json(), job.home, chat)


@lru_cache(maxsize=2)
def _tasks(evaluation: str, home: Path, chat: bool) -> Tasks:
    """Loaded once for all models that are asked in the same way."""
    from tunery.config.evaluation import EvaluationConfig
    from tunery.errors import TaskError
    from tunery.evaluation.tasks import load_tasks

    settings = EvaluationConfig.model_validate_json(evaluation)
    tasks = load_tasks(settings, home, chat)
    for name in tasks.names:
        leaves = tasks.members.get(name, (name,))
        if not any(tasks.leaves[leaf].chosen("locked", None, settings.dev_fraction) for leaf in leaves):
            advice = "Lower evaluation.dev_fraction or raise evaluation.limit."
            raise TaskError(
                f"evaluation.tasks: {name}", f"has no locked items, which a promotion is judged on. {advice}"
            )
    return tasks


def _load(job: FormJob, project: Project, dtype: str | None = None) -> Rebuilt:
    from tunery.runs.cache import free_memory
    from tunery.tracking.flavor.rebuild import rebuild

    free_memory()  # of the model before, whose last names went with the function that asked it
    return rebuild(job.folder, project.training.device, unquantized=dtype)


def _trained_and_base(job: FormJob, project: Project, tasks: Tasks, with_base: bool) -> tuple[Results, Results | None]:
    """A model and the base below it; None for the base of one of which every weight was trained."""
    from tunery.evaluation.eval_mode import adapter_off

    rebuilt = _load(job, project)
    results = _ask(rebuilt.model, rebuilt.loaded.tokenizer, tasks, project)
    if not with_base or rebuilt.facts.method == "full":
        return results, None
    with adapter_off(rebuilt.model):
        return results, _base_locked(rebuilt.loaded, tasks, project, job)


def _ask(model: Any, tokenizer: Any, tasks: Tasks, project: Project) -> Results:
    from tunery.evaluation.score import score_model

    return score_model(model, tokenizer, tasks, project.evaluation, split="locked")


def _base_apart(job: FormJob, tasks: Tasks, project: Project) -> Results:
    """The base of a model of which every weight was trained: a second model, loaded when the first is gone."""
    from tunery.runs.cache import free_memory
    from tunery.tracking.flavor.rebuild import rebuild_base

    free_memory()
    return _base_locked(rebuild_base(job.folder, project.training.device), tasks, project, job)


def _base_locked(base: Any, tasks: Tasks, project: Project, job: FormJob) -> Results:
    from tunery.evaluation.result import restrict
    from tunery.runs import scoring
    from tunery.tracking.store import connect

    results = scoring.base_results(connect(job.uri, project.name), base, tasks, project.evaluation)
    return {name: restrict(result, "locked") for name, result in results.items()}
