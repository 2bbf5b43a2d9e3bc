"""What other runs and result files of lm-eval are held against: prompts, versions, shared texts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tunery.evaluation.items import Leaf, item_ids, passages_of
from tunery.evaluation.task_manager import prompt_digest, task_version

SETTINGS = {"doc_to_text": "{{question}}", "output_type": "multiple_choice", "metric_list": [{"metric": "acc"}]}


def test_a_prompt_has_one_digest_whoever_writes_its_settings_down() -> None:
    elsewhere = {**SETTINGS, "description": "", "doc_to_choice": None, "metadata": {"config_source": "/x"}, "task": "t"}
    assert prompt_digest(elsewhere) == prompt_digest(SETTINGS)


def test_another_prompt_has_another_digest() -> None:
    assert prompt_digest({**SETTINGS, "doc_to_text": "Q: {{question}}"}) != prompt_digest(SETTINGS)


def test_a_version_is_the_same_wherever_the_tasks_yaml_lies() -> None:
    def task(place: str, **more: Any) -> Any:
        settings = {**SETTINGS, "metadata": {"version": 1.0, "config_source": place, **more}}
        return SimpleNamespace(VERSION=1.0, dump_config=lambda: settings)

    assert task_version(task("/a/t.yaml"), None) == task_version(task("/b/t.yaml"), None)
    assert task_version(task("/a/t.yaml", option=1), None) != task_version(task("/a/t.yaml"), None)


def test_an_item_that_a_task_holds_twice_gets_a_number() -> None:
    first, second, other = item_ids("t", [{"q": 1}, {"q": 1}, {"q": 2}], [0, 0, 0])
    assert second == f"{first}-2"
    assert other not in (first, second)


def test_documents_about_one_text_share_a_passage() -> None:
    found = passages_of([{"passage": "a", "q": 1}, {"passage": "b", "q": 2}, {"passage": "a", "q": 3}])
    assert found[0] == found[2] != found[1]


def test_documents_without_a_shared_text_have_no_passages() -> None:
    assert passages_of([{"passage": "a"}, {"passage": "b"}]) == []
    assert passages_of([{"passage": "a"}, {"passage": "a"}, {"question": "x"}]) == []
    assert passages_of(["text with the word context", "another"]) == []


@pytest.mark.parametrize(
    ("text", "delimiter", "option", "join"),
    [
        ("Q?", " ", "Yes", " "),
        ("Q? ", "", "Yes", " "),
        ("Q?\nA:", "", " Yes", " "),
        ("Q?", "\n\n", "Yes", "\n\n"),
        (3, " ", "a", None),
    ],
)
def test_the_white_space_before_an_option_is_the_prompts_the_delimiters_and_its_own(
    text: object, delimiter: str, option: str, join: str | None
) -> None:
    task = SimpleNamespace(
        OUTPUT_TYPE="multiple_choice",
        eval_docs=[{}],
        doc_to_text=lambda _: text,
        doc_to_choice=lambda _: [option, "No"],
        get_config={"target_delimiter": delimiter, "doc_to_choice": "x"}.get,
    )
    assert Leaf("t", task, None).join == join


def test_a_task_whose_answers_are_written_has_no_join() -> None:
    task = SimpleNamespace(OUTPUT_TYPE="generate_until", eval_docs=[{}])
    assert Leaf("t", task, None).join is None
