"""From a reference to a model in memory, with the project that it is evaluated by."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tunery.config.fingerprint import flatten
from tunery.config.load import load_project, project_from
from tunery.config.project import Project, resolved
from tunery.errors import BaseModelError, ConfigError, Fault, RefError

if TYPE_CHECKING:
    from tunery.evaluation.items import Split
    from tunery.models.base import LoadedBase
    from tunery.runs.cache import Resident
    from tunery.tracking.store import Store

_ADAPTER = "adapter_config.json"
# An evaluation reads no training rows, but a project must name some; this source is never opened.
_NO_ROWS = {"train": [{"source": "none"}]}
# These sections describe the trained model, and no evaluation can change them; only where its weights lie is free.
_OF_THE_MODEL = ("base", "adapter", "data", "training")
_FREE = ("training.device", "base.offload")

Overrides = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class EvaluatedModel:
    """A model to score."""

    model: Any  # with its adapter, if it has one
    # What it was trained from: the model below the adapter, a second model if every weight was trained, or the same
    # model if it is a bare base.
    base: LoadedBase
    adapted: bool  # whether the model differs from its base
    project: Project  # the settings of the evaluation
    split: Split = "all"  # which items the score is computed on: "locked" if the model was chosen on the others
    version: str | None = None  # "name/3" if it is registered, else None
    model_id: str | None = None  # MLflow's id of the logged model, to which scores are linked
    run_id: str | None = None  # of the run that trained it, as far as its files or MLflow say
    tokenizer: Any = None  # of a model that has other tokens than its base
    notes: tuple[str, ...] = ()  # what a person should know of how it was loaded
    load_seconds: float = 0.0  # of the model, base and adapter together


def load_evaluated_model(
    ref: str, project: str | None, overrides: Overrides, store: Store, resident: Resident | None
) -> EvaluatedModel:
    """Load the model that a reference leads to, once its tasks are loaded and all else that can be checked is right.

    Args:
        ref: models:/name@alias, models:/name/3, runs:/id, an adapter folder, a model folder, a hub id, or builtin:tiny.
        project: A project whose settings are used; by default those of the model's training, else default settings.
        overrides: Laid over these settings.
        store: MLflow's store.
        resident: Keeps the tasks; None: the model is not scored, and needs none.

    Raises:
        RefError: If the reference leads nowhere.
        TaskError: If a task or its metric is unknown, or its dataset is out of reach; before a model is loaded.
        BaseModelError: If the model cannot be loaded.
        ConfigError: If the settings cannot be used.
    """
    if ref.startswith(("models:/", "runs:/")):
        return _logged(ref, project, overrides, store, resident)
    folder = Path(ref).expanduser()
    if (folder / "MLmodel").is_file():
        from tunery.tracking.flavor.rebuild import run_of

        run_id = run_of(folder)
        return replace(_rebuilt(folder, ref, project, overrides, resident, *_origin(store, run_id)), run_id=run_id)
    if (folder / _ADAPTER).is_file():
        return _adapter(folder, project, overrides, resident)
    from tunery.models.offload import offload_notes

    settings = _bare_settings(ref, project, overrides)
    _prepare_tasks(settings, resident)
    base = _load_base(settings)
    notes = offload_notes(base.offloaded)
    return EvaluatedModel(base.model, base, False, settings, notes=notes, load_seconds=base.load_seconds)


def settings_of(ref: str, project: str | None, overrides: Overrides, store: Store) -> Project:
    """The settings that a reference's model is loaded with; no weights are read, and no base is downloaded.

    Raises:
        RefError, ConfigError: As `load_evaluated_model`.
        BaseModelError: If the base is not there, or this machine cannot hold it.
    """
    if ref.startswith(("models:/", "runs:/")):
        from tunery.tracking.registry import download, resolve

        found = resolve(ref, store)
        with TemporaryDirectory(prefix="tunery-") as place:
            folder = download(found, Path(place), store)
            return _trained_settings(folder, ref, project, overrides, *_origin(store, found.run_id))
    folder = Path(ref).expanduser()
    if (folder / "MLmodel").is_file():
        from tunery.tracking.flavor.rebuild import run_of

        return _trained_settings(folder, ref, project, overrides, *_origin(store, run_of(folder)))
    if (folder / _ADAPTER).is_file():
        settings, _, _ = _adapter_settings(folder, project, overrides)
        _check_base(settings)
        return settings
    return _bare_settings(ref, project, overrides)


def _bare_settings(ref: str, project: str | None, overrides: Overrides) -> Project:
    settings = _settings(project, [*overrides, ("base.model", json.dumps(ref))], _default_settings(ref), ref)
    _check_base(settings)
    return settings


def _logged(
    ref: str, project: str | None, overrides: Overrides, store: Store, resident: Resident | None
) -> EvaluatedModel:
    from tunery.tracking.registry import download, resolve

    found = resolve(ref, store)
    with TemporaryDirectory(prefix="tunery-") as place:
        folder = download(found, Path(place), store)
        model = _rebuilt(folder, ref, project, overrides, resident, *_origin(store, found.run_id))
    version = f"{found.name}/{found.version}" if found.version is not None else None
    return replace(model, version=version, model_id=found.model_id, run_id=found.run_id)


def _origin(store: Store, run_id: str | None) -> tuple[dict[str, Any] | None, Path | None]:
    """The project that a run trained a model with, and that project's folder; None if unknown."""
    from tunery.tracking.run_facts import project_folder, run_config

    return (run_config(store, run_id), project_folder(store, run_id)) if run_id else (None, None)


