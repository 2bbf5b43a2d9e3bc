"""Cleaning does what is declared, counts it, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.config.data import CleanConfig, RowSource
from tunery.data.cells import CleanedCells, clean_cells
from tunery.data.clean import clean
from tunery.data.markup import strip_markup
from tunery.data.reading.rows import Row, Rows
from tunery.records.rows import Conversation, Message


def row(number: int, prompt: str, answer: str = "a") -> Conversation:
    return Conversation((Message("user", prompt), Message("assistant", answer)), f"r:{number}")


def prompts(conversations: list[Conversation]) -> list[str]:
    return [conversation.messages[0].content for conversation in conversations]


# ---- markup


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ("<p>one</p><p>two</p>", "one\ntwo"),
        ("one<br/>two", "one\ntwo"),
        ('a <b>bold</b> <a href="x">link</a>', "a bold link"),
        ("R&amp;D &lt;b&gt;", "R&D <b>"),
        ("x<script>alert(1)</script>y<!-- hidden -->", "xy"),
        ("<td>1</td><td>2</td>", "1 2"),
    ],
)
def test_markup_is_removed_and_words_stay_apart(marked: str, plain: str) -> None:
    assert strip_markup(marked) == plain


@pytest.mark.parametrize(
    "text",
    [
        "x < y and y > z",
        "48/2 = <<48/2=24>>24",
        "List<String> names",
        "a?x=1&copy=2",
        "if a <b and c> d",
        "AT&T  \n\n\n x",
        "<",
    ],
)
def test_what_only_looks_like_markup_is_left_as_it_is(text: str) -> None:
    assert strip_markup(text) == text


def test_a_comparison_beside_real_markup_survives() -> None:
    assert (
        strip_markup("<p>if x<y then <<1+1=2>> List<String> &copy=2 &amp; z</p>")
        == "if x<y then <<1+1=2>> List<String> &copy=2 & z"
    )


@given(st.text(alphabet=st.characters(exclude_characters="<&", exclude_categories=["Cs"])))
def test_a_text_without_markup_comes_back(text: str) -> None:
    assert strip_markup(text) == text


# ---- steps


def test_nothing_is_changed_unless_asked_for() -> None:
    rows = [row(1, "<p>x</p>"), row(2, "<p>x</p>")]
    cleaned = clean(rows, CleanConfig())
    assert cleaned.conversations == rows
    assert (cleaned.drops, cleaned.changed) == ([], {})


def test_altered_rows_are_counted_by_step() -> None:
    cleaned = clean([row(1, "<p>caf\u00e9</p>"), row(2, "plain")], CleanConfig(strip_markup=True, keep=r"a-zA-Z0-9\s"))
    assert prompts(cleaned.conversations) == ["caf", "plain"]
    assert cleaned.changed == {"strip_markup": 1, "keep": 1}


def test_a_row_of_which_nothing_is_left_is_dropped_by_name() -> None:
    cleaned = clean([row(1, "x", "\u00e9\u00e9")], CleanConfig(keep="a-z"))
    assert [(drop.origin, drop.reason) for drop in cleaned.drops] == [
        ("r:1", "nothing left of a turn of assistant after keep")
    ]


def test_rows_outside_the_length_limits_are_dropped_with_their_length() -> None:
    cleaned = clean([row(1, "x"), row(2, "x" * 5), row(3, "x" * 99)], CleanConfig(min_characters=3, max_characters=50))
    assert [conversation.origin for conversation in cleaned.conversations] == ["r:2"]
    assert [drop.reason for drop in cleaned.drops] == [
        "2 characters, under clean.min_characters",
        "100 characters, over clean.max_characters",
    ]


# ---- duplicates


def test_exact_duplicates_fold_case_and_space_and_name_the_first() -> None:
    cleaned = clean(
        [row(1, "The  Sky"), row(2, "other"), row(3, "the\nsky"), row(4, "the sky", "b")],
        CleanConfig(deduplicate="exact"),
    )
    assert [conversation.origin for conversation in cleaned.conversations] == ["r:1", "r:2", "r:4"]
    assert [(drop.origin, drop.reason) for drop in cleaned.drops] == [("r:3", "duplicate of r:1")]


def test_turns_cut_elsewhere_are_not_a_duplicate() -> None:
    rows = [row(1, "a b", "c"), row(2, "a", "b c")]
    assert clean(rows, CleanConfig(deduplicate="exact")).conversations == rows


WORDS = [f"word{n}" for n in range(100)]


def test_near_duplicates_are_those_above_the_threshold() -> None:
    one_word_changed = [*WORDS[:50], "other", *WORDS[51:]]  # 5 of 97 shingles differ: Jaccard 92 / 102 = 0.90
    rows = [row(1, " ".join(WORDS)), row(2, " ".join(one_word_changed)), row(3, " ".join(reversed(WORDS)))]
    for threshold, kept in ((0.85, ["r:1", "r:3"]), (0.95, ["r:1", "r:2", "r:3"])):
        cleaned = clean(rows, CleanConfig(deduplicate="near", near_threshold=threshold))
        assert [conversation.origin for conversation in cleaned.conversations] == kept
    assert clean(rows, CleanConfig(deduplicate="near")).drops[0].reason == "near duplicate of r:1"


def test_near_also_finds_equal_rows_of_few_words() -> None:
    cleaned = clean([row(1, "hi"), row(2, "Hi"), row(3, "ho")], CleanConfig(deduplicate="near", near_threshold=1.0))
    assert [conversation.origin for conversation in cleaned.conversations] == ["r:1", "r:3"]


# ---- the cells of a prompt template


def cells(*values: tuple[str, str], template: str | None = "Review: {review}.") -> CleanedCells:
    rows = [Row(f"r:{n}", {"review": review, "verdict": verdict}) for n, (review, verdict) in enumerate(values, 1)]
    source = RowSource(source="r.csv", columns={"prompt": "review", "completion": "verdict"}, prompt_template=template)
    found = Rows("r.csv", "r", rows, [], [], ["review", "verdict"], "0")
    return clean_cells(found, source, CleanConfig(strip_markup=True, keep=r"a-zA-Z0-9\s"))


def test_cells_are_cleaned_before_a_template_is_filled() -> None:
    cleaned = cells(("<b>good</b>: really!", "yes!"), ("plain", "no"))
    assert [row.values["review"] for row in cleaned.rows.rows] == ["good really", "plain"]
    assert [row.values["verdict"] for row in cleaned.rows.rows] == ["yes!", "no"]  # no column of the template
    assert cleaned.changed == {"strip_markup": {"r:1"}, "keep": {"r:1"}}


def test_a_row_of_whose_cells_nothing_is_left_is_dropped_by_name() -> None:
    cleaned = cells(("?!", "yes"), ("fine", "no"))
    assert [row.origin for row in cleaned.rows.rows] == ["r:2"]
    assert [str(drop.reason) for drop in cleaned.drops] == ["nothing left of the prompt template's columns after keep"]


def test_without_a_template_cells_are_left_to_the_conversations() -> None:
    assert [row.values["review"] for row in cells(("a!", "b"), template=None).rows.rows] == ["a!"]


def test_a_prompt_that_a_template_made_is_spared_and_its_answer_is_not() -> None:
    cleaned = clean([row(1, "Review: fine.", "Yes!")], CleanConfig(keep=r"a-zA-Z\s"), {0}, {"keep": {"r:1"}})
    assert [message.content for message in cleaned.conversations[0].messages] == ["Review: fine.", "Yes"]
    assert cleaned.changed == {"keep": 1}
