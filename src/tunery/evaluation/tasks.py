"""The tasks of a project, from names to documents: resolved once, kept, and scored as often as needed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunery.config.data import DataConfig
from tunery.config.evaluation import EvaluationConfig
from tunery.config.fields import nearest
from tunery.data.context import Context
from tunery.data.prompt_template import check_template
from tunery.data.reading.hub import asked_once
from tunery.data.reading.load import locate
from tunery.errors import Fault, TaskError, TuneryError
from tunery.evaluation.code import RUNS_CODE, code_allowed, refuse_code, runs_code
from tunery.evaluation.few_shot import FEW_SHOT_SEED
from tunery.evaluation.items import Leaf
from tunery.evaluation.prompts import compiled_once
from tunery.evaluation.task_files import (
    OwnTask,
    absent_items,
    all_own,
    own_tasks,
    task_folders,
    unknown_task,
    without_hub,
)
from tunery.evaluation.task_manager import (
    full_manager,
    group_version,
    members_prompt,
    members_version,
    own_manager,
    prompt_digest,
    quiet,
    task_version,
)
from tunery.records.rows import AskedItems
from tunery.records.scores import TaskResult, TaskSettings


@dataclass
class TokenCache:
    """Token ids of texts, by one tokenizer at a time; see `lm.Scorer`."""

    ids: dict[Any, Any] = field(default_factory=dict)
    tokenizer: object = None

    def for_tokenizer(self, tokenizer: object) -> dict[Any, Any]:
        """The ids that this tokenizer made so far; empty for another tokenizer."""
        if tokenizer != self.tokenizer:
            self.ids, self.tokenizer = {}, tokenizer
        return self.ids


@dataclass
class Tasks:
    """Loaded tasks."""

    names: tuple[str, ...]  # what is asked for: tasks, groups and tags, then sets of answers, in order
    chat_template: bool
    settings: Mapping[str, TaskSettings]  # of every leaf task and of every name
    primary: Mapping[str, str]  # the metric of each name that counts, as its scores call it
    higher_is_better: Mapping[str, Mapping[str, bool]]  # by leaf task and name, then metric
    members: Mapping[str, tuple[str, ...]]  # the leaf tasks of each name
    leaves: Mapping[str, Leaf]  # leaf tasks, by name
    groups: Mapping[str, Any]  # lm-eval's groups, by name
    answers: tuple[str, ...] = ()  # leaf tasks that are sets of answers
    allow_code: bool = False  # whether code that the model writes is run
    # Token ids of every request, kept from one scoring to the next; a part of the tasks shares them.
    encoded: TokenCache = field(default_factory=TokenCache, repr=False)
    # Results of the base that were looked up, by key: reading those of 35 tasks again took half of a short trial.
    looked_up: dict[str, TaskResult] = field(default_factory=dict, repr=False)

    def asked(self) -> AskedItems:
        """What the tasks ask, for the rows that are trained on."""
        leaves = self.leaves
        joins = {} if self.chat_template else {name: leaf.join for name, leaf in leaves.items()}
        return AskedItems(
            texts={name: list(leaf.texts) for name, leaf in leaves.items()},
            joins={name: join for name, join in joins.items() if join is not None},
            references={name: leaves[name].pairs for name in self.answers},
        )

    def counting(self, evaluation: EvaluationConfig) -> dict[str, str]:
        """The metric of each task that counts towards the run's score."""
        return {name: self.primary[name] for name in (evaluation.primary or self.names)}

    def in_context(self, context: Context) -> Tasks:
        """The same tasks, on the same items and under the same conditions, asked after solved examples.

        Token ids are not shared: nobody asks for the prompts of one context after another's.
        """
        leaves = {name: leaf.in_context(context) for name, leaf in self.leaves.items()}
        return replace(self, leaves=leaves, encoded=TokenCache())

    def only(self, names: Iterable[str]) -> Tasks:
        """Without the leaves that none of the names needs, and without groups that would then be incomplete.

        What was tokenised and built for the one serves the other.
        """
        needed = {leaf for name in names for leaf in self.members.get(name, (name,))}
        if needed == set(self.leaves):
            return self  # the same object: what it keeps of tokens serves the next scoring too
        members = {name: leaves for name, leaves in self.members.items() if needed.issuperset(leaves)}
        return replace(
            self,
            leaves={name: leaf for name, leaf in self.leaves.items() if name in needed},
            members=members,
            answers=tuple(name for name in self.answers if name in needed),
            groups={name: group for name, group in self.groups.items() if name in members},
        )


