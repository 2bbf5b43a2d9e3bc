"""Bytes in the phases of a run that may need most: in a step of training, and between steps."""

from __future__ import annotations

from math import prod

from tunery.config.project import Project
from tunery.estimation.activations import (
    FP32,
    Adaptation,
    Arithmetic,
    Batch,
    checkpoint_bytes,
    final_norm_bytes,
    head_bytes,
    layer_bytes,
    layer_work_bytes,
    mask_bytes,
)
from tunery.estimation.architecture import Architecture, Layer
from tunery.estimation.weights import adapted_linears, optimizer_bytes, step_bytes, trained_shapes, weight_bytes
from tunery.models.device import resolve_dtype, resolve_precision

# Tokens of an evaluation item without solved examples, as long as one is taken to be.
ITEM_TOKENS = 256


class Phases:
    """One project on one base, counted by phases; what does not change with rows and length is counted once.

    Args:
        project: The settings.
        arch: The base.
        device: cpu, cuda or mps.
    """

    def __init__(self, project: Project, arch: Architecture, device: str) -> None:
        self.project, self.arch, self.device = project, arch, device
        full = project.adapter.method == "full"
        self.how = _arithmetic(project, device)
        adapted = adapted_linears(arch, project.adapter)
        self.what = Adaptation(
            names=frozenset(linear.name for linear in adapted),
            rank=project.adapter.rank,
            dropout=project.adapter.dropout > 0,
            dora=project.adapter.dora,
            full=full,
            stored=project.base.quantization,
        )
        self._kinds = _kinds(arch, self.what)
        shapes = trained_shapes(arch, project.adapter, adapted)
        optimizer = project.training.optimizer
        self.trained = sum(map(prod, shapes))
        self.weights = weight_bytes(arch, project.base, self.how.stream)
        self.adapter = 0 if full else self.trained * FP32
        self.gradients = self.trained * FP32
        self.optimizer, self.step = optimizer_bytes(optimizer, shapes), step_bytes(optimizer, shapes)
        # Autocast keeps a copy of every trained weight until the backward pass.
        self.recast = self.trained * self.how.matrix if self.how.autocast else 0

    def resident(self) -> dict[str, int]:
        """Bytes that stay from step to step."""
        return {"weights": self.weights, "adapter": self.adapter, "optimizer": self.optimizer}

    def training(self, rows: int, length: int) -> dict[str, dict[str, int]]:
        """Bytes that come and go, by part, in the phases of a step that may need most."""
        training = self.project.training
        batch = Batch(rows, length, masked=rows > 1 or training.packing)
        kept, one, work = self._layers(batch)
        kept += final_norm_bytes(self.arch, batch) + mask_bytes(batch) + self.recast
        earlier = self.gradients if training.gradient_accumulation_steps > 1 else 0
        again = one if training.gradient_checkpointing else 0
        head = head_bytes(self.arch, self.how, batch, self.what.full)
        # The input's and the output's embeddings, when they are one matrix, each bring a gradient.
        twice = self.arch.head.size * FP32 if self.what.full and self.arch.tied else 0
        return {
            "the loss is taken": {"gradients": earlier, "activations": kept, "logits": head},
            "the last layer's gradient is taken": {
                "gradients": earlier,
                "activations": kept + again,
                "workspace": work,
            },
            "the first layer's gradient is taken": {
                "gradients": self.gradients,
                "activations": one + mask_bytes(batch) + self.recast,
                "workspace": work + twice,
            },
            "the optimizer steps": {"gradients": self.gradients, "workspace": self.step},
        }

    def _layers(self, batch: Batch) -> tuple[int, int, int]:
        """Bytes kept by all layers, by the largest one, and the most that one needs in addition."""
        each = [
            (layer_bytes(self.arch, layer, self.how, self.what, batch), count) for layer, count in self._kinds.values()
        ]
        largest = max(size for size, _ in each)
        if self.project.training.gradient_checkpointing:
            return checkpoint_bytes(self.arch, self.how, batch) * len(self.arch.layers), largest, self._work(batch)
        return sum(size * count for size, count in each), largest, self._work(batch)

    def _work(self, batch: Batch) -> int:
        return max(layer_work_bytes(self.arch, layer, self.how, self.what, batch) for layer, _ in self._kinds.values())

    def evaluation(self, rows: int, length: int) -> dict[str, int]:
        """Bytes that validation, scoring and generation need beside what is resident."""
        data, evaluation = self.project.data, self.project.evaluation
        works = {"validation": 0}
        if data.validation.source is not None or data.validation.fraction > 0:
            works["validation"] = self._forward(rows, length, copies=self._validation_copies())
        if evaluation.tasks:
            items = ITEM_TOKENS * (1 + (evaluation.few_shot or 0))
            items = min(items, self.arch.positions or items)
            works["scoring"] = self._forward(evaluation.batch_size, items, copies=self.how.stream + FP32)
        if evaluation.generation.prompts:
            most = min(evaluation.batch_size, evaluation.generation.prompts)
            works["generation"] = self._cache(most, length + evaluation.generation.max_new_tokens)
        return works

    def _validation_copies(self) -> int:
        """Bytes a logit: as computed, those of learned tokens apart, in fp32, and their log-softmax."""
        return 2 * self.how.stream + FP32 + (FP32 if self.how.stream != FP32 else 0)

    def _forward(self, rows: int, length: int, copies: int) -> int:
        """A forward pass without gradients: logits of every token, after the widest tensors of one layer."""
        batch = Batch(rows, length, masked=rows > 1)
        logits = batch.tokens * (self.arch.head.outputs * copies + self.arch.hidden * self.how.stream)
        return max(self._work(batch), logits) + mask_bytes(batch)

    def _cache(self, rows: int, length: int) -> int:
        """Keys and values of every layer, which are copied as a token is added, and the prompt's forward pass."""
        keys = 2 * self.arch.key_heads * self.arch.head_width * self.how.stream
        batch = Batch(rows, length, masked=rows > 1)
        return batch.tokens * keys * len(self.arch.layers) + self._work(batch)


def _kinds(arch: Architecture, what: Adaptation) -> dict[tuple[object, ...], tuple[Layer, int]]:
    """Layers that differ in more than their names, and how many there are of each."""
    kinds: dict[tuple[object, ...], tuple[Layer, int]] = {}
    for layer in arch.layers:
        linears = tuple((one.inputs, one.outputs, one.reads, one.name in what.names) for one in layer.linears)
        key = (layer.norms, layer.inner, layer.experts, layer.expert_inner, linears)
        kinds[key] = (layer, kinds.get(key, (layer, 0))[1] + 1)
    return kinds


def _arithmetic(project: Project, device: str) -> Arithmetic:
    """The bytes of numbers, by the rules of models.device; a card that is not here is taken to have bfloat16."""
    wanted, precision = project.base.dtype, project.training.precision
    if device == "cuda" and not _has_cuda():
        width = FP32 if wanted == "float32" else 2
        autocast = precision != "fp32"
    else:
        width = resolve_dtype(wanted, device).itemsize
        autocast = resolve_precision(precision, device) != "fp32"
    stream = FP32 if project.adapter.method == "full" else width
    return Arithmetic(stream, 2 if autocast else stream, autocast, device == "cuda")


def _has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())
