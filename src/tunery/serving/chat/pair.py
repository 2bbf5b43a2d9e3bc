"""Loads a trained model and its base; with an adapter both share one set of weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tunery.records import BaseIdentity
from tunery.serving.chat.generate import Writer
from tunery.tracking.registry import ModelRef
from tunery.tracking.store import Store


@dataclass(frozen=True)
class AnswerPair:
    """A tuned model and its base, ready to answer."""

    ref: ModelRef  # the resolved reference to the tuned model
    project: str  # the project of the tuned model
    base: Writer
    tuned: Writer
    identity: BaseIdentity  # the base model
    max_tokens: int  # the default length of an answer

    @property
    def name(self) -> str:
        """The tuned model as a person names it: "quickstart/3", or its reference if it has no version."""
        return f"{self.ref.name}/{self.ref.version}" if self.ref.version is not None else self.ref.ref


@contextmanager
def fetched(ref: str, store: Store) -> Iterator[tuple[ModelRef, Path]]:
    """Download a logged model's files to a temporary folder, which the block's end removes.

    Raises:
        RefError: If the reference does not resolve.
    """
    from tunery.tracking.registry import download, resolve

    found = resolve(ref, store)
    with TemporaryDirectory(prefix="tunery-") as place:
        yield found, download(found, Path(place), store)


def load_pair(ref: str, store: Store, device: str = "auto") -> AnswerPair:
    """Load a trained model and its base.

    Args:
        ref: models:/name@alias, models:/name/3, models:/<id> or runs:/<id>.
        store: MLflow's store.
        device: auto, cpu, cuda or mps.

    Raises:
        RefError: If the reference does not resolve.
        BaseModelError: If the base can no longer be loaded.
    """
    from tunery.evaluation.eval_mode import adapter_off, never_repack
    from tunery.tracking.flavor.rebuild import rebuild, rebuild_base
    from tunery.tracking.run_facts import project_of

    with fetched(ref, store) as (found, folder):
        rebuilt = rebuild(folder, device)
        # Every weight was trained: there is no adapter to switch off, so the base is a second model.
        apart = rebuild_base(folder, device) if rebuilt.facts.method == "full" else None
    never_repack(rebuilt.model)
    tokenizer, template = rebuilt.loaded.tokenizer, rebuilt.facts.template
    tuned = Writer(rebuilt.model, tokenizer, template)
    base = (
        Writer(rebuilt.model, tokenizer, template, adapter_off)
        if apart is None
        else Writer(apart.model, apart.tokenizer, template)
    )
    project = project_of(store, found)
    return AnswerPair(found, project, base, tuned, rebuilt.facts.identity, rebuilt.facts.max_new_tokens)
