"""The model to export: its files, and what MLflow knows about it and its scores."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunery import __version__
from tunery.config.fingerprint import flatten
from tunery.serving.export.card import CardFacts, CardScore, ScoredOn
from tunery.serving.export.hub import is_hub_id

if TYPE_CHECKING:
    from tunery.comparison.entries import RunEntry
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


def card_facts(
    source: ExportedModel, form: str, name: str, checks: Sequence[str] = (), vllm_rank: int | None = None
) -> CardFacts:
    """The contents of the model card; the parameters are as in `CardFacts`."""
    facts, run = source.facts, source.run
    config = source.folder / "adapter_config.json"
    adapter = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
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
        checks=checks,
        vllm_rank=vllm_rank,
        weights=facts.base.quantization if facts.base.quantization != "none" else facts.base.dtype,
        chat_template=(source.folder / "chat_template.jinja").is_file(),
        new_tokens=bool(adapter.get("trainable_token_indices")),
    )


def _lineage(source: ExportedModel) -> dict[str, str]:
    tags = source.run.tags
    version = f"models:/{source.ref.name}/{source.ref.version}" if source.ref.version is not None else ""
    dirty = ", with uncommitted changes" if tags.get("tunery.git_dirty") == "true" else ""
    commit = tags.get("mlflow.source.git.commit", "")
    return {
        "registered version": version or tags.get("tunery.registered_version", ""),
        "logged model": source.ref.model_id,
        "run": source.ref.run_id or "",
        "trained on from": tags.get("tunery.start", ""),
        "git commit": f"{commit}{dirty}" if commit else "",
        "fingerprint of the settings": tags.get("tunery.fingerprint", ""),
        "tunery": __version__,
    }


# ---- scores


def card_scores(run: RunFacts, store: Store) -> tuple[list[CardScore], ScoredOn]:
    """A run's scores for its card, on locked items if it has them, and what they are of."""
    shown = list(run.config.get("evaluation", {}).get("primary", {}))
    locked = scores_of(run.metrics, shown, "locked")
    if locked:  # the run logged its base's scores on other items
        entry = _with_answers(run, store)
        return [score if entry is None else _paired(score, entry) for score in locked], "locked"
    chosen = run.tags.get("tunery.kind") == "trial" or run.config.get("training", {}).get("keep_best_by") == "score"
    return scores_of(run.metrics, shown), "chosen" if chosen else "all"


def scores_of(metrics: Mapping[str, float], shown: Sequence[str] = (), kind: str = "lm_eval") -> list[CardScore]:
    """A run's metrics lm_eval/<task>/<metric> beside base/<task>/<metric>, with their errors.

    Args:
        metrics: The run's metrics.
        shown: Tasks to put first, in this order.
        kind: lm_eval, or locked, which the base's metrics are not measured on.
    """
    known = {key: value for key, value in metrics.items() if math.isfinite(value)}
    found = []
    for key, value in known.items():
        prefix, _, rest = key.partition("/")
        task, slash, metric = rest.rpartition("/")
        if prefix != kind or not slash or metric.endswith("_stderr"):
            continue
        beside = () if kind == "locked" else (f"base/{rest}", f"base/{rest}_stderr", f"delta/{rest}_stderr")
        found.append(CardScore(task, metric, value, known.get(f"{key}_stderr"), *map(known.get, beside)))
    order = {task: place for place, task in enumerate(shown)}
    return sorted(found, key=lambda score: (order.get(score.task, len(order)), score.task, score.metric))


def _with_answers(run: RunFacts, store: Store) -> RunEntry | None:
    """The run as a comparison reads it, with its own and its base's answers; None if it has no score to compare."""
    from tunery.comparison.read import read
    from tunery.comparison.samples import with_answers
    from tunery.comparison.selection import Selection
    from tunery.errors import InputError

    try:
        entries, _ = read(store, Selection(runs=(str(run.run_id),)))
        return with_answers(store, entries)[0]
    except InputError:
        return None


def _paired(score: CardScore, entry: RunEntry) -> CardScore:
    """Add the base's score on the same items, if its answers are kept."""
    from tunery.evaluation.result import averaging_of
    from tunery.statistics.paired import paired_stderr

    known = entry.tasks.get(score.task)
    if known is None or known.metric != score.metric or known.base is None or score.task not in entry.base_samples:
        return score
    own, base = entry.samples[score.task], entry.base_samples[score.task]
    averaging = averaging_of(own, score.metric, score.value) or "tasks"
    error = paired_stderr(base, own, score.metric, averaging)
    stderr = known.base_stderr if known.base_stderr is not None and math.isfinite(known.base_stderr) else None
    return replace(score, base=known.base, base_stderr=stderr, delta_stderr=error)
