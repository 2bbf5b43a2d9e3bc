"""Settings that are tried first: read from files or from runs, reduced to what is searched, refused outside of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.search.conftest import MakeProject

from tunery.config.project import Project, resolved
from tunery.errors import ConfigError
from tunery.search.space.known_good import known_good
from tunery.tracking import run_facts

SPACE = """{
  adapter.rank: {choices: [8, 16, 32]},
  adapter.dora: {choices: [true, false]},
  adapter.dropout: {low: 0.0, high: 0.2, when: {adapter.dora: true}},
  adapter.alpha: '2 * adapter.rank',
}"""


def reading(make: MakeProject, folder: Path, text: str) -> Project:
    (folder / "good.yaml").write_text(text, encoding="utf-8")
    return make(SPACE, search__known_good="[good.yaml]")


def test_what_a_configuration_leaves_out_is_the_projects_own(make: MakeProject, tmp_path: Path) -> None:
    project = reading(make, tmp_path, "- {adapter.rank: 8}\n- {adapter.dora: true, adapter.dropout: 0}\n")
    assert known_good(project) == [
        {"adapter.rank": 8, "adapter.dora": False, "adapter.alpha": 16},
        {"adapter.rank": 16, "adapter.dora": True, "adapter.dropout": 0.0, "adapter.alpha": 32},
    ]


def test_a_configuration_is_tried_once(make: MakeProject, tmp_path: Path) -> None:
    project = reading(make, tmp_path, "- {adapter.rank: 8}\n- {adapter.rank: 8}\n- {adapter.rank: 16}\n")
    assert [found["adapter.rank"] for found in known_good(project)] == [8]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- {adapter.rank: 64}", "adapter.rank is 64, but must be in the space: one of 8, 16, 32"),
        ("- {adapter.rank: many}", "adapter.rank is 'many', but must be in the space"),
        ("- {adapter.dora: true, adapter.dropout: 0.5}", "adapter.dropout is 0.5, but must be in the space: from 0 to"),
        ("- {adapter.rnak: 8}", "good.yaml[0] names 'adapter.rnak', which is not in search.space. Did you mean"),
        ("- {training.epochs: 2}", "Add it to search.space, or leave it out."),
        ("- {adapter.rank: 8, adapter.alpha: 8}", "adapter.alpha is 8, but must be 16, which search.space derives"),
        ("{adapter.rank: 8}", "not a list of mappings"),
        ("- 8", "not a list of mappings"),
        ("- [", "not YAML"),
    ],
)
def test_a_configuration_that_does_not_fit_the_space_is_refused(
    make: MakeProject, tmp_path: Path, text: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        known_good(reading(make, tmp_path, text))
    assert expected in str(caught.value)


def test_all_faults_of_all_configurations_come_at_once(make: MakeProject, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="3 faults"):
        known_good(reading(make, tmp_path, "- {adapter.rank: 64, a: 1}\n- {adapter.rank: 65}\n"))


STORE: Any = object()


def test_a_run_is_reduced_to_what_is_searched(make: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make(SPACE, search__known_good="['runs:/abc']")
    trained = resolved(make(adapter__rank="8", adapter__alpha="16", training__epochs="9"))
    asked = []

    def run_config(store: object, run_id: str) -> dict[str, Any]:
        asked.append((store, run_id))
        return trained

    monkeypatch.setattr(run_facts, "run_config", run_config)
    assert known_good(project, STORE) == [{"adapter.rank": 8, "adapter.dora": False, "adapter.alpha": 16}]
    assert asked == [(STORE, "abc")]
    assert known_good(project) == []


def test_a_run_outside_of_the_space_is_refused(make: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make(SPACE, search__known_good="['runs:/abc']")
    trained = resolved(make(adapter__rank="8", adapter__alpha="99"))
    monkeypatch.setattr(run_facts, "run_config", lambda *_: trained)
    with pytest.raises(ConfigError, match=r"runs:/abc adapter\.alpha is 99, but must be 16"):
        known_good(project, STORE)


def test_a_run_that_tunery_did_not_make_is_refused(make: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_facts, "run_config", lambda *_: None)
    with pytest.raises(ConfigError, match=r"runs:/abc.* but must be runs:/ and the id of a run that tunery made"):
        known_good(make(SPACE, search__known_good="['runs:/abc']"), STORE)
