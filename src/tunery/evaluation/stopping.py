"""Where an answer ends: the end-of-text tokens and the chat template's end of turn."""

from __future__ import annotations

from typing import Any

_ANSWER = "tunery"


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """Ids that end an answer, sorted: the tokenizer's, the generation config's and the template's end of turn."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = configured if isinstance(configured, list | tuple) else [configured]
    found = {tokenizer.eos_token_id, end_of_turn(tokenizer), *listed}
    return sorted(int(token) for token in found if token is not None)


def end_of_turn(tokenizer: Any) -> int | None:
    """The special token that the chat template writes after an assistant's answer; None when it writes none.

    A base's end-of-text token is seldom what a chat template closes a turn with, and an answer that is not stopped
    there continues with an invented next question.
    """
    if not tokenizer.chat_template:
        return None
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    _, _, after = str(text).rpartition(_ANSWER)
    ids = tokenizer.encode(after, add_special_tokens=False)
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return ids[0] if ids and ids[0] in special else None
