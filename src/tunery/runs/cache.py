"""What a run works on, and what one process keeps from trial to trial: base, rows and tasks, each loaded once."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from tunery.config.data import SourceConfig
from tunery.config.project import Project
from tunery.config.units import format_bytes
from tunery.data.context import Context
from tunery.data.teacher_rows import TeacherRows
from tunery.errors import BaseModelError, Fault, Infeasible, Pruned, TaskError
from tunery.runs.context import check_context, context_of
from tunery.runs.observer import Observer
from tunery.training.targets import require_validation

if TYPE_CHECKING:
    from tunery.evaluation.items import Split
    from tunery.evaluation.tasks import Tasks
    from tunery.models.base import LoadedBase
    from tunery.models.start import StartAdapter
    from tunery.records.rows import PreparedData
    from tunery.records.runs import AdapterFacts
    from tunery.tracking.store import Store


@dataclass(frozen=True)
class Loaded:
    """What a run works on, in memory."""

    project: Project  # the settings
    base: LoadedBase  # the base model, with its tokenizer: what scores are compared with
    tasks: Tasks  # with their items
    model: Any  # what is trained or scored: the base's own model, or the same with an adapter on it
    data: PreparedData | None = None  # rows as tokens; None for an evaluation, which reads none
    adapter: AdapterFacts | None = None  # what the adapter matched; None where none was attached for training
    own_tokenizer: Any = None  # of a model that has other tokens than its base
    start: StartAdapter | None = None  # what training begins with instead of a new adapter
    context: Context | None = None  # of in-context learning: what the model, but not its base, is asked after
    teacher: TeacherRows | None = None  # of context distillation: the rows after the context

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, which is the base's unless tokens were added."""
        return self.base.tokenizer if self.own_tokenizer is None else self.own_tokenizer

    @property
    def asked(self) -> Tasks:
        """The tasks as the model is asked them; its base is asked `tasks`."""
        return self.tasks if self.context is None else self.tasks.in_context(self.context)

    @property
    def rows(self) -> PreparedData:
        """The rows of a run that trains."""
        assert self.data is not None, "an evaluation reads no rows"
        return self.data


