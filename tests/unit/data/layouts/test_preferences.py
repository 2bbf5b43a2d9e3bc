"""Data of preferences is never learned by the order of its columns, nor against its labels."""

from __future__ import annotations

from typing import Any

import pytest

from tunery.config.data import SourceConfig
from tunery.data.layouts.convert import Converted, to_conversations
from tunery.data.reading.rows import collect
from tunery.errors import DataError

QUESTION = {"role": "user", "content": "q"}
GOOD = {"role": "assistant", "content": "good"}
BAD = {"role": "assistant", "content": "bad"}


def convert(*rows: Any, **settings: Any) -> Converted:
    source = SourceConfig(source="r.json", **settings)
    return to_conversations(collect("r.json", "r.json", enumerate(rows, start=1), "digest"), source, index=0)


def said(converted: Converted) -> list[str]:
    assert converted.bad == []
    return [message.content for message in converted.conversations[0].messages]


@pytest.mark.parametrize(
    ("row", "way"),
    [
        ({"rejected": [QUESTION, BAD], "chosen": [QUESTION, GOOD]}, {"format": "messages"}),
        ({"prompt": "q", "rejected": "bad", "chosen": "good"}, {"format": "prompt-completion"}),
        ({"prompt": [QUESTION], "rejected": [BAD], "chosen": [GOOD]}, {"format": "prompt-completion"}),
        ({"instruction": "q", "input": "", "rejected": "bad", "chosen": "good"}, {"format": "alpaca"}),
        (
            {
                "conversations": [{"from": "human", "value": "q"}],
                "rejected": {"from": "gpt", "value": "bad"},
                "chosen": {"from": "gpt", "value": "good"},
            },
            {"format": "sharegpt"},
        ),
        (
            {"question": "q", "rejected": "bad", "chosen": "good"},
            {"columns": {"prompt": "question", "completion": "chosen"}},
        ),
        (
            {"input": {"messages": [QUESTION]}, "non_preferred_output": [BAD], "preferred_output": [GOOD]},
            {"columns": {"prompt": "input", "completion": "preferred_output"}},
        ),
    ],
)
def test_pairs_are_refused_and_the_way_that_is_named_learns_the_chosen(
    row: dict[str, Any], way: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match="preference data") as raised:
        convert(row)
    ((key, value),) = way.items()
    written = value if isinstance(value, str) else "{" + ", ".join(f"{k}: {v}" for k, v in value.items()) + "}"
    assert f"set {key}: {written}." in str(raised.value)
    assert said(convert(row, **way)) == ["q", "good"]


@pytest.mark.parametrize("format_name", ["auto", "messages"])
def test_a_whole_conversation_beside_pairs_is_learned_and_the_pairs_are_told(format_name: str) -> None:
    row = {"messages": [QUESTION, GOOD], "chosen": [QUESTION, GOOD], "rejected": [QUESTION, BAD]}
    converted = convert(row, format=format_name)
    assert said(converted) == ["q", "good"]
    assert set(converted.unused) == {"column 'chosen'", "column 'rejected'"}


@pytest.mark.parametrize("no", [False, "false", "False"])
@pytest.mark.parametrize(
    ("row", "label"),
    [
        ({"prompt": "q", "completion": "x"}, "label"),
        ({"messages": [QUESTION, GOOD]}, "label"),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "x"}]}, "kto_tag"),
        ({"instruction": "q", "output": "x"}, "kto_tag"),
        ({"Question": "q", "Answer": "x"}, "label"),
    ],
)
def test_rows_that_are_labelled_as_not_wanted_are_left_out_and_counted(
    row: dict[str, Any], label: str, no: Any
) -> None:
    converted = convert({**row, label: no}, {**row, label: "true" if isinstance(no, str) else True})
    assert [conversation.origin for conversation in converted.conversations] == ["r.json:2"]
    assert [(drop.origin, drop.reason) for drop in converted.unwanted] == [
        ("r.json:1", f"{label} is false: not a wanted answer")
    ]
    assert converted.bad == []
    assert any(f"column {label!r} says which answers are wanted: 1 of 2 rows" in note for note in converted.notes)


def test_a_label_that_is_a_number_is_told_and_drops_nothing() -> None:
    converted = convert({"prompt": "q", "completion": "a", "label": 0}, {"prompt": "q", "completion": "a", "label": 3})
    assert len(converted.conversations) == 2
    assert any("column 'label' is not used" in note for note in converted.notes)
