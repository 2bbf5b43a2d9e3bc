"""A project's rows as a dataset: what the project learns is learned from it; none is published without a licence."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.serving.export.conftest import Api

from tunery.config.load import load_project
from tunery.errors import InputError
from tunery.records.rows import Example
from tunery.runs.cache import Resident
from tunery.runs.observer import Observer
from tunery.serving.export.export import MARK, ExportRequest, export

PROJECT = """
name: support
base: {model: builtin:tiny, quantization: none}
data: {train: [{source: rows.jsonl}], validation: {fraction: 0.3}, clean: {deduplicate: exact}, max_bad_rows: 0.5}
"""


def turns(*texts: str, **last: Any) -> dict[str, Any]:
    said = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    return {"messages": [*said[:-1], {**said[-1], **last}]}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    call = {"type": "function", "function": {"name": "look", "arguments": {"at": "ün"}}}
    shown = turns("What is left?", "Nothing.", "And right?", "All.")
    shown["messages"][1]["weight"] = 0
    rows = [
        *(turns(f"What comes after {n}?", f"It is {n + 1}.") for n in range(12)),
        turns("What comes after 1?", "It is 2."),
        turns("Nobody knows?", ""),
        {**turns("Look there.", "", tool_calls=[call]), "tools": [tool]},
        turns("Why?", "So.", reasoning_content="Because."),
        shown,
    ]
    folder = tmp_path / "support"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "project.yaml").write_text(PROJECT)
    return folder


def request(out: Path, **changes: Any) -> ExportRequest:
    return ExportRequest(**{"to": "dataset", "out": out, "license": "cc-by-4.0", **changes})


def learned(folder: Path, *overrides: tuple[str, str]) -> tuple[set[Example], set[Example]]:
    project, resident = load_project(folder, overrides), Resident()
    rows = resident.rows(project, resident.tasks(project))
    return set(rows.train), set(rows.validation)


def test_what_is_learned_from_it_is_what_the_project_learns(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export(str(project), request(out), Observer()) == str(out)
    sources = [
        ("data.train.0.source", str(out / "train.jsonl")),
        ("data.validation.source", f"{{source: {out / 'validation.jsonl'}}}"),
        ("data.clean", "{}"),
    ]
    train, held = learned(project)
    assert (len(train), len(held)) != (0, 0)
    assert learned(project, *sources) == (train, held)
    written = [json.loads(line) for name in ("train", "validation") for line in (out / f"{name}.jsonl").open()]
    assert len(written) == 15  # of 17: one repeats another, one has no answer
    assert {"role": "assistant", "content": "Nothing.", "weight": 0} in [
        turn for row in written for turn in row["messages"]
    ]


def test_the_card_says_where_the_rows_come_from_and_what_was_done(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(str(project), request(out), Observer())
    card = (out / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "cc-by-4.0"
    assert [file["path"] for file in front["configs"][0]["data_files"]] == ["train.jsonl", "validation.jsonl"]
    digest = hashlib.sha256((out / "train.jsonl").read_bytes()).hexdigest()
    assert f"`{digest}`" in card
    assert json.loads((out / MARK).read_text())["sha256"]["train.jsonl"] == digest
    for told in (
        "| rows.jsonl | training | messages | 17 |",
        "`data.clean.deduplicate: exact`",
        "1 rows were dropped: duplicate",
    ):
        assert told in card


def test_it_is_sent_as_a_dataset(project: Path, tmp_path: Path, api: type[Api]) -> None:
    address = export(str(project), request(tmp_path / "out", repo="me/support"), Observer())
    assert address == "https://huggingface.co/me/support"
    assert [options["repo_type"] for _, options in api.calls] == ["dataset", "dataset"]
    assert api.calls[0][1]["private"] is True


@pytest.mark.parametrize(
    ("ref", "changes", "told"),
    [
        ("support", {"license": None}, "--to dataset: needs the licence of its rows"),
        ("support", {"license": "unknown"}, "--to dataset: needs the licence of its rows"),
        ("support", {"to": "adapter"}, "--license: is for --to dataset"),
        ("support", {"out": None}, "--to dataset: needs a folder"),
        ("models:/support/1", {}, "is a model, but --to dataset needs the folder of a project"),
        ("nowhere", {}, "no such project"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ref: str, changes: dict[str, Any], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as raised:
        export(ref, request(**{"out": tmp_path / "out", **changes}), Observer())
    assert told in str(raised.value)
    assert not (tmp_path / "out").exists()
