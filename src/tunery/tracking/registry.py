"""Logged adapters, versions of a project's model, and what a reference to one leads to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunery.config.fields import nearest
from tunery.config.model import BaseConfig
from tunery.errors import Fault, RefError, StorageError, TrackingError
from tunery.models.adapter_files import damage
from tunery.models.source import is_local_base
from tunery.records.runs import BaseIdentity
from tunery.tracking.aliases import LONGEST_TEXT, report_of
from tunery.tracking.entities import description
from tunery.tracking.flavor import flavor
from tunery.tracking.flavor.flavor import ModelFacts, resolve_base
from tunery.tracking.lineage import DATASETS, LINEAGE
from tunery.tracking.places import moved
from tunery.tracking.redact import redact
from tunery.tracking.run import Tracker
from tunery.tracking.runlog import START
from tunery.tracking.search import equals, recent_runs
from tunery.tracking.store import Store, refusals

_FORMS = "models:/<name>@<alias>, models:/<name>/<version>, models:/<model id> or runs:/<run id>"
_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")
_LISTED = 20
_REGISTERED = "tunery.registered_version"
_SCORES = {"tunery.score": "score", "tunery.base_score": "base/score", "tunery.gain": "delta/score"}


@dataclass(frozen=True)
class ModelRef:
    """What a reference leads to: one logged model, its run, and its version if it is registered.

    Args:
        ref: The reference as it was given.
        run_id: The run that made the model, None for a model that was logged without one.
        name, version: Of the registered model, None for a reference to a run.
    """

    ref: str
    model_id: str
    run_id: str | None
    name: str | None = None
    version: int | None = None

    @property
    def uri(self) -> str:
        """The same model whatever alias moves later."""
        return f"models:/{self.model_id}"


def log_adapter(
    tracker: Tracker,
    folder: Path,
    *,
    base: BaseConfig,
    identity: BaseIdentity,
    tokenizer: Any,
    project_folder: Path,
    method: str = "lora",
    template: Literal["chat", "plain"] = "chat",
    step: int = 0,
) -> ModelRef:
    """Log an adapter folder (or, for method full, a folder of whole weights) as a model of the run.

    Args:
        folder: Adapter files, as training left them.
        base, identity: The section `base`, and which base was loaded.
        tokenizer: As it was trained with: template and added tokens go with the adapter.
        project_folder: Folder of project.yaml, from which a local base's path is read.
        method, template: adapter.method and data.template.
        step: Optimizer step of the checkpoint.

    Raises:
        StorageError: If the disk is full.
        TrackingError: If the store does not take it; a StoreAway if it does not answer. A note on each of them says
            where the adapter lies.
    """
    from mlflow.models import Model

    tracker.adapter_folder = folder.absolute()
    places = (project_folder / base.model, Path.cwd() / base.model, Path(base.model).expanduser())
    local = None if base.model.startswith("builtin:") else next(filter(is_local_base, places), None)
    base_folder = str(local.resolve()) if local else None
    facts = ModelFacts(method, resolve_base(base, identity), identity, base_folder, template)
    named = ("model", "revision", "quantization", "dtype", "compute_dtype", "chat_template")
    params = {**{f"base.{key}": str(getattr(identity, key)) for key in named}, "method": method}
    try:
        tracker.flush()
        with refusals(tracker.store.uri):
            # Made here, not by Model.log: that would put it into MLflow's active experiment instead of the run's.
            logged = tracker.store.client.create_logged_model(
                tracker.experiment_id,
                name="adapter",  # what the run's page calls it
                source_run_id=tracker.run_id,
                params=redact(params),
                tags=redact({"tunery.base": identity.model, "tunery.project": tracker.project}),
                model_type=method,
            )
            content = {"weights": folder, "facts": facts, "tokenizer": tokenizer, "validate_serving_input": False}
            Model.log(None, flavor, model_id=logged.model_id, run_id=tracker.run_id, step=step, **content)
    except (TrackingError, StorageError) as error:
        error.add_note(f"run {tracker.run_id}: the adapter could not be logged. It lies in {folder.absolute()}.")
        raise
    return ModelRef(f"runs:/{tracker.run_id}", str(logged.model_id), tracker.run_id)


def register(tracker: Tracker, adapter: ModelRef, name: str, tags: dict[str, str] | None = None) -> int:
    """Make a logged adapter the next version of a registered model, which is made if it is not there; its number.

    A run has one version: whoever was killed just after it was made, and goes on, gets the same number again.

    Args:
        tracker: The run that registers it: that of the training, or of a study or promotion that chose it.
        name: Registered model: the project's name.

    Raises:
        TrackingError: If the registry refuses.
    """
    from mlflow.exceptions import MlflowException

    client = tracker.store.client
    with refusals(tracker.store.uri):
        report, facts = _summary(tracker.store, adapter.run_id)
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        told = redact({"tunery.project": tracker.project, **facts, **(tags or {})})
        made = _made_before(tracker.store, adapter.run_id, name) or client.create_model_version(
            name, adapter.uri, run_id=adapter.run_id, model_id=adapter.model_id, tags=told, description=report
        )
        version = f"{name}/{made.version}"
        if adapter.run_id and adapter.run_id != tracker.run_id:
            client.set_tag(adapter.run_id, _REGISTERED, version)  # where a comparison looks for it
    tracker.tag(**{_REGISTERED: version})
    return int(made.version)


def _made_before(store: Store, run_id: str | None, name: str) -> Any:
    """The run's version of the registered model (mlflow.entities.model_registry.ModelVersion), None if it has none."""
    if run_id is None:
        return None
    found = store.client.search_model_versions(f"{equals('name', name)} and {equals('run_id', run_id)}", max_results=1)
    return found[0] if found else None


