"""The solved examples of in-context learning: drawn from the rows, and checked before a model is loaded."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tunery.config.project import Project
from tunery.data.context import Context, draw_context
from tunery.records import ContextFacts, PreparedData

if TYPE_CHECKING:
    from tunery.evaluation.tasks import Tasks


def context_of(project: Project, rows: PreparedData) -> Context | None:
    """What the items are asked after; None for a method that trains.

    Raises:
        DataError: As `draw_context`.
    """
    training = project.training
    if training.trains:
        return None
    wanted, key = training.in_context, "training.icl.examples"
    drawn = draw_context(rows.train_conversations, wanted.examples, training.seed, key=key, balanced=wanted.balanced)
    return Context(drawn, wanted.separator, project.data.separator)


def check_context(context: Context, project: Project, tasks: Tasks, rows: PreparedData, tokenizer: Any) -> None:
    """Refuse examples that are items, and a context after which an item or a held-out prompt has no room.

    Raises:
        DataError: If an example is an item, its answer included.
        ConfigError: As `check_room`.
    """
    from tunery.data.prepare import items_among, refuse_items
    from tunery.evaluation.room import check_room

    if project.data.decontaminate.action != "off":
        references = {name: leaf.pairs for name, leaf in tasks.leaves.items()}
        refuse_items(items_among(context.examples, references, project.data.clean))
    if context.examples:
        check_room(tasks.in_context(context).leaves.values(), tokenizer, tasks.chat_template)


def facts_of(context: Context, chat: bool, tokenizer: Any) -> ContextFacts:
    """What a report says of a context; `chat`: whether items are asked through the chat template."""
    text = context.text
    if chat and context.examples:
        text = str(tokenizer.apply_chat_template(list(context.turns), tokenize=False))
    return ContextFacts(
        origins=tuple(example.origin for example in context.examples),
        answers=Counter(example.messages[-1].content.strip() for example in context.examples),
        tokens=len(tokenizer.encode(text, add_special_tokens=False)),
        text=text,
    )
