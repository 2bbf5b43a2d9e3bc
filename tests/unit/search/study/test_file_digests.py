"""A file that a project names is part of what a study is; one that it does not name is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.search.conftest import MakeProject

from tunery.config.project import Project
from tunery.search.study.definition import file_digests

SPACE = "{adapter.rank: {choices: [8, 16]}, data.train.1.source: {choices: [b.jsonl, c.jsonl]}}"
FILES = {
    "a.jsonl": "{}",
    "b.jsonl": "{}",
    "c.jsonl": "{}",
    "tasks/own.yaml": "task: own\ninclude: common\ndataset_kwargs: {data_files: {test: items.jsonl}}\n",
    "tasks/common": "output_type: multiple_choice\ndoc_to_text: !function own.text\n",
    "tasks/items.jsonl": "{}",
    "tasks/own.py": "def text(doc): ...",
    "tasks/group.yaml": "group: both\ntask: [own, world_facts]\n",
    "tasks/another.yaml": "task: another\n",
    "notes.txt": "",
}


@pytest.fixture
def project(make: MakeProject, tmp_path: Path) -> Project:
    (tmp_path / "tasks").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return make(SPACE, evaluation__tasks="[both]", evaluation__task_folders="[tasks]")


@pytest.mark.parametrize(
    ("edited", "noticed"),
    [
        ("a.jsonl", {"data a.jsonl"}),
        ("c.jsonl", {"data c.jsonl"}),
        ("tasks/own.yaml", {"task own"}),
        ("tasks/common", {"task own"}),
        ("tasks/items.jsonl", {"task own"}),
        ("tasks/own.py", {"task own", "task both"}),
        ("tasks/group.yaml", {"task both"}),
        ("tasks/another.yaml", set()),
        ("notes.txt", set()),
    ],
)
def test_an_edited_file_is_noticed_by_what_reads_it(
    project: Project, tmp_path: Path, edited: str, noticed: set[str]
) -> None:
    before = file_digests(project)
    with (tmp_path / edited).open("a") as file:
        file.write("\n# edited\n")
    after = file_digests(project)
    assert {name for name in before | after if before.get(name) != after.get(name)} == noticed


def test_a_saved_folder_is_its_files(project: Project, tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").unlink()
    (tmp_path / "b.jsonl").mkdir()
    for name in ("state.json", "data.arrow"):
        (tmp_path / "b.jsonl" / name).write_text(name)
    before = file_digests(project)["data b.jsonl"]
    (tmp_path / "b.jsonl" / "data.arrow").write_text("other rows")
    assert file_digests(project)["data b.jsonl"] != before


def test_a_file_that_is_not_there_and_a_hub_dataset_have_no_digest(make: MakeProject) -> None:
    assert file_digests(make("{adapter.rank: {choices: [8, 16]}}", data__train="[{source: GAIR/lima}]")) == {}
    assert file_digests(make("{adapter.rank: {choices: [8, 16]}}")) == {}


def test_an_adapter_folder_that_trials_begin_with_is_its_files(make: MakeProject, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "adapter" / name).write_text("{}")
    project = make(SPACE, adapter__start="adapter")
    before = file_digests(project)
    (tmp_path / "adapter" / "adapter_model.safetensors").write_text("{ }")
    after = file_digests(project)
    assert {name for name in after if before[name] != after[name]} == {"adapter adapter"}
