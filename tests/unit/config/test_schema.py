"""The files made from the config's definitions are current, and every key is explained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunery.config import schema
from tunery.config.fields import dotted_keys
from tunery.config.fingerprint import fingerprint, flatten
from tunery.config.load import load_project
from tunery.config.methods import used
from tunery.config.project import Project, resolved

ROOT = Path(__file__).parents[3]


def test_the_schema_for_editors_is_current() -> None:
    assert (ROOT / schema.SCHEMA_FILE).read_text(encoding="utf-8") == schema.json_schema()


def test_the_page_of_keys_is_current() -> None:
    assert (ROOT / schema.PAGE_FILE).read_text(encoding="utf-8") == schema.page()


def test_every_key_has_its_line_on_the_page() -> None:
    page = schema.page()
    assert [key for key in dotted_keys(Project) if f"`{key}`" not in page] == []


def test_the_schema_refuses_unknown_keys() -> None:
    assert json.loads(schema.json_schema())["additionalProperties"] is False


@pytest.mark.parametrize("folder", sorted(path.parent for path in ROOT.glob("projects/*/*.yaml")))
def test_every_project_here_is_valid(folder: Path) -> None:
    for file in folder.glob("*.yaml"):
        assert load_project(file).name


def test_a_resolved_project_loads_back_to_itself(tmp_path: Path) -> None:
    (tmp_path / "project.yaml").write_text("name: x\nbase: {model: 'builtin:tiny'}\ndata: {train: [{source: a}]}\n")
    project = load_project(tmp_path)
    assert resolved(Project.model_validate(resolved(project))) == resolved(project)


def test_the_fingerprint_follows_what_decides_a_result(tmp_path: Path) -> None:
    (tmp_path / "project.yaml").write_text("name: x\nbase: {model: 'builtin:tiny'}\ndata: {train: [{source: a}]}\n")
    plain = fingerprint(load_project(tmp_path))
    assert fingerprint(load_project(tmp_path, [("name", "y")])) == plain
    assert fingerprint(load_project(tmp_path, [("training.seed", "1")])) != plain
    assert len(plain) == 16


def test_offloaded_layers_decide_and_without_them_the_fingerprint_is_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "project.yaml").write_text("name: x\nbase: {model: 'builtin:tiny'}\ndata: {train: [{source: a}]}\n")
    plain = load_project(tmp_path)
    assert "offload" not in used(resolved(plain))["base"], "runs before there was such a key had none"
    assert fingerprint(load_project(tmp_path, [("base.offload.gpu", "1 GiB")])) != fingerprint(plain)


def test_flattening_names_the_way_to_a_value() -> None:
    assert flatten({"a": {"b": 1}, "c": [{"d": 2}], "e": [1, 2], "f": {}}) == {
        "a.b": 1,
        "c.0.d": 2,
        "e": [1, 2],
        "f": {},
    }
