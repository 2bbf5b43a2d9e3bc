"""Scoring a candidate in a fresh process: one model at a time, each freed before the next is loaded.

The process shares nothing with the one that trained or the one that decides: an adapter that answers here shows that
its files are complete. It does not open MLflow's store, which costs three seconds: for scores that are kept there, it
asks the process that decides.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tunery.config.load import project_from
from tunery.config.project import Project
from tunery.config.promotion import Form
from tunery.errors import BaseModelError, NonFiniteScore, OutOfMemory, RefError
from tunery.records.scores import TaskResult
from tunery.reporting.pace import is_heard, listen
from tunery.reporting.text import visible

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from tunery.evaluation.tasks import Tasks
    from tunery.records.runs import BaseIdentity
    from tunery.runs.scoring import KeptScores
    from tunery.tracking.flavor.flavor import ModelFacts
    from tunery.tracking.flavor.rebuild import Rebuilt

Results = Mapping[str, TaskResult]
_START = "spawn"  # a fork would keep what this process has loaded
_PAUSE_SECONDS = 0.1  # between looks at whether a job is done
_DIED = "its process was killed, most likely because memory ran out"
# Faults of a model's files or of this machine, which refuse the model; a task that cannot be loaded is neither.
_FAULTS = (BaseModelError, RefError, OutOfMemory, NonFiniteScore)


@dataclass(frozen=True)
class FormJob:
    """One logged model to score; plain values, since a job is sent to another process."""

    folder: Path  # the model's files
    tree: Mapping[str, Any]  # the resolved project whose tasks are scored
    home: Path  # folder that the project's relative paths start from


@dataclass(frozen=True)
class FormAnswers:
    """The result of a job."""

    results: Mapping[Form, Results] = field(default_factory=dict)  # on locked items, by deployment form and task
    faults: Mapping[Form, str] = field(default_factory=dict)  # why a form could not be scored
    # The base's own results on the same items; empty if they were not wanted.
    base: Results = field(default_factory=dict)
    primary: Mapping[str, str] = field(default_factory=dict)  # the metric of each task that counts towards the score
    metrics: Mapping[str, str] = field(default_factory=dict)  # the primary metric of every task that was scored


class ScoringProcess:
    """A fresh process that loads and scores models, one after the other; a context manager.

    If it dies, only the forms that it was scoring are lost: the next job gets a new process.

    Args:
        scores: Where the base's scores are kept.
    """

    def __init__(self, scores: KeptScores) -> None:
        self._scores = scores

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._parents_end.close()  # ends the process now: its result is no longer wanted
        self._pool.shutdown(cancel_futures=True)
        self._parents_end.close()
        self._asked.close()

    def trained(self, job: FormJob, *, with_base: bool) -> FormAnswers:
        """Score a model as it was trained, and its base if wanted."""
        return self._run(("trained",), score_trained, job, with_base)

    def others(self, job: FormJob, trained: FormAnswers, facts: ModelFacts, *, with_base: bool) -> FormAnswers:
        """Score the other two forms, and the base in 16 bits if wanted.

        A form or base that equals the one as trained is not scored again.
        """
        if facts.method == "full":
            return FormAnswers()
        same = facts.identity.quantization == "none" and facts.identity.dtype in ("bfloat16", "float16")
        forms: tuple[Form, ...] = ("merged",) if same else ("adapter", "merged")
        answers = self._run(forms, score_unquantised, job, forms, with_base and not same)
        known: dict[Form, Results] = {"adapter": trained.results["trained"]} if same else {}
        return replace(answers, results={**known, **answers.results})

    def one(self, job: FormJob, form: Form, facts: ModelFacts) -> FormAnswers:
        """Score a model in one form; if all weights were trained, there is only one."""
        if form == "trained" or facts.method == "full":
            trained = self.trained(job, with_base=False)
            if "trained" in trained.faults:
                return FormAnswers(faults={form: trained.faults["trained"]})
            return FormAnswers({form: trained.results["trained"]})
        return self._run((form,), score_unquantised, job, (form,))

    def _run(self, forms: tuple[Form, ...], work: Callable[..., FormAnswers], *arguments: object) -> FormAnswers:
        try:
            pending = self._pool.submit(work, *arguments)
            while not pending.done():
                if self._asked.poll(_PAUSE_SECONDS):
                    answer(self._asked, self._scores)
            return pending.result()
        except BrokenProcessPool:
            self._parents_end.close()
            self._asked.close()
            self._begin()
            return FormAnswers(faults=dict.fromkeys(forms, _DIED))

    def _begin(self) -> None:
        import multiprocessing

        fresh = multiprocessing.get_context(_START)
        childs_end, self._parents_end = fresh.Pipe(duplex=False)
        self._asked, asking = fresh.Pipe()
        self._pool = ProcessPoolExecutor(
            max_workers=1, mp_context=fresh, initializer=_prepare, initargs=(childs_end, asking, is_heard())
        )


@dataclass(frozen=True)
class AskedScores:
    """The base's kept scores, with a process that answers at the other end of a pipe."""

    pipe: Connection

    def find(self, key: str) -> TaskResult | None:
        """As `tracking.base_scores.find`."""
        found: TaskResult | None = self._ask("find", key)
        return found

    def keep(self, key: str, identity: BaseIdentity, result: TaskResult, start: str | None = None) -> None:
        """As `tracking.base_scores.keep`."""
        self._ask("keep", key, identity, result, start)

    def _ask(self, *words: object) -> Any:
        self.pipe.send(words)
        return self.pipe.recv()


