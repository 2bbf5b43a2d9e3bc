"""MLflow's flavor `tunery`: an adapter that says which base it belongs to, and can be rebuilt exactly.

The folder is the adapter's own (PeftModel.from_pretrained and vLLM read it) with MLflow's files beside it:

    MLmodel  adapter_config.json  adapter_model.safetensors  tokenizer*.json  chat_template.jinja  requirements.txt ...

Nothing in it is pickled. Source: https://mlflow.org/docs/latest/ml/community-model-flavors
"""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunery.config.model import BaseConfig
from tunery.errors import Fault, StorageError, TrackingError
from tunery.records import BaseIdentity
from tunery.tracking.redact import redact

if TYPE_CHECKING:
    from mlflow.models import Model, ModelSignature

FLAVOR_NAME = "tunery"
LOADER = "tunery.tracking.flavor.pyfunc"
FORMAT_VERSION = 1
# What pyfunc.load_model(uri, model_config={...}) may set; MLflow drops keys that are not listed.
_SETTINGS = {"device": "auto", "base_folder": ""}


@dataclass(frozen=True)
class ModelFacts:
    """All that is needed to rebuild a trained model from its folder.

    Args:
        method: lora or full: whether the folder holds an adapter or all weights.
        base: The section `base`, with revision and types as they were resolved.
        identity: Which base exactly.
        base_folder: Absolute path of a base that was a local folder, else None.
        template: chat or plain: how prompts become tokens.
        max_new_tokens: Default length of an answer.
    """

    method: str
    base: BaseConfig
    identity: BaseIdentity
    base_folder: str | None = None
    template: Literal["chat", "plain"] = "chat"
    max_new_tokens: int = 256

    def section(self) -> dict[str, Any]:
        """As the flavor's section of MLmodel."""
        return redact(
            {
                "format": FORMAT_VERSION,
                **asdict(self),
                "base": self.base.model_dump(mode="json"),
                "identity": {**asdict(self.identity), "details": dict(self.identity.details)},
            }
        )


def facts_from(section: dict[str, Any]) -> ModelFacts:
    """The facts that a flavor's section holds.

    Raises:
        TrackingError: If a newer tunery wrote it.
    """
    if section.get("format") != FORMAT_VERSION:
        rule = Fault("flavors.tunery.format", str(FORMAT_VERSION), section.get("format"), "Update tunery.")
        raise TrackingError("MLmodel", rule)
    known = {key: section[key] for key in ("method", "base_folder", "template", "max_new_tokens")}
    return ModelFacts(base=BaseConfig(**section["base"]), identity=BaseIdentity(**section["identity"]), **known)


def resolve_base(base: BaseConfig, identity: BaseIdentity) -> BaseConfig:
    """The section `base` with nothing left to guess: commit instead of branch, types instead of auto."""
    pinned: dict[str, Any] = {"dtype": identity.dtype, "compute_dtype": identity.compute_dtype}
    if ":" not in identity.revision:  # a commit; a folder's hash is no revision that the Hub knows
        pinned["revision"] = identity.revision
    return base.model_copy(update=pinned)


def base_folder_of(base: BaseConfig, project_folder: Path) -> str | None:
    """Absolute path of a base that is a local folder; None for the Hub and builtin."""
    if base.model.startswith("builtin:"):
        return None
    places = (project_folder / base.model, Path.cwd() / base.model, Path(base.model).expanduser())
    return next((str(place.resolve()) for place in places if place.is_dir()), None)


def save_model(
    path: str | Path,
    mlflow_model: Model | None = None,
    *,
    weights: Path,
    facts: ModelFacts,
    tokenizer: Any = None,
    validate_serving_input: bool = False,
) -> None:
    """Write the folder of a logged model; MLflow calls it by this name and with these first two arguments.

    Args:
        path: Folder to make.
        mlflow_model: MLflow's record of the model, which becomes MLmodel.
        weights: Folder of the adapter or of the whole model.
        facts: What the weights belong to.
        tokenizer: Saved with the weights; None if they have one with them.
        validate_serving_input: Read by MLflow: False, so that the model is not loaded a second time to try an example.

    Raises:
        StorageError: If the disk is full or cannot be written.
    """
    from mlflow import pyfunc
    from mlflow.models import Model

    folder = Path(path)
    model = mlflow_model or Model()
    try:
        shutil.copytree(weights, folder, copy_function=_link)
        if tokenizer is not None:
            _save_tokenizer(tokenizer, folder)
        _write_environment(folder)
        _add_example(model, folder)
        model.add_flavor(FLAVOR_NAME, **facts.section())
        pyfunc.add_to_model(
            model, loader_module=LOADER, conda_env="conda.yaml", python_env="python_env.yaml", model_config=_SETTINGS
        )
        model.save(str(folder / "MLmodel"))
    except OSError as error:
        raise StorageError(
            str(folder), f"the model cannot be written ({error.strerror or error}). Free space and log it again."
        ) from error


