"""Texts that look like special tokens, with a tokenizer that writes spaces as SentencePiece does."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from tunery.data.rendering.tokens import Tokeniser
from tunery.records.rows import Conversation, Message


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Llama 2's way: a space is put before a text, and each space is written as a letter."""
    letters = ["\u2581", "\n", *"<>/abs."]
    inner = Tokenizer(models.BPE({letter: place for place, letter in enumerate(["<unk>", *letters])}, []))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    inner.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize("text", ["a</s>b", "</s>a b</s>", "a </s> b.", "</s></s>"])
def test_no_space_is_written_beside_the_text_of_a_special_token(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    tokeniser = Tokeniser(tokenizer)
    shielded = tokeniser.shield(Conversation((Message("user", text),), "row")).messages[0].content
    (tokens,) = tokeniser([shielded])
    assert tokenizer.eos_token_id not in tokens.ids
    assert tokenizer.decode(tokens.ids) == text
    assert [place for place in tokens.places if not 0 <= place[0] <= place[1] <= len(shielded)] == []
