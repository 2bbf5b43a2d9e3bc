"""Where a source is looked for: beside the project, in the working folder, in a saved folder, on the Hub."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict
from datasets.exceptions import DatasetNotFoundError

from tunery.config.data import DataConfig, SourceConfig
from tunery.data.reading.load import check_sources, load_rows
from tunery.errors import DataError

Write = Callable[[str, Any], Path]
ROWS = [{"prompt": "q1", "completion": "a1"}, {"prompt": "q2", "completion": "a2"}]


def test_a_path_is_looked_for_beside_the_project_before_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, answer in (("project", "beside"), ("elsewhere", "working")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "r.jsonl").write_text(f'{{"a": "{answer}"}}')
    monkeypatch.chdir(tmp_path / "elsewhere")
    source = SourceConfig(source="r.jsonl")
    assert load_rows(source, tmp_path / "project").rows[0].values["a"] == "beside"
    assert load_rows(source, tmp_path).rows[0].values["a"] == "working"


def test_a_missing_file_is_refused_with_the_folders_looked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "working").mkdir()
    monkeypatch.chdir(tmp_path / "working")
    with pytest.raises(DataError, match=f"looked in {tmp_path} and in {tmp_path / 'working'}"):
        load_rows(SourceConfig(source="none.jsonl"), tmp_path)


def test_origins_name_a_relative_path_as_written_and_only_the_name_of_an_absolute_one(
    write: Write, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    file = write("sub/r.json", ROWS)
    assert load_rows(SourceConfig(source="sub/r.json"), tmp_path).rows[0].origin == "sub/r.json:1"
    assert load_rows(SourceConfig(source=str(file)), tmp_path).rows[0].origin == "r.json:1"


def test_a_file_of_another_type_is_refused_with_the_types_that_can_be_read(write: Write, tmp_path: Path) -> None:
    write("notes.txt", "text")
    with pytest.raises(DataError, match=r"file type is '\.txt', but must be one of \.json, \.jsonl"):
        load_rows(SourceConfig(source="notes.txt"), tmp_path)


def test_a_sheet_of_what_is_no_spreadsheet_is_refused(write: Write, tmp_path: Path) -> None:
    write("r.json", ROWS)
    with pytest.raises(DataError, match="only a spreadsheet has sheets"):
        load_rows(SourceConfig(source="r.json", sheet="QA"), tmp_path)


# ---- folders saved by datasets


def test_a_saved_dataset_is_read_with_its_fingerprint(tmp_path: Path) -> None:
    dataset = Dataset.from_list(ROWS)
    dataset.save_to_disk(tmp_path / "saved")
    rows = load_rows(SourceConfig(source="saved"), tmp_path)
    assert [dict(row.values) for row in rows.rows] == ROWS
    assert rows.digest == datasets.load_from_disk(str(tmp_path / "saved"))._fingerprint


def test_of_a_saved_folder_with_splits_the_named_one_is_read(tmp_path: Path) -> None:
    DatasetDict(train=Dataset.from_list(ROWS), test=Dataset.from_list(ROWS[:1])).save_to_disk(tmp_path / "saved")
    assert load_rows(SourceConfig(source="saved", split="test"), tmp_path).rows_read == 1
    with pytest.raises(DataError, match="split is 'dev', but must be one of train, test"):
        load_rows(SourceConfig(source="saved", split="dev"), tmp_path)


def test_a_folder_that_datasets_did_not_save_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(DataError, match="save_to_disk"):
        load_rows(SourceConfig(source="plain"), tmp_path)


# ---- the Hub


def test_a_hub_dataset_is_asked_for_with_subset_split_and_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def load_dataset(*where: Any, **how: Any) -> Dataset:
        asked.append((where, how))
        return Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    rows = load_rows(SourceConfig(source="GAIR/lima-v1.5", subset="main", split="test", revision="abc"), tmp_path)
    assert asked == [(("GAIR/lima-v1.5", "main"), {"split": "test", "revision": "abc"})]
    assert [row.origin for row in rows.rows] == ["GAIR/lima-v1.5[test]:1", "GAIR/lima-v1.5[test]:2"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            ConnectionError("Couldn't reach 'a/b' on the Hub (LocalEntryNotFoundError)"),
            "the Hub did not answer.*Check the network",
        ),
        (
            DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed."),
            "doesn't exist.*Check the id",
        ),
        (DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub."), "gated.*set HF_TOKEN"),
        (
            DatasetNotFoundError("Revision 'x' doesn't exist for dataset 'a/b' on the Hub."),
            "revision is 'x', but must be a branch",
        ),
        (
            ValueError("Unknown split \"dev\". Should be one of ['train']."),
            "split is 'dev', but must be one that the dataset has",
        ),
        (ValueError("BuilderConfig 'y' not found. Available: ['main']"), "subset is 'y', but must be .*main"),
        (
            RuntimeError("Dataset scripts are no longer supported, but found b.py"),
            "can only be loaded by running its own code",
        ),
    ],
)
def test_what_the_hub_refuses_is_one_clear_sentence(
    error: Exception, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_dataset(*_: Any, **__: Any) -> Dataset:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr("tunery.data.reading.load.asked_once", nullcontext)  # it answers
    with pytest.raises(DataError, match=sentence) as raised:
        load_rows(SourceConfig(source="a/b", split="dev", subset="y", revision="x"), tmp_path)
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)


# ---- before a model is loaded


def test_all_missing_files_and_broken_templates_are_told_at_once(tmp_path: Path) -> None:
    data = DataConfig.model_validate(
        {
            "train": [
                {"source": "one.jsonl"},
                {"source": "a/b", "columns": {"completion": "x"}, "prompt_template": "{x"},
            ],
            "validation": {"source": {"source": "two.csv"}},
        }
    )
    with pytest.raises(DataError) as raised:
        check_sources(data, tmp_path)
    assert len(raised.value.faults) == 3
    assert all(name in str(raised.value) for name in ("one.jsonl", "two.csv", "'{'"))


def test_sources_that_are_there_pass(write: Write, tmp_path: Path) -> None:
    write("r.json", ROWS)
    check_sources(DataConfig.model_validate({"train": [{"source": "r.json"}, {"source": "GAIR/lima"}]}), tmp_path)
