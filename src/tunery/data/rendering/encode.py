"""Conversations -> token ids and which of them are learned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunery.config.data import DataConfig
from tunery.data.rendering.chat_renderer import ChatRenderer, NothingLearned, Rendered
from tunery.data.rendering.template_text import Span, TemplateRefuses
from tunery.data.rendering.tokens import Tokeniser, Tokens, tokens_taken
from tunery.data.rendering.told import notes_of
from tunery.data.rendering.written_out import written_out
from tunery.data.row_log import CUT_AWAY
from tunery.errors import DataError, Fault
from tunery.records.rows import Conversation, Drop, Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoded:
    """What became of each conversation, in order."""

    results: Sequence[Example | Drop]  # an example, or why there is none
    told: Mapping[str, Sequence[str]]  # what a person should know of some rows, by names in `told.TOLD`: their origins

    @property
    def notes(self) -> list[str]:
        """Sentences for the report."""
        return notes_of(self.told)


def encode_all(
    conversations: Sequence[Conversation], tokenizer: PreTrainedTokenizerBase, data: DataConfig, loss_on: str
) -> Encoded:
    """Render, tokenise once, and mark what is learned.

    The token that ends a turn is learned with it, so that the model learns to stop. Where a chat template ends the last
    turn with no such token, the tokenizer's eos token is put there.

    Args:
        tokenizer: Of the base; its chat template is used unless data.template is plain.
        data: max_length and template are used.
        loss_on: training.loss_on.

    Raises:
        DataError: When there is no chat template or eos token, or the template does not let answers be found.
        BaseModelError: When the tokenizer cannot tell where tokens are in the text.
    """
    tokenise = Tokeniser(tokenizer)
    renderer = PlainRenderer(loss_on, data.separator) if data.template == "plain" else ChatRenderer(tokenizer, loss_on)
    rendered = [_render(conversation, renderer, tokenise) for conversation in conversations]
    tokens = iter(tokenise([each.text for each in rendered if isinstance(each, Rendered)]))
    finish = _Finish(tokenizer, data)
    results: list[Example | Drop] = []
    told: dict[str, list[str]] = defaultdict(list)
    for conversation, each in zip(conversations, rendered, strict=True):
        if isinstance(each, Drop):
            results.append(each)
            continue
        example, cut = finish(next(tokens), each)
        results.append(example or Drop(conversation.origin, CUT_AWAY))
        names = {*each.told, *_texts_of_tokens(conversation, tokenise), *(["end cut"] if example and cut else [])}
        if data.template != "plain" and not each.ended:
            names.add("eos")
        for name in names:
            told[name].append(conversation.origin)
    return Encoded(results, told)


class PlainRenderer:
    """No chat template: everything before the last answer, then the answer.

    Args:
        loss_on: completion, auto, which is the same here, or all: there are no marks that would tell earlier answers
            apart.
        separator: Between prompt and answer; None: a line break, only where they would touch.
    """

    def __init__(self, loss_on: str, separator: str | None = None) -> None:
        self.loss_on = loss_on
        self.separator = separator

    def render(self, conversation: Conversation) -> Rendered:
        """Prompt and completion as they stand, with what separates them.

        Raises:
            NothingLearned: When the answer is not to be learned.
        """
        if not conversation.messages[-1].learned:
            raise NothingLearned("nothing to learn: its last answer is marked as not learned")
        prompt, separator, answer = plain_parts(conversation, self.separator)
        touching = self.separator is None and bool(separator)
        text = f"{prompt}{separator}{answer}"
        # What separates is the model's to write: what is asked for an answer later ends with the prompt.
        span = (0 if self.loss_on == "all" else len(prompt), len(text))
        return Rendered(text, (span,), told=("touching",) if touching else ())


def plain_parts(conversation: Conversation, separator: str | None) -> tuple[str, str, str]:
    """A row without a chat template: everything before its last answer, what separates them, and the answer.

    Args:
        separator: Between the two; None: a line break, only where they would touch.
    """
    *before, answer = written_out(conversation).messages
    prompt = "\n".join(message.content for message in before)
    if separator is None:
        separator = "\n" if _touch(prompt, answer.content) else ""
    return prompt, separator, answer.content


def plain_joins(conversations: Sequence[Conversation], separator: str | None) -> list[str]:
    """The white space between the last word of each row's prompt and the first of its answer, without a template."""
    render = PlainRenderer("completion", separator).render
    joins = []
    for conversation in conversations:
        with suppress(NothingLearned):
            rendered = render(conversation)
            prompt, answer = rendered.text[: rendered.spans[0][0]], rendered.text[rendered.spans[0][0] :]
            joins.append(prompt[len(prompt.rstrip()) :] + answer[: len(answer) - len(answer.lstrip())])
    return joins


def _touch(prompt: str, answer: str) -> bool:
    return bool(prompt) and not prompt[-1].isspace() and not answer[:1].isspace()


def _render(conversation: Conversation, renderer: PlainRenderer | ChatRenderer, tokenise: Tokeniser) -> Rendered | Drop:
    try:
        return renderer.render(tokenise.shield(conversation))
    except (TemplateRefuses, NothingLearned) as error:
        return Drop(conversation.origin, str(error))


def _texts_of_tokens(conversation: Conversation, tokenise: Tokeniser) -> Iterator[str]:
    """Whether the row holds the text of a special token, and whether an answer ends in one."""
    if tokenise.has_shield(tokenise.shield(conversation)):
        yield "special"
        answers = (message.content for message in conversation.messages if message.role == "assistant")
        if any(tokenise.ends_in_token(answer) for answer in answers):
            yield "own end"


class _Finish:
    """From tokens and learned characters to an example: BOS and EOS where nothing else puts them, and the cut."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, data: DataConfig) -> None:
        self._plain = data.template == "plain"
        self._max_length = data.length(tokens_taken(tokenizer))
        self._eos = tokenizer.eos_token_id
        if self._eos is None:
            raise DataError("tokenizer", Fault("has no eos token", "one is needed, so that the model learns to stop"))
        # BOS where the tokenizer itself puts one before a text, as it will when the model is used.
        bos = [tokenizer.bos_token_id]
        self._bos = bos if self._plain and bos[0] is not None and tokenizer("x")["input_ids"][:1] == bos else []

    def __call__(self, tokens: Tokens, rendered: Rendered) -> tuple[Example | None, bool]:
        """The example, or None when no learned token is left after the cut; and whether learned tokens were cut."""
        ids = [*self._bos, *tokens.ids]
        trained = [False] * len(self._bos) + _trained(tokens.places, rendered.spans)
        if not rendered.ended:
            ids.append(self._eos)
            trained.append(True)
        kept = trained[: self._max_length]
        if not any(kept):
            return None, True
        example = Example(tuple(ids[: self._max_length]), tuple(kept), len(ids) > self._max_length)
        return example, any(trained[self._max_length :])


def _trained(places: Sequence[tuple[int, int]], spans: Sequence[Span]) -> list[bool]:
    """Whether each token covers a learned character.

    A token across the border between prompt and answer is learned: else the answer's first characters would not be.
    Tokens of white space may have an empty place, at the white space's end.
    """
    trained = [False] * len(places)
    spans = sorted(spans)
    current = 0
    for index, (start, end) in enumerate(places):
        while current < len(spans) and start >= spans[current][1] and not (start == end == spans[current][1]):
            current += 1
        if current == len(spans):
            break
        first, last = spans[current]
        trained[index] = end > first and (start < last or start == end)
    return trained
