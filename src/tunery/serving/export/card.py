"""The model card of an exported model: README.md with the front matter that the Hub reads. Pure.

Source: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tunery.reporting.templates import markdown
from tunery.reporting.text import plus_minus
from tunery.serving.export.hub import is_hub_id

ScoredOn = Literal["all", "locked", "chosen"]

_SHOWN_SETTINGS = (
    "adapter.method", "adapter.rank", "adapter.alpha", "adapter.dropout", "adapter.target_modules", "adapter.dora",
    "adapter.rslora", "base.quantization", "data.max_length", "training.epochs", "training.max_steps",
    "training.learning_rate", "training.scheduler", "training.warmup_ratio", "training.micro_batch_size",
    "training.gradient_accumulation_steps", "training.seed",
)  # fmt: skip


@dataclass(frozen=True)
class CardScore:
    """A task's score beside its base's; None if unknown."""

    task: str
    metric: str
    value: float
    stderr: float | None = None
    base: float | None = None
    base_stderr: float | None = None
    delta_stderr: float | None = None

    @property
    def gain(self) -> float | None:
        """How much higher the score is than the base's."""
        return None if self.base is None else self.value - self.base


@dataclass(frozen=True)
class CardFacts:
    """The contents of a card."""

    name: str
    form: str  # adapter or merged
    base: str
    revision: str
    license: str | None
    hub_base: bool  # whether the base is on the Hub
    full: bool = False  # whether every weight was trained
    scores: Sequence[CardScore] = ()
    data: Mapping[str, Any] = field(default_factory=dict)  # data/report.json of the run
    settings: Mapping[str, Any] = field(default_factory=dict)  # the resolved project, flattened
    lineage: Mapping[str, str] = field(default_factory=dict)  # run, version, commit, ...
    checks: Sequence[str] = ()  # sentences on how the merged model compares, or why vLLM cannot load the adapter
    vllm_rank: int | None = None  # the value for `--max-lora-rank`; None if vLLM cannot load the adapter
    weights: str = ""  # form of the base's weights in training and scoring: nf4, float32, ...
    chat_template: bool = True  # whether the folder has a chat_template.jinja
    scored_on: ScoredOn = "all"  # the items of `scores`: all, locked, or those that the model was chosen on
    new_tokens: bool = False  # whether the adapter holds rows of tokens that the base may have no room for


def model_card(facts: CardFacts) -> str:
    """README.md: how to use the model, its scores with their errors, data, settings, lineage."""
    settings = {key: facts.settings[key] for key in _SHOWN_SETTINGS if facts.settings.get(key) is not None}
    values = {**vars(facts), "settings": settings, "front_matter": _front_matter(facts), "plus_minus": plus_minus}
    return markdown("tunery.serving.export", "card.md.j2", **values)


def _front_matter(facts: CardFacts) -> str:
    """The YAML that the Hub reads: base_model, library_name, license, datasets, metrics, model-index."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation", dataset_type=score.task, dataset_name=score.task, metric_type=score.metric,
            metric_name=score.metric, metric_value=round(score.value, 4),
        )
        for score in facts.scores
        if facts.scored_on != "chosen"
    ]  # fmt: skip
    sources = dict.fromkeys(str(source.get("source", "")) for source in facts.data.get("sources", ()))
    local = re.compile(r"\.(jsonl?|csv|parquet|xlsx)$")
    data = ModelCardData(
        base_model=facts.base if facts.hub_base else None,
        base_model_relation=None if not facts.hub_base else "adapter" if facts.form == "adapter" else "finetune",
        library_name="peft" if facts.form == "adapter" else "transformers",
        pipeline_tag="text-generation",
        license=facts.license or "unknown",
        datasets=[source for source in sources if is_hub_id(source) and not local.search(source)] or None,
        metrics=sorted({score.metric for score in facts.scores}) or None,
        tags=["tunery", "lora"] if not facts.full else ["tunery"],
        model_name=facts.name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml(line_break="\n")
