"""Solved examples before every item, where lm-eval puts few-shot examples: after a description, before the question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tunery.data.context import Context
from tunery.errors import ConfigError, Fault

if TYPE_CHECKING:
    from tunery.evaluation.items import Leaf

_KEY = "training.icl.examples"
_LONGEST_ANSWER = 256  # tokens, of a task that does not say: HFLM.max_gen_toks


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


def check_room(leaves: Iterable[Leaf], tokenizer: Any, chat_template: bool) -> None:
    """Refuse a context with which a prompt is longer than the model takes; no model is needed.

    Args:
        leaves: Tasks after the context; their requests are built.
        tokenizer: The base's; its `model_max_length` is what the base takes.
        chat_template: Whether items are asked through the chat template.

    Raises:
        ConfigError: With the longest prompt and the limit, or with a task that takes no context.
        TaskError: If a task's requests cannot be built.
    """
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.utils import resolve_max_length

    most = resolve_max_length(None, tokenizer)
    through = partial(HFLM.apply_chat_template, SimpleNamespace(tokenizer=tokenizer, chat_template_args={}))
    for leaf in leaves:
        if leaf.task.OUTPUT_TYPE == "loglikelihood_rolling":
            rule = f"another method for {leaf.name}, which scores whole texts and has no place for examples"
            raise ConfigError("training.icl", Fault("training.method", rule, "icl"))
        leaf.build(through if chat_template else None, (tokenizer, tokenizer.chat_template, len(tokenizer)))
        longest = max((_tokens(requests, tokenizer) for requests in leaf.requests), default=0)
        if longest > most:
            raise too_long(leaf.name, longest, most, leaf.examples)


def too_long(task: str, tokens: int, most: int, examples: int) -> ConfigError:
    """What is said of a context with which a prompt of a task, with its answer, has more tokens than a model takes."""
    rule = f"fewer: a prompt of {task} has {tokens:,} tokens with them, and the model takes {most:,}"
    return ConfigError("training.icl", Fault(_KEY, rule, examples, "Show fewer, or shorter rows."))


def _tokens(requests: Sequence[Any], tokenizer: Any) -> int:
    """Tokens that the model must take for the longest request of a document; of an answer, the last is not read."""
    longest = max(requests, key=lambda request: len("".join(map(str, request.args[:2]))))
    prompt, rest = longest.args[:2]
    # As lm-eval encodes: no second BOS where the chat template wrote one.
    special = not (tokenizer.bos_token and prompt.startswith(tokenizer.bos_token))
    if isinstance(rest, str):
        return len(tokenizer.encode(prompt + rest, add_special_tokens=special)) - 1
    from lm_eval.models.utils import normalize_gen_kwargs

    answer: int = normalize_gen_kwargs(rest, _LONGEST_ANSWER)["max_gen_toks"]
    return len(tokenizer.encode(prompt, add_special_tokens=special)) + answer
