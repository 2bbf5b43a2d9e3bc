"""Training rows that hold an evaluation item are found, others are not."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.data.contamination import MANY, Overlap, words
from tunery.data.contamination import find_overlap as find
from tunery.records.rows import Conversation, Message


def row(number: int, prompt: str, answer: str = "yes") -> Conversation:
    return Conversation((Message("user", prompt), Message("assistant", answer)), f"r:{number}")


def find_overlap(rows: list[Conversation], texts: dict[str, list[str]], ngram: int) -> Mapping[str, str]:
    return find(rows, texts, ngram).found


ITEM = "Anna sold forty eight clips in April and then half as many clips again in the month of May"


def test_case_and_punctuation_do_not_hide_an_item() -> None:
    disguised = ITEM.upper().replace(" ", " - ")
    assert find_overlap([row(1, disguised)], {"clips": [ITEM]}, 13) == {"r:1": "clips"}


def test_thirteen_words_in_a_row_are_an_overlap_and_twelve_are_not() -> None:
    item = ITEM.split()
    rows = [row(1, "Say: " + " ".join(item[3:16])), row(2, "Say: " + " ".join(item[3:15]) + " no")]
    assert find_overlap(rows, {"clips": [ITEM]}, 13) == {"r:1": "clips"}


def test_the_same_words_in_another_order_are_no_overlap() -> None:
    assert find_overlap([row(1, " ".join(reversed(ITEM.split())))], {"clips": [ITEM]}, 13) == {}


def test_a_short_item_must_stand_in_the_row_whole() -> None:
    rows = [row(1, "Tell me: what colour is the sky today?"), row(2, "what colour is the sea")]
    assert find_overlap(rows, {"colour": ["What colour is the sky?"]}, 13) == {"r:1": "colour"}


def test_an_item_of_one_or_two_words_says_too_little() -> None:
    assert find_overlap([row(1, "the blue sky")], {"colour": ["blue", "blue sky"]}, 13) == {}


def test_an_item_may_lie_across_prompt_and_answer() -> None:
    assert find_overlap([row(1, "What colour is", "the sky")], {"colour": ["what colour is the sky"]}, 13) == {
        "r:1": "colour"
    }


def test_words_with_digits_and_accents_are_words() -> None:
    assert words("Caf\u00e9 48/2, snake_case's") == ["caf\u00e9", "48", "2", "snake", "case", "s"]


CHINESE = "中华人民共和国的首都是哪一座城市"  # which city is China's capital
JAPANESE = "日本の首都はどこですか"  # where is Japan's capital
THAI = "เมืองหลวงของไทยคืออะไร"  # what is Thailand's capital


@pytest.mark.parametrize("item", [CHINESE, JAPANESE, THAI], ids=["Chinese", "Japanese", "Thai"])
def test_an_item_in_a_script_without_spaces_is_found_amid_other_text(item: str) -> None:
    rows = [row(1, f"请问{item}?"), row(2, item[: len(item) // 2])]
    assert find_overlap(rows, {"capital": [f"{item}?"]}, 13) == {"r:1": "capital"}


def test_twenty_six_characters_without_spaces_are_an_overlap_and_twenty_five_are_not() -> None:
    item = "".join(chr(0x4E00 + number) for number in range(60))
    rows = [row(1, item[10:36]), row(2, item[10:35])]
    assert find_overlap(rows, {"long": [item]}, 13) == {"r:1": "long"}


def test_an_item_of_five_characters_says_too_little() -> None:
    assert find_overlap([row(1, CHINESE)], {"capital": [CHINESE[:5]]}, 13) == {}


def test_words_beside_characters_stay_words() -> None:
    assert words("GPT-4模型。Two") == ["gpt", "4", "模", "型", "two"]


INSTRUCTION = "You are given a premise and a hypothesis; say with yes or no whether the first entails the second:"


def test_an_instruction_that_rows_and_items_share_is_no_overlap_and_is_told() -> None:
    rows = [row(number, f"{INSTRUCTION} the {number} dogs bark") for number in range(1, 31)]
    items = [f"{INSTRUCTION} the {number} cats sleep" for number in range(40)]
    assert find(rows, {"hans": items}, 13) == Overlap({}, tuple(f"r:{number}" for number in range(1, 31)))


def test_an_instruction_of_one_item_that_many_rows_share_is_no_overlap() -> None:
    rows = [row(number, f"{INSTRUCTION} the {number} dogs bark") for number in range(MANY + 1)]
    items = {"hans": [f"{INSTRUCTION} the cats sleep"]}
    assert find_overlap(rows, items, 13) == {}
    assert set(find_overlap(rows[1:], items, 13)) == {f"r:{number}" for number in range(1, MANY + 1)}


def test_rows_that_hold_the_item_behind_the_shared_instruction_are_found() -> None:
    rows = [row(number, f"{INSTRUCTION} the {number} dogs bark") for number in range(30)]
    items = [f"{INSTRUCTION} the {number} cats sleep" for number in range(40)]
    assert find_overlap([*rows, row(99, items[7])], {"hans": items}, 13) == {"r:99": "hans"}


@pytest.mark.parametrize("item", ["what colour is the sky", ITEM])
def test_an_item_that_one_row_repeats_many_times_is_found_in_all_of_them(item: str) -> None:
    rows = [row(number, item) for number in range(2 * MANY)]
    assert len(find_overlap(rows, {"colour": [item]}, 13)) == 2 * MANY


def test_a_whole_item_is_found_in_however_many_different_rows() -> None:
    rows = [row(number, f"{number}: what colour is the sky?") for number in range(2 * MANY)]
    assert len(find_overlap(rows, {"colour": ["What colour is the sky?"]}, 13)) == 2 * MANY


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_overlap_agrees_with_comparing_every_run_with_every_item(seed: int, ngram: int) -> None:
    draw = random.Random(seed)
    texts = [" ".join(draw.choices("abc", k=draw.randint(1, 12))) for _ in range(6)]
    items = [" ".join(draw.choices("abc", k=draw.randint(1, 8))) for _ in range(3)]
    rows = [row(number, text, "b") for number, text in enumerate(texts)]

    def shares(text: str, item: str) -> bool:
        parts, length = item.split(), min(len(item.split()), ngram)
        if len(parts) < min(3, ngram):
            return False
        runs = [" ".join(parts[start : start + length]) for start in range(len(parts) - length + 1)]
        return any(f" {run} " in f" {text} b " for run in runs)

    expected = {f"r:{n}" for n, text in enumerate(texts) if any(shares(text, item) for item in items)}
    assert set(find_overlap(rows, {"task": items}, ngram)) == expected
