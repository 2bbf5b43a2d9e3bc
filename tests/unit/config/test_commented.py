"""A project as text in which every key says what it is."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from tunery.config.commented import commented
from tunery.config.load import load_project, read_tree

PROJECTS = sorted((Path(__file__).parents[3] / "projects").glob("*/project.yaml"))


@pytest.mark.parametrize("file", PROJECTS, ids=lambda file: file.parent.name)
def test_it_reads_as_what_it_was_made_of(file: Path, tmp_path: Path) -> None:
    tree = read_tree(file)
    (tmp_path / "project.yaml").write_text(commented(tree), encoding="utf-8")
    assert read_tree(tmp_path / "project.yaml") == tree
    assert list(yaml.safe_load(commented(tree))) == list(tree)
    load_project(tmp_path)


def test_every_line_is_a_comment_or_has_one_beside_or_above() -> None:
    tree = {
        "name": "x",
        "data": {"train": [{"source": "a.csv", "columns": {"prompt": "Q", "completion": "A"}}, {"source": "b.csv"}]},
        "search": {"space": {"adapter.rank": {"choices": [8, 16]}}},
    }
    lines = commented(tree).splitlines()
    for before, line in pairwise(lines):
        assert "# " in line or before.lstrip().startswith("# "), line
    assert "  - source: a.csv" in "\n".join(lines).replace("    - ", "  - ")
    assert any("adapter.rank: {choices: [8, 16]}" in line and "Rank r" in line for line in lines)
