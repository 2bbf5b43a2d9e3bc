"""What a tokenizer's chat template makes of a conversation, and what it shows of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tunery.data.rendering.written_out import tool_list
from tunery.records.rows import Conversation, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
"""Characters from the first up to, not including, the second."""

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


class TemplateRefuses(ValueError):
    """The chat template raised an error for this conversation; its text is the reason."""


class TemplateText:
    """Renders conversations with one tokenizer's chat template, tools, calls and reasoning included.

    Args:
        tokenizer: With a chat template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._shown: dict[tuple[str, ...], bool] = {}

    def __call__(self, talk: Conversation, add_generation_prompt: bool = False) -> str:
        """The conversation as text.

        Raises:
            TemplateRefuses: When the template raises an error for it.
        """
        return self._render(talk, self._calls_as_text, add_generation_prompt)

    def marks(self, talk: Conversation) -> Sequence[Span]:
        """The characters that the template marks by {% generation %}."""
        from transformers.utils.chat_template_utils import render_jinja_template

        tools = tool_list(talk.tools)
        template = self.tokenizer.get_chat_template(tools=tools)
        if not _GENERATION.search(template):
            return []
        _, spans = render_jinja_template(
            conversations=[list(_turns(talk.messages, self._calls_as_text))],
            tools=tools,
            chat_template=template,
            return_assistant_tokens_mask=True,
            **self.tokenizer.special_tokens_map,
        )
        return [(start, end) for start, end in spans[0]]

    def shows_roles(self, *roles: str) -> bool:
        """Whether the template takes these roles in a row and shows what each says; tried once."""
        if roles not in self._shown:
            messages = tuple(Message(role, f"probe{n}probe") for n, role in enumerate(roles))
            try:
                text = self(Conversation(messages, "probe"))
                self._shown[roles] = all(message.content in text for message in messages)
            except TemplateRefuses:
                self._shown[roles] = False
        return self._shown[roles]

    @cached_property
    def _calls_as_text(self) -> bool:
        """Whether the template takes a call's arguments as JSON text (DeepSeek), not as a mapping; tried once."""
        call = json.dumps({"name": "probe", "arguments": {"probed": "probe0probe"}})
        turns = (Message("user", "?"), Message("assistant", "", tool_calls=(call,)))
        talk = Conversation((*turns, Message("tool", "!"), Message("assistant", "!")), "probe")
        for as_text in (False, True):
            try:
                if "probe0probe" in self._render(talk, as_text, False):
                    return as_text
            except TemplateRefuses:
                continue
        return False

    def _render(self, talk: Conversation, calls_as_text: bool, add_generation_prompt: bool) -> str:
        import jinja2

        try:
            rendered = self.tokenizer.apply_chat_template(
                list(_turns(talk.messages, calls_as_text)),
                tools=tool_list(talk.tools),
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
        # TypeError and KeyError: templates index and join what they take for granted.
        except (jinja2.exceptions.TemplateError, TypeError, KeyError) as error:
            raise TemplateRefuses(f"the chat template refuses it ({error})") from None
        return str(rendered)


def holds(text: str, part: str) -> bool:
    """Whether a text shows a part of it: white space aside, as it is or as JSON writes it.

    Templates trim what they show, and some write what a tool returned as JSON.
    """
    return part.strip() in text or count(text, part) > 0


def count(text: str, part: str) -> int:
    """How often a text shows a part; see `holds`."""
    whole = _squeezed(text)
    forms = {_squeezed(part), _squeezed(json.dumps(part, ensure_ascii=False)[1:-1])} - {""}
    return max((whole.count(form) for form in forms), default=0)


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _turns(messages: Sequence[Message], calls_as_text: bool) -> Iterator[dict[str, Any]]:
    """Messages as chat templates take them.

    Mistral's templates refuse a call without an id of nine characters, and a result without a call's id: calls are
    numbered, and results answer them in order.
    """
    calls, unanswered = 0, list[dict[str, Any]]()
    for message in messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.reasoning:
            turn["reasoning_content"] = message.reasoning
        if message.tool_calls:
            made = [_call(text, calls + place, calls_as_text) for place, text in enumerate(message.tool_calls, 1)]
            calls += len(made)
            turn["tool_calls"], unanswered = made, list(made)
        if message.role == "tool" and unanswered:
            call = unanswered.pop(0)
            turn |= {"tool_call_id": call["id"], "name": call["function"]["name"]}
        yield turn


def _call(text: str, number: int, as_text: bool) -> dict[str, Any]:
    call = json.loads(text)
    arguments = call.get("arguments", {})
    if as_text and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    function = {"name": call.get("name", ""), "arguments": arguments}
    return {"id": f"call{number:05}", "type": "function", "function": function}