def check_tasks(evaluation: EvaluationConfig, folder: Path) -> None:
    """Check the names of evaluation.tasks and the sources of evaluation.answers; our own tasks without loading lm-eval,
    which takes seconds to index.

    Raises:
        DataError: If the file of a set of answers is not there, or its prompt template cannot be used.
        TaskError: If a name is unknown, or a file of our own tasks is not there; all of them at once.
    """
    for answers in evaluation.answers:
        locate(answers, folder)
        if answers.prompt_template is not None:
            check_template(answers.prompt_template)
    folders = task_folders(evaluation, folder)
    own = own_tasks(folders)
    absent = list(absent_items(evaluation.tasks, own))
    if absent:
        raise TaskError("evaluation", absent)
    if all_own(evaluation.tasks, own):
        return
    known = [*own, *full_manager(folders).all_tasks]
    faults = [unknown_task(name, known) for name in evaluation.tasks if name not in known]
    if faults:
        raise TaskError("evaluation", faults)


def load_tasks(
    evaluation: EvaluationConfig, folder: Path, chat_template: bool, data: DataConfig | None = None
) -> Tasks:
    """Load the tasks that evaluation.tasks names, with their documents, few-shot setting and limit.

    Args:
        evaluation: The section `evaluation`.
        folder: Folder of project.yaml, where evaluation.task_folders start.
        chat_template: Whether items are asked through the chat template.
        data: The section `data`: prompts of sets of answers are templated and cleaned as its rows are. None: as they
            stand.

    Raises:
        TaskError: If a task is unknown, its dataset cannot be reached, or it cannot be scored here.
    """
    check_tasks(evaluation, folder)
    answers = _answers(evaluation, folder, data)
    folders = task_folders(evaluation, folder)
    own = own_tasks(folders)
    manager = own_manager(folders) if all_own(evaluation.tasks, own) else full_manager(folders)
    if not evaluation.allow_code:
        refuse_code(evaluation.tasks, manager)
    with (
        code_allowed(evaluation.allow_code),
        nullcontext() if without_hub(evaluation.tasks, own) else asked_once() as silent,
    ):
        loaded = [_load(name, manager, silent) for name in evaluation.tasks]
    leaves = {
        name: Leaf(name, _configured(task, evaluation), evaluation.limit)
        for found in loaded
        for name, task in found["tasks"].items()
    }
    leaves |= {name: Leaf(name, task, evaluation.limit) for name, task in answers.items()}
    groups = {name: group for found in loaded for name, group in found["groups"].items()}
    members = {name: tuple(found["tasks"]) for name, found in zip(evaluation.tasks, loaded, strict=True)}
    members |= {name: (name,) for name in answers}
    members |= {name: tuple(task.task_name for task in group.get_all_tasks()) for name, group in groups.items()}
    with compiled_once():
        settings = _settings(leaves, members, groups, own, evaluation, chat_template)
    parts = {name: [leaves[leaf] for leaf in members.get(name, (name,))] for name in (*leaves, *members)}
    return Tasks(
        names=tuple(evaluation.names),
        chat_template=chat_template,
        settings=settings,
        primary={
            name: _primary(name, found, groups.get(name), evaluation.primary.get(name)) for name, found in parts.items()
        },
        higher_is_better={name: _directions(found) for name, found in parts.items()},
        members=members,
        leaves=leaves,
        groups=groups,
        answers=tuple(answers),
        allow_code=evaluation.allow_code,
    )


def _answers(evaluation: EvaluationConfig, folder: Path, data: DataConfig | None) -> dict[str, Any]:
    if not evaluation.answers:
        return {}
    from tunery.evaluation.written_answers import WrittenAnswers

    with quiet():
        clean = data.clean if data else None
        asked = {one.name: data.templated(one) if data else one for one in evaluation.answers}
        taught = {one.name: asked[one.name] is not one for one in evaluation.answers}
        return {name: WrittenAnswers(one, folder, clean, taught[name]) for name, one in asked.items()}


def _load(name: str, manager: Any, silent: str | None) -> Any:
    state = random.getstate()
    # Some tasks shuffle their options while documents are processed.
    random.seed(FEW_SHOT_SEED)
    try:
        with quiet():
            return manager.load([name])
    except TuneryError:  # a signal's Interrupted may come at any line
        raise
    except Exception as error:  # a task is code and data of others and may fail in any way
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        advice = "Its dataset may be out of reach: check the network, or HF_HOME for a copy on disk."
        fault = f"cannot be loaded ({type(error).__name__}: {reason}). {advice}"
        if silent and isinstance(error, ConnectionError):
            fault = (
                f"its dataset is not in the local cache, and the Hub cannot be reached ({silent}). Check the network."
            )
        if isinstance(error, ImportError):
            fault = f"needs a package that is not installed ({reason}). Install it, or leave the task out."
        raise TaskError(f"evaluation.tasks: {name}", fault) from error
    finally:
        random.setstate(state)


