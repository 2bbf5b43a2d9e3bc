"""A trained adapter -> a logged model of our flavor, linked to its run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunery.config.model import BaseConfig
from tunery.errors import Fault, TrackingError
from tunery.records import BaseIdentity
from tunery.tracking.flavor import flavor
from tunery.tracking.flavor.flavor import ModelFacts, resolve_base
from tunery.tracking.redact import redact
from tunery.tracking.run import Tracker

# The name under which a run's outputs show it.
MODEL_NAME = "adapter"


@dataclass(frozen=True)
class LoggedAdapter:
    """A model that MLflow keeps: models:/<model_id>."""

    model_id: str
    run_id: str

    @property
    def uri(self) -> str:
        """What mlflow.pyfunc.load_model takes."""
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
    max_new_tokens: int = 256,
    step: int = 0,
) -> LoggedAdapter:
    """Log an adapter folder (or, for method full, a folder of whole weights) as a model of the run.

    Args:
        tracker: The open run.
        folder: Adapter files, as training left them.
        base, identity: The section `base`, and which base was loaded.
        tokenizer: As it was trained with: template and added tokens go with the adapter.
        project_folder: Folder of project.yaml, from which a local base's path is read.
        method, template: adapter.method and data.template.
        max_new_tokens: Default length of an answer.
        step: Optimizer step of the checkpoint.

    Raises:
        StorageError: If the disk is full.
        TrackingError: If the store does not take it; the text says where the adapter lies.
    """
    import requests
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    tracker.adapter_folder = folder.absolute()
    places = (project_folder / base.model, Path.cwd() / base.model, Path(base.model).expanduser())
    local = None if base.model.startswith("builtin:") else next((place for place in places if place.is_dir()), None)
    base_folder = str(local.resolve()) if local else None
    facts = ModelFacts(method, resolve_base(base, identity), identity, base_folder, template, max_new_tokens)
    named = ("model", "revision", "quantization", "dtype", "compute_dtype", "chat_template")
    params = {**{f"base.{key}": str(getattr(identity, key)) for key in named}, "method": method}
    tracker.flush()
    try:
        # Made here, not by Model.log: that would put it into MLflow's active experiment instead of the run's.
        logged = tracker.store.client.create_logged_model(
            tracker.experiment_id,
            name=MODEL_NAME,
            source_run_id=tracker.run_id,
            params=redact(params),
            tags=redact({"tunery.base": identity.model, "tunery.project": tracker.project}),
            model_type=method,
        )
        Model.log(
            artifact_path=None,
            flavor=flavor,
            model_id=logged.model_id,
            run_id=tracker.run_id,
            step=step,
            weights=folder,
            facts=facts,
            tokenizer=tokenizer,
            validate_serving_input=False,
        )
    except (MlflowException, requests.RequestException, OSError) as error:
        reason = next(iter(redact(str(error)).strip().splitlines()), type(error).__name__)
        advice = f"It is not lost: it lies in {folder.absolute()}."
        kept = Fault(f"the adapter could not be logged ({reason})", advice=advice)
        raise TrackingError(f"run {tracker.run_id}", kept) from error
    return LoggedAdapter(str(logged.model_id), tracker.run_id)
