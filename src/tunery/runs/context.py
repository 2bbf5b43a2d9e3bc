"""The solved examples of in-context learning: drawn from the rows, and checked before a model is loaded."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunery.config.project import Project
from tunery.data.context import Context, draw_context
from tunery.records.rows import Conversation, PreparedData
from tunery.records.runs import ContextFacts

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


def check_held_out(project: Project, rows: PreparedData, tokenizer: Any) -> None:
    """Refuse a context after which a held-out prompt leaves no room for the answer that is written to it.

    Raises:
        ConfigError: With the longest prompt and the limit.
    """
    from tunery.data.rendering.tokens import tokens_taken
    from tunery.evaluation.generate import encode_prompts
    from tunery.evaluation.in_context import too_long

    context, most, generation = context_of(project, rows), tokens_taken(tokenizer), project.evaluation.generation
    held = [prompt_of(row) for row in rows.validation_conversations[: generation.prompts]]
    if context is None or not context.examples or not held or most is None:
        return
    template = project.data.template
    asked = [context.before(prompt.messages, chat=template == "chat") for prompt in held]
    encoded = encode_prompts(tokenizer, asked, template, [prompt.tools for prompt in held])
    longest = max(map(len, encoded)) + generation.max_new_tokens
    if longest > most:
        raise too_long("evaluation.generation", longest, most, len(context.examples))


def prompt_of(conversation: Conversation) -> Conversation:
    """A row up to the assistant's last turn, which is the reference."""
    last = max(place for place, message in enumerate(conversation.messages) if message.role == "assistant")
    return replace(conversation, messages=conversation.messages[:last])


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
