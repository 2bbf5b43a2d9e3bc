"""The teacher's side of each row: where its context stands, and that what is learned stays the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tunery.config.data import DataConfig
from tunery.config.training import DistillationConfig
from tunery.data.prepare import prepare
from tunery.data.teacher_rows import TeacherRows
from tunery.errors import ConfigError, DataError
from tunery.records.rows import AskedItems, Example

ROWS = [{"prompt": f"What is {n}?", "completion": " Yes" if n % 2 else " No", "label": n % 2} for n in range(12)]
Make = Callable[..., TeacherRows]


@pytest.fixture
def make(tokenizer: PreTrainedTokenizerFast, tmp_path: Path, write: Callable[[str, Any], Path]) -> Make:
    def make_rows(
        rows: Sequence[Any] = ROWS, loss_on: str = "completion", data: dict[str, Any] | None = None, **settings: Any
    ) -> TeacherRows:
        write("r.jsonl", rows)
        read = {"template": "plain", "validation": {"fraction": 0.2}, **(data or {})}
        config = DataConfig.model_validate({"train": [{"source": "r.jsonl"}], **read})
        prepared = prepare(config, loss_on, tmp_path, tokenizer, AskedItems(), 0)
        return TeacherRows(prepared, tokenizer, config, loss_on, DistillationConfig(**settings), 3)

    return make_rows


def text(rows: TeacherRows, example: Example) -> str:
    return str(rows.tokenizer.decode(list(example.input_ids)))


def learned(example: Example) -> list[int]:
    return [token for token, kept in zip(example.input_ids, example.trained, strict=True) if kept]


def own_side(rows: TeacherRows) -> list[Example]:
    return [*rows.prepared.train, *rows.prepared.validation]


def other_side(rows: TeacherRows) -> list[Example]:
    return [*rows.training(range(len(rows.prepared.train))), *rows.validation()]


def test_examples_stand_before_each_row_but_never_the_row_itself(make: Make) -> None:
    rows = make(examples=4, separator="\n\n")
    rows.check()
    context = {one.messages[0].content for one in rows.context().examples}
    assert len(context) == 4
    for own, other in zip(own_side(rows), other_side(rows), strict=True):
        mine, *_ = text(rows, own).split("?")
        *solved, last = text(rows, other).split("\n\n")
        assert last == text(rows, own)
        assert len(solved) == 4
        assert f"{mine}?" not in " ".join(solved)
        shown = {one.partition("?")[0] + "?" for one in solved}
        assert shown == context or (f"{mine}?" in context and len(shown & context) == 3)
        assert learned(own) == learned(other)


def test_a_text_is_the_system_text_of_a_chat_and_stands_before_a_plain_prompt(make: Make) -> None:
    said = "Answer in one word."
    plain = make(context=said, separator="\n")
    chat = make(context=said, data={"template": "chat"}, loss_on="auto")
    begins = {"Answer in one word.\nWhat is ": plain, f"<|im_start|>system\n{said}<|im_end|>\n<|im_start|>user": chat}
    for begin, rows in begins.items():
        rows.check()
        for own, other in zip(own_side(rows), other_side(rows), strict=True):
            assert text(rows, other).startswith(begin)
            assert said not in text(rows, own)
            assert learned(own) == learned(other) != []


def test_the_answers_of_examples_are_shown_as_turns_and_not_learned(make: Make) -> None:
    rows = make(examples=2, data={"template": "chat"}, loss_on="auto")
    rows.check()
    for own, other in zip(own_side(rows), other_side(rows), strict=True):
        assert text(rows, other).count("<|im_start|>assistant") == 3
        assert text(rows, other).rstrip("\n").endswith(text(rows, own).rstrip("\n"))
        assert learned(own) == learned(other)


def test_balanced_examples_have_each_answer_equally_often(make: Make) -> None:
    rows = make(examples=4, balanced=True)
    rows.check()
    for row in rows.prepared.train_conversations:
        answers = [one.messages[-1].content for one in rows.context_of(row).examples]
        assert sorted(answer.strip() for answer in answers) == ["No", "No", "Yes", "Yes"]


def test_each_draw_has_other_examples_and_the_same_ones_again(make: Make) -> None:
    rows = make(examples=4, resample="step")
    assert [rows.draw_at(step, 1) for step in (0, 5)] == [0, 5]
    assert make(examples=4, resample="epoch").draw_at(5, 1) == 1
    assert make(examples=4).draw_at(5, 1) == 0
    contexts = [[one.origin for one in rows.context(draw).examples] for draw in (0, 1, 2, 1)]
    assert contexts[1] == contexts[3]
    assert len({tuple(context) for context in contexts}) == 3


def test_a_row_that_was_cut_teaches_as_many_tokens_as_are_left_of_it(make: Make) -> None:
    long = [{"prompt": f"What is {n}?", "completion": " Yes and no and yes and no and so on"} for n in range(6)]
    rows = make(long, examples=2, data={"max_length": 12})
    rows.check()
    assert all(example.truncated for example in rows.prepared.train)
    for own, other in zip(own_side(rows), other_side(rows), strict=True):
        assert learned(own) == learned(other)
        assert other.trained[-1]


def test_a_row_that_is_seen_twice_is_told_twice(make: Make) -> None:
    rows = make(examples=2, data={"train": [{"source": "r.jsonl", "weight": 2}]})
    told = rows.training(range(len(rows.prepared.train)))
    half = len(told) // 2
    assert told[:half] == told[half:]


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"examples": 11}, r"training\.distillation\.examples is 11, but must be at most"),
        ({"examples": 10}, r"training\.distillation\.examples is 10, but must be at most 9"),  # 10 rows are trained on
        ({"examples": 5, "balanced": True}, "a multiple of 2"),
        ({"examples": 10, "resample": "step"}, "at most 9"),
    ],
)
def test_too_few_rows_for_the_examples_are_named(make: Make, settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        make(**settings).check()


@pytest.mark.parametrize("resample", ["never", "step"])
def test_a_context_that_the_base_has_no_room_for_is_refused(make: Make, resample: str) -> None:
    rows = make(examples=4, resample=resample)
    longest = max(len(example.input_ids) for example in other_side(rows))
    assert rows.longest() >= longest
    assert resample == "step" or rows.longest() == longest
    rows.tokenizer.model_max_length = rows.longest()
    rows.check()
    rows.tokenizer.model_max_length -= 1
    words = f"examples is 4, but must be fewer: a row (has|may have) {rows.longest()} tokens after its context, and the"
    with pytest.raises(ConfigError, match=words):
        rows.check()


@pytest.mark.parametrize("resample", ["never", "epoch", "step"])
def test_a_validation_row_that_the_base_has_no_room_for_is_refused(
    make: Make, write: Callable[[str, Any], Path], resample: str
) -> None:
    write("long.jsonl", [{"prompt": "What is one more? " * 40, "completion": " Yes"}])
    rows = make(examples=2, resample=resample, data={"validation": {"source": {"source": "long.jsonl"}}})
    (longest,) = [len(example.input_ids) for example in rows.validation()]
    assert rows.longest() == longest
    rows.tokenizer.model_max_length = longest - 1
    with pytest.raises(ConfigError, match=rf"a row (has|may have) {longest} tokens after its context"):
        rows.check()


def test_examples_of_rows_that_all_say_the_same_are_refused(make: Make) -> None:
    same = [{"prompt": "What is it?", "completion": " Yes"}] * 3
    for rows in (same, same[:1]):
        data = {"validation": {"fraction": 0}, "clean": {"deduplicate": "none"}}
        teacher = make(rows, examples=1, balanced=True, data=data)
        with pytest.raises(DataError, match=r"examples is 1, but must be at most 0, the training rows"):
            teacher.check()


def test_answers_that_the_context_changes_are_named(make: Make, tokenizer: PreTrainedTokenizerFast) -> None:
    shout = "message['content'] | upper if 'one word' in messages[0]['content'] else message['content']"
    tokenizer.chat_template = str(tokenizer.chat_template).replace("message['content'] +", f"({shout}) +", 1)
    rows = make(context="Answer in one word.", data={"template": "chat"})
    with pytest.raises(DataError, match=r"r\.jsonl:\d+, r\.jsonl:\d+: answers have other tokens after the context"):
        rows.check()
