"""The model to export: its files, and what MLflow knows about it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.serving.export.card import CardFacts, is_hub_id
from tunery.serving.export.card_scores import CardScore, ScoredOn, card_scores

if TYPE_CHECKING:
    from tunery.tracking.flavor.flavor import ModelFacts
    from tunery.tracking.registry import ModelRef
    from tunery.tracking.run_facts import RunFacts
    from tunery.tracking.store import Store


@dataclass(frozen=True)
class ExportedModel:
    """A logged model: its files and its run."""

    ref: ModelRef
    folder: Path  # the files, in a temporary folder
    facts: ModelFacts
    run: RunFacts
    home: Path | None  # the project's folder, if it is on this machine
    scores: Sequence[CardScore] = ()
    scored_on: ScoredOn = "all"  # the items of `scores`: all, locked, or those that the model was chosen on

    @property
    def full(self) -> bool:
        """Whether every weight was trained, so there is no adapter."""
        return self.facts.method == "full"

    @property
    def on_hub(self) -> bool:
        """Whether others can download the base by its name."""
        return self.facts.base_folder is None and is_hub_id(self.facts.base.model)

    @property
    def base(self) -> str:
        """The base's public name: of a local folder, without its path."""
        return self.facts.base.model if self.facts.base_folder is None else Path(self.facts.base_folder).name

    @property
    def project(self) -> str:
        """The name of the model's project."""
        return self.run.tags.get("tunery.project") or self.ref.name or "model"


@contextmanager
def opened(ref: str, store: Store) -> Iterator[ExportedModel]:
    """Download a logged model for as long as the block lasts.

    Raises:
        RefError: If the reference does not resolve.
    """
    from tunery.serving.chat.pair import fetched
    from tunery.tracking.flavor.rebuild import read_facts
    from tunery.tracking.run_facts import project_folder, read_run

    with fetched(ref, store) as (found, folder):
        home = project_folder(store, found.run_id) if found.run_id else None
        run = read_run(store, found.run_id)
        yield ExportedModel(found, folder, read_facts(folder), run, home, *card_scores(run, store))


def card_facts(source: ExportedModel, form: str, name: str) -> CardFacts:
    """The contents of the model card.

    Args:
        source: The model.
        form: adapter or merged.
        name: The card's title.
    """
    from tunery.config.fingerprint import flatten

    facts, run = source.facts, source.run
    return CardFacts(
        name=name,
        form=form,
        base=source.base,
        revision=facts.identity.revision,
        license=facts.identity.license,
        hub_base=source.on_hub,
        full=source.full,
        scores=source.scores,
        scored_on=source.scored_on,
        data=run.data,
        settings=flatten(dict(run.config)),
        lineage=_lineage(source),
        weights=facts.base.quantization if facts.base.quantization != "none" else facts.base.dtype,
        chat_template=(source.folder / "chat_template.jinja").is_file(),
        new_tokens=_has_new_tokens(source.folder / "adapter_config.json"),
    )


def _has_new_tokens(config: Path) -> bool:
    return config.is_file() and bool(json.loads(config.read_text(encoding="utf-8")).get("trainable_token_indices"))


def _lineage(source: ExportedModel) -> dict[str, str]:
    from tunery import __version__

    tags = source.run.tags
    version = f"models:/{source.ref.name}/{source.ref.version}" if source.ref.version is not None else ""
    dirty = ", with uncommitted changes" if tags.get("tunery.git_dirty") == "true" else ""
    commit = tags.get("mlflow.source.git.commit", "")
    return {
        "registered version": version or tags.get("tunery.registered_version", ""),
        "logged model": source.ref.model_id,
        "run": source.ref.run_id or "",
        "git commit": f"{commit}{dirty}" if commit else "",
        "fingerprint of the settings": tags.get("tunery.fingerprint", ""),
        "tunery": __version__,
    }
