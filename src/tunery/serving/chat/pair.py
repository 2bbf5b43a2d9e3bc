"""A trained model and its base in memory, from one set of weights where an adapter tells them apart."""

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
    """Two writers.

    Args:
        ref: What was asked for, followed to its model.
        project: The project that the model is of.
        max_tokens: Default length of an answer.
    """

    ref: ModelRef
    project: str
    base: Writer
    tuned: Writer
    identity: BaseIdentity
    max_tokens: int

    @property
    def name(self) -> str:
        """The tuned model's, as a person calls it: "quickstart/3", else its reference."""
        return f"{self.ref.name}/{self.ref.version}" if self.ref.version is not None else self.ref.ref


@contextmanager
def fetched(ref: str, store: Store) -> Iterator[tuple[ModelRef, Path]]:
    """A logged model's files in a folder of their own, for as long as the block lasts.

    Raises:
        RefError: If the reference leads nowhere.
    """
    from tunery.tracking.registry import download, resolve

    found = resolve(ref, store)
    with TemporaryDirectory(prefix="tunery-") as place:
        yield found, download(found, Path(place), store)


def load_pair(ref: str, store: Store, device: str = "auto") -> AnswerPair:
    """Load a trained model, and its base with it.

    Args:
        ref: models:/name@alias, models:/name/3, models:/<id> or runs:/<id>.
        store: MLflow's store.
        device: auto, cpu, cuda or mps.

    Raises:
        RefError: If the reference leads nowhere.
        BaseModelError: If the base is not there any more.
    """
    from tunery.evaluation.eval_mode import adapter_off, never_repack
    from tunery.tracking.flavor.rebuild import rebuild, rebuild_base
    from tunery.tracking.run_facts import project_of

    with fetched(ref, store) as (found, folder):
        rebuilt = rebuild(folder, device)
        # Every weight was trained: nothing can be switched off, so the base is a second model.
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
