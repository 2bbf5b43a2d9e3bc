"""Putting an adapter on a loaded base, and taking it off again. Source: LoRA, arXiv:2106.09685."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunery.config.model import AdapterConfig
from tunery.errors import BaseModelError, ConfigError, Fault
from tunery.models.base import LoadedBase
from tunery.models.start import StartAdapter, begin_with
from tunery.models.targets import resolve_parameters, resolve_targets
from tunery.records.runs import AdapterFacts


@dataclass(frozen=True)
class Attached:
    """What will be trained: a PeftModel over the base, or the base itself for full fine-tuning."""

    model: Any
    facts: AdapterFacts


def attach_adapter(
    loaded: LoadedBase, adapter: AdapterConfig, seed: int, start: StartAdapter | None = None
) -> Attached:
    """Make the weights that will be trained, from a seed. The base is changed in place; `detach_adapter` gives it back.

    Args:
        start: The adapter that training begins with instead of a new one.

    Raises:
        ConfigError: If a target matches nothing, is a router or the head, or experts are quantised.
        BaseModelError: If `start` is not of the shape that the settings make; the base is as it was.
    """
    if adapter.method == "full":
        return _train_everything(loaded)
    import torch
    from peft import get_peft_model

    settings = _lora_settings(loaded, adapter)
    torch.manual_seed(seed)  # before get_peft_model, which draws lora_A
    model = get_peft_model(loaded.model, settings)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # in bf16, 94 % of lora_A did not move at lr 2e-5
    if start is not None:
        try:
            begin_with(model, start)
        except BaseModelError:
            detach_adapter(model)
            raise
    model.eval()
    return Attached(model, _facts(model))


def detach_adapter(model: Any) -> Any:
    """The base as it was before the adapter, frozen and in eval mode; full training stays in it."""
    base = model.unload() if hasattr(model, "peft_config") and hasattr(model, "unload") else model
    if hasattr(base, "peft_config"):
        del base.peft_config  # left behind by unload; the next adapter would be taken for a second one
    return base.requires_grad_(False).eval()


def merge_adapter(model: Any, where: str) -> Any:
    """The base with the adapter's update added to its weights; what is judged as merged and what is exported are one.

    The PeftModel is used up.

    Raises:
        BaseModelError: If a weight is no number, or the adapter is of a kind that cannot be merged.
    """
    try:
        return model.merge_and_unload(safe_merge=True).eval()
    except (ValueError, RuntimeError, NotImplementedError) as error:  # what PEFT raises for both
        detail = " ".join(str(error).split()) or type(error).__name__
        raise BaseModelError(where, f"the adapter cannot be merged ({detail}).") from error


def _train_everything(loaded: LoadedBase) -> Attached:
    if loaded.identity.quantization != "none":
        rule = "'none' when adapter.method is full: quantised weights cannot be trained"
        fault = Fault("base.quantization", rule, loaded.identity.quantization, "Or set adapter.method: lora.")
        raise ConfigError(f"adapter on {loaded.identity.model}", fault)
    loaded.model.requires_grad_(True)
    return Attached(loaded.model, _facts(loaded.model))


def _lora_settings(loaded: LoadedBase, adapter: AdapterConfig) -> Any:
    from peft import LoraConfig

    stored = loaded.identity.quantization
    if adapter.target_parameters and stored != "none":
        rule = f"empty when base.quantization is {stored}: adapters on quantised experts match nothing"
        advice = "Set base.quantization: none, or adapt linear modules only."
        fault = Fault("adapter.target_parameters", rule, adapter.target_parameters, advice)
        raise ConfigError(f"adapter on {loaded.identity.model}", fault)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=resolve_targets(loaded.model, adapter.target_modules),
        target_parameters=resolve_parameters(loaded.model, adapter.target_parameters) or None,
        use_dora=adapter.dora,
        use_rslora=adapter.rslora,
        trainable_token_indices=_new_rows(loaded),
        revision=loaded.identity.revision,
    )


def _new_rows(loaded: LoadedBase) -> dict[str, list[int]] | None:
    """Embedding rows of added tokens, of the output head too where it is not the same matrix."""
    if not loaded.new_token_ids:
        return None
    inputs, outputs = loaded.model.get_input_embeddings(), loaded.model.get_output_embeddings()
    trained = [inputs]
    if outputs is not None and outputs.weight is not inputs.weight:
        if getattr(outputs, "bias", None) is not None:
            # PEFT's wrapper computes x W^T and would drop the bias without a word.
            advice = "Name a Jinja file that uses tokens of this base."
            fault = Fault("base.chat_template", "a file, because this base's output head has a bias", None, advice)
            raise ConfigError(f"adapter on {loaded.identity.model}", fault)
        trained.append(outputs)
    return {name: list(loaded.new_token_ids) for name, module in loaded.model.named_modules() if module in trained}


def _facts(model: Any) -> AdapterFacts:
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    modules = layers or [name for name, _ in model.named_parameters()]
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = model.num_parameters() if not layers else model.get_nb_trainable_parameters()[1]
    return AdapterFacts(tuple(name.removeprefix("base_model.model.") for name in modules), trainable, int(total))
