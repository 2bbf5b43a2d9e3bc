"""What one process keeps from trial to trial: the base, the rows and the tasks, each loaded once."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunery.config.project import Project
from tunery.runs import scoring

if TYPE_CHECKING:
    from tunery.evaluation.tasks import Tasks
    from tunery.models.base import LoadedBase
    from tunery.records import PreparedData


@dataclass
class Resident:
    """Loads what a project needs, and hands out the same object where it was loaded before.

    One base at a time: two of 7 billion weights do not fit beside each other. Rows and tasks are small: all are kept.
    """

    _base: LoadedBase | None = None
    _base_key: object = None
    _tasks: dict[object, Tasks] = field(default_factory=dict)
    _rows: dict[object, PreparedData] = field(default_factory=dict)

    def base(self, project: Project) -> LoadedBase:
        """The base without an adapter.

        Raises:
            BaseModelError, ConfigError, OutOfMemory: As `load_base`.
        """
        from tunery.models.base import load_base

        key = _base_key(project)
        if self._base is None or self._base_key != key:
            self.forget_base()
            free_memory()  # of a failed trial too, whose model its error held when the base was forgotten
            chat = project.data.template == "chat"
            self._base = load_base(project.base, project.folder, project.training.device, chat=chat)
            self._base_key = key
        return self._base

    def tasks(self, project: Project) -> Tasks:
        """The tasks of project.evaluation.

        Raises:
            TaskError: As `load_tasks`.
        """
        from tunery.evaluation.tasks import load_tasks

        key = _task_key(project)
        if key not in self._tasks:
            chat = scoring.asks_through_chat(project)
            self._tasks[key] = load_tasks(project.evaluation, project.folder, chat)
        return self._tasks[key]

    def rows(self, project: Project, tokenizer: Any, tasks: Tasks) -> PreparedData:
        """Rows as tokens.

        Args:
            project: What is trained.
            tokenizer: Of its base, with the template that `load_base` settles.
            tasks: Whose items rows must not repeat.

        Raises:
            DataError: As `prepare`.
        """
        from tunery.data.prepare import prepare

        loss_on, seed = project.training.loss_on, project.training.seed
        drawn = seed if any(source.weight % 1 for source in project.data.train) else None
        key = (project.data.model_dump_json(), loss_on, drawn, project.folder, _words(project), _task_key(project))
        if key not in self._rows:
            self._rows[key] = prepare(project.data, loss_on, project.folder, tokenizer, tasks.texts(), seed)
        return self._rows[key]

    def give_back(self, project: Project, model: Any) -> None:
        """Take an adapter off the base again; a base of which every weight was trained is none any more."""
        from tunery.models.adapter import detach_adapter

        if project.adapter.method == "full":
            self.forget_base()
        else:
            detach_adapter(model)

    def forget_base(self) -> None:
        """Free the base's memory: the next trial loads it afresh."""
        if self._base is None:
            return
        self._base = self._base_key = None
        free_memory()


def free_memory() -> None:
    """Give back what dropped models held, on the device too."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _base_key(project: Project) -> object:
    return (project.base.model_dump_json(), project.folder, project.training.device, project.data.template)


def _words(project: Project) -> object:
    """What decides how a base tokenises, whatever its weights are stored as."""
    base = project.base
    return (base.model, base.revision, base.chat_template, base.trust_remote_code)


def _task_key(project: Project) -> object:
    return (project.evaluation.model_dump_json(), project.folder, scoring.asks_through_chat(project))
