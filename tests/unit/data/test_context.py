"""Solved examples: which rows, in which order, and how they are written."""

from __future__ import annotations

from collections import Counter

import pytest

from tunery.data.context import Context, draw_context
from tunery.errors import DataError
from tunery.records.rows import Conversation, Message

ROWS = [
    Conversation((Message("user", f"{n} is even?"), Message("assistant", "no" if n % 3 else "yes")), f"r:{n}")
    for n in range(60)
]


def drawn(examples: int, seed: int = 0, *, balanced: bool = True) -> tuple[Conversation, ...]:
    return draw_context(ROWS, examples, seed, key="training.icl.examples", balanced=balanced)


def test_a_larger_context_holds_the_smaller_of_its_seed_with_equally_many_of_each_answer() -> None:
    assert set(drawn(8)) < set(drawn(16)) < set(drawn(32))
    assert Counter(row.messages[-1].content for row in drawn(16)) == {"yes": 8, "no": 8}
    assert drawn(0) == ()


def test_the_seed_shuffles_and_the_order_of_the_file_does_not_decide() -> None:
    assert list(drawn(16)) != sorted(drawn(16), key=ROWS.index)
    assert set(drawn(16, 1)) != set(drawn(16, 0))
    assert draw_context(ROWS[::-1], 16, 0, key="k", balanced=True) == drawn(16)


@pytest.mark.parametrize(
    ("examples", "balanced", "text"),
    [
        (61, False, "data.train: training.icl.examples is 61, but must be at most 60, the training rows"),
        (
            7,
            True,
            "training.icl.examples is 7, but must be a multiple of 2, the number of different values of the answer",
        ),
        (50, True, "training.icl.examples is 50, but must be at most 40: the answer is 'yes' in 20 training rows only"),
    ],
)
def test_more_than_there_is_or_can_be_shared_out_is_refused(examples: int, balanced: bool, text: str) -> None:
    with pytest.raises(DataError) as raised:
        drawn(examples, balanced=balanced)
    assert text in str(raised.value)


def test_text_joins_prompt_and_answer_as_a_plain_row_does_and_ends_each_with_the_separator() -> None:
    one = Conversation((Message("system", "Be brief."), Message("user", "2 + 2 ="), Message("assistant", " 4")), "r:1")
    assert Context((one, one), " ## ").text == "Be brief.\n2 + 2 = 4 ## Be brief.\n2 + 2 = 4 ## "
    touching = Conversation((Message("user", "2 + 2 ="), Message("assistant", "4")), "r:2")
    assert Context((touching,), "\n\n").text == "2 + 2 =\n4\n\n"
    assert Context((touching,), "\n\n", join="~").text == "2 + 2 =~4\n\n"


def test_turns_stand_after_a_prompts_system_text_and_bring_no_system_turn_of_their_own() -> None:
    one = Conversation((Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Ho")), "r:1")
    context = Context((one,), "\n\n")
    prompt = (Message("system", "You are kind."), Message("user", "Bye"))
    assert [(turn.role, turn.content) for turn in context.before(prompt, chat=True)] == [
        ("system", "You are kind."),
        ("user", "Be brief.\nHi"),
        ("assistant", "Ho"),
        ("user", "Bye"),
    ]
    assert context.before(prompt[1:], chat=False) == (Message("user", "Be brief.\nHi\nHo\n\nBye"),)
