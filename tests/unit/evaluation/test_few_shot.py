"""An item is never its own few-shot example; all other examples are the ones that lm-eval draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunery.config.evaluation import EvaluationConfig
from tunery.errors import TaskError
from tunery.evaluation.items import FewShot, Leaf
from tunery.evaluation.task_manager import task_version
from tunery.evaluation.tasks import load_tasks

QUIZ = """
task: quiz
dataset_path: json
dataset_kwargs: {{data_files: {files}}}
output_type: multiple_choice
test_split: test
{more}doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_choice: "{{{{options}}}}"
doc_to_target: gold
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
SHUFFLED = """
import random

def drawn(documents):
    order = random.Random(str(random.random()))
    return documents.map(lambda row: {"shown": order.sample(row["options"], 4)})
"""


def write_quiz(folder: Path, items: int, more: str = "", examples: list[dict[str, Any]] | None = None) -> None:
    rows = [
        {"id": number, "question": f"what is {number}?", "options": ["a", "b", "c", "d"], "gold": number % 4}
        for number in range(items)
    ]
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = "{test: items.jsonl}"
    if examples is not None:
        (folder / "shots.jsonl").write_text("\n".join(map(json.dumps, examples)))
        files, more = "{test: items.jsonl, train: shots.jsonl}", f"fewshot_split: train\n{more}"
    (folder / "quiz.yaml").write_text(QUIZ.format(files=files, more=more))


def leaf(folder: Path, shots: int, name: str = "quiz") -> tuple[Leaf, Any]:
    evaluation = EvaluationConfig(tasks=[name], task_folders=[str(folder)], few_shot=shots)
    tasks = load_tasks(evaluation, folder, chat_template=False)
    return tasks.leaves[name], tasks.settings[name]


def contexts(one: Leaf) -> list[str]:
    one.build(None, "plain")
    return [requests[0].args[0] for requests in one._requests.values()]


def own_answers(one: Leaf) -> int:
    """Items whose own question stands in their prompt more than once."""
    questions = [str(document["question"]) for document in one.documents]
    return sum(context.count(asked) > 1 for context, asked in zip(contexts(one), questions, strict=True))


def as_lm_eval_draws(one: Leaf) -> Leaf:
    """The same task with lm-eval's own draws."""
    one.task.set_fewshot_seed(seed=1234)
    plain = Leaf(one.name, one.task, one.limit)
    plain.__dict__["few_shot"] = FewShot(one.task)
    return plain


def test_no_item_of_a_task_with_one_split_sees_its_own_answer(tmp_path: Path) -> None:
    write_quiz(tmp_path, 8)
    found, _ = leaf(tmp_path, 4)
    ours, theirs = contexts(found), contexts(as_lm_eval_draws(found))
    assert own_answers(found) == 0
    assert own_answers(as_lm_eval_draws(found)) > 2  # the oracle: lm-eval's own prompts hold them
    questions = [str(document["question"]) for document in found.documents]
    for mine, stock, asked in zip(ours, theirs, questions, strict=True):
        assert (mine == stock) == (stock.count(asked) == 1)  # examples of the others are lm-eval's
        shown, drawn = (set(context.split("Question: ")[1:-1]) for context in (mine, stock))
        assert len(shown) == 4
        assert {one for one in drawn if asked not in one} <= shown


@pytest.mark.parametrize("shots", [2, 5])
@pytest.mark.parametrize("name", ["world_facts", "world_comparison"])
def test_no_item_of_our_own_tasks_sees_its_own_answer(tmp_path: Path, name: str, shots: int) -> None:
    found, _ = leaf(tmp_path, shots, name)
    assert own_answers(found) == 0
    assert found.few_shot.replaced > 0


def test_a_copy_under_another_id_in_the_split_of_examples_is_the_item_too(tmp_path: Path) -> None:
    copy = {"id": 99, "question": "what is 3?", "options": ["a", "b", "c", "d"], "gold": 3}
    others = [{**copy, "id": 100 + n, "question": f"how far is {n}?"} for n in range(5)]
    write_quiz(tmp_path, 8, examples=[copy, *others])
    found, _ = leaf(tmp_path, 5)
    assert own_answers(found) == 0
    assert any("what is 3?" in context for context in contexts(found)[:3]), "others may see it"


def test_an_item_whose_options_are_shuffled_anew_is_known_by_its_row(tmp_path: Path) -> None:
    (tmp_path / "shuffled.py").write_text(SHUFFLED)
    write_quiz(tmp_path, 8, more="process_docs: !function shuffled.drawn\n")
    file = tmp_path / "quiz.yaml"
    file.write_text(file.read_text().replace("{{question}}", "{{question}} {{shown}}"))
    found, _ = leaf(tmp_path, 4)
    assert own_answers(found) == 0


def test_more_examples_than_there_are_others_is_refused_with_the_number(tmp_path: Path) -> None:
    write_quiz(tmp_path, 8)
    with pytest.raises(TaskError, match=r"few_shot is 8, but must be at most 7: the task has no more examples"):
        leaf(tmp_path, 8)


def test_a_task_has_another_version_only_where_an_example_was_replaced(tmp_path: Path) -> None:
    from tunery.evaluation.task_files import own_tasks

    def unguarded(found: Leaf) -> str:
        return task_version(found.task, own_tasks([tmp_path])["quiz"])

    write_quiz(tmp_path, 8)
    plain, settings = leaf(tmp_path, 0)
    assert settings.version == unguarded(plain)
    replaced, settings = leaf(tmp_path, 4)
    assert settings.version != unguarded(replaced)
    assert settings.prompt.endswith("-guarded")


def test_examples_of_another_split_are_lm_evals_and_so_is_the_version(tmp_path: Path) -> None:
    other = [{"id": n, "question": f"how far is {n}?", "options": ["a", "b", "c", "d"], "gold": 0} for n in range(9)]
    write_quiz(tmp_path, 8, examples=other)
    found, settings = leaf(tmp_path, 3)
    assert contexts(found) == contexts(as_lm_eval_draws(found))
    assert found.few_shot.replaced == 0
    assert not settings.prompt.endswith("-guarded")
