"""Rendering conversations with a tokenizer's chat template, and finding the assistant's characters in the text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from tunery.data.tokens import added_tokens
from tunery.errors import DataError, Fault
from tunery.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
"""Characters from the first up to, not including, the second."""

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_END_LIKE = re.compile(r"(^|[^a-z])(end|eot|eos|im_end|eom)([^a-z]|$)|^</s>$", re.IGNORECASE)


class TemplateRefuses(ValueError):
    """The chat template raised an error for this conversation; its text is the reason."""


@dataclass(frozen=True)
class Rendered:
    """A conversation as text, and the characters of it that are learned, in order."""

    text: str
    spans: tuple[Span, ...]


class ChatRenderer:
    """Renders conversations with one tokenizer's chat template.

    Roles that the template does not support are folded, which is tested once: a system turn goes into
    the first user turn, a tool's turn becomes a user turn, and turns of one role in a row become one turn. `folded`
    says which of these was needed for some conversation. `loss_on` is completion (the last assistant turn), assistant
    (every one) or all.

    Raises:
        DataError: When the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, loss_on: str) -> None:
        if not tokenizer.chat_template:
            advice = "Set base.chat_template, or data.template: plain."
            raise DataError("data.template", Fault("chat", "needs a base with a chat template", advice=advice))
        self.tokenizer = tokenizer
        self.loss_on = loss_on
        self.folded: set[str] = set()
        self._known: dict[tuple[str, ...], bool] = {}
        self._specials = added_tokens(tokenizer)
        # Templates do not always end turns with the tokenizer's eos, but with <|im_end|>, <|eot_id|>, <end_of_turn>.
        ends = [token for token in (tokenizer.eos_token, *filter(_END_LIKE.search, self._specials)) if token]
        self._stops = re.compile("|".join(map(re.escape, ends)) or r"(?!)")

    def render(self, messages: Sequence[Message]) -> Rendered:
        """Text and learned characters of one conversation.

        Raises:
            TemplateRefuses: When the template raises an error for it.
            DataError: When the template does not let the assistant's characters be found.
        """
        if not self._knows("user", "assistant"):
            # Templates for images read content as a list of parts and would leave texts out without a word.
            rule = "does not show what a user and an assistant say"
            raise DataError("chat template", Fault(rule, advice="Set base.chat_template, or data.template: plain."))
        messages = self._fold(messages)
        text = self._text(messages)
        if self.loss_on == "all":
            return Rendered(text, ((0, len(text)),))
        spans = [self._with_stop(text, *span) for span in self._spans(messages, text)]
        return Rendered(text, tuple(spans))

    # ---- where the assistant speaks

    def _spans(self, messages: Sequence[Message], text: str) -> Sequence[Span]:
        answers = [place for place, message in enumerate(messages) if message.role == "assistant"]
        wanted = answers[-1:] if self.loss_on == "completion" else answers
        spans = [self._span(messages, place, text) for place in wanted]
        if all(spans):
            return [span for span in spans if span]
        marked = self._generation_spans(messages)
        if len(marked) < len(answers):
            rule = "does not show where the assistant's turn begins and ends"
            advice = "Use one with {% generation %} around the assistant's turns (base.chat_template), or set "
            easier = "" if self.loss_on == "completion" else "Set training.loss_on: completion. "
            raise DataError("chat template", Fault(rule, advice=f"{easier}{advice}data.template: plain."))
        return marked[-1:] if self.loss_on == "completion" else marked

    def _span(self, messages: Sequence[Message], place: int, text: str) -> Span | None:
        """The turn's characters, where the text before it and the text up to its end both begin the whole text."""
        start = self._start(messages, place, text)
        if start is None or place == len(messages) - 1:
            return None if start is None else (start, len(text))
        upto = self._text(messages[: place + 1])
        # Some templates close the whole text, not each turn, with the eos token: Phi-3's does.
        ends = (len(each) for each in (upto, upto.removesuffix(str(self.tokenizer.eos_token))) if text.startswith(each))
        end = next(ends, start)
        return (start, end) if end > start else None

    def _start(self, messages: Sequence[Message], place: int, text: str) -> int | None:
        if place == 0:
            # There is nothing to render before the first turn: its header ends where its text begins.
            found = text.find(messages[0].content.strip())
            return found if found >= 0 else None
        try:
            before = self._text(messages[:place], add_generation_prompt=True)
        except TemplateRefuses:
            return None
        return len(before) if text.startswith(before) and len(before) < len(text) else None

    def _generation_spans(self, messages: Sequence[Message]) -> Sequence[Span]:
        """The characters that the template marks by {% generation %}."""
        from transformers.utils.chat_template_utils import render_jinja_template

        template = self.tokenizer.get_chat_template()
        if not _GENERATION.search(template):
            return []
        _, spans = render_jinja_template(
            conversations=[_plain(messages)],
            chat_template=template,
            return_assistant_tokens_mask=True,
            **self.tokenizer.special_tokens_map,
        )
        return [(start, end) for start, end in spans[0]]

    def _with_stop(self, text: str, start: int, end: int) -> Span:
        """Let the span end with the token that ends the turn: it is learned, the white space after it is not."""
        following = self._stops.match(text, end)
        if following:
            return start, following.end()
        inside = text[start:end].rstrip()
        ends_in_stop = any(inside.endswith(token) for token in self._specials)
        return start, start + len(inside) if ends_in_stop else end

    # ---- roles that the template does not know

    def _fold(self, messages: Sequence[Message]) -> Sequence[Message]:
        # Repeated roles come last: folding a tool turn can put two user turns in a row.
        roles = {message.role for message in messages}
        if "tool" in roles and not self._knows("user", "assistant", "tool", "assistant"):
            self.folded.add("tool")
            messages = [replace(each, role="user") if each.role == "tool" else each for each in messages]
        if "system" in roles and not self._knows("system", "user", "assistant"):
            self.folded.add("system")
            messages = _system_into_user(messages)
        repeats = any(one.role == other.role for one, other in pairwise(messages))
        if repeats and not self._knows("user", "user", "assistant", "assistant"):
            self.folded.add("repeated")
            messages = _merge_repeats(messages)
        return messages

    def _knows(self, *roles: str) -> bool:
        """Whether the template takes these roles in a row and shows what each says; tried once."""
        if roles not in self._known:
            messages = [Message(role, f"probe{n}probe") for n, role in enumerate(roles)]
            try:
                text = self._text(messages)
                self._known[roles] = all(message.content in text for message in messages)
            except TemplateRefuses:
                self._known[roles] = False
        return self._known[roles]

    def _text(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
        import jinja2

        try:
            rendered = self.tokenizer.apply_chat_template(
                _plain(messages), tokenize=False, add_generation_prompt=add_generation_prompt
            )
        # TypeError and KeyError: templates index and join what they take for granted.
        except (jinja2.exceptions.TemplateError, TypeError, KeyError) as error:
            raise TemplateRefuses(f"the chat template refuses it ({error})") from None
        return str(rendered)


FOLDED: Mapping[str, str] = {
    "tool": "The chat template does not know the role tool: tool results are shown as user turns.",
    "system": "The chat template does not know the role system: system text is put before the first user turn.",
    "touching": "A line break was put between prompts and completions that would otherwise run together.",
    "repeated": "The chat template requires alternating roles: consecutive turns of one role are joined.",
}
"""Notes for the report, by the names in `ChatRenderer.folded`."""


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _system_into_user(messages: Sequence[Message]) -> Sequence[Message]:
    texts = [message.content for message in messages if message.role == "system"]
    rest = [message for message in messages if message.role != "system"]
    first = next((place for place, message in enumerate(rest) if message.role == "user"), None)
    if first is None:
        return [Message("user", "\n\n".join(texts)), *rest]
    joined = Message("user", "\n\n".join([*texts, rest[first].content]))
    return [*rest[:first], joined, *rest[first + 1 :]]


def _merge_repeats(messages: Sequence[Message]) -> Sequence[Message]:
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role:
            merged[-1] = Message(message.role, f"{merged[-1].content}\n\n{message.content}")
        else:
            merged.append(message)
    return merged