@dataclass
class Resident:
    """Loads what a project needs, and returns the same object if it was loaded before.

    One base at a time: two of 7 billion weights do not fit beside each other. Rows and tasks are small: all are kept.
    """

    in_pack: bool = False  # several trials are on the base at once, each on modules of its own
    _base: LoadedBase | None = None
    _base_key: object = None
    _tasks: dict[object, Tasks] = field(default_factory=dict)
    _rows: dict[object, PreparedData] = field(default_factory=dict)
    _starts: dict[object, StartAdapter | None] = field(default_factory=dict)
    _tokenizer: tuple[object, Any] | None = None
    _teacher: tuple[object, TeacherRows] | None = None

    def prepare(self, project: Project, splits: Sequence[Split]) -> PreparedData:
        """Tasks and rows: all of a run that needs no model, so that what is wrong with them is known first.

        Args:
            splits: Each task that counts must have an item of each of these: to choose by, or to report by.

        Raises:
            TaskError: If a task cannot be loaded, or has no item of one of the splits.
            BaseModelError, ConfigError: As `load_tokenizer`; or if the checkpoint cannot be chosen as it is to be.
            DataError: As `prepare` of the data.
        """
        tasks = self.tasks(project)
        _require_items(project, tasks, splits)
        rows = self.rows(project, tasks)
        require_validation(project.training, rows)
        context = context_of(project, rows)
        if context is not None:
            check_context(context, project, tasks, rows, self.tokenizer(project))
        self.teacher(project, rows)
        return rows

    def load(
        self,
        project: Project,
        splits: Sequence[Split],
        observer: Observer,
        memory_bytes: int | None = None,
        start: StartAdapter | None = None,
    ) -> Loaded:
        """Everything that a run of the project needs, except for the adapter.

        Args:
            splits: As for `prepare`.
            memory_bytes: Available memory. A run that is estimated to need more is refused before its base is loaded;
                None: no limit.
            start: From `start`.

        Raises:
            TaskError, DataError: As `prepare`.
            Infeasible: If memory is estimated not to suffice.
            BaseModelError, ConfigError, OutOfMemory: As `load_base`.
        """
        rows, tasks = self.prepare(project, splits), self.tasks(project)
        teacher = self.teacher(project, rows)
        if memory_bytes is not None:
            _require_memory(project, rows, teacher, memory_bytes)
        observer.step(f"loading {project.base.model} ({project.base.quantization})")
        base = self.base(project)
        context = context_of(project, rows)
        return Loaded(project, base, tasks, base.model, rows, start=start, context=context, teacher=teacher)

    def start(self, project: Project, store: Store) -> StartAdapter | None:
        """The adapter that the project's training begins with, held against its settings; None: a new one.

        Raises:
            RefError, BaseModelError: As `find_start`.
        """
        from tunery.runs.start import find_start

        adapter, base = project.adapter.model_dump_json(exclude={"dropout"}), project.base.model_dump_json()
        key = (adapter, base, project.folder, project.training.trains)
        if key not in self._starts:
            self._starts[key] = find_start(project, store)
        return self._starts[key]

    @contextmanager
    def adapted(self, loaded: Loaded) -> Iterator[Loaded]:
        """Put the project's adapter on the base, and take it off again.

        A run that was pruned, which happens between two steps, leaves the base reusable. After any other failure its
        state is unknown, and it is dropped.

        Raises:
            ConfigError, BaseModelError: As `attach_adapter`.
        """
        from tunery.models.adapter import attach_adapter

        project = loaded.project
        if self.in_pack:
            yield self._beside_others(loaded)
            return
        attached = attach_adapter(loaded.base, project.adapter, project.training.seed, loaded.start)
        try:
            yield replace(loaded, model=attached.model, adapter=attached.facts)
        except Pruned:
            self.give_back(project, attached.model)
            raise
        except BaseException:
            self.forget_base()
            raise
        self.give_back(project, attached.model)

    def _beside_others(self, loaded: Loaded) -> Loaded:
        """The adapter on modules that share the base's weights, and are dropped with it."""
        from tunery.models.adapter import attach_adapter
        from tunery.models.sharing import sharing_weights

        project = loaded.project
        if project.adapter.method == "full":
            raise Infeasible("full fine-tuning changes the base, on which other trials stand: set search.pack: off")
        own = replace(loaded.base, model=sharing_weights(loaded.base.model))
        attached = attach_adapter(own, project.adapter, project.training.seed, loaded.start)
        return replace(loaded, model=attached.model, adapter=attached.facts)

    def base(self, project: Project) -> LoadedBase:
        """The base without an adapter.

        Raises:
            BaseModelError, ConfigError, OutOfMemory: As `load_base`.
        """
        from tunery.models.base import load_base

        key = (project.base.model_dump_json(), project.folder, project.training.device, project.data.template)
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
            chat = asks_through_chat(project)
            self._tasks[key] = load_tasks(project.evaluation, project.folder, chat, project.data)
        return self._tasks[key]

    def rows(self, project: Project, tasks: Tasks) -> PreparedData:
        """Rows as tokens, by the base's tokenizer with the template that `load_base` settles.

        Args:
            tasks: Rows that repeat an item of these are found.

        Raises:
            BaseModelError, ConfigError: As `load_tokenizer`.
            DataError: As `prepare` of the data.
        """
        from tunery.data.prepare import prepare

        loss_on, seed = project.training.loss_on, project.training.seed
        drawn = seed if any(_is_drawn(source) for source in project.data.train) else None
        key = (project.data.model_dump_json(), loss_on, drawn, _tokenizer_key(project), _task_key(project))
        if key not in self._rows:
            tokenizer = self.tokenizer(project)
            self._rows[key] = prepare(project.data, loss_on, project.folder, tokenizer, tasks.asked(), seed)
        return self._rows[key]

    def tokenizer(self, project: Project) -> Any:
        """The base's tokenizer alone; the last one is kept.

        Raises:
            BaseModelError, ConfigError: As `load_tokenizer`.
        """
        from tunery.models.base import load_tokenizer

        key = _tokenizer_key(project)
        if self._tokenizer is None or self._tokenizer[0] != key:
            chat = project.data.template == "chat"
            self._tokenizer = (key, load_tokenizer(project.base, project.folder, chat=chat))
        return self._tokenizer[1]

    def teacher(self, project: Project, rows: PreparedData) -> TeacherRows | None:
        """The rows after the context of context distillation; None for another method. The last ones are kept.

        Raises:
            DataError, ConfigError: As `TeacherRows.check`.
        """
        distilled, training = project.training.distils, project.training
        if distilled is None:
            return None
        key = (id(rows), distilled.model_dump_json(), training.seed)
        if self._teacher is None or self._teacher[0] != key:
            tokenizer = self.tokenizer(project)
            found = TeacherRows(rows, tokenizer, project.data, training.loss_on, distilled, training.seed)
            found.check()
            self._teacher = (key, found)
        return self._teacher[1]

    def give_back(self, project: Project, model: Any) -> None:
        """Take an adapter off the base; after full training there is no base left, and the next is loaded afresh."""
        from tunery.models.adapter import detach_adapter

        if project.adapter.method == "full":
            self.forget_base()
        else:
            detach_adapter(model)

    def forget_base(self) -> None:
        """Free the base's memory: the next trial loads it afresh."""
        if self._base is not None:
            self._base = self._base_key = None
            free_memory()


