"""Which runs a comparison is about."""

from __future__ import annotations

from typing import Any, cast

import pytest
from tests.compared import logged

from tunery.comparison import selection as selections
from tunery.comparison.read import read
from tunery.comparison.selection import Selection, is_project, is_study, selected, split_at_commas
from tunery.errors import InputError, RefError
from tunery.tracking.store import Store

STORE = cast("Any", None)


@pytest.fixture
def known_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store in which a project, an experiment and a study are called "lima, v2"."""
    monkeypatch.setattr(selections, "experiments", lambda _: {"lima, v2": "1", "lima": "2", "v2": "3"})
    monkeypatch.setattr(selections, "is_project", lambda _, name: name == "lima, v2")
    monkeypatch.setattr(selections, "is_study", lambda _, name: name == "lima, v2")


@pytest.mark.usefixtures("known_names")
@pytest.mark.parametrize("kind", ["projects", "experiments", "studies"])
def test_a_word_is_taken_at_its_commas_where_nothing_is_called_by_the_whole_of_it(kind: str) -> None:
    found = split_at_commas(STORE, Selection(**{kind: ("lima, v2", "lima,v2,", "other")}))
    assert getattr(found, kind) == ("lima, v2", "lima", "v2", "other")


def test_without_a_comma_the_store_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("experiments", "is_project", "is_study"):
        monkeypatch.delattr(selections, name)
        monkeypatch.setattr(selections, name, None, raising=False)
    selection = Selection(("lima",), ("lima",), ("hunt",))
    assert split_at_commas(STORE, selection) == selection


@pytest.mark.usefixtures("known_names")
def test_folders_between_commas_are_projects(tmp_path: Any) -> None:
    (tmp_path / "project.yaml").write_text(
        "name: of-a-folder\nbase: {model: 'builtin:tiny'}\ndata: {train: [{source: 'builtin:world_facts'}]}\n"
    )
    assert split_at_commas(STORE, Selection(projects=(f"lima,{tmp_path}",))).projects == ("lima", "of-a-folder")


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(projects=("one",)), {"one"}),
        (Selection(projects=("one", "two")), {"one", "two"}),
        (Selection(experiments=("two",)), {"two"}),
        (Selection(tags=(("tunery.project", "two"),)), {"two"}),
        (Selection(filter="params.`cfg.adapter.rank` = '16'"), {"two"}),
        (Selection(filter="metrics.score < 0.5"), {"three"}),
        (Selection(projects=("one",), filter="metrics.score > 0.99"), set()),
        (Selection(studies=("hunt",)), {"trial"}),
        (Selection(), {"one", "two", "three"}),
    ],
)
def test_what_is_selected(store: Store, selection: Selection, expected: set[str]) -> None:
    logged(store, name="one", project="one")
    logged(store, name="two", project="two", rank=16)
    logged(store, name="three", project="three", rank=32, values=(0.0, 0.0, 1.0, 0.0))
    logged(store, name="trial", project="one", kind="trial", tags={"tunery.study": "hunt"})
    if not expected:
        with pytest.raises(InputError, match="no finished run"):
            read(store, selection)
        return
    assert {entry.name for entry in read(store, selection)[0]} == expected


def test_no_match_says_what_exists(store: Store) -> None:
    logged(store, project="one")
    with pytest.raises(InputError, match=r"projects: one \(1\)"):
        read(store, Selection(projects=("none-such",)))


def test_an_empty_store_says_so(store: Store) -> None:
    with pytest.raises(InputError, match="holds no finished run"):
        read(store, Selection())


def test_a_filter_that_does_not_parse_is_told_with_an_example(store: Store) -> None:
    with pytest.raises(InputError, match="is no filter of MLflow"):
        read(store, Selection(filter="scores > lots"))


def test_an_experiment_that_is_not_there_is_told_with_those_that_are(store: Store) -> None:
    logged(store, project="one")
    with pytest.raises(InputError, match=r"no experiment 'onee'.*Known are: .*one"):
        read(store, Selection(experiments=("onee",)))


@pytest.mark.parametrize("ref", ["nonsense", "0" * 31, "models:/", "a@b@c"])
def test_a_reference_that_is_none_is_refused(ref: str) -> None:
    with pytest.raises(RefError, match="reference"):
        selected([ref])


def test_a_run_that_is_not_there_is_told_with_the_latest(store: Store) -> None:
    run_id = logged(store)
    with pytest.raises(RefError, match=run_id) as raised:
        read(store, selected(["0" * 32]))
    assert f"Read was {store.uri}" in str(raised.value)


def test_a_run_that_was_deleted_is_told_with_the_way_back(store: Store) -> None:
    run_id = logged(store)
    store.client.delete_run(run_id)
    with pytest.raises(RefError, match=rf"run {run_id} was deleted\. Restore it first: mlflow runs restore"):
        read(store, selected([run_id]))


def test_what_projects_and_studies_are_called_is_known(store: Store) -> None:
    logged(store, project="one, two", kind="trial", tags={"tunery.study": "a,b"})
    assert (is_project(store, "one, two"), is_project(store, "one")) == (True, False)
    assert (is_study(store, "a,b"), is_study(store, "a")) == (True, False)


def test_a_tag_that_no_filter_can_name_is_refused(store: Store) -> None:
    with pytest.raises(InputError, match=r"--tag.*backquote"):
        read(store, Selection(tags=(("a`b", "1"),)))
