"""Names, groups, versions and metrics of tasks, before any model is there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunery.config.evaluation import EvaluationConfig
from tunery.errors import TaskError
from tunery.evaluation.tasks import check_tasks, load_tasks

WriteTask = Callable[..., None]


@pytest.fixture
def _no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folders: object) -> None:
        raise AssertionError("lm-eval's tasks were indexed")

    monkeypatch.setattr("tunery.evaluation.tasks.full_manager", refuse)


@pytest.fixture
def _small_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for lm-eval's index, which takes seconds to build."""
    manager = SimpleNamespace(all_tasks=["hellaswag", "arc_easy", "arc_challenge", "winogrande"])
    monkeypatch.setattr("tunery.evaluation.tasks.full_manager", lambda folders: manager)


@pytest.mark.usefixtures("_no_index")
def test_tasks_of_our_own_folders_are_checked_and_loaded_without_lm_evals_index(load: Any) -> None:
    tasks, evaluation = load("many", "writing")
    check_tasks(evaluation, load.folder.parent)
    assert list(tasks.leaves) == ["many", "writing"]


@pytest.mark.usefixtures("_no_index")
def test_a_group_of_our_own_tasks_needs_no_index_either(load: Any) -> None:
    tasks, _ = load("both")
    assert tasks.members["both"] == ("many", "few")


def test_checking_our_own_tasks_imports_neither_lm_eval_nor_torch(load: Any) -> None:
    code = (
        "import sys; from pathlib import Path; from tunery.config.evaluation import EvaluationConfig;"
        "from tunery.evaluation.tasks import check_tasks;"
        f"check_tasks(EvaluationConfig(tasks=['many'], task_folders=[{str(load.folder)!r}]), Path('.'));"
        "print([name for name in ('lm_eval', 'torch', 'datasets', 'pandas') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.usefixtures("_small_index")
def test_an_unknown_task_is_named_with_the_nearest_ones_and_all_at_once(load: Any) -> None:
    evaluation = load.config("many", "helaswag", "arc_chalenge")
    with pytest.raises(TaskError) as caught:
        check_tasks(evaluation, load.folder.parent)
    text = str(caught.value)
    assert "'helaswag'" in text
    assert "Did you mean 'hellaswag'" in text
    assert "'arc_challenge'" in text
    assert "names 'many'" not in text


@pytest.mark.usefixtures("_small_index")
def test_a_misspelt_name_of_our_own_task_is_compared_with_ours_too(load: Any) -> None:
    with pytest.raises(TaskError, match="Did you mean 'writing'"):
        check_tasks(load.config("writting"), load.folder.parent)


def test_a_task_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    evaluation = EvaluationConfig(tasks=["many"], task_folders=["nowhere"])
    with pytest.raises(TaskError, match=r"evaluation\.task_folders is .*nowhere.*a folder that exists"):
        check_tasks(evaluation, tmp_path)


def test_a_yaml_file_that_does_not_parse_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("task: [open")
    with pytest.raises(TaskError, match=r"broken\.yaml: not YAML"):
        check_tasks(EvaluationConfig(tasks=["x"], task_folders=["."]), tmp_path)


def test_a_dataset_that_cannot_be_reached_is_a_task_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def unreachable(**_: object) -> None:
        raise ConnectionError("Couldn't reach 'someone/something' on the Hub (offline)")

    (tmp_path / "far.yaml").write_text("task: far\ndataset_path: someone/something\ntest_split: test\n")
    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(TaskError, match=r"far: its dataset is not in the local cache, and the Hub cannot be reached"):
        load_tasks(EvaluationConfig(tasks=["far"], task_folders=["."]), tmp_path, False)


def test_a_missing_items_file_is_named(tmp_path: Path, write_task: WriteTask) -> None:
    write_task(tmp_path, "gone", 4)
    (tmp_path / "gone.jsonl").unlink()
    with pytest.raises(TaskError, match=r"data_files is .*gone\.jsonl"):
        load_tasks(EvaluationConfig(tasks=["gone"], task_folders=["."]), tmp_path, False)


def test_items_files_are_looked_for_before_a_task_is_loaded(tmp_path: Path, write_task: WriteTask) -> None:
    (tmp_path / "both.yaml").write_text("group: both\ntask: [here, gone]\n")
    for name in ("here", "gone"):
        write_task(tmp_path, name, 4)
    evaluation = EvaluationConfig(tasks=["both"], task_folders=["."])
    check_tasks(evaluation, tmp_path)
    (tmp_path / "gone.jsonl").unlink()
    with pytest.raises(TaskError, match=r"gone\.yaml: dataset_kwargs\.data_files is .*gone\.jsonl.* beside the YAML"):
        check_tasks(evaluation, tmp_path)
    check_tasks(EvaluationConfig(tasks=["here"], task_folders=["."]), tmp_path)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"question": ', r"torn\.jsonl:3: JSON that cannot be read: "),
        ("7", r"torn\.jsonl:3: .*int instead of an object"),
        ('{"question": "a?", "question": "b?"}', r"torn\.jsonl:3: .*'question' has several values"),
        ('{"question": ["a?"]}', r"torn\.yaml: its items do not make a table .*texts alone"),
    ],
)
def test_an_item_that_cannot_be_read_is_named_with_its_number(
    line: str, told: str, tmp_path: Path, write_task: WriteTask
) -> None:
    write_task(tmp_path, "torn", 2)
    with (tmp_path / "torn.jsonl").open("a") as file:
        file.write(f"\n{line}")
    with pytest.raises(TaskError, match=told):
        load_tasks(EvaluationConfig(tasks=["torn"], task_folders=["."]), tmp_path, False)


