"""Text metrics of written answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.evaluation.text_metrics import normalise, repetition_rate, text_metrics

NAMES = {
    f"generation/{name}"
    for name in ("exact_match", "rouge1", "rouge2", "rougeL", "bleu", "chrf", "mean_words", "repetition_rate")
}


def test_perfect_answers_score_one_everywhere() -> None:
    texts = ["The old mill stands by the green river bank.", "Four boats sail to the far island at noon."]
    found = text_metrics(texts, texts)
    assert set(found) == NAMES
    for name in ("exact_match", "rouge1", "rouge2", "rougeL", "bleu", "chrf"):
        assert found[f"generation/{name}"] == pytest.approx(1.0)
    assert found["generation/mean_words"] == 9
    assert found["generation/repetition_rate"] == 0


def test_answers_that_share_nothing_score_nothing() -> None:
    found = text_metrics(["zzz qqq"], ["one two"])
    assert found["generation/rouge1"] == found["generation/exact_match"] == found["generation/chrf"] == 0


def test_rouge_is_the_harmonic_mean_of_shared_words() -> None:
    # 2 of 3 words shared: precision 2/3, recall 2/4.
    found = text_metrics(["red green blue"], ["red green white black"])
    assert found["generation/rouge1"] == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))


@pytest.mark.parametrize(
    "text", ["Москва — столица России", "東京は日本の首都です", "Größe und Maße", "Η Αθήνα είναι πόλη"]
)
def test_equal_answers_in_any_script_share_all_words(text: str) -> None:
    found = text_metrics([text], [text])
    assert found["generation/rouge1"] == found["generation/rougeL"] == pytest.approx(1.0)


def test_pieces_of_a_word_are_no_words() -> None:
    assert text_metrics(["Größe"], ["Maße"])["generation/rouge1"] == 0


def test_english_rouge_is_that_of_rouge_score_itself() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    ours, theirs = (
        "The boats' crews were running, 3 of them fast_er!",
        "A crew's boat runs fast er with 3 running crews",
    )
    expected = RougeScorer(["rouge1", "rougeL"], use_stemmer=True).score(theirs, ours)
    found = text_metrics([ours], [theirs])
    assert found["generation/rouge1"] == pytest.approx(expected["rouge1"].fmeasure)
    assert found["generation/rougeL"] == pytest.approx(expected["rougeL"].fmeasure)


def test_no_answers_have_no_metrics() -> None:
    assert text_metrics([], []) == {}


def test_lists_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 predictions, but 1 references"):
        text_metrics(["a", "b"], ["a"])


def test_an_exact_match_ignores_case_articles_punctuation_and_space() -> None:
    assert normalise("  The Old-Mill,  a  river! ") == "oldmill river"
    assert text_metrics(["The answer: Paris."], ["answer paris"])["generation/exact_match"] == 1


def test_an_empty_answer_is_scored_too() -> None:
    found = text_metrics(["", "same words here again"], ["something", "same words here again"])
    assert found["generation/exact_match"] == 0.5
    assert found["generation/mean_words"] == 2


@pytest.mark.parametrize(
    ("text", "rate"), [("", 0), ("a b c", 0), ("a b c d", 0), ("a a a a a a", 2 / 3), ("a b c d a b c d", 1 / 5)]
)
def test_the_repetition_rate_counts_4_grams_that_came_before(text: str, rate: float) -> None:
    assert repetition_rate(text) == pytest.approx(rate)


@given(st.text(max_size=200))
def test_the_repetition_rate_lies_between_0_and_1(text: str) -> None:
    assert 0 <= repetition_rate(text) < 1
