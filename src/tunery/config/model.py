"""The sections `base` and `adapter`: the pretrained model, and the update that is trained."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field, JsonValue

from tunery.config.section import Count, NumberOrText, Probability, Section, key


class OffloadConfig(Section):
    """Decoder layers that wait in the CPU's memory and pass through the card one by one: slow, and for scoring alone.

    `tunery evaluate` reads it; training, and what trains, is refused. At least one of the two amounts must be set.
    """

    gpu: NumberOrText | None = key(
        None, "Most memory of the card that weights may take, with a unit: '10 GiB'; unset: three quarters of it."
    )
    cpu: NumberOrText | None = key(
        None, "Most memory of the machine for the layers that the card has no room for: '30 GiB'; unset: what is free."
    )


class BaseConfig(Section):
    """The pretrained model that every score is anchored to."""

    model: str = Field(
        min_length=1, description="Hub id, local folder, .gguf file (dequantised once), or builtin:tiny."
    )
    revision: str = key(
        "main", "Branch, tag or commit on the Hub; the run records the commit it resolved to.", min_length=1
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = key(
        "auto", "Type of the weights that are not quantised; auto: bfloat16 if the device has it, else float32."
    )
    quantization: Literal["nf4", "int8", "none"] = key(
        "nf4", "How frozen weights are stored: 4-bit NF4 (QLoRA, arXiv:2305.14314), LLM.int8(), or as they are."
    )
    double_quantization: bool = key(True, "NF4 only: quantise the block scales too, about 0.4 bit a weight less.")
    compute_dtype: Literal["auto", "float32", "bfloat16", "float16"] = key(
        "auto", "Type that 4-bit weights are expanded to for a matrix product; auto: the same as dtype."
    )
    weights: Literal["auto", "packed", "expanded"] = key(
        "auto",
        "NF4 only: expand weights at every product (packed), or once, and keep them as well (expanded): faster, and "
        "the same numbers. auto: expanded on a CPU if half of its free memory suffices.",
    )
    offload: OffloadConfig | None = key(
        None,
        "Scoring alone, on a CUDA card: keep the layers that it has no room for, unquantised, in the CPU's memory.",
    )
    chat_template: str | None = key(
        None, "Jinja file to use instead of the tokenizer's own template; without either, ChatML is added."
    )
    chat_template_arguments: dict[str, JsonValue] = key(
        {}, "What the chat template is told, in training, scoring and serving alike: {enable_thinking: false}."
    )
    chat_template_date: date = key(
        "2024-07-26", "The day that a chat template is told it is, in training, scoring and serving alike."
    )
    trust_remote_code: bool = key(False, "Allow Python code from the model's repository to run on this machine.")


class AdapterConfig(Section):
    """The low-rank update that is trained. Source: LoRA, arXiv:2106.09685; QLoRA, arXiv:2305.14314."""

    method: Literal["lora", "full"] = key("lora", "lora: train an adapter; full: train every weight.")
    start: str | None = key(
        None,
        "An adapter to train on, of the same base and shape, instead of a new one: models:/name@alias, models:/name/3, "
        "runs:/id, or a folder.",
        min_length=1,
    )
    rank: Count = key(16, "Rank r of the update; trainable parameters grow linearly with it.")
    alpha: Count = key(32, "The update is scaled by alpha / r (alpha / sqrt(r) with rslora).")
    dropout: Probability = key(0.05, "Dropout on the adapter's input, training only.")
    target_modules: Literal["all-linear"] | list[str] = key(
        "all-linear", "Names of linear modules that get an adapter, or all-linear; never a router or the output head."
    )
    target_parameters: list[str] = key(
        [], "Fused expert parameters (MoE) that get an adapter; only over unquantised experts."
    )
    dora: bool = key(False, "Learn magnitude apart from direction (DoRA, arXiv:2402.09353).")
    rslora: bool = key(False, "Scale by alpha / sqrt(r), stable at high ranks (rsLoRA, arXiv:2312.03732).")