def answer(pipe: Connection, scores: KeptScores) -> None:
    """Answer what `AskedScores` asks; nothing if the process at the other end died meanwhile."""
    try:
        what, *words = pipe.recv()
    except (EOFError, OSError):
        return
    found = None
    if what == "find":
        found = scores.find(*words)
    else:
        scores.keep(*words)
    with suppress(OSError):
        pipe.send(found)


_asking: list[KeptScores] = []  # of this process, if it is one that scores


def _prepare(pipe: Connection, asking: Connection, heard: bool) -> None:
    exit_with_parent(pipe)
    _asking[:] = [AskedScores(asking)]
    if heard:  # this process shares the parent's stdout
        listen(_say)


def _say(line: str) -> None:
    sys.stdout.write(f"  {visible(line)}\n")
    sys.stdout.flush()


def exit_with_parent(pipe: Connection) -> None:
    """End this process when the parent closes its end of the pipe, or dies."""

    def wait() -> None:
        with suppress(EOFError, OSError):
            pipe.recv()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def score_trained(job: FormJob, with_base: bool = False) -> FormAnswers:
    """Score a model as it was trained and, if wanted, the base below it.

    Raises:
        TaskError: If a task cannot be loaded or has no locked items.
    """
    from tunery.evaluation.eval_mode import adapter_off
    from tunery.runs.cache import free_memory
    from tunery.tracking.flavor.rebuild import rebuild_base

    project, tasks = _project_and_tasks(job)
    base: Results = {}
    try:
        rebuilt = _load(job, project)
        results = _score_locked(rebuilt.model, rebuilt.loaded.tokenizer, tasks, project)
        if with_base and rebuilt.facts.method == "full":
            del rebuilt  # all weights were trained: the base is a second model
            free_memory()
            base = _score_base(rebuild_base(job.folder, project.training.device), tasks, project)
        elif with_base:
            with adapter_off(rebuilt.model):
                base = _score_base(rebuilt.loaded, tasks, project)
    except _FAULTS as error:
        return FormAnswers(faults={"trained": str(error)})
    primary = tasks.counting(project.evaluation)
    return FormAnswers({"trained": results}, {}, base, primary, {name: tasks.primary[name] for name in tasks.names})


def score_unquantised(job: FormJob, forms: tuple[Form, ...], with_base: bool = False) -> FormAnswers:
    """Score an adapter over 16-bit weights, and then merged into them; loaded once for both.

    The base, if wanted, is scored in the same weights: against a 4-bit base, part of the gain would come from the bits.

    Raises:
        TaskError: As `score_trained`.
    """
    from tunery.evaluation.eval_mode import adapter_off
    from tunery.models.adapter import merge_adapter

    project, tasks = _project_and_tasks(job)
    results: dict[Form, Results] = {}
    base: Results = {}
    try:
        rebuilt = _load(job, project, _sixteen_bits(job.folder))
        tokenizer = rebuilt.loaded.tokenizer
        if with_base:  # first: if it fails, no form may be compared with a base in other weights
            with adapter_off(rebuilt.model):
                base = _score_base(rebuilt.loaded, tasks, project)
        if "adapter" in forms:
            results["adapter"] = _score_locked(rebuilt.model, tokenizer, tasks, project)
        if "merged" in forms:
            results["merged"] = _score_locked(merge_adapter(rebuilt.model, str(job.folder)), tokenizer, tasks, project)
    except _FAULTS as error:
        return FormAnswers(results, {form: str(error) for form in forms if form not in results}, base)
    return FormAnswers(results, base=base)


def _sixteen_bits(folder: Path) -> str:
    """The 16-bit type of a logged model's base: its own, bfloat16 where that has 32."""
    from tunery.tracking.flavor.rebuild import read_facts

    own = read_facts(folder).identity.dtype
    return own if own in ("bfloat16", "float16") else "bfloat16"


def _project_and_tasks(job: FormJob) -> tuple[Project, Tasks]:
    from tunery.tracking.flavor.rebuild import read_facts

    project = project_from(dict(job.tree), str(job.folder), job.home)
    chosen = project.evaluation.chat_template
    chat = read_facts(job.folder).template == "chat" if chosen == "auto" else chosen
    prompts = project.data.model_dump_json(include={"train", "prompt_template", "clean"})
    return project, _tasks(project.evaluation.model_dump_json(), prompts, job.home, chat)


@lru_cache(maxsize=2)
def _tasks(evaluation: str, data: str, home: Path, chat: bool) -> Tasks:
    """Loaded once for all models with the same evaluation settings, and prompts."""
    from tunery.config.data import DataConfig
    from tunery.config.evaluation import EvaluationConfig
    from tunery.errors import TaskError
    from tunery.evaluation.tasks import load_tasks

    settings = EvaluationConfig.model_validate_json(evaluation)
    tasks = load_tasks(settings, home, chat, DataConfig.model_validate_json(data))
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

    free_memory()  # of the previous model, to which no name refers any more
    return rebuild(job.folder, project.training.device, unquantized=dtype)


def _score_locked(model: Any, tokenizer: Any, tasks: Tasks, project: Project) -> Results:
    from tunery.evaluation.score import score_model

    return score_model(model, tokenizer, tasks, project.evaluation, split="locked")


def _score_base(base: Any, tasks: Tasks, project: Project) -> Results:
    from tunery.evaluation.result import restrict
    from tunery.runs.scoring import base_results

    (scores,) = _asking
    results = base_results(scores, base, tasks, project.evaluation)
    return {name: restrict(result, "locked") for name, result in results.items()}
