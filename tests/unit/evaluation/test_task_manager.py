"""Versions of tasks and groups: another one after anything that decides a score has changed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lm_eval.config.group import AggMetricConfig

from tunery.config.evaluation import EvaluationConfig
from tunery.errors import TaskError
from tunery.evaluation import task_manager
from tunery.evaluation.task_manager import group_version, task_version
from tunery.evaluation.tasks import check_tasks, load_tasks
from tunery.records.scores import TaskSettings


def group(*children: str, weight_by_size: bool = True) -> Any:
    aggregated = [AggMetricConfig("acc", weight_by_size=weight_by_size)]
    return SimpleNamespace(
        version="1.0", aggregate_metric_list=aggregated, child_names=list(children), get_all_groups=list
    )


def test_other_tasks_of_the_same_versions_are_another_version_of_a_group() -> None:
    before = group_version(group("arc", "hellaswag"), [("arc", "1.0"), ("hellaswag", "1.0")], None)
    after = group_version(group("arc", "piqa"), [("arc", "1.0"), ("piqa", "1.0")], None)
    assert before != after


def test_another_tag_of_tasks_of_the_same_versions_has_another_version() -> None:
    assert group_version(None, [("arc", "1.0")], None) != group_version(None, [("piqa", "1.0")], None)


def test_the_address_of_a_function_is_no_part_of_a_tasks_version() -> None:
    # lm-eval writes a partial function, as mmlu_pro's tasks have, with its address: another one in every process.
    def version(address: str) -> str:
        text = f"functools.partial(<function ask at {address}>, including_answer=False)"
        return task_version(SimpleNamespace(VERSION=3.1, dump_config=lambda: {"doc_to_text": text}), None)

    assert version("0x7f2b3c4d5e60") == version("0x7F2B3C4D5E61")


def test_another_weighting_is_another_version_of_a_group() -> None:
    members = [("arc", "1.0")]
    equal = group_version(group("arc", weight_by_size=False), members, None)
    assert group_version(group("arc"), members, None) == group_version(group("arc"), members, None) != equal


def test_a_change_of_a_groups_file_changes_its_version(load: Any, tmp_path: Path, write_task: Any) -> None:
    def version() -> str:
        task_manager.own_manager.cache_clear()
        evaluation = EvaluationConfig(tasks=["pair"], task_folders=["."])
        return load_tasks(evaluation, tmp_path, False).settings["pair"].version

    write_task(tmp_path, "one", 2)
    write_task(tmp_path, "two", 2)
    declared = "group: pair\ntask: [one, two]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    (tmp_path / "pair.yaml").write_text(declared)
    first = version()
    (tmp_path / "pair.yaml").write_text(declared.replace("true", "false"))
    assert version() != first


def test_a_group_that_changes_a_members_prompt_makes_it_another_version_of_the_member(
    tmp_path: Path, write_task: Any
) -> None:
    def settings(name: str) -> TaskSettings:
        task_manager.own_manager.cache_clear()
        return load_tasks(EvaluationConfig(tasks=[name], task_folders=["."]), tmp_path, False).settings["one"]

    write_task(tmp_path, "one", 2)
    for name, prompt in (("plain", ""), ("loud", ', doc_to_text: "LISTEN: {{question}}"')):
        (tmp_path / f"{name}.yaml").write_text(f"group: {name}\ntask:\n  - {{task: one{prompt}}}\n")
    assert settings("plain") == settings("one") != settings("loud")


def test_a_task_has_the_same_version_in_every_folder(tmp_path: Path, write_task: Any) -> None:
    def version(folder: Path) -> str:
        folder.mkdir()
        write_task(folder, "one", 2)
        evaluation = EvaluationConfig(tasks=["one"], task_folders=["."])
        return load_tasks(evaluation, folder, False).settings["one"].version

    assert version(tmp_path / "here") == version(tmp_path / "there")


# ---- task files that are not what they must be


@pytest.mark.parametrize("text", ["group: ring\ntask: [ring]\n", "task: ring\ntag: ring\ndataset_path: json\n"])
def test_a_group_or_tag_that_stands_for_itself_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "ring.yaml").write_text(text)
    with pytest.raises(TaskError, match=r"ring\.yaml: task is \['ring'\].*'ring' contains itself"):
        check_tasks(EvaluationConfig(tasks=["ring"], task_folders=["."]), tmp_path)


def test_groups_that_stand_for_each_other_are_refused(tmp_path: Path) -> None:
    for name, member in (("ring", "rang"), ("rang", "ring")):
        (tmp_path / f"{name}.yaml").write_text(f"group: {name}\ntask: [{member}]\n")
    with pytest.raises(TaskError, match="contains itself"):
        check_tasks(EvaluationConfig(tasks=["ring"], task_folders=["."]), tmp_path)


def test_a_folder_named_as_a_yaml_file_is_passed_over(tmp_path: Path, write_task: Any) -> None:
    write_task(tmp_path, "mine", 2)
    (tmp_path / "x.yaml").mkdir()
    assert list(load_tasks(EvaluationConfig(tasks=["mine"], task_folders=["."]), tmp_path, False).leaves) == ["mine"]


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("3", "dataset_kwargs is 3"),
        ("{data_files: 3}", r"dataset_kwargs\.data_files is 3"),
        ("{data_files: {test: [3]}}", r"dataset_kwargs\.data_files is \{'test': \[3\]\}"),
    ],
)
def test_dataset_settings_of_the_wrong_kind_are_refused(tmp_path: Path, value: str, key: str) -> None:
    (tmp_path / "odd.yaml").write_text(f"task: odd\ndataset_path: json\ndataset_kwargs: {value}\n")
    with pytest.raises(TaskError, match=rf"odd\.yaml: {key}, but must be"):
        load_tasks(EvaluationConfig(tasks=["odd"], task_folders=["."]), tmp_path, False)