def _summary(store: Store, run_id: str | None) -> tuple[str | None, dict[str, str]]:
    """What a version's page shows of the run that trained it: its report, and as tags score, base and data."""
    if run_id is None:
        return None, {}
    run = store.client.get_run(run_id)
    scores = {tag: f"{run.data.metrics[key]:.4f}" for tag, key in _SCORES.items() if key in run.data.metrics}
    told = {key: run.data.tags[key] for key in ("tunery.base", DATASETS, LINEAGE, START) if key in run.data.tags}
    report = description(report_of(run), rest="the run's report.md", longest=LONGEST_TEXT)
    return report or None, {**scores, **told}


def resolve(ref: str, store: Store) -> ModelRef:
    """Follow models:/<name>@<alias>, models:/<name>/<version>, models:/<model id> or runs:/<run id> to a logged model.

    Raises:
        RefError: If it leads nowhere; the text lists what there is.
    """
    if ref.startswith("runs:/"):
        return _of_run(ref, ref.removeprefix("runs:/").strip("/").split("/")[0], store)
    if not ref.startswith("models:/"):
        raise RefError(ref, Fault("the reference", _FORMS, ref))
    rest = ref.removeprefix("models:/").strip("/")
    if _MODEL_ID.fullmatch(rest):
        model = store.found(store.client.get_logged_model, rest)
        if model is None:
            raise RefError(ref, Fault(f"there is no logged model {rest}", _inventory(store, ""), advice=store.where))
        return ModelRef(ref, rest, model.source_run_id)
    return _of_version(ref, rest, store)


def method_of(ref: ModelRef, store: Store) -> str | None:
    """adapter.method of a logged model, lora or full, without a look at its files."""
    model = store.found(store.client.get_logged_model, ref.model_id)
    return None if model is None else str(model.model_type)


