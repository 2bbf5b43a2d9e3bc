"""An answer that knows how it was written: what it said before special tokens were left out, and whether it ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Self

_QUESTION, _ANSWER, _NEXT = "first question here", "answer goes here", "second question here"


class WrittenText(str):
    """lm-eval and its filters take it for the text that it is.

    Attributes:
        raw: The same with special tokens, up to the one that ended it.
        stopped: Whether the model ended it by itself, before the longest length.
        headers: What its chat template writes before a turn, such as "<|im_start|>user".
    """

    raw: str
    stopped: bool
    headers: tuple[str, ...]

    @classmethod
    def of(
        cls, text: str, tokens: Sequence[int], ends: Collection[int], headers: tuple[str, ...], tokenizer: Any
    ) -> Self:
        """From an answer and the ids that it was decoded from, padding included."""
        found = cls(text)
        end = next((place for place, token in enumerate(tokens) if token in ends), None)
        found.raw = str(tokenizer.decode(list(tokens[:end]), skip_special_tokens=False))
        found.stopped, found.headers = end is not None, headers
        return found


def role_headers(tokenizer: Any, ends: Collection[int]) -> tuple[str, ...]:
    """What the chat template writes before a user's and an assistant's turn, without the end of the turn before.

    Args:
        ends: Ids that end an answer.
    """
    turns = [("user", _QUESTION), ("assistant", _ANSWER), ("user", _NEXT)]
    messages = [{"role": role, "content": content} for role, content in turns]
    text = str(tokenizer.apply_chat_template(messages, tokenize=False))
    _, _, after_question = text.partition(_QUESTION)
    before_answer, _, after_answer = after_question.partition(_ANSWER)
    before_next, _, _ = after_answer.partition(_NEXT)
    stops = [str(tokenizer.decode([end], skip_special_tokens=False)) for end in ends]
    found = (_after_last(between, stops).strip() for between in (before_next, before_answer))
    return tuple(dict.fromkeys(header for header in found if header))


def _after_last(text: str, stops: Sequence[str]) -> str:
    ends = [text.rfind(stop) + len(stop) for stop in stops if stop in text]
    return text[max(ends, default=0) :]