def _is_drawn(source: SourceConfig) -> bool:
    """Whether training.seed decides which of its rows are used."""
    return source.weight % 1 > 0 or (source.sample is not None and source.sample.seed == "training")


def free_memory() -> None:
    """Release what dropped models held, on the device too."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _require_memory(project: Project, rows: PreparedData, teacher: TeacherRows | None, memory_bytes: int) -> None:
    from tunery.estimation.estimate import estimate

    # The longest row decides: data.max_length may allow more tokens than any row has.
    longest = max(len(row.input_ids) for row in rows.train)
    length = None if project.training.packing else longest
    context = None if teacher is None else max(0, teacher.longest() - longest)
    try:
        needed = estimate(project, length=length, context=context).total_bytes
    except BaseModelError:  # an architecture with code of its own: its need is unknown until it is loaded
        return
    if needed > memory_bytes:
        sizes = f"{format_bytes(needed)} of memory, and there is {format_bytes(memory_bytes)}"
        raise Infeasible(f"needs about {sizes}: nothing was loaded")


def _require_items(project: Project, tasks: Tasks, splits: Sequence[Split]) -> None:
    """Refuse a dev_fraction that leaves nothing to choose by, or nothing to report by afterwards."""
    fraction = project.evaluation.dev_fraction
    faults = []
    for name, split in product(tasks.counting(project.evaluation), splits):
        if not any(tasks.leaves[leaf].chosen(split, 1, fraction) for leaf in tasks.members.get(name, (name,))):
            rule = f"one that leaves {name} a {split} item to choose or to report by"
            advice = f"{'Raise' if split == 'dev' else 'Lower'} it, or raise evaluation.limit."
            faults.append(Fault("evaluation.dev_fraction", rule, fraction, advice))
    if faults:
        raise TaskError("evaluation", faults)


def asks_through_chat(project: Project) -> bool:
    """Whether items are asked through the chat template; auto: as the model was trained."""
    chosen = project.evaluation.chat_template
    return project.data.template == "chat" if chosen == "auto" else chosen


def _tokenizer_key(project: Project) -> object:
    """All that decides how a base tokenises, whatever its weights are stored as."""
    base = project.base
    told = base.model_dump_json(include={"chat_template", "chat_template_arguments", "chat_template_date"})
    return base.model, base.revision, told, base.trust_remote_code, project.folder, project.data.template


def _task_key(project: Project) -> object:
    data = project.data
    # What sets of answers share with the rows that are trained on: their prompts.
    prompts = (data.prompt_template, data.clean.strip_markup, data.clean.keep) if project.evaluation.answers else None
    return (project.evaluation.model_dump_json(), project.folder, asks_through_chat(project), prompts)
