"""In-context learning in place of training: the base, asked after solved examples, is what the run is about."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunery.data.context import Context
from tunery.records.rows import DataReport
from tunery.records.scores import TaskResult
from tunery.runs.cache import Loaded
from tunery.runs.context import facts_of
from tunery.runs.scoring import own_scores

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunery.evaluation.items import Split
    from tunery.records.runs import ContextFacts
    from tunery.tracking.run import Tracker


def score_in_context(
    loaded: Loaded, tracker: Tracker, split: Split = "all"
) -> tuple[dict[str, TaskResult], dict[str, float]]:
    """The base's results after the run's context, and what they cost, logged under the names of a training's costs.

    Returns:
        Results by task; train_seconds, model_bytes and trainable_parameters, which are 0, and peak_memory_bytes.

    Raises:
        ConfigError: If the model takes fewer tokens than an item has after the context.
    """
    from tunery.training.memory import peak_memory_bytes, reset_peak_memory

    reset_peak_memory(loaded.base.device)
    results = own_scores(loaded, split)
    costs = {"train_seconds": 0.0, "peak_memory_bytes": float(peak_memory_bytes(loaded.base.device))}
    sizes = {"model_bytes": 0, "trainable_parameters": 0}
    tracker.log_metrics(costs)
    tracker.log_constants(sizes)
    return results, costs | sizes


def log_context(loaded: Loaded, tracker: Tracker) -> ContextFacts:
    """What the report says of the context; its text is kept as context.txt."""
    assert loaded.context is not None, "only in-context learning has one"
    facts = facts_of(loaded.context, loaded.tasks.chat_template, loaded.tokenizer)
    tracker.log_text(facts.text, "context.txt")
    return facts


def preview_context(context: Context, count: int, chat: bool, tokenizer: Any) -> RenderableType:
    """The first `count` examples as the model reads them before every item."""
    from rich.console import Group
    from rich.rule import Rule
    from rich.text import Text

    whole = facts_of(context, chat, tokenizer)
    shown = facts_of(replace(context, examples=context.examples[:count]), chat, tokenizer)
    said = f"the first {len(shown.origins)} of the {len(whole.origins)} examples that stand before every item"
    total = Text(f"{whole.tokens:,} tokens in all; nothing is learned. The rows: {', '.join(whole.origins) or 'none'}.")
    return Group(Rule(said), Text(shown.text), total)


def report_of(loaded: Loaded) -> DataReport:
    """The data report of a run whose training rows are those of its context: of the others, nothing is learned."""
    report = loaded.rows.report
    if loaded.context is None:
        return report
    facts = facts_of(loaded.context, loaded.tasks.chat_template, loaded.tokenizer)
    others = len(loaded.rows.train_conversations) - len(facts.origins)
    left_out = {**report.left_out, **({"training.icl.examples": others} if others else {})}
    return replace(
        report,
        train_rows=len(facts.origins),
        train_tokens=facts.tokens,
        token_percentiles={},
        target_share=0.0,
        truncated=(),
        left_out=left_out,
    )