def _rebuilt(
    folder: Path,
    ref: str,
    project: str | None,
    overrides: Overrides,
    resident: Resident | None,
    tree: dict[str, Any] | None = None,
    home: Path | None = None,
) -> EvaluatedModel:
    """A model that tunery logged, from its files, the project that it was trained with and that project's folder."""
    from tunery.estimation.offload import check_offload, refuse_offload
    from tunery.models.offload import offload_notes
    from tunery.tracking.flavor.rebuild import rebuild, rebuild_base

    settings = _trained_settings(folder, ref, project, overrides, tree, home)
    check_offload(settings.base, settings.training.device)
    if settings.adapter.method == "full":
        refuse_offload(settings, "all weights were trained, and two models do not fit where one does not")
    _prepare_tasks(settings, resident)
    split: Split = "locked" if _chosen_on_items(settings) else "all"
    device = settings.training.device
    rebuilt = rebuild(folder, device, offload=settings.base.offload)
    # Two models at once if all weights were trained: training needed more, with gradients and optimizer states.
    base = rebuild_base(folder, device) if rebuilt.facts.method == "full" else rebuilt.loaded
    notes = offload_notes(base.offloaded)
    return EvaluatedModel(rebuilt.model, base, True, settings, split, notes=notes, load_seconds=rebuilt.load_seconds)


def _trained_settings(
    folder: Path,
    ref: str,
    project: str | None,
    overrides: Overrides,
    tree: dict[str, Any] | None,
    home: Path | None,
) -> Project:
    from tunery.tracking.flavor.rebuild import read_facts

    facts = read_facts(folder)
    if not tree:  # its run is unknown: the settings that its folder records
        recorded = {
            "name": "evaluation",
            "base": facts.base.model_dump(mode="json"),
            "adapter": {"method": facts.method},
        }
        tree = {**recorded, "data": {**_NO_ROWS, "template": facts.template}}
    return _laid_over(tree, ref, home or Path.cwd(), project, overrides)


def _adapter(folder: Path, project: str | None, overrides: Overrides, resident: Resident | None) -> EvaluatedModel:
    """An adapter that any tool saved; its config names its base, unless a person does."""
    from tunery.models.adapter_files import load_adapter, named_base
    from tunery.models.offload import offload_notes

    settings, recorded, by_hand = _adapter_settings(folder, project, overrides)
    base = _base_of_adapter(settings, folder, recorded, by_hand, resident)
    below, notes = _below(settings, base, folder, recorded)
    notes = (*notes, *offload_notes(base.offloaded))
    began = time.perf_counter()
    model = load_adapter(below, folder, by_hand=by_hand)
    seconds = below.load_seconds + time.perf_counter() - began
    other = named_base(base.identity, recorded)
    if other is not None:
        notes = (f"the adapter names another base, {other}: {base.identity.model} was given by hand", *notes)
    tokenizer = below.tokenizer if below is not base else None
    return EvaluatedModel(model, base, True, settings, tokenizer=tokenizer, notes=notes, load_seconds=seconds)


