"""A trained adapter -> a logged model of our flavor, linked to its run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunery.config.model import BaseConfig
from tunery.errors import Fault, TrackingError
from tunery.records import BaseIdentity
from tunery.tracking.flavor import flavor
from tunery.tracking.flavor.flavor import ModelFacts, base_folder_of, resolve_base
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
        base: The section `base`.
        identity: Which base was loaded.
        tokenizer: As it was trained with: template and added tokens go with the adapter.
        project_folder: Folder of project.yaml, from which a local base's path is read.
        method: adapter.method.
        template: data.template: chat or plain.
        max_new_tokens: Default length of an answer.
        step: Optimizer step of the checkpoint.

    Raises:
        StorageError: If the disk is full.
        TrackingError: If the store does not take it; the text says where the adapter lies.
    """
    tracker.adapter_folder = folder.absolute()
    facts = ModelFacts(
        method=method,
        base=resolve_base(base, identity),
        identity=identity,
        base_folder=base_folder_of(base, project_folder),
        template=template,
        max_new_tokens=max_new_tokens,
    )
    tracker.flush()
    return LoggedAdapter(_log(tracker, folder, facts, tokenizer, step), tracker.run_id)


def _log(tracker: Tracker, folder: Path, facts: ModelFacts, tokenizer: Any, step: int) -> str:
    import requests
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    client = tracker.store.client
    try:
        # Made here, not by Model.log: that would put it into MLflow's active experiment instead of the run's.
        logged = client.create_logged_model(
            tracker.experiment_id,
            name=MODEL_NAME,
            source_run_id=tracker.run_id,
            params=_params(facts),
            tags=redact({"tunery.base": facts.identity.model, "tunery.project": tracker.project}),
            model_type=facts.method,
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
        reason = redact(str(error)).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        kept = Fault(
            f"the adapter could not be logged ({reason})", advice=f"It is not lost: it lies in {folder.absolute()}."
        )
        raise TrackingError(f"run {tracker.run_id}", kept) from error
    return str(logged.model_id)


def _params(facts: ModelFacts) -> dict[str, str]:
    identity = facts.identity
    params = {
        "base.model": identity.model,
        "base.revision": identity.revision,
        "base.quantization": identity.quantization,
        "base.dtype": identity.dtype,
        "base.compute_dtype": identity.compute_dtype,
        "base.chat_template": identity.chat_template,
        "method": facts.method,
    }
    return {key: str(value) for key, value in redact(params).items()}
