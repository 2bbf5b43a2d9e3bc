"""MLflow's flavor `tunery`: an adapter that says which base it belongs to, and can be rebuilt exactly.

The folder is the adapter's own (PeftModel.from_pretrained and vLLM read it) with MLflow's files beside it:

    MLmodel  adapter_config.json  adapter_model.safetensors  tokenizer*.json  chat_template.jinja  requirements.txt ...

Nothing in it is pickled. Source: https://mlflow.org/docs/latest/ml/community-model-flavors
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter

from tunery.config.model import BaseConfig
from tunery.errors import StorageError
from tunery.records.runs import BaseIdentity
from tunery.tracking.redact import redact

if TYPE_CHECKING:
    from mlflow.models import Model, ModelSignature

FLAVOR_NAME = "tunery"
FORMAT_VERSION = 1
_LOADER = "tunery.tracking.flavor.pyfunc"
# What pyfunc.py and the layers below it import. MLflow's own inference would load the model in a subprocess to see.
_NEEDED = (
    "tunery", "mlflow", "torch", "transformers", "peft", "accelerate", "safetensors", "bitsandbytes", "pydantic",
    "jinja2", "pandas", "lm-eval",
)  # fmt: skip
ANSWER_TOKENS = 512
"""Longest answer, in tokens, of a request that asks for no length, as far as the model's context has room."""
# What pyfunc.load_model(uri, model_config={...}) may set; MLflow drops keys that are not listed.
_SETTINGS = {"device": "auto", "base_folder": "", "max_tokens": ANSWER_TOKENS}
_EXAMPLE = {"messages": [{"role": "user", "content": "Hello!"}]}

# Greedy unless asked otherwise: the same question gets the same answer. 0 tokens stands for no length asked for: MLflow
# knows no optional number. max_completion_tokens is what OpenAI's newer clients call max_tokens.
DEFAULTS: dict[str, Any] = {
    "max_tokens": 0, "max_completion_tokens": 0, "temperature": 0.0, "top_p": 1.0, "seed": 0, "stop": []
}  # fmt: skip


@dataclass(frozen=True)
class ModelFacts:
    """All that is needed to rebuild a trained model from its folder."""

    method: str  # lora or full: whether the folder holds an adapter or all weights
    base: BaseConfig  # the section `base`, with revision and types as they were resolved
    identity: BaseIdentity
    base_folder: str | None = None  # absolute path of a base that was a local folder, else None
    template: Literal["chat", "plain"] = "chat"  # chat or plain: how prompts become tokens

    def section(self) -> dict[str, Any]:
        """As the flavor's section of MLmodel."""
        return redact({"format": FORMAT_VERSION, **TypeAdapter(ModelFacts).dump_python(self, mode="json")})


def resolve_base(base: BaseConfig, identity: BaseIdentity) -> BaseConfig:
    """The section `base` with nothing left to guess: commit instead of branch, types instead of auto."""
    pinned: dict[str, Any] = {"dtype": identity.dtype, "compute_dtype": identity.compute_dtype}
    if ":" not in identity.revision:  # a commit; a folder's hash is no revision that the Hub knows
        pinned["revision"] = identity.revision
    return base.model_copy(update=pinned)


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
        mlflow_model: MLflow's record of the model, which becomes MLmodel.
        weights: Folder of the adapter or of the whole model.
        tokenizer: Saved with the weights; None if they have one with them.
        validate_serving_input: Read by MLflow: False, so that the model is not loaded a second time to try an example.

    Raises:
        StorageError: If the disk is full or cannot be written.
    """
    from mlflow import pyfunc
    from mlflow.models import Model
    from mlflow.models.utils import _save_example

    folder = Path(path)
    model = mlflow_model or Model()
    try:
        shutil.copytree(weights, folder, copy_function=_link)
        if tokenizer is not None:
            _save_tokenizer(tokenizer, folder)
        _write_environment(folder)
        model.signature = _signature()
        _save_example(model, _EXAMPLE, str(folder))
        model.add_flavor(FLAVOR_NAME, **facts.section())
        pyfunc.add_to_model(
            model, _LOADER, conda_env="conda.yaml", python_env="python_env.yaml", model_config=_SETTINGS
        )
        model.save(str(folder / "MLmodel"))
    except OSError as error:
        told = f"the model cannot be written ({error.strerror or error}). Free space and log it again."
        raise StorageError(str(folder), told) from error


def _link(source: str, target: str) -> None:
    """No second copy of the weights on the way to the store, where the file system lets two names share a file."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    # Through a folder of its own: writing over a link would change the file that training left.
    with tempfile.TemporaryDirectory(prefix="tunery-tokenizer-") as place:
        tokenizer.save_pretrained(place)
        for file in Path(place).iterdir():
            (folder / file.name).unlink(missing_ok=True)
            shutil.copy2(file, folder / file.name)


def _write_environment(folder: Path) -> None:
    """Pin every package that loading a model needs to the version installed here."""
    import yaml
    from mlflow.utils.environment import _PythonEnv

    requirements = []
    for name in _NEEDED:
        with suppress(metadata.PackageNotFoundError):
            # Without the local part: torch 2.13.0+cpu is not on PyPI.
            requirements.append(f"{name}=={metadata.version(name).split('+')[0]}")
    conda = {
        "name": "tunery-model",
        "channels": ["conda-forge"],
        "dependencies": [f"python={platform.python_version()}", "pip", {"pip": requirements}],
    }
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
    (folder / "conda.yaml").write_text(yaml.safe_dump(conda, sort_keys=False), encoding="utf-8")
    _PythonEnv.current().to_yaml(str(folder / "python_env.yaml"))


def _signature() -> ModelSignature:
    """Input columns `messages`, `prompt` and `completion`, and the request's settings as params and as columns.

    The messages follow MLflow's ChatModel, so that `mlflow models serve` takes {"messages": [...], "max_tokens": 64}:
    its server makes params of such keys. `predict` does not, and drops keys that are no columns: they are columns too.
    A column of prompts gives answers; prompts with a column of completions give log-likelihoods.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA
    from mlflow.types.schema import AnyType

    messages = next(column for column in CHAT_MODEL_INPUT_SCHEMA.inputs if column.name == "messages")
    columns = {"messages": messages.type, "prompt": DataType.string, "completion": DataType.string}
    kinds = {int: DataType.long, float: DataType.double}
    asked = {name: AnyType() if name == "stop" else kinds[type(value)] for name, value in DEFAULTS.items()}
    inputs = Schema([ColSpec(name=name, type=kind, required=False) for name, kind in {**columns, **asked}.items()])
    params = [ParamSpec(name, kinds[type(value)], value) for name, value in DEFAULTS.items() if name != "stop"]
    params.append(ParamSpec("stop", DataType.string, DEFAULTS["stop"], shape=(-1,)))
    return ModelSignature(inputs=inputs, params=ParamSchema(params))
