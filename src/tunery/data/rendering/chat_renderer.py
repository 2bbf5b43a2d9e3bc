"""Rendering conversations with a tokenizer's chat template, and finding the assistant's characters in the text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunery.data.rendering.roles import fold, with_repeats_joined
from tunery.data.rendering.template_text import Span, TemplateRefuses, TemplateText, count, holds
from tunery.data.rendering.tokens import added_tokens
from tunery.data.rendering.written_out import Part, parts_of, without, words_of, words_of_calls, written_out
from tunery.errors import DataError, Fault
from tunery.records.rows import Conversation, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = "probe0probe"
_END_LIKE = re.compile(r"(^|[^a-z])(end|eot|eos|im_end|eom)([^a-z]|$)|^</s>$", re.IGNORECASE)


class NothingLearned(ValueError):
    """No answer of the conversation is to be learned; its text is the reason."""


@dataclass(frozen=True)
class Rendered:
    """A conversation as text, and the characters of it that are learned, in order."""

    text: str
    spans: tuple[Span, ...]
    ended: bool = False  # whether something ends what is learned last, so that no end token is needed
    told: tuple[str, ...] = ()  # what a person should know of this row, by names in `told.TOLD`


class ChatRenderer:
    """Renders conversations with one tokenizer's chat template.

    Tools, calls and reasoning go through the template where it shows them, and are written out as text where it does
    not. Roles that the template does not support are folded: a system turn goes into the first user turn, a tool's turn
    becomes a user turn, and turns of one role in a row become one turn. The template is judged by what it writes, never
    by the words in it.

    Args:
        loss_on: completion (the last assistant turn), assistant (every one), all, or auto (every assistant turn, but
            only the last where the template does not show where earlier ones are).

    Raises:
        DataError: When the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, loss_on: str) -> None:
        if not tokenizer.chat_template:
            advice = "Set base.chat_template, or data.template: plain."
            raise DataError("data.template", Fault("chat", "needs a base with a chat template", advice=advice))
        self.loss_on = loss_on
        self._template = TemplateText(tokenizer)
        self._eos = str(tokenizer.eos_token)
        self._specials = added_tokens(tokenizer)
        # Templates do not always end turns with the tokenizer's eos, but with <|im_end|>, <|eot_id|>, <end_of_turn>.
        ends = (tokenizer.eos_token, self._own_end(), *filter(_END_LIKE.search, self._specials))
        self._stops = re.compile("|".join(map(re.escape, filter(None, ends))) or r"(?!)")

    def render(self, conversation: Conversation) -> Rendered:
        """Text and learned characters of one conversation.

        Raises:
            TemplateRefuses: When the template raises an error for it.
            NothingLearned: When no answer of it is to be learned.
            DataError: When the template does not let the assistant's characters be found.
        """
        if not self._template.shows_roles("user", "assistant"):
            # Templates for images read content as a list of parts and would leave texts out without a word.
            rule = "does not show what a user and an assistant say"
            raise DataError("chat template", Fault(rule, advice="Set base.chat_template, or data.template: plain."))
        expressed = self._expressed(conversation)
        talk, told = fold(expressed, self._template)
        told |= {f"{part} as text" for part in {*parts_of(conversation)} - {*parts_of(expressed)}}
        talk, text, learned = self._placed(talk, told)
        told |= self._seen(talk, text, learned)
        spans = tuple(learned.values())
        if self.loss_on == "all":
            spans = tuple(_between(self._unlearned(talk, text), self._with_stop(text, 0, len(text))))
        last = max(spans)[1]
        ended = bool(text[last:].strip()) or self._ends(text[:last])
        return Rendered(text, spans, ended, tuple(sorted(told)))

    # ---- tools, calls and reasoning

    def _expressed(self, talk: Conversation) -> Conversation:
        """The conversation with each part left to the template that shows it, and written out otherwise."""
        kept: list[Part] = []
        for part in parts_of(talk):
            if self._shows(written_out(talk, [*kept, part]), part):
                kept.append(part)
        return written_out(talk, kept) if parts_of(talk) else talk

    def _shows(self, talk: Conversation, part: Part) -> bool:
        """Whether the template writes a part's words, which it would not write without the part."""
        try:
            text = self._template(fold(talk, self._template)[0])
        except TemplateRefuses:
            return False
        try:
            bare = self._template(fold(without(talk, part), self._template)[0])
        except TemplateRefuses:  # Mistral's templates refuse results without calls
            bare = ""
        more = [count(text, word) > count(bare, word) for word in words_of(talk, part)]
        if part == "reasoning":
            return any(more)  # templates hide the thoughts before earlier answers
        results = (message.content for message in talk.messages if message.role == "tool")
        return bool(more) and all(more) and (part == "tools" or all(holds(text, result) for result in results))

    # ---- where the assistant speaks

    def _placed(self, talk: Conversation, told: set[str]) -> tuple[Conversation, str, dict[int, Span]]:
        """The conversation as text, with what is learned of it; turns of one role in a row as one if that is needed."""
        text, also = self._template(talk), set[str]()
        try:
            learned = self._learned(talk, text, also)
        except DataError:  # Qwen 3 writes an answer otherwise than it asked for it where another follows
            joined = with_repeats_joined(talk)
            if joined == talk:
                raise
            talk, text, also = joined, self._template(joined), {"repeated"}
            learned = self._learned(talk, text, also)
        told |= also
        return talk, text, learned

    def _learned(self, talk: Conversation, text: str, told: set[str]) -> dict[int, Span]:
        """The characters of each answer that is learned, by its place in the conversation."""
        answers = _answers(talk)
        asked = answers[-1:] if self.loss_on == "completion" else answers
        wanted = [place for place in asked if talk.messages[place].learned]
        if not wanted:
            last = "its last answer is" if self.loss_on == "completion" else "all its answers are"
            raise NothingLearned(f"nothing to learn: {last} marked as not learned")
        if self.loss_on == "all":
            return {}
        spans = self._located(talk, text, wanted, told)
        if spans is None and self.loss_on == "auto" and len(wanted) > 1 and wanted[-1] == answers[-1]:
            told.add("last alone")
            spans = self._located(talk, text, wanted[-1:], told)
        if spans is None:
            raise DataError("chat template", self._not_found(talk, text))
        return {place: self._with_stop(text, *span) for place, span in spans.items()}

    def _unlearned(self, talk: Conversation, text: str) -> list[Span]:
        places = [place for place in _answers(talk) if not talk.messages[place].learned]
        spans = self._located(talk, text, places, set())
        if spans is None:
            raise DataError("chat template", self._not_found(talk, text))
        return sorted(self._with_stop(text, *span) for span in spans.values())

    def _located(self, talk: Conversation, text: str, places: Sequence[int], told: set[str]) -> dict[int, Span] | None:
        """The characters of the turns at these places; None where the template does not show them."""
        found = _all_found({place: self._span(talk, place, text) for place in places})
        if found is not None:
            return found
        answers, marked = _answers(talk), self._template.marks(talk)
        if len(marked) != len(answers):
            return _all_found({place: self._up_to_stop(talk, place, text) for place in places})
        if self._begin(talk, answers[-1], text) is None:
            told.add("primed")
        return {place: marked[answers.index(place)] for place in places}

    def _span(self, talk: Conversation, place: int, text: str) -> Span | None:
        """The turn's characters, where the text before it and the text up to its end both begin the whole text."""
        start = self._begin(talk, place, text)
        if start is None or place == len(talk.messages) - 1:
            return None if start is None else (start, len(text))
        upto = self._template(_first(talk, place + 1))
        # Some templates close the whole text, not each turn, with the eos token: Phi-3's does.
        ends = (len(each) for each in (upto, upto.removesuffix(self._eos)) if text.startswith(each))
        end = next(ends, start)
        return (start, end) if end > start else None

    def _up_to_stop(self, talk: Conversation, place: int, text: str) -> Span | None:
        """The turn's characters up to the first end token, for Qwen 3 writes an earlier answer unlike the last.

        No text of a row can hold an end token: it is the template's own.
        """
        start = self._begin(talk, place, text)
        stop = None if start is None else self._stops.search(text, start)
        if start is None or stop is None:
            return None
        whole = self._holds_answer(text[start : stop.end()], talk.messages[place])
        return (start, stop.end()) if whole else None

    def _begin(self, talk: Conversation, place: int, text: str) -> int | None:
        if place == 0:
            # There is nothing to render before the first turn: its header ends where its text begins. The words of a
            # greeting may stand before that, in the template's own system text: another text shows where it is.
            probe = replace(talk.messages[0], content=_PROBE, reasoning="")
            header, shown, _ = self._template(replace(talk, messages=(probe, *talk.messages[1:]))).partition(_PROBE)
            return len(header) if shown and text.startswith(header) else None
        before = self._asked(talk, place)
        return len(before) if before and text.startswith(before) and len(before) < len(text) else None

    def _asked(self, talk: Conversation, place: int) -> str:
        """The text that asks for the turn at a place; nothing where the template refuses to ask."""
        try:
            return self._template(_first(talk, place), add_generation_prompt=True)
        except TemplateRefuses:
            return ""

    def _with_stop(self, text: str, start: int, end: int) -> Span:
        """Let the span end with the token that ends the turn: it is learned, the white space after it is not."""
        following = self._stops.match(text, end)
        if following:
            return start, following.end()
        inside = text[start:end].rstrip()
        return start, start + len(inside) if self._ends(inside) else end

    def _own_end(self) -> str | None:
        """The token that the template writes after an answer."""
        talk = Conversation((Message("user", "?"), Message("assistant", _PROBE)), "probe")
        try:
            after = self._template(talk).rpartition(_PROBE)[2].lstrip()
        except TemplateRefuses:
            return None
        return next((token for token in self._specials if after.startswith(token)), None)

    def _not_found(self, talk: Conversation, text: str) -> Fault:
        place = _answers(talk)[-1]
        asked, before = self._asked(talk, place), self._template(_first(talk, place)) if place else ""
        if place and asked.startswith(before) and text.startswith(before) and not text.startswith(asked):
            written = text[len(before) : len(asked)]
            rule = f"asks for an answer by {asked[len(before) :]!r}, but writes a row's answer as {written!r}"
            advice = "Set base.chat_template to one that writes answers as it asks for them (and keeps <think>), or "
            return Fault(rule, advice=f"{advice}data.template: plain.")
        rule = "does not show where the assistant's turn begins and ends"
        easier = "" if self.loss_on == "completion" else "Set training.loss_on: completion. "
        advice = "Use one with {% generation %} around the assistant's turns (base.chat_template), or set "
        return Fault(rule, advice=f"{easier}{advice}data.template: plain.")

    # ---- what the template made of the texts

    def _seen(self, talk: Conversation, text: str, learned: Mapping[int, Span]) -> set[str]:
        """What a person should know of the rendered row: texts that were cut, turns that were ended twice."""
        told = set()
        for place, message in enumerate(talk.messages):
            start, end = learned.get(place, (0, len(text)))
            is_learned = message.role == "assistant" and (
                place in learned or (self.loss_on == "all" and message.learned)
            )
            if is_learned and not self._holds_answer(text[start:end], message):
                told.add("cut")
            if message.role != "assistant" and not holds(text, message.content):
                told.add("hidden")
            if is_learned and self._twice(text[start:end]):
                told.add("twice")
        return told

    def _holds_answer(self, text: str, message: Message) -> bool:
        return all(holds(text, part) for part in (message.content, message.reasoning, *words_of_calls(message)))

    def _twice(self, text: str) -> bool:
        inner = text.rstrip()
        stop = next((found for found in self._stops.finditer(inner) if found.end() == len(inner)), None)
        return stop is not None and self._ends(inner[: stop.start()])

    def _ends(self, text: str) -> bool:
        inner = text.rstrip()
        return any(found.end() == len(inner) for found in self._stops.finditer(inner))


def _answers(talk: Conversation) -> list[int]:
    return [place for place, message in enumerate(talk.messages) if message.role == "assistant"]


def _all_found(spans: Mapping[int, Span | None]) -> dict[int, Span] | None:
    found = {place: span for place, span in spans.items() if span is not None}
    return found if len(found) == len(spans) else None


def _first(talk: Conversation, turns: int) -> Conversation:
    return replace(talk, messages=talk.messages[:turns])


def _between(holes: Sequence[Span], whole: Span) -> list[Span]:
    """What is left of a span when others are taken out of it."""
    starts = [whole[0], *(end for _, end in holes)]
    ends = [*(start for start, _ in holes), whole[1]]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if start < end]
