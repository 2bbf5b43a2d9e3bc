"""Whether items have room after a context, which is known before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

from tunery.errors import ConfigError, Fault
from tunery.evaluation.in_context import too_long
from tunery.evaluation.items import Leaf

_LONGEST_ANSWER = 256  # tokens, of a task that does not say: HFLM.max_gen_toks


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
