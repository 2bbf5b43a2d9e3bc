"""Solved examples of a context stand where lm-eval puts its few-shot examples, and change nothing else."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.evaluation.test_score import logs, stock

from tunery.config.evaluation import EvaluationConfig
from tunery.data.context import Context
from tunery.errors import ConfigError
from tunery.evaluation.room import check_room
from tunery.evaluation.score import score_model
from tunery.evaluation.tasks import Tasks, load_tasks
from tunery.records.rows import Conversation, Message

COLOURS = ("deep red", "pale green", "light blue", "bright yellow")
FIRST = "description: 'Colours of houses.\\n\\n'\nfewshot_config: {sampler: first_n}\n"


def shots(count: int) -> Context:
    """The first examples of the tasks' file of examples, as a row of training data has them."""
    return Context(tuple(_solved(number) for number in range(200, 200 + count)), "\n\n", " ")


def _solved(number: int) -> Conversation:
    asked = Message("user", f"Question: which colour has the house {number}?\nAnswer:")
    return Conversation((asked, Message("assistant", COLOURS[number % 4])), f"rows.jsonl:{number}")


@pytest.mark.parametrize("chat_template", [False, True])
def test_log_likelihoods_are_lm_evals_own_with_the_same_fixed_examples(
    tmp_path: Path, write_task: Callable[..., None], model: Any, tokenizer: Any, chat_template: bool
) -> None:
    write_task(tmp_path / "theirs", "quiz", 12, shots=3, extra=FIRST)
    write_task(tmp_path / "ours", "quiz", 12, shots=0, extra=FIRST)
    evaluation = EvaluationConfig(tasks=["quiz"], task_folders=["ours"], batch_size=4)
    tasks = load_tasks(evaluation, tmp_path, chat_template)
    ours = score_model(model, tokenizer, tasks.in_context(shots(3)), evaluation)["quiz"]
    theirs = stock(model, tokenizer, tmp_path / "theirs", "quiz", chat_template)
    expected = [response[0][0] for sample in theirs["samples"]["quiz"] for response in sample["resps"]]
    assert logs(ours) == pytest.approx(expected, abs=1e-4)
    assert logs(ours) != pytest.approx(logs(score_model(model, tokenizer, tasks, evaluation)["quiz"]), abs=1e-2)
    # The examples belong to the method: items and conditions, by which a board is made, stay.
    assert ours.settings == tasks.settings["quiz"]
    assert list(ours.samples["item_id"]) == tasks.leaves["quiz"].item_ids


def test_no_example_leaves_the_bases_own_answers(load: Any, model: Any, tokenizer: Any) -> None:
    tasks, evaluation = load("few", "filling")
    bare = score_model(model, tokenizer, tasks, evaluation)
    found = score_model(model, tokenizer, tasks.in_context(shots(0)), evaluation)
    for name in ("few", "filling"):
        assert logs(found[name]) == logs(bare[name])


def contexts(tasks: Tasks, name: str, tokenizer: Any) -> list[str]:
    def chat(messages: list[dict[str, str]], **options: Any) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    leaf = tasks.leaves[name]
    leaf.build(chat if tasks.chat_template else None, "key")
    return [request.args[0] for requests in leaf.requests for request in requests]


def test_prompts_of_sets_of_answers_get_the_context_too(tmp_path: Path, tokenizer: Any) -> None:
    (tmp_path / "asked.jsonl").write_text(json.dumps({"prompt": "Which colour?", "completion": "Red."}))
    answers = {"name": "asked", "source": "asked.jsonl", "metrics": ["rougeL"], "max_new_tokens": 4}
    evaluation = EvaluationConfig.model_validate({"answers": [answers]})
    context = shots(1)
    (plain,) = contexts(load_tasks(evaluation, tmp_path, False).in_context(context), "asked", tokenizer)
    assert plain == "Question: which colour has the house 200?\nAnswer: deep red\n\nWhich colour?"
    (chat,) = contexts(load_tasks(evaluation, tmp_path, True).in_context(context), "asked", tokenizer)
    turns = [*context.turns, {"role": "user", "content": "Which colour?"}]
    assert chat == tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


def test_a_task_that_asks_by_several_beginnings_has_the_context_before_each(load: Any, tokenizer: Any) -> None:
    tasks, _ = load("filling", limit=1)
    bare = contexts(tasks, "filling", tokenizer)
    assert contexts(tasks.in_context(shots(1)), "filling", tokenizer) == [f"{shots(1).text}{one}" for one in bare]


@pytest.mark.parametrize("name", ["few", "writing"])
def test_a_context_that_leaves_no_room_is_refused_with_its_length_before_and_while_scoring(
    load: Any, tokenizer: Any, make_llama: Any, name: str
) -> None:
    tasks, evaluation = load(name, limit=4)
    short = copy.deepcopy(tokenizer)
    short.model_max_length = 128
    model = make_llama(len(tokenizer), max_position_embeddings=128)
    with pytest.raises(ConfigError) as before:
        check_room(tasks.in_context(shots(8)).leaves.values(), short, False)
    with pytest.raises(ConfigError) as while_scoring:
        score_model(model, tokenizer, tasks.in_context(shots(8)), evaluation)
    told = str(before.value)
    assert str(while_scoring.value) == told
    assert f"training.icl.examples is 8, but must be fewer: a prompt of {name} has" in told
    assert "and the model takes 128. Show fewer, or shorter rows." in told
    check_room(tasks.in_context(shots(1)).leaves.values(), short, False)


def test_a_task_that_scores_whole_texts_takes_no_context(load: Any, tokenizer: Any) -> None:
    tasks, _ = load("whole_text")
    with pytest.raises(ConfigError, match=r"training\.method is 'icl', but must be another method for whole_text"):
        check_room(tasks.in_context(shots(1)).leaves.values(), tokenizer, False)
