"""Bytes in the phases of a run that may need most: in a step of training, and between steps."""

from __future__ import annotations

from math import prod

from tunery.config.project import Project
from tunery.config.training import DistillationConfig
from tunery.estimation.activations import FP32, Adaptation, Arithmetic, Batch, Pass
from tunery.estimation.architecture import Architecture, Layer
from tunery.estimation.weights import adapted_linears, optimizer_bytes, step_bytes, trained_shapes, weight_bytes
from tunery.models.device import resolve_dtype, resolve_precision

# Tokens of an evaluation item without solved examples, as long as one is taken to be.
ITEM_TOKENS = 256
# English has 4 to 5 a token.
_CHARACTERS = 3


class Phases:
    """One project on one base, counted by phases; what does not change with rows and length is counted once.

    Args:
        project: The settings.
        arch: The base.
        device: cpu, cuda or mps.
        context: Tokens that the teacher of context distillation reads before a row; None: as many as they are taken
            to be.
    """

    def __init__(self, project: Project, arch: Architecture, device: str, context: int | None = None) -> None:
        self.project, self.arch, self.device = project, arch, device
        distilled = project.training.distils
        self.context = 0 if distilled is None else _taken(distilled) if context is None else context
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
        shapes = trained_shapes(arch, project.adapter, adapted) if project.training.trains else []
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
        one_pass = self._pass(rows, length, masked=rows > 1 or training.packing)
        layers = [(one_pass.layer_bytes(layer), count) for layer, count in self._kinds.values()]
        largest, work = max(size for size, _ in layers), self._work(one_pass)
        if training.gradient_checkpointing:
            kept, again = one_pass.checkpoint_bytes() * len(self.arch.layers), largest
        else:
            kept, again = sum(size * count for size, count in layers), 0
        shared = one_pass.mask_bytes() + self.recast
        kept += one_pass.final_norm_bytes() + shared
        earlier = self.gradients if training.gradient_accumulation_steps > 1 else 0
        # The input's and the output's embeddings, when they are one matrix, each bring a gradient.
        twice = self.arch.head.size * FP32 if self.what.full and self.arch.tied else 0
        logits = one_pass.head_bytes() if training.distils is None else self._compared(rows * length)
        reading = {"gradients": earlier, "teacher": self._teacher(rows, length)}
        return {
            **({} if training.distils is None else {"the teacher reads": reading}),
            "the loss is taken": {"gradients": earlier, "activations": kept, "logits": logits},
            "the last layer's gradient is taken": {
                "gradients": earlier,
                "activations": kept + again,
                "workspace": work,
            },
            "the first layer's gradient is taken": {
                "gradients": self.gradients,
                "activations": largest + shared,
                "workspace": work + twice,
            },
            "the optimizer steps": {"gradients": self.gradients, "workspace": self.step},
        }

    def _teacher(self, rows: int, length: int) -> int:
        """The teacher's pass over rows and their context, without gradients, to the logits of the rows' tokens."""
        most = length + self.context
        one_pass = self._pass(rows, min(most, self.arch.positions or most), masked=rows > 1)
        return max(self._work(one_pass), self._compared(rows * length) // 2) + one_pass.mask_bytes()

    def _compared(self, tokens: int) -> int:
        """Logits of teacher and student as computed, in fp32 and as log-softmax, and what is made of the two.

        Every token is taken to be one of an answer: how many are, only the rows tell.
        """
        return tokens * self.arch.head.outputs * 2 * (self.how.stream + 3 * FP32)

    def _pass(self, rows: int, length: int, masked: bool) -> Pass:
        return Pass(self.arch, self.how, self.what, Batch(rows, length, masked))

    def _work(self, one_pass: Pass) -> int:
        return max(one_pass.layer_work_bytes(layer) for layer, _ in self._kinds.values())

    def evaluation(self, rows: int, length: int) -> dict[str, int]:
        """Bytes that validation, scoring and generation need beside what is resident."""
        data, evaluation = self.project.data, self.project.evaluation
        width, works = self.how.stream, {"validation": 0}
        context = self.context_tokens()
        trains = self.project.training.trains
        if trains and (data.validation.source is not None or data.validation.fraction > 0):
            # As computed, those of learned tokens apart, in fp32, and their log-softmax.
            works["validation"] = self._forward(rows, length, 2 * width + FP32 + (FP32 if width != FP32 else 0))
            if self.project.training.distils is not None:
                compared = self._teacher(rows, length) + self._compared(rows * length) // 2
                works["validation"] = max(works["validation"], compared)
        if evaluation.tasks:
            items = context + ITEM_TOKENS * (1 + (evaluation.few_shot or 0))
            items = min(items, self.arch.positions or items)
            works["scoring"] = self._forward(evaluation.batch_size, items, width + FP32)
        if evaluation.generation.prompts:
            most = min(evaluation.batch_size, evaluation.generation.prompts)
            works["generation"] = self._generation(most, context + length + evaluation.generation.max_new_tokens)
        if evaluation.answers:
            new_tokens = max(one.max_new_tokens for one in evaluation.answers)
            works["answers"] = self._generation(evaluation.batch_size, context + length + new_tokens)
        return works

    def context_tokens(self) -> int:
        """Tokens of the solved examples before an item, each as long as an item is taken to be."""
        training = self.project.training
        return 0 if training.trains else ITEM_TOKENS * training.in_context.examples

    def _generation(self, rows: int, length: int) -> int:
        """Keys and values, and the prompt's forward pass."""
        return self.cache_bytes(rows, length) + self._work(self._pass(rows, length, masked=rows > 1))

    def cache_bytes(self, rows: int, length: int) -> int:
        """Keys and values of every layer, which keeps no more than its window."""
        each = 2 * self.arch.key_heads * self.arch.head_width * self.how.stream
        return rows * each * sum(min(length, layer.window or length) for layer in self.arch.layers)

    def _forward(self, rows: int, length: int, copies: int) -> int:
        """A forward pass without gradients: logits of `copies` bytes, after the widest tensors of one layer."""
        one_pass = self._pass(rows, length, masked=rows > 1)
        each = self.arch.head.outputs * copies + self.arch.hidden * self.how.stream
        return max(self._work(one_pass), one_pass.batch.tokens * each) + one_pass.mask_bytes()


def _taken(distilled: DistillationConfig) -> int:
    """Tokens of a context before its rows are known: examples as long as items, and a token for 3 characters."""
    text = distilled.context or ""
    return ITEM_TOKENS * (distilled.examples or 0) + -(-len(text) // _CHARACTERS)


def _kinds(arch: Architecture, what: Adaptation) -> dict[tuple[object, ...], tuple[Layer, int]]:
    """Layers that differ in more than their names, and how many there are of each."""
    kinds: dict[tuple[object, ...], tuple[Layer, int]] = {}
    for layer in arch.layers:
        linears = tuple((one.inputs, one.outputs, one.reads, one.name in what.names) for one in layer.linears)
        key = (layer.norms, layer.head_norms, layer.inner, layer.experts, layer.expert_inner, layer.window, linears)
        kinds[key] = (layer, kinds.get(key, (layer, 0))[1] + 1)
    return kinds


def _arithmetic(project: Project, device: str) -> Arithmetic:
    """The bytes of numbers, by the rules of models.device; a card that is not here is taken to have bfloat16."""
    import torch

    wanted, precision = project.base.dtype, project.training.precision
    if device == "cuda" and not torch.cuda.is_available():
        width = FP32 if wanted == "float32" else 2
        autocast = precision != "fp32"
    else:
        width = resolve_dtype(wanted, device).itemsize
        autocast = resolve_precision(precision, device) != "fp32"
    stream = FP32 if project.adapter.method == "full" else width
    return Arithmetic(stream, 2 if autocast else stream, autocast, device == "cuda")