def _configured(task: Any, evaluation: EvaluationConfig) -> Any:
    """Set the task's few-shot number by lm-eval's rule: a 0 in the task's own file stays 0."""
    where = f"evaluation.tasks: {task.task_name}"
    if runs_code(task) and not evaluation.allow_code:
        raise TaskError(where, RUNS_CODE)
    if getattr(task, "MULTIMODAL", False):
        raise TaskError(where, "uses images or sound, which a text model cannot read. Leave the task out.")
    for metric in (metric for metric, aggregation in task.aggregation().items() if aggregation is None):
        raise TaskError(where, f"the aggregation of its metric {metric!r} is unknown to lm-eval. Try mean.")
    own = task.get_config("num_fewshot")
    if evaluation.few_shot is not None and own != 0:
        task.set_config(key="num_fewshot", value=evaluation.few_shot)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)
    return task


def _settings(
    leaves: Mapping[str, Leaf],
    members: Mapping[str, Sequence[str]],
    groups: Mapping[str, Any],
    own: Mapping[str, OwnTask],
    evaluation: EvaluationConfig,
    chat_template: bool,
) -> dict[str, TaskSettings]:
    settings = {
        name: TaskSettings(
            task=name,
            version=task_version(leaf.task, own.get(name), guarded=leaf.few_shot.replaced > 0),
            few_shot=leaf.task.get_config("num_fewshot") or 0,
            limit=evaluation.limit,
            chat_template=chat_template,
            # lm-eval's own results are of other prompts where it showed items their own answers.
            prompt=prompt_digest(leaf.task.dump_config()) + ("-guarded" if leaf.few_shot.replaced else ""),
            wording=getattr(leaf.task, "wording", ""),
        )
        for name, leaf in leaves.items()
    }
    for name, leaf_names in members.items():
        if name not in settings:
            versions = [(leaf, settings[leaf].version) for leaf in leaf_names]
            version = group_version(groups.get(name), versions, own.get(name))
            shots = max((settings[leaf].few_shot for leaf in leaf_names), default=0)
            settings[name] = TaskSettings(
                name,
                version,
                shots,
                evaluation.limit,
                chat_template,
                prompt=members_prompt(settings[leaf].prompt for leaf in leaf_names),
                members=members_version(version for _, version in versions),
            )
    return settings


def _primary(name: str, leaves: Sequence[Leaf], group: Any | None, wanted: str | None) -> str:
    known = list(dict.fromkeys(metric for leaf in leaves for metric in metric_names(leaf.task)))
    if not known:
        raise TaskError(f"evaluation.tasks: {name}", "has no metric, so it gives no score. Leave it out.")
    if wanted is None:
        aggregated = [] if group is None else group.aggregate_metric_list or []
        return next((metric for entry in aggregated for metric in known if _is(metric, entry.metric)), known[0])
    match = next((metric for metric in known if _is(metric, wanted)), None)
    if match is None:
        rule = f"a metric of the task: {', '.join(known)}"
        raise TaskError("evaluation", Fault(f"evaluation.primary.{name}", rule, wanted, nearest(wanted, known)))
    return match


def metric_names(task: Any) -> list[str]:
    """Names of a task's metrics in its own order; `metric.filter` where the task has several filters."""
    metrics = list(task.aggregation())
    filters = [ensemble.name for ensemble in task._filters]
    return [column_name(metric, filter_name, len(filters)) for metric in metrics for filter_name in filters]


def column_name(metric: str, filter_name: str, filters: int) -> str:
    """lm-eval writes `exact_match,strict-match`; MLflow allows no comma in a metric's name."""
    return metric if filters <= 1 else f"{metric}.{filter_name}"


def _is(metric: str, wanted: str) -> bool:
    wanted = wanted.replace(",", ".")
    return metric == wanted or metric.partition(".")[0] == wanted or f"{metric}.none" == wanted


def _directions(leaves: Sequence[Leaf]) -> dict[str, bool]:
    directions: dict[str, bool] = {}
    for leaf in leaves:
        higher = leaf.task.higher_is_better()
        directions |= {name: bool(higher.get(name.partition(".")[0], True)) for name in metric_names(leaf.task)}
    return directions
