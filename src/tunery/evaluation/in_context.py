"""Solved examples before every item, where lm-eval puts few-shot examples: after a description, before the question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tunery.data.context import Context
from tunery.errors import ConfigError, Fault


def after_context(task: Any, document: Any, prompt: str | list[str], context: Context) -> str | list[str]:
    """A prompt without a chat template, or those of a task that asks by several, with the examples in it."""
    if isinstance(prompt, list):
        return [str(after_context(task, document, one, context)) for one in prompt]
    description = task.resolve_field(document, task.config.description) or ""
    place = len(description) if prompt.startswith(description) else 0
    return f"{prompt[:place]}{context.text}{prompt[place:]}"


def with_turns(chat_template: Callable[..., str], context: Context) -> Callable[..., str]:
    """The chat template as lm-eval calls it, with the examples' turns between a system turn and the question."""

    def render(messages: Sequence[dict[str, str]], **options: Any) -> str:
        place = 1 if messages and messages[0]["role"] == "system" else 0
        return chat_template([*messages[:place], *context.turns, *messages[place:]], **options)

    return render


def too_long(task: str, tokens: int, most: int, examples: int) -> ConfigError:
    """What is said of a context with which a prompt of a task, with its answer, has more tokens than a model takes."""
    rule = f"fewer: a prompt of {task} has {tokens:,} tokens with them, and the model takes {most:,}"
    return ConfigError("training.icl", Fault("training.icl.examples", rule, examples, "Show fewer, or shorter rows."))