def download(ref: ModelRef, folder: Path, store: Store) -> Path:
    """Copy a logged model's files into `folder`.

    Never the store's own folder, which MLflow hands out when no destination is named: what changed there would change
    the registered model.

    Raises:
        RefError: If its files are gone or damaged.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    folder.mkdir(parents=True, exist_ok=True)
    try:
        place = Path(download_artifacts(artifact_uri=ref.uri, dst_path=str(folder), tracking_uri=store.uri))
    except (MlflowException, OSError) as error:
        raise gone(ref, store, redact(str(error)).strip()) from error
    if not (place / "MLmodel").is_file():
        raise gone(ref, store)
    if (damaged := damage(place)) is not None:
        raise gone(ref, store, damaged)
    return place


def gone(ref: ModelRef, store: Store, reason: str = "", advice: str = "Train it again.") -> RefError:
    """What to say of files that are not where the store has them.

    Args:
        reason: Why they cannot be read; empty: they are not there.
        advice: What to do, unless their folder was moved.
    """
    model = store.found(store.client.get_logged_model, ref.model_id)
    place = str(model.artifact_location) if model is not None else ""
    away = moved(store, place, was_kept=True)
    if away is not None:
        return RefError(ref.ref, f"its files cannot be reached: {away}")
    told = f"cannot be read ({reason})" if reason else "are gone from the artifact store"
    return RefError(ref.ref, f"its files {told}: {redact(place)}. {advice}")


def _of_run(ref: str, run_id: str, store: Store) -> ModelRef:
    run = store.found(store.client.get_run, run_id)
    if run is None:
        known = ", ".join(f"{run.info.run_id} ({run.info.run_name})" for run in recent_runs(store)) or "none"
        latest = f"latest of {store.experiment!r}: {known}"
        raise RefError(ref, Fault(f"there is no run {run_id!r}", latest, advice=store.where))
    outputs = run.outputs.model_outputs if run.outputs is not None else []
    if not outputs and run.data.tags.get("tunery.method") == "icl":
        told = "this run trained nothing (training.method: icl), so there is no adapter to use, register or promote. "
        raise RefError(ref, f"{told}Its base gave the answers, after the examples in the run's context.txt.")
    if not outputs:
        status, kind = run.info.status, run.data.tags.get("tunery.kind", "unknown")
        told = f"this run logged no model (status {status}, kind {kind}). Name a run of kind train that FINISHED."
        raise RefError(ref, told)
    # A run that was killed while its adapter was logged, and then resumed, has a half-made model beside the whole one.
    models = [store.found(store.client.get_logged_model, output.model_id) for output in outputs]
    whole = [
        output for output, model in zip(outputs, models, strict=True) if model is not None and model.status == "READY"
    ]
    return ModelRef(ref, max(whole or outputs, key=lambda output: output.step).model_id, run_id)


def _of_version(ref: str, rest: str, store: Store) -> ModelRef:
    """Follow <name>@<alias> or <name>/<version>."""
    name, sign, alias = rest.partition("@")
    if sign:
        version = store.found(store.client.get_model_version_by_alias, name, alias)
        missing = f"nothing has the alias {alias!r} of {name!r}"
    else:
        name, _, number = rest.rpartition("/")
        if not name or not number.isdecimal():
            raise RefError(ref, Fault("the reference", f"{_FORMS}; {_inventory(store, name or rest)}", ref))
        version = store.found(store.client.get_model_version, name, number)
        missing = f"there is no version {number} of {name!r}"
    if version is None:
        raise RefError(ref, Fault(missing, _inventory(store, name), advice=store.where))
    # The SQL store fills ModelVersion.model_id only when it makes a version; the source always names the model.
    model_id = str(version.source).removeprefix("models:/")
    if not _MODEL_ID.fullmatch(model_id):
        raise RefError(ref, "this version was not registered by tunery: it names no logged model.")
    return ModelRef(ref, model_id, version.run_id or None, name, int(version.version))


def _inventory(store: Store, name: str) -> str:
    """What there is, for someone who asked for what is not: versions and aliases, or the names of models."""
    with refusals(store.uri):
        models = {model.name: model for model in store.client.search_registered_models(max_results=_LISTED)}
        if name not in models:
            known = ", ".join(sorted(models)) or "none yet"
            return f"registered models: {known}. {nearest(name, list(models))}".strip().rstrip(".")
        versions = store.client.search_model_versions(equals("name", name), max_results=_LISTED)
        numbers = ", ".join(str(number) for number in sorted(int(version.version) for version in versions)) or "none"
        # aliases are only told by get_registered_model, not by the search
        aliases = store.client.get_registered_model(name).aliases
    named = ", ".join(f"{alias} -> {number}" for alias, number in sorted(aliases.items())) or "none"
    return f"{name} has versions: {numbers}; aliases: {named}"
