"""What belongs to one training.method, and what another has no use for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunery.config.model import AdapterConfig
from tunery.config.search import SearchConfig
from tunery.config.training import TrainingConfig
from tunery.errors import Fault

# The section below training that a method has to itself.
_SECTIONS: Mapping[str, str] = {"icl": "icl"}


# All of the section training that decides what a method without training does.
_WITHOUT_TRAINING = ("method", "seed", "device", *_SECTIONS.values())


def used(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved project without what its method has no use for: another's section; an adapter and steps of icl."""
    training = tree.get("training", {})
    method = training.get("method")
    others = {section for owner, section in _SECTIONS.items() if owner != method}
    kept = {name: value for name, value in training.items() if name not in others}
    if method != "icl":
        return {**tree, "training": kept}
    kept = {name: value for name, value in kept.items() if name in _WITHOUT_TRAINING}
    return {**{name: section for name, section in tree.items() if name != "adapter"}, "training": kept}


def method_faults(training: TrainingConfig, adapter: AdapterConfig, search: SearchConfig) -> Iterator[Fault]:
    """Settings of another method than the project's; none where a search compares methods, which needs them all."""
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
