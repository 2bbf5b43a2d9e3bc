"""Sets of prompts that a model answers in writing are tasks like any other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from sacrebleu.metrics.bleu import BLEU

from tunery.config.data import DataConfig
from tunery.config.evaluation import EvaluationConfig
from tunery.errors import DataError, TaskError
from tunery.evaluation.items import Leaf
from tunery.evaluation.result import averaging, headline, restrict
from tunery.evaluation.score import score_model
from tunery.evaluation.task_manager import task_version
from tunery.evaluation.tasks import check_tasks, load_tasks
from tunery.evaluation.written_text import role_headers

REVIEWS = [{"prompt": f"What colour has house {n}?", "completion": f"The house {n} is deep red."} for n in range(12)]


def evaluation(**settings: Any) -> EvaluationConfig:
    answers = {"name": "reviews", "source": "reviews.jsonl", "metrics": ["rougeL", "exact_match"], "max_new_tokens": 6}
    return EvaluationConfig.model_validate({"answers": [answers | settings], "batch_size": 4, "dev_fraction": 0.5})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "reviews.jsonl").write_text("\n".join(map(json.dumps, REVIEWS)))
    return tmp_path


@pytest.mark.parametrize("chat_template", [False, True])
def test_answers_are_measured_one_by_one_and_split_like_items(
    folder: Path, model: Any, tokenizer: Any, chat_template: bool
) -> None:
    asked = evaluation(metrics=["rougeL", "chrf", "bleu", "repetition_rate", "exact_match"])
    result = score_model(model, tokenizer, load_tasks(asked, folder, chat_template), asked)["reviews"]
    assert list(result.samples["target"]) == [row["completion"] for row in REVIEWS]
    assert list(result.samples["question"]) == [row["prompt"] for row in REVIEWS]
    for metric in ("rougeL", "chrf", "bleu", "repetition_rate", "exact_match"):
        assert averaging(result, metric) == "items"
        assert result.scores[metric].items == len(REVIEWS)
    assert not result.scores["repetition_rate"].higher_is_better
    predictions = [answer.strip() for answer in result.samples["prediction"]]
    expected = BLEU().corpus_score(predictions, [[row["completion"] for row in REVIEWS]]).score / 100
    assert result.scores["corpus_bleu"].value == pytest.approx(expected)
    assert averaging(result, "corpus_bleu") is None  # shown, and never paired
    dev = restrict(result, "dev")
    assert 0 < dev.scores["rougeL"].items < len(REVIEWS)
    assert "corpus_bleu" not in dev.scores


def test_the_first_metric_counts_unless_primary_says_otherwise(folder: Path, model: Any, tokenizer: Any) -> None:
    asked = evaluation()
    results = score_model(model, tokenizer, load_tasks(asked, folder, True), asked)
    assert headline(results, asked) == results["reviews"].scores["rougeL"].value
    other = EvaluationConfig.model_validate({**asked.model_dump(), "primary": {"reviews": "exact_match"}})
    assert load_tasks(other, folder, True).primary == {"reviews": "exact_match"}
    wrong = EvaluationConfig.model_validate({**asked.model_dump(), "primary": {"reviews": "rouge"}})
    with pytest.raises(TaskError, match=r"Did you mean 'rougeL'|must be a metric of the task: rougeL, exact_match"):
        load_tasks(wrong, folder, True)


def test_a_right_answer_has_full_marks(folder: Path) -> None:
    task = (
        load_tasks(evaluation(metrics=["rougeL", "chrf", "bleu", "exact_match"]), folder, True).leaves["reviews"].task
    )
    values = task.process_results(task.eval_docs[3], [" the house 3 is deep red\n"])
    assert values["rougeL"] == values["exact_match"] == 1
    assert 0 < values["chrf"] < 1  # case and the full stop count
    assert values["corpus_bleu"] == ("the house 3 is deep red", "The house 3 is deep red.")


def versions(folder: Path, **settings: Any) -> str:
    return load_tasks(evaluation(**settings), folder, True).settings["reviews"].version


def test_a_version_changes_with_rows_metrics_and_length_and_with_nothing_else(folder: Path) -> None:
    before = versions(folder)
    assert versions(folder) == before
    assert versions(folder, metrics=["rougeL"]) != before
    assert versions(folder, max_new_tokens=7) != before
    (folder / "same.csv").write_text(
        "".join(
            f"{row['prompt']},{row['completion']}\n"
            for row in [{"prompt": "prompt", "completion": "completion"}, *REVIEWS]
        )
    )
    assert versions(folder, source="same.csv") == before
    (folder / "reviews.jsonl").write_text("\n".join(map(json.dumps, REVIEWS[1:])))
    assert versions(folder) != before


def test_earlier_turns_and_a_system_text_are_asked_too(folder: Path, tokenizer: Any) -> None:
    turns = [("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi"), ("user", "Colour?"), ("assistant", "Red")]
    row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    (folder / "reviews.jsonl").write_text(json.dumps(row))
    leaf = load_tasks(evaluation(), folder, True).leaves["reviews"]

    def chat(messages: list[dict[str, str]]) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    leaf.build(chat, "key")
    (request,) = leaf._requests[0]
    assert request.args[0] == chat(row["messages"][:-1])
    assert leaf.targets == ["Red"]

    def without_system(messages: list[dict[str, str]]) -> str:
        return chat([message for message in messages if message["role"] != "system"])

    with pytest.raises(TaskError, match=r"leaves out a system text, 'Be brief\.'"):
        leaf.build(without_system, "other")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"metrics": ["semantic"]}, "the metric semantic needs semantic_model"),
        ({"metrics": []}, "metrics"),
        ({"metrics": ["rogue"]}, "metrics"),
        ({"columns": {"prompt": "prompt"}}, "columns must name the column of the completion"),
        ({"name": "a b"}, "name"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: Mapping[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        evaluation(**settings)


def test_a_name_that_a_task_has_is_refused() -> None:
    with pytest.raises(ValueError, match="'reviews' names two of tasks and answers"):
        EvaluationConfig.model_validate({**evaluation().model_dump(), "tasks": ["reviews"]})


def test_what_cannot_be_asked_is_known_before_a_model_is_loaded(folder: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        check_tasks(evaluation(source="absent.jsonl"), folder)
    with pytest.raises(TaskError, match=r"absent', but must be a folder .* its tokenizer, and is none\.$"):
        load_tasks(evaluation(metrics=["semantic"], semantic_model="absent"), folder, True)
    (folder / "reviews.jsonl").write_text(json.dumps({"prompt": "Why?", "completion": ""}))
    with pytest.raises(TaskError, match=r"1 have not: reviews\.jsonl:1: no answer"):
        load_tasks(evaluation(), folder, True)


PROMPTED = {"columns": {"completion": "completion"}}


def asked_by(folder: Path, template: str, **clean: Any) -> Leaf:
    data = DataConfig.model_validate({"train": [{"source": "x"}], "prompt_template": template, "clean": clean})
    return load_tasks(evaluation(**PROMPTED), folder, False, data).leaves["reviews"]


def test_prompts_follow_the_template_and_the_cleaning_of_the_rows_that_are_trained_on(folder: Path) -> None:
    leaf = asked_by(folder, "Q: {prompt} ->", keep=r"a-zA-Z0-9\s")
    assert leaf.texts[0] == "Q: What colour has house 0 ->"
    assert leaf.targets[0] == "The house 0 is deep red."  # as it is written


def test_a_row_is_the_same_item_under_every_template_of_the_data_and_asked_in_another_wording(folder: Path) -> None:
    one, other = asked_by(folder, "Q: {prompt}"), asked_by(folder, "{prompt} Answer:")
    assert one.texts != other.texts
    assert one.item_ids == other.item_ids
    assert len(set(one.item_ids)) == len(REVIEWS)
    assert len({task_version(leaf.task, None) for leaf in (one, other)}) == 1  # one board holds both
    assert len({leaf.task.wording for leaf in (one, other)}) == 2  # the base's scores of one are not those of the other


def test_a_set_with_a_template_or_other_rows_of_its_own_is_another_version(folder: Path) -> None:
    own = [evaluation(**PROMPTED, prompt_template=template) for template in ("Q: {prompt}", "{prompt} Answer:")]
    leaves = [load_tasks(asked, folder, False).leaves["reviews"] for asked in own]
    taught = asked_by(folder, "Q: {prompt}")
    (folder / "reviews.jsonl").write_text(
        "\n".join(map(json.dumps, [*REVIEWS[1:], REVIEWS[0] | {"completion": "No."}]))
    )
    leaves += [taught, asked_by(folder, "Q: {prompt}")]
    assert len({task_version(leaf.task, None) for leaf in leaves}) == 4
    assert [bool(leaf.task.wording) for leaf in leaves] == [False, False, True, True]


def test_a_row_of_whose_prompt_cleaning_leaves_nothing_is_named(folder: Path) -> None:
    with pytest.raises(TaskError, match=r"nothing left of the prompt template's columns after keep"):
        asked_by(folder, "Q: {prompt}", keep="0-1")


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        ("deep red<|im_end|>", 0.0),
        ("deep red", 1.0),  # it goes on until the longest length
        ("deep red\n<|im_start|>user\nand the barn?<|im_end|>", 1.0),
        ("deep red\nUser: and the barn?<|im_end|>", 1.0),
        ("the user said: deep red<|im_end|>", 0.0),
    ],
)
def test_an_answer_that_goes_on_for_both_sides_is_counted_and_less_is_better(
    folder: Path, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, written: str, rate: float
) -> None:
    ids = torch.tensor([tokenizer.encode(written)])

    def generate(input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.cat([input_ids, ids.expand(len(input_ids), -1)], dim=1)

    monkeypatch.setattr(model, "generate", generate)
    asked = evaluation(metrics=["both_sides_rate", "exact_match"])
    result = score_model(model, tokenizer, load_tasks(asked, folder, True), asked)["reviews"]
    score = result.scores["both_sides_rate"]
    assert (score.value, score.higher_is_better) == (rate, False)
    assert headline({"reviews": result}, asked) == -rate
    assert averaging(result, "both_sides_rate") == "items"


def test_the_headers_of_a_chat_template_are_what_it_writes_before_turns(tokenizer: Any) -> None:
    ends = {tokenizer.convert_tokens_to_ids(name) for name in ("<|im_end|>", "<|endoftext|>")}
    assert role_headers(tokenizer, ends) == ("<|im_start|>user", "<|im_start|>assistant")
