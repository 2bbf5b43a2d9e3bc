"""Loading the base model: the pretrained weights that every score is anchored to."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.config.model import BaseConfig
from tunery.errors import BaseModelError, Fault, OutOfMemory, TuneryError, first_line
from tunery.models.chat_template import settle_template, settle_tokenizer, template_hash
from tunery.models.device import resolve_device, resolve_dtype
from tunery.models.files import first_few, positions, read_config
from tunery.models.libraries import import_bitsandbytes, quiet_libraries
from tunery.models.offload import offload, placed_by_map
from tunery.models.quantize import fused_experts, keep_cpu_layout, quantization_config, quantize_experts
from tunery.models.source import BaseFiles, find_base, tokenizer_folder
from tunery.models.template_settings import told
from tunery.records.runs import BaseIdentity

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LoadedBase:
    """A base in memory, ready for adapters."""

    model: Any  # transformers' causal language model, in eval mode, nothing trainable
    tokenizer: Any  # with a chat template (unless loaded with chat=False) and a padding token
    identity: BaseIdentity
    device: str  # cpu, cuda or mps
    # Tokens that were added and have untrained embedding rows; an adapter must learn them.
    new_token_ids: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()  # sentences for a person: "added ChatML", ...
    offloaded: tuple[str, ...] = ()  # names of layers that wait in the CPU's memory, see `models.offload`
    load_seconds: float = 0.0  # from the files on disk, which were found and hashed before, to the model on its device


def load_base(
    base: BaseConfig,
    folder: Path,
    device: str = "auto",
    *,
    chat: bool = True,
    placement: Mapping[str, str] | None = None,
) -> LoadedBase:
    """Load the base as the project declares it: from the package, a folder or the Hub, quantised or not.

    Args:
        folder: Folder of project.yaml; relative paths are looked for here first, then in the working folder.
        device: training.device; auto takes CUDA, then MPS, then the CPU.
        chat: Whether conversations need a chat template (data.template is chat). Without one, ChatML is added.
        placement: Where each module lies, the card or "cpu": from `estimation.offload`, if base.offload is set.

    Raises:
        BaseModelError: If the base is not there, has no tokenizer, only pickled weights, needs code not
            allowed, or its weights and its config do not belong together; or if a GGUF file cannot be read rightly.
        ConfigError: If the device or the template file is not there.
        OutOfMemory: If the weights do not fit.
    """
    quiet_libraries()
    import_bitsandbytes()  # PEFT imports it for every adapter, quantised or not
    device = resolve_device(device)
    dtype = resolve_dtype(base.dtype, device)
    compute_dtype = dtype if base.compute_dtype == "auto" else resolve_dtype(base.compute_dtype, device)
    offloaded = tuple(name for name, place in (placement or {}).items() if place == "cpu")
    quantization = quantization_config(base, compute_dtype, device, offloads=bool(offloaded))
    files = find_base(base, folder)
    began = time.perf_counter()
    tokenizer = _load_tokenizer(base, files.folder)
    weights_folder = files.folder if files.gguf is None else files.gguf.weights(dtype)
    where = {"": device} if placement is None else dict(placement)
    with placed_by_map() if offloaded else nullcontext():
        model = _load_weights(base, weights_folder, dtype=dtype, device_map=where, quantization_config=quantization)
    mended = (*_dequantised(base, files, dtype), *_mend_quantisation(model, base, device, compute_dtype, offloaded))
    template = settle_template(model, tokenizer, base, folder, chat)
    model.requires_grad_(False).eval()
    # The name that adapters record: the project's, not the place in a cache.
    model.config._name_or_path = model.name_or_path = base.model
    identity = _identity(base, files, model, tokenizer, template.name, (dtype, compute_dtype), offloaded)
    offload(model, offloaded, device)
    notes, seconds = (*mended, *template.notes), time.perf_counter() - began
    return LoadedBase(model, tokenizer, identity, device, template.new_token_ids, notes, offloaded, seconds)


def _identity(
    base: BaseConfig,
    files: BaseFiles,
    model: Any,
    tokenizer: Any,
    template: str,
    dtypes: tuple[torch.dtype, torch.dtype],  # of the weights, and of what is computed with them
    offloaded: tuple[str, ...],
) -> BaseIdentity:
    return BaseIdentity(
        model=base.model,
        revision=files.revision,
        quantization=base.quantization,
        dtype=str(dtypes[0]).removeprefix("torch."),
        compute_dtype=str(dtypes[1]).removeprefix("torch."),
        chat_template=template,
        license=files.license,
        details={
            "architecture": type(model).__name__,
            "parameters": int(model.num_parameters()),
            "double_quantization": base.double_quantization and base.quantization == "nf4",
            "template_sha256": template_hash(tokenizer),
            "template": told(tokenizer, base),
            **({} if files.gguf is None else {"dequantised_from": files.gguf.stored_as}),
            **({"offloaded": list(offloaded)} if offloaded else {}),
        },
    )


def load_tokenizer(base: BaseConfig, folder: Path, *, chat: bool = True) -> Any:
    """The tokenizer alone, with the template and tokens that `load_base` would give it: for a look at the data.

    Raises:
        BaseModelError, ConfigError: As `load_base`.
    """
    quiet_libraries()
    tokenizer = _load_tokenizer(base, tokenizer_folder(base, folder))
    settle_tokenizer(tokenizer, base, folder, chat)
    return tokenizer


def _load_tokenizer(base: BaseConfig, folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=base.trust_remote_code)
    except TuneryError:  # a signal's Interrupted may come at any line
        raise
    except Exception as error:  # files of others: AttributeError and huggingface_hub's own classes were seen
        raise BaseModelError(base.model, f"its tokenizer cannot be loaded ({_first_line(error)}).") from error
    # Many tokenizers know no limit (10^30), and some one of another model.
    if longest := positions(read_config(base.model, folder)):
        tokenizer.model_max_length = longest
    return tokenizer


def _load_weights(base: BaseConfig, folder: Path, **settings: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            **settings,
            use_safetensors=True,
            trust_remote_code=base.trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
        )
    except TuneryError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(f"loading {base.model}", _first_line(error)) from error
    except Exception as error:  # files of others: RuntimeError and huggingface_hub's own classes were seen
        raise BaseModelError(base.model, f"its weights cannot be loaded ({_first_line(error)}).") from error
    _check_complete(base.model, model, report)
    return model


def _check_complete(name: str, model: Any, report: Mapping[str, Any]) -> None:
    """Refuse weights that are missing, of another shape, or left out: transformers draws the rest at random.

    Other unexpected weights are no fault: a checkpoint may hold an image tower or old buffers that the text model does
    not use. Tied weights are not in the report's missing_keys.
    """
    holders = {_any_layer(key) for key, _ in model.named_parameters()}
    found = {
        "a model with every weight that config.json describes: {} missing": report["missing_keys"],
        "a model whose weights have config.json's shapes: {} have not": [key for key, *_ in report["mismatched_keys"]],
        # The model has a place for them in some layer: a layer too many, or a bias switched off.
        "a model whose weights config.json describes: {} have no place": [
            key for key in report["unexpected_keys"] if _any_layer(key) in holders
        ],
    }
    faults = []
    for rule, keys in found.items():
        if keys:
            advice = "Copy config.json and the weights anew, from the same model."
            faults.append(Fault("base.model", rule.format(first_few(keys)), name, advice))
    if faults:
        raise BaseModelError(name, faults)


def _any_layer(weight: str) -> str:
    return re.sub(r"\b\d+\b", "*", weight.rpartition(".")[0])


def _dequantised(base: BaseConfig, files: BaseFiles, dtype: torch.dtype) -> tuple[str, ...]:
    if files.gguf is None:
        return ()
    again = "" if base.quantization == "none" else f", then quantised to {base.quantization}: rounded twice"
    return (
        f"{base.model} holds {files.gguf.stored_as} weights: dequantised to {str(dtype).removeprefix('torch.')}{again}",
    )


def _mend_quantisation(
    model: Any, base: BaseConfig, device: str, dtype: torch.dtype, offloaded: Sequence[str]
) -> tuple[str, ...]:
    if base.quantization == "int8" and fused_experts(model):
        return ("fused experts stay unquantised under int8; nf4 quantises them",)
    if base.quantization != "nf4":
        return ()
    from tunery.models.expanded import settle_weights

    keep_cpu_layout(model)
    experts = quantize_experts(model, base.double_quantization, offloaded)
    told = (f"{experts} fused expert parameters quantised to nf4",) if experts else ()
    return (*told, *settle_weights(model, base.weights, device, dtype))


def _first_line(error: BaseException) -> str:
    return first_line(error).rstrip(".")