def _link(source: str, target: str) -> None:
    """No second copy of the weights on the way to the store, where the file system lets two names share a file."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    import tempfile

    # Through a folder of its own: writing over a link would change the file that training left.
    with tempfile.TemporaryDirectory(prefix="tunery-tokenizer-") as place:
        tokenizer.save_pretrained(place)
        for file in Path(place).iterdir():
            (folder / file.name).unlink(missing_ok=True)
            shutil.copy2(file, folder / file.name)


def _write_environment(folder: Path) -> None:
    import yaml
    from mlflow.utils.environment import _PythonEnv

    requirements = pinned_requirements()
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
    (folder / "conda.yaml").write_text(
        yaml.safe_dump(conda_environment(requirements), sort_keys=False), encoding="utf-8"
    )
    _PythonEnv.current().to_yaml(str(folder / "python_env.yaml"))


def _add_example(model: Model, folder: Path) -> None:
    from mlflow.models.utils import _save_example

    model.signature = signature()
    _save_example(model, EXAMPLE, str(folder))


# What pyfunc.py and the layers below it import. MLflow's own inference would load the model in a subprocess to see.
_NEEDED = (
    "tunery", "mlflow", "torch", "transformers", "peft", "accelerate", "safetensors", "bitsandbytes", "pydantic",
    "jinja2", "pandas", "lm-eval",
)  # fmt: skip


def pinned_requirements() -> list[str]:
    """name==version of every package that loading a model needs, as installed here."""
    return [f"{name}=={version}" for name in _NEEDED if (version := _installed(name)) is not None]


def conda_environment(requirements: list[str]) -> dict[str, Any]:
    """The same as a conda environment."""
    return {
        "name": "tunery-model",
        "channels": ["conda-forge"],
        "dependencies": [f"python={platform.python_version()}", "pip", {"pip": requirements}],
    }


def _installed(name: str) -> str | None:
    try:
        # Without the local part: torch 2.13.0+cpu is not on PyPI.
        return metadata.version(name).split("+")[0]
    except metadata.PackageNotFoundError:
        return None


EXAMPLE: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello!"}]}

# Greedy unless asked otherwise: the same question gets the same answer. 0 tokens stands for the model's own limit:
# MLflow knows no optional number.
DEFAULTS: dict[str, Any] = {
    "max_tokens": 0, "max_completion_tokens": 0, "temperature": 0.0, "top_p": 1.0, "seed": 0, "stop": []
}  # fmt: skip


def signature() -> ModelSignature:
    """Input columns `messages`, `prompt` and `completion`, and the request's settings as params.

    The messages follow MLflow's ChatModel, so that `mlflow models serve` takes {"messages": [...], "max_tokens": 64}.
    A column of prompts gives answers; prompts with a column of completions give log-likelihoods.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA

    messages = next(column for column in CHAT_MODEL_INPUT_SCHEMA.inputs if column.name == "messages")
    inputs = Schema(
        [
            ColSpec(name="messages", type=messages.type, required=False),
            ColSpec(name="prompt", type=DataType.string, required=False),
            ColSpec(name="completion", type=DataType.string, required=False),
        ]
    )
    kinds = {
        "max_tokens": DataType.long,
        "max_completion_tokens": DataType.long,  # what OpenAI's newer clients call it
        "temperature": DataType.double,
        "top_p": DataType.double,
        "seed": DataType.long,
    }
    params = [ParamSpec(name, kind, DEFAULTS[name]) for name, kind in kinds.items()]
    params.append(ParamSpec("stop", DataType.string, DEFAULTS["stop"], shape=(-1,)))
    return ModelSignature(inputs=inputs, params=ParamSchema(params))
