"""What `tunery evaluate` is pointed at: a reference becomes a model in memory, and the project that it is judged by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tunery.config.load import load_project, project_from
from tunery.config.project import Project
from tunery.errors import ConfigError, Fault, RefError

if TYPE_CHECKING:
    from tunery.models.base import LoadedBase
    from tunery.tracking.store import Store

_ADAPTER = "adapter_config.json"
# An evaluation reads no training rows; the key is needed, and this is never opened.
_NO_ROWS = {"train": [{"source": "none"}]}

Overrides = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Subject:
    """A model to score.

    Args:
        model: With its adapter, if it has one.
        base: What lies below the adapter; the same model where there is none.
        adapted: Whether the model differs from its base, so that there is something to compare.
        project: Where the settings of the evaluation come from.
        version: "name/3" where it is registered, else None.
        model_id: MLflow's id of the logged model, which scores are linked with.
    """

    model: Any
    base: LoadedBase
    adapted: bool
    project: Project
    version: str | None = None
    model_id: str | None = None


def load_subject(ref: str, project: str | None, overrides: Overrides, store: Store) -> Subject:
    """Follow a reference and load what it leads to.

    Args:
        ref: models:/name@alias, models:/name/3, runs:/id, an adapter folder, a model folder, a hub id, or builtin:tiny.
        project: A project whose settings are used; by default those that the model was trained with, or plain ones.
        overrides: Laid over these settings.
        store: MLflow's store.

    Raises:
        RefError: If the reference leads nowhere.
        BaseModelError: If the model cannot be loaded.
        ConfigError: If the settings cannot be used.
    """
    if ref.startswith(("models:/", "runs:/")):
        return _logged(ref, project, overrides, store)
    folder = Path(ref).expanduser()
    if (folder / "MLmodel").is_file():
        return _rebuilt(folder, project, overrides, _plain(ref))
    if (folder / _ADAPTER).is_file():
        return _adapter(folder, project, overrides)
    return _bare(ref, project, overrides)


def _logged(ref: str, project: str | None, overrides: Overrides, store: Store) -> Subject:
    from tunery.tracking.registry import download, resolve, run_config

    found = resolve(ref, store)
    tree = run_config(store, found.run_id) if found.run_id else None
    version = f"{found.name}/{found.version}" if found.version is not None else None
    with TemporaryDirectory(prefix="tunery-") as place:
        folder = download(found, Path(place), store)
        return _rebuilt(folder, project, overrides, tree or _plain(ref), version, found.model_id)


def _rebuilt(
    folder: Path,
    project: str | None,
    overrides: Overrides,
    tree: dict[str, Any],
    version: str | None = None,
    model_id: str | None = None,
) -> Subject:
    from tunery.tracking.rebuild import rebuild

    settings = _settings(project, overrides, tree, str(folder))
    rebuilt = rebuild(folder, settings.training.device)
    adapted = rebuilt.facts.method != "full"
    return Subject(rebuilt.model, rebuilt.loaded, adapted, settings, version, model_id)


def _adapter(folder: Path, project: str | None, overrides: Overrides) -> Subject:
    """An adapter that any tool saved; its base is named in its own file."""
    from tunery.models.adapter import load_adapter

    named = json.loads((folder / _ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not named:
        fault = Fault("base_model_name_or_path", "the name of the adapter's base", named, "Give --base.model.")
        if not any(key == "base.model" for key, _ in overrides):
            raise RefError(str(folder / _ADAPTER), fault)
    settings = _settings(project, overrides, _plain(str(named)), str(folder))
    base = _load(settings)
    return Subject(load_adapter(base, folder), base, True, settings)


def _bare(ref: str, project: str | None, overrides: Overrides) -> Subject:
    settings = _settings(project, [*overrides, ("base.model", json.dumps(ref))], _plain(ref), ref)
    base = _load(settings)
    return Subject(base.model, base, False, settings)


def _load(project: Project) -> LoadedBase:
    from tunery.models.base import load_base

    return load_base(project.base, project.folder, project.training.device, chat=project.data.template == "chat")


def _settings(project: str | None, overrides: Overrides, tree: dict[str, Any], where: str) -> Project:
    """Checked before a model is loaded: a misspelt task should not cost the loading of 7 billion weights."""
    from tunery.evaluation.tasks import check_tasks

    settings = load_project(project, overrides) if project else project_from(tree, where, Path.cwd(), overrides)
    if not settings.evaluation.tasks:
        fault = Fault("evaluation.tasks", "at least one task", [], "Try --evaluation.tasks '[world_facts]'.")
        raise ConfigError(settings.name, fault)
    check_tasks(settings.evaluation, settings.folder)
    return settings


def _plain(model: str) -> dict[str, Any]:
    """Settings where none are recorded: the base as named, everything else by default."""
    return {"name": "evaluation", "base": {"model": model}, "data": dict(_NO_ROWS)}
