"""Words with commas: several names, or one."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tunery.comparison import selection as entries_select
from tunery.comparison.selection import Selection, separated

STORE = cast("Any", None)


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store in which something is called "lima, v2" whatever it is."""
    monkeypatch.setattr(entries_select, "experiments", lambda _: {"lima, v2": "1", "lima": "2", "v2": "3"})
    monkeypatch.setattr(entries_select, "is_project", lambda _, name: name == "lima, v2")
    monkeypatch.setattr(entries_select, "is_study", lambda _, name: name == "lima, v2")


@pytest.mark.parametrize("kind", ["projects", "experiments", "studies"])
def test_a_word_is_taken_at_its_commas_where_nothing_is_called_by_the_whole_of_it(kind: str) -> None:
    found = separated(STORE, Selection(**{kind: ("lima, v2", "lima,v2,", "other")}))
    assert getattr(found, kind) == ("lima, v2", "lima", "v2", "other")


def test_without_a_comma_the_store_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("experiments", "is_project", "is_study"):
        monkeypatch.delattr(entries_select, name)
        monkeypatch.setattr(entries_select, name, None, raising=False)
    selection = Selection(("lima",), ("lima",), ("hunt",))
    assert separated(STORE, selection) == selection


def test_folders_between_commas_are_projects(tmp_path: Any) -> None:
    (tmp_path / "project.yaml").write_text(
        "name: of-a-folder\nbase: {model: 'builtin:tiny'}\ndata: {train: [{source: 'builtin:world_facts'}]}\n"
    )
    assert separated(STORE, Selection(projects=(f"lima,{tmp_path}",))).projects == ("lima", "of-a-folder")
