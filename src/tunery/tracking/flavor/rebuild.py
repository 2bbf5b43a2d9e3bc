"""A logged model's folder -> exactly the model that was trained."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from tunery.config.model import BaseConfig, OffloadConfig
from tunery.errors import BaseModelError, Fault, RefError, TrackingError
from tunery.estimation.offload import placement
from tunery.models.adapter_files import load_adapter
from tunery.models.base import LoadedBase, load_base
from tunery.models.source import is_local_base
from tunery.tracking.flavor.flavor import FLAVOR_NAME, FORMAT_VERSION, ModelFacts

BASE_FOLDER_VARIABLE = "TUNERY_BASE_FOLDER"
_MLMODEL = "MLmodel"


@dataclass(frozen=True)
class Rebuilt:
    """A trained model in memory."""

    model: Any  # with its adapter, in eval mode
    loaded: LoadedBase  # the base below it, with tokenizer and identity; for method full, the trained model itself
    facts: ModelFacts
    model_id: str = ""  # the logged model's id in MLflow; empty for a folder that was saved without a store
    load_seconds: float = 0.0  # of base and adapter


def read_facts(folder: Path) -> ModelFacts:
    """What a logged model's folder says about its base.

    Raises:
        RefError: If the folder is not a model that tunery logged.
        TrackingError: If a newer tunery logged it.
    """
    flavors, advice = _read_mlmodel(folder).get("flavors"), "Download the model again."
    if not isinstance(flavors, dict):
        rule = "a mapping of the forms that the model can be loaded in"
        raise RefError(str(folder / _MLMODEL), Fault("flavors", rule, flavors, advice))
    if FLAVOR_NAME not in flavors:
        known = ", ".join(sorted(flavors)) or "none"
        raise RefError(str(folder), f"holds a model of the flavors {known}, but must be of the flavor {FLAVOR_NAME}.")
    section = flavors[FLAVOR_NAME]
    try:
        if section.get("format") != FORMAT_VERSION:  # a newer tunery wrote it
            fault = Fault("flavors.tunery.format", str(FORMAT_VERSION), section.get("format"), "Update tunery.")
            raise TrackingError("MLmodel", fault)
        return TypeAdapter(ModelFacts).validate_python(section)
    except (AttributeError, ValueError) as error:
        rule = f"the section that tunery wrote ({' '.join(str(error).split())})"
        fault = Fault(f"flavors.{FLAVOR_NAME}", rule, section, advice)
        raise RefError(str(folder / _MLMODEL), fault) from error


def run_of(folder: Path) -> str | None:
    """Id of the run that logged the model in a folder; None if its MLmodel names none."""
    named = _read_mlmodel(folder).get("run_id")
    return str(named) if named else None


def rebuild(
    folder: Path,
    device: str = "auto",
    base_folder: str | None = None,
    *,
    unquantized: str | None = None,
    offload: OffloadConfig | None = None,
) -> Rebuilt:
    """Load the base that the adapter was trained on, as it was then, and put the adapter on it.

    Args:
        device: auto, cpu, cuda or mps.
        base_folder: Where a base that was a local folder lies now; by default TUNERY_BASE_FOLDER, then where it lay.
        unquantized: A type, such as bfloat16, to hold all weights in instead of as they were: what is merged or
            deployed is not always what was trained.
        offload: base.offload of who scores an adapter, whose training had none.

    Raises:
        RefError: If the folder is not a model that tunery logged.
        BaseModelError: If the base is not there, or is not the same any more.
        ConfigError: If layers cannot be offloaded so.
    """
    folder = folder.resolve()
    facts = read_facts(folder)
    model_id = str(_read_mlmodel(folder).get("model_id") or "")
    if facts.method == "full":
        own = facts.base.model_copy(update={"model": str(folder), "chat_template": None, "quantization": "none"})
        loaded = load_base(_held_in(own, unquantized), folder, device, chat=facts.template == "chat")
        return Rebuilt(loaded.model.eval(), loaded, facts, model_id, loaded.load_seconds)
    loaded = rebuild_base(folder, device, base_folder, unquantized=unquantized, offload=offload)
    began = time.perf_counter()
    model = load_adapter(loaded, folder)
    return Rebuilt(model, loaded, facts, model_id, loaded.load_seconds + time.perf_counter() - began)


def rebuild_base(
    folder: Path,
    device: str = "auto",
    base_folder: str | None = None,
    *,
    unquantized: str | None = None,
    offload: OffloadConfig | None = None,
) -> LoadedBase:
    """Load the base that a logged model was trained from, as it was then; arguments and errors as for `rebuild`."""
    folder = folder.resolve()
    facts = read_facts(folder)
    changes: dict[str, Any] = {} if offload is None else {"offload": offload, "weights": "packed"}
    if facts.base_folder is not None:
        changes["model"] = _find_folder(facts, base_folder)
    if facts.base.chat_template is not None:  # the project's file may be gone; its text was saved with the tokenizer
        changes["chat_template"] = str(folder / "chat_template.jinja")
    base = _held_in(facts.base.model_copy(update=changes), unquantized)
    chat, places = facts.template == "chat", placement(base, folder, device)
    loaded = load_base(base, folder, device, chat=chat, placement=places)
    then, now = facts.identity.revision, loaded.identity.revision
    if then != now:
        rule = f"{then}, on which the adapter was trained"
        advice = "Get that revision back; scores on another base would not be the adapter's."
        raise BaseModelError(facts.base.model, Fault("the base's revision", rule, now, advice))
    return loaded


def _read_mlmodel(folder: Path) -> dict[str, Any]:
    import yaml

    path = folder / _MLMODEL
    if not path.is_file():
        raise RefError(str(folder), "has no MLmodel file, but must be the folder of a logged model.")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        fault = Fault("not YAML", " ".join(str(error).split()), advice="Download the model again.")
        raise RefError(str(path), fault) from error
    if not isinstance(tree, dict):
        raise RefError(str(path), Fault("its content", "a mapping", tree, "Download the model again."))
    return tree


def _held_in(base: BaseConfig, dtype: str | None) -> BaseConfig:
    changes = {} if dtype is None else {"quantization": "none", "dtype": dtype, "compute_dtype": dtype}
    return base.model_copy(update=changes)


def _find_folder(facts: ModelFacts, given: str | None) -> str:
    place = given or os.environ.get(BASE_FOLDER_VARIABLE) or facts.base_folder
    if place is None or not is_local_base(Path(place)):
        rule = "there: the adapter was trained on it"
        advice = (
            f"Put it there (its hash is {facts.identity.revision}), or set {BASE_FOLDER_VARIABLE} to where it lies."
        )
        raise BaseModelError(facts.base.model, Fault("the base's folder", rule, place, advice))
    return place