def _adapter_settings(folder: Path, project: str | None, overrides: Overrides) -> tuple[Project, dict[str, Any], bool]:
    """The settings, the adapter's own config, and whether a person named the base."""
    from tunery.models.adapter_files import check_adapter

    recorded, given = _read_adapter(folder / _ADAPTER), dict(overrides)
    named, by_hand = recorded.get("base_model_name_or_path"), bool({"base.model", "base.revision"} & set(given))
    if not named and "base.model" not in given:
        fault = Fault("base_model_name_or_path", "the name of the adapter's base", named, "Give --base.model.")
        raise RefError(str(folder / _ADAPTER), fault)
    own_name = given.get("base.model", str(named)).strip("'\"") == named  # another name has other revisions
    settings = _settings(
        project, overrides, _default_settings(str(named), recorded.get("revision") if own_name else None), str(folder)
    )
    check_adapter(folder, settings.base.quantization)
    return settings, recorded, by_hand


def _base_of_adapter(
    settings: Project, folder: Path, recorded: dict[str, Any], by_hand: bool, resident: Resident | None
) -> LoadedBase:
    try:
        _check_base(settings)
        _check_copies(settings, folder, recorded)
        _prepare_tasks(settings, resident)
        return _load_base(settings)
    except BaseModelError as error:
        if by_hand:
            raise
        advice = f"{folder / _ADAPTER} names it. If it lies elsewhere or has another name here, give --base.model."
        raise BaseModelError(error.where, error.faults, advice) from error


def _check_copies(settings: Project, folder: Path, recorded: dict[str, Any]) -> None:
    """Refuse offloaded layers to an adapter that `_below` would put on a second base."""
    from tunery.estimation.offload import refuse_offload
    from tunery.models.adapter_files import WEIGHTS
    from tunery.models.base_changes import base_changes

    if settings.base.offload is not None and (changes := base_changes(recorded, folder / WEIGHTS)):
        told = f"the adapter changes the base's own weights ({'; '.join(changes)})"
        refuse_offload(settings, f"{told}, and two copies do not fit where one does not")


def _below(
    settings: Project, base: LoadedBase, folder: Path, recorded: dict[str, Any]
) -> tuple[LoadedBase, tuple[str, ...]]:
    """What the adapter is put on, and what to tell of it: a second base, if the adapter would change the first."""
    from tunery.models.adapter_files import WEIGHTS
    from tunery.models.base_changes import base_changes
    from tunery.models.vocabulary import fit_vocabulary

    chat = settings.data.template == "chat"
    changes = base_changes(recorded, folder / WEIGHTS)
    if not changes:
        return base, ()
    below = fit_vocabulary(_load_base(settings), folder, settings.base, settings.folder, chat)
    told = f"the adapter changes the base's own weights ({'; '.join(changes)}): the base is scored in a second copy"
    return below, (told, *below.notes[len(base.notes) :])


def _read_adapter(file: Path) -> dict[str, Any]:
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not UTF-8
        raise RefError(str(file), Fault("not JSON", str(error), advice="Save the adapter again.")) from error
    if not isinstance(tree, dict):
        raise RefError(str(file), Fault("its content", "a mapping of settings", tree, "Save the adapter again."))
    return tree


def _settings(project: str | None, overrides: Overrides, tree: dict[str, Any], where: str) -> Project:
    """The settings to evaluate a model with that tunery did not train."""
    return load_project(project, overrides) if project else project_from(tree, where, Path.cwd(), overrides)


def _check_base(settings: Project) -> None:
    """Whether this machine can hold the base, and the base is there; nothing is loaded, and no weights downloaded."""
    from tunery.estimation.offload import check_offload, placement
    from tunery.models.device import resolve_device
    from tunery.models.quantize import check_quantization
    from tunery.models.source import check_base

    check_quantization(settings.base, resolve_device(settings.training.device))
    check_offload(settings.base, settings.training.device)
    check_base(settings.base, settings.folder)
    placement(settings.base, settings.folder, settings.training.device)


