"""Text files of hub datasets are read as they were written, as the same files here are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import pytest

from tunery.config.data import SourceConfig
from tunery.data.reading.load import load_rows

Write = Callable[[str, Any], Path]
DATES = [{"prompt": f"q{n}", "completion": f"202{n}-01-01"} for n in range(4)]
PLACED = [{"prompt": "q", "completion": "2020-01-01T10:00:00+02:00"}]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Let the next hub dataset be one of local files."""
    load, build = datasets.load_dataset, datasets.load_dataset_builder
    cache = str(tmp_path / "cache")

    def serve(kind: str, **how: Any) -> None:
        def load_dataset(*_: Any, split: str, **__: Any) -> Any:
            return load(kind, split=split, cache_dir=cache, **how)

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_, **__: build(kind, cache_dir=cache, **how))

    return serve


def completions(folder: Path, **settings: Any) -> Mapping[str, str]:
    rows = load_rows(SourceConfig(source="a/b", **settings), folder).rows
    return {row.origin: row.values["completion"] for row in rows}


@pytest.mark.parametrize("content", [DATES, PLACED])
def test_dates_in_json_lines_stay_as_they_are(
    content: Any, hub: Callable[..., None], write: Write, tmp_path: Path
) -> None:
    hub("json", data_files={"train": str(write("r.jsonl", content))})
    local = load_rows(SourceConfig(source="r.jsonl"), tmp_path)
    rows = load_rows(SourceConfig(source="a/b"), tmp_path)
    assert [row.values for row in rows.rows] == [row.values for row in local.rows] == content
    assert rows.rows[0].origin == "a/b[train]:1"
    assert rows.digest == local.digest


def test_a_slice_of_a_split_is_that_slice(hub: Callable[..., None], write: Write, tmp_path: Path) -> None:
    hub("json", data_files={"train": str(write("r.jsonl", DATES))})
    assert completions(tmp_path, split="train[2:]") == {
        "a/b[train[2:]]:1": "2022-01-01",
        "a/b[train[2:]]:2": "2023-01-01",
    }


def test_what_looks_like_a_number_or_nothing_in_csv_stays_text(
    hub: Callable[..., None], write: Write, tmp_path: Path
) -> None:
    hub("csv", data_files={"train": str(write("r.csv", "prompt,completion\nq1,007\nq2,NA\n"))})
    assert list(completions(tmp_path).values()) == ["007", "NA"]


def test_settings_of_the_dataset_are_left_to_datasets(hub: Callable[..., None], write: Write, tmp_path: Path) -> None:
    hub("json", data_files={"train": str(write("r.json", {"rows": DATES}))}, field="rows")
    assert [str(each) for each in completions(tmp_path).values()] == [row["completion"] for row in DATES]
