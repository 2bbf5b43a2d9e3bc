"""An adapter that training begins with: read from its files, held against the settings, put in a new one's place."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunery.config.model import AdapterConfig, BaseConfig
from tunery.errors import BaseModelError, Fault
from tunery.models.adapter_files import WEIGHTS, check_adapter, named_base
from tunery.models.base_changes import config_changes
from tunery.models.files import first_few
from tunery.records.runs import BaseIdentity

LOGGED = ("models:/", "runs:/")
_OF = "of the adapter that training begins with"
# Settings that the two must share: project.yaml's name, PEFT's name, and PEFT's default.
_SHAPE = (("rank", "r", 8), ("alpha", "lora_alpha", 8), ("dora", "use_dora", False), ("rslora", "use_rslora", False))
# What project.yaml cannot say of an adapter, and what would have to be so.
_UNSAID = {
    "rank_pattern": "one rank for all modules",
    "alpha_pattern": "one alpha for all modules",
    "alora_invocation_tokens": "an adapter that is on at every token",
}
_HELD = re.compile(r"^base_model\.model\.(.+)\.lora_A\.weight$")


@dataclass(frozen=True)
class StartAdapter:
    """An adapter to train on."""

    named: str  # as adapter.start names it
    recorded: Mapping[str, Any]  # its adapter_config.json
    weights: Mapping[str, Any]  # its tensors by PEFT's names, on the CPU
    digest: str  # sha256:... of them
    identity: BaseIdentity | None = None  # the base it was trained on; None where only adapter_config.json says so
    model_id: str | None = None  # of the logged model
    run_id: str | None = None  # of the run that trained it

    @property
    def modules(self) -> set[str]:
        """Full names of the modules that it adapts."""
        return {found[1] for name in self.weights if (found := _HELD.match(name))}


def local_start(start: str, folder: Path) -> Path | None:
    """The folder that adapter.start means; None where it is a reference to MLflow.

    Args:
        start: adapter.start.
        folder: Of project.yaml; a relative path is looked for here first, then in the working folder.

    Raises:
        BaseModelError: If it is not there.
    """
    if start.startswith(LOGGED):
        return None
    places = (folder / start, Path.cwd() / start, Path(start).expanduser())
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        rule = "models:/name@alias, models:/name/3, runs:/id, or a folder that holds an adapter"
        advice = f"Looked in {folder} and the working folder."
        raise BaseModelError("adapter.start", Fault("adapter.start", rule, start, advice))
    return found.resolve()


def read_start(folder: Path, named: str, base: BaseConfig, **origin: Any) -> StartAdapter:
    """An adapter's files in memory.

    Args:
        folder: Holds adapter_config.json and adapter_model.safetensors.
        named: adapter.start.
        base: The section `base`.
        origin: What else is known of it: identity, model_id, run_id.

    Raises:
        BaseModelError: If files are missing, pickled or damaged, or the adapter cannot be put on such a base.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    recorded = check_adapter(folder, base.quantization)
    try:
        weights = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise BaseModelError(named, f"{WEIGHTS} is damaged ({error}). Get it anew.") from error
    with (folder / WEIGHTS).open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return StartAdapter(named, recorded, weights, digest, **origin)


def base_faults(base: BaseConfig, revision: str, start: StartAdapter) -> Iterator[Fault]:
    """What speaks against these being the weights that the adapter was trained over.

    Args:
        base: The section `base`.
        revision: Commit or hash of the base that it means now.
    """
    now = BaseIdentity(base.model, revision, base.quantization, "", "", "")
    then = start.identity
    recorded = {"base_model_name_or_path": then.model, "revision": then.revision} if then else start.recorded
    other = named_base(now, recorded)
    if other is not None:
        yield Fault("base.model", f"the base {_OF}: {other}", f"{base.model} at {revision}")
    if then is None:
        return
    if then.quantization != base.quantization:
        yield Fault("base.quantization", f"{then.quantization}, as under the adapter it begins with", base.quantization)
    elif base.quantization == "nf4" and then.details.get("double_quantization", True) != base.double_quantization:
        rule = f"{not base.double_quantization}, as under the adapter it begins with"
        yield Fault("base.double_quantization", rule, base.double_quantization)


def shape_faults(adapter: AdapterConfig, start: StartAdapter) -> Iterator[Fault]:
    """Where the settings and the adapter differ: all that project.yaml says of an adapter must be so, but dropout."""
    recorded = start.recorded
    for change in config_changes({**recorded, "trainable_token_indices": None}):
        yield Fault(
            "adapter.start",
            "an adapter that leaves the base's weights as they are",
            f"{start.named} with {change}",
            "Merge it into the base, and train a new adapter over that.",
        )
    if recorded.get("peft_type") != "LORA":
        return
    for key, name, usual in _SHAPE:
        then, now = recorded.get(name, usual), getattr(adapter, key)
        if then != now:
            written = json.dumps(then)
            yield Fault(f"adapter.{key}", f"{written}, the {key} {_OF}", now, f"Set adapter.{key}: {written}.")
    for name, rule in _UNSAID.items():
        if recorded.get(name):
            yield Fault("adapter.start", rule, f"{start.named} with {name}: {recorded[name]}")
    parameters = sorted(recorded.get("target_parameters") or [])
    if parameters != sorted(adapter.target_parameters):
        yield Fault("adapter.target_parameters", f"{parameters}, as {_OF}", adapter.target_parameters)


def target_faults(adapter: AdapterConfig, wanted: set[str], start: StartAdapter) -> Iterator[Fault]:
    """Where it adapts other modules than the settings name; `wanted` has their full names."""
    held = start.modules
    if adapter.target_parameters or held == wanted:  # experts' names are not modules': compared where they are put on
        return
    leaves = sorted({name.rpartition(".")[2] for name in held})
    unlike = [f"without {first_few(names)}" for names in (wanted - held,) if names]
    unlike += [f"with {first_few(names)}" for names in (held - wanted,) if names]
    rule = f"the modules {_OF}, which is {' and '.join(unlike)}"
    advice = f"Set adapter.target_modules: [{', '.join(leaves)}]." if leaves else ""
    yield Fault("adapter.target_modules", rule, adapter.target_modules, advice)


def begin_with(model: Any, start: StartAdapter) -> None:
    """Give a new adapter the weights of another of the same shape.

    Raises:
        BaseModelError: If a weight is missing, has no place, or has another shape; nothing was changed.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    own = {name: tensor.shape for name, tensor in get_peft_model_state_dict(model, save_embedding_layers=False).items()}
    given = {name: tensor.shape for name, tensor in start.weights.items()}
    unlike = [name for name in {**own, **given} if own.get(name) != given.get(name)]
    if unlike:
        rule = f"an adapter with the weights of the one that these settings make: {first_few(unlike)} differ"
        raise BaseModelError("adapter.start", Fault("adapter.start", rule, start.named))
    set_peft_model_state_dict(model, dict(start.weights))