def _load_base(settings: Project) -> LoadedBase:
    from tunery.estimation.offload import placement
    from tunery.models.base import load_base

    base, folder, device = settings.base, settings.folder, settings.training.device
    chat = settings.data.template == "chat"
    return load_base(base, folder, device, chat=chat, placement=placement(base, folder, device))


def as_trained(tree: dict[str, Any], where: str, home: Path, project: str | None, overrides: Overrides) -> Project:
    """The settings to evaluate a trained model with: evaluation settings can be changed, the model's own cannot.

    Args:
        tree: The project that the model was trained with.
        where: Named as the place of faults.
        home: Where that project's relative paths start.
        project, overrides: As for load_evaluated_model.

    Raises:
        ConfigError: If an override would make it another model, or layers are to be offloaded.
    """
    from tunery.estimation.offload import refuse_offload

    settings = _laid_over(tree, where, home, project, overrides)
    refuse_offload(settings, "a promotion measures a model as it was trained and as it is deployed")
    return _checked(settings)


def _laid_over(tree: dict[str, Any], where: str, home: Path, project: str | None, overrides: Overrides) -> Project:
    own = project_from(deepcopy(tree), where, home)
    laid = project_from(deepcopy(tree), where, home, overrides)
    _refuse_another_model(own, laid, where)
    asked = load_project(project, overrides) if project else laid
    update: dict[str, Any] = {section: getattr(own, section) for section in _OF_THE_MODEL}
    update["base"] = own.base.model_copy(update={"offload": asked.base.offload})
    update["training"] = own.training.model_copy(update={"device": asked.training.device})
    # A set of answers without a prompt of its own is asked as this model was taught to be, if it is its project's set.
    template = (own.data.prompt_template if own.name == asked.name else None) or asked.data.prompt_template
    update["data"] = own.data.model_copy(update={"prompt_template": template})
    if _chosen_on_items(own):
        # The model was chosen on the dev items of its own training, whatever dev_fraction another project has.
        update["evaluation"] = asked.evaluation.model_copy(update={"dev_fraction": own.evaluation.dev_fraction})
    return asked.model_copy(update=update)


def _refuse_another_model(own: Project, laid: Project, where: str) -> None:
    fixed = (*_OF_THE_MODEL, *(["evaluation.dev_fraction"] if _chosen_on_items(own) else []))
    was, wanted = (flatten(resolved(project)) for project in (own, laid))
    changed = [
        Fault(f"--{key}", f"{was.get(key)!r}, with which the model was trained", wanted.get(key), "Leave it out.")
        for key in {**was, **wanted}
        if key.startswith(fixed) and not key.startswith(_FREE) and was.get(key) != wanted.get(key)
    ]
    if changed:
        raise ConfigError(where, changed)


def _chosen_on_items(project: Project) -> bool:
    """Whether the model was chosen by its score on dev items, so that only the locked ones are unbiased."""
    return project.training.chooses_by_score


def _prepare_tasks(settings: Project, resident: Resident | None) -> None:
    """Load the tasks of a model that is to be scored, before the model."""
    if resident is not None:
        resident.tasks(_checked(settings))


def _checked(settings: Project) -> Project:
    """Check the tasks before a model is loaded: a misspelt task should not cost the loading of 7 billion weights."""
    from tunery.evaluation.tasks import check_tasks

    if not settings.evaluation.names:
        fault = Fault("evaluation.tasks", "at least one task", [], "Try --evaluation.tasks '[world_facts]'.")
        raise ConfigError(settings.name, fault)
    check_tasks(settings.evaluation, settings.folder)
    return settings


def _default_settings(model: str, revision: object = None) -> dict[str, Any]:
    """Settings of a model without recorded ones: weights unquantised, everything else by default.

    Args:
        model: The base.
        revision: From an adapter's config; a hash of weights is ignored, as the Hub knows only commits.
    """
    base = {"model": model, "quantization": "none"}
    if isinstance(revision, str) and revision and ":" not in revision:
        base["revision"] = revision
    return {"name": "evaluation", "base": base, "data": dict(_NO_ROWS)}
