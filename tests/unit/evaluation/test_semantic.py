"""BERTScore's greedy matching, against a calculation by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from tunery.evaluation.semantic import encoder, semantic_f1

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "green", "house", "door"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("encoder")
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(place)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(place)
    return place


def by_hand(prediction: str, reference: str, folder: Path) -> float:
    tokenizer, model = encoder(folder)
    with torch.no_grad():
        sides = [
            model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0][1:-1] for text in (prediction, reference)
        ]
    cosines = [[float(torch.cosine_similarity(p, r, dim=0)) for r in sides[1]] for p in sides[0]]
    precision = sum(max(row) for row in cosines) / len(cosines)
    recall = sum(max(column) for column in zip(*cosines, strict=True)) / len(cosines[0])
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(
    ("prediction", "reference"), [("red house", "green door"), ("red", "red house door"), ("door", "house")]
)
def test_the_score_is_that_of_the_equations(prediction: str, reference: str, folder: Path) -> None:
    assert semantic_f1(prediction, reference, folder) == pytest.approx(by_hand(prediction, reference, folder), abs=1e-5)


def test_equal_texts_score_one_and_nothing_scores_nought(folder: Path) -> None:
    assert semantic_f1("red house", "red house", folder) == pytest.approx(1)
    assert semantic_f1("", "red", folder) == semantic_f1("red", "", folder) == 0


def test_a_text_longer_than_the_model_takes_is_cut(folder: Path) -> None:
    assert -1 <= semantic_f1("red " * 2000, "red house", folder) <= 1
