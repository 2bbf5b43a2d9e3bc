"""What belongs to one training.method, and what another has no use for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunery.config.model import AdapterConfig
from tunery.config.search import SearchConfig
from tunery.config.training import InContextConfig, TrainingConfig
from tunery.errors import Fault

# The section below training that a method has to itself.
_SECTIONS: Mapping[str, str] = {"icl": "icl", "context-distillation": "distillation"}

# All of the section training that decides what a method without training does.
_WITHOUT_TRAINING = ("method", "seed", "device", *_SECTIONS.values())


def used(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved project without what its method has no use for: another's section; an adapter and steps of icl.

    Examples of icl that are not set are its defaults. Without base.offload, its key goes too: such runs are what they
    were before there was one.
    """
    if "base" in tree and tree["base"].get("offload") is None:
        tree = {**tree, "base": {name: value for name, value in tree["base"].items() if name != "offload"}}
    training = tree.get("training", {})
    method = training.get("method")
    others = {section for owner, section in _SECTIONS.items() if owner != method}
    kept = {name: value for name, value in training.items() if name not in others}
    if method != "icl":
        return {**tree, "training": kept}
    kept = {name: value for name, value in kept.items() if name in _WITHOUT_TRAINING}
    kept["icl"] = kept.get("icl") or InContextConfig().model_dump(mode="json")
    return {**{name: section for name, section in tree.items() if name != "adapter"}, "training": kept}


def method_faults(training: TrainingConfig, adapter: AdapterConfig, search: SearchConfig) -> Iterator[Fault]:
    """Settings of another method than the project's; none where a search compares methods, which needs them all."""
    if training.method == "context-distillation":
        yield from _distillation_faults(training, adapter)
    elif training.trains and training.keep_best_by == "validation/kl":
        rule = "validation/nll, score or last unless training.method is context-distillation: there is no teacher"
        yield Fault("training.keep_best_by", rule, "validation/kl")
    if "training.method" in search.space:
        return
    for method, section in _SECTIONS.items():
        if training.method != method and getattr(training, section) is not None:
            rule = f"unset unless training.method is {method}, or search.space has training.method"
            yield Fault(f"training.{section}", rule, "set", f"Set training.method: {method}, or leave it out.")
    if not training.trains:
        yield from _faults_without_training(training, adapter)


def _faults_without_training(training: TrainingConfig, adapter: AdapterConfig) -> Iterator[Fault]:
    nothing = f"training.method is {training.method}: nothing is trained"
    if training.packing:
        yield Fault("training.packing", f"false when {nothing}", True, "Leave it out.")
    if adapter != AdapterConfig():
        yield Fault("adapter", f"unset when {nothing}", "set", "Leave it out, or lay --adapter '{}' over it.")


def _distillation_faults(training: TrainingConfig, adapter: AdapterConfig) -> Iterator[Fault]:
    method, section = "training.method is context-distillation", "training.distillation"
    if training.packing:
        rule = f"false when {method}: a row and the row after its context have other lengths"
        yield Fault("training.packing", rule, True, "Leave it out.")
    if training.loss_on == "all":
        rule = f"auto, completion or assistant when {method}: teacher and student have only answers in common"
        yield Fault("training.loss_on", rule, "all")
    distilled = training.distillation
    if distilled is None:
        yield Fault(section, f"set when {method}", None, "Try {examples: 16}, or {context: A text.}.")
        return
    if (distilled.context is None) == (distilled.examples is None):
        given = "neither" if distilled.context is None else "both"
        yield Fault(section, f"needs either context (a text) or examples (a number of rows), and has {given}")
    if distilled.context is not None and not distilled.context.strip():
        rule = "a text: after an empty one, the teacher says what the student says"
        yield Fault(f"{section}.context", rule, distilled.context)
    if distilled.examples is None:
        for name, usual in (("resample", "never"), ("balanced", False)):
            if (got := getattr(distilled, name)) != usual:
                yield Fault(f"{section}.{name}", "unset without training.distillation.examples", got)
    if distilled.teacher == "initial" and adapter.method == "full":
        rule = "current when adapter.method is full: training changes the very weights that the initial teacher has"
        yield Fault(f"{section}.teacher", rule, "initial", "Or set adapter.method: lora.")
