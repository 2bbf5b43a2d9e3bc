"""Text to token ids with each token's place in the text, and text that only looks like a special token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunery.data.rendering.written_out import edited, written_out
from tunery.errors import BaseModelError, Fault
from tunery.records.rows import Conversation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# One private character replaces one special token; the last plane is private use and practically never in text.
_FIRST_SHIELD = 0x10E000
_SPACE = "\u2581"  # as SentencePiece writes a space
_BEFORE = "\n"  # no token of SentencePiece's joins a line break and a word
_NO_LIMIT = 10**9  # a tokenizer that knows no limit says 10^30
_SHIELDED = re.compile(f"[{chr(_FIRST_SHIELD)}-\U0010fffd]")


@dataclass(frozen=True)
class Tokens:
    """Token ids, and the characters of the text that each covers, shape (tokens,) both."""

    ids: tuple[int, ...]
    places: tuple[tuple[int, int], ...]


class Tokeniser:
    """Turns rendered text into tokens, in batches.

    A row may hold the text of a special token, such as "</s>" in HTML or "<|im_end|>" in a text about chat formats.
    Read as the token, it would end a turn in the middle. `shield` puts a private character in its place before the chat
    template sees it, and `__call__` encodes it as the ordinary text that it is.

    Raises:
        BaseModelError: When the tokenizer has no fast implementation, for only that tells a token's place.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.is_fast:
            name = tokenizer.name_or_path or "the base"
            raise BaseModelError(name, Fault("tokenizer", "fast (one with tokenizer.json)", type(tokenizer).__name__))
        self.tokenizer = tokenizer
        specials = added_tokens(tokenizer, special=True)
        self._shields = {token: chr(_FIRST_SHIELD + place) for place, token in enumerate(specials)}
        self._texts = {shield: token for token, shield in self._shields.items()}
        self._special = re.compile("|".join(map(re.escape, specials)) or r"(?!)")

    def shield(self, conversation: Conversation) -> Conversation:
        """The conversation with a private character for each text of a special token."""
        return edited(conversation, lambda text: self._special.sub(lambda match: self._shields[match[0]], text))

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokens of each text; nothing is put before or after."""
        ordinary = [text for text in texts if not _SHIELDED.search(text)]
        encoded = iter(self._encode(ordinary))
        return [self._encode_shielded(text) if _SHIELDED.search(text) else next(encoded) for text in texts]

    def _encode(self, texts: Sequence[str], split_special_tokens: bool = False) -> list[Tokens]:
        if not texts:
            return []
        encoded = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            split_special_tokens=split_special_tokens,
            verbose=False,  # no warning about model_max_length: data.max_length cuts afterwards
        )
        pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        return [Tokens(tuple(ids), tuple(map(tuple, places))) for ids, places in pairs]

    def _encode_shielded(self, text: str) -> Tokens:
        ids: list[int] = []
        places: list[tuple[int, int]] = []
        start = 0
        for piece in re.split(f"({_SHIELDED.pattern})", text):
            end = start + len(piece)
            if _SHIELDED.match(piece):
                literal = self._encode_part(self._texts.get(piece, piece), start > 0, split_special_tokens=True)
                ids += literal.ids
                places += [(start, end)] * len(literal.ids)
            elif piece:
                tokens = self._encode_part(piece, start > 0)
                ids += tokens.ids
                places += [(first + start, last + start) for first, last in tokens.places]
            start = end
        return Tokens(tuple(ids), tuple(places))

    def _encode_part(self, text: str, follows: bool, split_special_tokens: bool = False) -> Tokens:
        """Tokens of a part of a text; SentencePiece writes a space before it, which is wrong where another precedes."""
        (alone,) = self._encode([text], split_special_tokens)
        begins = str(self.tokenizer.convert_ids_to_tokens(alone.ids[0])) if alone.ids else ""
        if not follows or not begins.startswith(_SPACE):
            return alone
        (behind,) = self._encode([_BEFORE + text], split_special_tokens)
        own = [place for place in zip(behind.ids, behind.places, strict=True) if place[1][1] > len(_BEFORE)]
        return Tokens(
            tuple(token for token, _ in own), tuple((max(0, first - 1), last - 1) for _, (first, last) in own)
        )

    def ends_in_token(self, text: str) -> bool:
        """Whether a text ends in the text of a special token, white space aside."""
        inner = text.rstrip()
        return any(inner.endswith(token) for token in self._shields)

    def has_shield(self, conversation: Conversation) -> bool:
        """Whether `shield` put a private character into some text."""
        shown = written_out(conversation).messages
        return any(_SHIELDED.search(message.content) for message in shown)


def tokens_taken(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Tokens that the base takes, as its tokenizer says; None if it says nothing."""
    longest = int(tokenizer.model_max_length)
    return longest if longest < _NO_LIMIT else None


def added_tokens(tokenizer: PreTrainedTokenizerBase, *, special: bool = False) -> tuple[str, ...]:
    """Tokens that are never split, or only the special ones, as text: longest first, so that none hides in another."""
    added = tokenizer.added_tokens_decoder.values()
    kept = {token.content for token in added if (token.special if special else token.content.strip())}
    return tuple(sorted({*kept, *tokenizer.all_special_tokens}, key=lambda token: (-len(token), token)))
