"""The report for a file, for the terminal, and the preview of what is learned."""

from __future__ import annotations

import dataclasses
import io

from rich.console import Console
from transformers import PreTrainedTokenizerFast

from tunery.config.data import DataConfig
from tunery.data.rendering.encode import encode_all
from tunery.data.report import preview, table
from tunery.records.rows import Conversation, DataReport, Drop, Example, Message, PreparedData, SourceReport

REPORT = DataReport(
    sources=(SourceReport("qa.xlsx", "columns", 122, 113, 2.0, "0123"),),
    drops=(
        *(Drop(f"qa.xlsx[QA]:{n}", f"duplicate of qa.xlsx[QA]:{n - 1}") for n in range(10, 17)),
        Drop("qa.xlsx[QA]:122", "blank row"),
        Drop("qa.xlsx[QA]:123", "no answer"),
    ),
    changed={"strip_markup": 3},
    train_rows=226,
    validation_rows=0,
    train_tokens=12_345,
    token_percentiles={"0": 10, "5": 12, "50": 40, "95": 90, "100": 128},
    truncated=("qa.xlsx[QA]:7",),
    target_share=0.625,
    contaminated={"qa.xlsx[QA]:8": "hellaswag"},
    notes=("A note.",),
    max_length=128,
    unused={"qa.xlsx: column 'topic'": 1200},
)


def shown(renderable: object, terminal: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=150, force_terminal=terminal, color_system="truecolor" if terminal else None
    )
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_tells_what_became_of_the_rows() -> None:
    text = " ".join(shown(table(REPORT)).split())
    for part in (
        "122 rows read, 113 kept, weight 2",
        "226 with 12,345 tokens",
        "7 duplicate: qa.xlsx[QA]:10, qa.xlsx[QA]:11, qa.xlsx[QA]:12, qa.xlsx[QA]:13, qa.xlsx[QA]:14 and 2 more",
        "1 no answer: qa.xlsx[QA]:123",
        "3 rows by strip_markup",
        "median 40",
        "1 at 128 tokens: qa.xlsx[QA]:7",
        "62.5% of all",
        "1 rows with items of hellaswag: qa.xlsx[QA]:8",
        "not used",
        "qa.xlsx: column 'topic' (1,200)",
        "A note.",
    ):
        assert part in text


def test_an_overlap_that_was_not_looked_for_is_not_said_to_be_absent() -> None:
    clean = dataclasses.replace(REPORT, contaminated={})
    assert "no row with an evaluation item" in shown(table(clean))
    off = shown(table(dataclasses.replace(clean, not_compared="data.decontaminate is off")))
    assert "not looked for: data.decontaminate is off" in off
    assert "no row with an evaluation item" not in off


def prepared(tokenizer: PreTrainedTokenizerFast, *answers: str) -> PreparedData:
    rows = [Conversation((Message("user", "What is the sky?"), Message("assistant", each)), "r:1") for each in answers]
    config = DataConfig.model_validate({"train": [{"source": "r"}]})
    examples = encode_all(rows, tokenizer, config, "auto").results
    return PreparedData([each for each in examples if isinstance(each, Example)], [], [], REPORT)


def test_of_rows_that_are_only_shown_nothing_is_said_of_learning() -> None:
    assert "learned tokens" in shown(table(REPORT))
    assert "learned tokens" not in shown(table(dataclasses.replace(REPORT, target_share=0.0)))


def test_without_colour_learned_tokens_stand_between_marks(tokenizer: PreTrainedTokenizerFast) -> None:
    text = shown(preview(prepared(tokenizer, "Bl\u00fce [b]", "never shown"), tokenizer, 1, "auto", "chat"))
    assert "<|im_start|>user\nWhat is the sky?<|im_end|>\n<|im_start|>assistant\n[[Bl\u00fce [b]<|im_end|>]]" in text
    assert "never shown" not in text


def test_with_colour_learned_tokens_are_green_and_nothing_else_is(tokenizer: PreTrainedTokenizerFast) -> None:
    text = (
        shown(preview(prepared(tokenizer, "Blue."), tokenizer, 1, "auto", "chat"), terminal=True)
        .partition("green")[2]
        .split("\n", 1)[1]
    )
    assert "\x1b[32mBlue.\x1b[0m\x1b[1;32m<|im_end|>\x1b[0m" in text
    assert "[[" not in text
    assert "32m" not in text.partition("Blue.")[0].replace("\x1b[32m", "", 1)


def test_a_preview_says_what_is_learned_what_was_cut_and_the_reports_notes(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = prepared(tokenizer, "Blue.")
    (example,) = rows.train
    cut = dataclasses.replace(rows, train=[dataclasses.replace(example, truncated=True)])
    text = shown(preview(cut, tokenizer, 1, "auto", "plain"))
    learned, total = sum(example.trained), len(example.trained)
    assert f"learned: {learned} of {total} tokens, the last answer (training.loss_on: auto)" in text
    assert "cut at data.max_length: 128" in text
    assert "note: A note." in text
