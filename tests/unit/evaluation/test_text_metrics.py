"""Text metrics and the spreadsheet of generations."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import load_workbook

from tunery.errors import StorageError
from tunery.evaluation.spreadsheet import write_spreadsheet
from tunery.evaluation.text_metrics import normalise, repetition_rate, text_metrics
from tunery.records import Generation

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


def test_text_that_looks_like_a_formula_stays_text(tmp_path: Path) -> None:
    path = write_spreadsheet([Generation("=1+1", "=HYPERLINK(1)", "+x", "@x")], tmp_path / "out" / "generations.xlsx")
    cells = next(iter(load_workbook(path)["generations"].iter_rows(min_row=2)))
    assert [cell.value for cell in cells] == ["=1+1", "=HYPERLINK(1)", "+x", "@x"]
    assert [cell.data_type for cell in cells] == ["s"] * 4


def test_control_characters_that_the_format_forbids_are_shown_as_replaced(tmp_path: Path) -> None:
    path = write_spreadsheet([Generation("a\x00b", "c\x1bd", "line\nbreak\ttab", "ok")], tmp_path / "g.xlsx")
    row = next(iter(load_workbook(path)["generations"].iter_rows(min_row=2, values_only=True)))
    assert row == ("a\ufffdb", "c\ufffdd", "line\nbreak\ttab", "ok")


def test_the_sheet_has_a_frozen_heading_wrapped_text_and_wide_columns(tmp_path: Path) -> None:
    sheet = load_workbook(write_spreadsheet([Generation("p", "r", "b", "t")], tmp_path / "g.xlsx"))["generations"]
    assert [cell.value for cell in sheet[1]] == ["prompt", "reference", "base", "tuned"]
    assert sheet.freeze_panes == "A2"
    assert all(cell.alignment.wrap_text for cell in sheet[2])
    assert sheet.column_dimensions["A"].width > 30


def test_a_text_longer_than_a_cell_is_cut(tmp_path: Path) -> None:
    path = write_spreadsheet([Generation("x" * 40_000, "r", "b", "t")], tmp_path / "g.xlsx")
    assert len(load_workbook(path)["generations"]["A2"].value) == 32_767


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"g\.xlsx.*cannot be written"):
        write_spreadsheet([], tmp_path / "file" / "g.xlsx")
