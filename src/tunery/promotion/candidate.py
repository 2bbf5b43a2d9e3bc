"""The candidate of `tunery promote`: a model whose run finished and keeps its answers, and the rules to judge it by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.config.load import load_project, project_from
from tunery.config.project import Project
from tunery.config.promotion import PromotionConfig
from tunery.errors import ConfigError, Fault, InputError, RefError

if TYPE_CHECKING:
    import pandas as pd

    from tunery.tracking.registry import ModelRef
    from tunery.tracking.store import Store

Overrides = Sequence[tuple[str, str]]
_TRAINED = ("train", "trial")


@dataclass(frozen=True)
class Candidate:
    """A model that may become the champion."""

    model: ModelRef  # the logged model
    run_id: str  # the run that trained it
    name: str  # of the registered model
    version: int | None  # None while it is not registered, as a trial that did not win
    project: Project  # its tasks are scored; the settings of the training stay as they were
    rules: PromotionConfig  # the project's section `promotion`
    rules_from: str  # which project the rules come from, for people
    recorded: Mapping[str, pd.DataFrame]  # the answers that its run keeps, by task
    # Share of items that it may have been chosen on: the larger of its own project's and this one's.
    dev_fraction: float
    notes: tuple[str, ...] = ()  # what a reader should know

    @property
    def label(self) -> str:
        """ "quickstart/3", or its run if it is not registered."""
        return f"run {self.run_id}" if self.version is None else f"{self.name}/{self.version}"


def find_candidate(ref: str, project: str | None, overrides: Overrides, store: Store) -> Candidate:
    """Follow a reference, and check the model and its rules before anything is loaded.

    Args:
        ref: models:/name/3, models:/name@alias, runs:/id, a run id, a study's run id or its name.
        project: Folder or file of a project whose tasks and rules are used; by default the model's own, as trained.
        overrides: Config keys with other values: ("promotion.min_gain", "0.01").

    Raises:
        RefError: If it leads nowhere, or to a run that did not finish, has no scores, or scores that are NaN.
        ConfigError: If the project has no rules, or its settings cannot be used.
    """
    from tunery.promotion.store import find_model, origin_of, recorded_answers
    from tunery.runs.resolve_model import as_trained
    from tunery.tracking.run_facts import project_folder, run_config

    model = find_model(ref, store)
    run = origin_of(model, store)
    run_id, kind = str(run.info.run_id), run.data.tags.get("tunery.kind")
    if kind not in _TRAINED:
        raise RefError(ref, Fault(f"the kind of its run {run_id}", " or ".join(_TRAINED), kind))
    tree, home = run_config(store, run_id), project_folder(store, run_id)
    if tree is None:
        raise RefError(ref, f"its run {run_id} keeps no config/project.yaml, so its tasks are unknown.")
    settings = as_trained(tree, ref, home or Path.cwd(), project, overrides)
    rules_from = project or f"{settings.name}, as it was trained"
    rules = _rules(settings, rules_from)
    return Candidate(
        model=model,
        run_id=run_id,
        name=model.name or str(tree["name"]),
        version=model.version,
        project=settings,
        rules=rules,
        rules_from=rules_from,
        recorded=recorded_answers(run_id, store),
        dev_fraction=max(settings.evaluation.dev_fraction, tree["evaluation"]["dev_fraction"]),
        notes=_notes(tree, home, project),
    )


def _rules(settings: Project, rules_from: str) -> PromotionConfig:
    if settings.promotion is None:
        advice = "Add `promotion: {min_gain: 0.0}` and give --project, or give --promotion.min_gain 0.0."
        raise ConfigError(rules_from, Fault("there are no rules for a promotion (section `promotion`)", advice=advice))
    return settings.promotion


def _notes(tree: Mapping[str, object], home: Path | None, project: str | None) -> tuple[str, ...]:
    """A note if the rules in the project's file have changed since the training, whose rules are used by default."""
    if project is not None or home is None or not (home / "project.yaml").is_file():
        return ()
    try:
        now, then = load_project(home), project_from(deepcopy(dict(tree)), "the run's config", home)
    except InputError:  # the file no longer loads, which does not concern this command
        return ()
    if now.name != then.name or now.promotion == then.promotion:
        return ()
    return (f"{home / 'project.yaml'} has other rules now; --project {home} judges by those.",)