def test_what_only_later_items_hold_is_asked_too(tmp_path: Path, write_task: WriteTask) -> None:
    write_task(tmp_path, "hints", 2)
    first, second = map(json.loads, (tmp_path / "hints.jsonl").read_text().splitlines())
    lines = [json.dumps(row, ensure_ascii=False) for row in (first, {**second, "hint": "line\u2028break"})]
    (tmp_path / "hints.jsonl").write_text("\n".join(lines), encoding="utf-8")
    settings = (tmp_path / "hints.yaml").read_text().replace("{{question}}", "{{hint or ''}} {{question}}")
    (tmp_path / "hints.yaml").write_text(settings)
    tasks = load_tasks(EvaluationConfig(tasks=["hints"], task_folders=["."]), tmp_path, False)
    one, other = tasks.leaves["hints"].texts
    assert f"Question:  {first['question']}" in one
    assert f"Question: line\u2028break {second['question']}" in other


def test_an_aggregation_that_lm_eval_does_not_know_is_named(tmp_path: Path, write_task: WriteTask) -> None:
    metric = "  - {metric: mcc, aggregation: no_such_thing, higher_is_better: true}\n"
    write_task(tmp_path, "odd", 2, extra=metric)
    with pytest.raises(TaskError, match="odd: the aggregation of its metric 'mcc' is unknown"):
        load_tasks(EvaluationConfig(tasks=["odd"], task_folders=["."]), tmp_path, False)


def test_few_shot_follows_the_project_unless_the_task_says_zero(load: Any) -> None:
    own, _ = load("many", "few")
    forced, _ = load("many", "few", few_shot=5)
    assert (own.settings["many"].few_shot, own.settings["few"].few_shot) == (2, 0)
    # lm-eval's rule: a task that declares 0 examples keeps 0.
    assert (forced.settings["many"].few_shot, forced.settings["few"].few_shot) == (5, 0)


def test_the_limit_keeps_the_first_documents(load: Any) -> None:
    tasks, _ = load("many", limit=3)
    questions = [document["question"] for document in tasks.leaves["many"].documents]
    assert questions == [f"which colour has the house {number}?" for number in range(3)]
    assert tasks.settings["many"].limit == 3


def test_texts_are_what_the_documents_ask(load: Any) -> None:
    tasks, _ = load("few")
    assert tasks.asked().texts["few"][0] == "Question: which colour has the house 100?\nAnswer:"


def test_a_change_of_an_item_changes_the_version_of_our_task(tmp_path: Path, write_task: WriteTask) -> None:
    def version() -> str:
        from tunery.evaluation import task_manager

        task_manager.own_manager.cache_clear()
        evaluation = EvaluationConfig(tasks=["mine"], task_folders=["."])
        return load_tasks(evaluation, tmp_path, False).settings["mine"].version

    write_task(tmp_path, "mine", 4)
    first, again = version(), version()
    items = (tmp_path / "mine.jsonl").read_text().splitlines()
    (tmp_path / "mine.jsonl").write_text("\n".join([*items[:-1], items[-1].replace("house", "barn")]))
    assert first == again
    assert first.startswith("3.0+")
    assert version() != first


def test_a_change_of_the_prompt_changes_the_version_of_our_task(tmp_path: Path, write_task: WriteTask) -> None:
    versions = []
    for prompt in ("Question", "Q"):
        folder = tmp_path / prompt
        write_task(folder, "mine", 4)
        path = folder / "mine.yaml"
        path.write_text(path.read_text().replace("Question", prompt))
        evaluation = EvaluationConfig(tasks=["mine"], task_folders=["."])
        versions.append(load_tasks(evaluation, folder, False).settings["mine"].version)
    assert versions[0] != versions[1]


def test_the_first_metric_is_primary_unless_the_project_names_another(load: Any) -> None:
    assert load("many")[0].primary["many"] == "acc"
    assert load("many", primary={"many": "acc_norm"})[0].primary["many"] == "acc_norm"
    assert load("both")[0].primary["both"] == "acc"


def test_lm_evals_spelling_of_a_filtered_metric_is_understood(load: Any) -> None:
    primary = {"writing": "exact_match,first-word"}
    assert load("writing", primary=primary)[0].primary["writing"] == "exact_match.first-word"


def test_a_primary_metric_that_the_task_does_not_have_is_refused(load: Any) -> None:
    with pytest.raises(TaskError, match=r"evaluation\.primary\.many is 'accc', .*acc, acc_norm\. Did you mean 'acc'"):
        load("many", primary={"many": "accc"})


def test_an_items_name_is_the_same_in_another_process(load: Any) -> None:
    tasks, _ = load("few")
    code = (
        "import json; from pathlib import Path; from tunery.config.evaluation import EvaluationConfig;"
        "from tunery.evaluation.tasks import load_tasks;"
        f"e = EvaluationConfig(tasks=['few'], task_folders=[{str(load.folder)!r}]);"
        "print(json.dumps(load_tasks(e, Path('.'), True).leaves['few'].item_ids))"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert json.loads(printed) == tasks.leaves["few"].item_ids


def test_an_item_that_occurs_twice_has_two_names(tmp_path: Path, write_task: WriteTask) -> None:
    write_task(tmp_path, "twice", 1)
    line = (tmp_path / "twice.jsonl").read_text()
    (tmp_path / "twice.jsonl").write_text(f"{line}\n{line}")
    tasks = load_tasks(EvaluationConfig(tasks=["twice"], task_folders=["."]), tmp_path, False)
    first, second = tasks.leaves["twice"].item_ids
    assert second == f"{first}-2"


def test_too_few_examples_are_found_out_when_tasks_are_loaded(load: Any) -> None:
    with pytest.raises(TaskError, match="many: its examples cannot be drawn: Sample larger than population"):
        load("many", few_shot=50)
