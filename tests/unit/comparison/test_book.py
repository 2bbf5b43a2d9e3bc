"""All models' answers in one workbook."""

from __future__ import annotations

from pathlib import Path

import pytest
from openpyxl import load_workbook
from tests.compared import BASE, IDENTITY, logged, result

from tunery.comparison.compare import CompareOptions, compare_runs
from tunery.comparison.selection import Selection
from tunery.errors import InputError
from tunery.runs.observer import Observer
from tunery.tracking import base_scores
from tunery.tracking.store import Store


def compared(store: Store, path: Path) -> None:
    options = CompareOptions(answers=path, record=False)
    compare_runs(Selection(), options, Observer(), tracking_uri=store.uri)


def test_a_row_a_prompt_with_reference_base_and_each_configuration_from_the_best_on(
    store: Store, tmp_path: Path
) -> None:
    base_scores.keep(store, "key", IDENTITY, result(BASE, written="=base"))
    logged(store, rank=8, name="small", written="=small")
    logged(store, rank=8, seed=1, written="another seed")
    logged(store, rank=16, name="large", values=(1.0, 1.0, 1.0, 1.0), written="large")
    compared(store, tmp_path / "book.xlsx")
    sheet = load_workbook(tmp_path / "book.xlsx")["quiz"]
    headings = [cell.value for cell in sheet[1]]
    assert headings[:4] == ["prompt", "reference", "base acme/base", "base acme/base: acc"]
    assert len(headings) == 8
    assert [sheet[2][place].value for place in range(8)] == [
        "question 0", "right", "=base 0", 1, "large 0", 1, "=small 0", 1,
    ]  # fmt: skip
    assert sheet["C2"].data_type == "s"
    assert sheet.max_row == 5


def test_a_trial_that_was_asked_a_part_stands_beside_the_base_on_that_part(store: Store, tmp_path: Path) -> None:
    base_scores.keep(store, "key", IDENTITY, result(BASE, written="base"))
    logged(store, name="trial", values=(1.0, 1.0), base=BASE[:2], split="dev", written="tuned")
    compared(store, tmp_path / "book.xlsx")
    sheet = load_workbook(tmp_path / "book.xlsx")["quiz"]
    assert [cell.value for cell in sheet[1]][2:5] == ["base acme/base", "base acme/base: acc", "trial"]
    assert [[cell.value for cell in row][2:5] for row in sheet["A2:F3"]] == [
        ["base 0", 1, "tuned 0"], ["base 1", 0, "tuned 1"],
    ]  # fmt: skip
    assert sheet.max_row == 3


def test_runs_without_answers_and_a_file_of_another_kind_are_refused(store: Store, tmp_path: Path) -> None:
    logged(store)
    with pytest.raises(InputError, match="only where a compared run keeps its answers"):
        compared(store, tmp_path / "book.xlsx")
    with pytest.raises(InputError, match=r"a file that ends in \.xlsx"):
        compared(store, tmp_path / "book.csv")
    assert not list(tmp_path.glob("book*"))


def test_prompts_in_other_words_stand_beside_the_answers_to_them(store: Store, tmp_path: Path) -> None:
    for word, values in (("Q", BASE), ("A", (0.0, 0.0, 0.0, 0.0))):
        base_scores.keep(store, word, IDENTITY, result(values, written=f"base {word}", wording=word))
        right = (1.0, 1.0, 1.0, 1.0 if word == "Q" else 0.0)
        logged(store, name=word, values=right, base=values, written=f"tuned {word}", wording=word)
    compared(store, tmp_path / "book.xlsx")
    sheet = load_workbook(tmp_path / "book.xlsx")["quiz"]
    assert [cell.value for cell in sheet[1]] == [
        "prompt", "reference", "base acme/base", "base acme/base: acc", "base acme/base of A",
        "base acme/base of A: acc", "Q", "Q: acc", "A: prompt", "A", "A: acc",
    ]  # fmt: skip
    assert [cell.value for cell in sheet[2]] == [
        "Q 0", "right", "base Q 0", 1, "base A 0", 0, "tuned Q 0", 1, "A 0", "tuned A 0", 1,
    ]  # fmt: skip
