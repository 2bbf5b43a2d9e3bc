"""What belongs to one training.method is refused with another, unless a search compares methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunery.config.fingerprint import fingerprint
from tunery.config.load import project_from
from tunery.config.methods import used
from tunery.config.project import Project, resolved
from tunery.errors import ConfigError


def project(**sections: Any) -> Project:
    tree = {"name": "x", "base": {"model": "builtin:tiny"}, "data": {"train": [{"source": "rows.jsonl"}]}}
    return project_from({**tree, "evaluation": {"tasks": ["world_facts"]}, **sections}, "x", Path())


METHODS: dict[str, Any] = {"space": {"training.method": {"choices": ["sft", "icl"]}}}
IN_CONTEXT: dict[str, Any] = {"method": "icl", "icl": {"examples": 4}}


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        (
            {"training": {"icl": {"examples": 4}}},
            "training.icl is 'set', but must be unset unless training.method is icl",
        ),
        ({"training": {"method": "icl", "packing": True}}, "training.packing is True, but must be false"),
        (
            {"training": IN_CONTEXT, "adapter": {"rank": 8}},
            "adapter is 'set', but must be unset when training.method is",
        ),
        ({"training": IN_CONTEXT, "evaluation": {}}, "evaluation.tasks is [], but must be at least one task"),
        ({"training": {"icl": {"examples": -1}, "method": "icl"}}, "training.icl.examples is -1"),
    ],
)
def test_settings_of_another_method_are_refused(sections: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        project(**sections)
    assert told in str(raised.value)


def test_a_search_over_methods_holds_the_settings_of_all() -> None:
    both = project(training={**IN_CONTEXT, "packing": True}, adapter={"rank": 8}, search=METHODS)
    assert both.training.in_context.examples == 4
    assert project(training={"icl": {"examples": 4}}, search=METHODS).training.trains


def test_a_method_without_training_has_neither_checkpoints_nor_validation_rows_to_choose_by() -> None:
    found = project(
        training={**IN_CONTEXT, "keep_best_by": "score", "score_checkpoints": True},
        data={"train": [{"source": "rows.jsonl"}], "validation": {"fraction": 0}},
    ).training
    assert (found.trains, found.scores_checkpoints, found.chooses_by_score) == (False, False, False)


def test_what_a_method_has_no_use_for_decides_nothing_and_is_not_logged() -> None:
    shown = project(training={**IN_CONTEXT, "epochs": 9}, adapter={"rank": 8}, search=METHODS)
    assert fingerprint(shown) == fingerprint(project(training=IN_CONTEXT))
    assert fingerprint(shown) != fingerprint(project(training={"method": "icl", "icl": {"examples": 8}}))
    assert set(used(resolved(shown))["training"]) == {"method", "icl", "seed", "device"}
    assert "adapter" not in used(resolved(shown))
    assert "icl" not in used(resolved(project()))["training"]
