"""The data stage as a whole: every row is accounted for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from transformers import PreTrainedTokenizerFast

from tunery.config.data import DataConfig
from tunery.data.prepare import prepare
from tunery.errors import DataError
from tunery.records.rows import AskedItems, PreparedData

Write = Callable[[str, Any], Path]
Prepare = Callable[..., PreparedData]


@pytest.fixture
def run(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Prepare:
    def run_prepare(
        *train: Any,
        texts: Mapping[str, Sequence[str]] | None = None,
        seed: int = 0,
        loss_on: str = "completion",
        joins: Mapping[str, str] | None = None,
        references: Mapping[str, Sequence[tuple[str, str]]] | None = None,
        **settings: Any,
    ) -> PreparedData:
        sources = [{"source": each} if isinstance(each, str) else each for each in train]
        data = DataConfig.model_validate({"train": sources, **settings})
        return prepare(data, loss_on, tmp_path, tokenizer, AskedItems(texts or {}, joins or {}, references or {}), seed)

    return run_prepare


def pairs(count: int, text: str = "question") -> list[dict[str, str]]:
    return [{"prompt": f"{text} {n}", "completion": f"answer {n}"} for n in range(count)]


def decoded(prepared: PreparedData, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    return [tokenizer.decode(list(example.input_ids)) for example in prepared.train]


def test_every_row_is_trained_on_held_out_or_named(run: Prepare, write: Write) -> None:
    rows: list[Any] = [
        *pairs(198),
        {"prompt": "q", "completion": ""},
        {"prompt": "QUESTION 1", "completion": "answer  1"},
    ]
    write("r.jsonl", rows)
    prepared = run("r.jsonl", clean={"deduplicate": "exact"})
    report = prepared.report
    assert (report.sources[0].rows_read, report.sources[0].rows_kept) == (200, 198)
    assert [(drop.origin, drop.reason) for drop in report.drops] == [
        ("r.jsonl:199", "no answer"),
        ("r.jsonl:200", "duplicate of r.jsonl:2"),
    ]
    assert (report.train_rows, report.validation_rows) == (len(prepared.train), len(prepared.validation)) == (178, 20)
    assert [row.origin for row in prepared.validation_conversations] == sorted(
        (row.origin for row in prepared.validation_conversations), key=lambda origin: int(origin.rpartition(":")[2])
    )


def test_a_spreadsheet_with_a_blank_row_and_one_without_an_answer_passes(run: Prepare, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    page = book.active
    page.title = "QA"
    for row in [
        ("Question", "Answer", "Topic"),
        *[(f"q {n}", f"a {n}", None) for n in range(120)],
        (),
        ("no answer here",),
    ]:
        page.append(row or (None,))
    book.save(tmp_path / "qa.xlsx")
    columns = {"prompt": "Question", "completion": "Answer"}
    report = run({"source": "qa.xlsx", "sheet": "QA", "columns": columns}).report
    assert (report.sources[0].rows_read, report.sources[0].rows_kept) == (122, 120)
    assert {drop.origin: drop.reason for drop in report.drops} == {
        "qa.xlsx[QA]:122": "blank row",
        "qa.xlsx[QA]:123": "no answer",
    }


def test_rows_that_are_not_wanted_and_columns_that_nobody_reads_are_in_the_report(run: Prepare, write: Write) -> None:
    write("r.jsonl", [{**pair, "label": place > 0, "topic": "t"} for place, pair in enumerate(pairs(20))])
    report = run("r.jsonl").report
    assert (report.sources[0].rows_read, report.sources[0].rows_kept) == (20, 19)
    assert [(drop.origin, drop.reason) for drop in report.drops] == [
        ("r.jsonl:1", "label is false: not a wanted answer")
    ]
    assert report.unused == {"r.jsonl: column 'topic'": 19}


def test_rows_by_value_with_texts_for_labels_and_a_balanced_sample(
    run: Prepare, write: Write, tokenizer: PreTrainedTokenizerFast
) -> None:
    write("nli.jsonl", [{"q": f"question {n}", "label": n % 3, "part": "a"} for n in range(90)])
    source = {
        "source": "nli.jsonl",
        "columns": {"prompt": "q", "completion": "label"},
        "where": {"label": [0, 2]},
        "labels": {0: "Yes", 2: "No"},
        "sample": {"rows": 8, "balanced": "label"},
    }
    prepared = run(source, validation={"fraction": 0.2}, template="plain", separator=" ")
    texts = decoded(prepared, tokenizer)
    assert [text.count(" Yes") - text.count(" No") for text in texts].count(1) == 4
    assert len(texts) == 8
    assert len(prepared.validation) == 12  # of all that have the values, so that every sample has the same
    assert prepared.report.left_out == {"nli.jsonl: where": 30, "nli.jsonl: sample": 40}
    assert prepared.report.sources[0].rows_read == 90
    assert not any("touch" in note for note in prepared.report.notes)


def test_a_sample_of_a_validation_source_is_the_same_for_every_seed(run: Prepare, write: Write) -> None:
    write("r.jsonl", pairs(4))
    write("v.jsonl", pairs(40, "another"))
    own = {"source": {"source": "v.jsonl", "sample": {"rows": 6}}}
    first, second = (run("r.jsonl", validation=own, seed=seed).validation_conversations for seed in (0, 1))
    assert len(first) == 6
    assert first == second


def test_rows_that_are_items_of_a_set_of_answers_stop_unless_the_project_says_what_to_do(
    run: Prepare, write: Write
) -> None:
    write("r.jsonl", pairs(20))
    items = {"references": {"exam": [("Question  3", "answer 3"), ("question 4", "another answer")]}}
    with pytest.raises(DataError) as raised:
        run("r.jsonl", **items)
    text = str(raised.value)
    assert "1 training rows are items of exam, reference included: r.jsonl:4" in text
    assert "data.decontaminate: {action: drop}" in text
    dropped = run("r.jsonl", decontaminate={"action": "drop"}, **items).report.drops
    assert [(drop.origin, drop.reason) for drop in dropped] == [("r.jsonl:4", "contaminated: an item of exam")]
    assert run("r.jsonl", decontaminate={"action": "off"}, **items).report.sources[0].rows_kept == 20


def test_overlap_is_told_of_rows_that_are_used(run: Prepare, write: Write) -> None:
    write("r.jsonl", pairs(20))
    items = {"exam": [f"question {n}" for n in range(20)]}
    report = run({"source": "r.jsonl", "sample": {"rows": 4}}, texts=items, decontaminate={"ngram": 2}).report
    assert len(report.contaminated) == 4 + report.validation_rows


@pytest.mark.parametrize(
    ("separator", "prompt", "told"),
    [(None, "question", True), (" ", "question", False), (None, "question ", False), ("\n", "question", True)],
)
def test_answers_that_a_task_scores_after_other_white_space_are_told(
    separator: str | None, prompt: str, told: bool, run: Prepare, write: Write
) -> None:
    write("r.jsonl", [{"prompt": f"{n} {prompt}", "completion": f"answer {n}"} for n in range(20)])
    report = run("r.jsonl", template="plain", separator=separator, joins={"exam": " "}).report
    assert (
        any(
            "18 rows have '\\n' between prompt and answer, but exam scores answers after ' '" in note
            for note in report.notes
        )
        is told
    )
    assert not any("exam" in note for note in run("r.jsonl", joins={"exam": " "}).report.notes)


def test_rows_that_differ_in_their_calls_alone_are_different(run: Prepare, write: Write) -> None:
    calls = [{"function_call": {"name": "f", "arguments": {"x": n}}, "role": "assistant"} for n in range(4)]
    write("r.jsonl", [{"messages": [{"role": "user", "content": "q"}, call]} for call in calls])
    assert run("r.jsonl", clean={"deduplicate": "exact", "strip_markup": True}).report.drops == ()


def test_repeated_rows_are_kept_and_said_unless_asked_otherwise(run: Prepare, write: Write) -> None:
    write("r.jsonl", [*pairs(10), *pairs(2)])
    report = run("r.jsonl").report
    assert report.sources[0].rows_kept == 12
    assert any(
        "2 rows repeat an earlier one, the first is r.jsonl:11 (duplicate of r.jsonl:1)" in note
        for note in report.notes
    )


# ---- what stops


def test_more_bad_rows_than_allowed_stop_and_say_how_to_allow_them(run: Prepare, write: Write) -> None:
    rows = [*pairs(92), *[{"prompt": f"q {n}", "completion": ""} for n in range(8)]]
    write("r.jsonl", rows)
    with pytest.raises(DataError) as raised:
        run("r.jsonl")
    text = str(raised.value)
    assert "share of bad rows is 0.08, but must be at most 0.01 (data.max_bad_rows) of its 100 rows" in text
    assert "r.jsonl:93: no answer; r.jsonl:94: no answer" in text
    assert "and 3 more" in text
    assert "data.max_bad_rows: 0.08." in text
    assert run("r.jsonl", max_bad_rows=0.08).report.sources[0].rows_kept == 92


@pytest.mark.parametrize(("bad", "stops"), [(1, False), (2, True)])
def test_exactly_the_allowed_share_passes(bad: int, stops: bool, run: Prepare, write: Write) -> None:
    write("r.jsonl", [*pairs(100 - bad), *[{"prompt": "q", "completion": ""}] * bad])
    if stops:
        with pytest.raises(DataError, match=r"max_bad_rows: 0\.02"):
            run("r.jsonl")
    else:
        assert run("r.jsonl").report.sources[0].rows_kept == 99


@pytest.mark.parametrize(
    ("name", "content"), [("r.jsonl", ""), ("r.json", "[]"), ("r.csv", "prompt,completion\n"), ("r.jsonl", "\n\n")]
)
def test_an_empty_dataset_is_refused(name: str, content: str, run: Prepare, write: Write) -> None:
    write(name, content)
    with pytest.raises(DataError, match="has no rows"):
        run(name)


def test_a_dataset_whose_every_completion_is_cut_away_is_refused(run: Prepare, write: Write) -> None:
    write("r.jsonl", pairs(5))
    with pytest.raises(
        DataError, match=r"data\.max_length is 4.*every completion was cut away.*Raise data\.max_length"
    ):
        run("r.jsonl", max_length=4)


def test_cleaning_that_leaves_nothing_is_refused_with_the_reasons(run: Prepare, write: Write) -> None:
    write("r.jsonl", pairs(3))
    with pytest.raises(DataError, match=r"nothing is left to train on.*under clean\.min_characters"):
        run("r.jsonl", clean={"min_characters": 1000})


def test_rows_that_the_template_refuses_count_as_bad(
    run: Prepare, write: Write, tokenizer: PreTrainedTokenizerFast
) -> None:
    tokenizer.chat_template = "{{ raise_exception('never') if 'question 7' in messages[0]['content'] }}" + str(
        tokenizer.chat_template
    )
    write("r.jsonl", pairs(10))
    with pytest.raises(DataError, match=r"r\.jsonl:8: the chat template refuses it \(never\)"):
        run("r.jsonl")
    assert run("r.jsonl", max_bad_rows=0.1).report.sources[0].rows_kept == 9


# ---- mixing, validation, contamination


def test_sources_are_mixed_by_weight_after_validation_rows_left(run: Prepare, write: Write) -> None:
    write("one.jsonl", pairs(10, "one"))
    write("two.jsonl", pairs(10, "two"))
    prepared = run(
        {"source": "one.jsonl", "weight": 2.0}, {"source": "two.jsonl", "weight": 0.5}, validation={"fraction": 0.0}
    )
    assert prepared.report.train_rows == 25
    assert [source.weight for source in prepared.report.sources] == [2.0, 0.5]


def test_validation_rows_are_the_same_for_every_seed_and_never_trained_on(
    run: Prepare, write: Write, tokenizer: PreTrainedTokenizerFast
) -> None:
    write("r.jsonl", pairs(40))
    one, other = (run({"source": "r.jsonl", "weight": 0.5}, seed=seed) for seed in (0, 1))
    assert one.validation_conversations == other.validation_conversations
    assert one.train != other.train
    held = {row.messages[0].content for row in one.validation_conversations}
    assert not any(f"{text}<" in row for row in decoded(one, tokenizer) for text in held)


def test_validation_rows_may_have_a_source_of_their_own_and_shared_rows_are_said(run: Prepare, write: Write) -> None:
    write("train.jsonl", pairs(10))
    write("dev.jsonl", pairs(12)[8:])
    prepared = run("train.jsonl", validation={"source": {"source": "dev.jsonl"}})
    assert (prepared.report.train_rows, prepared.report.validation_rows) == (10, 4)
    assert [source.rows_kept for source in prepared.report.sources] == [10, 4]
    assert any(
        "2 training rows are validation rows too, the first is train.jsonl:9" in note for note in prepared.report.notes
    )


ITEM = "which of the seven towns by the river has the oldest bridge of all towns"


@pytest.mark.parametrize(
    ("action", "kept", "found"),
    [("report", 10, {"r.jsonl:3": "bridges"}), ("drop", 9, {"r.jsonl:3": "bridges"}), ("off", 10, {})],
)
def test_rows_that_hold_an_evaluation_item_are_reported_or_dropped(
    action: str, kept: int, found: dict[str, str], run: Prepare, write: Write
) -> None:
    rows = pairs(10)
    rows[2]["prompt"] = f"Tell me, {ITEM.upper()}?"
    write("r.jsonl", rows)
    report = run("r.jsonl", texts={"bridges": [ITEM]}, decontaminate={"action": action}).report
    assert report.contaminated == found
    assert report.not_compared == ("data.decontaminate is off" if action == "off" else "")
    assert report.sources[0].rows_kept == kept
    assert len(report.drops) == 10 - kept


def test_without_evaluation_items_nothing_is_said_to_be_free_of_them(run: Prepare, write: Write) -> None:
    write("r.jsonl", pairs(10))
    assert run("r.jsonl").report.not_compared == "nothing is scored"


def test_an_item_in_one_file_leaves_the_same_line_of_another_alone(run: Prepare, write: Write, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(f"{folder}/r.jsonl", pairs(10, f"{ITEM if folder == 'two' else 'question'} number"))
    sources = [str(tmp_path / folder / "r.jsonl") for folder in ("one", "two")]
    report = run(*sources, texts={"bridges": [ITEM]}, decontaminate={"action": "drop"}).report
    assert [source.rows_kept for source in report.sources] == [10, 0]
    assert set(report.contaminated) == {f"r.jsonl (source 2):{line}" for line in range(1, 11)}


# ---- figures


def test_token_figures_are_those_of_the_training_rows(run: Prepare, write: Write) -> None:
    write("r.jsonl", pairs(40))
    longest = run("r.jsonl").report.token_percentiles["100"]
    prepared = run("r.jsonl", max_length=longest - 1)
    lengths = sorted(len(example.input_ids) for example in prepared.train)
    report = prepared.report
    assert report.train_tokens == sum(lengths)
    assert report.token_percentiles == {
        "0": lengths[0],
        "5": lengths[1],
        "50": lengths[17],
        "95": lengths[34],
        "100": lengths[-1],
    }
    trained = sum(example.trained.count(True) for example in prepared.train)
    assert report.target_share == pytest.approx(trained / sum(lengths))
    assert report.truncated
    assert len(report.truncated) == sum(example.truncated for example in [*prepared.train, *prepared.validation])


def test_rows_that_lost_their_whole_answer_count_as_bad(run: Prepare, write: Write) -> None:
    rows = pairs(10)
    rows[0]["prompt"] = "long " * 100
    write("r.jsonl", rows)
    with pytest.raises(
        DataError, match=r"bad rows is 0\.1,.*r\.jsonl:1: completion cut away.*Raise data\.max_length, or"
    ):
        run("r.jsonl", max_length=60)
    report = run("r.jsonl", max_length=60, max_bad_rows=0.1).report
    assert [(drop.origin, drop.reason) for drop in report.drops] == [("r.jsonl:1", "completion cut away at max_length")]


@pytest.mark.parametrize("source", [{"sample": {"rows": 30, "seed": 1}}, {"where": {"kind": ["kept"]}}])
def test_bad_rows_are_a_share_of_the_rows_that_are_asked_for(run: Prepare, write: Write, source: Any) -> None:
    long = [{"prompt": f"{'long ' * 100}{n}", "completion": f"answer {n}", "kind": "kept"} for n in range(0, 80, 2)]
    short = [{**row, "kind": "kept" if n < 10 else "other"} for n, row in enumerate(pairs(1000))]
    write("r.jsonl", [*long, *short])
    with pytest.raises(DataError, match="share of bad rows is "):
        run({"source": "r.jsonl", **source}, max_length=60, validation={"fraction": 0}, max_bad_rows=0.05)


def test_bad_rows_of_both_splits_are_counted_together(run: Prepare, write: Write) -> None:
    rows = [{"prompt": f"{'long ' * 100 * (n < 20)}{n}", "completion": f"answer {n}"} for n in range(100)]
    write("r.jsonl", rows)
    with pytest.raises(DataError, match=r"bad rows is 0\.2,"):
        run("r.jsonl", max_length=60, max_bad_rows=0.19, validation={"fraction": 0.5})


@pytest.mark.parametrize(
    ("taken", "asked", "length", "told"), [(64, "auto", 64, 0), (4096, "auto", 1024, 0), (64, 128, 128, 1)]
)
def test_rows_are_cut_at_what_the_base_takes_unless_asked_otherwise_which_is_told(
    taken: int, asked: int | str, length: int, told: int, run: Prepare, write: Write, tokenizer: PreTrainedTokenizerFast
) -> None:
    write("r.jsonl", [{"prompt": "q", "completion": "word " * 1000}, *pairs(10)])
    tokenizer.model_max_length = taken
    prepared = run("r.jsonl", max_length=asked, validation={"fraction": 0.0})
    assert prepared.report.max_length == max(len(example.input_ids) for example in prepared.train) == length
    notes = [note for note in prepared.report.notes if f"the base was made for {taken} tokens at most" in note]
    assert len(notes) == told


REVIEWS = [{"review": f"Paper <b>{n}</b>: good!", "meta": f"Accept, {n}."} for n in range(20)]
REVIEWED = {"source": "reviews.jsonl", "columns": {"completion": "meta"}}
CLEAN = {"strip_markup": True, "keep": r"a-zA-Z0-9\s"}


def test_a_templates_own_marks_stay_while_its_columns_are_cleaned(
    run: Prepare, write: Write, tokenizer: PreTrainedTokenizerFast
) -> None:
    write("reviews.jsonl", REVIEWS)
    validated = {"source": {**REVIEWED, "where": {"meta": ["Accept, 1."]}}}
    prepared = run(REVIEWED, template="plain", clean=CLEAN, prompt_template="Review: {review} ->", validation=validated)
    assert "Review: Paper 0 good ->\nAccept 0" in decoded(prepared, tokenizer)[0]
    assert prepared.report.changed == {"strip_markup": 21, "keep": 21}
    # validation rows follow
    assert [row.messages[0].content for row in prepared.validation_conversations] == ["Review: Paper 1 good ->"]


def test_a_source_keeps_a_prompt_of_its_own(run: Prepare, write: Write) -> None:
    write("reviews.jsonl", REVIEWS)
    own = {"columns": {"prompt": "review", "completion": "meta"}}
    rows = run(
        {**REVIEWED, **own}, prompt_template="Review: {review}", validation={"fraction": 0.2}
    ).validation_conversations
    assert {row.messages[0].content for row in rows} <= {row["review"] for row in REVIEWS}


def test_a_cleaned_row_is_still_known_as_an_item(run: Prepare, write: Write) -> None:
    write("reviews.jsonl", REVIEWS)
    with pytest.raises(DataError, match="1 training rows are items of reviews, reference included"):
        run(
            REVIEWED,
            clean=CLEAN,
            prompt_template="Review: {review}",
            references={"reviews": [("Review: Paper 3 good", "Accept, 3.")]},
        )
