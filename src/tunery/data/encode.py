"""Conversations -> token ids and which of them are learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunery.config.data import DataConfig
from tunery.data.chat_renderer import FOLDED, ChatRenderer, Rendered, Span, TemplateRefuses
from tunery.data.tokens import Tokeniser, Tokens
from tunery.data.written_out import written_out
from tunery.errors import DataError, Fault
from tunery.records import Conversation, Drop, Example, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CUT_AWAY = "completion cut away at max_length"


@dataclass(frozen=True)
class Encoded:
    """What became of each conversation, in order."""

    results: Sequence[Example | Drop]  # an example, or why there is none
    refused: Sequence[Drop]  # rows that the chat template does not take; they count as bad
    notes: Sequence[str]  # what was done to roles that the chat template does not know, and the like


def encode_all(
    conversations: Sequence[Conversation], tokenizer: PreTrainedTokenizerBase, data: DataConfig, loss_on: str
) -> Encoded:
    """Render, tokenise once, and mark what is learned.

    The token that ends a turn is learned with it, so that the model learns to stop. Where a chat template ends the last
    turn with no such token, the tokenizer's eos token is put there.

    Args:
        tokenizer: Of the base; its chat template is used unless data.template is plain.
        data: max_length and template are used.
        loss_on: completion (the last assistant turn), assistant (every one) or all tokens.

    Raises:
        DataError: When there is no chat template or eos token, or the template does not let answers be found.
        BaseModelError: When the tokenizer cannot tell where tokens are in the text.
    """
    tokenise = Tokeniser(tokenizer)
    renderer = PlainRenderer(loss_on) if data.template == "plain" else ChatRenderer(tokenizer, loss_on)
    rendered = [_render(conversation, renderer, tokenise) for conversation in conversations]
    tokens = iter(tokenise([each.text for each in rendered if isinstance(each, Rendered)]))
    finish = _Finish(tokenizer, data)
    results: list[Example | Drop] = []
    for conversation, each in zip(conversations, rendered, strict=True):
        example = each if isinstance(each, Drop) else finish(next(tokens), each.spans)
        results.append(example or Drop(conversation.origin, CUT_AWAY))
    notes = [FOLDED[name] for name in sorted(renderer.folded)]
    if finish.eos_added and data.template != "plain":
        rows = f"{finish.eos_added} rows"
        notes.append(f"The chat template does not end the last turn: the eos token was added to {rows}.")
    if shielded := sum(
        tokenise.has_shield(tokenise.shield(written_out(conversation).messages)) for conversation in conversations
    ):
        notes.append(f"{shielded} rows hold the text of a special token; it is encoded as ordinary text.")
    return Encoded(results, [each for each in rendered if isinstance(each, Drop)], notes)


class PlainRenderer:
    """No chat template: everything before the last answer, then the answer.

    `loss_on` is completion or all: there are no marks that would tell earlier answers apart.
    """

    def __init__(self, loss_on: str) -> None:
        self.loss_on = loss_on
        self.folded: set[str] = set()

    def render(self, messages: Sequence[Message]) -> Rendered:
        """Prompt and completion as they stand, a line break between them only where they would touch."""
        *before, answer = messages
        prompt = "\n".join(message.content for message in before)
        touching = prompt and not prompt[-1].isspace() and not answer.content[:1].isspace()
        if touching:
            self.folded.add("touching")
        text = f"{prompt}\n{answer.content}" if touching else f"{prompt}{answer.content}"
        # The line break is the model's to write: what is asked for an answer later ends with the prompt.
        return Rendered(text, ((0 if self.loss_on == "all" else len(prompt), len(text)),))


def _render(conversation: Conversation, renderer: PlainRenderer | ChatRenderer, tokenise: Tokeniser) -> Rendered | Drop:
    try:
        return renderer.render(tokenise.shield(written_out(conversation).messages))
    except TemplateRefuses as error:
        return Drop(conversation.origin, str(error))


class _Finish:
    """From tokens and learned characters to an example: BOS and EOS where nothing else puts them, and the cut."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, data: DataConfig) -> None:
        self._plain = data.template == "plain"
        self._max_length = data.max_length
        self._eos = tokenizer.eos_token_id
        if self._eos is None:
            raise DataError("tokenizer", Fault("has no eos token", "one is needed, so that the model learns to stop"))
        self._stops = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
        # BOS where the tokenizer itself puts one before a text, as it will when the model is used.
        bos = [tokenizer.bos_token_id]
        self._bos = bos if self._plain and bos[0] is not None and tokenizer("x")["input_ids"][:1] == bos else []
        self.eos_added = 0

    def __call__(self, tokens: Tokens, spans: Sequence[Span]) -> Example | None:
        """The example, or None when no learned token is left after the cut."""
        trained = _trained(tokens.places, spans)
        last = max((place for place, learned in enumerate(trained) if learned), default=-1)
        ids = [*self._bos, *tokens.ids]
        trained = [False] * len(self._bos) + trained
        if last == -1 or self._plain or tokens.ids[last] not in self._stops:
            ids.append(self._eos)
            trained.append(True)
            self.eos_added += 1
        truncated = len(ids) > self._max_length
        trained = trained[: self._max_length]
        if not any(trained):
            return None
        return Example(tuple(ids[: self._max_length]), tuple(trained), truncated)


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
